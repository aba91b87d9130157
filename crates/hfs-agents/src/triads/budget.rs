//! Accounting of tokens and time against a [`Budget`].
//!
//! Each triad has a meter, and so does the whole run. A call is charged to both. Tokens are known only after a
//! call, so the limit is soft: a call may start while any tokens are left, and calls that run at the same time may
//! together exceed the limit, by at most one call per agent. Reserving tokens in advance would make parallel agents wait
//! for each other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hfs_core::lock_unpoisoned;

use super::config::Budget;

/// Measures how much of a budget is used.
///
/// Time counts only while at least one call is running: a triad must not use up its budget by waiting for the
/// others in a negotiation round. The time of parallel calls counts once.
#[derive(Debug)]
pub(super) struct Meter {
    budget: Budget,
    tokens: AtomicU64,
    clock: Mutex<WorkClock>,
}

#[derive(Debug, Default)]
struct WorkClock {
    /// Total of the completed periods of work.
    elapsed: Duration,
    current: Option<WorkPeriod>,
}

#[derive(Debug, Clone, Copy)]
struct WorkPeriod {
    start: Instant,
    running_calls: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exhausted {
    Tokens,
    Time,
}

impl Exhausted {
    /// The reason for an error message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "its token budget is used up",
            Self::Time => "its time budget is used up",
        }
    }
}

impl Meter {
    pub fn new(budget: Budget) -> Self {
        Self { budget, tokens: AtomicU64::new(0), clock: Mutex::default() }
    }

    fn clock(&self) -> MutexGuard<'_, WorkClock> {
        lock_unpoisoned(&self.clock)
    }

    pub fn spend(&self, tokens: u64) {
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    /// Counts time until the guard is dropped. The guard stops the clock even if the call's future is dropped early.
    pub fn start_call(&self) -> RunningCall<'_> {
        let mut clock = self.clock();
        let period = clock.current.get_or_insert(WorkPeriod { start: Instant::now(), running_calls: 0 });
        period.running_calls += 1;
        RunningCall(self)
    }

    /// The rest of the budget. Both amounts are greater than zero.
    pub fn remaining(&self) -> Result<Budget, Exhausted> {
        let tokens = self.budget.tokens.saturating_sub(self.tokens.load(Ordering::Relaxed));
        let clock = self.clock();
        let current = clock.current.map_or(Duration::ZERO, |period| period.start.elapsed());
        let time = self.budget.time.saturating_sub(clock.elapsed + current);
        if tokens == 0 {
            Err(Exhausted::Tokens)
        } else if time.is_zero() {
            Err(Exhausted::Time)
        } else {
            Ok(Budget { tokens, time })
        }
    }
}

/// Guard of [`Meter::start_call`].
pub(super) struct RunningCall<'a>(&'a Meter);

impl Drop for RunningCall<'_> {
    fn drop(&mut self) {
        let mut clock = self.0.clock();
        if let Some(period) = &mut clock.current {
            period.running_calls -= 1;
            if period.running_calls == 0 {
                let elapsed = period.start.elapsed();
                clock.elapsed += elapsed;
                clock.current = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_token_budget_stays_spent() {
        let meter = Meter::new(Budget { tokens: 10, time: Duration::from_secs(60) });
        meter.spend(9);
        assert_eq!(meter.remaining().unwrap().tokens, 1);
        meter.spend(5);
        assert_eq!(meter.remaining(), Err(Exhausted::Tokens));
    }

    #[test]
    fn time_counts_only_while_a_call_is_running() {
        let meter = Meter::new(Budget { tokens: 1, time: Duration::from_millis(1) });
        std::thread::sleep(Duration::from_millis(2));
        assert!(meter.remaining().is_ok());
        let (first, second) = (meter.start_call(), meter.start_call());
        std::thread::sleep(Duration::from_millis(2));
        drop(first);
        assert_eq!(meter.remaining(), Err(Exhausted::Time));
        drop(second);
        assert_eq!(meter.remaining(), Err(Exhausted::Time));
    }
}
