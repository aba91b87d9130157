//! Messages as text for a model.

use hfs_core::{
    DiffLine, Message, MessageStatus, Part, PermissionRecord, Timestamp, ToolInput, diff_lines,
    readable_context,
};
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

/// A message with everything in it, in its order, except that text of the author comes before context that a tool
/// inserted in front of it.
pub fn render(message: &Message) -> String {
    let content = &message.content;
    let mut text = String::new();
    let mut add = |block: &str| {
        let block = block.trim_end();
        if !block.is_empty() {
            text.push_str(block);
            text.push('\n');
        }
    };
    for part in &content.parts {
        match part {
            Part::Text { text } => {
                let (context, own) = content.split_text(text);
                add(own);
                if !context.is_empty() {
                    add(&format!("[context] {}", readable_context(context)));
                }
            }
            Part::Thinking { text, .. } if text.is_empty() => {}
            Part::Thinking { text, .. } => add(&format!("[thinking] {text}")),
            Part::ToolCall { name, input, .. } => add(&format!("[call {name}] {}", render_input(input))),
            Part::ToolResult { output, is_error, .. } => {
                add(&format!("[{}] {output}", if *is_error { "failed" } else { "result" }));
            }
            Part::Attachment { media_type, name, bytes, .. } => {
                let name = name.as_deref().map(|name| format!("{name}, ")).unwrap_or_default();
                add(&format!("[attachment {name}{media_type}, {bytes} bytes]"));
            }
            Part::Opaque { source, raw } => match PermissionRecord::read(part) {
                Some(record) => add(&format!("[{}]", record.describe())),
                None => add(&format!("[{source} record] {raw}")),
            },
        }
    }
    if let Some(reason) = content.extra.get("error").and_then(|error| error.get("message")?.as_str()) {
        add(&format!("[ended early: {reason}]"));
    }
    text
}

/// A tool's arguments: a command, the lines of an edit, a patch, a file with its content, or JSON.
fn render_input(input: &Value) -> String {
    let mut text = match ToolInput::of(input) {
        ToolInput::Command(command) => format!("$ {command}"),
        ToolInput::Edits { path, edits } => {
            let mut text = path.unwrap_or_default().to_owned();
            for (old, new) in edits {
                for line in diff_lines(old, new) {
                    let (mark, line) = match line {
                        DiffLine::Same(line) => (' ', line),
                        DiffLine::Removed(line) => ('-', line),
                        DiffLine::Added(line) => ('+', line),
                    };
                    text.push('\n');
                    text.push(mark);
                    text.push_str(line);
                }
            }
            text
        }
        ToolInput::Patch(patch) => patch.to_owned(),
        ToolInput::File { path, content } => format!("{path}\n{content}"),
        ToolInput::Other => return input.to_string(),
    };
    let shown = ToolInput::fields(input);
    let others: Map<String, Value> = input
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| !shown.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if !others.is_empty() {
        text.push('\n');
        text.push_str(&Value::Object(others).to_string());
    }
    text
}

/// The line above a message: its number, author, model and time.
pub fn heading(message: &Message, zone: &TimeZone) -> String {
    let content = &message.content;
    let mut line = format!("[{}] {}", message.seq, content.role);
    if content.is_context() {
        line.push_str(" (inserted by the tool)");
    }
    if let Some(author) = content.model.as_deref().or(content.agent.as_deref()) {
        line.push_str(&format!(", {author}"));
    }
    line.push_str(&format!(", {}", time(content.created_at, zone)));
    match content.status {
        MessageStatus::Complete => {}
        MessageStatus::Streaming => line.push_str(", still being written"),
        MessageStatus::Interrupted => line.push_str(", interrupted"),
    }
    line
}

/// A time to the minute.
pub fn time(time: Timestamp, zone: &TimeZone) -> String {
    let Some(time) = time.known() else { return "time unknown".to_owned() };
    time.to_jiff().to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use hfs_core::{BranchId, MessageDraft, Role};
    use serde_json::json;

    use super::*;

    fn rendered(parts: Vec<Part>) -> String {
        let content = MessageDraft::new(Role::Assistant, parts, Timestamp::UNIX_EPOCH);
        render(&Message { branch: BranchId::generate(), seq: 3, content })
    }

    fn call(input: Value) -> Part {
        Part::ToolCall { id: "1".into(), name: "Tool".into(), input }
    }

    #[test]
    fn every_part_of_a_message_is_rendered() {
        let parts = vec![
            Part::text("words"),
            Part::Thinking { text: "why".into(), signature: None },
            Part::Thinking { text: String::new(), signature: Some("x".into()) },
            call(json!({"command": "make", "timeout": 3})),
            call(json!({"file_path": "a.rs", "old_string": "a\nb", "new_string": "a\nc"})),
            call(json!({"pattern": "x"})),
            Part::ToolResult { id: "1".into(), output: "no such file".into(), is_error: true },
            Part::Attachment { media_type: "image/png".into(), name: None, hash: None, bytes: 5 },
            Part::Opaque { source: "codex".into(), raw: json!({"a": 1}) },
        ];
        assert_eq!(
            rendered(parts),
            "words\n[thinking] why\n[call Tool] $ make\n{\"timeout\":3}\n[call Tool] a.rs\n a\n-b\n+c\n[call Tool] \
             {\"pattern\":\"x\"}\n[failed] no such file\n[attachment image/png, 5 bytes]\n[codex record] {\"a\":1}\n"
        );
    }

    #[test]
    fn a_heading_names_the_author_and_the_time() {
        let mut content = MessageDraft::new(Role::Assistant, Vec::new(), Timestamp::UNKNOWN);
        content.model = Some("m-1".into());
        content.status = MessageStatus::Interrupted;
        let mut message = Message { branch: BranchId::generate(), seq: 3, content };
        assert_eq!(heading(&message, &TimeZone::UTC), "[3] assistant, m-1, time unknown, interrupted");
        message.content.created_at = "2026-02-01T14:30:59Z".parse().unwrap();
        message.content.status = MessageStatus::Complete;
        assert_eq!(heading(&message, &TimeZone::UTC), "[3] assistant, m-1, 2026-02-01 14:30");
    }
}
