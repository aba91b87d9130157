//! pi (pi-coding-agent): one JSONL file per session: a header, then entries that form a tree. Files of
//! version 1 have entries without ids, one after another.
//!
//! The format is documented in `docs/session-format.md` of the npm package.

use hfs_core::{ImportError, MessageFlag, Part, Project, Role, Timestamp, Usage};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::conversation::{ConversationTree, ImportedMessage, as_text, inline_image, number, text, usage};
use super::entry_tree::{EntryTree, Parent, SavedState, read_lines, stored_record};
use crate::detect::FormatProbe;
use crate::readers::{Output, RECORDS};
use crate::records::JsonRecord;
use crate::resume::StoredFields;
use crate::{Format, Source};

const NAME: &str = "pi";

pub(crate) struct Pi;

impl super::Reader for Pi {
    fn format(&self) -> Format {
        Format::Pi
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        probe.records().iter().any(|record| is_header(record) || is_message(record))
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let (mut tree, mut info, start) = EntryTree::begin::<SessionInfo>(source, NAME, out);
        read_lines(source, start, &mut tree, out, |tree, record, line| info.record(tree, record, line))?;
        let first_id = tree.first_id();
        let place = tree.take_resume_place();
        info.finish(source, tree.finish(), first_id)?.send_with(out, |out, sent| {
            let Some(tree) = EntryTree::saved(place, sent) else { return Ok(()) };
            out.resume_point(tree.end.offset, NAME, &SavedState { tree, known: info })
        })
    }
}

fn is_header(record: &Map<String, Value>) -> bool {
    text(record, "type") == Some("session") && record.contains_key("id") && record.contains_key("cwd")
}

fn is_message(record: &Map<String, Value>) -> bool {
    text(record, "type") == Some("message")
        && record.contains_key("timestamp")
        && record.get("message").is_some_and(|message| {
            // Factory Droid's messages have no time of their own.
            message.get("role").is_some() && message.get("timestamp").is_some_and(Value::is_number)
        })
}

/// Fields of the session.
#[derive(Default, Serialize, Deserialize)]
struct SessionInfo {
    header: StoredFields,
    title: Option<String>,
}

impl SessionInfo {
    fn record(&mut self, tree: &mut EntryTree, record: JsonRecord, line: u64) {
        let JsonRecord { mut fields, raw } = record;
        let Some(id) = tree.claim_record(&fields, "id", line) else { return };
        let StoredFields(header) = &mut self.header;
        if text(&fields, "type") == Some("session") && (header.is_empty() || *header == fields) {
            tree.conversation.report.mapped();
            *header = fields;
            return;
        }
        let parent = fields.get("parentId").cloned();
        let parent = Parent::named_by(parent.as_ref());
        let named = text(&fields, "type") == Some("session_info");
        if named && let Some(name) = text(&fields, "name") {
            self.title = Some(name.to_owned()).filter(|name| !name.is_empty());
        }
        let Some(mut message) = message_of(&mut fields, &id) else {
            if named {
                tree.conversation.report.mapped();
            } else {
                tree.conversation.report.opaque();
            }
            tree.push_record(Some(&id), parent, stored_record(fields, raw));
            return;
        };
        tree.conversation.report.mapped();
        message.draft.extra.insert(RECORDS.into(), Value::Array(vec![stored_record(fields, raw)]));
        tree.push_messages(&id, parent, vec![message]);
    }

    fn finish(
        &self,
        source: &Source,
        mut conversation: ConversationTree,
        first_id: Option<String>,
    ) -> Result<ConversationTree, ImportError> {
        let session = &mut conversation.session;
        let StoredFields(header) = &self.header;
        let id = text(header, "id").map(str::to_owned).or_else(|| source.stem()).or(first_id);
        session.origin.id = id.ok_or_else(|| source.damaged("it has no session"))?;
        session.title.clone_from(&self.title);
        let cwd = text(header, "cwd").filter(|cwd| !cwd.is_empty());
        session.project = cwd.map(|directory| Project { directory: directory.to_owned(), repository: None });
        session.created_at = header.get("timestamp").and_then(crate::time::from_json);
        session.extra.insert(NAME.into(), Value::Object(header.clone()));
        conversation.set_times_from_messages();
        Ok(conversation)
    }
}

