//! The engine itself: its parts, and opening conversations.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hfs_core::{
    Agent, Branch, BranchId, CheckpointState, Clock, EventBus, Hooks, Pattern, Position, SessionId, Store,
    StoreError,
};

use crate::{Conversation, EngineError};

/// What an engine is made of.
#[derive(Clone)]
pub struct EngineParts {
    /// Where everything lasts.
    pub store: Arc<dyn Store>,
    /// What answers.
    pub agent: Arc<dyn Agent>,
    /// What listens in and changes things on the way.
    pub hooks: Arc<dyn Hooks>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How it behaves.
    pub settings: Settings,
}

/// How an engine behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How much of a conversation's end an agent is shown, in characters of searchable text. The message to
    /// answer is always shown whole.
    pub context_chars: usize,
    /// Which events make a checkpoint.
    pub checkpoint_on: Vec<Pattern>,
    /// How many automatic checkpoints a session keeps.
    pub checkpoint_retention: u32,
    /// How long a piece of a reply may wait before it is saved.
    pub flush_interval: Duration,
    /// How long the end of a reply is tried to be saved before the attempt is given up.
    pub save_patience: Duration,
    /// The zone of the times in automatic names.
    pub time_zone: jiff::tz::TimeZone,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            context_chars: 400_000,
            checkpoint_on: ["run.ended", "negotiation.resolved", "phase.ended"].map(Pattern::new).to_vec(),
            checkpoint_retention: 10,
            flush_interval: Duration::from_millis(200),
            save_patience: Duration::from_secs(20),
            time_zone: jiff::tz::TimeZone::system(),
        }
    }
}

/// The use cases. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Engine {
    pub(crate) parts: Arc<EngineParts>,
    bus: EventBus,
    /// The sessions that the plugins were told of.
    greeted: Arc<tokio::sync::Mutex<HashSet<SessionId>>>,
    /// Of which branch the plugins have what they keep for a session.
    live: Arc<Mutex<HashMap<SessionId, BranchId>>>,
}

impl Engine {
    /// An engine of these parts.
    #[must_use]
    pub fn new(parts: EngineParts) -> Self {
        Self { parts: Arc::new(parts), bus: EventBus::new(), greeted: Arc::default(), live: Arc::default() }
    }

    /// The store, for plain reads.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.parts.store
    }

    /// The agent that answers.
    #[must_use]
    pub fn agent(&self) -> &Arc<dyn Agent> {
        &self.parts.agent
    }

    /// Where every event of every run is announced.
    #[must_use]
    pub const fn bus(&self) -> &EventBus {
        &self.bus
    }

    /// How it behaves.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.parts.settings
    }

    /// Opens a session at the newest message of its current branch, or of `branch`. A reply whose writer died
    /// is settled as interrupted first.
    ///
    /// Blocks on the store.
    ///
    /// # Errors
    /// `NotFound` for the session, or for a branch that is not the session's.
    pub fn resume(&self, session: SessionId, branch: Option<BranchId>) -> Result<Conversation, EngineError> {
        let store = &self.parts.store;
        let summary = store.get_session(session)?;
        store.recover_abandoned_replies(Some(session), self.parts.clock.now())?;
        let branch = self.branch_of(session, branch.unwrap_or(summary.session.current_branch))?;
        // What plugins keep for a session lives with them while it is open, and in the store in between.
        if self.parts.hooks.session_state(session).is_none() || self.live_branch(session) != Some(branch.id) {
            let state = store.load_branch_state(branch.id)?.unwrap_or_default();
            self.restore_plugin_states(session, branch.id, &state);
        }
        Ok(Conversation::at(session, Position { branch: branch.id, head: branch.head }))
    }

    /// The branch whose state the plugins have of the session.
    fn live_branch(&self, session: SessionId) -> Option<BranchId> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).get(&session).copied()
    }

    /// Gives the plugins what they keep on this branch of the session.
    pub(crate) fn restore_plugin_states(
        &self,
        session: SessionId,
        branch: BranchId,
        state: &CheckpointState,
    ) {
        self.begin_plugins(session, branch);
        self.parts.hooks.restore_state(session, &state.plugins);
    }

    /// What the plugins have of the session is of this branch.
    pub(crate) fn begin_plugins(&self, session: SessionId, branch: BranchId) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).insert(session, branch);
    }

    /// Tells the plugins that the session was opened, unless they know. The first message tells them in any case.
    pub async fn enter(&self, conversation: &Conversation) {
        if let Some(session) = conversation.session() {
            self.greet(session).await;
        }
    }

    /// Held while the plugins are told, so that they hear of nothing in the session before they hear of it.
    pub(crate) async fn greet(&self, session: SessionId) {
        let mut greeted = self.greeted.lock().await;
        if greeted.insert(session) {
            self.parts.hooks.on_start(session).await;
        }
    }

    /// Tells the plugins that the session is being left, and saves what they keep for it.
    pub async fn leave(&self, conversation: &Conversation) {
        let Some(session) = conversation.session() else { return };
        self.greeted.lock().await.remove(&session);
        self.parts.hooks.on_exit(session).await;
        let (engine, conversation) = (self.clone(), conversation.clone());
        let kept = tokio::task::spawn_blocking(move || engine.persist_plugin_states(&conversation)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!("what plugins keep for session {session} is not saved: {error}");
        }
    }

    /// Saves what plugins keep for the session after something that is no run: a command of theirs, for instance.
    /// The next run on the branch starts from it, in whatever process. Nothing is written where nothing changed.
    ///
    /// Blocks on the store.
    ///
    /// # Errors
    /// As the store has it.
    pub fn persist_plugin_states(&self, conversation: &Conversation) -> Result<(), EngineError> {
        if let Some((session, at)) = conversation.place
            && let Some(live) = self.parts.hooks.session_state(session)
        {
            self.parts.store.save_branch_plugins(at.branch, &live)?;
        }
        Ok(())
    }

    pub(crate) fn branch_of(&self, session: SessionId, branch: BranchId) -> Result<Branch, EngineError> {
        let found = self.parts.store.get_branch(branch)?;
        if found.session == session {
            Ok(found)
        } else {
            Err(StoreError::NotFound { what: "branch", reference: branch.to_string() }.into())
        }
    }

    /// Runs a blocking call of the store away from the asynchronous runtime.
    pub(crate) async fn blocking<T, F>(&self, work: F) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    {
        let store = Arc::clone(&self.parts.store);
        match tokio::task::spawn_blocking(move || work(store.as_ref())).await {
            Ok(result) => result.map_err(EngineError::Store),
            Err(error) => Err(EngineError::Background { message: error.to_string() }),
        }
    }
}
