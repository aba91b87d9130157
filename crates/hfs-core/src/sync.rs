//! Locking and back-off that all crates share.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Locks a mutex even if a thread panicked while holding it.
///
/// For data that every critical section leaves consistent, such as a queue that is only pushed to and popped from.
/// There, a panic in one thread need not fail all later callers.
pub fn lock_unpoisoned<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Exponential back-off: each delay is twice the one before, up to a maximum.
///
/// ```
/// use std::time::Duration;
/// use hfs_core::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
/// let delays: Vec<u128> = (0..4).map(|_| backoff.next_delay().as_millis()).collect();
/// assert_eq!(delays, [100, 200, 300, 300]);
/// ```
///
/// Has no jitter. Callers that retry against a shared server multiply the delay by a random factor, so that clients
/// that failed at the same time do not retry at the same time.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// Starts with a delay of `first`; no delay is longer than `max`.
    #[must_use]
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { next: first.min(max), max }
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = delay.saturating_mul(2).min(self.max);
        delay
    }
}
