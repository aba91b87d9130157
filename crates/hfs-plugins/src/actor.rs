//! One thread for each running plugin. It alone touches the plugin's instance; everyone else asks it and waits
//! for as long as they like, but no longer.

mod lanes;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use hfs_core::{Node, Pattern, SessionId};
use tokio::sync::oneshot;

use crate::capability::Export;
use crate::guest::CallFailure;
use crate::guest::convert::{Called, Calling, CommandSpec, WidgetSpec};
use lanes::{Job, Lanes};
pub(crate) use worker::{Birth, Worker};

/// How many jobs may wait before events are left out.
const LONGEST_QUEUE: usize = 256;
/// How much longer than its call may take a caller waits at least, for what is before it.
const PATIENCE: Duration = Duration::from_millis(100);

/// How a running plugin is reached.
#[derive(Clone)]
pub(crate) struct Handle {
    /// Wakes the thread once for each job in its lanes.
    wake: mpsc::Sender<()>,
    shared: Arc<Shared>,
}

/// What a plugin's thread and everyone else see of it.
pub(crate) struct Shared {
    pub exports: Vec<Export>,
    pub commands: Vec<CommandSpec>,
    pub patterns: Vec<Pattern>,
    pub widgets: Vec<WidgetSpec>,
    /// The last good picture of each widget.
    pub pictures: Mutex<Vec<Option<Vec<Node>>>>,
    /// The session that is looked at; `None` within while there is none, and all of it while nobody looks.
    pub focus: Mutex<Option<Option<SessionId>>>,
    /// What waits for the plugin.
    lanes: Mutex<Lanes>,
    /// Whether it is to end after the job that it is at.
    pub ended: AtomicBool,
}

/// Why an answer did not come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The call came to nothing.
    Failed(CallFailure),
    /// It is busy with something else.
    Busy,
    /// It does not run any more.
    Gone,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(
        exports: Vec<Export>,
        commands: Vec<CommandSpec>,
        patterns: &[String],
        widgets: Vec<WidgetSpec>,
    ) -> Self {
        Self {
            exports,
            commands,
            patterns: patterns.iter().map(|pattern| Pattern::new(pattern)).collect(),
            pictures: Mutex::new(widgets.iter().map(|_| None).collect()),
            widgets,
            focus: Mutex::new(None),
            lanes: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }
}

impl Handle {
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    pub fn has(&self, export: Export) -> bool {
        self.shared.exports.contains(&export)
    }

    /// Asks the plugin and waits for its answer: for `limit`, and half as long again for what is before it. A
    /// question whose asker is gone is not put to the plugin any more.
    pub async fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        session: Option<SessionId>,
        limit: Duration,
        call: impl for<'c> FnOnce(Calling<'c>) -> Called<T> + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (question, answer) = question(what, session, limit, call);
        self.send(|lanes| lanes.last(question))?;
        patiently(limit + limit / 2 + PATIENCE, answer).await
    }

    /// Asks before everything that waits, and waits for as long as what the plugin is at may take, too: somebody
    /// relies on it that the plugin is asked.
    pub async fn ask_first<T: Send + 'static>(
        &self,
        what: &'static str,
        session: Option<SessionId>,
        limit: Duration,
        call: impl for<'c> FnOnce(Calling<'c>) -> Called<T> + Send + 'static,
    ) -> Result<T, NoAnswer> {
        let (question, answer) = question(what, session, limit, call);
        let mut before = Duration::ZERO;
        self.send(|lanes| before = lanes.first(question))?;
        patiently(before + limit + limit / 2 + PATIENCE, answer).await
    }

    /// Tells the plugin something when it has time. `false` when too much waits for it already.
    pub fn tell(
        &self,
        what: &'static str,
        session: SessionId,
        limit: Duration,
        call: impl for<'c> FnOnce(Calling<'c>) -> Called<()> + Send + 'static,
    ) -> bool {
        let job = Job::new(limit, move |worker: &mut Worker| {
            // The worker itself tells of failures; nobody waits for the answer.
            let _ = worker.call(what, Some(session), limit, call);
        });
        lock(&self.shared.lanes).waiting() < LONGEST_QUEUE && self.send(|lanes| lanes.last(job)).is_ok()
    }

    /// Says which session is looked at, so that widgets are drawn for it.
    pub fn look_at(&self, session: Option<SessionId>) {
        if self.shared.widgets.is_empty() {
            return;
        }
        let before = lock(&self.shared.focus).replace(session);
        if before != Some(session) {
            // When its thread is gone, so are its widgets.
            let _ = self.send(|lanes| lanes.last(Job::new(Duration::ZERO, Worker::redraw)));
        }
    }

    /// Ends it after the job that it is at.
    pub fn end(&self) {
        self.shared.ended.store(true, Ordering::Release);
        let _ = self.send(|lanes| lanes.first(Job::new(Duration::ZERO, |_: &mut Worker| ())));
    }

    fn send<T>(&self, put: impl FnOnce(&mut Lanes) -> T) -> Result<(), NoAnswer> {
        {
            let mut lanes = lock(&self.shared.lanes);
            if !lanes.is_open() {
                return Err(NoAnswer::Gone);
            }
            put(&mut lanes);
        }
        self.wake.send(()).map_err(|_| NoAnswer::Gone)
    }
}

/// A job that puts a question to the plugin, and where its answer comes.
fn question<T: Send + 'static>(
    what: &'static str,
    session: Option<SessionId>,
    limit: Duration,
    call: impl for<'c> FnOnce(Calling<'c>) -> Called<T> + Send + 'static,
) -> (Job, oneshot::Receiver<Result<T, CallFailure>>) {
    let (sender, answer) = oneshot::channel();
    let job = Job::new(limit, move |worker: &mut Worker| {
        if !sender.is_closed() {
            // Whoever stopped waiting meanwhile does not want to know.
            let _ = sender.send(worker.call(what, session, limit, call));
        }
    });
    (job, answer)
}

async fn patiently<T>(
    patience: Duration,
    answer: oneshot::Receiver<Result<T, CallFailure>>,
) -> Result<T, NoAnswer> {
    match tokio::time::timeout(patience, answer).await {
        Ok(Ok(answer)) => answer.map_err(NoAnswer::Failed),
        Ok(Err(_)) => Err(NoAnswer::Gone),
        Err(_) => Err(NoAnswer::Busy),
    }
}
