//! Locks between the processes that share a database.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use crate::db::paths::{Paths, create_private_file, private};

/// The locks around write transactions.
#[derive(Debug)]
pub(crate) struct WriteLock {
    turn: File,
    write: File,
}

impl WriteLock {
    pub(crate) fn open(paths: &Paths) -> io::Result<Self> {
        let open = |name: &str| {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            private(&mut options).open(paths.live.join(name))
        };
        Ok(Self { turn: open("turn")?, write: open("write")? })
    }

    /// Waits for the right to write. Where the file system knows no locks, SQLite's own must do.
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

/// The right to write, until it is dropped.
#[derive(Debug)]
pub(crate) struct WriteGuard<'a> {
    lock: &'a File,
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the lock around writes could not be released");
        }
    }
}

/// The sign that an open store lives. Its lock ends with the process, however that ends.
#[derive(Debug)]
pub(crate) struct PresenceLock {
    name: String,
    path: PathBuf,
    _held: File,
}

impl PresenceLock {
    /// Begins under a new name, or goes on under an old one whose file is gone. The caller holds the write
    /// lock, so that nobody sweeps the file away between its making and its locking.
    pub(crate) fn begin(paths: &Paths, name: Option<&str>) -> io::Result<Self> {
        let name = name.map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned);
        let path = paths.live.join(&name);
        let held = create_private_file(&path)?;
        match held.lock() {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(error),
            _ => Ok(Self { name, path, _held: held }),
        }
    }

    /// The name under which others can ask for it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its file is still where others look for it.
    pub(crate) fn is_visible(&self) -> bool {
        self.path.exists()
    }
}

impl Drop for PresenceLock {
    fn drop(&mut self) {
        // Whoever finds no file knows what they need to; the lock goes with the file handle.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the store of this name is still open somewhere.
pub(crate) fn is_alive(paths: &Paths, name: &str) -> bool {
    match File::open(paths.live.join(name)) {
        Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Removes the files of stores that were not closed. The caller holds the write lock.
pub(crate) fn sweep(paths: &Paths) -> io::Result<()> {
    for entry in fs::read_dir(&paths.live)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| Uuid::try_parse(name).is_ok()) else { continue };
        if !is_alive(paths, name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Checks whether the process that writes a reply is still alive.
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

    /// Whether the store with the presence lock `writer` is open in some process.
    pub(crate) fn is_alive(&self, writer: &str) -> bool {
        *writer == *self.own || is_alive(&self.paths, writer)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn paths(directory: &Path) -> Paths {
        let paths = Paths::new(&directory.join("a.db")).unwrap();
        paths.create_directories().unwrap();
        paths
    }

    #[test]
    fn a_store_lives_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        let life = PresenceLock::begin(&paths, None).unwrap();
        let name = life.name().to_owned();
        assert!(is_alive(&paths, &name));
        assert!(!is_alive(&paths, "0192f0c17e1a7cc09b1e0123456789af"));
        drop(life);
        assert!(!is_alive(&paths, &name));
    }

    #[test]
    fn sweeping_takes_the_dead_and_leaves_the_living() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        let life = PresenceLock::begin(&paths, None).unwrap();
        let dead = paths.live.join("0192f0c17e1a7cc09b1e0123456789af");
        create_private_file(&dead).unwrap();
        let _lock = WriteLock::open(&paths).unwrap();
        sweep(&paths).unwrap();
        assert!(!dead.exists());
        assert!(life.is_visible() && paths.live.join("write").exists());
    }

    #[test]
    fn one_writer_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        let (one, other) = (WriteLock::open(&paths).unwrap(), WriteLock::open(&paths).unwrap());
        let guard = one.acquire().unwrap();
        assert!(matches!(other.write.try_lock(), Err(TryLockError::WouldBlock)));
        drop(guard);
        drop(other.acquire().unwrap());
        drop(one.acquire().unwrap());
    }

    #[test]
    fn a_free_name_is_free() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        let first = paths.free_name(".v1.bak");
        assert!(first.ends_with("a.db.v1.bak"));
        create_private_file(&first).unwrap();
        assert!(paths.free_name(".v1.bak").ends_with("a.db.v1.bak.1"));
    }
}
