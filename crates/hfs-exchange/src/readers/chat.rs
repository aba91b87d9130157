//! Chat messages as OpenAI's API takes them (role, content, tool_calls), which many tools and datasets share.

use hfs_core::{Attachment, MessageDraft, Part, Role, Source as MessageSource, Timestamp};
use serde_json::{Map, Value, json};

use super::claude_code::{PART, decode_base64};
use crate::json::parse;
use crate::readers::{FLAGS, RAW, RECORDS};
use crate::records::Whole;

/// Fields under which a message's time may stand.
const TIMES: [&str; 4] = ["created_at", "timestamp", "create_time", "created"];
/// Fields in which models' thoughts are told beside the content.
const THOUGHTS: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// A message with what it refers to.
#[derive(Debug)]
pub(crate) struct Chat {
    pub draft: MessageDraft,
    pub attachments: Vec<Attachment>,
    /// Whether the record told its time.
    pub timed: bool,
}

/// The role that a name stands for.
pub(crate) fn role(name: &str) -> Option<Role> {
    Some(match name {
        "user" | "human" => Role::User,
        "assistant" | "model" => Role::Assistant,
        "system" | "developer" => Role::System,
        "tool" | "function" => Role::Tool,
        _ => return None,
    })
}

/// Whether a record is such a message.
pub(crate) fn is_message(fields: &Map<String, Value>) -> bool {
    fields.get("role").and_then(Value::as_str).is_some_and(|name| role(name).is_some())
        && (fields.contains_key("content")
            || fields.contains_key("tool_calls")
            || fields.contains_key("function_call"))
}

/// Turns a record into a message; `None` when it has no role that is known.
pub(crate) fn message(record: Whole, format: &str, id: String) -> Option<Chat> {
    let Whole { mut fields, raw } = record;
    let name = fields.get("role")?.as_str()?.to_owned();
    let role = role(&name)?;
    if role.as_str() == name {
        fields.shift_remove("role");
    }
    let time = TIMES.into_iter().find_map(|key| Some((key, crate::time::read(fields.get(key)?)?)));
    let mut collected = Collected { format, ..Collected::default() };
    collected.thoughts(&mut fields);
    if role == Role::Tool {
        collected.result(&mut fields);
    } else {
        collected.content(&mut fields);
        collected.calls(&mut fields);
    }
    let mut draft =
        MessageDraft::new(role, collected.parts, time.map_or(Timestamp::UNIX_EPOCH, |(_, at)| at));
    if let Some((key, at)) = time
        && fields.get(key).and_then(Value::as_str) == Some(&at.to_string())
    {
        fields.shift_remove(key);
    }
    if role == Role::Assistant {
        draft.model = fields.get("model").and_then(Value::as_str).map(str::to_owned);
    }
    draft.source = Some(MessageSource { format: format.to_owned(), id });
    if fields.get("hidden") == Some(&Value::Bool(true)) {
        draft.extra.insert(FLAGS.into(), json!(["hidden"]));
    }
    if let Some(raw) = raw {
        draft.extra.insert(RECORDS.into(), json!([{ RAW: raw }]));
    } else if !fields.is_empty() {
        draft.extra.insert(RECORDS.into(), json!([fields]));
    }
    Some(Chat { draft, attachments: collected.attachments, timed: time.is_some() })
}

#[derive(Default)]
struct Collected<'f> {
    format: &'f str,
    parts: Vec<Part>,
    attachments: Vec<Attachment>,
}

