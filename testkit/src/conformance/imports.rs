//! Imports of whole sessions.

use hfs_core::{
    Attachment, BranchId, CheckpointDraft, CompleteImport, ErrorExt, ErrorKind, ImportedSessionUpdate,
    ImportedSource, MessageDraft, MessageStatus, OperationKind, Origin, PageRequest, Part, Role, Run,
    SearchQuery, SessionAttributes, SessionDraft, SessionFilter, SessionId, SessionImport, SessionRef,
    Source, StoreResult, Timestamp,
};

use super::Fixture;
use super::fixture::expect_kind;
use crate::builders::{at, attachment, growing_state};

/// A call on an import.
type Step<'a> = &'a dyn Fn(&mut dyn SessionImport) -> StoreResult<()>;

fn draft(fixture: &Fixture<'_>) -> SessionDraft {
    SessionDraft {
        origin: Some(Origin { format: "claude-code".into(), id: "one".into(), path: None }),
        automatic_name: true,
        ..fixture.drafts.session("importing")
    }
}

fn seconds_after_1970(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000).unwrap()
}

/// Asserts that no data of a session is visible outside its import.
fn assert_invisible(fixture: &Fixture<'_>, id: SessionId) {
    for store in [&fixture.store, &fixture.other_process()] {
        expect_kind(store.get_session(id), ErrorKind::NotFound);
        expect_kind(store.list_branches(id), ErrorKind::NotFound);
        expect_kind(
            store.resolve_session(&SessionRef::new(&id.to_string()), None, false),
            ErrorKind::NotFound,
        );
        for filter in [SessionFilter::default(), SessionFilter { trashed: true, ..SessionFilter::default() }]
        {
            let listed = store.list_sessions(&filter, &PageRequest::first(100)).unwrap();
            assert!(listed.items.iter().all(|summary| summary.session.id != id));
        }
        let info = store.info().unwrap();
        assert_eq!((info.sessions, info.messages, info.checkpoints), (0, 0, 0));
        let query = SearchQuery { text: "needle".into(), limit: 9, ..SearchQuery::default() };
        assert_eq!(store.search(&query).unwrap().total, 0);
        assert_eq!(store.list_operations(None, &PageRequest::first(9)).unwrap().items, []);
    }
}

pub fn an_import_becomes_visible_as_a_whole_when_it_finishes(fixture: &Fixture<'_>) {
    let draft = draft(fixture);
    let side = fixture.drafts.ids.branch();
    let bytes = attachment(b"picture");
    let full = fixture.drafts.full_message(&bytes);
    let texts: Vec<_> = (1..=3).map(|n| fixture.drafts.user(&format!("needle {n}"))).collect();
    let aside = fixture.drafts.assistant("aside");
    let run = fixture.drafts.run(side);
    let checkpoint = fixture.drafts.checkpoint(at(side, 3), growing_state(4));

    let mut import = fixture.store.import_session(&draft).unwrap();
    import.name_main("trunk").unwrap();
    import.attachment(&bytes).unwrap();
    import.message(0, &texts[0]).unwrap();
    import.message(0, &texts[1]).unwrap();
    // Branch 7 is forked from branch 0, the main branch, after its first message.
    import.branch(7, 0, 1, side, "side").unwrap();
    import.message(7, &full).unwrap();
    import.message(0, &texts[2]).unwrap();
    import.message(7, &aside).unwrap();
    import.run(&run).unwrap();
    import.checkpoint(&checkpoint).unwrap();
    assert_invisible(fixture, draft.id);
    let summary = import.finish("Imported", 7, seconds_after_1970(1), seconds_after_1970(9)).unwrap();

    assert_eq!((summary.messages, summary.branches, summary.checkpoints), (5, 2, 1));
    assert_eq!(summary.branch, "side");
    let session = &summary.session;
    assert_eq!((session.id, session.name.as_str(), session.automatic_name), (draft.id, "Imported", true));
    assert_eq!((session.created_at, session.updated_at), (seconds_after_1970(1), seconds_after_1970(9)));
    assert_eq!((&session.origin, session.current_branch, session.trashed_at), (&draft.origin, side, None));
    let another = fixture.other_process();
    assert_eq!(another.get_session(draft.id).unwrap(), summary);
    let branches = another.list_branches(draft.id).unwrap();
    assert_eq!(
        (branches[0].name.as_str(), branches[0].head, branches[0].created_at),
        ("trunk", 3, seconds_after_1970(1))
    );
    assert_eq!((branches[1].name.as_str(), branches[1].parent), ("side", Some(draft.main_branch)));
    assert_eq!((branches[1].forked_at, branches[1].head, branches[1].created_at), (1, 3, full.created_at));
    assert_eq!(fixture.texts(draft.main_branch), ["needle 1", "needle 2", "needle 3"]);
    let history: Vec<_> = fixture.history(side).into_iter().map(|message| message.content).collect();
    assert_eq!(history, [texts[0].clone(), full, aside]);
    assert_eq!(another.get_attachment(bytes.hash).unwrap(), b"picture");
    assert_eq!(another.get_run(run.id).unwrap(), run);
    assert_eq!(another.list_runs(draft.id).unwrap(), [run.id]);
    assert_eq!(another.load_state(checkpoint.id).unwrap(), growing_state(4));
    assert_eq!(another.load_branch_state(side).unwrap(), None);
    let query = SearchQuery { text: "needle".into(), limit: 9, ..SearchQuery::default() };
    assert!(another.search(&query).unwrap().total >= 3);

    let operation = fixture.last_operation(draft.id);
    assert_eq!((operation.kind, operation.before), (OperationKind::Import, None));
    assert_eq!(operation.after.name, "Imported");
    assert!(
        operation.created_at > seconds_after_1970(9),
        "the operation has the time of the import, not of the session"
    );
}

