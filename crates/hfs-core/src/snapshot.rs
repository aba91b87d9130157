//! Run snapshots: the state of a run, computed by folding its events.
//!
//! The fold is a pure function: equal events give equal snapshots, so a snapshot can be checked and rebuilt from its
//! events. Its serialized form is a versioned document ([`RunSnapshot::VERSION`]), which checkpoints and exports
//! contain and plugins receive. For the reason why it includes the negotiation between triads, see
//! docs/decisions/0040-open-events.md.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ClaimDecision, Event, EventPayload, RunEnding, RunId, SectionDecision, Timestamp, Usage};

/// State of a run after a sequence of events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSnapshot {
    /// Version of the serialized form.
    pub version: u32,
    /// Run id, once the run has started.
    pub run_id: Option<RunId>,
    /// How the run ended, once it has.
    pub ending: Option<RunEnding>,
    /// Agents of the run, by triad.
    pub agent_tree: AgentTree,
    /// Sections of the answer, their owners, and the contests about them.
    pub negotiation: Negotiation,
    /// Tokens used.
    pub usage: UsageTally,
    /// Times of the run and its phases.
    pub timeline: Timeline,
    /// Errors that occurred, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

impl RunSnapshot {
    /// Version that this code writes.
    pub const VERSION: u32 = 1;
}

impl Default for RunSnapshot {
    fn default() -> Self {
        Self {
            version: Self::VERSION,
            run_id: None,
            ending: None,
            agent_tree: AgentTree::default(),
            negotiation: Negotiation::default(),
            usage: UsageTally::default(),
            timeline: Timeline::default(),
            errors: Vec::new(),
        }
    }
}

/// Agents of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AgentTree {
    /// Triads, in order of their first event.
    pub triads: Vec<TriadNode>,
    /// Agents outside of triads, in order of their first event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentNode>,
}

/// A triad: three agents that work together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TriadNode {
    /// Id of the triad in the configuration.
    pub triad_id: String,
    /// How its agents work together: `hierarchical`, `dialectic` or `consensus`.
    pub preset: String,
    /// Its agents, in order of their first event.
    pub agents: Vec<AgentNode>,
    /// Agents that failed; the triad continues without them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
}

/// An agent of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentNode {
    /// Agent id, unique in the run.
    pub agent_id: String,
    /// Role in the triad.
    pub role: String,
    /// Current status.
    pub status: AgentStatus,
    /// Model that the agent uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// When it first started to work.
    pub started_at: Option<Timestamp>,
    /// When it last stopped working.
    pub ended_at: Option<Timestamp>,
}

/// Status of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentStatus {
    /// Waiting for work.
    Idle,
    /// Working.
    Working,
    /// Unable to continue.
    Blocked,
    /// Finished.
    Complete,
}

/// The negotiation between triads about sections of the answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Negotiation {
    /// Temperature of the newest round; `None` before the first contest.
    pub temperature: Option<f64>,
    /// Newest round, counted from 1; 0 before the first.
    pub round: u32,
    /// Sections, in order of their first claim.
    pub sections: Vec<Section>,
}

/// A section of the answer, which triads can own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// Name of the section.
    pub name: String,
    /// Status.
    pub status: SectionStatus,
    /// Triads that own it: empty until it is resolved; several if it was split.
    pub owners: Vec<String>,
    /// Triads that claimed it, in order.
    pub claimants: Vec<String>,
    /// Contests about it, by round.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contests: Vec<Contest>,
    /// Decision of the arbiter, if it made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arbiter: Option<ArbiterDecision>,
}

/// Status of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SectionStatus {
    /// Claimed by one triad.
    Claimed,
    /// Claimed by several triads.
    Contested,
    /// Owned.
    Resolved,
}

/// A round in which several triads claimed the same section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contest {
    /// Number of the round.
    pub round: u32,
    /// Temperature of the round.
    pub temperature: f64,
    /// Triads that claim the section in this round.
    pub claimants: Vec<String>,
    /// Decision of each claimant in this round.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub decisions: BTreeMap<String, ClaimDecision>,
}

/// Decision of the arbiter about a section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArbiterDecision {
    /// The decision.
    pub decision: SectionDecision,
    /// Reason given by the arbiter.
    pub reason: String,
}

/// Tokens of a run, by agent and by phase.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UsageTally {
    /// Tokens by agent id.
    pub by_agent: BTreeMap<String, TokenCount>,
    /// Tokens by phase; the key is empty for tokens used outside of a phase.
    pub by_phase: BTreeMap<String, TokenCount>,
    /// Tokens of the whole run, without those that a server did not report; see [`total`](Self::total).
    pub total_tokens: u64,
}

