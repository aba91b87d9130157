//! Claude Code, Codex and opencode themselves, with a fake model on loopback.
//!
//! `cargo xtask agents` installs them into target/agents and runs these tests with `HFS_REAL_AGENTS`. Without it they are
//! skipped. `HFS_REAL_AGENT_REWINDS` is the number of rewinds for each agent, `HFS_REAL_AGENT_TURNS` that of turns while the watcher
//! is killed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::cli::{Hfs, Key};
use testkit::transcripts::records_of_messages;

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

/// Names of the agents in the configuration.
const AGENTS: [&str; 3] = ["claude", "codex", "opencode"];

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
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let log = Arc::clone(&log);
                thread::spawn(move || serve(connection, &log));
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
    Use { words: String, call: Call },
    Say(String),
}

/// A call of a tool.
struct Call {
    name: String,
    /// Codex has the tools of a server in a group of their own.
    namespace: Option<String>,
    input: Value,
}

impl Call {
    fn new(name: &str, input: Value) -> Self {
        Self { name: name.to_owned(), namespace: None, input }
    }
}

/// The tool `search` of `hfs mcp` among these tools.
fn search_tool(tools: &Value, namespace: Option<&str>) -> Option<Call> {
    tools.as_array()?.iter().find_map(|tool| {
        let name = tool["name"].as_str().or(tool["function"]["name"].as_str())?;
        if tool["tools"].is_array() {
            return search_tool(&tool["tools"], Some(name));
        }
        let is_of_hfs = name.contains("hfs") || namespace.is_some_and(|namespace| namespace.contains("hfs"));
        (is_of_hfs && name.ends_with("search")).then(|| Call {
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
            input: Value::Null,
        })
    })
}

/// The call that searches for a word. Claude Code only names the tools of servers, and describes them when it is asked.
fn search(tools: &Value, word: &str, conversation: &str) -> Option<Call> {
    let input = json!({"query": word});
    if let Some(search) = search_tool(tools, None) {
        return Some(Call { input, ..search });
    }
    let has_names = tools.as_array()?.iter().any(|tool| tool["name"] == "ToolSearch");
    let name = "mcp__hfs__search";
    has_names.then(|| match conversation.contains("\"ToolSearch\"") {
        true => Call::new(name, input),
        false => Call::new("ToolSearch", json!({"query": format!("select:{name}"), "max_results": 5})),
    })
}

/// What shows in a conversation of each protocol that a tool was used.
const RESULTS: [&str; 3] = ["\"tool_result\"", "\"function_call_output\"", "\"role\":\"tool\""];

