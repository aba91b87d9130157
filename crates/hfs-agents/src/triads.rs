//! Triads.

mod config;
mod negotiation;
mod yaml;

pub use config::{ArbiterConfig, Budget, Preset, Pressure, Role, SectionConfig, TriadConfig, TriadsConfig};
pub use yaml::{ConfigProblem, TriadsConfigError};
