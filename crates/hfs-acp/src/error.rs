//! Errors of an agent's process and of the protocol that it speaks.

use std::time::Duration;

use hfs_core::{AgentError, ErrorExt, ErrorKind, Suggestion};

use crate::rpc::{MAX_LINE_BYTES, RpcError, RpcErrorCode};

/// Why an agent could not be started, or why its connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcpError {
    /// The agent's program cannot be run.
    #[error("cannot start {agent}: {program}: {message}")]
    Start {
        /// Name of the agent.
        agent: String,
        /// The program.
        program: String,
        /// The operating system's message.
        message: String,
    },
    /// The agent's process ended although its connection was in use.
    #[error("{agent} ended unexpectedly ({status}){}", last_output(.output.as_deref()))]
    Ended {
        /// Name of the agent.
        agent: String,
        /// How the process ended, such as `exit code 1`.
        status: String,
        /// The last lines that it wrote to its standard error, without secrets.
        output: Option<String>,
    },
    /// The agent did not answer a request in time.
    #[error("{agent} did not answer {method} within {} s{}", .limit.as_secs(), last_output(.output.as_deref()))]
    NoAnswer {
        /// Name of the agent.
        agent: String,
        /// Method of the request.
        method: &'static str,
        /// How long was waited.
        limit: Duration,
        /// The last lines that it wrote to its standard error, without secrets.
        output: Option<String>,
    },
    /// A line of the agent is longer than hfs reads.
    #[error("{agent} sent a line of more than {} MiB", MAX_LINE_BYTES >> 20)]
    LineTooLong {
        /// Name of the agent.
        agent: String,
    },
    /// The agent sent more updates than hfs keeps waiting.
    #[error("{agent} sent updates faster than they can be recorded: more than {bound} were waiting")]
    Flooded {
        /// Name of the agent.
        agent: String,
        /// The bound, with its unit.
        bound: String,
    },
    /// A line of the agent is not a message of the protocol.
    #[error("{agent} sent a message that cannot be read: {message}")]
    Malformed {
        /// Name of the agent.
        agent: String,
        /// What is wrong with it.
        message: String,
    },
    /// The agent answered a request with an error.
    #[error("{agent} answered {method} with an error: {error}")]
    Refused {
        /// Name of the agent.
        agent: String,
        /// Method of the request.
        method: &'static str,
        /// The error.
        error: RpcError,
    },
    /// The agent speaks only other versions of the protocol.
    #[error("{agent} speaks version {version} of the protocol, and hfs speaks version 1")]
    Version {
        /// Name of the agent.
        agent: String,
        /// The version that the agent offers.
        version: String,
    },
    /// The agent does not have the mode in which its sessions should begin.
    #[error("{agent} has no mode {mode:?}; it has {available}")]
    UnknownMode {
        /// Name of the agent.
        agent: String,
        /// The mode.
        mode: String,
        /// Its modes.
        available: String,
    },
    /// The connection was closed by hfs.
    #[error("the connection to {agent} is closed")]
    Closed {
        /// Name of the agent.
        agent: String,
    },
}

fn last_output(output: Option<&str>) -> String {
    output.map(|output| format!("; its last output: {output}")).unwrap_or_default()
}

impl AcpError {
    /// Name of the agent.
    #[must_use]
    pub fn agent(&self) -> &str {
        match self {
            Self::Start { agent, .. }
            | Self::Ended { agent, .. }
            | Self::NoAnswer { agent, .. }
            | Self::LineTooLong { agent }
            | Self::Flooded { agent, .. }
            | Self::Malformed { agent, .. }
            | Self::Refused { agent, .. }
            | Self::Version { agent, .. }
            | Self::UnknownMode { agent, .. }
            | Self::Closed { agent } => agent,
        }
    }

    /// Whether the agent wants the user to log in first.
    #[must_use]
    pub const fn needs_login(&self) -> bool {
        matches!(self, Self::Refused { error: RpcError { code: RpcErrorCode::AuthRequired, .. }, .. })
    }

    /// The message without the agent's name at its start, which an [`AgentError`] adds itself.
    fn message(&self) -> String {
        match self {
            Self::Start { program, message, .. } => format!("{program} cannot be started: {message}"),
            Self::Ended { status, output, .. } => {
                format!("its process ended ({status}){}", last_output(output.as_deref()))
            }
            Self::NoAnswer { method, limit, output, .. } => {
                let output = last_output(output.as_deref());
                format!("it did not answer {method} within {} s{output}", limit.as_secs())
            }
            Self::LineTooLong { .. } => {
                format!("it sent a line of more than {} MiB", MAX_LINE_BYTES >> 20)
            }
            Self::Flooded { bound, .. } => {
                format!("it sent updates faster than they can be recorded: more than {bound} were waiting")
            }
            Self::Malformed { message, .. } => message.clone(),
            Self::Refused { error, .. } => error.to_string(),
            Self::Version { version, .. } => {
                format!("it speaks version {version} of the protocol, and hfs speaks version 1")
            }
            Self::UnknownMode { mode, available, .. } => {
                format!("it has no mode {mode:?}; it has {available}")
            }
            Self::Closed { .. } => "its connection is closed".into(),
        }
    }
}

impl ErrorExt for AcpError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Start { .. }
            | Self::Ended { .. }
            | Self::NoAnswer { .. }
            | Self::LineTooLong { .. }
            | Self::Flooded { .. }
            | Self::Malformed { .. }
            | Self::Closed { .. } => ErrorKind::Unavailable,
            Self::Refused { error, .. } => match error.code {
                RpcErrorCode::AuthRequired => ErrorKind::Denied,
                RpcErrorCode::InvalidParams => ErrorKind::Invalid,
                RpcErrorCode::MethodNotFound => ErrorKind::Unsupported,
                RpcErrorCode::NotFound => ErrorKind::NotFound,
                RpcErrorCode::InvalidRequest
                | RpcErrorCode::ParseError
                | RpcErrorCode::Internal
                | RpcErrorCode::Other(_) => ErrorKind::Unavailable,
            },
            Self::Version { .. } => ErrorKind::Unsupported,
            Self::UnknownMode { .. } => ErrorKind::Invalid,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        let agent = self.agent().to_owned();
        match self {
            Self::Start { .. } | Self::Version { .. } | Self::UnknownMode { .. } => {
                Some(Suggestion::CheckAgent { agent })
            }
            Self::Refused { .. } if self.needs_login() => Some(Suggestion::CheckAgent { agent }),
            Self::Ended { .. }
            | Self::NoAnswer { .. }
            | Self::LineTooLong { .. }
            | Self::Flooded { .. }
            | Self::Malformed { .. }
            | Self::Refused { .. } => Some(Suggestion::ReadAgentLog { agent }),
            Self::Closed { .. } => Some(Suggestion::SendAgainLater),
        }
    }
}

impl From<AcpError> for AgentError {
    fn from(error: AcpError) -> Self {
        let (provider, message, suggestion) = (error.agent().to_owned(), error.message(), error.suggestion());
        match error.kind() {
            ErrorKind::Denied => Self::Denied { provider, message, suggestion },
            ErrorKind::Invalid | ErrorKind::Unsupported | ErrorKind::NotFound => {
                Self::Rejected { provider, message, suggestion }
            }
            _ if matches!(error, AcpError::Malformed { .. }) => Self::Malformed { provider, message },
            _ => Self::Unavailable { provider, message, retry_after: None, suggestion },
        }
    }
}
