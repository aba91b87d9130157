//! Claude Code's JSONL, with every branch: its records form a tree, as ours do.
//!
//! A resume goes on from the newest message of the file, unless a `last-prompt` record names another.

use std::collections::HashMap;
use std::io::Write;

use hfs_core::{Branch, BranchId, Message, Part, Role, Seq, Session};
use serde_json::{Value, json};

use super::line;
use super::restore::Pieces;
use crate::export::{DocumentSource, ExportError, PAGE};
use crate::readers::{AFTER, BEFORE, RAW, RECORDS};

const NAME: &str = "claude-code";
/// The version of the transcripts that new records are written like.
const VERSION: &str = "2.1.0";

pub(super) fn write(source: &dyn DocumentSource, out: &mut dyn Write) -> Result<(), ExportError> {
    let session = source.session()?;
    let branches = source.branches()?;
    let mut writer = Writer {
        source,
        out,
        session_id: session_id(&session),
        cwd: cwd(&session),
        ends: HashMap::new(),
        newest: None,
        prompt: None,
        any_own: false,
        any_last_prompt: false,
    };
    for record in list(session.extra.get(RECORDS)) {
        writer.kept(record)?;
    }
    // Where branches leave each other, the record that stands there must be known.
    for branch in &branches {
        if let Some(parent) = branch.parent {
            writer.ends.insert((parent, branch.forked_at), None);
        }
    }
    let mut current = (None, None);
    for branch in &branches {
        writer.prompt = None;
        let end = writer.branch(branch, &branches)?;
        if branch.id == session.current_branch {
            current = (end, writer.prompt.take());
        }
    }
    let (end, prompt) = current;
    writer.go_on_from(end.as_deref(), &prompt.unwrap_or_default())
}

pub(super) fn session_id(session: &Session) -> String {
    match &session.origin {
        Some(origin) if origin.format == NAME => origin.id.split('/').next().unwrap_or_default().to_owned(),
        _ => session.id.to_string(),
    }
}

pub(super) fn cwd(session: &Session) -> String {
    session.project.as_ref().map_or_else(|| "/".to_owned(), |project| project.directory.clone())
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

struct Writer<'a> {
    source: &'a dyn DocumentSource,
    out: &'a mut dyn Write,
    session_id: String,
    cwd: String,
    /// The last record of the message at each place that a branch leaves.
    ends: HashMap<(BranchId, Seq), Option<String>>,
    /// The last record of the conversation itself that was written.
    newest: Option<String>,
    /// What the user said last on the branch that is being written.
    prompt: Option<String>,
    /// Whether a message was written that did not come from Claude Code.
    any_own: bool,
    /// Whether a record was written that says where to go on.
    any_last_prompt: bool,
}

