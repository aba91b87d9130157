//! Letting go of keyframes whose own state is not needed any more: what was stored as a difference to one becomes
//! a difference to another.
//!
//! The frames are made outside of any transaction, for that takes its time, and put in their places within one.
//! Whoever dies in between leaves a keyframe that is kept without need, which the next removal near it (or a
//! vacuum) finds.

use std::sync::Arc;

use hfs_core::{ContentHash, StoreResult};
use rusqlite::{Connection, OptionalExtension, params};

use super::packing::is_worthwhile;
use super::{KeyframeCache, Row, bug, drop_unused, find_keyframe, newest_keyframe};
use crate::db::Database;
use crate::error::{Error, Result};
use crate::state_store::delta::{self, Base};

/// How often the frames are made anew when somebody else has changed what they stand on.
const ATTEMPTS: usize = 3;

/// Keyframes whose own states nothing refers to any more, though differences to them exist.
pub(crate) type Orphans = Vec<i64>;

/// Finds another base for what depends on these, and removes them. A failure costs no more than the space that
/// they take, and is only noted.
pub(crate) fn release(db: &Database, keyframes: &KeyframeCache, orphans: &Orphans) {
    for orphan in orphans {
        if let Err(error) = release_one(db, keyframes, *orphan) {
            tracing::warn!(%error, "a checkpoint state that is not needed any more could not be let go of");
        }
    }
}

