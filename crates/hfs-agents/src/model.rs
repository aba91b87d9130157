//! The interface to a language model, and the conversion of a saved conversation to the turns a model accepts.
//!
//! [`Model`] is implemented by the provider client and by the offline model that quotes saved sessions. Agents
//! build a [`ModelRequest`] and receive a stream of [`StreamEvent`]s followed by the whole [`ModelReply`].

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{
    AgentError, ContentHash, ContextLimit, EventPayload, IncompleteReply, MAX_TOOL_CHARS, Message, Part,
    RequestEvent, Role, TextDelta, Usage, WaitStage,
};
use tokio_util::sync::CancellationToken;

use crate::provider::without_tagged_thinking;

/// Image types that every vision-capable provider accepts.
const IMAGE_TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
/// Anthropic's limit, the strictest among the providers: 5 MiB in base64, which has four characters for three bytes.
pub const MAX_IMAGE_BYTES: u64 = 5 * 1024 * 1024 / 4 * 3;
/// Limit for the number of images in a request. Older images are replaced by their file names.
const MAX_IMAGES: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChatRole {
    User,
    Assistant,
}

impl ChatRole {
    /// The name in the protocols of all providers but Gemini.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChatPart {
    Text(String),
    Image {
        media_type: String,
        base64: String,
    },
    /// Signed thinking of the model that is asked.
    Thinking {
        text: String,
        signature: String,
    },
}

/// Consecutive messages of one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChatTurn {
    pub role: ChatRole,
    pub parts: Vec<ChatPart>,
}

impl ChatTurn {
    /// The text parts, separated by blank lines.
    pub fn text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| match part {
            ChatPart::Text(text) => Some(text.as_str()),
            ChatPart::Image { .. } | ChatPart::Thinking { .. } => None,
        });
        texts.collect::<Vec<_>>().join("\n\n")
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct ModelRequest {
    pub system: Option<String>,
    /// Roles alternate; the first and the last turn are the user's.
    pub turns: Vec<ChatTurn>,
    pub max_tokens: Option<u32>,
    pub temperature: Option<f64>,
    pub cancel: CancellationToken,
    /// The task of the prompt in machine-readable form, for the offline model.
    pub task: Option<TriadTask>,
}

