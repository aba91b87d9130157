//! The synchronization primitives that group commit uses.
//!
//! `tests/group_commit_model.rs` compiles group commit a second time, with the primitives of the model checker `shuttle`
//! in a module of this name.

pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
pub(crate) use std::thread;

/// Runs a test of group commit several times with real threads.
#[cfg(test)]
pub(crate) fn explore(test: impl Fn() + Send + Sync + 'static) {
    for _ in 0..20 {
        test();
    }
}
