use hfs_core::{
    AgentError, ErrorExt, ErrorKind, MessageDraft, OperationKind, SessionId, StoreError, Suggestion,
};

/// Why an operation of the engine failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No operation is left to undo or redo.
    #[error("there is nothing to {direction}{}", pruned_note(*passed_prune))]
    NothingToReverse {
        /// `Undo` or `Redo`.
        direction: OperationKind,
        /// Whether the search passed a deleted checkpoint, which undo does not bring back.
        passed_prune: bool,
    },
    /// The next operation to undo or redo cannot be undone or redone.
    #[error(
        "there is nothing more to {direction}: the session's {operation} is its beginning{}",
        pruned_note(*passed_prune)
    )]
    NotReversible {
        /// `Undo` or `Redo`.
        direction: OperationKind,
        /// The operation that was reached.
        operation: OperationKind,
        /// Session of the operation.
        session: SessionId,
        /// Whether the search passed a deleted checkpoint, which undo does not bring back.
        passed_prune: bool,
    },
    /// The conversation has no message yet, so there is no place to mark or to reply at.
    #[error("the conversation has no messages yet")]
    EmptyConversation,
    /// The asynchronous runtime of a [`BlockingEngine`](crate::BlockingEngine) could not be started.
    #[error("cannot start the asynchronous runtime")]
    Runtime {
        /// Error of the system.
        source: std::io::Error,
    },
    /// A background thread panicked or was stopped.
    #[error("a background task of hfs failed: {message}")]
    Background {
        /// Message of the panic.
        message: String,
    },
}

fn pruned_note(passed_prune: bool) -> &'static str {
    if passed_prune { "; a checkpoint that was deleted cannot be brought back" } else { "" }
}

impl ErrorExt for EngineError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
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
            | Self::EmptyConversation
            | Self::Runtime { .. }
            | Self::Background { .. } => None,
        }
    }
}

/// Why a message was not sent, or its reply not saved.
///
/// A failing agent does not cause this error: the text it streamed is saved, and
/// [`Exchange::failure`](crate::Exchange::failure) has the agent's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message has no text.
    #[error("the message is empty")]
    Empty,
    /// A plugin rejected the message.
    #[error("the plugin {plugin} rejected the message: {reason}")]
    Rejected {
        /// Name of the plugin.
        plugin: String,
        /// Reason for people.
        reason: String,
    },
    /// The message could not be saved, and so the agent was not asked.
    #[error("the message was not saved")]
    NotSaved {
        /// Text of the message, so that the caller can offer it again.
        text: String,
        /// Error of the store.
        source: StoreError,
    },
    /// The reply could not be saved within [`Settings::save_timeout`](crate::Settings::save_timeout). Its beginning may
    /// be in the store.
    #[error("the reply was not saved")]
    ReplyNotSaved {
        /// The whole reply, so that it is not lost.
        reply: Box<MessageDraft>,
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
            Self::Empty => ErrorKind::Invalid,
            Self::Rejected { .. } => ErrorKind::Denied,
            Self::NotSaved { source, .. } | Self::ReplyNotSaved { source, .. } => source.kind(),
            Self::Engine(error) => error.kind(),
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::Empty => Some(Suggestion::EnterPrompt),
            Self::Rejected { plugin, .. } => {
                Some(Suggestion::ChangeMessageOrDisablePlugin { plugin: plugin.clone() })
            }
            Self::NotSaved { source, .. } | Self::ReplyNotSaved { source, .. } => source.suggestion(),
            Self::Engine(error) => error.suggestion(),
        }
    }
}

/// The agent's error as it is saved in the fields of an interrupted reply.
pub(crate) fn failure_note(error: &AgentError) -> serde_json::Value {
    serde_json::json!({ "kind": error.kind().as_str(), "message": error.to_string() })
}
