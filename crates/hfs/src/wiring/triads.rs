//! Loads the configuration of triads, and resolves the models that it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hfs_agents::{ModelConfig, ModelName, Provider, Role, TriadsConfig};
use hfs_core::ErrorKind;

use super::agent::{AgentBackend, AgentChoice, ModelChoice, model_config};
use super::programs::{self, AgentProgram};
use crate::config::{
    ConfigError, Key, Programs, SecretReason, Settings, TriadsSetting, ValueOrigin, contains_secret,
    read_text,
};
use crate::environment::Environment;
use crate::output::error::CliError;
use crate::output::sanitize;

/// A configuration of triads and its source.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedTriads {
    pub config: TriadsConfig,
    pub yaml: String,
    /// The file; `None` for a built-in configuration.
    pub path: Option<PathBuf>,
}

/// The models that triads use.
pub struct ModelsByName {
    /// For roles to which the configuration assigns no model.
    pub default: NamedModel,
    /// The models that the configuration names.
    pub named: BTreeMap<String, NamedModel>,
}

/// What a configuration of triads names as a model.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "there are a few values per process")]
pub enum NamedModel {
    Model(ModelConfig),
    /// An agent that is a program of its own: `agent:NAME`.
    Program(AgentProgram),
}

/// How a configuration of triads names an agent as a model.
const AGENT_PREFIX: &str = "agent:";

/// The configuration that asks the agents which are installed.
const MIXED: &str = "mixed";

/// The configuration `mixed`, with the installed agents as its models.
fn mixed(
    origin: &ValueOrigin,
    programs: &Programs,
    environment: &Environment,
) -> Result<String, ConfigError> {
    let installed: Vec<String> =
        programs::installed(programs, environment).map(|program| program.name).collect();
    if installed.is_empty() {
        return Err(ConfigError::InvalidValue {
            origin: origin.clone(),
            key: Key::Triads.name().into(),
            found: format!("{MIXED:?}, and no agent is installed"),
            expected: "an agent: `hfs agents` lists them, and says how to install one".into(),
        });
    }
    let mut yaml = format!("{}\nmodels:\n", TriadsConfig::MIXED);
    // Different agents propose, criticize and decide, as far as there are as many.
    let speakers = [Role::Proposer, Role::Critic, Role::Synthesizer];
    let others = Role::ALL.into_iter().filter(|role| !speakers.contains(role));
    for (role, agent) in speakers.into_iter().zip(installed.iter().cycle()) {
        yaml.push_str(&format!("  {}: {AGENT_PREFIX}{agent}\n", role.as_str()));
    }
    for (role, agent) in others.zip(installed.iter().take(1).cycle()) {
        yaml.push_str(&format!("  {}: {AGENT_PREFIX}{agent}\n", role.as_str()));
    }
    Ok(yaml)
}

/// Loads the configuration that a setting selects.
///
/// # Errors
/// If the file is missing or not valid. The error lists every mistake with its line.
pub fn load(
    setting: &TriadsSetting,
    programs: &Programs,
    environment: &Environment,
) -> Result<LoadedTriads, ConfigError> {
    if setting.text == MIXED && !setting.from_project {
        return parse(mixed(&setting.origin, programs, environment)?, None);
    }
    let built_in = TriadsConfig::BUILT_IN.iter().find(|(name, _)| *name == setting.text);
    if let Some((_, yaml)) = built_in {
        return parse((*yaml).to_owned(), None);
    }
    let path = path_of(setting, environment);
    if setting.from_project && !is_in_project(&path, &setting.origin) {
        // The user has trusted the project's folder as it is now. A file outside of it can change later.
        return Err(ConfigError::InvalidValue {
            origin: setting.origin.clone(),
            key: Key::Triads.name().into(),
            found: format!("{:?}", setting.text),
            expected: "small, standard or a file in the project's folder .hfs".into(),
        });
    }
    match read_text(&path)? {
        Some(yaml) => parse(yaml, Some(path)),
        None => Err(ConfigError::InvalidValue {
            origin: setting.origin.clone(),
            key: Key::Triads.name().into(),
            found: format!("{:?}, and there is no file {}", setting.text, path.display()),
            expected: "small, standard, mixed or the path of a file".into(),
        }),
    }
}

