//! Starts the terminal app, and implements its ports for configuration and for import and export.

mod questions;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use clap::ValueEnum;
use hfs_core::{
    AgentDescription, Clock as _, ErrorExt as _, ErrorKind, Flow, ImportError, Project, Session, SessionId,
    Store, SystemClock, lock_unpoisoned,
};
use hfs_engine::{Conversation, Engine, Importer, OutgoingMessage, SendError};
use hfs_exchange::{
    BranchSelection, ExportMetadata, PageOptions, RedactedSource, Redaction, Source, TranscriptOptions,
    discover,
};
use hfs_tui::{
    AgentEntry, AgentState, AgentsView, AppParts, AppSettings, Background, ColorDepth, ConfigChange,
    ConfigEntry, Configuration, ErrorReport, ExportFormat as ExportFormatEntry, ExportOutcome, ExportRequest,
    Exported, FoundPaths, FoundTranscripts, ImportRequest, Imported, NoPlugins, OutputMode, PluginHost,
    Progress, SessionScope, Transfer,
};

use crate::args::GlobalArgs;
use crate::attachments;
use crate::commands::config::refuse_unusable;
use crate::commands::export::{self, ExportFormat, ExportTarget};
use crate::commands::import::{ProjectResolver, skipped_files};
use crate::commands::{handoff, start};
use crate::config::{AgentName, BUILT_IN, ColorMode, Key, Theme, ValueOrigin, ValueType, set_in_file};
use crate::context::{Context, SessionChoices};
use crate::drafts::DraftFiles;
use crate::environment::Environment;
use crate::home::{Home, create_private_dir};
use crate::output::error::{CliError, Outcome};
use crate::output::{sanitize, suggestions};
use crate::permissions::Asker;
use crate::prices;
use crate::watch::catch_up::{import_for_a_moment, note_remaining};
use crate::watch::import_folder::ImportFolder;
use crate::wiring;
use crate::wiring::agent::{
    AgentBackend, SelectedAgent, build_asking_agent, choose_agent, selectable_models,
};
use crate::wiring::document::StoreDocument;
use crate::wiring::install::install_adapter;
use crate::wiring::plugins::AppPluginHost;
use crate::wiring::programs::{self, agent_names};
use crate::wiring::triads::{ModelsByName, NamedModel, value_to_save};
use questions::AppAsker;

/// The first screen of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartScreen {
    /// An empty chat, which becomes a new session.
    NewSession,
    /// This project's newest session.
    NewestSession,
    Session(SessionId),
    /// The list of sessions.
    SessionPicker(SessionScope),
}

/// Checks that the app can run, and prepares the process for it. Must be called before the store is opened.
pub fn check(context: &Context) -> Result<(), CliError> {
    hfs_tui::require_terminal(context.environment.get("TERM"))?;
    // The store has threads, and a thread must be started after this.
    hfs_tui::hold_stop_signal();
    Ok(())
}

