//! Checkpoint states, stored by content: equal ones once, and near-equal ones as differences to a keyframe.
//!
//! A session's states make stars: a keyframe, compressed alone, and up to nine states as differences to it. Any
//! difference can go by itself, and a state is at most two decompressions away. When a keyframe's own state is not
//! needed any more, the differences to it become differences to another: see [`rebase`].

pub(crate) mod rebase;

use std::sync::{Arc, Mutex, PoisonError};

use hfs_core::{CheckpointState, ContentHash};
use rusqlite::{Connection, OptionalExtension, params};

use crate::delta::{self, Base, DeltaError};
use crate::fault::{Fault, Sql};
use crate::lookup::{self, BranchKey};

/// How many differences a keyframe gets before the next one.
const FOLLOWERS: i64 = 9;
/// States of at most so many bytes are always stored alone: a keyframe that they kept alive would cost more.
const SMALL: usize = 1024;
/// A difference that takes more than this share of its keyframe makes its state the next keyframe.
const WORTHWHILE: usize = 4;

/// A state's canonical bytes and their hash.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) hash: ContentHash,
    pub(crate) bytes: Arc<Vec<u8>>,
}

impl Plain {
    pub(crate) fn new(state: &CheckpointState) -> Sql<Self> {
        let bytes = state
            .canonical_json()
            .map_err(|error| Fault::Bug(format!("a checkpoint's state cannot be written: {error}")))?;
        Ok(Self { hash: hash_of(&bytes), bytes: Arc::new(bytes) })
    }
}

/// A state ready to be stored. Made before the writer's turn comes, for it takes its time.
#[derive(Debug)]
pub(crate) struct Packed {
    plain: Plain,
    /// The keyframe that `frame` is a difference to.
    base: Option<(i64, ContentHash)>,
    /// Empty when the state was found stored already.
    frame: Vec<u8>,
}

pub(crate) fn hash_of(bytes: &[u8]) -> ContentHash {
    ContentHash::from_bytes(*blake3::hash(bytes).as_bytes())
}

/// Compresses a state in the light of what its session has stored.
pub(crate) fn pack(conn: &Connection, session: i64, plain: Plain, opened: &Opened) -> Sql<Packed> {
    if find(conn, plain.hash)?.is_some() {
        return Ok(Packed { plain, base: None, frame: Vec::new() });
    }
    if plain.bytes.len() > SMALL
        && let Some(keyframe) = current_keyframe(conn, session)?
    {
        let base = opened.keyframe(conn, &keyframe)?;
        let frame = delta::difference(&base, &plain.bytes).map_err(bug)?;
        if is_worthwhile(&frame, keyframe.stored) {
            return Ok(Packed { plain, base: Some((keyframe.no, keyframe.hash)), frame });
        }
    }
    let frame = delta::compress(&plain.bytes).map_err(bug)?;
    // The states that follow will be differences to it.
    opened.put(plain.hash, Arc::clone(&plain.bytes));
    Ok(Packed { plain, base: None, frame })
}

/// Whether a difference is small enough beside its keyframe.
const fn is_worthwhile(frame: &[u8], keyframe: usize) -> bool {
    frame.len().saturating_mul(WORTHWHILE) <= keyframe
}

fn bug(error: impl Into<DeltaError>) -> Fault {
    let error = error.into();
    Fault::Bug(format!("a state cannot be compressed: {error}"))
}

/// The number of the row that holds the state: one that was there, or a new one.
pub(crate) fn keep(conn: &Connection, packed: &Packed) -> Sql<i64> {
    let plain = &packed.plain;
    if let Some(no) = find(conn, plain.hash)? {
        return Ok(no);
    }
    let base = match packed.base {
        Some((no, hash)) => find_keyframe(conn, hash)?.filter(|found| *found == no),
        None => None,
    };
    // What the difference was made to may be gone by now, and so may the equal state that made none necessary.
    let usable = base.is_some() == packed.base.is_some() && !packed.frame.is_empty();
    let fresh;
    let frame = if usable {
        &packed.frame
    } else {
        fresh = delta::compress(&plain.bytes).map_err(bug)?;
        &fresh
    };
    let base = base.filter(|_| usable);
    conn.prepare_cached("INSERT INTO state (hash, size, base, followers, data) VALUES (?1, ?2, ?3, 0, ?4)")?
        .execute(params![plain.hash.as_bytes(), plain.bytes.len(), base, frame])?;
    let no = conn.last_insert_rowid();
    if let Some(base) = base {
        conn.prepare_cached("UPDATE state SET followers = followers + 1 WHERE no = ?1")?.execute([base])?;
    }
    Ok(no)
}

fn find(conn: &Connection, hash: ContentHash) -> Sql<Option<i64>> {
    Ok(conn
        .prepare_cached("SELECT no FROM state WHERE hash = ?1")?
        .query_row([hash.as_bytes()], |row| row.get(0))
        .optional()?)
}

