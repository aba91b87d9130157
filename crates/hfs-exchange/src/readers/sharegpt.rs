//! ShareGPT datasets: `[{id, conversations: [{from, value}]}]`, or one conversation on each line.

use hfs_core::{ImportError, Part, Role, Timestamp};
use serde_json::{Map, Value};

use super::conversation::{ConversationTree, ImportedMessage, text};
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::readers::{Output, ReportBuilder};
use crate::records::{Entry, Framing, JsonRecord, for_each_record};
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

    fn probe(&self, probe: &FormatProbe) -> bool {
        probe.first_object().is_some_and(is_conversation)
            || probe.records().first().is_some_and(is_conversation)
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let framing =
            if FormatProbe::new(source)?.is_array() { Framing::Array(None) } else { Framing::Lines };
        // Records that were dropped since the last conversation. The report of the next one includes them.
        let mut pending_report = ReportBuilder::default();
        let mut found = false;
        for_each_record::<JsonRecord>(source, framing, &mut |at, entry| {
            out.progress(at.bytes)?;
            match entry {
                Entry::Record(record, _) if list(&record.fields).is_some() => {
                    found = true;
                    let mut conversation = conversation(source, record, at.line);
                    conversation.report.merge(std::mem::take(&mut pending_report));
                    conversation.send_to(out)?;
                }
                Entry::Record(..) => pending_report.dropped(Some(at.line), "a record without a conversation"),
                Entry::Damaged(why) => pending_report.dropped(Some(at.line), why),
            }
            Ok(())
        })?;
        if found { Ok(()) } else { Err(source.damaged("it contains no conversation")) }
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

fn conversation(source: &Source, record: JsonRecord, line: u64) -> ConversationTree {
    let mut fields = record.fields;
    let key = if fields.contains_key("conversations") { "conversations" } else { "conversation" };
    let turns = match fields.shift_remove(key) {
        Some(Value::Array(turns)) => turns,
        _ => Vec::new(),
    };
    let id = text(&fields, "id").map_or_else(|| line.to_string(), str::to_owned);
    let id = source.stem().map_or_else(|| id.clone(), |stem| format!("{stem}/{id}"));
    let mut conversation = ConversationTree::new(source, NAME, id);
    conversation.session.positional_ids = true;
    if let Some(system) = text(&fields, "system").filter(|system| !system.is_empty()) {
        let part = Part::text(system);
        conversation.push_messages(vec![ImportedMessage::new(
            NAME,
            "system",
            Role::System,
            vec![part],
            Timestamp::UNIX_EPOCH,
        )]);
    }
    for (number, turn) in turns.into_iter().enumerate() {
        let Value::Object(mut turn) = turn else {
            conversation.report.dropped(Some(line), "a turn that is not an object");
            continue;
        };
        conversation.report.mapped();
        let from = text(&turn, "from").unwrap_or_default().to_owned();
        let role = role(&from);
        let value = turn.shift_remove("value").unwrap_or_default();
        let content = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let part = match (from.as_str(), role) {
            ("function_call", _) => call(&content),
            (_, Role::Tool) => Part::ToolResult { id: String::new(), output: content, is_error: false },
            _ => Part::Text { text: content },
        };
        let id = (number + 1).to_string();
        let imported =
            ImportedMessage::new(NAME, id, role, vec![part], Timestamp::UNIX_EPOCH).with_record(turn);
        conversation.push_messages(vec![imported]);
    }
    if !fields.is_empty() {
        conversation.session.extra.insert(NAME.into(), Value::Object(fields));
    }
    conversation
}

fn call(content: &str) -> Part {
    let parsed_call = parse(content).map(|parsed| parsed.value);
    let name = parsed_call
        .as_ref()
        .and_then(|parsed_call| parsed_call.get("name"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let input = parsed_call.as_ref().and_then(|parsed_call| parsed_call.get("arguments")).cloned();
    Part::ToolCall {
        id: String::new(),
        name: name.to_owned(),
        input: input.unwrap_or_else(|| content.into()),
    }
}
