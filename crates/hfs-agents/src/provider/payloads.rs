//! Splits the body of a response into JSON payloads: server-sent events, JSON lines, or one JSON document.
//!
//! A parser that follows the event-stream specification drops what real servers send beside it: an error on a line
//! without `data:`, a whole completion although a stream was requested, a last event without a blank line, the page of
//! a proxy. This reader keeps all of it; docs/decisions/0014-model-protocols.md names the parsers that were compared.

use memchr::memchr2;
use serde_json::Value;

use super::json::{CutCharacter, Parsed, is_json_like, parse};

/// A stream with a longer line or document is not read further. The longest known lines are images of a few megabytes.
const MAX_BUFFERED: usize = 64 * 1024 * 1024;

/// How a protocol separates its payloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Server-sent events.
    Events,
    /// One JSON value in each line.
    Lines,
}

/// One unit of a response.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Payload {
    /// A JSON value and the name of its event, which is empty in most protocols.
    Json { event: String, value: Value, cut: CutCharacter },
    /// The data of an `error` event that is not JSON.
    Error(String),
    /// The marker `[DONE]`.
    Done,
    /// Text that is not part of the protocol, such as an HTML page.
    Text(String),
    /// Data that begins like JSON and is not, with the parser's error.
    Malformed(String),
    /// A line or document that exceeds [`MAX_BUFFERED`].
    TooLong,
}

/// Reads payloads from the chunks of a body, which may be split anywhere.
pub(super) struct PayloadReader {
    framing: Framing,
    /// The bytes of a line whose end has not arrived.
    line: Vec<u8>,
    /// Whether the last byte was a CR. An LF that follows, possibly in the next chunk, belongs to the same line end.
    after_cr: bool,
    is_first_line: bool,
    event: String,
    /// Data of the current event that is not a complete payload yet.
    data: String,
    /// Lines without a field name.
    loose: String,
    payloads: Vec<Payload>,
}

impl PayloadReader {
    pub const fn new(framing: Framing) -> Self {
        Self {
            framing,
            line: Vec::new(),
            after_cr: false,
            is_first_line: true,
            event: String::new(),
            data: String::new(),
            loose: String::new(),
            payloads: Vec::new(),
        }
    }

    /// Reads a chunk and returns the payloads that it completes.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Payload> {
        let mut rest = bytes;
        if !rest.is_empty() && std::mem::take(&mut self.after_cr) {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let (head, tail) = rest.split_at(end);
            self.line.extend_from_slice(head);
            let (terminator, tail) = tail.split_at(1);
            rest = tail;
            if terminator == b"\r" {
                self.after_cr = rest.is_empty();
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            self.end_line();
        }
        self.line.extend_from_slice(rest);
        if self.line.len() + self.data.len() + self.loose.len() > MAX_BUFFERED {
            (self.line, self.data, self.loose) = Default::default();
            self.payloads.push(Payload::TooLong);
        }
        std::mem::take(&mut self.payloads)
    }