/// Runs the app until the user leaves it, then prints the command that resumes the session.
pub fn run(start_screen: StartScreen, context: &Context) -> Result<Outcome, CliError> {
    check(context)?;
    // Messages in the editors of killed apps.
    hfs_files::remove_abandoned(&std::env::temp_dir());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CliError::io("start the asynchronous runtime", error))?;
    let store = Arc::clone(context.store()?);
    // With a list of sessions there is nothing to ask.
    let asks_first = matches!(start_screen, StartScreen::NewSession);
    let importing = import_in_background(context, Arc::clone(&store), asks_first);
    let mut remaining = 0;
    let mut importing = match start_screen {
        // What is new may be the session to open, or has to be in the list.
        StartScreen::NewestSession | StartScreen::SessionPicker(_) => {
            remaining = importing.join().unwrap_or_default();
            None
        }
        StartScreen::NewSession | StartScreen::Session(_) => Some(importing),
    };
    let exit = runtime.block_on(async {
        let (asker, questions) = AppAsker::new();
        let asker: Arc<dyn Asker> = Arc::new(asker);
        let SelectedAgent { agent, warnings, .. } = build_asking_agent(context, Arc::clone(&asker)).await?;
        warnings.iter().for_each(|warning| context.console.warn(warning));
        let hooks = context.hooks()?;
        let engine = wiring::engine(context, agent, Arc::clone(&store), Arc::clone(&hooks));
        let project = Some(Project::clone(context.project()));
        let (conversation, session_list) = match start_screen {
            StartScreen::NewSession => (Conversation::new(project.clone()), None),
            StartScreen::NewestSession => (engine.resume(context.session("@")?, None).await?, None),
            StartScreen::Session(session) => (engine.resume(session, None).await?, None),
            StartScreen::SessionPicker(scope) => (Conversation::new(project.clone()), Some(scope)),
        };
        let plugins: Arc<dyn PluginHost> = match context.plugins()? {
            Some(plugins) => Arc::new(AppPluginHost::new(plugins.clone(), context)),
            None => Arc::new(NoPlugins),
        };
        let parts = AppParts {
            engine,
            clock: Arc::new(SystemClock),
            conversation,
            session_list,
            suggestion_wording: suggestions::describe,
            prices: prices::PUBLISHED,
            project,
            settings: app_settings(context),
            transfer: Arc::new(FileTransfer::new(context, Arc::clone(&store))),
            configuration: Arc::new(ConfigurationFiles {
                global: context.global.clone(),
                environment: context.environment.clone(),
                store,
                hooks,
                asker,
                session: Mutex::default(),
                session_changes: Mutex::default(),
            }),
            plugins,
            drafts: Arc::new(DraftFiles::new(&context.home, context.project())),
            questions: Some(questions),
            warnings,
        };
        hfs_tui::run(parts).await.map_err(CliError::from)
    })?;
    // Do not wait for blocking calls that are still running: their results are no longer needed.
    runtime.shutdown_background();
    if let Some(importing) = importing.take_if(|importing| importing.is_finished()) {
        remaining = importing.join().unwrap_or_default();
    }
    note_remaining(remaining, context);
    if let Some((text, report)) = exit.lost_draft {
        context.console.warn(&format!("{}; this was not sent:", sanitize::line(&report.message)));
        context.console.print_stderr(&format!("{}\n", sanitize::block(&text)));
    }
    if let Some(session) = exit.session {
        let name = exit.name.map_or_else(String::new, |name| format!("  ({})", sanitize::line(&name)));
        context.console.note(&format!("resume with: hfs resume {}{name}", session.short().shown()));
    }
    Ok(exit.signal.map_or(Outcome::Done, Outcome::Terminated))
}

/// Imports what other tools have written on another thread, so that the first screen does not wait for it. Returns the number of
/// transcripts that remain. With `asks_first`, nothing is imported into an empty store: the app offers to, and a faster import would
/// leave it nothing to offer.
fn import_in_background(context: &Context, store: Arc<dyn Store>, asks_first: bool) -> JoinHandle<usize> {
    let (global, environment) = (context.global.clone(), context.environment.clone());
    std::thread::spawn(move || {
        if asks_first && hfs_tui::is_store_empty(store.as_ref()) {
            return 0;
        }
        let context = Context::new(global, environment, false);
        context.map_or(0, |context| import_for_a_moment(&context.with_store(store)))
    })
}

/// Converts an error to the report that the app displays.
pub fn app_error(error: &CliError) -> ErrorReport {
    let document = error.document();
    ErrorReport { kind: error.kind(), message: document.one_line(), suggestion: document.hint }
}

