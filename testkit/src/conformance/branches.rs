//! Branches have names, and one of them is current.

use hfs_core::{BranchDraft, CheckpointId, ErrorKind, Operation, OperationKind, StoreResult};

use super::Scene;
use super::scene::expect_kind;
use crate::builders::{at, growing_state};

fn create(
    scene: &Scene<'_>,
    draft: &BranchDraft,
    kind: OperationKind,
    checkpoint: Option<CheckpointId>,
) -> StoreResult<Operation> {
    scene.store.create_branch(draft, kind, checkpoint, scene.make.now())
}

pub fn parents_are_listed_before_their_children(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "main", 3);
    let session = scene.session_of(main.branch);
    let (b, fork) = scene.fork(at(main.branch, 3), "b");
    let (a, _) = scene.fork(at(b.branch, 1), "a");
    let (c, _) = scene.fork(at(main.branch, 2), "c");
    let listed = scene.another().list_branches(session).unwrap();
    let ids: Vec<_> = listed.iter().map(|branch| branch.id).collect();
    assert_eq!(ids, [main.branch, b.branch, a.branch, c.branch]);
    assert!(listed.iter().all(|branch| branch.session == session && !branch.undone));
    assert_eq!(listed[1].created_at, fork.created_at);
    assert_eq!(listed, ids.iter().map(|id| scene.store.get_branch(*id).unwrap()).collect::<Vec<_>>());
}

pub fn a_new_branch_is_the_current_one(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "main", 2);
    let session = scene.session_of(main.branch);
    let (side, operation) = scene.fork(main, "side");
    let summary = scene.another().get_session(session).unwrap();
    assert_eq!((summary.session.current_branch, summary.branch.as_str()), (side.branch, "side"));
    assert_eq!(summary.session.updated_at, operation.created_at);
    assert_eq!(operation.kind, OperationKind::Fork);
    assert_eq!(
        (operation.session, operation.branch, operation.checkpoint),
        (session, Some(side.branch), None)
    );
    assert_eq!(operation.before.unwrap().current_branch, main.branch);
    assert_eq!(operation.after.current_branch, side.branch);
}

pub fn a_rewind_goes_back_to_its_checkpoint(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "main", 3);
    let checkpoint = scene.checkpoint(at(main.branch, 2), growing_state(1), 10);
    let (back, operation) = scene.rewind(&checkpoint, "back");
    assert_eq!((operation.kind, operation.checkpoint), (OperationKind::Rewind, Some(checkpoint.id)));
    assert_eq!(scene.texts(back.branch), ["main 1", "main 2"]);
    assert_eq!(scene.texts(main.branch), ["main 1", "main 2", "main 3"]);
    assert_eq!(scene.last_operation(operation.session), operation);
}

pub fn a_branch_is_made_by_a_fork_or_by_a_rewind_with_its_checkpoint(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "main", 1);
    let checkpoint = scene.checkpoint(main, growing_state(1), 10).id;
    let elsewhere = scene.talk(scene.main(), "other", 1);
    let foreign = scene.checkpoint(elsewhere, growing_state(1), 10).id;
    let draft = scene.make.branch("side", main);
    let unknown = Some(scene.make.ids.checkpoint());
    expect_kind(create(scene, &draft, OperationKind::Rewind, None), ErrorKind::Invalid);
    expect_kind(create(scene, &draft, OperationKind::Rewind, Some(foreign)), ErrorKind::Invalid);
    expect_kind(create(scene, &draft, OperationKind::Rewind, unknown), ErrorKind::NotFound);
    expect_kind(create(scene, &draft, OperationKind::Fork, Some(checkpoint)), ErrorKind::Invalid);
    expect_kind(create(scene, &draft, OperationKind::Switch, None), ErrorKind::Invalid);
    let lost = scene.make.branch("lost", at(scene.make.ids.branch(), 0));
    expect_kind(create(scene, &lost, OperationKind::Fork, None), ErrorKind::NotFound);
    assert_eq!(scene.store.list_branches(scene.session_of(main.branch)).unwrap().len(), 1);
}

