//! Integration tests of the agents, against a model server on loopback and an in-memory store.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

mod assistant;
mod recall;
mod requests;
mod responses;
mod triads;
mod triads_failures;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hfs_agents::{ApiKey, ModelConfig, Provider, RetryPolicy, Timeouts};
use hfs_core::{
    Agent, AgentError, AgentMemory, BranchId, CompletedMessage, DeltaKind, EventPayload, Message,
    MessageDraft, NotPersisted, ReplyDelta, Role, RunId, RunOutcome, RunRequest, RunSink, SessionId,
    Timestamp,
};
use testkit::model_server::{ModelServer, Protocol};

/// A cancelled run must end within this time.
const CANCEL_DEADLINE: Duration = Duration::from_millis(200);

/// Records everything an agent emits.
#[derive(Debug, Default)]
struct RecordingSink {
    pub events: Mutex<Vec<EventPayload>>,
    deltas: Mutex<Vec<ReplyDelta>>,
    pub memories: Mutex<BTreeMap<String, AgentMemory>>,
    pub first_delta: tokio::sync::Notify,
}

#[async_trait]
impl RunSink for RecordingSink {
    fn event(&self, payload: EventPayload) {
        self.events.lock().unwrap().push(payload);
    }

    fn reply(&self, delta: ReplyDelta) {
        self.deltas.lock().unwrap().push(delta);
        self.first_delta.notify_one();
    }

    fn next_message(&self, completed: CompletedMessage, _next: Role) {
        panic!("these agents write one message each: {completed:?}");
    }

    async fn persist(&self) -> Result<(), NotPersisted> {
        Ok(())
    }

    fn remember(&self, agent: &str, memory: AgentMemory) {
        self.memories.lock().unwrap().insert(agent.to_owned(), memory);
    }
}

/// The text or the thinking of streamed deltas.
fn texts_of(deltas: &[ReplyDelta], kind: DeltaKind) -> String {
    let texts = deltas.iter().filter_map(|delta| match delta {
        ReplyDelta::Text(delta) => (delta.kind == kind).then_some(delta.text.as_str()),
        ReplyDelta::Part(_) | ReplyDelta::Output(_) => panic!("these agents stream only text: {delta:?}"),
    });
    texts.collect()
}

impl RecordingSink {
    /// The streamed text without thinking.
    pub fn text(&self) -> String {
        let deltas = self.deltas.lock().unwrap();
        texts_of(&deltas, DeltaKind::Text)
    }

    /// The types of the events, in order.
    pub fn kinds(&self) -> Vec<String> {
        self.events.lock().unwrap().iter().map(|event| event.kind().to_owned()).collect()
    }

    /// The messages of the error events.
    pub fn errors(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let messages = events.iter().filter_map(|event| match event {
            EventPayload::ErrorOccurred { message, .. } => Some(message.clone()),
            _ => None,
        });
        messages.collect()
    }
}

/// A request with these messages as its history.
fn request(messages: Vec<MessageDraft>) -> RunRequest {
    let branch = BranchId::generate();
    let history = (1..).zip(messages).map(|(seq, content)| Message { branch, seq, content }).collect();
    RunRequest::new(RunId::generate(), SessionId::generate(), branch, history)
}

/// A request with one user message.
fn question(text: &str) -> RunRequest {
    request(vec![MessageDraft::user(text, Timestamp::UNIX_EPOCH)])
}

const KEY: &str = "sk-test-0123456789";

const fn provider(protocol: Protocol) -> Provider {
    match protocol {
        Protocol::OpenAi => Provider::OpenAi,
        Protocol::Anthropic => Provider::Anthropic,
        Protocol::Gemini => Provider::Gemini,
        Protocol::Ollama => Provider::Ollama,
    }
}

/// Configuration of a model on the server, with short retry delays.
fn config(server: &ModelServer, protocol: Protocol) -> ModelConfig {
    ModelConfig {
        base_url: Some(server.url(protocol)),
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            first_token: Duration::from_secs(20),
            between_tokens: Duration::from_secs(20),
        },
        retries: RetryPolicy {
            max_attempts: 3,
            initial_delay: Duration::from_millis(4),
            max_delay: Duration::from_secs(2),
        },
        ..ModelConfig::new(provider(protocol), "test-model", ApiKey::new(KEY))
    }
}

/// Runs the agent to the end.
async fn run(agent: &dyn Agent, request: RunRequest) -> (RecordingSink, Result<RunOutcome, AgentError>) {
    let sink = RecordingSink::default();
    let outcome = agent.run(request, &sink).await;
    (sink, outcome)
}

/// Runs the agent and cancels the run when `ready` completes. Also returns the time from the cancellation to
/// the end of the run.
async fn run_and_cancel(
    agent: &dyn Agent,
    request: RunRequest,
    ready: impl AsyncFnOnce(&RecordingSink),
) -> (RecordingSink, Result<RunOutcome, AgentError>, Duration) {
    let sink = RecordingSink::default();
    let cancel = request.cancel.clone();
    let canceller = async {
        ready(&sink).await;
        cancel.cancel();
        Instant::now()
    };
    let (outcome, cancelled_at) = tokio::join!(agent.run(request, &sink), canceller);
    (sink, outcome, cancelled_at.elapsed())
}

/// Waits until the server has received `count` requests.
async fn wait_for_requests(server: &ModelServer, count: usize) {
    while server.requests().len() < count {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
