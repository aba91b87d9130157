//! Checkpoint states, stored by content: equal ones once, and near-equal ones as differences to a keyframe.
//!
//! A session's states make stars: a keyframe, compressed alone, and up to nine states as differences to it. Any
//! difference can go by itself, and a state is at most two decompressions away. When a keyframe's own state is not
//! needed any more, the differences to it become differences to another: see [`rebase`].

mod arrival;
pub(crate) mod delta;
mod packing;
pub(crate) mod rebase;
pub mod splice;

use std::sync::{Arc, Mutex, PoisonError};

use hfs_core::{CheckpointState, ContentHash};
use rusqlite::{Connection, OptionalExtension, params};

use crate::db::lookup::{self, BranchKey};
use crate::error::{Error, Result};
use crate::state_store::delta::{self, Base, DeltaError};

pub(crate) use packing::{EncodedState, StoredState, encode, insert};

pub(crate) fn hash_of(bytes: &[u8]) -> ContentHash {
    ContentHash::from_bytes(*blake3::hash(bytes).as_bytes())
}

fn bug(error: impl Into<DeltaError>) -> Error {
    let error = error.into();
    Error::Internal(format!("a state cannot be compressed: {error}"))
}

/// The hash of a state by its number, which another state may have had before.
pub(crate) fn hash_at(conn: &Connection, no: i64) -> Result<ContentHash> {
    let mut find = conn.prepare_cached("SELECT hash FROM state WHERE no = ?1")?;
    Ok(ContentHash::from_bytes(find.query_row([no], |row| row.get(0))?))
}

fn find_keyframe(conn: &Connection, hash: ContentHash) -> Result<Option<i64>> {
    Ok(conn
        .prepare_cached("SELECT no FROM state WHERE hash = ?1 AND base IS NULL")?
        .query_row([hash.as_bytes()], |row| row.get(0))
        .optional()?)
}

/// A state's row without its bytes.
struct Row {
    no: i64,
    hash: ContentHash,
    size: usize,
    base: Option<i64>,
    /// How many bytes it takes.
    stored: usize,
}

impl Row {
    fn read(conn: &Connection, no: i64) -> Result<Self> {
        conn.prepare_cached("SELECT no, hash, size, base, length(data) FROM state WHERE no = ?1")?
            .query_row([no], |row| Self::of_columns(row, 0))
            .optional()?
            .ok_or_else(|| missing(no))
    }

    /// Of its number, hash, size, base and stored length, which begin at a column.
    fn of_columns(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            no: row.get(first)?,
            hash: ContentHash::from_bytes(row.get(first + 1)?),
            size: row.get(first + 2)?,
            base: row.get(first + 3)?,
            stored: row.get(first + 4)?,
        })
    }

    /// The state's bytes, checked against its hash. `base` is its keyframe's, if it has one.
    fn open(&self, conn: &Connection, base: Option<&[u8]>) -> Result<Vec<u8>> {
        conn.prepare_cached("SELECT data FROM state WHERE no = ?1")?
            .query_row([self.no], |row| Ok(self.restore(base, row.get_ref(0)?.as_blob()?)))?
    }

    /// What [`Row::open`] gives, of the bytes in the row.
    fn restore(&self, base: Option<&[u8]>, data: &[u8]) -> Result<Vec<u8>> {
        let bytes = match base {
            Some(base) => delta::restore(base, data, self.size),
            None => delta::decompress(data, self.size),
        };
        let bytes = bytes.map_err(|error| Error::Corrupt(format!("state {}: {error}", self.hash)))?;
        if hash_of(&bytes) == self.hash {
            return Ok(bytes);
        }
        Err(Error::Corrupt(format!("state {} is not what was stored", self.hash)))
    }
}

/// The keyframe that was keyframes last, for states come and go near each other.
#[derive(Debug, Default)]
pub(crate) struct KeyframeCache(Mutex<Option<(ContentHash, Arc<Base>)>>);

/// Larger keyframes are not kept in memory.
const LARGEST_OPENED: usize = 8 * 1024 * 1024;

