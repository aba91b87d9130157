//! LangGraph's SQLite checkpoints. Each thread becomes a session, each fork a branch. A subgraph has checkpoints of its own in the same
//! thread, under another namespace. Its messages that it does not share with the thread become a branch, like those of a subagent.

use std::collections::{HashMap, HashSet};

use hfs_core::{Attachment, ImportError, Part, Role, Timestamp};
use serde_json::{Map, Value};

use super::content::{ToolOutput, file_of};
use super::conversation::{ConversationTree, ImportedMessage, TreeNode, number, text, usage};
use crate::database::{Database, DatabaseRow, text_column};
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::readers::{Output, ReportBuilder};
use crate::{Format, Source};

const NAME: &str = "langgraph";
/// Maximum nesting depth of a decoded checkpoint.
const MAX_DEPTH: usize = 64;
/// Code of the extension value for the whole value of a delta channel.
const DELTA_SNAPSHOT: i8 = 7;

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
        let sql = "select distinct thread_id from checkpoints order by thread_id";
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

/// The channel that holds the messages, unless the thread has none of this name.
const MESSAGES: &str = "messages";

/// A checkpoint of a thread, without its state.
struct ThreadCheckpoint {
    id: String,
    parent: Option<String>,
    at: Option<Timestamp>,
    /// Whether it contains the messages. If not, they result from the writes since an earlier checkpoint.
    has_messages: bool,
}

/// The history of a thread, or of a subgraph in it.
struct Thread<'a> {
    database: &'a Database,
    id: &'a str,
    /// The namespace of the subgraph; empty for the thread itself.
    namespace: &'a str,
    channel: String,
    checkpoints: Vec<ThreadCheckpoint>,
    /// Values that were written to the channel after each checkpoint, in the order in which LangGraph applies them.
    writes: HashMap<String, Vec<Value>>,
    /// LangGraph's messages have no time; this is the time of the first checkpoint or write that contains the message.
    first_seen: HashMap<String, Timestamp>,
}

/// Reads a thread. Each checkpoint without children is the end of one history. Messages at the beginning of two
/// histories are shared if their ids are equal.
fn read_thread(source: &Source, database: &Database, id: &str) -> Result<ConversationTree, ImportError> {
    let mut conversation = ConversationTree::new(source, NAME, id);
    let thread = Thread::read(database, id, "", &mut conversation.report)?;
    let leaves = thread.leaves();
    // Checkpoint ids are ordered by time, so the last leaf ends the newest history. It is added first and becomes the first
    // branch, which hfs continues when the user resumes the session. The others keep their order when the thread grows.
    if let Some((newest, older)) = leaves.split_last() {
        add_history(&mut conversation, thread.messages_at(newest)?, &thread.first_seen, true);
        for leaf in older {
            add_history(&mut conversation, thread.messages_at(leaf)?, &thread.first_seen, false);
        }
    }
    let mut known: HashMap<String, usize> = message_nodes(&conversation.nodes, 0).collect();
    for namespace in namespaces(database, id)? {
        let subgraph = Thread::read(database, id, &namespace, &mut conversation.report)?;
        for leaf in subgraph.leaves() {
            add_subgraph(&mut conversation, &mut known, &subgraph, leaf)?;
        }
    }
    let times: Vec<Timestamp> = thread.checkpoints.iter().filter_map(|checkpoint| checkpoint.at).collect();
    conversation.session.created_at = times.iter().min().copied();
    conversation.session.updated_at = times.iter().max().copied();
    conversation.fill_message_times(None, None);
    Ok(conversation)
}

/// The namespaces of a thread's subgraphs, in the order in which they began.
fn namespaces(database: &Database, thread: &str) -> Result<Vec<String>, ImportError> {
    let mut namespaces = Vec::new();
    let sql = "select checkpoint_ns from checkpoints where thread_id = ?1 and checkpoint_ns <> ''
        group by checkpoint_ns order by min(checkpoint_id)";
    database.rows(sql, &[thread], &mut |row| {
        namespaces.push(text_column(&row, "checkpoint_ns"));
        Ok(())
    })?;
    Ok(namespaces)
}

/// The id of each message in the nodes from `first` on, and the index of its node.
fn message_nodes(nodes: &[TreeNode], first: usize) -> impl Iterator<Item = (String, usize)> {
    nodes.iter().enumerate().skip(first).flat_map(|(index, node)| {
        let ids = node.messages.iter().filter_map(|message| message.draft.source.as_ref());
        ids.map(move |source| (source.id.clone(), index))
    })
}

