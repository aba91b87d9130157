//! Undo brings back what was before, redo what was after, and neither touches what has changed since.

use hfs_core::{ErrorKind, Operation, OperationId, OperationKind, SessionDraft, SessionId};

use super::Scene;
use super::scene::expect_kind;
use crate::builders::{at, growing_state};

/// Undoes and redoes an operation twice, and checks that both bring back exactly what was there. Leaves it done.
fn back_and_forth(scene: &mut Scene<'_>, before: &str, target: OperationId, session: SessionId) {
    let after = scene.visible(session);
    for _ in 0..2 {
        let done = scene.last_operation(session).after;
        let undone = scene.undo(target).unwrap();
        assert_eq!((undone.kind, undone.target), (OperationKind::Undo, Some(target)));
        assert_eq!(undone.before.as_ref(), Some(&done));
        assert_eq!(scene.visible(session), before);
        assert_eq!(scene.last_operation(session), undone);

        scene.restart();
        let redone = scene.redo(target).unwrap();
        assert_eq!((redone.kind, redone.target), (OperationKind::Redo, Some(target)));
        assert_eq!((redone.before, &redone.after), (Some(undone.after), &done));
        assert_eq!(redone.branch, undone.branch);
        assert_eq!(scene.visible(session), after);
    }
}

/// Checks that an operation is undone and redone exactly.
fn reversible(scene: &Scene<'_>, change: impl Fn(&Scene<'_>, SessionId)) {
    let mut scene = scene.beside();
    let main = scene.talk(scene.main(), "main", 3);
    let session = scene.session_of(main.branch);
    let before = scene.visible(session);
    change(&scene, session);
    let target = scene.last_operation(session).id;
    back_and_forth(&mut scene, &before, target, session);
}

fn current(scene: &Scene<'_>, session: SessionId) -> hfs_core::Position {
    let branch = scene.store.get_session(session).unwrap().session.current_branch;
    at(branch, scene.store.get_branch(branch).unwrap().head)
}

pub fn a_rename_is_undone(scene: &Scene<'_>) {
    reversible(scene, |scene, session| {
        scene.store.rename_session(session, "renamed", false, scene.make.now()).unwrap();
    });
}

pub fn a_fork_is_undone(scene: &Scene<'_>) {
    reversible(scene, |scene, session| {
        let (side, _) = scene.fork(current(scene, session), "side");
        scene.say(side, "said on the side");
    });
}

pub fn a_rewind_is_undone(scene: &Scene<'_>) {
    reversible(scene, |scene, session| {
        let here = current(scene, session);
        let checkpoint = scene.checkpoint(at(here.branch, 2), growing_state(1), 10);
        scene.rewind(&checkpoint, "back");
    });
}

pub fn a_switch_is_undone(scene: &Scene<'_>) {
    let mut scene = scene.beside();
    let main = scene.talk(scene.main(), "main", 3);
    let session = scene.session_of(main.branch);
    scene.fork(main, "side");
    let before = scene.visible(session);
    let target = scene.store.switch_branch(main.branch, scene.make.now()).unwrap().id;
    back_and_forth(&mut scene, &before, target, session);
}

pub fn a_branchs_rename_is_undone(scene: &Scene<'_>) {
    reversible(scene, |scene, session| {
        scene.store.rename_branch(current(scene, session).branch, "trunk", scene.make.now()).unwrap();
    });
}

pub fn a_deletion_is_undone(scene: &Scene<'_>) {
    reversible(scene, |scene, session| {
        scene.store.trash_session(session, scene.make.now()).unwrap();
    });
}

pub fn a_restoration_is_undone(scene: &Scene<'_>) {
    let mut scene = scene.beside();
    let session = scene.session("s").id;
    scene.store.trash_session(session, scene.make.now()).unwrap();
    let before = scene.visible(session);
    scene.store.restore_session(session, scene.make.now()).unwrap();
    let target = scene.last_operation(session).id;
    back_and_forth(&mut scene, &before, target, session);
    let again = scene.undo(target).unwrap();
    let trashed = scene.store.get_session(session).unwrap().session.trashed_at;
    assert_eq!(trashed, Some(again.created_at), "it is in the trash since the undo");
}

