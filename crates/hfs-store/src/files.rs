//! The files of a store: the database, and beside it a directory of locks.
//!
//! `<db>-live/write` is held around each write transaction, and `<db>-live/turn` while waiting for it: whoever
//! waits holds the turn, so whoever has just written cannot come back before them. The kernel's queue of one
//! lock alone is not fair. `<db>-live/<uuid>` is held by each open store for as long as it lives, which is how
//! others know that the writer of a half-written reply is gone.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// The paths of one store.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// The database, absolute.
    pub(crate) database: PathBuf,
    live: PathBuf,
}

/// Which file a path led to when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl Paths {
    pub(crate) fn new(database: &Path) -> io::Result<Self> {
        let database = std::path::absolute(database)?;
        let live = beside(&database, "-live");
        Ok(Self { database, live })
    }

    /// Makes the directories, for their owner alone.
    pub(crate) fn create_directories(&self) -> io::Result<()> {
        create_private_directory(&self.live)
    }

    /// Makes an empty database file, for its owner alone, unless there is one.
    pub(crate) fn create_database(&self) -> io::Result<()> {
        match create_private_file(&self.database) {
            Ok(_) => self.sync_directory(),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes the directory's knowledge of a new file last.
    fn sync_directory(&self) -> io::Result<()> {
        match self.database.parent() {
            Some(directory) if cfg!(unix) => File::open(directory)?.sync_all(),
            _ => Ok(()),
        }
    }

    /// Which file the database is now.
    pub(crate) fn identify(&self) -> io::Result<FileId> {
        identity(&fs::metadata(&self.database)?)
    }

    /// A name beside the database's that nothing has yet: `<db><suffix>`, `<db><suffix>.1` ...
    pub(crate) fn free_name(&self, suffix: &str) -> PathBuf {
        let first = beside(&self.database, suffix);
        std::iter::once(first.clone())
            .chain((1_u32..).map(|n| beside(&first, &format!(".{n}"))))
            .find(|path| !path.exists())
            .unwrap_or(first)
    }
}

/// `path` with `suffix` behind its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes a file that only its owner can read.
pub(crate) fn create_private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    private(&mut options).open(path)
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600)
}

#[cfg(not(unix))]
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

fn create_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps, reason = "not every system has an answer")]
fn identity(metadata: &fs::Metadata) -> io::Result<FileId> {
    use std::os::unix::fs::MetadataExt;
    Ok(FileId { device: metadata.dev(), inode: metadata.ino() })
}

/// Elsewhere an open file cannot be taken away, so its path always leads to it.
#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps, reason = "other systems can fail here")]
fn identity(_: &fs::Metadata) -> io::Result<FileId> {
    Ok(FileId { device: 0, inode: 0 })
}

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
pub(crate) struct Life {
    name: String,
    path: PathBuf,
    _held: File,
}

impl Life {
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

impl Drop for Life {
    fn drop(&mut self) {
        // Whoever finds no file knows what they need to; the lock goes with the file handle.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the store of this name is still open somewhere.
pub(crate) fn lives(paths: &Paths, name: &str) -> bool {
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
        if !lives(paths, name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
        let life = Life::begin(&paths, None).unwrap();
        let name = life.name().to_owned();
        assert!(lives(&paths, &name));
        assert!(!lives(&paths, "0192f0c17e1a7cc09b1e0123456789af"));
        drop(life);
        assert!(!lives(&paths, &name));
    }

    #[test]
    fn sweeping_takes_the_dead_and_leaves_the_living() {
        let directory = tempfile::tempdir().unwrap();
        let paths = paths(directory.path());
        let life = Life::begin(&paths, None).unwrap();
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
