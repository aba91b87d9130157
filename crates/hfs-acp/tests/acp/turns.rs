//! What an agent sends becomes the messages of a turn.

use hfs_core::{ContextUpdate, PlanStepStatus, SessionOpening, ToolEnding};

use super::*;

fn call(id: &str, fields: Value) -> Value {
    let mut update = json!({"sessionUpdate": "tool_call", "toolCallId": id});
    update.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
    json!({"update": update})
}

fn call_update(id: &str, fields: Value) -> Value {
    let mut step = call(id, fields);
    step["update"]["sessionUpdate"] = "tool_call_update".into();
    step
}

fn tool_call(id: &str, name: &str, input: Value) -> Part {
    Part::ToolCall { id: id.into(), name: name.into(), input }
}

fn result(id: &str, output: &str, is_error: bool) -> Part {
    Part::ToolResult { id: id.into(), output: output.into(), is_error }
}

#[tokio::test]
async fn a_turn_is_written_as_the_messages_of_a_transcript() {
    let mut conversation = Conversation::new(&prompts(json!([[
        {"update": {"sessionUpdate": "agent_thought_chunk", "content": {"type": "text", "text": "Hm."}}},
        chunk("I "),
        chunk("look."),
        call("1", json!({"title": "Terminal", "kind": "execute", "rawInput": {}, "_meta": {"claudeCode": {"toolName": "Bash"}}})),
        call_update("1", json!({"title": "ls", "rawInput": {"command": "ls"}})),
        {"ask": {"toolCall": {"toolCallId": "1"}}, "allowed": [
            call_update("1", json!({"status": "completed", "rawOutput": "a.txt"})),
        ]},
        call("2", json!({"title": "Read a.txt", "kind": "read", "status": "in_progress", "locations": [{"path": "/a.txt", "line": 3}]})),
        call("3", json!({"title": "Edit", "kind": "edit", "rawInput": {"path": "/b"}})),
        call_update("3", json!({"status": "failed", "content": [{"type": "content", "content": {"type": "text", "text": "no such file"}}]})),
        call_update("2", json!({"status": "completed", "content": [{"type": "diff", "path": "/a", "oldText": "x", "newText": "y"}]})),
        chunk("Done."),
    ]])));
    let turn = conversation.say("what is here?").await.ok();
    let thinking = Part::Thinking { text: "Hm.".into(), signature: None };
    let decided = PermissionRecord {
        call: "1".into(),
        kind: "execute".into(),
        allowed: true,
        by: DecidedBy::User,
        title: None,
    };
    let expected = [
        (
            Role::Assistant,
            vec![
                thinking,
                Part::text("I look."),
                tool_call("1", "Bash", json!({"command": "ls"})),
                decided.to_part(),
            ],
        ),
        (Role::Tool, vec![result("1", "a.txt", false)]),
        (
            Role::Assistant,
            vec![
                tool_call("2", "read", json!({"title": "Read a.txt"})),
                tool_call("3", "edit", json!({"path": "/b"})),
            ],
        ),
        (Role::Tool, vec![result("3", "no such file", true), result("2", "", false)]),
        (Role::Assistant, vec![Part::text("Done.")]),
    ];
    let written: Vec<_> = turn.messages.iter().map(|message| (message.role, message.parts.clone())).collect();
    assert_eq!(written, expected);
    // Locations and diffs are kept with the results.
    let kept = turn.messages[3].extra.get("acp").unwrap()["tool_calls"].to_string();
    for verbatim in ["\"line\":3", "\"type\":\"diff\"", "\"newText\":\"y\"", "\"status\":\"failed\""] {
        assert!(kept.contains(verbatim), "{verbatim}: {kept}");
    }
    // How long the calls took is kept with them, too.
    let durations = &turn.messages[3].extra.get("acp").unwrap()["durations"];
    assert!(durations["2"].is_u64() && durations["3"].is_u64(), "{durations}");
    let endings: Vec<_> = turn
        .events()
        .into_iter()
        .filter_map(|event| match event {
            ToolEvent::ToolEnded { call, ending, .. } => Some((call, ending)),
            _ => None,
        })
        .collect();
    let ended = |call: &str, ending| (call.to_owned(), ending);
    assert_eq!(
        endings,
        [
            ended("1", ToolEnding::Completed),
            ended("3", ToolEnding::Failed),
            ended("2", ToolEnding::Completed)
        ]
    );
}

