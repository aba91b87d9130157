//! Purges sessions: deletes them permanently, in one transaction each.
//!
//! PostgreSQL keeps the bytes of deleted rows in the files of its tables until it has vacuumed them and writes others in
//! their place, and in its log until the log is recycled. So a purge reports that text remains in the server's files. It
//! does not vacuum, which would read all other sessions; the server does that by itself, and `vacuum` at once.

use hfs_core::{ContentHash, Purged, SessionId, StoreResult, Timestamp};
use uuid::Uuid;

use crate::PostgresStore;
use crate::db::value::{Columns as _, values};
use crate::db::{Flush, IS_ALIVE, IS_OWN, Pace, Tx};
use crate::error::Result;
use crate::store::attachments;
use crate::store::lookup::{self, HIDDEN, TRASHED};
use crate::store::states::{self, hash_of};

const ACTION: &str = "delete a session";

pub(crate) fn purge_session(store: &PostgresStore, id: SessionId) -> StoreResult<Purged> {
    let now = store.db.options().clock.now();
    store.db.write_with(Pace::Long, Flush::Durable, ACTION, |tx| {
        let session = lookup::lock_session_of_any_owner(tx, id)?;
        remember_source(tx, session, now)?;
        delete_rows(tx, session)
    })?;
    Ok(Purged { sessions: 1, text_remains: true })
}

pub(crate) fn purge_trash(store: &PostgresStore, before: Timestamp) -> StoreResult<Purged> {
    let now = store.db.options().clock.now();
    let old = store.db.read("empty the trash", |tx| {
        let sql = format!(
            "SELECT session.id FROM session JOIN activity ON activity.session = session.id
                WHERE activity.state = $1 AND session.trashed_at < $2 AND {IS_OWN}"
        );
        tx.rows(&sql, &values![TRASHED, before])?.iter().map(|row| row.id(0)).collect::<Result<Vec<Uuid>>>()
    })?;
    let mut sessions = 0;
    for session in old {
        sessions += store.db.write_with(Pace::Long, Flush::Durable, "empty the trash", |tx| {
            // The session may have been restored or purged in the meantime.
            let sql = "SELECT 1 FROM activity WHERE session = $1 AND state = $2 FOR NO KEY UPDATE";
            if tx.row(sql, &values![session, TRASHED])?.is_none() {
                return Ok(0);
            }
            let sql = "SELECT 1 FROM session WHERE id = $1 AND trashed_at < $2";
            if !tx.exists(sql, &values![session, before])? {
                return Ok(0);
            }
            remember_source(tx, session, now)?;
            delete_rows(tx, session)?;
            Ok(1_u64)
        })?;
    }
    Ok(Purged { sessions, text_remains: sessions > 0 })
}

fn hash_of_source(format: &str, id: &str) -> ContentHash {
    hash_of(format!("{format}\0{id}").as_bytes())
}

/// Stores the hashes of a session's origin, its id and those of its branches, and forgets the files that it was imported
/// from. The origin itself would be a trace of the session.
fn remember_source(tx: &Tx, session: Uuid, now: Timestamp) -> Result<()> {
    tx.execute(
        "WITH sources AS (DELETE FROM import_source_session WHERE source IN
                (SELECT source FROM import_source_session WHERE session = $1) RETURNING source)
            DELETE FROM import_source WHERE hash IN (SELECT source FROM sources)",
        &values![session],
    )?;
    // Transcripts that hfs wrote or recorded name the session, or a branch of it.
    let mut hashes = vec![hash_of(session.as_bytes())];
    for row in tx.rows("SELECT id FROM branch WHERE session = $1", &values![session])? {
        hashes.push(hash_of(row.id(0)?.as_bytes()));
    }
    let sql = "SELECT origin_format, origin_id FROM session WHERE id = $1 AND origin_id IS NOT NULL";
    if let Some(row) = tx.row(sql, &values![session])? {
        hashes.push(hash_of_source(&row.opt_text(0)?.unwrap_or_default(), &row.text(1)?));
    }
    for hash in hashes {
        tx.execute(
            "INSERT INTO purged_source (hash, purged_at, owner)
                SELECT $1, $2, owner FROM activity WHERE session = $3
                ON CONFLICT (hash, owner) DO UPDATE SET purged_at = excluded.purged_at",
            &values![&hash, now, session],
        )?;
    }
    Ok(())
}

const IS_PURGED: &str = "SELECT 1 FROM purged_source WHERE hash = $1 AND owner = current_user::text";

pub(crate) fn was_purged(tx: &Tx, format: &str, id: &str) -> Result<bool> {
    tx.exists(IS_PURGED, &values![&hash_of_source(format, id)])
}

/// Whether the session or branch that a transcript continues was purged.
pub(crate) fn was_id_purged(tx: &Tx, id: &[u8; 16]) -> Result<bool> {
    tx.exists(IS_PURGED, &values![&hash_of(id)])
}

/// Deletes the hash of an origin, because a session with this origin is stored again.
pub(crate) fn forget_source(tx: &Tx, format: &str, id: &str) -> Result<()> {
    let sql = "DELETE FROM purged_source WHERE hash = $1 AND owner = current_user::text";
    tx.execute(sql, &values![&hash_of_source(format, id)]).map(drop)
}

/// Deletes all rows of a locked session. A writer that waits for the lock then finds no session.
pub(crate) fn delete_rows(tx: &Tx, session: Uuid) -> Result<()> {
    let mut released = Vec::new();
    for sql in [
        "DELETE FROM checkpoint WHERE session = $1 RETURNING state",
        "DELETE FROM branch WHERE session = $1 RETURNING state",
    ] {
        for row in tx.rows(sql, &values![session])? {
            released.extend(row.opt_hash(0)?);
        }
    }
    released.sort_unstable();
    released.dedup();
    states::drop_unused(tx, &released)?;
    attachments::remove_references_of_session(tx, session)?;
    for table in ["message_text", "reply_piece", "reply", "message", "run", "operation"] {
        tx.execute(&format!("DELETE FROM {table} WHERE session = $1"), &values![session])?;
    }
    tx.execute("DELETE FROM session WHERE id = $1", &values![session])?;
    // Last, because the policies of the other tables look up the session's owner here.
    tx.execute("DELETE FROM activity WHERE session = $1", &values![session]).map(drop)
}

impl PostgresStore {
    /// Deletes the rows of imports whose process has ended.
    pub(crate) fn remove_abandoned_imports(&self) -> StoreResult<()> {
        let abandoned = self.db.read("look for unfinished imports", |tx| {
            let sql = format!(
                "SELECT session.id FROM session JOIN activity ON activity.session = session.id
                    WHERE session.importer IS NOT NULL AND {IS_OWN}
                    AND NOT EXISTS (SELECT 1 FROM presence WHERE presence.id = session.importer AND {IS_ALIVE})"
            );
            tx.rows(&sql, &[])?.iter().map(|row| row.id(0)).collect::<Result<Vec<Uuid>>>()
        })?;
        abandoned.into_iter().try_for_each(|session| self.delete_import(session))
    }

    /// Deletes the rows of an import that did not end.
    pub(crate) fn delete_import(&self, session: Uuid) -> StoreResult<()> {
        self.db.write_with(Pace::Long, Flush::Relaxed, "remove an unfinished import", |tx| {
            let sql = "SELECT 1 FROM activity WHERE session = $1 AND state = $2 FOR NO KEY UPDATE";
            match tx.row(sql, &values![session, HIDDEN])? {
                Some(_) => delete_rows(tx, session),
                None => Ok(()),
            }
        })
    }
}
