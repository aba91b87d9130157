//! Writes a Codex rollout with the history of the current branch.
//!
//! A rollout contains a conversation twice: as items, which are sent to the model, and as events, which are
//! shown to the user. Without the events Codex continues a session, but neither lists it nor shows its
//! messages. The records of a message that was imported from Codex are written as they came.

use std::io::Write;

use hfs_core::{BranchId, Message, Part, Role, Session, Timestamp};
use serde_json::{Map, Value, json};

use super::pairing::{CallIds, OpenCall, Pairing, Step, object_input};
use super::restore::resolve_references;
use super::{
    AttachedFile, MESSAGE, SentFiles, TranscriptOptions, TranscriptReport, TranscriptTime, WRITTEN,
    attached_file, for_each_current_message, is_blank, is_context, session_time, write_record,
};
use crate::Format;
use crate::export::{DocumentSource, ExportError};
use crate::readers::{AFTER, BEFORE, RAW, RECORDS};

const NAME: &str = Format::Codex.as_str();
/// The version of Codex that is written into the rollout.
const VERSION: &str = "0.169.0";
/// The output of a call without one. OpenAI's API rejects a call that has no output.
const NO_OUTPUT: &str = "[no output of this call is known]";

/// The id of the rollout's thread: the branch's, because a rollout contains the history of one branch.
pub(crate) fn thread_id(session: &Session) -> BranchId {
    session.current_branch
}

pub(super) fn write(
    source: &dyn DocumentSource,
    options: TranscriptOptions<'_>,
    out: &mut dyn Write,
) -> Result<TranscriptReport, ExportError> {
    let session = source.session()?;
    let mut writer = RolloutWriter {
        source,
        out,
        session: &session,
        time: TranscriptTime::new(&session),
        ids: CallIds::default(),
        pairing: Pairing::new(options.open_calls),
        started: false,
        next_ordinal: None,
        report: TranscriptReport::default(),
    };
    for_each_current_message(source, &session, &mut |message| {
        writer.begin(Some(&message))?;
        writer.pairing.push(message, &mut writer.ids, &mut writer.report);
        writer.write_pending(false)
    })?;
    writer.begin(None)?;
    writer.write_pending(true)?;
    Ok(writer.report)
}

struct RolloutWriter<'a> {
    source: &'a dyn DocumentSource,
    out: &'a mut dyn Write,
    session: &'a Session,
    time: TranscriptTime,
    ids: CallIds,
    pairing: Pairing,
    /// Whether the session's metadata were written.
    started: bool,
    /// The lowest number that the next record may have, if Codex numbers the records of the session.
    next_ordinal: Option<u64>,
    report: TranscriptReport,
}

