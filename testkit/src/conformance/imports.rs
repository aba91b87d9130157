//! An import appears whole or not at all.

use hfs_core::{
    ErrorKind, MessageStatus, OperationKind, Origin, Part, Role, Run, SearchQuery, SessionDraft,
    SessionFilter, SessionId, SessionImport, StoreResult, Timestamp,
};

use super::Scene;
use super::scene::expect_kind;
use crate::builders::{at, attachment, growing_state};

/// Something that an import is given.
type Step<'a> = &'a dyn Fn(&mut dyn SessionImport) -> StoreResult<()>;

fn draft(scene: &Scene<'_>) -> SessionDraft {
    SessionDraft {
        origin: Some(Origin { format: "claude-code".into(), id: "one".into(), path: None }),
        automatic_name: true,
        ..scene.make.session("arriving")
    }
}

fn long_ago(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000).unwrap()
}

/// Checks that nobody can see anything of a session, but its importer.
fn is_unseen(scene: &Scene<'_>, id: SessionId) {
    for store in [&scene.store, &scene.another()] {
        expect_kind(store.get_session(id), ErrorKind::NotFound);
        expect_kind(store.list_branches(id), ErrorKind::NotFound);
        expect_kind(
            store.resolve_session(&hfs_core::SessionRef::new(&id.to_string()), None, false),
            ErrorKind::NotFound,
        );
        for filter in [SessionFilter::default(), SessionFilter { trashed: true, ..SessionFilter::default() }]
        {
            let listed = store.list_sessions(&filter, &hfs_core::PageRequest::first(100)).unwrap();
            assert!(listed.items.iter().all(|summary| summary.session.id != id));
        }
        let info = store.info().unwrap();
        assert_eq!((info.sessions, info.messages, info.checkpoints), (0, 0, 0));
        let query = SearchQuery { text: "needle".into(), limit: 9, ..SearchQuery::default() };
        assert_eq!(store.search(&query).unwrap().total, 0);
        assert_eq!(store.list_operations(None, &hfs_core::PageRequest::first(9)).unwrap().items, []);
    }
}

pub fn an_import_appears_whole_at_its_end(scene: &Scene<'_>) {
    let draft = draft(scene);
    let side = scene.make.ids.branch();
    let bytes = attachment(b"picture");
    let full = scene.make.full_message(&bytes);
    let texts: Vec<_> = (1..=3).map(|n| scene.make.user(&format!("needle {n}"))).collect();
    let aside = scene.make.assistant("aside");
    let run = scene.make.run(side);
    let checkpoint = scene.make.checkpoint(at(side, 3), growing_state(4));

    let mut import = scene.store.import_session(&draft).unwrap();
    import.name_main("trunk").unwrap();
    import.attachment(&bytes).unwrap();
    import.message(0, &texts[0]).unwrap();
    import.message(0, &texts[1]).unwrap();
    import.branch(7, 0, 1, side, "side").unwrap();
    import.message(7, &full).unwrap();
    import.message(0, &texts[2]).unwrap();
    import.message(7, &aside).unwrap();
    import.run(&run).unwrap();
    import.checkpoint(&checkpoint).unwrap();
    is_unseen(scene, draft.id);
    let summary = import.finish("Imported", 7, long_ago(1), long_ago(9)).unwrap();

    assert_eq!((summary.messages, summary.branches, summary.checkpoints), (5, 2, 1));
    assert_eq!(summary.branch, "side");
    let session = &summary.session;
    assert_eq!((session.id, session.name.as_str(), session.automatic_name), (draft.id, "Imported", true));
    assert_eq!((session.created_at, session.updated_at), (long_ago(1), long_ago(9)));
    assert_eq!((&session.origin, session.current_branch, session.trashed_at), (&draft.origin, side, None));
    let another = scene.another();
    assert_eq!(another.get_session(draft.id).unwrap(), summary);
    let branches = another.list_branches(draft.id).unwrap();
    assert_eq!(
        (branches[0].name.as_str(), branches[0].head, branches[0].created_at),
        ("trunk", 3, long_ago(1))
    );
    assert_eq!((branches[1].name.as_str(), branches[1].parent), ("side", Some(draft.main_branch)));
    assert_eq!((branches[1].forked_at, branches[1].head, branches[1].created_at), (1, 3, full.created_at));
    assert_eq!(scene.texts(draft.main_branch), ["needle 1", "needle 2", "needle 3"]);
    let history: Vec<_> = scene.history(side).into_iter().map(|message| message.content).collect();
    assert_eq!(history, [texts[0].clone(), full, aside]);
    assert_eq!(another.get_attachment(bytes.hash).unwrap(), b"picture");
    assert_eq!(another.get_run(run.id).unwrap(), run);
    assert_eq!(another.list_runs(draft.id).unwrap(), [run.id]);
    assert_eq!(another.load_state(checkpoint.id).unwrap(), growing_state(4));
    assert_eq!(another.load_branch_state(side).unwrap(), None);
    let query = SearchQuery { text: "needle".into(), limit: 9, ..SearchQuery::default() };
    assert!(another.search(&query).unwrap().total >= 3);

    let operation = scene.last_operation(draft.id);
    assert_eq!((operation.kind, operation.before), (OperationKind::Import, None));
    assert_eq!(operation.after.name, "Imported");
    assert!(operation.created_at > long_ago(9), "recorded when it was done");
}

