//! What waits for a plugin: messages before everything else, and all else in the order in which it came.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Worker;

/// Something for a plugin's thread to do.
pub(crate) struct Job {
    /// What its call may take.
    limit: Duration,
    work: Box<dyn FnOnce(&mut Worker) + Send>,
}

impl Job {
    pub fn new(limit: Duration, work: impl FnOnce(&mut Worker) + Send + 'static) -> Self {
        Self { limit, work: Box::new(work) }
    }

    pub fn run(self, worker: &mut Worker) {
        (self.work)(worker);
    }
}

/// The jobs that wait, and until when the thread may be at the one it has.
#[derive(Default)]
pub(crate) struct Lanes {
    first: VecDeque<Job>,
    others: VecDeque<Job>,
    busy_until: Option<Instant>,
    closed: bool,
}

impl Lanes {
    /// Lets a job wait behind all others.
    pub fn last(&mut self, job: Job) {
        self.others.push_back(job);
    }

    /// Lets a job wait only behind those that came this way, too, and says how long its turn may take to come.
    pub fn first(&mut self, job: Job) -> Duration {
        let at_work = self.busy_until.map(|until| until.saturating_duration_since(Instant::now()));
        let before = self.first.iter().map(|job| job.limit).sum::<Duration>();
        self.first.push_back(job);
        before + at_work.unwrap_or_default()
    }

    /// Nobody works here any more. Who waits for an answer learns it now.
    pub fn close(&mut self) {
        *self = Self { closed: true, ..Self::default() };
    }

    /// Whether somebody works here.
    pub const fn is_open(&self) -> bool {
        !self.closed
    }

    /// How many jobs wait.
    pub fn waiting(&self) -> usize {
        self.first.len() + self.others.len()
    }

    /// The job whose turn it is. The thread is at it from now on.
    pub fn take(&mut self) -> Option<Job> {
        let job = self.first.pop_front().or_else(|| self.others.pop_front());
        self.at_work(job.as_ref().map(|job| job.limit));
        job
    }

    /// The thread is at something that may take so long, or at nothing.
    pub fn at_work(&mut self, limit: Option<Duration>) {
        self.busy_until = limit.map(|limit| Instant::now() + limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(millis: u64) -> Job {
        Job::new(Duration::from_millis(millis), |_| ())
    }

    #[test]
    fn messages_go_first_and_know_how_long_that_may_take() {
        let mut lanes = Lanes::default();
        lanes.last(job(1));
        lanes.last(job(2));
        assert_eq!(lanes.first(job(3)), Duration::ZERO);
        assert_eq!(lanes.first(job(4)), Duration::from_millis(3));
        assert_eq!(lanes.waiting(), 4);
        let order: Vec<u128> = std::iter::from_fn(|| lanes.take()).map(|job| job.limit.as_millis()).collect();
        assert_eq!(order, [3, 4, 1, 2]);
        lanes.last(job(60_000));
        assert!(lanes.take().is_some());
        assert!(lanes.first(job(1)) > Duration::from_secs(50));
    }
}
