//! Codex's rollouts: JSONL of enveloped records, or of bare items as in early 2025.

use hfs_core::{ForeignSession, ImportError, Origin, Part, Project, Role, SessionSink, Timestamp};
use serde_json::{Map, Value, json};

use super::chat::take_arguments;
use super::conversation::{Drafted, as_text, inline_picture, text};
use super::linear::{Linear, has_spoken};
use crate::detect::Head;
use crate::readers::claude_code::PART;
use crate::records::{Entry, Framing, Whole, visit};
use crate::{Format, Source};

const NAME: &str = "codex";
/// How messages begin that Codex itself puts into the user's mouth.
const INJECTED: [&str; 8] = [
    "<environment_context",
    "<user_instructions",
    "# AGENTS.md",
    "<INSTRUCTIONS",
    "<turn_aborted",
    "<skill",
    "<subagent",
    "<system-reminder",
];
const ENVELOPES: [&str; 6] =
    ["session_meta", "response_item", "event_msg", "turn_context", "compacted", "world_state"];
const CALLS: [&str; 6] = [
    "function_call",
    "custom_tool_call",
    "local_shell_call",
    "web_search_call",
    "tool_search_call",
    "image_generation_call",
];
const OUTPUTS: [&str; 3] = ["function_call_output", "custom_tool_call_output", "tool_search_output"];

pub(crate) struct Codex;

impl super::Reader for Codex {
    fn format(&self) -> Format {
        Format::Codex
    }

    fn recognizes(&self, head: &Head) -> bool {
        head.objects().iter().take(5).any(|record| {
            let enveloped = record.contains_key("payload")
                && text(record, "type").is_some_and(|kind| ENVELOPES.contains(&kind));
            let bare = record.contains_key("id")
                && record.contains_key("timestamp")
                && record.contains_key("instructions")
                || text(record, "record_type") == Some("state");
            enveloped || bare
        })
    }

    fn read(&self, source: &Source, sink: &mut dyn SessionSink) -> Result<(), ImportError> {
        let facts = facts(source, sink)?;
        let session = session(source, &facts);
        let mut rollout =
            Rollout { to: Linear::new(source, sink, session), facts, turns: Vec::new(), last: None };
        let mut any = false;
        let first_pass = source.bytes() / 4;
        visit::<Whole>(source, Framing::Lines, &mut |at, entry| {
            rollout.to.go_on(first_pass + at.bytes / 4 * 3)?;
            match entry {
                Entry::Bad(why) => rollout.to.tally.dropped(Some(at.line), why),
                Entry::Record(record, length) => {
                    any = true;
                    rollout.record(record, length, at.line)?;
                }
            }
            Ok(())
        })?;
        if any { rollout.to.finish() } else { Err(source.damaged("it holds no record")) }
    }
}

/// What must be known before the first message.
#[derive(Default)]
struct Facts {
    id: Option<String>,
    cwd: Option<String>,
    title: Option<String>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    /// Whether messages are told as items; without any, the mirrored events tell them.
    items: bool,
}

/// An item and the time it was written, whatever it is wrapped in.
fn item(fields: &Map<String, Value>) -> Option<(&str, &Map<String, Value>)> {
    match fields.get("payload") {
        Some(Value::Object(payload)) => Some((text(fields, "type")?, payload)),
        Some(_) => None,
        None if fields.contains_key("record_type") => None,
        None => text(fields, "type").map(|_| ("response_item", fields)),
    }
}

