//! Which agent answers: what the settings say, else what is there.

use std::sync::Arc;
use std::time::Duration;

use hfs_agents::{
    ApiKey, Assistant, AvailableProviders, ModelConfig, ModelName, Provider, Recall, TriadModels, Triads,
    TriadsConfig, detect_model, probe_ollama,
};
use hfs_core::{Agent, ErrorKind};

use crate::config::Settings;
use crate::context::Context;
use crate::environment::Environment;
use crate::failure::Failure;

use super::models::{self, Models};
use super::triads;

/// How long an Ollama on this machine may take to say that it is there.
const OLLAMA_BUDGET: Duration = Duration::from_millis(150);

/// Which model answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A model.
    Model {
        /// Its provider.
        provider: Provider,
        /// Its name there.
        model: String,
        /// What was chosen and why, on one line.
        why: String,
        /// What a person should know about the choice.
        warning: Option<String>,
    },
    /// None; saved sessions are searched instead. Says why, such as `as configured`.
    Offline(String),
}

/// Who answers and with what, before it is made.
pub struct Answering {
    /// Who.
    pub who: Who,
    /// What was chosen and why, on one line.
    pub why: String,
    /// What a person should know about the choice.
    pub warnings: Vec<String>,
}

/// Who answers.
#[allow(clippy::large_enum_variant, reason = "there is one of them, and it is moved once")]
pub enum Who {
    /// The offline agent.
    Recall,
    /// One model.
    Assistant(ModelConfig),
    /// Triads, on models or, without, on saved sessions.
    Triads(TriadsConfig, Option<Models>),
}

/// An agent, ready to answer.
pub struct Answerer {
    /// The agent.
    pub agent: Arc<dyn Agent>,
    /// Whether no model is behind it.
    pub offline: bool,
}

/// Makes the agent that answers.
///
/// # Errors
/// When the settings name something that cannot be had.
pub async fn choose(context: &Context) -> Result<Answerer, Failure> {
    let store = Arc::clone(context.store()?);
    let Answering { who, why, warnings } = decision(&context.settings, &context.environment).await?;
    for warning in &warnings {
        context.console.warn(warning);
    }
    let (agent, offline): (Arc<dyn Agent>, bool) = match who {
        Who::Recall => (Arc::new(Recall::new(store).with_selection_reason(why)), true),
        Who::Assistant(model) => {
            let bytes = Arc::new(move |hash| store.get_attachment(hash).ok());
            (Arc::new(Assistant::new(model).with_attachments(bytes).with_selection_reason(why)), false)
        }
        Who::Triads(config, models) => {
            let offline = models.is_none();
            let models = models.map_or(TriadModels::Offline(store), |Models { default, named }| {
                TriadModels::Online { default, named }
            });
            (Arc::new(Triads::new(config, models)?.with_selection_reason(why)), offline)
        }
    };
    Ok(Answerer { agent, offline })
}

/// Looks at the settings and around, and decides who answers.
///
/// # Errors
/// When the settings name something that cannot be had.
pub async fn decision(settings: &Settings, environment: &Environment) -> Result<Answering, Failure> {
    let mut seen = AvailableProviders { keys: keys_in(environment), ollama: None };
    if needs_ollama(settings, &seen) {
        let address = settings.base_url.as_deref().unwrap_or(Provider::Ollama.default_base_url());
        seen.ollama = probe_ollama(address, OLLAMA_BUDGET).await;
    }
    let decision = decide(settings, &seen)?;
    if settings.agent.as_deref() == Some("triads") {
        let chosen = triads::chosen(&settings.triads, environment)?;
        return models::for_triads(chosen, decision, settings, environment);
    }
    Ok(match decision {
        Decision::Offline(reason) => Answering {
            who: Who::Recall,
            why: format!("a search over your saved sessions, {reason}"),
            warnings: Vec::new(),
        },
        Decision::Model { provider, model, why, warning } => Answering {
            who: Who::Assistant(models::model(provider, model, settings, environment)),
            why,
            warnings: warning.into_iter().collect(),
        },
    })
}

