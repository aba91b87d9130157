//! Integration tests of agents over the Agent Client Protocol, with a scripted agent in a process of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a panic is how a test fails"
)]
#![allow(clippy::needless_pass_by_value, reason = "scripts read better without references to their values")]

mod front_end;
mod misbehaviour;
mod permissions;
mod processes;
mod sessions;
mod turns;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hfs_acp::{
    AcpAgent, AgentSessions, Attachments, Decision, Launch, PermissionPolicy, PermissionQuestion, environment,
};
use hfs_core::{
    Agent, AgentError, AgentMemory, Attachment, BranchId, CompletedMessage, ContentHash, DecidedBy,
    EventPayload, Message, MessageDraft, NotPersisted, Part, PassthroughFields, PermissionRecord, ReplyDelta,
    Role, RunId, RunOutcome, RunRequest, RunSink, SessionId, Timestamp, ToolEvent, append_delta,
};
use serde_json::{Value, json};
use testkit::acp_agent::ScriptedProgram;
use tokio_util::sync::CancellationToken;

/// The test of this binary that becomes the agent.
const AGENT_TEST: &str = "scripted_agent";

#[test]
fn scripted_agent() {
    testkit::acp_agent::run_if_asked();
}

/// How long a test waits for what should happen at once.
const SOON: Duration = Duration::from_secs(20);

/// A message as the sink received it.
#[derive(Debug, Clone, PartialEq)]
struct Written {
    role: Role,
    parts: Vec<Part>,
    extra: PassthroughFields,
}

/// Collects what an agent writes.
#[derive(Debug)]
struct CollectingSink {
    open: Mutex<(Role, Vec<Part>)>,
    written: Mutex<Vec<Written>>,
    events: Mutex<Vec<EventPayload>>,
    memories: Mutex<BTreeMap<String, AgentMemory>>,
    /// What had been written at each call of `persist`.
    persisted: Mutex<Vec<Vec<Part>>>,
}

impl CollectingSink {
    fn new() -> Self {
        Self {
            open: Mutex::new((Role::Assistant, Vec::new())),
            written: Mutex::default(),
            events: Mutex::default(),
            memories: Mutex::default(),
            persisted: Mutex::default(),
        }
    }

    fn complete(&self, completed: CompletedMessage, next: Role) {
        let (role, parts) = std::mem::replace(&mut *self.open.lock().unwrap(), (next, Vec::new()));
        if !parts.is_empty() {
            self.written.lock().unwrap().push(Written { role, parts, extra: completed.extra });
        }
    }

    fn tool_events(&self) -> Vec<ToolEvent> {
        self.events.lock().unwrap().iter().filter_map(ToolEvent::read).collect()
    }
}

#[async_trait]
impl RunSink for CollectingSink {
    fn event(&self, payload: EventPayload) {
        self.events.lock().unwrap().push(payload);
    }

    fn reply(&self, delta: ReplyDelta) {
        append_delta(&mut self.open.lock().unwrap().1, &delta);
    }

    fn next_message(&self, completed: CompletedMessage, next: Role) {
        self.complete(completed, next);
    }

    async fn persist(&self) -> Result<(), NotPersisted> {
        let mut parts: Vec<Part> =
            self.written.lock().unwrap().iter().flat_map(|message| message.parts.clone()).collect();
        parts.extend(self.open.lock().unwrap().1.clone());
        self.persisted.lock().unwrap().push(parts);
        Ok(())
    }

    fn remember(&self, agent: &str, memory: AgentMemory) {
        self.memories.lock().unwrap().insert(agent.to_owned(), memory);
    }
}

/// Keeps attachments in memory.
#[derive(Default)]
struct MemoryAttachments {
    stored: Mutex<BTreeMap<ContentHash, Vec<u8>>>,
    /// Every store takes this long.
    delay: Duration,
}

impl Attachments for MemoryAttachments {
    fn load(&self, hash: ContentHash) -> Option<Vec<u8>> {
        self.stored.lock().unwrap().get(&hash).cloned()
    }

    fn store(&self, attachment: &Attachment) -> Result<(), NotPersisted> {
        std::thread::sleep(self.delay);
        self.stored.lock().unwrap().insert(attachment.hash, attachment.bytes.clone());
        Ok(())
    }
}

/// Keeps the sessions of the agent, and says that it has written one.
#[derive(Default)]
struct KnownSessions {
    started: Mutex<Vec<(String, BranchId)>>,
    /// What `write` returns.
    written: Mutex<Option<String>>,
    /// What was to be written: the branch, and the newest message.
    asked: Mutex<Vec<(BranchId, u64)>>,
}

impl AgentSessions for KnownSessions {
    fn started(&self, id: &str, branch: BranchId) -> Result<(), NotPersisted> {
        self.started.lock().unwrap().push((id.to_owned(), branch));
        Ok(())
    }

    fn write(&self, _: SessionId, branch: BranchId, through: u64) -> Result<Option<String>, NotPersisted> {
        self.asked.lock().unwrap().push((branch, through));
        Ok(self.written.lock().unwrap().clone())
    }
}

/// Answers all questions in the same way, or never.
struct FixedPolicy {
    answer: Option<bool>,
    asked: Mutex<Vec<PermissionQuestion>>,
}

#[async_trait]
impl PermissionPolicy for FixedPolicy {
    async fn decide(&self, question: &PermissionQuestion) -> Decision {
        self.asked.lock().unwrap().push(question.clone());
        match self.answer {
            Some(allowed) => Decision::new(allowed, DecidedBy::User),
            None => std::future::pending().await,
        }
    }
}

/// What a turn has left.
struct Turn {
    result: Result<RunOutcome, AgentError>,
    messages: Vec<Written>,
    sink: CollectingSink,
}

