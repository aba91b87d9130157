use hfs_core::{
    BranchId, Checkpoint, CheckpointState, ErrorExt, ErrorKind, Message, MessageRange, Operation,
    OperationId, OperationKind, PageRequest, Position, Session, SessionId, Store, StoreError, StoreResult,
};

use super::Place;
use crate::builders::{Drafts, at};

/// A store with what a promise needs to be looked at.
pub struct Scene<'a> {
    place: &'a dyn Place,
    /// The store.
    pub store: Box<dyn Store>,
    /// What is to be stored.
    pub make: Drafts,
}

impl<'a> Scene<'a> {
    /// A scene at this place.
    #[must_use]
    pub fn new(place: &'a dyn Place) -> Self {
        Self { place, store: place.open(), make: Drafts::new(7) }
    }

    /// Another scene in the same store.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self { place: self.place, store: self.place.open(), make: Drafts::new(8) }
    }

    /// The same store as another process sees it.
    #[must_use]
    pub fn another(&self) -> Box<dyn Store> {
        self.place.open()
    }

    /// Closes the store and opens it again.
    pub fn restart(&mut self) {
        self.store = self.place.open();
    }

    /// A new session.
    pub fn session(&self, name: &str) -> Session {
        self.store.create_session(&self.make.session(name)).unwrap()
    }

    /// A new session's empty main branch.
    pub fn main(&self) -> Position {
        at(self.session("scene").current_branch, 0)
    }

    /// The session that a branch belongs to.
    pub fn session_of(&self, branch: BranchId) -> SessionId {
        self.store.get_branch(branch).unwrap().session
    }

    /// Appends one message. Returns where the branch is then.
    pub fn say(&self, at: Position, text: &str) -> Position {
        self.store.append(at, &[self.make.user(text)]).unwrap().position
    }

    /// Appends messages `word 1`, `word 2` and so on, numbered by their seqs, up to `head`.
    pub fn talk(&self, branch: Position, word: &str, head: u64) -> Position {
        let drafts: Vec<_> =
            (branch.head + 1..=head).map(|seq| self.make.user(&format!("{word} {seq}"))).collect();
        self.store.append(branch, &drafts).unwrap().position
    }

    /// Forks a branch.
    pub fn fork(&self, from: Position, name: &str) -> (Position, Operation) {
        let draft = self.make.branch(name, from);
        let operation = self.store.create_branch(&draft, OperationKind::Fork, None, self.make.now()).unwrap();
        (at(draft.id, from.head), operation)
    }

    /// Goes back to a checkpoint.
    pub fn rewind(&self, checkpoint: &Checkpoint, name: &str) -> (Position, Operation) {
        let from = at(checkpoint.branch, checkpoint.seq);
        let draft = self.make.branch(name, from);
        let now = self.make.now();
        let operation =
            self.store.create_branch(&draft, OperationKind::Rewind, Some(checkpoint.id), now).unwrap();
        (at(draft.id, from.head), operation)
    }

    /// Stores an automatic checkpoint.
    pub fn checkpoint(&self, position: Position, state: CheckpointState, retention: u32) -> Checkpoint {
        self.store.create_checkpoint(&self.make.checkpoint(position, state), retention).unwrap()
    }

    /// A branch's whole history.
    pub fn history(&self, branch: BranchId) -> Vec<Message> {
        self.store.read_messages(branch, MessageRange::From(1, u32::MAX)).unwrap()
    }

    /// The texts of a branch's whole history.
    pub fn texts(&self, branch: BranchId) -> Vec<String> {
        self.history(branch).iter().map(|message| message.content.text()).collect()
    }

    /// Everything that was recorded about a session, newest first.
    pub fn operations(&self, session: SessionId) -> Vec<Operation> {
        self.store.list_operations(Some(session), &PageRequest::first(1000)).unwrap().items
    }

    /// The operation recorded last.
    pub fn last_operation(&self, session: SessionId) -> Operation {
        self.operations(session).remove(0)
    }

    /// Undoes an operation.
    pub fn undo(&self, target: OperationId) -> StoreResult<Operation> {
        self.store.reverse(target, OperationKind::Undo, self.make.now())
    }

    /// Redoes an operation.
    pub fn redo(&self, target: OperationId) -> StoreResult<Operation> {
        self.store.reverse(target, OperationKind::Redo, self.make.now())
    }

    /// What a user can see of a session's structure: its name, its branches but the undone ones, the current
    /// one, whether it is in the trash, and the texts of every branch.
    pub fn visible(&self, session: SessionId) -> String {
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

/// The error of a call that must fail.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: StoreResult<T>) -> StoreError {
    result.expect_err("this must fail")
}

/// Checks that a call fails in this way.
#[track_caller]
pub fn expect_kind<T: std::fmt::Debug>(result: StoreResult<T>, kind: ErrorKind) {
    let error = refused(result);
    assert_eq!(error.kind(), kind, "{error}");
}
