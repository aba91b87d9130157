//! Imports that create, update, copy and skip sessions.

use hfs_core::{
    BranchDraft, BranchId, Continuation, Flow, ForeignBranch, ForeignSession, ImportEvent, ImportReceiver,
    ImportReport, MessageDraft, MessageRange, MessageStatus, OperationKind, Origin, Part, Position, Role,
    SessionDraft, SessionId, SessionStore, Source, Store, SystemClock, Timestamp,
};
use hfs_engine::{Importer, OnDuplicate};

use crate::agent::memory_store;

/// A source with one branch, or with a second one that forks after a message of the first.
#[derive(Clone, Default)]
struct Foreign {
    title: Option<String>,
    messages: Vec<MessageDraft>,
    fork: Option<(u64, Vec<MessageDraft>)>,
    fork_is_current: bool,
    positional: bool,
    dropped: u64,
}

/// A message with this id and text.
fn said(id: &str, text: &str) -> MessageDraft {
    MessageDraft { parts: vec![Part::text(text)], ..message(id) }
}

impl Foreign {
    fn new(messages: &[(&str, &str)]) -> Self {
        let messages = messages.iter().map(|(id, text)| said(id, text)).collect();
        Self { messages, ..Self::default() }
    }

    fn forked(mut self, at: u64, messages: &[(&str, &str)]) -> Self {
        self.fork = Some((at, messages.iter().map(|(id, text)| said(id, text)).collect()));
        self.fork_is_current = true;
        self
    }

    /// Imports the source.
    fn import<'a>(&self, store: &'a dyn Store) -> Importer<'a> {
        let mut importer = Importer::new(store, &SystemClock, OnDuplicate::Auto, false);
        importer.next_file("file", None);
        self.send(&mut importer);
        importer
    }

    fn send(&self, importer: &mut Importer<'_>) {
        let origin = Origin { format: "test".into(), id: "s".into(), path: None };
        let mut session = ForeignSession::new(origin);
        session.title.clone_from(&self.title);
        session.positional_ids = self.positional;
        if importer.receive(ImportEvent::Session(Box::new(session))).unwrap() != Flow::Continue {
            return;
        }
        // Every reading creates new ids.
        let renewed = |message: &MessageDraft| {
            let id = hfs_core::MessageId::generate();
            MessageDraft { id, ..message.clone() }
        };
        let mut send = |event| importer.receive(event).unwrap();
        for message in &self.messages {
            send(ImportEvent::Message { branch: 0, message: renewed(message) });
        }
        if let Some((forked_at, messages)) = &self.fork {
            let fork = ForeignBranch {
                key: 1,
                parent: 0,
                forked_at: *forked_at,
                id: None,
                name: None,
                undone: false,
            };
            send(ImportEvent::Branch(fork));
            for message in messages {
                send(ImportEvent::Message { branch: 1, message: renewed(message) });
            }
            if self.fork_is_current {
                send(ImportEvent::CurrentBranch(1));
            }
        }
        send(ImportEvent::End(ImportReport { dropped: self.dropped, ..ImportReport::default() }));
    }
}

/// The texts of the current branch.
fn open_line(store: &dyn Store) -> String {
    let current = store.get_session(session(store)).unwrap().session.current_branch;
    let messages = store.read_messages(current, MessageRange::Newest(100)).unwrap();
    messages.iter().map(|message| message.content.text()).collect::<Vec<_>>().join(" ")
}

/// Appends a message of the user to the current branch.
fn continue_here(store: &dyn Store, text: &str) {
    let current = store.get_session(session(store)).unwrap().session.current_branch;
    let head = store.get_branch(current).unwrap().head;
    let draft = MessageDraft::user(text, Timestamp::UNIX_EPOCH);
    store.append(Position { branch: current, head }, &[draft]).unwrap();
}

#[test]
fn a_message_that_changed_in_its_source_is_updated_in_place() {
    let store = memory_store();
    let store: &dyn Store = store.as_ref();
    Foreign::new(&[("1", "ask"), ("2", "half")]).import(store);
    let before = histories(store);
    let ids = |store: &dyn Store| {
        let current = store.get_session(session(store)).unwrap().session.current_branch;
        let messages = store.read_messages(current, MessageRange::Newest(9)).unwrap();
        messages.iter().map(|message| message.content.id).collect::<Vec<_>>()
    };
    let (first, second) = (ids(store)[0], ids(store)[1]);
    let late = Foreign::new(&[("1", "ask"), ("2", "whole"), ("3", "more")]);
    let importer = late.import(store);
    let imported = &importer.imported[0];
    assert_eq!((imported.messages, imported.updated_messages, imported.updated), (1, 1, true));
    assert_eq!(before, ["ask half"]);
    assert_eq!(histories(store), ["ask whole more"]);
    assert_eq!(ids(store)[..2], [first, second]);
    let again = late.import(store);
    assert_eq!((again.imported.len(), again.skipped.len()), (0, 1));
}

