//! opencode: its database, its older storage folder, and the export of one session.
//!
//! When opencode moved to a database, it left the storage folder beside it and did not move everything at once. A
//! database and a storage folder in the same folder are therefore read together, whichever of them was given.
//!
//! A session that an agent started for a subtask belongs to the session of that agent: its messages become a branch that
//! forks after the call.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use hfs_core::{
    Attachment, Continuation, ImportError, MessageFlag, MessageId, Part, Project, Role,
    Source as MessageSource, Timestamp, Usage as TokenUsage,
};
use serde_json::{Map, Value, json};

use super::content::{FilePart, ToolOutput};
use super::conversation::{
    BufferedExport, ConversationTree, ImportedMessage, TreeNode, group_sessions, number, regular_files, text,
    usage,
};
use crate::database::{Database, short_hash, text_column};
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::readers::{Output, written_from};
use crate::resume::SessionVersions;
use crate::source::{Links, open_file};
use crate::transcript::{MessageIds, WRITTEN};
use crate::{Format, Source};

const NAME: &str = "opencode";
/// Name of the database beside a storage folder.
const DATABASE: &str = "opencode.db";
/// Name of the storage folder beside a database.
const STORAGE: &str = "storage";

pub(crate) struct OpenCode;

impl super::Reader for OpenCode {
    fn format(&self) -> Format {
        Format::OpenCode
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        probe.has_tables(&["session", "message", "part"])
            || probe.has_key("info") && probe.has_key("messages")
            || ["session", "message", "part"].iter().all(|name| probe.has_subfolder(name))
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        if let Some(folder) = source.path().filter(|path| path.is_dir()) {
            let beside = folder.parent().map(|parent| parent.join(DATABASE)).filter(|path| is_file(path));
            // A damaged database must not prevent the import of the folder that was given.
            let database = beside.and_then(|path| Database::open(&Source::file(path)).ok());
            return Stores { database, storage: Some(folder.to_owned()) }.read(source, out);
        }
        if FormatProbe::new(source)?.is_database() {
            let beside = source.path().and_then(Path::parent).map(|parent| parent.join(STORAGE));
            let storage = beside.filter(|path| is_folder(path));
            return Stores { database: Some(Database::open(source)?), storage }.read(source, out);
        }
        read_export(source, out)
    }
}

type Fields = Map<String, Value>;

/// A message with its parts, as exported.
#[derive(Debug, Default)]
struct ExportedMessage {
    info: Fields,
    parts: Vec<Fields>,
}

/// A session with its messages, in order.
#[derive(Debug, Default)]
struct ExportedSession {
    info: Fields,
    messages: Vec<ExportedMessage>,
    /// Reasons why rows or files could not be read.
    unreadable: Vec<String>,
}

fn object(value: Value) -> Option<Fields> {
    if let Value::Object(fields) = value { Some(fields) } else { None }
}

fn id_of(fields: &Fields) -> String {
    text(fields, "id").unwrap_or_default().to_owned()
}

fn read_export(source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
    let mut export = BufferedExport::read(source, "messages", out)?;
    let info = export.metadata.shift_remove("info").and_then(object).unwrap_or_default();
    let mut session = ExportedSession { info, ..ExportedSession::default() };
    for mut message in std::mem::take(&mut export.messages) {
        let info = message.shift_remove("info").and_then(object).unwrap_or_default();
        let parts = match message.shift_remove("parts") {
            Some(Value::Array(parts)) => parts,
            _ => Vec::new(),
        };
        let count = parts.len();
        let parts: Vec<Fields> = parts.into_iter().filter_map(object).collect();
        let lost = count - parts.len();
        session
            .unreadable
            .extend((0..lost).map(|_| format!("a part of message {} is not an object", id_of(&info))));
        session.messages.push(ExportedMessage { info, parts });
    }
    let mut conversation = to_conversation(source, session);
    export.count_unreadable(&mut conversation.report);
    conversation.send_to(out)
}

/// Whether the path is a regular file; links are not followed.
fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// Whether the path is a folder; links are not followed.
fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// The database and the storage folder of one installation.
struct Stores {
    database: Option<Database>,
    storage: Option<PathBuf>,
}

/// Session-level fields of the sessions, by id.
type SessionInfos = BTreeMap<String, Fields>;

