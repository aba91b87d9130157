//! What a run does, as it does it: folded, announced, captured for checkpoints, and queued for saving.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hfs_core::{
    AgentMemory, BranchId, CheckpointDraft, CheckpointId, CheckpointState, Clock, Event, EventBus,
    EventHistory, EventPayload, Hooks, MessageId, Part, Pattern, PluginStates, ReplyDelta, Run, RunId,
    RunSink, Seq, SessionId, Timestamp, append_delta,
};
use tokio::sync::{Notify, mpsc};

use crate::{Observer, Update};

/// How many events the live state remembers one by one. All of them are stored with the run.
const HISTORY: usize = 1024;

/// Where and for whom a run is recorded.
pub struct RecorderParts {
    pub session: SessionId,
    pub branch: BranchId,
    pub answers: Option<MessageId>,
    /// The newest message while the run goes on: what a checkpoint in the middle of it stands at.
    pub seq: Seq,
    pub memories: BTreeMap<String, AgentMemory>,
    /// What plugins keep for the session, as the run found it: carried where nobody keeps track of it.
    pub plugins: PluginStates,
    pub clock: Arc<dyn Clock>,
    pub hooks: Arc<dyn Hooks>,
    pub observer: Arc<dyn Observer>,
    pub bus: EventBus,
    pub checkpoint_on: Vec<Pattern>,
    /// Takes what is to become a checkpoint.
    pub captures: mpsc::UnboundedSender<CheckpointDraft>,
    /// Takes events for the plugins.
    pub hook_events: mpsc::UnboundedSender<Arc<Event>>,
}

/// Records one run. The state, the capture of a checkpoint and the announcement of an event happen under one
/// lock, so that a checkpoint holds exactly the state at its event.
pub struct Recorder {
    parts: RecorderParts,
    run: RunId,
    started_at: Timestamp,
    seq: AtomicU64,
    state: Mutex<Recorded>,
    /// Told when pieces wait to be saved.
    pub arrival: Notify,
}

struct Recorded {
    history: EventHistory,
    events: Vec<Event>,
    memories: BTreeMap<String, AgentMemory>,
    waiting: Vec<ReplyDelta>,
    reply: Vec<Part>,
}

impl Recorder {
    pub fn new(parts: RecorderParts, run: RunId) -> Self {
        let state = Recorded {
            history: EventHistory::new(HISTORY),
            events: Vec::new(),
            memories: parts.memories.clone(),
            waiting: Vec::new(),
            reply: Vec::new(),
        };
        let started_at = parts.clock.now();
        let seq = AtomicU64::new(parts.seq);
        Self { parts, run, started_at, seq, state: Mutex::new(state), arrival: Notify::new() }
    }

    /// A panic under this lock leaves the state whole: each change is a push.
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that the conversation has come to this message.
    pub fn move_to(&self, seq: Seq) {
        self.seq.store(seq, Ordering::Release);
    }

    /// Takes the pieces that wait to be saved.
    pub fn take_waiting(&self) -> Vec<ReplyDelta> {
        std::mem::take(&mut self.lock().waiting)
    }

    /// Puts pieces back that could not be saved, before those that came since.
    pub fn put_back(&self, mut pieces: Vec<ReplyDelta>) {
        let mut state = self.lock();
        pieces.append(&mut state.waiting);
        state.waiting = pieces;
    }

    /// What was streamed so far, as parts.
    pub fn streamed(&self) -> Vec<Part> {
        self.lock().reply.clone()
    }

    pub const fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// The run as it stands.
    pub fn run(&self) -> Run {
        let state = self.lock();
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
    pub fn state(&self) -> CheckpointState {
        self.capture(&self.lock())
    }

    /// What plugins keep for the session by now.
    pub fn plugins(&self) -> PluginStates {
        let live = self.parts.hooks.session_state(self.parts.session);
        live.unwrap_or_else(|| self.parts.plugins.clone())
    }

    fn capture(&self, state: &Recorded) -> CheckpointState {
        CheckpointState {
            run_snapshot: Arc::new(state.history.snapshot().clone()),
            agents: state.memories.clone(),
            plugins: self.plugins(),
        }
    }
}

impl RunSink for Recorder {
    fn event(&self, payload: EventPayload) {
        let mut state = self.lock();
        let event = Arc::new(Event {
            run: self.run,
            number: state.history.total() + 1,
            at: self.parts.clock.now(),
            payload,
        });
        state.history.push(Arc::clone(&event));
        state.events.push(Event::clone(&event));
        let kind = event.payload.kind();
        if self.parts.checkpoint_on.iter().any(|pattern| pattern.matches(kind)) {
            let draft = CheckpointDraft {
                id: CheckpointId::generate(),
                branch: self.parts.branch,
                seq: self.seq.load(Ordering::Acquire),
                trigger: kind.into(),
                label: None,
                pinned: false,
                created_at: event.at,
                state: self.capture(&state),
            };
            // The receiver outlives the run; if it is gone, the process is going, too.
            let _ = self.parts.captures.send(draft);
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
            let mut state = self.lock();
            match state.waiting.last_mut() {
                Some(last) if last.kind == delta.kind => last.text.push_str(&delta.text),
                _ => state.waiting.push(delta.clone()),
            }
            append_delta(&mut state.reply, &delta);
        }
        self.parts.observer.update(Update::Reply { kind: delta.kind, text: delta.text });
        self.arrival.notify_one();
    }

    fn remember(&self, agent: &str, memory: AgentMemory) {
        self.lock().memories.insert(agent.to_owned(), memory);
    }
}
