//! Where a conversation belongs.

use serde::{Deserialize, Serialize};

/// The place a session was held: a working directory and, inside a git tree, the identity of its repository.
///
/// Two sessions belong to the same project when their repositories are the same, or, without one, their
/// directories; see [`Project::key`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Project {
    /// The absolute working directory.
    pub directory: String,
    /// What identifies the git repository around it: its remote's address without credentials, or the
    /// absolute path of its top directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
}

impl Project {
    /// What sessions of the same project share.
    #[must_use]
    pub fn key(&self) -> &str {
        self.repository.as_deref().unwrap_or(&self.directory)
    }
}
