//! A session in the store as the source of an export.

use std::collections::HashSet;
use std::sync::Arc;

use hfs_core::{
    Branch, BranchId, Checkpoint, CheckpointId, CheckpointState, ContentHash, Message, MessageRange, Project,
    Run, RunId, Seq, Session, SessionId, Store, StoreError, StoreResult,
};
use hfs_exchange::{DocumentSource, branches_with_ancestors};

/// A session in the store as it was at one moment: what any process writes later does not appear in it. Branches,
/// checkpoints and run ids are held in memory; messages, runs and states are read on demand.
pub struct StoreDocument {
    store: Arc<dyn Store>,
    session: Session,
    branches: Vec<Branch>,
    checkpoints: Vec<Checkpoint>,
    runs: Vec<RunId>,
    on_progress: Box<dyn Fn(u64)>,
}

impl StoreDocument {
    /// Reads the session from a snapshot of `store`.
    ///
    /// Undone branches without messages of their own are left out, unless another branch descends from them.
    ///
    /// # Errors
    /// `NotFound`, and any error of the store.
    pub fn new(store: &dyn Store, session: SessionId) -> StoreResult<Self> {
        let store = store.snapshot()?;
        let mut checkpoints = store.list_checkpoints(session)?;
        let mut runs = store.list_runs(session)?;
        let summary = store.get_session(session)?;
        let all = store.list_branches(session)?;
        let kept = branches_with_ancestors(&all, summary.session.current_branch, Branch::is_listed);
        if kept.len() < all.len() {
            checkpoints.retain(|checkpoint| kept.contains(&checkpoint.branch));
            runs = runs_on(store.as_ref(), &runs, &kept)?;
        }
        let branches = all.into_iter().filter(|branch| kept.contains(&branch.id)).collect();
        let on_progress = Box::new(|_| {});
        Ok(Self { store, session: summary.session, branches, checkpoints, runs, on_progress })
    }

    /// Calls `on_progress` with the number of messages read since the last call.
    pub fn with_progress(mut self, on_progress: impl Fn(u64) + 'static) -> Self {
        self.on_progress = Box::new(on_progress);
        self
    }

    /// Makes this branch the current one. Formats that contain a single branch write the current one.
    pub const fn on_branch(mut self, branch: BranchId) -> Self {
        self.session.current_branch = branch;
        self
    }

    /// Leaves out the undone branches, except for ancestors of others. For transcripts that a tool continues: it could take
    /// the end of an undone branch for the end of the conversation.
    pub fn without_undone(mut self) -> Self {
        let kept =
            branches_with_ancestors(&self.branches, self.session.current_branch, |branch| !branch.undone);
        self.branches.retain(|branch| kept.contains(&branch.id));
        self.checkpoints.retain(|checkpoint| kept.contains(&checkpoint.branch));
        self
    }

    /// Places the session in this directory.
    pub fn in_directory(mut self, directory: String) -> Self {
        let repository = self.session.project.take().and_then(|project| project.repository);
        self.session.project = Some(Project { directory, repository });
        self
    }

    pub const fn session_record(&self) -> &Session {
        &self.session
    }

    pub const fn branch_count(&self) -> usize {
        self.branches.len()
    }

    /// The number of messages on all branches, without those that a branch shares with its parent.
    pub fn message_count(&self) -> u64 {
        self.branches.iter().map(|branch| branch.head.saturating_sub(branch.forked_at)).sum()
    }
}

fn runs_on(store: &dyn Store, runs: &[RunId], branches: &HashSet<BranchId>) -> StoreResult<Vec<RunId>> {
    let mut found = Vec::with_capacity(runs.len());
    for run in runs {
        if branches.contains(&store.get_run(*run)?.branch) {
            found.push(*run);
        }
    }
    Ok(found)
}

impl DocumentSource for StoreDocument {
    fn session(&self) -> StoreResult<Session> {
        Ok(self.session.clone())
    }

    fn branches(&self) -> StoreResult<Vec<Branch>> {
        Ok(self.branches.clone())
    }

    fn messages(&self, id: BranchId, after: Seq, limit: u32) -> StoreResult<Vec<Message>> {
        let branch = self.branches.iter().find(|branch| branch.id == id);
        let branch =
            branch.ok_or_else(|| StoreError::NotFound { what: "branch", reference: id.to_string() })?;
        let first = after.max(branch.forked_at) + 1;
        let remaining = branch.head.saturating_sub(first - 1);
        let count = u32::try_from(remaining).unwrap_or(u32::MAX).min(limit);
        if count == 0 {
            return Ok(Vec::new());
        }
        let page = self.store.read_messages(branch.id, MessageRange::From(first, count))?;
        (self.on_progress)(u64::try_from(page.len()).unwrap_or(0));
        Ok(page)
    }

    fn runs(&self) -> StoreResult<Vec<RunId>> {
        Ok(self.runs.clone())
    }

    fn run(&self, id: RunId) -> StoreResult<Run> {
        self.store.get_run(id)
    }

    fn checkpoints(&self) -> StoreResult<Vec<Checkpoint>> {
        Ok(self.checkpoints.clone())
    }

    fn state(&self, checkpoint: CheckpointId) -> StoreResult<CheckpointState> {
        self.store.load_state(checkpoint)
    }

    fn attachment(&self, hash: ContentHash) -> StoreResult<Vec<u8>> {
        self.store.get_attachment(hash)
    }
}
