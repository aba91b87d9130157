//! The size of a model's context: from the configuration, a refusal, the model's server, or the table of known models.

use std::time::Duration;

use hfs_core::{ContextLimit, LimitSource};
use reqwest::Method;
use serde_json::{Value, json};

use super::models::read_text;
use super::{ProviderModel, endpoint, json};
use crate::Provider;

/// How long the server may take to answer. Without an answer, the limit is not known.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// Contexts of well-known models, by the beginning of the name; the first match counts. Where the provider limits the
/// conversation below the context, that limit.
///
/// A model that is not listed has an unknown limit, since a wrong number would leave out messages without need.
const KNOWN_MODELS: [(&str, u64); 27] = [
    ("claude-instant", 100_000),
    ("claude-2.0", 100_000),
    ("claude-", 200_000),
    ("gpt-5", 272_000),
    ("gpt-4.1", 1_047_576),
    ("gpt-4o", 128_000),
    ("gpt-4.5", 128_000),
    ("gpt-4-turbo", 128_000),
    ("gpt-4-1106", 128_000),
    ("gpt-4-0125", 128_000),
    ("gpt-4-32k", 32_768),
    ("gpt-4", 8_192),
    ("gpt-3.5-turbo", 16_385),
    ("gpt-oss", 131_072),
    ("chatgpt-4o", 128_000),
    ("o1-mini", 128_000),
    ("o1-preview", 128_000),
    ("o1", 200_000),
    ("o3", 200_000),
    ("o4-mini", 200_000),
    ("gemini-1.5", 1_000_000),
    ("gemini-2", 1_048_576),
    ("gemini-3", 1_048_576),
    ("grok-4", 256_000),
    ("grok-3", 131_072),
    ("deepseek-chat", 128_000),
    ("deepseek-reasoner", 128_000),
];

/// Names of the limit in the lists of models of various servers, the more exact one first.
const LIMIT_FIELDS: [&str; 13] = [
    "loaded_context_length",
    "max_model_len",
    "max_input_tokens",
    "inputTokenLimit",
    "context_length",
    "context_window",
    "max_context_length",
    "max_context_window_tokens",
    "max_context_tokens",
    "availableContextTokens",
    "context_size",
    "contextLength",
    "n_ctx",
];

/// The context of a model in the table.
fn known_context(model: &str) -> Option<u64> {
    // Gateways put the provider before the name.
    let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    KNOWN_MODELS.iter().find(|(beginning, _)| name.starts_with(beginning)).map(|(_, tokens)| *tokens)
}

/// The limit in an item of a list of models, or in an object within it.
pub(super) fn limit_in(item: &Value) -> Option<u64> {
    let of = |fields: &Value| {
        LIMIT_FIELDS
            .iter()
            .find_map(|name| super::reply::token_count(fields.get(*name)?).filter(|tokens| *tokens > 0))
    };
    of(item).or_else(|| {
        let inner =
            ["top_provider", "meta", "limits", "capabilities", "model_spec", "metadata", "model_info"];
        inner
            .iter()
            .filter_map(|name| item.get(*name))
            .find_map(|inner| of(inner).or_else(|| inner.get("limits").and_then(&of)))
    })
}

/// The limit in Ollama's description of a model, where the name of the field begins with the architecture.
fn limit_in_ollama(description: &Value) -> Option<u64> {
    let info = description.get("model_info")?.as_object()?;
    info.iter()
        .find(|(name, _)| name.ends_with(".context_length"))
        .and_then(|(_, value)| super::reply::token_count(value))
}

/// The limit that a refusal names, such as `maximum context length is 8192 tokens`.
pub(super) fn limit_in_refusal(error: &super::ServerError) -> Option<u64> {
    const PHRASES: [&str; 20] = [
        "maximum context length (",
        "maximum allowed input length of ",
        "maximum input length of ",
        "exceeds the limit of ",
        "model token limit: ",
        "model's max of ",
        "context length of only ",
        "must have less than ",
        "maximum context length is ",
        "maximum context length of ",
        "context length is only ",
        "context length of ",
        "context window of ",
        "context size of ",
        "context size (",
        "maximum prompt length is ",
        "maximum number of tokens allowed (",
        "maximum number of tokens (",
        "tokens > ",
        "n_ctx\": ",
    ];
    let text = error.searchable();
    let number = |rest: &str| -> Option<u64> {
        let digits: String =
            rest.chars().take_while(|c| c.is_ascii_digit() || matches!(c, ',' | '_')).collect();
        digits.replace([',', '_'], "").parse().ok().filter(|tokens| *tokens >= 256)
    };
    error
        .context_tokens
        .or_else(|| PHRASES.iter().find_map(|phrase| number(text.split_once(phrase)?.1.trim_start())))
}