/// Adds the messages of a subgraph that are not among those of the thread or of the subgraphs before it. They are after the newest one
/// that both have, or else after the message before them in time. `known` has the node of each message that was added.
fn add_subgraph(
    conversation: &mut ConversationTree,
    known: &mut HashMap<String, usize>,
    subgraph: &Thread<'_>,
    leaf: &ThreadCheckpoint,
) -> Result<(), ImportError> {
    let MessageList { messages, times, .. } = subgraph.messages_at(leaf)?;
    let mut parent = None;
    let mut added = Vec::new();
    for (number, message) in messages.into_iter().enumerate() {
        let own_id = text(&message, "id").map_or_else(|| number.to_string(), str::to_owned);
        let id = format!("{}/{own_id}", subgraph.namespace);
        if let Some(node) = known.get(&own_id).or_else(|| known.get(&id)) {
            if added.is_empty() {
                parent = Some(*node);
            }
            continue;
        }
        let at = subgraph.first_seen.get(&own_id).or_else(|| times.get(&own_id)).copied();
        match author(&message) {
            Some(role) => {
                added.push(vec![to_message(message, role, id, at.unwrap_or(Timestamp::UNKNOWN))]);
            }
            None => {
                conversation.report.opaque();
                conversation.other_records.push(Value::Object(message));
            }
        }
    }
    let Some(first) = added.first().and_then(|messages| messages.first()) else { return Ok(()) };
    let parent = parent.or_else(|| conversation.node_at(first.draft.created_at.known()));
    // A namespace is the name of each node on the way to the subgraph, with the id of its run.
    let nodes = subgraph.namespace.split('|').map(|node| node.split(':').next().unwrap_or(node));
    let name = nodes.collect::<Vec<_>>().join("/");
    let first = conversation.nodes.len();
    conversation.push_subagent(name, parent, added);
    known.extend(message_nodes(&conversation.nodes, first));
    Ok(())
}

/// The channel of a thread's messages: `messages`, or the first one that holds a list of messages.
fn message_channel(database: &Database, thread: &str, namespace: &str) -> Result<String, ImportError> {
    let mut found = None;
    let mut is_usual = false;
    let sql = "select * from checkpoints where thread_id = ?1 and checkpoint_ns = ?2 order by checkpoint_id desc limit 20";
    database.rows(sql, &[thread, namespace], &mut |row| {
        let state = decoded(&row, "checkpoint").unwrap_or_default();
        is_usual |= ["channel_values", "channel_versions"]
            .iter()
            .any(|key| state.get(key).is_some_and(|channels| channels.get(MESSAGES).is_some()));
        let values = state.get("channel_values").and_then(Value::as_object);
        let is_list = |(name, value): &(&String, &Value)| {
            !name.starts_with("__")
                && value
                    .as_array()
                    .and_then(|list| list.first())
                    .and_then(Value::as_object)
                    .is_some_and(is_message)
        };
        if found.is_none() {
            found = values.and_then(|values| values.iter().find(is_list)).map(|(name, _)| name.clone());
        }
        Ok(())
    })?;
    Ok(found.filter(|_| !is_usual).unwrap_or_else(|| MESSAGES.to_owned()))
}

/// Whether an object is a message of LangChain, or a removal of one.
fn is_message(fields: &Map<String, Value>) -> bool {
    let is_known = |kind: &str| role(kind).is_some() || [CHAT, "remove"].contains(&kind);
    fields.contains_key("content") && text(fields, "type").is_some_and(is_known)
}

/// A column in LangGraph's encoding; `None` if it cannot be decoded.
fn decoded(row: &DatabaseRow, column: &str) -> Option<Value> {
    let Some(mut bytes) = row.blob(column) else {
        return parse(text(&row.fields, column)?).map(|parsed| plain(parsed.value));
    };
    match text(&row.fields, "type") {
        Some("json") => return parse(&String::from_utf8_lossy(bytes)).map(|parsed| plain(parsed.value)),
        Some("null" | "empty") => return Some(Value::Null),
        _ => {}
    }
    rmpv::decode::read_value(&mut bytes).ok().map(|state| to_json(state, 0))
}

/// Replaces the objects of LangChain's JSON encoding, `{lc, type, id: [..., class], kwargs}`, by their fields.
fn plain(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Object(mut fields) => match fields.shift_remove("kwargs") {
            Some(Value::Object(kwargs)) if fields.contains_key("lc") => {
                let class = fields.get("id").and_then(Value::as_array).and_then(|id| id.last()?.as_str());
                let mut message = match plain(Value::Object(kwargs)) {
                    Value::Object(message) => message,
                    other => return other,
                };
                if let Some(class) = class.filter(|_| !message.contains_key("type")) {
                    message.insert("type".into(), class.trim_end_matches("Message").to_lowercase().into());
                }
                Value::Object(message)
            }
            kwargs => {
                if let Some(kwargs) = kwargs {
                    fields.insert("kwargs".into(), kwargs);
                }
                Value::Object(fields.into_iter().map(|(key, value)| (key, plain(value))).collect())
            }
        },
        other => other,
    }
}

