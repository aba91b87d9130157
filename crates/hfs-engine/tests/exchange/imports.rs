//! Imports that create, update, copy and skip sessions.

use hfs_core::{
    BranchDraft, BranchId, Continuation, Flow, ForeignBranch, ForeignSession, ImportEvent, ImportReceiver,
    ImportReport, MessageDraft, MessageRange, OperationKind, Origin, Part, Position, Role, SessionDraft,
    SessionId, SessionStore, Source, Store, SystemClock, Timestamp,
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

/// A session that was not imported, with the messages `texts`, and its first branch.
fn own_session(store: &dyn Store, texts: &[&str]) -> (SessionId, BranchId) {
    let draft = SessionDraft {
        id: SessionId::generate(),
        name: "Own".into(),
        automatic_name: false,
        project: None,
        created_at: Timestamp::UNIX_EPOCH,
        origin: None,
        extra: Default::default(),
        main_branch: BranchId::generate(),
    };
    store.create_session(&draft).unwrap();
    append(store, draft.main_branch, 0, texts);
    (draft.id, draft.main_branch)
}

fn append(store: &dyn Store, branch: BranchId, head: u64, texts: &[&str]) {
    let drafts: Vec<MessageDraft> =
        texts.iter().map(|text| MessageDraft::user(*text, Timestamp::UNIX_EPOCH)).collect();
    store.append(Position { branch, head }, &drafts).unwrap();
}

fn fork(store: &dyn Store, parent: BranchId, forked_at: u64, name: &str) -> BranchId {
    let draft = BranchDraft { id: BranchId::generate(), name: name.into(), parent, forked_at };
    store.create_branch(&draft, OperationKind::Fork, None, Timestamp::UNIX_EPOCH).unwrap();
    draft.id
}

/// A transcript that hfs wrote: the history of `branch` without the messages at `omitted`, each with a text that is not
/// the stored one. A tool added `added` to it.
fn exported(store: &dyn Store, branch: BranchId, omitted: &[u64], added: &[&str]) -> Vec<MessageDraft> {
    let history = store.read_messages(branch, MessageRange::Newest(100)).unwrap();
    let written = history
        .iter()
        .filter(|message| !omitted.contains(&message.seq))
        .map(|stored| MessageDraft { source: Some(Source::hfs(stored.content.id)), ..message("cut") });
    written.chain(added.iter().map(|id| message(id))).collect()
}

/// Imports a transcript, and returns the number of messages added.
fn import_continued(store: &dyn Store, continues: Continuation, branches: &[(u64, &[MessageDraft])]) -> u64 {
    let mut importer = Importer::new(store, &SystemClock, OnDuplicate::Auto, false);
    importer.next_file("file", None);
    let mut foreign =
        ForeignSession::new(Origin { format: "test".into(), id: "exported".into(), path: None });
    foreign.title = Some("Title of the tool".into());
    foreign.continues = Some(continues);
    if importer.receive(ImportEvent::Session(Box::new(foreign))).unwrap() == Flow::Continue {
        let mut send = |event| importer.receive(event).unwrap();
        for (key, (forked_at, messages)) in branches.iter().enumerate() {
            if key > 0 {
                let forked_at = *forked_at;
                send(ImportEvent::Branch(ForeignBranch { key, parent: 0, forked_at, id: None, name: None }));
            }
            for message in *messages {
                send(ImportEvent::Message { branch: key, message: message.clone() });
            }
        }
        send(ImportEvent::End(ImportReport::default()));
    }
    importer.imported.iter().map(|session| session.messages).sum()
}

#[test]
fn what_a_tool_adds_to_an_export_continues_the_session_on_its_branch() {
    let store = memory_store();
    let store: &dyn Store = store.as_ref();
    let (id, main) = own_session(store, &["a", "b", "c", "d"]);
    let branch = fork(store, main, 2, "idea");
    append(store, branch, 2, &["x", "y"]);
    // The export left out the message 3 (a system prompt, say); the tool added two.
    let transcript = exported(store, branch, &[3], &["p", "q"]);
    for expected in [2, 0] {
        assert_eq!(import_continued(store, Continuation::Branch(branch), &[(0, &transcript)]), expected);
        assert_eq!(session(store), id);
        assert_eq!(histories(store), ["a b c d", "a b x y p q"]);
    }
    let summary = store.get_session(id).unwrap();
    assert_eq!((summary.session.name.as_str(), summary.session.current_branch), ("Own", branch));
    // The session is exported again, with what was said since, and the tool adds more.
    append(store, branch, 6, &["r"]);
    let transcript = exported(store, branch, &[3], &["s"]);
    for expected in [1, 0] {
        assert_eq!(import_continued(store, Continuation::Branch(branch), &[(0, &transcript)]), expected);
        assert_eq!(histories(store), ["a b c d", "a b x y p q r s"]);
    }
}

#[test]
fn a_branch_without_messages_of_its_own_is_continued_too() {
    for by_branch in [true, false] {
        let store = memory_store();
        let store: &dyn Store = store.as_ref();
        let (id, main) = own_session(store, &["a", "b", "c"]);
        let branch = fork(store, main, 1, "again");
        let continues = if by_branch { Continuation::Branch(branch) } else { Continuation::Session(id) };
        if by_branch {
            let transcript = exported(store, branch, &[], &["x"]);
            assert_eq!(import_continued(store, continues, &[(0, &transcript)]), 1);
        } else {
            // A transcript with every branch; the tool continued after the first message.
            let all = exported(store, main, &[], &[]);
            let added = [message("x")];
            assert_eq!(import_continued(store, continues, &[(0, &all), (1, &added)]), 1);
        }
        assert_eq!(histories(store), ["a b c", "a x"]);
    }
}

#[test]
fn a_branch_that_was_continued_in_hfs_too_keeps_both_continuations() {
    let store = memory_store();
    let store: &dyn Store = store.as_ref();
    let (_, main) = own_session(store, &["a", "b"]);
    let transcript = exported(store, main, &[], &["x"]);
    append(store, main, 2, &["c"]);
    for expected in [1, 0] {
        assert_eq!(import_continued(store, Continuation::Branch(main), &[(0, &transcript)]), expected);
        assert_eq!(histories(store), ["a b c", "a b x"]);
    }
}

#[test]
fn what_a_tool_adds_to_an_undone_branch_is_not_hidden() {
    let store = memory_store();
    let store: &dyn Store = store.as_ref();
    let (id, main) = own_session(store, &["a", "b"]);
    let branch = fork(store, main, 1, "undone");
    append(store, branch, 1, &["x"]);
    let transcript = exported(store, branch, &[], &["y"]);
    let operations = store.list_operations(Some(id), &hfs_core::PageRequest::first(1)).unwrap();
    store.reverse(operations.items[0].id, OperationKind::Undo, Timestamp::UNIX_EPOCH).unwrap();
    for expected in [1, 0] {
        assert_eq!(import_continued(store, Continuation::Branch(branch), &[(0, &transcript)]), expected);
    }
    let branches = store.list_branches(id).unwrap();
    let visible: Vec<&str> =
        branches.iter().filter(|branch| !branch.undone).map(|branch| branch.name.as_str()).collect();
    assert_eq!(visible, ["main", "imported-2"]);
    assert_eq!(histories(store), ["a b", "a x", "a x y"]);
}

#[test]
fn an_export_is_imported_as_a_session_of_its_own_where_its_session_is_unknown() {
    let (here, there) = (memory_store(), memory_store());
    let (_, main) = own_session(here.as_ref(), &["a", "b"]);
    let transcript = exported(here.as_ref(), main, &[], &["x"]);
    for expected in [3, 0] {
        let continues = Continuation::Branch(main);
        assert_eq!(import_continued(there.as_ref(), continues, &[(0, &transcript)]), expected);
    }
    assert_eq!(histories(there.as_ref()), ["cut cut x"]);
}
