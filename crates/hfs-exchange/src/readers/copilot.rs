//! GitHub Copilot CLI: the events of a session, one per line, and the documents of versions before 0.0.342.
//!
//! The events are defined in `session-events.d.ts` of the npm package `@github/copilot-sdk`.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use hfs_core::{Attachment, ImportError, MessageFlag, Part, Project, Role, Timestamp, Usage};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::claude_code::{attachment_of, decode_base64};
use super::conversation::{
    BufferedExport, ConversationTree, ImportedMessage, SentNode, TreeNode, as_text, inline_image, number,
    text, usage,
};
use super::entry_tree::{EntryTree, Parent, SavedState, SavedTree, flag_all, read_lines, stored_record};
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::readers::{Output, RECORDS};
use crate::records::JsonRecord;
use crate::resume::StoredFields;
use crate::{Format, Source};

const NAME: &str = "copilot-cli";
/// Beginnings of the types of events.
const EVENT_TYPES: [&str; 6] = ["session.", "user.", "assistant.", "tool.", "subagent.", "system."];
/// Key of the messages in documents of older versions.
const OLDER_MESSAGES: &str = "chatMessages";

pub(crate) struct Copilot;

impl super::Reader for Copilot {
    fn format(&self) -> Format {
        Format::Copilot
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        probe.records().iter().any(is_event) || probe.has_key(OLDER_MESSAGES) && probe.has_key("sessionId")
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        if !out.is_grown(NAME) && FormatProbe::new(source)?.has_key(OLDER_MESSAGES) {
            return read_older_session(source, out);
        }
        let (mut tree, mut events, start) = EntryTree::begin::<Events>(source, NAME, out);
        read_lines(source, start, &mut tree, out, |tree, record, line| events.event(tree, record, line))?;
        let first_id = tree.first_id();
        let place = tree.take_resume_place();
        events.finish(source, tree.finish(), first_id)?.send_with(out, |out, sent| {
            // A later event may refer to a file whose bytes are in an earlier one.
            let Some(tree) = EntryTree::saved(place.filter(|_| events.assets.is_empty()), sent) else {
                return Ok(());
            };
            events.forget_after(&tree, sent);
            out.resume_point(tree.end.offset, NAME, &SavedState { tree, known: events })
        })
    }
}

fn is_event(record: &Map<String, Value>) -> bool {
    text(record, "type").is_some_and(|kind| EVENT_TYPES.iter().any(|prefix| kind.starts_with(prefix)))
        && record.get("data").is_some_and(Value::is_object)
        && record.contains_key("timestamp")
}

/// The id of the session: the name of the folder with its events, or of the file in older versions.
fn id_from_path(source: &Source) -> Option<String> {
    let path = source.path()?;
    if path.file_name()? == "events.jsonl" {
        return Some(path.parent()?.file_name()?.to_string_lossy().into_owned());
    }
    source.stem()
}

/// The file about a session beside its events.
pub(crate) fn file_beside(path: &Path) -> Option<PathBuf> {
    (path.file_name()? == "events.jsonl").then(|| path.with_file_name("workspace.yaml"))
}

/// The name that the user gave to the session, from the file beside its events. Without one, the file has the
/// first prompt as the name.
fn name_by_user(source: &Source) -> Option<String> {
    const MAX_BYTES: u64 = 1 << 20;
    let mut yaml = String::new();
    let workspace = Source::found(file_beside(source.path()?)?);
    workspace.open().ok()?.take(MAX_BYTES).read_to_string(&mut yaml).ok()?;
    let field = |name: &str| yaml.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let name = field("name").filter(|_| field("user_named") == Some("true"))?.trim();
    match name.chars().next()? {
        '"' => parse(name)?.value.as_str().map(str::to_owned),
        '\'' => Some(name.trim_matches('\'').replace("''", "'")),
        // A text of several lines.
        '|' | '>' => None,
        _ => Some(name.to_owned()),
    }
}

