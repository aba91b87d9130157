//! The configuration of triads: its types, and parsing and validation of its YAML file.
//!
//! [`TriadsConfig::from_yaml`] reports all mistakes of a file at once, each with its line, so that the user can
//! correct them in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use hfs_core::{ErrorExt, ErrorKind};
use serde::Deserialize;
use serde_saphyr::Spanned;

/// Upper limit for the number of triads, and of sections. Each triad costs at least four model calls.
const MAX_TRIADS_OR_SECTIONS: usize = 32;

/// How the three agents of a triad work together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preset {
    /// An orchestrator divides the question, two workers work in parallel, the orchestrator merges their reports.
    Hierarchical,
    /// A proposer drafts, a critic objects, the proposer revises, a synthesizer states the position.
    Dialectic,
    /// Three peers propose, discuss and vote; a majority of two decides.
    Consensus,
}

impl Preset {
    /// All presets.
    pub const ALL: [Self; 3] = [Self::Hierarchical, Self::Dialectic, Self::Consensus];

    /// Name in configurations and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hierarchical => "hierarchical",
            Self::Dialectic => "dialectic",
            Self::Consensus => "consensus",
        }
    }

    /// Name and role of the three agents, the lead first. The name is the part of the agent id after the triad's id.
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

/// The task of an agent. A model can be configured for each role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the first six are explained by the presets")]
pub enum Role {
    Orchestrator,
    Worker,
    Proposer,
    Critic,
    Synthesizer,
    Peer,
    /// Decides about sections on which the triads do not agree. Belongs to no triad.
    Arbiter,
    /// Combines the sections into one reply. Belongs to no triad.
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

    /// Name in configurations and events.
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

/// Limits for the resources of a triad or a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Prompt and completion tokens.
    pub tokens: u64,
    /// Time during which at least one agent works.
    pub time: Duration,
}

/// Configuration of a triad.
#[derive(Debug, Clone, PartialEq)]
pub struct TriadConfig {
    /// Unique id.
    pub id: String,
    /// How the agents work together.
    pub preset: Preset,
    /// Sections that the triad is responsible for.
    pub primary: Vec<String>,
    /// Other sections that the triad may claim.
    pub reach: Vec<String>,
    /// Budget for one run.
    pub budget: Budget,
    /// Objectives, added to the system prompt of its agents.
    pub objectives: Vec<String>,
    /// Description of the task, added to the system prompt of its agents.
    pub system_context: String,
}

impl TriadConfig {
    /// Whether the triad may claim the section.
    #[must_use]
    pub fn may_claim(&self, section: &str) -> bool {
        self.primary.iter().chain(&self.reach).any(|known| known == section)
    }
}

/// A section of the reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionConfig {
    /// Unique name.
    pub name: String,
    /// Description of its content for the authors.
    pub about: String,
}

/// How long triads negotiate before the arbiter decides.
///
/// The temperature falls from round to round. It is the sampling temperature of the claimants, and it ends the
/// negotiation when it reaches the freeze threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// Temperature of the first round, from 0 to 2.
    pub initial_temperature: f64,
    /// Decrease of the temperature from one round to the next.
    pub temperature_decay: f64,
    /// At or below this temperature there are no more rounds.
    pub freeze_threshold: f64,
    /// Maximum number of rounds.
    pub max_negotiation_rounds: u32,
    /// Maximum number of rounds in which one section is contested; then the arbiter decides about it.
    pub escalation_threshold: u32,
    /// Budget of all agents together for one run.
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
    /// The temperature of a round (counted from 1). It never rises and is never negative.
    #[must_use]
    pub fn temperature(&self, round: u32) -> f64 {
        let decrease = self.temperature_decay * f64::from(round.saturating_sub(1));
        // Rounded to 6 decimals: with the defaults, 1.0 - 6 * 0.15 is slightly more than the threshold 0.1 in
        // floating point, which would add a seventh round.
        ((self.initial_temperature - decrease).max(0.0) * 1e6).round() / 1e6
    }
}

/// Configuration of the arbiter, which decides where triads do not agree.
#[derive(Debug, Clone, PartialEq)]
pub struct ArbiterConfig {
    /// Model; `None` for the default of its role.
    pub model: Option<String>,
    /// Maximum length of an answer, in tokens.
    pub max_tokens: u32,
    /// Sampling temperature.
    pub temperature: f64,
}

