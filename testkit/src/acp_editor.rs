//! An editor that speaks the Agent Client Protocol with `hfs acp`, and keeps what a user sees in it.

#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic here fails the test that called"
)]

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

/// How long a test waits for what should happen at once.
const SOON: Duration = Duration::from_secs(60);

/// What a user sees of a session: texts, tool calls and plans, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    entries: Vec<Value>,
    /// The message that the last text belongs to, if the agent says so.
    message: Option<Value>,
    /// The place of each tool call.
    calls: BTreeMap<String, usize>,
}

impl View {
    fn text(&mut self, kind: &str, update: &Value) {
        let content = &update["content"];
        let Some(text) = content["text"].as_str() else {
            self.entries.push(json!({kind: content}));
            self.message = None;
            return;
        };
        let message = update.get("messageId").cloned();
        let is_same = message.is_none() || self.message.is_none() || message == self.message;
        self.message = message;
        match self.entries.last_mut().and_then(|entry| entry.get_mut(kind)) {
            Some(Value::String(last)) if is_same => last.push_str(text),
            _ => self.entries.push(json!({kind: text})),
        }
    }

    fn call(&mut self, update: &Value) {
        let id = update["toolCallId"].as_str().unwrap_or_default().to_owned();
        let place = *self.calls.entry(id).or_insert_with(|| {
            self.entries.push(json!({"tool": {}}));
            self.entries.len() - 1
        });
        let fields = update.as_object().expect("an update is an object");
        let shown = self.entries[place]["tool"].as_object_mut().expect("a call is an object");
        for (name, value) in fields {
            if !value.is_null() && !matches!(name.as_str(), "sessionUpdate" | "toolCallId" | "_meta") {
                shown.insert(name.clone(), value.clone());
            }
        }
    }

    fn update(&mut self, update: &Value) {
        match update["sessionUpdate"].as_str() {
            Some("user_message_chunk") => self.text("user", update),
            Some("agent_message_chunk") => self.text("agent", update),
            Some("agent_thought_chunk") => self.text("thought", update),
            Some("tool_call" | "tool_call_update") => self.call(update),
            Some("plan") => self.entries.push(json!({"plan": update["entries"]})),
            _ => {}
        }
    }

    /// What is shown. The raw output of a tool is shown only without other content.
    #[must_use]
    pub fn entries(&self) -> Vec<Value> {
        let mut entries = self.entries.clone();
        for tool in entries.iter_mut().filter_map(|entry| entry.get_mut("tool")) {
            let has_content = tool["content"].as_array().is_some_and(|content| !content.is_empty());
            if let (true, Value::Object(fields)) = (has_content, tool) {
                fields.shift_remove("rawOutput");
            }
        }
        entries
    }
}

/// A running `hfs acp`, as an editor uses it. Dropping it kills the process.
#[derive(Debug)]
pub struct Editor {
    child: Child,
    input: Option<ChildStdin>,
    messages: Receiver<Value>,
    errors: Option<JoinHandle<String>>,
    last_id: u64,
    /// Answers that came before they were waited for.
    answers: BTreeMap<u64, Value>,
    /// Requests of the agent that are not answered.
    questions: VecDeque<Value>,
    /// The kind of option with which questions are answered at once; `None` to leave them open.
    pub answers_with: Option<&'static str>,
    /// All updates, with their sessions.
    updates: Vec<(String, Value)>,
    views: BTreeMap<String, View>,
}

