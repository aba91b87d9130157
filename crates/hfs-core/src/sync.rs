//! Locking and waiting, done in one way everywhere.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Locks a mutex even if a thread panicked while holding it.
///
/// For data that every critical section leaves consistent, such as a queue that is only pushed to and popped from.
/// A panic elsewhere then costs its own work, and not that of every later caller.
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
/// Callers that retry against a shared server multiply the delay with a random factor of their own, so that
/// clients that failed together do not return together.
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