fn facts(source: &Source, sink: &mut dyn SessionSink) -> Result<Facts, ImportError> {
    let mut facts = Facts::default();
    let mut mirrored: Vec<Timestamp> = Vec::new();
    visit::<Whole>(source, Framing::Lines, &mut |at, entry| {
        super::go_on(source, sink, at.bytes / 4)?;
        let Entry::Record(Whole { fields, .. }, _) = entry else { return Ok(()) };
        let time = fields.get("timestamp").and_then(crate::time::read);
        let Some((envelope, payload)) = item(&fields) else {
            if facts.id.is_none() {
                facts.id = text(&fields, "id").map(str::to_owned);
            }
            return Ok(());
        };
        let kind = text(payload, "type").unwrap_or_default();
        match (envelope, kind) {
            ("session_meta", _) if facts.id.is_none() => {
                facts.id = text(payload, "id").map(str::to_owned);
                facts.cwd = text(payload, "cwd").map(str::to_owned);
            }
            ("event_msg", "thread_name_updated") => {
                facts.title = text(payload, "thread_name").map(str::to_owned);
            }
            ("event_msg", "user_message" | "agent_message") => mirrored.extend(time),
            ("response_item", kind)
                if kind == "message" || CALLS.contains(&kind) || OUTPUTS.contains(&kind) =>
            {
                facts.items |= kind == "message";
                if let Some(time) = time {
                    facts.first = Some(facts.first.map_or(time, |first| first.min(time)));
                    facts.last = Some(facts.last.map_or(time, |last| last.max(time)));
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    if !facts.items {
        facts.first = mirrored.iter().copied().chain(facts.first).min();
        facts.last = mirrored.iter().copied().chain(facts.last).max();
    }
    Ok(facts)
}

fn session(source: &Source, facts: &Facts) -> ForeignSession {
    let stem = source.stem().unwrap_or_default();
    let id = match &facts.id {
        // A rollout is named after its thread; a copy under another name is another session.
        Some(id) if stem.is_empty() || stem.ends_with(id.as_str()) => id.clone(),
        Some(id) => format!("{id}/{stem}"),
        None => stem,
    };
    let path = source.path().map(|path| path.display().to_string());
    let mut session = ForeignSession::new(Origin { format: NAME.into(), id, path });
    session.title.clone_from(&facts.title);
    session.project = facts.cwd.clone().map(|directory| Project { directory, repository: None });
    session.created_at = facts.first;
    session.updated_at = facts.last;
    session
}

struct Rollout<'a> {
    to: Linear<'a>,
    facts: Facts,
    /// Where each turn of the user on the present line of history begins: the branch and the seq before it.
    turns: Vec<(usize, u64)>,
    last: Option<Timestamp>,
}

impl Rollout<'_> {
    fn record(&mut self, record: Whole, bytes: usize, line: u64) -> Result<(), ImportError> {
        let time = record.fields.get("timestamp").and_then(crate::time::read);
        self.last = time.or(self.last);
        let Some((envelope, payload)) = item(&record.fields) else {
            self.to.event(record, bytes, line);
            return Ok(());
        };
        let kind = text(payload, "type").unwrap_or_default().to_owned();
        match (envelope, kind.as_str()) {
            ("response_item", "message") => self.message(record, line),
            ("response_item", "reasoning") => self.reasoning(record, line),
            ("response_item", kind) if CALLS.contains(&kind) => self.call(record, line),
            ("response_item", kind) if OUTPUTS.contains(&kind) => self.output(record, line),
            ("event_msg", "thread_rolled_back") => {
                let turns = payload.get("num_turns").and_then(Value::as_u64).unwrap_or(1);
                self.to.event(record, bytes, line);
                self.roll_back(usize::try_from(turns).unwrap_or(usize::MAX))
            }
            ("event_msg", "user_message" | "agent_message") if !self.facts.items => {
                self.mirrored(record, line)
            }
            _ => {
                self.to.event(record, bytes, line);
                Ok(())
            }
        }
    }

    fn at(&self) -> Timestamp {
        self.last.or(self.facts.first).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn drafted(&self, role: Role, parts: Vec<Part>, line: u64) -> Drafted {
        Drafted::new(NAME, format!("line-{line}"), role, parts, self.at())
    }

    fn roll_back(&mut self, turns: usize) -> Result<(), ImportError> {
        let keep = self.turns.len().saturating_sub(turns);
        let (branch, seq) = self.turns.get(keep).copied().unwrap_or_else(|| self.to.place());
        self.turns.truncate(keep);
        self.to.fork(branch, seq)
    }

    fn message(&mut self, mut record: Whole, line: u64) -> Result<(), ImportError> {
        self.to.tally.mapped();
        let mut inner = take_payload(&mut record.fields);
        let payload = &mut inner;
        let role = match text(payload, "role") {
            Some("assistant") => Role::Assistant,
            Some("developer" | "system") => Role::System,
            _ => Role::User,
        };
        let joins = role == Role::Assistant
            && self
                .to
                .newest()
                .is_some_and(|newest| newest.draft.role == Role::Assistant && !has_spoken(newest));
        let mut parts =
            if joins { self.to.newest().map(|n| std::mem::take(&mut n.draft.parts)) } else { None }
                .unwrap_or_default();
        let mut attachments = Vec::new();
        content(payload, &mut parts, &mut attachments);
        let shell = shell(record, inner);
        if joins && let Some(newest) = self.to.newest() {
            newest.draft.parts = parts;
            newest.attachments.append(&mut attachments);
            self.to.keep_with_newest(shell);
            return Ok(());
        }
        let injected = role == Role::User && is_injected(&parts);
        if role == Role::User && !injected {
            self.turns.push(self.to.place());
        }
        let mut drafted = self.drafted(role, parts, line).flagged("injected", injected);
        drafted.attachments = attachments;
        self.to.push(drafted)?;
        self.to.keep_with_newest(shell);
        Ok(())
    }

    /// A message told by an event, in files that hold no items.
    fn mirrored(&mut self, mut record: Whole, line: u64) -> Result<(), ImportError> {
        self.to.tally.mapped();
        let mut inner = take_payload(&mut record.fields);
        let payload = &mut inner;
        let role = if text(payload, "type") == Some("user_message") { Role::User } else { Role::Assistant };
        let said = text(payload, "message").unwrap_or_default().to_owned();
        if role == Role::User {
            self.turns.push(self.to.place());
        }
        payload.insert("message".into(), json!({ PART: [0, 0] }));
        let drafted = self.drafted(role, vec![Part::text(said)], line);
        self.to.push(drafted)?;
        self.to.keep_with_newest(shell(record, inner));
        Ok(())
    }

    /// Makes the newest message one of the assistant's that `part` may join.
    fn assistant(&mut self, part: Part, begins: bool, line: u64) -> Result<(), ImportError> {
        let joins = self
            .to
            .newest()
            .is_some_and(|newest| newest.draft.role == Role::Assistant && !(begins && has_spoken(newest)));
        if joins {
            if let Some(newest) = self.to.newest() {
                newest.draft.parts.push(part);
            }
            return Ok(());
        }
        let drafted = self.drafted(Role::Assistant, vec![part], line);
        self.to.push(drafted)
    }

    fn reasoning(&mut self, mut record: Whole, line: u64) -> Result<(), ImportError> {
        self.to.tally.mapped();
        let mut inner = take_payload(&mut record.fields);
        let payload = &mut inner;
        let told = |key: &str| payload.get(key).map(as_text).unwrap_or_default();
        let mut thought = told("summary");
        if thought.is_empty() {
            thought = told("content");
        }
        let signature = text(payload, "encrypted_content").map(str::to_owned);
        self.assistant(Part::Thinking { text: thought, signature }, true, line)?;
        self.to.keep_with_newest(shell(record, inner));
        Ok(())
    }

    fn call(&mut self, mut record: Whole, line: u64) -> Result<(), ImportError> {
        self.to.tally.mapped();
        let mut inner = take_payload(&mut record.fields);
        let payload = &mut inner;
        let kind = text(payload, "type").unwrap_or_default().to_owned();
        let id =
            ["call_id", "id"].into_iter().find_map(|key| text(payload, key)).unwrap_or_default().to_owned();
        let name = text(payload, "name").map_or(kind, str::to_owned);
        let input = if payload.contains_key("arguments") {
            take_arguments(payload)
        } else {
            let other = ["input", "action", "query"].into_iter().find_map(|key| payload.get(key));
            other.cloned().unwrap_or(Value::Null)
        };
        self.assistant(Part::ToolCall { id, name, input }, false, line)?;
        self.to.keep_with_newest(shell(record, inner));
        Ok(())
    }

    fn output(&mut self, mut record: Whole, line: u64) -> Result<(), ImportError> {
        self.to.tally.mapped();
        let mut inner = take_payload(&mut record.fields);
        let payload = &mut inner;
        let id = text(payload, "call_id").unwrap_or_default().to_owned();
        let told = ["output", "tools"].into_iter().find_map(|key| payload.get(key)).unwrap_or(&Value::Null);
        let is_error = told.get("success") == Some(&Value::Bool(false));
        let output = match told {
            Value::Object(fields) => fields.get("content").map_or_else(|| told.to_string(), as_text),
            other => as_text(other),
        };
        if payload.get("output").is_some_and(Value::is_string) {
            payload.insert("output".into(), json!({ PART: [0, 0] }));
        }
        let drafted = self.drafted(Role::Tool, vec![Part::ToolResult { id, output, is_error }], line);
        self.to.push(drafted)?;
        self.to.keep_with_newest(shell(record, inner));
        Ok(())
    }
}

/// Takes out the item inside a record, which may be the record itself.
fn take_payload(fields: &mut Map<String, Value>) -> Map<String, Value> {
    match fields.get_mut("payload") {
        Some(Value::Object(payload)) => std::mem::take(payload),
        _ => std::mem::take(fields),
    }
}

/// A record with what is left of its item in its place.
fn shell(record: Whole, inner: Map<String, Value>) -> Value {
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

fn is_injected(parts: &[Part]) -> bool {
    let mut texts =
        parts.iter().filter_map(|part| if let Part::Text { text } = part { Some(text) } else { None });
    let tagged = |text: &String| INJECTED.iter().any(|tag| text.trim_start().starts_with(tag));
    texts.next().is_some_and(tagged) && texts.all(tagged)
}

/// Takes a message's content into parts.
fn content(
    payload: &mut Map<String, Value>,
    parts: &mut Vec<Part>,
    attachments: &mut Vec<hfs_core::Attachment>,
) {
    let Some(Value::Array(items)) = payload.get_mut("content") else {
        if let Some(said) = text(payload, "content").map(str::to_owned) {
            payload.insert("content".into(), json!({ PART: [0, parts.len()] }));
            parts.push(Part::Text { text: said });
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
            ("input_text" | "output_text" | "text", Some(said)) => {
                fields.insert("text".into(), json!({ PART: [0, index] }));
                parts.push(Part::Text { text: said });
            }
            ("input_image", _) => {
                let address = text(fields, "image_url").unwrap_or_default().to_owned();
                let inline = address.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
                match inline {
                    Some((media_type, data)) => {
                        let (part, attachment) = inline_picture(media_type, data, None);
                        if attachment.is_some() {
                            fields.insert("image_url".into(), json!({ PART: [0, index] }));
                        }
                        attachments.extend(attachment);
                        parts.push(part);
                    }
                    None => parts.push(super::chat::reference_to_image(&address)),
                }
            }
            _ => {
                parts.push(Part::Opaque { source: NAME.into(), raw: item.take() });
                *item = json!({ PART: [0, index] });
            }
        }
    }
}
