//! Reads, checks and changes one configuration file.
//!
//! A change replaces one value and keeps comments and layout. It is applied to the text by `yaml-edit`, and the result
//! is parsed again: if any other setting has changed, the file is not written.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::str::FromStr;

use hfs_files::Durability;
use yaml_edit::path::{PathError, YamlPath};
use yaml_edit::{YamlFile, YamlValue};

use super::Setting;
use super::error::{ConfigError, ValueOrigin};
use super::key::Key;
use super::programs::{ProgramSection, Programs};
use super::secret::{SecretReason, contains_secret, is_secret_name, shown};
use super::value::{RawValue, SpannedValue, Value};

/// Larger files are refused. The limit also stops a read from a device that never ends.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// First line of a new file.
const HEADER: &str = "# Settings of hfs; `hfs config list` shows all of them.\n";

/// The settings of one file.
#[derive(Debug, Default)]
pub struct Layer {
    /// In the order of the file.
    pub values: Vec<(Key, Setting)>,
    pub programs: Programs,
    /// Where the sections with programs are.
    pub program_sections: Vec<(ProgramSection, ValueOrigin)>,
    /// Unknown keys.
    pub warnings: Vec<String>,
}

/// Reads a file. A missing file sets nothing.
pub fn read(path: &Path) -> Result<Layer, ConfigError> {
    read_text(path)?.map_or_else(|| Ok(Layer::default()), |text| parse(path, &text))
}

/// Reads the file of a project, which is part of what the user has trusted. The target of a symbolic link is not.
pub fn read_project(path: &Path) -> Result<Layer, ConfigError> {
    if std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
        let source = std::io::Error::new(
            ErrorKind::InvalidInput,
            "it is a symbolic link, whose target may change after you have trusted the folder",
        );
        return Err(ConfigError::Read { path: path.to_owned(), source });
    }
    read(path)
}

/// The text of a configuration file; `None` if it does not exist.
pub fn read_text(path: &Path) -> Result<Option<String>, ConfigError> {
    let read_error = |source| ConfigError::Read { path: path.to_owned(), source };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(read_error(error)),
    };
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(read_error(std::io::Error::new(
            ErrorKind::InvalidData,
            format!("it is not a file of at most {} KB", MAX_FILE_BYTES / 1024),
        )));
    }
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
        .map_err(read_error)?;
    Ok(Some(text))
}

/// Parses and checks the text of a file.
pub fn parse(path: &Path, text: &str) -> Result<Layer, ConfigError> {
    let origin = |line| ValueOrigin::File { path: path.to_owned(), line };
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let root: Option<SpannedValue> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        let text = error.to_string();
        let first_line = shown(text.lines().next().unwrap_or_default());
        ConfigError::Syntax { origin: origin(line), message: format!("this is not YAML: {first_line}") }
    })?;
    let mut layer = Layer::default();
    match root.map(|root| root.value) {
        None | Some(RawValue::Null) => {}
        Some(RawValue::Map(entries)) => layer.add_group(path, "", &entries)?,
        Some(other) => {
            let message = format!("the file contains {other}; expected settings such as `model: NAME`");
            return Err(ConfigError::Syntax { origin: origin(1), message });
        }
    }
    // A comment, the name of a key, or any other place.
    for (line, text) in (1..).zip(text.lines()) {
        refuse_secret("this line", text, &origin(line))?;
    }
    Ok(layer)
}

impl Layer {
    /// Adds the entries of a mapping whose keys have the prefix `group`.
    fn add_group(
        &mut self,
        path: &Path,
        group: &str,
        entries: &[(serde_saphyr::Spanned<String>, SpannedValue)],
    ) -> Result<(), ConfigError> {
        for (name, raw) in entries {
            let origin = ValueOrigin::File { path: path.to_owned(), line: name.referenced.line() };
            let full_name =
                if group.is_empty() { name.value.clone() } else { format!("{group}.{}", name.value) };
            // `store.url: x` on one line is not supported; `add_unknown` explains how to write it.
            let key = if name.value.contains('.') { None } else { Key::find(&full_name) };
            if let Some(section) = ProgramSection::find(&full_name) {
                self.programs.add(section, &raw.value, &origin)?;
                self.program_sections.push((section, origin));
            } else if let Some(key) = key {
                let value = check(key, &raw.value, &origin)?;
                self.values.push((key, Setting { value, origin }));
            } else if Key::is_group(&full_name) {
                match &raw.value {
                    RawValue::Null => {}
                    RawValue::Map(entries) => self.add_group(path, &full_name, entries)?,
                    other => {
                        return Err(ConfigError::InvalidValue {
                            origin,
                            key: full_name,
                            found: other.to_string(),
                            expected: "a group of settings".into(),
                        });
                    }
                }
            } else {
                self.add_unknown(&full_name, &raw.value, &origin)?;
            }
        }
        Ok(())
    }

