//! Claude Code, Codex and opencode themselves, with a fake model on loopback.
//!
//! `cargo xtask agents` installs them into target/agents and runs these tests with `HFS_REAL_AGENTS`. Without it they are
//! skipped. `HFS_REAL_AGENT_REWINDS` is the number of rewinds for each agent.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::cli::{Hfs, Key};

/// Turns of a session that is rewound.
const TURNS: u64 = 20;

/// The folder with the programs of the agents.
fn programs() -> Option<PathBuf> {
    let folder = std::env::var_os("HFS_REAL_AGENTS").map(PathBuf::from);
    let found = folder.filter(|folder| folder.join("claude-agent-acp").exists());
    if found.is_none() {
        println!(
            "skipped: Claude Code, Codex and opencode are not installed; `cargo xtask agents` does that"
        );
    }
    found
}

/// Names that Codex has for its shell.
const SHELLS: [&str; 3] = ["shell_command", "exec_command", "shell"];

/// What the model thinks before each command.
const THOUGHT: &str = "A mark has to be printed.";
const SIGNATURE: &str = "c2lnbmVkIHRoaW5raW5n";

/// A model that answers each question `Q-n` with thinking and a command that prints `T-n`, and then with `A-n`.
struct FakeModel {
    port: u16,
    /// The conversation of each question, as its marks: questions, words before a call, calls with their results, answers.
    asked: Arc<Mutex<Vec<Vec<String>>>>,
}

impl FakeModel {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let log = Arc::clone(&log);
                std::thread::spawn(move || serve(connection, &log));
            }
        });
        Self { port, asked }
    }

    /// The marks that the model was last sent for this question, when it was asked first.
    fn asked(&self, number: u64) -> Vec<String> {
        let question = format!("Q-{number:03}");
        let asked = self.asked.lock().unwrap();
        let found = asked.iter().rev().find(|marks| marks.last() == Some(&question));
        found.cloned().unwrap_or_else(|| panic!("the model was not asked {question}"))
    }
}

/// The marks in a text, in order, each once where it is repeated.
fn marks(text: &str) -> Vec<String> {
    let mut marks: Vec<String> = Vec::new();
    for (start, _) in text.match_indices('-') {
        let Some(mark) = start.checked_sub(1).and_then(|from| text.get(from..start + 4)) else { continue };
        let is_mark = mark.starts_with(['Q', 'W', 'T', 'A']) && mark[2..].chars().all(|c| c.is_ascii_digit());
        if is_mark && marks.last().is_none_or(|last| last != mark) {
            marks.push(mark.to_owned());
        }
    }
    marks
}

fn serve(connection: TcpStream, log: &Mutex<Vec<Vec<String>>>) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut connection = connection;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 {
                return;
            }
            if header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (kind, answer) = answer(&path, &body, log);
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", answer.len());
        if connection
            .write_all(head.as_bytes())
            .and_then(|()| connection.write_all(answer.as_bytes()))
            .is_err()
        {
            return;
        }
    }
}

/// What the model must never be sent: Claude Code answers a turn that ended without an answer, and calls without a result get one.
const FOREIGN: [&str; 3] = ["No response requested", "[Tool call interrupted", "[no result"];

/// What the model does next.
enum Step {
    Call { words: String, command: String },
    Say(String),
}

fn next_step(body: &Value, has_shell: bool, log: &Mutex<Vec<Vec<String>>>) -> Step {
    let conversation = body.get("messages").or(body.get("input")).unwrap_or(&Value::Null).to_string();
    let marks = marks(&conversation);
    let Some(at) = marks.iter().rposition(|mark| mark.starts_with('Q')).filter(|_| has_shell) else {
        return Step::Say("title".into());
    };
    let number = &marks[at][2..];
    // Words that an agent or a transcript adds in the name of the model or of a tool.
    for foreign in FOREIGN {
        assert!(!conversation.contains(foreign), "the model was sent {foreign:?}: {conversation}");
    }
    if marks[at..].contains(&format!("T-{number}")) {
        return Step::Say(format!("A-{number}"));
    }
    log.lock().unwrap().push(marks[..=at].to_vec());
    Step::Call { words: format!("W-{number}"), command: format!("echo T-{number} | tee mark") }
}

