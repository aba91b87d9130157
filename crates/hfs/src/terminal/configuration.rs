//! The app's door to the configuration files.

use std::sync::Arc;

use hfs_core::{ErrorExt, Hooks, Store};
use hfs_tui::{Background, ConfigChange, ConfigEntry, Configuration, ErrorReport};

use crate::args::Global;
use crate::config::{KEYS, Key, Kind, Place, set_in_file};
use crate::context::Context;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::wiring;

/// Settings that another agent may answer after.
const AGENTS: [&str; 10] = [
    "agent",
    "triads",
    "model",
    "provider",
    "base_url",
    "max_tokens",
    "temperature",
    "system_prompt",
    "context_chars",
    "checkpoint_retention",
];

/// Reads the files anew at each call: another process may have written them.
pub struct Files {
    global: Global,
    environment: Environment,
    store: Arc<dyn Store>,
    /// The ground that the terminal has.
    ground: Background,
    hooks: Arc<dyn Hooks>,
}

impl Files {
    pub fn new(context: &Context, store: Arc<dyn Store>, ground: Background, hooks: Arc<dyn Hooks>) -> Self {
        Self {
            global: context.global.clone(),
            environment: context.environment.clone(),
            store,
            ground,
            hooks,
        }
    }

    fn context(&self) -> Result<Context, Failure> {
        Ok(Context::new(self.global.clone(), self.environment.clone())?.with_store(Arc::clone(&self.store)))
    }

    fn change(&self, name: &str, text: &str) -> Result<ConfigChange, Failure> {
        let context = self.context()?;
        let key = Key::named(name)?;
        context.home.create()?;
        let text = wiring::to_write_down(key, text, &context.environment)?;
        let value = set_in_file(&context.sources.user, key, &text)?;
        let context = self.context()?;
        let engine = if AGENTS.contains(&name) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| Failure::io("start the asynchronous runtime", error))?;
            let answerer = runtime.block_on(wiring::choose(&context))?;
            Some(wiring::engine(&context, answerer.agent, Arc::clone(&self.store), Arc::clone(&self.hooks)))
        } else {
            None
        };
        let from_elsewhere = context.config.get(key).map(|setting| &setting.place).filter(|place| {
            !matches!(place, Place::Default)
                && !matches!(place, Place::File { path, .. } if *path == context.sources.user)
        });
        let note = match from_elsewhere {
            Some(place) => format!("{name} is also set by {place}, which counts more here"),
            None if name.starts_with("store.") => format!("{name} is {value} from the next start on"),
            None => format!("{name} is {value} now"),
        };
        Ok(ConfigChange { settings: Some(super::settings(&context, self.ground)), engine, note })
    }
}

impl Configuration for Files {
    fn entries(&self) -> Vec<ConfigEntry> {
        let Ok(context) = self.context() else { return Vec::new() };
        KEYS.iter()
            .map(|key| {
                let setting = context.config.get(key);
                ConfigEntry {
                    key: key.name.to_owned(),
                    value: setting.map_or_else(String::new, |setting| setting.value.to_string()),
                    origin: setting.map_or(&Place::Default, |setting| &setting.place).to_string(),
                    about: key.about.to_owned(),
                    choices: match key.kind {
                        Kind::Choice(choices) => choices.iter().map(|choice| (*choice).to_owned()).collect(),
                        _ => Vec::new(),
                    },
                }
            })
            .collect()
    }

    fn set(&self, key: &str, value: &str) -> Result<ConfigChange, ErrorReport> {
        self.change(key, value).map_err(|error| told(&error))
    }
}

/// A failure as the app shows it.
pub fn told(error: &Failure) -> ErrorReport {
    let document = error.document();
    let mut message = document.message;
    for cause in document.causes {
        message.push_str(": ");
        message.push_str(&cause);
    }
    ErrorReport { kind: error.kind(), message, suggestion: document.hint }
}