pub fn an_imported_branch_can_be_undone(fixture: &Fixture<'_>) {
    let draft = draft(fixture);
    let sides = [fixture.drafts.ids.branch(), fixture.drafts.ids.branch()];
    let mut import = fixture.store.import_session(&draft).unwrap();
    import.message(0, &fixture.drafts.user("on main")).unwrap();
    for (key, side) in (1..).zip(sides) {
        import.branch(key, 0, 1, side, &format!("side {key}")).unwrap();
        import.message(key, &fixture.drafts.user("needle on a side")).unwrap();
        import.mark_undone(key).unwrap();
    }
    expect_kind(import.mark_undone(3), ErrorKind::Invalid);
    let summary = import.finish("Imported", 2, seconds_after_1970(1), seconds_after_1970(2)).unwrap();
    assert_eq!(summary.branches, 2, "the current branch is never undone");
    let undone: Vec<bool> =
        fixture.store.list_branches(draft.id).unwrap().iter().map(|branch| branch.undone).collect();
    assert_eq!(undone, [false, true, false]);
    let query = SearchQuery { text: "needle".into(), limit: 9, ..SearchQuery::default() };
    assert_eq!(fixture.store.search(&query).unwrap().total, 2);
    fixture.store.switch_branch(sides[0], fixture.drafts.now()).unwrap();
    fixture.append_text(at(sides[0], 2), "more");
    assert!(fixture.store.verify().unwrap().is_ok());
}

pub fn an_imported_session_can_be_continued(fixture: &Fixture<'_>) {
    let draft = draft(fixture);
    let mut import = fixture.store.import_session(&draft).unwrap();
    import.message(0, &fixture.drafts.user("said elsewhere")).unwrap();
    import.finish("Imported", 0, seconds_after_1970(1), seconds_after_1970(2)).unwrap();
    let main = fixture.append_text(at(draft.main_branch, 1), "said here");
    assert!(fixture.store.get_session(draft.id).unwrap().session.updated_at > seconds_after_1970(2));
    fixture.checkpoint(main, growing_state(1), 1);
    fixture.fork(main, "side");
    fixture.store.rename_session(draft.id, "renamed", false, fixture.drafts.now()).unwrap();
    fixture.undo(fixture.last_operation(draft.id).id).unwrap();
    let operations = fixture.operations(draft.id);
    expect_kind(fixture.undo(operations[operations.len() - 1].id), ErrorKind::Unsupported);
}

