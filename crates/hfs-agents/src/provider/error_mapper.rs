//! Maps errors of the provider and the connection to [`AgentError`].
//!
//! Messages keep the provider's own words, but never a key or the URL.

use std::error::Error;
use std::time::Duration;

use hfs_core::{AgentError, Suggestion, WaitStage, plain_reason};
use reqwest::header::HeaderMap;
use reqwest::{StatusCode, Url};

use super::body::{ACCEPTED_ENCODING, BodyError};
use super::endpoint::parse_base;
use super::retry::{RetryAdvice, requested_delay, reset_delay, should_retry};
use super::server_error::{ServerError, html_words, is_html};
use crate::{ApiKey, ModelConfig, Provider};

/// Limit for a provider's message, in characters.
const MAX_MESSAGE: usize = 300;

/// Words of the connector's errors, which have no type that could be named: the proxy wants a name and a password.
const PROXY_AUTHENTICATION: [&str; 3] = [
    "tunnel error: proxy authorization required",
    "SOCKS error: credentials not accepted",
    // The proxy accepts none of the offered ways, which is only the one without a password by default.
    "SOCKS error: server does not support user/pass authentication",
];
/// The same for a proxy that does not connect to the server. An HTTP proxy has answered with any other status than success.
const PROXY_REFUSALS: [&str; 4] = [
    "tunnel error: unsuccessful",
    "SOCKS error: connection not allowed",
    "SOCKS error: command not supported",
    "SOCKS error: address type not supported",
];

/// A failed attempt to get a reply.
#[derive(Debug)]
pub(super) struct AttemptError {
    pub error: Box<AgentError>,
    pub retry: RetryAdvice,
    /// The status and the error of the server, if it answered with one.
    pub server: Option<Box<(Option<u16>, ServerError)>>,
}

impl AttemptError {
    /// An error after which no other attempt is made.
    pub fn permanent(error: AgentError) -> Self {
        Self { error: Box::new(error), retry: RetryAdvice::Never, server: None }
    }

    /// The error of a request that is not sent again. Says how long the server asks to wait, if that is longer than
    /// `limit`.
    pub fn with_requested_wait(mut self, limit: Duration) -> AgentError {
        if let RetryAdvice::After(wait) = self.retry
            && wait > limit
            && let AgentError::Unavailable { message, .. } = &mut *self.error
        {
            let whole_seconds = i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
            message
                .push_str(&format!("; it asks to wait {:#}", jiff::SignedDuration::from_secs(whole_seconds)));
        }
        *self.error
    }

    /// The same error, for a reply that was already streamed in part. A repeated request would stream that part twice and
    /// cost twice.
    pub fn without_retry(self) -> Self {
        Self { retry: RetryAdvice::Never, server: None, ..self }
    }
}

#[derive(Debug)]
pub(super) struct ProviderErrorMapper {
    /// Display name of the provider or of the configured server.
    label: String,
    provider: Provider,
    /// The key and the values of configured headers.
    secrets: Vec<ApiKey>,
    connect_timeout: Duration,
    /// Whether the configured address selects the model, as those of Azure's deployments do.
    is_model_in_address: bool,
}

