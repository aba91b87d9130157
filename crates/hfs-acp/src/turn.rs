//! Writes what an agent sends during a turn as messages: the ones that an import of the agent's own transcript would give.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use agent_client_protocol_schema::v1::{
    ContentBlock, ContentChunk, Notice, Plan, PlanEntryStatus, RequestPermissionRequest, SessionUpdate,
    ToolCallStatus, UsageUpdate,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{
    Attachment, CompletedMessage, ContentHash, ContextLimit, ContextUpdate, DeltaKind, EventPayload,
    LimitSource, Part, PassthroughFields, PermissionRecord, PlanStep, PlanStepStatus, ReplyDelta, Role,
    RunSink, TextDelta, ToolEnding, ToolEvent, append_delta,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::front_end::selected_model;
use crate::launch::EnvironmentSecrets;
use crate::memory::TurnFingerprints;
use crate::permission::{ActionKind, Decision, PermissionQuestion, shown_content};
use crate::tool_call::{PartialOutput, ToolCallState};

/// Source of parts that hfs does not model, and key of the fields kept with a message.
pub(crate) const SOURCE: &str = "acp";
/// Key of the durations of calls among these fields.
const DURATIONS: &str = "durations";
/// Interval at which the output of a running call is written.
const PARTIAL_INTERVAL: Duration = Duration::from_millis(200);

/// Bounds of what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnLimits {
    /// Bytes of a call's output. The rest is counted.
    pub max_output_bytes: usize,
}

impl Default for TurnLimits {
    fn default() -> Self {
        Self { max_output_bytes: 4 << 20 }
    }
}

/// The message that is being written.
#[derive(Debug)]
struct OpenMessage {
    role: Role,
    /// The agent's id of the message, if it sends ids.
    id: Option<String>,
    /// The parts as the sink has them.
    parts: Vec<Part>,
    /// What is kept of the calls whose results the message has.
    calls: Vec<Value>,
    /// How long these calls took, in milliseconds, by their ids.
    durations: Map<String, Value>,
}

impl OpenMessage {
    fn new(role: Role) -> Self {
        Self { role, id: None, parts: Vec::new(), calls: Vec::new(), durations: Map::new() }
    }

    /// Whether another message may follow. Its calls would otherwise be separated from their results.
    fn may_end(&self) -> bool {
        !self.parts.is_empty() && !self.parts.iter().any(|part| matches!(part, Part::ToolCall { .. }))
    }
}

/// The state of a turn.
pub(crate) struct TurnRecorder<'a> {
    agent: &'a str,
    sink: &'a dyn RunSink,
    limits: TurnLimits,
    secrets: &'a EnvironmentSecrets,
    /// The end of the text so far that may be the beginning of a secret, which arrives in pieces.
    held: Option<(DeltaKind, String)>,
    open: OpenMessage,
    /// Messages that are complete and not empty.
    completed: usize,
    fingerprints: TurnFingerprints,
    calls: BTreeMap<String, ToolCallState>,
    /// Calls that were announced before the agent knew their arguments, in the order of the announcements. They are written
    /// with the next update of the call, or before anything else is written.
    announced: Vec<String>,
    plan: Option<Value>,
    lists: ReportedLists,
    pub model: Option<String>,
    /// Kinds of updates that are not known, each logged once.
    unknown: HashSet<String>,
    /// Pictures that have to be stored before the message that refers to them.
    pub pictures: Vec<Attachment>,
}

impl<'a> TurnRecorder<'a> {
    pub fn new(
        agent: &'a str,
        sink: &'a dyn RunSink,
        limits: TurnLimits,
        secrets: &'a EnvironmentSecrets,
        model: Option<String>,
        lists: ReportedLists,
    ) -> Self {
        Self {
            agent,
            sink,
            limits,
            secrets,
            held: None,
            open: OpenMessage::new(Role::Assistant),
            completed: 0,
            fingerprints: TurnFingerprints::default(),
            calls: BTreeMap::new(),
            announced: Vec::new(),
            plan: None,
            lists,
            model,
            unknown: HashSet::new(),
            pictures: Vec::new(),
        }
    }

    fn agent(&self) -> String {
        self.agent.to_owned()
    }

    pub fn emit(&self, event: &ToolEvent) {
        if let Some(payload) = event.payload() {
            self.sink.event(payload);
        }
    }

