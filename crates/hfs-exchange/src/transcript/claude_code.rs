//! Writes a transcript of Claude Code with every branch. Its records form a tree, as do the branches of a
//! session.
//!
//! A record that was imported from Claude Code is restored from its stored form and from the parts of its
//! messages. `claude --resume` continues after the newest message of the file, unless a `last-prompt` record
//! refers to another one.

use std::collections::HashMap;
use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{Branch, BranchId, Message, Part, Role, Seq, Session, StoreError, Timestamp};
use serde_json::{Map, Value, json};

use super::write_record;
use crate::Format;
use crate::export::{DocumentSource, ExportError, PAGE};
use crate::readers::claude_code::{PART, QUEUED, TEXT, WITHOUT};
use crate::readers::{AFTER, BEFORE, RAW, RECORDS};

const NAME: &str = Format::ClaudeCode.as_str();
/// The version of Claude Code that is written into new records.
const VERSION: &str = "2.1.0";

pub(super) fn write(source: &dyn DocumentSource, out: &mut dyn Write) -> Result<(), ExportError> {
    let session = source.session()?;
    let branches = source.branches()?;
    let mut writer = TranscriptWriter {
        source,
        out,
        session_id: session_id(&session),
        cwd: cwd(&session),
        at: session.created_at,
        ends: HashMap::new(),
        newest: None,
        prompt: None,
        wrote_new: false,
        wrote_last_prompt: false,
    };
    for record in array(session.extra.get(RECORDS)) {
        writer.write_original(record)?;
    }
    // Insert a key for each fork. `write_group` sets the values of existing keys only, so that the map does not
    // grow with the number of messages.
    for branch in &branches {
        if let Some(parent) = branch.parent {
            writer.ends.insert((parent, branch.forked_at), None);
        }
    }
    let mut current = (None, None);
    for branch in &branches {
        writer.prompt = None;
        let end = writer.write_branch(branch, &branches)?;
        if branch.id == session.current_branch {
            current = (end, writer.prompt.take());
        }
    }
    let (end, prompt) = current;
    writer.write_resume_point(end.as_deref(), &prompt.unwrap_or_default())
}

/// The session id in the transcript: the original id if the session was imported from Claude Code.
pub(crate) fn session_id(session: &Session) -> String {
    match &session.origin {
        Some(origin) if origin.format == NAME => origin.id.split('/').next().unwrap_or_default().to_owned(),
        _ => session.id.to_string(),
    }
}

pub(crate) fn cwd(session: &Session) -> String {
    session.project.as_ref().map_or_else(|| "/".to_owned(), |project| project.directory.clone())
}

fn array(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

struct TranscriptWriter<'a> {
    source: &'a dyn DocumentSource,
    out: &'a mut dyn Write,
    session_id: String,
    cwd: String,
    /// The time of the session or of the newest message with a known time; also used for messages without one, because
    /// the format requires a time.
    at: Timestamp,
    /// For each fork, the id of the last record of the message before the fork. The key is the parent branch
    /// and the seq of that message.
    ends: HashMap<(BranchId, Seq), Option<String>>,
    /// Id of the newest record that is not part of a sidechain.
    newest: Option<String>,
    /// The user's last prompt on the branch that is being written.
    prompt: Option<String>,
    /// Whether a record was created for a message that was not imported from Claude Code.
    wrote_new: bool,
    /// Whether a `last-prompt` record was written.
    wrote_last_prompt: bool,
}

