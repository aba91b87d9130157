//! Compiled plugins, their instances, and typed calls into them.
//!
//! [`PluginPre`] is a compiled and linked component, from which instances are created. An [`Instance`] owns the
//! plugin's memory. It is used for many calls, so that a plugin keeps its variables, but it is dropped after the first
//! call that the host had to stop: a trap leaves memory in an unknown state (a lock may be held, a list half changed),
//! and the component model forbids calling a component again after a trap.
//!
//! [`GuestCall`] has one method for each function of the contract. It validates and truncates everything that
//! a plugin returns, before the rest of hfs uses it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hfs_core::{Node, SessionId, Slot, Timestamp, Tone, Verdict};
use wasmtime::component::{Component, InstancePre};
use wasmtime::{Store, Trap, UpdateDeadline};

use crate::contract::Export;
use crate::contract::bindings::exports::hfs::plugin::{
    commands, on_event, on_exit, on_message, on_run_complete, on_start, widgets,
};
use crate::contract::bindings::hfs::plugin::types::{Error as ContractError, Message};
use crate::contract::bindings::runner::exports::hfs::runner::interpreter;
use crate::error::StartError;
use crate::host_functions::session::millis;
use crate::host_functions::{CallContext, InstanceState, MemoryExceeded, PluginContext};
use crate::runtime::{Runtime, first_line};

/// Maximum number of bytes that a plugin may pass to the host in one call.
const MAX_TRANSFER_BYTES: usize = 8 << 20;
/// Maximum size of a text that a plugin returns (a replaced message or the result of a command), in bytes.
const MAX_TEXT_BYTES: usize = 4 << 20;
/// Maximum length of a plugin's error message, in characters. Longer messages are truncated.
const MAX_ERROR_CHARS: usize = 2_000;
/// Maximum number of commands, widgets, event patterns, spans and columns.
const MAX_LISTED: usize = 64;
/// Maximum number of nodes of a widget.
const MAX_NODES: usize = 200;
/// Maximum number of rows of a table.
const MAX_ROWS: usize = 200;
/// Maximum number of values of a sparkline.
const MAX_VALUES: usize = 500;
/// Maximum length of a line, in characters. Longer lines are truncated.
const MAX_LINE_CHARS: usize = 400;
/// Shortest refresh interval of a widget.
const MIN_REFRESH: Duration = Duration::from_millis(250);
/// A call that returns at most this long after its deadline still succeeds: its result is complete, and the delay is
/// within the accuracy of the ticker.
const GRACE: Duration = Duration::from_millis(20);

/// A plugin that is compiled and whose imports are linked.
pub(crate) struct PluginPre {
    pre: InstancePre<InstanceState>,
    interpreter: Option<interpreter::GuestIndices>,
    on_start: Option<on_start::GuestIndices>,
    on_message: Option<on_message::GuestIndices>,
    on_event: Option<on_event::GuestIndices>,
    on_run_complete: Option<on_run_complete::GuestIndices>,
    on_exit: Option<on_exit::GuestIndices>,
    commands: Option<commands::GuestIndices>,
    widgets: Option<widgets::GuestIndices>,
}

/// Why a call into a plugin failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GuestError {
    /// The host stopped the call. The instance is lost.
    Stopped(StopReason),
    /// The plugin returned an error, or something that the contract does not allow. The instance can be used again.
    Returned(String),
}

/// Why the host stopped a call into a plugin. The text is shown to the user after the plugin's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StopReason {
    #[error("it exceeded its time limit")]
    Timeout,
    #[error(transparent)]
    Memory(MemoryExceeded),
    #[error("its {export} does not match the contract: {found}")]
    WrongTypes { export: &'static str, found: String },
    #[error("it called exit")]
    Exited,
    #[error("it panicked")]
    Panicked,
    #[error("it overflowed its stack")]
    StackOverflow,
    #[error("it trapped: {0}")]
    Trap(Trap),
    #[error("{0}")]
    Other(String),
}