impl Turn {
    #[track_caller]
    fn ok(self) -> Self {
        assert!(self.result.is_ok(), "{:?}", self.result);
        self
    }

    #[track_caller]
    fn error(&self) -> String {
        self.result.as_ref().unwrap_err().to_string()
    }

    fn texts(&self) -> Vec<String> {
        let parts = self.messages.iter().flat_map(|message| &message.parts);
        parts
            .filter_map(|part| if let Part::Text { text } = part { Some(text.clone()) } else { None })
            .collect()
    }

    fn events(&self) -> Vec<ToolEvent> {
        self.sink.tool_events()
    }
}

/// A conversation with the scripted agent.
struct Conversation {
    script: Arc<ScriptedProgram>,
    folder: tempfile::TempDir,
    policy: Arc<FixedPolicy>,
    attachments: Arc<MemoryAttachments>,
    sessions: Arc<KnownSessions>,
    agent: AcpAgent,
    session: SessionId,
    branch: BranchId,
    history: Vec<Message>,
    memories: BTreeMap<String, AgentMemory>,
}

fn launch(script: &ScriptedProgram, folder: &Path) -> Launch {
    let (program, arguments) = script.command(AGENT_TEST);
    Launch {
        agent: "scripted".into(),
        program,
        arguments,
        environment: environment(["SECRET_TOKEN"], |name| match name {
            "SECRET_TOKEN" => Some("tk-94hfbq-verysecret".to_owned()),
            _ => std::env::var(name).ok(),
        }),
        directory: folder.to_owned(),
        log: folder.join("logs/agent-scripted.log"),
        supervisor: vec![env!("CARGO_BIN_EXE_supervise-agent").into()],
    }
}

impl Conversation {
    fn new(script: &Value) -> Self {
        Self::with(script, Some(true), Duration::ZERO)
    }

    fn with(script: &Value, answer: Option<bool>, storing: Duration) -> Self {
        let script = Arc::new(ScriptedProgram::new(script));
        let folder = tempfile::tempdir().unwrap();
        let policy = Arc::new(FixedPolicy { answer, asked: Mutex::default() });
        let attachments = Arc::new(MemoryAttachments { delay: storing, ..MemoryAttachments::default() });
        let sessions = Arc::new(KnownSessions::default());
        let agent = AcpAgent::new(
            launch(&script, folder.path()),
            Vec::new(),
            Some("ask".into()),
            Arc::clone(&policy) as Arc<dyn PermissionPolicy>,
            Arc::clone(&attachments) as Arc<dyn Attachments>,
        )
        .with_sessions(Arc::clone(&sessions) as Arc<dyn AgentSessions>);
        Self {
            script,
            folder,
            policy,
            attachments,
            sessions,
            agent,
            session: SessionId::generate(),
            branch: BranchId::generate(),
            history: Vec::new(),
            memories: BTreeMap::new(),
        }
    }

    /// Starts over with the same conversation, as a new process of hfs does.
    async fn restart(&mut self) {
        self.agent.close().await;
        self.agent = AcpAgent::new(
            launch(&self.script, self.folder.path()),
            Vec::new(),
            Some("ask".into()),
            Arc::clone(&self.policy) as Arc<dyn PermissionPolicy>,
            Arc::clone(&self.attachments) as Arc<dyn Attachments>,
        )
        .with_sessions(Arc::clone(&self.sessions) as Arc<dyn AgentSessions>);
    }

    fn add(&mut self, role: Role, parts: Vec<Part>) {
        let content = MessageDraft::new(role, parts, Timestamp::UNIX_EPOCH);
        let seq = u64::try_from(self.history.len()).unwrap() + 1;
        self.history.push(Message { branch: self.branch, seq, content });
    }

    async fn say(&mut self, text: &str) -> Turn {
        self.say_until(text, CancellationToken::new()).await
    }

    /// Sends a message, and keeps what the agent wrote as part of the conversation.
    async fn say_until(&mut self, text: &str, cancel: CancellationToken) -> Turn {
        self.add(Role::User, vec![Part::text(text)]);
        let request = RunRequest::new(RunId::generate(), self.session, self.branch, self.history.clone())
            .with_memories(self.memories.clone())
            .with_cancel(cancel);
        let sink = CollectingSink::new();
        let result = self.agent.run(request, &sink).await;
        let last = match &result {
            Ok(outcome) => outcome.message.clone(),
            Err(_) => CompletedMessage::streamed(),
        };
        sink.complete(last, Role::Assistant);
        let messages = sink.written.lock().unwrap().clone();
        for message in &messages {
            self.add(message.role, message.parts.clone());
        }
        self.memories.extend(sink.memories.lock().unwrap().clone());
        Turn { result, messages, sink }
    }

    /// Cancels a message as soon as the agent has received it. Returns how long the run took to end after that.
    async fn say_and_cancel(&mut self, text: &str) -> (Turn, Duration) {
        let cancel = CancellationToken::new();
        let (trigger, text) = (cancel.clone(), text.to_owned());
        let before = self.script.received("session/prompt").len();
        let watcher = {
            let script = Arc::clone(&self.script);
            tokio::spawn(async move {
                while script.received("session/prompt").len() <= before {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                trigger.cancel();
                Instant::now()
            })
        };
        let turn = self.say_until(&text, cancel).await;
        let ended = Instant::now();
        let cancelled = watcher.await.unwrap();
        (turn, ended.saturating_duration_since(cancelled))
    }
}

fn chunk(text: &str) -> Value {
    json!({"update": {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}})
}

/// A script whose prompts take these steps.
fn prompts(lists: Value) -> Value {
    json!({"session/prompt": lists})
}
