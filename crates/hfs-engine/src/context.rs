//! How much of a conversation an agent is shown.

use hfs_core::{BranchId, Message, MessageRange, Seq, Store, StoreResult};

/// How many messages are read at once.
const PAGE: u32 = 100;

/// The end of a branch's history up to and including `last`, oldest first: as many whole messages as
/// `budget` characters of text hold, and always the last one.
///
/// # Errors
/// As the store's.
pub fn load(store: &dyn Store, branch: BranchId, last: Seq, budget: usize) -> StoreResult<Vec<Message>> {
    let mut newest_first: Vec<Message> = Vec::new();
    let mut before = last + 1;
    let mut left = budget;
    'pages: while before > 1 {
        let page = store.read_messages(branch, MessageRange::Before(before, PAGE))?;
        let Some(first) = page.first() else { break };
        before = first.seq;
        for message in page.into_iter().rev() {
            let size = message.content.searchable_text().chars().count();
            if size > left && !newest_first.is_empty() {
                break 'pages;
            }
            left = left.saturating_sub(size);
            newest_first.push(message);
        }
    }
    newest_first.reverse();
    Ok(newest_first)
}
