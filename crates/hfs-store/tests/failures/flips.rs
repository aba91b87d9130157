//! Single bits that are not what was written.

use std::fs;

use hfs_core::{Maintenance, Store};

use crate::damage::{read_everything, sample};
use crate::{all_sessions, history, try_open};

/// Everything that a user reads of a store.
fn words(store: &dyn Store) -> String {
    let sessions = all_sessions(store).unwrap();
    let messages = sessions.iter().flat_map(|session| history(store, session));
    messages.map(|message| format!("{message:?}\n")).chain([format!("{sessions:?}")]).collect()
}

#[test]
fn what_verify_calls_well_reads_as_it_was_written() {
    let (_home, path) = sample(2);
    let said = words(&try_open(&path).unwrap());
    let whole = fs::read(&path).unwrap();
    let mut rng = fastrand::Rng::with_seed(5);
    let mut found = 0;
    for flip in 0..300 {
        let (at, bit) = (rng.usize(0..whole.len()), rng.u8(0..8));
        let place = tempfile::tempdir().unwrap();
        let copy = place.path().join("hfs.db");
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        fs::write(&copy, &bytes).unwrap();
        let Ok(store) = try_open(&copy) else {
            found += 1;
            continue;
        };
        let verification = store.verify().unwrap();
        let read = read_everything(&store);
        if verification.is_ok() {
            assert!(read.is_ok(), "flip {flip} of bit {bit} at {at} is not found, but {read:?}");
            assert_eq!(words(&store), said, "flip {flip} of bit {bit} at {at} is not found");
        } else {
            found += 1;
        }
    }
    assert!(found > 30, "many of these are found: {found}");
}
