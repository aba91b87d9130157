//! Increments the engine's epoch every 2 ms while plugins run, so that running code checks its deadline.
//!
//! The ticker sleeps while no plugin runs: 500 wakeups a second would keep the processor of an idle machine awake. It
//! goes to sleep only after half a second without a call, because waking it takes longer than a short call.
//!
//! No call may run while the ticker sleeps. A caller first increments `running` and then reads `is_asleep`; the ticker
//! first sets `is_asleep` and then reads `running`. Both use sequentially consistent operations, so at least one of the
//! two sees what the other wrote (with weaker orderings, each could read the old value). The mutex closes the remaining
//! gap: a caller that sees `is_asleep` locks the mutex before it notifies, so the notification cannot fall between the
//! ticker's check and its wait. A counter under the mutex would be simpler, but every call of every plugin would lock
//! it twice. The test below explores the possible schedules with shuttle.

use std::io;
use std::sync::PoisonError;
use std::time::Duration;

#[cfg(not(test))]
use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

#[cfg(test)]
use shuttle::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

/// How often running code checks its deadline.
const TICK: Duration = Duration::from_millis(2);
/// Number of ticks without a running call after which the ticker sleeps. The test uses fewer, so that the ticker falls
/// asleep in few steps.
const IDLE_TICKS: u32 = if cfg!(test) { 1 } else { 250 };

/// A thread that ticks. It ends when this value is dropped.
pub(super) struct Ticker {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Number of calls that run.
    running: AtomicU32,
    is_asleep: AtomicBool,
    is_ended: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
}

/// Keeps the ticker awake until it is dropped.
pub(crate) struct TickGuard<'t>(&'t Shared);

impl Ticker {
    /// Starts a thread that calls `tick`.
    pub fn start(tick: impl Fn() + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread_shared = Arc::clone(&shared);
        thread::Builder::new().name("hfs-plugin-clock".into()).spawn(move || thread_shared.run(&tick))?;
        Ok(Self { shared })
    }

    pub fn keep_ticking(&self) -> TickGuard<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.is_asleep.load(Ordering::SeqCst) {
            self.shared.wake_up();
        }
        TickGuard(&self.shared)
    }
}

impl Shared {
    fn run(&self, tick: &impl Fn()) {
        let mut idle_ticks = 0;
        while !self.is_ended.load(Ordering::SeqCst) {
            thread::sleep(TICK);
            tick();
            idle_ticks = if self.running.load(Ordering::SeqCst) == 0 { idle_ticks + 1 } else { 0 };
            if idle_ticks > IDLE_TICKS {
                self.sleep_until_needed();
                idle_ticks = 0;
            }
        }
    }

    fn sleep_until_needed(&self) {
        let mut guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_asleep.store(true, Ordering::SeqCst);
        while self.running.load(Ordering::SeqCst) == 0 && !self.is_ended.load(Ordering::SeqCst) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.is_asleep.store(false, Ordering::SeqCst);
    }

    fn wake_up(&self) {
        drop(self.sleep.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_all();
    }
}

impl Drop for TickGuard<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.is_ended.store(true, Ordering::SeqCst);
        self.shared.wake_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct SetOnDrop(Arc<AtomicBool>);

    impl Drop for SetOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    fn one_execution() {
        let epoch = Arc::new(AtomicU32::new(0));
        let has_exited = Arc::new(AtomicBool::new(false));
        let (counter, on_exit) = (Arc::clone(&epoch), SetOnDrop(Arc::clone(&has_exited)));
        let tick = move || {
            let _ = &on_exit;
            counter.fetch_add(1, Ordering::SeqCst);
        };
        let ticker = Arc::new(Ticker::start(tick).unwrap());
        let calls: Vec<_> = (0..2)
            .map(|_| {
                let (ticker, epoch) = (Arc::clone(&ticker), Arc::clone(&epoch));
                thread::spawn(move || {
                    for _ in 0..2 {
                        let _running = ticker.keep_ticking();
                        let start = epoch.load(Ordering::SeqCst);
                        // If the ticker slept during a call, this loop would reach shuttle's limit of steps, and the test
                        // would fail.
                        while epoch.load(Ordering::SeqCst) == start {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        calls.into_iter().for_each(|call| call.join().unwrap());
        drop(ticker);
        while !has_exited.load(Ordering::SeqCst) {
            thread::yield_now();
        }
    }

    #[test]
    fn every_call_sees_ticks_and_the_thread_ends_in_all_explored_schedules() {
        // Random schedules only: the ticker loops while calls run, and shuttle's priority-based scheduler would never
        // take the processor from it.
        shuttle::check_random(one_execution, 3_000);
    }
}
