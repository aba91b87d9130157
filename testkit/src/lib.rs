//! Test support.

pub mod bench;
pub mod cli;
pub mod model_server;
