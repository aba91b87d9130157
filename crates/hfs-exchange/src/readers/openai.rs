//! Messages as in OpenAI's API (role, content, tool_calls), a format that many tools and datasets use.
//!
//! A source is one conversation (an array, or `{"messages": [...]}`), or a dataset with one conversation per
//! element of an array or per line.

use std::collections::{HashMap, VecDeque};

use hfs_core::{
    Attachment, ForeignSession, ImportError, ImportEvent, MessageDraft, Origin, Part, Role,
    Source as MessageSource, Timestamp,
};
use serde_json::{Map, Value, json};

use super::claude_code::{PART, decode_base64};
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::readers::{FLAGS, Output, RAW, RECORDS, ReportBuilder, excerpt};
use crate::records::{Entry, Framing, JsonRecord, for_each_record};
use crate::unread::UnreadFormat;
use crate::{Format, Source};

const NAME: &str = "openai-messages";
/// Keys of the message list in an element of a dataset.
const MESSAGE_KEYS: [&str; 2] = ["messages", "traj"];
/// Number of messages that are buffered until the user's first message, which identifies the conversation.
const MAX_BUFFERED: usize = 16;

pub(crate) struct OpenAi;

impl super::Reader for OpenAi {
    fn format(&self) -> Format {
        Format::OpenAiMessages
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        // Other formats contain such messages, too.
        let others = Format::ALL.into_iter().filter(|format| *format != Format::OpenAiMessages);
        if others.map(Format::reader).any(|reader| reader.probe(probe)) || UnreadFormat::of(probe).is_some() {
            return false;
        }
        probe.first_object().is_some_and(|first| is_message(first) || contains_messages(first))
            || probe.records().first().is_some_and(|first| is_message(first) || contains_messages(first))
            || probe.has_key("messages") && !probe.has_key("metadata") && !probe.has_key("info")
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let probe = FormatProbe::new(source)?;
        // A document can look like JSONL, if it is on one line or if one of its lines is an object.
        let is_document = probe.has_key("messages") && !probe.begins_with_record_and_more_lines();
        let framing = if probe.is_array() {
            Framing::Array(None)
        } else if probe.records().is_empty() || is_document {
            Framing::Array(Some("messages"))
        } else {
            Framing::Lines
        };
        let mut sessions = ChatSessions::new(source, out.reborrow(), NAME);
        for_each_record::<JsonRecord>(source, framing, &mut |at, entry| {
            sessions.report_progress(at.bytes)?;
            match entry {
                Entry::Damaged(why) => sessions.report.dropped(Some(at.line), why),
                Entry::Record(record, _) => sessions.record(record, at.line)?,
            }
            Ok(())
        })?;
        sessions.finish()
    }
}

/// Whether a record contains a conversation.
fn contains_messages(fields: &Map<String, Value>) -> bool {
    MESSAGE_KEYS.iter().any(|key| {
        let list = fields.get(*key).and_then(Value::as_array);
        list.is_some_and(|list| list.iter().take(3).filter_map(Value::as_object).any(is_message))
    })
}

/// Sends conversations of chat messages.
pub(crate) struct ChatSessions<'a> {
    source: &'a Source,
    out: Output<'a>,
    format: &'static str,
    /// Number of conversations with each id.
    seen: HashMap<String, u32>,
    open: Option<OpenSession>,
    pub report: ReportBuilder,
    found: bool,
}

/// The conversation that is being read.
struct OpenSession {
    session: ForeignSession,
    /// The conversation's own id, if it has one.
    id: Option<String>,
    /// Messages that were read before the session was sent.
    buffered: VecDeque<ChatMessage>,
    /// Whether the session has been sent.
    is_sent: bool,
    /// Number of messages.
    count: u64,
    /// Images of a dataset that have not been added to a message.
    images: VecDeque<String>,
}

impl<'a> ChatSessions<'a> {
    pub(crate) fn new(source: &'a Source, out: Output<'a>, format: &'static str) -> Self {
        Self {
            source,
            out,
            format,
            seen: HashMap::new(),
            open: None,
            report: ReportBuilder::default(),
            found: false,
        }
    }

