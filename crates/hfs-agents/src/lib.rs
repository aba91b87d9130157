//! What answers a message: models of several providers, an offline agent that searches the saved sessions,
//! and triads of agents that negotiate.
//!
//! Nothing here reads the environment or a file: keys, addresses and settings come in from the binary. All
//! talk with providers goes through one door ([`ModelConfig`] describes it).

#![cfg_attr(
    test,
    allow(clippy::string_slice, reason = "a failed expectation is a test's own way of speaking")
)]

mod assistant;
mod config;
mod detect;
mod model;
mod provider;
mod recall;
mod secret;
mod triads;
mod turns;

pub use assistant::{Assistant, AttachmentSource};
pub use config::{ModelConfig, ModelName, Provider, Retries, Timeouts};
pub use detect::{Choice, Seen, detect, probe_ollama};
pub use recall::Recall;
pub use secret::Secret;
pub use triads::{
    ArbiterConfig, Budget, ConfigProblem, Preset, Pressure, Role, SectionConfig, TriadConfig, TriadModels,
    Triads, TriadsConfig, TriadsConfigError,
};
