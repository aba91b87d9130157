//! A whole session as one value, for exports and for copies between stores.

use crate::{Attachment, Branch, Checkpoint, CheckpointState, Message, Run, Session};

/// A session with everything that belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionDocument {
    /// The session.
    pub session: Session,
    /// All branches, parents before children, including undone ones.
    pub branches: Vec<DocumentBranch>,
    /// Runs by time of start.
    pub runs: Vec<Run>,
    /// Checkpoints with their states, by time of creation.
    pub checkpoints: Vec<(Checkpoint, CheckpointState)>,
    /// Attachments of all messages, by hash.
    pub attachments: Vec<Attachment>,
}

/// A branch with its own messages.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentBranch {
    /// The branch.
    pub branch: Branch,
    /// Messages of this branch alone (not of its ancestors), by seq.
    pub messages: Vec<Message>,
}
