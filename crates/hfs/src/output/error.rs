//! `CliError`, the error type of all commands, with its exit codes and its JSON form.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use hfs_core::{AgentError, ErrorExt, ErrorKind, ImportError, StoreError, error_sources};
use hfs_engine::{CompactError, EngineError, SendError};
use hfs_mcp::McpError;
use hfs_plugins::PluginError;
use hfs_tui::TuiError;
use serde::Serialize;

use crate::config::ConfigError;
use crate::output::suggestions;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Compact(#[from] CompactError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Terminal(#[from] TuiError),
    #[error(transparent)]
    Plugin(#[from] PluginError),
    #[error(transparent)]
    Mcp(#[from] McpError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// `action` completes the sentence "cannot ...".
    #[error("cannot {action}")]
    Io { action: String, source: io::Error },
    /// A failure that the binary itself detects.
    #[error("{message}")]
    Custom { kind: ErrorKind, message: String, hint: Option<String> },
    /// An error that follows from settings; `settings` names them and says how to unset them.
    #[error("{error}")]
    FromSettings { error: Box<Self>, settings: String },
    /// A mistake in the command line that clap cannot detect.
    #[error("{message}")]
    Usage { message: String, hint: String },
    /// The reader of standard output has closed it. Not reported, and the exit code is 0.
    #[error("standard output was closed")]
    ClosedPipe,
}

/// How a command ended if it returned no `CliError`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// The command finished, and has already reported failures. The kind selects the exit code.
    WithFailures(ErrorKind),
    /// The user interrupted the command. Everything up to then is saved.
    Interrupted,
    /// This signal ended the terminal app. Everything up to then is saved.
    Terminated(i32),
}

/// Exit code after Ctrl-C: 128 + SIGINT, as shells report it.
pub const EXIT_INTERRUPTED: u8 = 130;
/// Exit code for a mistake in the command line.
pub const EXIT_USAGE: u8 = 2;

/// The exit code of a kind of error.
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
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::WithFailures(kind) => ExitCode::from(exit_code(kind)),
            Self::Interrupted => ExitCode::from(EXIT_INTERRUPTED),
            // As shells report it.
            Self::Terminated(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
        }
    }
}

/// An error as `--json` prints it. Scripts depend on the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorDocument {
    /// `usage`, or the name of an `ErrorKind`.
    pub kind: &'static str,
    /// What was attempted, on what.
    pub message: String,
    /// Messages of the underlying errors, outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What the user can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl ErrorDocument {
    /// The document of a library's error.
    pub fn new(error: &(impl ErrorExt + 'static)) -> Self {
        Self::build(error.kind().as_str(), error, suggestions::hint(error))
    }

    fn build(kind: &'static str, error: &(dyn Error + 'static), hint: Option<String>) -> Self {
        // Errors name addresses, and an address may contain a password.
        let shown = |text: String| hfs_secrets::mask_addresses(&text).into_owned();
        Self {
            kind,
            message: shown(error.to_string()),
            causes: error_sources(error).into_iter().map(shown).collect(),
            hint: hint.map(shown),
        }
    }

    /// The message and its causes, joined by colons.
    pub fn one_line(&self) -> String {
        std::iter::once(&self.message).chain(&self.causes).map(String::as_str).collect::<Vec<_>>().join(": ")
    }
}

impl CliError {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::Custom { kind, message: message.into(), hint: None }
    }

    /// An error with a hint.
    pub fn with_hint(kind: ErrorKind, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Custom { kind, message: message.into(), hint: Some(hint.into()) }
    }

    /// An I/O error. `action` completes the sentence "cannot ...".
    pub fn io(action: impl Into<String>, source: io::Error) -> Self {
        Self::Io { action: action.into(), source }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::Usage { .. } => EXIT_USAGE,
            Self::Agent(AgentError::Cancelled)
            | Self::Compact(CompactError::Agent(AgentError::Cancelled)) => EXIT_INTERRUPTED,
            Self::FromSettings { error, .. } => error.exit_code(),
            other => exit_code(other.kind()),
        }
    }

    /// The error as `--json` prints it.
    pub fn document(&self) -> ErrorDocument {
        if let Self::FromSettings { error, settings } = self {
            let document = error.document();
            let hint = document.hint.into_iter().chain([settings.clone()]).collect::<Vec<_>>().join("; ");
            return ErrorDocument { hint: Some(hint), ..document };
        }
        let kind = if matches!(self, Self::Usage { .. }) { "usage" } else { self.kind().as_str() };
        let mut document = ErrorDocument::build(kind, self, self.hint());
        if let Self::Config(error) = self {
            let details = error.details();
            document
                .causes
                .extend(details.iter().map(|detail| hfs_secrets::mask_addresses(detail).into_owned()));
        }
        document
    }

    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Import(error) => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::Send(error) => error.kind(),
            Self::Compact(error) => error.kind(),
            Self::Agent(error) => error.kind(),
            Self::Terminal(error) => error.kind(),
            Self::Plugin(error) => error.kind(),
            Self::Mcp(error) => error.kind(),
            Self::Config(error) => error.kind(),
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                io::ErrorKind::AlreadyExists => ErrorKind::Conflict,
                io::ErrorKind::InvalidData => ErrorKind::Invalid,
                _ => ErrorKind::Unavailable,
            },
            Self::Custom { kind, .. } => *kind,
            Self::FromSettings { error, .. } => error.kind(),
            Self::Usage { .. } => ErrorKind::Invalid,
            Self::ClosedPipe => ErrorKind::Unavailable,
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => suggestions::hint(error),
            Self::Import(error) => suggestions::hint(error),
            Self::Engine(error) => suggestions::hint(error),
            Self::Send(error) => suggestions::hint(error),
            Self::Compact(error) => suggestions::hint(error),
            Self::Agent(error) => suggestions::hint(error),
            Self::Terminal(error) => suggestions::hint(error),
            Self::Plugin(error) => suggestions::hint(error),
            Self::Mcp(error) => suggestions::hint(error),
            Self::Config(error) => error.hint(),
            Self::Custom { hint, .. } => hint.clone(),
            Self::FromSettings { error, .. } => error.hint(),
            Self::Usage { hint, .. } => Some(hint.clone()),
            Self::Io { .. } | Self::ClosedPipe => None,
        }
    }
}
