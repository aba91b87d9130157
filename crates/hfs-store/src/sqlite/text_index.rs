//! Updates of the text index.
//!
//! An append does not update the index: it would have to write several more pages, and would take very long whenever
//! FTS5 merges segments. Instead, `branch.indexed` is the seq up to which a branch's own messages are indexed, and
//! `activity.waiting` marks the sessions with further messages. A search first indexes all missing messages, so it
//! finds every acknowledged message.
//!
//! To keep this first step of a search short, batches of missing messages are also indexed after an append that follows
//! a pause, when many messages are missing, and when the store is closed.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hfs_core::{BranchId, StoreResult};
use hfs_retrieval::IndexText;
use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::rows::{STREAMING, message_no, seq_of};
use crate::db::group_commit::WriteOptions;
use crate::db::lookup;
use crate::error::Result;
use crate::sqlite::texts::TextReader;
use crate::sqlite::{SqliteStore, blocks, messages, session_stats};

/// Limits of a batch. An append waits until a running batch is complete.
const BATCH_MESSAGES: u32 = 256;
const BATCH_BYTES: usize = 512 * 1024;

/// The index need not be durable: after a power failure, lost entries are indexed again.
const OPTIONS: WriteOptions = WriteOptions { relaxed: true, exclusive: true };

/// An append after a pause of at least this time indexes a batch. It is most likely a message that a user has typed, so
/// the next append is not expected soon.
const PAUSE: Duration = Duration::from_millis(500);
/// If at least this many messages are missing, each append indexes a batch, so that a search does not take long.
const MAX_BACKLOG: usize = 20_000;
/// Maximum number of batches that are indexed when a store is closed.
const BATCHES_ON_CLOSE: usize = 4;
/// Maximum number of branches whose older messages are moved to blocks after a pause or when a store is closed.
const MAX_BRANCHES: usize = 16;

/// What is to be done in the background. The number of messages that this store has appended and not yet indexed is an
/// estimate, because a search indexes messages without counting them here.
#[derive(Debug)]
pub(crate) struct Backlog {
    messages: usize,
    last: Instant,
    /// Branches that this store has appended to, some of whose older messages may not be in blocks.
    branches: BTreeSet<BranchId>,
}

impl Backlog {
    pub(crate) fn new() -> Mutex<Self> {
        Mutex::new(Self { messages: 0, last: Instant::now(), branches: BTreeSet::new() })
    }

    /// Counts messages that were appended to a branch. Returns what the caller must do now, which is already subtracted.
    fn add(&mut self, branch: BranchId, messages: usize) -> Due {
        let now = Instant::now();
        let paused = now.duration_since(mem::replace(&mut self.last, now)) >= PAUSE;
        self.messages = self.messages.saturating_add(messages);
        self.branches.insert(branch);
        if self.branches.len() > MAX_BRANCHES {
            self.branches.pop_first();
        }
        let must_index = paused || self.messages >= MAX_BACKLOG;
        if must_index {
            self.messages = self.messages.saturating_sub(usize::try_from(BATCH_MESSAGES).unwrap_or(0));
        }
        Due { must_index, pack: if paused { mem::take(&mut self.branches) } else { BTreeSet::new() } }
    }
}

/// What must be done after an append.
#[derive(Default)]
struct Due {
    must_index: bool,
    /// Branches whose older messages move to blocks.
    pack: BTreeSet<BranchId>,
}

/// Counts messages that were appended to a branch. After a pause, indexes a batch and moves older messages to blocks; if many
/// messages are missing in the index, only indexes a batch.
pub(crate) fn after_append(store: &SqliteStore, branch: BranchId, messages: usize) {
    let due = store.backlog.lock().map(|mut backlog| backlog.add(branch, messages)).unwrap_or_default();
    if due.must_index {
        index_batch_or_warn(store);
    }
    blocks::pack_older(store, due.pack);
}

/// Indexes a few batches and moves older messages to blocks, if this store has appended messages.
pub(crate) fn finish_before_close(store: &mut SqliteStore) {
    let Ok(Backlog { messages, branches, .. }) = store.backlog.get_mut() else { return };
    let (has_backlog, branches) = (*messages > 0, mem::take(branches));
    if has_backlog {
        for _ in 0..BATCHES_ON_CLOSE {
            if !has_missing(store).unwrap_or(false) {
                break;
            }
            index_batch_or_warn(store);
        }
    }
    blocks::pack_older(store, branches);
}

/// Indexes a batch after an append or before the store is closed. Only logs an error, because the messages are stored
/// and the next search tries again.
fn index_batch_or_warn(store: &SqliteStore) {
    if let Err(error) = index_batch(store) {
        tracing::warn!(%error, "messages could not be added to the text index");
    }
}

/// Indexes all missing messages.
pub(crate) fn catch_up(store: &SqliteStore) -> StoreResult<()> {
    messages::finalize_abandoned(store, None, None)?;
    index_all(store)
}

/// Indexes all missing messages, and leaves replies that are being written alone.
pub(crate) fn index_all(store: &SqliteStore) -> StoreResult<()> {
    while has_missing(store)? {
        index_batch(store)?;
    }
    Ok(())
}

/// Like [`catch_up`], but calls `progress` with the number of missing messages before each batch, and stops when it
/// returns false.
pub(crate) fn update(store: &SqliteStore, progress: &mut dyn FnMut(u64) -> bool) -> StoreResult<()> {
    messages::finalize_abandoned(store, None, None)?;
    let mut missing = store.db.read("count messages to index", count_missing)?;
    while has_missing(store)? {
        if !progress(missing) {
            return Ok(());
        }
        missing = missing.saturating_sub(index_batch(store)?);
    }
    progress(0);
    Ok(())
}

