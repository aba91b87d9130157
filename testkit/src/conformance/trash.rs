//! Trash and purge.

use hfs_core::{
    Attachment, Continuation, ErrorKind, OperationKind, Origin, PageRequest, Part, Role, SearchQuery,
    SessionDraft, SessionFilter, SessionRef,
};

use super::Fixture;
use super::fixture::expect_kind;
use crate::builders::{at, attachment, growing_state};

pub fn a_trashed_session_is_hidden_and_can_be_restored(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    fixture.append_numbered(main, "needle", 3);
    let before = fixture.visible_state(session);
    let now = fixture.drafts.now();
    fixture.store.trash_session(session, now).unwrap();
    assert_eq!(fixture.store.get_session(session).unwrap().session.trashed_at, Some(now));
    assert_eq!(fixture.last_operation(session).kind, OperationKind::Delete);
    assert_eq!(fixture.texts(main.branch).len(), 3, "a trashed session can be read");
    let listed = fixture.store.list_sessions(&SessionFilter::default(), &PageRequest::first(9)).unwrap();
    assert_eq!(listed.items, []);

    expect_kind(fixture.store.trash_session(session, fixture.drafts.now()), ErrorKind::Conflict);
    fixture.store.restore_session(session, fixture.drafts.now()).unwrap();
    expect_kind(fixture.store.restore_session(session, fixture.drafts.now()), ErrorKind::Conflict);
    assert_eq!(fixture.last_operation(session).kind, OperationKind::Restore);
    assert_eq!(fixture.visible_state(session), before);
}

pub fn a_trashed_session_can_be_written(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    let main = fixture.append_text(main, "before");
    fixture.store.trash_session(session, fixture.drafts.now()).unwrap();
    let main = fixture.append_text(main, "after");
    fixture.store.rename_session(session, "in the trash", false, fixture.drafts.now()).unwrap();
    let (side, _) = fixture.fork(main, "side");
    fixture.append_text(side, "aside");
    fixture.store.restore_session(session, fixture.drafts.now()).unwrap();
    assert_eq!(fixture.texts(side.branch), ["before", "after", "aside"]);
}

pub fn a_purge_removes_everything_of_a_session(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    let main = fixture.append_numbered(main, "needle", 3);
    let (side, _) = fixture.fork(at(main.branch, 1), "side");
    fixture.append_numbered(side, "needle", 4);
    let message = fixture.history(side.branch)[2].content.id;
    let checkpoint = fixture.checkpoint(main, growing_state(1), 10);
    fixture.store.save_branch_state(side.branch, &growing_state(2)).unwrap();
    let run = fixture.drafts.run(side.branch);
    fixture.store.save_run(&run).unwrap();
    let other = fixture.main();
    fixture.append_text(other, "needle elsewhere");

    fixture.store.purge_session(session).unwrap();
    expect_kind(fixture.store.get_session(session), ErrorKind::NotFound);
    expect_kind(fixture.store.get_branch(side.branch), ErrorKind::NotFound);
    expect_kind(fixture.store.get_message(message), ErrorKind::NotFound);
    expect_kind(fixture.store.load_state(checkpoint.id), ErrorKind::NotFound);
    expect_kind(fixture.store.load_branch_state(side.branch), ErrorKind::NotFound);
    expect_kind(fixture.store.get_run(run.id), ErrorKind::NotFound);
    expect_kind(fixture.store.restore_session(session, fixture.drafts.now()), ErrorKind::NotFound);
    let info = fixture.store.info().unwrap();
    assert_eq!((info.sessions, info.messages, info.checkpoints, info.checkpoint_bytes), (1, 1, 0, 0));
    let operations = fixture.store.list_operations(None, &PageRequest::first(100)).unwrap();
    assert!(operations.items.iter().all(|operation| operation.session != session));
    let query = SearchQuery { text: "needle".into(), limit: 10, ..SearchQuery::default() };
    assert_eq!(fixture.store.search(&query).unwrap().total, 1);
}

pub fn an_id_can_be_reused_after_a_purge(fixture: &Fixture<'_>) {
    let draft = fixture.drafts.session("s");
    let message = fixture.drafts.user("hello");
    for _ in 0..2 {
        fixture.store.create_session(&draft).unwrap();
        fixture.store.append(at(draft.main_branch, 0), std::slice::from_ref(&message)).unwrap();
        fixture.store.purge_session(draft.id).unwrap();
    }
}