/// The text to write to the configuration file for a value that the user sets. For `Key::Triads`, loads the
/// configuration to check it, and makes a relative path absolute, so that it is valid in every working directory.
/// Returns the text of other keys unchanged.
///
/// # Errors
/// As [`load`].
pub fn value_to_save(
    key: Key,
    text: &str,
    programs: &Programs,
    environment: &Environment,
) -> Result<String, ConfigError> {
    if key != Key::Triads {
        return Ok(text.to_owned());
    }
    let origin = ValueOrigin::ARGUMENT;
    let setting = TriadsSetting { text: text.to_owned(), origin, from_project: false };
    let loaded = load(&setting, programs, environment)?;
    Ok(loaded.path.map_or_else(|| text.to_owned(), |path| path.to_string_lossy().into_owned()))
}

/// `~/` is the user's home directory. Other relative paths are relative to the directory of the configuration file
/// that sets them. If a variable, an option or a default sets them, they are relative to the working directory.
fn path_of(setting: &TriadsSetting, environment: &Environment) -> PathBuf {
    if let (Some(rest), Some(home)) = (setting.text.strip_prefix("~/"), &environment.user_home) {
        return home.join(rest);
    }
    let base = match &setting.origin {
        ValueOrigin::File { path, .. } => path.parent().unwrap_or(Path::new("")),
        ValueOrigin::Variable(_) | ValueOrigin::CommandLine(_) | ValueOrigin::Default => {
            &environment.working_directory
        }
    };
    base.join(&setting.text)
}

/// Whether a file is in the directory of the configuration file that names it, also after links are followed.
fn is_in_project(path: &Path, origin: &ValueOrigin) -> bool {
    let ValueOrigin::File { path: config, .. } = origin else { return false };
    let folder = config.parent().and_then(|folder| folder.canonicalize().ok());
    matches!((&folder, path.canonicalize()), (Some(folder), Ok(path)) if path.starts_with(folder))
}

fn parse(yaml: String, path: Option<PathBuf>) -> Result<LoadedTriads, ConfigError> {
    if let Some(path) = &path {
        for (line, text) in (1..).zip(yaml.lines()) {
            if contains_secret(text) {
                let origin = ValueOrigin::File { path: path.clone(), line };
                // The key on the line is not known, because the YAML is not parsed yet.
                let key = "this line".into();
                return Err(ConfigError::Secret { origin, key, reason: SecretReason::Value });
            }
        }
    }
    match TriadsConfig::from_yaml(&yaml) {
        Ok(config) => Ok(LoadedTriads { config, yaml, path }),
        Err(problems) => Err(ConfigError::Triads { path: path.unwrap_or_default(), problems }),
    }
}

/// Triads that use the chosen model and the models that their configuration names.
///
/// # Errors
/// `Denied` if the key of a named model is missing; `Invalid` if the provider of a named model is unknown.
pub fn with_models(
    loaded: LoadedTriads,
    choice: ModelChoice,
    settings: &Settings,
    environment: &Environment,
) -> Result<AgentChoice, CliError> {
    let LoadedTriads { mut config, path, .. } = loaded;
    let mut warnings = Vec::new();
    let (default, mut reason) = match choice {
        ModelChoice::Offline { reason } => (None, reason),
        ModelChoice::Model { provider, model, reason, warning } => {
            warnings.extend(warning);
            (Some((provider, model)), reason)
        }
    };
    let default_provider = default.as_ref().map(|(provider, _)| *provider);
    if settings.triads.from_project {
        warnings.extend(remove_other_providers(&mut config, default_provider, settings));
    }
    let file = path.map_or_else(String::new, |path| sanitize::line(&path.to_string_lossy()));
    let mut named = BTreeMap::new();
    for name in config.model_names() {
        named.insert(name.to_owned(), named_model(name, default_provider, &file, settings, environment)?);
    }
    let every_role_has_a_model = Role::ALL.iter().all(|role| config.model_of(*role).is_some());
    let default = match default {
        Some((provider, name)) => {
            Some(NamedModel::Model(model_config(provider, name, settings, environment)?))
        }
        // Every role has its own model, so the default model is never used and any model will do.
        None if every_role_has_a_model => named.values().next().cloned(),
        None => {
            if !named.is_empty() {
                warnings.push("the triads' models are not used, because some roles have no model".into());
            }
            None
        }
    };
    if every_role_has_a_model {
        reason = "using the models that their configuration names".into();
    }
    let models = default.map(|default| ModelsByName { default, named });
    let backend = AgentBackend::Triads(config, models);
    Ok(AgentChoice { backend, reason, warnings, is_last_resort: false })
}

