//! Questions of an agent.

use super::*;

fn asking(answer_steps: Value) -> Value {
    let mut step = json!({
        "ask": {"toolCall": {
            "toolCallId": "1", "title": "rm -rf build", "kind": "execute", "rawInput": {"command": "rm -rf build"},
            "content": [{"type": "diff", "path": "/x", "oldText": "a", "newText": "b"}],
        }},
    });
    step.as_object_mut().unwrap().extend(answer_steps.as_object().cloned().unwrap());
    step
}

#[tokio::test]
async fn a_call_is_durable_before_its_question_is_answered() {
    let mut conversation = Conversation::new(&prompts(json!([[asking(
        json!({"allowed": [chunk("did it")], "rejected": [chunk("no")]})
    )]])));
    let turn = conversation.say("clean").await.ok();
    assert_eq!(turn.texts(), ["did it"]);
    let persisted = turn.sink.persisted.lock().unwrap();
    assert!(
        persisted[0].iter().any(|part| matches!(part, Part::ToolCall { id, .. } if id == "1")),
        "{persisted:?}"
    );
    let asked = conversation.policy.asked.lock().unwrap();
    assert_eq!(asked[0].command().as_deref(), Some("rm -rf build"));
    assert_eq!(asked[0].changes[0].new, "b");
}

#[tokio::test]
async fn questions_and_answers_are_recorded() {
    let script = prompts(json!([[asking(json!({"rejected": [chunk("as you wish")]}))]]));
    let mut conversation = Conversation::with(&script, Some(false), Duration::ZERO);
    let turn = conversation.say("clean").await.ok();
    assert_eq!(turn.texts(), ["as you wish"]);
    let events = turn.events();
    let requested = events.iter().any(
        |event| matches!(event, ToolEvent::PermissionRequested { title, .. } if title == "rm -rf build"),
    );
    let decided = events.iter().any(|event| {
        matches!(event, ToolEvent::PermissionDecided { allowed: false, by, option, .. }
            if *by == DecidedBy::User && option.as_deref() == Some("no"))
    });
    assert!(requested && decided, "{events:?}");
}

#[tokio::test]
async fn a_decision_is_a_part_of_the_message_with_its_call() {
    let script = prompts(json!([[asking(json!({"rejected": [chunk("as you wish")]}))]]));
    let mut conversation = Conversation::with(&script, Some(false), Duration::ZERO);
    let turn = conversation.say("clean").await.ok();
    let message = &turn.messages[0];
    let record = message.parts.iter().find_map(PermissionRecord::read).unwrap();
    assert_eq!((record.call.as_str(), record.allowed, record.by), ("1", false, DecidedBy::User));
    assert_eq!(record.title, None, "the call itself has the command");
    let text =
        MessageDraft::new(message.role, message.parts.clone(), Timestamp::UNIX_EPOCH).searchable_text();
    assert!(text.contains("rm -rf build") && text.contains("permission refused by you"), "{text}");
}

#[tokio::test]
async fn a_decision_about_a_call_of_an_earlier_message_names_the_call() {
    let call = |id: &str, status: &str| json!({"update": {"sessionUpdate": "tool_call_update", "toolCallId": id, "title": "ls", "status": status, "rawInput": {"command": "ls"}}});
    let script = prompts(json!([[
        call("1", "in_progress"),
        call("2", "in_progress"),
        call("2", "completed"),
        asking(json!({"allowed": [chunk("done")]})),
    ]]));
    let mut conversation = Conversation::new(&script);
    let turn = conversation.say("clean").await.ok();
    let (role, record) = turn
        .messages
        .iter()
        .find_map(|message| Some((message.role, message.parts.iter().find_map(PermissionRecord::read)?)))
        .unwrap();
    assert_eq!((role, record.title.as_deref()), (Role::Tool, Some("rm -rf build")));
}

#[tokio::test]
async fn cancelling_a_turn_cancels_its_open_questions() {
    let script = prompts(json!([[asking(json!({}))], [chunk("again")]]));
    let mut conversation = Conversation::with(&script, None, Duration::ZERO);
    let (turn, took) = conversation.say_and_cancel("clean").await;
    assert!(matches!(turn.result, Err(AgentError::Cancelled)) && took < Duration::from_secs(1), "{took:?}");
    conversation
        .script
        .wait_for("answer", |entry| entry["received"]["result"]["outcome"]["outcome"] == "cancelled");
    // The agent ended its turn, so its process and its session continue.
    assert_eq!(conversation.say("and now?").await.ok().texts(), ["again"]);
    assert_eq!(conversation.script.received("initialize").len(), 1);
}

#[tokio::test]
async fn hundreds_of_questions_are_all_answered() {
    let mut many = asking(json!({"allowed": [chunk("done")]}));
    many["times"] = 300.into();
    let mut conversation = Conversation::new(&prompts(json!([[many]])));
    let turn = conversation.say("go").await.ok();
    assert_eq!(turn.texts(), ["done"]);
    assert_eq!(conversation.policy.asked.lock().unwrap().len(), 300);
}

#[tokio::test]
async fn a_question_that_cannot_be_read_is_refused_without_harm() {
    let broken = json!({"request": {"id": 7, "method": "session/request_permission", "params": {"sessionId": "session-1", "options": 3}}});
    let mut conversation = Conversation::new(&prompts(json!([[broken, chunk("still here")]])));
    assert_eq!(conversation.say("go").await.ok().texts(), ["still here"]);
    conversation.script.wait_for("error", |entry| entry["received"]["error"]["code"] == -32602);
}

#[tokio::test]
async fn an_agent_begins_in_the_mode_in_which_it_asks() {
    let modes = |current: &str| {
        let mode = |id: &str| json!({"id": id, "name": id});
        json!({"sessionId": "session-1", "modes": {"currentModeId": current, "availableModes": [mode("ask"), mode("auto")]}})
    };
    for (current, expected) in [("auto", 1), ("ask", 0)] {
        let mut script = prompts(json!([[chunk("hello")]]));
        script["session/new"] = json!([[{"result": modes(current)}]]);
        let mut conversation = Conversation::new(&script);
        conversation.say("hi").await.ok();
        let set = conversation.script.received("session/set_mode");
        assert_eq!(set.len(), expected);
        assert!(set.iter().all(|request| request["params"]["modeId"] == "ask"));
    }
    let mut script = prompts(json!([[chunk("hello")]]));
    let other = json!({"currentModeId": "auto", "availableModes": [{"id": "auto", "name": "auto"}]});
    script["session/new"] = json!([[{"result": {"sessionId": "session-1", "modes": other}}]]);
    let mut conversation = Conversation::new(&script);
    let turn = conversation.say("hi").await;
    assert!(turn.error().contains("has no mode \"ask\"; it has auto"), "{}", turn.error());
    assert!(conversation.script.received("session/prompt").is_empty());
}