    /// Records an update that arrived before the turn, when no message was being written.
    pub fn report(&mut self, update: Value) {
        let update = match self.lists.add(&update) {
            ListChange::Whole => update,
            ListChange::Returned(fingerprint) => {
                json!({"sessionUpdate": update.get("sessionUpdate"), "returned": fingerprint})
            }
            ListChange::Unchanged => return,
        };
        self.emit(&ToolEvent::AgentUpdated { agent: self.agent(), update });
    }

    /// The newest lists that the agent has reported on the branch.
    pub fn lists(&self) -> ReportedLists {
        self.lists.clone()
    }

    /// Tells the user something about the agent's output.
    pub fn warn(&self, title: String) {
        let (agent, severity) = (self.agent(), "warning".to_owned());
        self.emit(&ToolEvent::NoticeReceived { agent, severity, title, description: None });
    }

    /// Records an update.
    pub fn update(&mut self, update: Value) {
        match SessionUpdate::deserialize(&update) {
            // What a subagent does is part of its call, not of the conversation.
            Ok(
                SessionUpdate::AgentMessageChunk(_)
                | SessionUpdate::AgentThoughtChunk(_)
                | SessionUpdate::ToolCall(_)
                | SessionUpdate::ToolCallUpdate(_),
            ) if self.is_of_subagent(&update) => self.report(update),
            Ok(SessionUpdate::AgentMessageChunk(chunk)) => self.chunk(chunk, DeltaKind::Text, update),
            Ok(SessionUpdate::AgentThoughtChunk(chunk)) => self.chunk(chunk, DeltaKind::Thinking, update),
            Ok(SessionUpdate::ToolCall(call)) => self.call(&call.tool_call_id.to_string(), update),
            Ok(SessionUpdate::ToolCallUpdate(call)) => self.call(&call.tool_call_id.to_string(), update),
            Ok(SessionUpdate::Plan(plan)) => self.plan(&plan, update),
            Ok(SessionUpdate::UsageUpdate(usage)) => self.usage(&usage, &update),
            Ok(SessionUpdate::Notice(notice)) => self.notice(notice),
            Ok(SessionUpdate::ConfigOptionUpdate(_)) => {
                if let Some(model) = current_model(&update) {
                    self.model = Some(model);
                }
                self.report(update);
            }
            Ok(
                SessionUpdate::UserMessageChunk(_)
                | SessionUpdate::PlanUpdate(_)
                | SessionUpdate::PlanRemoved(_)
                | SessionUpdate::AvailableCommandsUpdate(_)
                | SessionUpdate::CurrentModeUpdate(_)
                | SessionUpdate::SessionInfoUpdate(_)
                | SessionUpdate::SubagentUpdate(_)
                | SessionUpdate::SessionMessage(_)
                | SessionUpdate::SessionMessageChunk(_),
            ) => self.report(update),
            // They have a place in the conversation.
            Ok(SessionUpdate::CompactionUpdate(_) | SessionUpdate::CompactionSummaryChunk(_)) => {
                self.opaque(update);
            }
            // Of another version of the protocol, or not as the protocol has it.
            Ok(_) | Err(_) => {
                let kind = update.get("sessionUpdate").and_then(Value::as_str).unwrap_or_default().to_owned();
                if self.unknown.insert(kind.clone()) {
                    tracing::debug!(
                        agent = self.agent,
                        kind,
                        "an update of an unknown kind is kept as it came"
                    );
                }
                self.opaque(update);
            }
        }
    }

    /// Whether an update belongs to a subagent, as Claude Code marks it. A call of a subagent that has asked a question is part
    /// of the conversation.
    fn is_of_subagent(&self, update: &Value) -> bool {
        let parent = update.get("_meta").and_then(|meta| meta.get("claudeCode")?.get("parentToolUseId"));
        let call = update.get("toolCallId").and_then(Value::as_str);
        parent.is_some_and(Value::is_string) && !call.is_some_and(|call| self.calls.contains_key(call))
    }

    /// Completes the message that is being written, unless the next part can be added to it.
    fn begin(&mut self, role: Role) {
        if self.open.role != role {
            self.complete(role);
        }
    }

    fn complete(&mut self, next: Role) {
        self.write_held();
        let extra = self.extra();
        let open = std::mem::replace(&mut self.open, OpenMessage::new(next));
        if !open.parts.is_empty() {
            self.fingerprints.add(open.role, open.parts);
            self.completed += 1;
        }
        let model = self.model.clone().filter(|_| open.role == Role::Assistant);
        self.sink.next_message(CompletedMessage::streamed().with_model(model).with_extra(extra), next);
    }

