//! goose: its sessions.db, the export of one session, and the JSONL files of older versions.

use hfs_core::{ImportError, Part, Project, Role, SessionSink, Timestamp, Usage};
use serde_json::{Map, Value};

use super::conversation::{Conversation, Drafted, as_text, inline_picture, number, text};
use super::whole;
use crate::database::{Database, text as column};
use crate::detect::Head;
use crate::json::parse;
use crate::records::{Entry, Framing, Whole, visit};
use crate::{Format, Source};

const NAME: &str = "goose";

pub(crate) struct Goose;

impl super::Reader for Goose {
    fn format(&self) -> Format {
        Format::Goose
    }

    fn recognizes(&self, head: &Head) -> bool {
        let header = |fields: &Map<String, Value>| {
            fields.contains_key("working_dir")
                && (fields.contains_key("conversation") || fields.contains_key("message_count"))
        };
        head.has_tables(&["sessions", "messages"]) && head.has_column("content_json")
            || head.has_key("working_dir") && head.has_key("conversation")
            || head.objects().first().is_some_and(header)
    }

    fn read(&self, source: &Source, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
        let head = Head::of(source)?;
        if head.is_database() {
            return read_database(source, sink);
        }
        if head.has_key("conversation") {
            return read_export(source, sink);
        }
        read_lines(source, sink)
    }
}

fn session(source: &Source, facts: &Map<String, Value>) -> Conversation {
    let id = text(facts, "id").map(str::to_owned).or_else(|| source.stem()).unwrap_or_default();
    let mut conversation = Conversation::new(source, NAME, id);
    let title = ["name", "description"]
        .into_iter()
        .filter_map(|key| text(facts, key))
        .find(|title| !title.is_empty());
    conversation.session.title = title.map(str::to_owned);
    conversation.session.automatic_name =
        !facts.get("user_set_name").is_some_and(|set| *set == 1 || *set == true);
    let directory = text(facts, "working_dir").filter(|directory| !directory.is_empty());
    conversation.session.project =
        directory.map(|directory| Project { directory: directory.into(), repository: None });
    conversation
}

fn read_database(source: &Source, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
    let database = Database::open(source)?;
    let mut sessions = Vec::new();
    database.rows("select * from sessions order by id", &[], &mut |row| {
        sessions.push(row.fields);
        Ok(())
    })?;
    for facts in sessions {
        super::go_on(source, sink, 0)?;
        let mut conversation = session(source, &facts);
        let id = text(&facts, "id").unwrap_or_default();
        database.rows("select * from messages where session_id = ?1 order by id", &[id], &mut |row| {
            let content = parse(&column(&row, "content_json")).map(|parsed| parsed.value);
            let metadata = parse(&column(&row, "metadata_json")).map(|parsed| parsed.value);
            let mut fields = Map::new();
            fields.insert("id".into(), row.fields.get("message_id").cloned().unwrap_or_default());
            fields.insert("role".into(), row.fields.get("role").cloned().unwrap_or_default());
            fields.insert("created".into(), row.fields.get("created_timestamp").cloned().unwrap_or_default());
            fields.insert("content".into(), content.unwrap_or_default());
            fields.insert("metadata".into(), metadata.unwrap_or_default());
            message(&mut conversation, fields);
            Ok(())
        })?;
        finish(conversation, facts).hand_over(sink)?;
    }
    Ok(())
}

fn finish(mut conversation: Conversation, facts: Map<String, Value>) -> Conversation {
    conversation.time_by_messages();
    conversation.session.extra.insert(NAME.into(), Value::Object(facts));
    conversation
}

fn read_export(source: &Source, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
    let mut document = whole::Whole::read(source, "conversation", sink)?;
    let mut conversation = session(source, &document.fields);
    document.count_lost(&mut conversation.tally);
    for fields in document.list {
        message(&mut conversation, fields);
    }
    finish(conversation, document.fields).hand_over(sink)
}

fn read_lines(source: &Source, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
    let mut facts = Map::new();
    let mut conversation = session(source, &facts);
    visit::<Whole>(source, Framing::Lines, &mut |at, entry| {
        super::go_on(source, sink, at.bytes)?;
        match entry {
            Entry::Record(record, _) if record.fields.contains_key("role") => {
                message(&mut conversation, record.fields);
            }
            Entry::Record(record, _) => {
                conversation.tally.mapped();
                facts.extend(record.fields);
            }
            Entry::Bad(why) => conversation.tally.dropped(Some(at.line), why),
        }
        Ok(())
    })?;
    let titled = session(source, &facts);
    conversation.session = titled.session;
    finish(conversation, facts).hand_over(sink)
}

