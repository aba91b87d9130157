//! The promises of an exchange, kept with a scripted agent over a memory store.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is a test's own way of speaking"
)]

mod agent;
mod failing_saves;
mod hooks;
mod imports;
mod plugin_states;
mod sending;
mod time_travel;
mod walks;
