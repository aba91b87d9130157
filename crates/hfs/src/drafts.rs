//! What was written in the app and not sent: a file for each session, and one for each project's new conversation.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hfs_core::{ErrorKind, Project, SessionId, Store, StoreError};
use hfs_files::Durability;
use hfs_tui::{Drafts, ErrorReport};

use crate::home::{Home, create_private_dir};
use crate::output::error::CliError;

/// End of the files' names.
const EXTENSION: &str = "txt";

/// The drafts of the user, who works in a project.
pub struct DraftFiles {
    folder: PathBuf,
    /// Name of the file of a conversation without a session.
    new_conversation: String,
}

impl DraftFiles {
    pub fn new(home: &Home, project: &Project) -> Self {
        let hash = blake3::hash(project.key().as_bytes()).to_hex();
        let hash = hash.get(..16).unwrap_or_default();
        Self { folder: home.drafts(), new_conversation: format!("new-{hash}") }
    }

    fn path(&self, session: Option<SessionId>) -> PathBuf {
        let name = session.map_or_else(|| self.new_conversation.clone(), |session| session.to_string());
        self.folder.join(format!("{name}.{EXTENSION}"))
    }
}

impl Drafts for DraftFiles {
    fn read(&self, session: Option<SessionId>) -> Result<Option<String>, ErrorReport> {
        let path = self.path(session);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    fn write(&self, session: Option<SessionId>, text: &str) -> Result<(), ErrorReport> {
        let path = self.path(session);
        if text.is_empty() {
            return remove(&path).map_err(|error| failed("remove", &path, &error));
        }
        let written = create_private_dir(&self.folder)
            .and_then(|()| hfs_files::replace(&path, text.as_bytes(), Durability::Synced));
        written.map_err(|error| failed("write", &path, &error))
    }
}

fn failed(action: &str, path: &Path, error: &io::Error) -> ErrorReport {
    let reason = hfs_core::plain_reason(error);
    let message = format!("cannot {action} {}, which keeps what you had not sent: {reason}", path.display());
    ErrorReport::new(ErrorKind::Unavailable, message)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The sessions of a store that have a draft. They are listed before a purge, which has to remove those of the purged sessions.
pub struct KeptDrafts {
    folder: PathBuf,
    of_store: Vec<SessionId>,
}

impl KeptDrafts {
    /// # Errors
    /// If the folder or the store cannot be read.
    pub fn of_store(home: &Home, store: &dyn Store) -> Result<Self, CliError> {
        let folder = home.drafts();
        let failed = |error| CliError::io(format!("read {}", folder.display()), error);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { folder, of_store: Vec::new() });
            }
            Err(error) => return Err(failed(error)),
        };
        let mut of_store = Vec::new();
        for entry in entries {
            let name = PathBuf::from(entry.map_err(failed)?.file_name());
            let id = name.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            if let Some(session) = id
                && is_in(store, session)?
            {
                of_store.push(session);
            }
        }
        Ok(Self { folder, of_store })
    }

    /// Removes the drafts of sessions that are not in the store any more.
    ///
    /// # Errors
    /// If the store cannot be read, or a file cannot be removed.
    pub fn remove_of_purged(self, store: &dyn Store) -> Result<(), CliError> {
        for session in self.of_store {
            if !is_in(store, session)? {
                let path = self.folder.join(format!("{session}.{EXTENSION}"));
                remove(&path).map_err(|error| CliError::io(format!("remove {}", path.display()), error))?;
            }
        }
        Ok(())
    }
}

fn is_in(store: &dyn Store, session: SessionId) -> Result<bool, CliError> {
    match store.get_session(session) {
        Ok(_) => Ok(true),
        Err(StoreError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
