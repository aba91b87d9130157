//! A session that an editor has opened, and its turns.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use hfs_acp::wire::{ContentBlock, McpServer, PromptResponse, StopReason, Usage as WireUsage};
use hfs_acp::{AcpAgent, PromptContent, Replay, RpcError, RpcErrorCode, read_prompt};
use hfs_agents::{MAX_IMAGE_BYTES, ModelConfig, Recall};
use hfs_core::{
    AgentError, BranchId, IncompleteReason, MessageRange, Run, Seq, SessionId, SessionSummary, StoreError,
    Usage, plural,
};
use hfs_engine::{Conversation, Engine, Exchange, OutgoingMessage, SendError};
use hfs_plugins::Plugins;
use serde_json::{Value, json};
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::spawn_local;
use tokio_util::sync::CancellationToken;

use super::front_end::{AgentChange, AgentView, EditorPolicy, EditorView, TurnObserver};
use super::options::{SelectableAgent, selectable_agents};
use super::{Server, commands, explanation, in_background, invalid_request, options, rpc_error, wire_error};
use crate::context::{Context, SessionChoices};
use crate::output::error::CliError;
use crate::permissions::{AllowedKinds, NeverAsks};
use crate::wiring::agent::{
    SelectedAgent, build_agent_with, selectable_model, selectable_models, user_policy,
};
use crate::wiring::programs::{self, SessionKeeping, StoredAttachments};
use crate::{attachments, project, wiring};

/// Messages that are read at once for a replay.
const REPLAY_PAGE: u32 = 100;

/// What an editor is shown of a session that it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// All messages of the current branch.
    Replayed,
    /// Nothing: the editor has the messages.
    Silent,
}

/// The agent that answers in a session.
pub struct SessionAgent {
    pub engine: Engine,
    pub name: String,
    /// The agent, if it is a program.
    pub program: Option<Arc<AcpAgent>>,
    /// The name that selects its model, if hfs calls the model itself.
    pub model: Option<String>,
    /// The agents that can be selected instead.
    pub selectable: Vec<SelectableAgent>,
    /// The models of the server, once they are known.
    pub models: RefCell<Vec<String>>,
    server: Option<ModelConfig>,
    /// Why no agent can answer. The search over saved sessions stands in its place, but does not answer.
    problem: Option<RpcError>,
}

/// A session that an editor has opened.
pub struct EditorSession {
    pub id: SessionId,
    pub view: EditorView,
    pub directory: PathBuf,
    servers: Vec<McpServer>,
    pub plugins: Option<Plugins>,
    choices: RefCell<SessionChoices>,
    agent: RefCell<Rc<SessionAgent>>,
    /// The commands of the agent itself.
    agent_commands: RefCell<Vec<Value>>,
    changes: mpsc::UnboundedSender<AgentChange>,
    received_changes: RefCell<Option<mpsc::UnboundedReceiver<AgentChange>>>,
    /// Held during a turn.
    pub conversation: AsyncMutex<Conversation>,
    /// Cancels the turn in progress.
    turn: RefCell<Option<CancellationToken>>,
}

/// The right to run a turn; at most one at a time.
pub struct Turn {
    session: Rc<EditorSession>,
    pub cancel: CancellationToken,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.session.turn.replace(None);
    }
}

impl EditorSession {
    /// A new session, which is stored with its first message. Fails if no agent can answer in it.
    pub async fn create(
        server: &Rc<Server>,
        directory: PathBuf,
        servers: Vec<McpServer>,
    ) -> Result<Rc<Self>, RpcError> {
        let project = project::of_directory(&directory);
        let context = server.context(&directory).map_err(|error| wire_error(&error))?;
        let choices = SessionChoices::default();
        let session =
            Self::build(server, &context, SessionId::generate(), directory, servers, choices).await?;
        if let Some(problem) = &session.agent().problem {
            return Err(problem.clone());
        }
        *session.conversation.lock().await = Conversation::new(Some(project)).with_session_id(session.id);
        Ok(session)
    }

