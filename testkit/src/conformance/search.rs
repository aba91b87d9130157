//! What was said is found, and nothing else.

use hfs_core::{
    DeltaKind, Part, Position, ReplyDelta, Role, SearchHit, SearchQuery, SearchResults, SessionDraft,
    Timestamp,
};
use serde_json::json;

use super::Scene;
use crate::builders::at;

fn query(text: &str) -> SearchQuery {
    SearchQuery { text: text.into(), limit: 200, ..SearchQuery::default() }
}

fn search(scene: &Scene<'_>, query: &SearchQuery) -> SearchResults {
    let found = scene.store.search(query).unwrap();
    assert_eq!(found.total, scene.another().search(query).unwrap().total);
    assert!(found.hits.is_sorted_by(|a, b| a.score >= b.score), "the best come first");
    found
}

fn count(scene: &Scene<'_>, text: &str) -> u64 {
    let found = search(scene, &query(text));
    assert_eq!(found.hits.len() as u64, found.total);
    found.total
}

fn say_as(scene: &Scene<'_>, at: Position, role: Role, parts: Vec<Part>) -> Position {
    scene.store.append(at, &[scene.make.message(role, parts)]).unwrap().position
}

pub fn a_hit_says_where_it_is(scene: &Scene<'_>) {
    let draft = scene.make.session("Login ü");
    scene.store.create_session(&draft).unwrap();
    let main = scene.say(at(draft.main_branch, 0), "nothing here");
    let (side, _) = scene.fork(main, "side");
    let message = scene.make.assistant("Somewhere in here is a Needle, in a haystack.");
    scene.store.append(side, std::slice::from_ref(&message)).unwrap();
    let found = search(scene, &query("needle"));
    assert_eq!(found.total, 1);
    let hit = &found.hits[0];
    assert_eq!((hit.session, hit.session_name.as_str()), (draft.id, "Login ü"));
    assert_eq!((hit.branch, hit.branch_name.as_str()), (side.branch, "side"));
    assert_eq!((hit.message, hit.seq, hit.role), (message.id, 2, Role::Assistant));
    assert_eq!(hit.created_at, message.created_at);
    let marked = format!("{}Needle{}", SearchHit::MARK_START, SearchHit::MARK_END);
    assert!(hit.snippet.contains(&marked), "{:?}", hit.snippet);
    assert!(hit.snippet.contains("haystack"));
}

pub fn a_snippet_of_a_long_text_shows_the_surroundings(scene: &Scene<'_>) {
    let filler = "lorem ipsum dolor sit amet ".repeat(2000);
    scene.say(scene.main(), &format!("{filler} before needle behind {filler}"));
    let found = search(scene, &query("needle"));
    let snippet = &found.hits[0].snippet;
    assert!(snippet.len() < 1000, "{} bytes", snippet.len());
    let marked = format!("before {}needle{} behind", SearchHit::MARK_START, SearchHit::MARK_END);
    assert!(snippet.contains(&marked), "{snippet:?}");
}

pub fn every_kind_of_part_is_searched(scene: &Scene<'_>) {
    let main = scene.main();
    let parts = vec![
        Part::Thinking { text: "alpha".into(), signature: Some("secretsignature".into()) },
        Part::text("beta"),
        Part::ToolCall {
            id: "callid".into(),
            name: "gammatool".into(),
            input: json!({"keyname": ["delta", {"x": "epsilon"}], "count": 12345}),
        },
        Part::ToolResult { id: "callid".into(), output: "zeta".into(), is_error: false },
        Part::Attachment {
            media_type: "image/png".into(),
            name: Some("eta.png".into()),
            hash: None,
            bytes: 0,
        },
        Part::Opaque { source: "foreign".into(), raw: json!({"field": "theta"}) },
    ];
    say_as(scene, main, Role::Tool, parts);
    for word in ["alpha", "beta", "gammatool", "delta", "epsilon", "zeta", "eta", "theta"] {
        assert_eq!(count(scene, word), 1, "{word}");
    }
    for word in ["secretsignature", "callid", "keyname", "12345", "field", "foreign", "text"] {
        assert_eq!(count(scene, word), 0, "{word}");
    }
}

