use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    Attachment, Branch, BranchDraft, BranchId, BranchKey, Checkpoint, CheckpointDraft, CheckpointId,
    CheckpointState, ContentHash, MessageDraft, Operation, OperationId, OperationKind, Project, Run, RunId,
    Seq, Session, SessionDraft, SessionFilter, SessionId, SessionRef, SessionSummary, Timestamp,
};

use super::StoreResult;

/// Where the next page of a list begins. Opaque to callers; it stays good when rows come and go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor(pub String);

/// Which page of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// At most this many rows.
    pub limit: u32,
    /// Where to go on; `None` for the first page.
    pub after: Option<Cursor>,
}

impl PageRequest {
    /// The first page of at most `limit` rows.
    #[must_use]
    pub const fn first(limit: u32) -> Self {
        Self { limit, after: None }
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// Its rows.
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<Cursor>,
}

/// Sessions. Each change that is structural records its [`Operation`] in the same transaction, and moves
/// `updated_at` forward to its time (never back). Sessions in the trash can be written to like any other.
pub trait SessionStore {
    /// Makes a session with an empty branch `main`, and records `create`, all at the draft's `created_at`.
    ///
    /// # Errors
    /// `Conflict` when the session's or the branch's id exists.
    fn create_session(&self, draft: &SessionDraft) -> StoreResult<Session>;

    /// The session with this id, in the trash or not.
    ///
    /// # Errors
    /// `NotFound`.
    fn get_session(&self, id: SessionId) -> StoreResult<SessionSummary>;

    /// What a person means by `reference`: a full id; else an exact name (of several with the same name: they
    /// are ambiguous); else the beginning of a short or full id, in any letter case; or so many before the
    /// newest (within `project`, where one is given; it limits nothing else). Sessions in the trash are found
    /// when `trashed`, and only they. An empty text finds nothing.
    ///
    /// # Errors
    /// `NotFound`; `Ambiguous` with the candidates, newest first, each as its twelve-letter short form, a space
    /// and its name.
    fn resolve_session(
        &self,
        reference: &SessionRef,
        project: Option<&str>,
        trashed: bool,
    ) -> StoreResult<SessionId>;

    /// A page of sessions, newest first by `updated_at` and then by id. Costs what the page holds.
    ///
    /// # Errors
    /// `Invalid` for a cursor of another list.
    fn list_sessions(&self, filter: &SessionFilter, page: &PageRequest) -> StoreResult<Page<SessionSummary>>;

    /// Gives the session a name and records `rename` (unless an automatic name replaces an automatic name). An
    /// automatic name never replaces one that a person gave: it changes nothing then, which is no error.
    ///
    /// # Errors
    /// `NotFound`.
    fn rename_session(&self, id: SessionId, name: &str, automatic: bool, at: Timestamp) -> StoreResult<()>;

    /// Moves the session to the trash and records `delete`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is there already.
    fn trash_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()>;

    /// Takes the session out of the trash and records `restore`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is not in the trash.
    fn restore_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()>;

    /// Removes the session and everything of it for good, its operations too, and those of the attachments its
    /// messages refer to that no other message refers to.
    ///
    /// # Errors
    /// `NotFound`.
    fn purge_session(&self, id: SessionId) -> StoreResult<()>;

    /// Removes for good what has been in the trash since before `before`. Returns how many sessions that were.
    ///
    /// # Errors
    /// As the store's state has it.
    fn purge_trash(&self, before: Timestamp) -> StoreResult<u64>;

    /// Begins a session that arrives in pieces; see [`SessionImport`].
    ///
    /// # Errors
    /// `Conflict` when the session's or the branch's id exists.
    fn import_session(&self, draft: &SessionDraft) -> StoreResult<Box<dyn SessionImport + '_>>;

    /// The project of the session, for those that learn it late. Records nothing and leaves `updated_at` alone.
    ///
    /// # Errors
    /// `NotFound`.
    fn set_project(&self, id: SessionId, project: &Project) -> StoreResult<()>;
}

/// A session that is arriving. Nobody sees it before [`finish`](Self::finish); dropped before that, or after a
/// crash, nothing of it remains. It is written in batches with relaxed durability, and made durable at the end.
///
/// Every call may find that an id exists already: a `Conflict`, there or in [`finish`](Self::finish). After an
/// error the import can only be dropped.
pub trait SessionImport {
    /// Adds a branch under a number of the caller's; 0 is the session's first and exists already. Its time is
    /// that of its own first message, or else the session's.
    ///
    /// # Errors
    /// `Invalid` for an unknown parent, a number that is taken, or a fork beyond the parent's head so far;
    /// `Conflict` for a taken name.
    fn branch(
        &mut self,
        key: BranchKey,
        parent: BranchKey,
        forked_at: Seq,
        id: BranchId,
        name: &str,
    ) -> StoreResult<()>;

