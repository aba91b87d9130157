//! Creating, locking and atomically replacing files that only the user may access.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

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

/// Replaces a file atomically: readers see either the old or the new content, also if this process dies meanwhile. The
/// new file has mode 0600, the default of temporary files.
pub(crate) fn replace_file(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), PluginError> {
    let replace = || -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or_else(|| Path::new(".")))?;
        file.write_all(bytes)?;
        if durability == Durability::Synced {
            file.as_file().sync_all()?;
        }
        file.persist(path)?;
        Ok(())
    };
    replace().map_err(|error| PluginError::io("write", path, error))
}
