//! Files that only their user can access: temporary ones, and replacing a file atomically.
//!
//! A process that is killed cannot remove its temporary files. Each of them is therefore locked as long as its process
//! uses it, and the operating system releases the lock when the process ends, however it ends. What can be locked is
//! abandoned: the first temporary file or folder that a process creates in a place removes the abandoned ones there. The
//! alternative, removing what is older than an hour, keeps private text that long and removes the files of a process that
//! takes longer.
//!
//! A new file looks abandoned until it is locked. Its creator therefore checks that it is still there after it has locked
//! it, and else creates another one.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tempfile::{NamedTempFile, TempDir, TempPath};

/// Prefix of the names of temporary files and folders. Importers and tools skip hidden files.
const PREFIX: &str = ".hfs-tmp-";
/// Number of attempts to create a file that no other process removes before it is locked.
const ATTEMPTS: u32 = 16;
/// Age at which a file counts as abandoned on a file system without locks.
const UNLOCKED_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A temporary file, which is removed when this is dropped.
#[derive(Debug)]
pub struct TemporaryFile {
    /// Locked.
    file: NamedTempFile,
}

impl TemporaryFile {
    /// Creates a file in an existing folder.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create_in(folder: &Path) -> io::Result<Self> {
        let folder = non_empty(folder);
        remove_abandoned_once(folder);
        for _ in 0..ATTEMPTS {
            let file = tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder).map_err(without_path)?;
            if lock_new(file.as_file(), file.path())? {
                return Ok(Self { file });
            }
        }
        Err(always_removed(folder))
    }

    /// Its current path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Makes its content durable.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn sync(&self) -> io::Result<()> {
        self.file.as_file().sync_all()
    }

    /// Renames it, and replaces a file of this name. It has mode 0600.
    ///
    /// # Errors
    /// If it cannot be renamed. It is then removed.
    pub fn persist(self, path: &Path) -> io::Result<()> {
        self.file.persist(path).map(drop).map_err(|error| error.error)
    }

    /// Renames it, unless a file of this name exists.
    ///
    /// # Errors
    /// The error and the file, if it cannot be renamed.
    pub fn persist_new(self, path: &Path) -> Result<(), (Self, io::Error)> {
        let persisted = self.file.persist_noclobber(path).map(drop);
        persisted.map_err(|error| (Self { file: error.file }, error.error))
    }
}

