//! Recognizes errors in the JSON of a response, in the shapes that servers use, and finds what they say.

use std::time::Duration;

use serde_json::Value;

use super::payloads::{Framing, Payload, PayloadReader};
use super::reply::token_count;
use super::{json, retry};

/// Limit for nesting of errors within errors.
const MAX_DEPTH: usize = 6;

/// An error that a server reported.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ServerError {
    /// The server's words; empty if it gave none.
    pub message: String,
    /// The codes, types and parameter names of the error, in lower case.
    pub codes: Vec<String>,
    /// A code that is an HTTP status.
    pub status: Option<u16>,
    /// How long the server asks to wait.
    pub delay: Option<Duration>,
    /// Size of the model's context, if a field names it.
    pub context_tokens: Option<u64>,
}

impl ServerError {
    /// An error without any structure.
    pub fn from_text(text: &str) -> Self {
        Self { message: text.trim().to_owned(), delay: retry::delay_in_text(text), ..Self::default() }
    }

    /// The error in the body of a response with an error status: JSON in any shape, an HTML page, or text.
    pub fn from_body(body: &str) -> Self {
        let body = body.trim_start_matches('\u{feff}');
        match json::parse_document(body) {
            Some(Value::Array(items)) => items.first().map_or_else(Self::default, Self::from_value),
            Some(value) => Self::from_value(&value),
            None if is_html(body) => {
                let lower = body.to_ascii_lowercase();
                let is_page = lower.contains("<html") || lower.contains("<!doctype");
                // The errors of XML APIs have no title.
                let message = if is_page { html_title(body).unwrap_or_default() } else { html_words(body) };
                Self { message, ..Self::default() }
            }
            None => Self::in_stream(body).unwrap_or_else(|| Self::from_text(body)),
        }
    }

    /// The error in a body that is a stream although its status is that of an error: events, or JSON lines.
    fn in_stream(body: &str) -> Option<Self> {
        let mut reader = PayloadReader::new(Framing::Events);
        let payloads = reader.push(body.as_bytes()).into_iter().chain(reader.finish());
        payloads.into_iter().find_map(|payload| match payload {
            Payload::Json { value, .. } => Some(Self::from_value(&value)),
            Payload::Error(text) => Some(Self::from_text(&text)),
            Payload::Done | Payload::Text(_) | Payload::Malformed(_) | Payload::TooLong => None,
        })
    }

    /// The error in a payload of a stream. `None` if the payload is not an error.
    pub fn in_payload(payload: &Value) -> Option<Self> {
        let fields = payload.as_object()?;
        let is_set = |name: &str| fields.get(name).is_some_and(is_meaningful);
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        const CONTENT: [&str; 11] = [
            "choices",
            "candidates",
            "content",
            "delta",
            "content_block",
            "usage",
            "done",
            "data",
            "output",
            "result",
            "response",
        ];
        let has_content = CONTENT.iter().any(|name| is_set(name));
        let messages = ["message", "msg", "error_msg", "error_message", "errmsg"];
        let has_message = messages.iter().any(|name| text(name).is_some());
        let codes =
            ["code", "status", "status_code", "statusCode", "error_code", "error_type", "errcode", "__type"];
        let has_code =
            codes.iter().any(|name| is_set(name) && fields.get(*name).is_some_and(|code| !is_success(code)));
        let has_failed = fields.get("success") == Some(&Value::Bool(false));
        let is_error = ["error", "Error", "fault", "exception"].iter().any(|name| is_set(name))
            || text("object") == Some("error")
            || text("type") == Some("error")
            || (!has_content && (is_set("errors") || is_set("detail")))
            || (!has_content && has_message && (has_code || has_failed));
        if is_error {
            return Some(Self::from_value(payload));
        }
        // MiniMax reports success in the same object.
        if let Some(status) = payload.get("base_resp")
            && status.get("status_code").and_then(Value::as_i64).is_some_and(|code| code != 0)
        {
            return Some(Self::from_value(status));
        }
        let choices = payload.get("choices").or_else(|| payload.get("candidates"))?.as_array()?;
        choices
            .iter()
            .find_map(|choice| choice.get("error").filter(|error| is_meaningful(error)))
            .map(Self::from_value)
    }

    fn from_value(value: &Value) -> Self {
        let mut error = Self { message: words(value, MAX_DEPTH).unwrap_or_default(), ..Self::default() };
        error.collect(value, MAX_DEPTH);
        error.delay = error.delay.or_else(|| retry::delay_in_text(&error.message));
        error
    }

