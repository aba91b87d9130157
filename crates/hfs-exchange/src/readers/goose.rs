//! goose: its sessions.db, the export of one session, and the JSONL files of older versions.

use hfs_core::{ImportError, Part, Project, Role, Timestamp, Usage};
use serde_json::{Map, Value};

use super::conversation::{
    BufferedExport, ConversationTree, ImportedMessage, as_text, inline_image, number, text,
};
use crate::database::{Database, text_column};
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::readers::Output;
use crate::records::{Entry, Framing, JsonRecord, for_each_record};
use crate::{Format, Source};

const NAME: &str = "goose";

pub(crate) struct Goose;

impl super::Reader for Goose {
    fn format(&self) -> Format {
        Format::Goose
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        let header = |fields: &Map<String, Value>| {
            fields.contains_key("working_dir")
                && (fields.contains_key("conversation") || fields.contains_key("message_count"))
        };
        probe.has_tables(&["sessions", "messages"]) && probe.has_column("content_json")
            || probe.has_key("working_dir") && probe.has_key("conversation")
            || probe.records().first().is_some_and(header)
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let probe = FormatProbe::new(source)?;
        if probe.is_database() {
            return read_database(source, out);
        }
        if probe.has_key("conversation") {
            return read_export(source, out);
        }
        read_lines(source, out)
    }
}

fn new_conversation(source: &Source, info: &Map<String, Value>) -> ConversationTree {
    let id = text(info, "id").map(str::to_owned).or_else(|| source.stem()).unwrap_or_default();
    let mut conversation = ConversationTree::new(source, NAME, id);
    let title =
        ["name", "description"].into_iter().filter_map(|key| text(info, key)).find(|title| !title.is_empty());
    conversation.session.title = title.map(str::to_owned);
    conversation.session.automatic_name =
        !info.get("user_set_name").is_some_and(|set| *set == 1 || *set == true);
    let directory = text(info, "working_dir").filter(|directory| !directory.is_empty());
    conversation.session.project =
        directory.map(|directory| Project { directory: directory.into(), repository: None });
    conversation
}

fn read_database(source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
    let database = Database::open(source)?;
    let mut sessions = Vec::new();
    database.rows("select * from sessions order by id", &[], &mut |row| {
        sessions.push(row.fields);
        Ok(())
    })?;
    for info in sessions {
        out.progress(0)?;
        let mut conversation = new_conversation(source, &info);
        let id = text(&info, "id").unwrap_or_default();
        database.rows("select * from messages where session_id = ?1 order by id", &[id], &mut |row| {
            let content = parse(&text_column(&row, "content_json")).map(|parsed| parsed.value);
            let metadata = parse(&text_column(&row, "metadata_json")).map(|parsed| parsed.value);
            let mut fields = Map::new();
            fields.insert("id".into(), row.fields.get("message_id").cloned().unwrap_or_default());
            fields.insert("role".into(), row.fields.get("role").cloned().unwrap_or_default());
            fields.insert("created".into(), row.fields.get("created_timestamp").cloned().unwrap_or_default());
            fields.insert("content".into(), content.unwrap_or_default());
            fields.insert("metadata".into(), metadata.unwrap_or_default());
            message(&mut conversation, fields);
            Ok(())
        })?;
        finish(conversation, info).send_to(out)?;
    }
    Ok(())
}

fn finish(mut conversation: ConversationTree, info: Map<String, Value>) -> ConversationTree {
    conversation.set_times_from_messages();
    conversation.session.extra.insert(NAME.into(), Value::Object(info));
    conversation
}

fn read_export(source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
    let mut export = BufferedExport::read(source, "conversation", out)?;
    let mut conversation = new_conversation(source, &export.metadata);
    export.count_unreadable(&mut conversation.report);
    for fields in export.messages {
        message(&mut conversation, fields);
    }
    finish(conversation, export.metadata).send_to(out)
}

fn read_lines(source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
    let mut info = Map::new();
    let mut conversation = new_conversation(source, &info);
    for_each_record::<JsonRecord>(source, Framing::Lines, &mut |at, entry| {
        out.progress(at.bytes)?;
        match entry {
            Entry::Record(record, _) if record.fields.contains_key("role") => {
                message(&mut conversation, record.fields);
            }
            Entry::Record(record, _) => {
                conversation.report.mapped();
                info.extend(record.fields);
            }
            Entry::Damaged(why) => conversation.report.dropped(Some(at.line), why),
        }
        Ok(())
    })?;
    // The session-level fields are complete only now, because their records may follow messages.
    conversation.session = new_conversation(source, &info).session;
    finish(conversation, info).send_to(out)
}