impl<'a> Thread<'a> {
    fn read(
        database: &'a Database,
        id: &'a str,
        namespace: &'a str,
        report: &mut ReportBuilder,
    ) -> Result<Self, ImportError> {
        let channel = message_channel(database, id, namespace)?;
        let mut thread = Self {
            database,
            id,
            namespace,
            channel,
            checkpoints: Vec::new(),
            writes: HashMap::new(),
            first_seen: HashMap::new(),
        };
        thread.read_checkpoints(report)?;
        thread.read_writes(report)?;
        Ok(thread)
    }

    /// The checkpoints without children, in order of time.
    fn leaves(&self) -> Vec<&ThreadCheckpoint> {
        let parents: HashSet<&str> =
            self.checkpoints.iter().filter_map(|checkpoint| checkpoint.parent.as_deref()).collect();
        self.checkpoints.iter().filter(|checkpoint| !parents.contains(checkpoint.id.as_str())).collect()
    }

    fn read_checkpoints(&mut self, report: &mut ReportBuilder) -> Result<(), ImportError> {
        let sql =
            "select * from checkpoints where thread_id = ?1 and checkpoint_ns = ?2 order by checkpoint_id";
        self.database.rows(sql, &[self.id, self.namespace], &mut |row| {
            let id = text_column(&row, "checkpoint_id");
            let state = decoded(&row, "checkpoint");
            match &state {
                Some(_) => report.mapped(),
                None => report.dropped(None, format!("checkpoint {id} cannot be decoded")),
            }
            let at = state.as_ref().and_then(|state| crate::time::from_json(state.get("ts")?));
            let messages = state.as_ref().and_then(|state| state.get("channel_values")?.get(&self.channel));
            for message in messages.and_then(Value::as_array).into_iter().flatten() {
                if let (Some(id), Some(at)) = (message.get("id").and_then(Value::as_str), at) {
                    self.first_seen.entry(id.to_owned()).or_insert(at);
                }
            }
            self.checkpoints.push(ThreadCheckpoint {
                id,
                parent: text(&row.fields, "parent_checkpoint_id").map(str::to_owned),
                at,
                has_messages: messages.is_some(),
            });
            Ok(())
        })
    }

    fn read_writes(&mut self, report: &mut ReportBuilder) -> Result<(), ImportError> {
        /// The order of the writes of one step.
        type Key = (String, String, i64);
        let mut writes: HashMap<String, Vec<(Key, Value)>> = HashMap::new();
        // Only the writes whose results no checkpoint contains are needed.
        let with_children: HashSet<&str> =
            self.checkpoints.iter().filter_map(|checkpoint| checkpoint.parent.as_deref()).collect();
        let incomplete = self.checkpoints.iter().filter(|checkpoint| !checkpoint.has_messages);
        let mut needed: HashSet<&str> =
            incomplete.filter_map(|checkpoint| checkpoint.parent.as_deref()).collect();
        let ids = self.checkpoints.iter().map(|checkpoint| checkpoint.id.as_str());
        needed.extend(ids.filter(|id| !with_children.contains(id)));
        if !self.database.has_columns("writes", &["checkpoint_id", "channel", "value"])? {
            return Ok(());
        }
        let sql = "select * from writes where thread_id = ?1 and checkpoint_ns = ?2 and channel = ?3";
        self.database.rows(sql, &[self.id, self.namespace, &self.channel], &mut |row| {
            let checkpoint = text_column(&row, "checkpoint_id");
            if !needed.contains(checkpoint.as_str()) {
                return Ok(());
            }
            let index = row.fields.get("idx").and_then(Value::as_i64).unwrap_or(0);
            let key = (text_column(&row, "task_path"), text_column(&row, "task_id"), index);
            let Some(value) = decoded(&row, "value") else {
                report.dropped(None, format!("a write after checkpoint {checkpoint} cannot be decoded"));
                return Ok(());
            };
            writes.entry(checkpoint).or_default().push((key, value));
            Ok(())
        })?;
        for (checkpoint, mut values) in writes {
            values.sort_by(|(a, _), (b, _)| a.cmp(b));
            self.writes.insert(checkpoint, values.into_iter().map(|(_, value)| value).collect());
        }
        Ok(())
    }

