//! Random sequences of operations have the same effect on the SQLite store and on the memory store, and both keep these
//! invariants: a checkpoint restores the stored state, the history before a fork does not change, acknowledged data is
//! not lost, and redo after undo restores everything.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod large_states;
mod steps;
mod store_pair;

use std::sync::Arc;

use hfs_store::{Durability, SqliteOptions, SqliteStore};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, proptest};
use testkit::clock::TestClock;

use steps::step;
use store_pair::{OpenStore, StorePair};

/// A new database. The returned function opens it again and again.
fn sqlite() -> OpenStore {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::fixed());
    Box::new(move || {
        let clock = Arc::clone(&clock);
        let options = SqliteOptions { durability: Durability::Fast, clock, ..SqliteOptions::default() };
        Box::new(SqliteStore::open(directory.path().join("hfs.db"), options).unwrap())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 600, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_behave_the_same(steps in vec(step(), 1..80)) {
        let mut pair = StorePair::new(sqlite());
        for (number, step) in steps.iter().enumerate() {
            pair.apply(step);
            if number % 16 == 15 {
                pair.compare();
            }
        }
        pair.compare();
        pair.restart(0);
        pair.restart(1);
        pair.compare();
    }
}
