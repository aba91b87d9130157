//! Importing a session in pieces, and importing it again.

use crate::{
    Attachment, BranchId, BranchKey, CheckpointDraft, CheckpointState, MessageDraft, Origin,
    PassthroughFields, Project, Run, Seq, SessionAttributes, SessionId, SessionSummary, Timestamp,
};

use super::{SessionRecord, StoreResult};

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

    /// Marks a branch as undone. The branch that is current at the end stays as it is.
    ///
    /// # Errors
    /// `Invalid` for an unknown branch.
    fn mark_undone(&mut self, key: BranchKey) -> StoreResult<()>;

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

    /// Stores the state that the next run on a branch continues from. Without one, it has none.
    ///
    /// # Errors
    /// `Invalid` for a branch of another session.
    fn branch_state(&mut self, branch: BranchId, state: &CheckpointState) -> StoreResult<()>;

    /// Lets [`finish`](Self::finish) return before the session is durable. The next write of the store that is durable itself makes
    /// it so. Many small sessions take much less time if they wait for the disk together.
    fn relax(&mut self) {}

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

    /// Like [`finish`](Self::finish), for a copy of a session of another store: gives the session, its branches and its
    /// checkpoints what they have in `record`, and adds the operations of `record` instead of an `import`.
    ///
    /// # Errors
    /// `Invalid` for an unknown current branch; `Conflict` if an operation exists. After any error, the session is discarded.
    fn finish_copy(self: Box<Self>, record: &SessionRecord) -> StoreResult<SessionSummary>;
}

/// Imports of sources that were imported before.
pub trait ImportStore {
    /// Replaces imported messages by newer versions of them, all or none. The id of each draft names the stored message, which
    /// keeps its id and its position. A search finds the new text and not the old one.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if a stored message was not imported, or for an attachment that is not stored.
    fn update_imported_messages(&self, messages: &[MessageDraft]) -> StoreResult<()>;

    /// Adds to recorded messages what a transcript of the same messages has besides, all or none. The id of each draft names the
    /// stored message, which keeps its id and its position.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if a stored message is being written or was never completed, or if it is not
    /// [supplemented](MessageDraft::is_supplemented_by) by its draft.
    fn supplement_messages(&self, messages: &[MessageDraft]) -> StoreResult<()>;

    /// Updates a session from its source and records `import` at the time `at`. Other than by the operation, `updated_at` is
    /// changed only by the update itself.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the name or the current branch of the session are not those that the update expects, or if
    /// the new current branch is undone or belongs to another session.
    fn update_imported_session(
        &self,
        id: SessionId,
        update: &ImportedSessionUpdate,
        at: Timestamp,
    ) -> StoreResult<()>;

    /// The state of a source at its last complete import. Returns `None` if the source is unknown, or if a session that it
    /// contains has been moved to the trash or purged since.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn find_imported_source(&self, path: &str) -> StoreResult<Option<ImportedSource>>;

    /// Where the next import of a source continues if the source has only grown since its last complete import. Returns `None` in the
    /// cases of [`find_imported_source`](Self::find_imported_source), and if the last import saved no resume point.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn find_resume_point(&self, path: &str) -> StoreResult<Option<Vec<u8>>>;

    /// Records complete imports. They replace what earlier imports of the same paths recorded.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn save_imported_sources(&self, imports: &[CompleteImport]) -> StoreResult<()>;

    /// Makes the sessions durable that were [relaxed](SessionImport::relax) before.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn sync(&self) -> StoreResult<()>;
}

/// What an import changes in a session that was imported before. Fields that are `None` stay.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedSessionUpdate {
    /// The attributes on which the update is based.
    pub expected: SessionAttributes,
    /// New name, and whether it was generated.
    pub name: Option<(String, bool)>,
    /// New current branch.
    pub current_branch: Option<BranchId>,
    /// New project.
    pub project: Option<Project>,
    /// New origin.
    pub origin: Option<Origin>,
    /// New time of creation.
    pub created_at: Option<Timestamp>,
    /// Time of the last change, if it is later than the stored one.
    pub updated_at: Timestamp,
    /// New passthrough fields.
    pub extra: Option<PassthroughFields>,
}

/// The state of a source at its last complete import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedSource {
    /// Identifies the state of the source and the version of its reader.
    pub fingerprint: [u8; 32],
    /// The sessions that the source contains.
    pub sessions: Vec<SessionId>,
}

/// A complete import of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteImport {
    /// Path of the source.
    pub path: String,
    /// State of the source.
    pub source: ImportedSource,
    /// Where the next import continues if the source has only grown, as the importer encodes it.
    pub resume_point: Option<Vec<u8>>,
}
