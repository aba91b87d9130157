//! `hfs plugin new`, `build`, `check` and `dev`: the commands for plugin authors.
//!
//! `check` and `dev` run the plugin in a `Sandbox`: a plugin host for this one directory with a temporary home, so that
//! neither the user's plugins nor their data are involved.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use hfs_core::{
    BranchId, Clock as _, ErrorKind, Event, EventPayload, Hooks as _, MessageDraft, Node, Part,
    PassthroughFields, Position, Role, RunEnding, RunId, RunSnapshot, SessionDraft, SessionId, Slot, Store,
    SystemClock, Timestamp, Verdict,
};
use hfs_files::TemporaryFolder;
use hfs_plugins::{
    EntryPoint, Export, MANIFEST_FILE, Manifest, Permission, PluginState, PluginStatus, Plugins,
    check_component, componentize,
};
use hfs_store::MemoryStore;
use notify::{EventKind, RecursiveMode, Watcher as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{PluginJson, invalid, offer_interpreter, permission_list, read_manifest, report_path};
use crate::context::Context;
use crate::output::error::{CliError, Outcome};
use crate::output::sanitize;
use crate::wiring::plugins::host_config;
use crate::wiring::runtime;

#[derive(Debug, clap::Args)]
pub struct NewArgs {
    /// The plugin's name, or the path of its directory
    #[arg(value_name = "FOLDER")]
    directory: PathBuf,
    /// The plugin's language
    #[arg(long, value_enum, default_value = "rust")]
    lang: SourceLanguage,
    /// Compile Python or JavaScript to a component instead of interpreting the source; Rust is always compiled
    #[arg(long)]
    compiled: bool,
}

/// The plugin that `check` and `dev` run, and the session that they run it on.
#[derive(Debug, clap::Args)]
pub struct TryArgs {
    /// The plugin's directory
    #[arg(default_value = ".", value_name = "FOLDER")]
    directory: PathBuf,
    /// Use this session and your own store instead of a sample session
    #[arg(short, long)]
    session: Option<String>,
    /// Do not ask whether the plugin may run
    #[arg(short, long)]
    yes: bool,
}

/// The language that a new plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SourceLanguage {
    Rust,
    Python,
    Javascript,
}

/// The interface between hfs and plugins, which is copied into every plugin that is compiled.
const CONTRACT: &str = include_str!("../../../../../wit/0.1/hfs-plugin.wit");
/// The world in the `wit/plugin.wit` of a compiled Python or JavaScript plugin.
const WORLD: &str = "my-plugin";

/// A file of a new plugin: its path, and its text with the placeholder NAME for the plugin's name.
type Template = (&'static str, &'static str);

macro_rules! template {
    ($path:literal, $file:literal) => {
        ($path, include_str!(concat!("../../../templates/", $file)))
    };
}

/// Contains the SDK crate, so that the plugin compiles without access to this repository.
const RUST: &[Template] = &[
    template!("manifest.yaml", "rust/manifest.yaml"),
    template!("Cargo.toml", "rust/Cargo.toml.txt"),
    template!("src/lib.rs", "rust/lib.rs.txt"),
    (".gitignore", "target\n"),
    ("hfs-plugin/Cargo.toml", include_str!("../../../../../sdk/rust/Cargo.toml")),
    ("hfs-plugin/src/lib.rs", include_str!("../../../../../sdk/rust/src/lib.rs")),
    ("hfs-plugin/src/bindings.rs", include_str!("../../../../../sdk/rust/src/bindings.rs")),
    ("hfs-plugin/wit/hfs-plugin.wit", CONTRACT),
];
/// Type information of the module `hfs` for editors.
const PYTHON_STUBS: Template = ("hfs.pyi", include_str!("../../../../../sdk/python/hfs.pyi"));
const JAVASCRIPT_TYPES: Template = ("hfs.d.ts", include_str!("../../../../../sdk/javascript/hfs.d.ts"));
const PYTHON: &[Template] = &[
    template!("manifest.yaml", "python/manifest.yaml"),
    template!("plugin.py", "python/plugin.py"),
    PYTHON_STUBS,
];
const JAVASCRIPT: &[Template] = &[
    template!("manifest.yaml", "javascript/manifest.yaml"),
    template!("plugin.js", "javascript/plugin.js"),
    template!("jsconfig.json", "javascript/jsconfig.json"),
    JAVASCRIPT_TYPES,
];
const COMPILED_PYTHON: &[Template] = &[
    template!("manifest.yaml", "compiled/manifest.yaml"),
    template!("app.py", "compiled/app.py"),
    template!("wit/plugin.wit", "compiled/plugin.wit"),
    ("wit/deps/hfs-plugin/hfs-plugin.wit", CONTRACT),
    (".gitignore", "build\n"),
];
const COMPILED_JAVASCRIPT: &[Template] = &[
    template!("manifest.yaml", "compiled/manifest.yaml"),
    template!("app.js", "compiled/app.js"),
    template!("wit/plugin.wit", "compiled/plugin.wit"),
    ("wit/deps/hfs-plugin/hfs-plugin.wit", CONTRACT),
    (".gitignore", "build\n"),
];

