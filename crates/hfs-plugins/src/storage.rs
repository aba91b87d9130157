//! Values that plugins store through the `kv` interface, in its two scopes.
//!
//! [`PluginStorage`] is the scope `plugin`: one file for each plugin, shared by all sessions and processes.
//! [`SessionStates`] is the scope `session`: values in memory that the engine writes into checkpoints and restores on
//! rewind.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use hfs_core::{PluginStates, SessionId, lock_unpoisoned};
use hfs_files::Durability;
use serde_json::{Map, Value};

use crate::PluginError;
use crate::private_files::{acquire_file_lock, replace_file};

/// Maximum number of bytes that one plugin may store for one session, even if its storage permission is larger. Every
/// checkpoint of the session contains these values.
pub(crate) const MAX_SESSION_BYTES: u64 = 256 << 10;

/// Values that a plugin stores across sessions. The file is read at the first use in a call and written at the end of
/// the call, so a call that sets ten keys writes it once.
#[derive(Debug)]
pub(crate) struct PluginStorage {
    path: PathBuf,
    /// All values including the changes of this call; `None` until the call uses them.
    entries: Option<BTreeMap<String, String>>,
    /// Changes of this call; `None` for a deleted key.
    changes: BTreeMap<String, Option<String>>,
}

impl PluginStorage {
    pub fn new(folder: &Path, plugin: &str) -> Self {
        Self { path: folder.join(format!("{plugin}.json")), entries: None, changes: BTreeMap::new() }
    }

    /// All values by key.
    ///
    /// # Errors
    /// If the file cannot be read; `InvalidFile` if it is damaged.
    pub fn entries(&mut self) -> Result<&BTreeMap<String, String>, PluginError> {
        if self.entries.is_none() {
            self.entries = Some(self.read()?);
        }
        Ok(self.entries.get_or_insert_default())
    }

    /// Stores a value; `None` deletes it.
    ///
    /// # Errors
    /// As [`Self::entries`].
    pub fn set(&mut self, key: &str, value: Option<String>) -> Result<(), PluginError> {
        self.entries()?;
        let entries = self.entries.get_or_insert_default();
        match &value {
            Some(value) => {
                entries.insert(key.to_owned(), value.clone());
            }
            None => {
                entries.remove(key);
            }
        }
        self.changes.insert(key.to_owned(), value);
        Ok(())
    }

    /// Writes the changes of a call that has ended. Only changed keys are applied to the current file, so that two
    /// processes do not overwrite each other's changes; if both changed the same key, the later write wins.
    ///
    /// # Errors
    /// If the file cannot be read or written. The changes of the call are then lost, and the file is unchanged.
    pub fn finish_call(&mut self) -> Result<(), PluginError> {
        self.entries = None;
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            return Ok(());
        }
        let _lock = acquire_file_lock(&self.path)?;
        let mut entries = self.read()?;
        for (key, value) in changes {
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
        let text = serde_json::to_vec(&entries)
            .map_err(|error| PluginError::io("write", &self.path, error.into()))?;
        // Not synced: the call would wait for the disk, and its time limit is 50 ms.
        replace_file(&self.path, &text, Durability::Unsynced)
    }

    fn read(&self) -> Result<BTreeMap<String, String>, PluginError> {
        match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| PluginError::InvalidFile {
                path: self.path.clone(),
                message: error.to_string(),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(PluginError::io("read", &self.path, error)),
        }
    }
}

/// Values that plugins store for open sessions, by plugin name. Values of a plugin that is not installed are kept,
/// because the plugin may be installed again later.
#[derive(Debug, Default)]
pub(crate) struct SessionStates {
    sessions: Mutex<HashMap<SessionId, OpenState>>,
}

/// The values of a session.
#[derive(Debug)]
enum OpenState {
    Open(PluginStates),
    /// The values are in the store only. Without this entry, a late call of a plugin would seem to open the session with
    /// nothing but the value that it stores, and the other values would be lost.
    Released,
}

impl OpenState {
    const fn open(&self) -> Option<&PluginStates> {
        match self {
            Self::Open(states) => Some(states),
            Self::Released => None,
        }
    }
}