    /// An unknown key is a warning, so that one file can serve several versions of hfs. An unknown key that holds a
    /// secret is an error.
    fn add_unknown(&mut self, name: &str, raw: &RawValue, origin: &ValueOrigin) -> Result<(), ConfigError> {
        refuse_secrets_below(name, raw, origin)?;
        let suggestion = match Key::most_similar(name) {
            Some(key) if key.name() == name => {
                let nested = name.split('.').collect::<Vec<_>>().join(": ");
                format!("; nest the keys, one level per line: {nested}")
            }
            Some(key) => format!("; did you mean {}?", key.name()),
            None => String::new(),
        };
        self.warnings.push(format!("{origin}: unknown key {:?}{suggestion}", shown(name)));
        Ok(())
    }
}

/// Converts a value of a file and refuses secrets.
fn check(key: Key, raw: &RawValue, origin: &ValueOrigin) -> Result<Value, ConfigError> {
    for text in texts(raw) {
        refuse_secret(key.name(), text, origin)?;
    }
    if let RawValue::Map(entries) = raw {
        for (name, value) in entries {
            let RawValue::Text(text) = &value.value else { continue };
            let holds_secret =
                is_secret_name(&name.value) || name.value.eq_ignore_ascii_case("authorization");
            if holds_secret && !text.contains('$') {
                return Err(secret_error(
                    &format!("{}.{}", key.name(), name.value),
                    origin,
                    SecretReason::Name,
                ));
            }
        }
    }
    let value_type = &key.spec().value_type;
    Value::from_raw(value_type, raw).map_err(|mismatch| ConfigError::InvalidValue {
        origin: origin.clone(),
        key: key.name().to_owned(),
        found: mismatch.0,
        expected: value_type.expected(),
    })
}

fn refuse_secret(key: &str, text: &str, origin: &ValueOrigin) -> Result<(), ConfigError> {
    if contains_secret(text) { Err(secret_error(key, origin, SecretReason::Value)) } else { Ok(()) }
}

/// Refuses a value without a key of its own if it, or a value inside of it, is a secret by its name or by its text.
pub fn refuse_secrets_below(name: &str, raw: &RawValue, origin: &ValueOrigin) -> Result<(), ConfigError> {
    let last = name.rsplit('.').next().unwrap_or(name);
    match raw {
        RawValue::Map(entries) => entries.iter().try_for_each(|(key, raw)| {
            let origin = match origin {
                ValueOrigin::File { path, .. } => {
                    ValueOrigin::File { path: path.clone(), line: key.referenced.line() }
                }
                other => other.clone(),
            };
            refuse_secrets_below(&format!("{name}.{}", key.value), &raw.value, &origin)
        }),
        RawValue::List(items) => {
            items.iter().try_for_each(|item| refuse_secrets_below(name, &item.value, origin))
        }
        // A reference to an environment variable.
        RawValue::Text(text) if text.starts_with('$') => Ok(()),
        RawValue::Text(_) if is_secret_name(last) => Err(secret_error(name, origin, SecretReason::Name)),
        // A number of tokens is a setting.
        RawValue::Integer(_) | RawValue::Float(_) if is_secret_name(last) && !last.contains("token") => {
            Err(secret_error(name, origin, SecretReason::Name))
        }
        RawValue::Text(text) => refuse_secret(name, text, origin),
        RawValue::Null | RawValue::Bool(_) | RawValue::Integer(_) | RawValue::Float(_) => Ok(()),
    }
}

/// All texts in a value.
fn texts(raw: &RawValue) -> Vec<&str> {
    match raw {
        RawValue::Text(text) => vec![text],
        RawValue::List(items) => items.iter().flat_map(|item| texts(&item.value)).collect(),
        RawValue::Map(entries) => entries.iter().flat_map(|(_, item)| texts(&item.value)).collect(),
        RawValue::Null | RawValue::Bool(_) | RawValue::Integer(_) | RawValue::Float(_) => Vec::new(),
    }
}

