//! Codex's rollout: the history of the current branch.

use std::io::Write;

use hfs_core::{Message, Part, Role};
use serde_json::{Value, json};

use super::{each_of_current, line};
use crate::export::{DocumentSource, ExportError};

/// The version of the rollouts that these are written like.
const VERSION: &str = "0.130.0";

pub(super) fn write(source: &dyn DocumentSource, out: &mut dyn Write) -> Result<(), ExportError> {
    let session = source.session()?;
    let cwd = session.project.as_ref().map_or("/", |project| project.directory.as_str());
    let at = session.created_at;
    let meta = json!({
        "id": session.id, "timestamp": at, "cwd": cwd, "originator": "hfs", "cli_version": VERSION,
        "instructions": null, "source": "cli",
    });
    line(out, &json!({"timestamp": at, "type": "session_meta", "payload": meta}))?;
    each_of_current(source, &session, &mut |message| {
        for item in items(source, &message)? {
            line(out, &json!({"timestamp": message.created_at, "type": "response_item", "payload": item}))?;
        }
        Ok(())
    })
}

/// The items that a message is told as.
fn items(source: &dyn DocumentSource, message: &Message) -> Result<Vec<Value>, ExportError> {
    let (role, kind) = match message.role {
        Role::Assistant => ("assistant", "output_text"),
        Role::System => ("developer", "input_text"),
        Role::User | Role::Tool => ("user", "input_text"),
    };
    let mut content = Vec::new();
    let mut items = Vec::new();
    for part in &message.parts {
        match part {
            Part::Text { text } => content.push(json!({"type": kind, "text": text})),
            // Only a thought in the form that its own provider encrypted would be taken back.
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
                if media_type.starts_with("image/") && message.role == Role::User =>
            {
                use base64::Engine;
                let data = base64::engine::general_purpose::STANDARD.encode(source.attachment(*hash)?);
                let address = format!("data:{media_type};base64,{data}");
                content.push(json!({"type": "input_image", "image_url": address}));
            }
            Part::Attachment { name, media_type, .. } => {
                let told = name.as_deref().unwrap_or(media_type);
                content.push(json!({"type": kind, "text": format!("[attachment: {told}]")}));
            }
        }
    }
    if !content.is_empty() {
        items.insert(0, json!({"type": "message", "role": role, "content": content}));
    }
    Ok(items)
}
