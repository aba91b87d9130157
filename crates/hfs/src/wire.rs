//! The JSON documents of the command line. Scripts depend on their fields: they stay; more may be added.

use hfs_core::{
    Branch, BranchId, Checkpoint, Event, EventPayload, Message, MessageDraft, Part, Project, Run, RunEnding,
    RunSnapshot, SearchHit, SessionSummary, Timestamp, Usage,
};
use serde::Serialize;
use serde_json::Value;

/// A session in a list.
#[derive(Debug, Serialize)]
pub struct SessionRow {
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
    origin: Option<OriginRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trashed_at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct OriginRow {
    format: String,
    id: String,
    path: Option<String>,
}

impl From<&SessionSummary> for SessionRow {
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
            origin: session.origin.as_ref().map(|origin| OriginRow {
                format: origin.format.clone(),
                id: origin.id.clone(),
                path: origin.path.clone(),
            }),
            trashed_at: session.trashed_at,
        }
    }
}

/// `session list`.
#[derive(Debug, Serialize)]
pub struct SessionList {
    /// A page of sessions.
    pub sessions: Vec<SessionRow>,
    /// What `--after` takes for the next page.
    pub next: Option<String>,
}

/// A branch.
#[derive(Debug, Serialize)]
pub struct BranchRow {
    id: String,
    name: String,
    parent: Option<String>,
    forked_at: u64,
    head: u64,
    current: bool,
}

impl BranchRow {
    /// This branch, `current` being the session's.
    pub fn new(branch: &Branch, current: BranchId) -> Self {
        Self {
            id: branch.id.to_string(),
            name: branch.name.clone(),
            parent: branch.parent.map(|parent| parent.to_string()),
            forked_at: branch.forked_at,
            head: branch.head,
            current: branch.id == current,
        }
    }
}

/// A message.
#[derive(Debug, Serialize)]
pub struct MessageRow {
    id: String,
    seq: u64,
    role: &'static str,
    status: &'static str,
    created_at: Timestamp,
    agent: Option<String>,
    model: Option<String>,
    parts: Vec<PartRow>,
    usage: Option<Usage>,
}

impl MessageRow {
    /// A message that stands at `seq`.
    pub fn new(message: &MessageDraft, seq: u64) -> Self {
        Self {
            id: message.id.to_string(),
            seq,
            role: message.role.as_str(),
            status: message.status.as_str(),
            created_at: message.created_at,
            agent: message.agent.clone(),
            model: message.model.clone(),
            parts: message.parts.iter().map(PartRow::from).collect(),
            usage: message.usage,
        }
    }
}

impl From<&Message> for MessageRow {
    fn from(message: &Message) -> Self {
        Self::new(&message.content, message.seq)
    }
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum PartRow {
    Text { text: String },
    Thinking { text: String },
    ToolCall { id: String, name: String, input: Value },
    ToolResult { id: String, output: String, is_error: bool },
    Attachment { media_type: String, name: Option<String>, hash: Option<String>, bytes: u64 },
    Opaque { source: String, raw: Value },
}

impl From<&Part> for PartRow {
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

/// `session show`.
#[derive(Debug, Serialize)]
pub struct SessionView {
    /// The session.
    pub session: SessionRow,
    /// Its branches.
    pub branches: Vec<BranchRow>,
    /// The messages asked for, by seq.
    pub messages: Vec<MessageRow>,
}

/// `search`.
#[derive(Debug, Serialize)]
pub struct SearchView {
    /// The best hits, best first.
    pub hits: Vec<HitRow>,
    /// How many messages match in all.
    pub total: u64,
}

/// A hit of a search.
#[derive(Debug, Serialize)]
pub struct HitRow {
    session: String,
    session_name: String,
    branch: String,
    message: String,
    seq: u64,
    role: &'static str,
    created_at: Timestamp,
    snippet: String,
}

impl From<&SearchHit> for HitRow {
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

/// `chat`.
#[derive(Debug, Serialize)]
pub struct ChatView<'a> {
    /// The session's id.
    pub session: String,
    /// The name of the branch.
    pub branch: String,
    /// The reply.
    pub message: MessageRow,
    /// What the agent did for it.
    pub run: RunRow<'a>,
}

/// A run.
#[derive(Debug, Serialize)]
pub struct RunRow<'a> {
    /// Its id.
    pub id: String,
    /// Its state at its end.
    pub snapshot: &'a RunSnapshot,
    /// Everything that happened in it, in order.
    pub events: &'a [Event],
}

/// The word for how a run ended.
pub const fn ending(ending: RunEnding) -> &'static str {
    match ending {
        RunEnding::Completed => "completed",
        RunEnding::Cancelled => "cancelled",
        RunEnding::Failed => "failed",
    }
}

/// A run in a list.
#[derive(Debug, Serialize)]
pub struct RunSummary {
    id: String,
    short_id: String,
    number: usize,
    branch: String,
    /// The message that it answers, and its place.
    answers: Option<String>,
    seq: Option<u64>,
    /// Who answered.
    pub agent: String,
    /// `completed`, `cancelled`, `failed` or `unfinished`.
    pub ending: &'static str,
    started_at: Timestamp,
    ended_at: Option<Timestamp>,
    /// From its beginning to its end, once it has one.
    pub duration_ms: Option<u64>,
    /// All tokens, sent and received.
    pub total_tokens: u64,
    /// How many answers of models were counted.
    pub calls: u64,
    errors: usize,
}

impl RunSummary {
    /// This run, the `number`th of its session, on the branch of this name, in answer to the message at `seq`.
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
            ending: snapshot.ending.map_or("unfinished", ending),
            started_at: run.started_at,
            ended_at: run.ended_at,
            duration_ms: snapshot.timeline.total_duration_ms,
            total_tokens: snapshot.usage.total_tokens,
            calls: snapshot.usage.by_agent.values().map(|count| count.calls).sum(),
            errors: snapshot.errors.len(),
        }
    }
}

/// A checkpoint.
#[derive(Debug, Serialize)]
pub struct CheckpointRow {
    id: String,
    short_id: String,
    number: usize,
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

impl CheckpointRow {
    /// This checkpoint, the `number`th of its session, on the branch of this name.
    pub fn new(number: usize, checkpoint: &Checkpoint, branch: &str) -> Self {
        Self {
            id: checkpoint.id.to_string(),
            short_id: checkpoint.id.short().to_string(),
            number,
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