    /// A session of the store, at its current branch. The program that answered last continues it.
    pub async fn open(
        server: &Rc<Server>,
        id: SessionId,
        directory: PathBuf,
        servers: Vec<McpServer>,
        opening: Opening,
    ) -> Result<Rc<Self>, RpcError> {
        let store = Arc::clone(&server.store);
        let summary = in_background(move || Ok(store.get_session(id)?)).await;
        let summary = summary.map_err(|error| wire_error(&error))?;
        if summary.session.trashed_at.is_some() {
            let restore = format!("restore it with: hfs session restore {}", id.short().shown());
            return Err(rpc_error(RpcErrorCode::NotFound, format!("the session is in the trash; {restore}")));
        }
        let context = server.context(&directory).map_err(|error| wire_error(&error))?;
        let agent = last_program(server, &summary, &context).await.map_err(|error| wire_error(&error))?;
        let choices = SessionChoices { agent, model: None };
        let context = context.with_choices(choices.clone()).map_err(|error| wire_error(&error))?;
        let session = Self::build(server, &context, id, directory, servers, choices).await?;
        let conversation = session.agent().engine.resume(id, None).await;
        let conversation = conversation.map_err(|error| wire_error(&error.into()))?;
        if let (Opening::Replayed, Some(branch)) = (opening, conversation.branch()) {
            session.replay(server, branch, 1).await.map_err(|error| wire_error(&error))?;
        }
        *session.conversation.lock().await = conversation;
        session.view.name(&summary.session.name, summary.session.updated_at);
        Ok(session)
    }

    /// Builds a session with the agent that the context selects.
    async fn build(
        server: &Rc<Server>,
        context: &Context,
        id: SessionId,
        directory: PathBuf,
        servers: Vec<McpServer>,
        choices: SessionChoices,
    ) -> Result<Rc<Self>, RpcError> {
        let view = EditorView::new(&server.connection, id, server.features());
        let (changes, received_changes) = mpsc::unbounded_channel();
        let plugins = context.plugins().map_err(|error| wire_error(&error))?.cloned();
        let agent = build_agent(&view, &servers, &changes, context).await?;
        Ok(Rc::new(Self {
            id,
            view,
            directory,
            servers,
            plugins,
            choices: RefCell::new(choices),
            agent: RefCell::new(Rc::new(agent)),
            agent_commands: RefCell::default(),
            changes,
            received_changes: RefCell::new(Some(received_changes)),
            conversation: AsyncMutex::new(Conversation::new(None)),
            turn: RefCell::default(),
        }))
    }

    pub fn agent(&self) -> Rc<SessionAgent> {
        Rc::clone(&self.agent.borrow())
    }

    /// The agent and the model that the editor has selected.
    pub fn choices(&self) -> SessionChoices {
        self.choices.borrow().clone()
    }

    /// Begins a turn, unless one is running.
    pub fn begin_turn(self: &Rc<Self>) -> Result<Turn, RpcError> {
        let mut running = self.turn.borrow_mut();
        if running.is_some() {
            let message = "a turn of this session is still running: cancel it, or wait until it has ended";
            return Err(invalid_request(message));
        }
        let cancel = CancellationToken::new();
        *running = Some(cancel.clone());
        Ok(Turn { session: Rc::clone(self), cancel })
    }

    /// Cancels the turn in progress, if there is one.
    pub fn cancel(&self) {
        if let Some(turn) = self.turn.borrow().as_ref() {
            turn.cancel();
        }
    }

    /// Ends the session in this process, after its turn: the state of plugins is saved, and its agent ends.
    pub async fn close(&self) {
        let conversation = self.conversation.lock().await;
        let agent = self.agent();
        agent.engine.close_session(&conversation).await;
        agent.engine.agent().close().await;
    }

    /// Lets another agent or model answer from now on.
    pub async fn select(
        self: &Rc<Self>,
        server: &Rc<Server>,
        choices: SessionChoices,
    ) -> Result<(), RpcError> {
        // A turn keeps its agent.
        let _turn = self.begin_turn()?;
        let earlier = self.choices.replace(choices);
        let rebuilt = self.rebuild(server).await;
        if let Err(error) = rebuilt {
            self.choices.replace(earlier);
            return Err(error);
        }
        self.announce_models();
        let is_new = self.conversation.lock().await.session().is_none();
        if is_new {
            spawn_local(prepare(Rc::clone(self)));
        }
        Ok(())
    }

