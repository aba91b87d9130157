//! The database: connections, locks between processes, the writer and the schema.
//!
//! [`Database`] runs closures in read or write transactions. It migrates the schema, but contains no queries of the
//! store; they are in [`crate::sqlite`].

pub(crate) mod backup;
pub(crate) mod connection;
pub(crate) mod copies;
pub(crate) mod group_commit;
pub(crate) mod identity;
pub(crate) mod locks;
pub(crate) mod lookup;
pub(crate) mod options;
pub(crate) mod paths;
pub(crate) mod schema;
pub(crate) mod url;
pub(crate) mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hfs_core::{StoreError, StoreResult, lock_unpoisoned};
use rusqlite::Connection;

use crate::db::connection::DbConnection;
use crate::db::group_commit::{GroupCommit, WriteOptions};
use crate::db::locks::{LivenessProbe, PresenceLock, WriteLock};
use crate::db::options::SqliteOptions;
use crate::db::paths::{Paths, remove_if_exists, with_suffix};
use crate::db::writer::Writer;
use crate::error::{Error, Result};

/// Maximum number of idle readers. A reader that exceeds this number is closed after use.
const IDLE_READERS: usize = 8;
/// Maximum time that group commit waits for the callers of the previous batch. A commit to a fast disk takes longer.
const LINGER: Duration = Duration::from_micros(100);

/// One open database file. Threads share it; other processes may have the same file open.
pub(crate) struct Database {
    pub(crate) paths: Arc<Paths>,
    pub(crate) options: SqliteOptions,
    /// Name of this process's presence lock.
    presence: Arc<str>,
    readers: Mutex<Vec<DbConnection>>,
    writer: Arc<GroupCommit<Writer>>,
    /// The connection of a snapshot, whose read transaction lasts as long as the snapshot.
    snapshot: Option<Mutex<DbConnection>>,
}

impl Database {
    /// Opens the database at `path`. Creates it if it does not exist and migrates it if it is old.
    pub(crate) fn open(path: &Path, options: SqliteOptions) -> Result<Self> {
        let mut paths = Paths::new(path)?;
        paths.check_kind()?;
        if !paths.repaired().exists() {
            paths = identity::check_file(paths)?;
        }
        let paths = Arc::new(paths);
        paths.check_links()?;
        paths.create_directories()?;
        paths.create_database()?;
        let lock = WriteLock::open(&paths)?;
        // While this process holds the write lock, no other process can migrate the database or delete the new presence
        // lock.
        let guard = lock.acquire()?;
        finish_replacement(&paths)?;
        paths.set_aside_journal()?;
        if let Err(error) = paths.remove_repair_directory() {
            tracing::warn!(%error, "the files of a killed repair cannot be deleted");
        }
        let presence = PresenceLock::acquire(&paths, None)?;
        locks::remove_abandoned(&paths);
        let connection = DbConnection::open_writer(&paths, &options)?;
        schema::migrate(&connection.conn, &paths, schema::MIGRATIONS)?;
        if let Err(error) = identity::add_path(&connection.conn, &paths) {
            tracing::warn!(%error, "the path of the store could not be stored in it");
        }
        drop(guard);

        let name = presence.name().into();
        let writer = Writer::new(Arc::clone(&paths), options.clone(), presence, connection, lock);
        let writer = Arc::new(GroupCommit::new(writer, LINGER));
        Ok(Self { paths, options, presence: name, readers: Mutex::default(), writer, snapshot: None })
    }

    /// Returns a view of the database as it is now, which cannot be written to. All its reads share one transaction.
    pub(crate) fn snapshot(&self) -> StoreResult<Self> {
        let begin = || -> Result<DbConnection> {
            let reader = self.take_reader()?;
            // SQLite takes the snapshot with the first read, not with `BEGIN`.
            reader.conn.execute_batch("BEGIN; SELECT count(*) FROM sqlite_master;")?;
            Ok(reader)
        };
        let reader = match &self.snapshot {
            Some(_) => return Err(self.read_only("take a snapshot of a snapshot")),
            None => begin().map_err(self.store_error("take a snapshot of the store"))?,
        };
        Ok(Self {
            paths: Arc::clone(&self.paths),
            options: self.options.clone(),
            presence: Arc::clone(&self.presence),
            readers: Mutex::default(),
            writer: Arc::clone(&self.writer),
            snapshot: Some(Mutex::new(reader)),
        })
    }

    pub(crate) const fn is_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Ends the read transaction of a snapshot.
    pub(crate) fn end_snapshot(&self) {
        if let Some(snapshot) = &self.snapshot
            && let Err(error) = lock_unpoisoned(snapshot).conn.execute_batch("COMMIT")
        {
            tracing::warn!(%error, "the read transaction of a snapshot could not be ended");
        }
    }

    fn read_only(&self, action: &str) -> StoreError {
        let store = self.paths.database.display();
        StoreError::Unsupported { message: format!("cannot {action}: this view of {store} is read-only") }
    }

    /// Runs `body` in a read transaction. `action` completes "cannot ..." in error messages.
    pub(crate) fn read<T>(
        &self,
        action: &str,
        body: impl FnOnce(&Connection) -> Result<T>,
    ) -> StoreResult<T> {
        self.try_read(body).map_err(self.store_error(action))
    }

