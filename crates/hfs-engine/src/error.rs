use hfs_core::{
    AgentError, ErrorExt, ErrorKind, MessageDraft, OperationKind, Seq, SessionId, StoreError, Suggestion,
};

/// Error of an engine operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no operation to undo or redo.
    #[error("there is nothing to {direction}{}", pruned_note(*skipped_prune))]
    NothingToReverse {
        /// `Undo` or `Redo`.
        direction: OperationKind,
        /// Whether deletions of checkpoints, which cannot be undone, were skipped.
        skipped_prune: bool,
    },
    /// The next operation to undo is of a kind that cannot be undone: the session's creation or import.
    #[error(
        "there is nothing more to {direction}: {operation} is the session's first operation{}",
        pruned_note(*skipped_prune)
    )]
    NotReversible {
        /// `Undo` or `Redo`.
        direction: OperationKind,
        /// The operation that was reached.
        operation: OperationKind,
        /// Session of the operation.
        session: SessionId,
        /// Whether deletions of checkpoints, which cannot be undone, were skipped.
        skipped_prune: bool,
    },
    /// The branch has no message with this number.
    #[error("there is no message {seq}: the branch {branch} ends at message {head}")]
    NoMessage {
        /// The number.
        seq: Seq,
        /// Name of the branch.
        branch: String,
        /// Number of its newest message.
        head: Seq,
    },
    /// The conversation has no messages, so it cannot have a checkpoint or a reply.
    #[error("the conversation has no messages yet")]
    EmptyConversation,
    /// The asynchronous runtime of a [`BlockingEngine`](crate::BlockingEngine) could not be started.
    #[error("cannot start the asynchronous runtime")]
    Runtime {
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// Work on a blocking thread panicked or was cancelled.
    #[error("a background task of hfs failed: {message}")]
    Background {
        /// Description of the failure.
        message: String,
    },
}

fn pruned_note(skipped_prune: bool) -> &'static str {
    if skipped_prune { "; a deleted checkpoint cannot be restored" } else { "" }
}

impl ErrorExt for EngineError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::NoMessage { .. } => ErrorKind::NotFound,
            Self::NothingToReverse { .. } | Self::NotReversible { .. } | Self::EmptyConversation => {
                ErrorKind::Conflict
            }
            Self::Runtime { .. } => ErrorKind::Unavailable,
            Self::Background { .. } => ErrorKind::Internal,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::Store(error) => error.suggestion(),
            Self::NotReversible { session, .. } => Some(Suggestion::TrashSession(*session)),
            Self::NothingToReverse { .. }
            | Self::NoMessage { .. }
            | Self::EmptyConversation
            | Self::Runtime { .. }
            | Self::Background { .. } => None,
        }
    }
}

/// Error of sending a message or saving its reply.
///
/// A failing agent does not cause this error. The text that it streamed is saved, and
/// [`Exchange::failure`](crate::Exchange::failure) contains the agent's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message has neither text nor attachments.
    #[error("the message is empty")]
    Empty,
    /// A file cannot be attached, so the message was not sent.
    #[error("cannot attach {name}: {reason}")]
    NotAttached {
        /// The file, as the user named it.
        name: String,
        /// The reason, in one line.
        reason: String,
    },
    /// A plugin rejected the message.
    #[error("the plugin {plugin} rejected the message: {reason}")]
    Rejected {
        /// Name of the plugin.
        plugin: String,
        /// Human-readable reason.
        reason: String,
    },
    /// The message could not be saved, so the agent did not run.
    #[error("the message was not saved")]
    NotSaved {
        /// Text of the message, so that the user can send it again.
        text: String,
        /// Error of the store.
        source: StoreError,
    },
    /// The message was saved, but the agent could not be run.
    #[error("the message was saved, but it has no reply")]
    NoReply {
        /// The failed step.
        source: EngineError,
    },
    /// The reply could not be saved within [`Settings::save_timeout`](crate::Settings::save_timeout). Part of it may be
    /// in the store, and earlier messages of its turn are.
    #[error("the message was saved, but its reply was not")]
    ReplyNotSaved {
        /// The messages of the turn that were not saved, so that they are not lost.
        messages: Vec<MessageDraft>,
        /// Error of the store.
        source: StoreError,
    },
    /// Another step of the exchange failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl ErrorExt for SendError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Empty | Self::NotAttached { .. } => ErrorKind::Invalid,
            Self::Rejected { .. } => ErrorKind::Denied,
            Self::NotSaved { source, .. } | Self::ReplyNotSaved { source, .. } => source.kind(),
            Self::NoReply { source: error } | Self::Engine(error) => error.kind(),
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::Empty => Some(Suggestion::EnterPrompt),
            Self::NotAttached { .. } => None,
            Self::Rejected { plugin, .. } => {
                Some(Suggestion::ChangeMessageOrDisablePlugin { plugin: plugin.clone() })
            }
            Self::NotSaved { source, .. } | Self::ReplyNotSaved { source, .. } => source.suggestion(),
            Self::NoReply { source: error } | Self::Engine(error) => error.suggestion(),
        }
    }
}

/// Converts an agent's error to the JSON value that an interrupted reply stores.
pub(crate) fn failure_note(error: &AgentError) -> serde_json::Value {
    serde_json::json!({ "kind": error.kind().as_str(), "message": error.to_string() })
}