impl Stores {
    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let mut unreadable = Vec::new();
        let infos = self.session_infos(source, &mut unreadable)?;
        let parent_of = |info: &Fields| {
            ["parent_id", "parentID"].into_iter().find_map(|key| text(info, key)).map(str::to_owned)
        };
        let sessions: Vec<_> = infos.iter().map(|(id, info)| (id.clone(), parent_of(info))).collect();
        if infos.is_empty() {
            return match unreadable.into_iter().next() {
                Some(why) => Err(source.damaged(why)),
                None => Ok(()),
            };
        }
        // A message or part in a file may change without a trace in the database.
        let versions = match (&self.database, &self.storage) {
            (Some(database), None) => row_versions(database),
            _ => None,
        };
        let known = versions.as_ref().map(|_| out.known_versions(NAME)).unwrap_or_default();
        let mut found = SessionVersions::default();
        for group in group_sessions(&sessions) {
            out.progress(0)?;
            let version = versions.as_ref().map(|versions| {
                let ids = std::iter::once(&group.root).chain(&group.subagents);
                let parts = ids
                    .map(|id| (infos.get(id), versions.iter().map(|rows| rows.get(id)).collect::<Vec<_>>()));
                short_hash(&format!("{:?}", parts.collect::<Vec<_>>()))
            });
            if let Some(version) = version.filter(|version| known.0.get(&group.root) == Some(version)) {
                found.0.insert(group.root, version);
                out.leave_out_unchanged_session();
                continue;
            }
            if let Some(database) = &self.database {
                database.renew()?;
            }
            let mut conversation = to_conversation(source, self.session(&infos, &group.root)?);
            for why in unreadable.drain(..) {
                conversation.report.dropped(None, why);
            }
            for subagent in group.subagents {
                add_subagent(&mut conversation, self.session(&infos, &subagent)?);
            }
            let has_damage = conversation.report.has_dropped();
            conversation.send_to(out)?;
            // What was skipped or damaged is tried again.
            if let Some(version) = version.filter(|_| !out.is_skipping() && !has_damage) {
                found.0.insert(group.root, version);
            }
        }
        if versions.is_some() { out.versions(NAME, &found) } else { Ok(()) }
    }

    /// The sessions of both stores. The database is newer, so its fields replace those of a file.
    fn session_infos(
        &self,
        source: &Source,
        unreadable: &mut Vec<String>,
    ) -> Result<SessionInfos, ImportError> {
        let mut infos = SessionInfos::new();
        if let Some(storage) = &self.storage {
            let projects = fs::read_dir(storage.join("session")).map_err(|error| source.io(error))?;
            for file in projects.flatten().flat_map(|project| regular_files(&project.path(), &["json"])) {
                match read_file(&file) {
                    Some(info) if info.get("id").is_some_and(Value::is_string) => {
                        infos.insert(id_of(&info), info);
                    }
                    _ => unreadable.push(format!("{} is not a session", file.display())),
                }
            }
        }
        if let Some(database) = &self.database {
            database.rows("select * from session", &[], &mut |row| {
                infos.insert(id_of(&row.fields), row.fields);
                Ok(())
            })?;
        }
        Ok(infos)
    }

    fn session(&self, infos: &SessionInfos, id: &str) -> Result<ExportedSession, ImportError> {
        let mut session = ExportedSession {
            info: infos.get(id).cloned().unwrap_or_default(),
            ..ExportedSession::default()
        };
        let mut messages = match &self.database {
            Some(database) => rows_of(database, id, &mut session.unreadable)?,
            None => Vec::new(),
        };
        if let Some(storage) = self.storage.as_deref().filter(|_| is_name(id)) {
            let known: HashSet<String> = messages.iter().map(|message| id_of(&message.info)).collect();
            for file in regular_files(&storage.join("message").join(id), &["json"]) {
                match read_file(&file) {
                    Some(info) if known.contains(&id_of(&info)) => {}
                    Some(info) => messages.push(ExportedMessage { info, parts: Vec::new() }),
                    None => session.unreadable.push(format!("{} is not valid JSON", file.display())),
                }
            }
            for message in messages.iter_mut().filter(|message| message.parts.is_empty()) {
                let id = id_of(&message.info);
                if !is_name(&id) {
                    continue;
                }
                for file in regular_files(&storage.join("part").join(&id), &["json"]) {
                    match read_file(&file) {
                        Some(part) => message.parts.push(part),
                        None => session.unreadable.push(format!("{} is not valid JSON", file.display())),
                    }
                }
            }
        }
        messages.sort_by_key(|message| (millis(&message.info, "created"), id_of(&message.info)));
        session.messages = messages;
        Ok(session)
    }
}

