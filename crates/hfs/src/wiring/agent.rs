//! Chooses the agent that replies, and its model.
//!
//! The settings take precedence. Without them, the first available choice is used: a provider whose API key is in the
//! environment, an Ollama server on this machine, or the offline agent, which searches saved sessions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hfs_acp::{AcpAgent, PermissionPolicy};
use hfs_agents::{
    ApiKey, Assistant, AvailableProviders, CertificatePaths, ModelConfig, ModelName, Provider, Recall,
    TriadModel, TriadModels, Triads, TriadsConfig, detect_model, first_listed_model, list_models,
    probe_ollama, server_label,
};
use hfs_core::{Agent, ErrorExt as _, ErrorKind, Suggestion};

use super::programs::{self, AgentProgram, SessionKeeping};
use super::triads::{self, ModelsByName, NamedModel};
use crate::config::{AgentName, Key, Settings};
use crate::context::Context;
use crate::environment::Environment;
use crate::output::error::CliError;
use crate::output::sanitize;
use crate::permissions::{AllowedKinds, Asker, NeverAsks, Permissions, UserPolicy};

/// A local server answers within a few milliseconds. If none answers, a start without an API key is delayed by at most
/// this time.
const OLLAMA_PROBE_TIMEOUT: Duration = Duration::from_millis(150);

/// A start without a configured model waits at most this time for the list of a server that is.
const LIST_TIMEOUT: Duration = Duration::from_secs(2);

/// The settings that select the agent and its model.
pub const SELECTING_KEYS: [Key; 6] =
    [Key::Agent, Key::Triads, Key::Provider, Key::Model, Key::BaseUrl, Key::Headers];

/// The model that the settings and the environment select.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelChoice {
    Model {
        provider: Provider,
        /// The model's name at its provider.
        model: String,
        /// Why, on one line.
        reason: String,
        warning: Option<String>,
    },
    /// No model: saved sessions are searched instead.
    Offline {
        /// A phrase that follows a comma, such as `as configured`.
        reason: String,
    },
}

/// The agent that the settings and the environment select.
pub struct AgentChoice {
    pub backend: AgentBackend,
    /// Why, on one line.
    pub reason: String,
    pub warnings: Vec<String>,
    /// Whether sessions are searched only because nothing is configured and no model was found.
    pub is_last_resort: bool,
}

/// An agent's implementation and configuration.
#[allow(clippy::large_enum_variant, reason = "there is one value per process, and it is moved once")]
pub enum AgentBackend {
    /// The offline agent.
    Recall,
    Assistant(ModelConfig),
    /// Triads without models reply from saved sessions.
    Triads(TriadsConfig, Option<ModelsByName>),
    /// A program of its own.
    Program(AgentProgram),
}

/// A constructed agent.
pub struct SelectedAgent {
    pub agent: Arc<dyn Agent>,
    /// Whether it uses no model.
    pub offline: bool,
    /// Warnings about the choice.
    pub warnings: Vec<String>,
    /// The agent, if it is a program of its own.
    pub program: Option<Arc<AcpAgent>>,
    /// The model that it uses; of several, the one that the settings select.
    pub model: Option<ModelConfig>,
}

/// Chooses and constructs the agent, and prints the warnings of the choice. It does nothing that it would have to ask for.
///
/// # Errors
/// If the settings select something that is not available.
pub async fn build_agent(context: &Context) -> Result<SelectedAgent, CliError> {
    let selected = build_asking_agent(context, Arc::new(NeverAsks)).await?;
    selected.warnings.iter().for_each(|warning| context.console.warn(warning));
    Ok(selected)
}

/// Like [`build_agent`], with an agent that asks the user before it acts. Returns the warnings instead of printing them.
///
/// # Errors
/// If the settings select something that is not available.
pub async fn build_asking_agent(context: &Context, asker: Arc<dyn Asker>) -> Result<SelectedAgent, CliError> {
    let policy = Arc::new(user_policy(context, AllowedKinds::default(), asker));
    let connect = |program: &AgentProgram, reason| {
        programs::build(program, reason, policy, SessionKeeping::OfBranches, context)
    };
    build_agent_with(context, connect).await
}

