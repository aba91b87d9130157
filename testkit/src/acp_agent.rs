//! An agent that speaks the Agent Client Protocol and does what a script says, also what no agent should do.
//!
//! It is the test binary itself, started again, so that it is always built with its test. Such a binary has a test that becomes
//! the agent:
//!
//! ```text
//! #[test]
//! fn scripted_agent() {
//!     testkit::acp_agent::run_if_asked();
//! }
//! ```
//!
//! A script is a JSON object:
//!
//! - `capabilities`: the agent's capabilities; `version`: its version of the protocol; `logins`: its methods of authentication.
//! - a method such as `session/prompt`: the steps of its first, second ... request; the last list holds for all further ones.
//!   After the steps, the request is answered.
//!
//! A step is a JSON object with one of these fields:
//!
//! - `update`: a session update, which is sent `times` times.
//! - `line`: a line that is sent as it is, `times` times; `bytes`: a line of that many bytes.
//! - `ask`: parameters of a request for a permission, which is sent with the `id`, or `times` times without waiting in between.
//!   All answers are then waited for. `allowed` and `rejected` are the steps that follow.
//! - `request`: any other request to hfs; its answer is waited for.
//! - `sleep`: milliseconds; `wait_for_cancel`: until the turn is cancelled; `hang`: forever.
//! - `spawn`: starts a process that never ends, in a process group of its own.
//! - `stderr`: a text for standard error; `exit`: the exit code to end with; `die`: ends by SIGKILL.
//! - `respond`: answers the request before the other steps; `result` or `error`: what to answer instead.
//!
//! Everything that the agent receives is written to a log beside the script, one JSON text a line.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic here fails the test that called"
)]

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// The variable with the path of the script. Only the shell below sets it.
const SCRIPT: &str = "TESTKIT_SCRIPTED_AGENT";

/// An agent with a folder for its script and its log.
#[derive(Debug)]
pub struct ScriptedProgram {
    folder: tempfile::TempDir,
}

impl ScriptedProgram {
    /// Creates an agent that follows this script.
    #[must_use]
    pub fn new(script: &Value) -> Self {
        let folder =
            tempfile::Builder::new().prefix("agent-").tempdir().expect("make a folder for the agent");
        let agent = Self { folder };
        agent.change(script);
        agent
    }

    /// Replaces the script. An agent that runs keeps the earlier one.
    pub fn change(&self, script: &Value) {
        fs::write(self.script(), script.to_string()).expect("write the script");
    }

    fn script(&self) -> PathBuf {
        self.folder.path().join("script.json")
    }

    /// Program and arguments that run the agent. `test` is the full name of the test of this binary that becomes it.
    ///
    /// The test harness writes to standard output, so the shell moves that elsewhere.
    #[must_use]
    pub fn command(&self, test: &str) -> (PathBuf, Vec<String>) {
        let binary = std::env::current_exe().expect("find the test binary");
        let script = format!("{SCRIPT}=\"$2\" exec \"$0\" --exact \"$1\" --nocapture 3>&1 >/dev/null");
        let words = ["-c".to_owned(), script, text(&binary), test.to_owned(), text(&self.script())];
        ("/bin/sh".into(), words.into())
    }

    /// Everything that the agent has received and reported so far, over all its starts.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        let text = fs::read_to_string(log_of(&self.script())).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The requests of a method that the agent has received.
    #[must_use]
    pub fn received(&self, method: &str) -> Vec<Value> {
        let log = self.log().into_iter().filter_map(|mut entry| entry.get_mut("received").map(Value::take));
        log.filter(|message| message.get("method").and_then(Value::as_str) == Some(method)).collect()
    }

