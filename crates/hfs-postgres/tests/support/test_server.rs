//! The server that all tests share.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use hfs_core::Clock;
use hfs_postgres::{PostgresOptions, PostgresStore};
use testkit::postgres::PostgresServer;

/// The server; `None` if none is installed.
#[allow(dead_code, reason = "not every test file uses it")]
pub fn server() -> Option<&'static PostgresServer> {
    static SERVER: OnceLock<Option<PostgresServer>> = OnceLock::new();
    SERVER.get_or_init(|| PostgresServer::shared(Path::new(env!("CARGO_TARGET_TMPDIR")))).as_ref()
}

/// Opens the store in a schema.
#[allow(dead_code, reason = "not every test file uses it")]
pub fn open(url: &str, schema: &str, clock: Arc<dyn Clock>) -> PostgresStore {
    let options = PostgresOptions { schema: schema.to_owned(), clock, ..PostgresOptions::default() };
    PostgresStore::open(url, &options).unwrap()
}
