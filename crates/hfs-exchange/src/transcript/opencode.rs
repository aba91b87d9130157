//! Writes an opencode export with the history of the current branch.
//!
//! opencode stores the result of a tool in the part of the call, so a message is buffered until all of its
//! calls have results.

use std::collections::VecDeque;
use std::io::Write;

use hfs_core::{Message, Part, Role, Session};
use serde_json::{Value, json};

use super::for_each_current_message;
use crate::export::{DocumentSource, ExportError};

/// The version of opencode that is written into the export.
const VERSION: &str = "1.18.0";

pub(super) fn write(source: &dyn DocumentSource, out: &mut dyn Write) -> Result<(), ExportError> {
    let session = source.session()?;
    let (buffered, parent) = (VecDeque::new(), String::new());
    let mut writer = ExportWriter { source, session: &session, out, buffered, parent, written: 0 };
    writer.begin()?;
    for_each_current_message(source, &session, &mut |message| writer.message(&message))?;
    writer.flush(true)?;
    writeln!(out, "\n]}}")?;
    Ok(())
}

/// Error text of a call without a result.
const NO_RESULT: &str = "no result";
/// Limit on the number of buffered messages. Beyond it, calls are written without results.
const MAX_BUFFERED: usize = 256;

/// An id as opencode generates it: a prefix, and hexadecimal digits that sort by time. `number` is 0 for a
/// message or session, and the number of the part for a part.
fn id(prefix: &str, of: &uuid::Uuid, number: usize) -> String {
    let hex = of.simple().to_string();
    if number == 0 { format!("{prefix}_{hex}") } else { format!("{prefix}_{hex}{number:04}") }
}

/// A message that has not been written yet.
struct BufferedMessage {
    info: Value,
    parts: Vec<BufferedPart>,
}

struct BufferedPart {
    fields: Value,
    /// Whether this is a tool call without a result so far.
    awaits_result: bool,
}

struct ExportWriter<'a> {
    source: &'a dyn DocumentSource,
    session: &'a Session,
    out: &'a mut dyn Write,
    /// Messages that cannot be written yet: the first one awaits a tool result, and the others follow it.
    buffered: VecDeque<BufferedMessage>,
    /// Id of the user's newest message, to which replies refer.
    parent: String,
    written: usize,
}

