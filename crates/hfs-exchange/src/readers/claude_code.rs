//! Claude Code transcripts: one JSONL file per session, or `{"loglines": [...]}` from the web version.
//!
//! A transcript is read twice. The records of one message may be far apart, and whether a record starts a
//! branch may depend on a later record. A single pass would therefore have to keep all records in memory,
//! which takes several times the size of the file. The first pass decodes a few fields of each record
//! and computes one action per record ([`index`]). The second pass decodes whole records ([`record`], [`content`]) and sends
//! messages.
//!
//! If a transcript has grown since the last import, the first pass indexes only its new records, and the second pass begins at the first
//! message that has changed.
//!
//! The original JSON text of a record is stored with its message, with references in place of the content
//! that became parts. So no content is stored twice, and an export restores every record.

mod content;
mod index;
mod record;

use std::collections::{HashMap, VecDeque};
use std::io::Read as _;
use std::path::Path;

use hfs_core::{
    Attachment, Continuation, ForeignBranch, ForeignSession, ImportError, ImportEvent, MessageDraft,
    MessageStatus, Origin, Part, PassthroughFields, Project, Role, Seq, Source as MessageSource, Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::decompress::uncompressed_path;
use crate::detect::FormatProbe;
use crate::json::{parse, push_array, push_value};
use crate::readers::streamed::{MAX_BUFFERED_BYTES, TOO_MANY_RECORDS};
use crate::readers::{AFTER, BEFORE, FLAGS, Output, RAW, RECORDS, ReportBuilder};
use crate::records::{Entry, Framing, RecordPosition, for_each_record, for_each_record_from};
use crate::resume::LineStart;
use crate::source::{Links, companion_states, open_file};
use crate::{Format, Source};

use content::{ContentBlock, MessageContent, PartsBuilder, ToolResultFiles};
pub(crate) use content::{PART, TEXT, WITHOUT, attachment_of, decode_base64};
pub(crate) use index::QUEUED;
use index::{Index, IndexEntry, Key, Layout, RecordAction, Restart, id_key};
use record::Record;

pub(crate) const NAME: &str = "claude-code";

/// Types of records that only Claude Code writes.
const OWN_TYPES: [&str; 6] =
    ["file-history-snapshot", "queue-operation", "custom-title", "ai-title", "permission-mode", "agent-name"];

pub(crate) struct ClaudeCode;

impl super::Reader for ClaudeCode {
    fn format(&self) -> Format {
        Format::ClaudeCode
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        probe.has_key("loglines")
            || probe.records().iter().filter(|record| !super::qwen::is_record(record)).any(|record| {
                let kind = record.get("type").and_then(Value::as_str).unwrap_or_default();
                match kind {
                    "user" | "assistant" => record.contains_key("message") && record.contains_key("uuid"),
                    "summary" => record.contains_key("leafUuid"),
                    "system" | "progress" | "attachment" => record.contains_key("parentUuid"),
                    kind => OWN_TYPES.contains(&kind),
                }
            })
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let framing = if out.is_grown(NAME) { Framing::Lines } else { framing(source)? };
        let mut saved: SavedState = match framing {
            Framing::Lines => out.resume(NAME).unwrap_or_default(),
            Framing::Array(_) => SavedState::default(),
        };
        saved.index.restore();
        let known = saved.index.layout();
        index_records(source, framing, &mut saved.index, out)?;
        let layout = saved.index.layout();
        let restart = (!known.actions.is_empty()).then(|| saved.index.restart(&known, &layout));
        SecondPass::new(source, layout, out.reborrow()).run(framing, restart, saved)
    }
}

/// What is kept of a transcript for the next import.
#[derive(Debug, Default, Serialize, Deserialize)]
struct SavedState {
    index: Index,
    /// Branch and seq of each tool call, by the key of its id. A call may have started a subagent.
    calls: HashMap<Key, (usize, Seq)>,
    /// The transcripts of subagents that were imported, each with its state.
    subagents: HashMap<String, [u8; 32]>,
}

fn framing(source: &Source) -> Result<Framing, ImportError> {
    let probe = FormatProbe::new(source)?;
    Ok(if probe.has_key("loglines") { Framing::Array(Some("loglines")) } else { Framing::Lines })
}

/// The first pass: adds the records to the index that it does not have yet.
fn index_records(
    source: &Source,
    framing: Framing,
    index: &mut Index,
    out: &mut Output<'_>,
) -> Result<(), ImportError> {
    let start = index.end().unwrap_or(LineStart::BEGINNING);
    let mut visit = |at: RecordPosition, entry: Entry<IndexEntry>| {
        match entry {
            Entry::Record(record, _) => index.add(at, record),
            Entry::Damaged(_) => index.skip(at),
        }
        // The first pass accounts for a quarter of the progress.
        out.progress(at.bytes / 4)
    };
    match framing {
        Framing::Lines => for_each_record_from(source, start, &mut visit),
        Framing::Array(_) => for_each_record(source, framing, &mut visit),
    }
}

/// The session-level fields.
fn session(source: &Source, layout: &Layout) -> ForeignSession {
    let id = match (source.stem(), &layout.session) {
        (Some(stem), Some(session)) if stem != *session => format!("{session}/{stem}"),
        (_, Some(session)) => session.clone(),
        (Some(stem), None) => stem,
        (None, None) => "unnamed".into(),
    };
    let path = source.path().map(|path| path.display().to_string());
    let mut session = ForeignSession::new(Origin { format: NAME.into(), id, path });
    // In a transcript that hfs wrote from a copy, the records still have the id of the original.
    let ids = [source.stem(), layout.session.clone()];
    session.continues = ids.into_iter().flatten().find_map(|id| id.parse().ok()).map(Continuation::Session);
    session.title.clone_from(&layout.title);
    session.automatic_name = !layout.title_by_user;
    session.project = layout.cwd.clone().map(|directory| Project { directory, repository: None });
    session.created_at = layout.first;
    session.updated_at = layout.last;
    session
}

struct QueuedMessage {
    branch: u32,
    pending: PendingMessage,
    /// Whether further records of the message may follow.
    open: bool,
    bytes: usize,
}

/// The second pass: decodes whole records and sends their messages.
///
/// Messages are sent in the order of their first records. The records of an assistant's message may not be
/// consecutive, so a message stays in a queue until its last record, which the layout marks.
struct SecondPass<'a> {
    source: &'a Source,
    out: Output<'a>,
    tool_result_files: ToolResultFiles,
    layout: Layout,
    /// The progress that the first pass reported, in bytes.
    first_pass_progress: u64,
    /// Index of the next record.
    next_record: usize,
    queue: VecDeque<QueuedMessage>,
    /// Number of messages that have been removed from the queue.
    emitted: usize,
    /// Index of each incomplete message among all messages that were ever queued, by its group.
    open: HashMap<u32, usize>,
    /// Number of branches that have been sent, without the first.
    sent_branches: u32,
    /// Key of the file's first branch: 0, except in the transcripts of subagents.
    first_branch: usize,
    /// Head of each branch.
    heads: Vec<Seq>,
    /// Branch and seq of each tool call, because a call may have started a subagent.
    calls: HashMap<Key, (usize, Seq)>,
    /// Whether more records had to be kept in memory than the limit allows. What is sent then depends on where the pass began.
    has_exceeded_limit: bool,
    /// Records that are not messages, as JSON.
    other_records: Vec<String>,
    other_bytes: usize,
    buffered_bytes: usize,
    last_time: Option<Timestamp>,
    report: ReportBuilder,
}

