//! Triads: groups of three agents that answer a question together and negotiate which triad writes which section.
//!
//! A run has six phases: deliberation (each triad arrives at a position), claims, negotiation, freeze, execution
//! (sections are written) and integration (the sections are combined into one reply).
//!
//! All agents of a run are futures of one task, joined within it rather than spawned. A cancelled run drops its
//! future and with it every agent and connection at once; spawned tasks would have to be aborted one by one.

mod budget;
mod config;
mod deliberation;
mod emitter;
mod negotiation;
mod offline;
mod prompts;
mod runtime;
mod writing;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use hfs_core::{
    Agent, AgentDescription, AgentError, AgentMemory, AgentStatus, CompletedMessage, ContextLimit,
    PassthroughFields, RequestEvent, Role as MessageRole, RunOutcome, RunRequest, RunSink, Store,
};
use serde_json::{Map, Value, json};

use crate::ModelConfig;
use crate::agent_model::AgentModel;
use crate::model::Model;
use crate::provider::ProviderModel;
use crate::summary::summarize;
use budget::Meter;
use emitter::{AgentIdentity, Phase, RunEmitter};
use negotiation::NegotiationState;
use offline::OfflineModel;
use prompts::{Position, Question};
use runtime::{AgentHandle, RunContext, TriadRuntime};

pub use config::{
    ArbiterConfig, Budget, ConfigProblem, Preset, Pressure, Role, SectionConfig, TriadConfig, TriadsConfig,
    TriadsConfigError,
};
pub use runtime::MemoryEntry;

/// Agent id in messages.
const ID: &str = hfs_retrieval::TRIADS_AGENT;

/// What answers for a role.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "there are a few values, and they are moved once")]
pub enum TriadModel {
    /// A model of a provider.
    Provider(ModelConfig),
    /// An agent, such as a program of its own.
    Agent(Arc<dyn Agent>),
}

impl From<ModelConfig> for TriadModel {
    fn from(config: ModelConfig) -> Self {
        Self::Provider(config)
    }
}

/// The models of the agents.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "there is one value, and it is moved once")]
pub enum TriadModels {
    /// Models of providers.
    Online {
        /// Model of every role for which the configuration names none.
        default: TriadModel,
        /// The models that the configuration names; see [`TriadsConfig::model_names`].
        named: BTreeMap<String, TriadModel>,
    },
    /// No models: agents quote the sessions saved in this store.
    Offline(Arc<dyn Store>),
}

/// An agent that answers with triads.
pub struct Triads {
    config: TriadsConfig,
    models: ConfiguredModels,
    /// Appended to the system prompt of every agent.
    instructions: Option<String>,
    selection_reason: Option<String>,
    /// The agents among the models.
    agents: Vec<Arc<dyn Agent>>,
}

enum ConfiguredModels {
    Online { default: Arc<dyn Model>, named: BTreeMap<String, Arc<dyn Model>> },
    Offline(Arc<dyn Store>),
}

/// The models of one run.
enum RunModels<'a> {
    Online { default: &'a Arc<dyn Model>, named: &'a BTreeMap<String, Arc<dyn Model>> },
    Offline(Arc<OfflineModel>),
}

impl RunModels<'_> {
    fn for_role(&self, config: &TriadsConfig, role: Role) -> Arc<dyn Model> {
        match self {
            Self::Online { default, named } => {
                let named = config.model_of(role).and_then(|name| named.get(name));
                Arc::clone(named.unwrap_or(default))
            }
            Self::Offline(model) => Arc::clone(model) as Arc<dyn Model>,
        }
    }
}

/// A triad that arrived at a position, and so takes part in negotiation and writing.
struct Participant<'a, 'b> {
    triad: &'b TriadRuntime<'a>,
    position: &'b Position,
}

impl Triads {
    /// Creates an agent. It connects to providers at its first request. All agents get the system prompt of the
    /// default model.
    ///
    /// # Errors
    /// `Rejected` if the configuration names a model that is not in `models`.
    pub fn new(config: TriadsConfig, models: TriadModels) -> Result<Self, AgentError> {
        let mut instructions = None;
        let mut agents = Vec::new();
        let models = match models {
            TriadModels::Offline(store) => ConfiguredModels::Offline(store),
            TriadModels::Online { default, named } => {
                if let Some(missing) =
                    config.model_names().into_iter().find(|name| !named.contains_key(*name))
                {
                    return Err(AgentError::Rejected {
                        provider: ID.to_owned(),
                        message: format!("the model {missing:?} of its configuration is not set up"),
                        suggestion: None,
                    });
                }
                if let TriadModel::Provider(config) = &default {
                    instructions.clone_from(&config.system_prompt);
                }
                let mut model = |model| match model {
                    TriadModel::Provider(config) => Arc::new(ProviderModel::new(config)) as Arc<dyn Model>,
                    TriadModel::Agent(agent) => {
                        agents.push(Arc::clone(&agent));
                        Arc::new(AgentModel::new(agent)) as Arc<dyn Model>
                    }
                };
                ConfiguredModels::Online {
                    default: model(default),
                    named: named.into_iter().map(|(name, config)| (name, model(config))).collect(),
                }
            }
        };
        Ok(Self { config, models, instructions, selection_reason: None, agents })
    }

