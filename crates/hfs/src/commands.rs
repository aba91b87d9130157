//! The commands: each takes its arguments and the context, and prints what it did.

pub mod branch;
pub mod chat;
pub mod checkpoint;
pub mod completions;
pub mod config;
pub mod doctor;
pub mod export;
pub mod history;
pub mod import;
pub mod plugin;
pub mod resume;
pub mod rewind;
pub mod run;
pub mod search;
pub mod session;
pub mod start;
pub mod store;