pub fn names_and_ids_of_branches_are_taken_once(scene: &Scene<'_>) {
    let (main, elsewhere) = (scene.main(), scene.main());
    let (side, _) = scene.fork(main, "side");
    let taken = scene.make.branch("side", main);
    expect_kind(create(scene, &taken, OperationKind::Fork, None), ErrorKind::Conflict);
    let taken = BranchDraft { id: side.branch, ..scene.make.branch("other", main) };
    expect_kind(create(scene, &taken, OperationKind::Fork, None), ErrorKind::Conflict);
    let taken = BranchDraft { id: side.branch, ..scene.make.branch("side", elsewhere) };
    expect_kind(create(scene, &taken, OperationKind::Fork, None), ErrorKind::Conflict);
    // Names are taken within their session only, and tell large letters from small ones.
    scene.fork(elsewhere, "side");
    scene.fork(main, "Side");
    scene.fork(main, "");
}

pub fn switching_makes_a_branch_current(scene: &Scene<'_>) {
    let main = scene.main();
    let session = scene.session_of(main.branch);
    let (side, _) = scene.fork(main, "side");
    let now = scene.make.now();
    let operation = scene.store.switch_branch(main.branch, now).unwrap();
    assert_eq!((operation.kind, operation.created_at), (OperationKind::Switch, now));
    assert_eq!(operation.before.unwrap().current_branch, side.branch);
    assert_eq!(operation.after.current_branch, main.branch);
    let stored = scene.another().get_session(session).unwrap().session;
    assert_eq!((stored.current_branch, stored.updated_at), (main.branch, now));
    scene.store.switch_branch(main.branch, scene.make.now()).unwrap();
    assert_eq!(scene.operations(session).len(), 4);
    let unknown = scene.make.ids.branch();
    expect_kind(scene.store.switch_branch(unknown, scene.make.now()), ErrorKind::NotFound);
}

pub fn a_branch_can_be_renamed(scene: &Scene<'_>) {
    let main = scene.main();
    let session = scene.session_of(main.branch);
    let (side, _) = scene.fork(main, "side");
    let operation = scene.store.rename_branch(main.branch, "trunk", scene.make.now()).unwrap();
    assert_eq!((operation.kind, operation.branch), (OperationKind::RenameBranch, Some(main.branch)));
    assert_eq!(scene.store.get_branch(main.branch).unwrap().name, "trunk");
    expect_kind(scene.store.rename_branch(main.branch, "side", scene.make.now()), ErrorKind::Conflict);
    scene.store.rename_branch(side.branch, "side", scene.make.now()).unwrap();
    scene.store.rename_branch(side.branch, "main", scene.make.now()).unwrap();
    assert_eq!(scene.store.get_session(session).unwrap().branch, "main");
    let unknown = scene.make.ids.branch();
    expect_kind(scene.store.rename_branch(unknown, "x", scene.make.now()), ErrorKind::NotFound);
    expect_kind(scene.store.get_branch(unknown), ErrorKind::NotFound);
}

pub fn a_retired_branch_is_kept_but_not_gone_on_with(scene: &Scene<'_>) {
    let main = scene.say(scene.main(), "main");
    let session = scene.session_of(main.branch);
    let (side, fork) = scene.fork(main, "side");
    let side = scene.say(side, "side");
    scene.undo(fork.id).unwrap();
    let branch = scene.store.list_branches(session).unwrap().remove(1);
    assert!(branch.undone);
    assert_eq!(branch, scene.store.get_branch(side.branch).unwrap());
    assert_eq!(scene.texts(side.branch), ["main", "side"]);
    expect_kind(scene.store.switch_branch(side.branch, scene.make.now()), ErrorKind::Conflict);
    expect_kind(scene.store.append(side, &[scene.make.user("lost")]), ErrorKind::Conflict);
    expect_kind(scene.store.begin_reply(side, &scene.make.assistant("")), ErrorKind::Conflict);
    // Its name stays its own, and what was said there can be taken up again from a fork.
    let same_name = scene.make.branch("side", main);
    expect_kind(create(scene, &same_name, OperationKind::Fork, None), ErrorKind::Conflict);
    let (rescued, _) = scene.fork(side, "rescued");
    scene.say(rescued, "on");
    assert_eq!(scene.texts(rescued.branch), ["main", "side", "on"]);
}

pub fn a_reply_on_a_branch_that_is_retired_meanwhile_is_kept(scene: &Scene<'_>) {
    let main = scene.say(scene.main(), "main");
    let (side, fork) = scene.fork(main, "side");
    let reply = scene.store.begin_reply(side, &scene.make.assistant("")).unwrap();
    scene.undo(fork.id).unwrap();
    scene.store.finish_reply(reply, &scene.make.assistant("answer")).unwrap();
    scene.redo(fork.id).unwrap();
    assert_eq!(scene.texts(side.branch), ["main", "answer"]);
}
