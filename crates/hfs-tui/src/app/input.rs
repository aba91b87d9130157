//! Reads the input of the terminal.
//!
//! The app does not use crossterm's reader: it takes answers of the terminal for keys, and waits for the end of some of
//! them forever (see docs/decisions/0043-terminal-input.md).

mod parser;

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

pub use parser::InputEvent;

/// The input of the terminal.
pub struct Input {
    source: source::Source,
    ready: VecDeque<InputEvent>,
}

impl Input {
    /// Starts to read standard input. The bytes in `kept` were read from it before, and are the first input. The first
    /// `typed_ahead` bytes, including `kept`, were typed before the terminal was in raw mode.
    ///
    /// # Errors
    /// Returns an error if standard input cannot be watched.
    pub fn open(kept: Vec<u8>, typed_ahead: usize) -> io::Result<Self> {
        Ok(Self { source: source::Source::open(kept, typed_ahead)?, ready: VecDeque::new() })
    }

    /// Stops reading, so that another program can. Events that were read before are kept.
    pub fn pause(&mut self) {
        self.source.pause();
    }

    /// Reads again after [`pause`](Self::pause).
    ///
    /// # Errors
    /// Returns an error if standard input cannot be watched.
    pub fn resume(&mut self) -> io::Result<()> {
        self.source.resume()
    }

    /// Returns the next event; `None` if the terminal was closed. Cancelling this future loses no event.
    pub async fn next(&mut self) -> Option<io::Result<InputEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            match self.source.read().await {
                Ok(Some(events)) => self.ready.extend(events),
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Waits for the terminal's answer to a query of its background, at most `timeout`. Other events are kept for
    /// [`next`](Self::next).
    pub async fn wait_for_background(&mut self, timeout: Duration) -> Option<InputEvent> {
        let deadline = Instant::now() + timeout;
        let mut kept = VecDeque::new();
        let mut answer = None;
        while let Ok(Some(Ok(event))) = tokio::time::timeout_at(deadline.into(), self.next()).await {
            match event {
                InputEvent::Background(_) => {
                    answer = Some(event);
                    break;
                }
                // Terminals answer in order, so there will be no answer to the query before this one.
                InputEvent::DeviceAttributes => break,
                event => kept.push_back(event),
            }
        }
        kept.append(&mut self.ready);
        self.ready = kept;
        answer
    }
}

mod source {
    use std::fs::File;
    use std::io::{self, PipeReader, PipeWriter, Read, Write};
    use std::os::fd::AsFd;
    use std::thread::{self, JoinHandle};
    use std::time::Instant;

    use rustix::event::{PollFd, PollFlags, poll};
    use tokio::sync::mpsc;

    use super::parser::{InputEvent, Parser};

    /// Bytes per read.
    const BUFFER_BYTES: usize = 64 << 10;

    /// Reads standard input on a thread. It stays in blocking mode, because the mode belongs to the terminal and not to
    /// this process: the shell, and programs that the app starts, have the same one.
    pub struct Source {
        parser: Parser,
        sender: mpsc::UnboundedSender<io::Result<Vec<u8>>>,
        chunks: mpsc::UnboundedReceiver<io::Result<Vec<u8>>>,
        reader: Option<Reader>,
    }

    struct Reader {
        thread: JoinHandle<()>,
        /// Ends the thread while it waits for input.
        wake: PipeWriter,
    }

    impl Source {
        pub fn open(kept: Vec<u8>, typed_ahead: usize) -> io::Result<Self> {
            let (sender, chunks) = mpsc::unbounded_channel();
            // An empty chunk would stand for the end of the input.
            if !kept.is_empty() {
                let _ = sender.send(Ok(kept));
            }
            let parser = Parser::new(Instant::now(), typed_ahead);
            let mut source = Self { parser, sender, chunks, reader: None };
            source.resume()?;
            Ok(source)
        }

        pub fn resume(&mut self) -> io::Result<()> {
            if self.reader.is_none() {
                let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
                let (woken, wake) = io::pipe()?;
                let sender = self.sender.clone();
                let thread = thread::spawn(move || read_chunks(&file, &woken, &sender));
                self.reader = Some(Reader { thread, wake });
            }
            Ok(())
        }

        pub fn pause(&mut self) {
            if let Some(Reader { thread, mut wake }) = self.reader.take()
                && wake.write_all(&[0]).is_ok()
            {
                let _ = thread.join();
            }
        }

        /// Waits for bytes, or for the end of an open sequence. Returns its events; `None` if the terminal was closed.
        pub async fn read(&mut self) -> io::Result<Option<Vec<InputEvent>>> {
            let deadline = self.parser.deadline();
            let ended = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            // Biased: if the app was busy past the deadline, the rest of the sequence may have arrived meanwhile.
            tokio::select! {
                biased;
                chunk = self.chunks.recv() => match chunk.transpose()? {
                    Some(bytes) if !bytes.is_empty() => Ok(Some(self.parser.push(&bytes, Instant::now()))),
                    Some(_) | None => Ok(None),
                },
                () = ended => Ok(Some(self.parser.time_out())),
            }
        }
    }

    impl Drop for Source {
        fn drop(&mut self) {
            self.pause();
        }
    }

    /// Reads until the thread is woken or the terminal is closed, which sends an empty chunk.
    fn read_chunks(file: &File, woken: &PipeReader, sender: &mpsc::UnboundedSender<io::Result<Vec<u8>>>) {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let mut files = [PollFd::new(file, PollFlags::IN), PollFd::new(woken, PollFlags::IN)];
            let result = match poll(&mut files, None) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => Err(error.into()),
                Ok(_) => {
                    let [_, wake] = &files;
                    if !wake.revents().is_empty() {
                        return;
                    }
                    // Does not block, because the file is readable and nothing else reads it.
                    (&*file).read(&mut buffer)
                }
            };
            let chunk = match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.map(|count| buffer.get(..count).unwrap_or_default().to_vec()),
            };
            let is_last = !matches!(&chunk, Ok(bytes) if !bytes.is_empty());
            if sender.send(chunk).is_err() || is_last {
                return;
            }
        }
    }
}