    /// Sets why these models (or none) were chosen, for [`AgentDescription::summary`].
    #[must_use]
    pub fn with_selection_reason(mut self, reason: impl Into<String>) -> Self {
        self.selection_reason = Some(reason.into());
        self
    }

    fn with_instructions(&self, system_prompt: String) -> String {
        match &self.instructions {
            Some(instructions) => format!("{system_prompt}\n\n{}", instructions.trim()),
            None => system_prompt,
        }
    }

    async fn run_models(&self, request: &RunRequest, question: &str) -> Result<RunModels<'_>, AgentError> {
        let store = match &self.models {
            ConfiguredModels::Online { default, named } => return Ok(RunModels::Online { default, named }),
            ConfiguredModels::Offline(store) => Arc::clone(store),
        };
        let question = question.to_owned();
        let newest_question =
            request.history.iter().rev().find(|message| message.content.role == MessageRole::User);
        let except = newest_question.map(|message| message.content.id);
        let search = move || OfflineModel::search(&*store, &question, except);
        match tokio::task::spawn_blocking(search).await {
            Ok(Ok(model)) => Ok(RunModels::Offline(model)),
            Ok(Err(error)) => Err(AgentError::Internal { message: format!("cannot search: {error}") }),
            Err(_) => Err(AgentError::Internal { message: "the search panicked".to_owned() }),
        }
    }

    fn triad_runtime<'a>(
        &'a self,
        triad: &'a TriadConfig,
        models: &RunModels<'_>,
        memories: &BTreeMap<String, AgentMemory>,
    ) -> TriadRuntime<'a> {
        let agents = triad.preset.agents().map(|(name, role)| {
            let model = models.for_role(&self.config, role);
            let identity = AgentIdentity {
                id: format!("{}/{name}", triad.id),
                role: role.as_str(),
                triad: Some(triad.id.clone()),
                preset: Some(triad.preset.as_str()),
                model: model.name().to_owned(),
            };
            let memory = memories.get(&identity.id);
            let system_prompt = self.with_instructions(prompts::system_prompt(triad, name, role));
            AgentHandle::new(identity, model, system_prompt, memory)
        });
        TriadRuntime::new(triad, agents)
    }

    /// Creates the arbiter or the integrator, which belong to no triad.
    fn single_agent(
        &self,
        role: Role,
        system_prompt: &str,
        models: &RunModels<'_>,
        memories: &BTreeMap<String, AgentMemory>,
    ) -> AgentHandle {
        let model = models.for_role(&self.config, role);
        let id = role.as_str();
        let identity = AgentIdentity {
            id: id.to_owned(),
            role: id,
            triad: None,
            preset: None,
            model: model.name().to_owned(),
        };
        let system_prompt = self.with_instructions(system_prompt.to_owned());
        AgentHandle::new(identity, model, system_prompt, memories.get(id))
    }

    async fn run_phases(
        &self,
        request: &RunRequest,
        emitter: &RunEmitter<'_>,
    ) -> Result<RunOutcome, AgentError> {
        emitter.start_phase(Phase::Deliberation);
        let config = &self.config;
        let memories = &request.memories;
        let question = Question::from_history(&request.history);
        let models = self.run_models(request, &question.text).await?;
        if question.cut > 0 {
            let messages = if question.cut == 1 { "message is" } else { "messages are" };
            let message = format!(
                "triads are given excerpts of a conversation: {} earlier {messages} left out or shortened",
                question.cut
            );
            let event = RequestEvent::LeftOut { agent: ID.to_owned(), message };
            emitter.events(event.payload());
        }
        let meter = Meter::new(config.pressure.budget);
        let context = RunContext::new(emitter, question, &config.sections, meter, request.cancel.clone());
        let triads: Vec<TriadRuntime<'_>> =
            config.triads.iter().map(|triad| self.triad_runtime(triad, &models, memories)).collect();
        let positions = join_all(triads.iter().map(|triad| deliberation::deliberate(triad, &context))).await;
        let participants: Vec<Participant<'_, '_>> = triads
            .iter()
            .zip(&positions)
            .filter_map(|(triad, position)| Some(Participant { triad, position: position.as_ref()? }))
            .collect();
        if participants.is_empty() {
            return Err(no_result_error(&context));
        }

        emitter.start_phase(Phase::Claims);
        let sections = config.sections.iter().map(|section| section.name.clone());
        let mut state = NegotiationState::new(config.pressure, sections);
        negotiation::register_claims(&mut state, &context, &participants);

        emitter.start_phase(Phase::Negotiation);
        let arbiter = self.single_agent(Role::Arbiter, prompts::ARBITER, &models, memories);
        negotiation::negotiate(&mut state, &context, &participants, &arbiter, &config.arbiter).await;

        emitter.start_phase(Phase::Freeze);
        let owners_by_section: Map<String, Value> = state
            .ownerships()
            .map(|(name, ownership)| (name.to_owned(), json!(ownership.owners())))
            .collect();

        emitter.start_phase(Phase::Execution);
        let texts = writing::write_sections(&state, &context, &participants).await;
        if texts.is_empty() {
            return Err(no_result_error(&context));
        }

        emitter.start_phase(Phase::Integration);
        let integrator = self.single_agent(Role::Integrator, prompts::INTEGRATOR, &models, memories);
        let reply = writing::integrate(&context, &integrator, &texts).await?;
        let mut extra = match &models {
            RunModels::Offline(model) => model.references(),
            RunModels::Online { .. } => PassthroughFields::new(),
        };
        extra.insert("sections".to_owned(), Value::Object(owners_by_section));
        if let Some(reason) = reply.stop_reason {
            extra.insert("stop_reason".to_owned(), reason.into());
        }
        let message = CompletedMessage::new(reply.parts)
            .with_model(Some(integrator.identity.model))
            .with_usage(emitter.total_usage())
            .with_extra(extra);
        Ok(RunOutcome::new(message).with_incomplete(reply.incomplete))
    }
}

