//! Sessions are made, found again, and change.

use hfs_core::{ErrorKind, MAIN_BRANCH, Origin, Project, SessionDraft, Store};
use serde_json::json;

use super::Scene;
use super::scene::expect_kind;
use crate::builders::at;

fn full_draft(scene: &Scene<'_>) -> SessionDraft {
    SessionDraft {
        automatic_name: true,
        project: Some(Project {
            directory: "/home/user/wörk".into(),
            repository: Some("https://example.org/r.git".into()),
        }),
        origin: Some(Origin {
            format: "claude-code".into(),
            id: "abc".into(),
            path: Some("/tmp/x y.jsonl".into()),
        }),
        extra: json!({"z": [1, {"y": null}], "a": "ü"}).as_object().cloned().unwrap().into(),
        ..scene.make.session("Grüße \u{1f980}\nsecond line")
    }
}

pub fn a_new_session_is_there_with_an_empty_main_branch(scene: &Scene<'_>) {
    let draft = full_draft(scene);
    let session = scene.store.create_session(&draft).unwrap();
    assert_eq!(session.id, draft.id);
    assert_eq!(session.name, draft.name);
    assert!(session.automatic_name);
    assert_eq!(session.project, draft.project);
    assert_eq!(session.origin, draft.origin);
    assert_eq!(session.extra, draft.extra);
    assert_eq!(session.current_branch, draft.main_branch);
    assert_eq!((session.created_at, session.updated_at), (draft.created_at, draft.created_at));
    assert_eq!(session.trashed_at, None);

    let branches = scene.store.list_branches(draft.id).unwrap();
    assert_eq!(branches.len(), 1);
    assert_eq!(branches[0].name, MAIN_BRANCH);
    assert_eq!((branches[0].parent, branches[0].forked_at, branches[0].head), (None, 0, 0));
    assert_eq!((branches[0].created_at, branches[0].undone), (draft.created_at, false));
    assert_eq!(scene.history(draft.main_branch), []);
}

pub fn a_session_is_the_same_for_every_process(scene: &Scene<'_>) {
    let session = scene.store.create_session(&full_draft(scene)).unwrap();
    let summary = scene.another().get_session(session.id).unwrap();
    assert_eq!(summary.session, session);
    assert_eq!(
        summary.session.extra.as_map().keys().collect::<Vec<_>>(),
        ["z", "a"],
        "what came with it keeps its order"
    );
}

pub fn an_id_is_taken_once(scene: &Scene<'_>) {
    let draft = scene.make.session("first");
    scene.store.create_session(&draft).unwrap();
    expect_kind(scene.store.create_session(&draft), ErrorKind::Conflict);
    let same_branch = SessionDraft { main_branch: draft.main_branch, ..scene.make.session("second") };
    expect_kind(scene.store.create_session(&same_branch), ErrorKind::Conflict);
    expect_kind(scene.store.get_session(same_branch.id), ErrorKind::NotFound);
    assert_eq!(scene.store.get_session(draft.id).unwrap().session.name, "first");
}

pub fn what_is_not_there_is_not_found(scene: &Scene<'_>) {
    let (id, now) = (scene.make.ids.session(), scene.make.now());
    let project = Project { directory: "/".into(), repository: None };
    expect_kind(scene.store.get_session(id), ErrorKind::NotFound);
    expect_kind(scene.store.rename_session(id, "x", false, now), ErrorKind::NotFound);
    expect_kind(scene.store.trash_session(id, now), ErrorKind::NotFound);
    expect_kind(scene.store.restore_session(id, now), ErrorKind::NotFound);
    expect_kind(scene.store.purge_session(id), ErrorKind::NotFound);
    expect_kind(scene.store.set_project(id, &project), ErrorKind::NotFound);
    expect_kind(scene.store.list_branches(id), ErrorKind::NotFound);
    expect_kind(scene.store.list_runs(id), ErrorKind::NotFound);
    expect_kind(scene.store.list_checkpoints(id), ErrorKind::NotFound);
    expect_kind(scene.store.recover_abandoned_replies(Some(id), now), ErrorKind::NotFound);
    expect_kind(scene.store.list_operations(Some(id), &hfs_core::PageRequest::first(1)), ErrorKind::NotFound);
}

