//! Version 2.0.0, the current one: its wire types, their conversions to and from the types of `hfs_core`, and
//! its JSON Schema.
//!
//! The wire types are separate from the types of `hfs_core`, so that a change to `hfs_core` does not change the
//! format.

use std::collections::BTreeMap;

use hfs_core::{
    BranchId, CheckpointDraft, CheckpointId, CheckpointState, ContentHash, ForeignSession, MessageDraft,
    MessageId, MessageStatus, RunId, RunSnapshot, Seq, SessionId, Timestamp, Trigger,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Format;

pub(crate) const VERSION: &str = "2.0.0";

/// A document in memory, as a migration returns it. Older versions had no attachments, so it has none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub session: Session,
    pub branches: Vec<BranchWithMessages>,
    pub runs: Vec<Run>,
    pub checkpoints: Vec<Checkpoint>,
}

/// A branch and its own messages.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BranchWithMessages {
    pub branch: Branch,
    pub messages: Vec<Message>,
}

/// Facts about the export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Metadata {
    /// The version of the document's format.
    pub schema_version: String,
    /// Time of the export.
    #[schemars(with = "String")]
    pub exported_at: Timestamp,
    /// Version of hfs that wrote the document.
    pub hfs_version: String,
    /// Name of the session.
    pub session_name: String,
}

/// The session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Session {
    /// A UUID.
    #[schemars(with = "String")]
    pub id: SessionId,
    /// Name.
    pub name: String,
    /// Whether the name was generated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic_name: bool,
    /// Project in which the session was held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Project>,
    /// Time of creation; null if unknown.
    #[schemars(with = "Option<String>")]
    #[serde(default = "unknown_time")]
    pub created_at: Timestamp,
    /// Time of the last change; null if unknown.
    #[schemars(with = "Option<String>")]
    #[serde(default = "unknown_time")]
    pub updated_at: Timestamp,
    /// The branch that a resume opens.
    #[schemars(with = "String")]
    pub current_branch: BranchId,
    /// Where the session was imported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// Imported fields that hfs does not interpret.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// The project of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Project {
    /// The working directory.
    pub directory: String,
    /// Identifies the git repository that contains the directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
}

/// Where a session was imported from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Origin {
    /// Name of the format.
    pub format: String,
    /// Id of the session in the other tool.
    pub id: String,
    /// Path of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A branch, without its messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Branch {
    /// A UUID.
    #[schemars(with = "String")]
    pub id: BranchId,
    /// Name, unique in the session.
    pub name: String,
    /// The branch it forked from; null for the first one.
    #[schemars(with = "Option<String>")]
    pub parent: Option<BranchId>,
    /// The last seq it shares with its parent.
    pub forked_at: Seq,
    /// The seq of its newest message.
    pub head: Seq,
    /// Whether the operation that created it was undone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undone: bool,
}

/// Author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    User,
    Assistant,
    System,
    Tool,
}

/// Whether a message is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Complete,
    Streaming,
    Interrupted,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Message {
    /// A UUID.
    #[schemars(with = "String")]
    pub id: MessageId,
    /// Position in the history of its branch, counted from 1.
    pub seq: Seq,
    pub role: Role,
    pub status: Status,
    /// Time of creation; null if unknown.
    #[schemars(with = "Option<String>")]
    #[serde(default = "unknown_time")]
    pub created_at: Timestamp,
    /// Agent that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Model that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Tokens used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Where the message was imported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Content.
    pub parts: Vec<Part>,
    /// Imported fields that hfs does not interpret.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// Tokens that a message used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Usage {
    /// Tokens sent, including cached ones.
    pub prompt_tokens: u64,
    /// Tokens received.
    pub completion_tokens: u64,
    /// Tokens sent that the provider read from its cache, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read_tokens: Option<u64>,
    /// Tokens sent that the provider wrote to its cache, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
}

/// Where a message was imported from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Source {
    /// Name of the format.
    pub format: String,
    /// Id of the message in the other tool.
    pub id: String,
}

/// A part of a message's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Part {
    /// Text.
    Text { text: String },
    /// Reasoning of the model.
    Thinking {
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
    /// A request to call a tool.
    ToolCall { id: String, name: String, input: Value },
    /// The result of a tool call.
    ToolResult {
        id: String,
        output: String,
        #[serde(default)]
        is_error: bool,
    },
    /// A file.
    Attachment {
        media_type: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// BLAKE3 hash of the bytes, which are under `attachments`; absent if only a reference was imported.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hash: Option<String>,
        bytes: u64,
    },
    /// Content of another tool that hfs does not interpret.
    Opaque { source: String, raw: Value },
}

