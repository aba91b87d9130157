//! One thread for each running plugin. Only that thread touches the plugin's instance; other threads send it jobs.
//!
//! The alternative, wasmtime's async calls on the tokio runtime, is not used because calls into a plugin block: a
//! plugin may compute until its deadline, and its host functions read files or wait for the network. On a shared thread
//! that would delay other plugins and the application's own tasks. The instance also needs no lock: a wasmtime store
//! may be used by only one thread at a time. The cost is an idle thread for each plugin.
//!
//! Callers wait with a timeout and continue without the plugin (see [`WorkerHandle::call`]). Each call also has a
//! deadline that the instance enforces, so that every job ends and the queue never stalls.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use hfs_core::{Node, Pattern, SessionId, lock_unpoisoned};
use tokio::sync::oneshot;

use crate::contract::Export;
use crate::error::StartError;
use crate::host::Limits;
use crate::host_functions::{CallContext, PluginContext};
use crate::instance::{CallResult, CommandSpec, GuestCall, GuestError, Instance, PluginPre, WidgetSpec};
use crate::interpreter::Interpreters;
use crate::log::LogLevel;
use crate::plugin::PluginCode;
use crate::runtime::Runtime;

/// Maximum number of queued jobs; further events are dropped.
const MAX_QUEUED: usize = 256;
/// Added to the time that a caller waits, to allow for thread switches and short jobs that run first.
const EXTRA_WAIT: Duration = Duration::from_millis(100);
/// Stack of a plugin's thread: 1 MiB for plugin code (see [`crate::runtime`]), the rest for host functions.
const STACK_BYTES: usize = 4 << 20;
/// Shortest time between two renderings of a widget.
const MIN_RENDER_INTERVAL: Duration = Duration::from_millis(100);

/// The purpose of a call into a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    OnStart,
    OnMessage,
    OnEvent,
    OnRunComplete,
    OnExit,
    Command,
    Render,
}

impl fmt::Display for CallKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnStart => "on_start",
            Self::OnMessage => "on_message",
            Self::OnEvent => "on_event",
            Self::OnRunComplete => "on_run_complete",
            Self::OnExit => "on_exit",
            Self::Command => "a command",
            Self::Render => "drawing a widget",
        })
    }
}

/// Why a call through a [`WorkerHandle`] has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The call ran and failed.
    Guest(GuestError),
    /// The result did not arrive in time, because the plugin was busy.
    Busy,
    /// The plugin's thread has ended.
    Ended,
}

/// Whether a plugin's thread continues after the host stopped a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterStop {
    /// Its next call gets a new instance.
    Continue,
    /// Its thread ends.
    End,
}

/// Called on the plugin's thread when the host had to stop a call, with the reason.
pub(crate) type OnStop = Box<dyn Fn(CallKind, &str) -> AfterStop + Send>;

/// Sends jobs to a plugin's thread.
#[derive(Clone)]
pub(crate) struct WorkerHandle {
    /// Gets one message for each job in the queue.
    wake: mpsc::Sender<()>,
    shared: Arc<WorkerShared>,
}

/// State that a plugin's thread shares with its handles.
pub(crate) struct WorkerShared {
    exports: Vec<Export>,
    pub commands: Vec<CommandSpec>,
    /// Types of the events that the plugin wants.
    pub event_patterns: Vec<Pattern>,
    pub widgets: Vec<WidgetSpec>,
    /// The last successful rendering of each widget.
    pub rendered: Mutex<Vec<Option<Vec<Node>>>>,
    view: Mutex<WidgetView>,
    queue: Mutex<JobQueue>,
    /// Set to end the thread after its current job.
    ended: AtomicBool,
}

/// Whether a front end shows the plugin's widgets, and for which session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WidgetView {
    /// No front end has asked for widgets yet, so none are rendered.
    Hidden,
    /// They are rendered for this session, or for none.
    Shown(Option<SessionId>),
}

impl WorkerShared {
    fn new(
        exports: Vec<Export>,
        commands: Vec<CommandSpec>,
        event_patterns: &[String],
        widgets: Vec<WidgetSpec>,
    ) -> Self {
        Self {
            exports,
            commands,
            event_patterns: event_patterns.iter().map(|pattern| Pattern::new(pattern)).collect(),
            rendered: Mutex::new(widgets.iter().map(|_| None).collect()),
            widgets,
            view: Mutex::new(WidgetView::Hidden),
            queue: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }
}

impl WorkerHandle {
    pub fn shared(&self) -> &WorkerShared {
        &self.shared
    }

    pub fn has(&self, export: Export) -> bool {
        self.shared.exports.contains(&export)
    }

