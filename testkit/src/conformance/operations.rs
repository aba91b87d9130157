//! The operation log, undo and redo.

use std::collections::HashSet;

use hfs_core::{
    Cursor, ErrorKind, Operation, OperationId, OperationKind, PageRequest, Position, SessionAttributes,
    SessionDraft, SessionId, Store, Timestamp,
};

use super::Fixture;
use super::fixture::expect_kind;
use crate::builders::{at, growing_state};

fn all(store: &dyn Store, session: Option<SessionId>, limit: u32) -> Vec<Operation> {
    let mut page = PageRequest::first(limit);
    let mut listed: Vec<Operation> = Vec::new();
    loop {
        let found = store.list_operations(session, &page).unwrap();
        assert!(found.items.len() <= limit as usize);
        listed.extend(found.items);
        assert!(listed.len() < 1000, "the pages never end");
        match found.next {
            Some(next) => page.after = Some(next),
            None => return listed,
        }
    }
}

pub fn each_change_is_recorded_with_the_attributes_before_and_after(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "main", 2);
    let session = fixture.session_of(main.branch);
    let checkpoint = fixture.checkpoint(main, growing_state(0), 10);
    let (side, _) = fixture.fork(main, "side");
    fixture.rewind(&checkpoint, "back");
    fixture.store.switch_branch(side.branch, fixture.drafts.now()).unwrap();
    fixture.store.rename_session(session, "new name", false, fixture.drafts.now()).unwrap();
    fixture.store.rename_branch(side.branch, "aside", fixture.drafts.now()).unwrap();
    fixture.store.delete_checkpoint(checkpoint.id, fixture.drafts.now()).unwrap();
    fixture.store.trash_session(session, fixture.drafts.now()).unwrap();
    fixture.store.restore_session(session, fixture.drafts.now()).unwrap();

    let operations = fixture.operations(session);
    let kinds: Vec<_> = operations.iter().rev().map(|operation| operation.kind).collect();
    assert_eq!(
        kinds,
        [
            OperationKind::Create,
            OperationKind::Fork,
            OperationKind::Rewind,
            OperationKind::Switch,
            OperationKind::Rename,
            OperationKind::RenameBranch,
            OperationKind::Prune,
            OperationKind::Delete,
            OperationKind::Restore,
        ]
    );
    let mut attributes: Option<SessionAttributes> = None;
    for operation in operations.iter().rev() {
        assert_eq!(
            operation.before, attributes,
            "the attributes before {} are those after the previous operation",
            operation.kind
        );
        assert_eq!(operation.session, session);
        assert_eq!(operation.target, None);
        attributes = Some(operation.after.clone());
    }
    assert_eq!(operations[2].checkpoint, Some(checkpoint.id), "prune records its checkpoint");
    assert!(operations[1].after.trashed && !operations[0].after.trashed);
    let times: Vec<_> = operations.iter().map(|operation| operation.created_at).collect();
    assert!(times.is_sorted_by(|newer, older| newer > older));
    let ids: HashSet<_> = operations.iter().map(|operation| operation.id).collect();
    assert_eq!(ids.len(), operations.len());
}

pub fn a_rejected_change_is_not_recorded(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    let unknown = OperationId::from_uuid(fixture.drafts.ids.uuid());
    fixture.store.restore_session(session, fixture.drafts.now()).unwrap_err();
    fixture.store.rename_branch(fixture.drafts.ids.branch(), "x", fixture.drafts.now()).unwrap_err();
    fixture.undo(unknown).unwrap_err();
    let taken = fixture.drafts.branch("main", main);
    let fork = OperationKind::Fork;
    fixture.store.create_branch(&taken, fork, None, fixture.drafts.now()).unwrap_err();
    assert_eq!(fixture.operations(session).len(), 1);
}

pub fn operations_are_listed_newest_first_in_pages(fixture: &Fixture<'_>) {
    let (one, other) = (fixture.session("one").id, fixture.session("other").id);
    for round in 0..12 {
        fixture.store.rename_session(one, &format!("one {round}"), false, fixture.drafts.now()).unwrap();
        if round % 3 == 0 {
            fixture
                .store
                .rename_session(other, &format!("other {round}"), false, fixture.drafts.now())
                .unwrap();
        }
    }
    let everything = all(&*fixture.store, None, 1000);
    assert_eq!(everything.len(), 2 + 12 + 4);
    assert!(everything.windows(2).all(|pair| pair[0].created_at > pair[1].created_at));
    for limit in [1, 3, 9, 18] {
        assert_eq!(all(&*fixture.other_process(), None, limit), everything);
        for session in [one, other] {
            let expected: Vec<_> =
                everything.iter().filter(|operation| operation.session == session).cloned().collect();
            assert_eq!(all(&*fixture.store, Some(session), limit), expected);
        }
    }
}

