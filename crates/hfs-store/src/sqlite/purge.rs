//! Purges sessions: deletes them permanently.
//!
//! A short transaction hides the session, with the same state as a session that is being imported. Then its rows are
//! deleted in batches, so that other writers do not wait long. If the process ends before the last batch, the remaining
//! rows are orphaned, like those of an interrupted import. [`remove_orphaned_rows`] deletes both when the store is
//! opened, when an import begins, and in `vacuum`.

use hfs_core::{SessionId, StoreResult, Timestamp};
use rusqlite::{Connection, params};

use crate::codec::rows::{message_no, seq_of};
use crate::db::group_commit::WriteOptions;
use crate::db::lookup::{self, TRASHED};
use crate::error::Result;
use crate::sqlite::{SqliteStore, attachments, text_index};
use crate::state_store;
use crate::state_store::rebase::{self, Orphans};

/// Maximum number of messages that are deleted in one transaction.
const BATCH_MESSAGES: i64 = 500;
/// Value of the column `importer` for a session that is being purged.
const NO_IMPORTER: &str = "";

/// Options of the last transaction of a purge. Its commit also makes the earlier, relaxed transactions durable.
const DURABLE: WriteOptions = WriteOptions { relaxed: false, exclusive: true };
const RELAXED: WriteOptions = WriteOptions { relaxed: true, exclusive: true };

pub(crate) fn purge_session(store: &SqliteStore, id: SessionId) -> StoreResult<()> {
    let no = store.db.write("delete a session", move |conn| {
        let no = lookup::session_no(conn, id)?;
        hide(conn, no)?;
        Ok(no)
    })?;
    delete_rows(store, no)?;
    store.shrink()
}

pub(crate) fn purge_trash(store: &SqliteStore, before: Timestamp) -> StoreResult<u64> {
    let hidden = store.db.write("empty the trash", move |conn| {
        let old = conn
            .prepare_cached("SELECT no FROM session WHERE state = ?1 AND trashed_at < ?2")?
            .query_map(params![TRASHED, before.as_micros()], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()?;
        old.iter().try_for_each(|no| hide(conn, *no))?;
        Ok(old)
    })?;
    hidden.iter().try_for_each(|no| delete_rows(store, *no))?;
    if !hidden.is_empty() {
        store.shrink()?;
    }
    Ok(hidden.len() as u64)
}

/// Hides a session from all readers and marks its rows as orphaned.
pub(crate) fn hide(conn: &Connection, no: i64) -> Result<()> {
    conn.prepare_cached("UPDATE session SET state = 2, importer = ?2 WHERE no = ?1")?
        .execute(params![no, NO_IMPORTER])?;
    conn.prepare_cached("UPDATE activity SET waiting = 0 WHERE session = ?1")?.execute([no])?;
    Ok(())
}

/// Deletes the rows of interrupted imports and purges.
pub(crate) fn remove_orphaned_rows(store: &SqliteStore) -> StoreResult<()> {
    let probe = store.db.liveness_probe();
    let hidden = store.db.read("look for unfinished imports", |conn| {
        let hidden = conn
            .prepare_cached("SELECT no, coalesce(importer, '') FROM session WHERE state = 2")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<Vec<(i64, String)>>>()?;
        Ok(hidden)
    })?;
    for (no, importer) in hidden {
        if importer == NO_IMPORTER || !probe.is_alive(&importer) {
            delete_rows(store, no)?;
        }
    }
    Ok(())
}

/// Deletes the rows of a hidden session in batches. Several processes may do this for one session at the same time.
pub(crate) fn delete_rows(store: &SqliteStore, session: i64) -> StoreResult<()> {
    let action = "delete a session";
    while store.db.write_with(RELAXED, action, move |conn| delete_messages(conn, session))? {}
    let orphans = store.db.write_with(DURABLE, action, move |conn| delete_other_rows(conn, session))?;
    rebase::release(&store.db, &store.keyframes, &orphans);
    Ok(())
}

/// Deletes a batch of a session's messages. Returns false if the session has no messages left.
fn delete_messages(conn: &Connection, session: i64) -> Result<bool> {
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
            .query_row(params![first, end, BATCH_MESSAGES], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if let (Some(first), Some(last)) = range {
            if indexed >= seq_of(first) {
                text_index::remove(conn, first, last.min(message_no(branch, indexed)?))?;
            }
            attachments::remove_references(conn, first, last)?;
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

/// Deletes all rows except messages. Returns the keyframes that only deltas still refer to.
fn delete_other_rows(conn: &Connection, session: i64) -> Result<Orphans> {
    let mut states = conn
        .prepare_cached("DELETE FROM checkpoint WHERE session = ?1 RETURNING state")?
        .query_map([session], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    let branches = conn
        .prepare_cached("SELECT no, state FROM branch WHERE session = ?1 ORDER BY no DESC")?
        .query_map([session], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(i64, Option<i64>)>>>()?;
    for table in ["run", "operation"] {
        conn.prepare_cached(&format!("DELETE FROM {table} WHERE session = ?1"))?.execute([session])?;
    }
    // Newest first, because branches refer to their parents.
    for (branch, state) in branches {
        conn.prepare_cached("DELETE FROM branch WHERE no = ?1")?.execute([branch])?;
        states.extend(state);
    }
    let mut orphans = Orphans::new();
    for state in states {
        orphans.extend(state_store::drop_unused(conn, state)?);
    }
    // The references of `attachments::hold_for_import`.
    attachments::remove_references(conn, -session, -session)?;
    conn.prepare_cached("DELETE FROM activity WHERE session = ?1")?.execute([session])?;
    conn.prepare_cached("DELETE FROM session WHERE no = ?1")?.execute([session])?;
    Ok(orphans)
}
