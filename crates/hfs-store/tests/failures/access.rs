//! Files that may not be written to, and files that go away.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use hfs_core::{ErrorKind, MessageStore, SessionStore, StoreResult};
use hfs_store::SqliteStore;
use testkit::builders::Drafts;

use crate::{all_sessions, assert_well, head, history, open, refused, session, try_open};

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Some may still read; then it is the first change that is refused.
fn rename_everything(store: &SqliteStore) -> StoreResult<()> {
    let now = Drafts::new(2).now();
    all_sessions(store)?.iter().try_for_each(|session| store.rename_session(session.id, "lost", false, now))
}

fn may_write(path: &Path) -> bool {
    fs::OpenOptions::new().append(true).open(path).is_ok()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn files_are_their_owners_alone() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("home/.hfs");
    let store = open(&directory.join("hfs.db"));
    session(&store, &Drafts::new(1), "secret", 5);
    assert_eq!(mode(&directory), 0o700);
    let mut pending = vec![directory];
    let mut seen = 0;
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                assert_eq!(mode(&path), 0o700, "{}", path.display());
                pending.push(path);
            } else {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 1, "the database and what belongs to it");
}

/// The administrator may write to everything: then the test runs once more as somebody who may not.
fn as_nobody(test: &str) {
    const NOBODY: u32 = 65_534;
    let mut again = Command::new(env::current_exe().unwrap());
    again.args([test, "--exact"]).env("TMPDIR", "/tmp").uid(NOBODY).gid(NOBODY);
    match again.output() {
        Ok(done) => assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout)),
        Err(error) => println!("skipped: nobody else can run this here: {error}"),
    }
}

#[test]
fn a_store_that_may_not_be_written_to_is_refused_and_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("locked");
    let path = directory.join("hfs.db");
    session(&open(&path), &Drafts::new(1), "kept", 5);
    let before = fs::read(&path).unwrap();
    for (directory_mode, file_mode) in [(0o500, 0o400), (0o700, 0o400), (0o700, 0o000), (0o000, 0o600)] {
        allow(&path, file_mode);
        allow(&directory, directory_mode);
        let opened = (!may_write(&path)).then(|| try_open(&path).and_then(|store| rename_everything(&store)));
        allow(&directory, 0o700);
        allow(&path, 0o600);
        match opened {
            None => return as_nobody("access::a_store_that_may_not_be_written_to_is_refused_and_left_alone"),
            Some(result) => refused(result, &[ErrorKind::Denied]),
        }
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    assert_well(&open(&path));
}

#[test]
fn a_directory_that_goes_away_is_loud_and_nothing_is_made_in_its_place() {
    let home = tempfile::tempdir().unwrap();
    let (directory, elsewhere) = (home.path().join("here"), home.path().join("elsewhere"));
    let path = directory.join("hfs.db");
    let store = open(&path);
    let make = Drafts::new(1);
    let kept = session(&store, &make, "kept", 5);
    let here = head(&store, &kept);

    fs::rename(&directory, &elsewhere).unwrap();
    let message = make.user("said while it was away");
    for _ in 0..3 {
        let kinds = [ErrorKind::Unavailable, ErrorKind::NotFound];
        refused(store.append(here, std::slice::from_ref(&message)), &kinds);
    }
    assert!(!path.exists(), "no new store hides the old one");

    if directory.exists() {
        fs::remove_dir_all(&directory).unwrap();
    }
    fs::rename(&elsewhere, &directory).unwrap();
    store.append(here, std::slice::from_ref(&message)).unwrap();
    assert_eq!(history(&store, &kept).len(), 6);
    assert_well(&store);

    fs::remove_dir_all(&directory).unwrap();
    let late = make.user("said after it was deleted");
    refused(store.append(head_of(here, 6), &[late]), &[ErrorKind::Unavailable, ErrorKind::NotFound]);
    assert!(!path.exists());
}

fn head_of(position: hfs_core::Position, head: u64) -> hfs_core::Position {
    hfs_core::Position { head, ..position }
}

#[test]
fn a_store_that_was_replaced_is_noticed() {
    let home = tempfile::tempdir().unwrap();
    let (path, other) = (home.path().join("a/hfs.db"), home.path().join("b/hfs.db"));
    let make = Drafts::new(1);
    let store = open(&path);
    let gone = session(&store, &make, "gone", 2);
    let kept = session(&open(&other), &make, "kept", 2);
    fs::rename(home.path().join("a"), home.path().join("c")).unwrap();
    fs::rename(home.path().join("b"), home.path().join("a")).unwrap();
    refused(store.get_session(gone.id), &[ErrorKind::NotFound]);
    store.append(head(&store, &kept), &[make.user("to what is there now")]).unwrap();
    assert_eq!(history(&store, &kept).len(), 3);
    assert_well(&store);
    let away = open(&home.path().join("c/hfs.db"));
    assert_eq!(history(&away, &gone).len(), 2);
    assert_well(&away);
}

#[test]
fn what_stands_in_the_way_of_a_store_is_said() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    refused(try_open(home.path()).map(|_| ()), &[ErrorKind::Invalid, ErrorKind::Unavailable]);
    refused(try_open(&file.join("hfs.db")).map(|_| ()), &[ErrorKind::Invalid, ErrorKind::Unavailable]);
    refused(try_open(Path::new("")).map(|_| ()), &[ErrorKind::Invalid, ErrorKind::Unavailable]);
    assert_eq!(fs::read(&file).unwrap(), b"not a directory");
    let deep = home.path().join("new/ü \u{1f980}/deep/hfs ?mode=ro#.db");
    session(&open(&deep), &Drafts::new(1), "kept", 2);
    assert_eq!(all_sessions(&open(&deep)).unwrap().len(), 1);
    assert!(deep.exists());
}
