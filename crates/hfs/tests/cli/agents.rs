//! Agents that are programs of their own, through the binary.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::acp_agent::{ScriptedProgram, is_running};
use testkit::cli::{Hfs, Key, Terminal};

use super::{shown, text};

/// The test of this binary that becomes the agent.
pub const AGENT_TEST: &str = "agents::scripted_agent";

#[test]
fn scripted_agent() {
    testkit::acp_agent::run_if_asked();
}

/// The binary in an empty home, with the agent `scripted` in its configuration.
pub fn hfs_with_agent(script: &ScriptedProgram) -> Hfs {
    let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"));
    let (program, arguments) = script.command(AGENT_TEST);
    let agents = json!({"scripted": {"command": program.to_str().unwrap(), "args": arguments, "env": ["AGENT_TOKEN"]}});
    fs::create_dir_all(hfs.hfs_home()).unwrap();
    fs::write(hfs.hfs_home().join("config.yaml"), format!("agents: {agents}\n")).unwrap();
    hfs.env("AGENT_TOKEN", "at-7fk2mQ-notforthestore")
}

pub fn chunk(text: &str) -> Value {
    json!({"update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}})
}

/// An agent that asks whether it may run a command, runs it, and says so.
fn asking() -> Value {
    let call = json!({"toolCallId": "call-1", "title": "Run the tests", "kind": "execute", "rawInput": {"command": "cargo test"}});
    let done = json!({"update": {"sessionUpdate": "tool_call_update", "toolCallId": "call-1", "status": "completed", "rawOutput": "42 passed"}});
    let refused = json!({"update": {"sessionUpdate": "tool_call_update", "toolCallId": "call-1", "status": "failed", "rawOutput": "refused"}});
    json!({
        "capabilities": {"loadSession": true},
        "session/prompt": [[
            chunk("I run the tests."),
            {"ask": {"toolCall": call}, "allowed": [done, chunk("All pass.")], "rejected": [refused, chunk("Then not.")]},
        ]],
    })
}

fn roles(document: &Value) -> Vec<&str> {
    document["messages"].as_array().unwrap().iter().map(|message| message["role"].as_str().unwrap()).collect()
}

pub fn events_of(document: &Value, kind: &str) -> Vec<Value> {
    let events =
        document["run"]["events"].as_array().or(document["events"].as_array()).cloned().unwrap_or_default();
    events.into_iter().filter(|event| event["type"] == kind).collect()
}

#[track_caller]
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_turn_of_an_agent_is_saved_as_messages_and_continued() {
    let script = ScriptedProgram::new(&asking());
    let hfs = hfs_with_agent(&script);
    let arguments = ["chat", "--agent", "scripted", "--allow", "read,execute", "Test it", "--json"];
    let chat = hfs.run(&arguments).ok().json();
    assert_eq!(roles(&chat), ["assistant", "tool", "assistant"]);
    assert_eq!(text(&chat["message"]), "All pass.");
    assert_eq!(chat["messages"][0]["parts"][1]["input"]["command"], "cargo test");
    assert_eq!(chat["messages"][1]["parts"][0]["output"], "42 passed");
    let session = shown(&hfs, "@");
    assert_eq!(roles(&session), ["user", "assistant", "tool", "assistant"]);
    let found = hfs.run(&["search", "42 passed", "--json"]).ok().json();
    assert_eq!(found["total"], 1);
    let _ = hfs.run(&["chat", "-c", "--agent", "scripted", "--allow", "all", "Again"]).ok();
    let loaded = script.received("session/load");
    assert_eq!((loaded.len(), &loaded[0]["params"]["sessionId"]), (1, &json!("session-1")));
    assert_eq!(shown(&hfs, "@")["messages"].as_array().unwrap().len(), 8);
    assert_eq!(script.received("session/new").len(), 1);
    let plan = hfs.run(&["rewind", "@", "seq:4", "--dry-run", "--json"]).ok().json();
    let nothing = json!({"files": [], "commands": []});
    assert_eq!(
        plan["not_taken_back"],
        json!({"files": [], "commands": ["cargo test"], "uncertain": nothing})
    );
}

#[test]
fn a_decision_is_found_by_the_words_of_the_command_and_by_the_decision() {
    let script = ScriptedProgram::new(&asking());
    let hfs = hfs_with_agent(&script);
    let _ = hfs.run(&["chat", "--agent", "scripted", "--allow", "read", "Test it"]).ok();
    let _ = hfs.run(&["chat", "--agent", "scripted", "--allow", "all", "Test it"]).ok();
    for (words, decision) in [
        ("permission refused", "refused"),
        ("refused cargo test", "refused"),
        ("permission allowed cargo test", "allowed"),
    ] {
        let found = hfs.run(&["search", words, "--json"]).ok().json();
        let hits = found["hits"].as_array().unwrap();
        assert!(hits.len() == 1 && hits[0].to_string().contains(decision), "{words}: {found}");
    }
    let shown = hfs.run(&["session", "show", "@"]).ok().stdout;
    assert!(shown.contains("permission allowed by an option of the command"), "{shown}");
}

#[test]
fn without_a_terminal_and_without_an_option_the_answer_is_no() {
    let script = ScriptedProgram::new(&asking());
    let hfs = hfs_with_agent(&script);
    let chat = hfs.run(&["chat", "--agent", "scripted", "--allow", "read", "Test it", "--json"]).ok().json();
    assert_eq!(text(&chat["message"]), "Then not.");
    let decided = events_of(&chat, "permission.decided");
    assert_eq!((&decided[0]["allowed"], &decided[0]["by"]), (&json!(false), &json!("no_terminal")), "{chat}");
    // What was refused was not run.
    let plan = hfs.run(&["rewind", "@", "seq:1", "--dry-run", "--json"]).ok().json();
    let nothing = json!({"files": [], "commands": []});
    assert_eq!(plan["not_taken_back"], json!({"files": [], "commands": [], "uncertain": nothing}));
    let refused = hfs.run(&["chat", "--agent", "scripted", "--allow", "everything", "x"]).fails_with(2);
    assert!(refused.stderr.contains("not a kind of action"), "{}", refused.stderr);
}

#[test]
fn an_always_on_the_terminal_is_remembered_listed_and_revocable() {
    let script = ScriptedProgram::new(&asking());
    let hfs = hfs_with_agent(&script);
    let terminal = hfs.command(&["chat", "--agent", "scripted", "Test it"]).in_terminal(30, 100);
    let screen = terminal.wait_for("allow?").contents();
    assert!(screen.contains("scripted asks to run a command: Run the tests"), "{screen}");
    assert!(screen.contains("$ cargo test") && screen.contains("always here"), "{screen}");
    terminal.type_text("a");
    terminal.press(Key::Enter);
    assert!(terminal.wait_for_end().contents().contains("All pass."));
    let remembered = hfs.run(&["chat", "--agent", "scripted", "Again", "--json"]).ok().json();
    assert_eq!(text(&remembered["message"]), "All pass.");
    let listed = hfs.run(&["permissions", "list", "--json"]).ok().json();
    let rule = &listed["permissions"][0];
    assert_eq!((&rule["agent"], &rule["command"]), (&json!("scripted"), &json!("cargo test")));
    let _ = hfs.run(&["permissions", "revoke", "1"]).ok();
    let again = hfs.run(&["chat", "--agent", "scripted", "Again", "--json"]).ok().json();
    assert_eq!(text(&again["message"]), "Then not.");
    let _ = hfs.run(&["permissions", "revoke", "1"]).fails_with(3);
}

#[test]
fn what_was_typed_before_a_question_does_not_answer_it() {
    let mut script = asking();
    script["session/prompt"][0].as_array_mut().unwrap().insert(1, json!({"sleep": 1000}));
    let script = ScriptedProgram::new(&script);
    let hfs = hfs_with_agent(&script);
    let terminal = hfs.command(&["chat", "--agent", "scripted", "Test it"]).in_terminal(30, 100);
    terminal.wait_for("I run the tests.");
    terminal.type_text("a");
    terminal.press(Key::Enter);
    terminal.wait_for("allow?");
    terminal.type_text("n");
    terminal.press(Key::Enter);
    assert!(terminal.wait_for_end().contents().contains("Then not."));
    assert_eq!(hfs.run(&["permissions", "list", "--json"]).ok().json()["permissions"], json!([]));
}

#[test]
fn ctrl_c_at_a_question_ends_the_turn_and_keeps_what_was_said() {
    let script = ScriptedProgram::new(&asking());
    let hfs = hfs_with_agent(&script);
    let terminal = hfs.command(&["chat", "--agent", "scripted", "Test it"]).in_terminal(30, 100);
    terminal.wait_for("allow?");
    terminal.press(Key::Ctrl('c'));
    terminal.wait_for_exit();
    let session = shown(&hfs, "@");
    let messages = session["messages"].as_array().unwrap();
    assert_eq!(text(&messages[1]), "I run the tests.");
    assert_eq!(messages.last().unwrap()["status"], "interrupted");
    wait_until("the agent has ended", || !script.processes().into_iter().any(is_running));
}

#[test]
fn a_project_can_neither_choose_a_program_nor_allow_anything() {
    let script = ScriptedProgram::new(&asking());
    let hfs = hfs_with_agent(&script);
    let folder = hfs.project().join(".hfs");
    fs::create_dir(&folder).unwrap();
    let config = "agent: scripted\nagents: {scripted: {command: /bin/false}, evil: {command: /bin/sh}}\nmcp_servers: {evil: {command: /bin/sh}}\n";
    fs::write(folder.join("config.yaml"), config).unwrap();
    fs::write(folder.join("permissions.yaml"), "version: 1\nrules: []\n").unwrap();
    let agents = hfs.run(&["--trust", "agents", "--json"]).ok();
    assert!(!agents.stdout.contains("evil") && !agents.stdout.contains("/bin/false"), "{}", agents.stdout);
    let chat = hfs.run(&["chat", "hello"]).ok();
    for ignored in ["agents is ignored", "mcp_servers is ignored", "a project may not choose commands"] {
        assert!(chat.stderr.contains(ignored), "{ignored}: {}", chat.stderr);
    }
    // The offline agent answers, and says who could.
    assert!(
        chat.stderr.contains("scripted is installed; let it answer: hfs chat --agent scripted"),
        "{}",
        chat.stderr
    );
    assert_eq!(script.received("initialize").len(), 1, "{:?}", script.log());
}

#[test]
fn agents_are_listed_with_what_they_can_do_and_how_to_get_the_others() {
    let script = ScriptedProgram::new(&asking());
    let hfs = hfs_with_agent(&script).env("PATH", "/usr/bin:/bin");
    let listed = hfs.run(&["agents", "--json"]).ok().json();
    let agents = listed["agents"].as_array().unwrap();
    let of = |name: &str| agents.iter().find(|agent| agent["name"] == name).unwrap();
    let scripted = of("scripted");
    assert_eq!((&scripted["installed"], &scripted["version"]), (&json!(true), &json!("1.0.0")));
    assert_eq!(scripted["capabilities"], json!({"load": true, "list": false, "resume": false}));
    let claude = of("claude");
    assert_eq!((&claude["installed"], &claude["version"]), (&json!(false), &Value::Null));
    assert!(claude["hint"].as_str().unwrap().contains("npm install -g"), "{claude}");
    assert_eq!(claude["transcript"], "claude-code");
    let names: Vec<&str> = agents.iter().map(|agent| agent["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["claude", "codex", "gemini", "goose", "opencode", "pi", "qwen", "scripted"]);
    let missing = hfs.run(&["chat", "--agent", "claude", "hi"]).fails_with(3);
    assert!(missing.stderr.contains("npm install -g"), "{}", missing.stderr);
    let unknown = hfs.run(&["chat", "--agent", "unknown", "hi"]).fails_with(2);
    assert!(unknown.stderr.contains("there is no agent"), "{}", unknown.stderr);
    let _ = hfs.run(&["config", "set", "agent", "unknown"]).fails_with(3);
    let _ = hfs.run(&["config", "set", "agent", "scripted"]).ok();
    assert_eq!(
        text(&hfs.run(&["chat", "--allow", "all", "Go", "--json"]).ok().json()["message"]),
        "All pass."
    );
}

#[test]
fn a_check_that_takes_long_says_what_it_waits_for() {
    let mut script = asking();
    script["session/new"] = json!([[{"sleep": 2_500}]]);
    let script = ScriptedProgram::new(&script);
    let hfs = hfs_with_agent(&script);
    let usable = hfs.run(&["agents", "check", "scripted"]).ok();
    let is_said =
        usable.stderr.contains("waiting for scripted") && usable.stderr.contains("agent-scripted.log");
    assert!(is_said && usable.stderr.contains("30 s"), "{}", usable.stderr);
    assert!(usable.stdout.contains("starts and opens a session"), "{}", usable.stdout);
}

#[test]
fn a_check_says_what_is_wrong_in_words() {
    let script = ScriptedProgram::new(&asking());
    let hfs = hfs_with_agent(&script);
    let usable = hfs.run(&["agents", "check", "scripted"]).ok();
    assert!(usable.stdout.contains("starts and opens a session; it loads its sessions"), "{}", usable.stdout);
    script.change(&json!({
        "logins": [{"id": "k", "name": "Key", "description": "set SOME_KEY"}],
        "session/new": [[{"error": {"code": -32000, "message": "Authentication required"}}]],
    }));
    let login = hfs.run(&["agents", "check", "scripted"]).fails_with(5);
    assert!(
        login.stderr.contains("Authentication required") && login.stderr.contains("set SOME_KEY"),
        "{}",
        login.stderr
    );
    let prompt = hfs.run(&["chat", "--agent", "scripted", "hi"]).fails_with(5);
    assert!(prompt.stderr.contains("hfs agents check scripted"), "{}", prompt.stderr);
    script.change(&json!({"initialize": [[{"stderr": "cannot find module"}, {"sleep": 100}, {"exit": 1}]]}));
    let broken = hfs.run(&["agents", "check", "scripted", "--json"]).fails_with(8).json_error();
    let message = broken["message"].as_str().unwrap();
    assert!(message.contains("exit code 1") && message.contains("cannot find module"), "{message}");
    script.change(&json!({"version": 7}));
    let version = hfs.run(&["agents", "check", "scripted"]).fails_with(9);
    assert!(version.stderr.contains("version 7"), "{}", version.stderr);
}

#[test]
fn kill_9_during_a_tool_call_keeps_the_call_and_leaves_no_process() {
    let call = json!({"update": {"sessionUpdate": "tool_call", "toolCallId": "call-1", "title": "deploy", "kind": "execute",
        "status": "in_progress", "rawInput": {"command": "deploy --now"}}});
    let script = ScriptedProgram::new(&json!({"session/prompt": [[
        {"spawn": true}, chunk("Deploying."), call, {"ask": {"toolCall": {"toolCallId": "call-1"}}, "allowed": [{"hang": true}]},
    ]]}));
    let hfs = hfs_with_agent(&script);
    let running = hfs.command(&["chat", "--agent", "scripted", "--allow", "all", "Deploy"]).spawn();
    // The answer is sent only after the call is durable.
    script.wait_for("answer", |entry| entry["received"]["result"]["outcome"]["optionId"] == "once");
    let _ = running.kill();
    let session = shown(&hfs, "@");
    let reply = &session["messages"][1];
    assert_eq!((text(reply), &reply["status"]), ("Deploying.", &json!("interrupted")));
    assert_eq!(reply["parts"][1]["input"]["command"], "deploy --now");
    assert_eq!(script.processes().len(), 2);
    wait_until("all processes have ended", || !script.processes().into_iter().any(is_running));
    script.change(&json!({"session/prompt": [[chunk("Here again.")]]}));
    let next = hfs.run(&["chat", "-c", "--agent", "scripted", "Still there?", "--json"]).ok().json();
    assert_eq!(text(&next["message"]), "Here again.");
    // The agent gets what was said. The call without a result is left out.
    let prompt = script.received("session/prompt").pop().unwrap()["params"]["prompt"].to_string();
    assert!(prompt.contains("Deploying.") && !prompt.contains("deploy --now"), "{prompt}");
}

#[test]
fn secrets_of_the_agents_environment_are_not_stored() {
    let secret = "at-7fk2mQ-notforthestore";
    let script = ScriptedProgram::new(&json!({"session/prompt": [[
        {"stderr": format!("token {secret}")}, chunk(&format!("The token is {secret}.")),
    ]]}));
    let hfs = hfs_with_agent(&script);
    let chat = hfs.run(&["chat", "--agent", "scripted", "env"]).ok();
    assert!(chat.stdout.contains("[redacted: AGENT_TOKEN]"), "{}", chat.stdout);
    let mut folders = vec![hfs.hfs_home()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                let bytes = fs::read(entry.path()).unwrap();
                let found = bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
                assert!(!found, "{}", entry.path().display());
            }
        }
    }
}

/// The binary with an agent that reads Claude Code's transcripts, in a home directory of its own.
fn hfs_with_claude(script: &ScriptedProgram) -> Hfs {
    let hfs = hfs_with_agent(script);
    let (program, arguments) = script.command(AGENT_TEST);
    let agents = json!({"claude": {"command": program.to_str().unwrap(), "args": arguments}});
    fs::write(hfs.hfs_home().join("config.yaml"), format!("agents: {agents}\n")).unwrap();
    hfs
}

/// The transcripts of Claude Code in the user's home directory.
fn transcripts(hfs: &Hfs) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let projects = fs::read_dir(hfs.home().join(".claude/projects")).into_iter().flatten().flatten();
    for project in projects {
        files.extend(fs::read_dir(project.path()).unwrap().flatten().map(|file| file.path()));
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    files
}

#[test]
fn after_a_rewind_the_agent_reads_the_branch_from_a_transcript_that_hfs_wrote() {
    let turns = |texts: &[&str]| -> Vec<Value> { texts.iter().map(|text| json!([chunk(text)])).collect() };
    let mut script = json!({"capabilities": {"loadSession": true}});
    script["session/prompt"] = turns(&["answer one", "answer two"]).into();
    let script_of =
        |texts: &[&str]| json!({"capabilities": {"loadSession": true}, "session/prompt": turns(texts)});
    let script = ScriptedProgram::new(&script);
    let hfs = hfs_with_claude(&script);
    let say = |arguments: &[&str], text: &str| {
        let arguments = [&["chat", "--agent", "claude", "--allow", "all"], arguments, &[text]].concat();
        hfs.run(&arguments).ok()
    };
    let _ = say(&[], "question one");
    script.change(&script_of(&["answer two"]));
    let _ = say(&["-c"], "question two");
    assert!(transcripts(&hfs).is_empty(), "the agent continues its own session");
    let _ = hfs.run(&["rewind", "@", "seq:2"]).ok();
    script.change(&script_of(&["another two"]));
    let said = say(&["-c"], "question three");
    assert!(said.stderr.contains("has read the conversation so far from a transcript"), "{}", said.stderr);
    let written = transcripts(&hfs);
    assert_eq!(written.len(), 1);
    let id = written[0].file_stem().unwrap().to_str().unwrap().to_owned();
    assert_eq!(script.received("session/load").last().unwrap()["params"]["sessionId"], *id);
    let text = fs::read_to_string(&written[0]).unwrap();
    assert!(text.contains("question one") && text.contains("answer one") && !text.contains("two"), "{text}");
    let prompt = script.received("session/prompt").pop().unwrap()["params"]["prompt"].to_string();
    assert!(prompt.contains("question three") && !prompt.contains("question one"), "{prompt}");

    // The agent continues this transcript. An import of it adds nothing, and what the user adds in the agent itself is added to
    // the same session.
    let record = |uuid: u32, parent: &str, role: &str, text: &str| {
        let uuid = format!("00000000-0000-4000-8000-{uuid:012}");
        let message = json!({"role": role, "content": [{"type": "text", "text": text}], "id": format!("msg_{uuid}"), "model": "m"});
        let record = json!({"parentUuid": parent, "isSidechain": false, "type": role, "uuid": uuid, "sessionId": id,
            "timestamp": "2026-11-30T10:00:00.000Z", "cwd": "/", "version": "2.1.197", "message": message});
        (uuid, record)
    };
    let newest = text
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str::<Value>(line).unwrap()["uuid"].as_str().map(str::to_owned));
    let (third, question) = record(1, &newest.unwrap(), "user", "question three");
    let (fourth, answer) = record(2, &third, "assistant", "another two");
    let append = |records: &[&Value]| {
        let mut text = fs::read_to_string(&written[0]).unwrap();
        records.iter().for_each(|record| text.push_str(&format!("{record}\n")));
        fs::write(&written[0], text).unwrap();
    };
    append(&[&question, &answer]);
    let folder = hfs.home().join(".claude");
    let imported = hfs.run(&["import", folder.to_str().unwrap(), "--json"]).ok().json();
    assert_eq!(imported["imported"], json!([]), "{imported}");
    assert_eq!(hfs.run(&["session", "list", "--json"]).ok().json()["sessions"].as_array().unwrap().len(), 1);
    // The transcript is needed, as long as the branch continues from it.
    let cleaned = hfs.run(&["agents", "clean", "--yes", "--json"]).ok().json();
    assert_eq!(
        (cleaned["removed"].as_array().unwrap().len(), cleaned["kept"].as_array().unwrap().len()),
        (0, 1)
    );
    let (fifth, elsewhere) = record(3, &fourth, "user", "said in the agent");
    let (_, reply) = record(4, &fifth, "assistant", "answered in the agent");
    append(&[&elsewhere, &reply]);
    let imported = hfs.run(&["import", folder.to_str().unwrap(), "--json"]).ok().json();
    assert_eq!(imported["imported"][0]["messages"], 2, "{imported}");
    let session = shown(&hfs, "@");
    let texts: Vec<&str> = session["messages"].as_array().unwrap().iter().map(super::text).collect();
    assert_eq!(
        texts,
        [
            "question one",
            "answer one",
            "question three",
            "another two",
            "said in the agent",
            "answered in the agent"
        ]
    );

    // Another transcript is written, because the branch has more than the agent's session; then the first one can go.
    script.change(&script_of(&["last"]));
    let _ = say(&["-c"], "question four");
    assert_eq!(transcripts(&hfs).len(), 2);
    let refused = hfs.run(&["agents", "clean"]).fails_with(5);
    assert!(refused.stderr.contains("--yes") && transcripts(&hfs).len() == 2, "{}", refused.stderr);
    let _ = hfs.run(&["agents", "clean", "--yes"]).ok();
    let left = transcripts(&hfs);
    assert!(left.len() == 1 && left != written, "{left:?}");
    // Deleting the session permanently deletes the copies that hfs made.
    let kept_by_the_agent = fs::read_to_string(&left[0]).unwrap();
    let purged = hfs.run(&["session", "delete", "@", "--purge"]).ok();
    assert!(transcripts(&hfs).is_empty());
    // The agent's own sessions are not those of hfs, and the message says so.
    let is_said =
        purged.stderr.contains("claude took part in it") && purged.stderr.contains("hfs does not remove");
    assert!(is_said, "{}", purged.stderr);
    // What the agent keeps of the session does not bring it back.
    fs::write(&left[0], kept_by_the_agent).unwrap();
    let imported = hfs.run(&["import", folder.to_str().unwrap(), "--json"]).ok().json();
    assert_eq!(imported["imported"], json!([]), "{imported}");
}

/// A transcript of a turn that hfs has recorded, as an agent writes it, with what its protocol does not carry.
struct OwnTranscript {
    /// Name of the file, which contains the id of the session.
    file: &'static str,
    id: &'static str,
    text: String,
    /// What the agent calls the tool.
    tool: &'static str,
    signature: Option<&'static str>,
    context: &'static [&'static str],
}

