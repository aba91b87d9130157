//! Test support.

pub mod agents;
pub mod bench;
pub mod builders;
pub mod cli;
pub mod clock;
pub mod conformance;
pub mod faulty_store;
pub mod model_server;
