//! The plugin host: discovers plugins, tracks their states, and owns the threads of running plugins.
//!
//! A table holds one entry for each plugin. It is rebuilt by discovery; an entry whose files and approval did not
//! change keeps its running thread. Starting a plugin may take seconds, because its code is compiled. It therefore
//! happens on a new thread without the table's lock, and the result is used only if the entry has not changed
//! meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use hfs_core::{Clock, Node, SessionId, Slot, Store, SystemClock, lock_unpoisoned};
use serde_json::Value;
use tokio::sync::watch;

use crate::PluginError;
use crate::approval::{Approval, Approvals, Assessment, Decision, PluginState};
use crate::contract::{Capability, Export};
use crate::error::StartError;
use crate::host_functions::{FolderGrants, PluginContext};
use crate::instance::GuestError;
use crate::interpreter::Interpreters;
use crate::log::PluginLog;
use crate::notices::Notices;
use crate::permission::{Permission, not_granted};
use crate::plugin::{FoundPlugin, Place, PluginCode, PluginContent, discover};
use crate::runtime::{Runtime, RuntimeError};
use crate::storage::{PluginStorage, SessionStates};
use crate::worker::{AfterStop, CallError, CallKind, SpawnConfig, WorkerHandle};

/// How long [`Plugins::started`] waits.
const MAX_START_WAIT: Duration = Duration::from_secs(15);
/// Size limit of the file with the settings of plugins, in bytes.
const MAX_SETTINGS_BYTES: u64 = 1 << 20;
/// Part of every notice about a message that a plugin did not see. Such messages are always reported, because the user
/// may rely on a plugin to check them.
pub(crate) const MISSED_MESSAGE: &str = "a message continued without it";

/// Limits of calls into plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Time limit of a hook.
    pub hook: Duration,
    /// Time limit of a command.
    pub command: Duration,
    /// Time limit for rendering a widget.
    pub render: Duration,
    /// Time limit for creating an instance, and for listing its commands, its widgets or its event patterns.
    pub start: Duration,
    /// Memory limit of one plugin.
    pub memory_bytes: usize,
    /// Number of stops after which a plugin is quarantined.
    pub strikes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hook: Duration::from_millis(50),
            command: Duration::from_secs(5),
            render: Duration::from_millis(20),
            start: Duration::from_secs(2),
            memory_bytes: 64 << 20,
            strikes: 3,
        }
    }
}

/// Configuration of a [`Plugins`] host.
#[derive(Clone)]
#[non_exhaustive]
pub struct HostConfig {
    /// Home directory of hfs, with the user's plugins, approvals, settings, logs and stored values.
    pub home: PathBuf,
    /// Folder of compiled code. No other user may be able to write there.
    pub cache: PathBuf,
    /// Folder of the project's plugins, if there is a project.
    pub project: Option<PathBuf>,
    /// If set, only the plugin in this folder is used. For `hfs plugin dev` and similar commands.
    pub only: Option<PathBuf>,
    /// The user's home directory, for `~` in `permissions.filesystem`.
    pub user_home: Option<PathBuf>,
    /// Names of disabled plugins.
    pub disabled: BTreeSet<String>,
    /// Interpreters for scripts.
    pub interpreters: Interpreters,
    /// The store that plugins read sessions from. Without one, reading sessions fails.
    pub store: Option<Arc<dyn Store>>,
    /// Clock for logs and for the plugins themselves.
    pub clock: Arc<dyn Clock>,
    /// Limits of calls.
    pub limits: Limits,
}

impl HostConfig {
    /// A configuration with the user's plugins only, no store and no interpreters.
    #[must_use]
    pub fn new(home: PathBuf, cache: PathBuf) -> Self {
        Self {
            home,
            cache,
            project: None,
            only: None,
            user_home: None,
            disabled: BTreeSet::new(),
            interpreters: Interpreters::default(),
            store: None,
            clock: Arc::new(SystemClock),
            limits: Limits::default(),
        }
    }

    fn log_folder(&self) -> PathBuf {
        self.home.join("logs").join("plugins")
    }
}

