//! A reply is durable as it arrives, and belongs to whoever is writing it.

use hfs_core::{
    DeltaKind, ErrorKind, Message, MessageDraft, MessageStatus, Part, ReplyDelta, ReplyHandle, Role, Store,
    StoreError, Usage,
};

use super::Scene;
use super::scene::{expect_kind, refused};
use crate::builders::at;

fn text(text: &str) -> ReplyDelta {
    ReplyDelta { kind: DeltaKind::Text, text: text.into() }
}

fn thought(text: &str) -> ReplyDelta {
    ReplyDelta { kind: DeltaKind::Thinking, text: text.into() }
}

fn read(store: &dyn Store, reply: ReplyHandle) -> Message {
    store.get_message(reply.message).unwrap()
}

pub fn a_reply_is_seen_as_it_arrives(scene: &Scene<'_>) {
    let main = scene.say(scene.main(), "question");
    let draft = MessageDraft {
        agent: Some("coder".into()),
        model: Some("m".into()),
        ..scene.make.assistant("parts of a draft do not count")
    };
    let reply = scene.store.begin_reply(main, &draft).unwrap();
    assert_eq!((reply.message, reply.branch, reply.seq), (draft.id, main.branch, 2));
    let begun = read(&*scene.another(), reply);
    assert_eq!((begun.branch, begun.seq, begun.content.status), (main.branch, 2, MessageStatus::Streaming));
    assert_eq!((begun.content.role, begun.content.created_at), (Role::Assistant, draft.created_at));
    assert_eq!(
        (&begun.content.agent, &begun.content.model, begun.content.parts.len()),
        (&draft.agent, &draft.model, 0)
    );

    scene.store.extend_reply(reply, &[text("Hel"), text("lo")]).unwrap();
    scene.store.extend_reply(reply, &[text(", wörld 🦀")]).unwrap();
    for store in [&scene.store, &scene.another()] {
        let arriving = read(&**store, reply);
        assert_eq!(arriving.content.status, MessageStatus::Streaming);
        assert_eq!(arriving.content.parts, [Part::text("Hello, wörld 🦀")]);
        assert_eq!(store.get_branch(main.branch).unwrap().head, 2);
    }
    assert_eq!(scene.history(main.branch)[1], read(&*scene.store, reply));
}

pub fn a_change_of_kind_begins_a_new_part(scene: &Scene<'_>) {
    let reply = scene.store.begin_reply(scene.main(), &scene.make.assistant("")).unwrap();
    scene.store.extend_reply(reply, &[thought("h"), thought("m")]).unwrap();
    scene.store.extend_reply(reply, &[thought("!"), text(""), thought("?"), text("a")]).unwrap();
    scene.store.extend_reply(reply, &[]).unwrap();
    scene.store.extend_reply(reply, &[text("b"), thought(""), text("c"), thought("d")]).unwrap();
    let thinking = |text: &str| Part::Thinking { text: text.into(), signature: None };
    let expected = [thinking("hm!?"), Part::text("abc"), thinking("d")];
    assert_eq!(read(&*scene.store, reply).content.parts, expected);
}

pub fn a_finished_reply_keeps_its_id_and_place_and_takes_the_rest(scene: &Scene<'_>) {
    let main = scene.say(scene.main(), "question");
    let draft = scene.make.assistant("");
    let reply = scene.store.begin_reply(main, &draft).unwrap();
    scene.store.extend_reply(reply, &[text("raw")]).unwrap();
    let last = MessageDraft {
        usage: Some(Usage { prompt_tokens: 3, completion_tokens: 4 }),
        model: Some("another".into()),
        ..scene.make.message(
            Role::Assistant,
            vec![
                Part::text("refined"),
                Part::ToolCall { id: "1".into(), name: "ls".into(), input: serde_json::json!({}) },
            ],
        )
    };
    scene.store.finish_reply(reply, &last).unwrap();
    let stored = scene.another().get_message(reply.message).unwrap();
    assert_eq!(stored.content, MessageDraft { id: draft.id, ..last.clone() });
    assert_eq!((stored.branch, stored.seq), (main.branch, 2));
    expect_kind(scene.store.get_message(last.id), ErrorKind::NotFound);
    let session = scene.store.get_session(scene.session_of(main.branch)).unwrap();
    assert_eq!((session.messages, session.session.updated_at), (2, last.created_at));
    scene.say(at(main.branch, 2), "next");
}

