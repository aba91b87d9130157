//! Test support.

pub mod cli;
pub mod model_server;