fn app_settings(context: &Context) -> AppSettings {
    let variable = |name: &str| context.environment.get_non_empty(name);
    AppSettings {
        background: match context.settings.theme {
            Theme::Dark => Background::Dark,
            Theme::Light => Background::Light,
            Theme::Auto => background_from_variable(variable("COLORFGBG").unwrap_or_default()),
        },
        color_depth: color_depth(
            context.settings.color,
            variable("NO_COLOR"),
            variable("COLORTERM"),
            variable("TERM"),
        ),
        keys: context.settings.key_mode,
        mouse: context.settings.mouse,
        extended_keys: context.settings.extended_keys,
        animations: context.settings.animations,
        clipboard_program: clipboard_program(variable),
        output: if context.settings.verbose_output { OutputMode::Verbose } else { OutputMode::Compact },
        editor: variable("VISUAL").or_else(|| variable("EDITOR")).map(str::to_owned),
        ..AppSettings::default()
    }
}

/// The program that copies its standard input: that of the desktop, if there is one, or tmux, which by default ignores what
/// programs in it copy with OSC 52. `None` if it is not installed.
fn clipboard_program<'a>(variable: impl Fn(&str) -> Option<&'a str>) -> Option<Vec<String>> {
    let path = variable("PATH")?;
    let is_installed = |name: &str| std::env::split_paths(path).any(|folder| folder.join(name).is_file());
    let wayland: &[&[&str]] = &[&["wl-copy"]];
    let x11: &[&[&str]] = &[&["xclip", "-selection", "clipboard"], &["xsel", "--clipboard", "--input"]];
    let mut programs: Vec<&[&str]> = Vec::new();
    if cfg!(target_os = "macos") {
        programs.push(&["pbcopy"]);
    }
    if variable("WAYLAND_DISPLAY").is_some() {
        programs.extend(wayland);
    }
    if variable("DISPLAY").is_some() {
        programs.extend(x11);
    }
    if variable("TMUX").is_some() {
        // Also into the clipboard of the terminal outside.
        programs.push(&["tmux", "load-buffer", "-w", "-"]);
    }
    let program =
        programs.into_iter().find(|program| program.first().is_some_and(|name| is_installed(name)))?;
    Some(program.iter().map(|word| (*word).to_owned()).collect())
}

/// Parses `COLORFGBG`, which some terminals set to `foreground;background` as palette indexes.
fn background_from_variable(value: &str) -> Background {
    // Light grey and the bright colors are light. Color 8 is dark grey.
    match value.rsplit(';').next().map(str::parse) {
        Some(Ok(7 | 9..=15_u8)) => Background::Light,
        Some(Ok(_)) => Background::Dark,
        Some(Err(_)) | None => Background::Unknown,
    }
}

fn color_depth(
    mode: ColorMode,
    no_color: Option<&str>,
    color_term: Option<&str>,
    term: Option<&str>,
) -> ColorDepth {
    let is_off = match mode {
        ColorMode::Never => true,
        ColorMode::Always => false,
        ColorMode::Auto => no_color.is_some(),
    };
    if is_off || term == Some("dumb") {
        return ColorDepth::None;
    }
    if color_term.is_some_and(|value| value.contains("truecolor") || value.contains("24bit")) {
        return ColorDepth::True;
    }
    match term {
        Some(term) if term.contains("direct") => ColorDepth::True,
        Some(term) if term.contains("256") => ColorDepth::Indexed,
        _ => ColorDepth::Sixteen,
    }
}

/// The configuration port of the app. Reads the files on each call, because other processes may change them.
struct ConfigurationFiles {
    global: GlobalArgs,
    environment: Environment,
    store: Arc<dyn Store>,
    hooks: Arc<dyn hfs_core::Hooks>,
    /// Asks what agents may do.
    asker: Arc<dyn Asker>,
    /// What the user has chosen for the open session alone.
    session: Mutex<SessionChoices>,
    /// Held while that changes, because two changes may be requested at once.
    session_changes: Mutex<()>,
}

impl ConfigurationFiles {
    fn choices(&self) -> SessionChoices {
        lock_unpoisoned(&self.session).clone()
    }

    fn context(&self) -> Result<Context, CliError> {
        self.context_with(self.choices())
    }

