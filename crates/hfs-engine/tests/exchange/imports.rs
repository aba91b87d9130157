//! Imports that create, update, copy and skip sessions.

use hfs_core::{
    Flow, ForeignBranch, ForeignSession, ImportEvent, ImportReceiver, ImportReport, MessageDraft,
    MessageRange, Origin, Part, Role, SessionId, SessionStore, Source, Store, SystemClock, Timestamp,
};
use hfs_engine::{Importer, OnDuplicate};

use crate::agent::memory_store;

fn message(id: &str) -> MessageDraft {
    MessageDraft {
        source: Some(Source { format: "test".into(), id: id.into() }),
        ..MessageDraft::new(Role::User, vec![Part::text(id)], Timestamp::UNIX_EPOCH)
    }
}

/// Imports a session with the messages `main`, and a fork after message `fork.0` with the messages `fork.1`. Returns the
/// number of sessions imported and the number of messages added.
fn import(store: &dyn Store, mode: OnDuplicate, main: &[&str], fork: Option<(u64, &[&str])>) -> (usize, u64) {
    let mut importer = Importer::new(store, &SystemClock, mode, false);
    importer.next_file("file", None);
    let origin = Origin { format: "test".into(), id: "s".into(), path: None };
    let session = ImportEvent::Session(Box::new(ForeignSession::new(origin)));
    if importer.receive(session).unwrap() == Flow::Continue {
        let mut send = |event| importer.receive(event).unwrap();
        for id in main {
            send(ImportEvent::Message { branch: 0, message: message(id) });
        }
        if let Some((forked_at, messages)) = fork {
            send(ImportEvent::Branch(ForeignBranch { key: 1, parent: 0, forked_at, id: None, name: None }));
            for id in messages {
                send(ImportEvent::Message { branch: 1, message: message(id) });
            }
        }
        send(ImportEvent::End(ImportReport::default()));
    }
    (importer.imported.len(), importer.imported.iter().map(|session| session.messages).sum())
}

fn session(store: &dyn Store) -> SessionId {
    let page = store.list_sessions(&Default::default(), &hfs_core::PageRequest::first(10)).unwrap();
    assert_eq!(page.items.len(), 1);
    page.items[0].session.id
}

/// The texts of each branch's whole history.
fn histories(store: &dyn Store) -> Vec<String> {
    let branches = store.list_branches(session(store)).unwrap();
    let mut histories: Vec<String> = branches
        .iter()
        .map(|branch| {
            let messages = store.read_messages(branch.id, MessageRange::Newest(100)).unwrap();
            messages.iter().map(|message| message.content.text()).collect::<Vec<_>>().join(" ")
        })
        .collect();
    histories.sort();
    histories
}

#[test]
fn importing_the_same_file_again_changes_nothing() {
    let store = memory_store();
    let file: (&[&str], Option<(u64, &[&str])>) = (&["a", "b", "c"], Some((1, &["x", "y"])));
    assert_eq!(import(store.as_ref(), OnDuplicate::Auto, file.0, file.1), (1, 5));
    let before = histories(store.as_ref());
    assert_eq!(before, ["a b c", "a x y"]);
    assert_eq!(import(store.as_ref(), OnDuplicate::Auto, file.0, file.1), (0, 0));
    assert_eq!(histories(store.as_ref()), before);
}

#[test]
fn a_longer_file_adds_only_its_new_messages() {
    let store = memory_store();
    import(store.as_ref(), OnDuplicate::Auto, &["a", "b"], Some((1, &["x"])));
    let added = import(store.as_ref(), OnDuplicate::Auto, &["a", "b", "c"], Some((1, &["x", "y"])));
    assert_eq!(added, (1, 2));
    assert_eq!(histories(store.as_ref()), ["a b c", "a x y"]);
    // A new fork.
    assert_eq!(import(store.as_ref(), OnDuplicate::Auto, &["a", "b", "c"], Some((2, &["z"]))), (1, 1));
    assert_eq!(histories(store.as_ref()), ["a b c", "a b z", "a x y"]);
}

#[test]
fn a_diverging_source_adds_one_branch_and_importing_it_again_adds_none() {
    let store = memory_store();
    import(store.as_ref(), OnDuplicate::Auto, &["a", "b", "c"], None);
    let current = store.get_session(session(store.as_ref())).unwrap().branch;
    for expected in [(1, 2), (0, 0)] {
        assert_eq!(import(store.as_ref(), OnDuplicate::Update, &["a", "B", "C"], None), expected);
        assert_eq!(histories(store.as_ref()), ["a B C", "a b c"]);
    }
    assert_eq!(
        store.get_session(session(store.as_ref())).unwrap().branch,
        current,
        "an import does not change the current branch"
    );
}

#[test]
fn a_session_in_the_trash_is_not_imported_again() {
    let store = memory_store();
    import(store.as_ref(), OnDuplicate::Auto, &["a"], None);
    store.trash_session(session(store.as_ref()), Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(import(store.as_ref(), OnDuplicate::Auto, &["a", "b"], None), (0, 0));
}

#[test]
fn a_copy_is_another_session() {
    let store = memory_store();
    import(store.as_ref(), OnDuplicate::Auto, &["a"], None);
    assert_eq!(import(store.as_ref(), OnDuplicate::Copy, &["a"], None), (1, 1));
    let page = store.list_sessions(&Default::default(), &hfs_core::PageRequest::first(10)).unwrap();
    assert_eq!(page.items.len(), 2);
}

#[test]
fn a_dry_run_reports_and_writes_nothing() {
    let store = memory_store();
    let mut importer = Importer::new(store.as_ref(), &SystemClock, OnDuplicate::Auto, true);
    importer.next_file("file", None);
    let origin = Origin { format: "test".into(), id: "s".into(), path: None };
    importer.receive(ImportEvent::Session(Box::new(ForeignSession::new(origin)))).unwrap();
    importer.receive(ImportEvent::Message { branch: 0, message: message("a") }).unwrap();
    importer.receive(ImportEvent::End(ImportReport::default())).unwrap();
    assert_eq!((importer.imported[0].messages, importer.imported[0].session), (1, None));
    let page = store.list_sessions(&Default::default(), &hfs_core::PageRequest::first(10)).unwrap();
    assert!(page.items.is_empty());
}
