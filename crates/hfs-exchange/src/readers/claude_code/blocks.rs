//! Anthropic content blocks to parts.
//!
//! What a part cannot hold stays in the record's shell, where `{"$part": [message, part]}` stands for the block
//! together with its remaining fields, so that the record can be written again as it was.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{Attachment, ContentHash, Part};
use serde_json::{Map, Value, json};

/// In a shell: which part of which of the record's messages stands here.
pub(crate) const PART: &str = "$part";
/// In a shell: which stretch of a tool result's output (first byte, length) stands here.
pub(crate) const TEXT: &str = "$text";
/// In a shell: which fields the block lacked that its part implies.
pub(crate) const WITHOUT: &str = "$without";

/// Parts that are being collected for one message.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub parts: Vec<Part>,
    pub attachments: Vec<Attachment>,
}

impl Parts {
    /// Turns a block into a part (a tool result with images: several). Returns what stands for the block in
    /// the shell, `message` being the number of this message among those of its record.
    pub(crate) fn add(&mut self, block: Value, message: usize) -> Value {
        let index = self.parts.len();
        let (rest, part) = match block {
            Value::Object(fields) => self.object(fields, message, index),
            other => (Map::new(), opaque(other)),
        };
        self.parts.insert(index.min(self.parts.len()), part);
        reference(message, index, rest)
    }

    fn object(
        &mut self,
        mut fields: Map<String, Value>,
        message: usize,
        index: usize,
    ) -> (Map<String, Value>, Part) {
        if fields.keys().any(|key| key.starts_with('$')) {
            return (Map::new(), opaque(Value::Object(fields)));
        }
        let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let is_text = |fields: &Map<String, Value>, key: &str| fields.get(key).is_some_and(Value::is_string);
        match kind.as_str() {
            "text" if is_text(&fields, "text") => {
                fields.shift_remove("type");
                let text = take_text(&mut fields, "text").unwrap_or_default();
                (fields, Part::Text { text })
            }
            "thinking" if is_text(&fields, "thinking") => {
                fields.shift_remove("type");
                let text = take_text(&mut fields, "thinking").unwrap_or_default();
                let signature = take_text(&mut fields, "signature");
                (fields, Part::Thinking { text, signature })
            }
            "redacted_thinking" if is_text(&fields, "data") => {
                let signature = take_text(&mut fields, "data");
                (fields, Part::Thinking { text: String::new(), signature })
            }
            "tool_use" | "server_tool_use" | "mcp_tool_use" if is_text(&fields, "name") => {
                tool_call(fields, &kind)
            }
            "tool_result" => self.tool_result(fields, message, index),
            "image" | "document" => self.file(fields),
            _ => (Map::new(), opaque(Value::Object(fields))),
        }
    }

    fn tool_result(
        &mut self,
        mut fields: Map<String, Value>,
        message: usize,
        index: usize,
    ) -> (Map<String, Value>, Part) {
        let mut without = Vec::new();
        fields.shift_remove("type");
        let id = take_required(&mut fields, "tool_use_id", &mut without);
        let is_error = fields.get("is_error") == Some(&Value::Bool(true));
        if is_error {
            fields.shift_remove("is_error");
        }
        let mut output = String::new();
        match fields.get_mut("content").map(Value::take) {
            Some(Value::String(text)) => {
                fields.shift_remove("content");
                output = text;
            }
            Some(Value::Array(items)) => {
                // The result itself comes first; its images and other blocks follow it.
                let mut nested = Self::default();
                let first = index + 1;
                let items =
                    items.into_iter().map(|item| nested.result_item(item, &mut output, message, first));
                let items: Vec<Value> = items.collect();
                fields.insert("content".into(), Value::Array(items));
                self.parts.append(&mut nested.parts);
                self.attachments.append(&mut nested.attachments);
            }
            Some(other) => {
                if let Value::Object(_) = other {
                    output = other.to_string();
                }
                fields.insert("content".into(), other);
            }
            None => without.push("content"),
        }
        note_absent(&mut fields, &without);
        (fields, Part::ToolResult { id, output, is_error })
    }