impl TranscriptWriter<'_> {
    /// Writes a `last-prompt` record that refers to `end`, unless a resume continues after `end` anyway. A
    /// resume continues after the newest record, unless an imported `last-prompt` record refers to an older one.
    fn write_resume_point(&mut self, end: Option<&str>, prompt: &str) -> Result<(), ExportError> {
        if end.is_some() && (end != self.newest.as_deref() || self.wrote_new && self.wrote_last_prompt) {
            let record = json!({
                "type": "last-prompt", "lastPrompt": prompt, "leafUuid": end, "sessionId": self.session_id,
            });
            write_record(self.out, &record)?;
        }
        Ok(())
    }

    /// Writes a branch's own messages; returns the id of the last record of its history.
    fn write_branch(&mut self, branch: &Branch, all: &[Branch]) -> Result<Option<String>, ExportError> {
        let mut last = self.end_before(branch, all);
        let mut after = branch.forked_at;
        let mut group: Vec<Message> = Vec::new();
        loop {
            let page = self.source.messages(branch.id, after, PAGE)?;
            let Some(end) = page.last() else { break };
            after = end.seq;
            for message in page {
                if message.content.role == Role::User {
                    self.prompt = Some(message.content.text());
                }
                if !continues(&group, &message) {
                    last = self.write_group(&group, last)?;
                    group.clear();
                }
                group.push(message);
            }
        }
        self.write_group(&group, last)
    }

    /// Id of the record that precedes the first record of a branch.
    fn end_before(&self, branch: &Branch, all: &[Branch]) -> Option<String> {
        let mut branch = branch;
        let seq = branch.forked_at;
        for _ in 0..=all.len() {
            let parent = branch.parent?;
            if let Some(Some(end)) = self.ends.get(&(parent, seq)) {
                return Some(end.clone());
            }
            branch = all.iter().find(|other| other.id == parent)?;
        }
        None
    }

    /// Writes the messages of one imported record, or one new message. Returns the id of the last record.
    fn write_group(
        &mut self,
        group: &[Message],
        last: Option<String>,
    ) -> Result<Option<String>, ExportError> {
        let Some(first) = group.first() else { return Ok(last) };
        for record in array(first.content.extra.get(BEFORE)) {
            self.write_original(record)?;
        }
        let records = array(first.content.extra.get(RECORDS));
        let imported =
            first.content.source.as_ref().is_some_and(|source| source.format == NAME) && !records.is_empty();
        let mut end = last;
        if imported {
            let restorer = RecordRestorer { source: self.source, messages: group };
            for record in records {
                let record = match record.get("$event") {
                    Some(event) => {
                        self.write_original(event)?;
                        continue;
                    }
                    None if record.get(RAW).is_some() => record.clone(),
                    None => restorer.record(record)?,
                };
                if let Some(uuid) = record.get("uuid").and_then(Value::as_str) {
                    end = Some(uuid.to_owned());
                    if record.get("isSidechain") != Some(&true.into()) {
                        self.newest.clone_from(&end);
                    }
                }
                self.write_original(&record)?;
            }
        } else {
            for message in group {
                end = self.write_new(message, end.as_deref())?;
                self.newest.clone_from(&end);
                self.wrote_new = true;
            }
        }
        for message in group {
            for record in array(message.content.extra.get(AFTER)) {
                self.write_original(record)?;
            }
            if let Some(slot) = self.ends.get_mut(&(message.branch, message.seq)) {
                slot.clone_from(&end);
            }
        }
        Ok(end)
    }

    /// Writes an imported record unchanged.
    fn write_original(&mut self, record: &Value) -> Result<(), ExportError> {
        self.wrote_last_prompt |= record.get("type").and_then(Value::as_str) == Some("last-prompt");
        match record.get(RAW).and_then(Value::as_str) {
            Some(raw) => writeln!(self.out, "{}", raw.replace(['\n', '\r'], " "))?,
            None => write_record(self.out, record)?,
        }
        Ok(())
    }

    /// Writes a message that was not imported from Claude Code; returns the id of its record.
    fn write_new(&mut self, message: &Message, parent: Option<&str>) -> Result<Option<String>, ExportError> {
        let kind = match message.content.role {
            Role::Assistant => "assistant",
            Role::User | Role::Tool => "user",
            Role::System => "system",
        };
        let uuid = message.content.id.to_string();
        self.at = message.content.created_at.known().unwrap_or(self.at);
        let mut record = json!({
            "parentUuid": parent, "isSidechain": false, "userType": "external", "cwd": self.cwd,
            "sessionId": self.session_id, "version": VERSION, "type": kind, "uuid": uuid,
            "timestamp": self.at,
        });
        let fields = match message.content.role {
            Role::System => {
                json!({"subtype": "informational", "content": message.content.text(), "isMeta": false})
            }
            Role::Assistant => {
                let usage = message.content.usage.unwrap_or_default();
                json!({"message": {
                    "id": format!("msg_{}", message.content.id.as_uuid().simple()), "type": "message",
                    "role": "assistant", "model": message.content.model.as_deref().unwrap_or("<synthetic>"),
                    "content": self.blocks(message)?, "stop_reason": "end_turn", "stop_sequence": null,
                    "usage": {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens},
                }})
            }
            Role::User | Role::Tool => json!({"message": {"role": "user", "content": self.blocks(message)?}}),
        };
        if let (Value::Object(record), Value::Object(fields)) = (&mut record, fields) {
            record.extend(fields);
        }
        write_record(self.out, &record)?;
        Ok(Some(uuid))
    }

    fn blocks(&self, message: &Message) -> Result<Value, ExportError> {
        let mut blocks = Vec::new();
        for part in &message.content.parts {
            match part {
                Part::Text { text } => blocks.push(json!({"type": "text", "text": text})),
                // On resume, the API rejects thinking blocks without its own signature, such as those of
                // other providers.
                Part::Thinking { .. } | Part::Opaque { .. } => {}
                Part::ToolCall { id, name, input } => {
                    blocks.push(json!({"type": "tool_use", "id": id, "name": name, "input": input}));
                }
                Part::ToolResult { id, output, is_error } => blocks.push(json!({
                    "type": "tool_result", "tool_use_id": id, "content": output, "is_error": is_error,
                })),
                Part::Attachment { media_type, hash: Some(hash), .. } if media_type.starts_with("image/") => {
                    let data = STANDARD.encode(self.source.attachment(*hash)?);
                    let source = json!({"type": "base64", "media_type": media_type, "data": data});
                    blocks.push(json!({"type": "image", "source": source}));
                }
                Part::Attachment { name, media_type, .. } => {
                    let label = name.as_deref().unwrap_or(media_type);
                    blocks.push(json!({"type": "text", "text": format!("[attachment: {label}]")}));
                }
            }
        }
        Ok(Value::Array(blocks))
    }
}

