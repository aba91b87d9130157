//! opencode: its database, its older storage folder, and the export of one session.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use hfs_core::{
    Continuation, ImportError, MessageId, Part, Project, Role, Source as MessageSource, Timestamp, Usage,
};
use serde_json::{Map, Value};

use super::conversation::{BufferedExport, ConversationTree, ImportedMessage, inline_image, number, text};
use crate::database::{Database, text_column};
use crate::detect::FormatProbe;
use crate::json::parse;
use crate::readers::{Output, written_from};
use crate::source::{Links, open_file};
use crate::transcript::{MessageIds, WRITTEN};
use crate::{Format, Source};

const NAME: &str = "opencode";

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
            return read_storage(source, folder, out);
        }
        if FormatProbe::new(source)?.is_database() {
            return read_database(source, out);
        }
        read_export(source, out)
    }
}

type Fields = Map<String, Value>;

/// A message with its parts, as exported.
struct ExportedMessage {
    info: Fields,
    parts: Vec<Fields>,
}

fn read_export(source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
    let mut export = BufferedExport::read(source, "messages", out)?;
    let info = export.metadata.shift_remove("info").and_then(object).unwrap_or_default();
    let messages = std::mem::take(&mut export.messages).into_iter().map(split_message).collect();
    let mut conversation = to_conversation(source, info, messages);
    export.count_unreadable(&mut conversation.report);
    conversation.send_to(out)
}

fn split_message(mut message: Fields) -> ExportedMessage {
    let info = message.shift_remove("info").and_then(object).unwrap_or_default();
    let parts = match message.shift_remove("parts") {
        Some(Value::Array(parts)) => parts.into_iter().filter_map(object).collect(),
        _ => Vec::new(),
    };
    ExportedMessage { info, parts }
}

fn object(value: Value) -> Option<Fields> {
    if let Value::Object(fields) = value { Some(fields) } else { None }
}

fn read_database(source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
    let database = Database::open(source)?;
    let mut sessions = Vec::new();
    database.rows("select * from session order by time_created, id", &[], &mut |row| {
        sessions.push(row.fields);
        Ok(())
    })?;
    for info in sessions {
        out.progress(0)?;
        let id = text(&info, "id").unwrap_or_default().to_owned();
        let mut parts: HashMap<String, Vec<Fields>> = HashMap::new();
        database.rows("select * from part where session_id = ?1 order by id", &[&id], &mut |row| {
            parts.entry(text_column(&row, "message_id")).or_default().push(with_id(&row.fields));
            Ok(())
        })?;
        let mut messages = Vec::new();
        let sql = "select * from message where session_id = ?1 order by time_created, id";
        database.rows(sql, &[&id], &mut |row| {
            let parts = parts.remove(&text_column(&row, "id")).unwrap_or_default();
            messages.push(ExportedMessage { info: with_id(&row.fields), parts });
            Ok(())
        })?;
        to_conversation(source, info, messages).send_to(out)?;
    }
    Ok(())
}

/// A row's JSON data with the row's id added, as in the other forms of the format.
fn with_id(row: &Fields) -> Fields {
    let data = text(row, "data").and_then(parse).and_then(|parsed| object(parsed.value));
    let mut data = data.unwrap_or_default();
    data.insert("id".into(), row.get("id").cloned().unwrap_or_default());
    data
}

/// The JSON files of the subfolder that an id names, sorted by name. An id that is not a plain name could lead anywhere.
fn files_of(folder: &Path, id: &str) -> Vec<PathBuf> {
    let is_name = Path::new(id).file_name().is_some_and(|name| name == id);
    if is_name { files(&folder.join(id)) } else { Vec::new() }
}

/// The JSON files of a folder, sorted by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    // A link in the folder may lead to any file of the user.
    if !fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir()) {
        return Vec::new();
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    files
}

fn read_file(path: &Path) -> Option<Fields> {
    let mut bytes = Vec::new();
    open_file(path, Links::Reject).ok()?.read_to_end(&mut bytes).ok()?;
    object(parse(&String::from_utf8_lossy(&bytes))?.value)
}

fn read_storage(source: &Source, folder: &Path, out: &mut Output<'_>) -> Result<(), ImportError> {
    let projects = fs::read_dir(folder.join("session")).map_err(|error| source.io(error))?;
    let mut sessions: Vec<PathBuf> = projects.flatten().flat_map(|project| files(&project.path())).collect();
    sessions.sort();
    for file in sessions {
        out.progress(0)?;
        let Some(info) = read_file(&file) else { continue };
        let id = text(&info, "id").unwrap_or_default().to_owned();
        let mut lost = 0;
        let mut messages = Vec::new();
        for file in files_of(&folder.join("message"), &id) {
            let Some(message) = read_file(&file) else {
                lost += 1;
                continue;
            };
            let parts = files_of(&folder.join("part"), text(&message, "id").unwrap_or_default());
            lost += parts.iter().filter(|file| read_file(file).is_none()).count();
            messages.push(ExportedMessage {
                parts: parts.iter().filter_map(|file| read_file(file)).collect(),
                info: message,
            });
        }
        let mut conversation = to_conversation(source, info, messages);
        for _ in 0..lost {
            conversation.report.dropped(None, "a file that is not valid JSON");
        }
        conversation.send_to(out)?;
    }
    Ok(())
}

fn millis(fields: &Fields, key: &str) -> Option<Timestamp> {
    fields.get("time")?.get(key).and_then(crate::time::from_json)
}