pub fn a_cursor_in_the_operations_stays_valid_while_more_are_recorded(fixture: &Fixture<'_>) {
    let session = fixture.session("s").id;
    for round in 0..6 {
        fixture.store.rename_session(session, &format!("{round}"), false, fixture.drafts.now()).unwrap();
    }
    let first = fixture.store.list_operations(Some(session), &PageRequest::first(3)).unwrap();
    fixture.store.rename_session(session, "more", false, fixture.drafts.now()).unwrap();
    let other = fixture.session("other").id;
    fixture.store.purge_session(other).unwrap();
    let page = PageRequest { limit: 10, after: first.next };
    let rest = fixture.store.list_operations(Some(session), &page).unwrap();
    let names: Vec<_> = rest.items.iter().map(|operation| operation.after.name.as_str()).collect();
    assert_eq!(names, ["2", "1", "0", "s"]);
    assert_eq!(rest.next, None::<Cursor>);
}

pub fn operations_are_ordered_by_recording_not_by_time(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    let (late, early) = (fixture.drafts.now(), Timestamp::UNIX_EPOCH);
    for (name, time) in [("a", late), ("b", early), ("c", late), ("d", early)] {
        fixture.store.rename_session(session, name, false, time).unwrap();
    }
    let operations = fixture.operations(session);
    let names: Vec<_> = operations.iter().map(|operation| operation.after.name.as_str()).collect();
    assert_eq!(names, ["d", "c", "b", "a", "fixture"]);
    assert_eq!(operations[0].created_at, early);
    // Undo refers to the operation by its id; its time does not matter.
    fixture.undo(operations[0].id).unwrap();
    assert_eq!(fixture.store.get_session(session).unwrap().session.name, "c");
    fixture.append_text(at(main.branch, 0), "fine");
}

/// Undoes and redoes an operation twice, and asserts that each time exactly the earlier state is restored. Finally the
/// operation is redone.
fn undo_and_redo_twice(fixture: &mut Fixture<'_>, before: &str, target: OperationId, session: SessionId) {
    let after = fixture.visible_state(session);
    for _ in 0..2 {
        let done = fixture.last_operation(session).after;
        let undone = fixture.undo(target).unwrap();
        assert_eq!((undone.kind, undone.target), (OperationKind::Undo, Some(target)));
        assert_eq!(undone.before.as_ref(), Some(&done));
        assert_eq!(fixture.visible_state(session), before);
        assert_eq!(fixture.last_operation(session), undone);

        fixture.reopen();
        let redone = fixture.redo(target).unwrap();
        assert_eq!((redone.kind, redone.target), (OperationKind::Redo, Some(target)));
        assert_eq!((redone.before, &redone.after), (Some(undone.after), &done));
        assert_eq!(redone.branch, undone.branch);
        assert_eq!(fixture.visible_state(session), after);
    }
}

/// Asserts that undo and redo of a change restore the earlier states exactly.
fn assert_reversible(fixture: &Fixture<'_>, change: impl Fn(&Fixture<'_>, SessionId)) {
    let mut fixture = fixture.with_other_ids();
    let main = fixture.append_numbered(fixture.main(), "main", 3);
    let session = fixture.session_of(main.branch);
    let before = fixture.visible_state(session);
    change(&fixture, session);
    let target = fixture.last_operation(session).id;
    undo_and_redo_twice(&mut fixture, &before, target, session);
}

fn current(fixture: &Fixture<'_>, session: SessionId) -> Position {
    let branch = fixture.store.get_session(session).unwrap().session.current_branch;
    at(branch, fixture.store.get_branch(branch).unwrap().head)
}

pub fn a_rename_can_be_undone(fixture: &Fixture<'_>) {
    assert_reversible(fixture, |fixture, session| {
        fixture.store.rename_session(session, "renamed", false, fixture.drafts.now()).unwrap();
    });
}

pub fn a_fork_can_be_undone(fixture: &Fixture<'_>) {
    assert_reversible(fixture, |fixture, session| {
        let (side, _) = fixture.fork(current(fixture, session), "side");
        fixture.append_text(side, "said on the side");
    });
}

pub fn a_rewind_can_be_undone(fixture: &Fixture<'_>) {
    assert_reversible(fixture, |fixture, session| {
        let here = current(fixture, session);
        let checkpoint = fixture.checkpoint(at(here.branch, 2), growing_state(1), 10);
        fixture.rewind(&checkpoint, "back");
    });
}

pub fn a_switch_can_be_undone(fixture: &Fixture<'_>) {
    let mut fixture = fixture.with_other_ids();
    let main = fixture.append_numbered(fixture.main(), "main", 3);
    let session = fixture.session_of(main.branch);
    fixture.fork(main, "side");
    let before = fixture.visible_state(session);
    let target = fixture.store.switch_branch(main.branch, fixture.drafts.now()).unwrap().id;
    undo_and_redo_twice(&mut fixture, &before, target, session);
}

