//! Chooses a model when the configuration names none.

use std::time::Duration;

use crate::{ModelConfig, Provider, list_models};

/// Providers that can be used without further configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AvailableProviders {
    /// Providers whose API key is set, each with the name of the environment variable.
    pub keys: Vec<(Provider, String)>,
    /// Models of the local Ollama server, if it responds; see [`probe_ollama`].
    pub ollama: Option<Vec<String>>,
}

/// The result of [`detect_model`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectedModel {
    /// Provider.
    pub provider: Provider,
    /// The provider's name for the model.
    pub model: String,
    /// One line for the user: the model and why it was chosen.
    pub reason: String,
}

/// Chooses the default model of the first provider (in the order of [`Provider::ALL`]) whose key is set, else a
/// model of the local Ollama server. Returns `None` if neither is available.
#[must_use]
pub fn detect_model(available: &AvailableProviders) -> Option<DetectedModel> {
    let by_key = Provider::ALL.into_iter().find_map(|provider| {
        let (_, variable) = available.keys.iter().find(|(with_key, _)| *with_key == provider)?;
        let model = provider.default_model()?;
        let reason = format!("using {model} of {}, because {variable} is set", provider.title());
        Some(DetectedModel { provider, model: model.to_owned(), reason })
    });
    by_key.or_else(|| {
        let models = available.ollama.as_deref()?;
        // Ollama lists the most recently modified model first.
        let model = models.iter().find(|name| can_chat(name))?;
        let reason = format!("using {model} of the Ollama on this machine, because no provider's key is set");
        Some(DetectedModel { provider: Provider::Ollama, model: model.clone(), reason })
    })
}

/// Whether a model can chat, judging by its name: models for embeddings, reranking and speech cannot.
#[must_use]
pub fn can_chat(name: &str) -> bool {
    let name = name.to_lowercase();
    // As the end of a word, because `mattshumer` publishes models that can chat.
    let is_speech = name.split(|c: char| !c.is_alphanumeric()).any(|word| word.ends_with("tts"));
    !is_speech && !["embed", "rerank", "whisper"].iter().any(|other| name.contains(other))
}

/// Chooses among the models that the configured server lists: the configured one if it is listed, else the first one that
/// can chat. Returns `None` if the server does not list its models within `timeout`.
pub async fn first_listed_model(config: ModelConfig, timeout: Duration) -> Option<String> {
    let wanted = config.model.clone();
    let names = tokio::time::timeout(timeout, list_models(config)).await.ok()?.ok()?.names;
    if names.contains(&wanted) { Some(wanted) } else { names.into_iter().find(|name| can_chat(name)) }
}

/// Lists the models of the Ollama server at `base_url`, which may be written as for its other APIs, such as with `/v1`.
/// Returns `None` if no Ollama server responds within `timeout`; 150 ms are enough on the same machine.
pub async fn probe_ollama(base_url: &str, timeout: Duration) -> Option<Vec<String>> {
    let request = crate::provider::ollama_models(base_url);
    tokio::time::timeout(timeout, request).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_takes_precedence_over_ollama_and_the_reason_names_its_variable() {
        let available = AvailableProviders {
            keys: vec![
                (Provider::Gemini, "GOOGLE_API_KEY".into()),
                (Provider::OpenAi, "OPENAI_API_KEY".into()),
            ],
            ollama: Some(vec!["llama3:8b".into()]),
        };
        let detected = detect_model(&available).unwrap();
        assert_eq!(detected.provider, Provider::OpenAi);
        assert!(detected.reason.contains("OPENAI_API_KEY"), "{}", detected.reason);
    }

    #[test]
    fn without_keys_the_first_chat_model_of_ollama_is_chosen() {
        let available = AvailableProviders {
            keys: vec![],
            ollama: Some(vec!["nomic-embed-text:latest".into(), "qwen3:4b".into()]),
        };
        assert_eq!(detect_model(&available).map(|detected| detected.model), Some("qwen3:4b".into()));
    }

    #[test]
    fn models_for_other_purposes_are_recognized_by_their_names() {
        for name in ["Nomic-Embed-Text", "bge-reranker", "whisper-1", "gpt-4o-mini-tts", "coqui/XTTS-v2"] {
            assert!(!can_chat(name), "{name}");
        }
        for name in ["qwen3:4b", "mattshumer/reflection-70b"] {
            assert!(can_chat(name), "{name}");
        }
    }

    #[test]
    fn without_a_key_or_a_chat_model_nothing_is_chosen() {
        assert_eq!(detect_model(&AvailableProviders::default()), None);
        let only_embeddings =
            AvailableProviders { keys: vec![], ollama: Some(vec!["nomic-embed-text".into()]) };
        assert_eq!(detect_model(&only_embeddings), None);
    }
}
