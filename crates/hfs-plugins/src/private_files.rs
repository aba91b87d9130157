//! Files of this crate, with errors that name them. Only the user can access them (see [`hfs_files`]).

use std::fs::File;
use std::path::Path;

use hfs_files::Durability;

use crate::PluginError;

/// Creates a folder and its missing parents with mode 0700.
pub(crate) fn create_private_folder(path: &Path) -> Result<(), PluginError> {
    hfs_files::create_private_folders(path).map_err(|error| PluginError::io("create the folder", path, error))
}

/// Waits for an exclusive lock on `path` among processes. The lock is held until the returned file is dropped.
pub(crate) fn acquire_file_lock(path: &Path) -> Result<File, PluginError> {
    if let Some(folder) = path.parent() {
        create_private_folder(folder)?;
    }
    hfs_files::lock_for_replacing(path).map_err(|error| PluginError::io("lock", path, error))
}

/// Replaces a file atomically.
pub(crate) fn replace_file(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), PluginError> {
    hfs_files::replace(path, bytes, durability).map_err(|error| PluginError::io("write", path, error))
}
