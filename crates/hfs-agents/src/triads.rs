//! Triads: groups of three agents that answer a question together and negotiate who writes what.
//!
//! A run goes through phases: deliberation (each triad comes to a position), claims, negotiation, freeze,
//! execution (sections are written) and integration (one reply). All agents of a run live in one task, so
//! that a cancel, which drops that task's future, stops every one of them at once.

mod budget;
mod config;
mod crew;
mod deliberation;
mod negotiation;
mod offline;
mod prompts;
mod settlement;
mod stage;
mod structured;
mod writing;
mod yaml;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use hfs_core::{
    Agent, AgentDescription, AgentError, AgentMemory, AgentStatus, PassthroughFields, Role as Speaks,
    RunOutcome, RunRequest, RunSink, Store,
};
use serde_json::{Map, Value, json};

use crate::ModelConfig;
use crate::model::Model;
use crate::provider::ProviderModel;
use budget::Meter;
use crew::{Crew, Member, Shared};
use negotiation::Negotiation;
use offline::OfflineModel;
use settlement::Standing;
use stage::{Identity, Stage};

pub use config::{ArbiterConfig, Budget, Preset, Pressure, Role, SectionConfig, TriadConfig, TriadsConfig};
pub use yaml::{ConfigProblem, TriadsConfigError};

/// The id under which this agent appears.
const ID: &str = "triads";

/// What is behind the agents of triads.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "there is one of them, and it is moved once")]
pub enum TriadModels {
    /// Models of providers.
    Online {
        /// For every role without a model of its own.
        default: ModelConfig,
        /// Those that the configuration names; see [`TriadsConfig::model_names`].
        named: BTreeMap<String, ModelConfig>,
    },
    /// The saved sessions in this store.
    Offline(Arc<dyn Store>),
}

/// Answers with triads.
pub struct Triads {
    config: TriadsConfig,
    source: Source,
    /// What every agent is told besides its own task.
    instructions: Option<String>,
    why: Option<String>,
}

enum Source {
    Online { default: Arc<dyn Model>, named: BTreeMap<String, Arc<dyn Model>> },
    Offline(Arc<dyn Store>),
}

/// The models of one run, by role.
enum Models<'a> {
    Online { default: &'a Arc<dyn Model>, named: &'a BTreeMap<String, Arc<dyn Model>> },
    Offline(Arc<OfflineModel>),
}

impl Models<'_> {
    fn of(&self, config: &TriadsConfig, role: Role) -> Arc<dyn Model> {
        match self {
            Self::Online { default, named } => {
                let named = config.model_of(role).and_then(|name| named.get(name));
                Arc::clone(named.unwrap_or(default))
            }
            Self::Offline(model) => Arc::clone(model) as Arc<dyn Model>,
        }
    }
}

impl Triads {
    /// Triads on these models. Nothing is connected before the first message. The system prompt of the default
    /// model is told to every agent.
    ///
    /// # Errors
    /// `Rejected` when the configuration names a model that is not among `models`.
    pub fn new(config: TriadsConfig, models: TriadModels) -> Result<Self, AgentError> {
        let mut instructions = None;
        let source = match models {
            TriadModels::Offline(store) => Source::Offline(store),
            TriadModels::Online { default, named } => {
                if let Some(missing) =
                    config.model_names().into_iter().find(|name| !named.contains_key(*name))
                {
                    return Err(AgentError::Rejected {
                        provider: ID.to_owned(),
                        message: format!("the model {missing:?} of its configuration is not set up"),
                    });
                }
                instructions.clone_from(&default.system_prompt);
                let model = |config| Arc::new(ProviderModel::new(config)) as Arc<dyn Model>;
                Source::Online {
                    default: model(default),
                    named: named.into_iter().map(|(name, config)| (name, model(config))).collect(),
                }
            }
        };
        Ok(Self { config, source, instructions, why: None })
    }

    /// Says why these models were chosen, or none, for [`AgentDescription::summary`].
    #[must_use]
    pub fn chosen_because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    fn told(&self, system: String) -> String {
        match &self.instructions {
            Some(instructions) => format!("{system}\n\n{}", instructions.trim()),
            None => system,
        }
    }

