//! Sessions of the OpenAI Agents SDK: the SQLite databases of `SQLiteSession`, of `AdvancedSQLiteSession`,
//! which adds branches, and of `SQLAlchemySession`.
//!
//! Each row has an item as OpenAI's Responses API has it. The tables are defined in
//! `src/agents/memory/sqlite_session.py` and `src/agents/extensions/memory/` of openai/openai-agents-python;
//! programs may rename them, so they are recognized by their columns.

use std::collections::HashMap;

use hfs_core::{Attachment, ImportError, Part, Role, Timestamp, Usage};
use serde_json::{Map, Value};

use super::conversation::{
    ConversationTree, ImportedMessage, TreeNode, as_text, inline_image, number, text, usage,
};
use super::streamed::has_output;
use crate::database::{Database, quoted, text_column};
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::readers::{Output, RECORDS};
use crate::{Format, Source};

const NAME: &str = "openai-agents";
/// The columns of the table with the messages.
const MESSAGE_COLUMNS: [&str; 3] = ["id", "session_id", "message_data"];
const STRUCTURE: &str = "message_structure";
const TURN_USAGE: &str = "turn_usage";
const MAIN_BRANCH: &str = "main";

pub(crate) struct OpenAiAgents;

impl super::Reader for OpenAiAgents {
    fn format(&self) -> Format {
        Format::OpenAiAgents
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        !probe.tables_with_columns(&MESSAGE_COLUMNS).is_empty()
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let probe = FormatProbe::new(source)?;
        let tables = probe.tables_with_columns(&MESSAGE_COLUMNS);
        let database = Database::open(source)?;
        for table in &tables {
            // Several pairs of tables may be in one database, each with ids of its own.
            let prefix = if tables.len() > 1 { format!("{table}/") } else { String::new() };
            let table_name = quoted(table);
            let structured = probe.has_tables(&[STRUCTURE]);
            for (id, since) in session_ids(&database, &table_name)? {
                out.progress(0)?;
                let session = SessionRows::read(&database, &table_name, &id, structured)?;
                // Programs choose the ids, so another database may have the same one for another session.
                session.conversation(source, &format!("{prefix}{id}/{since}")).send_to(out)?;
            }
        }
        Ok(())
    }
}

/// The ids of the sessions, with the times of their first items as written.
fn session_ids(database: &Database, table: &str) -> Result<Vec<(String, String)>, ImportError> {
    let mut ids = Vec::new();
    let sql = format!(
        "select * from {table} where id in (select min(id) from {table} group by session_id) order by id"
    );
    database.rows(&sql, &[], &mut |row| {
        ids.push((text_column(&row, "session_id"), text_column(&row, "created_at")));
        Ok(())
    })?;
    Ok(ids)
}

/// The rows of a session.
struct SessionRows {
    /// Items by the id of their row, in order.
    items: Vec<(i64, Map<String, Value>)>,
    /// For each branch, the ids of its rows in order. Empty without branches.
    branches: Vec<(String, Vec<i64>)>,
    /// Tokens of a turn, and the rows of the turn in its branch.
    usage: Vec<(Usage, Vec<i64>)>,
}

impl SessionRows {
    fn read(database: &Database, table: &str, id: &str, structured: bool) -> Result<Self, ImportError> {
        let mut items = Vec::new();
        database.rows(
            &format!("select * from {table} where session_id = ?1 order by id"),
            &[id],
            &mut |row| {
                let id = row.fields.get("id").and_then(Value::as_i64).unwrap_or_default();
                items.push((id, row.fields));
                Ok(())
            },
        )?;
        let mut branches: Vec<(String, Vec<i64>)> = Vec::new();
        let mut turns: HashMap<(String, Option<i64>), Vec<i64>> = HashMap::new();
        let mut tokens_of_turns = Vec::new();
        if structured {
            let sql = format!("select * from {STRUCTURE} where session_id = ?1 order by sequence_number, id");
            database.rows(&sql, &[id], &mut |row| {
                let branch = text_column(&row, "branch_id");
                let message = row.fields.get("message_id").and_then(Value::as_i64).unwrap_or_default();
                let turn = row.fields.get("user_turn_number").and_then(Value::as_i64);
                turns.entry((branch.clone(), turn)).or_default().push(message);
                match branches.iter_mut().find(|(name, _)| *name == branch) {
                    Some((_, messages)) => messages.push(message),
                    None => branches.push((branch, vec![message])),
                }
                Ok(())
            })?;
        }
        if structured && database.tables()?.iter().any(|table| table == TURN_USAGE) {
            database.rows(
                &format!("select * from {TURN_USAGE} where session_id = ?1"),
                &[id],
                &mut |row| {
                    let turn = row.fields.get("user_turn_number").and_then(Value::as_i64);
                    let rows =
                        turns.get(&(text_column(&row, "branch_id"), turn)).cloned().unwrap_or_default();
                    let count = |name: &str| number(&row.fields, name);
                    // The details are JSON in a text column.
                    let details = parse(&text_column(&row, "input_tokens_details"));
                    let cached = details.and_then(|details| details.value.get("cached_tokens")?.as_u64());
                    let tokens = usage(&[count("input_tokens")], &[count("output_tokens")]);
                    tokens_of_turns.extend(tokens.map(|tokens| (tokens.with_cache(cached, None), rows)));
                    Ok(())
                },
            )?;
        }
        Ok(Self { items, branches, usage: tokens_of_turns })
    }