    /// Like [`Database::read`], but returns the internal error. For steps of larger operations.
    pub(crate) fn try_read<T>(&self, body: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        if let Some(snapshot) = &self.snapshot {
            return body(&lock_unpoisoned(snapshot).conn);
        }
        let reader = self.take_reader()?;
        reader.conn.prepare_cached("BEGIN")?.execute([])?;
        let result = body(&reader.conn);
        // SQLite itself ends the transaction after some errors.
        let ended = if reader.conn.is_autocommit() {
            Ok(0)
        } else {
            reader.conn.prepare_cached("COMMIT").and_then(|mut end| end.execute([]))
        };
        let broken = result.as_ref().is_err_and(Error::breaks_connection);
        if ended.is_ok() && !broken {
            let mut readers = lock_unpoisoned(&self.readers);
            if readers.len() < IDLE_READERS {
                readers.push(reader);
            }
        }
        result
    }

    fn take_reader(&self) -> Result<DbConnection> {
        loop {
            let idle = lock_unpoisoned(&self.readers).pop();
            match idle {
                Some(reader) if reader.is_current(&self.paths) => return Ok(reader),
                // The database file was replaced. Closes this reader and tries the next one.
                Some(_) => {}
                None => return DbConnection::open_reader(&self.paths, &self.options),
            }
        }
    }

    /// Runs `job` in a write transaction, in which jobs of other callers may run too (see [`group_commit`]). Returns
    /// when the write is as durable as the store's options require.
    ///
    /// `job` may run more than once. The changes of an earlier attempt have then been rolled back.
    pub(crate) fn write<T: Send + 'static>(
        &self,
        action: &str,
        job: impl FnMut(&Connection) -> Result<T> + Send + 'static,
    ) -> StoreResult<T> {
        self.write_with(WriteOptions::default(), action, job)
    }

    /// Like [`Database::write`], with options.
    pub(crate) fn write_with<T: Send + 'static>(
        &self,
        options: WriteOptions,
        action: &str,
        job: impl FnMut(&Connection) -> Result<T> + Send + 'static,
    ) -> StoreResult<T> {
        if self.is_snapshot() {
            return Err(self.read_only(action));
        }
        self.writer.submit(options, job).map_err(self.store_error(action))
    }

    /// Runs `body` on the writing connection without a transaction. Holds the write lock, so no other thread or process
    /// can write in the meantime.
    pub(crate) fn with_writer<T>(
        &self,
        action: &str,
        body: impl FnOnce(&Connection) -> Result<T>,
    ) -> StoreResult<T> {
        if self.is_snapshot() {
            return Err(self.read_only(action));
        }
        self.try_with_writer(body).map_err(self.store_error(action))
    }

    /// Like [`Database::with_writer`], but returns the internal error. For steps of larger operations.
    pub(crate) fn try_with_writer<T>(&self, body: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.writer.with_backend(|writer| writer.exclusively(|conn| body(conn)))
    }

    /// Runs `body` with the write lock held and without open connections, so that it can replace the file.
    pub(crate) fn offline<T>(&self, action: &str, body: impl FnOnce(&Paths) -> Result<T>) -> StoreResult<T> {
        if self.is_snapshot() {
            return Err(self.read_only(action));
        }
        let replaced = self.writer.with_backend(|writer| {
            let idle = std::mem::take(&mut *lock_unpoisoned(&self.readers));
            idle.into_iter().for_each(DbConnection::close_without_checkpoint);
            writer.offline(body)
        });
        replaced.map_err(self.store_error(action))
    }

    /// Returns a function for `map_err` that converts an internal error of the operation `action`.
    pub(crate) fn store_error<E: Into<Error>>(&self, action: &str) -> impl Fn(E) -> StoreError {
        move |error| error.into().into_store_error(action, &self.paths.database)
    }

    pub(crate) fn liveness_probe(&self) -> LivenessProbe {
        LivenessProbe::new(Arc::clone(&self.paths), Arc::clone(&self.presence))
    }

    /// A new path for a temporary file. If this process is killed, another store deletes the file when it is opened.
    pub(crate) fn temporary_path(&self, name: &str) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.paths.locks.join(format!("{}.{name}-{number}", self.presence))
    }

    /// Name of this process's presence lock, which rows store as their writer.
    pub(crate) fn presence(&self) -> Arc<str> {
        Arc::clone(&self.presence)
    }
}

/// Replaces the database with the one that a repair has completed, if there is one. The caller holds the write lock.
pub(crate) fn finish_replacement(paths: &Paths) -> io::Result<()> {
    let repaired = paths.repaired();
    if !repaired.exists() {
        return Ok(());
    }
    // The logs belong to the damaged database. SQLite would apply them to the new one.
    remove_if_exists(&paths.log())?;
    remove_if_exists(&paths.journal())?;
    remove_if_exists(&with_suffix(&paths.database, "-shm"))?;
    std::fs::rename(&repaired, &paths.database)?;
    paths.sync_directory()
}
