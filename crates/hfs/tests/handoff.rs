//! `hfs handoff`, and the way back: what another tool adds to a session is imported into it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::cli::Hfs;

const TOOLS: [&str; 3] = ["claude", "codex", "opencode"];

fn hfs() -> Hfs {
    Hfs::new(env!("CARGO_BIN_EXE_hfs")).env("HFS_AGENT", "recall")
}

fn run_json(hfs: &Hfs, arguments: &[&str]) -> Value {
    hfs.run(&[arguments, &["--json"]].concat()).ok().json()
}

fn chat(hfs: &Hfs, arguments: &[&str]) -> String {
    run_json(hfs, &[&["chat"], arguments].concat())["session"].as_str().unwrap().to_owned()
}

/// The texts and calls of the current branch.
fn texts(hfs: &Hfs, session: &str) -> Vec<String> {
    let shown = run_json(hfs, &["session", "show", session, "-n", "100000"]);
    let messages = shown["messages"].as_array().unwrap().iter();
    messages.map(|message| message["parts"].to_string()).collect()
}

/// What the tool writes when the user continues a session in it: a prompt and an answer with a tool call.
fn continue_in_tool(tool: &str, path: &Path, word: &str) {
    let call = format!("call-{word}");
    match tool {
        "claude" => {
            let text = fs::read_to_string(path).unwrap();
            let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let leaf = records.iter().rev().find_map(|record| record["leafUuid"].as_str());
            let last = records.iter().rev().find_map(|record| record["uuid"].as_str());
            let session = path.file_stem().unwrap().to_str().unwrap();
            let uuid = |number: u32| format!("00000000-0000-4000-8000-{:0>8}{number:0>4}", hex(word));
            let record = |number: u32, parent: &str, kind: &str, content: Value| {
                json!({
                    "parentUuid": parent, "isSidechain": false, "type": kind, "uuid": uuid(number), "sessionId": session,
                    "timestamp": "2026-11-30T10:00:00.000Z", "cwd": "/", "version": "2.1.197",
                    "message": {"role": kind, "content": content, "id": format!("msg_{word}{number}"), "model": "claude-x"},
                })
            };
            append(
                path,
                &[
                    record(1, leaf.or(last).unwrap(), "user", json!(format!("prompt {word}"))),
                    record(
                        2,
                        &uuid(1),
                        "assistant",
                        json!([
                            {"type": "tool_use", "id": call, "name": "Bash", "input": {"command": "ls"}},
                        ]),
                    ),
                    record(
                        3,
                        &uuid(2),
                        "user",
                        json!([
                            {"type": "tool_result", "tool_use_id": call, "content": format!("output {word}")},
                        ]),
                    ),
                    record(
                        4,
                        &uuid(3),
                        "assistant",
                        json!([{"type": "text", "text": format!("answer {word}")}]),
                    ),
                    json!({"type": "last-prompt", "lastPrompt": word, "leafUuid": uuid(4), "sessionId": session}),
                ],
            );
        }
        "codex" => {
            let line = |kind: &str, payload: Value| json!({"timestamp": "2026-11-30T10:00:00.000Z", "type": kind, "payload": payload});
            let message = |role: &str, kind: &str, text: String| {
                line(
                    "response_item",
                    json!({
                        "type": "message", "role": role, "content": [{"type": kind, "text": text}],
                    }),
                )
            };
            append(
                path,
                &[
                    line("turn_context", json!({"cwd": "/", "model": "gpt-x"})),
                    message("user", "input_text", "<environment_context>x</environment_context>".into()),
                    message("user", "input_text", format!("prompt {word}")),
                    line(
                        "response_item",
                        json!({
                            "type": "function_call", "name": "exec_command", "arguments": "{\"cmd\": \"ls\"}", "call_id": call,
                        }),
                    ),
                    line(
                        "response_item",
                        json!({
                            "type": "function_call_output", "call_id": call, "output": format!("output {word}"),
                        }),
                    ),
                    message("assistant", "output_text", format!("answer {word}")),
                    line("event_msg", json!({"type": "task_complete", "last_agent_message": word})),
                ],
            );
        }
        "opencode" => {
            let mut export: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
            let session = export["info"]["id"].clone();
            let id = |prefix: &str, number: u32| format!("{prefix}_22a22e02f{number:0>3}{word}");
            let info = |number: u32, role: &str| {
                json!({
                    "id": id("msg", number), "sessionID": session, "role": role, "parentID": id("msg", 1),
                    "time": {"created": 1_796_003_258_415_i64}, "modelID": "m", "providerID": "p",
                })
            };
            let text =
                |number: u32, text: String| json!({"id": id("prt", number), "type": "text", "text": text});
            let messages = export["messages"].as_array_mut().unwrap();
            messages.push(json!({"info": info(1, "user"), "parts": [text(1, format!("prompt {word}"))]}));
            messages.push(json!({"info": info(2, "assistant"), "parts": [{
                "id": id("prt", 2), "type": "tool", "tool": "bash", "callID": call,
                "state": {"status": "completed", "input": {"command": "ls"}, "output": format!("output {word}"),
                    "title": "", "metadata": {}, "time": {"start": 1, "end": 2}},
            }]}));
            messages
                .push(json!({"info": info(3, "assistant"), "parts": [text(3, format!("answer {word}"))]}));
            fs::write(path, export.to_string()).unwrap();
        }
        other => panic!("no tool {other}"),
    }
}

