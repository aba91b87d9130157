//! The configuration: defaults, the user's file, the project's file, environment variables and command line options.
//!
//! Each layer overrides those before it, except that a project's file has no effect before the user has trusted it (see
//! `trust`) and cannot set every key (see `ProjectPolicy`). Every value is checked when its layer is read, so the rest of
//! the binary uses typed `Settings` without further checks. A mistake in the user's file is an error; one in a project's
//! file is a warning, because its author is not the user.

mod error;
mod file;
mod key;
mod programs;
mod secret;
mod settings;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use error::{ConfigError, ValueOrigin};
pub use file::{check_argument, list_in_file, read_project, read_text, set_in_file, unset_in_file};
#[cfg(test)]
pub use key::KeySpec;
pub use key::{Key, ProjectPolicy, ValueType};
pub use programs::{AgentEntry, BUILT_IN, Programs, ToolServerEntry, TranscriptFormat};
pub use secret::{SecretReason, contains_secret};
pub use settings::{AgentName, ColorMode, Settings, Theme, TriadsSetting};
pub use value::Value;

use crate::environment::Environment;
use crate::wiring::triads;

/// A value and where it was set.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    pub value: Value,
    pub origin: ValueOrigin,
}

/// A setting that a command line option overrides.
#[derive(Debug)]
pub struct Override {
    pub key: Key,
    /// The option, such as `--color`.
    pub option: &'static str,
    /// The value, in the syntax of `config set`.
    pub text: String,
}

/// The configuration in effect.
#[derive(Debug, Default)]
pub struct Config {
    values: BTreeMap<Key, Setting>,
    /// Keys whose value a project's file replaced and no later layer overrode.
    from_project: BTreeSet<Key>,
    /// The programs of the user's file. No other layer has any.
    programs: Programs,
    /// Problems that are not errors: unknown keys, and keys that a project may not set.
    pub warnings: Vec<String>,
}

/// The configuration files.
#[derive(Debug, Clone)]
pub struct ConfigPaths {
    pub user: PathBuf,
    /// `None` if the working directory has no configuration file that the user has trusted.
    pub project: Option<PathBuf>,
}

impl Config {
    /// The defaults.
    ///
    /// # Errors
    /// If a default is not valid. A test checks that all defaults are valid.
    pub fn defaults() -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for key in Key::all() {
            if let Some(text) = key.spec().default {
                config.set_text(key, text, ValueOrigin::Default)?;
            }
        }
        Ok(config)
    }

    /// Reads all layers.
    ///
    /// # Errors
    /// Reports the first file that cannot be read or value that is not valid, in the order of the layers.
    pub fn load(
        paths: &ConfigPaths,
        environment: &Environment,
        overrides: &[Override],
    ) -> Result<Self, ConfigError> {
        let mut config = Self::defaults()?;
        let user = file::read(&paths.user)?;
        config.warnings.extend(user.warnings);
        config.values.extend(user.values);
        config.programs = user.programs;
        if let Some(path) = &paths.project {
            match read_project(path) {
                Ok(layer) => config.apply_project(layer, &paths.user, environment),
                Err(error) => {
                    config
                        .warnings
                        .push(format!("{}; the settings of this project are ignored", error.with_cause()));
                }
            }
        }
        for key in Key::all() {
            let variable = key.spec().env_var;
            if let Some(text) = environment.get_non_empty(variable) {
                config.set_text(key, text, ValueOrigin::Variable(variable))?;
            }
        }
        for Override { key, option, text } in overrides {
            config.set_text(*key, text, ValueOrigin::CommandLine(option))?;
        }
        Ok(config)
    }

    /// The value of a key and where it was set; `None` if it is not set and has no default.
    pub fn get(&self, key: Key) -> Option<&Setting> {
        self.values.get(&key)
    }

    /// Whether the value in effect was set by a project's file.
    fn is_from_project(&self, key: Key) -> bool {
        self.from_project.contains(&key)
    }

    fn set_text(&mut self, key: Key, text: &str, origin: ValueOrigin) -> Result<(), ConfigError> {
        let value = file::parse_text(key, text, &origin)?;
        self.from_project.remove(&key);
        self.values.insert(key, Setting { value, origin });
        Ok(())
    }

    fn apply_project(&mut self, layer: file::Layer, user_file: &Path, environment: &Environment) {
        self.warnings.extend(layer.warnings);
        for (section, origin) in layer.program_sections {
            self.warnings.push(format!("{origin}: {}", section.project_warning()));
        }
        for (key, setting) in layer.values {
            match key.spec().project_policy {
                ProjectPolicy::Replace => {
                    if let Err(error) = check_project_value(key, &setting, environment) {
                        self.warnings.push(format!("{error}; {} of this project is ignored", key.name()));
                        continue;
                    }
                    self.from_project.insert(key);
                    self.values.insert(key, setting);
                }
                ProjectPolicy::Ignore => self.warnings.push(format!(
                    "{}: {} is ignored: a project may not choose stores, addresses or keys, what is deleted, or which \
                     plugins run; set it in {} if you want it",
                    setting.origin,
                    key.name(),
                    user_file.display()
                )),
            }
        }
    }
}

/// Checks what only the use of a value would show, so that a project's mistake does not stop a command.
///
/// # Errors
/// Says why the value is ignored.
pub fn check_project_value(
    key: Key,
    setting: &Setting,
    environment: &Environment,
) -> Result<(), ConfigError> {
    match (key, &setting.value) {
        (Key::Agent, Value::Text(text)) if AgentName::new(text).program().is_some() => {
            Err(ConfigError::InvalidValue {
                origin: setting.origin.clone(),
                key: key.name().to_owned(),
                found: format!("{text:?}"),
                expected: "assistant, triads or recall, because a project may not choose commands".into(),
            })
        }
        (Key::Triads, Value::Text(text)) => {
            let triads =
                TriadsSetting { text: text.clone(), origin: setting.origin.clone(), from_project: true };
            // `mixed`, which needs the programs, is not for projects.
            triads::load(&triads, &Programs::default(), environment).map(drop)
        }
        _ => Ok(()),
    }
}
