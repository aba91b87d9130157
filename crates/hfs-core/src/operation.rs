//! The record of structural changes, for `log`, `undo` and `redo`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{BranchId, CheckpointId, OperationId, SessionId, Timestamp};

/// What kind of structural change an operation made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum OperationKind {
    Create,
    Rename,
    RenameBranch,
    Fork,
    Rewind,
    Switch,
    Import,
    Delete,
    Restore,
    Prune,
    Undo,
    Redo,
}

impl OperationKind {
    /// All kinds.
    pub const ALL: [Self; 12] = [
        Self::Create,
        Self::Rename,
        Self::RenameBranch,
        Self::Fork,
        Self::Rewind,
        Self::Switch,
        Self::Import,
        Self::Delete,
        Self::Restore,
        Self::Prune,
        Self::Undo,
        Self::Redo,
    ];

    /// The name that scripts and stores see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Rename => "rename",
            Self::RenameBranch => "rename-branch",
            Self::Fork => "fork",
            Self::Rewind => "rewind",
            Self::Switch => "switch",
            Self::Import => "import",
            Self::Delete => "delete",
            Self::Restore => "restore",
            Self::Prune => "prune",
            Self::Undo => "undo",
            Self::Redo => "redo",
        }
    }

    /// Whether undo can take back an operation of this kind, and redo do it again. What began a session has nothing
    /// before it, a removed checkpoint is gone, and reversals are themselves what undo and redo are made of.
    #[must_use]
    pub const fn is_reversible(self) -> bool {
        match self {
            Self::Rename
            | Self::RenameBranch
            | Self::Fork
            | Self::Rewind
            | Self::Switch
            | Self::Delete
            | Self::Restore => true,
            Self::Create | Self::Import | Self::Prune | Self::Undo | Self::Redo => false,
        }
    }
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The part of a session that operations change, before or after one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAttributes {
    /// Its name.
    pub name: String,
    /// Whether that name is made up by the program.
    pub automatic_name: bool,
    /// The branch that a resume opens.
    pub current_branch: BranchId,
    /// Whether it is in the trash.
    pub trashed: bool,
}

/// A recorded structural change. Operations are only ever added.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Its identity.
    pub id: OperationId,
    /// The session it changed.
    pub session: SessionId,
    /// What it did.
    pub kind: OperationKind,
    /// When.
    pub created_at: Timestamp,
    /// The session before it; `None` for one that made the session.
    pub before: Option<SessionAttributes>,
    /// The session after it.
    pub after: SessionAttributes,
    /// The branch that it made, renamed or undone.
    pub branch: Option<BranchId>,
    /// The checkpoint that it went back to.
    pub checkpoint: Option<CheckpointId>,
    /// For `undo` and `redo`: the operation that it reverses or repeats.
    pub target: Option<OperationId>,
    /// What a person is told beyond the kind, such as `main -> login`.
    pub detail: String,
}
