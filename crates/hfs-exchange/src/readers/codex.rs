//! Codex's rollout files, JSONL. Each line is an item in an envelope; in early 2025 it was a bare item. A subagent has a rollout
//! of its own, which belongs to the session of the thread that started it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use hfs_core::{
    Continuation, ForeignSession, ImportError, MessageFlag, MessageId, Origin, Part, Project, Role,
    Source as MessageSource, Timestamp, Usage,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::content::{FilePart, ToolOutput, file_of};
use super::conversation::{ImportedMessage, number, text, usage};
use super::openai::take_arguments;
use super::streamed::{KnownBefore, Place, StreamedSession, has_output};
use crate::decompress::uncompressed_path;
use crate::detect::FormatProbe;
use crate::json::lines::{Line, Lines};
use crate::json::parse;
use crate::readers::Output;
use crate::readers::claude_code::PART;
use crate::readers::written_from;
use crate::records::{Entry, JsonRecord, for_each_record_from};
use crate::resume::LineStart;
use crate::source::companion_states;
use crate::transcript::WRITTEN;
use crate::{Format, Source};

const NAME: &str = "codex";
const ENVELOPES: [&str; 6] =
    ["session_meta", "response_item", "event_msg", "turn_context", "compacted", "world_state"];
const IMAGE_GENERATION: &str = "image_generation_call";
const CALLS: [&str; 6] = [
    "function_call",
    "custom_tool_call",
    "local_shell_call",
    "web_search_call",
    "tool_search_call",
    IMAGE_GENERATION,
];
const OUTPUTS: [&str; 3] = ["function_call_output", "custom_tool_call_output", "tool_search_output"];

pub(crate) struct Codex;

impl super::Reader for Codex {
    fn format(&self) -> Format {
        Format::Codex
    }

    fn probe(&self, probe: &FormatProbe) -> bool {
        probe.records().iter().take(5).any(|record| {
            let enveloped = record.contains_key("payload")
                && text(record, "type").is_some_and(|kind| ENVELOPES.contains(&kind));
            let bare = record.contains_key("id")
                && record.contains_key("timestamp")
                && record.contains_key("instructions")
                || text(record, "record_type") == Some("state");
            enveloped || bare
        })
    }

    fn read(&self, source: &Source, out: &mut Output<'_>) -> Result<(), ImportError> {
        let mut saved: Option<SavedState> = out.resume(NAME);
        let mut info = saved.as_ref().map(|saved| saved.info.clone()).unwrap_or_default();
        let start = saved.as_ref().map_or(LineStart::BEGINNING, |saved| saved.end);
        read_info(source, start, &mut info, &mut |bytes| out.progress(bytes / 4))?;
        if saved.as_ref().is_some_and(|saved| saved.info.items != info.items) {
            // The events that were imported as messages only repeat them.
            saved = None;
            info = RolloutInfo::default();
            read_info(source, LineStart::BEGINNING, &mut info, &mut |bytes| out.progress(bytes / 4))?;
        }
        let session = session(source, &info);
        let (session, start) = match &saved {
            Some(saved) => {
                (StreamedSession::resumed(out.reborrow(), session, &saved.place), saved.place.start)
            }
            None => (StreamedSession::new(out.reborrow(), session), LineStart::BEGINNING),
        };
        let known = saved.as_ref().map(|saved| saved.place.known).unwrap_or_default();
        let (turns, spawns, subagents, models) =
            saved.map(|saved| (saved.turns, saved.spawns, saved.subagents, saved.models)).unwrap_or_default();
        let mut rollout = Rollout {
            session,
            info,
            last: known.time.and_then(Timestamp::from_micros),
            newest_turn: known.newest_turn,
            turns,
            spawns,
            subagent: None,
            models,
            model: known.model,
            written_from: None,
        };
        let mut found = false;
        let first_pass = source.bytes() / 4;
        for_each_record_from::<JsonRecord>(source, start, &mut |at, entry| {
            rollout.session.report_progress(first_pass + at.bytes / 4 * 3)?;
            match entry {
                Entry::Damaged(why) => {
                    rollout.session.skip(at);
                    rollout.session.report.dropped(Some(at.line), why);
                }
                Entry::Record(record, length) => {
                    found = true;
                    let known = KnownBefore {
                        turns: rollout.turns.len(),
                        newest_turn: rollout.newest_turn,
                        time: rollout.last.map(Timestamp::as_micros),
                        model: rollout.model,
                    };
                    rollout.session.begin_record(at, known);
                    rollout.record(record, length, at.line)?;
                }
            }
            Ok(())
        })?;
        if found {
            rollout.finish(source.companions(), &subagents)
        } else {
            Err(source.damaged("it contains no record"))
        }
    }
}