impl Writer<'_> {
    /// Says where to go on, unless that is where Claude Code would go on anyway.
    fn go_on_from(&mut self, end: Option<&str>, prompt: &str) -> Result<(), ExportError> {
        if end.is_some() && (end != self.newest.as_deref() || self.any_own && self.any_last_prompt) {
            let record = json!({
                "type": "last-prompt", "lastPrompt": prompt, "leafUuid": end, "sessionId": self.session_id,
            });
            line(self.out, &record)?;
        }
        Ok(())
    }

    /// Writes a branch's own messages; returns the record that its history ends with.
    fn branch(&mut self, branch: &Branch, all: &[Branch]) -> Result<Option<String>, ExportError> {
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
                    last = self.group(&group, last)?;
                    group.clear();
                }
                group.push(message);
            }
        }
        self.group(&group, last)
    }

    /// The record that a branch's first one follows.
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

    /// Writes the messages that came from one record (or one that is ours). Returns the last record's id.
    fn group(&mut self, group: &[Message], last: Option<String>) -> Result<Option<String>, ExportError> {
        let Some(first) = group.first() else { return Ok(last) };
        for record in list(first.content.extra.get(BEFORE)) {
            self.kept(record)?;
        }
        let records = list(first.content.extra.get(RECORDS));
        let ours =
            first.content.source.as_ref().is_some_and(|source| source.format == NAME) && !records.is_empty();
        let mut end = last;
        if ours {
            let pieces = Pieces { source: self.source, messages: group };
            for record in records {
                let record = match record.get("$event") {
                    Some(event) => {
                        self.kept(event)?;
                        continue;
                    }
                    None if record.get(RAW).is_some() => record.clone(),
                    None => pieces.record(record)?,
                };
                if let Some(uuid) = record.get("uuid").and_then(Value::as_str) {
                    end = Some(uuid.to_owned());
                    if record.get("isSidechain") != Some(&true.into()) {
                        self.newest.clone_from(&end);
                    }
                }
                self.kept(&record)?;
            }
        } else {
            for message in group {
                end = self.own(message, end.as_deref())?;
                self.newest.clone_from(&end);
                self.any_own = true;
            }
        }
        for message in group {
            for record in list(message.content.extra.get(AFTER)) {
                self.kept(record)?;
            }
            if let Some(slot) = self.ends.get_mut(&(message.branch, message.seq)) {
                slot.clone_from(&end);
            }
        }
        Ok(end)
    }

    /// A record as it came.
    fn kept(&mut self, record: &Value) -> Result<(), ExportError> {
        self.any_last_prompt |= record.get("type").and_then(Value::as_str) == Some("last-prompt");
        match record.get(RAW).and_then(Value::as_str) {
            Some(raw) => writeln!(self.out, "{}", raw.replace(['\n', '\r'], " "))?,
            None => line(self.out, record)?,
        }
        Ok(())
    }

    /// A message that has no record of its own.
    fn own(&mut self, message: &Message, parent: Option<&str>) -> Result<Option<String>, ExportError> {
        let kind = match message.content.role {
            Role::Assistant => "assistant",
            Role::User | Role::Tool => "user",
            Role::System => "system",
        };
        let uuid = message.content.id.to_string();
        let mut record = json!({
            "parentUuid": parent, "isSidechain": false, "userType": "external", "cwd": self.cwd,
            "sessionId": self.session_id, "version": VERSION, "type": kind, "uuid": uuid,
            "timestamp": message.content.created_at,
        });
        let told = match message.content.role {
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
        if let (Value::Object(record), Value::Object(told)) = (&mut record, told) {
            record.extend(told);
        }
        line(self.out, &record)?;
        Ok(Some(uuid))
    }

    fn blocks(&self, message: &Message) -> Result<Value, ExportError> {
        let mut blocks = Vec::new();
        for part in &message.content.parts {
            match part {
                Part::Text { text } => blocks.push(json!({"type": "text", "text": text})),
                // A thought that its provider did not sign would be refused on resume, and so would one that
                // another provider signed.
                Part::Thinking { .. } | Part::Opaque { .. } => {}
                Part::ToolCall { id, name, input } => {
                    blocks.push(json!({"type": "tool_use", "id": id, "name": name, "input": input}));
                }
                Part::ToolResult { id, output, is_error } => blocks.push(json!({
                    "type": "tool_result", "tool_use_id": id, "content": output, "is_error": is_error,
                })),
                Part::Attachment { media_type, hash: Some(hash), .. } if media_type.starts_with("image/") => {
                    use base64::Engine;
                    let bytes = self.source.attachment(*hash)?;
                    let data = base64::engine::general_purpose::STANDARD.encode(bytes);
                    let source = json!({"type": "base64", "media_type": media_type, "data": data});
                    blocks.push(json!({"type": "image", "source": source}));
                }
                Part::Attachment { name, media_type, .. } => {
                    let told = name.as_deref().unwrap_or(media_type);
                    blocks.push(json!({"type": "text", "text": format!("[attachment: {told}]")}));
                }
            }
        }
        Ok(Value::Array(blocks))
    }
}

/// Whether a message came from the same record as those before it.
fn continues(group: &[Message], message: &Message) -> bool {
    let Some(base) = group.first().and_then(|first| first.content.source.as_ref()) else { return false };
    let Some(id) = message.content.source.as_ref() else { return false };
    let rest = id.id.strip_prefix(&base.id).and_then(|rest| rest.strip_prefix('/'));
    base.format == NAME && id.format == NAME && rest.is_some_and(|rest| rest.parse::<u32>().is_ok())
}