fn to_conversation(source: &Source, info: Fields, messages: Vec<ExportedMessage>) -> ConversationTree {
    let id = text(&info, "id").map(str::to_owned).or_else(|| source.stem()).unwrap_or_default();
    let continues = MessageIds::branch_of(&id).map(Continuation::Branch);
    let mut conversation = ConversationTree::new(source, NAME, id);
    conversation.session.continues = continues;
    conversation.session.title = text(&info, "title").filter(|title| !title.is_empty()).map(str::to_owned);
    conversation.session.automatic_name = true;
    let directory = text(&info, "directory").filter(|directory| !directory.is_empty());
    conversation.session.project =
        directory.map(|directory| Project { directory: directory.into(), repository: None });
    let mut last = None;
    for message in messages {
        last = last.max(millis(&message.info, "completed")).max(millis(&message.info, "created"));
        conversation.report.mapped();
        conversation.push_messages(to_messages(message));
    }
    conversation.session.updated_at = last;
    conversation.set_times_from_messages();
    conversation.session.extra.insert(NAME.into(), Value::Object(info));
    conversation
}

/// Converts a message; the results of its tool calls become messages of their own.
fn to_messages(message: ExportedMessage) -> Vec<ImportedMessage> {
    let ExportedMessage { info, parts: exported_parts } = message;
    let id = text(&info, "id").unwrap_or_default().to_owned();
    let role = if text(&info, "role") == Some("user") { Role::User } else { Role::Assistant };
    let at = millis(&info, "created").unwrap_or(Timestamp::UNIX_EPOCH);
    let mut parts = Vec::new();
    let mut attachments = Vec::new();
    let mut tools = Vec::new();
    for part in exported_parts {
        parts.push(self::part(part, &mut attachments, &mut tools));
    }
    let usage = info.get("tokens").and_then(Value::as_object).map(|tokens| {
        let cache = tokens.get("cache").and_then(Value::as_object);
        let cached =
            cache.map_or(0, |cache| number(cache, "read").unwrap_or(0) + number(cache, "write").unwrap_or(0));
        Usage {
            prompt_tokens: number(tokens, "input").unwrap_or(0) + cached,
            completion_tokens: number(tokens, "output").unwrap_or(0)
                + number(tokens, "reasoning").unwrap_or(0),
        }
    });
    let model = text(&info, "modelID").map(str::to_owned).filter(|_| role == Role::Assistant);
    let agent = text(&info, "agent").map(str::to_owned).filter(|_| role == Role::Assistant);
    let message_of_hfs = MessageIds::message_of(&id);
    let mut imported = ImportedMessage::new(NAME, id.clone(), role, parts, at).with_record(info);
    if let Some(message) = message_of_hfs {
        imported.draft.source = Some(MessageSource::hfs(message));
    }
    imported.attachments = attachments;
    imported.draft.usage = usage;
    imported.draft.model = model;
    imported.draft.agent = agent;
    let mut converted = vec![imported];
    for (number, ToolAnswer { part, time, written_from }) in tools.into_iter().enumerate() {
        let id = format!("{id}/tool-{number}");
        let mut answer = ImportedMessage::new(NAME, id, Role::Tool, vec![part], time.unwrap_or(at));
        if let Some(message) = written_from.or(message_of_hfs) {
            answer.draft.source = Some(MessageSource::hfs(message));
        }
        converted.push(answer);
    }
    converted
}

/// The result of a tool.
struct ToolAnswer {
    part: Part,
    time: Option<Timestamp>,
    /// The message of hfs from which an export wrote it.
    written_from: Option<MessageId>,
}

fn part(part: Fields, attachments: &mut Vec<hfs_core::Attachment>, tools: &mut Vec<ToolAnswer>) -> Part {
    let field = |key: &str| text(&part, key).map(str::to_owned);
    match text(&part, "type") {
        Some("text") if field("text").is_some() => Part::Text { text: field("text").unwrap_or_default() },
        Some("reasoning") => Part::Thinking { text: field("text").unwrap_or_default(), signature: None },
        Some("tool") => {
            let id = field("callID").unwrap_or_default();
            let state = part.get("state").and_then(Value::as_object).cloned().unwrap_or_default();
            let status = text(&state, "status").unwrap_or_default();
            if matches!(status, "completed" | "error") {
                let key = if status == "error" { "error" } else { "output" };
                let output = text(&state, key).unwrap_or_default().to_owned();
                let answer = Part::ToolResult { id: id.clone(), output, is_error: status == "error" };
                let written_from =
                    state.get("metadata").and_then(|fields| written_from(fields.get(WRITTEN)?));
                tools.push(ToolAnswer { part: answer, time: millis(&state, "end"), written_from });
            }
            Part::ToolCall {
                id,
                name: field("tool").unwrap_or_default(),
                input: state.get("input").cloned().unwrap_or_default(),
            }
        }
        Some("file") => {
            let media_type = field("mime").unwrap_or_else(|| "application/octet-stream".into());
            let url = field("url").unwrap_or_default();
            let name = field("filename");
            match url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
                Some((_, data)) => {
                    let (part, attachment) = inline_image(&media_type, data, name);
                    attachments.extend(attachment);
                    part
                }
                None => Part::Attachment { media_type, name: name.or(Some(url)), hash: None, bytes: 0 },
            }
        }
        _ => Part::Opaque { source: NAME.into(), raw: Value::Object(part) },
    }
}
