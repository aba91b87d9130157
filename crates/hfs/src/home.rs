//! The home directory of hfs, which holds the store, the configuration, plugins, exports and logs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hfs_core::{ErrorKind, plain_reason};
use hfs_files::private_options;

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

    /// What was written in the app and not sent.
    pub fn drafts(&self) -> PathBuf {
        self.root.join("drafts")
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
        create_private_dir(&self.root).map_err(|source| {
            let reason = plain_reason(&source);
            let error = CliError::io(format!("create the directory {}", self.root.display()), source);
            let hint = "hfs keeps sessions and settings there; name a directory that you can write to: HFS_HOME or --home";
            CliError::with_hint(error.kind(), format!("{error}: {reason}"), hint)
        })
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
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        // Another process has created it at the same time.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result,
    }
}

/// Copies a file to a new one that only the user can read. `fs::copy` would copy the permissions, too.
pub fn copy_private(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = fs::File::open(from)?;
    let mut to = private_options().write(true).create_new(true).open(to)?;
    io::copy(&mut from, &mut to)?;
    Ok(())
}