    /// The current configuration, with these choices.
    fn context_with(&self, choices: SessionChoices) -> Result<Context, CliError> {
        Context::new(self.global.clone(), self.environment.clone(), false)?
            .with_store(Arc::clone(&self.store))
            .with_choices(choices)
    }

    /// The engine for a configuration, and the warnings of the choice of its agent.
    fn engine(&self, context: &Context) -> Result<(Engine, Vec<String>), CliError> {
        let building = build_asking_agent(context, Arc::clone(&self.asker));
        let SelectedAgent { agent, warnings, .. } = wiring::runtime()?.block_on(building)?;
        Ok((wiring::engine(context, agent, Arc::clone(&self.store), Arc::clone(&self.hooks)), warnings))
    }

    /// The models of the server of the model that replies, as names that select them.
    fn list_models(&self) -> Result<Vec<String>, CliError> {
        let context = self.context()?;
        let runtime = wiring::runtime()?;
        let choice = runtime.block_on(choose_agent(&context.settings, &context.environment))?;
        let config = match choice.backend {
            AgentBackend::Assistant(config)
            | AgentBackend::Triads(_, Some(ModelsByName { default: NamedModel::Model(config), .. })) => {
                config
            }
            AgentBackend::Program(program)
            | AgentBackend::Triads(_, Some(ModelsByName { default: NamedModel::Program(program), .. })) => {
                return Err(CliError::with_hint(
                    ErrorKind::Unavailable,
                    format!("{} chooses its model itself", program.title),
                    "`/config agent assistant` lets a model of hfs reply",
                ));
            }
            AgentBackend::Recall | AgentBackend::Triads(_, None) => {
                return Err(CliError::with_hint(
                    ErrorKind::Unavailable,
                    "no model replies, so there is no server to ask",
                    "set ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY and start hfs again, or start Ollama",
                ));
            }
        };
        runtime.block_on(selectable_models(config))
    }

    /// Changes what the user has chosen for the open session.
    fn change_session(
        &self,
        change: impl FnOnce(&mut SessionChoices),
        note: impl FnOnce(&AgentDescription) -> Option<String>,
    ) -> Result<ConfigChange, CliError> {
        let _changes = lock_unpoisoned(&self.session_changes);
        let mut choices = self.choices();
        change(&mut choices);
        let context = self.context_with(choices.clone())?;
        if let Some(error) = context.config_error {
            return Err(error.into());
        }
        let (engine, warnings) = self.engine(&context)?;
        *lock_unpoisoned(&self.session) = choices;
        let note = note(&engine.agent().describe()).into_iter().chain(warnings);
        Ok(ConfigChange { settings: None, engine: Some(engine), note: note.collect::<Vec<_>>().join("; ") })
    }

    fn change_session_model(&self, model: Option<&str>) -> Result<ConfigChange, CliError> {
        let choose = |choices: &mut SessionChoices| choices.model = model.map(str::to_owned);
        self.change_session(choose, |agent| {
            let name = agent.model.as_ref().unwrap_or(&agent.name);
            Some(match model {
                Some(_) => format!("{name} replies until you leave this session"),
                None => format!("{name} replies again"),
            })
        })
    }

    fn change_session_agent(&self, name: Option<&str>) -> Result<ConfigChange, CliError> {
        let choose = |choices: &mut SessionChoices| choices.agent = name.map(str::to_owned);
        self.change_session(choose, |agent| match name {
            Some(_) => None,
            None => Some(format!("{} answers again", agent.name)),
        })
    }

