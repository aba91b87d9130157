//! Replies: streaming, locking, and recovery after the writer has closed the store.

use hfs_core::{
    ErrorKind, Message, MessageDraft, MessageRange, MessageStatus, Part, Position, ReplyDelta, ReplyHandle,
    Role, Store, StoreError, Usage,
};

use super::Fixture;
use super::fixture::{expect_error, expect_kind};
use crate::builders::at;

fn text(text: &str) -> ReplyDelta {
    ReplyDelta::text(text)
}

fn thinking(text: &str) -> ReplyDelta {
    ReplyDelta::thinking(text)
}

fn read(store: &dyn Store, reply: ReplyHandle) -> Message {
    store.get_message(reply.message).unwrap()
}

pub fn a_message_and_the_start_of_its_reply_are_one_unit(fixture: &Fixture<'_>) {
    let (store, make) = (fixture.store.as_ref(), &fixture.drafts);
    let main = fixture.main();
    let (question, answer) = (make.user("question"), make.assistant(""));
    let (appended, reply) =
        store.append_and_begin_reply(main, std::slice::from_ref(&question), &answer).unwrap();
    assert_eq!((appended.first, appended.position.head, reply.seq, reply.message), (1, 1, 2, answer.id));
    let here = Position { branch: main.branch, head: 2 };
    // Neither is stored while another reply is in progress, at a wrong position, or if one of the ids exists.
    let again = make.user("again");
    let begin = |at, message: &MessageDraft, reply: &MessageDraft| {
        store.append_and_begin_reply(at, std::slice::from_ref(message), reply).map(drop)
    };
    expect_kind(begin(here, &again, &make.assistant("")), ErrorKind::Conflict);
    store.finish_reply(reply, &make.assistant("answer")).unwrap();
    expect_kind(begin(main, &again, &make.assistant("")), ErrorKind::Conflict);
    expect_kind(begin(here, &again, &answer), ErrorKind::Conflict);
    assert_eq!(store.get_branch(main.branch).unwrap().head, 2);
    begin(here, &again, &make.assistant("")).unwrap();
    let history = store.read_messages(main.branch, MessageRange::Newest(10)).unwrap();
    let texts: Vec<_> = history.iter().map(|message| message.content.text()).collect();
    assert_eq!(texts, ["question", "answer", "again", ""]);
    assert_eq!(history[3].content.status, MessageStatus::Streaming);
}

pub fn a_reply_is_visible_while_it_is_streamed(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "question");
    let draft = MessageDraft {
        agent: Some("coder".into()),
        model: Some("m".into()),
        ..fixture.drafts.assistant("the parts of this draft are ignored")
    };
    let reply = fixture.store.begin_reply(main, &draft).unwrap();
    assert_eq!((reply.message, reply.branch, reply.seq), (draft.id, main.branch, 2));
    let begun = read(&*fixture.other_process(), reply);
    assert_eq!((begun.branch, begun.seq, begun.content.status), (main.branch, 2, MessageStatus::Streaming));
    assert_eq!((begun.content.role, begun.content.created_at), (Role::Assistant, draft.created_at));
    assert_eq!(
        (&begun.content.agent, &begun.content.model, begun.content.parts.len()),
        (&draft.agent, &draft.model, 0)
    );

    fixture.store.extend_reply(reply, &[text("Hel"), text("lo")]).unwrap();
    fixture.store.extend_reply(reply, &[text(", wörld 🦀")]).unwrap();
    for store in [&fixture.store, &fixture.other_process()] {
        let partial = read(&**store, reply);
        assert_eq!(partial.content.status, MessageStatus::Streaming);
        assert_eq!(partial.content.parts, [Part::text("Hello, wörld 🦀")]);
        assert_eq!(store.get_branch(main.branch).unwrap().head, 2);
    }
    assert_eq!(fixture.history(main.branch)[1], read(&*fixture.store, reply));
}

pub fn a_change_between_text_and_thinking_starts_a_new_part(fixture: &Fixture<'_>) {
    let reply = fixture.store.begin_reply(fixture.main(), &fixture.drafts.assistant("")).unwrap();
    fixture.store.extend_reply(reply, &[thinking("h"), thinking("m")]).unwrap();
    fixture.store.extend_reply(reply, &[thinking("!"), text(""), thinking("?"), text("a")]).unwrap();
    fixture.store.extend_reply(reply, &[]).unwrap();
    fixture.store.extend_reply(reply, &[text("b"), thinking(""), text("c"), thinking("d")]).unwrap();
    let thinking_part = |text: &str| Part::Thinking { text: text.into(), signature: None };
    let expected = [thinking_part("hm!?"), Part::text("abc"), thinking_part("d")];
    assert_eq!(read(&*fixture.store, reply).content.parts, expected);
}

