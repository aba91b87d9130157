//! The database: connections, transactions, retries, the presence of this process, and the schema.
//!
//! [`Database`] runs closures in transactions, and contains no queries of the store; they are in [`crate::store`].
//!
//! # What a transaction uses
//!
//! Only what pgbouncer keeps in transaction mode: each setting is `SET LOCAL`, statements have no names, and locks end
//! with the transaction.
//!
//! # A connection that is lost
//!
//! Each write has an id, which its transaction first inserts into `write_log`. After any transient error the closure runs
//! again, in a new transaction that inserts the same id. If the connection was lost during COMMIT, the id decides: it is
//! there if the server has committed, and the insert waits while the server is still committing. So a write is never
//! stored twice, and never reported as failed although it is stored, unless the server stays away for longer than
//! [`RETRY_LIMIT`].
//!
//! # Threads
//!
//! The port is synchronous. A runtime with one thread, which belongs to the store, reads and writes the sockets. A
//! caller's thread only waits for the answers; unlike `Runtime::block_on`, that also works on a thread of another
//! runtime.

pub(crate) mod migrations;
pub(crate) mod value;

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime as PoolRuntime, Timeouts,
};
use futures::executor::block_on;
use futures::future::join;
use hfs_core::{Backoff, StoreError, StoreResult, lock_unpoisoned};
use hfs_store::Durability;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_postgres::{Row, SimpleQueryMessage};
use uuid::Uuid;

use crate::PostgresOptions;
use crate::address::Address;
use crate::db::value::{Columns as _, Value, values};
use crate::error::{Error, Result};

/// Maximum number of connections of one store.
const MAX_CONNECTIONS: usize = 16;
/// Maximum time to wait for one of them.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum time of a statement, and of waiting for a lock.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time of a statement that may read or delete a whole table.
const LONG_STATEMENT_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// How much longer than the server's own time-out this process waits for an answer.
const ANSWER_DELAY: Duration = Duration::from_secs(15);
/// Time after which a failed transaction is not tried again.
const RETRY_LIMIT: Duration = Duration::from_secs(40);
/// Bounds of the pause before the next attempt, which doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Interval at which this process renews its presence.
const RENEWAL: Duration = Duration::from_secs(10);
/// Number of writes, on average, after which one also removes the ids of old writes.
const WRITES_PER_CLEANUP: u32 = 1000;
/// Maximum time to withdraw the presence when the store is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Condition on a row of `presence` that its process has not ended.
pub(crate) const IS_ALIVE: &str = "presence.renewed_at > now() - interval '60 seconds'";

/// Condition on a row of `activity` that the session belongs to the role of this process. Only its owner changes a session.
pub(crate) const IS_OWN: &str = "activity.owner = current_user::text";

/// One store on a server. Threads share it.
pub(crate) struct Database {
    server: Arc<Server>,
    /// The transaction of a snapshot, which lasts as long as the snapshot.
    snapshot: Option<Mutex<Tx>>,
}

/// What a store and its snapshots share.
struct Server {
    /// Taken when the server is dropped.
    runtime: Option<Runtime>,
    handle: Handle,
    pool: Pool,
    options: PostgresOptions,
    /// The address without secrets.
    address: String,
    /// Whether the server would not wait for its disk without being asked to.
    is_asynchronous: AtomicBool,
    /// Whether the server hides the sessions of other owners, as it does unless the role owns the schema.
    has_row_security: AtomicBool,
    presence: Uuid,
    is_present: AtomicBool,
    /// Number of transactions that are tried again after their connection was lost.
    reconnecting: AtomicUsize,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Dropping a runtime waits for its threads, which panics on a thread of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What a transaction may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// How long statements of a transaction may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    Short,
    Long,
}

impl Pace {
    const fn statement_timeout(self) -> Duration {
        match self {
            Self::Short => STATEMENT_TIMEOUT,
            Self::Long => LONG_STATEMENT_TIMEOUT,
        }
    }
}

/// Whether the commit of a write waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    Durable,
    /// A later durable commit also makes this one durable.
    Relaxed,
}