/// `hfs plugin new`
pub fn new(args: &NewArgs, context: &Context) -> Result<(), CliError> {
    let directory = context.environment.working_directory.join(&args.directory);
    let name = create(&directory, args.lang, args.compiled)?;
    let next = if args.compiled || args.lang == SourceLanguage::Rust { "build" } else { "dev" };
    let path = directory.display();
    report_path(&format!("created {name} in {path}; next: `hfs plugin {next} {path}`"), &directory, context)
}

/// Writes the files of a new plugin. Returns its name, which is that of the directory.
///
/// # Errors
/// `Conflict` if the directory exists; `Invalid` if the name is not valid.
fn create(directory: &Path, language: SourceLanguage, compiled: bool) -> Result<String, CliError> {
    let templates = match (language, compiled) {
        (SourceLanguage::Rust, _) => RUST,
        (SourceLanguage::Python, false) => PYTHON,
        (SourceLanguage::Python, true) => COMPILED_PYTHON,
        (SourceLanguage::Javascript, false) => JAVASCRIPT,
        (SourceLanguage::Javascript, true) => COMPILED_JAVASCRIPT,
    };
    let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let fill_in = |text: &str| text.replace("NAME", &name);
    let manifest = templates.iter().find(|(path, _)| *path == MANIFEST_FILE).map(|(_, text)| fill_in(text));
    // The manifest's parser decides whether the name is valid.
    Manifest::from_yaml(&manifest.unwrap_or_default()).map_err(|error| invalid(directory, error))?;
    fs::create_dir(directory).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CliError::with_hint(
            ErrorKind::Conflict,
            format!("{} exists already; nothing was changed", directory.display()),
            "choose another name, or remove it first",
        ),
        _ => CliError::io(format!("create the directory {}", directory.display()), error),
    })?;
    for (path, text) in templates {
        // The files of the SDK are not templates, and may contain the word NAME by chance.
        let text = if path.starts_with("hfs-plugin/") { (*text).to_owned() } else { fill_in(text) };
        let path = directory.join(path);
        let parent = path.parent().unwrap_or(directory);
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text));
        written.map_err(|error| CliError::io(format!("write {}", path.display()), error))?;
    }
    Ok(name)
}

/// `hfs plugin build`
pub fn build(directory: &Path, context: &Context) -> Result<(), CliError> {
    let component = build_component(&context.environment.working_directory.join(directory))?;
    report_path(&format!("built {}", component.display()), &component, context)
}

/// Compiles a plugin to a component and returns its path. The language follows from the files: `Cargo.toml`, `app.py` or
/// `app.js`.
///
/// # Errors
/// `Invalid` if the manifest or the component is not valid; `Unavailable` if the plugin does not compile.
fn build_component(directory: &Path) -> Result<PathBuf, CliError> {
    let manifest = read_manifest(directory)?;
    let entry = match &manifest.entry_point {
        Some(EntryPoint::Script(..)) => {
            return Err(invalid(directory, "a plugin that is interpreted does not need to be built"));
        }
        Some(EntryPoint::Component(entry)) => entry.clone(),
        None => "plugin.wasm".into(),
    };
    let has = |file: &str| directory.join(file).is_file();
    let module = if has("Cargo.toml") {
        compile_rust(directory)?
    } else if has("app.py") {
        let arguments = ["--wit-path", "wit", "--world", WORLD, "componentize", "app", "--output"];
        compile_script(directory, "componentize-py", &arguments, "pip install componentize-py")?
    } else if has("app.js") {
        let arguments = ["--wit", "wit", "--world", WORLD, "--sync", "--js", "app.js", "--output"];
        let install = "npm install --global componentize-qjs";
        compile_script(directory, "componentize-qjs", &arguments, install)?
    } else {
        return Err(invalid(
            directory,
            "there is nothing to build: expected a Cargo.toml, an app.py or an app.js",
        ));
    };
    let bytes =
        fs::read(&module).map_err(|error| CliError::io(format!("read {}", module.display()), error))?;
    let component = componentize(&bytes).map_err(|reason| invalid(directory, reason))?;
    check_component(&manifest, &component).map_err(|reason| invalid(directory, reason))?;
    let path = directory.join(entry);
    fs::write(&path, component).map_err(|error| CliError::io(format!("write {}", path.display()), error))?;
    Ok(path)
}