impl<'a> SecondPass<'a> {
    fn new(source: &'a Source, layout: Layout, out: Output<'a>) -> Self {
        Self {
            source,
            out,
            tool_result_files: ToolResultFiles::of_transcript(source.path()),
            layout,
            first_pass_progress: source.bytes() / 4,
            next_record: 0,
            queue: VecDeque::new(),
            emitted: 0,
            open: HashMap::new(),
            sent_branches: 0,
            first_branch: 0,
            heads: vec![0],
            calls: HashMap::new(),
            has_exceeded_limit: false,
            other_records: Vec::new(),
            other_bytes: 0,
            buffered_bytes: 0,
            last_time: None,
            report: ReportBuilder::default(),
        }
    }

    fn run(
        mut self,
        framing: Framing,
        restart: Option<Restart>,
        mut saved: SavedState,
    ) -> Result<(), ImportError> {
        let mut session = session(self.source, &self.layout);
        let source = self.source;
        let empty = self.layout.messages == 0;
        if empty {
            // There is no message to store the records with, so they are stored with the session.
            for_each_record::<Record>(source, framing, &mut |at, entry| {
                self.entry(at.line, at.bytes, entry)
            })?;
            if self.next_record == 0 {
                return Ok(());
            }
            let mut json = format!("{{\"{RECORDS}\":");
            push_array(&mut json, std::mem::take(&mut self.other_records), |json, other| {
                json.push_str(&other);
            });
            json.push('}');
            session.extra = PassthroughFields::from_json(json);
        }
        session.resumed_after = restart.as_ref().map(|restart| restart.heads.clone());
        if !self.out.session(session)? {
            return Ok(());
        }
        self.calls = std::mem::take(&mut saved.calls);
        match restart {
            Some(restart) => {
                self.next_record = restart.record;
                self.sent_branches = u32::try_from(restart.heads.len() - 1).unwrap_or(u32::MAX);
                self.heads = restart.heads;
                for_each_record_from::<Record>(source, restart.start, &mut |at, entry| {
                    self.entry(at.line, at.bytes, entry)
                })?;
            }
            None if empty => {}
            None => for_each_record::<Record>(source, framing, &mut |at, entry| {
                self.entry(at.line, at.bytes, entry)
            })?,
        }
        self.flush()?;
        let mut next = 1 + self.layout.forks.len();
        let states = companion_states(source.companions());
        for path in source.companions() {
            let name = path.display().to_string();
            let state = states.get(&name).copied();
            if state.is_some() && saved.subagents.get(&name).copied() == state {
                continue;
            }
            let following = self.import_subagent(path, next)?;
            // One without messages, or without its place, is read again.
            let is_complete = following > next
                && starting_call(path).is_none_or(|call| self.calls.contains_key(&id_key(&call)));
            saved.subagents.extend(state.filter(|_| is_complete).map(|state| (name, state)));
            next = following;
        }
        if self.layout.current > 0 {
            self.out.send(ImportEvent::CurrentBranch(self.layout.current as usize))?;
        }
        if let Some(end) = saved.index.end().filter(|_| framing == Framing::Lines && !empty)
            && !self.has_exceeded_limit
        {
            saved.calls = std::mem::take(&mut self.calls);
            self.out.resume_point(end.offset, NAME, &saved)?;
        }
        self.out.send(ImportEvent::End(self.report.finish()))
    }

