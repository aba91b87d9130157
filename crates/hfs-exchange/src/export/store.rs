//! A session in a store, as writers take it.

use hfs_core::{
    Branch, BranchId, Checkpoint, CheckpointId, CheckpointState, ContentHash, Message, MessageRange, Run,
    RunId, Seq, Session, SessionId, Store, StoreResult,
};

use super::DocumentSource;

/// A session of a store.
#[derive(Clone, Copy)]
pub struct StoredSession<'a> {
    store: &'a dyn Store,
    session: SessionId,
}

impl<'a> StoredSession<'a> {
    /// The session with this id.
    #[must_use]
    pub fn new(store: &'a dyn Store, session: SessionId) -> Self {
        Self { store, session }
    }
}

impl DocumentSource for StoredSession<'_> {
    fn session(&self) -> StoreResult<Session> {
        Ok(self.store.get_session(self.session)?.session)
    }

    fn branches(&self) -> StoreResult<Vec<Branch>> {
        let mut branches = self.store.list_branches(self.session)?;
        branches.retain(|branch| !branch.retired);
        Ok(branches)
    }

    fn messages(&self, branch: BranchId, after: Seq, limit: u32) -> StoreResult<Vec<Message>> {
        let mut messages =
            self.store.read_messages(branch, MessageRange::From(after.saturating_add(1), limit))?;
        messages.retain(|message| message.branch == branch);
        Ok(messages)
    }

    fn runs(&self) -> StoreResult<Vec<RunId>> {
        self.store.list_runs(self.session)
    }

    fn run(&self, id: RunId) -> StoreResult<Run> {
        self.store.get_run(id)
    }

    fn checkpoints(&self) -> StoreResult<Vec<Checkpoint>> {
        self.store.list_checkpoints(self.session)
    }

    fn state(&self, checkpoint: CheckpointId) -> StoreResult<CheckpointState> {
        self.store.load_state(checkpoint)
    }

    fn attachment(&self, hash: ContentHash) -> StoreResult<Vec<u8>> {
        self.store.get_attachment(hash)
    }
}
