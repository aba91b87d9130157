//! What hfs keeps of a configuration that it has changed: the original, and a hash of what it wrote.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hfs_core::ErrorKind;
use hfs_files::Durability;
use serde::{Deserialize, Serialize};

use crate::home::{Home, create_private_dir};
use crate::output::error::CliError;

/// The record of one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The configuration file.
    pub file: PathBuf,
    /// Its content before it was changed; `None` if it did not exist.
    pub original: Option<String>,
    /// Hash of the content that hfs wrote.
    written: String,
    /// Folders that were created for the file, outermost first.
    #[serde(default)]
    created_folders: Vec<PathBuf>,
}

impl Record {
    pub fn new(file: PathBuf, original: Option<String>, written: &str) -> Self {
        Self { file, original, written: hash(written), created_folders: Vec::new() }
    }

    pub fn with_created_folders(mut self, folders: Vec<PathBuf>) -> Self {
        self.created_folders = folders;
        self
    }

    /// Whether the file is as hfs wrote it.
    pub fn is_current(&self, text: Option<&str>) -> bool {
        text.is_some_and(|text| hash(text) == self.written)
    }
}

fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_string()
}

/// The records of all agents, one private file each.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
}

impl Records {
    pub fn new(home: &Home) -> Self {
        Self { folder: home.root().join("connections") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// The record of an agent; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, name: &str) -> Result<Option<Record>, CliError> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                CliError::with_hint(
                    ErrorKind::Invalid,
                    format!("cannot read {}: {error}", path.display()),
                    "remove it; disconnecting then removes only the entry of hfs",
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CliError::io(format!("read {}", path.display()), error)),
        }
    }

    /// Writes the record of an agent. Folders that an earlier record names are kept.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, record: &Record) -> Result<(), CliError> {
        let path = self.path(name);
        let cannot = |source| CliError::io(format!("write {}", path.display()), source);
        let mut record = record.clone();
        if let Some(earlier) = self.read(name)? {
            record.created_folders.splice(0..0, earlier.created_folders);
            record.created_folders.dedup();
        }
        create_private_dir(&self.folder).map_err(cannot)?;
        let text = serde_json::to_vec(&record).map_err(|error| cannot(error.into()))?;
        hfs_files::replace(&path, &text, Durability::Synced).map_err(cannot)
    }

    /// Removes the record of an agent, and returns the folders that were created.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<Vec<PathBuf>, CliError> {
        let path = self.path(name);
        let folders = self.read(name)?.map(|record| record.created_folders).unwrap_or_default();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(CliError::io(format!("remove {}", path.display()), error));
            }
            _ => {}
        }
        remove_if_empty(&self.folder);
        Ok(folders)
    }
}

fn remove_if_empty(folder: &Path) {
    let _ = fs::remove_dir(folder);
}
