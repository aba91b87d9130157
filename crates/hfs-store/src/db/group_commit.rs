//! Leader/follower group commit: writes that arrive at the same time share one transaction.
//!
//! A durable commit waits for the disk, and it takes nearly the same time for one row as for a hundred. A caller that
//! finds the queue idle becomes the leader and commits on its own thread. Callers that arrive during a commit enqueue
//! and block; the leader then promotes one of them, which commits everything queued in one transaction.
//!
//! The simple alternative, a mutex around one transaction per write, waits for the disk once per write, so it cannot be
//! faster than a loop of single inserts. `cargo xtask bench append` compares group commit with such a loop on a bare
//! table. The targets are 1.5 times its speed for 8 writers, 5 times for 64 writers, and 1.3 times its latency for one
//! writer.
//!
//! Invariants:
//!
//! - At most one caller is the leader. Only the leader uses the backend, except for [`GroupCommit::with_backend`].
//! - While requests are queued, there is a leader. When it is done or panics, it promotes the caller of the oldest
//!   queued request, so that no caller blocks forever.
//! - A request that fails does not affect the other requests of its batch. Either it has written nothing, or the batch
//!   is rolled back and each request is retried in its own transaction.
//!
//! The protocol does not depend on SQLite: see [`Backend`]. `tests/group_commit_model.rs` runs the unit tests of this
//! file under a model checker.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, thread};

/// How a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct WriteOptions {
    /// The write need not be durable when `submit` returns. A batch is relaxed if all its requests are.
    pub(crate) relaxed: bool,
    /// The write takes long, so it gets its own transaction and other requests need not wait for it to end.
    pub(crate) exclusive: bool,
}

/// Runs transactions.
pub(crate) trait Backend {
    type Transaction;
    type Error;

    /// Runs `body` in one transaction, and commits it if `body` returns true. After an error, nothing is written.
    fn transact(
        &mut self,
        relaxed: bool,
        body: &mut dyn FnMut(&Self::Transaction) -> bool,
    ) -> Result<(), Self::Error>;

    /// The number of rows written so far.
    fn changes(transaction: &Self::Transaction) -> u64;

    /// Whether the error means that the request was rejected, for example because it is invalid, and not that the
    /// backend failed.
    fn is_rejection(error: &Self::Error) -> bool;

    /// The error of a request whose batch was aborted by a panic.
    fn abandoned() -> Self::Error;
}

/// The queue in front of a [`Backend`].
pub(crate) struct GroupCommit<B: Backend> {
    backend: Mutex<B>,
    queue: Mutex<Queue<B>>,
    linger: Duration,
}

struct Queue<B: Backend> {
    has_leader: bool,
    waiting: VecDeque<Arc<dyn Request<B>>>,
    /// Number of requests in the previous batch.
    previous_batch_len: usize,
}

impl<B: Backend> GroupCommit<B> {
    /// `linger` is the maximum time that a leader waits for the callers of the previous batch to enqueue again.
    pub(crate) const fn new(backend: B, linger: Duration) -> Self {
        let queue = Queue { has_leader: false, waiting: VecDeque::new(), previous_batch_len: 0 };
        Self { backend: Mutex::new(backend), queue: Mutex::new(queue), linger }
    }