/// The versions of the messages and of the parts of each session; `None` if they cannot be compared.
fn row_versions(database: &Database) -> Option<[HashMap<String, u64>; 2]> {
    let versions = |table| database.versions(table, "session_id", "data", &["time_updated"]).ok();
    Some([versions("message")?, versions("part")?])
}

/// Whether an id is the name of a file, and not a path that leaves the folder.
fn is_name(id: &str) -> bool {
    !id.is_empty() && !id.contains(['/', '\\']) && id != "." && id != ".."
}

/// The messages of a session in the database.
fn rows_of(
    database: &Database,
    session: &str,
    unreadable: &mut Vec<String>,
) -> Result<Vec<ExportedMessage>, ImportError> {
    let mut parts: HashMap<String, Vec<Fields>> = HashMap::new();
    database.rows("select * from part where session_id = ?1 order by id", &[session], &mut |row| {
        match data(&row.fields) {
            Some(part) => parts.entry(text_column(&row, "message_id")).or_default().push(part),
            None => unreadable.push(format!("part {} is not valid JSON", text_column(&row, "id"))),
        }
        Ok(())
    })?;
    let mut messages = Vec::new();
    database.rows("select * from message where session_id = ?1", &[session], &mut |row| {
        let parts = parts.remove(&text_column(&row, "id")).unwrap_or_default();
        match data(&row.fields) {
            Some(mut info) => {
                info.insert("sessionID".into(), session.into());
                messages.push(ExportedMessage { info, parts });
            }
            None => unreadable.push(format!("message {} is not valid JSON", text_column(&row, "id"))),
        }
        Ok(())
    })?;
    let orphaned: usize = parts.values().map(Vec::len).sum();
    unreadable.extend((0..orphaned).map(|_| "a part without a message".to_owned()));
    Ok(messages)
}

/// A row's JSON data with the row's id added, as in the other forms of the format.
fn data(row: &Fields) -> Option<Fields> {
    let mut data = object(parse(text(row, "data")?)?.value)?;
    data.insert("id".into(), row.get("id").cloned().unwrap_or_default());
    if let Some(created) = row.get("time_created") {
        data.entry("time").or_insert_with(|| json!({ "created": created }));
    }
    Some(data)
}

fn read_file(path: &Path) -> Option<Fields> {
    let mut bytes = Vec::new();
    open_file(path, Links::Reject).ok()?.read_to_end(&mut bytes).ok()?;
    object(parse(&String::from_utf8_lossy(&bytes))?.value)
}

fn millis(fields: &Fields, key: &str) -> Option<Timestamp> {
    fields.get("time")?.get(key).and_then(crate::time::from_json)
}

fn to_conversation(source: &Source, session: ExportedSession) -> ConversationTree {
    let ExportedSession { info, messages, unreadable } = session;
    let id = text(&info, "id").map(str::to_owned).or_else(|| source.stem()).unwrap_or_default();
    let continues = MessageIds::branch_of(&id).map(Continuation::Branch);
    let mut conversation = ConversationTree::new(source, NAME, id);
    conversation.session.continues = continues;
    unreadable.into_iter().for_each(|why| conversation.report.dropped(None, why));
    conversation.session.title = text(&info, "title").filter(|title| !title.is_empty()).map(str::to_owned);
    conversation.session.automatic_name = true;
    let directory = text(&info, "directory").filter(|directory| !directory.is_empty());
    conversation.session.project =
        directory.map(|directory| Project { directory: directory.into(), repository: None });
    let completed = messages.iter().map(|message| millis(&message.info, "completed")).max().flatten();
    let created = messages.iter().map(|message| millis(&message.info, "created")).max().flatten();
    let undone = first_undone(&info, &messages);
    for (index, message) in messages.into_iter().enumerate() {
        if undone == Some(index) {
            conversation.current = conversation.nodes.len().checked_sub(1);
        }
        if let Some(messages) = convert_message(&mut conversation, message) {
            conversation.push_messages(messages);
        }
    }
    if undone == Some(0) {
        // Nothing is left in the open line: an empty root, from which the undone messages continue as a branch.
        conversation.nodes.push(TreeNode { fork: true, ..TreeNode::default() });
        conversation.current = conversation.nodes.len().checked_sub(1);
    } else if conversation.current.is_none() {
        conversation.current = conversation.nodes.len().checked_sub(1);
    }
    conversation.session.updated_at = completed.max(created);
    conversation.set_times_from_messages();
    let time = |key: &str, column: &str| {
        millis(&info, key).or_else(|| info.get(column).and_then(crate::time::from_json))
    };
    conversation.set_missing_times(time("created", "time_created"), time("updated", "time_updated"));
    conversation.fill_message_times(None, None);
    conversation.session.extra.insert(NAME.into(), Value::Object(info));
    conversation
}

