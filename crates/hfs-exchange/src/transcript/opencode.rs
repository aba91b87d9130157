//! Writes an opencode export with the history of the current branch.
//!
//! opencode stores the result of a tool in the part of the call. It sorts messages by time and then by id, and compares
//! ids to decide whether a prompt was answered, so both have to ascend, and ids have to be lower than those that opencode
//! generates. `opencode import` keeps what it has of a session, message and part with the same id; an export that was
//! imported before therefore adds only what is new. For that, what opencode added to this session keeps its ids, and
//! a message that two branches share has another id in each of their sessions.

use std::collections::HashMap;
use std::io::Write;

use hfs_core::{BranchId, Message, MessageId, Part, Role, Session};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::pairing::{CallIds, Pairing, Step, object_input};
use super::{
    AttachedFile, MESSAGE, SentFiles, TranscriptOptions, TranscriptReport, TranscriptTime, WRITTEN,
    attached_file, for_each_current_message, is_blank, is_context, session_time,
};
use crate::Format;
use crate::export::{DocumentSource, ExportError};
use crate::readers::RECORDS;
use crate::readers::conversation::text;

const NAME: &str = Format::OpenCode.as_str();
/// The version of opencode that is written into the export.
const VERSION: &str = "1.18.0";
/// The model of a session that has none of opencode: opencode offers it without an account.
const DEFAULT_MODEL: (&str, &str) = ("opencode", "big-pickle");
/// Error text of a call without a result.
const NO_RESULT: &str = "[no result of this call is known]";
/// Providers of opencode, by the beginning of their models' names.
const PROVIDERS: [(&str, &str); 8] = [
    ("claude-", "anthropic"),
    ("gpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("gemini-", "google"),
    ("grok-", "xai"),
    ("deepseek-", "deepseek"),
];

/// The id of the session in opencode: the branch's, because an export contains the history of one branch.
pub(crate) fn session_id(branch: BranchId) -> String {
    format!("ses_{}", branch.as_uuid().simple())
}

/// Ids in an export, and the ids of hfs that they contain.
pub(crate) struct MessageIds;

impl MessageIds {
    /// Number of hexadecimal digits of the seq. It makes ids ascend. Ids of opencode have as many digits of the time.
    const SEQ_DIGITS: usize = 12;
    /// Number of hexadecimal digits of a message's id.
    const ID_DIGITS: usize = 32;

    /// What the ids of a message and its parts have in common. Ids are unique among all sessions of opencode, so those of
    /// a message of another branch also contain the end of the current branch's id, which is random.
    fn stem(message: &Message, current: BranchId) -> String {
        let id = message.content.id.as_uuid().simple();
        let branch = current.as_uuid().simple().to_string();
        let branch = if message.branch == current { "" } else { branch.get(24..).unwrap_or_default() };
        format!("{:012x}{id}{branch}", message.seq)
    }

    /// The branch that this session of opencode continues.
    pub(crate) fn branch_of(session: &str) -> Option<BranchId> {
        uuid_of(session.strip_prefix("ses_")?).map(BranchId::from_uuid)
    }

    /// The message of hfs from which this message of opencode was written.
    pub(crate) fn message_of(message: &str) -> Option<MessageId> {
        let digits = message.strip_prefix("msg_")?.get(Self::SEQ_DIGITS..)?;
        let (id, branch) = digits.split_at_checked(Self::ID_DIGITS)?;
        (branch.is_empty() || branch.len() == 8).then(|| uuid_of(id)).flatten().map(MessageId::from_uuid)
    }
}

/// A UUID without hyphens.
fn uuid_of(digits: &str) -> Option<Uuid> {
    let is_simple = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_simple.then(|| Uuid::try_parse(digits).ok()).flatten()
}

pub(super) fn write(
    source: &dyn DocumentSource,
    options: TranscriptOptions<'_>,
    out: &mut dyn Write,
) -> Result<TranscriptReport, ExportError> {
    let session = source.session()?;
    let model = match options.opencode_model.and_then(|model| model.split_once('/')) {
        Some((provider, model)) => (provider.to_owned(), model.to_owned()),
        None => (DEFAULT_MODEL.0.to_owned(), DEFAULT_MODEL.1.to_owned()),
    };
    let mut writer = ExportWriter {
        source,
        session_id: session_id(session.current_branch),
        session: &session,
        out,
        time: TranscriptTime::new(&session),
        ids: CallIds::default(),
        pairing: Pairing::new(options.open_calls),
        current: None,
        parent: format!("msg_{}", "0".repeat(MessageIds::SEQ_DIGITS)),
        model,
        written: 0,
        report: TranscriptReport::default(),
    };
    writer.begin()?;
    for_each_current_message(source, &session, &mut |message| {
        writer.pairing.push(message, &mut writer.ids, &mut writer.report);
        writer.write_pending(false)
    })?;
    writer.write_pending(true)?;
    writer.flush()?;
    let report = writer.report;
    writeln!(out, "\n]}}")?;
    Ok(report)
}

struct ExportWriter<'a> {
    source: &'a dyn DocumentSource,
    session: &'a Session,
    session_id: String,
    out: &'a mut dyn Write,
    time: TranscriptTime,
    ids: CallIds,
    pairing: Pairing,
    /// The newest message, which the results of its calls are added to.
    current: Option<ExportedMessage>,
    /// Id of the user's newest message, to which replies refer.
    parent: String,
    /// Provider and model of the user's next message: those of the newest message of opencode, if there is one.
    model: (String, String),
    written: usize,
    report: TranscriptReport,
}