/// All plugins. Clones share their state; dropping the last one stops the plugins.
#[derive(Clone)]
pub struct Plugins {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    config: HostConfig,
    pub approvals: Approvals,
    pub table: Mutex<Table>,
    /// Created when the first plugin starts.
    runtime: OnceLock<Result<Arc<Runtime>, RuntimeError>>,
    pub notices: Arc<Notices>,
    session_states: Arc<SessionStates>,
    /// Number of threads that are starting plugins.
    pending_starts: watch::Sender<usize>,
    /// Number of blocking host calls in flight, by plugin. Kept when a plugin is started again, because calls of its earlier
    /// instances may still block.
    in_flight: Mutex<HashMap<String, Arc<AtomicUsize>>>,
    /// Held while the table is built from the approvals, so that an older reading of them cannot replace a newer one.
    discovery: Mutex<()>,
}

/// All plugins by name.
#[derive(Default)]
pub(crate) struct Table {
    entries: BTreeMap<String, Entry>,
    pub disabled: BTreeSet<String>,
}

pub(crate) struct Entry {
    pub found: FoundPlugin,
    assessment: Assessment,
    /// Permissions that the plugin did not have when it was approved.
    new_permissions: Vec<Permission>,
    /// The plugin's thread, while it runs.
    worker: Option<WorkerHandle>,
}

/// A plugin in lists.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PluginStatus {
    /// Name of the plugin.
    pub name: String,
    /// Version; empty for an invalid plugin.
    pub version: String,
    /// Description from the manifest.
    pub description: String,
    /// Where it was found.
    pub place: Place,
    /// Its folder.
    pub folder: PathBuf,
    /// Its state.
    pub state: PluginState,
    /// Why it is in that state; empty for an active plugin.
    pub reason: String,
    /// Its capabilities.
    pub capabilities: Vec<Capability>,
    /// The permissions that it has once it is approved.
    pub permissions: Vec<Permission>,
    /// The subset of `permissions` that the user has not approved before.
    pub new_permissions: Vec<Permission>,
    /// Warnings about its manifest, each with its line.
    pub warnings: Vec<String>,
    /// Hash of all its files; empty for an invalid plugin.
    pub content_hash: String,
}

/// A command of a running plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandInfo {
    /// Name to call it by: `command`, or `plugin:command` if several plugins have it.
    pub name: String,
    /// Name of the plugin.
    pub plugin: String,
    /// Description, on one line.
    pub about: String,
    /// Arguments for the help, such as `[DAYS]`; may be empty.
    pub usage: String,
}

/// The last successful rendering of a widget.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RenderedWidget {
    /// Name of the plugin.
    pub plugin: String,
    /// Where it is shown.
    pub slot: Slot,
    /// Its title; may be empty.
    pub title: String,
    /// Its content.
    pub nodes: Vec<Node>,
}

impl Plugins {
    /// Discovers plugins and starts the approved ones on other threads. Returns at once.
    #[must_use]
    pub fn start(config: HostConfig) -> Self {
        let plugins = Self::new(config);
        let inner = Arc::clone(&plugins.inner);
        plugins.inner.spawn_start_thread("hfs-plugins", move || {
            inner.refresh();
            inner.notify_not_running();
        });
        plugins
    }

    /// Discovers plugins without starting any, to list or approve them.
    #[must_use]
    pub fn discover(config: HostConfig) -> Self {
        let plugins = Self::new(config);
        plugins.inner.rediscover();
        plugins
    }