/// The host and the port of an address. The rest may contain a password or a key.
fn host_of(url: &Url) -> Option<String> {
    let host = url.host_str()?.to_owned();
    Some(url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
}

/// The proxy that requests to an address go through, as reqwest chooses it.
fn proxy_of(url: &Url) -> Option<String> {
    let matcher = hyper_util::client::proxy::matcher::Matcher::from_system();
    let proxy = matcher.intercept(&url.as_str().parse().ok()?)?;
    host_of(&Url::parse(&proxy.uri().to_string()).ok()?)
}

/// Display name of the server at `base_url`, or of the provider's own server.
#[must_use]
pub fn server_label(provider: Provider, base_url: Option<&str>) -> String {
    let Some(base_url) = base_url else { return provider.title().to_owned() };
    let kind = if provider == Provider::OpenAi { "OpenAI-compatible" } else { provider.title() };
    let address = parse_base(base_url).as_ref().and_then(host_of);
    format!("the {kind} server at {}", address.as_deref().unwrap_or("an unknown address"))
}

impl ProviderErrorMapper {
    pub fn new(config: &ModelConfig) -> Self {
        let provider = config.provider;
        let label = server_label(provider, config.base_url.as_deref());
        let header_values = config.headers.iter().filter_map(|(_, value)| ApiKey::new(value));
        let secrets = config.key.clone().into_iter().chain(header_values).collect();
        let is_model_in_address = config.base_url.as_ref().is_some_and(|url| url.contains("/deployments/"));
        Self { label, provider, secrets, connect_timeout: config.timeouts.connect, is_model_in_address }
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    fn set_key_suggestion(&self) -> Suggestion {
        let variable = self.provider.key_variables().first();
        Suggestion::SetApiKey {
            provider: self.label.clone(),
            variable: variable.map(|name| (*name).to_owned()),
        }
    }

    pub fn missing_key(&self) -> AgentError {
        AgentError::Denied {
            provider: self.label.clone(),
            message: "no API key is set".into(),
            suggestion: Some(self.set_key_suggestion()),
        }
    }

    /// The base URL, a header or another setting cannot be used.
    pub fn invalid_configuration(&self, message: &str) -> AttemptError {
        let message = self.sanitize(message);
        AttemptError::permanent(AgentError::Misconfigured { provider: self.label.clone(), message })
    }

    pub fn redirects_too_often(&self) -> AttemptError {
        self.rejected("it redirects too many times", Some(Suggestion::CheckBaseUrl))
    }

    /// The stream ended without the provider's end marker. `stray_text` is what the server sent beside its protocol.
    pub fn truncated_stream(&self, stray_text: Option<&str>) -> AttemptError {
        let message = "the connection ended before the reply was complete";
        match stray_text {
            Some(text) => self.unavailable(&format!("{message}: {text}"), None, RetryAdvice::Backoff),
            None => self.unavailable(message, None, RetryAdvice::Backoff),
        }
    }

    /// The server answered with text instead of a reply.
    pub fn not_a_reply(&self, text: &str) -> AttemptError {
        if is_html(text) {
            let message = format!("it sent a web page instead of a reply: {}", html_words(text));
            self.rejected(&message, Some(Suggestion::CheckBaseUrl))
        } else {
            self.malformed(&format!("it sent text instead of a reply: {text}"))
        }
    }

    pub fn malformed_payload(&self, reason: &str) -> AttemptError {
        self.malformed(&format!("a chunk of the stream is not JSON ({reason})"))
    }

    /// A part of the reply did not arrive within `limit`.
    pub fn timed_out(&self, stage: WaitStage, limit: Duration) -> AttemptError {
        // A limit that depends on pings has many digits.
        let limit = if limit > Duration::from_secs(1) { Duration::from_secs(limit.as_secs()) } else { limit };
        let message = match stage {
            WaitStage::Connection => format!("no connection within {limit:?}"),
            WaitStage::FirstToken => format!("no answer within {limit:?}"),
            WaitStage::NextToken => format!("no more words for {limit:?}"),
        };
        // A reply that started late may have been paid for, and the next one would start as late.
        let retry = if stage == WaitStage::Connection { RetryAdvice::Backoff } else { RetryAdvice::Never };
        let mut error = self.unavailable(&message, None, retry);
        if let AgentError::Unavailable { suggestion, .. } = &mut *error.error {
            *suggestion = Some(Suggestion::RaiseTimeout(stage));
        }
        error
    }

    /// Makes a message safe to show: one short line without control characters and without secrets.
    pub fn sanitize(&self, text: &str) -> String {
        let masked = self.secrets.iter().fold(text.to_owned(), |text, secret| secret.mask_in(&text));
        let visible: String =
            masked.chars().map(|c| if c.is_control() { ' ' } else { c }).take(4 * MAX_MESSAGE).collect();
        let mut line = visible.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = line.char_indices().nth(MAX_MESSAGE) {
            line.truncate(end);
            line.push('…');
        }
        line
    }

    fn unavailable(&self, message: &str, retry_after: Option<Duration>, retry: RetryAdvice) -> AttemptError {
        let message = self.sanitize(message);
        let error =
            AgentError::Unavailable { provider: self.label.clone(), message, retry_after, suggestion: None };
        AttemptError { error: Box::new(error), retry, server: None }
    }

    fn malformed(&self, message: &str) -> AttemptError {
        let message = self.sanitize(message);
        AttemptError::permanent(AgentError::Malformed { provider: self.label.clone(), message })
    }

    fn rejected(&self, message: &str, suggestion: Option<Suggestion>) -> AttemptError {
        let message = self.sanitize(message);
        AttemptError::permanent(AgentError::Rejected { provider: self.label.clone(), message, suggestion })
    }

    fn denied(&self, message: &str, suggestion: Option<Suggestion>) -> AttemptError {
        let message = self.sanitize(message);
        AttemptError::permanent(AgentError::Denied { provider: self.label.clone(), message, suggestion })
    }

    /// Maps an error of the connection to `url`.
    pub fn connection_error(&self, error: &reqwest::Error, url: &Url) -> AttemptError {
        // The outermost error contains the URL, which may hold a password. The innermost one has the cause.
        let cause = innermost(error);
        if let Some(tls) = find_in_chain::<rustls::Error>(error) {
            return self.tls_error(tls);
        }
        let proxy = proxy_of(url);
        if let Some(proxy) = proxy.as_ref().filter(|_| PROXY_AUTHENTICATION.contains(&cause.as_str())) {
            return self.proxy_authentication(proxy);
        }
        if let Some(proxy) = proxy.as_ref().filter(|_| PROXY_REFUSALS.contains(&cause.as_str())) {
            return self.proxy_refusal(proxy, url);
        }
        let proxy = proxy.map_or_else(String::new, |proxy| format!(" through the proxy {proxy}"));
        if find_in_chain::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
            let message = format!("the answer{proxy} is not HTTP ({cause})");
            self.rejected(&message, Some(Suggestion::CheckBaseUrl))
        } else if error.is_connect() && error.is_timeout() {
            self.timed_out(WaitStage::Connection, self.connect_timeout)
        } else if error.is_connect() {
            self.unavailable(&format!("no connection{proxy} ({cause})"), None, RetryAdvice::Backoff)
        } else if error.is_timeout() {
            self.may_be_paid_for(&format!("the request{proxy} timed out"))
        } else if error.is_builder() {
            self.rejected(&format!("the request is not valid ({cause})"), None)
        } else {
            self.unavailable(&format!("the connection{proxy} broke ({cause})"), None, RetryAdvice::Backoff)
        }
    }

    /// The proxy at `host` is not used without a name and a password.
    fn proxy_authentication(&self, host: &str) -> AttemptError {
        let message = format!(
            "the proxy {host} wants a name and a valid password; put them before the host in the variable that names the \
             proxy: NAME:PASSWORD@HOST"
        );
        self.unavailable(&message, None, RetryAdvice::Never)
    }

    /// The proxy at `proxy` does not connect to the host of `url`. Its rules are the same a second later.
    fn proxy_refusal(&self, proxy: &str, url: &Url) -> AttemptError {
        let host = url.host_str().unwrap_or_default();
        let message = self.sanitize(&format!("the proxy {proxy} does not connect to {host}"));
        AttemptError::permanent(AgentError::Unavailable {
            provider: self.label.clone(),
            message,
            retry_after: None,
            suggestion: Some(Suggestion::AllowInProxy { host: host.to_owned() }),
        })
    }

    /// The server or a gateway gave up waiting for the reply. The model may have made it, and the provider may charge for it.
    fn may_be_paid_for(&self, message: &str) -> AttemptError {
        let message = self.sanitize(message);
        AttemptError::permanent(AgentError::Unavailable {
            provider: self.label.clone(),
            message: format!("{message}; it was not asked again, because it may charge for this reply"),
            retry_after: None,
            suggestion: Some(Suggestion::SendAgainAtACost),
        })
    }

    /// Maps an error of the body of a response to a request to `url`.
    pub fn body_error(&self, error: &BodyError, url: &Url) -> AttemptError {
        match error {
            BodyError::Connection(error) => self.connection_error(error, url),
            BodyError::Truncated => self.truncated_stream(None),
            BodyError::Damaged(error) => {
                self.malformed(&format!("its compressed data is damaged ({})", plain_reason(error)))
            }
            BodyError::UnknownEncoding(encoding) => self.malformed(&format!(
                "it is compressed with {encoding}, although the request accepts only {ACCEPTED_ENCODING}"
            )),
        }
    }

    fn tls_error(&self, error: &rustls::Error) -> AttemptError {
        let (message, suggestion) = match error {
            rustls::Error::InvalidCertificate(_) => {
                (format!("its certificate is not trusted ({error})"), Suggestion::TrustCertificate)
            }
            _ => (format!("no TLS connection ({error})"), Suggestion::CheckBaseUrl),
        };
        let message = self.sanitize(&message);
        AttemptError::permanent(AgentError::Unavailable {
            provider: self.label.clone(),
            message,
            retry_after: None,
            suggestion: Some(suggestion),
        })
    }

    /// A redirect to another server, which must not get the credentials.
    pub fn redirect(&self, status: StatusCode, target: Option<&Url>) -> AttemptError {
        let target = target.and_then(|url| Some(format!("{}://{}", url.scheme(), host_of(url)?)));
        let message = match target {
            Some(target) => format!("{} and redirects to {target}; check the base URL", status_line(status)),
            None => format!("{}; check the base URL", status_line(status)),
        };
        self.rejected(&message, Some(Suggestion::CheckBaseUrl))
    }

    /// Maps a response with an error status to a request to `url`.
    pub fn status_error(
        &self,
        url: &Url,
        status: StatusCode,
        body: &str,
        headers: &HeaderMap,
    ) -> AttemptError {
        if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
            && let Some(proxy) = proxy_of(url)
        {
            return self.proxy_authentication(&proxy);
        }
        let error = ServerError::from_body(body);
        let line = status_line(status);
        let message = match error.message.as_str() {
            message if message.is_empty() || message.eq_ignore_ascii_case(&line) => line,
            message => format!("{line}: {message}"),
        };
        self.server_error(Some(status.as_u16()), error, &message, Some(headers))
    }

    /// Maps an error that the server sent in the body of a successful response.
    pub fn error_in_stream(&self, error: ServerError) -> AttemptError {
        let message = match (error.message.as_str(), error.status) {
            ("", Some(status)) => format!("an error with the code {status}"),
            ("", None) => "an error without a message".to_owned(),
            (message, _) => message.to_owned(),
        };
        self.server_error(error.status, error, &message, None)
    }

    fn server_error(
        &self,
        status: Option<u16>,
        error: ServerError,
        message: &str,
        headers: Option<&HeaderMap>,
    ) -> AttemptError {
        let header_delay = headers.and_then(requested_delay);
        let delay = header_delay.or(error.delay);
        let mapped = match permanent_cause(status, &error, delay.is_some()) {
            Some(Cause::Billing) => {
                self.denied(message, Some(Suggestion::CheckBilling { provider: self.label.clone() }))
            }
            Some(Cause::Context) => self.rejected(message, Some(Suggestion::ReduceContext)),
            Some(Cause::Key) => self.denied(message, Some(self.set_key_suggestion())),
            Some(Cause::Permission) => self.denied(message, None),
            Some(Cause::Filter) => self.denied(message, Some(Suggestion::RephraseMessage)),
            Some(Cause::Model) if self.is_model_in_address => {
                self.rejected(message, Some(Suggestion::CheckBaseUrl))
            }
            Some(Cause::Model) => self.rejected(message, Some(Suggestion::CheckModel)),
            Some(Cause::Address) => self.rejected(message, Some(Suggestion::CheckBaseUrl)),
            Some(Cause::Request) => self.rejected(message, None),
            None => {
                let delay = delay.or_else(|| headers.filter(|_| status == Some(429)).and_then(reset_delay));
                let should_retry = headers.and_then(should_retry);
                match (should_retry, delay) {
                    (Some(false), _) => self.unavailable(message, delay, RetryAdvice::Never),
                    _ if is_loading(&error.searchable()) => {
                        self.unavailable(message, delay, RetryAdvice::Loading)
                    }
                    (_, Some(wait)) => self.unavailable(message, delay, RetryAdvice::After(wait)),
                    (None, None) if has_timed_out(status, &error) => self.may_be_paid_for(message),
                    (_, None) => self.unavailable(message, None, RetryAdvice::Backoff),
                }
            }
        };
        AttemptError { server: Some(Box::new((status, error))), ..mapped }
    }
}

/// Why repeating a request cannot help.
enum Cause {
    Billing,
    Context,
    Key,
    Permission,
    /// A filter stopped the prompt or the reply.
    Filter,
    Model,
    Address,
    Request,
}

/// Errors about money.
const BILLING_WORDS: [&str; 18] = [
    "insufficient balance",
    "insufficient_quota",
    "insufficient credit",
    "credit balance is too low",
    "balance is insufficient",
    "spending limit",
    "inference limit",
    "budget has been exceeded",
    "budget_exceeded",
    "used all available credits",
    "purchase more credits",
    "requires a subscription",
    "overdue balance",
    "in good standing",
    "insufficient_user_quota",
    "余额不足",
    "额度不足",
    "欠费",
];

/// Errors about money, unless the server says when to ask again.
const QUOTA_WORDS: [&str; 5] = [
    "exceeded your current quota",
    "check your plan and billing",
    "quota exceeded",
    "requires more credits",
    "usage credits are required",
];

const CONTEXT_WORDS: [&str; 29] = [
    "context length",
    "context window",
    "context size",
    "context limit",
    "prompt is too long",
    "input is too long",
    "input is too large",
    "maximum model length",
    "maximum sequence length",
    "max_seq_len",
    "body too large",
    "reduce the length",
    "request too large",
    "exceeds the maximum number of tokens",
    "input token count",
    "maximum prompt length",
    "too many input tokens",
    "maximum input length",
    "maximum allowed input length",
    "max input token",
    "maximum number of input tokens",
    "range of input length",
    "tokens in the prompt cannot exceed",
    "must have less than",
    "exceeds the model's max",
    "exceeds the limit of",
    "model token limit",
    // The rest of the context, which is what vLLM sets if a request has no maximum.
    "max_tokens must be at least 1, got -",
    "上下文长度",
];

const FILTER_WORDS: [&str; 16] = [
    "content management policy",
    "content filtering policy",
    "content policy",
    "contentpolicy",
    "inappropriate content",
    "was flagged",
    "been flagged",
    "requires moderation",
    "usage policy",
    "usage policies",
    "usage guidelines",
    "content exists risk",
    "new_sensitive",
    "safety system",
    "guardrail",
    "敏感内容",
];

const KEY_WORDS: [&str; 7] = [
    "incorrect api key",
    "invalid api key",
    "api key not valid",
    "api key expired",
    "invalid authentication",
    "authentication fail",
    "login fail",
];

/// Errors about a model, in messages that contain the word.
const MODEL_WORDS: [&str; 13] = [
    "not found",
    "not exist",
    "unknown model",
    "no such model",
    "not a valid model",
    "invalid model",
    "model is not supported",
    "no models loaded",
    "models are loaded",
    "decommissioned",
    "identifier is invalid",
    "inference profile",
    "choose different model",
];

/// Errors of the template that makes a prompt of the messages, and of parameters, whatever their status.
const REQUEST_WORDS: [&str; 5] =
    ["jinja", "chat template", "prompt template", "roles must alternate", "invalid params"];

/// Errors that a later request may not meet, also where the server gives them a permanent type.
const BUSY_WORDS: [&str; 5] =
    ["capacity exceeded", "overloaded", "rate limit", "too many requests", "temporarily"];

/// Whether a limit is one of hours or longer: a short wait does not help.
fn is_long_limit(text: &str) -> bool {
    const LIMITS: [&str; 5] = ["limit", "quota", "allocation", "exhausted", "too many"];
    const PERIODS: [&str; 13] = [
        "hourly",
        "per hour",
        "daily",
        "per day",
        "per-day",
        "/ day",
        "/day",
        "weekly",
        "per week",
        "monthly",
        "per month",
        "/ month",
        "/month",
    ];
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // "Not your usage limit" is a limit of seconds.
    let is_usage = has(&["reached your"]) && has(&["usage limit"]) || has(&["usage limit reached"]);
    is_usage || has(&LIMITS) && has(&PERIODS)
}

/// Whether a limit is zero: the plan does not include the model.
fn is_zero_limit(text: &str) -> bool {
    let is_whole = |after: &str| !after.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    text.contains("quota") && text.split("limit: 0").skip(1).any(is_whole)
}

fn permanent_cause(status: Option<u16>, error: &ServerError, has_delay: bool) -> Option<Cause> {
    let text = error.searchable();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let is_out_of_credit = error.has_code(&[
        "insufficient_quota",
        "insufficient_balance",
        "billing",
        "insufficient_credit",
        "arrearage",
    ]) || has(&BILLING_WORDS)
        || is_zero_limit(&text)
        || (!has_delay && (has(&QUOTA_WORDS) || is_long_limit(&text)));
    if status == Some(402) || is_out_of_credit {
        return Some(Cause::Billing);
    }
    let is_too_long = status == Some(413)
        || error.has_code(&["context_length", "string_above_max_length", "tokens_limit"])
        || has(&CONTEXT_WORDS);
    if is_too_long {
        return Some(Cause::Context);
    }
    let is_filtered = error.has_code(&[
        "content_filter",
        "content_policy",
        "responsibleaipolicy",
        "data_inspection",
        "datainspection",
        "invalid_prompt",
    ]) || has(&FILTER_WORDS);
    if is_filtered {
        return Some(Cause::Filter);
    }
    let is_denied = error.has_code(&[
        "authentication",
        "unauthenticated",
        "unauthorized",
        "invalid_api_key",
        "api_key_invalid",
        "permission",
        "forbidden",
    ]);
    let names_bad_key = matches!(status, Some(400..=428) | None) && has(&KEY_WORDS);
    if matches!(status, Some(401 | 403)) || is_denied || names_bad_key {
        let names_key = has(&["key", "token", "auth", "credential", "login", "log in", "expired"]);
        let is_key = status == Some(401) || names_key || error.message.is_empty();
        return Some(if is_key { Cause::Key } else { Cause::Permission });
    }
    // LM Studio answers a wrong path with success.
    if has(&["unexpected endpoint"]) {
        return Some(Cause::Address);
    }
    // Loading the model again ends in the same way.
    if has(&["more system memory", "unable to load model"]) {
        return Some(Cause::Model);
    }
    if has(&REQUEST_WORDS) {
        return Some(Cause::Request);
    }
    let names_model = error.codes.iter().any(|code| code == "model")
        || error.has_code(&["model_not", "invalid_model", "model_decommissioned", "deploymentnotfound"])
        || has(&["no endpoints found", "模型不存在"])
        || (has(&["model"]) && has(&MODEL_WORDS));
    let is_invalid = error.has_code(&[
        "invalid_request",
        "invalid_argument",
        "invalidparameter",
        "not_found",
        "badrequest",
        "validation",
        "unsupported",
        "model_not",
        "extra_forbidden",
    ]);
    let cause = match status {
        Some(300..=399) => Cause::Address,
        Some(501 | 505) => Cause::Request,
        // Rate limits, conflicts and timeouts.
        Some(408 | 409 | 425 | 429 | 498 | 499) => return None,
        None if has(&BUSY_WORDS) => return None,
        Some(500..=599) | None if !is_invalid => return None,
        Some(404 | 405) | None if has(&["model"]) => Cause::Model,
        _ if names_model => Cause::Model,
        Some(404 | 405) => Cause::Address,
        _ => Cause::Request,
    };
    Some(cause)
}

/// Whether the server or a gateway gave up waiting for a reply that the model may have made.
///
/// The other failures that are repeated come before the model's work (409, 425, 429, 503, 529, and Cloudflare's 521 to 523),
/// or without a reply that anyone charges for (500, 502, 520).
fn has_timed_out(status: Option<u16>, error: &ServerError) -> bool {
    match status {
        // 408 of gateways such as LiteLLM; 499 of Google and nginx; 524 of Cloudflare; 598 of other proxies.
        Some(408 | 499 | 504 | 524 | 598) => true,
        Some(500) | None => {
            let message = error.message.to_lowercase();
            error.has_code(&["timeout", "timed_out", "deadline_exceeded", "deadlineexceeded"])
                || ["timed out", "deadline exceeded", "operation was timeout"]
                    .iter()
                    .any(|words| message.contains(words))
        }
        Some(_) => false,
    }
}

fn is_loading(text: &str) -> bool {
    [
        "loading model",
        "model is loading",
        "is currently loading",
        "loading the model",
        "model is being loaded",
        "still loading",
    ]
    .iter()
    .any(|words| text.contains(words))
}

fn status_line(status: StatusCode) -> String {
    status.canonical_reason().map_or_else(
        || status.as_u16().to_string(),
        |reason| format!("{} {}", status.as_u16(), reason.to_ascii_lowercase()),
    )
}

fn innermost(error: &reqwest::Error) -> String {
    let mut innermost = error.source();
    while let Some(deeper) = innermost.and_then(Error::source) {
        innermost = Some(deeper);
    }
    innermost.map(plain_reason).unwrap_or_default()
}

/// The first error of a type among the sources of an error.
fn find_in_chain<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut current = Some(error);
    while let Some(error) = current {
        // The source of an I/O error is the source of the error in it, not that error.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = error.downcast_ref().or_else(|| inner?.downcast_ref()) {
            return Some(found);
        }
        current = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use hfs_core::ErrorExt;
    use serde_json::json;

    use super::*;

    const KEY: &str = "sk-abcdefghij";

    fn mapper() -> ProviderErrorMapper {
        ProviderErrorMapper::new(&ModelConfig::new(Provider::OpenAi, "m", ApiKey::new(KEY)))
    }

    fn url() -> Url {
        Url::parse("http://127.0.0.1/v1/chat/completions").unwrap()
    }

    fn status_error(status: u16, body: &str) -> AttemptError {
        mapper().status_error(&url(), StatusCode::from_u16(status).unwrap(), body, &HeaderMap::new())
    }

    #[test]
    fn a_refusal_keeps_the_providers_message_without_the_key() {
        let body = format!(r#"{{"error": {{"message": "Incorrect API key provided: {KEY}.\nSee docs"}}}}"#);
        let failure = status_error(401, &body);
        assert_eq!(
            failure.error.to_string(),
            "OpenAI refused the request: 401 unauthorized: Incorrect API key provided: [key]. See docs"
        );
        assert_eq!(failure.retry, RetryAdvice::Never);
    }

    #[test]
    fn the_values_of_configured_headers_are_masked_like_the_key() {
        let mut config = ModelConfig::new(Provider::OpenAi, "m", None);
        config.headers = vec![("x-token".into(), "secret-value-1".into())];
        assert_eq!(ProviderErrorMapper::new(&config).sanitize("bad secret-value-1"), "bad [key]");
    }

    #[test]
    fn the_status_determines_the_kind_of_error_and_whether_to_retry() {
        for (status, kind, retry) in [
            (400, "invalid", RetryAdvice::Never),
            (401, "denied", RetryAdvice::Never),
            (402, "denied", RetryAdvice::Never),
            (404, "invalid", RetryAdvice::Never),
            (307, "invalid", RetryAdvice::Never),
            (429, "unavailable", RetryAdvice::Backoff),
            (500, "unavailable", RetryAdvice::Backoff),
            (501, "invalid", RetryAdvice::Never),
            (529, "unavailable", RetryAdvice::Backoff),
        ] {
            let failure = status_error(status, "");
            assert_eq!((failure.error.kind().as_str(), &failure.retry), (kind, &retry), "{status}");
        }
    }

    #[test]
    fn the_suggestion_fits_the_cause_and_not_only_the_status() {
        let error =
            |message: &str, code: &str| json!({"error": {"message": message, "code": code}}).to_string();
        let label = || "OpenAI".to_owned();
        let billing = || Some(Suggestion::CheckBilling { provider: label() });
        let key =
            || Some(Suggestion::SetApiKey { provider: label(), variable: Some("OPENAI_API_KEY".into()) });
        for (status, body, kind, suggestion) in [
            (403, error("You exceeded your quota", "insufficient_quota"), "denied", billing()),
            (
                429,
                error(
                    "You exceeded your current quota, please check your plan and billing details.",
                    "insufficient_quota",
                ),
                "denied",
                billing(),
            ),
            (400, error("Your credit balance is too low to access the API", ""), "denied", billing()),
            (403, error("Country, region, or territory not supported", ""), "denied", None),
            (403, error("Invalid API key", ""), "denied", key()),
            (
                400,
                error("API key not valid. Please pass a valid API key.", "API_KEY_INVALID"),
                "denied",
                key(),
            ),
            (
                500,
                error("the request exceeds the available context size", ""),
                "invalid",
                Some(Suggestion::ReduceContext),
            ),
            (
                429,
                error(
                    "Request too large for m on tokens per min: Limit 6000, Requested 7000",
                    "rate_limit_exceeded",
                ),
                "invalid",
                Some(Suggestion::ReduceContext),
            ),
            (404, error("The model `m` does not exist", ""), "invalid", Some(Suggestion::CheckModel)),
            (404, r#"{"detail": "Not Found"}"#.to_owned(), "invalid", Some(Suggestion::CheckBaseUrl)),
            (
                429,
                error("you have reached your weekly usage limit, upgrade for higher limits", ""),
                "denied",
                billing(),
            ),
            (429, error("Usage credits are required for long context requests.", ""), "denied", billing()),
            (404, error("No endpoints found for m.", ""), "invalid", Some(Suggestion::CheckModel)),
            (
                400,
                error("Invalid model name passed in model=m. Call `/v1/models`.", "400"),
                "invalid",
                Some(Suggestion::CheckModel),
            ),
            (
                400,
                error("The requested model is not supported.", "model_not_supported"),
                "invalid",
                Some(Suggestion::CheckModel),
            ),
            (
                400,
                r#"{"error": {"message": "Multiple models are loaded. Specify one.", "param": "model"}}"#
                    .to_owned(),
                "invalid",
                Some(Suggestion::CheckModel),
            ),
            (400, error("'max_tokens' is not supported with this model", ""), "invalid", None),
            (413, error("Payload too large", ""), "invalid", Some(Suggestion::ReduceContext)),
            (
                400,
                error("The prompt (length 9000) is longer than the maximum model length of 8192.", ""),
                "invalid",
                Some(Suggestion::ReduceContext),
            ),
            (
                403,
                error("m requires moderation. Your input was flagged for \"violence\".", ""),
                "denied",
                Some(Suggestion::RephraseMessage),
            ),
            (
                200,
                r#"{"error": "Unexpected endpoint or method. (POST /v1/chat/completions)"}"#.to_owned(),
                "invalid",
                Some(Suggestion::CheckBaseUrl),
            ),
            (500, error("bad", "invalid_request_error"), "invalid", None),
            (
                404,
                error("The API deployment for this resource does not exist.", "DeploymentNotFound"),
                "invalid",
                Some(Suggestion::CheckModel),
            ),
            (
                500,
                r#"{"error": "model requires more system memory (5.0 GiB) than is available (3.9 GiB)"}"#
                    .to_owned(),
                "invalid",
                Some(Suggestion::CheckModel),
            ),
            (
                500,
                error("Jinja Exception: Conversation roles must alternate user/assistant/...", ""),
                "invalid",
                None,
            ),
            (
                400,
                error("Range of input length should be [1, 30720]", ""),
                "invalid",
                Some(Suggestion::ReduceContext),
            ),
            (
                400,
                error("max_tokens must be at least 1, got -186.", ""),
                "invalid",
                Some(Suggestion::ReduceContext),
            ),
            (
                400,
                error("Incorrect API key provided: xa***.", "Client specified an invalid argument"),
                "denied",
                key(),
            ),
            (400, error("Budget has been exceeded! Max budget: 0.1", "budget_exceeded"), "denied", billing()),
            (
                429,
                error("Rate limit exceeded: free-models-per-day. Add 10 credits", "429"),
                "denied",
                billing(),
            ),
            (
                429,
                error("Weekly/Monthly Limit Exhausted. It will reset at 12:00:00", "1310"),
                "denied",
                billing(),
            ),
            (429, error("Trial keys are limited to 1000 API calls / month.", ""), "denied", billing()),
            (
                429,
                error(
                    "You exceeded your current quota. Quota exceeded for metric x, limit: 0\nPlease retry in 2s.",
                    "",
                ),
                "denied",
                billing(),
            ),
            (
                400,
                error("系统检测到输入可能包含敏感内容", "1301"),
                "denied",
                Some(Suggestion::RephraseMessage),
            ),
            (422, r#"{"detail": [{"loc": ["body"], "msg": "Field required"}]}"#.to_owned(), "invalid", None),
        ] {
            let failure = status_error(status, &body);
            assert_eq!(
                (failure.error.kind().as_str(), failure.error.suggestion()),
                (kind, suggestion),
                "{body}"
            );
            assert_eq!(failure.retry, RetryAdvice::Never, "{body}");
        }
    }

    #[test]
    fn a_limit_that_a_short_wait_resets_is_not_permanent() {
        for (status, message) in [
            (429, "Quota exceeded for metric x, limit: 20\nPlease retry in 2s."),
            (429, "This request would exceed the rate limit of 40,000 input tokens per minute."),
            (429, "Rate limit exceeded: free-models-per-min."),
            (429, "Too many tokens, please wait before trying again."),
            (500, "The database is backed up daily"),
        ] {
            let failure = status_error(status, &json!({"error": {"message": message}}).to_string());
            assert_eq!(failure.error.kind().as_str(), "unavailable", "{message}");
            assert_ne!(failure.retry, RetryAdvice::Never, "{message}");
        }
        let in_stream = json!({"object": "error", "message": "Service tier capacity exceeded for this model.",
            "type": "invalid_request_error"});
        let failure = mapper().error_in_stream(ServerError::in_payload(&in_stream).unwrap());
        assert_eq!(failure.retry, RetryAdvice::Backoff);
    }

    #[test]
    fn the_address_is_checked_if_it_selects_the_model() {
        let mut config = ModelConfig::new(Provider::OpenAi, "m", None);
        config.base_url = Some("https://h/openai/deployments/d?api-version=1".into());
        let body =
            json!({"error": {"code": "DeploymentNotFound", "message": "No such deployment"}}).to_string();
        let mapper = ProviderErrorMapper::new(&config);
        let failure = mapper.status_error(&url(), StatusCode::NOT_FOUND, &body, &HeaderMap::new());
        assert_eq!(failure.error.suggestion(), Some(Suggestion::CheckBaseUrl));
    }

    #[test]
    fn a_requested_delay_is_found_in_headers_details_and_words() {
        let quota = json!({"error": {"code": 429, "message": "You exceeded your current quota.", "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"}]}});
        let limit = json!({"error": {"message": "Rate limit reached. Please try again in 7.66s."}});
        for (body, delay) in [(quota, 2.0), (limit, 7.66)] {
            let failure = status_error(429, &body.to_string());
            assert_eq!(failure.retry, RetryAdvice::After(Duration::from_secs_f64(delay)), "{body}");
        }
        let headers = |name: &'static str, value: &str| {
            HeaderMap::from_iter([(reqwest::header::HeaderName::from_static(name), value.parse().unwrap())])
        };
        let with = |name, value| {
            mapper().status_error(&url(), StatusCode::TOO_MANY_REQUESTS, "", &headers(name, value)).retry
        };
        assert_eq!(with("x-should-retry", "false"), RetryAdvice::Never);
        assert_eq!(with("x-ratelimit-reset-tokens", "3s"), RetryAdvice::After(Duration::from_secs(3)));
        let loading = r#"{"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}"#;
        assert_eq!(status_error(503, loading).retry, RetryAdvice::Loading);
    }

    #[test]
    fn html_pages_are_dropped_and_long_messages_are_cut() {
        let page = status_error(502, "<html><body>oops</body></html>");
        assert_eq!(page.error.to_string(), "OpenAI is not available: 502 bad gateway");
        let page = status_error(503, "<html><head><title>Down for maintenance</title></head></html>");
        assert_eq!(
            page.error.to_string(),
            "OpenAI is not available: 503 service unavailable: Down for maintenance"
        );
        let long = status_error(400, &"long ".repeat(10_000));
        assert!(long.error.to_string().chars().count() < 400);
    }

    #[test]
    fn only_the_host_of_a_base_url_is_named() {
        let mut config = ModelConfig::new(Provider::OpenAi, "m", None);
        config.base_url = Some("http://me:secret@example.com:8080/v1?key=hidden".into());
        let mapper = ProviderErrorMapper::new(&config);
        assert_eq!(mapper.label(), "the OpenAI-compatible server at example.com:8080");
    }
}