    /// Adds the transcript of a subagent as a branch that forks where the subagent was started. Returns the
    /// key of the next branch.
    fn import_subagent(&mut self, path: &Path, key: usize) -> Result<usize, ImportError> {
        let source = Source::found(path);
        let name = source.stem().unwrap_or_default();
        let mut index = Index::default();
        match index_records(&source, Framing::Lines, &mut index, &mut self.out) {
            Ok(()) => {}
            Err(error @ ImportError::Interrupted { .. }) => return Err(error),
            // A damaged subagent transcript does not fail the import of the session.
            Err(error) => {
                self.report.warn(None, format!("subagent transcript {name} was skipped: {error}"));
                return Ok(key);
            }
        }
        let layout = index.layout();
        if layout.messages == 0 {
            return Ok(key);
        }
        let started = starting_call(path).and_then(|call| self.calls.get(&id_key(&call))).copied();
        // If the call is unknown, the branch forks before the first message.
        let (parent, seq) = started.unwrap_or((0, 0));
        let branch = ForeignBranch { key, parent, forked_at: seq, id: None, name: Some(name), undone: false };
        self.out.send(ImportEvent::Branch(branch))?;
        let forks = layout.forks.len();
        let mut agent = SecondPass::new(&source, layout, self.out.reborrow());
        agent.first_branch = key;
        // The layout counts from the beginning of the file, but the history of the file's first branch begins
        // with `seq` messages of its parent.
        agent.heads = vec![seq];
        agent.shift_forks(seq);
        for_each_record::<Record>(&source, Framing::Lines, &mut |at, entry| {
            agent.entry(at.line, at.bytes, entry)
        })?;
        agent.flush()?;
        let report = std::mem::take(&mut agent.report);
        self.report.merge(report);
        Ok(key + 1 + forks)
    }

    /// Moves all forks of the layout by the given number of messages.
    fn shift_forks(&mut self, by: Seq) {
        self.layout.forks.iter_mut().for_each(|fork| fork.forked_at += by);
    }

