//! The newest events of a run beside the state that all of them fold into.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::{Event, RunSnapshot};

/// A fold that remembers its newest events, at most a set number of them.
///
/// The state covers every event ever pushed; only the memory of single events is bounded.
#[derive(Debug, Clone)]
pub struct EventHistory {
    snapshot: RunSnapshot,
    recent: VecDeque<Arc<Event>>,
    capacity: usize,
    total: u64,
}

impl EventHistory {
    /// An empty history that remembers at most `capacity` events.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { snapshot: RunSnapshot::default(), recent: VecDeque::new(), capacity, total: 0 }
    }

    /// Folds the event in and remembers it, forgetting the oldest one beyond the capacity.
    pub fn push(&mut self, event: Arc<Event>) {
        self.snapshot.apply(&event);
        self.total += 1;
        self.recent.push_back(event);
        while self.recent.len() > self.capacity {
            self.recent.pop_front();
        }
    }

    /// The state after all events.
    #[must_use]
    pub const fn snapshot(&self) -> &RunSnapshot {
        &self.snapshot
    }

    /// The events still remembered, oldest first.
    pub fn recent(&self) -> impl ExactSizeIterator<Item = &Arc<Event>> {
        self.recent.iter()
    }

    /// How many events there have been in all.
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
    fn forgetting_events_does_not_forget_their_effect() {
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