    fn list_agents(&self) -> Result<AgentsView, CliError> {
        let context = self.context()?;
        let entry = |name: &str, title: &str, about: &str, state| AgentEntry {
            name: name.to_owned(),
            title: title.to_owned(),
            about: about.to_owned(),
            is_program: !BUILT_IN.contains(&name),
            state,
        };
        let built_in =
            BUILT_IN.into_iter().map(|name| entry(name, name, about_built_in(name), AgentState::Ready));
        let programs = programs::all(&context.settings.programs);
        let mut programs: Vec<AgentEntry> = programs
            .values()
            .map(|program| {
                let about = "answers here, and asks before it acts";
                entry(&program.name, &program.title, about, program.state(&self.environment))
            })
            .collect();
        programs.sort_by_key(|agent| match agent.state {
            AgentState::Ready => 0,
            AgentState::NeedsAdapter { .. } => 1,
            AgentState::NotInstalled { .. } => 2,
        });
        let agents = programs.into_iter().chain(built_in).collect();
        let choice = wiring::runtime()?.block_on(choose_agent(&context.settings, &context.environment));
        let is_unconfigured = choice.is_ok_and(|choice| choice.is_last_resort);
        Ok(AgentsView { agents, is_unconfigured })
    }

    fn install(&self, name: &str, output: &dyn Fn(&str) -> bool) -> Result<(), CliError> {
        let program = programs::named(name, &self.context()?.settings.programs)?;
        install_adapter(&program, &self.environment, output)
    }

    fn change(&self, name: &str, text: &str) -> Result<ConfigChange, CliError> {
        let key = Key::parse(name)?;
        // A new default also replaces what was chosen for the session.
        let base = || {
            let mut choices = self.choices();
            match key {
                Key::Model => choices.model = None,
                Key::Agent => choices.agent = None,
                _ => {}
            }
            self.context_with(choices)
        };
        let before = base()?;
        before.home.create()?;
        let text = value_to_save(key, text, &before.settings.programs, &before.environment)?;
        let effect = effect_of(key);
        if effect == Effect::Engine && before.overriding_origin(key).is_none() {
            // A value with which no agent can be built is not saved: the app could not start with it.
            let changed = base()?.with_override(key, "VALUE", &text)?;
            wiring::runtime()?.block_on(build_asking_agent(&changed, Arc::clone(&self.asker)))?;
        }
        refuse_unusable(key, &text, &before)?;
        let value = set_in_file(&before.config_paths.user, key, &text)?;
        // The new setting applies to the open session, too.
        match key {
            Key::Model => lock_unpoisoned(&self.session).model = None,
            Key::Agent => lock_unpoisoned(&self.session).agent = None,
            _ => {}
        }
        let context = self.context()?;
        let (engine, warnings) = match effect {
            Effect::Engine => self.engine(&context).map(|(engine, warnings)| (Some(engine), warnings))?,
            Effect::AppSettings | Effect::NextStart => (None, Vec::new()),
        };
        let note = match context.overriding_origin(key) {
            Some(origin) => format!("{name} is also set by {origin}, which takes precedence"),
            None if effect == Effect::NextStart => format!("{name} is {value} from the next start"),
            None => format!("{name} is now {value}"),
        };
        let note = std::iter::once(note).chain(warnings).collect::<Vec<_>>().join("; ");
        Ok(ConfigChange { settings: Some(app_settings(&context)), engine, note })
    }
}

/// How a changed setting takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// The app receives its new settings. Settings that the app does not use take effect when they are next read.
    AppSettings,
    /// The engine is rebuilt, because the agent or a setting of the engine changes.
    Engine,
    /// The setting takes effect after a restart, because the store is already open and the plugins already run.
    NextStart,
}

const fn effect_of(key: Key) -> Effect {
    match key {
        Key::Agent
        | Key::Triads
        | Key::Provider
        | Key::Model
        | Key::BaseUrl
        | Key::Headers
        | Key::WaitConnect
        | Key::WaitFirstToken
        | Key::WaitBetweenTokens
        | Key::OllamaNumCtx
        | Key::MaxTokens
        | Key::Temperature
        | Key::SystemPrompt
        | Key::ContextTokens
        | Key::ContextChars
        | Key::Compaction
        | Key::CheckpointRetention
        | Key::CheckpointOn => Effect::Engine,
        Key::StoreUrl
        | Key::StoreDurability
        | Key::DisabledPlugins
        | Key::PluginsHookMs
        | Key::PluginsCommandMs => Effect::NextStart,
        Key::OutputMode
        | Key::KeybindingMode
        | Key::Color
        | Key::Theme
        | Key::Mouse
        | Key::ExtendedKeys
        | Key::Animations
        | Key::TrashRetentionDays
        | Key::WatchExclude
        | Key::WatchCatchUp => Effect::AppSettings,
    }
}