/// A step of a run with triads, in machine-readable form.
///
/// Every prompt of a triad carries one, so that the offline model, which cannot interpret the prompt, can answer it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TriadTask {
    /// Divide the question into tasks for two workers.
    Decompose,
    /// Work on one half of the question (0 or 1).
    Research { half: usize },
    /// Draft a position.
    Propose,
    /// Object to a draft.
    Critique,
    /// State the triad's position and claim sections.
    Position { claims: Vec<String> },
    /// Vote for one of the numbered positions.
    Vote,
    /// Concede, revise or hold each contested section.
    Decide { contested: Vec<ContestedSection> },
    /// Decide which of the claimants owns a section.
    Arbitrate { section: String, claimants: Vec<String> },
    /// Write a section, or a part of it.
    Write {
        /// Index of the section in the reply.
        index: usize,
        /// Number of sections in the reply.
        count: usize,
        /// Whether the offline model must also list the words of the question that no passage contains. Set for
        /// dialectic triads.
        with_critique: bool,
    },
    /// Combine the sections, as (name, text), into one reply.
    Integrate { sections: Vec<(String, String)> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContestedSection {
    pub name: String,
    /// Whether it is one of the triad's primary sections.
    pub is_primary: bool,
}

/// An event of a reply that is not complete yet.
#[derive(Debug)]
pub(crate) enum StreamEvent<'a> {
    Delta(TextDelta),
    /// An attempt failed before its first delta; the next one starts after the delay.
    Retrying(&'a AgentError, Duration),
    /// The request has waited for some time and waits for at most `limit`.
    Waiting {
        server: &'a str,
        stage: WaitStage,
        limit: Duration,
    },
    /// An agent that is asked as a model reports what it does.
    Reported(&'a EventPayload),
    /// What the user should know about the request: a part of the conversation is not sent, because the model does not
    /// accept it, or a part of the reply is saved in another way than it was shown.
    LeftOut(&'a str),
}

impl StreamEvent<'_> {
    /// The event of the run for a step of a request of `agent`. `None` for a piece of the reply.
    pub fn payload(&self, agent: &str) -> Option<EventPayload> {
        let agent = agent.to_owned();
        let millis = |duration: &Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let event = match self {
            Self::Delta(_) => return None,
            Self::Reported(payload) => return Some((*payload).clone()),
            Self::Waiting { server, stage, limit } => RequestEvent::Waiting {
                agent,
                server: (*server).to_owned(),
                stage: *stage,
                limit_ms: millis(limit),
            },
            Self::Retrying(error, delay) => {
                // Without the name of the server: front ends have one line for it, and most users have one server.
                let message = match error {
                    AgentError::Unavailable { message, .. } => message.clone(),
                    error => error.to_string(),
                };
                RequestEvent::Retrying { agent, message, delay_ms: millis(delay) }
            }
            Self::LeftOut(message) => RequestEvent::LeftOut { agent, message: (*message).to_owned() },
        };
        event.payload()
    }
}

/// Called for each event, in order.
pub(crate) type StreamHandler<'a> = &'a mut (dyn FnMut(StreamEvent<'_>) + Send);

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ModelReply {
    /// Text and thinking, equal to the streamed deltas.
    pub parts: Vec<Part>,
    pub usage: Option<Usage>,
    pub stop_reason: Option<String>,
    /// Why the reply is not whole, if it is not.
    pub incomplete: Option<IncompleteReply>,
    /// Tools that the model called although the request declares none.
    pub called_tools: Vec<String>,
}

#[async_trait]
pub(crate) trait Model: Send + Sync {
    /// The provider's name for the model.
    fn name(&self) -> &str;

    /// The limit of the model's context. May ask the server. `None` if it is not known.
    async fn context_limit(&self) -> Option<ContextLimit> {
        None
    }

    /// Sends the request and passes the reply to `handler` while it streams.
    ///
    /// After an error, the deltas that were already streamed stay valid; the caller keeps them.
    async fn reply(
        &self,
        request: &ModelRequest,
        handler: StreamHandler<'_>,
    ) -> Result<ModelReply, AgentError>;
}

/// A saved conversation in the form that every provider accepts.
///
/// Roles alternate and the first turn is the user's. Tool calls and results become text, because providers
/// reject calls of tools that the request does not declare. Thinking is left out, unless the model that is asked has
/// signed it: no other model can use it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ChatTurns {
    /// System messages before the first turn.
    pub system: Vec<String>,
    pub turns: Vec<ChatTurn>,
}

impl ChatTurns {
    /// Converts the history. Images without an entry in `images` are replaced by their names. `thinking_model` is the model
    /// that accepts its own thinking back, if it does.
    pub fn from_history(
        history: &[Message],
        images: &HashMap<ContentHash, Vec<u8>>,
        thinking_model: Option<&str>,
    ) -> Self {
        let mut chat = Self::default();
        let mut tool_names: HashMap<&str, &str> = HashMap::new();
        for message in history {
            let mut parts = Vec::new();
            for part in &message.content.parts {
                if let Part::ToolCall { id, name, .. } = part {
                    tool_names.insert(id, name);
                }
                let is_own = thinking_model.is_some() && message.content.model.as_deref() == thinking_model;
                parts.extend(chat_part(part, message.content.role, is_own, &tool_names, images));
            }
            // A turn of thinking alone is not valid.
            if parts.iter().all(|part| matches!(part, ChatPart::Thinking { .. })) {
                continue;
            }
            match message.content.role {
                Role::System if chat.turns.is_empty() => {
                    chat.system.extend(parts.into_iter().filter_map(|part| match part {
                        ChatPart::Text(text) => Some(text),
                        ChatPart::Image { .. } | ChatPart::Thinking { .. } => None,
                    }));
                }
                Role::System => {
                    parts.insert(0, ChatPart::Text("(system instruction)".into()));
                    chat.push(ChatRole::User, parts);
                }
                Role::User | Role::Tool => chat.push(ChatRole::User, parts),
                Role::Assistant => chat.push(ChatRole::Assistant, parts),
            }
        }
        chat
    }

    /// Appends to the last turn if it has the same role, else starts a new turn.
    pub fn push(&mut self, role: ChatRole, parts: Vec<ChatPart>) {
        match self.turns.last_mut() {
            Some(last) if last.role == role => last.parts.extend(parts),
            last => {
                if last.is_none() && role == ChatRole::Assistant {
                    let opening = vec![ChatPart::Text("(the conversation continues from here)".into())];
                    self.turns.push(ChatTurn { role: ChatRole::User, parts: opening });
                }
                self.turns.push(ChatTurn { role, parts });
            }
        }
    }
}

/// The newest images of the user's messages, at most [`MAX_IMAGES`]. Leaves out images that not every provider accepts.
pub(crate) fn images_to_send(history: &[Message]) -> Vec<ContentHash> {
    let newest_first = history
        .iter()
        .rev()
        .filter(|message| message.content.role == Role::User)
        .flat_map(|m| m.content.parts.iter());
    newest_first
        .filter_map(|part| match part {
            Part::Attachment { media_type, hash, bytes, .. }
                if IMAGE_TYPES.contains(&media_type.as_str()) && *bytes <= MAX_IMAGE_BYTES =>
            {
                *hash
            }
            _ => None,
        })
        .take(MAX_IMAGES)
        .collect()
}

fn chat_part(
    part: &Part,
    role: Role,
    is_own: bool,
    tool_names: &HashMap<&str, &str>,
    images: &HashMap<ContentHash, Vec<u8>>,
) -> Option<ChatPart> {
    match part {
        Part::Text { text } => {
            // Thinking in tags was meant for the model that wrote it, in the reply that it wrote.
            let text = if role == Role::Assistant { without_tagged_thinking(text) } else { text };
            (!text.trim().is_empty()).then(|| ChatPart::Text(text.to_owned()))
        }
        Part::ToolCall { name, input, .. } => {
            Some(ChatPart::Text(format!("[used the tool {name} with {}]", shorten(&input.to_string()))))
        }
        Part::ToolResult { id, output, is_error } => {
            let name = tool_names.get(id.as_str()).copied().unwrap_or("a tool");
            let verb = if *is_error { "failed with" } else { "answered" };
            Some(ChatPart::Text(format!("[{name} {verb}:\n{}]", shorten(output))))
        }
        Part::Attachment { media_type, name, hash, .. } => match hash.and_then(|hash| images.get(&hash)) {
            Some(bytes) => {
                Some(ChatPart::Image { media_type: media_type.clone(), base64: STANDARD.encode(bytes) })
            }
            None => {
                let name = name.as_deref().unwrap_or("unnamed file");
                Some(ChatPart::Text(format!("[attached: {name}, {media_type}]")))
            }
        },
        Part::Thinking { text, signature: Some(signature) } if is_own && !text.is_empty() => {
            Some(ChatPart::Thinking { text: text.clone(), signature: signature.clone() })
        }
        Part::Thinking { .. } | Part::Opaque { .. } => None,
    }
}

/// Keeps the beginning and the end of a long text.
fn shorten(text: &str) -> String {
    let length = text.chars().count();
    if length <= MAX_TOOL_CHARS {
        return text.to_owned();
    }
    let half = MAX_TOOL_CHARS / 2;
    let beginning: String = text.chars().take(half).collect();
    let end: String = text.chars().skip(length - half).collect();
    format!("{beginning}\n[... {} characters omitted ...]\n{end}", length - 2 * half)
}

#[cfg(test)]
mod tests {
    use hfs_core::{BranchId, MessageDraft, Timestamp};
    use serde_json::json;

    use super::*;

    fn history(messages: Vec<(Role, Vec<Part>)>) -> Vec<Message> {
        let branch = BranchId::generate();
        (1..)
            .zip(messages)
            .map(|(seq, (role, parts))| Message {
                branch,
                seq,
                content: MessageDraft::new(role, parts, Timestamp::UNIX_EPOCH),
            })
            .collect()
    }

    fn image(byte: u8) -> Part {
        Part::Attachment {
            media_type: "image/png".into(),
            name: Some("shot.png".into()),
            hash: Some(ContentHash::from_bytes([byte; 32])),
            bytes: 3,
        }
    }

    #[test]
    fn an_imported_conversation_becomes_alternating_turns_that_begin_with_the_user() {
        let history = history(vec![
            (Role::System, vec![Part::text("be brief")]),
            (
                Role::Assistant,
                vec![
                    Part::Thinking { text: "hm".into(), signature: None },
                    Part::ToolCall { id: "1".into(), name: "grep".into(), input: json!({"p": "x"}) },
                ],
            ),
            (Role::Tool, vec![Part::ToolResult { id: "1".into(), output: "a.rs".into(), is_error: false }]),
            (Role::User, vec![Part::text("and now?")]),
        ]);
        let chat = ChatTurns::from_history(&history, &HashMap::new(), None);
        assert_eq!(chat.system, ["be brief"]);
        let texts: Vec<(ChatRole, Vec<&str>)> = chat
            .turns
            .iter()
            .map(|turn| {
                let parts = turn.parts.iter().map(|part| match part {
                    ChatPart::Text(text) => text.as_str(),
                    ChatPart::Image { .. } => "image",
                    ChatPart::Thinking { .. } => "thinking",
                });
                (turn.role, parts.collect())
            })
            .collect();
        assert_eq!(
            texts,
            [
                (ChatRole::User, vec!["(the conversation continues from here)"]),
                (ChatRole::Assistant, vec!["[used the tool grep with {\"p\":\"x\"}]"]),
                (ChatRole::User, vec!["[grep answered:\na.rs]", "and now?"]),
            ]
        );
    }

    #[test]
    fn loaded_images_are_sent_and_the_others_are_named() {
        let history = history(vec![(Role::User, vec![image(1), image(2), Part::text("what is this?")])]);
        let wanted = images_to_send(&history);
        assert_eq!(wanted.len(), 2);
        let loaded = HashMap::from([(ContentHash::from_bytes([1; 32]), vec![1, 2, 3])]);
        let chat = ChatTurns::from_history(&history, &loaded, None);
        assert_eq!(
            chat.turns[0].parts,
            [
                ChatPart::Image { media_type: "image/png".into(), base64: "AQID".into() },
                ChatPart::Text("[attached: shot.png, image/png]".into()),
                ChatPart::Text("what is this?".into()),
            ]
        );
    }

    #[test]
    fn only_the_newest_images_are_sent() {
        let history = history((0..30).map(|byte| (Role::User, vec![image(byte)])).collect());
        let wanted = images_to_send(&history);
        assert_eq!(wanted.len(), MAX_IMAGES);
        assert_eq!(wanted[0], ContentHash::from_bytes([29; 32]));
    }

    #[test]
    fn a_very_long_tool_output_keeps_its_beginning_and_end() {
        let text = format!("start{}end", "é".repeat(50_000));
        let short = shorten(&text);
        assert!(short.starts_with("start") && short.ends_with("end"));
        assert!(short.chars().count() < MAX_TOOL_CHARS + 60);
    }

    #[test]
    fn an_image_is_sent_if_its_base64_form_fits_the_limit() {
        let of_size = |bytes| {
            let Part::Attachment { media_type, name, hash, .. } = image(1) else { panic!() };
            history(vec![(Role::User, vec![Part::Attachment { media_type, name, hash, bytes }])])
        };
        let largest = 5 * 1024 * 1024 / 4 * 3;
        assert_eq!(images_to_send(&of_size(largest)).len(), 1);
        assert_eq!(images_to_send(&of_size(largest + 1)).len(), 0);
    }

    #[test]
    fn only_the_model_that_signed_its_thinking_gets_it_back() {
        let mut history = history(vec![
            (Role::User, vec![Part::text("why?")]),
            (
                Role::Assistant,
                vec![
                    Part::Thinking { text: "hm".into(), signature: Some("sig".into()) },
                    Part::text("<think>aloud</think>\n\nBecause."),
                ],
            ),
            (Role::User, vec![Part::text("<think>really</think>?")]),
        ]);
        history[1].content.model = Some("m".into());
        for (model, expected) in [(None, 1), (Some("n"), 1), (Some("m"), 2)] {
            let chat = ChatTurns::from_history(&history, &HashMap::new(), model);
            assert_eq!(chat.turns[1].parts.len(), expected, "{model:?}");
            assert_eq!(chat.turns[1].text(), "Because.");
            assert_eq!(chat.turns[2].text(), "<think>really</think>?");
        }
    }
}
