//! What answers a message: the port behind which models live.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{
    AgentMemory, BranchId, DeltaKind, ErrorExt, ErrorKind, EventPayload, Message, Part, PassthroughFields,
    RunId, SessionId, Usage,
};

/// What an agent is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentDescription {
    /// `assistant`, `triads`, `recall`.
    pub name: String,
    /// The model behind it, if there is one.
    pub model: Option<String>,
    /// One line: what it is and why it was chosen.
    pub summary: String,
}

/// What an agent is asked.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The run that this is.
    pub run: RunId,
    /// The session it belongs to.
    pub session: SessionId,
    /// The branch it answers on.
    pub branch: BranchId,
    /// The conversation so far, oldest first, ending with the message to answer; as much of its end as the
    /// configured context allows.
    pub history: Vec<Message>,
    /// What each agent remembers from before, by agent id.
    pub memories: BTreeMap<String, AgentMemory>,
    /// Asks the agent to stop.
    pub cancel: CancellationToken,
}

/// Where an agent's doings go as they happen. Calls never wait for a disk or a subscriber.
pub trait RunSink: Send + Sync {
    /// Something happened. `run.started` and `run.ended` are the engine's own to say.
    fn event(&self, payload: EventPayload);

    /// The reply goes on with this text.
    fn reply(&self, kind: DeltaKind, text: &str);

    /// An agent's memory is now this. Captured by checkpoints from the next event on.
    fn remember(&self, agent: &str, memory: AgentMemory);
}

/// How a run came out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunOutcome {
    /// The whole reply. Text and thinking are what was streamed; further parts (tool calls, opaque ones) may
    /// stand among them.
    pub parts: Vec<Part>,
    /// The model that replied.
    pub model: Option<String>,
    /// What it cost in all.
    pub usage: Option<Usage>,
    /// What to keep with the reply (a stop reason, references).
    pub extra: PassthroughFields,
}

/// Why an agent did not finish. What had been streamed by then is kept, marked as interrupted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// It was asked to stop.
    #[error("the reply was cancelled")]
    Cancelled,
    /// No key, or a refused one.
    #[error("{provider} refused the request: {message}")]
    Denied {
        /// The provider.
        provider: String,
        /// What it said, without any secret.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The provider does not understand the request (an unknown model, too long a context ...).
    #[error("{provider} rejected the request: {message}")]
    Rejected {
        /// The provider.
        provider: String,
        /// What it said, without any secret.
        message: String,
    },
    /// The provider is overloaded, unreachable or broke off, also after retries.
    #[error("{provider} is not available: {message}")]
    Unavailable {
        /// The provider.
        provider: String,
        /// What was seen, without any secret.
        message: String,
        /// When it asked to be tried again.
        retry_after: Option<Duration>,
    },
    /// What came back makes no sense.
    #[error("{provider} sent an answer that cannot be read: {message}")]
    Malformed {
        /// The provider.
        provider: String,
        /// What was seen.
        message: String,
    },
    /// A fault of ours.
    #[error("the agent failed: {message}")]
    Internal {
        /// What happened.
        message: String,
    },
}

impl ErrorExt for AgentError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Cancelled | Self::Unavailable { .. } | Self::Malformed { .. } => ErrorKind::Unavailable,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Rejected { .. } => ErrorKind::Invalid,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Denied { hint, .. } => Some(hint.clone()),
            Self::Unavailable { .. } | Self::Malformed { .. } => {
                Some("your message is saved; send it again when the provider is back".into())
            }
            _ => None,
        }
    }
}

/// Something that answers messages.
#[async_trait]
pub trait Agent: Send + Sync {
    /// What it is.
    fn describe(&self) -> AgentDescription;

    /// Answers the newest message of `request.history`, streaming into `sink`.
    ///
    /// Returns within 200 ms of a cancel. Dropping the future stops it, too.
    ///
    /// # Errors
    /// See [`AgentError`].
    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError>;
}
