//! The operation log: recorded structural changes of a session, for `log`, `undo` and `redo`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{BranchId, CheckpointId, OperationId, SessionId, Timestamp};

/// Kind of structural change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "named after the commands")]
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

    /// Name in stores, documents and JSON.
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

    /// Whether undo and redo apply to operations of this kind.
    ///
    /// They do not apply to `create` and `import`, since there is no session to return to; to `prune`, since a removed
    /// checkpoint cannot be restored; and to `undo` and `redo`, since the operation that an undo reversed is redone
    /// instead.
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

/// The attributes of a session that operations can change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAttributes {
    /// Session name.
    pub name: String,
    /// Whether hfs generated the name.
    pub automatic_name: bool,
    /// Branch that a resume opens.
    pub current_branch: BranchId,
    /// Whether the session is in the trash.
    pub trashed: bool,
}

/// A recorded structural change. The log is append-only.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    /// Operation id.
    pub id: OperationId,
    /// Session that was changed.
    pub session: SessionId,
    /// Kind of change.
    pub kind: OperationKind,
    /// Time of the change.
    pub created_at: Timestamp,
    /// Attributes before the change; `None` if it created the session.
    pub before: Option<SessionAttributes>,
    /// Attributes after the change.
    pub after: SessionAttributes,
    /// Branch that was created or renamed, or that became undone or ceased to be.
    pub branch: Option<BranchId>,
    /// Checkpoint that a `rewind` returned to or a `prune` removed.
    pub checkpoint: Option<CheckpointId>,
    /// For `undo` and `redo`: the operation that is undone or redone.
    pub target: Option<OperationId>,
    /// Human-readable details, such as `main -> login`.
    pub detail: String,
}
