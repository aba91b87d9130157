//! Gemini CLI chats: one JSON object, or JSONL records that have to be replayed.

use std::collections::HashSet;

use hfs_core::{ImportError, Part, Project, Role, Timestamp, Usage};
use serde_json::{Map, Value};

use super::conversation::{
    BufferedExport, ConversationTree, ImportedMessage, as_text, inline_image, number, text,
};
use crate::detect::FormatProbe;
use crate::readers::{BEFORE, Output};
use crate::records::{Entry, Framing, JsonRecord, for_each_record};
use crate::{Format, Source};

const NAME: &str = "gemini";

pub(crate) struct Gemini;

impl super::Reader for Gemini {
    fn format(&self) -> Format {
        Format::Gemini
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        let header = |fields: &Map<String, Value>| {
            fields.contains_key("sessionId")
                && fields.contains_key("projectHash")
                && !super::qwen::is_older_chat(fields)
        };
        probe.first_object().is_some_and(header) || probe.records().first().is_some_and(header)
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let probe = FormatProbe::new(source)?;
        let mut replay = Replay::default();
        let mut conversation = ConversationTree::new(source, NAME, "");
        if probe.has_key("messages") {
            let mut export = BufferedExport::read(source, "messages", out)?;
            export.count_unreadable(&mut conversation.report);
            (replay.header, replay.messages) = (export.metadata, export.messages);
            conversation.report.mapped();
        } else {
            for_each_record::<JsonRecord>(source, Framing::Lines, &mut |at, entry| {
                out.progress(at.bytes)?;
                match entry {
                    Entry::Record(record, _) => replay.record(record.fields, &mut conversation),
                    Entry::Damaged(why) => conversation.report.dropped(Some(at.line), why),
                }
                Ok(())
            })?;
        }
        replay.into_conversation(source, conversation)?.send_to(out)
    }
}

fn object(value: Value) -> Option<Map<String, Value>> {
    if let Value::Object(fields) = value { Some(fields) } else { None }
}

/// The state that results from replaying the records.
#[derive(Default)]
struct Replay {
    header: Map<String, Value>,
    messages: Vec<Map<String, Value>>,
    /// Messages that later records replaced. They are stored too, because the messages that replace them
    /// after a resume lack tool calls, thoughts and tokens.
    superseded: Vec<Value>,
}

impl Replay {
    fn record(&mut self, mut record: Map<String, Value>, conversation: &mut ConversationTree) {
        if let Some(Value::Object(mut set)) = record.shift_remove("$set") {
            conversation.report.mapped();
            if let Some(Value::Array(messages)) = set.shift_remove("messages") {
                let messages: Vec<Map<String, Value>> = messages.into_iter().filter_map(object).collect();
                let old = std::mem::replace(&mut self.messages, messages);
                let replaced = old.into_iter().filter(|old| !self.messages.contains(old)).map(Value::Object);
                let replaced: Vec<Value> = replaced.collect();
                self.superseded.extend(replaced);
            }
            self.header.extend(set);
        } else if let Some(id) = record.get("$rewindTo") {
            conversation.report.mapped();
            let at = self.messages.iter().position(|message| message.get("id") == Some(id));
            if let Some(at) = at {
                self.superseded.extend(self.messages.drain(at..).map(Value::Object));
            }
        } else if record.contains_key("sessionId") && !record.contains_key("type") {
            conversation.report.mapped();
            self.header.extend(record);
        } else if record.contains_key("id") && record.contains_key("type") {
            conversation.report.mapped();
            let same = self.messages.iter_mut().find(|message| message.get("id") == record.get("id"));
            match same {
                Some(message) => *message = record,
                None => self.messages.push(record),
            }
        } else {
            conversation.report.opaque();
            conversation.other_records.push(Value::Object(record));
        }
    }

    fn into_conversation(
        self,
        source: &Source,
        mut conversation: ConversationTree,
    ) -> Result<ConversationTree, ImportError> {
        let id = text(&self.header, "sessionId").map(str::to_owned).or_else(|| source.stem());
        let id = id.ok_or_else(|| source.damaged("it has no session"))?;
        conversation.session.origin.id = id;
        conversation.session.title =
            text(&self.header, "summary").filter(|title| !title.is_empty()).map(str::to_owned);
        conversation.session.automatic_name = true;
        let directory = self.header.get("directories").and_then(|list| list.get(0)).and_then(Value::as_str);
        conversation.session.project =
            directory.map(|directory| Project { directory: directory.to_owned(), repository: None });
        let mut results = HashSet::new();
        let mut others = Vec::new();
        for message in self.messages {
            let mut converted = match text(&message, "type") {
                Some("user") => user_messages(message, &mut results),
                Some("gemini") => model_messages(message, &mut results),
                _ => {
                    others.push(Value::Object(message));
                    continue;
                }
            };
            if let Some(first) = converted.first_mut()
                && !others.is_empty()
            {
                first.draft.extra.insert(BEFORE.into(), Value::Array(std::mem::take(&mut others)));
            }
            conversation.push_messages(converted);
        }
        conversation.other_records.append(&mut others);
        conversation.other_records.extend(self.superseded);
        conversation.set_times_from_messages();
        conversation.session.extra.insert(NAME.into(), Value::Object(self.header));
        Ok(conversation)
    }
}

