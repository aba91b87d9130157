//! Simulated power cuts: the files after a kill, without some of the writes that no sync had completed.
//!
//! A sync of the write-ahead log makes all its frames up to the last commit durable. What was written to it later may be
//! on the disk or not, each sector for itself. The same holds for pages that a checkpoint has written to the database,
//! as long as their frames are still in the log.

use std::fs;
use std::path::{Path, PathBuf};

const SECTOR: usize = 512;
const SALT: std::ops::Range<usize> = 16..24;

/// The length of the log when a write had returned, and the salt of its header, which changes when it is restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurableLog {
    pub length: u64,
    pub salt: String,
}

pub fn log_of(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

impl DurableLog {
    /// The log as it is now.
    pub fn read(store: &Path) -> Self {
        let bytes = fs::read(log_of(store)).unwrap_or_default();
        let salt = bytes.get(SALT).unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { length: bytes.len() as u64, salt }
    }

    pub fn to_line(&self) -> String {
        format!("{} {}", self.length, self.salt)
    }

    pub fn from_line(line: &str) -> Self {
        let (length, salt) = line.split_once(' ').unwrap();
        Self { length: length.parse().unwrap(), salt: salt.to_owned() }
    }
}

/// The files of a store before a child process starts.
pub struct BeforeChild {
    database: Vec<u8>,
}

impl BeforeChild {
    pub fn read(store: &Path) -> Self {
        Self { database: fs::read(store).unwrap() }
    }

    /// Takes unsynced writes away. `first` and `last` are the log at the first and the last acknowledgement.
    pub fn cut_power(&self, store: &Path, first: &DurableLog, last: &DurableLog, random: &mut fastrand::Rng) {
        let path = log_of(store);
        let mut log = fs::read(&path).unwrap_or_default();
        let now = DurableLog::read(store);
        let durable =
            if now.salt == last.salt { usize::try_from(last.length).unwrap().min(log.len()) } else { 0 };
        if random.bool() {
            log.truncate(random.usize(durable..=log.len()));
        }
        for sector in log[durable..].chunks_mut(SECTOR) {
            match random.u8(0..3) {
                0 => sector.fill(0),
                1 => sector.iter_mut().for_each(|byte| *byte = random.u8(..)),
                _ => {}
            }
        }
        fs::write(&path, &log).unwrap();
        if first.salt == now.salt && last.salt == now.salt {
            let mut database = fs::read(store).unwrap();
            // The length of the file may not be durable either.
            for (written, before) in database.chunks_mut(SECTOR).zip(self.database.chunks(SECTOR)) {
                if written.len() == before.len() && random.bool() {
                    written.copy_from_slice(before);
                }
            }
            fs::write(store, database).unwrap();
        }
    }
}
