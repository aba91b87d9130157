//! Creates branches by fork and rewind, switches to them, and renames them.

use hfs_core::{
    Branch, BranchDraft, BranchId, BranchStore, CheckpointId, ContentHash, Operation, OperationKind,
    SessionId, StoreError, StoreResult, Timestamp,
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::PostgresStore;
use crate::db::Tx;
use crate::db::value::{Columns as _, values};
use crate::error::{Result, invalid, not_found};
use crate::store::lookup::{self, BranchRecord, Place};
use crate::store::operations::{self, Change, check_name_is_free};
use crate::store::sessions::NewBranch;
use crate::store::{checkpoints, session_stats};

const SELECT_BRANCH: &str =
    "SELECT branch.no, branch.id, branch.session, branch.name, parent.id, branch.forked_at,
    branch.created_at, branch.undone, branch.parent,
    (SELECT max(seq) FROM message WHERE message.session = branch.session AND message.branch = branch.no)
    FROM branch JOIN activity ON activity.session = branch.session
    LEFT JOIN branch AS parent ON parent.session = branch.session AND parent.no = branch.parent";

fn branch_from_row(row: &Row) -> Result<Branch> {
    lookup::check_parent(row.int(0)?, row.opt_int(8)?)?;
    let forked_at = row.count(5)?;
    let newest = row.opt_int(9)?.map(i64::cast_unsigned);
    Ok(Branch {
        id: BranchId::from_uuid(row.id(1)?),
        session: SessionId::from_uuid(row.id(2)?),
        name: row.text(3)?,
        parent: row.opt_id(4)?.map(BranchId::from_uuid),
        forked_at,
        head: newest.unwrap_or(forked_at),
        created_at: row.time(6)?,
        undone: row.flag(7)?,
    })
}

fn check_fork(tx: &Tx, parent: &BranchRecord, draft: &BranchDraft) -> Result<()> {
    let head = lookup::head(tx, parent)?;
    if draft.forked_at > head {
        return Err(invalid(format!(
            "branch {:?} ends at message {head}, before message {}",
            parent.name, draft.forked_at
        )));
    }
    check_name_is_free(tx, parent.session, &draft.name)?;
    // The message at the fork may be a reply that is being written, on the parent or on an ancestor of it.
    let holder = holder_of(tx, parent, draft.forked_at)?;
    if let Some(branch) = holder {
        let place = Place { session: parent.session, branch, seq: draft.forked_at };
        if lookup::is_being_written(tx, place)? {
            return Err(StoreError::Locked { seq: draft.forked_at }.into());
        }
    }
    Ok(())
}

/// The number of the branch that stores the message at `seq` of a branch's history.
fn holder_of(tx: &Tx, branch: &BranchRecord, seq: u64) -> Result<Option<i64>> {
    let path = lookup::path(tx, branch.clone())?;
    Ok(path.iter().find(|(branch, _)| seq > branch.forked_at).map(|(branch, _)| branch.no))
}

/// Marks a branch as undone, or ends that. The caller has checked that this is a change.
pub(crate) fn set_undone(tx: &Tx, session: Uuid, branch: BranchId, undone: bool) -> Result<()> {
    tx.execute("UPDATE branch SET undone = $2 WHERE id = $1", &values![*branch.as_uuid(), undone])?;
    session_stats::add_branches(tx, session, if undone { -1 } else { 1 })
}

pub(crate) fn set_name(tx: &Tx, branch: BranchId, name: &str) -> Result<()> {
    tx.execute("UPDATE branch SET name = $2 WHERE id = $1", &values![*branch.as_uuid(), name]).map(drop)
}

pub(crate) fn make_current(tx: &Tx, session: Uuid, branch: i64) -> Result<()> {
    tx.execute("UPDATE session SET current_branch = $2 WHERE id = $1", &values![session, branch]).map(drop)
}

/// The number of the session's next branch. The session must be locked.
pub(crate) fn next_no(tx: &Tx, session: Uuid) -> Result<i64> {
    tx.one("SELECT coalesce(max(no), -1) + 1 FROM branch WHERE session = $1", &values![session])?.int(0)
}

impl BranchStore for PostgresStore {
    fn list_branches(&self, session: SessionId) -> StoreResult<Vec<Branch>> {
        self.db.read("list branches", |tx| {
            let session = lookup::session(tx, session)?;
            // In order of creation, so a parent comes before its children.
            let sql = format!("{SELECT_BRANCH} WHERE branch.session = $1 ORDER BY branch.no");
            tx.rows(&sql, &values![session])?.iter().map(branch_from_row).collect()
        })
    }

    fn get_branch(&self, id: BranchId) -> StoreResult<Branch> {
        self.db.read("read a branch", |tx| {
            let sql = format!("{SELECT_BRANCH} WHERE branch.id = $1 AND activity.state <> 2");
            let row = tx.row(&sql, &values![*id.as_uuid()])?;
            branch_from_row(&row.ok_or_else(|| not_found("branch", &id))?)
        })
    }

    fn create_branch(
        &self,
        draft: &BranchDraft,
        kind: OperationKind,
        checkpoint: Option<CheckpointId>,
        at: Timestamp,
    ) -> StoreResult<Operation> {
        self.db.write("create a branch", |tx| {
            let parent = lookup::lock_branch(tx, draft.parent)?;
            check_fork(tx, &parent, draft)?;
            let state: Option<ContentHash> = match (kind, checkpoint) {
                (OperationKind::Rewind, Some(id)) => {
                    Some(checkpoints::state_for_rewind(tx, id, parent.session)?)
                }
                (OperationKind::Rewind, None) => None,
                (OperationKind::Fork | OperationKind::Import, None) => {
                    checkpoints::latest_state_at(tx, &parent, draft.forked_at)?
                }
                (OperationKind::Fork | OperationKind::Import, Some(_)) => {
                    return Err(invalid(format!("the operation {kind} does not take a checkpoint")));
                }
                (
                    OperationKind::Create
                    | OperationKind::Rename
                    | OperationKind::RenameBranch
                    | OperationKind::Switch
                    | OperationKind::Delete
                    | OperationKind::Restore
                    | OperationKind::Prune
                    | OperationKind::Undo
                    | OperationKind::Redo,
                    _,
                ) => return Err(invalid(format!("{kind} does not create a branch"))),
            };
            let before = operations::session_attributes(tx, parent.session)?;
            let branch = NewBranch {
                session: parent.session,
                id: draft.id,
                name: &draft.name,
                parent: Some(parent.no),
                forked_at: draft.forked_at,
                at: at.as_micros(),
            };
            let no = next_no(tx, parent.session)?;
            branch.insert(tx, no, state.as_ref().map(|hash| hash.as_bytes().as_slice()))?;
            if kind != OperationKind::Import {
                make_current(tx, parent.session, no)?;
            }
            session_stats::add_branches(tx, parent.session, 1)?;
            let change = Change {
                before: Some(before),
                branch: Some(draft.id),
                checkpoint,
                detail: format!("{} at {} -> {}", parent.name, draft.forked_at, draft.name),
                ..Change::new(parent.session, kind, at)
            };
            if kind == OperationKind::Import {
                operations::record_quietly(tx, change)
            } else {
                operations::record(tx, change)
            }
        })
    }

    fn switch_branch(&self, branch: BranchId, at: Timestamp) -> StoreResult<Operation> {
        self.db.write("switch to a branch", |tx| {
            let branch = lookup::lock_branch(tx, branch)?;
            let before = operations::session_attributes(tx, branch.session)?;
            let from = lookup::branch(tx, before.current_branch)?.name;
            if branch.undone {
                set_undone(tx, branch.session, branch.id, false)?;
            }
            make_current(tx, branch.session, branch.no)?;
            let change = Change::new(branch.session, OperationKind::Switch, at);
            let detail = format!("{from} -> {}", branch.name);
            let restored = branch.undone.then_some(branch.id);
            operations::record(tx, Change { before: Some(before), detail, branch: restored, ..change })
        })
    }

    fn rename_branch(&self, branch: BranchId, name: &str, at: Timestamp) -> StoreResult<Operation> {
        self.db.write("rename a branch", |tx| {
            let branch = lookup::lock_branch(tx, branch)?;
            if branch.name != name {
                check_name_is_free(tx, branch.session, name)?;
            }
            let before = operations::session_attributes(tx, branch.session)?;
            set_name(tx, branch.id, name)?;
            operations::record(
                tx,
                Change {
                    before: Some(before),
                    branch: Some(branch.id),
                    detail: format!("{} -> {name}", branch.name),
                    renamed: Some((branch.name, name.to_owned())),
                    ..Change::new(branch.session, OperationKind::RenameBranch, at)
                },
            )
        })
    }
}
