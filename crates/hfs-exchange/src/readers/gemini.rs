//! Gemini CLI's chats: one JSON object, or JSONL whose records replay into one.

use std::collections::HashSet;

use hfs_core::{ImportError, Part, Project, Role, SessionSink, Timestamp, Usage};
use serde_json::{Map, Value};

use super::conversation::{Conversation, Drafted, as_text, inline_picture, number, text};
use super::whole;
use crate::detect::Head;
use crate::readers::BEFORE;
use crate::records::{Entry, Framing, Whole, visit};
use crate::{Format, Source};

const NAME: &str = "gemini";

pub(crate) struct Gemini;

impl super::Reader for Gemini {
    fn format(&self) -> Format {
        Format::Gemini
    }

    fn recognizes(&self, head: &Head) -> bool {
        let header = |fields: &Map<String, Value>| {
            fields.contains_key("sessionId") && fields.contains_key("projectHash")
        };
        head.first().is_some_and(header) || head.objects().first().is_some_and(header)
    }

    fn read(&self, source: &Source, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
        let head = Head::of(source)?;
        let mut replay = Replay::default();
        let mut conversation = Conversation::new(source, NAME, "");
        if head.has_key("messages") {
            let mut document = whole::Whole::read(source, "messages", sink)?;
            document.count_lost(&mut conversation.tally);
            (replay.header, replay.messages) = (document.fields, document.list);
            conversation.tally.mapped();
        } else {
            visit::<Whole>(source, Framing::Lines, &mut |at, entry| {
                super::go_on(source, sink, at.bytes)?;
                match entry {
                    Entry::Record(record, _) => replay.record(record.fields, &mut conversation),
                    Entry::Bad(why) => conversation.tally.dropped(Some(at.line), why),
                }
                Ok(())
            })?;
        }
        replay.tell(source, conversation)?.hand_over(sink)
    }
}

fn object(value: Value) -> Option<Map<String, Value>> {
    if let Value::Object(fields) = value { Some(fields) } else { None }
}

/// What the records add up to.
#[derive(Default)]
struct Replay {
    header: Map<String, Value>,
    messages: Vec<Map<String, Value>>,
    /// What later records replaced: kept, because a resume drops tool calls, thoughts and tokens.
    superseded: Vec<Value>,
}

impl Replay {
    fn record(&mut self, mut record: Map<String, Value>, conversation: &mut Conversation) {
        if let Some(Value::Object(mut set)) = record.shift_remove("$set") {
            conversation.tally.mapped();
            if let Some(Value::Array(messages)) = set.shift_remove("messages") {
                let messages: Vec<Map<String, Value>> = messages.into_iter().filter_map(object).collect();
                let old = std::mem::replace(&mut self.messages, messages);
                let kept = old.into_iter().filter(|old| !self.messages.contains(old)).map(Value::Object);
                let kept: Vec<Value> = kept.collect();
                self.superseded.extend(kept);
            }
            self.header.extend(set);
        } else if let Some(id) = record.get("$rewindTo") {
            conversation.tally.mapped();
            let at = self.messages.iter().position(|message| message.get("id") == Some(id));
            if let Some(at) = at {
                self.superseded.extend(self.messages.drain(at..).map(Value::Object));
            }
        } else if record.contains_key("sessionId") && !record.contains_key("type") {
            conversation.tally.mapped();
            self.header.extend(record);
        } else if record.contains_key("id") && record.contains_key("type") {
            conversation.tally.mapped();
            let same = self.messages.iter_mut().find(|message| message.get("id") == record.get("id"));
            match same {
                Some(message) => *message = record,
                None => self.messages.push(record),
            }
        } else {
            conversation.tally.opaque();
            conversation.events.push(Value::Object(record));
        }
    }

    fn tell(self, source: &Source, mut conversation: Conversation) -> Result<Conversation, ImportError> {
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
        let mut events = Vec::new();
        for message in self.messages {
            let mut said = match text(&message, "type") {
                Some("user") => of_user(message, &mut results),
                Some("gemini") => of_model(message, &mut results),
                _ => {
                    events.push(Value::Object(message));
                    continue;
                }
            };
            if let Some(first) = said.first_mut()
                && !events.is_empty()
            {
                first.draft.extra.insert(BEFORE.into(), Value::Array(std::mem::take(&mut events)));
            }
            conversation.say(said);
        }
        conversation.events.append(&mut events);
        conversation.events.extend(self.superseded);
        conversation.time_by_messages();
        conversation.session.extra.insert(NAME.into(), Value::Object(self.header));
        Ok(conversation)
    }
}

fn facts(message: &Map<String, Value>) -> (String, Timestamp) {
    let id = text(message, "id").unwrap_or_default().to_owned();
    (id, message.get("timestamp").and_then(crate::time::read).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// What a function answered: one result for each call, however often it is told.
fn result(response: &Value, results: &mut HashSet<String>) -> Option<Part> {
    let response = response.get("functionResponse")?.as_object()?;
    let id = text(response, "id").or_else(|| text(response, "name")).unwrap_or_default();
    if !results.insert(id.to_owned()) {
        return None;
    }
    let told = response.get("response").unwrap_or(&Value::Null);
    let (output, is_error) = match (told.get("output"), told.get("error")) {
        (Some(output), _) => (as_text(output), false),
        (None, Some(error)) => (as_text(error), true),
        (None, None) => (as_text(told), false),
    };
    Some(Part::ToolResult { id: id.to_owned(), output, is_error })
}

fn of_user(mut message: Map<String, Value>, results: &mut HashSet<String>) -> Vec<Drafted> {
    let (id, at) = facts(&message);
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
    let mut said = Vec::new();
    let injected = parts
        .first()
        .is_some_and(|part| matches!(part, Part::Text { text } if text.starts_with("<session_context>")));
    for (number, tool) in tools.into_iter().enumerate() {
        said.push(Drafted::new(NAME, format!("{id}/tool-{number}"), Role::Tool, vec![tool], at));
    }
    if !parts.is_empty() {
        let mut drafted = Drafted::new(NAME, id, Role::User, parts, at).flagged("injected", injected);
        drafted.attachments = attachments;
        said.push(drafted.with_record(message));
    }
    said
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
        let (part, attachment) = inline_picture(media_type, text(data, "data").unwrap_or_default(), None);
        attachments.extend(attachment);
        return part;
    }
    Part::Opaque { source: NAME.into(), raw: item }
}

fn of_model(mut message: Map<String, Value>, results: &mut HashSet<String>) -> Vec<Drafted> {
    let (id, at) = facts(&message);
    let mut parts = Vec::new();
    let mut attachments = Vec::new();
    let mut calls = HashSet::new();
    if let Some(Value::Array(thoughts)) = message.get("thoughts") {
        for thought in thoughts {
            let told = [thought.get("subject"), thought.get("description")];
            let told: Vec<&str> = told.into_iter().flatten().filter_map(Value::as_str).collect();
            parts.push(Part::Thinking { text: told.join("\n"), signature: None });
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
                    tools.extend(answers.iter().filter_map(|told| result(told, results)));
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
    let mut drafted = Drafted::new(NAME, id.clone(), Role::Assistant, parts, at).with_record(message);
    drafted.attachments = attachments;
    drafted.draft.usage = usage;
    drafted.draft.model = model;
    let mut said = vec![drafted];
    for (number, tool) in tools.into_iter().enumerate() {
        said.push(Drafted::new(NAME, format!("{id}/tool-{number}"), Role::Tool, vec![tool], at));
    }
    said
}
