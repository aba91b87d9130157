//! The JSON documents of the command line, and how they are serialized.
//!
//! Scripts depend on the field names: fields may be added, but not renamed or removed.

use std::borrow::Cow;
use std::io::{self, Write};

use hfs_core::{
    Branch, BranchId, Checkpoint, Event, EventPayload, Message, MessageDraft, Part, Project, Run, RunEnding,
    RunSnapshot, SearchHit, SessionSummary, Timestamp, Usage,
};
use hfs_retrieval::{RecalledPassage, RecalledSession};
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

#[derive(Debug, Serialize)]
pub struct SessionJson {
    id: String,
    short_id: String,
    name: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    messages: u64,
    branches: u64,
    checkpoints: u64,
    branch: String,
    project: Option<Project>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<OriginJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trashed_at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct OriginJson {
    format: String,
    id: String,
    path: Option<String>,
}

impl From<&SessionSummary> for SessionJson {
    fn from(summary: &SessionSummary) -> Self {
        let session = &summary.session;
        Self {
            id: session.id.to_string(),
            short_id: session.id.short().to_string(),
            name: session.name.clone(),
            created_at: session.created_at,
            updated_at: session.updated_at,
            messages: summary.messages,
            branches: summary.branches,
            checkpoints: summary.checkpoints,
            branch: summary.branch.clone(),
            project: session.project.clone(),
            origin: session.origin.as_ref().map(|origin| OriginJson {
                format: origin.format.clone(),
                id: origin.id.clone(),
                path: origin.path.clone(),
            }),
            trashed_at: session.trashed_at,
        }
    }
}

/// Document of `session list`.
#[derive(Debug, Serialize)]
pub struct SessionListJson {
    pub sessions: Vec<SessionJson>,
    /// Cursor for `--after`; null on the last page.
    pub next: Option<String>,
    /// Number of damaged sessions that are left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub unreadable: u64,
}

#[derive(Debug, Serialize)]
pub struct BranchJson {
    id: String,
    name: String,
    parent: Option<String>,
    forked_at: u64,
    head: u64,
    current: bool,
    undone: bool,
}

impl BranchJson {
    /// `current` is the session's current branch.
    pub fn new(branch: &Branch, current: BranchId) -> Self {
        Self {
            id: branch.id.to_string(),
            name: branch.name.clone(),
            parent: branch.parent.map(|parent| parent.to_string()),
            forked_at: branch.forked_at,
            head: branch.head,
            current: branch.id == current,
            undone: branch.undone,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct MessageJson {
    id: String,
    seq: u64,
    role: &'static str,
    status: &'static str,
    /// Whether a tool wrote it in the user's name; absent if not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    context: bool,
    created_at: Timestamp,
    agent: Option<String>,
    model: Option<String>,
    parts: Vec<PartJson>,
    usage: Option<Usage>,
}

impl MessageJson {
    pub fn new(message: &MessageDraft, seq: u64) -> Self {
        Self {
            id: message.id.to_string(),
            seq,
            role: message.role.as_str(),
            status: message.status.as_str(),
            context: message.is_context(),
            created_at: message.created_at,
            agent: message.agent.clone(),
            model: message.model.clone(),
            parts: message.parts.iter().map(PartJson::from).collect(),
            usage: message.usage,
        }
    }
}

impl From<&Message> for MessageJson {
    fn from(message: &Message) -> Self {
        Self::new(&message.content, message.seq)
    }
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum PartJson {
    Text { text: String },
    Thinking { text: String },
    ToolCall { id: String, name: String, input: Value },
    ToolResult { id: String, output: String, is_error: bool },
    Attachment { media_type: String, name: Option<String>, hash: Option<String>, bytes: u64 },
    Opaque { source: String, raw: Value },
}

impl From<&Part> for PartJson {
    fn from(part: &Part) -> Self {
        match part {
            Part::Text { text } => Self::Text { text: text.clone() },
            Part::Thinking { text, .. } => Self::Thinking { text: text.clone() },
            Part::ToolCall { id, name, input } => {
                Self::ToolCall { id: id.clone(), name: name.clone(), input: input.clone() }
            }
            Part::ToolResult { id, output, is_error } => {
                Self::ToolResult { id: id.clone(), output: output.clone(), is_error: *is_error }
            }
            Part::Attachment { media_type, name, hash, bytes } => Self::Attachment {
                media_type: media_type.clone(),
                name: name.clone(),
                hash: hash.map(|hash| hash.to_string()),
                bytes: *bytes,
            },
            Part::Opaque { source, raw } => Self::Opaque { source: source.clone(), raw: raw.clone() },
        }
    }
}

/// Document of `session show`. `M` serializes as a list of [`MessageJson`].
#[derive(Debug, Serialize)]
pub struct SessionShowJson<M> {
    pub session: SessionJson,
    pub branches: Vec<BranchJson>,
    /// The selected messages, in order of seq.
    pub messages: M,
}

/// Document of `search`.
#[derive(Debug, Serialize)]
pub struct SearchJson {
    /// The best hits first, up to the limit.
    pub hits: Vec<SearchHitJson>,
    /// Number of all matching messages.
    pub total: u64,
    /// Number of damaged messages that are left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub unreadable: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[derive(Debug, Serialize)]
pub struct SearchHitJson {
    session: String,
    session_name: String,
    branch: String,
    message: String,
    seq: u64,
    role: &'static str,
    created_at: Timestamp,
    snippet: String,
}

impl From<&SearchHit> for SearchHitJson {
    fn from(hit: &SearchHit) -> Self {
        Self {
            session: hit.session.to_string(),
            session_name: hit.session_name.clone(),
            branch: hit.branch_name.clone(),
            message: hit.message.to_string(),
            seq: hit.seq,
            role: hit.role.as_str(),
            created_at: hit.created_at,
            snippet: hit.snippet.replace([SearchHit::MARK_START, SearchHit::MARK_END], ""),
        }
    }
}

/// Document of `recall`.
#[derive(Debug, Serialize)]
pub struct RecallJson {
    sessions: Vec<RecalledSessionJson>,
    passages: Vec<RecalledPassageJson>,
    /// Whether no saved session answers the question.
    abstained: bool,
    /// Number of damaged messages that are left out.
    #[serde(skip_serializing_if = "is_zero")]
    unreadable: u64,
}

#[derive(Debug, Serialize)]
struct RecalledSessionJson {
    session: String,
    name: String,
    score: f64,
}

#[derive(Debug, Serialize)]
struct RecalledPassageJson {
    session: String,
    branch: String,
    message: String,
    seq: u64,
    role: &'static str,
    created_at: Timestamp,
    score: f64,
    text: String,
}

impl RecallJson {
    pub fn new(
        sessions: &[RecalledSession],
        passages: &[RecalledPassage],
        abstained: bool,
        unreadable: u64,
    ) -> Self {
        let sessions = sessions.iter().map(|session| RecalledSessionJson {
            session: session.session.to_string(),
            name: session.name.clone(),
            score: session.score,
        });
        let passages = passages.iter().map(|passage| RecalledPassageJson {
            session: passage.session.to_string(),
            branch: passage.branch_name.clone(),
            message: passage.message.content.id.to_string(),
            seq: passage.seq,
            role: passage.message.content.role.as_str(),
            created_at: passage.message.content.created_at,
            score: passage.score,
            text: passage.text.clone(),
        });
        Self { sessions: sessions.collect(), passages: passages.collect(), abstained, unreadable }
    }
}

/// Document of `chat`.
#[derive(Debug, Serialize)]
pub struct ChatJson<'a> {
    pub session: String,
    pub branch: String,
    /// The last message of the turn.
    pub message: MessageJson,
    /// All messages of the turn after the user's.
    pub messages: Vec<MessageJson>,
    pub run: ChatRunJson<'a>,
}

/// The run in the document of `chat`.
#[derive(Debug, Serialize)]
pub struct ChatRunJson<'a> {
    pub id: String,
    pub snapshot: &'a RunSnapshot,
    pub events: &'a [Event],
}

pub const fn ending_name(ending: RunEnding) -> &'static str {
    match ending {
        RunEnding::Completed => "completed",
        RunEnding::Cancelled => "cancelled",
        RunEnding::Failed => "failed",
    }
}

/// The run in the documents of `run list` and `run show`.
#[derive(Debug, Serialize)]
pub struct RunJson {
    id: String,
    short_id: String,
    number: usize,
    branch: String,
    /// Id of the user message that the run answers.
    answers: Option<String>,
    /// Seq of that message.
    seq: Option<u64>,
    /// Name of the agent that replied.
    pub agent: String,
    /// `completed`, `cancelled`, `failed` or `unfinished`.
    pub ending: &'static str,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    /// `None` for an unfinished run.
    pub duration_ms: Option<u64>,
    /// Prompt and completion tokens of all model calls; `None` if no server reported them.
    pub total_tokens: Option<u64>,
    /// Number of model calls.
    pub calls: u64,
    /// Number of those calls whose tokens are not known, and not part of `total_tokens`.
    unknown_calls: u64,
    errors: usize,
}

impl RunJson {
    /// `number` is the run's number in its session; `seq` is that of the user message it answers.
    pub fn new(number: usize, run: &Run, branch: &str, seq: Option<u64>) -> Self {
        let agent = run.events.iter().find_map(|event| match &event.payload {
            EventPayload::RunStarted { agent, .. } => Some(agent.clone()),
            _ => None,
        });
        let snapshot = &run.snapshot;
        Self {
            id: run.id.to_string(),
            short_id: run.id.short().to_string(),
            number,
            branch: branch.to_owned(),
            answers: run.answers.map(|id| id.to_string()),
            seq,
            agent: agent.unwrap_or_default(),
            ending: snapshot.ending.map_or("unfinished", ending_name),
            started_at: run.started_at,
            ended_at: run.ended_at,
            duration_ms: snapshot.timeline.total_duration_ms,
            total_tokens: snapshot.usage.total().known(),
            calls: snapshot.usage.calls(),
            unknown_calls: snapshot.usage.by_agent.values().map(|count| count.unknown_calls).sum(),
            errors: snapshot.errors.len(),
        }
    }
}

#[derive(Debug, Serialize)]
pub struct CheckpointJson {
    id: String,
    short_id: String,
    number: u64,
    branch: String,
    seq: u64,
    trigger: String,
    label: Option<String>,
    pinned: bool,
    created_at: Timestamp,
    state_hash: String,
    state_bytes: u64,
    stored_bytes: u64,
}

impl CheckpointJson {
    /// `branch` is the name of the checkpoint's branch.
    pub fn new(checkpoint: &Checkpoint, branch: &str) -> Self {
        Self {
            id: checkpoint.id.to_string(),
            short_id: checkpoint.id.short().to_string(),
            number: checkpoint.number,
            branch: branch.to_owned(),
            seq: checkpoint.seq,
            trigger: checkpoint.trigger.to_string(),
            label: checkpoint.label.clone(),
            pinned: checkpoint.pinned,
            created_at: checkpoint.created_at,
            state_hash: checkpoint.state_hash.to_string(),
            state_bytes: checkpoint.cost.state_bytes,
            stored_bytes: checkpoint.cost.stored_bytes,
        }
    }
}

/// Serializes a document so that no byte of it can control a terminal.
pub fn write_json(document: &impl Serialize, pretty: bool, output: impl Write) -> serde_json::Result<()> {
    if pretty {
        let formatter = EscapeControls(PrettyFormatter::new());
        document.serialize(&mut serde_json::Serializer::with_formatter(output, formatter))
    } else {
        let formatter = EscapeControls(CompactFormatter);
        document.serialize(&mut serde_json::Serializer::with_formatter(output, formatter))
    }
}

/// Escapes characters that JSON allows unescaped in strings but that terminals interpret: DEL, the C1 controls and the
/// bidirectional controls. serde_json itself escapes the C0 controls.
struct EscapeControls<F>(F);

fn needs_escape(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn escaped(fragment: &str) -> Cow<'_, str> {
    if fragment.contains(needs_escape) {
        let escape =
            |c: char| if needs_escape(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
        Cow::Owned(fragment.chars().map(escape).collect())
    } else {
        Cow::Borrowed(fragment)
    }
}

// The wrapped formatters override no other methods of `Formatter`, so the other methods keep their defaults.
macro_rules! delegate {
    ($($name:ident($($arg:ident: $ty:ty),*);)*) => {$(
        fn $name<W: ?Sized + Write>(&mut self, writer: &mut W $(, $arg: $ty)*) -> io::Result<()> {
            self.0.$name(writer $(, $arg)*)
        }
    )*};
}

impl<F: Formatter> Formatter for EscapeControls<F> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        self.0.write_string_fragment(writer, &escaped(fragment))
    }

    delegate! {
        begin_array();
        end_array();
        begin_array_value(first: bool);
        end_array_value();
        begin_object();
        end_object();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_contains_no_terminal_control_characters_and_parses_to_the_same_text() {
        let text = "a\u{1b}[2J\u{9b}2J\u{7f}\u{202e}é日";
        for pretty in [false, true] {
            let mut bytes = Vec::new();
            write_json(&serde_json::json!({ "t": [text, {}], "e": [] }), pretty, &mut bytes).unwrap();
            let json = String::from_utf8(bytes).unwrap();
            assert!(!json.contains(|c: char| (c.is_control() && c != '\n') || needs_escape(c)), "{json}");
            let parsed: Value = serde_json::from_str(&json).unwrap();
            assert_eq!(parsed["t"][0], text);
        }
    }
}
