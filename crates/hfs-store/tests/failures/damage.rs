//! Files that are not what was stored.

use std::fs;
use std::path::{Path, PathBuf};

use hfs_core::{
    ErrorExt, ErrorKind, Maintenance, MessageRange, OperationKind, SearchQuery, Store, StoreError,
    StoreResult,
};
use rusqlite::Connection;
use tempfile::TempDir;
use testkit::builders::{Drafts, at, attachment, growing_state};

use crate::{all_sessions, head, open, refused, session, try_open};

/// A store with something of everything, closed.
pub fn sample(sessions: u64) -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    let opened = open(&path);
    let store: &dyn Store = &opened;
    let make = Drafts::new(1);
    for number in 0..sessions {
        let one = session(store, &make, &format!("session {number}"), 60);
        let here = head(store, &one);
        let bytes = attachment(&number.to_be_bytes());
        store.put_attachment(&bytes).unwrap();
        let here = store.append(here, &[make.full_message(&bytes)]).unwrap().position;
        for state in 0..4 {
            let draft =
                make.checkpoint(at(here.branch, state * 3), growing_state(usize::try_from(state).unwrap()));
            store.create_checkpoint(&draft, 10).unwrap();
        }
        store.save_run(&make.run(here.branch)).unwrap();
        let fork = make.branch("side", at(here.branch, 20));
        store.create_branch(&fork, OperationKind::Fork, None, make.now()).unwrap();
        store.append(at(fork.id, 20), &[make.user("aside")]).unwrap();
    }
    // So that the text index is there to be damaged, too.
    find(store, "line").unwrap();
    drop(opened);
    (home, path)
}

fn find(store: &dyn Store, text: &str) -> StoreResult<u64> {
    let query = SearchQuery { text: text.into(), limit: 1000, ..SearchQuery::default() };
    Ok(store.search(&query)?.total)
}

/// Reads everything; what cannot be read is an error, never a panic.
pub fn read_everything(store: &dyn Store) -> StoreResult<()> {
    find(store, "line")?;
    for session in all_sessions(store)? {
        for branch in store.list_branches(session.id)? {
            for message in store.read_messages(branch.id, MessageRange::From(1, u32::MAX))? {
                store.get_message(message.content.id)?;
            }
            store.load_branch_state(branch.id)?;
        }
        for checkpoint in store.list_checkpoints(session.id)? {
            store.load_state(checkpoint.id)?;
        }
        for run in store.list_runs(session.id)? {
            store.get_run(run)?;
        }
        store.list_operations(Some(session.id), &hfs_core::PageRequest::first(100))?;
    }
    Ok(())
}

#[test]
fn what_is_no_store_of_ours_is_refused_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("other.db");
    let mut garbage = fastrand::Rng::with_seed(1);
    let noise: Vec<u8> = std::iter::repeat_with(|| garbage.u8(..)).take(100_000).collect();
    let half_a_header = b"SQLite format 3\0".to_vec();
    let mut noise_behind_a_header = noise.clone();
    noise_behind_a_header[..16].copy_from_slice(&half_a_header);
    let text = b"{\"role\": \"user\"}\n".to_vec();
    for bytes in [noise, half_a_header, noise_behind_a_header, text, vec![0], vec![0; 4096]] {
        fs::write(&path, &bytes).unwrap();
        refused(try_open(&path).map(|_| ()), &[ErrorKind::Corrupt, ErrorKind::Invalid]);
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    fs::remove_file(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE session (id TEXT); INSERT INTO session VALUES ('theirs')").unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    refused(try_open(&path).map(|_| ()), &[ErrorKind::Invalid]);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn an_empty_file_becomes_a_store() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    fs::write(&path, b"").unwrap();
    session(&open(&path), &Drafts::new(1), "first", 1);
    assert_eq!(all_sessions(&open(&path)).unwrap().len(), 1);
}

#[test]
fn a_newer_store_is_refused_untouched() {
    let (home, path) = sample(1);
    let conn = Connection::open(&path).unwrap();
    let version: u32 = conn.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    conn.execute_batch(&format!("PRAGMA user_version = {}; PRAGMA journal_mode = DELETE", version + 1))
        .unwrap();
    drop(conn);
    let listing = |folder: &Path| {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    let (before, files) = (fs::read(&path).unwrap(), listing(home.path()));
    let error = try_open(&path).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.hint().is_some());
    let StoreError::Newer { found, supported, .. } = error else { panic!("{error}") };
    assert_eq!((found, supported), (version + 1, version));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(listing(home.path()), files);
}

#[test]
fn a_truncated_store_is_found_damaged() {
    let (_home, path) = sample(3);
    let whole = fs::read(&path).unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    let mut lengths: Vec<usize> = (0..40).map(|_| rng.usize(1..whole.len())).collect();
    lengths.extend([1, 16, 99, 100, 512, 4095, 4096, 8192, whole.len() - 4096, whole.len() - 1]);
    for length in lengths {
        let place = tempfile::tempdir().unwrap();
        let copy = place.path().join("hfs.db");
        fs::write(&copy, &whole[..length]).unwrap();
        match try_open(&copy) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corrupt, "{length}: {error}"),
            Ok(store) => {
                let found = store.verify();
                assert!(
                    found.is_ok_and(|found| !found.is_ok()),
                    "{length} of {} bytes look well",
                    whole.len()
                );
                let _ = read_everything(&store);
            }
        }
    }
}
