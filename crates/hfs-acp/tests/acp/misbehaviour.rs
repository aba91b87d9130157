//! Whatever an agent does wrong costs at most its own turn.

use hfs_core::{ErrorExt, ErrorKind, Suggestion};

use super::*;

/// The first turn fails in this way, and the second one works.
async fn costs_one_turn(steps: Value) -> Turn {
    costs_one_turn_of(Conversation::new(&prompts(json!([steps, [chunk("works")]])))).await
}

async fn costs_one_turn_of(mut conversation: Conversation) -> Turn {
    let failed = conversation.say("first").await;
    // A new process begins with the first list of steps again.
    conversation.script.change(&prompts(json!([[chunk("works")]])));
    let next = conversation.say("second").await.ok();
    assert_eq!(next.texts(), ["works"]);
    failed
}

#[tokio::test]
async fn an_agent_that_ends_keeps_what_it_said_and_its_last_output_is_named() {
    let failed =
        costs_one_turn(json!([chunk("so far"), {"stderr": "out of memory"}, {"sleep": 50}, {"exit": 3}]))
            .await;
    assert_eq!(failed.texts(), ["so far"]);
    let error = failed.error();
    assert!(error.contains("exit code 3") && error.contains("out of memory"), "{error}");
    let suggestion = failed.result.unwrap_err().suggestion();
    assert_eq!(suggestion, Some(Suggestion::ReadAgentLog { agent: "scripted".into() }));
}

#[tokio::test]
async fn an_agent_that_is_killed_is_named_with_the_signal() {
    let failed = costs_one_turn(json!([chunk("so far"), {"die": true}])).await;
    assert!(failed.error().contains("signal 9"), "{}", failed.error());
}

/// What a turn says about the agent's output.
fn warnings(turn: &Turn) -> Vec<String> {
    let titles = turn.events().into_iter().filter_map(|event| match event {
        ToolEvent::NoticeReceived { severity, title, .. } if severity == "warning" => Some(title),
        _ => None,
    });
    titles.collect()
}

#[tokio::test]
async fn a_line_that_is_no_message_costs_that_line_alone_and_is_said() {
    for line in [
        "Debugger attached.",
        "[warn] the cache is cold",
        "{ level: 'info', msg: 'hello' }",
        "{\"jsonrpc\":\"2.0\",",
        "{\"jsonrpc\":\"2.0\"}",
        "[3]",
        "{\"jsonrpc\":\"2.0\",\"method\":\"session/update\",\"params\":{\"sessionId\":\"session-1\"}}",
    ] {
        let steps = json!([[chunk("one, "), {"line": line, "times": 2}, {"line": ""}, chunk("two")], [chunk("next")]]);
        let mut conversation = Conversation::new(&prompts(steps));
        let turn = conversation.say("hi").await.ok();
        assert_eq!(turn.texts(), ["one, two"], "{line}");
        let said = warnings(&turn);
        assert!(
            said.len() == 1 && said[0].starts_with("2 lines of its output could not be read"),
            "{said:?}"
        );
        let turn = conversation.say("more").await.ok();
        assert_eq!((turn.texts(), warnings(&turn)), (vec!["next".to_owned()], vec![]), "{line}");
        assert_eq!(conversation.script.received("initialize").len(), 1, "{line}");
    }
}

#[tokio::test]
async fn neither_side_waits_for_the_rest_of_a_message_that_cannot_be_read() {
    // The answer to the prompt, which is the third request of hfs.
    let answer = json!({"line": "{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{\"stop"});
    let mut conversation = Conversation::new(&prompts(json!([[chunk("so far"), answer], [chunk("works")]])));
    let failed = conversation.say("first").await;
    assert!(failed.error().contains("an answer that is not valid"), "{}", failed.error());
    assert_eq!(conversation.say("second").await.ok().texts(), ["works"]);
    let request =
        "{\"jsonrpc\":\"2.0\",\"id\":\"q\",\"method\":\"session/request_permission\",\"params\":{\"sess";
    let mut conversation = Conversation::new(&prompts(json!([[{"line": request}, chunk("on")]])));
    assert_eq!(conversation.say("hi").await.ok().texts(), ["on"]);
    conversation.script.wait_for("error", |entry| entry["received"]["error"]["code"] == -32700);
}

