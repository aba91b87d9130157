//! Reading the texts of messages, which are in their rows or in blocks (see [`super::blocks`]).

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use hfs_core::lock_unpoisoned;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::codec::block::{Block, Texts};
use crate::db::connection::{text_of_body, text_of_stored};
use crate::error::{Error, Result};

/// Largest size of the decompressed blocks that a reader keeps, for callers that read messages in any order.
const KEPT_BYTES: usize = 4 * 1024 * 1024;
/// Number of blocks that are read in advance.
const BLOCKS_AHEAD: usize = 8;

/// Reads the texts of messages. Lives no longer than a transaction, because in the next one a block may have other messages.
pub(crate) struct TextReader<'c> {
    conn: &'c Connection,
    /// The blocks that were used, the oldest first.
    blocks: VecDeque<(i64, Block)>,
    kept_bytes: usize,
    ahead: Option<ReadAhead>,
}

impl<'c> TextReader<'c> {
    pub(crate) const fn new(conn: &'c Connection) -> Self {
        Self { conn, blocks: VecDeque::new(), kept_bytes: 0, ahead: None }
    }

    /// A reader for a long history that is read from its beginning, up to the message number `last`. Blocks are decompressed
    /// on a second thread, while the caller decodes messages.
    ///
    /// On one thread, the time to read a session of 5,000 messages whole would be nearly twice that of a scan of plain rows, because
    /// zstd decompresses about 1 GB per second (`cargo xtask bench read`).
    pub(crate) fn ahead(conn: &'c Connection, last: i64) -> Self {
        Self { ahead: ReadAhead::new(last), ..Self::new(conn) }
    }

    /// The texts of the message with the number `no`. The columns `body`, `extra` and `block_index` of the row start at
    /// `first`.
    pub(crate) fn texts<'r>(&'r mut self, no: i64, row: &'r Row<'_>, first: usize) -> Result<Texts<'r>> {
        let text = |index| row.get_ref(index)?.as_str_or_null().map_err(rusqlite::Error::from);
        match row.get::<_, Option<i64>>(first + 2)? {
            Some(index) => self.in_block(no, index),
            None => {
                let body = row.get_ref(first)?.as_str().map_err(rusqlite::Error::from)?;
                Ok(Texts { body, extra: text(first + 1)? })
            }
        }
    }

    /// The searchable text of a message, whose columns `body` and `block_index` are `first` and the next one. `verify` reports
    /// damaged texts; search works without the unreadable part.
    pub(crate) fn searchable_text(&mut self, no: i64, row: &Row<'_>, first: usize) -> Result<String> {
        match row.get_ref(first + 1)? {
            ValueRef::Integer(index) => match self.in_block(no, index) {
                Err(error) if error.is_corruption() => Ok(String::new()),
                texts => Ok(text_of_body(texts?.body)),
            },
            _ => Ok(text_of_stored(row.get_ref(first)?)),
        }
    }

    /// The texts of a message in a block, by its number and its `block_index`.
    pub(crate) fn in_block(&mut self, no: i64, index: i64) -> Result<Texts<'_>> {
        let damaged = || Error::Corrupt(format!("{index} is not a position in a block"));
        let block = no.checked_sub(index).ok_or_else(damaged)?;
        let index = usize::try_from(index).map_err(|_| damaged())?;
        self.block(block)?.texts(index)
    }

    fn block(&mut self, no: i64) -> Result<&Block> {
        if !self.blocks.iter().any(|(kept, _)| *kept == no) {
            let block = match &mut self.ahead {
                Some(ahead) => ahead.take(self.conn, no)?,
                None => load(self.conn, no)?,
            };
            // Messages that are read in order need a block only until the next one.
            let limit = if self.ahead.is_some() { 0 } else { KEPT_BYTES };
            self.kept_bytes += block.size();
            while self.kept_bytes > limit
                && let Some((_, oldest)) = self.blocks.pop_front()
            {
                self.kept_bytes -= oldest.size();
            }
            self.blocks.push_back((no, block));
        }
        let block = self.blocks.iter().rfind(|(kept, _)| *kept == no).map(|(_, block)| block);
        block.ok_or_else(|| Error::Internal("a block that was just read is missing".into()))
    }
}

/// Reads and decompresses a block.
pub(crate) fn load(conn: &Connection, no: i64) -> Result<Block> {
    let mut select = conn.prepare_cached("SELECT data FROM block WHERE no = ?1")?;
    let mut rows = select.query([no])?;
    let Some(row) = rows.next()? else {
        return Err(Error::Corrupt(format!("block number {no} is missing")));
    };
    Block::decode(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?)
}

/// Decompresses the blocks that will be needed next, on another thread.
///
/// The reader takes them in order. If the thread has not begun with the block that the reader needs, the reader decompresses it
/// itself, and while it would wait for the thread, it decompresses the next ones, so that it is hardly slower than without the thread
/// when other programs need the processor.
struct ReadAhead {
    queue: Arc<Queue>,
    /// Number of the newest block that was queued.
    queued: Option<i64>,
    /// The largest number of a message that is read.
    last: i64,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    /// Compressed blocks.
    waiting: VecDeque<(i64, Vec<u8>)>,
    /// The block that the thread decompresses.
    in_progress: Option<i64>,
    done: VecDeque<(i64, Result<Block>)>,
    is_closed: bool,
}