impl Database {
    /// Connects to the server, and migrates the schema if it is missing or old.
    pub(crate) fn open(address: &Address, options: PostgresOptions) -> Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("postgres").enable_all().build()?;
        let handle = runtime.handle().clone();
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(address.config().clone(), address.tls()?, config);
        let timeouts = Timeouts {
            wait: Some(CONNECTION_TIMEOUT),
            create: Some(CONNECTION_TIMEOUT),
            recycle: Some(CONNECTION_TIMEOUT),
        };
        let pool = Pool::builder(manager)
            .max_size(MAX_CONNECTIONS)
            .timeouts(timeouts)
            .runtime(PoolRuntime::Tokio1)
            .build()
            .map_err(|error| Error::Internal(error.to_string()))?;
        let server = Server {
            runtime: Some(runtime),
            handle,
            pool,
            options,
            address: address.to_string(),
            is_asynchronous: AtomicBool::new(false),
            has_row_security: AtomicBool::new(false),
            presence: Uuid::now_v7(),
            is_present: AtomicBool::new(false),
            reconnecting: AtomicUsize::new(0),
        };
        let database = Self { server: Arc::new(server), snapshot: None };
        migrations::migrate(&database)?;
        Ok(database)
    }

    pub(crate) fn options(&self) -> &PostgresOptions {
        &self.server.options
    }

    /// The address without secrets.
    pub(crate) fn address(&self) -> &str {
        &self.server.address
    }

    /// The id of this process's presence, which rows store as their writer.
    pub(crate) fn presence(&self) -> Uuid {
        self.server.presence
    }

    pub(crate) fn is_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    pub(crate) fn is_reconnecting(&self) -> bool {
        self.server.reconnecting.load(Ordering::Relaxed) > 0
    }

    pub(super) fn set_asynchronous(&self, is_asynchronous: bool) {
        self.server.is_asynchronous.store(is_asynchronous, Ordering::Relaxed);
    }

    pub(super) fn set_row_security(&self, has_row_security: bool) {
        self.server.has_row_security.store(has_row_security, Ordering::Relaxed);
    }

    /// Returns a view of the store as it is now, which cannot be written to.
    pub(crate) fn snapshot(&self) -> StoreResult<Self> {
        let action = "take a snapshot of the store";
        if self.is_snapshot() {
            return Err(self.read_only("take a snapshot of a snapshot"));
        }
        let begin = || {
            let tx = self.server.begin(Access::Read, Pace::Long, Flush::Durable, None)?;
            // The server takes the snapshot with the first query.
            tx.rows("SELECT set_config('idle_in_transaction_session_timeout', '0', true)", &[])?;
            tx.rows("SELECT count(*) FROM presence", &[])?;
            Ok(tx)
        };
        let tx = self.retry(begin).map_err(self.store_error(action))?;
        Ok(Self { server: Arc::clone(&self.server), snapshot: Some(Mutex::new(tx)) })
    }

    fn read_only(&self, action: &str) -> StoreError {
        let store = self.address();
        StoreError::Unsupported { message: format!("cannot {action}: this view of {store} is read-only") }
    }

    /// Runs `body` in a read transaction, all of whose queries see the same state. `action` completes "cannot ..." in
    /// error messages. `body` runs again after a transient error.
    pub(crate) fn read<T>(&self, action: &str, body: impl FnMut(&Tx) -> Result<T>) -> StoreResult<T> {
        self.read_at(Pace::Short, action, body)
    }

    /// Like [`Database::read`], for statements of this pace.
    pub(crate) fn read_at<T>(
        &self,
        pace: Pace,
        action: &str,
        mut body: impl FnMut(&Tx) -> Result<T>,
    ) -> StoreResult<T> {
        let result = match &self.snapshot {
            Some(snapshot) => body(&lock_unpoisoned(snapshot)),
            None => self.retry(|| {
                let tx = self.server.begin(Access::Read, pace, Flush::Durable, None)?;
                let value = body(&tx);
                tx.end(value)
            }),
        };
        result.map_err(self.store_error(action))
    }

    /// Runs `job` in a write transaction. The write is durable when the call returns.
    ///
    /// `job` may run more than once. The changes of an earlier attempt have then been rolled back.
    pub(crate) fn write<T>(&self, action: &str, job: impl FnMut(&Tx) -> Result<T>) -> StoreResult<T> {
        self.write_with(Pace::Short, Flush::Durable, action, job)
    }

    /// Like [`Database::write`], with options.
    pub(crate) fn write_with<T>(
        &self,
        pace: Pace,
        flush: Flush,
        action: &str,
        job: impl FnMut(&Tx) -> Result<T>,
    ) -> StoreResult<T> {
        if self.is_snapshot() {
            return Err(self.read_only(action));
        }
        self.try_write(pace, flush, job).map_err(self.store_error(action))
    }

    fn try_write<T>(&self, pace: Pace, flush: Flush, mut job: impl FnMut(&Tx) -> Result<T>) -> Result<T> {
        let id = Uuid::now_v7();
        // The result of an attempt whose COMMIT was not answered.
        let mut in_doubt: Option<T> = None;
        let result = self.retry(|| {
            let tx = self.server.begin(Access::Write, pace, flush, Some(id))?;
            if in_doubt.is_some() && !tx.begin_write()? {
                tx.roll_back();
                return in_doubt.take().ok_or_else(|| Error::Internal("a write has no result".into()));
            }
            // The id was not there, so the earlier attempt was rolled back.
            in_doubt = None;
            match job(&tx).and_then(|value| remove_old_ids(&tx).map(|()| value)) {
                Ok(value) => match tx.commit() {
                    Ok(()) => Ok(value),
                    Err(error) if error.is_answer() => Err(error),
                    Err(error) => {
                        in_doubt = Some(value);
                        Err(error)
                    }
                },
                Err(error) => {
                    tx.roll_back();
                    Err(error)
                }
            }
        });
        match result {
            // The server could not be asked whether the write is stored.
            Err(error) if in_doubt.is_some() => Err(Error::InDoubt(Box::new(error))),
            result => result,
        }
    }

    /// Runs `job` in a write transaction without an id. It must change nothing if it runs again after it was committed.
    fn try_write_without_id<T>(&self, mut job: impl FnMut(&Tx) -> Result<T>) -> Result<T> {
        self.retry(|| {
            let tx = self.server.begin(Access::Write, Pace::Long, Flush::Durable, None)?;
            let value = job(&tx);
            tx.end(value)
        })
    }

    /// Runs `attempt` until it succeeds, fails for good, or [`RETRY_LIMIT`] has passed.
    fn retry<T>(&self, attempt: impl FnMut() -> Result<T>) -> Result<T> {
        self.retry_if(Error::is_transient, attempt)
    }

    /// Like `retry`, but returns errors at once for which `may_pass` is false.
    fn retry_if<T>(
        &self,
        may_pass: impl Fn(&Error) -> bool,
        mut attempt: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let started = Instant::now();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut reconnecting = None;
        loop {
            match attempt() {
                Err(error) if may_pass(&error) && started.elapsed() < RETRY_LIMIT => {
                    if error.is_connection_lost() {
                        reconnecting.get_or_insert_with(|| Reconnecting::new(&self.server.reconnecting));
                    }
                    tracing::warn!(%error, store = self.address(), "a transaction failed, and is tried again");
                }
                result => return result,
            }
            // Several processes that were disconnected at the same time do not come back at the same time.
            thread::sleep(backoff.next_delay().mul_f64(0.5 + fastrand::f64()));
        }
    }

    /// Runs `body` with a connection outside of a transaction, for commands that cannot run in one. It is not tried again.
    pub(crate) fn outside_transaction<T>(
        &self,
        action: &str,
        body: impl FnOnce(&Tx) -> Result<T>,
    ) -> StoreResult<T> {
        if self.is_snapshot() {
            return Err(self.read_only(action));
        }
        self.server
            .connect()
            .and_then(|object| {
                let tx = Tx::new(&self.server, object, None, LONG_STATEMENT_TIMEOUT);
                let value = body(&tx)?;
                tx.give_back();
                Ok(value)
            })
            .map_err(self.store_error(action))
    }

    /// Returns a function for `map_err` that converts an internal error of the operation `action`.
    pub(crate) fn store_error<E: Into<Error>>(&self, action: &str) -> impl Fn(E) -> StoreError {
        move |error| error.into().into_store_error(action, self.address())
    }

    /// Records in this transaction that this process is alive, and keeps that true until the store is closed.
    pub(crate) fn appear(&self, tx: &Tx) -> Result<()> {
        tx.execute(
            "INSERT INTO presence (id, renewed_at) VALUES ($1, clock_timestamp())
                ON CONFLICT (id) DO UPDATE SET renewed_at = excluded.renewed_at",
            &values![self.presence()],
        )?;
        if !self.server.is_present.swap(true, Ordering::Relaxed) {
            self.server.handle.spawn(renew(
                self.server.pool.clone(),
                self.server.options.schema.clone(),
                self.presence(),
            ));
        }
        Ok(())
    }

    /// Ends what this process is writing, for other processes.
    pub(crate) fn disappear(&self) {
        if !self.server.is_present.swap(false, Ordering::Relaxed) {
            return;
        }
        let sql = format!("DELETE FROM {}.presence WHERE id = $1", self.server.options.schema);
        let withdraw = async {
            let client = self.server.pool.get().await.map_err(pool_error)?;
            let id = Value::from(self.presence());
            client.execute_typed(&sql, &[(&id, id.sql_type())]).await.map_err(Error::from)
        };
        if let Err(error) = self.server.wait(CLOSE_TIMEOUT, withdraw) {
            tracing::warn!(%error, "other processes see that this store was closed only after a minute");
        }
    }
}

