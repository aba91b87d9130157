//! The memory store passes the conformance suite of the store port.

use hfs_core::Store;
use hfs_store::MemoryStore;
use testkit::clock::TestClock;
use testkit::conformance::StoreLocation;

struct Memory(MemoryStore);

impl StoreLocation for Memory {
    fn open(&self) -> Box<dyn Store> {
        Box::new(self.0.reopen())
    }
}

fn new_location() -> Memory {
    Memory(MemoryStore::new(std::sync::Arc::new(TestClock::ticking())))
}

testkit::store_conformance!(crate::new_location);
