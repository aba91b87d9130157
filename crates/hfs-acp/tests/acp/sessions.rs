//! Which of its own sessions an agent continues.

use hfs_core::SessionOpening;

use super::*;

fn script(capabilities: &Value) -> Value {
    json!({"capabilities": capabilities, "session/prompt": [[chunk("one")], [chunk("two")]]})
}

fn opening(turn: &Turn) -> (SessionOpening, u64) {
    match turn.events().first() {
        Some(ToolEvent::SessionOpened { how, sent_as_text, .. }) => (*how, *sent_as_text),
        other => panic!("{other:?}"),
    }
}

/// What the agent was sent with its last prompt.
fn last_prompt(conversation: &Conversation) -> Vec<String> {
    let prompt = conversation.script.received("session/prompt").pop().unwrap();
    let blocks = prompt["params"]["prompt"].as_array().cloned().unwrap();
    blocks.iter().map(|block| block["text"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn a_running_agent_continues_its_session() {
    let mut conversation = Conversation::new(&script(&json!({})));
    conversation.say("first").await.ok();
    let turn = conversation.say("second").await.ok();
    assert_eq!(opening(&turn), (SessionOpening::Continued, 0));
    assert_eq!(last_prompt(&conversation), ["second"]);
    assert_eq!(conversation.script.received("session/new").len(), 1);
}

#[tokio::test]
async fn a_new_process_resumes_the_session_or_loads_it_without_recording_the_replay() {
    let replay = json!([[chunk("one"), chunk("replayed")]]);
    for (capabilities, method) in [
        (json!({"sessionCapabilities": {"resume": {}}, "loadSession": true}), "session/resume"),
        (json!({"loadSession": true}), "session/load"),
    ] {
        let mut script = script(&capabilities);
        script[method] = replay.clone();
        let mut conversation = Conversation::new(&script);
        conversation.say("first").await.ok();
        conversation.restart().await;
        let turn = conversation.say("second").await.ok();
        assert_eq!(opening(&turn), (SessionOpening::Resumed, 0), "{method}");
        assert_eq!(turn.texts(), ["one"]);
        assert_eq!(last_prompt(&conversation), ["second"]);
        let opened = conversation.script.received(method);
        assert_eq!(opened[0]["params"]["sessionId"], "session-1");
    }
}

#[tokio::test]
async fn an_agent_that_cannot_continue_gets_the_conversation_as_text() {
    let mut conversation = Conversation::new(&script(&json!({})));
    conversation.say("first").await.ok();
    conversation.restart().await;
    let turn = conversation.say("second").await.ok();
    assert_eq!(opening(&turn), (SessionOpening::New, 2));
    let prompt = last_prompt(&conversation);
    assert!(prompt[0].contains("first") && prompt[0].contains("one"), "{prompt:?}");
    assert_eq!(prompt[1], "second");
}

#[tokio::test]
async fn a_session_that_the_agent_has_lost_is_replaced() {
    let mut script = script(&json!({"loadSession": true}));
    script["session/load"] = json!([[{"error": {"code": -32002, "message": "not found"}}]]);
    let mut conversation = Conversation::new(&script);
    conversation.say("first").await.ok();
    conversation.restart().await;
    let turn = conversation.say("second").await.ok();
    assert_eq!(opening(&turn), (SessionOpening::New, 2));
}

#[tokio::test]
async fn after_a_rewind_the_agent_is_given_only_what_the_branch_has() {
    let mut conversation = Conversation::new(&script(&json!({"loadSession": true})));
    conversation.say("first").await.ok();
    let memories = conversation.memories.clone();
    conversation.say("second").await.ok();
    // A rewind restores the memory of that time on a new branch.
    conversation.branch = BranchId::generate();
    conversation.history.truncate(2);
    conversation.memories = memories;
    let turn = conversation.say("another").await.ok();
    assert_eq!(opening(&turn), (SessionOpening::New, 2));
    let prompt = last_prompt(&conversation).join("\n");
    assert!(prompt.contains("first") && !prompt.contains("second"), "{prompt}");
}

#[tokio::test]
async fn messages_to_another_agent_are_handed_over() {
    let mut conversation = Conversation::new(&script(&json!({"loadSession": true})));
    conversation.say("first").await.ok();
    conversation.add(Role::User, vec![Part::text("to another")]);
    conversation.add(Role::Assistant, vec![Part::text("from another")]);
    let turn = conversation.say("second").await.ok();
    assert_eq!(opening(&turn), (SessionOpening::New, 4));
    assert!(last_prompt(&conversation)[0].contains("from another"));
}

#[tokio::test]
async fn a_session_that_ends_a_cancelled_turn_late_is_continued_if_everything_was_recorded() {
    let late = |extra: Value| {
        json!({"session/prompt": [
            [chunk("begun"), {"wait_for_cancel": true}, {"sleep": 400}, extra],
            [chunk("next")],
        ]})
    };
    let nothing = json!({"sleep": 0});
    for (extra, expected) in
        [(nothing, SessionOpening::Continued), (chunk("unrecorded"), SessionOpening::New)]
    {
        let mut conversation = Conversation::new(&late(extra));
        let (turn, took) = conversation.say_and_cancel("first").await;
        assert!(
            matches!(turn.result, Err(AgentError::Cancelled)) && took < Duration::from_millis(350),
            "{took:?}"
        );
        assert_eq!(turn.texts(), ["begun"]);
        let turn = conversation.say("second").await.ok();
        assert_eq!(opening(&turn).0, expected);
        assert_eq!(turn.texts(), ["next"]);
    }
}

#[tokio::test]
async fn a_turn_that_was_cancelled_inside_a_tool_call_does_not_cost_the_session() {
    let call = json!({"update": {"sessionUpdate": "tool_call", "toolCallId": "call-1", "title": "deploy", "kind": "execute",
        "status": "in_progress", "rawInput": {"command": "deploy --now"}}});
    let script = json!({"session/prompt": [
        [chunk("begun"), call, {"wait_for_cancel": true}],
        [chunk("next")],
    ]});
    let mut conversation = Conversation::new(&script);
    let (turn, _) = conversation.say_and_cancel("first").await;
    assert!(matches!(turn.result, Err(AgentError::Cancelled)), "{:?}", turn.result);
    // The engine leaves out calls without a result.
    for message in &mut conversation.history {
        message.content.parts.retain(|part| !matches!(part, Part::ToolCall { .. }));
    }
    let turn = conversation.say("second").await.ok();
    assert_eq!(opening(&turn), (SessionOpening::Continued, 0));
    assert_eq!(last_prompt(&conversation), ["second"]);
}

#[tokio::test]
async fn a_branch_that_the_agent_does_not_have_is_loaded_from_a_transcript_that_was_written_for_it() {
    let mut script = script(&json!({"loadSession": true, "sessionCapabilities": {"resume": {}}}));
    script["session/load"] = json!([[chunk("replayed")]]);
    let mut conversation = Conversation::new(&script);
    conversation.say("first").await.ok();
    assert_eq!(
        *conversation.sessions.started.lock().unwrap(),
        [("session-1".to_owned(), conversation.branch)]
    );
    *conversation.sessions.written.lock().unwrap() = Some("written-1".into());
    conversation.branch = BranchId::generate();
    let turn = conversation.say("another").await.ok();
    assert_eq!(opening(&turn), (SessionOpening::Transcript, 0));
    assert_eq!(*conversation.sessions.asked.lock().unwrap(), [(conversation.branch, 2)]);
    assert_eq!(conversation.script.received("session/load")[0]["params"]["sessionId"], "written-1");
    // The agent is sent the new message alone, and its replay is not recorded.
    assert_eq!(
        (last_prompt(&conversation), turn.texts()),
        (vec!["another".to_owned()], vec!["two".to_owned()])
    );
    // It is the agent's own session from then on.
    let turn = conversation.say("more").await.ok();
    assert_eq!(opening(&turn), (SessionOpening::Continued, 0));
    assert_eq!(conversation.sessions.asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_transcript_that_the_agent_does_not_load_is_replaced_by_text() {
    let mut script = script(&json!({"loadSession": true}));
    script["session/load"] = json!([[{"error": {"code": -32002, "message": "not found"}}]]);
    let mut conversation = Conversation::new(&script);
    conversation.say("first").await.ok();
    *conversation.sessions.written.lock().unwrap() = Some("written-1".into());
    conversation.branch = BranchId::generate();
    let turn = conversation.say("another").await.ok();
    assert_eq!(opening(&turn), (SessionOpening::New, 2));
    assert!(last_prompt(&conversation)[0].contains("first"));
}
