//! Deletes orphaned keyframes: those to which deltas refer, but no checkpoint and no branch. Their deltas are first
//! encoded to another base.
//!
//! The new rows are encoded before the write transaction, because that takes milliseconds per state. The transaction
//! then checks that the old rows have not changed, and replaces them. A crash before it leaves the orphan. The next
//! deletion of one of its deltas, or a vacuum, tries again.

use std::sync::Arc;

use hfs_core::{ContentHash, StoreResult};
use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::compression::{self, DeltaBase};
use crate::db::Database;
use crate::error::{Error, Result};
use crate::state_store::encode::is_small_enough;
use crate::state_store::{
    KeyframeCache, StateRow, compression_failed, drop_unused, find_keyframe, newest_keyframe,
};

/// Maximum number of attempts. An attempt fails if another writer changes the rows while they are encoded.
const ATTEMPTS: usize = 3;

/// Row numbers of keyframes that only deltas refer to.
pub(crate) type Orphans = Vec<i64>;

/// Deletes orphaned keyframes. Errors are only logged, because an orphan that is left only takes space.
pub(crate) fn release(db: &Database, keyframes: &KeyframeCache, orphans: &Orphans) {
    for orphan in orphans {
        if let Err(error) = release_one(db, keyframes, *orphan) {
            tracing::warn!(%error, "an unused checkpoint state could not be deleted");
        }
    }
}

/// Deletes all orphaned keyframes in the database.
pub(crate) fn release_all(db: &Database, keyframes: &KeyframeCache) -> StoreResult<()> {
    let orphans = db.read("find unused checkpoint states", |conn| {
        let found = conn
            .prepare_cached(
                "SELECT DISTINCT base FROM state WHERE base IS NOT NULL
                    AND NOT EXISTS (SELECT 1 FROM checkpoint WHERE checkpoint.state = state.base)
                    AND NOT EXISTS (SELECT 1 FROM branch WHERE branch.state = state.base)",
            )?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<Orphans>>()?;
        Ok(found)
    })?;
    release(db, keyframes, &orphans);
    Ok(())
}