impl SessionStates {
    /// The values of all plugins; `None` if the session was neither restored nor changed.
    pub fn get(&self, session: SessionId) -> Option<PluginStates> {
        lock_unpoisoned(&self.sessions).get(&session).and_then(OpenState::open).cloned()
    }

    pub fn restore(&self, session: SessionId, states: &PluginStates) {
        lock_unpoisoned(&self.sessions).insert(session, OpenState::Open(states.clone()));
    }

    pub fn release(&self, session: SessionId) {
        lock_unpoisoned(&self.sessions).insert(session, OpenState::Released);
    }

    /// Passes the values of one plugin to `read`.
    pub fn read<T>(
        &self,
        session: SessionId,
        plugin: &str,
        read: impl FnOnce(&Map<String, Value>) -> T,
    ) -> T {
        let sessions = lock_unpoisoned(&self.sessions);
        let open = sessions.get(&session).and_then(OpenState::open);
        let values = open.and_then(|plugins| plugins.get(plugin)).and_then(Value::as_object);
        match values {
            Some(values) => read(values),
            None => read(&Map::new()),
        }
    }

    /// Modifies the values of one plugin with `change`. A state that is not a JSON object is replaced by an empty one.
    /// Changes of a session that was released are dropped.
    pub fn change<T>(
        &self,
        session: SessionId,
        plugin: &str,
        change: impl FnOnce(&mut Map<String, Value>) -> T,
    ) -> T {
        let mut sessions = lock_unpoisoned(&self.sessions);
        let open = sessions.entry(session).or_insert_with(|| OpenState::Open(PluginStates::new()));
        let OpenState::Open(plugins) = open else { return change(&mut Map::new()) };
        let mut values = match plugins.remove(plugin) {
            Some(Value::Object(values)) => values,
            _ => Map::new(),
        };
        let result = change(&mut values);
        if !values.is_empty() {
            plugins.insert(plugin.to_owned(), Value::Object(values));
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_two_processes_are_merged() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = PluginStorage::new(folder.path(), "p");
        let mut second = PluginStorage::new(folder.path(), "p");
        first.set("a", Some("1".into())).unwrap();
        second.set("b", Some("2".into())).unwrap();
        first.finish_call().unwrap();
        second.finish_call().unwrap();
        assert_eq!(first.entries().unwrap().keys().collect::<Vec<_>>(), ["a", "b"]);
        first.set("a", None).unwrap();
        first.finish_call().unwrap();
        assert_eq!(second.entries().unwrap().keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("p.json"), "{").unwrap();
        let mut storage = PluginStorage::new(folder.path(), "p");
        assert!(storage.set("a", Some("1".into())).is_err());
        assert_eq!(fs::read_to_string(folder.path().join("p.json")).unwrap(), "{");
    }

    #[test]
    fn restoring_a_session_keeps_the_values_of_plugins_that_are_not_installed() {
        let states = SessionStates::default();
        let session = SessionId::generate();
        states.change(session, "a", |values| values.insert("n".into(), "1".into()));
        let mut saved = states.get(session).unwrap();
        saved.insert("not-installed".to_owned(), serde_json::json!([1, 2]));
        states.change(session, "a", |values| values.insert("n".into(), "2".into()));
        states.restore(session, &saved);
        assert_eq!(states.get(session), Some(saved));
        assert_eq!(states.read(session, "a", |values| values["n"].clone()), "1");
        states.change(session, "a", |values| values.remove("n"));
        let names: Vec<String> = states.get(session).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["not-installed"]);
        assert_eq!(states.get(SessionId::generate()), None);
    }

    #[test]
    fn a_late_change_of_a_closed_session_is_not_taken_for_its_state() {
        let states = SessionStates::default();
        let session = SessionId::generate();
        states.change(session, "a", |values| values.insert("n".into(), "1".into()));
        let saved = states.get(session).unwrap();
        states.release(session);
        states.change(session, "b", |values| values.insert("late".into(), "1".into()));
        assert_eq!(states.get(session), None);
        assert!(states.read(session, "a", Map::is_empty));
        states.restore(session, &saved);
        assert_eq!(states.get(session), Some(saved));
    }
}
