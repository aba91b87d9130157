//! `hfs acp`: hfs as the agent of an editor, and as a recording proxy to another agent.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::acp_agent::{ScriptedProgram, is_running};
use testkit::acp_editor::Editor;
use testkit::cli::Hfs;
use testkit::model_server::{ModelServer, Script};

use crate::agents::{chunk, events_of, hfs_with_agent, wait_until};
use crate::plugin_fixture::counter_with_command;
use crate::{hfs, hfs_with, shown, text};

/// An editor that is connected to `hfs acp` with these arguments.
fn editor(hfs: &Hfs, arguments: &[&str]) -> Editor {
    Editor::initialized(hfs.command(&[&["acp"], arguments].concat()).to_command())
}

fn roles(session: &Value) -> Vec<String> {
    let messages = session["messages"].as_array().unwrap().iter();
    messages.map(|message| message["role"].as_str().unwrap().to_owned()).collect()
}

fn message_of(error: &Value) -> &str {
    error["message"].as_str().unwrap()
}

#[test]
fn a_conversation_in_an_editor_is_saved_listed_and_loaded_as_it_was() {
    let server = ModelServer::start();
    server.then(Script::chunks(["It is ", "in src."]).usage(11, 5));
    server.then(Script::chunks([""; 0]).then_thinking("Hm.").then_text("Yes."));
    let hfs = hfs_with(&server);
    let mut editor = Editor::start(hfs.command(&["acp"]).to_command());
    let capabilities = editor.call("initialize", &json!({"protocolVersion": 1, "clientCapabilities": {}}));
    let agent = &capabilities["agentCapabilities"];
    assert_eq!((&agent["loadSession"], &agent["promptCapabilities"]["image"]), (&json!(true), &json!(true)));
    for offered in ["list", "resume", "close", "delete"] {
        assert!(agent["sessionCapabilities"][offered].is_object(), "{offered}: {agent}");
    }
    let session = editor.open(&hfs.project());
    // Without a message, nothing is stored.
    assert_eq!(hfs.run(&["session", "list", "--json"]).ok().json()["sessions"], json!([]));
    let ended = editor.prompt(&session, "Where is main?");
    assert_eq!(ended["stopReason"], "end_turn");
    assert_eq!(
        (&ended["usage"]["inputTokens"], &ended["usage"]["outputTokens"]),
        (&json!(11), &json!(5)),
        "{ended}"
    );
    assert_eq!(editor.updates(&session, "session_info_update")[0]["title"], "Where is main?");
    editor.prompt(&session, "Are you sure?");
    let said = editor.view(&session);
    assert_eq!(
        said,
        [
            json!({"user": "Where is main?"}),
            json!({"agent": "It is in src."}),
            json!({"user": "Are you sure?"}),
            json!({"thought": "Hm."}),
            json!({"agent": "Yes."}),
        ]
    );
    let saved = shown(&hfs, &session);
    assert_eq!(roles(&saved), ["user", "assistant", "user", "assistant"]);
    assert_eq!(text(&saved["messages"][1]), "It is in src.");
    editor.load(&session, &hfs.project());
    assert_eq!(editor.view(&session), said);
    editor.close_input();
    assert!(editor.wait_for_end().0.success());
    // Another process, such as that of the editor after its next start.
    let mut again = self::editor(&hfs, &[]);
    let listed = again.call("session/list", &json!({"cwd": hfs.project()}));
    let row = &listed["sessions"][0];
    assert_eq!((&row["sessionId"], &row["title"]), (&json!(session), &json!("Where is main?")));
    assert_eq!(row["cwd"], json!(hfs.project().canonicalize().unwrap()));
    assert!(row["updatedAt"].as_str().unwrap().ends_with('Z'), "{row}");
    again.load(&session, &hfs.project());
    assert_eq!(again.view(&session), said);
    server.then(Script::text("Still here."));
    again.prompt(&session, "And now?");
    assert!(server.requests()[2].prompt().contains("It is in src."));
}

