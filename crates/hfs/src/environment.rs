//! The process environment. No other module reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A snapshot of the process environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    pub working_directory: PathBuf,
    /// The user's home directory, not that of hfs.
    pub user_home: Option<PathBuf>,
    /// The running executable, without symbolic links.
    pub program: Option<PathBuf>,
    /// Its directory.
    pub program_directory: Option<PathBuf>,
}

impl Environment {
    /// Reads the environment of this process, without variables that are not UTF-8.
    pub fn capture() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let program = std::env::current_exe().and_then(|program| program.canonicalize()).ok();
        Self {
            variables: std::env::vars_os().filter_map(utf8).collect(),
            working_directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            program_directory: program.as_deref().and_then(Path::parent).map(Path::to_owned),
            program,
            user_home: std::env::home_dir().filter(|path| !path.as_os_str().is_empty()),
        }
    }

    /// This environment with another working directory.
    pub fn in_directory(&self, directory: PathBuf) -> Self {
        Self { working_directory: directory, ..self.clone() }
    }

    /// An environment with these variables and without directories.
    #[cfg(test)]
    pub fn with_variables<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { variables: owned.collect(), ..Self::default() }
    }

    /// Resolves a path that the user wrote: `~` is the user's home directory, and other relative paths start at the working
    /// directory.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.user_home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => self.working_directory.join(path),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_begins_at_the_home_directory_or_at_the_working_directory() {
        let environment = Environment {
            working_directory: "/srv".into(),
            user_home: Some("/home/me".into()),
            ..Environment::default()
        };
        for (path, resolved) in
            [("~/x", "/home/me/x"), ("~", "/home/me"), ("x", "/srv/x"), ("/x", "/x"), ("~x", "/srv/~x")]
        {
            assert_eq!(environment.resolve(Path::new(path)), Path::new(resolved), "{path}");
        }
    }
}
