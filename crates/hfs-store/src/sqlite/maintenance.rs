//! Statistics, backups, and releasing free space. Checks and repairs are in [`crate::check`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hfs_core::{CompressedSize, Maintenance, Problem, Store, StoreInfo, StoreResult, Verification};
use rusqlite::Connection;

use crate::check::verify;
use crate::db::paths::with_suffix;
use crate::db::url::StoreUrl;
use crate::db::{backup, schema};
use crate::error::Result;
use crate::sqlite::text_index::Backlog;
use crate::sqlite::{SqliteStore, blocks, purge, repair, text_index};
use crate::state_store::rebase;

/// Maximum number of free pages that are released in one step. Other processes can write between two steps of
/// [`SqliteStore::shrink`]; `vacuum` holds the write lock during all its steps.
const SHRINK_STEP_PAGES: i64 = 512;
/// Minimum number of free pages that are kept for later writes. A large file keeps an eighth of its pages.
const MIN_SPARE_PAGES: i64 = 256;
/// Minimum age at which an attachment without references is removed. A younger one may belong to a message that is not
/// yet saved.
const UNUSED_ATTACHMENT_AGE: Duration = Duration::from_secs(24 * 60 * 60);

impl Maintenance for SqliteStore {
    fn info(&self) -> StoreResult<StoreInfo> {
        let url = StoreUrl::Sqlite(self.db.paths.database.clone()).to_string();
        let bytes = ["", "-wal"]
            .iter()
            .filter_map(|suffix| std::fs::metadata(with_suffix(&self.db.paths.database, suffix)).ok())
            .map(|metadata| metadata.len())
            .sum();
        self.db.read("read the store's statistics", |conn| {
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

    fn verify(&self) -> StoreResult<Verification> {
        verify::verify(&self.db)
    }

    fn repair(&self) -> StoreResult<Vec<Problem>> {
        repair::repair_open(self)
    }

    fn backup(&self, to: &Path) -> StoreResult<()> {
        // Two results, because an error of writing the copy must name the path of the copy, not of this store.
        let copied = self.db.read("read the store", |conn| Ok(backup::copy(conn, to)))?;
        copied.map_err(|error| error.into_store_error("write the copy", to))
    }

    fn compress(&self, progress: &mut dyn FnMut(u64, u64)) -> StoreResult<()> {
        blocks::pack_all(self, progress)
    }

    fn compressed_size(&self) -> StoreResult<CompressedSize> {
        self.db.read("read the store's statistics", |conn| {
            let sql = "SELECT coalesce(sum(length(data)), 0), coalesce(sum(size), 0) FROM block";
            let size = conn.query_row(sql, [], |row| {
                Ok(CompressedSize { compressed_bytes: row.get(0)?, uncompressed_bytes: row.get(1)? })
            })?;
            Ok(size)
        })
    }

    fn vacuum(&self) -> StoreResult<()> {
        purge::remove_orphaned_rows(self)?;
        text_index::catch_up(self)?;
        remove_unused_attachments(self)?;
        blocks::pack_all(self, &mut |_, _| ())?;
        rebase::release_all(&self.db, &self.keyframes)?;
        self.db.write("optimize the text index", |conn| {
            conn.execute("INSERT INTO message_text (message_text) VALUES ('optimize')", [])?;
            Ok(())
        })?;
        self.db.with_writer("shrink the database", |conn| {
            while shrink_step(conn, 0)? {}
            conn.execute_batch("PRAGMA optimize")?;
            purge::truncate_log(conn, purge::READERS_TIMEOUT).map(drop)
        })
    }

    fn snapshot(&self) -> StoreResult<Arc<dyn Store>> {
        Ok(Arc::new(Self {
            db: Arc::new(self.db.snapshot()?),
            backlog: Backlog::new(),
            keyframes: Arc::clone(&self.keyframes),
        }))
    }
}

fn remove_unused_attachments(store: &SqliteStore) -> StoreResult<()> {
    let age = i64::try_from(UNUSED_ATTACHMENT_AGE.as_micros()).unwrap_or(i64::MAX);
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
    /// Releases free pages to the file system if there are many. Called after deletions.
    pub(crate) fn shrink(&self) -> StoreResult<()> {
        let action = "shrink the database";
        // Usually there are few free pages. A read transaction can show that without the write lock.
        if !self.db.read(action, |conn| Ok(free_pages(conn)? > spare_pages(conn)?))? {
            return Ok(());
        }
        while self.db.with_writer(action, |conn| shrink_step(conn, spare_pages(conn)?))? {}
        Ok(())
    }

    /// Releases all free pages to the file system, so that nothing is left of what they held. Other processes can write
    /// between two steps.
    pub(crate) fn release_free_pages(&self) -> Result<()> {
        while self.db.try_with_writer(|conn| shrink_step(conn, 0))? {}
        Ok(())
    }
}

fn free_pages(conn: &Connection) -> Result<i64> {
    Ok(conn.pragma_query_value(None, "freelist_count", |row| row.get(0))?)
}

/// The number of free pages to keep.
fn spare_pages(conn: &Connection) -> Result<i64> {
    let pages: i64 = conn.pragma_query_value(None, "page_count", |row| row.get(0))?;
    Ok(MIN_SPARE_PAGES.max(pages / 8))
}

/// Releases some free pages. Returns true if it released any and more than `keep` free pages are left.
pub(crate) fn shrink_step(conn: &Connection, keep: i64) -> Result<bool> {
    let before = free_pages(conn)?;
    if before <= keep {
        return Ok(false);
    }
    let pages = SHRINK_STEP_PAGES.min(before - keep);
    conn.pragma(None, "incremental_vacuum", pages, |_| Ok(()))?;
    let after = free_pages(conn)?;
    Ok(after > keep && after < before)
}