/// Beginning of the names of rollout files. A name ends with the id of the thread.
const FILE_PREFIX: &str = "rollout-";

/// The id of the thread in a rollout file with this path; `None` if it is not the path of one.
pub(crate) fn thread_of(path: &Path) -> Option<String> {
    let path = uncompressed_path(path);
    let stem = path.file_name()?.to_str()?.strip_suffix(".jsonl")?;
    let name = stem.strip_prefix(FILE_PREFIX)?;
    let id = name.get(name.len().checked_sub(uuid::fmt::Hyphenated::LENGTH)?..)?;
    uuid::Uuid::try_parse(id).is_ok().then(|| id.to_owned())
}

/// The id of the thread that started the thread in a rollout file, if it is that of a subagent. Reads the header of the file.
pub(crate) fn parent_thread(path: &Path) -> Option<String> {
    let source = Source::found(path);
    let mut lines = Lines::new(source.open().ok()?);
    let (_, Line::Text(header)) = lines.next().ok()?? else { return None };
    let header = parse(&header)?.value;
    spawned_by(header.get("payload")?.as_object()?)
        .and_then(|spawn| spawn.get("parent_thread_id").and_then(Value::as_str).map(str::to_owned))
}

/// How the thread with this header was started, if it is that of a subagent.
fn spawned_by(header: &Map<String, Value>) -> Option<&Map<String, Value>> {
    let source = header.get("source")?;
    let subagent = ["subagent", "subAgent"].into_iter().find_map(|key| source.get(key))?;
    ["thread_spawn", "threadSpawn"].into_iter().find_map(|key| subagent.get(key))?.as_object()
}

/// A call that started a subagent.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Spawn {
    call: String,
    /// Branch and seq of the message with the call.
    position: (usize, u64),
    /// Time of the call, in microseconds.
    time: Option<i64>,
    /// Id of the subagent's thread, if the result of the call names it.
    thread: Option<String>,
    /// Whether the call is in the rollout of another subagent.
    by_subagent: bool,
}

/// What is kept of a rollout for the next import.
#[derive(Serialize, Deserialize)]
struct SavedState {
    info: RolloutInfo,
    /// The place before the last message, and the user's turns before it.
    place: Place,
    turns: Vec<Turn>,
    spawns: Vec<Spawn>,
    /// The models of all turns.
    models: Vec<String>,
    /// The rollouts of subagents that were imported, each with its state.
    subagents: HashMap<String, [u8; 32]>,
    /// The place after the last line.
    end: LineStart,
}

/// A turn of the user.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Turn {
    /// Branch and seq before it.
    position: (usize, u64),
    /// The turn before it in the history, by its index.
    previous: Option<usize>,
}

/// The fields that are needed before the first message is sent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct RolloutInfo {
    id: Option<String>,
    cwd: Option<String>,
    title: Option<String>,
    /// Times of the first and the last item, and of the first and the last event that repeats a message, in microseconds.
    item_times: Option<(i64, i64)>,
    event_times: Option<(i64, i64)>,
    /// The time in the header, in microseconds.
    started: Option<i64>,
    /// The name of the agent, if the thread is that of a subagent.
    agent: Option<String>,
    /// Whether the file contains messages as items. If not, they are imported from the events that repeat
    /// them.
    items: bool,
}