    fn entry(&mut self, line: u64, bytes: u64, entry: Entry<Record>) -> Result<(), ImportError> {
        self.out.progress(self.first_pass_progress + bytes / 4 * 3)?;
        let (record, length) = match entry {
            Entry::Damaged(why) => {
                self.report.dropped(Some(line), why);
                return Ok(());
            }
            Entry::Record(record, length) => (record, length),
        };
        let action = self.layout.actions.get(self.next_record).copied().unwrap_or(RecordAction::Other);
        self.next_record += 1;
        match action {
            RecordAction::Duplicate => {
                self.report.dropped(Some(line), format!("duplicate of record {}", record_id(&record, line)));
            }
            RecordAction::Other => self.push_other(line, &record, length),
            RecordAction::User { branch } => {
                self.report.mapped();
                let at = self.time(&record);
                for pending in user_messages(record, line, at, &self.tool_result_files) {
                    self.push(QueuedMessage { branch, pending, open: false, bytes: length });
                }
            }
            RecordAction::Assistant { branch, group, last } => {
                self.report.mapped();
                self.push_assistant_record(record, (branch, group, last), line, length);
            }
        }
        self.emit()
    }

    /// Time of a record, or of the previous record if it has none.
    fn time(&mut self, record: &Record) -> Timestamp {
        let time = record.info.time.or(self.last_time).or(self.layout.first).unwrap_or(Timestamp::UNIX_EPOCH);
        self.last_time = Some(time);
        time
    }

    fn push_other(&mut self, line: u64, record: &Record, bytes: usize) {
        if self.buffered_bytes + bytes > MAX_BUFFERED_BYTES {
            self.has_exceeded_limit = true;
            self.report.dropped(Some(line), TOO_MANY_RECORDS);
            return;
        }
        self.report.opaque();
        self.buffered_bytes += bytes;
        self.other_bytes += bytes;
        self.other_records.push(record.original_json());
    }

    fn push_assistant_record(&mut self, record: Record, to: (u32, u32, bool), line: u64, bytes: usize) {
        let (branch, group, last) = to;
        let time = self.time(&record);
        let position = self.open.get(&group).and_then(|position| position.checked_sub(self.emitted));
        if let Some(queued) = position.and_then(|position| self.queue.get_mut(position)) {
            // The other records are stored between the message's own records, in their original order.
            let others = std::mem::take(&mut self.other_records);
            let others = others.into_iter().map(|other| format!("{{\"$event\":{other}}}"));
            queued.pending.preserved.records.extend(others);
            append_record(&mut queued.pending, record);
            queued.open = !last;
            queued.bytes += bytes + std::mem::take(&mut self.other_bytes);
            self.buffered_bytes += bytes;
        } else {
            if !last {
                self.open.insert(group, self.emitted + self.queue.len());
            }
            let pending = assistant_message(record, line, time);
            self.push(QueuedMessage { branch, pending, open: !last, bytes });
        }
        if last {
            self.open.remove(&group);
        }
    }

    fn push(&mut self, mut queued: QueuedMessage) {
        queued.pending.preserved.before = std::mem::take(&mut self.other_records);
        self.buffered_bytes += queued.bytes;
        queued.bytes += std::mem::take(&mut self.other_bytes);
        self.queue.push_back(queued);
    }

    /// Sends complete messages, except the newest one: records that follow it may have to be
    /// stored with it.
    fn emit(&mut self) -> Result<(), ImportError> {
        if self.buffered_bytes > MAX_BUFFERED_BYTES {
            // Send incomplete messages too. Further records of such a message start another one.
            self.has_exceeded_limit = true;
            self.open.clear();
            self.queue.iter_mut().for_each(|queued| queued.open = false);
        }
        while self.queue.len() > 1 && self.queue.front().is_some_and(|queued| !queued.open) {
            self.emit_front()?;
        }
        Ok(())
    }

    fn emit_front(&mut self) -> Result<(), ImportError> {
        let Some(queued) = self.queue.pop_front() else { return Ok(()) };
        self.emitted += 1;
        self.buffered_bytes = self.buffered_bytes.saturating_sub(queued.bytes);
        while self.sent_branches < queued.branch {
            let Some(fork) = self.layout.forks.get(self.sent_branches as usize) else { break };
            self.sent_branches += 1;
            self.heads.push(fork.forked_at);
            self.out.send(ImportEvent::Branch(ForeignBranch {
                key: self.first_branch + self.sent_branches as usize,
                parent: self.first_branch + fork.parent as usize,
                forked_at: fork.forked_at,
                id: None,
                name: None,
                undone: false,
            }))?;
        }
        if let Some(head) = self.heads.get_mut(queued.branch as usize) {
            *head += 1;
            // Subagents start no further ones, so the calls in their transcripts are not needed.
            let calls = queued.pending.draft.parts.iter().filter(|_| self.first_branch == 0);
            for part in calls {
                if let Part::ToolCall { id, .. } = part {
                    self.calls.insert(id_key(id), (queued.branch as usize, *head));
                }
            }
        }
        let (draft, attachments) = queued.pending.finish();
        self.out.message(self.first_branch + queued.branch as usize, draft, attachments)
    }

