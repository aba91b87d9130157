//! Gemini CLI chats: one JSON object, or JSONL records that have to be replayed. The chats of subagents are in a folder
//! that is named after the session.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use hfs_core::{ImportError, MessageFlag, Part, Project, Role, Timestamp, split_context};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::content::{ToolOutput, file_of};
use super::conversation::{
    BufferedExport, ConversationTree, ImportedMessage, TreeNode, number, read_small_file, regular_files,
    text, usage,
};
use crate::detect::FormatProbe;
use crate::readers::{BEFORE, Output, ReportBuilder};
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
        let mut conversation = ConversationTree::new(source, NAME, "");
        let replay = replay(source, &mut conversation.report, &mut conversation.other_records, out)?;
        let header = replay.header.clone();
        let id = text(&header, "sessionId").map(str::to_owned).or_else(|| source.stem());
        let id = id.ok_or_else(|| source.damaged("it has no session"))?;
        let directory = project_directory(source, &header, &replay.messages);
        conversation.current = replay.add_to(&mut conversation, None, "");
        add_subagents(source, &id, &mut conversation, out)?;
        conversation.session.project = directory.map(|directory| Project { directory, repository: None });
        conversation.session.title =
            text(&header, "summary").filter(|title| !title.is_empty()).map(str::to_owned);
        conversation.session.automatic_name = true;
        conversation.session.origin.id = id;
        conversation.set_times_from_messages();
        let time = |key: &str| header.get(key).and_then(crate::time::from_json);
        conversation.set_missing_times(time("startTime"), time("lastUpdated"));
        conversation.session.extra.insert(NAME.into(), Value::Object(header));
        conversation.send_to(out)
    }
}

/// Reads a transcript: `messages` in one document, or records that have to be replayed.
fn replay(
    source: &Source,
    report: &mut ReportBuilder,
    other_records: &mut Vec<Value>,
    out: &mut Output<'_>,
) -> Result<Replay, ImportError> {
    let mut replay = Replay::default();
    if FormatProbe::new(source)?.has_key("messages") {
        let mut export = BufferedExport::read(source, "messages", out)?;
        export.count_unreadable(report);
        report.mapped();
        replay.header = export.metadata;
        export.messages.into_iter().for_each(|message| replay.append(message));
    } else {
        for_each_record::<JsonRecord>(source, Framing::Lines, &mut |at, entry| {
            out.progress(at.bytes)?;
            match entry {
                Entry::Record(record, _) => replay.record(record.fields, at.line, report, other_records),
                Entry::Damaged(why) => report.dropped(Some(at.line), why),
            }
            Ok(())
        })?;
    }
    Ok(replay)
}

/// A message in the tree that results from replaying the records.
struct ReplayedMessage {
    parent: Option<usize>,
    fields: Map<String, Value>,
    /// Whether a later list of messages omits it, or contains it at another place.
    is_replaced: bool,
}

/// The state that results from replaying the records. Messages that were rewound, or that a later list of messages
/// omits, stay in the tree as a branch.
#[derive(Default)]
struct Replay {
    header: Map<String, Value>,
    messages: Vec<ReplayedMessage>,
    /// The open line: indexes of messages.
    line: Vec<usize>,
    /// Position in the open line of each message id.
    positions: HashMap<String, usize>,
    /// Contents that a later list of messages replaced. They are stored too, because the messages that replace them
    /// after a resume lack tool calls, thoughts and tokens.
    superseded: Vec<Value>,
}

