//! What hfs adds between an agent and an editor: the delay of each update, and the bytes that a turn costs.
//!
//! `cargo xtask bench editor`, or `cargo bench -p hfs --bench editor`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use testkit::bench::{Bench, Target, Unit};
use testkit::cli::Hfs;

const DELAY: &str = "an agent's update to the editor, p99, compared with no hfs between";
const LINEAR: &str = "bytes on disk of a turn of 10,000 updates, compared with ten times those of 1,000";
const CONTENT: &str = "bytes on disk of a turn of 10,000 updates, compared with its content";
/// Updates of the larger turn whose bytes are measured.
const UPDATES: usize = 10_000;

/// The first argument of the process that is the agent.
const BE_AGENT: &str = "--be-agent";
/// Updates of a turn whose delays are measured, and the time between two of them.
const MEASURED: usize = 2_000;
const INTERVAL: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, updates, micros] = arguments.as_slice()
        && flag == BE_AGENT
    {
        be_agent(updates.parse().unwrap(), Duration::from_micros(micros.parse().unwrap()));
        return ExitCode::SUCCESS;
    }
    let mut bench = Bench::from_args("editor");
    if bench.wants(DELAY) {
        delay(&mut bench);
    }
    if [LINEAR, CONTENT].iter().any(|row| bench.wants(row)) {
        bytes(&mut bench);
    }
    bench.finish()
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

/// The text of an update: the time at which it is sent, and as many words as models send at once.
fn words(number: usize) -> String {
    format!("{}:{number} some words of a reply ", now())
}

/// Speaks the protocol as an agent. Half of the updates are words, half are outputs of commands, each with the output so far.
fn be_agent(updates: usize, interval: Duration) {
    let mut output = std::io::stdout().lock();
    let mut send = |message: &Value| {
        writeln!(output, "{message}").unwrap();
        output.flush().unwrap();
    };
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let request: Value = serde_json::from_str(&line).unwrap();
        let result = match request["method"].as_str() {
            Some("initialize") => json!({"protocolVersion": 1, "agentCapabilities": {}}),
            Some("session/new") => json!({"sessionId": "s"}),
            Some("session/prompt") => {
                let session = &request["params"]["sessionId"];
                for number in 0..updates {
                    let update = update(number, interval.is_zero());
                    send(
                        &json!({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": session, "update": update}}),
                    );
                    std::thread::sleep(interval);
                }
                json!({"stopReason": "end_turn"})
            }
            _ => json!({}),
        };
        if !request["id"].is_null() {
            send(&json!({"jsonrpc": "2.0", "id": request["id"], "result": result}));
        }
    }
}

/// Commands whose output an agent repeats with each line.
const LINES: usize = 50;

fn update(number: usize, has_calls: bool) -> Value {
    let (command, line) = (number / LINES, number % LINES);
    if !has_calls || command.is_multiple_of(2) {
        return json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": words(number)}});
    }
    let status = if line + 1 == LINES { "completed" } else { "in_progress" };
    let output: String = (0..=line).map(|line| format!("line {line} of command {command}\n")).collect();
    let kind = if line == 0 { "tool_call" } else { "tool_call_update" };
    json!({"sessionUpdate": kind, "toolCallId": format!("call-{command}"), "title": "make", "kind": "execute",
        "status": status, "rawInput": {"command": "make"}, "rawOutput": output})
}

/// Bytes of what a turn says: each text and each output once.
fn content_bytes(updates: usize) -> usize {
    let all = (0..updates).map(|number| update(number, true));
    let is_last = |update: &Value| update["status"] != "in_progress";
    let text = |update: Value| {
        update["content"]["text"].as_str().or(update["rawOutput"].as_str()).map_or(0, str::len)
    };
    all.filter(is_last).map(text).sum()
}

/// An agent as an editor uses it.
struct Connected {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Connected {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output) }
    }

    /// Sends a request. Calls `receive` with each line until its answer, which is returned.
    fn call(&mut self, method: &str, params: &Value, mut receive: impl FnMut(&str)) -> Value {
        let request = json!({"jsonrpc": "2.0", "id": method, "method": method, "params": params});
        writeln!(self.input, "{request}").unwrap();
        let answer = json!(method).to_string();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the agent has ended");
            receive(&line);
            if line.contains(&format!("\"id\":{answer}")) {
                let mut answer: Value = serde_json::from_str(&line).unwrap();
                assert!(answer["error"].is_null(), "{answer}");
                return answer["result"].take();
            }
        }
    }

    /// Runs a turn in a new session. Returns the delay of each text, in seconds.
    fn turn(&mut self, folder: &Path) -> Vec<f64> {
        self.call("initialize", &json!({"protocolVersion": 1}), |_| {});
        let opened = self.call("session/new", &json!({"cwd": folder, "mcpServers": []}), |_| {});
        let prompt = json!({"sessionId": opened["sessionId"], "prompt": [{"type": "text", "text": "go"}]});
        let mut delays = Vec::new();
        self.call("session/prompt", &prompt, |line| {
            let sent = line.split_once("\"text\":\"").and_then(|(_, text)| text.split_once(':'));
            if let Some(sent) = sent.and_then(|(time, _)| time.parse::<u128>().ok()) {
                #[allow(clippy::cast_precision_loss, reason = "a delay is short")]
                delays.push(now().saturating_sub(sent) as f64 / 1e9);
            }
        });
        delays
    }

    fn end(self) {
        let Self { mut child, input, .. } = self;
        drop(input);
        assert!(child.wait().unwrap().success());
    }
}

