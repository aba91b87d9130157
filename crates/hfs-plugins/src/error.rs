//! Why something about plugins did not work.

use std::io;
use std::path::PathBuf;

use hfs_core::{ErrorExt, ErrorKind, Suggestion};

/// Why something about plugins did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// There is no such plugin.
    #[error("there is no plugin {name:?}")]
    NoPlugin {
        /// What was asked for.
        name: String,
    },
    /// No plugin has such a command.
    #[error("no plugin has a command {name:?}")]
    NoCommand {
        /// What was asked for.
        name: String,
    },
    /// Several plugins have such a command.
    #[error("several plugins have a command {name:?}: {}", choices.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// What it may mean.
        choices: Vec<String>,
    },
    /// The plugin cannot run as it is.
    #[error("plugin {name} does not run: it is {state}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    NotActive {
        /// The plugin.
        name: String,
        /// Its state.
        state: &'static str,
        /// Why it is in that state.
        reason: String,
    },
    /// The plugin did something that it must not, or too much of it, and was stopped.
    #[error("plugin {name} was stopped in {call}: {reason}")]
    Stopped {
        /// The plugin.
        name: String,
        /// What it was doing.
        call: String,
        /// Why it was stopped.
        reason: String,
    },
    /// The plugin is busy with something else.
    #[error("plugin {name} is still busy with something else")]
    Busy {
        /// The plugin.
        name: String,
    },
    /// The plugin says that something went wrong.
    #[error("plugin {name}: {message}")]
    Failed {
        /// The plugin.
        name: String,
        /// What it says, on one line.
        message: String,
    },
    /// A file is no interpreter of this version's.
    #[error("{} is no interpreter for this hfs: {message}", path.display())]
    Interpreter {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A file about plugins makes no sense.
    #[error("{}: {message}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with the line.
        message: String,
    },
    /// The system says why.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The runtime cannot be had.
    #[error("the plugin runtime cannot be started: {message}")]
    Runtime {
        /// Why not.
        message: String,
    },
}

impl PluginError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}

impl ErrorExt for PluginError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoPlugin { .. } | Self::NoCommand { .. } => ErrorKind::NotFound,
            Self::Ambiguous { .. } => ErrorKind::Conflict,
            Self::NotActive { .. } => ErrorKind::Denied,
            Self::Stopped { .. } | Self::Busy { .. } | Self::Failed { .. } => ErrorKind::Unavailable,
            Self::BadFile { .. } | Self::Interpreter { .. } => ErrorKind::Invalid,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                _ => ErrorKind::Unavailable,
            },
            Self::Runtime { .. } => ErrorKind::Internal,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::NoPlugin { .. } | Self::NoCommand { .. } => Some(Suggestion::ListPlugins),
            Self::NotActive { name, state, .. } => match *state {
                "pending" => Some(Suggestion::ReviewPlugin { plugin: name.clone() }),
                "denied" => Some(Suggestion::ApprovePlugin { plugin: name.clone() }),
                "disabled" | "quarantined" => Some(Suggestion::EnablePlugin { plugin: name.clone() }),
                _ => None,
            },
            Self::Stopped { name, .. } | Self::Failed { name, .. } => {
                Some(Suggestion::ShowPluginLog { plugin: name.clone() })
            }
            _ => None,
        }
    }
}