impl Replay {
    fn record(
        &mut self,
        mut record: Map<String, Value>,
        line: u64,
        report: &mut ReportBuilder,
        other_records: &mut Vec<Value>,
    ) {
        if let Some(Value::Object(mut set)) = record.shift_remove("$set") {
            report.mapped();
            if let Some(Value::Array(messages)) = set.shift_remove("messages") {
                let count = messages.len();
                let messages: Vec<Map<String, Value>> = messages.into_iter().filter_map(object).collect();
                if messages.len() < count {
                    let lost = count - messages.len();
                    report.warn(Some(line), format!("{lost} messages of a list are not objects"));
                }
                self.replace(messages);
            }
            self.header.extend(set);
        } else if let Some(id) = record.get("$rewindTo") {
            report.mapped();
            // Gemini CLI forgets everything if it does not find the message.
            self.cut(message_id(id).and_then(|id| self.positions.get(&id).copied()).unwrap_or(0));
        } else if record.contains_key("sessionId") && !record.contains_key("type") {
            report.mapped();
            self.header.extend(record);
        } else if record.get("id").and_then(message_id).is_some() && record.contains_key("type") {
            report.mapped();
            self.append(record);
        } else {
            report.opaque();
            other_records.push(Value::Object(record));
        }
    }

    /// Ends the open line before this position.
    fn cut(&mut self, position: usize) {
        self.line.truncate(position);
        self.positions.retain(|_, at| *at < position);
    }

    /// Adds a message to the open line, or replaces the one with the same id.
    fn append(&mut self, fields: Map<String, Value>) {
        let id = fields.get("id").and_then(message_id);
        let known = id.as_ref().and_then(|id| self.positions.get(id)).and_then(|at| self.line.get(*at));
        if let Some(message) = known.and_then(|index| self.messages.get_mut(*index)) {
            message.fields = fields;
            return;
        }
        self.push(fields);
    }

    /// Adds a message to the open line. In a list of messages, the results of tools have the id of their call's message.
    fn push(&mut self, fields: Map<String, Value>) {
        if let Some(id) = fields.get("id").and_then(message_id) {
            self.positions.entry(id).or_insert(self.line.len());
        }
        let parent = self.line.last().copied();
        self.messages.push(ReplayedMessage { parent, fields, is_replaced: false });
        self.line.push(self.messages.len() - 1);
    }

    /// Replaces the open line by a list of messages. Both share the messages at their beginning with equal ids. A resume
    /// writes such a list in several steps, the first of which omits most messages.
    fn replace(&mut self, messages: Vec<Map<String, Value>>) {
        let is_same = |old: &Map<String, Value>, new: &Map<String, Value>| {
            old.get("id") == new.get("id") && old.get("type") == new.get("type")
        };
        let mut messages = messages.into_iter().peekable();
        let mut shared = 0;
        while let Some(message) = self.line.get(shared).and_then(|index| self.messages.get_mut(*index))
            && let Some(fields) = messages.next_if(|fields| is_same(&message.fields, fields))
        {
            if message.fields != fields {
                let replaced = std::mem::replace(&mut message.fields, fields);
                self.superseded.push(Value::Object(replaced));
            }
            shared += 1;
        }
        for index in self.line.iter().skip(shared) {
            if let Some(message) = self.messages.get_mut(*index) {
                message.is_replaced = true;
            }
        }
        self.cut(shared);
        messages.for_each(|fields| self.push(fields));
    }