/// The hash of a state by its number, which another state may have had before.
pub(crate) fn hash_at(conn: &Connection, no: i64) -> Sql<ContentHash> {
    let mut find = conn.prepare_cached("SELECT hash FROM state WHERE no = ?1")?;
    Ok(ContentHash::from_bytes(find.query_row([no], |row| row.get(0))?))
}

fn find_keyframe(conn: &Connection, hash: ContentHash) -> Sql<Option<i64>> {
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
    fn read(conn: &Connection, no: i64) -> Sql<Self> {
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
    fn open(&self, conn: &Connection, base: Option<&[u8]>) -> Sql<Vec<u8>> {
        conn.prepare_cached("SELECT data FROM state WHERE no = ?1")?
            .query_row([self.no], |row| Ok(self.restore(base, row.get_ref(0)?.as_blob()?)))?
    }

    /// What [`Row::open`] gives, of the bytes in the row.
    fn restore(&self, base: Option<&[u8]>, data: &[u8]) -> Sql<Vec<u8>> {
        let bytes = match base {
            Some(base) => delta::restore(base, data, self.size),
            None => delta::decompress(data, self.size),
        };
        let bytes = bytes.map_err(|error| Fault::Damaged(format!("state {}: {error}", self.hash)))?;
        if hash_of(&bytes) == self.hash {
            return Ok(bytes);
        }
        Err(Fault::Damaged(format!("state {} is not what was stored", self.hash)))
    }
}

/// The keyframe that was opened last, for states come and go near each other.
#[derive(Debug, Default)]
pub(crate) struct Opened(Mutex<Option<(ContentHash, Arc<Base>)>>);

/// Larger keyframes are not kept in memory.
const LARGEST_OPENED: usize = 8 * 1024 * 1024;

impl Opened {
    /// A keyframe's bytes.
    fn keyframe(&self, conn: &Connection, row: &Row) -> Sql<Arc<Base>> {
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
fn newest_keyframe(conn: &Connection, session: i64) -> Sql<Option<(Row, i64)>> {
    let newest = [
        "SELECT state FROM checkpoint WHERE session = ?1 ORDER BY created_at DESC, no DESC LIMIT 1",
        "SELECT state FROM branch WHERE session = ?1 AND state IS NOT NULL ORDER BY no DESC LIMIT 1",
    ];
    for newest in newest {
        let sql = format!(
            "SELECT keyframe.no, keyframe.hash, keyframe.size, keyframe.base, length(keyframe.data),
                keyframe.followers FROM state JOIN state AS keyframe ON keyframe.no = coalesce(state.base, state.no)
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

/// The keyframe of the session's newest state, while it may have more differences.
fn current_keyframe(conn: &Connection, session: i64) -> Sql<Option<Row>> {
    let newest = newest_keyframe(conn, session)?;
    Ok(newest.filter(|(_, followers)| *followers < FOLLOWERS).map(|(keyframe, _)| keyframe))
}

/// The canonical bytes of a state, checked against its hash (and its keyframe's against that one's).
pub(crate) fn bytes(conn: &Connection, no: i64, opened: &Opened) -> Sql<Arc<Vec<u8>>> {
    let mut select = conn.prepare_cached(
        "SELECT state.no, state.hash, state.size, state.base, length(state.data),
            base.no, base.hash, base.size, base.base, length(base.data), state.data
            FROM state LEFT JOIN state AS base ON base.no = state.base WHERE state.no = ?1",
    )?;
    let mut found = select.query([no])?;
    let columns = found.next()?.ok_or_else(|| missing(no))?;
    let row = Row::of_columns(columns, 0)?;
    let Some(base) = row.base else { return Ok(Arc::clone(opened.keyframe(conn, &row)?.bytes())) };
    columns.get::<_, Option<i64>>(5)?.ok_or_else(|| missing(base))?;
    let keyframe = opened.keyframe(conn, &Row::of_columns(columns, 5)?)?;
    let data = columns.get_ref(10)?.as_blob().map_err(rusqlite::Error::from)?;
    Ok(Arc::new(row.restore(Some(keyframe.bytes()), data)?))
}

fn missing(no: i64) -> Fault {
    Fault::Damaged(format!("state number {no} is missing"))
}

/// The state itself.
pub(crate) fn load(conn: &Connection, no: i64, opened: &Opened) -> Sql<CheckpointState> {
    serde_json::from_slice(&bytes(conn, no, opened)?)
        .map_err(|error| Fault::Damaged(format!("state number {no} cannot be read: {error}")))
}

/// Removes a state that nothing refers to any more. Returns the keyframe that is still there only because others
/// are differences to it, if that leaves one: see [`rebase::release`].
pub(crate) fn drop_unused(conn: &Connection, no: i64) -> Sql<Option<i64>> {
    let mut next = Some(no);
    while let Some(no) = next {
        if rebase::is_needed(conn, no)? {
            break;
        }
        if conn.prepare_cached("SELECT 1 FROM state WHERE base = ?1")?.exists([no])? {
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
pub(crate) fn standing_at(conn: &Connection, branch: &BranchKey, seq: u64) -> Sql<Option<i64>> {
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
