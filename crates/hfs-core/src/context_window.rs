//! How much of a conversation fits into the context of a model.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{EventPayload, MessageDraft, Part};

/// Longer input or output of a tool is shortened when it is sent to a model, in characters.
pub const MAX_TOOL_CHARS: usize = 8_000;

/// Tokens of the frame around a message, and of an image.
const FRAME_TOKENS: u64 = 4;
const IMAGE_TOKENS: u64 = 1_000;

/// Where the limit of a context comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitSource {
    /// The user's configuration.
    Configuration,
    /// The server of the model, by its list of models or by a refusal.
    Server,
    /// The table of known models.
    Table,
}

/// The largest context of a model: the conversation and the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextLimit {
    /// Size in tokens.
    pub tokens: u64,
    /// Where the number comes from.
    pub source: LimitSource,
}

impl ContextLimit {
    /// The tokens that a conversation may have, so that there is room for the reply.
    #[must_use]
    pub const fn for_conversation(self) -> u64 {
        /// More than most replies need, also with thinking.
        const MAX_REPLY: u64 = 16_000;
        let quarter = self.tokens / 4;
        self.tokens - if quarter < MAX_REPLY { quarter } else { MAX_REPLY }
    }
}

/// The context of an agent's model, as far as it is known without asking the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ModelContext {
    /// The agent sends no whole conversation to a model.
    #[default]
    Unused,
    /// The limit is not known.
    Unknown,
    /// The model has this limit.
    Limited(ContextLimit),
}

impl ModelContext {
    /// The limit, if it is known.
    #[must_use]
    pub const fn limit(self) -> Option<ContextLimit> {
        match self {
            Self::Unused | Self::Unknown => None,
            Self::Limited(limit) => Some(limit),
        }
    }
}

/// An estimate of the tokens of a text, for models of all providers. It is rather too high, since a conversation that is
/// too long is refused.
#[must_use]
pub fn estimate_tokens(text: &str) -> u64 {
    // English prose has about 4.2 ASCII characters in a token and code about 3. Other scripts have about one.
    let ascii = text.bytes().filter(u8::is_ascii).count();
    let others = text.chars().filter(|c| !c.is_ascii()).count();
    u64::try_from(ascii.div_ceil(3) + others).unwrap_or(u64::MAX)
}

impl MessageDraft {
    /// An estimate of the tokens of the message as it is sent to a model; see [`estimate_tokens`].
    #[must_use]
    pub fn estimated_tokens(&self) -> u64 {
        let cut = |text: &str| {
            let end = text.char_indices().nth(MAX_TOOL_CHARS).map_or(text.len(), |(end, _)| end);
            estimate_tokens(text.get(..end).unwrap_or(text))
        };
        let parts = self.parts.iter().map(|part| match part {
            Part::Text { text } => estimate_tokens(text),
            Part::ToolCall { name, input, .. } => estimate_tokens(name) + cut(&input.to_string()),
            Part::ToolResult { output, .. } => cut(output),
            Part::Attachment { media_type, .. } if media_type.starts_with("image/") => IMAGE_TOKENS,
            Part::Attachment { name, .. } => estimate_tokens(name.as_deref().unwrap_or_default()),
            // Not sent, or only by one provider.
            Part::Thinking { .. } | Part::Opaque { .. } => 0,
        });
        FRAME_TOKENS + parts.sum::<u64>()
    }
}

/// How full the context of a run is, and what was left out of it. An event of the type `context.updated`, which the run
/// snapshot ignores; see [`EventPayload::Custom`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextUpdate {
    /// Model, if the agent uses one.
    pub model: Option<String>,
    /// Estimated tokens of the messages that are sent.
    pub tokens: u64,
    /// The model's limit; `None` if it is not known.
    pub limit: Option<ContextLimit>,
    /// Number of messages at the beginning that are not sent.
    pub left_out: u64,
    /// Estimated tokens of those messages.
    pub left_out_tokens: u64,
}

