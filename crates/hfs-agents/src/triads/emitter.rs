//! Emits the events of a run and tracks which phases and agents are open.
//!
//! Invariant: every phase and agent that was reported as started is reported as ended, also when the run fails or
//! is cancelled. A cancellation drops the futures of all agents at any point, so the agents cannot report their own end;
//! [`RunEmitter::close`] reports it for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use hfs_core::{AgentMemory, AgentStatus, EventPayload, RunSink, TextDelta, Usage, lock_unpoisoned};

/// The attributes of an agent in events.
#[derive(Debug, Clone)]
pub(super) struct AgentIdentity {
    /// Id such as `makers/worker-1` or `arbiter`.
    pub id: String,
    pub role: &'static str,
    pub triad: Option<String>,
    pub preset: Option<&'static str>,
    pub model: String,
}

/// The phases of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Deliberation,
    Claims,
    Negotiation,
    Freeze,
    Execution,
    Integration,
}

impl Phase {
    /// Name in events.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Deliberation => "deliberation",
            Self::Claims => "claims",
            Self::Negotiation => "negotiation",
            Self::Freeze => "freeze",
            Self::Execution => "execution",
            Self::Integration => "integration",
        }
    }
}

#[derive(Default)]
struct OpenSpans {
    phase: Option<(Phase, Instant)>,
    /// Start of the current call, by agent id.
    working: BTreeMap<String, Instant>,
    /// Agents that have worked and have not failed.
    available: BTreeSet<String>,
    usage: Usage,
    /// Whether the tokens of a call are unknown.
    is_usage_unknown: bool,
}

pub(super) struct RunEmitter<'a> {
    sink: &'a dyn RunSink,
    open: Mutex<OpenSpans>,
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl<'a> RunEmitter<'a> {
    pub fn new(sink: &'a dyn RunSink) -> Self {
        Self { sink, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, OpenSpans> {
        lock_unpoisoned(&self.open)
    }

    pub fn event(&self, payload: EventPayload) {
        self.sink.event(payload);
    }

    pub fn events(&self, payloads: impl IntoIterator<Item = EventPayload>) {
        payloads.into_iter().for_each(|payload| self.sink.event(payload));
    }

    pub fn reply(&self, delta: TextDelta) {
        self.sink.reply(delta.into());
    }

    /// Ends the current phase, if any, and starts this one.
    pub fn start_phase(&self, phase: Phase) {
        let previous = self.open().phase.replace((phase, Instant::now()));
        self.end_phase(previous);
        self.event(EventPayload::PhaseStarted { phase: phase.as_str().to_owned() });
    }

    fn end_phase(&self, phase: Option<(Phase, Instant)>) {
        if let Some((phase, start)) = phase {
            let duration_ms = millis(start);
            self.event(EventPayload::PhaseEnded { phase: phase.as_str().to_owned(), duration_ms });
        }
    }

    fn phase_name(&self) -> Option<String> {
        self.open().phase.map(|(phase, _)| phase.as_str().to_owned())
    }

    pub fn agent_started(&self, agent: &AgentIdentity) {
        {
            let mut open = self.open();
            open.working.insert(agent.id.clone(), Instant::now());
            open.available.insert(agent.id.clone());
        }
        self.event(EventPayload::AgentStarted {
            agent: agent.id.clone(),
            role: agent.role.to_owned(),
            triad: agent.triad.clone(),
            preset: agent.preset.map(str::to_owned),
            model: Some(agent.model.clone()),
        });
    }

    pub fn agent_ended(&self, id: &str, status: AgentStatus) {
        let start = {
            let mut open = self.open();
            if status == AgentStatus::Blocked {
                open.available.remove(id);
            }
            open.working.remove(id)
        };
        let duration_ms = start.map_or(0, millis);
        self.event(EventPayload::AgentEnded { agent: id.to_owned(), status, duration_ms });
    }

    /// Stores an agent's memory.
    ///
    /// Call it before the events of the same step: a checkpoint at such an event must contain the memory.
    pub fn remember(&self, id: &str, memory: AgentMemory) {
        self.sink.remember(id, memory);
    }

    /// Records the tokens of a call; `None` if its server did not report them.
    pub fn usage(&self, identity: &AgentIdentity, usage: Option<Usage>) {
        {
            let mut open = self.open();
            open.usage += usage.unwrap_or_default();
            open.is_usage_unknown |= usage.is_none();
        }
        let (agent, phase) = (identity.id.clone(), self.phase_name());
        let model = Some(identity.model.clone());
        self.event(match usage {
            Some(usage) => EventPayload::UsageRecorded { agent, phase, model, usage },
            None => EventPayload::UsageUnknown { agent, phase, model },
        });
    }

    pub fn error(&self, agent: Option<&str>, message: impl Into<String>) {
        self.event(EventPayload::ErrorOccurred {
            agent: agent.map(str::to_owned),
            phase: self.phase_name(),
            message: message.into(),
        });
    }

    /// Usage of all agents so far. `None` if a part of it is unknown.
    pub fn total_usage(&self) -> Option<Usage> {
        let open = self.open();
        (!open.is_usage_unknown).then_some(open.usage)
    }

    /// Ends everything that is open. With [`AgentStatus::Complete`], all agents that have not failed get this status,
    /// else only those that are working.
    pub fn close(&self, status: AgentStatus) {
        let (working, available, phase) = {
            let mut open = self.open();
            let working: Vec<String> = open.working.keys().cloned().collect();
            (working, std::mem::take(&mut open.available), open.phase.take())
        };
        let ended = if status == AgentStatus::Complete { available.into_iter().collect() } else { working };
        for id in ended {
            self.agent_ended(&id, status);
        }
        self.end_phase(phase);
    }
}