impl RolloutInfo {
    /// Times of the first and of the last message.
    fn times(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let events = self.event_times.filter(|_| !self.items);
        let spans = || self.item_times.into_iter().chain(events);
        let first = spans().map(|(first, _)| first).min().or(self.started);
        let last = spans().map(|(_, last)| last).max();
        (first.and_then(Timestamp::from_micros), last.and_then(Timestamp::from_micros))
    }
}

/// Extends a span of times.
fn extend(span: &mut Option<(i64, i64)>, time: Option<Timestamp>) {
    if let Some(at) = time.map(Timestamp::as_micros) {
        let (first, last) = span.unwrap_or((at, at));
        *span = Some((first.min(at), last.max(at)));
    }
}

/// The type of a record's envelope, and the item inside it. A bare item counts as a `response_item`.
fn item(fields: &Map<String, Value>) -> Option<(&str, &Map<String, Value>)> {
    match fields.get("payload") {
        Some(Value::Object(payload)) => Some((text(fields, "type")?, payload)),
        Some(_) => None,
        None if fields.contains_key("record_type") => None,
        None => text(fields, "type").map(|_| ("response_item", fields)),
    }
}

/// Reads the fields of the records from this place on.
fn read_info(
    source: &Source,
    start: LineStart,
    info: &mut RolloutInfo,
    progress: &mut dyn FnMut(u64) -> Result<(), ImportError>,
) -> Result<(), ImportError> {
    for_each_record_from::<JsonRecord>(source, start, &mut |at, entry| {
        progress(at.bytes)?;
        let Entry::Record(JsonRecord { fields, .. }, _) = entry else { return Ok(()) };
        let time = fields.get("timestamp").and_then(crate::time::from_json);
        let Some((envelope, payload)) = item(&fields) else {
            if info.id.is_none() {
                info.id = text(&fields, "id").map(str::to_owned);
                info.started = time.map(Timestamp::as_micros);
            }
            return Ok(());
        };
        let kind = text(payload, "type").unwrap_or_default();
        match (envelope, kind) {
            ("session_meta", _) if info.id.is_none() => {
                info.id = text(payload, "id").map(str::to_owned);
                info.cwd = text(payload, "cwd").map(str::to_owned);
                let started = payload.get("timestamp").and_then(crate::time::from_json).or(time);
                info.started = started.map(Timestamp::as_micros);
                let spawn = spawned_by(payload);
                let name = ["agent_nickname", "agent_role"]
                    .into_iter()
                    .find_map(|key| text(payload, key).or_else(|| text(spawn?, key)));
                info.agent = spawn.and(name.map(str::to_owned).or_else(|| info.id.clone()));
            }
            ("event_msg", "thread_name_updated") => {
                info.title = text(payload, "thread_name").map(str::to_owned);
            }
            ("event_msg", "user_message" | "agent_message") => extend(&mut info.event_times, time),
            ("response_item", kind)
                if kind == "message" || CALLS.contains(&kind) || OUTPUTS.contains(&kind) =>
            {
                info.items |= kind == "message";
                extend(&mut info.item_times, time);
            }
            _ => {}
        }
        Ok(())
    })
}

fn session(source: &Source, info: &RolloutInfo) -> ForeignSession {
    let stem = source.stem().unwrap_or_default();
    let id = match &info.id {
        // The file name ends with the id of the thread. A copy with another name is imported as another
        // session.
        Some(id) if stem.is_empty() || stem.ends_with(id.as_str()) => id.clone(),
        Some(id) => format!("{id}/{stem}"),
        None => stem,
    };
    let path = source.path().map(|path| path.display().to_string());
    let mut session = ForeignSession::new(Origin { format: NAME.into(), id, path });
    session.continues = info.id.as_deref().and_then(|id| id.parse().ok()).map(Continuation::Branch);
    session.title.clone_from(&info.title);
    session.project = info.cwd.clone().map(|directory| Project { directory, repository: None });
    (session.created_at, session.updated_at) = info.times();
    session
}

