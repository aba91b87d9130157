//! An agent of hfs that is a program of its own and speaks the Agent Client Protocol.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_client_protocol_schema::ProtocolVersion;
use agent_client_protocol_schema::v1::{
    CancelNotification, ClientCapabilities, ClientSessionCapabilities, CloseSessionRequest,
    CompactionCapabilities, ContentBlock, EnvVariable, FileSystemCapabilities, ImageContent, Implementation,
    InitializeRequest, InitializeResponse, LoadSessionRequest, McpServer, McpServerStdio, NewSessionRequest,
    NewSessionResponse, NoticeCapabilities, PromptRequest, PromptResponse, RequestPermissionRequest,
    ResumeSessionRequest, SessionModeState, SetSessionModeRequest, StopReason, TextContent,
};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use hfs_core::{
    Agent, AgentDescription, AgentError, AgentMemory, Attachment, BranchId, ContentHash, DecidedBy,
    EventPayload, IncompleteReason, IncompleteReply, Message, NotPersisted, Part, RunOutcome, RunRequest,
    RunSink, Seq, SessionId, SessionOpening, ToolEvent, Usage, lock_unpoisoned,
};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;

use crate::AcpError;
use crate::connection::{BetweenTurnsListener, Connection, Forwarding, PendingCall, TurnInput, TurnQueue};
use crate::conversation_text::{ConversationText, conversation_text};
use crate::front_end::{AgentOptions, FileAccess, FrontEnd, OpenOptions, OptionValue};
use crate::launch::{EnvironmentSecrets, Launch};
use crate::memory::SessionMemory;
use crate::permission::{ActionKind, Decision, PermissionPolicy, PermissionQuestion, response};
use crate::rpc::RpcError;
use crate::turn::{TurnLimits, TurnRecorder, current_model};

/// How long an agent may take to start. Some check for updates first.
const START_LIMIT: Duration = Duration::from_secs(90);
/// How long an agent may take to open a session. A long one is replayed.
const SESSION_LIMIT: Duration = Duration::from_secs(180);
/// How long a cancelled turn is waited for before the run ends. The engine drops a run after 200 ms.
const CANCEL_WAIT: Duration = Duration::from_millis(150);
/// How long an agent may take to end a cancelled turn before its process is ended.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);
/// How long an agent may take to end after its input was closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);
/// Questions of one turn that may be open at the same time. More are refused.
const MAX_QUESTIONS: usize = 1_000;

/// Loads and stores the bytes of attachments. Its functions may block: they are called on tokio's blocking thread pool.
pub trait Attachments: Send + Sync {
    /// The bytes; `None` if they are not stored.
    fn load(&self, hash: ContentHash) -> Option<Vec<u8>>;

    /// Stores an attachment, durably.
    ///
    /// # Errors
    /// Says why it could not be stored.
    fn store(&self, attachment: &Attachment) -> Result<(), NotPersisted>;
}

/// Keeps which sessions of an agent belong to which branch, and writes branches as sessions of the agent. Its functions may
/// block: they are called on tokio's blocking thread pool.
pub trait AgentSessions: Send + Sync {
    /// Records that this session of the agent has begun with this branch, so that an import of the agent's transcript finds
    /// what hfs has recorded.
    ///
    /// # Errors
    /// Says why it could not be recorded.
    fn started(&self, id: &str, branch: BranchId) -> Result<(), NotPersisted>;

    /// Writes the messages of a branch up to and including `through` as a new session of the agent, where the agent finds it.
    /// Returns the agent's id of the session; `None` if the format of the agent's transcripts cannot be written.
    ///
    /// # Errors
    /// Says why it could not be written.
    fn write(
        &self,
        session: SessionId,
        branch: BranchId,
        through: Seq,
    ) -> Result<Option<String>, NotPersisted>;
}

/// A server of the Model Context Protocol that an agent starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolServer {
    /// Name, which agents show.
    pub name: String,
    /// Its program.
    pub command: PathBuf,
    /// Arguments of the program.
    pub arguments: Vec<String>,
    /// Variables to add to its environment.
    pub environment: Vec<(String, String)>,
}

impl ToolServer {
    fn to_wire(&self) -> McpServer {
        let variables = self.environment.iter();
        let variables = variables.map(|(name, value)| EnvVariable::new(name.clone(), value.clone()));
        McpServer::Stdio(
            McpServerStdio::new(self.name.clone(), self.command.clone())
                .args(self.arguments.clone())
                .env(variables.collect::<Vec<_>>()),
        )
    }
}

/// An agent that is a program of its own. It is started for the first message, and again after it has ended.
pub struct AcpAgent {
    inner: Arc<Inner>,
    selection_reason: Option<String>,
}

struct Inner {
    launch: Launch,
    secrets: EnvironmentSecrets,
    tool_servers: Vec<ToolServer>,
    limits: TurnLimits,
    /// The mode of the agent in which it asks before it acts.
    mode: Option<String>,
    policy: Arc<dyn PermissionPolicy>,
    attachments: Arc<dyn Attachments>,
    sessions: Option<Arc<dyn AgentSessions>>,
    /// Shows the agent's own updates.
    front_end: Option<Arc<dyn FrontEnd>>,
    /// Servers that the front end adds.
    more_servers: Vec<McpServer>,
    /// The options of the open sessions.
    options: Mutex<OpenOptions>,
    /// What the user has chosen in the front end. A new session of the agent starts with its own values.
    chosen: Mutex<Vec<(String, OptionValue)>>,
    /// The agent's id of a session that was opened before the first message.
    prepared: Mutex<Option<String>>,
    /// One turn at a time. A cancelled turn holds it until the agent has ended it.
    turn: Arc<AsyncMutex<()>>,
    running: Mutex<Option<Arc<RunningAgent>>>,
    /// Sessions whose cancelled turn ended after its run.
    ended_late: Mutex<HashMap<BranchId, SessionMemory>>,
}