impl UsageTally {
    /// Number of model calls.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.by_agent.values().map(|count| count.calls).sum()
    }

    /// Tokens of the whole run.
    #[must_use]
    pub fn total(&self) -> TokenTotal {
        let unknown = self.by_agent.values().map(|count| count.unknown_calls).sum();
        TokenTotal::new(self.total_tokens, self.calls(), unknown)
    }
}

/// A number of tokens, some of which may be unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenTotal {
    /// All tokens are known.
    Exact(u64),
    /// The tokens of some calls are known.
    AtLeast(u64),
    /// The tokens of no call are known.
    Unknown,
}

impl TokenTotal {
    const fn new(tokens: u64, calls: u64, unknown_calls: u64) -> Self {
        match unknown_calls {
            0 => Self::Exact(tokens),
            unknown if unknown < calls => Self::AtLeast(tokens),
            _ => Self::Unknown,
        }
    }

    /// The known tokens; `None` if none are known.
    #[must_use]
    pub const fn known(self) -> Option<u64> {
        match self {
            Self::Exact(tokens) | Self::AtLeast(tokens) => Some(tokens),
            Self::Unknown => None,
        }
    }

    /// The total with its unit, such as `12 tokens` or `tokens unknown`.
    pub fn describe_with_unit(self, format: impl Fn(u64) -> String) -> String {
        match self {
            Self::Exact(_) | Self::AtLeast(_) => format!("{} tokens", self.describe(format)),
            Self::Unknown => "tokens unknown".to_owned(),
        }
    }

    /// The total as text, with the number in the format of the caller.
    pub fn describe(self, format: impl Fn(u64) -> String) -> String {
        match self {
            Self::Exact(tokens) => format(tokens),
            Self::AtLeast(tokens) => format!("at least {}", format(tokens)),
            Self::Unknown => "unknown".to_owned(),
        }
    }
}

/// Tokens and number of model calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TokenCount {
    /// Tokens.
    #[serde(flatten)]
    pub usage: Usage,
    /// Number of model calls.
    pub calls: u64,
    /// Number of those calls whose tokens the server did not report.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unknown_calls: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde requires")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl TokenCount {
    /// Tokens of all calls, or the part of them that `part` selects.
    #[must_use]
    pub fn total(&self, part: impl Fn(Usage) -> u64) -> TokenTotal {
        TokenTotal::new(part(self.usage), self.calls, self.unknown_calls)
    }
}

/// Times of a run and its phases.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Timeline {
    /// Start of the run.
    pub started_at: Option<Timestamp>,
    /// End of the run.
    pub ended_at: Option<Timestamp>,
    /// Phases, in order.
    pub phases: Vec<PhaseSpan>,
    /// Duration of the run in milliseconds, once it has ended.
    pub total_duration_ms: Option<u64>,
}

/// A phase of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseSpan {
    /// Name of the phase.
    pub name: String,
    /// Start of the phase.
    pub start: Timestamp,
    /// End of the phase.
    pub end: Option<Timestamp>,
    /// Duration in milliseconds, once it has ended.
    pub duration_ms: Option<u64>,
}

