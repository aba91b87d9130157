//! The one door through which errors reach people and scripts.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use hfs_core::{AgentError, ErrorExt, ErrorKind, ImportError, StoreError, Suggestion};
use hfs_engine::{EngineError, SendError};
use hfs_plugins::PluginError;
use hfs_tui::TuiError;
use serde::Serialize;

use crate::config::ConfigError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The store says why.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The reader of a transcript says why.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The use case says why.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The exchange says why.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The agent says why.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The terminal says why.
    #[error(transparent)]
    Terminal(#[from] TuiError),
    /// The plugins say why.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// The configuration says why.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The system says why.
    #[error("cannot {action}")]
    Io {
        /// What was tried, on what.
        action: String,
        /// Why not.
        source: io::Error,
    },
    /// What was asked for makes no sense, or not now.
    #[error("{message}")]
    Refused {
        /// Which kind of failure this is.
        kind: ErrorKind,
        /// What was asked for and why it cannot be.
        message: String,
        /// What to do instead.
        hint: Option<String>,
    },
    /// The command line makes no sense in a way that its parser cannot see.
    #[error("{message}")]
    Usage {
        /// What is wrong with it.
        message: String,
        /// What to type instead.
        hint: String,
    },
    /// Whoever reads our output has seen enough.
    #[error("the output was closed")]
    ClosedPipe,
}

/// What a command that did not fail has to tell its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All done.
    Done,
    /// Done, but for what was reported with this kind of failure.
    Partly(ErrorKind),
    /// Ended by the user; what was there by then is saved.
    Interrupted,
}

/// The exit code of a process that the user stopped.
pub const EXIT_INTERRUPTED: u8 = 130;
/// The exit code for a command line that makes no sense.
pub const EXIT_USAGE: u8 = 2;

/// The exit code of a kind of failure.
pub const fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::NotFound => 3,
        ErrorKind::Conflict => 4,
        ErrorKind::Denied => 5,
        ErrorKind::Invalid => 6,
        ErrorKind::Corrupt => 7,
        ErrorKind::Unavailable => 8,
        ErrorKind::Unsupported => 9,
        _ => 1,
    }
}

impl Outcome {
    /// What the process returns.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::Partly(kind) => ExitCode::from(exit_code(kind)),
            Self::Interrupted => ExitCode::from(EXIT_INTERRUPTED),
        }
    }
}

/// An error as `--json` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorDocument {
    /// The kind of failure.
    pub kind: &'static str,
    /// What was tried, on what.
    pub message: String,
    /// Why it failed, outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Failure {
    /// Cannot do `action`, because of `source`.
    pub fn io(action: impl Into<String>, source: io::Error) -> Self {
        Self::Io { action: action.into(), source }
    }

    /// What the process returns.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::Usage { .. } => EXIT_USAGE,
            Self::Agent(AgentError::Cancelled) => EXIT_INTERRUPTED,
            other => exit_code(other.kind()),
        }
    }

    /// The error as data.
    pub fn document(&self) -> ErrorDocument {
        let kind = if matches!(self, Self::Usage { .. }) { "usage" } else { self.kind().as_str() };
        let mut document = document(kind, self, self.hint());
        if let Self::Config(error) = self {
            document.causes.extend(error.details());
        }
        document
    }
}

/// Any error of ours as data.
pub fn describe(error: &(impl ErrorExt + 'static)) -> ErrorDocument {
    document(error.kind().as_str(), error, error.suggestion().as_ref().map(crate::suggestion::hint))
}

fn document(kind: &'static str, error: &(dyn Error + 'static), hint: Option<String>) -> ErrorDocument {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        // Some libraries repeat their cause in their own message.
        if causes.last().is_none_or(|last: &String| !last.ends_with(&text)) {
            causes.push(text);
        }
        cause = next.source();
    }
    ErrorDocument { kind, message: error.to_string(), causes, hint }
}

impl ErrorExt for Failure {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Import(error) => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::Send(error) => error.kind(),
            Self::Agent(error) => error.kind(),
            Self::Config(error) => error.kind(),
            Self::Terminal(error) => error.kind(),
            Self::Plugin(error) => error.kind(),
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
                io::ErrorKind::InvalidData => ErrorKind::Invalid,
                _ => ErrorKind::Unavailable,
            },
            Self::Refused { kind, .. } => *kind,
            Self::Usage { .. } => ErrorKind::Invalid,
            Self::ClosedPipe => ErrorKind::Unavailable,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::Store(error) => error.suggestion(),
            Self::Import(error) => error.suggestion(),
            Self::Engine(error) => error.suggestion(),
            Self::Send(error) => error.suggestion(),
            Self::Agent(error) => error.suggestion(),
            Self::Terminal(error) => error.suggestion(),
            Self::Plugin(error) => error.suggestion(),
            Self::Config(_)
            | Self::Refused { .. }
            | Self::Usage { .. }
            | Self::Io { .. }
            | Self::ClosedPipe => None,
        }
    }
}

impl Failure {
    /// What to do about it.
    fn hint(&self) -> Option<String> {
        match self {
            Self::Config(error) => error.hint(),
            Self::Refused { hint, .. } => hint.clone(),
            Self::Usage { hint, .. } => Some(hint.clone()),
            other => other.suggestion().as_ref().map(crate::suggestion::hint),
        }
    }
}
