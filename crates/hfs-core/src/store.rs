//! The port to everything that lasts.
//!
//! Calls block until they are done, and a write is durable when its call returns; asynchronous callers move
//! them off their runtime. A store may be shared by any number of threads, and what it stands on by any number
//! of processes. Every implementation passes the same conformance suite.

mod error;
mod maintenance;
mod messages;
mod sessions;

pub use error::{StoreError, StoreResult};
pub use maintenance::{Maintenance, Problem, StoreInfo, Verification};
pub use messages::{Appended, MessageRange, MessageStore, ReplyDelta, ReplyHandle, SearchIndex};
pub use sessions::{
    BranchStore, CheckpointStore, Cursor, OperationStore, Page, PageRequest, RunStore, SessionImport,
    SessionStore,
};

/// Everything that a store can do.
pub trait Store:
    SessionStore
    + BranchStore
    + MessageStore
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
        + RunStore
        + CheckpointStore
        + OperationStore
        + SearchIndex
        + Maintenance
        + Send
        + Sync
{
}