impl From<wasmtime::Error> for StopReason {
    fn from(error: wasmtime::Error) -> Self {
        if let Some(reason) = error.downcast_ref::<Self>() {
            return reason.clone();
        }
        if let Some(memory) = error.downcast_ref::<MemoryExceeded>() {
            return Self::Memory(*memory);
        }
        if error.downcast_ref::<wasmtime_wasi::I32Exit>().is_some() {
            return Self::Exited;
        }
        match error.downcast_ref::<Trap>() {
            // Rust and C compile a panic or an abort to `unreachable`.
            Some(Trap::UnreachableCodeReached) => Self::Panicked,
            Some(Trap::StackOverflow) => Self::StackOverflow,
            Some(trap) => Self::Trap(*trap),
            None => {
                let cause = error.root_cause().to_string();
                Self::Other(cause.lines().next().unwrap_or("it failed").to_owned())
            }
        }
    }
}

impl PluginPre {
    /// Links a compiled component. This runs no plugin code.
    ///
    /// # Errors
    /// If the types of its imports or exports do not match the contract.
    pub fn new(runtime: &Runtime, component: &Component, exports: &[Export]) -> Result<Self, StartError> {
        let pre = runtime
            .linker()
            .instantiate_pre(component)
            .map_err(|error| StartError::Imports(first_line(&error)))?;
        let mut plugin = Self {
            interpreter: None,
            on_start: None,
            on_message: None,
            on_event: None,
            on_run_complete: None,
            on_exit: None,
            commands: None,
            widgets: None,
            pre,
        };
        for export in exports {
            plugin.find_export(*export).map_err(|error| StartError::ExportType {
                export: export.as_str(),
                error: first_line(&error),
            })?;
        }
        Ok(plugin)
    }

    /// Links the component of an interpreter. An interpreter exports all interfaces; the host calls only `exports`,
    /// those that the script implements.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn for_interpreter(
        runtime: &Runtime,
        component: &Component,
        exports: &[Export],
    ) -> Result<Self, StartError> {
        let mut plugin = Self::new(runtime, component, exports)?;
        let indices = interpreter::GuestIndices::new(&plugin.pre)
            .map_err(|error| StartError::ExportType { export: "interpreter", error: first_line(&error) })?;
        plugin.interpreter = Some(indices);
        Ok(plugin)
    }

    fn find_export(&mut self, export: Export) -> wasmtime::Result<()> {
        let pre = &self.pre;
        match export {
            Export::OnStart => self.on_start = Some(on_start::GuestIndices::new(pre)?),
            Export::OnMessage => self.on_message = Some(on_message::GuestIndices::new(pre)?),
            Export::OnEvent => self.on_event = Some(on_event::GuestIndices::new(pre)?),
            Export::OnRunComplete => self.on_run_complete = Some(on_run_complete::GuestIndices::new(pre)?),
            Export::OnExit => self.on_exit = Some(on_exit::GuestIndices::new(pre)?),
            Export::Commands => self.commands = Some(commands::GuestIndices::new(pre)?),
            Export::Widgets => self.widgets = Some(widgets::GuestIndices::new(pre)?),
        }
        Ok(())
    }
}

/// An instantiated plugin.
pub(crate) struct Instance {
    store: Store<InstanceState>,
    exports: Exports,
}

/// The exported functions of an instance.
struct Exports {
    interpreter: Option<interpreter::Guest>,
    on_start: Option<on_start::Guest>,
    on_message: Option<on_message::Guest>,
    on_event: Option<on_event::Guest>,
    on_run_complete: Option<on_run_complete::Guest>,
    on_exit: Option<on_exit::Guest>,
    commands: Option<commands::Guest>,
    widgets: Option<widgets::Guest>,
}

