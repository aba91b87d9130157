//! What has been acknowledged survives `kill -9`, and each operation has happened or has not.
//!
//! The processes that are killed are this test binary itself, told by an environment variable what to do.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a failed expectation is a test's own way of speaking; children answer on their output"
)]

mod child;
mod crowd;
mod import;
mod structure;
mod talk;

use std::path::Path;

use hfs_core::Store;
use hfs_store::{SqliteOptions, SqliteStore};

/// How often each kind of child is killed.
const KILLS: u64 = 100;

#[test]
fn acknowledged_words_survive_a_hundred_kills() {
    talk::survive(KILLS);
}

#[test]
fn each_structural_change_happens_or_does_not_in_a_hundred_kills() {
    structure::survive(KILLS);
}

#[test]
fn a_killed_import_is_there_whole_or_not_at_all() {
    import::survive(25);
}

#[test]
fn eight_processes_append_to_one_store_and_to_one_session() {
    crowd::append(0);
}

#[test]
fn processes_that_are_killed_do_not_disturb_the_others() {
    crowd::append(3);
}

/// The part of a child. Does nothing unless a parent has started it.
#[test]
#[ignore = "it is the other side of the tests beside it, which start it"]
fn child() {
    let Some(part) = child::Part::given() else { return };
    match part.play.as_str() {
        "talk" => talk::play(&part),
        "structure" => structure::play(&part),
        "import" => import::play(&part),
        "crowd" => crowd::play(&part, crowd::ROUNDS),
        "endless crowd" => crowd::play(&part, u64::MAX),
        other => panic!("there is no part {other:?}"),
    }
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).unwrap()
}

#[track_caller]
fn assert_well(store: &dyn Store) {
    let verification = store.verify().unwrap();
    assert!(verification.is_ok(), "{:#?}", verification.problems);
}