    /// The fields to keep with the open message.
    fn extra(&mut self) -> PassthroughFields {
        let mut fields = Map::new();
        if let Some(id) = self.open.id.take() {
            fields.insert("message_id".into(), id.into());
        }
        if !self.open.calls.is_empty() {
            fields.insert("tool_calls".into(), std::mem::take(&mut self.open.calls).into());
        }
        if !self.open.durations.is_empty() {
            fields.insert(DURATIONS.into(), std::mem::take(&mut self.open.durations).into());
        }
        if fields.is_empty() {
            return PassthroughFields::new();
        }
        PassthroughFields::from_iter([(SOURCE.to_owned(), Value::Object(fields))])
    }

    /// Writes a piece of text, without secrets of the agent's environment that were cut into pieces.
    fn write_text(&mut self, kind: DeltaKind, piece: &str) {
        if self.held.as_ref().is_some_and(|(held, _)| *held != kind) {
            self.write_held();
        }
        let mut text = self.held.take().map(|(_, text)| text).unwrap_or_default();
        text.push_str(piece);
        let mut bytes = text.into_bytes();
        self.secrets.mask(&mut bytes);
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        let rest = text.split_off(text.floor_char_boundary(text.len() - self.secrets.begun_at_end(&text)));
        self.held = Some((kind, rest)).filter(|(_, rest)| !rest.is_empty());
        if !text.is_empty() {
            self.write(ReplyDelta::Text(TextDelta { kind, text }));
        }
    }

    /// Writes the text that was only the beginning of a secret, because the text has ended.
    fn write_held(&mut self) {
        if let Some((kind, text)) = self.held.take() {
            self.write(ReplyDelta::Text(TextDelta { kind, text }));
        }
    }

    fn write(&mut self, delta: ReplyDelta) {
        append_delta(&mut self.open.parts, &delta);
        self.sink.reply(delta);
    }

    fn write_part(&mut self, part: Part) {
        self.write_held();
        append_delta(&mut self.open.parts, &ReplyDelta::Part(part.clone()));
        self.sink.part(part);
    }

    fn opaque(&mut self, raw: Value) {
        self.write_announced();
        self.begin(Role::Assistant);
        self.write_part(Part::Opaque { source: SOURCE.to_owned(), raw });
    }

    fn chunk(&mut self, chunk: ContentChunk, kind: DeltaKind, raw: Value) {
        let id = chunk.message_id.as_ref().map(ToString::to_string);
        if id.is_none() && self.is_notice(&chunk, &raw) {
            return;
        }
        self.write_announced();
        self.begin(Role::Assistant);
        if id.is_some() && self.open.id != id && self.open.may_end() {
            self.complete(Role::Assistant);
        }
        self.open.id = id.or_else(|| self.open.id.take());
        match chunk.content {
            ContentBlock::Text(text) => {
                self.write_text(kind, &text.text);
            }
            ContentBlock::Image(image) => match self.picture(&image.data, &image.mime_type, image.uri) {
                Some(part) => self.write_part(part),
                None => self.write_part(Part::Opaque { source: SOURCE.to_owned(), raw }),
            },
            // Sound, links and resources, as they came.
            _ => self.write_part(Part::Opaque { source: SOURCE.to_owned(), raw }),
        }
    }

    /// Reports a text of the agent's program that is not part of the conversation, as Claude Code marks it.
    fn is_notice(&self, chunk: &ContentChunk, raw: &Value) -> bool {
        let marks = raw.get("_meta").and_then(|meta| meta.get("claudeCode"));
        let mark = |name: &str| marks.and_then(|marks| marks.get(name)?.as_str());
        let (Some("informational"), ContentBlock::Text(text)) = (mark("kind"), &chunk.content) else {
            return false;
        };
        self.emit(&ToolEvent::NoticeReceived {
            agent: self.agent(),
            severity: mark("level").unwrap_or("info").to_owned(),
            title: text.text.clone(),
            description: None,
        });
        true
    }

    /// A part that refers to a picture. `None` if its data is not base64.
    fn picture(&mut self, data: &str, media_type: &str, uri: Option<String>) -> Option<Part> {
        let bytes = STANDARD.decode(data).ok()?;
        let hash = ContentHash::from_bytes(*blake3::hash(&bytes).as_bytes());
        let part = Part::Attachment {
            media_type: media_type.to_owned(),
            name: uri,
            hash: Some(hash),
            bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        };
        self.pictures.push(Attachment { hash, bytes });
        Some(part)
    }

