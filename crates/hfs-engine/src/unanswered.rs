//! Messages that were saved, but whose reply was not.

use hfs_core::{BranchId, Message, MessageRange, MessageStatus, Part, Role};

use crate::reply_guard::FAILURE;
use crate::send::ORIGINAL_TEXT;
use crate::{Conversation, Engine, EngineError};

impl Engine {
    /// The newest message of the user, if it has this text and its reply is missing: nothing of it arrived, or the process
    /// ended or the store failed before it was complete. To send it again would store it twice; call
    /// [`ask_again`](Self::ask_again) and [`generate_reply`](Self::generate_reply) instead.
    ///
    /// A part of a reply that the agent itself did not complete, or that the user cancelled, is not missing.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn find_unanswered(
        &self,
        conversation: &Conversation,
        text: &str,
    ) -> Result<Option<Message>, EngineError> {
        let Some((_, at)) = conversation.place else { return Ok(None) };
        let text = text.to_owned();
        self.run_blocking(move |engine| {
            let before = |seq| engine.store().read_messages(at.branch, MessageRange::Before(seq, PAGE));
            let mut page = before(at.head.saturating_add(1))?;
            let is_missing = page.pop_if(|last| is_missing_reply(last)).is_some();
            loop {
                match page.pop() {
                    Some(message) if is_missing && is_of_turn(&message) => {
                        if page.is_empty() {
                            page = before(message.seq)?;
                        }
                    }
                    user => return Ok(user.filter(|message| has_text(message, &text))),
                }
            }
        })
        .await
    }

    /// Moves the conversation to the place after `user`, so that a reply to it can be generated: to a new branch, unless
    /// nothing follows the message. Returns the new branch.
    ///
    /// # Errors
    /// Those of [`fork`](Self::fork).
    pub async fn ask_again(
        &self,
        conversation: &mut Conversation,
        user: &Message,
    ) -> Result<Option<BranchId>, EngineError> {
        let Some((session, at)) = conversation.place else { return Err(EngineError::EmptyConversation) };
        if at.head == user.seq {
            return Ok(None);
        }
        let fork = self.fork(at.branch, user.seq, None).await?;
        *conversation = self.resume(session, Some(fork.id)).await?;
        Ok(Some(fork.id))
    }
}

/// Number of messages in one read.
const PAGE: u32 = 50;

/// Whether the agent wrote the message, or one of its tools.
const fn is_of_turn(message: &Message) -> bool {
    matches!(message.content.role, Role::Assistant | Role::Tool) && message.content.source.is_none()
}

fn is_missing_reply(message: &Message) -> bool {
    let content = &message.content;
    matches!(content.role, Role::Assistant | Role::Tool)
        && content.status == MessageStatus::Interrupted
        && content.source.is_none()
        && (content.extra.get(FAILURE).is_none() || content.parts.is_empty())
}

/// Whether the user has typed this text alone; a plugin may have changed it.
fn has_text(message: &Message, text: &str) -> bool {
    let typed = message.content.extra.get(ORIGINAL_TEXT).and_then(serde_json::Value::as_str);
    message.content.role == Role::User
        && message.content.source.is_none()
        && !message.content.parts.iter().any(|part| matches!(part, Part::Attachment { .. }))
        && (typed == Some(text) || message.content.text() == text)
}

#[cfg(test)]
mod tests {
    use hfs_core::{MessageDraft, Timestamp};

    use super::*;

    #[test]
    fn the_same_text_with_a_picture_is_another_message() {
        let picture = Part::Attachment { media_type: "image/png".into(), name: None, hash: None, bytes: 3 };
        for (parts, is_same) in
            [(vec![Part::text("What is it?")], true), (vec![Part::text("What is it?"), picture], false)]
        {
            let content = MessageDraft::new(Role::User, parts, Timestamp::UNKNOWN);
            let message = Message { branch: BranchId::generate(), seq: 1, content };
            assert_eq!(has_text(&message, "What is it?"), is_same);
        }
    }
}