impl Instance {
    /// Creates an instance. This runs the plugin's own start code.
    pub fn new(
        runtime: &Runtime,
        plugin: &PluginPre,
        context: Arc<PluginContext>,
        memory_bytes: usize,
        call: CallContext,
    ) -> Result<Self, GuestError> {
        let _running = runtime.keep_ticking();
        let mut store = Store::new(runtime.engine(), InstanceState::new(context, memory_bytes, call));
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(MAX_TRANSFER_BYTES);
        // Deadlines by epoch: compiled code compares a counter at every loop and function entry, and calls this
        // function when the ticker has incremented it. The alternative, fuel, counts instructions and is exact, but the
        // limit is a time, and keeping the count makes compiled code slower.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            if Instant::now() >= store.data().call.deadline {
                return Err(wasmtime::Error::new(StopReason::Timeout));
            }
            Ok(UpdateDeadline::Continue(1))
        });
        Self::instantiate(store, plugin).map_err(|error| GuestError::Stopped(error.into()))
    }

    fn instantiate(mut store: Store<InstanceState>, plugin: &PluginPre) -> wasmtime::Result<Self> {
        let instance = plugin.pre.instantiate(&mut store)?;
        macro_rules! load {
            ($field:ident, $name:expr) => {{
                let loaded = plugin.$field.as_ref().map(|indices| indices.load(&mut store, &instance));
                loaded.transpose().map_err(|error| {
                    let found = first_line(&error);
                    wasmtime::Error::new(StopReason::WrongTypes { export: $name, found })
                })?
            }};
        }
        let exports = Exports {
            interpreter: load!(interpreter, "interpreter"),
            on_start: load!(on_start, Export::OnStart.as_str()),
            on_message: load!(on_message, Export::OnMessage.as_str()),
            on_event: load!(on_event, Export::OnEvent.as_str()),
            on_run_complete: load!(on_run_complete, Export::OnRunComplete.as_str()),
            on_exit: load!(on_exit, Export::OnExit.as_str()),
            commands: load!(commands, Export::Commands.as_str()),
            widgets: load!(widgets, Export::Widgets.as_str()),
        };
        Ok(Self { store, exports })
    }

    /// Calls the plugin. After [`GuestError::Stopped`] the instance must be dropped.
    pub fn call<T>(
        &mut self,
        runtime: &Runtime,
        call: CallContext,
        function: impl FnOnce(GuestCall<'_>) -> CallResult<T>,
    ) -> Result<T, GuestError> {
        let deadline = call.deadline;
        self.store.data_mut().call = call;
        let result = {
            let _running = runtime.keep_ticking();
            self.store.set_epoch_deadline(1);
            function(GuestCall { store: &mut self.store, exports: &self.exports })
        };
        match result {
            // The epoch is checked only while plugin code runs. This detects a call that waited in a host function
            // until after its deadline and then returned.
            Ok(_) if Instant::now() > deadline + GRACE => Err(GuestError::Stopped(StopReason::Timeout)),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(GuestError::Returned(error_text(&error))),
            Err(error) => Err(GuestError::Stopped(error.into())),
        }
    }

    /// Removes and returns the ids of the widgets that the plugin asked to redraw.
    pub fn take_invalidated_widgets(&mut self) -> Vec<String> {
        std::mem::take(&mut self.store.data_mut().invalidated_widgets)
    }
}

fn error_text(error: &ContractError) -> String {
    let text: String = error.message.chars().take(MAX_ERROR_CHARS).collect();
    let text = text.trim_end();
    if text.is_empty() { error.code.chars().take(100).collect() } else { text.to_owned() }
}

/// A command in a plugin's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandSpec {
    pub name: String,
    pub about: String,
    pub usage: String,
}

/// A widget in a plugin's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WidgetSpec {
    pub id: String,
    pub slot: Slot,
    pub title: String,
    pub refresh: Option<Duration>,
}

/// Result of a call into a plugin. The outer error is a trap, after which the instance is lost; the inner error is one
/// that the plugin returned, or a violation of the contract in what it returned.
pub(crate) type CallResult<T> = wasmtime::Result<Result<T, ContractError>>;

/// Access to an instance for one call.
pub(crate) struct GuestCall<'c> {
    store: &'c mut Store<InstanceState>,
    exports: &'c Exports,
}

