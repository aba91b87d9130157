//! The events of a run under way, kept in order so that a run that ends early leaves nothing open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use hfs_core::{AgentMemory, AgentStatus, DeltaKind, EventPayload, ReplyDelta, RunSink, Usage};

/// Who works.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub id: String,
    pub role: &'static str,
    pub triad: Option<String>,
    pub preset: Option<&'static str>,
    pub model: String,
}

#[derive(Default)]
struct Open {
    phase: Option<(&'static str, Instant)>,
    working: BTreeMap<String, Instant>,
    /// Everyone who has worked and can still work.
    able: BTreeSet<String>,
    usage: Usage,
}

/// Where everything that happens in a run is told.
pub(super) struct Stage<'a> {
    sink: &'a dyn RunSink,
    open: Mutex<Open>,
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl<'a> Stage<'a> {
    pub fn new(sink: &'a dyn RunSink) -> Self {
        Self { sink, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn event(&self, payload: EventPayload) {
        self.sink.event(payload);
    }

    pub fn events(&self, payloads: impl IntoIterator<Item = EventPayload>) {
        payloads.into_iter().for_each(|payload| self.sink.event(payload));
    }

    pub fn reply(&self, kind: DeltaKind, text: &str) {
        self.sink.reply(ReplyDelta { kind, text: text.to_owned() });
    }

    /// Ends the phase before and begins this one.
    pub fn phase(&self, name: &'static str) {
        let before = self.open().phase.replace((name, Instant::now()));
        self.end_phase(before);
        self.event(EventPayload::PhaseStarted { phase: name.to_owned() });
    }

    fn end_phase(&self, phase: Option<(&'static str, Instant)>) {
        if let Some((name, since)) = phase {
            self.event(EventPayload::PhaseEnded { phase: name.to_owned(), duration_ms: millis(since) });
        }
    }

    fn phase_name(&self) -> Option<String> {
        self.open().phase.map(|(name, _)| name.to_owned())
    }

    pub fn agent_started(&self, who: &Identity) {
        {
            let mut open = self.open();
            open.working.insert(who.id.clone(), Instant::now());
            open.able.insert(who.id.clone());
        }
        self.event(EventPayload::AgentStarted {
            agent: who.id.clone(),
            role: who.role.to_owned(),
            triad: who.triad.clone(),
            preset: who.preset.map(str::to_owned),
            model: Some(who.model.clone()),
        });
    }

    pub fn agent_ended(&self, id: &str, status: AgentStatus) {
        let since = {
            let mut open = self.open();
            if status == AgentStatus::Blocked {
                open.able.remove(id);
            }
            open.working.remove(id)
        };
        let duration_ms = since.map_or(0, millis);
        self.event(EventPayload::AgentEnded { agent: id.to_owned(), status, duration_ms });
    }

    /// An agent's memory is now this; to be called before the event that shows what it did.
    pub fn remember(&self, id: &str, memory: AgentMemory) {
        self.sink.remember(id, memory);
    }

    pub fn usage(&self, who: &Identity, usage: Usage) {
        self.open().usage += usage;
        self.event(EventPayload::UsageRecorded {
            agent: who.id.clone(),
            phase: self.phase_name(),
            model: Some(who.model.clone()),
            usage,
        });
    }

    pub fn error(&self, agent: Option<&str>, message: impl Into<String>) {
        self.event(EventPayload::ErrorOccurred {
            agent: agent.map(str::to_owned),
            phase: self.phase_name(),
            message: message.into(),
        });
    }

    /// What the run has cost so far.
    pub fn spent(&self) -> Usage {
        self.open().usage
    }

    /// Ends everything that is open: who was working stops, who can still work is done.
    pub fn close(&self, status: AgentStatus) {
        let (working, able, phase) = {
            let mut open = self.open();
            let working: Vec<String> = open.working.keys().cloned().collect();
            (working, std::mem::take(&mut open.able), open.phase.take())
        };
        let done = if status == AgentStatus::Complete { able.into_iter().collect() } else { working };
        for id in done {
            self.agent_ended(&id, status);
        }
        self.end_phase(phase);
    }
}