fn own_transcripts() -> [OwnTranscript; 3] {
    const CLAUDE: &str = "11111111-2222-4333-8444-555555555555";
    const CODEX: &str = "019c1a00-0000-7000-8000-000000000001";
    const ENVIRONMENT: &str = "<environment_context>here</environment_context>";
    let lines = |records: &[Value]| records.iter().map(|record| format!("{record}\n")).collect::<String>();
    let mut parent = Value::Null;
    let mut claude = |number: u32, role: &str, content: Value, is_meta: bool| {
        let uuid = format!("00000000-0000-4000-8000-{number:012}");
        let message = json!({"role": role, "content": content, "id": format!("msg_{number}"), "model": "m"});
        let record = json!({"parentUuid": parent, "isSidechain": false, "type": role, "uuid": uuid, "sessionId": CLAUDE,
            "timestamp": "2026-11-30T10:00:00.000Z", "cwd": "/", "version": "2.1.197", "isMeta": is_meta, "message": message});
        parent = uuid.into();
        record
    };
    let claude = lines(&[
        claude(1, "user", json!("be brief"), true),
        claude(2, "user", json!("Test it"), false),
        claude(
            3,
            "assistant",
            json!([{"type": "thinking", "thinking": "Hm.", "signature": "signed"}]),
            false,
        ),
        claude(4, "assistant", json!([{"type": "text", "text": "I run the tests."}]), false),
        claude(
            5,
            "assistant",
            json!([{"type": "tool_use", "id": "call-1", "name": "Bash", "input": {"command": "cargo test"}}]),
            false,
        ),
        claude(
            6,
            "user",
            json!([{"type": "tool_result", "tool_use_id": "call-1", "content": "42 passed"}]),
            false,
        ),
        claude(7, "assistant", json!([{"type": "text", "text": "All pass."}]), false),
    ]);
    let codex = |kind: &str, payload: Value| json!({"timestamp": "2026-11-30T10:00:00.000Z", "type": kind, "payload": payload});
    let said = |role: &str, kind: &str, text: &str| {
        codex(
            "response_item",
            json!({"type": "message", "role": role, "content": [{"type": kind, "text": text}]}),
        )
    };
    let codex = lines(&[
        codex(
            "session_meta",
            json!({"id": CODEX, "timestamp": "2026-11-30T10:00:00.000Z", "cwd": "/", "cli_version": "0.1"}),
        ),
        said("user", "input_text", ENVIRONMENT),
        said("user", "input_text", "Test it"),
        codex(
            "response_item",
            json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "sealed"}),
        ),
        said("assistant", "output_text", "I run the tests."),
        codex(
            "response_item",
            json!({"type": "function_call", "name": "shell_command", "arguments": "{\"command\":\"cargo test\"}", "call_id": "call-1"}),
        ),
        codex(
            "response_item",
            json!({"type": "function_call_output", "call_id": "call-1", "output": "42 passed"}),
        ),
        said("assistant", "output_text", "All pass."),
    ]);
    let message = |id: &str, role: &str, parts: Value| json!({"info": {"id": id, "role": role, "sessionID": "ses_one", "time": {"created": 1_764_500_000_000_u64}}, "parts": parts});
    let opencode = json!({
        "info": {"id": "ses_one", "title": "Tests", "directory": "/", "time": {"created": 1_764_500_000_000_u64}},
        "messages": [
            message("msg_0", "user", json!([{"type": "text", "text": "be brief", "synthetic": true}])),
            message("msg_1", "user", json!([{"type": "text", "text": "Test it"}])),
            message("msg_2", "assistant", json!([
                {"type": "reasoning", "text": "Hm."},
                {"type": "text", "text": "I run the tests."},
                {"type": "tool", "tool": "bash", "callID": "call-1",
                    "state": {"status": "completed", "input": {"command": "cargo test"}, "output": "42 passed"}},
            ])),
            message("msg_3", "assistant", json!([{"type": "text", "text": "All pass."}])),
        ],
    });
    [
        OwnTranscript {
            file: "11111111-2222-4333-8444-555555555555.jsonl",
            id: CLAUDE,
            text: claude,
            tool: "Bash",
            signature: Some("signed"),
            context: &["be brief"],
        },
        OwnTranscript {
            file: "rollout-2026-11-30T10-00-00-019c1a00-0000-7000-8000-000000000001.jsonl",
            id: CODEX,
            text: codex,
            tool: "shell_command",
            signature: Some("sealed"),
            context: &[ENVIRONMENT],
        },
        OwnTranscript {
            file: "ses_one.json",
            id: "ses_one",
            text: opencode.to_string(),
            tool: "bash",
            signature: None,
            context: &["be brief"],
        },
    ]
}

