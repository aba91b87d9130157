//! Blocks: the texts of older messages, compressed together.
//!
//! An append stores a message with its texts in one row, so that it writes few pages. Later, the texts of consecutive messages of
//! a branch move to a block ([`codec::block`](crate::codec::block)), in one transaction. The rows stay, with their checksums over
//! the texts.
//!
//! - An import puts all messages of a new session into blocks.
//! - After an append that follows a pause, and when the store is closed, the messages of the branches that this store has
//!   appended to are moved, except for the newest ones ([`pack_older`]).
//! - `vacuum` moves all messages ([`pack_all`]), also those that earlier versions have stored.
//!
//! Invariant: a message in a block does not change. Whatever changes it moves all texts of its block back to their rows before
//! ([`unpack_message`]), in the same transaction.

use std::collections::BTreeSet;

use hfs_core::{BranchId, StoreError, StoreResult};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use crate::codec::block::{Block, BlockBuilder, EncodedBlock, MAX_MESSAGES, MAX_TEXT_BYTES, Texts};
use crate::codec::checksum;
use crate::codec::rows::{STREAMING, message_no};
use crate::db::group_commit::WriteOptions;
use crate::db::lookup;
use crate::error::{Error, Result};
use crate::sqlite::{SqliteStore, texts};

/// A block with fewer bytes than this is made again, together with the messages that follow it.
const SHORT_BLOCK_BYTES: usize = MAX_TEXT_BYTES / 2;
/// Number of blocks that are made in one transaction. Other processes can write between two.
const BLOCKS_PER_TRANSACTION: usize = 16;
/// Number of blocks of a branch that are made in the background at a time.
const BLOCKS_IN_BACKGROUND: usize = 4;
/// Number of newest messages of a branch that are not moved in the background, because they are read most often.
const NEWEST_MESSAGES: u64 = 50;

/// Moving texts to blocks need not be durable: after a power failure, they are still in their rows.
const OPTIONS: WriteOptions = WriteOptions { relaxed: true, exclusive: true };
const ACTION: &str = "compress messages";

/// The columns that are copied when a message's row is written again, except for its texts.
const OTHER_COLUMNS: &str =
    "id, role, status, created_at, agent, model, prompt_tokens, completion_tokens, source_format,
    source_id, sum, cache_read_tokens, cache_write_tokens";
const OTHER_COLUMN_COUNT: usize = 13;

/// Which messages at the end of the range are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Only those that fill a block.
    Wait,
    /// All of them.
    Pack,
}

/// Moves the texts of all messages to blocks. `progress` gets the number of messages that are done, and of all of them.
pub(crate) fn pack_all(store: &SqliteStore, progress: &mut dyn FnMut(u64, u64)) -> StoreResult<()> {
    let all = store.db.read(ACTION, |conn| {
        let sql = "SELECT count(*) FROM message WHERE block_index IS NULL";
        Ok(conn.query_row(sql, [], |row| row.get::<_, u64>(0))?)
    })?;
    let mut done = 0;
    let mut next = Some(i64::MIN);
    while let Some(after) = next {
        progress(done, all);
        let examined;
        (next, examined) =
            store.db.write_with(OPTIONS, ACTION, move |conn| pack_some(conn, after, i64::MAX))?;
        done = (done + examined).min(all);
    }
    progress(all, all);
    Ok(())
}

/// Moves the texts of all messages of a branch to blocks.
pub(crate) fn pack_branch(store: &SqliteStore, branch: i64) -> StoreResult<()> {
    let (first, last) = numbers_of(branch).map_err(store.db.store_error(ACTION))?;
    let mut next = Some(first);
    while let Some(after) = next {
        (next, _) = store.db.write_with(OPTIONS, ACTION, move |conn| pack_some(conn, after, last))?;
    }
    Ok(())
}

/// The numbers that the messages of a branch may have.
fn numbers_of(branch: i64) -> Result<(i64, i64)> {
    Ok((message_no(branch, 0)?, message_no(branch, u64::from(u32::MAX))?))
}