/// The tokens of the newest request, from a `token_count` event.
fn token_usage(event: &Map<String, Value>) -> Option<Usage> {
    let counts = event.get("info")?.get("last_token_usage")?.as_object()?;
    let usage = usage(&[number(counts, "input_tokens")], &[number(counts, "output_tokens")])?;
    Some(usage.with_cache(number(counts, "cached_input_tokens"), None))
}

/// The author of a message; `None` if hfs does not know the role.
fn role(payload: &Map<String, Value>) -> Option<Role> {
    match text(payload, "role")? {
        "assistant" => Some(Role::Assistant),
        "developer" | "system" => Some(Role::System),
        "user" => Some(Role::User),
        _ => None,
    }
}

struct Rollout<'a> {
    session: StreamedSession<'a>,
    info: RolloutInfo,
    /// All turns of the user.
    turns: Vec<Turn>,
    /// The newest turn of the current history, by its index.
    newest_turn: Option<usize>,
    /// The calls that started subagents.
    spawns: Vec<Spawn>,
    /// Id of the subagent's thread whose rollout is being read.
    subagent: Option<String>,
    /// The models of all turns, and that of the current turn by its index.
    models: Vec<String>,
    model: Option<usize>,
    last: Option<Timestamp>,
    /// The message of hfs from which an export wrote the current record.
    written_from: Option<MessageId>,
}

