//! Errors of stores.

use crate::{ErrorExt, ErrorKind, Position, Seq, Suggestion};

/// Result of a store call.
pub type StoreResult<T> = Result<T, StoreError>;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Error of a store call. The failed call has written nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The named object does not exist.
    #[error("no {what} {reference:?}")]
    NotFound {
        /// Type of the object: `session`, `branch`, `message` and so on.
        what: &'static str,
        /// Reference as given by the caller.
        reference: String,
    },
    /// The reference fits several objects.
    #[error("{reference:?} fits {} {what}s: {}", candidates.len(), candidates.join(", "))]
    Ambiguous {
        /// Type of the objects: `session`, `branch` and so on.
        what: &'static str,
        /// Reference as given by the caller.
        reference: String,
        /// At most ten objects that fit.
        candidates: Vec<String>,
    },
    /// Another writer appended to the branch after the caller read it.
    #[error("the branch has moved on: its newest message is number {} now, not {}", found.head, expected.head)]
    HeadMismatch {
        /// Position that the caller had read.
        expected: Position,
        /// Position in the store.
        found: Position,
    },
    /// Another live process is writing a reply to the branch.
    #[error("another process is writing a reply to this branch (message number {seq})")]
    Locked {
        /// Seq of the reply in progress.
        seq: Seq,
    },
    /// Another conflict: a name is taken, or an id exists.
    #[error("{message}")]
    Conflict {
        /// Description of the conflict.
        message: String,
    },
    /// The arguments are not valid.
    #[error("{message}")]
    Invalid {
        /// What is not valid.
        message: String,
    },
    /// Stored data is damaged.
    #[error("the store is damaged: {message}")]
    Corrupt {
        /// What is damaged, and where.
        message: String,
    },
    /// A newer version of hfs wrote the store.
    #[error("{store} has schema version {found}; this hfs knows versions up to {supported}")]
    Newer {
        /// Address of the store.
        store: String,
        /// Schema version of the store.
        found: u32,
        /// Newest schema version that this hfs knows.
        supported: u32,
        /// Whether the tables of the store have a known version, so that the version in its header may be damaged.
        may_be_damage: bool,
    },
    /// This store does not support the operation.
    #[error("{message}")]
    Unsupported {
        /// What is not supported.
        message: String,
    },
    /// The operating system or the server denied access.
    #[error("cannot {action}: access denied")]
    Denied {
        /// The failed action and its object.
        action: String,
        /// Error of the operating system or the database.
        source: Cause,
    },
    /// A temporary failure: no space, no connection, a time-out.
    #[error("cannot {action}")]
    Unavailable {
        /// The failed action and its object.
        action: String,
        /// Error of the operating system or the database.
        source: Cause,
    },
    /// A bug in hfs.
    #[error("cannot {action}")]
    Internal {
        /// The failed action and its object.
        action: String,
        /// Underlying error.
        source: Cause,
    },
}

impl ErrorExt for StoreError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Ambiguous { .. }
            | Self::HeadMismatch { .. }
            | Self::Locked { .. }
            | Self::Conflict { .. } => ErrorKind::Conflict,
            Self::Invalid { .. } => ErrorKind::Invalid,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::Newer { .. } | Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Internal { .. } => ErrorKind::Internal,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::NotFound { what: "session", .. } => Some(Suggestion::ListSessions),
            Self::NotFound { what: "checkpoint", .. } => Some(Suggestion::ListCheckpoints),
            Self::NotFound { what: "branch", .. } => Some(Suggestion::ListBranches),
            Self::NotFound { what: "run", .. } => Some(Suggestion::ListRuns),
            Self::Ambiguous { .. } => Some(Suggestion::LengthenId),
            Self::HeadMismatch { .. } => Some(Suggestion::ReloadOrFork),
            Self::Locked { .. } => Some(Suggestion::WaitOrFork),
            Self::Corrupt { .. } => Some(Suggestion::RepairStore),
            Self::Denied { .. } => Some(Suggestion::NameWritableStore),
            Self::Newer { may_be_damage: true, .. } => Some(Suggestion::UpdateOrRepairStore),
            Self::Newer { may_be_damage: false, .. } => Some(Suggestion::UpdateForStore),
            Self::NotFound { .. }
            | Self::Conflict { .. }
            | Self::Invalid { .. }
            | Self::Unsupported { .. }
            | Self::Unavailable { .. }
            | Self::Internal { .. } => None,
        }
    }
}
