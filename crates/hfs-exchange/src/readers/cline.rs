//! Cline: the folders of tasks of the extension, which Roo Code and Kilo Code share, and the sessions of its
//! command-line version.
//!
//! A task is a folder with `api_conversation_history.json`, the messages as Anthropic's API has them, and
//! files about it: `ui_messages.json`, what was shown, with times and tokens, and `task_metadata.json`, the
//! models. They are defined in `apps/vscode/src/core/storage/disk.ts` of cline/cline. The command-line
//! version writes `ID.messages.json`, beside `ID.json` about the session, and a file for each subagent; see
//! `sdk/packages/core/src/session` there.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use hfs_core::{ImportError, MessageFlag, Part, Project, Role, Timestamp, Usage};
use serde_json::{Map, Value};

use super::content_blocks::BlockReader;
use super::conversation::{BufferedExport, ConversationTree, ImportedMessage, TreeNode, number, text, usage};
use super::entry_tree::{EntryTree, Parent, flag_all};
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::readers::{Output, excerpt};
use crate::records::{Entry, Framing, JsonRecord, for_each_record};
use crate::{Format, Source};

const NAME: &str = "cline";
const HISTORY: &str = "api_conversation_history.json";
const SHOWN: &str = "ui_messages.json";
/// Other files in the folder of a task.
const TASK_FILES: [&str; 7] = [
    SHOWN,
    "task_metadata.json",
    "history_item.json",
    "context_history.json",
    "settings.json",
    "focus_chain.json",
    "claude_messages.json",
];
/// Limit on the size of a file about a task.
const MAX_METADATA_BYTES: u64 = 64 << 20;

pub(crate) struct Cline;

impl super::Reader for Cline {
    fn format(&self) -> Format {
        Format::Cline
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        is_history(probe) || is_shown(probe) || probe.first_object().is_some_and(is_session)
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let probe = FormatProbe::new(source)?;
        if probe.has_key("messages") {
            return read_session(source, out);
        }
        if is_shown(&probe) {
            return read_shown(source, out);
        }
        read_task(source, out)
    }
}

/// Whether this is the history of a task. Without its file name, it is recognized by the tags in which Cline
/// sends the task and the state of the editor.
fn is_history(probe: &FormatProbe) -> bool {
    let tagged = |value: &Value| {
        let blocks = value.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        blocks.iter().filter_map(|block| block.get("text")?.as_str()).any(|text| {
            text.starts_with("<environment_details>")
                || ["<task>", "<feedback>", "<user_message>"].iter().any(|tag| text.starts_with(tag))
        })
    };
    let first =
        probe.first_object().filter(|first| first.contains_key("role") && first.contains_key("content"));
    probe.is_array()
        && first
            .is_some_and(|first| probe.file_name() == Some(HISTORY) || tagged(&Value::Object(first.clone())))
}

/// Whether these are the messages that a task has shown.
fn is_shown(probe: &FormatProbe) -> bool {
    probe.is_array()
        && probe.first_object().is_some_and(|first| {
            let kind = text(first, "type");
            first.contains_key("ts")
                && (kind == Some("say") && first.contains_key("say")
                    || kind == Some("ask") && first.contains_key("ask"))
        })
}

/// Whether this is a session of the command-line version.
fn is_session(fields: &Map<String, Value>) -> bool {
    fields.contains_key("sessionId")
        && fields.contains_key("agent")
        && fields.contains_key("updated_at")
        && fields.contains_key("version")
}

/// The file with the messages to which `path` belongs.
pub(crate) fn owner_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    if TASK_FILES.contains(&name) {
        return Some(path.with_file_name(HISTORY));
    }
    let folder = path.parent()?.file_name()?.to_str()?;
    let messages = format!("{folder}.messages.json");
    let belongs = name == format!("{folder}.json")
        || name != messages && name.ends_with(".messages.json")
        || name.ends_with(".compaction.json");
    belongs.then(|| path.with_file_name(messages))
}

/// Whether a file that belongs to a session is the transcript of a subagent.
pub(crate) fn is_subagent(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".messages.json"))
}

/// The files about a task or session that are read besides the file with the messages.
pub(crate) fn files_beside(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name == HISTORY {
        return TASK_FILES.iter().map(|name| path.with_file_name(name)).collect();
    }
    let folder = path.parent().and_then(Path::file_name).filter(|_| name.ends_with(".messages.json"));
    let about = folder.map(|folder| path.with_file_name(format!("{}.json", folder.to_string_lossy())));
    about.into_iter().collect()
}