/// The providers whose key is in the environment, each with its variable.
fn keys_in(environment: &Environment) -> Vec<(Provider, String)> {
    let found = |provider: Provider| Some((provider, key_of(provider, environment)?.0.to_owned()));
    Provider::ALL.into_iter().filter_map(found).collect()
}

pub fn key_of(provider: Provider, environment: &Environment) -> Option<(&'static str, ApiKey)> {
    provider
        .key_variables()
        .iter()
        .find_map(|variable| Some((*variable, ApiKey::new(environment.get(variable)?)?)))
}

/// The provider that the settings name, outright or by the model's name. A project's model names none.
pub fn named_provider(settings: &Settings) -> Option<Provider> {
    let outright = settings.provider.as_deref().and_then(|name| name.parse().ok());
    let by_model = || {
        let model = settings.model.as_deref().filter(|_| !settings.model_is_projects)?;
        ModelName::new(model).provider
    };
    outright.or_else(by_model).or_else(|| settings.base_url.as_ref().map(|_| Provider::OpenAi))
}

/// Whether the settings say that saved sessions are to answer: as the agent, or as the model of triads.
fn wants_recall(settings: &Settings) -> bool {
    settings.agent.as_deref() == Some("recall") || settings.model.as_deref() == Some("recall")
}

fn needs_ollama(settings: &Settings, seen: &AvailableProviders) -> bool {
    if wants_recall(settings) {
        return false;
    }
    match named_provider(settings) {
        Some(provider) => provider == Provider::Ollama && settings.model.is_none(),
        None => seen.keys.is_empty(),
    }
}

fn decide(settings: &Settings, seen: &AvailableProviders) -> Result<Decision, Failure> {
    if wants_recall(settings) {
        return Ok(Decision::Offline("as configured".into()));
    }
    if let Some(provider) = named_provider(settings) {
        return configured(provider, settings, seen);
    }
    if let Some(choice) = detect_model(seen) {
        let (model, warning) = model_for(choice.provider, settings, Some(choice.model.clone()));
        let model = model.unwrap_or_else(|| choice.model.clone());
        let why = if model == choice.model {
            choice.reason
        } else {
            format!("using {model} of {}, as configured", choice.provider.title())
        };
        return Ok(Decision::Model { provider: choice.provider, model, why, warning });
    }
    let reason = "no provider's key is in the environment and no Ollama answers on this machine";
    if settings.agent.as_deref() == Some("assistant") {
        return Err(Failure::Refused {
            kind: ErrorKind::Unavailable,
            message: format!("there is no model to answer: {reason}"),
            hint: Some("set ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY, or start Ollama".into()),
        });
    }
    Ok(Decision::Offline(format!("because {reason}")))
}

fn configured(
    provider: Provider,
    settings: &Settings,
    seen: &AvailableProviders,
) -> Result<Decision, Failure> {
    let title = provider.title();
    let has_key = seen.keys.iter().any(|(with_key, _)| *with_key == provider);
    if !has_key && settings.base_url.is_none() && !provider.key_variables().is_empty() {
        return Err(Failure::Refused {
            kind: ErrorKind::Denied,
            message: format!("{title} is configured, but its key is not in the environment"),
            hint: Some(format!("set {}", provider.key_variables().join(" or "))),
        });
    }
    let installed = seen
        .ollama
        .as_ref()
        .and_then(|_| detect_model(&AvailableProviders { keys: Vec::new(), ollama: seen.ollama.clone() }));
    let usual = provider.default_model().map(str::to_owned).or(installed.map(|choice| choice.model));
    let (model, warning) = model_for(provider, settings, usual);
    let model = model.ok_or_else(|| Failure::Refused {
        kind: ErrorKind::NotFound,
        message: format!("{title} is configured, but no model"),
        hint: Some("name one: hfs config set model NAME".into()),
    })?;
    let why = format!("using {model} of {title}, as configured");
    Ok(Decision::Model { provider, model, why, warning })
}

