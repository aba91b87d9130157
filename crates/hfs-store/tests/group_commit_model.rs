//! The unit tests of group commit under `shuttle`, a model checker that runs them with many interleavings of their
//! threads and reports deadlocks.

#[path = "../src/db/group_commit.rs"]
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a module of the crate, compiled for its tests"
)]
mod group_commit;

/// Takes the place of the crate's module of this name.
mod sync {
    pub(crate) use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard};
    pub(crate) use shuttle::thread;
    pub(crate) use std::sync::PoisonError;

    /// Random interleavings for each test: about two seconds for all of them.
    const INTERLEAVINGS: usize = 2000;

    pub(crate) fn explore(test: impl Fn() + Send + Sync + 'static) {
        shuttle::check_random(test, INTERLEAVINGS);
    }
}