#[test]
fn an_import_of_the_agents_own_transcript_adds_only_what_its_protocol_does_not_carry() {
    for transcript in own_transcripts() {
        let mut script = asking();
        let thought =
            json!({"sessionUpdate": "agent_thought_chunk", "content": {"type": "text", "text": "Hm."}});
        script["session/prompt"][0].as_array_mut().unwrap().insert(0, json!({"update": thought}));
        let script = ScriptedProgram::new(&script);
        let hfs = hfs_with_agent(&script);
        let _ = hfs.run(&["chat", "--agent", "scripted", "--allow", "all", "Test it"]).ok();
        // The agent's own id of its session.
        let list = hfs.hfs_home().join("agent-sessions.jsonl");
        fs::write(&list, fs::read_to_string(&list).unwrap().replace("session-1", transcript.id)).unwrap();
        let path = hfs.project().join(transcript.file);
        fs::write(&path, &transcript.text).unwrap();
        let document = || -> Value {
            serde_json::from_str(&hfs.run(&["export", "-q", "@", "-o", "-"]).ok().stdout).unwrap()
        };
        let before = document();
        let import = || hfs.run(&["import", "--full", path.to_str().unwrap(), "--json"]).ok().json();
        let report = import();
        let imported = &report["imported"][0];
        assert_eq!(
            (&imported["messages"], &imported["updated_messages"]),
            (&json!(0), &json!(2)),
            "{report}"
        );
        assert_eq!(
            hfs.run(&["session", "list", "--json"]).ok().json()["sessions"].as_array().unwrap().len(),
            1
        );
        let after = document();
        // With these fields put in place, nothing else differs.
        let mut expected = before["branches"][0]["messages"].clone();
        let given = json!(transcript.context);
        let mut extra = expected[0]["extra"].as_object().cloned().unwrap_or_default();
        extra.insert("injected_context".into(), given);
        expected[0]["extra"] = extra.into();
        assert_eq!(expected[1]["parts"][0]["type"], "thinking", "{expected}");
        if let Some(signature) = transcript.signature {
            expected[1]["parts"][0]["signature"] = signature.into();
        }
        assert_eq!(expected[1]["parts"][2]["name"], "execute", "{expected}");
        expected[1]["parts"][2]["name"] = transcript.tool.into();
        assert_eq!(after["branches"][0]["messages"], expected);
        // A second import finds nothing new, and the agent continues its own session.
        assert_eq!(import()["imported"], json!([]));
        let _ = hfs.run(&["chat", "-c", "--agent", "scripted", "--allow", "all", "Again"]).ok();
        assert_eq!(script.received("session/load")[0]["params"]["sessionId"], "session-1");
        assert_eq!(script.received("session/new").len(), 1);
    }
}

