use crate::{ErrorExt, ErrorKind, Position, Seq};

/// What a store call returns.
pub type StoreResult<T> = Result<T, StoreError>;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a store call failed. Nothing was written unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// What was named is not there.
    #[error("no {what} {reference:?}")]
    NotFound {
        /// `session`, `branch`, `message` ...
        what: &'static str,
        /// How it was named.
        reference: String,
    },
    /// The name fits several.
    #[error("{reference:?} fits {} {what}s: {}", candidates.len(), candidates.join(", "))]
    Ambiguous {
        /// `session`, `branch` ...
        what: &'static str,
        /// How it was named.
        reference: String,
        /// What it could mean, at most ten.
        candidates: Vec<String>,
    },
    /// Somebody else has written to the branch since it was read.
    #[error("the branch has moved on: its newest message is number {} now, not {}", found.head, expected.head)]
    HeadMismatch {
        /// What the caller had seen.
        expected: Position,
        /// What is there.
        found: Position,
    },
    /// A reply is being written to the branch by somebody who is still alive.
    #[error("another process is writing a reply to this branch (message number {seq})")]
    Locked {
        /// The reply's place.
        seq: Seq,
    },
    /// Something else stands in the way: a name is taken, an id exists.
    #[error("{message}")]
    Conflict {
        /// What stands in the way.
        message: String,
    },
    /// What was asked for makes no sense.
    #[error("{message}")]
    Invalid {
        /// Why not.
        message: String,
    },
    /// What is stored is damaged.
    #[error("the store is damaged: {message}")]
    Corrupt {
        /// What is wrong, and where.
        message: String,
    },
    /// The store was written by a newer version.
    #[error("{store} has schema version {found}; this hfs knows versions up to {supported}")]
    Newer {
        /// The store.
        store: String,
        /// Its version.
        found: u32,
        /// The newest version that is understood.
        supported: u32,
    },
    /// The store cannot do this.
    #[error("{message}")]
    Unsupported {
        /// What it cannot do.
        message: String,
    },
    /// The system refused access.
    #[error("cannot {action}: access denied")]
    Denied {
        /// What was tried, on what.
        action: String,
        /// What the system said.
        source: Cause,
    },
    /// It failed for now: no space, no connection, too long a wait.
    #[error("cannot {action}")]
    Unavailable {
        /// What was tried, on what.
        action: String,
        /// What the system said.
        source: Cause,
    },
    /// A fault of ours.
    #[error("cannot {action}")]
    Internal {
        /// What was tried, on what.
        action: String,
        /// What went wrong.
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

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { what: "session", .. } => {
                Some("`hfs session list --all` shows every session".into())
            }
            Self::Ambiguous { .. } => Some("type more of the id".into()),
            Self::HeadMismatch { .. } => {
                Some("load the session again to see what was added, or fork here and send it there".into())
            }
            Self::Locked { .. } => Some("wait for that reply, or fork here".into()),
            Self::Corrupt { .. } => {
                Some("`hfs store verify` says what is damaged; `hfs store repair` saves the rest".into())
            }
            Self::Newer { .. } => Some("update hfs; the store was not touched".into()),
            _ => None,
        }
    }
}