    pub(crate) fn report_progress(&mut self, bytes: u64) -> Result<(), ImportError> {
        self.out.progress(bytes)
    }

    /// Adds a record: a message of the only conversation, or a whole conversation.
    fn record(&mut self, mut record: JsonRecord, line: u64) -> Result<(), ImportError> {
        let key = MESSAGE_KEYS.into_iter().find(|key| record.fields.get(*key).is_some_and(Value::is_array));
        let Some(key) = key else {
            if self.open.is_none() {
                self.begin(None, Map::new())?;
            }
            return self.message(record, line);
        };
        self.end()?;
        let Some(Value::Array(list)) = record.fields.shift_remove(key) else { return Ok(()) };
        let id = ["id", "conversation_id", "session_id", "uuid"].into_iter().find_map(|key| {
            match record.fields.get(key)? {
                Value::String(id) => Some(id.clone()),
                Value::Number(id) => Some(id.to_string()),
                _ => None,
            }
        });
        self.begin(id, record.fields)?;
        for item in list {
            match item {
                Value::Object(fields) => self.message(JsonRecord { fields, raw: None }, line)?,
                other => self
                    .report
                    .dropped(Some(line), format!("not a message: `{}`", excerpt(&other.to_string()))),
            }
        }
        self.end()
    }

    /// Begins a conversation with these session-level fields.
    pub(crate) fn begin(
        &mut self,
        id: Option<String>,
        mut fields: Map<String, Value>,
    ) -> Result<(), ImportError> {
        self.end()?;
        let path = self.source.path().map(|path| path.display().to_string());
        let mut session = ForeignSession::new(Origin { format: self.format.into(), id: String::new(), path });
        session.positional_ids = true;
        session.title = ["title", "session_name"]
            .into_iter()
            .find_map(|key| fields.get(key)?.as_str().filter(|title| !title.is_empty()).map(str::to_owned));
        let images = match fields.get("images") {
            Some(Value::Array(images)) => images
                .iter()
                .map(|image| image.as_str().map_or_else(|| image.to_string(), str::to_owned))
                .collect(),
            _ => VecDeque::new(),
        };
        if !fields.is_empty() {
            fields.shift_remove("messages");
            session.extra.insert(self.format.into(), Value::Object(fields));
        }
        self.open =
            Some(OpenSession { session, id, buffered: VecDeque::new(), is_sent: false, count: 0, images });
        Ok(())
    }

    /// Adds a message to the conversation.
    pub(crate) fn message(&mut self, record: JsonRecord, line: u64) -> Result<(), ImportError> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        let id = (open.count + 1).to_string();
        let Some(mut chat) = message(record, self.format, id) else {
            self.report.dropped(Some(line), "a message with an unknown role");
            return Ok(());
        };
        open.count += 1;
        self.report.mapped();
        place_images(&mut chat, &mut open.images);
        open.buffered.push_back(chat);
        let user = open.buffered.back().is_some_and(|chat| chat.draft.role == Role::User);
        if user || open.buffered.len() >= MAX_BUFFERED || open.is_sent {
            self.send_buffered()?;
        }
        Ok(())
    }

    /// Sends the session if it has not been sent, then the buffered messages.
    fn send_buffered(&mut self) -> Result<(), ImportError> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        if !open.is_sent {
            let base = open.id.clone().unwrap_or_else(|| beginning_hash(&open.buffered));
            let base = self.source.stem().map_or_else(|| base.clone(), |stem| format!("{stem}/{base}"));
            let occurrences = self.seen.entry(base.clone()).or_insert(0);
            *occurrences += 1;
            open.session.origin.id = if *occurrences == 1 { base } else { format!("{base}/{occurrences}") };
            // If no message has a time, the time of the session stays unknown.
            let times: Vec<Timestamp> =
                open.buffered.iter().filter(|chat| chat.has_time).map(|chat| chat.draft.created_at).collect();
            open.session.created_at = times.iter().min().copied();
            self.found = true;
            self.out.session(open.session.clone())?;
            open.is_sent = true;
        }
        while let Some(chat) = open.buffered.pop_front() {
            self.out.message(0, chat.draft, chat.attachments)?;
        }
        Ok(())
    }

    /// Ends the conversation, if one is open.
    pub(crate) fn end(&mut self) -> Result<(), ImportError> {
        self.send_buffered()?;
        if self.open.take().is_some() {
            self.out.send(ImportEvent::End(std::mem::take(&mut self.report).finish()))?;
        }
        Ok(())
    }

    /// Ends the import.
    pub(crate) fn finish(mut self) -> Result<(), ImportError> {
        self.end()?;
        if self.found {
            return Ok(());
        }
        let report = self.report.finish();
        let first = report.warnings.into_iter().next();
        let reason = first.map_or_else(
            || "it contains no conversation".to_owned(),
            |warning| {
                warning
                    .line
                    .map_or(warning.message.clone(), |line| format!("line {line}: {}", warning.message))
            },
        );
        Err(self.source.damaged(reason))
    }
}