/// The run of an agent that answered one message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Run {
    /// A UUID.
    #[schemars(with = "String")]
    pub id: RunId,
    /// The branch of the run.
    #[schemars(with = "String")]
    pub branch: BranchId,
    /// The message it answers.
    #[schemars(with = "Option<String>")]
    #[serde(default)]
    pub answers: Option<MessageId>,
    /// Start of the run.
    #[schemars(with = "String")]
    pub started_at: Timestamp,
    /// End of the run.
    #[schemars(with = "Option<String>")]
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// The run snapshot that the events fold into, with its own version.
    pub snapshot: Value,
    /// Events, each with its `type`.
    #[serde(default)]
    pub events: Vec<Value>,
}

/// A point to which the session can be rewound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Checkpoint {
    /// A UUID.
    #[schemars(with = "String")]
    pub id: CheckpointId,
    /// The branch it belongs to.
    #[schemars(with = "String")]
    pub branch: BranchId,
    /// The newest message at that time; 0 before the first one.
    pub seq: Seq,
    /// The type of the event that triggered it, or `manual`.
    pub trigger: String,
    /// Label given by the user.
    #[serde(default)]
    pub label: Option<String>,
    /// Whether it is exempt from retention.
    #[serde(default)]
    pub pinned: bool,
    /// Time of the event; null if unknown.
    #[schemars(with = "Option<String>")]
    #[serde(default = "unknown_time")]
    pub created_at: Timestamp,
    /// The checkpoint state that a rewind restores.
    pub state: Value,
}

const fn unknown_time() -> Timestamp {
    Timestamp::UNKNOWN
}

impl From<Part> for hfs_core::Part {
    fn from(part: Part) -> Self {
        match part {
            Part::Text { text } => Self::Text { text },
            Part::Thinking { text, signature } => Self::Thinking { text, signature },
            Part::ToolCall { id, name, input } => Self::ToolCall { id, name, input },
            Part::ToolResult { id, output, is_error } => Self::ToolResult { id, output, is_error },
            Part::Attachment { media_type, name, hash, bytes } => {
                let hash: Option<ContentHash> = hash.and_then(|hash| hash.parse().ok());
                Self::Attachment { media_type, name, hash, bytes }
            }
            Part::Opaque { source, raw } => Self::Opaque { source, raw },
        }
    }
}

impl From<hfs_core::Part> for Part {
    fn from(part: hfs_core::Part) -> Self {
        use hfs_core::Part as CorePart;
        match part {
            CorePart::Text { text } => Self::Text { text },
            CorePart::Thinking { text, signature } => Self::Thinking { text, signature },
            CorePart::ToolCall { id, name, input } => Self::ToolCall { id, name, input },
            CorePart::ToolResult { id, output, is_error } => Self::ToolResult { id, output, is_error },
            CorePart::Attachment { media_type, name, hash, bytes } => {
                Self::Attachment { media_type, name, hash: hash.map(|hash| hash.to_string()), bytes }
            }
            CorePart::Opaque { source, raw } => Self::Opaque { source, raw },
        }
    }
}

impl From<Role> for hfs_core::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::User => Self::User,
            Role::Assistant => Self::Assistant,
            Role::System => Self::System,
            Role::Tool => Self::Tool,
        }
    }
}

impl From<hfs_core::Role> for Role {
    fn from(role: hfs_core::Role) -> Self {
        match role {
            hfs_core::Role::User => Self::User,
            hfs_core::Role::Assistant => Self::Assistant,
            hfs_core::Role::System => Self::System,
            hfs_core::Role::Tool => Self::Tool,
        }
    }
}

impl From<Message> for MessageDraft {
    fn from(message: Message) -> Self {
        Self {
            id: message.id,
            role: message.role.into(),
            status: match message.status {
                Status::Complete => MessageStatus::Complete,
                Status::Streaming => MessageStatus::Streaming,
                Status::Interrupted => MessageStatus::Interrupted,
            },
            parts: message.parts.into_iter().map(Into::into).collect(),
            agent: message.agent,
            model: message.model,
            usage: message.usage.map(|usage| {
                hfs_core::Usage::new(usage.prompt_tokens, usage.completion_tokens)
                    .with_cache(usage.cache_read_tokens, usage.cache_write_tokens)
            }),
            created_at: message.created_at,
            source: message.source.map(|source| hfs_core::Source { format: source.format, id: source.id }),
            extra: message.extra.into(),
        }
    }
}

impl From<hfs_core::Message> for Message {
    fn from(message: hfs_core::Message) -> Self {
        let content = message.content;
        Self {
            id: content.id,
            seq: message.seq,
            role: content.role.into(),
            status: match content.status {
                MessageStatus::Complete => Status::Complete,
                MessageStatus::Streaming => Status::Streaming,
                MessageStatus::Interrupted => Status::Interrupted,
            },
            created_at: content.created_at,
            agent: content.agent,
            model: content.model,
            usage: content.usage.map(|usage| Usage {
                prompt_tokens: usage.prompt_tokens,
                completion_tokens: usage.completion_tokens,
                cache_read_tokens: usage.cache_read_tokens,
                cache_write_tokens: usage.cache_write_tokens,
            }),
            source: content.source.map(|source| Source { format: source.format, id: source.id }),
            parts: content.parts.into_iter().map(Into::into).collect(),
            extra: content.extra.into_map(),
        }
    }
}

