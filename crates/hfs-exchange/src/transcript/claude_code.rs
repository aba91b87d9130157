//! Writes a transcript of Claude Code with every branch. Its records form a tree, as do the branches of a
//! session.
//!
//! A record that was imported from Claude Code is restored from its stored form and from the parts of its
//! messages. `claude --resume` continues after the newest message of the file, unless a `last-prompt` record
//! refers to another one.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{
    Branch, BranchId, Message, MessageFlag, MessageId, Part, Role, Seq, Session, StoreError, Timestamp,
};
use serde_json::{Map, Value, json};
use uuid::{Builder, Uuid};

use super::pairing::{CallIds, OpenCall, OpenCalls, Pairing, Step, object_input};
use super::restore::slice;
use super::{
    AttachedFile, MESSAGE, PDF, SentFiles, TranscriptOptions, TranscriptReport, TranscriptTime, WRITTEN,
    attached_file, is_blank, is_context, write_record,
};
use crate::Format;
use crate::export::{DocumentSource, ExportError, PAGE};
use crate::readers::claude_code::{PART, QUEUED, TEXT, WITHOUT};
use crate::readers::{AFTER, BEFORE, RAW, RECORDS};

const NAME: &str = Format::ClaudeCode.as_str();
/// The version of Claude Code that is written into new records.
const VERSION: &str = "2.1.0";
/// The result of a call without one. The API rejects a call that has no result.
const NO_RESULT: &str = "[no result of this call is known]";
/// The text of the record that ends a turn without an answer.
const END_OF_TURN: &str = "[the turn ended here]";
/// The text of a first message of the user, if the session starts with the assistant. The API requires one.
const NO_PROMPT: &str = "[the session starts with the assistant's message]";

pub(super) fn write(
    source: &dyn DocumentSource,
    options: TranscriptOptions<'_>,
    out: &mut dyn Write,
) -> Result<TranscriptReport, ExportError> {
    let session = source.session()?;
    let branches = source.branches()?;
    let is_agent = options.is_resumed && is_agents_own(source, &branches)?;
    let mut writer = TranscriptWriter {
        source,
        out,
        session_id: session_id(&session),
        cwd: cwd(&session),
        time: TranscriptTime::new(&session),
        forks: HashMap::new(),
        ids: CallIds::default(),
        pairing: Pairing::new(options.open_calls),
        open_calls: options.open_calls,
        open: Vec::new(),
        seen: 0,
        started: false,
        end: None,
        newest: None,
        prompt: None,
        unanswered: None,
        wrote_new: false,
        wrote_last_prompt: false,
        restores: !is_agent,
        report: TranscriptReport::default(),
    };
    if writer.restores && session.origin.as_ref().is_some_and(|origin| origin.format == NAME) {
        for record in array(session.extra.get(RECORDS)) {
            writer.write_original(record)?;
        }
    }
    for branch in &branches {
        if let Some(parent) = branch.parent {
            writer.forks.entry(parent).or_default().insert(branch.forked_at, None);
        }
    }
    let mut current = (None, None, None);
    for branch in &branches {
        writer.prompt = None;
        writer.write_branch(branch, &branches)?;
        if branch.id == session.current_branch {
            current = (writer.end.clone(), writer.prompt.take(), writer.unanswered.take());
        }
    }
    let (mut end, prompt, unanswered) = current;
    if let Some(last) = unanswered.filter(|_| options.is_resumed) {
        writer.end = end;
        writer.write_end_of_turn(last)?;
        end = writer.end.clone();
    }
    writer.write_resume_point(end.as_deref(), &prompt.unwrap_or_default())?;
    Ok(writer.report)
}

/// Whether every message is one of an agent that works for another. Reads up to the first that is not.
fn is_agents_own(source: &dyn DocumentSource, branches: &[Branch]) -> Result<bool, ExportError> {
    let mut has_messages = false;
    for branch in branches {
        let mut after = branch.forked_at;
        loop {
            let page = source.messages(branch.id, after, PAGE)?;
            let Some(last) = page.last() else { break };
            if !page.iter().all(|message| message.content.has_flag(MessageFlag::Sidechain)) {
                return Ok(false);
            }
            has_messages = true;
            after = last.seq;
        }
    }
    Ok(has_messages)
}

