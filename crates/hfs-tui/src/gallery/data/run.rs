use hfs_core::{
    AgentStatus, ClaimDecision, Event, EventPayload, Run, RunEnding, RunSnapshot, SectionDecision, Usage,
};

use super::{after, branch_id, message_id, run_id};

/// The events of a run of two triads.
fn events() -> Vec<Event> {
    let mut log = Log { events: Vec::new(), at: 0 };
    log.push(0, EventPayload::RunStarted { agent: "triads".into(), answers: Some(message_id(7)) });
    log.phase("deliberation", |log| {
        for (triad, preset, roles) in [
            ("backend", "hierarchical", ["orchestrator", "worker 1", "worker 2"]),
            ("reliability", "dialectic", ["proposer", "critic", "synthesizer"]),
        ] {
            for role in roles {
                let agent = format!("{triad}.{}", role.replace(' ', "-"));
                log.agent(triad, preset, role, &agent);
            }
        }
    });
    let lost = vec!["reliability.critic".to_owned()];
    log.push(10, EventPayload::TriadDegraded { triad: "reliability".into(), lost });
    log.phase("negotiation", |log| {
        for (section, claimants) in
            [("cause", &["backend"][..]), ("fix", &["backend", "reliability"]), ("tests", &["reliability"])]
        {
            for claimant in claimants {
                log.push(
                    40,
                    EventPayload::NegotiationClaimed {
                        section: section.into(),
                        claimant: (*claimant).into(),
                    },
                );
            }
        }
        let claimants = vec!["backend".to_owned(), "reliability".to_owned()];
        for (round, temperature) in [(1, 1.0), (2, 0.85)] {
            let section = "fix".to_owned();
            let contest = EventPayload::NegotiationContested {
                section: section.clone(),
                claimants: claimants.clone(),
                round,
                temperature,
            };
            log.push(600, contest);
            for claimant in &claimants {
                let (section, claimant) = (section.clone(), claimant.clone());
                let decision = if round == 1 { ClaimDecision::Hold } else { ClaimDecision::Revise };
                log.push(20, EventPayload::NegotiationDecided { section, claimant, decision, round });
            }
        }
        log.push(
            500,
            EventPayload::ArbiterDecided {
                section: "fix".into(),
                decision: SectionDecision::Split,
                owners: claimants.clone(),
                reason: "the loop belongs to the backend, its bound to reliability".into(),
            },
        );
        for (section, owners) in [
            ("cause", vec!["backend".to_owned()]),
            ("fix", claimants.clone()),
            ("tests", vec!["reliability".to_owned()]),
        ] {
            log.push(30, EventPayload::NegotiationResolved { section: section.into(), owners, round: 2 });
        }
    });
    log.phase("execution", |log| {
        log.usage("backend.orchestrator", "execution", 1_900, 420);
        log.push(
            900,
            EventPayload::ErrorOccurred {
                agent: Some("reliability.critic".into()),
                phase: Some("execution".into()),
                message: "the answer was malformed and was asked for once more".into(),
            },
        );
        log.usage("reliability.synthesizer", "execution", 1_200, 380);
    });
    let duration_ms = u64::try_from(log.at).unwrap_or(0);
    log.push(120, EventPayload::RunEnded { duration_ms, ending: RunEnding::Completed });
    log.events
}

struct Log {
    events: Vec<Event>,
    at: i64,
}

impl Log {
    fn push(&mut self, pause: i64, payload: EventPayload) {
        self.at += pause;
        let number = u64::try_from(self.events.len()).unwrap_or(0) + 1;
        self.events.push(Event { run: run_id(2), number, at: after(self.at), payload });
    }

    fn phase(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        let begun = self.at;
        self.push(10, EventPayload::PhaseStarted { phase: name.into() });
        inside(self);
        let duration_ms = u64::try_from(self.at - begun).unwrap_or(0);
        self.push(200, EventPayload::PhaseEnded { phase: name.into(), duration_ms });
    }

    fn agent(&mut self, triad: &str, preset: &str, role: &str, agent: &str) {
        let started = EventPayload::AgentStarted {
            agent: agent.into(),
            role: role.into(),
            triad: Some(triad.into()),
            preset: Some(preset.into()),
            model: Some("sonnet".into()),
        };
        self.push(80, started);
        self.usage(agent, "deliberation", 700, 150);
        let status = match role {
            "critic" => AgentStatus::Blocked,
            "synthesizer" => AgentStatus::Idle,
            _ => AgentStatus::Complete,
        };
        if role != "worker 2" {
            self.push(700, EventPayload::AgentEnded { agent: agent.into(), status, duration_ms: 900 });
        }
    }

    fn usage(&mut self, agent: &str, phase: &str, prompt_tokens: u64, completion_tokens: u64) {
        let usage = Usage { prompt_tokens, completion_tokens };
        let (agent, phase, model) = (agent.to_owned(), Some(phase.to_owned()), None);
        self.push(400, EventPayload::UsageRecorded { agent, phase, model, usage });
    }
}

/// The events up to where one of two claimants has decided.
pub fn events_of_first_round() -> Vec<Event> {
    let mut events = events();
    let decides = |event: &Event| matches!(event.payload, EventPayload::NegotiationDecided { .. });
    let end = events.iter().position(decides).map_or(events.len(), |at| at + 1);
    events.truncate(end);
    events
}

/// The events up to the beginning of a phase.
pub fn events_until(phase: &str) -> Vec<Event> {
    let mut events = events();
    let begins =
        |event: &Event| matches!(&event.payload, EventPayload::PhaseStarted { phase: name } if name == phase);
    let end = events.iter().position(begins).map_or(events.len(), |at| at + 1);
    events.truncate(end);
    events
}

/// The whole run.
pub fn run() -> Run {
    let events = events();
    Run {
        id: run_id(2),
        branch: branch_id(1),
        answers: Some(message_id(7)),
        started_at: after(0),
        ended_at: events.last().map(|event| event.at),
        snapshot: RunSnapshot::fold(&events),
        events,
    }
}