/// Runs a tool that bundles a script and its interpreter into a component.
fn compile_script(
    directory: &Path,
    tool: &str,
    arguments: &[&str],
    install: &str,
) -> Result<PathBuf, CliError> {
    // Update the copy of the interface, because an older version of hfs may have created the plugin.
    let contract = directory.join("wit/deps/hfs-plugin/hfs-plugin.wit");
    let parent = contract.parent().unwrap_or(directory);
    let written = fs::create_dir_all(parent).and_then(|()| fs::write(&contract, CONTRACT));
    written.map_err(|error| CliError::io(format!("write {}", contract.display()), error))?;
    let output = directory.join("build").join("plugin.wasm");
    let parent = output.parent().unwrap_or(directory);
    fs::create_dir_all(parent)
        .map_err(|error| CliError::io(format!("create {}", parent.display()), error))?;
    let mut command = Command::new(tool);
    command.args(arguments).arg(&output).current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null());
    // Do not leave `__pycache__` in the author's directory.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    let status = command.status().map_err(|error| {
        CliError::with_hint(
            ErrorKind::Unavailable,
            format!("cannot run {tool}: {error}"),
            format!("`{install}` installs it"),
        )
    })?;
    if !status.success() {
        let message = format!("{}: {tool} failed", directory.display());
        return Err(CliError::new(ErrorKind::Unavailable, message));
    }
    Ok(output)
}

/// The target that plugins in Rust are compiled for.
const RUST_TARGET: &str = "wasm32-unknown-unknown";

/// A line of cargo's output with `--message-format=json`.
#[derive(Deserialize)]
struct CargoMessage {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// The output of `cargo metadata`.
#[derive(Deserialize)]
struct CargoMetadata {
    packages: Vec<CargoPackage>,
}

#[derive(Deserialize)]
struct CargoPackage {
    name: String,
    version: String,
    manifest_path: PathBuf,
}

/// Compiles a crate with the author's own cargo and returns the path of its module.
fn compile_rust(directory: &Path) -> Result<PathBuf, CliError> {
    let failed = |reason: &str| {
        CliError::with_hint(
            ErrorKind::Unavailable,
            format!("{}: {reason}", directory.display()),
            format!("the target is {RUST_TARGET}; `rustup target add {RUST_TARGET}` installs it"),
        )
    };
    let metadata = cargo(directory, &["metadata", "--format-version=1", "--filter-platform", RUST_TARGET])?;
    let packages = json_lines::<CargoMetadata>(&metadata).into_iter().flat_map(|metadata| metadata.packages);
    let arguments = [
        "build",
        "--release",
        "--target",
        RUST_TARGET,
        "--message-format=json-render-diagnostics",
        "--config",
        &path_remapping(packages),
    ];
    let output = cargo(directory, &arguments)?;
    if !output.status.success() {
        return Err(failed("it does not compile"));
    }
    let messages = json_lines::<CargoMessage>(&output).into_iter();
    let artifacts = messages.filter(|message| message.reason == "compiler-artifact");
    let is_module = |file: &PathBuf| file.extension().is_some_and(|extension| extension == "wasm");
    // Cargo builds the plugin's own crate after its dependencies, so the plugin's module is the last one.
    let mut modules: Vec<PathBuf> =
        artifacts.flat_map(|artifact| artifact.filenames).filter(is_module).collect();
    modules.pop().ok_or_else(|| failed("its crate is not a `cdylib`"))
}

fn cargo(directory: &Path, arguments: &[&str]) -> Result<Output, CliError> {
    Command::new("cargo")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| CliError::io("run cargo", error))
}

