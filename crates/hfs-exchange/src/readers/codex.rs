//! Codex's rollout files, JSONL. Each line is an item in an envelope; in early 2025 it was a bare item.

use hfs_core::{
    Continuation, ForeignSession, ImportError, MessageId, Origin, Part, Project, Role,
    Source as MessageSource, Timestamp,
};
use serde_json::{Map, Value, json};

use super::content::{FilePart, ToolOutput, file_of};
use super::conversation::{ImportedMessage, text};
use super::openai::take_arguments;
use super::streamed::{StreamedSession, has_output};
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::readers::Output;
use crate::readers::claude_code::PART;
use crate::readers::written_from;
use crate::records::{Entry, Framing, JsonRecord, for_each_record};
use crate::transcript::WRITTEN;
use crate::{Format, Source};

const NAME: &str = "codex";
const ENVELOPES: [&str; 6] =
    ["session_meta", "response_item", "event_msg", "turn_context", "compacted", "world_state"];
const IMAGE_GENERATION: &str = "image_generation_call";
const CALLS: [&str; 6] = [
    "function_call",
    "custom_tool_call",
    "local_shell_call",
    "web_search_call",
    "tool_search_call",
    IMAGE_GENERATION,
];
const OUTPUTS: [&str; 3] = ["function_call_output", "custom_tool_call_output", "tool_search_output"];

pub(crate) struct Codex;

impl super::Reader for Codex {
    fn format(&self) -> Format {
        Format::Codex
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        probe.records().iter().take(5).any(|record| {
            let enveloped = record.contains_key("payload")
                && text(record, "type").is_some_and(|kind| ENVELOPES.contains(&kind));
            let bare = record.contains_key("id")
                && record.contains_key("timestamp")
                && record.contains_key("instructions")
                || text(record, "record_type") == Some("state");
            enveloped || bare
        })
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let info = read_info(source, out)?;
        let session = session(source, &info);
        let mut rollout = Rollout {
            session: StreamedSession::new(out.reborrow(), session),
            info,
            turns: Vec::new(),
            last: None,
            written_from: None,
        };
        let mut found = false;
        let first_pass = source.bytes() / 4;
        for_each_record::<JsonRecord>(source, Framing::Lines, &mut |at, entry| {
            rollout.session.report_progress(first_pass + at.bytes / 4 * 3)?;
            match entry {
                Entry::Damaged(why) => rollout.session.report.dropped(Some(at.line), why),
                Entry::Record(record, length) => {
                    found = true;
                    rollout.record(record, length, at.line)?;
                }
            }
            Ok(())
        })?;
        if found { rollout.session.finish() } else { Err(source.damaged("it contains no record")) }
    }
}

/// The fields that are needed before the first message is sent.
#[derive(Default)]
struct RolloutInfo {
    id: Option<String>,
    cwd: Option<String>,
    title: Option<String>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    /// The time in the header.
    started: Option<Timestamp>,
    /// Whether the file contains messages as items. If not, they are imported from the events that repeat
    /// them.
    items: bool,
}

/// The type of a record's envelope, and the item inside it. A bare item counts as a `response_item`.
fn item(fields: &Map<String, Value>) -> Option<(&str, &Map<String, Value>)> {
    match fields.get("payload") {
        Some(Value::Object(payload)) => Some((text(fields, "type")?, payload)),
        Some(_) => None,
        None if fields.contains_key("record_type") => None,
        None => text(fields, "type").map(|_| ("response_item", fields)),
    }
}

