//! Which model, where, and how patiently.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Secret;

/// A family of model providers that share a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// OpenAI, and everything that speaks its chat completions at another base address.
    OpenAi,
    /// Anthropic.
    Anthropic,
    /// Google's Gemini.
    Gemini,
    /// Ollama, on this machine or another.
    Ollama,
}

impl Provider {
    /// All providers, in the order in which they are looked for.
    pub const ALL: [Self; 4] = [Self::Anthropic, Self::OpenAi, Self::Gemini, Self::Ollama];

    /// The name in configurations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }

    /// The name for people.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI",
            Self::Anthropic => "Anthropic",
            Self::Gemini => "Gemini",
            Self::Ollama => "Ollama",
        }
    }

    /// The environment variables that may hold its key, the first one found counts.
    #[must_use]
    pub const fn key_variables(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi => &["OPENAI_API_KEY"],
            Self::Anthropic => &["ANTHROPIC_API_KEY"],
            Self::Gemini => &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
            Self::Ollama => &[],
        }
    }

    /// Where it is reached when no base address is configured.
    #[must_use]
    pub const fn default_base_url(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1/",
            Self::Anthropic => "https://api.anthropic.com/v1/",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta/",
            Self::Ollama => "http://127.0.0.1:11434/",
        }
    }

    /// The model used when none is configured. `None` where that depends on what is installed.
    #[must_use]
    pub fn default_model(self) -> Option<&'static str> {
        DEFAULT_MODELS.iter().find(|(provider, _)| *provider == self).map(|(_, model)| *model)
    }
}

/// One row for each provider with a fixed choice; change a row when a better model takes its place.
const DEFAULT_MODELS: [(Provider, &str); 3] = [
    (Provider::Anthropic, "claude-sonnet-4-6"),
    (Provider::OpenAi, "gpt-5.4"),
    (Provider::Gemini, "gemini-3.5-flash"),
];

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a provider: expected openai, anthropic, gemini or ollama")]
pub struct ParseProviderError(String);

impl FromStr for Provider {
    type Err = ParseProviderError;

    fn from_str(text: &str) -> Result<Self, ParseProviderError> {
        match text.trim().to_ascii_lowercase().as_str() {
            "openai" | "openai-compatible" => Ok(Self::OpenAi),
            "anthropic" => Ok(Self::Anthropic),
            "gemini" | "google" => Ok(Self::Gemini),
            "ollama" => Ok(Self::Ollama),
            _ => Err(ParseProviderError(text.to_owned())),
        }
    }
}

/// How a configuration names a model: `anthropic/claude-sonnet-4-6`, or a model alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelName {
    /// The provider, where it was named or the model's name gives it away.
    pub provider: Option<Provider>,
    /// The model, as its provider calls it.
    pub model: String,
}

impl ModelName {
    /// Reads a name. What stands before the first `/` is taken for a provider only when it is one, so that
    /// names such as `meta-llama/llama-4` stay whole.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text = text.trim();
        if let Some((provider, model)) = text.split_once('/')
            && let Ok(provider) = provider.parse()
        {
            return Self { provider: Some(provider), model: model.to_owned() };
        }
        let is_o_series = || {
            text.strip_prefix('o').is_some_and(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()))
        };
        let provider = if text.starts_with("claude") {
            Some(Provider::Anthropic)
        } else if text.starts_with("gpt-") || is_o_series() {
            Some(Provider::OpenAi)
        } else if text.starts_with("gemini") {
            Some(Provider::Gemini)
        } else {
            None
        };
        Self { provider, model: text.to_owned() }
    }
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// From the request to the answer's beginning. Models that think, and machines that load a model first,
    /// take their time.
    pub first_byte: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(300),
            idle: Duration::from_secs(120),
        }
    }
}

/// How often and when to try again. Only what failed before the first piece of an answer is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How many attempts in all, at least one.
    pub attempts: u32,
    /// The pause before the second attempt; it doubles with each further one, less a random share of up to
    /// half.
    pub first_pause: Duration,
    /// The longest pause, also when the provider asks for more: then it fails instead.
    pub longest_pause: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 4, first_pause: Duration::from_millis(500), longest_pause: Duration::from_secs(60) }
    }
}

/// A model and everything needed to talk to it. Its `Debug` leaves the address out, which may hold a password.
#[derive(Clone, PartialEq)]
pub struct ModelConfig {
    /// The protocol.
    pub provider: Provider,
    /// The model, as its provider calls it.
    pub model: String,
    /// The base address, such as `http://127.0.0.1:8080/v1`; `None` for the provider's own.
    pub base_url: Option<String>,
    /// The key. Servers at an address of the user's own may need none.
    pub key: Option<Secret>,
    /// The longest reply, in tokens; `None` leaves it to the provider.
    pub max_tokens: Option<u32>,
    /// The sampling temperature; `None` leaves it to the provider.
    pub temperature: Option<f64>,
    /// What the model is told before the conversation.
    pub system_prompt: Option<String>,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How often to try.
    pub retries: Retries,
}

impl fmt::Debug for ModelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelConfig")
            .field("provider", &self.provider)
            .field("model", &self.model)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl ModelConfig {
    /// This model with everything else left to the defaults.
    #[must_use]
    pub fn new(provider: Provider, model: impl Into<String>, key: Option<Secret>) -> Self {
        Self {
            provider,
            model: model.into(),
            base_url: None,
            key,
            max_tokens: None,
            temperature: None,
            system_prompt: None,
            timeouts: Timeouts::default(),
            retries: Retries::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_names_give_their_provider_away_or_keep_it_open() {
        for (text, provider, model) in [
            ("anthropic/claude-x", Some(Provider::Anthropic), "claude-x"),
            ("claude-x", Some(Provider::Anthropic), "claude-x"),
            ("gpt-9", Some(Provider::OpenAi), "gpt-9"),
            ("o4-mini", Some(Provider::OpenAi), "o4-mini"),
            ("ollama/llama3:8b", Some(Provider::Ollama), "llama3:8b"),
            ("google/gemini-9", Some(Provider::Gemini), "gemini-9"),
            ("meta-llama/llama-4", None, "meta-llama/llama-4"),
            ("openai/meta-llama/llama-4", Some(Provider::OpenAi), "meta-llama/llama-4"),
            ("orca", None, "orca"),
        ] {
            assert_eq!(ModelName::new(text), ModelName { provider, model: model.into() }, "{text}");
        }
    }

    #[test]
    fn every_provider_is_found_by_its_name() {
        for provider in Provider::ALL {
            assert_eq!(provider.as_str().parse(), Ok(provider));
        }
        assert!("bard".parse::<Provider>().is_err());
    }
}