pub fn a_person_renames_and_that_is_recorded(scene: &Scene<'_>) {
    let session = scene.session("before");
    let now = scene.make.now();
    scene.store.rename_session(session.id, "after ü", false, now).unwrap();
    let renamed = scene.store.get_session(session.id).unwrap().session;
    assert_eq!((renamed.name.as_str(), renamed.automatic_name, renamed.updated_at), ("after ü", false, now));
    let operation = scene.last_operation(session.id);
    assert_eq!(operation.kind, hfs_core::OperationKind::Rename);
    assert_eq!(operation.before.unwrap().name, "before");
    assert_eq!(operation.after.name, "after ü");
    assert_eq!(operation.created_at, now);
}

pub fn an_automatic_name_follows_an_automatic_one_without_a_record(scene: &Scene<'_>) {
    let draft = SessionDraft { automatic_name: true, ..scene.make.session("New session") };
    let session = scene.store.create_session(&draft).unwrap();
    scene.store.rename_session(session.id, "Fix login", true, scene.make.now()).unwrap();
    let renamed = scene.store.get_session(session.id).unwrap().session;
    assert_eq!((renamed.name.as_str(), renamed.automatic_name), ("Fix login", true));
    assert_eq!(scene.operations(session.id).len(), 1, "only `create` is recorded");

    scene.store.rename_session(session.id, "Mine", false, scene.make.now()).unwrap();
    let operation = scene.last_operation(session.id);
    assert!(operation.before.unwrap().automatic_name);
    assert!(!operation.after.automatic_name);
}

pub fn an_automatic_name_never_replaces_a_persons(scene: &Scene<'_>) {
    let session = scene.session("Mine");
    scene.store.rename_session(session.id, "Theirs", true, scene.make.now()).unwrap();
    assert_eq!(scene.store.get_session(session.id).unwrap().session, session);
    assert_eq!(scene.operations(session.id).len(), 1);
}

pub fn the_project_can_be_learnt_late(scene: &Scene<'_>) {
    let session = scene.session("s");
    let project = Project { directory: "/w".into(), repository: Some("/w/.git".into()) };
    scene.store.set_project(session.id, &project).unwrap();
    let after = scene.store.get_session(session.id).unwrap().session;
    assert_eq!(after.project, Some(project));
    assert_eq!(after.updated_at, session.updated_at);
    assert_eq!(scene.operations(session.id).len(), 1);
}

pub fn a_summary_counts_what_is_there(scene: &Scene<'_>) {
    let main = scene.main();
    let session = scene.session_of(main.branch);
    let main = scene.talk(main, "main", 5);
    let (side, fork) = scene.fork(at(main.branch, 2), "side");
    scene.talk(side, "side", 6);
    for seq in 1..=3 {
        scene.checkpoint(at(main.branch, seq), crate::builders::growing_state(1), 10);
    }
    let summary = scene.store.get_session(session).unwrap();
    assert_eq!((summary.messages, summary.branches, summary.checkpoints), (9, 2, 3));
    assert_eq!(summary.branch, "side");

    scene.undo(fork.id).unwrap();
    let summary = scene.store.get_session(session).unwrap();
    assert_eq!((summary.messages, summary.branches, summary.checkpoints), (9, 1, 3));
    assert_eq!(summary.branch, "main");
}

pub fn the_time_of_the_last_change_only_moves_forward(scene: &Scene<'_>) {
    let session = scene.session("s");
    let early = scene.make.user("early");
    let late = scene.make.user("late");
    let updated = |store: &dyn Store| store.get_session(session.id).unwrap().session.updated_at;

    let here =
        scene.store.append(at(session.current_branch, 0), std::slice::from_ref(&late)).unwrap().position;
    assert_eq!(updated(&*scene.store), late.created_at);
    scene.store.append(here, std::slice::from_ref(&early)).unwrap();
    assert_eq!(updated(&*scene.store), late.created_at);
    scene.store.rename_session(session.id, "x", false, early.created_at).unwrap();
    assert_eq!(updated(&*scene.store), late.created_at);
    let now = scene.make.now();
    scene.store.trash_session(session.id, now).unwrap();
    assert_eq!(updated(&*scene.another()), now);
}
