//! What branches start from.

use std::collections::BTreeMap;
use std::sync::Arc;

use hfs_core::{BranchId, CheckpointState, PluginStates, StoreResult};
use rusqlite::{Connection, params};
use serde_json::Value;

use super::pack;
use crate::fault::Sql;
use crate::lookup::{self, BranchKey};
use crate::states::rebase;
use crate::states::{self, Opened, Packed};
use crate::store::SqliteStore;

pub(crate) fn save_branch_state(
    store: &SqliteStore,
    branch: BranchId,
    state: &CheckpointState,
) -> StoreResult<()> {
    let action = "save a branch's state";
    let packed = pack(store, action, branch, state)?;
    let opened = Arc::clone(&store.opened);
    let orphan = store.write(action, move |conn| {
        let branch = lookup::branch(conn, branch)?;
        let before = state_of_branch(conn, branch.no)?;
        put_branch_state(conn, &branch, before, &packed, &opened)
    })?;
    rebase::release(store, &orphan.into_iter().collect());
    Ok(())
}

/// The number of the state that a branch starts from.
fn state_of_branch(conn: &Connection, branch: i64) -> Sql<Option<i64>> {
    let mut find = conn.prepare_cached("SELECT state FROM branch WHERE no = ?1")?;
    Ok(find.query_row([branch], |row| row.get(0))?)
}

/// Puts a state in the place of the one before, and returns what [`states::drop_unused`] does.
fn put_branch_state(
    conn: &Connection,
    branch: &BranchKey,
    before: Option<i64>,
    packed: &Packed,
    opened: &Opened,
) -> Sql<Option<i64>> {
    let state = states::keep(conn, branch.session, packed, opened)?.no;
    if before == Some(state) {
        return Ok(None);
    }
    conn.prepare_cached("UPDATE branch SET state = ?2 WHERE no = ?1")?.execute(params![branch.no, state])?;
    before.map_or(Ok(None), |before| states::drop_unused(conn, before))
}

/// The state is read before the writer's turn comes. When somebody has put another in its place by
/// then, it is done again: nobody's work is lost.
pub(crate) fn save_branch_plugins(
    store: &SqliteStore,
    branch: BranchId,
    plugins: &PluginStates,
) -> StoreResult<()> {
    let action = "save what plugins keep for a session";
    loop {
        let changed = store.read(action, |conn| {
            let before = state_of_branch(conn, lookup::branch(conn, branch)?.no)?;
            let state = before.map(|no| states::load(conn, no, &store.opened)).transpose()?;
            let state = state.unwrap_or_default();
            if state.plugins == *plugins {
                return Ok(None);
            }
            let read = before.map(|no| states::hash_at(conn, no)).transpose()?;
            Ok(Some((read, CheckpointState { plugins: plugins.clone(), ..state })))
        })?;
        let Some((read, state)) = changed else { return Ok(()) };
        let packed = pack(store, action, branch, &state)?;
        let opened = Arc::clone(&store.opened);
        let saved = store.write(action, move |conn| {
            let branch = lookup::branch(conn, branch)?;
            let before = state_of_branch(conn, branch.no)?;
            if before.map(|no| states::hash_at(conn, no)).transpose()? != read {
                return Ok(None);
            }
            put_branch_state(conn, &branch, before, &packed, &opened).map(Some)
        })?;
        if let Some(orphan) = saved {
            rebase::release(store, &orphan.into_iter().collect());
            return Ok(());
        }
    }
}

pub(crate) fn load_branch_state(
    store: &SqliteStore,
    branch: BranchId,
) -> StoreResult<Option<CheckpointState>> {
    store.read("read a branch's state", |conn| {
        let state = state_of_branch(conn, lookup::branch(conn, branch)?.no)?;
        state.map(|state| states::load(conn, state, &store.opened)).transpose()
    })
}
