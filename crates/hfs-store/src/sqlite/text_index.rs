//! Keeping the text index.
//!
//! An append does not touch it: merging an index into which rows go one by one makes some of them wait long.
//! Instead each branch knows how far it is indexed, each session whether something of it waits, and whoever
//! searches first catches up. Between searches it is caught up in bounded batches of its own, by whoever has
//! appended much, and when the store is closed.

use std::mem;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hfs_core::StoreResult;
use rusqlite::{Connection, params};

use crate::codec::rows::{STREAMING, message_no, seq_of};
use crate::db::group_commit::WriteOptions;
use crate::db::lookup;
use crate::error::Result;
use crate::sqlite::SqliteStore;
use crate::sqlite::replies;

/// How much is indexed at a time: what an append that comes meanwhile may have to wait for.
const BATCH_MESSAGES: u32 = 256;
const BATCH_BYTES: usize = 512 * 1024;

/// Nobody relies on the index having reached the disk: what it lacks, it can get again.
const OPTIONS: WriteOptions = WriteOptions { relaxed: true, exclusive: true };

/// How long nothing must have been appended for the next append to be taken for one at a person's pace.
const PAUSE: Duration = Duration::from_millis(500);
/// How many messages may wait before a batch is indexed at any pace, so that nobody who searches waits long.
const MOST: usize = 20_000;
/// How many batches are indexed when a store that was written to is closed.
const ON_CLOSE: usize = 4;

/// What was appended since the index was last tended, and when.
#[derive(Debug)]
pub(crate) struct Backlog {
    messages: usize,
    last: Instant,
}

impl Backlog {
    pub(crate) fn new() -> Mutex<Self> {
        Mutex::new(Self { messages: 0, last: Instant::now() })
    }

    /// Counts messages that were appended; whether a batch is to be indexed now.
    fn add(&mut self, messages: usize) -> bool {
        let now = Instant::now();
        let paused = now.duration_since(mem::replace(&mut self.last, now)) >= PAUSE;
        self.messages = self.messages.saturating_add(messages);
        let due = paused || self.messages >= MOST;
        if due {
            self.messages = self.messages.saturating_sub(usize::try_from(BATCH_MESSAGES).unwrap_or(0));
        }
        due
    }
}

/// Tends the index in the time of those who do not mind: after an append that came after a pause.
pub(crate) fn after_append(store: &SqliteStore, messages: usize) {
    let due = store.backlog.lock().is_ok_and(|mut backlog| backlog.add(messages));
    if due {
        tend(store);
    }
}

/// Leaves little to be indexed behind.
pub(crate) fn before_close(store: &mut SqliteStore) {
    let waits = store.backlog.get_mut().is_ok_and(|backlog| backlog.messages > 0);
    if !waits {
        return;
    }
    for _ in 0..ON_CLOSE {
        if !is_waiting(store).unwrap_or(false) {
            break;
        }
        tend(store);
    }
}

/// The append has succeeded; what fails here is tried again by whoever searches.
fn tend(store: &SqliteStore) {
    if let Err(error) = catch_up_some(store) {
        tracing::warn!(%error, "the text index could not be tended");
    }
}

/// Indexes everything that waits.
pub(crate) fn catch_up(store: &SqliteStore) -> StoreResult<()> {
    replies::settle_abandoned(store)?;
    while is_waiting(store)? {
        catch_up_some(store)?;
    }
    Ok(())
}

/// Indexes what waits, telling how much that still is, until it is told to stop.
pub(crate) fn update(store: &SqliteStore, progress: &mut dyn FnMut(u64) -> bool) -> StoreResult<()> {
    replies::settle_abandoned(store)?;
    let mut left = store.db.read("count what is not indexed", count_waiting)?;
    while is_waiting(store)? {
        if !progress(left) {
            return Ok(());
        }
        left = left.saturating_sub(catch_up_some(store)?);
    }
    progress(0);
    Ok(())
}

