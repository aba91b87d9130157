use hfs_core::{
    Branch, BranchDraft, BranchId, BranchStore, CheckpointId, Operation, OperationKind, SessionId,
    StoreError, StoreResult, Timestamp,
};

use super::data::{BranchRow, Change, Data, Renamed};
use super::{MemoryStore, conflict, invalid};

impl BranchStore for MemoryStore {
    fn list_branches(&self, session: SessionId) -> StoreResult<Vec<Branch>> {
        let data = self.lock();
        let row = data.session(session)?;
        Ok(data.branches_of(row).map(|branch| branch.branch.clone()).collect())
    }

    fn get_branch(&self, id: BranchId) -> StoreResult<Branch> {
        self.lock().branch(id).map(|row| row.branch.clone())
    }

    fn create_branch(
        &self,
        draft: &BranchDraft,
        kind: OperationKind,
        checkpoint: Option<CheckpointId>,
        at: Timestamp,
    ) -> StoreResult<Operation> {
        let mut data = self.lock();
        let parent = data.check_fork(draft)?;
        let state = match (kind, checkpoint) {
            (OperationKind::Rewind, Some(id)) => {
                let checkpoint = data.checkpoint(id)?;
                if checkpoint.session != parent.session {
                    return Err(invalid(format!("checkpoint {id} belongs to another session")));
                }
                Some(checkpoint.state_hash)
            }
            (OperationKind::Fork, None) => data.state_before(parent.id, draft.forked_at),
            (OperationKind::Rewind, None) => {
                return Err(invalid("a rewind needs a checkpoint to go back to"));
            }
            (OperationKind::Fork, Some(_)) => return Err(invalid("a fork goes back to no checkpoint")),
            _ => return Err(invalid(format!("{kind} makes no branch"))),
        };
        let branch = Branch {
            id: draft.id,
            session: parent.session,
            name: draft.name.clone(),
            parent: Some(parent.id),
            forked_at: draft.forked_at,
            head: draft.forked_at,
            created_at: at,
            undone: false,
        };
        data.branches.insert(draft.id, BranchRow { branch, messages: Vec::new(), state });
        let row = data.session_mut(parent.session)?;
        let before = row.shape();
        row.branches.push(draft.id);
        row.session.current_branch = draft.id;
        data.record(Change {
            branch: Some(draft.id),
            checkpoint,
            detail: format!("{} at {} -> {}", parent.name, draft.forked_at, draft.name),
            ..Change::new(parent.session, kind, at, Some(before))
        })
    }

    fn switch_branch(&self, branch: BranchId, at: Timestamp) -> StoreResult<Operation> {
        let mut data = self.lock();
        let target = data.branch(branch)?.branch.clone();
        if target.undone {
            return Err(conflict(format!("branch {:?} is retired", target.name)));
        }
        let before = data.session(target.session)?.shape();
        let from = data.branch(before.current_branch)?.branch.name.clone();
        data.session_mut(target.session)?.session.current_branch = branch;
        data.record(Change {
            detail: format!("{from} -> {}", target.name),
            ..Change::new(target.session, OperationKind::Switch, at, Some(before))
        })
    }

    fn rename_branch(&self, branch: BranchId, name: &str, at: Timestamp) -> StoreResult<Operation> {
        let mut data = self.lock();
        let old = data.branch(branch)?.branch.clone();
        if old.name != name {
            data.check_name_is_free(old.session, name)?;
        }
        let before = data.session(old.session)?.shape();
        name.clone_into(&mut data.branch_mut(branch)?.branch.name);
        data.record(Change {
            branch: Some(branch),
            detail: format!("{} -> {name}", old.name),
            renamed: Some(Renamed { from: old.name, to: name.to_owned() }),
            ..Change::new(old.session, OperationKind::RenameBranch, at, Some(before))
        })
    }
}

impl Data {
    /// The parent, when the branch can be made.
    fn check_fork(&self, draft: &BranchDraft) -> StoreResult<Branch> {
        let parent = self.branch(draft.parent)?.branch.clone();
        if draft.forked_at > parent.head {
            return Err(invalid(format!(
                "branch {:?} ends at message number {}, before {}",
                parent.name, parent.head, draft.forked_at
            )));
        }
        if self.branches.contains_key(&draft.id) {
            return Err(conflict(format!("branch {} exists already", draft.id)));
        }
        self.check_name_is_free(parent.session, &draft.name)?;
        if self.message_at(parent.id, draft.forked_at).is_some_and(|(_, message)| message.is_live()) {
            return Err(StoreError::Locked { seq: draft.forked_at });
        }
        Ok(parent)
    }
}
