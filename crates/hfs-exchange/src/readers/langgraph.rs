//! LangGraph's SQLite checkpoints: the message list of each thread, and its forks.

use std::collections::HashMap;

use hfs_core::{ImportError, Part, Role, SessionSink, Timestamp, Usage};
use serde_json::{Map, Value};

use super::conversation::{Conversation, Drafted, Node, as_text, number, text};
use crate::database::{Database, text as column};
use crate::detect::Head;
use crate::{Format, Source};

const NAME: &str = "langgraph";
/// The deepest nesting of a checkpoint that is followed.
const MAX_DEPTH: usize = 64;

pub(crate) struct LangGraph;

impl super::Reader for LangGraph {
    fn format(&self) -> Format {
        Format::LangGraph
    }

    fn recognizes(&self, head: &Head) -> bool {
        head.has_tables(&["checkpoints", "writes"]) && head.has_column("thread_id")
    }

    fn read(&self, source: &Source, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
        let database = Database::open(source)?;
        let mut threads = Vec::new();
        let sql = "select distinct thread_id from checkpoints where checkpoint_ns = '' order by thread_id";
        database.rows(sql, &[], &mut |row| {
            threads.push(column(&row, "thread_id"));
            Ok(())
        })?;
        for thread in threads {
            super::go_on(source, sink, 0)?;
            self::thread(source, &database, &thread)?.hand_over(sink)?;
        }
        Ok(())
    }
}

struct Mark {
    id: String,
    parent: Option<String>,
    at: Option<Timestamp>,
    messages: Option<Vec<Map<String, Value>>>,
}

/// A thread: the lines of history that end in a checkpoint without a child share what their messages' ids share.
fn thread(source: &Source, database: &Database, id: &str) -> Result<Conversation, ImportError> {
    let mut conversation = Conversation::new(source, NAME, id);
    let mut marks: Vec<Mark> = Vec::new();
    let sql = "select * from checkpoints where thread_id = ?1 and checkpoint_ns = '' order by checkpoint_id";
    database.rows(sql, &[id], &mut |row| {
        let state = row.blob("checkpoint").and_then(|mut bytes| rmpv::decode::read_value(&mut bytes).ok());
        let state = state.map(|state| plain(state, 0));
        if state.is_none() {
            conversation
                .tally
                .dropped(None, format!("checkpoint {} cannot be decoded", column(&row, "checkpoint_id")));
        } else {
            conversation.tally.mapped();
        }
        let messages =
            state.as_ref().and_then(|state| state.get("channel_values")?.get("messages")?.as_array());
        let messages = messages.map(|list| list.iter().filter_map(Value::as_object).cloned().collect());
        marks.push(Mark {
            id: column(&row, "checkpoint_id"),
            parent: text(&row.fields, "parent_checkpoint_id").map(str::to_owned),
            at: state.as_ref().and_then(|state| crate::time::read(state.get("ts")?)),
            messages,
        });
        Ok(())
    })?;
    let is_leaf = |mark: &&Mark| !marks.iter().any(|other| other.parent.as_deref() == Some(mark.id.as_str()));
    let leaves: Vec<&Mark> = marks.iter().filter(is_leaf).collect();
    // The newest line is the one that goes on; it comes first, so that it is the first branch.
    for (number, leaf) in leaves.iter().rev().enumerate() {
        line(&mut conversation, leaf, &marks, number == 0);
    }
    let times: Vec<Timestamp> = marks.iter().filter_map(|mark| mark.at).collect();
    conversation.session.created_at = times.iter().min().copied();
    conversation.session.updated_at = times.iter().max().copied();
    Ok(conversation)
}

/// Adds a line. The newest one is the conversation; each other one is a branch where it left that.
fn line(conversation: &mut Conversation, leaf: &Mark, marks: &[Mark], newest: bool) {
    let mut at_of: HashMap<String, Timestamp> = HashMap::new();
    for mark in marks.iter().filter(|mark| mark.at.is_some()) {
        for message in mark.messages.iter().flatten() {
            if let (Some(id), Some(at)) = (text(message, "id"), mark.at) {
                at_of.entry(id.to_owned()).or_insert(at);
            }
        }
    }
    let messages = leaf.messages.clone().unwrap_or_default();
    let shared = if newest { 0 } else { shared(&messages, conversation) };
    let mut parent = shared.checked_sub(1);
    if !newest {
        conversation.nodes.push(Node { parent, fork: true, said: Vec::new() });
        parent = conversation.nodes.len().checked_sub(1);
    }
    for (number, message) in messages.into_iter().enumerate().skip(shared) {
        let id = text(&message, "id").map_or_else(|| number.to_string(), str::to_owned);
        let at = at_of.get(&id).copied().unwrap_or(Timestamp::UNIX_EPOCH);
        conversation.nodes.push(Node { parent, fork: false, said: vec![said(message, id, at)] });
        parent = conversation.nodes.len().checked_sub(1);
    }
    if newest {
        conversation.current = parent;
    }
}

