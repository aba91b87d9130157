//! The event bus: announces recorded events to subscribers.
//!
//! `emit` never waits. Each subscriber has a queue of its own. A full bounded queue drops its oldest event and counts it
//! as missed; a lossless queue grows.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, Weak};
#[cfg(not(test))]
use std::sync::{Mutex, MutexGuard};

// In unit tests a model checker decides which thread runs at every lock and unlock; see `tests`.
#[cfg(test)]
use shuttle::sync::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::Event;

/// A set of event types: `*` for all, `agent.*` for all that start with `agent.`, or the name of one type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Matcher);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Matcher {
    All,
    Prefix(String),
    Exact(String),
}

impl Pattern {
    /// Parses a pattern. A text without a final `*` is the name of one type.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(match text.strip_suffix('*') {
            Some("") => Matcher::All,
            Some(prefix) => Matcher::Prefix(prefix.to_owned()),
            None => Matcher::Exact(text.to_owned()),
        })
    }

    /// Whether the set contains this event type.
    #[must_use]
    pub fn matches(&self, kind: &str) -> bool {
        match &self.0 {
            Matcher::All => true,
            Matcher::Prefix(prefix) => kind.starts_with(prefix.as_str()),
            Matcher::Exact(name) => kind == name,
        }
    }
}

/// How many events a subscription queues while its subscriber is slower than the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Queues at most this many events (0 counts as 1). When the queue is full, the oldest event is dropped and counted
    /// as missed.
    Bounded(usize),
    /// Queues all events in memory until the subscriber takes them.
    Lossless,
}

/// Number of events that a bounded subscription dropped since the last event it returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed(pub u64);

/// Item of a subscription.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// The next event.
    Event(Arc<Event>),
    /// Events were dropped before the next one.
    Missed(Missed),
}

/// Queue of one subscriber.
#[derive(Debug)]
struct Queue {
    pattern: Pattern,
    delivery: Delivery,
    state: Mutex<QueueState>,
    /// Notified after an event was pushed to an empty queue and after the queue was closed.
    ///
    /// A queue has one subscriber, so `notify_one` suffices. It also suffices for a subscriber that has checked the state
    /// and does not wait yet: `notify_one` then stores a permit, which the next `notified` takes.
    changed: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    events: VecDeque<Arc<Event>>,
    missed: u64,
    is_closed: bool,
}

/// Announces events to any number of subscribers. Clones share the subscribers.
#[derive(Debug, Clone, Default)]
pub struct EventBus {
    queues: Arc<Mutex<Vec<Weak<Queue>>>>,
}

/// Receives events from a bus. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<Queue>,
}

/// Like `lock_unpoisoned`, but also for the mutex of the model checker. Every change under these locks is a single
/// push, pop or store, so a panic leaves the data consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventBus {
    /// A bus without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Subscribes to the matching events that are emitted after this call.
    #[must_use]
    pub fn subscribe(&self, pattern: Pattern, delivery: Delivery) -> Subscription {
        let queue = Arc::new(Queue {
            pattern,
            delivery,
            state: Mutex::new(QueueState::default()),
            changed: Notify::new(),
        });
        let mut queues = lock(&self.queues);
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(&queue));
        Subscription { queue }
    }

    /// Queues the event for every subscriber whose pattern matches. Never waits for a subscriber.
    pub fn emit(&self, event: &Arc<Event>) {
        let kind = event.payload.kind();
        for queue in lock(&self.queues).iter().filter_map(Weak::upgrade) {
            if queue.pattern.matches(kind) {
                queue.push(Arc::clone(event));
            }
        }
    }

    /// Ends all existing subscriptions once their queued events are taken. Subscriptions made later are not affected.
    pub fn close(&self) {
        for queue in lock(&self.queues).drain(..).filter_map(|queue| queue.upgrade()) {
            lock(&queue.state).is_closed = true;
            queue.changed.notify_one();
        }
    }
}

impl Queue {
    fn push(&self, event: Arc<Event>) {
        let mut state = lock(&self.state);
        if let Delivery::Bounded(capacity) = self.delivery
            && state.events.len() >= capacity.max(1)
        {
            state.events.pop_front();
            state.missed += 1;
        }
        state.events.push_back(event);
        // A subscriber waits only on an empty queue, so a longer one needs no notification.
        let was_empty = state.events.len() == 1;
        drop(state);
        if was_empty {
            self.changed.notify_one();
        }
    }
}

