//! opencode's export: the history of the current branch, tool results inside the messages that asked for them.

use std::collections::VecDeque;
use std::io::Write;

use hfs_core::{Message, Part, Role, Session};
use serde_json::{Value, json};

use super::each_of_current;
use crate::export::{DocumentSource, ExportError};

/// The version of the exports that these are written like.
const VERSION: &str = "1.18.0";

pub(super) fn write(source: &dyn DocumentSource, out: &mut dyn Write) -> Result<(), ExportError> {
    let session = source.session()?;
    let (open, parent) = (VecDeque::new(), String::new());
    let mut export = Export { source, session: &session, out, open, parent, written: 0 };
    export.begin()?;
    each_of_current(source, &session, &mut |message| export.message(&message))?;
    export.close(true)?;
    writeln!(out, "\n]}}")?;
    Ok(())
}

/// What is said of a call that was never answered.
const NO_RESULT: &str = "no result";
/// At most so many messages wait for results.
const MAX_OPEN: usize = 256;

/// An id as opencode makes them: a prefix, and letters that sort by time.
fn id(prefix: &str, of: &uuid::Uuid, number: usize) -> String {
    let hex = of.simple().to_string();
    if number == 0 { format!("{prefix}_{hex}") } else { format!("{prefix}_{hex}{number:04}") }
}

struct Export<'a> {
    source: &'a dyn DocumentSource,
    session: &'a Session,
    out: &'a mut dyn Write,
    /// Messages whose calls wait for their results, and those behind them.
    open: VecDeque<(Value, Vec<Value>)>,
    /// The newest message of the user, which answers name.
    parent: String,
    written: usize,
}

impl Export<'_> {
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

    /// Writes the messages in front whose calls have their results; all of them at the `end`.
    fn close(&mut self, end: bool) -> std::io::Result<()> {
        while let Some((_, parts)) = self.open.front() {
            let waiting = parts.iter().any(|part| part.pointer("/state/error") == Some(&NO_RESULT.into()));
            if waiting && !end && self.open.len() < MAX_OPEN {
                break;
            }
            let Some((info, parts)) = self.open.pop_front() else { break };
            let comma = if self.written == 0 { "" } else { "," };
            self.written += 1;
            write!(self.out, "{comma}\n{}", json!({"info": info, "parts": parts}))?;
        }
        Ok(())
    }

    fn message(&mut self, message: &Message) -> Result<(), ExportError> {
        if message.content.role == Role::Tool {
            self.results(message);
            return Ok(());
        }
        // opencode gives its own instructions; another tool's would be taken for the user's words.
        if message.content.role == Role::System {
            return Ok(());
        }
        self.close(false)?;
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
            let base = (id("prt", message.content.id.as_uuid(), number), self.session_id(), own.as_str());
            parts.extend(told(self.source, part, at, &base)?);
        }
        self.open.push_back((info, parts));
        Ok(())
    }

    /// Puts results where they were asked for.
    fn results(&mut self, message: &Message) {
        for part in &message.content.parts {
            let Part::ToolResult { id, output, is_error } = part else { continue };
            let mut parts = self.open.iter_mut().rev().flat_map(|(_, parts)| parts);
            let asked = parts.find(|asked| asked.get("callID").and_then(Value::as_str) == Some(id));
            let Some(state) = asked.and_then(|asked| asked.get_mut("state")).and_then(Value::as_object_mut)
            else {
                continue;
            };
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

fn told(
    source: &dyn DocumentSource,
    part: &Part,
    at: i64,
    base: &(String, String, &str),
) -> Result<Option<Value>, ExportError> {
    let (id, session, message) = base;
    let mut told = match part {
        Part::Text { text } => json!({"type": "text", "text": text}),
        Part::Thinking { text, .. } if text.is_empty() => return Ok(None),
        Part::Thinking { text, .. } => {
            json!({"type": "reasoning", "text": text, "time": {"start": at, "end": at}})
        }
        Part::ToolCall { id, name, input } => {
            let input = if input.is_object() { input.clone() } else { json!({ "input": input }) };
            // A call that was never answered has failed, as far as anybody can go on from it.
            let state = json!({
                "status": "error", "input": input, "error": NO_RESULT, "time": {"start": at, "end": at},
            });
            json!({"type": "tool", "callID": id, "tool": name, "state": state})
        }
        Part::ToolResult { .. } | Part::Opaque { .. } => return Ok(None),
        Part::Attachment { media_type, name, hash: Some(hash), .. } if media_type.starts_with("image/") => {
            let address = super::data_address(source, media_type, *hash)?;
            json!({"type": "file", "mime": media_type, "filename": name, "url": address})
        }
        Part::Attachment { media_type, name, .. } => {
            let told = name.as_deref().unwrap_or(media_type);
            json!({"type": "text", "text": format!("[attachment: {told}]")})
        }
    };
    if let Value::Object(fields) = &mut told {
        fields.retain(|_, value| !value.is_null());
        fields.insert("id".into(), id.as_str().into());
        fields.insert("sessionID".into(), session.as_str().into());
        fields.insert("messageID".into(), (*message).into());
    }
    Ok(Some(told))
}
