//! A plugin's code: compiled once, and instances of it that are thrown away when they go wrong.

pub(crate) mod convert;

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::{Component, InstancePre};
use wasmtime::{Store, Trap, UpdateDeadline};

use crate::capability::Export;
use crate::contract::exports::hfs::plugin::{
    commands, on_event, on_exit, on_message, on_run_complete, on_start, widgets,
};
use crate::contract::hfs::plugin::types::Error as GuestError;
use crate::contract::runner::exports::hfs::runner::interpreter;
use crate::gate::{Call, GuestState, Services, TooMuchMemory};
use crate::runtime::{Runtime, first_line};

/// How many bytes may cross from the plugin to the host at once.
const MOST_CROSSING: usize = 8 << 20;
/// What a plugin may say at once: a message's text, a command's result.
const MOST_TEXT: usize = 4 << 20;
/// A longer error is cut, in characters.
const LONGEST_ERROR: usize = 2_000;

/// A compiled plugin whose imports have the contract's types. Those of its exports are seen when it begins.
pub(crate) struct Blueprint {
    pre: InstancePre<GuestState>,
    interpreter: Option<interpreter::GuestIndices>,
    start: Option<on_start::GuestIndices>,
    message: Option<on_message::GuestIndices>,
    event: Option<on_event::GuestIndices>,
    run_complete: Option<on_run_complete::GuestIndices>,
    exit: Option<on_exit::GuestIndices>,
    commands: Option<commands::GuestIndices>,
    widgets: Option<widgets::GuestIndices>,
}

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CallFailure {
    /// The plugin broke a rule and was stopped. Its instance is gone.
    Stopped(String),
    /// The plugin says that something went wrong.
    Said(String),
}

impl Blueprint {
    /// Makes a plugin of its compiled component, or of an interpreter's. Runs nothing of it.
    ///
    /// # Errors
    /// Why it cannot run here, on one line.
    pub fn new(runtime: &Runtime, component: &Component, exports: &[Export]) -> Result<Self, String> {
        let pre = runtime
            .linker()
            .instantiate_pre(component)
            .map_err(|error| format!("what it imports is not of the contract: {}", first_line(&error)))?;
        let mut blueprint = Self {
            interpreter: None,
            start: None,
            message: None,
            event: None,
            run_complete: None,
            exit: None,
            commands: None,
            widgets: None,
            pre,
        };
        for export in exports {
            blueprint.find(*export).map_err(|error| {
                format!("its {} is not of the contract: {}", export.as_str(), first_line(&error))
            })?;
        }
        Ok(blueprint)
    }

    /// The same of an interpreter, which has more than plugins have.
    ///
    /// # Errors
    /// Why it cannot run here, on one line.
    pub fn of_interpreter(
        runtime: &Runtime,
        component: &Component,
        exports: &[Export],
    ) -> Result<Self, String> {
        let mut blueprint = Self::new(runtime, component, exports)?;
        let indices = interpreter::GuestIndices::new(&blueprint.pre)
            .map_err(|error| format!("the interpreter is of another version: {}", first_line(&error)))?;
        blueprint.interpreter = Some(indices);
        Ok(blueprint)
    }

    fn find(&mut self, export: Export) -> wasmtime::Result<()> {
        let pre = &self.pre;
        match export {
            Export::OnStart => self.start = Some(on_start::GuestIndices::new(pre)?),
            Export::OnMessage => self.message = Some(on_message::GuestIndices::new(pre)?),
            Export::OnEvent => self.event = Some(on_event::GuestIndices::new(pre)?),
            Export::OnRunComplete => self.run_complete = Some(on_run_complete::GuestIndices::new(pre)?),
            Export::OnExit => self.exit = Some(on_exit::GuestIndices::new(pre)?),
            Export::Commands => self.commands = Some(commands::GuestIndices::new(pre)?),
            Export::Widgets => self.widgets = Some(widgets::GuestIndices::new(pre)?),
        }
        Ok(())
    }
}

/// A running plugin. After a failure it must not be called again.
pub(crate) struct Instance {
    store: Store<GuestState>,
    doors: Doors,
}

/// The exports of an instance.
pub(crate) struct Doors {
    interpreter: Option<interpreter::Guest>,
    start: Option<on_start::Guest>,
    message: Option<on_message::Guest>,
    event: Option<on_event::Guest>,
    run_complete: Option<on_run_complete::Guest>,
    exit: Option<on_exit::Guest>,
    commands: Option<commands::Guest>,
    widgets: Option<widgets::Guest>,
}

