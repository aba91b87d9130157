//! The store on SQLite: its opening, and the two doors through which everything else reaches the database.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use hfs_core::{StoreError, StoreResult};
use rusqlite::Connection;

use crate::commit::{Backend, Manner, Queue};
use crate::connection::Link;
use crate::fault::{Fault, Sql};
use crate::files::{self, Life, Paths, WriteLock};
use crate::index::{self, Backlog};
use crate::options::{Durability, SqliteOptions};
use crate::replies::Eyes;
use crate::states::Opened;
use crate::{maintenance, purge, schema};

/// Readers beyond these are closed after use.
const IDLE_READERS: usize = 8;

/// How many pages the log has when it is carried over into the database: SQLite's usual number, so that nobody waits
/// long for it.
const LOG: i64 = 1000;
/// The same in bulk, where each time that the disk is waited for counts more. (Imports have it carried over meanwhile.)
pub(crate) const RELAXED_LOG: i64 = 16384;

/// A store in one SQLite file.
///
/// Any number of threads may share one, and any number of processes one file. Closing it (dropping it) ends the
/// replies that were begun through it.
pub struct SqliteStore {
    pub(crate) paths: Arc<Paths>,
    pub(crate) options: SqliteOptions,
    /// Under which others see that this store is open.
    name: Arc<str>,
    pub(crate) backlog: Mutex<Backlog>,
    pub(crate) opened: Arc<Opened>,
    readers: Mutex<Vec<Link>>,
    pub(crate) queue: Arc<Queue<Writer>>,
}

impl SqliteStore {
    /// Opens the database at `path`; makes it, with its directory, where there is none; carries an old one
    /// forward, after a copy.
    ///
    /// # Errors
    /// `Newer` for a database of a newer version, which is not touched; `Corrupt` for a file that is no
    /// database; `Invalid` for one of another program; `Denied` and `Unavailable` as the system has it.
    pub fn open(path: impl AsRef<Path>, options: SqliteOptions) -> StoreResult<Self> {
        let path = path.as_ref();
        Self::try_open(path, options).map_err(|fault| fault.told("open the store", path))
    }

    fn try_open(path: &Path, options: SqliteOptions) -> Sql<Self> {
        let paths = Arc::new(Paths::new(path)?);
        check_header(&paths)?;
        paths.create_directories()?;
        paths.create_database()?;
        let lock = WriteLock::open(&paths)?;
        let guard = lock.acquire()?;
        let life = Life::begin(&paths, None)?;
        files::sweep(&paths)?;
        let link = Link::open_writer(&paths, options.max_bytes)?;
        schema::migrate(&link.conn, &paths, schema::MIGRATIONS)?;
        drop(guard);

        let name = life.name().into();
        let writer = Writer {
            paths: Arc::clone(&paths),
            options: options.clone(),
            life,
            parts: Some(Parts { link, lock, relaxed: None }),
        };
        let store = Self {
            paths,
            options,
            name,
            backlog: Backlog::new(),
            opened: Arc::default(),
            readers: Mutex::default(),
            queue: Arc::new(Queue::new(writer)),
        };
        if let Err(error) = purge::leavings(&store) {
            tracing::warn!(%error, "what an interrupted import left behind could not be cleared away");
        }
        Ok(store)
    }

    /// Reads from one unchanging state of the database. `action` completes "cannot ...".
    pub(crate) fn read<T>(&self, action: &str, body: impl FnOnce(&Connection) -> Sql<T>) -> StoreResult<T> {
        self.try_read(body).map_err(|fault| fault.told(action, &self.paths.database))
    }

    /// The same, for a part of what is tried.
    pub(crate) fn try_read<T>(&self, body: impl FnOnce(&Connection) -> Sql<T>) -> Sql<T> {
        let link = self.take_reader()?;
        link.conn.prepare_cached("BEGIN")?.execute([])?;
        let found = body(&link.conn);
        let ended = if link.conn.is_autocommit() {
            Ok(0)
        } else {
            link.conn.prepare_cached("COMMIT").and_then(|mut end| end.execute([]))
        };
        let broken = found.as_ref().is_err_and(Fault::breaks_connection);
        if ended.is_ok() && !broken {
            let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            if readers.len() < IDLE_READERS {
                readers.push(link);
            }
        }
        found
    }

    /// What tells living writers of replies from dead ones.
    pub(crate) fn eyes(&self) -> Eyes {
        Eyes { paths: Arc::clone(&self.paths), own: Arc::clone(&self.name) }
    }