fn message(conversation: &mut Conversation, mut fields: Map<String, Value>) {
    conversation.tally.mapped();
    let place = conversation.nodes.len() + 1;
    let id = format!("{place}/{}", text(&fields, "id").unwrap_or_default());
    let at = fields.get("created").and_then(crate::time::read).unwrap_or(Timestamp::UNIX_EPOCH);
    let assistant = text(&fields, "role") == Some("assistant");
    let hidden = fields.get("metadata").and_then(|told| told.get("userVisible")) == Some(&Value::Bool(false));
    let mut parts = Vec::new();
    let mut attachments = Vec::new();
    let mut tools = Vec::new();
    if let Some(Value::Array(items)) = fields.shift_remove("content") {
        for item in items {
            match item.get("type").and_then(Value::as_str) {
                Some("toolResponse") => tools.push(result(&item, &mut attachments)),
                _ => parts.push(part(item, &mut attachments)),
            }
        }
    }
    let usage = fields.get("metadata").and_then(|told| told.get("usage")).and_then(Value::as_object);
    let usage = usage.map(|usage| Usage {
        prompt_tokens: number(usage, "inputTokens").unwrap_or(0),
        completion_tokens: number(usage, "outputTokens").unwrap_or(0),
    });
    let mut said: Vec<Drafted> = tools
        .into_iter()
        .enumerate()
        .map(|(count, parts)| Drafted::new(NAME, format!("{id}/tool-{count}"), Role::Tool, parts, at))
        .collect();
    if assistant || !parts.is_empty() {
        let role = if assistant { Role::Assistant } else { Role::User };
        let mut drafted = Drafted::new(NAME, id, role, parts, at).flagged("injected", hidden);
        drafted.draft.usage = usage.filter(|_| assistant);
        said.push(drafted);
    }
    if let Some(first) = said.first_mut() {
        first.keep(fields);
        first.attachments = attachments;
    }
    conversation.say(said);
}

/// A tool's answer: its text, then its pictures.
fn result(item: &Value, attachments: &mut Vec<hfs_core::Attachment>) -> Vec<Part> {
    let id = item.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let told = item.get("toolResult").unwrap_or(&Value::Null);
    let value = told.get("value").unwrap_or(told);
    let failed = told.get("status").and_then(Value::as_str) == Some("error");
    let is_error = failed || value.get("isError") == Some(&Value::Bool(true));
    let content = value.get("content").unwrap_or(value);
    let items: Vec<Value> = content.as_array().cloned().unwrap_or_else(|| vec![content.clone()]);
    let (pictures, texts): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|item| item.get("type").and_then(Value::as_str) == Some("image"));
    let output = match told.get("error").and_then(Value::as_str) {
        Some(error) => error.to_owned(),
        None => as_text(&Value::Array(texts)),
    };
    let mut parts = vec![Part::ToolResult { id, output, is_error }];
    parts.extend(pictures.into_iter().map(|item| part(item, attachments)));
    parts
}

fn part(item: Value, attachments: &mut Vec<hfs_core::Attachment>) -> Part {
    let Value::Object(fields) = &item else { return Part::Opaque { source: NAME.into(), raw: item } };
    let told = |key: &str| text(fields, key).map(str::to_owned);
    match text(fields, "type") {
        Some("text") if told("text").is_some() => Part::Text { text: told("text").unwrap_or_default() },
        Some("thinking") => Part::Thinking {
            text: told("thinking").unwrap_or_default(),
            signature: told("signature").filter(|signature| !signature.is_empty()),
        },
        Some("redactedThinking") => Part::Thinking { text: String::new(), signature: told("data") },
        Some("toolRequest" | "frontendToolRequest") => {
            let call = fields.get("toolCall").and_then(|call| call.get("value")).and_then(Value::as_object);
            let name = call.and_then(|call| text(call, "name")).unwrap_or_default().to_owned();
            let input = call.and_then(|call| call.get("arguments")).cloned().unwrap_or_default();
            Part::ToolCall { id: told("id").unwrap_or_default(), name, input }
        }
        Some("image") => {
            let media_type = told("mimeType").unwrap_or_else(|| "image/*".into());
            let (part, attachment) = inline_picture(&media_type, &told("data").unwrap_or_default(), None);
            attachments.extend(attachment);
            part
        }
        _ => Part::Opaque { source: NAME.into(), raw: item },
    }
}