/// Parses the lines of standard output that have the form of `T`.
fn json_lines<T: DeserializeOwned>(output: &Output) -> Vec<T> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// A cargo setting that replaces the path of each crate by its name in panic messages and debug information. Published
/// plugins must not contain the author's user name and directories.
fn path_remapping(packages: impl Iterator<Item = CargoPackage>) -> String {
    let flags: Vec<String> = packages
        .filter_map(|package| {
            let directory = package.manifest_path.parent()?.to_str()?.to_owned();
            Some(format!("--remap-path-prefix={directory}={}-{}", package.name, package.version))
        })
        .collect();
    let flags = serde_json::to_string(&flags).unwrap_or_else(|_| "[]".into());
    format!("target.{RUST_TARGET}.rustflags={flags}")
}

/// The user message of the sample session.
const SAMPLE_QUESTION: &str = "Please fix the login bug: the page stays white.";
/// The reply in the sample session.
const SAMPLE_REPLY: &str = "The session cookie is never set. Here is a fix.";

/// A plugin host for one directory, with a temporary home.
struct Sandbox {
    plugins: Plugins,
    directory: PathBuf,
    /// The session that the plugin runs on.
    session: SessionId,
    _home: TemporaryFolder,
}

impl Sandbox {
    /// Prepares a sandbox after the author has seen the plugin's permissions and agreed, or with `--yes`.
    ///
    /// # Errors
    /// `Denied` if the author does not agree or cannot be asked; `Invalid` if the plugin cannot run; `NotFound` for an
    /// unknown session.
    fn new(args: &TryArgs, context: &Context) -> Result<Self, CliError> {
        /// The user's settings of plugins, which the sandbox copies.
        const SETTINGS: &str = "plugin_settings.yaml";
        let directory = context.environment.working_directory.join(&args.directory);
        let directory = directory
            .canonicalize()
            .map_err(|error| CliError::io(format!("read {}", directory.display()), error))?;
        offer_interpreter(&directory, context)?;
        let home =
            TemporaryFolder::create().map_err(|error| CliError::io("create a temporary directory", error))?;
        // The copy fails if the user has no settings of plugins. The plugin then has the defaults.
        let _ = fs::copy(context.home.root().join(SETTINGS), home.path().join(SETTINGS));
        let (store, session) = match &args.session {
            Some(session) => (Arc::clone(context.store()?), context.session(session)?),
            None => sample_session(context.now())?,
        };
        let mut config = host_config(context, Some(store));
        config.home = home.path().to_path_buf();
        config.only = Some(directory.clone());
        // The user may have disabled an installed plugin with the same name.
        config.disabled.clear();
        let sandbox = Self { plugins: Plugins::discover(config), directory, session, _home: home };
        sandbox.confirm(args.yes, context)?;
        Ok(sandbox)
    }

    fn confirm(&self, yes: bool, context: &Context) -> Result<(), CliError> {
        let plugin = self.status()?;
        if plugin.state == PluginState::Invalid {
            return Err(invalid(&self.directory, &plugin.reason));
        }
        if yes {
            return Ok(());
        }
        let console = &context.console;
        if !console.is_interactive() {
            return Err(CliError::with_hint(
                ErrorKind::Denied,
                format!("{} was not run: there is no terminal to ask on", plugin.name),
                "run a plugin that you trust with --yes",
            ));
        }
        let name = sanitize::line(&plugin.name);
        console.print_stderr(&format!("{name} may\n{}", permission_list(&plugin, &console.palette)));
        if console.ask("Let it run?")? {
            return Ok(());
        }
        Err(CliError::new(ErrorKind::Denied, format!("{} was not run", plugin.name)))
    }

    /// The status of the plugin with its current files.
    fn status(&self) -> Result<PluginStatus, CliError> {
        // The host lists a plugin for every directory, even for an invalid one.
        let plugin = self.plugins.list().into_iter().next();
        plugin.ok_or_else(|| invalid(&self.directory, "it contains no plugin"))
    }

    /// Starts the plugin from its current files, and waits until it runs.
    ///
    /// # Errors
    /// `Invalid` with the reason if it does not run.
    async fn start(&self) -> Result<PluginStatus, CliError> {
        let plugin = self.status()?;
        if plugin.state == PluginState::Invalid {
            return Err(invalid(&self.directory, &plugin.reason));
        }
        self.plugins.approve(&plugin.name)?;
        self.plugins.started().await;
        let plugin = self.status()?;
        if plugin.state != PluginState::Active {
            // The notice says the same as the error.
            let _ = self.plugins.take_notices();
            return Err(invalid(&self.directory, &plugin.reason));
        }
        Ok(plugin)
    }

