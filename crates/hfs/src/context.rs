//! The context of a command: options, configuration, and the store and plugins, which are opened on first use.

use std::cell::OnceCell;
use std::sync::Arc;

use hfs_agents::Recall;
use hfs_core::{
    Clock as _, ErrorKind, Hooks, NoHooks, PageRequest, Project, SessionFilter, SessionId, SessionRef, Store,
    StoreError, SystemClock, Timestamp,
};
use hfs_engine::BlockingEngine;
use hfs_plugins::Plugins;

use crate::args::GlobalArgs;
use crate::config::{ColorMode, Config, ConfigError, ConfigPaths, Key, Override, Settings, ValueOrigin};
use crate::environment::Environment;
use crate::home::Home;
use crate::output::console::{Console, OutputOptions};
use crate::output::error::CliError;
use crate::output::table::shorten;
use crate::output::{sanitize, time_format};
use crate::trust::ProjectFolderTrust;
use crate::{disk_space, project, wiring};

/// The agent and the model that the user has chosen for one session; `None` for those of the settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SessionChoices {
    pub agent: Option<String>,
    pub model: Option<String>,
}

/// The options, configuration, store and plugins of the running command.
pub struct Context {
    pub global: GlobalArgs,
    pub environment: Environment,
    /// The directory that holds the store, the configuration, plugins and logs.
    pub home: Home,
    /// The `.hfs` folder of the working directory, if there is one.
    pub project_folder: Option<ProjectFolderTrust>,
    pub config_paths: ConfigPaths,
    /// The configuration; the defaults if it is invalid.
    pub config: Config,
    /// Why the configuration is invalid.
    pub config_error: Option<ConfigError>,
    pub settings: Settings,
    pub console: Console,
    /// Whether the command has no use for a new store: a store that the user names and that does not exist is then an error.
    pub needs_sessions: bool,
    store: OnceCell<Arc<dyn Store>>,
    plugins: OnceCell<Option<Plugins>>,
    project: OnceCell<Project>,
}

impl Context {
    /// Reads the configuration. If it is invalid, its error is kept in `config_error`, because some commands run with
    /// the defaults instead. With `may_ask_for_trust`, asks on a terminal about a project's folder that is new.
    ///
    /// # Errors
    /// If there is no home directory, or an answer cannot be read or stored.
    pub fn new(
        global: GlobalArgs,
        environment: Environment,
        may_ask_for_trust: bool,
    ) -> Result<Self, CliError> {
        let home = Home::find(global.home.as_deref(), &environment)?;
        let early_options = OutputOptions { json: global.json, quiet: global.quiet, verbose: global.verbose };
        let early_console = Console::new(early_options, ColorMode::Auto);
        let project_folder =
            ProjectFolderTrust::find(&home, &environment, &global, &early_console, may_ask_for_trust)?;
        let trusted = project_folder.as_ref().filter(|project| project.is_trusted());
        let config_paths = ConfigPaths {
            user: home.root().join("config.yaml"),
            project: trusted.map(|project| project.folder.config()).filter(|path| path.exists()),
        };
        let (config, config_error) = match Config::load(&config_paths, &environment, &global.overrides()) {
            Ok(config) => (config, None),
            Err(error) => (Config::defaults()?, Some(error)),
        };
        let settings = settings_of(&config, &global);
        let options = OutputOptions {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose || (settings.verbose_output && !global.quiet),
        };
        let console = Console::new(options, settings.color);
        Ok(Self {
            global,
            environment,
            home,
            project_folder,
            config_paths,
            config,
            config_error,
            settings,
            console,
            needs_sessions: false,
            store: OnceCell::new(),
            plugins: OnceCell::new(),
            project: OnceCell::new(),
        })
    }

    /// The context in which `option` sets this value. It replaces what an earlier call of this or of
    /// [`with_choices`](Self::with_choices) set.
    ///
    /// # Errors
    /// If the value is not valid.
    pub fn with_override(self, key: Key, option: &'static str, text: &str) -> Result<Self, CliError> {
        self.with_overrides(option, [(key, text.to_owned())])
    }