/// Checks that an agent has a mode. A mode that it does not have would leave it to its own settings what it asks.
pub(crate) fn check_mode(agent: &str, wanted: &str, modes: &SessionModeState) -> Result<(), AcpError> {
    let names: Vec<String> = modes.available_modes.iter().map(|mode| mode.id.to_string()).collect();
    if names.iter().any(|name| name == wanted) {
        return Ok(());
    }
    let (agent, mode, available) = (agent.to_owned(), wanted.to_owned(), names.join(", "));
    Err(AcpError::UnknownMode { agent, mode, available })
}

/// A started agent.
struct RunningAgent {
    connection: Connection,
    initialized: InitializeResponse,
    /// The sessions that are open, with the models that they began with.
    open: Mutex<HashMap<String, Option<String>>>,
}

impl RunningAgent {
    fn has_open(&self, session: &str) -> bool {
        lock_unpoisoned(&self.open).contains_key(session)
    }
}

/// A session that is open for a prompt.
struct OpenSession {
    id: String,
    how: SessionOpening,
    model: Option<String>,
    conversation: Option<ConversationText>,
}

impl AcpAgent {
    /// Creates an agent, which is not started yet. Its sessions begin in the mode `mode`, if they have modes: the one in which the
    /// agent asks before it acts. Without it, the agent's own settings decide what it asks.
    #[must_use]
    pub fn new(
        launch: Launch,
        tool_servers: Vec<ToolServer>,
        mode: Option<String>,
        policy: Arc<dyn PermissionPolicy>,
        attachments: Arc<dyn Attachments>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                secrets: EnvironmentSecrets::new(&launch.environment),
                launch,
                tool_servers,
                limits: TurnLimits::default(),
                mode,
                policy,
                attachments,
                sessions: None,
                front_end: None,
                more_servers: Vec::new(),
                options: Mutex::default(),
                chosen: Mutex::default(),
                prepared: Mutex::default(),
                turn: Arc::default(),
                running: Mutex::default(),
                ended_late: Mutex::default(),
            }),
            selection_reason: None,
        }
    }

    /// Sets what keeps the agent's sessions. Without it, a session that the agent does not have begins with the conversation
    /// as text.
    ///
    /// Must be called before the first message.
    #[must_use]
    pub fn with_sessions(mut self, sessions: Arc<dyn AgentSessions>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.sessions = Some(sessions);
        }
        self
    }

    /// Lets a front end show the agent's own updates, and add servers. Call this first, before the agent is used.
    #[must_use]
    pub fn with_front_end(mut self, front_end: Arc<dyn FrontEnd>, servers: Vec<McpServer>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.front_end = Some(front_end);
            inner.more_servers = servers;
        }
        self
    }

    /// Starts the agent and opens a session for a conversation that has no messages yet, so that its options are known.
    ///
    /// # Errors
    /// See [`AcpError`].
    pub async fn prepare(&self) -> Result<(), AcpError> {
        let inner = &self.inner;
        let _turn = inner.turn.lock().await;
        if lock_unpoisoned(&inner.options).session.is_some() {
            return Ok(());
        }
        let running = Inner::start(inner).await?;
        let session = inner.create_session(&running).await?;
        *lock_unpoisoned(&inner.prepared) = Some(session.id);
        Ok(())
    }

    /// The options of the agent's session; empty before one was opened.
    #[must_use]
    pub fn options(&self) -> Vec<Value> {
        lock_unpoisoned(&self.inner.options).shown()
    }

    /// Sets an option of the agent's session, also during a turn.
    ///
    /// # Errors
    /// `Closed` if no session is open, or what the agent answers.
    pub async fn set_option(&self, id: &str, value: OptionValue) -> Result<(), AcpError> {
        let running = lock_unpoisoned(&self.inner.running).clone();
        let session = lock_unpoisoned(&self.inner.options).session.clone();
        let (Some(running), Some(session)) = (running, session) else {
            return Err(AcpError::Closed { agent: self.inner.agent().to_owned() });
        };
        self.inner.set_option(&running, &session, id, &value).await?;
        let mut chosen = lock_unpoisoned(&self.inner.chosen);
        chosen.retain(|(known, _)| known != id);
        chosen.push((id.to_owned(), value));
        Ok(())
    }

    /// Sets why this agent was chosen, which becomes the [`AgentDescription::summary`].
    #[must_use]
    pub fn with_selection_reason(mut self, reason: impl Into<String>) -> Self {
        self.selection_reason = Some(reason.into());
        self
    }
}

/// Starts an agent and agrees on the protocol's version. `limit` is how long it may take to answer.
///
/// # Errors
/// See [`AcpError`].
pub(crate) async fn initialize(
    launch: &Launch,
    files: FileAccess,
    listener: Option<BetweenTurnsListener>,
    limit: Duration,
) -> Result<(Connection, InitializeResponse), AcpError> {
    let connection = Connection::start(launch, Forwarding { methods: files.methods(), listener })?;
    let files = FileSystemCapabilities::new().read_text_file(files.read).write_text_file(files.write);
    let session = ClientSessionCapabilities::new()
        .compaction(CompactionCapabilities::new())
        .notices(NoticeCapabilities::new());
    let request = InitializeRequest::new(ProtocolVersion::V1)
        .client_capabilities(ClientCapabilities::new().session(session).fs(files))
        .client_info(Implementation::new("hfs", env!("CARGO_PKG_VERSION")));
    let initialized: InitializeResponse = connection.call("initialize", &request, Some(limit)).await?;
    if initialized.protocol_version != ProtocolVersion::V1 {
        let (agent, version) = (launch.agent.clone(), initialized.protocol_version.to_string());
        return Err(AcpError::Version { agent, version });
    }
    Ok((connection, initialized))
}

