//! Tests of the whole crate: discovery, approval, running, and limits.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod approval;
mod examples;
mod fixture;
mod hostile;
mod reference;
mod running;
mod scripts;
mod scripts_hostile;
