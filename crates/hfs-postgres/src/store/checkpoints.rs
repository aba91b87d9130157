//! Checkpoints, and the states of branches.

use hfs_core::{
    BranchId, Checkpoint, CheckpointDraft, CheckpointId, CheckpointState, CheckpointStore, ContentHash,
    OperationKind, PluginStates, SessionId, StateCost, StoreResult, Timestamp, Trigger,
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::PostgresStore;
use crate::db::Tx;
use crate::db::value::{Columns as _, Value, values};
use crate::error::{Result, invalid, not_found};
use crate::store::lookup::{self, BranchRecord};
use crate::store::operations::{self, Change};
use crate::store::session_stats;
use crate::store::sessions::unique_violation_as_conflict;
use crate::store::states::{self, EncodedState};

const SELECT_CHECKPOINT: &str = "SELECT checkpoint.id, checkpoint.session, branch.id, checkpoint.seq,
    checkpoint.trigger, checkpoint.label, checkpoint.pinned, checkpoint.created_at, state.hash, state.size,
    octet_length(state.data), checkpoint.number
    FROM checkpoint JOIN activity ON activity.session = checkpoint.session
    JOIN branch ON branch.session = checkpoint.session AND branch.no = checkpoint.branch
    JOIN state ON state.hash = checkpoint.state AND state.owner = checkpoint.owner";

fn checkpoint_from_row(row: &Row) -> Result<Checkpoint> {
    Ok(Checkpoint {
        id: CheckpointId::from_uuid(row.id(0)?),
        session: SessionId::from_uuid(row.id(1)?),
        number: row.count(11)?,
        branch: BranchId::from_uuid(row.id(2)?),
        seq: row.count(3)?,
        trigger: Trigger::from(&*row.text(4)?),
        label: row.opt_text(5)?,
        pinned: row.flag(6)?,
        created_at: row.time(7)?,
        state_hash: row.hash(8)?,
        cost: StateCost { state_bytes: row.count(9)?, stored_bytes: row.count(10)? },
    })
}

/// Inserts a checkpoint and its state, and returns its number. The caller must update the session's counters.
pub(crate) fn insert(
    tx: &Tx,
    session: Uuid,
    branch: i64,
    draft: &CheckpointDraft,
    state: &EncodedState,
) -> Result<u64> {
    state.insert(tx)?;
    let number =
        tx.one("SELECT last_checkpoint + 1 FROM activity WHERE session = $1", &values![session])?.count(0)?;
    tx.execute(
        "INSERT INTO checkpoint (session, id, number, branch, seq, trigger, label, pinned, automatic, created_at, state)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        &values![
            session,
            *draft.id.as_uuid(),
            number,
            branch,
            draft.seq,
            draft.trigger.as_str(),
            &draft.label,
            draft.pinned,
            is_automatic(&draft.trigger, draft.label.as_deref(), draft.pinned),
            draft.created_at,
            &state.hash,
        ],
    )
    .map_err(|error| unique_violation_as_conflict(error, "checkpoint", draft.id))?;
    Ok(number)
}

/// Makes sure that the number of a new checkpoint is not given again.
pub(crate) fn keep_number(tx: &Tx, session: Uuid, number: u64) -> Result<()> {
    let sql = "UPDATE activity SET last_checkpoint = greatest(last_checkpoint, $2) WHERE session = $1";
    tx.execute(sql, &values![session, number]).map(drop)
}

/// Whether retention may prune the checkpoint.
fn is_automatic(trigger: &Trigger, label: Option<&str>, pinned: bool) -> bool {
    !pinned && label.is_none() && *trigger != Trigger::Manual
}

pub(crate) fn check_seq(branch: &str, head: u64, seq: u64) -> Result<()> {
    if seq > head {
        return Err(invalid(format!("branch {branch:?} ends at message {head}, before message {seq}")));
    }
    Ok(())
}

/// Deletes all but `retention` automatic checkpoints of a session, and returns their ids. Keeps the newest at the end of a
/// run, then the newest of the others.
fn prune(tx: &Tx, session: Uuid, retention: u32) -> Result<Vec<Uuid>> {
    let mut checkpoints = tx
        .rows(
            "SELECT id, trigger FROM checkpoint WHERE session = $1 AND automatic ORDER BY created_at DESC, no DESC",
            &values![session],
        )?
        .iter()
        .map(|row| Ok((row.id(0)?, Trigger::from(&*row.text(1)?).ends_run())))
        .collect::<Result<Vec<(Uuid, bool)>>>()?;
    // The sort is stable, so both groups stay ordered, newest first.
    checkpoints.sort_by_key(|(_, ends_run)| !ends_run);
    let kept = checkpoints.len().min(usize::try_from(retention).unwrap_or(usize::MAX));
    let surplus: Vec<Uuid> = checkpoints.split_off(kept).into_iter().map(|(id, _)| id).collect();
    delete(tx, session, surplus.clone())?;
    Ok(surplus)
}

