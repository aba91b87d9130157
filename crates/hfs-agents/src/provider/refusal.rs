//! What a model does not take, learned from its refusals.
//!
//! No API reports which parameters a model accepts, and a list of models would always be out of date. So a request is
//! sent as configured; if the server refuses it and names the limit or the parameter, the request is changed and sent
//! again. This costs one request per process and parameter: a refusal changes all later requests to the model.

use super::server_error::ServerError;
use crate::Provider;

/// How many changes one request may go through before its refusal is an error.
pub(super) const MAX_CHANGES: usize = 8;

/// Smaller numbers in a refusal are not limits of a model.
const MIN_LIMIT: u32 = 16;

/// Words that name the maximum length of a reply.
const MAX_TOKENS_NAMES: [&str; 14] = [
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "maxoutputtokens",
    "max_new_tokens",
    "max_tokens_to_sample",
    "num_predict",
    "maximum tokens",
    "max tokens",
    "max completion tokens",
    "output tokens",
    "completion tokens",
    "in the completion",
    "for the completion",
];

/// Words with which servers say that they do not take something.
const REFUSING_WORDS: [&str; 34] = [
    "unsupported",
    "not support",
    "n't support",
    "not allowed",
    "not permitted",
    "not enabled",
    "not available",
    "not accept",
    "n't accept",
    "not implemented",
    "no longer",
    "unknown",
    "unrecognized",
    "unrecognised",
    "unexpected",
    "extra ",
    "invalid",
    "forbidden",
    "must be",
    "must not",
    "cannot be",
    "can't be",
    "can not be",
    "deprecated",
    "only ",
    "range",
    "too large",
    "too high",
    "exceed",
    "at most",
    "less than",
    "remove",
    "expected",
    "no endpoints",
];

/// The name of the parameter for the maximum length in OpenAI's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum TokenParameter {
    /// The name that every other server knows.
    #[default]
    MaxTokens,
    /// The name that reasoning models of OpenAI require.
    MaxCompletionTokens,
}

impl TokenParameter {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// What to leave out of requests, or to limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is an independent property of a model")]
pub(super) struct Restrictions {
    /// Upper limit for the maximum length of a reply.
    pub max_tokens: Option<u32>,
    pub omit_max_tokens: bool,
    pub token_parameter: TokenParameter,
    pub omit_temperature: bool,
    pub omit_stream: bool,
    pub omit_stream_options: bool,
    pub omit_cache_control: bool,
    pub omit_images: bool,
    pub omit_thinking: bool,
    /// Put the system prompt into the first turn of the user.
    pub omit_system: bool,
    /// Send the model's name without the provider's before it.
    pub omit_provider_name: bool,
}

/// What a request contained that a server may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is an independent property of a request")]
pub(super) struct Sent {
    pub max_tokens: Option<u32>,
    pub token_parameter: TokenParameter,
    pub temperature: bool,
    /// Whether the reply is to be streamed.
    pub stream: bool,
    pub stream_options: bool,
    pub cache_control: bool,
    pub images: bool,
    pub thinking: bool,
    pub system: bool,
    /// Whether the model's name began with that of its provider.
    pub provider_name: bool,
}

/// A change to a refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    MaxTokens(u32),
    /// For this request only, whose prompt leaves no more room.
    MaxTokensOnce(u32),
    OmitMaxTokens,
    TokenParameter(TokenParameter),
    OmitTemperature,
    OmitStream,
    OmitStreamOptions,
    OmitCacheControl,
    OmitImages,
    OmitThinking,
    OmitSystem,
    OmitProviderName,
}

impl Change {
    /// Whether the change holds for later requests too.
    pub const fn is_lasting(self) -> bool {
        !matches!(self, Self::MaxTokensOnce(_))
    }
}

impl Restrictions {
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::MaxTokens(limit) | Change::MaxTokensOnce(limit) => {
                self.max_tokens = Some(self.max_tokens.map_or(limit, |known| known.min(limit)));
            }
            Change::OmitMaxTokens => self.omit_max_tokens = true,
            Change::TokenParameter(parameter) => self.token_parameter = parameter,
            Change::OmitTemperature => self.omit_temperature = true,
            Change::OmitStream => self.omit_stream = true,
            Change::OmitStreamOptions => self.omit_stream_options = true,
            Change::OmitCacheControl => self.omit_cache_control = true,
            Change::OmitImages => self.omit_images = true,
            Change::OmitThinking => self.omit_thinking = true,
            Change::OmitSystem => self.omit_system = true,
            Change::OmitProviderName => self.omit_provider_name = true,
        }
    }
}

