//! All plugins together: which there are, which may run, and what becomes of them.

mod activate;
mod decide;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use hfs_core::{Clock, SessionId, Store};
use tokio::sync::watch;

use crate::PluginError;
use crate::actor::{Handle, NoAnswer, lock};
use crate::discover::{Found, Place, discover, look};
use crate::grants::Grants;
use crate::guest::CallFailure;
use crate::guest::convert;
use crate::interpreter::Interpreters;
use crate::log::PluginLog;
use crate::notices::Notices;
use crate::runtime::Runtime;
use crate::session_states::SessionStates;
use crate::widget::Picture;
pub use state::{PluginStatus, State};

/// How long a call waits for plugins that are still being started.
const START_PATIENCE: Duration = Duration::from_secs(15);

/// What is said of a message that a plugin should have seen.
const UNSEEN: &str = "a message went on without it";

/// What a plugin's call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A hook.
    pub hook: Duration,
    /// A command.
    pub command: Duration,
    /// Drawing a widget.
    pub render: Duration,
    /// To begin, and to list what it has.
    pub begin: Duration,
    /// The memory of one plugin.
    pub memory_bytes: usize,
    /// How often it is stopped before it is quarantined.
    pub strikes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hook: Duration::from_millis(50),
            command: Duration::from_secs(5),
            render: Duration::from_millis(20),
            begin: Duration::from_secs(2),
            memory_bytes: 64 << 20,
            strikes: 3,
        }
    }
}

/// What the host of plugins is made of.
#[derive(Clone)]
pub struct HostParts {
    /// Where hfs keeps its own things.
    pub home: PathBuf,
    /// Where machine code is kept. Nobody else may write there.
    pub cache: PathBuf,
    /// The folder of the project's plugins, if it has one.
    pub project: Option<PathBuf>,
    /// The one plugin there is, wherever it lies: for those who try out what they write.
    pub only: Option<PathBuf>,
    /// The user's home directory: what `~` stands for.
    pub user_home: Option<PathBuf>,
    /// The plugins that are not to run, with where that is said.
    pub disabled: BTreeSet<String>,
    /// What runs plugins that are source.
    pub interpreters: Interpreters,
    /// What plugins read sessions from.
    pub store: Option<Arc<dyn Store>>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What calls may take.
    pub limits: Limits,
}

/// All plugins. Clones share everything; when the last one goes, the plugins end.
#[derive(Clone)]
pub struct Plugins {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    parts: HostParts,
    grants: Grants,
    table: Mutex<Table>,
    runtime: OnceLock<Result<Arc<Runtime>, String>>,
    notices: Arc<Notices>,
    states: Arc<SessionStates>,
    /// How many things have to be done before everything that may run does.
    starting: watch::Sender<usize>,
    hanging: Arc<AtomicUsize>,
}

/// What is known of each plugin, by name.
#[derive(Default)]
pub(crate) struct Table {
    entries: BTreeMap<String, Entry>,
    disabled: BTreeSet<String>,
    /// Why the decisions cannot be read, if they cannot.
    bad_grants: Option<String>,
}

pub(crate) struct Entry {
    found: Found,
    state: State,
    reason: String,
    new_powers: Vec<crate::Power>,
    handle: Option<Handle>,
}

/// A command of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandInfo {
    /// What it is called by: its name, or `plugin:name` where several have it.
    pub name: String,
    /// The plugin.
    pub plugin: String,
    /// One line.
    pub about: String,
    /// What goes behind the name; may be empty.
    pub usage: String,
}

impl Plugins {
    /// Looks for plugins and starts those that may run, all of it away from the caller, who does not wait.
    #[must_use]
    pub fn begin(parts: HostParts) -> Self {
        let plugins = Self::new(parts);
        let inner = Arc::clone(&plugins.inner);
        inner.starting.send_modify(|count| *count += 1);
        let work = move || {
            inner.refresh();
            inner.tell_idle();
            inner.starting.send_modify(|count| *count -= 1);
        };
        if let Err(error) = thread::Builder::new().name("hfs-plugins".into()).spawn(work) {
            tracing::warn!("no thread could be started for plugins: {error}");
            plugins.inner.starting.send_modify(|count| *count -= 1);
        }
        plugins
    }

    /// The same without starting anything: what there is, and decisions about it.
    #[must_use]
    pub fn look(parts: HostParts) -> Self {
        let plugins = Self::new(parts);
        plugins.inner.rediscover();
        plugins
    }

