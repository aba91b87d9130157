//! Messages and their parts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{BranchId, ContentHash, MessageId, PassthroughFields, Timestamp};

/// Position of a message in the whole history of its branch, counted from 1. 0 means "before the first message".
pub type Seq = u64;

/// Author of a message, in the terms of chat APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The user.
    User,
    /// The agent.
    Assistant,
    /// Instructions for the agent.
    System,
    /// A tool, with the result of a call.
    Tool,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::User, Self::Assistant, Self::System, Self::Tool];

    /// Name in stores, documents and JSON.
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

/// The text is not the name of a role.
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

/// Whether a message is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageStatus {
    /// The message is complete.
    Complete,
    /// The reply is still being written.
    Streaming,
    /// A cancel, an error or a crash ended the reply early. The text received before is kept.
    Interrupted,
}

impl MessageStatus {
    /// Name in stores, documents and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Streaming => "streaming",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A part of a message's content.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// Reasoning of the model before its reply.
    Thinking {
        /// The reasoning; empty if the provider sent only an encrypted form.
        text: String,
        /// Signature or encrypted form that the provider expects back, if any.
        signature: Option<String>,
    },
    /// A tool call of the model.
    ToolCall {
        /// Id that the result refers to.
        id: String,
        /// Name of the tool.
        name: String,
        /// Arguments of the call.
        input: Value,
    },
    /// The result of a tool call.
    ToolResult {
        /// Id of the call.
        id: String,
        /// Output as text.
        output: String,
        /// Whether the call failed.
        is_error: bool,
    },
    /// A file or an image.
    Attachment {
        /// Media type, such as `image/png`.
        media_type: String,
        /// File name or URL, if known.
        name: Option<String>,
        /// Hash of the stored bytes; `None` if only a reference is known (a URL, a missing file).
        hash: Option<ContentHash>,
        /// Size in bytes.
        bytes: u64,
    },
    /// An imported part of a type that hfs does not model, kept verbatim.
    Opaque {
        /// Format that the part was imported from.
        source: String,
        /// The part.
        raw: Value,
    },
}

impl Part {
    /// Creates a text part.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }
}

/// Tokens of a message, as counted by its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// Tokens sent, including cached ones.
    pub prompt_tokens: u64,
    /// Tokens received, including reasoning.
    pub completion_tokens: u64,
    /// Those of the tokens sent that the provider read from its cache; `None` if that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read_tokens: Option<u64>,
    /// Those of the tokens sent that the provider wrote to its cache; `None` if that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
}

impl Usage {
    /// Tokens sent and received. What the cache was used for is unknown.
    #[must_use]
    pub const fn new(prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self { prompt_tokens, completion_tokens, cache_read_tokens: None, cache_write_tokens: None }
    }

    /// Sets how many of the tokens sent were read from the provider's cache and written to it.
    #[must_use]
    pub const fn with_cache(mut self, read: Option<u64>, written: Option<u64>) -> Self {
        self.cache_read_tokens = read;
        self.cache_write_tokens = written;
        self
    }

    /// Tokens sent that are not known to have been read from the cache or written to it.
    #[must_use]
    pub fn uncached_tokens(self) -> u64 {
        let cached = [self.cache_read_tokens, self.cache_write_tokens].into_iter().flatten();
        self.prompt_tokens.saturating_sub(cached.fold(0, u64::saturating_add))
    }

    /// Tokens sent and received.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.prompt_tokens.saturating_add(self.completion_tokens)
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens = self.prompt_tokens.saturating_add(other.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(other.completion_tokens);
        // A sum is known if a part of it is: the callers count the messages without counts.
        let add = |sum: Option<u64>, count: Option<u64>| match (sum, count) {
            (Some(sum), Some(count)) => Some(sum.saturating_add(count)),
            (known, None) | (None, known) => known,
        };
        self.cache_read_tokens = add(self.cache_read_tokens, other.cache_read_tokens);
        self.cache_write_tokens = add(self.cache_write_tokens, other.cache_write_tokens);
    }
}

/// Source of an imported message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// Format, such as `claude-code` or `openai-messages`.
    pub format: String,
    /// Id of the message in its source: unique in the session, and the same when the source is imported again.
    pub id: String,
}

impl Source {
    /// Format of a message that hfs itself wrote into another tool's transcript.
    const HFS: &'static str = "hfs";

    /// The source of a message that an export of hfs wrote into another tool's transcript.
    #[must_use]
    pub fn hfs(message: MessageId) -> Self {
        Self { format: Self::HFS.to_owned(), id: message.to_string() }
    }

    /// The message of hfs that was exported; `None` if the message was written by another tool.
    #[must_use]
    pub fn hfs_message(&self) -> Option<MessageId> {
        (self.format == Self::HFS).then(|| self.id.parse().ok()).flatten()
    }
}

