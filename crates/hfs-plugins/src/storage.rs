//! What a plugin keeps for itself, across sessions: one file each, shared by all processes.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::PluginError;
use crate::grants::{create_private_folder, private};

/// What a plugin keeps for itself. Read when it is first needed in a call, written when the call is over.
#[derive(Debug)]
pub(crate) struct Storage {
    path: PathBuf,
    /// As it is now, once it was read in this call.
    entries: Option<BTreeMap<String, String>>,
    /// What this call changed; `None` for what it took away.
    changed: BTreeMap<String, Option<String>>,
}

impl Storage {
    pub fn new(folder: &Path, plugin: &str) -> Self {
        Self { path: folder.join(format!("{plugin}.json")), entries: None, changed: BTreeMap::new() }
    }

    /// Everything, by key.
    ///
    /// # Errors
    /// As the system has it; `BadFile` for what is damaged.
    pub fn entries(&mut self) -> Result<&BTreeMap<String, String>, PluginError> {
        if self.entries.is_none() {
            self.entries = Some(self.read()?);
        }
        Ok(self.entries.get_or_insert_default())
    }

    /// Keeps a text, or takes it away.
    ///
    /// # Errors
    /// As [`entries`](Self::entries).
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
        self.changed.insert(key.to_owned(), value);
        Ok(())
    }

    /// Ends a call: what it changed is written over what is there by now. Other processes may have written
    /// meanwhile; of what several changed, the last word counts.
    ///
    /// # Errors
    /// As the system has it; then nothing is lost but this call's changes.
    pub fn finish(&mut self) -> Result<(), PluginError> {
        self.entries = None;
        let changed = std::mem::take(&mut self.changed);
        if changed.is_empty() {
            return Ok(());
        }
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        create_private_folder(folder)?;
        let _lock = self.lock()?;
        let mut entries = self.read()?;
        for (key, value) in changed {
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
        let told = |error| PluginError::io("write", &self.path, error);
        let text = serde_json::to_vec(&entries).map_err(|error| told(error.into()))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(told)?;
        file.write_all(&text).map_err(told)?;
        file.persist(&self.path).map_err(|error| told(error.error))?;
        Ok(())
    }

    fn lock(&self) -> Result<File, PluginError> {
        let path = self.path.with_extension("lock");
        let told = |error| PluginError::io("lock", &path, error);
        let file =
            private(OpenOptions::new().create(true).truncate(false).write(true)).open(&path).map_err(told)?;
        fs4::FileExt::lock(&file).map_err(told)?;
        Ok(file)
    }

    fn read(&self) -> Result<BTreeMap<String, String>, PluginError> {
        match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| PluginError::BadFile {
                path: self.path.clone(),
                message: error.to_string(),
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(PluginError::io("read", &self.path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_for_the_next_process_and_two_lose_nothing_of_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, mut other) = (Storage::new(folder.path(), "p"), Storage::new(folder.path(), "p"));
        one.set("a", Some("1".into())).unwrap();
        other.set("b", Some("2".into())).unwrap();
        one.finish().unwrap();
        other.finish().unwrap();
        assert_eq!(one.entries().unwrap().keys().collect::<Vec<_>>(), ["a", "b"]);
        one.set("a", None).unwrap();
        one.finish().unwrap();
        assert_eq!(other.entries().unwrap().keys().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn a_damaged_file_is_told_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("p.json"), "{").unwrap();
        let mut storage = Storage::new(folder.path(), "p");
        assert!(storage.set("a", Some("1".into())).is_err());
        assert_eq!(fs::read_to_string(folder.path().join("p.json")).unwrap(), "{");
    }
}
