//! `hfs` keeps conversations with LLM agents: the command line, the configuration and the wiring.
//!
//! The only crate that names concrete adapters, reads the environment and writes to the terminal.

mod app;
mod args;
mod commands;
mod config;
mod console;
mod context;
mod environment;
mod failure;
mod home;
mod indexing;
mod interrupt;
mod logging;
mod moments;
mod plain;
mod project;
mod references;
mod suggestion;
mod table;
mod terminal;
mod transcript;
mod wire;
mod wiring;

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Threads pass on what others free: pieces of a transcript, events, pictures of the screen. The system's own allocator
/// makes them wait for each other then.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    app::run(std::env::args_os().collect(), environment::Environment::capture())
}
