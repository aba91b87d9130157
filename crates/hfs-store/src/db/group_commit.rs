//! Group commit: whatever waits to be written is written in one transaction.
//!
//! There is no writer thread. Whoever comes while nobody writes becomes the leader and writes at once, without a
//! hand-off; whoever comes while a leader writes leaves a request and sleeps. When the leader is done it wakes
//! one of the waiting to lead the next group, which is everything that waits by then, and then those whose
//! requests it has written. Where the group before was a crowd, the leader waits a moment for it to come back: a
//! commit costs much the same for one as for many.
//!
//! A request that is refused writes nothing and hurts nobody. When one fails after it has written, or the
//! commit itself fails, the group is rolled back and each request is tried alone: a bad one costs one.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::error::{Error, Result};

/// How long a leader waits for a crowd at most: less than one commit takes.
const GATHERING: Duration = Duration::from_micros(100);

/// How a request wants to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct WriteOptions {
    /// It need not have reached the disk when its caller goes on.
    pub(crate) relaxed: bool,
    /// It takes long, so nobody else's request should share its transaction.
    pub(crate) exclusive: bool,
}

/// Where transactions are made: a connection and what surrounds it.
pub(crate) trait Backend {
    /// Runs `body` within one transaction, which is committed when that returns true. An error means that nothing
    /// was written.
    fn transact(&mut self, relaxed: bool, body: &mut dyn FnMut(&Connection) -> bool) -> Result<()>;
}

/// The queue in front of a [`Backend`].
pub(crate) struct Queue<B> {
    backend: Mutex<B>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    led: bool,
    waiting: VecDeque<Arc<dyn Request>>,
    /// How many requests the group before had.
    crowd: usize,
}

impl<B: Backend> Queue<B> {
    pub(crate) fn new(backend: B) -> Self {
        Self { backend: Mutex::new(backend), state: Mutex::new(State::default()) }
    }

    /// Writes with others; returns when it is committed. `job` may be called more than once, each time in a
    /// transaction that knows nothing of the call before.
    pub(crate) fn submit<T, F>(&self, options: WriteOptions, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnMut(&Connection) -> Result<T> + Send + 'static,
    {
        let slot = Arc::new(Slot {
            options,
            work: Mutex::new(Work { job, outcome: None }),
            phase: Mutex::new(Phase::Waiting),
            changed: Condvar::new(),
        });
        if self.must_wait(&slot) && slot.wait() == Phase::Done {
            return slot.take();
        }
        let leadership = Leadership { queue: self };
        let group = self.write_group(&slot);
        // The next group is under way before anybody of this one is woken.
        drop(leadership);
        drop(group);
        slot.take()
    }

    /// The backend by itself, between groups.
    pub(crate) fn with_backend<T>(&self, body: impl FnOnce(&mut B) -> T) -> T {
        body(&mut lock(&self.backend))
    }

    /// Queues behind a leader, or takes the lead.
    fn must_wait<R: Request + 'static>(&self, slot: &Arc<R>) -> bool {
        let mut state = lock(&self.state);
        if state.led {
            let request: Arc<dyn Request> = Arc::<R>::clone(slot);
            state.waiting.push_back(request);
            return true;
        }
        state.led = true;
        false
    }

    /// Lets those come back who were in the group before.
    fn gather(&self) {
        let begin = Instant::now();
        loop {
            let state = lock(&self.state);
            if state.waiting.len() + 1 >= state.crowd {
                return;
            }
            drop(state);
            if begin.elapsed() >= GATHERING {
                return;
            }
            thread::yield_now();
        }
    }

    /// Writes the leader's own request and all that may go with it.
    fn write_group<R: Request + 'static>(&self, own: &Arc<R>) -> Group {
        let mut backend = lock(&self.backend);
        let own: Arc<dyn Request> = Arc::<R>::clone(own);
        let mut group = Group { requests: vec![own], finished: false };
        if !group.requests.iter().any(|request| request.options().exclusive) {
            self.gather();
            let mut state = lock(&self.state);
            while let Some(next) = state.waiting.pop_front_if(|next| !next.options().exclusive) {
                group.requests.push(next);
            }
            state.crowd = group.requests.len();
        }
        group.write(&mut *backend);
        group
    }
}