/// What the events of a session say, while they are read.
#[derive(Default, Serialize, Deserialize)]
struct Events {
    start: StoredFields,
    title: Option<String>,
    /// Tokens of the model's calls, by the id of the call.
    usage: HashMap<String, CallTokens>,
    /// The node with each tool call.
    calls: HashMap<String, usize>,
    agents: HashMap<String, Subagent>,
    /// Media types and bytes of files that events refer to.
    #[serde(skip)]
    assets: HashMap<String, (String, Attachment)>,
}

/// The tokens of a call to the model. The fields of `Usage`, a domain type that is not stored itself, are copied.
#[derive(Serialize, Deserialize)]
struct CallTokens {
    sent: u64,
    received: u64,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    /// Number of entries up to the event with them.
    entries: usize,
    /// The event of the message that has them.
    message: Option<String>,
}

impl CallTokens {
    const fn new(usage: Usage, entries: usize) -> Self {
        Self {
            sent: usage.prompt_tokens,
            received: usage.completion_tokens,
            cache_read: usage.cache_read_tokens,
            cache_write: usage.cache_write_tokens,
            entries,
            message: None,
        }
    }
}

/// A subagent, whose messages are a branch.
#[derive(Default, Serialize, Deserialize)]
struct Subagent {
    starts: Vec<SubagentStart>,
    newest: Option<usize>,
}

/// What the event says that a subagent starts with.
#[derive(Serialize, Deserialize)]
struct SubagentStart {
    name: Option<String>,
    /// The tool call that started it.
    call: Option<String>,
    /// Number of entries up to the event.
    entries: usize,
}

impl Events {
    fn event(&mut self, tree: &mut EntryTree, record: JsonRecord, line: u64) {
        let JsonRecord { mut fields, raw } = record;
        let Some(id) = tree.claim_record(&fields, "id", line) else { return };
        let kind = text(&fields, "type").unwrap_or_default().to_owned();
        let at = fields.get("timestamp").and_then(crate::time::from_json).unwrap_or(Timestamp::UNIX_EPOCH);
        let agent = text(&fields, "agentId").map(str::to_owned);
        let mut data = match fields.get_mut("data").map(Value::take) {
            Some(Value::Object(data)) => data,
            _ => Map::new(),
        };
        let is_attribute = self.attribute(tree, &kind, &data, agent.as_deref());
        let mut messages = self.messages(&kind, &mut data, &id, at);
        fields.insert("data".into(), Value::Object(data));
        let stored = stored_record(fields, raw);
        let report = &mut tree.conversation.report;
        if messages.is_empty() {
            if is_attribute {
                report.mapped();
            } else {
                report.opaque();
            }
            tree.keep_record(stored);
            return;
        }
        report.mapped();
        if let Some(first) = messages.first_mut() {
            first.draft.extra.insert(RECORDS.into(), Value::Array(vec![stored]));
        }
        let is_call =
            |part: &Part| if let Part::ToolCall { id, .. } = part { Some(id.clone()) } else { None };
        let calls: Vec<String> =
            messages.iter().flat_map(|message| &message.draft.parts).filter_map(is_call).collect();
        let node = match agent {
            Some(agent) => Some(self.push_for_agent(tree, agent, messages)),
            None => {
                tree.push_messages(&id, Parent::Newest, messages);
                tree.node_of(Parent::Newest)
            }
        };
        if let Some(node) = node {
            self.calls.extend(calls.into_iter().map(|call| (call, node)));
        }
    }

    /// Adds messages of a subagent to its branch, which forks where the subagent was started.
    fn push_for_agent(
        &mut self,
        tree: &mut EntryTree,
        id: String,
        mut messages: Vec<ImportedMessage>,
    ) -> usize {
        flag_all(&mut messages, "sidechain");
        let agent = self.agents.entry(id).or_default();
        let start = agent.starts.last();
        let started_at = start.and_then(|start| self.calls.get(start.call.as_ref()?).copied());
        let (parent, fork) = match agent.newest {
            Some(newest) => (Some(newest), false),
            None => (started_at.or_else(|| tree.node_of(Parent::Newest)), true),
        };
        let name = start.filter(|_| fork).and_then(|start| start.name.clone());
        let node = tree.push_node(TreeNode { parent, fork, name, messages, sent: None });
        agent.newest = Some(node);
        node
    }