fn id_and_time(message: &Map<String, Value>) -> (String, Timestamp) {
    let id = text(message, "id").unwrap_or_default().to_owned();
    (id, message.get("timestamp").and_then(crate::time::from_json).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// The result of a function call. Gemini CLI repeats results; only the first one with each id is imported.
fn result(response: &Value, results: &mut HashSet<String>) -> Option<Part> {
    let response = response.get("functionResponse")?.as_object()?;
    let id = text(response, "id").or_else(|| text(response, "name")).unwrap_or_default();
    if !results.insert(id.to_owned()) {
        return None;
    }
    let content = response.get("response").unwrap_or(&Value::Null);
    let (output, is_error) = match (content.get("output"), content.get("error")) {
        (Some(output), _) => (as_text(output), false),
        (None, Some(error)) => (as_text(error), true),
        (None, None) => (as_text(content), false),
    };
    Some(Part::ToolResult { id: id.to_owned(), output, is_error })
}

fn user_messages(mut message: Map<String, Value>, results: &mut HashSet<String>) -> Vec<ImportedMessage> {
    let (id, at) = id_and_time(&message);
    let mut parts = Vec::new();
    let mut attachments = Vec::new();
    let mut tools = Vec::new();
    match message.shift_remove("content") {
        Some(Value::Array(items)) => {
            for item in items {
                if item.get("functionResponse").is_some() {
                    tools.extend(result(&item, results));
                } else {
                    parts.push(part(item, &mut attachments));
                }
            }
        }
        Some(Value::String(text)) => parts.push(Part::Text { text }),
        _ => {}
    }
    let mut converted = Vec::new();
    let injected = parts
        .first()
        .is_some_and(|part| matches!(part, Part::Text { text } if text.starts_with("<session_context>")));
    for (number, tool) in tools.into_iter().enumerate() {
        converted.push(ImportedMessage::new(NAME, format!("{id}/tool-{number}"), Role::Tool, vec![tool], at));
    }
    if !parts.is_empty() {
        let mut imported =
            ImportedMessage::new(NAME, id, Role::User, parts, at).flagged("injected", injected);
        imported.attachments = attachments;
        converted.push(imported.with_record(message));
    }
    converted
}

fn part(item: Value, attachments: &mut Vec<hfs_core::Attachment>) -> Part {
    let thought = item.get("thought") == Some(&Value::Bool(true));
    if let Some(text) = item.get("text").and_then(Value::as_str) {
        let text = text.to_owned();
        return if thought { Part::Thinking { text, signature: None } } else { Part::Text { text } };
    }
    if let Some(call) = item.get("functionCall").and_then(Value::as_object) {
        let name = text(call, "name").unwrap_or_default().to_owned();
        let id = text(call, "id").unwrap_or(&name).to_owned();
        return Part::ToolCall { id, name, input: call.get("args").cloned().unwrap_or_default() };
    }
    if let Some(data) = item.get("inlineData").and_then(Value::as_object) {
        let media_type = text(data, "mimeType").unwrap_or("image/*");
        let (part, attachment) = inline_image(media_type, text(data, "data").unwrap_or_default(), None);
        attachments.extend(attachment);
        return part;
    }
    Part::Opaque { source: NAME.into(), raw: item }
}

fn model_messages(mut message: Map<String, Value>, results: &mut HashSet<String>) -> Vec<ImportedMessage> {
    let (id, at) = id_and_time(&message);
    let mut parts = Vec::new();
    let mut attachments = Vec::new();
    let mut calls = HashSet::new();
    if let Some(Value::Array(thoughts)) = message.get("thoughts") {
        for thought in thoughts {
            let texts = [thought.get("subject"), thought.get("description")];
            let texts: Vec<&str> = texts.into_iter().flatten().filter_map(Value::as_str).collect();
            parts.push(Part::Thinking { text: texts.join("\n"), signature: None });
        }
    }
    match message.shift_remove("content") {
        Some(Value::String(text)) if !text.is_empty() => parts.push(Part::Text { text }),
        Some(Value::Array(items)) => {
            for item in items {
                let part = part(item, &mut attachments);
                if let Part::ToolCall { id, .. } = &part {
                    calls.insert(id.clone());
                }
                parts.push(part);
            }
        }
        _ => {}
    }
    let mut tools = Vec::new();
    if let Some(Value::Array(made)) = message.get_mut("toolCalls") {
        for call in made.iter_mut().filter_map(Value::as_object_mut) {
            let id = text(call, "id").unwrap_or_default().to_owned();
            let name = text(call, "name").unwrap_or_default().to_owned();
            if calls.insert(id.clone()) {
                let input = call.shift_remove("args").unwrap_or_default();
                parts.push(Part::ToolCall { id: id.clone(), name, input });
            }
            match call.get("result") {
                Some(Value::Array(answers)) => {
                    tools.extend(answers.iter().filter_map(|answer| result(answer, results)));
                }
                Some(Value::Null) | None => {}
                Some(other) if results.insert(id.clone()) => {
                    tools.push(Part::ToolResult { id, output: as_text(other), is_error: false });
                }
                Some(_) => {}
            }
        }
    }
    let usage = message.get("tokens").and_then(Value::as_object).map(|tokens| Usage {
        prompt_tokens: number(tokens, "input").unwrap_or(0),
        completion_tokens: number(tokens, "output").unwrap_or(0) + number(tokens, "thoughts").unwrap_or(0),
    });
    let model = text(&message, "model").map(str::to_owned);
    let mut imported =
        ImportedMessage::new(NAME, id.clone(), Role::Assistant, parts, at).with_record(message);
    imported.attachments = attachments;
    imported.draft.usage = usage;
    imported.draft.model = model;
    let mut converted = vec![imported];
    for (number, tool) in tools.into_iter().enumerate() {
        converted.push(ImportedMessage::new(NAME, format!("{id}/tool-{number}"), Role::Tool, vec![tool], at));
    }
    converted
}
