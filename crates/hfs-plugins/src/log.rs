//! What plugins write for whoever wants to know what they do: one file each, of bounded size.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use hfs_core::Timestamp;

use crate::PluginError;
use crate::grants::{create_private_folder, private};

/// When a file is this long, it becomes the old one and a new one is begun.
const MOST_BYTES: u64 = 1 << 20;
/// A longer line is cut.
const LONGEST_LINE: usize = 8 << 10;

/// The log of one plugin.
#[derive(Debug)]
pub(crate) struct PluginLog {
    path: PathBuf,
}

impl PluginLog {
    pub fn new(folder: &Path, plugin: &str) -> Self {
        Self { path: folder.join(format!("{plugin}.log")) }
    }

    /// Adds a line and returns how many bytes of it were taken. What cannot be written is lost, since nobody
    /// waits for it.
    pub fn write(&self, now: Timestamp, level: &str, text: &str) -> usize {
        let line = shown(text);
        if let Err(error) = self.append(&format!("{now} {level:<5} {line}\n")) {
            tracing::warn!("the log of a plugin cannot be written: {error}");
        }
        line.len()
    }

    fn append(&self, line: &str) -> Result<(), PluginError> {
        let told = |error| PluginError::io("write", &self.path, error);
        if fs::metadata(&self.path).is_ok_and(|found| found.len() > MOST_BYTES) {
            fs::rename(&self.path, self.path.with_extension("log.1")).map_err(told)?;
        }
        let mut options = OpenOptions::new();
        private(options.create(true).append(true));
        let mut file = match options.open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                create_private_folder(self.path.parent().unwrap_or_else(|| Path::new(".")))?;
                options.open(&self.path).map_err(told)?
            }
            other => other.map_err(told)?,
        };
        file.write_all(line.as_bytes()).map_err(told)
    }

    /// The newest lines, oldest first.
    ///
    /// # Errors
    /// As the system has it; a log that was never written is empty.
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

/// On one line, without anything that a terminal would obey.
fn shown(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(LONGEST_LINE));
    for c in text.trim_end().chars() {
        if line.len() >= LONGEST_LINE {
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
    fn lines_are_kept_in_order_without_control_characters_and_within_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let log = PluginLog::new(&folder.path().join("deep/er"), "p");
        assert_eq!(log.tail(5).unwrap(), [] as [String; 0]);
        log.write(Timestamp::UNIX_EPOCH, "info", "one\u{1b}[31m\ntwo");
        let taken = log.write(Timestamp::UNIX_EPOCH, "warn", &"x".repeat(100_000));
        assert!(taken < 10_000, "{taken}");
        let lines = log.tail(5).unwrap();
        assert!(lines[0].ends_with("info  one\u{fffd}[31m\\ntwo"), "{}", lines[0]);
        for _ in 0..300 {
            log.write(Timestamp::UNIX_EPOCH, "warn", &"x".repeat(100_000));
        }
        let bytes: u64 = fs::read_dir(folder.path().join("deep/er"))
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum();
        assert!(bytes < 3 << 20, "{bytes}");
    }
}
