//! Records to messages.

use hfs_core::{MessageDraft, MessageStatus, Role, Source as MessageSource, Timestamp, Usage};
use serde_json::{Map, Value, json};

use super::blocks::Parts;
use crate::readers::{FLAGS, RAW, RECORDS};
use crate::records::Whole;

/// A message with what it refers to.
#[derive(Debug)]
pub(crate) struct Drafted {
    pub draft: MessageDraft,
    pub attachments: Vec<hfs_core::Attachment>,
}

/// The id that the messages of a record are found by.
pub(crate) fn record_id(record: &Whole, line: u64) -> String {
    text_field(&record.fields, "uuid").map_or_else(|| format!("line-{line}"), str::to_owned)
}

fn text_field<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    fields.get(key).and_then(Value::as_str)
}

fn is_set(fields: &Map<String, Value>, key: &str) -> bool {
    fields.get(key) == Some(&Value::Bool(true))
}

pub(crate) fn time_of(record: &Whole) -> Option<Timestamp> {
    record.fields.get("timestamp").and_then(crate::time::read)
}

/// What is worth knowing of a record wherever it came from.
fn flags(fields: &Map<String, Value>) -> Vec<Value> {
    [
        ("isSidechain", "sidechain"),
        ("isMeta", "meta"),
        ("isCompactSummary", "compact-summary"),
        ("isVisibleInTranscriptOnly", "hidden"),
        ("isApiErrorMessage", "error"),
    ]
    .into_iter()
    .filter(|(key, _)| is_set(fields, key))
    .map(|(_, flag)| flag.into())
    .collect()
}

fn blank(record: &Whole, role: Role, id: String, at: Timestamp) -> MessageDraft {
    let mut draft = MessageDraft::new(role, Vec::new(), at);
    draft.source = Some(MessageSource { format: super::NAME.into(), id });
    draft.agent = text_field(&record.fields, "agentId").map(str::to_owned);
    let flags = flags(&record.fields);
    if !flags.is_empty() {
        draft.extra.insert(FLAGS.into(), flags.into());
    }
    draft
}

/// What is left of a record when its content has become parts: `shell` is its fields with references for it.
fn shell(record: Whole, shell: Map<String, Value>) -> Value {
    record.raw.map_or_else(|| Value::Object(shell), |raw| json!({ RAW: raw }))
}

fn take_content(fields: &mut Map<String, Value>) -> Option<&mut Value> {
    fields.get_mut("message").and_then(|message| message.get_mut("content"))
}

/// The messages of a user's record: one for each tool result, then one for the rest.
pub(crate) fn of_user(mut record: Whole, line: u64, at: Timestamp) -> Vec<Drafted> {
    let id = record_id(&record, line);
    let mut fields = std::mem::take(&mut record.fields);
    let content = take_content(&mut fields);
    let is_result = |block: &Value| block.get("type").and_then(Value::as_str) == Some("tool_result");
    let mut messages: Vec<(Role, Parts)> = Vec::new();
    match content {
        Some(Value::Array(blocks)) => {
            let results = blocks.iter().filter(|block| is_result(block)).count();
            let mut user = Parts::default();
            for block in blocks {
                let taken = block.take();
                *block = if is_result(&taken) {
                    let mut tool = Parts::default();
                    let reference = tool.add(taken, messages.len());
                    messages.push((Role::Tool, tool));
                    reference
                } else {
                    user.add(taken, results)
                };
            }
            if !user.parts.is_empty() {
                messages.push((Role::User, user));
            }
        }
        Some(content) => {
            let mut user = Parts::default();
            let taken = content.take();
            let block = match taken {
                Value::String(text) => json!({"type": "text", "text": text}),
                other => other,
            };
            *content = user.add(block, 0);
            messages.push((Role::User, user));
        }
        None => {}
    }
    record.fields = fields;
    let mut drafted: Vec<Drafted> = messages
        .into_iter()
        .enumerate()
        .map(|(number, (role, parts))| {
            let id = if number == 0 { id.clone() } else { format!("{id}/{number}") };
            let mut draft = blank(&record, role, id, at);
            draft.parts = parts.parts;
            Drafted { draft, attachments: parts.attachments }
        })
        .collect();
    let fields = std::mem::take(&mut record.fields);
    if let Some(first) = drafted.first_mut() {
        first.draft.extra.insert(RECORDS.into(), Value::Array(vec![shell(record, fields)]));
    }
    drafted
}

/// An assistant's message of one record; [`extend`] adds the others.
pub(crate) fn of_assistant(record: Whole, line: u64, at: Timestamp) -> Drafted {
    let id = record_id(&record, line);
    let draft = blank(&record, Role::Assistant, id, at);
    let mut drafted = Drafted { draft, attachments: Vec::new() };
    extend(&mut drafted, record);
    drafted
}

/// Adds a record to the message it continues.
pub(crate) fn extend(drafted: &mut Drafted, mut record: Whole) {
    let mut fields = std::mem::take(&mut record.fields);
    let draft = &mut drafted.draft;
    let mut parts = Parts { parts: std::mem::take(&mut draft.parts), attachments: Vec::new() };
    match take_content(&mut fields) {
        Some(Value::Array(blocks)) => {
            for block in blocks {
                *block = parts.add(block.take(), 0);
            }
        }
        Some(content @ Value::String(_)) => {
            let text = content.take();
            *content = parts.add(json!({"type": "text", "text": text}), 0);
        }
        Some(_) | None => {}
    }
    draft.parts = parts.parts;
    drafted.attachments.append(&mut parts.attachments);
    if let Some(Value::Object(message)) = fields.get("message") {
        if let Some(model) = text_field(message, "model").filter(|model| *model != "<synthetic>") {
            draft.model = Some(model.to_owned());
        }
        if let Some(usage) = message.get("usage").and_then(Value::as_object) {
            draft.usage = Some(usage_of(usage));
        }
    }
    if is_set(&fields, "isAbortedMidStream") {
        draft.status = MessageStatus::Interrupted;
    }
    let shell = shell(record, fields);
    match draft.extra.get_mut(RECORDS) {
        Some(Value::Array(records)) => records.push(shell),
        _ => {
            draft.extra.insert(RECORDS.into(), Value::Array(vec![shell]));
        }
    }
}

fn usage_of(usage: &Map<String, Value>) -> Usage {
    let count = |key: &str| usage.get(key).and_then(Value::as_u64).unwrap_or(0);
    Usage {
        prompt_tokens: count("input_tokens")
            .saturating_add(count("cache_creation_input_tokens"))
            .saturating_add(count("cache_read_input_tokens")),
        completion_tokens: count("output_tokens"),
    }
}
