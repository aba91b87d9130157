//! Tests of the engine with a scripted agent, mostly on the memory store.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]

mod agent;
mod compaction;
mod dropped_send;
mod hooks;
mod imports;
mod random_operations;
mod sending;
mod time_travel;
mod turns;
