//! Checkpoints, and the states of branches.

use std::sync::Arc;

use hfs_core::{
    BranchId, Checkpoint, CheckpointDraft, CheckpointId, CheckpointState, CheckpointStore, ContentHash,
    OperationKind, PluginStates, SessionId, StateCost, StoreResult, Timestamp, Trigger,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::codec::rows;
use crate::db::lookup::{self, BranchRecord};
use crate::error::{Error, Result, invalid, not_found};
use crate::sqlite::operations::{self, Change};
use crate::sqlite::sessions::unique_violation_as_conflict;
use crate::sqlite::{SqliteStore, session_stats};
use crate::state_store::rebase::{self, Orphans};
use crate::state_store::{self, EncodedState, KeyframeCache, StoredState};

const SELECT_CHECKPOINT: &str =
    "SELECT checkpoint.id, session.id, branch.id, checkpoint.seq, checkpoint.trigger,
    checkpoint.label, checkpoint.pinned, checkpoint.created_at, state.hash, state.size, length(state.data),
    checkpoint.number FROM checkpoint JOIN session ON session.no = checkpoint.session
    JOIN branch ON branch.no = checkpoint.branch JOIN state ON state.no = checkpoint.state";

struct CheckpointRow {
    id: [u8; 16],
    session: [u8; 16],
    branch: [u8; 16],
    seq: u64,
    trigger: String,
    label: Option<String>,
    pinned: bool,
    created_at: i64,
    state_hash: [u8; 32],
    state_bytes: u64,
    stored_bytes: u64,
    number: u64,
}

impl CheckpointRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            session: row.get(1)?,
            branch: row.get(2)?,
            seq: row.get(3)?,
            trigger: row.get(4)?,
            label: row.get(5)?,
            pinned: row.get(6)?,
            created_at: row.get(7)?,
            state_hash: row.get(8)?,
            state_bytes: row.get(9)?,
            stored_bytes: row.get(10)?,
            number: row.get(11)?,
        })
    }

    fn into_domain(self) -> Result<Checkpoint> {
        Ok(Checkpoint {
            id: CheckpointId::from_uuid(rows::uuid(self.id)),
            session: SessionId::from_uuid(rows::uuid(self.session)),
            number: self.number,
            branch: BranchId::from_uuid(rows::uuid(self.branch)),
            seq: self.seq,
            trigger: Trigger::from(&*self.trigger),
            label: self.label,
            pinned: self.pinned,
            created_at: rows::time(self.created_at)?,
            state_hash: ContentHash::from_bytes(self.state_hash),
            cost: StateCost { state_bytes: self.state_bytes, stored_bytes: self.stored_bytes },
        })
    }
}

/// A checkpoint's row before it is inserted.
#[derive(Debug)]
pub(crate) struct NewCheckpoint {
    pub(crate) id: CheckpointId,
    pub(crate) seq: u64,
    pub(crate) trigger: Trigger,
    pub(crate) label: Option<String>,
    pub(crate) pinned: bool,
    pub(crate) created_at: i64,
    pub(crate) state: EncodedState,
}

impl NewCheckpoint {
    pub(crate) fn new(draft: &CheckpointDraft, state: EncodedState) -> Self {
        Self {
            id: draft.id,
            seq: draft.seq,
            trigger: draft.trigger.clone(),
            label: draft.label.clone(),
            pinned: draft.pinned,
            created_at: draft.created_at.as_micros(),
            state,
        }
    }

    /// Inserts the row, and a row for the state unless an equal state is stored. The caller must update the session's
    /// counter of checkpoints.
    pub(crate) fn insert(
        &self,
        conn: &Connection,
        session: i64,
        branch: i64,
        keyframes: &KeyframeCache,
    ) -> Result<InsertedCheckpoint> {
        let state = state_store::insert(conn, session, &self.state, keyframes)?;
        let number = next_number(conn, session)?;
        let automatic = is_automatic(&self.trigger, self.label.as_deref(), self.pinned);
        conn.prepare_cached(
            "INSERT INTO checkpoint (id, session, branch, seq, trigger, label, pinned, automatic, created_at,
                state, number) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            self.id.as_uuid().as_bytes(),
            session,
            branch,
            self.seq,
            self.trigger.as_str(),
            self.label,
            self.pinned,
            automatic,
            self.created_at,
            state.no,
            number,
        ])
        .map_err(|error| unique_violation_as_conflict(error, "checkpoint", self.id))?;
        Ok(InsertedCheckpoint { no: conn.last_insert_rowid(), number, state })
    }
}

#[derive(Debug)]
pub(crate) struct InsertedCheckpoint {
    no: i64,
    number: u64,
    state: StoredState,
}

