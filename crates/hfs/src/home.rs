//! The home directory of hfs, which holds the store, the configuration, plugins, exports and logs.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hfs_core::ErrorKind;

use crate::environment::Environment;
use crate::output::error::CliError;

/// The home directory of hfs.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// The directory that `--home` names, else `$HFS_HOME`, else `.hfs` in the user's home directory.
    ///
    /// # Errors
    /// `NotFound` if none of these three is known.
    pub fn find(flag: Option<&Path>, environment: &Environment) -> Result<Self, CliError> {
        let variable = || environment.get_non_empty("HFS_HOME").map(PathBuf::from);
        let default = || environment.user_home.as_ref().map(|home| home.join(".hfs"));
        let root = flag.map(Path::to_owned).or_else(variable).or_else(default).ok_or_else(|| {
            CliError::with_hint(
                ErrorKind::NotFound,
                "cannot find a home directory for the data of hfs",
                "set one with --home DIR or the environment variable HFS_HOME",
            )
        })?;
        Ok(Self { root: environment.working_directory.join(root) })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The store that is used unless the settings name another.
    pub fn default_store(&self) -> PathBuf {
        self.root.join("hfs.db")
    }

    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The cache of compiled plugins.
    pub fn plugin_cache(&self) -> PathBuf {
        self.root.join("cache").join("plugins")
    }

    /// The interpreters for plugins in Python and JavaScript.
    pub fn runtimes(&self) -> PathBuf {
        self.root.join("runtimes")
    }

    /// The default directory for exports.
    pub fn exports(&self) -> PathBuf {
        self.root.join("exports")
    }

    /// Creates the directory, private to the user, if it is missing.
    ///
    /// # Errors
    /// If the directory cannot be created.
    pub fn create(&self) -> Result<(), CliError> {
        create_private_dir(&self.root)
            .map_err(|source| CliError::io(format!("create the directory {}", self.root.display()), source))
    }
}

/// Creates a directory that only the user can read, and its parents with default permissions. An existing directory
/// keeps its permissions.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        // Another process has created it at the same time.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result,
    }
}

/// Creates a directory and its missing parents, all of which only the user can read, whatever the umask.
pub fn create_private_dirs(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Creates a temporary directory that only the user can read, whatever the umask.
pub fn private_temporary_dir(prefix: &str, parent: &Path) -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.prefix(prefix).tempdir_in(parent)
}

/// Copies a file to a new one that only the user can read. `fs::copy` would copy the permissions, too.
pub fn copy_private(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = fs::File::open(from)?;
    let mut to = private_file_options().write(true).create_new(true).open(to)?;
    io::copy(&mut from, &mut to)?;
    Ok(())
}

/// Replaces a file by renaming a temporary file, which only the user can read. A symbolic link is followed, so that a
/// linked file stays a link.
pub fn replace_private_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let directory = target.parent().unwrap_or(Path::new("."));
    let prefix = format!(".{name}.hfs-tmp-");
    remove_abandoned(directory, &prefix);
    let mut temporary = tempfile::Builder::new().prefix(&prefix).tempfile_in(directory)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(&target).map_err(|error| error.error)?;
    Ok(())
}

/// Age at which a temporary file belongs to a process that was killed.
const MAX_WRITE: Duration = Duration::from_secs(60 * 60);

/// Removes the temporary files of killed processes. Those that cannot be removed stay.
fn remove_abandoned(directory: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let is_temporary = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix));
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        if is_temporary && written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > MAX_WRITE)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Options that create files which only the user can read.
pub fn private_file_options() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
