//! Creating, locking and atomically replacing files that only the user may access.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::PluginError;

/// Makes these options create files with mode 0600.
pub(crate) fn with_private_mode(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Creates a folder and its missing parents with mode 0700.
pub(crate) fn create_private_folder(path: &Path) -> Result<(), PluginError> {
    create_folders(path).map_err(|error| PluginError::io("create the folder", path, error))
}

/// Like [`create_private_folder`], with the error of the operating system.
pub(crate) fn create_folders(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Waits for an exclusive lock on `path` among processes. The lock is held until the returned file is dropped. It is
/// taken on a separate lock file, because each write replaces `path` itself.
pub(crate) fn acquire_file_lock(path: &Path) -> Result<File, PluginError> {
    let path = path.with_extension("lock");
    let failed = |error| PluginError::io("lock", &path, error);
    if let Some(folder) = path.parent() {
        create_private_folder(folder)?;
    }
    let file = with_private_mode(OpenOptions::new().create(true).truncate(false).write(true))
        .open(&path)
        .map_err(failed)?;
    fs4::FileExt::lock(&file).map_err(failed)?;
    Ok(file)
}

/// Whether a write has to survive a power failure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    Synced,
    Unsynced,
}

/// Prefix of the names of temporary files.
const TEMPORARY: &str = ".hfs-tmp-";
/// Age at which a temporary file belongs to a process that was killed.
const MAX_WRITE: Duration = Duration::from_secs(60 * 60);

/// Replaces a file atomically: readers see either the old or the new content, also if this process dies meanwhile. The
/// new file has mode 0600, the default of temporary files.
pub(crate) fn replace_file(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), PluginError> {
    let replace = || -> io::Result<()> {
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        remove_abandoned(folder);
        let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
        file.write_all(bytes)?;
        if durability == Durability::Synced {
            file.as_file().sync_all()?;
        }
        file.persist(path)?;
        Ok(())
    };
    replace().map_err(|error| PluginError::io("write", path, error))
}

/// Removes the temporary files of killed processes. Those that cannot be removed stay.
fn remove_abandoned(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY)) {
            continue;
        }
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        if written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > MAX_WRITE)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn the_temporary_files_of_killed_processes_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join(".hfs-tmp-old"), folder.path().join(".hfs-tmp-new"));
        for path in [&old, &new] {
            fs::write(path, "x").unwrap();
        }
        let long_ago = SystemTime::now() - MAX_WRITE * 2;
        OpenOptions::new().append(true).open(&old).unwrap().set_modified(long_ago).unwrap();
        replace_file(&folder.path().join("a"), b"a", Durability::Unsynced).unwrap();
        assert!(!old.exists() && new.exists());
        assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"a");
    }
}
