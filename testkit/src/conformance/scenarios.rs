//! Longer scenarios that combine several parts of the port.

use hfs_core::{
    MessageRange, MessageStatus, PageRequest, ReplyDelta, SearchQuery, SessionDraft, SessionFilter,
    SessionRef,
};

use super::Fixture;
use crate::builders::{at, growing_state};

fn delta(text: &str) -> [ReplyDelta; 1] {
    [ReplyDelta::text(text)]
}

pub fn a_conversation_is_continued_after_a_crash(fixture: &Fixture<'_>) {
    let mut fixture = fixture.with_other_ids();
    let draft = SessionDraft { automatic_name: true, ..fixture.drafts.session("New session") };
    fixture.store.create_session(&draft).unwrap();
    let main = fixture.append_text(at(draft.main_branch, 0), "Fix the login bug");
    fixture
        .store
        .rename_session(draft.id, "Fix the login bug - 2026-02-01_14-30", true, fixture.drafts.now())
        .unwrap();
    let reply = fixture.store.begin_reply(main, &fixture.drafts.assistant("")).unwrap();
    for word in ["I ", "look ", "at it"] {
        fixture.store.extend_reply(reply, &delta(word)).unwrap();
    }
    fixture.store.finish_reply(reply, &fixture.drafts.assistant("I looked at it.")).unwrap();
    fixture.store.save_run(&fixture.drafts.run(main.branch)).unwrap();
    fixture.checkpoint(at(main.branch, 2), growing_state(1), 10);

    // The next day, the process crashes in the middle of a reply.
    fixture.reopen();
    let newest = fixture.store.resolve_session(&SessionRef::new("@"), None, false).unwrap();
    assert_eq!(newest, draft.id);
    let here = fixture.append_text(at(main.branch, 2), "And the tests?");
    let reply = fixture.store.begin_reply(here, &fixture.drafts.assistant("")).unwrap();
    fixture.store.extend_reply(reply, &delta("They are")).unwrap();
    fixture.reopen();

    assert_eq!(fixture.store.recover_abandoned_replies(Some(newest), fixture.drafts.now()).unwrap(), 1);
    let page = fixture.store.read_messages(main.branch, MessageRange::Newest(2)).unwrap();
    assert_eq!(
        (page[1].content.text().as_str(), page[1].content.status),
        ("They are", MessageStatus::Interrupted)
    );
    fixture.append_text(at(main.branch, 4), "Go on");
    assert_eq!(
        fixture.texts(main.branch),
        ["Fix the login bug", "I looked at it.", "And the tests?", "They are", "Go on"]
    );
    let query = SearchQuery { text: "login bug".into(), limit: 5, ..SearchQuery::default() };
    assert_eq!(fixture.store.search(&query).unwrap().total, 1);
}

pub fn a_rewind_is_undone_and_redone(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "m", 4);
    let session = fixture.session_of(main.branch);
    let checkpoint = fixture.checkpoint(at(main.branch, 2), growing_state(2), 10);
    let before = fixture.visible_state(session);

    let (back, rewind) = fixture.rewind(&checkpoint, "second try");
    let back = fixture.append_text(back, "better this way");
    assert_eq!(fixture.store.load_branch_state(back.branch).unwrap(), Some(growing_state(2)));
    let after = fixture.visible_state(session);

    let to_main = fixture.store.switch_branch(main.branch, fixture.drafts.now()).unwrap();
    fixture.append_text(main, "m 5");
    fixture.undo(to_main.id).unwrap();
    fixture.undo(rewind.id).unwrap();
    assert_eq!(fixture.visible_state(session), before.replace("\"m 4\"]", "\"m 4\", \"m 5\"]"));
    fixture.redo(rewind.id).unwrap();
    assert_eq!(fixture.visible_state(session), after.replace("\"m 4\"]", "\"m 4\", \"m 5\"]"));
    assert_eq!(fixture.texts(back.branch), ["m 1", "m 2", "better this way"]);
}

pub fn a_second_writer_of_a_branch_gets_a_conflict_and_forks(fixture: &Fixture<'_>) {
    let main = fixture.append_numbered(fixture.main(), "m", 2);
    let session = fixture.session_of(main.branch);
    let other = fixture.other_process();
    other.append(main, &[fixture.drafts.user("theirs")]).unwrap();
    fixture.store.append(main, &[fixture.drafts.user("mine")]).unwrap_err();
    // The user forks at the position that was on the screen and sends the same text.
    let (side, _) = fixture.fork(main, "my side");
    let side = fixture.append_text(side, "mine");
    assert_eq!(fixture.texts(side.branch), ["m 1", "m 2", "mine"]);
    assert_eq!(fixture.texts(main.branch), ["m 1", "m 2", "theirs"]);
    assert_eq!(other.get_session(session).unwrap().branches, 2);
}

pub fn a_year_of_sessions_is_listed_searched_and_purged(fixture: &Fixture<'_>) {
    let mut ids = Vec::new();
    for week in 0..52 {
        let session = fixture.session(&format!("week {week}"));
        fixture.append_text(at(session.current_branch, 0), &format!("plan of week number{week}"));
        ids.push(session.id);
    }
    for id in ids.iter().step_by(2) {
        fixture.store.trash_session(*id, fixture.drafts.now()).unwrap();
    }
    let filter = SessionFilter::default();
    let listed = fixture.store.list_sessions(&filter, &PageRequest::first(10)).unwrap();
    assert_eq!(listed.items[0].session.name, "week 51");
    assert_eq!(listed.items[9].session.name, "week 33");
    let query = |text: &str| SearchQuery { text: text.into(), limit: 100, ..SearchQuery::default() };
    assert_eq!(fixture.store.search(&query("plan")).unwrap().total, 26);
    assert_eq!(fixture.store.purge_trash(fixture.drafts.now()).unwrap().sessions, 26);
    fixture.vacuum();
    assert_eq!(fixture.store.info().unwrap().sessions, 26);
    assert_eq!(fixture.store.search(&query("number50")).unwrap().total, 0);
    assert_eq!(fixture.store.search(&query("number51")).unwrap().total, 1);
}
