//! The configuration of triads as a person writes it, and what is wrong with it, line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hfs_core::{ErrorExt, ErrorKind};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::config::{
    ArbiterConfig, Budget, Preset, Pressure, Role, SectionConfig, TriadConfig, TriadsConfig,
};

/// The most triads, and the most sections, that make any sense in one run.
const MOST: usize = 32;

/// Something that is wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The line it is in, from 1, where that is known.
    pub line: Option<u64>,
    /// The column, from 1.
    pub column: Option<u64>,
    /// Which value: `triads[1].budget.tokens`.
    pub path: String,
    /// What is wrong and what was expected.
    pub message: String,
}

/// A configuration of triads that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", shown(problems))]
#[non_exhaustive]
pub struct TriadsConfigError {
    /// Everything that is wrong, from the top of the text to its end.
    pub problems: Vec<ConfigProblem>,
}

impl ErrorExt for TriadsConfigError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

fn shown(problems: &[ConfigProblem]) -> String {
    let shown: Vec<String> = problems
        .iter()
        .map(|problem| {
            let place = problem.line.map(|line| format!("line {line}: ")).unwrap_or_default();
            let path = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
            format!("{place}{path}{}", problem.message)
        })
        .collect();
    shown.join("; ")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    triads: Spanned<Vec<Triad>>,
    sections: Spanned<Vec<Section>>,
    pressure: Option<PressureFields>,
    arbiter: Option<ArbiterFields>,
    model: Option<String>,
    #[serde(default)]
    models: BTreeMap<String, Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Triad {
    id: Spanned<String>,
    preset: Spanned<String>,
    scope: Scope,
    budget: Option<BudgetFields>,
    #[serde(default)]
    objectives: Vec<String>,
    #[serde(default)]
    system_context: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scope {
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
struct Section {
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
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line.
    pub fn from_yaml(text: &str) -> Result<Self, TriadsConfigError> {
        let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
        let file: File = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
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
        let mut check = Check::default();
        let config = check.file(file);
        if check.problems.is_empty() {
            return Ok(config);
        }
        check.problems.sort_by_key(|problem| (problem.line, problem.column));
        Err(TriadsConfigError { problems: check.problems })
    }
}

/// Collects what is wrong while the domain's types are made.
#[derive(Default)]
struct Check {
    problems: Vec<ConfigProblem>,
}

impl Check {
    fn wrong<T>(&mut self, at: &Spanned<T>, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(ConfigProblem {
            line: Some(at.referenced.line()),
            column: Some(at.referenced.column()),
            path: path.into(),
            message: message.into(),
        });
    }

    fn file(&mut self, file: File) -> TriadsConfig {
        let sections = self.sections(&file.sections);
        let names: BTreeSet<&str> = sections.iter().map(|section| section.name.as_str()).collect();
        if file.triads.value.is_empty() || file.triads.value.len() > MOST {
            self.wrong(&file.triads, "triads", format!("expected 1 to {MOST} triads"));
        }
        let mut ids = BTreeSet::new();
        let mut triads = Vec::new();
        for (index, triad) in file.triads.value.into_iter().enumerate() {
            if !ids.insert(triad.id.value.clone()) {
                let message = format!("{:?} is the id of another triad already", triad.id.value);
                self.wrong(&triad.id, format!("triads[{index}].id"), message);
            }
            triads.push(self.triad(index, triad, &names));
        }
        TriadsConfig {
            triads,
            sections,
            pressure: file.pressure.map_or_else(Pressure::default, |fields| self.pressure(&fields)),
            arbiter: file.arbiter.map_or_else(ArbiterConfig::default, |fields| self.arbiter(fields)),
            model: file.model,
            models: self.models(file.models),
        }
    }

    fn name(&mut self, name: &Spanned<String>, path: String) {
        let text = name.value.trim();
        if text.is_empty() || text != name.value || text.contains(['/', '\n']) || text.len() > 80 {
            self.wrong(name, path, "expected a name of 1 to 80 characters without `/` and outer spaces");
        }
    }

    fn sections(&mut self, listed: &Spanned<Vec<Section>>) -> Vec<SectionConfig> {
        if listed.value.is_empty() || listed.value.len() > MOST {
            self.wrong(listed, "sections", format!("expected 1 to {MOST} sections"));
        }
        let mut sections: Vec<SectionConfig> = Vec::new();
        for (index, section) in listed.value.iter().enumerate() {
            let path = format!("sections[{index}].name");
            self.name(&section.name, path.clone());
            let name = &section.name.value;
            if sections.iter().any(|known| known.name == *name) {
                self.wrong(&section.name, path, format!("{name:?} is the name of another section already"));
            }
            sections.push(SectionConfig { name: name.clone(), about: section.about.clone() });
        }
        sections
    }

    fn triad(&mut self, index: usize, triad: Triad, sections: &BTreeSet<&str>) -> TriadConfig {
        let path = format!("triads[{index}]");
        self.name(&triad.id, format!("{path}.id"));
        let preset = Preset::ALL.into_iter().find(|preset| preset.as_str() == triad.preset.value);
        if preset.is_none() {
            let message = format!(
                "{:?} is not a preset: expected hierarchical, dialectic or consensus",
                triad.preset.value
            );
            self.wrong(&triad.preset, format!("{path}.preset"), message);
        }
        if triad.scope.primary.value.is_empty() {
            self.wrong(
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
                self.wrong(name, format!("{path}.scope.{kind}[{at}]"), message);
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
                self.wrong(value, format!("{path}.{name}"), "expected a number greater than 0");
            }
        }
        Budget {
            tokens: fields.tokens.as_ref().map_or(default.tokens, |tokens| tokens.value),
            time: fields.time_ms.as_ref().map_or(default.time, |time| Duration::from_millis(time.value)),
        }
    }

    fn between(
        &mut self,
        value: Option<&Spanned<f64>>,
        default: f64,
        path: &str,
        least: f64,
        most: f64,
    ) -> f64 {
        let Some(value) = value else { return default };
        if !(least..=most).contains(&value.value) {
            self.wrong(value, path, format!("{} is out of range: expected {least} to {most}", value.value));
        }
        value.value
    }

    fn count(&mut self, value: Option<&Spanned<u32>>, default: u32, path: &str, most: u32) -> u32 {
        let Some(value) = value else { return default };
        if value.value == 0 || value.value > most {
            self.wrong(value, path, format!("{} is out of range: expected 1 to {most}", value.value));
        }
        value.value
    }

    fn pressure(&mut self, fields: &PressureFields) -> Pressure {
        let default = Pressure::default();
        let decay = fields.temperature_decay.as_ref();
        Pressure {
            initial_temperature: self.between(
                fields.initial_temperature.as_ref(),
                default.initial_temperature,
                "pressure.initial_temperature",
                0.0,
                2.0,
            ),
            temperature_decay: self.between(
                decay,
                default.temperature_decay,
                "pressure.temperature_decay",
                0.0,
                2.0,
            ),
            freeze_threshold: self.between(
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
            temperature: self.between(
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
                    self.wrong(
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
mod tests;
