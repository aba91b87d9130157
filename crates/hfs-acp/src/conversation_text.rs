//! A conversation as one text, for an agent that does not have it.

use std::collections::HashSet;

use hfs_core::{MAX_TOOL_CHARS, Message, MessageFlag, Part, Role};

/// Limit of the text, in characters. The oldest messages are left out beyond it. About 100,000 tokens: half the context of the
/// models that agents use.
const MAX_CHARS: usize = 300_000;

/// A conversation for an agent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConversationText {
    pub text: String,
    /// Number of messages in it.
    pub messages: u64,
    /// Number of older messages that are not.
    pub left_out: u64,
}

/// The conversation before a prompt; `None` if there is none. Calls without a result are left out.
pub(crate) fn conversation_text(earlier: &[Message]) -> Option<ConversationText> {
    let parts = earlier.iter().flat_map(|message| &message.content.parts);
    let answered: HashSet<&str> = parts.filter_map(result_id).collect();
    let mut newest_first: Vec<String> = Vec::new();
    let mut chars = 0;
    for message in earlier.iter().rev() {
        let text = message_text(message, &answered);
        chars += text.chars().count();
        if chars > MAX_CHARS && !newest_first.is_empty() {
            break;
        }
        newest_first.push(text);
    }
    let oldest = earlier.len().checked_sub(newest_first.len()).and_then(|index| earlier.get(index))?;
    // The history begins with the oldest message that fits the configured context.
    // A summary stands for all messages before it.
    let is_summary = oldest.content.has_flag(MessageFlag::CompactSummary);
    let left_out = if is_summary { 0 } else { oldest.seq.saturating_sub(1) };
    let mut text = String::from(
        "This is the conversation so far. Parts of it may have been led with another agent. It is background for the \
         message after it: do not answer or repeat it.\n",
    );
    if left_out > 0 {
        text.push_str(&format!("\n[{left_out} earlier messages are left out]\n"));
    }
    let messages = u64::try_from(newest_first.len()).unwrap_or(u64::MAX);
    for message in newest_first.into_iter().rev().filter(|message| !message.is_empty()) {
        text.push('\n');
        text.push_str(&message);
    }
    text.push_str("\nThe conversation so far ends here.");
    Some(ConversationText { text, messages, left_out })
}

fn message_text(message: &Message, answered: &HashSet<&str>) -> String {
    let author = match message.content.role {
        Role::User => "User",
        Role::Assistant => "Assistant",
        Role::System => "Instructions",
        Role::Tool => "Tool",
    };
    let mut text = String::new();
    for part in &message.content.parts {
        let piece = match part {
            Part::Text { text } => text.clone(),
            Part::ToolCall { id, name, input } if answered.contains(id.as_str()) => {
                format!("[called {name} with {}]", short(&input.to_string()))
            }
            Part::ToolResult { output, is_error, .. } => {
                let what = if *is_error { "failed" } else { "returned" };
                format!("[{what}: {}]", short(output))
            }
            Part::Attachment { media_type, name, .. } => {
                format!("[file: {}]", name.as_deref().unwrap_or(media_type))
            }
            Part::ToolCall { .. } | Part::Thinking { .. } | Part::Opaque { .. } => continue,
        };
        text.push_str(&piece);
        text.push('\n');
    }
    if text.is_empty() { text } else { format!("{author}:\n{text}") }
}

fn result_id(part: &Part) -> Option<&str> {
    match part {
        Part::ToolResult { id, .. } => Some(id),
        Part::Text { .. }
        | Part::Thinking { .. }
        | Part::ToolCall { .. }
        | Part::Attachment { .. }
        | Part::Opaque { .. } => None,
    }
}

/// The beginning of a long input or output.
fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_TOOL_CHARS) {
        Some((end, _)) => {
            let left = text.chars().count() - MAX_TOOL_CHARS;
            format!("{} [{left} more characters]", text.get(..end).unwrap_or_default())
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use hfs_core::{BranchId, MessageDraft, Timestamp};
    use serde_json::json;

    use super::*;

    fn messages(parts: Vec<(Role, Vec<Part>)>) -> Vec<Message> {
        let branch = BranchId::generate();
        let drafts = parts.into_iter().zip(1..);
        drafts
            .map(|((role, parts), seq)| {
                let content = MessageDraft::new(role, parts, Timestamp::UNIX_EPOCH);
                Message { branch, seq, content }
            })
            .collect()
    }

    #[test]
    fn everything_that_was_said_and_done_is_part_of_the_text() {
        let call =
            |id: &str| Part::ToolCall { id: id.into(), name: "Bash".into(), input: json!({"command": "ls"}) };
        let result =
            Part::ToolResult { id: "1".into(), output: "x".repeat(MAX_TOOL_CHARS + 5), is_error: false };
        let earlier = messages(vec![
            (Role::User, vec![Part::text("what is here?")]),
            (Role::Assistant, vec![Part::text("I look."), call("1"), call("unanswered")]),
            (Role::Tool, vec![result]),
            (Role::Assistant, vec![Part::text("A file.")]),
        ]);
        let conversation = conversation_text(&earlier).unwrap();
        assert_eq!((conversation.messages, conversation.left_out), (4, 0));
        let text = conversation.text;
        assert_eq!(text.matches("[called Bash").count(), 1);
        for part in
            ["User:\nwhat is here?", "I look.", "{\"command\":\"ls\"}", "[5 more characters]", "A file."]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(conversation_text(&[]), None);
    }

    #[test]
    fn a_long_conversation_loses_its_oldest_messages_and_says_so() {
        let long = "x".repeat(MAX_CHARS / 2);
        let earlier = messages((0..5).map(|_| (Role::User, vec![Part::text(&*long)])).collect());
        let conversation = conversation_text(&earlier).unwrap();
        assert_eq!((conversation.messages, conversation.left_out), (1, 4));
        assert!(conversation.text.contains("[4 earlier messages are left out]"));
    }
}