pub fn a_branch_rename_can_be_undone(fixture: &Fixture<'_>) {
    assert_reversible(fixture, |fixture, session| {
        fixture.store.rename_branch(current(fixture, session).branch, "trunk", fixture.drafts.now()).unwrap();
    });
}

pub fn a_deletion_can_be_undone(fixture: &Fixture<'_>) {
    assert_reversible(fixture, |fixture, session| {
        fixture.store.trash_session(session, fixture.drafts.now()).unwrap();
    });
}

pub fn a_restoration_can_be_undone(fixture: &Fixture<'_>) {
    let mut fixture = fixture.with_other_ids();
    let session = fixture.session("s").id;
    fixture.store.trash_session(session, fixture.drafts.now()).unwrap();
    let before = fixture.visible_state(session);
    fixture.store.restore_session(session, fixture.drafts.now()).unwrap();
    let target = fixture.last_operation(session).id;
    undo_and_redo_twice(&mut fixture, &before, target, session);
    let again = fixture.undo(target).unwrap();
    let trashed = fixture.store.get_session(session).unwrap().session.trashed_at;
    assert_eq!(trashed, Some(again.created_at), "the undo moved it to the trash");
}

pub fn undo_restores_an_automatic_name_as_automatic(fixture: &Fixture<'_>) {
    let draft = SessionDraft { automatic_name: true, ..fixture.drafts.session("New session") };
    let session = fixture.store.create_session(&draft).unwrap().id;
    fixture.store.rename_session(session, "Mine", false, fixture.drafts.now()).unwrap();
    fixture.undo(fixture.last_operation(session).id).unwrap();
    let restored = fixture.store.get_session(session).unwrap().session;
    assert_eq!((restored.name.as_str(), restored.automatic_name), ("New session", true));
}

pub fn a_series_of_changes_can_be_undone_and_redone(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "main", 3);
    let session = fixture.session_of(main.branch);
    let checkpoint = fixture.checkpoint(at(main.branch, 1), growing_state(1), 10);
    let mut seen = vec![fixture.visible_state(session)];
    let mut done: Vec<Operation> = Vec::new();
    let mut change = |fixture: &Fixture<'_>| {
        done.push(fixture.last_operation(session));
        seen.push(fixture.visible_state(session));
    };
    let (side, _) = fixture.fork(at(main.branch, 2), "side");
    change(fixture);
    let (back, _) = fixture.rewind(&checkpoint, "back");
    change(fixture);
    fixture.store.rename_branch(back.branch, "backwards", fixture.drafts.now()).unwrap();
    change(fixture);
    fixture.store.switch_branch(side.branch, fixture.drafts.now()).unwrap();
    change(fixture);
    fixture.store.rename_session(session, "other", false, fixture.drafts.now()).unwrap();
    change(fixture);
    fixture.store.trash_session(session, fixture.drafts.now()).unwrap();
    change(fixture);

    for (operation, expected) in done.iter().zip(&seen).rev() {
        fixture.undo(operation.id).unwrap();
        assert_eq!(&fixture.visible_state(session), expected);
    }
    for (operation, expected) in done.iter().zip(&seen[1..]) {
        fixture.redo(operation.id).unwrap();
        assert_eq!(&fixture.visible_state(session), expected);
    }
}

pub fn redo_restores_the_messages_of_an_undone_branch(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "main");
    let session = fixture.session_of(main.branch);
    let (side, fork) = fixture.fork(main, "side");
    let side = fixture.append_text(side, "since");
    fixture.append_text(main, "elsewhere");
    fixture.undo(fork.id).unwrap();
    assert_eq!(fixture.store.get_session(session).unwrap().branch, "main");
    fixture.redo(fork.id).unwrap();
    assert_eq!(fixture.texts(side.branch), ["main", "since"]);
    fixture.append_text(side, "more");
}

pub fn undo_does_not_overwrite_later_changes(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "main");
    let session = fixture.session_of(main.branch);
    let (_, fork) = fixture.fork(main, "side");
    fixture.store.rename_session(session, "other", false, fixture.drafts.now()).unwrap();
    let rename = fixture.last_operation(session).id;
    let before = fixture.visible_state(session);
    expect_kind(fixture.undo(fork.id), ErrorKind::Conflict);
    assert_eq!(fixture.visible_state(session), before);
    assert_eq!(fixture.operations(session).len(), 3);

    fixture.undo(rename).unwrap();
    fixture.undo(fork.id).unwrap();
    fixture.store.rename_session(session, "third", false, fixture.drafts.now()).unwrap();
    expect_kind(fixture.redo(fork.id), ErrorKind::Conflict);
    expect_kind(fixture.redo(rename), ErrorKind::Conflict);
}