/// Index of the first message that the user undid, and that opencode removes when the user continues.
fn first_undone(info: &Fields, messages: &[ExportedMessage]) -> Option<usize> {
    let revert = match info.get("revert")? {
        // A column of the database contains JSON text.
        Value::String(json) => parse(json)?.value,
        other => other.clone(),
    };
    let id = revert.get("messageID")?.as_str()?;
    let at = messages.iter().position(|message| text(&message.info, "id") == Some(id))?;
    // If only the last parts of a message were undone, the message itself stays.
    Some(if revert.get("partID").is_some_and(Value::is_string) { at + 1 } else { at })
        .filter(|at| *at < messages.len())
}

/// Adds the messages of a session that an agent started, as a branch that forks after the call.
fn add_subagent(conversation: &mut ConversationTree, session: ExportedSession) {
    let ExportedSession { info, messages, unreadable } = session;
    unreadable.into_iter().for_each(|why| conversation.report.dropped(None, why));
    let id = id_of(&info);
    let started = messages.iter().filter_map(|message| millis(&message.info, "created")).min();
    let parent = conversation.node_with_value(&id).or_else(|| conversation.node_at(started));
    let title = text(&info, "title").filter(|title| !title.is_empty()).map(str::to_owned);
    let converted: Vec<_> =
        messages.into_iter().filter_map(|message| convert_message(conversation, message)).collect();
    conversation.push_subagent(title.unwrap_or(id), parent, converted);
}

/// Converts a message and counts it; `None` if hfs does not know its role. The results of its tool calls become messages
/// of their own.
fn convert_message(
    conversation: &mut ConversationTree,
    message: ExportedMessage,
) -> Option<Vec<ImportedMessage>> {
    let role = match text(&message.info, "role") {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => {
            conversation.report.opaque();
            let parts = message.parts.into_iter().map(Value::Object).collect::<Vec<_>>();
            conversation.other_records.push(json!({ "info": message.info, "parts": parts }));
            return None;
        }
    };
    conversation.report.mapped();
    Some(to_messages(message, role))
}

/// The result of a tool.
struct ToolAnswer {
    result: Part,
    output: ToolOutput,
    time: Option<Timestamp>,
    /// The message of hfs from which an export wrote it.
    written_from: Option<MessageId>,
}

fn to_messages(message: ExportedMessage, role: Role) -> Vec<ImportedMessage> {
    let ExportedMessage { mut info, parts: exported_parts } = message;
    let id = id_of(&info);
    let at = millis(&info, "created").unwrap_or(Timestamp::UNKNOWN);
    let mut converter = PartConverter::default();
    let is_synthetic =
        |part: &Fields| text(part, "type") != Some("text") || part.get("synthetic") == Some(&json!(true));
    let injected = role == Role::User
        && !exported_parts.is_empty()
        && exported_parts.iter().all(is_synthetic)
        && exported_parts.iter().any(|part| text(part, "type") == Some("text"));
    let rests: Vec<Value> = exported_parts.into_iter().map(|part| converter.convert(part)).collect();
    if rests.iter().any(|rest| !rest.is_null()) {
        info.insert("parts".into(), Value::Array(rests));
    }
    let PartConverter { parts, attachments, answers } = converter;
    let usage = info.get("tokens").and_then(Value::as_object).and_then(token_usage);
    let assistant = |key: &str| text(&info, key).map(str::to_owned).filter(|_| role == Role::Assistant);
    let (model, agent) = (assistant("modelID"), assistant("agent"));
    let mut imported = ImportedMessage::new(NAME, id.clone(), role, parts, at)
        .flagged(MessageFlag::Injected, injected)
        .flagged(MessageFlag::Error, info.get("error").is_some_and(Value::is_object))
        .with_record(info);
    imported.attachments = attachments;
    imported.draft.usage = usage;
    imported.draft.model = model;
    imported.draft.agent = agent;
    let mut converted = vec![imported];
    let message_of_hfs = MessageIds::message_of(&id);
    if let (Some(of_hfs), Some(first)) = (message_of_hfs, converted.first_mut()) {
        first.draft.source = Some(MessageSource::hfs(of_hfs));
    }
    for (number, answer) in answers.into_iter().enumerate() {
        let ToolAnswer { result, output, time, written_from } = answer;
        let mut parts = vec![result];
        parts.extend(output.files);
        let id = format!("{id}/tool-{number}");
        let mut message = ImportedMessage::new(NAME, id, Role::Tool, parts, time.unwrap_or(at));
        message.attachments = output.attachments;
        if let Some(of_hfs) = written_from.or(message_of_hfs) {
            message.draft.source = Some(MessageSource::hfs(of_hfs));
        }
        converted.push(message);
    }
    converted
}

