//! Branches: lines of a session's history that share a common beginning.

use crate::{BranchId, Seq, SessionId, Timestamp};

/// Name of a session's first branch.
pub const MAIN_BRANCH: &str = "main";

/// One line of a session's history.
///
/// A branch stores only its own messages. Messages up to and including [`Branch::forked_at`] belong to its
/// ancestors, so a fork copies nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Branch id.
    pub id: BranchId,
    /// Session of the branch.
    pub session: SessionId,
    /// Name, unique in the session.
    pub name: String,
    /// Branch that this one was forked from; `None` for the first branch.
    pub parent: Option<BranchId>,
    /// Last seq shared with the parent; 0 for the first branch and for a fork before the first message.
    pub forked_at: Seq,
    /// Seq of the newest message; equal to [`Branch::forked_at`] while the branch has no messages of its own.
    pub head: Seq,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Whether the operation that created the branch was undone. An undone branch is kept with its messages; a redo
    /// or a switch to it makes it a branch like any other again.
    pub undone: bool,
}

impl Branch {
    /// Whether lists and exports contain the branch: it is not undone, or it has messages of its own, which would be
    /// out of reach otherwise.
    #[must_use]
    pub const fn is_listed(&self) -> bool {
        !self.undone || self.head > self.forked_at
    }
}

/// A branch to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchDraft {
    /// Branch id.
    pub id: BranchId,
    /// Name; must not be taken in the session.
    pub name: String,
    /// Branch to fork from.
    pub parent: BranchId,
    /// Last seq shared with the parent; at most the parent's head.
    pub forked_at: Seq,
}

/// A place in a session's history: a branch and the newest message seen on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// Branch id.
    pub branch: BranchId,
    /// Newest seq that was seen; 0 when the branch had no messages.
    pub head: Seq,
}
