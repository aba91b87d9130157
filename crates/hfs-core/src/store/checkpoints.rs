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

/// Checkpoints and branch states. States are addressed by their hash, so equal states are stored once; similar states
/// are stored as deltas.
pub trait CheckpointStore {
    /// Stores a checkpoint, then prunes automatic checkpoints of its session down to `retention`, in the same
    /// transaction and without an operation. Manual, pinned and labelled checkpoints are neither counted nor pruned.
    ///
    /// Checkpoints in the middle of a run are pruned before those at the end of one
    /// ([`Trigger::ends_run`](crate::Trigger::ends_run)), so that a run never removes the end of an earlier one except by
    /// its own end; within each group, the oldest by `created_at` are pruned first. The new checkpoint may itself be pruned;
    /// it then takes no number.
    ///
    /// # Errors
    /// `NotFound` for its branch; `Invalid` for a seq beyond its head; `Conflict` if the id exists.
    fn create_checkpoint(&self, draft: &CheckpointDraft, retention: u32) -> StoreResult<Checkpoint>;

    /// Lists the checkpoints of a session by `created_at`, oldest first; equal times are in insertion order.
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

    /// Stores the state that the next run on this branch continues from, replacing the earlier one. A state equal to
    /// that of a checkpoint takes no further space.
    ///
    /// # Errors
    /// `NotFound` for the branch.
    fn save_branch_state(&self, branch: BranchId, state: &CheckpointState) -> StoreResult<()>;

    /// Replaces the plugin states in the branch's state, in one transaction, so that it does not overwrite other parts
    /// that a concurrent [`save_branch_state`](Self::save_branch_state) changes.
    ///
    /// # Errors
    /// Those of [`load_branch_state`](Self::load_branch_state).
    fn save_branch_plugins(&self, branch: BranchId, plugins: &PluginStates) -> StoreResult<()>;

    /// Reads the state that the next run on this branch continues from: the first of these that exists.
    ///
    /// 1. the state that [`save_branch_state`](Self::save_branch_state) stored for the branch;
    /// 2. for a branch created by a rewind, the state of its checkpoint, even if the checkpoint was pruned since, or
    ///    `None` for a rewind without one;
    /// 3. for a fork, the state of the last checkpoint in the history that it shares with its parent, as of the time of
    ///    the fork: the one with the highest seq and, of those, the newest;
    /// 4. `None`, as for imported branches.
    ///
    /// # Errors
    /// `NotFound` for the branch; `Corrupt` if the hash does not match.
    fn load_branch_state(&self, branch: BranchId) -> StoreResult<Option<CheckpointState>>;

    /// Pins or unpins a checkpoint. Unpinning prunes nothing by itself; the creation of the next checkpoint may.
    ///
    /// # Errors
    /// `NotFound`.
    fn pin_checkpoint(&self, id: CheckpointId, pinned: bool) -> StoreResult<()>;

    /// Removes those of these checkpoints that retention may prune and that still exist, without an operation: the
    /// checkpoints of a run that has failed.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn withdraw_checkpoints(&self, ids: &[CheckpointId]) -> StoreResult<()>;

    /// Removes a checkpoint, with its state if no other checkpoint or branch refers to it, and records `prune`.
    ///
    /// # Errors
    /// `NotFound`.
    fn delete_checkpoint(&self, id: CheckpointId, at: Timestamp) -> StoreResult<()>;
}
