//! The engine itself: its parts, and opening conversations.

use std::sync::Arc;
use std::time::Duration;

use hfs_core::{
    Agent, Branch, BranchId, Clock, EventBus, Hooks, Pattern, Position, SessionId, Store, StoreError,
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
}

impl Engine {
    /// An engine of these parts.
    #[must_use]
    pub fn new(parts: EngineParts) -> Self {
        Self { parts: Arc::new(parts), bus: EventBus::new() }
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
        store.settle_interrupted(Some(session), self.parts.clock.now())?;
        let branch = self.branch_of(session, branch.unwrap_or(summary.session.current_branch))?;
        // What plugins keep for a session lives with them while it is open, and in the store in between.
        if self.parts.hooks.session_state(session).is_empty() {
            let state = store.load_branch_state(branch.id)?.unwrap_or_default();
            if !state.plugins.is_empty() {
                self.parts.hooks.restore_state(session, &state.plugins);
            }
        }
        Ok(Conversation::at(session, Position { branch: branch.id, head: branch.head }))
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
