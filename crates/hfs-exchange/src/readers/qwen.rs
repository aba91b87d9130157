//! Qwen Code: one JSONL file per session, whose records form a tree, and the JSON documents of versions up to
//! 0.1, which resemble Gemini CLI's.
//!
//! The records have the envelope of Claude Code's, but their messages have the form of Google's Gen AI API:
//! `message.parts` instead of `message.content`. The format is defined in `chatRecordingService.ts` of
//! QwenLM/qwen-code.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use hfs_core::{ImportError, MessageFlag, Part, Project, Role, Timestamp, Usage};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::conversation::{BufferedExport, ConversationTree, ImportedMessage, TreeNode, number, text, usage};
use super::entry_tree::{EntryTree, Parent, SavedState, flag_all, read_lines, stored_record};
use super::genai::Content;
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::readers::{Output, RECORDS, ReportBuilder};
use crate::records::JsonRecord;
use crate::resume::LineStart;
use crate::source::companion_states;
use crate::{Format, Source};

const NAME: &str = "qwen-code";
/// The texts between these are the content of files that the user referred to.
const REFERENCED_FILES: [&str; 2] = ["--- Content from referenced files ---", "--- End of content ---"];
const REMINDER: [&str; 2] = ["<system-reminder>", "</system-reminder>"];

pub(crate) struct Qwen;

impl super::Reader for Qwen {
    fn format(&self) -> Format {
        Format::Qwen
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        probe.records().iter().any(is_record) || probe.first_object().is_some_and(is_older_chat)
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        if !out.is_grown(NAME) && FormatProbe::new(source)?.has_key("messages") {
            return read_older_chat(source, out);
        }
        // The states of the subagents that were imported.
        let (tree, (info, known), start): (_, (_, HashMap<_, _>), _) = EntryTree::begin(source, NAME, out);
        let mut session = SessionReader { tree, info };
        read_lines(source, start, &mut session.tree, out, |tree, record, line| {
            session.info.record(tree, record, line, None);
        })?;
        let mut subagents = companion_states(source.companions());
        // A subagent may have been started by another one, so all are read if one has changed.
        if subagents != known {
            session.read_subagents(source.companions(), &mut subagents, out)?;
        }
        session.finish(source, subagents, out)
    }
}

/// Whether this is a record of a session, and not one of Claude Code's.
pub(crate) fn is_record(record: &Map<String, Value>) -> bool {
    let has_parts = record.get("message").is_some_and(|message| message.get("parts").is_some());
    record.contains_key("uuid")
        && record.contains_key("sessionId")
        && (has_parts || record.contains_key("systemPayload"))
}

/// Whether this is a chat of an older version, and not one of Gemini CLI's.
pub(crate) fn is_older_chat(fields: &Map<String, Value>) -> bool {
    let messages = fields.get("messages").and_then(Value::as_array);
    fields.contains_key("projectHash")
        && messages.is_some_and(|messages| {
            messages.iter().any(|message| message.get("type").and_then(Value::as_str) == Some("qwen"))
        })
}

/// The transcript of the session whose subagent wrote `path`: `subagents/SESSION/agent-ID.jsonl` belongs to
/// `chats/SESSION.jsonl`.
pub(crate) fn owner_of(path: &Path) -> Option<PathBuf> {
    let session = path.parent()?;
    let folder = session.parent()?;
    let name = session.file_name()?.to_str()?;
    (folder.file_name()? == "subagents").then(|| folder.with_file_name("chats").join(format!("{name}.jsonl")))
}

/// The folder with the transcripts of the subagents of a session.
pub(crate) fn subagents_of(path: &Path) -> Option<PathBuf> {
    let chats = path.parent()?;
    (chats.file_name()? == "chats")
        .then(|| chats.with_file_name("subagents").join(path.file_stem().unwrap_or_default()))
}

/// Fields of the session, and where its tool calls are.
#[derive(Default, Serialize, Deserialize)]
struct SessionInfo {
    id: Option<String>,
    cwd: Option<String>,
    title: Option<String>,
    title_by_user: bool,
    /// The node with each tool call.
    calls: HashMap<String, usize>,
}

/// The transcript of a subagent while it is read.
struct Subagent {
    name: String,
    /// The node that its next message follows.
    at: Option<usize>,
    started: bool,
}

struct SessionReader {
    tree: EntryTree,
    info: SessionInfo,
}

