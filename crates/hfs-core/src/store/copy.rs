//! Copying sessions from one store to another, with what only a store keeps of them.

use crate::{Branch, CheckpointId, ContentHash, Operation, Session, SessionId, Timestamp};

use super::StoreResult;

/// A session without its messages, runs and states.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRecord {
    /// The session.
    pub session: Session,
    /// Its branches, parents before children.
    pub branches: Vec<Branch>,
    /// Its checkpoints, each with its number.
    pub checkpoints: Vec<(CheckpointId, u64)>,
    /// The highest number of a checkpoint so far. The checkpoint may have been removed since.
    pub last_checkpoint: u64,
    /// Its operations, oldest first.
    pub operations: Vec<OperationRecord>,
}

/// An operation, with what only undo and redo need.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationRecord {
    /// The operation.
    pub operation: Operation,
    /// The old and the new name of the branch that it renamed.
    pub renamed: Option<(String, String)>,
}

/// What a store remembers of something that was purged, so that an import does not bring it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PurgedSource {
    /// Hash of an origin, or of the id of a session or branch.
    pub hash: ContentHash,
    /// Time of the purge.
    pub purged_at: Timestamp,
}

/// What a copy reads besides the rest of the port. [`SessionImport`](super::SessionImport) writes it, except for the purged
/// sources.
pub trait CopyStore {
    /// Lists the operations of a session, oldest first.
    ///
    /// # Errors
    /// `NotFound` for the session; `Corrupt` for a damaged operation.
    fn list_operation_records(&self, session: SessionId) -> StoreResult<Vec<OperationRecord>>;

    /// The highest number of a checkpoint of a session so far; 0 without one.
    ///
    /// # Errors
    /// `NotFound` for the session.
    fn last_checkpoint_number(&self, session: SessionId) -> StoreResult<u64>;

    /// Lists what was purged, by hash.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn list_purged_sources(&self) -> StoreResult<Vec<PurgedSource>>;

    /// Adds what was purged in another store, except for what is known.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn add_purged_sources(&self, sources: &[PurgedSource]) -> StoreResult<()>;
}
