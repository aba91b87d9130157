//! The agents against a model server on loopback and a store in memory.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is a test's own way of speaking"
)]

mod assistant;
mod assistant_failures;
mod recall;
mod support;
mod triads;
mod triads_cancel;
mod triads_failures;
mod triads_offline;
