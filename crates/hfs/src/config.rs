//! The configuration: defaults, the user's file, the project's file, the environment and flags, in layers.
//!
//! A layer is a set of checked values, each with its place; the last layer that sets a key wins.

mod edit;
mod error;
mod file;
mod keys;
mod secret;
mod settings;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use edit::{list_in_file, set_in_file};
pub use error::{ConfigError, Place};
pub use file::text_of;
pub use keys::{KEYS, Key, Kind, ProjectMay};
pub use secret::secret_in;
pub use settings::{Settings, TriadsChoice};
pub use value::Value;

use crate::environment::Environment;

/// A value that somebody set.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The value.
    pub value: Value,
    /// Where it was set.
    pub place: Place,
}

/// The configuration in force.
#[derive(Debug, Default)]
pub struct Config {
    values: BTreeMap<&'static str, Setting>,
    from_project: BTreeSet<&'static str>,
    /// What a person should know: keys that nobody knows, keys that a project may not set.
    pub warnings: Vec<String>,
}

/// Where the layers are.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The user's file.
    pub user: PathBuf,
    /// The project's file; `None` where the working directory has none or it is the user's own.
    pub project: Option<PathBuf>,
}

impl Sources {
    /// The files that apply to this home and working directory.
    pub fn new(home: &Path, working_directory: &Path) -> Self {
        let user = home.join("config.yaml");
        let project = working_directory.join(".hfs").join("config.yaml");
        let same = || matches!((user.canonicalize(), project.canonicalize()), (Ok(a), Ok(b)) if a == b);
        let project = (project.exists() && !same()).then_some(project);
        Self { user, project }
    }
}

impl Config {
    /// What holds when nobody sets anything.
    ///
    /// # Errors
    /// Never: a test sees to it that the defaults are sound.
    pub fn defaults() -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for key in KEYS {
            if let Some(text) = key.default {
                config.take_text(key, text, Place::Default)?;
            }
        }
        Ok(config)
    }

    /// Reads all layers. `flags` are settings given on the command line, each with its option.
    ///
    /// # Errors
    /// The first value, in order of the layers, that cannot be used; see [`ConfigError`].
    pub fn load(
        sources: &Sources,
        environment: &Environment,
        flags: &[(&'static str, &'static str, String)],
    ) -> Result<Self, ConfigError> {
        let mut config = Self::defaults()?;
        let user = file::read(&sources.user)?;
        config.warnings.extend(user.warnings);
        for (key, setting) in user.values {
            config.values.insert(key.name, setting);
        }
        if let Some(path) = &sources.project {
            config.take_project(file::read(path)?, &sources.user);
        }
        for key in KEYS {
            if let Some(text) = environment.get(key.variable).filter(|text| !text.is_empty()) {
                config.take_text(key, text, Place::Variable(key.variable))?;
            }
        }
        for (name, option, text) in flags {
            if let Some(key) = Key::find(name) {
                config.take_text(key, text, Place::CommandLine(option))?;
            }
        }
        Ok(config)
    }

    /// The value of a setting and where it was set; `None` when nobody set it and it has no default.
    pub fn get(&self, key: &Key) -> Option<&Setting> {
        self.values.get(key.name)
    }

    fn take_text(&mut self, key: &'static Key, text: &str, place: Place) -> Result<(), ConfigError> {
        let value = Value::from_text(&key.kind, text).map_err(|found| ConfigError::Value {
            place: place.clone(),
            key: key.name.to_owned(),
            found,
            expected: key.kind.expected(),
        })?;
        self.from_project.remove(key.name);
        self.values.insert(key.name, Setting { value, place });
        Ok(())
    }

    /// Whoever wrote the project's file may be a stranger: it changes how things look and who is asked, never
    /// where keys and data go or what is removed.
    fn take_project(&mut self, layer: file::Layer, user_file: &Path) {
        self.warnings.extend(layer.warnings);
        for (key, setting) in layer.values {
            match (key.project, self.values.get_mut(key.name), setting) {
                (ProjectMay::Set, _, setting) => {
                    self.from_project.insert(key.name);
                    self.values.insert(key.name, setting);
                }
                (ProjectMay::Add, Some(Setting { value: Value::List(list), .. }), Setting { value: Value::List(more), place }) => {
                    let new: Vec<String> = more.into_iter().filter(|item| !list.contains(item)).collect();
                    if !new.is_empty() {
                        list.extend(new);
                        if let Some(there) = self.values.get_mut(key.name) {
                            there.place = place;
                        }
                    }
                }
                (_, _, Setting { place, .. }) => self.warnings.push(format!(
                    "{place}: {} is ignored: a project may not decide where keys and data go or what is removed; \
                     set it in {} if you want it",
                    key.name,
                    user_file.display()
                )),
            }
        }
    }
}
