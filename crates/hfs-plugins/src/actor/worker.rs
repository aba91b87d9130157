//! What a plugin's thread does.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use hfs_core::SessionId;

use super::{Handle, Shared, lock};
use crate::capability::Export;
use crate::discover::Code;
use crate::gate::{Call, Services};
use crate::guest::convert::{self, Called, Calling};
use crate::guest::{Blueprint, CallFailure, Instance};
use crate::host::Limits;
use crate::interpreter::Interpreters;
use crate::runtime::Runtime;

/// The stack of a plugin's thread: the plugin's own, and the host's functions on top of it.
const STACK: usize = 4 << 20;
/// No widget is drawn more often.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Told whenever a plugin had to be stopped: in what, and why. Answers whether it may go on.
pub(crate) type OnStop = Box<dyn Fn(&str, &str) -> bool + Send>;

/// Everything that a plugin's thread needs to begin.
pub(crate) struct Birth {
    pub runtime: Arc<Runtime>,
    pub code: Code,
    pub interpreters: Interpreters,
    pub exports: Vec<Export>,
    pub services: Arc<Services>,
    pub limits: Limits,
    pub on_stop: OnStop,
}

/// A plugin's thread.
pub(crate) struct Worker {
    runtime: Arc<Runtime>,
    blueprint: Blueprint,
    services: Arc<Services>,
    limits: Limits,
    instance: Option<Instance>,
    on_stop: OnStop,
    shared: Arc<Shared>,
    /// For each widget, when it is drawn next, and when it was drawn last.
    due: Vec<Option<Instant>>,
    drawn: Vec<Option<Instant>>,
}

/// Closes the lanes when the thread ends, however it does.
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        lock(&self.0.lanes).close();
    }
}

impl Birth {
    /// Compiles the plugin and begins it, on this thread, and goes on on one of its own.
    ///
    /// # Errors
    /// Why it does not run, on one line.
    pub fn begin(self) -> Result<Handle, String> {
        let blueprint = match &self.code {
            Code::Component(binary) => {
                let component = self.runtime.compile(binary)?;
                Blueprint::new(&self.runtime, &component, &self.exports)?
            }
            Code::Script(script) => {
                let component = self.runtime.interpreter(script.language, &self.interpreters)?;
                Blueprint::of_interpreter(&self.runtime, &component, &self.exports)?
            }
        };
        let mut worker = Worker {
            runtime: self.runtime,
            blueprint,
            services: self.services,
            limits: self.limits,
            instance: None,
            on_stop: self.on_stop,
            shared: Arc::new(Shared::new(Vec::new(), Vec::new(), &[], Vec::new())),
            due: Vec::new(),
            drawn: Vec::new(),
        };
        let (ready, born) = mpsc::sync_channel(1);
        let exports = self.exports;
        let (wake, waiting) = mpsc::channel();
        let run = move || {
            let shared = worker.introduce(exports).map(Arc::new);
            let goes_on = shared.as_ref().ok().cloned();
            // Whoever waits for it waits for as long as this takes, which is bounded.
            let _ = ready.send(shared);
            if let Some(shared) = goes_on {
                worker.due = shared.widgets.iter().map(|_| None).collect();
                worker.drawn.clone_from(&worker.due);
                worker.shared = shared;
                worker.run(&waiting);
            }
        };
        let name = "hfs-plugin".to_owned();
        thread::Builder::new()
            .name(name)
            .stack_size(STACK)
            .spawn(run)
            .map_err(|error| format!("no thread could be started for it: {error}"))?;
        let shared = born.recv().map_err(|_| "its thread broke down".to_owned())??;
        Ok(Handle { wake, shared })
    }
}

impl Worker {
    /// Asks the plugin what it has.
    fn introduce(&mut self, exports: Vec<Export>) -> Result<Shared, String> {
        let limit = self.limits.begin;
        self.attempt(None, limit, |_| Ok(Ok(()))).map_err(|failure| match failure {
            CallFailure::Stopped(reason) | CallFailure::Said(reason) => {
                format!("it does not begin: {reason}")
            }
        })?;
        let told = |what: &str, failure: CallFailure| match failure {
            CallFailure::Stopped(reason) => format!("it was stopped while it listed its {what}: {reason}"),
            CallFailure::Said(reason) => format!("its {what} make no sense: {reason}"),
        };
        let commands = self.attempt(None, limit, convert::list_commands).map_err(|f| told("commands", f))?;
        let widgets = self.attempt(None, limit, convert::list_widgets).map_err(|f| told("widgets", f))?;
        let patterns: Vec<String> =
            self.attempt(None, limit, convert::patterns).map_err(|f| told("events", f))?;
        Ok(Shared::new(exports, commands, &patterns, widgets))
    }

    fn run(mut self, waiting: &mpsc::Receiver<()>) {
        let _closing = Closing(Arc::clone(&self.shared));
        while !self.shared.ended.load(Ordering::Acquire) {
            let woken = match self.due.iter().flatten().min() {
                Some(due) => match waiting.recv_timeout(due.saturating_duration_since(Instant::now())) {
                    Ok(()) => true,
                    Err(mpsc::RecvTimeoutError::Timeout) => false,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                },
                None => match waiting.recv() {
                    Ok(()) => true,
                    Err(mpsc::RecvError) => return,
                },
            };
            if self.shared.ended.load(Ordering::Acquire) {
                return;
            }
            if woken {
                let job = lock(&self.shared.lanes).take();
                if let Some(job) = job {
                    job.run(&mut self);
                }
            } else {
                self.draw_due();
            }
            lock(&self.shared.lanes).at_work(None);
        }
    }