/// Counts a transaction that waits for a new connection.
struct Reconnecting<'a>(&'a AtomicUsize);

impl<'a> Reconnecting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Reconnecting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Now and then, removes the ids of writes that no process looks up any more.
fn remove_old_ids(tx: &Tx) -> Result<()> {
    if fastrand::u32(..WRITES_PER_CLEANUP) > 0 {
        return Ok(());
    }
    tx.execute("DELETE FROM write_log WHERE written_at < now() - interval '1 hour'", &[]).map(drop)
}

/// Renews the presence of this process until the runtime ends.
async fn renew(pool: Pool, schema: String, presence: Uuid) {
    // Not an insert, so that a renewal at the same time does not bring back a presence that `disappear` has deleted.
    let renewal = format!("UPDATE {schema}.presence SET renewed_at = clock_timestamp() WHERE id = $1");
    let cleanup = format!("DELETE FROM {schema}.presence WHERE renewed_at < now() - interval '1 day'");
    loop {
        tokio::time::sleep(RENEWAL).await;
        let renewed = async {
            let client = pool.get().await.map_err(pool_error)?;
            let id = Value::from(presence);
            client.execute_typed(&renewal, &[(&id, id.sql_type())]).await?;
            client.execute_typed(&cleanup, &[]).await?;
            Ok::<(), Error>(())
        };
        if let Ok(Err(error)) = tokio::time::timeout(RENEWAL, renewed).await {
            tracing::warn!(%error, "the presence of this process could not be renewed");
        }
    }
}