impl ProviderModel {
    /// The limit that is known without asking the server. A server at a configured address may run a model with a smaller
    /// context than its name promises.
    pub fn known_limit(&self) -> Option<ContextLimit> {
        // Ollama drops what does not fit into the context that it was told to load.
        let loaded = self.config.num_ctx.filter(|_| self.config.provider == Provider::Ollama);
        let configured = [self.config.context_tokens, loaded].into_iter().flatten().min().map(u64::from);
        let configured = configured.map(|tokens| (tokens, LimitSource::Configuration));
        let learned = || {
            let tokens = *hfs_core::lock_unpoisoned(&self.refused_context);
            tokens.map(|tokens| (tokens, LimitSource::Server))
        };
        let listed = || Some((self.listed_context.get().copied().flatten()?, LimitSource::Server));
        let known = || {
            let is_own_server = self.config.base_url.is_none();
            let was_asked = self.listed_context.get().is_some();
            let tokens = known_context(&self.config.model).filter(|_| is_own_server || was_asked)?;
            Some((tokens, LimitSource::Table))
        };
        let found = configured.or_else(learned).or_else(listed).or_else(known);
        found.map(|(tokens, source)| ContextLimit { tokens, source })
    }

    /// Asks the server for the limit, once.
    pub(super) async fn ask_for_limit(&self) {
        let ask =
            || async { tokio::time::timeout(SERVER_TIMEOUT, self.ask_for_context()).await.ok().flatten() };
        self.listed_context.get_or_init(ask).await;
    }

    async fn ask_for_context(&self) -> Option<u64> {
        if self.config.provider != Provider::Ollama {
            return self.list_models().await.ok()?.context_tokens;
        }
        let url = endpoint::ollama_show_url(self.base_url().ok()?);
        for model in std::iter::once(self.config.model.as_str()).chain(self.name_without_provider()) {
            let body = json!({"model": model}).to_string();
            let response = self.send(&Method::POST, url.clone(), Some(body.as_bytes())).await.ok()?;
            if response.status().is_success() {
                return limit_in_ollama(&json::parse_document(&read_text(response).await.ok()?)?);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::ServerError;
    use super::*;

    #[test]
    fn the_limit_is_found_in_the_lists_of_all_servers() {
        for (server, item) in [
            ("vLLM", json!({"id": "m", "max_model_len": 8_192})),
            (
                "OpenRouter",
                json!({"id": "m", "context_length": 8_192, "top_provider": {"context_length": 9}}),
            ),
            ("Groq", json!({"id": "m", "context_window": 8_192, "max_completion_tokens": 100})),
            ("Mistral", json!({"id": "m", "max_context_length": 8_192})),
            ("LM Studio", json!({"id": "m", "loaded_context_length": 8_192, "max_context_length": 131_072})),
            ("Gemini", json!({"name": "models/m", "inputTokenLimit": 8_192, "outputTokenLimit": 100})),
            ("Anthropic", json!({"id": "m", "max_input_tokens": 8_192, "max_tokens": 100})),
            ("Copilot", json!({"id": "m", "capabilities": {"limits": {"max_context_window_tokens": 8_192}}})),
            ("Venice", json!({"id": "m", "model_spec": {"availableContextTokens": 8_192}})),
            ("llama.cpp", json!({"id": "m", "meta": {"n_ctx": 8_192, "n_ctx_train": 131_072}})),
        ] {
            assert_eq!(limit_in(&item), Some(8_192), "{server}");
        }
        assert_eq!(limit_in(&json!({"id": "m", "max_tokens": 100, "context_length": null})), None);
        let ollama = json!({"model_info": {"general.architecture": "llama", "llama.context_length": 8_192}});
        assert_eq!(limit_in_ollama(&ollama), Some(8_192));
    }

    #[test]
    fn well_known_models_are_in_the_table_and_others_are_unknown() {
        for (model, tokens) in [
            ("claude-sonnet-4-6", Some(200_000)),
            ("anthropic/claude-opus-4", Some(200_000)),
            ("gpt-4-turbo-2024-04-09", Some(128_000)),
            ("gpt-4-0613", Some(8_192)),
            ("gpt-4o-mini", Some(128_000)),
            ("models/gemini-3.5-flash", Some(1_048_576)),
            ("llama3:8b", None),
            ("my-gpt-4", None),
        ] {
            assert_eq!(known_context(model), tokens, "{model}");
        }
    }

    #[test]
    fn a_refusal_names_the_limit() {
        for (body, tokens) in [
            (
                json!({"error": {"message": "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."}}),
                Some(8_192),
            ),
            (
                json!({"error": {"message": "prompt is too long: 208310 tokens > 200000 maximum"}}),
                Some(200_000),
            ),
            (
                json!({"error": {"message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}}),
                Some(1_048_576),
            ),
            (
                json!({"error": {"message": "the request exceeds the available context size. try increasing it", "type": "exceed_context_size_error", "n_prompt_tokens": 5_000, "n_ctx": 4_096}}),
                Some(4_096),
            ),
            (json!({"error": {"message": "context length of 32,768 tokens exceeded"}}), Some(32_768)),
            (
                json!({"error": {"message": "Input length (265330) exceeds model's maximum context length (262144)."}}),
                Some(262_144),
            ),
            (
                json!({"error": {"message": "Input length 877338 exceeds the maximum allowed input length of 639968 tokens", "code": "400"}}),
                Some(639_968),
            ),
            (
                json!({"error": "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000"}),
                Some(4_096),
            ),
            (json!({"error": {"message": "the prompt is too long"}}), None),
        ] {
            assert_eq!(limit_in_refusal(&ServerError::in_payload(&body).unwrap()), tokens, "{body}");
        }
    }
}