/// The session id in the transcript: the original id if the session was imported from a file with this name, and the id
/// is a UUID, as Claude Code requires. A copy of a transcript gets the id of hfs, because the original may still be there.
pub(crate) fn session_id(session: &Session) -> String {
    let original = session.origin.as_ref().filter(|origin| origin.format == NAME);
    let original = original.and_then(|origin| origin.id.rsplit('/').next());
    match original.and_then(|id| Uuid::try_parse(id).ok()) {
        Some(uuid) => uuid.to_string(),
        None => session.id.to_string(),
    }
}

pub(crate) fn cwd(session: &Session) -> String {
    session.project.as_ref().map_or_else(|| "/".to_owned(), |project| project.directory.clone())
}

fn array(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The place in the transcript at which a branch forks.
#[derive(Clone, Default)]
struct ForkPoint {
    /// Id of the last record before the fork.
    end: Option<String>,
    /// The calls before the fork whose results, if any, are after it, with the message that contains them.
    open: Option<(Rc<Message>, Vec<OpenCall>)>,
}

struct TranscriptWriter<'a> {
    source: &'a dyn DocumentSource,
    out: &'a mut dyn Write,
    session_id: String,
    cwd: String,
    time: TranscriptTime,
    /// The places after which branches fork, by parent branch and seq; `None` until the message was written.
    forks: HashMap<BranchId, BTreeMap<Seq, Option<ForkPoint>>>,
    ids: CallIds,
    pairing: Pairing,
    open_calls: OpenCalls,
    /// Ids of the calls in records of Claude Code that have no result so far on the branch that is being written.
    open: Vec<String>,
    /// The seq of the newest message that was read of the branch that is being written.
    seen: Seq,
    /// Whether the history of the branch that is being written has a message for the model.
    started: bool,
    /// Id of the last record of the branch that is being written.
    end: Option<String>,
    /// Id of the newest record that is not part of a sidechain.
    newest: Option<String>,
    /// The user's last prompt on the branch that is being written.
    prompt: Option<String>,
    /// The newest message of the branch that is being written, if its record is one of the user's side.
    unanswered: Option<(MessageId, Timestamp)>,
    /// Whether a record was created for a message that was not imported from Claude Code.
    wrote_new: bool,
    /// Whether a `last-prompt` record was written.
    wrote_last_prompt: bool,
    /// Whether records of Claude Code are written as they came. Not those of an agent's own transcript, which Claude Code
    /// does not resume.
    restores: bool,
    report: TranscriptReport,
}