/// Makes some blocks of messages after the number `after`, up to `last`. Returns the number after which to continue, or `None` at
/// the end, and the number of messages that were examined.
fn pack_some(conn: &Connection, after: i64, last: i64) -> Result<(Option<i64>, u64)> {
    let (mut after, mut examined) = (after, 0);
    for _ in 0..BLOCKS_PER_TRANSACTION {
        match pack_next(conn, after, last, Rest::Pack)? {
            Some(step) => {
                after = step.last;
                examined += step.examined;
            }
            None => return Ok((None, examined)),
        }
    }
    Ok((Some(after), examined))
}

/// Moves the older messages of branches to blocks, as far as they fill them. Only logs an error: the messages are stored.
pub(crate) fn pack_older(store: &SqliteStore, branches: BTreeSet<BranchId>) {
    for branch in branches {
        let is_due = store.db.read(ACTION, move |conn| Ok(older_messages(conn, branch)?.is_some()));
        let packed = is_due.and_then(|is_due| {
            if !is_due {
                return Ok(());
            }
            store.db.write_with(OPTIONS, ACTION, move |conn| {
                let Some((mut after, last)) = older_messages(conn, branch)? else { return Ok(()) };
                for _ in 0..BLOCKS_IN_BACKGROUND {
                    match pack_next(conn, after, last, Rest::Wait)? {
                        Some(step) => after = step.last,
                        None => break,
                    }
                }
                Ok(())
            })
        });
        if let Err(error) = packed {
            tracing::warn!(%error, "messages could not be compressed");
        }
    }
}

/// The range of the older messages of a branch that are not in blocks, exclusive and inclusive, if there are enough for a block.
fn older_messages(conn: &Connection, branch: BranchId) -> Result<Option<(i64, i64)>> {
    let branch = match lookup::branch(conn, branch) {
        Err(Error::Rejected(StoreError::NotFound { .. })) => return Ok(None),
        branch => branch?.no,
    };
    let (first, end) = numbers_of(branch)?;
    let Some((newest, _)) = lookup::newest_own(conn, branch)? else { return Ok(None) };
    let last = newest.saturating_sub(NEWEST_MESSAGES.cast_signed());
    let block: Option<i64> = conn
        .prepare_cached("SELECT max(no) FROM block WHERE no BETWEEN ?1 AND ?2")?
        .query_row([first, end], |row| row.get(0))?;
    let after = match block {
        Some(block) => conn
            .prepare_cached(
                "SELECT max(no) FROM message WHERE no BETWEEN ?1 AND ?1 + ?2 AND block_index IS NOT NULL",
            )?
            .query_row(params![block, MAX_MESSAGES], |row| row.get::<_, Option<i64>>(0))?
            .unwrap_or(block),
        None => first,
    };
    let (messages, bytes): (usize, usize) = conn
        .prepare_cached(
            "SELECT count(*), coalesce(sum(bytes), 0) FROM (
                SELECT octet_length(body) + coalesce(octet_length(extra), 0) AS bytes
                FROM message WHERE no > ?1 AND no <= ?2 ORDER BY no LIMIT ?3)",
        )?
        .query_row(params![after, last, MAX_MESSAGES + 1], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok((messages > MAX_MESSAGES || bytes > MAX_TEXT_BYTES).then_some((after, last)))
}

/// What [`pack_next`] has examined.
struct Step {
    /// Number of the last message.
    last: i64,
    /// Number of messages.
    examined: u64,
}

/// A message's row that is to be written again.
struct PlainRow {
    no: i64,
    /// Size of its texts.
    bytes: usize,
    others: Vec<Value>,
}

