//! Maps errors of the provider, the connection and the genai library to [`AgentError`].
//!
//! Messages keep the provider's own text, but never the API key or the URL.

use std::error::Error as _;
use std::time::Duration;

use genai::webc::StreamTimeout;
use hfs_core::{AgentError, Suggestion};
use reqwest::StatusCode;
use serde_json::Value;

use super::retry::{RetryAdvice, requested_delay};
use crate::{ApiKey, ModelConfig, Provider, Timeouts};

/// Limit for a provider's message, in characters.
const MAX_MESSAGE: usize = 300;

/// A failed attempt to get a reply.
#[derive(Debug)]
pub(super) struct AttemptError {
    pub error: AgentError,
    pub retry: RetryAdvice,
}

impl AttemptError {
    /// The same error, for a reply that was already streamed in part. A repeated request would stream that part twice.
    pub fn without_retry(self) -> Self {
        Self { retry: RetryAdvice::Never, ..self }
    }
}

#[derive(Debug)]
pub(super) struct ProviderErrorMapper {
    /// Display name of the provider or of the configured server.
    label: String,
    provider: Provider,
    key: Option<ApiKey>,
    timeouts: Timeouts,
}

impl ProviderErrorMapper {
    pub fn new(config: &ModelConfig, base_url: &str) -> Self {
        let provider = config.provider;
        let label = if config.base_url.is_none() {
            provider.title().to_owned()
        } else {
            // Name only the host: the URL may contain a password or a key.
            let address = reqwest::Url::parse(base_url).ok().and_then(|url| {
                let host = url.host_str()?.to_owned();
                Some(url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
            });
            let kind = if provider == Provider::OpenAi { "OpenAI-compatible" } else { provider.title() };
            format!("the {kind} server at {}", address.as_deref().unwrap_or("an unknown address"))
        };
        Self { label, provider, key: config.key.clone(), timeouts: config.timeouts }
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

    /// The stream ended without the provider's end marker.
    pub fn truncated_stream(&self, received_any: bool) -> AttemptError {
        let retry = if received_any { RetryAdvice::Never } else { RetryAdvice::Backoff };
        self.unavailable("the connection ended before the reply was complete", None, retry)
    }

    /// Makes a message safe to show: one short line without control characters and without the API key.
    fn sanitize(&self, text: &str) -> String {
        let masked = self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.mask_in(text));
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
        AttemptError {
            error: AgentError::Unavailable { provider: self.label.clone(), message, retry_after },
            retry,
        }
    }

    fn malformed(&self, message: &str) -> AttemptError {
        let message = self.sanitize(message);
        AttemptError {
            error: AgentError::Malformed { provider: self.label.clone(), message },
            retry: RetryAdvice::Backoff,
        }
    }

    fn rejected(&self, message: &str) -> AttemptError {
        let message = self.sanitize(message);
        AttemptError {
            error: AgentError::Rejected { provider: self.label.clone(), message },
            retry: RetryAdvice::Never,
        }
    }

    fn denied(&self, message: &str, suggestion: Suggestion) -> AttemptError {
        let message = self.sanitize(message);
        AttemptError {
            error: AgentError::Denied { provider: self.label.clone(), message, suggestion: Some(suggestion) },
            retry: RetryAdvice::Never,
        }
    }

    /// Maps an error of the genai library.
    pub fn map(&self, error: &genai::Error) -> AttemptError {
        use genai::Error as E;
        match error {
            E::HttpError { status, body, headers, .. } => {
                self.status_error(*status, body, requested_delay(headers))
            }
            E::WebModelCall { webc_error, .. } | E::WebAdapterCall { webc_error, .. } => match webc_error {
                genai::webc::Error::ResponseFailedStatus { status, body, headers } => {
                    self.status_error(*status, body, requested_delay(headers))
                }
                genai::webc::Error::Reqwest(error) => self.connection_error(error),
                other => self.malformed(&other.to_string()),
            },
            E::WebStream { error, .. } => self.stream_error(error.as_ref()),
            E::StreamParse { serde_error, .. } => {
                self.malformed(&format!("a chunk of the stream is not JSON ({serde_error})"))
            }
            E::ChatResponse { body, .. } => self.stream_error_event(body),
            E::JsonValueExt(_) | E::SerdeJson(_) | E::InvalidJsonResponseElement { .. } => {
                self.malformed("a chunk of the stream lacks a required field")
            }
            other => self.rejected(&other.to_string()),
        }
    }

    fn stream_error(&self, error: &(dyn std::error::Error + Send + Sync + 'static)) -> AttemptError {
        if let Some(error) = error.downcast_ref::<genai::Error>() {
            return self.map(error);
        }
        if let Some(error) = error.downcast_ref::<reqwest::Error>() {
            return self.connection_error(error);
        }
        if let Some(timeout) = error.downcast_ref::<StreamTimeout>() {
            return match timeout {
                StreamTimeout::Headers => {
                    let waited = self.timeouts.first_byte;
                    self.unavailable(&format!("no answer within {waited:?}"), None, RetryAdvice::Backoff)
                }
                StreamTimeout::Read => {
                    let waited = self.timeouts.idle;
                    self.unavailable(&format!("no more data for {waited:?}"), None, RetryAdvice::Backoff)
                }
            };
        }
        if error.is::<std::string::FromUtf8Error>() || error.is::<std::str::Utf8Error>() {
            return self.malformed("the stream is not UTF-8");
        }
        self.unavailable(&error.to_string(), None, RetryAdvice::Backoff)
    }

    fn connection_error(&self, error: &reqwest::Error) -> AttemptError {
        // The outermost error contains the URL, which may hold a password. The innermost one has the cause.
        let mut innermost = error.source();
        while let Some(deeper) = innermost.and_then(std::error::Error::source) {
            innermost = Some(deeper);
        }
        let cause = innermost.map(ToString::to_string).unwrap_or_default();
        let message = if error.is_connect() && error.is_timeout() {
            "timed out while connecting".to_owned()
        } else if error.is_connect() {
            format!("no connection ({cause})")
        } else if error.is_timeout() {
            "the request timed out".to_owned()
        } else if error.is_builder() {
            return self.rejected(&format!("the request is not valid ({cause})"));
        } else {
            format!("the connection broke ({cause})")
        };
        self.unavailable(&message, None, RetryAdvice::Backoff)
    }

    /// Maps a response whose status is not a success.
    fn status_error(
        &self,
        status: StatusCode,
        body: &str,
        requested_delay: Option<Duration>,
    ) -> AttemptError {
        let message = self.status_message(status, body);
        let out_of_credit = body.contains("insufficient_quota") || status == StatusCode::PAYMENT_REQUIRED;
        match status.as_u16() {
            401 | 403 => self.denied(&message, self.set_key_suggestion()),
            _ if out_of_credit => {
                self.denied(&message, Suggestion::CheckBilling { provider: self.label.clone() })
            }
            408 | 409 | 425 | 429 | 500..=599 => {
                let retry = requested_delay.map_or(RetryAdvice::Backoff, RetryAdvice::After);
                self.unavailable(&message, requested_delay, retry)
            }
            300..=399 => self.rejected(&format!("{message}; check the base URL")),
            _ => self.rejected(&message),
        }
    }

    /// The status and the message in the body, if there is one.
    fn status_message(&self, status: StatusCode, body: &str) -> String {
        let status_line = status.canonical_reason().map_or_else(
            || status.as_u16().to_string(),
            |reason| format!("{} {}", status.as_u16(), reason.to_ascii_lowercase()),
        );
        let message = match serde_json::from_str::<Value>(body) {
            Ok(json) => message_in(&json).map(str::to_owned),
            // An HTML page, such as the error page of a proxy.
            Err(_) if body.trim_start().starts_with('<') => None,
            Err(_) => Some(body.trim().to_owned()),
        };
        match message.filter(|message| !message.is_empty()) {
            Some(message) => format!("{status_line}: {message}"),
            None => status_line,
        }
    }

    /// Maps an error that the provider sent as an event of the stream.
    fn stream_error_event(&self, body: &Value) -> AttemptError {
        let message = message_in(body).map_or_else(|| body.to_string(), str::to_owned);
        let kind = ["/error/type", "/type", "/error/status", "/status"]
            .iter()
            .find_map(|path| body.pointer(path).and_then(Value::as_str))
            .unwrap_or_default();
        match kind {
            "authentication_error" | "permission_error" => self.denied(&message, self.set_key_suggestion()),
            "invalid_request_error" | "not_found_error" | "request_too_large" => self.rejected(&message),
            _ => self.unavailable(&message, None, RetryAdvice::Backoff),
        }
    }
}

/// The error message in a response body. Its path differs between providers.
fn message_in(body: &Value) -> Option<&str> {
    ["/error/message", "/message", "/error", "/0/error/message", "/detail", "/blockReason"]
        .iter()
        .find_map(|path| body.pointer(path).and_then(Value::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-abcdefghij";

    fn mapper() -> ProviderErrorMapper {
        let config = ModelConfig::new(Provider::OpenAi, "m", ApiKey::new(KEY));
        ProviderErrorMapper::new(&config, "https://api.openai.com/v1/")
    }

    #[test]
    fn a_refusal_keeps_the_providers_message_without_the_key() {
        let body = format!(r#"{{"error": {{"message": "Incorrect API key provided: {KEY}.\nSee docs"}}}}"#);
        let failure = mapper().status_error(StatusCode::UNAUTHORIZED, &body, None);
        assert_eq!(
            failure.error.to_string(),
            "OpenAI refused the request: 401 unauthorized: Incorrect API key provided: [key]. See docs"
        );
        assert_eq!(failure.retry, RetryAdvice::Never);
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
            (529, "unavailable", RetryAdvice::Backoff),
        ] {
            let failure = mapper().status_error(StatusCode::from_u16(status).unwrap(), "", None);
            assert_eq!(
                (hfs_core::ErrorExt::kind(&failure.error).as_str(), &failure.retry),
                (kind, &retry),
                "{status}"
            );
        }
    }

    #[test]
    fn html_pages_are_dropped_and_long_messages_are_cut() {
        let page = mapper().status_error(StatusCode::BAD_GATEWAY, "<html><body>oops</body></html>", None);
        assert_eq!(page.error.to_string(), "OpenAI is not available: 502 bad gateway");
        let long = mapper().status_error(StatusCode::BAD_REQUEST, &"long ".repeat(10_000), None);
        assert!(long.error.to_string().chars().count() < 400);
    }

    #[test]
    fn only_the_host_of_a_base_url_is_named() {
        let mut config = ModelConfig::new(Provider::OpenAi, "m", None);
        config.base_url = Some("http://me:secret@example.com:8080/v1?key=hidden".into());
        let mapper = ProviderErrorMapper::new(&config, config.base_url.as_deref().unwrap());
        assert_eq!(mapper.label(), "the OpenAI-compatible server at example.com:8080");
    }
}