/// Like [`build_agent`]. An agent that is a program is constructed by `connect`, with the reason why it was chosen.
///
/// # Errors
/// If the settings select something that is not available.
pub async fn build_agent_with(
    context: &Context,
    connect: impl FnOnce(&AgentProgram, String) -> Result<AcpAgent, CliError>,
) -> Result<SelectedAgent, CliError> {
    check_agent_option(context)?;
    let store = Arc::clone(context.store()?);
    let AgentChoice { backend, reason, warnings, is_last_resort: _ } =
        choose_agent(&context.settings, &context.environment)
            .await
            .map_err(|error| context.name_settings(error, &SELECTING_KEYS))?;
    let selected = |agent: Arc<dyn Agent>, offline, model| SelectedAgent {
        agent,
        offline,
        warnings: warnings.clone(),
        program: None,
        model,
    };
    Ok(match backend {
        AgentBackend::Recall => {
            selected(Arc::new(Recall::new(store).with_selection_reason(reason)), true, None)
        }
        AgentBackend::Assistant(model) => {
            let attachments = Arc::new(move |hash| store.get_attachment(hash).ok());
            let assistant = Assistant::new(model.clone());
            let assistant = assistant.with_attachments(attachments).with_selection_reason(reason);
            selected(Arc::new(assistant), false, Some(model))
        }
        AgentBackend::Triads(config, models) => {
            let model = models.as_ref().and_then(|models| match &models.default {
                NamedModel::Model(config) => Some(config.clone()),
                NamedModel::Program(_) => None,
            });
            let offline = models.is_none();
            let models = match models {
                Some(models) => triad_models(models, context)?,
                None => TriadModels::Offline(store),
            };
            let triads = Triads::new(config, models)?.with_selection_reason(reason);
            selected(Arc::new(triads), offline, model)
        }
        AgentBackend::Program(program) => {
            let agent = connect(&program, reason);
            let agent = Arc::new(agent.map_err(|error| context.name_settings(error, &[Key::Agent]))?);
            SelectedAgent { program: Some(Arc::clone(&agent)), ..selected(agent, false, None) }
        }
    })
}

/// What an agent may do: what the options of the run and `more` allow, what was always allowed, and what the user allows.
pub fn user_policy(context: &Context, more: AllowedKinds, asker: Arc<dyn Asker>) -> UserPolicy {
    let directory = &context.environment.working_directory;
    let allowed = context.global.agent_args.allow.clone().unwrap_or_default();
    UserPolicy {
        allowed: allowed.with(more),
        permissions: Permissions::new(&context.home),
        project: directory.canonicalize().unwrap_or_else(|_| directory.clone()),
        asker,
        queue: Arc::default(),
    }
}

/// The models of triads. Agents among them may read and search. Nothing else is asked for: several of them work at once, and the
/// user would have to answer for each.
fn triad_models(models: ModelsByName, context: &Context) -> Result<TriadModels, CliError> {
    let mut agents: BTreeMap<String, Arc<dyn Agent>> = BTreeMap::new();
    let mut build = |model| match model {
        NamedModel::Model(config) => Ok(TriadModel::Provider(config)),
        NamedModel::Program(program) => {
            if let Some(agent) = agents.get(&program.name) {
                return Ok(TriadModel::Agent(Arc::clone(agent)));
            }
            let policy: Arc<dyn PermissionPolicy> =
                Arc::new(user_policy(context, AllowedKinds::reading(), Arc::new(NeverAsks)));
            let reason = "named in the configuration of the triads".to_owned();
            let agent = programs::build(&program, reason, policy, SessionKeeping::OfTriads, context)
                .map_err(|error| context.name_settings(error, &[Key::Triads]))?;
            let agent: Arc<dyn Agent> = Arc::new(agent);
            agents.insert(program.name, Arc::clone(&agent));
            Ok::<_, CliError>(TriadModel::Agent(agent))
        }
    };
    let default = build(models.default)?;
    let named = models.named.into_iter().map(|(name, model)| Ok((name, build(model)?)));
    Ok(TriadModels::Online { default, named: named.collect::<Result<_, CliError>>()? })
}

