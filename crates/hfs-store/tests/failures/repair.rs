//! Repair mends what can be mended, loses only what is damaged, and says what that was.

use std::fs;

use hfs_core::{ErrorExt, ErrorKind, Maintenance, SearchIndex, SearchQuery, Store};

use crate::damage::{read_everything, sample};
use crate::{all_sessions, assert_well, history, try_open};

/// Pages of the sample's database.
const PAGE: usize = 4096;

#[test]
fn a_well_store_needs_no_repair() {
    let (_home, path) = sample(2);
    let store = try_open(&path).unwrap();
    let before = store.verify().unwrap();
    assert_eq!(store.repair().unwrap(), []);
    assert_eq!(store.verify().unwrap(), before);
}

#[test]
fn whatever_is_damaged_the_repaired_store_is_well_and_most_is_left() {
    let (_home, path) = sample(6);
    let whole = fs::read(&path).unwrap();
    let (mut opened, mut messages, mut of) = (0, 0, 0);
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..30 {
        let place = tempfile::tempdir().unwrap();
        let copy = place.path().join("hfs.db");
        let mut bytes = whole.clone();
        // A whole page is zeroed, or a stretch of one overwritten; never the first, without which nothing is left.
        let page = rng.usize(1..whole.len() / PAGE) * PAGE;
        if round % 2 == 0 {
            bytes[page..page + PAGE].fill(0);
        } else {
            let from = page + rng.usize(0..PAGE - 300);
            bytes[from..from + 300].iter_mut().for_each(|byte| *byte = rng.u8(..));
        }
        fs::write(&copy, &bytes).unwrap();
        let store = match try_open(&copy) {
            Ok(store) => store,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                continue;
            }
        };
        let damaged = !store.verify().unwrap().is_ok();
        let told = store.repair().unwrap();
        assert_eq!(damaged, !told.is_empty(), "what was done is told: {told:?}");
        assert_well(&store);
        read_everything(&store).unwrap();
        let again = try_open(&copy).unwrap();
        assert_well(&again);
        opened += 1;
        of += 6 * 62;
        messages += again.info().unwrap().messages;
    }
    assert!(opened > 20, "{opened} of 30 could be opened");
    assert!(messages * 10 > of * 8, "{messages} of {of} messages are left");
}

#[test]
fn a_lost_text_index_is_built_again_without_losing_a_word() {
    let (_home, path) = sample(2);
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch("DELETE FROM message_text_data WHERE id > 1").unwrap();
    drop(conn);
    let store = try_open(&path).unwrap();
    assert!(!store.verify().unwrap().is_ok());
    assert!(!store.repair().unwrap().is_empty());
    assert_well(&store);
    let query = SearchQuery { text: "line".into(), limit: 1000, ..SearchQuery::default() };
    assert_eq!(store.search(&query).unwrap().total, 120);
    assert!(all_sessions(&store).unwrap().iter().all(|session| history(&store, session).len() == 21));
}

#[test]
fn a_broken_state_costs_its_checkpoint_only() {
    let (_home, path) = sample(2);
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute_batch("UPDATE state SET data = zeroblob(length(data)) WHERE base IS NOT NULL").unwrap();
    let broken: u64 = conn
        .query_row(
            "SELECT count(*) FROM checkpoint JOIN state ON state.no = state WHERE base IS NOT NULL",
            [],
            |row| row.get(0),
        )
        .unwrap();
    drop(conn);
    assert!(broken > 0);
    let store = try_open(&path).unwrap();
    let before = store.info().unwrap();
    assert!(!store.verify().unwrap().is_ok());
    store.repair().unwrap();
    assert_well(&store);
    let after = store.info().unwrap();
    assert_eq!(after.checkpoints, before.checkpoints - broken);
    assert_eq!((after.sessions, after.messages), (before.sessions, before.messages));
    read_everything(&store as &dyn Store).unwrap();
}