impl KeyframeCache {
    /// A keyframe's bytes.
    fn keyframe(&self, conn: &Connection, row: &Row) -> Result<Arc<Base>> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, keyframe)) = last.filter(|(hash, _)| *hash == row.hash) {
            return Ok(keyframe);
        }
        Ok(self.put(row.hash, Arc::new(row.open(conn, None)?)))
    }

    fn put(&self, hash: ContentHash, bytes: Arc<Vec<u8>>) -> Arc<Base> {
        let keyframe = Arc::new(Base::new(bytes));
        if keyframe.bytes().len() <= LARGEST_OPENED {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((hash, Arc::clone(&keyframe)));
        }
        keyframe
    }
}

/// The keyframe of the session's newest state, and how many differences to it have been made.
fn newest_keyframe(conn: &Connection, session: i64) -> Result<Option<(Row, i64)>> {
    let newest = [
        // Those that retention may prune and the others stand apart in the index.
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
        // Before each difference had its number, the keyframe counted them.
        let sql = format!(
            "SELECT keyframe.no, keyframe.hash, keyframe.size, keyframe.base, length(keyframe.data),
                max(keyframe.followers, ifnull(
                    (SELECT max(followers) FROM state AS follower WHERE follower.base = keyframe.no), 0))
                FROM state JOIN state AS keyframe ON keyframe.no = ifnull(state.base, state.no)
                WHERE state.no = ({newest})"
        );
        let found = conn
            .prepare_cached(&sql)?
            .query_row([session], |row| Ok((Row::of_columns(row, 0)?, row.get(5)?)))
            .optional()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The canonical bytes of a state, checked against its hash (and its keyframe's against that one's).
pub(crate) fn bytes(conn: &Connection, no: i64, keyframes: &KeyframeCache) -> Result<Arc<Vec<u8>>> {
    let mut select = conn.prepare_cached(
        "SELECT state.no, state.hash, state.size, state.base, length(state.data),
            base.no, base.hash, base.size, base.base, length(base.data), state.data
            FROM state LEFT JOIN state AS base ON base.no = state.base WHERE state.no = ?1",
    )?;
    let mut found = select.query([no])?;
    let columns = found.next()?.ok_or_else(|| missing(no))?;
    let row = Row::of_columns(columns, 0)?;
    let Some(base) = row.base else { return Ok(Arc::clone(keyframes.keyframe(conn, &row)?.bytes())) };
    columns.get::<_, Option<i64>>(5)?.ok_or_else(|| missing(base))?;
    let keyframe = keyframes.keyframe(conn, &Row::of_columns(columns, 5)?)?;
    let data = columns.get_ref(10)?.as_blob().map_err(rusqlite::Error::from)?;
    Ok(Arc::new(row.restore(Some(keyframe.bytes()), data)?))
}

fn missing(no: i64) -> Error {
    Error::Corrupt(format!("state number {no} is missing"))
}

/// The state itself.
pub(crate) fn load(conn: &Connection, no: i64, keyframes: &KeyframeCache) -> Result<CheckpointState> {
    serde_json::from_slice(&bytes(conn, no, keyframes)?)
        .map_err(|error| Error::Corrupt(format!("state number {no} cannot be read: {error}")))
}

/// Removes a state that nothing refers to any more. Returns the keyframe that is still there only because others
/// are differences to it, if that leaves one: see [`rebase::release`].
pub(crate) fn drop_unused(conn: &Connection, no: i64) -> Result<Option<i64>> {
    let mut next = Some(no);
    while let Some(no) = next {
        let (is_needed, has_followers) = conn
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM checkpoint WHERE state = ?1)
                    OR EXISTS (SELECT 1 FROM branch WHERE state = ?1),
                    EXISTS (SELECT 1 FROM state WHERE base = ?1)",
            )?
            .query_row([no], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if is_needed {
            break;
        }
        if has_followers {
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

/// The state of the checkpoint that stands nearest before or at `seq` of a branch's history.
pub(crate) fn latest_at(conn: &Connection, branch: &BranchKey, seq: u64) -> Result<Option<i64>> {
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
        best = best.max(found);
        limit = limit.min(branch.forked_at);
        next = branch.parent.map(|parent| lookup::branch_by_no(conn, parent)).transpose()?;
    }
    Ok(best.map(|(_, state)| state))
}