impl Session {
    /// Converts the session for an import. If the session has no origin, `document_origin`, which describes the
    /// document, becomes its origin.
    pub(crate) fn into_foreign(self, document_origin: hfs_core::Origin) -> ForeignSession {
        let origin = self.origin.map(|origin| hfs_core::Origin {
            format: origin.format,
            id: origin.id,
            path: origin.path,
        });
        let mut session = ForeignSession::new(origin.unwrap_or(document_origin));
        session.id = Some(self.id);
        session.title = (!self.name.is_empty()).then_some(self.name);
        session.automatic_name = self.automatic_name;
        session.project = self.project.map(|project| hfs_core::Project {
            directory: project.directory,
            repository: project.repository,
        });
        session.created_at = self.created_at.known();
        session.updated_at = self.updated_at.known();
        session.extra = self.extra.into();
        session
    }
}

impl From<hfs_core::Session> for Session {
    fn from(session: hfs_core::Session) -> Self {
        Self {
            id: session.id,
            name: session.name,
            automatic_name: session.automatic_name,
            project: session
                .project
                .map(|project| Project { directory: project.directory, repository: project.repository }),
            created_at: session.created_at,
            updated_at: session.updated_at,
            current_branch: session.current_branch,
            // Omit the origin if it is an earlier export of this session.
            origin: session
                .origin
                .filter(|origin| origin.format != Format::Hfs.as_str() || origin.id != session.id.to_string())
                .map(|origin| Origin { format: origin.format, id: origin.id, path: origin.path }),
            extra: session.extra.into_map(),
        }
    }
}

impl From<hfs_core::Branch> for Branch {
    fn from(branch: hfs_core::Branch) -> Self {
        Self {
            id: branch.id,
            name: branch.name,
            parent: branch.parent,
            forked_at: branch.forked_at,
            head: branch.head,
            undone: branch.undone,
        }
    }
}

impl TryFrom<Run> for hfs_core::Run {
    type Error = serde_json::Error;

    fn try_from(run: Run) -> Result<Self, Self::Error> {
        let snapshot: RunSnapshot = serde_json::from_value(run.snapshot)?;
        let events = run.events.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?;
        Ok(Self {
            id: run.id,
            branch: run.branch,
            answers: run.answers,
            started_at: run.started_at,
            ended_at: run.ended_at,
            snapshot,
            events,
        })
    }
}

impl TryFrom<hfs_core::Run> for Run {
    type Error = serde_json::Error;

    fn try_from(run: hfs_core::Run) -> Result<Self, Self::Error> {
        Ok(Self {
            id: run.id,
            branch: run.branch,
            answers: run.answers,
            started_at: run.started_at,
            ended_at: run.ended_at,
            snapshot: serde_json::to_value(&run.snapshot)?,
            events: run.events.iter().map(serde_json::to_value).collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<Checkpoint> for CheckpointDraft {
    type Error = serde_json::Error;

    fn try_from(checkpoint: Checkpoint) -> Result<Self, Self::Error> {
        Ok(Self {
            id: checkpoint.id,
            branch: checkpoint.branch,
            seq: checkpoint.seq,
            trigger: Trigger::from(&*checkpoint.trigger),
            label: checkpoint.label,
            pinned: checkpoint.pinned,
            created_at: checkpoint.created_at,
            state: serde_json::from_value::<CheckpointState>(checkpoint.state)?,
        })
    }
}

impl Checkpoint {
    pub(crate) fn new(
        checkpoint: hfs_core::Checkpoint,
        state: &CheckpointState,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self {
            id: checkpoint.id,
            branch: checkpoint.branch,
            seq: checkpoint.seq,
            trigger: checkpoint.trigger.to_string(),
            label: checkpoint.label,
            pinned: checkpoint.pinned,
            created_at: checkpoint.created_at,
            state: serde_json::to_value(state)?,
        })
    }
}

/// A session exported by hfs.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only the schema is derived from it")]
struct HfsDocument {
    metadata: Metadata,
    session: Session,
    /// Parents before children.
    branches: Vec<BranchSchema>,
    runs: Vec<Run>,
    checkpoints: Vec<Checkpoint>,
    /// Bytes of the attachments in base64, by their BLAKE3 hash.
    attachments: BTreeMap<String, String>,
}

/// A branch and its own messages.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only the schema is derived from it")]
#[schemars(rename = "BranchWithMessages")]
struct BranchSchema {
    #[schemars(flatten)]
    branch: Branch,
    messages: Vec<Message>,
}

/// The JSON Schema of documents of the current version, generated from the wire types.
#[must_use]
pub fn document_schema() -> Value {
    schemars::schema_for!(HfsDocument).to_value()
}
