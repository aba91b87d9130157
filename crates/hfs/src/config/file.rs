//! One configuration file, read and checked.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::Setting;
use super::error::{ConfigError, Place};
use super::keys::Key;
use super::secret::{is_secret_name, secret_in};
use super::value::{Located, Raw, Value};

/// More than anybody writes by hand; what is larger (or endless, such as a device) is no configuration.
const LARGEST_FILE: u64 = 256 * 1024;

/// What a file sets.
#[derive(Debug, Default)]
pub struct Layer {
    /// Its settings, in its order.
    pub values: Vec<(&'static Key, Setting)>,
    /// What a person should know about it.
    pub warnings: Vec<String>,
}

/// Reads a file; one that does not exist sets nothing.
pub fn read(path: &Path) -> Result<Layer, ConfigError> {
    text_of(path)?.map_or_else(|| Ok(Layer::default()), |text| parse(path, &text))
}

/// The text of a file; `None` when it does not exist.
pub fn text_of(path: &Path) -> Result<Option<String>, ConfigError> {
    let fail = |source| ConfigError::Read { path: path.to_owned(), source };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(fail(error)),
    };
    if !metadata.is_file() || metadata.len() > LARGEST_FILE {
        return Err(fail(std::io::Error::new(
            ErrorKind::InvalidData,
            format!("it is not a file of at most {} KB", LARGEST_FILE / 1024),
        )));
    }
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(LARGEST_FILE).read_to_string(&mut text)).map_err(fail)?;
    Ok(Some(text))
}

/// Checks the text of a file.
pub fn parse(path: &Path, text: &str) -> Result<Layer, ConfigError> {
    let place = |line| Place::File { path: path.to_owned(), line };
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let root: Option<Located> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        ConfigError::Syntax {
            place: place(line),
            message: format!("this is not YAML: {}", first_line(&error)),
        }
    })?;
    let mut layer = Layer::default();
    match root.map(|root| root.value) {
        None | Some(Raw::Null) => {}
        Some(Raw::Map(entries)) => layer.take(path, "", &entries)?,
        Some(other) => {
            let message = format!("the file holds {other}; expected settings such as `model: NAME`");
            return Err(ConfigError::Syntax { place: place(1), message });
        }
    }
    Ok(layer)
}

impl Layer {
    fn take(
        &mut self,
        path: &Path,
        group: &str,
        entries: &[(serde_saphyr::Spanned<String>, Located)],
    ) -> Result<(), ConfigError> {
        for (name, raw) in entries {
            let place = Place::File { path: path.to_owned(), line: name.referenced.line() };
            let full = if group.is_empty() { name.value.clone() } else { format!("{group}.{}", name.value) };
            let known = if name.value.contains('.') { None } else { Key::find(&full) };
            if let Some(key) = known {
                let value = checked(key, &raw.value, &place)?;
                self.values.push((key, Setting { value, place }));
            } else if Key::is_group(&full) {
                match &raw.value {
                    Raw::Null => {}
                    Raw::Map(entries) => self.take(path, &full, entries)?,
                    other => {
                        return Err(ConfigError::Value {
                            place,
                            key: full,
                            found: other.to_string(),
                            expected: "a group of settings".into(),
                        });
                    }
                }
            } else {
                self.unknown(&full, &raw.value, place)?;
            }
        }
        Ok(())
    }

    /// A key that nobody knows is a warning, so that a file can serve several versions; a secret is refused
    /// wherever it stands.
    fn unknown(&mut self, name: &str, raw: &Raw, place: Place) -> Result<(), ConfigError> {
        let text = if let Raw::Text(text) = raw { Some(text) } else { None };
        let by_name = is_secret_name(name.rsplit('.').next().unwrap_or(name)) && text.is_some();
        let reason = by_name
            .then_some("its name says it is a secret")
            .or_else(|| text.and_then(|text| secret_in(text)));
        if let Some(reason) = reason {
            return Err(ConfigError::Secret { place, key: name.to_owned(), reason });
        }
        let meant = match Key::nearest(name) {
            Some(key) if key.name == name => {
                format!("; write its levels one below the other: {}", nested(name))
            }
            Some(key) => format!("; did you mean {}?", key.name),
            None => String::new(),
        };
        self.warnings.push(format!("{place}: unknown key {name:?}{meant}"));
        Ok(())
    }
}

/// The value of a setting, checked for kind and for secrets.
pub fn checked(key: &'static Key, raw: &Raw, place: &Place) -> Result<Value, ConfigError> {
    if let Raw::Text(text) = raw
        && let Some(reason) = secret_in(text)
    {
        return Err(ConfigError::Secret { place: place.clone(), key: key.name.to_owned(), reason });
    }
    Value::from_raw(&key.kind, raw).map_err(|found| ConfigError::Value {
        place: place.clone(),
        key: key.name.to_owned(),
        found,
        expected: key.kind.expected(),
    })
}

fn nested(name: &str) -> String {
    name.split('.').collect::<Vec<_>>().join(": ")
}

fn first_line(error: &serde_saphyr::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
