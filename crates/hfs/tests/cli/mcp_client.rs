//! A client of the Model Context Protocol that speaks to `hfs mcp` over pipes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::cli::Hfs;

/// Default timeout of every wait.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The version of the protocol that the client asks for.
pub const PROTOCOL_VERSION: &str = "2025-11-25";

/// The end of a call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    pub text: String,
    pub is_error: bool,
}

/// A running server and its client. Dropping it kills the server.
#[derive(Debug)]
pub struct McpClient {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    next_id: i64,
    /// The result of `initialize`.
    pub server: Value,
}

impl McpClient {
    /// Starts `hfs mcp` with these options, and initializes the connection.
    pub fn connect(hfs: &Hfs, options: &[&str]) -> Self {
        let arguments: Vec<&str> = ["mcp"].iter().chain(options).copied().collect();
        Self::initialize(hfs.command(&arguments).to_command(), PROTOCOL_VERSION)
    }

    /// Starts a server and initializes the connection.
    pub fn initialize(command: Command, version: &str) -> Self {
        let mut client = Self::start(command);
        client.server = client.request(
            "initialize",
            &json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test-client", "version": "1"}}),
        );
        client.notify("notifications/initialized");
        client
    }

    /// Starts a server, and sends nothing.
    pub fn start(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let input = child.stdin.take();
        Self { child, input, lines, next_id: 1, server: Value::Null }
    }

    pub fn send_line(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        input
            .write_all(line.as_bytes())
            .and_then(|()| input.write_all(b"\n"))
            .and_then(|()| input.flush())
            .unwrap();
    }

    /// The next message of the server. Fails if it is not a line of JSON.
    pub fn receive(&mut self) -> Value {
        let line = self.lines.recv_timeout(TIMEOUT).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("not a message: {error}: {line}"))
    }

    fn notify(&mut self, method: &str) {
        self.send_line(&json!({"jsonrpc": "2.0", "method": method}).to_string());
    }

    /// Sends a request, and returns the whole answer.
    pub fn answer(&mut self, method: &str, params: &Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        self.send_line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string());
        let answer = self.receive();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// Sends a request, and returns its result.
    pub fn request(&mut self, method: &str, params: &Value) -> Value {
        let answer = self.answer(method, params);
        assert!(answer["error"].is_null(), "{method} failed: {answer}");
        answer["result"].clone()
    }

    /// Calls a tool.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> Called {
        let result = self.request("tools/call", &json!({"name": tool, "arguments": arguments}));
        let content = result["content"].as_array().unwrap();
        assert_eq!((content.len(), content[0]["type"].as_str()), (1, Some("text")), "{result}");
        Called {
            text: content[0]["text"].as_str().unwrap().to_owned(),
            is_error: result["isError"].as_bool().unwrap_or_default(),
        }
    }

    /// Calls a tool that succeeds, and returns its answer.
    pub fn ask(&mut self, tool: &str, arguments: &Value) -> String {
        let called = self.call(tool, arguments);
        assert!(!called.is_error, "{tool} {arguments}: {}", called.text);
        called.text
    }

    /// Calls a tool that fails, and returns why.
    pub fn refuse(&mut self, tool: &str, arguments: &Value) -> String {
        let called = self.call(tool, arguments);
        assert!(called.is_error, "{tool} {arguments}: {}", called.text);
        called.text
    }

    /// Closes the server's standard input, and waits for its end.
    pub fn close(mut self) -> ExitStatus {
        self.input = None;
        self.wait()
    }

    /// Waits for the end of the server.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert_eq!(self.lines.recv_timeout(TIMEOUT), Err(RecvTimeoutError::Disconnected));
                return status;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the server has not ended");
    }
}

impl Drop for McpClient {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The citations in an answer.
pub fn citations(answer: &str) -> Vec<&str> {
    let starts = answer.lines().filter_map(|line| line.trim_start().strip_prefix('['));
    starts
        .filter_map(|line| line.split_once(']'))
        .map(|(cited, _)| cited)
        .filter(|cited| cited.contains('/'))
        .collect()
}
