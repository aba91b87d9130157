//! Runs the unit tests of group commit under the model checker shuttle, which runs each test with many interleavings of
//! its threads and reports deadlocks.

#[path = "../src/db/group_commit.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a module of the crate, compiled for its tests"
)]
mod group_commit;

/// Replaces the module of this name in the crate (src/sync.rs).
mod sync {
    pub(crate) use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard};
    pub(crate) use shuttle::thread;
    pub(crate) use std::sync::PoisonError;

    use shuttle::scheduler::RandomScheduler;
    use shuttle::{Config, Runner};

    /// Number of random interleavings of each test.
    const INTERLEAVINGS: usize = 500;
    /// Stack of each simulated thread. Printing the backtrace of a panic needs more than shuttle's default of 60 KiB.
    const STACK_BYTES: usize = 512 * 1024;

    pub(crate) fn explore(test: impl Fn() + Send + Sync + 'static) {
        let mut config = Config::new();
        config.stack_size = STACK_BYTES;
        Runner::new(RandomScheduler::new(INTERLEAVINGS), config).run(test);
    }
}
