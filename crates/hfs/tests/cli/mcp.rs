//! `hfs mcp`

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testkit::cli::Hfs;

use crate::hfs;
use crate::mcp_client::{McpClient, citations};

/// A secret that redaction recognizes.
fn token() -> String {
    ["ghp", "_", "Zq8vT2mN4kR7wX1yB5cD9fG3hJ6lP0sAuEiO"].concat()
}

/// Imports a transcript of Claude Code.
fn import_claude_code(hfs: &Hfs) {
    let file = write_claude_code(hfs);
    let _ = hfs.run(&["import", file.to_str().unwrap()]).ok();
}

/// Writes a transcript of Claude Code in which it changes src/pool.rs, in the project of the tests.
fn write_claude_code(hfs: &Hfs) -> PathBuf {
    let folder = hfs.home().join(".claude/projects/-srv-gateway");
    fs::create_dir_all(&folder).unwrap();
    let session = "11111111-2222-4333-8444-555555555555";
    let line = |number: u32, kind: &str, content: Value| {
        json!({
            "type": kind, "uuid": format!("00000000-0000-4000-8000-00000000000{number}"),
            "parentUuid": (number > 1).then(|| format!("00000000-0000-4000-8000-00000000000{}", number - 1)),
            "sessionId": session, "timestamp": format!("2026-05-02T14:30:0{number}.000Z"), "version": "2.1.0",
            "cwd": hfs.project().display().to_string(), "isSidechain": false, "userType": "external",
            "message": {"role": kind, "content": content},
        })
        .to_string()
    };
    let lines = [
        line(1, "user", json!("The gateway loses connections under load. Why?")),
        line(
            2,
            "assistant",
            json!([
                {"type": "text", "text": "The pool of connections was exhausted because max_idle was 2."},
                {"type": "tool_use", "id": "toolu_1", "name": "Edit", "input": {
                    "file_path": hfs.project().join("src/pool.rs").display().to_string(),
                    "old_string": "max_idle: 2", "new_string": "max_idle: 64"}},
            ]),
        ),
        line(
            3,
            "user",
            json!([{"type": "tool_result", "tool_use_id": "toolu_1", "content": "The file has been updated."}]),
        ),
        line(
            4,
            "assistant",
            json!([{"type": "text", "text": "Done: the pool keeps 64 idle connections now."}]),
        ),
    ];
    let file = folder.join(format!("{session}.jsonl"));
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    file
}

