//! Connections to the database, and what each of them is set to.

use std::path::Path;
use std::time::Duration;

use hfs_core::{MessageDraft, Role, Timestamp};
use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OpenFlags};

use crate::codec::body;
use crate::codec::checksum;
use crate::db::paths::{FileId, Paths};
use crate::error::Result;

/// How long to wait for programs that know nothing of our locks.
const FOREIGN_LOCK_PATIENCE: Duration = Duration::from_secs(10);
const CACHED_STATEMENTS: usize = 96;
/// KiB of pages that each connection keeps.
const CACHE_KIB: i64 = 8 * 1024;
/// What the log is cut back to once everything in it has reached the database.
const LOG_BYTES: i64 = 16 * 1024 * 1024;

/// A connection, and the file it leads to.
#[derive(Debug)]
pub(crate) struct DbConnection {
    pub(crate) conn: Connection,
    file: FileId,
}

impl DbConnection {
    /// Whether the path still leads to the file that this was opened on.
    pub(crate) fn is_current(&self, paths: &Paths) -> bool {
        paths.identify().is_ok_and(|file| file == self.file)
    }

    /// Opens the database, which must exist.
    pub(crate) fn open(paths: &Paths) -> Result<Self> {
        let file = paths.identify()?;
        Ok(Self { conn: connect(&paths.database)?, file })
    }

    /// Opens the database for reading only.
    pub(crate) fn open_reader(paths: &Paths) -> Result<Self> {
        let link = Self::open(paths)?;
        link.conn.pragma_update(None, "query_only", true)?;
        Ok(link)
    }

    /// Opens the database for writing.
    pub(crate) fn open_writer(paths: &Paths, max_bytes: Option<u64>) -> Result<Self> {
        let link = Self::open(paths)?;
        // On systems where fsync alone does not reach the disk.
        link.conn.pragma_update(None, "fullfsync", true)?;
        link.conn.pragma_update(None, "checkpoint_fullfsync", true)?;
        link.conn.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        if let Some(bytes) = max_bytes {
            let page: i64 = link.conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
            let pages = i64::try_from(bytes).unwrap_or(i64::MAX) / page.max(1);
            link.conn.pragma_update_and_check(None, "max_page_count", pages.max(1), |_| Ok(()))?;
        }
        Ok(link)
    }
}

/// Opens a file that exists, with everything that the schema needs.
pub(crate) fn connect(path: &Path) -> Result<Connection> {
    // One thread at a time uses it, which Rust sees to.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(FOREIGN_LOCK_PATIENCE)?;
    conn.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    // Otherwise statements near partial indexes are compiled again for each new value that is bound to them.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "cache_size", -CACHE_KIB)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    register_functions(&conn)?;
    Ok(conn)
}

/// `hfs_text(body)`: the text of a message that search looks at. The text index is built from it; whoever changes
/// what it returns must rebuild the index in a migration.
fn register_functions(conn: &Connection) -> Result<()> {
    checksum::register(conn)?;
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    conn.create_scalar_function("hfs_text", 1, flags, |context| {
        let body = context.get_raw(0).as_str()?;
        // Damage is for `verify` to report; search goes on without that message.
        Ok(body::read(body).map(searchable_text).unwrap_or_default())
    })?;
    Ok(())
}

/// What search looks at, without the characters that mark matches.
pub(crate) fn searchable_text(parts: Vec<hfs_core::Part>) -> String {
    use hfs_core::SearchHit;
    let text = MessageDraft::new(Role::User, parts, Timestamp::UNIX_EPOCH).searchable_text();
    if text.contains([SearchHit::MARK_START, SearchHit::MARK_END]) {
        text.replace([SearchHit::MARK_START, SearchHit::MARK_END], " ")
    } else {
        text
    }
}