    fn take_reader(&self) -> Sql<Link> {
        loop {
            let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(link) if link.is_current(&self.paths) => return Ok(link),
                Some(_) => {}
                None => return Link::open_reader(&self.paths),
            }
        }
    }

    /// Writes, together with whatever else waits to be written. Durable when it returns, as the options say.
    /// `job` may run more than once, each time as if for the first.
    pub(crate) fn write<T: Send + 'static>(
        &self,
        action: &str,
        job: impl FnMut(&Connection) -> Sql<T> + Send + 'static,
    ) -> StoreResult<T> {
        self.write_in(Manner::default(), action, job)
    }

    /// Writes in this manner.
    pub(crate) fn write_in<T: Send + 'static>(
        &self,
        manner: Manner,
        action: &str,
        job: impl FnMut(&Connection) -> Sql<T> + Send + 'static,
    ) -> StoreResult<T> {
        self.queue.submit(manner, job).map_err(|fault| fault.told(action, &self.paths.database))
    }

    /// Uses the writing connection outside any transaction, while nobody else of any process writes.
    pub(crate) fn with_writer<T>(
        &self,
        action: &str,
        body: impl FnOnce(&Connection) -> Sql<T>,
    ) -> StoreResult<T> {
        self.queue
            .with_backend(|writer| writer.exclusively(|conn| body(conn)))
            .map_err(|fault| fault.told(action, &self.paths.database))
    }

    /// Gives the database the pages of another, which `body` makes while nobody else writes. Others who have it
    /// open see them with their next transaction.
    pub(crate) fn replace_pages<T>(
        &self,
        action: &str,
        body: impl FnOnce(&Connection) -> Sql<(Connection, T)>,
    ) -> StoreResult<T> {
        let replace = |conn: &mut Connection| {
            let (new, result) = body(conn)?;
            maintenance::copy_pages(&new, conn)?;
            Ok(result)
        };
        self.queue
            .with_backend(|writer| writer.exclusively(replace))
            .map_err(|fault| fault.told(action, &self.paths.database))
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        index::before_close(self);
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.paths.database).finish_non_exhaustive()
    }
}

/// Refuses what is plainly not ours, before anything is made or opened beside it.
fn check_header(paths: &Paths) -> Sql<()> {
    let mut header = Vec::new();
    match std::fs::File::open(&paths.database) {
        Ok(file) => file.take(100).read_to_end(&mut header)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let number = |at: usize| {
        let bytes = header.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    if header.is_empty() {
        return Ok(());
    }
    if !header.starts_with(b"SQLite format 3\0") {
        let message = format!("{} is not a database of hfs", paths.database.display());
        return Err(StoreError::Corrupt { message }.into());
    }
    let (found, supported) = (number(60).unwrap_or(0), schema::newest(schema::MIGRATIONS));
    if number(68) == Some(schema::APPLICATION_ID) && found > supported {
        let store = paths.database.display().to_string();
        return Err(StoreError::Newer { store, found, supported }.into());
    }
    Ok(())
}

/// The writing connection and what surrounds it.
pub(crate) struct Writer {
    paths: Arc<Paths>,
    options: SqliteOptions,
    life: Life,
    /// Opened again when the file has been replaced, or after it failed.
    parts: Option<Parts>,
}

struct Parts {
    link: Link,
    lock: WriteLock,
    /// How the connection is set; unknown at first.
    relaxed: Option<bool>,
}

impl Writer {
    /// The connection, on the file that the path leads to now.
    fn prepare(&mut self) -> Sql<&mut Parts> {
        if self.parts.as_ref().is_some_and(|parts| !parts.link.is_current(&self.paths)) {
            self.parts = None;
        }
        if self.parts.is_none() {
            // Never makes a new database: one that is gone is an error until it is back.
            let link = Link::open_writer(&self.paths, self.options.max_bytes)?;
            self.paths.create_directories()?;
            let lock = WriteLock::open(&self.paths)?;
            let guard = lock.acquire()?;
            schema::migrate(&link.conn, &self.paths, schema::MIGRATIONS)?;
            if !self.life.is_visible() {
                let name = self.life.name().to_owned();
                self.life = Life::begin(&self.paths, Some(&name))?;
            }
            drop(guard);
            self.parts = Some(Parts { link, lock, relaxed: None });
        }
        self.parts.as_mut().ok_or_else(|| Fault::Bug("there is no writing connection".into()))
    }

    fn exclusively<T>(&mut self, body: impl FnOnce(&mut Connection) -> Sql<T>) -> Sql<T> {
        let parts = self.prepare()?;
        let guard = parts.lock.acquire()?;
        let done = body(&mut parts.link.conn);
        drop(guard);
        parts.relaxed = None;
        self.keep_unless_broken(done)
    }

    fn keep_unless_broken<T>(&mut self, done: Sql<T>) -> Sql<T> {
        if done.as_ref().is_err_and(Fault::breaks_connection) {
            self.parts = None;
        }
        done
    }
}

impl Backend for Writer {
    fn transact(&mut self, relaxed: bool, body: &mut dyn FnMut(&Connection) -> bool) -> Sql<()> {
        let relaxed = relaxed || self.options.durability == Durability::Fast;
        let parts = self.prepare()?;
        let conn = &parts.link.conn;
        let guard = parts.lock.acquire()?;
        let done = sync_as(conn, relaxed, parts.relaxed).and_then(|()| transaction(conn, body));
        drop(guard);
        parts.relaxed = done.is_ok().then_some(relaxed);
        self.keep_unless_broken(done)
    }
}

fn sync_as(conn: &Connection, relaxed: bool, set: Option<bool>) -> Sql<()> {
    if set != Some(relaxed) {
        let (synchronous, pages) = if relaxed { ("NORMAL", RELAXED_LOG) } else { ("FULL", LOG) };
        conn.pragma_update(None, "synchronous", synchronous)?;
        conn.pragma_update_and_check(None, "wal_autocheckpoint", pages, |_| Ok(()))?;
    }
    Ok(())
}

fn transaction(conn: &Connection, body: &mut dyn FnMut(&Connection) -> bool) -> Sql<()> {
    conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let rollback = Rollback { conn };
    if body(conn) {
        conn.prepare_cached("COMMIT")?.execute([])?;
    }
    drop(rollback);
    Ok(())
}

/// Ends what has not been committed, also after a panic.
struct Rollback<'a> {
    conn: &'a Connection,
}

impl Drop for Rollback<'_> {
    fn drop(&mut self) {
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }
}