/// Deletes checkpoints, and their states if nothing else uses them.
fn delete(tx: &Tx, session: Uuid, ids: Vec<Uuid>) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let sql = "DELETE FROM checkpoint WHERE session = $1 AND id = ANY($2) RETURNING state";
    let rows = tx.rows(sql, &[session.into(), Value::Ids(ids)])?;
    let states = rows.iter().map(|row| row.hash(0)).collect::<Result<Vec<_>>>()?;
    states::drop_unused(tx, &states)
}

fn find(tx: &Tx, id: CheckpointId) -> Result<Checkpoint> {
    let sql = format!("{SELECT_CHECKPOINT} WHERE checkpoint.id = $1 AND activity.state <> 2");
    let row = tx.row(&sql, &values![*id.as_uuid()])?;
    checkpoint_from_row(&row.ok_or_else(|| not_found("checkpoint", &id))?)
}

/// The session and the state of a checkpoint.
fn key(tx: &Tx, id: CheckpointId) -> Result<(Uuid, ContentHash)> {
    let sql = "SELECT checkpoint.session, checkpoint.state FROM checkpoint
        JOIN activity ON activity.session = checkpoint.session
        WHERE checkpoint.id = $1 AND activity.state <> 2";
    let row = tx.row(sql, &values![*id.as_uuid()])?.ok_or_else(|| not_found("checkpoint", &id))?;
    Ok((row.id(0)?, row.hash(1)?))
}

/// Locks the session of a checkpoint for a write.
fn lock(tx: &Tx, id: CheckpointId) -> Result<Uuid> {
    let (session, _) = key(tx, id)?;
    lookup::lock_session(tx, SessionId::from_uuid(session))?;
    // Another writer may have deleted it before the lock.
    key(tx, id)?;
    Ok(session)
}

/// The state that a rewind of `session` to a checkpoint restores.
pub(crate) fn state_for_rewind(tx: &Tx, id: CheckpointId, session: Uuid) -> Result<ContentHash> {
    let (of, state) = key(tx, id)?;
    if of != session {
        return Err(invalid(format!("checkpoint {id} belongs to another session")));
    }
    Ok(state)
}

/// The state of the last checkpoint at or before `seq` in the history of a branch.
pub(crate) fn latest_state_at(tx: &Tx, branch: &BranchRecord, seq: u64) -> Result<Option<ContentHash>> {
    let mut best: Option<((u64, i64, i64), ContentHash)> = None;
    for (branch, last) in lookup::path(tx, branch.clone())? {
        let row = tx.row(
            "SELECT seq, created_at, no, state FROM checkpoint
                WHERE session = $1 AND branch = $2 AND seq <= $3 ORDER BY seq DESC, created_at DESC, no DESC LIMIT 1",
            &values![branch.session, branch.no, last.min(seq)],
        )?;
        let Some(row) = row else { continue };
        let found = ((row.count(0)?, row.int(1)?, row.int(2)?), row.hash(3)?);
        if best.as_ref().is_none_or(|(key, _)| *key < found.0) {
            best = Some(found);
        }
    }
    Ok(best.map(|(_, state)| state))
}

fn state_of_branch(tx: &Tx, branch: &BranchRecord) -> Result<Option<ContentHash>> {
    let sql = "SELECT state FROM branch WHERE session = $1 AND no = $2";
    tx.one(sql, &values![branch.session, branch.no])?.opt_hash(0)
}

/// Replaces a branch's state.
fn replace_branch_state(
    tx: &Tx,
    branch: &BranchRecord,
    before: Option<ContentHash>,
    state: &EncodedState,
) -> Result<()> {
    if before == Some(state.hash) {
        return Ok(());
    }
    state.insert(tx)?;
    let sql = "UPDATE branch SET state = $3 WHERE session = $1 AND no = $2";
    tx.execute(sql, &values![branch.session, branch.no, &state.hash])?;
    states::drop_unused(tx, before.as_slice())
}

impl CheckpointStore for PostgresStore {
    fn create_checkpoint(&self, draft: &CheckpointDraft, retention: u32) -> StoreResult<Checkpoint> {
        let action = "save a checkpoint";
        let state = EncodedState::new(&draft.state).map_err(self.db.store_error(action))?;
        self.db.write(action, |tx| {
            let branch = lookup::lock_branch(tx, draft.branch)?;
            check_seq(&branch.name, lookup::head(tx, &branch)?, draft.seq)?;
            let number = insert(tx, branch.session, branch.no, draft, &state)?;
            let pruned = prune(tx, branch.session, retention)?;
            // If the new checkpoint itself is pruned, no reader has seen its number, so the next one gets it.
            if !pruned.contains(draft.id.as_uuid()) {
                keep_number(tx, branch.session, number)?;
            }
            let deleted = i64::try_from(pruned.len()).unwrap_or(i64::MAX);
            session_stats::add_checkpoints(tx, branch.session, 1 - deleted)?;
            let cost = StateCost { state_bytes: state.size, stored_bytes: state.stored_size() };
            Ok(draft.stored(SessionId::from_uuid(branch.session), number, state.hash, cost))
        })
    }