#[test]
fn sessions_are_listed_by_directory_and_page_by_page() {
    let hfs = hfs();
    let other = hfs.project().join("other");
    fs::create_dir(&other).unwrap();
    let _ = hfs.command(&["chat", "elsewhere"]).in_folder(&other).run().ok();
    let names: Vec<String> = (0..60).map(|number| format!("number {number}")).collect();
    for name in &names {
        let message = json!([{"role": "user", "content": name}, {"role": "assistant", "content": "ok"}]);
        let _ = hfs.command(&["import", "-"]).stdin(message.to_string()).run().ok();
    }
    let _ = hfs.run(&["chat", "here"]).ok();
    let mut editor = editor(&hfs, &[]);
    let mut titles = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let page = editor.call("session/list", &json!({"cursor": cursor}));
        let sessions = page["sessions"].as_array().unwrap();
        assert!(sessions.len() <= 50);
        titles.extend(sessions.iter().map(|session| session["title"].as_str().unwrap().to_owned()));
        cursor = page["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(titles.len(), 62);
    assert_eq!(titles[0], "here");
    assert!(names.iter().all(|name| titles.contains(name)));
    let of = |editor: &mut Editor, directory| {
        let listed = editor.call("session/list", &json!({"cwd": directory}));
        let sessions = listed["sessions"].as_array().unwrap().iter();
        sessions.map(|session| session["title"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of(&mut editor, &other), ["elsewhere"]);
    assert!(of(&mut editor, &hfs.project()).contains(&"here".to_owned()));
    let refused = editor.refused("session/list", &json!({"cursor": "nonsense"}));
    assert_eq!(refused["code"], -32602, "{refused}");
}

#[test]
fn what_is_not_a_request_of_the_protocol_is_refused_in_words() {
    let hfs = hfs();
    for (version, answered) in [(json!(1), 1), (json!(2), 1), (json!(0), 1)] {
        let mut editor = Editor::start(hfs.command(&["acp"]).to_command());
        let early = editor.refused("session/new", &json!({"cwd": hfs.project(), "mcpServers": []}));
        assert!(message_of(&early).contains("send initialize first"), "{early}");
        let initialized = editor.call("initialize", &json!({"protocolVersion": version}));
        assert_eq!(initialized["protocolVersion"], answered);
    }
    let mut editor = editor(&hfs, &[]);
    let session = editor.open(&hfs.project());
    let folder = hfs.project();
    let file = folder.join("file");
    fs::write(&file, "").unwrap();
    for (method, params, code, words) in [
        ("session/unknown", json!({}), -32601, "does not offer session/unknown"),
        ("session/new", json!({"mcpServers": []}), -32602, "cwd"),
        ("session/new", json!({"cwd": "relative", "mcpServers": []}), -32602, "not an absolute path"),
        ("session/new", json!({"cwd": "/does/not/exist", "mcpServers": []}), -32602, "does not exist"),
        ("session/new", json!({"cwd": file, "mcpServers": []}), -32602, "not a directory"),
        ("session/load", json!({"sessionId": "x", "cwd": folder, "mcpServers": []}), -32002, "no session"),
        (
            "session/load",
            json!({"sessionId": session, "cwd": folder, "mcpServers": []}),
            -32002,
            "no session",
        ),
        ("session/prompt", json!({"sessionId": session, "prompt": 3}), -32602, "not valid"),
        ("session/prompt", json!({"sessionId": session, "prompt": []}), -32602, "empty"),
        ("session/prompt", json!({"sessionId": "x", "prompt": []}), -32002, "not open"),
        (
            "session/set_config_option",
            json!({"sessionId": "x", "configId": "a", "value": "b"}),
            -32002,
            "not open",
        ),
        ("authenticate", json!({"methodId": "x"}), -32600, "no login"),
    ] {
        let error = editor.refused(method, &params);
        assert_eq!(error["code"], code, "{method}: {error}");
        assert!(message_of(&error).contains(words), "{method}: {error}");
        // The session of the failed load is closed; others stay open.
        if method == "session/load" && params["sessionId"] == *session {
            break;
        }
    }
    let session = editor.open(&hfs.project());
    let audio = json!({"type": "audio", "mimeType": "audio/wav", "data": ""});
    let error = editor.refused("session/prompt", &json!({"sessionId": session, "prompt": [audio]}));
    assert!(message_of(&error).contains("sound cannot be sent"), "{error}");
    for line in [
        "no json",
        "{\"jsonrpc\":\"2.0\"}",
        "[]",
        "{\"jsonrpc\":\"2.0\",\"method\":\"unknown/notification\"}",
    ] {
        editor.send_line(line);
    }
    assert_eq!(editor.prompt(&session, "Still there?")["stopReason"], "end_turn");
}

#[test]
fn two_sessions_run_at_once_and_each_has_one_turn_at_a_time() {
    let server = ModelServer::start();
    server.otherwise(|_| {
        Script::chunks(["one ", "two"]).then_wait(Duration::from_millis(400)).then_text(" three")
    });
    let hfs = hfs_with(&server);
    let mut editor = editor(&hfs, &[]);
    let (a, b) = (editor.open(&hfs.project()), editor.open(&hfs.project()));
    let (in_a, in_b) = (editor.begin_prompt(&a, "to a"), editor.begin_prompt(&b, "to b"));
    let second =
        editor.refused("session/prompt", &json!({"sessionId": a, "prompt": [{"type": "text", "text": "x"}]}));
    assert!(message_of(&second).contains("still running"), "{second}");
    assert!(server.wait_for_requests(2, Duration::from_secs(20)), "both turns run");
    for id in [in_a, in_b] {
        assert_eq!(editor.wait(id).unwrap()["stopReason"], "end_turn");
    }
    for (session, asked) in [(&a, "to a"), (&b, "to b")] {
        assert_eq!(editor.view(session), [json!({"user": asked}), json!({"agent": "one two three"})]);
    }
    assert_eq!(editor.prompt(&a, "again")["stopReason"], "end_turn");
}

#[test]
fn a_cancelled_turn_keeps_what_was_said() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::chunks(["the beginning"]).then_hang());
    let hfs = hfs_with(&server);
    let mut editor = editor(&hfs, &[]);
    let session = editor.open(&hfs.project());
    for how in ["session/cancel", "$/cancel_request"] {
        let id = editor.begin_prompt(&session, how);
        let seen = editor.updates(&session, "agent_message_chunk").len();
        editor.wait_until("the beginning", |editor| {
            editor.updates(&session, "agent_message_chunk").len() > seen
        });
        let cancelled = Instant::now();
        match how {
            "session/cancel" => editor.cancel(&session),
            _ => editor.notify(how, &json!({"requestId": id})),
        }
        assert_eq!(editor.wait(id).unwrap()["stopReason"], "cancelled");
        assert!(cancelled.elapsed() < Duration::from_secs(5));
        let saved = shown(&hfs, &session);
        let last = saved["messages"].as_array().unwrap().last().unwrap();
        assert_eq!((text(last), &last["status"]), ("the beginning", &json!("interrupted")));
    }
    // A cancel before its prompt is processed is not lost.
    let id = editor.begin_prompt(&session, "at once");
    editor.cancel(&session);
    assert_eq!(editor.wait(id).unwrap()["stopReason"], "cancelled");
}

#[test]
fn commands_change_the_session_and_answer_in_it() {
    let server = ModelServer::start();
    server.otherwise(|request| Script::text(format!("about {}", request.last_turn())));
    let hfs = hfs_with(&server);
    let mut editor = editor(&hfs, &[]);
    let session = editor.open(&hfs.project());
    editor.wait_for_update(&session, "commands", |update| {
        update["sessionUpdate"] == "available_commands_update"
    });
    let offered = editor.updates(&session, "available_commands_update").pop().unwrap();
    let names: Vec<&str> = offered["availableCommands"]
        .as_array()
        .unwrap()
        .iter()
        .map(|command| command["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["rewind", "undo", "branch", "switch", "checkpoint", "search"]);
    editor.prompt(&session, "/checkpoint");
    assert!(editor.last_answer(&session).contains("no messages yet"));
    for words in ["apples", "pears", "plums"] {
        editor.prompt(&session, words);
    }
    let mut run = |command: &str| {
        editor.prompt(&session, command);
        editor.last_answer(&session)
    };
    let answer = run("/checkpoint fruit");
    assert!(answer.contains("Checkpoint 4 is after message 6"), "{answer}");
    let places = run("/rewind");
    assert!(places.contains("`seq:2`: before “pears”") && places.contains("“fruit”"), "{places}");
    let rewound = run("/rewind seq:2");
    for words in
        ["new branch `main-2`", "after message 2", "> about apples", "> pears", "open the thread again"]
    {
        assert!(rewound.contains(words), "{words}: {rewound}");
    }
    run("figs");
    let asked = server.requests().pop().unwrap().prompt();
    assert!(asked.contains("apples") && asked.contains("figs") && !asked.contains("pears"), "{asked}");
    assert!(run("/switch").contains("`main-2`: 4 messages, this one"));
    let switched = run("/switch main");
    assert!(switched.contains("Switched to `main`") && switched.contains("after message 6"), "{switched}");
    assert!(run("/undo").contains("Undone: switch. The conversation continues on `main-2`"));
    assert!(run("/rewind 4").contains("Rewound to checkpoint 4"));
    assert!(run("/branch side").contains("new branch `side`"));
    let found = run("/search pears");
    assert!(found.contains("**pears**"), "{found}");
    assert!(run("/search").contains("What is searched for?"));
    // Unknown words after a slash are a message.
    assert_eq!(run("/unknown thing"), "about /unknown thing");
    let branch = shown(&hfs, &session)["session"]["branch"].clone();
    assert_eq!(branch, "side");
    // A mistake is answered, and no error of the protocol.
    assert!(run("/rewind 99").contains("no checkpoint \"99\""));
    assert!(run("/rewind seq:99").contains("there is no message 99"));
    assert!(run("/switch nowhere").contains("no branch \"nowhere\""));
    assert!(run("/branch main").contains("main"));
}

#[test]
fn commands_of_plugins_are_offered_and_run() {
    let hfs = hfs().env("HFS_PLUGINS_HOOK_MS", "20000").env("HFS_PLUGINS_COMMAND_MS", "20000");
    let folder = hfs.hfs_home().join("plugins/count");
    fs::create_dir_all(&folder).unwrap();
    let manifest =
        "name: count\nversion: 1.0.0\ncapabilities: [hooks, commands]\npermissions: {storage: 1KiB}\n";
    fs::write(folder.join("manifest.yaml"), manifest).unwrap();
    fs::write(folder.join("plugin.wasm"), counter_with_command(1)).unwrap();
    let _ = hfs.run(&["plugin", "approve", "count", "-y"]).ok();
    let mut editor = editor(&hfs, &[]);
    let session = editor.open(&hfs.project());
    editor.wait_for_update(&session, "the plugin's command", |update| {
        update["availableCommands"]
            .as_array()
            .is_some_and(|commands| commands.iter().any(|command| command["name"] == "up"))
    });
    // A message and its reply; the plugin sees both.
    editor.prompt(&session, "one");
    for number in ["3", "4"] {
        editor.prompt(&session, "/up");
        assert!(editor.last_answer(&session).ends_with(number), "{}", editor.last_answer(&session));
    }
}

#[test]
fn a_message_after_those_of_another_process_is_not_lost_and_the_others_are_shown() {
    let server = ModelServer::start();
    server.otherwise(|request| Script::text(format!("about {}", request.last_turn())));
    let hfs = hfs_with(&server);
    let mut editor = editor(&hfs, &[]);
    let session = editor.open(&hfs.project());
    editor.prompt(&session, "apples");
    let _ = hfs.run(&["chat", "-s", &session, "pears"]).ok();
    let id = editor.begin_prompt(&session, "plums");
    let conflict = editor.wait(id).unwrap_err();
    assert!(message_of(&conflict).contains("another process has added 2 messages"), "{conflict}");
    assert_eq!(editor.last_answer(&session), "about pears");
    assert_eq!(roles(&shown(&hfs, &session)).len(), 4);
    editor.prompt(&session, "plums");
    assert_eq!(text(&shown(&hfs, &session)["messages"][4]), "plums");
}

#[test]
fn pictures_files_and_links_of_the_editor_are_part_of_the_message() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::text("seen"));
    let hfs = hfs_with(&server);
    let mut editor = editor(&hfs, &[]);
    let session = editor.open(&hfs.project());
    let prompt = json!([
        {"type": "text", "text": "Compare "},
        {"type": "resource_link", "name": "a.rs", "uri": "file:///x/a.rs"},
        {"type": "text", "text": " with "},
        {"type": "resource", "resource": {"uri": "file:///x/b.rs", "text": "fn b() {}\n"}},
        {"type": "image", "mimeType": "image/png", "data": "iVBORw0KGgo="},
    ]);
    editor.call("session/prompt", &json!({"sessionId": session, "prompt": prompt}));
    let parts = &shown(&hfs, &session)["messages"][0]["parts"];
    assert_eq!(
        parts[0]["text"],
        "Compare [@a.rs](file:///x/a.rs) with [@b.rs](file:///x/b.rs)\n\n/x/b.rs:\n\n```rs\nfn b() {}\n```"
    );
    assert_eq!((&parts[1]["media_type"], &parts[1]["bytes"]), (&json!("image/png"), &json!(8)));
    assert!(server.requests()[0].prompt().contains("fn b() {}"));
    editor.load(&session, &hfs.project());
    assert_eq!(editor.view(&session)[1]["user"]["data"], "iVBORw0KGgo=");
}

#[test]
fn a_session_is_closed_resumed_and_moved_to_the_trash() {
    let hfs = hfs();
    let mut editor = editor(&hfs, &[]);
    let session = editor.open(&hfs.project());
    editor.prompt(&session, "hello");
    let of_session = json!({"sessionId": session});
    editor.call("session/close", &of_session);
    assert!(message_of(&editor.refused("session/close", &of_session)).contains("not open"));
    let updates = editor.view(&session);
    editor.call("session/resume", &json!({"sessionId": session, "cwd": hfs.project(), "mcpServers": []}));
    assert_eq!(editor.view(&session), updates, "a resume replays nothing");
    editor.prompt(&session, "hello again");
    editor.call("session/delete", &of_session);
    assert_eq!(editor.call("session/list", &json!({}))["sessions"], json!([]));
    editor.call("session/delete", &of_session);
    let load = json!({"sessionId": session, "cwd": hfs.project(), "mcpServers": []});
    assert!(message_of(&editor.refused("session/load", &load)).contains("hfs session restore"));
    let _ = hfs.run(&["session", "restore", &session]).ok();
    editor.load(&session, &hfs.project());
    let empty = editor.open(&hfs.project());
    editor.call("session/delete", &json!({"sessionId": empty}));
    let unknown = editor.refused("session/delete", &json!({"sessionId": empty}));
    assert_eq!(unknown["code"], -32002, "{unknown}");
}

#[test]
fn the_agent_and_the_model_are_selected_in_the_editor() {
    let server = ModelServer::start();
    server.models(["test-model", "other-model"]);
    server.otherwise(|_| Script::text("from a model"));
    let hfs = hfs_with(&server);
    let mut editor = editor(&hfs, &[]);
    let opened = editor.call("session/new", &json!({"cwd": hfs.project(), "mcpServers": []}));
    let session = opened["sessionId"].as_str().unwrap().to_owned();
    let current =
        |options: &Value, id: &str| Editor::option(options, id).map(|option| option["currentValue"].clone());
    assert_eq!(current(&opened, "hfs_agent"), Some("assistant".into()));
    assert_eq!(current(&opened, "hfs_model"), Some("test-model".into()));
    editor.wait_for_update(&session, "the models of the server", |update| {
        update["sessionUpdate"] == "config_option_update" && update.to_string().contains("other-model")
    });
    let set = |editor: &mut Editor, id: &str, value: &str| {
        editor
            .call("session/set_config_option", &json!({"sessionId": session, "configId": id, "value": value}))
    };
    let options = set(&mut editor, "hfs_model", "other-model");
    assert_eq!(current(&options, "hfs_model"), Some("other-model".into()));
    editor.prompt(&session, "hello");
    assert_eq!(server.requests().pop().unwrap().model(), "other-model");
    let options = set(&mut editor, "hfs_agent", "recall");
    assert_eq!(
        (current(&options, "hfs_agent"), current(&options, "hfs_model")),
        (Some("recall".into()), None)
    );
    editor.prompt(&session, "hello");
    assert_eq!(shown(&hfs, &session)["messages"][3]["agent"], "recall");
    for (id, value, words) in [("hfs_agent", "unknown", "no agent"), ("unknown", "x", "no option")] {
        let params = json!({"sessionId": session, "configId": id, "value": value});
        let error = editor.refused("session/set_config_option", &params);
        assert!(message_of(&error).contains(words), "{error}");
    }
    assert_eq!(editor.prompt(&session, "Still recall?")["stopReason"], "end_turn");
}

#[test]
fn a_model_is_selected_for_the_agent_that_was_selected_before() {
    let server = ModelServer::start();
    server.models(["test-model", "other-model"]);
    server.otherwise(|_| Script::text("from a model"));
    let hfs = hfs_with(&server);
    let mut editor = editor(&hfs, &["--agent", "recall"]);
    let session = editor.open(&hfs.project());
    for (id, value) in [("hfs_agent", "assistant"), ("hfs_model", "other-model")] {
        let set = json!({"sessionId": session, "configId": id, "value": value});
        let options = editor.call("session/set_config_option", &set);
        assert_eq!(Editor::option(&options, "hfs_agent").unwrap()["currentValue"], "assistant", "{id}");
    }
    editor.prompt(&session, "hello");
    assert_eq!(server.requests().pop().unwrap().model(), "other-model");
}

#[test]
fn a_session_without_an_agent_can_be_read_and_says_what_is_missing() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "hello"]).ok();
    let session = shown(&hfs, "@")["session"]["id"].as_str().unwrap().to_owned();
    let mut editor = editor(&hfs, &["--agent", "claude"]);
    let new = editor.refused("session/new", &json!({"cwd": hfs.project(), "mcpServers": []}));
    assert!(message_of(&new).contains("npm install -g"), "{new}");
    editor.load(&session, &hfs.project());
    assert_eq!(editor.view(&session)[0], json!({"user": "hello"}));
    let id = editor.begin_prompt(&session, "hello?");
    assert!(message_of(&editor.wait(id).unwrap_err()).contains("npm install -g"));
    let set = json!({"sessionId": session, "configId": "hfs_agent", "value": "recall"});
    editor.call("session/set_config_option", &set);
    assert_eq!(editor.prompt(&session, "hello?")["stopReason"], "end_turn");
    let unknown = hfs.run(&["acp", "--agent", "unknown"]).fails_with(2);
    assert!(unknown.stderr.contains("there is no agent"), "{}", unknown.stderr);
}

