//! The event bus: announces what has happened to whoever listens.
//!
//! Emitting never waits. Each subscriber has a queue of its own; a bounded one that is full loses its oldest
//! event and is told how many it missed, and a lossless one grows instead.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::Notify;

use crate::{Event, lock_unpoisoned};

/// Which event types a subscriber wants: `*` for all, `agent.*` for a family, or one type by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Matcher);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Matcher {
    All,
    Family(String),
    One(String),
}

impl Pattern {
    /// Reads a pattern. A text without a final `*` stands for the one type that it names.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(match text.strip_suffix('*') {
            Some("") => Matcher::All,
            Some(family) => Matcher::Family(family.to_owned()),
            None => Matcher::One(text.to_owned()),
        })
    }

    /// Whether events of this type are wanted.
    #[must_use]
    pub fn matches(&self, kind: &str) -> bool {
        match &self.0 {
            Matcher::All => true,
            Matcher::Family(family) => kind.starts_with(family.as_str()),
            Matcher::One(one) => kind == one,
        }
    }
}

/// What becomes of events that a subscriber does not take in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// At most this many wait (at least 1); then the oldest is dropped and counted as missed.
    Bounded(usize),
    /// All of them wait, in memory, until they are taken.
    Lossless,
}

/// How many events a bounded subscriber lost since it last heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed(pub u64);

/// What a subscriber receives.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// The next event.
    Event(Arc<Event>),
    /// Events were lost before the next one.
    Missed(Missed),
}

#[derive(Debug)]
struct Queue {
    pattern: Pattern,
    delivery: Delivery,
    waiting: Mutex<Waiting>,
    arrival: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    missed: u64,
    closed: bool,
}

/// Announces events to any number of subscribers. Clones share the same subscribers.
#[derive(Debug, Clone, Default)]
pub struct EventBus {
    subscribers: Arc<Mutex<Vec<Weak<Queue>>>>,
}

/// One listener. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<Queue>,
}

impl EventBus {
    /// A bus that nobody listens to yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens to the events that match, from now on.
    #[must_use]
    pub fn subscribe(&self, pattern: Pattern, delivery: Delivery) -> Subscription {
        let queue = Arc::new(Queue {
            pattern,
            delivery,
            waiting: Mutex::new(Waiting::default()),
            arrival: Notify::new(),
        });
        let mut subscribers = lock_unpoisoned(&self.subscribers);
        subscribers.retain(|known| known.strong_count() > 0);
        subscribers.push(Arc::downgrade(&queue));
        Subscription { queue }
    }

    /// Hands the event to everyone whose pattern matches. Never waits for any of them.
    pub fn emit(&self, event: &Arc<Event>) {
        let kind = event.payload.kind();
        for queue in lock_unpoisoned(&self.subscribers).iter().filter_map(Weak::upgrade) {
            if queue.pattern.matches(kind) {
                queue.push(Arc::clone(event));
            }
        }
    }

    /// Ends every subscription once its waiting events are taken.
    pub fn close(&self) {
        for queue in lock_unpoisoned(&self.subscribers).drain(..).filter_map(|known| known.upgrade()) {
            lock_unpoisoned(&queue.waiting).closed = true;
            queue.arrival.notify_one();
        }
    }
}

impl Queue {
    fn push(&self, event: Arc<Event>) {
        let mut waiting = lock_unpoisoned(&self.waiting);
        if let Delivery::Bounded(most) = self.delivery
            && waiting.events.len() >= most.max(1)
        {
            waiting.events.pop_front();
            waiting.missed += 1;
        }
        waiting.events.push_back(event);
        let was_empty = waiting.events.len() == 1;
        drop(waiting);
        if was_empty {
            self.arrival.notify_one();
        }
    }
}

impl Subscription {
    /// The next event or loss that is already there.
    #[must_use]
    pub fn try_next(&self) -> Option<Received> {
        let mut waiting = lock_unpoisoned(&self.queue.waiting);
        if waiting.missed > 0 {
            return Some(Received::Missed(Missed(std::mem::take(&mut waiting.missed))));
        }
        waiting.events.pop_front().map(Received::Event)
    }

    /// Waits for the next event or loss; `None` once the bus is closed and all was taken.
    ///
    /// Cancel safe: a dropped future takes nothing.
    pub async fn next(&mut self) -> Option<Received> {
        loop {
            if let Some(received) = self.try_next() {
                return Some(received);
            }
            if lock_unpoisoned(&self.queue.waiting).closed {
                return None;
            }
            self.queue.arrival.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventPayload, RunId, Timestamp};

    fn event(number: u64, phase: &str) -> Arc<Event> {
        Arc::new(Event {
            run: RunId::generate(),
            number,
            at: Timestamp::UNIX_EPOCH,
            payload: EventPayload::PhaseStarted { phase: phase.to_owned() },
        })
    }

    fn numbers(subscription: &Subscription) -> Vec<u64> {
        std::iter::from_fn(|| subscription.try_next())
            .map(|received| match received {
                Received::Event(event) => event.number,
                Received::Missed(Missed(count)) => 1000 + count,
            })
            .collect()
    }

    #[test]
    fn patterns_choose_all_a_family_or_one_type() {
        for (pattern, kind, expected) in [
            ("*", "run.ended", true),
            ("agent.*", "agent.started", true),
            ("agent.*", "agents.started", false),
            ("run.ended", "run.ended", true),
            ("run.ended", "run.ended.late", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(kind), expected, "{pattern} {kind}");
        }
    }

    #[test]
    fn a_slow_subscriber_loses_the_oldest_and_is_told_how_many() {
        let bus = EventBus::new();
        let slow = bus.subscribe(Pattern::new("*"), Delivery::Bounded(3));
        let lossless = bus.subscribe(Pattern::new("phase.*"), Delivery::Lossless);
        let other = bus.subscribe(Pattern::new("run.*"), Delivery::Lossless);
        (1..=10).for_each(|number| bus.emit(&event(number, "p")));
        assert_eq!(numbers(&slow), [1007, 8, 9, 10]);
        assert_eq!(numbers(&lossless), (1..=10).collect::<Vec<_>>());
        assert_eq!(numbers(&other), [] as [u64; 0]);
    }

    #[tokio::test]
    async fn closing_ends_a_subscription_after_its_last_event() {
        let bus = EventBus::new();
        let mut subscription = bus.subscribe(Pattern::new("*"), Delivery::Bounded(8));
        bus.emit(&event(1, "p"));
        bus.close();
        assert!(matches!(subscription.next().await, Some(Received::Event(_))));
        assert_eq!(subscription.next().await, None);
    }

    #[tokio::test]
    async fn a_waiting_subscriber_wakes_for_an_event_from_another_thread() {
        let bus = EventBus::new();
        let mut subscription = bus.subscribe(Pattern::new("*"), Delivery::Bounded(1));
        let emitter = bus.clone();
        let thread = std::thread::spawn(move || emitter.emit(&event(5, "p")));
        assert!(matches!(subscription.next().await, Some(Received::Event(event)) if event.number == 5));
        thread.join().unwrap();
    }
}
