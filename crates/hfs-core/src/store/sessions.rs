//! Sessions, branches and the operation log.

use crate::{
    Branch, BranchDraft, BranchId, CheckpointId, Continuation, Operation, OperationId, OperationKind,
    Project, Session, SessionDraft, SessionFilter, SessionId, SessionRef, SessionSummary, Timestamp,
};

use super::{SessionImport, StoreResult};

/// Start of the next page of a list. Opaque to callers. Stays valid when rows are added or removed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor(pub String);

/// Selects a page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Maximum number of rows.
    pub limit: u32,
    /// Where the page starts; `None` for the first page.
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
    /// Rows of the page.
    pub items: Vec<T>,
    /// Start of the next page; `None` on the last page.
    pub next: Option<Cursor>,
    /// Number of damaged rows in the range of this page, which are left out of `items`.
    pub unreadable: u64,
}

/// Result of a purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    /// Number of purged sessions.
    pub sessions: u64,
    /// Whether the files of the store still contain text of the sessions, which no read returns. On a server, that is
    /// always so. In a file, a [snapshot](super::Maintenance::snapshot), such as that of an export in another process,
    /// keeps it; the text is removed when the snapshot ends or, if its process was killed, when the store is opened again.
    pub text_remains: bool,
}

/// Sessions.
///
/// Each structural change records its [`Operation`] in the same transaction and raises `updated_at` to its time.
/// Sessions in the trash accept writes like all others.
pub trait SessionStore {
    /// Creates a session with an empty branch `main` and records `create`, all at the draft's `created_at`.
    ///
    /// # Errors
    /// `Conflict` if the id of the session or of the branch exists.
    fn create_session(&self, draft: &SessionDraft) -> StoreResult<Session>;

    /// Reads a session, in the trash or not.
    ///
    /// # Errors
    /// `NotFound`.
    fn get_session(&self, id: SessionId) -> StoreResult<SessionSummary>;

    /// Resolves a reference. [`SessionRef::Named`] is tried as a full id, then as an exact name, then as the title of
    /// an automatic name, as lists show it, then as a prefix of a short or full id, in any letter case; an empty text
    /// finds nothing. [`SessionRef::Recent`] counts only the
    /// sessions of `project`, if one is given. If `trashed` is set, searches only the trash, else only the other
    /// sessions.
    ///
    /// # Errors
    /// `NotFound`; `Ambiguous` with the candidates, newest first, each as its twelve-letter short form, a space and its
    /// name.
    fn resolve_session(
        &self,
        reference: &SessionRef,
        project: Option<&str>,
        trashed: bool,
    ) -> StoreResult<SessionId>;

    /// Lists sessions by `updated_at`, newest first; equal times are ordered by id. The cost depends on the size of the
    /// page only.
    ///
    /// # Errors
    /// `Invalid` for a cursor of another list.
    fn list_sessions(&self, filter: &SessionFilter, page: &PageRequest) -> StoreResult<Page<SessionSummary>>;

    /// Renames a session. Records `rename`, except when one automatic name replaces another. An automatic name never
    /// replaces a name given by the user; the call then succeeds without a change.
    ///
    /// # Errors
    /// `NotFound`.
    fn rename_session(&self, id: SessionId, name: &str, automatic: bool, at: Timestamp) -> StoreResult<()>;

    /// Moves a session to the trash and records `delete`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if it is in the trash already.
    fn trash_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()>;

    /// Restores a session from the trash and records `restore`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if it is not in the trash.
    fn restore_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()>;

    /// Removes a session permanently, with its operations and the attachments that no other message refers to.
    /// Afterwards no text of it is left in the files of the store, unless [`Purged::text_remains`]. Copies of the store
    /// that a migration or a repair has made are deleted if they contain the session.
    ///
    /// # Errors
    /// `NotFound`.
    fn purge_session(&self, id: SessionId) -> StoreResult<Purged>;

    /// Whether a session with this origin was purged and has not been imported again since.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn was_purged(&self, origin_format: &str, origin_id: &str) -> StoreResult<bool>;

