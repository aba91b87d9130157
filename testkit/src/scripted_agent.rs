//! An agent that performs the steps of a test: text, tools, failures, pauses.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hfs_core::{
    Agent, AgentDescription, AgentError, AgentMemory, CompletedMessage, EventPayload, Part, ReplyDelta, Role,
    RunOutcome, RunRequest, RunSink, lock_unpoisoned,
};

/// Step of a [`Scripted`] agent.
#[derive(Clone)]
pub enum Step {
    /// Streams text.
    Say(&'static str),
    /// Streams thinking.
    Think(&'static str),
    /// Adds a part to the message: a tool call, a result.
    Part(Part),
    /// Streams output of the call with this id.
    Output(&'static str, &'static str),
    /// Completes the message and begins the next one.
    Next(CompletedMessage, Role),
    /// Waits until everything is durable, and fails if that cannot be.
    Persist,
    /// Records an event.
    Event(EventPayload),
    /// Adds an entry to the memory of an agent.
    Remember(&'static str, &'static str),
    /// Waits until the run is cancelled and then returns at once.
    AwaitCancel,
    /// Never returns, even if the run is cancelled.
    Hang,
    /// Waits for this many milliseconds.
    Pause(u64),
    /// Fails, as an unavailable provider would.
    Fail,
    /// Calls a closure.
    Call(Arc<dyn Fn() + Send + Sync>),
}

impl Step {
    /// A call of the tool `run` with this id and command.
    #[must_use]
    pub fn call(id: &str, command: &str) -> Self {
        let input = serde_json::json!({ "command": command });
        Self::Part(Part::ToolCall { id: id.to_owned(), name: "run".to_owned(), input })
    }

    /// The result of the call with this id.
    #[must_use]
    pub fn result(id: &str, output: &str) -> Self {
        let (id, output) = (id.to_owned(), output.to_owned());
        Self::Part(Part::ToolResult { id, output, is_error: false })
    }

    /// Completes the message as it was streamed, and begins the next one.
    #[must_use]
    pub fn next(role: Role) -> Self {
        Self::Next(CompletedMessage::streamed(), role)
    }
}

/// Performs its steps in every run and records the requests.
pub struct Scripted {
    /// The steps of the next run.
    pub steps: Mutex<Vec<Step>>,
    /// The requests so far.
    pub requests: Mutex<Vec<RunRequest>>,
}

impl Scripted {
    /// An agent that performs these steps.
    #[must_use]
    pub fn new(steps: Vec<Step>) -> Arc<Self> {
        Arc::new(Self { steps: Mutex::new(steps), requests: Mutex::new(Vec::new()) })
    }
}

/// The entries that [`Step::Remember`] added to a memory.
#[must_use]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
pub fn entries(memory: &AgentMemory) -> Vec<String> {
    memory.read().unwrap()
}

#[async_trait]
impl Agent for Scripted {
    fn describe(&self) -> AgentDescription {
        AgentDescription::new("scripted", "performs the steps of a test")
    }

    #[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        let steps = lock_unpoisoned(&self.steps).clone();
        let cancel = request.cancel.clone();
        let mut memories = request.memories.clone();
        lock_unpoisoned(&self.requests).push(request);
        let mut reply = String::new();
        let mut uses_tools = false;
        for step in steps {
            match step {
                Step::Say(text) => {
                    reply.push_str(text);
                    sink.reply(ReplyDelta::text(text));
                }
                Step::Think(text) => sink.reply(ReplyDelta::thinking(text)),
                Step::Part(part) => {
                    uses_tools = true;
                    sink.part(part);
                }
                Step::Output(id, text) => sink.reply(ReplyDelta::output(id, text)),
                Step::Next(completed, role) => {
                    uses_tools = true;
                    sink.next_message(completed, role);
                }
                Step::Persist => sink.persist().await?,
                Step::Event(payload) => sink.event(payload),
                Step::Remember(agent, text) => {
                    let mut all = memories.get(agent).map(entries).unwrap_or_default();
                    all.push(text.to_owned());
                    let memory = AgentMemory::new(&all).unwrap();
                    memories.insert(agent.to_owned(), memory.clone());
                    sink.remember(agent, memory);
                }
                Step::AwaitCancel => {
                    cancel.cancelled().await;
                    return Err(AgentError::Cancelled);
                }
                Step::Hang => std::future::pending().await,
                Step::Pause(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
                Step::Call(call) => call(),
                Step::Fail => {
                    return Err(AgentError::Unavailable {
                        provider: "test".into(),
                        message: "gone".into(),
                        retry_after: None,
                        suggestion: None,
                    });
                }
            }
        }
        let message = if uses_tools {
            CompletedMessage::streamed()
        } else {
            CompletedMessage::new(vec![Part::text(reply)])
        };
        Ok(RunOutcome::new(message))
    }
}
