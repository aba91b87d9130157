//! What is deleted goes to the trash, and only a purge removes it.

use hfs_core::{ErrorKind, OperationKind, Part, Role, SearchQuery, SessionFilter, SessionRef};

use super::Scene;
use super::scene::expect_kind;
use crate::builders::{at, attachment, growing_state};

pub fn a_trashed_session_is_out_of_sight_and_comes_back_whole(scene: &Scene<'_>) {
    let main = scene.main();
    let session = scene.session_of(main.branch);
    scene.talk(main, "needle", 3);
    let before = scene.visible(session);
    let now = scene.make.now();
    scene.store.trash_session(session, now).unwrap();
    assert_eq!(scene.store.get_session(session).unwrap().session.trashed_at, Some(now));
    assert_eq!(scene.last_operation(session).kind, OperationKind::Delete);
    assert_eq!(scene.texts(main.branch).len(), 3, "it can still be read");
    let listed =
        scene.store.list_sessions(&SessionFilter::default(), &hfs_core::PageRequest::first(9)).unwrap();
    assert_eq!(listed.items, []);

    expect_kind(scene.store.trash_session(session, scene.make.now()), ErrorKind::Conflict);
    scene.store.restore_session(session, scene.make.now()).unwrap();
    expect_kind(scene.store.restore_session(session, scene.make.now()), ErrorKind::Conflict);
    assert_eq!(scene.last_operation(session).kind, OperationKind::Restore);
    assert_eq!(scene.visible(session), before);
}

pub fn what_is_in_the_trash_can_be_written_to(scene: &Scene<'_>) {
    let main = scene.main();
    let session = scene.session_of(main.branch);
    let main = scene.say(main, "before");
    scene.store.trash_session(session, scene.make.now()).unwrap();
    let main = scene.say(main, "after");
    scene.store.rename_session(session, "in the trash", false, scene.make.now()).unwrap();
    let (side, _) = scene.fork(main, "side");
    scene.say(side, "aside");
    scene.store.restore_session(session, scene.make.now()).unwrap();
    assert_eq!(scene.texts(side.branch), ["before", "after", "aside"]);
}

pub fn a_purge_leaves_nothing_of_a_session(scene: &Scene<'_>) {
    let main = scene.main();
    let session = scene.session_of(main.branch);
    let main = scene.talk(main, "needle", 3);
    let (side, _) = scene.fork(at(main.branch, 1), "side");
    scene.talk(side, "needle", 4);
    let message = scene.history(side.branch)[2].content.id;
    let checkpoint = scene.checkpoint(main, growing_state(1), 10);
    scene.store.save_branch_state(side.branch, &growing_state(2)).unwrap();
    let run = scene.make.run(side.branch);
    scene.store.save_run(&run).unwrap();
    let other = scene.main();
    scene.say(other, "needle elsewhere");

    scene.store.purge_session(session).unwrap();
    expect_kind(scene.store.get_session(session), ErrorKind::NotFound);
    expect_kind(scene.store.get_branch(side.branch), ErrorKind::NotFound);
    expect_kind(scene.store.get_message(message), ErrorKind::NotFound);
    expect_kind(scene.store.load_state(checkpoint.id), ErrorKind::NotFound);
    expect_kind(scene.store.load_branch_state(side.branch), ErrorKind::NotFound);
    expect_kind(scene.store.get_run(run.id), ErrorKind::NotFound);
    expect_kind(scene.store.restore_session(session, scene.make.now()), ErrorKind::NotFound);
    let info = scene.store.info().unwrap();
    assert_eq!((info.sessions, info.messages, info.checkpoints, info.checkpoint_bytes), (1, 1, 0, 0));
    let operations = scene.store.list_operations(None, &hfs_core::PageRequest::first(100)).unwrap();
    assert!(operations.items.iter().all(|operation| operation.session != session));
    let query = SearchQuery { text: "needle".into(), limit: 10, ..SearchQuery::default() };
    assert_eq!(scene.store.search(&query).unwrap().total, 1);
}

pub fn an_id_is_free_again_after_a_purge(scene: &Scene<'_>) {
    let draft = scene.make.session("s");
    let message = scene.make.user("hello");
    for _ in 0..2 {
        scene.store.create_session(&draft).unwrap();
        scene.store.append(at(draft.main_branch, 0), std::slice::from_ref(&message)).unwrap();
        scene.store.purge_session(draft.id).unwrap();
    }
}

pub fn a_purge_takes_only_attachments_that_nobody_else_refers_to(scene: &Scene<'_>) {
    let [own, shared, unused] = ["own", "shared", "unused"].map(|text| attachment(text.as_bytes()));
    for one in [&own, &shared, &unused] {
        scene.store.put_attachment(one).unwrap();
    }
    let refer = |one: &hfs_core::Attachment| Part::Attachment {
        media_type: "text/plain".into(),
        name: None,
        hash: Some(one.hash),
        bytes: one.bytes.len() as u64,
    };
    let (going, staying) = (scene.main(), scene.main());
    let parts = vec![refer(&own), refer(&shared), refer(&own)];
    let going_on = scene.store.append(going, &[scene.make.message(Role::User, parts)]).unwrap().position;
    scene.store.append(going_on, &[scene.make.message(Role::User, vec![refer(&own)])]).unwrap();
    scene.store.append(staying, &[scene.make.message(Role::User, vec![refer(&shared)])]).unwrap();

    scene.store.purge_session(scene.session_of(going.branch)).unwrap();
    expect_kind(scene.store.get_attachment(own.hash), ErrorKind::NotFound);
    assert_eq!(scene.store.get_attachment(shared.hash).unwrap(), b"shared");
    assert_eq!(scene.store.get_attachment(unused.hash).unwrap(), b"unused", "its message may be on the way");
    scene.store.purge_session(scene.session_of(staying.branch)).unwrap();
    expect_kind(scene.store.get_attachment(shared.hash), ErrorKind::NotFound);
}

pub fn the_trash_is_emptied_by_age(scene: &Scene<'_>) {
    let sessions: Vec<_> = (0..4).map(|n| scene.session(&format!("{n}"))).collect();
    let mut times = Vec::new();
    for session in &sessions[..3] {
        times.push(scene.make.now());
        scene.store.trash_session(session.id, times[times.len() - 1]).unwrap();
    }
    assert_eq!(scene.store.purge_trash(times[0]).unwrap(), 0);
    assert_eq!(scene.store.purge_trash(times[2]).unwrap(), 2);
    expect_kind(scene.store.get_session(sessions[1].id), ErrorKind::NotFound);
    scene.store.get_session(sessions[2].id).unwrap();
    scene.store.restore_session(sessions[2].id, scene.make.now()).unwrap();
    assert_eq!(scene.store.purge_trash(scene.make.now()).unwrap(), 0);
    let left = scene.store.resolve_session(&SessionRef::Recent(1), None, false).unwrap();
    assert_eq!(left, sessions[3].id);
}

pub fn a_reply_ends_with_its_session(scene: &Scene<'_>) {
    let main = scene.main();
    let reply = scene.store.begin_reply(main, &scene.make.assistant("")).unwrap();
    scene.store.purge_session(scene.session_of(main.branch)).unwrap();
    expect_kind(scene.store.extend_reply(reply, &[]), ErrorKind::Conflict);
    expect_kind(scene.store.finish_reply(reply, &scene.make.assistant("late")), ErrorKind::Conflict);
}
