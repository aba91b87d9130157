//! What the tests share: requests, a sink that remembers, and patience for a cancel.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hfs_agents::{ModelConfig, Provider, Retries, Secret, Timeouts};
use hfs_core::{
    Agent, AgentError, AgentMemory, BranchId, DeltaKind, EventPayload, Message, MessageDraft, RunId,
    RunOutcome, RunRequest, RunSink, SessionId, Timestamp,
};
use testkit::model_server::{ModelServer, Protocol};
use tokio_util::sync::CancellationToken;

/// How quickly a cancel must be obeyed.
pub const AT_ONCE: Duration = Duration::from_millis(200);

/// Remembers everything an agent says.
#[derive(Debug, Default)]
pub struct Heard {
    pub events: Mutex<Vec<EventPayload>>,
    pub pieces: Mutex<Vec<(DeltaKind, String)>>,
    pub memories: Mutex<BTreeMap<String, AgentMemory>>,
    pub first_piece: tokio::sync::Notify,
}

impl RunSink for Heard {
    fn event(&self, payload: EventPayload) {
        self.events.lock().unwrap().push(payload);
    }

    fn reply(&self, delta: ReplyDelta) {
        self.pieces.lock().unwrap().push((kind, text.to_owned()));
        self.first_piece.notify_one();
    }

    fn remember(&self, agent: &str, memory: AgentMemory) {
        self.memories.lock().unwrap().insert(agent.to_owned(), memory);
    }
}

impl Heard {
    /// The text that was streamed.
    pub fn text(&self) -> String {
        let pieces = self.pieces.lock().unwrap();
        pieces.iter().filter(|(kind, _)| *kind == DeltaKind::Text).map(|(_, text)| text.as_str()).collect()
    }

    /// The types of the events, in order.
    pub fn kinds(&self) -> Vec<String> {
        self.events.lock().unwrap().iter().map(|event| event.kind().to_owned()).collect()
    }

    /// What the errors say.
    pub fn errors(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let messages = events.iter().filter_map(|event| match event {
            EventPayload::ErrorOccurred { message, .. } => Some(message.clone()),
            _ => None,
        });
        messages.collect()
    }
}

/// A request whose conversation is these messages.
pub fn request(messages: Vec<MessageDraft>) -> RunRequest {
    let branch = BranchId::generate();
    RunRequest {
        run: RunId::generate(),
        session: SessionId::generate(),
        branch,
        history: (1..).zip(messages).map(|(seq, content)| Message { branch, seq, content }).collect(),
        memories: BTreeMap::new(),
        cancel: CancellationToken::new(),
    }
}

/// A request with one question.
pub fn question(text: &str) -> RunRequest {
    request(vec![MessageDraft::user(text, Timestamp::UNIX_EPOCH)])
}

pub const KEY: &str = "sk-test-0123456789";

pub const fn provider(protocol: Protocol) -> Provider {
    match protocol {
        Protocol::OpenAi => Provider::OpenAi,
        Protocol::Anthropic => Provider::Anthropic,
        Protocol::Gemini => Provider::Gemini,
        Protocol::Ollama => Provider::Ollama,
    }
}

/// The server's model, asked with little patience.
pub fn config(server: &ModelServer, protocol: Protocol) -> ModelConfig {
    ModelConfig {
        base_url: Some(server.url(protocol)),
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(20),
            idle: Duration::from_secs(20),
        },
        retries: Retries {
            attempts: 3,
            first_pause: Duration::from_millis(4),
            longest_pause: Duration::from_secs(2),
        },
        ..ModelConfig::new(provider(protocol), "test-model", Secret::new(KEY))
    }
}

/// Runs the agent to its end.
pub async fn run(agent: &dyn Agent, request: RunRequest) -> (Heard, Result<RunOutcome, AgentError>) {
    let heard = Heard::default();
    let outcome = agent.run(request, &heard).await;
    (heard, outcome)
}

/// Runs the agent, cancels it once `ready` is done, and says how long it took to obey.
pub async fn run_and_cancel(
    agent: &dyn Agent,
    request: RunRequest,
    ready: impl AsyncFnOnce(&Heard),
) -> (Heard, Result<RunOutcome, AgentError>, Duration) {
    let heard = Heard::default();
    let cancel = request.cancel.clone();
    let canceller = async {
        ready(&heard).await;
        cancel.cancel();
        Instant::now()
    };
    let (outcome, cancelled_at) = tokio::join!(agent.run(request, &heard), canceller);
    (heard, outcome, cancelled_at.elapsed())
}

/// Waits until so many requests have arrived.
pub async fn arrived(server: &ModelServer, count: usize) {
    while server.requests().len() < count {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