/// The models of a server, as names that select them.
///
/// # Errors
/// If the server does not answer.
pub async fn selectable_models(config: ModelConfig) -> Result<Vec<String>, CliError> {
    let listed = list_models(config.clone()).await.map_err(|error| match error.suggestion() {
        // There is no message that could be sent again.
        Some(Suggestion::SendAgainLater) => CliError::new(error.kind(), error.to_string()),
        _ => error.into(),
    });
    let names = listed?.names;
    Ok(names.into_iter().map(|model| selectable_model(&ModelConfig { model, ..config.clone() })).collect())
}

/// The name that selects a model.
pub fn selectable_model(config: &ModelConfig) -> String {
    match config.base_url {
        // At an address of its own, a server's names are used as they are.
        Some(_) => config.model.clone(),
        None => format!("{}/{}", config.provider.as_str(), config.model),
    }
}

/// Checks that the agent that the command line names is known.
///
/// # Errors
/// A mistake in the command line, as with any other option.
pub fn check_agent_option(context: &Context) -> Result<(), CliError> {
    if let Some(name) = context.settings.agent.as_ref().and_then(AgentName::program)
        && context.config.get(Key::Agent).is_some_and(|setting| setting.origin.is_command_line())
    {
        programs::named(name, &context.settings.programs).map_err(|error| CliError::Usage {
            message: error.to_string(),
            hint: error.hint().unwrap_or_default(),
        })?;
    }
    Ok(())
}

/// Chooses the agent without constructing it. Probes for Ollama only if the result matters.
///
/// # Errors
/// If the settings select something that is not available.
pub async fn choose_agent(settings: &Settings, environment: &Environment) -> Result<AgentChoice, CliError> {
    if let Some(name) = settings.agent.as_ref().and_then(AgentName::program) {
        let program = programs::named(name, &settings.programs)?;
        let reason = format!("{}, run as {}", program.title, sanitize::line(&program.command_line()));
        let warnings =
            settings.model.as_ref().filter(|_| !settings.model_from_project).map(|_| {
                format!("the setting model has no effect: {} chooses its model itself", program.title)
            });
        let warnings = warnings.into_iter().collect();
        let backend = AgentBackend::Program(program);
        return Ok(AgentChoice { backend, reason, warnings, is_last_resort: false });
    }
    let mut detected = AvailableProviders { keys: keys_in(environment), ollama: None };
    if needs_ollama(settings, &detected) {
        let address = base_url_of(Provider::Ollama, settings, environment);
        let address = address.as_deref().unwrap_or(Provider::Ollama.default_base_url());
        detected.ollama = probe_ollama(address, OLLAMA_PROBE_TIMEOUT).await;
    }
    let address_of = |provider| base_url_of(provider, settings, environment);
    let mut model = choose_model(settings, &detected, address_of)?;
    choose_listed_model(&mut model, settings, environment).await?;
    if settings.agent == Some(AgentName::Triads) {
        let loaded = triads::load(&settings.triads, &settings.programs, environment)?;
        return triads::with_models(loaded, model, settings, environment);
    }
    Ok(match model {
        ModelChoice::Offline { reason } => AgentChoice {
            backend: AgentBackend::Recall,
            reason: format!("a search over your saved sessions, {reason}"),
            warnings: Vec::new(),
            is_last_resort: !wants_recall(settings),
        },
        ModelChoice::Model { provider, model, reason, warning } => AgentChoice {
            backend: AgentBackend::Assistant(model_config(provider, model, settings, environment)?),
            reason,
            warnings: warning.into_iter().collect(),
            is_last_resort: false,
        },
    })
}