impl Inner {
    fn agent(&self) -> &str {
        &self.launch.agent
    }

    /// The running agent, started if it is not.
    async fn start(this: &Arc<Self>) -> Result<Arc<RunningAgent>, AcpError> {
        let running = lock_unpoisoned(&this.running).clone();
        if let Some(running) = running.filter(|running| running.connection.end_reason().is_none()) {
            return Ok(running);
        }
        *lock_unpoisoned(&this.options) = OpenOptions::default();
        let files = this.front_end.as_ref().map(|front_end| front_end.files()).unwrap_or_default();
        let listener: Option<BetweenTurnsListener> = this.front_end.as_ref().map(|_| {
            let inner = Arc::downgrade(this);
            let listener: BetweenTurnsListener = Box::new(move |session, update| {
                let Some(inner) = inner.upgrade() else { return };
                let is_open = lock_unpoisoned(&inner.options).session.as_deref() == Some(session);
                // Words after the end of a turn are not part of the conversation.
                if is_open && !is_content(update) {
                    inner.show(update);
                }
            });
            listener
        });
        let (connection, initialized) = initialize(&this.launch, files, listener, START_LIMIT).await?;
        let running = Arc::new(RunningAgent { connection, initialized, open: Mutex::default() });
        *lock_unpoisoned(&this.running) = Some(Arc::clone(&running));
        Ok(running)
    }

    /// Passes an update to the front end. Options are announced by the front end, together with its own.
    fn show(&self, update: &Value) {
        let Some(front_end) = &self.front_end else { return };
        let changed = lock_unpoisoned(&self.options).apply(update);
        if changed { front_end.options_changed() } else { front_end.update(update) }
    }

    /// The session that the agent has opened with this answer.
    async fn session_opened(
        &self,
        running: &RunningAgent,
        id: String,
        how: SessionOpening,
        response: Value,
    ) -> Result<OpenSession, AcpError> {
        let response = self.set_mode(running, &id, response).await?;
        lock_unpoisoned(&running.open).insert(id.clone(), current_model(&response));
        lock_unpoisoned(&self.options).add(&id, &response);
        self.use_options(running, &id).await?;
        Ok(self.used_session(running, id, how))
    }

    /// An open session for the next prompt, with the model that it uses now.
    fn used_session(&self, running: &RunningAgent, id: String, how: SessionOpening) -> OpenSession {
        let selected = lock_unpoisoned(&self.options).of(&id).model();
        let model = selected.or_else(|| lock_unpoisoned(&running.open).get(&id).cloned().flatten());
        OpenSession { id, how, model, conversation: None }
    }

    /// Shows the options of the session that is used from now on, and sets those that the user has chosen.
    async fn use_options(&self, running: &RunningAgent, session: &str) -> Result<(), AcpError> {
        let Some(front_end) = &self.front_end else { return Ok(()) };
        lock_unpoisoned(&self.options).session = Some(session.to_owned());
        let chosen = lock_unpoisoned(&self.chosen).clone();
        for (id, value) in chosen {
            if lock_unpoisoned(&self.options).of(session).value(&id).as_ref() == Some(&value) {
                continue;
            }
            match self.set_option(running, session, &id, &value).await {
                Ok(()) => {}
                // The agent does not have it any more; the front end is told which options there are.
                Err(error @ AcpError::Refused { .. }) => {
                    running.connection.log().note(&format!("cannot set {id} again: {error}"));
                }
                Err(error) => return Err(error),
            }
        }
        front_end.options_changed();
        Ok(())
    }

    async fn set_option(
        &self,
        running: &RunningAgent,
        session: &str,
        id: &str,
        value: &OptionValue,
    ) -> Result<(), AcpError> {
        let request = lock_unpoisoned(&self.options).of(session).request(session, id, value);
        let (method, params) = request;
        let response: Value = running.connection.call(method, &params, Some(SESSION_LIMIT)).await?;
        lock_unpoisoned(&self.options).of(session).set(id, value, &response);
        Ok(())
    }

    /// Opens the session that continues the branch: the agent's own if it contains exactly the branch, else a new one, to
    /// which the conversation is sent as text.
    async fn open_session(
        &self,
        running: &RunningAgent,
        request: &RunRequest,
    ) -> Result<OpenSession, AcpError> {
        let remembered = request.memories.get(self.agent());
        let remembered = remembered.and_then(|memory| memory.read::<SessionMemory>().ok());
        let late = lock_unpoisoned(&self.ended_late).remove(&request.branch);
        let memory = [late, remembered].into_iter().flatten();
        let memory = memory.into_iter().find(|memory| memory.holds(request.branch, &request.history));
        if let Some(memory) = memory
            && let Some(opened) = self.continue_session(running, memory.session).await?
        {
            return Ok(opened);
        }
        let Some((prompt, earlier)) = request.history.split_last() else {
            return self.new_session(running, request.branch).await;
        };
        let prepared = lock_unpoisoned(&self.prepared).take();
        if let Some(id) = prepared.filter(|id| earlier.is_empty() && running.has_open(id)) {
            self.record_session(running, &id, request.branch).await;
            return Ok(self.used_session(running, id, SessionOpening::New));
        }
        if !earlier.is_empty()
            && let Some(opened) = self.load_transcript(running, request, prompt.seq.saturating_sub(1)).await?
        {
            return Ok(opened);
        }
        let created = self.new_session(running, request.branch).await?;
        Ok(OpenSession { conversation: conversation_text(earlier), ..created })
    }