pub fn an_automatic_name_comes_back_as_one(scene: &Scene<'_>) {
    let draft = SessionDraft { automatic_name: true, ..scene.make.session("New session") };
    let session = scene.store.create_session(&draft).unwrap().id;
    scene.store.rename_session(session, "Mine", false, scene.make.now()).unwrap();
    scene.undo(scene.last_operation(session).id).unwrap();
    let restored = scene.store.get_session(session).unwrap().session;
    assert_eq!((restored.name.as_str(), restored.automatic_name), ("New session", true));
}

pub fn everything_is_undone_step_by_step_and_redone(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "main", 3);
    let session = scene.session_of(main.branch);
    let checkpoint = scene.checkpoint(at(main.branch, 1), growing_state(1), 10);
    let mut seen = vec![scene.visible(session)];
    let mut done: Vec<Operation> = Vec::new();
    let mut change = |scene: &Scene<'_>| {
        done.push(scene.last_operation(session));
        seen.push(scene.visible(session));
    };
    let (side, _) = scene.fork(at(main.branch, 2), "side");
    change(scene);
    let (back, _) = scene.rewind(&checkpoint, "back");
    change(scene);
    scene.store.rename_branch(back.branch, "backwards", scene.make.now()).unwrap();
    change(scene);
    scene.store.switch_branch(side.branch, scene.make.now()).unwrap();
    change(scene);
    scene.store.rename_session(session, "other", false, scene.make.now()).unwrap();
    change(scene);
    scene.store.trash_session(session, scene.make.now()).unwrap();
    change(scene);

    for (operation, expected) in done.iter().zip(&seen).rev() {
        scene.undo(operation.id).unwrap();
        assert_eq!(&scene.visible(session), expected);
    }
    for (operation, expected) in done.iter().zip(&seen[1..]) {
        scene.redo(operation.id).unwrap();
        assert_eq!(&scene.visible(session), expected);
    }
}

pub fn what_was_said_since_stays_and_comes_back(scene: &Scene<'_>) {
    let main = scene.say(scene.main(), "main");
    let session = scene.session_of(main.branch);
    let (side, fork) = scene.fork(main, "side");
    let side = scene.say(side, "since");
    scene.say(main, "elsewhere");
    scene.undo(fork.id).unwrap();
    assert_eq!(scene.store.get_session(session).unwrap().branch, "main");
    scene.redo(fork.id).unwrap();
    assert_eq!(scene.texts(side.branch), ["main", "since"]);
    scene.say(side, "going on");
}

pub fn what_has_changed_since_is_not_overwritten(scene: &Scene<'_>) {
    let main = scene.say(scene.main(), "main");
    let session = scene.session_of(main.branch);
    let (_, fork) = scene.fork(main, "side");
    scene.store.rename_session(session, "other", false, scene.make.now()).unwrap();
    let rename = scene.last_operation(session).id;
    let before = scene.visible(session);
    expect_kind(scene.undo(fork.id), ErrorKind::Conflict);
    assert_eq!(scene.visible(session), before);
    assert_eq!(scene.operations(session).len(), 3);

    scene.undo(rename).unwrap();
    scene.undo(fork.id).unwrap();
    scene.store.rename_session(session, "third", false, scene.make.now()).unwrap();
    expect_kind(scene.redo(fork.id), ErrorKind::Conflict);
    expect_kind(scene.redo(rename), ErrorKind::Conflict);
}

pub fn nothing_is_undone_or_redone_twice(scene: &Scene<'_>) {
    let main = scene.main();
    let session = scene.session_of(main.branch);
    // A switch to the current branch leaves the session as it was: only the record can tell.
    let switch = scene.store.switch_branch(main.branch, scene.make.now()).unwrap().id;
    expect_kind(scene.redo(switch), ErrorKind::Conflict);
    scene.undo(switch).unwrap();
    expect_kind(scene.undo(switch), ErrorKind::Conflict);
    scene.redo(switch).unwrap();
    expect_kind(scene.redo(switch), ErrorKind::Conflict);
    scene.undo(switch).unwrap();
    assert_eq!(scene.operations(session).len(), 5);
}

