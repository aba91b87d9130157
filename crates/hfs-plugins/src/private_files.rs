//! Files and folders that only the user may access, and how they are locked and replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use crate::PluginError;

/// Sets the mode of a file that is about to be created to 0600.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Creates a folder with mode 0700, and the folders above it.
pub(crate) fn create_private_folder(path: &Path) -> Result<(), PluginError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|error| PluginError::io("create the folder", path, error))
}

/// Waits for an exclusive lock between processes, which the returned file holds until it is dropped. The lock is on a
/// file beside `path`, because `path` itself is replaced by each write.
pub(crate) fn lock_beside(path: &Path) -> Result<File, PluginError> {
    let path = path.with_extension("lock");
    let failed = |error| PluginError::io("lock", &path, error);
    if let Some(folder) = path.parent() {
        create_private_folder(folder)?;
    }
    let file =
        private(OpenOptions::new().create(true).truncate(false).write(true)).open(&path).map_err(failed)?;
    fs4::FileExt::lock(&file).map_err(failed)?;
    Ok(file)
}

/// Whether a write has to survive a power failure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    Synced,
    Unsynced,
}

/// Replaces a file in one step: a reader, or a crash, sees either the old or the new content. The new file has mode
/// 0600, which is the default of temporary files.
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