pub fn a_dropped_import_leaves_no_data(fixture: &Fixture<'_>) {
    let draft = draft(fixture);
    let message = fixture.drafts.user("needle");
    let side = fixture.drafts.ids.branch();
    let checkpoint = fixture.drafts.checkpoint(at(side, 1), growing_state(1));
    let run = fixture.drafts.run(side);
    let fill = |import: &mut dyn SessionImport| {
        import.message(0, &message).unwrap();
        import.branch(1, 0, 1, side, "side").unwrap();
        for n in 0..600 {
            import.message(1, &fixture.drafts.user(&format!("needle {n}"))).unwrap();
        }
        import.checkpoint(&checkpoint).unwrap();
        import.run(&run).unwrap();
    };
    for _ in 0..2 {
        let mut import = fixture.store.import_session(&draft).unwrap();
        fill(&mut *import);
        drop(import);
        assert_invisible(fixture, draft.id);
        expect_kind(fixture.store.get_message(message.id), ErrorKind::NotFound);
        expect_kind(fixture.store.get_branch(side), ErrorKind::NotFound);
        expect_kind(fixture.store.load_state(checkpoint.id), ErrorKind::NotFound);
        expect_kind(fixture.store.get_run(run.id), ErrorKind::NotFound);
        assert!(fixture.store.verify().unwrap().is_ok());
    }
    assert_eq!(fixture.store.info().unwrap().checkpoint_bytes, 0);
    let mut import = fixture.store.import_session(&draft).unwrap();
    fill(&mut *import);
    assert_eq!(import.finish("now", 1, seconds_after_1970(0), seconds_after_1970(0)).unwrap().messages, 601);
}

