//! Operations on a store as a whole.

use std::path::Path;
use std::sync::Arc;

use super::{Store, StoreResult};

/// Facts about a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreInfo {
    /// Address, without secrets.
    pub url: String,
    /// Name of the implementation: `sqlite`, `postgres` or `memory`.
    pub backend: &'static str,
    /// Schema version.
    pub schema_version: u32,
    /// Number of sessions, including those in the trash.
    pub sessions: u64,
    /// Number of messages.
    pub messages: u64,
    /// Number of checkpoints.
    pub checkpoints: u64,
    /// Size on disk in bytes.
    pub bytes: u64,
    /// Size of the checkpoint states in bytes, which `bytes` includes.
    pub checkpoint_bytes: u64,
}

/// Size of the texts of compressed messages, including their passthrough fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompressedSize {
    /// Size on disk in bytes.
    pub compressed_bytes: u64,
    /// Size without compression, in bytes.
    pub uncompressed_bytes: u64,
}

/// Damage found by a verification, or a change made by a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Short name of the kind of damage.
    pub kind: String,
    /// Location: a session, a message or a page.
    pub place: String,
    /// Human-readable description, with expected and actual values.
    pub detail: String,
}

/// Result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verification {
    /// Types of objects that were checked, each with the number of objects.
    pub checked: Vec<(String, u64)>,
    /// Damage found.
    pub problems: Vec<Problem>,
}

impl Verification {
    /// Whether no damage was found.
    #[must_use]
    pub const fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Operations on a store as a whole.
pub trait Maintenance {
    /// Returns facts about the store.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn info(&self) -> StoreResult<StoreInfo>;

    /// Checks the structure of the database and all references, counters, checksums and hashes.
    ///
    /// # Errors
    /// Returns an error only if the store cannot be checked; damage is part of the result.
    fn verify(&self) -> StoreResult<Verification>;

    /// Repairs what can be repaired and removes the rest. Returns the changes.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn repair(&self) -> StoreResult<Vec<Problem>>;

    /// Writes a consistent copy to a new file, while other threads and processes continue to write.
    ///
    /// # Errors
    /// `Conflict` if the file exists; `Unsupported` if the store cannot be copied to a file.
    fn backup(&self, to: &Path) -> StoreResult<()>;

    /// Compresses messages, returns unused space to the disk and merges the text index.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn vacuum(&self) -> StoreResult<()>;

    /// Compresses messages, as [`vacuum`](Self::vacuum) does, and calls `progress` with the number of messages that are done, and
    /// of all messages that were not compressed before. Does nothing if the store does not compress messages.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn compress(&self, _progress: &mut dyn FnMut(u64, u64)) -> StoreResult<()> {
        Ok(())
    }

    /// Returns the size of the compressed messages; 0 if the store does not compress messages.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn compressed_size(&self) -> StoreResult<CompressedSize> {
        Ok(CompressedSize::default())
    }

    /// Returns a view of the store as it is now: later changes, by any process, do not appear in it. It is for reading:
    /// a write to it fails, or changes only the view.
    ///
    /// While the view exists, the store cannot reuse the space of what has changed since, so it should not be kept long.
    ///
    /// # Errors
    /// Returns any error of the underlying store.
    fn snapshot(&self) -> StoreResult<Arc<dyn Store>>;

    /// Whether a call waits because the connection to the server was lost, and is being made again. `None` if the store has no
    /// connection to lose. Does not block.
    fn is_reconnecting(&self) -> Option<bool> {
        None
    }
}