/// A file about a session; `None` if it cannot be read.
fn read_json(path: &Path) -> Option<Value> {
    let mut json = String::new();
    Source::found(path).open().ok()?.take(MAX_METADATA_BYTES).read_to_string(&mut json).ok()?;
    Some(parse(&json)?.value)
}

fn beside(source: &Source, name: &str) -> Option<Value> {
    read_json(&source.path()?.with_file_name(name))
}

/// The id of a task: the name of its folder.
fn task_id(source: &Source) -> Option<String> {
    let folder = source.path()?.parent()?.file_name()?.to_string_lossy().into_owned();
    Some(folder).filter(|folder| !folder.is_empty())
}

fn read_task(source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
    let id = task_id(source).or_else(|| source.stem()).unwrap_or_else(|| "unnamed".into());
    let facts = TaskFacts::beside(source, &id);
    let mut tree = EntryTree::new(ConversationTree::new(source, NAME, id));
    let mut count = 0;
    for_each_record::<JsonRecord>(source, Framing::Array(None), &mut |at, entry| {
        out.progress(at.bytes)?;
        match entry {
            Entry::Record(record, _) => {
                push_message(&mut tree, record.fields, count, Some(&facts), None);
                count += 1;
            }
            Entry::Damaged(why) => tree.conversation.report.dropped(Some(at.line), why),
        }
        Ok(())
    })?;
    let mut conversation = tree.finish();
    if count == 0 && conversation.report.has_dropped() {
        return Err(source.damaged("it contains no message"));
    }
    let session = &mut conversation.session;
    session.title = facts.title.clone();
    session.automatic_name = true;
    let directory = facts.directory.clone().or_else(|| working_directory(&conversation));
    conversation.session.project = directory.map(|directory| Project { directory, repository: None });
    conversation.session.created_at = facts.started_at;
    for (name, value) in facts.files {
        conversation.session.extra.insert(name.into(), value);
    }
    conversation.set_times_from_messages();
    conversation.send_to(out)
}

/// What the other files in the folder of a task say about it.
#[derive(Default)]
struct TaskFacts {
    title: Option<String>,
    directory: Option<String>,
    started_at: Option<Timestamp>,
    /// For the message with each index: when it was shown, and the tokens of the request for it.
    shown: HashMap<usize, (Option<Timestamp>, Option<Usage>)>,
    /// Models, with the time of their first use.
    models: Vec<(Timestamp, String)>,
    /// Files that are stored with the session.
    files: Vec<(&'static str, Value)>,
}

impl TaskFacts {
    fn beside(source: &Source, id: &str) -> Self {
        let mut facts = Self::default();
        if let Some(Value::Array(shown)) = beside(source, SHOWN) {
            shown.iter().filter_map(Value::as_object).for_each(|message| facts.shown_message(message));
        }
        if let Some(metadata) = beside(source, "task_metadata.json") {
            let used = metadata.get("model_usage").and_then(Value::as_array);
            facts.models = used.into_iter().flatten().filter_map(model_use).collect();
            facts.files.push(("cline.task_metadata", metadata));
        }
        // Roo Code stores the entry of the list with the task; Cline has one list for all tasks.
        let item = beside(source, "history_item.json").or_else(|| {
            let list = source.path()?.parent()?.parent()?.with_file_name("state").join("taskHistory.json");
            let list = read_json(&list)?;
            list.as_array()?.iter().find(|item| item.get("id").and_then(Value::as_str) == Some(id)).cloned()
        });
        if let Some(Value::Object(item)) = item {
            let field = |key: &str| text(&item, key).filter(|text| !text.is_empty()).map(str::to_owned);
            facts.directory = field("cwdOnTaskInitialization").or_else(|| field("workspace"));
            facts.files.push(("cline.history_item", Value::Object(item)));
        }
        facts
    }

    fn shown_message(&mut self, message: &Map<String, Value>) {
        let at = message.get("ts").and_then(crate::time::from_json);
        self.started_at = self.started_at.or(at);
        // The index of the last message before this was shown.
        let Some(index) = message.get("conversationHistoryIndex").and_then(Value::as_i64) else { return };
        let Ok(next) = usize::try_from(index + 1) else { return };
        self.shown.entry(next).or_default().0.get_or_insert_with(|| at.unwrap_or(Timestamp::UNIX_EPOCH));
        if text(message, "say") == Some("api_req_started") {
            // The request sends the next message; its answer is the one after.
            let request = text(message, "text").and_then(parse).map(|parsed| parsed.value);
            let usage = request.as_ref().and_then(Value::as_object).and_then(request_usage);
            self.shown.entry(next + 1).or_default().1 = usage;
        }
    }

