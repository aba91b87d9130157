//! Records a run in progress: folds its events, captures checkpoints, publishes updates and collects unsaved text.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use hfs_core::{
    AgentMemory, BranchId, CheckpointDraft, CheckpointId, CheckpointState, Clock, Event, EventBus,
    EventHistory, EventPayload, Hooks, MessageId, Part, Pattern, PluginStates, ReplyDelta, Run, RunEnding,
    RunId, RunSink, Seq, SessionId, Timestamp, Trigger, append_delta, lock_unpoisoned,
};
use tokio::sync::{Notify, mpsc};

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
    /// Seq of the message to answer. Checkpoints before the end of the run are created at this seq.
    pub seq: Seq,
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
    /// Seq for the next checkpoint.
    seq: AtomicU64,
    state: Mutex<RunState>,
    /// Notified when there are unsaved deltas.
    pub delta_arrived: Notify,
}

struct RunState {
    history: EventHistory,
    events: Vec<Event>,
    memories: BTreeMap<String, AgentMemory>,
    /// Deltas that are not saved yet.
    unsaved: Vec<ReplyDelta>,
    /// All text streamed so far.
    streamed: Vec<Part>,
    /// The checkpoints of the run so far.
    captured: Vec<CheckpointId>,
}

impl Recorder {
    pub fn new(parts: RecorderParts, run: RunId) -> Self {
        let state = RunState {
            history: EventHistory::new(RECENT_EVENTS),
            events: Vec::new(),
            memories: parts.memories.clone(),
            unsaved: Vec::new(),
            streamed: Vec::new(),
            captured: Vec::new(),
        };
        let started_at = parts.clock.now();
        let seq = AtomicU64::new(parts.seq);
        Self { parts, run, started_at, seq, state: Mutex::new(state), delta_arrived: Notify::new() }
    }

    /// Takes the unsaved deltas.
    pub fn take_unsaved(&self) -> Vec<ReplyDelta> {
        std::mem::take(&mut lock_unpoisoned(&self.state).unsaved)
    }

    /// Puts back deltas that could not be saved, before the deltas that arrived in the meantime.
    pub fn return_unsaved(&self, mut deltas: Vec<ReplyDelta>) {
        let mut state = lock_unpoisoned(&self.state);
        deltas.append(&mut state.unsaved);
        state.unsaved = deltas;
    }

    /// All text streamed so far, as parts of a message.
    pub fn streamed(&self) -> Vec<Part> {
        lock_unpoisoned(&self.state).streamed.clone()
    }

    /// Records the end of the run. `reply` is the seq of the reply; a checkpoint at this event is created at this seq. A run
    /// that is not complete leaves no checkpoints.
    pub fn run_ended(&self, ending: RunEnding, reply: Seq) {
        self.seq.store(reply, Ordering::Release);
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
                seq: self.seq.load(Ordering::Acquire),
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
        if delta.text.is_empty() {
            return;
        }
        {
            let mut state = lock_unpoisoned(&self.state);
            match state.unsaved.last_mut() {
                Some(last) if last.kind == delta.kind => last.text.push_str(&delta.text),
                _ => state.unsaved.push(delta.clone()),
            }
            append_delta(&mut state.streamed, &delta);
        }
        self.parts.observer.update(Update::Delta(delta));
        self.delta_arrived.notify_one();
    }

    fn remember(&self, agent: &str, memory: AgentMemory) {
        lock_unpoisoned(&self.state).memories.insert(agent.to_owned(), memory);
    }
}
