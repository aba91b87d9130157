//! The agent port: agents answer messages.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{
    AgentMemory, BranchId, ContextLimit, ErrorExt, ErrorKind, EventPayload, Message, ModelContext, Part,
    PassthroughFields, ReplyDelta, Role, RunId, SessionId, Source, Suggestion, Usage,
};

/// Human-readable description of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentDescription {
    /// Name of the agent, such as `assistant`, `triads` or `recall`.
    pub name: String,
    /// Model that the agent uses, if any.
    pub model: Option<String>,
    /// One line that says what the agent is and why it was selected.
    pub summary: String,
    /// Whether it looks at pictures in messages. A model may still refuse them.
    pub sees_images: bool,
    /// Context of the model, as far as it is known without asking the server; see [`Agent::context_limit`].
    pub context: ModelContext,
}

impl AgentDescription {
    /// Describes an agent without a model.
    pub fn new(name: impl Into<String>, summary: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            model: None,
            summary: summary.into(),
            sees_images: false,
            context: ModelContext::Unused,
        }
    }

    /// Sets the context of the model.
    #[must_use]
    pub const fn with_context(mut self, context: ModelContext) -> Self {
        self.context = context;
        self
    }

    /// Sets the model.
    #[must_use]
    pub fn with_model(mut self, model: Option<String>) -> Self {
        self.model = model;
        self
    }

    /// Sets whether the agent looks at pictures.
    #[must_use]
    pub fn with_images(mut self, sees_images: bool) -> Self {
        self.sees_images = sees_images;
        self
    }
}

/// Input of one run of an agent.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RunRequest {
    /// Run id.
    pub run: RunId,
    /// Session of the run.
    pub session: SessionId,
    /// Branch that receives the reply.
    pub branch: BranchId,
    /// The newest messages of the branch that fit the configured context, oldest first. The last one is the
    /// message to answer.
    pub history: Vec<Message>,
    /// Memory of each agent from earlier runs, by agent id.
    pub memories: BTreeMap<String, AgentMemory>,
    /// Cancelled when the user stops the run.
    pub cancel: CancellationToken,
}

impl RunRequest {
    /// A request to answer the last message of `history`, without memories and with a cancellation token of its own.
    #[must_use]
    pub fn new(run: RunId, session: SessionId, branch: BranchId, history: Vec<Message>) -> Self {
        Self { run, session, branch, history, memories: BTreeMap::new(), cancel: CancellationToken::new() }
    }

    /// Sets the memories from earlier runs.
    #[must_use]
    pub fn with_memories(mut self, memories: BTreeMap<String, AgentMemory>) -> Self {
        self.memories = memories;
        self
    }

    /// Sets the token that stops the run.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }
}

/// Receives the events and the messages of a run while it is in progress. Their order is kept. Only
/// [`persist`](Self::persist) waits for a disk.
///
/// A run writes one message at first, the reply. An agent that uses tools writes a turn of several messages, the same
/// ones as in its own transcript: text and calls, results, more text. See [`next_message`](Self::next_message).
#[async_trait]
pub trait RunSink: Send + Sync {
    /// Records an event. The engine itself emits `run.started` and `run.ended`. A checkpoint of the event contains the
    /// messages of the turn that are complete.
    fn event(&self, payload: EventPayload);

    /// Continues the message that is being written.
    fn reply(&self, delta: ReplyDelta);

    /// Adds a whole part to the message that is being written: a tool call, a result, an attachment, anything else. A
    /// call or a result replaces that of the same id; of a result whose output begins like the earlier one, only the rest
    /// is stored. Bytes of attachments must be stored already.
    fn part(&self, part: Part) {
        self.reply(ReplyDelta::Part(part));
    }

    /// Completes the message that is being written, and begins the next one of the turn. A message without any part
    /// is not stored: the next one takes its place, and a turn may end with one.
    fn next_message(&self, completed: CompletedMessage, next: Role);

    /// Waits until everything before this call is durable.
    ///
    /// # Errors
    /// Returns the store's error. The engine continues to retry.
    async fn persist(&self) -> Result<(), NotPersisted>;

    /// Replaces the memory of `agent`. Checkpoints at later events contain it.
    fn remember(&self, agent: &str, memory: AgentMemory);
}

/// The messages of a run could not be saved yet.
#[derive(Debug, Clone, thiserror::Error)]
#[error("what the agent did cannot be saved: {reason}")]
pub struct NotPersisted {
    /// The store's error.
    pub reason: String,
}

