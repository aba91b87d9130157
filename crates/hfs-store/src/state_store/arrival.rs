//! A state's bytes, looked at while they are still being written.
//!
//! To write a large state as JSON takes about as long as to compare it with its keyframe. So the bytes are handed over
//! in pieces to a second thread, which hashes and compares them while the next are being written. A state that is no
//! longer than a piece is none of its business.

use std::io::{self, Write};
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, Scope, ScopedJoinHandle};

use hfs_core::{CheckpointState, ContentHash};

use super::bug;
use super::packing::{Keyframe, Plain};
use crate::error::{Error, Result};
use crate::state_store::delta::Comparison;

/// How many bytes are handed over at once: some, so that little is left to be done when the last have come.
const PIECE: usize = 64 * 1024;

/// A state whose bytes have been written.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) plain: Plain,
    /// What has been found out about it in the meantime, unless it is small.
    pub(super) compared: Option<Compared>,
}

/// The keyframe that was given, if there is one, and the difference to it.
#[derive(Debug)]
pub(super) struct Compared(pub(super) Option<(Keyframe, Vec<u8>)>);

/// Writes a state. The keyframe to compare it with is looked for once it turns out to be large.
pub(super) fn write(
    state: &CheckpointState,
    keyframe: impl FnOnce() -> Result<Option<Keyframe>>,
) -> Result<Arrived> {
    thread::scope(|scope| {
        let mut pieces = Pieces { scope, piece: Vec::new(), keyframe: Some(keyframe), onlooker: None };
        let written = state.write_canonical_json(&mut pieces);
        let Some(Onlooker { pieces: sender, thread, .. }) = pieces.onlooker.take() else {
            written.map_err(fault_of)?;
            return Ok(Arrived { plain: Plain::of(pieces.piece), compared: None });
        };
        // Only a panic over there ends it before, and that one is told.
        drop(sender.send(pieces.piece));
        drop(sender);
        let arrived = thread.join().map_err(|_| Error::Internal("a state could not be looked at".into()))?;
        written.map_err(fault_of)?;
        arrived
    })
}

/// What went wrong while a state was written.
fn fault_of(error: serde_json::Error) -> Error {
    io::Error::from(error)
        .downcast()
        .unwrap_or_else(|error| Error::Internal(format!("a checkpoint's state cannot be written: {error}")))
}

/// Takes the bytes, and hands them on.
struct Pieces<'scope, 'env, F> {
    scope: &'scope Scope<'scope, 'env>,
    /// What has not been handed over.
    piece: Vec<u8>,
    /// Until it is asked for.
    keyframe: Option<F>,
    onlooker: Option<Onlooker<'scope>>,
}

/// The thread that looks at the pieces.
struct Onlooker<'scope> {
    pieces: Sender<Vec<u8>>,
    /// Pieces that have been looked at, to be filled again.
    empty: Receiver<Vec<u8>>,
    thread: ScopedJoinHandle<'scope, Result<Arrived>>,
}

impl<F: FnOnce() -> Result<Option<Keyframe>>> Pieces<'_, '_, F> {
    /// Stands apart so that what is done for every few bytes stays short: without, they take a third longer.
    #[cold]
    #[inline(never)]
    fn hand_over(&mut self) -> Result<()> {
        if let Some(keyframe) = self.keyframe.take() {
            let keyframe = keyframe()?;
            let ((pieces, come), (back, empty)) = (mpsc::channel(), mpsc::channel());
            let thread = thread::Builder::new();
            let thread = thread.spawn_scoped(self.scope, move || look_at(&come, &back, keyframe));
            // Where there are no threads left, it is as with small states.
            self.onlooker = thread.ok().map(|thread| Onlooker { pieces, empty, thread });
        }
        if let Some(onlooker) = &self.onlooker {
            let next = onlooker.empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE + PIECE / 8));
            let piece = mem::replace(&mut self.piece, next);
            onlooker.pieces.send(piece).map_err(|_| Error::Internal("nobody looks at a state".into()))?;
        }
        Ok(())
    }
}

impl<F: FnOnce() -> Result<Option<Keyframe>>> Write for Pieces<'_, '_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE { self.hand_over().map_err(io::Error::other) } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the other thread does.
fn look_at(
    pieces: &Receiver<Vec<u8>>,
    back: &Sender<Vec<u8>>,
    keyframe: Option<Keyframe>,
) -> Result<Arrived> {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::new();
    let mut comparison = keyframe.as_ref().map(|keyframe| Comparison::new(&keyframe.base));
    for mut piece in pieces {
        hasher.update(&piece);
        bytes.extend_from_slice(&piece);
        if let Some(comparison) = &mut comparison {
            comparison.advance(&bytes);
        }
        piece.clear();
        // Nobody takes the last ones.
        drop(back.send(piece));
    }
    let difference = comparison.map(|comparison| comparison.finish(&bytes)).transpose().map_err(bug)?;
    let hash = ContentHash::from_bytes(*hasher.finalize().as_bytes());
    let plain = Plain { hash, bytes: Arc::new(bytes) };
    Ok(Arrived { plain, compared: Some(Compared(keyframe.zip(difference))) })
}
