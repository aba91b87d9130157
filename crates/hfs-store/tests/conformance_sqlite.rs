//! The SQLite store passes the conformance suite of the store port.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::PathBuf;

use hfs_core::Store;
use hfs_store::{SqliteOptions, SqliteStore};
use tempfile::TempDir;
use testkit::conformance::StoreLocation;

struct File {
    path: PathBuf,
    _directory: TempDir,
}

impl StoreLocation for File {
    fn open(&self) -> Box<dyn Store> {
        Box::new(SqliteStore::open(&self.path, SqliteOptions::default()).unwrap())
    }
}

fn new_location() -> File {
    let directory = tempfile::tempdir().unwrap();
    File { path: directory.path().join("home/hfs.db"), _directory: directory }
}

testkit::store_conformance!(crate::new_location);