impl RolloutWriter<'_> {
    /// Writes the session's metadata, with the fields of the original ones if the session was imported from Codex.
    fn begin(&mut self, first: Option<&Message>) -> Result<(), ExportError> {
        if self.started {
            return Ok(());
        }
        self.started = true;
        let original = first.filter(|first| is_original(first)).and_then(|first| {
            let before = array(first.content.extra.get(BEFORE)).iter();
            before
                .filter(|record| kind(record) == "session_meta")
                .find_map(|record| record.get("payload")?.as_object())
        });
        let id = thread_id(self.session);
        let mut payload = original.cloned().unwrap_or_default();
        // Codex does not resume a session of a provider that is not configured; without one, it takes its default.
        payload.shift_remove("model_provider");
        let at = session_time(self.session);
        let cwd = self.session.project.as_ref().map_or("/", |project| project.directory.as_str());
        let own = json!({
            "id": id, "session_id": id, "timestamp": at, "cwd": cwd, "originator": "hfs", "cli_version": VERSION,
            "instructions": null, "source": "cli",
        });
        for (key, value) in own.as_object().into_iter().flatten() {
            if matches!(key.as_str(), "id" | "session_id") || !payload.contains_key(key) {
                payload.insert(key.clone(), value.clone());
            }
        }
        let is_paginated = payload.get("history_mode").and_then(Value::as_str) == Some("paginated");
        self.next_ordinal = is_paginated.then_some(0);
        self.write_numbered(json!({"timestamp": at, "type": "session_meta", "payload": payload}))?;
        Ok(())
    }

    /// Writes a record with its number. In a session whose history is paginated, Codex resumes only if the numbers of its records
    /// grow. They have gaps where records were left out, but records from another place in the history may be in between.
    fn write_numbered(&mut self, mut record: Value) -> std::io::Result<()> {
        const ORDINAL: &str = "ordinal";
        if let Value::Object(fields) = &mut record {
            match &mut self.next_ordinal {
                Some(next) => {
                    let original = fields.get(ORDINAL).and_then(Value::as_u64);
                    let ordinal = original.map_or(*next, |original| original.max(*next));
                    fields.insert(ORDINAL.into(), ordinal.into());
                    *next = ordinal.saturating_add(1);
                }
                None => {
                    fields.shift_remove(ORDINAL);
                }
            }
        }
        write_record(self.out, &record)
    }

    fn write_pending(&mut self, all: bool) -> Result<(), ExportError> {
        while let Some(steps) = self.pairing.next(all, &mut self.report) {
            for step in steps {
                match step {
                    Step::Message { message, parts } => self.write_step(&message, &parts, is_call)?,
                    Step::Results { message, parts } => self.write_step(&message, &parts, is_result)?,
                    Step::Unanswered { message, calls } => self.write_no_outputs(&message, &calls)?,
                }
            }
        }
        Ok(())
    }

    /// Writes a message, or the results in one. `identified` selects the parts with ids of calls.
    fn write_step(
        &mut self,
        message: &Message,
        parts: &[Part],
        identified: fn(&Part) -> Option<&String>,
    ) -> Result<(), ExportError> {
        if is_original(message) {
            let ids =
                message.content.parts.iter().filter_map(identified).zip(parts.iter().filter_map(identified));
            let ids: Vec<(&String, &String)> = ids.collect();
            return self.write_original(message, &ids);
        }
        let at = self.time.of(message);
        for item in self.items(message, parts)? {
            self.write_line(at, message, "response_item", &item)?;
        }
        for event in events(message) {
            self.write_line(at, message, "event_msg", &event)?;
        }
        Ok(())
    }

    fn write_line(
        &mut self,
        at: Timestamp,
        message: &Message,
        kind: &str,
        payload: &Value,
    ) -> std::io::Result<()> {
        let written = json!({ MESSAGE: message.content.id });
        self.write_numbered(json!({"timestamp": at, "type": kind, "payload": payload, WRITTEN: written}))
    }

    /// Writes the records that a message was imported from. `ids` pairs the ids of its calls with those to write.
    fn write_original(&mut self, message: &Message, ids: &[(&String, &String)]) -> Result<(), ExportError> {
        self.time.of(message);
        let extra = &message.content.extra;
        for record in array(extra.get(BEFORE)) {
            self.write_other(message, record)?;
        }
        for record in array(extra.get(RECORDS)) {
            if let Some(event) = record.get("$event") {
                self.write_other(message, event)?;
                continue;
            }
            let Some(mut record) = parsed(record) else { continue };
            resolve_references(self.source, &mut record, &message.content.parts)?;
            // A bare item, as in the first versions of Codex, whose lines have no envelope.
            if record.get("payload").is_none() {
                let at = self.time.of(message);
                record = json!({"timestamp": at, "type": "response_item", "payload": record});
            }
            if let Some(Value::Object(payload)) = record.get_mut("payload") {
                restore_call(payload, &message.content.parts);
                replace_id(payload, ids);
                // The picture of this call is base64, not an address.
                if let Some(Value::String(result)) = payload.get_mut("result")
                    && let Some((_, data)) = result.split_once(";base64,")
                {
                    *result = data.to_owned();
                }
                self.report.missing_attachments += replace_missing_images(payload);
            }
            self.write_record_of(message, record)?;
        }
        for record in array(extra.get(AFTER)) {
            self.write_other(message, record)?;
        }
        Ok(())
    }

    /// Writes a record that is not a message.
    fn write_other(&mut self, message: &Message, record: &Value) -> Result<(), ExportError> {
        let Some(record) = parsed(record) else { return Ok(()) };
        let Some(payload) = record.get("payload") else { return Ok(()) };
        // The session's metadata were written, a rollback refers to turns that are not in the rollout, and the settings
        // of the original thread name its provider, without which Codex does not resume.
        let belongs_to_original = kind(&record) == "session_meta"
            || matches!(kind(payload), "thread_rolled_back" | "thread_settings_applied");
        if !belongs_to_original {
            self.write_record_of(message, record)?;
        }
        Ok(())
    }

    fn write_record_of(&mut self, message: &Message, mut record: Value) -> Result<(), ExportError> {
        if let Value::Object(fields) = &mut record {
            fields.insert(WRITTEN.into(), json!({ MESSAGE: message.content.id }));
        }
        self.write_numbered(record)?;
        Ok(())
    }

    /// Writes outputs for calls without one. The calls of OpenAI's own tools, such as web search, have none.
    fn write_no_outputs(&mut self, message: &Message, calls: &[OpenCall]) -> Result<(), ExportError> {
        let at = self.time.of(message);
        for call in calls {
            let kind = match call_kind(message, &call.original) {
                Some("custom_tool_call") => "custom_tool_call_output",
                Some("function_call" | "local_shell_call") | None => "function_call_output",
                Some(_) => {
                    self.report.calls_without_result = self.report.calls_without_result.saturating_sub(1);
                    continue;
                }
            };
            let item = json!({"type": kind, "call_id": call.id, "output": NO_OUTPUT});
            self.write_line(at, message, "response_item", &item)?;
        }
        Ok(())
    }

    /// The items that send a message to the model.
    fn items(&mut self, message: &Message, parts: &[Part]) -> Result<Vec<Value>, ExportError> {
        let role = message.content.role;
        let (name, kind) = match role {
            Role::Assistant => ("assistant", "output_text"),
            Role::System => ("developer", "input_text"),
            Role::User | Role::Tool => ("user", "input_text"),
        };
        let mut content = Vec::new();
        let mut items: Vec<Value> = Vec::new();
        for part in parts.iter().filter(|part| !is_blank(part)) {
            match part {
                Part::Text { text } => content.push(json!({"type": kind, "text": text})),
                // Codex accepts only reasoning that its own provider has encrypted.
                Part::Thinking { .. } => self.report.thinking += 1,
                Part::Opaque { .. } => self.report.opaque += 1,
                Part::ToolCall { id, name, input } => {
                    let arguments = object_input(input).to_string();
                    items.push(json!({
                        "type": "function_call", "name": name, "arguments": arguments, "call_id": id,
                    }));
                }
                Part::ToolResult { id, output, .. } => {
                    items.push(json!({"type": "function_call_output", "call_id": id, "output": output}));
                }
                Part::Attachment { media_type, name, hash, bytes } => {
                    let hash = hash.filter(|_| role != Role::Assistant);
                    let file = (media_type.as_str(), name.as_deref(), hash, *bytes);
                    let item = match attached_file(self.source, SentFiles::Images, file, &mut self.report)? {
                        AttachedFile::Content { media_type, base64 } => {
                            let url = AttachedFile::data_url(&media_type, &base64);
                            json!({"type": "input_image", "image_url": url})
                        }
                        AttachedFile::Name(label) => json!({"type": kind, "text": label}),
                    };
                    match items.last_mut().filter(|last| self::kind(last) == "function_call_output") {
                        Some(output) => push_output(output, item),
                        None => content.push(item),
                    }
                }
            }
        }
        if !content.is_empty() {
            items.insert(0, json!({"type": "message", "role": name, "content": content}));
        }
        Ok(items)
    }
}