fn read_info(source: &Source, out: &mut Output<'_>) -> Result<RolloutInfo, ImportError> {
    let mut info = RolloutInfo::default();
    let mut event_times: Vec<Timestamp> = Vec::new();
    for_each_record::<JsonRecord>(source, Framing::Lines, &mut |at, entry| {
        out.progress(at.bytes / 4)?;
        let Entry::Record(JsonRecord { fields, .. }, _) = entry else { return Ok(()) };
        let time = fields.get("timestamp").and_then(crate::time::from_json);
        let Some((envelope, payload)) = item(&fields) else {
            if info.id.is_none() {
                info.id = text(&fields, "id").map(str::to_owned);
                info.started = time;
            }
            return Ok(());
        };
        let kind = text(payload, "type").unwrap_or_default();
        match (envelope, kind) {
            ("session_meta", _) if info.id.is_none() => {
                info.id = text(payload, "id").map(str::to_owned);
                info.cwd = text(payload, "cwd").map(str::to_owned);
                info.started = payload.get("timestamp").and_then(crate::time::from_json).or(time);
            }
            ("event_msg", "thread_name_updated") => {
                info.title = text(payload, "thread_name").map(str::to_owned);
            }
            ("event_msg", "user_message" | "agent_message") => event_times.extend(time),
            ("response_item", kind)
                if kind == "message" || CALLS.contains(&kind) || OUTPUTS.contains(&kind) =>
            {
                info.items |= kind == "message";
                if let Some(time) = time {
                    info.first = Some(info.first.map_or(time, |first| first.min(time)));
                    info.last = Some(info.last.map_or(time, |last| last.max(time)));
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    if !info.items {
        info.first = event_times.iter().copied().chain(info.first).min();
        info.last = event_times.iter().copied().chain(info.last).max();
    }
    info.first = info.first.or(info.started);
    Ok(info)
}

fn session(source: &Source, info: &RolloutInfo) -> ForeignSession {
    let stem = source.stem().unwrap_or_default();
    let id = match &info.id {
        // The file name ends with the id of the thread. A copy with another name is imported as another
        // session.
        Some(id) if stem.is_empty() || stem.ends_with(id.as_str()) => id.clone(),
        Some(id) => format!("{id}/{stem}"),
        None => stem,
    };
    let path = source.path().map(|path| path.display().to_string());
    let mut session = ForeignSession::new(Origin { format: NAME.into(), id, path });
    session.continues = info.id.as_deref().and_then(|id| id.parse().ok()).map(Continuation::Branch);
    session.title.clone_from(&info.title);
    session.project = info.cwd.clone().map(|directory| Project { directory, repository: None });
    session.created_at = info.first;
    session.updated_at = info.last;
    session
}

/// The author of a message; `None` if hfs does not know the role.
fn role(payload: &Map<String, Value>) -> Option<Role> {
    match text(payload, "role")? {
        "assistant" => Some(Role::Assistant),
        "developer" | "system" => Some(Role::System),
        "user" => Some(Role::User),
        _ => None,
    }
}

struct Rollout<'a> {
    session: StreamedSession<'a>,
    info: RolloutInfo,
    /// Branch and seq before each of the user's turns in the current history.
    turns: Vec<(usize, u64)>,
    last: Option<Timestamp>,
    /// The message of hfs from which an export wrote the current record.
    written_from: Option<MessageId>,
}

impl Rollout<'_> {
    fn record(&mut self, record: JsonRecord, bytes: usize, line: u64) -> Result<(), ImportError> {
        let time = record.fields.get("timestamp").and_then(crate::time::from_json);
        self.last = time.or(self.last);
        self.written_from = record.fields.get(WRITTEN).and_then(written_from);
        let Some((envelope, payload)) = item(&record.fields) else {
            self.session.push_other(record, bytes, line);
            return Ok(());
        };
        let kind = text(payload, "type").unwrap_or_default().to_owned();
        match (envelope, kind.as_str()) {
            ("response_item", "message") => match role(payload) {
                Some(role) => self.message(record, role, line),
                None => {
                    self.session.push_other(record, bytes, line);
                    Ok(())
                }
            },
            ("response_item", "reasoning") => self.reasoning(record, line),
            ("response_item", kind) if CALLS.contains(&kind) => self.call(record, line),
            ("response_item", kind) if OUTPUTS.contains(&kind) => self.output(record, line),
            ("event_msg", "thread_rolled_back") => {
                let turns = payload.get("num_turns").and_then(Value::as_u64).unwrap_or(1);
                self.session.push_other(record, bytes, line);
                self.roll_back(usize::try_from(turns).unwrap_or(usize::MAX))
            }
            ("event_msg", "user_message" | "agent_message") if !self.info.items => {
                self.event_message(record, line)
            }
            _ => {
                self.session.push_other(record, bytes, line);
                Ok(())
            }
        }
    }

    fn at(&self) -> Timestamp {
        self.last.or(self.info.first).unwrap_or(Timestamp::UNKNOWN)
    }

    fn new_message(&self, role: Role, parts: Vec<Part>, line: u64) -> ImportedMessage {
        let mut message = ImportedMessage::new(NAME, format!("line-{line}"), role, parts, self.at());
        if let Some(id) = self.written_from {
            message.draft.source = Some(MessageSource::hfs(id));
        }
        message
    }

    /// The newest message, if the current record may belong to it: it is the assistant's, and an export wrote both from
    /// the same message of hfs, or neither.
    fn newest_reply(&mut self) -> Option<&mut ImportedMessage> {
        let written_from = self.written_from;
        self.session.newest().filter(|newest| {
            let source = newest.draft.source.as_ref().and_then(MessageSource::hfs_message);
            newest.draft.role == Role::Assistant && source == written_from
        })
    }

    fn roll_back(&mut self, turns: usize) -> Result<(), ImportError> {
        let remaining = self.turns.len().saturating_sub(turns);
        let (branch, seq) = self.turns.get(remaining).copied().unwrap_or_else(|| self.session.position());
        self.turns.truncate(remaining);
        self.session.fork(branch, seq)
    }

    fn message(&mut self, mut record: JsonRecord, role: Role, line: u64) -> Result<(), ImportError> {
        self.session.report.mapped();
        let mut inner = take_payload(&mut record.fields);
        let payload = &mut inner;
        let joins = role == Role::Assistant && self.newest_reply().is_some_and(|newest| !has_output(newest));
        // The new parts are appended to the existing ones, so that the references in the stored record have
        // the right indexes.
        let mut parts =
            if joins { self.session.newest().map(|n| std::mem::take(&mut n.draft.parts)) } else { None }
                .unwrap_or_default();
        let mut attachments = Vec::new();
        content(payload, &mut parts, &mut attachments);
        let stored = stored_record(record, inner);
        if joins && let Some(newest) = self.session.newest() {
            newest.draft.parts = parts;
            newest.attachments.append(&mut attachments);
            self.session.attach_record(stored);
            return Ok(());
        }
        let mut message = self.new_message(role, parts, line);
        message.draft.mark_injected_context();
        if role == Role::User && !message.draft.is_context() {
            self.turns.push(self.session.position());
        }
        message.attachments = attachments;
        self.session.push_message(message)?;
        self.session.attach_record(stored);
        Ok(())
    }

    /// Adds a message from an event, for files without messages as items.
    fn event_message(&mut self, mut record: JsonRecord, line: u64) -> Result<(), ImportError> {
        self.session.report.mapped();
        let mut inner = take_payload(&mut record.fields);
        let payload = &mut inner;
        let role = if text(payload, "type") == Some("user_message") { Role::User } else { Role::Assistant };
        let content = text(payload, "message").unwrap_or_default().to_owned();
        if role == Role::User {
            self.turns.push(self.session.position());
        }
        payload.insert("message".into(), json!({ PART: [0, 0] }));
        let mut message = self.new_message(role, vec![Part::text(content)], line);
        if let Some(Value::Array(images)) = payload.get_mut("images") {
            for image in images {
                let picture = image.as_str().and_then(|url| FilePart::at_url(url, "image/*", None));
                if let Some(picture) = picture {
                    if picture.attachment.is_some() {
                        *image = json!({ PART: [0, message.draft.parts.len()] });
                    }
                    message.draft.parts.push(picture.part);
                    message.attachments.extend(picture.attachment);
                }
            }
        }
        self.session.push_message(message)?;
        self.session.attach_record(stored_record(record, inner));
        Ok(())
    }

    /// Adds a part to the newest message if it is the assistant's; otherwise starts a message. With `begins`,
    /// also starts a message if the newest one has output.
    fn assistant(&mut self, part: Part, begins: bool, line: u64) -> Result<(), ImportError> {
        let joins = self.newest_reply().is_some_and(|newest| !(begins && has_output(newest)));
        if joins {
            if let Some(newest) = self.session.newest() {
                newest.draft.parts.push(part);
            }
            return Ok(());
        }
        let message = self.new_message(Role::Assistant, vec![part], line);
        self.session.push_message(message)
    }

    fn reasoning(&mut self, mut record: JsonRecord, line: u64) -> Result<(), ImportError> {
        self.session.report.mapped();
        let mut inner = take_payload(&mut record.fields);
        let payload = &mut inner;
        let field_text =
            |key: &str| payload.get(key).map(|value| ToolOutput::new(value).text).unwrap_or_default();
        let mut thought = field_text("summary");
        if thought.is_empty() {
            thought = field_text("content");
        }
        let signature = text(payload, "encrypted_content").map(str::to_owned);
        self.assistant(Part::Thinking { text: thought, signature }, true, line)?;
        self.session.attach_record(stored_record(record, inner));
        Ok(())
    }

    fn call(&mut self, mut record: JsonRecord, line: u64) -> Result<(), ImportError> {
        self.session.report.mapped();
        let mut inner = take_payload(&mut record.fields);
        let payload = &mut inner;
        let kind = text(payload, "type").unwrap_or_default().to_owned();
        let id =
            ["call_id", "id"].into_iter().find_map(|key| text(payload, key)).unwrap_or_default().to_owned();
        let name = text(payload, "name").map_or(kind, str::to_owned);
        let picture = text(payload, "result").filter(|_| name == IMAGE_GENERATION);
        let picture = picture.and_then(|data| FilePart::from_base64("image/png", data, None));
        let input = if payload.contains_key("arguments") {
            take_arguments(payload)
        } else {
            let keys = ["input", "action", "query", "revised_prompt"];
            let other = keys.into_iter().find_map(|key| payload.get(key));
            other.cloned().unwrap_or(Value::Null)
        };
        self.assistant(Part::ToolCall { id, name, input }, false, line)?;
        if let (Some(picture), Some(newest)) = (picture, self.session.newest()) {
            payload.insert("result".into(), json!({ PART: [0, newest.draft.parts.len()] }));
            newest.draft.parts.push(picture.part);
            newest.attachments.extend(picture.attachment);
        }
        self.session.attach_record(stored_record(record, inner));
        Ok(())
    }

    fn output(&mut self, mut record: JsonRecord, line: u64) -> Result<(), ImportError> {
        self.session.report.mapped();
        let mut inner = take_payload(&mut record.fields);
        let payload = &mut inner;
        let id = text(payload, "call_id").unwrap_or_default().to_owned();
        let output = ["output", "tools"].into_iter().find_map(|key| payload.get(key)).unwrap_or(&Value::Null);
        let CallOutput { output: ToolOutput { text: output, files, attachments }, is_error } =
            CallOutput::new(output);
        match payload.get_mut("output") {
            Some(Value::String(text)) if *text == output => {
                payload.insert("output".into(), json!({ PART: [0, 0] }));
            }
            Some(Value::Array(items)) => replace_pictures(items),
            Some(Value::Object(fields)) => {
                if let Some(Value::Array(items)) = fields.get_mut("content") {
                    replace_pictures(items);
                }
            }
            _ => {}
        }
        let mut parts = vec![Part::ToolResult { id, output, is_error }];
        parts.extend(files);
        let mut message = self.new_message(Role::Tool, parts, line);
        message.attachments = attachments;
        self.session.push_message(message)?;
        self.session.attach_record(stored_record(record, inner));
        Ok(())
    }
}

/// The output of a call, and whether the call failed.
struct CallOutput {
    output: ToolOutput,
    is_error: bool,
}

impl CallOutput {
    /// Reads an output as Codex writes it: text, content blocks, `{content, success}`, or for commands and patches JSON
    /// inside of a string, `{output, metadata: {exit_code}}`.
    fn new(output: &Value) -> Self {
        let is_error = output.get("success") == Some(&Value::Bool(false));
        if let Some(command) = output.as_str().filter(|text| text.starts_with('{')).and_then(parse)
            && let (Some(text), Some(metadata)) = (
                command.value.get("output").filter(|output| output.is_string()),
                command.value.get("metadata"),
            )
        {
            let exit_code = metadata.get("exit_code").and_then(Value::as_i64);
            return Self { output: ToolOutput::new(text), is_error: exit_code.is_some_and(|code| code != 0) };
        }
        match output {
            Value::Object(fields) if fields.contains_key("content") => {
                let content = fields.get("content").unwrap_or(&Value::Null);
                Self { output: ToolOutput::new(content), is_error }
            }
            other => Self { output: ToolOutput::new(other), is_error },
        }
    }
}

/// Replaces the data of pictures in an output by references to the parts that follow the result.
fn replace_pictures(items: &mut [Value]) {
    let mut index = 0;
    for item in items {
        let Value::Object(fields) = item else { continue };
        let Some(file) = file_of(fields) else { continue };
        index += 1;
        if file.attachment.is_some() && fields.get("image_url").is_some_and(Value::is_string) {
            fields.insert("image_url".into(), json!({ PART: [0, index] }));
        }
    }
}

/// Removes the item from a record and returns it. A bare item is the record itself.
fn take_payload(fields: &mut Map<String, Value>) -> Map<String, Value> {
    match fields.get_mut("payload") {
        Some(Value::Object(payload)) => std::mem::take(payload),
        _ => std::mem::take(fields),
    }
}

/// The record to store, with the remaining fields of its item.
fn stored_record(record: JsonRecord, inner: Map<String, Value>) -> Value {
    if let Some(raw) = record.raw {
        return json!({ crate::readers::RAW: raw });
    }
    let mut fields = record.fields;
    match fields.get_mut("payload") {
        Some(payload) => {
            *payload = Value::Object(inner);
            Value::Object(fields)
        }
        None => Value::Object(inner),
    }
}

/// Converts the content of a message into parts, and replaces it by references to them.
fn content(
    payload: &mut Map<String, Value>,
    parts: &mut Vec<Part>,
    attachments: &mut Vec<hfs_core::Attachment>,
) {
    let Some(Value::Array(items)) = payload.get_mut("content") else {
        if let Some(content) = text(payload, "content").map(str::to_owned) {
            payload.insert("content".into(), json!({ PART: [0, parts.len()] }));
            parts.push(Part::Text { text: content });
        }
        return;
    };
    for item in items {
        let index = parts.len();
        let Value::Object(fields) = item else {
            parts.push(Part::Opaque { source: NAME.into(), raw: item.take() });
            *item = json!({ PART: [0, index] });
            continue;
        };
        match (text(fields, "type").unwrap_or_default(), text(fields, "text").map(str::to_owned)) {
            ("input_text" | "output_text" | "text", Some(content)) => {
                fields.insert("text".into(), json!({ PART: [0, index] }));
                parts.push(Part::Text { text: content });
            }
            _ => match file_of(fields) {
                Some(file) => {
                    if file.attachment.is_some() && fields.get("image_url").is_some_and(Value::is_string) {
                        fields.insert("image_url".into(), json!({ PART: [0, index] }));
                    }
                    attachments.extend(file.attachment);
                    parts.push(file.part);
                }
                None => {
                    parts.push(Part::Opaque { source: NAME.into(), raw: item.take() });
                    *item = json!({ PART: [0, index] });
                }
            },
        }
    }
}