    /// An element of a tool result's content; `first` is the place of the first part after the result.
    fn result_item(&mut self, item: Value, output: &mut String, message: usize, first: usize) -> Value {
        if let Value::Object(fields) = &item
            && fields.get("type").and_then(Value::as_str) == Some("text")
            && let Some(text) = fields.get("text").and_then(Value::as_str)
            && !fields.keys().any(|key| key.starts_with('$'))
        {
            if !output.is_empty() {
                output.push('\n');
            }
            let stretch = json!([output.len(), text.len()]);
            output.push_str(text);
            let mut rest = fields.clone();
            rest.shift_remove("text");
            rest.insert(TEXT.into(), stretch);
            return Value::Object(rest);
        }
        let is_file = matches!(item.get("type").and_then(Value::as_str), Some("image" | "document"));
        let (rest, part) = match item {
            Value::Object(fields) if is_file && !fields.keys().any(|key| key.starts_with('$')) => {
                self.file(fields)
            }
            other => (Map::new(), opaque(other)),
        };
        self.parts.push(part);
        reference(message, first + self.parts.len() - 1, rest)
    }

    /// An image or document: its bytes become an attachment, its address stays a reference.
    fn file(&mut self, mut fields: Map<String, Value>) -> (Map<String, Value>, Part) {
        let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(Value::Object(source)) = fields.get_mut("source") else {
            return (Map::new(), opaque(Value::Object(fields)));
        };
        let media_type = source.get("media_type").and_then(Value::as_str);
        let media_type = media_type.map_or_else(|| format!("{kind}/*"), str::to_owned);
        let name = fields_name(source);
        let (hash, bytes) = match source.get("data").and_then(Value::as_str).and_then(decode_base64) {
            Some(attachment) => {
                source.shift_remove("data");
                let found = (Some(attachment.hash), attachment.bytes.len() as u64);
                self.attachments.push(attachment);
                found
            }
            None => (None, 0),
        };
        (fields, Part::Attachment { media_type, name, hash, bytes })
    }
}

fn fields_name(source: &Map<String, Value>) -> Option<String> {
    ["url", "file_id"].into_iter().find_map(|key| source.get(key)).and_then(Value::as_str).map(str::to_owned)
}

fn tool_call(mut fields: Map<String, Value>, kind: &str) -> (Map<String, Value>, Part) {
    let mut without = Vec::new();
    if kind == "tool_use" {
        fields.shift_remove("type");
    }
    let id = take_required(&mut fields, "id", &mut without);
    let name = take_text(&mut fields, "name").unwrap_or_default();
    let input = fields.shift_remove("input").unwrap_or_else(|| {
        without.push("input");
        Value::Null
    });
    note_absent(&mut fields, &without);
    (fields, Part::ToolCall { id, name, input })
}

/// Bytes with their hash.
pub(crate) fn attachment_of(bytes: Vec<u8>) -> Attachment {
    Attachment { hash: ContentHash::from_bytes(*blake3::hash(&bytes).as_bytes()), bytes }
}

/// Bytes written in base64, when writing them again gives the same text.
pub(crate) fn decode_base64(text: &str) -> Option<Attachment> {
    let bytes = STANDARD.decode(text).ok().filter(|bytes| !bytes.is_empty())?;
    Some(attachment_of(bytes))
}

fn opaque(raw: Value) -> Part {
    Part::Opaque { source: super::NAME.into(), raw }
}

fn reference(message: usize, part: usize, mut rest: Map<String, Value>) -> Value {
    rest.insert(PART.into(), json!([message, part]));
    Value::Object(rest)
}

fn take_text(fields: &mut Map<String, Value>, key: &str) -> Option<String> {
    match fields.get_mut(key)? {
        Value::String(text) => {
            let text = std::mem::take(text);
            fields.shift_remove(key);
            Some(text)
        }
        _ => None,
    }
}

/// Takes a text that its part always has; notes when the block does not.
fn take_required(
    fields: &mut Map<String, Value>,
    key: &'static str,
    without: &mut Vec<&'static str>,
) -> String {
    take_text(fields, key).unwrap_or_else(|| {
        without.push(key);
        String::new()
    })
}

fn note_absent(fields: &mut Map<String, Value>, without: &[&str]) {
    if !without.is_empty() {
        fields.insert(WITHOUT.into(), json!(without));
    }
}
