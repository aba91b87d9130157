//! The PostgreSQL store passes the conformance suite of the store port.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::sync::Arc;

use hfs_core::{Store, SystemClock};
use testkit::conformance::StoreLocation;
use testkit::postgres::PostgresServer;

struct Schema(String);

impl StoreLocation for Schema {
    fn open(&self) -> Box<dyn Store> {
        let server = common::server().unwrap();
        Box::new(common::open(&server.url(), &self.0, Arc::new(SystemClock)))
    }

    fn is_available(&self) -> bool {
        common::server().is_some()
    }
}

fn new_location() -> Schema {
    Schema(PostgresServer::new_schema())
}

testkit::store_conformance!(crate::new_location);