fn token_usage(tokens: &Fields) -> Option<TokenUsage> {
    let cache = tokens.get("cache").and_then(Value::as_object);
    let cached = |key: &str| cache.and_then(|cache| number(cache, key));
    let count = |key: &str| number(tokens, key);
    usage(&[count("input"), cached("read"), cached("write")], &[count("output"), count("reasoning")])
        .map(|usage| usage.with_cache(cached("read"), cached("write")))
}

#[derive(Default)]
struct PartConverter {
    parts: Vec<Part>,
    attachments: Vec<Attachment>,
    answers: Vec<ToolAnswer>,
}

impl PartConverter {
    /// Converts a part. Returns its fields that did not become content, for the stored record; null if there are none.
    fn convert(&mut self, mut part: Fields) -> Value {
        match text(&part, "type") {
            Some(kind @ ("text" | "reasoning")) if part.get("text").is_some_and(Value::is_string) => {
                let is_text = kind == "text";
                if let Some(Value::String(text)) = part.shift_remove("text") {
                    self.parts.push(if is_text {
                        Part::Text { text }
                    } else {
                        Part::Thinking { text, signature: None }
                    });
                    return Value::Object(part);
                }
            }
            Some("tool") => return self.tool(part),
            Some("file") => {
                let media_type = text(&part, "mime").unwrap_or("application/octet-stream").to_owned();
                let name = text(&part, "filename").map(str::to_owned);
                let file = text(&part, "url").and_then(|url| FilePart::at_url(url, &media_type, name));
                if let Some(file) = file {
                    if file.attachment.is_some() {
                        part.shift_remove("url");
                    }
                    self.parts.push(file.part);
                    self.attachments.extend(file.attachment);
                    return Value::Object(part);
                }
            }
            _ => {}
        }
        self.parts.push(Part::Opaque { source: NAME.into(), raw: Value::Object(part) });
        Value::Null
    }

    fn tool(&mut self, mut part: Fields) -> Value {
        let id = text(&part, "callID").unwrap_or_default().to_owned();
        let name = text(&part, "tool").unwrap_or_default().to_owned();
        let mut input = Value::Null;
        let ended = part
            .get("state")
            .and_then(|state| state.get("time")?.get("end"))
            .and_then(crate::time::from_json);
        if let Some(Value::Object(state)) = part.get_mut("state") {
            input = state.shift_remove("input").unwrap_or_default();
            let is_error = text(state, "status") == Some("error");
            if is_error || text(state, "status") == Some("completed") {
                let key = if is_error { "error" } else { "output" };
                let mut output = ToolOutput::new(&state.shift_remove(key).unwrap_or_default());
                if let Some(Value::Array(files)) = state.get_mut("attachments") {
                    files.retain_mut(|file| !add_attachment(file, &mut output));
                }
                let text = std::mem::take(&mut output.text);
                let result = Part::ToolResult { id: id.clone(), output: text, is_error };
                let written_from =
                    state.get("metadata").and_then(|fields| written_from(fields.get(WRITTEN)?));
                self.answers.push(ToolAnswer { result, output, time: ended, written_from });
            }
        }
        self.parts.push(Part::ToolCall { id, name, input });
        Value::Object(part)
    }
}

/// Adds a file of a tool's output; returns whether it is stored now.
fn add_attachment(file: &Value, output: &mut ToolOutput) -> bool {
    let Some(fields) = file.as_object() else { return false };
    let media_type = text(fields, "mime").unwrap_or("application/octet-stream");
    let name = text(fields, "filename").map(str::to_owned);
    let Some(file) = text(fields, "url").and_then(|url| FilePart::at_url(url, media_type, name)) else {
        return false;
    };
    let is_stored = file.attachment.is_some();
    output.files.push(file.part);
    output.attachments.extend(file.attachment);
    is_stored
}
