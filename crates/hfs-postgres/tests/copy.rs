//! Copies from SQLite to PostgreSQL and back.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "support/test_server.rs"]
mod test_server;

use std::sync::Arc;

use hfs_core::{CopyStore as _, Store, SystemClock};
use hfs_engine::copy_store;
use hfs_store::{SqliteOptions, SqliteStore};
use testkit::builders::{Drafts, fill};
use testkit::postgres::PostgresServer;

#[test]
fn a_copy_to_a_server_and_back_is_equal_in_everything() {
    let Some(server) = test_server::server() else { return };
    let directory = tempfile::tempdir().unwrap();
    let open = |name: &str| SqliteStore::open(directory.path().join(name), SqliteOptions::default()).unwrap();
    let between = test_server::open(&server.url(), &PostgresServer::new_schema(), Arc::new(SystemClock));
    let (first, last) = (open("first.db"), open("last.db"));
    let _ = fill(&first, &Drafts::new(1));
    for (from, to) in [(&first as &dyn Store, &between as &dyn Store), (&between, &last)] {
        // The second time, everything is there already.
        for expected in [(4, 0), (0, 4)] {
            let report = copy_store(from.snapshot().unwrap().as_ref(), to, &mut |_, _| {}).unwrap();
            assert!(report.is_complete(), "{report:?}");
            assert_eq!((report.copied, report.already_there), expected);
        }
        let verification = to.verify().unwrap();
        assert!(verification.is_ok(), "{:?}", verification.problems);
    }
    assert_eq!(last.list_purged_sources().unwrap(), first.list_purged_sources().unwrap());
}
