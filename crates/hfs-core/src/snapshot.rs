//! The state of a run, made only by folding its events.
//!
//! Folding is pure: the same events give the same snapshot, so a snapshot can be checked, rebuilt and
//! compared. The serialized form is a document of its own ([`RunSnapshot::VERSION`]).

mod fold;
mod history;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ClaimDecision, RunEnding, RunId, SectionDecision, Timestamp, Usage};

pub use history::EventHistory;

/// What a run has come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSnapshot {
    /// The version of this shape.
    pub version: u32,
    /// The run.
    pub run_id: Option<RunId>,
    /// How it ended, once it has.
    pub ending: Option<RunEnding>,
    /// Who works, in which triads.
    pub agent_tree: AgentTree,
    /// Who owns which section, and how that came about.
    pub negotiation: Negotiation,
    /// What it cost.
    pub usage: UsageTally,
    /// When what happened.
    pub timeline: Timeline,
    /// What went wrong on the way, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

impl RunSnapshot {
    /// The version of the shape that this code writes.
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

/// The agents of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AgentTree {
    /// Triads in order of their first appearance.
    pub triads: Vec<TriadNode>,
    /// Agents that belong to no triad.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<AgentNode>,
}

/// Three agents that work as one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TriadNode {
    /// Its id in the configuration.
    pub triad_id: String,
    /// How its agents work together: hierarchical, dialectic, consensus.
    pub preset: String,
    /// Its agents in order of their first appearance.
    pub agents: Vec<AgentNode>,
    /// The agents that it lost on the way and goes on without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentNode {
    /// Its id, unique in the run.
    pub agent_id: String,
    /// What it does in its triad.
    pub role: String,
    /// What it is doing.
    pub status: AgentStatus,
    /// The model behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// When it first set to work.
    pub started_at: Option<Timestamp>,
    /// When it last stopped.
    pub ended_at: Option<Timestamp>,
}

/// What an agent is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentStatus {
    /// Nothing, for the moment.
    Idle,
    /// Its work.
    Working,
    /// It cannot go on.
    Blocked,
    /// It is done.
    Complete,
}

/// The negotiation over sections.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Negotiation {
    /// The temperature of the newest round; `None` before the first contest.
    pub temperature: Option<f64>,
    /// The newest round, from 1; 0 before the first.
    pub round: u32,
    /// Sections in order of their first claim.
    pub sections: Vec<Section>,
}

/// A part of the answer that triads can own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub status: SectionStatus,
    /// Who owns it: nobody yet, one triad, or several where it was split.
    pub owners: Vec<String>,
    /// Who has claimed it, in order.
    pub claimants: Vec<String>,
    /// Every contest over it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contests: Vec<Contest>,
    /// What the arbiter decided, if it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arbiter: Option<ArbiterDecision>,
}

/// Where a section stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SectionStatus {
    /// Somebody wants it.
    Claimed,
    /// Several want it.
    Contested,
    /// It has its owners.
    Resolved,
}

/// One round in which several triads wanted the same section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contest {
    /// The round.
    pub round: u32,
    /// Its temperature.
    pub temperature: f64,
    /// Who held on to the section.
    pub claimants: Vec<String>,
    /// What each of them decided in this round.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub decisions: BTreeMap<String, ClaimDecision>,
}

/// A decision of the arbiter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArbiterDecision {
    /// What it decided.
    pub decision: SectionDecision,
    /// Why.
    pub reason: String,
}

/// Tokens counted by agent and by phase.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UsageTally {
    /// By agent id.
    pub by_agent: BTreeMap<String, TokenCount>,
    /// By phase; usage outside any phase is under the empty name.
    pub by_phase: BTreeMap<String, TokenCount>,
    /// All of it.
    pub total_tokens: u64,
}

/// Tokens and the calls they were spent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TokenCount {
    /// The tokens.
    #[serde(flatten)]
    pub usage: Usage,
    /// How many model calls.
    pub calls: u64,
}

/// When the phases of a run began and ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Timeline {
    /// When the run began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Its phases in order.
    pub phases: Vec<PhaseSpan>,
    /// How long it took, once it has ended.
    pub total_duration_ms: Option<u64>,
}

/// A phase of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseSpan {
    /// Its name.
    pub name: String,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Option<Timestamp>,
    /// How long it took, once it has ended.
    pub duration_ms: Option<u64>,
}