    /// Sends all messages that are still queued.
    fn flush(&mut self) -> Result<(), ImportError> {
        let others = std::mem::take(&mut self.other_records);
        if let Some(newest) = self.queue.back_mut() {
            newest.pending.preserved.after = others;
        }
        while !self.queue.is_empty() {
            self.emit_front()?;
        }
        Ok(())
    }
}

/// Limit on the size of the metadata of a subagent.
const MAX_METADATA: u64 = 1 << 20;

/// Id of the tool call that started a subagent, from the metadata file next to the subagent's transcript.
fn starting_call(transcript: &Path) -> Option<String> {
    let mut text = String::new();
    let about = uncompressed_path(transcript).with_extension("meta.json");
    let file = open_file(&about, Links::Reject).ok()?;
    file.take(MAX_METADATA).read_to_string(&mut text).ok()?;
    Some(parse(&text)?.value.get("toolUseId")?.as_str()?.to_owned())
}

/// Initial capacity for the JSON that replaces a content, in bytes.
const TEMPLATE_CAPACITY: usize = 128;

/// A message under construction, with its attachments and the records to store with it.
#[derive(Debug)]
struct PendingMessage {
    draft: MessageDraft,
    attachments: Vec<Attachment>,
    preserved: PreservedRecords,
}

/// Flags and records that are stored with a message, as JSON.
#[derive(Debug, Default)]
struct PreservedRecords {
    flags: Vec<&'static str>,
    /// The records that became the message, with references in place of their content.
    records: Vec<String>,
    /// Records that are not messages and precede or follow it.
    before: Vec<String>,
    after: Vec<String>,
}

impl PreservedRecords {
    /// Builds the JSON text of the fields. The records are text already and are not parsed again.
    fn into_extra(self) -> PassthroughFields {
        let flags: Vec<String> = self.flags.iter().map(|flag| format!("{flag:?}")).collect();
        let lists = [(FLAGS, flags), (RECORDS, self.records), (BEFORE, self.before), (AFTER, self.after)];
        let length = lists.iter().flat_map(|(_, list)| list).map(|json| json.len() + 1).sum::<usize>();
        let mut json = String::with_capacity(length + 64);
        for (name, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
            json.extend([if json.is_empty() { "{\"" } else { ",\"" }, name, "\":"]);
            push_array(&mut json, list, |json, value| json.push_str(value));
        }
        if json.is_empty() {
            return PassthroughFields::new();
        }
        json.push('}');
        PassthroughFields::from_json(json)
    }
}

impl PendingMessage {
    fn new(record: &Record, role: Role, id: String, at: Timestamp) -> Self {
        let mut draft = MessageDraft::new(role, Vec::new(), at);
        draft.source = Some(match record.info.written_from {
            Some(message) => MessageSource::hfs(message),
            None => MessageSource { format: NAME.into(), id },
        });
        draft.agent.clone_from(&record.info.agent);
        let preserved =
            PreservedRecords { flags: record.info.flags().collect(), ..PreservedRecords::default() };
        Self { draft, attachments: Vec::new(), preserved }
    }

    /// Returns the finished message and its attachments.
    fn finish(mut self) -> (MessageDraft, Vec<Attachment>) {
        self.draft.extra = self.preserved.into_extra();
        (self.draft, self.attachments)
    }
}

/// The id of the first message of a record; the ids of further messages are derived from it.
fn record_id(record: &Record, line: u64) -> String {
    record.info.uuid.clone().unwrap_or_else(|| format!("line-{line}"))
}