fn secret_error(key: &str, origin: &ValueOrigin, reason: SecretReason) -> ConfigError {
    ConfigError::Secret { origin: origin.clone(), key: shown(key).into_owned(), reason }
}

/// Parses a value that was given outside of a file.
pub fn parse_text(key: Key, text: &str, origin: &ValueOrigin) -> Result<Value, ConfigError> {
    let value_type = &key.spec().value_type;
    Value::from_text(value_type, text).map_err(|mismatch| ConfigError::InvalidValue {
        origin: origin.clone(),
        key: key.name().to_owned(),
        found: mismatch.0,
        expected: value_type.expected(),
    })
}

/// The list that this file sets for `key`, regardless of other layers; empty if it does not set the key.
///
/// # Errors
/// If the file is not valid.
pub fn list_in_file(path: &Path, key: Key) -> Result<Vec<String>, ConfigError> {
    let setting = read(path)?.values.into_iter().find(|(other, _)| *other == key);
    Ok(match setting {
        Some((_, Setting { value: Value::List(list), .. })) => list,
        _ => Vec::new(),
    })
}

/// Sets a key in a file, which is created if it is missing, and replaces the file atomically.
///
/// # Errors
/// If the value or the file is not valid, or if the change would affect other settings.
pub fn set_in_file(path: &Path, key: Key, text: &str) -> Result<Value, ConfigError> {
    let value = check_argument(key, text)?;
    let before = read_text(path)?.unwrap_or_else(|| HEADER.to_owned());
    let after = with_value(path, key, &value, &before)?;
    hfs_files::replace(path, after.as_bytes(), Durability::Synced)
        .map_err(|source| ConfigError::Write { path: path.to_owned(), source })?;
    Ok(value)
}

/// Checks a value for a file that was given on the command line.
///
/// # Errors
/// If the value is not valid, or is a secret.
pub fn check_argument(key: Key, text: &str) -> Result<Value, ConfigError> {
    // `parse_text` accepts secrets, because environment variables may contain them. A file must not.
    refuse_secret(key.name(), text, &ValueOrigin::ARGUMENT)?;
    if hfs_secrets::contains_mark(text) {
        return Err(secret_error(key.name(), &ValueOrigin::ARGUMENT, SecretReason::Mask));
    }
    parse_text(key, text, &ValueOrigin::ARGUMENT)
}

/// Removes a key from a file, and replaces the file atomically. Returns `false` if the file does not set the key.
///
/// # Errors
/// If the file is not valid without the key, or if the change would affect other settings.
pub fn unset_in_file(path: &Path, key: Key) -> Result<bool, ConfigError> {
    let Some(before) = read_text(path)? else { return Ok(false) };
    let Some(after) = without_value(path, key, &before)? else { return Ok(false) };
    hfs_files::replace(path, after.as_bytes(), Durability::Synced)
        .map_err(|source| ConfigError::Write { path: path.to_owned(), source })?;
    Ok(true)
}

/// The text of a file without a key; `None` if the file does not set it.
fn without_value(path: &Path, key: Key, before: &str) -> Result<Option<String>, ConfigError> {
    let old = parse_for_edit(path, before)?;
    let document = YamlFile::from_str(before).map_err(|error| edit_error(path, key, &error))?;
    match document.ensure_document().try_remove_path(key.name()) {
        Ok(_) => {}
        Err(PathError::NotFound { .. } | PathError::NoRoot | PathError::TypeMismatch { .. }) => {
            return Ok(None);
        }
        Err(error) => return Err(edit_error(path, key, &error)),
    }
    // Without its last setting, the file would contain an empty mapping.
    let after: String =
        document.to_string().split_inclusive('\n').filter(|line| line.trim_end() != "{}").collect();
    let after = with_line_endings_of(before, after);
    check_edit(path, key, None, old, &after)?;
    Ok(Some(after))
}

/// Parses a file that is to be changed. An invalid value is no obstacle, because the change may correct it.
///
/// # Errors
/// If the text is not YAML.
fn parse_for_edit(path: &Path, before: &str) -> Result<Result<Layer, ConfigError>, ConfigError> {
    match parse(path, before) {
        Err(error @ ConfigError::Syntax { .. }) => Err(error),
        parsed => Ok(parsed),
    }
}

fn edit_error(path: &Path, key: Key, reason: &dyn ToString) -> ConfigError {
    ConfigError::Edit { path: path.to_owned(), key: key.name().to_owned(), reason: reason.to_string() }
}