impl TranscriptWriter<'_> {
    /// Writes a `last-prompt` record that refers to `end`, unless a resume continues after `end` anyway. A
    /// resume continues after the newest record, unless an imported `last-prompt` record refers to an older one.
    fn write_resume_point(&mut self, end: Option<&str>, prompt: &str) -> Result<(), ExportError> {
        if end.is_some() && (end != self.newest.as_deref() || self.wrote_new && self.wrote_last_prompt) {
            let record = json!({
                "type": "last-prompt", "lastPrompt": prompt, "leafUuid": end, "sessionId": self.session_id,
            });
            write_record(self.out, &record)?;
        }
        Ok(())
    }

    /// Writes a branch's own messages. Afterwards, `end` is the last record of its history.
    fn write_branch(&mut self, branch: &Branch, all: &[Branch]) -> Result<(), ExportError> {
        let fork = self.fork_point(branch, all);
        self.end = fork.end;
        self.unanswered = None;
        self.started = branch.forked_at > 0;
        self.open.clear();
        self.pairing = match fork.open {
            Some((message, open)) => Pairing::resume(message, open),
            None => Pairing::new(self.open_calls),
        };
        let mut after = branch.forked_at;
        let mut group: Vec<Message> = Vec::new();
        loop {
            let page = self.source.messages(branch.id, after, PAGE)?;
            let Some(end) = page.last() else { break };
            after = end.seq;
            for message in page {
                if message.content.role == Role::User && !is_context(&message.content) {
                    self.prompt = Some(message.content.text());
                }
                if !continues(&group, &message) {
                    self.write_group(std::mem::take(&mut group))?;
                }
                group.push(message);
            }
        }
        self.write_group(group)?;
        self.write_pending(true)
    }

    fn fork_point(&self, branch: &Branch, all: &[Branch]) -> ForkPoint {
        let mut branch = branch;
        let seq = branch.forked_at;
        for _ in 0..=all.len() {
            let Some(parent) = branch.parent else { break };
            if let Some(Some(point)) = self.forks.get(&parent).and_then(|points| points.get(&seq)) {
                return point.clone();
            }
            let Some(next) = all.iter().find(|other| other.id == parent) else { break };
            branch = next;
        }
        ForkPoint::default()
    }

    /// Writes the messages of one record of Claude Code, or one message of another source.
    fn write_group(&mut self, group: Vec<Message>) -> Result<(), ExportError> {
        let Some(last) = group.last() else { return Ok(()) };
        self.seen = last.seq;
        if self.restores && group.first().is_some_and(is_original) {
            self.write_pending(true)?;
            return self.write_original_group(&group);
        }
        for message in group {
            self.write_unanswered_originals(&message)?;
            self.pairing.push(message, &mut self.ids, &mut self.report);
            self.write_pending(false)?;
        }
        Ok(())
    }

    /// Writes the records that a group of messages was imported from.
    fn write_original_group(&mut self, group: &[Message]) -> Result<(), ExportError> {
        let Some(first) = group.first() else { return Ok(()) };
        self.started = true;
        for record in array(first.content.extra.get(BEFORE)) {
            self.write_original(record)?;
        }
        let restorer = RecordRestorer { source: self.source, messages: group, missing: Cell::new(0) };
        for record in array(first.content.extra.get(RECORDS)) {
            let record = match record.get("$event") {
                Some(event) => {
                    self.write_original(event)?;
                    continue;
                }
                None if record.get(RAW).is_some() => record.clone(),
                None => restorer.record(record)?,
            };
            // The conversation does not continue after an agent's messages, but after the record that precedes them.
            if let Some(uuid) = record.get("uuid").and_then(Value::as_str)
                && record.get("isSidechain") != Some(&true.into())
            {
                self.end = Some(uuid.to_owned());
                self.newest.clone_from(&self.end);
                self.unanswered = None;
            }
            self.write_original(&record)?;
        }
        self.report.missing_attachments += restorer.missing.get();
        for message in group {
            for record in array(message.content.extra.get(AFTER)) {
                self.write_original(record)?;
            }
            let is_sidechain = message.content.has_flag(MessageFlag::Sidechain);
            for part in &message.content.parts {
                match part {
                    Part::ToolCall { id, .. } => {
                        self.ids.reserve(id);
                        if !is_sidechain {
                            self.open.push(id.clone());
                        }
                    }
                    Part::ToolResult { id, .. } => self.open.retain(|open| open != id),
                    _ => {}
                }
            }
            self.reach(message, None);
        }
        Ok(())
    }

    /// Answers calls of Claude Code that have no result, before a message that Claude Code did not write.
    fn write_unanswered_originals(&mut self, next: &Message) -> Result<(), ExportError> {
        let open = std::mem::take(&mut self.open);
        if !open.is_empty() {
            self.report.calls_without_result += open.len() as u64;
            let id = derived_id(&next.content.id, b"unanswered before");
            self.write_no_results(next, &id, &open)?;
        }
        Ok(())
    }

    /// Remembers the end of the transcript for branches that fork after this message or, if it is written before
    /// messages that precede it, after one of those.
    fn reach(&mut self, message: &Message, open: Option<&(Rc<Message>, Vec<OpenCall>)>) {
        let (seq, seen) = (message.seq, self.seen.max(message.seq));
        if let Some(points) = self.forks.get_mut(&message.branch) {
            for point in points.range_mut(seq..=seen).map(|(_, point)| point) {
                *point = Some(ForkPoint { end: self.end.clone(), open: open.cloned() });
            }
        }
    }

    /// Writes an imported record unchanged.
    fn write_original(&mut self, record: &Value) -> Result<(), ExportError> {
        self.wrote_last_prompt |= record.get("type").and_then(Value::as_str) == Some("last-prompt");
        match record.get(RAW).and_then(Value::as_str) {
            Some(raw) => writeln!(self.out, "{}", raw.replace(['\n', '\r'], " "))?,
            None => write_record(self.out, record)?,
        }
        Ok(())
    }

    fn write_pending(&mut self, all: bool) -> Result<(), ExportError> {
        while let Some(steps) = self.pairing.next(all, &mut self.report) {
            // The calls that the following steps answer.
            let mut open: Option<(Rc<Message>, Vec<OpenCall>)> = None;
            for step in steps {
                match step {
                    Step::Message { message, parts } => {
                        self.write_message(&message, &parts)?;
                        let calls = parts.iter().filter_map(|part| match part {
                            Part::ToolCall { id, .. } => Some(id),
                            _ => None,
                        });
                        let originals = message.content.parts.iter().filter_map(|part| match part {
                            Part::ToolCall { id, .. } => Some(id),
                            _ => None,
                        });
                        let calls: Vec<OpenCall> = calls
                            .zip(originals)
                            .map(|(id, original)| OpenCall { original: original.clone(), id: id.clone() })
                            .collect();
                        open = (!calls.is_empty()).then(|| (Rc::clone(&message), calls));
                        self.reach(&message, open.as_ref());
                    }
                    Step::Results { message, parts } => {
                        self.write_results(&message, &parts)?;
                        if let Some((_, calls)) = &mut open {
                            calls.retain(|call| !parts.iter().any(|part| is_result_of(part, &call.id)));
                        }
                        open = open.filter(|(_, calls)| !calls.is_empty());
                        self.reach(&message, open.as_ref());
                    }
                    Step::Unanswered { message, calls } => {
                        let id = derived_id(&message.content.id, b"unanswered");
                        let calls: Vec<String> = calls.into_iter().map(|call| call.id).collect();
                        self.write_no_results(&message, &id, &calls)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Writes a record that continues the branch.
    fn write_new(
        &mut self,
        message: &Message,
        uuid: &str,
        kind: &str,
        fields: Value,
    ) -> Result<(), ExportError> {
        let at = self.time.of(message);
        match kind {
            "user" => self.unanswered = Some((message.content.id, at)),
            "assistant" => self.unanswered = None,
            // Claude Code does not look at it when it resumes.
            _ => {}
        }
        self.write_new_record(message.content.id, at, uuid, kind, fields)
    }

    /// Writes that the turn has ended without an answer to its last record: an error of the API, which Claude Code does not send
    /// to the model. Otherwise it answers the record itself, with words that the model then reads as its own.
    fn write_end_of_turn(&mut self, (message, at): (MessageId, Timestamp)) -> Result<(), ExportError> {
        let id = derived_id(&message, b"end of turn");
        let reply = json!({
            "id": format!("msg_{}", message.as_uuid().simple()), "type": "message", "role": "assistant",
            "model": "<synthetic>", "content": [{"type": "text", "text": END_OF_TURN}],
            "stop_reason": "stop_sequence", "stop_sequence": "", "usage": {"input_tokens": 0, "output_tokens": 0},
        });
        let fields = json!({"message": reply, "isApiErrorMessage": true});
        self.write_new_record(message, at, &id, "assistant", fields)
    }

    fn write_new_record(
        &mut self,
        message: MessageId,
        at: Timestamp,
        uuid: &str,
        kind: &str,
        fields: Value,
    ) -> Result<(), ExportError> {
        let mut record = json!({
            "parentUuid": self.end, "isSidechain": false, "userType": "external", "cwd": self.cwd,
            "sessionId": self.session_id, "version": VERSION, "type": kind, "uuid": uuid,
            "timestamp": at, WRITTEN: {MESSAGE: message},
        });
        if let (Value::Object(record), Value::Object(fields)) = (&mut record, fields) {
            record.extend(fields);
        }
        write_record(self.out, &record)?;
        self.end = Some(uuid.to_owned());
        self.newest.clone_from(&self.end);
        self.wrote_new = true;
        Ok(())
    }

    fn write_message(&mut self, message: &Message, parts: &[Part]) -> Result<(), ExportError> {
        let content = &message.content;
        let uuid = content.id.to_string();
        if content.role == Role::System {
            // Shown to the user, but not sent to the model.
            self.report.instructions += 1;
            let fields = json!({"subtype": "informational", "content": content.text(), "isMeta": false});
            return self.write_new(message, &uuid, "system", fields);
        }
        let blocks = self.blocks(content.role, parts)?;
        if blocks.is_empty() {
            return Ok(());
        }
        let is_first = !std::mem::replace(&mut self.started, true);
        if content.role == Role::Assistant {
            if is_first {
                let id = derived_id(&content.id, b"first");
                let prompt = json!({"message": {"role": "user", "content": NO_PROMPT}, "isMeta": true});
                self.write_new(message, &id, "user", prompt)?;
            }
            let has_calls = parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
            let mut reply = json!({
                "id": format!("msg_{}", content.id.as_uuid().simple()), "type": "message", "role": "assistant",
                "model": content.model.as_deref().unwrap_or("unknown"), "content": blocks,
                "stop_reason": if has_calls { "tool_use" } else { "end_turn" }, "stop_sequence": null,
            });
            if let (Some(usage), Value::Object(reply)) = (content.usage, &mut reply) {
                let counts = [
                    ("input_tokens", Some(usage.uncached_tokens())),
                    ("cache_creation_input_tokens", usage.cache_write_tokens),
                    ("cache_read_input_tokens", usage.cache_read_tokens),
                    ("output_tokens", Some(usage.completion_tokens)),
                ];
                let counts =
                    counts.into_iter().filter_map(|(name, count)| Some((name.to_owned(), count?.into())));
                reply.insert("usage".into(), Value::Object(counts.collect()));
            }
            return self.write_new(message, &uuid, "assistant", json!({ "message": reply }));
        }
        let mut fields = json!({"message": {"role": "user", "content": blocks}});
        let flags = [
            ("isMeta", is_context(content)),
            ("isCompactSummary", content.has_flag(MessageFlag::CompactSummary)),
        ];
        if let Value::Object(fields) = &mut fields {
            fields.extend(
                flags.iter().filter(|(_, set)| *set).map(|(name, _)| ((*name).to_owned(), true.into())),
            );
        }
        self.write_new(message, &uuid, "user", fields)
    }

    /// Writes results from one message. A message whose results answer several messages becomes several records.
    fn write_results(&mut self, message: &Message, parts: &[Part]) -> Result<(), ExportError> {
        let mut blocks: Vec<Value> = Vec::new();
        let mut first = None;
        for part in parts {
            match part {
                Part::ToolResult { id, output, is_error } => {
                    first = first.or(Some(id));
                    let mut block = json!({"type": "tool_result", "tool_use_id": id, "content": output});
                    if let (true, Value::Object(fields)) = (*is_error, &mut block) {
                        fields.insert("is_error".into(), true.into());
                    }
                    blocks.push(block);
                }
                Part::Attachment { .. } => {
                    let attached = self.blocks(Role::Tool, std::slice::from_ref(part))?;
                    let Some(content) = blocks.last_mut().and_then(|block| block.get_mut("content")) else {
                        continue;
                    };
                    let mut items = match content.take() {
                        Value::Array(items) => items,
                        Value::String(text) if text.trim().is_empty() => Vec::new(),
                        text => vec![json!({"type": "text", "text": text})],
                    };
                    items.extend(attached);
                    *content = Value::Array(items);
                }
                _ => {}
            }
        }
        let uuid = match first {
            Some(id) if parts.len() < message.content.parts.len() => {
                derived_id(&message.content.id, id.as_bytes())
            }
            _ => message.content.id.to_string(),
        };
        self.write_new(message, &uuid, "user", json!({"message": {"role": "user", "content": blocks}}))
    }

    fn write_no_results(
        &mut self,
        message: &Message,
        uuid: &str,
        calls: &[String],
    ) -> Result<(), ExportError> {
        let result =
            |id| json!({"type": "tool_result", "tool_use_id": id, "content": NO_RESULT, "is_error": true});
        let blocks: Vec<Value> = calls.iter().map(result).collect();
        self.write_new(message, uuid, "user", json!({"message": {"role": "user", "content": blocks}}))
    }

    fn blocks(&mut self, role: Role, parts: &[Part]) -> Result<Vec<Value>, ExportError> {
        let mut blocks = Vec::new();
        for part in parts.iter().filter(|part| !is_blank(part)) {
            match part {
                Part::Text { text } => blocks.push(json!({"type": "text", "text": text})),
                // The API rejects thinking blocks without its own signature, such as those of other providers.
                Part::Thinking { .. } => self.report.thinking += 1,
                Part::Opaque { .. } => self.report.opaque += 1,
                Part::ToolCall { id, name, input } => {
                    let input = object_input(input);
                    blocks.push(json!({"type": "tool_use", "id": id, "name": name, "input": input}));
                }
                // `Pairing` has moved the results.
                Part::ToolResult { .. } => {}
                Part::Attachment { media_type, name, hash, bytes } => {
                    // The API accepts files from the user and from tools only.
                    let hash = hash.filter(|_| role != Role::Assistant);
                    let file = (media_type.as_str(), name.as_deref(), hash, *bytes);
                    blocks.push(
                        match attached_file(self.source, SentFiles::ImagesAndPdfs, file, &mut self.report)? {
                            AttachedFile::Content { media_type, base64 } => {
                                let kind = if media_type == PDF { "document" } else { "image" };
                                let source =
                                    json!({"type": "base64", "media_type": media_type, "data": base64});
                                json!({"type": kind, "source": source})
                            }
                            AttachedFile::Name(label) => json!({"type": "text", "text": label}),
                        },
                    );
                }
            }
        }
        Ok(blocks)
    }
}

/// Whether a message was imported from Claude Code, together with its records.
fn is_original(message: &Message) -> bool {
    let content = &message.content;
    content.source.as_ref().is_some_and(|source| source.format == NAME)
        && !array(content.extra.get(RECORDS)).is_empty()
}

fn is_result_of(part: &Part, call: &str) -> bool {
    matches!(part, Part::ToolResult { id, .. } if id == call)
}

/// A UUID for a record that has no message of its own. It is the same in every export, so that a tool that continued an
/// earlier one finds the record.
fn derived_id(message: &MessageId, purpose: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(message.as_uuid().as_bytes());
    hasher.update(purpose);
    let mut bytes = [0; 16];
    hasher.finalize_xof().fill(&mut bytes);
    Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

/// Whether a message was imported from the same record as the group.
fn continues(group: &[Message], message: &Message) -> bool {
    let Some(base) = group.first().and_then(|first| first.content.source.as_ref()) else { return false };
    let Some(id) = message.content.source.as_ref() else { return false };
    let rest = id.id.strip_prefix(&base.id).and_then(|rest| rest.strip_prefix('/'));
    base.format == NAME && id.format == NAME && rest.is_some_and(|rest| rest.parse::<u32>().is_ok())
}

/// Restores the records of a group of messages. The first message stores the records.
struct RecordRestorer<'a> {
    source: &'a dyn DocumentSource,
    messages: &'a [Message],
    /// Number of attachments whose bytes are not in the store.
    missing: Cell<u64>,
}

impl RecordRestorer<'_> {
    /// Restores a stored record.
    fn record(&self, stored: &Value) -> Result<Value, ExportError> {
        let mut record = stored.clone();
        let is_queued = record.pointer("/attachment/type").and_then(Value::as_str) == Some(QUEUED);
        let place = if is_queued { "/attachment/prompt" } else { "/message/content" };
        if let Some(content) = record.pointer_mut(place) {
            *content = self.content(content)?;
        }
        Ok(record)
    }

    fn content(&self, content: &Value) -> Result<Value, ExportError> {
        match content {
            Value::Array(items) => {
                items.iter().map(|item| self.block(item)).collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            Value::Object(fields) if fields.contains_key(PART) => match self.part(fields) {
                Some(Part::Text { text }) => Ok(text.clone().into()),
                Some(Part::Opaque { raw, .. }) => Ok(raw.clone()),
                _ => Ok(Value::Null),
            },
            other => Ok(other.clone()),
        }
    }

    fn part(&self, reference: &Map<String, Value>) -> Option<&Part> {
        let position = reference.get(PART)?.as_array()?;
        let at = |index: usize| position.get(index)?.as_u64().and_then(|at| usize::try_from(at).ok());
        self.messages.get(at(0)?)?.content.parts.get(at(1)?)
    }

    fn block(&self, item: &Value) -> Result<Value, ExportError> {
        let Value::Object(reference) = item else { return Ok(item.clone()) };
        if !reference.contains_key(PART) {
            return Ok(item.clone());
        }
        let Some(part) = self.part(reference) else { return Ok(Value::Null) };
        let mut rest = reference.clone();
        rest.shift_remove(PART);
        let without = rest.shift_remove(WITHOUT);
        let mut block = match part {
            Part::Text { text } => json!({"type": "text", "text": text}),
            Part::Thinking { signature, .. }
                if rest.get("type").and_then(Value::as_str) == Some("redacted_thinking") =>
            {
                json!({ "data": signature })
            }
            Part::Thinking { text, signature: Some(signature) } => {
                json!({"type": "thinking", "thinking": text, "signature": signature})
            }
            Part::Thinking { text, signature: None } => json!({"type": "thinking", "thinking": text}),
            Part::ToolCall { id, name, input } => {
                json!({"type": "tool_use", "id": id, "name": name, "input": input})
            }
            Part::ToolResult { id, output, is_error } => {
                let content = match rest.shift_remove("content") {
                    Some(Value::Array(items)) => self.result_content(items, output)?,
                    Some(other) => other,
                    None => output.clone().into(),
                };
                let mut block = json!({"type": "tool_result", "tool_use_id": id, "content": content});
                if *is_error && let Value::Object(fields) = &mut block {
                    fields.insert("is_error".into(), true.into());
                }
                block
            }
            Part::Attachment { hash, name, media_type, .. } => {
                if let Some(hash) = hash
                    && let Some(Value::Object(source)) = rest.get_mut("source")
                {
                    match self.source.attachment(*hash) {
                        Ok(bytes) => source.insert("data".into(), STANDARD.encode(bytes).into()),
                        Err(StoreError::NotFound { .. }) => {
                            self.missing.set(self.missing.get() + 1);
                            let label = name.as_deref().unwrap_or(media_type);
                            return Ok(
                                json!({"type": "text", "text": format!("[missing attachment: {label}]")}),
                            );
                        }
                        Err(error) => return Err(error.into()),
                    };
                }
                json!({})
            }
            Part::Opaque { raw, .. } => return Ok(raw.clone()),
        };
        if let Value::Object(fields) = &mut block {
            fields.extend(rest);
            for name in without.iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str) {
                fields.shift_remove(name);
            }
        }
        Ok(block)
    }

    /// Restores the elements of a tool result's content.
    fn result_content(&self, items: Vec<Value>, output: &str) -> Result<Value, ExportError> {
        let mut restored = Vec::with_capacity(items.len());
        for mut item in items {
            if let Some(Value::Object(resource)) = item.get_mut("resource")
                && let Some(range) = resource.shift_remove(TEXT)
            {
                resource.insert("text".into(), slice(output, &range).into());
            }
            if let Value::Object(fields) = &mut item
                && let Some(range) = fields.shift_remove(TEXT)
            {
                fields.insert("text".into(), slice(output, &range).into());
                restored.push(item);
            } else {
                restored.push(self.block(&item)?);
            }
        }
        Ok(Value::Array(restored))
    }
}
