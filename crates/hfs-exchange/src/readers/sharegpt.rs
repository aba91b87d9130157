//! ShareGPT datasets: `[{id, conversations: [{from, value}]}]`, or one conversation on each line.

use hfs_core::{ImportError, Part, Role, SessionSink, Timestamp};
use serde_json::{Map, Value};

use super::conversation::{Conversation, Drafted, text};
use crate::detect::Head;
use crate::json::parse;
use crate::records::{Entry, Framing, Whole, visit};
use crate::tally::Tally;
use crate::{Format, Source};

const NAME: &str = "sharegpt";

pub(crate) struct ShareGpt;

fn list(fields: &Map<String, Value>) -> Option<&Vec<Value>> {
    ["conversations", "conversation"].into_iter().find_map(|key| fields.get(key)?.as_array())
}

fn is_conversation(fields: &Map<String, Value>) -> bool {
    list(fields).is_some_and(|list| list.iter().take(2).any(|turn| turn.get("from").is_some()))
}

impl super::Reader for ShareGpt {
    fn format(&self) -> Format {
        Format::ShareGpt
    }

    fn recognizes(&self, head: &Head) -> bool {
        head.first().is_some_and(is_conversation) || head.objects().first().is_some_and(is_conversation)
    }

    fn read(&self, source: &Source, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
        let framing = if Head::of(source)?.is_array() { Framing::Array(None) } else { Framing::Lines };
        let mut lost = Tally::default();
        let mut any = false;
        visit::<Whole>(source, framing, &mut |at, entry| {
            super::go_on(source, sink, at.bytes)?;
            match entry {
                Entry::Record(record, _) if list(&record.fields).is_some() => {
                    any = true;
                    let mut conversation = conversation(source, record, at.line);
                    conversation.tally.absorb(std::mem::take(&mut lost));
                    conversation.hand_over(sink)?;
                }
                Entry::Record(..) => lost.dropped(Some(at.line), "a record without a conversation"),
                Entry::Bad(why) => lost.dropped(Some(at.line), why),
            }
            Ok(())
        })?;
        if any { Ok(()) } else { Err(source.damaged("it holds no conversation")) }
    }
}

fn role(from: &str) -> Role {
    match from {
        "gpt" | "assistant" | "chatgpt" | "bard" | "bing" | "function_call" | "model" => Role::Assistant,
        "system" => Role::System,
        "observation" | "tool" | "function" | "function_response" => Role::Tool,
        _ => Role::User,
    }
}

fn conversation(source: &Source, record: Whole, line: u64) -> Conversation {
    let mut fields = record.fields;
    let key = if fields.contains_key("conversations") { "conversations" } else { "conversation" };
    let turns = match fields.shift_remove(key) {
        Some(Value::Array(turns)) => turns,
        _ => Vec::new(),
    };
    let id = text(&fields, "id").map_or_else(|| line.to_string(), str::to_owned);
    let id = source.stem().map_or_else(|| id.clone(), |stem| format!("{stem}/{id}"));
    let mut conversation = Conversation::new(source, NAME, id);
    if let Some(system) = text(&fields, "system").filter(|system| !system.is_empty()) {
        let part = Part::text(system);
        conversation.say(vec![Drafted::new(NAME, "system", Role::System, vec![part], Timestamp::UNIX_EPOCH)]);
    }
    for (number, turn) in turns.into_iter().enumerate() {
        let Value::Object(mut turn) = turn else {
            conversation.tally.dropped(Some(line), "a turn that is no object");
            continue;
        };
        conversation.tally.mapped();
        let from = text(&turn, "from").unwrap_or_default().to_owned();
        let role = role(&from);
        let value = turn.shift_remove("value").unwrap_or_default();
        let said = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let part = match (from.as_str(), role) {
            ("function_call", _) => call(&said),
            (_, Role::Tool) => Part::ToolResult { id: String::new(), output: said, is_error: false },
            _ => Part::Text { text: said },
        };
        let id = (number + 1).to_string();
        let drafted = Drafted::new(NAME, id, role, vec![part], Timestamp::UNIX_EPOCH).with_record(turn);
        conversation.say(vec![drafted]);
    }
    if !fields.is_empty() {
        conversation.session.extra.insert(NAME.into(), Value::Object(fields));
    }
    conversation
}

fn call(said: &str) -> Part {
    let told = parse(said).map(|parsed| parsed.value);
    let name = told.as_ref().and_then(|told| told.get("name")).and_then(Value::as_str).unwrap_or_default();
    let input = told.as_ref().and_then(|told| told.get("arguments")).cloned();
    Part::ToolCall { id: String::new(), name: name.to_owned(), input: input.unwrap_or_else(|| said.into()) }
}