    fn new(parts: HostParts) -> Self {
        let inner = Inner {
            grants: Grants::new(parts.home.join("plugin_permissions.yaml")),
            table: Mutex::new(Table { disabled: parts.disabled.clone(), ..Table::default() }),
            runtime: OnceLock::new(),
            notices: Arc::new(Notices::new()),
            states: Arc::new(SessionStates::default()),
            starting: watch::Sender::new(0),
            hanging: Arc::new(AtomicUsize::new(0)),
            parts,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Waits until everything that may run does, or has turned out not to.
    pub async fn started(&self) {
        let mut starting = self.inner.starting.subscribe();
        // The sender is ours: it does not go while this waits.
        let _ = tokio::time::timeout(START_PATIENCE, starting.wait_for(|count| *count == 0)).await;
    }

    /// All plugins, in the order of names.
    #[must_use]
    pub fn list(&self) -> Vec<PluginStatus> {
        lock(&self.inner.table).entries.values().map(Entry::status).collect()
    }

    /// One plugin.
    ///
    /// # Errors
    /// `NoPlugin`.
    pub fn get(&self, name: &str) -> Result<PluginStatus, PluginError> {
        let table = lock(&self.inner.table);
        table.entry(name).map(Entry::status)
    }

    /// Counts up whenever there is something new to see.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.notices.changes.subscribe()
    }

    /// What plugins told the user since the last time this was asked.
    #[must_use]
    pub fn take_notices(&self) -> Vec<String> {
        self.inner.notices.take()
    }

    /// The commands of all running plugins. Where several have one of the same name, each is called
    /// `plugin:name`.
    #[must_use]
    pub fn commands(&self) -> Vec<CommandInfo> {
        let table = lock(&self.inner.table);
        let all: Vec<_> = table
            .running()
            .flat_map(|(name, handle)| {
                handle.shared().commands.iter().map(move |command| (name.to_owned(), command.clone()))
            })
            .collect();
        let clashes = |name: &str| all.iter().filter(|(_, command)| command.name == name).count() > 1;
        all.iter()
            .map(|(plugin, command)| CommandInfo {
                name: if clashes(&command.name) {
                    format!("{plugin}:{}", command.name)
                } else {
                    command.name.clone()
                },
                plugin: plugin.clone(),
                about: command.about.clone(),
                usage: command.usage.clone(),
            })
            .collect()
    }

    /// Runs a command, called by its name or by `plugin:name`, and returns what it says, as Markdown; `None` when
    /// it says nothing.
    ///
    /// # Errors
    /// `NoCommand`, `Ambiguous`, and what went wrong in the plugin.
    pub async fn run(
        &self,
        command: &str,
        arguments: &str,
        session: Option<SessionId>,
    ) -> Result<Option<String>, PluginError> {
        self.started().await;
        let (plugin, name, handle) = lock(&self.inner.table).command(command)?;
        let arguments = arguments.to_owned();
        let limit = self.inner.parts.limits.command;
        let answer = handle.ask("a command", session, limit, move |calling| {
            convert::run_command(calling, &name, &arguments, session)
        });
        answer.await.map_err(|error| told(&plugin, command, error))
    }

    /// The widgets of all running plugins as they were drawn last, and from now on for this session.
    #[must_use]
    pub fn pictures(&self, session: Option<SessionId>) -> Vec<Picture> {
        let table = lock(&self.inner.table);
        let mut pictures = Vec::new();
        for (name, handle) in table.running() {
            handle.look_at(session);
            let shared = handle.shared();
            for (widget, nodes) in shared.widgets.iter().zip(lock(&shared.pictures).iter()) {
                pictures.extend(nodes.as_ref().map(|nodes| Picture {
                    plugin: name.to_owned(),
                    slot: widget.slot,
                    title: widget.title.clone(),
                    nodes: nodes.clone(),
                }));
            }
        }
        pictures
    }

    /// The newest lines of a plugin's log, oldest first.
    ///
    /// # Errors
    /// `NoPlugin`; as the system has it.
    pub fn log(&self, name: &str, lines: usize) -> Result<Vec<String>, PluginError> {
        let data_name = lock(&self.inner.table).entry(name)?.found.data_name();
        PluginLog::new(&self.inner.parts.log_folder(), &data_name).tail(lines)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }
}

/// A failed answer, in a plugin's name.
pub(crate) fn told(plugin: &str, call: &str, error: NoAnswer) -> PluginError {
    let name = plugin.to_owned();
    match error {
        NoAnswer::Failed(CallFailure::Stopped(reason)) => {
            PluginError::Stopped { name, call: call.to_owned(), reason }
        }
        NoAnswer::Failed(CallFailure::Said(message)) => PluginError::Failed { name, message },
        NoAnswer::Busy => PluginError::Busy { name },
        NoAnswer::Gone => PluginError::NotActive { name, state: "stopped", reason: String::new() },
    }
}

impl HostParts {
    fn plugin_folder(&self) -> PathBuf {
        self.home.join("plugins")
    }

