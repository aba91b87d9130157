//! The writing connection, which runs the transactions of group commit.

use std::sync::Arc;

use rusqlite::Connection;

use crate::db::connection::DbConnection;
use crate::db::group_commit::Backend;
use crate::db::locks::{PresenceLock, WriteLock};
use crate::db::options::{Durability, SqliteOptions};
use crate::db::paths::Paths;
use crate::db::{identity, schema};
use crate::error::{Error, Result};

/// Number of pages in the write-ahead log at which a commit checkpoints it. This is SQLite's default.
const AUTOCHECKPOINT_PAGES: i64 = 1000;
/// The same number for relaxed transactions. A checkpoint waits for the disk, so bulk writes run fewer checkpoints.
/// Imports run their own checkpointer.
pub(crate) const RELAXED_AUTOCHECKPOINT_PAGES: i64 = 16384;

/// The writing connection of a store, with the write lock that all processes share.
pub(crate) struct Writer {
    paths: Arc<Paths>,
    options: SqliteOptions,
    presence: PresenceLock,
    /// `None` after an error that breaks the connection. The next transaction opens it again.
    open: Option<OpenWriter>,
    /// Whether storing the path of the database in it was attempted (see [`identity`]).
    tried_to_store_path: bool,
}

struct OpenWriter {
    connection: DbConnection,
    lock: WriteLock,
    /// Whether `synchronous` is set for relaxed transactions; `None` if unknown.
    relaxed: Option<bool>,
}

impl Writer {
    pub(crate) const fn new(
        paths: Arc<Paths>,
        options: SqliteOptions,
        presence: PresenceLock,
        connection: DbConnection,
        lock: WriteLock,
    ) -> Self {
        let open = Some(OpenWriter { connection, lock, relaxed: None });
        Self { paths, options, presence, open, tried_to_store_path: false }
    }

    /// Returns the connection. Opens it again if the last transaction broke it, or if the database file was replaced.
    fn prepare(&mut self) -> Result<&mut OpenWriter> {
        if self.open.as_ref().is_some_and(|open| !open.connection.is_current(&self.paths)) {
            self.open = None;
        }
        if self.open.is_none() {
            // Never creates a database. While the file is missing, writes fail.
            let connection = DbConnection::open_writer(&self.paths, &self.options)?;
            self.paths.create_directories()?;
            let lock = WriteLock::open(&self.paths)?;
            let guard = lock.acquire()?;
            schema::migrate(&connection.conn, &self.paths, schema::MIGRATIONS)?;
            if !self.presence.is_visible() {
                let name = self.presence.name().to_owned();
                self.presence = PresenceLock::acquire(&self.paths, Some(&name))?;
            }
            drop(guard);
            self.open = Some(OpenWriter { connection, lock, relaxed: None });
        }
        self.presence.refresh();
        self.open.as_mut().ok_or_else(|| Error::Internal("there is no writing connection".into()))
    }

    /// Runs `body` with the write lock held and no transaction open.
    pub(crate) fn exclusively<T>(&mut self, body: impl FnOnce(&mut Connection) -> Result<T>) -> Result<T> {
        let open = self.prepare()?;
        let guard = open.lock.acquire()?;
        let result = body(&mut open.connection.conn);
        drop(guard);
        // `body` may have changed the connection's settings.
        open.relaxed = None;
        self.close_if_broken(result)
    }

    /// Runs `body` with the write lock held and the connection closed.
    pub(crate) fn offline<T>(&mut self, body: impl FnOnce(&Paths) -> Result<T>) -> Result<T> {
        if let Some(open) = self.open.take() {
            open.connection.close_without_checkpoint();
        }
        let lock = WriteLock::open(&self.paths)?;
        let guard = lock.acquire()?;
        let result = body(&self.paths);
        drop(guard);
        result
    }

    fn close_if_broken<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.as_ref().is_err_and(Error::breaks_connection) {
            self.open = None;
        }
        result
    }
}

impl Backend for Writer {
    type Transaction = Connection;
    type Error = Error;

    fn transact(&mut self, relaxed: bool, body: &mut dyn FnMut(&Connection) -> bool) -> Result<()> {
        let relaxed = relaxed || self.options.durability == Durability::Fast;
        let paths = Arc::clone(&self.paths);
        let tried_to_store_path = self.tried_to_store_path;
        let open = self.prepare()?;
        let conn = &open.connection.conn;
        let guard = open.lock.acquire()?;
        if !tried_to_store_path {
            store_path(conn, &paths);
        }
        let result = set_synchronous(conn, relaxed, open.relaxed).and_then(|()| transaction(conn, body));
        drop(guard);
        open.relaxed = result.is_ok().then_some(relaxed);
        self.tried_to_store_path = true;
        self.close_if_broken(result)
    }