/// Hands the lead on when dropped, also by a panic.
struct Leadership<'a, B> {
    queue: &'a Queue<B>,
}

impl<B> Drop for Leadership<'_, B> {
    fn drop(&mut self) {
        let mut state = lock(&self.queue.state);
        let next = state.waiting.pop_front();
        state.led = next.is_some();
        drop(state);
        if let Some(next) = next {
            next.enter(Phase::Leading);
        }
    }
}

/// Requests that are written together, and woken when it is dropped.
struct Group {
    requests: Vec<Arc<dyn Request>>,
    finished: bool,
}

impl Group {
    fn write(&mut self, backend: &mut impl Backend) {
        let relaxed = self.requests.iter().all(|request| request.options().relaxed);
        let mut kept = false;
        let written = backend.transact(relaxed, &mut |conn| {
            kept = self.requests.iter().all(|request| {
                let before = conn.total_changes();
                request.attempt(conn) || (request.was_refused() && conn.total_changes() == before)
            });
            kept
        });
        match (written, self.requests.as_slice()) {
            (Ok(()), [_]) => {}
            (Ok(()), _) if kept => {}
            (Err(error), [only]) => only.fail(error),
            (_, requests) => requests.iter().for_each(|request| alone(request.as_ref(), backend)),
        }
        self.finished = true;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for (place, request) in self.requests.iter().enumerate() {
            if !self.finished {
                request.fail(Error::Internal("the write was abandoned".into()));
            }
            // The first is the leader's own, and nobody sleeps over it.
            if place > 0 {
                request.enter(Phase::Done);
            }
        }
    }
}

fn alone(request: &dyn Request, backend: &mut impl Backend) {
    let written = backend.transact(request.options().relaxed, &mut |conn| request.attempt(conn));
    if let Err(error) = written {
        request.fail(error);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Leading,
    Done,
}

/// A request whose type is forgotten.
trait Request: Send + Sync {
    fn options(&self) -> WriteOptions;
    /// Runs the job and keeps its outcome; whether it succeeded.
    fn attempt(&self, conn: &Connection) -> bool;
    fn was_refused(&self) -> bool;
    /// Replaces the outcome.
    fn fail(&self, error: Error);
    fn enter(&self, phase: Phase);
}

struct Slot<T, F> {
    options: WriteOptions,
    work: Mutex<Work<T, F>>,
    phase: Mutex<Phase>,
    changed: Condvar,
}

struct Work<T, F> {
    job: F,
    outcome: Option<Result<T>>,
}

impl<T, F> Slot<T, F> {
    fn wait(&self) -> Phase {
        let mut phase = lock(&self.phase);
        while *phase == Phase::Waiting {
            phase = self.changed.wait(phase).unwrap_or_else(PoisonError::into_inner);
        }
        *phase
    }

    fn take(&self) -> Result<T> {
        let outcome = lock(&self.work).outcome.take();
        outcome.unwrap_or_else(|| Err(Error::Internal("the write has no outcome".into())))
    }
}

impl<T: Send, F: FnMut(&Connection) -> Result<T> + Send> Request for Slot<T, F> {
    fn options(&self) -> WriteOptions {
        self.options
    }

    fn attempt(&self, conn: &Connection) -> bool {
        let mut work = lock(&self.work);
        let outcome = (work.job)(conn);
        let good = outcome.is_ok();
        work.outcome = Some(outcome);
        good
    }

    fn was_refused(&self) -> bool {
        matches!(&lock(&self.work).outcome, Some(Err(error)) if error.is_refusal())
    }

    fn fail(&self, error: Error) {
        lock(&self.work).outcome = Some(Err(error));
    }

    fn enter(&self, phase: Phase) {
        *lock(&self.phase) = phase;
        self.changed.notify_one();
    }
}

/// A panic elsewhere leaves nothing half-done in what these locks guard.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