impl ContextUpdate {
    /// Type of the event.
    pub const KIND: &'static str = "context.updated";

    /// The event to emit.
    #[must_use]
    pub fn payload(&self) -> Option<EventPayload> {
        let Ok(Value::Object(fields)) = serde_json::to_value(self) else { return None };
        Some(EventPayload::custom(Self::KIND, fields))
    }

    /// Reads an event that [`payload`](Self::payload) created. `None` for any other event.
    #[must_use]
    pub fn read(payload: &EventPayload) -> Option<Self> {
        match payload {
            EventPayload::Custom(event) if event.kind == Self::KIND => {
                serde_json::from_value(Value::Object(event.fields.clone())).ok()
            }
            _ => None,
        }
    }

    /// How full the context is, and what was left out.
    #[must_use]
    pub fn describe(&self) -> String {
        let limit = self.limit.map(|limit| format!(" of {}", limit.tokens)).unwrap_or_default();
        let left_out = self.describe_left_out().map(|text| format!("; {text}")).unwrap_or_default();
        format!("about {}{limit} tokens{left_out}", self.tokens)
    }

    /// What was left out, as a sentence without a period. `None` if everything is sent.
    #[must_use]
    pub fn describe_left_out(&self) -> Option<String> {
        if self.left_out == 0 {
            return None;
        }
        let messages = if self.left_out == 1 { "message was" } else { "messages were" };
        let limit = match (&self.model, self.limit) {
            (Some(model), Some(limit)) => {
                format!("the context of {model} has {} tokens", grouped(limit.tokens))
            }
            _ => "the limit of the model is not known, and only the newest messages are sent".to_owned(),
        };
        Some(format!(
            "the first {} {messages} left out (about {} tokens): {limit}",
            grouped(self.left_out),
            grouped(self.left_out_tokens)
        ))
    }
}

/// A number with a comma between groups of three digits.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Role, Timestamp};

    #[test]
    fn digits_are_grouped_by_three() {
        for (number, expected) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn tokens_are_estimated_by_the_script_of_the_text() {
        assert_eq!(estimate_tokens(""), 0);
        assert_eq!(estimate_tokens("abcdef"), 2);
        assert_eq!(estimate_tokens("漢字"), 2);
        assert_eq!(estimate_tokens("abc漢字"), 3);
    }

    #[test]
    fn a_long_tool_output_counts_as_much_as_is_sent_of_it() {
        let result = |chars| {
            let part = Part::ToolResult { id: "1".into(), output: "x".repeat(chars), is_error: false };
            MessageDraft::new(Role::Tool, vec![part], Timestamp::UNIX_EPOCH).estimated_tokens()
        };
        assert_eq!(result(1_000_000), result(MAX_TOOL_CHARS));
        assert!(result(900) < result(MAX_TOOL_CHARS));
    }

    #[test]
    fn a_conversation_leaves_room_for_the_reply() {
        let limit = |tokens| ContextLimit { tokens, source: LimitSource::Table }.for_conversation();
        assert_eq!([limit(4_096), limit(200_000), limit(0)], [3_072, 184_000, 0]);
    }

    #[test]
    fn an_update_is_read_as_it_was_emitted_and_says_what_was_left_out() {
        let limit = ContextLimit { tokens: 200_000, source: LimitSource::Server };
        let mut update = ContextUpdate {
            model: Some("m".into()),
            tokens: 10,
            limit: Some(limit),
            left_out: 1_234,
            left_out_tokens: 310_000,
        };
        assert_eq!(ContextUpdate::read(&update.payload().unwrap()), Some(update.clone()));
        assert_eq!(
            update.describe_left_out().unwrap(),
            "the first 1,234 messages were left out (about 310,000 tokens): the context of m has 200,000 tokens"
        );
        update.left_out = 0;
        assert_eq!(update.describe_left_out(), None);
    }
}