    /// The failures of hooks and widgets up to now. The host only logs them, because they must not disturb the user.
    fn failures(&self) -> Result<Vec<String>, CliError> {
        const MAX_LOG_LINES: usize = 1_000;
        let log = self.plugins.log(&self.status()?.name, MAX_LOG_LINES)?;
        // The host marks the lines that it writes to a plugin's log with `(hfs)`.
        let failures = log.iter().filter_map(|line| line.split_once(" error (hfs) "));
        Ok(failures.map(|(_, message)| message.to_owned()).collect())
    }
}

/// A store in memory with one session of one exchange.
fn sample_session(now: Timestamp) -> Result<(Arc<dyn Store>, SessionId), CliError> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    let session = store.create_session(&SessionDraft {
        id: SessionId::generate(),
        name: "A sample session".into(),
        automatic_name: false,
        project: None,
        created_at: now,
        origin: None,
        extra: PassthroughFields::new(),
        main_branch: BranchId::generate(),
    })?;
    let start = Position { branch: session.current_branch, head: 0 };
    let reply = MessageDraft::new(Role::Assistant, vec![Part::text(SAMPLE_REPLY)], now);
    store.append(start, &[MessageDraft::user(SAMPLE_QUESTION, now), reply])?;
    Ok((store, session.id))
}

/// The result of calling one export of a plugin.
#[derive(Debug, Serialize)]
struct PartCheck {
    part: &'static str,
    ok: bool,
    /// What the export did, or why it failed.
    #[serde(rename = "told")]
    detail: String,
    microseconds: u128,
}

enum PartOutcome {
    Passed(String),
    Failed(String),
}

/// `hfs plugin check`: calls every export of the plugin with sample data.
pub fn check(args: &TryArgs, context: &Context) -> Result<Outcome, CliError> {
    let sandbox = Sandbox::new(args, context)?;
    let runtime = runtime()?;
    let plugin = runtime.block_on(sandbox.start())?;
    let mut parts = Vec::new();
    let mut known_failures = 0;
    for permission in &plugin.permissions {
        let Permission::Export(export) = permission else { continue };
        let start = Instant::now();
        let outcome = runtime.block_on(call_export(&sandbox, *export));
        let microseconds = start.elapsed().as_micros();
        // A hook or widget that fails returns no error, but adds a line to the log.
        let failures = sandbox.failures()?;
        let failure = failures.get(known_failures).cloned();
        known_failures = known_failures.max(failures.len());
        let (ok, detail) = match (failure, outcome) {
            (Some(reason), _) | (None, PartOutcome::Failed(reason)) => (false, reason),
            (None, PartOutcome::Passed(detail)) => (true, detail),
        };
        parts.push(PartCheck { part: export.as_str(), ok, detail, microseconds });
    }
    let ok = parts.iter().all(|part| part.ok);
    let console = &context.console;
    if console.options.json {
        console.print_json(&json!({ "plugin": PluginJson::from(&plugin), "ok": ok, "parts": parts }))?;
    } else {
        let mut text =
            format!("{} {}: its manifest is valid\n", sanitize::line(&plugin.name), plugin.version);
        for warning in &plugin.warnings {
            text += &format!("  {}\n", sanitize::line(warning));
        }
        for PartCheck { part, ok, detail, microseconds } in &parts {
            let label = if *ok { "ok    " } else { "FAILED" };
            let (milliseconds, detail) = (*microseconds as f64 / 1000.0, sanitize::line(detail));
            text += &format!("{label} {part:<16} {milliseconds:>7.1} ms  {detail}\n");
        }
        console.print(&text)?;
    }
    Ok(if ok { Outcome::Done } else { Outcome::WithFailures(ErrorKind::Invalid) })
}