    /// The context in which the choices for a session take precedence.
    ///
    /// # Errors
    /// If a choice is not valid.
    pub fn with_choices(self, choices: SessionChoices) -> Result<Self, CliError> {
        let SessionChoices { agent, model } = choices;
        let chosen = [(Key::Agent, agent), (Key::Model, model)];
        self.with_overrides("this session", chosen.into_iter().filter_map(|(key, text)| Some((key, text?))))
    }

    fn with_overrides(
        self,
        option: &'static str,
        values: impl IntoIterator<Item = (Key, String)>,
    ) -> Result<Self, CliError> {
        let mut overrides = self.global.overrides();
        overrides.extend(values.into_iter().map(|(key, text)| Override { key, option, text }));
        let config = Config::load(&self.config_paths, &self.environment, &overrides)?;
        Ok(Self { settings: settings_of(&config, &self.global), config, ..self })
    }

    /// A context like this one in which this agent answers.
    ///
    /// # Errors
    /// If the configuration cannot be read again.
    pub fn with_agent(&self, name: &str) -> Result<Self, CliError> {
        let context = Self::new(self.global.clone(), self.environment.clone(), false)?;
        let context = context.with_store(Arc::clone(self.store()?));
        context.with_choices(SessionChoices { agent: Some(name.to_owned()), model: None })
    }

    /// Uses a store that is already open.
    pub fn with_store(self, store: Arc<dyn Store>) -> Self {
        Self { store: OnceCell::from(store), ..self }
    }

    /// Uses plugins that run already; `None` for none.
    pub fn with_plugins(self, plugins: Option<Plugins>) -> Self {
        Self { plugins: OnceCell::from(plugins), ..self }
    }