/// Adds a picture to the output of a tool.
fn push_output(output: &mut Value, item: Value) {
    let Some(content) = output.get_mut("output") else { return };
    let mut items = match content.take() {
        Value::Array(items) => items,
        Value::String(text) if text.trim().is_empty() => Vec::new(),
        text => vec![json!({"type": "input_text", "text": text})],
    };
    items.push(item);
    *content = Value::Array(items);
}

/// The events that show a message to the user.
fn events(message: &Message) -> Vec<Value> {
    let thoughts = message.content.parts.iter().filter_map(|part| match part {
        Part::Thinking { text, .. } if !text.is_empty() => {
            Some(json!({"type": "agent_reasoning", "text": text}))
        }
        _ => None,
    });
    let mut events: Vec<Value> = thoughts.collect();
    let text = message.content.text();
    match message.content.role {
        Role::User if !text.is_empty() && !is_context(&message.content) => events.push(json!({
            "type": "user_message", "message": text, "images": [], "local_images": [], "text_elements": [],
        })),
        Role::Assistant if !text.is_empty() => events.push(json!({"type": "agent_message", "message": text})),
        Role::User | Role::Assistant | Role::System | Role::Tool => {}
    }
    events
}

/// Whether a message was imported from Codex, together with its records.
fn is_original(message: &Message) -> bool {
    let content = &message.content;
    content.source.as_ref().is_some_and(|source| source.format == NAME)
        && !array(content.extra.get(RECORDS)).is_empty()
}

