//! States on their way into the database.

use std::sync::Arc;

use hfs_core::{CheckpointState, ContentHash};
use rusqlite::{Connection, OptionalExtension, params};

use super::arrival::{self, Arrived, Compared};
use super::{KeyframeCache, bug, find_keyframe, hash_of, newest_keyframe};
use crate::db::Database;
use crate::error::Result;
use crate::state_store::delta::{self, Base};

/// How many differences a keyframe gets before the next one.
const FOLLOWERS: i64 = 9;
/// States of at most so many bytes are always stored alone: a keyframe that they kept alive would cost more.
const SMALL: usize = 1024;
/// A difference that takes more than this share of its keyframe makes its state the next keyframe.
const WORTHWHILE: usize = 4;

/// A state's canonical bytes and their hash.
#[derive(Debug)]
pub(super) struct Plain {
    pub(super) hash: ContentHash,
    pub(super) bytes: Arc<Vec<u8>>,
}

impl Plain {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { hash: hash_of(&bytes), bytes: Arc::new(bytes) }
    }
}

/// The keyframe that the next state of a session may be a difference to.
#[derive(Debug)]
pub(super) struct Keyframe {
    no: i64,
    hash: ContentHash,
    /// How many bytes it takes.
    stored: usize,
    /// How many differences to it have been made.
    followers: i64,
    pub(super) base: Arc<Base>,
}

impl Keyframe {
    fn current(conn: &Connection, session: i64, keyframes: &KeyframeCache) -> Result<Option<Self>> {
        let newest = newest_keyframe(conn, session)?.filter(|(_, followers)| *followers < FOLLOWERS);
        let Some((row, followers)) = newest else { return Ok(None) };
        let base = keyframes.keyframe(conn, &row)?;
        Ok(Some(Self { no: row.no, hash: row.hash, stored: row.stored, followers, base }))
    }
}

/// What a state's row is to hold.
#[derive(Debug)]
struct Frame {
    /// The keyframe that it is a difference to: its number, which another state may have by now, and its hash.
    base: Option<(i64, ContentHash)>,
    /// Which of the differences to its keyframe it is, from one on.
    number: i64,
    data: Vec<u8>,
}

impl Frame {
    /// A state in the light of what its session has stored.
    fn new(conn: &Connection, session: i64, plain: &Plain, keyframes: &KeyframeCache) -> Result<Self> {
        if plain.bytes.len() > SMALL
            && let Some(keyframe) = Keyframe::current(conn, session, keyframes)?
        {
            let data = delta::difference(&keyframe.base, &plain.bytes).map_err(bug)?;
            if let Some(frame) = Self::of_difference(&keyframe, data) {
                return Ok(frame);
            }
        }
        Self::whole(plain, keyframes)
    }

    /// A difference, if it is small enough beside its keyframe.
    fn of_difference(keyframe: &Keyframe, data: Vec<u8>) -> Option<Self> {
        let (base, number) = (Some((keyframe.no, keyframe.hash)), keyframe.followers + 1);
        is_worthwhile(&data, keyframe.stored).then_some(Self { base, number, data })
    }

    fn whole(plain: &Plain, keyframes: &KeyframeCache) -> Result<Self> {
        let data = delta::compress(&plain.bytes).map_err(bug)?;
        // The states that follow will be differences to it.
        keyframes.put(plain.hash, Arc::clone(&plain.bytes));
        Ok(Self { base: None, number: 0, data })
    }

    /// Whether its keyframe is still there.
    fn stands(&self, conn: &Connection) -> Result<bool> {
        self.base.map_or(Ok(true), |(no, hash)| Ok(find_keyframe(conn, hash)? == Some(no)))
    }
}

/// Whether a difference is small enough beside its keyframe.
pub(super) const fn is_worthwhile(frame: &[u8], keyframe: usize) -> bool {
    frame.len().saturating_mul(WORTHWHILE) <= keyframe
}

/// A state ready to be stored.
#[derive(Debug)]
pub(crate) struct EncodedState {
    plain: Plain,
    /// What takes its time, and so is done before the writer's turn comes. With a small state it does not.
    frame: Option<Frame>,
}

