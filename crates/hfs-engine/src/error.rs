use hfs_core::{AgentError, ErrorExt, ErrorKind, MessageDraft, StoreError, Suggestion};

/// Why a use case failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The store says why.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing to undo or redo, or it cannot be undone.
    #[error("{message}")]
    NotPossible {
        /// What is not possible, and why.
        message: String,
    },
    /// A worker thread of ours died.
    #[error("a background task of hfs failed: {message}")]
    Background {
        /// What it said.
        message: String,
    },
}

impl ErrorExt for EngineError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::NotPossible { .. } => ErrorKind::Conflict,
            Self::Background { .. } => ErrorKind::Internal,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::Store(error) => error.suggestion(),
            _ => None,
        }
    }
}

/// Why a message was not sent, or its reply not kept. An agent that fails is no such error: what it had said is
/// kept, and [`Exchange::failure`](crate::Exchange::failure) says why it stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is nothing in it.
    #[error("the message is empty")]
    Empty,
    /// A plugin refused it.
    #[error("the plugin {plugin} rejected the message: {reason}")]
    Rejected {
        /// Which plugin.
        plugin: String,
        /// Why.
        reason: String,
    },
    /// It could not be saved, and was therefore not sent.
    #[error("the message was not saved")]
    NotSaved {
        /// The message's text, so that it is not lost with the error.
        text: String,
        /// Why.
        source: StoreError,
    },
    /// The reply came, but could not be saved for as long as was tried. Its beginning may be in the store.
    #[error("the reply was not saved")]
    ReplyNotSaved {
        /// The reply, so that it is not lost with the error.
        reply: Box<MessageDraft>,
        /// Why.
        source: StoreError,
    },
    /// Something around the exchange failed.
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

/// The kind under which an agent's failure is kept with its reply.
pub(crate) fn failure_note(error: &AgentError) -> serde_json::Value {
    serde_json::json!({ "kind": error.kind().as_str(), "message": error.to_string() })
}
