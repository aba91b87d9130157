//! The words by which a user recognises a place in a conversation.

use hfs_core::{BranchId, Message, MessageRange, Seq, Store, StoreResult};

/// Messages that are read to find the user's words: a turn with some tool calls.
const MESSAGES: u32 = 12;
/// Maximum length of the words, in bytes.
const MAX_BYTES: usize = 400;

/// Returns the beginning of what the user wrote last at or before message `seq`. If the messages before it are many tool
/// calls, returns the beginning of the newest text among them; an empty text if they have none.
///
/// # Errors
/// Returns any error of the store.
pub fn words_at(store: &dyn Store, branch: BranchId, seq: Seq) -> StoreResult<String> {
    let messages = store.read_messages(branch, MessageRange::Before(seq.saturating_add(1), MESSAGES))?;
    let typed = messages.iter().rev().find(|message| message.content.is_typed());
    let has_text = |message: &&Message| !message.content.text().trim().is_empty();
    let message = typed.filter(has_text).or_else(|| messages.iter().rev().find(has_text));
    let mut words = message.map(|message| message.content.text()).unwrap_or_default();
    words.truncate(words.floor_char_boundary(MAX_BYTES));
    Ok(words)
}