/// What an agent of hfs does.
fn about_built_in(name: &str) -> &'static str {
    match AgentName::new(name) {
        AgentName::Assistant => "a model answers, without tools",
        AgentName::Triads => "groups of models discuss the reply",
        AgentName::Recall | AgentName::Program(_) => {
            "searches your saved sessions and quotes them, without a model"
        }
    }
}

impl Configuration for ConfigurationFiles {
    fn entries(&self) -> Vec<ConfigEntry> {
        let Ok(context) = self.context() else { return Vec::new() };
        Key::all()
            .map(|key| {
                let setting = context.config.get(key);
                let value = setting.map_or_else(String::new, |setting| setting.value.to_string());
                ConfigEntry {
                    key: key.name().to_owned(),
                    is_masked: hfs_secrets::contains_mark(&value),
                    value,
                    origin: setting.map_or(&ValueOrigin::Default, |setting| &setting.origin).to_string(),
                    about: key.spec().about.to_owned(),
                    choices: match key.spec().value_type {
                        ValueType::Choice(choices) => {
                            choices.iter().map(|choice| (*choice).to_owned()).collect()
                        }
                        ValueType::Agent => agent_names(&context.settings.programs),
                        _ => Vec::new(),
                    },
                }
            })
            .collect()
    }

    fn set(&self, key: &str, value: &str) -> Result<ConfigChange, ErrorReport> {
        self.change(key, value).map_err(|error| app_error(&error))
    }

    fn models(&self) -> Result<Vec<String>, ErrorReport> {
        self.list_models().map_err(|error| app_error(&error))
    }

    fn use_model(&self, model: Option<&str>) -> Result<ConfigChange, ErrorReport> {
        self.change_session_model(model).map_err(|error| app_error(&error))
    }

    fn agents(&self) -> AgentsView {
        // The app works without the list.
        self.list_agents().unwrap_or_default()
    }

    fn agent_of(&self, session: SessionId) -> Option<String> {
        // Without it, the configured agent answers.
        let context = self.context_with(SessionChoices::default()).ok()?;
        programs::of_session(session, &context).ok().flatten()
    }

    fn use_agent(&self, agent: Option<&str>) -> Result<ConfigChange, ErrorReport> {
        self.change_session_agent(agent).map_err(|error| app_error(&error))
    }

    fn install_agent(&self, agent: &str, output: &dyn Fn(&str) -> bool) -> Result<(), ErrorReport> {
        self.install(agent, output).map_err(|error| app_error(&error))
    }
}

/// The import and export port of the app.
struct FileTransfer {
    home: Home,
    environment: Environment,
    store: Arc<dyn Store>,
    /// The locks of the store's imports.
    locks: Option<ImportFolder>,
}

impl FileTransfer {
    fn new(context: &Context, store: Arc<dyn Store>) -> Self {
        let locks = ImportFolder::of(context).ok().flatten();
        Self { home: context.home.clone(), environment: context.environment.clone(), store, locks }
    }

