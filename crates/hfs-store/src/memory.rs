//! A store in memory: plain maps behind one lock. Made for tests, and the plainest reading of the port's words.

mod branches;
mod checkpoints;
mod data;
mod import;
mod maintenance;
mod messages;
mod operations;
mod runs;
mod search;
mod sessions;
mod words;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hfs_core::{Clock, StoreError, StoreResult};

use data::Data;

/// A store in memory.
///
/// Each value stands for one process: replies that it began are interrupted once it is dropped.
/// [`reopen`](Self::reopen) gives another one on the same data.
pub struct MemoryStore {
    data: Arc<Mutex<Data>>,
    clock: Arc<dyn Clock>,
    writer: Arc<Writer>,
    failing: AtomicU32,
    gate: Gate,
}

/// What checkpoints wait for before they are stored.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

/// Longer than any test holds checkpoints back.
const GATE_PATIENCE: Duration = Duration::from_secs(30);

/// Alive as long as its store instance is; replies in progress hold it weakly.
#[derive(Debug)]
struct Writer;

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            data: Arc::default(),
            clock,
            writer: Arc::new(Writer),
            failing: AtomicU32::new(0),
            gate: Gate::default(),
        }
    }

    /// Another instance on the same data, as another process would see it.
    #[must_use]
    pub fn reopen(&self) -> Self {
        Self {
            data: Arc::clone(&self.data),
            clock: Arc::clone(&self.clock),
            writer: Arc::new(Writer),
            failing: AtomicU32::new(0),
            gate: Gate::default(),
        }
    }

    /// Has the next `times` attempts to save a message or a piece of a reply fail as a full disk does.
    pub fn fail_saves(&self, times: u32) {
        self.failing.store(times, Ordering::SeqCst);
    }

    /// Holds back whoever stores a checkpoint, as a slow disk does, or lets them go on. One that is held back for
    /// half a minute fails.
    pub fn hold_checkpoints(&self, hold: bool) {
        *self.gate.closed.lock().unwrap_or_else(PoisonError::into_inner) = hold;
        self.gate.opened.notify_all();
    }

    /// Waits until checkpoints are not held back.
    fn pass_gate(&self) -> StoreResult<()> {
        let closed = self.gate.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.gate.opened.wait_timeout_while(closed, GATE_PATIENCE, |closed| *closed);
        if waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
            let source = "checkpoints are held back".into();
            return Err(StoreError::Unavailable { action: "save a checkpoint".into(), source });
        }
        Ok(())
    }

    /// What a save meets first: the failures that were asked for.
    fn room_to_save(&self) -> StoreResult<()> {
        let spent = self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match spent {
            Ok(_) => Err(StoreError::Unavailable {
                action: "save the message".into(),
                source: "no space left".into(),
            }),
            Err(_) => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Data> {
        // Every change is checked before it is begun, so a panic elsewhere leaves nothing half done here.
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_found(what: &'static str, reference: &impl ToString) -> StoreError {
    StoreError::NotFound { what, reference: reference.to_string() }
}

fn conflict(message: impl Into<String>) -> StoreError {
    StoreError::Conflict { message: message.into() }
}

fn invalid(message: impl Into<String>) -> StoreError {
    StoreError::Invalid { message: message.into() }
}