/// The number of a session's next checkpoint.
//
// Derived from the rows, so that a checkpoint does not also update a counter: that would write one page more for each.
// Only the removal of the checkpoint with the highest number stores it.
pub(crate) fn next_number(conn: &Connection, session: i64) -> Result<u64> {
    Ok(conn
        .prepare_cached(
            "SELECT 1 + max(coalesce((SELECT max(number) FROM checkpoint WHERE session = ?1), 0),
                coalesce((SELECT last_checkpoint FROM activity WHERE session = ?1), 0))",
        )?
        .query_row([session], |row| row.get(0))?)
}

/// Makes sure that `number`, of a checkpoint that was deleted, is not given again.
fn keep_number(conn: &Connection, session: i64, number: u64) -> Result<()> {
    conn.prepare_cached(
        "UPDATE activity SET last_checkpoint = ?2 WHERE session = ?1 AND last_checkpoint < ?2
            AND NOT EXISTS (SELECT 1 FROM checkpoint WHERE session = ?1 AND number >= ?2)",
    )?
    .execute(params![session, number])?;
    Ok(())
}

/// Whether retention may prune the checkpoint.
fn is_automatic(trigger: &Trigger, label: Option<&str>, pinned: bool) -> bool {
    !pinned && label.is_none() && *trigger != Trigger::Manual
}

/// Encodes a state on the caller's thread, before the write transaction that stores it.
fn encode_state(
    store: &SqliteStore,
    action: &str,
    branch: BranchId,
    state: &CheckpointState,
) -> StoreResult<EncodedState> {
    state_store::encode(&store.db, &store.keyframes, state, |conn| Ok(lookup::branch(conn, branch)?.session))
        .map_err(store.db.store_error(action))
}

