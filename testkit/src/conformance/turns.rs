//! Turns of several messages: tool calls and results while they stream, and the chain of replies that one writer holds.

use hfs_core::{
    ErrorKind, Message, MessageDraft, MessageStatus, OutputDelta, Part, Position, ReplyDelta, ReplyHandle,
    Role, SearchQuery, Store, StoreError,
};
use serde_json::json;

use super::Fixture;
use super::fixture::{expect_error, expect_kind};
use crate::builders::{at, attachment};

fn call(id: &str) -> Part {
    Part::ToolCall { id: id.into(), name: "run".into(), input: json!({"command": format!("make {id}")}) }
}

fn result(id: &str, output: &str) -> Part {
    Part::ToolResult { id: id.into(), output: output.into(), is_error: false }
}

fn read(store: &dyn Store, reply: ReplyHandle) -> Message {
    store.get_message(reply.message).unwrap()
}

fn begin(fixture: &Fixture<'_>, store: &dyn Store) -> (Position, ReplyHandle) {
    let main = fixture.append_text(fixture.main(), "question");
    (main, store.begin_reply(main, &fixture.drafts.assistant("")).unwrap())
}

/// The roles and the texts of the tools and of the agent.
fn contents(fixture: &Fixture<'_>, position: Position) -> Vec<(Role, String)> {
    let history = fixture.history(position.branch);
    history.iter().map(|message| (message.content.role, message.content.searchable_text())).collect()
}

pub fn calls_and_results_are_visible_while_they_stream(fixture: &Fixture<'_>) {
    let (_, reply) = begin(fixture, &*fixture.store);
    let attached = attachment(b"picture");
    fixture.store.put_attachment(&attached).unwrap();
    let picture =
        Part::Attachment { media_type: "image/png".into(), name: None, hash: Some(attached.hash), bytes: 7 };
    let opaque = Part::Opaque { source: "tool".into(), raw: json!({"a": ["\u{0}", 1.5, null]}) };
    fixture.store.extend_reply(reply, &[ReplyDelta::text("I"), ReplyDelta::Part(call("1"))]).unwrap();
    let parts = [opaque.clone(), picture.clone(), call("2")].map(ReplyDelta::Part);
    fixture.store.extend_reply(reply, &parts).unwrap();
    fixture.store.extend_reply(reply, &[ReplyDelta::text("wait")]).unwrap();
    let expected = [Part::text("I"), call("1"), opaque, picture, call("2"), Part::text("wait")];
    for store in [&fixture.store, &fixture.other_process()] {
        let partial = read(&**store, reply);
        assert_eq!(
            (partial.content.status, partial.content.parts),
            (MessageStatus::Streaming, expected.to_vec())
        );
    }
    let missing = Part::Attachment {
        media_type: "image/png".into(),
        name: None,
        hash: Some(attachment(b"not stored").hash),
        bytes: 1,
    };
    expect_kind(fixture.store.extend_reply(reply, &[ReplyDelta::Part(missing)]), ErrorKind::Invalid);
    assert_eq!(read(&*fixture.store, reply).content.parts, expected);
}

pub fn output_of_a_running_tool_extends_its_result(fixture: &Fixture<'_>) {
    let (_, reply) = begin(fixture, &*fixture.store);
    fixture
        .store
        .extend_reply(reply, &[ReplyDelta::Part(result("1", "")), ReplyDelta::output("2", "b\n")])
        .unwrap();
    for line in 0..20 {
        fixture.store.extend_reply(reply, &[ReplyDelta::output("1", format!("{line}é\u{0}\n"))]).unwrap();
    }
    let all: String = (0..20).map(|line| format!("{line}é\u{0}\n")).collect();
    assert_eq!(read(&*fixture.other_process(), reply).content.parts, [result("1", &all), result("2", "b\n")]);
    let replacing = OutputDelta { id: "1".into(), keep: Some(1), text: " lines".into(), is_error: true };
    fixture.store.extend_reply(reply, &[ReplyDelta::Output(replacing)]).unwrap();
    let failed = Part::ToolResult { id: "1".into(), output: "0 lines".into(), is_error: true };
    assert_eq!(read(&*fixture.store, reply).content.parts, [failed, result("2", "b\n")]);
    // The whole result takes the place of what was streamed.
    fixture.store.extend_reply(reply, &[ReplyDelta::Part(result("1", "done"))]).unwrap();
    assert_eq!(read(&*fixture.store, reply).content.parts, [result("1", "done"), result("2", "b\n")]);
}