/// Takes the content of an entry and converts it into a message; `None` if the entry is not a message.
fn message_of(entry: &mut Map<String, Value>, id: &str) -> Option<ImportedMessage> {
    let at = entry.get("timestamp").and_then(crate::time::from_json);
    let summary = |entry: &mut Map<String, Value>| match entry.shift_remove("summary") {
        Some(Value::String(summary)) if !summary.is_empty() => Some(vec![Part::Text { text: summary }]),
        _ => None,
    };
    let at = at.unwrap_or(Timestamp::UNIX_EPOCH);
    let user = |parts| ImportedMessage::new(NAME, id, Role::User, parts, at);
    match text(entry, "type")? {
        "message" => match entry.get_mut("message") {
            Some(Value::Object(message)) => agent_message(message, id, at),
            _ => None,
        },
        "compaction" => Some(user(summary(entry)?).flagged(MessageFlag::CompactSummary, true)),
        "branch_summary" => Some(user(summary(entry)?).flagged(MessageFlag::Injected, true)),
        "custom_message" => {
            let mut message = user(Vec::new()).flagged(MessageFlag::Injected, true);
            take_content(entry, &mut message);
            Some(message).filter(|message| !message.draft.parts.is_empty())
        }
        _ => None,
    }
}

fn agent_message(
    fields: &mut Map<String, Value>,
    id: &str,
    entry_time: Timestamp,
) -> Option<ImportedMessage> {
    let at = fields.get("timestamp").and_then(crate::time::from_json).unwrap_or(entry_time);
    let new = |role| ImportedMessage::new(NAME, id, role, Vec::new(), at);
    let role = text(fields, "role")?.to_owned();
    let mut message = match role.as_str() {
        "user" => new(Role::User),
        "assistant" => new(Role::Assistant),
        "toolResult" => new(Role::Tool),
        "system" => new(Role::System),
        "custom" | "hookMessage" | "branchSummary" => new(Role::User).flagged(MessageFlag::Injected, true),
        "compactionSummary" => new(Role::User).flagged(MessageFlag::CompactSummary, true),
        "bashExecution" => return Some(bash_execution(fields, new(Role::User))),
        _ => return None,
    };
    if let Some(Value::String(summary)) = fields.get("summary") {
        message.draft.parts.push(Part::text(summary.clone()));
        fields.shift_remove("summary");
    }
    match message.draft.role {
        Role::Tool => take_result(fields, &mut message),
        Role::System => {
            take_content(fields, &mut message);
            take_sections(fields, &mut message);
        }
        Role::User | Role::Assistant => take_content(fields, &mut message),
    }
    if message.draft.role == Role::Assistant {
        message.draft.model = text(fields, "model").map(str::to_owned);
        message.draft.usage = fields.get("usage").and_then(Value::as_object).and_then(token_usage);
        let failed = matches!(text(fields, "stopReason"), Some("error"));
        message = message.flagged(MessageFlag::Error, failed);
        if message.draft.parts.is_empty()
            && let Some(error) = text(fields, "errorMessage").filter(|error| !error.is_empty())
        {
            message.draft.parts.push(Part::text(error));
        }
    }
    Some(message)
}

/// A command that the user ran: the command and its output, as the model is sent them.
fn bash_execution(fields: &mut Map<String, Value>, mut message: ImportedMessage) -> ImportedMessage {
    let mut take = |key: &str| match fields.shift_remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    };
    let (command, output) = (take("command"), take("output"));
    message.draft.parts = vec![Part::text(format!("Ran `{command}`\n```\n{output}\n```"))];
    message.flagged(MessageFlag::Injected, true)
}

