//! Checkpoint states, stored by content hash.
//!
//! Equal states share one row. The states of a session form groups of a keyframe, which is compressed without a base,
//! and up to nine deltas to it.
//!
//! Invariants:
//!
//! - The base of a delta is a keyframe, never another delta. So a delta can be deleted without changes to other rows,
//!   and restoring a state decompresses at most two rows.
//! - A row is kept while a checkpoint, a branch or a delta refers to it. A keyframe that only deltas refer to is an
//!   orphan: [`rebase`] encodes its deltas to another base and deletes it.
//! - Whenever a state is restored, it is compared with its hash.
//!
//! A new state is first encoded by [`encode`] without a transaction, then inserted by [`insert`] in the write
//! transaction of its checkpoint.
//!
//! # Alternatives
//!
//! - Chains, in which each delta is based on the previous state: retention deletes states in the middle of a chain, and
//!   would have to encode their successors again each time.
//! - JSON Patch: it has to parse both states, and parsing one takes longer than restoring it from a delta.
//! - Content-defined chunks: a change of one line stores a new chunk of some kilobytes.
//! - No deltas: the code would be simpler, but take ten times the space. [`compression`](crate::codec::compression) has
//!   the numbers.

mod encode;
pub(crate) mod rebase;
mod streaming_encoder;

use std::sync::{Arc, Mutex};

use hfs_core::{CheckpointState, ContentHash, lock_unpoisoned};
use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::compression::{self, CompressionError, DeltaBase};
use crate::db::lookup::{self, BranchRecord};
use crate::error::{Error, Result};

pub(crate) use encode::{EncodedState, StoredState, encode, insert};

pub(crate) fn hash_of(bytes: &[u8]) -> ContentHash {
    ContentHash::from_bytes(*blake3::hash(bytes).as_bytes())
}

/// Compression fails only because of a bug in this crate.
fn compression_failed(error: impl Into<CompressionError>) -> Error {
    let error = error.into();
    Error::Internal(format!("a state cannot be compressed: {error}"))
}

/// Returns the hash of the state with this row number. Only the hash identifies a state across transactions, because
/// row numbers are reused after deletions.
pub(crate) fn hash_at(conn: &Connection, no: i64) -> Result<ContentHash> {
    let mut select = conn.prepare_cached("SELECT hash FROM state WHERE no = ?1")?;
    Ok(ContentHash::from_bytes(select.query_row([no], |row| row.get(0))?))
}

fn find_keyframe(conn: &Connection, hash: ContentHash) -> Result<Option<i64>> {
    Ok(conn
        .prepare_cached("SELECT no FROM state WHERE hash = ?1 AND base IS NULL")?
        .query_row([hash.as_bytes()], |row| row.get(0))
        .optional()?)
}

/// The columns of a state except its data.
struct StateRow {
    no: i64,
    hash: ContentHash,
    /// Size of the state in bytes.
    size: usize,
    base: Option<i64>,
    /// Size of the compressed data in bytes.
    stored_size: usize,
}

impl StateRow {
    fn read(conn: &Connection, no: i64) -> Result<Self> {
        conn.prepare_cached("SELECT no, hash, size, base, length(data) FROM state WHERE no = ?1")?
            .query_row([no], |row| Self::from_columns(row, 0))
            .optional()?
            .ok_or_else(|| missing(no))
    }

    /// Reads number, hash, size, base and stored size, starting at column `first`.
    fn from_columns(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            no: row.get(first)?,
            hash: ContentHash::from_bytes(row.get(first + 1)?),
            size: row.get(first + 2)?,
            base: row.get(first + 3)?,
            stored_size: row.get(first + 4)?,
        })
    }

    /// Restores the state's bytes. If it is a delta, `base` must be the bytes of its keyframe.
    fn restore(&self, conn: &Connection, base: Option<&[u8]>) -> Result<Vec<u8>> {
        conn.prepare_cached("SELECT data FROM state WHERE no = ?1")?
            .query_row([self.no], |row| Ok(self.restore_data(base, row.get_ref(0)?.as_blob()?)))?
    }

    /// Like [`StateRow::restore`], for data that is already read.
    fn restore_data(&self, base: Option<&[u8]>, data: &[u8]) -> Result<Vec<u8>> {
        let bytes = match base {
            Some(base) => compression::decompress_delta(base, data, self.size),
            None => compression::decompress(data, self.size),
        };
        let bytes = bytes.map_err(|error| Error::Corrupt(format!("state {}: {error}", self.hash)))?;
        if hash_of(&bytes) == self.hash {
            return Ok(bytes);
        }
        Err(Error::Corrupt(format!("state {} does not match its hash", self.hash)))
    }
}

/// Caches the keyframe that was used last. Successive checkpoints of a session have the same keyframe, which is then
/// restored only once.
#[derive(Debug, Default)]
pub(crate) struct KeyframeCache(Mutex<Option<(ContentHash, Arc<DeltaBase>)>>);

/// Larger keyframes are not cached.
const MAX_CACHED_SIZE: usize = 8 * 1024 * 1024;

impl KeyframeCache {
    fn get_or_restore(&self, conn: &Connection, row: &StateRow) -> Result<Arc<DeltaBase>> {
        let cached = lock_unpoisoned(&self.0).clone();
        if let Some((_, keyframe)) = cached.filter(|(hash, _)| *hash == row.hash) {
            return Ok(keyframe);
        }
        Ok(self.put(row.hash, Arc::new(row.restore(conn, None)?)))
    }

    fn put(&self, hash: ContentHash, bytes: Arc<Vec<u8>>) -> Arc<DeltaBase> {
        let keyframe = Arc::new(DeltaBase::new(bytes));
        if keyframe.bytes().len() <= MAX_CACHED_SIZE {
            *lock_unpoisoned(&self.0) = Some((hash, Arc::clone(&keyframe)));
        }
        keyframe
    }
}