fn answer(path: &str, body: &Value, log: &Mutex<Vec<Vec<String>>>) -> (&'static str, String) {
    let event = |name: &str, data: Value| format!("event: {name}\ndata: {data}\n\n");
    let tools: Vec<&str> = body["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| tool["name"].as_str().or(tool["function"]["name"].as_str()))
        .collect();
    let id = format!("{:08x}", fastrand::u32(..));
    if path.contains("count_tokens") {
        return ("application/json", json!({"input_tokens": 10}).to_string());
    }
    if path.starts_with("/v1/messages") {
        let step = next_step(body, tools.contains(&"Bash"), log);
        let (words, call) = match step {
            Step::Call { words, command } => (words, Some(command)),
            Step::Say(words) => (words, None),
        };
        let stop = if call.is_some() { "tool_use" } else { "end_turn" };
        let usage = json!({"input_tokens": 10, "output_tokens": 1});
        if body["stream"] != true {
            let message = json!({"id": format!("msg_{id}"), "type": "message", "role": "assistant", "model": body["model"],
                "content": [{"type": "text", "text": words}], "stop_reason": "end_turn", "stop_sequence": null, "usage": usage});
            return ("application/json", message.to_string());
        }
        let message = json!({"id": format!("msg_{id}"), "type": "message", "role": "assistant", "model": body["model"],
            "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage});
        let block = |index: u64, block: Value, deltas: &[Value]| {
            let start = json!({"type": "content_block_start", "index": index, "content_block": block});
            let mut text = event("content_block_start", start);
            for delta in deltas {
                let delta = json!({"type": "content_block_delta", "index": index, "delta": delta});
                text += &event("content_block_delta", delta);
            }
            text + &event("content_block_stop", json!({"type": "content_block_stop", "index": index}))
        };
        let mut text = event("message_start", json!({"type": "message_start", "message": message}));
        if call.is_some() {
            let thinking = json!({"type": "thinking", "thinking": "", "signature": ""});
            let deltas = [
                json!({"type": "thinking_delta", "thinking": THOUGHT}),
                json!({"type": "signature_delta", "signature": SIGNATURE}),
            ];
            text += &block(0, thinking, &deltas);
        }
        let first = u64::from(call.is_some());
        let said = json!({"type": "text_delta", "text": words});
        text += &block(first, json!({"type": "text", "text": ""}), &[said]);
        if let Some(command) = call {
            let input = json!({"command": command, "description": "Print a mark"}).to_string();
            let call = json!({"type": "tool_use", "id": format!("toolu_{id}"), "name": "Bash", "input": {}});
            text += &block(2, call, &[json!({"type": "input_json_delta", "partial_json": input})]);
        }
        text += &event(
            "message_delta",
            json!({"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": null}, "usage": {"output_tokens": 9}}),
        );
        text += &event("message_stop", json!({"type": "message_stop"}));
        return ("text/event-stream", text);
    }
    if path.ends_with("/responses") {
        let shell = SHELLS.into_iter().find(|name| tools.contains(name));
        let message = |words: &str| json!({"type": "message", "role": "assistant", "id": format!("m_{id}"), "content": [{"type": "output_text", "text": words}]});
        let items = match next_step(body, shell.is_some(), log) {
            Step::Say(words) => vec![message(&words)],
            Step::Call { words, command } => {
                let name = shell.unwrap_or("shell");
                let arguments = match name {
                    "shell_command" => json!({"command": command}),
                    "exec_command" => json!({"cmd": command}),
                    _ => json!({"command": ["bash", "-lc", command]}),
                };
                let call = json!({"type": "function_call", "call_id": format!("call_{id}"), "name": name, "arguments": arguments.to_string()});
                let summary = [json!({"type": "summary_text", "text": THOUGHT})];
                let thinking = json!({"type": "reasoning", "id": format!("rs_{id}"), "summary": summary, "encrypted_content": SIGNATURE});
                vec![thinking, message(&words), call]
            }
        };
        let mut text = event(
            "response.created",
            json!({"type": "response.created", "response": {"id": format!("resp_{id}")}}),
        );
        for (index, item) in items.into_iter().enumerate() {
            text += &event(
                "response.output_item.done",
                json!({"type": "response.output_item.done", "output_index": index, "item": item}),
            );
        }
        let usage = json!({"input_tokens": 1, "input_tokens_details": null, "output_tokens": 1, "output_tokens_details": null, "total_tokens": 2});
        let done =
            json!({"type": "response.completed", "response": {"id": format!("resp_{id}"), "usage": usage}});
        return ("text/event-stream", text + &event("response.completed", done));
    }
    if path.ends_with("/chat/completions") {
        let chunk = |delta: Value, finish: Option<&str>| {
            let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
            let chunk = json!({"id": format!("c_{id}"), "object": "chat.completion.chunk", "created": 1, "model": "fake", "choices": [choice]});
            format!("data: {chunk}\n\n")
        };
        let text = match next_step(body, tools.contains(&"bash"), log) {
            Step::Say(words) => {
                chunk(json!({"role": "assistant", "content": words}), None) + &chunk(json!({}), Some("stop"))
            }
            Step::Call { words, command } => {
                let arguments = json!({"command": command, "description": "Print a mark"}).to_string();
                let function = json!({"name": "bash", "arguments": arguments});
                let call =
                    json!({"index": 0, "id": format!("call_{id}"), "type": "function", "function": function});
                chunk(json!({"role": "assistant", "reasoning_content": THOUGHT}), None)
                    + &chunk(json!({"content": words}), None)
                    + &chunk(json!({"tool_calls": [call]}), None)
                    + &chunk(json!({}), Some("tool_calls"))
            }
        };
        return ("text/event-stream", text + "data: [DONE]\n\n");
    }
    (
        "application/json",
        json!({"object": "list", "data": [{"id": "fake", "object": "model"}], "models": []}).to_string(),
    )
}

/// The binary with the three agents, which ask the fake model.
struct World {
    hfs: Hfs,
    model: FakeModel,
    questions: std::cell::Cell<u64>,
}

impl World {
    fn new() -> Option<Self> {
        let programs = programs()?;
        let model = FakeModel::start();
        let port = model.port;
        let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"))
            .env("IS_SANDBOX", "1")
            .env("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{port}"))
            .env("ANTHROPIC_AUTH_TOKEN", "x")
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
        let program = |name: &str| programs.join(name).to_str().unwrap().to_owned();
        // In its mode `read-only`, Codex does not report the calls of commands that its sandbox refuses.
        let agents = json!({
            "claude": {"command": program("claude-agent-acp")},
            "codex": {"command": program("codex-acp"), "mode": "agent-full-access"},
            "opencode": {"command": program("opencode"), "args": ["acp"]},
        });
        fs::create_dir_all(hfs.hfs_home()).unwrap();
        fs::write(hfs.hfs_home().join("config.yaml"), format!("agents: {agents}\n")).unwrap();
        fs::create_dir_all(hfs.home().join(".codex")).unwrap();
        let codex = format!(
            "model = \"fake\"\nmodel_provider = \"fake\"\nsandbox_mode = \"danger-full-access\"\n[model_providers.fake]\nname = \"Fake\"\n\
             base_url = \"http://127.0.0.1:{port}/v1\"\nwire_api = \"responses\"\nrequires_openai_auth = false\n"
        );
        fs::write(hfs.home().join(".codex/config.toml"), codex).unwrap();
        let provider = json!({"npm": "@ai-sdk/openai-compatible", "name": "Fake", "models": {"fake": {"name": "Fake"}},
            "options": {"baseURL": format!("http://127.0.0.1:{port}/v1"), "apiKey": "x"}});
        let opencode = json!({"$schema": "https://opencode.ai/config.json", "provider": {"fake": provider}, "model": "fake/fake",
            "small_model": "fake/fake", "permission": {"bash": "ask", "edit": "ask"}});
        fs::write(hfs.project().join("opencode.json"), opencode.to_string()).unwrap();
        Some(Self { hfs, model, questions: std::cell::Cell::new(0) })
    }

    /// Asks the next question on the command line. Returns its number, and what is printed beside the answer.
    fn ask(&self, agent: &str, continues: bool) -> (u64, String) {
        let number = self.questions.get() + 1;
        self.questions.set(number);
        let question = format!("Q-{number:03}");
        let mut arguments = vec!["chat", "--agent", agent, "--allow", "all"];
        if continues {
            arguments.push("-c");
        }
        arguments.push(&question);
        let output = self.hfs.command(&arguments).timeout(Duration::from_secs(180)).run().ok();
        assert!(
            output.stdout.contains(&format!("A-{number:03}")),
            "{agent}: {} {}",
            output.stdout,
            output.stderr
        );
        (number, output.stderr)
    }

    /// The messages of the current branch.
    fn messages(&self) -> Vec<Value> {
        let shown = self.hfs.run(&["session", "show", "@", "-n", "100000", "--json"]).ok().json();
        shown["messages"].as_array().unwrap().clone()
    }

    /// The marks on the current branch.
    fn branch(&self) -> Vec<String> {
        let messages = self.messages();
        let texts: Vec<String> = messages.iter().map(|message| message["parts"].to_string()).collect();
        marks(&texts.join(" "))
    }

    /// The marks on the current branch as an agent is given them: without calls that have no result.
    fn given(&self) -> Vec<String> {
        let messages = self.messages();
        let parts: Vec<&Value> =
            messages.iter().flat_map(|message| message["parts"].as_array().unwrap()).collect();
        let results: Vec<&Value> =
            parts.iter().filter(|part| part["type"] == "tool-result").map(|part| &part["id"]).collect();
        let is_open = |part: &Value| part["type"] == "tool-call" && !results.contains(&&part["id"]);
        let given = parts.iter().filter(|part| !is_open(part)).map(ToString::to_string);
        marks(&given.collect::<Vec<_>>().join(" "))
    }

    /// Imports what the agents wrote themselves. Returns the numbers of messages and of sessions that this adds. Of the messages
    /// recorded before, it changes only the names of tools.
    fn import(&self) -> (u64, usize) {
        let recorded = || {
            let mut messages = self.messages();
            for message in &mut messages {
                for part in message["parts"].as_array_mut().unwrap() {
                    if part["type"] == "tool-call" {
                        part["name"].take();
                    }
                }
            }
            messages
        };
        let recorded_before = recorded();

        let count = || {
            let listed = self.hfs.run(&["session", "list", "-n", "1000", "--json"]).ok().json();
            listed["sessions"].as_array().unwrap().len()
        };
        let before = count();
        let folders =
            [".claude", ".codex", ".local/share/opencode"].map(|folder| self.hfs.home().join(folder));
        let folders = folders.iter().filter(|folder| folder.exists()).map(|folder| folder.to_str().unwrap());
        let arguments: Vec<&str> = ["import", "--json"].into_iter().chain(folders).collect();
        let report = self.hfs.run(&arguments).ok().json();
        assert_eq!(recorded(), recorded_before);
        let added = report["imported"].as_array().unwrap().iter();
        (added.map(|session| session["messages"].as_u64().unwrap()).sum(), count() - before)
    }
}

/// Rewinds a session of an agent to random places. Each time, the model is sent exactly what the branch has.
fn rewind(agent: &str) {
    let rewinds: u64 =
        std::env::var("HFS_REAL_AGENT_REWINDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let Some(world) = World::new() else { return };
    for turn in 0..TURNS {
        let (number, _) = world.ask(agent, turn > 0);
        assert_eq!(
            world.model.asked(number).len() as u64,
            4 * turn + 1,
            "{agent}: it continues its own session"
        );
    }
    let mut random = fastrand::Rng::with_seed(7);
    let length = world.messages().len() as u64;
    for rewind in 0..rewinds {
        // After any message, also within a turn.
        let end = random.u64(1..=length);
        let _ = world.hfs.run(&["branch", "switch", "@", "main"]).ok();
        let _ = world.hfs.run(&["rewind", "@", &format!("seq:{end}")]).ok();
        let mut expected = world.given();
        let (number, notes) = world.ask(agent, true);
        expected.push(format!("Q-{number:03}"));
        assert_eq!(world.model.asked(number), expected, "{agent}: rewind {rewind} to message {end}");
        assert!(notes.contains("from a transcript"), "{agent}: {notes}");
    }
    assert_eq!(world.import(), (0, 0), "{agent}: hfs has recorded everything already");
    println!("{agent}: {rewinds} rewinds of a session of {TURNS} turns");
}

#[test]
fn after_a_rewind_claude_is_sent_exactly_what_the_branch_has() {
    rewind("claude");
}

#[test]
fn after_a_rewind_codex_is_sent_exactly_what_the_branch_has() {
    rewind("codex");
}

#[test]
fn after_a_rewind_opencode_is_sent_exactly_what_the_branch_has() {
    rewind("opencode");
}

#[test]
fn a_conversation_is_handed_from_agent_to_agent_with_every_message_and_tool_call() {
    let Some(world) = World::new() else { return };
    for (turn, agent) in ["claude", "codex", "opencode", "claude"].into_iter().enumerate() {
        let mut expected = if turn == 0 { Vec::new() } else { world.branch() };
        let (number, _) = world.ask(agent, turn > 0);
        expected.push(format!("Q-{number:03}"));
        assert_eq!(world.model.asked(number), expected, "{agent}");
        assert_eq!(world.import(), (0, 0), "after {agent}");
    }
    assert_eq!(world.branch().len(), 16);
    // What the protocol does not carry is in the agents' own transcripts.
    let document: Value =
        serde_json::from_str(&world.hfs.run(&["export", "-q", "@", "-o", "-"]).ok().stdout).unwrap();
    let messages = document["branches"][0]["messages"].as_array().unwrap();
    let parts = |kind: &'static str| {
        let all = messages.iter().flat_map(|message| message["parts"].as_array().unwrap());
        all.filter(move |part| part["type"] == kind)
    };
    let names: Vec<&str> = parts("tool-call").map(|call| call["name"].as_str().unwrap()).collect();
    let [first, second, third, fourth] = names.as_slice() else { panic!("{names:?}") };
    assert_eq!((*first, *third, *fourth), ("Bash", "bash", "Bash"));
    assert!(SHELLS.contains(second), "{second}");
    let signatures: Vec<&Value> = parts("thinking").map(|thinking| &thinking["signature"]).collect();
    let signed = json!(SIGNATURE);
    assert_eq!(signatures, [&signed, &signed, &Value::Null, &signed]);
    let prompts = messages.iter().filter(|message| message["role"] == "user");
    let context: Vec<String> =
        prompts.map(|prompt| prompt["extra"]["injected_context"].to_string()).collect();
    println!("injected context: {context:#?}");
    assert!(context[1].contains("<environment_context>"), "{}", context[1]);
}

#[test]
fn each_agent_asks_in_the_app_before_it_acts() {
    for agent in ["claude", "opencode"] {
        let Some(world) = World::new() else { return };
        let terminal =
            world.hfs.command(&["--agent", agent]).timeout(Duration::from_secs(180)).in_terminal(30, 100);
        terminal.wait_until("the app", |screen| screen.contents().contains("nothing to save"));
        terminal.paste("Q-001");
        terminal.wait_for("❯ Q-001");
        terminal.press(Key::Enter);
        let screen = terminal.wait_for("Esc stop the turn").contents();
        assert!(screen.contains("asks to run a command") && screen.contains("$ echo T-001"), "{screen}");
        std::thread::sleep(Duration::from_millis(400));
        terminal.type_text("y");
        terminal.wait_for("A-001");
        terminal.press(Key::Ctrl('c'));
        terminal.wait_for("press Ctrl+C again to quit");
        terminal.press(Key::Ctrl('c'));
        assert!(terminal.wait_for_exit().success());
        assert_eq!(world.branch(), ["Q-001", "W-001", "T-001", "A-001"]);
    }
}