/// Takes the content, a text or a list of blocks.
fn take_content(fields: &mut Map<String, Value>, message: &mut ImportedMessage) {
    match fields.shift_remove("content") {
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) => message.draft.parts.push(Part::Text { text }),
        Some(Value::Array(blocks)) => {
            for block in blocks {
                let part = part(block, message);
                message.draft.parts.push(part);
            }
        }
        Some(Value::Null) | None => {}
        Some(other) => message.draft.parts.push(Part::Opaque { source: NAME.into(), raw: other }),
    }
}

fn part(block: Value, message: &mut ImportedMessage) -> Part {
    let Value::Object(fields) = &block else { return Part::Opaque { source: NAME.into(), raw: block } };
    let field = |key: &str| text(fields, key).map(str::to_owned);
    match (text(fields, "type"), field("text")) {
        (Some("text"), Some(text)) => Part::Text { text },
        (Some("thinking"), _) => Part::Thinking {
            text: field("thinking").unwrap_or_default(),
            signature: field("thinkingSignature").filter(|signature| !signature.is_empty()),
        },
        (Some("toolCall"), _) => Part::ToolCall {
            id: field("id").unwrap_or_default(),
            name: field("name").unwrap_or_default(),
            input: fields.get("arguments").cloned().unwrap_or_default(),
        },
        (Some("image"), _) => {
            let media_type = field("mimeType").unwrap_or_else(|| "image/*".into());
            let (part, attachment) = inline_image(&media_type, &field("data").unwrap_or_default(), None);
            message.attachments.extend(attachment);
            part
        }
        _ => Part::Opaque { source: NAME.into(), raw: block },
    }
}

/// Takes the result of a tool: its text, then its pictures.
fn take_result(fields: &mut Map<String, Value>, message: &mut ImportedMessage) {
    let id = text(fields, "toolCallId").unwrap_or_default().to_owned();
    let is_error = fields.get("isError") == Some(&Value::Bool(true));
    let blocks = match fields.shift_remove("content") {
        Some(Value::Array(blocks)) => blocks,
        Some(Value::Null) | None => Vec::new(),
        Some(other) => vec![other],
    };
    let is_image = |block: &Value| block.get("type").and_then(Value::as_str) == Some("image");
    let (images, texts): (Vec<Value>, Vec<Value>) = blocks.into_iter().partition(is_image);
    let output = as_text(&Value::Array(texts));
    message.draft.parts.push(Part::ToolResult { id, output, is_error });
    for image in images {
        let part = part(image, message);
        message.draft.parts.push(part);
    }
}

/// Takes the sections of a system prompt. A section without a text is one that was removed.
fn take_sections(fields: &mut Map<String, Value>, message: &mut ImportedMessage) {
    let Some(Value::Object(sections)) = fields.get_mut("sections") else { return };
    for section in sections.values_mut() {
        if let Value::String(text) = section {
            message.draft.parts.push(Part::Text { text: std::mem::take(text) });
        }
    }
}

fn token_usage(fields: &Map<String, Value>) -> Option<Usage> {
    let count = |key: &str| number(fields, key);
    let (read, written) = (count("cacheRead"), count("cacheWrite"));
    usage(&[count("input"), read, written], &[count("output")]).map(|usage| usage.with_cache(read, written))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tokens_that_are_not_given_are_unknown() {
        let usage = |value: Value| token_usage(value.as_object().unwrap());
        assert_eq!(usage(json!({})), None);
        assert_eq!(usage(json!({"output": 3})), Some(Usage::new(0, 3)));
        let counts = json!({"input": 5, "output": 3, "cacheRead": 7, "cacheWrite": 11});
        assert_eq!(usage(counts), Some(Usage::new(23, 3).with_cache(Some(7), Some(11))));
    }
}