pub fn a_turn_continues_with_its_next_message_as_one_unit(fixture: &Fixture<'_>) {
    let (main, reply) = begin(fixture, &*fixture.store);
    fixture.store.extend_reply(reply, &[ReplyDelta::Part(call("1"))]).unwrap();
    let make = &fixture.drafts;
    let calling = make.message(Role::Assistant, vec![Part::text("let me see"), call("1")]);
    let tool = make.message(Role::Tool, vec![]);
    let next = fixture.store.continue_reply(reply, std::slice::from_ref(&calling), &tool).unwrap();
    assert_eq!((next.message, next.branch, next.seq), (tool.id, main.branch, 3));
    let finished = read(&*fixture.other_process(), reply);
    assert_eq!(finished.content, MessageDraft { id: reply.message, ..calling });
    let begun = read(&*fixture.other_process(), next);
    assert_eq!((begun.content.role, begun.content.status), (Role::Tool, MessageStatus::Streaming));

    // Several messages that were complete before the next save.
    fixture.store.extend_reply(next, &[ReplyDelta::output("1", "ok")]).unwrap();
    let messages = [
        make.message(Role::Tool, vec![result("1", "ok")]),
        make.message(Role::Assistant, vec![call("2")]),
        make.message(Role::Tool, vec![result("2", "fine")]),
    ];
    let last = fixture.store.continue_reply(next, &messages, &make.assistant("")).unwrap();
    assert_eq!(last.seq, 6);
    fixture.store.extend_reply(last, &[ReplyDelta::text("all ")]).unwrap();
    let done = make.assistant("all done");
    fixture.store.finish_reply(last, &done).unwrap();
    let expected = [
        (Role::User, "question"),
        (Role::Assistant, "let me see\nrun\nmake 1"),
        (Role::Tool, "ok"),
        (Role::Assistant, "run\nmake 2"),
        (Role::Tool, "fine"),
        (Role::Assistant, "all done"),
    ];
    assert_eq!(contents(fixture, main), expected.map(|(role, text)| (role, text.to_owned())));
    assert!(
        fixture.history(main.branch).iter().all(|message| message.content.status == MessageStatus::Complete)
    );
    let session = fixture.store.get_session(fixture.session_of(main.branch)).unwrap();
    assert_eq!((session.messages, session.session.updated_at), (6, done.created_at));
    let found = fixture.store.search(&SearchQuery { text: "fine".into(), ..SearchQuery::default() }).unwrap();
    assert_eq!(found.total, 1);
    fixture.append_text(at(main.branch, 6), "next");
}

pub fn a_branch_is_locked_between_the_messages_of_a_turn(fixture: &Fixture<'_>) {
    let (main, mut reply) = begin(fixture, &*fixture.store);
    for _ in 0..4 {
        let here = at(main.branch, reply.seq);
        for store in [&fixture.store, &fixture.other_process()] {
            let refusal = expect_error(store.append(here, &[fixture.drafts.user("me too")]));
            assert!(matches!(refusal, StoreError::Locked { seq } if seq == reply.seq), "{refusal}");
            assert_eq!(store.recover_abandoned_replies(None, fixture.drafts.now()).unwrap(), 0);
        }
        let finished = fixture.drafts.assistant("step");
        reply = fixture.store.continue_reply(reply, &[finished], &fixture.drafts.assistant("")).unwrap();
    }
    fixture.store.finish_reply(reply, &fixture.drafts.assistant("end")).unwrap();
    assert_eq!(fixture.texts(main.branch), ["question", "step", "step", "step", "step", "end"]);
}