    /// Takes what an event says about the session. Returns whether it does.
    fn attribute(
        &mut self,
        tree: &mut EntryTree,
        kind: &str,
        data: &Map<String, Value>,
        agent: Option<&str>,
    ) -> bool {
        let field = |key: &str| text(data, key).map(str::to_owned);
        match kind {
            "session.start" if self.start.0.is_empty() || self.start.0 == *data => {
                self.start = StoredFields(data.clone());
            }
            "session.title_changed" => self.title = field("title").or(self.title.take()),
            "session.usage_record" | "assistant.usage" => {
                let Some((call, usage)) = model_call(data) else { return false };
                let entries = tree.entry_count();
                self.usage.entry(call).or_insert_with(|| CallTokens::new(usage, entries));
            }
            "session.binary_asset" => {
                let content = data.get("data").and_then(Value::as_str).and_then(decode_base64);
                let (Some(id), Some(content)) = (field("assetId"), content) else { return false };
                let media_type = field("mimeType").unwrap_or_else(|| "application/octet-stream".into());
                self.assets.insert(id, (media_type, content));
            }
            "subagent.started" => {
                let Some(agent) = agent else { return false };
                let name = field("agentDisplayName").or_else(|| field("agentName"));
                let start = SubagentStart { name, call: field("toolCallId"), entries: tree.entry_count() };
                self.agents.entry(agent.to_owned()).or_default().starts.push(start);
            }
            "session.snapshot_rewind" => {
                let Some(node) = field("upToEventId").and_then(|event| tree.node_before(&event)) else {
                    return false;
                };
                tree.continue_after(node);
            }
            _ => return false,
        }
        true
    }