/// Replaces the provider's default model by one that the server has, if a server is configured and no model is: servers
/// at other addresses than the provider's own rarely have its models.
async fn choose_listed_model(
    choice: &mut ModelChoice,
    settings: &Settings,
    environment: &Environment,
) -> Result<(), CliError> {
    let ModelChoice::Model { provider, model, reason, .. } = choice else { return Ok(()) };
    let Some(address) = base_url_of(*provider, settings, environment).filter(|_| settings.model.is_none())
    else {
        return Ok(());
    };
    let config = model_config(*provider, model.clone(), settings, environment)?;
    if let Some(listed) = first_listed_model(config, LIST_TIMEOUT).await {
        let label = server_label(*provider, Some(&address));
        *reason = format!("using {listed} of {label}, which lists it; `model` is not set");
        *model = listed;
    }
    Ok(())
}

/// The providers whose API key or address is in the environment, each with the variable. Ollama is detected by asking it.
fn keys_in(environment: &Environment) -> Vec<(Provider, String)> {
    let found = |provider: Provider| {
        let key = key_of(provider, environment).map(|(variable, _)| variable);
        let address = || {
            let variable = provider.base_url_variable()?;
            environment.get_non_empty(variable).map(|_| variable)
        };
        Some((provider, key.or_else(address)?.to_owned()))
    };
    Provider::ALL.into_iter().filter(|provider| provider.requires_key()).filter_map(found).collect()
}

/// The address of a provider's server: that of the settings, which belongs to the configured provider only, or that of
/// the provider's own environment variable. `None` for the provider's default.
fn base_url_of(provider: Provider, settings: &Settings, environment: &Environment) -> Option<String> {
    let configured = settings.base_url.clone().filter(|_| configured_provider(settings) == Some(provider));
    configured.or_else(|| {
        let text = environment.get_non_empty(provider.base_url_variable()?)?.trim();
        Some(if provider == Provider::Ollama { ollama_address(text) } else { text.to_owned() })
    })
}

/// The address in `OLLAMA_HOST`, which may lack the scheme, the host or the port. A server that listens on all
/// interfaces is reached on this machine.
fn ollama_address(text: &str) -> String {
    const PORT: &str = "11434";
    if text.contains("://") {
        return text.to_owned();
    }
    let (address, path) =
        text.split_once('/').map_or((text, String::new()), |(address, path)| (address, format!("/{path}")));
    let (host, port) = match address.rsplit_once(':') {
        // A colon within brackets is part of an IPv6 address.
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (address, PORT),
    };
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    format!("http://{host}:{}{path}", if port.is_empty() { PORT } else { port })
}

/// Replaces `$NAME` and `${NAME}` by environment variables.
///
/// # Errors
/// `Denied` if a variable is not set.
pub fn with_variables(
    what: &str,
    key: &str,
    text: &str,
    environment: &Environment,
) -> Result<String, CliError> {
    let mut value = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        value.push_str(before);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, after) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some(braced) => braced,
            None => after
                .split_at_checked(after.find(|c| !is_name(c)).unwrap_or(after.len()))
                .unwrap_or((after, "")),
        };
        let variable = environment.get_non_empty(name).ok_or_else(|| {
            CliError::with_hint(
                ErrorKind::Denied,
                format!("{what} needs the variable {}, which is not set", sanitize::line(name)),
                format!(
                    "set {} in the environment, or change `{key}`: hfs config path",
                    sanitize::line(name)
                ),
            )
        })?;
        value.push_str(variable);
        rest = after;
    }
    value.push_str(rest);
    Ok(value)
}

/// The API key of a provider and the variable that holds it.
fn key_of(provider: Provider, environment: &Environment) -> Option<(&'static str, ApiKey)> {
    provider
        .key_variables()
        .iter()
        .find_map(|variable| Some((*variable, ApiKey::new(environment.get(variable)?)?)))
}

