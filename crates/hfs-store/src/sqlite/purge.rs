//! Purges sessions: deletes them permanently.
//!
//! A short transaction hides the session, with the same state as a session that is being imported. Then its rows are
//! deleted in batches, so that other writers do not wait long. If the process ends before the last batch, the remaining
//! rows are orphaned, like those of an interrupted import. [`remove_orphaned_rows`] deletes both when the store is
//! opened, when an import begins, and in `vacuum`.
//!
//! Deleted text is then left in free pages, in the write-ahead log, and in the pages that the log replaces. It is gone
//! when the log is copied into the database and truncated, which a reader of an older state, such as an export, prevents.
//! Therefore the purge does not wait for readers: the file [`Paths::unfinished_purge`] exists
//! while text may be left, and [`finish`] tries again when a snapshot ends and when the store is opened.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hfs_core::{ContentHash, Purged, SessionId, StoreResult, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::rows::{message_no, seq_of};
use crate::db::connection::BUSY_TIMEOUT;
use crate::db::copies;
use crate::db::group_commit::WriteOptions;
use crate::db::lookup::{self, HIDDEN, TRASHED};
use crate::db::paths::{Paths, create_private_file, remove_if_exists};
use crate::error::Result;
use crate::sqlite::maintenance::shrink_step;
use crate::sqlite::{SqliteStore, attachments, blocks, text_index};
use crate::state_store::rebase::{self, Orphans};
use crate::state_store::{self, hash_of};

/// Maximum number of messages that are deleted in one transaction.
const BATCH_MESSAGES: i64 = 500;
/// Value of the column `importer` for a session that is being purged.
const NO_IMPORTER: &str = "";
const ACTION: &str = "delete a session";
/// Maximum time to wait until other readers of the log have finished. Except for snapshots, reads take milliseconds.
pub(crate) const READERS_TIMEOUT: Duration = Duration::from_millis(250);

/// Options of the last transaction of a purge. Its commit also makes the earlier, relaxed transactions durable.
const DURABLE: WriteOptions = WriteOptions { relaxed: false, exclusive: true };
const RELAXED: WriteOptions = WriteOptions { relaxed: true, exclusive: true };

pub(crate) fn purge_session(store: &SqliteStore, id: SessionId) -> StoreResult<Purged> {
    let ids = store.db.read(ACTION, move |conn| ids_of(conn, lookup::session_no(conn, id)?))?;
    let now = store.db.options.clock.now();
    let hidden = store.db.write(ACTION, move |conn| {
        let no = lookup::session_no(conn, id)?;
        remember_source(conn, no, now)?;
        hide(conn, no)
    })?;
    Ok(Purged { sessions: 1, text_remains: !delete_text(store, &[hidden], &ids)? })
}

