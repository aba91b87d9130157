//! What hfs keeps of a configuration that it has changed: the original, and a hash of what it wrote.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hfs_core::ErrorKind;
use hfs_files::Durability;
use serde::{Deserialize, Serialize};

use crate::home::{Home, create_private_dir};
use crate::output::error::CliError;

/// The record of one configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The configuration, for a user who looks for its original.
    file: PathBuf,
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
        Self { file, original, written: hash(written.as_bytes()), created_folders: Vec::new() }
    }

    /// Whether the file is as hfs wrote it.
    pub fn is_current(&self, text: Option<&str>) -> bool {
        text.is_some_and(|text| hash(text.as_bytes()) == self.written)
    }
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_string()
}

/// The private file with the record of one configuration.
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
}

impl RecordFile {
    /// The record of an agent's configuration. Each path has its own, because variables move the configuration of an agent,
    /// and the one in another place may be connected too.
    pub fn new(home: &Home, client: &str, configuration: &Path) -> Self {
        let id: String = hash(configuration.as_os_str().as_encoded_bytes()).chars().take(16).collect();
        Self { path: home.root().join("connections").join(format!("{client}-{id}.json")) }
    }

    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Reads the record; `None` if there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self) -> Result<Option<Record>, CliError> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                CliError::with_hint(
                    ErrorKind::Invalid,
                    format!("cannot read {}: {error}", self.path.display()),
                    "remove it; disconnecting then removes only the entry of hfs",
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CliError::io(format!("read {}", self.path.display()), error)),
        }
    }

    /// Writes the record, with the folders that have to be created. Those that an earlier record names are kept.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, record: &Record, new_folders: Vec<PathBuf>) -> Result<(), CliError> {
        let cannot = |source| CliError::io(format!("write {}", self.path.display()), source);
        let mut created_folders = self.read()?.map(|earlier| earlier.created_folders).unwrap_or_default();
        created_folders.extend(new_folders);
        created_folders.dedup();
        let record = Record { created_folders, ..record.clone() };
        if let Some(folder) = self.path.parent() {
            create_private_dir(folder).map_err(cannot)?;
        }
        let text = serde_json::to_vec(&record).map_err(|error| cannot(error.into()))?;
        hfs_files::replace(&self.path, &text, Durability::Synced).map_err(cannot)
    }

    /// Removes the record, and returns the folders that were created.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(&self) -> Result<Vec<PathBuf>, CliError> {
        let folders = self.read()?.map(|record| record.created_folders).unwrap_or_default();
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(CliError::io(format!("remove {}", self.path.display()), error));
            }
            _ => {}
        }
        if let Some(folder) = self.path.parent() {
            // Fails if it has other records.
            let _ = fs::remove_dir(folder);
        }
        Ok(folders)
    }
}