fn hex(word: &str) -> String {
    word.bytes().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn append(path: &Path, records: &[Value]) {
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    for record in records {
        writeln!(file, "{record}").unwrap();
    }
}

fn hand_off(hfs: &Hfs, session: &str, tool: &str) -> (PathBuf, Value) {
    let done = run_json(hfs, &["handoff", session, tool]);
    assert_eq!(done["tool"], tool);
    (PathBuf::from(done["path"].as_str().unwrap()), done)
}

/// Imports the transcript twice. Both times it must belong to the session, and the second time nothing is new.
fn import_back(hfs: &Hfs, path: &Path, session: &str) {
    let imported = run_json(hfs, &["import", path.to_str().unwrap()]);
    assert_eq!(imported["imported"][0]["session"], session, "{imported}");
    let again = run_json(hfs, &["import", path.to_str().unwrap()]);
    assert_eq!(again["imported"].as_array().unwrap().len(), 0, "{again}");
    assert_eq!(again["failed"].as_array().unwrap().len(), 0, "{again}");
}

/// Continues the session in a tool and returns. Checks that exactly what the tool added was added.
fn go_and_return(hfs: &Hfs, session: &str, tool: &str, word: &str) {
    let before = texts(hfs, session);
    let shown = |hfs: &Hfs| run_json(hfs, &["session", "show", session]);
    let (branches, name) = (shown(hfs)["branches"].clone(), shown(hfs)["session"]["name"].clone());
    let (path, _) = hand_off(hfs, session, tool);
    continue_in_tool(tool, &path, word);
    import_back(hfs, &path, session);
    let after = texts(hfs, session);
    assert_eq!(after[..before.len()], before[..], "{tool} changed the history");
    let added = after[before.len()..].concat();
    for text in ["prompt", "output", "answer"] {
        assert_eq!(added.matches(&format!("{text} {word}")).count(), 1, "{tool}: {added}");
    }
    let now = shown(hfs);
    assert_eq!(now["session"]["name"], name);
    let names = |branches: &Value| -> Vec<(Value, Value)> {
        let branches = branches.as_array().unwrap().iter();
        branches.map(|branch| (branch["id"].clone(), branch["current"].clone())).collect()
    };
    assert_eq!(names(&now["branches"]), names(&branches), "{tool}");
    assert_eq!(run_json(hfs, &["store", "verify"])["ok"], true);
}

#[test]
fn a_session_is_continued_in_one_tool_after_another() {
    let hfs = hfs();
    let session = chat(&hfs, &["Where are the logs?"]);
    for (tool, word) in TOOLS.into_iter().zip(["one", "two", "three"]) {
        go_and_return(&hfs, &session, tool, word);
        chat(&hfs, &["-s", &session, &format!("back from {tool}")]);
    }
    for (tool, word) in TOOLS.into_iter().zip(["four", "five", "sixx"]) {
        go_and_return(&hfs, &session, tool, word);
    }
}

#[test]
fn a_fork_is_continued_on_its_own_branch() {
    for tool in TOOLS {
        let hfs = hfs();
        let session = chat(&hfs, &["first"]);
        chat(&hfs, &["-s", &session, "second"]);
        // A branch without messages of its own.
        run_json(&hfs, &["branch", "create", &session, "--at", "2", "idea"]);
        go_and_return(&hfs, &session, tool, "here");
        go_and_return(&hfs, &session, tool, "more");
        assert!(!texts(&hfs, &session).concat().contains("second"));
    }
}

/// A transcript with this many messages, each with a text of its own, as a tool writes it.
fn transcript(format: &str, messages: usize) -> String {
    let line = |number: usize| {
        let is_user = number % 2 == 1;
        let role = |model: &'static str| if is_user { "user" } else { model };
        let parent = (number > 1).then(|| format!("m{}", number - 1));
        let (id, text, at) = (format!("m{number}"), format!("text-{number}"), "2026-01-01T00:00:00Z");
        match format {
            "claude-code" => json!({
                "type": role("assistant"), "uuid": id, "parentUuid": parent, "sessionId": "s", "cwd": "/", "timestamp": at,
                "message": {"role": role("assistant"), "id": id, "content": [{"type": "text", "text": text}]},
            }),
            "codex" => json!({
                "timestamp": at, "type": "response_item", "payload": {
                    "type": "message", "role": role("assistant"),
                    "content": [{"type": if is_user { "input_text" } else { "output_text" }, "text": text}],
                },
            }),
            "gemini" => json!({
                "sessionId": "s", "projectHash": "h", "id": id, "type": role("gemini"), "content": text, "timestamp": at,
            }),
            "pi" => json!({
                "type": "message", "id": id, "parentId": parent, "timestamp": at,
                "message": {"role": role("assistant"), "content": text, "timestamp": 1_767_225_600_000_u64},
            }),
            other => panic!("no format {other}"),
        }
    };
    (1..=messages).map(|number| format!("{}\n", line(number))).collect()
}

#[test]
fn a_transcript_is_imported_as_it_grows_while_its_session_is_continued_elsewhere() {
    for format in ["claude-code", "codex", "gemini", "pi"] {
        let hfs = hfs();
        let path = hfs.project().join("session.jsonl");
        // Rewrites the file as the tool appends to it: the file stays the same one.
        let grow = |messages: usize| {
            fs::write(&path, transcript(format, messages)).unwrap();
            run_json(&hfs, &["import", path.to_str().unwrap()])
        };
        let session = grow(4)["imported"][0]["session"].as_str().unwrap().to_owned();
        assert_eq!(grow(6)["imported"][0]["messages"], 2, "{format}");
        chat(&hfs, &["-s", &session, "continued in hfs"]);
        for (tool, word) in TOOLS.into_iter().zip(["one", "two", "three"]) {
            go_and_return(&hfs, &session, tool, word);
        }
        // The tool's own file grows without another handoff.
        let (handed, _) = hand_off(&hfs, &session, "claude");
        for word in ["four", "five"] {
            continue_in_tool("claude", &handed, word);
            import_back(&hfs, &handed, &session);
        }
        let line = texts(&hfs, &session);
        for word in ["text-6", "continued in hfs", "answer one", "answer three", "answer four", "answer five"]
        {
            assert_eq!(line.concat().matches(word).count(), 1, "{format}: {word}");
        }
        // What the first tool adds meanwhile becomes another branch.
        let grown = grow(8);
        assert_eq!(
            (&grown["imported"][0]["session"], &grown["imported"][0]["messages"]),
            (&json!(session), &json!(2))
        );
        assert_eq!(texts(&hfs, &session), line, "{format}: the current line");
        assert_eq!(grow(10)["imported"][0]["messages"], 2, "{format}");
        let shown = run_json(&hfs, &["session", "show", &session]);
        let branches = shown["branches"].as_array().unwrap();
        let other = branches.iter().find(|branch| branch["head"] == 10);
        let name = other.unwrap_or_else(|| panic!("{format}: {branches:?}"))["name"].as_str().unwrap();
        let shown = run_json(&hfs, &["session", "show", &session, "--branch", name, "-n", "100"]);
        let found: Vec<&str> = shown["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["parts"][0]["text"].as_str().unwrap())
            .collect();
        let expected: Vec<String> = (1..=10).map(|number| format!("text-{number}")).collect();
        assert_eq!(found, expected, "{format}");
        assert_eq!(run_json(&hfs, &["session", "list", "--all"])["sessions"].as_array().unwrap().len(), 1);
        assert_eq!(run_json(&hfs, &["store", "verify"])["ok"], true);
    }
}

#[test]
fn sessions_from_every_source_are_continued_in_every_tool() {
    let folder = std::env::var_os("HFS_SAMPLES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples"), PathBuf::from);
    if !folder.is_dir() {
        println!("skipped: there is no directory of samples");
        return;
    }
    for name in [
        "aider/aider-tests-chat-history.md",
        "chatgpt/csv-data-analysis-insights.json",
        "claude-code/happy-task_non_sdk.jsonl",
        "claude-code/ccl-fixture-dag_fork.jsonl",
        "codex/rollout-0.169.0.jsonl",
        "codex/rollout-0.58.0.jsonl",
        "gemini/session-0.61.0.jsonl",
        "goose/sessions-goose-1.52.0.db",
        "langgraph/checkpoints-sqlite-3.1.2.sqlite",
        "llm/logs-llm-0.36.db",
        "opencode/opencode-export-1.18.33.json",
    ] {
        let hfs = hfs();
        let imported = hfs.command(&["import", "--json"]).arg(folder.join(name)).run().ok().json();
        let session = imported["imported"][0]["session"].as_str().unwrap().to_owned();
        println!("{name}");
        for (tool, word) in TOOLS.into_iter().zip(["one", "two", "three"]) {
            go_and_return(&hfs, &session, tool, word);
        }
    }
}

#[test]
fn a_session_with_an_agent_that_works_in_a_call_is_continued_on_its_own_branch() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hfs-exchange/tests/fixtures");
    for name in ["cline", "copilot-cli", "qwen-code"] {
        let hfs = hfs();
        let imported = hfs.command(&["import", "--json"]).arg(fixtures.join(name)).run().ok().json();
        let imported = imported["imported"].as_array().unwrap();
        let with_agent = imported.iter().max_by_key(|session| session["branches"].as_u64()).unwrap();
        assert!(with_agent["branches"].as_u64().unwrap() > 1, "{name}: {with_agent}");
        let session = with_agent["session"].as_str().unwrap();
        for (tool, word) in TOOLS.into_iter().zip(["one", "two", "three"]) {
            go_and_return(&hfs, session, tool, word);
        }
        go_and_return(&hfs, session, "claude", "four");
    }
}