    /// Runs `job` in a transaction, together with other callers' jobs, and returns after the commit.
    ///
    /// `job` may be called more than once. The changes of an earlier call have then been rolled back.
    pub(crate) fn submit<T, F>(&self, options: WriteOptions, job: F) -> Result<T, B::Error>
    where
        B: 'static,
        B::Error: Send + 'static,
        T: Send + 'static,
        F: FnMut(&B::Transaction) -> Result<T, B::Error> + Send + 'static,
    {
        let slot = Arc::new(Slot {
            options,
            work: Mutex::new(Work { job, outcome: None }),
            phase: Mutex::new(Phase::Waiting),
            changed: Condvar::new(),
        });
        let request: Arc<dyn Request<B>> = Arc::<Slot<T, F, B::Error>>::clone(&slot);
        if self.enqueue_if_led(&request) && slot.wait() == Phase::Done {
            return slot.take_outcome().unwrap_or_else(|| Err(B::abandoned()));
        }
        // The alternative is a writer thread. It would cost each write two context switches, also in the usual case of
        // a single writer. The leader commits on its own thread, so a single write takes no longer than its
        // transaction.
        let leadership = Leadership { queue: &self.queue };
        let batch = self.commit_batch(request);
        // Wakes the next leader before the followers of this batch, so that it commits while they return.
        drop(leadership);
        drop(batch);
        slot.take_outcome().unwrap_or_else(|| Err(B::abandoned()))
    }

    /// Runs `body` with the backend, between two batches.
    pub(crate) fn with_backend<R>(&self, body: impl FnOnce(&mut B) -> R) -> R {
        body(&mut lock(&self.backend))
    }

    /// Enqueues the request and returns true. If there is no leader, makes the caller the leader and returns false.
    fn enqueue_if_led(&self, request: &Arc<dyn Request<B>>) -> bool {
        let mut queue = lock(&self.queue);
        if queue.has_leader {
            queue.waiting.push_back(Arc::clone(request));
            return true;
        }
        queue.has_leader = true;
        false
    }

    /// Commits the leader's own request, together with the queued requests that may share its transaction.
    fn commit_batch(&self, own: Arc<dyn Request<B>>) -> Batch<B> {
        // Locks the backend before it reads the queue, so that requests that arrive during the wait for the lock, for
        // example during `with_backend`, are part of the batch.
        let mut backend = lock(&self.backend);
        let is_exclusive = own.options().exclusive;
        let mut batch = Batch { requests: vec![own], finished: false };
        if !is_exclusive {
            self.wait_for_previous_callers();
            let mut queue = lock(&self.queue);
            // Stops at an exclusive request, whose caller leads the next batch. This keeps the order of the requests.
            while let Some(next) = queue.waiting.pop_front_if(|next| !next.options().exclusive) {
                batch.requests.push(next);
            }
            queue.previous_batch_len = batch.requests.len();
        }
        batch.commit(&mut *backend);
        batch
    }

    /// Waits until there are as many requests as in the previous batch, at most for the linger time.
    ///
    /// Callers that write in a loop wake up after a commit and enqueue again shortly afterwards. Without the wait, the
    /// first of them would commit only its own request, and the others would share a second commit: two waits for the
    /// disk instead of one. A single writer never waits here, because its previous batch had one request.
    fn wait_for_previous_callers(&self) {
        let start = Instant::now();
        loop {
            let queue = lock(&self.queue);
            if queue.waiting.len() + 1 >= queue.previous_batch_len {
                return;
            }
            drop(queue);
            if start.elapsed() >= self.linger {
                return;
            }
            // Yields, because the shortest sleep may take longer than a commit.
            thread::yield_now();
        }
    }
}

/// Promotes the caller of the next request when dropped, also during a panic.
struct Leadership<'a, B: Backend> {
    queue: &'a Mutex<Queue<B>>,
}

impl<B: Backend> Drop for Leadership<'_, B> {
    fn drop(&mut self) {
        let mut queue = lock(self.queue);
        let next = queue.waiting.pop_front();
        queue.has_leader = next.is_some();
        drop(queue);
        if let Some(next) = next {
            next.set_phase(Phase::Leading);
        }
    }
}

/// Requests that are committed together. Wakes their callers when dropped.
struct Batch<B: Backend> {
    /// The leader's own request is the first.
    requests: Vec<Arc<dyn Request<B>>>,
    finished: bool,
}