    /// Calls the plugin after all queued jobs. Waits for the result for 1.5 times `limit` plus [`EXTRA_WAIT`]. If this
    /// time ends before the job starts, the plugin is not called.
    pub async fn call<T: Send + 'static>(
        &self,
        kind: CallKind,
        session: Option<SessionId>,
        limit: Duration,
        function: impl FnOnce(GuestCall<'_>) -> CallResult<T> + Send + 'static,
    ) -> Result<T, CallError> {
        let (job, result) = call_job(kind, session, limit, function);
        self.send(|queue| queue.push(job))?;
        with_timeout(limit + limit / 2 + EXTRA_WAIT, result).await
    }

    /// Calls the plugin before all jobs that are not urgent. Waits as [`Self::call`] does, plus the limits of the
    /// running job and of urgent jobs that run first.
    ///
    /// For messages: a plugin may check them, for example for leaked secrets, so a message must wait until a busy
    /// plugin has time for it. Widgets and events can be late or skipped.
    pub async fn call_urgent<T: Send + 'static>(
        &self,
        kind: CallKind,
        session: Option<SessionId>,
        limit: Duration,
        function: impl FnOnce(GuestCall<'_>) -> CallResult<T> + Send + 'static,
    ) -> Result<T, CallError> {
        let (job, result) = call_job(kind, session, limit, function);
        let mut until_start = Duration::ZERO;
        self.send(|queue| until_start = queue.push_urgent(job))?;
        with_timeout(until_start + limit + limit / 2 + EXTRA_WAIT, result).await
    }

    /// Queues a call whose result is not needed. Returns `false`, and drops the call, if the queue is full or the
    /// thread has ended.
    pub fn enqueue(
        &self,
        kind: CallKind,
        session: SessionId,
        limit: Duration,
        function: impl FnOnce(GuestCall<'_>) -> CallResult<()> + Send + 'static,
    ) -> bool {
        let job = Job::new(limit, move |worker: &mut Worker| {
            // `Worker::call` reports the failure.
            let _ = worker.call(kind, Some(session), limit, function);
        });
        lock_unpoisoned(&self.shared.queue).len() < MAX_QUEUED && self.send(|queue| queue.push(job)).is_ok()
    }

    /// Renders the plugin's widgets for this session from now on.
    pub fn show_widgets(&self, session: Option<SessionId>) {
        if self.shared.widgets.is_empty() {
            return;
        }
        let view = WidgetView::Shown(session);
        let before = std::mem::replace(&mut *lock_unpoisoned(&self.shared.view), view);
        if before != view {
            // Fails only if the thread has ended, and then there is nothing to render.
            let _ = self.send(|queue| queue.push(Job::new(Duration::ZERO, Worker::schedule_all_widgets)));
        }
    }

    /// Ends the thread after its current job.
    pub fn end(&self) {
        self.shared.ended.store(true, Ordering::Release);
        // The job does nothing; it wakes the thread, which then sees `ended`.
        let _ = self.send(|queue| queue.push_urgent(Job::new(Duration::ZERO, |_: &mut Worker| ())));
    }

    fn send<T>(&self, push: impl FnOnce(&mut JobQueue) -> T) -> Result<(), CallError> {
        {
            let mut queue = lock_unpoisoned(&self.shared.queue);
            if queue.closed {
                return Err(CallError::Ended);
            }
            push(&mut queue);
        }
        self.wake.send(()).map_err(|_| CallError::Ended)
    }
}

/// A job that calls the plugin, and the receiver of its result.
fn call_job<T: Send + 'static>(
    kind: CallKind,
    session: Option<SessionId>,
    limit: Duration,
    function: impl FnOnce(GuestCall<'_>) -> CallResult<T> + Send + 'static,
) -> (Job, oneshot::Receiver<Result<T, GuestError>>) {
    let (sender, receiver) = oneshot::channel();
    let job = Job::new(limit, move |worker: &mut Worker| {
        // If the receiver is closed, the caller has continued without the plugin, and the result would be useless.
        if !sender.is_closed() {
            let _ = sender.send(worker.call(kind, session, limit, function));
        }
    });
    (job, receiver)
}

async fn with_timeout<T>(
    timeout: Duration,
    result: oneshot::Receiver<Result<T, GuestError>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(timeout, result).await {
        Ok(Ok(result)) => result.map_err(CallError::Guest),
        // The sender was dropped with its job when the queue was closed.
        Ok(Err(_)) => Err(CallError::Ended),
        Err(_) => Err(CallError::Busy),
    }
}

/// A unit of work for a plugin's thread.
struct Job {
    /// Time limit of its call.
    limit: Duration,
    work: Box<dyn FnOnce(&mut Worker) + Send>,
}

impl Job {
    fn new(limit: Duration, work: impl FnOnce(&mut Worker) + Send + 'static) -> Self {
        Self { limit, work: Box::new(work) }
    }
}

/// A queue with two priorities. It also records when the running job has to end, to compute how long an urgent job may
/// have to wait.
#[derive(Default)]
struct JobQueue {
    urgent: VecDeque<Job>,
    others: VecDeque<Job>,
    /// When the running job reaches its limit; `None` while the thread is idle.
    busy_until: Option<Instant>,
    closed: bool,
}

impl JobQueue {
    fn push(&mut self, job: Job) {
        self.others.push_back(job);
    }