/// Makes a state ready to be stored for a session, which is looked up when its number is needed.
pub(crate) fn encode(
    db: &Database,
    keyframes: &KeyframeCache,
    state: &CheckpointState,
    session: impl FnOnce(&Connection) -> Result<i64>,
) -> Result<EncodedState> {
    let keyframe = || db.try_read(|conn| Keyframe::current(conn, session(conn)?, keyframes));
    let Arrived { plain, compared } = arrival::write(state, keyframe)?;
    let Some(Compared(difference)) = compared else { return Ok(EncodedState { plain, frame: None }) };
    let frame = difference.and_then(|(keyframe, data)| Frame::of_difference(&keyframe, data));
    if frame.is_some() || db.try_read(|conn| find(conn, plain.hash))?.is_some() {
        return Ok(EncodedState { plain, frame });
    }
    let frame = Some(Frame::whole(&plain, keyframes)?);
    Ok(EncodedState { plain, frame })
}

/// A state's row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredState {
    pub(crate) no: i64,
    pub(crate) hash: ContentHash,
    /// How many bytes the state has.
    pub(crate) size: usize,
    /// How many bytes it takes.
    pub(crate) stored: usize,
}

/// The row that holds the state: one that was there, or a new one.
pub(crate) fn insert(
    conn: &Connection,
    session: i64,
    packed: &EncodedState,
    keyframes: &KeyframeCache,
) -> Result<StoredState> {
    let plain = &packed.plain;
    let kept = |no, stored| StoredState { no, hash: plain.hash, size: plain.bytes.len(), stored };
    if let Some((no, stored)) = find(conn, plain.hash)? {
        return Ok(kept(no, stored));
    }
    let fresh;
    let frame = match &packed.frame {
        Some(frame) if frame.stands(conn)? => frame,
        // What the difference was made to may be gone by now, and so may the equal state that made none necessary.
        _ => {
            fresh = Frame::new(conn, session, plain, keyframes)?;
            &fresh
        }
    };
    let base = frame.base.map(|(no, _)| no);
    conn.prepare_cached("INSERT INTO state (hash, size, base, followers, data) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![plain.hash.as_bytes(), plain.bytes.len(), base, frame.number, frame.data])?;
    Ok(kept(conn.last_insert_rowid(), frame.data.len()))
}

/// The number of the state with this hash, and how many bytes it takes.
fn find(conn: &Connection, hash: ContentHash) -> Result<Option<(i64, usize)>> {
    Ok(conn
        .prepare_cached("SELECT no, length(data) FROM state WHERE hash = ?1")?
        .query_row([hash.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

#[cfg(test)]
mod tests {
    use hfs_core::{CheckpointStore as _, SessionStore as _};
    use testkit::builders::{Drafts, at, growing_state};

    use super::*;
    use crate::db::options::SqliteOptions;
    use crate::sqlite::SqliteStore;

    /// Earlier versions counted in the keyframe's row, and gave the differences no numbers.
    #[test]
    fn differences_that_were_made_before_they_had_numbers_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path().join("hfs.db"), SqliteOptions::default()).unwrap();
        let (make, draft) = (Drafts::new(1), Drafts::new(1).session("s"));
        store.create_session(&draft).unwrap();
        let mark = |number| {
            let draft = make.checkpoint(at(draft.main_branch, 0), growing_state(number));
            store.create_checkpoint(&draft, 1000).unwrap();
        };
        (0..6).for_each(mark);
        let earlier = "UPDATE state SET followers = CASE WHEN base IS NULL THEN 5 ELSE 0 END";
        store.db.write("test", move |conn| Ok(conn.execute(earlier, [])?)).unwrap();
        (6..11).for_each(mark);
        let rows = store.db.read("look", |conn| {
            let mut rows = conn.prepare("SELECT base, followers FROM state ORDER BY no")?;
            let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<rusqlite::Result<Vec<(Option<i64>, i64)>>>()?)
        });
        let first = Some(1);
        let expected = [(first, 6), (first, 7), (first, 8), (first, 9), (None, 0)];
        assert_eq!(rows.unwrap()[6..], expected);
    }
}