impl RunSnapshot {
    /// Folds a sequence of events into a snapshot.
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut snapshot = Self::default();
        for event in events {
            snapshot.apply(event);
        }
        snapshot
    }

    /// Applies the next event. Accepts every sequence of events: the end of a phase or agent that was not started and
    /// events of custom types change nothing.
    pub fn apply(&mut self, event: &Event) {
        match &event.payload {
            EventPayload::RunStarted { .. } => {
                self.run_id = Some(event.run);
                self.timeline.started_at = Some(event.at);
            }
            EventPayload::RunEnded { duration_ms, ending } => self.end(event.at, *duration_ms, *ending),
            EventPayload::PhaseStarted { phase } => self.timeline.phases.push(PhaseSpan {
                name: phase.clone(),
                start: event.at,
                end: None,
                duration_ms: None,
            }),
            EventPayload::PhaseEnded { phase, duration_ms } => {
                self.end_phase(phase, event.at, *duration_ms);
            }
            EventPayload::AgentStarted { agent, role, triad, preset, model } => {
                let node = self.agent_or_new(agent, role, triad.as_deref(), preset.as_deref());
                node.status = AgentStatus::Working;
                node.started_at.get_or_insert(event.at);
                node.ended_at = None;
                if model.is_some() {
                    node.model.clone_from(model);
                }
            }
            EventPayload::AgentEnded { agent, status, .. } => {
                if let Some(node) = self.agent_mut(agent) {
                    node.status = *status;
                    node.ended_at = Some(event.at);
                }
            }
            EventPayload::TriadDegraded { triad, lost } => {
                let triads = &mut self.agent_tree.triads;
                if let Some(node) = triads.iter_mut().find(|node| node.triad_id == *triad) {
                    node.lost.clone_from(lost);
                }
            }
            EventPayload::UsageRecorded { agent, phase, usage, .. } => {
                self.count(agent, phase.as_deref().unwrap_or_default(), Some(*usage));
            }
            EventPayload::UsageUnknown { agent, phase, .. } => {
                self.count(agent, phase.as_deref().unwrap_or_default(), None);
            }
            EventPayload::ErrorOccurred { message, .. } => self.errors.push(message.clone()),
            EventPayload::NegotiationClaimed { section, claimant } => {
                let section = self.section_or_new(section);
                if !section.claimants.contains(claimant) {
                    section.claimants.push(claimant.clone());
                }
            }
            EventPayload::NegotiationContested { section, claimants, round, temperature } => {
                self.negotiation.round = self.negotiation.round.max(*round);
                self.negotiation.temperature = Some(*temperature);
                let section = self.section_or_new(section);
                section.status = SectionStatus::Contested;
                section.contests.push(Contest {
                    round: *round,
                    temperature: *temperature,
                    claimants: claimants.clone(),
                    decisions: BTreeMap::new(),
                });
            }
            EventPayload::NegotiationDecided { section, claimant, decision, round } => {
                let contests = &mut self.section_or_new(section).contests;
                if let Some(contest) = contests.iter_mut().rev().find(|contest| contest.round == *round) {
                    contest.decisions.insert(claimant.clone(), *decision);
                }
            }
            EventPayload::NegotiationResolved { section, owners, round } => {
                self.negotiation.round = self.negotiation.round.max(*round);
                let section = self.section_or_new(section);
                section.status = SectionStatus::Resolved;
                section.owners.clone_from(owners);
            }
            EventPayload::ArbiterDecided { section, decision, reason, .. } => {
                self.section_or_new(section).arbiter =
                    Some(ArbiterDecision { decision: *decision, reason: reason.clone() });
            }
            // The texts stay in the events: a snapshot is part of each checkpoint.
            EventPayload::AgentAnswered { .. } | EventPayload::Custom(_) => {}
        }
    }

    fn end(&mut self, at: Timestamp, duration_ms: u64, ending: RunEnding) {
        self.ending = Some(ending);
        self.timeline.ended_at = Some(at);
        self.timeline.total_duration_ms = Some(duration_ms);
    }

    fn end_phase(&mut self, name: &str, at: Timestamp, duration_ms: u64) {
        let open =
            self.timeline.phases.iter_mut().rev().find(|phase| phase.name == name && phase.end.is_none());
        if let Some(phase) = open {
            phase.end = Some(at);
            phase.duration_ms = Some(duration_ms);
        }
    }

    fn count(&mut self, agent: &str, phase: &str, usage: Option<Usage>) {
        let tally = &mut self.usage;
        for count in [
            tally.by_agent.entry(agent.to_owned()).or_default(),
            tally.by_phase.entry(phase.to_owned()).or_default(),
        ] {
            count.usage += usage.unwrap_or_default();
            count.calls += 1;
            count.unknown_calls += u64::from(usage.is_none());
        }
        let tokens = usage.map_or(0, Usage::total);
        tally.total_tokens = tally.total_tokens.saturating_add(tokens);
    }

    fn agent_mut(&mut self, id: &str) -> Option<&mut AgentNode> {
        let tree = &mut self.agent_tree;
        let in_triads = tree.triads.iter_mut().flat_map(|triad| triad.agents.iter_mut());
        in_triads.chain(tree.agents.iter_mut()).find(|agent| agent.agent_id == id)
    }

    fn agent_or_new(
        &mut self,
        id: &str,
        role: &str,
        triad: Option<&str>,
        preset: Option<&str>,
    ) -> &mut AgentNode {
        let tree = &mut self.agent_tree;
        let agents = match triad {
            None => &mut tree.agents,
            Some(triad) => {
                let index = tree.triads.iter().position(|node| node.triad_id == triad).unwrap_or_else(|| {
                    tree.triads.push(TriadNode {
                        triad_id: triad.to_owned(),
                        preset: preset.unwrap_or_default().to_owned(),
                        agents: Vec::new(),
                        lost: Vec::new(),
                    });
                    tree.triads.len() - 1
                });
                #[allow(clippy::indexing_slicing, reason = "found or pushed just above")]
                &mut tree.triads[index].agents
            }
        };
        let index = agents.iter().position(|agent| agent.agent_id == id).unwrap_or_else(|| {
            agents.push(AgentNode {
                agent_id: id.to_owned(),
                role: role.to_owned(),
                status: AgentStatus::Idle,
                model: None,
                started_at: None,
                ended_at: None,
            });
            agents.len() - 1
        });
        #[allow(clippy::indexing_slicing, reason = "found or pushed just above")]
        &mut agents[index]
    }

    fn section_or_new(&mut self, name: &str) -> &mut Section {
        let sections = &mut self.negotiation.sections;
        let index = sections.iter().position(|section| section.name == name).unwrap_or_else(|| {
            sections.push(Section {
                name: name.to_owned(),
                status: SectionStatus::Claimed,
                owners: Vec::new(),
                claimants: Vec::new(),
                contests: Vec::new(),
                arbiter: None,
            });
            sections.len() - 1
        });
        #[allow(clippy::indexing_slicing, reason = "found or pushed just above")]
        &mut sections[index]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(payloads: Vec<EventPayload>) -> Vec<Event> {
        let run = RunId::generate();
        (1_i64..)
            .zip(payloads)
            .map(|(number, payload)| Event {
                run,
                number: number.unsigned_abs(),
                at: Timestamp::from_millis(number * 10).unwrap(),
                payload,
            })
            .collect()
    }

    fn usage(agent: &str, phase: &str, prompt: u64, completion: u64) -> EventPayload {
        EventPayload::UsageRecorded {
            agent: agent.into(),
            phase: Some(phase.into()),
            model: None,
            usage: Usage::new(prompt, completion),
        }
    }

    #[test]
    fn tokens_that_a_server_did_not_report_are_unknown_and_not_0() {
        let unknown = EventPayload::UsageUnknown { agent: "a".into(), phase: None, model: None };
        let total = |payloads: Vec<EventPayload>| RunSnapshot::fold(&events(payloads)).usage.total();
        assert_eq!(total(vec![]), TokenTotal::Exact(0));
        assert_eq!(total(vec![unknown.clone()]), TokenTotal::Unknown);
        assert_eq!(total(vec![usage("a", "p", 1, 2), unknown]), TokenTotal::AtLeast(3));
        assert_eq!(total(vec![usage("a", "p", 1, 2)]), TokenTotal::Exact(3));
        let number = |tokens: u64| tokens.to_string();
        assert_eq!(TokenTotal::AtLeast(3).describe(number), "at least 3");
        assert_eq!(TokenTotal::Exact(3).describe_with_unit(number), "3 tokens");
        assert_eq!(TokenTotal::Unknown.describe_with_unit(number), "tokens unknown");
    }

    #[test]
    fn a_run_folds_into_tree_negotiation_usage_and_timeline() {
        let snapshot = RunSnapshot::fold(&events(vec![
            EventPayload::RunStarted { agent: "triads".into(), answers: None },
            EventPayload::PhaseStarted { phase: "deliberation".into() },
            EventPayload::AgentStarted {
                agent: "a/critic".into(),
                role: "critic".into(),
                triad: Some("a".into()),
                preset: Some("dialectic".into()),
                model: None,
            },
            usage("a/critic", "deliberation", 10, 5),
            EventPayload::AgentEnded {
                agent: "a/critic".into(),
                status: AgentStatus::Complete,
                duration_ms: 10,
            },
            EventPayload::NegotiationClaimed { section: "layout".into(), claimant: "a".into() },
            EventPayload::NegotiationClaimed { section: "layout".into(), claimant: "b".into() },
            EventPayload::NegotiationContested {
                section: "layout".into(),
                claimants: vec!["a".into(), "b".into()],
                round: 1,
                temperature: 0.85,
            },
            EventPayload::NegotiationDecided {
                section: "layout".into(),
                claimant: "a".into(),
                decision: ClaimDecision::Concede,
                round: 1,
            },
            EventPayload::TriadDegraded { triad: "a".into(), lost: vec!["a/proposer".into()] },
            EventPayload::ArbiterDecided {
                section: "layout".into(),
                decision: SectionDecision::Assign,
                owners: vec!["b".into()],
                reason: "closer to its scope".into(),
            },
            EventPayload::NegotiationResolved {
                section: "layout".into(),
                owners: vec!["b".into()],
                round: 1,
            },
            EventPayload::PhaseEnded { phase: "deliberation".into(), duration_ms: 90 },
            EventPayload::RunEnded { duration_ms: 110, ending: RunEnding::Completed },
        ]));
        let critic = &snapshot.agent_tree.triads[0].agents[0];
        assert_eq!(
            (critic.status, snapshot.agent_tree.triads[0].preset.as_str()),
            (AgentStatus::Complete, "dialectic")
        );
        let layout = &snapshot.negotiation.sections[0];
        assert_eq!(
            (layout.status, layout.owners.as_slice()),
            (SectionStatus::Resolved, &["b".to_owned()][..])
        );
        assert_eq!(layout.contests[0].temperature, 0.85);
        assert_eq!(layout.contests[0].decisions["a"], ClaimDecision::Concede);
        assert_eq!(snapshot.agent_tree.triads[0].lost, ["a/proposer"]);
        assert_eq!(snapshot.usage.total_tokens, 15);
        assert_eq!(snapshot.usage.by_phase["deliberation"].calls, 1);
        assert_eq!(snapshot.timeline.phases[0].duration_ms, Some(90));
        assert_eq!(snapshot.ending, Some(RunEnding::Completed));
    }

    fn any_payload() -> impl Strategy<Value = EventPayload> {
        let name = prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned);
        prop_oneof![
            Just(EventPayload::RunStarted { agent: "x".into(), answers: None }),
            (name.clone(), name.clone()).prop_map(|(agent, triad)| EventPayload::AgentStarted {
                agent,
                role: "r".into(),
                triad: (triad != "c").then_some(triad),
                preset: None,
                model: None,
            }),
            name.clone().prop_map(|agent| EventPayload::AgentEnded {
                agent,
                status: AgentStatus::Blocked,
                duration_ms: 1
            }),
            name.clone().prop_map(|phase| EventPayload::PhaseStarted { phase }),
            (name.clone(), 0_u64..9)
                .prop_map(|(phase, duration_ms)| EventPayload::PhaseEnded { phase, duration_ms }),
            (name.clone(), name.clone(), 0_u64..99).prop_map(|(agent, phase, n)| usage(
                &agent,
                &phase,
                n,
                n / 2
            )),
            (name.clone(), name.clone())
                .prop_map(|(section, claimant)| EventPayload::NegotiationClaimed { section, claimant }),
            (name.clone(), 1_u32..5).prop_map(|(section, round)| EventPayload::NegotiationResolved {
                section,
                owners: vec!["a".into()],
                round
            }),
            (name.clone(), name.clone(), 1_u32..5).prop_map(|(section, claimant, round)| {
                EventPayload::NegotiationDecided { section, claimant, decision: ClaimDecision::Hold, round }
            }),
            (name.clone(), 1_u32..5).prop_map(|(section, round)| EventPayload::NegotiationContested {
                section,
                claimants: vec!["a".into(), "b".into()],
                round,
                temperature: 0.5,
            }),
            (name.clone(), name.clone())
                .prop_map(|(triad, agent)| EventPayload::TriadDegraded { triad, lost: vec![agent] }),
            name.prop_map(|message| EventPayload::ErrorOccurred { agent: None, phase: None, message }),
            Just(EventPayload::RunEnded { duration_ms: 5, ending: RunEnding::Failed }),
        ]
    }

    proptest! {
        #[test]
        fn folding_in_two_steps_equals_folding_at_once(
            payloads in prop::collection::vec(any_payload(), 0..60), cut in 0_usize..60,
        ) {
            let all = events(payloads);
            let cut = cut.min(all.len());
            let mut in_steps = RunSnapshot::fold(&all[..cut]);
            for event in &all[cut..] {
                in_steps.apply(event);
            }
            prop_assert_eq!(&in_steps, &RunSnapshot::fold(&all));
            let json = serde_json::to_string(&in_steps).unwrap();
            prop_assert_eq!(serde_json::from_str::<RunSnapshot>(&json).unwrap(), in_steps);
        }

        #[test]
        fn usage_by_agent_and_by_phase_adds_up_to_the_total(payloads in prop::collection::vec(any_payload(), 0..60)) {
            let snapshot = RunSnapshot::fold(&events(payloads));
            let by_agent: u64 = snapshot.usage.by_agent.values().map(|count| count.usage.total()).sum();
            let by_phase: u64 = snapshot.usage.by_phase.values().map(|count| count.usage.total()).sum();
            prop_assert_eq!(by_agent, snapshot.usage.total_tokens);
            prop_assert_eq!(by_phase, snapshot.usage.total_tokens);
        }
    }
}