    /// Writes the branch's history as a session of the agent, and loads it. `None` if that is not possible.
    async fn load_transcript(
        &self,
        running: &RunningAgent,
        request: &RunRequest,
        through: Seq,
    ) -> Result<Option<OpenSession>, AcpError> {
        let Some(sessions) =
            self.sessions.clone().filter(|_| running.initialized.agent_capabilities.load_session)
        else {
            return Ok(None);
        };
        let (session, branch) = (request.session, request.branch);
        let writing = tokio::task::spawn_blocking(move || sessions.write(session, branch, through)).await;
        let id = match writing.unwrap_or_else(|error| Err(NotPersisted { reason: error.to_string() })) {
            Ok(Some(id)) => id,
            Ok(None) => return Ok(None),
            Err(error) => {
                let log = running.connection.log();
                log.note(&format!("the conversation cannot be written as a transcript: {}", error.reason));
                return Ok(None);
            }
        };
        let opened = self.load_session(running, id).await?;
        Ok(opened.map(|opened| OpenSession { how: SessionOpening::Transcript, ..opened }))
    }

    /// Loads a session. Agents load transcripts that were written for them, and resume only sessions of their own.
    async fn load_session(
        &self,
        running: &RunningAgent,
        id: String,
    ) -> Result<Option<OpenSession>, AcpError> {
        let replay = running.connection.begin_replay(&id);
        let request = LoadSessionRequest::new(id.clone(), &self.launch.directory)
            .mcp_servers(self.tool_servers(running));
        let result = running.connection.call("session/load", &request, Some(SESSION_LIMIT)).await;
        drop(replay);
        self.opened(running, id, result).await
    }

    async fn new_session(&self, running: &RunningAgent, branch: BranchId) -> Result<OpenSession, AcpError> {
        let created = self.create_session(running).await?;
        self.record_session(running, &created.id, branch).await;
        Ok(created)
    }

    /// Notes that the agent's session belongs to a branch, so that an import of its transcript finds it.
    async fn record_session(&self, running: &RunningAgent, id: &str, branch: BranchId) {
        let Some(sessions) = self.sessions.clone() else { return };
        let started = id.to_owned();
        let recording = tokio::task::spawn_blocking(move || sessions.started(&started, branch)).await;
        if let Err(error) = recording.unwrap_or_else(|error| Err(NotPersisted { reason: error.to_string() }))
        {
            let note = format!("an import will not know the session {id}: {}", error.reason);
            running.connection.log().note(&note);
        }
    }

    async fn create_session(&self, running: &RunningAgent) -> Result<OpenSession, AcpError> {
        let request = NewSessionRequest::new(&self.launch.directory).mcp_servers(self.tool_servers(running));
        let created: Value = running.connection.call("session/new", &request, Some(SESSION_LIMIT)).await?;
        let response: NewSessionResponse =
            NewSessionResponse::deserialize(&created).map_err(|error| AcpError::Malformed {
                agent: self.agent().to_owned(),
                message: format!("its answer to session/new cannot be read: {error}"),
            })?;
        self.session_opened(running, response.session_id.to_string(), SessionOpening::New, created).await
    }

    /// Continues a session of the agent. `None` if the agent does not have it any more.
    async fn continue_session(
        &self,
        running: &RunningAgent,
        id: String,
    ) -> Result<Option<OpenSession>, AcpError> {
        if running.has_open(&id) {
            // A rewind or another branch may have used another session since.
            let is_in_use = lock_unpoisoned(&self.options).session.as_deref() == Some(id.as_str());
            if !is_in_use {
                self.use_options(running, &id).await?;
            }
            return Ok(Some(self.used_session(running, id, SessionOpening::Continued)));
        }
        let capabilities = &running.initialized.agent_capabilities;
        if capabilities.session_capabilities.resume.is_none() {
            return if capabilities.load_session { self.load_session(running, id).await } else { Ok(None) };
        }
        let replay = running.connection.begin_replay(&id);
        let request = ResumeSessionRequest::new(id.clone(), &self.launch.directory)
            .mcp_servers(self.tool_servers(running));
        let result = running.connection.call("session/resume", &request, Some(SESSION_LIMIT)).await;
        drop(replay);
        self.opened(running, id, result).await
    }

