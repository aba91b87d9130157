//! Checkpoint states, stored by content: equal ones once, and near-equal ones as differences to a keyframe.
//!
//! A session's states make stars: a keyframe, compressed alone, and up to nine states as differences to it. Rows
//! never change, any difference can go by itself, and a state is at most two decompressions away. A keyframe
//! whose own state is not needed any more stays for as long as a difference to it does.

use hfs_core::{CheckpointState, ContentHash};
use rusqlite::{Connection, OptionalExtension, params};

use crate::delta::{self, DeltaError};
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
    pub(crate) bytes: Vec<u8>,
}

impl Plain {
    pub(crate) fn new(state: &CheckpointState) -> Sql<Self> {
        let bytes = state
            .canonical_json()
            .map_err(|error| Fault::Bug(format!("a checkpoint's state cannot be written: {error}")))?;
        Ok(Self { hash: hash_of(&bytes), bytes })
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
pub(crate) fn pack(conn: &Connection, session: i64, plain: Plain) -> Sql<Packed> {
    if find(conn, plain.hash)?.is_some() {
        return Ok(Packed { plain, base: None, frame: Vec::new() });
    }
    if plain.bytes.len() > SMALL
        && let Some(keyframe) = current_keyframe(conn, session)?
    {
        let prefix = keyframe.open()?;
        let frame = delta::compress(&prefix, &plain.bytes).map_err(bug)?;
        if frame.len().saturating_mul(WORTHWHILE) <= keyframe.data.len() {
            return Ok(Packed { plain, base: Some((keyframe.no, keyframe.hash)), frame });
        }
    }
    whole(plain)
}

fn whole(plain: Plain) -> Sql<Packed> {
    let frame = delta::compress(&[], &plain.bytes).map_err(bug)?;
    Ok(Packed { plain, base: None, frame })
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
        Some((no, hash)) => find(conn, hash)?.filter(|found| *found == no),
        None => None,
    };
    // What the difference was made to may be gone by now, and so may the equal state that made none necessary.
    let usable = base.is_some() == packed.base.is_some() && !packed.frame.is_empty();
    let fresh;
    let frame = if usable {
        &packed.frame
    } else {
        fresh = delta::compress(&[], &plain.bytes).map_err(bug)?;
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

struct Row {
    no: i64,
    hash: ContentHash,
    size: usize,
    base: Option<i64>,
    data: Vec<u8>,
}

impl Row {
    fn read(conn: &Connection, no: i64) -> Sql<Self> {
        conn.prepare_cached("SELECT hash, size, base, data FROM state WHERE no = ?1")?
            .query_row([no], |row| {
                Ok(Self {
                    no,
                    hash: ContentHash::from_bytes(row.get(0)?),
                    size: row.get(1)?,
                    base: row.get(2)?,
                    data: row.get(3)?,
                })
            })
            .optional()?
            .ok_or_else(|| Fault::Damaged(format!("state number {no} is missing")))
    }

    /// The bytes of a keyframe, as its checksum vouches for them.
    fn open(&self) -> Sql<Vec<u8>> {
        self.open_with(&[])
    }

    fn open_with(&self, prefix: &[u8]) -> Sql<Vec<u8>> {
        delta::decompress(prefix, &self.data, self.size)
            .map_err(|error| Fault::Damaged(format!("state {}: {error}", self.hash)))
    }

    fn check(&self, bytes: &[u8]) -> Sql<()> {
        if hash_of(bytes) == self.hash {
            return Ok(());
        }
        Err(Fault::Damaged(format!("state {} is not what was stored", self.hash)))
    }
}

/// The keyframe that the session's newest state has, while it may have more differences.
fn current_keyframe(conn: &Connection, session: i64) -> Sql<Option<Row>> {
    let newest: Option<i64> = conn
        .prepare_cached(
            "SELECT state FROM checkpoint WHERE session = ?1 ORDER BY created_at DESC, no DESC LIMIT 1",
        )?
        .query_row([session], |row| row.get(0))
        .optional()?;
    let newest = match newest {
        Some(state) => Some(state),
        None => conn
            .prepare_cached(
                "SELECT state FROM branch WHERE session = ?1 AND state IS NOT NULL ORDER BY no DESC LIMIT 1",
            )?
            .query_row([session], |row| row.get(0))
            .optional()?,
    };
    let Some(newest) = newest else { return Ok(None) };
    let (keyframe, followers): (i64, i64) = conn
        .prepare_cached(
            "SELECT keyframe.no, keyframe.followers FROM state
                JOIN state AS keyframe ON keyframe.no = coalesce(state.base, state.no) WHERE state.no = ?1",
        )?
        .query_row([newest], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if followers >= FOLLOWERS {
        return Ok(None);
    }
    Row::read(conn, keyframe).map(Some)
}

/// The canonical bytes of a state, checked against its hash (and its keyframe's against that one's).
pub(crate) fn bytes(conn: &Connection, no: i64) -> Sql<Vec<u8>> {
    let row = Row::read(conn, no)?;
    let bytes = match row.base {
        None => row.open()?,
        Some(base) => {
            let keyframe = Row::read(conn, base)?;
            let prefix = keyframe.open()?;
            keyframe.check(&prefix)?;
            row.open_with(&prefix)?
        }
    };
    row.check(&bytes)?;
    Ok(bytes)
}

/// The state itself.
pub(crate) fn load(conn: &Connection, no: i64) -> Sql<CheckpointState> {
    let bytes = bytes(conn, no)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Fault::Damaged(format!("state number {no} cannot be read: {error}")))
}

/// Removes a state that nothing refers to any more, and its keyframe when it was the last that needed it.
pub(crate) fn drop_unused(conn: &Connection, no: i64) -> Sql<()> {
    let mut next = Some(no);
    while let Some(no) = next {
        let used = conn
            .prepare_cached(
                "SELECT 1 FROM checkpoint WHERE state = ?1 UNION ALL SELECT 1 FROM branch WHERE state = ?1
                    UNION ALL SELECT 1 FROM state WHERE base = ?1",
            )?
            .exists([no])?;
        if used {
            break;
        }
        let base: Option<Option<i64>> = conn
            .prepare_cached("DELETE FROM state WHERE no = ?1 RETURNING base")?
            .query_row([no], |row| row.get(0))
            .optional()?;
        next = base.flatten();
    }
    Ok(())
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