/// `yaml-edit` ends the lines that it inserts with LF, also in a file with CRLF.
fn with_line_endings_of(before: &str, mut after: String) -> String {
    if before.contains("\r\n") {
        after = after.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    if !after.is_empty() && !after.ends_with('\n') {
        after.push('\n');
    }
    after
}

/// Checks that an edited text sets `key` to `value`, and everything else as before. If a setting was invalid before, the
/// change must correct it.
fn check_edit(
    path: &Path,
    key: Key,
    value: Option<&Value>,
    old: Result<Layer, ConfigError>,
    after: &str,
) -> Result<(), ConfigError> {
    let new = match (parse(path, after), &old) {
        (Ok(new), _) => new,
        (Err(error), Ok(_)) => return Err(edit_error(path, key, &error)),
        (Err(error), Err(_)) => return Err(error),
    };
    let others = |layer: &Layer| -> Vec<(Key, Value)> {
        let others = layer.values.iter().filter(|(other, _)| *other != key);
        others.map(|(other, setting)| (*other, setting.value.clone())).collect()
    };
    let found = new.values.iter().find(|(other, _)| *other == key).map(|(_, setting)| &setting.value);
    if found != value || old.is_ok_and(|old| others(&old) != others(&new)) {
        return Err(edit_error(path, key, &"the file uses YAML that cannot be edited safely"));
    }
    Ok(())
}

/// The text of a file with one value changed.
fn with_value(path: &Path, key: Key, value: &Value, before: &str) -> Result<String, ConfigError> {
    let old = parse_for_edit(path, before)?;
    let document = YamlFile::from_str(before).map_err(|error| edit_error(path, key, &error))?;
    let root = document.ensure_document();
    match value {
        Value::Text(text) => root.try_set_path(key.name(), text.as_str()),
        Value::Integer(number) => root.try_set_path(key.name(), *number),
        Value::Float(number) => root.try_set_path(key.name(), *number),
        Value::Map(entries) => {
            let entries = entries.iter().map(|(name, value)| (name.clone(), YamlValue::from(value.as_str())));
            root.try_set_path(key.name(), YamlValue::Mapping(entries.collect()))
        }
        Value::List(items) => {
            let items: Vec<YamlValue> = items.iter().map(|item| YamlValue::from(item.as_str())).collect();
            root.try_set_path(key.name(), items)
        }
    }
    .map_err(|error| edit_error(path, key, &error))?;
    let after = with_line_endings_of(before, document.to_string());
    check_edit(path, key, Some(value), old, &after)?;
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(before: &str, name: &str, text: &str) -> Result<String, ConfigError> {
        let key = Key::find(name).unwrap();
        let value = Value::from_text(&key.spec().value_type, text).unwrap();
        with_value(Path::new("config.yaml"), key, &value, before)
    }

    #[test]
    fn comments_and_layout_are_kept_when_a_value_changes() {
        let before = "# mine\n\nmodel:   'a'   # the cheap one\nstore:\n    # fast is for imports\n    durability: full # safe\n";
        assert_eq!(set(before, "model", "gpt-4o").unwrap(), before.replace("'a'", "gpt-4o"));
        assert_eq!(set(before, "store.durability", "fast").unwrap(), before.replace("full", "fast"));
    }

    #[test]
    fn a_removed_setting_leaves_the_others_and_their_comments() {
        let unset = |before: &str, name: &str| {
            without_value(Path::new("config.yaml"), Key::find(name).unwrap(), before).unwrap()
        };
        let before = "# mine\nmodel: a # cheap\nstore:\n  durability: fast\n  url: sqlite:/x\ncolor: never\n";
        let after = unset(before, "store.url").unwrap();
        assert_eq!(after, before.replace("  url: sqlite:/x\n", ""));
        assert_eq!(unset(before, "color").unwrap(), before.replace("color: never\n", ""));
        let empty_group = unset("store:\n  url: sqlite:/x\n", "store.url").unwrap();
        assert!(parse(Path::new("config.yaml"), &empty_group).unwrap().values.is_empty(), "{empty_group:?}");
        for missing in ["", "model: a\n", "store:\n", "store: {durability: fast}\n"] {
            assert_eq!(unset(missing, "store.url"), None, "{missing:?}");
        }
        // A setting that stops every command can be removed.
        assert_eq!(unset("model: a\ntheme: purple\n", "theme").unwrap(), "model: a\n");
        assert_eq!(
            unset("disabled_plugins:\n  - a\n  - b\nmodel: a\n", "disabled_plugins").unwrap(),
            "model: a\n"
        );
        assert_eq!(unset("model: a\r\ntheme: dark\r\n", "model").unwrap(), "theme: dark\r\n");
    }

    #[test]
    fn a_new_setting_is_inserted_into_any_file() {
        for (before, after) in [
            ("", "store:\n  url: sqlite:/x\n"),
            ("# only a comment\n", "# only a comment\nstore:\n  url: sqlite:/x\n"),
            ("#store:\n#  url: y\n", "#store:\n#  url: y\nstore:\n  url: sqlite:/x\n"),
            ("store:\n", "store:\n  url: sqlite:/x\n"),
            (
                "store: # here\n  # url: y\nmodel: z\n",
                "store: # here\n  url: sqlite:/x\n  # url: y\nmodel: z\n",
            ),
            ("store: {durability: fast}\n", "store: {durability: fast, url: sqlite:/x}\n"),
            ("---\nmodel: a\n...\n", "---\nmodel: a\nstore:\n  url: sqlite:/x\n...\n"),
        ] {
            assert_eq!(set(before, "store.url", "sqlite:/x").unwrap(), after, "{before:?}");
        }
        assert_eq!(set("model: a\r\n", "temperature", "0.5").unwrap(), "model: a\r\ntemperature: 0.5\r\n");
        assert_eq!(set("", "max_tokens", "100").unwrap(), "max_tokens: 100\n");
        assert_eq!(set("", "model", "1").unwrap(), "model: '1'\n");
    }

    #[test]
    fn lists_can_be_read_after_they_are_written() {
        for before in ["", "disabled_plugins: [x]\n", "disabled_plugins:\n  - x # why\n  - y\nmodel: a\n"] {
            for text in ["[]", "a", "a, 'b c'"] {
                let after = set(before, "disabled_plugins", text).unwrap();
                assert_eq!(after.contains("model: a"), before.contains("model: a"), "{after}");
            }
        }
    }

    #[test]
    fn texts_with_yaml_syntax_are_read_as_they_were_written() {
        for text in [
            "true",
            "~",
            "a: b",
            "# no",
            "line\nline",
            " lead",
            "'q'",
            "\"",
            "- x",
            "{a}",
            "é 日本",
            "*x",
            "&x",
            "%",
            "@a",
            "`",
        ] {
            set("model: a # keep\n", "system_prompt", text).unwrap();
            set("system_prompt: |\n  old\n  text\nmodel: a\n", "system_prompt", text).unwrap();
        }
    }

    #[test]
    fn a_secret_is_refused_wherever_it_is_written() {
        let key = ["sk-ant", "-api03-", "Zq8vT2mN4kR7wX1yB5cD9fG3"].concat();
        for text in [
            format!("model: {key}\n"),
            format!("# {key}\nmodel: a\n"),
            format!("model: a # old key: {key}\n"),
            format!("disabled_plugins: [a, {key}]\n"),
            format!("{key}: a\n"),
            format!("mine:\n  deep:\n    - {{x: {key}}}\n"),
            format!("system_prompt: |\n  You are.\n  {key}\n"),
            "mine: {service: {api_key: 12345678}}\n".to_owned(),
            "mine:\n  tokens: [abc]\n".to_owned(),
            "base_url: https://me:password@host/v1\n".to_owned(),
            "store: {url: 'postgres://me:pw@db/hfs'}\n".to_owned(),
        ] {
            let error = parse(Path::new("config.yaml"), &text).unwrap_err();
            assert!(matches!(error, ConfigError::Secret { .. }), "{text}: {error}");
            assert!(!error.to_string().contains(&key), "{error}");
        }
        parse(Path::new("config.yaml"), "mine: {headers: {X-Api-Key: $GATEWAY_KEY}}\n").unwrap();
        let spoiled = format!("model: [{key}\n");
        let error = parse(Path::new("config.yaml"), &spoiled).unwrap_err();
        assert!(!error.to_string().contains(&key), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_edited_safely_is_refused() {
        let error = set("model: &m a\nsystem_prompt: *m\n", "model", "b").unwrap_err();
        assert!(error.to_string().contains("without changing other settings"), "{error}");
        assert!(set("- a\n- b\n", "model", "b").is_err());
        assert!(set("model: [unclosed\n", "model", "b").is_err());
        assert!(set("store: none\n", "store.url", "b").is_err());
    }
}