    /// The session after it was resumed or loaded. `None` if the agent does not have it.
    async fn opened(
        &self,
        running: &RunningAgent,
        id: String,
        result: Result<Value, AcpError>,
    ) -> Result<Option<OpenSession>, AcpError> {
        match result {
            Ok(response) => {
                let opened = self.session_opened(running, id, SessionOpening::Resumed, response).await?;
                Ok(Some(opened))
            }
            // A new session needs the login as well, and its error says so.
            Err(error @ AcpError::Refused { .. }) => {
                running.connection.log().note(&format!("cannot continue the session {id}: {error}"));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Lets the agent ask before it acts, if its session has modes and is in another one. Returns the answer that opened
    /// the session with the mode that it has now.
    async fn set_mode(
        &self,
        running: &RunningAgent,
        session: &str,
        mut opened: Value,
    ) -> Result<Value, AcpError> {
        let modes = opened.get("modes").and_then(|modes| SessionModeState::deserialize(modes).ok());
        let (Some(wanted), Some(modes)) = (&self.mode, modes) else { return Ok(opened) };
        if modes.current_mode_id.to_string() == *wanted {
            return Ok(opened);
        }
        check_mode(running.connection.agent(), wanted, &modes)?;
        let request = SetSessionModeRequest::new(session.to_owned(), wanted.clone());
        let _: Value = running.connection.call("session/set_mode", &request, Some(SESSION_LIMIT)).await?;
        AgentOptions::change_mode(&mut opened, wanted);
        Ok(opened)
    }

    /// The servers of the configuration and of the front end, as far as the agent can use them.
    fn tool_servers(&self, running: &RunningAgent) -> Vec<McpServer> {
        let supported = &running.initialized.agent_capabilities.mcp_capabilities;
        let own = self.tool_servers.iter().map(ToolServer::to_wire);
        let (usable, left_out): (Vec<_>, Vec<_>) =
            own.chain(self.more_servers.iter().cloned()).partition(|server| match server {
                McpServer::Stdio(_) => true,
                McpServer::Http(_) => supported.http,
                McpServer::Sse(_) => supported.sse,
                _ => false,
            });
        if !left_out.is_empty() {
            running.connection.log().note(&format!(
                "{} servers of the Model Context Protocol are left out: the agent does not support their transport",
                left_out.len()
            ));
        }
        usable
    }

    /// The content of a prompt.
    async fn prompt(
        &self,
        running: &RunningAgent,
        conversation: Option<&ConversationText>,
        message: &Message,
    ) -> Vec<ContentBlock> {
        let takes_images = running.initialized.agent_capabilities.prompt_capabilities.image;
        let mut blocks = Vec::new();
        let text = |text: String| ContentBlock::Text(TextContent::new(text));
        if let Some(conversation) = conversation {
            blocks.push(text(conversation.text.clone()));
        }
        for part in &message.content.parts {
            match part {
                Part::Text { text: words } => blocks.push(text(words.clone())),
                Part::Attachment { media_type, name, hash, .. } => {
                    let is_image = takes_images && media_type.starts_with("image/");
                    let bytes = match hash.filter(|_| is_image) {
                        Some(hash) => self.load(hash).await,
                        None => None,
                    };
                    blocks.push(match bytes {
                        Some(bytes) => {
                            ContentBlock::Image(ImageContent::new(STANDARD.encode(bytes), media_type.clone()))
                        }
                        None => text(format!("[file: {}]", name.as_deref().unwrap_or(media_type))),
                    });
                }
                // A user's message has none of these.
                Part::Thinking { .. }
                | Part::ToolCall { .. }
                | Part::ToolResult { .. }
                | Part::Opaque { .. } => {}
            }
        }
        blocks
    }

    async fn load(&self, hash: ContentHash) -> Option<Vec<u8>> {
        let attachments = Arc::clone(&self.attachments);
        tokio::task::spawn_blocking(move || attachments.load(hash)).await.ok().flatten()
    }

    /// Stores pictures that the agent sent, before the message that refers to them.
    async fn store_pictures(&self, pictures: Vec<Attachment>) -> Result<(), NotPersisted> {
        if pictures.is_empty() {
            return Ok(());
        }
        let attachments = Arc::clone(&self.attachments);
        let storing = move || pictures.iter().try_for_each(|picture| attachments.store(picture));
        let stored = tokio::task::spawn_blocking(storing).await;
        stored.unwrap_or_else(|error| Err(NotPersisted { reason: error.to_string() }))
    }
}

/// An answer to a question, with what its event needs.
struct Answered {
    id: Value,
    request: RequestPermissionRequest,
    call: String,
    title: String,
    kind: ActionKind,
    /// `Err` if the call could not be made durable, so that the question is not answered.
    decision: Result<Decision, NotPersisted>,
}

/// A turn in progress. If its run ends before the agent has ended the turn, dropping it cancels the turn in the background.
struct ActiveTurn {
    inner: Arc<Inner>,
    running: Arc<RunningAgent>,
    session: String,
    queue: Option<TurnQueue>,
    call: Option<PendingCall>,
    guard: Option<OwnedMutexGuard<()>>,
    /// What the agent's session contains if the turn ends without anything that was not recorded.
    memory: Option<SessionMemory>,
    is_cancelled: bool,
}

impl ActiveTurn {
    /// Tells the agent to end the turn. Only once.
    fn cancel(&mut self) {
        if !std::mem::replace(&mut self.is_cancelled, true) {
            let _ = self
                .running
                .connection
                .notify("session/cancel", &CancelNotification::new(self.session.clone()));
        }
    }
}

impl Drop for ActiveTurn {
    fn drop(&mut self) {
        let Some(call) = self.call.take() else { return };
        self.cancel();
        let (running, inner, memory) =
            (Arc::clone(&self.running), Arc::clone(&self.inner), self.memory.take());
        let (queue, guard) = (self.queue.take(), self.guard.take());
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    end_cancelled(&inner, &running, call, queue, memory).await;
                    drop(guard);
                });
            }
            // The program ends, and the agent with it.
            Err(_) => running.connection.kill(),
        }
    }
}

