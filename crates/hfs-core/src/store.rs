//! The store port: durable storage of sessions.
//!
//! Calls block until they are done, and a write is durable when its call returns. Asynchronous callers run them on a
//! blocking thread. Several threads may share a store, and several processes may open the same database. Every
//! implementation passes the conformance suite in testkit.

mod checkpoints;
mod copy;
mod error;
mod import;
mod maintenance;
mod messages;
mod sessions;

pub use checkpoints::{CheckpointStore, RunStore};
pub use copy::{CopyStore, OperationRecord, PurgedSource, SessionRecord};
pub use error::{StoreError, StoreResult};
pub use import::{CompleteImport, ImportStore, ImportedSessionUpdate, ImportedSource, SessionImport};
pub use maintenance::{CompressedSize, Maintenance, Problem, StoreInfo, Verification};
pub use messages::{Appended, AttachmentStore, MessageRange, MessageStore, ReplyHandle, SearchIndex};
pub use sessions::{BranchStore, Cursor, OperationStore, Page, PageRequest, Purged, SessionStore};

/// All parts of the store port. Implemented for every type that implements the parts. Each part is a separate trait, so
/// that an implementation can keep it in the same file as its SQL.
pub trait Store:
    SessionStore
    + BranchStore
    + MessageStore
    + AttachmentStore
    + RunStore
    + CheckpointStore
    + OperationStore
    + ImportStore
    + CopyStore
    + SearchIndex
    + Maintenance
    + Send
    + Sync
{
}

impl<T> Store for T where
    T: SessionStore
        + BranchStore
        + MessageStore
        + AttachmentStore
        + RunStore
        + CheckpointStore
        + OperationStore
        + ImportStore
        + CopyStore
        + SearchIndex
        + Maintenance
        + Send
        + Sync
{
}