async fn call_export(sandbox: &Sandbox, export: Export) -> PartOutcome {
    /// Events are delivered in the background, without a signal when the plugin has handled one.
    const EVENT_TIME: Duration = Duration::from_millis(100);
    /// Widgets are drawn in the background after they are requested.
    const DRAW_TIME: Duration = Duration::from_millis(300);
    let (plugins, session) = (&sandbox.plugins, sandbox.session);
    match export {
        Export::OnStart => {
            plugins.on_start(session).await;
            PartOutcome::Passed("ran".into())
        }
        Export::OnExit => {
            plugins.on_exit(session).await;
            PartOutcome::Passed("ran".into())
        }
        Export::OnMessage => {
            let question = describe_verdict(plugins.on_message(session, SAMPLE_QUESTION, true).await);
            let reply = describe_verdict(plugins.on_message(session, SAMPLE_REPLY, false).await);
            PartOutcome::Passed(format!("{SAMPLE_QUESTION:?} {question}; a reply {reply}"))
        }
        Export::OnEvent => {
            plugins.on_event(session, &run_ended()).await;
            tokio::time::sleep(EVENT_TIME).await;
            PartOutcome::Passed("received run.ended".into())
        }
        Export::OnRunComplete => {
            plugins.on_run_complete(session, &RunSnapshot::fold([&run_ended()])).await;
            PartOutcome::Passed("received an empty run".into())
        }
        Export::Commands => {
            let names: Vec<String> = plugins.commands().into_iter().map(|command| command.name).collect();
            if names.is_empty() {
                PartOutcome::Failed("it provides no commands".into())
            } else {
                PartOutcome::Passed(format!("/{}", names.join(", /")))
            }
        }
        Export::Widgets => {
            let _ = plugins.widgets(Some(session));
            tokio::time::sleep(DRAW_TIME).await;
            match plugins.widgets(Some(session)).len() {
                0 => PartOutcome::Failed("nothing was drawn".into()),
                count => PartOutcome::Passed(format!("{count} drawn")),
            }
        }
    }
}

fn run_ended() -> Event {
    Event {
        run: RunId::generate(),
        number: 1,
        at: SystemClock.now(),
        payload: EventPayload::RunEnded { duration_ms: 1200, ending: RunEnding::Completed },
    }
}

fn describe_verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Pass => "passes".into(),
        Verdict::Replace(text) => format!("becomes {text:?}"),
        Verdict::Reject { reason, .. } => format!("is rejected: {reason:?}"),
    }
}

const DEV_HELP: &str = "\
Type a message to see what the plugin does with it.
/NAME TEXT runs a command, /widgets draws the widgets, /log shows the log, /reload reloads, /quit exits.";

/// Introduces the reason why the plugin is not tried.
const NOT_RUNNING: &str = "the plugin does not run";

/// An event in the loop of `plugin dev`.
enum DevEvent {
    FileChanged,
    Line(String),
    /// Standard input has ended.
    EndOfInput,
}

/// `hfs plugin dev`: an interactive session with the plugin, which is reloaded when a file changes.
pub fn dev(args: &TryArgs, context: &Context) -> Result<Outcome, CliError> {
    let sandbox = Sandbox::new(args, context)?;
    let (sender, events) = mpsc::channel();
    // The directory is watched until the watcher is dropped.
    let _watcher = watch_directory(&sandbox.directory, sender.clone())?;
    read_lines(sender);
    DevSession { runtime: runtime()?, sandbox, context }.run(args.yes, &events)
}

fn watch_directory(
    directory: &Path,
    events: Sender<DevEvent>,
) -> Result<notify::RecommendedWatcher, CliError> {
    let watch_error = |error: notify::Error| {
        CliError::io(format!("watch {}", directory.display()), io::Error::other(error))
    };
    let handle = move |event: notify::Result<notify::Event>| {
        // Ignore read accesses, because the host itself reads the files when it loads the plugin.
        if event.is_ok_and(|event| !matches!(event.kind, EventKind::Access(_))) {
            // Fails only when the session has ended.
            let _ = events.send(DevEvent::FileChanged);
        }
    };
    let mut watcher = notify::recommended_watcher(handle).map_err(watch_error)?;
    watcher.watch(directory, RecursiveMode::Recursive).map_err(watch_error)?;
    Ok(watcher)
}

/// Reads standard input on a thread that ends with the process, because a blocking read cannot be cancelled.
fn read_lines(events: Sender<DevEvent>) {
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if events.send(DevEvent::Line(line)).is_err() {
                return;
            }
        }
        let _ = events.send(DevEvent::EndOfInput);
    });
}

