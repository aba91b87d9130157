//! The store port of `hfs-core` on PostgreSQL.
//!
//! [`PostgresStore`] keeps everything in the schema `hfs` of a database, which many processes on many machines can use at
//! the same time.
//!
//! # Modules
//!
//! - `address` completes the address of a store from the environment, the service file and the password file; `tls` has
//!   the modes of encryption.
//! - `db` runs transactions: connections, retries, the presence of processes, migrations.
//! - `store` implements the port, with one file for each of the port's traits.
//!
//! The encodings of bodies, deltas, runs and states are those of [`hfs_store::codec`].

mod address;
mod db;
mod error;
mod store;
mod tls;

use std::fmt;
use std::sync::Arc;

use hfs_core::{Clock, StoreResult, SystemClock};
use hfs_store::{Durability, StoreUrl};

pub use address::Environment;

use crate::address::Address;
use crate::db::Database;

/// Options of a [`PostgresStore`].
#[derive(Clone)]
pub struct PostgresOptions {
    /// The durability of acknowledged writes. `Full` waits for the server's disk, and for the standbys that the server
    /// is configured to wait for.
    pub durability: Durability,
    /// Clock for times that callers do not pass.
    pub clock: Arc<dyn Clock>,
    /// Where settings come from that are not in the address.
    pub environment: Environment,
    /// Whether the sessions of all owners are seen, which only an administrator of the store may do. They can be deleted, but
    /// not changed.
    pub all_owners: bool,
    /// Name of the schema: a lower-case letter, then lower-case letters, digits and underscores.
    pub schema: String,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            clock: Arc::new(SystemClock),
            environment: Environment::default(),
            all_owners: false,
            schema: "hfs".into(),
        }
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("durability", &self.durability)
            .field("all_owners", &self.all_owners)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// A store in a database of PostgreSQL.
///
/// Threads can share one store, and processes can share one database. When the store is dropped, its unfinished replies
/// become interrupted; when its process is killed, at the latest after a minute.
pub struct PostgresStore {
    db: Arc<Database>,
}

impl PostgresStore {
    /// Connects to the database at `address`, a URL such as `postgres://me@db.example/hfs`. Creates the schema if it does
    /// not exist, and migrates an old one.
    ///
    /// # Errors
    /// `Invalid` for an address that is not valid; `Newer` for the schema of a newer version; `Unsupported` for a server
    /// that is too old; `Denied` for a wrong password or missing rights; `Unavailable` if the server or the database
    /// cannot be reached.
    pub fn open(address: &str, options: &PostgresOptions) -> StoreResult<Self> {
        let shown = StoreUrl::Postgres(address.to_owned()).to_string();
        let open = || {
            check_schema(&options.schema)?;
            let address = Address::parse(address, &options.environment)?;
            Database::open(&address, options.clone())
        };
        let db = open().map_err(|error| error.into_store_error("open the store", &shown))?;
        let store = Self { db: Arc::new(db) };
        if let Err(error) = store.remove_abandoned_imports() {
            tracing::warn!(%error, "rows of an interrupted import could not be removed");
        }
        Ok(store)
    }
}

/// The name is a part of statements.
fn check_schema(name: &str) -> error::Result<()> {
    let is_valid = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if is_valid { Ok(()) } else { Err(error::invalid(format!("{name:?} is not a valid name of a schema"))) }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        if !self.db.is_snapshot() {
            self.db.disappear();
        }
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("address", &self.db.address()).finish_non_exhaustive()
    }
}
