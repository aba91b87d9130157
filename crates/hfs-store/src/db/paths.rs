//! The paths of a store's files, and creating files that only their owner can read.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// The paths of one store.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// The database, absolute.
    pub(crate) database: PathBuf,
    /// Directory of the lock files.
    pub(crate) live: PathBuf,
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
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600)
}

#[cfg(not(unix))]
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
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