/// The provider and the model that a name stands for. `PROVIDER/MODEL` always selects that provider. A name without a
/// provider selects the provider that is known to offer the model, or else the default provider. If `base_url` is
/// set, such a name always selects the default provider, because the server at that address may use any model names;
/// for the same reason, a name that begins with the default provider is used as it is.
fn provider_of(
    name: &str,
    default_provider: Option<Provider>,
    settings: &Settings,
) -> (Option<Provider>, String) {
    let parsed = ModelName::new(name);
    let is_explicit = parsed.model != name.trim();
    match parsed.provider {
        Some(provider) if settings.base_url.is_some() && Some(provider) == default_provider => {
            (default_provider, name.trim().to_owned())
        }
        Some(provider) if is_explicit || settings.base_url.is_none() => (Some(provider), parsed.model),
        _ => (default_provider, name.trim().to_owned()),
    }
}

/// Removes the models of other providers from a project's configuration: a project may choose the triads, but not where
/// conversations are sent. Returns a warning if a model was removed.
fn remove_other_providers(
    config: &mut TriadsConfig,
    default_provider: Option<Provider>,
    settings: &Settings,
) -> Option<String> {
    let is_allowed = |name: &String| {
        if name.starts_with(AGENT_PREFIX) {
            return false;
        }
        let (provider, _) = provider_of(name, default_provider, settings);
        provider.is_some() && provider == default_provider
    };
    let before = config.model_names().len();
    config.model = config.model.take().filter(is_allowed);
    config.arbiter.model = config.arbiter.model.take().filter(is_allowed);
    config.models.retain(|_, name| is_allowed(name));
    (config.model_names().len() < before).then(|| {
        "models that the project's triads name are ignored: a project may choose neither the provider nor an agent".to_owned()
    })
}