    /// Adds a job after the other urgent ones, and returns the longest time until it starts.
    fn push_urgent(&mut self, job: Job) -> Duration {
        let running = self.busy_until.map(|until| until.saturating_duration_since(Instant::now()));
        let queued = self.urgent.iter().map(|job| job.limit).sum::<Duration>();
        self.urgent.push_back(job);
        queued + running.unwrap_or_default()
    }

    /// Takes the next job, which counts as running from now on.
    fn pop(&mut self) -> Option<Job> {
        let job = self.urgent.pop_front().or_else(|| self.others.pop_front());
        self.set_running(job.as_ref().map(|job| job.limit));
        job
    }

    /// Records the time limit of the work that starts now; `None` when the thread becomes idle.
    fn set_running(&mut self, limit: Option<Duration>) {
        self.busy_until = limit.map(|limit| Instant::now() + limit);
    }

    fn len(&self) -> usize {
        self.urgent.len() + self.others.len()
    }

    /// Drops all jobs and accepts no more. Callers that wait for a dropped job get [`CallError::Ended`] at once.
    fn close(&mut self) {
        *self = Self { closed: true, ..Self::default() };
    }
}

/// Closes the queue when the thread ends, even by a panic.
struct CloseOnDrop(Arc<WorkerShared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        lock_unpoisoned(&self.0.queue).close();
    }
}

/// Everything that a plugin's thread needs.
pub(crate) struct SpawnConfig {
    pub runtime: Arc<Runtime>,
    pub code: PluginCode,
    pub interpreters: Interpreters,
    pub exports: Vec<Export>,
    pub context: Arc<PluginContext>,
    pub limits: Limits,
    pub on_stop: OnStop,
}

impl SpawnConfig {
    /// Compiles the plugin on this thread, starts its own thread, and waits until the plugin is loaded there.
    ///
    /// # Errors
    /// If it cannot be compiled or loaded, or its lists of commands, widgets or events are not valid.
    pub fn spawn(self) -> Result<WorkerHandle, StartError> {
        let plugin = match &self.code {
            PluginCode::Component(binary) => {
                let component = self.runtime.compile(binary)?;
                PluginPre::new(&self.runtime, &component, &self.exports)?
            }
            PluginCode::Script(script) => {
                let component = self.runtime.interpreter(script.language, &self.interpreters)?;
                PluginPre::for_interpreter(&self.runtime, &component, &self.exports)?
            }
        };
        let mut worker = Worker {
            runtime: self.runtime,
            plugin,
            context: self.context,
            limits: self.limits,
            instance: None,
            on_stop: self.on_stop,
            shared: Arc::new(WorkerShared::new(Vec::new(), Vec::new(), &[], Vec::new())),
            widget_timers: Vec::new(),
        };
        let exports = self.exports;
        let (loaded_sender, loaded) = mpsc::sync_channel(1);
        let (wake, wakeups) = mpsc::channel();
        let run = move || {
            let result = worker.load(exports).map(Arc::new);
            let shared = result.as_ref().ok().cloned();
            let _ = loaded_sender.send(result);
            if let Some(shared) = shared {
                worker.widget_timers = shared.widgets.iter().map(|_| WidgetTimer::default()).collect();
                worker.shared = shared;
                worker.run(&wakeups);
            }
        };
        thread::Builder::new()
            .name("hfs-plugin".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(run)
            .map_err(|error| StartError::Thread(error.to_string()))?;
        // Bounded, because every call in `Worker::load` has a deadline.
        let shared = loaded.recv().map_err(|_| StartError::ThreadPanicked)??;
        Ok(WorkerHandle { wake, shared })
    }
}

/// When a widget is rendered.
#[derive(Debug, Clone, Copy, Default)]
struct WidgetTimer {
    due: Option<Instant>,
    last_rendered: Option<Instant>,
}

/// The state of a plugin's thread.
struct Worker {
    runtime: Arc<Runtime>,
    plugin: PluginPre,
    context: Arc<PluginContext>,
    limits: Limits,
    /// `None` before the first call, and after a call that was stopped.
    instance: Option<Instance>,
    on_stop: OnStop,
    shared: Arc<WorkerShared>,
    /// One for each widget.
    widget_timers: Vec<WidgetTimer>,
}

impl Worker {
    /// Creates the first instance, and reads the plugin's lists of commands, widgets and event patterns.
    #[allow(
        clippy::redundant_closure_for_method_calls,
        reason = "a path to the method is not general over the lifetime of `GuestCall`"
    )]
    fn load(&mut self, exports: Vec<Export>) -> Result<WorkerShared, StartError> {
        let limit = self.limits.start;
        self.attempt(None, limit, |_| Ok(Ok(()))).map_err(|error| match error {
            GuestError::Stopped(reason) => StartError::Load(reason.to_string()),
            GuestError::Returned(reason) => StartError::Load(reason),
        })?;
        let listing_error = |what, error| match error {
            GuestError::Stopped(reason) => StartError::StoppedInListing { what, reason: reason.to_string() },
            GuestError::Returned(reason) => StartError::InvalidListing { what, reason },
        };
        let commands = self
            .attempt(None, limit, |guest| guest.list_commands())
            .map_err(|error| listing_error("commands", error))?;
        let widgets = self
            .attempt(None, limit, |guest| guest.list_widgets())
            .map_err(|error| listing_error("widgets", error))?;
        let patterns = self
            .attempt(None, limit, |guest| guest.event_patterns())
            .map_err(|error| listing_error("events", error))?;
        Ok(WorkerShared::new(exports, commands, &patterns, widgets))
    }

