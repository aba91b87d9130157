//! Checkpoints and their states. States are stored uncompressed, by the hash of their canonical JSON.

use std::collections::HashSet;

use hfs_core::{
    BranchId, Checkpoint, CheckpointDraft, CheckpointId, CheckpointState, CheckpointStore, ContentHash,
    OperationKind, PluginStates, Seq, SessionId, StateCost, StoreError, StoreResult, Timestamp, Trigger,
};

use super::{Data, MemoryStore, NewOperation, conflict, hash_of, invalid, not_found};

impl CheckpointStore for MemoryStore {
    fn create_checkpoint(&self, draft: &CheckpointDraft, retention: u32) -> StoreResult<Checkpoint> {
        let mut data = self.lock();
        let session = data.branch(draft.branch)?.branch.session;
        data.check_checkpoint(draft)?;
        let checkpoint = data.insert_checkpoint(session, draft)?;
        data.prune(session, retention);
        // A checkpoint that is pruned at once takes no number.
        if data.checkpoint(checkpoint.id).is_ok() {
            data.session_mut(session)?.last_checkpoint = checkpoint.number;
        }
        Ok(checkpoint)
    }

    fn list_checkpoints(&self, session: SessionId) -> StoreResult<Vec<Checkpoint>> {
        let data = self.lock();
        data.session(session)?;
        Ok(data.oldest_first(session).cloned().collect())
    }

    fn get_checkpoint(&self, id: CheckpointId) -> StoreResult<Checkpoint> {
        self.lock().checkpoint(id).cloned()
    }

    fn load_state(&self, id: CheckpointId) -> StoreResult<CheckpointState> {
        let data = self.lock();
        data.state(data.checkpoint(id)?.state_hash)
    }

    fn load_state_json(&self, id: CheckpointId) -> StoreResult<String> {
        let data = self.lock();
        let hash = data.checkpoint(id)?.state_hash;
        let json = String::from_utf8(data.state_bytes(hash)?.to_vec());
        json.map_err(|_| StoreError::Corrupt { message: format!("state {hash} is not text") })
    }

    fn save_branch_state(&self, branch: BranchId, state: &CheckpointState) -> StoreResult<()> {
        let mut data = self.lock();
        data.branch(branch)?;
        let (hash, _) = data.put_state(state)?;
        data.branch_mut(branch)?.state = Some(hash);
        data.drop_unused_states();
        Ok(())
    }

    fn save_branch_plugins(&self, branch: BranchId, plugins: &PluginStates) -> StoreResult<()> {
        let mut data = self.lock();
        let before = data.branch(branch)?.state.map(|hash| data.state(hash)).transpose()?.unwrap_or_default();
        if before.plugins == *plugins {
            return Ok(());
        }
        let (hash, _) = data.put_state(&CheckpointState { plugins: plugins.clone(), ..before })?;
        data.branch_mut(branch)?.state = Some(hash);
        data.drop_unused_states();
        Ok(())
    }

    fn load_branch_state(&self, branch: BranchId) -> StoreResult<Option<CheckpointState>> {
        let data = self.lock();
        data.branch(branch)?.state.map(|hash| data.state(hash)).transpose()
    }

    fn pin_checkpoint(&self, id: CheckpointId, pinned: bool) -> StoreResult<()> {
        let mut data = self.lock();
        let found = data.checkpoints.iter_mut().find(|checkpoint| checkpoint.id == id);
        found.ok_or_else(|| not_found("checkpoint", &id))?.pinned = pinned;
        Ok(())
    }

    fn withdraw_checkpoints(&self, ids: &[CheckpointId]) -> StoreResult<()> {
        let mut data = self.lock();
        data.checkpoints.retain(|checkpoint| !ids.contains(&checkpoint.id) || !is_automatic(checkpoint));
        data.drop_unused_states();
        Ok(())
    }

    fn delete_checkpoint(&self, id: CheckpointId, at: Timestamp) -> StoreResult<()> {
        let mut data = self.lock();
        let session = data.checkpoint(id)?.session;
        let before = data.session(session)?.attributes();
        data.checkpoints.retain(|checkpoint| checkpoint.id != id);
        data.drop_unused_states();
        let new = NewOperation::new(session, OperationKind::Prune, at, Some(before));
        data.record(NewOperation { checkpoint: Some(id), ..new })?;
        Ok(())
    }
}

/// Whether retention may prune the checkpoint.
fn is_automatic(checkpoint: &Checkpoint) -> bool {
    !checkpoint.pinned && checkpoint.label.is_none() && checkpoint.trigger != Trigger::Manual
}

impl Data {
    pub(super) fn checkpoint(&self, id: CheckpointId) -> StoreResult<&Checkpoint> {
        let found = self.checkpoints.iter().find(|checkpoint| checkpoint.id == id);
        found.ok_or_else(|| not_found("checkpoint", &id))
    }