    fn changes(conn: &Connection) -> u64 {
        conn.total_changes()
    }

    fn is_rejection(error: &Error) -> bool {
        error.is_rejection()
    }

    fn abandoned() -> Error {
        Error::Internal("a panic aborted the write".into())
    }
}

/// Stores the path of the database in it. If that fails, other names of the file are not recognized.
fn store_path(conn: &Connection, paths: &Paths) {
    if let Err(error) = identity::set_path(conn, paths) {
        tracing::warn!(%error, "the path of the store could not be stored in it");
    }
}

/// Configures the connection for relaxed or durable transactions, unless `current` shows that it already is.
fn set_synchronous(conn: &Connection, relaxed: bool, current: Option<bool>) -> Result<()> {
    if current != Some(relaxed) {
        let (synchronous, pages) =
            if relaxed { ("NORMAL", RELAXED_AUTOCHECKPOINT_PAGES) } else { ("FULL", AUTOCHECKPOINT_PAGES) };
        conn.pragma_update(None, "synchronous", synchronous)?;
        conn.pragma_update_and_check(None, "wal_autocheckpoint", pages, |_| Ok(()))?;
    }
    Ok(())
}

fn transaction(conn: &Connection, body: &mut dyn FnMut(&Connection) -> bool) -> Result<()> {
    conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let rollback = RollbackOnDrop { conn };
    if body(conn) {
        conn.prepare_cached("COMMIT")?.execute([])?;
    }
    // Rolls back if `body` returned false.
    drop(rollback);
    Ok(())
}

/// Rolls back a transaction that is still open when this is dropped, also during a panic.
struct RollbackOnDrop<'a> {
    conn: &'a Connection,
}

impl Drop for RollbackOnDrop<'_> {
    fn drop(&mut self) {
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;

    use super::*;
    use crate::db::Database;

    fn open(directory: &Path) -> Database {
        Database::open(&directory.join("a.db"), SqliteOptions::default()).unwrap()
    }

    fn insert(conn: &Connection) -> Result<()> {
        conn.execute("INSERT INTO attachment (hash, stored_at, bytes) VALUES (x'00', 0, x'00')", [])?;
        Ok(())
    }

    fn count(db: &Database) -> i64 {
        db.read("count", |conn| Ok(conn.query_row("SELECT count(*) FROM attachment", [], |row| row.get(0))?))
            .unwrap()
    }

    #[test]
    fn a_failed_write_is_rolled_back() {
        let directory = tempfile::tempdir().unwrap();
        let db = open(directory.path());
        let failed = db.write("insert", |conn| {
            insert(conn)?;
            Err::<(), _>(Error::Corrupt("the row is bad".into()))
        });
        assert!(failed.is_err());
        assert_eq!(count(&db), 0);
        db.write("insert", insert).unwrap();
        assert_eq!(count(&db), 1);
    }

    #[test]
    fn a_write_that_panics_is_rolled_back_and_the_next_one_succeeds() {
        let directory = tempfile::tempdir().unwrap();
        let db = open(directory.path());
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            db.write("insert", |conn| -> Result<()> {
                insert(conn)?;
                panic!("the write panics")
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(count(&db), 0);
        db.write("insert", insert).unwrap();
        assert_eq!(count(&db), 1);
    }

    #[test]
    fn a_replaced_database_file_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let db = open(directory.path());
        db.write("insert", insert).unwrap();
        let copy = directory.path().join("copy.db");
        db.read("copy", |conn| crate::db::backup::copy(conn, &copy)).unwrap();
        db.write("delete", |conn| Ok(conn.execute("DELETE FROM attachment", [])?)).unwrap();
        // These files belong to the replaced file.
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(directory.path().join(format!("a.db{suffix}")));
        }
        std::fs::rename(&copy, directory.path().join("a.db")).unwrap();
        assert_eq!(count(&db), 1);
        db.write("delete", |conn| Ok(conn.execute("DELETE FROM attachment", [])?)).unwrap();
        assert_eq!(count(&db), 0);
    }
}