pub fn a_finished_reply_is_finished(scene: &Scene<'_>) {
    let reply = scene.store.begin_reply(scene.main(), &scene.make.assistant("")).unwrap();
    let last = MessageDraft { status: MessageStatus::Interrupted, ..scene.make.assistant("cancelled") };
    scene.store.finish_reply(reply, &last).unwrap();
    assert_eq!(read(&*scene.store, reply).content.status, MessageStatus::Interrupted);
    expect_kind(scene.store.extend_reply(reply, &[text("more")]), ErrorKind::Conflict);
    expect_kind(scene.store.finish_reply(reply, &scene.make.assistant("again")), ErrorKind::Conflict);
    assert_eq!(read(&*scene.store, reply).content.text(), "cancelled");

    let other = scene.store.begin_reply(scene.main(), &scene.make.assistant("")).unwrap();
    let unfinished = MessageDraft { status: MessageStatus::Streaming, ..scene.make.assistant("odd") };
    scene.store.finish_reply(other, &unfinished).unwrap();
    assert_eq!(read(&*scene.store, other).content.status, MessageStatus::Interrupted);
}

pub fn nobody_speaks_while_a_reply_is_being_written(scene: &Scene<'_>) {
    let main = scene.say(scene.main(), "question");
    let reply = scene.store.begin_reply(main, &scene.make.assistant("")).unwrap();
    let here = at(main.branch, 2);
    for store in [&scene.store, &scene.another()] {
        let refusal = refused(store.append(here, &[scene.make.user("me too")]));
        assert!(matches!(refusal, StoreError::Locked { seq: 2 }), "{refusal}");
        let refusal = refused(store.begin_reply(here, &scene.make.assistant("")));
        assert!(matches!(refusal, StoreError::Locked { seq: 2 }), "{refusal}");
        let stale = refused(store.append(main, &[scene.make.user("me too")]));
        assert!(matches!(stale, StoreError::HeadMismatch { .. }), "{stale}");
    }
    scene.store.finish_reply(reply, &scene.make.assistant("answer")).unwrap();
    scene.another().append(here, &[scene.make.user("now")]).unwrap();
    assert_eq!(scene.texts(main.branch), ["question", "answer", "now"]);
}

pub fn only_who_began_a_reply_writes_it(scene: &Scene<'_>) {
    let writer = scene.another();
    let reply = writer.begin_reply(scene.main(), &scene.make.assistant("")).unwrap();
    expect_kind(scene.store.extend_reply(reply, &[text("forged")]), ErrorKind::Conflict);
    expect_kind(scene.store.finish_reply(reply, &scene.make.assistant("forged")), ErrorKind::Conflict);
    assert_eq!(scene.store.recover_abandoned_replies(None, scene.make.now()).unwrap(), 0);
    writer.extend_reply(reply, &[text("mine")]).unwrap();
    assert_eq!(read(&*scene.store, reply).content.text(), "mine");
    let elsewhere = scene.say(scene.main(), "x");
    for wrong in [
        ReplyHandle { seq: reply.seq + 1, ..reply },
        ReplyHandle { branch: elsewhere.branch, ..reply },
        ReplyHandle { message: scene.make.ids.message(), ..reply },
        ReplyHandle {
            message: scene.history(elsewhere.branch)[0].content.id,
            branch: elsewhere.branch,
            seq: 1,
        },
    ] {
        expect_kind(writer.extend_reply(wrong, &[text("x")]), ErrorKind::Conflict);
    }
}

pub fn a_reply_whose_writer_is_gone_is_interrupted_at_once(scene: &Scene<'_>) {
    let main = scene.say(scene.main(), "question");
    let writer = scene.another();
    let reply = writer.begin_reply(main, &scene.make.assistant("")).unwrap();
    writer.extend_reply(reply, &[thought("well"), text("So ")]).unwrap();
    writer.extend_reply(reply, &[text("far")]).unwrap();
    drop(writer);
    let expected = [Part::Thinking { text: "well".into(), signature: None }, Part::text("So far")];
    for store in [&scene.store, &scene.another()] {
        let left = read(&**store, reply);
        assert_eq!(
            (left.content.status, left.content.parts.as_slice()),
            (MessageStatus::Interrupted, expected.as_slice())
        );
        expect_kind(store.extend_reply(reply, &[text("er")]), ErrorKind::Conflict);
    }
    assert_eq!(scene.history(main.branch)[1].content.status, MessageStatus::Interrupted);
    let main = scene.say(at(main.branch, 2), "go on");
    assert_eq!(scene.texts(main.branch), ["question", "So far", "go on"]);
}