#[test]
fn what_another_tool_has_just_written_is_found_without_an_import() {
    let hfs = hfs();
    let mut client = McpClient::connect(&hfs, &[]);
    write_claude_code(&hfs);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !client.ask("search", &json!({"query": "max_idle exhausted"})).contains("max_idle was 2") {
        assert!(Instant::now() < deadline, "never found");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn the_tools_are_described_and_those_that_save_are_offered_only_with_write() {
    let hfs = hfs();
    let mut client = McpClient::connect(&hfs, &[]);
    assert_eq!(client.server["serverInfo"]["name"], "hfs");
    assert_eq!(client.server["protocolVersion"], "2025-11-25");
    assert!(client.server["instructions"].as_str().unwrap().contains("recall"));
    let names = |tools: &Value| -> Vec<String> {
        tools["tools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tool| tool["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let tools = client.request("tools/list", &json!({}));
    assert_eq!(names(&tools), ["recall", "search", "read", "timeline", "blame"]);
    for tool in tools["tools"].as_array().unwrap() {
        assert_eq!(tool["annotations"]["readOnlyHint"], true, "{tool}");
        assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{tool}");
        for (name, property) in tool["inputSchema"]["properties"].as_object().unwrap() {
            assert!(
                property["description"].is_string() || property["$ref"].is_string(),
                "{name}: {property}"
            );
        }
    }
    let refused =
        client.answer("tools/call", &json!({"name": "note", "arguments": {"session": "@", "text": "x"}}));
    assert!(refused["error"]["message"].as_str().unwrap().contains("--write"), "{refused}");

    let mut client = McpClient::connect(&hfs, &["--write"]);
    let tools = client.request("tools/list", &json!({}));
    assert_eq!(names(&tools)[5..], ["checkpoint", "note"]);
    assert_eq!(tools["tools"][6]["annotations"]["readOnlyHint"], false);
    assert!(client.close().success());
}

#[test]
fn what_another_tool_was_told_is_found_and_every_citation_can_be_read() {
    let hfs = hfs();
    import_claude_code(&hfs);
    let _ = hfs.run(&["chat", "We chose SQLite for the ledger because it is one file."]).ok();
    let mut client = McpClient::connect(&hfs, &[]);
    let mut answers = vec![
        client.ask("search", &json!({"query": "pool exhausted", "tool": "claude-code"})),
        client.ask("recall", &json!({"question": "Why does the gateway lose connections under load?"})),
        client.ask("timeline", &json!({})),
        client.ask("blame", &json!({"path": "src/pool.rs"})),
        client.ask("blame", &json!({"path": hfs.project().join("src/pool.rs"), "symbol": "max_idle"})),
    ];
    assert!(answers[0].contains("max_idle was 2") && answers[0].contains("claude-code"), "{}", answers[0]);
    assert!(answers[1].contains("exhausted"), "{}", answers[1]);
    assert!(answers[2].contains("asked: The gateway loses connections"), "{}", answers[2]);
    for blamed in &answers[3..] {
        assert!(blamed.contains("changed once") && blamed.contains("+ max_idle: 64"), "{blamed}");
        assert!(blamed.contains("asked: The gateway loses connections"), "{blamed}");
    }
    assert!(client.ask("blame", &json!({"path": "src/pool.rs", "symbol": "absent"})).contains("No saved"));
    answers.push(client.ask("read", &json!({"session": "@"})));
    let cited: Vec<&str> = answers.iter().flat_map(|answer| citations(answer)).collect();
    assert!(cited.len() >= 5, "{cited:?}");
    for citation in cited {
        let text = client.ask("read", &json!({"session": citation}));
        let (place, seq) = citation.rsplit_once(':').unwrap();
        assert!(text.contains(&format!("[{seq}] ")), "{citation}: {text}");
        // The user reads the same on the command line.
        let (session, branch) = place.split_once('/').unwrap();
        let shown = hfs.run(&["session", "show", session, "--branch", branch, "--at", seq]).ok();
        assert!(shown.stdout.contains(&format!("#{seq}")), "{}", shown.stdout);
    }
    let nothing =
        client.ask("recall", &json!({"question": "Which violin concerto did the orchestra rehearse?"}));
    assert!(nothing.contains("No saved conversation answers this"), "{nothing}");
    let hit = client.ask("search", &json!({"query": "max_idle"}));
    let id = hfs.run(&["search", "exhausted", "--json"]).ok().json()["hits"][0].clone();
    let by_id = client.ask("read", &json!({"session": id["session"], "message": id["message"]}));
    assert!(by_id.contains("max_idle was 2"), "{hit}\n{by_id}");
    // A citation in the place of the id names the session, too: here another one than the newest.
    let cited = client.ask("read", &json!({"session": "@", "message": citations(&hit)[0]}));
    assert_eq!(cited, client.ask("read", &json!({"session": citations(&hit)[0]})));
    assert!(cited.contains("max_idle was 2"), "{cited}");
}

#[test]
fn sessions_that_ask_hfs_the_same_do_not_crowd_out_the_answer() {
    let hfs = hfs();
    import_claude_code(&hfs);
    let question = "Why does the gateway lose connections under load?";
    let mut client = McpClient::connect(&hfs, &[]);
    let answered = client.ask("recall", &json!({"question": question}));
    let cited = citations(&answered).join(" ");
    assert!(answered.contains("max_idle was 2"), "{answered}");
    for number in 0..12 {
        let call = json!({"id": "1", "type": "function", "function": {
            "name": "mcp__hfs__recall", "arguments": json!({"question": question}).to_string()}});
        let conversation = json!([
            {"role": "user", "content": format!("{question} ({number})")},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": answered},
        ]);
        let file = hfs.home().join(format!("asking-{number}.json"));
        fs::write(&file, conversation.to_string()).unwrap();
        let _ = hfs.run(&["import", file.to_str().unwrap()]).ok();
    }
    let again = client.ask("recall", &json!({"question": question}));
    assert_eq!(citations(&again).join(" "), cited, "{again}");
    let found = client.ask("search", &json!({"query": "exhausted", "limit": 40}));
    assert_eq!(citations(&found).len(), 1, "{found}");
    assert!(found.contains("12 of them only quote earlier answers"), "{found}");
}

#[test]
fn an_answer_stays_below_4_kb_and_says_how_to_continue() {
    let hfs = hfs();
    let messages: Vec<Value> = (0..120)
        .map(|number| {
            let role = if number % 2 == 0 { "user" } else { "assistant" };
            json!({"role": role, "content": format!("needle {number} {}", "lorem ipsum dolor sit amet ".repeat(40))})
        })
        .chain([json!({"role": "user", "content": format!("the long one {}", "0123456789 ".repeat(2000))})])
        .collect();
    let file = hfs.home().join("long.json");
    fs::write(&file, Value::from(messages).to_string()).unwrap();
    let _ = hfs.run(&["import", file.to_str().unwrap()]).ok();
    let mut client = McpClient::connect(&hfs, &[]);

    let mut seen = 0;
    let mut arguments = json!({"query": "needle", "limit": 40});
    for _ in 0..100 {
        let answer = client.ask("search", &arguments);
        assert!(answer.len() < 4096, "{}", answer.len());
        let hits = citations(&answer).len();
        assert!(answer.len() / hits.max(1) < 450, "about 100 tokens a hit: {answer}");
        seen += hits;
        let Some(next) = continuation(&answer, "offset=") else { break };
        arguments["offset"] = next.parse::<u64>().unwrap().into();
    }
    assert_eq!(seen, 120);

    let recalled =
        client.ask("recall", &json!({"question": "Where is the needle with lorem ipsum?", "limit": 20}));
    assert!(recalled.len() < 4096, "{}", recalled.len());

    let refused = client.refuse("read", &json!({"session": "x".repeat(10_000)}));
    assert!(refused.len() < 4096 && refused.contains("no session"), "{refused}");

    // The whole conversation, by what each answer says.
    let mut read = Vec::new();
    let mut next = format!("{}:1", session(&recalled));
    for _ in 0..200 {
        let answer = client.ask("read", &json!({"session": next, "count": 50}));
        assert!(answer.len() < 4096, "{}", answer.len());
        read.extend(numbers(&answer));
        let Some(place) = continuation(&answer, "read session=") else { break };
        next = serde_json::from_str(&place).unwrap();
    }
    assert_eq!(read, (1..=121).collect::<Vec<u64>>());

    // The long message.
    let mut text = String::new();
    let mut offset = 0_usize;
    for _ in 0..50 {
        let answer =
            client.ask("read", &json!({"session": format!("{}:121", session(&recalled)), "offset": offset}));
        assert!(answer.len() < 4096, "{}", answer.len());
        let part = answer.split_once("\n[121]").unwrap().1.split_once('\n').unwrap().1;
        text.push_str(part.split("\n…").next().unwrap().trim_end_matches('\n'));
        match continuation(&answer, "offset=") {
            Some(next) => offset = next.parse().unwrap(),
            None => break,
        }
    }
    assert_eq!(text.matches("0123456789").count(), 2000, "{}", text.len());

    let newest = client.ask("read", &json!({"session": session(&recalled)}));
    assert!(newest.len() < 4096 && newest.contains("[121] user"), "{newest}");
    assert!(continuation(&newest, "Earlier: read session=").is_some(), "{newest}");
}

/// The word that follows in the last line that has this text.
fn continuation(answer: &str, text: &str) -> Option<String> {
    let (_, after) = answer.lines().rev().find_map(|line| line.split_once(text))?;
    Some(after.split([' ', ',', '\n']).next()?.to_owned())
}

/// The session and branch of the first citation.
fn session(answer: &str) -> String {
    citations(answer)[0].rsplit_once(':').unwrap().0.to_owned()
}

/// The numbers of the messages in an answer of `read`.
fn numbers(answer: &str) -> Vec<u64> {
    answer
        .lines()
        .filter_map(|line| line.strip_prefix('[')?.split_once("] "))
        .filter(|(_, after)| after.starts_with("user") || after.starts_with("assistant"))
        .filter_map(|(number, _)| number.parse().ok())
        .collect()
}

#[test]
fn secrets_are_masked_and_counted_in_every_answer() {
    let hfs = hfs();
    let text = format!("The deploy token of the gateway is {} and the password=Tr0ub4dor-zebra", token());
    let _ = hfs.run(&["chat", &text]).ok();
    let session = hfs.run(&["session", "list", "--json"]).ok().json()["sessions"][0]["id"].clone();
    let _ = hfs.run(&["session", "rename", session.as_str().unwrap(), &format!("Token {}", token())]).ok();
    let calls = [
        ("search", json!({"query": "deploy token"})),
        ("search", json!({"query": "Zq8vT2mN4kR7wX1yB5cD9fG3hJ6lP0sAuEiO"})),
        ("recall", json!({"question": "What is the deploy token of the gateway?"})),
        ("read", json!({"session": "@"})),
        ("timeline", json!({})),
    ];
    let mut client = McpClient::connect(&hfs, &[]);
    for (tool, arguments) in &calls {
        let answer = client.ask(tool, arguments);
        assert!(!answer.contains("Zq8vT2mN") && !answer.contains("sAuEiO"), "{tool}: {answer}");
        assert!(!answer.contains("Tr0ub4dor"), "{tool}: {answer}");
        assert!(answer.contains("[redacted: ") && answer.contains("masked)"), "{tool}: {answer}");
    }
    let resources = client.request("resources/list", &json!({}));
    let resource = client.request("resources/read", &json!({"uri": resources["resources"][0]["uri"]}));
    let prompt = client.request("prompts/get", &json!({"name": "continue"}));
    for document in [&resources, &resource, &prompt] {
        assert!(!document.to_string().contains("Zq8vT2mN"), "{document}");
        assert!(document.to_string().contains("[redacted: GitHub token]"), "{document}");
    }
    let mut client = McpClient::connect(&hfs, &["--no-redact"]);
    assert!(client.ask("read", &json!({"session": "@"})).contains(&token()));
}

#[test]
fn deleted_and_purged_sessions_do_not_appear() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "The zebra crossed the river."]).ok();
    let id = hfs.run(&["session", "list", "--json"]).ok().json()["sessions"][0]["id"].clone();
    let id = id.as_str().unwrap();
    let message = hfs.run(&["search", "zebra", "--json"]).ok().json()["hits"][0]["message"].clone();
    let mut client = McpClient::connect(&hfs, &[]);
    assert!(client.ask("search", &json!({"query": "zebra"})).contains("river"));
    for purge in [false, true] {
        let arguments = ["session", "delete", id, "--purge"];
        let _ = if purge { hfs.run(&arguments) } else { hfs.run(&arguments[..3]) }.ok();
        for (tool, arguments) in [
            ("search", json!({"query": "zebra"})),
            ("recall", json!({"question": "Who crossed the river?"})),
            ("timeline", json!({"project": "*"})),
            ("blame", json!({"path": "zebra"})),
        ] {
            let answer = client.ask(tool, &arguments);
            assert!(citations(&answer).is_empty() && !answer.contains("crossed"), "{tool}: {answer}");
        }
        let refused = client.refuse("read", &json!({"session": id}));
        assert!(refused.contains("no session"), "{refused}");
        let refused = client.refuse("read", &json!({"session": id, "message": message}));
        assert!(refused.contains("no session"), "{refused}");
        assert_eq!(client.request("resources/list", &json!({}))["resources"], json!([]));
    }
}

#[test]
fn a_mistake_is_explained_in_words_that_a_model_reads() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "hello"]).ok();
    let mut client = McpClient::connect(&hfs, &[]);
    for (tool, arguments, words) in [
        ("read", json!({"session": "zzzzzz"}), "no session \"zzzzzz\""),
        ("read", json!({"session": "@", "seq": 99}), "there is no message 99"),
        ("read", json!({"session": "@", "seq": 0}), "there is no message 0"),
        ("read", json!({"session": "@", "branch": "nope"}), "no branch \"nope\""),
        ("read", json!({"session": "@", "message": "nope"}), "not the id of a message"),
        (
            "read",
            json!({"session": "@", "message": "0192f0c1-7e1a-7cc0-9b1e-3f2a5c6d7e8f"}),
            "no message with the id",
        ),
        ("read", json!({}), "missing field `session`"),
        ("read", json!({"session": "@", "page": 2}), "unknown field `page`"),
        ("search", json!({"query": "?!"}), "no word to search for"),
        ("search", json!({"query": "x", "since": "someday"}), "since is \"someday\""),
        ("search", json!({"query": "x", "role": "robot"}), "unknown variant `robot`"),
        ("search", json!({"query": 3}), "invalid type"),
        ("blame", json!({"path": "/"}), "not the path of a file"),
        ("timeline", json!({"cursor": "nonsense"}), "cursor"),
    ] {
        let refused = client.refuse(tool, &arguments);
        assert!(refused.contains(words), "{tool} {arguments}: {refused}");
    }
    let unknown = client.answer("tools/call", &json!({"name": "delete_everything", "arguments": {}}));
    assert_eq!(unknown["error"]["code"], -32602, "{unknown}");
    let unknown = client.answer("resources/read", &json!({"uri": "hfs://session/zzzzzzzzzzzz"}));
    assert!(unknown["error"]["message"].as_str().unwrap().contains("no session"), "{unknown}");
    let unknown = client.answer("resources/read", &json!({"uri": "file:///etc/passwd"}));
    assert!(unknown["error"]["message"].as_str().unwrap().contains("not the address"), "{unknown}");
    assert_eq!(client.answer("prompts/get", &json!({"name": "nope"}))["error"]["code"], -32602);
    assert!(client.answer("resources/list", &json!({"cursor": "nonsense"}))["error"].is_object());
}