impl Rollout<'_> {
    fn record(&mut self, record: JsonRecord, bytes: usize, line: u64) -> Result<(), ImportError> {
        let time = record.fields.get("timestamp").and_then(crate::time::from_json);
        self.last = time.or(self.last);
        self.written_from = record.fields.get(WRITTEN).and_then(written_from);
        let Some((envelope, payload)) = item(&record.fields) else {
            self.session.push_other(record, bytes, line);
            return Ok(());
        };
        let kind = text(payload, "type").unwrap_or_default().to_owned();
        match (envelope, kind.as_str()) {
            ("response_item", "message") => match role(payload) {
                Some(role) => self.message(record, role, line),
                None => {
                    self.session.push_other(record, bytes, line);
                    Ok(())
                }
            },
            ("response_item", "reasoning") => self.reasoning(record, line),
            ("response_item", kind) if CALLS.contains(&kind) => self.call(record, line),
            ("response_item", kind) if OUTPUTS.contains(&kind) => self.output(record, line),
            ("event_msg", "thread_rolled_back") => {
                let turns = payload.get("num_turns").and_then(Value::as_u64).unwrap_or(1);
                self.session.push_other(record, bytes, line);
                self.roll_back(turns)
            }
            ("event_msg", "user_message" | "agent_message") if !self.info.items => {
                self.event_message(record, line)
            }
            ("event_msg", "token_count") => {
                let usage = token_usage(payload);
                // The event is repeated when only the limits of the account have changed.
                if let Some(reply) = self.session.newest_reply() {
                    reply.draft.usage = usage.or(reply.draft.usage);
                }
                self.session.push_other(record, bytes, line);
                Ok(())
            }
            ("turn_context", _) => {
                if let Some(model) = text(payload, "model") {
                    self.set_model(model);
                }
                self.session.push_other(record, bytes, line);
                Ok(())
            }
            _ => {
                self.session.push_other(record, bytes, line);
                Ok(())
            }
        }
    }

    fn set_model(&mut self, name: &str) {
        let known = self.models.iter().position(|model| model == name);
        self.model = known.or_else(|| {
            self.models.push(name.to_owned());
            Some(self.models.len() - 1)
        });
    }

    fn at(&self) -> Timestamp {
        self.last.or(self.info.times().0).unwrap_or(Timestamp::UNKNOWN)
    }

    fn new_message(&self, role: Role, parts: Vec<Part>, line: u64) -> ImportedMessage {
        let id = match &self.subagent {
            Some(thread) => format!("{thread}/line-{line}"),
            None => format!("line-{line}"),
        };
        let mut message = ImportedMessage::new(NAME, id, role, parts, self.at());
        if self.subagent.is_some() {
            message.draft.set_flag(MessageFlag::Sidechain);
        }
        if role == Role::Assistant {
            message.draft.model = self.model.and_then(|model| self.models.get(model)).cloned();
        }
        if let Some(id) = self.written_from {
            message.draft.source = Some(MessageSource::hfs(id));
        }
        message
    }

    /// The newest message, if the current record may belong to it: it is the assistant's, and an export wrote both from
    /// the same message of hfs, or neither.
    fn newest_reply(&mut self) -> Option<&mut ImportedMessage> {
        let written_from = self.written_from;
        self.session.newest().filter(|newest| {
            let source = newest.draft.source.as_ref().and_then(MessageSource::hfs_message);
            newest.draft.role == Role::Assistant && source == written_from
        })
    }

    /// Ends the session, and says where the next import continues.
    fn finish(
        mut self,
        companions: &[PathBuf],
        known: &HashMap<String, [u8; 32]>,
    ) -> Result<(), ImportError> {
        let places = self.session.resume_places().map(|(place, end)| (place.clone(), end));
        let info = self.info.clone();
        let mut turns = std::mem::take(&mut self.turns);
        let mut subagents = companion_states(companions);
        // A subagent may have been started by another one, so all are read if one has changed.
        if subagents != *known {
            for path in companions {
                if !self.read_subagent(path)? {
                    subagents.remove(&path.display().to_string());
                }
            }
        }
        if let Some((place, end)) = places {
            turns.truncate(place.known.turns);
            let spawns = self.spawns.into_iter().filter(|spawn| !spawn.by_subagent).collect();
            let models = std::mem::take(&mut self.models);
            let saved = SavedState { info, place, turns, spawns, models, subagents, end };
            self.session.resume_point(end.offset, NAME, &saved)?;
        }
        self.session.finish()
    }

    /// Adds the rollout of a subagent as a branch that forks where the subagent was started. Returns whether that place is known and all
    /// messages were read.
    fn read_subagent(&mut self, path: &Path) -> Result<bool, ImportError> {
        let source = Source::found(path);
        let mut info = RolloutInfo::default();
        let session = &mut self.session;
        match read_info(&source, LineStart::BEGINNING, &mut info, &mut |_| session.report_progress(0)) {
            Ok(()) => {}
            Err(error @ ImportError::Interrupted { .. }) => return Err(error),
            // A damaged rollout of a subagent does not fail the import of the session.
            Err(error) => {
                session.report.warn(None, format!("a subagent was skipped: {error}"));
                return Ok(false);
            }
        }
        let thread = info.id.clone().or_else(|| source.stem()).unwrap_or_default();
        let named = self.spawns.iter().find(|spawn| spawn.thread.as_ref() == Some(&thread));
        // Newer versions do not name the thread in the result of the call.
        let is_before =
            |spawn: &&Spawn| !spawn.by_subagent && spawn.thread.is_none() && spawn.time <= info.started;
        let spawn = named.or_else(|| self.spawns.iter().rfind(is_before));
        let position = spawn.map(|spawn| spawn.position);
        let name = info.agent.clone().unwrap_or_else(|| thread.clone());
        self.session.begin_subagent(position.unwrap_or((0, 0)), name)?;
        self.subagent = Some(thread);
        self.info = info;
        self.turns.clear();
        (self.newest_turn, self.last, self.model) = (None, None, None);
        for_each_record_from::<JsonRecord>(&source, LineStart::BEGINNING, &mut |at, entry| match entry {
            Entry::Damaged(why) => {
                self.session.report.dropped(Some(at.line), why);
                Ok(())
            }
            Entry::Record(record, length) => self.record(record, length, at.line),
        })?;
        Ok(position.is_some())
    }

    /// Notes the call if it starts a subagent. The message with the call is the newest one.
    fn note_spawn(&mut self, call: &str, name: &str) {
        if name.contains("spawn_agent") {
            self.spawns.retain(|spawn| spawn.call != call);
            self.spawns.push(Spawn {
                call: call.to_owned(),
                position: self.session.position(),
                time: self.last.map(Timestamp::as_micros),
                thread: None,
                by_subagent: self.subagent.is_some(),
            });
        }
    }

    /// Notes which thread a call has started, if its result names it.
    fn note_spawned(&mut self, call: &str, output: &str) {
        if let Some(spawn) = self.spawns.iter_mut().find(|spawn| spawn.call == call)
            && let Some(result) = parse(output)
        {
            let id = ["agent_id", "thread_id"].into_iter().find_map(|key| result.value.get(key)?.as_str());
            spawn.thread = id.map(str::to_owned);
        }
    }

    fn begin_turn(&mut self) {
        let turn = Turn { position: self.session.position(), previous: self.newest_turn };
        self.newest_turn = Some(self.turns.len());
        self.turns.push(turn);
    }

    fn roll_back(&mut self, turns: u64) -> Result<(), ImportError> {
        let (mut branch, mut seq) = self.session.position();
        for _ in 0..turns {
            let Some(turn) = self.newest_turn.and_then(|newest| self.turns.get(newest)) else { break };
            (branch, seq) = turn.position;
            self.newest_turn = turn.previous;
        }
        self.session.fork(branch, seq)
    }

    fn message(&mut self, mut record: JsonRecord, role: Role, line: u64) -> Result<(), ImportError> {
        self.session.report.mapped();
        let mut inner = take_payload(&mut record.fields);
        let payload = &mut inner;
        let joins = role == Role::Assistant && self.newest_reply().is_some_and(|newest| !has_output(newest));
        // The new parts are appended to the existing ones, so that the references in the stored record have
        // the right indexes.
        let mut parts =
            if joins { self.session.newest().map(|n| std::mem::take(&mut n.draft.parts)) } else { None }
                .unwrap_or_default();
        let mut attachments = Vec::new();
        content(payload, &mut parts, &mut attachments);
        let stored = stored_record(record, inner);
        if joins && let Some(newest) = self.session.newest() {
            newest.draft.parts = parts;
            newest.attachments.append(&mut attachments);
            self.session.attach_record(stored);
            return Ok(());
        }
        let mut message = self.new_message(role, parts, line);
        message.draft.mark_injected_context();
        if message.draft.is_typed() {
            self.begin_turn();
        }
        message.attachments = attachments;
        self.session.push_message(message)?;
        self.session.attach_record(stored);
        Ok(())
    }

    /// Adds a message from an event, for files without messages as items.
    fn event_message(&mut self, mut record: JsonRecord, line: u64) -> Result<(), ImportError> {
        self.session.report.mapped();
        let mut inner = take_payload(&mut record.fields);
        let payload = &mut inner;
        let role = if text(payload, "type") == Some("user_message") { Role::User } else { Role::Assistant };
        let content = text(payload, "message").unwrap_or_default().to_owned();
        if role == Role::User {
            self.begin_turn();
        }
        payload.insert("message".into(), json!({ PART: [0, 0] }));
        let mut message = self.new_message(role, vec![Part::text(content)], line);
        if let Some(Value::Array(images)) = payload.get_mut("images") {
            for image in images {
                let picture = image.as_str().and_then(|url| FilePart::at_url(url, "image/*", None));
                if let Some(picture) = picture {
                    if picture.attachment.is_some() {
                        *image = json!({ PART: [0, message.draft.parts.len()] });
                    }
                    message.draft.parts.push(picture.part);
                    message.attachments.extend(picture.attachment);
                }
            }
        }
        self.session.push_message(message)?;
        self.session.attach_record(stored_record(record, inner));
        Ok(())
    }

    /// Adds a part to the newest message if it is the assistant's; otherwise starts a message. With `begins`,
    /// also starts a message if the newest one has output.
    fn assistant(&mut self, part: Part, begins: bool, line: u64) -> Result<(), ImportError> {
        let joins = self.newest_reply().is_some_and(|newest| !(begins && has_output(newest)));
        if joins {
            if let Some(newest) = self.session.newest() {
                newest.draft.parts.push(part);
            }
            return Ok(());
        }
        let message = self.new_message(Role::Assistant, vec![part], line);
        self.session.push_message(message)
    }

    fn reasoning(&mut self, mut record: JsonRecord, line: u64) -> Result<(), ImportError> {
        self.session.report.mapped();
        let mut inner = take_payload(&mut record.fields);
        let payload = &mut inner;
        let field_text =
            |key: &str| payload.get(key).map(|value| ToolOutput::new(value).text).unwrap_or_default();
        let mut thought = field_text("summary");
        if thought.is_empty() {
            thought = field_text("content");
        }
        let signature = text(payload, "encrypted_content").map(str::to_owned);
        self.assistant(Part::Thinking { text: thought, signature }, true, line)?;
        self.session.attach_record(stored_record(record, inner));
        Ok(())
    }

    fn call(&mut self, mut record: JsonRecord, line: u64) -> Result<(), ImportError> {
        self.session.report.mapped();
        let mut inner = take_payload(&mut record.fields);
        let payload = &mut inner;
        let kind = text(payload, "type").unwrap_or_default().to_owned();
        let id =
            ["call_id", "id"].into_iter().find_map(|key| text(payload, key)).unwrap_or_default().to_owned();
        let name = text(payload, "name").map_or(kind, str::to_owned);
        let picture = text(payload, "result").filter(|_| name == IMAGE_GENERATION);
        let picture = picture.and_then(|data| FilePart::from_base64("image/png", data, None));
        let input = if payload.contains_key("arguments") {
            take_arguments(payload)
        } else {
            let keys = ["input", "action", "query", "revised_prompt"];
            let other = keys.into_iter().find_map(|key| payload.get(key));
            other.cloned().unwrap_or(Value::Null)
        };
        self.assistant(Part::ToolCall { id: id.clone(), name: name.clone(), input }, false, line)?;
        self.note_spawn(&id, &name);
        if let (Some(picture), Some(newest)) = (picture, self.session.newest()) {
            payload.insert("result".into(), json!({ PART: [0, newest.draft.parts.len()] }));
            newest.draft.parts.push(picture.part);
            newest.attachments.extend(picture.attachment);
        }
        self.session.attach_record(stored_record(record, inner));
        Ok(())
    }

    fn output(&mut self, mut record: JsonRecord, line: u64) -> Result<(), ImportError> {
        self.session.report.mapped();
        let mut inner = take_payload(&mut record.fields);
        let payload = &mut inner;
        let id = text(payload, "call_id").unwrap_or_default().to_owned();
        let output = ["output", "tools"].into_iter().find_map(|key| payload.get(key)).unwrap_or(&Value::Null);
        let CallOutput { output: ToolOutput { text: output, files, attachments }, is_error } =
            CallOutput::new(output);
        match payload.get_mut("output") {
            Some(Value::String(text)) if *text == output => {
                payload.insert("output".into(), json!({ PART: [0, 0] }));
            }
            Some(Value::Array(items)) => replace_pictures(items),
            Some(Value::Object(fields)) => {
                if let Some(Value::Array(items)) = fields.get_mut("content") {
                    replace_pictures(items);
                }
            }
            _ => {}
        }
        self.note_spawned(&id, &output);
        let mut parts = vec![Part::ToolResult { id, output, is_error }];
        parts.extend(files);
        let mut message = self.new_message(Role::Tool, parts, line);
        message.attachments = attachments;
        self.session.push_message(message)?;
        self.session.attach_record(stored_record(record, inner));
        Ok(())
    }
}