pub fn what_cannot_be_undone_says_so(scene: &Scene<'_>) {
    let main = scene.main();
    let session = scene.session_of(main.branch);
    let create = scene.last_operation(session).id;
    let checkpoint = scene.checkpoint(main, growing_state(1), 10);
    scene.store.delete_checkpoint(checkpoint.id, scene.make.now()).unwrap();
    let prune = scene.last_operation(session).id;
    scene.store.rename_session(session, "x", false, scene.make.now()).unwrap();
    let rename = scene.last_operation(session).id;
    let undo = scene.undo(rename).unwrap().id;
    for target in [create, prune, undo] {
        expect_kind(scene.undo(target), ErrorKind::Unsupported);
        expect_kind(scene.redo(target), ErrorKind::Unsupported);
    }
    let redo = scene.redo(rename).unwrap().id;
    expect_kind(scene.undo(redo), ErrorKind::Unsupported);
    expect_kind(scene.undo(OperationId::from_uuid(scene.make.ids.uuid())), ErrorKind::NotFound);
    for kind in OperationKind::ALL {
        if !matches!(kind, OperationKind::Undo | OperationKind::Redo) {
            expect_kind(scene.store.reverse(rename, kind, scene.make.now()), ErrorKind::Invalid);
        }
    }
}

pub fn the_current_branch_is_never_a_retired_one(scene: &Scene<'_>) {
    let main = scene.say(scene.main(), "main");
    let session = scene.session_of(main.branch);
    let (one, first) = scene.fork(main, "one");
    let (two, second) = scene.fork(main, "two");
    let now = || scene.make.now();
    let to_one = scene.store.switch_branch(one.branch, now()).unwrap().id;
    scene.undo(to_one).unwrap();
    scene.store.switch_branch(one.branch, now()).unwrap();
    scene.undo(first.id).unwrap();
    assert_eq!(scene.store.get_session(session).unwrap().branch, "main");
    // The branch that was current before the second fork is undone by now.
    scene.store.switch_branch(two.branch, now()).unwrap();
    expect_kind(scene.undo(second.id), ErrorKind::Conflict);
    expect_kind(scene.redo(to_one), ErrorKind::Conflict);
    assert_eq!(scene.store.get_session(session).unwrap().branch, "two");
    assert!(!scene.store.get_branch(two.branch).unwrap().undone);
}

pub fn a_branchs_name_comes_back_only_where_it_is_free(scene: &Scene<'_>) {
    let main = scene.main();
    let rename = scene.store.rename_branch(main.branch, "trunk", scene.make.now()).unwrap().id;
    let (side, fork) = scene.fork(main, "main");
    scene.store.switch_branch(main.branch, scene.make.now()).unwrap();
    expect_kind(scene.undo(rename), ErrorKind::Conflict);
    scene.store.rename_branch(side.branch, "elsewhere", scene.make.now()).unwrap();
    scene.undo(rename).unwrap();
    assert_eq!(scene.store.get_branch(main.branch).unwrap().name, "main");
    scene.store.rename_branch(main.branch, "another", scene.make.now()).unwrap();
    expect_kind(scene.redo(rename), ErrorKind::Conflict);
    scene.store.switch_branch(side.branch, scene.make.now()).unwrap();
    scene.undo(fork.id).unwrap();
    // The side branch is called as it was renamed, also when it comes back.
    scene.redo(fork.id).unwrap();
    assert_eq!(scene.store.get_branch(side.branch).unwrap().name, "elsewhere");
}

pub fn sessions_are_undone_independently(scene: &Scene<'_>) {
    let (one, other) = (scene.session("one").id, scene.session("other").id);
    scene.store.rename_session(one, "one!", false, scene.make.now()).unwrap();
    scene.store.rename_session(other, "other!", false, scene.make.now()).unwrap();
    scene.undo(scene.last_operation(one).id).unwrap();
    assert_eq!(scene.store.get_session(one).unwrap().session.name, "one");
    assert_eq!(scene.store.get_session(other).unwrap().session.name, "other!");
}