/// A plugin exports something under a name of the contract that is something else.
#[derive(Debug, thiserror::Error)]
#[error("what it has for {door} is not of the contract: {found}")]
struct WrongTypes {
    door: String,
    found: String,
}

/// The time that a call may take is over.
#[derive(Debug, thiserror::Error)]
#[error("it took longer than it may")]
struct Overdue;

impl Instance {
    /// Makes an instance, which runs what the plugin does when it begins.
    pub fn new(
        runtime: &Runtime,
        blueprint: &Blueprint,
        services: Arc<Services>,
        memory_bytes: usize,
        call: Call,
    ) -> Result<Self, CallFailure> {
        let _ticking = runtime.tick();
        let mut store = Store::new(runtime.engine(), GuestState::new(services, memory_bytes, call));
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(MOST_CROSSING);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            if Instant::now() >= store.data().call.deadline {
                return Err(wasmtime::Error::new(Overdue));
            }
            Ok(UpdateDeadline::Continue(1))
        });
        Self::open(store, blueprint).map_err(|error| CallFailure::Stopped(reason(&error)))
    }

    fn open(mut store: Store<GuestState>, blueprint: &Blueprint) -> wasmtime::Result<Self> {
        let instance = blueprint.pre.instantiate(&mut store)?;
        macro_rules! door {
            ($name:ident) => {{
                let loaded = blueprint.$name.as_ref().map(|indices| indices.load(&mut store, &instance));
                loaded.transpose().map_err(|error| WrongTypes {
                    door: stringify!($name).replace('_', " "),
                    found: first_line(&error),
                })?
            }};
        }
        let doors = Doors {
            interpreter: door!(interpreter),
            start: door!(start),
            message: door!(message),
            event: door!(event),
            run_complete: door!(run_complete),
            exit: door!(exit),
            commands: door!(commands),
            widgets: door!(widgets),
        };
        Ok(Self { store, doors })
    }

    /// Calls the plugin. After [`CallFailure::Stopped`] this instance is of no use any more.
    pub fn call<T>(
        &mut self,
        runtime: &Runtime,
        call: Call,
        through: impl FnOnce(&mut Store<GuestState>, &Doors) -> wasmtime::Result<Result<T, GuestError>>,
    ) -> Result<T, CallFailure> {
        let deadline = call.deadline;
        self.store.data_mut().call = call;
        let answer = {
            let _ticking = runtime.tick();
            self.store.set_epoch_deadline(1);
            through(&mut self.store, &self.doors)
        };
        match answer {
            // What hung in a call back finds its time over only here.
            Ok(_) if Instant::now() > deadline + GRACE => Err(CallFailure::Stopped(Overdue.to_string())),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(CallFailure::Said(said(&error))),
            Err(error) => Err(CallFailure::Stopped(reason(&error))),
        }
    }

    /// Takes the names of the widgets that are to be drawn anew.
    pub fn take_stale(&mut self) -> Vec<String> {
        std::mem::take(&mut self.store.data_mut().stale)
    }
}

/// A call that ends by itself so little late has done its work.
const GRACE: std::time::Duration = std::time::Duration::from_millis(20);

fn said(error: &GuestError) -> String {
    let text: String = error.message.chars().take(LONGEST_ERROR).collect();
    let text = text.trim_end();
    let code = &error.code;
    if text.is_empty() { code.chars().take(100).collect() } else { text.to_owned() }
}

/// Why a plugin was stopped, in a person's words.
fn reason(error: &wasmtime::Error) -> String {
    if let Some(overdue) = error.downcast_ref::<Overdue>() {
        return overdue.to_string();
    }
    if let Some(types) = error.downcast_ref::<WrongTypes>() {
        return types.to_string();
    }
    if let Some(memory) = error.downcast_ref::<TooMuchMemory>() {
        return memory.to_string();
    }
    if error.downcast_ref::<wasmtime_wasi::I32Exit>().is_some() {
        return "it ended itself".into();
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => "it panicked".into(),
        Some(Trap::StackOverflow) => "it called itself too deeply".into(),
        Some(trap) => format!("it broke down: {trap}"),
        None => {
            let cause = error.root_cause().to_string();
            cause.lines().next().unwrap_or("it broke down").to_owned()
        }
    }
}
