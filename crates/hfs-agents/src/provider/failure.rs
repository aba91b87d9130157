//! What went wrong, in the provider's own words but without its key.

use std::error::Error as _;
use std::time::Duration;

use genai::webc::StreamTimeout;
use hfs_core::{AgentError, Suggestion};
use reqwest::StatusCode;
use serde_json::Value;

use super::retry::asked_pause;
use crate::{ModelConfig, Provider, Secret, Timeouts};

/// The most characters of a provider's message that are passed on.
const LONGEST_MESSAGE: usize = 300;

/// Whether to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attempt {
    Last,
    Again,
    After(Duration),
}

/// A failed attempt.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: AgentError,
    pub again: Attempt,
}

impl Failure {
    /// The same failure, after something was heard: there is no taking that back.
    pub fn final_now(self) -> Self {
        Self { again: Attempt::Last, ..self }
    }
}

/// Speaks for a provider.
#[derive(Debug)]
pub(super) struct Voice {
    label: String,
    provider: Provider,
    key: Option<Secret>,
    timeouts: Timeouts,
}

impl Voice {
    pub fn new(config: &ModelConfig, base_url: &str) -> Self {
        let provider = config.provider;
        let label = if config.base_url.is_none() {
            provider.title().to_owned()
        } else {
            // Only the host: an address may hold a password or a key.
            let place = reqwest::Url::parse(base_url).ok().and_then(|url| {
                let host = url.host_str()?.to_owned();
                Some(url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
            });
            let kind = if provider == Provider::OpenAi { "OpenAI-compatible" } else { provider.title() };
            format!("the {kind} server at {}", place.as_deref().unwrap_or("an unknown address"))
        };
        Self { label, provider, key: config.key.clone(), timeouts: config.timeouts }
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    fn set_key(&self) -> Suggestion {
        let variable = self.provider.key_variables().first().map(ToString::to_string);
        Suggestion::SetApiKey { provider: self.label.clone(), variable }
    }

    pub fn no_key(&self) -> AgentError {
        AgentError::Denied {
            provider: self.label.clone(),
            message: "there is no key for it".into(),
            suggestion: Some(self.set_key()),
        }
    }

    /// A stream that ended before its end.
    pub fn cut(&self, heard_any: bool) -> Failure {
        let again = if heard_any { Attempt::Last } else { Attempt::Again };
        self.unavailable("the connection ended before the reply did", None, again)
    }

    /// One line, short, without control characters and without the key.
    fn tidy(&self, text: &str) -> String {
        let scrubbed = self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.scrub(text));
        let visible: String = scrubbed
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(4 * LONGEST_MESSAGE)
            .collect();
        let mut line = visible.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = line.char_indices().nth(LONGEST_MESSAGE) {
            line.truncate(end);
            line.push('…');
        }
        line
    }

    fn unavailable(&self, message: &str, retry_after: Option<Duration>, again: Attempt) -> Failure {
        let message = self.tidy(message);
        Failure {
            error: AgentError::Unavailable { provider: self.label.clone(), message, retry_after },
            again,
        }
    }

    fn malformed(&self, message: &str) -> Failure {
        let message = self.tidy(message);
        Failure {
            error: AgentError::Malformed { provider: self.label.clone(), message },
            again: Attempt::Again,
        }
    }

    fn rejected(&self, message: &str) -> Failure {
        let message = self.tidy(message);
        Failure {
            error: AgentError::Rejected { provider: self.label.clone(), message },
            again: Attempt::Last,
        }
    }

    fn denied(&self, message: &str, suggestion: Suggestion) -> Failure {
        let message = self.tidy(message);
        Failure {
            error: AgentError::Denied { provider: self.label.clone(), message, suggestion: Some(suggestion) },
            again: Attempt::Last,
        }
    }

    /// What an error of the library means.
    pub fn failure(&self, error: &genai::Error) -> Failure {
        use genai::Error as E;
        match error {
            E::HttpError { status, body, headers, .. } => self.refused(*status, body, asked_pause(headers)),
            E::WebModelCall { webc_error, .. } | E::WebAdapterCall { webc_error, .. } => match webc_error {
                genai::webc::Error::ResponseFailedStatus { status, body, headers } => {
                    self.refused(*status, body, asked_pause(headers))
                }
                genai::webc::Error::Reqwest(error) => self.broken(error),
                other => self.malformed(&other.to_string()),
            },
            E::WebStream { error, .. } => self.stream_failure(error.as_ref()),
            E::StreamParse { serde_error, .. } => {
                self.malformed(&format!("a piece of the stream is not JSON ({serde_error})"))
            }
            E::ChatResponse { body, .. } => self.reported(body),
            E::JsonValueExt(_) | E::SerdeJson(_) | E::InvalidJsonResponseElement { .. } => {
                self.malformed("a piece of the stream lacks what it should hold")
            }
            other => self.rejected(&other.to_string()),
        }
    }

    fn stream_failure(&self, error: &(dyn std::error::Error + Send + Sync + 'static)) -> Failure {
        if let Some(error) = error.downcast_ref::<genai::Error>() {
            return self.failure(error);
        }
        if let Some(error) = error.downcast_ref::<reqwest::Error>() {
            return self.broken(error);
        }
        if let Some(timeout) = error.downcast_ref::<StreamTimeout>() {
            return match timeout {
                StreamTimeout::Headers => {
                    let waited = self.timeouts.first_byte;
                    self.unavailable(&format!("no answer within {waited:?}"), None, Attempt::Again)
                }
                StreamTimeout::Read => {
                    let waited = self.timeouts.idle;
                    self.unavailable(&format!("nothing more came for {waited:?}"), None, Attempt::Again)
                }
            };
        }
        if error.is::<std::string::FromUtf8Error>() || error.is::<std::str::Utf8Error>() {
            return self.malformed("the stream is not UTF-8");
        }
        self.unavailable(&error.to_string(), None, Attempt::Again)
    }

    /// A failure of the connection.
    fn broken(&self, error: &reqwest::Error) -> Failure {
        // The outermost text holds the address, with whatever stands in it; the innermost says what happened.
        let mut innermost = error.source();
        while let Some(deeper) = innermost.and_then(std::error::Error::source) {
            innermost = Some(deeper);
        }
        let cause = innermost.map(ToString::to_string).unwrap_or_default();
        let what = if error.is_connect() && error.is_timeout() {
            "no connection in time".to_owned()
        } else if error.is_connect() {
            format!("no connection ({cause})")
        } else if error.is_timeout() {
            "it took too long".to_owned()
        } else if error.is_builder() {
            return self.rejected(&format!("the request cannot be made ({cause})"));
        } else {
            format!("the connection broke ({cause})")
        };
        self.unavailable(&what, None, Attempt::Again)
    }

    /// An answer with a status that is no success.
    fn refused(&self, status: StatusCode, body: &str, asked: Option<Duration>) -> Failure {
        let said = self.words(status, body);
        let out_of_credit = body.contains("insufficient_quota") || status == StatusCode::PAYMENT_REQUIRED;
        match status.as_u16() {
            401 | 403 => self.denied(&said, self.set_key()),
            _ if out_of_credit => {
                self.denied(&said, Suggestion::CheckBilling { provider: self.label.clone() })
            }
            408 | 409 | 425 | 429 | 500..=599 => {
                let again = asked.map_or(Attempt::Again, Attempt::After);
                self.unavailable(&said, asked, again)
            }
            300..=399 => self.rejected(&format!("{said}; is its base address right?")),
            _ => self.rejected(&said),
        }
    }

    /// The status and what the body says about it.
    fn words(&self, status: StatusCode, body: &str) -> String {
        let status_line = status.canonical_reason().map_or_else(
            || status.as_u16().to_string(),
            |reason| format!("{} {}", status.as_u16(), reason.to_ascii_lowercase()),
        );
        let said = match serde_json::from_str::<Value>(body) {
            Ok(json) => message_in(&json).map(str::to_owned),
            Err(_) if body.trim_start().starts_with('<') => None,
            Err(_) => Some(body.trim().to_owned()),
        };
        match said.filter(|said| !said.is_empty()) {
            Some(said) => format!("{status_line}: {said}"),
            None => status_line,
        }
    }

    /// An error that came inside a stream.
    fn reported(&self, body: &Value) -> Failure {
        let said = message_in(body).map_or_else(|| body.to_string(), str::to_owned);
        let kind = ["/error/type", "/type", "/error/status", "/status"]
            .iter()
            .find_map(|path| body.pointer(path).and_then(Value::as_str))
            .unwrap_or_default();
        match kind {
            "authentication_error" | "permission_error" => self.denied(&said, self.set_key()),
            "invalid_request_error" | "not_found_error" | "request_too_large" => self.rejected(&said),
            _ => self.unavailable(&said, None, Attempt::Again),
        }
    }
}

/// Where the providers put what they have to say.
fn message_in(body: &Value) -> Option<&str> {
    ["/error/message", "/message", "/error", "/0/error/message", "/detail", "/blockReason"]
        .iter()
        .find_map(|path| body.pointer(path).and_then(Value::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-abcdefghij";

    fn voice() -> Voice {
        let config = ModelConfig::new(Provider::OpenAi, "m", Secret::new(KEY));
        Voice::new(&config, "https://api.openai.com/v1/")
    }

    #[test]
    fn a_refusal_speaks_in_the_providers_words_without_the_key() {
        let body = format!(r#"{{"error": {{"message": "Incorrect API key provided: {KEY}.\nSee docs"}}}}"#);
        let failure = voice().refused(StatusCode::UNAUTHORIZED, &body, None);
        assert_eq!(
            failure.error.to_string(),
            "OpenAI refused the request: 401 unauthorized: Incorrect API key provided: [key]. See docs"
        );
        assert_eq!(failure.again, Attempt::Last);
    }

    #[test]
    fn statuses_decide_about_kind_and_another_try() {
        for (status, kind, again) in [
            (400, "invalid", Attempt::Last),
            (401, "denied", Attempt::Last),
            (402, "denied", Attempt::Last),
            (404, "invalid", Attempt::Last),
            (307, "invalid", Attempt::Last),
            (429, "unavailable", Attempt::Again),
            (500, "unavailable", Attempt::Again),
            (529, "unavailable", Attempt::Again),
        ] {
            let failure = voice().refused(StatusCode::from_u16(status).unwrap(), "", None);
            assert_eq!(
                (hfs_core::ErrorExt::kind(&failure.error).as_str(), &failure.again),
                (kind, &again),
                "{status}"
            );
        }
    }

    #[test]
    fn a_page_of_html_or_a_novel_is_not_passed_on() {
        let page = voice().refused(StatusCode::BAD_GATEWAY, "<html><body>oops</body></html>", None);
        assert_eq!(page.error.to_string(), "OpenAI is not available: 502 bad gateway");
        let novel = voice().refused(StatusCode::BAD_REQUEST, &"long ".repeat(10_000), None);
        assert!(novel.error.to_string().chars().count() < 400);
    }

    #[test]
    fn an_address_is_named_by_its_host_alone() {
        let mut config = ModelConfig::new(Provider::OpenAi, "m", None);
        config.base_url = Some("http://me:secret@example.com:8080/v1?key=hidden".into());
        let voice = Voice::new(&config, config.base_url.as_deref().unwrap());
        assert_eq!(voice.label(), "the OpenAI-compatible server at example.com:8080");
    }
}