/// The agent as a command of its own.
fn agent(updates: usize, interval: Duration) -> Vec<String> {
    let own = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    vec![own, BE_AGENT.to_owned(), updates.to_string(), interval.as_micros().to_string()]
}

/// The binary with this agent in its configuration.
fn hfs_with(command: &[String]) -> Hfs {
    let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"));
    configure(&hfs, command);
    hfs
}

fn configure(hfs: &Hfs, command: &[String]) {
    let (program, arguments) = command.split_first().unwrap();
    let agents = json!({"agents": {"measured": {"command": program, "args": arguments}}});
    fs::create_dir_all(hfs.hfs_home()).unwrap();
    fs::write(hfs.hfs_home().join("config.yaml"), agents.to_string()).unwrap();
}

fn quantile(mut values: Vec<f64>, percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * percent / 100).copied().unwrap_or(f64::NAN)
}

fn delay(bench: &mut Bench) {
    let updates = bench.size(MEASURED, 20);
    let command = agent(updates, INTERVAL);
    let (program, arguments) = command.split_first().unwrap();
    let hfs = hfs_with(&command);
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..bench.size(5, 1) {
        let mut direct = Command::new(program);
        direct.args(arguments);
        for (command, delays) in
            [(direct, &mut peer), (hfs.command(&["acp", "--agent", "measured"]).to_command(), &mut ours)]
        {
            let mut connected = Connected::start(command);
            delays.extend(connected.turn(&hfs.project()));
            connected.end();
        }
    }
    assert_eq!(ours.len(), peer.len(), "every update arrives");
    let saved = hfs.run(&["session", "show", "@", "-n", "100000", "--json"]).ok().stdout;
    for number in 0..updates {
        assert!(saved.contains(&format!(":{number} some words")), "update {number} is not recorded");
    }
    let limit = Target::AtMostLonger(Duration::from_millis(5));
    bench.amounts(DELAY, quantile(ours, 99), quantile(peer, 99), Unit::Seconds, limit);
}

/// The bytes that a turn of this many updates adds to a store.
fn stored_bytes(updates: usize) -> f64 {
    let hfs = hfs_with(&agent(1, Duration::ZERO));
    let size = || -> u64 {
        let files = fs::read_dir(hfs.hfs_home()).unwrap().flatten();
        files
            .filter_map(|file| file.metadata().ok())
            .filter(fs::Metadata::is_file)
            .map(|file| file.len())
            .sum()
    };
    let run = || {
        let mut connected = Connected::start(hfs.command(&["acp", "--agent", "measured"]).to_command());
        connected.turn(&hfs.project());
        connected.end();
    };
    // The tables, and the first pages of each index.
    run();
    let before = size();
    configure(&hfs, &agent(updates, Duration::ZERO));
    run();
    #[allow(clippy::cast_precision_loss, reason = "a size that is compared")]
    let added = size().saturating_sub(before) as f64;
    added
}

fn bytes(bench: &mut Bench) {
    let updates = bench.size(UPDATES, 200);
    let (whole, tenth) = (stored_bytes(updates), stored_bytes(updates / 10));
    bench.amounts(LINEAR, whole, 10.0 * tenth, Unit::Bytes, Target::AtMost(1.1));
    #[allow(clippy::cast_precision_loss, reason = "a size that is compared")]
    let content = content_bytes(updates) as f64;
    bench.amounts(CONTENT, whole, content, Unit::Bytes, Target::AtMost(2.0));
}
