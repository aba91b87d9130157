//! The engine with a scripted agent and a store in memory.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is a test's own way of speaking"
)]

mod agent;
mod any_order;
mod dropped_send;
mod hooks;
mod imports;
mod sending;
mod time_travel;