#[test]
fn a_session_is_continued_by_the_agent_that_answered_last_or_that_it_came_from() {
    let script = ScriptedProgram::new(&json!({"session/prompt": [[chunk("From the agent.")]]}));
    let hfs = hfs_with_claude(&script);
    let _ = hfs.run(&["chat", "--agent", "claude", "first"]).ok();
    let second = hfs.run(&["chat", "-c", "second"]).ok();
    assert_eq!(second.stdout.trim(), "From the agent.");
    assert!(second.stderr.contains("claude continues this session"), "{}", second.stderr);
    // What the user names for this run comes first.
    let other = hfs.run(&["chat", "-c", "--agent", "recall", "third"]).ok();
    assert!(!other.stdout.contains("From the agent."), "{}", other.stdout);
    let other = hfs.run(&["chat", "-c", "fourth"]).ok();
    assert!(!other.stdout.contains("From the agent."), "recall has answered last: {}", other.stdout);
    let transcript = hfs.home().join("imported.jsonl");
    let record = |uuid: &str, parent: Value, role: &str, text: &str| {
        json!({"parentUuid": parent, "isSidechain": false, "type": role, "uuid": uuid, "sessionId": "7f6b1d7e-0000-4000-8000-000000000001",
            "timestamp": "2026-11-30T10:00:00.000Z", "cwd": "/", "version": "2.1.197",
            "message": {"role": role, "content": [{"type": "text", "text": text}], "id": format!("msg_{uuid}"), "model": "m"}})
    };
    let question = record("00000000-0000-4000-8000-000000000001", Value::Null, "user", "imported question");
    let answer = record(
        "00000000-0000-4000-8000-000000000002",
        question["uuid"].clone(),
        "assistant",
        "imported answer",
    );
    fs::write(&transcript, format!("{question}\n{answer}\n")).unwrap();
    let imported = hfs.run(&["import", transcript.to_str().unwrap(), "--json"]).ok().json();
    let session = imported["imported"][0]["session"].as_str().unwrap().to_owned();
    let continued = hfs.run(&["chat", "-s", &session, "and now?"]).ok();
    assert_eq!(continued.stdout.trim(), "From the agent.");
    // Also before its first reply.
    let _ = hfs.run(&["rewind", &session, "seq:1"]).ok();
    let continued = hfs.run(&["chat", "-s", &session, "otherwise?"]).ok();
    assert_eq!(continued.stdout.trim(), "From the agent.", "{}", continued.describe());
    let _ = hfs.run(&["branch", "switch", &session, "main"]).ok();
    let terminal = hfs.command(&["resume", &session]).in_terminal(24, 80);
    terminal.wait_for("imported answer");
    terminal.wait_for("claude answers from now on");
    quit(terminal);
}