    /// The ids of the processes that the agent was or has started.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let log = self.log();
        let ids = log.iter().filter_map(|entry| entry.get("process")?.as_u64());
        ids.filter_map(|id| u32::try_from(id).ok()).collect()
    }

    /// The id of the agent that runs, without the processes that it has started.
    #[must_use]
    pub fn running_agent(&self) -> Option<u32> {
        let log = self.log();
        let agents = log.iter().rev().filter(|entry| entry.get("started_by").is_none());
        let mut ids = agents.filter_map(|entry| u32::try_from(entry.get("process")?.as_u64()?).ok());
        ids.find(|process| is_running(*process))
    }

    /// Waits until the log has an entry that satisfies the condition.
    pub fn wait_for(&self, what: &str, condition: impl Fn(&Value) -> bool) {
        let started = std::time::Instant::now();
        while !self.log().iter().any(&condition) {
            assert!(started.elapsed() < Duration::from_secs(30), "no {what} in {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Whether a process exists and is not a zombie.
#[must_use]
pub fn is_running(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn log_of(script: &Path) -> PathBuf {
    script.with_extension("log")
}

/// Becomes the agent, if the process was started as one. Does not return then.
pub fn run_if_asked() {
    let Some(script) = std::env::var_os(SCRIPT).map(PathBuf::from) else { return };
    std::process::exit(Running::start(&script).run());
}

struct Running {
    script: Value,
    log: File,
    output: File,
    input: Receiver<Value>,
    /// Messages that arrived while an answer was waited for.
    waiting: VecDeque<Value>,
    session: String,
    sessions: usize,
    requests: u64,
    cancelled: bool,
}

impl Running {
    fn start(script: &Path) -> Self {
        let open = |path: &Path| OpenOptions::new().append(true).create(true).open(path);
        let log = open(&log_of(script)).expect("open the log");
        let earlier = fs::read_to_string(log_of(script)).unwrap_or_default();
        let script = fs::read(script).expect("read the script");
        let (sender, input) = channel();
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                if sender.send(serde_json::from_str(&line).unwrap_or(Value::Null)).is_err() {
                    return;
                }
            }
        });
        let mut running = Self {
            script: serde_json::from_slice(&script).expect("parse the script"),
            log,
            output: OpenOptions::new().write(true).open("/dev/fd/3").expect("open the output"),
            input,
            waiting: VecDeque::new(),
            session: String::new(),
            sessions: earlier.matches("\"session/new\"").count(),
            requests: 0,
            cancelled: false,
        };
        running.report(&json!({"process": std::process::id()}));
        running
    }

    fn report(&mut self, entry: &Value) {
        writeln!(self.log, "{entry}").expect("write the log");
    }

    /// The next message; `None` after hfs has closed the input.
    fn receive(&mut self) -> Option<Value> {
        let message = self.input.recv().ok()?;
        self.report(&json!({"received": message}));
        if message["method"] == "session/cancel" {
            self.cancelled = true;
        }
        Some(message)
    }

    fn run(mut self) -> i32 {
        let mut counts = std::collections::HashMap::<String, usize>::new();
        loop {
            let Some(message) = self.waiting.pop_front().or_else(|| self.receive()) else { return 0 };
            let Some(method) = message["method"].as_str().map(str::to_owned) else { continue };
            if message["id"].is_null() {
                continue;
            }
            if let Some(session) = message["params"]["sessionId"].as_str() {
                self.session = session.to_owned();
            }
            if method == "session/new" {
                self.sessions += 1;
                self.session = format!("session-{}", self.sessions);
            }
            if method == "session/prompt" {
                self.cancelled = false;
            }
            let count = counts.entry(method.clone()).or_default();
            let lists = self.script[&method].as_array().cloned().unwrap_or_default();
            let steps = lists.get(*count).or(lists.last()).cloned().unwrap_or_default();
            *count += 1;
            let mut answer = None;
            let mut answered = false;
            for step in steps.as_array().into_iter().flatten() {
                if step["respond"] == true {
                    let result = self.result(&method);
                    self.send(&json!({"jsonrpc": "2.0", "id": message["id"], "result": result}));
                    answered = true;
                } else if let Some(result) = step.get("result") {
                    answer = Some(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}));
                } else if let Some(error) = step.get("error") {
                    answer = Some(json!({"jsonrpc": "2.0", "id": message["id"], "error": error}));
                } else if let Some(code) = self.step(step) {
                    return code;
                }
            }
            if !answered {
                let result = self.result(&method);
                let answer = answer
                    .unwrap_or_else(|| json!({"jsonrpc": "2.0", "id": message["id"], "result": result}));
                self.send(&answer);
            }
        }
    }

    /// What a request is answered with if its steps say nothing else.
    fn result(&self, method: &str) -> Value {
        match method {
            "initialize" => json!({
                "protocolVersion": self.script.get("version").cloned().unwrap_or(json!(1)),
                "agentCapabilities": self.script.get("capabilities").cloned().unwrap_or(json!({})),
                "agentInfo": {"name": "scripted", "version": "1.0.0"},
                "authMethods": self.script.get("logins").cloned().unwrap_or(json!([])),
            }),
            "session/new" => json!({"sessionId": self.session}),
            "session/prompt" => json!({"stopReason": if self.cancelled { "cancelled" } else { "end_turn" }}),
            _ => json!({}),
        }
    }

    fn send(&mut self, message: &Value) {
        self.send_line(message.to_string().as_bytes());
    }

    /// Sends a line. A closed pipe ends the agent, as most do.
    fn send_line(&mut self, line: &[u8]) {
        if self.output.write_all(line).and_then(|()| self.output.write_all(b"\n")).is_err() {
            std::process::exit(3);
        }
    }

    /// Takes a step. Returns the exit code if it ends the agent.
    #[allow(
        clippy::zombie_processes,
        reason = "the process that is started outlives the agent, unless hfs ends it"
    )]
    fn step(&mut self, step: &Value) -> Option<i32> {
        let times = step["times"].as_u64().unwrap_or(1);
        if let Some(update) = step.get("update") {
            let params = json!({"sessionId": self.session, "update": update});
            let line = json!({"jsonrpc": "2.0", "method": "session/update", "params": params}).to_string();
            for _ in 0..times {
                self.send_line(line.as_bytes());
            }
        } else if let Some(line) = step["line"].as_str() {
            for _ in 0..times {
                self.send_line(line.as_bytes());
            }
        } else if let Some(bytes) = step["bytes"].as_u64() {
            let bytes = usize::try_from(bytes).expect("a size");
            let start = b"{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":\"";
            let mut line = start.to_vec();
            line.resize(bytes.saturating_sub(2), b'x');
            line.extend_from_slice(b"\"}");
            self.send_line(&line);
        } else if let Some(ask) = step.get("ask") {
            return self.ask(ask, times, step);
        } else if let Some(request) = step.get("request") {
            let mut request = request.clone();
            request["jsonrpc"] = "2.0".into();
            self.send(&request);
            self.wait_for_answer(&request["id"])?;
        } else if let Some(millis) = step["sleep"].as_u64() {
            std::thread::sleep(Duration::from_millis(millis));
        } else if step["wait_for_cancel"] == true {
            while !self.cancelled {
                let Some(message) = self.receive() else { return Some(0) };
                if message["method"] != "session/cancel" {
                    self.waiting.push_back(message);
                }
            }
        } else if step["hang"] == true {
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        } else if step["spawn"] == true {
            let mut command = Command::new("sleep");
            command.arg("1000").process_group(0).stdin(Stdio::null());
            let child = command.spawn().expect("start a process");
            self.report(&json!({"process": child.id(), "started_by": std::process::id()}));
        } else if let Some(text) = step["stderr"].as_str() {
            writeln!(std::io::stderr(), "{text}").expect("write to standard error");
        } else if let Some(code) = step["exit"].as_i64() {
            return i32::try_from(code).ok();
        } else if step["die"] == true {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).expect("end this process");
        } else {
            panic!("not a step: {step}");
        }
        None
    }

    fn ask(&mut self, ask: &Value, times: u64, step: &Value) -> Option<i32> {
        let mut params = ask.clone();
        params["sessionId"] = self.session.clone().into();
        if params["options"].is_null() {
            params["options"] = json!([
                {"optionId": "always", "name": "Always", "kind": "allow_always"},
                {"optionId": "once", "name": "Allow", "kind": "allow_once"},
                {"optionId": "no", "name": "Reject", "kind": "reject_once"},
            ]);
        }
        let ids: Vec<Value> = (0..times)
            .map(|_| {
                self.requests += 1;
                step.get("id").cloned().unwrap_or_else(|| format!("question-{}", self.requests).into())
            })
            .collect();
        for id in &ids {
            let method = "session/request_permission";
            self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        }
        let mut allowed = true;
        for id in &ids {
            let Some(answer) = self.wait_for_answer(id) else { return Some(0) };
            let option = answer["result"]["outcome"]["optionId"].as_str().unwrap_or_default();
            allowed &= matches!(option, "always" | "once");
        }
        let next = if allowed { &step["allowed"] } else { &step["rejected"] };
        next.as_array().into_iter().flatten().find_map(|step| self.step(step))
    }

    /// Waits for the answer to a request. `None` after hfs has closed the input.
    fn wait_for_answer(&mut self, id: &Value) -> Option<Value> {
        let is_answer = |message: &Value| message["id"] == *id && message.get("method").is_none();
        if let Some(index) = self.waiting.iter().position(is_answer) {
            return self.waiting.remove(index);
        }
        loop {
            let message = self.receive()?;
            if is_answer(&message) {
                return Some(message);
            }
            self.waiting.push_back(message);
        }
    }
}
