//! Runs: records of an agent's work on one message.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::{BranchId, Event, MessageId, RunId, RunSnapshot, Timestamp};

/// A run with its events.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Run id.
    pub id: RunId,
    /// Branch of the run.
    pub branch: BranchId,
    /// Message that it answers.
    pub answers: Option<MessageId>,
    /// Time of the start.
    pub started_at: Timestamp,
    /// Time of the end; `None` while the run is in progress, or if its process crashed.
    pub ended_at: Option<Timestamp>,
    /// State after all events.
    pub snapshot: RunSnapshot,
    /// Events, in order.
    pub events: Vec<Event>,
}

/// A run snapshot with the newest events of the run.
///
/// All events that were pushed are folded into the snapshot; only the newest of them are also kept as events.
#[derive(Debug, Clone)]
pub struct EventHistory {
    snapshot: RunSnapshot,
    recent: VecDeque<Arc<Event>>,
    capacity: usize,
    total: u64,
}

impl EventHistory {
    /// An empty history that keeps at most `capacity` events.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { snapshot: RunSnapshot::default(), recent: VecDeque::new(), capacity, total: 0 }
    }

    /// Folds the event into the snapshot and keeps it. Drops the oldest event if there are more than `capacity`.
    pub fn push(&mut self, event: Arc<Event>) {
        self.snapshot.apply(&event);
        self.total += 1;
        self.recent.push_back(event);
        while self.recent.len() > self.capacity {
            self.recent.pop_front();
        }
    }

    /// The snapshot after all events.
    #[must_use]
    pub const fn snapshot(&self) -> &RunSnapshot {
        &self.snapshot
    }

    /// The events that are still kept, oldest first.
    pub fn recent(&self) -> impl ExactSizeIterator<Item = &Arc<Event>> {
        self.recent.iter()
    }

    /// Number of all events that were pushed.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventPayload, RunId, Timestamp};

    #[test]
    fn the_snapshot_includes_dropped_events() {
        let mut history = EventHistory::new(3);
        let run = RunId::generate();
        for number in 1..=10 {
            history.push(Arc::new(Event {
                run,
                number,
                at: Timestamp::UNIX_EPOCH,
                payload: EventPayload::PhaseStarted { phase: number.to_string() },
            }));
        }
        assert_eq!(history.recent().map(|event| event.number).collect::<Vec<_>>(), [8, 9, 10]);
        assert_eq!((history.total(), history.snapshot().timeline.phases.len()), (10, 10));
    }
}