fn named_model(
    name: &str,
    default_provider: Option<Provider>,
    file: &str,
    settings: &Settings,
    environment: &Environment,
) -> Result<NamedModel, CliError> {
    if let Some(agent) = name.strip_prefix(AGENT_PREFIX) {
        return Ok(NamedModel::Program(programs::named(agent.trim(), &settings.programs)?));
    }
    let shown_name = sanitize::line(name);
    let (provider, model_name) = provider_of(name, default_provider, settings);
    let provider = provider.ok_or_else(|| {
        CliError::with_hint(
            ErrorKind::Invalid,
            format!("{file} names the model {shown_name:?}, but its provider is unknown"),
            "write it as PROVIDER/MODEL, such as ollama/llama3",
        )
    })?;
    let model = model_config(provider, model_name, settings, environment)?;
    let is_open = model.base_url.is_some() || !model.headers.is_empty() || !provider.requires_key();
    if model.key.is_none() && !is_open {
        let title = provider.title();
        return Err(CliError::with_hint(
            ErrorKind::Denied,
            format!(
                "{file} names the model {shown_name:?}, but the key of {title} is not in the environment"
            ),
            format!("set {}", provider.key_variables().join(" or ")),
        ));
    }
    Ok(NamedModel::Model(model))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn setting(text: &str, origin: ValueOrigin) -> TriadsSetting {
        TriadsSetting { text: text.into(), origin, from_project: false }
    }

    #[test]
    fn a_built_in_configuration_is_selected_by_name_and_a_file_by_path() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for sub in ["home", "work"] {
            std::fs::create_dir(root.join(sub)).unwrap();
        }
        let mut environment = Environment::default();
        environment.working_directory = root.join("work");
        environment.user_home = Some(root.join("home"));
        for name in ["small", "standard"] {
            let loaded =
                load(&setting(name, ValueOrigin::Default), &Programs::default(), &environment).unwrap();
            assert_eq!(loaded.path, None, "{name}");
        }
        let file_origin = ValueOrigin::File { path: root.join("home").join("config.yaml"), line: 3 };
        std::fs::write(root.join("home").join("mine.yaml"), TriadsConfig::SMALL).unwrap();
        let path = root.join("home").join("mine.yaml");
        let variable_origin = ValueOrigin::Variable("HFS_TRIADS");
        let find = |text: &str, origin: &ValueOrigin| {
            load(&setting(text, origin.clone()), &Programs::default(), &environment)
        };
        assert_eq!(find("mine.yaml", &file_origin).unwrap().path.as_ref(), Some(&path));
        assert_eq!(find("~/mine.yaml", &variable_origin).unwrap().path.as_ref(), Some(&path));
        let missing = find("mine.yaml", &variable_origin).unwrap_err().to_string();
        assert!(
            missing.starts_with("HFS_TRIADS: triads is \"mine.yaml\", and there is no file")
                && missing.ends_with("expected small, standard, mixed or the path of a file"),
            "{missing}"
        );
        let saved =
            value_to_save(Key::Triads, "../home/mine.yaml", &Programs::default(), &environment).unwrap();
        assert!(Path::new(&saved).is_absolute(), "{saved}");
        assert_eq!(value_to_save(Key::Triads, "small", &Programs::default(), &environment).unwrap(), "small");
        assert!(value_to_save(Key::Triads, "large", &Programs::default(), &environment).is_err());
    }

    /// The agent for the small configuration with `more` appended, when no default model is available.
    fn without_default_model(more: &str) -> Result<AgentChoice, CliError> {
        let yaml = format!("{}\n{more}", TriadsConfig::SMALL);
        let config = TriadsConfig::from_yaml(&yaml).unwrap();
        let loaded = LoadedTriads { config, yaml, path: Some("mine.yaml".into()) };
        let settings = Config::defaults().unwrap().settings();
        let choice = ModelChoice::Offline { reason: "because".into() };
        with_models(loaded, choice, &settings, &Environment::default())
    }

    #[test]
    fn triads_that_name_all_their_models_need_no_default_model() {
        let choice = without_default_model("model: ollama/some\n").unwrap();
        let AgentBackend::Triads(_, Some(models)) = choice.backend else { panic!() };
        let NamedModel::Model(default) = models.default else { panic!() };
        assert_eq!((default.provider, default.model.as_str()), (Provider::Ollama, "some"));
        assert_eq!(choice.reason, "using the models that their configuration names");
    }

    #[test]
    fn triads_that_name_models_for_some_agents_only_are_offline_with_a_warning() {
        let choice = without_default_model("models:\n  critic: ollama/some\n").unwrap();
        assert!(matches!(choice.backend, AgentBackend::Triads(_, None)));
        assert_eq!(choice.warnings.len(), 1);
        let offline = without_default_model("").unwrap();
        assert!(matches!(offline.backend, AgentBackend::Triads(_, None)));
    }

    #[test]
    fn a_model_without_provider_or_key_is_an_error_that_names_the_file_and_the_remedy() {
        for (model, kind, hint) in [
            ("orca", "invalid", "PROVIDER/MODEL"),
            ("gpt-9", "denied", "OPENAI_API_KEY"),
            ("anthropic/x", "denied", "ANTHROPIC_API_KEY"),
        ] {
            let error = without_default_model(&format!("model: {model}\n")).err().unwrap().document();
            assert_eq!(error.kind, kind, "{model}");
            assert!(error.message.starts_with("mine.yaml names the model"), "{}", error.message);
            assert!(error.hint.unwrap().contains(hint), "{model}");
        }
    }

    #[test]
    fn triads_may_name_agents_and_a_project_may_not() {
        let choice = without_default_model("model: agent:claude\nmodels:\n  critic: agent:codex\n").unwrap();
        let AgentBackend::Triads(_, Some(models)) = choice.backend else { panic!() };
        let NamedModel::Program(critic) = models.named.get("agent:codex").unwrap() else { panic!() };
        assert_eq!(critic.title, "Codex");
        let unknown = without_default_model("model: agent:unknown\n").err().unwrap().to_string();
        assert!(unknown.contains("there is no agent"), "{unknown}");
        let yaml = format!("{}\nmodel: agent:claude\n", TriadsConfig::SMALL);
        let mut config = TriadsConfig::from_yaml(&yaml).unwrap();
        let settings = Config::defaults().unwrap().settings();
        assert!(remove_other_providers(&mut config, None, &settings).is_some());
        assert_eq!(config.model, None);
    }

    #[test]
    fn mixed_triads_use_the_agents_that_are_installed() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let environment = Environment::with_variables([("PATH", folder.path().to_str().unwrap())]);
        let loaded =
            |text: &str| load(&setting(text, ValueOrigin::Default), &Programs::default(), &environment);
        assert!(loaded("mixed").unwrap_err().to_string().contains("no agent is installed"));
        for program in ["codex-acp", "opencode"] {
            let path = folder.path().join(program);
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let config = loaded("mixed").unwrap().config;
        let agents =
            [Role::Proposer, Role::Critic, Role::Synthesizer].map(|role| config.model_of(role).unwrap());
        assert_eq!(agents, ["agent:codex", "agent:opencode", "agent:codex"]);
        assert!(Role::ALL.into_iter().all(|role| config.model_of(role).is_some()));
        let from_project = TriadsSetting { from_project: true, ..setting("mixed", ValueOrigin::Default) };
        assert!(load(&from_project, &Programs::default(), &environment).is_err());
    }
}