impl Editor {
    /// Starts the program. Each line of its standard output has to be a message.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start the agent of the editor");
        let output = child.stdout.take().expect("stdout is a pipe");
        let mut stderr = child.stderr.take().expect("stderr is a pipe");
        let input = child.stdin.take();
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let message = serde_json::from_str(&line).unwrap_or_else(|_| json!({"not a message": line}));
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self {
            child,
            input,
            messages,
            errors: Some(errors),
            last_id: 0,
            answers: BTreeMap::new(),
            questions: VecDeque::new(),
            answers_with: None,
            updates: Vec::new(),
            views: BTreeMap::new(),
        }
    }

    /// Starts the program and initializes the connection.
    #[must_use]
    pub fn initialized(command: Command) -> Self {
        let mut editor = Self::start(command);
        let initialized = editor.call("initialize", &json!({"protocolVersion": 1, "clientCapabilities": {}}));
        assert_eq!(initialized["protocolVersion"], 1, "{initialized}");
        editor
    }

    /// Process id of the agent.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line as it is.
    pub fn send_line(&mut self, line: &str) {
        // The agent may have ended.
        let _ = self.input.as_mut().map(|input| input.write_all(format!("{line}\n").as_bytes()));
    }

    /// Sends a message.
    pub fn send(&mut self, message: &Value) {
        self.send_line(&message.to_string());
    }

    /// Sends a notification.
    pub fn notify(&mut self, method: &str, params: &Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// Sends a request. Returns its id.
    pub fn begin(&mut self, method: &str, params: &Value) -> u64 {
        self.last_id += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}));
        self.last_id
    }

    /// Sends a request, and returns its result.
    ///
    /// # Panics
    /// Panics if the answer is an error.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        let id = self.begin(method, params);
        match self.wait(id) {
            Ok(result) => result,
            Err(error) => panic!("{method} failed: {error}"),
        }
    }

    /// Sends a request, and returns the error that it is answered with.
    ///
    /// # Panics
    /// Panics if the answer is a result.
    #[track_caller]
    pub fn refused(&mut self, method: &str, params: &Value) -> Value {
        let id = self.begin(method, params);
        match self.wait(id) {
            Ok(result) => panic!("{method} was answered: {result}"),
            Err(error) => error,
        }
    }

    /// Waits for the answer to a request.
    #[track_caller]
    pub fn wait(&mut self, id: u64) -> Result<Value, Value> {
        self.wait_until(&format!("an answer to request {id}"), |editor| editor.answers.contains_key(&id));
        let mut answer = self.answers.remove(&id).expect("it was waited for");
        match answer.get_mut("error").map(Value::take) {
            Some(error) => Err(error),
            None => Ok(answer["result"].take()),
        }
    }

    /// Receives messages until the condition holds.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + SOON;
        while !condition(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok(message) => self.receive(message),
                Err(error) => panic!("no {what}: {error}; so far: {:#?}", self.updates),
            }
        }
    }

    /// Receives a message if one arrives in this time. Returns whether the connection is still open.
    pub fn receive_for(&mut self, limit: Duration) -> bool {
        match self.messages.recv_timeout(limit) {
            Ok(message) => {
                self.receive(message);
                true
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    fn receive(&mut self, message: Value) {
        assert!(message.get("not a message").is_none(), "{message}");
        if message["method"] == "session/update" {
            let session = message["params"]["sessionId"].as_str().expect("a session").to_owned();
            let update = message["params"]["update"].clone();
            self.views.entry(session.clone()).or_default().update(&update);
            self.updates.push((session, update));
        } else if message.get("method").is_some() {
            if let Some(session) = message["params"]["sessionId"].as_str() {
                let view = self.views.entry(session.to_owned()).or_default();
                // A question also describes its call.
                if message["params"]["toolCall"].is_object() {
                    view.call(&message["params"]["toolCall"]);
                }
            }
            match self.answers_with {
                Some(kind) if message["method"] == "session/request_permission" => {
                    self.answer_question(&message, kind);
                }
                _ => self.questions.push_back(message),
            }
        } else if let Some(id) = message["id"].as_u64() {
            self.answers.insert(id, message);
        } else {
            // An answer to something that could not be read.
            self.answers.insert(0, message);
        }
    }

    fn answer_question(&mut self, question: &Value, kind: &str) {
        let options = question["params"]["options"].as_array().expect("options");
        let option = options.iter().find(|option| option["kind"] == kind).expect("an option of this kind");
        let outcome = json!({"outcome": {"outcome": "selected", "optionId": option["optionId"]}});
        self.send(&json!({"jsonrpc": "2.0", "id": question["id"], "result": outcome}));
    }

    /// Waits for a request of the agent.
    #[track_caller]
    pub fn wait_for_request(&mut self, method: &str) -> Value {
        self.wait_until(method, |editor| editor.questions.iter().any(|request| request["method"] == method));
        let index = self.questions.iter().position(|request| request["method"] == method);
        index.and_then(|index| self.questions.remove(index)).expect("it was waited for")
    }

    /// A request of the agent that is not answered, if there is one.
    pub fn next_request(&mut self) -> Option<Value> {
        self.questions.pop_front()
    }

    /// The answer to a request, if it has arrived.
    pub fn answer_to(&mut self, id: u64) -> Option<Value> {
        self.answers.remove(&id)
    }

    /// Answers a request of the agent.
    pub fn answer(&mut self, request: &Value, result: &Value) {
        self.send(&json!({"jsonrpc": "2.0", "id": request["id"], "result": result}));
    }

    /// Opens a new session in a directory.
    #[track_caller]
    pub fn open(&mut self, directory: &Path) -> String {
        let opened = self.call("session/new", &json!({"cwd": directory, "mcpServers": []}));
        opened["sessionId"].as_str().expect("a session").to_owned()
    }

    /// Loads a session. Its view has what is replayed.
    #[track_caller]
    pub fn load(&mut self, session: &str, directory: &Path) -> Value {
        self.views.remove(session);
        self.call("session/load", &json!({"sessionId": session, "cwd": directory, "mcpServers": []}))
    }

    /// Begins a turn. The view has the words of the user, as editors show them.
    pub fn begin_prompt(&mut self, session: &str, text: &str) -> u64 {
        let view = self.views.entry(session.to_owned()).or_default();
        view.update(
            &json!({"sessionUpdate": "user_message_chunk", "content": {"type": "text", "text": text}}),
        );
        view.message = None;
        let prompt = json!([{"type": "text", "text": text}]);
        self.begin("session/prompt", &json!({"sessionId": session, "prompt": prompt}))
    }

    /// Runs a turn, and returns its answer.
    #[track_caller]
    pub fn prompt(&mut self, session: &str, text: &str) -> Value {
        let id = self.begin_prompt(session, text);
        match self.wait(id) {
            Ok(result) => result,
            Err(error) => panic!("the turn failed: {error}"),
        }
    }

    /// Cancels the turn of a session.
    pub fn cancel(&mut self, session: &str) {
        self.notify("session/cancel", &json!({"sessionId": session}));
    }

    /// What is shown of a session.
    #[must_use]
    pub fn view(&self, session: &str) -> Vec<Value> {
        self.views.get(session).map(View::entries).unwrap_or_default()
    }

    /// The newest text of the agent in a session.
    #[must_use]
    pub fn last_answer(&self, session: &str) -> String {
        let view = self.view(session);
        let last = view.iter().rev().find_map(|entry| entry["agent"].as_str().map(str::to_owned));
        last.unwrap_or_default()
    }

    /// The updates of a kind in a session, oldest first.
    #[must_use]
    pub fn updates(&self, session: &str, kind: &str) -> Vec<Value> {
        let of_session = self.updates.iter().filter(|(of, _)| of == session).map(|(_, update)| update);
        of_session.filter(|update| update["sessionUpdate"] == kind).cloned().collect()
    }

    /// Waits for an update of a session that satisfies the condition.
    #[track_caller]
    pub fn wait_for_update(&mut self, session: &str, what: &str, condition: impl Fn(&Value) -> bool) {
        self.wait_until(what, |editor| {
            editor.updates.iter().any(|(of, update)| of == session && condition(update))
        });
    }

    /// Closes both directions of the connection, as the death of the editor does: the thread that reads the output closes its
    /// pipe at the next message.
    pub fn vanish(&mut self) {
        self.input = None;
        self.messages = channel().1;
    }

    /// Closes the connection, as an editor does that ends.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Waits until the agent has ended. Returns how, and what it wrote to standard error.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + SOON;
        let status = loop {
            match self.child.try_wait().expect("wait for the agent") {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("the agent of the editor does not end"),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let errors = self.errors.take().map(JoinHandle::join);
        (status, errors.and_then(Result::ok).unwrap_or_default())
    }

    /// Kills the agent.
    pub fn kill(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The fields of an option of a session, by its id.
    #[must_use]
    pub fn option<'a>(options: &'a Value, id: &str) -> Option<&'a Map<String, Value>> {
        let all = options["configOptions"].as_array()?;
        all.iter().find(|option| option["id"] == id)?.as_object()
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        self.kill();
    }
}
