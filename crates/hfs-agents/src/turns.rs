//! From a saved conversation to what any provider accepts: turns of user and assistant that alternate.
//!
//! Tool calls and results of imported conversations become text, since providers refuse calls of tools that
//! they were not told about. Thinking stays out: it is of use to the model that thought it only.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hfs_core::{ContentHash, Message, Part, Role};

use crate::model::{Piece, Speaker, Turn};

/// What every provider with eyes can see.
const SEEN_IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
/// The strictest provider's limit for one image, in bytes.
const LARGEST_IMAGE: u64 = 5 * 1024 * 1024;
/// Only so many of the newest images are sent; older ones are named.
const MOST_IMAGES: usize = 10;
/// The most characters of a tool's input or output that are repeated to a model.
const LONGEST_TOOL_TEXT: usize = 8_000;

/// A conversation as a model is told it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Conversation {
    /// What system messages before the first user's or assistant's say.
    pub system: Vec<String>,
    pub turns: Vec<Turn>,
}

/// Which images of the history are to be sent: the newest ones that every provider understands.
pub(crate) fn images_to_send(history: &[Message]) -> Vec<ContentHash> {
    let all = history
        .iter()
        .rev()
        .filter(|message| message.content.role == Role::User)
        .flat_map(|m| m.content.parts.iter());
    all.filter_map(|part| match part {
        Part::Attachment { media_type, hash, bytes, .. }
            if SEEN_IMAGES.contains(&media_type.as_str()) && *bytes <= LARGEST_IMAGE =>
        {
            *hash
        }
        _ => None,
    })
    .take(MOST_IMAGES)
    .collect()
}

/// Tells the conversation, with those images whose bytes are given.
pub(crate) fn conversation(history: &[Message], images: &HashMap<ContentHash, Vec<u8>>) -> Conversation {
    let mut told = Conversation::default();
    let mut tool_names: HashMap<&str, &str> = HashMap::new();
    for message in history {
        let mut pieces = Vec::new();
        for part in &message.content.parts {
            if let Part::ToolCall { id, name, .. } = part {
                tool_names.insert(id, name);
            }
            pieces.extend(piece(part, &tool_names, images));
        }
        if pieces.is_empty() {
            continue;
        }
        match message.content.role {
            Role::System if told.turns.is_empty() => {
                told.system.extend(pieces.into_iter().filter_map(|piece| match piece {
                    Piece::Text(text) => Some(text),
                    Piece::Image { .. } => None,
                }));
            }
            Role::System => {
                pieces.insert(0, Piece::Text("(an instruction of the system)".into()));
                told.say(Speaker::User, pieces);
            }
            Role::User | Role::Tool => told.say(Speaker::User, pieces),
            Role::Assistant => told.say(Speaker::Assistant, pieces),
        }
    }
    told
}

impl Conversation {
    /// Adds to the last turn of the same speaker, or begins one. The first word is always the user's.
    fn say(&mut self, speaker: Speaker, pieces: Vec<Piece>) {
        match self.turns.last_mut() {
            Some(last) if last.speaker == speaker => last.pieces.extend(pieces),
            last => {
                if last.is_none() && speaker == Speaker::Assistant {
                    let opening = vec![Piece::Text("(the conversation goes on from here)".into())];
                    self.turns.push(Turn { speaker: Speaker::User, pieces: opening });
                }
                self.turns.push(Turn { speaker, pieces });
            }
        }
    }
}

fn piece(
    part: &Part,
    tool_names: &HashMap<&str, &str>,
    images: &HashMap<ContentHash, Vec<u8>>,
) -> Option<Piece> {
    match part {
        Part::Text { text } => (!text.trim().is_empty()).then(|| Piece::Text(text.clone())),
        Part::ToolCall { name, input, .. } => {
            Some(Piece::Text(format!("[used the tool {name} with {}]", shortened(&input.to_string()))))
        }
        Part::ToolResult { id, output, is_error } => {
            let name = tool_names.get(id.as_str()).copied().unwrap_or("a tool");
            let verb = if *is_error { "failed with" } else { "answered" };
            Some(Piece::Text(format!("[{name} {verb}:\n{}]", shortened(output))))
        }
        Part::Attachment { media_type, name, hash, .. } => match hash.and_then(|hash| images.get(&hash)) {
            Some(bytes) => {
                Some(Piece::Image { media_type: media_type.clone(), base64: STANDARD.encode(bytes) })
            }
            None => {
                let name = name.as_deref().unwrap_or("without a name");
                Some(Piece::Text(format!("[attached: {name}, {media_type}]")))
            }
        },
        Part::Thinking { .. } | Part::Opaque { .. } => None,
    }
}

/// The beginning and the end of a long text.
fn shortened(text: &str) -> String {
    let length = text.chars().count();
    if length <= LONGEST_TOOL_TEXT {
        return text.to_owned();
    }
    let half = LONGEST_TOOL_TEXT / 2;
    let beginning: String = text.chars().take(half).collect();
    let end: String = text.chars().skip(length - half).collect();
    format!("{beginning}\n[... {} characters left out ...]\n{end}", length - 2 * half)
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
        let told = conversation(&history, &HashMap::new());
        assert_eq!(told.system, ["be brief"]);
        let texts: Vec<(Speaker, Vec<&str>)> = told
            .turns
            .iter()
            .map(|turn| {
                let pieces = turn.pieces.iter().map(|piece| match piece {
                    Piece::Text(text) => text.as_str(),
                    Piece::Image { .. } => "image",
                });
                (turn.speaker, pieces.collect())
            })
            .collect();
        assert_eq!(
            texts,
            [
                (Speaker::User, vec!["(the conversation goes on from here)"]),
                (Speaker::Assistant, vec!["[used the tool grep with {\"p\":\"x\"}]"]),
                (Speaker::User, vec!["[grep answered:\na.rs]", "and now?"]),
            ]
        );
    }

    #[test]
    fn images_with_bytes_are_sent_and_others_are_named() {
        let history = history(vec![(Role::User, vec![image(1), image(2), Part::text("what is this?")])]);
        let wanted = images_to_send(&history);
        assert_eq!(wanted.len(), 2);
        let had = HashMap::from([(ContentHash::from_bytes([1; 32]), vec![1, 2, 3])]);
        let told = conversation(&history, &had);
        assert_eq!(
            told.turns[0].pieces,
            [
                Piece::Image { media_type: "image/png".into(), base64: "AQID".into() },
                Piece::Text("[attached: shot.png, image/png]".into()),
                Piece::Text("what is this?".into()),
            ]
        );
    }

    #[test]
    fn only_the_newest_images_are_sent() {
        let history = history((0..30).map(|byte| (Role::User, vec![image(byte)])).collect());
        let wanted = images_to_send(&history);
        assert_eq!(wanted.len(), MOST_IMAGES);
        assert_eq!(wanted[0], ContentHash::from_bytes([29; 32]));
    }

    #[test]
    fn a_very_long_tool_output_keeps_its_ends() {
        let text = format!("start{}end", "é".repeat(50_000));
        let short = shortened(&text);
        assert!(short.starts_with("start") && short.ends_with("end"));
        assert!(short.chars().count() < LONGEST_TOOL_TEXT + 60);
    }
}
