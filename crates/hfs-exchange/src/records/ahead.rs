//! Records are decoded by other threads, ahead of whoever takes them in their order.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::json::pieces::{PIECE, Piece, Pieces};

/// How many pieces' worth of bytes wait to be taken at most.
const AHEAD: usize = 8;
/// More threads would only wait for the one that takes.
const MAX_THREADS: usize = 4;

/// What is on its way to whoever takes: a piece that somebody decodes, or room that a long one needs.
enum Coming<T> {
    Piece(Receiver<T>),
    Room,
}

/// Where threads get their next piece, one at a time.
struct Desk<R, T> {
    pieces: Pieces<R>,
    /// Nothing once there are no more pieces, so that the taker sees the end.
    coming: Option<SyncSender<io::Result<Coming<T>>>>,
}

impl<R: Read, T> Desk<R, T> {
    /// A piece for the one that is done, and where its content goes. Waits while enough is on its way.
    fn next(&mut self, done: Option<Piece>) -> Option<(Piece, SyncSender<T>)> {
        if let Some(piece) = done {
            self.pieces.take_back(piece);
        }
        let coming = self.coming.as_ref()?;
        let piece = match self.pieces.next() {
            Ok(piece) => piece,
            Err(error) => {
                // Whoever does not take it has stopped.
                let _ = coming.send(Err(error));
                None
            }
        };
        let promised = piece.and_then(|piece| {
            for _ in 1..piece.len().div_ceil(PIECE).min(2 * AHEAD) {
                coming.send(Ok(Coming::Room)).ok()?;
            }
            let (answer, promise) = sync_channel(1);
            coming.send(Ok(Coming::Piece(promise))).ok()?;
            Some((piece, answer))
        });
        if promised.is_none() {
            self.coming = None;
        }
        promised
    }
}

/// Gives each piece, decoded, to `take`, until that returns an error.
///
/// # Errors
/// As the input or `take` has it.
pub(super) fn each<R, T, E>(
    pieces: Pieces<R>,
    decode: impl Fn(&Piece) -> T + Sync,
    mut take: impl FnMut(io::Result<T>) -> Result<(), E>,
) -> Result<(), E>
where
    R: Read + Send,
    T: Send,
{
    let (coming, promised) = sync_channel(AHEAD);
    let desk = Mutex::new(Desk { pieces, coming: Some(coming) });
    let work = || {
        let next = |done| desk.lock().unwrap_or_else(PoisonError::into_inner).next(done);
        let mut done = None;
        while let Some((piece, answer)) = next(done) {
            if answer.send(decode(&piece)).is_err() {
                break;
            }
            done = Some(piece);
        }
    };
    thread::scope(|scope| {
        // When all is taken or somebody stops, this goes first, so that no thread waits for a taker.
        let promised = promised;
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        for number in 0..threads {
            let spawned = thread::Builder::new().name("decode".into()).spawn_scoped(scope, work);
            if let Err(error) = spawned
                && number == 0
            {
                return take(Err(error));
            }
        }
        for coming in promised {
            match coming {
                Ok(Coming::Room) => {}
                // A thread that gave no answer has panicked, which ends the scope likewise.
                Ok(Coming::Piece(promise)) => match promise.recv() {
                    Ok(content) => take(Ok(content))?,
                    Err(_) => break,
                },
                Err(error) => take(Err(error))?,
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<u8> {
        (0..count).map(|number| format!("{number:0>99}\n")).collect::<String>().into_bytes()
    }

    fn first_number(piece: &Piece) -> u64 {
        piece.lines().next().unwrap().0
    }

    #[test]
    fn pieces_are_taken_in_their_order() {
        let bytes = numbers(200_000);
        let mut found = Vec::new();
        each(Pieces::new(&bytes[..]), first_number, |number| {
            found.push(number.unwrap());
            Ok::<(), ()>(())
        })
        .unwrap();
        assert!(found.len() > 10 && found.is_sorted());
    }

    #[test]
    fn who_stops_taking_stops_the_threads() {
        let bytes = numbers(200_000);
        let mut taken = 0;
        let stopped = each(Pieces::new(&bytes[..]), first_number, |_| {
            taken += 1;
            if taken == 2 { Err("enough") } else { Ok(()) }
        });
        assert_eq!((stopped, taken), (Err("enough"), 2));
    }

    #[test]
    fn what_cannot_be_read_is_told_behind_what_could() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let bytes = numbers(50_000);
        let mut told = Vec::new();
        let _ = each(Pieces::new(bytes.chain(Broken)), first_number, |found| {
            told.push(found.map_err(|error| error.to_string()));
            Ok::<(), ()>(())
        });
        assert!(told.len() > 2);
        assert_eq!(told.pop(), Some(Err("broken".into())));
        assert!(told.iter().all(Result::is_ok));
    }
}
