use std::sync::Arc;

use hfs_core::{
    Attachment, AttachmentStore, BranchId, ContentHash, Cursor, Operation, OperationId, OperationKind,
    OperationStore, Page, PageRequest, SessionAttributes, SessionId, StoreError, StoreResult, Timestamp,
};

use super::data::{Change, Data, Record, Renamed, hash_of};
use super::{MemoryStore, conflict, invalid, not_found};

impl OperationStore for MemoryStore {
    fn list_operations(
        &self,
        session: Option<SessionId>,
        page: &PageRequest,
    ) -> StoreResult<Page<Operation>> {
        let data = self.lock();
        if let Some(session) = session {
            data.session(session)?;
        }
        let after = page.after.as_ref().map(read_cursor).transpose()?;
        let mut records = data
            .operations
            .iter()
            .rev()
            .filter(|record| session.is_none_or(|session| record.operation.session == session))
            .filter(|record| after.is_none_or(|after| record.number < after));
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let listed: Vec<&Record> = records.by_ref().take(limit).collect();
        let next = records.next().and(listed.last());
        let next = next.map(|last| Cursor(format!("operation/{}", last.number)));
        Ok(Page { items: listed.iter().map(|record| record.operation.clone()).collect(), next })
    }

    fn reverse(&self, target: OperationId, kind: OperationKind, at: Timestamp) -> StoreResult<Operation> {
        let mut data = self.lock();
        let reversal = data.check_reversal(target, kind)?;
        let Reversal { session, goal, retired, renamed, detail } = reversal;
        if let Some((branch, retired)) = retired {
            data.branch_mut(branch)?.branch.undone = retired;
        }
        let mut branch = retired.map(|(branch, _)| branch);
        if let Some((renamed_branch, renamed)) = &renamed {
            renamed.to.clone_into(&mut data.branch_mut(*renamed_branch)?.branch.name);
            branch = Some(*renamed_branch);
        }
        let row = data.session_mut(session)?;
        let before = row.shape();
        if before.trashed != goal.trashed {
            row.session.trashed_at = goal.trashed.then_some(at);
        }
        row.session.name = goal.name;
        row.session.automatic_name = goal.automatic_name;
        row.session.current_branch = goal.current_branch;
        data.record(Change {
            branch,
            target: Some(target),
            detail,
            renamed: renamed.map(|(_, renamed)| renamed),
            ..Change::new(session, kind, at, Some(before))
        })
    }
}

impl AttachmentStore for MemoryStore {
    fn get_attachment(&self, hash: ContentHash) -> StoreResult<Vec<u8>> {
        let data = self.lock();
        let bytes = data.attachments.get(&hash).ok_or_else(|| not_found("attachment", &hash))?;
        if hash_of(bytes) != hash {
            return Err(StoreError::Corrupt { message: format!("attachment {hash} is not what was stored") });
        }
        Ok(bytes.to_vec())
    }

    fn put_attachment(&self, attachment: &Attachment) -> StoreResult<()> {
        check_hash(attachment)?;
        let mut data = self.lock();
        data.attachments.entry(attachment.hash).or_insert_with(|| Arc::from(attachment.bytes.as_slice()));
        Ok(())
    }
}

/// What a reversal will change.
struct Reversal {
    session: SessionId,
    goal: SessionAttributes,
    /// The branch to retire or bring back, and which of the two.
    retired: Option<(BranchId, bool)>,
    renamed: Option<(BranchId, Renamed)>,
    detail: String,
}

impl Data {
    /// What is to be done, when nothing stands in the way.
    fn check_reversal(&self, target: OperationId, kind: OperationKind) -> StoreResult<Reversal> {
        let undo = match kind {
            OperationKind::Undo => true,
            OperationKind::Redo => false,
            _ => return Err(invalid(format!("{kind} reverses nothing"))),
        };
        let record = self.operations.iter().find(|record| record.operation.id == target);
        let record = record.ok_or_else(|| not_found("operation", &target))?;
        let operation = &record.operation;
        let Some(before) = operation.before.as_ref().filter(|_| operation.kind.is_reversible()) else {
            return Err(StoreError::Unsupported { message: format!("{} cannot be undone", operation.kind) });
        };
        let (left, goal) = if undo { (&operation.after, before) } else { (before, &operation.after) };

        let last = self.operations.iter().rev().find(|record| record.operation.target == Some(target));
        let undone = last.is_some_and(|last| last.operation.kind == OperationKind::Undo);
        if undo && undone {
            return Err(conflict(format!("{} {target} is undone already", operation.kind)));
        }
        if !undo && !undone {
            return Err(conflict(format!("{} {target} is not undone", operation.kind)));
        }
        if self.session(operation.session)?.shape() != *left {
            return Err(conflict(format!("the session has changed since its {}", operation.kind)));
        }

        let makes_branch = matches!(operation.kind, OperationKind::Fork | OperationKind::Rewind);
        let retired = operation.branch.filter(|_| makes_branch).map(|branch| (branch, undo));
        let brings_back = retired.is_some_and(|(branch, retire)| !retire && branch == goal.current_branch);
        if self.branch(goal.current_branch)?.branch.undone && !brings_back {
            return Err(conflict("the branch that was current then is retired"));
        }
        let renamed = operation.branch.zip(record.renamed.clone()).map(|(branch, Renamed { from, to })| {
            (branch, if undo { Renamed { from: to, to: from } } else { Renamed { from, to } })
        });
        if let Some((branch, renamed)) = &renamed {
            if self.branch(*branch)?.branch.name != renamed.from {
                return Err(conflict(format!("branch {:?} has another name by now", renamed.from)));
            }
            if renamed.from != renamed.to {
                self.check_name_is_free(operation.session, &renamed.to)?;
            }
        }
        let detail = format!("{} {}", operation.kind, operation.detail).trim_end().to_owned();
        Ok(Reversal { session: operation.session, goal: goal.clone(), retired, renamed, detail })
    }
}

pub(super) fn check_hash(attachment: &Attachment) -> StoreResult<()> {
    let found = hash_of(&attachment.bytes);
    if found != attachment.hash {
        return Err(invalid(format!("the attachment's hash is {found}, not {}", attachment.hash)));
    }
    Ok(())
}

fn read_cursor(cursor: &Cursor) -> StoreResult<u64> {
    let number = cursor.0.strip_prefix("operation/").and_then(|number| number.parse().ok());
    number.ok_or_else(|| invalid(format!("{:?} is no place in a list of operations", cursor.0)))
}