/// The app in a terminal, before its first message.
fn app(hfs: &Hfs, arguments: &[&str], size: (u16, u16)) -> Terminal {
    let terminal = hfs.command(arguments).in_terminal(size.0, size.1);
    terminal.wait_until("the app", |screen| {
        screen.alternate_screen() && screen.contents().contains("nothing to save")
    });
    terminal
}

fn send(terminal: &Terminal, line: &str) {
    terminal.paste(line);
    terminal.wait_for(&format!("❯ {line}"));
    terminal.press(Key::Enter);
}

fn quit(terminal: Terminal) {
    terminal.press(Key::Ctrl('c'));
    terminal.wait_for("press Ctrl+C again to quit");
    terminal.press(Key::Ctrl('c'));
    assert!(terminal.wait_for_exit().success());
}

#[test]
fn the_app_asks_what_an_agent_may_do_and_takes_no_key_of_the_next_message() {
    let script = ScriptedProgram::new(&asking());
    let hfs = hfs_with_agent(&script);
    for size in [(12, 40), (24, 80)] {
        let terminal = app(&hfs, &["--agent", "scripted"], size);
        send(&terminal, "Test it");
        let screen = terminal.wait_for("Esc stop the turn").contents();
        assert!(screen.contains("scripted asks to run a command"), "{screen}");
        assert!(screen.contains("cargo test"), "{screen}");
        // What is typed now is the next message, also its letters that would be answers.
        terminal.type_text("then say why");
        terminal.press(Key::Enter);
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(script.received("session/prompt").len() % 2, 1, "nothing was answered");
        let is_first = size.0 == 12;
        let downs = if is_first { 1 } else { 2 };
        (0..downs).for_each(|_| terminal.press(Key::Down));
        terminal.press(Key::Enter);
        terminal
            .wait_until("the second question", |_| script.received("session/prompt").len().is_multiple_of(2));
        if is_first {
            // The queued message was sent, and asks again.
            terminal.wait_for("Esc stop the turn");
            std::thread::sleep(Duration::from_millis(400));
            terminal.type_text("n");
            terminal.wait_for("Then not.");
        } else {
            terminal
                .wait_until("the second turn", |screen| screen.contents().matches("All pass.").count() == 2);
        }
        quit(terminal);
        assert_eq!(text(&shown(&hfs, "@")["messages"][4]), "then say why");
    }
    let listed = hfs.run(&["permissions", "list", "--json"]).ok().json();
    let rules = listed["permissions"].as_array().unwrap();
    assert_eq!((rules.len(), &rules[0]["command"]), (1, &json!("cargo test")), "{listed}");
}

