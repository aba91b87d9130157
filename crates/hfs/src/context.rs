//! What every command works with, made when it is first needed.

use std::cell::OnceCell;
use std::sync::Arc;

use hfs_agents::Recall;
use hfs_core::{
    Hooks, NoHooks, PageRequest, Project, SessionFilter, SessionId, SessionRef, Store, StoreError,
    SystemClock, Timestamp,
};
use hfs_engine::Engine;
use hfs_plugins::Plugins;

use crate::args::Global;
use crate::config::{Config, ConfigError, Settings, Sources};
use crate::console::{Console, Manner};
use crate::environment::Environment;
use crate::failure::Failure;
use crate::home::Home;
use crate::{plain, project, wiring};

/// What every command works with.
pub struct Context {
    /// The options of every command.
    pub global: Global,
    /// What the process was started with.
    pub environment: Environment,
    /// Where everything is kept.
    pub home: Home,
    /// Where the configuration is.
    pub sources: Sources,
    /// The configuration; the defaults alone when it makes no sense.
    pub config: Config,
    /// Why the configuration makes no sense.
    pub config_error: Option<ConfigError>,
    /// The settings in force.
    pub settings: Settings,
    /// Standard output and standard error.
    pub console: Console,
    /// The time.
    pub clock: SystemClock,
    store: OnceCell<Arc<dyn Store>>,
    plugins: OnceCell<Option<Plugins>>,
    project: OnceCell<Project>,
}

impl Context {
    /// Reads the configuration.
    ///
    /// # Errors
    /// When there is no home directory.
    pub fn new(global: Global, environment: Environment) -> Result<Self, Failure> {
        let home = Home::find(global.home.as_deref(), &environment)?;
        let sources = Sources::new(home.root(), &environment.working_directory);
        let (config, config_error) = match Config::load(&sources, &environment, &global.settings()) {
            Ok(config) => (config, None),
            Err(error) => (Config::defaults()?, Some(error)),
        };
        let settings = config.settings();
        let manner = Manner {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose || (settings.verbose_output && !global.quiet),
        };
        let console = Console::new(manner, &settings.color);
        Ok(Self {
            global,
            environment,
            home,
            sources,
            config,
            config_error,
            settings,
            console,
            clock: SystemClock,
            store: OnceCell::new(),
            plugins: OnceCell::new(),
            project: OnceCell::new(),
        })
    }

    /// The same, over a store that is open already.
    pub fn with_store(self, store: Arc<dyn Store>) -> Self {
        Self { store: OnceCell::from(store), ..self }
    }

    /// The plugins, started at the first call; `None` where nobody wants any.
    ///
    /// # Errors
    /// As the store's opening has it.
    pub fn plugins(&self) -> Result<Option<&Plugins>, Failure> {
        if let Some(plugins) = self.plugins.get() {
            return Ok(plugins.as_ref());
        }
        let store = Arc::clone(self.store()?);
        let begin = || Plugins::start(wiring::plugins::parts(self, Some(store)));
        Ok(self.plugins.get_or_init(|| (!self.global.no_plugins).then(begin)).as_ref())
    }

    /// What listens in on conversations: the plugins, where there are any.
    ///
    /// # Errors
    /// As [`plugins`](Self::plugins).
    pub fn hooks(&self) -> Result<Arc<dyn Hooks>, Failure> {
        Ok(match self.plugins()? {
            Some(plugins) => Arc::new(plugins.clone()),
            None => Arc::new(NoHooks),
        })
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        hfs_core::Clock::now(&self.clock)
    }

    /// The store, opened at the first call.
    ///
    /// # Errors
    /// As its opening has it.
    pub fn store(&self) -> Result<&Arc<dyn Store>, Failure> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let store = wiring::open_store(&self.home, &self.settings)?;
        Ok(self.store.get_or_init(|| store))
    }

    /// The use cases that ask no agent and no plugin anything. The offline agent stands in its place.
    ///
    /// # Errors
    /// As the store's opening has it.
    pub fn engine(&self) -> Result<Engine, Failure> {
        self.engine_with(Arc::new(NoHooks))
    }

    /// The same with hooks of the caller's.
    ///
    /// # Errors
    /// As the store's opening has it.
    pub fn engine_with(&self, hooks: Arc<dyn Hooks>) -> Result<Engine, Failure> {
        let store = Arc::clone(self.store()?);
        Ok(wiring::engine(self, Arc::new(Recall::new(Arc::clone(&store))), store, hooks))
    }

    /// The project of the working directory.
    pub fn project(&self) -> &Project {
        self.project.get_or_init(|| project::of_directory(&self.environment.working_directory))
    }

    /// The session that a person means.
    ///
    /// # Errors
    /// `NotFound`, or `Conflict` when several are meant.
    pub fn session(&self, reference: &str) -> Result<SessionId, Failure> {
        self.resolve(reference, false)
    }

    /// The session in the trash that a person means.
    ///
    /// # Errors
    /// As [`session`](Self::session).
    pub fn trashed_session(&self, reference: &str) -> Result<SessionId, Failure> {
        self.resolve(reference, true)
    }

    /// `@` means the newest session of this project; where it has none, the newest of all.
    fn resolve(&self, reference: &str, trashed: bool) -> Result<SessionId, Failure> {
        let store = self.store()?;
        let parsed = SessionRef::new(reference);
        if !matches!(parsed, SessionRef::Recent(_)) {
            return Ok(store.resolve_session(&parsed, None, trashed)?);
        }
        match store.resolve_session(&parsed, Some(self.project().key()), trashed) {
            Err(StoreError::NotFound { .. }) if !self.has_sessions_here(trashed)? => {
                let found = store.resolve_session(&parsed, None, trashed)?;
                let name = store.get_session(found)?.session.name;
                self.console
                    .note(&format!("this project has no sessions; {reference} is {:?}", plain::line(&name)));
                Ok(found)
            }
            other => Ok(other?),
        }
    }

    fn has_sessions_here(&self, trashed: bool) -> Result<bool, Failure> {
        let project = Some(self.project().key().to_owned());
        let filter = SessionFilter { project, trashed, ..SessionFilter::default() };
        Ok(!self.store()?.list_sessions(&filter, &PageRequest::first(1))?.items.is_empty())
    }

    /// Warns about what the configuration says and should not.
    pub fn show_config_warnings(&self) {
        for warning in &self.config.warnings {
            self.console.warn(&plain::line(warning));
        }
    }
}
