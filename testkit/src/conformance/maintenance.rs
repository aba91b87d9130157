//! Info, verify, repair and vacuum.

use super::Fixture;
use crate::builders::{at, growing_state};

pub fn an_empty_store_is_valid(fixture: &Fixture<'_>) {
    let info = fixture.store.info().unwrap();
    assert_eq!((info.sessions, info.messages, info.checkpoints, info.checkpoint_bytes), (0, 0, 0, 0));
    assert!(!info.url.is_empty() && !info.backend.is_empty() && info.schema_version > 0);
    let verification = fixture.store.verify().unwrap();
    assert!(verification.is_ok() && !verification.checked.is_empty());
    assert_eq!(fixture.store.repair().unwrap(), []);
    fixture.vacuum();
}

pub fn the_info_counts_everything(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "m", 5);
    let trashed = fixture.append_numbered(fixture.main(), "t", 2);
    fixture.checkpoint(main, growing_state(1), 10);
    fixture.checkpoint(at(main.branch, 2), growing_state(2), 10);
    fixture.store.trash_session(fixture.session_of(trashed.branch), fixture.drafts.now()).unwrap();
    let info = fixture.other_process().info().unwrap();
    assert_eq!((info.sessions, info.messages, info.checkpoints), (2, 7, 2));
    assert!(info.checkpoint_bytes > 0 && info.bytes >= info.checkpoint_bytes);
    let checked = fixture.store.verify().unwrap().checked;
    let of = |what: &str| checked.iter().find(|(name, _)| name == what).map(|(_, count)| *count);
    assert_eq!((of("sessions"), of("messages"), of("checkpoints")), (Some(2), Some(7), Some(2)));
}

pub fn repair_and_vacuum_do_not_change_a_valid_store(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "m", 5);
    let session = fixture.session_of(main.branch);
    let checkpoint = fixture.checkpoint(main, growing_state(1), 10);
    let (side, _) = fixture.fork(main, "side");
    fixture.append_text(side, "aside");
    let reply = fixture.store.begin_reply(main, &fixture.drafts.assistant("")).unwrap();
    let before = fixture.visible_state(session);
    let another = fixture.other_process();
    assert_eq!(another.repair().unwrap(), []);
    fixture.vacuum();
    assert_eq!(fixture.visible_state(session), before);
    assert_eq!(fixture.store.load_state(checkpoint.id).unwrap(), growing_state(1));
    fixture.store.finish_reply(reply, &fixture.drafts.assistant("undisturbed")).unwrap();
    assert_eq!(fixture.texts(main.branch).last().unwrap(), "undisturbed");
}

pub fn a_snapshot_does_not_change(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "m", 3);
    let session = fixture.session_of(main.branch);
    let checkpoint = fixture.checkpoint(main, growing_state(1), 10);
    let reply = fixture.store.begin_reply(main, &fixture.drafts.assistant("")).unwrap();
    let snapshot = fixture.store.snapshot().unwrap();
    let state = |store: &dyn hfs_core::Store| {
        let messages = store.read_messages(main.branch, hfs_core::MessageRange::Newest(100)).unwrap();
        let summary = store.get_session(session).unwrap();
        (messages, summary, store.list_branches(session).unwrap(), store.list_checkpoints(session).unwrap())
    };
    let before = state(snapshot.as_ref());
    assert_eq!(before.0.len(), 4);

    // Another process finishes the reply, appends, forks, and deletes the checkpoint and the session.
    fixture.store.finish_reply(reply, &fixture.drafts.assistant("done")).unwrap();
    let other = fixture.other_process();
    let end = at(main.branch, 4);
    other.append(end, &[fixture.drafts.user("later")]).unwrap();
    fixture.fork(at(main.branch, 2), "side");
    other.delete_checkpoint(checkpoint.id, fixture.drafts.now()).unwrap();
    other.trash_session(session, fixture.drafts.now()).unwrap();
    other.purge_session(session).unwrap();

    assert_eq!(state(snapshot.as_ref()), before);
    assert_eq!(snapshot.load_state(checkpoint.id).unwrap(), growing_state(1));
    assert!(fixture.store.get_session(session).is_err());
}