#[test]
fn esc_at_a_question_in_the_app_cancels_it_and_the_session_continues() {
    let script = ScriptedProgram::new(&asking());
    let hfs = hfs_with_agent(&script);
    let terminal = app(&hfs, &["--agent", "scripted"], (24, 80));
    send(&terminal, "Test it");
    terminal.wait_for("Esc stop the turn");
    terminal.press(Key::Escape);
    script.wait_for("answer", |entry| entry["received"]["result"]["outcome"]["outcome"] == "cancelled");
    terminal.wait_for("stopped; the part of the reply");
    send(&terminal, "Again");
    terminal.wait_for("Esc stop the turn");
    std::thread::sleep(Duration::from_millis(400));
    terminal.type_text("y");
    terminal.wait_for("All pass.");
    quit(terminal);
}

#[test]
fn a_user_who_has_configured_nothing_chooses_who_answers_the_first_message() {
    let script = ScriptedProgram::new(&asking());
    let hfs = hfs_with_agent(&script).env("PATH", "/usr/bin:/bin");
    let terminal = app(&hfs, &[], (24, 80));
    terminal.wait_for("your first message asks who answers");
    send(&terminal, "Test it");
    let screen = terminal.wait_for("Who should answer?").contents();
    assert!(screen.contains("scripted") && screen.contains("recall"), "{screen}");
    assert!(script.log().is_empty(), "nothing is started without a choice");
    terminal.press(Key::Enter);
    terminal.wait_for("Esc stop the turn");
    std::thread::sleep(Duration::from_millis(400));
    terminal.type_text("y");
    terminal.wait_for("All pass.");
    quit(terminal);
    let config = hfs.run(&["config", "get", "agent"]).ok();
    assert!(config.stdout.contains("scripted"), "{}", config.stdout);
}