    fn new(config: HostConfig) -> Self {
        let inner = Inner {
            approvals: Approvals::new(config.home.join("plugin_permissions.yaml")),
            table: Mutex::new(Table { disabled: config.disabled.clone(), ..Table::default() }),
            runtime: OnceLock::new(),
            notices: Arc::new(Notices::new()),
            session_states: Arc::new(SessionStates::default()),
            pending_starts: watch::Sender::new(0),
            in_flight: Mutex::default(),
            discovery: Mutex::default(),
            config,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Waits until all approved plugins run or have failed to start, but for at most 15 seconds.
    pub async fn started(&self) {
        let mut pending = self.inner.pending_starts.subscribe();
        // `wait_for` fails only if the sender is dropped, and `self` keeps it.
        let _ = tokio::time::timeout(MAX_START_WAIT, pending.wait_for(|count| *count == 0)).await;
    }

    /// All plugins, sorted by name.
    #[must_use]
    pub fn list(&self) -> Vec<PluginStatus> {
        lock_unpoisoned(&self.inner.table).entries.values().map(Entry::status).collect()
    }

    /// One plugin.
    ///
    /// # Errors
    /// `PluginNotFound`.
    pub fn get(&self, name: &str) -> Result<PluginStatus, PluginError> {
        let table = lock_unpoisoned(&self.inner.table);
        table.entry(name).map(Entry::status)
    }

    /// A counter that is incremented whenever notices, widgets or states of plugins have changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.notices.changes.subscribe()
    }

    /// Removes and returns the unread notices for the user.
    #[must_use]
    pub fn take_notices(&self) -> Vec<String> {
        self.inner.notices.take()
    }

    /// The commands of all running plugins.
    #[must_use]
    pub fn commands(&self) -> Vec<CommandInfo> {
        let table = lock_unpoisoned(&self.inner.table);
        let all: Vec<_> = table
            .running()
            .flat_map(|(name, worker)| {
                worker.shared().commands.iter().map(move |command| (name.to_owned(), command.clone()))
            })
            .collect();
        let is_ambiguous = |name: &str| all.iter().filter(|(_, command)| command.name == name).count() > 1;
        all.iter()
            .map(|(plugin, command)| CommandInfo {
                name: if is_ambiguous(&command.name) {
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

    /// Runs a command, given as `command` or `plugin:command`, and returns the Markdown that it shows; `None` if it
    /// shows nothing.
    ///
    /// # Errors
    /// `CommandNotFound`, `AmbiguousCommand`, `NotActive`, and the failure of the call.
    pub async fn run(
        &self,
        command: &str,
        arguments: &str,
        session: Option<SessionId>,
    ) -> Result<Option<String>, PluginError> {
        self.started().await;
        let (plugin, name, worker) = lock_unpoisoned(&self.inner.table).find_command(command)?;
        let arguments = arguments.to_owned();
        let limit = self.inner.config.limits.command;
        let result = worker.call(CallKind::Command, session, limit, move |guest| {
            guest.run_command(&name, &arguments, session)
        });
        result.await.map_err(|error| call_error(&plugin, command, error))
    }

    /// The last renderings of the widgets of all running plugins. From now on they are rendered for this session.
    #[must_use]
    pub fn widgets(&self, session: Option<SessionId>) -> Vec<RenderedWidget> {
        let table = lock_unpoisoned(&self.inner.table);
        let mut widgets = Vec::new();
        for (name, worker) in table.running() {
            let shared = worker.shared();
            for (widget, nodes) in shared.widgets.iter().zip(lock_unpoisoned(&shared.rendered).iter()) {
                widgets.extend(nodes.as_ref().map(|nodes| RenderedWidget {
                    plugin: name.to_owned(),
                    slot: widget.slot,
                    title: widget.title.clone(),
                    nodes: nodes.clone(),
                }));
            }
            // Asked for last, so that a fast rendering is not part of this result: the caller is told of it as a change.
            worker.show_widgets(session);
        }
        widgets
    }

    /// The newest lines of a plugin's log, oldest first.
    ///
    /// # Errors
    /// `PluginNotFound`; `Io`.
    pub fn log(&self, name: &str, lines: usize) -> Result<Vec<String>, PluginError> {
        let data_name = lock_unpoisoned(&self.inner.table).entry(name)?.found.data_name();
        PluginLog::new(&self.inner.config.log_folder(), &data_name).tail(lines)
    }

    /// Discovers plugins again, stops those that were removed or changed, and starts those that are approved.
    pub fn refresh(&self) {
        self.inner.refresh();
    }

    pub(crate) const fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

fn call_error(plugin: &str, call: &str, error: CallError) -> PluginError {
    let name = plugin.to_owned();
    match error {
        CallError::Guest(GuestError::Stopped(reason)) => {
            PluginError::Stopped { name, call: call.to_owned(), reason: reason.to_string() }
        }
        CallError::Guest(GuestError::Returned(message)) => PluginError::Failed { name, message },
        CallError::Busy => PluginError::Busy { name },
        CallError::Ended => PluginError::Ended { name },
    }
}

impl Inner {
    pub const fn limits(&self) -> Limits {
        self.config.limits
    }

    pub fn session_states(&self) -> &SessionStates {
        &self.session_states
    }

    pub fn clock(&self) -> &dyn Clock {
        self.config.clock.as_ref()
    }

    /// The running plugins that have an export, sorted by name.
    pub fn running_with(&self, export: Export) -> Vec<(String, WorkerHandle)> {
        let table = lock_unpoisoned(&self.table);
        let with_export = table.running().filter(|(_, worker)| worker.has(export));
        with_export.map(|(name, worker)| (name.to_owned(), worker.clone())).collect()
    }

    /// Notifies the user that a hook failed. [`Self::record_stop`] has already reported a plugin that was stopped.
    pub fn notify_failure(&self, plugin: &str, call: CallKind, error: &CallError) {
        match error {
            CallError::Guest(GuestError::Returned(message)) => {
                self.notices.push(plugin, &format!("{call} failed: {message}"));
            }
            CallError::Busy => self.notices.push(plugin, &format!("{call} was skipped: it is busy")),
            CallError::Guest(GuestError::Stopped(_)) | CallError::Ended => {}
        }
    }

    /// Notifies the user that a plugin did not see a message. [`Self::record_stop`] has already reported a plugin that
    /// was stopped.
    pub fn notify_missed_message(&self, plugin: &str, error: &CallError) {
        let reason = match error {
            CallError::Guest(GuestError::Stopped(_)) => return,
            CallError::Guest(GuestError::Returned(message)) => message,
            CallError::Busy => "it was busy for too long",
            CallError::Ended => "it is no longer running",
        };
        self.notices.push(plugin, &format!("{MISSED_MESSAGE}: {reason}"));
    }

    /// Notifies the user of plugins with `on-message` that are still starting when a message is processed.
    pub fn notify_unstarted_message_hooks(&self) {
        let table = lock_unpoisoned(&self.table);
        let starting = table.entries.iter().filter(|(_, entry)| entry.is_starting_with(Export::OnMessage));
        starting.for_each(|(name, _)| {
            self.notices.push(name, &format!("{MISSED_MESSAGE}: it is still starting"));
        });
    }

    /// Notifies the user of plugins that do not run although the user may expect them to.
    fn notify_not_running(&self) {
        for entry in lock_unpoisoned(&self.table).entries.values().filter(|entry| entry.is_expected_to_run())
        {
            let text = format!("does not run, it is {}: {}", entry.state(), entry.assessment);
            self.notices.push(&entry.found.name, &text);
        }
    }

    /// Runs `work` on a new thread, and counts it in `pending_starts` meanwhile.
    fn spawn_start_thread(self: &Arc<Self>, name: &str, work: impl FnOnce() + Send + 'static) {
        self.pending_starts.send_modify(|count| *count += 1);
        let inner = Arc::clone(self);
        let counted = move || {
            work();
            inner.pending_starts.send_modify(|count| *count -= 1);
        };
        if let Err(error) = thread::Builder::new().name(name.into()).spawn(counted) {
            tracing::warn!("no thread could be started for plugins: {error}");
            self.pending_starts.send_modify(|count| *count -= 1);
        }
    }

    /// Discovers plugins again and starts the approved ones.
    pub fn refresh(self: &Arc<Self>) {
        self.rediscover();
        let names: Vec<String> = lock_unpoisoned(&self.table).entries.keys().cloned().collect();
        for name in names {
            self.start_if_approved(&name);
        }
    }

    /// Rebuilds the table. A running plugin whose files and approval did not change keeps its thread.
    pub fn rediscover(&self) {
        let _discovery = lock_unpoisoned(&self.discovery);
        let found = match &self.config.only {
            Some(folder) => {
                let found = FoundPlugin::read(folder, Place::Home);
                BTreeMap::from([(found.name.clone(), found)])
            }
            None => discover(&self.config.home.join("plugins"), self.config.project.as_deref()),
        };
        let approvals = self.approvals.read().map_err(|error| error.to_string());
        let mut table = lock_unpoisoned(&self.table);
        let mut before = std::mem::take(&mut table.entries);
        for (name, found) in found {
            let mut entry = table.assess(found, &approvals);
            if let Some(old) = before.remove(&name) {
                entry.inherit_worker(old);
            }
            table.entries.insert(name, entry);
        }
        before.into_values().for_each(|mut entry| entry.end_worker());
        drop(table);
        self.notices.mark_changed();
    }

    /// Starts a plugin that is approved and does not run yet, on a new thread.
    fn start_if_approved(self: &Arc<Self>, name: &str) {
        let found = match lock_unpoisoned(&self.table).entries.get(name) {
            Some(entry) if entry.is_starting() => entry.found.clone(),
            _ => return,
        };
        let inner = Arc::clone(self);
        self.spawn_start_thread("hfs-plugin-start", move || {
            let started = inner.spawn_worker(&found);
            inner.finish_start(&found, started);
        });
    }

    /// Stores the result of a start, unless the plugin was changed, disabled or started by another thread meanwhile.
    fn finish_start(&self, found: &FoundPlugin, started: Result<WorkerHandle, StartError>) {
        let mut table = lock_unpoisoned(&self.table);
        let entry = table.entries.get_mut(&found.name);
        let current = entry.filter(|entry| entry.is_starting() && entry.found.hash() == found.hash());
        match (current, started) {
            (Some(entry), Ok(worker)) => entry.worker = Some(worker),
            (Some(entry), Err(error)) => {
                self.notices.push(&found.name, &format!("does not run: {error}"));
                entry.stop(error.into());
            }
            (None, Ok(worker)) => worker.end(),
            (None, Err(_)) => {}
        }
        drop(table);
        self.notices.mark_changed();
    }

    fn spawn_worker(self: &Arc<Self>, found: &FoundPlugin) -> Result<WorkerHandle, StartError> {
        let content = found.content.as_ref().map_err(Clone::clone)?;
        let code = found.load_code()?;
        let runtime = self.runtime()?;
        let config = &self.config;
        let permissions = content.manifest.permissions.clone();
        let folders = FolderGrants::new(&permissions, config.user_home.as_deref(), &config.home)?;
        let data_name = found.data_name();
        let context = PluginContext {
            plugin: found.name.clone(),
            permissions,
            script: match &code {
                PluginCode::Script(script) => Some(script.clone()),
                PluginCode::Component(_) => None,
            },
            log: PluginLog::new(&config.log_folder(), &data_name),
            storage: Mutex::new(PluginStorage::new(&config.home.join("plugin_data"), &data_name)),
            session_states: Arc::clone(&self.session_states),
            store: config.store.clone(),
            settings: self.settings(&found.name),
            folders,
            notices: Arc::clone(&self.notices),
            clock: Arc::clone(&config.clock),
            in_flight: Arc::clone(lock_unpoisoned(&self.in_flight).entry(found.approval_key()).or_default()),
        };
        // Weak: a plugin's thread must not keep the host alive, because the host ends the threads when it is dropped.
        let (host, found) = (Arc::downgrade(self), found.clone());
        let spawn = SpawnConfig {
            runtime,
            code,
            interpreters: config.interpreters.clone(),
            exports: content.interfaces.exports.clone(),
            context: Arc::new(context),
            limits: config.limits,
            on_stop: Box::new(move |call, reason| match host.upgrade() {
                Some(inner) => inner.record_stop(&found, call, reason),
                None => AfterStop::End,
            }),
        };
        spawn.spawn()
    }

    fn runtime(&self) -> Result<Arc<Runtime>, RuntimeError> {
        self.runtime.get_or_init(|| Runtime::new(&self.config.cache).map(Arc::new)).clone()
    }

    /// The user's settings for a plugin, from `plugin_settings.yaml`: a map of settings for each plugin's name.
    fn settings(&self, name: &str) -> BTreeMap<String, Value> {
        let path = self.config.home.join("plugin_settings.yaml");
        let is_small = fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= MAX_SETTINGS_BYTES);
        let Some(text) = is_small.then(|| fs::read_to_string(&path).ok()).flatten() else {
            return BTreeMap::new();
        };
        let parsed: Result<BTreeMap<String, BTreeMap<String, Value>>, _> = serde_saphyr::from_str(&text);
        match parsed {
            Ok(mut settings) => settings.remove(name).unwrap_or_default(),
            Err(error) => {
                let error = error.to_string();
                let line = error.lines().next().unwrap_or_default();
                let text = format!("its settings cannot be read: {}: {line}", path.display());
                self.notices.push(name, &text);
                BTreeMap::new()
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for entry in lock_unpoisoned(&self.table).entries.values_mut() {
            entry.end_worker();
        }
    }
}

impl Table {
    pub fn entry(&self, name: &str) -> Result<&Entry, PluginError> {
        self.entries.get(name).ok_or_else(|| PluginError::PluginNotFound { name: name.to_owned() })
    }

    pub fn entry_mut(&mut self, name: &str) -> Result<&mut Entry, PluginError> {
        self.entries.get_mut(name).ok_or_else(|| PluginError::PluginNotFound { name: name.to_owned() })
    }

    fn running(&self) -> impl Iterator<Item = (&str, &WorkerHandle)> {
        self.entries.iter().filter_map(|(name, entry)| Some((name.as_str(), entry.worker.as_ref()?)))
    }

    /// Finds the plugin of a command given as `command` or `plugin:command`. Returns the plugin's name, the command's
    /// name, and the plugin's thread.
    fn find_command(&self, called: &str) -> Result<(String, String, WorkerHandle), PluginError> {
        let (wanted, name) = match called.split_once(':') {
            Some((plugin, name)) => (Some(plugin), name),
            None => (None, called),
        };
        if let Some(plugin) = wanted {
            let entry = self.entry(plugin)?;
            if entry.worker.is_none() {
                return Err(entry.not_active());
            }
        }
        let has_command =
            |worker: &WorkerHandle| worker.shared().commands.iter().any(|command| command.name == name);
        let mut matches = self
            .running()
            .filter(|(plugin, worker)| wanted.is_none_or(|wanted| wanted == *plugin) && has_command(worker));
        let Some((plugin, worker)) = matches.next() else {
            return Err(PluginError::CommandNotFound { name: called.to_owned() });
        };
        let others: Vec<String> = matches.map(|(plugin, _)| format!("{plugin}:{name}")).collect();
        if !others.is_empty() {
            let choices = std::iter::once(format!("{plugin}:{name}")).chain(others).collect();
            return Err(PluginError::AmbiguousCommand { name: called.to_owned(), choices });
        }
        Ok((plugin.to_owned(), name.to_owned(), worker.clone()))
    }

    fn assess(&self, found: FoundPlugin, approvals: &Result<BTreeMap<String, Approval>, String>) -> Entry {
        let approval = match approvals {
            Ok(approvals) => Ok(approvals.get(&found.approval_key())),
            Err(reason) => Err(reason.as_str()),
        };
        let assessment = Assessment::new(&found, self.disabled.contains(&found.name), approval);
        // For a plugin that was never approved the list is empty: the user reviews all its permissions anyway.
        let new_permissions = match (&found.content, approval) {
            (Ok(content), Ok(Some(approval))) if approval.decision == Decision::Approved => {
                not_granted(&content.permissions(), &approval.permissions).cloned().collect()
            }
            _ => Vec::new(),
        };
        Entry { found, assessment, new_permissions, worker: None }
    }
}

impl Entry {
    pub const fn state(&self) -> PluginState {
        self.assessment.state()
    }

    /// Takes over the thread of the plugin's previous entry if the plugin has not changed; ends the thread otherwise.
    fn inherit_worker(&mut self, mut old: Self) {
        if self.state() == PluginState::Active && self.found.hash() == old.found.hash() {
            self.worker = old.worker.take();
        }
        old.end_worker();
    }

    /// Whether it is approved and has no thread yet.
    fn is_starting(&self) -> bool {
        self.state() == PluginState::Active && self.worker.is_none()
    }

    fn is_starting_with(&self, export: Export) -> bool {
        let has_export = |content: &PluginContent| content.interfaces.exports.contains(&export);
        self.is_starting() && self.found.content.as_ref().is_ok_and(has_export)
    }

    fn end_worker(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.end();
        }
    }

    /// Ends its thread, and records why.
    pub fn stop(&mut self, assessment: Assessment) {
        self.end_worker();
        self.assessment = assessment;
    }

    /// Whether the user approved the plugin, or installed it, and it does not run for a reason that the user may not
    /// know.
    fn is_expected_to_run(&self) -> bool {
        match self.assessment {
            Assessment::Quarantined(_) | Assessment::Changed => true,
            Assessment::Invalid(_) | Assessment::NotStarted(_) => self.found.place == Place::Home,
            Assessment::Approved
            | Assessment::NotApproved
            | Assessment::ProjectNotApproved
            | Assessment::ApprovalsUnreadable(_)
            | Assessment::Denied(_)
            | Assessment::Disabled => false,
        }
    }

    pub fn not_active(&self) -> PluginError {
        PluginError::NotActive {
            name: self.found.name.clone(),
            state: self.state(),
            reason: self.assessment.to_string(),
        }
    }

    fn status(&self) -> PluginStatus {
        let content = self.found.content.as_ref().ok();
        let manifest = content.map(|content| &content.manifest);
        PluginStatus {
            name: self.found.name.clone(),
            version: manifest.map(|manifest| manifest.version.to_string()).unwrap_or_default(),
            description: manifest.map(|manifest| manifest.description.clone()).unwrap_or_default(),
            place: self.found.place,
            folder: self.found.folder.clone(),
            state: self.state(),
            reason: self.assessment.to_string(),
            capabilities: manifest.map(|manifest| manifest.capabilities.clone()).unwrap_or_default(),
            permissions: content.map(PluginContent::permissions).unwrap_or_default(),
            new_permissions: self.new_permissions.clone(),
            warnings: manifest.map(|manifest| manifest.warnings.clone()).unwrap_or_default(),
            content_hash: content.map(|content| content.hash.clone()).unwrap_or_default(),
        }
    }
}
