//! Branches: lines of history that share their beginnings.

use crate::{BranchId, Seq, SessionId, Timestamp};

/// The name of a session's first branch.
pub const MAIN_BRANCH: &str = "main";

/// One line of a session's history.
///
/// A branch holds only its own messages; what lies at or before [`Branch::forked_at`] is its parent's.
/// Forking copies nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Its identity.
    pub id: BranchId,
    /// The session it belongs to.
    pub session: SessionId,
    /// What people call it; unique in the session.
    pub name: String,
    /// The branch it was forked from; `None` for a root.
    pub parent: Option<BranchId>,
    /// The last seq it shares with its parent; 0 for a root, or for a fork before the first message.
    pub forked_at: Seq,
    /// The seq of its newest message; equal to [`Branch::forked_at`] while it has none of its own.
    pub head: Seq,
    /// When it was made.
    pub created_at: Timestamp,
    /// Hidden because the operation that made it was undone. It is kept for redo.
    pub undone: bool,
}

/// A branch to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchDraft {
    /// Its identity.
    pub id: BranchId,
    /// Its name; must be free in the session.
    pub name: String,
    /// The branch it forks from.
    pub parent: BranchId,
    /// The last seq it shares with that branch, at most that branch's head.
    pub forked_at: Seq,
}

/// A place in a session's history: a branch, and how much of it had been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The branch.
    pub branch: BranchId,
    /// The newest seq that was seen; 0 for an empty one.
    pub head: Seq,
}