/// A model with the settings that apply to it and the key of its provider.
///
/// # Errors
/// `Denied` if a header needs a variable that is not set.
pub fn model_config(
    provider: Provider,
    name: String,
    settings: &Settings,
    environment: &Environment,
) -> Result<ModelConfig, CliError> {
    // The configured address and headers belong to the configured provider. The key of another provider must not be sent
    // to that address.
    let headers = settings.headers.iter().filter(|_| configured_provider(settings) == Some(provider));
    let headers = headers
        .map(|(name, value)| {
            let what = format!("the header {}", sanitize::line(name));
            Ok((name.clone(), with_variables(&what, "headers", value, environment)?))
        })
        .collect::<Result<_, CliError>>()?;
    let (variable, key) = key_of(provider, environment).unzip();
    Ok(ModelConfig {
        base_url: base_url_of(provider, settings, environment),
        is_bearer_token: variable == Some(Provider::BEARER_VARIABLE),
        headers,
        max_tokens: settings.max_tokens,
        temperature: settings.temperature,
        num_ctx: settings.num_ctx,
        context_tokens: settings.context_tokens,
        system_prompt: settings.system_prompt.clone(),
        certificates: CertificatePaths {
            file: environment.get("SSL_CERT_FILE").map(PathBuf::from),
            directory: environment.get("SSL_CERT_DIR").map(PathBuf::from),
        },
        timeouts: settings.timeouts,
        ..ModelConfig::new(provider, name, key)
    })
}

/// The provider that the settings select: by `provider`, by an address, which stands for an OpenAI-compatible server
/// whatever its models are called, or by the model's name. A model that a project's configuration sets does not select a
/// provider.
fn configured_provider(settings: &Settings) -> Option<Provider> {
    let by_model = || {
        let model = settings.model.as_deref().filter(|_| !settings.model_from_project)?;
        ModelName::new(model).provider
    };
    let by_address = || settings.base_url.as_ref().map(|_| Provider::OpenAi);
    settings.provider.or_else(by_address).or_else(by_model)
}

/// Whether the settings select the search over saved sessions, by `agent: recall` or by `model: recall`.
fn wants_recall(settings: &Settings) -> bool {
    settings.agent == Some(AgentName::Recall) || settings.model.as_deref() == Some("recall")
}

fn needs_ollama(settings: &Settings, detected: &AvailableProviders) -> bool {
    if wants_recall(settings) {
        return false;
    }
    match configured_provider(settings) {
        Some(provider) => provider == Provider::Ollama && settings.model.is_none(),
        None => detected.keys.is_empty(),
    }
}

/// Chooses the model. `address_of` returns a provider's address if one is set, in the settings or in the environment.
fn choose_model(
    settings: &Settings,
    detected: &AvailableProviders,
    address_of: impl Fn(Provider) -> Option<String>,
) -> Result<ModelChoice, CliError> {
    if wants_recall(settings) {
        return Ok(ModelChoice::Offline { reason: "as configured".into() });
    }
    if let Some(provider) = configured_provider(settings) {
        return configured_model(provider, settings, detected, address_of(provider).as_deref());
    }
    if let Some(choice) = detect_model(detected) {
        let address = address_of(choice.provider);
        let (model, warning) =
            model_for(choice.provider, settings, Some(choice.model.clone()), address.is_some());
        let model = model.unwrap_or_else(|| choice.model.clone());
        let reason = if model == choice.model {
            choice.reason
        } else {
            format!("using {model} of {}, as configured", server_label(choice.provider, address.as_deref()))
        };
        return Ok(ModelChoice::Model { provider: choice.provider, model, reason, warning });
    }
    let reason = "no provider's key is in the environment and no Ollama server answers on this machine";
    // A search must not answer instead of the model that the user asked for. A project's model is only a wish.
    let asked_for = settings.model.as_deref().filter(|_| !settings.model_from_project);
    if settings.agent == Some(AgentName::Assistant) || asked_for.is_some() {
        let what = asked_for.map_or_else(
            || "no model is available".to_owned(),
            |model| format!("no server is known for the model {}", sanitize::line(model)),
        );
        return Err(CliError::with_hint(
            ErrorKind::Unavailable,
            format!("{what}: {reason}"),
            "set ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY, start Ollama, or name a server: \
             hfs config set base_url URL",
        ));
    }
    Ok(ModelChoice::Offline { reason: format!("because {reason}") })
}