/// The change after which the server may accept the request. `None` if the error is not a refusal of something that was
/// sent.
pub(super) fn change_for(
    provider: Provider,
    status: Option<u16>,
    error: &ServerError,
    sent: &Sent,
) -> Option<Change> {
    if !matches!(status, None | Some(400 | 402 | 404 | 413 | 415 | 422 | 500 | 501)) {
        return None;
    }
    let text = error.searchable();
    if let Some(tokens) = sent.max_tokens
        && let Some(change) = max_tokens_change(provider, &text, tokens, sent.token_parameter)
    {
        return Some(change);
    }
    if status == Some(402) {
        return None;
    }
    if sent.stream_options && refuses(error, "stream_options") {
        return Some(Change::OmitStreamOptions);
    }
    if sent.stream && provider != Provider::Gemini && refuses_stream(error, &text) {
        return Some(Change::OmitStream);
    }
    if sent.temperature && refuses(error, "temperature") {
        return Some(Change::OmitTemperature);
    }
    if sent.cache_control && (refuses(error, "cache_control") || refuses_words(&text, "prompt caching")) {
        return Some(Change::OmitCacheControl);
    }
    if sent.thinking && ["thinking", "signature", "redacted_thinking"].iter().any(|name| refuses(error, name))
    {
        return Some(Change::OmitThinking);
    }
    if sent.images && refuses_images(&error.message.to_lowercase()) {
        return Some(Change::OmitImages);
    }
    if sent.system && refuses_system(&text) {
        return Some(Change::OmitSystem);
    }
    None
}

/// Whether the server sends whole replies only: to this model, or to this account.
fn refuses_stream(error: &ServerError, text: &str) -> bool {
    const WORDS: [&str; 7] = [
        "to stream this model",
        "streaming is not",
        "unsupported for streaming",
        "not support streaming",
        "n't support streaming",
        "not support stream ",
        "'stream' does not support",
    ];
    error.codes.iter().any(|code| code == "stream") || WORDS.iter().any(|words| text.contains(words))
}

/// Whether the model takes no system prompt, which is the first message in most protocols.
fn refuses_system(text: &str) -> bool {
    const NAMES: [&str; 7] = [
        "system role",
        "role 'system'",
        "system message",
        "system instruction",
        "system prompt",
        "developer instruction",
        "only user and assistant roles",
    ];
    const FIRST_ROLE: [&str; 2] = ["messages[0].role", "messages.0.role"];
    NAMES.iter().any(|name| refuses_words(text, name)) || FIRST_ROLE.iter().any(|name| names(text, name))
}

/// Whether the error says that a parameter is not accepted: by its `param`, or in a sentence that names it.
fn refuses(error: &ServerError, parameter: &str) -> bool {
    error.codes.iter().any(|code| code == parameter) || refuses_words(&error.searchable(), parameter)
}

/// Whether a sentence contains these words and a refusal.
fn refuses_words(text: &str, words: &str) -> bool {
    sentences(text)
        .any(|sentence| names(sentence, words) && REFUSING_WORDS.iter().any(|word| sentence.contains(word)))
}

fn sentences(text: &str) -> impl Iterator<Item = &str> {
    text.split(['\n', ';', '!']).flat_map(|line| line.split(". "))
}

