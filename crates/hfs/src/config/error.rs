use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use hfs_agents::TriadsConfigError;
use hfs_core::{ErrorExt, ErrorKind};

/// Where a value was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File {
        /// Which.
        path: PathBuf,
        /// Its line, from 1; 0 when it is not known.
        line: u64,
    },
    /// In an environment variable.
    Variable(&'static str),
    /// On the command line, by this option or as an argument.
    CommandLine(&'static str),
    /// Nowhere: it is built in.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => path.display().fmt(f),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::CommandLine(what) => f.write_str(what),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One mistake where it stands, so that an editor finds it; of several, how many there are.
fn mistakes(path: &Path, error: &TriadsConfigError) -> String {
    match located(path, error).as_slice() {
        [only] => only.clone(),
        several => format!("{} has {} mistakes", path.display(), several.len()),
    }
}

fn located(path: &Path, error: &TriadsConfigError) -> Vec<String> {
    let problems = error.problems.iter().map(|problem| {
        let place = Place::File { path: path.to_owned(), line: problem.line.unwrap_or(0) };
        let key = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
        format!("{place}: {key}{}", problem.message)
    });
    problems.collect()
}

/// Why the configuration cannot be used or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file could not be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write the configuration {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not YAML, or not a mapping.
    #[error("{place}: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong with it.
        message: String,
    },
    /// A setting has a value that it cannot have.
    #[error("{place}: {key} is {found}; expected {expected}")]
    Value {
        /// Where.
        place: Place,
        /// The setting.
        key: String,
        /// What stands there.
        found: String,
        /// What should.
        expected: String,
    },
    /// A secret stands where others can read it.
    #[error("{place}: {key} is refused: {reason}")]
    Secret {
        /// Where.
        place: Place,
        /// The setting.
        key: String,
        /// What gave it away.
        reason: &'static str,
    },
    /// There is no such setting.
    #[error("there is no setting {key:?}")]
    UnknownKey {
        /// What was asked for.
        key: String,
        /// What was perhaps meant.
        nearest: Option<&'static str>,
    },
    /// A configuration of triads that cannot be used.
    #[error("{}", mistakes(path, problems))]
    Triads {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problems: TriadsConfigError,
    },
    /// A file could not be changed in a way that leaves the rest of it as it was.
    #[error("cannot set {key} in {} without touching other settings: {reason}", path.display())]
    Edit {
        /// The file.
        path: PathBuf,
        /// The setting.
        key: String,
        /// What stands in the way.
        reason: String,
    },
}

impl ConfigError {
    /// The single mistakes behind one message, each with its place; none where the message says it all.
    pub fn details(&self) -> Vec<String> {
        match self {
            Self::Triads { path, problems } if problems.problems.len() > 1 => located(path, problems),
            _ => Vec::new(),
        }
    }
}

impl ErrorExt for ConfigError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            },
            Self::Syntax { .. } | Self::Value { .. } | Self::Edit { .. } | Self::Triads { .. } => {
                ErrorKind::Invalid
            }
            Self::Secret { .. } => ErrorKind::Denied,
            Self::UnknownKey { .. } => ErrorKind::NotFound,
        }
    }
}

impl ConfigError {
    /// What to do about it, as this binary words it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Secret { .. } => Some(
                "keep keys out of files: put them into the environment, for instance OPENAI_API_KEY or \
                 ANTHROPIC_API_KEY, where hfs finds them"
                    .into(),
            ),
            Self::UnknownKey { nearest: Some(name), .. } => Some(format!("did you mean {name}?")),
            Self::UnknownKey { nearest: None, .. } => Some("`hfs config list` shows every setting".into()),
            Self::Edit { .. } => Some("change the file in an editor".into()),
            Self::Triads { .. } => Some("`hfs config triads standard` prints one that is right".into()),
            _ => None,
        }
    }
}