/// A message that is complete when the next one follows.
struct ExportedMessage {
    info: Value,
    parts: Vec<Value>,
    /// The states of calls as opencode wrote them, without input and output, by the calls' ids in the export.
    states: HashMap<String, Map<String, Value>>,
}

impl ExportWriter<'_> {
    fn directory(&self) -> &str {
        self.session.project.as_ref().map_or("/", |project| project.directory.as_str())
    }

    fn begin(&mut self) -> std::io::Result<()> {
        let millis = |at: hfs_core::Timestamp| at.as_micros() / 1000;
        let created = session_time(self.session);
        let info = json!({
            "id": self.session_id, "slug": "hfs", "projectID": "global", "directory": self.directory(),
            "title": self.session.name, "version": VERSION,
            "time": {"created": millis(created), "updated": millis(self.session.updated_at.max(created))},
        });
        write!(self.out, "{{\"info\":{info},\n\"messages\":[")
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let Some(ExportedMessage { info, parts, .. }) = self.current.take() else { return Ok(()) };
        let comma = if self.written == 0 { "" } else { "," };
        self.written += 1;
        write!(self.out, "{comma}\n{}", json!({"info": info, "parts": parts}))
    }

    fn write_pending(&mut self, all: bool) -> Result<(), ExportError> {
        while let Some(steps) = self.pairing.next(all, &mut self.report) {
            for step in steps {
                match step {
                    Step::Message { message, parts } => {
                        self.flush()?;
                        self.current = self.message(&message, &parts)?;
                    }
                    Step::Results { message, parts } => self.add_results(&message, &parts)?,
                    // `part` writes a call as failed; `add_results` changes that.
                    Step::Unanswered { .. } => {}
                }
            }
        }
        Ok(())
    }

    /// Converts a message; `None` if opencode has no place for it.
    fn message(&mut self, message: &Message, parts: &[Part]) -> Result<Option<ExportedMessage>, ExportError> {
        let content = &message.content;
        // opencode adds its own system prompt, and its format has no role for another one.
        if content.role == Role::System {
            self.report.instructions += 1;
            return Ok(None);
        }
        let original = original_info(message);
        if let Some(info) = original {
            let model = |fields: &Map<String, Value>| {
                let text = |key| text(fields, key).filter(|text| !text.is_empty());
                Some((text("providerID")?.to_owned(), text("modelID")?.to_owned()))
            };
            let found = info.get("model").and_then(Value::as_object).and_then(model).or_else(|| model(info));
            if let Some(found) = found {
                self.model = found;
            }
        }
        let stem = MessageIds::stem(message, self.session.current_branch);
        // What opencode added to this very session.
        let is_own = original.and_then(|info| text(info, "sessionID")) == Some(&self.session_id);
        let own = original
            .filter(|_| is_own)
            .and_then(|info| text(info, "id"))
            .map_or_else(|| format!("msg_{stem}"), str::to_owned);
        let at = self.time.ascending(message).as_micros() / 1000;
        // One for each part, unless the message was changed.
        let originals = original.and_then(|info| info.get("parts")?.as_array());
        let originals = originals.filter(|originals| originals.len() == parts.len());
        let mut exported = Vec::with_capacity(parts.len());
        let mut states = HashMap::new();
        for (number, part) in parts.iter().enumerate() {
            let original = originals.and_then(|originals| originals.get(number)?.as_object());
            if is_blank(part) && !is_own {
                continue;
            }
            let Some(Value::Object(mut fields)) = self.part(message, part, at)? else { continue };
            fields.retain(|_, value| !value.is_null());
            for (key, value) in original.into_iter().flatten() {
                match (key.as_str(), part, value) {
                    ("state", Part::ToolCall { id, .. }, Value::Object(state)) => {
                        states.insert(id.clone(), state.clone());
                    }
                    ("callID" | "tool", ..) => {}
                    _ => {
                        fields.insert(key.clone(), value.clone());
                    }
                }
            }
            // The reader adds the time of a row, which is no time of a part in an export.
            if fields.get("time").is_some_and(|time| time.get("start").is_none()) {
                fields.shift_remove("time");
            }
            let has_own_id = is_own && text(&fields, "id").is_some();
            if !has_own_id {
                fields.insert("id".into(), format!("prt_{stem}{number:04x}").into());
            }
            fields.insert("sessionID".into(), self.session_id.as_str().into());
            fields.insert("messageID".into(), own.as_str().into());
            exported.push(Value::Object(fields));
        }
        // A reply that consists of reasoning would be empty for the model, which some APIs reject.
        let is_reasoning = |part: &Value| part.get("type").and_then(Value::as_str) == Some("reasoning");
        if original.is_none() && exported.iter().all(is_reasoning) {
            self.report.thinking += exported.len() as u64;
            return Ok(None);
        }
        let mut info = original.cloned().unwrap_or_default();
        // What the reader stored of the parts.
        info.shift_remove("parts");
        let is_reply = content.role == Role::Assistant;
        let defaults = if is_reply { self.reply_info(message, parts, at) } else { self.prompt_info(at) };
        for (key, value) in defaults.as_object().into_iter().flatten() {
            if !info.contains_key(key) {
                info.insert(key.clone(), value.clone());
            }
        }
        info.insert("id".into(), own.as_str().into());
        info.insert("sessionID".into(), self.session_id.as_str().into());
        if let Some(Value::Object(time)) = info.get_mut("time") {
            time.insert("created".into(), at.into());
        }
        if is_reply {
            info.insert("parentID".into(), self.parent.as_str().into());
        } else {
            self.parent = own;
        }
        Ok(Some(ExportedMessage { info: Value::Object(info), parts: exported, states }))
    }

    fn prompt_info(&self, at: i64) -> Value {
        let (provider, model) = &self.model;
        json!({
            "role": "user", "time": {"created": at}, "agent": "build",
            "model": {"providerID": provider, "modelID": model},
        })
    }

    fn reply_info(&self, message: &Message, parts: &[Part], at: i64) -> Value {
        let (provider, model) = match message.content.model.as_deref() {
            Some(name) => PROVIDERS
                .iter()
                .find(|(prefix, _)| name.starts_with(prefix))
                .map_or((self.model.0.as_str(), self.model.1.as_str()), |(_, provider)| (*provider, name)),
            None => (self.model.0.as_str(), self.model.1.as_str()),
        };
        let usage = message.content.usage.unwrap_or_default();
        let has_calls = parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
        json!({
            "role": "assistant", "mode": "build", "agent": "build",
            "path": {"cwd": self.directory(), "root": self.directory()}, "cost": 0,
            "modelID": model, "providerID": provider, "time": {"created": at, "completed": at},
            "finish": if has_calls { "tool-calls" } else { "stop" },
            "tokens": {
                "input": usage.uncached_tokens(), "output": usage.completion_tokens, "reasoning": 0,
                "cache": {
                    "read": usage.cache_read_tokens.unwrap_or(0),
                    "write": usage.cache_write_tokens.unwrap_or(0),
                },
            },
        })
    }

    fn part(&mut self, message: &Message, part: &Part, at: i64) -> Result<Option<Value>, ExportError> {
        let is_reply = message.content.role == Role::Assistant;
        Ok(Some(match part {
            Part::Text { text } if is_context(&message.content) => {
                json!({"type": "text", "text": text, "synthetic": true})
            }
            Part::Text { text } => json!({"type": "text", "text": text}),
            // Text of the user cannot be reasoning.
            Part::Thinking { text, .. } if text.is_empty() || !is_reply => {
                self.report.thinking += 1;
                return Ok(None);
            }
            Part::Thinking { text, .. } => {
                json!({"type": "reasoning", "text": text, "time": {"start": at, "end": at}})
            }
            Part::ToolCall { id, name, input } => {
                // opencode does not execute an imported call, so a pending one would never end.
                let state = json!({
                    "status": "error", "input": object_input(input), "error": NO_RESULT,
                    "time": {"start": at, "end": at},
                });
                json!({"type": "tool", "callID": id, "tool": name, "state": state})
            }
            // `Pairing` has moved the results.
            Part::ToolResult { .. } => return Ok(None),
            Part::Opaque { source, raw } if source == NAME && raw.is_object() => raw.clone(),
            Part::Opaque { .. } => {
                self.report.opaque += 1;
                return Ok(None);
            }
            Part::Attachment { .. } => match self.file(part)? {
                Ok(file) => file,
                Err(label) => json!({"type": "text", "text": label}),
            },
        }))
    }

    /// A file part, or a text in place of it.
    fn file(&mut self, part: &Part) -> Result<Result<Value, String>, ExportError> {
        let Part::Attachment { media_type, name, hash, bytes } = part else { return Ok(Err(String::new())) };
        let file = (media_type.as_str(), name.as_deref(), *hash, *bytes);
        Ok(match attached_file(self.source, SentFiles::ImagesAndPdfs, file, &mut self.report)? {
            AttachedFile::Content { media_type, base64 } => {
                let url = AttachedFile::data_url(&media_type, &base64);
                Ok(match name {
                    Some(name) => json!({"type": "file", "mime": media_type, "filename": name, "url": url}),
                    None => json!({"type": "file", "mime": media_type, "url": url}),
                })
            }
            AttachedFile::Name(label) => Err(label),
        })
    }

    /// Adds results to the calls of the newest message.
    fn add_results(&mut self, message: &Message, parts: &[Part]) -> Result<(), ExportError> {
        let at = self.time.ascending(message).as_micros() / 1000;
        let Some(mut current) = self.current.take() else { return Ok(()) };
        let mut answered: Option<usize> = None;
        for (number, part) in parts.iter().enumerate() {
            if let Part::ToolResult { id, output, is_error } = part {
                answered = current
                    .parts
                    .iter()
                    .position(|call| call.get("callID").and_then(Value::as_str) == Some(id));
                let original = current.states.remove(id).unwrap_or_default();
                let Some(state) = state_of(&mut current, answered) else { continue };
                state.insert("time".into(), json!({"start": at, "end": at}));
                state.extend(original);
                state.insert("status".into(), if *is_error { "error" } else { "completed" }.into());
                let metadata = state.entry("metadata").or_insert_with(|| json!({}));
                if let Value::Object(metadata) = metadata {
                    metadata.insert(WRITTEN.into(), json!({ MESSAGE: message.content.id }));
                }
                if *is_error {
                    state.insert("error".into(), output.as_str().into());
                } else {
                    state.shift_remove("error");
                    state.insert("output".into(), output.as_str().into());
                    state.entry("title").or_insert_with(|| "".into());
                }
                continue;
            }
            // Pictures in a result.
            let file = self.file(part)?;
            let owner = current.info.get("id").cloned();
            let Some(state) = state_of(&mut current, answered) else { continue };
            match file {
                Ok(mut file) if state.contains_key("output") => {
                    if let Value::Object(fields) = &mut file {
                        let stem = MessageIds::stem(message, self.session.current_branch);
                        fields.insert("id".into(), format!("prt_{stem}{number:04x}").into());
                        fields.insert("sessionID".into(), self.session_id.as_str().into());
                        fields.insert("messageID".into(), owner.into());
                    }
                    match state.get_mut("attachments") {
                        Some(Value::Array(files)) => files.push(file),
                        _ => {
                            state.insert("attachments".into(), json!([file]));
                        }
                    }
                }
                // A failed call has no attachments in opencode's format.
                Ok(_) => self.report.attachments_by_name += 1,
                Err(label) => {
                    let key = if state.contains_key("output") { "output" } else { "error" };
                    let text = state.get(key).and_then(Value::as_str).unwrap_or_default();
                    let text = if text.is_empty() { label } else { format!("{text}\n{label}") };
                    state.insert(key.into(), text.into());
                }
            }
        }
        self.current = Some(current);
        Ok(())
    }
}

fn state_of(message: &mut ExportedMessage, part: Option<usize>) -> Option<&mut Map<String, Value>> {
    message.parts.get_mut(part?)?.get_mut("state")?.as_object_mut()
}

/// The fields of a message that was imported from opencode.
fn original_info(message: &Message) -> Option<&Map<String, Value>> {
    message.content.source.as_ref().filter(|source| source.format == NAME)?;
    let info = message.content.extra.get(RECORDS)?.get(0)?.as_object()?;
    info.contains_key("role").then_some(info)
}