pub fn everything_that_was_acknowledged_is_found(scene: &Scene<'_>) {
    let (one, other) = (scene.main(), scene.main());
    let (mut here, mut there) = (one, other);
    for number in 0..60 {
        here = scene.say(here, &format!("unique{number}a shared"));
        assert_eq!(count(scene, &format!("unique{number}a")), 1);
        let parts = vec![Part::text(format!("unique{number}b shared"))];
        there = say_as(scene, there, Role::Assistant, parts);
    }
    for number in 0..60 {
        assert_eq!(count(scene, &format!("unique{number}b")), 1);
    }
    let found = search(scene, &SearchQuery { limit: 7, ..query("shared") });
    assert_eq!((found.hits.len(), found.total), (7, 120));
    let found = search(scene, &SearchQuery { limit: 0, ..query("shared") });
    assert_eq!((found.hits.len(), found.total), (0, 120));
    scene.store.vacuum().unwrap();
    assert_eq!(count(scene, "shared"), 120);
}

pub fn a_reply_is_found_when_it_is_finished_or_settled(scene: &Scene<'_>) {
    let writer = scene.another();
    let piece = |text: &str| [ReplyDelta { kind: DeltaKind::Text, text: text.into() }];
    let finished = writer.begin_reply(scene.main(), &scene.make.assistant("")).unwrap();
    writer.extend_reply(finished, &piece("draftword")).unwrap();
    writer.finish_reply(finished, &scene.make.assistant("finalword")).unwrap();
    assert_eq!((count(scene, "finalword"), count(scene, "draftword")), (1, 0));

    let main = scene.main();
    let left = writer.begin_reply(main, &scene.make.assistant("")).unwrap();
    writer.extend_reply(left, &piece("half")).unwrap();
    writer.extend_reply(left, &piece("way there")).unwrap();
    drop(writer);
    scene.store.recover_abandoned_replies(None, scene.make.now()).unwrap();
    assert_eq!((count(scene, "halfway"), count(scene, "there"), count(scene, "half")), (1, 1, 0));
    scene.say(at(main.branch, 1), "later");
    assert_eq!(count(scene, "later"), 1);
}

pub fn what_was_said_behind_an_interrupted_reply_is_found(scene: &Scene<'_>) {
    let main = scene.main();
    let writer = scene.another();
    let reply = writer.begin_reply(main, &scene.make.assistant("")).unwrap();
    writer.extend_reply(reply, &[ReplyDelta { kind: DeltaKind::Text, text: "partword".into() }]).unwrap();
    drop(writer);
    scene.say(at(main.branch, 1), "behindword");
    assert_eq!(count(scene, "behindword"), 1);
    scene.store.recover_abandoned_replies(None, scene.make.now()).unwrap();
    assert_eq!((count(scene, "behindword"), count(scene, "partword")), (1, 1));
}

pub fn a_message_that_branches_share_is_one_hit(scene: &Scene<'_>) {
    let main = scene.say(scene.main(), "needle");
    scene.fork(main, "one");
    scene.fork(main, "two");
    assert_eq!(count(scene, "needle"), 1);
}

pub fn retired_branches_are_searched_and_the_trash_is_not(scene: &Scene<'_>) {
    let main = scene.say(scene.main(), "needle");
    let session = scene.session_of(main.branch);
    let (side, fork) = scene.fork(main, "side");
    scene.say(side, "needle aside");
    scene.undo(fork.id).unwrap();
    assert_eq!(count(scene, "needle"), 2);
    scene.store.trash_session(session, scene.make.now()).unwrap();
    assert_eq!(count(scene, "needle"), 0);
    let only = SearchQuery { session: Some(session), ..query("needle") };
    assert_eq!(search(scene, &only).total, 0);
    scene.say(main, "needle while in the trash");
    scene.store.restore_session(session, scene.make.now()).unwrap();
    assert_eq!(count(scene, "needle"), 3);
    scene.store.purge_session(session).unwrap();
    assert_eq!(count(scene, "needle"), 0);
}

