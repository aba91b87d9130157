//! The engine, its settings, and opening and closing sessions.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hfs_core::{
    Agent, Branch, BranchId, CheckpointState, Clock, EventBus, Hooks, NoHooks, Pattern, Position, SessionId,
    Store, StoreError, SystemClock, lock_unpoisoned,
};

use crate::reply_guard::BackgroundWork;
use crate::{Conversation, EngineError};

/// When a conversation is compacted; see [`Engine::compact`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompactionMode {
    /// Before a message is sent, if the conversation fills nine tenths of the model's context.
    #[default]
    Automatic,
    /// Only when the user asks for it.
    Manual,
}

/// Options of an engine. Change the fields of a default value, or chain the `with_` methods.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Maximum size of the history that an agent receives if the limit of its model is not known, in characters of
    /// searchable text. The newest messages are kept. The message to answer is always included, whatever its size.
    pub context_chars: usize,
    /// When a conversation is compacted.
    pub compaction: CompactionMode,
    /// Events that cause a checkpoint.
    pub checkpoint_on: Vec<Pattern>,
    /// Number of automatic checkpoints that a session keeps.
    pub checkpoint_retention: u32,
    /// Maximum time until streamed text is saved.
    pub flush_interval: Duration,
    /// How long the engine retries to save a finished reply while the store is unavailable.
    pub save_timeout: Duration,
    /// Time zone of the times in automatic session names.
    pub time_zone: jiff::tz::TimeZone,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            context_chars: 400_000,
            compaction: CompactionMode::Automatic,
            checkpoint_on: ["run.ended", "negotiation.resolved", "phase.ended"].map(Pattern::new).to_vec(),
            checkpoint_retention: 10,
            flush_interval: Duration::from_millis(200),
            save_timeout: Duration::from_secs(20),
            time_zone: jiff::tz::TimeZone::system(),
        }
    }
}

impl Settings {
    /// Sets [`context_chars`](Self::context_chars).
    #[must_use]
    pub const fn with_context_chars(mut self, context_chars: usize) -> Self {
        self.context_chars = context_chars;
        self
    }

    /// Sets [`compaction`](Self::compaction).
    #[must_use]
    pub const fn with_compaction(mut self, compaction: CompactionMode) -> Self {
        self.compaction = compaction;
        self
    }

    /// Sets [`checkpoint_on`](Self::checkpoint_on).
    #[must_use]
    pub fn with_checkpoint_on(mut self, checkpoint_on: Vec<Pattern>) -> Self {
        self.checkpoint_on = checkpoint_on;
        self
    }

    /// Sets [`checkpoint_retention`](Self::checkpoint_retention).
    #[must_use]
    pub const fn with_checkpoint_retention(mut self, checkpoint_retention: u32) -> Self {
        self.checkpoint_retention = checkpoint_retention;
        self
    }

    /// Sets [`flush_interval`](Self::flush_interval).
    #[must_use]
    pub const fn with_flush_interval(mut self, flush_interval: Duration) -> Self {
        self.flush_interval = flush_interval;
        self
    }

    /// Sets [`save_timeout`](Self::save_timeout).
    #[must_use]
    pub const fn with_save_timeout(mut self, save_timeout: Duration) -> Self {
        self.save_timeout = save_timeout;
        self
    }

    /// Sets [`time_zone`](Self::time_zone).
    #[must_use]
    pub fn with_time_zone(mut self, time_zone: jiff::tz::TimeZone) -> Self {
        self.time_zone = time_zone;
        self
    }
}

/// Builds an [`Engine`]; see [`Engine::builder`].
#[derive(Clone)]
#[must_use]
pub struct EngineBuilder {
    store: Arc<dyn Store>,
    agent: Arc<dyn Agent>,
    hooks: Arc<dyn Hooks>,
    clock: Arc<dyn Clock>,
    settings: Settings,
}

impl EngineBuilder {
    /// Sets the hooks; the default is [`NoHooks`].
    pub fn hooks(mut self, hooks: Arc<dyn Hooks>) -> Self {
        self.hooks = hooks;
        self
    }

    /// Sets the clock; the default is [`SystemClock`].
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the options.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Builds the engine.
    #[must_use]
    pub fn build(self) -> Engine {
        Engine {
            shared: Arc::new(Shared {
                store: self.store,
                agent: self.agent,
                hooks: self.hooks,
                clock: self.clock,
                settings: self.settings,
                bus: EventBus::new(),
                started_sessions: tokio::sync::Mutex::default(),
                active_branches: Mutex::default(),
                background: BackgroundWork::default(),
            }),
        }
    }
}

/// The use cases of hfs. Cheap to clone; all clones share their state.
///
/// Every operation that touches the store is asynchronous and needs a tokio runtime. The store call itself runs on one
/// of tokio's blocking threads and completes even if the operation's future is dropped.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    agent: Arc<dyn Agent>,
    hooks: Arc<dyn Hooks>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    bus: EventBus,
    /// Sessions whose start hook was called.
    started_sessions: tokio::sync::Mutex<HashSet<SessionId>>,
    /// For each session, the branch whose plugin states the hooks have.
    active_branches: Mutex<HashMap<SessionId, BranchId>>,
    background: BackgroundWork,
}

impl Engine {
    /// Returns a builder for an engine with this store and agent.
    pub fn builder(store: Arc<dyn Store>, agent: Arc<dyn Agent>) -> EngineBuilder {
        EngineBuilder {
            store,
            agent,
            hooks: Arc::new(NoHooks),
            clock: Arc::new(SystemClock),
            settings: Settings::default(),
        }
    }