pub fn an_imported_session_goes_on_like_any_other(scene: &Scene<'_>) {
    let draft = draft(scene);
    let mut import = scene.store.import_session(&draft).unwrap();
    import.message(0, &scene.make.user("said elsewhere")).unwrap();
    import.finish("Imported", 0, long_ago(1), long_ago(2)).unwrap();
    let main = scene.say(at(draft.main_branch, 1), "said here");
    assert!(scene.store.get_session(draft.id).unwrap().session.updated_at > long_ago(2));
    scene.checkpoint(main, growing_state(1), 1);
    scene.fork(main, "side");
    scene.store.rename_session(draft.id, "renamed", false, scene.make.now()).unwrap();
    scene.undo(scene.last_operation(draft.id).id).unwrap();
    let operations = scene.operations(draft.id);
    expect_kind(scene.undo(operations[operations.len() - 1].id), ErrorKind::Unsupported);
}

pub fn what_was_dropped_on_the_way_leaves_nothing(scene: &Scene<'_>) {
    let draft = draft(scene);
    let message = scene.make.user("needle");
    let side = scene.make.ids.branch();
    let checkpoint = scene.make.checkpoint(at(side, 1), growing_state(1));
    let run = scene.make.run(side);
    let fill = |import: &mut dyn SessionImport| {
        import.message(0, &message).unwrap();
        import.branch(1, 0, 1, side, "side").unwrap();
        for n in 0..600 {
            import.message(1, &scene.make.user(&format!("needle {n}"))).unwrap();
        }
        import.checkpoint(&checkpoint).unwrap();
        import.run(&run).unwrap();
    };
    for _ in 0..2 {
        let mut import = scene.store.import_session(&draft).unwrap();
        fill(&mut *import);
        drop(import);
        is_unseen(scene, draft.id);
        expect_kind(scene.store.get_message(message.id), ErrorKind::NotFound);
        expect_kind(scene.store.get_branch(side), ErrorKind::NotFound);
        expect_kind(scene.store.load_state(checkpoint.id), ErrorKind::NotFound);
        expect_kind(scene.store.get_run(run.id), ErrorKind::NotFound);
        assert!(scene.store.verify().unwrap().is_ok());
    }
    assert_eq!(scene.store.info().unwrap().checkpoint_bytes, 0);
    let mut import = scene.store.import_session(&draft).unwrap();
    fill(&mut *import);
    assert_eq!(import.finish("now", 1, long_ago(0), long_ago(0)).unwrap().messages, 601);
}

pub fn an_import_that_makes_no_sense_is_refused(scene: &Scene<'_>) {
    let make = &scene.make;
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
            let wrong = hfs_core::Attachment { bytes: b"other".to_vec(), ..attachment(b"bytes") };
            import.attachment(&wrong)
        }),
        (ErrorKind::Conflict, &|import| {
            import.branch(1, 0, 0, make.ids.branch(), "side")?;
            import.name_main("side")
        }),
    ];
    for (index, (kind, attempt)) in attempts.into_iter().enumerate() {
        let draft = draft(scene);
        let mut import = scene.store.import_session(&draft).unwrap();
        import.message(0, &scene.make.user("needle")).unwrap();
        let error = attempt(&mut *import).unwrap_err();
        assert_eq!(hfs_core::ErrorExt::kind(&error), kind, "attempt {index}: {error}");
        drop(import);
        is_unseen(scene, draft.id);
    }
    let draft = draft(scene);
    let import = scene.store.import_session(&draft).unwrap();
    expect_kind(import.finish("x", 3, long_ago(0), long_ago(0)), ErrorKind::Invalid);
    is_unseen(scene, draft.id);

    let mut import = scene.store.import_session(&draft).unwrap();
    let beyond = scene.make.checkpoint(at(draft.main_branch, 1), growing_state(0));
    expect_kind(import.checkpoint(&beyond), ErrorKind::Invalid);
}