fn configured_model(
    provider: Provider,
    settings: &Settings,
    detected: &AvailableProviders,
    address: Option<&str>,
) -> Result<ModelChoice, CliError> {
    let title = provider.title();
    let has_address = address.is_some();
    let has_key = detected.keys.iter().any(|(with_key, _)| *with_key == provider);
    if !has_key && !has_address && settings.headers.is_empty() && provider.requires_key() {
        return Err(CliError::with_hint(
            ErrorKind::Denied,
            format!("{title} is configured, but its key is not in the environment"),
            format!("set {}", provider.key_variables().join(" or ")),
        ));
    }
    let ollama_choice = detected.ollama.as_ref().and_then(|_| {
        detect_model(&AvailableProviders { keys: Vec::new(), ollama: detected.ollama.clone() })
    });
    let default = provider.default_model().map(str::to_owned).or(ollama_choice.map(|choice| choice.model));
    let (model, warning) = model_for(provider, settings, default, has_address);
    let model = model.ok_or_else(|| {
        CliError::with_hint(
            ErrorKind::NotFound,
            format!("{title} is configured, but its model is not"),
            "set one: hfs config set model NAME",
        )
    })?;
    let reason = format!("using {model} of {}, as configured", server_label(provider, address));
    Ok(ModelChoice::Model { provider, model, reason, warning })
}

