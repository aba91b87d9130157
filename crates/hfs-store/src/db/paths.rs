//! The paths of a store's files, and creating files that only their owner can read.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use hfs_core::StoreError;
use hfs_files::{create_private_folders, private_options};

use crate::error::{Result, conflict};

#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// The database, absolute.
    pub(crate) database: PathBuf,
    /// Directory of the lock files, `<database>-live`.
    pub(crate) locks: PathBuf,
}

/// Identity of a file. Differs if the file at a path has been replaced by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl Paths {
    pub(crate) fn new(database: &Path) -> io::Result<Self> {
        let database = canonical(database)?;
        let locks = with_suffix(&database, "-live");
        Ok(Self { database, locks })
    }

    /// Returns an error if something other than a file is at the path. SQLite would report an I/O error, after files were created
    /// beside it.
    pub(crate) fn check_kind(&self) -> Result<()> {
        let Ok(metadata) = fs::metadata(&self.database) else { return Ok(()) };
        let shown = self.database.display();
        if metadata.is_dir() {
            let file = self.database.join("hfs.db");
            let message = format!("{shown} is a folder; a store is a file, such as {}", file.display());
            return Err(StoreError::Invalid { message }.into());
        }
        if !metadata.is_file() {
            let message = format!("{shown} is a device or a pipe; a store is a regular file");
            return Err(StoreError::Invalid { message }.into());
        }
        Ok(())
    }

    /// Creates the directories of the database and of the lock files, readable by their owner only.
    pub(crate) fn create_directories(&self) -> io::Result<()> {
        if fs::metadata(&self.locks).is_ok_and(|metadata| !metadata.is_dir()) {
            let message = format!("{} is not a directory; move it away", self.locks.display());
            return Err(io::Error::new(io::ErrorKind::NotADirectory, message));
        }
        // The lock directory is in the database's directory, so this creates both.
        create_private_folders(&self.locks)
    }

    /// Creates an empty database file, readable by its owner only, if there is none.
    pub(crate) fn create_database(&self) -> io::Result<()> {
        match create_private_file(&self.database) {
            Ok(_) => self.sync_directory(),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes changes of the database's directory durable.
    pub(crate) fn sync_directory(&self) -> io::Result<()> {
        sync_directory_of(&self.database)
    }

    /// Returns an error if the database is a hard link to a store that is used under another name. SQLite names the
    /// write-ahead log after the path, so two names of one file have two logs, each of which lacks the other's commits.
    pub(crate) fn check_links(&self) -> Result<()> {
        if let Ok(metadata) = fs::metadata(&self.database)
            && std::os::unix::fs::MetadataExt::nlink(&metadata) > 1
            && metadata.len() > 0
            && !self.locks.exists()
        {
            return Err(conflict(format!(
                "{} is a hard link to a store that has another name; open the store under that name, or a copy of it",
                self.database.display()
            )));
        }
        Ok(())
    }

    /// The write-ahead log.
    pub(crate) fn log(&self) -> PathBuf {
        with_suffix(&self.database, "-wal")
    }

    /// SQLite's rollback journal.
    pub(crate) fn journal(&self) -> PathBuf {
        with_suffix(&self.database, "-journal")
    }

    /// Moves a rollback journal away that belongs to another database. SQLite would copy its pages into this one.
    ///
    /// A database in WAL mode has no rollback journal, except while its first page is written. The caller holds the write
    /// lock.
    pub(crate) fn set_aside_journal(&self) -> io::Result<()> {
        /// Where the header has the versions of the file format, which are 2 in WAL mode.
        const VERSIONS: u64 = 18;
        const FIRST_PAGE: u64 = 65_536;
        let journal = self.journal();
        if !fs::metadata(&journal).is_ok_and(|journal| journal.len() > 0)
            || !fs::metadata(&self.database).is_ok_and(|database| database.len() > FIRST_PAGE)
        {
            return Ok(());
        }
        let mut database = File::open(&self.database)?;
        let mut versions = [0; 2];
        database.seek(SeekFrom::Start(VERSIONS))?;
        database.read_exact(&mut versions)?;
        if versions == [2, 2] {
            let kept = self.unused_path(".damaged-journal");
            fs::rename(&journal, &kept)?;
            tracing::warn!(kept = %kept.display(), "a rollback journal of another database was moved away");
        }
        Ok(())
    }

    /// A file that exists while deleted text of a purge may be left in the database's files.
    pub(crate) fn unfinished_purge(&self) -> PathBuf {
        self.locks.join("purge")
    }

    /// A database that a repair has completed and that has not replaced the damaged one yet.
    pub(crate) fn repaired(&self) -> PathBuf {
        with_suffix(&self.database, "-repaired")
    }

    /// The directory in which a repair works.
    pub(crate) fn repair_directory(&self) -> PathBuf {
        with_suffix(&self.database, "-repair")
    }

    /// Deletes what a killed repair has left. The caller holds the write lock.
    pub(crate) fn remove_repair_directory(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.repair_directory()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    pub(crate) fn file_id(&self) -> io::Result<FileId> {
        Ok(file_id(&fs::metadata(&self.database)?))
    }

    /// The first of `<database><suffix>`, `<database><suffix>.1`, ... that does not exist.
    pub(crate) fn unused_path(&self, suffix: &str) -> PathBuf {
        let first = with_suffix(&self.database, suffix);
        std::iter::once(first.clone())
            .chain((1_u32..).map(|n| with_suffix(&first, &format!(".{n}"))))
            .find(|path| !path.exists())
            .unwrap_or(first)
    }
}

/// The path without links, so that a store has the same lock files whatever path leads to it. SQLite also resolves links
/// before it names the write-ahead log.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let path = std::path::absolute(path)?;
            // A new database. Its directory may exist.
            let parent = path.parent().and_then(|parent| fs::canonicalize(parent).ok());
            Ok(parent.zip(path.file_name()).map_or_else(|| path.clone(), |(parent, name)| parent.join(name)))
        }
        Err(error) => Err(error),
    }
}

/// Appends `suffix` to the file name of `path`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// The directory of a file.
pub(crate) fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the directory entry of a file durable.
pub(crate) fn sync_directory_of(file: &Path) -> io::Result<()> {
    File::open(directory_of(file))?.sync_all()
}

/// Deletes a file. Does nothing if there is none.
pub(crate) fn remove_if_exists(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Creates a file that only its owner can read. Fails if it exists.
pub(crate) fn create_private_file(path: &Path) -> io::Result<File> {
    private_options().read(true).write(true).create_new(true).open(path)
}

fn file_id(metadata: &fs::Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt;
    FileId { device: metadata.dev(), inode: metadata.ino() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_has_one_path_whatever_link_leads_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("real");
        fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, directory.path().join("directory")).unwrap();
        std::os::unix::fs::symlink(real.join("a.db"), directory.path().join("b.db")).unwrap();
        let through_directory = Paths::new(&directory.path().join("directory/a.db")).unwrap();
        create_private_file(&real.join("a.db")).unwrap();
        for path in ["real/a.db", "real/../b.db", "directory/a.db"] {
            let paths = Paths::new(&directory.path().join(path)).unwrap();
            assert_eq!(
                (&paths.database, &paths.locks),
                (&through_directory.database, &through_directory.locks)
            );
        }
    }

    #[test]
    fn an_unused_path_does_not_exist() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::new(&directory.path().join("a.db")).unwrap();
        let first = paths.unused_path(".v1.bak");
        assert!(first.ends_with("a.db.v1.bak"));
        create_private_file(&first).unwrap();
        assert!(paths.unused_path(".v1.bak").ends_with("a.db.v1.bak.1"));
    }
}
