//! Records a run in progress: folds its events, captures checkpoints, publishes updates and collects unsaved text.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hfs_core::{
    AgentDescription, AgentMemory, BranchId, CheckpointDraft, CheckpointId, CheckpointState, Clock,
    CompletedMessage, Event, EventBus, EventHistory, EventPayload, Hooks, MessageDraft, MessageId,
    MessageStatus, NotPersisted, Pattern, PluginStates, ReplyDelta, Role, Run, RunEnding, RunId, RunSink,
    SessionId, StoreError, Timestamp, Trigger, error_chain, lock_unpoisoned,
};
use tokio::sync::{Notify, mpsc, watch};

use crate::send::may_retry;
use crate::turn::Turn;
use crate::{Observer, Update};

/// Number of recent events that [`EventHistory`] keeps. The stored run contains all events.
const RECENT_EVENTS: usize = 1024;

/// A change to the checkpoints of a run, which another task makes.
pub enum CheckpointChange {
    /// An event caused a checkpoint.
    Store(Box<CheckpointDraft>),
    /// The run has failed or was cancelled, so the checkpoints of its events are removed: they would only displace those
    /// of other runs.
    Withdraw(Vec<CheckpointId>),
}

/// Dependencies and initial state of a [`Recorder`].
pub struct RecorderParts {
    pub session: SessionId,
    pub branch: BranchId,
    pub answers: Option<MessageId>,
    pub agent: AgentDescription,
    /// How long [`RunSink::persist`] waits while the store cannot be written.
    pub save_timeout: Duration,
    pub memories: BTreeMap<String, AgentMemory>,
    /// Plugin states at the start of the run, used while the hooks have no states for the session.
    pub plugins: PluginStates,
    pub clock: Arc<dyn Clock>,
    pub hooks: Arc<dyn Hooks>,
    pub observer: Arc<dyn Observer>,
    pub bus: EventBus,
    pub checkpoint_on: Vec<Pattern>,
    pub checkpoints: mpsc::UnboundedSender<CheckpointChange>,
    pub hook_events: mpsc::UnboundedSender<Arc<Event>>,
}

/// Records one run.
///
/// It folds an event, captures the state for a checkpoint and announces the event under one lock. Therefore a
/// checkpoint contains exactly the state at its event, although another task stores it later.
pub struct Recorder {
    parts: RecorderParts,
    run: RunId,
    started_at: Timestamp,
    state: Mutex<RunState>,
    /// Notified when the agent has changed the turn.
    pub changed: Notify,
    /// Notified when the agent waits until the turn is durable.
    pub save_requested: Notify,
    saved: watch::Sender<SaveProgress>,
}

/// How much of a turn is durable.
#[derive(Debug, Default)]
struct SaveProgress {
    /// Number of changes to the turn that are durable.
    changes: u64,
    /// The store's error, if the last attempt failed.
    failure: Option<SaveFailure>,
}

#[derive(Debug)]
struct SaveFailure {
    reason: String,
    /// Whether a later attempt may succeed.
    may_retry: bool,
}

struct RunState {
    history: EventHistory,
    events: Vec<Event>,
    memories: BTreeMap<String, AgentMemory>,
    turn: Turn,
    /// The checkpoints of the run so far.
    captured: Vec<CheckpointId>,
}

impl Recorder {
    pub fn new(parts: RecorderParts, turn: Turn, run: RunId) -> Self {
        let state = RunState {
            history: EventHistory::new(RECENT_EVENTS),
            events: Vec::new(),
            memories: parts.memories.clone(),
            turn,
            captured: Vec::new(),
        };
        let started_at = parts.clock.now();
        Self {
            parts,
            run,
            started_at,
            state: Mutex::new(state),
            changed: Notify::new(),
            save_requested: Notify::new(),
            saved: watch::Sender::default(),
        }
    }

    /// Reads or changes the turn. `access` must not call the recorder.
    pub fn with_turn<T>(&self, access: impl FnOnce(&mut Turn) -> T) -> T {
        access(&mut lock_unpoisoned(&self.state).turn)
    }

    /// Records that this many changes to the turn are durable.
    pub fn turn_saved(&self, changes: u64) {
        self.saved.send_replace(SaveProgress { changes, failure: None });
    }

    /// Records that the turn could not be saved.
    pub fn turn_not_saved(&self, error: &StoreError) {
        let failure = SaveFailure { reason: error_chain(error), may_retry: may_retry(error) };
        self.saved.send_modify(|progress| progress.failure = Some(failure));
    }