/// An agent whose turn has everything: thinking, a plan, a call with a question, a change, an output.
fn working() -> Value {
    let call = json!({"toolCallId": "1", "title": "Run the tests", "kind": "execute", "rawInput": {"command": "cargo test"}});
    let update = |fields: Value| json!({"update": fields});
    let done = |output: &str, status: &str| {
        update(
            json!({"sessionUpdate": "tool_call_update", "toolCallId": "1", "status": status, "rawOutput": output,
            "content": [{"type": "content", "content": {"type": "text", "text": output}}]}),
        )
    };
    json!({
        "capabilities": {"loadSession": true},
        "session/prompt": [[
            update(json!({"sessionUpdate": "agent_thought_chunk", "content": {"type": "text", "text": "Hm."}})),
            update(json!({"sessionUpdate": "plan", "entries": [{"content": "test", "priority": "high", "status": "pending"}]})),
            chunk("I run "),
            chunk("the tests."),
            {"ask": {"toolCall": call}, "allowed": [done("42 passed", "completed")], "rejected": [done("refused", "failed")]},
            update(json!({"sessionUpdate": "tool_call", "toolCallId": "2", "title": "Edit a.rs", "kind": "edit", "status": "in_progress",
                "rawInput": {"path": "/a.rs"}, "locations": [{"path": "/a.rs", "line": 3}]})),
            update(json!({"sessionUpdate": "tool_call_update", "toolCallId": "2", "status": "completed",
                "content": [{"type": "diff", "path": "/a.rs", "oldText": "a", "newText": "b"}]})),
            chunk("Done."),
        ]],
    })
}