impl GuestCall<'_> {
    /// Makes an interpreter load its script. Does nothing for other components.
    pub fn load(self) -> CallResult<()> {
        self.exports.interpreter.as_ref().map_or(Ok(Ok(())), |interpreter| interpreter.call_load(self.store))
    }

    pub fn on_start(self, session: SessionId) -> CallResult<()> {
        let Some(export) = &self.exports.on_start else { return Ok(Ok(())) };
        export.call_handle(self.store, &session.to_string())
    }

    /// `None` if the plugin does not export `on-message`.
    pub fn on_message(
        self,
        session: SessionId,
        text: &str,
        is_user: bool,
        now: Timestamp,
    ) -> CallResult<Option<Verdict>> {
        let Some(export) = &self.exports.on_message else { return Ok(Ok(None)) };
        let message = Message {
            id: String::new(),
            session: session.to_string(),
            role: if is_user { "user" } else { "assistant" }.to_owned(),
            author: None,
            text: text.to_owned(),
            created_ms: millis(now),
        };
        Ok(export.call_handle(&mut *self.store, &message)?.and_then(|verdict| {
            Ok(Some(match verdict {
                on_message::Verdict::Pass => Verdict::Pass,
                on_message::Verdict::Replace(text) if text.trim().is_empty() => {
                    return Err(invalid("it replaced a message with an empty text"));
                }
                on_message::Verdict::Replace(text) => Verdict::Replace(check_length(text, "a message")?),
                on_message::Verdict::Reject(reason) => Verdict::Reject {
                    plugin: self.store.data().context.plugin.clone(),
                    reason: sanitize_line(&reason),
                },
            }))
        }))
    }

    /// `event` is JSON.
    pub fn on_event(self, session: SessionId, event: &str) -> CallResult<()> {
        let Some(export) = &self.exports.on_event else { return Ok(Ok(())) };
        export.call_handle(self.store, &session.to_string(), event)
    }

    /// Patterns of the event types that the plugin wants.
    pub fn event_patterns(self) -> CallResult<Vec<String>> {
        let Some(export) = &self.exports.on_event else { return Ok(Ok(Vec::new())) };
        let mut patterns = export.call_patterns(self.store)?;
        patterns.truncate(MAX_LISTED);
        Ok(Ok(patterns))
    }

    /// `snapshot` is JSON.
    pub fn on_run_complete(self, session: SessionId, snapshot: &str) -> CallResult<()> {
        let Some(export) = &self.exports.on_run_complete else { return Ok(Ok(())) };
        export.call_handle(self.store, &session.to_string(), snapshot)
    }

    pub fn on_exit(self, session: SessionId) -> CallResult<()> {
        let Some(export) = &self.exports.on_exit else { return Ok(Ok(())) };
        export.call_handle(self.store, &session.to_string())?;
        Ok(Ok(()))
    }

    pub fn list_commands(self) -> CallResult<Vec<CommandSpec>> {
        let Some(export) = &self.exports.commands else { return Ok(Ok(Vec::new())) };
        let commands = export.call_list(self.store)?;
        if let Some(command) = commands.iter().find(|command| !is_command_name(&command.name)) {
            let name = sanitize_line(&command.name);
            return Ok(Err(invalid(format!("{name:?} is not a valid name for a command"))));
        }
        if commands.len() > MAX_LISTED {
            let count = commands.len();
            return Ok(Err(invalid(format!("{count} commands are too many; {MAX_LISTED} is the limit"))));
        }
        let spec = |command: commands::Command| CommandSpec {
            about: sanitize_line(&command.about),
            usage: sanitize_line(&command.usage),
            name: command.name,
        };
        Ok(Ok(commands.into_iter().map(spec).collect()))
    }

    /// Returns the Markdown that the command shows; `None` if it shows nothing.
    pub fn run_command(
        self,
        name: &str,
        arguments: &str,
        session: Option<SessionId>,
    ) -> CallResult<Option<String>> {
        let Some(export) = &self.exports.commands else { return Ok(Err(invalid("it has no commands"))) };
        let invocation = commands::Invocation {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            session: session.map(|session| session.to_string()),
        };
        Ok(export.call_run(self.store, &invocation)?.and_then(|outcome| match outcome {
            commands::Outcome::Done => Ok(None),
            commands::Outcome::Show(text) => check_length(text, "a result").map(Some),
        }))
    }

    pub fn list_widgets(self) -> CallResult<Vec<WidgetSpec>> {
        let Some(export) = &self.exports.widgets else { return Ok(Ok(Vec::new())) };
        let widgets = export.call_list(self.store)?;
        if widgets.len() > MAX_LISTED {
            let count = widgets.len();
            return Ok(Err(invalid(format!("{count} widgets are too many; {MAX_LISTED} is the limit"))));
        }
        let spec = |widget: widgets::Widget| {
            let slot = parse_slot(&widget.slot).ok_or_else(|| {
                invalid(format!("{:?} is not a slot for widgets", sanitize_line(&widget.slot)))
            })?;
            let refresh = widget.refresh_ms.map(|ms| Duration::from_millis(ms.into()).max(MIN_REFRESH));
            Ok(WidgetSpec { slot, title: sanitize_line(&widget.title), refresh, id: widget.id })
        };
        Ok(widgets.into_iter().map(spec).collect())
    }

    pub fn render_widget(self, id: &str, session: Option<SessionId>) -> CallResult<Vec<Node>> {
        let Some(export) = &self.exports.widgets else { return Ok(Err(invalid("it has no widgets"))) };
        let session = session.map(|session| session.to_string());
        let nodes = export.call_render(self.store, id, session.as_deref())?;
        Ok(nodes.map(|nodes| nodes.into_iter().take(MAX_NODES).map(convert_node).collect()))
    }
}

