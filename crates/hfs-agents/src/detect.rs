//! Which model to use when nobody has said so.

use std::time::Duration;

use serde::Deserialize;

use crate::Provider;

/// What the binary saw around it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Providers whose key is in the environment, each with the variable that holds it.
    pub keys: Vec<(Provider, String)>,
    /// The models of the Ollama that answered, if one did; see [`probe_ollama`].
    pub ollama: Option<Vec<String>>,
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The provider.
    pub provider: Provider,
    /// The model.
    pub model: String,
    /// One line for people: what was chosen and why.
    pub why: String,
}

/// Chooses: a key in the environment first (in the order of [`Provider::ALL`]), else an Ollama that has a
/// model. `None` leaves it to the offline agent.
#[must_use]
pub fn detect(seen: &Seen) -> Option<Choice> {
    let by_key = Provider::ALL.into_iter().find_map(|provider| {
        let (_, variable) = seen.keys.iter().find(|(with_key, _)| *with_key == provider)?;
        let model = provider.default_model()?;
        let why = format!("using {model} of {}, because {variable} is set", provider.title());
        Some(Choice { provider, model: model.to_owned(), why })
    });
    by_key.or_else(|| {
        let models = seen.ollama.as_deref()?;
        // Ollama lists what changed last first; models that only embed cannot talk.
        let model = models.iter().find(|name| !name.contains("embed") && !name.contains("rerank"))?;
        let why = format!("using {model} of the Ollama on this machine, because no provider's key is set");
        Some(Choice { provider: Provider::Ollama, model: model.clone(), why })
    })
}

#[derive(Deserialize)]
struct Tags {
    models: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
}

/// The models of the Ollama at `base_url`, when it answers within `budget` (150 ms are plenty on the same
/// machine). `None` when nothing that looks like an Ollama answers in time.
pub async fn probe_ollama(base_url: &str, budget: Duration) -> Option<Vec<String>> {
    let url = format!("{}/api/tags", base_url.trim_end_matches('/'));
    let asking = async {
        let client = crate::provider::bare_client(&url)?.connect_timeout(budget).build().ok()?;
        let body = client.get(&url).send().await.ok()?.error_for_status().ok()?.bytes().await.ok()?;
        let tags: Tags = serde_json::from_slice(&body).ok()?;
        Some(tags.models.into_iter().map(|tag| tag.name).collect())
    };
    tokio::time::timeout(budget, asking).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_before_ollama_and_the_reason_names_the_variable() {
        let seen = Seen {
            keys: vec![
                (Provider::Gemini, "GOOGLE_API_KEY".into()),
                (Provider::OpenAi, "OPENAI_API_KEY".into()),
            ],
            ollama: Some(vec!["llama3:8b".into()]),
        };
        let choice = detect(&seen).unwrap();
        assert_eq!(choice.provider, Provider::OpenAi);
        assert!(choice.why.contains("OPENAI_API_KEY"), "{}", choice.why);
    }

    #[test]
    fn an_ollama_that_can_talk_is_used_without_keys() {
        let seen =
            Seen { keys: vec![], ollama: Some(vec!["nomic-embed-text:latest".into(), "qwen3:4b".into()]) };
        assert_eq!(detect(&seen).map(|choice| choice.model), Some("qwen3:4b".into()));
    }

    #[test]
    fn nothing_seen_or_nothing_that_talks_is_no_choice() {
        assert_eq!(detect(&Seen::default()), None);
        let only_embeddings = Seen { keys: vec![], ollama: Some(vec!["nomic-embed-text".into()]) };
        assert_eq!(detect(&only_embeddings), None);
    }
}