    /// Renames the session's first branch.
    ///
    /// # Errors
    /// `Conflict` for a taken name.
    fn name_main(&mut self, name: &str) -> StoreResult<()>;

    /// Adds the next message of a branch. One that comes as `streaming` is kept as `interrupted`.
    ///
    /// # Errors
    /// `Invalid` for an unknown branch, or for an attachment that is neither stored nor came before.
    fn message(&mut self, branch: BranchKey, message: &MessageDraft) -> StoreResult<()>;

    /// Adds bytes that messages refer to.
    ///
    /// # Errors
    /// `Invalid` when they do not match their hash.
    fn attachment(&mut self, attachment: &Attachment) -> StoreResult<()>;

    /// Adds a run.
    ///
    /// # Errors
    /// `Invalid` for a branch that is not of this session.
    fn run(&mut self, run: &Run) -> StoreResult<()>;

    /// Adds a checkpoint. No retention applies here.
    ///
    /// # Errors
    /// `Invalid` for a branch that is not of this session, or a seq beyond its head so far.
    fn checkpoint(&mut self, checkpoint: &CheckpointDraft) -> StoreResult<()>;

    /// Makes the session appear, whole, under the given name, with this current branch and times of its beginning
    /// and last change, and records `import` at the time of the store's clock. Durable when it returns.
    ///
    /// # Errors
    /// `Invalid` for an unknown current branch; nothing of the session remains after an error.
    fn finish(
        self: Box<Self>,
        name: &str,
        current: BranchKey,
        created_at: Timestamp,
        updated_at: Timestamp,
    ) -> StoreResult<SessionSummary>;
}

/// Branches.
///
/// A name belongs to its branch while that is undone, too. Only undo and redo retire a branch and bring it back.
pub trait BranchStore {
    /// The branches of a session, parents before children, undone ones included.
    ///
    /// # Errors
    /// `NotFound` for the session.
    fn list_branches(&self, session: SessionId) -> StoreResult<Vec<Branch>>;

    /// One branch.
    ///
    /// # Errors
    /// `NotFound`.
    fn get_branch(&self, id: BranchId) -> StoreResult<Branch>;

    /// Makes a branch and makes it current, recording `kind` (`fork`, or `rewind` with its checkpoint). The
    /// parent may be undone. Constant in the length of the session.
    ///
    /// # Errors
    /// `NotFound` for the parent or the checkpoint; `Invalid` for a fork beyond the parent's head, another
    /// kind, a rewind without a checkpoint of the same session, or a fork with one; `Conflict` for a taken name
    /// or an id that exists; `Locked` when the message at the fork is a reply that is still being written, for what
    /// lies before a fork never changes.
    fn create_branch(
        &self,
        draft: &BranchDraft,
        kind: OperationKind,
        checkpoint: Option<CheckpointId>,
        at: Timestamp,
    ) -> StoreResult<Operation>;

    /// Makes a branch current, recording `switch` (also when it was current already).
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when the branch is undone.
    fn switch_branch(&self, branch: BranchId, at: Timestamp) -> StoreResult<Operation>;

    /// Gives a branch another name, recording `rename-branch`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` for a taken name.
    fn rename_branch(&self, branch: BranchId, name: &str, at: Timestamp) -> StoreResult<Operation>;
}

/// Runs.
pub trait RunStore {
    /// Stores a run, replacing what was stored of the same run before.
    ///
    /// # Errors
    /// `NotFound` for its branch.
    fn save_run(&self, run: &Run) -> StoreResult<()>;

    /// One run with its events.
    ///
    /// # Errors
    /// `NotFound`.
    fn get_run(&self, id: RunId) -> StoreResult<Run>;

    /// The runs of a session in order of their beginning, and then by id.
    ///
    /// # Errors
    /// `NotFound` for the session.
    fn list_runs(&self, session: SessionId) -> StoreResult<Vec<RunId>>;
}

/// Checkpoints. Their states are stored by content: equal ones once, near-equal ones as differences.
pub trait CheckpointStore {
    /// Stores a checkpoint, then prunes automatic ones of its session (not pinned, not labelled, not `manual`)
    /// beyond `retention`, in the same transaction and without a record. The newest half of them is kept whatever
    /// it is; of the others, those in the middle of runs go before those at the ends
    /// ([`Checkpoint::ends_run`]), so that one long run does not take away the ends of all before it; and older
    /// ones go before newer ones. A retention of 0 prunes the new one, too. A checkpoint whose `created_at` lies
    /// before others' is older than they are.
    ///
    /// # Errors
    /// `NotFound` for its branch; `Invalid` for a seq beyond its head; `Conflict` for an id that exists.
    fn create_checkpoint(&self, draft: &CheckpointDraft, retention: u32) -> StoreResult<Checkpoint>;

