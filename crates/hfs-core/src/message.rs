//! Messages and the parts they are made of.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{BranchId, ContentHash, MessageId, PassthroughFields, Timestamp};

/// A message's place along its branch's whole history, counted from 1. 0 stands for "before the first".
pub type Seq = u64;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person.
    User,
    /// The agent.
    Assistant,
    /// Instructions around the conversation.
    System,
    /// A tool's result.
    Tool,
}

impl Role {
    /// All roles, in the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::User, Self::Assistant, Self::System, Self::Tool];

    /// The name that scripts and stores see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
            Self::Tool => "tool",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a role: expected user, assistant, system or tool")]
pub struct ParseRoleError(String);

impl FromStr for Role {
    type Err = ParseRoleError;

    fn from_str(text: &str) -> Result<Self, ParseRoleError> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| ParseRoleError(text.to_owned()))
    }
}

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageStatus {
    /// All of it is there.
    Complete,
    /// It is arriving.
    Streaming,
    /// It was arriving when something ended it: a cancel, an error, a crash. What had arrived is kept.
    Interrupted,
}

impl MessageStatus {
    /// The name that scripts and stores see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Streaming => "streaming",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A piece of a message's content.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// What is said.
    Text {
        /// The words.
        text: String,
    },
    /// What the model thought before it spoke.
    Thinking {
        /// The thought; empty when only its encrypted form came.
        text: String,
        /// What proves it to the provider that made it (a signature, an encrypted form), if any.
        signature: Option<String>,
    },
    /// A model's request to use a tool.
    ToolCall {
        /// What its result refers to.
        id: String,
        /// The tool.
        name: String,
        /// The arguments.
        input: Value,
    },
    /// What a tool answered.
    ToolResult {
        /// The id of the call it answers.
        id: String,
        /// The answer as text.
        output: String,
        /// Whether the tool failed.
        is_error: bool,
    },
    /// A file, an image.
    Attachment {
        /// Such as `image/png`.
        media_type: String,
        /// The file's name or address, if it had one.
        name: Option<String>,
        /// Where the bytes are; `None` when only the reference came (an address, a missing file).
        hash: Option<ContentHash>,
        /// How many bytes.
        bytes: u64,
    },
    /// A foreign part that has no equal here, kept as it came.
    Opaque {
        /// The format it came from.
        source: String,
        /// The part itself.
        raw: Value,
    },
}

impl Part {
    /// A text part.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }
}

/// What kind of part a streamed piece belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeltaKind {
    /// Continues a text part.
    Text,
    /// Continues a thinking part.
    Thinking,
}

/// Tokens that a message cost, as its provider counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens sent, cached ones included.
    pub prompt_tokens: u64,
    /// Tokens received, thinking included.
    pub completion_tokens: u64,
}

impl Usage {
    /// Both together.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(other.completion_tokens);
    }
}

/// Where an imported message came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// The format: `claude-code`, `openai-messages` ...
    pub format: String,
    /// Its id there; unique within the session it came from, stable when the same file is read again.
    pub id: String,
}

/// Everything about a message but its place in a session.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageDraft {
    /// Its identity.
    pub id: MessageId,
    /// Who speaks.
    pub role: Role,
    /// How far it has come.
    pub status: MessageStatus,
    /// The content.
    pub parts: Vec<Part>,
    /// The agent that made it.
    pub agent: Option<String>,
    /// The model that made it.
    pub model: Option<String>,
    /// What it cost.
    pub usage: Option<Usage>,
    /// When it was said.
    pub created_at: Timestamp,
    /// Where it was imported from.
    pub source: Option<Source>,
    /// What came with it and means nothing here.
    pub extra: PassthroughFields,
}

impl MessageDraft {
    /// A complete message of these parts, said at `created_at`.
    #[must_use]
    pub fn new(role: Role, parts: Vec<Part>, created_at: Timestamp) -> Self {
        Self {
            id: MessageId::generate(),
            role,
            status: MessageStatus::Complete,
            parts,
            agent: None,
            model: None,
            usage: None,
            created_at,
            source: None,
            extra: PassthroughFields::new(),
        }
    }

    /// A user's message of one text.
    pub fn user(text: impl Into<String>, created_at: Timestamp) -> Self {
        Self::new(Role::User, vec![Part::text(text)], created_at)
    }
}

/// A message in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The branch that holds it (which may be an ancestor of the one it was read through).
    pub branch: BranchId,
    /// Its place along that branch's history.
    pub seq: Seq,
    /// The rest of it.
    pub content: MessageDraft,
}

impl std::ops::Deref for Message {
    type Target = MessageDraft;

    fn deref(&self) -> &MessageDraft {
        &self.content
    }
}

impl MessageDraft {
    /// The words of its text parts, a blank line between two.
    #[must_use]
    pub fn text(&self) -> String {
        let texts: Vec<&str> = self
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::Text { text } => Some(text.as_str()),
                _ => None,
            })
            .collect();
        texts.join("\n\n")
    }

    /// Everything in it that full-text search looks at: text, thinking, tool names, their input and output,
    /// names of attachments.
    #[must_use]
    pub fn searchable_text(&self) -> String {
        let mut all = String::new();
        let mut add = |piece: &str| {
            if !piece.is_empty() {
                if !all.is_empty() {
                    all.push('\n');
                }
                all.push_str(piece);
            }
        };
        for part in &self.parts {
            match part {
                Part::Text { text } | Part::Thinking { text, .. } => add(text),
                Part::ToolCall { name, input, .. } => {
                    add(name);
                    for_each_string(input, &mut add);
                }
                Part::ToolResult { output, .. } => add(output),
                Part::Attachment { name, .. } => add(name.as_deref().unwrap_or_default()),
                Part::Opaque { raw, .. } => for_each_string(raw, &mut add),
            }
        }
        all
    }
}

/// Calls `visit` with every string value inside `value`, without recursion, so that depth cannot hurt.
fn for_each_string(value: &Value, visit: &mut impl FnMut(&str)) {
    let mut pending = vec![value];
    while let Some(next) = pending.pop() {
        match next {
            Value::String(text) => visit(text),
            Value::Array(items) => pending.extend(items.iter().rev()),
            Value::Object(fields) => pending.extend(fields.values().rev()),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_sees_tool_input_and_output_but_no_punctuation_of_json() {
        let mut message = MessageDraft::user("look", Timestamp::UNIX_EPOCH);
        message.parts.push(Part::ToolCall {
            id: "1".into(),
            name: "grep".into(),
            input: serde_json::json!({"pattern": "needle", "paths": ["a.rs", "b.rs"], "count": 3}),
        });
        message.parts.push(Part::ToolResult { id: "1".into(), output: "found".into(), is_error: false });
        assert_eq!(message.searchable_text(), "look\ngrep\nneedle\na.rs\nb.rs\nfound");
        assert_eq!(message.text(), "look");
    }
}