pub fn finishing_a_reply_keeps_its_id_and_position_and_replaces_the_rest(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "question");
    let draft = fixture.drafts.assistant("");
    let reply = fixture.store.begin_reply(main, &draft).unwrap();
    fixture.store.extend_reply(reply, &[text("raw")]).unwrap();
    let last = MessageDraft {
        usage: Some(Usage::new(3, 4)),
        model: Some("another".into()),
        ..fixture.drafts.message(
            Role::Assistant,
            vec![
                Part::text("refined"),
                Part::ToolCall { id: "1".into(), name: "ls".into(), input: serde_json::json!({}) },
            ],
        )
    };
    fixture.store.finish_reply(reply, &last).unwrap();
    let stored = fixture.other_process().get_message(reply.message).unwrap();
    assert_eq!(stored.content, MessageDraft { id: draft.id, ..last.clone() });
    assert_eq!((stored.branch, stored.seq), (main.branch, 2));
    expect_kind(fixture.store.get_message(last.id), ErrorKind::NotFound);
    let session = fixture.store.get_session(fixture.session_of(main.branch)).unwrap();
    assert_eq!((session.messages, session.session.updated_at), (2, last.created_at));
    fixture.append_text(at(main.branch, 2), "next");
}

pub fn a_finished_reply_cannot_be_changed(fixture: &Fixture<'_>) {
    let reply = fixture.store.begin_reply(fixture.main(), &fixture.drafts.assistant("")).unwrap();
    let last = MessageDraft { status: MessageStatus::Interrupted, ..fixture.drafts.assistant("cancelled") };
    fixture.store.finish_reply(reply, &last).unwrap();
    assert_eq!(read(&*fixture.store, reply).content.status, MessageStatus::Interrupted);
    expect_kind(fixture.store.extend_reply(reply, &[text("more")]), ErrorKind::Conflict);
    expect_kind(fixture.store.finish_reply(reply, &fixture.drafts.assistant("again")), ErrorKind::Conflict);
    assert_eq!(read(&*fixture.store, reply).content.text(), "cancelled");

    let other = fixture.store.begin_reply(fixture.main(), &fixture.drafts.assistant("")).unwrap();
    let unfinished = MessageDraft { status: MessageStatus::Streaming, ..fixture.drafts.assistant("odd") };
    fixture.store.finish_reply(other, &unfinished).unwrap();
    assert_eq!(read(&*fixture.store, other).content.status, MessageStatus::Interrupted);
}

pub fn a_branch_is_locked_while_a_reply_is_written(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "question");
    let reply = fixture.store.begin_reply(main, &fixture.drafts.assistant("")).unwrap();
    let here = at(main.branch, 2);
    for store in [&fixture.store, &fixture.other_process()] {
        let refusal = expect_error(store.append(here, &[fixture.drafts.user("me too")]));
        assert!(matches!(refusal, StoreError::Locked { seq: 2 }), "{refusal}");
        let refusal = expect_error(store.begin_reply(here, &fixture.drafts.assistant("")));
        assert!(matches!(refusal, StoreError::Locked { seq: 2 }), "{refusal}");
        let stale = expect_error(store.append(main, &[fixture.drafts.user("me too")]));
        assert!(matches!(stale, StoreError::HeadMismatch { .. }), "{stale}");
    }
    fixture.store.finish_reply(reply, &fixture.drafts.assistant("answer")).unwrap();
    fixture.other_process().append(here, &[fixture.drafts.user("now")]).unwrap();
    assert_eq!(fixture.texts(main.branch), ["question", "answer", "now"]);
}

pub fn only_the_instance_that_began_a_reply_can_write_it(fixture: &Fixture<'_>) {
    let writer = fixture.other_process();
    let reply = writer.begin_reply(fixture.main(), &fixture.drafts.assistant("")).unwrap();
    expect_kind(fixture.store.extend_reply(reply, &[text("forged")]), ErrorKind::Conflict);
    expect_kind(fixture.store.finish_reply(reply, &fixture.drafts.assistant("forged")), ErrorKind::Conflict);
    assert_eq!(fixture.store.recover_abandoned_replies(None, fixture.drafts.now()).unwrap(), 0);
    writer.extend_reply(reply, &[text("mine")]).unwrap();
    assert_eq!(read(&*fixture.store, reply).content.text(), "mine");
    let elsewhere = fixture.append_text(fixture.main(), "x");
    for wrong in [
        ReplyHandle { seq: reply.seq + 1, ..reply },
        ReplyHandle { branch: elsewhere.branch, ..reply },
        ReplyHandle { message: fixture.drafts.ids.message(), ..reply },
        ReplyHandle {
            message: fixture.history(elsewhere.branch)[0].content.id,
            branch: elsewhere.branch,
            seq: 1,
        },
    ] {
        expect_kind(writer.extend_reply(wrong, &[text("x")]), ErrorKind::Conflict);
    }
}