#[tokio::test]
async fn a_call_is_written_when_its_arguments_are_known_or_something_follows() {
    let mut usage = json!({"update": {"sessionUpdate": "usage_update", "used": 1, "size": 2}});
    usage["update"]["_meta"] = json!({"_claude/model": "claude-9"});
    let mut conversation = Conversation::new(&prompts(json!([[
        call("1", json!({"title": "Terminal", "rawInput": {}, "status": "pending"})),
        call("2", json!({"title": "Read", "kind": "read", "rawInput": {}})),
        call_update("2", json!({"rawInput": {"path": "/a"}})),
        usage,
        chunk("meanwhile"),
        call_update("1", json!({"rawInput": {"command": "ls"}})),
        call_update("1", json!({"status": "completed", "rawOutput": "a"})),
        call("3", json!({"title": "never", "rawInput": {}})),
    ]])));
    let turn = conversation.say("go").await.ok();
    assert_eq!(
        turn.messages[0].parts,
        [
            tool_call("2", "read", json!({"path": "/a"})),
            // Its arguments came later, and replace the title.
            tool_call("1", "other", json!({"command": "ls"})),
            Part::text("meanwhile")
        ]
    );
    assert_eq!(turn.messages[1].parts, [result("1", "a", false)]);
    assert_eq!(turn.messages[2].parts, [tool_call("3", "other", json!({"title": "never"}))]);
    assert_eq!(turn.result.unwrap().message.model.as_deref(), Some("claude-9"));
}

#[tokio::test]
async fn a_change_of_the_message_id_begins_another_message() {
    let with_id = |id: &str, text: &str| {
        let mut step = chunk(text);
        step["update"]["messageId"] = id.into();
        step
    };
    let mut conversation = Conversation::new(&prompts(json!([[
        with_id("a", "one "),
        with_id("a", "two"),
        with_id("b", "three")
    ]])));
    let turn = conversation.say("hi").await.ok();
    assert_eq!(turn.texts(), ["one two", "three"]);
    assert_eq!(turn.messages.len(), 2);
    assert_eq!(turn.messages[0].extra.get("acp").unwrap()["message_id"], "a");
}