#[test]
fn a_proxied_turn_is_passed_on_recorded_and_loaded_as_it_was() {
    let script = ScriptedProgram::new(&working());
    let hfs = hfs_with_agent(&script);
    let mut editor = editor(&hfs, &["--agent", "scripted"]);
    let session = editor.open(&hfs.project());
    let turn = editor.begin_prompt(&session, "Test it");
    let question = editor.wait_for_request("session/request_permission");
    let params = &question["params"];
    assert_eq!(
        (&params["sessionId"], &params["toolCall"]["title"]),
        (&json!(session), &json!("Run the tests"))
    );
    assert_eq!(params["options"][0]["optionId"], "always");
    // The call is durable before it is permitted.
    let saved = shown(&hfs, &session);
    assert_eq!(saved["messages"][1]["parts"][2]["input"]["command"], "cargo test", "{saved}");
    editor.answer(&question, &json!({"outcome": {"outcome": "selected", "optionId": "always"}}));
    assert_eq!(editor.wait(turn).unwrap()["stopReason"], "end_turn");
    script.wait_for("answer", |entry| entry["received"]["result"]["outcome"]["optionId"] == "always");
    let said = editor.view(&session);
    let kinds: Vec<&str> =
        said.iter().map(|entry| entry.as_object().unwrap().keys().next().unwrap().as_str()).collect();
    assert_eq!(kinds, ["user", "thought", "plan", "agent", "tool", "tool", "agent"]);
    assert_eq!(said[4]["tool"]["content"][0]["content"]["text"], "42 passed");
    assert_eq!(said[5]["tool"]["content"][0]["newText"], "b");
    let saved = shown(&hfs, &session);
    assert_eq!(roles(&saved), ["user", "assistant", "tool", "assistant", "tool", "assistant"]);
    let events = hfs.run(&["run", "show", &session, "--events", "--json"]).ok().json();
    let decided = events_of(&events, "permission.decided").remove(0);
    assert_eq!(
        (&decided["allowed"], &decided["by"], &decided["option"]),
        (&json!(true), &json!("user"), &json!("always"))
    );
    assert_eq!(hfs.run(&["search", "42 passed", "--json"]).ok().json()["total"], 1);
    editor.load(&session, &hfs.project());
    let mut loaded = editor.view(&session);
    // The plan of a turn is kept with its last message.
    let plan = loaded.pop().unwrap();
    loaded.insert(2, plan);
    assert_eq!(loaded, said);
    assert_eq!(script.received("initialize").len(), 1, "a load starts no agent");
    // The agent's own session is continued.
    editor.answers_with = Some("reject_once");
    editor.prompt(&session, "Again");
    assert_eq!(script.received("session/load")[0]["params"]["sessionId"], "session-1");
    assert!(editor.view(&session).iter().any(|entry| entry["tool"]["status"] == "failed"));
}

