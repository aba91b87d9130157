//! ShareGPT datasets: `[{id, conversations: [{from, value}]}]`, or one conversation on each line. A dataset may also
//! contain conversations of [chat messages](super::openai).

use hfs_core::{ImportError, MessageDraft, Part, Role, Source as MessageSource, Timestamp};
use serde_json::{Map, Value, json};

use super::conversation::text;
use super::openai;
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::readers::{Output, RECORDS};
use crate::{Format, Source};

const NAME: &str = "sharegpt";
/// Keys of the list of turns.
const KEYS: [&str; 2] = ["conversations", "conversation"];

pub(crate) struct ShareGpt;

/// Whether a record contains a conversation of ShareGPT.
pub(crate) fn is_conversation(fields: &Map<String, Value>) -> bool {
    let list = KEYS.into_iter().find_map(|key| fields.get(key)?.as_array());
    list.is_some_and(|list| list.iter().any(|turn| turn.get("from").is_some_and(Value::is_string)))
}

impl super::Reader for ShareGpt {
    fn format(&self) -> Format {
        Format::ShareGpt
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        openai::first_conversation(probe).is_some_and(is_conversation)
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        openai::read_conversations(source, out, NAME)
    }
}

/// Removes and returns the turns of a conversation.
pub(crate) fn take_turns(fields: &mut Map<String, Value>) -> Vec<Value> {
    let key = KEYS.into_iter().find(|key| fields.get(*key).is_some_and(Value::is_array));
    match key.and_then(|key| fields.shift_remove(key)) {
        Some(Value::Array(turns)) => turns,
        _ => Vec::new(),
    }
}

/// The author of a turn; `None` if hfs does not know the name.
fn role(from: &str) -> Option<Role> {
    Some(match from.to_ascii_lowercase().as_str() {
        "gpt" | "assistant" | "chatgpt" | "bard" | "bing" | "function_call" | "tool_call" | "model" => {
            Role::Assistant
        }
        "system" => Role::System,
        "observation" | "tool" | "function" | "function_response" | "tool_response" => Role::Tool,
        "human" | "user" => Role::User,
        _ => return None,
    })
}

/// Converts a turn; returns it if its author is not known. `calls` counts the calls, which have no ids: each result
/// belongs to the newest call.
pub(crate) fn to_message(
    mut turn: Map<String, Value>,
    id: String,
    calls: &mut usize,
) -> Result<MessageDraft, Value> {
    let from = text(&turn, "from").unwrap_or_default().to_owned();
    let Some(role) = role(&from) else { return Err(Value::Object(turn)) };
    let value = turn.shift_remove("value").unwrap_or_default();
    let content = match &value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let part = match (from.as_str(), role) {
        ("function_call" | "tool_call", _) => {
            *calls += 1;
            call(format!("call-{calls}"), &content)
        }
        (_, Role::Tool) => {
            let id = if *calls > 0 { format!("call-{calls}") } else { String::new() };
            Part::ToolResult { id, output: content, is_error: false }
        }
        _ => Part::Text { text: content },
    };
    let mut draft = MessageDraft::new(role, vec![part], Timestamp::UNKNOWN);
    draft.source = Some(MessageSource { format: NAME.into(), id });
    if !turn.is_empty() {
        draft.extra.insert(RECORDS.into(), json!([turn]));
    }
    Ok(draft)
}

fn call(id: String, content: &str) -> Part {
    let parsed = parse(content).map(|parsed| parsed.value);
    let name =
        parsed.as_ref().and_then(|parsed| parsed.get("name")).and_then(Value::as_str).unwrap_or_default();
    let arguments =
        parsed.as_ref().and_then(|parsed| parsed.get("arguments").or_else(|| parsed.get("parameters")));
    let input = arguments.cloned().unwrap_or_else(|| content.into());
    Part::ToolCall { id, name: name.to_owned(), input }
}