    fn write(&self, request: &ExportRequest, progress: &dyn Progress) -> Result<ExportOutcome, CliError> {
        let format = ExportFormat::from_name(&request.format).unwrap_or(ExportFormat::Json);
        let path = self.environment.resolve(&request.path);
        if path.parent() == Some(self.home.exports().as_path()) {
            create_private_dir(&self.home.exports())
                .map_err(|error| CliError::io("create the directory of exports", error))?;
        }
        let document = StoreDocument::new(self.store.as_ref(), request.session)?;
        let document = if format.is_transcript() { document.without_undone() } else { document };
        let redaction = if request.redact { Redaction::Mask } else { Redaction::Count };
        // The proposed name of the file is that of the session.
        let session = export::named_session(document.session_record(), redaction);
        let proposed = export::default_path(&self.home.exports(), document.session_record(), format);
        // As `hfs export` does without a path.
        let is_default = path == proposed;
        let path = if is_default { self.home.exports() } else { path };
        let target = ExportTarget::new(&path, is_default, &session, format)?;
        if let Some(existing) = target.existing_file()
            && !request.replaces
        {
            return Ok(ExportOutcome::FileExists(existing.to_owned()));
        }
        let name = target.display();
        let metadata =
            ExportMetadata { exported_at: SystemClock.now(), hfs_version: env!("CARGO_PKG_VERSION") };
        let branches = if request.all_branches { BranchSelection::All } else { BranchSelection::Current };
        let mut out =
            ProgressWriter { inner: BufWriter::new(target.create()?), progress, name: &name, bytes: 0 };
        let source = RedactedSource::new(&document, redaction);
        let page = PageOptions { metadata, branches };
        let model = handoff::opencode_model(&self.environment, None);
        let transcript =
            TranscriptOptions { opencode_model: model.as_deref(), ..TranscriptOptions::default() };
        let left_out = format
            .write(&source, page, transcript, format.control_text(), &mut out)
            .map_err(|error| export::cli_error(error, format!("write the export {name}")))?;
        let bytes = out.bytes;
        let file = out
            .inner
            .into_inner()
            .map_err(|error| CliError::io(format!("write the export {name}"), error.into_error()))?;
        Ok(ExportOutcome::Written(Exported {
            path: target.commit(file)?,
            bytes,
            warnings: export::secret_warnings(&source.report(), redaction)
                .into_iter()
                .chain(export::transcript_note(&left_out))
                .collect(),
        }))
    }
}

impl Transfer for FileTransfer {
    fn attach_files(&self, text: &str) -> Result<OutgoingMessage, SendError> {
        attachments::attach_mentioned(text, &self.environment)
    }

    fn complete_path(&self, typed: &str) -> FoundPaths {
        attachments::complete(typed, &self.environment)
    }

    fn export_formats(&self) -> Vec<ExportFormatEntry> {
        let entry = |format: &ExportFormat| ExportFormatEntry {
            name: format.as_str().into(),
            about: format.about().into(),
            extensions: format.selecting_extensions().iter().map(|&extension| extension.into()).collect(),
        };
        ExportFormat::value_variants().iter().map(entry).collect()
    }

    fn default_export_path(&self, session: &Session, format: &str) -> PathBuf {
        let format = ExportFormat::from_name(format).unwrap_or(ExportFormat::Json);
        export::default_path(&self.home.exports(), session, format)
    }

    fn export(&self, request: &ExportRequest, progress: &dyn Progress) -> Result<ExportOutcome, ErrorReport> {
        self.write(request, progress).map_err(|error| app_error(&error))
    }

    fn find_transcripts(&self) -> Vec<FoundTranscripts> {
        start::transcript_locations(&self.environment)
            .into_iter()
            .filter_map(|(format, path)| {
                let sources = discover(&path).ok()?.sources;
                (!sources.is_empty()).then(|| FoundTranscripts {
                    tool: format.to_string(),
                    path,
                    files: u64::try_from(sources.len()).unwrap_or(u64::MAX),
                    bytes: sources.iter().map(Source::bytes).sum(),
                })
            })
            .collect()
    }