    /// The messages at the end of a history: those of the newest checkpoint that contains them, then the writes since.
    fn messages_at(&self, leaf: &ThreadCheckpoint) -> Result<MessageList, ImportError> {
        let by_id: HashMap<&str, &ThreadCheckpoint> =
            self.checkpoints.iter().map(|checkpoint| (checkpoint.id.as_str(), checkpoint)).collect();
        // The limit on the length stops the loop if the parents form a cycle.
        let mut path = vec![leaf];
        while let Some(last) = path.last().filter(|last| !last.has_messages && path.len() <= by_id.len())
            && let Some(parent) = last.parent.as_deref().and_then(|parent| by_id.get(parent))
        {
            path.push(parent);
        }
        let mut list = MessageList::default();
        if let Some(base) = path.last().filter(|base| base.has_messages) {
            let sql = "select * from checkpoints where thread_id = ?1 and checkpoint_ns = ?2 and checkpoint_id = ?3";
            self.database.rows(sql, &[self.id, self.namespace, &base.id], &mut |row| {
                let state = decoded(&row, "checkpoint").unwrap_or_default();
                if let Some(messages) =
                    state.get("channel_values").and_then(|values| values.get(&self.channel))
                {
                    list.apply(messages, base.at);
                }
                Ok(())
            })?;
        }
        // The writes after the leaf are applied too: LangGraph does so when the thread continues.
        for checkpoint in path.iter().rev() {
            for value in self.writes.get(&checkpoint.id).into_iter().flatten() {
                list.apply(value, checkpoint.at);
            }
        }
        Ok(list)
    }
}

/// The messages of a history, as the reducer of LangGraph combines them.
#[derive(Default)]
struct MessageList {
    messages: Vec<Map<String, Value>>,
    /// Index of each message id.
    indexes: HashMap<String, usize>,
    /// Time of the write that added each message id.
    times: HashMap<String, Timestamp>,
}