    fn conversation(self, source: &Source, id: &str) -> ConversationTree {
        let mut conversation = ConversationTree::new(source, NAME, id);
        let mut rows: HashMap<i64, Map<String, Value>> = self.items.iter().cloned().collect();
        let in_branches: Vec<i64> = self.branches.iter().flat_map(|(_, rows)| rows.iter().copied()).collect();
        let rest = self.items.iter().map(|(row, _)| *row).filter(|row| !in_branches.contains(row));
        let mut branches = self.branches;
        // Rows without a branch come first: older versions of the program did not write any.
        let rest: Vec<i64> = rest.collect();
        match branches.first_mut() {
            Some((_, first)) => {
                first.splice(0..0, rest);
            }
            None => branches.push((MAIN_BRANCH.to_owned(), rest)),
        }
        // Branches repeat the rows before the one where they fork.
        let mut nodes: HashMap<i64, usize> = HashMap::new();
        for (branch, messages) in branches {
            let mut parent = None;
            for row in messages {
                if let Some(node) = nodes.get(&row) {
                    parent = Some(*node);
                    continue;
                }
                let Some(fields) = rows.remove(&row) else { continue };
                let mut node = TreeNode { parent, ..TreeNode::default() };
                if branch != MAIN_BRANCH && !nodes.is_empty() {
                    node.name = Some(branch.clone());
                }
                push_row(&mut conversation, node, row, fields);
                // The newest node: this row's, or the one that it was added to.
                parent = conversation.nodes.len().checked_sub(1);
                nodes.extend(parent.map(|node| (row, node)));
            }
            conversation.current = parent;
        }
        // The tokens of a turn are those of its last answer.
        for (usage, rows) in self.usage {
            let last = rows.iter().rev().filter_map(|row| nodes.get(row)).find(|node| {
                let messages = conversation.nodes.get(**node).map(|node| &node.messages);
                messages.is_some_and(|messages| {
                    messages.iter().any(|message| message.draft.role == Role::Assistant)
                })
            });
            let answer = last.and_then(|node| conversation.nodes.get_mut(*node)).and_then(|node| {
                node.messages.iter_mut().rev().find(|message| message.draft.role == Role::Assistant)
            });
            if let Some(answer) = answer {
                answer.draft.usage = Some(usage);
            }
        }
        conversation.session.automatic_name = true;
        conversation.set_times_from_messages();
        conversation
    }
}

/// Adds a row as a node, or only its data if it is not a message.
fn push_row(
    conversation: &mut ConversationTree,
    mut node: TreeNode,
    row: i64,
    mut fields: Map<String, Value>,
) {
    let at = fields.get("created_at").and_then(crate::time::from_json).unwrap_or(Timestamp::UNIX_EPOCH);
    let data = fields.shift_remove("message_data").unwrap_or_default();
    let item = data.as_str().and_then(parse).map(|parsed| parsed.value);
    match item {
        Some(Value::Object(item)) => match messages_of(item, row, at) {
            Ok(messages) => {
                conversation.report.mapped();
                node.messages = messages;
            }
            Err(item) => {
                conversation.report.opaque();
                conversation.other_records.push(Value::Object(item));
            }
        },
        _ => {
            let why = format!("row {row} is not a JSON object: `{}`", super::excerpt(&as_text(&data)));
            conversation.report.dropped(None, why);
        }
    }
    let Some(last) = node.parent.filter(|parent| parent + 1 == conversation.nodes.len()) else {
        conversation.nodes.push(node);
        return;
    };
    // The reasoning, the text and the calls of an answer are rows of their own.
    let before = conversation.nodes.get_mut(last).and_then(|node| node.messages.last_mut());
    match (before, node.messages.as_mut_slice()) {
        (Some(before), [message, ..]) if continues(before, message) => {
            before.draft.parts.append(&mut message.draft.parts);
            before.attachments.append(&mut message.attachments);
            let records = message.draft.extra.remove(RECORDS);
            if let (Some(Value::Array(stored)), Some(Value::Array(mut more))) =
                (before.draft.extra.get_mut(RECORDS), records)
            {
                stored.append(&mut more);
            }
            let rest = node.messages.split_off(1);
            if let Some(parent) = conversation.nodes.get_mut(last) {
                parent.messages.extend(rest);
            }
        }
        (_, []) => {}
        _ => conversation.nodes.push(node),
    }
}

/// Whether an item belongs to the answer before it.
fn continues(before: &ImportedMessage, message: &ImportedMessage) -> bool {
    let is_call = matches!(message.draft.parts.first(), Some(Part::ToolCall { .. }));
    before.draft.role == Role::Assistant
        && message.draft.role == Role::Assistant
        && (is_call || !has_output(before))
}

