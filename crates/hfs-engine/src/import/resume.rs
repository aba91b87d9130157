//! Where the import of a source continues that has only grown since its last import.

use hfs_core::{BranchId, ErrorExt as _, ErrorKind, Seq, SessionId, Store, StoreResult};
use serde::{Deserialize, Serialize};

/// What an import keeps of a source that was imported completely. The store keeps it in the encoding of postcard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SourceProgress {
    /// The import of its only session continues here.
    Session(ResumePoint),
    /// Its reader knows which of its sessions have changed.
    Sessions {
        /// What the reader needs to know that.
        reader_state: Vec<u8>,
    },
}

/// The state of the import of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ResumePoint {
    /// The session that the source contains.
    pub session: SessionId,
    /// Whether a record before this point could not be read.
    pub is_damaged: bool,
    /// The stored branch of each branch of the source, by key.
    pub branches: Vec<Option<ResumedBranch>>,
    /// What the reader needs to continue.
    pub reader_state: Vec<u8>,
}

/// The stored branch on which a branch of the source ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ResumedBranch {
    /// Branch id.
    pub branch: BranchId,
    /// Seqs in the source and in the store, of each message where their difference changes.
    pub seqs: Vec<(Seq, Seq)>,
}

impl ResumedBranch {
    /// A branch whose messages have the same seqs as in the source.
    pub(super) const fn new(branch: BranchId) -> Self {
        Self { branch, seqs: Vec::new() }
    }
}

impl SourceProgress {
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        postcard::to_allocvec(self).ok()
    }

    /// `None` if the bytes were encoded by another version.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

impl ResumePoint {
    /// Whether the store has all branches.
    pub(super) fn is_stored(&self, store: &dyn Store) -> StoreResult<bool> {
        for branch in self.branches.iter().flatten() {
            match store.get_branch(branch.branch) {
                Ok(found) if found.session == self.session => {}
                Ok(_) => return Ok(false),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
