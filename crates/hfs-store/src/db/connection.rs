//! Connections to the database and their settings.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hfs_core::{MessageDraft, Role, Timestamp, lock_unpoisoned};
use hfs_retrieval::IndexText;
use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use twox_hash::XxHash3_64;

use crate::codec::block::{Block, Texts};
use crate::codec::{body, checksum};
use crate::db::options::{DEFAULT_CACHE_BYTES, SqliteOptions};
use crate::db::paths::{FileId, Paths};
use crate::error::Result;

/// Maximum time to wait for SQLite's own locks. Processes of hfs wait for each other with [`super::locks`], so this
/// time applies only to locks of other programs, such as the `sqlite3` shell.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const CACHED_STATEMENTS: usize = 96;
/// Size to which the write-ahead log is truncated after a checkpoint has emptied it.
const MAX_IDLE_LOG_BYTES: i64 = 16 * 1024 * 1024;

/// A connection with the identity of its file.
///
/// A database file can be replaced while the store is open, for example by restoring a backup. The old connection would
/// then silently continue to read and write the deleted file.
#[derive(Debug)]
pub(crate) struct DbConnection {
    pub(crate) conn: Connection,
    paths: Arc<Paths>,
    file: FileId,
}

impl DbConnection {
    /// Whether the path still refers to the file that this connection has open.
    pub(crate) fn is_current(&self, paths: &Paths) -> bool {
        paths.file_id().is_ok_and(|file| file == self.file)
    }

    /// Opens the database, which must exist.
    pub(crate) fn open(paths: &Arc<Paths>) -> Result<Self> {
        let file = paths.file_id()?;
        Ok(Self { conn: connect(&paths.database)?, paths: Arc::clone(paths), file })
    }

    /// Closes the connection and leaves the write-ahead log as it is.
    pub(crate) fn close_without_checkpoint(self) {
        self.disable_checkpoint();
    }

    fn disable_checkpoint(&self) {
        if let Err(error) = self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true) {
            tracing::warn!(%error, "the write-ahead log may be checkpointed");
        }
    }

    pub(crate) fn open_reader(paths: &Arc<Paths>, options: &SqliteOptions) -> Result<Self> {
        let reader = Self::open(paths)?;
        set_cache(&reader.conn, options.cache_bytes)?;
        reader.conn.pragma_update(None, "query_only", true)?;
        Ok(reader)
    }

    pub(crate) fn open_writer(paths: &Arc<Paths>, options: &SqliteOptions) -> Result<Self> {
        let writer = Self::open(paths)?;
        set_cache(&writer.conn, options.cache_bytes)?;
        // On macOS, fsync alone does not reach the disk.
        writer.conn.pragma_update(None, "fullfsync", true)?;
        writer.conn.pragma_update(None, "checkpoint_fullfsync", true)?;
        writer.conn.pragma_update(None, "journal_size_limit", MAX_IDLE_LOG_BYTES)?;
        // Overwrites deleted rows with zeros, so that a purge leaves no text in the file. Unlike ON, FAST does not also
        // write to pages that become free, which would cost each pruned checkpoint some pages; a purge releases the free
        // pages instead.
        writer.conn.pragma_update_and_check(None, "secure_delete", "FAST", |_| Ok(()))?;
        if let Some(bytes) = options.max_bytes {
            let page: i64 = writer.conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
            let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
            writer.conn.pragma_update_and_check(None, "max_page_count", pages.max(1), |_| Ok(()))?;
        }
        Ok(writer)
    }
}

impl Drop for DbConnection {
    fn drop(&mut self) {
        // The last connection that closes deletes the log, by its path. If the file was replaced, that log is the log of
        // the new file.
        if !self.is_current(&self.paths) {
            self.disable_checkpoint();
        }
    }
}

/// Opens an existing file with the settings and SQL functions that the schema needs.
pub(crate) fn connect(path: &Path) -> Result<Connection> {
    // SQLite's mutex is not needed, because `Connection` is not `Sync`: only one thread at a time can use it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    // The query planner stability guarantee. Without it, SQLite recompiles a statement for each new bound value if the
    // statement's plan could use a partial index.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    set_cache(&conn, DEFAULT_CACHE_BYTES)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    checksum::register_functions(&conn)?;
    register_block_functions(&conn)?;
    register_text_functions(&conn)?;
    Ok(conn)
}

/// Sets the size of the page cache.
fn set_cache(conn: &Connection, bytes: u64) -> Result<()> {
    // A negative size is in KiB.
    let kib = i64::try_from(bytes / 1024).unwrap_or(i64::MAX);
    Ok(conn.pragma_update(None, "cache_size", -kib)?)
}

/// Registers `hfs_block_body(data, index)` and `hfs_block_extra(data, index)`, which return the texts of a message in a block, or
/// NULL if the block cannot be read. They are for the view `whole_message`.
fn register_block_functions(conn: &Connection) -> Result<()> {
    type Column = for<'t> fn(Texts<'t>) -> Option<&'t str>;
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    // The rows of a block follow each other, so the functions keep the last one, with the hash of its data.
    let last: Arc<Mutex<Option<(u64, Block)>>> = Arc::default();
    let body: Column = |texts| Some(texts.body);
    let extra: Column = |texts| texts.extra;
    for (name, column) in [("hfs_block_body", body), ("hfs_block_extra", extra)] {
        let last = Arc::clone(&last);
        conn.create_scalar_function(name, 2, flags, move |context| {
            let (ValueRef::Blob(data), ValueRef::Integer(index)) = (context.get_raw(0), context.get_raw(1))
            else {
                return Ok(None);
            };
            let hash = XxHash3_64::oneshot(data);
            let mut last = lock_unpoisoned(&last);
            if last.as_ref().is_none_or(|(known, _)| *known != hash) {
                *last = Block::decode(data).ok().map(|block| (hash, block));
            }
            let block = last.as_ref().map(|(_, block)| block);
            let texts =
                block.zip(usize::try_from(index).ok()).and_then(|(block, index)| block.texts(index).ok());
            Ok(texts.and_then(column).map(str::to_owned))
        })?;
    }
    Ok(())
}

/// Registers `hfs_words(body)`, `hfs_stems(body)` and `hfs_parts(body)`, which return the columns of the text index for a
/// message. The index contains their results, so a change that gives other results needs a migration that rebuilds the
/// index.
fn register_text_functions(conn: &Connection) -> Result<()> {
    type Column = fn(IndexText) -> String;
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    let words: Column = |columns| columns.words;
    let stems: Column = |columns| columns.stems;
    let parts: Column = |columns| columns.parts;
    for (name, column) in [("hfs_words", words), ("hfs_stems", stems), ("hfs_parts", parts)] {
        conn.create_scalar_function(name, 1, flags, move |context| {
            Ok(column(IndexText::of(&text_of_stored(context.get_raw(0)))))
        })?;
    }
    Ok(())
}

/// The searchable text of the value of a column with a body. `verify` reports a damaged body; search works without the
/// unreadable part.
pub(crate) fn text_of_stored(body: ValueRef<'_>) -> String {
    match body {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => text_of_body(&String::from_utf8_lossy(bytes)),
        _ => String::new(),
    }
}

/// The searchable text of a message's body; empty if the body cannot be decoded.
pub(crate) fn text_of_body(body: &str) -> String {
    // The role and the time do not affect the text.
    let text = |parts| MessageDraft::new(Role::User, parts, Timestamp::UNIX_EPOCH).searchable_text();
    body::decode(body).map(text).unwrap_or_default()
}