#[test]
fn an_update_reaches_a_message_before_messages_of_hfs() {
    let store = memory_store();
    let store: &dyn Store = store.as_ref();
    Foreign::new(&[("1", "ask"), ("2", "half")]).import(store);
    continue_here(store, "mine");
    Foreign::new(&[("1", "ask"), ("2", "whole"), ("3", "theirs")]).import(store);
    assert_eq!(histories(store), ["ask whole mine", "ask whole theirs"]);
    assert_eq!(open_line(store), "ask whole mine", "the user has continued this branch");
}

#[test]
fn a_position_whose_message_is_another_one_becomes_a_branch() {
    let store = memory_store();
    let store: &dyn Store = store.as_ref();
    let positional = |messages| Foreign { positional: true, ..Foreign::new(messages) };
    positional(&[("1", "ask"), ("2", "answ")]).import(store);
    positional(&[("1", "ask"), ("2", "answer")]).import(store);
    assert_eq!(histories(store), ["ask answer"], "a message that grew is the same");
    let rewritten = positional(&[("1", "summary"), ("2", "next")]);
    rewritten.import(store);
    assert_eq!(histories(store), ["ask answer", "summary next"], "nothing is lost");
    assert_eq!(open_line(store), "summary next");
    assert!(rewritten.import(store).imported.is_empty());
}

#[test]
fn the_current_branch_follows_the_source_until_the_user_chooses_one() {
    let early = Foreign::new(&[("1", "a"), ("2", "b")]);
    let late = early.clone().forked(1, &[("3", "c")]);
    let later = early.clone().forked(1, &[("3", "c"), ("4", "d")]);
    let store = memory_store();
    let store: &dyn Store = store.as_ref();
    early.import(store);
    late.import(store);
    assert_eq!(open_line(store), "a c");
    later.import(store);
    assert_eq!(open_line(store), "a c d");

    // The user goes back to the first branch.
    let first = store.list_branches(session(store)).unwrap()[0].id;
    store.switch_branch(first, Timestamp::UNIX_EPOCH).unwrap();
    for messages in
        [&[("3", "c"), ("4", "d"), ("5", "e")][..], &[("3", "c"), ("4", "d"), ("5", "e"), ("6", "f")]]
    {
        early.clone().forked(1, messages).import(store);
        assert_eq!(open_line(store), "a b", "the choice stays");
    }
    assert!(histories(store).contains(&"a c d e f".to_owned()));
}

#[test]
fn a_source_that_goes_back_keeps_what_it_removed_on_another_branch() {
    let store = memory_store();
    let store: &dyn Store = store.as_ref();
    Foreign::new(&[("1", "a"), ("2", "b"), ("3", "c")]).import(store);
    Foreign::new(&[("1", "a"), ("2", "b")]).import(store);
    assert_eq!(open_line(store), "a b");
    assert!(histories(store).contains(&"a b c".to_owned()));
    let importer = Foreign::new(&[("1", "a"), ("2", "b")]).import(store);
    assert!(importer.imported.is_empty(), "importing it again changes nothing");
    Foreign::new(&[("1", "a"), ("2", "b"), ("4", "d")]).import(store);
    assert_eq!(open_line(store), "a b d");
    assert_eq!(histories(store), ["a b c", "a b d"]);
    // A damaged file does not prove that its messages were removed.
    Foreign { dropped: 1, ..Foreign::new(&[("1", "a")]) }.import(store);
    assert_eq!(open_line(store), "a b d");
    assert_eq!(histories(store), ["a b c", "a b d"]);
}

#[test]
fn a_branch_is_found_again_when_the_source_divides_its_messages_otherwise() {
    let store = memory_store();
    let store: &dyn Store = store.as_ref();
    // First, the prompt "q" follows "p"; then an answer to "p" appears, so "q" starts a branch.
    Foreign::new(&[("p", "p"), ("q", "q")]).import(store);
    let late = Foreign::new(&[("p", "p"), ("a", "a")]).forked(1, &[("q", "q"), ("r", "r")]);
    late.import(store);
    assert_eq!(histories(store), ["p a", "p q r"]);
    assert_eq!(open_line(store), "p q r");
    assert!(late.import(store).imported.is_empty());
}

