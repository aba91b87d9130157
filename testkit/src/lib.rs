//! Test support that several crates share: deterministic clocks and ids, builders of test data, the conformance
//! suite of the store port, scripted agents and a model server, a harness for the binary, comparison of transcripts, and a benchmark
//! runner.

pub mod acp_agent;
pub mod acp_editor;
pub mod bench;
pub mod builders;
pub mod cli;
pub mod clock;
pub mod conformance;
pub mod faulty_store;
pub mod model_server;
pub mod postgres;
pub mod scripted_agent;
pub mod secret_table;
pub mod transcripts;