/// A message of a turn that the agent has completed.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct CompletedMessage {
    /// The whole message; if empty, what was streamed.
    pub parts: Vec<Part>,
    /// Model that wrote it.
    pub model: Option<String>,
    /// Tokens, if known.
    pub usage: Option<Usage>,
    /// Fields to keep with the message, such as a stop reason or references.
    pub extra: PassthroughFields,
    /// The message in the agent's own transcript, so that an import of it finds this one.
    pub source: Option<Source>,
}

impl CompletedMessage {
    /// A message of these parts.
    #[must_use]
    pub fn new(parts: Vec<Part>) -> Self {
        Self { parts, ..Self::default() }
    }

    /// The message as it was streamed.
    #[must_use]
    pub fn streamed() -> Self {
        Self::default()
    }

    /// Sets the model that wrote it.
    #[must_use]
    pub fn with_model(mut self, model: Option<String>) -> Self {
        self.model = model;
        self
    }

    /// Sets its tokens.
    #[must_use]
    pub fn with_usage(mut self, usage: Option<Usage>) -> Self {
        self.usage = usage;
        self
    }

    /// Sets the fields to keep with it.
    #[must_use]
    pub fn with_extra(mut self, extra: PassthroughFields) -> Self {
        self.extra = extra;
        self
    }

    /// Sets the message in the agent's own transcript.
    #[must_use]
    pub fn with_source(mut self, source: Option<Source>) -> Self {
        self.source = source;
        self
    }
}

impl From<Vec<Part>> for CompletedMessage {
    fn from(parts: Vec<Part>) -> Self {
        Self::new(parts)
    }
}

/// Result of a run that ended with a reply.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct RunOutcome {
    /// The last message of the turn. The usage of an agent that writes one message is that of the whole run.
    pub message: CompletedMessage,
    /// Why the reply is not whole, if it is not. It is saved as interrupted.
    pub incomplete: Option<IncompleteReply>,
}

impl RunOutcome {
    /// A run that ended with this message.
    #[must_use]
    pub fn new(message: impl Into<CompletedMessage>) -> Self {
        Self { message: message.into(), incomplete: None }
    }

    /// Sets why the reply is not whole.
    #[must_use]
    pub fn with_incomplete(mut self, incomplete: Option<IncompleteReply>) -> Self {
        self.incomplete = incomplete;
        self
    }
}

/// Why a reply is not whole although its provider ended it in an orderly way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IncompleteReason {
    /// The maximum length was reached.
    Length,
    /// The maximum number of requests to the model in a turn was reached.
    TurnRequests,
    /// A filter of the provider stopped it.
    ContentFilter,
    /// The model refused to answer.
    Refusal,
    /// The provider stopped it because of an error.
    Failure,
    /// It consists of thinking only.
    OnlyThinking,
    /// Agents that work together failed, and the reply consists of their unfinished work.
    AgentsLost,
}

/// A reply that ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncompleteReply {
    /// Name of the provider.
    pub provider: String,
    /// Why the reply is not whole.
    pub reason: IncompleteReason,
    /// The provider's own words for it.
    pub stop_reason: Option<String>,
}

impl fmt::Display for IncompleteReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { provider, reason, stop_reason } = self;
        match reason {
            IncompleteReason::Length => write!(f, "{provider} cut the reply at its maximum length")?,
            IncompleteReason::TurnRequests => {
                write!(f, "{provider} ended the turn at its maximum number of requests")?;
            }
            IncompleteReason::ContentFilter => write!(f, "a content filter of {provider} stopped the reply")?,
            IncompleteReason::Refusal => write!(f, "the model of {provider} refused to answer")?,
            IncompleteReason::Failure => write!(f, "{provider} stopped the reply because of an error")?,
            IncompleteReason::OnlyThinking => write!(f, "{provider} sent only thinking and no reply")?,
            IncompleteReason::AgentsLost => write!(f, "{provider} could not finish the reply")?,
        }
        match stop_reason {
            Some(words) => write!(f, " ({words})"),
            None => Ok(()),
        }
    }
}

