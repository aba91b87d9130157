//! What plugins, and the host about them, tell the user: each thing once.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// How many wait for somebody to read them.
const MOST: usize = 50;
/// A longer one is cut.
const LONGEST: usize = 300;

/// Words for the user that nobody has read yet.
#[derive(Debug)]
pub(crate) struct Notices {
    waiting: Mutex<VecDeque<String>>,
    /// Counts up whenever there is something new to see.
    pub changes: watch::Sender<u64>,
}

impl Notices {
    pub fn new() -> Self {
        Self { waiting: Mutex::default(), changes: watch::Sender::new(0) }
    }

    /// Tells the user something in a plugin's name.
    pub fn tell(&self, plugin: &str, text: &str) {
        let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut line: String = text.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
        line.insert_str(0, &format!("{plugin}: "));
        let mut waiting = self.lock();
        if waiting.len() >= MOST {
            waiting.pop_front();
        }
        waiting.push_back(line);
        drop(waiting);
        self.changed();
    }

    /// Everything that was told since the last time.
    pub fn take(&self) -> Vec<String> {
        self.lock().drain(..).collect()
    }

    /// There is something new to see.
    pub fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
