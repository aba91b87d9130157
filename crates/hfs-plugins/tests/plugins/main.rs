//! Plugins as a whole: found, decided about, run, and kept within their bounds.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is a test's own way of speaking"
)]

mod approval;
mod examples;
mod fixture;
mod guards;
mod hostile;
mod living;
mod reference;
mod scripts;
mod scripts_hostile;