/// Whether the words occur in the text and not only as part of longer words.
fn names(text: &str, words: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(words).any(|(at, found)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(at + found.len()..).and_then(|after| after.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Whether the model takes no images. An image with a wrong format or size is another error.
fn refuses_images(text: &str) -> bool {
    const ONLY_TEXT: [&str; 4] =
        ["only supports text", "supports text only", "supports only text", "0 image(s) may be provided"];
    const ABSENCES: [&str; 4] = ["is not a multimodal", "is not a vision", "not loaded", "missing data"];
    const SUBJECTS: [&str; 8] = [
        "image",
        "vision",
        "multimodal",
        "multi-modal",
        "modalit",
        "mmproj",
        "content must be a string",
        "expected a string",
    ];
    const OTHER_REASONS: [&str; 12] = [
        "format",
        "media type",
        "media_type",
        "mime",
        "too large",
        "size",
        "exceed",
        "decode",
        "download",
        "corrupt",
        "dimension",
        "could not process",
    ];
    let is_refused = sentences(text).any(|sentence| {
        SUBJECTS.iter().any(|subject| sentence.contains(subject))
            && REFUSING_WORDS.iter().chain(&ABSENCES).any(|word| sentence.contains(word))
    });
    is_refused && !OTHER_REASONS.iter().any(|reason| text.contains(reason))
        || ONLY_TEXT.iter().any(|words| text.contains(words))
}

fn max_tokens_change(provider: Provider, text: &str, sent: u32, parameter: TokenParameter) -> Option<Change> {
    // A maximum below zero is what the prompt leaves of the context.
    if text.contains("got -") {
        return None;
    }
    if let Some((_, affordable)) = text.split_once("can only afford ") {
        let affordable = numbers(affordable).next().filter(|limit| *limit < sent)?;
        return Some(Change::MaxTokensOnce(affordable));
    }
    if !MAX_TOKENS_NAMES.iter().any(|name| text.contains(name)) && !text.contains("inputs` tokens") {
        return None;
    }
    if provider == Provider::OpenAi
        && let Some(change) = token_parameter_change(text, parameter)
    {
        return Some(change);
    }
    const CONTEXT_WORDS: [&str; 8] = [
        "context length",
        "context size",
        "context limit",
        "context window of",
        "max_model_len",
        "inputs` tokens",
        "input tokens",
        "input length",
    ];
    if CONTEXT_WORDS.iter().any(|word| text.contains(word)) {
        return room_in_context(text, sent).map(Change::MaxTokensOnce);
    }
    // The limit is the largest of the smaller numbers; others are lower ends of ranges or parts of names.
    let limit = numbers(text).filter(|number| (MIN_LIMIT..sent).contains(number)).max();
    if let Some(limit) = limit {
        let is_exclusive = text.contains(&format!("{limit} (exclusive)"));
        return Some(Change::MaxTokens(if is_exclusive { limit - 1 } else { limit }));
    }
    if !MAX_TOKENS_NAMES.iter().any(|name| refuses_words(text, name)) {
        return None;
    }
    match provider {
        // Anthropic's protocol requires the parameter.
        Provider::Anthropic => (sent > 1_024).then_some(Change::MaxTokens(sent / 2)),
        Provider::OpenAi | Provider::Gemini | Provider::Ollama => Some(Change::OmitMaxTokens),
    }
}

/// The other name of the parameter, if the server does not know the one that was sent.
fn token_parameter_change(text: &str, sent: TokenParameter) -> Option<Change> {
    let is_unknown = sentences(text).any(|sentence| {
        names(sentence, sent.as_str())
            && [
                "unsupported parameter",
                "not supported",
                "unknown",
                "unrecognized",
                "unexpected",
                "extra ",
                "not permitted",
                "instead",
                "unsupported_parameter",
                "no longer",
            ]
            .iter()
            .any(|word| sentence.contains(word))
    });
    let other = match sent {
        TokenParameter::MaxTokens => TokenParameter::MaxCompletionTokens,
        TokenParameter::MaxCompletionTokens => TokenParameter::MaxTokens,
    };
    if !is_unknown {
        return None;
    }
    // Only OpenAI's models refuse the older name, and they say which one they want.
    let takes_other = sent == TokenParameter::MaxCompletionTokens || names(text, other.as_str());
    Some(if takes_other { Change::TokenParameter(other) } else { Change::OmitMaxTokens })
}

/// The tokens that the prompt leaves, from a message with the sizes of context and prompt. `None` if the prompt alone is
/// too long.
fn room_in_context(text: &str, sent: u32) -> Option<u32> {
    let all: Vec<u32> = numbers(text).filter(|number| *number != sent).collect();
    let named_prompt = all.iter().find(|prompt| all.contains(&prompt.saturating_add(sent)));
    let others = all.iter().filter(|number| {
        Some(*number) != named_prompt
            && named_prompt.is_none_or(|prompt| **number != prompt.saturating_add(sent))
    });
    let context = *others.max()?;
    let smaller = |prompt: &&u32| **prompt < context && prompt.saturating_add(sent) > context;
    let prompt = named_prompt.or_else(|| all.iter().find(smaller));
    let room = context.checked_sub(*prompt?)?;
    (room >= MIN_LIMIT && room < sent).then_some(room)
}

/// The whole numbers in a text, without those in names such as `gpt-4`.
fn numbers(text: &str) -> impl Iterator<Item = u32> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, ',' | '_' | '-' | '.');
    text.split(move |c| !is_part(c)).filter_map(|word| {
        let word = word.trim_end_matches(['.', ',', '-']);
        let is_number = word.starts_with(|c: char| c.is_ascii_digit())
            && word.chars().all(|c| c.is_ascii_digit() || c == ',' || c == '_');
        is_number.then(|| word.replace([',', '_'], "").parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(message: &str) -> ServerError {
        ServerError::in_payload(&json!({"error": {"message": message}})).unwrap()
    }

    fn max_tokens(message: &str, sent: u32) -> Option<Change> {
        let sent = Sent { max_tokens: Some(sent), ..Sent::default() };
        change_for(Provider::OpenAi, Some(400), &error(message), &sent)
    }

    #[test]
    fn the_limit_of_a_model_is_found_in_the_refusals_of_all_servers() {
        for (message, limit) in [
            (
                "max_tokens is too large: 400000. This model supports at most 16384 completion tokens, whereas you provided 400000.",
                16_384,
            ),
            (
                "max_tokens: 400000 > 64000, which is the maximum allowed number of output tokens for claude-3-7-sonnet-20250219",
                64_000,
            ),
            (
                "Unable to submit request because it has a maxOutputTokens value of 400000 but the supported range is from 1 (inclusive) to 65537 (exclusive).",
                65_536,
            ),
            (
                "`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the `context_window` for this model",
                8_192,
            ),
            ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8_192),
            ("Range of max_tokens should be [1, 8192]", 8_192),
            (
                "The maximum tokens you requested exceeds the model limit of 4096. Try again with a maximum tokens value that is lower than 4096.",
                4_096,
            ),
            (
                "The parameter `max_completion_tokens` specified in the request are not valid: integer above maximum value, expected a value <= 12288, but got 400000 instead.",
                12_288,
            ),
            (
                "litellm.BadRequestError: OpenAIException - max_tokens is too large: 400,000. At most 128,000",
                128_000,
            ),
            ("too many tokens: max tokens must be less than or equal to 4096, given 400000", 4_096),
        ] {
            assert_eq!(max_tokens(message, 400_000), Some(Change::MaxTokens(limit)), "{message}");
        }
    }

    #[test]
    fn a_prompt_that_leaves_less_room_limits_its_own_request_only() {
        for (message, room) in [
            (
                "This model's maximum context length is 32768 tokens. However, you requested 60100 tokens (100 in the messages, 60000 in the completion). Please reduce the length of the messages or completion.",
                32_668,
            ),
            (
                "'max_tokens' or 'max_completion_tokens' is too large: 60000. This model's maximum context length is 32768 tokens and your request has 100 input tokens (60000 > 32768 - 100).",
                32_668,
            ),
            (
                "input length and `max_tokens` exceed context limit: 30000 + 60000 > 80000, decrease input length or `max_tokens` and try again",
                50_000,
            ),
            (
                "`inputs` tokens + `max_new_tokens` must be <= 8193. Given: 100 `inputs` tokens and 60000 `max_new_tokens`",
                8_093,
            ),
            (
                "This request requires more credits, or fewer max_tokens. You requested up to 60000 tokens, but can only afford 2000.",
                2_000,
            ),
        ] {
            assert_eq!(max_tokens(message, 60_000), Some(Change::MaxTokensOnce(room)), "{message}");
        }
        for message in [
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.",
            "This model's maximum context length is 8192 tokens. However, you requested 70000 tokens (10000 in the messages, 60000 in the completion).",
        ] {
            assert_eq!(max_tokens(message, 60_000), None, "{message}");
        }
    }

    #[test]
    fn the_other_name_of_the_parameter_is_used_if_one_is_refused() {
        let refusal = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
        let expected = Change::TokenParameter(TokenParameter::MaxCompletionTokens);
        assert_eq!(max_tokens(refusal, 1_000), Some(expected));
        let sent = Sent {
            max_tokens: Some(8_192),
            token_parameter: TokenParameter::MaxCompletionTokens,
            ..Sent::default()
        };
        let refusal = "[{'type': 'extra_forbidden', 'loc': ('body', 'max_completion_tokens'), 'msg': 'Extra inputs are not permitted', 'input': 8192}]";
        assert_eq!(
            change_for(Provider::OpenAi, Some(400), &error(refusal), &sent),
            Some(Change::TokenParameter(TokenParameter::MaxTokens))
        );
        assert_eq!(
            max_tokens("Unrecognized request argument supplied: max_tokens", 9),
            Some(Change::OmitMaxTokens)
        );
    }

    #[test]
    fn without_a_number_the_maximum_is_halved_where_it_is_required_and_else_omitted() {
        let message = error("max_tokens exceeds the limit of this model");
        let sent = Sent { max_tokens: Some(32_000), ..Sent::default() };
        let change = |provider| change_for(provider, Some(400), &message, &sent);
        assert_eq!(change(Provider::Anthropic), Some(Change::MaxTokens(16_000)));
        assert_eq!(change(Provider::Gemini), Some(Change::OmitMaxTokens));
    }

    #[test]
    fn each_refused_parameter_is_recognized_and_only_if_it_was_sent() {
        let all = Sent {
            max_tokens: None,
            token_parameter: TokenParameter::MaxTokens,
            temperature: true,
            stream: true,
            stream_options: true,
            cache_control: true,
            images: true,
            thinking: true,
            system: true,
            provider_name: true,
        };
        for (message, change) in [
            ("Unrecognized request argument supplied: stream_options", Change::OmitStreamOptions),
            (
                "Unsupported value: 'temperature' does not support 0.3 with this model. Only the default (1) value is supported.",
                Change::OmitTemperature,
            ),
            ("`temperature` is deprecated for this model.", Change::OmitTemperature),
            ("system.0.cache_control: Extra inputs are not permitted", Change::OmitCacheControl),
            ("messages.1.content.0: Invalid `signature` in `thinking` block", Change::OmitThinking),
            ("this model does not support image input (ref: 1)", Change::OmitImages),
            (
                "Failed to deserialize the JSON body into the target type: messages[94]: unknown variant `image_url`, expected `text` at line 1 column 2",
                Change::OmitImages,
            ),
            ("Invalid content type. image_url is only supported by certain models.", Change::OmitImages),
            ("messages[0].content must be a string", Change::OmitImages),
            ("No endpoints found that support image input", Change::OmitImages),
            (
                "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
                Change::OmitImages,
            ),
            ("At most 0 image(s) may be provided in one prompt.", Change::OmitImages),
            ("System role not supported", Change::OmitSystem),
            (
                "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
                Change::OmitSystem,
            ),
            (
                "body.messages.0.role: value is not a valid member; permitted: 'user', 'assistant'",
                Change::OmitSystem,
            ),
            ("messages: role 'system' is not supported", Change::OmitSystem),
            (
                "Your organization must be verified to stream this model. Please go to the settings.",
                Change::OmitStream,
            ),
            ("Streaming is not supported for this model", Change::OmitStream),
            ("The model is unsupported for streaming.", Change::OmitStream),
            ("'m' does not support prompt caching.", Change::OmitCacheControl),
            ("m is not a multimodal model", Change::OmitImages),
            ("Vision add-on is not loaded, but images were provided for processing", Change::OmitImages),
            ("this model is missing data required for image input", Change::OmitImages),
            ("Invalid parameter: model m only supports text input", Change::OmitImages),
            ("Developer instruction is not enabled for models/gemma-3-27b-it", Change::OmitSystem),
        ] {
            let error = error(message);
            assert_eq!(change_for(Provider::OpenAi, Some(400), &error, &all), Some(change), "{message}");
            assert_eq!(change_for(Provider::OpenAi, Some(400), &error, &Sent::default()), None, "{message}");
            assert_eq!(change_for(Provider::OpenAi, Some(401), &error, &all), None, "{message}");
        }
    }

    #[test]
    fn an_error_that_only_mentions_a_parameter_is_not_a_refusal_of_it() {
        let all = Sent { temperature: true, stream: true, images: true, system: true, ..Sent::default() };
        for message in [
            "The prompt about the temperature of the sea was blocked",
            "Your request failed. Check the temperature and other settings",
            "unsupported image format image/bmp",
            "image exceeds 5 MB maximum: 7 MB > 5 MB",
            "context too long",
            "unexpected end of stream",
            "Requests with max_tokens > 4096 must have stream=true",
        ] {
            assert_eq!(change_for(Provider::OpenAi, Some(400), &error(message), &all), None, "{message}");
        }
        let named =
            ServerError::in_payload(&json!({"error": {"message": "no", "param": "temperature"}})).unwrap();
        assert_eq!(change_for(Provider::OpenAi, Some(400), &named, &all), Some(Change::OmitTemperature));
    }
}