#[test]
fn a_misbehaving_client_is_answered_or_survived() {
    let hfs = hfs();
    let mut client = McpClient::start(hfs.command(&["mcp"]).to_command());
    client.send_line("hello");
    assert_eq!(client.receive()["error"]["code"], -32700);
    client.send_line(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    client.send_line(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#);
    assert!(client.receive()["error"].is_object(), "a request before initialize");
    let version = |version: &str| {
        json!({"jsonrpc": "2.0", "id": 2, "method": "initialize", "params": {
            "protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}})
        .to_string()
    };
    client.send_line(&version("1999-01-01"));
    let answer = client.receive();
    assert!(answer["result"]["protocolVersion"].is_string(), "another version is offered: {answer}");
    assert!(client.answer("no/such/method", &json!({}))["error"]["code"] == -32601);
    client.send_line(&format!(
        r#"{{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{}"#,
        "[".repeat(100_000)
    ));
    assert_eq!(client.receive()["error"]["code"], -32700);
    client.send_line(&"x".repeat(5_000_000));
    assert_eq!(client.receive()["error"]["code"], -32600);
    for parameters in [r#","params":{"name":5}"#, r#","params":{}"#, ""] {
        client.send_line(&format!(r#"{{"jsonrpc":"2.0","id":10,"method":"tools/call"{parameters}}}"#));
        let answer = client.receive();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(10), &json!(-32602)), "{answer}");
    }
    let long = "x".repeat(100_000);
    for (method, parameters) in [
        ("tools/call", json!({"name": long})),
        ("tools/call", json!({"name": "read", "arguments": {"session": long}})),
        ("prompts/get", json!({"name": long})),
        ("resources/read", json!({"uri": long})),
        (&long, json!({})),
    ] {
        let answer = client.answer(method, &parameters).to_string();
        assert!(answer.len() < 5_000, "{} bytes: {}", answer.len(), &answer[..200]);
    }
    for _ in 0..1000 {
        client.send_line(r#"{"jsonrpc":"2.0","method":"notifications/flood"}"#);
    }
    assert_eq!(client.request("ping", &json!({})), json!({}));
    for older in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut client = McpClient::initialize(hfs.command(&["mcp"]).to_command(), older);
        assert_eq!(client.server["protocolVersion"], older);
        assert!(client.ask("timeline", &json!({})).contains("No saved conversation"));
    }
}

#[test]
fn the_server_ends_with_its_client() {
    let hfs = hfs();
    assert!(McpClient::connect(&hfs, &[]).close().success());
    assert!(McpClient::start(hfs.command(&["mcp"]).to_command()).close().success());
    // Requests before the end are answered.
    let lines = [
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"timeline","arguments":{}}}"#,
    ];
    let output = hfs.command(&["mcp"]).stdin(lines.join("\n")).run().ok();
    assert_eq!(output.stdout.lines().count(), 2, "{}", output.stdout);
    assert_eq!(output.stderr, "");
    // A client that reads no answers, and holds its other end open.
    let mut deaf = hfs.command(&["mcp"]).to_command();
    let mut deaf = deaf.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    drop(deaf.stdout.take());
    let mut input = deaf.stdin.take().unwrap();
    let _ = input.write_all(format!("{}\n", lines.join("\n")).as_bytes());
    wait_for_end(&mut deaf);
    drop(input);
    // A client that is killed: `sleep` holds the server's standard input open until then.
    let server = hfs.command(&["mcp"]).to_command();
    let mut pipeline = Command::new("/bin/sh")
        .args(["-c", "sh -c 'echo $$ >&2; exec sleep 600' | \"$0\" mcp"])
        .arg(server.get_program())
        .env_clear()
        .envs(server.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(pipeline.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let client = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
    kill_process(client, Signal::KILL).unwrap();
    wait_for_end(&mut pipeline);
}

fn wait_for_end(server: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the server outlives its client");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn eight_clients_use_one_store_at_once() {
    let hfs = hfs();
    import_claude_code(&hfs);
    let clients: Vec<McpClient> = (0..8).map(|_| McpClient::connect(&hfs, &["--write"])).collect();
    std::thread::scope(|scope| {
        for (number, mut client) in clients.into_iter().enumerate() {
            scope.spawn(move || {
                for round in 0..10 {
                    let noted = client.ask(
                        "note",
                        &json!({"session": "@", "text": format!("note {number} of round {round}")}),
                    );
                    assert!(noted.contains("Saved the note"), "{noted}");
                    assert!(client.ask("search", &json!({"query": "exhausted"})).contains("max_idle"));
                    let question = json!({"question": "Why does the gateway lose connections?"});
                    assert!(client.ask("recall", &question).contains("exhausted"));
                }
                assert!(client.close().success());
            });
        }
    });
    let found = hfs.run(&["search", "note round", "--json"]).ok().json();
    assert_eq!(found["total"], 80);
    let _ = hfs.run(&["store", "verify"]).ok();
}

#[test]
fn a_store_that_cannot_be_opened_is_an_answer_and_not_the_end() {
    let hfs = hfs();
    fs::create_dir_all(hfs.hfs_home()).unwrap();
    fs::write(hfs.hfs_home().join("hfs.db"), "this is no database".repeat(1000)).unwrap();
    let mut client = McpClient::connect(&hfs, &[]);
    let refused = client.refuse("timeline", &json!({}));
    assert!(refused.contains("hfs.db"), "{refused}");
    fs::remove_file(hfs.hfs_home().join("hfs.db")).unwrap();
    assert!(client.ask("timeline", &json!({})).contains("No saved conversation"));
}

#[test]
fn with_write_a_client_keeps_checkpoints_and_saves_notes() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "Plan the release."]).ok();
    let mut client = McpClient::connect(&hfs, &["--write"]);
    let kept = client.ask("checkpoint", &json!({"session": "@", "label": "before\nthe release"}));
    let checkpoints = hfs.run(&["checkpoint", "list", "@", "--json"]).ok().json();
    let newest = checkpoints["checkpoints"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(newest["label"], "before the release");
    assert!(kept.contains(&format!("checkpoint {}", newest["number"])), "{kept}");
    let noted = client.ask("note", &json!({"session": "@", "text": "The zebra release needs a signature."}));
    let citation = noted.split_once('[').unwrap().1.split_once(']').unwrap().0;
    let read = client.ask("read", &json!({"session": citation}));
    assert!(read.contains("zebra release") && read.contains("test-client"), "{read}");
    assert!(
        client.ask("recall", &json!({"question": "What does the zebra release need?"})).contains("signature")
    );
    let shown = crate::shown(&hfs, "@");
    let last = shown["messages"].as_array().unwrap().last().unwrap();
    assert_eq!((last["role"].as_str(), last["agent"].as_str()), (Some("assistant"), Some("test-client")));
    assert!(client.refuse("note", &json!({"session": "@", "text": "  "})).contains("empty"));
    assert!(client.refuse("note", &json!({"session": "zzzz", "text": "x"})).contains("no session"));
}

#[test]
fn sessions_are_resources_and_a_prompt_continues_one() {
    let hfs = hfs();
    import_claude_code(&hfs);
    let conversations: Vec<Value> = (0..120)
        .map(|number| json!([{"role": "user", "content": format!("conversation {number}")}]))
        .collect();
    for (number, conversation) in conversations.iter().enumerate() {
        let folder = hfs.home().join("many");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{number}.json")), conversation.to_string()).unwrap();
    }
    let _ = hfs.run(&["import", hfs.home().join("many").to_str().unwrap()]).ok();
    let mut client = McpClient::connect(&hfs, &[]);
    let mut uris = Vec::new();
    let mut params = json!({});
    loop {
        let page = client.request("resources/list", &params);
        uris.extend(page["resources"].as_array().unwrap().iter().map(|resource| resource["uri"].clone()));
        if page["nextCursor"].is_null() {
            break;
        }
        params = json!({"cursor": page["nextCursor"]});
    }
    let different: std::collections::BTreeSet<String> = uris.iter().map(Value::to_string).collect();
    assert_eq!((uris.len(), different.len()), (121, 121));
    let templates = client.request("resources/templates/list", &json!({}));
    assert_eq!(templates["resourceTemplates"][0]["uriTemplate"], "hfs://session/{session}");
    let found = client.ask("search", &json!({"query": "exhausted"}));
    let place = session(&found);
    let short = place.split_once('/').unwrap().0;
    for (uri, words) in [
        (format!("hfs://session/{short}"), "max_idle was 2"),
        (format!("hfs://session/{place}/4"), "64 idle connections"),
    ] {
        let read = client.request("resources/read", &json!({"uri": uri}));
        assert_eq!(read["contents"][0]["uri"], uri);
        assert!(read["contents"][0]["text"].as_str().unwrap().contains(words), "{read}");
    }
    let prompts = client.request("prompts/list", &json!({}));
    assert_eq!(prompts["prompts"][0]["name"], "continue");
    // The newest session of this project, although sessions of other projects are newer.
    for arguments in [json!({}), json!({"session": short})] {
        let prompt = client.request("prompts/get", &json!({"name": "continue", "arguments": arguments}));
        let text = prompt["messages"][0]["content"]["text"].as_str().unwrap();
        assert!(text.contains("64 idle connections") && text.contains("continue where we were"), "{text}");
    }
}