#[test]
fn a_warning_of_the_start_is_shown_in_the_app() {
    let script = ScriptedProgram::new(&asking());
    let hfs = hfs_with_agent(&script);
    let _ = hfs.run(&["config", "set", "model", "openai/some-model"]).ok();
    let terminal = app(&hfs, &["--agent", "scripted"], (24, 100));
    terminal.wait_until("the warning", |screen| {
        screen.alternate_screen() && screen.contents().contains("the setting model has no effect")
    });
    quit(terminal);
}

#[test]
fn another_agent_answers_in_mid_session_and_gets_the_conversation() {
    let script = ScriptedProgram::new(&json!({"session/prompt": [[chunk("From the agent.")]]}));
    let hfs = hfs_with_agent(&script);
    let terminal = app(&hfs, &["--agent", "recall"], (24, 100));
    send(&terminal, "What is known?");
    terminal.wait_for("✓ saved");
    send(&terminal, "/agent scripted");
    terminal.wait_for("it gets the conversation so far");
    send(&terminal, "Go on");
    terminal.wait_for("From the agent.");
    terminal.wait_for("as text");
    let prompt = script.received("session/prompt").pop().unwrap()["params"]["prompt"].to_string();
    assert!(prompt.contains("What is known?") && prompt.contains("Go on"), "{prompt}");
    terminal.paste("/agent unknown");
    terminal.press(Key::Enter);
    terminal.wait_for("there is no agent");
    quit(terminal);
}