/// Why a run ended without a complete reply. The text streamed before is kept, marked as interrupted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The user cancelled the run.
    #[error("the reply was cancelled")]
    Cancelled,
    /// The API key is missing or was refused.
    #[error("{provider} refused the request: {message}")]
    Denied {
        /// Name of the provider.
        provider: String,
        /// The provider's message, without any secret.
        message: String,
        /// What the user can do.
        suggestion: Option<Suggestion>,
    },
    /// The provider rejected the request, for example an unknown model or a context that is too long.
    #[error("{provider} rejected the request: {message}")]
    Rejected {
        /// Name of the provider.
        provider: String,
        /// The provider's message, without any secret.
        message: String,
        /// What the user can do.
        suggestion: Option<Suggestion>,
    },
    /// A request cannot be sent with these settings.
    #[error("{provider} cannot be asked: {message}")]
    Misconfigured {
        /// Name of the provider.
        provider: String,
        /// The setting that is wrong, and what it should be.
        message: String,
    },
    /// After all retries, the provider is still overloaded or unreachable, or closes the connection.
    #[error("{provider} is not available: {message}")]
    Unavailable {
        /// Name of the provider.
        provider: String,
        /// The provider's message or the network error, without any secret.
        message: String,
        /// How long the provider asked to wait before the next attempt.
        retry_after: Option<Duration>,
        /// What the user can do; `None` for waiting.
        suggestion: Option<Suggestion>,
    },
    /// The provider ended the reply early.
    #[error("{0}")]
    Incomplete(IncompleteReply),
    /// The provider's response could not be parsed.
    #[error("{provider} sent an answer that cannot be read: {message}")]
    Malformed {
        /// Name of the provider.
        provider: String,
        /// What is wrong with the response.
        message: String,
    },
    /// The agent stopped, because what it did could not be saved.
    #[error(transparent)]
    NotPersisted(#[from] NotPersisted),
    /// A bug in the agent.
    #[error("the agent failed: {message}")]
    Internal {
        /// What happened.
        message: String,
    },
}

impl AgentError {
    /// Whether the model refused the conversation because it is too long.
    #[must_use]
    pub const fn is_context_refusal(&self) -> bool {
        matches!(self, Self::Rejected { suggestion: Some(Suggestion::ReduceContext), .. })
    }
}

impl ErrorExt for AgentError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Cancelled | Self::Unavailable { .. } | Self::Malformed { .. } | Self::NotPersisted(_) => {
                ErrorKind::Unavailable
            }
            Self::Incomplete(incomplete) => match incomplete.reason {
                IncompleteReason::ContentFilter | IncompleteReason::Refusal => ErrorKind::Denied,
                IncompleteReason::Length
                | IncompleteReason::TurnRequests
                | IncompleteReason::Failure
                | IncompleteReason::OnlyThinking
                | IncompleteReason::AgentsLost => ErrorKind::Unavailable,
            },
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Rejected { .. } | Self::Misconfigured { .. } => ErrorKind::Invalid,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::Denied { suggestion, .. } | Self::Rejected { suggestion, .. } => suggestion.clone(),
            Self::Unavailable { suggestion, .. } => {
                Some(suggestion.clone().unwrap_or(Suggestion::SendAgainLater))
            }
            Self::Incomplete(incomplete) => Some(match incomplete.reason {
                IncompleteReason::Length => Suggestion::RaiseMaxTokens,
                IncompleteReason::ContentFilter | IncompleteReason::Refusal => Suggestion::RephraseMessage,
                IncompleteReason::TurnRequests
                | IncompleteReason::Failure
                | IncompleteReason::OnlyThinking => Suggestion::SendAgainLater,
                IncompleteReason::AgentsLost => Suggestion::ShowRun,
            }),
            Self::Malformed { .. } | Self::NotPersisted(_) => Some(Suggestion::SendAgainLater),
            Self::Cancelled | Self::Misconfigured { .. } | Self::Internal { .. } => None,
        }
    }
}

/// Answers messages: a model, several models that work together, or a search over saved sessions.
#[async_trait]
pub trait Agent: Send + Sync {
    /// Describes the agent.
    fn describe(&self) -> AgentDescription;

    /// Answers the last message of `request.history` and streams the reply into `sink`.
    ///
    /// Returns within 200 ms after `request.cancel` is cancelled. Dropping the future stops the run as well.
    ///
    /// # Errors
    /// See [`AgentError`].
    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError>;

    /// Ends what the agent has started, such as a process of its own, in an orderly way. Takes a few seconds at most. The
    /// agent starts it again when it is needed.
    async fn close(&self) {}

    /// The limit of the model's context. May ask the server, which takes a few seconds at most. `None` if the limit is not
    /// known, or if the agent uses no model.
    async fn context_limit(&self) -> Option<ContextLimit> {
        self.describe().context.limit()
    }

    /// Summarizes the messages of `request.history`, so that the summary can replace them in the model's context.
    ///
    /// # Errors
    /// `Rejected` if the agent sends no conversation to a model. See [`AgentError`].
    async fn summarize(&self, request: RunRequest) -> Result<RunOutcome, AgentError> {
        let _ = request;
        let AgentDescription { name, .. } = self.describe();
        let message = "it sends no conversation to a model, so there is nothing to compact".to_owned();
        Err(AgentError::Rejected { provider: name, message, suggestion: None })
    }
}