pub(crate) fn purge_trash(store: &SqliteStore, before: Timestamp) -> StoreResult<Purged> {
    let now = store.db.options.clock.now();
    let (hidden, ids) = store.db.write("empty the trash", move |conn| {
        let old = conn
            .prepare_cached("SELECT no FROM session WHERE state = ?1 AND trashed_at < ?2")?
            .query_map(params![TRASHED, before.as_micros()], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()?;
        let (mut hidden, mut ids) = (Vec::new(), HashSet::new());
        for session in old {
            ids.extend(ids_of(conn, session)?);
            remember_source(conn, session, now)?;
            hidden.push(hide(conn, session)?);
        }
        Ok((hidden, ids))
    })?;
    let is_removed = hidden.is_empty() || delete_text(store, &hidden, &ids)?;
    Ok(Purged { sessions: hidden.len() as u64, text_remains: !is_removed })
}

/// Deletes hidden sessions and what their rows leave: free pages, the write-ahead log, and copies that contain one of
/// `ids`. In pages that are in use, SQLite has overwritten the rows (`secure_delete`). Returns false if a reader keeps the
/// log.
fn delete_text(store: &SqliteStore, hidden: &[Hidden], ids: &HashSet<[u8; 16]>) -> StoreResult<bool> {
    let store_error = store.db.store_error("remove the text of a purged session");
    // First, because nothing else has the ids once the rows are deleted, in case this process is killed.
    copies::remove_copies_with(&store.db.paths, ids).map_err(|error| store_error(error.into()))?;
    hidden.iter().try_for_each(|session| delete_rows(store, *session, DeletedBy::Purge))?;
    empty_pages(store, READERS_TIMEOUT).map_err(store_error)
}

fn mark_unfinished(paths: &Paths) -> io::Result<()> {
    match create_private_file(&paths.unfinished_purge()) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Removes the text that an earlier purge had to leave. `timeout` is the maximum time to wait for readers.
fn finish(store: &SqliteStore, timeout: Duration) -> Result<()> {
    if store.db.paths.unfinished_purge().exists() && empty_pages(store, timeout)? {
        tracing::info!("the text of purged sessions is removed, which another reader had delayed");
    }
    Ok(())
}

/// Ends the read transaction of a snapshot, and removes the text of purged sessions that it kept.
pub(crate) fn end_snapshot(store: &SqliteStore) {
    store.db.end_snapshot();
    if let Err(error) = finish(store, READERS_TIMEOUT) {
        tracing::warn!(%error, "the text of purged sessions stays in the store's files until it is opened again");
    }
}

/// Releases the free pages, and copies the log into the database and truncates it. Returns false if a reader keeps the
/// log.
fn empty_pages(store: &SqliteStore, timeout: Duration) -> Result<bool> {
    store.release_free_pages()?;
    store.db.try_with_writer(|conn| empty_log(conn, &store.db.paths, timeout))
}

/// The last step of [`empty_pages`]. The caller holds the write lock, so that a purge in another process neither frees
/// pages nor changes the file at the same time.
fn empty_log(conn: &Connection, paths: &Paths, timeout: Duration) -> Result<bool> {
    // Pages that another process has freed in the meantime.
    while shrink_step(conn, 0)? {}
    let is_empty = truncate_log(conn, timeout)?;
    if is_empty {
        remove_if_exists(&paths.unfinished_purge())?;
    } else {
        mark_unfinished(paths)?;
    }
    Ok(is_empty)
}

/// Copies the write-ahead log into the database and truncates it. Returns false if another connection still reads the
/// log after `timeout`. The caller holds the write lock.
pub(crate) fn truncate_log(conn: &Connection, timeout: Duration) -> Result<bool> {
    conn.busy_timeout(timeout)?;
    let truncated = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
    conn.busy_timeout(BUSY_TIMEOUT)?;
    Ok(!truncated?)
}

/// The ids of a session, its branches and its messages.
fn ids_of(conn: &Connection, session: i64) -> Result<HashSet<[u8; 16]>> {
    let ids = conn
        .prepare_cached(
            "SELECT id FROM session WHERE no = ?1 UNION ALL SELECT id FROM branch WHERE session = ?1
                UNION ALL SELECT message.id FROM branch JOIN message
                    ON message.no BETWEEN branch.no << 32 AND (branch.no << 32 | 0xffffffff)
                    WHERE branch.session = ?1",
        )?
        .query_map([session], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    Ok(ids)
}

fn hash_of_source(format: &str, id: &str) -> ContentHash {
    hash_of(format!("{format}\0{id}").as_bytes())
}

/// Stores the hashes of a session's origin, its id and those of its branches, and forgets the files that it was imported from. The origin itself would be a
/// trace of the session.
fn remember_source(conn: &Connection, session: i64, now: Timestamp) -> Result<()> {
    let origin: Option<(String, String)> = conn
        .prepare_cached(
            "SELECT origin_format, origin_id FROM session WHERE no = ?1 AND origin_id IS NOT NULL",
        )?
        .query_row([session], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    // The path of a source is a trace of the session too.
    let sources = conn
        .prepare_cached(
            "SELECT source FROM import_source_session
                WHERE session = (SELECT id FROM session WHERE no = ?1)",
        )?
        .query_map([session], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    for source in sources {
        conn.prepare_cached("DELETE FROM import_source_session WHERE source = ?1")?.execute([source])?;
        conn.prepare_cached("DELETE FROM import_source WHERE no = ?1")?.execute([source])?;
    }
    // Transcripts that hfs wrote or recorded name the session, or a branch of it.
    let ids = conn
        .prepare_cached(
            "SELECT id FROM session WHERE no = ?1 UNION ALL SELECT id FROM branch WHERE session = ?1",
        )?
        .query_map([session], |row| row.get::<_, [u8; 16]>(0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let hashes =
        ids.iter().map(|id| hash_of(id)).chain(origin.map(|(format, id)| hash_of_source(&format, &id)));
    for hash in hashes {
        conn.prepare_cached("INSERT OR REPLACE INTO purged_source (hash, purged_at) VALUES (?1, ?2)")?
            .execute(params![hash.as_bytes(), now.as_micros()])?;
    }
    Ok(())
}

pub(crate) fn was_purged(conn: &Connection, format: &str, id: &str) -> Result<bool> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM purged_source WHERE hash = ?1")?
        .exists([hash_of_source(format, id).as_bytes()])?)
}

/// Whether the session or branch that a transcript continues was purged.
pub(crate) fn was_id_purged(conn: &Connection, id: &[u8; 16]) -> Result<bool> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM purged_source WHERE hash = ?1")?
        .exists([hash_of(id).as_bytes()])?)
}

/// Deletes the hash of an origin, because a session with this origin is stored again.
pub(crate) fn forget_source(conn: &Connection, format: &str, id: &str) -> Result<()> {
    conn.prepare_cached("DELETE FROM purged_source WHERE hash = ?1")?
        .execute([hash_of_source(format, id).as_bytes()])?;
    Ok(())
}

/// A hidden session. Its number may belong to another session as soon as its rows are deleted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hidden {
    pub(crate) no: i64,
    pub(crate) id: [u8; 16],
}

impl Hidden {
    /// Whether the session still exists and is hidden. Another process may have deleted it.
    fn exists(self, conn: &Connection) -> Result<bool> {
        Ok(conn
            .prepare_cached("SELECT 1 FROM session WHERE no = ?1 AND id = ?2 AND state = ?3")?
            .exists(params![self.no, self.id, HIDDEN])?)
    }
}

/// Hides a session from all readers and marks its rows as orphaned.
pub(crate) fn hide(conn: &Connection, no: i64) -> Result<Hidden> {
    let id = conn
        .prepare_cached("UPDATE session SET state = 2, importer = ?2 WHERE no = ?1 RETURNING id")?
        .query_row(params![no, NO_IMPORTER], |row| row.get(0))?;
    conn.prepare_cached("UPDATE activity SET waiting = 0 WHERE session = ?1")?.execute([no])?;
    Ok(Hidden { no, id })
}

/// Deletes the rows of interrupted imports and purges.
//
// A hidden session without an importer is damaged: its rows stay until a repair lists the session again.
pub(crate) fn remove_orphaned_rows(store: &SqliteStore) -> StoreResult<()> {
    let probe = store.db.liveness_probe();
    let hidden = store.db.read("look for unfinished imports", |conn| {
        let hidden = conn
            .prepare_cached("SELECT no, id, importer FROM session WHERE state = 2 AND importer IS NOT NULL")?
            .query_map([], |row| Ok((Hidden { no: row.get(0)?, id: row.get(1)? }, row.get(2)?)))?
            .collect::<rusqlite::Result<Vec<(Hidden, String)>>>()?;
        Ok(hidden)
    })?;
    for (session, importer) in hidden {
        let is_purged = importer == NO_IMPORTER;
        if is_purged || !probe.is_alive(&importer) {
            if is_purged {
                let ids = store.db.read(ACTION, |conn| ids_of(conn, session.no))?;
                delete_text(store, &[session], &ids)?;
            } else {
                delete_rows(store, session, DeletedBy::Import)?;
            }
        }
    }
    finish(store, Duration::ZERO).map_err(store.db.store_error("remove the text of a purged session"))
}

/// Why the rows of a session are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeletedBy {
    /// An import that did not end. What its rows leave in free pages may stay.
    Import,
    /// A purge, which also removes what its rows leave.
    Purge,
}

/// Deletes the rows of a hidden session in batches. Several processes may do this for one session at the same time.
pub(crate) fn delete_rows(store: &SqliteStore, session: Hidden, by: DeletedBy) -> StoreResult<()> {
    let delete = move |conn: &Connection| Ok(session.exists(conn)? && delete_messages(conn, session.no)?);
    while store.db.write_with(RELAXED, ACTION, delete)? {}
    let paths = Arc::clone(&store.db.paths);
    let orphans = store.db.write_with(DURABLE, ACTION, move |conn| {
        if !session.exists(conn)? {
            return Ok(Orphans::new());
        }
        if by == DeletedBy::Purge {
            // After this transaction, only the file records that text is left, in case this process is killed. A process
            // that removes the file holds the write lock, and has removed the text before (see `empty_log`).
            mark_unfinished(&paths)?;
        }
        delete_other_rows(conn, session.no)
    })?;
    rebase::release(&store.db, &store.keyframes, &orphans);
    Ok(())
}

/// Deletes a batch of a session's messages. Returns false if the session has no messages left.
fn delete_messages(conn: &Connection, session: i64) -> Result<bool> {
    let branches = conn
        .prepare_cached("SELECT no, indexed_seq FROM branch WHERE session = ?1")?
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
            // The next batch needs the texts of its messages, which the text index has to forget.
            let last = blocks::end_of_block(conn, last, end)?;
            if indexed >= seq_of(first) {
                text_index::remove(conn, first, last.min(message_no(branch, indexed)?))?;
            }
            attachments::remove_references(conn, first, last)?;
            for table in ["reply", "reply_piece"] {
                conn.prepare_cached(&format!("DELETE FROM {table} WHERE message BETWEEN ?1 AND ?2"))?
                    .execute([first, last])?;
            }
            for table in ["message", "block"] {
                conn.prepare_cached(&format!("DELETE FROM {table} WHERE no BETWEEN ?1 AND ?2"))?
                    .execute([first, last])?;
            }
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
        // There are blocks without messages only in a damaged database.
        conn.prepare_cached("DELETE FROM block WHERE no BETWEEN ?1 AND ?2")?
            .execute([message_no(branch, 0)?, message_no(branch, u64::from(u32::MAX))?])?;
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use hfs_core::{MessageStore as _, SessionStore as _};
    use testkit::builders::{Drafts, at};

    use super::*;
    use crate::db::options::SqliteOptions;

    const WORD: &str = "zebrafinchword";

    /// Whether the text of the purged session is in the files of the store `hfs.db` in this folder.
    fn contains_text(home: &Path) -> bool {
        let files = ["hfs.db", "hfs.db-wal"].map(|name| fs::read(home.join(name)).unwrap_or_default());
        files.iter().any(|bytes| memchr::memmem::find(bytes, WORD.as_bytes()).is_some())
    }

    /// A store whose process is killed after the rows of a purged session are deleted.
    fn store_with_deleted_rows(home: &Path) -> SqliteStore {
        let store = SqliteStore::open(home.join("hfs.db"), SqliteOptions::default()).unwrap();
        let make = Drafts::new(1);
        let session = store.create_session(&make.session("purged")).unwrap();
        let text = make.user(&WORD.repeat(2000));
        store.append(at(session.current_branch, 0), &[text]).unwrap();
        let hidden =
            store.db.write(ACTION, move |conn| hide(conn, lookup::session_no(conn, session.id)?)).unwrap();
        delete_rows(&store, hidden, DeletedBy::Purge).unwrap();
        assert!(contains_text(home));
        store
    }

    #[test]
    fn the_text_is_removed_by_the_next_process_if_one_is_killed_after_the_rows_are_deleted() {
        let home = tempfile::tempdir().unwrap();
        let _store = store_with_deleted_rows(home.path());
        let next = SqliteStore::open(home.path().join("hfs.db"), SqliteOptions::default()).unwrap();
        assert!(!contains_text(home.path()));
        assert!(!next.db.paths.unfinished_purge().exists());
    }

    #[test]
    fn the_text_is_removed_before_the_file_that_records_it() {
        let home = tempfile::tempdir().unwrap();
        let store = store_with_deleted_rows(home.path());
        let is_empty =
            store.db.try_with_writer(|conn| empty_log(conn, &store.db.paths, READERS_TIMEOUT)).unwrap();
        assert!(is_empty && !store.db.paths.unfinished_purge().exists());
        assert!(!contains_text(home.path()));
    }
}
