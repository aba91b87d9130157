//! JSON-RPC 2.0 over lines: one JSON text a line, in both directions.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserializer as _, Serialize};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Limit of a line. Pictures are sent within a line.
pub const MAX_LINE_BYTES: usize = 64 << 20;

/// What the other side sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// The answer to a request.
    Response {
        /// Id of the request; any JSON value, because an agent may send what it wants.
        id: Value,
        /// The result or the error.
        result: Result<Value, RpcError>,
    },
    /// Anything else.
    Message(RpcMessage),
}

/// A message that is not the answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum RpcMessage {
    /// A request, which has to be answered with its id.
    Request {
        /// Its id.
        id: Value,
        /// What is requested.
        method: String,
        /// Its arguments.
        params: Value,
    },
    /// A message that is not answered.
    Notification {
        /// What has happened.
        method: String,
        /// Its arguments.
        params: Value,
    },
}

/// Meaning of an error that a request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RpcErrorCode {
    /// The method is not known.
    MethodNotFound,
    /// The arguments are not valid.
    InvalidParams,
    /// The user has to log in to the agent.
    AuthRequired,
    /// A session or a file does not exist.
    NotFound,
    /// The request is not valid, or not valid at this time.
    InvalidRequest,
    /// The line cannot be read.
    ParseError,
    /// The side that answers has failed.
    Internal,
    /// Anything else.
    Other(i64),
}

impl RpcErrorCode {
    const fn from_number(code: i64) -> Self {
        match code {
            -32601 => Self::MethodNotFound,
            -32602 => Self::InvalidParams,
            -32000 => Self::AuthRequired,
            -32002 => Self::NotFound,
            -32600 => Self::InvalidRequest,
            -32700 => Self::ParseError,
            -32603 => Self::Internal,
            other => Self::Other(other),
        }
    }

    /// The number in messages.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::MethodNotFound => -32601,
            Self::InvalidParams => -32602,
            Self::AuthRequired => -32000,
            Self::NotFound => -32002,
            Self::InvalidRequest => -32600,
            Self::ParseError => -32700,
            Self::Internal => -32603,
            Self::Other(code) => code,
        }
    }
}

/// An error that a request is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError {
    /// Its meaning.
    pub code: RpcErrorCode,
    /// The words of the side that answered.
    pub message: String,
    /// More of its words, if it sent any.
    pub details: Option<String>,
}

/// Characters of the details that are shown.
const MAX_DETAILS: usize = 600;

impl RpcError {
    /// An error that hfs answers with.
    pub fn new(message: impl Into<String>) -> Self {
        Self { code: RpcErrorCode::Internal, message: message.into(), details: None }
    }

