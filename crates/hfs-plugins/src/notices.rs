//! Short messages for the user, from plugins and from the plugin host.

use std::collections::VecDeque;
use std::sync::Mutex;

use hfs_core::lock_unpoisoned;
use tokio::sync::watch;

/// Maximum number of unread notices; the oldest ones are dropped.
const MAX_UNREAD: usize = 50;
/// Maximum length of a notice, in characters. Longer notices are truncated.
const MAX_CHARS: usize = 300;

/// A queue of notices that the user has not read yet.
#[derive(Debug)]
pub(crate) struct Notices {
    unread: Mutex<VecDeque<String>>,
    /// A counter that is incremented whenever a notice is added, or a widget's content or a plugin's state changes.
    /// Front ends watch it to know when to update their display.
    pub changes: watch::Sender<u64>,
}

impl Notices {
    pub fn new() -> Self {
        Self { unread: Mutex::default(), changes: watch::Sender::new(0) }
    }

    /// Adds a notice about a plugin.
    pub fn push(&self, plugin: &str, text: &str) {
        let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut line: String = text.chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect();
        line.insert_str(0, &format!("{plugin}: "));
        let mut unread = lock_unpoisoned(&self.unread);
        if unread.len() >= MAX_UNREAD {
            unread.pop_front();
        }
        unread.push_back(line);
        drop(unread);
        self.mark_changed();
    }

    /// Removes and returns all unread notices.
    pub fn take(&self) -> Vec<String> {
        lock_unpoisoned(&self.unread).drain(..).collect()
    }

    pub fn mark_changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}