/// The model to ask for: the one in the settings, unless a project tries to choose another provider by it.
fn model_for(
    provider: Provider,
    settings: &Settings,
    usual: Option<String>,
) -> (Option<String>, Option<String>) {
    let Some(text) = settings.model.as_deref() else { return (usual, None) };
    let name = ModelName::new(text);
    match name.provider {
        Some(other) if settings.model_is_projects && other != provider => {
            let warning = format!(
                "the project's model {:?} is ignored: it belongs to {}, and a project may not choose the provider",
                crate::plain::line(text),
                other.title()
            );
            (usual, Some(warning))
        }
        Some(other) if other == provider => (Some(name.model), None),
        // A server at an address of the user's own may serve models of any name.
        _ => (Some(text.to_owned()), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings = Config::defaults().unwrap().settings();
        change(&mut settings);
        settings
    }

    fn keys(providers: &[Provider]) -> AvailableProviders {
        let keys = providers.iter().map(|provider| (*provider, provider.key_variables()[0].to_owned()));
        AvailableProviders { keys: keys.collect(), ollama: None }
    }

    fn decided(settings: &Settings, seen: &AvailableProviders) -> (Option<Provider>, String) {
        match decide(settings, seen).unwrap() {
            Decision::Model { provider, model, .. } => (Some(provider), model),
            Decision::Offline(why) => (None, why),
        }
    }

    #[test]
    fn the_settings_come_before_what_is_found() {
        let seen = keys(&[Provider::Anthropic, Provider::OpenAi]);
        let by_model = settings(|s| s.model = Some("gpt-9".into()));
        assert_eq!(decided(&by_model, &seen), (Some(Provider::OpenAi), "gpt-9".into()));
        let by_provider = settings(|s| s.provider = Some("openai".into()));
        assert_eq!(decided(&by_provider, &seen).0, Some(Provider::OpenAi));
        let by_address = settings(|s| {
            s.base_url = Some("http://127.0.0.1:1/v1".into());
            s.model = Some("qwen/qwen3".into());
        });
        assert_eq!(
            decided(&by_address, &AvailableProviders::default()),
            (Some(Provider::OpenAi), "qwen/qwen3".into())
        );
        let offline = settings(|s| s.agent = Some("recall".into()));
        assert_eq!(decided(&offline, &seen).0, None);
    }

    #[test]
    fn without_settings_a_key_is_used_and_without_a_key_the_offline_agent() {
        assert_eq!(decided(&settings(|_| {}), &keys(&[Provider::OpenAi])).0, Some(Provider::OpenAi));
        let (provider, why) = decided(&settings(|_| {}), &AvailableProviders::default());
        assert!(provider.is_none() && why.contains("no provider's key"), "{why}");
        let only_assistant = settings(|s| s.agent = Some("assistant".into()));
        assert!(decide(&only_assistant, &AvailableProviders::default()).is_err());
    }

    #[test]
    fn a_configured_provider_without_its_key_is_an_error_that_names_the_variable() {
        let error = decide(&settings(|s| s.provider = Some("gemini".into())), &AvailableProviders::default())
            .unwrap_err();
        assert!(error.document().hint.unwrap().contains("GEMINI_API_KEY"));
    }

    #[test]
    fn a_projects_model_does_not_choose_the_provider() {
        let seen = keys(&[Provider::Anthropic, Provider::OpenAi]);
        let other = settings(|s| {
            s.model = Some("gpt-9".into());
            s.model_is_projects = true;
        });
        let Decision::Model { provider, warning, .. } = decide(&other, &seen).unwrap() else { panic!() };
        assert_eq!(provider, Provider::Anthropic);
        assert!(warning.unwrap().contains("ignored"));
        let same = settings(|s| {
            s.model = Some("claude-x".into());
            s.model_is_projects = true;
        });
        assert_eq!(decided(&same, &seen), (Some(Provider::Anthropic), "claude-x".into()));
    }
}