pub fn an_operation_cannot_be_undone_or_redone_twice(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    // A switch to the current branch does not change the session, so only the recorded operations show whether it is
    // undone.
    let switch = fixture.store.switch_branch(main.branch, fixture.drafts.now()).unwrap().id;
    expect_kind(fixture.redo(switch), ErrorKind::Conflict);
    fixture.undo(switch).unwrap();
    expect_kind(fixture.undo(switch), ErrorKind::Conflict);
    fixture.redo(switch).unwrap();
    expect_kind(fixture.redo(switch), ErrorKind::Conflict);
    fixture.undo(switch).unwrap();
    assert_eq!(fixture.operations(session).len(), 5);
}

pub fn operations_that_cannot_be_undone_are_rejected(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    let create = fixture.last_operation(session).id;
    let checkpoint = fixture.checkpoint(main, growing_state(1), 10);
    fixture.store.delete_checkpoint(checkpoint.id, fixture.drafts.now()).unwrap();
    let prune = fixture.last_operation(session).id;
    fixture.store.rename_session(session, "x", false, fixture.drafts.now()).unwrap();
    let rename = fixture.last_operation(session).id;
    let undo = fixture.undo(rename).unwrap().id;
    for target in [create, prune, undo] {
        expect_kind(fixture.undo(target), ErrorKind::Unsupported);
        expect_kind(fixture.redo(target), ErrorKind::Unsupported);
    }
    let redo = fixture.redo(rename).unwrap().id;
    expect_kind(fixture.undo(redo), ErrorKind::Unsupported);
    expect_kind(fixture.undo(OperationId::from_uuid(fixture.drafts.ids.uuid())), ErrorKind::NotFound);
    for kind in OperationKind::ALL {
        if !matches!(kind, OperationKind::Undo | OperationKind::Redo) {
            expect_kind(fixture.store.reverse(rename, kind, fixture.drafts.now()), ErrorKind::Invalid);
        }
    }
}

pub fn the_current_branch_is_never_undone(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "main");
    let session = fixture.session_of(main.branch);
    let (one, first) = fixture.fork(main, "one");
    let (two, second) = fixture.fork(main, "two");
    let now = || fixture.drafts.now();
    let to_one = fixture.store.switch_branch(one.branch, now()).unwrap().id;
    fixture.undo(to_one).unwrap();
    fixture.store.switch_branch(one.branch, now()).unwrap();
    fixture.undo(first.id).unwrap();
    assert_eq!(fixture.store.get_session(session).unwrap().branch, "main");
    // The branch that was current before the second fork is undone now.
    fixture.store.switch_branch(two.branch, now()).unwrap();
    expect_kind(fixture.undo(second.id), ErrorKind::Conflict);
    expect_kind(fixture.redo(to_one), ErrorKind::Conflict);
    assert_eq!(fixture.store.get_session(session).unwrap().branch, "two");
    assert!(!fixture.store.get_branch(two.branch).unwrap().undone);
}

pub fn undoing_a_branch_rename_needs_the_old_name_to_be_free(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let rename = fixture.store.rename_branch(main.branch, "trunk", fixture.drafts.now()).unwrap().id;
    let (side, fork) = fixture.fork(main, "main");
    fixture.store.switch_branch(main.branch, fixture.drafts.now()).unwrap();
    expect_kind(fixture.undo(rename), ErrorKind::Conflict);
    fixture.store.rename_branch(side.branch, "elsewhere", fixture.drafts.now()).unwrap();
    fixture.undo(rename).unwrap();
    assert_eq!(fixture.store.get_branch(main.branch).unwrap().name, "main");
    fixture.store.rename_branch(main.branch, "another", fixture.drafts.now()).unwrap();
    expect_kind(fixture.redo(rename), ErrorKind::Conflict);
    fixture.store.switch_branch(side.branch, fixture.drafts.now()).unwrap();
    fixture.undo(fork.id).unwrap();
    // The redone branch keeps the name that it got by the later rename.
    fixture.redo(fork.id).unwrap();
    assert_eq!(fixture.store.get_branch(side.branch).unwrap().name, "elsewhere");
}

pub fn sessions_have_independent_undo_histories(fixture: &Fixture<'_>) {
    let (one, other) = (fixture.session("one").id, fixture.session("other").id);
    fixture.store.rename_session(one, "one!", false, fixture.drafts.now()).unwrap();
    fixture.store.rename_session(other, "other!", false, fixture.drafts.now()).unwrap();
    fixture.undo(fixture.last_operation(one).id).unwrap();
    assert_eq!(fixture.store.get_session(one).unwrap().session.name, "one");
    assert_eq!(fixture.store.get_session(other).unwrap().session.name, "other!");
}