impl ReadAhead {
    /// Returns `None` if a second thread would not help.
    fn new(last: i64) -> Option<Self> {
        let is_useful = thread::available_parallelism().is_ok_and(|threads| threads.get() > 1);
        is_useful.then(|| Self { queue: Arc::default(), queued: None, last, thread: None })
    }

    /// Returns a block, and queues those after it.
    fn take(&mut self, conn: &Connection, no: i64) -> Result<Block> {
        self.queue_following(conn, no)?;
        self.start_thread();
        match self.queue.take(no) {
            Taken::Block(block) => block,
            Taken::Data(data) => Block::decode(&data),
            Taken::Nothing => load(conn, no),
        }
    }

    fn queue_following(&mut self, conn: &Connection, no: i64) -> Result<()> {
        let mut after = self.queued.unwrap_or(no).max(no);
        let mut select =
            conn.prepare_cached("SELECT no, data FROM block WHERE no > ?1 AND no <= ?2 ORDER BY no LIMIT 1")?;
        while self.queue.len() < BLOCKS_AHEAD {
            let next: Option<(i64, Vec<u8>)> = select
                .query_row(params![after, self.last], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((next, data)) = next else { break };
            self.queue.push(next, data);
            after = next;
        }
        self.queued = Some(after);
        Ok(())
    }

    /// Starts the thread if there are several blocks to decompress. Without it, the reader decompresses all of them.
    fn start_thread(&mut self) {
        if self.thread.is_some() || self.queue.len() < 2 {
            return;
        }
        let queue = Arc::clone(&self.queue);
        match thread::Builder::new().name("blocks".into()).spawn(move || queue.decompress_all()) {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => tracing::warn!(%error, "messages are decompressed without a second thread"),
        }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.queue.close();
        // If the thread has panicked, the panic hook has reported it.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl QueueState {
    /// Adds a block in its order: the reader and the thread may finish theirs in any order.
    fn add_done(&mut self, no: i64, block: Result<Block>) {
        let place = self.done.partition_point(|(done, _)| *done < no);
        self.done.insert(place, (no, block));
    }
}

/// What a reader gets from the queue.
enum Taken {
    Block(Result<Block>),
    /// The block is not decompressed yet.
    Data(Vec<u8>),
    /// The block is not in the queue.
    Nothing,
}

impl Queue {
    fn len(&self) -> usize {
        let state = lock_unpoisoned(&self.state);
        state.waiting.len() + state.done.len() + usize::from(state.in_progress.is_some())
    }

    fn push(&self, no: i64, data: Vec<u8>) {
        lock_unpoisoned(&self.state).waiting.push_back((no, data));
        self.changed.notify_all();
    }

    /// Returns a block. While the thread decompresses it, decompresses others instead of waiting.
    fn take(&self, no: i64) -> Taken {
        let mut state = lock_unpoisoned(&self.state);
        loop {
            // Blocks before it, which the reader does not need.
            while state.done.pop_front_if(|(done, _)| *done < no).is_some() {}
            while state.waiting.pop_front_if(|(waiting, _)| *waiting < no).is_some() {}
            if let Some((_, block)) = state.done.pop_front_if(|(done, _)| *done == no) {
                return Taken::Block(block);
            }
            if let Some((_, data)) = state.waiting.pop_front_if(|(waiting, _)| *waiting == no) {
                return Taken::Data(data);
            }
            if state.in_progress != Some(no) {
                return Taken::Nothing;
            }
            state = match state.waiting.pop_front() {
                Some((next, data)) => {
                    drop(state);
                    let block = Block::decode(&data);
                    let mut state = lock_unpoisoned(&self.state);
                    state.add_done(next, block);
                    state
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn close(&self) {
        lock_unpoisoned(&self.state).is_closed = true;
        self.changed.notify_all();
    }

    fn decompress_all(&self) {
        while let Some((no, data)) = self.next() {
            let mut progress = Progress { queue: self, no, block: None };
            progress.block = Some(Block::decode(&data));
        }
    }

    /// Waits for a block to decompress. Returns `None` when the queue is closed.
    fn next(&self) -> Option<(i64, Vec<u8>)> {
        let mut state = lock_unpoisoned(&self.state);
        while !state.is_closed {
            if let Some((no, data)) = state.waiting.pop_front() {
                state.in_progress = Some(no);
                return Some((no, data));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }
}

/// A block that is being decompressed. Ends this when it is dropped, also by a panic, so that the reader does not wait forever.
struct Progress<'q> {
    queue: &'q Queue,
    no: i64,
    block: Option<Result<Block>>,
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        let mut state = lock_unpoisoned(&self.queue.state);
        state.in_progress = None;
        if let Some(block) = self.block.take() {
            state.add_done(self.no, block);
        }
        drop(state);
        self.queue.changed.notify_all();
    }
}