#[test]
fn an_agent_answers_in_the_app_and_esc_cancels_its_turn() {
    let mut script = asking();
    let call = json!({"update": {"sessionUpdate": "tool_call", "toolCallId": "call-2", "title": "deploy", "kind": "execute",
        "status": "in_progress", "rawInput": {"command": "deploy --now"}}});
    let turns = script["session/prompt"].as_array_mut().unwrap();
    turns.push(json!([chunk("Deploying."), call, {"wait_for_cancel": true}]));
    turns.push(json!([chunk("Here again.")]));
    let script = ScriptedProgram::new(&script);
    let hfs = hfs_with_agent(&script);
    let terminal = app(&hfs, &["--agent", "scripted", "--allow", "execute"], (36, 110));
    send(&terminal, "Test it");
    terminal.wait_for("All pass.");
    terminal.wait_for("42 passed");
    send(&terminal, "Deploy");
    terminal.wait_for("deploy --now");
    terminal.press(Key::Escape);
    script.wait_for("cancel", |entry| entry["received"]["method"] == "session/cancel");
    terminal.wait_for("interrupted");
    send(&terminal, "Continue");
    terminal.wait_for("Here again.");
    assert_eq!(script.received("initialize").len(), 1);
    quit(terminal);
    wait_until("the agent has ended", || !script.processes().into_iter().any(is_running));
    let session = shown(&hfs, "@");
    let texts: Vec<&str> = session["messages"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(
        texts,
        ["Test it", "I run the tests.", "", "All pass.", "Deploy", "Deploying.", "Continue", "Here again."]
    );
}