/// Waits for the end of a cancelled turn, and ends the agent if it takes too long.
async fn end_cancelled(
    inner: &Inner,
    running: &RunningAgent,
    mut call: PendingCall,
    mut queue: Option<TurnQueue>,
    memory: Option<SessionMemory>,
) {
    let mut is_unrecorded = false;
    let mut deadline = std::pin::pin!(tokio::time::sleep(CANCEL_LIMIT));
    let result = loop {
        tokio::select! {
            biased;
            () = &mut deadline => break None,
            input = next_input(&mut queue) => match input {
                Some(TurnInput::Update(update)) => is_unrecorded |= is_content(&update),
                Some(TurnInput::Permission { id, params }) => cancel_question(&running.connection, &id, params),
                Some(TurnInput::Request { id, .. }) => refuse_late(&running.connection, &id),
                None => queue = None,
            },
            result = call.wait() => break Some(result),
        }
    };
    while let Some(input) = queue.as_mut().and_then(TurnQueue::try_next) {
        match input {
            TurnInput::Update(update) => is_unrecorded |= is_content(&update),
            TurnInput::Permission { id, params } => cancel_question(&running.connection, &id, params),
            TurnInput::Request { id, .. } => refuse_late(&running.connection, &id),
        }
    }
    match result {
        Some(Ok(_)) => {
            if let Some(memory) = memory.filter(|_| !is_unrecorded) {
                lock_unpoisoned(&inner.ended_late).insert(memory.branch, memory);
            }
        }
        Some(Err(_)) => {}
        None => {
            let seconds = CANCEL_LIMIT.as_secs();
            running.connection.log().note(&format!("the cancelled turn did not end within {seconds} s"));
            running.connection.kill();
        }
    }
}

/// The next input; waits forever without a queue.
async fn next_input(queue: &mut Option<TurnQueue>) -> Option<TurnInput> {
    match queue {
        Some(queue) => queue.next().await,
        None => std::future::pending().await,
    }
}

/// Whether an update adds to the conversation.
fn is_content(update: &Value) -> bool {
    let kind = update.get("sessionUpdate").and_then(Value::as_str);
    matches!(kind, Some("agent_message_chunk" | "agent_thought_chunk" | "tool_call" | "tool_call_update"))
}

fn turn_is_over() -> RpcError {
    RpcError::new("the turn has ended or was cancelled")
}

fn refuse_late(connection: &Connection, id: &Value) {
    // The connection may be ending.
    let _ = connection.refuse(id, &turn_is_over());
}

fn cancel_question(connection: &Connection, id: &Value, params: Value) {
    let decision = Decision::new(false, DecidedBy::Cancelled);
    let _ = match serde_json::from_value(params) {
        Ok(request) => connection.answer(id, &response(&request, &decision).0),
        Err(error) => connection.answer_invalid(id, &error.to_string()),
    };
}

/// How recording a turn has ended.
enum TurnEnd {
    /// The agent has ended the turn.
    Response(PromptResponse),
    Failed(AgentError),
    /// The turn was cancelled, and the agent has not ended it yet.
    Unfinished,
}

#[async_trait]
impl Agent for AcpAgent {
    fn describe(&self) -> AgentDescription {
        let agent = self.inner.agent();
        let summary = self.selection_reason.clone().unwrap_or_else(|| format!("the agent {agent}"));
        let running = lock_unpoisoned(&self.inner.running).clone();
        // An agent that has not been started is assumed to look at pictures: all that are known do.
        let sees_images =
            running.is_none_or(|running| running.initialized.agent_capabilities.prompt_capabilities.image);
        AgentDescription::new(agent, summary).with_images(sees_images)
    }

    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        let cancelled = request.cancel.clone().cancelled_owned();
        let inner = &self.inner;
        let preparing = async {
            let guard = Arc::clone(&inner.turn).lock_owned().await;
            let running = Inner::start(inner).await?;
            let session = inner.open_session(&running, &request).await?;
            Ok::<_, AcpError>((guard, running, session))
        };
        let (guard, running, session) = tokio::select! {
            () = cancelled => return Err(AgentError::Cancelled),
            prepared = preparing => prepared?,
        };
        self.turn(request, sink, guard, running, session).await
    }

    async fn close(&self) {
        let running = lock_unpoisoned(&self.inner.running).take();
        let Some(running) = running else { return };
        // A cancelled turn ends first.
        let turn = tokio::time::timeout(CANCEL_LIMIT, self.inner.turn.lock()).await;
        if running.initialized.agent_capabilities.session_capabilities.close.is_some() {
            let sessions: Vec<String> = lock_unpoisoned(&running.open).keys().cloned().collect();
            for session in sessions {
                let request = CloseSessionRequest::new(session);
                let _: Result<Value, AcpError> =
                    running.connection.call("session/close", &request, Some(CLOSE_LIMIT)).await;
            }
        }
        running.connection.close(CLOSE_LIMIT).await;
        drop(turn);
    }
}