pub fn a_turn_that_cannot_continue_is_unchanged(fixture: &Fixture<'_>) {
    let (main, reply) = begin(fixture, &*fixture.store);
    fixture.store.extend_reply(reply, &[ReplyDelta::text("so far")]).unwrap();
    let before = fixture.history(main.branch);
    let make = &fixture.drafts;
    let proceed = |store: &dyn Store, reply, messages: &[MessageDraft], next: &MessageDraft| {
        store.continue_reply(reply, messages, next).map(drop)
    };
    let (done, next) = (make.assistant("done"), make.assistant(""));
    let store = &*fixture.store;
    expect_kind(proceed(store, reply, &[], &next), ErrorKind::Invalid);
    expect_kind(
        proceed(&*fixture.other_process(), reply, std::slice::from_ref(&done), &next),
        ErrorKind::Conflict,
    );
    let elsewhere = ReplyHandle { seq: reply.seq + 1, ..reply };
    expect_kind(proceed(store, elsewhere, std::slice::from_ref(&done), &next), ErrorKind::Conflict);
    // The ids of the messages that follow are taken: by an earlier message, or by one of them.
    let taken = MessageDraft { id: before[0].content.id, ..make.assistant("") };
    expect_kind(proceed(store, reply, std::slice::from_ref(&done), &taken), ErrorKind::Conflict);
    expect_kind(proceed(store, reply, &[done.clone(), next.clone()], &next), ErrorKind::Conflict);
    let missing = Part::Attachment {
        media_type: "x/y".into(),
        name: None,
        hash: Some(attachment(b"not stored").hash),
        bytes: 1,
    };
    let attached = make.message(Role::Tool, vec![missing]);
    expect_kind(proceed(store, reply, std::slice::from_ref(&attached), &next), ErrorKind::Invalid);
    expect_kind(proceed(store, reply, &[done.clone(), attached], &next), ErrorKind::Invalid);
    assert_eq!(fixture.history(main.branch), before);

    store.finish_reply(reply, &done).unwrap();
    expect_kind(proceed(store, reply, &[done], &next), ErrorKind::Conflict);
    assert_eq!(fixture.texts(main.branch), ["question", "done"]);
}

pub fn an_abandoned_turn_keeps_its_messages(fixture: &Fixture<'_>) {
    let writer = fixture.other_process();
    let (main, reply) = begin(fixture, &*writer);
    let make = &fixture.drafts;
    let calling = make.message(Role::Assistant, vec![call("1"), call("2")]);
    let tool = writer.continue_reply(reply, &[calling], &make.message(Role::Tool, vec![])).unwrap();
    writer
        .extend_reply(tool, &[ReplyDelta::Part(result("1", "one")), ReplyDelta::output("2", "half")])
        .unwrap();
    drop(writer);
    let expected = [
        (Role::User, "question".to_owned()),
        (Role::Assistant, "run\nmake 1\nrun\nmake 2".to_owned()),
        (Role::Tool, "one\nhalf".to_owned()),
    ];
    let statuses =
        || fixture.history(main.branch).iter().map(|message| message.content.status).collect::<Vec<_>>();
    let (complete, interrupted) = (MessageStatus::Complete, MessageStatus::Interrupted);
    assert_eq!(
        (contents(fixture, main), statuses()),
        (expected.to_vec(), vec![complete, complete, interrupted])
    );
    assert_eq!(fixture.store.recover_abandoned_replies(None, make.now()).unwrap(), 1);
    assert_eq!(
        (contents(fixture, main), statuses()),
        (expected.to_vec(), vec![complete, complete, interrupted])
    );
    let found = fixture.store.search(&SearchQuery { text: "half".into(), ..SearchQuery::default() }).unwrap();
    assert_eq!(found.total, 1);
    fixture.append_text(at(main.branch, 3), "and now?");
}

pub fn a_turn_continues_on_a_branch_that_was_undone(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "question");
    let (fork, operation) = fixture.fork(main, "fork");
    let reply = fixture.store.begin_reply(fork, &fixture.drafts.assistant("")).unwrap();
    fixture.undo(operation.id).unwrap();
    let said = fixture.drafts.assistant("said");
    let next = fixture.store.continue_reply(reply, &[said], &fixture.drafts.assistant("")).unwrap();
    fixture.store.finish_reply(next, &fixture.drafts.assistant("the end")).unwrap();
    assert_eq!(fixture.texts(fork.branch), ["question", "said", "the end"]);
}