    /// Builds the agent that the settings and the editor select now.
    async fn rebuild(&self, server: &Server) -> Result<(), RpcError> {
        let context = self.context(server).map_err(|error| wire_error(&error))?;
        let agent = build_agent(&self.view, &self.servers, &self.changes, &context).await?;
        if let Some(problem) = agent.problem {
            return Err(problem);
        }
        self.agent_commands.borrow_mut().clear();
        let earlier = self.agent.replace(Rc::new(agent));
        spawn_local(async move { earlier.engine.agent().close().await });
        Ok(())
    }

    fn context(&self, server: &Server) -> Result<Context, CliError> {
        server.context(&self.directory)?.with_choices(self.choices())
    }

    /// Announces what the editor learns after it has opened the session: commands, models, the options of the agent. With
    /// `starts_agent`, an agent that is a program is started for that.
    pub async fn announce(self: Rc<Self>, starts_agent: bool) {
        self.announce_commands();
        self.announce_models();
        if starts_agent {
            spawn_local(prepare(Rc::clone(&self)));
        }
        if let Some(plugins) = self.plugins.clone() {
            spawn_local(announce_plugins(Rc::downgrade(&self), plugins));
        }
        let received = self.received_changes.borrow_mut().take();
        let session = Rc::downgrade(&self);
        // A session that the editor has closed is not kept alive.
        drop(self);
        let Some(mut received) = received else { return };
        while let Some(change) = received.recv().await {
            let Some(session) = session.upgrade() else { return };
            match change {
                AgentChange::Options => options::announce(&session),
                AgentChange::Commands(commands) => {
                    *session.agent_commands.borrow_mut() = commands;
                    session.announce_commands();
                }
            }
        }
    }

    pub fn announce_commands(&self) {
        let commands = commands::available(self.plugins.as_ref(), &self.agent_commands.borrow());
        self.view.show(&json!({"sessionUpdate": "available_commands_update", "availableCommands": commands}));
    }

    /// Asks the server of the model for its models, and announces them.
    fn announce_models(&self) {
        let agent = self.agent();
        let Some(server) = agent.server.clone() else { return };
        let view = self.view.clone();
        let weak = Rc::downgrade(&agent);
        drop(agent);
        spawn_local(async move {
            // Without a list, the selector has the current model alone.
            let Ok(models) = selectable_models(server).await else { return };
            let Some(agent) = weak.upgrade() else { return };
            *agent.models.borrow_mut() = models;
            let options = options::of_agent(&agent);
            view.show(&json!({"sessionUpdate": "config_option_update", "configOptions": options}));
        });
    }

    /// Shows the messages of a branch from this one on.
    async fn replay(&self, server: &Server, branch: BranchId, first: Seq) -> Result<(), CliError> {
        let mut replay = Replay::default();
        let mut next = first;
        loop {
            let store = Arc::clone(&server.store);
            let read = in_background(move || {
                let messages = store.read_messages(branch, MessageRange::From(next, REPLAY_PAGE))?;
                let newest = messages.last().map(|message| message.seq);
                let attachments = StoredAttachments { store };
                let updates = messages.iter().flat_map(|message| replay.message(message, &attachments));
                let updates: Vec<Value> = updates.collect();
                Ok((newest, updates, replay))
            });
            let (newest, updates, continued) = read.await?;
            replay = continued;
            updates.iter().for_each(|update| self.view.show(update));
            // A long session does not fill the memory with what the editor has not read yet.
            self.view.connection.room().await;
            match newest {
                Some(newest) => next = newest.saturating_add(1),
                None => break,
            }
        }
        replay.finish().iter().for_each(|update| self.view.show(update));
        Ok(())
    }