    /// Applies an update to a call, and writes what has changed.
    fn call(&mut self, id: &str, update: Value) {
        let Value::Object(update) = update else { return };
        let known = self.calls.remove(id);
        let is_new = known.is_none();
        let mut call = known.unwrap_or_else(|| ToolCallState::new(id.to_owned()));
        let was_ended = call.is_ended;
        call.merge(update);
        if is_new && call.status() == ToolCallStatus::Pending {
            self.announced.push(id.to_owned());
            self.calls.insert(id.to_owned(), call);
            return;
        }
        self.write_call(&mut call);
        if was_ended {
            // The result is written; what came after it is kept beside the next one.
            self.open.calls.push(call.rest("", self.limits.max_output_bytes));
        } else {
            self.write_result(&mut call);
        }
        self.calls.insert(id.to_owned(), call);
    }

    /// Writes the calls that were only announced.
    fn write_announced(&mut self) {
        for id in std::mem::take(&mut self.announced) {
            if let Some(mut call) = self.calls.remove(&id) {
                self.write_call(&mut call);
                self.calls.insert(id, call);
            }
        }
    }

    /// Writes the call, or completes its arguments.
    fn write_call(&mut self, call: &mut ToolCallState) {
        self.announced.retain(|id| *id != call.id);
        let input = call.shown_input();
        let part = Part::ToolCall { id: call.id.clone(), name: call.name(), input: input.clone() };
        match call.message {
            None => {
                self.begin(Role::Assistant);
                self.write_part(part);
                call.message = Some(self.completed);
                call.written_input = Some(input);
                self.emit(&ToolEvent::ToolStarted {
                    agent: self.agent(),
                    call: call.id.clone(),
                    name: call.name(),
                    title: call.title(),
                    kind: call.kind().to_string(),
                });
            }
            Some(message)
                if message == self.completed
                    && self.open.role == Role::Assistant
                    && !self.open.parts.contains(&part) =>
            {
                self.write_part(part);
                call.written_input = Some(input);
            }
            // The message is complete. `rest` keeps arguments that came later.
            Some(_) => {}
        }
    }

    fn write_result(&mut self, call: &mut ToolCallState) {
        let is_error = match call.status() {
            ToolCallStatus::Completed => false,
            ToolCallStatus::Failed => true,
            _ => {
                self.write_partial(call);
                return;
            }
        };
        let output = self.bounded(call.output());
        self.begin(Role::Tool);
        let is_partial_elsewhere =
            call.partial.as_ref().is_some_and(|partial| partial.message != self.completed);
        if is_partial_elsewhere {
            // A message that is complete has a part of the output. A second result of the same call would be refused by
            // models, so the whole output is kept with the call.
            self.open.calls.push(call.rest("", usize::MAX));
            self.write_part(Part::Opaque {
                source: SOURCE.to_owned(),
                raw: json!({"toolCallId": call.id, "output": output}),
            });
        } else {
            self.write_part(Part::ToolResult { id: call.id.clone(), output: output.clone(), is_error });
            self.open.calls.push(call.rest(&output, self.limits.max_output_bytes));
        }
        for image in call.images() {
            if let Some(part) = self.picture(&image.data, &image.mime_type, image.uri) {
                self.write_part(part);
            }
        }
        call.is_ended = true;
        self.open.durations.insert(call.id.clone(), duration_ms(call).into());
        let ending = if is_error { ToolEnding::Failed } else { ToolEnding::Completed };
        self.emit_ended(call, ending);
    }

    fn emit_ended(&self, call: &ToolCallState, ending: ToolEnding) {
        self.emit(&ToolEvent::ToolEnded {
            agent: self.agent(),
            call: call.id.clone(),
            name: call.name(),
            title: call.title(),
            ending,
            duration_ms: duration_ms(call),
        });
    }

    /// Writes the output of a running call, if no other call is running, so that a crash keeps it. With several, it would
    /// separate a call from its result.
    fn write_partial(&mut self, call: &mut ToolCallState) {
        let is_due =
            call.partial.as_ref().is_none_or(|partial| partial.written_at.elapsed() >= PARTIAL_INTERVAL);
        let others = self.calls.values().any(|other| !other.is_ended);
        if !is_due || others || call.status() != ToolCallStatus::InProgress {
            return;
        }
        let mut output = self.bounded(call.output());
        // The rest of a secret may follow.
        output.truncate(output.floor_char_boundary(output.len() - self.secrets.begun_at_end(&output)));
        let written = call.partial.as_ref();
        if output.is_empty()
            || written.is_some_and(|partial| partial.text == output || partial.message != self.completed)
        {
            return;
        }
        self.begin(Role::Tool);
        self.write_part(Part::ToolResult { id: call.id.clone(), output: output.clone(), is_error: false });
        call.partial =
            Some(PartialOutput { message: self.completed, text: output, written_at: Instant::now() });
    }