fn pool_error(error: PoolError) -> Error {
    match error {
        PoolError::Backend(error) => Error::Connection(error),
        PoolError::Timeout(_) => Error::NoConnection(MAX_CONNECTIONS),
        other => Error::Internal(other.to_string()),
    }
}

impl Server {
    /// Waits for a future of a client. Its socket is handled by the thread of the runtime.
    fn wait<T, E>(&self, limit: Duration, future: impl Future<Output = Result<T, E>>) -> Result<T>
    where
        Error: From<E>,
    {
        wait(&self.handle, limit, future)
    }

    fn connect(&self) -> Result<Object> {
        self.wait(CONNECTION_TIMEOUT + ANSWER_DELAY, async { self.pool.get().await.map_err(pool_error) })
    }

    /// Returns a transaction. The server begins it with its first statement, in the same round trip.
    fn begin(&self, access: Access, pace: Pace, flush: Flush, id: Option<Uuid>) -> Result<Tx> {
        let schema = &self.options.schema;
        let mode = match access {
            Access::Read => "ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Access::Write => "ISOLATION LEVEL READ COMMITTED READ WRITE",
        };
        let timeout = pace.statement_timeout();
        // The server compiles plans that it expects to be expensive, such as that of a search, which takes longer than running them.
        let mut begin = format!(
            "BEGIN {mode}; SET LOCAL search_path = {schema}; SET LOCAL jit = off; SET LOCAL statement_timeout = {}; \
             SET LOCAL lock_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}",
            timeout.as_millis(),
            LOCK_TIMEOUT.as_millis(),
            STATEMENT_TIMEOUT.as_millis(),
        );
        if access == Access::Write {
            let is_fast = self.options.durability == Durability::Fast;
            if flush == Flush::Relaxed || is_fast {
                begin.push_str("; SET LOCAL synchronous_commit = off");
            } else if self.is_asynchronous.load(Ordering::Relaxed) {
                begin.push_str("; SET LOCAL synchronous_commit = on");
            }
        }
        if self.options.all_owners {
            begin.push_str("; SET LOCAL hfs.all_owners = on");
        }
        if let Some(id) = id {
            begin.push_str(&format!("; INSERT INTO write_log (id) VALUES ('{id}') ON CONFLICT DO NOTHING"));
        }
        Ok(Tx::new(self, self.connect()?, Some(begin), timeout + ANSWER_DELAY))
    }
}

fn wait<T, E>(handle: &Handle, limit: Duration, future: impl Future<Output = Result<T, E>>) -> Result<T>
where
    Error: From<E>,
{
    let _context = handle.enter();
    match block_on(async { tokio::time::timeout(limit, future).await }) {
        Ok(result) => result.map_err(Error::from),
        Err(_) => Err(Error::TimedOut(limit)),
    }
}