    fn model_at(&self, at: Timestamp) -> Option<String> {
        let used = self.models.iter().rev().find(|(since, _)| *since <= at);
        used.map(|(_, model)| model.clone())
    }
}

fn model_use(used: &Value) -> Option<(Timestamp, String)> {
    let model = used.get("model_id")?.as_str()?.to_owned();
    Some((used.get("ts").and_then(crate::time::from_json)?, model))
}

fn request_usage(request: &Map<String, Value>) -> Option<Usage> {
    let count = |key: &str| number(request, key);
    let (read, written) = (count("cacheReads"), count("cacheWrites"));
    // A request that has not been answered has no tokens.
    let sent = count("tokensIn")?;
    usage(&[Some(sent), read, written], &[count("tokensOut")]).map(|usage| usage.with_cache(read, written))
}

/// The folder that the state of the editor names.
fn working_directory(conversation: &ConversationTree) -> Option<String> {
    let messages = conversation.nodes.iter().flat_map(|node| &node.messages);
    let texts = messages.flat_map(|message| &message.draft.parts).filter_map(|part| match part {
        Part::Text { text } if text.starts_with("<environment_details>") => Some(text),
        _ => None,
    });
    texts.into_iter().find_map(|text| {
        let begins = ["# Current Working Directory (", "# Current Workspace Directory ("];
        let (_, rest) = begins.iter().find_map(|begin| text.split_once(begin))?;
        Some(rest.split_once(") Files")?.0.to_owned())
    })
}

/// The transcript of a subagent while it is read.
struct Subagent {
    name: String,
    at: Option<usize>,
    started: bool,
}

/// Adds a message. Returns the number of the node.
fn push_message(
    tree: &mut EntryTree,
    mut fields: Map<String, Value>,
    index: usize,
    facts: Option<&TaskFacts>,
    agent: Option<&mut Subagent>,
) {
    let id = text(&fields, "id").map_or_else(|| (index + 1).to_string(), str::to_owned);
    let Some(id) = tree.claim_id(&id, &fields) else {
        tree.conversation.report.dropped(None, "a repeated message");
        return;
    };
    let role = match text(&fields, "role") {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => {
            tree.conversation.report.opaque();
            tree.push_record(Some(&id), Parent::Newest, Value::Object(fields));
            return;
        }
    };
    let shown = facts.and_then(|facts| facts.shown.get(&index).copied()).unwrap_or_default();
    let at = fields.get("ts").and_then(crate::time::from_json).or(shown.0).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut messages = messages_of(&mut fields, &id, role, at);
    let model =
        fields.get("modelInfo").and_then(|model| model.get("id").or_else(|| model.get("modelId"))?.as_str());
    let model = model.map(str::to_owned).or_else(|| facts.filter(|_| at.is_known())?.model_at(at));
    let usage = fields.get("metrics").and_then(Value::as_object).and_then(metrics).or(shown.1);
    let mut answers = messages.iter_mut().filter(|message| message.draft.role == Role::Assistant);
    if let Some(answer) = answers.next() {
        answer.draft.model = model;
        answer.draft.usage = usage;
    }
    // Reasoning of Roo Code's providers, and messages that only mark a summary.
    let is_summary = fields.get("isSummary") == Some(&Value::Bool(true));
    if is_summary {
        flag_all(&mut messages, "compact-summary");
    }
    tree.conversation.report.mapped();
    if let Some(first) = messages.first_mut() {
        first.set_record(fields);
    }
    match agent {
        None => tree.push_messages(&id, Parent::Newest, messages),
        Some(agent) => {
            flag_all(&mut messages, "sidechain");
            let fork = !std::mem::replace(&mut agent.started, true);
            let name = fork.then(|| agent.name.clone());
            let node = tree.push_node(TreeNode { parent: agent.at, fork, name, messages, sent: None });
            agent.at = Some(node);
        }
    }
}

/// Tokens as the command-line version counts them. Those that were read from a cache are among the input.
fn metrics(fields: &Map<String, Value>) -> Option<Usage> {
    let count = |key: &str| number(fields, key);
    let tokens = fields.get("tokens").and_then(Value::as_object);
    let older = |key: &str| tokens.and_then(|tokens| number(tokens, key));
    let sent = match count("inputTokens") {
        Some(sent) => [Some(sent), None],
        None => [Some(older("prompt")?), older("cached")],
    };
    let (read, written) = (count("cacheReadTokens").or(older("cached")), count("cacheWriteTokens"));
    usage(&sent, &[older("completion").or(count("outputTokens"))])
        .map(|usage| usage.with_cache(read, written))
}

/// Takes the content of a message. The state of the editor becomes a message of its own, marked as context.
fn messages_of(fields: &mut Map<String, Value>, id: &str, role: Role, at: Timestamp) -> Vec<ImportedMessage> {
    let mut reader = BlockReader::new(NAME, id, role, at);
    let blocks = match fields.shift_remove("content") {
        Some(Value::Array(blocks)) => blocks,
        Some(Value::Null) | None => Vec::new(),
        Some(other) => vec![other],
    };
    let mut context = Vec::new();
    for block in blocks {
        let text = block.as_str().or_else(|| {
            let is_text = block.get("type").and_then(Value::as_str) == Some("text");
            block.get("text").filter(|_| is_text)?.as_str()
        });
        match text {
            Some(text) if role == Role::User && text.starts_with("<environment_details>") => {
                context.push(Part::text(text));
            }
            Some(text) if role == Role::User => match typed(text) {
                "" => {}
                text => reader.push_part(Part::text(text)),
            },
            _ => reader.push(block),
        }
    }
    let mut messages = reader.finish();
    if !context.is_empty() {
        let context = ImportedMessage::new(NAME, format!("{id}/context"), Role::User, context, at);
        // Before what the user typed, after the results of tools.
        let position = messages.iter().position(|message| message.draft.role != Role::Tool);
        messages.insert(position.unwrap_or(messages.len()), context.flagged(MessageFlag::Injected, true));
    }
    if messages.is_empty() {
        messages.push(ImportedMessage::new(NAME, id, role, Vec::new(), at));
    }
    messages
}

/// What the user typed, without the tags in which it is sent.
fn typed(text: &str) -> &str {
    let trimmed = text.trim();
    for tag in ["task", "feedback", "user_message", "user_input"] {
        let inner = trimmed.strip_prefix('<').and_then(|rest| rest.strip_prefix(tag)).and_then(|rest| {
            let (attributes, inner) = rest.split_once('>')?;
            (attributes.is_empty() || attributes.starts_with(' ')).then_some(inner)
        });
        let inner = inner.and_then(|inner| inner.strip_suffix('>')?.strip_suffix(tag)?.strip_suffix("</"));
        if let Some(inner) = inner {
            return inner.trim();
        }
    }
    text
}

/// Reads the messages that a task has shown, for a task whose history is lost.
fn read_shown(source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
    let id = task_id(source).or_else(|| source.stem()).unwrap_or_else(|| "unnamed".into());
    let mut tree = EntryTree::new(ConversationTree::new(source, NAME, id));
    for_each_record::<JsonRecord>(source, Framing::Array(None), &mut |at, entry| {
        out.progress(at.bytes)?;
        match entry {
            Entry::Record(record, _) => push_shown(&mut tree, record.fields, at.line),
            Entry::Damaged(why) => tree.conversation.report.dropped(Some(at.line), why),
        }
        Ok(())
    })?;
    let mut conversation = tree.finish();
    conversation.session.automatic_name = true;
    conversation.set_times_from_messages();
    conversation.send_to(out)
}

fn push_shown(tree: &mut EntryTree, mut fields: Map<String, Value>, line: u64) {
    let id = line.to_string();
    let at = fields.get("ts").and_then(crate::time::from_json).unwrap_or(Timestamp::UNIX_EPOCH);
    let kind = text(&fields, "say").or_else(|| text(&fields, "ask")).unwrap_or_default().to_owned();
    let is_first = tree.node_of(Parent::Newest).is_none();
    let role = match kind.as_str() {
        "task" | "user_feedback" | "user_feedback_diff" => Role::User,
        "text" if is_first => Role::User,
        "text" | "completion_result" | "followup" | "plan_mode_respond" | "reasoning" => Role::Assistant,
        _ => {
            tree.conversation.report.opaque();
            tree.push_record(None, Parent::Newest, Value::Object(fields));
            return;
        }
    };
    let mut message = ImportedMessage::new(NAME, id.clone(), role, Vec::new(), at);
    if let Some(Value::String(text)) = fields.shift_remove("text").filter(|text| text != "") {
        message.draft.parts.push(match kind.as_str() {
            "reasoning" => Part::Thinking { text, signature: None },
            _ => Part::Text { text },
        });
    }
    if let Some(Value::Array(images)) = fields.shift_remove("images") {
        for image in images.iter().filter_map(Value::as_str) {
            let Some((media_type, data)) =
                image.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"))
            else {
                continue;
            };
            let (part, attachment) = super::conversation::inline_image(media_type, data, None);
            message.draft.parts.push(part);
            message.attachments.extend(attachment);
        }
    }
    tree.conversation.report.mapped();
    tree.push_messages(&id, Parent::Newest, vec![message.with_record(fields)]);
}

fn read_session(source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
    let mut export = BufferedExport::read(source, "messages", out)?;
    let id = text(&export.metadata, "sessionId").map(str::to_owned).or_else(|| source.stem());
    let id = id.ok_or_else(|| source.damaged("it has no session"))?;
    let mut tree = EntryTree::new(ConversationTree::new(source, NAME, id));
    export.count_unreadable(&mut tree.conversation.report);
    for (index, message) in export.messages.into_iter().enumerate() {
        push_message(&mut tree, message, index, None, None);
    }
    read_subagents(&mut tree, source.companions(), out)?;
    let mut conversation = tree.finish();
    let folder = source.path().and_then(Path::parent).and_then(Path::file_name);
    let about = folder.and_then(|folder| beside(source, &format!("{}.json", folder.to_string_lossy())));
    let session = &mut conversation.session;
    session.automatic_name = true;
    if let Some(Value::Object(about)) = about {
        let metadata = about.get("metadata").and_then(Value::as_object);
        let title = metadata.and_then(|metadata| text(metadata, "title")).map(typed);
        session.title = title.filter(|title| !title.is_empty()).map(str::to_owned);
        let directory = text(&about, "workspace_root").or_else(|| text(&about, "cwd"));
        session.project =
            directory.map(|directory| Project { directory: directory.to_owned(), repository: None });
        session.created_at = about.get("started_at").and_then(crate::time::from_json);
        session.extra.insert("cline.session".into(), Value::Object(about));
    }
    session.extra.insert(NAME.into(), Value::Object(export.metadata));
    conversation.set_times_from_messages();
    conversation.send_to(out)
}

/// Adds each subagent as a branch that forks where it was started: at the call whose task it was given.
fn read_subagents(
    tree: &mut EntryTree,
    companions: &[PathBuf],
    out: &mut Output<'_>,
) -> Result<(), ImportError> {
    let open_line = tree.node_of(Parent::Newest);
    for path in companions.iter().filter(|path| is_subagent(path)) {
        let mut export = match BufferedExport::read(&Source::found(path), "messages", out) {
            Ok(export) => export,
            Err(error @ (ImportError::Interrupted { .. } | ImportError::Store(_))) => return Err(error),
            Err(error) => {
                tree.conversation.report.dropped(None, excerpt(&error.to_string()));
                continue;
            }
        };
        export.count_unreadable(&mut tree.conversation.report);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(".messages.json").unwrap_or(&name).to_owned();
        let started_at = export.messages.first().and_then(|first| call_of(tree, first));
        let mut agent = Subagent { name: name.clone(), at: started_at.or(open_line), started: false };
        for (index, mut message) in export.messages.into_iter().enumerate() {
            // Ids without the agent's name may repeat those of the session.
            if text(&message, "id").is_none() {
                message.insert("id".into(), format!("{name}/{}", index + 1).into());
            }
            push_message(tree, message, index, None, Some(&mut agent));
        }
    }
    tree.continue_after(open_line);
    Ok(())
}

/// The node with the call that started the subagent whose first message this is.
fn call_of(tree: &EntryTree, first: &Map<String, Value>) -> Option<usize> {
    let prompt = match first.get("content")? {
        Value::String(text) => text,
        content => content.get(0)?.get("text")?.as_str()?,
    };
    let prompt = typed(prompt);
    let starts = |part: &Part| match part {
        Part::ToolCall { input, .. } => {
            input.get("task").and_then(Value::as_str).is_some_and(|task| task.trim() == prompt.trim())
        }
        _ => false,
    };
    tree.conversation
        .nodes
        .iter()
        .position(|node| node.messages.iter().flat_map(|message| &message.draft.parts).any(starts))
}