/// Waits until no file has changed for a moment, because editors save a file in several steps. Other events are kept in
/// `pending`, so that the reloaded plugin handles lines and the end of the input is not missed.
fn wait_until_saved(events: &Receiver<DevEvent>, pending: &mut VecDeque<DevEvent>) {
    const QUIET_TIME: Duration = Duration::from_millis(15);
    while let Ok(event) = events.recv_timeout(QUIET_TIME) {
        if !matches!(event, DevEvent::FileChanged) {
            pending.push_back(event);
        }
    }
}

struct DevSession<'c> {
    sandbox: Sandbox,
    runtime: tokio::runtime::Runtime,
    context: &'c Context,
}

impl DevSession<'_> {
    fn run(&self, yes: bool, events: &Receiver<DevEvent>) -> Result<Outcome, CliError> {
        let mut allowed = self.sandbox.status()?.permissions;
        self.load("loaded")?;
        self.context.console.note(DEV_HELP);
        let mut pending = VecDeque::new();
        while let Some(event) = pending.pop_front().or_else(|| events.recv().ok()) {
            match event {
                DevEvent::EndOfInput => break,
                DevEvent::FileChanged => {
                    wait_until_saved(events, &mut pending);
                    self.sandbox.plugins.refresh();
                    let plugin = self.sandbox.status()?;
                    let added: Vec<&Permission> = plugin
                        .permissions
                        .iter()
                        .filter(|permission| !allowed.contains(permission))
                        .collect();
                    if !added.is_empty() && !yes {
                        self.print(&format!("{} asks for new permissions:\n", plugin.name))?;
                        added.iter().try_for_each(|permission| {
                            self.print(&format!("  - {}\n", permission.description()))
                        })?;
                        self.print("/reload grants them; until then the plugin does not run\n")?;
                        continue;
                    }
                    self.load("reloaded")?;
                }
                DevEvent::Line(line) => match line.trim() {
                    "" => {}
                    "/quit" | "/exit" => break,
                    "/reload" => {
                        self.sandbox.plugins.refresh();
                        allowed = self.sandbox.status()?.permissions;
                        self.load("reloaded")?;
                    }
                    line => self.handle_line(line)?,
                },
            }
        }
        self.runtime.block_on(self.sandbox.plugins.on_exit(self.sandbox.session));
        Ok(Outcome::Done)
    }

    fn print(&self, text: &str) -> Result<(), CliError> {
        self.context.console.print(&sanitize::block(text))
    }

    /// Starts the plugin from its current files, and prints the result.
    fn load(&self, verb: &str) -> Result<(), CliError> {
        let start = Instant::now();
        match self.runtime.block_on(self.sandbox.start()) {
            Ok(plugin) => {
                let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
                let exports = export_names(&plugin);
                self.print(&format!("{verb} {} in {milliseconds:.0} ms: {exports}\n", plugin.name))?;
                plugin.warnings.iter().try_for_each(|warning| self.print(&format!("  {warning}\n")))?;
                self.runtime.block_on(self.sandbox.plugins.on_start(self.sandbox.session));
                self.print_notices()
            }
            Err(error) => self.print(&format!("{NOT_RUNNING}: {error}\n")),
        }
    }

    /// Prints why the plugin does not run. Returns `false` if it runs.
    fn explain_if_stopped(&self) -> Result<bool, CliError> {
        let plugin = self.sandbox.status()?;
        if plugin.state == PluginState::Active {
            return Ok(false);
        }
        self.print(&format!("{NOT_RUNNING}: {}\n", plugin.reason))?;
        Ok(true)
    }

    fn handle_line(&self, line: &str) -> Result<(), CliError> {
        let plugins = &self.sandbox.plugins;
        match line.strip_prefix('/') {
            Some("log") => {
                let lines = plugins.log(&self.sandbox.status()?.name, 20)?;
                lines.iter().try_for_each(|line| self.print(&format!("{line}\n")))?;
            }
            Some(_) | None if self.explain_if_stopped()? => return Ok(()),
            Some("widgets") => self.print_widgets()?,
            Some(command) => {
                let (name, arguments) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
                match self.runtime.block_on(plugins.run(name, arguments, Some(self.sandbox.session))) {
                    Ok(Some(text)) => self.print(&format!("{}\n", text.trim_end()))?,
                    Ok(None) => self.print("(done)\n")?,
                    Err(error) => self.print(&format!("{error}\n"))?,
                }
            }
            None => {
                let verdict = self.runtime.block_on(plugins.on_message(self.sandbox.session, line, true));
                self.print(&match verdict {
                    Verdict::Pass => "passes unchanged\n".to_owned(),
                    Verdict::Replace(text) => format!("becomes: {text}\n"),
                    Verdict::Reject { plugin, reason } => format!("rejected by {plugin}: {reason}\n"),
                })?;
            }
        }
        self.print_notices()
    }

    fn print_widgets(&self) -> Result<(), CliError> {
        /// Widgets are drawn in the background after they are requested.
        const DRAW_TIME: Duration = Duration::from_millis(200);
        let plugins = &self.sandbox.plugins;
        let known_failures = self.sandbox.failures()?.len();
        let _ = plugins.widgets(Some(self.sandbox.session));
        thread::sleep(DRAW_TIME);
        for widget in plugins.widgets(Some(self.sandbox.session)) {
            let slot = match widget.slot {
                Slot::Sidebar => "sidebar",
                Slot::StatusBar => "status bar",
                Slot::Panel => "panel",
            };
            // The title may be empty.
            let title = format!("{slot}: {}", widget.title);
            self.print(&format!("{}\n", title.trim_end_matches([':', ' '])))?;
            widget.nodes.iter().try_for_each(|node| self.print(&format!("  {}\n", render_node(node))))?;
        }
        let failures = self.sandbox.failures()?;
        failures.iter().skip(known_failures).try_for_each(|failure| self.print(&format!("! {failure}\n")))
    }

    fn print_notices(&self) -> Result<(), CliError> {
        let notices = self.sandbox.plugins.take_notices();
        notices.iter().try_for_each(|notice| self.print(&format!("! {notice}\n")))
    }
}

