//! The log: what happened inside, for finding faults. Only this program's own events go there, which name ids
//! and counts, never what was said and never a key; libraries, which may log requests, are left out.

use std::fs::File;
use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::home::{create_private, private_file};

/// A log that has grown beyond this is set aside, and the one set aside before it goes.
const LARGEST_LOG: u64 = 1024 * 1024;

/// Where to find the log of this home.
pub fn path(logs: &Path) -> PathBuf {
    logs.join("hfs.log")
}

/// Begins to log: warnings and errors always, everything where `verbose`. The file is made when there is
/// something to write.
pub fn start(logs: &Path, verbose: bool) {
    let writer = Lazy { path: path(logs), file: Arc::default() };
    let level = if verbose { LevelFilter::DEBUG } else { LevelFilter::WARN };
    let ours = ["hfs", "hfs_agents", "hfs_core", "hfs_engine", "hfs_exchange", "hfs_store"];
    let filter = Targets::new().with_targets(ours.map(|target| (target, level)));
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    // Only one log can be begun; a second attempt has nothing to say.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    if tracing::enabled!(Level::DEBUG) {
        tracing::debug!(version = env!("CARGO_PKG_VERSION"), process = std::process::id(), "started");
    }
}

/// From now on a panic says shortly what happened and where to read more, instead of a trace.
pub fn explain_panics(logs: &Path) {
    let log = path(logs);
    std::panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
        let place = info
            .location()
            .map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
        // The panic's own words may quote what somebody said, so they are not written down.
        tracing::error!("panic{place}");
        let text = format!(
            "error: hfs has a fault{place}; what was saved is safe\nhint: please report it; the log is {}\n",
            log.display()
        );
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }));
}

/// A file that is opened at the first write.
#[derive(Clone)]
struct Lazy {
    path: PathBuf,
    file: Arc<Mutex<Option<File>>>,
}

impl Lazy {
    fn open(&self) -> io::Result<File> {
        if let Some(folder) = self.path.parent() {
            if let Some(home) = folder.parent() {
                create_private(home)?;
            }
            create_private(folder)?;
        }
        if std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() > LARGEST_LOG) {
            std::fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        private_file().create(true).append(true).open(&self.path)
    }
}

impl Write for Lazy {
    /// A log that cannot be written must not disturb the work it is about.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.is_none() {
            *file = self.open().ok();
        }
        if let Some(file) = file.as_mut() {
            let _ = file.write_all(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