/// Returns the keyframe of the session's newest state, and the number of deltas that have been encoded to it.
fn newest_keyframe(conn: &Connection, session: i64) -> Result<Option<(StateRow, i64)>> {
    let newest = [
        // One subquery for each value of `automatic`, which precedes `created_at` in the index.
        "SELECT state FROM (
            SELECT * FROM (SELECT created_at, no, state FROM checkpoint WHERE session = ?1 AND automatic = 0
                ORDER BY created_at DESC, no DESC LIMIT 1)
            UNION ALL
            SELECT * FROM (SELECT created_at, no, state FROM checkpoint WHERE session = ?1 AND automatic = 1
                ORDER BY created_at DESC, no DESC LIMIT 1))
            ORDER BY created_at DESC, no DESC LIMIT 1",
        "SELECT state FROM branch WHERE session = ?1 AND state IS NOT NULL ORDER BY no DESC LIMIT 1",
    ];
    for newest in newest {
        // The column `followers` of a delta is its position among the deltas of its keyframe, from 1. Earlier versions
        // stored the number of deltas in the keyframe's row, which they had to rewrite with its data for each delta.
        let sql = format!(
            "SELECT keyframe.no, keyframe.hash, keyframe.size, keyframe.base, length(keyframe.data),
                max(keyframe.followers, ifnull(
                    (SELECT max(followers) FROM state AS delta WHERE delta.base = keyframe.no), 0))
                FROM state JOIN state AS keyframe ON keyframe.no = ifnull(state.base, state.no)
                WHERE state.no = ({newest})"
        );
        let found = conn
            .prepare_cached(&sql)?
            .query_row([session], |row| Ok((StateRow::from_columns(row, 0)?, row.get(5)?)))
            .optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Restores the canonical JSON of a state.
pub(crate) fn bytes(conn: &Connection, no: i64, keyframes: &KeyframeCache) -> Result<Arc<Vec<u8>>> {
    let mut select = conn.prepare_cached(
        "SELECT state.no, state.hash, state.size, state.base, length(state.data),
            base.no, base.hash, base.size, base.base, length(base.data), state.data
            FROM state LEFT JOIN state AS base ON base.no = state.base WHERE state.no = ?1",
    )?;
    let mut rows = select.query([no])?;
    let columns = rows.next()?.ok_or_else(|| missing(no))?;
    let row = StateRow::from_columns(columns, 0)?;
    let Some(base) = row.base else {
        return Ok(Arc::clone(keyframes.get_or_restore(conn, &row)?.bytes()));
    };
    columns.get::<_, Option<i64>>(5)?.ok_or_else(|| missing(base))?;
    let keyframe = keyframes.get_or_restore(conn, &StateRow::from_columns(columns, 5)?)?;
    let data = columns.get_ref(10)?.as_blob().map_err(rusqlite::Error::from)?;
    Ok(Arc::new(row.restore_data(Some(keyframe.bytes()), data)?))
}

fn missing(no: i64) -> Error {
    Error::Corrupt(format!("state number {no} is missing"))
}

/// Restores a state.
pub(crate) fn load(conn: &Connection, no: i64, keyframes: &KeyframeCache) -> Result<CheckpointState> {
    serde_json::from_slice(&bytes(conn, no, keyframes)?)
        .map_err(|error| Error::Corrupt(format!("state number {no} cannot be read: {error}")))
}

/// Deletes a state if nothing refers to it, and then its keyframe if nothing refers to that any more.
///
/// If only deltas still refer to the state or its keyframe, returns the keyframe. The caller must pass it to
/// [`rebase::release`] after the transaction.
pub(crate) fn drop_unused(conn: &Connection, no: i64) -> Result<Option<i64>> {
    let mut next = Some(no);
    while let Some(no) = next {
        let (is_referenced, has_deltas) = conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM checkpoint WHERE state = ?1)
                    OR EXISTS (SELECT 1 FROM branch WHERE state = ?1),
                    EXISTS (SELECT 1 FROM state WHERE base = ?1)",
            )?
            .query_row([no], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if is_referenced {
            break;
        }
        if has_deltas {
            return Ok(Some(no));
        }
        let base: Option<Option<i64>> = conn
            .prepare_cached("DELETE FROM state WHERE no = ?1 RETURNING base")?
            .query_row([no], |row| row.get(0))
            .optional()?;
        next = base.flatten();
    }
    Ok(None)
}

/// Returns the state of the last checkpoint at or before `seq` in the history of a branch, its ancestors included.
pub(crate) fn latest_at(conn: &Connection, branch: &BranchRecord, seq: u64) -> Result<Option<i64>> {
    let mut best: Option<((u64, i64, i64), i64)> = None;
    let mut limit = seq;
    let mut next = Some(branch.clone());
    while let Some(branch) = next {
        let found = conn
            .prepare_cached(
                "SELECT seq, created_at, no, state FROM checkpoint WHERE branch = ?1 AND seq <= ?2
                    ORDER BY seq DESC, created_at DESC, no DESC LIMIT 1",
            )?
            .query_row(params![branch.no, limit], |row| {
                Ok(((row.get(0)?, row.get(1)?, row.get(2)?), row.get(3)?))
            })
            .optional()?;
        // A checkpoint of an ancestor may have the same seq, so the time and the number decide as well. `None` is less
        // than any checkpoint.
        best = best.max(found);
        limit = limit.min(branch.forked_at);
        next = branch.parent.map(|parent| lookup::branch_by_no(conn, parent)).transpose()?;
    }
    Ok(best.map(|(_, state)| state))
}