/// Identifies a conversation by a hash of its messages up to the user's first one.
fn beginning_hash(messages: &VecDeque<ChatMessage>) -> String {
    let mut hasher = blake3::Hasher::new();
    for chat in messages {
        hasher.update(chat.draft.role.as_str().as_bytes());
        hasher.update(chat.draft.searchable_text().as_bytes());
        if chat.has_time {
            hasher.update(&chat.draft.created_at.as_micros().to_le_bytes());
        }
    }
    hasher.finalize().to_hex().chars().take(16).collect()
}

/// Adds the images of a dataset, which lists them apart from the messages and marks their places with
/// `<image>`.
fn place_images(chat: &mut ChatMessage, images: &mut VecDeque<String>) {
    let placeholders: usize = chat
        .draft
        .parts
        .iter()
        .map(|part| if let Part::Text { text } = part { text.matches("<image>").count() } else { 0 })
        .sum();
    for _ in 0..placeholders {
        let Some(image) = images.pop_front() else { return };
        chat.draft.parts.push(image_reference(&image));
    }
}

/// Fields that may contain the time of a message.
const TIME_FIELDS: [&str; 4] = ["created_at", "timestamp", "create_time", "created"];
/// Fields that may contain the model's reasoning.
const REASONING_FIELDS: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// A message with its attachments.
#[derive(Debug)]
pub(crate) struct ChatMessage {
    pub draft: MessageDraft,
    pub attachments: Vec<Attachment>,
    /// Whether the record contained a time.
    pub has_time: bool,
}

/// The role with this name, including the names that other tools use.
pub(crate) fn role(name: &str) -> Option<Role> {
    Some(match name {
        "user" | "human" => Role::User,
        "assistant" | "model" => Role::Assistant,
        "system" | "developer" => Role::System,
        "tool" | "function" => Role::Tool,
        _ => return None,
    })
}

/// Whether a record is a chat message.
pub(crate) fn is_message(fields: &Map<String, Value>) -> bool {
    fields.get("role").and_then(Value::as_str).is_some_and(|name| role(name).is_some())
        && (fields.contains_key("content")
            || fields.contains_key("tool_calls")
            || fields.contains_key("function_call"))
}

/// Converts a record into a message; `None` if its role is unknown.
pub(crate) fn message(record: JsonRecord, format: &str, id: String) -> Option<ChatMessage> {
    let JsonRecord { mut fields, raw } = record;
    let name = fields.get("role")?.as_str()?.to_owned();
    let role = role(&name)?;
    if role.as_str() == name {
        fields.shift_remove("role");
    }
    let time = TIME_FIELDS.into_iter().find_map(|key| Some((key, crate::time::from_json(fields.get(key)?)?)));
    let mut builder = ChatPartsBuilder { format, ..ChatPartsBuilder::default() };
    builder.reasoning(&mut fields);
    if role == Role::Tool {
        builder.result(&mut fields);
    } else {
        builder.content(&mut fields);
        builder.calls(&mut fields);
    }
    let mut draft = MessageDraft::new(role, builder.parts, time.map_or(Timestamp::UNIX_EPOCH, |(_, at)| at));
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
    Some(ChatMessage { draft, attachments: builder.attachments, has_time: time.is_some() })
}

