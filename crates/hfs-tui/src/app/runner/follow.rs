//! Follows the open branch: reads what other processes add to it. Watches the connection to the store's server.
//!
//! One read by key twice a second works with every store, costs no connection and no state on a server, and is not a
//! part of any write, as a notification would be.

use std::sync::Arc;
use std::time::Duration;

use hfs_core::{MessageRange, MessageStatus, Position, Store};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Backend;
use crate::protocol::Msg;

const INTERVAL: Duration = Duration::from_millis(500);
/// Interval after a read that has failed, such as that of a server that cannot be reached.
const INTERVAL_AFTER_ERROR: Duration = Duration::from_secs(5);
/// Number of messages that are read at once.
const MESSAGES: u32 = 200;

/// The task that follows a branch; none if the app itself is writing to it.
#[derive(Debug, Default)]
pub struct Follower {
    place: Option<Position>,
    task: Option<JoinHandle<()>>,
}

impl Follower {
    /// Whether this place is followed already.
    pub fn is_at(&self, place: Option<Position>) -> bool {
        self.place == place
    }

    /// Follows a branch from this position on, instead of what was followed so far.
    pub fn follow(
        &mut self,
        place: Option<Position>,
        backend: &Backend,
        sender: &mpsc::UnboundedSender<Msg>,
    ) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        self.place = place;
        self.task =
            place.map(|place| tokio::spawn(wait_for_messages(place, backend.clone(), sender.clone())));
    }
}

/// Waits until the branch has messages after this position, and sends them. A message that is being written is sent when it
/// is complete.
async fn wait_for_messages(place: Position, backend: Backend, sender: mpsc::UnboundedSender<Msg>) {
    let Position { branch, head } = place;
    let mut pause = INTERVAL;
    loop {
        tokio::time::sleep(pause).await;
        let backend = backend.clone();
        let read = move || backend.store().read_messages(branch, MessageRange::From(head + 1, MESSAGES));
        let Ok(Ok(mut messages)) = tokio::task::spawn_blocking(read).await else {
            pause = INTERVAL_AFTER_ERROR;
            continue;
        };
        pause = INTERVAL;
        let is_complete = |status| status != MessageStatus::Streaming;
        let complete = messages.iter().take_while(|message| is_complete(message.content.status)).count();
        messages.truncate(complete);
        if !messages.is_empty() {
            let _ = sender.send(Msg::Followed { place, messages });
            return;
        }
    }
}

/// Sends whether the store is making a new connection, when that changes, until the app ends.
pub async fn watch_connection(store: Arc<dyn Store>, sender: mpsc::UnboundedSender<Msg>) {
    let mut last = false;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = store.is_reconnecting().unwrap_or(false);
        if now != last && sender.send(Msg::Reconnecting(now)).is_err() {
            return;
        }
        last = now;
    }
}