fn export_names(plugin: &PluginStatus) -> String {
    let names = plugin.permissions.iter().filter_map(|permission| match permission {
        Permission::Export(export) => Some(export.as_str()),
        _ => None,
    });
    names.collect::<Vec<_>>().join(", ")
}

/// A widget's node as plain text.
fn render_node(node: &Node) -> String {
    match node {
        Node::Text(spans) => spans.iter().map(|(text, _)| text.as_str()).collect(),
        Node::Gauge { label, ratio } => format!("{label} {:.0} %", ratio * 100.0),
        Node::Table { header, rows } => {
            let lines = std::iter::once(header).chain(rows).filter(|row| !row.is_empty());
            lines.map(|row| row.join(" | ")).collect::<Vec<_>>().join("\n  ")
        }
        Node::Sparkline { values } => values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_plugin_is_complete_and_replaces_no_directory() {
        let all = [
            (SourceLanguage::Rust, false, RUST),
            (SourceLanguage::Python, false, PYTHON),
            (SourceLanguage::Python, true, COMPILED_PYTHON),
            (SourceLanguage::Javascript, false, JAVASCRIPT),
            (SourceLanguage::Javascript, true, COMPILED_JAVASCRIPT),
        ];
        for (language, compiled, templates) in all {
            let parent = tempfile::tempdir().unwrap();
            let directory = parent.path().join("my-plugin");
            assert_eq!(create(&directory, language, compiled).unwrap(), "my-plugin");
            let manifest = read_manifest(&directory).unwrap();
            assert_eq!((manifest.name.as_str(), manifest.warnings.len()), ("my-plugin", 0));
            for (path, _) in templates {
                let text = fs::read_to_string(directory.join(path)).unwrap();
                assert!(path.starts_with("hfs-plugin/") || !text.contains("NAME"), "{path}");
            }
            assert!(create(&directory, language, compiled).is_err());
            assert!(create(&parent.path().join("My Plugin"), language, compiled).is_err());
        }
    }

    #[test]
    fn paths_of_crates_are_replaced_by_their_names() {
        let package = |name: &str, path: &str| CargoPackage {
            name: name.into(),
            version: "1.0.0".into(),
            manifest_path: path.into(),
        };
        let packages = [package("p", "/home/me/my \"p\"/Cargo.toml"), package("q", "/r/q/Cargo.toml")];
        assert_eq!(
            path_remapping(packages.into_iter()),
            r#"target.wasm32-unknown-unknown.rustflags=["--remap-path-prefix=/home/me/my \"p\"=p-1.0.0","--remap-path-prefix=/r/q=q-1.0.0"]"#
        );
    }
}