pub fn an_id_that_exists_is_a_conflict(scene: &Scene<'_>) {
    let existing = scene.session("here");
    let here = scene.make.user("here");
    scene.store.append(at(existing.current_branch, 0), std::slice::from_ref(&here)).unwrap();
    let kept = scene.checkpoint(at(existing.current_branch, 1), growing_state(0), 9);
    let run = scene.make.run(existing.current_branch);
    scene.store.save_run(&run).unwrap();

    let same_id = SessionDraft { id: existing.id, ..draft(scene) };
    expect_kind(scene.store.import_session(&same_id).map(|_| ()), ErrorKind::Conflict);
    let same_branch = SessionDraft { main_branch: existing.current_branch, ..draft(scene) };
    expect_kind(scene.store.import_session(&same_branch).map(|_| ()), ErrorKind::Conflict);

    // Each other id may be found taken when it comes, or in the end.
    let new = draft(scene);
    let conflicts: [Step<'_>; 5] = [
        &|import| import.message(0, &here),
        &|import| {
            let message = scene.make.user("twice");
            import.message(0, &message)?;
            import.message(0, &message)
        },
        &|import| import.branch(1, 0, 0, existing.current_branch, "x"),
        &|import| {
            let again = scene.make.checkpoint(at(new.main_branch, 0), growing_state(1));
            import.checkpoint(&hfs_core::CheckpointDraft { id: kept.id, ..again })
        },
        &|import| import.run(&Run { id: run.id, ..scene.make.run(new.main_branch) }),
    ];
    for (index, conflict) in conflicts.into_iter().enumerate() {
        let mut import = scene.store.import_session(&new).unwrap();
        let result = match conflict(&mut *import) {
            Ok(()) => import.finish("x", 0, long_ago(0), long_ago(0)).map(|_| ()),
            Err(error) => {
                drop(import);
                Err(error)
            }
        };
        let kind = result.map_err(|error| hfs_core::ErrorExt::kind(&error));
        assert_eq!(kind, Err(ErrorKind::Conflict), "conflict {index}");
        expect_kind(scene.store.get_session(new.id), ErrorKind::NotFound);
    }
    assert_eq!(scene.store.get_run(run.id).unwrap(), run);
    assert_eq!(scene.texts(existing.current_branch), ["here"]);
}

pub fn others_go_on_while_an_import_runs(scene: &Scene<'_>) {
    let first = draft(scene);
    let second = SessionDraft { origin: None, ..draft(scene) };
    let another = scene.another();
    let mut one = scene.store.import_session(&first).unwrap();
    let mut other = another.import_session(&second).unwrap();
    let mut main = scene.main();
    for n in 1..=300 {
        one.message(0, &scene.make.user(&format!("one {n}"))).unwrap();
        other.message(0, &scene.make.user(&format!("other {n}"))).unwrap();
        if n % 50 == 0 {
            main = scene.say(main, &format!("main {n}"));
        }
    }
    one.finish("One", 0, long_ago(0), long_ago(1)).unwrap();
    other.finish("Other", 0, long_ago(0), long_ago(1)).unwrap();
    assert_eq!(scene.texts(main.branch).len(), 6);
    for (id, word) in [(first.main_branch, "one"), (second.main_branch, "other")] {
        let expected: Vec<_> = (1..=300).map(|n| format!("{word} {n}")).collect();
        assert_eq!(scene.texts(id), expected);
    }
}

pub fn an_import_ends_with_the_store_that_it_goes_through(scene: &Scene<'_>) {
    let draft = draft(scene);
    let message = scene.make.user("needle");
    {
        let another = scene.another();
        let mut import = another.import_session(&draft).unwrap();
        import.message(0, &message).unwrap();
    }
    is_unseen(scene, draft.id);
    scene.store.create_session(&draft).unwrap();
    scene.store.append(at(draft.main_branch, 0), &[message]).unwrap();
}

pub fn a_purge_takes_no_attachment_away_from_an_import(scene: &Scene<'_>) {
    let bytes = attachment(b"shared");
    let refer =
        || Part::Attachment { media_type: "x/y".into(), name: None, hash: Some(bytes.hash), bytes: 6 };
    scene.store.put_attachment(&bytes).unwrap();
    let going = scene.main();
    scene.store.append(going, &[scene.make.message(Role::User, vec![refer()])]).unwrap();
    let draft = draft(scene);
    let mut import = scene.store.import_session(&draft).unwrap();
    import.message(0, &scene.make.message(Role::User, vec![refer()])).unwrap();
    scene.another().purge_session(scene.session_of(going.branch)).unwrap();
    import.finish("x", 0, long_ago(0), long_ago(0)).unwrap();
    assert_eq!(scene.store.get_attachment(bytes.hash).unwrap(), b"shared");
}

pub fn what_was_streaming_elsewhere_is_interrupted_here(scene: &Scene<'_>) {
    let draft = draft(scene);
    let mut import = scene.store.import_session(&draft).unwrap();
    let message = hfs_core::MessageDraft { status: MessageStatus::Streaming, ..scene.make.assistant("half") };
    import.message(0, &message).unwrap();
    import.finish("x", 0, long_ago(0), long_ago(0)).unwrap();
    assert_eq!(scene.history(draft.main_branch)[0].content.status, MessageStatus::Interrupted);
    scene.say(at(draft.main_branch, 1), "go on");
    assert_eq!(scene.store.recover_abandoned_replies(None, scene.make.now()).unwrap(), 0);
}