#[test]
fn an_option_of_the_command_or_a_stored_decision_answers_before_the_editor() {
    let script = ScriptedProgram::new(&working());
    let hfs = hfs_with_agent(&script);
    let mut editor = editor(&hfs, &["--agent", "scripted", "--allow", "execute"]);
    let session = editor.open(&hfs.project());
    editor.prompt(&session, "Test it");
    script.wait_for("answer", |entry| entry["received"]["result"]["outcome"]["optionId"] == "once");
    drop(editor);
    // An editor that cannot ask.
    let mut editor = self::editor(&hfs, &["--agent", "scripted"]);
    let session = editor.open(&hfs.project());
    let turn = editor.begin_prompt(&session, "Test it");
    let question = editor.wait_for_request("session/request_permission");
    editor.send(&json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -32601, "message": "no"}}));
    editor.wait(turn).unwrap();
    script.wait_for("answer", |entry| entry["received"]["result"]["outcome"]["optionId"] == "no");
}

#[test]
fn cancelling_a_proxied_turn_ends_its_question_and_its_next_turn_works() {
    let mut script = working();
    script["session/prompt"].as_array_mut().unwrap().push(json!([chunk("again")]));
    let script = ScriptedProgram::new(&script);
    let hfs = hfs_with_agent(&script);
    let mut editor = editor(&hfs, &["--agent", "scripted"]);
    let session = editor.open(&hfs.project());
    let turn = editor.begin_prompt(&session, "Test it");
    let question = editor.wait_for_request("session/request_permission");
    editor.cancel(&session);
    editor.answer(&question, &json!({"outcome": {"outcome": "cancelled"}}));
    assert_eq!(editor.wait(turn).unwrap()["stopReason"], "cancelled");
    script.wait_for("answer", |entry| entry["received"]["result"]["outcome"]["outcome"] == "cancelled");
    editor.prompt(&session, "And now?");
    assert_eq!(editor.last_answer(&session), "again");
}