impl Collected<'_> {
    fn thoughts(&mut self, fields: &mut Map<String, Value>) {
        for key in THOUGHTS {
            if let Some(Value::String(text)) = fields.get_mut(key)
                && !text.is_empty()
            {
                self.parts.push(Part::Thinking { text: std::mem::take(text), signature: None });
                fields.insert(key.into(), json!({ PART: [0, self.parts.len() - 1] }));
                return;
            }
        }
    }

    fn content(&mut self, fields: &mut Map<String, Value>) {
        match fields.get_mut("content").map(Value::take) {
            Some(Value::String(text)) => {
                fields.shift_remove("content");
                // A null content beside tool calls is no text; an empty one is, and is kept.
                self.parts.push(Part::Text { text });
            }
            Some(Value::Array(items)) => {
                let items = items.into_iter().map(|item| self.item(item)).collect();
                fields.insert("content".into(), Value::Array(items));
            }
            Some(Value::Null) => {
                fields.insert("content".into(), Value::Null);
            }
            Some(other) => {
                let reference =
                    self.push(Map::new(), Part::Opaque { source: self.format.into(), raw: other });
                fields.insert("content".into(), reference);
            }
            None => {}
        }
    }

    fn push(&mut self, mut rest: Map<String, Value>, part: Part) -> Value {
        self.parts.push(part);
        rest.insert(PART.into(), json!([0, self.parts.len() - 1]));
        Value::Object(rest)
    }

    /// A part of a content that is a list.
    fn item(&mut self, item: Value) -> Value {
        let mut fields = match item {
            Value::Object(fields) if !fields.contains_key(PART) => fields,
            Value::String(text) => return self.push(Map::new(), Part::Text { text }),
            other => return self.push(Map::new(), Part::Opaque { source: self.format.into(), raw: other }),
        };
        let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let key = ["text", "value", "thinking", "reasoning", "summary"]
            .into_iter()
            .find(|key| fields.get(*key).is_some_and(Value::is_string));
        match (kind.as_str(), key) {
            ("text" | "input_text" | "output_text", Some(key)) => {
                let text = take(&mut fields, key);
                fields.insert(key.into(), json!(true));
                self.push(fields, Part::Text { text })
            }
            ("reasoning" | "thinking", Some(key)) => {
                let text = take(&mut fields, key);
                fields.insert(key.into(), json!(true));
                self.push(fields, Part::Thinking { text, signature: None })
            }
            ("tool_call" | "function_call", Some("value")) => self.told_call(fields),
            ("image_url" | "input_image" | "image", _) => self.image(fields),
            _ => {
                self.push(Map::new(), Part::Opaque { source: self.format.into(), raw: Value::Object(fields) })
            }
        }
    }

    /// A tool call that is told as a text: `{"name": ..., "arguments": ...}`.
    fn told_call(&mut self, mut fields: Map<String, Value>) -> Value {
        let text = fields.get("value").and_then(Value::as_str).unwrap_or_default();
        let told = parse(text).map(|parsed| parsed.value);
        let name =
            told.as_ref().and_then(|told| told.get("name")).and_then(Value::as_str).unwrap_or_default();
        let input = told.as_ref().and_then(|told| told.get("arguments").or_else(|| told.get("parameters")));
        let input = input.cloned().unwrap_or_else(|| Value::String(text.to_owned()));
        let call = Part::ToolCall { id: String::new(), name: name.to_owned(), input };
        let written = told.is_some_and(|told| writes_as(&told, text));
        if written {
            fields.shift_remove("value");
        }
        self.push(fields, call)
    }

    fn image(&mut self, mut fields: Map<String, Value>) -> Value {
        let address =
            match fields.get("image_url").or_else(|| fields.get("url")).or_else(|| fields.get("value")) {
                Some(Value::String(address)) => Some(address.clone()),
                Some(Value::Object(inner)) => inner.get("url").and_then(Value::as_str).map(str::to_owned),
                _ => None,
            };
        let part = self.image_at(address.as_deref());
        if matches!(part, Part::Attachment { hash: Some(_), .. }) {
            fields.shift_remove("url");
            match fields.get_mut("image_url") {
                Some(Value::Object(inner)) => {
                    inner.shift_remove("url");
                }
                _ => {
                    fields.shift_remove("image_url");
                }
            }
        }
        self.push(fields, part)
    }

    fn image_at(&mut self, address: Option<&str>) -> Part {
        let inline = address
            .and_then(|address| address.strip_prefix("data:"))
            .and_then(|rest| rest.split_once(";base64,"))
            .and_then(|(media_type, data)| Some((media_type.to_owned(), decode_base64(data)?)));
        if let Some((media_type, attachment)) = inline {
            let part = Part::Attachment {
                media_type,
                name: None,
                hash: Some(attachment.hash),
                bytes: attachment.bytes.len() as u64,
            };
            self.attachments.push(attachment);
            return part;
        }
        reference_to_image(address.unwrap_or_default())
    }

    fn calls(&mut self, fields: &mut Map<String, Value>) {
        if let Some(Value::Array(calls)) = fields.get_mut("tool_calls").map(Value::take) {
            let calls: Vec<Value> = calls.into_iter().map(|call| self.call(call)).collect();
            fields.insert("tool_calls".into(), Value::Array(calls));
        }
        if let Some(call @ Value::Object(_)) = fields.get_mut("function_call").map(Value::take) {
            let reference = self.call(json!({ "function": call }));
            fields.insert("function_call".into(), reference);
        }
    }

    fn call(&mut self, call: Value) -> Value {
        let Value::Object(mut fields) = call else {
            return self.push(Map::new(), Part::Opaque { source: self.format.into(), raw: call });
        };
        let id = take(&mut fields, "id");
        let (name, input) = match fields.get_mut("function") {
            Some(Value::Object(function)) => {
                let name = take(function, "name");
                let input = take_arguments(function);
                (name, input)
            }
            _ => (take(&mut fields, "name"), take_arguments(&mut fields)),
        };
        self.push(fields, Part::ToolCall { id, name, input })
    }

    /// The content of a tool's message: one result.
    fn result(&mut self, fields: &mut Map<String, Value>) {
        let id = match take(fields, "tool_call_id") {
            id if id.is_empty() => fields.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
            id => id,
        };
        let mut images = Collected { format: self.format, ..Collected::default() };
        let output = match fields.get_mut("content").map(Value::take) {
            Some(Value::String(text)) => {
                fields.shift_remove("content");
                text
            }
            Some(Value::Array(items)) => {
                let original = Value::Array(items.clone());
                let mut texts = Vec::new();
                for item in items {
                    let _reference = images.item(item);
                }
                images.parts.retain(|part| match part {
                    Part::Text { text } => {
                        texts.push(text.clone());
                        false
                    }
                    _ => true,
                });
                fields.insert("content".into(), original);
                texts.join("\n")
            }
            Some(other) => {
                let text = if other.is_null() { String::new() } else { other.to_string() };
                fields.insert("content".into(), other);
                text
            }
            None => String::new(),
        };
        self.parts.push(Part::ToolResult { id, output, is_error: false });
        self.parts.append(&mut images.parts);
        self.attachments.append(&mut images.attachments);
    }
}

