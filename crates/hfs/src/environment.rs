//! The process environment. No other module reads it.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// A snapshot of the process environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    pub working_directory: PathBuf,
    /// The user's home directory, not that of hfs.
    pub user_home: Option<PathBuf>,
    /// The directory of the running executable.
    pub program_directory: Option<PathBuf>,
}

impl Environment {
    /// Reads the environment of this process, without variables that are not UTF-8.
    pub fn capture() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            variables: std::env::vars_os().filter_map(utf8).collect(),
            working_directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            program_directory: std::env::current_exe()
                .and_then(|program| program.canonicalize())
                .ok()
                .and_then(|program| program.parent().map(PathBuf::from)),
            user_home: std::env::home_dir().filter(|path| !path.as_os_str().is_empty()),
        }
    }

    /// An environment with these variables and without directories.
    #[cfg(test)]
    pub fn with_variables<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { variables: owned.collect(), ..Self::default() }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The value of a variable that is not empty.
    pub fn get_non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }
}
