//! Configuration of a model: provider, API key, timeouts, retries and sampling.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::provider::is_unencrypted;

/// A family of model providers that share a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Provider {
    /// OpenAI, and every server that implements its chat completions API.
    OpenAi,
    /// Anthropic.
    Anthropic,
    /// Google Gemini.
    Gemini,
    /// Ollama.
    Ollama,
}

impl Provider {
    /// All providers, in order of preference for [`detect_model`](crate::detect_model).
    pub const ALL: [Self; 4] = [Self::Anthropic, Self::OpenAi, Self::Gemini, Self::Ollama];

    /// Name in configuration files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }

    /// Display name.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI",
            Self::Anthropic => "Anthropic",
            Self::Gemini => "Gemini",
            Self::Ollama => "Ollama",
        }
    }

    /// Environment variables that may hold the API key, in order of precedence.
    #[must_use]
    pub const fn key_variables(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi => &["OPENAI_API_KEY"],
            Self::Anthropic => &["ANTHROPIC_API_KEY", Self::BEARER_VARIABLE],
            Self::Gemini => &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
            Self::Ollama => &["OLLAMA_API_KEY"],
        }
    }

    /// Environment variable with a key that is sent as a bearer token; see [`ModelConfig::is_bearer_token`].
    pub const BEARER_VARIABLE: &'static str = "ANTHROPIC_AUTH_TOKEN";

    /// Environment variable that may hold the base URL.
    #[must_use]
    pub const fn base_url_variable(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("OPENAI_BASE_URL"),
            Self::Anthropic => Some("ANTHROPIC_BASE_URL"),
            Self::Gemini => None,
            Self::Ollama => Some("OLLAMA_HOST"),
        }
    }

    /// Whether the provider's own server answers only with a key.
    #[must_use]
    pub const fn requires_key(self) -> bool {
        match self {
            Self::OpenAi | Self::Anthropic | Self::Gemini => true,
            Self::Ollama => false,
        }
    }

    /// Base URL used when none is configured.
    #[must_use]
    pub const fn default_base_url(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1/",
            Self::Anthropic => "https://api.anthropic.com/v1/",
            Self::Gemini => "https://generativelanguage.googleapis.com/v1beta/",
            Self::Ollama => "http://127.0.0.1:11434/",
        }
    }

    /// Model used when none is configured; `None` for Ollama, where it depends on the installed models.
    #[must_use]
    pub fn default_model(self) -> Option<&'static str> {
        DEFAULT_MODELS.iter().find(|(provider, _)| *provider == self).map(|(_, model)| *model)
    }
}

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

/// The text is not the name of a provider.
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

/// A model as written in a configuration: `anthropic/claude-sonnet-4-6`, or only the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelName {
    /// Provider, if the text names it or the model's name implies it.
    pub provider: Option<Provider>,
    /// The provider's name for the model.
    pub model: String,
}

impl ModelName {
    /// Parses a name, which may begin with that of a provider.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text = text.trim();
        if let Some((provider, model)) = split_provider(text) {
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

/// Splits a name such as `anthropic/claude-sonnet-4-6`.
///
/// The text before the first `/` counts as a provider only if it is the name of one: `meta-llama/llama-4` is a model name
/// as a whole.
pub(crate) fn split_provider(name: &str) -> Option<(Provider, &str)> {
    let (provider, model) = name.split_once('/')?;
    Some((provider.parse().ok()?, model))
}

/// Timeouts of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Time to establish a connection.
    pub connect: Duration,
    /// Time from the request to the first token of the reply. The default is long because reasoning models and servers
    /// that first load the model start late.
    pub first_token: Duration,
    /// Time between two tokens of the reply.
    pub between_tokens: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            first_token: Duration::from_secs(300),
            between_tokens: Duration::from_secs(120),
        }
    }
}

/// When to repeat a failed request. A request is repeated only if it failed before its first delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Total number of attempts; 0 counts as 1.
    pub max_attempts: u32,
    /// Delay before the second attempt. It doubles with each attempt; jitter shortens it by up to half.
    pub initial_delay: Duration,
    /// Upper limit for a delay. If the provider requests a longer one, the request fails instead.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 4,
            initial_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(60),
        }
    }
}

/// Text that replaces a key in messages.
const MASK: &str = "[key]";

/// Shorter keys are not masked: they are likely to occur in ordinary text by chance.
const MIN_MASKED_LEN: usize = 6;

/// A provider's API key.
///
/// It has no `Display`, and its `Debug` hides it. Providers repeat keys in their error messages, so every
/// message passes through [`ApiKey::mask_in`]. That removes this one known key only; the
/// scanner in hfs-exchange finds unknown secrets by their pattern.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(Arc<str>);

impl ApiKey {
    /// Creates a key from the trimmed text. Returns `None` if the text is blank.
    #[must_use]
    pub fn new(key: &str) -> Option<Self> {
        let key = key.trim();
        (!key.is_empty()).then(|| Self(key.into()))
    }