/// The output of a call, and whether the call failed.
struct CallOutput {
    output: ToolOutput,
    is_error: bool,
}

impl CallOutput {
    /// Reads an output as Codex writes it: text, content blocks, `{content, success}`, or for commands and patches JSON
    /// inside of a string, `{output, metadata: {exit_code}}`.
    fn new(output: &Value) -> Self {
        let is_error = output.get("success") == Some(&Value::Bool(false));
        if let Some(command) = output.as_str().filter(|text| text.starts_with('{')).and_then(parse)
            && let (Some(text), Some(metadata)) = (
                command.value.get("output").filter(|output| output.is_string()),
                command.value.get("metadata"),
            )
        {
            let exit_code = metadata.get("exit_code").and_then(Value::as_i64);
            return Self { output: ToolOutput::new(text), is_error: exit_code.is_some_and(|code| code != 0) };
        }
        match output {
            Value::Object(fields) if fields.contains_key("content") => {
                let content = fields.get("content").unwrap_or(&Value::Null);
                Self { output: ToolOutput::new(content), is_error }
            }
            other => Self { output: ToolOutput::new(other), is_error },
        }
    }
}

/// Replaces the data of pictures in an output by references to the parts that follow the result.
fn replace_pictures(items: &mut [Value]) {
    let mut index = 0;
    for item in items {
        let Value::Object(fields) = item else { continue };
        let Some(file) = file_of(fields) else { continue };
        index += 1;
        if file.attachment.is_some() && fields.get("image_url").is_some_and(Value::is_string) {
            fields.insert("image_url".into(), json!({ PART: [0, index] }));
        }
    }
}

