//! A user's days, from end to end.

use hfs_core::{
    DeltaKind, MessageRange, MessageStatus, PageRequest, ReplyDelta, SearchQuery, SessionDraft,
    SessionFilter, SessionRef,
};

use super::Scene;
use crate::builders::{at, growing_state};

fn piece(text: &str) -> [ReplyDelta; 1] {
    [ReplyDelta { kind: DeltaKind::Text, text: text.into() }]
}

pub fn a_conversation_is_held_left_and_resumed(scene: &Scene<'_>) {
    let mut scene = scene.beside();
    let draft = SessionDraft { automatic_name: true, ..scene.make.session("New session") };
    scene.store.create_session(&draft).unwrap();
    let main = scene.say(at(draft.main_branch, 0), "Fix the login bug");
    scene
        .store
        .rename_session(draft.id, "Fix the login bug - 2026-02-01_14-30", true, scene.make.now())
        .unwrap();
    let reply = scene.store.begin_reply(main, &scene.make.assistant("")).unwrap();
    for word in ["I ", "look ", "at it"] {
        scene.store.extend_reply(reply, &piece(word)).unwrap();
    }
    scene.store.finish_reply(reply, &scene.make.assistant("I looked at it.")).unwrap();
    scene.store.save_run(&scene.make.run(main.branch)).unwrap();
    scene.checkpoint(at(main.branch, 2), growing_state(1), 10);

    // The next day the process dies in the middle of an answer.
    scene.restart();
    let newest = scene.store.resolve_session(&SessionRef::new("@"), None, false).unwrap();
    assert_eq!(newest, draft.id);
    let here = scene.say(at(main.branch, 2), "And the tests?");
    let reply = scene.store.begin_reply(here, &scene.make.assistant("")).unwrap();
    scene.store.extend_reply(reply, &piece("They are")).unwrap();
    scene.restart();

    assert_eq!(scene.store.recover_abandoned_replies(Some(newest), scene.make.now()).unwrap(), 1);
    let page = scene.store.read_messages(main.branch, MessageRange::Newest(2)).unwrap();
    assert_eq!(
        (page[1].content.text().as_str(), page[1].content.status),
        ("They are", MessageStatus::Interrupted)
    );
    scene.say(at(main.branch, 4), "Go on");
    assert_eq!(
        scene.texts(main.branch),
        ["Fix the login bug", "I looked at it.", "And the tests?", "They are", "Go on"]
    );
    let query = SearchQuery { text: "login bug".into(), limit: 5, ..SearchQuery::default() };
    assert_eq!(scene.store.search(&query).unwrap().total, 1);
}

pub fn a_wrong_turn_is_taken_back_and_gone_back_to(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "m", 4);
    let session = scene.session_of(main.branch);
    let checkpoint = scene.checkpoint(at(main.branch, 2), growing_state(2), 10);
    let before = scene.visible(session);

    let (back, rewind) = scene.rewind(&checkpoint, "second try");
    let back = scene.say(back, "better this way");
    assert_eq!(scene.store.load_branch_state(back.branch).unwrap(), Some(growing_state(2)));
    let after = scene.visible(session);

    let to_main = scene.store.switch_branch(main.branch, scene.make.now()).unwrap();
    scene.say(main, "m 5");
    scene.undo(to_main.id).unwrap();
    scene.undo(rewind.id).unwrap();
    assert_eq!(scene.visible(session), before.replace("\"m 4\"]", "\"m 4\", \"m 5\"]"));
    scene.redo(rewind.id).unwrap();
    assert_eq!(scene.visible(session), after.replace("\"m 4\"]", "\"m 4\", \"m 5\"]"));
    assert_eq!(scene.texts(back.branch), ["m 1", "m 2", "better this way"]);
}

pub fn two_people_find_out_that_they_write_to_the_same_branch(scene: &Scene<'_>) {
    let main = scene.talk(scene.main(), "m", 2);
    let session = scene.session_of(main.branch);
    let other = scene.another();
    other.append(main, &[scene.make.user("theirs")]).unwrap();
    scene.store.append(main, &[scene.make.user("mine")]).unwrap_err();
    // "Fork here": what was seen, and the text that is still on the screen.
    let (side, _) = scene.fork(main, "my side");
    let side = scene.say(side, "mine");
    assert_eq!(scene.texts(side.branch), ["m 1", "m 2", "mine"]);
    assert_eq!(scene.texts(main.branch), ["m 1", "m 2", "theirs"]);
    assert_eq!(other.get_session(session).unwrap().branches, 2);
}

pub fn a_year_of_sessions_is_listed_searched_and_cleaned_up(scene: &Scene<'_>) {
    let mut ids = Vec::new();
    for week in 0..52 {
        let session = scene.session(&format!("week {week}"));
        scene.say(at(session.current_branch, 0), &format!("plan of week number{week}"));
        ids.push(session.id);
    }
    for id in ids.iter().step_by(2) {
        scene.store.trash_session(*id, scene.make.now()).unwrap();
    }
    let filter = SessionFilter::default();
    let listed = scene.store.list_sessions(&filter, &PageRequest::first(10)).unwrap();
    assert_eq!(listed.items[0].session.name, "week 51");
    assert_eq!(listed.items[9].session.name, "week 33");
    let query = |text: &str| SearchQuery { text: text.into(), limit: 100, ..SearchQuery::default() };
    assert_eq!(scene.store.search(&query("plan")).unwrap().total, 26);
    assert_eq!(scene.store.purge_trash(scene.make.now()).unwrap(), 26);
    scene.store.vacuum().unwrap();
    assert_eq!(scene.store.info().unwrap().sessions, 26);
    assert_eq!(scene.store.search(&query("number50")).unwrap().total, 0);
    assert_eq!(scene.store.search(&query("number51")).unwrap().total, 1);
}