pub fn an_interrupted_reply_is_settled_once(scene: &Scene<'_>) {
    let (one, other, alive) = (scene.main(), scene.main(), scene.main());
    let writer = scene.another();
    let left = [one, other].map(|main| {
        let reply = writer.begin_reply(main, &scene.make.assistant("")).unwrap();
        writer.extend_reply(reply, &[text("left")]).unwrap();
        reply
    });
    drop(writer);
    let living = scene.store.begin_reply(alive, &scene.make.assistant("")).unwrap();
    let session = scene.session_of(one.branch);
    let now = scene.make.now();
    assert_eq!(scene.store.recover_abandoned_replies(Some(session), now).unwrap(), 1);
    assert_eq!(scene.store.get_session(session).unwrap().session.updated_at, now);
    assert_eq!(scene.store.recover_abandoned_replies(Some(session), scene.make.now()).unwrap(), 0);
    assert_eq!(scene.another().recover_abandoned_replies(None, scene.make.now()).unwrap(), 1);
    assert_eq!(scene.store.recover_abandoned_replies(None, scene.make.now()).unwrap(), 0);
    for reply in left {
        let settled = read(&*scene.store, reply);
        assert_eq!(
            (settled.content.status, settled.content.text().as_str()),
            (MessageStatus::Interrupted, "left")
        );
    }
    scene.store.extend_reply(living, &[text("still here")]).unwrap();
    assert_eq!(read(&*scene.another(), living).content.status, MessageStatus::Streaming);
}

pub fn what_goes_on_behind_an_interrupted_reply_settles_it(scene: &Scene<'_>) {
    let main = scene.main();
    for round in 0..3 {
        let writer = scene.another();
        let here = at(main.branch, round * 2);
        let reply = writer.begin_reply(here, &scene.make.assistant("")).unwrap();
        writer.extend_reply(reply, &[text(&format!("left {round}"))]).unwrap();
        drop(writer);
        scene.say(at(main.branch, round * 2 + 1), "and?");
    }
    let session = scene.session_of(main.branch);
    let before = scene.store.get_session(session).unwrap();
    let settled = scene.store.recover_abandoned_replies(None, scene.make.now()).unwrap();
    assert_eq!(settled, 0, "what was appended behind them has settled them");
    assert_eq!(scene.store.get_session(session).unwrap(), before);
    assert!(
        scene
            .history(main.branch)
            .iter()
            .step_by(2)
            .all(|left| left.content.status == MessageStatus::Interrupted)
    );
    assert_eq!(scene.texts(main.branch), ["left 0", "and?", "left 1", "and?", "left 2", "and?"]);
}

pub fn a_long_reply_arrives_in_many_pieces(scene: &Scene<'_>) {
    let reply = scene.store.begin_reply(scene.main(), &scene.make.assistant("")).unwrap();
    let mut expected = String::new();
    for number in 0..300 {
        let piece = format!("{number} é🦀\u{0}\n");
        expected.push_str(&piece);
        scene.store.extend_reply(reply, &[text(&piece)]).unwrap();
    }
    assert_eq!(read(&*scene.another(), reply).content.parts, [Part::text(expected)]);
}

pub fn a_restart_leaves_what_was_finished_alone(scene: &Scene<'_>) {
    let main = scene.main();
    let writer = scene.another();
    let reply = writer.begin_reply(main, &scene.make.assistant("")).unwrap();
    writer.finish_reply(reply, &scene.make.assistant("answer")).unwrap();
    drop(writer);
    let finished = read(&*scene.another(), reply);
    assert_eq!(
        (finished.content.status, finished.content.text().as_str()),
        (MessageStatus::Complete, "answer")
    );
    assert_eq!(scene.store.recover_abandoned_replies(None, scene.make.now()).unwrap(), 0);
}