impl<B: Backend> Batch<B> {
    fn commit(&mut self, backend: &mut B) {
        let relaxed = self.requests.iter().all(|request| request.options().relaxed);
        let mut commits = false;
        let result = backend.transact(relaxed, &mut |transaction| {
            // A rejected request that has written nothing does not fail the batch, because there is nothing to roll
            // back. The alternative, a savepoint per request, would slow down all requests for a rare failure.
            commits = self.requests.iter().all(|request| {
                let before = B::changes(transaction);
                request.attempt(transaction) || (request.was_rejected() && B::changes(transaction) == before)
            });
            commits
        });
        match (result, self.requests.as_slice()) {
            // A single request needs no retry. Its job has stored an outcome, even if it failed and was rolled back.
            (Ok(()), [_]) => {}
            (Ok(()), _) if commits => {}
            (Err(error), [only]) => only.fail(error),
            (_, requests) => {
                for request in requests {
                    retry_in_own_transaction(request.as_ref(), backend);
                }
            }
        }
        self.finished = true;
    }
}

impl<B: Backend> Drop for Batch<B> {
    fn drop(&mut self) {
        for (index, request) in self.requests.iter().enumerate() {
            if !self.finished {
                request.fail(B::abandoned());
            }
            // The first request is the leader's own, which does not block.
            if index > 0 {
                request.set_phase(Phase::Done);
            }
        }
    }
}