pub fn an_inconsistent_import_is_rejected(fixture: &Fixture<'_>) {
    let make = &fixture.drafts;
    let attempts: [(ErrorKind, Step<'_>); 10] = [
        (ErrorKind::Invalid, &|import| import.message(1, &make.user("x"))),
        (ErrorKind::Invalid, &|import| import.branch(1, 2, 0, make.ids.branch(), "x")),
        (ErrorKind::Invalid, &|import| import.branch(1, 0, 2, make.ids.branch(), "x")),
        (ErrorKind::Invalid, &|import| import.branch(0, 0, 0, make.ids.branch(), "x")),
        (ErrorKind::Conflict, &|import| import.branch(1, 0, 0, make.ids.branch(), "main")),
        (ErrorKind::Invalid, &|import| import.run(&make.run(make.ids.branch()))),
        (ErrorKind::Invalid, &|import| {
            import.checkpoint(&make.checkpoint(at(make.ids.branch(), 0), growing_state(0)))
        }),
        (ErrorKind::Invalid, &|import| import.message(0, &make.full_message(&attachment(b"missing")))),
        (ErrorKind::Invalid, &|import| {
            let wrong = Attachment { bytes: b"other".to_vec(), ..attachment(b"bytes") };
            import.attachment(&wrong)
        }),
        (ErrorKind::Conflict, &|import| {
            import.branch(1, 0, 0, make.ids.branch(), "side")?;
            import.name_main("side")
        }),
    ];
    for (index, (kind, attempt)) in attempts.into_iter().enumerate() {
        let draft = draft(fixture);
        let mut import = fixture.store.import_session(&draft).unwrap();
        import.message(0, &fixture.drafts.user("needle")).unwrap();
        let error = attempt(&mut *import).unwrap_err();
        assert_eq!(ErrorExt::kind(&error), kind, "attempt {index}: {error}");
        drop(import);
        assert_invisible(fixture, draft.id);
    }
    let draft = draft(fixture);
    let import = fixture.store.import_session(&draft).unwrap();
    expect_kind(import.finish("x", 3, seconds_after_1970(0), seconds_after_1970(0)), ErrorKind::Invalid);
    assert_invisible(fixture, draft.id);

    let mut import = fixture.store.import_session(&draft).unwrap();
    let beyond = fixture.drafts.checkpoint(at(draft.main_branch, 1), growing_state(0));
    expect_kind(import.checkpoint(&beyond), ErrorKind::Invalid);
}

pub fn an_existing_id_is_a_conflict(fixture: &Fixture<'_>) {
    let existing = fixture.session("here");
    let here = fixture.drafts.user("here");
    fixture.store.append(at(existing.current_branch, 0), std::slice::from_ref(&here)).unwrap();
    let kept = fixture.checkpoint(at(existing.current_branch, 1), growing_state(0), 9);
    let run = fixture.drafts.run(existing.current_branch);
    fixture.store.save_run(&run).unwrap();

    let same_id = SessionDraft { id: existing.id, ..draft(fixture) };
    expect_kind(fixture.store.import_session(&same_id).map(|_| ()), ErrorKind::Conflict);
    let same_branch = SessionDraft { main_branch: existing.current_branch, ..draft(fixture) };
    expect_kind(fixture.store.import_session(&same_branch).map(|_| ()), ErrorKind::Conflict);

    // The call that causes one of the following conflicts may report it, or `finish` may.
    let new = draft(fixture);
    let conflicts: [Step<'_>; 5] = [
        &|import| import.message(0, &here),
        &|import| {
            let message = fixture.drafts.user("twice");
            import.message(0, &message)?;
            import.message(0, &message)
        },
        &|import| import.branch(1, 0, 0, existing.current_branch, "x"),
        &|import| {
            let again = fixture.drafts.checkpoint(at(new.main_branch, 0), growing_state(1));
            import.checkpoint(&CheckpointDraft { id: kept.id, ..again })
        },
        &|import| import.run(&Run { id: run.id, ..fixture.drafts.run(new.main_branch) }),
    ];
    for (index, conflict) in conflicts.into_iter().enumerate() {
        let mut import = fixture.store.import_session(&new).unwrap();
        let result = match conflict(&mut *import) {
            Ok(()) => import.finish("x", 0, seconds_after_1970(0), seconds_after_1970(0)).map(|_| ()),
            Err(error) => {
                drop(import);
                Err(error)
            }
        };
        let kind = result.map_err(|error| ErrorExt::kind(&error));
        assert_eq!(kind, Err(ErrorKind::Conflict), "conflict {index}");
        expect_kind(fixture.store.get_session(new.id), ErrorKind::NotFound);
    }
    assert_eq!(fixture.store.get_run(run.id).unwrap(), run);
    assert_eq!(fixture.texts(existing.current_branch), ["here"]);
}

pub fn other_writers_are_not_blocked_by_an_import(fixture: &Fixture<'_>) {
    let first = draft(fixture);
    let second = SessionDraft { origin: None, ..draft(fixture) };
    let another = fixture.other_process();
    let mut one = fixture.store.import_session(&first).unwrap();
    let mut other = another.import_session(&second).unwrap();
    let mut main = fixture.main();
    for n in 1..=300 {
        one.message(0, &fixture.drafts.user(&format!("one {n}"))).unwrap();
        other.message(0, &fixture.drafts.user(&format!("other {n}"))).unwrap();
        if n % 50 == 0 {
            main = fixture.append_text(main, &format!("main {n}"));
        }
    }
    one.finish("One", 0, seconds_after_1970(0), seconds_after_1970(1)).unwrap();
    other.finish("Other", 0, seconds_after_1970(0), seconds_after_1970(1)).unwrap();
    assert_eq!(fixture.texts(main.branch).len(), 6);
    for (id, word) in [(first.main_branch, "one"), (second.main_branch, "other")] {
        let expected: Vec<_> = (1..=300).map(|n| format!("{word} {n}")).collect();
        assert_eq!(fixture.texts(id), expected);
    }
}

pub fn an_import_is_dropped_with_its_store(fixture: &Fixture<'_>) {
    let draft = draft(fixture);
    let message = fixture.drafts.user("needle");
    {
        let another = fixture.other_process();
        let mut import = another.import_session(&draft).unwrap();
        import.message(0, &message).unwrap();
    }
    assert_invisible(fixture, draft.id);
    fixture.store.create_session(&draft).unwrap();
    fixture.store.append(at(draft.main_branch, 0), &[message]).unwrap();
}

pub fn a_purge_keeps_attachments_of_a_running_import(fixture: &Fixture<'_>) {
    let bytes = attachment(b"shared");
    let refer =
        || Part::Attachment { media_type: "x/y".into(), name: None, hash: Some(bytes.hash), bytes: 6 };
    fixture.store.put_attachment(&bytes).unwrap();
    let purged = fixture.main();
    fixture.store.append(purged, &[fixture.drafts.message(Role::User, vec![refer()])]).unwrap();
    let draft = draft(fixture);
    let mut import = fixture.store.import_session(&draft).unwrap();
    import.message(0, &fixture.drafts.message(Role::User, vec![refer()])).unwrap();
    fixture.other_process().purge_session(fixture.session_of(purged.branch)).unwrap();
    import.finish("x", 0, seconds_after_1970(0), seconds_after_1970(0)).unwrap();
    assert_eq!(fixture.store.get_attachment(bytes.hash).unwrap(), b"shared");
}

pub fn an_imported_streaming_message_becomes_interrupted(fixture: &Fixture<'_>) {
    let draft = draft(fixture);
    let mut import = fixture.store.import_session(&draft).unwrap();
    let message = MessageDraft { status: MessageStatus::Streaming, ..fixture.drafts.assistant("half") };
    import.message(0, &message).unwrap();
    import.finish("x", 0, seconds_after_1970(0), seconds_after_1970(0)).unwrap();
    assert_eq!(fixture.history(draft.main_branch)[0].content.status, MessageStatus::Interrupted);
    fixture.append_text(at(draft.main_branch, 1), "go on");
    assert_eq!(fixture.store.recover_abandoned_replies(None, fixture.drafts.now()).unwrap(), 0);
}

/// Imports a session with one message, which has this text.
fn import_message(fixture: &Fixture<'_>, text: &str) -> (SessionDraft, MessageDraft) {
    let draft = draft(fixture);
    let source = Source { format: "claude-code".into(), id: "1".into() };
    let message = MessageDraft { source: Some(source), ..fixture.drafts.assistant(text) };
    let mut import = fixture.store.import_session(&draft).unwrap();
    import.message(0, &message).unwrap();
    import.finish("Imported", 0, seconds_after_1970(1), seconds_after_1970(2)).unwrap();
    (draft, message)
}

fn hits(fixture: &Fixture<'_>, text: &str) -> u64 {
    let query = SearchQuery { text: text.into(), limit: 9, ..SearchQuery::default() };
    fixture.store.search(&query).unwrap().total
}

pub fn an_updated_message_keeps_its_place_and_is_found_by_its_new_text(fixture: &Fixture<'_>) {
    let (draft, message) = import_message(fixture, "halfway");
    let main = draft.main_branch;
    fixture.append_text(at(main, 1), "reply to it");
    // Both before and after the message is in the text index.
    for (old, new) in [("halfway", "complete"), ("complete", "corrected")] {
        let bytes = attachment(new.as_bytes());
        fixture.store.put_attachment(&bytes).unwrap();
        let picture =
            Part::Attachment { media_type: "image/png".into(), name: None, hash: Some(bytes.hash), bytes: 8 };
        let update = MessageDraft { parts: vec![Part::text(new), picture], ..message.clone() };
        fixture.store.update_imported_messages(std::slice::from_ref(&update)).unwrap();
        assert_eq!(fixture.history(main)[0].content, update);
        assert_eq!(fixture.texts(main), [new, "reply to it"]);
        assert_eq!((hits(fixture, old), hits(fixture, new)), (0, 1));
        assert_eq!(fixture.store.get_attachment(bytes.hash).unwrap(), new.as_bytes());
    }
    assert_eq!(fixture.store.get_session(draft.id).unwrap().messages, 2);
}

pub fn only_imported_messages_can_be_updated(fixture: &Fixture<'_>) {
    let (draft, imported) = import_message(fixture, "imported");
    let written = fixture.drafts.user("written here");
    fixture.store.append(at(draft.main_branch, 1), std::slice::from_ref(&written)).unwrap();
    let change =
        |message: &MessageDraft| MessageDraft { parts: vec![Part::text("changed")], ..message.clone() };
    let both = [change(&imported), change(&written)];
    expect_kind(fixture.store.update_imported_messages(&both), ErrorKind::Invalid);
    let missing = [change(&imported), change(&fixture.drafts.user("unknown"))];
    expect_kind(fixture.store.update_imported_messages(&missing), ErrorKind::NotFound);
    assert_eq!(fixture.texts(draft.main_branch), ["imported", "written here"], "all or none");
}

pub fn a_supplement_adds_to_a_recorded_message_and_changes_nothing_else(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let call = |name: &str| Part::ToolCall { id: "1".into(), name: name.into(), input: "quillword".into() };
    let recorded = fixture.drafts.message(Role::Assistant, vec![Part::text("yes"), call("execute")]);
    let next = fixture
        .append_text(fixture.store.append(main, std::slice::from_ref(&recorded)).unwrap().position, "next");
    let mut fuller = MessageDraft { parts: vec![Part::text("yes"), call("shellword")], ..recorded.clone() };
    fuller.extra.insert("injected_context".into(), vec!["environment"].into());
    // Both before and after the message is in the text index.
    for _ in 0..2 {
        fixture.store.supplement_messages(std::slice::from_ref(&fuller)).unwrap();
        assert_eq!(fixture.history(main.branch)[0].content, fuller);
        assert_eq!((hits(fixture, "shellword"), hits(fixture, "quillword")), (1, 1));
        assert_eq!(fixture.texts(main.branch), ["yes", "next"]);
    }
    let changed = MessageDraft { parts: vec![Part::text("no"), call("shellword")], ..fuller.clone() };
    expect_kind(fixture.store.supplement_messages(&[fuller.clone(), changed]), ErrorKind::Invalid);
    let missing = fixture.drafts.user("unknown");
    expect_kind(fixture.store.supplement_messages(&[fuller.clone(), missing]), ErrorKind::NotFound);
    let mut more = fuller.clone();
    more.extra.insert("another".into(), true.into());
    let streaming = fixture.drafts.assistant("");
    fixture.store.begin_reply(next, &streaming).unwrap();
    expect_kind(fixture.store.supplement_messages(&[more, streaming]), ErrorKind::Invalid);
    assert_eq!(fixture.history(main.branch)[0].content, fuller, "all or none");
}

pub fn an_import_adds_a_branch_without_making_it_current(fixture: &Fixture<'_>) {
    let (draft, _) = import_message(fixture, "imported");
    let before = fixture.store.get_session(draft.id).unwrap();
    let branch = fixture.drafts.branch("main-2", at(draft.main_branch, 1));
    let now = fixture.drafts.now();
    let operation = fixture.store.create_branch(&branch, OperationKind::Import, None, now).unwrap();
    assert_eq!((operation.kind, operation.branch), (OperationKind::Import, Some(branch.id)));
    let after = fixture.store.get_session(draft.id).unwrap();
    assert_eq!(after.session, before.session);
    assert_eq!(after.branches, 2);
}

fn session_update(fixture: &Fixture<'_>, session: SessionId) -> ImportedSessionUpdate {
    let session = fixture.store.get_session(session).unwrap().session;
    ImportedSessionUpdate {
        expected: SessionAttributes {
            name: session.name,
            automatic_name: session.automatic_name,
            current_branch: session.current_branch,
            trashed: false,
        },
        name: None,
        current_branch: None,
        project: None,
        origin: None,
        created_at: None,
        updated_at: session.updated_at,
        extra: None,
    }
}

pub fn an_update_of_a_session_needs_the_attributes_that_it_is_based_on(fixture: &Fixture<'_>) {
    let (draft, _) = import_message(fixture, "imported");
    let branch = fixture.drafts.branch("main-2", at(draft.main_branch, 1));
    let now = fixture.drafts.now();
    fixture.store.create_branch(&branch, OperationKind::Import, None, now).unwrap();
    let update = ImportedSessionUpdate {
        name: Some(("Titled".into(), false)),
        current_branch: Some(branch.id),
        created_at: Some(seconds_after_1970(0)),
        updated_at: seconds_after_1970(5),
        ..session_update(fixture, draft.id)
    };
    fixture.store.update_imported_session(draft.id, &update, now).unwrap();
    let session = fixture.store.get_session(draft.id).unwrap().session;
    assert_eq!((session.name.as_str(), session.automatic_name), ("Titled", false));
    assert_eq!((session.current_branch, session.created_at), (branch.id, seconds_after_1970(0)));
    assert_eq!(session.updated_at, seconds_after_1970(5), "the import itself is no change of the session");
    let operation = fixture.last_operation(draft.id);
    assert_eq!((operation.kind, operation.after.name.as_str()), (OperationKind::Import, "Titled"));

    expect_kind(fixture.store.update_imported_session(draft.id, &update, now), ErrorKind::Conflict);
    let foreign = ImportedSessionUpdate {
        current_branch: Some(fixture.main().branch),
        ..session_update(fixture, draft.id)
    };
    expect_kind(fixture.store.update_imported_session(draft.id, &foreign, now), ErrorKind::Conflict);
    let unknown = ImportedSessionUpdate {
        current_branch: Some(BranchId::generate()),
        ..session_update(fixture, draft.id)
    };
    expect_kind(fixture.store.update_imported_session(draft.id, &unknown, now), ErrorKind::NotFound);
    assert_eq!(fixture.store.get_session(draft.id).unwrap().session, session);
}

pub fn a_source_is_known_until_one_of_its_sessions_is_deleted(fixture: &Fixture<'_>) {
    let (draft, _) = import_message(fixture, "imported");
    let store = &fixture.store;
    assert_eq!(store.find_imported_source("/a").unwrap(), None);
    let mut source = ImportedSource { fingerprint: [1; 32], sessions: vec![draft.id] };
    let other = ImportedSource { fingerprint: [3; 32], sessions: Vec::new() };
    let complete = |path: &str, source: &ImportedSource, resume_point: Option<Vec<u8>>| CompleteImport {
        path: path.into(),
        source: source.clone(),
        resume_point,
    };
    let point = Some(b"point".to_vec());
    store
        .save_imported_sources(&[complete("/a", &source, None), complete("/c", &other, point.clone())])
        .unwrap();
    assert_eq!(store.find_imported_source("/c").unwrap(), Some(other.clone()));
    assert_eq!(store.find_resume_point("/c").unwrap(), point);
    store.save_imported_sources(&[complete("/c", &other, None)]).unwrap();
    assert_eq!(store.find_resume_point("/c").unwrap(), None, "the newer import has none");
    source.fingerprint = [2; 32];
    store.save_imported_sources(&[complete("/a", &source, point.clone())]).unwrap();
    store.sync().unwrap();
    assert_eq!(store.find_resume_point("/a").unwrap(), point);
    assert_eq!(fixture.other_process().find_imported_source("/a").unwrap(), Some(source.clone()));
    assert_eq!(store.find_imported_source("/b").unwrap(), None);
    store.trash_session(draft.id, fixture.drafts.now()).unwrap();
    assert_eq!(store.find_imported_source("/a").unwrap(), None);
    assert_eq!(store.find_resume_point("/a").unwrap(), None);
    store.restore_session(draft.id, fixture.drafts.now()).unwrap();
    assert_eq!(store.find_imported_source("/a").unwrap(), Some(source));
    assert_eq!(store.find_resume_point("/a").unwrap(), point);
    store.purge_session(draft.id).unwrap();
    assert_eq!(store.find_imported_source("/a").unwrap(), None);
    assert_eq!(store.find_resume_point("/a").unwrap(), None);
}