    /// Collects codes, the status and the delay from an error and the errors within it.
    fn collect(&mut self, value: &Value, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else { return };
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.collect(item, depth)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    match name.as_str() {
                        "code" | "type" | "status" | "reason" | "param" | "status_code" | "statusCode"
                        | "error_code" | "error_type" | "httpCode" | "Code" | "StatusCode"
                        | "raw_status_code" | "__type" => {
                            self.add_code(value, depth);
                        }
                        "retryDelay" | "retry_after" | "retryAfter" | "retry_after_seconds" => {
                            self.delay = self.delay.or_else(|| retry::delay_of_value(value));
                        }
                        "n_ctx" => self.context_tokens = token_count(value),
                        "error" | "Error" | "fault" | "errors" | "detail" | "details" | "metadata"
                        | "innererror" | "cause" => {
                            self.collect(value, depth);
                        }
                        "raw" | "message" => {
                            if let Some(inner) = value.as_str().and_then(embedded) {
                                self.collect(&inner, depth);
                            }
                        }
                        _ => {}
                    }
                }
            }
            Value::String(text) => {
                if let Some(inner) = embedded(text) {
                    self.collect(&inner, depth);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn add_code(&mut self, value: &Value, depth: usize) {
        if let Some(number) = token_count(value).and_then(|number| u16::try_from(number).ok())
            && (400..600).contains(&number)
        {
            self.status.get_or_insert(number);
        } else if let Value::String(text) = value {
            self.codes.push(text.to_ascii_lowercase());
        } else if value.is_object() {
            self.collect(value, depth);
        }
    }

    /// Whether a code contains one of these words.
    pub fn has_code(&self, words: &[&str]) -> bool {
        self.codes.iter().any(|code| words.iter().any(|word| code.contains(word)))
    }

    /// The codes and the message in lower case.
    pub fn searchable(&self) -> String {
        format!("{} {}", self.codes.join(" "), self.message.to_lowercase())
    }
}

/// Whether a code stands for success.
fn is_success(code: &Value) -> bool {
    match code {
        Value::Number(number) => matches!(number.as_u64(), Some(0 | 200)),
        Value::String(text) => {
            ["ok", "success", "0", "200"].iter().any(|word| text.eq_ignore_ascii_case(word))
        }
        _ => false,
    }
}

fn is_meaningful(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

/// JSON within a text.
fn embedded(text: &str) -> Option<Value> {
    json::is_json_like(text).then(|| json::parse_document(text)).flatten()
}

/// The words of an error. Gateways enclose the error of the server behind them.
fn words(value: &Value, depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    match value {
        Value::String(text) => {
            let inner = embedded(text).and_then(|inner| words(&inner, depth));
            inner.or_else(|| Some(text.trim().to_owned())).filter(|text| !text.is_empty())
        }
        Value::Array(items) => {
            let all: Vec<String> = items.iter().filter_map(|item| words(item, depth)).collect();
            (!all.is_empty()).then(|| all.join("; "))
        }
        Value::Object(fields) => {
            let of = |name: &str| fields.get(name).and_then(|value| words(value, depth));
            let general = [
                "message",
                "Message",
                "msg",
                "error_msg",
                "error_message",
                "errmsg",
                "faultstring",
                "error",
                "Error",
                "fault",
                "exception",
                "detail",
                "errors",
                "error_description",
                "error_message",
                "description",
                "status_msg",
                "reason",
                "title",
                "details",
            ]
            .into_iter()
            .find_map(of);
            // A validation error names the field.
            let field = fields.get("loc").and_then(Value::as_array).map(|path| {
                let names =
                    path.iter().map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned));
                names.collect::<Vec<_>>().join(".")
            });
            let general = match (field, general) {
                (Some(field), Some(general)) => Some(format!("{field}: {general}")),
                (_, general) => general,
            };
            let inner = fields.get("metadata").and_then(|metadata| words(metadata.get("raw")?, depth));
            match (general, inner) {
                (Some(general), Some(inner)) if !general.contains(&inner) => {
                    Some(format!("{general}: {inner}"))
                }
                (general, inner) => general.or(inner).or_else(|| of("type").or_else(|| of("code"))),
            }
            .map(|words| match fields.get("signin_url").and_then(Value::as_str) {
                Some(address) => format!("{words} ({address})"),
                None => words,
            })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Whether a text is an HTML page.
pub(super) fn is_html(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').trim_start().starts_with('<')
}

/// The title of a page.
fn html_title(page: &str) -> Option<String> {
    let lower = page.to_ascii_lowercase();
    let start = lower.find("<title")?;
    let start = start + lower.get(start..)?.find('>')? + 1;
    let end = start + lower.get(start..)?.find("</title")?;
    let title = page.get(start..end)?.split_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then_some(title)
}

/// What a reader of a page sees first: its title, or its text.
pub(super) fn html_words(page: &str) -> String {
    html_title(page).unwrap_or_else(|| {
        let texts = page.split('<').filter_map(|piece| {
            let (tag, text) = piece.split_once('>')?;
            let is_code = ["style", "script"].iter().any(|name| tag.to_ascii_lowercase().starts_with(name));
            (!is_code).then(|| text.trim()).filter(|text| !text.is_empty())
        });
        texts.collect::<Vec<_>>().join(" ")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_are_found_in_every_shape_with_the_servers_words() {
        for (payload, message, status) in [
            (json!({"error": {"message": "m", "code": 429}}), "m", Some(429)),
            (json!({"error": "m"}), "m", None),
            (json!({"error": {"message": "m", "code": "502"}}), "m", Some(502)),
            (json!({"object": "error", "message": "m", "code": 500}), "m", Some(500)),
            (json!({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}), "m", None),
            (json!({"detail": "m"}), "m", None),
            (json!({"detail": {"error": {"message": "m"}}}), "m", None),
            (json!({"detail": [{"loc": ["body", "messages", 0], "msg": "m"}]}), "body.messages.0: m", None),
            (json!({"errors": [{"message": "m"}, {"message": "n"}]}), "m; n", None),
            (json!({"success": false, "message": "m"}), "m", None),
            (json!({"code": "InvalidParameter", "message": "m", "request_id": "1"}), "m", None),
            (json!({"status": 503, "message": "m"}), "m", Some(503)),
            (json!({"base_resp": {"status_code": 1004, "status_msg": "m"}}), "m", None),
            (json!({"choices": [{"delta": {}, "error": {"code": 502, "message": "m"}}]}), "m", Some(502)),
            (
                json!({"error": {"message": "Provider returned error", "code": 400,
                                 "metadata": {"raw": "{\"error\":{\"message\":\"m\"}}"}}}),
                "Provider returned error: m",
                Some(400),
            ),
            (json!({"error": {"message": "{\"error\":{\"message\":\"m\",\"code\":404}}"}}), "m", Some(404)),
            (json!({"error": {"type": "server_error"}}), "server_error", None),
            (json!({"error": true, "message": "m"}), "m", None),
        ] {
            let error = ServerError::in_payload(&payload).unwrap_or_else(|| panic!("{payload}"));
            assert_eq!((error.message.as_str(), error.status), (message, status), "{payload}");
        }
    }

    #[test]
    fn ordinary_payloads_are_not_errors() {
        for payload in [
            json!({"error": null, "choices": [{"delta": {"content": "x"}, "error": null}]}),
            json!({"choices": [], "usage": {"prompt_tokens": 1}, "error": {}}),
            json!({"message": {"role": "assistant", "content": "x"}, "done": false}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
            json!({"candidates": [{"content": {"parts": []}}]}),
            json!({"status": "ok", "message": "processing"}),
            json!({"status": "processing"}),
            json!({"message": "hello"}),
            json!({"base_resp": {"status_code": 0, "status_msg": "success"}, "choices": []}),
            json!({}),
        ] {
            assert_eq!(ServerError::in_payload(&payload), None, "{payload}");
        }
    }

    #[test]
    fn bodies_may_be_json_pages_or_text() {
        for (body, message) in [
            (r#"[{"error": {"code": 503, "message": "m"}}]"#, "m"),
            ("<html><head><title>502\n Bad Gateway</title></head></html>", "502 Bad Gateway"),
            ("<html><body>oops</body></html>", ""),
            ("upstream timeout\n", "upstream timeout"),
            ("\u{feff}{\"error\": \"m\"}", "m"),
            ("event: error\ndata: {\"error\": {\"message\": \"m\"}}\n\n", "m"),
            ("data: {\"error\": {\"message\": \"m\"}}\n\ndata: [DONE]\n\n", "m"),
            ("event: error\ndata: m\n\n", "m"),
            ("{\"error\": \"m\"}\n{\"error\": \"n\"}\n", "m"),
            (r#"{"error": "unauthorized", "signin_url": "https://h/x"}"#, "unauthorized (https://h/x)"),
            ("", ""),
        ] {
            assert_eq!(ServerError::from_body(body).message, message, "{body}");
        }
        assert_eq!(html_words("<html><style>a{}</style><body><p>Please <b>log in</b></p>"), "Please log in");
    }
}