    /// The store, for reads and for changes that involve neither hooks nor the agent. Its calls block.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// The agent that replies.
    #[must_use]
    pub fn agent(&self) -> &Arc<dyn Agent> {
        &self.shared.agent
    }

    /// The bus that announces the events of every run.
    #[must_use]
    pub fn bus(&self) -> &EventBus {
        &self.shared.bus
    }

    /// The options.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub(crate) fn hooks(&self) -> &Arc<dyn Hooks> {
        &self.shared.hooks
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    pub(crate) fn background(&self) -> &BackgroundWork {
        &self.shared.background
    }

    /// Opens a session at the newest message of `branch`, by default its current branch.
    ///
    /// First marks replies of crashed processes as interrupted, and waits until replies of this engine whose exchange
    /// was dropped are finalized.
    ///
    /// # Errors
    /// `NotFound` if the session does not exist or `branch` is not one of its branches.
    pub async fn resume(
        &self,
        session: SessionId,
        branch: Option<BranchId>,
    ) -> Result<Conversation, EngineError> {
        self.background().wait(session).await;
        self.run_blocking(move |engine| {
            let store = engine.store();
            let summary = store.get_session(session)?;
            store.recover_abandoned_replies(Some(session), engine.clock().now())?;
            let branch = engine.branch_of(session, branch.unwrap_or(summary.session.current_branch))?;
            // While a session is open, the hooks have its current plugin states, and those in the store may be older.
            let is_open = engine.hooks().session_state(session).is_some();
            if !is_open || engine.active_branch(session) != Some(branch.id) {
                engine.load_plugin_states(session, branch.id)?;
            }
            Ok(Conversation::at(session, Position { branch: branch.id, head: branch.head }))
        })
        .await
    }

    /// Calls the start hook of the conversation's session if it was not called yet. Optional, since sending a message
    /// does the same.
    pub async fn open_session(&self, conversation: &Conversation) {
        if let Some(session) = conversation.session() {
            self.session_started(session).await;
        }
    }

    /// Calls the start hook of the session if it was not called yet. Holds the lock during the call, so that no other
    /// hook of the session runs before its start hook has returned.
    pub(crate) async fn session_started(&self, session: SessionId) {
        let mut started = self.shared.started_sessions.lock().await;
        if started.insert(session) {
            self.hooks().on_start(session).await;
        }
    }

    /// Calls the exit hook of the conversation's session, and saves and frees its plugin states.
    pub async fn close_session(&self, conversation: &Conversation) {
        let Some(session) = conversation.session() else { return };
        self.shared.started_sessions.lock().await.remove(&session);
        self.hooks().on_exit(session).await;
        if let Err(error) = self.persist_plugin_states(conversation).await {
            tracing::warn!(%session, %error, "the plugin states of the session were not saved");
            return;
        }
        // The end of a dropped exchange still needs the states.
        self.background().wait(session).await;
        self.hooks().release_state(session);
        lock_unpoisoned(&self.shared.active_branches).remove(&session);
    }

    /// Saves the plugin states of the conversation's session after a change outside of a run, such as a plugin command.
    ///
    /// The next run on the branch starts from the saved states, in any process. Writes nothing if they did not change.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn persist_plugin_states(&self, conversation: &Conversation) -> Result<(), EngineError> {
        let Some((session, at)) = conversation.place else { return Ok(()) };
        let Some(states) = self.hooks().session_state(session) else { return Ok(()) };
        self.run_blocking(move |engine| Ok(engine.store().save_branch_plugins(at.branch, &states)?)).await
    }

    /// The branch whose plugin states the hooks have for the session.
    fn active_branch(&self, session: SessionId) -> Option<BranchId> {
        lock_unpoisoned(&self.shared.active_branches).get(&session).copied()
    }

    /// Notes that the hooks have the plugin states of this branch.
    pub(crate) fn set_active_branch(&self, session: SessionId, branch: BranchId) {
        lock_unpoisoned(&self.shared.active_branches).insert(session, branch);
    }

    /// Gives the hooks the plugin states of a branch.
    pub(crate) fn restore_plugin_states(
        &self,
        session: SessionId,
        branch: BranchId,
        state: &CheckpointState,
    ) {
        self.set_active_branch(session, branch);
        self.hooks().restore_state(session, &state.plugins);
    }

    /// Gives the hooks the stored plugin states of a branch. Blocks.
    pub(crate) fn load_plugin_states(&self, session: SessionId, branch: BranchId) -> Result<(), EngineError> {
        let state = self.store().load_branch_state(branch)?.unwrap_or_default();
        self.restore_plugin_states(session, branch, &state);
        Ok(())
    }

    /// The branch, if it belongs to the session. Blocks.
    pub(crate) fn branch_of(&self, session: SessionId, branch: BranchId) -> Result<Branch, EngineError> {
        let found = self.store().get_branch(branch)?;
        if found.session == session {
            Ok(found)
        } else {
            Err(StoreError::NotFound { what: "branch", reference: branch.to_string() }.into())
        }
    }

    /// Runs blocking work on one of tokio's blocking threads. The work completes even if the future is dropped.
    pub(crate) async fn run_blocking<T, F>(&self, work: F) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T, EngineError> + Send + 'static,
    {
        let engine = self.clone();
        match tokio::task::spawn_blocking(move || work(&engine)).await {
            Ok(result) => result,
            Err(error) => Err(EngineError::Background { message: error.to_string() }),
        }
    }
}