/// Removes the item from a record and returns it. A bare item is the record itself.
fn take_payload(fields: &mut Map<String, Value>) -> Map<String, Value> {
    match fields.get_mut("payload") {
        Some(Value::Object(payload)) => std::mem::take(payload),
        _ => std::mem::take(fields),
    }
}

/// The record to store, with the remaining fields of its item.
fn stored_record(record: JsonRecord, inner: Map<String, Value>) -> Value {
    if let Some(raw) = record.raw {
        return json!({ crate::readers::RAW: raw });
    }
    let mut fields = record.fields;
    match fields.get_mut("payload") {
        Some(payload) => {
            *payload = Value::Object(inner);
            Value::Object(fields)
        }
        None => Value::Object(inner),
    }
}

/// Converts the content of a message into parts, and replaces it by references to them.
fn content(
    payload: &mut Map<String, Value>,
    parts: &mut Vec<Part>,
    attachments: &mut Vec<hfs_core::Attachment>,
) {
    let Some(Value::Array(items)) = payload.get_mut("content") else {
        if let Some(content) = text(payload, "content").map(str::to_owned) {
            payload.insert("content".into(), json!({ PART: [0, parts.len()] }));
            parts.push(Part::Text { text: content });
        }
        return;
    };
    for item in items {
        let index = parts.len();
        let Value::Object(fields) = item else {
            parts.push(Part::Opaque { source: NAME.into(), raw: item.take() });
            *item = json!({ PART: [0, index] });
            continue;
        };
        match (text(fields, "type").unwrap_or_default(), text(fields, "text").map(str::to_owned)) {
            ("input_text" | "output_text" | "text", Some(content)) => {
                fields.insert("text".into(), json!({ PART: [0, index] }));
                parts.push(Part::Text { text: content });
            }
            _ => match file_of(fields) {
                Some(file) => {
                    if file.attachment.is_some() && fields.get("image_url").is_some_and(Value::is_string) {
                        fields.insert("image_url".into(), json!({ PART: [0, index] }));
                    }
                    attachments.extend(file.attachment);
                    parts.push(file.part);
                }
                None => {
                    parts.push(Part::Opaque { source: NAME.into(), raw: item.take() });
                    *item = json!({ PART: [0, index] });
                }
            },
        }
    }
}