    /// Returns the payloads at the end of the body, whose last line may lack a line end.
    ///
    /// Incomplete JSON at the end is dropped: it is a sign of a connection that broke, which the caller detects.
    pub fn finish(&mut self) -> Vec<Payload> {
        let is_cut =
            self.framing == Framing::Lines && parse(String::from_utf8_lossy(&self.line).trim()).is_err();
        let is_dropped = is_cut && self.line.starts_with(b"{");
        if !self.line.is_empty() && !is_dropped {
            self.end_line();
        }
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        match parse(data.trim()) {
            Ok(values) => self.add_values(&event, values),
            Err(_) if event == "error" && !is_json_like(&data) => self.payloads.push(Payload::Error(data)),
            Err(_) if is_json_like(&data) => {}
            Err(_) => self.payloads.push(Payload::Text(data)),
        }
        let loose = std::mem::take(&mut self.loose);
        if !loose.trim().is_empty() {
            match parse(loose.trim()) {
                Ok(values) => self.add_values("", values),
                Err(_) if is_json_like(&loose) => {}
                Err(_) => self.payloads.push(Payload::Text(loose)),
            }
        }
        std::mem::take(&mut self.payloads)
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        // An invalid byte costs one character, not the line.
        let line = String::from_utf8_lossy(&line);
        let mut line = line.as_ref();
        if std::mem::take(&mut self.is_first_line) {
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.trim().is_empty() {
            self.end_event();
            return;
        }
        match line.split_once(':').unwrap_or((line, "")) {
            ("" | "id" | "retry", _) => {}
            (field, value) if field.trim_start().eq_ignore_ascii_case("data") => self.add_data(value),
            // llama.cpp has a field of its own for errors.
            ("error", value) => {
                "error".clone_into(&mut self.event);
                self.add_data(value);
            }
            ("event", name) => name.trim().clone_into(&mut self.event),
            _ => self.add_loose(line),
        }
    }

    /// Adds a `data` line. A line that is a whole payload is complete at once, since some servers send no blank lines.
    fn add_data(&mut self, line: &str) {
        let trimmed = line.trim();
        if self.data.is_empty() {
            if trimmed.is_empty() {
                return;
            }
            if is_end_marker(trimmed) {
                self.payloads.push(Payload::Done);
                return;
            }
            if let Ok(values) = parse(trimmed) {
                let event = self.event.clone();
                self.add_values(&event, values);
                return;
            }
        } else {
            self.data.push('\n');
        }
        self.data.push_str(line.strip_prefix(' ').unwrap_or(line));
    }

    fn end_event(&mut self) {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        let trimmed = data.trim();
        if trimmed.is_empty() {
            if is_end_event(&event) {
                self.payloads.push(Payload::Done);
            }
            return;
        }
        match parse(trimmed) {
            Ok(values) => self.add_values(&event, values),
            Err(_) if event == "error" => self.payloads.push(Payload::Error(data)),
            Err(error) if is_json_like(trimmed) => self.payloads.push(Payload::Malformed(error)),
            Err(_) => self.payloads.push(Payload::Text(data)),
        }
    }

    /// Adds a line without a field name: a JSON value, or a line of a document.
    fn add_loose(&mut self, line: &str) {
        let trimmed = line.trim();
        if self.loose.is_empty() {
            match parse(trimmed) {
                Ok(values) => {
                    let event = std::mem::take(&mut self.event);
                    self.add_values(&event, values);
                    return;
                }
                // The first line of a document in several lines is a brace alone in practice.
                Err(error)
                    if self.framing == Framing::Lines && is_json_like(trimmed) && trimmed.len() > 1 =>
                {
                    self.payloads.push(Payload::Malformed(error));
                    return;
                }
                Err(_) => {}
            }
        }
        self.loose.push_str(line);
        self.loose.push('\n');
        // The last line of a document is not indented. Trying to parse at every line would take quadratic time.
        if line.starts_with(['}', ']'])
            && let Ok(values) = parse(self.loose.trim())
        {
            self.loose.clear();
            self.add_values("", values);
        }
    }

    /// Adds the values, and the elements of an array, which Gemini sends if no event stream was requested.
    fn add_values(&mut self, event: &str, Parsed { values, cut }: Parsed) {
        for value in values {
            let elements = match value {
                Value::Array(elements) => elements,
                value => vec![value],
            };
            let payload = |value| Payload::Json { event: event.to_owned(), value, cut };
            self.payloads.extend(elements.into_iter().map(payload));
        }
    }
}

/// Whether the data of an event marks the end of the stream.
fn is_end_marker(data: &str) -> bool {
    ["[done]", "\"[done]\"", "done", "[end]"].iter().any(|marker| data.eq_ignore_ascii_case(marker))
}

/// Whether the name of an event says that the stream ends.
pub(super) fn is_end_event(name: &str) -> bool {
    ["done", "end", "complete", "completed", "finish", "close"].contains(&name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read_split(framing: Framing, body: &[u8], size: usize) -> Vec<Payload> {
        let mut reader = PayloadReader::new(framing);
        let mut payloads: Vec<Payload> = body.chunks(size).flat_map(|chunk| reader.push(chunk)).collect();
        payloads.extend(reader.finish());
        payloads
    }

    fn values(framing: Framing, body: &[u8]) -> Vec<Value> {
        let payloads = read_split(framing, body, body.len().max(1));
        payloads
            .into_iter()
            .map(|payload| match payload {
                Payload::Json { value, .. } => value,
                Payload::Done => "done".into(),
                Payload::Error(text) => json!({"error event": text}),
                Payload::Text(text) => json!({"text": text.trim()}),
                Payload::Malformed(_) => "malformed".into(),
                Payload::TooLong => "too long".into(),
            })
            .collect()
    }

    #[test]
    fn events_are_read_with_and_without_blanks_blank_lines_names_comments_and_byte_order_mark() {
        for body in [
            "data: {\"a\":1}\n\ndata: {\"b\":2}\n\ndata: [DONE]\n\n",
            "data:{\"a\":1}\n\ndata:{\"b\":2}\n\ndata:[DONE]",
            "data: {\"a\":1}\r\n\r\ndata: {\"b\":2}\r\n\r\ndata: [DONE]\r\n\r\n",
            "data: {\"a\":1}\rdata: {\"b\":2}\rdata: [DONE]\r",
            "\u{feff}: hello\n\ndata: {\"a\":1}\ndata: {\"b\":2}\ndata: [DONE]\n",
            "event: x\nid: 1\nretry: 5\ndata: {\"a\":1}\n\ndata:\n\ndata: \n\n:\n\ndata: {\ndata: \"b\":2}\n\ndata: [DONE] \n\n",
            " data: {\"a\":1}\n\ndata:   {\"b\":2}\n\ndata: [done]\n\n",
            "{\"a\":1}\n{\"b\":2}\ndata: [DONE]\n\n",
            "data: {\"a\":1}{\"b\":2}\n\ndata: [DONE]\n\n",
            "[{\"a\":1}\n,\n{\"b\":2}\n]\ndata: [DONE]\n\n",
        ] {
            assert_eq!(
                values(Framing::Events, body.as_bytes()),
                [json!({"a": 1}), json!({"b": 2}), json!("done")],
                "{body:?}"
            );
        }
    }

    #[test]
    fn a_value_on_a_line_of_its_own_and_a_document_in_several_lines_are_read() {
        let body = "data: {\"a\":1}\n\n{\"error\":\"x\"}\n";
        assert_eq!(values(Framing::Events, body.as_bytes()), [json!({"a": 1}), json!({"error": "x"})]);
        for document in
            ["{\n  \"error\": {\n    \"code\": 1\n  }\n}", "{\n\"error\":\n{\n\"code\": 1\n}\n}\n"]
        {
            for framing in [Framing::Events, Framing::Lines] {
                assert_eq!(
                    values(framing, document.as_bytes()),
                    [json!({"error": {"code": 1}})],
                    "{document}"
                );
            }
        }
    }

    #[test]
    fn text_beside_the_protocol_is_kept_and_the_data_of_an_error_event_is_an_error() {
        let page = "<html>\n<title>Sign in</title>\n</html>\n";
        assert_eq!(values(Framing::Events, page.as_bytes()), [json!({"text": page.trim()})]);
        for error in ["event: error\ndata: out of memory\n\n", "error: out of memory\n\n"] {
            assert_eq!(values(Framing::Events, error.as_bytes()), [json!({"error event": "out of memory"})]);
        }
        let field = "error: {\"code\":500}\n\ndata: {}\n\n";
        let payloads = read_split(Framing::Events, field.as_bytes(), usize::MAX);
        let events = payloads.iter().map(|payload| match payload {
            Payload::Json { event, .. } => event.as_str(),
            other => panic!("{other:?}"),
        });
        assert_eq!(events.collect::<Vec<_>>(), ["error", ""]);
        let words = "data: : PROCESSING\n\ndata: {}\n\n";
        assert_eq!(values(Framing::Events, words.as_bytes()), [json!({"text": ": PROCESSING"}), json!({})]);
    }

    #[test]
    fn damaged_json_is_reported_and_json_cut_at_the_end_is_not() {
        assert_eq!(
            values(Framing::Events, b"data: {\"a\": \n\ndata: {}\n\n"),
            [json!("malformed"), json!({})]
        );
        assert_eq!(values(Framing::Lines, b"{\"a\": \n{}\n"), [json!("malformed"), json!({})]);
        assert_eq!(values(Framing::Events, b"data: {}\n\ndata: {\"a\": "), [json!({})]);
    }

    #[test]
    fn a_bad_byte_a_half_surrogate_and_other_json_errors_cost_one_character() {
        for (body, text) in [
            (&b"data: {\"a\":\"x\xffy\"}\n\n"[..], "x\u{fffd}y"),
            (br#"data: {"a":"\ud83cx"}"#, "\u{fffd}x"),
            (br#"data: {"a":"\udf89x"}"#, "\u{fffd}x"),
            (br#"data: {"a":"\ud83c\ud83c\udf89"}"#, "\u{fffd}\u{1f389}"),
            (br#"data: {"a":"\ud83c\n\udf89","b":"\ud83c\udf89"}"#, "\u{fffd}\n\u{fffd}"),
            (b"data: {\"a\":\"tab\there\"}\n\n", "tab\there"),
            (br#"data: {"a":"it\'s \x"}"#, "it\\'s \\x"),
            (br#"data: {"b":NaN,"c":[Infinity,-Infinity,-1],"a":"NaN"}"#, "NaN"),
        ] {
            let values = values(Framing::Events, body);
            assert_eq!(values.first().and_then(|value| value["a"].as_str()), Some(text), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn the_payloads_do_not_depend_on_how_the_body_is_split(
            lines in prop::collection::vec(
                prop_oneof![
                    Just("data: {\"text\":\"Grüße 漢字\"}"), Just("event: error"), Just(""), Just(": ping"),
                    Just("data: words"), Just("{\"error\":1}"), Just("data: {\"a\":"), Just("data: 1}"),
                    Just("<html>"), Just("data: [DONE]"), Just("{"), Just("}"),
                ],
                0..12,
            ),
            end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
            size in 1_usize..20,
        ) {
            let body = lines.join(end);
            for framing in [Framing::Events, Framing::Lines] {
                let whole = read_split(framing, body.as_bytes(), usize::MAX);
                prop_assert_eq!(read_split(framing, body.as_bytes(), size), whole);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            read_split(Framing::Events, &bytes, 7);
            read_split(Framing::Lines, &bytes, 7);
        }
    }
}
