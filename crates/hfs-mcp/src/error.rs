//! Errors of the server.

use hfs_core::{ErrorExt, ErrorKind, StoreError, Suggestion};
use hfs_engine::EngineError;

/// Error of the server or of a tool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum McpError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An argument of a tool is not valid, or names something that does not exist.
    #[error("{0}")]
    Argument(String),
    /// The store cannot be opened.
    #[error("{0}")]
    StoreUnavailable(String),
    /// The connection to the client failed.
    #[error("the client's messages cannot be served: {0}")]
    Connection(String),
}

impl ErrorExt for McpError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Engine(error) => error.kind(),
            Self::Argument(_) => ErrorKind::Invalid,
            Self::StoreUnavailable(_) | Self::Connection(_) => ErrorKind::Unavailable,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::Store(error) => error.suggestion(),
            Self::Engine(error) => error.suggestion(),
            Self::Argument(_) | Self::StoreUnavailable(_) | Self::Connection(_) => None,
        }
    }
}