#[test]
fn the_file_is_where_the_tool_looks_and_the_command_names_it() {
    let hfs = hfs();
    let session = chat(&hfs, &["hello"]);
    let directory = fs::canonicalize(hfs.project()).unwrap();
    for tool in TOOLS {
        let (path, done) = hand_off(&hfs, &session, tool);
        assert_eq!(done["directory"], directory.to_str().unwrap());
        let command = done["command"].as_str().unwrap();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        match tool {
            "claude" => {
                assert!(path.starts_with(hfs.home().join(".claude/projects")), "{}", path.display());
                assert_eq!(command, format!("claude --resume {stem}"));
            }
            "codex" => {
                assert!(path.starts_with(hfs.home().join(".codex/sessions")), "{}", path.display());
                assert!(stem.ends_with(command.strip_prefix("codex resume ").unwrap()), "{command}");
            }
            _ => {
                let path = path.to_str().unwrap();
                assert_eq!(command, format!("opencode import {path} && opencode --session {stem}"));
            }
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
    let said = hfs.run(&["handoff", &session, "codex"]).ok();
    assert!(
        said.stdout.starts_with(&format!("cd {} && codex resume ", directory.display())),
        "{}",
        said.describe()
    );
}

#[test]
fn a_handoff_does_not_bring_a_purged_session_back() {
    for tool in ["claude", "codex", "opencode"] {
        let hfs = hfs();
        let session = chat(&hfs, &["to be forgotten"]);
        let (path, _) = hand_off(&hfs, &session, tool);
        continue_in_tool(tool, &path, "later");
        let _ = hfs.run(&["session", "delete", &session, "--purge"]).ok();
        let imported = run_json(&hfs, &["import", path.parent().unwrap().to_str().unwrap()]);
        assert_eq!(imported["imported"], json!([]), "{tool}: {imported}");
        let _ = hfs.run(&["watch", "--once"]).ok();
        assert_eq!(run_json(&hfs, &["search", "forgotten"])["total"], 0, "{tool}");
        // The user may still want what the tool has.
        let named = run_json(&hfs, &["import", "--full", path.to_str().unwrap()]);
        assert_eq!(named["imported"].as_array().unwrap().len(), 1, "{tool}: {named}");
    }
}

#[test]
fn names_and_ids_from_a_transcript_never_reach_the_shell() {
    let hfs = hfs().env("CLAUDE_CONFIG_DIR", "/nonexistent/claude");
    let folder = hfs.project().join("it's $(touch hacked); `id`");
    fs::create_dir(&folder).unwrap();
    let transcript = folder.join("; rm -rf $HOME;.jsonl");
    let id = "../../$(touch hacked)";
    let record = json!({
        "parentUuid": null, "type": "user", "uuid": "u1", "sessionId": id, "cwd": folder, "timestamp": "2026-01-01T00:00:00Z",
        "message": {"role": "user", "content": "hello"},
    });
    fs::write(&transcript, format!("{record}\n")).unwrap();
    let imported = hfs.command(&["import", "--json"]).arg(&transcript).run().ok().json();
    let session = imported["imported"][0]["session"].as_str().unwrap();
    let exports = run_json(&hfs, &["export", session, "--format", "claude-code"]);
    let name = Path::new(exports["path"].as_str().unwrap()).file_name().unwrap().to_str().unwrap();
    assert_eq!(name, format!("{session}.jsonl"));
    for tool in ["codex", "opencode"] {
        let done = run_json(&hfs, &["handoff", session, tool]);
        let command = done["command"].as_str().unwrap();
        assert!(!command.contains("touch"), "{command}");
        // The directory is the session's; the printed line must not run its name.
        assert_eq!(done["directory"], fs::canonicalize(&folder).unwrap().to_str().unwrap());
        let line = hfs.run(&["handoff", session, tool]).ok().stdout;
        let script = line.replace(" && codex", " && true ").replace(" && opencode", " && true ");
        let ran = std::process::Command::new("sh")
            .args(["-c", &script])
            .current_dir(hfs.project())
            .output()
            .unwrap();
        assert!(ran.status.success(), "{script}: {ran:?}");
        assert!(!hfs.project().join("hacked").exists() && !folder.join("hacked").exists(), "{line}");
    }
}

#[test]
fn a_handoff_never_replaces_what_the_tool_added() {
    for tool in ["claude", "codex"] {
        let hfs = hfs();
        let session = chat(&hfs, &["hello"]);
        let (path, _) = hand_off(&hfs, &session, tool);
        // Nothing was added: the handoff can be repeated, also with more messages.
        chat(&hfs, &["-s", &session, "more"]);
        hand_off(&hfs, &session, tool);
        continue_in_tool(tool, &path, "here");
        let before = fs::read(&path).unwrap();
        let refused = hfs.run(&["handoff", &session, tool, "--json"]).fails_with(4).json_error();
        assert_eq!(refused["kind"], "conflict");
        assert!(refused["hint"].as_str().unwrap().contains("hfs import "), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), before);
        import_back(&hfs, &path, &session);
        hand_off(&hfs, &session, tool);
    }
}

/// What `opencode import` does: adds messages and parts whose ids are new, and keeps the others. Returns the number of
/// messages and of parts that were added.
fn import_into_opencode(store: &mut Vec<Value>, export: &Value) -> (usize, usize) {
    let (mut messages, mut parts) = (0, 0);
    for message in export["messages"].as_array().unwrap() {
        let at = store.iter().position(|known| known["info"]["id"] == message["info"]["id"]);
        let at = at.unwrap_or_else(|| {
            messages += 1;
            store.push(json!({"info": message["info"], "parts": []}));
            store.len() - 1
        });
        for part in message["parts"].as_array().unwrap() {
            let is_known = |message: &Value| {
                message["parts"].as_array().unwrap().iter().any(|known| known["id"] == part["id"])
            };
            if !store.iter().any(is_known) {
                parts += 1;
                store[at]["parts"].as_array_mut().unwrap().push(part.clone());
            }
        }
    }
    store.sort_by_key(|message| {
        let info = &message["info"];
        (info["time"]["created"].as_i64(), info["id"].as_str().map(str::to_owned))
    });
    (messages, parts)
}

#[test]
fn opencode_imports_only_what_is_new_in_a_second_handoff_and_all_of_a_fork() {
    let hfs = hfs();
    let session = chat(&hfs, &["first"]);
    let hand_off = || {
        let (path, _) = hand_off(&hfs, &session, "opencode");
        let export: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        (path, export)
    };
    let mut store = Vec::new();
    let (path, export) = hand_off();
    assert_eq!(import_into_opencode(&mut store, &export).0, 2);
    continue_in_tool("opencode", &path, "here");
    let continued: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(import_into_opencode(&mut store, &continued), (3, 3));
    import_back(&hfs, &path, &session);

    assert_eq!(import_into_opencode(&mut store, &hand_off().1), (0, 0));
    chat(&hfs, &["-s", &session, "more"]);
    let (_, export) = hand_off();
    assert_eq!(import_into_opencode(&mut store, &export).0, 2);
    let order: Vec<String> = store.iter().map(|message| message["parts"].to_string()).collect();
    let position = |word: &str| order.iter().position(|parts| parts.contains(word)).unwrap();
    assert!(position("answer here") < position("more"), "{order:?}");
    assert!(order[position("output here")].contains("\"completed\""), "{order:?}");

    run_json(&hfs, &["branch", "create", &session, "--at", "4", "aside"]);
    let (_, fork) = hand_off();
    let count = fork["messages"].as_array().unwrap().len();
    assert_eq!(import_into_opencode(&mut store, &fork).0, count);
    // What is said there belongs to the fork.
    go_and_return(&hfs, &session, "opencode", "fork");
}

#[test]
fn opencode_gets_the_model_of_its_configuration() {
    let hfs = hfs();
    let session = chat(&hfs, &["hello"]);
    let model = || {
        let (path, _) = hand_off(&hfs, &session, "opencode");
        let export: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let model = &export["messages"][0]["info"]["model"];
        format!("{}/{}", model["providerID"].as_str().unwrap(), model["modelID"].as_str().unwrap())
    };
    assert_eq!(model(), "opencode/big-pickle");
    let write = |path: PathBuf, value: Value| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value.to_string()).unwrap();
    };
    let recent = json!({"recent": [{"providerID": "recent", "modelID": "one"}]});
    write(hfs.home().join(".local/state/opencode/model.json"), recent);
    assert_eq!(model(), "recent/one");
    write(hfs.home().join(".config/opencode/opencode.json"), json!({"model": "global/a/b"}));
    assert_eq!(model(), "global/a/b");
    write(hfs.project().join("opencode.json"), json!({"model": "project/m"}));
    assert_eq!(model(), "project/m");
    let commented =
        "{\n  // the large one\n  /* \"model\": \"old/m\", */\n  \"model\": \"commented/m\",\n}\n";
    fs::remove_file(hfs.project().join("opencode.json")).unwrap();
    fs::write(hfs.project().join("opencode.jsonc"), commented).unwrap();
    assert_eq!(model(), "commented/m");
}