impl Default for ArbiterConfig {
    fn default() -> Self {
        Self { model: None, max_tokens: 1024, temperature: 0.3 }
    }
}

/// Configuration of a run with triads, created and checked by [`TriadsConfig::from_yaml`].
#[derive(Debug, Clone, PartialEq)]
pub struct TriadsConfig {
    /// Triads, at least one.
    pub triads: Vec<TriadConfig>,
    /// Sections of the reply, at least one, in order.
    pub sections: Vec<SectionConfig>,
    /// How long triads negotiate.
    pub pressure: Pressure,
    /// Configuration of the arbiter.
    pub arbiter: ArbiterConfig,
    /// Model of the roles that are not in `models`; `None` for the model of the `hfs` configuration.
    pub model: Option<String>,
    /// Models of individual roles.
    pub models: BTreeMap<Role, String>,
}

impl TriadsConfig {
    /// Built-in configuration with two triads.
    pub const SMALL: &'static str = include_str!("presets/small.yaml");
    /// Built-in configuration with six triads.
    pub const STANDARD: &'static str = include_str!("presets/standard.yaml");
    /// A configuration with one triad, for agents that are programs of their own. It names none of them.
    pub const MIXED: &'static str = include_str!("presets/mixed.yaml");
    /// The built-in configurations with their names, except [`MIXED`](Self::MIXED).
    pub const BUILT_IN: [(&'static str, &'static str); 2] =
        [("small", Self::SMALL), ("standard", Self::STANDARD)];

    /// The model of a role; `None` for the model of the `hfs` configuration.
    #[must_use]
    pub fn model_of(&self, role: Role) -> Option<&str> {
        let arbiter = self.arbiter.model.as_ref().filter(|_| role == Role::Arbiter);
        arbiter.or_else(|| self.models.get(&role)).or(self.model.as_ref()).map(String::as_str)
    }

    /// All models that the configuration names.
    #[must_use]
    pub fn model_names(&self) -> BTreeSet<&str> {
        Role::ALL.iter().filter_map(|role| self.model_of(*role)).collect()
    }
}

/// A mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Line, counted from 1, if known.
    pub line: Option<u64>,
    /// Column, counted from 1, if known.
    pub column: Option<u64>,
    /// Path of the value, such as `triads[1].budget.tokens`.
    pub path: String,
    /// The mistake and the expected value.
    pub message: String,
}

/// The configuration is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", join_problems(problems))]
#[non_exhaustive]
pub struct TriadsConfigError {
    /// All mistakes, in the order of the text.
    pub problems: Vec<ConfigProblem>,
}

impl ErrorExt for TriadsConfigError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