    /// Runs a turn: a command of hfs or of a plugin, or a message to the agent.
    pub async fn prompt(
        self: &Rc<Self>,
        server: &Rc<Server>,
        blocks: Vec<ContentBlock>,
        turn: &Turn,
    ) -> Result<PromptResponse, RpcError> {
        let content = read_prompt(blocks);
        let content = content.map_err(|reason| rpc_error(RpcErrorCode::InvalidParams, reason))?;
        let mut conversation = self.conversation.lock().await;
        if let Some(command) = commands::parse(&content, self.plugins.as_ref()) {
            let answer = commands::run(&command, server, self, &mut conversation).await;
            // A mistake in a command is answered: an editor shows an error of the protocol as its own failure.
            self.view.answer(&answer.unwrap_or_else(|error| explanation(&error)));
            return Ok(PromptResponse::new(StopReason::EndTurn));
        }
        if self.agent().problem.is_some() {
            // The user may have corrected the cause.
            self.rebuild(server).await?;
        }
        let message = outgoing(content).map_err(|error| wire_error(&error.into()))?;
        let agent = self.agent();
        let result = self.send(&agent, &mut conversation, message, &turn.cancel).await;
        if let Some(plugins) = &self.plugins {
            plugins.take_notices().iter().for_each(|notice| self.view.note(notice));
        }
        match result {
            Ok(exchange) => ended(exchange, turn.cancel.is_cancelled()),
            Err(SendError::Rejected { plugin, reason }) => {
                self.view.answer(&format!("The plugin {plugin} rejected the message: {reason}"));
                Ok(PromptResponse::new(StopReason::Refusal))
            }
            Err(SendError::NotSaved { source: StoreError::HeadMismatch { .. }, .. }) => {
                self.catch_up(server, &agent.engine, &mut conversation).await
            }
            Err(error) => Err(wire_error(&error.into())),
        }
    }

    async fn send(
        &self,
        agent: &SessionAgent,
        conversation: &mut Conversation,
        message: OutgoingMessage,
        cancel: &CancellationToken,
    ) -> Result<Exchange, SendError> {
        let engine = &agent.engine;
        if !message.attachments.is_empty() && !engine.agent().describe().sees_images {
            self.view
                .note(&format!("{} does not look at pictures; they are saved with the message", agent.name));
        }
        let observer = Arc::new(TurnObserver {
            view: self.view.clone(),
            is_shown_by_agent: agent.program.is_some(),
            is_unsaved: AtomicBool::new(false),
        });
        // The same message again, after it was saved and its reply was not.
        let unanswered = match message.attachments.as_slice() {
            [] => engine.find_unanswered(conversation, &message.text).await?,
            _ => None,
        };
        let Some(user) = unanswered else {
            return engine.send(conversation, message, observer, cancel.clone()).await;
        };
        engine.ask_again(conversation, &user).await?;
        self.view.note("this message is saved already, without a complete reply; asking again");
        engine.generate_reply(conversation, user, observer, cancel.clone()).await
    }

    /// Shows what another process has added to the branch, so that the user can send the message again.
    async fn catch_up(
        &self,
        server: &Server,
        engine: &Engine,
        conversation: &mut Conversation,
    ) -> Result<PromptResponse, RpcError> {
        let (seen, branch) = (conversation.head(), conversation.branch());
        let moved = engine.resume(self.id, branch).await.map_err(|error| wire_error(&error.into()))?;
        let added = moved.head().saturating_sub(seen);
        if let Some(branch) = branch {
            self.replay(server, branch, seen.saturating_add(1)).await.map_err(|error| wire_error(&error))?;
        }
        *conversation = moved;
        Err(RpcError::new(format!(
            "another process has added {} to this session, shown now; your message was not sent: read what is new, and \
             send yours again",
            plural(added, "message")
        )))
    }
}

/// The program that answered last in a session, if it continues the session.
async fn last_program(
    server: &Server,
    summary: &SessionSummary,
    context: &Context,
) -> Result<Option<String>, CliError> {
    if programs::is_agent_named(context) {
        return Ok(None);
    }
    let (store, session) = (Arc::clone(&server.store), summary.session.clone());
    let reply = in_background(move || programs::last_reply_of(store.as_ref(), &session)).await?;
    Ok(reply.and_then(|reply| programs::of_reply(&reply, context)))
}

/// Starts the agent of a new session, so that its options and commands are shown. If it does not start, its first turn says
/// why.
async fn prepare(session: Rc<EditorSession>) {
    let program = session.agent().program.clone();
    drop(session);
    if let Some(program) = program {
        let _ = program.prepare().await;
    }
}

/// Announces the commands of plugins once they have started, and again when they change.
async fn announce_plugins(session: std::rc::Weak<EditorSession>, plugins: Plugins) {
    plugins.started().await;
    let mut changes = plugins.changes();
    let mut names: Vec<String> = Vec::new();
    loop {
        let now: Vec<String> = plugins.commands().into_iter().map(|command| command.name).collect();
        if now != names {
            let Some(session) = session.upgrade() else { return };
            names = now;
            session.announce_commands();
        }
        if session.strong_count() == 0 || changes.changed().await.is_err() {
            return;
        }
    }
}