    fn from_value(value: &Value) -> Self {
        let code = value.get("code").and_then(Value::as_i64).unwrap_or(0);
        let message = value.get("message").and_then(Value::as_str).unwrap_or("no message").to_owned();
        let data = value.get("data").filter(|data| !data.is_null());
        let details = data.map(|data| {
            let text = data.as_str().or_else(|| data.get("details")?.as_str());
            let text = text.map_or_else(|| data.to_string(), str::to_owned);
            text.chars().take(MAX_DETAILS).collect::<String>()
        });
        let details = details.filter(|details| !message.contains(details.as_str()));
        Self { code: RpcErrorCode::from_number(code), message, details }
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.details {
            Some(details) => write!(f, "{} ({details})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Why a line is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The line does not look like JSON. Programs print such lines by mistake.
    #[error("it is not JSON")]
    NotJson,
    /// The line starts like JSON.
    #[error("{0}")]
    Malformed(String),
}

/// Reads the messages of a line: one, or several in a batch.
pub fn parse_line(line: &[u8]) -> Result<Vec<Incoming>, LineError> {
    let line = line.trim_ascii();
    if !matches!(line.first(), Some(b'{' | b'[')) {
        return Err(LineError::NotJson);
    }
    let value: Value = serde_json::from_slice(line)
        .or_else(|error| {
            let repaired = without_lone_surrogates(line);
            serde_json::from_slice(&repaired).map_err(|_| error)
        })
        .map_err(|error| LineError::Malformed(error.to_string()))?;
    match value {
        Value::Array(items) => items.into_iter().map(message).collect(),
        other => message(other).map(|message| vec![message]),
    }
}

/// A line of JSON in which the replacement character stands for each escape of half a character. JavaScript writes such
/// escapes for a text that was cut inside of a character, and JSON libraries refuse the whole line for them.
fn without_lone_surrogates(line: &[u8]) -> Vec<u8> {
    let code_at = |at: usize| -> Option<u32> {
        let digits = line.get(at..)?.strip_prefix(b"\\u")?.get(..4)?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut repaired = Vec::with_capacity(line.len());
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        let low_follows = || matches!(code_at(at + 6), Some(0xdc00..=0xdfff));
        let (length, is_lone) = match code_at(at) {
            Some(0xd800..=0xdbff) if low_follows() => (12, false),
            Some(0xd800..=0xdfff) => (6, true),
            Some(_) => (6, false),
            // An escaped backslash does not begin the next escape.
            None if byte == b'\\' => (2, false),
            None => (1, false),
        };
        let text = line.get(at..(at + length).min(line.len())).unwrap_or_default();
        repaired.extend_from_slice(if is_lone { b"\\ufffd" } else { text });
        at += length;
    }
    repaired
}

fn message(value: Value) -> Result<Incoming, LineError> {
    let Value::Object(mut fields) = value else {
        return Err(LineError::Malformed("it is not a JSON object".into()));
    };
    let id = fields.remove("id");
    match fields.remove("method") {
        Some(Value::String(method)) => {
            let params = fields.remove("params").unwrap_or(Value::Null);
            Ok(Incoming::Message(match id {
                Some(id) => RpcMessage::Request { id, method, params },
                None => RpcMessage::Notification { method, params },
            }))
        }
        Some(_) => Err(LineError::Malformed("its method is not a string".into())),
        None => response(id.unwrap_or(Value::Null), fields),
    }
}

fn response(id: Value, mut fields: Map<String, Value>) -> Result<Incoming, LineError> {
    // An error of null beside a result is not an error.
    if let Some(error) = fields.get("error").filter(|error| !error.is_null()) {
        return Ok(Incoming::Response { id, result: Err(RpcError::from_value(error)) });
    }
    match fields.remove("result") {
        Some(result) => Ok(Incoming::Response { id, result: Ok(result) }),
        None => Err(LineError::Malformed("it has neither a method nor a result".into())),
    }
}

/// A request as a line.
pub fn request_line(id: u64, method: &str, params: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": serde_json::to_value(params)?}))
}

/// A notification as a line.
pub fn notification_line(method: &str, params: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    line(&json!({"jsonrpc": "2.0", "method": method, "params": serde_json::to_value(params)?}))
}

/// The answer to a request of the agent as a line.
pub fn result_line(id: &Value, result: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    line(&json!({"jsonrpc": "2.0", "id": id, "result": serde_json::to_value(result)?}))
}

/// Says that a request of the agent is not supported, as a line.
pub fn method_not_found_line(id: &Value, method: &str) -> serde_json::Result<Vec<u8>> {
    error_line(id, RpcErrorCode::MethodNotFound, &format!("hfs does not offer {method}"))
}

/// Says that the arguments of a request of the agent cannot be read, as a line.
pub fn invalid_params_line(id: &Value, reason: &str) -> serde_json::Result<Vec<u8>> {
    error_line(id, RpcErrorCode::InvalidParams, reason)
}

/// Answers a request with an error, as a line.
pub fn error_line(id: &Value, code: RpcErrorCode, message: &str) -> serde_json::Result<Vec<u8>> {
    let error = json!({"code": code.number(), "message": message});
    line(&json!({"jsonrpc": "2.0", "id": id, "error": error}))
}

/// What the readable beginning of a line says about its message.
#[derive(Debug, PartialEq, Eq)]
pub struct UnreadableHead {
    /// The id; `Null` without a valid one.
    pub id: Value,
    /// Whether the message is a request or a notification.
    pub is_request: bool,
}

/// The head of a message whose line cannot be read as a whole. `line` may be the beginning of the line.
pub fn head_of_unreadable(line: &[u8]) -> UnreadableHead {
    struct Fields<'a>(&'a mut UnreadableHead);

    impl<'de> Visitor<'de> for Fields<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a message")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
            while let Some(name) = fields.next_key::<String>()? {
                self.0.is_request |= matches!(name.as_str(), "method" | "params");
                if name == "id" {
                    self.0.id = fields.next_value()?;
                } else {
                    fields.next_value::<IgnoredAny>()?;
                }
            }
            Ok(())
        }
    }

    let mut head = UnreadableHead { id: Value::Null, is_request: false };
    // The error is known; what was read before it counts.
    let _ = serde_json::Deserializer::from_slice(line).deserialize_map(Fields(&mut head));
    if !head.id.is_string() && !head.id.is_number() {
        head.id = Value::Null;
    }
    head
}