impl Subscription {
    /// Takes the next event or number of missed events; returns `None` if the queue is empty.
    #[must_use]
    pub fn try_next(&self) -> Option<Received> {
        lock(&self.queue.state).take()
    }

    /// Waits for the next event or number of missed ones. Returns `None` when the bus is closed and everything was taken.
    ///
    /// Cancel safe: a dropped future takes nothing.
    pub async fn next(&mut self) -> Option<Received> {
        loop {
            {
                // One lock for both checks: an event pushed between them, before `close`, would be lost.
                let mut state = lock(&self.queue.state);
                if let Some(received) = state.take() {
                    return Some(received);
                }
                if state.is_closed {
                    return None;
                }
            }
            self.queue.changed.notified().await;
        }
    }
}

impl QueueState {
    fn take(&mut self) -> Option<Received> {
        if self.missed > 0 {
            return Some(Received::Missed(Missed(std::mem::take(&mut self.missed))));
        }
        self.events.pop_front().map(Received::Event)
    }
}

/// These tests use the mutex of the model checker `shuttle`, which runs a test many times and switches threads at every
/// lock and unlock; a test that waits forever fails as a deadlock. `Notify` is tokio's own: its operations are
/// atomic in the model. Tests of one thread also run inside the model, since its mutex works only there.
#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Poll;

    use shuttle::future::block_on;
    use shuttle::thread;

    use super::*;
    use crate::{EventPayload, RunId, Timestamp};

    fn event(number: u64) -> Arc<Event> {
        Arc::new(Event {
            run: RunId::generate(),
            number,
            at: Timestamp::UNIX_EPOCH,
            payload: EventPayload::PhaseStarted { phase: "p".to_owned() },
        })
    }

    /// Runs a small test with every interleaving of its threads.
    fn with_every_schedule(test: fn()) {
        shuttle::check_dfs(test, None);
    }

    /// Runs a test that has too many interleavings for [`with_every_schedule`] with random schedules and with PCT
    /// schedules, which find bugs that need a few unlikely switches.
    fn with_many_schedules(test: fn()) {
        shuttle::check_random(test, 1_000);
        shuttle::check_pct(test, 1_000, 3);
    }

    /// Runs a test of one thread, which has one schedule.
    fn single_threaded(test: fn()) {
        shuttle::check_dfs(test, Some(1));
    }

    /// The number of an event, or 1000 plus the number of missed events.
    fn number(received: &Received) -> u64 {
        match received {
            Received::Event(event) => event.number,
            Received::Missed(Missed(count)) => 1000 + count,
        }
    }

    fn queued(subscription: &Subscription) -> Vec<u64> {
        std::iter::from_fn(|| subscription.try_next()).map(|received| number(&received)).collect()
    }

    /// Receives until the bus is closed.
    fn until_closed(subscription: &mut Subscription) -> Vec<u64> {
        block_on(async {
            let mut numbers = Vec::new();
            while let Some(received) = subscription.next().await {
                numbers.push(number(&received));
            }
            numbers
        })
    }

    #[test]
    fn a_pattern_matches_all_types_a_prefix_or_one_type() {
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
    fn a_slow_subscriber_loses_the_oldest_events_and_receives_their_number() {
        single_threaded(|| {
            let bus = EventBus::new();
            let slow = bus.subscribe(Pattern::new("*"), Delivery::Bounded(3));
            let lossless = bus.subscribe(Pattern::new("phase.*"), Delivery::Lossless);
            let other = bus.subscribe(Pattern::new("run.*"), Delivery::Lossless);
            (1..=10).for_each(|number| bus.emit(&event(number)));
            assert_eq!(queued(&slow), [1007, 8, 9, 10]);
            assert_eq!(queued(&lossless), (1..=10).collect::<Vec<_>>());
            assert_eq!(queued(&other), [] as [u64; 0]);
        });
    }

    #[test]
    fn closing_ends_a_subscription_after_its_last_event() {
        single_threaded(|| {
            let bus = EventBus::new();
            let mut subscription = bus.subscribe(Pattern::new("*"), Delivery::Bounded(8));
            bus.emit(&event(1));
            bus.close();
            assert_eq!(until_closed(&mut subscription), [1]);
        });
    }

    #[test]
    fn a_waiting_subscriber_wakes_for_an_event_from_another_thread() {
        with_every_schedule(|| {
            let bus = EventBus::new();
            let mut subscription = bus.subscribe(Pattern::new("*"), Delivery::Bounded(1));
            let emitter = bus.clone();
            let emitting = thread::spawn(move || emitter.emit(&event(5)));
            let received = block_on(subscription.next());
            assert_eq!(received.as_ref().map(number), Some(5));
            emitting.join().unwrap();
        });
    }

    #[test]
    fn close_always_wakes_a_waiting_subscriber() {
        with_every_schedule(|| {
            let bus = EventBus::new();
            let mut subscription = bus.subscribe(Pattern::new("*"), Delivery::Lossless);
            let closing = thread::spawn(move || bus.close());
            assert_eq!(until_closed(&mut subscription), [] as [u64; 0]);
            closing.join().unwrap();
        });
    }

    #[test]
    fn every_event_before_close_is_received() {
        with_many_schedules(|| {
            let bus = EventBus::new();
            let mut subscription = bus.subscribe(Pattern::new("*"), Delivery::Lossless);
            let emitting = thread::spawn(move || {
                bus.emit(&event(1));
                bus.emit(&event(2));
                bus.close();
            });
            assert_eq!(until_closed(&mut subscription), [1, 2]);
            emitting.join().unwrap();
        });
    }

    #[test]
    fn close_wakes_while_another_thread_emits() {
        with_many_schedules(|| {
            let bus = EventBus::new();
            let mut subscription = bus.subscribe(Pattern::new("*"), Delivery::Lossless);
            let (emitter, closer) = (bus.clone(), bus);
            let emitting = thread::spawn(move || emitter.emit(&event(1)));
            let closing = thread::spawn(move || closer.close());
            let received = until_closed(&mut subscription);
            assert!(received.is_empty() || received == [1], "{received:?}");
            emitting.join().unwrap();
            closing.join().unwrap();
        });
    }

    #[test]
    fn every_event_is_received_or_counted_as_missed() {
        with_many_schedules(|| {
            let bus = EventBus::new();
            let mut subscription = bus.subscribe(Pattern::new("*"), Delivery::Bounded(1));
            let emitting = thread::spawn(move || {
                bus.emit(&event(1));
                bus.emit(&event(2));
                bus.close();
            });
            let received = until_closed(&mut subscription);
            assert!(received == [1, 2] || received == [1001, 2], "{received:?}");
            emitting.join().unwrap();
        });
    }

    #[test]
    fn a_dropped_next_loses_neither_an_event_nor_a_wake_up() {
        with_many_schedules(|| {
            let bus = EventBus::new();
            let mut subscription = bus.subscribe(Pattern::new("*"), Delivery::Lossless);
            let emitting = thread::spawn(move || {
                bus.emit(&event(1));
                bus.close();
            });
            let mut received = block_on(async {
                let mut next = pin!(subscription.next());
                let polled_once = std::future::poll_fn(|context| Poll::Ready(next.as_mut().poll(context)));
                match polled_once.await {
                    Poll::Ready(received) => received.iter().map(number).collect(),
                    Poll::Pending => Vec::new(),
                }
            });
            received.extend(until_closed(&mut subscription));
            assert_eq!(received, [1]);
            emitting.join().unwrap();
        });
    }

    #[test]
    fn a_subscription_may_be_dropped_during_emit_and_close() {
        with_many_schedules(|| {
            let bus = EventBus::new();
            let subscription = bus.subscribe(Pattern::new("*"), Delivery::Lossless);
            let mut other = bus.subscribe(Pattern::new("*"), Delivery::Lossless);
            let emitting = thread::spawn(move || {
                bus.emit(&event(1));
                bus.close();
            });
            drop(subscription);
            assert_eq!(until_closed(&mut other), [1]);
            emitting.join().unwrap();
        });
    }
}