/// Whether a message was imported from the same record as the group.
fn continues(group: &[Message], message: &Message) -> bool {
    let Some(base) = group.first().and_then(|first| first.content.source.as_ref()) else { return false };
    let Some(id) = message.content.source.as_ref() else { return false };
    let rest = id.id.strip_prefix(&base.id).and_then(|rest| rest.strip_prefix('/'));
    base.format == NAME && id.format == NAME && rest.is_some_and(|rest| rest.parse::<u32>().is_ok())
}

/// Restores the records of a group of messages. The first message stores the records.
struct RecordRestorer<'a> {
    pub source: &'a dyn DocumentSource,
    pub messages: &'a [Message],
}

impl RecordRestorer<'_> {
    /// Restores a stored record.
    fn record(&self, stored: &Value) -> Result<Value, ExportError> {
        let mut record = stored.clone();
        let is_queued = record.pointer("/attachment/type").and_then(Value::as_str) == Some(QUEUED);
        let place = if is_queued { "/attachment/prompt" } else { "/message/content" };
        if let Some(content) = record.pointer_mut(place) {
            *content = self.content(content)?;
        }
        Ok(record)
    }

    fn content(&self, content: &Value) -> Result<Value, ExportError> {
        match content {
            Value::Array(items) => {
                items.iter().map(|item| self.block(item)).collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            Value::Object(fields) if fields.contains_key(PART) => match self.part(fields) {
                Some(Part::Text { text }) => Ok(text.clone().into()),
                Some(Part::Opaque { raw, .. }) => Ok(raw.clone()),
                _ => Ok(Value::Null),
            },
            other => Ok(other.clone()),
        }
    }

    fn part(&self, reference: &Map<String, Value>) -> Option<&Part> {
        let position = reference.get(PART)?.as_array()?;
        let at = |index: usize| position.get(index)?.as_u64().and_then(|at| usize::try_from(at).ok());
        self.messages.get(at(0)?)?.content.parts.get(at(1)?)
    }

    fn block(&self, item: &Value) -> Result<Value, ExportError> {
        let Value::Object(reference) = item else { return Ok(item.clone()) };
        if !reference.contains_key(PART) {
            return Ok(item.clone());
        }
        let Some(part) = self.part(reference) else { return Ok(Value::Null) };
        let mut rest = reference.clone();
        rest.shift_remove(PART);
        let without = rest.shift_remove(WITHOUT);
        let mut block = match part {
            Part::Text { text } => json!({"type": "text", "text": text}),
            Part::Thinking { signature, .. }
                if rest.get("type").and_then(Value::as_str) == Some("redacted_thinking") =>
            {
                json!({ "data": signature })
            }
            Part::Thinking { text, signature: Some(signature) } => {
                json!({"type": "thinking", "thinking": text, "signature": signature})
            }
            Part::Thinking { text, signature: None } => json!({"type": "thinking", "thinking": text}),
            Part::ToolCall { id, name, input } => {
                json!({"type": "tool_use", "id": id, "name": name, "input": input})
            }
            Part::ToolResult { id, output, is_error } => {
                let content = match rest.shift_remove("content") {
                    Some(Value::Array(items)) => self.result_content(items, output)?,
                    Some(other) => other,
                    None => output.clone().into(),
                };
                let mut block = json!({"type": "tool_result", "tool_use_id": id, "content": content});
                if *is_error && let Value::Object(fields) = &mut block {
                    fields.insert("is_error".into(), true.into());
                }
                block
            }
            Part::Attachment { hash, .. } => {
                if let Some(hash) = hash
                    && let Some(Value::Object(source)) = rest.get_mut("source")
                {
                    match self.source.attachment(*hash) {
                        Ok(bytes) => source.insert("data".into(), STANDARD.encode(bytes).into()),
                        Err(StoreError::NotFound { .. }) => None,
                        Err(error) => return Err(error.into()),
                    };
                }
                json!({})
            }
            Part::Opaque { raw, .. } => return Ok(raw.clone()),
        };
        if let Value::Object(fields) = &mut block {
            fields.extend(rest);
            for name in without.iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str) {
                fields.shift_remove(name);
            }
        }
        Ok(block)
    }

    /// Restores the elements of a tool result's content.
    fn result_content(&self, items: Vec<Value>, output: &str) -> Result<Value, ExportError> {
        let mut restored = Vec::with_capacity(items.len());
        for mut item in items {
            if let Some(Value::Object(resource)) = item.get_mut("resource")
                && let Some(range) = resource.shift_remove(TEXT)
            {
                resource.insert("text".into(), slice(output, &range).into());
            }
            if let Value::Object(fields) = &mut item
                && let Some(range) = fields.shift_remove(TEXT)
            {
                fields.insert("text".into(), slice(output, &range).into());
                restored.push(item);
            } else {
                restored.push(self.block(&item)?);
            }
        }
        Ok(Value::Array(restored))
    }
}

/// The given range of a text; the whole text if the range is invalid because the text was changed.
fn slice<'t>(text: &'t str, range: &Value) -> &'t str {
    let at = |index: usize| range.get(index).and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok());
    let found = at(0).zip(at(1)).and_then(|(start, length)| text.get(start..start.checked_add(length)?));
    found.unwrap_or(text)
}
