//! Care of the store as a whole: facts, copies, space.

use std::path::Path;
use std::time::Duration;

use hfs_core::{Maintenance, Problem, Verification, StoreInfo, StoreResult};
use rusqlite::Connection;

use crate::db::backup;
use crate::db::paths::beside;
use crate::db::schema;
use crate::db::url::StoreUrl;
use crate::error::{Error, Result, conflict};
use crate::sqlite::SqliteStore;
use crate::sqlite::purge;
use crate::sqlite::replies;
use crate::sqlite::text_index;
use crate::state_store::rebase;

/// Pages given back to the disk at a time.
const GIVEN_BACK: i64 = 512;
/// Free pages that are kept for what comes next, at least; beyond that, an eighth of the file.
const KEPT_FREE: i64 = 256;
/// Attachments that nobody has referred to for so long are forgotten.
const UNUSED_ATTACHMENT: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn info(store: &SqliteStore) -> StoreResult<StoreInfo> {
    let url = StoreUrl::Sqlite(store.db.paths.database.clone()).to_string();
    let bytes = ["", "-wal"]
        .iter()
        .filter_map(|suffix| std::fs::metadata(beside(&store.db.paths.database, suffix)).ok())
        .map(|metadata| metadata.len())
        .sum();
    store.db.read("look at the store", |conn| {
        let (sessions, messages, checkpoints) = conn.query_row(
            "SELECT count(*), coalesce(sum(activity.messages), 0), coalesce(sum(activity.checkpoints), 0)
                FROM session JOIN activity ON activity.session = session.no WHERE session.state <> 2",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let checkpoint_bytes =
            conn.query_row("SELECT coalesce(sum(length(data)), 0) FROM state", [], |row| row.get(0))?;
        Ok(StoreInfo {
            url,
            backend: "sqlite",
            schema_version: schema::newest(schema::MIGRATIONS),
            sessions,
            messages,
            checkpoints,
            bytes,
            checkpoint_bytes,
        })
    })
}

pub(crate) fn backup(store: &SqliteStore, to: &Path) -> StoreResult<()> {
    let done = store.db.read("read the store", |conn| Ok(backup::copy(conn, to)))?;
    done.map_err(|error| error.into_store_error("write the copy", to))
}

pub(crate) fn vacuum(store: &SqliteStore) -> StoreResult<()> {
    purge::remove_orphaned_rows(store)?;
    replies::settle_abandoned(store)?;
    text_index::catch_up(store)?;
    forget_attachments(store)?;
    rebase::release_all(&store.db, &store.keyframes)?;
    store.db.write("tend the text index", |conn| {
        conn.execute("INSERT INTO message_text (message_text) VALUES ('optimize')", [])?;
        Ok(())
    })?;
    store.db.with_writer("give space back", |conn| {
        while give_back_some(conn, 0)? {}
        conn.execute_batch("PRAGMA optimize")?;
        Ok(conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    })
}

/// Removes attachments that were stored for a message that never came.
fn forget_attachments(store: &SqliteStore) -> StoreResult<()> {
    let age = i64::try_from(UNUSED_ATTACHMENT.as_micros()).unwrap_or(i64::MAX);
    let before = store.db.options.clock.now().as_micros().saturating_sub(age);
    store.db.write("remove unused attachments", move |conn| {
        conn.execute(
            "DELETE FROM attachment WHERE stored_at < ?1
                AND NOT EXISTS (SELECT 1 FROM attachment_use WHERE attachment = attachment.no)",
            [before],
        )?;
        Ok(())
    })
}

impl SqliteStore {
    /// Gives free pages back to the disk when there are many, a few at a time.
    pub(crate) fn give_back(&self) -> StoreResult<()> {
        let action = "give space back";
        // Nobody has to wait for a look.
        if !self.db.read(action, |conn| Ok(free_pages(conn)? > kept_free(conn)?))? {
            return Ok(());
        }
        while self.db.with_writer(action, |conn| give_back_some(conn, kept_free(conn)?))? {}
        Ok(())
    }
}

fn free_pages(conn: &Connection) -> Result<i64> {
    Ok(conn.pragma_query_value(None, "freelist_count", |row| row.get(0))?)
}

/// How many free pages are kept for what comes next.
fn kept_free(conn: &Connection) -> Result<i64> {
    let pages: i64 = conn.pragma_query_value(None, "page_count", |row| row.get(0))?;
    Ok(KEPT_FREE.max(pages / 8))
}

/// Gives some free pages back; whether more than `keep` are left.
fn give_back_some(conn: &Connection, keep: i64) -> Result<bool> {
    let before = free_pages(conn)?;
    if before <= keep {
        return Ok(false);
    }
    let some = GIVEN_BACK.min(before - keep);
    conn.pragma(None, "incremental_vacuum", some, |_| Ok(()))?;
    let after = free_pages(conn)?;
    Ok(after > keep && after < before)
}

impl Maintenance for SqliteStore {
    fn info(&self) -> StoreResult<StoreInfo> {
        super::maintenance::info(self)
    }

    fn verify(&self) -> StoreResult<Verification> {
        crate::check::verify::verify(&self.db)
    }

    fn repair(&self) -> StoreResult<Vec<Problem>> {
        crate::check::repair::repair(&self.db, &|| super::text_index::catch_up(self))
    }

    fn backup(&self, to: &Path) -> StoreResult<()> {
        super::maintenance::backup(self, to)
    }

    fn vacuum(&self) -> StoreResult<()> {
        super::maintenance::vacuum(self)
    }
}