impl SessionReader {
    /// Adds each subagent as a branch that forks where it was started. A subagent may have been started by
    /// another one, so those whose start is unknown are read last. They are removed from `states`: the next import may find
    /// where they were started.
    fn read_subagents(
        &mut self,
        companions: &[PathBuf],
        states: &mut HashMap<String, [u8; 32]>,
        out: &mut Output<'_>,
    ) -> Result<(), ImportError> {
        let mut pending: Vec<(&PathBuf, Option<String>)> =
            companions.iter().map(|path| (path, started_by(path))).collect();
        let open_line = self.tree.node_of(Parent::Newest);
        while !pending.is_empty() {
            let known = |(_, call): &(&PathBuf, Option<String>)| {
                call.as_ref().is_some_and(|call| self.info.calls.contains_key(call))
            };
            let (path, call) = pending.remove(pending.iter().position(known).unwrap_or(0));
            let started_at = call.and_then(|call| self.info.calls.get(&call).copied());
            if started_at.is_none() {
                states.remove(&path.display().to_string());
            }
            let at = started_at.or(open_line);
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let mut agent = Subagent { name, at, started: false };
            let info = &mut self.info;
            read_lines(
                &Source::found(path),
                LineStart::BEGINNING,
                &mut self.tree,
                out,
                |tree, record, line| {
                    info.record(tree, record, line, Some(&mut agent));
                },
            )?;
        }
        self.tree.continue_after(open_line);
        Ok(())
    }

    fn finish(
        self,
        source: &Source,
        subagents: HashMap<String, [u8; 32]>,
        out: &mut Output<'_>,
    ) -> Result<(), ImportError> {
        let Self { mut tree, mut info } = self;
        let place = tree.take_resume_place();
        let mut conversation = tree.finish();
        let session = &mut conversation.session;
        let id = info.id.clone().or_else(|| source.stem());
        session.origin.id = id.ok_or_else(|| source.damaged("it has no session"))?;
        session.title.clone_from(&info.title);
        session.automatic_name = !info.title_by_user;
        session.project = info.cwd.clone().map(|directory| Project { directory, repository: None });
        conversation.set_times_from_messages();
        conversation.send_with(out, |out, sent| {
            let Some(tree) = EntryTree::saved(place, sent) else { return Ok(()) };
            info.calls.retain(|_, node| *node < tree.node_count());
            out.resume_point(tree.end.offset, NAME, &SavedState { tree, known: (info, subagents) })
        })
    }
}

/// The id of the tool call that started a subagent, from the file beside its transcript.
fn started_by(transcript: &Path) -> Option<String> {
    const MAX_METADATA_BYTES: u64 = 1 << 20;
    let mut json = String::new();
    let metadata = Source::found(transcript.with_extension("meta.json"));
    metadata.open().ok()?.take(MAX_METADATA_BYTES).read_to_string(&mut json).ok()?;
    let metadata = parse(&json)?.value;
    metadata.get("toolUseId")?.as_str().map(str::to_owned)
}

impl SessionInfo {
    fn record(&mut self, tree: &mut EntryTree, record: JsonRecord, line: u64, agent: Option<&mut Subagent>) {
        let JsonRecord { mut fields, raw } = record;
        if self.id.is_none() {
            self.id = text(&fields, "sessionId").map(str::to_owned);
            self.cwd = text(&fields, "cwd").filter(|cwd| !cwd.is_empty()).map(str::to_owned);
        }
        let Some(id) = tree.claim_record(&fields, "uuid", line) else { return };
        let parent = fields.get("parentUuid").cloned();
        let parent = Parent::named_by(parent.as_ref());
        self.title_from(&fields);
        let mut messages = messages_of(&mut fields, &id);
        if messages.is_empty() {
            if text(&fields, "subtype") == Some("custom_title") {
                tree.conversation.report.mapped();
            } else {
                tree.conversation.report.opaque();
            }
            let record = stored_record(fields, raw);
            match agent {
                Some(_) => tree.keep_record(record),
                None => tree.push_record(Some(&id), parent, record),
            }
            return;
        }
        tree.conversation.report.mapped();
        if let Some(last) = messages.last_mut() {
            last.draft.extra.insert(RECORDS.into(), Value::Array(vec![stored_record(fields, raw)]));
        }
        let calls: Vec<String> =
            messages.iter().flat_map(|message| &message.draft.parts).filter_map(call_id).collect();
        let node = match agent {
            Some(agent) => {
                flag_all(&mut messages, "sidechain");
                let fork = !std::mem::replace(&mut agent.started, true);
                let name = fork.then(|| agent.name.clone());
                let node = tree.push_node(TreeNode { parent: agent.at, fork, name, messages, sent: None });
                agent.at = Some(node);
                Some(node)
            }
            None => {
                tree.push_messages(&id, parent, messages);
                tree.node_of(Parent::Newest)
            }
        };
        if let Some(node) = node {
            self.calls.extend(calls.into_iter().map(|call| (call, node)));
        }
    }

