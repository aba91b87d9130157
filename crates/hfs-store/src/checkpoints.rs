//! Checkpoints, and what branches start from.

mod starts;

use std::sync::Arc;

use hfs_core::{
    BranchId, Checkpoint, CheckpointDraft, CheckpointId, CheckpointState, ContentHash, OperationKind,
    SessionId, StateCost, StoreResult, Timestamp, Trigger,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::fault::{Fault, Sql, invalid, not_found};
use crate::operations::{self, Change};
use crate::sessions::taken;
use crate::states::rebase::{self, Orphans};
use crate::states::{self, Kept, Opened, Packed};
use crate::store::SqliteStore;
use crate::{lookup, rows};

pub(crate) use starts::{load_branch_state, save_branch_plugins, save_branch_state};

/// The trigger of checkpoints that a person asked for.
const MANUAL: &str = "manual";

const CHECKPOINT: &str = "SELECT checkpoint.id, session.id, branch.id, checkpoint.seq, checkpoint.trigger,
    checkpoint.label, checkpoint.pinned, checkpoint.created_at, state.hash, state.size, length(state.data)
    FROM checkpoint JOIN session ON session.no = checkpoint.session
    JOIN branch ON branch.no = checkpoint.branch JOIN state ON state.no = checkpoint.state";

/// A checkpoint as its row has it.
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
        })
    }

    fn into_domain(self) -> Sql<Checkpoint> {
        Ok(Checkpoint {
            id: CheckpointId::from_uuid(rows::uuid(self.id)),
            session: SessionId::from_uuid(rows::uuid(self.session)),
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

/// A checkpoint's row to be.
#[derive(Debug)]
pub(crate) struct NewCheckpoint {
    pub(crate) id: CheckpointId,
    pub(crate) seq: u64,
    pub(crate) trigger: String,
    pub(crate) label: Option<String>,
    pub(crate) pinned: bool,
    pub(crate) created_at: i64,
    pub(crate) state: Packed,
}

impl NewCheckpoint {
    pub(crate) fn new(draft: &CheckpointDraft, state: Packed) -> Self {
        Self {
            id: draft.id,
            seq: draft.seq,
            trigger: draft.trigger.as_str().to_owned(),
            label: draft.label.clone(),
            pinned: draft.pinned,
            created_at: draft.created_at.as_micros(),
            state,
        }
    }

    /// Makes the row, and its state's where there is none yet. The session has to [`count`] it.
    pub(crate) fn insert(&self, conn: &Connection, session: i64, branch: i64, opened: &Opened) -> Sql<Kept> {
        let state = states::keep(conn, session, &self.state, opened)?;
        let automatic = is_automatic(&self.trigger, self.label.as_deref(), self.pinned);
        conn.prepare_cached(
            "INSERT INTO checkpoint (id, session, branch, seq, trigger, label, pinned, automatic, created_at,
                state) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            self.id.as_uuid().as_bytes(),
            session,
            branch,
            self.seq,
            self.trigger,
            self.label,
            self.pinned,
            automatic,
            self.created_at,
            state.no,
        ])
        .map_err(|error| taken(error, "checkpoint", self.id))?;
        Ok(state)
    }
}

/// Whether retention may prune it.
fn is_automatic(trigger: &str, label: Option<&str>, pinned: bool) -> bool {
    !pinned && label.is_none() && trigger != MANUAL
}

/// Adds to how many checkpoints a session has.
pub(crate) fn count(conn: &Connection, session: i64, more: i64) -> Sql<()> {
    // Where one comes and one goes, as with most, the row stays as it is.
    if more == 0 {
        return Ok(());
    }
    conn.prepare_cached("UPDATE activity SET checkpoints = checkpoints + ?2 WHERE session = ?1")?
        .execute(params![session, more])?;
    Ok(())
}

pub(crate) fn create(
    store: &SqliteStore,
    draft: &CheckpointDraft,
    retention: u32,
) -> StoreResult<Checkpoint> {
    let action = "save a checkpoint";
    let new = NewCheckpoint::new(draft, pack(store, action, draft.branch, &draft.state)?);
    let (branch, opened) = (draft.branch, Arc::clone(&store.opened));
    let (session, state, pruned) = store.write(action, move |conn| {
        let branch = lookup::branch(conn, branch)?;
        let head = lookup::head(conn, branch.no, branch.forked_at)?;
        check_seq(&branch.name, head, new.seq)?;
        let state = new.insert(conn, branch.session, branch.no, &opened)?;
        let pruned = prune(conn, branch.session, retention)?;
        let gone = i64::try_from(pruned.count).unwrap_or(i64::MAX);
        count(conn, branch.session, 1 - gone)?;
        Ok((branch.session_id, state, pruned))
    })?;
    rebase::release(store, &pruned.orphans);
    // Where one comes and one goes, the next takes the space.
    if pruned.count > 1 || !pruned.orphans.is_empty() {
        store.give_back()?;
    }
    let cost = StateCost { state_bytes: state.size as u64, stored_bytes: state.stored as u64 };
    Ok(draft.stored(session, state.hash, cost))
}

/// Makes a state ready to be stored for the session of a branch.
fn pack(store: &SqliteStore, action: &str, branch: BranchId, state: &CheckpointState) -> StoreResult<Packed> {
    states::prepare(store, state, |conn| Ok(lookup::branch(conn, branch)?.session))
        .map_err(|fault| fault.told(action, &store.paths.database))
}

pub(crate) fn check_seq(branch: &str, head: u64, seq: u64) -> Sql<()> {
    if seq > head {
        return Err(invalid(format!("branch {branch:?} ends at message number {head}, before {seq}")));
    }
    Ok(())
}

/// What retention has removed.
#[derive(Debug, Default)]
struct Pruned {
    count: usize,
    orphans: Orphans,
}

/// Removes the automatic checkpoints beyond `retention`, which the session still counts.
fn prune(conn: &Connection, session: i64, retention: u32) -> Sql<Pruned> {
    let newest = usize::try_from(Checkpoint::kept_as_newest(retention)).unwrap_or(usize::MAX);
    let mut place = 0;
    let mut surplus = conn
        .prepare_cached(
            "SELECT no, state, trigger = ?2 FROM checkpoint WHERE session = ?1 AND automatic = 1
                ORDER BY created_at DESC, no DESC",
        )?
        .query_map(params![session, "run.ended"], |row| {
            place += 1;
            Ok((row.get(0)?, row.get(1)?, place <= newest || row.get(2)?))
        })?
        .collect::<rusqlite::Result<Vec<(i64, i64, bool)>>>()?;
    // Those that go first come last, and are the oldest among their like.
    surplus.sort_by_key(|(_, _, is_preferred)| !is_preferred);
    let surplus = surplus.split_off(surplus.len().min(usize::try_from(retention).unwrap_or(usize::MAX)));
    let mut pruned = Pruned { count: surplus.len(), ..Pruned::default() };
    for (no, state, _) in surplus {
        pruned.orphans.extend(remove(conn, no, state)?);
    }
    Ok(pruned)
}

fn remove(conn: &Connection, no: i64, state: i64) -> Sql<Option<i64>> {
    conn.prepare_cached("DELETE FROM checkpoint WHERE no = ?1")?.execute([no])?;
    states::drop_unused(conn, state)
}

fn find(conn: &Connection, id: CheckpointId) -> Sql<Checkpoint> {
    conn.prepare_cached(&format!("{CHECKPOINT} WHERE checkpoint.id = ?1 AND session.state <> 2"))?
        .query_row([id.as_uuid().as_bytes()], CheckpointRow::read)
        .optional()?
        .ok_or_else(|| not_found("checkpoint", &id))?
        .into_domain()
}

pub(crate) fn get(store: &SqliteStore, id: CheckpointId) -> StoreResult<Checkpoint> {
    store.read("read a checkpoint", |conn| find(conn, id))
}

pub(crate) fn list(store: &SqliteStore, session: SessionId) -> StoreResult<Vec<Checkpoint>> {
    store.read("list checkpoints", |conn| {
        let session = lookup::session_no(conn, session)?;
        let sql = format!(
            "{CHECKPOINT} WHERE checkpoint.session = ?1 ORDER BY checkpoint.created_at, checkpoint.no"
        );
        conn.prepare_cached(&sql)?
            .query_map([session], CheckpointRow::read)?
            .map(|row| row.map_err(Fault::from).and_then(CheckpointRow::into_domain))
            .collect()
    })
}

/// What a checkpoint's row says to those that change it.
struct Key {
    no: i64,
    session: i64,
    state: i64,
}

fn key(conn: &Connection, id: CheckpointId) -> Sql<Key> {
    conn.prepare_cached(
        "SELECT checkpoint.no, checkpoint.session, checkpoint.state FROM checkpoint
            JOIN session ON session.no = checkpoint.session
            WHERE checkpoint.id = ?1 AND session.state <> 2",
    )?
    .query_row([id.as_uuid().as_bytes()], |row| {
        Ok(Key { no: row.get(0)?, session: row.get(1)?, state: row.get(2)? })
    })
    .optional()?
    .ok_or_else(|| not_found("checkpoint", &id))
}

/// The number of the state that a rewind to a checkpoint of `session` brings back.
pub(crate) fn state_to_rewind_to(conn: &Connection, id: CheckpointId, session: i64) -> Sql<i64> {
    let key = key(conn, id)?;
    if key.session != session {
        return Err(invalid(format!("checkpoint {id} belongs to another session")));
    }
    Ok(key.state)
}

pub(crate) fn load_state(store: &SqliteStore, id: CheckpointId) -> StoreResult<CheckpointState> {
    store.read("read a checkpoint's state", |conn| states::load(conn, key(conn, id)?.state, &store.opened))
}

pub(crate) fn load_state_json(store: &SqliteStore, id: CheckpointId) -> StoreResult<String> {
    store.read("read a checkpoint's state", |conn| {
        let bytes = states::bytes(conn, key(conn, id)?.state, &store.opened)?;
        let json = String::from_utf8(Arc::unwrap_or_clone(bytes));
        json.map_err(|_| Fault::Damaged(format!("the state of checkpoint {id} is not text")))
    })
}

pub(crate) fn pin(store: &SqliteStore, id: CheckpointId, pinned: bool) -> StoreResult<()> {
    store.write("pin a checkpoint", move |conn| {
        let key = key(conn, id)?;
        conn.prepare_cached(
            "UPDATE checkpoint SET pinned = ?2,
                automatic = (NOT ?2 AND label IS NULL AND trigger <> ?3) WHERE no = ?1",
        )?
        .execute(params![key.no, pinned, MANUAL])?;
        Ok(())
    })
}

pub(crate) fn delete(store: &SqliteStore, id: CheckpointId, at: Timestamp) -> StoreResult<()> {
    let orphan = store.write("delete a checkpoint", move |conn| {
        let key = key(conn, id)?;
        let before = operations::shape(conn, key.session)?;
        let orphan = remove(conn, key.no, key.state)?;
        count(conn, key.session, -1)?;
        let change = Change::new(key.session, OperationKind::Prune, at);
        operations::record(conn, Change { before: Some(before), checkpoint: Some(id), ..change })?;
        Ok(orphan)
    })?;
    rebase::release(store, &orphan.into_iter().collect());
    store.give_back()
}
