//! The PostgreSQL store passes the conformance suite of the store port.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "support/test_server.rs"]
mod test_server;

use std::sync::Arc;

use hfs_core::{Store, SystemClock};
use testkit::conformance::StoreLocation;
use testkit::postgres::PostgresServer;

struct Schema(String);

impl StoreLocation for Schema {
    fn open(&self) -> Box<dyn Store> {
        let server = test_server::server().unwrap();
        Box::new(test_server::open(&server.url(), &self.0, Arc::new(SystemClock)))
    }

    fn is_available(&self) -> bool {
        test_server::server().is_some()
    }
}

fn new_location() -> Schema {
    Schema(PostgresServer::new_schema())
}

testkit::store_conformance!(crate::new_location);
