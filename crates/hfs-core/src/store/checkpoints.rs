//! Runs, checkpoints and the state that branches continue from.

use crate::{
    BranchId, Checkpoint, CheckpointDraft, CheckpointId, CheckpointState, PluginStates, Run, RunId,
    SessionId, Timestamp,
};

use super::StoreResult;

/// Runs.
pub trait RunStore {
    /// Stores a run. A run with the same id is replaced.
    ///
    /// # Errors
    /// `NotFound` for its branch.
    fn save_run(&self, run: &Run) -> StoreResult<()>;

    /// Reads a run with its events.
    ///
    /// # Errors
    /// `NotFound`.
    fn get_run(&self, id: RunId) -> StoreResult<Run>;

    /// Lists the runs of a session by time of start, and then by id.
    ///
    /// # Errors
    /// `NotFound` for the session.
    fn list_runs(&self, session: SessionId) -> StoreResult<Vec<RunId>>;
}

/// Checkpoints and branch states. States are stored by content: equal states once, similar ones as deltas.
pub trait CheckpointStore {
    /// Stores a checkpoint, then prunes automatic checkpoints of its session down to `retention`, in the same
    /// transaction and without an operation. Manual, pinned and labelled checkpoints are neither counted nor pruned.
    ///
    /// The newest half of the automatic checkpoints is kept. Of the others, those in the middle of runs
    /// ([`Trigger::ends_run`](crate::Trigger::ends_run)) are pruned before those at the end of runs, so that one long
    /// run does not remove the ends of all earlier ones, and older ones before newer ones. Age is that of `created_at`.
    /// With a retention of 0 the new checkpoint is pruned as well.
    ///
    /// # Errors
    /// `NotFound` for its branch; `Invalid` for a seq beyond its head; `Conflict` if the id exists.
    fn create_checkpoint(&self, draft: &CheckpointDraft, retention: u32) -> StoreResult<Checkpoint>;

    /// Lists the checkpoints of a session by `created_at`, oldest first, and then in the order of storing.
    ///
    /// # Errors
    /// `NotFound` for the session.
    fn list_checkpoints(&self, session: SessionId) -> StoreResult<Vec<Checkpoint>>;

    /// Reads a checkpoint without its state.
    ///
    /// # Errors
    /// `NotFound`.
    fn get_checkpoint(&self, id: CheckpointId) -> StoreResult<Checkpoint>;

    /// Reads the state of a checkpoint and verifies its hash.
    ///
    /// # Errors
    /// `NotFound`; `Corrupt` if the hash does not match.
    fn load_state(&self, id: CheckpointId) -> StoreResult<CheckpointState>;

    /// Reads the state of a checkpoint as [canonical JSON](CheckpointState::canonical_json), for callers that only
    /// forward it.
    ///
    /// # Errors
    /// Those of [`load_state`](Self::load_state).
    fn load_state_json(&self, id: CheckpointId) -> StoreResult<String>;

    /// Stores the state that the next run on this branch continues from, replacing the earlier one. It is stored by
    /// content, so a state equal to that of a checkpoint takes no further space.
    ///
    /// # Errors
    /// `NotFound` for the branch.
    fn save_branch_state(&self, branch: BranchId, state: &CheckpointState) -> StoreResult<()>;

    /// Replaces only the plugin states in the branch's state, in one transaction: a concurrent
    /// [`save_branch_state`](Self::save_branch_state) loses nothing else.
    ///
    /// # Errors
    /// Those of [`load_branch_state`](Self::load_branch_state).
    fn save_branch_plugins(&self, branch: BranchId, plugins: &PluginStates) -> StoreResult<()>;

    /// Reads the state that the next run on this branch continues from. That is, in this order:
    ///
    /// 1. what [`save_branch_state`](Self::save_branch_state) stored for the branch;
    /// 2. for a branch created by a rewind, the state of its checkpoint, also after the checkpoint was pruned;
    /// 3. for a fork, the state of the checkpoint nearest to the fork at the time of the fork: the newest one with the
    ///    highest seq at or before the fork, on the history that both branches share;
    /// 4. `None`, as for imported branches.
    ///
    /// # Errors
    /// `NotFound` for the branch; `Corrupt` if the hash does not match.
    fn load_branch_state(&self, branch: BranchId) -> StoreResult<Option<CheckpointState>>;

    /// Pins or unpins a checkpoint. Pruning happens only when the next checkpoint is created.
    ///
    /// # Errors
    /// `NotFound`.
    fn pin_checkpoint(&self, id: CheckpointId, pinned: bool) -> StoreResult<()>;

    /// Removes a checkpoint, with its state if no other checkpoint or branch refers to it, and records `prune`.
    ///
    /// # Errors
    /// `NotFound`.
    fn delete_checkpoint(&self, id: CheckpointId, at: Timestamp) -> StoreResult<()>;
}
