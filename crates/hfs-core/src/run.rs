//! Runs: what an agent did to answer one message.

use crate::{BranchId, Event, MessageId, RunId, RunSnapshot, Timestamp};

/// A run with everything that happened in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its identity.
    pub id: RunId,
    /// The branch it ran on.
    pub branch: BranchId,
    /// The message it answers.
    pub answers: Option<MessageId>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; `None` while it runs, or when its process died.
    pub ended_at: Option<Timestamp>,
    /// The state that its events fold into.
    pub snapshot: RunSnapshot,
    /// Its events, in order.
    pub events: Vec<Event>,
}