    async fn models(&self, request: &RunRequest, question: &str) -> Result<Models<'_>, AgentError> {
        let store = match &self.source {
            Source::Online { default, named } => return Ok(Models::Online { default, named }),
            Source::Offline(store) => Arc::clone(store),
        };
        let question = question.to_owned();
        let asking = request.history.iter().rev().find(|message| message.content.role == Speaks::User);
        let except = asking.map(|message| message.content.id);
        let search = move || OfflineModel::search(&*store, &question, except);
        match tokio::task::spawn_blocking(search).await {
            Ok(Ok(model)) => Ok(Models::Offline(model)),
            Ok(Err(error)) => Err(AgentError::Internal { message: format!("cannot search: {error}") }),
            Err(_) => Err(AgentError::Internal { message: "the search broke off".to_owned() }),
        }
    }

    fn crew<'a>(
        &'a self,
        triad: &'a TriadConfig,
        models: &Models<'_>,
        memories: &BTreeMap<String, AgentMemory>,
    ) -> Crew<'a> {
        let members = triad.preset.agents().map(|(name, role)| {
            let model = models.of(&self.config, role);
            let who = Identity {
                id: format!("{}/{name}", triad.id),
                role: role.as_str(),
                triad: Some(triad.id.clone()),
                preset: Some(triad.preset.as_str()),
                model: model.name().to_owned(),
            };
            let memory = memories.get(&who.id).cloned();
            Member::new(who, model, self.told(prompts::identity(triad, name, role)), memory)
        });
        Crew::new(triad, members)
    }

    /// An agent that belongs to no triad.
    fn single(
        &self,
        role: Role,
        system: &str,
        models: &Models<'_>,
        memories: &BTreeMap<String, AgentMemory>,
    ) -> Member {
        let model = models.of(&self.config, role);
        let id = role.as_str();
        let who = Identity {
            id: id.to_owned(),
            role: id,
            triad: None,
            preset: None,
            model: model.name().to_owned(),
        };
        Member::new(who, model, self.told(system.to_owned()), memories.get(id).cloned())
    }

    async fn answer(&self, request: &RunRequest, stage: &Stage<'_>) -> Result<RunOutcome, AgentError> {
        stage.phase("deliberation");
        let said = prompts::question_and_before(&request.history);
        let models = self.models(request, &said.0).await?;
        let config = &self.config;
        let meter = Meter::new(config.pressure.budget);
        let shared = Shared::new(stage, said, &config.sections, meter, request.cancel.clone());

        let crews: Vec<Crew<'_>> =
            config.triads.iter().map(|triad| self.crew(triad, &models, &request.memories)).collect();
        let positions = join_all(crews.iter().map(|crew| deliberation::deliberate(crew, &shared))).await;
        let standing: Vec<Standing<'_, '_>> = crews
            .iter()
            .zip(&positions)
            .filter_map(|(crew, position)| Some((crew, position.as_ref()?)))
            .collect();
        if standing.is_empty() {
            return Err(nobody_left(&shared));
        }

        stage.phase("claims");
        let sections = config.sections.iter().map(|section| section.name.clone());
        let mut state = Negotiation::new(config.pressure, sections);
        settlement::claim(&mut state, &shared, &standing);

        stage.phase("negotiation");
        let arbiter = self.single(Role::Arbiter, prompts::ARBITER, &models, &request.memories);
        settlement::negotiate(&mut state, &shared, &standing, (&arbiter, &config.arbiter)).await;

        stage.phase("freeze");
        let settled: Map<String, Value> =
            state.ownerships().map(|(name, owner)| (name.to_owned(), json!(owner.owners()))).collect();

        stage.phase("execution");
        let texts = writing::execute(&state, &shared, &standing).await;
        if texts.is_empty() {
            return Err(nobody_left(&shared));
        }

        stage.phase("integration");
        let integrator = self.single(Role::Integrator, prompts::INTEGRATOR, &models, &request.memories);
        let reply = writing::integrate(&shared, &integrator, &texts).await?;
        let mut extra = match &models {
            Models::Offline(model) => model.references(),
            Models::Online { .. } => PassthroughFields::new(),
        };
        extra.insert("sections".to_owned(), Value::Object(settled));
        if let Some(reason) = reply.stop_reason {
            extra.insert("stop_reason".to_owned(), reason.into());
        }
        let usage = stage.spent();
        Ok(RunOutcome::new(reply.parts)
            .with_model(Some(integrator.who.model))
            .with_usage(Some(usage))
            .with_extra(extra))
    }
}

/// Why a run could not go on: the first failure of a model, else that everything was spent.
fn nobody_left(shared: &Shared<'_>) -> AgentError {
    shared.take_failure().unwrap_or_else(|| AgentError::Unavailable {
        provider: ID.to_owned(),
        message: "no agent could finish its work within the budgets".to_owned(),
        retry_after: None,
    })
}

#[async_trait]
impl Agent for Triads {
    fn describe(&self) -> AgentDescription {
        let model = match &self.source {
            Source::Online { default, .. } => default.name(),
            Source::Offline(_) => crate::recall::ID,
        };
        let count = self.config.triads.len();
        let triads = if count == 1 { "triad" } else { "triads" };
        let mut summary = match &self.source {
            Source::Online { .. } => format!("{count} {triads} ({} agents) on {model}", 3 * count),
            Source::Offline(_) => {
                format!("{count} {triads} ({} agents) that search your saved sessions", 3 * count)
            }
        };
        if let Some(why) = &self.why {
            summary.push_str(", ");
            summary.push_str(why);
        }
        AgentDescription::new(ID, summary).with_model(Some(model.to_owned()))
    }

    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        let stage = Stage::new(sink);
        let outcome = tokio::select! {
            biased;
            () = request.cancel.cancelled() => Err(AgentError::Cancelled),
            outcome = self.answer(&request, &stage) => outcome,
        };
        match &outcome {
            Ok(_) => stage.close(AgentStatus::Complete),
            Err(error) => {
                if !matches!(error, AgentError::Cancelled) {
                    stage.error(None, error.to_string());
                }
                stage.close(AgentStatus::Idle);
            }
        }
        outcome
    }
}
