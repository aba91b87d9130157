//! What branches start from.

use std::collections::BTreeMap;
use std::sync::Arc;

use hfs_core::{BranchId, CheckpointState, StoreResult};
use rusqlite::{Connection, params};
use serde_json::Value;

use crate::db::lookup::{self, BranchKey};
use crate::error::Result;
use crate::sqlite::SqliteStore;
use crate::sqlite::checkpoints::pack;
use crate::state_store::rebase;
use crate::state_store::{self, EncodedState, KeyframeCache};

pub(crate) fn save_branch_state(
    store: &SqliteStore,
    branch: BranchId,
    state: &CheckpointState,
) -> StoreResult<()> {
    let action = "save a branch's state";
    let packed = pack(store, action, branch, state)?;
    let keyframes = Arc::clone(&store.keyframes);
    let orphan = store.db.write(action, move |conn| {
        let branch = lookup::branch(conn, branch)?;
        let before = state_of_branch(conn, branch.no)?;
        put_branch_state(conn, &branch, before, &packed, &keyframes)
    })?;
    rebase::release(&store.db, &store.keyframes, &orphan.into_iter().collect());
    Ok(())
}

/// The number of the state that a branch starts from.
fn state_of_branch(conn: &Connection, branch: i64) -> Result<Option<i64>> {
    let mut find = conn.prepare_cached("SELECT state FROM branch WHERE no = ?1")?;
    Ok(find.query_row([branch], |row| row.get(0))?)
}

/// Puts a state in the place of the one before, and returns what [`state_store::drop_unused`] does.
fn put_branch_state(
    conn: &Connection,
    branch: &BranchKey,
    before: Option<i64>,
    packed: &EncodedState,
    keyframes: &KeyframeCache,
) -> Result<Option<i64>> {
    let state = state_store::insert(conn, branch.session, packed, keyframes)?.no;
    if before == Some(state) {
        return Ok(None);
    }
    conn.prepare_cached("UPDATE branch SET state = ?2 WHERE no = ?1")?.execute(params![branch.no, state])?;
    before.map_or(Ok(None), |before| state_store::drop_unused(conn, before))
}

/// The state is read before the writer's turn comes. When somebody has put another in its place by
/// then, it is done again: nobody's work is lost.
pub(crate) fn save_branch_plugins(
    store: &SqliteStore,
    branch: BranchId,
    plugins: &BTreeMap<String, Value>,
) -> StoreResult<()> {
    let action = "save what plugins keep for a session";
    loop {
        let changed = store.db.read(action, |conn| {
            let before = state_of_branch(conn, lookup::branch(conn, branch)?.no)?;
            let state = before.map(|no| state_store::load(conn, no, &store.keyframes)).transpose()?;
            let state = state.unwrap_or_default();
            if state.plugins == *plugins {
                return Ok(None);
            }
            let read = before.map(|no| state_store::hash_at(conn, no)).transpose()?;
            Ok(Some((read, CheckpointState { plugins: plugins.clone(), ..state })))
        })?;
        let Some((read, state)) = changed else { return Ok(()) };
        let packed = pack(store, action, branch, &state)?;
        let keyframes = Arc::clone(&store.keyframes);
        let saved = store.db.write(action, move |conn| {
            let branch = lookup::branch(conn, branch)?;
            let before = state_of_branch(conn, branch.no)?;
            if before.map(|no| state_store::hash_at(conn, no)).transpose()? != read {
                return Ok(None);
            }
            put_branch_state(conn, &branch, before, &packed, &keyframes).map(Some)
        })?;
        if let Some(orphan) = saved {
            rebase::release(&store.db, &store.keyframes, &orphan.into_iter().collect());
            return Ok(());
        }
    }
}

pub(crate) fn load_branch_state(
    store: &SqliteStore,
    branch: BranchId,
) -> StoreResult<Option<CheckpointState>> {
    store.db.read("read a branch's state", |conn| {
        let state = state_of_branch(conn, lookup::branch(conn, branch)?.no)?;
        state.map(|state| state_store::load(conn, state, &store.keyframes)).transpose()
    })
}
