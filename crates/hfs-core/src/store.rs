//! The store port: durable storage of sessions.
//!
//! Calls block until they are done, and a write is durable when its call returns. Asynchronous callers run them on a
//! blocking thread. Threads may share a store, and processes may share what it is stored in. Every implementation
//! passes the same conformance suite.

mod checkpoints;
mod error;
mod import;
mod maintenance;
mod messages;
mod sessions;

pub use checkpoints::{CheckpointStore, RunStore};
pub use error::{StoreError, StoreResult};
pub use import::SessionImport;
pub use maintenance::{Maintenance, Problem, StoreInfo, Verification};
pub use messages::{Appended, AttachmentStore, MessageRange, MessageStore, ReplyHandle, SearchIndex};
pub use sessions::{BranchStore, Cursor, OperationStore, Page, PageRequest, SessionStore};

/// All parts of the store port. Implemented for every type that implements the parts; each part is a trait of its own
/// so that an implementation can keep it beside its SQL.
pub trait Store:
    SessionStore
    + BranchStore
    + MessageStore
    + AttachmentStore
    + RunStore
    + CheckpointStore
    + OperationStore
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
        + SearchIndex
        + Maintenance
        + Send
        + Sync
{
}
