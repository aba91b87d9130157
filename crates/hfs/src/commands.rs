//! The commands. Each takes its arguments and the `Context`, and prints its result.

pub mod acp;
pub mod agents;
pub mod branch;
pub mod chat;
pub mod checkpoint;
pub mod compact;
pub mod completions;
pub mod config;
pub mod connect;
pub mod doctor;
pub mod export;
pub mod handoff;
pub mod history;
pub mod import;
pub mod mcp;
pub mod permissions;
pub mod plugin;
pub mod recall;
pub mod run;
pub mod search;
pub mod session;
pub mod start;
pub mod stats;
pub mod store;
pub mod trust;
pub mod watch;
