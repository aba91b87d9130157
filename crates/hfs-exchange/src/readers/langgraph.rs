//! LangGraph's SQLite checkpoints. Each thread becomes a session, each fork a branch.

use std::collections::HashMap;

use hfs_core::{ImportError, Part, Role, Timestamp, Usage};
use serde_json::{Map, Value};

use super::conversation::{ConversationTree, ImportedMessage, TreeNode, as_text, number, text};
use crate::database::{Database, text_column};
use crate::detect::FormatProbe;
use crate::readers::Output;
use crate::{Format, Source};

const NAME: &str = "langgraph";
/// Maximum nesting depth of a decoded checkpoint.
const MAX_DEPTH: usize = 64;

pub(crate) struct LangGraph;

impl super::Reader for LangGraph {
    fn format(&self) -> Format {
        Format::LangGraph
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        probe.has_tables(&["checkpoints", "writes"]) && probe.has_column("thread_id")
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let database = Database::open(source)?;
        let mut threads = Vec::new();
        let sql = "select distinct thread_id from checkpoints where checkpoint_ns = '' order by thread_id";
        database.rows(sql, &[], &mut |row| {
            threads.push(text_column(&row, "thread_id"));
            Ok(())
        })?;
        for thread in threads {
            out.progress(0)?;
            read_thread(source, &database, &thread)?.send_to(out)?;
        }
        Ok(())
    }
}

struct ThreadCheckpoint {
    id: String,
    parent: Option<String>,
    at: Option<Timestamp>,
    messages: Option<Vec<Map<String, Value>>>,
}

/// Reads a thread. Each checkpoint without children is the end of one history. Messages at the beginning of two
/// histories are shared if their ids are equal.
fn read_thread(source: &Source, database: &Database, id: &str) -> Result<ConversationTree, ImportError> {
    let mut conversation = ConversationTree::new(source, NAME, id);
    let mut checkpoints: Vec<ThreadCheckpoint> = Vec::new();
    let sql = "select * from checkpoints where thread_id = ?1 and checkpoint_ns = '' order by checkpoint_id";
    database.rows(sql, &[id], &mut |row| {
        let state = row.blob("checkpoint").and_then(|mut bytes| rmpv::decode::read_value(&mut bytes).ok());
        let state = state.map(|state| to_json(state, 0));
        if state.is_none() {
            conversation.report.dropped(
                None,
                format!("checkpoint {} cannot be decoded", text_column(&row, "checkpoint_id")),
            );
        } else {
            conversation.report.mapped();
        }
        let messages =
            state.as_ref().and_then(|state| state.get("channel_values")?.get("messages")?.as_array());
        let messages = messages.map(|list| list.iter().filter_map(Value::as_object).cloned().collect());
        checkpoints.push(ThreadCheckpoint {
            id: text_column(&row, "checkpoint_id"),
            parent: text(&row.fields, "parent_checkpoint_id").map(str::to_owned),
            at: state.as_ref().and_then(|state| crate::time::from_json(state.get("ts")?)),
            messages,
        });
        Ok(())
    })?;
    let is_leaf = |checkpoint: &&ThreadCheckpoint| {
        !checkpoints.iter().any(|other| other.parent.as_deref() == Some(checkpoint.id.as_str()))
    };
    let leaves: Vec<&ThreadCheckpoint> = checkpoints.iter().filter(is_leaf).collect();
    // Checkpoint ids are ordered by time, so the last leaf ends the newest history. It is added first and
    // becomes the first branch, which hfs continues when the user resumes the session.
    for (number, leaf) in leaves.iter().rev().enumerate() {
        add_history(&mut conversation, leaf, &checkpoints, number == 0);
    }
    let times: Vec<Timestamp> = checkpoints.iter().filter_map(|checkpoint| checkpoint.at).collect();
    conversation.session.created_at = times.iter().min().copied();
    conversation.session.updated_at = times.iter().max().copied();
    Ok(conversation)
}