#[tokio::test]
async fn lines_that_are_not_json_are_logged() {
    let mut conversation =
        Conversation::new(&prompts(json!([[{"line": "Debugger attached."}, chunk("fine")]])));
    conversation.say("hi").await.ok();
    conversation.agent.close().await;
    let log = conversation.folder.path().join("logs/agent-scripted.log");
    let started = Instant::now();
    while !std::fs::read_to_string(&log).unwrap_or_default().contains("Debugger attached.") {
        assert!(started.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_enormous_line_ends_the_turn() {
    let failed = costs_one_turn(json!([{"bytes": (64 << 20) + 10}, {"hang": true}])).await;
    assert!(failed.error().contains("64 MiB"), "{}", failed.error());
}

#[tokio::test]
async fn a_flood_that_cannot_be_recorded_ends_the_turn() {
    let picture = json!({"update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "image", "mimeType": "image/png", "data": "AAAA"}}});
    let mut flood = chunk("x");
    flood["times"] = 150_000.into();
    let script = prompts(json!([[picture, flood, {"hang": true}]]));
    // The recording stops at the picture, while the store is slow.
    let failed = costs_one_turn_of(Conversation::with(&script, Some(true), Duration::from_secs(5))).await;
    assert!(failed.error().contains("100000 updates"), "{}", failed.error());
}

#[tokio::test]
async fn a_flood_that_can_be_recorded_is_recorded() {
    let mut flood = chunk("x");
    flood["times"] = 50_000.into();
    let mut conversation = Conversation::new(&prompts(json!([[flood]])));
    let turn = conversation.say("hi").await.ok();
    assert_eq!(turn.texts()[0].len(), 50_000);
}

#[tokio::test]
async fn unknown_requests_and_strange_ids_cost_nothing() {
    let request = |id: Value, method: &str| json!({"request": {"id": id, "method": method, "params": {}}});
    let mut conversation = Conversation::new(&prompts(json!([[
        request(json!(1), "fs/read_text_file"),
        request(json!("a"), "terminal/create"),
        request(json!({"odd": true}), "x/unknown"),
        // Answers to no request, twice, and notifications of other versions.
        {"line": "{\"jsonrpc\":\"2.0\",\"id\":999,\"result\":{}}", "times": 2},
        {"line": "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-1,\"message\":\"m\"}}"},
        {"line": "{\"jsonrpc\":\"2.0\",\"method\":\"x/y\",\"params\":[]}"},
        // The same id for two questions.
        {"ask": {"toolCall": {"toolCallId": "1"}}, "id": 5},
        {"ask": {"toolCall": {"toolCallId": "2"}}, "id": 5, "allowed": [chunk("fine")]},
    ]])));
    assert_eq!(conversation.say("hi").await.ok().texts(), ["fine"]);
    let log = conversation.script.log();
    let refused = log.iter().filter(|entry| entry["received"]["error"]["code"] == -32601);
    assert_eq!(refused.count(), 3);
}

#[tokio::test]
async fn updates_after_the_end_of_a_turn_are_reported_with_the_next_one() {
    let mut conversation = Conversation::new(&prompts(json!([
        [chunk("one"), {"respond": true}, {"sleep": 50}, chunk("late")],
        [chunk("two")],
    ])));
    assert_eq!(conversation.say("first").await.ok().texts(), ["one"]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let turn = conversation.say("second").await.ok();
    assert_eq!(turn.texts(), ["two"]);
    assert!(turn.events().iter().any(|event| {
        matches!(event, ToolEvent::AgentUpdated { update, .. } if update["content"]["text"] == "late")
    }));
}

#[tokio::test]
async fn an_agent_that_hangs_or_ignores_a_cancel_is_ended_and_the_conversation_continues() {
    let endless_call = json!({"update": {"sessionUpdate": "tool_call", "toolCallId": "1", "title": "sleep", "status": "in_progress"}});
    let mut conversation = Conversation::new(&prompts(json!([[endless_call, {"hang": true}]])));
    let (turn, took) = conversation.say_and_cancel("first").await;
    assert!(matches!(turn.result, Err(AgentError::Cancelled)));
    assert!(took < Duration::from_millis(350), "{took:?}");
    let processes = conversation.script.processes();
    conversation.script.change(&prompts(json!([[chunk("works")]])));
    assert_eq!(conversation.say("second").await.ok().texts(), ["works"]);
    assert!(!testkit::acp_agent::is_running(processes[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_run_cancels_the_turn_of_the_agent() {
    let mut conversation =
        Conversation::new(&prompts(json!([[chunk("begun"), {"wait_for_cancel": true}], [chunk("works")]])));
    let limit = tokio::time::timeout(Duration::from_secs(2), conversation.say("first")).await;
    assert!(limit.is_err());
    conversation.script.wait_for("cancel", |entry| entry["received"]["method"] == "session/cancel");
    assert_eq!(conversation.say("second").await.ok().texts(), ["works"]);
}

#[tokio::test]
async fn an_agent_that_cannot_be_started_or_speaks_another_version_is_named() {
    let mut conversation = Conversation::new(&json!({"version": 2}));
    let turn = conversation.say("hi").await;
    assert!(turn.error().contains("version 2"), "{}", turn.error());

    let script = ScriptedProgram::new(&json!({}));
    let folder = tempfile::tempdir().unwrap();
    let launch =
        Launch { program: "/nowhere/agent".into(), arguments: Vec::new(), ..launch(&script, folder.path()) };
    let error = hfs_acp::report(&launch).await.unwrap_err();
    assert!(
        error.to_string().contains("cannot be run") && error.to_string().contains("/nowhere/agent"),
        "{error}"
    );
}

#[tokio::test]
async fn an_agent_without_a_login_says_how_to_log_in() {
    let script = ScriptedProgram::new(&json!({
        "logins": [{"id": "key", "name": "API key", "description": "Set SOME_KEY"}],
        "session/new": [[{"error": {"code": -32000, "message": "Authentication required"}}]],
    }));
    let folder = tempfile::tempdir().unwrap();
    let (report, failure) =
        hfs_acp::check(&launch(&script, folder.path()), folder.path(), None).await.unwrap();
    assert_eq!(report.logins[0].description.as_deref(), Some("Set SOME_KEY"));
    let failure = failure.unwrap();
    assert!(failure.needs_login() && failure.kind() == ErrorKind::Denied, "{failure}");
    assert_eq!(report.version.as_deref(), Some("1.0.0"));
}

#[tokio::test]
async fn secrets_of_the_environment_that_arrive_in_pieces_are_not_recorded() {
    let secret = "tk-94hfbq-verysecret";
    let mut updates = vec![chunk("the token is ")];
    updates.extend(secret.chars().map(|character| chunk(&character.to_string())));
    updates.extend([chunk(", and tk-94 is not")]);
    let mut conversation = Conversation::new(&prompts(json!([updates, [chunk("it begins with tk-94hf")]])));
    let turn = conversation.say("env").await.ok();
    assert_eq!(turn.texts(), ["the token is [redacted: SECRET_TOKEN], and tk-94 is not"]);
    assert_eq!(conversation.say("more").await.ok().texts(), ["it begins with tk-94hf"]);
}

#[tokio::test]
async fn half_a_character_costs_that_character_alone() {
    let mut conversation = Conversation::new(&prompts(json!([[
        {"line": r#"{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"session-1","update":{"sessionUpdate":"agent_message_chunk","content":{"type":"text","text":"cut \ud83d, \ud83d\ude00 \\ud83d"}}}}"#},
    ]])));
    let turn = conversation.say("go").await.ok();
    assert_eq!(turn.texts(), ["cut \u{fffd}, \u{1f600} \\ud83d"]);
}

#[tokio::test]
async fn secrets_of_the_environment_are_neither_recorded_nor_logged() {
    let secret = "tk-94hfbq-verysecret";
    let mut conversation = Conversation::new(&prompts(json!([[
        chunk(&format!("the token is {secret}")),
        {"stderr": format!("using {secret}")},
        {"sleep": 50},
        {"exit": 1},
    ]])));
    let turn = conversation.say("env").await;
    assert_eq!(turn.texts(), ["the token is [redacted: SECRET_TOKEN]"]);
    assert!(!turn.error().contains(secret), "{}", turn.error());
    let log = std::fs::read_to_string(conversation.folder.path().join("logs/agent-scripted.log"))
        .unwrap_or_default();
    assert!(!log.contains(secret), "{log}");
}