    /// Takes the content of an event and converts it into messages; none if the event is not a message.
    fn messages(
        &mut self,
        kind: &str,
        data: &mut Map<String, Value>,
        id: &str,
        at: Timestamp,
    ) -> Vec<ImportedMessage> {
        let new = |role, parts| ImportedMessage::new(NAME, id, role, parts, at);
        let mut take_text = |key: &str| match data.shift_remove(key) {
            Some(Value::String(text)) if !text.is_empty() => Some(Part::Text { text }),
            _ => None,
        };
        match kind {
            "user.message" => vec![self.user_message(data, new(Role::User, Vec::new()))],
            "assistant.message" => vec![self.assistant_message(data, id, new(Role::Assistant, Vec::new()))],
            "tool.execution_complete" => vec![self.tool_result(data, new(Role::Tool, Vec::new()))],
            "system.message" => {
                take_text("content").map(|part| new(Role::System, vec![part])).into_iter().collect()
            }
            "system.notification" => {
                let notification = take_text("content").map(|part| new(Role::User, vec![part]));
                notification.map(|message| message.flagged(MessageFlag::Injected, true)).into_iter().collect()
            }
            "session.compaction_complete" => {
                let summary = take_text("summaryContent").map(|part| new(Role::User, vec![part]));
                summary
                    .map(|message| message.flagged(MessageFlag::CompactSummary, true))
                    .into_iter()
                    .collect()
            }
            "session.error" => {
                let error = take_text("message").map(|part| new(Role::Assistant, vec![part]));
                error.map(|message| message.flagged(MessageFlag::Error, true)).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// What the user typed. The context that the program adds for the model stays in the record.
    fn user_message(&self, data: &mut Map<String, Value>, mut message: ImportedMessage) -> ImportedMessage {
        if let Some(Value::String(text)) = data.shift_remove("content") {
            message.draft.parts.push(Part::Text { text });
        }
        if let Some(Value::Array(attachments)) = data.get_mut("attachments").map(Value::take) {
            for attachment in attachments {
                let part = self.attachment(attachment, &mut message.attachments);
                message.draft.parts.push(part);
            }
            data.shift_remove("attachments");
        }
        let by_program = text(data, "source").is_some_and(|source| !matches!(source, "user" | "cli"));
        message.flagged(MessageFlag::Injected, by_program)
    }

    fn attachment(&self, attachment: Value, bytes: &mut Vec<Attachment>) -> Part {
        let Value::Object(fields) = &attachment else {
            return Part::Opaque { source: NAME.into(), raw: attachment };
        };
        let field = |key: &str| text(fields, key).map(str::to_owned);
        let name = field("path").or_else(|| field("filePath")).or_else(|| field("displayName"));
        let media_type = field("mimeType");
        match text(fields, "type") {
            Some("selection") => {
                let content = attachment_of(field("text").unwrap_or_default().into_bytes());
                let (hash, size) = (content.hash, content.bytes.len() as u64);
                bytes.push(content);
                Part::Attachment { media_type: "text/plain".into(), name, hash: Some(hash), bytes: size }
            }
            Some("blob") if field("data").is_some() => {
                let media_type = media_type.unwrap_or_else(|| "application/octet-stream".into());
                let (part, content) = inline_image(&media_type, &field("data").unwrap_or_default(), name);
                bytes.extend(content);
                part
            }
            Some("file" | "directory" | "blob") => {
                let (media_type, content) = match field("assetId").and_then(|id| self.assets.get(&id)) {
                    Some((media_type, content)) => (Some(media_type.clone()), Some(content.clone())),
                    None => (media_type, None),
                };
                let media_type = media_type.unwrap_or_else(|| "application/octet-stream".into());
                let hash = content.as_ref().map(|content| content.hash);
                let size = content.as_ref().map_or(0, |content| content.bytes.len() as u64);
                bytes.extend(content);
                Part::Attachment { media_type, name, hash, bytes: size }
            }
            _ => Part::Opaque { source: NAME.into(), raw: attachment },
        }
    }

    fn assistant_message(
        &mut self,
        data: &mut Map<String, Value>,
        id: &str,
        mut message: ImportedMessage,
    ) -> ImportedMessage {
        let parts = &mut message.draft.parts;
        let signature = text(data, "reasoningOpaque").or_else(|| text(data, "encryptedContent"));
        let signature = signature.filter(|signature| !signature.is_empty()).map(str::to_owned);
        let reasoning = match data.shift_remove("reasoningText") {
            Some(Value::String(text)) => text,
            _ => String::new(),
        };
        if !reasoning.is_empty() || signature.is_some() {
            parts.push(Part::Thinking { text: reasoning, signature });
        }
        match data.shift_remove("content") {
            Some(Value::String(text)) if !text.is_empty() => parts.push(Part::Text { text }),
            _ => {}
        }
        if let Some(Value::Array(requests)) = data.get_mut("toolRequests") {
            for request in requests.iter_mut().filter_map(Value::as_object_mut) {
                let field = |key: &str| text(request, key).unwrap_or_default().to_owned();
                let (id, name) = (field("toolCallId"), field("name"));
                let input = request.shift_remove("arguments").unwrap_or_default();
                parts.push(Part::ToolCall { id, name, input });
            }
        }
        message.draft.model = text(data, "model").map(str::to_owned);
        let tokens = text(data, "apiCallId").and_then(|call| self.usage.get_mut(call));
        // Only one message has them, also if its event is read again.
        let tokens = tokens.filter(|tokens| tokens.message.as_deref().is_none_or(|message| message == id));
        message.draft.usage = tokens.map(|tokens| {
            tokens.message = Some(id.to_owned());
            Usage::new(tokens.sent, tokens.received).with_cache(tokens.cache_read, tokens.cache_write)
        });
        message
    }

    /// Forgets the events after those in `tree`. The next import reads them again.
    fn forget_after(&mut self, tree: &SavedTree, sent: &[SentNode]) {
        let (nodes, entries) = (tree.node_count(), tree.entry_count());
        self.calls.retain(|_, node| *node < nodes);
        self.usage.retain(|_, tokens| tokens.entries <= entries);
        for agent in self.agents.values_mut() {
            agent.starts.retain(|start| start.entries <= entries);
            while let Some(newest) = agent.newest.filter(|newest| *newest >= nodes) {
                // Before its first message, a subagent has no node.
                agent.newest = sent.get(newest).and_then(SentNode::continued);
            }
        }
    }

    /// The result of a tool: what the model is sent, then the files in it.
    fn tool_result(&self, data: &mut Map<String, Value>, mut message: ImportedMessage) -> ImportedMessage {
        let id = text(data, "toolCallId").unwrap_or_default().to_owned();
        let is_error = data.get("success") == Some(&Value::Bool(false));
        let result = data.get_mut("result").and_then(Value::as_object_mut);
        let mut files = Vec::new();
        let mut output = None;
        if let Some(result) = result {
            output = match result.shift_remove("content") {
                Some(Value::String(text)) => Some(text),
                Some(other) => Some(as_text(&other)),
                None => None,
            };
            for key in ["binaryResultsForLlm", "contents"] {
                if let Some(Value::Array(items)) = result.get(key) {
                    files.extend(items.iter().filter(|item| self.is_file(item)).cloned());
                }
            }
        }
        let error = data.get("error").and_then(|error| error.get("message")?.as_str());
        let output = output.or_else(|| error.map(str::to_owned)).unwrap_or_default();
        message.draft.parts.push(Part::ToolResult { id, output, is_error });
        for mut file in files {
            if let Value::Object(fields) = &mut file {
                fields.insert("type".into(), "blob".into());
                if let Some(description) = fields.get("description").cloned() {
                    fields.entry("displayName").or_insert(description);
                }
            }
            let part = self.attachment(file, &mut message.attachments);
            message.draft.parts.push(part);
        }
        message
    }

    /// Whether a part of a result is a file with its bytes.
    fn is_file(&self, item: &Value) -> bool {
        item.get("mimeType").is_some() && (item.get("data").is_some() || item.get("assetId").is_some())
    }

    fn finish(
        &self,
        source: &Source,
        mut conversation: ConversationTree,
        first_id: Option<String>,
    ) -> Result<ConversationTree, ImportError> {
        let StoredFields(start) = &self.start;
        let session = &mut conversation.session;
        let id = text(start, "sessionId").map(str::to_owned).or_else(|| id_from_path(source)).or(first_id);
        session.origin.id = id.ok_or_else(|| source.damaged("it has no session"))?;
        let name = name_by_user(source);
        session.automatic_name = name.is_none();
        session.title = name.or_else(|| self.title.clone());
        let context = start.get("context").and_then(Value::as_object);
        let directory = context.and_then(|context| text(context, "cwd").or_else(|| text(context, "gitRoot")));
        session.project =
            directory.map(|directory| Project { directory: directory.to_owned(), repository: None });
        session.created_at = start.get("startTime").and_then(crate::time::from_json);
        conversation.set_times_from_messages();
        Ok(conversation)
    }
}

/// The id and the tokens of a call to the model.
fn model_call(data: &Map<String, Value>) -> Option<(String, Usage)> {
    let fields = data.get("usage").and_then(Value::as_object).unwrap_or(data);
    let count = |key: &str| number(fields, key);
    let usage = usage(&[Some(count("inputTokens")?)], &[count("outputTokens")])?
        .with_cache(count("cacheReadTokens"), count("cacheWriteTokens"));
    Some((text(fields, "apiCallId")?.to_owned(), usage))
}

/// Reads a document of an older version, which contains the messages as OpenAI's API has them.
fn read_older_session(source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
    let mut export = BufferedExport::read(source, OLDER_MESSAGES, out)?;
    let id = text(&export.metadata, "sessionId").map(str::to_owned).or_else(|| source.stem());
    let id = id.ok_or_else(|| source.damaged("it has no session"))?;
    let mut conversation = ConversationTree::new(source, NAME, id);
    conversation.session.automatic_name = true;
    export.count_unreadable(&mut conversation.report);
    let mut calls: Vec<(String, String)> = Vec::new();
    for (index, message) in export.messages.into_iter().enumerate() {
        match older_message(message, index + 1, &mut calls) {
            Ok(message) => {
                conversation.report.mapped();
                conversation.push_messages(vec![message]);
            }
            Err(fields) => {
                conversation.report.opaque();
                conversation.other_records.push(Value::Object(fields));
            }
        }
    }
    conversation.session.created_at = export.metadata.get("startTime").and_then(crate::time::from_json);
    conversation.set_times_from_messages();
    conversation.session.extra.insert(NAME.into(), Value::Object(export.metadata));
    conversation.send_to(out)
}

/// Converts a message. `calls` has the names and ids of the calls without a result: results of the oldest
/// versions name the tool only.
fn older_message(
    mut fields: Map<String, Value>,
    number: usize,
    calls: &mut Vec<(String, String)>,
) -> Result<ImportedMessage, Map<String, Value>> {
    let role = match text(&fields, "role") {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => Role::Tool,
        Some("system" | "developer") => Role::System,
        _ => return Err(fields),
    };
    let at = fields.get("timestamp").and_then(crate::time::from_json).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut message = ImportedMessage::new(NAME, number.to_string(), role, Vec::new(), at);
    let content = fields.shift_remove("content").unwrap_or_default();
    if role == Role::Tool {
        let name = text(&fields, "name").unwrap_or_default();
        let position = calls.iter().position(|(called, _)| called == name);
        let id = text(&fields, "tool_call_id").map(str::to_owned);
        let id = id.or_else(|| position.map(|position| calls.remove(position).1)).unwrap_or_default();
        message.draft.parts.push(Part::ToolResult { id, output: as_text(&content), is_error: false });
        return Ok(message.with_record(fields));
    }
    match content {
        Value::String(text) if text.is_empty() => {}
        Value::String(text) => message.draft.parts.push(Part::Text { text }),
        Value::Null => {}
        Value::Array(items) => {
            for item in items {
                let part = older_part(item, &mut message.attachments);
                message.draft.parts.push(part);
            }
        }
        other => message.draft.parts.push(Part::Opaque { source: NAME.into(), raw: other }),
    }
    if let Some(Value::Array(made)) = fields.shift_remove("tool_calls") {
        for (index, call) in made.into_iter().enumerate() {
            let function = call.get("function").cloned().unwrap_or_default();
            let name = function.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let id = call.get("id").and_then(Value::as_str).map(str::to_owned);
            let id = id.unwrap_or_else(|| {
                let id = format!("call-{number}-{index}");
                calls.push((name.clone(), id.clone()));
                id
            });
            let input = match function.get("arguments") {
                Some(Value::String(json)) => {
                    parse(json).map_or_else(|| json.as_str().into(), |parsed| parsed.value)
                }
                Some(other) => other.clone(),
                None => Value::Null,
            };
            message.draft.parts.push(Part::ToolCall { id, name, input });
        }
    }
    Ok(message.with_record(fields))
}

fn older_part(item: Value, attachments: &mut Vec<Attachment>) -> Part {
    if let Some(text) = item.get("text").and_then(Value::as_str) {
        return Part::text(text);
    }
    let url = item.get("image_url").and_then(|image| image.get("url")?.as_str());
    match url.and_then(|url| url.strip_prefix("data:")?.split_once(";base64,")) {
        Some((media_type, data)) => {
            let (part, attachment) = inline_image(media_type, data, None);
            attachments.extend(attachment);
            part
        }
        None => Part::Opaque { source: NAME.into(), raw: item },
    }
}