/// The error of a run without any result: the first error of a model, or that the budgets were used up.
fn no_result_error(context: &RunContext<'_>) -> AgentError {
    context.take_first_error().unwrap_or_else(|| AgentError::Unavailable {
        provider: ID.to_owned(),
        message: "no agent could finish its work within the budgets".to_owned(),
        retry_after: None,
        suggestion: None,
    })
}

#[async_trait]
impl Agent for Triads {
    fn describe(&self) -> AgentDescription {
        let model = match &self.models {
            ConfiguredModels::Online { default, .. } => default.name(),
            ConfiguredModels::Offline(_) => crate::recall::ID,
        };
        let count = self.config.triads.len();
        let triads = if count == 1 { "triad" } else { "triads" };
        let mut summary = match &self.models {
            ConfiguredModels::Online { .. } => format!("{count} {triads} ({} agents) on {model}", 3 * count),
            ConfiguredModels::Offline(_) => {
                format!("{count} {triads} ({} agents) that search your saved sessions", 3 * count)
            }
        };
        if let Some(reason) = &self.selection_reason {
            summary.push_str(", ");
            summary.push_str(reason);
        }
        AgentDescription::new(ID, summary).with_model(Some(model.to_owned()))
    }

    /// That of the model that summarizes. The agents themselves are sent excerpts.
    async fn context_limit(&self) -> Option<ContextLimit> {
        match &self.models {
            ConfiguredModels::Online { default, .. } => default.context_limit().await,
            ConfiguredModels::Offline(_) => None,
        }
    }

    async fn summarize(&self, request: RunRequest) -> Result<RunOutcome, AgentError> {
        match &self.models {
            ConfiguredModels::Online { default, .. } => summarize(default.as_ref(), &request, ID).await,
            ConfiguredModels::Offline(_) => Err(AgentError::Rejected {
                provider: ID.to_owned(),
                message: "no model is configured that could summarize the conversation".to_owned(),
                suggestion: None,
            }),
        }
    }

    async fn close(&self) {
        join_all(self.agents.iter().map(|agent| agent.close())).await;
    }

    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        let emitter = RunEmitter::new(sink);
        let outcome = tokio::select! {
            biased;
            () = request.cancel.cancelled() => Err(AgentError::Cancelled),
            outcome = self.run_phases(&request, &emitter) => outcome,
        };
        match &outcome {
            Ok(_) => emitter.close(AgentStatus::Complete),
            // The engine records the error of the run.
            Err(_) => emitter.close(AgentStatus::Idle),
        }
        outcome
    }
}