    fn log_folder(&self) -> PathBuf {
        self.home.join("logs").join("plugins")
    }
}

impl Inner {
    pub(crate) const fn limits(&self) -> Limits {
        self.parts.limits
    }

    pub(crate) fn states(&self) -> &SessionStates {
        &self.states
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.parts.clock.as_ref()
    }

    /// The running plugins that have this, in the order of their names.
    pub(crate) fn running_with(&self, export: crate::Export) -> Vec<(String, Handle)> {
        let table = lock(&self.table);
        let with = table.running().filter(|(_, handle)| handle.has(export));
        with.map(|(name, handle)| (name.to_owned(), handle.clone())).collect()
    }

    /// A hook came to nothing, and its work went on without it. Of what was stopped the user knows already.
    pub(crate) fn tell_failure(&self, plugin: &str, call: &str, error: &NoAnswer) {
        match error {
            NoAnswer::Failed(CallFailure::Said(message)) => {
                self.notices.tell(plugin, &format!("{call} failed: {message}"));
            }
            NoAnswer::Busy => self.notices.tell(plugin, &format!("{call} was left out: it is busy")),
            NoAnswer::Failed(CallFailure::Stopped(_)) | NoAnswer::Gone => {}
        }
    }

    /// A message went on without a plugin having seen it. Of what was stopped the user knows already.
    pub(crate) fn tell_unseen(&self, plugin: &str, error: &NoAnswer) {
        let why = match error {
            NoAnswer::Failed(CallFailure::Stopped(_)) => return,
            NoAnswer::Failed(CallFailure::Said(message)) => message,
            NoAnswer::Busy => "it was busy for too long",
            NoAnswer::Gone => "it does not run any more",
        };
        self.notices.tell(plugin, &format!("{UNSEEN}: {why}"));
    }

    /// A message goes on, and there are plugins that were to see it and have not started in the time that is waited
    /// for that.
    pub(crate) fn tell_unstarted(&self) {
        let table = lock(&self.table);
        let late = table.entries.iter().filter(|(_, entry)| entry.is_late_for(crate::Export::OnMessage));
        late.for_each(|(name, _)| self.notices.tell(name, &format!("{UNSEEN}: it is still being started")));
    }

    /// Looks for plugins anew and starts those that may run.
    fn refresh(self: &Arc<Self>) {
        self.rediscover();
        let names: Vec<String> = lock(&self.table).entries.keys().cloned().collect();
        for name in names {
            self.activate(&name);
        }
    }

    /// Tells of the plugins that the user put here and that do not run: whoever relies on one has to know.
    fn tell_idle(&self) {
        for entry in lock(&self.table).entries.values().filter(|entry| entry.is_missed()) {
            let text = format!("does not run, it is {}: {}", entry.state, entry.reason);
            self.notices.tell(&entry.found.name, &text);
        }
    }

    /// Looks for plugins anew. One that runs goes on if it is still what it was.
    fn rediscover(&self) {
        let found = match &self.parts.only {
            Some(folder) => {
                let found = look(folder, Place::Home);
                BTreeMap::from([(found.name.clone(), found)])
            }
            None => discover(&self.parts.plugin_folder(), self.parts.project.as_deref()),
        };
        let grants = self.grants.read();
        let mut table = lock(&self.table);
        let mut before = std::mem::take(&mut table.entries);
        table.bad_grants = grants.as_ref().err().map(ToString::to_string);
        let grants = grants.unwrap_or_default();
        for (name, found) in found {
            let mut entry = table.judge(found, &grants);
            let old = before.remove(&name);
            entry.take_over(old);
            table.entries.insert(name, entry);
        }
        before.into_values().for_each(Entry::end);
        drop(table);
        self.notices.changed();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for entry in lock(&self.table).entries.values() {
            if let Some(handle) = &entry.handle {
                handle.end();
            }
        }
    }
}