async fn build_agent(
    view: &EditorView,
    servers: &[McpServer],
    changes: &mpsc::UnboundedSender<AgentChange>,
    context: &Context,
) -> Result<SessionAgent, RpcError> {
    let built = build_agent_with(context, |program, reason| {
        let rules = user_policy(context, AllowedKinds::default(), Arc::new(NeverAsks));
        let policy = Arc::new(EditorPolicy { view: view.clone(), rules });
        let agent = programs::build(program, reason, policy, SessionKeeping::OfBranches, context)?;
        let front_end = AgentView { view: view.clone(), changes: changes.clone() };
        Ok(agent.with_front_end(Arc::new(front_end), servers.to_vec()))
    });
    let store = || context.store().map_err(|error| wire_error(&error)).cloned();
    let (selected, problem) = match built.await {
        Ok(selected) => (selected, None),
        Err(error) => {
            let search = Arc::new(Recall::new(store()?));
            let selected = SelectedAgent {
                agent: search,
                offline: true,
                warnings: Vec::new(),
                program: None,
                model: None,
            };
            (selected, Some(wire_error(&error)))
        }
    };
    let SelectedAgent { agent, program, model: server, warnings, .. } = selected;
    warnings.iter().for_each(|warning| view.note(warning));
    let hooks = context.hooks().map_err(|error| wire_error(&error))?;
    let name = agent.describe().name;
    let engine = wiring::engine(context, agent, store()?, hooks);
    let model = server.as_ref().map(selectable_model);
    let selectable = selectable_agents(context);
    Ok(SessionAgent { engine, name, program, model, selectable, models: RefCell::default(), server, problem })
}

/// A prompt as a message. The text of files becomes part of it, so every agent, search and export has it.
fn outgoing(content: PromptContent) -> Result<OutgoingMessage, SendError> {
    let mut message = OutgoingMessage::from(content.text);
    for file in content.files {
        let path = file.name.split('#').next().unwrap_or(&file.name);
        message.text.push_str("\n\n");
        message.text.push_str(&attachments::quoted(&file.name, Path::new(path), &file.text));
    }
    for picture in content.pictures {
        if picture.bytes.len() as u64 > MAX_IMAGE_BYTES {
            let reason = format!("a picture may have at most {}", attachments::size(MAX_IMAGE_BYTES));
            return Err(SendError::NotAttached { name: picture.name, reason });
        }
        message.attachments.push(attachments::attached(picture.name, picture.media_type, picture.bytes));
    }
    Ok(message)
}

/// How a turn ended, in the words of the protocol. What the agent said before is saved in any case. A turn that the editor has
/// cancelled is cancelled for it, even if the agent was faster.
fn ended(exchange: Exchange, is_cancelled: bool) -> Result<PromptResponse, RpcError> {
    let reason = match exchange.failure {
        _ if is_cancelled => StopReason::Cancelled,
        None => StopReason::EndTurn,
        Some(AgentError::Cancelled) => StopReason::Cancelled,
        Some(AgentError::Incomplete(incomplete)) => match incomplete.reason {
            IncompleteReason::Length => StopReason::MaxTokens,
            IncompleteReason::TurnRequests => StopReason::MaxTurnRequests,
            IncompleteReason::Refusal | IncompleteReason::ContentFilter => StopReason::Refusal,
            IncompleteReason::Failure | IncompleteReason::OnlyThinking | IncompleteReason::AgentsLost => {
                return Err(wire_error(&AgentError::Incomplete(incomplete).into()));
            }
        },
        Some(error) => return Err(wire_error(&error.into())),
    };
    Ok(PromptResponse::new(reason).usage(usage(&exchange.run)))
}

/// The tokens of a turn; `None` unless all of them are known.
fn usage(run: &Run) -> Option<WireUsage> {
    let counts = run.snapshot.usage.by_agent.values();
    let mut total = Usage::default();
    for count in counts {
        if count.unknown_calls > 0 {
            return None;
        }
        total += count.usage;
    }
    (total.total() > 0).then(|| {
        WireUsage::new(total.total(), total.uncached_tokens(), total.completion_tokens)
            .cached_read_tokens(total.cache_read_tokens)
            .cached_write_tokens(total.cache_write_tokens)
    })
}