    /// Calls the plugin, and sees to what becomes of it.
    pub fn call<T>(
        &mut self,
        what: &str,
        session: Option<SessionId>,
        limit: Duration,
        call: impl for<'c> FnOnce(Calling<'c>) -> Called<T>,
    ) -> Result<T, CallFailure> {
        let result = self.attempt(session, limit, call);
        match &result {
            Ok(_) => self.redraw(),
            Err(CallFailure::Said(message)) => self.note("error", &format!("(hfs) {what}: {message}")),
            Err(CallFailure::Stopped(reason)) => {
                self.note("error", &format!("(hfs) stopped in {what}: {reason}"));
                if !(self.on_stop)(what, reason) {
                    self.shared.ended.store(true, Ordering::Release);
                }
            }
        }
        result
    }

    fn note(&self, level: &str, text: &str) {
        self.services.log.write(self.services.clock.now(), level, text);
    }

    /// Calls the plugin. An instance that went wrong is gone; the next call makes a new one.
    fn attempt<T>(
        &mut self,
        session: Option<SessionId>,
        limit: Duration,
        call: impl for<'c> FnOnce(Calling<'c>) -> Called<T>,
    ) -> Result<T, CallFailure> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.instance(session)?,
        };
        let deadline = Instant::now() + limit;
        let result =
            instance.call(&self.runtime, Call::new(session, deadline), |store, doors| call((store, doors)));
        self.wanted(&instance.take_stale());
        if !matches!(result, Err(CallFailure::Stopped(_))) {
            self.instance = Some(instance);
        }
        if let Err(error) = lock(&self.services.storage).finish() {
            self.note("error", &format!("(hfs) what it stored is lost: {error}"));
        }
        result
    }

    /// A new instance, with its source loaded. What that takes is not taken from the call for which it is made.
    fn instance(&self, session: Option<SessionId>) -> Result<Instance, CallFailure> {
        let call = || Call::new(session, Instant::now() + self.limits.begin);
        let services = Arc::clone(&self.services);
        let memory = self.limits.memory_bytes;
        let mut instance = Instance::new(&self.runtime, &self.blueprint, services, memory, call())?;
        instance.call(&self.runtime, call(), |store, doors| convert::load((store, doors)))?;
        Ok(instance)
    }

    /// Has all widgets drawn soon.
    pub fn redraw(&mut self) {
        let all: Vec<usize> = (0..self.due.len()).collect();
        self.schedule(&all);
    }

    fn wanted(&mut self, stale: &[String]) {
        let named = self.shared.widgets.iter().enumerate().filter(|(_, widget)| stale.contains(&widget.id));
        let named: Vec<usize> = named.map(|(index, _)| index).collect();
        self.schedule(&named);
    }

    fn schedule(&mut self, widgets: &[usize]) {
        if lock(&self.shared.focus).is_none() {
            return;
        }
        let now = Instant::now();
        for index in widgets {
            let earliest =
                self.drawn.get(*index).copied().flatten().map_or(now, |at| now.max(at + SHORTEST_PAUSE));
            if let Some(due) = self.due.get_mut(*index) {
                *due = Some(due.map_or(earliest, |due| due.min(earliest)));
            }
        }
    }

    /// Draws what is due, one widget at a time, so that nobody waits for more than that.
    fn draw_due(&mut self) {
        let Some(session) = *lock(&self.shared.focus) else {
            self.due.fill(None);
            return;
        };
        let now = Instant::now();
        let due = self.due.iter().position(|due| due.is_some_and(|due| due <= now));
        if let Some(index) = due {
            lock(&self.shared.lanes).at_work(Some(self.limits.render));
            self.draw(index, session);
        }
    }

    fn draw(&mut self, index: usize, session: Option<SessionId>) {
        let Some(widget) = self.shared.widgets.get(index).cloned() else { return };
        if let Some(due) = self.due.get_mut(index) {
            *due = widget.refresh.map(|refresh| Instant::now() + refresh);
        }
        if let Some(drawn) = self.drawn.get_mut(index) {
            *drawn = Some(Instant::now());
        }
        let limit = self.limits.render;
        let result = self.attempt(session, limit, |calling| convert::render(calling, &widget.id, session));
        match result {
            Ok(nodes) => {
                let changed = lock(&self.shared.pictures)
                    .get_mut(index)
                    .is_some_and(|picture| picture.replace(nodes.clone()) != Some(nodes));
                if changed {
                    self.services.notices.changed();
                }
            }
            Err(CallFailure::Said(message)) => self.note("error", &format!("(hfs) drawing: {message}")),
            Err(CallFailure::Stopped(reason)) => {
                self.note("error", &format!("(hfs) stopped in drawing: {reason}"));
                if !(self.on_stop)("drawing", &reason) {
                    self.shared.ended.store(true, Ordering::Release);
                }
            }
        }
    }
}
