//! Anthropic content blocks to parts.
//!
//! What a part cannot hold stays in the record's shell, where `{"$part": [message, part]}` stands for the block
//! together with its remaining fields, so that the record can be written again as it was.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{Attachment, ContentHash, Part};
use serde_json::{Map, Value, json};

use super::content::{Block, CONTENT, Field, Fields};
use crate::json::push_array;

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
    /// Turns a block into a part (a tool result with images: several). Writes into the shell what stands for the
    /// block there, `message` being the number of this message among those of its record.
    pub(crate) fn add(&mut self, block: Block, message: usize, shell: &mut String) {
        let index = self.parts.len();
        let (rest, part) = match block {
            Block::Fields(fields) => self.fields(fields, message, index),
            Block::Other(value) => (Fields::default(), opaque(value)),
        };
        self.parts.insert(index.min(self.parts.len()), part);
        push_reference(shell, message, index, rest);
    }

    /// Turns a content that is but a text into a part.
    pub(crate) fn add_text(&mut self, text: String, shell: &mut String) {
        push_reference(shell, 0, self.parts.len(), Fields::default());
        self.parts.push(Part::Text { text });
    }

    fn fields(&mut self, mut fields: Fields, message: usize, index: usize) -> (Fields, Part) {
        if fields.has_marks() {
            return (Fields::default(), opaque(fields.into()));
        }
        let is_text = |name: &str| fields.text(name).is_some();
        match fields.text("type").unwrap_or_default() {
            "text" if is_text("text") => {
                fields.take("type");
                let text = fields.take_text("text").unwrap_or_default();
                (fields, Part::Text { text })
            }
            "thinking" if is_text("thinking") => {
                fields.take("type");
                let text = fields.take_text("thinking").unwrap_or_default();
                let signature = fields.take_text("signature");
                (fields, Part::Thinking { text, signature })
            }
            "redacted_thinking" if is_text("data") => {
                let signature = fields.take_text("data");
                (fields, Part::Thinking { text: String::new(), signature })
            }
            "tool_use" if is_text("name") => {
                fields.take("type");
                tool_call(fields)
            }
            "server_tool_use" | "mcp_tool_use" if is_text("name") => tool_call(fields),
            "tool_result" => self.tool_result(fields, message, index),
            "image" | "document" => self.file(fields),
            _ => (Fields::default(), opaque(fields.into())),
        }
    }

    fn tool_result(&mut self, mut fields: Fields, message: usize, index: usize) -> (Fields, Part) {
        let mut without = Vec::new();
        fields.take("type");
        let id = take_required(&mut fields, "tool_use_id", &mut without);
        let is_error = matches!(fields.get("is_error"), Some(Field::Value(Value::Bool(true))));
        if is_error {
            fields.take("is_error");
        }
        let mut output = String::new();
        if let Some(text) = fields.take_text(CONTENT) {
            output = text;
        } else {
            match fields.get_mut(CONTENT) {
                Some(Field::Blocks(items)) => {
                    let items = std::mem::take(items);
                    let shell = self.result_items(items, &mut output, message, index + 1);
                    fields.set(CONTENT.into(), Field::Json(shell));
                }
                Some(Field::Value(other @ Value::Object(_))) => output = other.to_string(),
                Some(_) => {}
                None => without.push(CONTENT),
            }
        }
        note_absent(&mut fields, &without);
        (fields, Part::ToolResult { id, output, is_error })
    }

    /// The elements of a tool result's content. The result itself comes first, its images and other blocks follow it,
    /// `first` being the place of the first. Returns what stands for all in the shell.
    fn result_items(
        &mut self,
        items: Vec<Block>,
        output: &mut String,
        message: usize,
        first: usize,
    ) -> String {
        let mut nested = Self::default();
        let mut shell = String::new();
        push_array(&mut shell, items, |shell, item| {
            nested.result_item(item, output, (message, first), shell);
        });
        self.parts.append(&mut nested.parts);
        self.attachments.append(&mut nested.attachments);
        shell
    }

    fn result_item(&mut self, item: Block, output: &mut String, at: (usize, usize), shell: &mut String) {
        let (rest, part) = match item {
            Block::Fields(mut fields) if !fields.has_marks() => {
                let kind = fields.text("type");
                let (is_text, is_file) = (kind == Some("text"), matches!(kind, Some("image" | "document")));
                if let Some(text) = is_text.then(|| fields.take_text("text")).flatten() {
                    let separator = if output.is_empty() { "" } else { "\n" };
                    output.push_str(separator);
                    push_with(shell, fields, TEXT, [output.len(), text.len()]);
                    output.push_str(&text);
                    return;
                }
                if is_file { self.file(fields) } else { (Fields::default(), opaque(fields.into())) }
            }
            other => (Fields::default(), opaque(other.into())),
        };
        let (message, first) = at;
        push_reference(shell, message, first + self.parts.len(), rest);
        self.parts.push(part);
    }

    /// An image or document: its bytes become an attachment, its address stays a reference.
    fn file(&mut self, mut fields: Fields) -> (Fields, Part) {
        let kind = fields.text("type").unwrap_or_default().to_owned();
        let Some(Field::Value(Value::Object(source))) = fields.get_mut("source") else {
            return (Fields::default(), opaque(fields.into()));
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

fn tool_call(mut fields: Fields) -> (Fields, Part) {
    let mut without = Vec::new();
    let id = take_required(&mut fields, "id", &mut without);
    let name = fields.take_text("name").unwrap_or_default();
    if fields.get("input").is_none() {
        without.push("input");
    }
    let input = fields.take("input").map_or(Value::Null, Value::from);
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

/// Writes what stands for a part: what it does not hold of its block, and which it is.
fn push_reference(shell: &mut String, message: usize, part: usize, rest: Fields) {
    push_with(shell, rest, PART, [message, part]);
}

/// Writes fields and, behind them, a mark with two numbers.
fn push_with(shell: &mut String, mut fields: Fields, mark: &'static str, [a, b]: [usize; 2]) {
    let mut numbers = String::with_capacity(16);
    // A string takes whatever is written to it.
    let _ = write!(numbers, "[{a},{b}]");
    fields.set(mark.into(), Field::Json(numbers));
    fields.push_json(shell);
}

/// Takes a text that its part always has; notes when the block does not.
fn take_required(fields: &mut Fields, name: &'static str, without: &mut Vec<&'static str>) -> String {
    fields.take_text(name).unwrap_or_else(|| {
        without.push(name);
        String::new()
    })
}

fn note_absent(fields: &mut Fields, without: &[&str]) {
    if !without.is_empty() {
        fields.set(WITHOUT.into(), Field::Value(json!(without)));
    }
}
