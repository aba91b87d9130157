//! Writes a Codex rollout with the history of the current branch.
//!
//! A rollout contains a conversation twice: as items, which are sent to the model, and as events, which are
//! shown to the user. Without the events Codex continues a session, but neither lists it nor shows its
//! messages.

use std::io::Write;

use hfs_core::{Message, Part, Role};
use serde_json::{Value, json};

use super::{data_url, for_each_current_message, write_record};
use crate::export::{DocumentSource, ExportError};

/// The version of Codex that is written into the rollout.
const VERSION: &str = "0.169.0";

pub(super) fn write(source: &dyn DocumentSource, out: &mut dyn Write) -> Result<(), ExportError> {
    let session = source.session()?;
    let cwd = session.project.as_ref().map_or("/", |project| project.directory.as_str());
    let at = session.created_at;
    let meta = json!({
        "id": session.id, "timestamp": at, "cwd": cwd, "originator": "hfs", "cli_version": VERSION,
        "instructions": null, "source": "cli",
    });
    write_record(out, &json!({"timestamp": at, "type": "session_meta", "payload": meta}))?;
    for_each_current_message(source, &session, &mut |message| {
        let at = message.content.created_at;
        for item in items(source, &message)? {
            write_record(out, &json!({"timestamp": at, "type": "response_item", "payload": item}))?;
        }
        for event in events(&message) {
            write_record(out, &json!({"timestamp": at, "type": "event_msg", "payload": event}))?;
        }
        Ok(())
    })
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
        Role::User => events.push(json!({
            "type": "user_message", "message": text, "images": [], "local_images": [], "text_elements": [],
        })),
        Role::Assistant if !text.is_empty() => events.push(json!({"type": "agent_message", "message": text})),
        Role::Assistant | Role::System | Role::Tool => {}
    }
    events
}

/// The items that send a message to the model.
fn items(source: &dyn DocumentSource, message: &Message) -> Result<Vec<Value>, ExportError> {
    let (role, kind) = match message.content.role {
        Role::Assistant => ("assistant", "output_text"),
        Role::System => ("developer", "input_text"),
        Role::User | Role::Tool => ("user", "input_text"),
    };
    let mut content = Vec::new();
    let mut items = Vec::new();
    for part in &message.content.parts {
        match part {
            Part::Text { text } => content.push(json!({"type": kind, "text": text})),
            // Codex accepts only reasoning that its own provider has encrypted.
            Part::Thinking { .. } | Part::Opaque { .. } => {}
            Part::ToolCall { id, name, input } => {
                items.push(json!({
                    "type": "function_call", "name": name, "arguments": input.to_string(), "call_id": id,
                }));
            }
            Part::ToolResult { id, output, .. } => {
                items.push(json!({"type": "function_call_output", "call_id": id, "output": output}));
            }
            Part::Attachment { media_type, hash: Some(hash), .. }
                if media_type.starts_with("image/") && message.content.role == Role::User =>
            {
                let url = data_url(source, media_type, *hash)?;
                content.push(json!({"type": "input_image", "image_url": url}));
            }
            Part::Attachment { name, media_type, .. } => {
                let label = name.as_deref().unwrap_or(media_type);
                content.push(json!({"type": kind, "text": format!("[attachment: {label}]")}));
            }
        }
    }
    if !content.is_empty() {
        items.insert(0, json!({"type": "message", "role": role, "content": content}));
    }
    Ok(items)
}
