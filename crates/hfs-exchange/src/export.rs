//! The source of an export, and its errors.

use std::collections::HashSet;
use std::io;

use hfs_core::{
    Branch, BranchId, Checkpoint, CheckpointId, CheckpointState, ContentHash, ErrorExt, ErrorKind, Message,
    Run, RunId, Seq, Session, SessionDocument, StoreError, StoreResult, Suggestion,
};

/// Number of messages that an exporter requests at once.
pub(crate) const PAGE: u32 = 256;

/// A session that can be exported. Messages are read in pages, so that an export needs memory for one page,
/// not for the whole session.
///
/// Every method returns the errors of the underlying store.
pub trait DocumentSource {
    /// The session.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn session(&self) -> StoreResult<Session>;

    /// The branches that lists contain ([`Branch::is_listed`]), the current branch, and their ancestors, starting with the first
    /// branch, parents before children.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn branches(&self) -> StoreResult<Vec<Branch>>;

    /// At most `limit` of the branch's own messages with a seq greater than `after`, in order.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn messages(&self, branch: BranchId, after: Seq, limit: u32) -> StoreResult<Vec<Message>>;

    /// The runs, in order of their start.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn runs(&self) -> StoreResult<Vec<RunId>>;

    /// One run.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn run(&self, id: RunId) -> StoreResult<Run>;

    /// The checkpoints, oldest first.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn checkpoints(&self) -> StoreResult<Vec<Checkpoint>>;

    /// The state of a checkpoint.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn state(&self, checkpoint: CheckpointId) -> StoreResult<CheckpointState>;

    /// The bytes of an attachment.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn attachment(&self, hash: ContentHash) -> StoreResult<Vec<u8>>;
}

/// The ids of the selected branches, of the current branch, and of the ancestors of both. `all` lists parents before their
/// children.
pub fn branches_with_ancestors(
    all: &[Branch],
    current: BranchId,
    is_selected: impl Fn(&Branch) -> bool,
) -> HashSet<BranchId> {
    let mut kept = HashSet::new();
    for branch in all.iter().rev() {
        if is_selected(branch) || branch.id == current || kept.contains(&branch.id) {
            kept.insert(branch.id);
            kept.extend(branch.parent);
        }
    }
    kept
}

/// The error of an export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The session could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output could not be written.
    #[error("cannot write the export")]
    Io(#[from] io::Error),
    /// The format cannot represent the data.
    #[error("cannot write {what} as {format}")]
    Unsupported {
        /// Description of the data.
        what: String,
        /// Name of the format.
        format: &'static str,
    },
}

impl ErrorExt for ExportError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            Self::Io(_) => ErrorKind::Unavailable,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
        }
    }

    fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::Store(error) => error.suggestion(),
            Self::Io(_) | Self::Unsupported { .. } => None,
        }
    }
}

fn missing(what: &'static str, reference: impl std::fmt::Display) -> StoreError {
    StoreError::NotFound { what, reference: format!("{reference}") }
}

impl DocumentSource for SessionDocument {
    fn session(&self) -> StoreResult<Session> {
        Ok(self.session.clone())
    }

    fn branches(&self) -> StoreResult<Vec<Branch>> {
        let mut branches: Vec<Branch> = self.branches.iter().map(|branch| branch.branch.clone()).collect();
        let kept = branches_with_ancestors(&branches, self.session.current_branch, Branch::is_listed);
        branches.retain(|branch| kept.contains(&branch.id));
        Ok(branches)
    }

    fn messages(&self, branch: BranchId, after: Seq, limit: u32) -> StoreResult<Vec<Message>> {
        let found = self.branches.iter().find(|found| found.branch.id == branch);
        let messages = &found.ok_or_else(|| missing("branch", branch))?.messages;
        Ok(messages.iter().filter(|message| message.seq > after).take(limit as usize).cloned().collect())
    }

    fn runs(&self) -> StoreResult<Vec<RunId>> {
        Ok(self.runs.iter().map(|run| run.id).collect())
    }

    fn run(&self, id: RunId) -> StoreResult<Run> {
        self.runs.iter().find(|run| run.id == id).cloned().ok_or_else(|| missing("run", id))
    }

    fn checkpoints(&self) -> StoreResult<Vec<Checkpoint>> {
        Ok(self.checkpoints.iter().map(|(checkpoint, _)| checkpoint.clone()).collect())
    }

    fn state(&self, id: CheckpointId) -> StoreResult<CheckpointState> {
        let found = self.checkpoints.iter().find(|(checkpoint, _)| checkpoint.id == id);
        found.map(|(_, state)| state.clone()).ok_or_else(|| missing("checkpoint", id))
    }

    fn attachment(&self, hash: ContentHash) -> StoreResult<Vec<u8>> {
        let found = self.attachments.iter().find(|attachment| attachment.hash == hash);
        found.map(|attachment| attachment.bytes.clone()).ok_or_else(|| missing("attachment", hash))
    }
}