fn count_missing(conn: &Connection) -> Result<u64> {
    Ok(conn
        .prepare_cached(
            "SELECT coalesce(sum(max(0, (SELECT message.no & 0xffffffff FROM message
                    WHERE message.no BETWEEN branch.no << 32 AND branch.no << 32 | 0xffffffff
                    ORDER BY message.no DESC LIMIT 1) - branch.indexed_seq)), 0)
                FROM activity CROSS JOIN branch ON branch.session = activity.session
                WHERE activity.waiting = 1",
        )?
        .query_row([], |row| row.get(0))?)
}

/// Whether messages are missing in the index.
fn has_missing(store: &SqliteStore) -> StoreResult<bool> {
    store.db.read("look for messages to index", |conn| Ok(next_session(conn)?.is_some()))
}

/// Indexes one batch of missing messages and returns their number.
fn index_batch(store: &SqliteStore) -> StoreResult<u64> {
    store.db.write_with(OPTIONS, "index messages", |conn| match next_session(conn)? {
        Some(session) => index_session(conn, session),
        None => Ok(0),
    })
}

/// The newest session with messages that are missing in the index.
fn next_session(conn: &Connection) -> Result<Option<i64>> {
    Ok(conn
        .prepare_cached("SELECT session FROM activity WHERE waiting = 1 ORDER BY session DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?)
}

/// The number of messages and bytes that may still be added to a batch.
struct BatchBudget {
    messages: u32,
    bytes: usize,
}

impl BatchBudget {
    const fn is_exhausted(&self) -> bool {
        self.messages == 0 || self.bytes == 0
    }
}

/// Indexes a batch of a session's missing messages and returns their number. Unmarks the session if none is left.
fn index_session(conn: &Connection, session: i64) -> Result<u64> {
    let branches = conn
        .prepare_cached("SELECT no, indexed_seq FROM branch WHERE session = ?1")?
        .query_map([session], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(i64, u64)>>>()?;
    let mut budget = BatchBudget { messages: BATCH_MESSAGES, bytes: BATCH_BYTES };
    let count = |budget: &BatchBudget| u64::from(BATCH_MESSAGES - budget.messages);
    for (branch, indexed) in branches {
        if budget.is_exhausted() {
            return Ok(count(&budget));
        }
        let end = match lookup::newest_own(conn, branch)? {
            // Leaves out a streaming reply, because its text still changes. `finish_reply` marks the session again.
            Some((no, STREAMING)) => seq_of(no).saturating_sub(1),
            Some((no, _)) => seq_of(no),
            None => continue,
        };
        if indexed < end {
            let reached = index_range(conn, branch, (indexed + 1, end), &mut budget)?;
            conn.prepare_cached("UPDATE branch SET indexed_seq = ?2 WHERE no = ?1")?
                .execute(params![branch, reached])?;
            if reached < end {
                return Ok(count(&budget));
            }
        }
    }
    session_stats::set_needs_indexing(conn, session, false)?;
    Ok(count(&budget))
}

/// Indexes the messages of a branch from the seq `first` to `last`, as far as the budget allows. Returns the seq that
/// it has reached.
fn index_range(
    conn: &Connection,
    branch: i64,
    (first, last): (u64, u64),
    budget: &mut BatchBudget,
) -> Result<u64> {
    let mut select = conn.prepare_cached(
        "SELECT no, body, block_index FROM message WHERE no BETWEEN ?1 AND ?2 ORDER BY no LIMIT ?3",
    )?;
    let mut texts = TextReader::new(conn);
    let mut insert = conn.prepare_cached(INSERT)?;
    let range = params![message_no(branch, first)?, message_no(branch, last)?, budget.messages];
    let mut rows = select.query(range)?;
    while let Some(row) = rows.next()? {
        let no: i64 = row.get(0)?;
        let IndexText { words, stems, parts } = IndexText::of(&texts.searchable_text(no, row, 1)?);
        let length = words.len();
        insert.execute(params![no, words, stems, parts])?;
        budget.messages = budget.messages.saturating_sub(1);
        budget.bytes = budget.bytes.saturating_sub(length);
        if budget.is_exhausted() {
            return Ok(seq_of(no));
        }
    }
    // Not the seq of the last row, which may be smaller than `last` if a repair has deleted messages.
    Ok(last)
}

const INSERT: &str = "INSERT INTO message_text (rowid, words, stems, parts) VALUES (?1, ?2, ?3, ?4)";
const DELETE: &str = "INSERT INTO message_text (message_text, rowid, words, stems, parts)
    VALUES ('delete', ?1, ?2, ?3, ?4)";

/// Adds a message to the index again that was removed from it to be changed.
pub(crate) fn restore(conn: &Connection, no: i64) -> Result<()> {
    change(conn, INSERT, no, no)
}

/// Removes messages from the index. They must be in the index and still in their table, because FTS5 needs the text
/// that it removes.
pub(crate) fn remove(conn: &Connection, first: i64, last: i64) -> Result<()> {
    change(conn, DELETE, first, last)
}

fn change(conn: &Connection, sql: &str, first: i64, last: i64) -> Result<()> {
    let mut select =
        conn.prepare_cached("SELECT no, body, block_index FROM message WHERE no BETWEEN ?1 AND ?2")?;
    let mut texts = TextReader::new(conn);
    let mut change = conn.prepare_cached(sql)?;
    let mut rows = select.query([first, last])?;
    while let Some(row) = rows.next()? {
        let no: i64 = row.get(0)?;
        let IndexText { words, stems, parts } = IndexText::of(&texts.searchable_text(no, row, 1)?);
        change.execute(params![no, words, stems, parts])?;
    }
    Ok(())
}