#[test]
fn a_branch_that_the_user_has_undone_stays_hidden_and_is_continued_on_another_one() {
    let store = memory_store();
    let store: &dyn Store = store.as_ref();
    let early = Foreign::new(&[("1", "a"), ("2", "b")]);
    early.import(store);
    let root = store.list_branches(session(store)).unwrap()[0].id;
    let draft = BranchDraft { id: BranchId::generate(), name: "tried".into(), parent: root, forked_at: 1 };
    let kind = OperationKind::Fork;
    let fork = store.create_branch(&draft, kind, None, Timestamp::UNIX_EPOCH).unwrap();
    store.append(Position { branch: draft.id, head: 1 }, &[said("3", "c")]).unwrap();
    store.reverse(fork.id, OperationKind::Undo, Timestamp::UNIX_EPOCH).unwrap();
    assert!(early.clone().forked(1, &[("3", "c")]).import(store).imported.is_empty());
    early.forked(1, &[("3", "c"), ("4", "d")]).import(store);
    let branches = store.list_branches(session(store)).unwrap();
    let undone: Vec<bool> = branches.iter().map(|branch| branch.undone).collect();
    assert_eq!(undone, [false, true, false]);
    assert!(histories(store).contains(&"a c d".to_owned()));
}

#[test]
fn the_name_follows_the_source_unless_the_user_renamed_the_session() {
    let store = memory_store();
    let store: &dyn Store = store.as_ref();
    let name = |store: &dyn Store| store.get_session(session(store)).unwrap().session.name;
    let source = |title: Option<&str>| Foreign {
        title: title.map(str::to_owned),
        ..Foreign::new(&[("1", "first words")])
    };
    source(None).import(store);
    assert!(name(store).starts_with("first words"));
    for title in ["Titled", "Titled again"] {
        let importer = source(Some(title)).import(store);
        assert_eq!((name(store).as_str(), importer.imported[0].name.as_str()), (title, title));
    }
    store.rename_session(session(store), "Mine", false, Timestamp::UNIX_EPOCH).unwrap();
    assert!(source(Some("Another")).import(store).imported.is_empty());
    assert_eq!(name(store), "Mine");
}

#[test]
fn a_failed_import_leaves_a_session_that_the_next_one_completes() {
    let store = testkit::faulty_store::FaultyStore::new(hfs_store::MemoryStore::new(std::sync::Arc::new(
        SystemClock,
    )));
    Foreign::new(&[("1", "a"), ("2", "b")]).import(&store);
    let late = Foreign::new(&[("1", "A"), ("2", "b"), ("3", "c")]).forked(1, &[("4", "d")]);
    let mut importer = Importer::new(&store, &SystemClock, OnDuplicate::Auto, false);
    importer.next_file("file", None);
    store.fail_saves(1);
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| late.send(&mut importer)));
    assert!(failed.is_err(), "the store has failed");
    importer.discard_unfinished();
    assert!(hfs_core::Maintenance::verify(&store).unwrap().is_ok());
    late.import(&store);
    assert_eq!(histories(&store), ["A b c", "A d"]);
    assert_eq!(open_line(&store), "A d");
}

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
            send(ImportEvent::Branch(ForeignBranch {
                key: 1,
                parent: 0,
                forked_at,
                id: None,
                name: None,
                undone: false,
            }));
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
    assert_ne!(
        store.get_session(session(store.as_ref())).unwrap().branch,
        current,
        "as after a first import"
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
                send(ImportEvent::Branch(ForeignBranch {
                    key,
                    parent: 0,
                    forked_at,
                    id: None,
                    name: None,
                    undone: false,
                }));
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
    assert_eq!(visible, ["main", "main-2"]);
    assert_eq!(histories(store), ["a b", "a x", "a x y"]);
}

/// A message of an agent's own transcript.
fn of_agent(id: &str, role: Role, text: &str) -> MessageDraft {
    MessageDraft { role, parts: vec![Part::text(text)], ..message(id) }
}