/// How many messages a line has in common with the newest one, whose nodes are the first.
fn shared(messages: &[Map<String, Value>], conversation: &Conversation) -> usize {
    let newest = conversation.current.map_or(0, |last| last + 1);
    let same = |(message, node): &(&Map<String, Value>, &Node)| {
        let known = node.said.first().and_then(|said| said.draft.source.as_ref());
        known.is_some_and(|known| text(message, "id") == Some(known.id.as_str()))
    };
    messages.iter().zip(conversation.nodes.iter().take(newest)).take_while(same).count()
}

fn said(mut message: Map<String, Value>, id: String, at: Timestamp) -> Drafted {
    let role = match text(&message, "type").unwrap_or_default() {
        "ai" | "AIMessageChunk" => Role::Assistant,
        "system" | "developer" => Role::System,
        "tool" | "function" => Role::Tool,
        _ => Role::User,
    };
    let content = message.shift_remove("content").unwrap_or_default();
    let mut parts = Vec::new();
    if role == Role::Tool {
        let id = text(&message, "tool_call_id").unwrap_or_default().to_owned();
        let is_error = text(&message, "status") == Some("error");
        parts.push(Part::ToolResult { id, output: as_text(&content), is_error });
    } else {
        speak(content, &mut parts);
    }
    if let Some(Value::Array(calls)) = message.get("tool_calls") {
        for call in calls.iter().filter_map(Value::as_object) {
            parts.push(Part::ToolCall {
                id: text(call, "id").unwrap_or_default().to_owned(),
                name: text(call, "name").unwrap_or_default().to_owned(),
                input: call.get("args").cloned().unwrap_or_default(),
            });
        }
    }
    let usage = message.get("usage_metadata").and_then(Value::as_object).map(|usage| Usage {
        prompt_tokens: number(usage, "input_tokens").unwrap_or(0),
        completion_tokens: number(usage, "output_tokens").unwrap_or(0),
    });
    let mut drafted = Drafted::new(NAME, id, role, parts, at).with_record(message);
    drafted.draft.usage = usage;
    drafted
}

fn speak(content: Value, parts: &mut Vec<Part>) {
    match content {
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => parts.push(Part::Text { text }),
        Value::Array(items) => {
            for item in items {
                match (item.get("type").and_then(Value::as_str), item.get("text").and_then(Value::as_str)) {
                    (Some("text"), Some(words)) => parts.push(Part::text(words)),
                    _ => parts.push(Part::Opaque { source: NAME.into(), raw: item }),
                }
            }
        }
        Value::Null => {}
        other => parts.push(Part::Opaque { source: NAME.into(), raw: other }),
    }
}

/// MessagePack as plain data. LangGraph writes its objects as extension 5: module, class, and their fields.
fn plain(value: rmpv::Value, depth: usize) -> Value {
    if depth > MAX_DEPTH {
        return Value::Null;
    }
    match value {
        rmpv::Value::Nil => Value::Null,
        rmpv::Value::Boolean(flag) => flag.into(),
        rmpv::Value::Integer(number) => {
            number.as_i64().map(Value::from).or_else(|| number.as_u64().map(Value::from)).unwrap_or_default()
        }
        rmpv::Value::F32(number) => f64::from(number).into(),
        rmpv::Value::F64(number) => number.into(),
        rmpv::Value::String(text) => String::from_utf8_lossy(text.as_bytes()).into_owned().into(),
        rmpv::Value::Binary(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
        rmpv::Value::Array(items) => items.into_iter().map(|item| plain(item, depth + 1)).collect(),
        rmpv::Value::Map(fields) => {
            let key = |key: rmpv::Value| match plain(key, depth + 1) {
                Value::String(key) => key,
                other => other.to_string(),
            };
            Value::Object(
                fields.into_iter().map(|(name, value)| (key(name), plain(value, depth + 1))).collect(),
            )
        }
        rmpv::Value::Ext(_, bytes) => match rmpv::decode::read_value(&mut bytes.as_slice()) {
            Ok(rmpv::Value::Array(items)) if items.len() >= 3 => {
                items.into_iter().nth(2).map_or(Value::Null, |fields| plain(fields, depth + 1))
            }
            Ok(other) => plain(other, depth + 1),
            Err(_) => Value::Null,
        },
    }
}
