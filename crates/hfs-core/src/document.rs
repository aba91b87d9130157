//! A whole session as plain data, for everything that leaves or enters in one piece.

use crate::{Attachment, Branch, Checkpoint, CheckpointState, Message, Run, Session};

/// A whole session.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionDocument {
    /// The session.
    pub session: Session,
    /// Its branches, parents before children, undone ones included.
    pub branches: Vec<DocumentBranch>,
    /// Its runs in order of their beginning.
    pub runs: Vec<Run>,
    /// Its checkpoints in order of their making, with their states.
    pub checkpoints: Vec<(Checkpoint, CheckpointState)>,
    /// The bytes that its messages refer to, in order of their hashes.
    pub attachments: Vec<Attachment>,
}

/// A branch with the messages that are its own.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentBranch {
    /// The branch.
    pub branch: Branch,
    /// Its own messages, by seq.
    pub messages: Vec<Message>,
}
