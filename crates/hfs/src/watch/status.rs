//! What a watcher reports about itself.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use hfs_core::Timestamp;
use serde::{Deserialize, Serialize};

/// Number of newest imports from which the lag is computed.
const MAX_LAGS: usize = 1_000;
/// Further failed files are counted, but not listed.
const MAX_FAILED: usize = 100;

/// What a watcher has done, and what it waits for. Its fields are those of the document of `watch --status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WatchReport {
    pub pid: u32,
    pub started_at: Timestamp,
    pub mode: WatchMode,
    /// Why the watcher polls; `None` if it does not.
    pub mode_reason: Option<String>,
    pub places: Vec<PlaceStatus>,
    pub imported: ImportedCounts,
    pub last_import_at: Option<Timestamp>,
    /// Number of transcripts that have changed and are not imported yet.
    pub waiting: u64,
    pub failed: Vec<FailedFile>,
    pub failed_count: u64,
    /// How long it took until a change was in the store.
    pub lag_ms: Option<Lag>,
    /// Number of bytes of transcripts that were read.
    pub bytes_read: u64,
}

/// How a watcher learns of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchMode {
    /// The operating system reports them.
    Events,
    /// It looks for them.
    Polling,
}

/// A place that is watched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlaceStatus {
    pub path: PathBuf,
    pub transcripts: u64,
}

/// What was imported since the start.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct ImportedCounts {
    pub new_sessions: u64,
    /// How often a session was updated.
    pub updates: u64,
    pub messages: u64,
}

/// A file that cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedFile {
    pub file: String,
    pub error: String,
}

/// The lag of the newest imports, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    pub p50: u64,
    pub p95: u64,
    pub max: u64,
}

/// The lags of the newest imports.
#[derive(Debug, Default)]
pub struct Lags {
    milliseconds: VecDeque<u64>,
}

impl Lags {
    pub fn add(&mut self, lag: Duration) {
        if self.milliseconds.len() == MAX_LAGS {
            self.milliseconds.pop_front();
        }
        self.milliseconds.push_back(u64::try_from(lag.as_millis()).unwrap_or(u64::MAX));
    }

    /// `None` if nothing was imported.
    pub fn summary(&self) -> Option<Lag> {
        let mut sorted: Vec<u64> = self.milliseconds.iter().copied().collect();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).checked_sub(1)?).copied();
        Some(Lag { p50: at(50)?, p95: at(95)?, max: at(100)? })
    }
}

impl WatchReport {
    pub fn new(started_at: Timestamp) -> Self {
        Self {
            pid: std::process::id(),
            started_at,
            mode: WatchMode::Events,
            mode_reason: None,
            places: Vec::new(),
            imported: ImportedCounts::default(),
            last_import_at: None,
            waiting: 0,
            failed: Vec::new(),
            failed_count: 0,
            lag_ms: None,
            bytes_read: 0,
        }
    }

    /// Lists the files that cannot be imported.
    pub fn set_failed<'f>(&mut self, failed: impl ExactSizeIterator<Item = (&'f PathBuf, &'f String)>) {
        self.failed_count = failed.len() as u64;
        let shown = failed.take(MAX_FAILED);
        self.failed = shown
            .map(|(file, error)| FailedFile { file: file.display().to_string(), error: error.clone() })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_that_of_the_newest_imports() {
        let mut lags = Lags::default();
        assert_eq!(lags.summary(), None);
        lags.add(Duration::from_millis(7));
        assert_eq!(lags.summary(), Some(Lag { p50: 7, p95: 7, max: 7 }));
        for lag in 1..=1_000 {
            lags.add(Duration::from_millis(lag));
        }
        assert_eq!(lags.summary(), Some(Lag { p50: 500, p95: 950, max: 1_000 }));
    }
}