/// Makes a block of the next messages after the number `after` whose texts are in their rows, or leaves them if they cannot be in
/// a block. Returns `None` if there are no more messages up to `last`.
//
// Leaves out damaged messages, so that a repair finds their texts as they are.
fn pack_next(conn: &Connection, after: i64, last: i64, rest: Rest) -> Result<Option<Step>> {
    let sql = format!(
        "SELECT no, status, {}, body, extra, {OTHER_COLUMNS} FROM message
            WHERE no > ?1 AND no <= ?2 AND block_index IS NULL ORDER BY no",
        checksum::message_matches()
    );
    let mut select = conn.prepare_cached(&sql)?;
    let mut found = select.query([after, last])?;
    let mut builder = BlockBuilder::default();
    let mut rows: Vec<PlainRow> = Vec::new();
    // Whether a message was found that does not belong to this block.
    let mut is_complete = false;
    while let Some(row) = found.next()? {
        let no: i64 = row.get(0)?;
        let texts = sound_row(row)?;
        let follows = rows.last().is_none_or(|before| before.no + 1 == no);
        match texts.filter(|(texts, _)| follows && builder.has_room_for(*texts)) {
            Some((texts, others)) => {
                builder.push(texts);
                rows.push(PlainRow { no, bytes: texts.len(), others });
            }
            None if rows.is_empty() => return Ok(Some(Step { last: no, examined: 1 })),
            None => {
                is_complete = true;
                break;
            }
        }
    }
    drop(found);
    let (Some(first), Some(newest)) = (rows.first(), rows.last()) else { return Ok(None) };
    if !is_complete && rest == Rest::Wait {
        return Ok(None);
    }
    let step = Step { last: newest.no, examined: rows.len() as u64 };
    if let Some(before) = unpack_short_block_before(conn, first.no, first.bytes)? {
        return Ok(Some(Step { last: before - 1, examined: 0 }));
    }
    if builder.is_worthwhile() {
        store_block(conn, &rows, &builder.finish()?)?;
    }
    Ok(Some(step))
}

/// The texts and other columns of a row of [`pack_next`], if its texts can be in a block.
fn sound_row<'r>(row: &'r Row<'_>) -> Result<Option<(Texts<'r>, Vec<Value>)>> {
    if !row.get::<_, bool>(2)? || row.get::<_, i64>(1)? == STREAMING {
        return Ok(None);
    }
    let (Ok(body), Ok(extra)) = (row.get_ref(3)?.as_str(), row.get_ref(4)?.as_str_or_null()) else {
        return Ok(None);
    };
    let mut others = Vec::with_capacity(OTHER_COLUMN_COUNT);
    for column in 5..5 + OTHER_COLUMN_COUNT {
        others.push(match row.get_ref(column)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Integer(number),
            ValueRef::Real(number) => Value::Real(number),
            ValueRef::Text(text) => match std::str::from_utf8(text) {
                Ok(text) => Value::Text(text.to_owned()),
                Err(_) => return Ok(None),
            },
            ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        });
    }
    let texts = Texts { body, extra };
    Ok(texts.fit_in_block().then_some((texts, others)))
}

