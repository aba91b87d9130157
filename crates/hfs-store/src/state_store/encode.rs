//! Encodes a state as a delta to the session's newest keyframe, or as the next keyframe, and inserts it.

use std::sync::Arc;

use hfs_core::{CheckpointState, ContentHash};
use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::compression::{self, DeltaBase};
use crate::db::Database;
use crate::error::Result;
use crate::state_store::streaming_encoder::{self, Serialized};
use crate::state_store::{KeyframeCache, compression_failed, find_keyframe, hash_of, newest_keyframe};

/// Maximum number of deltas per keyframe. A keyframe and its deltas are at most 10 states, which is the default number
/// of automatic checkpoints that a session keeps.
const MAX_DELTAS: i64 = 9;
/// States of at most this many bytes are never stored as deltas. A delta can keep its keyframe in the database after
/// the keyframe's own checkpoint is deleted. For small states, that takes more space than the delta saves.
const MIN_DELTA_STATE_SIZE: usize = 1024;
/// A compressed keyframe must be at least this many times as large as a delta to it. Otherwise the state becomes the
/// next keyframe.
const MIN_SIZE_RATIO: usize = 4;

/// The canonical JSON of a state, and its hash.
#[derive(Debug)]
pub(super) struct CanonicalState {
    pub(super) hash: ContentHash,
    pub(super) bytes: Arc<Vec<u8>>,
}

impl CanonicalState {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { hash: hash_of(&bytes), bytes: Arc::new(bytes) }
    }
}

/// The keyframe that the next state of a session may be a delta to.
#[derive(Debug)]
pub(super) struct Keyframe {
    no: i64,
    hash: ContentHash,
    stored_size: usize,
    /// Number of deltas that have been encoded to it.
    deltas: i64,
    pub(super) base: Arc<DeltaBase>,
}

impl Keyframe {
    /// Returns the session's newest keyframe, or `None` if it already has the maximum number of deltas.
    fn current(conn: &Connection, session: i64, keyframes: &KeyframeCache) -> Result<Option<Self>> {
        let newest = newest_keyframe(conn, session)?.filter(|(_, deltas)| *deltas < MAX_DELTAS);
        let Some((row, deltas)) = newest else { return Ok(None) };
        let base = keyframes.get_or_restore(conn, &row)?;
        Ok(Some(Self { no: row.no, hash: row.hash, stored_size: row.stored_size, deltas, base }))
    }
}

/// The columns of a new row that depend on the session's earlier states.
#[derive(Debug)]
struct NewRow {
    /// Row number and hash of the keyframe, if this is a delta. The hash is compared before the row is inserted,
    /// because SQLite may have reused the number for another state.
    base: Option<(i64, ContentHash)>,
    /// Position among the deltas to the keyframe, counted from 1; 0 for a keyframe.
    delta_number: i64,
    data: Vec<u8>,
}

impl NewRow {
    fn encode(
        conn: &Connection,
        session: i64,
        state: &CanonicalState,
        keyframes: &KeyframeCache,
    ) -> Result<Self> {
        if state.bytes.len() > MIN_DELTA_STATE_SIZE
            && let Some(keyframe) = Keyframe::current(conn, session, keyframes)?
        {
            let data =
                compression::compress_delta(&keyframe.base, &state.bytes).map_err(compression_failed)?;
            if let Some(row) = Self::delta(&keyframe, data) {
                return Ok(row);
            }
        }
        Self::keyframe(state, keyframes)
    }

    /// Returns `None` if the delta is too large.
    fn delta(keyframe: &Keyframe, data: Vec<u8>) -> Option<Self> {
        let (base, delta_number) = (Some((keyframe.no, keyframe.hash)), keyframe.deltas + 1);
        is_small_enough(&data, keyframe.stored_size).then_some(Self { base, delta_number, data })
    }

    fn keyframe(state: &CanonicalState, keyframes: &KeyframeCache) -> Result<Self> {
        let data = compression::compress(&state.bytes).map_err(compression_failed)?;
        // The session's next states will be deltas to this one.
        keyframes.put(state.hash, Arc::clone(&state.bytes));
        Ok(Self { base: None, delta_number: 0, data })
    }

    /// Whether the row can be inserted: it is a keyframe, or the keyframe of this delta still exists.
    fn is_valid(&self, conn: &Connection) -> Result<bool> {
        self.base.map_or(Ok(true), |(no, hash)| Ok(find_keyframe(conn, hash)? == Some(no)))
    }
}