    fn title_from(&mut self, fields: &Map<String, Value>) {
        let payload = fields.get("systemPayload").and_then(Value::as_object);
        if text(fields, "subtype") == Some("custom_title")
            && let Some(payload) = payload
            && let Some(title) = text(payload, "customTitle").filter(|title| !title.is_empty())
        {
            self.title = Some(title.to_owned());
            self.title_by_user = text(payload, "titleSource") != Some("auto");
        }
    }
}

fn call_id(part: &Part) -> Option<String> {
    if let Part::ToolCall { id, .. } = part { Some(id.clone()) } else { None }
}

fn time_of(fields: &Map<String, Value>) -> Timestamp {
    fields.get("timestamp").and_then(crate::time::from_json).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Takes the content of a record and converts it into messages; none if the record is not a message.
fn messages_of(fields: &mut Map<String, Value>, id: &str) -> Vec<ImportedMessage> {
    let at = time_of(fields);
    let kind = text(fields, "type").unwrap_or_default().to_owned();
    let subtype = text(fields, "subtype").unwrap_or_default().to_owned();
    if kind == "system" {
        return if subtype == "chat_compression" { summary(fields, id, at) } else { Vec::new() };
    }
    let content = match fields.get_mut("message") {
        Some(Value::Object(message)) => message.shift_remove("parts").unwrap_or_default(),
        _ => return Vec::new(),
    };
    if kind == "assistant" {
        let mut content = Content::from_value(content, NAME);
        let mut message =
            ImportedMessage::new(NAME, id, Role::Assistant, std::mem::take(&mut content.parts), at);
        message.draft.model = text(fields, "model").map(str::to_owned);
        message.draft.agent = text(fields, "agentName").map(str::to_owned);
        message.draft.usage = fields.get("usageMetadata").and_then(Value::as_object).and_then(token_usage);
        message.attachments = content.attachments;
        return vec![message];
    }
    let typed = matches!(subtype.as_str(), "" | "mid_turn_user_message")
        && !matches!(text(fields, "provenance"), Some("system" | "goal_control" | "goal_runtime"));
    let failed = fields.get("toolCallResult").and_then(|result| result.get("status")?.as_str());
    user_messages(content, id, at, typed, matches!(failed, Some("error" | "cancelled")))
}

/// The messages of a user's record: results of tool calls, context that the program added, and what the user
/// typed.
fn user_messages(content: Value, id: &str, at: Timestamp, typed: bool, failed: bool) -> Vec<ImportedMessage> {
    let mut context = Vec::new();
    let mut own = Content::default();
    let mut in_referenced_files = false;
    let items = match content {
        Value::Array(items) => items,
        other => vec![other],
    };
    for item in items {
        let Some(text) = item.get("text").and_then(Value::as_str) else {
            own.push(item, NAME);
            continue;
        };
        in_referenced_files |= text.trim() == REFERENCED_FILES[0];
        if in_referenced_files {
            context.push(Part::text(text));
            in_referenced_files = text.trim() != REFERENCED_FILES[1];
            continue;
        }
        let (reminders, rest) = split_reminders(text);
        context.extend(reminders.into_iter().map(Part::text));
        if !rest.is_empty() {
            own.parts.push(Part::text(rest));
        }
    }
    let mut messages = Vec::new();
    for (number, mut parts) in own.results.into_iter().enumerate() {
        if failed && let Some(Part::ToolResult { is_error, .. }) = parts.first_mut() {
            *is_error = true;
        }
        let id = if number == 0 { id.to_owned() } else { format!("{id}/tool-{number}") };
        messages.push(ImportedMessage::new(NAME, id, Role::Tool, parts, at));
    }
    if !context.is_empty() {
        let message = ImportedMessage::new(NAME, format!("{id}/context"), Role::User, context, at);
        messages.push(message.flagged(MessageFlag::Injected, true));
    }
    if !own.parts.is_empty() {
        let id = if messages.iter().any(|message| message.draft.role == Role::Tool) {
            format!("{id}/text")
        } else {
            id.to_owned()
        };
        messages.push(
            ImportedMessage::new(NAME, id, Role::User, own.parts, at).flagged(MessageFlag::Injected, !typed),
        );
    }
    if let Some(first) = messages.first_mut() {
        first.attachments = own.attachments;
    }
    messages
}

/// Separates the reminders at the beginning of a text from what the user typed.
fn split_reminders(text: &str) -> (Vec<&str>, &str) {
    let mut reminders = Vec::new();
    let mut rest = text;
    while let Some(begun) = rest.trim_start().strip_prefix(REMINDER[0])
        && let Some((reminder, after)) = begun.split_once(REMINDER[1])
    {
        reminders.push(reminder.trim());
        rest = after;
    }
    (reminders, if rest.len() == text.len() { rest } else { rest.trim_start() })
}

/// The summary that replaces the messages before it in what the model is sent.
fn summary(fields: &mut Map<String, Value>, id: &str, at: Timestamp) -> Vec<ImportedMessage> {
    let history = fields.get("systemPayload").and_then(|payload| payload.get("compressedHistory"));
    let first = history.and_then(|history| history.get(0)?.get("parts")).cloned().unwrap_or_default();
    let parts = Content::from_value(first, NAME).parts;
    if parts.is_empty() {
        return Vec::new();
    }
    vec![ImportedMessage::new(NAME, id, Role::User, parts, at).flagged(MessageFlag::CompactSummary, true)]
}

/// Whether the candidates' tokens include those of reasoning depends on the provider; the total always does.
fn token_usage(fields: &Map<String, Value>) -> Option<Usage> {
    let count = |key: &str| number(fields, key);
    let sent = count("promptTokenCount");
    let received = count("totalTokenCount").and_then(|total| total.checked_sub(sent.unwrap_or(0)));
    usage(&[sent], &[received.or(count("candidatesTokenCount"))])
        .map(|usage| usage.with_cache(count("cachedContentTokenCount"), None))
}

fn read_older_chat(source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
    let mut export = BufferedExport::read(source, "messages", out)?;
    let id = text(&export.metadata, "sessionId").map(str::to_owned).or_else(|| source.stem());
    let id = id.ok_or_else(|| source.damaged("it has no session"))?;
    let mut conversation = ConversationTree::new(source, NAME, id);
    conversation.session.automatic_name = true;
    export.count_unreadable(&mut conversation.report);
    for (index, message) in export.messages.into_iter().enumerate() {
        let messages =
            older_messages(message, index, &mut conversation.report, &mut conversation.other_records);
        if !messages.is_empty() {
            conversation.push_messages(messages);
        }
    }
    let time = |key: &str| export.metadata.get(key).and_then(crate::time::from_json);
    conversation.session.created_at = time("startTime");
    conversation.session.updated_at = time("lastUpdated");
    conversation.set_times_from_messages();
    conversation.session.extra.insert(NAME.into(), Value::Object(export.metadata));
    conversation.send_to(out)
}

fn older_messages(
    mut fields: Map<String, Value>,
    index: usize,
    report: &mut ReportBuilder,
    others: &mut Vec<Value>,
) -> Vec<ImportedMessage> {
    let id = text(&fields, "id").map_or_else(|| format!("message-{}", index + 1), str::to_owned);
    let at = time_of(&fields);
    let role = match text(&fields, "type") {
        Some("user") => Role::User,
        Some("qwen") => Role::Assistant,
        _ => {
            report.opaque();
            others.push(Value::Object(fields));
            return Vec::new();
        }
    };
    report.mapped();
    let content = fields.shift_remove("content").unwrap_or_default();
    if role == Role::User {
        let mut messages = user_messages(content, &id, at, true, false);
        if let Some(last) = messages.last_mut() {
            last.set_record(fields);
        }
        return messages;
    }
    let mut content = Content::from_value(content, NAME);
    let thoughts = fields.get("thoughts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let thought = |thought: &Value| {
        let texts = ["subject", "description"].into_iter().filter_map(|key| thought.get(key)?.as_str());
        Part::Thinking { text: texts.collect::<Vec<_>>().join("\n"), signature: None }
    };
    let mut parts: Vec<Part> = thoughts.iter().map(thought).collect();
    parts.append(&mut content.parts);
    let calls =
        fields.get_mut("toolCalls").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
    for call in calls {
        let field = |key: &str| call.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let id = field("id");
        parts.push(Part::ToolCall {
            id: id.clone(),
            name: field("name"),
            input: call.get("args").cloned().unwrap_or_default(),
        });
        let status = field("status");
        let mut result = Content::from_value(call.get("result").cloned().unwrap_or_default(), NAME);
        if matches!(status.as_str(), "error" | "cancelled")
            && let Some(Part::ToolResult { is_error, .. }) =
                result.results.first_mut().and_then(|parts| parts.first_mut())
        {
            *is_error = true;
        }
        content.results.append(&mut result.results);
        content.attachments.append(&mut result.attachments);
    }
    let mut message = ImportedMessage::new(NAME, id.clone(), role, parts, at);
    message.draft.model = text(&fields, "model").map(str::to_owned);
    message.draft.usage = fields.get("tokens").and_then(Value::as_object).and_then(|tokens| {
        let count = |key: &str| number(tokens, key);
        usage(&[count("input")], &[count("output"), count("thoughts")])
            .map(|usage| usage.with_cache(count("cached"), None))
    });
    message.attachments = content.attachments;
    message.set_record(fields);
    let mut messages = vec![message];
    for (number, parts) in content.results.into_iter().enumerate() {
        messages.push(ImportedMessage::new(NAME, format!("{id}/tool-{number}"), Role::Tool, parts, at));
    }
    messages
}