impl AcpAgent {
    async fn turn(
        &self,
        request: RunRequest,
        sink: &dyn RunSink,
        guard: OwnedMutexGuard<()>,
        running: Arc<RunningAgent>,
        session: OpenSession,
    ) -> Result<RunOutcome, AgentError> {
        let inner = &self.inner;
        let agent = inner.agent();
        let Some(prompt) = request.history.last() else {
            return Err(AgentError::Internal { message: "there is no message to answer".into() });
        };
        let remembered = request.memories.get(agent);
        let lists = remembered.and_then(|memory| memory.read::<SessionMemory>().ok());
        let lists = lists.map(|memory| memory.lists).unwrap_or_default();
        let mut recorder =
            TurnRecorder::new(agent, sink, inner.limits, &inner.secrets, session.model.clone(), lists);
        let conversation = session.conversation.as_ref();
        recorder.emit(&ToolEvent::SessionOpened {
            agent: agent.to_owned(),
            session: session.id.clone(),
            how: session.how,
            sent_as_text: conversation.map_or(0, |conversation| conversation.messages),
            left_out: conversation.map_or(0, |conversation| conversation.left_out),
        });
        let (between, dropped) = running.connection.take_between_turns(&session.id);
        between.into_iter().for_each(|update| recorder.report(update));
        if dropped > 0 {
            recorder.warn(format!("{dropped} updates that arrived between two turns were too many to keep"));
        }
        let blocks = inner.prompt(&running, conversation, prompt).await;
        let queue = running.connection.begin_turn(&session.id);
        let prompt_request = PromptRequest::new(session.id.clone(), blocks);
        let call = running.connection.begin_call("session/prompt", &prompt_request)?;
        let mut turn = ActiveTurn {
            inner: Arc::clone(inner),
            running: Arc::clone(&running),
            session: session.id.clone(),
            queue: Some(queue),
            call: Some(call),
            guard: Some(guard),
            memory: None,
            is_cancelled: false,
        };
        let end = self.record(&mut turn, &mut recorder, &request.cancel, sink).await;
        if let Some(unreadable) = running.connection.take_unreadable_lines() {
            recorder.warn(unreadable.to_string());
        }
        let message = recorder.end();
        let memory =
            SessionMemory::after_turn(session.id, prompt, &recorder.fingerprints(), recorder.lists());
        let response = match end {
            TurnEnd::Response(response) => response,
            TurnEnd::Failed(error) => return Err(error),
            TurnEnd::Unfinished => {
                turn.memory = Some(memory);
                return Err(AgentError::Cancelled);
            }
        };
        // A refusal removes the prompt and its answer from the agent's session.
        if response.stop_reason != StopReason::Refusal
            && let Ok(memory) = AgentMemory::new(&memory)
        {
            sink.remember(agent, memory);
        }
        // Agents whose provider counts no tokens report zeros.
        let usage = response.usage.as_ref().filter(|usage| usage.total_tokens > 0).map(|usage| {
            let (read, written) = (usage.cached_read_tokens, usage.cached_write_tokens);
            let cached = read.unwrap_or(0).saturating_add(written.unwrap_or(0));
            let sent = usage.input_tokens.saturating_add(cached);
            let received = usage.output_tokens.saturating_add(usage.thought_tokens.unwrap_or(0));
            Usage::new(sent, received).with_cache(read, written)
        });
        let (of, model) = (agent.to_owned(), message.model.clone());
        sink.event(match usage {
            Some(usage) => EventPayload::UsageRecorded { agent: of, phase: None, model, usage },
            None => EventPayload::UsageUnknown { agent: of, phase: None, model },
        });
        let incomplete = |reason, words: &str| {
            Some(IncompleteReply { provider: agent.to_owned(), reason, stop_reason: Some(words.to_owned()) })
        };
        let incomplete = match response.stop_reason {
            StopReason::EndTurn => None,
            StopReason::MaxTokens => incomplete(IncompleteReason::Length, "max_tokens"),
            StopReason::MaxTurnRequests => incomplete(IncompleteReason::TurnRequests, "max_turn_requests"),
            StopReason::Refusal => incomplete(IncompleteReason::Refusal, "refusal"),
            StopReason::Cancelled if request.cancel.is_cancelled() => return Err(AgentError::Cancelled),
            StopReason::Cancelled => incomplete(IncompleteReason::Failure, "the agent cancelled its turn"),
            _ => incomplete(IncompleteReason::Failure, "a reason that is not known"),
        };
        if incomplete.is_none() && recorder.is_empty() {
            let message = "it ended its turn without an answer".to_owned();
            return Err(AgentError::Malformed { provider: agent.to_owned(), message });
        }
        Ok(RunOutcome::new(message.with_usage(usage)).with_incomplete(incomplete))
    }

