//! Removing sessions for good.
//!
//! A session is first made invisible, in one small transaction, by giving it the state of one that is arriving with
//! nobody to finish it; then its rows go in batches, so that nobody waits long. What a crash leaves behind is
//! cleared away like the leavings of an import: when the store is opened next, or the next import begins.

use hfs_core::{SessionId, StoreResult, Timestamp};
use rusqlite::{Connection, params};

use crate::codec::rows::{message_no, seq_of};
use crate::db::group_commit::WriteOptions;
use crate::db::lookup::{self, TRASHED};
use crate::error::Result;
use crate::sqlite::SqliteStore;
use crate::sqlite::attachments;
use crate::sqlite::text_index;
use crate::state_store;
use crate::state_store::rebase::{self, Orphans};

/// How many messages go at a time.
const BATCH: i64 = 500;
/// The importer of a session that nobody imports.
const NOBODY: &str = "";

/// Whether to return once the disk knows.
const LASTING: WriteOptions = WriteOptions { relaxed: false, exclusive: true };
const RELAXED: WriteOptions = WriteOptions { relaxed: true, exclusive: true };

pub(crate) fn session(store: &SqliteStore, id: SessionId) -> StoreResult<()> {
    let no = store.db.write("remove a session", move |conn| {
        let no = lookup::session_no(conn, id)?;
        hide(conn, no)?;
        Ok(no)
    })?;
    clear(store, no)?;
    store.give_back()
}

pub(crate) fn trash(store: &SqliteStore, before: Timestamp) -> StoreResult<u64> {
    let hidden = store.db.write("empty the trash", move |conn| {
        let old = conn
            .prepare_cached("SELECT no FROM session WHERE state = ?1 AND trashed_at < ?2")?
            .query_map(params![TRASHED, before.as_micros()], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()?;
        old.iter().try_for_each(|no| hide(conn, *no))?;
        Ok(old)
    })?;
    hidden.iter().try_for_each(|no| clear(store, *no))?;
    if !hidden.is_empty() {
        store.give_back()?;
    }
    Ok(hidden.len() as u64)
}

/// Makes a session one that nobody sees.
pub(crate) fn hide(conn: &Connection, no: i64) -> Result<()> {
    conn.prepare_cached("UPDATE session SET state = 2, importer = ?2 WHERE no = ?1")?
        .execute(params![no, NOBODY])?;
    conn.prepare_cached("UPDATE activity SET waiting = 0 WHERE session = ?1")?.execute([no])?;
    Ok(())
}

/// Removes what interrupted imports and removals have left behind.
pub(crate) fn remove_orphaned_rows(store: &SqliteStore) -> StoreResult<()> {
    let probe = store.db.liveness_probe();
    let found = store.db.read("look for unfinished imports", |conn| {
        let found = conn
            .prepare_cached("SELECT no, coalesce(importer, '') FROM session WHERE state = 2")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(i64, String)>>>()?;
        Ok(found)
    })?;
    for (no, importer) in found {
        if importer == NOBODY || !probe.is_alive(&importer) {
            clear(store, no)?;
        }
    }
    Ok(())
}

/// Removes the rows of a hidden session, batch by batch. Several may do so at once.
pub(crate) fn clear(store: &SqliteStore, session: i64) -> StoreResult<()> {
    let action = "remove a session";
    while store.db.write_with(RELAXED, action, move |conn| clear_some(conn, session))? {}
    let orphans = store.db.write_with(LASTING, action, move |conn| clear_rest(conn, session))?;
    rebase::release(&store.db, &store.keyframes, &orphans);
    Ok(())
}

/// Removes some messages; whether there were any.
fn clear_some(conn: &Connection, session: i64) -> Result<bool> {
    let branches = conn
        .prepare_cached("SELECT no, indexed FROM branch WHERE session = ?1")?
        .query_map([session], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(i64, u64)>>>()?;
    for (branch, indexed) in branches {
        let (first, end) = (message_no(branch, 0)?, message_no(branch, u64::from(u32::MAX))?);
        let range: (Option<i64>, Option<i64>) = conn
            .prepare_cached(
                "SELECT min(no), max(no) FROM
                    (SELECT no FROM message WHERE no BETWEEN ?1 AND ?2 ORDER BY no LIMIT ?3)",
            )?
            .query_row(params![first, end, BATCH], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if let (Some(first), Some(last)) = range {
            if indexed >= seq_of(first) {
                text_index::forget(conn, first, last.min(message_no(branch, indexed)?))?;
            }
            attachments::release(conn, first, last)?;
            for table in ["reply", "reply_piece"] {
                conn.prepare_cached(&format!("DELETE FROM {table} WHERE message BETWEEN ?1 AND ?2"))?
                    .execute([first, last])?;
            }
            conn.prepare_cached("DELETE FROM message WHERE no BETWEEN ?1 AND ?2")?.execute([first, last])?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes everything but messages.
fn clear_rest(conn: &Connection, session: i64) -> Result<Orphans> {
    let mut used = conn
        .prepare_cached("DELETE FROM checkpoint WHERE session = ?1 RETURNING state")?
        .query_map([session], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    let of_branches = conn
        .prepare_cached("SELECT no, state FROM branch WHERE session = ?1 ORDER BY no DESC")?
        .query_map([session], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(i64, Option<i64>)>>>()?;
    for table in ["run", "operation"] {
        conn.prepare_cached(&format!("DELETE FROM {table} WHERE session = ?1"))?.execute([session])?;
    }
    // Children before their parents.
    for (branch, state) in of_branches {
        conn.prepare_cached("DELETE FROM branch WHERE no = ?1")?.execute([branch])?;
        used.extend(state);
    }
    let mut orphans = Orphans::new();
    for state in used {
        orphans.extend(state_store::drop_unused(conn, state)?);
    }
    attachments::release(conn, -session, -session)?;
    conn.prepare_cached("DELETE FROM activity WHERE session = ?1")?.execute([session])?;
    conn.prepare_cached("DELETE FROM session WHERE no = ?1")?.execute([session])?;
    Ok(orphans)
}