/// The error of the operating system, without the random name of the temporary file.
fn without_path(error: io::Error) -> io::Error {
    let source = error.get_ref().and_then(std::error::Error::source);
    let code = source.and_then(|source| source.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
    code.map_or(error, io::Error::from_raw_os_error)
}

impl Write for TemporaryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A temporary folder, which is removed with its content when this is dropped. Only its user can access it, whatever
/// the umask.
#[derive(Debug)]
pub struct TemporaryFolder {
    folder: TempDir,
    /// The folder itself, locked.
    lock: File,
}

impl TemporaryFolder {
    /// Creates a folder in an existing one.
    ///
    /// # Errors
    /// If the folder cannot be created.
    pub fn create_in(parent: &Path) -> io::Result<Self> {
        let parent = non_empty(parent);
        remove_abandoned_once(parent);
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        for _ in 0..ATTEMPTS {
            let folder = builder.tempdir_in(parent)?;
            let lock = match File::open(folder.path()) {
                // Another process has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            if lock_new(&lock, folder.path())? {
                return Ok(Self { folder, lock });
            }
        }
        Err(always_removed(parent))
    }

    /// Creates a folder in the system's folder for temporary files.
    ///
    /// # Errors
    /// If the folder cannot be created.
    pub fn create() -> io::Result<Self> {
        Self::create_in(&std::env::temp_dir())
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Renames a file in it, unless a file of the new name exists.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn persist_new(&self, name: &str, path: &Path) -> io::Result<()> {
        let file = TempPath::try_from_path(self.path().join(name))?;
        file.persist_noclobber(path).map_err(|error| error.error)
    }

    /// Keeps the folder until the child processes that are started from now on have ended too.
    ///
    /// # Errors
    /// If the operating system refuses to pass on the lock.
    pub fn share_with_children(&self) -> io::Result<()> {
        // Each process that inherits the open folder holds its lock.
        rustix::io::fcntl_setfd(&self.lock, rustix::io::FdFlags::empty())?;
        Ok(())
    }

    /// Leaves the folder where it is.
    pub fn keep(self) {
        let _ = self.folder.keep();
    }
}

/// Whether a write has to survive a power failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It returns when the disk has the content.
    Synced,
    /// It returns at once.
    Unsynced,
}

/// Replaces a file atomically: readers see either the old or the new content, also if this process is killed. The new
/// file has mode 0600. A symbolic link is followed, so that a linked file stays a link.
///
/// # Errors
/// If the file cannot be written. The old one then stays.
pub fn replace(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().unwrap_or_else(|| Path::new(""));
    let mut file = TemporaryFile::create_in(folder)?;
    file.write_all(bytes)?;
    match durability {
        Durability::Synced => {
            file.sync()?;
            file.persist(&target)?;
            sync_folder(non_empty(folder))
        }
        Durability::Unsynced => file.persist(&target),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Waits for the lock of a file among processes, and holds it until the returned file is dropped. The lock is on a separate
/// file beside it with the extension `lock`, because each write replaces the file itself.
///
/// # Errors
/// If the lock file cannot be created or locked.
pub fn lock_for_replacing(path: &Path) -> io::Result<File> {
    let file =
        private_options().create(true).truncate(false).write(true).open(path.with_extension("lock"))?;
    match wait_for_lock(&file) {
        Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(error),
        _ => Ok(file),
    }
}

/// Options that create files which only the user can access.
#[must_use]
pub fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates a folder and its missing parents, all of which only the user can access, whatever the umask.
///
/// # Errors
/// If one of them cannot be created.
pub fn create_private_folders(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// The folders from which this process has removed the abandoned files.
static CLEANED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Removes the temporary files and folders of processes that have ended. What cannot be removed stays.
pub fn remove_abandoned(folder: &Path) {
    mark_as_cleaned(folder);
    let Ok(entries) = fs::read_dir(non_empty(folder)) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            let _ = remove_if_abandoned(&entry.path());
        }
    }
}

/// Like [`remove_abandoned`], once for each folder, since a process may create many files in a large folder.
fn remove_abandoned_once(folder: &Path) {
    if mark_as_cleaned(folder) {
        remove_abandoned(folder);
    }
}

/// Returns whether this process has not removed the abandoned files of the folder before.
fn mark_as_cleaned(folder: &Path) -> bool {
    let folder = non_empty(folder);
    let path = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    CLEANED.lock().unwrap_or_else(PoisonError::into_inner).insert(path)
}

fn remove_if_abandoned(path: &Path) -> io::Result<()> {
    let handle = open_to_lock(path)?;
    let metadata = handle.metadata()?;
    if !is_own(&metadata) || !is_abandoned(&handle, &metadata) || !is_at(&metadata, path) {
        return Ok(());
    }
    // Removed before the lock is released.
    if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Whether no process uses a file. If so, it is locked.
fn is_abandoned(handle: &File, metadata: &Metadata) -> bool {
    if !metadata.is_file() && !metadata.is_dir() {
        return false;
    }
    match handle.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(_)) => {
            metadata.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > UNLOCKED_LIFETIME))
        }
    }
}

/// Locks a new file or folder. Returns false if another process has removed it.
fn lock_new(handle: &File, path: &Path) -> io::Result<bool> {
    // An error means that the file system has no locks, or none for folders. Other processes then go by its age.
    let _ = wait_for_lock(handle);
    Ok(is_at(&handle.metadata()?, path))
}