    /// Records the end of the run, after that of its turn. A run that is not complete leaves no checkpoints.
    pub fn run_ended(&self, ending: RunEnding) {
        let duration_ms = self.parts.clock.now().millis_since(self.started_at);
        self.event(EventPayload::RunEnded { duration_ms, ending });
        match ending {
            RunEnding::Completed => {}
            RunEnding::Failed | RunEnding::Cancelled => {
                let captured = std::mem::take(&mut lock_unpoisoned(&self.state).captured);
                // Fails only if the runtime has shut down, as in `event`.
                let _ = self.parts.checkpoints.send(CheckpointChange::Withdraw(captured));
            }
        }
    }

    /// The record of the run so far.
    pub fn run(&self) -> Run {
        let state = lock_unpoisoned(&self.state);
        Run {
            id: self.run,
            branch: self.parts.branch,
            answers: self.parts.answers,
            started_at: self.started_at,
            ended_at: state.history.snapshot().timeline.ended_at,
            snapshot: state.history.snapshot().clone(),
            events: state.events.clone(),
        }
    }

    /// The state that the next run on this branch starts from.
    pub fn checkpoint_state(&self) -> CheckpointState {
        self.capture(&lock_unpoisoned(&self.state))
    }

    fn capture(&self, state: &RunState) -> CheckpointState {
        let plugins = self.parts.hooks.session_state(self.parts.session);
        CheckpointState {
            run_snapshot: Arc::new(state.history.snapshot().clone()),
            agents: state.memories.clone(),
            plugins: plugins.unwrap_or_else(|| self.parts.plugins.clone()),
        }
    }
}

#[async_trait]
impl RunSink for Recorder {
    fn event(&self, payload: EventPayload) {
        let mut state = lock_unpoisoned(&self.state);
        let event = Arc::new(Event {
            run: self.run,
            number: state.history.total() + 1,
            at: self.parts.clock.now(),
            payload,
        });
        state.history.push(Arc::clone(&event));
        state.events.push(Event::clone(&event));
        let kind = event.payload.kind();
        let is_failed_end = matches!(
            event.payload,
            EventPayload::RunEnded { ending: RunEnding::Failed | RunEnding::Cancelled, .. }
        );
        if !is_failed_end && self.parts.checkpoint_on.iter().any(|pattern| pattern.matches(kind)) {
            let draft = CheckpointDraft {
                id: CheckpointId::generate(),
                branch: self.parts.branch,
                seq: state.turn.completed_through(),
                trigger: Trigger::Event(kind.to_owned()),
                label: None,
                pinned: false,
                created_at: event.at,
                state: self.capture(&state),
            };
            state.captured.push(draft.id);
            // The receiving task outlives the recorder, so sending fails only if the runtime has shut down.
            let _ = self.parts.checkpoints.send(CheckpointChange::Store(Box::new(draft)));
        }
        let _ = self.parts.hook_events.send(Arc::clone(&event));
        self.parts.bus.emit(&event);
        self.parts.observer.update(Update::Event(event));
    }

    fn reply(&self, delta: ReplyDelta) {
        {
            let mut state = lock_unpoisoned(&self.state);
            let is_first_message = state.turn.is_untouched();
            let Some((delta, begins)) = state.turn.append(delta) else { return };
            // Under the lock, so that front ends receive deltas and messages in their order.
            if let Some(role) = begins.filter(|role| !is_first_message || *role != Role::Assistant) {
                self.parts.observer.update(Update::MessageStarted { role });
            }
            self.parts.observer.update(Update::Delta(delta));
        }
        self.changed.notify_one();
    }

    fn next_message(&self, completed: CompletedMessage, next: Role) {
        let agent = &self.parts.agent;
        let next = MessageDraft {
            status: MessageStatus::Streaming,
            agent: Some(agent.name.clone()),
            model: agent.model.clone().filter(|_| next == Role::Assistant),
            ..MessageDraft::new(next, Vec::new(), self.parts.clock.now())
        };
        self.with_turn(|turn| turn.next_message(completed, next));
        self.changed.notify_one();
    }

    async fn persist(&self) -> Result<(), NotPersisted> {
        let target = self.with_turn(|turn| turn.changes());
        let mut saved = self.saved.subscribe();
        self.save_requested.notify_one();
        let is_over = |progress: &SaveProgress| {
            progress.changes >= target || progress.failure.as_ref().is_some_and(|failure| !failure.may_retry)
        };
        // Fails only if the sender is dropped, and `self` is the sender; or if the time is over.
        let _ = tokio::time::timeout(self.parts.save_timeout, saved.wait_for(is_over)).await;
        let progress = self.saved.borrow();
        if progress.changes >= target {
            return Ok(());
        }
        let reason = progress.failure.as_ref().map(|failure| failure.reason.clone());
        Err(NotPersisted { reason: reason.unwrap_or_else(|| "the store does not answer".to_owned()) })
    }

    fn remember(&self, agent: &str, memory: AgentMemory) {
        lock_unpoisoned(&self.state).memories.insert(agent.to_owned(), memory);
    }
}