fn invalid(message: impl Into<String>) -> ContractError {
    ContractError { code: "invalid".to_owned(), message: message.into() }
}

fn check_length(text: String, what: &str) -> Result<String, ContractError> {
    if text.len() > MAX_TEXT_BYTES {
        let bytes = text.len();
        return Err(invalid(format!("{what} of {bytes} bytes is too long; {MAX_TEXT_BYTES} is the limit")));
    }
    Ok(text)
}

/// Replaces line breaks by spaces, and removes control characters, which a terminal would interpret.
fn sanitize_line(text: &str) -> String {
    text.chars()
        .take(MAX_LINE_CHARS)
        .map(|c| if c == '\n' || c == '\t' { ' ' } else { c })
        .filter(|c| !c.is_control())
        .collect()
}

fn is_command_name(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=40).contains(&text.len()) && text.chars().all(is_allowed) && !text.starts_with('-')
}

fn parse_slot(name: &str) -> Option<Slot> {
    match name {
        "sidebar" => Some(Slot::Sidebar),
        "status-bar" => Some(Slot::StatusBar),
        "panel" => Some(Slot::Panel),
        _ => None,
    }
}

fn convert_node(node: widgets::Node) -> Node {
    let cells = |texts: Vec<String>| texts.iter().take(MAX_LISTED).map(|text| sanitize_line(text)).collect();
    match node {
        widgets::Node::Text(spans) => {
            let spans = spans.iter().take(MAX_LISTED);
            Node::Text(spans.map(|span| (sanitize_line(&span.text), convert_tone(span.tone))).collect())
        }
        widgets::Node::Gauge(gauge) => Node::Gauge {
            label: sanitize_line(&gauge.label),
            ratio: if gauge.ratio.is_finite() { gauge.ratio.clamp(0.0, 1.0) } else { 0.0 },
        },
        widgets::Node::Table(table) => Node::Table {
            header: cells(table.header),
            rows: table.rows.into_iter().take(MAX_ROWS).map(cells).collect(),
        },
        widgets::Node::Sparkline(values) => {
            Node::Sparkline { values: values.into_iter().take(MAX_VALUES).collect() }
        }
    }
}

const fn convert_tone(tone: widgets::Tone) -> Tone {
    match tone {
        widgets::Tone::Plain => Tone::Plain,
        widgets::Tone::Dim => Tone::Dim,
        widgets::Tone::Accent => Tone::Accent,
        widgets::Tone::Good => Tone::Good,
        widgets::Tone::Warn => Tone::Warn,
        widgets::Tone::Bad => Tone::Bad,
    }
}