/// Moves the texts of the block before a message back to their rows, if the block is short and has room for `bytes` more.
/// Returns the number of the block. Does not change a damaged block.
fn unpack_short_block_before(conn: &Connection, no: i64, bytes: usize) -> Result<Option<i64>> {
    let block: Option<(i64, usize, usize)> = conn
        .prepare_cached(
            "SELECT block.no, block.size, message.block_index + 1
                FROM message JOIN block ON block.no = message.no - message.block_index WHERE message.no = ?1",
        )?
        .query_row([no - 1], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    // Without room for the next message, the same block would be made again.
    let is_short = |size: usize, messages: usize| {
        size < SHORT_BLOCK_BYTES && messages < MAX_MESSAGES && size.saturating_add(bytes) <= MAX_TEXT_BYTES
    };
    let Some((block, ..)) = block.filter(|(_, size, messages)| is_short(*size, *messages)) else {
        return Ok(None);
    };
    match unpack(conn, block) {
        Err(error) if error.is_corruption() => Ok(None),
        unpacked => unpacked.map(|()| Some(block)),
    }
}

/// Stores a block, and its rows without their texts.
//
// The rows are deleted and inserted. SQLite does not merge pages when rows become shorter by an update, and each of these pages
// had held only a few rows.
fn store_block(conn: &Connection, rows: &[PlainRow], block: &EncodedBlock) -> Result<()> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
    conn.prepare_cached("DELETE FROM message WHERE no BETWEEN ?1 AND ?2")?.execute([first.no, last.no])?;
    let parameters = vec!["?"; OTHER_COLUMN_COUNT].join(", ");
    let sql = format!(
        "INSERT INTO message (no, block_index, body, extra, {OTHER_COLUMNS}) VALUES (?, ?, '', NULL, {parameters})"
    );
    let mut insert = conn.prepare_cached(&sql)?;
    for (index, row) in (0_i64..).zip(rows) {
        let numbers = [Value::Integer(row.no), Value::Integer(index)];
        insert.execute(params_from_iter(numbers.iter().chain(&row.others)))?;
    }
    insert_block(conn, first.no, block)
}

pub(crate) fn insert_block(conn: &Connection, no: i64, block: &EncodedBlock) -> Result<()> {
    conn.prepare_cached("INSERT INTO block (no, size, data) VALUES (?1, ?2, ?3)")?
        .execute(params![no, block.size, block.data])?;
    Ok(())
}

/// Moves all texts of the block that contains a message back to their rows. Does nothing if its texts are in its row.
pub(crate) fn unpack_message(conn: &Connection, no: i64) -> Result<()> {
    let index: Option<i64> = conn
        .prepare_cached("SELECT block_index FROM message WHERE no = ?1")?
        .query_row([no], |row| row.get(0))?;
    match index {
        Some(index) => unpack(conn, no.saturating_sub(index)),
        None => Ok(()),
    }
}

/// Moves all texts of a block back to their rows.
fn unpack(conn: &Connection, no: i64) -> Result<()> {
    let block = texts::load(conn, no)?;
    let messages: usize = conn
        .prepare_cached(
            "SELECT count(*) FROM message WHERE no >= ?1 AND no < ?1 + ?2 AND block_index = no - ?1",
        )?
        .query_row(params![no, block.len()], |row| row.get(0))?;
    if messages != block.len() {
        let detail = format!("block number {no} has {} messages, but {messages} refer to it", block.len());
        return Err(Error::Corrupt(detail));
    }
    for (index, message) in (0..block.len()).zip(no..) {
        restore_texts(conn, message, index, &block)?;
    }
    conn.prepare_cached("DELETE FROM block WHERE no = ?1")?.execute([no])?;
    Ok(())
}

/// Moves the texts of a message in a block back to its row. Returns false if there is no such row, or if it has texts of its own.
pub(crate) fn restore_texts(conn: &Connection, no: i64, index: usize, block: &Block) -> Result<bool> {
    let Texts { body, extra } = block.texts(index)?;
    // Only a message in a block has an empty body. `block_index` may be damaged.
    let changed = conn
        .prepare_cached(
            "UPDATE message SET body = ?2, extra = ?3, block_index = NULL WHERE no = ?1 AND body = ''",
        )?
        .execute(params![no, body, extra])?;
    Ok(changed > 0)
}

/// The last message of the block that contains the message `no`, or `no` itself if its texts are in its row. No message after
/// `end` is returned.
pub(crate) fn end_of_block(conn: &Connection, no: i64, end: i64) -> Result<i64> {
    let next: Option<i64> = conn
        .prepare_cached(
            "SELECT no FROM message WHERE no > ?1 AND no <= ?2 AND coalesce(block_index, 0) = 0 ORDER BY no LIMIT 1",
        )?
        .query_row([no, end], |row| row.get(0))
        .optional()?;
    Ok(next.map_or(end, |next| next - 1))
}