#[test]
fn every_session_is_exported_and_the_next_run_exports_only_what_has_changed() {
    let hfs = hfs();
    let names = ["same name", "same name", "../other"];
    let sessions: Vec<String> = names
        .iter()
        .map(|name| {
            let session = chat(&hfs, &["hello"]);
            run_json(&hfs, &["session", "rename", &session, name]);
            session
        })
        .collect();
    let all =
        |arguments: &[&str]| run_json(&hfs, &[&["export", "--all", "-o", "backup"], arguments].concat());
    let first = all(&[]);
    assert_eq!(
        (first["exported"].as_array().unwrap().len(), first["unchanged"].as_u64()),
        (3, Some(0)),
        "{first}"
    );
    let folder = hfs.project().join("backup");
    let files = || {
        let mut files: Vec<String> = fs::read_dir(&folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        files.sort();
        files
    };
    assert_eq!(files().len(), 3);
    let second = all(&[]);
    assert_eq!((second["exported"].as_array().unwrap().len(), second["unchanged"].as_u64()), (0, Some(3)));

    // One session grew, one was renamed, one was deleted; a file and the end of the record were lost.
    chat(&hfs, &["-s", &sessions[0], "more"]);
    run_json(&hfs, &["session", "rename", &sessions[1], "renamed"]);
    run_json(&hfs, &["session", "delete", &sessions[2]]);
    let record = folder.join(".hfs-export.jsonl");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&record).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, &text[..text.len() - 20]).unwrap();
    let third = all(&[]);
    assert_eq!(third["failed"].as_array().unwrap().len(), 0, "{third}");
    assert_eq!(files().iter().filter(|name| name.starts_with("renamed-")).count(), 1);
    assert_eq!(
        files().len(),
        3,
        "the old name of the renamed session is gone, the deleted session's file is kept"
    );
    let renamed = files().into_iter().find(|name| name.starts_with("renamed-")).unwrap();
    fs::remove_file(folder.join(renamed)).unwrap();
    assert_eq!(all(&[])["exported"].as_array().unwrap().len(), 1);
    assert_eq!(files().len(), 3);

    // Other formats are exported beside it, and every document can be imported.
    let pages = all(&["--format", "markdown"]);
    assert_eq!(pages["exported"].as_array().unwrap().len(), 2);
    let other = Hfs::new(env!("CARGO_BIN_EXE_hfs"));
    let back =
        other.command(&["import", "--json"]).arg(&folder).timeout(Duration::from_secs(60)).run().json();
    assert!(back["imported"].as_array().unwrap().len() >= 2, "{back}");
    let _ = hfs.run(&["export", "--all"]).fails_with(2);
    let _ = hfs.run(&["export", "--all", &sessions[0], "-o", "x"]).fails_with(2);
}

#[test]
fn files_and_pipes_get_no_escape_sequences_unless_raw() {
    let hfs = hfs();
    let text = "red: \u{1b}[31m \u{9b}2J \u{202e}end";
    let session = chat(&hfs, &[text]);
    for format in ["json", "markdown", "html", "claude-code", "codex", "opencode"] {
        for target in ["-", "file"] {
            let export = |raw: &[&str]| {
                let out = hfs
                    .run(&[&["export", "-q", &session, "--format", format, "-o", target], raw].concat())
                    .ok();
                if target == "-" {
                    out.stdout
                } else {
                    fs::read_to_string(hfs.project().join("file")).unwrap()
                }
            };
            let safe = export(&[]);
            assert!(!safe.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{format}: {safe:?}");
            assert!(safe.contains("red: ") && safe.contains("end"), "{format}: {safe}");
            assert!(export(&["--raw"]).contains('\u{9b}'), "{format}");
        }
    }
    // JSON keeps the text.
    let document = hfs.run(&["export", "-q", &session, "-o", "-"]).ok().stdout;
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["branches"][0]["messages"][0]["parts"][0]["text"], text);
}
