//! The process's environment, read here and nowhere else.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the process was started with.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// The working directory.
    pub working_directory: PathBuf,
    /// The user's home directory.
    pub user_home: Option<PathBuf>,
    /// The folder that this program is in.
    pub program_folder: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process. Variables that are not UTF-8 are left out.
    pub fn capture() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            variables: std::env::vars_os().filter_map(text).collect(),
            working_directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            program_folder: std::env::current_exe()
                .and_then(|program| program.canonicalize())
                .ok()
                .and_then(|program| program.parent().map(PathBuf::from)),
            user_home: std::env::home_dir().filter(|path| !path.as_os_str().is_empty()),
        }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}