fn retry_in_own_transaction<B: Backend>(request: &dyn Request<B>, backend: &mut B) {
    let result = backend.transact(request.options().relaxed, &mut |transaction| request.attempt(transaction));
    if let Err(error) = result {
        request.fail(error);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Leading,
    Done,
}

/// A [`Slot`] with the type of its job erased.
trait Request<B: Backend>: Send + Sync {
    fn options(&self) -> WriteOptions;
    /// Runs the job and stores its outcome. Returns whether it succeeded.
    fn attempt(&self, transaction: &B::Transaction) -> bool;
    fn was_rejected(&self) -> bool;
    /// Replaces the outcome by an error.
    fn fail(&self, error: B::Error);
    fn set_phase(&self, phase: Phase);
}

/// A job and its outcome, shared by the caller and the leader that runs the job.
struct Slot<T, F, E> {
    options: WriteOptions,
    work: Mutex<Work<T, F, E>>,
    phase: Mutex<Phase>,
    changed: Condvar,
}

struct Work<T, F, E> {
    job: F,
    outcome: Option<Result<T, E>>,
}

impl<T, F, E> Slot<T, F, E> {
    fn wait(&self) -> Phase {
        let mut phase = lock(&self.phase);
        while *phase == Phase::Waiting {
            phase = self.changed.wait(phase).unwrap_or_else(PoisonError::into_inner);
        }
        *phase
    }

    fn take_outcome(&self) -> Option<Result<T, E>> {
        lock(&self.work).outcome.take()
    }
}

impl<B, T, F> Request<B> for Slot<T, F, B::Error>
where
    B: Backend,
    B::Error: Send,
    T: Send,
    F: FnMut(&B::Transaction) -> Result<T, B::Error> + Send,
{
    fn options(&self) -> WriteOptions {
        self.options
    }

    fn attempt(&self, transaction: &B::Transaction) -> bool {
        let mut work = lock(&self.work);
        let outcome = (work.job)(transaction);
        let succeeded = outcome.is_ok();
        work.outcome = Some(outcome);
        succeeded
    }

    fn was_rejected(&self) -> bool {
        matches!(&lock(&self.work).outcome, Some(Err(error)) if B::is_rejection(error))
    }

    fn fail(&self, error: B::Error) {
        lock(&self.work).outcome = Some(Err(error));
    }

    fn set_phase(&self, phase: Phase) {
        *lock(&self.phase) = phase;
        self.changed.notify_one();
    }
}

/// Locks a mutex and ignores poisoning. The data of these mutexes is consistent after each statement, and the `Drop`
/// implementations above roll back and fail the batch of a leader that panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::sync::explore;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum TestError {
        Rejected,
        Failed,
        CommitFailed,
        Abandoned,
    }

    /// A table of numbers that records which of them were committed together.
    #[derive(Default)]
    struct Table {
        commits: Vec<Vec<u32>>,
        /// Commits of more than one row fail.
        large_commits_fail: bool,
    }

    impl Backend for Table {
        type Transaction = RefCell<Vec<u32>>;
        type Error = TestError;

        fn transact(
            &mut self,
            _relaxed: bool,
            body: &mut dyn FnMut(&Self::Transaction) -> bool,
        ) -> Result<(), TestError> {
            let transaction = RefCell::default();
            if body(&transaction) {
                let rows = transaction.into_inner();
                if self.large_commits_fail && rows.len() > 1 {
                    return Err(TestError::CommitFailed);
                }
                self.commits.push(rows);
            }
            Ok(())
        }

        fn changes(transaction: &Self::Transaction) -> u64 {
            transaction.borrow().len() as u64
        }

        fn is_rejection(error: &TestError) -> bool {
            *error == TestError::Rejected
        }

        fn abandoned() -> TestError {
            TestError::Abandoned
        }
    }

    type TestCommit = GroupCommit<Table>;
    type Outcome = Result<u32, TestError>;

    const SHARED: WriteOptions = WriteOptions { relaxed: false, exclusive: false };
    const EXCLUSIVE: WriteOptions = WriteOptions { relaxed: false, exclusive: true };

    fn group_commit(table: Table) -> Arc<TestCommit> {
        Arc::new(GroupCommit::new(table, Duration::ZERO))
    }

    /// The job of a request in the tests.
    #[derive(Clone, Copy)]
    enum Job {
        Write,
        Reject,
        WriteAndFail,
        Panic,
    }

    fn submit(commit: &TestCommit, options: WriteOptions, number: u32, job: Job) -> Outcome {
        commit.submit(options, move |rows| match job {
            Job::Reject => Err(TestError::Rejected),
            Job::Write => {
                rows.borrow_mut().push(number);
                Ok(number)
            }
            Job::WriteAndFail => {
                rows.borrow_mut().push(number);
                Err(TestError::Failed)
            }
            Job::Panic => panic!("the job panics"),
        })
    }

    /// Submits the requests so that all of them are queued, in this order, before the first one is committed. Returns
    /// their outcomes; `None` for a caller that panicked.
    fn submit_at_once(commit: &Arc<TestCommit>, requests: &[(WriteOptions, Job)]) -> Vec<Option<Outcome>> {
        let callers = commit.with_backend(|_| {
            let mut callers = Vec::new();
            for (number, (options, job)) in (1..).zip(requests.iter().copied()) {
                let caller_commit = Arc::clone(commit);
                callers.push(thread::spawn(move || {
                    catch_unwind(AssertUnwindSafe(|| submit(&caller_commit, options, number, job))).ok()
                }));
                // The first caller becomes the leader and waits for the backend. The others enqueue.
                loop {
                    let queue = lock(&commit.queue);
                    if queue.has_leader && queue.waiting.len() + 1 == callers.len() {
                        break;
                    }
                    drop(queue);
                    thread::yield_now();
                }
            }
            callers
        });
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    }

    fn commits(commit: &TestCommit) -> Vec<Vec<u32>> {
        commit.with_backend(|table| table.commits.clone())
    }

    #[test]
    fn every_write_is_committed_once() {
        explore(|| {
            let commit = group_commit(Table::default());
            let callers: Vec<_> = (0..3)
                .map(|caller| {
                    let commit = Arc::clone(&commit);
                    thread::spawn(move || {
                        for number in [caller * 2, caller * 2 + 1] {
                            assert_eq!(submit(&commit, SHARED, number, Job::Write), Ok(number));
                        }
                    })
                })
                .collect();
            for caller in callers {
                caller.join().unwrap();
            }
            let mut rows = commits(&commit).concat();
            rows.sort_unstable();
            assert_eq!(rows, [0, 1, 2, 3, 4, 5]);
            assert!(!lock(&commit.queue).has_leader);
        });
    }

    #[test]
    fn queued_requests_share_one_transaction() {
        explore(|| {
            let commit = group_commit(Table::default());
            let outcomes = submit_at_once(&commit, &[(SHARED, Job::Write); 4]);
            assert_eq!(outcomes, [1, 2, 3, 4].map(|number| Some(Ok(number))));
            assert_eq!(commits(&commit), [[1, 2, 3, 4]]);
        });
    }

    #[test]
    fn a_rejected_request_does_not_split_its_batch() {
        explore(|| {
            let commit = group_commit(Table::default());
            let requests = [(SHARED, Job::Write), (SHARED, Job::Reject), (SHARED, Job::Write)];
            let outcomes = submit_at_once(&commit, &requests);
            assert_eq!(outcomes, [Some(Ok(1)), Some(Err(TestError::Rejected)), Some(Ok(3))]);
            assert_eq!(commits(&commit), [[1, 3]]);
        });
    }

    #[test]
    fn a_request_that_fails_after_writing_is_rolled_back_and_the_others_succeed() {
        explore(|| {
            let commit = group_commit(Table::default());
            let requests = [(SHARED, Job::Write), (SHARED, Job::WriteAndFail), (SHARED, Job::Write)];
            let outcomes = submit_at_once(&commit, &requests);
            assert_eq!(outcomes, [Some(Ok(1)), Some(Err(TestError::Failed)), Some(Ok(3))]);
            assert_eq!(commits(&commit), [[1], [3]]);
        });
    }

    #[test]
    fn after_a_failed_commit_each_request_is_tried_alone() {
        explore(|| {
            let commit = group_commit(Table { large_commits_fail: true, ..Table::default() });
            let outcomes = submit_at_once(&commit, &[(SHARED, Job::Write); 3]);
            assert_eq!(outcomes, [1, 2, 3].map(|number| Some(Ok(number))));
            assert_eq!(commits(&commit), [[1], [2], [3]]);
        });
    }

    #[test]
    fn a_leader_that_panics_fails_its_batch_and_blocks_no_caller() {
        explore(|| {
            let commit = group_commit(Table::default());
            // The exclusive request is not part of the batch that panics. Its caller is promoted.
            let requests = [(SHARED, Job::Panic), (SHARED, Job::Write), (EXCLUSIVE, Job::Write)];
            let outcomes = submit_at_once(&commit, &requests);
            assert_eq!(outcomes, [None, Some(Err(TestError::Abandoned)), Some(Ok(3))]);
            assert_eq!(commits(&commit), [[3]]);
            assert_eq!(submit(&commit, SHARED, 4, Job::Write), Ok(4));
        });
    }

    #[test]
    fn an_exclusive_request_is_committed_alone_and_in_order() {
        explore(|| {
            let commit = group_commit(Table::default());
            let mut requests = [(SHARED, Job::Write); 5];
            requests[2].0 = EXCLUSIVE;
            let outcomes = submit_at_once(&commit, &requests);
            assert_eq!(outcomes, [1, 2, 3, 4, 5].map(|number| Some(Ok(number))));
            assert_eq!(commits(&commit), [vec![1, 2], vec![3], vec![4, 5]]);
        });
    }

    #[test]
    fn an_exclusive_leader_takes_no_followers() {
        explore(|| {
            let commit = group_commit(Table::default());
            let requests = [(EXCLUSIVE, Job::Write), (SHARED, Job::Write), (SHARED, Job::Write)];
            submit_at_once(&commit, &requests);
            assert_eq!(commits(&commit), [vec![1], vec![2, 3]]);
        });
    }
}
