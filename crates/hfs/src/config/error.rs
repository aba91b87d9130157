//! Errors of reading and changing the configuration.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use hfs_agents::TriadsConfigError;
use hfs_core::ErrorKind;

use super::secret::SecretReason;

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueOrigin {
    File {
        path: PathBuf,
        /// Counts from 1; 0 if unknown.
        line: u64,
    },
    /// An environment variable.
    Variable(&'static str),
    /// The name of an option or argument.
    CommandLine(&'static str),
    /// Built in.
    Default,
}

impl ValueOrigin {
    /// Whether the value is one of the command line.
    pub const fn is_command_line(&self) -> bool {
        match self {
            Self::CommandLine(_) => true,
            Self::File { .. } | Self::Variable(_) | Self::Default => false,
        }
    }

    /// The value in `hfs config set KEY VALUE`.
    pub const ARGUMENT: Self = Self::CommandLine("VALUE");

    /// The beginning of a message about a value. The user has just typed an argument, so it is not named.
    fn prefix(&self) -> String {
        if *self == Self::ARGUMENT { String::new() } else { format!("{self}: ") }
    }
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => path.display().fmt(f),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) | Self::CommandLine(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Why the configuration cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write the configuration {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// A file is not YAML, or not a mapping.
    #[error("{}{message}", origin.prefix())]
    Syntax { origin: ValueOrigin, message: String },
    #[error("{}{key} is {found}; expected {expected}", origin.prefix())]
    InvalidValue { origin: ValueOrigin, key: String, found: String, expected: String },
    /// A value that looks like a secret. The message does not repeat it.
    #[error("{}{key} is refused: {reason}", origin.prefix())]
    Secret { origin: ValueOrigin, key: String, reason: SecretReason },
    #[error("there is no setting {key:?}")]
    UnknownKey { key: String, most_similar: Option<&'static str> },
    /// A configuration file of triads is not valid.
    #[error("{}", summarize(path, problems))]
    Triads { path: PathBuf, problems: TriadsConfigError },
    /// A key cannot be changed without changing other parts of the file.
    #[error("cannot change {key} in {} without changing other settings: {reason}", path.display())]
    Edit { path: PathBuf, key: String, reason: String },
}

impl ConfigError {
    /// The message with its cause, for a warning on one line.
    pub fn with_cause(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }

    /// The individual problems of a file, each with its line; empty if the message already says everything.
    pub fn details(&self) -> Vec<String> {
        match self {
            Self::Triads { path, problems } if problems.problems.len() > 1 => with_lines(path, problems),
            _ => Vec::new(),
        }
    }

    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            },
            Self::Syntax { .. } | Self::InvalidValue { .. } | Self::Edit { .. } | Self::Triads { .. } => {
                ErrorKind::Invalid
            }
            Self::Secret { .. } => ErrorKind::Denied,
            Self::UnknownKey { .. } => ErrorKind::NotFound,
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Secret { .. } => Some(
                "keep keys out of files: set an environment variable such as OPENAI_API_KEY or ANTHROPIC_API_KEY"
                    .into(),
            ),
            Self::UnknownKey { most_similar: Some(name), .. } => Some(format!("did you mean {name}?")),
            Self::UnknownKey { most_similar: None, .. } => {
                Some("`hfs config list` shows every setting".into())
            }
            Self::Edit { .. } => Some("change the file in an editor".into()),
            Self::Triads { .. } => Some("`hfs config triads standard` prints a valid configuration".into()),
            Self::InvalidValue { origin: ValueOrigin::File { .. }, key, .. } => {
                Some(format!("correct it: hfs config set {key} VALUE; or remove it: hfs config unset {key}"))
            }
            Self::InvalidValue { origin: ValueOrigin::Variable(name), .. } => {
                Some(format!("change or unset the variable {name}"))
            }
            Self::Syntax { origin: ValueOrigin::File { path, .. }, .. } => {
                Some(format!("correct {} in an editor", path.display()))
            }
            Self::Read { .. }
            | Self::Write { .. }
            | Self::Syntax { .. }
            | Self::InvalidValue { .. } => None,
        }
    }
}

/// A single problem is shown in full with its line, so that editors can jump to it. Several problems are counted.
fn summarize(path: &Path, error: &TriadsConfigError) -> String {
    match with_lines(path, error).as_slice() {
        [only] => only.clone(),
        problems => format!("{} has {} mistakes", path.display(), problems.len()),
    }
}

fn with_lines(path: &Path, error: &TriadsConfigError) -> Vec<String> {
    let problems = error.problems.iter().map(|problem| {
        let origin = ValueOrigin::File { path: path.to_owned(), line: problem.line.unwrap_or(0) };
        let key = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
        format!("{origin}: {key}{}", problem.message)
    });
    problems.collect()
}
