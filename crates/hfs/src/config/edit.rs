//! Changing one setting in a file, with everything else in it left as its author wrote it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use yaml_edit::path::YamlPath;
use yaml_edit::{YamlFile, YamlValue};

use super::Setting;
use super::error::{ConfigError, Place};
use super::file;
use super::keys::{Key, Kind};
use super::value::{Raw, Value};

const ARGUMENT: Place = Place::CommandLine("VALUE");

/// What a file that did not exist begins with.
const HEADER: &str = "# Settings of hfs; `hfs config list` shows all of them.\n";

/// The list that the file itself says for `key`, whatever other layers say; empty where it says nothing.
///
/// # Errors
/// See [`ConfigError`].
pub fn list_in_file(path: &Path, key: &'static Key) -> Result<Vec<String>, ConfigError> {
    let layer = file::read(path)?;
    let said = layer.values.into_iter().find(|(known, _)| known.name == key.name);
    Ok(match said {
        Some((_, Setting { value: Value::List(list), .. })) => list,
        _ => Vec::new(),
    })
}

/// Sets `key` to what `text` says in the file at `path`, which is made if it is missing.
///
/// The file is replaced in one step, and only if it then says the same as before but for this setting.
///
/// # Errors
/// See [`ConfigError`].
pub fn set_in_file(path: &Path, key: &'static Key, text: &str) -> Result<Value, ConfigError> {
    let value = Value::from_text(&key.kind, text).map_err(|found| ConfigError::Value {
        place: ARGUMENT,
        key: key.name.to_owned(),
        found,
        expected: key.kind.expected(),
    })?;
    if key.kind == Kind::Text {
        file::checked(key, &Raw::Text(text.to_owned()), &ARGUMENT)?;
    }
    let before = file::text_of(path)?.unwrap_or_else(|| HEADER.to_owned());
    let after = with_value(path, key, &value, &before)?;
    write(path, &after).map_err(|source| ConfigError::Write { path: path.to_owned(), source })?;
    Ok(value)
}

/// The text `before` with `key` set to `value`.
fn with_value(path: &Path, key: &'static Key, value: &Value, before: &str) -> Result<String, ConfigError> {
    let refuse =
        |reason: String| ConfigError::Edit { path: path.to_owned(), key: key.name.to_owned(), reason };
    let old = file::parse(path, before)?;
    let document = YamlFile::from_str(before).map_err(|error| refuse(error.to_string()))?;
    let root = document.ensure_document();
    match value {
        Value::Text(text) => root.try_set_path(key.name, text.as_str()),
        Value::Whole(number) => root.try_set_path(key.name, *number),
        Value::Decimal(number) => root.try_set_path(key.name, *number),
        Value::List(items) => {
            let items: Vec<YamlValue> = items.iter().map(|item| YamlValue::from(item.as_str())).collect();
            root.try_set_path(key.name, items)
        }
    }
    .map_err(|error| refuse(error.to_string()))?;
    let mut after = document.to_string();
    if before.contains("\r\n") {
        after = after.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    if !after.ends_with('\n') {
        after.push('\n');
    }
    let new = file::parse(path, &after).map_err(|error| refuse(error.to_string()))?;
    let others = |layer: &file::Layer| -> Vec<(&'static str, Value)> {
        let all = layer.values.iter().filter(|(other, _)| other.name != key.name);
        all.map(|(other, setting)| (other.name, setting.value.clone())).collect()
    };
    let is_set = new.values.iter().any(|(other, setting)| other.name == key.name && setting.value == *value);
    if !is_set || others(&old) != others(&new) {
        return Err(refuse("the file uses YAML that this cannot edit safely".into()));
    }
    Ok(after)
}

/// Replaces the file in one step, readable by nobody else. A link is followed, so that a file kept elsewhere
/// stays there.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let target: PathBuf = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new().prefix(".config.yaml.").tempfile_in(folder)?;
    temporary.write_all(text.as_bytes())?;
    temporary.as_file().sync_all()?;
    temporary.persist(&target).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(before: &str, name: &str, text: &str) -> Result<String, ConfigError> {
        let key = Key::find(name).unwrap();
        let value = Value::from_text(&key.kind, text).unwrap();
        with_value(Path::new("config.yaml"), key, &value, before)
    }

    #[test]
    fn comments_and_layout_stay_when_a_value_changes() {
        let before = "# mine\n\nmodel:   'a'   # the cheap one\nstore:\n    # fast is for imports\n    durability: full # safe\n";
        assert_eq!(set(before, "model", "gpt-4o").unwrap(), before.replace("'a'", "gpt-4o"));
        assert_eq!(set(before, "store.durability", "fast").unwrap(), before.replace("full", "fast"));
    }

    #[test]
    fn new_settings_find_their_place_in_any_file() {
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
    fn lists_are_written_so_that_they_read_back() {
        for before in ["", "disabled_plugins: [x]\n", "disabled_plugins:\n  - x # why\n  - y\nmodel: a\n"] {
            for text in ["[]", "a", "a, 'b c'"] {
                let after = set(before, "disabled_plugins", text).unwrap();
                assert_eq!(after.contains("model: a"), before.contains("model: a"), "{after}");
            }
        }
    }

    #[test]
    fn texts_of_every_shape_read_back_as_they_were() {
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
    fn what_cannot_be_edited_safely_is_refused() {
        let error = set("model: &m a\nsystem_prompt: *m\n", "model", "b").unwrap_err();
        assert!(error.to_string().contains("without touching other settings"), "{error}");
        assert!(set("- a\n- b\n", "model", "b").is_err());
        assert!(set("model: [unclosed\n", "model", "b").is_err());
        assert!(set("store: none\n", "store.url", "b").is_err());
    }
}