    /// Records a turn until its end.
    async fn record(
        &self,
        turn: &mut ActiveTurn,
        recorder: &mut TurnRecorder<'_>,
        cancel: &CancellationToken,
        sink: &dyn RunSink,
    ) -> TurnEnd {
        let running = Arc::clone(&turn.running);
        let connection = &running.connection;
        let over = cancel.child_token();
        let mut questions: FuturesUnordered<BoxFuture<'_, Answered>> = FuturesUnordered::new();
        let mut requests: FuturesUnordered<BoxFuture<'_, PassedRequest>> = FuturesUnordered::new();
        let mut deadline = std::pin::pin!(tokio::time::sleep(CANCEL_WAIT));
        let result = loop {
            let Some(call) = turn.call.as_mut() else { return TurnEnd::Unfinished };
            tokio::select! {
                biased;
                () = &mut deadline, if turn.is_cancelled => return TurnEnd::Unfinished,
                () = cancel.cancelled(), if !turn.is_cancelled => {
                    turn.cancel();
                    deadline.as_mut().reset(tokio::time::Instant::now() + CANCEL_WAIT);
                }
                Some(answered) = questions.next(), if !questions.is_empty() => {
                    if let Err(error) = answer(connection, recorder, answered) {
                        return TurnEnd::Failed(error.into());
                    }
                }
                Some(passed) = requests.next(), if !requests.is_empty() => passed.answer(connection),
                input = next_input(&mut turn.queue) => match input {
                    Some(TurnInput::Update(update)) => {
                        self.update(recorder, update);
                        let pictures = std::mem::take(&mut recorder.pictures);
                        if let Err(error) = self.inner.store_pictures(pictures).await {
                            return TurnEnd::Failed(error.into());
                        }
                    }
                    Some(TurnInput::Permission { id, params }) if questions.len() >= MAX_QUESTIONS => {
                        connection.log().note("refused a question: too many are open");
                        cancel_question(connection, &id, params);
                    }
                    Some(TurnInput::Request { id, method, params }) => match &self.inner.front_end {
                        Some(front_end) if requests.len() < MAX_QUESTIONS => {
                            let passed =
                                pass_request(sink, front_end.as_ref(), id, method, params, over.clone());
                            requests.push(Box::pin(passed));
                        }
                        _ => {
                            let _ = connection.refuse(&id, &RpcError::new("too many requests are open"));
                        }
                    },
                    Some(TurnInput::Permission { id, params }) => match Question::read(id, &params, recorder) {
                        Ok(question) => {
                            let policy = Arc::clone(&self.inner.policy);
                            questions.push(Box::pin(question.ask(sink, policy, over.clone())));
                        }
                        Err((id, reason)) => {
                            // The connection may be ending.
                            let _ = connection.answer_invalid(&id, &reason);
                        }
                    },
                    // The connection has ended, and the call fails.
                    None => turn.queue = None,
                },
                result = call.wait() => break result,
            }
        };
        turn.call = None;
        over.cancel();
        while let Some(passed) = requests.next().await {
            passed.answer(connection);
        }
        while let Some(input) = turn.queue.as_mut().and_then(TurnQueue::try_next) {
            match input {
                TurnInput::Update(update) => self.update(recorder, update),
                TurnInput::Request { id, .. } => refuse_late(connection, &id),
                TurnInput::Permission { id, params } => cancel_question(connection, &id, params),
            }
        }
        while let Some(answered) = questions.next().await {
            if let Err(error) = answer(connection, recorder, answered) {
                return TurnEnd::Failed(error.into());
            }
        }
        let pictures = std::mem::take(&mut recorder.pictures);
        if let Err(error) = self.inner.store_pictures(pictures).await {
            return TurnEnd::Failed(error.into());
        }
        let response = result.and_then(|value| {
            serde_json::from_value(value).map_err(|error| AcpError::Malformed {
                agent: self.inner.agent().to_owned(),
                message: format!("its answer to session/prompt cannot be read: {error}"),
            })
        });
        match response {
            Ok(response) => TurnEnd::Response(response),
            // Some agents answer a cancelled prompt with an error.
            Err(AcpError::Refused { .. }) if turn.is_cancelled => TurnEnd::Failed(AgentError::Cancelled),
            Err(error) => TurnEnd::Failed(error.into()),
        }
    }
}

impl AcpAgent {
    /// Records an update, and passes it to the front end.
    fn update(&self, recorder: &mut TurnRecorder<'_>, update: Value) {
        if self.inner.front_end.is_none() {
            recorder.update(update);
            return;
        }
        recorder.update(update.clone());
        self.inner.show(&update);
    }
}

/// A request that the front end has answered.
struct PassedRequest {
    id: Value,
    answer: Result<Value, RpcError>,
}

impl PassedRequest {
    fn answer(self, connection: &Connection) {
        // The connection may be ending.
        let _ = match self.answer {
            Ok(result) => connection.answer(&self.id, &result),
            Err(error) => connection.refuse(&self.id, &error),
        };
    }
}

/// Passes a request of the agent to the front end, after what the agent did before is durable. The agent may wait for the
/// answer before it ends a cancelled turn, so it is answered when the turn is over.
async fn pass_request(
    sink: &dyn RunSink,
    front_end: &dyn FrontEnd,
    id: Value,
    method: String,
    params: Value,
    over: CancellationToken,
) -> PassedRequest {
    let answer = tokio::select! {
        biased;
        () = over.cancelled() => Err(turn_is_over()),
        answer = async {
            sink.persist().await.map_err(|error| RpcError::new(error.to_string()))?;
            front_end.request(&method, params).await
        } => answer,
    };
    PassedRequest { id, answer }
}

/// A question of the agent that is part of the recorded turn.
struct Question {
    id: Value,
    request: RequestPermissionRequest,
    asked: PermissionQuestion,
}

impl Question {
    /// Records a question. Returns its id and the reason if it cannot be read.
    fn read(id: Value, params: &Value, recorder: &mut TurnRecorder<'_>) -> Result<Self, (Value, String)> {
        match RequestPermissionRequest::deserialize(params) {
            Ok(request) => {
                let asked = recorder.question(&request, params);
                Ok(Self { id, request, asked })
            }
            Err(error) => Err((id, error.to_string())),
        }
    }

    /// Decides the question, after its call is durable.
    async fn ask(
        self,
        sink: &dyn RunSink,
        policy: Arc<dyn PermissionPolicy>,
        over: CancellationToken,
    ) -> Answered {
        let Self { id, request, asked } = self;
        let decision = tokio::select! {
            biased;
            () = over.cancelled() => Ok(Decision::new(false, DecidedBy::Cancelled)),
            decision = async {
                sink.persist().await?;
                Ok(policy.decide(&asked).await)
            } => decision,
        };
        let PermissionQuestion { call, title, kind, .. } = asked;
        Answered { id, request, call, title, kind, decision }
    }
}

/// Sends and records the answer to a question.
fn answer(
    connection: &Connection,
    recorder: &mut TurnRecorder<'_>,
    answered: Answered,
) -> Result<(), NotPersisted> {
    let Answered { id, request, call, title, kind, decision } = answered;
    let cancelled = Decision::new(false, DecidedBy::Cancelled);
    let (response, option) = response(&request, decision.as_ref().unwrap_or(&cancelled));
    // The connection may be ending; the prompt's call then fails.
    let _ = connection.answer(&id, &response);
    let decision = decision?;
    recorder.decided(&call, &title, kind, &decision, option);
    Ok(())
}