    /// Adds the messages to a conversation, after the node `root`, and returns the last node of the open line. A record that
    /// is not a message is stored with the next message.
    fn add_to(self, conversation: &mut ConversationTree, root: Option<usize>, prefix: &str) -> Option<usize> {
        let mut results = HashSet::new();
        let mut others = Vec::new();
        // Node of each message: its own, or that of its parent if it became no message.
        let mut nodes: Vec<Option<usize>> = Vec::new();
        let mut last_time = None;
        let is_kept = |message: &&ReplayedMessage| !message.is_replaced;
        let kept_ids: HashSet<String> = self
            .messages
            .iter()
            .filter(is_kept)
            .filter_map(|kept| message_id(kept.fields.get("id")?))
            .collect();
        let mut superseded = self.superseded;
        for message in self.messages {
            let parent = message.parent.and_then(|parent| nodes.get(parent).copied().flatten()).or(root);
            // A replaced message that is in the open line again is an earlier state of it; otherwise it is a branch.
            let id = message.fields.get("id").and_then(message_id);
            if message.is_replaced && id.is_some_and(|id| kept_ids.contains(&id)) {
                superseded.push(Value::Object(message.fields));
                nodes.push(parent);
                continue;
            }
            let at = message.fields.get("timestamp").and_then(crate::time::from_json).or(last_time);
            last_time = at;
            let at = at.unwrap_or(Timestamp::UNKNOWN);
            let mut converted = match text(&message.fields, "type") {
                Some("user") => user_messages(message.fields, at, &mut results),
                Some("gemini") => model_messages(message.fields, at, &mut results),
                _ => Converted { messages: Vec::new(), rest: message.fields },
            };
            let Some(first) = converted.messages.first_mut() else {
                others.push(Value::Object(converted.rest));
                nodes.push(parent);
                continue;
            };
            first.set_record(converted.rest);
            if !others.is_empty() {
                first.draft.extra.insert(BEFORE.into(), Value::Array(std::mem::take(&mut others)));
            }
            for source in converted.messages.iter_mut().filter_map(|message| message.draft.source.as_mut()) {
                source.id.insert_str(0, prefix);
            }
            nodes.push(Some(conversation.nodes.len()));
            conversation.nodes.push(TreeNode { parent, messages: converted.messages, ..TreeNode::default() });
        }
        conversation.other_records.append(&mut others);
        conversation.other_records.extend(superseded);
        self.line.last().and_then(|last| nodes.get(*last).copied().flatten()).or(root)
    }
}

/// Adds the chats of subagents, which are in a folder named after the session, as branches.
fn add_subagents(
    source: &Source,
    session: &str,
    conversation: &mut ConversationTree,
    out: &mut Output<'_>,
) -> Result<(), ImportError> {
    let is_name = !session.is_empty() && !session.contains(['/', '\\']) && session != "." && session != "..";
    let Some(folder) =
        source.path().and_then(Path::parent).filter(|_| is_name).map(|folder| folder.join(session))
    else {
        return Ok(());
    };
    for path in regular_files(&folder, &["json", "jsonl"]) {
        let chat = Source::file(path);
        let replay = match replay(&chat, &mut conversation.report, &mut conversation.other_records, out) {
            Ok(replay) => replay,
            Err(error @ ImportError::Interrupted { .. }) => return Err(error),
            Err(error) => {
                conversation.report.dropped(None, error.to_string());
                continue;
            }
        };
        let id =
            text(&replay.header, "sessionId").map(str::to_owned).or_else(|| chat.stem()).unwrap_or_default();
        let started = replay.header.get("startTime").and_then(crate::time::from_json);
        let parent = conversation.node_with_value(&id).or_else(|| conversation.node_at(started));
        let first = conversation.nodes.len();
        conversation.nodes.push(TreeNode {
            parent,
            fork: true,
            name: Some(id.clone()),
            messages: Vec::new(),
        });
        replay.add_to(conversation, Some(first), &format!("{id}/"));
        let added = conversation.nodes.get_mut(first..).unwrap_or_default();
        for message in added.iter_mut().flat_map(|node| &mut node.messages) {
            message.draft.set_flag(MessageFlag::Sidechain);
        }
    }
    Ok(())
}

fn object(value: Value) -> Option<Map<String, Value>> {
    if let Value::Object(fields) = value { Some(fields) } else { None }
}