#[derive(Default)]
struct ChatPartsBuilder<'f> {
    format: &'f str,
    parts: Vec<Part>,
    attachments: Vec<Attachment>,
}

impl ChatPartsBuilder<'_> {
    fn reasoning(&mut self, fields: &mut Map<String, Value>) {
        for key in REASONING_FIELDS {
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
                // An empty string becomes a part as well; null, which precedes tool calls, does not.
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

    /// Converts one element of a content list and returns its replacement in the stored record.
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
        // In the stored record, `true` marks the field whose text became the part.
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
            ("tool_call" | "function_call", Some("value")) => self.text_call(fields),
            ("image_url" | "input_image" | "image", _) => self.image(fields),
            _ => {
                self.push(Map::new(), Part::Opaque { source: self.format.into(), raw: Value::Object(fields) })
            }
        }
    }

    /// Converts a tool call that is written as text: `{"name": ..., "arguments": ...}`.
    fn text_call(&mut self, mut fields: Map<String, Value>) -> Value {
        let text = fields.get("value").and_then(Value::as_str).unwrap_or_default();
        let parsed = parse(text).map(|parsed| parsed.value);
        let name =
            parsed.as_ref().and_then(|parsed| parsed.get("name")).and_then(Value::as_str).unwrap_or_default();
        let input =
            parsed.as_ref().and_then(|parsed| parsed.get("arguments").or_else(|| parsed.get("parameters")));
        let input = input.cloned().unwrap_or_else(|| Value::String(text.to_owned()));
        let call = Part::ToolCall { id: String::new(), name: name.to_owned(), input };
        let written = parsed.is_some_and(|parsed| serializes_as(&parsed, text));
        if written {
            fields.shift_remove("value");
        }
        self.push(fields, call)
    }

    fn image(&mut self, mut fields: Map<String, Value>) -> Value {
        let url = match fields.get("image_url").or_else(|| fields.get("url")).or_else(|| fields.get("value"))
        {
            Some(Value::String(url)) => Some(url.clone()),
            Some(Value::Object(inner)) => inner.get("url").and_then(Value::as_str).map(str::to_owned),
            _ => None,
        };
        let part = self.image_at(url.as_deref());
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

    fn image_at(&mut self, url: Option<&str>) -> Part {
        let inline = url
            .and_then(|url| url.strip_prefix("data:"))
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
        image_reference(url.unwrap_or_default())
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

    /// Converts a tool's message into one result.
    fn result(&mut self, fields: &mut Map<String, Value>) {
        let id = match take(fields, "tool_call_id") {
            id if id.is_empty() => fields.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
            id => id,
        };
        let mut images = ChatPartsBuilder { format: self.format, ..ChatPartsBuilder::default() };
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

/// A part for an image that is not inline.
pub(crate) fn image_reference(url: &str) -> Part {
    let name = (!url.is_empty()).then(|| url.to_owned());
    Part::Attachment { media_type: "image/*".into(), name, hash: None, bytes: 0 }
}

/// Removes and returns a string; empty if the field is missing or has another type.
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

/// Returns the arguments of a call. Removes the field only if serializing the value gives exactly the same
/// text.
pub(crate) fn take_arguments(fields: &mut Map<String, Value>) -> Value {
    match fields.get("arguments") {
        Some(Value::String(text)) => match parse(text) {
            Some(parsed) if parsed.raw.is_none() => {
                if serializes_as(&parsed.value, text) {
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

/// Whether serializing the value gives exactly this text.
fn serializes_as(value: &Value, text: &str) -> bool {
    let written = value.to_string();
    written == text
}
