//! The directory in which hfs keeps everything: its store, its configuration, its logs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hfs_core::ErrorKind;

use crate::environment::Environment;
use crate::failure::Failure;

/// The home directory of hfs.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Where it is: `flag`, else `$HFS_HOME`, else `.hfs` in the user's home directory.
    ///
    /// # Errors
    /// When nothing says where.
    pub fn find(flag: Option<&Path>, environment: &Environment) -> Result<Self, Failure> {
        let named = flag
            .map(Path::to_owned)
            .or_else(|| environment.get("HFS_HOME").filter(|text| !text.is_empty()).map(PathBuf::from));
        let root = named.or_else(|| environment.user_home.as_ref().map(|home| home.join(".hfs")));
        let root = root.ok_or_else(|| Failure::Refused {
            kind: ErrorKind::NotFound,
            message: "there is no home directory to keep sessions in".into(),
            hint: Some("say where with --home DIR or the variable HFS_HOME".into()),
        })?;
        Ok(Self { root: environment.working_directory.join(root) })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The store that is used when none is named.
    pub fn default_store(&self) -> PathBuf {
        self.root.join("hfs.db")
    }

    /// The directory of the logs.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The directory of the machine code that plugins are compiled to.
    pub fn machine_code(&self) -> PathBuf {
        self.root.join("cache").join("plugins")
    }

    /// The directory of the interpreters that run plugins that are source.
    pub fn runtimes(&self) -> PathBuf {
        self.root.join("runtimes")
    }

    /// The directory that exports go to unless somebody says otherwise.
    pub fn exports(&self) -> PathBuf {
        self.root.join("exports")
    }

    /// Makes the directory, readable by nobody else, if it is missing.
    ///
    /// # Errors
    /// As the system has it.
    pub fn create(&self) -> Result<(), Failure> {
        create_private(&self.root)
            .map_err(|source| Failure::io(format!("make the directory {}", self.root.display()), source))
    }
}

/// Makes a directory and those above it; the directory itself is readable by nobody else. One that exists is
/// left as it is.
pub fn create_private(path: &Path) -> io::Result<()> {
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
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// How new files are opened that nobody else may read.
pub fn private_file() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}