#[tokio::test]
async fn every_kind_of_update_is_kept() {
    let update = |kind: &str, fields: Value| {
        let mut update = json!({"sessionUpdate": kind});
        update.as_object_mut().unwrap().extend(fields.as_object().cloned().unwrap());
        json!({"update": update})
    };
    let text = json!({"type": "text", "text": "t"});
    let link = json!({"type": "resource_link", "uri": "file:///x", "name": "x"});
    let mut conversation = Conversation::new(&prompts(json!([[
        update(
            "plan",
            json!({"entries": [{"content": "test it", "priority": "high", "status": "in_progress"}]})
        ),
        update(
            "usage_update",
            json!({"used": 5000, "size": 200_000, "cost": {"amount": 0.5, "currency": "USD"}})
        ),
        update("notice", json!({"severity": "warning", "title": "slow"})),
        update(
            "available_commands_update",
            json!({"availableCommands": [{"name": "init", "description": "d"}]})
        ),
        update("current_mode_update", json!({"currentModeId": "plan"})),
        update(
            "config_option_update",
            json!({"configOptions": [
                {"id": "model", "name": "Model", "category": "model", "type": "select", "currentValue": "opus", "options": []}
            ]})
        ),
        update("session_info_update", json!({"title": "A title"})),
        update("user_message_chunk", json!({"content": text})),
        update("compaction_update", json!({"compactionId": "c", "status": "completed"})),
        update("from_the_future", json!({"data": [1, {"deep": true}]})),
        update("agent_message_chunk", json!({"content": link})),
        chunk("end"),
    ]])));
    let turn = conversation.say("hi").await.ok();
    let opaque: Vec<Value> = turn.messages[0]
        .parts
        .iter()
        .filter_map(|part| if let Part::Opaque { raw, .. } = part { Some(raw.clone()) } else { None })
        .collect();
    assert_eq!(opaque[0]["compactionId"], "c");
    assert_eq!(opaque[1], json!({"sessionUpdate": "from_the_future", "data": [1, {"deep": true}]}));
    assert_eq!(opaque[2]["content"], link);
    let reported: Vec<String> = turn
        .events()
        .into_iter()
        .filter_map(|event| match event {
            ToolEvent::AgentUpdated { update, .. } => Some(update["sessionUpdate"].as_str()?.to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(
        reported,
        [
            "available_commands_update",
            "current_mode_update",
            "config_option_update",
            "session_info_update",
            "user_message_chunk"
        ]
    );
    let events = turn.events();
    assert!(events.iter().any(|event| matches!(event, ToolEvent::PlanUpdated { steps, .. }
        if steps[0].content == "test it" && steps[0].status == PlanStepStatus::InProgress)));
    assert!(
        events
            .iter()
            .any(|event| matches!(event, ToolEvent::NoticeReceived { title, .. } if title == "slow"))
    );
    let payloads = turn.sink.events.lock().unwrap();
    let usage = payloads.iter().find_map(ContextUpdate::read).unwrap();
    assert_eq!((usage.tokens, usage.limit.unwrap().tokens), (5000, 200_000));
    assert!(serde_json::to_string(&*payloads).unwrap().contains("\"currency\":\"USD\""));
    let outcome = turn.result.as_ref().unwrap();
    assert_eq!(outcome.message.model.as_deref(), Some("opus"));
    assert_eq!(outcome.message.extra.get("acp").unwrap()["plan"]["entries"][0]["content"], "test it");
}

#[tokio::test]
async fn a_list_that_an_agent_repeats_is_recorded_once() {
    let commands = |name: &str| {
        let commands = json!([{"name": name, "description": "d".repeat(10_000)}]);
        json!({"update": {"sessionUpdate": "available_commands_update", "availableCommands": commands}})
    };
    // Two lists for each process, as Claude Code sends them.
    let turn = json!([commands("init"), commands("init"), commands("review"), chunk("hello")]);
    let mut conversation = Conversation::new(&prompts(json!([turn])));
    let mut recorded = Vec::new();
    for _ in 0..3 {
        let turn = conversation.say("go").await.ok();
        recorded.push(turn.events().iter().filter_map(recorded_list).collect::<Vec<_>>());
        // Each message is sent by another process of hfs, as on the command line.
        conversation.restart().await;
    }
    assert_eq!(recorded[0], ["init", "review"]);
    // Later only that the earlier lists have returned.
    let returned = &recorded[1];
    assert!(returned.len() == 2 && returned.iter().all(|text| text.len() == 16), "{recorded:?}");
    assert_eq!(recorded[2], *returned);
}

/// The first command of a recorded list, or the fingerprint of one that has returned.
fn recorded_list(event: &ToolEvent) -> Option<String> {
    let ToolEvent::AgentUpdated { update, .. } = event else { return None };
    let name = update["availableCommands"][0]["name"].as_str();
    name.or(update["returned"].as_str()).map(str::to_owned)
}

#[tokio::test]
async fn pictures_are_stored_as_attachments_in_both_directions() {
    let picture = json!({"type": "image", "mimeType": "image/png", "data": "iVBORw0KGgo="});
    let mut script = prompts(json!([[
        {"update": {"sessionUpdate": "agent_message_chunk", "content": picture}},
        call("1", json!({"title": "Screenshot", "status": "completed", "content": [{"type": "content", "content": picture}]})),
        chunk("seen"),
    ]]));
    script["capabilities"] = json!({"promptCapabilities": {"image": true}});
    let mut conversation = Conversation::new(&script);
    let turn = conversation.say("look").await.ok();
    let attached = |message: &Written| {
        message.parts.iter().any(|part| matches!(part, Part::Attachment { bytes: 8, .. }))
    };
    assert!(attached(&turn.messages[0]) && attached(&turn.messages[1]), "{:?}", turn.messages);
    assert_eq!(conversation.attachments.stored.lock().unwrap().len(), 1);
    let Some(Part::Attachment { hash, .. }) = turn.messages[0].parts.first().cloned() else { panic!() };
    let again =
        Part::Attachment { media_type: "image/png".into(), name: Some("x.png".into()), hash, bytes: 8 };
    conversation.add(Role::User, vec![again]);
    let request = RunRequest::new(
        RunId::generate(),
        conversation.session,
        conversation.branch,
        conversation.history.clone(),
    );
    conversation.agent.run(request, &CollectingSink::new()).await.unwrap();
    let prompt = conversation.script.received("session/prompt").pop().unwrap();
    let last = prompt["params"]["prompt"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["data"], &last["mimeType"]), (&json!("iVBORw0KGgo="), &json!("image/png")));
}

#[tokio::test]
async fn the_output_of_a_running_command_is_written_before_its_end() {
    let mut conversation = Conversation::new(&prompts(json!([[
        call("1", json!({"title": "build", "kind": "execute", "status": "in_progress"})),
        call_update("1", json!({"status": "in_progress", "rawOutput": "line 1\n"})),
        {"wait_for_cancel": true},
    ]])));
    let (turn, _) = conversation.say_and_cancel("build").await;
    assert!(matches!(turn.result, Err(AgentError::Cancelled)));
    assert_eq!(turn.messages[1].parts, [result("1", "line 1\n", false)]);
}

#[tokio::test]
async fn output_beyond_the_limit_is_cut_and_counted() {
    let long = "é".repeat(3 << 20);
    let mut conversation = Conversation::new(&prompts(json!([[call(
        "1",
        json!({"title": "cat", "status": "completed", "rawOutput": long})
    ),]])));
    let turn = conversation.say("hi").await.ok();
    let Part::ToolResult { output, .. } = &turn.messages[1].parts[0] else { panic!() };
    assert!(
        output.ends_with("[2097152 more bytes of output were not kept]"),
        "{}",
        &output[output.len() - 80..]
    );
    let kept = turn.messages[1].extra.get("acp").map(Value::to_string).unwrap_or_default();
    assert!(kept.contains("rawOutputOmittedBytes") && kept.len() < 1000);
}

#[tokio::test]
async fn the_session_and_how_it_was_opened_are_reported() {
    let mut conversation = Conversation::new(&prompts(json!([[chunk("hello")]])));
    let turn = conversation.say("hi").await.ok();
    let unknown = |event: &EventPayload| matches!(event, EventPayload::UsageUnknown { .. });
    assert!(turn.sink.events.lock().unwrap().iter().any(unknown));
    let events = turn.events();
    let ToolEvent::SessionOpened { session, how, sent_as_text, .. } = &events[0] else {
        panic!("{events:?}")
    };
    assert_eq!((session.as_str(), *how, *sent_as_text), ("session-1", SessionOpening::New, 0));
    let initialize = conversation.script.received("initialize").remove(0);
    assert_eq!(initialize["params"]["protocolVersion"], 1);
    assert!(initialize["params"]["clientCapabilities"]["terminal"] != true);
}

#[tokio::test]
async fn a_refused_or_cut_reply_is_incomplete() {
    let mut conversation = Conversation::new(&prompts(json!([
        [chunk("a"), {"result": {"stopReason": "max_tokens"}}],
        [chunk("b"), {"result": {"stopReason": "refusal"}}],
        [chunk("c"), {"result": {"stopReason": "max_turn_requests"}}],
        [chunk("d"), {"result": {"stopReason": "end_turn", "usage": {"totalTokens": 12, "inputTokens": 5, "outputTokens": 4, "cachedReadTokens": 3}}}],
        [],
    ])));
    for _ in 0..3 {
        let turn = conversation.say("go").await.ok();
        assert!(turn.result.unwrap().incomplete.is_some());
    }
    let turn = conversation.say("go").await.ok();
    let recorded = turn
        .sink
        .events
        .lock()
        .unwrap()
        .iter()
        .any(|event| matches!(event, EventPayload::UsageRecorded { usage, .. } if usage.total() == 12));
    assert!(recorded);
    let usage = turn.result.unwrap().message.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (8, 4));
    let silent = conversation.say("go").await;
    assert!(silent.error().contains("without an answer"), "{}", silent.error());
}

#[tokio::test]
async fn notices_and_subagents_are_reported_beside_the_conversation() {
    let mut notice = chunk("billing has changed");
    notice["update"]["_meta"] = json!({"claudeCode": {"kind": "informational", "level": "warning"}});
    let nested = json!({"claudeCode": {"parentToolUseId": "task", "toolName": "Grep"}});
    let mut inner_text = chunk("the subagent thinks aloud");
    inner_text["update"]["_meta"] = nested.clone();
    let mut conversation = Conversation::new(&prompts(json!([[
        call(
            "task",
            json!({"title": "Explore", "kind": "think", "name": "Task", "rawInput": {"prompt": "look"}})
        ),
        notice,
        call("inner", json!({"title": "grep", "_meta": nested})),
        inner_text,
        call_update("inner", json!({"status": "completed", "_meta": nested})),
        call_update("task", json!({"status": "completed", "rawOutput": "found"})),
        chunk("done"),
    ]])));
    let turn = conversation.say("explore").await.ok();
    let written: Vec<_> = turn.messages.iter().map(|message| message.parts.clone()).collect();
    assert_eq!(
        written,
        [
            vec![tool_call("task", "Task", json!({"prompt": "look"}))],
            vec![result("task", "found", false)],
            vec![Part::text("done")]
        ]
    );
    let events = turn.events();
    assert!(
        events.iter().any(
            |event| matches!(event, ToolEvent::NoticeReceived { severity, .. } if severity == "warning")
        )
    );
    let of_subagent = events.iter().filter(|event| matches!(event, ToolEvent::AgentUpdated { .. }));
    assert_eq!(of_subagent.count(), 3);
}