    /// The checkpoints of a session, oldest first by `created_at`, then in the order in which they were stored.
    ///
    /// # Errors
    /// `NotFound` for the session.
    fn list_checkpoints(&self, session: SessionId) -> StoreResult<Vec<Checkpoint>>;

    /// One checkpoint without its state.
    ///
    /// # Errors
    /// `NotFound`.
    fn get_checkpoint(&self, id: CheckpointId) -> StoreResult<Checkpoint>;

    /// A checkpoint's state, checked against its hash.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` when it is not what was stored.
    fn load_state(&self, id: CheckpointId) -> StoreResult<CheckpointState>;

    /// The same as [canonical JSON](CheckpointState::canonical_json), for those that only pass it on.
    ///
    /// # Errors
    /// As [`load_state`](Self::load_state).
    fn load_state_json(&self, id: CheckpointId) -> StoreResult<String>;

    /// Keeps what the next run on this branch starts from. Replaces what was kept for the branch before; stored
    /// by content like every state, so that one equal to a checkpoint's costs nothing.
    ///
    /// # Errors
    /// `NotFound` for the branch.
    fn save_branch_state(&self, branch: BranchId, state: &CheckpointState) -> StoreResult<()>;

    /// Puts what plugins keep for the session into what the next run on this branch starts from, in one step:
    /// everything else of that stays as it is, whoever saves it meanwhile.
    ///
    /// # Errors
    /// As [`load_branch_state`](Self::load_branch_state).
    fn save_branch_plugins(&self, branch: BranchId, plugins: &BTreeMap<String, Value>) -> StoreResult<()>;

    /// What the next run on this branch starts from: what [`save_branch_state`](Self::save_branch_state) kept
    /// for it; else, for a branch made by a rewind, its checkpoint's state, also when that checkpoint is gone
    /// by now; else, for a fork, the state of the checkpoint that stood nearest before or at the fork, along the
    /// history that the two share, when it was made (the newest of those at the same seq); else `None`. An
    /// imported branch starts from nothing until something is saved for it.
    ///
    /// # Errors
    /// `NotFound` for the branch; `Corrupt` when the state is not what was stored.
    fn load_branch_state(&self, branch: BranchId) -> StoreResult<Option<CheckpointState>>;

    /// Pins a checkpoint, or unpins it. Nothing is pruned before the next checkpoint is made.
    ///
    /// # Errors
    /// `NotFound`.
    fn pin_checkpoint(&self, id: CheckpointId, pinned: bool) -> StoreResult<()>;

    /// Removes a checkpoint, and its state where no other refers to it; records `prune`.
    ///
    /// # Errors
    /// `NotFound`.
    fn delete_checkpoint(&self, id: CheckpointId, at: Timestamp) -> StoreResult<()>;
}

/// The record of structural changes.
pub trait OperationStore {
    /// The operations of a session (of all sessions without one), the one recorded last first.
    ///
    /// # Errors
    /// `NotFound` for the session; `Invalid` for a cursor of another list.
    fn list_operations(&self, session: Option<SessionId>, page: &PageRequest)
    -> StoreResult<Page<Operation>>;

    /// Puts the session back to what it was before `target` (`undo`), or to what it was after it (`redo`), as a
    /// new operation with that kind, target and branch. A branch that `target` made is undone by undo and
    /// brought back by redo; a session that was put into the trash comes out again, and the other way round.
    ///
    /// `rename`, `rename-branch`, `fork`, `rewind`, `switch`, `delete` and `restore` can be reversed. What stands
    /// in the way is that the session's [`SessionAttributes`](crate::SessionAttributes) is not what the target (for redo:
    /// its undo) left, that a branch it renamed has another name by now or its name is taken, that the branch to
    /// make current is undone, or that the target is undone already (for redo: is not undone). What was said
    /// since does not stand in the way: it stays on its branch, and comes back with it.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when something stands in the way; `Unsupported` for targets that cannot be
    /// reversed; `Invalid` for another `kind` than `undo` and `redo`.
    fn reverse(&self, target: OperationId, kind: OperationKind, at: Timestamp) -> StoreResult<Operation>;

    /// Bytes of an attachment.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` when they do not match their hash.
    fn get_attachment(&self, hash: ContentHash) -> StoreResult<Vec<u8>>;

    /// Stores bytes under their hash; again is fine.
    ///
    /// # Errors
    /// `Invalid` when they do not match their hash.
    fn put_attachment(&self, attachment: &Attachment) -> StoreResult<()>;
}