/// Adds the history that ends at `leaf`. The newest one becomes the first branch; the others fork from it.
fn add_history(
    conversation: &mut ConversationTree,
    leaf: &ThreadCheckpoint,
    checkpoints: &[ThreadCheckpoint],
    newest: bool,
) {
    // LangGraph's messages have no time; use the time of the first checkpoint that contains the message.
    let mut first_seen: HashMap<String, Timestamp> = HashMap::new();
    for checkpoint in checkpoints.iter().filter(|checkpoint| checkpoint.at.is_some()) {
        for message in checkpoint.messages.iter().flatten() {
            if let (Some(id), Some(at)) = (text(message, "id"), checkpoint.at) {
                first_seen.entry(id.to_owned()).or_insert(at);
            }
        }
    }
    let messages = leaf.messages.clone().unwrap_or_default();
    let shared = if newest { 0 } else { shared_messages(&messages, conversation) };
    // The first nodes are the newest history, one for each message, so this is the last shared message.
    let mut parent = shared.checked_sub(1);
    if !newest {
        // An empty node starts the branch, even if the history has no further messages.
        conversation.nodes.push(TreeNode { parent, fork: true, ..TreeNode::default() });
        parent = conversation.nodes.len().checked_sub(1);
    }
    for (number, message) in messages.into_iter().enumerate().skip(shared) {
        let id = text(&message, "id").map_or_else(|| number.to_string(), str::to_owned);
        let at = first_seen.get(&id).copied().unwrap_or(Timestamp::UNIX_EPOCH);
        conversation.nodes.push(TreeNode {
            parent,
            messages: vec![to_message(message, id, at)],
            ..TreeNode::default()
        });
        parent = conversation.nodes.len().checked_sub(1);
    }
    if newest {
        conversation.current = parent;
    }
}

/// Number of leading messages that a history shares with the newest one. The conversation begins with the
/// nodes of the newest history.
fn shared_messages(messages: &[Map<String, Value>], conversation: &ConversationTree) -> usize {
    let newest = conversation.current.map_or(0, |last| last + 1);
    let same = |(message, node): &(&Map<String, Value>, &TreeNode)| {
        let known = node.messages.first().and_then(|message| message.draft.source.as_ref());
        known.is_some_and(|known| text(message, "id") == Some(known.id.as_str()))
    };
    messages.iter().zip(conversation.nodes.iter().take(newest)).take_while(same).count()
}

fn to_message(mut message: Map<String, Value>, id: String, at: Timestamp) -> ImportedMessage {
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
        push_content(content, &mut parts);
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
    let mut imported = ImportedMessage::new(NAME, id, role, parts, at).with_record(message);
    imported.draft.usage = usage;
    imported
}

fn push_content(content: Value, parts: &mut Vec<Part>) {
    match content {
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => parts.push(Part::Text { text }),
        Value::Array(items) => {
            for item in items {
                match (item.get("type").and_then(Value::as_str), item.get("text").and_then(Value::as_str)) {
                    (Some("text"), Some(text)) => parts.push(Part::text(text)),
                    _ => parts.push(Part::Opaque { source: NAME.into(), raw: item }),
                }
            }
        }
        Value::Null => {}
        other => parts.push(Part::Opaque { source: NAME.into(), raw: other }),
    }
}

/// Converts MessagePack to JSON. LangGraph writes an object as an extension value with its module, class and
/// fields, of which only the fields are returned.
fn to_json(value: rmpv::Value, depth: usize) -> Value {
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
        rmpv::Value::Array(items) => items.into_iter().map(|item| to_json(item, depth + 1)).collect(),
        rmpv::Value::Map(fields) => {
            let key = |key: rmpv::Value| match to_json(key, depth + 1) {
                Value::String(key) => key,
                other => other.to_string(),
            };
            Value::Object(
                fields.into_iter().map(|(name, value)| (key(name), to_json(value, depth + 1))).collect(),
            )
        }
        rmpv::Value::Ext(_, bytes) => match rmpv::decode::read_value(&mut bytes.as_slice()) {
            Ok(rmpv::Value::Array(items)) if items.len() >= 3 => {
                items.into_iter().nth(2).map_or(Value::Null, |fields| to_json(fields, depth + 1))
            }
            Ok(other) => to_json(other, depth + 1),
            Err(_) => Value::Null,
        },
    }
}