    fn import(&self, request: &ImportRequest, progress: &dyn Progress) -> Result<Imported, ErrorReport> {
        let mut result = Imported::default();
        let locks = self.locks.as_ref().filter(|_| !request.dry_run);
        let lock = locks.map(|locks| locks.lock_import(|| {})).transpose();
        let _lock = lock.map_err(|error| app_error(&CliError::io("lock the store for an import", error)))?;
        let mut sources = Vec::new();
        for path in &request.paths {
            let path = self.environment.resolve(path);
            match discover(&path) {
                Ok(found) => {
                    result.skipped.extend(skipped_files(&path, &found));
                    sources.extend(found.sources);
                }
                Err(error) => result.failed.push((
                    path.display().to_string(),
                    ErrorReport::from_error(&error, suggestions::describe),
                )),
            }
        }
        let total: u64 = sources.iter().map(Source::bytes).sum();
        let mut done = 0;
        for source in &sources {
            let name = source.name();
            let report = |bytes: u64| {
                if progress.report(done + bytes, Some(total), &name) { Flow::Continue } else { Flow::Stop }
            };
            let importer =
                Importer::new(self.store.as_ref(), &SystemClock, request.on_duplicate, request.dry_run)
                    .with_progress(report);
            let mut receiver = ProjectResolver::new(importer, &self.home);
            let outcome = receiver.import(source, None, false);
            let finished = receiver.finish();
            done += source.bytes();
            let outcome = finished.map_err(ImportError::from).and_then(|(imported, skipped)| {
                result.imported.extend(imported);
                result.skipped.extend(skipped);
                outcome
            });
            match outcome {
                Ok(()) => {}
                Err(ImportError::Interrupted { .. }) => break,
                Err(error) => {
                    // An error of kind `Invalid` concerns the data of this file. Every following file would fail
                    // with any other error of the store.
                    let is_store_error =
                        matches!(&error, ImportError::Store(cause) if cause.kind() != ErrorKind::Invalid);
                    result.failed.push((name, ErrorReport::from_error(&error, suggestions::describe)));
                    if is_store_error {
                        break;
                    }
                }
            }
        }
        if !result.imported.is_empty()
            && let Err(error) = self.store.update_index(&mut |_| true)
        {
            tracing::warn!(%error, "the imported messages are not indexed yet");
        }
        Ok(result)
    }
}

/// Counts the bytes that are written, and fails when the user cancels.
struct ProgressWriter<'a, W> {
    inner: W,
    progress: &'a dyn Progress,
    name: &'a str,
    bytes: u64,
}

impl<W: Write> Write for ProgressWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.progress.report(self.bytes, None, self.name) {
            return Err(io::Error::other("interrupted"));
        }
        let count = self.inner.write(bytes)?;
        self.bytes += u64::try_from(count).unwrap_or(0);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmux_copies_where_no_program_of_the_desktop_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let program = |variables: &[&str]| {
            let value = |name: &str| variables.contains(&name).then_some("1");
            clipboard_program(|name| if name == "PATH" { Some(path) } else { value(name) })
        };
        assert_eq!(program(&["TMUX"]), None);
        std::fs::write(folder.path().join("tmux"), "").unwrap();
        assert_eq!(program(&[]), None);
        assert_eq!(program(&["TMUX", "DISPLAY"]).unwrap(), ["tmux", "load-buffer", "-w", "-"]);
        std::fs::write(folder.path().join("xsel"), "").unwrap();
        assert_eq!(program(&["TMUX", "DISPLAY"]).unwrap().first().unwrap(), "xsel");
    }

    #[test]
    fn color_depth_and_background_follow_the_environment() {
        let (auto, always) = (ColorMode::Auto, ColorMode::Always);
        assert_eq!(color_depth(auto, Some("1"), Some("truecolor"), Some("xterm")), ColorDepth::None);
        assert_eq!(color_depth(always, Some("1"), Some("truecolor"), Some("xterm")), ColorDepth::True);
        assert_eq!(color_depth(auto, None, None, Some("screen-256color")), ColorDepth::Indexed);
        assert_eq!(color_depth(auto, None, None, Some("linux")), ColorDepth::Sixteen);
        assert_eq!(color_depth(auto, None, None, Some("dumb")), ColorDepth::None);
        assert_eq!(background_from_variable("0;15"), Background::Light);
        assert_eq!(background_from_variable("15;default;0"), Background::Dark);
        assert_eq!(background_from_variable(""), Background::Unknown);
        assert_eq!(background_from_variable("x"), Background::Unknown);
    }
}
