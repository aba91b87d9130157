//! Version 2.0.0, the present one.

use hfs_core::{BranchId, CheckpointId, ContentHash, MessageId, RunId, Seq, SessionId, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) const VERSION: &str = "2.0.0";

/// A whole document without its attachments, as the migration from older versions makes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub session: Session,
    pub branches: Vec<BranchWithMessages>,
    pub runs: Vec<Run>,
    pub checkpoints: Vec<Checkpoint>,
}

/// A branch and the messages that are its own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BranchWithMessages {
    pub branch: Branch,
    pub messages: Vec<Message>,
}

/// What the document says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Metadata {
    /// The version of the document's format.
    pub schema_version: String,
    /// When it was written.
    #[schemars(with = "String")]
    pub exported_at: Timestamp,
    /// The hfs that wrote it.
    pub hfs_version: String,
    /// What the session was called.
    pub session_name: String,
}

/// The session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Session {
    /// A UUID.
    #[schemars(with = "String")]
    pub id: SessionId,
    /// What it is called.
    pub name: String,
    /// Whether a program made up the name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic_name: bool,
    /// Where it was held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Project>,
    /// When it began.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When something last happened in it.
    #[schemars(with = "String")]
    pub updated_at: Timestamp,
    /// The branch that a resume opens.
    #[schemars(with = "String")]
    pub current_branch: BranchId,
    /// Where it was imported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What came with it and means nothing here.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// Where a session was held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Project {
    /// The working directory.
    pub directory: String,
    /// What identifies the git repository around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
}

/// Where a session was imported from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Origin {
    /// The format.
    pub format: String,
    /// The session's id there.
    pub id: String,
    /// The file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A branch, without its messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Branch {
    /// A UUID.
    #[schemars(with = "String")]
    pub id: BranchId,
    /// What it is called; unique in the session.
    pub name: String,
    /// The branch it was forked from; null for the first.
    #[schemars(with = "Option<String>")]
    pub parent: Option<BranchId>,
    /// The last seq it shares with its parent.
    pub forked_at: Seq,
    /// The seq of its newest message.
    pub head: Seq,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    User,
    Assistant,
    System,
    Tool,
}

/// How far a message has come.
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
    /// Its place along its branch's whole history, from 1.
    pub seq: Seq,
    pub role: Role,
    pub status: Status,
    /// When it was said.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// The agent that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The model that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What it cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Where it was imported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// The content.
    pub parts: Vec<Part>,
    /// What came with it and means nothing here.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// Tokens that a message cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// Where a message was imported from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Source {
    /// The format.
    pub format: String,
    /// The message's id there.
    pub id: String,
}

/// A piece of a message's content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Part {
    /// What is said.
    Text { text: String },
    /// What the model thought.
    Thinking {
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
    /// A request to use a tool.
    ToolCall { id: String, name: String, input: Value },
    /// What a tool answered.
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
        /// The BLAKE3 hash of its bytes, which stand under `attachments`; absent when only a reference came.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hash: Option<String>,
        bytes: u64,
    },
    /// A foreign part that has no equal here.
    Opaque { source: String, raw: Value },
}

/// What an agent did to answer one message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Run {
    /// A UUID.
    #[schemars(with = "String")]
    pub id: RunId,
    /// The branch it ran on.
    #[schemars(with = "String")]
    pub branch: BranchId,
    /// The message it answers.
    #[schemars(with = "Option<String>")]
    #[serde(default)]
    pub answers: Option<MessageId>,
    /// When it began.
    #[schemars(with = "String")]
    pub started_at: Timestamp,
    /// When it ended.
    #[schemars(with = "Option<String>")]
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// The state that its events fold into; a document of its own, with its own version.
    pub snapshot: Value,
    /// Its events, each with its `type`.
    #[serde(default)]
    pub events: Vec<Value>,
}

/// A mark that the conversation can be taken back to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Checkpoint {
    /// A UUID.
    #[schemars(with = "String")]
    pub id: CheckpointId,
    /// The branch it marks a place on.
    #[schemars(with = "String")]
    pub branch: BranchId,
    /// The newest message at that moment; 0 before the first.
    pub seq: Seq,
    /// The type of the event that made it, or `manual`.
    pub trigger: String,
    /// What a person called it.
    #[serde(default)]
    pub label: Option<String>,
    /// Kept whatever the retention says.
    #[serde(default)]
    pub pinned: bool,
    /// When the event happened.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// What a rewind to it brings back.
    pub state: Value,
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
        use hfs_core::Part as Ours;
        match part {
            Ours::Text { text } => Self::Text { text },
            Ours::Thinking { text, signature } => Self::Thinking { text, signature },
            Ours::ToolCall { id, name, input } => Self::ToolCall { id, name, input },
            Ours::ToolResult { id, output, is_error } => Self::ToolResult { id, output, is_error },
            Ours::Attachment { media_type, name, hash, bytes } => {
                Self::Attachment { media_type, name, hash: hash.map(|hash| hash.to_string()), bytes }
            }
            Ours::Opaque { source, raw } => Self::Opaque { source, raw },
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