/// Whether a delta is small enough compared to its compressed keyframe.
pub(super) const fn is_small_enough(delta: &[u8], keyframe_stored_size: usize) -> bool {
    delta.len().saturating_mul(MIN_SIZE_RATIO) <= keyframe_stored_size
}

/// A state that is ready to be inserted.
#[derive(Debug)]
pub(crate) struct EncodedState {
    state: CanonicalState,
    /// `None` for small states, and if an equal state is stored. [`insert`] then encodes the row if it needs one.
    row: Option<NewRow>,
}

/// Encodes a state for a session. `session` returns the session's row number; it is called for large states only.
///
/// Compressing a large state takes milliseconds, so it is done here, before the write transaction. A small state is
/// compressed by [`insert`], inside the write transaction: compressing it here would need a read transaction to look up
/// its keyframe, which takes as long as the compression itself.
pub(crate) fn encode(
    db: &Database,
    keyframes: &KeyframeCache,
    state: &CheckpointState,
    session: impl FnOnce(&Connection) -> Result<i64>,
) -> Result<EncodedState> {
    let keyframe = || db.try_read(|conn| Keyframe::current(conn, session(conn)?, keyframes));
    let (state, delta) = match streaming_encoder::serialize(state, keyframe)? {
        Serialized::Small(state) => return Ok(EncodedState { state, row: None }),
        Serialized::Large { state, delta } => (state, delta),
    };
    let row = delta.and_then(|(keyframe, data)| NewRow::delta(&keyframe, data));
    if row.is_some() || db.try_read(|conn| find(conn, state.hash))?.is_some() {
        return Ok(EncodedState { state, row });
    }
    let row = Some(NewRow::keyframe(&state, keyframes)?);
    Ok(EncodedState { state, row })
}

/// The row that holds a state.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredState {
    pub(crate) no: i64,
    pub(crate) hash: ContentHash,
    /// Size of the state in bytes.
    pub(crate) size: usize,
    /// Size of the compressed data in bytes.
    pub(crate) stored: usize,
}

/// Returns the row of an equal state, or inserts a new one.
pub(crate) fn insert(
    conn: &Connection,
    session: i64,
    encoded: &EncodedState,
    keyframes: &KeyframeCache,
) -> Result<StoredState> {
    let state = &encoded.state;
    let stored_state = |no, stored| StoredState { no, hash: state.hash, size: state.bytes.len(), stored };
    if let Some((no, stored)) = find(conn, state.hash)? {
        return Ok(stored_state(no, stored));
    }
    let new;
    let row = match &encoded.row {
        Some(row) if row.is_valid(conn)? => row,
        // A small state has no row yet. For a large one, another writer may have deleted the keyframe or the equal
        // state after `encode`.
        _ => {
            new = NewRow::encode(conn, session, state, keyframes)?;
            &new
        }
    };
    let base = row.base.map(|(no, _)| no);
    conn.prepare_cached("INSERT INTO state (hash, size, base, followers, data) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![state.hash.as_bytes(), state.bytes.len(), base, row.delta_number, row.data])?;
    Ok(stored_state(conn.last_insert_rowid(), row.data.len()))
}

/// Returns the number and the stored size of the state with this hash.
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

    use crate::db::options::SqliteOptions;
    use crate::sqlite::SqliteStore;

    /// Earlier versions stored the number of deltas in the keyframe's row, and did not number the deltas.
    #[test]
    fn deltas_of_versions_that_did_not_number_them_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path().join("hfs.db"), SqliteOptions::default()).unwrap();
        let (make, draft) = (Drafts::new(1), Drafts::new(1).session("s"));
        store.create_session(&draft).unwrap();
        let checkpoint = |number| {
            let draft = make.checkpoint(at(draft.main_branch, 0), growing_state(number));
            store.create_checkpoint(&draft, 1000).unwrap();
        };
        (0..6).for_each(checkpoint);
        let earlier = "UPDATE state SET followers = CASE WHEN base IS NULL THEN 5 ELSE 0 END";
        store.db.write("test", move |conn| Ok(conn.execute(earlier, [])?)).unwrap();
        (6..11).for_each(checkpoint);
        let rows = store.db.read("test", |conn| {
            let mut rows = conn.prepare("SELECT base, followers FROM state ORDER BY no")?;
            let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<rusqlite::Result<Vec<(Option<i64>, i64)>>>()?)
        });
        let first = Some(1);
        let expected = [(first, 6), (first, 7), (first, 8), (first, 9), (None, 0)];
        assert_eq!(rows.unwrap()[6..], expected);
    }
}
