//! Importing a session in pieces.

use crate::{
    Attachment, BranchId, BranchKey, CheckpointDraft, MessageDraft, Run, Seq, SessionSummary, Timestamp,
};

use super::StoreResult;

/// A session that is being imported.
///
/// The session is invisible until [`finish`](Self::finish), which makes it durable. If the import is dropped before
/// that, or the process crashes, the session is discarded.
///
/// Every call may return `Conflict` because an id exists already. After an error the import can only be dropped.
pub trait SessionImport {
    /// Adds a branch with a number chosen by the caller; 0 is the first branch, which exists already. Its time of
    /// creation is that of its first message or, without one, that of the session.
    ///
    /// # Errors
    /// `Invalid` for an unknown parent, a number that is taken, or a fork beyond the parent's current head; `Conflict`
    /// if the name is taken.
    fn branch(
        &mut self,
        key: BranchKey,
        parent: BranchKey,
        forked_at: Seq,
        id: BranchId,
        name: &str,
    ) -> StoreResult<()>;

    /// Renames the first branch.
    ///
    /// # Errors
    /// `Conflict` if the name is taken.
    fn name_main(&mut self, name: &str) -> StoreResult<()>;

    /// Appends a message to a branch. A message with status `streaming` is stored as `interrupted`.
    ///
    /// # Errors
    /// `Invalid` for an unknown branch, or for an attachment that is neither stored nor was added before.
    fn message(&mut self, branch: BranchKey, message: &MessageDraft) -> StoreResult<()>;

    /// Adds an attachment.
    ///
    /// # Errors
    /// `Invalid` if the bytes do not match the hash.
    fn attachment(&mut self, attachment: &Attachment) -> StoreResult<()>;

    /// Adds a run.
    ///
    /// # Errors
    /// `Invalid` for a branch of another session.
    fn run(&mut self, run: &Run) -> StoreResult<()>;

    /// Adds a checkpoint. Retention does not apply.
    ///
    /// # Errors
    /// `Invalid` for a branch of another session, or for a seq beyond its current head.
    fn checkpoint(&mut self, checkpoint: &CheckpointDraft) -> StoreResult<()>;

    /// Makes the session visible under this name, with this current branch and these times, and records `import` with
    /// the current time of the store's clock. The session is durable when the call returns.
    ///
    /// # Errors
    /// `Invalid` for an unknown current branch. After any error, the session is discarded.
    fn finish(
        self: Box<Self>,
        name: &str,
        current: BranchKey,
        created_at: Timestamp,
        updated_at: Timestamp,
    ) -> StoreResult<SessionSummary>;
}