pub fn hits_can_be_limited_to_a_session_a_role_and_a_time(scene: &Scene<'_>) {
    let mut sessions = Vec::new();
    let mut times: Vec<Timestamp> = Vec::new();
    for n in 0..3 {
        let draft = SessionDraft { ..scene.make.session(&format!("{n}")) };
        let session = scene.store.create_session(&draft).unwrap();
        let mut main = at(session.current_branch, 0);
        for role in Role::ALL {
            main = say_as(scene, main, role, vec![Part::text("needle")]);
        }
        times.extend(scene.history(session.current_branch).iter().map(|message| message.content.created_at));
        sessions.push(session.id);
    }
    let total = |narrow: SearchQuery| {
        let found = search(scene, &narrow);
        assert_eq!(found.hits.len() as u64, found.total);
        found.total
    };
    let all = query("needle");
    assert_eq!(total(all.clone()), 12);
    assert_eq!(total(SearchQuery { session: Some(sessions[1]), ..all.clone() }), 4);
    assert_eq!(total(SearchQuery { except_session: Some(sessions[1]), ..all.clone() }), 8);
    let both = SearchQuery { session: Some(sessions[1]), except_session: Some(sessions[1]), ..all.clone() };
    assert_eq!(total(both), 0);
    for role in Role::ALL {
        let found = search(scene, &SearchQuery { role: Some(role), ..all.clone() });
        assert_eq!(found.total, 3);
        assert!(found.hits.iter().all(|hit| hit.role == role));
    }
    for (index, time) in times.iter().enumerate() {
        let since = SearchQuery { since: Some(*time), ..all.clone() };
        assert_eq!(total(since), 12 - index as u64);
    }
    let narrow = SearchQuery { role: Some(Role::User), session: Some(sessions[2]), ..all };
    assert_eq!(total(SearchQuery { since: Some(times[4]), ..narrow.clone() }), 1);
    let late = Timestamp::from_micros(times[11].as_micros() + 1);
    assert_eq!(total(SearchQuery { since: late, ..narrow }), 0);
}

pub fn what_matches_better_comes_first(scene: &Scene<'_>) {
    let main = scene.main();
    let filler = "lorem ipsum dolor sit amet consectetur ".repeat(30);
    let main = scene.say(main, &format!("needle {filler}"));
    let main = scene.say(main, "needle needle thread");
    scene.talk(main, "filler", 12);
    let found = search(scene, &query("needle"));
    assert_eq!(found.hits.iter().map(|hit| hit.seq).collect::<Vec<_>>(), [2, 1]);
    let any = SearchQuery { any_word: true, ..query("needle thread") };
    assert_eq!(search(scene, &any).hits[0].seq, 2);
}

pub fn what_waits_for_the_index_is_indexed_as_far_as_it_is_wanted(scene: &Scene<'_>) {
    let main = scene.main();
    scene.talk(main, "needle", 700);
    let mut left = Vec::new();
    let mut stop_at_once = |waiting: u64| {
        left.push(waiting);
        false
    };
    scene.store.update_index(&mut stop_at_once).unwrap();
    assert_eq!(left.len(), 1, "it was told to stop");

    let mut left = Vec::new();
    let mut go_on = |waiting: u64| {
        left.push(waiting);
        true
    };
    scene.store.update_index(&mut go_on).unwrap();
    assert!(left.is_sorted_by(|a, b| a >= b), "{left:?}");
    assert!(left[0] <= 700, "{left:?}");
    assert_eq!(left.last(), Some(&0));
    assert_eq!(search(scene, &query("needle")).total, 700);
}
