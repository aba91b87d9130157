//! goose: its sessions.db, the export of one session, and the JSONL files of older versions.

use std::collections::HashMap;

use hfs_core::{Attachment, ImportError, MessageFlag, Part, Project, Role, Timestamp};
use serde_json::{Map, Value};

use super::content::{ToolOutput, file_of};
use super::conversation::{
    BufferedExport, ConversationTree, ImportedMessage, group_sessions, number, text, usage,
};
use crate::database::{Database, DatabaseRow, short_hash, text_column};
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::readers::Output;
use crate::records::{Entry, Framing, JsonRecord, for_each_record};
use crate::resume::SessionVersions;
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
    conversation.session.title = title(info);
    conversation.session.automatic_name =
        !info.get("user_set_name").is_some_and(|set| *set == 1 || *set == true);
    let directory = text(info, "working_dir").filter(|directory| !directory.is_empty());
    conversation.session.project =
        directory.map(|directory| Project { directory: directory.into(), repository: None });
    conversation
}

/// Value of `session_type` for a session that an agent started.
const SUBAGENT: &str = "sub_agent";

fn read_database(source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
    let database = Database::open(source)?;
    let mut sessions = Vec::new();
    let mut infos = HashMap::new();
    database.rows("select * from sessions order by id", &[], &mut |row| {
        let info = row.fields;
        let id = text(&info, "id").unwrap_or_default().to_owned();
        let parent =
            text(&info, "parent_session_id").filter(|_| text(&info, "session_type") == Some(SUBAGENT));
        sessions.push((id.clone(), parent.map(str::to_owned)));
        infos.insert(id, info);
        Ok(())
    })?;
    let columns = ["timestamp", "created_timestamp"];
    let versions = database.versions("messages", "session_id", "content_json", &columns).ok();
    let known = out.known_versions(NAME);
    let mut found = SessionVersions::default();
    for group in group_sessions(&sessions) {
        out.progress(0)?;
        let ids = std::iter::once(&group.root).chain(&group.subagents);
        let version = versions.as_ref().map(|versions| {
            let parts = ids.map(|id| (infos.get(id), versions.get(id)));
            short_hash(&format!("{:?}", parts.collect::<Vec<_>>()))
        });
        if let Some(version) = version.filter(|version| known.0.get(&group.root) == Some(version)) {
            found.0.insert(group.root, version);
            out.leave_out_unchanged_session();
            continue;
        }
        database.renew()?;
        let root = group.root.clone();
        let info = infos.remove(&group.root).unwrap_or_default();
        let mut conversation = new_conversation(source, &info);
        for messages in messages_of(&database, &group.root, &mut conversation)? {
            conversation.push_messages(messages);
        }
        for subagent in group.subagents {
            let info = infos.remove(&subagent).unwrap_or_default();
            let messages = messages_of(&database, &subagent, &mut conversation)?;
            let started =
                messages.iter().flatten().filter_map(|message| message.draft.created_at.known()).min();
            let parent = conversation.node_with_value(&subagent).or_else(|| conversation.node_at(started));
            conversation.push_subagent(title(&info).unwrap_or(subagent), parent, messages);
        }
        let has_damage = conversation.report.has_dropped();
        finish(conversation, info).send_to(out)?;
        // What was skipped or damaged is tried again.
        if let Some(version) = version.filter(|_| !out.is_skipping() && !has_damage) {
            found.0.insert(root, version);
        }
    }
    if versions.is_some() { out.versions(NAME, &found) } else { Ok(()) }
}

fn messages_of(
    database: &Database,
    session: &str,
    conversation: &mut ConversationTree,
) -> Result<Vec<Vec<ImportedMessage>>, ImportError> {
    let mut messages = Vec::new();
    database.rows("select * from messages where session_id = ?1 order by id", &[session], &mut |row| {
        match row_fields(&row) {
            Some(fields) => {
                let number = messages.len() + 1;
                messages.extend(message(conversation, fields, number));
            }
            None => {
                let id = row.fields.get("id").map(Value::to_string).unwrap_or_default();
                conversation.report.dropped(None, format!("the content of message {id} is not valid JSON"));
            }
        }
        Ok(())
    })?;
    Ok(messages)
}

/// A row as a message of an export; `None` if its content is not valid JSON.
fn row_fields(row: &DatabaseRow) -> Option<Map<String, Value>> {
    let content = parse(&text_column(row, "content_json"))?.value;
    let metadata = parse(&text_column(row, "metadata_json")).map(|parsed| parsed.value);
    let mut fields = Map::new();
    for (key, column) in [("id", "message_id"), ("role", "role"), ("created", "created_timestamp")] {
        fields.insert(key.into(), row.fields.get(column).cloned().unwrap_or_default());
    }
    fields.insert("content".into(), content);
    fields.insert("metadata".into(), metadata.unwrap_or_default());
    Some(fields)
}

fn title(info: &Map<String, Value>) -> Option<String> {
    let mut titles = ["name", "description"].into_iter().filter_map(|key| text(info, key));
    titles.find(|title| !title.is_empty()).map(str::to_owned)
}

fn finish(mut conversation: ConversationTree, info: Map<String, Value>) -> ConversationTree {
    conversation.set_times_from_messages();
    let time = |key: &str| info.get(key).and_then(crate::time::from_json);
    conversation.set_missing_times(time("created_at"), time("updated_at"));
    conversation.fill_message_times(None, None);
    conversation.session.extra.insert(NAME.into(), Value::Object(info));
    conversation
}