fn line(message: &Value) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The end of reading lines.
#[derive(Debug)]
pub enum ReadEnd {
    /// The agent has closed its output.
    Closed,
    /// The line that was being read is too long.
    TooLong,
}

/// Reads the next line without its line break into `line`.
pub async fn read_line(input: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> Result<(), ReadEnd> {
    line.clear();
    loop {
        // A reading error, such as a reset pipe, ends the output as well.
        let available = input.fill_buf().await.unwrap_or_default();
        if available.is_empty() {
            return if line.is_empty() { Err(ReadEnd::Closed) } else { Ok(()) };
        }
        let (taken, is_whole) = match memchr::memchr(b'\n', available) {
            Some(end) => (end + 1, true),
            None => (available.len(), false),
        };
        if line.len() + taken > MAX_LINE_BYTES {
            return Err(ReadEnd::TooLong);
        }
        line.extend_from_slice(available.get(..taken).unwrap_or_default());
        input.consume(taken);
        if is_whole {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_message_is_recognized() {
        let one = |text: &str| parse_line(text.as_bytes()).unwrap().remove(0);
        assert!(matches!(
            one(r#"{"id":1,"result":null}"#),
            Incoming::Response { result: Ok(Value::Null), .. }
        ));
        assert!(matches!(one(r#"{"id":"a","method":"m"}"#), Incoming::Message(RpcMessage::Request { .. })));
        assert!(matches!(
            one(r#"{"method":"m","params":{}}"#),
            Incoming::Message(RpcMessage::Notification { .. })
        ));
        assert!(matches!(
            one(r#"{"id":1,"result":{},"error":null}"#),
            Incoming::Response { result: Ok(_), .. }
        ));
        let Incoming::Response { result: Err(error), .. } =
            one(r#"{"id":1,"error":{"code":-32000,"message":"log in","data":{"details":"no key"}}}"#)
        else {
            panic!()
        };
        assert_eq!(error.code, RpcErrorCode::AuthRequired);
        assert_eq!(error.to_string(), "log in (no key)");
        assert_eq!(parse_line(br#"[{"method":"a"},{"method":"b"}]"#).unwrap().len(), 2);
    }

    #[test]
    fn a_line_that_is_not_a_message_is_told_from_a_broken_message() {
        for noise in ["", "Debugger attached.", "npm warn x", "\u{1b}[2J"] {
            assert_eq!(parse_line(noise.as_bytes()), Err(LineError::NotJson), "{noise}");
        }
        let deep = "[".repeat(100_000);
        for broken in ["{", "{\"id\":1}", "{\"method\":3}", "[1]", &deep] {
            assert!(matches!(parse_line(broken.as_bytes()), Err(LineError::Malformed(_))));
        }
    }

    #[test]
    fn the_id_of_a_request_is_found_although_its_line_is_broken() {
        for (line, id) in [
            (r#"{"jsonrpc":"2.0","id":7,"method":"session/prompt","params":{"text":"aaaa"#, json!(7)),
            (r#"{"method":"m","params":[1,{}],"id":"a"} x"#, json!("a")),
            (r#"{"method":"m","id":{"a":1}"#, Value::Null),
            (r#"{"params":[[["#, Value::Null),
            ("[1", Value::Null),
            ("", Value::Null),
        ] {
            assert_eq!(head_of_unreadable(line.as_bytes()).id, id, "{line}");
        }
        let deep = format!("{{\"params\":{}", "[".repeat(100_000));
        assert_eq!(head_of_unreadable(deep.as_bytes()).id, Value::Null);
        for (line, is_request) in [
            (r#"{"id":1,"method":"m"#, true),
            (r#"{"id":1,"method":"m","params":{"#, true),
            (r#"{"id":1,"params":{"#, true),
            (r#"{"id":1,"result":{"method":"#, false),
        ] {
            assert_eq!(head_of_unreadable(line.as_bytes()).is_request, is_request, "{line}");
        }
    }

    #[tokio::test]
    async fn lines_are_read_whole_and_the_last_one_without_a_line_break_too() {
        let mut input = &b"one\n\ntwo"[..];
        let mut line = Vec::new();
        let mut lines = Vec::new();
        while read_line(&mut input, &mut line).await.is_ok() {
            lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        }
        assert_eq!(lines, ["one", "", "two"]);
    }
}