    /// An output without secrets that arrived in pieces, cut at the limit, with how much is missing.
    fn bounded(&self, output: String) -> String {
        let mut bytes = output.into_bytes();
        self.secrets.mask(&mut bytes);
        let mut output = String::from_utf8_lossy(&bytes).into_owned();
        let limit = self.limits.max_output_bytes;
        if output.len() > limit {
            let end = output.floor_char_boundary(limit);
            let missing = output.len() - end;
            output.truncate(end);
            output.push_str(&format!("\n[{missing} more bytes of output were not kept]"));
        }
        output
    }

    /// Records a question of the agent: its call is part of the conversation before the question is answered.
    pub fn question(&mut self, request: &RequestPermissionRequest, raw: &Value) -> PermissionQuestion {
        let id = request.tool_call.tool_call_id.to_string();
        let update = raw.get("toolCall").and_then(Value::as_object).cloned().unwrap_or_default();
        let mut call = self.calls.remove(&id).unwrap_or_else(|| ToolCallState::new(id.clone()));
        call.merge(update);
        self.write_call(&mut call);
        let fields = call.typed().map(|call| call.fields);
        let content = fields.as_ref().and_then(|fields| fields.content.clone()).unwrap_or_default();
        let locations = fields.and_then(|fields| fields.locations).unwrap_or_default();
        let (changes, text) = shown_content(&content);
        let question = PermissionQuestion {
            agent: self.agent(),
            call: id.clone(),
            title: call.title(),
            kind: call.kind(),
            input: call.input().cloned(),
            changes,
            locations: locations.into_iter().map(|location| location.path).collect(),
            text,
            request: raw.clone(),
        };
        self.calls.insert(id, call);
        self.emit(&ToolEvent::PermissionRequested {
            agent: self.agent(),
            call: question.call.clone(),
            title: question.title.clone(),
            kind: question.kind.to_string(),
        });
        question
    }

    /// Records the answer to a question, also as a part of the message that is being written, so that a search finds it.
    pub fn decided(
        &mut self,
        call: &str,
        title: &str,
        kind: ActionKind,
        decision: &Decision,
        option: Option<String>,
    ) {
        self.emit(&ToolEvent::PermissionDecided {
            agent: self.agent(),
            call: call.to_owned(),
            title: title.to_owned(),
            kind: kind.to_string(),
            allowed: decision.allowed,
            by: decision.by,
            option,
        });
        let record = PermissionRecord {
            call: call.to_owned(),
            kind: kind.to_string(),
            allowed: decision.allowed,
            by: decision.by,
            title: None,
        };
        let is_with_call = self.calls.get(call).is_some_and(|call| call.message == Some(self.completed));
        let record = if is_with_call { record } else { record.with_title(title) };
        self.write_part(record.to_part());
    }

    fn plan(&mut self, plan: &Plan, raw: Value) {
        let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
        let steps = plan.entries.iter().map(|entry| PlanStep {
            content: entry.content.clone(),
            status: match entry.status {
                PlanEntryStatus::Pending => PlanStepStatus::Pending,
                PlanEntryStatus::InProgress => PlanStepStatus::InProgress,
                PlanEntryStatus::Completed => PlanStepStatus::Completed,
                _ => PlanStepStatus::Unknown,
            },
            priority: word(serde_json::to_value(&entry.priority).unwrap_or_default()),
        });
        self.emit(&ToolEvent::PlanUpdated { agent: self.agent(), steps: steps.collect() });
        self.plan = Some(raw);
    }

    fn usage(&mut self, usage: &UsageUpdate, raw: &Value) {
        // Claude Code names the model only here; the option of its session may be "default".
        let model = raw.get("_meta").and_then(|meta| meta.get("_claude/model")?.as_str());
        if let Some(model) = model {
            self.model = Some(model.to_owned());
        }
        let update = ContextUpdate {
            model: self.model.clone(),
            tokens: usage.used,
            limit: (usage.size > 0)
                .then_some(ContextLimit { tokens: usage.size, source: LimitSource::Server }),
            left_out: 0,
            left_out_tokens: 0,
        };
        let Some(payload) = update.payload() else { return };
        let cost = raw.get("cost").filter(|cost| !cost.is_null());
        self.sink.event(match (payload, cost) {
            (EventPayload::Custom(mut event), Some(cost)) => {
                event.fields.insert("cost".into(), cost.clone());
                EventPayload::Custom(event)
            }
            (payload, _) => payload,
        });
    }

