//! Every structural change is recorded.

use std::collections::HashSet;

use hfs_core::{
    Cursor, Operation, OperationId, OperationKind, PageRequest, SessionAttributes, SessionId, Store,
};

use super::Scene;
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

pub fn each_change_is_recorded_with_what_was_before_and_after(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "main", 2);
    let session = scene.session_of(main.branch);
    let checkpoint = scene.checkpoint(main, growing_state(0), 10);
    let (side, _) = scene.fork(main, "side");
    scene.rewind(&checkpoint, "back");
    scene.store.switch_branch(side.branch, scene.make.now()).unwrap();
    scene.store.rename_session(session, "new name", false, scene.make.now()).unwrap();
    scene.store.rename_branch(side.branch, "aside", scene.make.now()).unwrap();
    scene.store.delete_checkpoint(checkpoint.id, scene.make.now()).unwrap();
    scene.store.trash_session(session, scene.make.now()).unwrap();
    scene.store.restore_session(session, scene.make.now()).unwrap();

    let operations = scene.operations(session);
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
    let mut shape: Option<SessionAttributes> = None;
    for operation in operations.iter().rev() {
        assert_eq!(operation.before, shape, "{} begins where the one before ended", operation.kind);
        assert_eq!(operation.session, session);
        assert_eq!(operation.target, None);
        shape = Some(operation.after.clone());
    }
    assert_eq!(operations[2].checkpoint, Some(checkpoint.id), "prune names its checkpoint");
    assert!(operations[1].after.trashed && !operations[0].after.trashed);
    let times: Vec<_> = operations.iter().map(|operation| operation.created_at).collect();
    assert!(times.is_sorted_by(|newer, older| newer > older));
    let ids: HashSet<_> = operations.iter().map(|operation| operation.id).collect();
    assert_eq!(ids.len(), operations.len());
}

pub fn a_refused_change_is_not_recorded(scene: &Scene<'_>) {
    let main = scene.main();
    let session = scene.session_of(main.branch);
    let unknown = OperationId::from_uuid(scene.make.ids.uuid());
    scene.store.restore_session(session, scene.make.now()).unwrap_err();
    scene.store.rename_branch(scene.make.ids.branch(), "x", scene.make.now()).unwrap_err();
    scene.undo(unknown).unwrap_err();
    let taken = scene.make.branch("main", main);
    let fork = OperationKind::Fork;
    scene.store.create_branch(&taken, fork, None, scene.make.now()).unwrap_err();
    assert_eq!(scene.operations(session).len(), 1);
}

pub fn operations_are_listed_by_pages_the_newest_first(scene: &Scene<'_>) {
    let (one, other) = (scene.session("one").id, scene.session("other").id);
    for round in 0..12 {
        scene.store.rename_session(one, &format!("one {round}"), false, scene.make.now()).unwrap();
        if round % 3 == 0 {
            scene.store.rename_session(other, &format!("other {round}"), false, scene.make.now()).unwrap();
        }
    }
    let everything = all(&*scene.store, None, 1000);
    assert_eq!(everything.len(), 2 + 12 + 4);
    assert!(everything.windows(2).all(|pair| pair[0].created_at > pair[1].created_at));
    for limit in [1, 3, 9, 18] {
        assert_eq!(all(&*scene.another(), None, limit), everything);
        for session in [one, other] {
            let expected: Vec<_> =
                everything.iter().filter(|operation| operation.session == session).cloned().collect();
            assert_eq!(all(&*scene.store, Some(session), limit), expected);
        }
    }
}

pub fn a_page_of_operations_stays_good_while_more_are_recorded(scene: &Scene<'_>) {
    let session = scene.session("s").id;
    for round in 0..6 {
        scene.store.rename_session(session, &format!("{round}"), false, scene.make.now()).unwrap();
    }
    let first = scene.store.list_operations(Some(session), &PageRequest::first(3)).unwrap();
    scene.store.rename_session(session, "more", false, scene.make.now()).unwrap();
    let other = scene.session("other").id;
    scene.store.purge_session(other).unwrap();
    let page = PageRequest { limit: 10, after: first.next };
    let rest = scene.store.list_operations(Some(session), &page).unwrap();
    let names: Vec<_> = rest.items.iter().map(|operation| operation.after.name.as_str()).collect();
    assert_eq!(names, ["2", "1", "0", "s"]);
    assert_eq!(rest.next, None::<Cursor>);
}

pub fn the_order_is_that_of_recording_whatever_the_clock_says(scene: &Scene<'_>) {
    let main = scene.main();
    let session = scene.session_of(main.branch);
    let (late, early) = (scene.make.now(), hfs_core::Timestamp::UNIX_EPOCH);
    for (name, time) in [("a", late), ("b", early), ("c", late), ("d", early)] {
        scene.store.rename_session(session, name, false, time).unwrap();
    }
    let operations = scene.operations(session);
    let names: Vec<_> = operations.iter().map(|operation| operation.after.name.as_str()).collect();
    assert_eq!(names, ["d", "c", "b", "a", "scene"]);
    assert_eq!(operations[0].created_at, early);
    // What is undone is the operation that is named, whatever its time.
    scene.undo(operations[0].id).unwrap();
    assert_eq!(scene.store.get_session(session).unwrap().session.name, "c");
    scene.say(at(main.branch, 0), "fine");
}
