//! The saved sessions for the server of the Model Context Protocol.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hfs_agents::Recall;
use hfs_core::{NoHooks, Project, SessionFilter, Suggestion, Timestamp, lock_unpoisoned};
use hfs_engine::Engine;
use hfs_mcp::Host;
use jiff::Zoned;
use jiff::tz::TimeZone;

use crate::context::Context;
use crate::environment::Environment;
use crate::output::error::CliError;
use crate::output::{suggestions, time_format};
use crate::project;
use crate::watch::catch_up::catch_up;

/// Time between two looks for new transcripts. A model often calls several tools in a row.
const CATCH_UP_PAUSE: Duration = Duration::from_secs(2);

/// Opens the store when a client first asks for something.
pub struct SavedSessions {
    /// Its own, because requests run on several threads.
    context: Mutex<Context>,
    environment: Environment,
    project: Project,
    engine: Mutex<Option<Engine>>,
    caught_up: Mutex<Option<Instant>>,
}

impl SavedSessions {
    /// The sessions of this context.
    ///
    /// # Errors
    /// If the context cannot be created again.
    pub fn new(context: &Context) -> Result<Self, CliError> {
        Ok(Self {
            context: Mutex::new(Context::new(context.global.clone(), context.environment.clone(), false)?),
            environment: context.environment.clone(),
            project: context.project().clone(),
            engine: Mutex::default(),
            caught_up: Mutex::default(),
        })
    }
}

impl Host for SavedSessions {
    fn engine(&self) -> Result<Engine, String> {
        let mut opened = lock_unpoisoned(&self.engine);
        if let Some(engine) = &*opened {
            return Ok(engine.clone());
        }
        let context = lock_unpoisoned(&self.context);
        let store = Arc::clone(context.store().map_err(|error| {
            let document = error.document();
            match &document.hint {
                Some(hint) => format!("{}. {hint}", document.one_line()),
                None => document.one_line(),
            }
        })?);
        let agent = Arc::new(Recall::new(Arc::clone(&store)));
        let engine = super::engine(&context, agent, store, Arc::new(NoHooks));
        Ok(opened.insert(engine).clone())
    }

    fn refresh(&self) {
        let mut caught_up = lock_unpoisoned(&self.caught_up);
        if caught_up.is_none_or(|at| at.elapsed() > CATCH_UP_PAUSE) {
            catch_up(&lock_unpoisoned(&self.context));
            *caught_up = Some(Instant::now());
        }
    }

    fn project(&self) -> Project {
        self.project.clone()
    }

    fn project_filter(&self, text: &str) -> SessionFilter {
        project::filter(text, &self.environment)
    }

    fn parse_time(&self, text: &str) -> Result<Timestamp, String> {
        time_format::parse(text, &Zoned::now()).map_err(|error| error.to_string())
    }

    fn time_zone(&self) -> TimeZone {
        TimeZone::system()
    }

    fn describe(&self, suggestion: &Suggestion) -> String {
        suggestions::describe(suggestion)
    }
}
