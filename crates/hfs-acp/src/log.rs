//! The log of an agent: what it writes to its standard error, without secrets and of bounded size.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};

use hfs_core::lock_unpoisoned;
use hfs_files::{create_private_folders, private_options};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::launch::EnvironmentSecrets;

/// A log of this size is renamed; the previous renamed log is replaced.
const MAX_BYTES: u64 = 1 << 20;
/// Pieces of output that wait for a slow disk. More are dropped and counted.
const MAX_WAITING: usize = 64;
/// Bytes that are masked at once. A line is not split unless it is longer.
const PIECE: usize = 32 << 10;
/// The end of the output, which errors quote.
const TAIL_LINES: usize = 4;
const TAIL_CHARS: usize = 400;

/// Writes to an agent's log from any thread, without waiting for the disk.
#[derive(Debug, Clone)]
pub struct AgentLog {
    pieces: SyncSender<String>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The last lines of the agent's standard error.
    tail: Vec<String>,
    /// Bytes that were not written because the disk was too slow.
    dropped: usize,
}

impl AgentLog {
    /// Starts the thread that writes the log. It ends with the last clone of the log.
    ///
    /// # Errors
    /// If the system refuses another thread.
    pub fn open(path: &Path) -> io::Result<Self> {
        let (pieces, receiver) = sync_channel(MAX_WAITING);
        let path = path.to_owned();
        std::thread::Builder::new().name("agent log".into()).spawn(move || write_all(&path, &receiver))?;
        Ok(Self { pieces, shared: Arc::default() })
    }

    /// Adds a line of hfs itself.
    pub fn note(&self, text: &str) {
        self.write(format!("hfs: {text}\n"));
    }

    fn write(&self, mut piece: String) {
        let mut shared = lock_unpoisoned(&self.shared);
        if shared.dropped > 0 {
            piece.insert_str(0, &format!("hfs: {} bytes of output were not logged\n", shared.dropped));
        }
        match self.pieces.try_send(piece) {
            Ok(()) => shared.dropped = 0,
            Err(TrySendError::Full(piece)) => shared.dropped += piece.len(),
            // The disk is full or the folder is not writable: the agent works without a log.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// The last lines of the agent's standard error; `None` if it wrote none.
    pub fn tail(&self) -> Option<String> {
        let shared = lock_unpoisoned(&self.shared);
        let text = shared.tail.join(" / ");
        (!text.is_empty()).then(|| {
            let skipped = text.chars().count().saturating_sub(TAIL_CHARS);
            text.chars().skip(skipped).collect()
        })
    }

    fn remember(&self, piece: &str) {
        let lines = piece.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut shared = lock_unpoisoned(&self.shared);
        shared.tail.extend(lines.map(str::to_owned));
        let excess = shared.tail.len().saturating_sub(TAIL_LINES);
        shared.tail.drain(..excess);
    }

    /// Copies the agent's standard error to the log until its end.
    pub async fn copy(self, mut output: impl AsyncRead + Unpin, secrets: EnvironmentSecrets) {
        let mut waiting = Vec::new();
        let mut buffer = vec![0; PIECE];
        loop {
            let count = output.read(&mut buffer).await.unwrap_or(0);
            waiting.extend_from_slice(buffer.get(..count).unwrap_or_default());
            let end = match memchr::memrchr(b'\n', &waiting) {
                Some(last) => last + 1,
                None if waiting.len() >= PIECE => waiting.len(),
                None => 0,
            };
            let end = if count == 0 { waiting.len() } else { end };
            let mut piece: Vec<u8> = waiting.drain(..end).collect();
            secrets.mask(&mut piece);
            let piece = hfs_secrets::mask(&String::from_utf8_lossy(&piece)).into_owned();
            self.remember(&piece);
            if !piece.is_empty() {
                self.write(piece);
            }
            if count == 0 {
                return;
            }
        }
    }
}

/// Writes pieces until the last sender is dropped, or until the file cannot be written.
fn write_all(path: &Path, pieces: &Receiver<String>) {
    let Ok(mut log) = LogFile::open(path) else { return };
    while let Ok(piece) = pieces.recv() {
        if log.write(&piece).is_err() {
            return;
        }
    }
}

struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            create_private_folders(folder)?;
        }
        let file = private_options().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    fn write(&mut self, piece: &str) -> io::Result<()> {
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        if self.bytes > 0 && self.bytes.saturating_add(length) > MAX_BYTES {
            fs::rename(&self.path, self.path.with_extension("1.log"))?;
            *self = Self::open(&self.path)?;
        }
        self.bytes = self.bytes.saturating_add(length);
        self.file.write_all(piece.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_log_has_no_secrets_and_a_bounded_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/agent-x.log");
        let secrets = EnvironmentSecrets::new(&[("MY_TOKEN".into(), "zu8Kq2-tokentoken".into())]);
        let log = AgentLog::open(&path).unwrap();
        let line = format!("calling with zu8Kq2-tokentoken {}\n", "x".repeat(1000));
        let piece = line.repeat(50);
        // The writer may be slower than this loop, which counts what it leaves out.
        for _ in 0..80 {
            log.clone().copy(piece.as_bytes(), secrets.clone()).await;
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        assert!(log.tail().is_some());
        drop(log);
        let sizes = || -> Vec<u64> {
            let files = fs::read_dir(folder.path().join("logs")).into_iter().flatten().flatten();
            files.map(|file| file.metadata().unwrap().len()).collect()
        };
        while sizes().len() < 2 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(sizes().iter().all(|bytes| *bytes <= MAX_BYTES), "{:?}", sizes());
        let text = fs::read_to_string(path.with_extension("1.log")).unwrap();
        assert!(text.contains("[redacted: MY_TOKEN]") && !text.contains("zu8Kq2"));
    }
}