fn message(conversation: &mut ConversationTree, mut fields: Map<String, Value>) {
    conversation.report.mapped();
    let message_number = conversation.nodes.len() + 1;
    let id = format!("{message_number}/{}", text(&fields, "id").unwrap_or_default());
    let at = fields.get("created").and_then(crate::time::from_json).unwrap_or(Timestamp::UNIX_EPOCH);
    let assistant = text(&fields, "role") == Some("assistant");
    let hidden =
        fields.get("metadata").and_then(|metadata| metadata.get("userVisible")) == Some(&Value::Bool(false));
    let mut parts = Vec::new();
    let mut attachments = Vec::new();
    let mut tool_results = Vec::new();
    if let Some(Value::Array(items)) = fields.shift_remove("content") {
        for item in items {
            match item.get("type").and_then(Value::as_str) {
                Some("toolResponse") => tool_results.push(result(&item, &mut attachments)),
                _ => parts.push(part(item, &mut attachments)),
            }
        }
    }
    let usage = fields.get("metadata").and_then(|metadata| metadata.get("usage")).and_then(Value::as_object);
    let usage = usage.map(|usage| Usage {
        prompt_tokens: number(usage, "inputTokens").unwrap_or(0),
        completion_tokens: number(usage, "outputTokens").unwrap_or(0),
    });
    let mut converted: Vec<ImportedMessage> = tool_results
        .into_iter()
        .enumerate()
        .map(|(index, parts)| ImportedMessage::new(NAME, format!("{id}/tool-{index}"), Role::Tool, parts, at))
        .collect();
    if assistant || !parts.is_empty() {
        let role = if assistant { Role::Assistant } else { Role::User };
        let mut imported = ImportedMessage::new(NAME, id, role, parts, at).flagged("injected", hidden);
        imported.draft.usage = usage.filter(|_| assistant);
        converted.push(imported);
    }
    if let Some(first) = converted.first_mut() {
        first.set_record(fields);
        first.attachments = attachments;
    }
    conversation.push_messages(converted);
}

/// The result of a tool: its text, then its images.
fn result(item: &Value, attachments: &mut Vec<hfs_core::Attachment>) -> Vec<Part> {
    let id = item.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let result = item.get("toolResult").unwrap_or(&Value::Null);
    let value = result.get("value").unwrap_or(result);
    let failed = result.get("status").and_then(Value::as_str) == Some("error");
    let is_error = failed || value.get("isError") == Some(&Value::Bool(true));
    let content = value.get("content").unwrap_or(value);
    let items: Vec<Value> = content.as_array().cloned().unwrap_or_else(|| vec![content.clone()]);
    let (images, texts): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|item| item.get("type").and_then(Value::as_str) == Some("image"));
    let output = match result.get("error").and_then(Value::as_str) {
        Some(error) => error.to_owned(),
        None => as_text(&Value::Array(texts)),
    };
    let mut parts = vec![Part::ToolResult { id, output, is_error }];
    parts.extend(images.into_iter().map(|item| part(item, attachments)));
    parts
}

fn part(item: Value, attachments: &mut Vec<hfs_core::Attachment>) -> Part {
    let Value::Object(fields) = &item else { return Part::Opaque { source: NAME.into(), raw: item } };
    let field = |key: &str| text(fields, key).map(str::to_owned);
    match text(fields, "type") {
        Some("text") if field("text").is_some() => Part::Text { text: field("text").unwrap_or_default() },
        Some("thinking") => Part::Thinking {
            text: field("thinking").unwrap_or_default(),
            signature: field("signature").filter(|signature| !signature.is_empty()),
        },
        Some("redactedThinking") => Part::Thinking { text: String::new(), signature: field("data") },
        Some("toolRequest" | "frontendToolRequest") => {
            let call = fields.get("toolCall").and_then(|call| call.get("value")).and_then(Value::as_object);
            let name = call.and_then(|call| text(call, "name")).unwrap_or_default().to_owned();
            let input = call.and_then(|call| call.get("arguments")).cloned().unwrap_or_default();
            Part::ToolCall { id: field("id").unwrap_or_default(), name, input }
        }
        Some("image") => {
            let media_type = field("mimeType").unwrap_or_else(|| "image/*".into());
            let (part, attachment) = inline_image(&media_type, &field("data").unwrap_or_default(), None);
            attachments.extend(attachment);
            part
        }
        _ => Part::Opaque { source: NAME.into(), raw: item },
    }
}