    /// Whether the session that a transcript continues was purged. Such a transcript contains the session's text: hfs
    /// wrote it for another tool, or recorded what an agent did in it.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn was_continued_purged(&self, continues: Continuation) -> StoreResult<bool>;

    /// Purges all sessions that were moved to the trash before `before`.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn purge_trash(&self, before: Timestamp) -> StoreResult<Purged>;

    /// Starts to import a session; see [`SessionImport`].
    ///
    /// # Errors
    /// `Conflict` if the id of the session or of the branch exists.
    fn import_session(&self, draft: &SessionDraft) -> StoreResult<Box<dyn SessionImport + '_>>;

    /// Sets the project of an existing session. Records no operation and leaves `updated_at` unchanged.
    ///
    /// # Errors
    /// `NotFound`.
    fn set_project(&self, id: SessionId, project: &Project) -> StoreResult<()>;
}

/// Branches.
///
/// Undo marks the branch that an operation created as undone. Redo and [`switch_branch`](Self::switch_branch) end that. An
/// undone branch keeps its messages and its name.
pub trait BranchStore {
    /// Lists the branches of a session, parents before children, including undone ones.
    ///
    /// # Errors
    /// `NotFound` for the session.
    fn list_branches(&self, session: SessionId) -> StoreResult<Vec<Branch>>;

    /// Reads one branch.
    ///
    /// # Errors
    /// `NotFound`.
    fn get_branch(&self, id: BranchId) -> StoreResult<Branch>;

    /// Creates a branch, makes it current and records `kind`: `fork`, or `rewind`, with its checkpoint or, where no state
    /// is restored, without one. A branch that an `import` adds does not become current. The parent may be undone. The cost does not depend on the length of the session.
    ///
    /// # Errors
    /// `NotFound` for the parent or the checkpoint; `Invalid` for a fork beyond the parent's head, for a
    /// checkpoint of another session, for another kind than a rewind with a checkpoint, or if `kind` is none of these three;
    /// `Conflict` if the name is taken or the id exists; `Locked` if the message at the fork is a reply in progress,
    /// because messages before a fork never change.
    fn create_branch(
        &self,
        draft: &BranchDraft,
        kind: OperationKind,
        checkpoint: Option<CheckpointId>,
        at: Timestamp,
    ) -> StoreResult<Operation>;

    /// Makes a branch current and records `switch`, even if it was current already. A branch that was undone is no longer
    /// undone; the operation then names it, and its reversal makes it undone again.
    ///
    /// # Errors
    /// `NotFound`.
    fn switch_branch(&self, branch: BranchId, at: Timestamp) -> StoreResult<Operation>;

    /// Renames a branch and records `rename-branch`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if the name is taken.
    fn rename_branch(&self, branch: BranchId, name: &str, at: Timestamp) -> StoreResult<Operation>;
}

/// The operation log.
pub trait OperationStore {
    /// Lists the operations of one session or of all, newest first.
    ///
    /// # Errors
    /// `NotFound` for the session; `Invalid` for a cursor of another list.
    fn list_operations(&self, session: Option<SessionId>, page: &PageRequest)
    -> StoreResult<Page<Operation>>;

    /// Undoes (`kind` is `undo`) or redoes (`redo`) the operation `target`, and records that as a new operation.
    ///
    /// The session gets the attributes that it had before `target` (undo) or after it (redo). Undo marks a branch that
    /// `target` created as undone, redo ends that. The reversal of a move to the trash restores the session, and vice versa.
    ///
    /// A reversal conflicts in these cases:
    ///
    /// - the session's [attributes](crate::SessionAttributes) differ from those that the target left (for redo: those
    ///   that its undo left);
    /// - a branch that the target renamed has been renamed again, or its earlier name is taken;
    /// - the branch to make current is undone;
    /// - a switch has ended that the branch that the target created is undone (redo);
    /// - the target is undone already (for redo: is not undone).
    ///
    /// Messages written after the target do not conflict. They stay on their branch, also if it becomes undone.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` as described; `Unsupported` for kinds that are not
    /// [reversible](OperationKind::is_reversible); `Invalid` if `kind` is neither `undo` nor `redo`.
    fn reverse(&self, target: OperationId, kind: OperationKind, at: Timestamp) -> StoreResult<Operation>;
}