#[test]
fn what_hfs_has_recorded_of_an_agent_is_not_imported_again() {
    let store = memory_store();
    let store: &dyn Store = store.as_ref();
    let (_, main) = own_session(store, &[]);
    let reply = |text: &str| MessageDraft {
        role: Role::Assistant,
        ..MessageDraft::user(text, Timestamp::UNIX_EPOCH)
    };
    let user = |text: &str| MessageDraft::user(text, Timestamp::UNIX_EPOCH);
    let recorded = [user("one"), reply("1"), reply("one"), user("two"), reply("2")];
    store.append(Position { branch: main, head: 0 }, &recorded).unwrap();
    let mut instructions = of_agent("i", Role::User, "environment");
    instructions.set_flag(hfs_core::MessageFlag::Injected);
    // The agent divides its turn in another way, and the conversation so far is before the first prompt.
    let mut transcript = vec![
        instructions,
        of_agent("a", Role::User, "What was said before.\n\none"),
        of_agent("b", Role::Assistant, "1 one"),
        of_agent("c", Role::User, "two"),
        of_agent("d", Role::Assistant, "2"),
        of_agent("e", Role::Tool, "more of it"),
    ];
    let continues = Continuation::Recorded(main);
    assert_eq!(import_continued(store, continues, &[(0, &transcript)]), 0);
    // The user continued in the agent itself, with a prompt that was there before.
    transcript.extend([of_agent("f", Role::User, "one"), of_agent("g", Role::Assistant, "elsewhere")]);
    for expected in [2, 0] {
        assert_eq!(import_continued(store, continues, &[(0, &transcript)]), expected);
        assert_eq!(histories(store), ["one 1 one two 2 one elsewhere"]);
    }
    // The turn grows in the agent.
    transcript.push(of_agent("h", Role::Assistant, "later"));
    assert_eq!(import_continued(store, continues, &[(0, &transcript)]), 1);
    // And the session is continued in hfs, in the same session of the agent.
    let head = store.get_branch(main).unwrap().head;
    store.append(Position { branch: main, head }, &[user("three"), reply("3")]).unwrap();
    transcript.extend([of_agent("j", Role::User, "three"), of_agent("k", Role::Assistant, "3")]);
    for _ in 0..2 {
        assert_eq!(import_continued(store, continues, &[(0, &transcript)]), 0);
        assert_eq!(histories(store), ["one 1 one two 2 one elsewhere later three 3"]);
    }
}

/// An import of an agent's own transcript. Returns the numbers of messages that it added and updated.
fn import_of_agent(store: &dyn Store, branch: BranchId, transcript: &[MessageDraft]) -> (u64, u64) {
    let mut importer = Importer::new(store, &SystemClock, OnDuplicate::Auto, false);
    importer.next_file("file", None);
    let mut foreign = ForeignSession::new(Origin { format: "test".into(), id: "own".into(), path: None });
    foreign.continues = Some(Continuation::Recorded(branch));
    importer.receive(ImportEvent::Session(Box::new(foreign))).unwrap();
    for message in transcript {
        importer.receive(ImportEvent::Message { branch: 0, message: message.clone() }).unwrap();
    }
    importer.receive(ImportEvent::End(ImportReport::default())).unwrap();
    let imported = importer.imported.iter();
    imported.fold((0, 0), |(added, updated), session| {
        (added + session.messages, updated + session.updated_messages)
    })
}

