//! Creates branches by fork and rewind, switches to them, and renames them.

use hfs_core::{
    Branch, BranchDraft, BranchId, BranchStore, CheckpointId, Operation, OperationKind, SessionId,
    StoreError, StoreResult, Timestamp,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::codec::{checksum, rows};
use crate::db::locks::LivenessProbe;
use crate::db::lookup::{self, BranchRecord};
use crate::error::{Result, invalid, not_found};
use crate::sqlite::operations::{self, Change, check_name_is_free};
use crate::sqlite::sessions::NewBranch;
use crate::sqlite::{SqliteStore, checkpoints, messages};
use crate::state_store;

const SELECT_BRANCH: &str =
    "SELECT branch.no, branch.id, session.id, branch.name, parent.id, branch.forked_at,
    branch.created_at, branch.retired, branch.parent FROM branch JOIN session ON session.no = branch.session
    LEFT JOIN branch AS parent ON parent.no = branch.parent";

struct BranchRow {
    no: i64,
    id: [u8; 16],
    session: [u8; 16],
    name: String,
    parent: Option<[u8; 16]>,
    forked_at: u64,
    created_at: i64,
    undone: bool,
    parent_no: Option<i64>,
}

impl BranchRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            no: row.get(0)?,
            id: row.get(1)?,
            session: row.get(2)?,
            name: row.get(3)?,
            parent: row.get(4)?,
            forked_at: row.get(5)?,
            created_at: row.get(6)?,
            undone: row.get(7)?,
            parent_no: row.get(8)?,
        })
    }

    fn into_domain(self, conn: &Connection) -> Result<Branch> {
        lookup::check_parent(self.no, self.parent_no)?;
        Ok(Branch {
            id: BranchId::from_uuid(rows::uuid(self.id)),
            session: SessionId::from_uuid(rows::uuid(self.session)),
            name: self.name,
            parent: self.parent.map(|id| BranchId::from_uuid(rows::uuid(id))),
            forked_at: self.forked_at,
            head: lookup::head(conn, self.no, self.forked_at)?,
            created_at: rows::time(self.created_at)?,
            undone: self.undone,
        })
    }
}

fn check_fork(
    conn: &Connection,
    probe: &LivenessProbe,
    parent: &BranchRecord,
    draft: &BranchDraft,
) -> Result<()> {
    let newest = lookup::newest_own(conn, parent.no)?;
    let head = newest.map_or(parent.forked_at, |(no, _)| rows::seq_of(no));
    if draft.forked_at > head {
        return Err(invalid(format!(
            "branch {:?} ends at message {head}, before message {}",
            parent.name, draft.forked_at
        )));
    }
    check_name_is_free(conn, parent.session, &draft.name)?;
    // The message at the fork may be a reply that is being written, on the parent or on an ancestor of it.
    let at_fork = messages::number_at(conn, parent, draft.forked_at)?;
    if let Some(no) = at_fork
        && lookup::is_being_written(conn, probe, no)?
    {
        return Err(StoreError::Locked { seq: draft.forked_at }.into());
    }
    Ok(())
}

/// Marks a branch as undone, or ends that. The caller has checked that this is a change.
pub(crate) fn set_undone(conn: &Connection, session: i64, branch: BranchId, undone: bool) -> Result<()> {
    conn.prepare_cached("UPDATE branch SET retired = ?2 WHERE id = ?1")?
        .execute(params![branch.as_uuid().as_bytes(), undone])?;
    conn.prepare_cached("UPDATE activity SET branches = branches + ?2 WHERE session = ?1")?
        .execute(params![session, if undone { -1 } else { 1 }])?;
    Ok(())
}

pub(crate) fn make_current(conn: &Connection, session: i64, branch: i64) -> Result<()> {
    conn.prepare_cached("UPDATE session SET current_branch = ?2 WHERE no = ?1")?
        .execute(params![session, branch])?;
    checksum::update_session(conn, session)
}

impl BranchStore for SqliteStore {
    fn list_branches(&self, session: SessionId) -> StoreResult<Vec<Branch>> {
        self.db.read("list branches", |conn| {
            let session = lookup::session_no(conn, session)?;
            // In order of creation, so a parent comes before its children.
            let sql = format!("{SELECT_BRANCH} WHERE branch.session = ?1 ORDER BY branch.no");
            let found = conn
                .prepare_cached(&sql)?
                .query_map([session], BranchRow::read)?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            found.into_iter().map(|row| row.into_domain(conn)).collect()
        })
    }