impl MessageList {
    /// Applies a written value: a message or a list of messages. A message replaces the one with its id.
    fn apply(&mut self, value: &Value, at: Option<Timestamp>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.apply(item, at)),
            Value::Object(fields) => {
                let replacement = fields.get("__overwrite__").or_else(|| {
                    fields.get("value").filter(|value| value.is_array() && !fields.contains_key("content"))
                });
                match replacement {
                    Some(list) => {
                        self.clear();
                        self.apply(list, at);
                    }
                    None => self.push(fields.clone(), at),
                }
            }
            Value::String(text) => {
                self.push(
                    Map::from_iter([
                        ("type".into(), "human".into()),
                        ("content".into(), text.as_str().into()),
                    ]),
                    at,
                );
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn clear(&mut self) {
        self.messages.clear();
        self.indexes.clear();
    }

    fn push(&mut self, mut message: Map<String, Value>, at: Option<Timestamp>) {
        // Messages in the notation of OpenAI have a role in place of a type.
        if !message.contains_key("type")
            && let Some(role) = message.get("role").cloned()
        {
            message.insert("type".into(), role);
        }
        let id = text(&message, "id").map(str::to_owned);
        let index = id.as_ref().and_then(|id| self.indexes.get(id)).copied();
        if text(&message, "type") == Some("remove") {
            if id.as_deref() == Some("__remove_all__") {
                self.clear();
            } else if let Some(index) = index {
                self.messages.remove(index);
                self.indexes.retain(|_, at| *at != index);
                self.indexes.values_mut().filter(|at| **at > index).for_each(|at| *at -= 1);
            }
            return;
        }
        if let Some(slot) = index.and_then(|index| self.messages.get_mut(index)) {
            *slot = message;
            return;
        }
        if let Some(id) = id {
            if let Some(at) = at {
                self.times.entry(id.clone()).or_insert(at);
            }
            self.indexes.insert(id, self.messages.len());
        }
        self.messages.push(message);
    }
}

fn add_history(
    conversation: &mut ConversationTree,
    list: MessageList,
    first_seen: &HashMap<String, Timestamp>,
    newest: bool,
) {
    let MessageList { messages, times, .. } = list;
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
        let at = first_seen.get(&id).or_else(|| times.get(&id)).copied().unwrap_or(Timestamp::UNKNOWN);
        let Some(role) = author(&message) else {
            conversation.report.opaque();
            conversation.other_records.push(Value::Object(message));
            continue;
        };
        let messages = vec![to_message(message, role, id, at)];
        conversation.nodes.push(TreeNode { parent, messages, ..TreeNode::default() });
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

/// The author of a message of this type; `None` if hfs does not know the type.
fn role(kind: &str) -> Option<Role> {
    Some(match kind.trim_end_matches("MessageChunk").to_lowercase().as_str() {
        "ai" | "assistant" => Role::Assistant,
        "system" | "developer" => Role::System,
        "tool" | "function" => Role::Tool,
        "human" | "user" => Role::User,
        _ => return None,
    })
}

/// The type of messages whose role is any name.
const CHAT: &str = "chat";

/// The author of a message; `None` if hfs does not know its type.
fn author(message: &Map<String, Value>) -> Option<Role> {
    let kind = text(message, "type")?;
    if kind != CHAT {
        return role(kind);
    }
    // Any other name is that of an agent.
    Some(text(message, "role").and_then(role).unwrap_or(Role::Assistant))
}

fn to_message(mut message: Map<String, Value>, role: Role, id: String, at: Timestamp) -> ImportedMessage {
    let content = message.shift_remove("content").unwrap_or_default();
    let mut parts = Vec::new();
    let mut attachments = Vec::new();
    if role == Role::Tool {
        let id = text(&message, "tool_call_id").unwrap_or_default().to_owned();
        let is_error = text(&message, "status") == Some("error");
        let output = ToolOutput::new(&content);
        parts.push(Part::ToolResult { id, output: output.text, is_error });
        parts.extend(output.files);
        attachments = output.attachments;
    } else {
        push_content(content, &mut parts, &mut attachments);
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
    let usage = message.get("usage_metadata").and_then(Value::as_object).and_then(|counts| {
        let usage = usage(&[number(counts, "input_tokens")], &[number(counts, "output_tokens")])?;
        let details = counts.get("input_token_details").and_then(Value::as_object);
        let detail = |key: &str| details.and_then(|details| number(details, key));
        Some(usage.with_cache(detail("cache_read"), detail("cache_creation")))
    });
    let model = message.get("response_metadata").and_then(Value::as_object);
    let model =
        model.and_then(|metadata| ["model_name", "model"].into_iter().find_map(|key| text(metadata, key)));
    let model = model.map(str::to_owned).filter(|_| role == Role::Assistant);
    let is_agent = |name: &&str| text(&message, "type") == Some(CHAT) && self::role(name).is_none();
    let agent = text(&message, "role").filter(is_agent).map(str::to_owned);
    let mut imported = ImportedMessage::new(NAME, id, role, parts, at).with_record(message);
    imported.draft.agent = agent;
    imported.attachments = attachments;
    imported.draft.usage = usage;
    imported.draft.model = model;
    imported
}

fn push_content(content: Value, parts: &mut Vec<Part>, attachments: &mut Vec<Attachment>) {
    match content {
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => parts.push(Part::Text { text }),
        Value::Array(items) => items.into_iter().for_each(|item| push_block(item, parts, attachments)),
        Value::Null => {}
        other => parts.push(Part::Opaque { source: NAME.into(), raw: other }),
    }
}

fn push_block(block: Value, parts: &mut Vec<Part>, attachments: &mut Vec<Attachment>) {
    let fields = match &block {
        Value::String(text) => return parts.push(Part::text(text)),
        Value::Object(fields) => fields,
        _ => return parts.push(Part::Opaque { source: NAME.into(), raw: block }),
    };
    let field = |key: &str| text(fields, key).map(str::to_owned);
    match text(fields, "type") {
        Some("text") if field("text").is_some() => parts.push(Part::text(field("text").unwrap_or_default())),
        Some("thinking" | "reasoning") => {
            let thought = ["thinking", "reasoning", "text"].into_iter().find_map(field);
            parts.push(Part::Thinking { text: thought.unwrap_or_default(), signature: field("signature") });
        }
        // `tool_calls` lists the same calls.
        Some("tool_use" | "tool_call" | "function_call") => {}
        _ => match file_of(fields) {
            Some(file) => {
                attachments.extend(file.attachment);
                parts.push(file.part);
            }
            None => parts.push(Part::Opaque { source: NAME.into(), raw: block }),
        },
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
        // The whole value of a channel whose other checkpoints contain only writes.
        rmpv::Value::Ext(DELTA_SNAPSHOT, bytes) => rmpv::decode::read_value(&mut bytes.as_slice())
            .map_or(Value::Null, |value| to_json(value, depth + 1)),
        rmpv::Value::Ext(_, bytes) => match rmpv::decode::read_value(&mut bytes.as_slice()) {
            Ok(rmpv::Value::Array(items)) if items.len() >= 3 => {
                items.into_iter().nth(2).map_or(Value::Null, |fields| to_json(fields, depth + 1))
            }
            Ok(other) => to_json(other, depth + 1),
            Err(_) => Value::Null,
        },
    }
}
