//! The log file of each plugin, which `hfs plugin logs` shows.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use hfs_core::Timestamp;

use crate::PluginError;
use crate::private_files::create_private_folder;

/// Size at which the file is renamed to `.log.1`, replacing the previous `.log.1`. The two files of a plugin together
/// take about twice this size at most.
const MAX_BYTES: u64 = 1 << 20;
/// Maximum length of a line, in bytes. Longer lines are truncated.
const MAX_LINE_BYTES: usize = 8 << 10;

/// The log of one plugin.
#[derive(Debug)]
pub(crate) struct PluginLog {
    path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl PluginLog {
    pub fn new(folder: &Path, plugin: &str) -> Self {
        Self { path: folder.join(format!("{plugin}.log")) }
    }

    /// Appends a line, and returns its length in bytes after truncation. A failed write is only reported in the
    /// application's log: a plugin must not fail because its log cannot be written.
    pub fn write(&self, now: Timestamp, level: LogLevel, text: &str) -> usize {
        let line = sanitize(text);
        if let Err(error) = self.append(&format!("{now} {:<5} {line}\n", level.as_str())) {
            tracing::warn!("the log of a plugin cannot be written: {error}");
        }
        line.len()
    }

    fn append(&self, line: &str) -> Result<(), PluginError> {
        let failed = |error| PluginError::io("write", &self.path, error);
        if fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() > MAX_BYTES) {
            fs::rename(&self.path, self.path.with_extension("log.1")).map_err(failed)?;
        }
        let mut options = hfs_files::private_options();
        options.create(true).append(true);
        let mut file = match options.open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                create_private_folder(self.path.parent().unwrap_or_else(|| Path::new(".")))?;
                options.open(&self.path).map_err(failed)?
            }
            opened => opened.map_err(failed)?,
        };
        file.write_all(line.as_bytes()).map_err(failed)
    }

    /// The newest lines, oldest first. A log that does not exist is empty.
    ///
    /// # Errors
    /// If a file exists and cannot be read.
    pub fn tail(&self, lines: usize) -> Result<Vec<String>, PluginError> {
        let mut text = String::new();
        for path in [self.path.with_extension("log.1"), self.path.clone()] {
            match fs::read(&path) {
                Ok(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(PluginError::io("read", path, error)),
            }
        }
        let mut newest: Vec<String> = text.lines().rev().take(lines).map(str::to_owned).collect();
        newest.reverse();
        Ok(newest)
    }
}

/// Escapes line breaks, and replaces control characters, which a terminal would interpret.
fn sanitize(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MAX_LINE_BYTES));
    for c in text.trim_end().chars() {
        if line.len() >= MAX_LINE_BYTES {
            line.push_str(" ...");
            break;
        }
        match c {
            '\n' => line.push_str("\\n"),
            '\t' => line.push('\t'),
            c if c.is_control() => line.push('\u{fffd}'),
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_in_order_truncated_and_sanitized() {
        let folder = tempfile::tempdir().unwrap();
        let log = PluginLog::new(&folder.path().join("deep/er"), "p");
        assert_eq!(log.tail(5).unwrap(), [] as [String; 0]);
        log.write(Timestamp::UNIX_EPOCH, LogLevel::Info, "one\u{1b}[31m\ntwo");
        let written = log.write(Timestamp::UNIX_EPOCH, LogLevel::Warn, &"x".repeat(100_000));
        assert!(written < 10_000, "{written}");
        let lines = log.tail(5).unwrap();
        assert!(lines[0].ends_with("info  one\u{fffd}[31m\\ntwo"), "{}", lines[0]);
        for _ in 0..300 {
            log.write(Timestamp::UNIX_EPOCH, LogLevel::Warn, &"x".repeat(100_000));
        }
        let bytes: u64 = fs::read_dir(folder.path().join("deep/er"))
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum();
        assert!(bytes < 3 << 20, "{bytes}");
    }
}