    /// The key itself, for the authorization header.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Replaces the key in `text`, in plain and in percent-encoded form.
    #[must_use]
    pub fn mask_in(&self, text: &str) -> String {
        if self.0.len() < MIN_MASKED_LEN {
            return text.to_owned();
        }
        let masked = text.replace(&*self.0, MASK);
        let encoded = percent_encoded(&self.0);
        if encoded == *self.0 { masked } else { masked.replace(&encoded, MASK) }
    }
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// What the variables name that replace the system's trusted certificates. The TLS library reads them by itself; they are here so that
/// an error can name them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificatePaths {
    /// `SSL_CERT_FILE`: a PEM file.
    pub file: Option<PathBuf>,
    /// `SSL_CERT_DIR`: a directory of PEM files.
    pub directory: Option<PathBuf>,
}

/// A model and everything needed to send requests to it.
///
/// `Debug` omits the base URL and the headers, which may contain a password.
#[derive(Clone, PartialEq)]
pub struct ModelConfig {
    /// Provider, which determines the protocol.
    pub provider: Provider,
    /// The provider's name for the model.
    pub model: String,
    /// Base URL such as `http://127.0.0.1:8080/v1`; `None` for [`Provider::default_base_url`].
    pub base_url: Option<String>,
    /// API key. A server at a configured base URL may not need one.
    pub key: Option<ApiKey>,
    /// Whether Anthropic's key is sent as a bearer token, as gateways expect it.
    pub is_bearer_token: bool,
    /// Further headers of every request. Their values may be secrets.
    pub headers: Vec<(String, String)>,
    /// Maximum length of a reply in tokens; `None` for the provider's default.
    pub max_tokens: Option<u32>,
    /// Sampling temperature; `None` for the provider's default.
    pub temperature: Option<f64>,
    /// Size of the context that Ollama loads the model with, in tokens; `None` to derive it from the conversation.
    pub num_ctx: Option<u32>,
    /// Size of the model's context in tokens; `None` to ask the server or to use what is known of the model.
    pub context_tokens: Option<u32>,
    /// System prompt, sent before the conversation.
    pub system_prompt: Option<String>,
    /// The trusted certificates, unless they are those of the system.
    pub certificates: CertificatePaths,
    /// Timeouts of a request.
    pub timeouts: Timeouts,
    /// When to repeat a failed request.
    pub retries: RetryPolicy,
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
    /// Creates a configuration with default settings.
    #[must_use]
    pub fn new(provider: Provider, model: impl Into<String>, key: Option<ApiKey>) -> Self {
        Self {
            provider,
            model: model.into(),
            base_url: None,
            key,
            is_bearer_token: false,
            headers: Vec::new(),
            max_tokens: None,
            temperature: None,
            num_ctx: None,
            context_tokens: None,
            system_prompt: None,
            certificates: CertificatePaths::default(),
            timeouts: Timeouts::default(),
            retries: RetryPolicy::default(),
        }
    }

    /// Whether the API key or a header is sent to another machine without encryption, where everyone in between can
    /// read it.
    #[must_use]
    pub fn exposes_secrets(&self) -> bool {
        let has_secrets = self.key.is_some() || !self.headers.is_empty();
        has_secrets && self.base_url.as_deref().is_some_and(is_unencrypted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provider_is_inferred_from_well_known_model_names_only() {
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
    fn every_provider_is_parsed_from_its_name() {
        for provider in Provider::ALL {
            assert_eq!(provider.as_str().parse(), Ok(provider));
        }
        assert!("bard".parse::<Provider>().is_err());
    }

    #[test]
    fn secrets_are_exposed_to_other_machines_without_tls_only() {
        let key = || ApiKey::new("sk-key");
        for (url, key, expected) in [
            (Some("http://models.example/v1"), key(), true),
            (Some("models.example:8080"), key(), true),
            (Some("http://192.168.1.2:8080/v1"), key(), true),
            (Some("http://models.example/v1"), None, false),
            (Some("https://models.example/v1"), key(), false),
            (Some("http://localhost:8080"), key(), false),
            (Some("http://127.0.0.2:8080"), key(), false),
            (Some("http://[::1]:8080"), key(), false),
            (None, key(), false),
        ] {
            let config =
                ModelConfig { base_url: url.map(Into::into), ..ModelConfig::new(Provider::OpenAi, "m", key) };
            assert_eq!(config.exposes_secrets(), expected, "{url:?}");
        }
        let headers = vec![("x-gateway".to_owned(), "secret".to_owned())];
        let base_url = Some("http://models.example".to_owned());
        let config = ModelConfig { base_url, headers, ..ModelConfig::new(Provider::OpenAi, "m", None) };
        assert!(config.exposes_secrets());
    }

    #[test]
    fn a_key_is_hidden_in_debug_output_and_masked_in_messages() {
        let key = ApiKey::new(" sk-very/secret+key ").unwrap();
        assert_eq!(format!("{key:?}"), "ApiKey(..)");
        assert_eq!(
            key.mask_in("bad key sk-very/secret+key at ?key=sk-very%2Fsecret%2Bkey"),
            "bad key [key] at ?key=[key]"
        );
    }

    #[test]
    fn blank_text_is_not_a_key() {
        assert_eq!(ApiKey::new(" \n"), None);
    }
}