    fn notice(&self, notice: Notice) {
        let severity = serde_json::to_value(&notice.severity).unwrap_or_default();
        self.emit(&ToolEvent::NoticeReceived {
            agent: self.agent(),
            severity: severity.as_str().unwrap_or_default().to_owned(),
            title: notice.title,
            description: notice.description,
        });
    }

    /// Ends the turn. Returns the last message, as it was streamed.
    pub fn end(&mut self) -> CompletedMessage {
        self.write_held();
        self.write_announced();
        let running = std::mem::take(&mut self.calls);
        for call in running.values().filter(|call| !call.is_ended) {
            self.emit_ended(call, ToolEnding::Unfinished);
            self.open.calls.push(call.rest("", self.limits.max_output_bytes));
        }
        let plan = self.plan.take();
        let mut extra = self.extra();
        if let Some(plan) = plan {
            let fields = extra.as_map_mut().entry(SOURCE).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(fields) = fields {
                fields.insert("plan".into(), plan);
            }
        }
        if !self.open.parts.is_empty() {
            self.fingerprints.add(self.open.role, std::mem::take(&mut self.open.parts));
            self.completed += 1;
        }
        let model = self.model.clone().filter(|_| self.open.role == Role::Assistant);
        CompletedMessage::streamed().with_model(model).with_extra(extra)
    }

    /// Fingerprints of the messages of the turn. Complete after [`end`](Self::end).
    pub fn fingerprints(&self) -> Vec<String> {
        self.fingerprints.all()
    }

    /// Whether anything was written.
    pub fn is_empty(&self) -> bool {
        self.completed == 0 && self.open.parts.is_empty()
    }
}

fn duration_ms(call: &ToolCallState) -> u64 {
    u64::try_from(call.started_at.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Fingerprints of lists that an agent sends as a whole, by the kind of their update: its commands and its options. Agents send the
/// same ones with each session that they open, so a list is recorded once, and named by its fingerprint when it returns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ReportedLists(BTreeMap<String, Vec<String>>);

/// What to record of an update.
enum ListChange {
    /// The update as it came: it has no list, or a new one.
    Whole,
    /// That an earlier list, with this fingerprint, is the newest one again.
    Returned(String),
    /// Nothing: the list is still the newest one.
    Unchanged,
}

impl ReportedLists {
    /// Kinds of updates with a list.
    const KINDS: [&'static str; 2] = ["available_commands_update", "config_option_update"];
    /// Lists of a kind that are remembered. Claude Code sends one before and one after the first message of its process.
    const MAX_LISTS: usize = 8;
    /// Characters of a fingerprint, each of four bits.
    const FINGERPRINT_CHARS: usize = 16;

    fn add(&mut self, update: &Value) -> ListChange {
        let kind = update.get("sessionUpdate").and_then(Value::as_str);
        let Some(kind) = kind.filter(|kind| Self::KINDS.contains(kind)) else { return ListChange::Whole };
        let hash = blake3::hash(update.to_string().as_bytes()).to_hex();
        let fingerprint: String = hash.chars().take(Self::FINGERPRINT_CHARS).collect();
        // The newest one is the last.
        let known = self.0.entry(kind.to_owned()).or_default();
        if known.last() == Some(&fingerprint) {
            return ListChange::Unchanged;
        }
        let before = known.len();
        known.retain(|other| *other != fingerprint);
        let has_returned = known.len() < before;
        known.push(fingerprint.clone());
        let excess = known.len().saturating_sub(Self::MAX_LISTS);
        known.drain(..excess);
        if has_returned { ListChange::Returned(fingerprint) } else { ListChange::Whole }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The model that an agent's session uses, from the options of the session.
pub(crate) fn current_model(session: &Value) -> Option<String> {
    let options = session.get("configOptions").and_then(Value::as_array);
    // Agents that do not have options yet.
    let older = || session.get("models")?.get("currentModelId")?.as_str().map(str::to_owned);
    options.and_then(|options| selected_model(options)).or_else(older)
}