    /// The store, opened on the first call.
    ///
    /// # Errors
    /// If the store cannot be opened.
    pub fn store(&self) -> Result<&Arc<dyn Store>, CliError> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        if self.needs_sessions
            && self.settings.store_url.is_some()
            && let Some(path) =
                disk_space::store_path(self).filter(|path| matches!(path.try_exists(), Ok(false)))
        {
            let error = CliError::with_hint(
                ErrorKind::NotFound,
                format!("there is no store at {}", sanitize::line(&path.display().to_string())),
                "`hfs chat` and `hfs import` create one",
            );
            return Err(self.name_settings(error, &[Key::StoreUrl]));
        }
        let store = wiring::open_store(&self.home, &self.settings, &self.environment)
            .map_err(|error| self.name_settings(error, &[Key::StoreUrl]))?;
        Ok(self.store.get_or_init(|| store))
    }

    /// Like [`store`](Self::store), with little memory if this is the first call.
    ///
    /// # Errors
    /// If the store cannot be opened.
    pub fn small_store(&self) -> Result<&Arc<dyn Store>, CliError> {
        if self.store.get().is_none() {
            let store = wiring::open_small_store(&self.home, &self.settings, &self.environment)
                .map_err(|error| self.name_settings(error, &[Key::StoreUrl]))?;
            return Ok(self.store.get_or_init(|| store));
        }
        self.store()
    }

    /// The plugins, started on the first call; `None` with `--no-plugins`.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    pub fn plugins(&self) -> Result<Option<&Plugins>, CliError> {
        if let Some(plugins) = self.plugins.get() {
            return Ok(plugins.as_ref());
        }
        let store = Arc::clone(self.store()?);
        let start = || Plugins::start(wiring::plugins::host_config(self, Some(store)));
        Ok(self.plugins.get_or_init(|| (!self.global.no_plugins).then(start)).as_ref())
    }

    /// The plugins as hooks of the engine.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    pub fn hooks(&self) -> Result<Arc<dyn Hooks>, CliError> {
        Ok(match self.plugins()? {
            Some(plugins) => Arc::new(plugins.clone()),
            None => Arc::new(NoHooks),
        })
    }

    /// An engine for commands that send no messages and run no plugins. Its agent is the offline agent.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    pub fn engine(&self) -> Result<BlockingEngine, CliError> {
        self.engine_with(Arc::new(NoHooks))
    }

    /// Like [`engine`](Self::engine), but with hooks.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    pub fn engine_with(&self, hooks: Arc<dyn Hooks>) -> Result<BlockingEngine, CliError> {
        let store = Arc::clone(self.store()?);
        let engine = wiring::engine(self, Arc::new(Recall::new(Arc::clone(&store))), store, hooks);
        Ok(BlockingEngine::new(engine)?)
    }

    /// The project of the working directory.
    pub fn project(&self) -> &Project {
        self.project.get_or_init(|| project::of_directory(&self.environment.working_directory))
    }

    pub fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    /// A time for tables and headings: relative, or to the second with `--verbose`.
    pub fn format_time(&self, time: Timestamp) -> String {
        if self.console.options.verbose {
            time_format::local(time)
        } else {
            time_format::relative(time, self.now())
        }
    }

    /// Resolves a session reference: an id, a prefix of one, a name, or `@`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` if several sessions match.
    pub fn session(&self, reference: &str) -> Result<SessionId, CliError> {
        self.resolve(reference, false)
    }

    /// Resolves a reference to a session in the trash.
    ///
    /// # Errors
    /// As [`session`](Self::session).
    pub fn trashed_session(&self, reference: &str) -> Result<SessionId, CliError> {
        self.resolve(reference, true)
    }

    /// Resolves a reference to a session that may be in the trash.
    ///
    /// # Errors
    /// As [`session`](Self::session).
    pub fn session_or_trashed(&self, reference: &str) -> Result<SessionId, CliError> {
        let is_not_found = |error: &CliError| error.kind() == ErrorKind::NotFound;
        match self.session(reference) {
            Err(error) if is_not_found(&error) => match self.trashed_session(reference) {
                Err(trashed) if is_not_found(&trashed) => Err(error),
                found => found,
            },
            found => found,
        }
    }

    /// `@` is the newest session of this project or, if the project has none, of all projects.
    fn resolve(&self, reference: &str, trashed: bool) -> Result<SessionId, CliError> {
        let store = self.store()?;
        let parsed = SessionRef::new(reference);
        if !matches!(parsed, SessionRef::Recent(_)) {
            return match store.resolve_session(&parsed, None, trashed) {
                Err(error @ StoreError::NotFound { .. }) => {
                    Err(match self.sessions_named_like(reference, trashed)? {
                        Some(hint) => CliError::with_hint(ErrorKind::NotFound, error.to_string(), hint),
                        None => error.into(),
                    })
                }
                found => Ok(found?),
            };
        }
        let project = self.project().key();
        match store.resolve_session(&parsed, Some(project), trashed) {
            Err(StoreError::NotFound { .. }) if self.count_sessions(Some(project), trashed)? == 0 => {
                let found = match store.resolve_session(&parsed, None, trashed) {
                    Err(StoreError::NotFound { .. }) => {
                        let count = self.count_sessions(None, trashed)?;
                        return Err(no_such_recent(reference, "the store", count, trashed));
                    }
                    found => found?,
                };
                let name = sanitize::line(&store.get_session(found)?.session.name);
                self.console.note(&format!("this project has no sessions; {reference} is {name:?}"));
                Ok(found)
            }
            Err(StoreError::NotFound { .. }) => {
                let count = self.count_sessions(Some(project), trashed)?;
                Err(no_such_recent(reference, "this project", count, trashed))
            }
            result => Ok(result?),
        }
    }

    /// Lists the newest sessions whose names contain the text, as a hint; `None` if there are none.
    fn sessions_named_like(&self, text: &str, trashed: bool) -> Result<Option<String>, CliError> {
        const EXAMINED: u32 = 1_000;
        const LISTED: usize = 5;
        const NAME_WIDTH: usize = 40;
        let text = text.to_lowercase();
        let filter = SessionFilter { trashed, ..SessionFilter::default() };
        let page = self.store()?.list_sessions(&filter, &PageRequest::first(EXAMINED))?;
        let mut like = page
            .items
            .iter()
            .map(|summary| &summary.session)
            .filter(|session| !text.trim().is_empty() && session.name.to_lowercase().contains(&text));
        let listed: Vec<String> = like
            .by_ref()
            .take(LISTED)
            .map(|session| {
                let name = shorten(&sanitize::line(&session.name), NAME_WIDTH);
                format!("{} is {name:?}", session.id.short().shown())
            })
            .collect();
        let more = if like.next().is_some() { ", and more" } else { "" };
        let list = if trashed { "--trash" } else { "--all" };
        Ok((!listed.is_empty()).then(|| {
            let listed = listed.join(", ");
            format!("{listed}{more}; a name must be complete; `hfs session list {list}` shows every session")
        }))
    }

    /// Number of sessions, of a project or of all projects.
    fn count_sessions(&self, project: Option<&str>, trashed: bool) -> Result<usize, CliError> {
        const PAGE: u32 = 1_000;
        let filter =
            SessionFilter { project: project.map(str::to_owned), trashed, ..SessionFilter::default() };
        let (mut count, mut request) = (0, PageRequest::first(PAGE));
        loop {
            let page = self.store()?.list_sessions(&filter, &request)?;
            count += page.items.len();
            match page.next {
                Some(next) => request.after = Some(next),
                None => return Ok(count),
            }
        }
    }

    /// The origin of a key's value if it overrides the user's file; otherwise `None`.
    pub fn overriding_origin(&self, key: Key) -> Option<&ValueOrigin> {
        let origin = &self.config.get(key)?.origin;
        match origin {
            ValueOrigin::Default => None,
            ValueOrigin::File { path, .. } if *path == self.config_paths.user => None,
            ValueOrigin::File { .. } | ValueOrigin::Variable(_) | ValueOrigin::CommandLine(_) => Some(origin),
        }
    }

    /// Adds to an error which of these settings were set, where, and how to unset them.
    pub fn name_settings(&self, error: CliError, keys: &[Key]) -> CliError {
        // An error about a setting names it already.
        if matches!(error, CliError::Config(_)) {
            return error;
        }
        let settings: Vec<String> = keys.iter().filter_map(|key| self.how_to_unset(*key)).collect();
        if settings.is_empty() {
            return error;
        }
        CliError::FromSettings { error: Box::new(error), settings: settings.join("; ") }
    }

    /// Names the value of a key and its origin, and says how to unset it; `None` for a default.
    fn how_to_unset(&self, key: Key) -> Option<String> {
        let setting = self.config.get(key)?;
        let (name, value) = (key.name(), sanitize::line(&setting.value.to_string()));
        Some(match &setting.origin {
            // The user has just typed an option.
            ValueOrigin::Default | ValueOrigin::CommandLine(_) => return None,
            ValueOrigin::Variable(variable) => {
                format!("{name} is {value}, set by the variable {variable}: unset {variable}")
            }
            origin @ ValueOrigin::File { path, .. } => {
                let origin = sanitize::line(&origin.to_string());
                let how = if *path == self.config_paths.user {
                    format!("hfs config unset {name}")
                } else {
                    format!("remove it from {}", sanitize::line(&path.display().to_string()))
                };
                format!("{name} is {value}, set in {origin}: {how}")
            }
        })
    }

    /// Prints the warnings of the configuration, and why the project's folder is ignored.
    pub fn show_config_warnings(&self) {
        if let Some(warning) = self.project_folder.as_ref().and_then(ProjectFolderTrust::warning) {
            self.console.warn(&sanitize::line(&warning));
        }
        for warning in &self.config.warnings {
            self.console.warn(&sanitize::line(warning));
        }
    }
}

/// The error of `@-N` among the `count` sessions of a place, which are not enough.
fn no_such_recent(reference: &str, place: &str, count: usize, trashed: bool) -> CliError {
    let place = if trashed { "the trash" } else { place };
    let sessions = match count {
        0 => "no sessions".to_owned(),
        1 => "only 1 session, which is @".to_owned(),
        count => format!("only {count} sessions, @ to @-{}", count - 1),
    };
    let hint = match (trashed, count) {
        (true, _) => "`hfs session list --trash` shows it",
        (false, 0) => "`hfs chat \"...\"` starts one, `hfs import PATH` imports those of other tools",
        (false, _) => "`hfs session list --all` shows those of all projects; name one by its short id",
    };
    CliError::with_hint(
        ErrorKind::NotFound,
        format!("no session {reference:?}: {place} has {sessions}"),
        hint,
    )
}

/// The settings of the configuration, with what only an option sets.
fn settings_of(config: &Config, global: &GlobalArgs) -> Settings {
    Settings { all_owners: global.all_owners, ..config.settings() }
}
