//! Temporary folders for copies of transcripts: private, and removed also after the process was killed.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use tempfile::TempDir;

const PREFIX: &str = "hfs-import-";
/// File in each folder that its process has locked.
const LOCK: &str = "lock";
/// Age at which a folder without a lock file is abandoned. A younger one may be in creation.
const CREATION: Duration = Duration::from_secs(60 * 60);

/// A temporary folder, which is removed when this is dropped or, if the process was killed, by a later one.
#[derive(Debug)]
pub(crate) struct TemporaryFolder {
    folder: TempDir,
    /// Locked as long as the process lives.
    _lock: File,
}

impl TemporaryFolder {
    pub(crate) fn create() -> io::Result<Self> {
        /// Abandoned folders are removed once per process, because that reads the whole directory of temporary files.
        static CLEANED: Once = Once::new();
        let parent = std::env::temp_dir();
        let created = Self::create_in(&parent)?;
        CLEANED.call_once(|| remove_abandoned(&parent, created.path()));
        Ok(created)
    }

    fn create_in(parent: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        // Whatever the umask: a transcript may contain secrets.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let folder = builder.tempdir_in(parent)?;
        let lock = File::create(folder.path().join(LOCK))?;
        // On a file system without locks, other processes cannot lock it either, so they do not remove the folder.
        let _ = lock.try_lock();
        Ok(Self { folder, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes the folders of killed processes of the same user. Those that cannot be removed stay.
fn remove_abandoned(parent: &Path, own: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_ours && path != own && is_abandoned(&path, own) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn is_abandoned(folder: &Path, own: &Path) -> bool {
    // A link is not followed.
    let (Ok(found), Ok(own)) = (fs::symlink_metadata(folder), fs::symlink_metadata(own)) else {
        return false;
    };
    if !found.is_dir() || !has_same_owner(&found, &own) {
        return false;
    }
    match File::open(folder.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            found.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > CREATION))
        }
        Err(_) => false,
    }
}

#[cfg(unix)]
fn has_same_owner(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    one.uid() == other.uid()
}

#[cfg(not(unix))]
fn has_same_owner(_: &fs::Metadata, _: &fs::Metadata) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let living = TemporaryFolder::create_in(parent.path()).unwrap();
        let TemporaryFolder { folder, _lock: lock } = TemporaryFolder::create_in(parent.path()).unwrap();
        let killed = folder.keep();
        drop(lock);
        let other = parent.path().join("other");
        fs::create_dir(&other).unwrap();
        let next = TemporaryFolder::create_in(parent.path()).unwrap();
        remove_abandoned(parent.path(), next.path());
        assert!(!killed.exists());
        assert!(living.path().exists() && next.path().exists() && other.exists());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(next.path()).unwrap().permissions().mode() & 0o077, 0);
        }
        drop(next);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
    }
}