fn release_one(db: &Database, keyframes: &KeyframeCache, orphan: i64) -> StoreResult<()> {
    for _ in 0..ATTEMPTS {
        let rebase = db.read("read checkpoint states", |conn| Rebase::prepare(conn, orphan, keyframes))?;
        let Some(rebase) = rebase else { return Ok(()) };
        if db.write("store checkpoint states", move |conn| rebase.apply(conn))? {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether a checkpoint or a branch refers to this state.
fn is_referenced(conn: &Connection, no: i64) -> Result<bool> {
    Ok(conn
        .prepare_cached(
            "SELECT 1 FROM checkpoint WHERE state = ?1 UNION ALL SELECT 1 FROM branch WHERE state = ?1",
        )?
        .exists([no])?)
}

/// Row numbers of the deltas to a keyframe, oldest first.
fn deltas_to(conn: &Connection, keyframe: i64) -> Result<Vec<i64>> {
    Ok(conn
        .prepare_cached("SELECT no FROM state WHERE base = ?1 ORDER BY no")?
        .query_map([keyframe], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?)
}

/// The new rows for the deltas of an orphan.
#[derive(Debug)]
struct Rebase {
    orphan: i64,
    /// Number and hash of the keyframe that becomes the new base, unless one of the deltas becomes a keyframe.
    onto: Option<(i64, ContentHash)>,
    rows: Vec<RebasedRow>,
}

#[derive(Debug)]
struct RebasedRow {
    no: i64,
    hash: ContentHash,
    base: Option<i64>,
    data: Vec<u8>,
}

/// A restored delta.
struct RestoredState {
    no: i64,
    hash: ContentHash,
    bytes: Arc<Vec<u8>>,
}

impl Rebase {
    /// Encodes the new rows. Returns `None` if the keyframe is not, or no longer, an orphan.
    fn prepare(conn: &Connection, orphan: i64, keyframes: &KeyframeCache) -> Result<Option<Self>> {
        if is_referenced(conn, orphan)? {
            return Ok(None);
        }
        let numbers = deltas_to(conn, orphan)?;
        let Some(newest) = numbers.last().copied() else { return Ok(None) };
        let base = StateRow::read(conn, orphan)?.restore(conn, None)?;
        let mut states = Vec::with_capacity(numbers.len());
        for no in numbers {
            let row = StateRow::read(conn, no)?;
            let bytes = Arc::new(row.restore(conn, Some(&base))?);
            states.push(RestoredState { no, hash: row.hash, bytes });
        }
        drop(base);
        if let Some(keyframe) = newest_other_keyframe(conn, newest, orphan)? {
            let base = keyframes.get_or_restore(conn, &keyframe)?;
            if let Some(rows) = onto_keyframe(&base, &keyframe, &states)? {
                return Ok(Some(Self { orphan, onto: Some((keyframe.no, keyframe.hash)), rows }));
            }
        }
        Ok(Some(Self { orphan, onto: None, rows: onto_newest(&states)? }))
    }

    /// Replaces the rows and deletes the orphan. Changes nothing if another writer has changed the data in between:
    /// returns `true` if the keyframe is no longer an orphan, and `false` if the rows must be encoded again.
    fn apply(&self, conn: &Connection) -> Result<bool> {
        if is_referenced(conn, self.orphan)? {
            return Ok(true);
        }
        let base_exists = match self.onto {
            Some((no, hash)) => find_keyframe(conn, hash)? == Some(no),
            None => true,
        };
        let encoded: Vec<i64> = self.rows.iter().map(|row| row.no).collect();
        if !base_exists || deltas_to(conn, self.orphan)? != encoded {
            return Ok(false);
        }
        // Keyframes first, because the deltas may refer to them.
        let (keyframes, deltas): (Vec<_>, Vec<_>) = self.rows.iter().partition(|row| row.base.is_none());
        for row in keyframes.into_iter().chain(deltas) {
            // The column `followers` holds the delta number (`NewRow::delta_number`). It is 0 here, so that rebased
            // deltas do not count toward the maximum number of deltas.
            let changed = conn
                .prepare_cached(
                    "UPDATE state SET base = ?3, followers = 0, data = ?4 WHERE no = ?1 AND hash = ?2",
                )?
                .execute(params![row.no, row.hash.as_bytes(), row.base, row.data])?;
            if changed != 1 {
                return Err(Error::Internal(format!("state number {} has changed during a rebase", row.no)));
            }
        }
        drop_unused(conn, self.orphan)?;
        Ok(true)
    }
}

/// Returns the newest keyframe of the delta's session, or `None` if that is the orphan.
fn newest_other_keyframe(conn: &Connection, delta: i64, orphan: i64) -> Result<Option<StateRow>> {
    let session: Option<i64> = conn
        .prepare_cached(
            "SELECT session FROM checkpoint WHERE state = ?1 UNION ALL
                SELECT session FROM branch WHERE state = ?1 LIMIT 1",
        )?
        .query_row([delta], |row| row.get(0))
        .optional()?;
    let newest = session.map(|session| newest_keyframe(conn, session)).transpose()?.flatten();
    Ok(newest.map(|(keyframe, _)| keyframe).filter(|keyframe| keyframe.no != orphan))
}

/// Encodes the states as deltas to a keyframe. Returns `None` if one of the deltas is too large.
fn onto_keyframe(
    base: &DeltaBase,
    keyframe: &StateRow,
    states: &[RestoredState],
) -> Result<Option<Vec<RebasedRow>>> {
    let mut rows = Vec::with_capacity(states.len());
    for state in states {
        let data = compression::compress_delta(base, &state.bytes).map_err(compression_failed)?;
        if !is_small_enough(&data, keyframe.stored_size) {
            return Ok(None);
        }
        rows.push(RebasedRow { no: state.no, hash: state.hash, base: Some(keyframe.no), data });
    }
    Ok(Some(rows))
}

/// Encodes the newest state as a keyframe. The others become deltas to it, or keyframes if their deltas are too large.
fn onto_newest(states: &[RestoredState]) -> Result<Vec<RebasedRow>> {
    let Some((newest, others)) = states.split_last() else { return Ok(Vec::new()) };
    let keyframe_row = |state: &RestoredState| -> Result<RebasedRow> {
        let data = compression::compress(&state.bytes).map_err(compression_failed)?;
        Ok(RebasedRow { no: state.no, hash: state.hash, base: None, data })
    };
    let keyframe = keyframe_row(newest)?;
    let base = DeltaBase::new(Arc::clone(&newest.bytes));
    let mut rows = Vec::with_capacity(states.len());
    for state in others {
        let data = compression::compress_delta(&base, &state.bytes).map_err(compression_failed)?;
        rows.push(if is_small_enough(&data, keyframe.data.len()) {
            RebasedRow { no: state.no, hash: state.hash, base: Some(newest.no), data }
        } else {
            keyframe_row(state)?
        });
    }
    rows.push(keyframe);
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use hfs_core::{CheckpointId, CheckpointState, CheckpointStore as _, Maintenance as _, Position};
    use hfs_core::{SessionStore as _, Timestamp};
    use testkit::builders::{Drafts, at, growing_state, state_of};

    use super::*;
    use crate::db::options::SqliteOptions;
    use crate::sqlite::SqliteStore;

    struct Fixture {
        store: SqliteStore,
        make: Drafts,
        main: Position,
        directory: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("hfs.db");
            let store = SqliteStore::open(path, SqliteOptions::default()).unwrap();
            let make = Drafts::new(1);
            let draft = make.session("s");
            store.create_session(&draft).unwrap();
            Self { store, make, main: at(draft.main_branch, 0), directory }
        }

        fn checkpoint(&self, state: &CheckpointState, retention: u32) -> CheckpointId {
            let draft = self.make.checkpoint(self.main, state.clone());
            self.store.create_checkpoint(&draft, retention).unwrap().id
        }

        fn read<T>(&self, body: impl FnOnce(&Connection) -> Result<T>) -> T {
            self.store.db.read("test", body).unwrap()
        }

        fn prepare(&self, orphan: i64) -> Rebase {
            self.read(|conn| Rebase::prepare(conn, orphan, &self.store.keyframes)).unwrap()
        }

        fn apply(&self, rebase: Rebase) -> bool {
            self.store.db.write("test", move |conn| rebase.apply(conn)).unwrap()
        }

        /// Deletes only the checkpoint's row, like a process that crashes in the middle of a deletion. Returns the
        /// number of its state.
        fn delete_row_only(&self, id: CheckpointId) -> i64 {
            let state = self.store.db.write("test", move |conn| {
                conn.execute("UPDATE activity SET checkpoints = checkpoints - 1", [])?;
                let mut delete = conn.prepare("DELETE FROM checkpoint WHERE id = ?1 RETURNING state")?;
                Ok(delete.query_row([id.as_uuid().as_bytes()], |row| row.get(0))?)
            });
            state.unwrap()
        }

        /// Number and base of each state.
        fn bases(&self) -> Vec<(i64, Option<i64>)> {
            self.read(|conn| {
                let mut rows = conn.prepare("SELECT no, base FROM state ORDER BY no")?;
                let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(rows.collect::<rusqlite::Result<_>>()?)
            })
        }

        #[track_caller]
        fn assert_intact(&self, kept: &[(CheckpointId, CheckpointState)]) {
            let verification = self.store.verify().unwrap();
            assert!(verification.is_ok(), "{:#?}", verification.problems);
            for (id, state) in kept {
                assert_eq!(&self.store.load_state(*id).unwrap(), state);
            }
        }
    }

    /// Checkpoints of similar states of 70 KB, which are stored as binary deltas.
    fn checkpoints(
        fixture: &Fixture,
        numbers: impl IntoIterator<Item = usize>,
    ) -> Vec<(CheckpointId, CheckpointState)> {
        numbers
            .into_iter()
            .map(|number| random_state(7, 2000 + number))
            .map(|state| (fixture.checkpoint(&state, 1000), state))
            .collect()
    }

    /// A state with this many entries. States of different seeds share no entries.
    fn random_state(seed: u64, entries: usize) -> CheckpointState {
        let mut random = fastrand::Rng::with_seed(seed);
        let entries: Vec<String> = (0..entries).map(|_| format!("{:032x}", random.u128(..))).collect();
        state_of(&entries.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn deltas_to_a_deleted_keyframe_move_to_the_newest_keyframe() {
        let fixture = Fixture::new();
        let checkpoints = checkpoints(&fixture, 0..12);
        let newest = Some(11);
        assert_eq!(fixture.bases()[9..], [(10, Some(1)), (11, None), (12, newest)]);
        fixture.store.delete_checkpoint(checkpoints[0].0, Timestamp::UNIX_EPOCH).unwrap();
        let expected: Vec<_> = (2..=12).map(|no| (no, if no == 11 { None } else { newest })).collect();
        assert_eq!(fixture.bases(), expected);
        fixture.assert_intact(&checkpoints[1..]);
    }

    #[test]
    fn without_another_keyframe_the_newest_delta_becomes_one() {
        let fixture = Fixture::new();
        let checkpoints = checkpoints(&fixture, 0..4);
        fixture.store.delete_checkpoint(checkpoints[0].0, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(fixture.bases(), [(2, Some(4)), (3, Some(4)), (4, None)]);
        fixture.assert_intact(&checkpoints[1..]);
    }

    #[test]
    fn deltas_that_differ_from_the_newest_keyframe_get_their_own() {
        let fixture = Fixture::new();
        let states = [random_state(1, 100), random_state(1, 101), random_state(1, 102), random_state(2, 100)];
        let checkpoints: Vec<_> =
            states.into_iter().map(|state| (fixture.checkpoint(&state, 1000), state)).collect();
        fixture.store.delete_checkpoint(checkpoints[0].0, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(fixture.bases(), [(2, Some(3)), (3, None), (4, None)]);
        fixture.assert_intact(&checkpoints[1..]);
    }

    #[test]
    fn rows_that_were_encoded_from_outdated_data_are_not_written() {
        let fixture = Fixture::new();
        let checkpoints = checkpoints(&fixture, 0..6);
        let orphan = fixture.delete_row_only(checkpoints[0].0);
        let outdated = fixture.prepare(orphan);
        fixture.store.delete_checkpoint(checkpoints[2].0, Timestamp::UNIX_EPOCH).unwrap();
        assert!(
            !fixture.bases().iter().any(|(no, _)| *no == orphan),
            "the deletion of a delta also deletes the orphan"
        );
        assert!(!fixture.apply(outdated), "the orphan has no deltas any more");
        let left = [&checkpoints[1..2], &checkpoints[3..]].concat();
        fixture.assert_intact(&left);
    }

    #[test]
    fn a_keyframe_that_is_referenced_again_stays() {
        let fixture = Fixture::new();
        let mut checkpoints = checkpoints(&fixture, 0..3);
        let orphan = fixture.delete_row_only(checkpoints[0].0);
        let rebase = fixture.prepare(orphan);
        let before = fixture.bases();
        checkpoints[0].0 = fixture.checkpoint(&checkpoints[0].1, 1000);
        assert!(fixture.apply(rebase));
        assert_eq!(fixture.bases(), before);
        fixture.assert_intact(&checkpoints);
    }

    #[test]
    fn a_vacuum_deletes_orphans_that_a_crash_left() {
        let fixture = Fixture::new();
        let checkpoints = checkpoints(&fixture, 0..15);
        let orphans = [fixture.delete_row_only(checkpoints[0].0), fixture.delete_row_only(checkpoints[10].0)];
        fixture.store.vacuum().unwrap();
        assert!(!fixture.bases().iter().any(|(no, _)| orphans.contains(no)));
        fixture.assert_intact(&[&checkpoints[1..10], &checkpoints[11..]].concat());
    }

    #[test]
    fn the_file_shrinks_when_checkpoints_are_pruned() {
        let fixture = Fixture::new();
        for seed in 0..20 {
            fixture.checkpoint(&random_state(seed, 8000), 1000);
        }
        let path = fixture.directory.path().join("hfs.db");
        let size = || {
            // Moves the content of the WAL into the file.
            let conn = Connection::open(&path).unwrap();
            conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            std::fs::metadata(&path).unwrap().len()
        };
        let before = size();
        fixture.checkpoint(&growing_state(1), 1);
        let after = size();
        assert!(before > 2_500_000 && after < 2_000_000, "{before} bytes, then {after}");
    }
}
