//! A backup is a complete and consistent copy of the store, also while other threads write.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hfs_core::{
    AttachmentStore, CheckpointStore, ErrorExt, ErrorKind, Maintenance, MessageRange, MessageStore, Position,
    SearchIndex, SearchQuery, SessionStore,
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
fn a_backup_contains_everything_and_can_be_opened() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("hfs.db"));
    let make = Drafts::new(1);
    let session = store.create_session(&make.session("kept")).unwrap();
    let bytes = attachment(b"picture");
    store.put_attachment(&bytes).unwrap();
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
    assert_eq!(copy.get_attachment(bytes.hash).unwrap(), b"picture");
    let query = SearchQuery { text: "needle".into(), limit: 5, ..SearchQuery::default() };
    assert!(copy.search(&query).unwrap().total >= 1);
    copy.append(here, &[make.user("only in the copy")]).unwrap();
    assert_eq!(texts(&store, here).last().unwrap(), "later");
}

#[test]
fn a_backup_does_not_replace_an_existing_file() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("hfs.db"));
    let to = home.path().join("precious");
    fs::write(&to, "bytes").unwrap();
    for path in [to.as_path(), &home.path().join("hfs.db"), home.path()] {
        assert_eq!(store.backup(path).unwrap_err().kind(), ErrorKind::Conflict, "{}", path.display());
    }
    assert_eq!(fs::read(&to).unwrap(), b"bytes");
    let missing = home.path().join("missing/copy.db");
    store.backup(&missing).unwrap_err();
    assert!(!missing.exists());
}

#[test]
fn a_backup_during_writes_is_consistent() {
    let home = tempfile::tempdir().unwrap();
    let store = open(&home.path().join("hfs.db"));
    let make = Drafts::new(1);
    let session = store.create_session(&make.session("busy")).unwrap();
    let here = at(session.current_branch, 0);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut position = here;
            while !stop.load(Ordering::SeqCst) {
                let n = position.head;
                let pair = [make.user(&format!("question {n}")), make.assistant(&format!("answer {n}"))];
                position = store.append(position, &pair).unwrap().position;
            }
        });
        let mut previous = 0;
        for round in 0..6 {
            let to = home.path().join(format!("copy {round}.db"));
            let before = texts(&store, here);
            store.backup(&to).unwrap();
            let copy = open(&to);
            assert!(copy.verify().unwrap().is_ok());
            let copied = texts(&copy, here);
            assert!(copied.starts_with(&before), "everything acknowledged before the backup is in it");
            assert_eq!(copied.len() % 2, 0, "each append is in it completely or not at all");
            assert!(copied.len() >= previous);
            previous = copied.len();
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(store.verify().unwrap().is_ok());
}