/// A transaction on a connection. A connection whose transaction has not ended is closed instead of being used again.
pub(crate) struct Tx {
    object: Option<Object>,
    handle: Handle,
    /// The statements that begin the transaction, until they are sent.
    begin: RefCell<Option<String>>,
    limit: Duration,
    all_owners: bool,
    has_row_security: bool,
}

impl Tx {
    fn new(server: &Server, object: Object, begin: Option<String>, limit: Duration) -> Self {
        Self {
            object: Some(object),
            handle: server.handle.clone(),
            begin: RefCell::new(begin),
            limit,
            all_owners: server.options.all_owners,
            has_row_security: server.has_row_security.load(Ordering::Relaxed),
        }
    }

    /// A condition on `activity`: the owners whose sessions are listed, searched and counted. A role that owns the schema could read
    /// those of all owners.
    pub(crate) const fn owner_condition(&self) -> &'static str {
        if self.all_owners { "TRUE" } else { IS_OWN }
    }

    /// Whether the server tests the policies of tables in this transaction.
    pub(crate) const fn has_row_security(&self) -> bool {
        self.has_row_security
    }

    fn client(&self) -> Result<&Object> {
        self.object.as_ref().ok_or_else(|| Error::Internal("a transaction is used after its end".into()))
    }

    /// Begins the transaction of a write. Returns whether its id is new.
    fn begin_write(&self) -> Result<bool> {
        let Some(begin) = self.begin.take() else { return Ok(true) };
        let client = self.client()?;
        let messages = wait(&self.handle, self.limit, client.simple_query(&begin))?;
        let inserted = messages.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
            _ => None,
        });
        Ok(inserted != Some(0))
    }

    /// Runs a future after the statements that begin the transaction. Both are sent without waiting in between.
    fn run<T>(&self, future: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
        let Some(begin) = self.begin.take() else { return wait(&self.handle, self.limit, future) };
        let client = self.client()?;
        wait(&self.handle, self.limit, async {
            let (begun, result) = join(client.batch_execute(&begin), future).await;
            begun.and(result)
        })
    }

    /// The rows of a query.
    pub(crate) fn rows(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<Row>> {
        let values: Vec<_> = values.iter().map(|value| (value as _, value.sql_type())).collect();
        self.run(self.client()?.query_typed(sql, &values))
    }

    /// The only row of a query, if it has one.
    pub(crate) fn row(&self, sql: &str, values: &[Value<'_>]) -> Result<Option<Row>> {
        Ok(self.rows(sql, values)?.into_iter().next())
    }

    /// The row of a query that always has one.
    pub(crate) fn one(&self, sql: &str, values: &[Value<'_>]) -> Result<Row> {
        self.row(sql, values)?.ok_or_else(|| Error::Internal("a query has no result".into()))
    }

    /// Whether a query has a row.
    pub(crate) fn exists(&self, sql: &str, values: &[Value<'_>]) -> Result<bool> {
        self.one(&format!("SELECT EXISTS ({sql})"), values)?.flag(0)
    }

    /// Executes a statement, and returns the number of rows that it has changed.
    pub(crate) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        let values: Vec<_> = values.iter().map(|value| (value as _, value.sql_type())).collect();
        self.run(self.client()?.execute_typed(sql, &values))
    }

    /// Executes several statements without parameters.
    pub(crate) fn batch(&self, sql: &str) -> Result<()> {
        self.run(self.client()?.batch_execute(sql))
    }

    fn commit(mut self) -> Result<()> {
        // Nothing was sent, so there is nothing to commit.
        if self.begin.borrow().is_none() {
            self.batch("COMMIT")?;
        }
        self.keep();
        Ok(())
    }

    fn roll_back(mut self) {
        if self.begin.borrow().is_some() || self.batch("ROLLBACK").is_ok() {
            self.keep();
        }
    }

    /// Commits the transaction if it has succeeded, and rolls it back otherwise.
    fn end<T>(self, result: Result<T>) -> Result<T> {
        if result.is_ok() {
            self.commit()?;
        } else {
            self.roll_back();
        }
        result
    }

    fn give_back(mut self) {
        self.keep();
    }

    /// Makes the connection available to other transactions.
    fn keep(&mut self) {
        drop(self.object.take());
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            drop(Object::take(object));
        }
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").finish_non_exhaustive()
    }
}