    fn list_checkpoints(&self, session: SessionId) -> StoreResult<Vec<Checkpoint>> {
        self.db.read("list checkpoints", |tx| {
            let session = lookup::session(tx, session)?;
            let sql = format!(
                "{SELECT_CHECKPOINT} WHERE checkpoint.session = $1 ORDER BY checkpoint.created_at, checkpoint.no"
            );
            tx.rows(&sql, &values![session])?.iter().map(checkpoint_from_row).collect()
        })
    }

    fn get_checkpoint(&self, id: CheckpointId) -> StoreResult<Checkpoint> {
        self.db.read("read a checkpoint", |tx| find(tx, id))
    }

    fn load_state(&self, id: CheckpointId) -> StoreResult<CheckpointState> {
        self.db.read("read a checkpoint's state", |tx| states::load(tx, key(tx, id)?.1))
    }

    fn load_state_json(&self, id: CheckpointId) -> StoreResult<String> {
        self.db.read("read a checkpoint's state", |tx| states::json(tx, key(tx, id)?.1))
    }

    fn save_branch_state(&self, branch: BranchId, state: &CheckpointState) -> StoreResult<()> {
        let action = "save a branch's state";
        let state = EncodedState::new(state).map_err(self.db.store_error(action))?;
        self.db.write(action, |tx| {
            let branch = lookup::lock_branch(tx, branch)?;
            let before = state_of_branch(tx, &branch)?;
            replace_branch_state(tx, &branch, before, &state)
        })
    }

    fn save_branch_plugins(&self, branch: BranchId, plugins: &PluginStates) -> StoreResult<()> {
        self.db.write("save the plugins' data of a session", |tx| {
            let branch = lookup::lock_branch(tx, branch)?;
            let before = state_of_branch(tx, &branch)?;
            let state = before.map(|hash| states::load(tx, hash)).transpose()?.unwrap_or_default();
            if state.plugins == *plugins {
                return Ok(());
            }
            let state = EncodedState::new(&CheckpointState { plugins: plugins.clone(), ..state })?;
            replace_branch_state(tx, &branch, before, &state)
        })
    }

    fn load_branch_state(&self, branch: BranchId) -> StoreResult<Option<CheckpointState>> {
        self.db.read("read a branch's state", |tx| {
            let state = state_of_branch(tx, &lookup::branch(tx, branch)?)?;
            state.map(|state| states::load(tx, state)).transpose()
        })
    }

    fn pin_checkpoint(&self, id: CheckpointId, pinned: bool) -> StoreResult<()> {
        self.db.write("pin a checkpoint", |tx| {
            lock(tx, id)?;
            // The condition of `is_automatic`, in SQL.
            tx.execute(
                "UPDATE checkpoint SET pinned = $2, automatic = (NOT $2 AND label IS NULL AND trigger <> $3)
                    WHERE id = $1",
                &values![*id.as_uuid(), pinned, Trigger::Manual.as_str()],
            )?;
            Ok(())
        })
    }

    fn withdraw_checkpoints(&self, ids: &[CheckpointId]) -> StoreResult<()> {
        self.db.write("remove the checkpoints of a failed run", |tx| {
            for id in ids {
                let sql = "SELECT session FROM checkpoint WHERE id = $1";
                let Some(row) = tx.row(sql, &values![*id.as_uuid()])? else { continue };
                let session = row.id(0)?;
                lookup::lock_session(tx, SessionId::from_uuid(session))?;
                let sql = "SELECT 1 FROM checkpoint WHERE id = $1 AND automatic";
                if tx.exists(sql, &values![*id.as_uuid()])? {
                    delete(tx, session, vec![*id.as_uuid()])?;
                    session_stats::add_checkpoints(tx, session, -1)?;
                }
            }
            Ok(())
        })
    }

    fn delete_checkpoint(&self, id: CheckpointId, at: Timestamp) -> StoreResult<()> {
        self.db.write("delete a checkpoint", |tx| {
            let session = lock(tx, id)?;
            let before = operations::session_attributes(tx, session)?;
            delete(tx, session, vec![*id.as_uuid()])?;
            session_stats::add_checkpoints(tx, session, -1)?;
            let change = Change::new(session, OperationKind::Prune, at);
            operations::record(tx, Change { before: Some(before), checkpoint: Some(id), ..change })?;
            Ok(())
        })
    }
}
