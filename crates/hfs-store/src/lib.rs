//! The stores: where everything lasts.

mod memory;

pub use memory::MemoryStore;