#[test]
fn options_commands_and_servers_pass_between_the_editor_and_the_agent() {
    let options = |model: &str| {
        json!([{"id": "model", "name": "Model", "category": "model", "type": "select", "currentValue": model,
            "options": [{"value": "small", "name": "Small"}, {"value": "large", "name": "Large"}]}])
    };
    let commands = json!({"sessionUpdate": "available_commands_update", "availableCommands": [
        {"name": "init", "description": "begin"}, {"name": "undo", "description": "the agent's own"}]});
    let script = ScriptedProgram::new(&json!({
        "capabilities": {"mcpCapabilities": {"http": true}},
        "session/new": [[{"result": {"sessionId": "session-1", "configOptions": options("small")}}]],
        "session/set_config_option": [[{"result": {"configOptions": options("large")}}]],
        "session/prompt": [[{"update": commands}, chunk("hello")]],
    }));
    let hfs = hfs_with_agent(&script);
    let mut editor = editor(&hfs, &["--agent", "scripted"]);
    let servers = json!([
        {"name": "files", "command": "/bin/files", "args": ["-v"], "env": []},
        {"type": "http", "name": "web", "url": "http://127.0.0.1:1/mcp", "headers": []},
        {"type": "sse", "name": "old", "url": "http://127.0.0.1:1/sse", "headers": []},
    ]);
    let opened = editor.call("session/new", &json!({"cwd": hfs.project(), "mcpServers": servers}));
    let session = opened["sessionId"].as_str().unwrap().to_owned();
    // The agent of a new session is started at once, so that its options are shown.
    editor.wait_for_update(&session, "the agent's options", |update| {
        Editor::option(update, "model").is_some_and(|option| option["currentValue"] == "small")
    });
    let names = |params: &Value| -> Vec<String> {
        let servers = params["mcpServers"].as_array().unwrap().iter();
        servers.map(|server| server["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&script.received("session/new")[0]["params"]), ["files", "web"]);
    let set = json!({"sessionId": session, "configId": "model", "value": "large"});
    let changed = editor.call("session/set_config_option", &set);
    assert_eq!(Editor::option(&changed, "model").unwrap()["currentValue"], "large");
    assert_eq!(Editor::option(&changed, "hfs_agent").unwrap()["currentValue"], "scripted");
    assert_eq!(script.received("session/set_config_option")[0]["params"]["value"], "large");
    editor.prompt(&session, "hi");
    editor
        .wait_for_update(&session, "the agent's commands", |update| update.to_string().contains("\"init\""));
    let offered = editor.updates(&session, "available_commands_update").pop().unwrap();
    let offered = offered["availableCommands"].as_array().unwrap().clone();
    assert_eq!(offered.iter().filter(|command| command["name"] == "undo").count(), 1);
    assert!(offered.iter().any(|command| command["name"] == "init"));
    // After a rewind, the new session of the agent has the options that were chosen.
    editor.prompt(&session, "/rewind seq:0");
    editor.prompt(&session, "once more");
    assert_eq!(script.received("session/new").len(), 2);
    assert_eq!(script.received("session/set_config_option").len(), 2);
}

#[test]
fn files_are_read_and_written_through_an_editor_that_offers_them() {
    let read = json!({"request": {"id": "r", "method": "fs/read_text_file", "params": {"sessionId": "session-1", "path": "/a.rs"}}});
    let terminal = json!({"request": {"id": "t", "method": "terminal/create", "params": {"sessionId": "session-1", "command": "ls"}}});
    let script = ScriptedProgram::new(&json!({"session/prompt": [[read, terminal, chunk("read")]]}));
    let hfs = hfs_with_agent(&script);
    let mut editor = Editor::start(hfs.command(&["acp", "--agent", "scripted"]).to_command());
    let files = json!({"fs": {"readTextFile": true, "writeTextFile": false}, "terminal": true});
    editor.call("initialize", &json!({"protocolVersion": 1, "clientCapabilities": files}));
    let session = editor.open(&hfs.project());
    let turn = editor.begin_prompt(&session, "Read it");
    let request = editor.wait_for_request("fs/read_text_file");
    assert_eq!(
        (&request["params"]["sessionId"], &request["params"]["path"]),
        (&json!(session), &json!("/a.rs"))
    );
    editor.answer(&request, &json!({"content": "not saved yet"}));
    editor.wait(turn).unwrap();
    script.wait_for("the content", |entry| entry["received"]["result"]["content"] == "not saved yet");
    script.wait_for("no terminal", |entry| {
        entry["received"]["id"] == "t" && entry["received"]["error"]["code"] == -32601
    });
    let offered = script.received("initialize")[0]["params"]["clientCapabilities"].clone();
    assert_eq!(offered["fs"], json!({"readTextFile": true, "writeTextFile": false}));
    assert_eq!(offered["terminal"], false);
}

#[test]
fn an_agent_that_dies_costs_its_turn_alone() {
    let script = ScriptedProgram::new(&json!({"session/prompt": [
        [chunk("half a "), {"sleep": 300}, {"stderr": "out of memory"}, {"die": true}],
        [chunk("back")],
    ]}));
    let hfs = hfs_with_agent(&script);
    let mut editor = editor(&hfs, &["--agent", "scripted"]);
    let session = editor.open(&hfs.project());
    let turn = editor.begin_prompt(&session, "Go");
    let died = editor.wait(turn).unwrap_err();
    assert!(message_of(&died).contains("signal 9") && message_of(&died).contains("out of memory"), "{died}");
    let saved = shown(&hfs, &session);
    assert_eq!(
        (text(&saved["messages"][1]), &saved["messages"][1]["status"]),
        ("half a ", &json!("interrupted"))
    );
    script.change(&json!({"session/prompt": [[chunk("back")]]}));
    editor.prompt(&session, "Go on");
    assert_eq!(editor.last_answer(&session), "back");
}

#[test]
fn an_editor_that_goes_away_in_the_middle_leaves_the_reply_so_far_and_no_process() {
    let steps = json!([[{"spawn": true}, chunk("so far"), {"hang": true}]]);
    for kills_hfs in [false, true] {
        let script = ScriptedProgram::new(&json!({"session/prompt": steps}));
        let hfs = hfs_with_agent(&script);
        let mut editor = editor(&hfs, &["--agent", "scripted"]);
        let session = editor.open(&hfs.project());
        editor.begin_prompt(&session, "Go");
        editor.wait_for_update(&session, "the beginning", |update| update["content"]["text"] == "so far");
        if kills_hfs {
            // What was shown a quarter of a second ago is durable.
            std::thread::sleep(Duration::from_millis(500));
            editor.kill();
        } else {
            editor.close_input();
            let (status, errors) = editor.wait_for_end();
            assert!(status.success(), "{errors}");
        }
        let saved = shown(&hfs, &session);
        let reply = &saved["messages"][1];
        assert_eq!((text(reply), &reply["status"]), ("so far", &json!("interrupted")));
        assert_eq!(script.processes().len(), 2);
        wait_until("all processes have ended", || !script.processes().into_iter().any(is_running));
        script.change(&json!({"session/prompt": [[chunk("here")]]}));
        let mut next = self::editor(&hfs, &["--agent", "scripted"]);
        next.load(&session, &hfs.project());
        assert_eq!(next.last_answer(&session), "so far");
        next.prompt(&session, "Go on");
        assert_eq!(next.last_answer(&session), "here");
    }
}

#[test]
fn another_agent_continues_and_gets_the_conversation() {
    let script = ScriptedProgram::new(&json!({"session/prompt": [[chunk("from the program")]]}));
    let hfs = hfs_with_agent(&script).env("HFS_AGENT", "recall");
    let mut editor = editor(&hfs, &[]);
    let session = editor.open(&hfs.project());
    editor.prompt(&session, "the first words");
    let set = json!({"sessionId": session, "configId": "hfs_agent", "value": "scripted"});
    editor.call("session/set_config_option", &set);
    editor.prompt(&session, "the next words");
    assert_eq!(editor.last_answer(&session), "from the program");
    let prompt = script.received("session/prompt")[0]["params"]["prompt"].to_string();
    assert!(prompt.contains("the first words") && prompt.contains("the next words"), "{prompt}");
    assert!(
        editor
            .updates(&session, "agent_thought_chunk")
            .iter()
            .any(|note| note.to_string().contains("conversation so far as text"))
    );
}

#[test]
fn a_loaded_session_is_continued_by_the_program_that_answered_last() {
    let script = ScriptedProgram::new(&json!({"session/prompt": [[chunk("from the program")]]}));
    let hfs = hfs_with_agent(&script);
    let mut first = editor(&hfs, &["--agent", "scripted"]);
    let session = first.open(&hfs.project());
    first.prompt(&session, "the first words");
    first.close_input();
    assert!(first.wait_for_end().0.success());
    let mut next = editor(&hfs, &[]);
    let loaded = next.load(&session, &hfs.project());
    assert_eq!(Editor::option(&loaded, "hfs_agent").unwrap()["currentValue"], "scripted");
    assert_eq!(script.received("initialize").len(), 1, "a load starts no agent");
    next.prompt(&session, "the next words");
    assert_eq!(next.last_answer(&session), "from the program");
    assert_eq!(script.received("session/prompt").len(), 2);
    // What the user names for this run comes first.
    let mut other = editor(&hfs, &["--agent", "recall"]);
    let loaded = other.load(&session, &hfs.project());
    assert_eq!(Editor::option(&loaded, "hfs_agent").unwrap()["currentValue"], "recall");
}