/// What the model does: runs a command for each question `Q-n`, and searches for the word after `FIND`.
fn next_step(
    body: &Value,
    shell: Option<impl FnOnce(String) -> Call>,
    log: &Mutex<Vec<Vec<String>>>,
) -> Step {
    let conversation = body.get("messages").or(body.get("input")).unwrap_or(&Value::Null).to_string();
    let sought = conversation.rsplit_once("FIND ").map(|(_, rest)| {
        let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
        (word, rest)
    });
    if let Some((word, rest)) = sought
        && let Some(call) = search(&body["tools"], &word, rest)
    {
        let found = rest.find(&format!("The {word} ")).map(|start| &rest[start..]);
        return match found.and_then(|found| found.split_once('.')) {
            Some((sentence, _)) => Step::Say(format!("FOUND {sentence}.")),
            None if RESULTS.iter().any(|kind| rest.matches(kind).count() > 1) => Step::Say("NOTHING".into()),
            None => Step::Use { words: "I search the saved sessions.".into(), call },
        };
    }
    let marks = marks(&conversation);
    let at = marks.iter().rposition(|mark| mark.starts_with('Q'));
    let (Some(at), Some(shell)) = (at, shell) else { return Step::Say("title".into()) };
    let number = &marks[at][2..];
    // Words that an agent or a transcript adds in the name of the model or of a tool.
    for foreign in FOREIGN {
        assert!(!conversation.contains(foreign), "the model was sent {foreign:?}: {conversation}");
    }
    if marks[at..].contains(&format!("T-{number}")) {
        return Step::Say(format!("A-{number}"));
    }
    log.lock().unwrap().push(marks[..=at].to_vec());
    Step::Use { words: format!("W-{number}"), call: shell(format!("echo T-{number} | tee mark")) }
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
        let shell = |command| Call::new("Bash", json!({"command": command, "description": "Print a mark"}));
        let (words, call) = match next_step(body, tools.contains(&"Bash").then_some(shell), log) {
            Step::Use { words, call } => (words, Some(call)),
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
        if let Some(call) = call {
            let input = call.input.to_string();
            let call =
                json!({"type": "tool_use", "id": format!("toolu_{id}"), "name": call.name, "input": {}});
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
        let shell = shell.map(|name| {
            move |command: String| {
                let input = match name {
                    "shell_command" => json!({"command": command}),
                    "exec_command" => json!({"cmd": command}),
                    _ => json!({"command": ["bash", "-lc", command]}),
                };
                Call::new(name, input)
            }
        });
        let items = match next_step(body, shell, log) {
            Step::Say(words) => vec![message(&words)],
            Step::Use { words, call: Call { name, namespace, input } } => {
                let mut call = json!({"type": "function_call", "call_id": format!("call_{id}"), "name": name, "arguments": input.to_string()});
                if let Some(namespace) = namespace {
                    call["namespace"] = json!(namespace);
                }
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
        let shell = |command| Call::new("bash", json!({"command": command, "description": "Print a mark"}));
        let text = match next_step(body, tools.contains(&"bash").then_some(shell), log) {
            Step::Say(words) => {
                chunk(json!({"role": "assistant", "content": words}), None) + &chunk(json!({}), Some("stop"))
            }
            Step::Use { words, call } => {
                let function = json!({"name": call.name, "arguments": call.input.to_string()});
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
        thread::sleep(Duration::from_millis(400));
        terminal.type_text("y");
        terminal.wait_for("A-001");
        terminal.press(Key::Ctrl('c'));
        terminal.wait_for("press Ctrl+C again to quit");
        terminal.press(Key::Ctrl('c'));
        assert!(terminal.wait_for_exit().success());
        assert_eq!(world.branch(), ["Q-001", "W-001", "T-001", "A-001"]);
    }
}

/// Writes transcripts of Claude Code and Codex, each with a sentence that the other tools do not have.
fn write_sessions_of_other_tools(hfs: &Hfs) {
    let claude =
        hfs.home().join(".claude/projects/-home-me-garden/11111111-1111-4111-8111-111111111111.jsonl");
    let record = json!({"type": "user", "uuid": "00000001-0000-4000-8000-000000000001", "parentUuid": null, "isSidechain": false,
        "sessionId": "11111111-1111-4111-8111-111111111111", "cwd": "/home/me/garden", "timestamp": "2026-01-01T00:00:00Z",
        "message": {"role": "user", "content": "The heliotrope is watered on Thursdays."}});
    let codex = hfs.home().join(
        ".codex/sessions/2026/01/01/rollout-2026-01-01T10-00-00-019c1a00-0001-7000-8000-000000000001.jsonl",
    );
    let content = json!([{"type": "input_text", "text": "The quinces are picked in October."}]);
    let rollout = [
        json!({"timestamp": "2026-01-01T10:00:00Z", "type": "session_meta", "payload": {"id": "019c1a00-0001-7000-8000-000000000001",
            "timestamp": "2026-01-01T10:00:00Z", "cwd": "/home/me/orchard", "cli_version": "0.1"}}),
        json!({"timestamp": "2026-01-01T10:00:01Z", "type": "response_item",
            "payload": {"type": "message", "role": "user", "content": content}}),
    ];
    for (path, lines) in [(claude, vec![record]), (codex, rollout.to_vec())] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }
}

#[test]
fn a_connected_agent_finds_what_another_tool_was_told_and_disconnecting_leaves_no_trace() {
    let Some(world) = World::new() else { return };
    let hfs = &world.hfs;
    // The agents create and complete their own configurations first.
    AGENTS.iter().for_each(|agent| drop(world.ask(agent, false)));
    write_sessions_of_other_tools(hfs);
    let files = [".claude.json", ".codex/config.toml", ".config/opencode/opencode.json"];
    let read = || files.map(|file| fs::read_to_string(hfs.home().join(file)).ok());
    let before = read();
    let _ = hfs.run(&["connect", "claude", "codex", "opencode", "--yes"]).ok();
    for (agent, word, rest) in [
        ("claude", "quinces", "are picked in October"),
        ("codex", "heliotrope", "is watered on Thursdays"),
        ("opencode", "quinces", "are picked in October"),
    ] {
        let question = format!("FIND {word}");
        let arguments = ["chat", "--agent", agent, "--allow", "all", &question];
        let output = hfs.command(&arguments).timeout(Duration::from_secs(180)).run().ok();
        let is_found = output.stdout.contains("FOUND") && output.stdout.contains(rest);
        assert!(is_found, "{agent}: {}", output.describe());
        println!("{agent} found a sentence of another tool");
    }
    let during = read();
    let _ = hfs.run(&["disconnect", "--yes"]).ok();
    let after = read();
    assert_eq!((&after[1], &after[2]), (&before[1], &before[2]));
    // Claude Code also keeps counters in its configuration, and may have changed them.
    let value = |text: &Option<String>| serde_json::from_str::<Value>(text.as_ref().unwrap()).unwrap();
    let mut expected = value(&during[0]);
    expected["mcpServers"].as_object_mut().unwrap().remove("hfs").unwrap();
    if value(&before[0]).get("mcpServers").is_none() {
        expected.as_object_mut().unwrap().shift_remove("mcpServers");
    }
    assert_eq!(value(&after[0]), expected);
    // While no agent writes to them, all are restored byte by byte.
    let _ = hfs.run(&["connect", "claude", "codex", "opencode", "--yes"]).ok();
    let _ = hfs.run(&["disconnect", "--yes"]).ok();
    assert_eq!(read(), after);
}

fn number_from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The sessions in the store at `home`.
fn list_of(hfs: &Hfs, home: &str) -> Value {
    let list = ["--home", home, "session", "list", "--all", "-n", "1000", "--json"];
    hfs.command(&list).env("HFS_WATCH_CATCH_UP_MS", "0").run().ok().json()
}

/// The messages of all sessions in the store at `home`, by the ids that the sessions have in their tools.
fn stored_messages(hfs: &Hfs, home: &str) -> BTreeMap<String, Vec<Value>> {
    let listed = list_of(hfs, home);
    let sessions = listed["sessions"].as_array().unwrap().iter();
    let read = sessions.map(|session| {
        let id = session["id"].as_str().unwrap();
        let shown = hfs.run(&["--home", home, "session", "show", id, "-n", "100000", "--json"]).ok().json();
        let messages = shown["messages"].as_array().unwrap().iter();
        let messages = messages.map(|message| json!([message["role"], message["parts"]])).collect();
        (session["origin"]["id"].as_str().unwrap().to_owned(), messages)
    });
    read.collect()
}

/// The agents are driven by a hfs with another home, so that the watcher sees their transcripts as those of other programs.
#[test]
fn a_killed_watcher_saves_each_turn_of_the_agents_once() {
    let Some(world) = World::new() else { return };
    let (turns, kills) =
        (number_from_env("HFS_REAL_AGENT_TURNS", 12), number_from_env("HFS_CRASH_KILLS", 12));
    let hfs = &world.hfs;
    let watched = hfs.home().join("watched");
    let watched = watched.to_str().unwrap();
    let is_done = AtomicBool::new(false);
    // Slow agents take fewer turns.
    let next = AtomicU64::new(0);
    let mut random = fastrand::Rng::with_seed(number_from_env("HFS_CRASH_SEED", 20_260_201));
    let killed = thread::scope(|scope| {
        let agents = AGENTS.iter().map(|agent| {
            let next = &next;
            scope.spawn(move || {
                let home = hfs.home().join(format!("driver-{agent}"));
                fs::create_dir_all(&home).unwrap();
                fs::copy(hfs.hfs_home().join("config.yaml"), home.join("config.yaml")).unwrap();
                for is_first in std::iter::once(true).chain(std::iter::repeat(false)) {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= turns {
                        break;
                    }
                    let question = format!("Q-{turn:03}");
                    let mut arguments = vec!["--home", home.to_str().unwrap(), "chat", "--agent", agent];
                    arguments.extend(["--allow", "all"]);
                    arguments.extend((!is_first).then_some("-c"));
                    arguments.push(&question);
                    let environment = hfs.command(&arguments).env("HFS_WATCH_CATCH_UP_MS", "0");
                    let _ = environment.timeout(Duration::from_secs(300)).run().ok();
                }
            })
        });
        let agents: Vec<_> = agents.collect();
        let watcher = scope.spawn(|| {
            let mut killed = 0;
            while killed < kills && !is_done.load(Ordering::Relaxed) {
                let running = hfs.command(&["--home", watched, "watch"]).spawn();
                thread::sleep(Duration::from_millis(random.u64(5..1_000)));
                let output = running.kill();
                let complaints = output.stderr.replace("watching what other tools write; Ctrl+C ends\n", "");
                assert_eq!((output.signal, complaints.as_str()), (Some(9), ""), "{}", output.describe());
                killed += 1;
            }
            // The last one sees the rest.
            let last = hfs.command(&["--home", watched, "watch"]).timeout(Duration::from_secs(3_600)).spawn();
            while !is_done.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(100));
            }
            thread::sleep(Duration::from_secs(3));
            let status = hfs.run(&["--home", watched, "watch", "--status", "--json"]).ok().json();
            last.interrupt();
            let _ = last.wait().ok();
            println!("lag: {}, imported: {}", status["lag_ms"], status["imported"]);
            assert!(status["lag_ms"]["p95"].as_u64().is_none_or(|lag| lag < 2_000), "{status}");
            killed
        });
        agents.into_iter().for_each(|agent| agent.join().unwrap());
        is_done.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    assert_eq!(hfs.run(&["--home", watched, "store", "verify", "--json"]).ok().json()["ok"], true);
    let whole = hfs.home().join("whole");
    let whole = whole.to_str().unwrap();
    let folders = [".claude", ".codex", ".local/share/opencode"].map(|folder| hfs.home().join(folder));
    let arguments: Vec<&str> = ["--home", whole, "import"]
        .into_iter()
        .chain(folders.iter().map(|path| path.to_str().unwrap()))
        .collect();
    let _ = hfs.run(&arguments).ok();
    let (found, expected) = (stored_messages(hfs, watched), stored_messages(hfs, whole));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (session, messages) in &found {
        assert_eq!(messages, &expected[session], "messages of {session}");
    }
    let answers = found.values().flatten().filter(|message| message.to_string().contains("\"A-")).count();
    assert_eq!(answers as u64, turns, "each answer is there once");
    let mut transcripts = Vec::new();
    find_transcripts(&hfs.home().join(".claude/projects"), &mut transcripts);
    for path in &transcripts {
        let session = path.file_stem().unwrap().to_str().unwrap();
        let listed = list_of(hfs, watched);
        let sessions = listed["sessions"].as_array().unwrap().iter();
        let mut ids = sessions
            .filter(|found| found["origin"]["id"] == session)
            .map(|found| found["id"].as_str().unwrap());
        let Some(id) = ids.next_back() else { continue };
        let export = ["--home", watched, "export", "-q", id, "--format", "claude-code", "-o", "-"];
        let export = hfs.run(&export).ok().stdout;
        assert_eq!(
            records_of_messages(&export),
            records_of_messages(&fs::read_to_string(path).unwrap()),
            "records of {session}"
        );
    }
    println!(
        "{killed} watchers killed during {answers} turns; {} transcripts of Claude Code are equal",
        transcripts.len()
    );
}

fn find_transcripts(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            find_transcripts(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "jsonl") {
            found.push(path);
        }
    }
}
