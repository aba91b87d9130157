//! What may still be spent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::config::Budget;

/// Counts what is spent against a budget. Time runs only while somebody works.
#[derive(Debug)]
pub(super) struct Meter {
    budget: Budget,
    tokens: AtomicU64,
    clock: Mutex<Clock>,
}

#[derive(Debug, Default)]
struct Clock {
    spent: Duration,
    /// Since when, and by how many, work has been going on.
    running: Option<(Instant, u32)>,
}

/// What is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exhausted {
    Tokens,
    Time,
}

impl Exhausted {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "its budget of tokens is used up",
            Self::Time => "its time is up",
        }
    }
}

impl Meter {
    pub fn new(budget: Budget) -> Self {
        Self { budget, tokens: AtomicU64::new(0), clock: Mutex::default() }
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn spend(&self, tokens: u64) {
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    /// Lets time run until the guard is dropped. Several guards count the same time once.
    pub fn work(&self) -> Working<'_> {
        let mut clock = self.clock();
        clock.running = match clock.running {
            Some((since, workers)) => Some((since, workers + 1)),
            None => Some((Instant::now(), 1)),
        };
        Working(self)
    }

    /// What is left, or what is not.
    pub fn left(&self) -> Result<Budget, Exhausted> {
        let tokens = self.budget.tokens.saturating_sub(self.tokens.load(Ordering::Relaxed));
        let clock = self.clock();
        let running = clock.running.map_or(Duration::ZERO, |(since, _)| since.elapsed());
        let time = self.budget.time.saturating_sub(clock.spent + running);
        if tokens == 0 {
            Err(Exhausted::Tokens)
        } else if time.is_zero() {
            Err(Exhausted::Time)
        } else {
            Ok(Budget { tokens, time })
        }
    }
}

/// Somebody works.
pub(super) struct Working<'a>(&'a Meter);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let mut clock = self.0.clock();
        if let Some((since, workers)) = clock.running {
            if workers > 1 {
                clock.running = Some((since, workers - 1));
            } else {
                clock.spent += since.elapsed();
                clock.running = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_run_out_and_stay_out() {
        let meter = Meter::new(Budget { tokens: 10, time: Duration::from_secs(60) });
        meter.spend(9);
        assert_eq!(meter.left().unwrap().tokens, 1);
        meter.spend(5);
        assert_eq!(meter.left(), Err(Exhausted::Tokens));
    }

    #[test]
    fn time_passes_only_while_somebody_works() {
        let meter = Meter::new(Budget { tokens: 1, time: Duration::from_millis(1) });
        std::thread::sleep(Duration::from_millis(2));
        assert!(meter.left().is_ok());
        let (first, second) = (meter.work(), meter.work());
        std::thread::sleep(Duration::from_millis(2));
        drop(first);
        assert_eq!(meter.left(), Err(Exhausted::Time));
        drop(second);
        assert_eq!(meter.left(), Err(Exhausted::Time));
    }
}
