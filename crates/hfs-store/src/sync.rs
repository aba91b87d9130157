//! The synchronization primitives of group commit.
//!
//! Group commit imports them from here and not from `std`, so that `tests/group_commit_model.rs` can compile it with
//! another module `sync`, which exports the primitives of the model checker shuttle.

pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
pub(crate) use std::thread;

/// Runs a test of group commit several times, with threads of the operating system.
#[cfg(test)]
pub(crate) fn explore(test: impl Fn() + Send + Sync + 'static) {
    for _ in 0..20 {
        test();
    }
}