/// An image of which only the address came.
pub(crate) fn reference_to_image(address: &str) -> Part {
    let name = (!address.is_empty()).then(|| address.to_owned());
    Part::Attachment { media_type: "image/*".into(), name, hash: None, bytes: 0 }
}

/// Takes a text out; empty when it is none.
fn take(fields: &mut Map<String, Value>, key: &str) -> String {
    match fields.get_mut(key) {
        Some(Value::String(text)) => {
            let text = std::mem::take(text);
            fields.shift_remove(key);
            text
        }
        _ => String::new(),
    }
}

/// Takes the arguments of a call out. A text that does not come out the same when it is written again stays.
pub(crate) fn take_arguments(fields: &mut Map<String, Value>) -> Value {
    match fields.get("arguments") {
        Some(Value::String(text)) => match parse(text) {
            Some(parsed) if parsed.raw.is_none() => {
                if writes_as(&parsed.value, text) {
                    fields.shift_remove("arguments");
                }
                parsed.value
            }
            _ => fields.shift_remove("arguments").unwrap_or_default(),
        },
        Some(_) => fields.get("arguments").cloned().unwrap_or_default(),
        None => Value::Null,
    }
}

/// Whether writing the value gives this very text.
fn writes_as(value: &Value, text: &str) -> bool {
    let written = value.to_string();
    written == text
}