    /// Handles jobs until the plugin is ended. Widgets are rendered only while no job waits.
    fn run(mut self, wakeups: &mpsc::Receiver<()>) {
        let _close = CloseOnDrop(Arc::clone(&self.shared));
        while !self.shared.ended.load(Ordering::Acquire) {
            let next_due = self.widget_timers.iter().filter_map(|timer| timer.due).min();
            let is_woken = match next_due {
                Some(due) => match wakeups.recv_timeout(due.saturating_duration_since(Instant::now())) {
                    Ok(()) => true,
                    Err(mpsc::RecvTimeoutError::Timeout) => false,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                },
                None => match wakeups.recv() {
                    Ok(()) => true,
                    Err(mpsc::RecvError) => return,
                },
            };
            if self.shared.ended.load(Ordering::Acquire) {
                return;
            }
            if is_woken {
                let job = lock_unpoisoned(&self.shared.queue).pop();
                if let Some(job) = job {
                    (job.work)(&mut self);
                }
            } else {
                self.render_due_widget();
            }
            lock_unpoisoned(&self.shared.queue).set_running(None);
        }
    }

    /// Calls the plugin for a job, and reports a failure. A successful call schedules all widgets, because it may have
    /// changed what they show.
    fn call<T>(
        &mut self,
        kind: CallKind,
        session: Option<SessionId>,
        limit: Duration,
        function: impl FnOnce(GuestCall<'_>) -> CallResult<T>,
    ) -> Result<T, GuestError> {
        let result = self.attempt(session, limit, function);
        match &result {
            Ok(_) => self.schedule_all_widgets(),
            Err(error) => self.report_failure(kind, error),
        }
        result
    }

    fn report_failure(&self, kind: CallKind, error: &GuestError) {
        match error {
            GuestError::Returned(message) => self.log_error(&format!("{kind}: {message}")),
            GuestError::Stopped(reason) => {
                let reason = reason.to_string();
                self.log_error(&format!("stopped in {kind}: {reason}"));
                match (self.on_stop)(kind, &reason) {
                    AfterStop::Continue => {}
                    AfterStop::End => self.shared.ended.store(true, Ordering::Release),
                }
            }
        }
    }

    /// Writes to the plugin's log. `hfs plugin dev` and `hfs plugin check` recognize these lines by their `(hfs)`.
    fn log_error(&self, text: &str) {
        self.context.log.write(self.context.clock.now(), LogLevel::Error, &format!("(hfs) {text}"));
    }

    /// Calls the plugin. The instance is kept for the next call, unless this call was stopped.
    fn attempt<T>(
        &mut self,
        session: Option<SessionId>,
        limit: Duration,
        function: impl FnOnce(GuestCall<'_>) -> CallResult<T>,
    ) -> Result<T, GuestError> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.new_instance(session)?,
        };
        let deadline = Instant::now() + limit;
        let result = instance.call(&self.runtime, CallContext::new(session, deadline), function);
        self.schedule_widgets(&instance.take_invalidated_widgets());
        match &result {
            Err(GuestError::Stopped(_)) => drop(instance),
            Ok(_) | Err(GuestError::Returned(_)) => self.instance = Some(instance),
        }
        // Also after a failed call: values that the plugin stored before the failure are kept.
        if let Err(error) = lock_unpoisoned(&self.context.storage).finish_call() {
            self.log_error(&format!("the values it stored were lost: {error}"));
        }
        result
    }

