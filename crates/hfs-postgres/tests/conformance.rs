//! The PostgreSQL store passes the conformance suite of the store port.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "support/test_server.rs"]
mod test_server;

use std::sync::Arc;

use hfs_core::{Store, SystemClock};
use testkit::conformance::StoreLocation;
use testkit::postgres::{Client, PostgresServer, ROLE};

/// A schema, which is removed when it is dropped.
struct Schema {
    name: String,
    /// The role that uses the store. The schema belongs to [`ROLE`].
    role: &'static str,
}

impl Schema {
    fn open_as(&self, role: &str) -> Box<dyn Store> {
        let server = test_server::server().unwrap();
        Box::new(test_server::open(&server.url_of(role), &self.name, Arc::new(SystemClock)))
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        if let Some(server) = test_server::server() {
            Client::connect(&server.url()).execute(&format!("DROP SCHEMA IF EXISTS {} CASCADE", self.name));
        }
    }
}

impl StoreLocation for Schema {
    fn open(&self) -> Box<dyn Store> {
        self.open_as(self.role)
    }

    /// Only the owner of the tables may do that.
    fn vacuum(&self) {
        self.open_as(ROLE).vacuum().unwrap();
    }

    fn is_available(&self) -> bool {
        test_server::server().is_some()
    }
}

fn new_location() -> Schema {
    Schema { name: PostgresServer::new_schema(), role: ROLE }
}

testkit::store_conformance!(crate::new_location);

/// The same for a role that may only use the tables, from which the server hides the sessions of others.
mod with_least_rights {
    use testkit::postgres::{APPLICATION_ROLE, Client, PostgresServer, ROLE};

    use super::{Schema, test_server};

    pub(super) fn new_location_of_another_role() -> Schema {
        let schema = Schema { name: PostgresServer::new_schema(), role: APPLICATION_ROLE };
        if let Some(server) = test_server::server() {
            drop(schema.open_as(ROLE));
            let name = &schema.name;
            Client::connect(&server.url()).execute(&format!(
                "GRANT USAGE ON SCHEMA {name} TO {APPLICATION_ROLE};
                GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO {APPLICATION_ROLE};
                REVOKE INSERT, UPDATE, DELETE ON {name}.schema_version, {name}.administrator FROM {APPLICATION_ROLE}"
            ));
        }
        schema
    }

    testkit::store_conformance!(crate::with_least_rights::new_location_of_another_role);
}