impl ExportWriter<'_> {
    fn session_id(&self) -> String {
        id("ses", self.session.id.as_uuid(), 0)
    }

    fn directory(&self) -> &str {
        self.session.project.as_ref().map_or("/", |project| project.directory.as_str())
    }

    fn begin(&mut self) -> std::io::Result<()> {
        let millis = |at: hfs_core::Timestamp| at.as_micros() / 1000;
        let info = json!({
            "id": self.session_id(), "slug": "imported", "projectID": "global", "directory": self.directory(),
            "title": self.session.name, "version": VERSION,
            "time": {"created": millis(self.session.created_at), "updated": millis(self.session.updated_at)},
        });
        write!(self.out, "{{\"info\":{info},\n\"messages\":[")
    }

    /// Writes buffered messages, oldest first, and stops at the first one that awaits a tool result. With
    /// `all`, or if the buffer is full, such a message is written too.
    fn flush(&mut self, all: bool) -> std::io::Result<()> {
        while let Some(first) = self.buffered.front() {
            let waiting = first.parts.iter().any(|part| part.awaits_result);
            if waiting && !all && self.buffered.len() < MAX_BUFFERED {
                break;
            }
            let Some(BufferedMessage { info, parts }) = self.buffered.pop_front() else { break };
            let parts: Vec<Value> = parts.into_iter().map(|part| part.fields).collect();
            let comma = if self.written == 0 { "" } else { "," };
            self.written += 1;
            write!(self.out, "{comma}\n{}", json!({"info": info, "parts": parts}))?;
        }
        Ok(())
    }

    fn message(&mut self, message: &Message) -> Result<(), ExportError> {
        if message.content.role == Role::Tool {
            self.add_results(message);
            return Ok(());
        }
        // Omit system messages: opencode adds its own system prompt, and its format has no role for another
        // one.
        if message.content.role == Role::System {
            return Ok(());
        }
        self.flush(false)?;
        let own = id("msg", message.content.id.as_uuid(), 0);
        let at = message.content.created_at.as_micros() / 1000;
        let info = if message.content.role == Role::Assistant {
            let usage = message.content.usage.unwrap_or_default();
            json!({
                "id": own, "sessionID": self.session_id(), "role": "assistant", "parentID": self.parent,
                "mode": "build", "agent": "build", "path": {"cwd": self.directory(), "root": self.directory()},
                "cost": 0, "modelID": message.content.model.as_deref().unwrap_or("unknown"), "providerID": "hfs",
                "time": {"created": at, "completed": at}, "finish": "stop",
                "tokens": {
                    "input": usage.prompt_tokens, "output": usage.completion_tokens, "reasoning": 0,
                    "cache": {"read": 0, "write": 0},
                },
            })
        } else {
            self.parent.clone_from(&own);
            json!({
                "id": own, "sessionID": self.session_id(), "role": "user", "time": {"created": at},
                "agent": "build", "model": {"providerID": "hfs", "modelID": "unknown"},
            })
        };
        let mut parts = Vec::new();
        for part in &message.content.parts {
            let number = parts.len() + 1;
            let ids = (id("prt", message.content.id.as_uuid(), number), self.session_id(), own.as_str());
            if let Some(fields) = render_part(self.source, part, at, &ids)? {
                parts.push(BufferedPart { fields, awaits_result: matches!(part, Part::ToolCall { .. }) });
            }
        }
        self.buffered.push_back(BufferedMessage { info, parts });
        Ok(())
    }

    /// Adds results to the calls that they belong to.
    fn add_results(&mut self, message: &Message) {
        for part in &message.content.parts {
            let Part::ToolResult { id, output, is_error } = part else { continue };
            let mut parts = self.buffered.iter_mut().rev().flat_map(|message| &mut message.parts);
            let call = parts.find(|part| part.fields.get("callID").and_then(Value::as_str) == Some(id));
            let Some(call) = call else { continue };
            call.awaits_result = false;
            let Some(state) = call.fields.get_mut("state").and_then(Value::as_object_mut) else { continue };
            state.insert("status".into(), if *is_error { "error" } else { "completed" }.into());
            state.insert(if *is_error { "error" } else { "output" }.into(), output.as_str().into());
            let at = message.content.created_at.as_micros() / 1000;
            state.insert("time".into(), json!({"start": at, "end": at}));
            if !is_error {
                state.shift_remove("error");
                state.insert("title".into(), "".into());
                state.insert("metadata".into(), json!({}));
            }
        }
    }
}

fn render_part(
    source: &dyn DocumentSource,
    part: &Part,
    at: i64,
    ids: &(String, String, &str),
) -> Result<Option<Value>, ExportError> {
    let (id, session, message) = ids;
    let mut fields = match part {
        Part::Text { text } => json!({"type": "text", "text": text}),
        Part::Thinking { text, .. } if text.is_empty() => return Ok(None),
        Part::Thinking { text, .. } => {
            json!({"type": "reasoning", "text": text, "time": {"start": at, "end": at}})
        }
        Part::ToolCall { id, name, input } => {
            let input = if input.is_object() { input.clone() } else { json!({ "input": input }) };
            // Write the call as failed; `add_results` changes that if the session contains its result. opencode
            // does not execute an imported call, so a pending one would never end.
            let state = json!({
                "status": "error", "input": input, "error": NO_RESULT, "time": {"start": at, "end": at},
            });
            json!({"type": "tool", "callID": id, "tool": name, "state": state})
        }
        Part::ToolResult { .. } | Part::Opaque { .. } => return Ok(None),
        Part::Attachment { media_type, name, hash: Some(hash), .. } if media_type.starts_with("image/") => {
            let url = super::data_url(source, media_type, *hash)?;
            json!({"type": "file", "mime": media_type, "filename": name, "url": url})
        }
        Part::Attachment { media_type, name, .. } => {
            let label = name.as_deref().unwrap_or(media_type);
            json!({"type": "text", "text": format!("[attachment: {label}]")})
        }
    };
    if let Value::Object(fields) = &mut fields {
        fields.retain(|_, value| !value.is_null());
        fields.insert("id".into(), id.as_str().into());
        fields.insert("sessionID".into(), session.as_str().into());
        fields.insert("messageID".into(), (*message).into());
    }
    Ok(Some(fields))
}
