//! The stores: where everything lasts.
//!
//! [`SqliteStore`] keeps everything in one file, [`MemoryStore`] in this process's memory. [`open`] chooses by
//! address.

mod check;
mod codec;
mod db;
mod error;
mod memory;
mod sqlite;
mod state_store;
mod sync;

use std::sync::Arc;

use hfs_core::{Store, StoreError, StoreResult};

pub use codec::binary_delta;
pub use db::options::{Durability, SqliteOptions};
pub use db::url::StoreUrl;
pub use memory::MemoryStore;
pub use sqlite::SqliteStore;

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
