//! Agents that answer a message: models of several providers, an offline agent that searches the saved
//! sessions, and triads of agents that negotiate which of them writes which section of the reply.
//!
//! This crate reads neither environment variables nor files: the binary passes in API keys, URLs and settings.
//! All requests to providers go through one private module; [`ModelConfig`] describes its options.

#![cfg_attr(test, allow(clippy::string_slice, reason = "a panic is how a test fails"))]

mod agent_model;
mod assistant;
mod detect;
mod model;
mod model_config;
mod provider;
mod recall;
mod summary;
mod triads;

pub use assistant::{Assistant, AttachmentSource};
pub use detect::{
    AvailableProviders, DetectedModel, can_chat, detect_model, first_listed_model, probe_ollama,
};
pub use model::MAX_IMAGE_BYTES;
pub use model_config::{
    ApiKey, CertificatePaths, ModelConfig, ModelName, ParseProviderError, Provider, RetryPolicy, Timeouts,
};
pub use provider::{ServerModels, is_base_url, is_header_name, list_models, server_label};
pub use recall::Recall;
pub use triads::{
    ArbiterConfig, Budget, ConfigProblem, MemoryEntry, Preset, Pressure, Role, SectionConfig, TriadConfig,
    TriadModel, TriadModels, Triads, TriadsConfig, TriadsConfigError,
};