/// A message without its place in a session: a message to be stored, or the content of a stored [`Message`].
#[derive(Debug, Clone, PartialEq)]
pub struct MessageDraft {
    /// Message id.
    pub id: MessageId,
    /// Author.
    pub role: Role,
    /// Whether the message is complete.
    pub status: MessageStatus,
    /// Content.
    pub parts: Vec<Part>,
    /// Agent that wrote it.
    pub agent: Option<String>,
    /// Model that wrote it.
    pub model: Option<String>,
    /// Tokens, if known.
    pub usage: Option<Usage>,
    /// Time of the message; see [`Timestamp::is_known`].
    pub created_at: Timestamp,
    /// Source, if the message was imported.
    pub source: Option<Source>,
    /// Fields of the source that hfs does not interpret, and fields that hfs adds, such as `original_text`.
    pub extra: PassthroughFields,
}

impl MessageDraft {
    /// A complete message of these parts, written at `created_at`.
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

    /// A message of the user with one text part.
    pub fn user(text: impl Into<String>, created_at: Timestamp) -> Self {
        Self::new(Role::User, vec![Part::text(text)], created_at)
    }
}

/// A stored message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Branch that stores the message: the branch that was read, or one of its ancestors.
    pub branch: BranchId,
    /// Position in the branch's history.
    pub seq: Seq,
    /// Content and attributes.
    pub content: MessageDraft,
}

impl MessageDraft {
    /// Whether a model wrote it in a run of hfs.
    #[must_use]
    pub const fn is_reply_of_model(&self) -> bool {
        matches!(self.role, Role::Assistant) && self.model.is_some() && self.source.is_none()
    }

    /// Whether `fuller` is this message with nothing changed, except that calls have other names of tools, thinking that had no
    /// signature may have one, and passthrough fields were added.
    #[must_use]
    pub fn is_supplemented_by(&self, fuller: &Self) -> bool {
        let is_same_part = |pair: (&Part, &Part)| match pair {
            (Part::Thinking { text, signature: None }, Part::Thinking { text: same, .. }) => text == same,
            (Part::ToolCall { id, input, .. }, Part::ToolCall { id: same_id, input: same_input, .. }) => {
                id == same_id && input == same_input
            }
            (part, same) => part == same,
        };
        let is_kept = |(name, value): (&String, &Value)| match (value, fuller.extra.get(name)) {
            (Value::Array(items), Some(Value::Array(more))) => more.starts_with(items),
            (value, same) => same == Some(value),
        };
        let Self { id, role, status, parts, agent, model, usage, created_at, source, extra } = self;
        parts.len() == fuller.parts.len()
            && parts.iter().zip(&fuller.parts).all(is_same_part)
            && extra.iter().all(is_kept)
            && (id, role, status, agent, model)
                == (&fuller.id, &fuller.role, &fuller.status, &fuller.agent, &fuller.model)
            && (usage, created_at, source) == (&fuller.usage, &fuller.created_at, &fuller.source)
    }

    /// The text parts, separated by blank lines.
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

    /// The text that full-text search covers: text, thinking, tool names with input and output, names of attachments,
    /// strings of opaque parts.
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

/// Calls `visit` with every string inside `value`. Iterative, because imported values may be nested deeper than the
/// stack allows.
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
    use serde_json::json;

    use super::*;

    #[test]
    fn searchable_text_contains_tool_input_and_output_without_json_syntax() {
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

    #[test]
    fn a_supplement_changes_nothing_that_was_recorded() {
        let call = |name: &str, input: Value| Part::ToolCall { id: "1".into(), name: name.into(), input };
        let thinking = |signature: Option<&str>| Part::Thinking {
            text: "hm".into(),
            signature: signature.map(str::to_owned),
        };
        let mut recorded = MessageDraft::new(
            Role::Assistant,
            vec![Part::text("yes"), thinking(None), call("execute", json!({"command": "ls"}))],
            Timestamp::UNIX_EPOCH,
        );
        recorded.extra.insert("acp".into(), json!({"id": 1}));
        recorded.extra.insert("list".into(), json!(["a"]));
        let changed = |change: &dyn Fn(&mut MessageDraft)| {
            let mut message = recorded.clone();
            change(&mut message);
            recorded.is_supplemented_by(&message)
        };
        assert!(changed(&|_| {}));
        assert!(changed(&|message| message.parts[1] = thinking(Some("s"))));
        assert!(changed(&|message| message.parts[2] = call("Bash", json!({"command": "ls"}))));
        assert!(changed(&|message| {
            message.extra.insert("new".into(), json!(1));
            message.extra.insert("list".into(), json!(["a", "b"]));
        }));
        assert!(!changed(&|message| message.parts[0] = Part::text("no")));
        assert!(!changed(&|message| message.parts[2] = call("Bash", json!({"command": "rm"}))));
        assert!(!changed(&|message| message.parts.truncate(2)));
        assert!(!changed(&|message| message.status = MessageStatus::Interrupted));
        assert!(!changed(&|message| message.model = Some("another".into())));
        assert!(!changed(&|message| {
            message.extra.insert("acp".into(), json!({}));
        }));
        assert!(!changed(&|message| {
            message.extra.insert("list".into(), json!(["b"]));
        }));
        recorded.parts[1] = thinking(Some("s"));
        let mut other = recorded.clone();
        other.parts[1] = thinking(Some("t"));
        assert!(!recorded.is_supplemented_by(&other));
    }
}