    fn get_branch(&self, id: BranchId) -> StoreResult<Branch> {
        self.db.read("read a branch", |conn| {
            let sql = format!("{SELECT_BRANCH} WHERE branch.id = ?1 AND session.state <> 2");
            conn.prepare_cached(&sql)?
                .query_row([id.as_uuid().as_bytes()], BranchRow::read)
                .optional()?
                .ok_or_else(|| not_found("branch", &id))?
                .into_domain(conn)
        })
    }

    fn create_branch(
        &self,
        draft: &BranchDraft,
        kind: OperationKind,
        checkpoint: Option<CheckpointId>,
        at: Timestamp,
    ) -> StoreResult<Operation> {
        let draft = draft.clone();
        let probe = self.db.liveness_probe();
        self.db.write("create a branch", move |conn| {
            let parent = lookup::branch(conn, draft.parent)?;
            check_fork(conn, &probe, &parent, &draft)?;
            let state = match (kind, checkpoint) {
                (OperationKind::Rewind, Some(id)) => {
                    Some(checkpoints::state_for_rewind(conn, id, parent.session)?)
                }
                (OperationKind::Rewind, None) => None,
                (OperationKind::Fork | OperationKind::Import, None) => {
                    state_store::latest_at(conn, &parent, draft.forked_at)?
                }
                (OperationKind::Fork | OperationKind::Import, Some(_)) => {
                    return Err(invalid(format!("the operation {kind} does not take a checkpoint")));
                }
                _ => return Err(invalid(format!("{kind} does not create a branch"))),
            };
            let before = operations::session_attributes(conn, parent.session)?;
            let branch = NewBranch {
                session: parent.session,
                id: draft.id,
                name: &draft.name,
                parent: Some(parent.no),
                forked_at: draft.forked_at,
                at: at.as_micros(),
            };
            let no = branch.insert(conn, state)?;
            if kind != OperationKind::Import {
                make_current(conn, parent.session, no)?;
            }
            conn.prepare_cached("UPDATE activity SET branches = branches + 1 WHERE session = ?1")?
                .execute([parent.session])?;
            let change = Change {
                before: Some(before),
                branch: Some(draft.id),
                checkpoint,
                detail: format!("{} at {} -> {}", parent.name, draft.forked_at, draft.name),
                ..Change::new(parent.session, kind, at)
            };
            if kind == OperationKind::Import {
                operations::record_quietly(conn, change)
            } else {
                operations::record(conn, change)
            }
        })
    }

    fn switch_branch(&self, branch: BranchId, at: Timestamp) -> StoreResult<Operation> {
        self.db.write("switch to a branch", move |conn| {
            let branch = lookup::branch(conn, branch)?;
            let before = operations::session_attributes(conn, branch.session)?;
            let from = lookup::branch(conn, before.current_branch)?.name;
            if branch.undone {
                set_undone(conn, branch.session, branch.id, false)?;
            }
            make_current(conn, branch.session, branch.no)?;
            let change = Change::new(branch.session, OperationKind::Switch, at);
            let detail = format!("{from} -> {}", branch.name);
            let restored = branch.undone.then_some(branch.id);
            operations::record(conn, Change { before: Some(before), detail, branch: restored, ..change })
        })
    }

    fn rename_branch(&self, branch: BranchId, name: &str, at: Timestamp) -> StoreResult<Operation> {
        let name = name.to_owned();
        self.db.write("rename a branch", move |conn| {
            let branch = lookup::branch(conn, branch)?;
            if branch.name != name {
                check_name_is_free(conn, branch.session, &name)?;
            }
            let before = operations::session_attributes(conn, branch.session)?;
            conn.prepare_cached("UPDATE branch SET name = ?2 WHERE no = ?1")?
                .execute(params![branch.no, name])?;
            operations::record(
                conn,
                Change {
                    before: Some(before),
                    branch: Some(branch.id),
                    detail: format!("{} -> {name}", branch.name),
                    renamed: Some((branch.name, name.clone())),
                    ..Change::new(branch.session, OperationKind::RenameBranch, at)
                },
            )
        })
    }
}
