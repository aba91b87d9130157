//! What triads there are, what they are for, and under what pressure they agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// How the three agents of a triad work together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preset {
    /// An orchestrator takes the question apart, two workers work in parallel, the orchestrator merges.
    Hierarchical,
    /// A proposer drafts, a critic objects, the proposer revises, a synthesizer decides.
    Dialectic,
    /// Three peers propose, discuss and vote; two of three decide.
    Consensus,
}

impl Preset {
    /// All presets.
    pub const ALL: [Self; 3] = [Self::Hierarchical, Self::Dialectic, Self::Consensus];

    /// The name in configurations and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hierarchical => "hierarchical",
            Self::Dialectic => "dialectic",
            Self::Consensus => "consensus",
        }
    }

    /// Its three agents: the part of their id that follows the triad's, and their role.
    #[must_use]
    pub const fn agents(self) -> [(&'static str, Role); 3] {
        match self {
            Self::Hierarchical => {
                [("orchestrator", Role::Orchestrator), ("worker-1", Role::Worker), ("worker-2", Role::Worker)]
            }
            Self::Dialectic => {
                [("synthesizer", Role::Synthesizer), ("proposer", Role::Proposer), ("critic", Role::Critic)]
            }
            Self::Consensus => [("peer-1", Role::Peer), ("peer-2", Role::Peer), ("peer-3", Role::Peer)],
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an agent does. A model can be configured for each role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "explained by the presets, but for the last two, which belong to no triad")]
pub enum Role {
    Orchestrator,
    Worker,
    Proposer,
    Critic,
    Synthesizer,
    Peer,
    /// Decides about sections on which triads do not agree.
    Arbiter,
    /// Makes one reply of all sections.
    Integrator,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 8] = [
        Self::Orchestrator,
        Self::Worker,
        Self::Proposer,
        Self::Critic,
        Self::Synthesizer,
        Self::Peer,
        Self::Arbiter,
        Self::Integrator,
    ];

    /// The name in configurations and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Orchestrator => "orchestrator",
            Self::Worker => "worker",
            Self::Proposer => "proposer",
            Self::Critic => "critic",
            Self::Synthesizer => "synthesizer",
            Self::Peer => "peer",
            Self::Arbiter => "arbiter",
            Self::Integrator => "integrator",
        }
    }
}

/// The most that may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Tokens, sent and received.
    pub tokens: u64,
    /// Working time.
    pub time: Duration,
}

/// A triad.
#[derive(Debug, Clone, PartialEq)]
pub struct TriadConfig {
    /// Its id, unique in the configuration.
    pub id: String,
    /// How its agents work together.
    pub preset: Preset,
    /// The sections it is there for.
    pub primary: Vec<String>,
    /// Further sections that it may claim.
    pub reach: Vec<String>,
    /// What it may spend in one run.
    pub budget: Budget,
    /// What it is after.
    pub objectives: Vec<String>,
    /// What its agents are told about their task.
    pub system_context: String,
}

impl TriadConfig {
    /// Whether it may own this section.
    #[must_use]
    pub fn may_claim(&self, section: &str) -> bool {
        self.primary.iter().chain(&self.reach).any(|known| known == section)
    }
}

/// A part of the reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionConfig {
    /// Its name.
    pub name: String,
    /// What belongs into it.
    pub about: String,
}

/// How long triads may disagree.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// The temperature of the first round, 0 to 2.
    pub initial_temperature: f64,
    /// By how much each round is colder than the one before.
    pub temperature_decay: f64,
    /// At this temperature or below, nothing moves: the arbiter decides.
    pub freeze_threshold: f64,
    /// The most rounds there are.
    pub max_negotiation_rounds: u32,
    /// After so many rounds over the same section the arbiter decides about it.
    pub escalation_threshold: u32,
    /// What all triads together may spend in one run.
    pub budget: Budget,
}

impl Default for Pressure {
    fn default() -> Self {
        Self {
            initial_temperature: 1.0,
            temperature_decay: 0.15,
            freeze_threshold: 0.1,
            max_negotiation_rounds: 10,
            escalation_threshold: 2,
            budget: Budget { tokens: 400_000, time: Duration::from_secs(900) },
        }
    }
}

impl Pressure {
    /// The temperature of a round, counted from 1. Never rises, never negative.
    #[must_use]
    pub fn temperature(&self, round: u32) -> f64 {
        let colder = self.temperature_decay * f64::from(round.saturating_sub(1));
        // Without the rounding, 1.0 - 6 * 0.15 would be a little above 0.1 and the freeze one round late.
        ((self.initial_temperature - colder).max(0.0) * 1e6).round() / 1e6
    }
}

/// Who decides where triads do not agree.
#[derive(Debug, Clone, PartialEq)]
pub struct ArbiterConfig {
    /// Its model; `None` for the default one.
    pub model: Option<String>,
    /// Its longest answer, in tokens.
    pub max_tokens: u32,
    /// Its sampling temperature.
    pub temperature: f64,
}

impl Default for ArbiterConfig {
    fn default() -> Self {
        Self { model: None, max_tokens: 1024, temperature: 0.3 }
    }
}

/// Everything about a run with triads. Made by [`TriadsConfig::from_yaml`], which checks it.
#[derive(Debug, Clone, PartialEq)]
pub struct TriadsConfig {
    /// The triads, at least one.
    pub triads: Vec<TriadConfig>,
    /// The parts of the reply, at least one, in the order in which they are read.
    pub sections: Vec<SectionConfig>,
    /// How long triads may disagree.
    pub pressure: Pressure,
    /// Who decides then.
    pub arbiter: ArbiterConfig,
    /// The model that every role without one of its own uses; `None` for the one hfs is set up with.
    pub model: Option<String>,
    /// Models by role.
    pub models: BTreeMap<Role, String>,
}

impl TriadsConfig {
    /// A small configuration that ships with hfs: two triads.
    pub const SMALL: &'static str = include_str!("presets/small.yaml");
    /// The standard configuration that ships with hfs: six triads.
    pub const STANDARD: &'static str = include_str!("presets/standard.yaml");
    /// The configurations that ship with hfs, by name.
    pub const READY: [(&'static str, &'static str); 2] =
        [("small", Self::SMALL), ("standard", Self::STANDARD)];

    /// The model that a role uses; `None` for the one hfs is set up with.
    #[must_use]
    pub fn model_of(&self, role: Role) -> Option<&str> {
        let arbiter = self.arbiter.model.as_ref().filter(|_| role == Role::Arbiter);
        arbiter.or_else(|| self.models.get(&role)).or(self.model.as_ref()).map(String::as_str)
    }

    /// Every model that is named, for whoever has to find their providers and keys.
    #[must_use]
    pub fn model_names(&self) -> BTreeSet<&str> {
        Role::ALL.iter().filter_map(|role| self.model_of(*role)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperature_falls_by_the_decay_and_reaches_the_threshold_exactly() {
        let pressure = Pressure::default();
        assert_eq!(pressure.temperature(1), 1.0);
        assert_eq!(pressure.temperature(2), 0.85);
        assert_eq!(pressure.temperature(7), pressure.freeze_threshold);
        assert_eq!(pressure.temperature(100), 0.0);
    }
}