/// How many messages wait.
fn count_waiting(conn: &Connection) -> Result<u64> {
    Ok(conn
        .prepare_cached(
            "SELECT coalesce(sum(max(0, (SELECT message.no & 0xffffffff FROM message
                    WHERE message.no BETWEEN branch.no << 32 AND branch.no << 32 | 0xffffffff
                    ORDER BY message.no DESC LIMIT 1) - branch.indexed)), 0)
                FROM activity CROSS JOIN branch ON branch.session = activity.session
                WHERE activity.waiting = 1",
        )?
        .query_row([], |row| row.get(0))?)
}

fn is_waiting(store: &SqliteStore) -> StoreResult<bool> {
    store.db.read("look for what is not indexed", |conn| Ok(next_waiting(conn)?.is_some()))
}

/// Indexes one batch of what waits; how many messages that were.
fn catch_up_some(store: &SqliteStore) -> StoreResult<u64> {
    store.db.write_with(OPTIONS, "index messages", |conn| match next_waiting(conn)? {
        Some(session) => index_some(conn, session),
        None => Ok(0),
    })
}

fn next_waiting(conn: &Connection) -> Result<Option<i64>> {
    use rusqlite::OptionalExtension as _;
    Ok(conn
        .prepare_cached("SELECT session FROM activity WHERE waiting = 1 ORDER BY session DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?)
}

/// Indexes a batch of a session's messages; when nothing is left, it does not wait any more. How many they were.
fn index_some(conn: &Connection, session: i64) -> Result<u64> {
    let branches = conn
        .prepare_cached("SELECT no, indexed FROM branch WHERE session = ?1")?
        .query_map([session], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(i64, u64)>>>()?;
    let mut left = (BATCH_MESSAGES, BATCH_BYTES);
    for (branch, indexed) in branches {
        if left.0 == 0 || left.1 == 0 {
            return Ok(u64::from(BATCH_MESSAGES - left.0));
        }
        let end = match lookup::newest_own(conn, branch)? {
            // It changes still; finishing it will make its session wait again.
            Some((no, STREAMING)) => seq_of(no).saturating_sub(1),
            Some((no, _)) => seq_of(no),
            None => continue,
        };
        if indexed < end {
            let reached = index_stretch(conn, branch, (indexed + 1, end), &mut left)?;
            conn.prepare_cached("UPDATE branch SET indexed = ?2 WHERE no = ?1")?
                .execute(params![branch, reached])?;
            if reached < end {
                return Ok(u64::from(BATCH_MESSAGES - left.0));
            }
        }
    }
    crate::sqlite::session_stats::set_waiting(conn, session, false)?;
    Ok(u64::from(BATCH_MESSAGES - left.0))
}

/// Indexes a branch's messages from the first seq on, up to the last or until the batch is full. Returns the seq
/// that it came to.
fn index_stretch(
    conn: &Connection,
    branch: i64,
    (first, last): (u64, u64),
    left: &mut (u32, usize),
) -> Result<u64> {
    let mut select = conn.prepare_cached(
        "SELECT no, hfs_text(body) FROM message WHERE no BETWEEN ?1 AND ?2 ORDER BY no LIMIT ?3",
    )?;
    let mut insert = conn.prepare_cached("INSERT INTO message_text (rowid, text) VALUES (?1, ?2)")?;
    let mut rows = select.query(params![message_no(branch, first)?, message_no(branch, last)?, left.0])?;
    while let Some(row) = rows.next()? {
        let no: i64 = row.get(0)?;
        let text = row.get_ref(1)?;
        let length = text.as_str().map_err(rusqlite::Error::from)?.len();
        insert.execute(params![no, rusqlite::types::ToSqlOutput::Borrowed(text)])?;
        left.0 = left.0.saturating_sub(1);
        left.1 = left.1.saturating_sub(length);
        if left.0 == 0 || left.1 == 0 {
            return Ok(seq_of(no));
        }
    }
    // A gap at the end, where damage was removed, is no reason to come back.
    Ok(last)
}

/// Takes messages out of the index. They are in it, and in their table still.
pub(crate) fn forget(conn: &Connection, first: i64, last: i64) -> Result<()> {
    conn.prepare_cached(
        "INSERT INTO message_text (message_text, rowid, text)
            SELECT 'delete', no, hfs_text(body) FROM message WHERE no BETWEEN ?1 AND ?2",
    )?
    .execute([first, last])?;
    Ok(())
}