/// Converts a user's record into messages: one per tool result, then one for the rest.
fn user_messages(
    mut record: Record,
    line: u64,
    at: Timestamp,
    files: &ToolResultFiles,
) -> Vec<PendingMessage> {
    if record.content.is_none() {
        return vec![queued_prompt(&record, line, at)];
    }
    let id = record_id(&record, line);
    let is_result = |block: &ContentBlock| matches!(block, ContentBlock::Object(fields) if fields.text("type") == Some("tool_result"));
    let structured = record.info.structured.take();
    let mut messages: Vec<(Role, PartsBuilder<'_>)> = Vec::new();
    let mut user = PartsBuilder::default();
    let mut template = String::with_capacity(TEMPLATE_CAPACITY);
    match record.content.take() {
        Some(MessageContent::Blocks(blocks)) => {
            let results = blocks.iter().filter(|block| is_result(block)).count();
            push_array(&mut template, blocks, |template, block| {
                if is_result(&block) {
                    // The structured form is that of the only result.
                    let structured = structured.as_deref().filter(|_| results == 1);
                    let mut tool = PartsBuilder::for_result(files, structured);
                    tool.add(block, messages.len(), template);
                    messages.push((Role::Tool, tool));
                } else {
                    user.add(block, results, template);
                }
            });
        }
        Some(MessageContent::Text(text)) => user.add_text(text, &mut template),
        Some(MessageContent::Other(other)) => user.add(other.into(), 0, &mut template),
        None => {}
    }
    if !user.parts.is_empty() {
        messages.push((Role::User, user));
    }
    let mut pending: Vec<PendingMessage> = messages
        .into_iter()
        .enumerate()
        .map(|(number, (role, parts))| {
            let id = if number == 0 { id.clone() } else { format!("{id}/{number}") };
            let mut pending = PendingMessage::new(&record, role, id, at);
            pending.draft.parts = parts.parts;
            pending.attachments = parts.attachments;
            pending
        })
        .collect();
    if let Some(first) = pending.first_mut() {
        first.preserved.records.push(record.with_content(&template));
    }
    pending
}

/// Converts a prompt that the user entered while the agent was working.
fn queued_prompt(record: &Record, line: u64, at: Timestamp) -> PendingMessage {
    let mut pending = PendingMessage::new(record, Role::User, record_id(record, line), at);
    let original = record.original_json();
    let mut stored = parse(&original).map(|parsed| parsed.value).unwrap_or_default();
    // The text of a record that is not represented without loss stays as it is.
    let raw = stored.get(RAW).and_then(Value::as_str).and_then(parse).map(|parsed| parsed.value);
    let is_raw = raw.is_some();
    let mut fields = raw.unwrap_or_else(|| stored.clone());
    let Some(attachment) = fields.get_mut("attachment").and_then(Value::as_object_mut) else {
        return pending;
    };
    let mut parts = PartsBuilder::default();
    let mut template = String::with_capacity(TEMPLATE_CAPACITY);
    match attachment.get("prompt").cloned().map(MessageContent::from) {
        Some(MessageContent::Blocks(blocks)) => {
            push_array(&mut template, blocks, |template, block| parts.add(block, 0, template));
        }
        Some(MessageContent::Text(text)) => parts.add_text(text, &mut template),
        Some(MessageContent::Other(other)) => parts.add(other.into(), 0, &mut template),
        None => {}
    }
    if attachment.get("commandMode").and_then(Value::as_str) == Some("task-notification") {
        pending.preserved.flags.push("injected");
    }
    if let Some(prompt) = attachment.get_mut("prompt") {
        *prompt = serde_json::from_str(&template).unwrap_or_default();
    }
    if !is_raw {
        stored = fields;
    }
    pending.draft.parts = parts.parts;
    pending.attachments = parts.attachments;
    pending.preserved.records.push(stored.to_string());
    pending
}

/// Converts the first record of an assistant's message; [`append_record`] adds the others.
fn assistant_message(record: Record, line: u64, at: Timestamp) -> PendingMessage {
    let mut pending = PendingMessage::new(&record, Role::Assistant, record_id(&record, line), at);
    append_record(&mut pending, record);
    pending
}

/// Adds a record to the message that it continues.
fn append_record(pending: &mut PendingMessage, mut record: Record) {
    let draft = &mut pending.draft;
    let mut parts = PartsBuilder::default();
    parts.parts = std::mem::take(&mut draft.parts);
    let mut template = String::with_capacity(TEMPLATE_CAPACITY);
    match record.content.take() {
        Some(MessageContent::Blocks(blocks)) => {
            push_array(&mut template, blocks, |template, block| parts.add(block, 0, template));
        }
        Some(MessageContent::Text(text)) => parts.add_text(text, &mut template),
        Some(MessageContent::Other(other)) => push_value(&mut template, &other),
        None => {}
    }
    draft.parts = parts.parts;
    pending.attachments.append(&mut parts.attachments);
    pending.preserved.records.push(record.with_content(&template));
    let info = record.info;
    if info.model.is_some() {
        draft.model = info.model;
    }
    if info.usage.is_some() {
        draft.usage = info.usage;
    }
    if info.is_aborted {
        draft.status = MessageStatus::Interrupted;
    }
}