#[test]
fn what_the_protocol_does_not_carry_is_taken_from_the_transcript_of_the_agent() {
    let store = memory_store();
    let store: &dyn Store = store.as_ref();
    let (_, main) = own_session(store, &[]);
    let of = |role, parts| MessageDraft::new(role, parts, Timestamp::UNIX_EPOCH);
    let thinking = |text: &str, signature: Option<&str>| Part::Thinking {
        text: text.into(),
        signature: signature.map(str::to_owned),
    };
    let call = |id: &str, name: &str| Part::ToolCall { id: id.into(), name: name.into(), input: "ls".into() };
    let result = |id: &str| Part::ToolResult { id: id.into(), output: "a".into(), is_error: false };
    let recorded = [
        MessageDraft::user("one", Timestamp::UNIX_EPOCH),
        of(Role::Assistant, vec![thinking("first", None), Part::text("so"), call("c1", "execute")]),
        of(Role::Tool, vec![result("c1")]),
        of(Role::Assistant, vec![thinking("elsewhere", None), Part::text("done")]),
        MessageDraft::user("two", Timestamp::UNIX_EPOCH),
        of(Role::Assistant, vec![call("c2", "execute")]),
    ];
    store.append(Position { branch: main, head: 0 }, &recorded).unwrap();
    let foreign = |id: &str, role, parts| MessageDraft { role, parts, ..message(id) };
    let mut environment = of_agent("i", Role::User, "environment");
    environment.set_flag(hfs_core::MessageFlag::Injected);
    let mut reminder = of_agent("r", Role::User, "be brief");
    reminder.set_flag(hfs_core::MessageFlag::Meta);
    let mut subagent = foreign("s", Role::Assistant, vec![call("c1", "Task")]);
    subagent.set_flag(hfs_core::MessageFlag::Sidechain);
    let mut transcript = vec![
        of_agent("p", Role::System, "instructions"),
        environment.clone(),
        of_agent("a", Role::User, "one"),
        foreign("b", Role::Assistant, vec![thinking("first\n", Some("signed"))]),
        foreign("c", Role::Assistant, vec![Part::text("so"), call("c1", "Bash")]),
        subagent,
        foreign("d", Role::Tool, vec![result("c1")]),
        reminder,
        foreign("e", Role::Assistant, vec![thinking("", Some("hidden")), Part::text("done")]),
        environment,
        of_agent("f", Role::User, "two"),
        foreign("g", Role::Assistant, vec![call("c2", "Grep")]),
    ];
    assert_eq!(import_of_agent(store, main, &transcript), (0, 4));
    let history = store.read_messages(main, MessageRange::Newest(100)).unwrap();
    for (message, recorded) in history.iter().zip(&recorded) {
        assert!(recorded.is_supplemented_by(&message.content), "{:?}", message.content);
    }
    let parts = |index: usize| history[index].content.parts.clone();
    assert_eq!(parts(1), [thinking("first", Some("signed")), Part::text("so"), call("c1", "Bash")]);
    assert_eq!(parts(3), recorded[3].parts);
    assert_eq!(parts(5), [call("c2", "Grep")]);
    let context = |index: usize| history[index].content.extra.get("injected_context").cloned();
    assert_eq!(context(0), Some(serde_json::json!(["instructions", "environment", "be brief"])));
    assert_eq!((context(1), context(4)), (None, Some(serde_json::json!(["environment"]))));
    // A transcript that has only grown adds only what is new.
    assert_eq!(import_of_agent(store, main, &transcript), (0, 0));
    let mut later = of_agent("h", Role::User, "later");
    later.set_flag(hfs_core::MessageFlag::Meta);
    transcript.push(later);
    assert_eq!(import_of_agent(store, main, &transcript), (0, 1));
    let prompt = store.read_messages(main, MessageRange::From(5, 1)).unwrap().remove(0);
    assert_eq!(
        prompt.content.extra.get("injected_context"),
        Some(&serde_json::json!(["environment", "later"]))
    );
}

#[test]
fn a_turn_that_is_being_written_is_supplemented_when_it_has_ended() {
    let store = memory_store();
    let store: &dyn Store = store.as_ref();
    let (_, main) = own_session(store, &["one"]);
    let call = |name: &str| Part::ToolCall { id: "c".into(), name: name.into(), input: "ls".into() };
    let reply = MessageDraft::new(Role::Assistant, vec![call("execute")], Timestamp::UNIX_EPOCH);
    let streaming = MessageDraft { status: MessageStatus::Streaming, ..reply.clone() };
    let handle = store.begin_reply(Position { branch: main, head: 1 }, &streaming).unwrap();
    let transcript = [
        of_agent("a", Role::User, "one"),
        MessageDraft { role: Role::Assistant, parts: vec![call("Bash")], ..message("b") },
    ];
    assert_eq!(import_of_agent(store, main, &transcript), (0, 0));
    store.finish_reply(handle, &reply).unwrap();
    assert_eq!(import_of_agent(store, main, &transcript), (0, 1));
    let parts = store.get_message(reply.id).unwrap().content.parts;
    assert_eq!(parts, [call("Bash")]);
}

#[test]
fn the_same_prompt_in_a_transcript_that_hfs_wrote_belongs_to_the_newest_turn() {
    let store = memory_store();
    let store: &dyn Store = store.as_ref();
    let (_, main) = own_session(store, &[]);
    let turn = |call: &str| {
        let parts = vec![Part::ToolCall { id: call.into(), name: "execute".into(), input: "ls".into() }];
        [
            MessageDraft::user("again", Timestamp::UNIX_EPOCH),
            MessageDraft::new(Role::Assistant, parts, Timestamp::UNIX_EPOCH),
        ]
    };
    store.append(Position { branch: main, head: 0 }, &turn("c1")).unwrap();
    let mut transcript = exported(store, main, &[], &[]);
    store.append(Position { branch: main, head: 2 }, &turn("c2")).unwrap();
    let mut reminder = of_agent("r", Role::User, "be brief");
    reminder.set_flag(hfs_core::MessageFlag::Meta);
    transcript.extend([of_agent("a", Role::User, "again"), reminder]);
    assert_eq!(import_of_agent(store, main, &transcript), (0, 1));
    let history = store.read_messages(main, MessageRange::Newest(100)).unwrap();
    let has_context = |index: usize| history[index].content.extra.contains_key("injected_context");
    assert_eq!((has_context(0), has_context(2)), (false, true));
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