fn read_export(source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
    let mut export = BufferedExport::read(source, "conversation", out)?;
    let mut conversation = new_conversation(source, &export.metadata);
    export.count_unreadable(&mut conversation.report);
    for (number, fields) in export.messages.into_iter().enumerate() {
        if let Some(messages) = message(&mut conversation, fields, number + 1) {
            conversation.push_messages(messages);
        }
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
                let number = conversation.nodes.len() + 1;
                if let Some(messages) = message(&mut conversation, record.fields, number) {
                    conversation.push_messages(messages);
                }
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

/// Converts a message and counts it; `None` if hfs does not know its role.
fn message(
    conversation: &mut ConversationTree,
    mut fields: Map<String, Value>,
    message_number: usize,
) -> Option<Vec<ImportedMessage>> {
    let role = match text(&fields, "role") {
        Some("assistant") => Role::Assistant,
        Some("user") => Role::User,
        _ => {
            conversation.report.opaque();
            conversation.other_records.push(Value::Object(fields));
            return None;
        }
    };
    conversation.report.mapped();
    let id = format!("{message_number}/{}", text(&fields, "id").unwrap_or_default());
    let at = fields.get("created").and_then(crate::time::from_json).unwrap_or(Timestamp::UNKNOWN);
    let metadata = |key: &str| fields.get("metadata").and_then(|metadata| metadata.get(key));
    let hidden = metadata("userVisible") == Some(&Value::Bool(false));
    let usage = metadata("usage")
        .and_then(Value::as_object)
        .and_then(|counts| usage(&[number(counts, "inputTokens")], &[number(counts, "outputTokens")]));
    let mut parts = Vec::new();
    let mut attachments = Vec::new();
    let mut converted = Vec::new();
    match fields.shift_remove("content") {
        Some(Value::Array(items)) => {
            for item in items {
                if item.get("type").and_then(Value::as_str) == Some("toolResponse") {
                    converted.push(result(&item, format!("{id}/tool-{}", converted.len()), at));
                } else {
                    parts.push(part(item, &mut attachments));
                }
            }
        }
        Some(Value::String(text)) => parts.push(Part::Text { text }),
        Some(Value::Null) | None => {}
        Some(other) => parts.push(Part::Opaque { source: NAME.into(), raw: other }),
    }
    if role == Role::Assistant || !parts.is_empty() {
        let mut imported =
            ImportedMessage::new(NAME, id, role, parts, at).flagged(MessageFlag::Injected, hidden);
        imported.draft.usage = usage.filter(|_| role == Role::Assistant);
        imported.attachments = attachments;
        converted.push(imported);
    }
    if let Some(first) = converted.first_mut() {
        first.set_record(fields);
    }
    Some(converted)
}

/// The result of a tool: its text, then its files.
fn result(item: &Value, id: String, at: Timestamp) -> ImportedMessage {
    let call = item.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let result = item.get("toolResult").unwrap_or(&Value::Null);
    let value = result.get("value").unwrap_or(result);
    let failed = result.get("status").and_then(Value::as_str) == Some("error");
    let is_error = failed || value.get("isError") == Some(&Value::Bool(true));
    let output = match result.get("error").and_then(Value::as_str) {
        Some(error) => ToolOutput { text: error.to_owned(), ..ToolOutput::default() },
        None => {
            let output = ToolOutput::new(value.get("content").unwrap_or(value));
            match value.get("structuredContent") {
                // Servers that return structured content should repeat it as text, but not all do.
                Some(structured) if output.text.is_empty() && output.files.is_empty() => {
                    ToolOutput::new(structured)
                }
                _ => output,
            }
        }
    };
    let mut parts = vec![Part::ToolResult { id: call, output: output.text, is_error }];
    parts.extend(output.files);
    let mut message = ImportedMessage::new(NAME, id, Role::Tool, parts, at);
    message.attachments = output.attachments;
    message
}

fn part(item: Value, attachments: &mut Vec<Attachment>) -> Part {
    let Value::Object(fields) = &item else { return Part::Opaque { source: NAME.into(), raw: item } };
    let field = |key: &str| text(fields, key).map(str::to_owned);
    match text(fields, "type") {
        Some("text") if field("text").is_some() => Part::Text { text: field("text").unwrap_or_default() },
        Some("thinking") => Part::Thinking {
            text: field("thinking").unwrap_or_default(),
            signature: field("signature").filter(|signature| !signature.is_empty()),
        },
        Some("reasoning") => Part::Thinking { text: field("text").unwrap_or_default(), signature: None },
        Some("systemNotification") if field("msg").is_some() => {
            Part::Text { text: field("msg").unwrap_or_default() }
        }
        Some("redactedThinking") => Part::Thinking { text: String::new(), signature: field("data") },
        Some("toolRequest" | "frontendToolRequest") => {
            let call = fields.get("toolCall").and_then(|call| call.get("value")).and_then(Value::as_object);
            let name = call.and_then(|call| text(call, "name")).unwrap_or_default().to_owned();
            let input = call.and_then(|call| call.get("arguments")).cloned().unwrap_or_default();
            Part::ToolCall { id: field("id").unwrap_or_default(), name, input }
        }
        _ => match file_of(fields) {
            Some(file) => {
                attachments.extend(file.attachment);
                file.part
            }
            None => Part::Opaque { source: NAME.into(), raw: item },
        },
    }
}