    /// Creates an instance, and loads the script if there is one. This has its own time limit, so that the call that
    /// needs the instance keeps its full time.
    #[allow(
        clippy::redundant_closure_for_method_calls,
        reason = "a path to the method is not general over the lifetime of `GuestCall`"
    )]
    fn new_instance(&self, session: Option<SessionId>) -> Result<Instance, GuestError> {
        let call = || CallContext::new(session, Instant::now() + self.limits.start);
        let context = Arc::clone(&self.context);
        let memory = self.limits.memory_bytes;
        let mut instance = Instance::new(&self.runtime, &self.plugin, context, memory, call())?;
        instance.call(&self.runtime, call(), |guest| guest.load())?;
        Ok(instance)
    }

    fn schedule_all_widgets(&mut self) {
        let all: Vec<usize> = (0..self.widget_timers.len()).collect();
        self.schedule(&all);
    }

    fn schedule_widgets(&mut self, ids: &[String]) {
        let widgets = self.shared.widgets.iter().enumerate();
        let named: Vec<usize> =
            widgets.filter(|(_, widget)| ids.contains(&widget.id)).map(|(index, _)| index).collect();
        self.schedule(&named);
    }

    fn schedule(&mut self, widgets: &[usize]) {
        match *lock_unpoisoned(&self.shared.view) {
            WidgetView::Hidden => return,
            WidgetView::Shown(_) => {}
        }
        let now = Instant::now();
        for index in widgets {
            if let Some(timer) = self.widget_timers.get_mut(*index) {
                let earliest = timer.last_rendered.map_or(now, |at| now.max(at + MIN_RENDER_INTERVAL));
                timer.due = Some(timer.due.map_or(earliest, |due| due.min(earliest)));
            }
        }
    }

    /// Renders one widget only, so that a job that arrives meanwhile waits for one rendering at most.
    fn render_due_widget(&mut self) {
        let view = *lock_unpoisoned(&self.shared.view);
        let session = match view {
            WidgetView::Hidden => {
                self.widget_timers.iter_mut().for_each(|timer| timer.due = None);
                return;
            }
            WidgetView::Shown(session) => session,
        };
        let now = Instant::now();
        let due = self.widget_timers.iter().position(|timer| timer.due.is_some_and(|due| due <= now));
        if let Some(index) = due {
            lock_unpoisoned(&self.shared.queue).set_running(Some(self.limits.render));
            self.render(index, session);
        }
    }

    fn render(&mut self, index: usize, session: Option<SessionId>) {
        let Some(widget) = self.shared.widgets.get(index).cloned() else { return };
        if let Some(timer) = self.widget_timers.get_mut(index) {
            let now = Instant::now();
            *timer =
                WidgetTimer { due: widget.refresh.map(|refresh| now + refresh), last_rendered: Some(now) };
        }
        let limit = self.limits.render;
        match self.attempt(session, limit, |guest| guest.render_widget(&widget.id, session)) {
            Ok(nodes) => {
                let is_changed = lock_unpoisoned(&self.shared.rendered)
                    .get_mut(index)
                    .is_some_and(|rendered| rendered.replace(nodes.clone()) != Some(nodes));
                if is_changed {
                    self.context.notices.mark_changed();
                }
            }
            Err(error) => self.report_failure(CallKind::Render, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(millis: u64) -> Job {
        Job::new(Duration::from_millis(millis), |_| ())
    }

    #[test]
    fn urgent_jobs_run_first_and_report_their_longest_wait() {
        let mut queue = JobQueue::default();
        queue.push(job(1));
        queue.push(job(2));
        assert_eq!(queue.push_urgent(job(3)), Duration::ZERO);
        assert_eq!(queue.push_urgent(job(4)), Duration::from_millis(3));
        assert_eq!(queue.len(), 4);
        let order: Vec<u128> = std::iter::from_fn(|| queue.pop()).map(|job| job.limit.as_millis()).collect();
        assert_eq!(order, [3, 4, 1, 2]);
        queue.push(job(60_000));
        assert!(queue.pop().is_some());
        assert!(queue.push_urgent(job(1)) > Duration::from_secs(50));
    }
}
