//! Implementations of the store port of `hfs-core`.
//!
//! [`SqliteStore`] keeps everything in one SQLite file, which several threads and processes can use at the same time.
//! [`MemoryStore`] keeps everything in memory; it is the store of `memory:` addresses and of tests. [`open`] opens
//! either, depending on the address. The store on PostgreSQL is in the crate `hfs-postgres`.
//!
//! ```
//! use hfs_core::{
//!     BranchId, MessageDraft, MessageRange, MessageStore, Part, PassthroughFields, Position, Role, SessionDraft,
//!     SessionId, SessionStore, StoreError, Timestamp,
//! };
//! use hfs_store::{SqliteOptions, SqliteStore};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("hfs.db");
//! let store = SqliteStore::open(path, SqliteOptions::default())?;
//! let now = Timestamp::from_millis(1_700_000_000_000).ok_or("the time is out of range")?;
//!
//! // A session begins with one branch, which is empty.
//! let draft = SessionDraft {
//!     id: SessionId::generate(),
//!     name: "Hello".into(),
//!     automatic_name: false,
//!     project: None,
//!     created_at: now,
//!     origin: None,
//!     extra: PassthroughFields::new(),
//!     main_branch: BranchId::generate(),
//! };
//! let session = store.create_session(&draft)?;
//!
//! // An append states the head that the caller has seen. It fails if another writer has appended in the meantime.
//! let empty = Position { branch: session.current_branch, head: 0 };
//! let question = MessageDraft::new(Role::User, vec![Part::text("What is a monad?")], now);
//! let appended = store.append(empty, &[question.clone()])?;
//! assert_eq!(appended.position.head, 1);
//! let rejected = store.append(empty, &[MessageDraft::new(Role::User, vec![Part::text("Too late.")], now)]);
//! assert!(matches!(rejected, Err(StoreError::HeadMismatch { .. })));
//!
//! // The message is durable: it survives a crash and a power failure.
//! let messages = store.read_messages(session.current_branch, MessageRange::Newest(10))?;
//! assert_eq!(messages.len(), 1);
//! assert_eq!(messages[0].content, question);
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//!
//! Each module uses only those above it in this list:
//!
//! - [`codec`] encodes values in columns: message bodies, row checksums, compression.
//! - `db` runs transactions: connections, group commit, locks between processes, migrations.
//! - `state_store` stores checkpoint states as keyframes and deltas; `check` verifies a database, reads the rows of a
//!   damaged one from its pages, and repairs them.
//! - `sqlite` implements the port on SQLite, with one file for each of the port's traits.
//! - `memory` implements the port in memory.

mod check;
pub mod codec;
mod db;
mod error;
mod memory;
mod sqlite;
mod state_store;
mod sync;

use std::sync::Arc;

use hfs_core::{Problem, Store, StoreError, StoreResult};

pub use codec::binary_delta;
pub use db::options::{Durability, SqliteOptions};
pub use db::url::StoreUrl;
pub use memory::MemoryStore;
pub use sqlite::SqliteStore;

/// Opens the store at an address.
///
/// # Errors
/// The errors of [`SqliteStore::open`]; `Unsupported` for PostgreSQL, which `hfs-postgres` opens.
pub fn open(url: &StoreUrl, options: SqliteOptions) -> StoreResult<Arc<dyn Store>> {
    match url {
        StoreUrl::Sqlite(path) => Ok(Arc::new(SqliteStore::open(path, options)?)),
        StoreUrl::Memory => Ok(Arc::new(MemoryStore::new(options.clock))),
        StoreUrl::Postgres(_) => {
            let message = format!("{url} is not a file: the crate hfs-postgres opens it");
            Err(StoreError::Unsupported { message })
        }
    }
}

/// Repairs the store at an address, also if it cannot be opened. Returns what was changed, recovered and lost; nothing
/// if the store is intact.
///
/// Works on a copy. The damaged database is kept beside the repaired one, under the name that the report states.
///
/// # Errors
/// `Invalid` for a file without data of hfs; `Newer` for the database of a newer version; `Unavailable` if there is not
/// enough space for the copy. The store is then unchanged. `Unsupported` for PostgreSQL.
pub fn repair(url: &StoreUrl, options: SqliteOptions) -> StoreResult<Vec<Problem>> {
    match url {
        StoreUrl::Sqlite(path) => sqlite::repair::repair_file(path, &options),
        StoreUrl::Memory | StoreUrl::Postgres(_) => open(url, options)?.repair(),
    }
}
