//! The log file, for diagnosing problems.
//!
//! The log holds ids and counts, never text of messages and never keys. Only events of the crates of hfs are logged:
//! other libraries may log whole requests. An error or a path in an event may contain a secret, so every line is masked.

use std::fs::File;
use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hfs_core::lock_unpoisoned;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::home::create_private_dir;

/// A log larger than this is renamed to `hfs.log.1` when it is opened; the previous `hfs.log.1` is replaced.
const MAX_LOG_BYTES: u64 = 1024 * 1024;

fn log_path(logs: &Path) -> PathBuf {
    logs.join("hfs.log")
}

/// Starts logging: warnings and errors, and everything with `verbose`. The file is created by the first event.
pub fn start(logs: &Path, verbose: bool) {
    let writer = LazyFile { path: log_path(logs), file: Arc::default() };
    let level = if verbose { LevelFilter::DEBUG } else { LevelFilter::WARN };
    // A target matches as a prefix, so this selects all crates of the workspace.
    let filter = Targets::new().with_target("hfs", level);
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    // Fails only if a subscriber is already installed.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    if tracing::enabled!(Level::DEBUG) {
        tracing::debug!(version = env!("CARGO_PKG_VERSION"), process = std::process::id(), "started");
    }
}

/// Makes a panic print its location and the path of the log instead of a backtrace.
pub fn install_panic_hook(logs: &Path) {
    let log = log_path(logs);
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        let location = info
            .location()
            .map_or_else(String::new, |location| format!(" at {}:{}", location.file(), location.line()));
        // The panic message is left out, because it may quote text of a message.
        tracing::error!("panic{location}");
        let text = format!(
            "error: hfs has crashed{location}; everything that was saved is safe\n\
             hint: please report this; the log is {}\n",
            log.display()
        );
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }));
}

/// A file that is opened by the first write.
#[derive(Clone)]
struct LazyFile {
    path: PathBuf,
    file: Arc<Mutex<Option<File>>>,
}

impl LazyFile {
    fn open(&self) -> io::Result<File> {
        if let Some(directory) = self.path.parent() {
            // The home directory must be private, but `create_private_dir` creates parents with default permissions.
            if let Some(home) = directory.parent() {
                create_private_dir(home)?;
            }
            create_private_dir(directory)?;
        }
        if std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() > MAX_LOG_BYTES) {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        hfs_files::private_options().create(true).append(true).open(&self.path)
    }
}

impl Write for LazyFile {
    /// Never fails, because a log that cannot be written must not fail the command.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = lock_unpoisoned(&self.file);
        if file.is_none() {
            *file = self.open().ok();
        }
        if let Some(file) = file.as_mut() {
            // Each event is one write.
            let text = String::from_utf8_lossy(bytes);
            let _ = file.write_all(hfs_secrets::mask_addresses(&text).as_bytes());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_an_event_is_not_logged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/hfs.log");
        let mut log = LazyFile { path: path.clone(), file: Arc::default() };
        let token = ["ghp", "_", "Zq8vT2mN4kR7wX1yB5cD9fG3hJ6lP0sAuEiO"].concat();
        let line = format!("WARN hfs: cannot read postgres://me:password@db/app, /home/me/{token}.json\n");
        assert_eq!(log.write(line.as_bytes()).unwrap(), line.len());
        let logged = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            logged,
            "WARN hfs: cannot read postgres://me:[redacted: password]@db/app, /home/me/[redacted: GitHub token].json\n"
        );
    }
}