pub(crate) fn check_seq(branch: &str, head: u64, seq: u64) -> Result<()> {
    if seq > head {
        return Err(invalid(format!("branch {branch:?} ends at message {head}, before message {seq}")));
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Pruned {
    count: usize,
    orphans: Orphans,
}

/// Deletes all but `retention` automatic checkpoints of a session. Keeps the newest at the end of a run, then the newest
/// of the others. The caller must update the session's counter of checkpoints.
fn prune(conn: &Connection, session: i64, retention: u32, added: &InsertedCheckpoint) -> Result<Pruned> {
    let mut checkpoints = conn
        .prepare_cached(
            "SELECT no, state, number, trigger FROM checkpoint WHERE session = ?1 AND automatic = 1
                ORDER BY created_at DESC, no DESC",
        )?
        .query_map([session], |row| {
            let ends_run = Trigger::from(row.get_ref(3)?.as_str()?).ends_run();
            Ok((
                CheckpointKey { no: row.get(0)?, session, state: row.get(1)?, number: row.get(2)? },
                ends_run,
            ))
        })?
        .collect::<rusqlite::Result<Vec<(CheckpointKey, bool)>>>()?;
    // The sort is stable, so both groups stay ordered, newest first.
    checkpoints.sort_by_key(|(_, ends_run)| !ends_run);
    let surplus =
        checkpoints.split_off(checkpoints.len().min(usize::try_from(retention).unwrap_or(usize::MAX)));
    let mut pruned = Pruned { count: surplus.len(), ..Pruned::default() };
    // If the new checkpoint itself is pruned, no reader has seen its number, so the next one gets it.
    for (key, _) in &surplus {
        pruned.orphans.extend(delete_row(conn, key)?);
    }
    let others = surplus.iter().filter(|(key, _)| key.no != added.no);
    if let Some(highest) = others.map(|(key, _)| key.number).max() {
        keep_number(conn, session, highest)?;
    }
    Ok(pruned)
}

/// Deletes a checkpoint, and its state if nothing else uses it. Returns the result of [`state_store::drop_unused`].
fn delete(conn: &Connection, key: &CheckpointKey) -> Result<Option<i64>> {
    let orphan = delete_row(conn, key)?;
    keep_number(conn, key.session, key.number)?;
    Ok(orphan)
}

/// Like [`delete`], but the checkpoint's number may be given again.
fn delete_row(conn: &Connection, key: &CheckpointKey) -> Result<Option<i64>> {
    conn.prepare_cached("DELETE FROM checkpoint WHERE no = ?1")?.execute([key.no])?;
    state_store::drop_unused(conn, key.state)
}

fn find(conn: &Connection, id: CheckpointId) -> Result<Checkpoint> {
    conn.prepare_cached(&format!("{SELECT_CHECKPOINT} WHERE checkpoint.id = ?1 AND session.state <> 2"))?
        .query_row([id.as_uuid().as_bytes()], CheckpointRow::read)
        .optional()?
        .ok_or_else(|| not_found("checkpoint", &id))?
        .into_domain()
}

struct CheckpointKey {
    no: i64,
    session: i64,
    state: i64,
    number: u64,
}

fn key(conn: &Connection, id: CheckpointId) -> Result<CheckpointKey> {
    conn.prepare_cached(
        "SELECT checkpoint.no, checkpoint.session, checkpoint.state, checkpoint.number FROM checkpoint
            JOIN session ON session.no = checkpoint.session
            WHERE checkpoint.id = ?1 AND session.state <> 2",
    )?
    .query_row([id.as_uuid().as_bytes()], |row| {
        Ok(CheckpointKey { no: row.get(0)?, session: row.get(1)?, state: row.get(2)?, number: row.get(3)? })
    })
    .optional()?
    .ok_or_else(|| not_found("checkpoint", &id))
}

/// The number of the state that a rewind of `session` to a checkpoint restores.
pub(crate) fn state_for_rewind(conn: &Connection, id: CheckpointId, session: i64) -> Result<i64> {
    let key = key(conn, id)?;
    if key.session != session {
        return Err(invalid(format!("checkpoint {id} belongs to another session")));
    }
    Ok(key.state)
}

/// The number of a branch's state.
fn state_of_branch(conn: &Connection, branch: i64) -> Result<Option<i64>> {
    let mut find = conn.prepare_cached("SELECT state FROM branch WHERE no = ?1")?;
    Ok(find.query_row([branch], |row| row.get(0))?)
}

/// Replaces a branch's state. Returns the result of [`state_store::drop_unused`] for the previous one.
fn replace_branch_state(
    conn: &Connection,
    branch: &BranchRecord,
    before: Option<i64>,
    encoded: &EncodedState,
    keyframes: &KeyframeCache,
) -> Result<Option<i64>> {
    let state = state_store::insert(conn, branch.session, encoded, keyframes)?.no;
    if before == Some(state) {
        return Ok(None);
    }
    conn.prepare_cached("UPDATE branch SET state = ?2 WHERE no = ?1")?.execute(params![branch.no, state])?;
    before.map_or(Ok(None), |before| state_store::drop_unused(conn, before))
}

impl CheckpointStore for SqliteStore {
    fn create_checkpoint(&self, draft: &CheckpointDraft, retention: u32) -> StoreResult<Checkpoint> {
        let action = "save a checkpoint";
        let new = NewCheckpoint::new(draft, encode_state(self, action, draft.branch, &draft.state)?);
        let (branch, keyframes) = (draft.branch, Arc::clone(&self.keyframes));
        let (session, added, pruned) = self.db.write(action, move |conn| {
            let branch = lookup::branch(conn, branch)?;
            let head = lookup::head(conn, branch.no, branch.forked_at)?;
            check_seq(&branch.name, head, new.seq)?;
            let added = new.insert(conn, branch.session, branch.no, &keyframes)?;
            let pruned = prune(conn, branch.session, retention, &added)?;
            let deleted = i64::try_from(pruned.count).unwrap_or(i64::MAX);
            session_stats::add_checkpoints(conn, branch.session, 1 - deleted)?;
            Ok((branch.session_id, added, pruned))
        })?;
        rebase::release(&self.db, &self.keyframes, &pruned.orphans);
        // If only one checkpoint was deleted, the next one reuses its pages.
        if pruned.count > 1 || !pruned.orphans.is_empty() {
            self.shrink()?;
        }
        let InsertedCheckpoint { number, state, .. } = added;
        let cost = StateCost { state_bytes: state.size as u64, stored_bytes: state.stored as u64 };
        Ok(draft.stored(session, number, state.hash, cost))
    }

    fn list_checkpoints(&self, session: SessionId) -> StoreResult<Vec<Checkpoint>> {
        self.db.read("list checkpoints", |conn| {
            let session = lookup::session_no(conn, session)?;
            let sql = format!(
                "{SELECT_CHECKPOINT} WHERE checkpoint.session = ?1 ORDER BY checkpoint.created_at, checkpoint.no"
            );
            conn.prepare_cached(&sql)?
                .query_map([session], CheckpointRow::read)?
                .map(|row| row.map_err(Error::from).and_then(CheckpointRow::into_domain))
                .collect()
        })
    }

    fn get_checkpoint(&self, id: CheckpointId) -> StoreResult<Checkpoint> {
        self.db.read("read a checkpoint", |conn| find(conn, id))
    }

    fn load_state(&self, id: CheckpointId) -> StoreResult<CheckpointState> {
        self.db.read("read a checkpoint's state", |conn| {
            state_store::load(conn, key(conn, id)?.state, &self.keyframes)
        })
    }

    fn load_state_json(&self, id: CheckpointId) -> StoreResult<String> {
        self.db.read("read a checkpoint's state", |conn| {
            let bytes = state_store::bytes(conn, key(conn, id)?.state, &self.keyframes)?;
            let json = String::from_utf8(Arc::unwrap_or_clone(bytes));
            json.map_err(|_| Error::Corrupt(format!("the state of checkpoint {id} is not text")))
        })
    }

    fn save_branch_state(&self, branch: BranchId, state: &CheckpointState) -> StoreResult<()> {
        let action = "save a branch's state";
        let encoded = encode_state(self, action, branch, state)?;
        let keyframes = Arc::clone(&self.keyframes);
        let orphan = self.db.write(action, move |conn| {
            let branch = lookup::branch(conn, branch)?;
            let before = state_of_branch(conn, branch.no)?;
            replace_branch_state(conn, &branch, before, &encoded, &keyframes)
        })?;
        rebase::release(&self.db, &self.keyframes, &orphan.into_iter().collect());
        Ok(())
    }

    fn save_branch_plugins(&self, branch: BranchId, plugins: &PluginStates) -> StoreResult<()> {
        let action = "save the plugins' data of a session";
        // Reads and encodes the state before the write transaction, because both take long. If another writer has
        // replaced the state by then, starts again with the new one.
        loop {
            let changed = self.db.read(action, |conn| {
                let before = state_of_branch(conn, lookup::branch(conn, branch)?.no)?;
                let state = before.map(|no| state_store::load(conn, no, &self.keyframes)).transpose()?;
                let state = state.unwrap_or_default();
                if state.plugins == *plugins {
                    return Ok(None);
                }
                let read_hash = before.map(|no| state_store::hash_at(conn, no)).transpose()?;
                Ok(Some((read_hash, CheckpointState { plugins: plugins.clone(), ..state })))
            })?;
            let Some((read_hash, state)) = changed else { return Ok(()) };
            let encoded = encode_state(self, action, branch, &state)?;
            let keyframes = Arc::clone(&self.keyframes);
            let saved = self.db.write(action, move |conn| {
                let branch = lookup::branch(conn, branch)?;
                let before = state_of_branch(conn, branch.no)?;
                // Compares the hashes, because a new state may get the row number of a deleted one.
                if before.map(|no| state_store::hash_at(conn, no)).transpose()? != read_hash {
                    return Ok(None);
                }
                replace_branch_state(conn, &branch, before, &encoded, &keyframes).map(Some)
            })?;
            if let Some(orphan) = saved {
                rebase::release(&self.db, &self.keyframes, &orphan.into_iter().collect());
                return Ok(());
            }
        }
    }

    fn load_branch_state(&self, branch: BranchId) -> StoreResult<Option<CheckpointState>> {
        self.db.read("read a branch's state", |conn| {
            let state = state_of_branch(conn, lookup::branch(conn, branch)?.no)?;
            state.map(|state| state_store::load(conn, state, &self.keyframes)).transpose()
        })
    }

    fn pin_checkpoint(&self, id: CheckpointId, pinned: bool) -> StoreResult<()> {
        self.db.write("pin a checkpoint", move |conn| {
            let key = key(conn, id)?;
            // The condition of `is_automatic`, in SQL.
            conn.prepare_cached(
                "UPDATE checkpoint SET pinned = ?2,
                    automatic = (NOT ?2 AND label IS NULL AND trigger <> ?3) WHERE no = ?1",
            )?
            .execute(params![key.no, pinned, Trigger::Manual.as_str()])?;
            Ok(())
        })
    }

    fn withdraw_checkpoints(&self, ids: &[CheckpointId]) -> StoreResult<()> {
        let ids = ids.to_vec();
        let orphans = self.db.write("remove the checkpoints of a failed run", move |conn| {
            let mut orphans = Orphans::new();
            for id in &ids {
                let is_automatic = conn
                    .prepare_cached("SELECT 1 FROM checkpoint WHERE id = ?1 AND automatic = 1")?
                    .exists([id.as_uuid().as_bytes()])?;
                if is_automatic {
                    let key = key(conn, *id)?;
                    orphans.extend(delete(conn, &key)?);
                    session_stats::add_checkpoints(conn, key.session, -1)?;
                }
            }
            Ok(orphans)
        })?;
        rebase::release(&self.db, &self.keyframes, &orphans);
        self.shrink()
    }

    fn delete_checkpoint(&self, id: CheckpointId, at: Timestamp) -> StoreResult<()> {
        let orphan = self.db.write("delete a checkpoint", move |conn| {
            let key = key(conn, id)?;
            let before = operations::session_attributes(conn, key.session)?;
            let orphan = delete(conn, &key)?;
            session_stats::add_checkpoints(conn, key.session, -1)?;
            let change = Change::new(key.session, OperationKind::Prune, at);
            operations::record(conn, Change { before: Some(before), checkpoint: Some(id), ..change })?;
            Ok(orphan)
        })?;
        rebase::release(&self.db, &self.keyframes, &orphan.into_iter().collect());
        self.shrink()
    }
}
