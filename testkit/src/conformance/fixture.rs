//! The fixture of the conformance tests: a store, drafts to put into it, and assertions.

use hfs_core::{
    BranchId, Checkpoint, CheckpointState, ErrorExt, ErrorKind, Message, MessageRange, Operation,
    OperationId, OperationKind, PageRequest, Position, Session, SessionId, Store, StoreError, StoreResult,
};

use super::StoreLocation;
use crate::builders::{Drafts, at};

/// An open store, with drafts that have the same ids and times in every run.
pub struct Fixture<'a> {
    location: &'a dyn StoreLocation,
    /// The store.
    pub store: Box<dyn Store>,
    /// Source of sessions, messages and other drafts.
    pub drafts: Drafts,
}

impl<'a> Fixture<'a> {
    /// Opens the store at the location.
    #[must_use]
    pub fn new(location: &'a dyn StoreLocation) -> Self {
        Self { location, store: location.open(), drafts: Drafts::new(7) }
    }

    /// Opens the same store again, with drafts that have other ids.
    #[must_use]
    pub fn with_other_ids(&self) -> Self {
        Self { location: self.location, store: self.location.open(), drafts: Drafts::new(8) }
    }

    /// Opens the same store again, as another process would.
    #[must_use]
    pub fn other_process(&self) -> Box<dyn Store> {
        self.location.open()
    }

    /// Vacuums the store.
    pub fn vacuum(&self) {
        self.location.vacuum();
    }

    /// Closes the store and opens it again.
    pub fn reopen(&mut self) {
        self.store = self.location.open();
    }

    /// Creates a session.
    pub fn session(&self, name: &str) -> Session {
        self.store.create_session(&self.drafts.session(name)).unwrap()
    }

    /// Creates a session and returns the position of its empty main branch.
    pub fn main(&self) -> Position {
        at(self.session("fixture").current_branch, 0)
    }

    /// The session that a branch belongs to.
    pub fn session_of(&self, branch: BranchId) -> SessionId {
        self.store.get_branch(branch).unwrap().session
    }

    /// Appends a user message. Returns the new position.
    pub fn append_text(&self, at: Position, text: &str) -> Position {
        self.store.append(at, &[self.drafts.user(text)]).unwrap().position
    }

    /// Appends messages up to the seq `head`, each with the text `word SEQ`. Returns the new position.
    pub fn append_numbered(&self, branch: Position, word: &str, head: u64) -> Position {
        let drafts: Vec<_> =
            (branch.head + 1..=head).map(|seq| self.drafts.user(&format!("{word} {seq}"))).collect();
        self.store.append(branch, &drafts).unwrap().position
    }

    /// Forks a branch. Returns the position of the new branch, and the operation.
    pub fn fork(&self, from: Position, name: &str) -> (Position, Operation) {
        let draft = self.drafts.branch(name, from);
        let operation =
            self.store.create_branch(&draft, OperationKind::Fork, None, self.drafts.now()).unwrap();
        (at(draft.id, from.head), operation)
    }

    /// Rewinds to a checkpoint. Returns the position of the new branch, and the operation.
    pub fn rewind(&self, checkpoint: &Checkpoint, name: &str) -> (Position, Operation) {
        let from = at(checkpoint.branch, checkpoint.seq);
        let draft = self.drafts.branch(name, from);
        let now = self.drafts.now();
        let operation =
            self.store.create_branch(&draft, OperationKind::Rewind, Some(checkpoint.id), now).unwrap();
        (at(draft.id, from.head), operation)
    }

    /// Stores an automatic checkpoint.
    pub fn checkpoint(&self, position: Position, state: CheckpointState, retention: u32) -> Checkpoint {
        self.store.create_checkpoint(&self.drafts.checkpoint(position, state), retention).unwrap()
    }

    /// All messages of a branch, including those shared with its parents.
    pub fn history(&self, branch: BranchId) -> Vec<Message> {
        self.store.read_messages(branch, MessageRange::From(1, u32::MAX)).unwrap()
    }

    /// The texts of all messages of a branch.
    pub fn texts(&self, branch: BranchId) -> Vec<String> {
        self.history(branch).iter().map(|message| message.content.text()).collect()
    }

    /// The operations of a session, newest first.
    pub fn operations(&self, session: SessionId) -> Vec<Operation> {
        self.store.list_operations(Some(session), &PageRequest::first(1000)).unwrap().items
    }

    /// The newest operation of a session.
    pub fn last_operation(&self, session: SessionId) -> Operation {
        self.operations(session).remove(0)
    }

    /// Undoes an operation.
    pub fn undo(&self, target: OperationId) -> StoreResult<Operation> {
        self.store.reverse(target, OperationKind::Undo, self.drafts.now())
    }

    /// Redoes an operation.
    pub fn redo(&self, target: OperationId) -> StoreResult<Operation> {
        self.store.reverse(target, OperationKind::Redo, self.drafts.now())
    }

    /// The structure of a session as a user sees it: name, trash state, current branch, and the branches that are not
    /// undone with their texts.
    pub fn visible_state(&self, session: SessionId) -> String {
        let summary = self.store.get_session(session).unwrap();
        let mut lines = vec![format!(
            "{:?} automatic={} trashed={} current={} branches={}",
            summary.session.name,
            summary.session.automatic_name,
            summary.session.trashed_at.is_some(),
            summary.branch,
            summary.branches,
        )];
        for branch in self.store.list_branches(session).unwrap().iter().filter(|branch| !branch.undone) {
            let texts = self.texts(branch.id);
            lines
                .push(format!("{} from {:?} at {}: {texts:?}", branch.name, branch.parent, branch.forked_at));
        }
        lines.join("\n")
    }
}

/// Asserts that a call fails, and returns its error.
#[track_caller]
pub fn expect_error<T: std::fmt::Debug>(result: StoreResult<T>) -> StoreError {
    result.expect_err("the call should fail")
}

/// Asserts that a call fails with an error of this kind.
#[track_caller]
pub fn expect_kind<T: std::fmt::Debug>(result: StoreResult<T>, kind: ErrorKind) {
    let error = expect_error(result);
    assert_eq!(error.kind(), kind, "{error}");
}