/// Waits for a lock, also after a signal has interrupted the wait.
fn wait_for_lock(handle: &File) -> io::Result<()> {
    loop {
        match handle.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Opens a file or folder whatever it is: without following a link, and without waiting for the writer of a pipe.
fn open_to_lock(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(open(path, flags, Mode::empty())?.into())
}

/// Whether a file belongs to the user of this process.
fn is_own(metadata: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::uid(metadata) == rustix::process::geteuid().as_raw()
}

/// Whether a path leads to the file with this metadata.
fn is_at(metadata: &Metadata, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(path)
        .is_ok_and(|found| (found.dev(), found.ino()) == (metadata.dev(), metadata.ino()))
}

/// The parent of a relative path of one component is the empty path.
fn non_empty(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

fn always_removed(folder: &Path) -> io::Error {
    let message = format!("another program removes new files in {}", folder.display());
    io::Error::new(io::ErrorKind::ResourceBusy, message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    /// Leaves a file and a folder with a file, as a killed process does. Their locks are free when they are closed.
    fn abandon(parent: &Path) -> [PathBuf; 2] {
        let file = parent.join(format!("{PREFIX}file"));
        let folder = parent.join(format!("{PREFIX}folder"));
        fs::write(&file, "text").unwrap();
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("copy.db"), "text").unwrap();
        [file, folder]
    }

    #[test]
    fn the_files_of_ended_processes_are_removed_and_those_of_living_ones_stay() {
        let parent = tempfile::tempdir().unwrap();
        let abandoned = abandon(parent.path());
        let other = parent.path().join(".hfs-other");
        fs::write(&other, "text").unwrap();
        let file = TemporaryFile::create_in(parent.path()).unwrap();
        assert!(abandoned.iter().all(|path| !path.exists()));
        let folder = TemporaryFolder::create_in(parent.path()).unwrap();
        fs::write(folder.path().join("inside"), "text").unwrap();
        let abandoned = abandon(parent.path());
        remove_abandoned(parent.path());
        assert!(abandoned.iter().all(|path| !path.exists()));
        assert!(file.path().exists() && folder.path().join("inside").exists() && other.exists());
        drop((file, folder));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_large_folder_is_searched_once() {
        let parent = tempfile::tempdir().unwrap();
        drop(TemporaryFile::create_in(parent.path()).unwrap());
        let abandoned = abandon(parent.path());
        drop(TemporaryFile::create_in(parent.path()).unwrap());
        assert!(abandoned.iter().all(|path| path.exists()));

        let parent = tempfile::tempdir().unwrap();
        remove_abandoned(parent.path());
        let abandoned = abandon(parent.path());
        drop(TemporaryFile::create_in(parent.path()).unwrap());
        assert!(abandoned.iter().all(|path| path.exists()));
    }

    #[test]
    fn threads_that_create_and_remove_at_once_do_not_lose_a_file() {
        let parent = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for number in 0..300 {
                        let file = TemporaryFile::create_in(parent.path()).unwrap();
                        let folder = TemporaryFolder::create_in(parent.path()).unwrap();
                        remove_abandoned(parent.path());
                        assert!(file.path().is_file() && folder.path().is_dir(), "{number}");
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_persisted_file_replaces_another_one_only_if_it_may() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a");
        fs::write(&path, "old").unwrap();
        let mut file = TemporaryFile::create_in(parent.path()).unwrap();
        file.write_all(b"new").unwrap();
        let (file, error) = file.persist_new(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.persist(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let folder = TemporaryFolder::create_in(parent.path()).unwrap();
        fs::write(folder.path().join("b"), "b").unwrap();
        let error = folder.persist_new("b", &path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn only_the_user_can_access_them_and_links_and_pipes_are_left_alone() {
        use std::os::unix::fs::PermissionsExt;

        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("target");
        fs::write(&target, "old").unwrap();
        let link = parent.path().join(format!("{PREFIX}link"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let pipe = parent.path().join(format!("{PREFIX}pipe"));
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        remove_abandoned(parent.path());
        assert!(target.exists() && fs::symlink_metadata(&pipe).is_ok());

        replace(&link, b"new", Durability::Synced).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let folder = TemporaryFolder::create_in(parent.path()).unwrap();
        for path in [&target, folder.path()] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o077, 0);
        }
    }

    #[test]
    fn a_folder_that_a_child_uses_stays_after_its_process() {
        let parent = tempfile::tempdir().unwrap();
        let folder = TemporaryFolder::create_in(parent.path()).unwrap();
        folder.share_with_children().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let path = folder.path().to_owned();
        // As if this process were killed: the lock is closed, and the folder stays.
        folder.keep();
        remove_abandoned(parent.path());
        assert!(path.exists());
        child.kill().unwrap();
        child.wait().unwrap();
        remove_abandoned(parent.path());
        assert!(!path.exists());
    }
}