pub fn a_purge_deletes_only_attachments_without_other_references(fixture: &Fixture<'_>) {
    let [own, shared, unused] = ["own", "shared", "unused"].map(|text| attachment(text.as_bytes()));
    for one in [&own, &shared, &unused] {
        fixture.store.put_attachment(one).unwrap();
    }
    let part = |one: &Attachment| Part::Attachment {
        media_type: "text/plain".into(),
        name: None,
        hash: Some(one.hash),
        bytes: one.bytes.len() as u64,
    };
    let (purged, kept) = (fixture.main(), fixture.main());
    let parts = vec![part(&own), part(&shared), part(&own)];
    let purged_head =
        fixture.store.append(purged, &[fixture.drafts.message(Role::User, parts)]).unwrap().position;
    fixture.store.append(purged_head, &[fixture.drafts.message(Role::User, vec![part(&own)])]).unwrap();
    fixture.store.append(kept, &[fixture.drafts.message(Role::User, vec![part(&shared)])]).unwrap();

    fixture.store.purge_session(fixture.session_of(purged.branch)).unwrap();
    expect_kind(fixture.store.get_attachment(own.hash), ErrorKind::NotFound);
    assert_eq!(fixture.store.get_attachment(shared.hash).unwrap(), b"shared");
    assert_eq!(
        fixture.store.get_attachment(unused.hash).unwrap(),
        b"unused",
        "an unused attachment is kept, because a later message may refer to it"
    );
    fixture.store.purge_session(fixture.session_of(kept.branch)).unwrap();
    expect_kind(fixture.store.get_attachment(shared.hash), ErrorKind::NotFound);
}

pub fn the_trash_is_purged_by_age(fixture: &Fixture<'_>) {
    let sessions: Vec<_> = (0..4).map(|n| fixture.session(&format!("{n}"))).collect();
    let mut times = Vec::new();
    for session in &sessions[..3] {
        times.push(fixture.drafts.now());
        fixture.store.trash_session(session.id, times[times.len() - 1]).unwrap();
    }
    assert_eq!(fixture.store.purge_trash(times[0]).unwrap().sessions, 0);
    assert_eq!(fixture.store.purge_trash(times[2]).unwrap().sessions, 2);
    expect_kind(fixture.store.get_session(sessions[1].id), ErrorKind::NotFound);
    fixture.store.get_session(sessions[2].id).unwrap();
    fixture.store.restore_session(sessions[2].id, fixture.drafts.now()).unwrap();
    assert_eq!(fixture.store.purge_trash(fixture.drafts.now()).unwrap().sessions, 0);
    let left = fixture.store.resolve_session(&SessionRef::Recent(1), None, false).unwrap();
    assert_eq!(left, sessions[3].id);
}

pub fn the_origin_of_a_purged_session_is_remembered_until_it_is_imported_again(fixture: &Fixture<'_>) {
    let was_purged = |id: &str| fixture.store.was_purged("tool", id).unwrap();
    let import = |id: &str| {
        let origin = Some(Origin { format: "tool".into(), id: id.into(), path: None });
        let draft = SessionDraft { origin, ..fixture.drafts.session(id) };
        let now = fixture.drafts.now();
        fixture.store.import_session(&draft).unwrap().finish(id, 0, now, now).unwrap();
        draft.id
    };
    let (purged, trashed) = (import("a"), import("b"));
    assert!(!was_purged("a"));
    fixture.store.purge_session(purged).unwrap();
    fixture.store.trash_session(trashed, fixture.drafts.now()).unwrap();
    assert!(was_purged("a") && !was_purged("b"));
    assert!(!fixture.store.was_purged("other", "a").unwrap());
    assert_eq!(fixture.store.purge_trash(fixture.drafts.now()).unwrap().sessions, 1);
    assert!(was_purged("b"));
    import("a");
    assert!(!was_purged("a") && was_purged("b"));
}

pub fn a_transcript_that_continues_a_purged_session_is_recognized(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let session = fixture.session_of(main.branch);
    let (fork, _) = fixture.fork(fixture.append_text(main, "a"), "fork");
    let ways = [
        Continuation::Session(session),
        Continuation::Branch(fork.branch),
        Continuation::Recorded(main.branch),
    ];
    let was_purged = || ways.map(|continues| fixture.store.was_continued_purged(continues).unwrap());
    assert_eq!(was_purged(), [false; 3]);
    fixture.store.trash_session(session, fixture.drafts.now()).unwrap();
    assert_eq!(was_purged(), [false; 3]);
    fixture.store.purge_session(session).unwrap();
    assert_eq!(was_purged(), [true; 3]);
    let other = fixture.main();
    assert!(!fixture.store.was_continued_purged(Continuation::Branch(other.branch)).unwrap());
}

pub fn a_purge_ends_a_reply_of_the_session(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let reply = fixture.store.begin_reply(main, &fixture.drafts.assistant("")).unwrap();
    fixture.store.purge_session(fixture.session_of(main.branch)).unwrap();
    expect_kind(fixture.store.extend_reply(reply, &[]), ErrorKind::Conflict);
    expect_kind(fixture.store.finish_reply(reply, &fixture.drafts.assistant("late")), ErrorKind::Conflict);
}
