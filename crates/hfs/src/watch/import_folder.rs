//! The folder `<database>-import` beside a store, or in the home directory of hfs for one on a server: the locks of imports,
//! and the state of its watcher.
//!
//! - `import` is locked while an import runs. Two imports of the same transcript at once would each add its new messages.
//! - `watcher` is locked by the watcher of the store, as long as it runs.
//! - `watcher.json` is what the watcher last reported about itself.
//!
//! The operating system releases the locks of a process when it exits, also after a crash.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use hfs_files::{Durability, create_private_folders, private_options, replace};
use hfs_store::StoreUrl;

use super::status::WatchReport;
use crate::context::Context;
use crate::output::error::CliError;
use crate::wiring;

/// How long a starting watcher waits for the lock. Commands that look for a watcher hold it for a moment.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// The folder of one store.
#[derive(Debug, Clone)]
pub struct ImportFolder {
    path: PathBuf,
}

/// A lock, which is released when this is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl ImportFolder {
    /// The folder of the store in use; `None` for one that no other process can use.
    ///
    /// # Errors
    /// If the address of the store is not valid.
    pub fn of(context: &Context) -> Result<Option<Self>, CliError> {
        Ok(match wiring::store_url(&context.home, &context.settings)? {
            StoreUrl::Sqlite(path) => {
                Some(Self::of_database(&context.environment.working_directory.join(path)))
            }
            // The transcripts are on this machine, so other machines need not know what it imports.
            url @ StoreUrl::Postgres(_) => {
                let hash = blake3::hash(url.to_string().as_bytes()).to_hex();
                let name = format!("postgres-{}-import", hash.get(..16).unwrap_or_default());
                Some(Self { path: context.home.root().join(name) })
            }
            _ => None,
        })
    }

    fn of_database(database: &Path) -> Self {
        // A link and the file that it leads to are the same store.
        let mut path = database.canonicalize().unwrap_or_else(|_| database.to_owned()).into_os_string();
        path.push("-import");
        Self { path: path.into() }
    }

    /// Whether something was imported into the store where it is now.
    pub fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Waits until no other import into the store runs. Calls `waiting` if that takes longer than a moment.
    ///
    /// # Errors
    /// If the lock cannot be created.
    pub fn lock_import(&self, waiting: impl FnOnce()) -> io::Result<Lock> {
        let file = self.open("import")?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                waiting();
                supported(file.lock())?;
            }
            Err(TryLockError::Error(error)) => supported(Err(error))?,
            Ok(()) => {}
        }
        Ok(Lock { _file: file })
    }

    /// The lock of imports, unless another import runs.
    ///
    /// # Errors
    /// If the lock cannot be created.
    pub fn try_lock_import(&self) -> io::Result<Option<Lock>> {
        try_lock(self.open("import")?)
    }

    /// The lock of the store's watcher, unless another watcher runs.
    ///
    /// # Errors
    /// If the lock cannot be created.
    pub fn lock_watcher(&self) -> io::Result<Option<Lock>> {
        let start = Instant::now();
        loop {
            let locked = try_lock(self.open("watcher")?)?;
            if locked.is_some() || start.elapsed() > LOCK_PATIENCE {
                return Ok(locked);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether a watcher of the store runs.
    pub fn is_watched(&self) -> bool {
        let Ok(file) = File::open(self.path.join("watcher")) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// What the watcher last reported, also if it has ended.
    pub fn report(&self) -> Option<WatchReport> {
        serde_json::from_slice(&std::fs::read(self.report_path()).ok()?).ok()
    }

    /// Saves what the watcher reports.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_report(&self, report: &WatchReport) -> io::Result<()> {
        replace(&self.report_path(), &serde_json::to_vec(report)?, Durability::Unsynced)
    }

    fn report_path(&self) -> PathBuf {
        self.path.join("watcher.json")
    }

    fn open(&self, name: &str) -> io::Result<File> {
        create_private_folders(&self.path)?;
        private_options().read(true).write(true).create(true).truncate(false).open(self.path.join(name))
    }
}

fn try_lock(file: File) -> io::Result<Option<Lock>> {
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => supported(Err(error)).map(|()| Some(Lock { _file: file })),
    }
}

/// A file system without locks is no reason to import nothing.
fn supported(locked: io::Result<()>) -> io::Result<()> {
    match locked {
        Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_import_and_one_watcher_have_the_locks() {
        let home = tempfile::tempdir().unwrap();
        let folder = ImportFolder::of_database(&home.path().join("hfs.db"));
        assert!(!folder.is_watched());
        let watcher = folder.lock_watcher().unwrap().unwrap();
        assert!(folder.is_watched());
        assert!(folder.lock_watcher().unwrap().is_none());
        drop(watcher);
        assert!(!folder.is_watched());
        let import = folder.lock_import(|| unreachable!()).unwrap();
        assert!(folder.try_lock_import().unwrap().is_none());
        drop(import);
        assert!(folder.try_lock_import().unwrap().is_some());
    }
}
