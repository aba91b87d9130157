//! The saved sessions for the server of the Model Context Protocol.

use std::sync::{Arc, Mutex};

use hfs_agents::Recall;
use hfs_core::{Project, SessionFilter, Suggestion, Timestamp, lock_unpoisoned};
use hfs_engine::Engine;
use hfs_mcp::Host;
use jiff::Zoned;
use jiff::tz::TimeZone;

use super::{engine_settings, open_store};
use crate::config::Settings;
use crate::context::Context;
use crate::environment::Environment;
use crate::home::Home;
use crate::output::{suggestions, time_format};
use crate::project;

/// Opens the store when a client first asks for something.
pub struct SavedSessions {
    home: Home,
    settings: Settings,
    environment: Environment,
    project: Project,
    engine: Mutex<Option<Engine>>,
}

impl SavedSessions {
    pub fn new(context: &Context) -> Self {
        Self {
            home: context.home.clone(),
            settings: context.settings.clone(),
            environment: context.environment.clone(),
            project: context.project().clone(),
            engine: Mutex::default(),
        }
    }
}

impl Host for SavedSessions {
    fn engine(&self) -> Result<Engine, String> {
        let mut opened = lock_unpoisoned(&self.engine);
        if let Some(engine) = &*opened {
            return Ok(engine.clone());
        }
        let store = open_store(&self.home, &self.settings).map_err(|error| {
            let document = error.document();
            match &document.hint {
                Some(hint) => format!("{}. {hint}", document.one_line()),
                None => document.one_line(),
            }
        })?;
        let engine = Engine::builder(Arc::clone(&store), Arc::new(Recall::new(store)))
            .settings(engine_settings(&self.settings))
            .build();
        Ok(opened.insert(engine).clone())
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
