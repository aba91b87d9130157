//! The configuration: defaults, the user's file, the project's file, environment variables and command line options.
//!
//! Each layer overrides those before it, except that a project's file cannot set every key (see `ProjectPolicy`). Every
//! value is checked when its layer is read, so the rest of the binary uses typed `Settings` without further checks.

mod error;
mod file;
mod key;
mod secret;
mod settings;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use error::{ConfigError, ValueOrigin};
pub use file::{list_in_file, read_text, set_in_file};
pub use key::{Key, ProjectPolicy, ValueType};
pub use secret::{SecretReason, contains_secret};
pub use settings::{AgentKind, ColorMode, Settings, Theme, TriadsSetting};
pub use value::Value;

use crate::environment::Environment;

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
    /// Problems that are not errors: unknown keys, and keys that a project may not set.
    pub warnings: Vec<String>,
}

/// The configuration files.
#[derive(Debug, Clone)]
pub struct ConfigPaths {
    pub user: PathBuf,
    /// `None` if the working directory has no configuration file, or if that file is the user's.
    pub project: Option<PathBuf>,
}

impl ConfigPaths {
    pub fn new(home: &Path, working_directory: &Path) -> Self {
        let user = home.join("config.yaml");
        let project = working_directory.join(".hfs").join("config.yaml");
        let is_user_file =
            || matches!((user.canonicalize(), project.canonicalize()), (Ok(a), Ok(b)) if a == b);
        let project = (project.exists() && !is_user_file()).then_some(project);
        Self { user, project }
    }
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
        if let Some(path) = &paths.project {
            config.apply_project(file::read(path)?, &paths.user);
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

    fn apply_project(&mut self, layer: file::Layer, user_file: &Path) {
        self.warnings.extend(layer.warnings);
        for (key, setting) in layer.values {
            match key.spec().project_policy {
                ProjectPolicy::Replace => {
                    self.from_project.insert(key);
                    self.values.insert(key, setting);
                }
                ProjectPolicy::Append => self.append(key, setting),
                ProjectPolicy::Ignore => self.warnings.push(format!(
                    "{}: {} is ignored: a project may not decide where keys and data go or what is deleted; \
                     set it in {} if you want it",
                    setting.origin,
                    key.name(),
                    user_file.display()
                )),
            }
        }
    }

    /// Appends the items that the list in effect does not contain.
    fn append(&mut self, key: Key, setting: Setting) {
        let Value::List(more) = setting.value else { return };
        let current = self
            .values
            .entry(key)
            .or_insert_with(|| Setting { value: Value::List(Vec::new()), origin: ValueOrigin::Default });
        if let Value::List(items) = &mut current.value {
            let before = items.len();
            for item in more {
                if !items.contains(&item) {
                    items.push(item);
                }
            }
            if items.len() > before {
                current.origin = setting.origin;
            }
        }
    }
}