    fn check_checkpoint(&self, draft: &CheckpointDraft) -> StoreResult<()> {
        let branch = &self.branch(draft.branch)?.branch;
        if draft.seq > branch.head {
            return Err(invalid(format!(
                "branch {:?} ends at message {}, before message {}",
                branch.name, branch.head, draft.seq
            )));
        }
        if self.checkpoint(draft.id).is_ok() {
            return Err(conflict(format!("checkpoint {} already exists", draft.id)));
        }
        Ok(())
    }

    pub(super) fn insert_checkpoint(
        &mut self,
        session: SessionId,
        draft: &CheckpointDraft,
    ) -> StoreResult<Checkpoint> {
        let (state_hash, state_bytes) = self.put_state(&draft.state)?;
        let cost = StateCost { state_bytes, stored_bytes: state_bytes };
        let number = self.session(session)?.last_checkpoint + 1;
        let checkpoint = draft.stored(session, number, state_hash, cost);
        self.checkpoints.push(checkpoint.clone());
        Ok(checkpoint)
    }

    fn oldest_first(&self, session: SessionId) -> impl DoubleEndedIterator<Item = &Checkpoint> {
        let mut found: Vec<&Checkpoint> =
            self.checkpoints.iter().filter(|checkpoint| checkpoint.session == session).collect();
        found.sort_by_key(|checkpoint| checkpoint.created_at);
        found.into_iter()
    }

    fn prune(&mut self, session: SessionId, retention: u32) {
        let keep = usize::try_from(retention).unwrap_or(usize::MAX);
        // Sorted by preference: those at the end of a run, then the others.
        let newest_first = self.oldest_first(session).rev();
        let mut wanted: Vec<&Checkpoint> =
            newest_first.filter(|checkpoint| is_automatic(checkpoint)).collect();
        wanted.sort_by_key(|checkpoint| !checkpoint.trigger.ends_run());
        let surplus: HashSet<CheckpointId> =
            wanted.into_iter().skip(keep).map(|checkpoint| checkpoint.id).collect();
        self.checkpoints.retain(|checkpoint| !surplus.contains(&checkpoint.id));
        self.drop_unused_states();
    }

    /// Stores a state. Returns its hash and its size in bytes.
    pub(super) fn put_state(&mut self, state: &CheckpointState) -> StoreResult<(ContentHash, u64)> {
        let bytes = state.canonical_json().map_err(|source| StoreError::Internal {
            action: "write a checkpoint's state".into(),
            source: source.into(),
        })?;
        let size = bytes.len() as u64;
        let hash = hash_of(&bytes);
        self.states.entry(hash).or_insert_with(|| bytes.into());
        Ok((hash, size))
    }

    /// Deletes the states that no checkpoint and no branch refers to.
    pub(super) fn drop_unused_states(&mut self) {
        let mut used: Vec<ContentHash> =
            self.checkpoints.iter().map(|checkpoint| checkpoint.state_hash).collect();
        used.extend(self.branches.values().filter_map(|branch| branch.state));
        self.states.retain(|hash, _| used.contains(hash));
    }

    fn state_bytes(&self, hash: ContentHash) -> StoreResult<&[u8]> {
        let corrupt = |why: &str| StoreError::Corrupt { message: format!("state {hash} {why}") };
        let bytes = self.states.get(&hash).ok_or_else(|| corrupt("is missing"))?;
        if hash_of(bytes) == hash { Ok(bytes) } else { Err(corrupt("does not match its hash")) }
    }

    fn state(&self, hash: ContentHash) -> StoreResult<CheckpointState> {
        serde_json::from_slice(self.state_bytes(hash)?)
            .map_err(|error| StoreError::Corrupt { message: format!("state {hash} cannot be read: {error}") })
    }

    /// Returns the state of the last checkpoint at or before `seq` in the branch's history.
    pub(super) fn state_before(&self, branch: BranchId, seq: Seq) -> Option<ContentHash> {
        let mut ancestors = vec![(branch, seq)];
        let mut next = self.branches.get(&branch);
        let mut limit = seq;
        while let Some(row) = next {
            limit = limit.min(row.branch.forked_at);
            let Some(parent) = row.branch.parent else { break };
            ancestors.push((parent, limit));
            next = self.branches.get(&parent);
        }
        let is_in_history = |checkpoint: &&Checkpoint| {
            ancestors.iter().any(|(branch, limit)| checkpoint.branch == *branch && checkpoint.seq <= *limit)
        };
        // `max_by_key` returns the last of equal items, which is the one that was stored last.
        self.checkpoints
            .iter()
            .filter(is_in_history)
            .max_by_key(|checkpoint| (checkpoint.seq, checkpoint.created_at))
            .map(|checkpoint| checkpoint.state_hash)
    }
}
