//! File locks between the processes that share a database, in the directory `<database>-live`.
//!
//! - `write` is held during each write transaction, and `turn` while waiting for it; see [`WriteLock`].
//! - `<uuid>` is held by each open store for as long as it is open; see [`PresenceLock`].
//! - `purge` exists while the text of purged sessions may be left in the database's files.
//! - `<uuid>.<name>` is a temporary file of the store that holds `<uuid>`.
//!
//! The operating system releases the locks of a process when it exits, also after a crash.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hfs_files::private_options;
use uuid::Uuid;

use crate::db::paths::{Paths, create_private_file, remove_if_exists};

/// A fair lock around write transactions.
//
// Waiting for SQLite's own write lock means polling it. A process that writes without pause can therefore starve the
// others until their busy timeout ends. A single `flock` is not fair either, because a process that has just released
// it can lock it again before the waiting process runs. Two locks make it fair: the next writer holds `turn` while it
// waits for `write`, and the previous writer must lock `turn` before it can wait for `write` again.
#[derive(Debug)]
pub(crate) struct WriteLock {
    turn: File,
    write: File,
}

impl WriteLock {
    pub(crate) fn open(paths: &Paths) -> io::Result<Self> {
        let open = |name: &str| {
            private_options().read(true).write(true).create(true).truncate(false).open(paths.locks.join(name))
        };
        Ok(Self { turn: open("turn")?, write: open("write")? })
    }

    /// Waits for the lock. On a file system without file locks, returns at once and leaves the order of the writers to
    /// SQLite's locks.
    pub(crate) fn acquire(&self) -> io::Result<WriteGuard<'_>> {
        let locked = self.turn.lock().and_then(|()| {
            let locked = self.write.lock();
            self.turn.unlock().and(locked)
        });
        match locked {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(error),
            _ => Ok(WriteGuard { lock: &self.write }),
        }
    }
}

/// Releases the [`WriteLock`] when dropped.
#[derive(Debug)]
pub(crate) struct WriteGuard<'a> {
    lock: &'a File,
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the write lock could not be released");
        }
    }
}

/// Shows other processes that a store is open.
///
/// Rows that only one process may finish (a streaming reply, a session that is being imported) contain the name of that
/// process's presence lock. If the lock is free, the process has ended and the rows are abandoned. The alternative, a
/// process id, does not work: ids are reused, and a process in another container that shares the file has other ids.
#[derive(Debug)]
pub(crate) struct PresenceLock {
    name: String,
    path: PathBuf,
    held: File,
    /// Whether the file system has locks.
    is_locked: bool,
}

/// Age from which a presence lock counts as free on a file system without locks. Open stores refresh theirs when they
/// write.
const UNLOCKED_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

impl PresenceLock {
    /// Creates a lock file and locks it. The name of the file is `name`, which must not exist yet, or a new
    /// unique name if `name` is `None`.
    ///
    /// The caller must hold the write lock. Otherwise [`remove_abandoned`] could delete the file between its creation
    /// and its locking.
    pub(crate) fn acquire(paths: &Paths, name: Option<&str>) -> io::Result<Self> {
        let name = name.map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned);
        let path = paths.locks.join(&name);
        let held = create_private_file(&path)?;
        match held.lock() {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(error),
            locked => Ok(Self { name, path, held, is_locked: locked.is_ok() }),
        }
    }

    /// Shows other processes that the store is still open, on a file system without locks.
    pub(crate) fn refresh(&self) {
        if self.is_locked {
            return;
        }
        let is_due = self
            .held
            .metadata()
            .and_then(|file| file.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > UNLOCKED_LIFETIME / 8));
        if is_due && let Err(error) = self.held.set_modified(SystemTime::now()) {
            tracing::warn!(%error, "the presence lock could not be refreshed");
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the lock file still exists. It does not if the directory was deleted or moved.
    pub(crate) fn is_visible(&self) -> bool {
        self.path.exists()
    }
}