fn join_problems(problems: &[ConfigProblem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| {
            let place = problem.line.map(|line| format!("line {line}: ")).unwrap_or_default();
            let path = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
            format!("{place}{path}{}", problem.message)
        })
        .collect();
    lines.join("; ")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TriadsFields {
    triads: Spanned<Vec<TriadFields>>,
    sections: Spanned<Vec<SectionFields>>,
    pressure: Option<PressureFields>,
    arbiter: Option<ArbiterFields>,
    model: Option<String>,
    #[serde(default)]
    models: BTreeMap<String, Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TriadFields {
    id: Spanned<String>,
    preset: Spanned<String>,
    scope: ScopeFields,
    budget: Option<BudgetFields>,
    #[serde(default)]
    objectives: Vec<String>,
    #[serde(default)]
    system_context: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeFields {
    primary: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    reach: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetFields {
    tokens: Option<Spanned<u64>>,
    time_ms: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SectionFields {
    name: Spanned<String>,
    #[serde(default)]
    about: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PressureFields {
    initial_temperature: Option<Spanned<f64>>,
    temperature_decay: Option<Spanned<f64>>,
    freeze_threshold: Option<Spanned<f64>>,
    max_negotiation_rounds: Option<Spanned<u32>>,
    escalation_threshold: Option<Spanned<u32>>,
    global_budget: Option<BudgetFields>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArbiterFields {
    model: Option<String>,
    max_tokens: Option<Spanned<u32>>,
    temperature: Option<Spanned<f64>>,
}

impl TriadsConfig {
    /// Parses and checks a configuration.
    ///
    /// # Errors
    /// Returns all mistakes with their lines. A syntax error is reported alone.
    pub fn from_yaml(text: &str) -> Result<Self, TriadsConfigError> {
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let fields: TriadsFields = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
            let place = error.location();
            let message = error.to_string();
            TriadsConfigError {
                problems: vec![ConfigProblem {
                    line: place.map(|place| place.line()),
                    column: place.map(|place| place.column()),
                    path: String::new(),
                    message: message.lines().next().unwrap_or("not YAML").to_owned(),
                }],
            }
        })?;
        let mut checker = ConfigChecker::default();
        let config = checker.triads_config(fields);
        if checker.problems.is_empty() {
            return Ok(config);
        }
        checker.problems.sort_by_key(|problem| (problem.line, problem.column));
        Err(TriadsConfigError { problems: checker.problems })
    }
}

/// Converts the fields of the file to the configuration's types and collects all mistakes on the way. After a
/// mistake it continues with a placeholder; the result is used only if there are no mistakes.
#[derive(Default)]
struct ConfigChecker {
    problems: Vec<ConfigProblem>,
}

impl ConfigChecker {
    fn report<T>(&mut self, at: &Spanned<T>, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(ConfigProblem {
            line: Some(at.referenced.line()),
            column: Some(at.referenced.column()),
            path: path.into(),
            message: message.into(),
        });
    }

    fn triads_config(&mut self, fields: TriadsFields) -> TriadsConfig {
        let sections = self.sections(&fields.sections);
        let names: BTreeSet<&str> = sections.iter().map(|section| section.name.as_str()).collect();
        if fields.triads.value.is_empty() || fields.triads.value.len() > MAX_TRIADS_OR_SECTIONS {
            self.report(&fields.triads, "triads", format!("expected 1 to {MAX_TRIADS_OR_SECTIONS} triads"));
        }
        let mut ids = BTreeSet::new();
        let mut triads = Vec::new();
        for (index, triad) in fields.triads.value.into_iter().enumerate() {
            if !ids.insert(triad.id.value.clone()) {
                let message = format!("another triad already has the id {:?}", triad.id.value);
                self.report(&triad.id, format!("triads[{index}].id"), message);
            }
            triads.push(self.triad(index, triad, &names));
        }
        TriadsConfig {
            triads,
            sections,
            pressure: fields.pressure.map_or_else(Pressure::default, |pressure| self.pressure(&pressure)),
            arbiter: fields.arbiter.map_or_else(ArbiterConfig::default, |arbiter| self.arbiter(arbiter)),
            model: fields.model,
            models: self.models(fields.models),
        }
    }

    fn check_name(&mut self, name: &Spanned<String>, path: String) {
        let text = name.value.trim();
        if text.is_empty() || text != name.value || text.contains(['/', '\n']) || text.len() > 80 {
            self.report(
                name,
                path,
                "expected a name of 1 to 80 characters without `/` and without leading or trailing spaces",
            );
        }
    }

    fn sections(&mut self, listed: &Spanned<Vec<SectionFields>>) -> Vec<SectionConfig> {
        if listed.value.is_empty() || listed.value.len() > MAX_TRIADS_OR_SECTIONS {
            self.report(listed, "sections", format!("expected 1 to {MAX_TRIADS_OR_SECTIONS} sections"));
        }
        let mut sections: Vec<SectionConfig> = Vec::new();
        for (index, section) in listed.value.iter().enumerate() {
            let path = format!("sections[{index}].name");
            self.check_name(&section.name, path.clone());
            let name = &section.name.value;
            if sections.iter().any(|known| known.name == *name) {
                self.report(&section.name, path, format!("another section already has the name {name:?}"));
            }
            sections.push(SectionConfig { name: name.clone(), about: section.about.clone() });
        }
        sections
    }

    fn triad(&mut self, index: usize, triad: TriadFields, sections: &BTreeSet<&str>) -> TriadConfig {
        let path = format!("triads[{index}]");
        self.check_name(&triad.id, format!("{path}.id"));
        let preset = Preset::ALL.into_iter().find(|preset| preset.as_str() == triad.preset.value);
        if preset.is_none() {
            let message = format!(
                "{:?} is not a preset: expected hierarchical, dialectic or consensus",
                triad.preset.value
            );
            self.report(&triad.preset, format!("{path}.preset"), message);
        }
        if triad.scope.primary.value.is_empty() {
            self.report(
                &triad.scope.primary,
                format!("{path}.scope.primary"),
                "expected at least one section",
            );
        }
        for (kind, names) in [("primary", &triad.scope.primary.value), ("reach", &triad.scope.reach)] {
            for (at, name) in
                names.iter().enumerate().filter(|(_, name)| !sections.contains(name.value.as_str()))
            {
                let known = sections.iter().copied().collect::<Vec<_>>().join(", ");
                let message = format!("{:?} is not a section: expected one of {known}", name.value);
                self.report(name, format!("{path}.scope.{kind}[{at}]"), message);
            }
        }
        let default = Budget { tokens: 60_000, time: Duration::from_secs(240) };
        let names = |spanned: Vec<Spanned<String>>| spanned.into_iter().map(|name| name.value).collect();
        TriadConfig {
            preset: preset.unwrap_or(Preset::Consensus),
            primary: names(triad.scope.primary.value),
            reach: names(triad.scope.reach),
            budget: self.budget(triad.budget.as_ref(), default, &format!("{path}.budget")),
            objectives: triad.objectives,
            system_context: triad.system_context,
            id: triad.id.value,
        }
    }

    fn budget(&mut self, fields: Option<&BudgetFields>, default: Budget, path: &str) -> Budget {
        let Some(fields) = fields else { return default };
        for (name, value) in [("tokens", &fields.tokens), ("time_ms", &fields.time_ms)] {
            if let Some(value) = value.as_ref().filter(|value| value.value == 0) {
                self.report(value, format!("{path}.{name}"), "expected a number greater than 0");
            }
        }
        Budget {
            tokens: fields.tokens.as_ref().map_or(default.tokens, |tokens| tokens.value),
            time: fields.time_ms.as_ref().map_or(default.time, |time| Duration::from_millis(time.value)),
        }
    }

    fn number(&mut self, value: Option<&Spanned<f64>>, default: f64, path: &str, min: f64, max: f64) -> f64 {
        let Some(value) = value else { return default };
        if !(min..=max).contains(&value.value) {
            self.report(value, path, format!("{} is out of range: expected {min} to {max}", value.value));
        }
        value.value
    }

    fn count(&mut self, value: Option<&Spanned<u32>>, default: u32, path: &str, max: u32) -> u32 {
        let Some(value) = value else { return default };
        if value.value == 0 || value.value > max {
            self.report(value, path, format!("{} is out of range: expected 1 to {max}", value.value));
        }
        value.value
    }

    fn pressure(&mut self, fields: &PressureFields) -> Pressure {
        let default = Pressure::default();
        let decay = fields.temperature_decay.as_ref();
        Pressure {
            initial_temperature: self.number(
                fields.initial_temperature.as_ref(),
                default.initial_temperature,
                "pressure.initial_temperature",
                0.0,
                2.0,
            ),
            temperature_decay: self.number(
                decay,
                default.temperature_decay,
                "pressure.temperature_decay",
                0.0,
                2.0,
            ),
            freeze_threshold: self.number(
                fields.freeze_threshold.as_ref(),
                default.freeze_threshold,
                "pressure.freeze_threshold",
                0.0,
                2.0,
            ),
            max_negotiation_rounds: self.count(
                fields.max_negotiation_rounds.as_ref(),
                default.max_negotiation_rounds,
                "pressure.max_negotiation_rounds",
                100,
            ),
            escalation_threshold: self.count(
                fields.escalation_threshold.as_ref(),
                default.escalation_threshold,
                "pressure.escalation_threshold",
                100,
            ),
            budget: self.budget(fields.global_budget.as_ref(), default.budget, "pressure.global_budget"),
        }
    }

    fn arbiter(&mut self, fields: ArbiterFields) -> ArbiterConfig {
        let default = ArbiterConfig::default();
        ArbiterConfig {
            max_tokens: self.count(
                fields.max_tokens.as_ref(),
                default.max_tokens,
                "arbiter.max_tokens",
                1_000_000,
            ),
            temperature: self.number(
                fields.temperature.as_ref(),
                default.temperature,
                "arbiter.temperature",
                0.0,
                2.0,
            ),
            model: fields.model,
        }
    }

    fn models(&mut self, listed: BTreeMap<String, Spanned<String>>) -> BTreeMap<Role, String> {
        let mut models = BTreeMap::new();
        for (name, model) in listed {
            match Role::ALL.into_iter().find(|role| role.as_str() == name) {
                Some(role) => {
                    models.insert(role, model.value);
                }
                None => {
                    let roles = Role::ALL.map(Role::as_str).join(", ");
                    self.report(
                        &model,
                        format!("models.{name}"),
                        format!("{name:?} is not a role: expected one of {roles}"),
                    );
                }
            }
        }
        models
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_configurations_are_valid_and_every_section_is_primary_for_a_triad() {
        let small = TriadsConfig::from_yaml(TriadsConfig::SMALL).unwrap();
        assert_eq!(small.triads.len(), 2);
        let standard = TriadsConfig::from_yaml(TriadsConfig::STANDARD).unwrap();
        assert_eq!(standard.triads.len(), 6);
        assert_eq!(TriadsConfig::BUILT_IN.map(|(name, _)| name), ["small", "standard"]);
        let mixed = TriadsConfig::from_yaml(TriadsConfig::MIXED).unwrap();
        assert_eq!(mixed.triads.len(), 1);
        for config in [small, standard, mixed] {
            assert_eq!(config.pressure.temperature_decay, Pressure::default().temperature_decay);
            for section in &config.sections {
                let owned = config.triads.iter().any(|triad| triad.primary.contains(&section.name));
                assert!(owned, "no triad is responsible for {}", section.name);
            }
        }
    }

    #[test]
    fn the_commented_out_settings_are_valid() {
        let uncommented = TriadsConfig::SMALL.replace("# model", "model").replace("#   critic", "  critic");
        let config = TriadsConfig::from_yaml(&uncommented).unwrap();
        assert_eq!(config.model_names().len(), 2);
        assert_ne!(config.model_of(Role::Critic), config.model_of(Role::Worker));
    }

    fn problems(yaml: &str) -> Vec<(Option<u64>, String)> {
        let error = TriadsConfig::from_yaml(yaml).unwrap_err();
        error.problems.into_iter().map(|p| (p.line, format!("{}: {}", p.path, p.message))).collect()
    }

    const GOOD: &str = "\
sections:
  - name: answer
triads:
  - id: a
    preset: consensus
    scope: { primary: [answer] }
    budget: { tokens: 10, time_ms: 20 }
";

    #[test]
    fn omitted_settings_have_defaults() {
        let config = TriadsConfig::from_yaml(GOOD).unwrap();
        assert_eq!(config.pressure, Pressure::default());
        assert_eq!(config.arbiter, ArbiterConfig::default());
        let budget = Budget { tokens: 10, time: Duration::from_millis(20) };
        assert_eq!(config.triads[0].budget, budget);
    }

    #[test]
    fn every_mistake_is_reported_with_its_line_and_what_was_expected() {
        for (from, to, line, expected) in [
            (
                "consensus",
                "anarchy",
                5,
                "triads[0].preset: \"anarchy\" is not a preset: expected hierarchical",
            ),
            (
                "[answer]",
                "[reply]",
                6,
                "triads[0].scope.primary[0]: \"reply\" is not a section: expected one of answer",
            ),
            ("tokens: 10", "tokens: 0", 7, "triads[0].budget.tokens: expected a number greater than 0"),
            ("id: a", "id: a/b", 4, "triads[0].id: expected a name"),
        ] {
            let found = problems(&GOOD.replace(from, to));
            assert_eq!(found[0].0, Some(line), "{found:?}");
            assert!(found[0].1.starts_with(expected), "{found:?}");
        }
        let found =
            problems(&format!("{GOOD}pressure:\n  initial_temperature: 7\n  max_negotiation_rounds: 0\n"));
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [Some(9), Some(10)]);
        let found = problems(&format!("{GOOD}models:\n  boss: some-model\n"));
        assert!(found[0].1.contains("\"boss\" is not a role"), "{found:?}");
    }

    #[test]
    fn unknown_fields_and_syntax_errors_are_reported_with_their_line() {
        let found = problems(&GOOD.replace("preset:", "presett:"));
        assert_eq!(found[0].0, Some(5), "{found:?}");
        assert!(found[0].1.contains("presett"), "{found:?}");
        assert!(problems("triads: [").first().is_some_and(|(line, _)| line.is_some()));
        assert_eq!(problems(&GOOD.replace("tokens: 10", "tokens: many"))[0].0, Some(7));
        assert!(TriadsConfig::from_yaml("").is_err());
    }

    #[test]
    fn the_temperature_falls_by_the_decay_and_reaches_the_threshold_exactly() {
        let pressure = Pressure::default();
        assert_eq!(pressure.temperature(1), 1.0);
        assert_eq!(pressure.temperature(2), 0.85);
        assert_eq!(pressure.temperature(7), pressure.freeze_threshold);
        assert_eq!(pressure.temperature(100), 0.0);
    }
}