/// Converts an item; returns it unchanged if it has no meaning in hfs.
fn messages_of(
    mut item: Map<String, Value>,
    row: i64,
    at: Timestamp,
) -> Result<Vec<ImportedMessage>, Map<String, Value>> {
    let new = |role, parts| ImportedMessage::new(NAME, row.to_string(), role, parts, at);
    let field = |item: &Map<String, Value>, key: &str| text(item, key).map(str::to_owned);
    let kind = field(&item, "type");
    let id = field(&item, "call_id").or_else(|| field(&item, "id")).unwrap_or_default();
    match kind.as_deref() {
        None | Some("message") => {
            let role = match text(&item, "role") {
                Some("user") => Role::User,
                Some("assistant") => Role::Assistant,
                Some("system" | "developer") => Role::System,
                _ => return Err(item),
            };
            let mut message = new(role, Vec::new());
            match item.shift_remove("content").unwrap_or_default() {
                Value::String(text) => message.draft.parts.push(Part::Text { text }),
                Value::Array(items) => {
                    for item in items {
                        let part = content_part(item, &mut message.attachments);
                        message.draft.parts.push(part);
                    }
                }
                Value::Null => {}
                other => message.draft.parts.push(Part::Opaque { source: NAME.into(), raw: other }),
            }
            Ok(vec![message.with_record(item)])
        }
        Some("reasoning") => {
            let thought =
                ["content", "summary"].into_iter().map(|key| item.get(key).map(as_text).unwrap_or_default());
            let text = thought.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
            let signature = field(&item, "encrypted_content").filter(|signature| !signature.is_empty());
            Ok(vec![new(Role::Assistant, vec![Part::Thinking { text, signature }]).with_record(item)])
        }
        Some(kind) if kind.ends_with("_output") => {
            let output = item.shift_remove("output").unwrap_or_default();
            let mut message = new(Role::Tool, Vec::new());
            take_output(output, id, &mut message);
            Ok(vec![message.with_record(item)])
        }
        Some(kind) if kind.ends_with("_call") => {
            let name = field(&item, "name").unwrap_or_else(|| kind.to_owned());
            let input = ["arguments", "input", "action", "operation"]
                .into_iter()
                .find_map(|key| item.shift_remove(key));
            let input = match input {
                Some(Value::String(json)) => {
                    parse(&json).map_or_else(|| Value::String(json), |parsed| parsed.value)
                }
                other => other.unwrap_or_default(),
            };
            // Hosted tools have their result in the call.
            let result =
                ["results", "outputs", "output", "result"].into_iter().find_map(|key| item.shift_remove(key));
            let call = new(Role::Assistant, vec![Part::ToolCall { id: id.clone(), name, input }]);
            let mut messages = vec![call.with_record(item)];
            if let Some(result) = result.filter(|result| !result.is_null()) {
                let mut message =
                    ImportedMessage::new(NAME, format!("{row}/result"), Role::Tool, Vec::new(), at);
                take_output(result, id, &mut message);
                messages.push(message);
            }
            Ok(messages)
        }
        Some(_) => Err(item),
    }
}

/// Adds the output of a tool: its text, then its pictures.
fn take_output(output: Value, id: String, message: &mut ImportedMessage) {
    let items = match output {
        Value::Array(items) => items,
        // A screenshot of the computer tool.
        Value::Object(fields) => vec![Value::Object(fields)],
        other => {
            message.draft.parts.push(Part::ToolResult { id, output: as_text(&other), is_error: false });
            return;
        }
    };
    let is_file = |item: &Value| item.get("image_url").is_some() || item.get("file_data").is_some();
    let (files, texts): (Vec<Value>, Vec<Value>) = items.into_iter().partition(is_file);
    message.draft.parts.push(Part::ToolResult { id, output: as_text(&Value::Array(texts)), is_error: false });
    for file in files {
        let part = content_part(file, &mut message.attachments);
        message.draft.parts.push(part);
    }
}

fn content_part(item: Value, attachments: &mut Vec<Attachment>) -> Part {
    let field = |key: &str| item.get(key).and_then(Value::as_str);
    if let Some(text) = field("text").or_else(|| field("refusal")).or_else(|| field("transcript")) {
        return Part::text(text);
    }
    let name = field("filename").map(str::to_owned);
    let Some(url) = field("image_url").or_else(|| field("file_data")).or_else(|| field("file_url")) else {
        return Part::Opaque { source: NAME.into(), raw: item };
    };
    match url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
        Some((media_type, data)) => {
            let (part, attachment) = inline_image(media_type, data, name);
            attachments.extend(attachment);
            part
        }
        None => {
            let is_image = field("image_url").is_some();
            let media_type = if is_image { "image/*" } else { "application/octet-stream" };
            let name = name.or_else(|| Some(url.to_owned()));
            Part::Attachment { media_type: media_type.into(), name, hash: None, bytes: 0 }
        }
    }
}