/// The model in the settings, else the default, and a warning. A project's model is ignored if it belongs to another
/// provider. A server at an address of its own may serve models with any name, so names are used there as they are; on
/// Ollama, no name begins with that of the provider.
fn model_for(
    provider: Provider,
    settings: &Settings,
    default: Option<String>,
    has_address: bool,
) -> (Option<String>, Option<String>) {
    let Some(text) = settings.model.as_deref() else { return (default, None) };
    let name = ModelName::new(text);
    match name.provider {
        Some(other) if settings.model_from_project && other != provider => {
            let warning = format!(
                "the project's model {:?} is ignored: it belongs to {}, and a project may not choose the provider",
                sanitize::line(text),
                other.title()
            );
            (default, Some(warning))
        }
        Some(other) if other == provider && (!has_address || provider == Provider::Ollama) => {
            (Some(name.model), None)
        }
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

    /// The provider and the model, or no provider and the reason.
    fn chosen(settings: &Settings, detected: &AvailableProviders) -> (Option<Provider>, String) {
        match choose_model(settings, detected, |_| settings.base_url.clone()).unwrap() {
            ModelChoice::Model { provider, model, .. } => (Some(provider), model),
            ModelChoice::Offline { reason } => (None, reason),
        }
    }

    #[test]
    fn settings_take_precedence_over_detection() {
        let detected = keys(&[Provider::Anthropic, Provider::OpenAi]);
        let by_model = settings(|s| s.model = Some("gpt-9".into()));
        assert_eq!(chosen(&by_model, &detected), (Some(Provider::OpenAi), "gpt-9".into()));
        let by_provider = settings(|s| s.provider = Some(Provider::OpenAi));
        assert_eq!(chosen(&by_provider, &detected).0, Some(Provider::OpenAi));
        let by_address = settings(|s| {
            s.base_url = Some("http://127.0.0.1:1/v1".into());
            s.model = Some("qwen/qwen3".into());
        });
        assert_eq!(
            chosen(&by_address, &AvailableProviders::default()),
            (Some(Provider::OpenAi), "qwen/qwen3".into())
        );
        let offline = settings(|s| s.agent = Some(AgentName::Recall));
        assert_eq!(chosen(&offline, &detected).0, None);
    }

    #[test]
    fn without_settings_the_provider_with_a_key_is_selected_or_else_the_offline_agent() {
        assert_eq!(chosen(&settings(|_| {}), &keys(&[Provider::OpenAi])).0, Some(Provider::OpenAi));
        let (provider, reason) = chosen(&settings(|_| {}), &AvailableProviders::default());
        assert!(provider.is_none() && reason.contains("no provider's key"), "{reason}");
        let only_assistant = settings(|s| s.agent = Some(AgentName::Assistant));
        assert!(choose_model(&only_assistant, &AvailableProviders::default(), |_| None).is_err());
    }

    #[test]
    fn a_search_does_not_answer_instead_of_a_model_that_the_user_named() {
        let named = settings(|s| s.model = Some("llama3".into()));
        let error = choose_model(&named, &AvailableProviders::default(), |_| None).unwrap_err();
        assert!(error.to_string().contains("no server is known for the model llama3"), "{error}");
        let of_project = settings(|s| {
            s.model = Some("llama3".into());
            s.model_from_project = true;
        });
        assert_eq!(chosen(&of_project, &AvailableProviders::default()).0, None);
    }

    #[test]
    fn the_reason_names_the_server_that_is_asked() {
        let reason = |settings: &Settings| match choose_model(settings, &keys(&[Provider::OpenAi]), |_| {
            settings.base_url.clone()
        })
        .unwrap()
        {
            ModelChoice::Model { reason, .. } | ModelChoice::Offline { reason } => reason,
        };
        let own = settings(|s| s.model = Some("gpt-9".into()));
        assert_eq!(reason(&own), "using gpt-9 of OpenAI, as configured");
        let server = settings(|s| {
            s.model = Some("tiny".into());
            s.base_url = Some("http://user:secret@127.0.0.1:8080/v1".into());
        });
        assert_eq!(
            reason(&server),
            "using tiny of the OpenAI-compatible server at 127.0.0.1:8080, as configured"
        );
    }

    #[test]
    fn a_configured_provider_without_its_key_is_an_error_that_names_the_variable() {
        let gemini = settings(|s| s.provider = Some(Provider::Gemini));
        let error = choose_model(&gemini, &AvailableProviders::default(), |_| None).unwrap_err();
        assert!(error.hint().unwrap().contains("GEMINI_API_KEY"));
    }

    #[test]
    fn the_model_of_a_project_does_not_choose_the_provider() {
        let detected = keys(&[Provider::Anthropic, Provider::OpenAi]);
        let other = settings(|s| {
            s.model = Some("gpt-9".into());
            s.model_from_project = true;
        });
        let ModelChoice::Model { provider, warning, .. } = choose_model(&other, &detected, |_| None).unwrap()
        else {
            panic!()
        };
        assert_eq!(provider, Provider::Anthropic);
        assert!(warning.unwrap().contains("ignored"));
        let same = settings(|s| {
            s.model = Some("claude-x".into());
            s.model_from_project = true;
        });
        assert_eq!(chosen(&same, &detected), (Some(Provider::Anthropic), "claude-x".into()));
    }

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::with_variables(variables.iter().copied())
    }

    #[test]
    fn at_an_address_every_model_is_used_as_named_and_only_openais_key_goes_there() {
        let environment = environment(&[
            ("ANTHROPIC_API_KEY", "sk-ant-1"),
            ("OPENAI_API_KEY", "sk-1"),
            ("GEMINI_API_KEY", "g"),
        ]);
        for name in [
            "openai/gpt-oss-20b",
            "claude-x",
            "gemini-9",
            "anthropic/claude-x",
            "ollama/llama3",
            "qwen3-max",
            "a::b",
        ] {
            let settings = settings(|s| {
                s.base_url = Some("http://127.0.0.1:1".into());
                s.model = Some(name.into());
            });
            let (provider, model) = chosen(&settings, &keys(&[Provider::Anthropic]));
            assert_eq!((provider, model.as_str()), (Some(Provider::OpenAi), name));
            let config = model_config(Provider::OpenAi, model, &settings, &environment).unwrap();
            assert_eq!(config.key, ApiKey::new("sk-1"));
            let other = model_config(Provider::Anthropic, "m".into(), &settings, &environment).unwrap();
            assert_eq!((other.base_url, other.key), (None, ApiKey::new("sk-ant-1")));
        }
        let explicit = settings(|s| {
            s.base_url = Some("http://127.0.0.1:1".into());
            s.provider = Some(Provider::OpenAi);
            s.model = Some("openai/gpt-oss-20b".into());
        });
        assert_eq!(chosen(&explicit, &keys(&[])).1, "openai/gpt-oss-20b");
        let ollama = settings(|s| {
            s.base_url = Some("http://127.0.0.1:1".into());
            s.provider = Some(Provider::Ollama);
            s.model = Some("ollama/llama3".into());
        });
        assert_eq!(chosen(&ollama, &keys(&[])), (Some(Provider::Ollama), "llama3".into()));
    }

    #[test]
    fn addresses_and_tokens_are_read_from_the_variables_of_the_providers() {
        let environment = environment(&[
            ("OPENAI_BASE_URL", "http://localhost:1/v1"),
            ("ANTHROPIC_BASE_URL", "http://localhost:2"),
            ("ANTHROPIC_AUTH_TOKEN", "token-1"),
            ("OLLAMA_HOST", "somewhere"),
            ("OLLAMA_API_KEY", "key-1"),
        ]);
        let settings = settings(|_| {});
        let config = |provider| model_config(provider, "m".into(), &settings, &environment).unwrap();
        assert_eq!(config(Provider::OpenAi).base_url.as_deref(), Some("http://localhost:1/v1"));
        let anthropic = config(Provider::Anthropic);
        assert_eq!(anthropic.base_url.as_deref(), Some("http://localhost:2"));
        assert_eq!((anthropic.key, anthropic.is_bearer_token), (ApiKey::new("token-1"), true));
        let ollama = config(Provider::Ollama);
        assert_eq!(ollama.base_url.as_deref(), Some("http://somewhere:11434"));
        assert_eq!(ollama.key, ApiKey::new("key-1"));
        let found: Vec<(Provider, String)> = keys_in(&environment);
        assert_eq!(
            found,
            [
                (Provider::Anthropic, "ANTHROPIC_AUTH_TOKEN".to_owned()),
                (Provider::OpenAi, "OPENAI_BASE_URL".to_owned())
            ]
        );
    }

    #[test]
    fn the_address_of_ollama_may_lack_the_scheme_the_host_or_the_port() {
        for (text, address) in [
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            (":1234", "http://127.0.0.1:1234"),
            ("host:1", "http://host:1"),
            ("host/ollama", "http://host:11434/ollama"),
            ("[::]", "http://[::1]:11434"),
            ("[fe80::1]:5", "http://[fe80::1]:5"),
            ("https://ollama.com", "https://ollama.com"),
        ] {
            assert_eq!(ollama_address(text), address, "{text}");
        }
    }

    #[test]
    fn headers_get_their_values_from_the_environment_and_go_to_the_configured_provider_only() {
        let environment = environment(&[("TOKEN", "t-1"), ("OPENAI_API_KEY", "sk-1")]);
        let with_header = |value: &str| {
            settings(|s| {
                s.provider = Some(Provider::OpenAi);
                s.headers = vec![("Authorization".into(), value.into())];
            })
        };
        for (value, sent) in [("Bearer $TOKEN", "Bearer t-1"), ("${TOKEN}x", "t-1x"), ("plain", "plain")] {
            let config =
                |provider| model_config(provider, "m".into(), &with_header(value), &environment).unwrap();
            assert_eq!(config(Provider::OpenAi).headers, [("Authorization".to_owned(), sent.to_owned())]);
            assert_eq!(config(Provider::Anthropic).headers, []);
        }
        let error =
            model_config(Provider::OpenAi, "m".into(), &with_header("$MISSING"), &environment).unwrap_err();
        assert!(error.hint().unwrap().contains("MISSING"));
    }
}