impl Drop for PresenceLock {
    fn drop(&mut self) {
        // A missing file counts as unlocked. If this fails, `remove_abandoned` deletes the files later.
        let _ = fs::remove_file(&self.path);
    }
}

/// Checks whether the process that writes a row is still alive.
#[derive(Debug, Clone)]
pub(crate) struct LivenessProbe {
    paths: Arc<Paths>,
    own: Arc<str>,
}

impl LivenessProbe {
    pub(crate) const fn new(paths: Arc<Paths>, own: Arc<str>) -> Self {
        Self { paths, own }
    }

    /// Name of this process's presence lock.
    pub(crate) fn own(&self) -> &str {
        &self.own
    }

    /// Whether an open store holds the presence lock `name`.
    pub(crate) fn is_alive(&self, name: &str) -> bool {
        *name == *self.own || is_held(&self.paths, name)
    }
}

fn is_held(paths: &Paths, name: &str) -> bool {
    match File::open(paths.locks.join(name)) {
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(_)) => is_recent(&file),
        },
        // If the file exists but cannot be opened, the owner must be assumed to be alive.
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Whether the owner of a lock file that cannot be locked has refreshed it lately.
fn is_recent(file: &File) -> bool {
    let age = file.metadata().and_then(|file| file.modified()).map(|at| at.elapsed().unwrap_or_default());
    age.is_ok_and(|age| age < UNLOCKED_LIFETIME)
}

/// Deletes the presence locks and temporary files of processes that ended without closing their store. The caller holds
/// the write lock. A file that cannot be deleted stays for the next time.
pub(crate) fn remove_abandoned(paths: &Paths) {
    let entries = match fs::read_dir(&paths.locks) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(%error, "abandoned lock files cannot be listed");
            return;
        }
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        // The name of a temporary file starts with the name of its owner's lock.
        let owner = name.to_str().and_then(|name| name.split('.').next());
        let Some(owner) = owner.filter(|owner| Uuid::try_parse(owner).is_ok()) else { continue };
        if !is_held(paths, owner)
            && let Err(error) = remove_if_exists(&entry.path())
        {
            tracing::warn!(%error, file = %entry.path().display(), "an abandoned file cannot be deleted");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const ABANDONED: &str = "0192f0c17e1a7cc09b1e0123456789af";

    fn paths(directory: &Path) -> Paths {
        let paths = Paths::new(&directory.join("a.db")).unwrap();
        paths.create_directories().unwrap();
        paths
    }

    #[test]
    fn a_presence_lock_is_held_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        let presence = PresenceLock::acquire(&paths, None).unwrap();
        let name = presence.name().to_owned();
        assert!(is_held(&paths, &name));
        assert!(!is_held(&paths, ABANDONED));
        drop(presence);
        assert!(!is_held(&paths, &name));
    }

    #[test]
    fn abandoned_presence_locks_are_removed_and_held_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        let presence = PresenceLock::acquire(&paths, None).unwrap();
        let abandoned = paths.locks.join(ABANDONED);
        create_private_file(&abandoned).unwrap();
        let _lock = WriteLock::open(&paths).unwrap();
        let temporary = paths.locks.join(format!("{ABANDONED}.verify"));
        create_private_file(&temporary).unwrap();
        let kept = paths.locks.join(format!("{}.verify", presence.name()));
        create_private_file(&kept).unwrap();
        remove_abandoned(&paths);
        assert!(!temporary.exists() && kept.exists());
        assert!(!abandoned.exists());
        assert!(presence.is_visible() && paths.locks.join("write").exists());
    }

    #[test]
    fn one_writer_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        let (first, second) = (WriteLock::open(&paths).unwrap(), WriteLock::open(&paths).unwrap());
        let guard = first.acquire().unwrap();
        assert!(matches!(second.write.try_lock(), Err(TryLockError::WouldBlock)));
        drop(guard);
        drop(second.acquire().unwrap());
        drop(first.acquire().unwrap());
    }
}