fn array(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn kind(record: &Value) -> &str {
    record.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn is_call(part: &Part) -> Option<&String> {
    if let Part::ToolCall { id, .. } = part { Some(id) } else { None }
}

fn is_result(part: &Part) -> Option<&String> {
    if let Part::ToolResult { id, .. } = part { Some(id) } else { None }
}

/// A stored record; `None` if its original text is not valid JSON.
fn parsed(record: &Value) -> Option<Value> {
    match record.get(RAW).and_then(Value::as_str) {
        Some(raw) => crate::json::parse(raw).map(|parsed| parsed.value),
        None => Some(record.clone()),
    }
}

/// The id by which an item refers to its call.
fn item_id(payload: &Map<String, Value>) -> Option<&str> {
    ["call_id", "id"].into_iter().find_map(|key| payload.get(key)?.as_str())
}

/// Restores the arguments of a call, which are stored once, as the input of the part.
fn restore_call(payload: &mut Map<String, Value>, parts: &[Part]) {
    if payload.get("type").and_then(Value::as_str) != Some("function_call")
        || payload.contains_key("arguments")
    {
        return;
    }
    let input = parts.iter().find_map(|part| match part {
        Part::ToolCall { id, input, .. } if Some(id.as_str()) == item_id(payload) => Some(input.to_string()),
        _ => None,
    });
    payload.insert("arguments".into(), input.unwrap_or_else(|| "{}".into()).into());
}

/// Replaces the id of a call if it is not valid or was used before.
fn replace_id(payload: &mut Map<String, Value>, ids: &[(&String, &String)]) {
    let Some(current) = payload.get("call_id").and_then(Value::as_str) else { return };
    let new = ids.iter().find(|(original, new)| *original == current && original != new);
    if let Some((_, new)) = new {
        payload.insert("call_id".into(), (*new).clone().into());
    }
}

/// Replaces images without bytes by text, and returns their number. OpenAI's API rejects an empty address.
fn replace_missing_images(payload: &mut Map<String, Value>) -> u64 {
    let mut missing = 0;
    for key in ["content", "output"] {
        for item in payload.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
            if kind(item) == "input_image" && item.get("image_url").and_then(Value::as_str) == Some("") {
                *item = json!({"type": "input_text", "text": "[missing attachment]"});
                missing += 1;
            }
        }
    }
    missing
}

/// The type of the item from which a call was imported.
fn call_kind<'m>(message: &'m Message, id: &str) -> Option<&'m str> {
    if !is_original(message) {
        return None;
    }
    array(message.content.extra.get(RECORDS)).iter().find_map(|record| {
        let payload = record.get("payload").unwrap_or(record).as_object()?;
        let is_call = payload.get("type")?.as_str()?.ends_with("_call");
        (is_call && item_id(payload).unwrap_or_default() == id)
            .then(|| payload.get("type")?.as_str())
            .flatten()
    })
}