/// The id of a message, which is a string in every known version.
fn message_id(id: &Value) -> Option<String> {
    match id {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

/// The project's directory: from the file that Gemini CLI keeps in the project's folder, or one that the transcript
/// mentions and whose hash identifies the project.
fn project_directory(
    source: &Source,
    header: &Map<String, Value>,
    messages: &[ReplayedMessage],
) -> Option<String> {
    let mut folders = source.path().into_iter().flat_map(|path| path.ancestors().skip(1).take(3));
    if let Some(root) = folders.find_map(|folder| read_small_file(&folder.join(".project_root"))) {
        return Some(root.trim().to_owned()).filter(|root| !root.is_empty());
    }
    let listed =
        header.get("directories").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let contexts = messages.iter().take(1).flat_map(|message| workspace_directories(&message.fields));
    let candidates: Vec<String> = listed.map(str::to_owned).chain(contexts).collect();
    let hash = text(header, "projectHash").unwrap_or_default();
    let is_project = |directory: &&String| hex(&Sha256::digest(directory.as_bytes())) == hash;
    candidates.iter().find(is_project).or_else(|| candidates.first()).cloned()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The directories that the context at the beginning of a conversation lists.
fn workspace_directories(message: &Map<String, Value>) -> Vec<String> {
    let content = message.get("content").map(|content| ToolOutput::new(content).text).unwrap_or_default();
    let (context, _) = split_context(&content);
    let Some((_, list)) = context.split_once("Workspace Directories:**\n") else { return Vec::new() };
    let lines = list.lines().map_while(|line| line.trim_start().strip_prefix("- "));
    lines.filter(|line| line.starts_with('/') || line.contains(":\\")).map(str::to_owned).collect()
}

/// The messages of a record, and the fields of the record that did not become content.
struct Converted {
    messages: Vec<ImportedMessage>,
    rest: Map<String, Value>,
}

/// The results of tool calls, in order. Gemini CLI repeats results; only the first one with each id is imported.
struct ToolResults<'a> {
    seen: &'a mut HashSet<String>,
    results: Vec<(Part, ToolOutput)>,
    /// Whether the newest result is a repeated one.
    repeated: bool,
}

impl<'a> ToolResults<'a> {
    fn new(seen: &'a mut HashSet<String>) -> Self {
        Self { seen, results: Vec::new(), repeated: false }
    }

    fn push(&mut self, id: String, output: ToolOutput, is_error: bool) {
        self.repeated = !self.seen.insert(id.clone());
        if !self.repeated {
            let part = Part::ToolResult { id, output: output.text.clone(), is_error };
            self.results.push((part, output));
        }
    }

    /// Adds a `functionResponse`.
    fn push_response(&mut self, response: &Map<String, Value>, failed: bool) {
        let id = text(response, "id").or_else(|| text(response, "name")).unwrap_or_default();
        let content = response.get("response").unwrap_or(&Value::Null);
        let (content, is_error) = match (content.get("output"), content.get("error")) {
            (Some(output), _) => (output, failed),
            (None, Some(error)) => (error, true),
            (None, None) => (content, failed),
        };
        let mut output = ToolOutput::new(content);
        for part in response.get("parts").and_then(Value::as_array).into_iter().flatten() {
            output.add(part);
        }
        self.push(id.to_owned(), output, is_error);
    }

    /// Adds a part that belongs to the newest result, such as a picture.
    fn extend_newest(&mut self, part: &Value) {
        if let Some((Part::ToolResult { output: text, .. }, output)) = self.results.last_mut()
            && !self.repeated
        {
            output.add(part);
            text.clone_from(&output.text);
        }
    }

    fn into_messages(self, id: &str, at: Timestamp) -> impl Iterator<Item = ImportedMessage> {
        self.results.into_iter().enumerate().map(move |(number, (part, output))| {
            let mut parts = vec![part];
            parts.extend(output.files);
            let mut message =
                ImportedMessage::new(NAME, format!("{id}/tool-{number}"), Role::Tool, parts, at);
            message.attachments = output.attachments;
            message
        })
    }
}

/// The parts of a message's content, which is a list of parts, a single part or a text.
fn content_parts(content: Option<Value>) -> Vec<Value> {
    match content {
        Some(Value::Array(items)) => items,
        Some(Value::Null) | None => Vec::new(),
        Some(other) => vec![other],
    }
}

fn user_messages(mut message: Map<String, Value>, at: Timestamp, results: &mut HashSet<String>) -> Converted {
    let id = message.get("id").and_then(message_id).unwrap_or_default();
    let mut parts = Vec::new();
    let mut attachments = Vec::new();
    let mut tools = ToolResults::new(results);
    for item in content_parts(message.shift_remove("content")) {
        match item.get("functionResponse").and_then(Value::as_object) {
            Some(response) => tools.push_response(response, false),
            None => parts.push(part(item, &mut attachments)),
        }
    }
    let mut messages: Vec<ImportedMessage> = tools.into_messages(&id, at).collect();
    if !parts.is_empty() {
        let mut imported = ImportedMessage::new(NAME, id, Role::User, parts, at);
        imported.attachments = attachments;
        messages.push(imported);
    }
    Converted { messages, rest: message }
}

fn part(item: Value, attachments: &mut Vec<hfs_core::Attachment>) -> Part {
    let thought = item.get("thought") == Some(&Value::Bool(true));
    if let Some(text) = item.as_str().or_else(|| item.get("text").and_then(Value::as_str)) {
        let text = text.to_owned();
        return if thought { Part::Thinking { text, signature: None } } else { Part::Text { text } };
    }
    if let Some(call) = item.get("functionCall").and_then(Value::as_object) {
        let name = text(call, "name").unwrap_or_default().to_owned();
        let id = text(call, "id").unwrap_or(&name).to_owned();
        return Part::ToolCall { id, name, input: call.get("args").cloned().unwrap_or_default() };
    }
    match item.as_object().and_then(file_of) {
        Some(file) => {
            attachments.extend(file.attachment);
            file.part
        }
        None => Part::Opaque { source: NAME.into(), raw: item },
    }
}

fn model_messages(
    mut message: Map<String, Value>,
    at: Timestamp,
    results: &mut HashSet<String>,
) -> Converted {
    let id = message.get("id").and_then(message_id).unwrap_or_default();
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
    for item in content_parts(message.shift_remove("content")) {
        if item.as_str() == Some("") {
            continue;
        }
        let part = part(item, &mut attachments);
        if let Part::ToolCall { id, .. } = &part {
            calls.insert(id.clone());
        }
        parts.push(part);
    }
    let mut tools = ToolResults::new(results);
    if let Some(Value::Array(made)) = message.get_mut("toolCalls") {
        for call in made.iter_mut().filter_map(Value::as_object_mut) {
            let id = text(call, "id").unwrap_or_default().to_owned();
            let name = text(call, "name").unwrap_or_default().to_owned();
            if calls.insert(id.clone()) {
                let input = call.shift_remove("args").unwrap_or_default();
                parts.push(Part::ToolCall { id: id.clone(), name, input });
            }
            let failed = text(call, "status") == Some("error");
            match call.get("result") {
                Some(Value::Array(answers)) => {
                    for answer in answers {
                        match answer.get("functionResponse").and_then(Value::as_object) {
                            Some(response) => tools.push_response(response, failed),
                            None => tools.extend_newest(answer),
                        }
                    }
                }
                Some(Value::Null) | None => {}
                Some(other) => match other.get("functionResponse").and_then(Value::as_object) {
                    Some(response) => tools.push_response(response, failed),
                    None => tools.push(id, ToolOutput::new(other), failed),
                },
            }
        }
    }
    let usage = message.get("tokens").and_then(Value::as_object).and_then(|tokens| {
        let count = |key| number(tokens, key);
        let usage = usage(&[count("input")], &[count("output"), count("thoughts")]);
        Some(usage?.with_cache(count("cached"), None))
    });
    let mut imported = ImportedMessage::new(NAME, id.clone(), Role::Assistant, parts, at);
    imported.attachments = attachments;
    imported.draft.usage = usage;
    imported.draft.model = text(&message, "model").map(str::to_owned);
    let messages = std::iter::once(imported).chain(tools.into_messages(&id, at)).collect();
    Converted { messages, rest: message }
}