pub fn a_reply_is_interrupted_when_its_writer_closes_the_store(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "question");
    let writer = fixture.other_process();
    let reply = writer.begin_reply(main, &fixture.drafts.assistant("")).unwrap();
    writer.extend_reply(reply, &[thinking("well"), text("So ")]).unwrap();
    writer.extend_reply(reply, &[text("far")]).unwrap();
    drop(writer);
    let expected = [Part::Thinking { text: "well".into(), signature: None }, Part::text("So far")];
    for store in [&fixture.store, &fixture.other_process()] {
        let interrupted = read(&**store, reply);
        assert_eq!(
            (interrupted.content.status, interrupted.content.parts.as_slice()),
            (MessageStatus::Interrupted, expected.as_slice())
        );
        expect_kind(store.extend_reply(reply, &[text("er")]), ErrorKind::Conflict);
    }
    assert_eq!(fixture.history(main.branch)[1].content.status, MessageStatus::Interrupted);
    let main = fixture.append_text(at(main.branch, 2), "go on");
    assert_eq!(fixture.texts(main.branch), ["question", "So far", "go on"]);
}

pub fn an_abandoned_reply_is_recovered_once(fixture: &Fixture<'_>) {
    let (one, other, third) = (fixture.main(), fixture.main(), fixture.main());
    let writer = fixture.other_process();
    let abandoned = [one, other].map(|main| {
        let reply = writer.begin_reply(main, &fixture.drafts.assistant("")).unwrap();
        writer.extend_reply(reply, &[text("left")]).unwrap();
        reply
    });
    drop(writer);
    let streaming = fixture.store.begin_reply(third, &fixture.drafts.assistant("")).unwrap();
    let session = fixture.session_of(one.branch);
    let now = fixture.drafts.now();
    assert_eq!(fixture.store.recover_abandoned_replies(Some(session), now).unwrap(), 1);
    assert_eq!(fixture.store.get_session(session).unwrap().session.updated_at, now);
    assert_eq!(fixture.store.recover_abandoned_replies(Some(session), fixture.drafts.now()).unwrap(), 0);
    assert_eq!(fixture.other_process().recover_abandoned_replies(None, fixture.drafts.now()).unwrap(), 1);
    assert_eq!(fixture.store.recover_abandoned_replies(None, fixture.drafts.now()).unwrap(), 0);
    for reply in abandoned {
        let recovered = read(&*fixture.store, reply);
        assert_eq!(
            (recovered.content.status, recovered.content.text().as_str()),
            (MessageStatus::Interrupted, "left")
        );
    }
    fixture.store.extend_reply(streaming, &[text("still here")]).unwrap();
    assert_eq!(read(&*fixture.other_process(), streaming).content.status, MessageStatus::Streaming);
}

pub fn an_append_after_an_abandoned_reply_recovers_it(fixture: &Fixture<'_>) {
    let main = fixture.main();
    for round in 0..3 {
        let writer = fixture.other_process();
        let here = at(main.branch, round * 2);
        let reply = writer.begin_reply(here, &fixture.drafts.assistant("")).unwrap();
        writer.extend_reply(reply, &[text(&format!("left {round}"))]).unwrap();
        drop(writer);
        fixture.append_text(at(main.branch, round * 2 + 1), "and?");
    }
    let session = fixture.session_of(main.branch);
    let before = fixture.store.get_session(session).unwrap();
    let recovered = fixture.store.recover_abandoned_replies(None, fixture.drafts.now()).unwrap();
    assert_eq!(recovered, 0, "the appends have recovered them already");
    assert_eq!(fixture.store.get_session(session).unwrap(), before);
    assert!(
        fixture
            .history(main.branch)
            .iter()
            .step_by(2)
            .all(|reply| reply.content.status == MessageStatus::Interrupted)
    );
    assert_eq!(fixture.texts(main.branch), ["left 0", "and?", "left 1", "and?", "left 2", "and?"]);
}

pub fn a_long_reply_can_be_streamed_in_many_deltas(fixture: &Fixture<'_>) {
    let reply = fixture.store.begin_reply(fixture.main(), &fixture.drafts.assistant("")).unwrap();
    let mut expected = String::new();
    for number in 0..300 {
        let delta = format!("{number} é🦀\u{0}\n");
        expected.push_str(&delta);
        fixture.store.extend_reply(reply, &[text(&delta)]).unwrap();
    }
    assert_eq!(read(&*fixture.other_process(), reply).content.parts, [Part::text(expected)]);
}

pub fn a_restart_does_not_change_finished_replies(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let writer = fixture.other_process();
    let reply = writer.begin_reply(main, &fixture.drafts.assistant("")).unwrap();
    writer.finish_reply(reply, &fixture.drafts.assistant("answer")).unwrap();
    drop(writer);
    let finished = read(&*fixture.other_process(), reply);
    assert_eq!(
        (finished.content.status, finished.content.text().as_str()),
        (MessageStatus::Complete, "answer")
    );
    assert_eq!(fixture.store.recover_abandoned_replies(None, fixture.drafts.now()).unwrap(), 0);
}
