//! A backup is a whole store of one moment, made while others go on working.

#![allow(clippy::unwrap_used, reason = "a failed expectation is a test's own way of speaking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hfs_core::{
    CheckpointStore, ErrorExt, ErrorKind, Maintenance, MessageRange, MessageStore, Position, SearchIndex,
    SearchQuery, SessionStore,
};
use hfs_store::{SqliteOptions, SqliteStore};
use testkit::builders::{Drafts, at, attachment, growing_state};

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).unwrap()
}

fn texts(store: &SqliteStore, here: Position) -> Vec<String> {
    let messages = store.read_messages(here.branch, MessageRange::From(1, u32::MAX)).unwrap();
    messages.iter().map(|message| message.content.text()).collect()
}

#[test]
fn a_backup_holds_everything_and_is_a_store() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("hfs.db"));
    let make = Drafts::new(1);
    let session = store.create_session(&make.session("kept")).unwrap();
    let bytes = attachment(b"picture");
    hfs_core::OperationStore::put_attachment(&store, &bytes).unwrap();
    let drafts = [make.user("a needle"), make.full_message(&bytes)];
    let here = store.append(at(session.current_branch, 0), &drafts).unwrap().position;
    let checkpoint = store.create_checkpoint(&make.checkpoint(here, growing_state(3)), 10).unwrap();

    let to = home.path().join("copy ü.db");
    store.backup(&to).unwrap();
    store.append(here, &[make.user("later")]).unwrap();
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600);

    let copy = open(&to);
    assert!(copy.verify().unwrap().is_ok());
    assert_eq!(copy.read_messages(here.branch, MessageRange::Newest(9)).unwrap().len(), 2);
    assert_eq!(copy.load_state(checkpoint.id).unwrap(), growing_state(3));
    assert_eq!(hfs_core::OperationStore::get_attachment(&copy, bytes.hash).unwrap(), b"picture");
    let query = SearchQuery { text: "needle".into(), limit: 5, ..SearchQuery::default() };
    assert!(copy.search(&query).unwrap().total >= 1);
    copy.append(here, &[make.user("goes its own way")]).unwrap();
    assert_eq!(texts(&store, here).last().unwrap(), "later");
}

#[test]
fn a_backup_replaces_nothing() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("hfs.db"));
    let to = home.path().join("precious");
    fs::write(&to, "bytes").unwrap();
    for path in [to.as_path(), &home.path().join("hfs.db"), home.path()] {
        assert_eq!(store.backup(path).unwrap_err().kind(), ErrorKind::Conflict, "{}", path.display());
    }
    assert_eq!(fs::read(&to).unwrap(), b"bytes");
    let nowhere = home.path().join("missing/copy.db");
    store.backup(&nowhere).unwrap_err();
    assert!(!nowhere.exists());
}

#[test]
fn a_backup_made_while_others_write_is_of_one_moment() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("hfs.db"));
    let make = Drafts::new(1);
    let session = store.create_session(&make.session("busy")).unwrap();
    let here = at(session.current_branch, 0);
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut position = here;
            while !enough.load(Ordering::SeqCst) {
                let n = position.head;
                let pair = [make.user(&format!("question {n}")), make.assistant(&format!("answer {n}"))];
                position = store.append(position, &pair).unwrap().position;
            }
        });
        let mut seen = 0;
        for round in 0..6 {
            let to = home.path().join(format!("copy {round}.db"));
            let before = texts(&store, here);
            store.backup(&to).unwrap();
            let copy = open(&to);
            assert!(copy.verify().unwrap().is_ok());
            let copied = texts(&copy, here);
            assert!(copied.starts_with(&before), "what was acknowledged before is in it");
            assert_eq!(copied.len() % 2, 0, "no append is in it by half");
            assert!(copied.len() >= seen);
            seen = copied.len();
        }
        enough.store(true, Ordering::SeqCst);
    });
    assert!(store.verify().unwrap().is_ok());
}