/// The same for all that there are.
pub(crate) fn release_all(db: &Database, keyframes: &KeyframeCache) -> StoreResult<()> {
    let orphans = db.read("look for states without need", |conn| {
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
        let plan = db.read("read checkpoint states", |conn| Plan::make(conn, orphan, keyframes))?;
        let Some(plan) = plan else { return Ok(()) };
        if db.write("store checkpoint states", move |conn| plan.carry_out(conn))? {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether a checkpoint or a branch refers to the state itself.
fn is_needed(conn: &Connection, no: i64) -> Result<bool> {
    Ok(conn
        .prepare_cached(
            "SELECT 1 FROM checkpoint WHERE state = ?1 UNION ALL SELECT 1 FROM branch WHERE state = ?1",
        )?
        .exists([no])?)
}

/// The numbers of the differences to a keyframe, in the order in which they came.
fn followers(conn: &Connection, keyframe: i64) -> Result<Vec<i64>> {
    Ok(conn
        .prepare_cached("SELECT no FROM state WHERE base = ?1 ORDER BY no")?
        .query_map([keyframe], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?)
}

/// What becomes of an orphan's followers.
#[derive(Debug)]
struct Plan {
    orphan: i64,
    /// The keyframe that exists already, where they move to that.
    onto: Option<(i64, ContentHash)>,
    moved: Vec<Moved>,
}

/// A state in its new form.
#[derive(Debug)]
struct Moved {
    no: i64,
    hash: ContentHash,
    base: Option<i64>,
    frame: Vec<u8>,
}

/// A follower's bytes.
struct Follower {
    no: i64,
    hash: ContentHash,
    bytes: Arc<Vec<u8>>,
}

impl Plan {
    /// What is to be done; `None` when there is nothing.
    fn make(conn: &Connection, orphan: i64, keyframes: &KeyframeCache) -> Result<Option<Self>> {
        if is_needed(conn, orphan)? {
            return Ok(None);
        }
        let numbers = followers(conn, orphan)?;
        let Some(newest) = numbers.last().copied() else { return Ok(None) };
        let prefix = Row::read(conn, orphan)?.open(conn, None)?;
        let mut states = Vec::with_capacity(numbers.len());
        for no in numbers {
            let row = Row::read(conn, no)?;
            let bytes = Arc::new(row.open(conn, Some(&prefix))?);
            states.push(Follower { no, hash: row.hash, bytes });
        }
        drop(prefix);
        if let Some(keyframe) = neighbour(conn, newest, orphan)? {
            let (base, onto) = (keyframes.keyframe(conn, &keyframe)?, Some((keyframe.no, keyframe.hash)));
            if let Some(moved) = onto_keyframe(&base, &keyframe, &states)? {
                return Ok(Some(Self { orphan, onto, moved }));
            }
        }
        Ok(Some(Self { orphan, onto: None, moved: among_themselves(&states)? }))
    }

    /// Whether that could be done: others may have changed what it stands on.
    fn carry_out(&self, conn: &Connection) -> Result<bool> {
        if is_needed(conn, self.orphan)? {
            return Ok(true);
        }
        let stands = match self.onto {
            Some((no, hash)) => find_keyframe(conn, hash)? == Some(no),
            None => true,
        };
        // Fewer than were read may be left, and more may have come: both are for another plan.
        let read: Vec<i64> = self.moved.iter().map(|moved| moved.no).collect();
        if !stands || followers(conn, self.orphan)? != read {
            return Ok(false);
        }
        // Keyframes first: the others may refer to them.
        let (whole, differences): (Vec<_>, Vec<_>) =
            self.moved.iter().partition(|moved| moved.base.is_none());
        for moved in whole.into_iter().chain(differences) {
            // Those that have moved are not counted: their keyframe has room for as many new ones as any.
            let changed = conn
                .prepare_cached(
                    "UPDATE state SET base = ?3, followers = 0, data = ?4 WHERE no = ?1 AND hash = ?2",
                )?
                .execute(params![moved.no, moved.hash.as_bytes(), moved.base, moved.frame])?;
            if changed != 1 {
                return Err(Error::Internal(format!("state number {} is another by now", moved.no)));
            }
        }
        drop_unused(conn, self.orphan)?;
        Ok(true)
    }
}

/// The newest keyframe of the session that a follower belongs to, unless that is the orphan itself.
fn neighbour(conn: &Connection, follower: i64, orphan: i64) -> Result<Option<Row>> {
    let session: Option<i64> = conn
        .prepare_cached(
            "SELECT session FROM checkpoint WHERE state = ?1 UNION ALL
                SELECT session FROM branch WHERE state = ?1 LIMIT 1",
        )?
        .query_row([follower], |row| row.get(0))
        .optional()?;
    let newest = session.map(|session| newest_keyframe(conn, session)).transpose()?.flatten();
    Ok(newest.map(|(keyframe, _)| keyframe).filter(|keyframe| keyframe.no != orphan))
}

/// The states as differences to a keyframe, if each of them is like it.
fn onto_keyframe(base: &Base, keyframe: &Row, states: &[Follower]) -> Result<Option<Vec<Moved>>> {
    let mut moved = Vec::with_capacity(states.len());
    for state in states {
        let frame = delta::difference(base, &state.bytes).map_err(bug)?;
        if !is_worthwhile(&frame, keyframe.stored) {
            return Ok(None);
        }
        moved.push(Moved { no: state.no, hash: state.hash, base: Some(keyframe.no), frame });
    }
    Ok(Some(moved))
}

/// The newest of the states as a keyframe, and the others as differences to it where they are like it.
fn among_themselves(states: &[Follower]) -> Result<Vec<Moved>> {
    let Some((keyframe, others)) = states.split_last() else { return Ok(Vec::new()) };
    let whole = |state: &Follower| -> Result<Moved> {
        let frame = delta::compress(&state.bytes).map_err(bug)?;
        Ok(Moved { no: state.no, hash: state.hash, base: None, frame })
    };
    let first = whole(keyframe)?;
    let base = Base::new(Arc::clone(&keyframe.bytes));
    let mut moved = Vec::with_capacity(states.len());
    for state in others {
        let frame = delta::difference(&base, &state.bytes).map_err(bug)?;
        moved.push(if is_worthwhile(&frame, first.frame.len()) {
            Moved { no: state.no, hash: state.hash, base: Some(keyframe.no), frame }
        } else {
            whole(state)?
        });
    }
    moved.push(first);
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use hfs_core::{CheckpointId, CheckpointState, CheckpointStore as _, Maintenance as _, Position};
    use hfs_core::{SessionStore as _, Timestamp};
    use testkit::builders::{Drafts, at, growing_state, state_of};

    use super::*;
    use crate::db::options::SqliteOptions;
    use crate::sqlite::SqliteStore;

    struct Scene {
        store: SqliteStore,
        make: Drafts,
        main: Position,
        directory: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("hfs.db");
            let store = SqliteStore::open(path, SqliteOptions::default()).unwrap();
            let make = Drafts::new(1);
            let draft = make.session("s");
            store.create_session(&draft).unwrap();
            Self { store, make, main: at(draft.main_branch, 0), directory }
        }

        fn mark(&self, state: &CheckpointState, retention: u32) -> CheckpointId {
            let draft = self.make.checkpoint(self.main, state.clone());
            self.store.create_checkpoint(&draft, retention).unwrap().id
        }

        fn read<T>(&self, body: impl FnOnce(&Connection) -> Result<T>) -> T {
            self.store.db.read("look", body).unwrap()
        }

        /// Takes the checkpoint's row away, as one that dies in the middle of a removal does.
        fn forget(&self, id: CheckpointId) -> i64 {
            let forgotten = self.store.db.write("forget", move |conn| {
                conn.execute("UPDATE activity SET checkpoints = checkpoints - 1", [])?;
                let mut forget = conn.prepare("DELETE FROM checkpoint WHERE id = ?1 RETURNING state")?;
                Ok(forget.query_row([id.as_uuid().as_bytes()], |row| row.get(0))?)
            });
            forgotten.unwrap()
        }

        /// The number of each state and of what it is a difference to.
        fn bases(&self) -> Vec<(i64, Option<i64>)> {
            self.read(|conn| {
                let mut found = conn.prepare("SELECT no, base FROM state ORDER BY no")?;
                let found = found.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Ok(found.collect::<rusqlite::Result<_>>()?)
            })
        }

        #[track_caller]
        fn assert_well(&self, kept: &[(CheckpointId, CheckpointState)]) {
            let verification = self.store.verify().unwrap();
            assert!(verification.is_ok(), "{:#?}", verification.problems);
            for (id, state) in kept {
                assert_eq!(&self.store.load_state(*id).unwrap(), state);
            }
        }
    }

    /// States of 70 KB, which are stored as scripts of copies.
    fn marks(scene: &Scene, states: impl IntoIterator<Item = usize>) -> Vec<(CheckpointId, CheckpointState)> {
        states
            .into_iter()
            .map(|number| noise(7, 2000 + number))
            .map(|state| (scene.mark(&state, 1000), state))
            .collect()
    }

    /// So many entries that no two seeds share.
    fn noise(seed: u64, entries: usize) -> CheckpointState {
        let mut random = fastrand::Rng::with_seed(seed);
        let entries: Vec<String> = (0..entries).map(|_| format!("{:032x}", random.u128(..))).collect();
        state_of(&entries.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn differences_to_a_keyframe_that_goes_move_to_the_newest_one() {
        let scene = Scene::new();
        let marks = marks(&scene, 0..12);
        let ten = Some(11);
        assert_eq!(scene.bases()[9..], [(10, Some(1)), (11, None), (12, ten)]);
        scene.store.delete_checkpoint(marks[0].0, Timestamp::UNIX_EPOCH).unwrap();
        let expected: Vec<_> = (2..=12).map(|no| (no, if no == 11 { None } else { ten })).collect();
        assert_eq!(scene.bases(), expected);
        scene.assert_well(&marks[1..]);
    }

    #[test]
    fn without_another_keyframe_the_newest_difference_becomes_one() {
        let scene = Scene::new();
        let marks = marks(&scene, 0..4);
        scene.store.delete_checkpoint(marks[0].0, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(scene.bases(), [(2, Some(4)), (3, Some(4)), (4, None)]);
        scene.assert_well(&marks[1..]);
    }

    #[test]
    fn states_that_are_unlike_the_newest_keyframe_stay_among_themselves() {
        let scene = Scene::new();
        let states = [noise(1, 100), noise(1, 101), noise(1, 102), noise(2, 100)];
        let marks: Vec<_> = states.into_iter().map(|state| (scene.mark(&state, 1000), state)).collect();
        scene.store.delete_checkpoint(marks[0].0, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(scene.bases(), [(2, Some(3)), (3, None), (4, None)]);
        scene.assert_well(&marks[1..]);
    }

    #[test]
    fn a_plan_that_others_have_overtaken_is_made_anew() {
        let scene = Scene::new();
        let marks = marks(&scene, 0..6);
        let orphan = scene.forget(marks[0].0);
        let stale = scene.read(|conn| Plan::make(conn, orphan, &scene.store.keyframes)).unwrap();
        scene.store.delete_checkpoint(marks[2].0, Timestamp::UNIX_EPOCH).unwrap();
        assert!(!scene.bases().iter().any(|(no, _)| *no == orphan), "who comes by takes it along");
        let done = scene.store.db.write("test", move |conn| stale.carry_out(conn)).unwrap();
        assert!(!done, "its followers are not what they were");
        let left = [&marks[1..2], &marks[3..]].concat();
        scene.assert_well(&left);
    }

    #[test]
    fn a_keyframe_that_is_needed_again_stays() {
        let scene = Scene::new();
        let mut marks = marks(&scene, 0..3);
        let orphan = scene.forget(marks[0].0);
        let plan = scene.read(|conn| Plan::make(conn, orphan, &scene.store.keyframes)).unwrap();
        let before = scene.bases();
        marks[0].0 = scene.mark(&marks[0].1, 1000);
        assert!(scene.store.db.write("test", move |conn| plan.carry_out(conn)).unwrap());
        assert_eq!(scene.bases(), before);
        scene.assert_well(&marks);
    }

    #[test]
    fn what_a_crash_left_goes_with_a_vacuum() {
        let scene = Scene::new();
        let marks = marks(&scene, 0..15);
        let left = [scene.forget(marks[0].0), scene.forget(marks[10].0)];
        scene.store.vacuum().unwrap();
        assert!(!scene.bases().iter().any(|(no, _)| left.contains(no)));
        scene.assert_well(&[&marks[1..10], &marks[11..]].concat());
    }

    #[test]
    fn the_file_shrinks_when_checkpoints_are_pruned() {
        let scene = Scene::new();
        for seed in 0..20 {
            scene.mark(&noise(seed, 8000), 1000);
        }
        let size = || {
            // What is in the log reaches the file with the next tidying of it.
            let conn = Connection::open(scene.directory.path().join("hfs.db")).unwrap();
            conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
            std::fs::metadata(scene.directory.path().join("hfs.db")).unwrap().len()
        };
        let full = size();
        scene.mark(&growing_state(1), 1);
        let pruned = size();
        assert!(full > 2_500_000 && pruned < 2_000_000, "{full} bytes, then {pruned}");
    }
}
