//! The stores: where everything lasts.
//!
//! [`SqliteStore`] keeps everything in one file, [`MemoryStore`] in this process's memory. [`open`] chooses by
//! address.

mod activity;
mod attachments;
mod body;
mod branches;
mod checkpoints;
mod commit;
mod connection;
mod delta;
mod fault;
mod files;
mod import;
mod index;
mod listing;
mod lookup;
mod maintenance;
mod memory;
mod messages;
mod operations;
mod options;
mod port;
mod purge;
mod repair;
mod replies;
mod rows;
mod runs;
mod schema;
mod seal;
mod search;
mod sessions;
pub mod splice;
mod states;
mod store;
mod url;
mod verify;

use std::sync::Arc;

use hfs_core::{Store, StoreError, StoreResult};

pub use memory::MemoryStore;
pub use options::{Durability, SqliteOptions};
pub use store::SqliteStore;
pub use url::StoreUrl;

/// Opens the store at an address; see [`SqliteStore::open`] and [`MemoryStore::new`].
///
/// # Errors
/// `Unsupported` for kinds of stores that this version does not have; else as opening it has it.
pub fn open(url: &StoreUrl, options: SqliteOptions) -> StoreResult<Arc<dyn Store>> {
    match url {
        StoreUrl::Sqlite(path) => Ok(Arc::new(SqliteStore::open(path, options)?)),
        StoreUrl::Memory => Ok(Arc::new(MemoryStore::new(options.clock))),
        StoreUrl::Postgres(_) => {
            let message = format!("this version of hfs has no stores on PostgreSQL ({url})");
            Err(StoreError::Unsupported { message })
        }
    }
}
