//! From names of models to models that can be asked: address, key, limits.

use std::collections::BTreeMap;

use hfs_agents::{ModelConfig, ModelName, Provider, Role, TriadsConfig};
use hfs_core::ErrorKind;

use crate::config::Settings;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::plain;

use super::agent::{Answering, Decision, Who, key_of, named_provider};
use super::triads::ChosenTriads;

/// The models of triads.
pub struct Models {
    /// For every role without one of its own.
    pub default: ModelConfig,
    /// Those that the configuration names.
    pub named: BTreeMap<String, ModelConfig>,
}

/// A model with everything that the settings and the environment say about it.
pub fn model(
    provider: Provider,
    name: String,
    settings: &Settings,
    environment: &Environment,
) -> ModelConfig {
    // An address is that of the configured provider only: no other one's key may go there.
    let base_url = settings.base_url.clone().filter(|_| named_provider(settings) == Some(provider));
    ModelConfig {
        base_url,
        max_tokens: settings.max_tokens,
        temperature: settings.temperature,
        system_prompt: settings.system_prompt.clone(),
        ..ModelConfig::new(provider, name, key_of(provider, environment).map(|(_, key)| key))
    }
}

/// Triads on the model that was decided for and on those that their configuration names.
///
/// # Errors
/// `Denied` for a named model whose provider's key is missing, `Invalid` for one whose provider nobody knows.
pub fn for_triads(
    chosen: ChosenTriads,
    decision: Decision,
    settings: &Settings,
    environment: &Environment,
) -> Result<Answering, Failure> {
    let ChosenTriads { mut config, path, .. } = chosen;
    let mut warnings = Vec::new();
    let (default, mut why) = match decision {
        Decision::Offline(reason) => (None, reason),
        Decision::Model { provider, model, why, warning } => {
            warnings.extend(warning);
            (Some((provider, model)), why)
        }
    };
    let provider = default.as_ref().map(|(provider, _)| *provider);
    if settings.triads.is_projects {
        warnings.extend(keep_to_provider(&mut config, provider, settings));
    }
    let mut named = BTreeMap::new();
    for name in config.model_names() {
        let file = path.as_ref().map_or_else(String::new, |path| plain::line(&path.to_string_lossy()));
        named.insert(name.to_owned(), resolved(name, provider, &file, settings, environment)?);
    }
    let covered = Role::ALL.iter().all(|role| config.model_of(*role).is_some());
    let default = match default {
        Some((provider, name)) => Some(model(provider, name, settings, environment)),
        None if covered => named.values().next().cloned(),
        None => {
            if !named.is_empty() {
                warnings.push("the models of the triads are not used, since some agents have none".into());
            }
            None
        }
    };
    if covered {
        why = "on the models of their configuration".into();
    }
    let models = default.map(|default| Models { default, named });
    Ok(Answering { who: Who::Triads(config, models), why, warnings })
}

/// The provider and the model that a name in a configuration of triads means. A name without a provider of its
/// own is a model of the one that is set up, as is every name where that has an address of its own.
fn provider_of(name: &str, default: Option<Provider>, settings: &Settings) -> (Option<Provider>, String) {
    let known = ModelName::new(name);
    let is_outright = known.model != name.trim();
    match known.provider {
        Some(provider) if is_outright || settings.base_url.is_none() => (Some(provider), known.model),
        _ => (default, name.trim().to_owned()),
    }
}

/// A project may say which triads answer, not where they are asked: what it names elsewhere is left out.
fn keep_to_provider(
    config: &mut TriadsConfig,
    default: Option<Provider>,
    settings: &Settings,
) -> Option<String> {
    let elsewhere = |name: &String| {
        let (provider, _) = provider_of(name, default, settings);
        provider.is_none() || provider != default
    };
    let before = config.model_names().len();
    config.model = config.model.take().filter(|name| !elsewhere(name));
    config.arbiter.model = config.arbiter.model.take().filter(|name| !elsewhere(name));
    config.models.retain(|_, name| !elsewhere(name));
    (config.model_names().len() < before).then(|| {
        "models that the project's triads name are ignored: a project may not choose the provider".to_owned()
    })
}

fn resolved(
    name: &str,
    default: Option<Provider>,
    file: &str,
    settings: &Settings,
    environment: &Environment,
) -> Result<ModelConfig, Failure> {
    let shown = plain::line(name);
    let (provider, known) = provider_of(name, default, settings);
    let provider = provider.ok_or_else(|| Failure::Refused {
        kind: ErrorKind::Invalid,
        message: format!("{file} names the model {shown:?}, and nothing says whose it is"),
        hint: Some("write it as PROVIDER/MODEL, such as ollama/llama3".into()),
    })?;
    let model = model(provider, known, settings, environment);
    if model.key.is_none() && model.base_url.is_none() && !provider.key_variables().is_empty() {
        return Err(Failure::Refused {
            kind: ErrorKind::Denied,
            message: format!(
                "{file} names the model {shown:?}, but the key of {} is not in the environment",
                provider.title()
            ),
            hint: Some(format!("set {}", provider.key_variables().join(" or "))),
        });
    }
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// What is made of the small configuration with `more` behind it, where nothing else is set up.
    fn alone(more: &str) -> Result<Answering, Failure> {
        let yaml = format!("{}\n{more}", TriadsConfig::SMALL);
        let config = TriadsConfig::from_yaml(&yaml).unwrap();
        let chosen = ChosenTriads { config, yaml, path: Some("mine.yaml".into()) };
        let settings = Config::defaults().unwrap().settings();
        for_triads(chosen, Decision::Offline("because".into()), &settings, &Environment::default())
    }

    #[test]
    fn triads_that_name_all_their_models_need_no_other_one() {
        let answering = alone("model: ollama/some\n").unwrap();
        let Who::Triads(_, Some(models)) = answering.who else { panic!() };
        assert_eq!((models.default.provider, models.default.model.as_str()), (Provider::Ollama, "some"));
        assert_eq!(answering.why, "on the models of their configuration");
    }

    #[test]
    fn triads_that_name_a_model_for_some_agents_only_are_offline_and_say_so() {
        let answering = alone("models:\n  critic: ollama/some\n").unwrap();
        assert!(matches!(answering.who, Who::Triads(_, None)));
        assert_eq!(answering.warnings.len(), 1);
        assert!(matches!(alone("").unwrap().who, Who::Triads(_, None)));
    }

    #[test]
    fn a_model_of_nobody_and_one_without_its_key_are_errors_that_name_file_and_remedy() {
        for (model, kind, hint) in [
            ("orca", "invalid", "PROVIDER/MODEL"),
            ("gpt-9", "denied", "OPENAI_API_KEY"),
            ("anthropic/x", "denied", "ANTHROPIC_API_KEY"),
        ] {
            let error = alone(&format!("model: {model}\n")).err().unwrap().document();
            assert_eq!(error.kind, kind, "{model}");
            assert!(error.message.starts_with("mine.yaml names the model"), "{}", error.message);
            assert!(error.hint.unwrap().contains(hint), "{model}");
        }
    }
}
