//! Development tasks of the project: `cargo xtask TASK`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool prints")]

mod agents;
mod apt;
mod bench;
mod book;
mod check;
mod crash;
mod dist;
mod fuzz;
mod guests;
mod mcp;
mod page_check;
mod pages;
mod reference;
mod runtimes;
mod shell;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Development tasks of the project
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Check the code without running it: source rules, dependencies, pages, formatting, lints, documentation
    Check,
    /// Run all tests including doc tests; at the end, list skipped tests and the reasons
    Test(test::Options),
    /// Run the benchmarks and print all ratios and targets as a table
    Bench(bench::Options),
    /// Check exported HTML pages in a browser: no network requests, no scripts, no overflow, readable
    PageCheck(page_check::Options),
    /// Run each benchmark on tiny data in the test profile, to check that it compiles and runs
    BenchSmoke,
    /// Run a fuzz target, with cargo-fuzz if installed, else without coverage guidance
    Fuzz(fuzz::Options),
    /// Run one of the long crash tests with a seed: damage, kills, power cuts or contention
    Crash(crash::Options),
    /// Import mutated transcripts of all formats: no panic, no hang, bounded memory, and the store verifies
    Mutate(fuzz::MutateOptions),
    /// Measure which generated secrets and lookalikes a redacted export masks
    Redaction(test::RedactionOptions),
    /// Use `hfs mcp` through the official SDKs for TypeScript and Python, and run the official conformance suite
    Mcp,
    /// Compile the WebAssembly components of the example plugins, or check that they are up to date
    Guests(guests::Options),
    /// Build the interpreters for plugins in Python and JavaScript from package registries
    Runtimes(runtimes::Options),
    /// Install the real Claude Code, Codex and opencode from npm, and test hfs with them and a fake model
    Agents(agents::Options),
    /// Write the pages in docs/ that are generated from the code
    Reference,
    /// Build the pages as a book in target/book, with mdBook
    Book,
    /// Build a release archive and a Debian package in dist/, with interpreters, man pages, completions and licenses
    Dist(dist::Options),
}

fn main() -> ExitCode {
    match run(&Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: &Task) -> Result<ExitCode> {
    let workspace = Workspace::load()?;
    match task {
        Task::Check => check::run(&workspace),
        Task::Test(options) => test::run(&workspace, options),
        Task::Bench(options) => bench::run(&workspace, options),
        Task::PageCheck(options) => page_check::run(&workspace, options),
        Task::BenchSmoke => bench::smoke(&workspace),
        Task::Fuzz(options) => fuzz::run(&workspace, options),
        Task::Crash(options) => crash::run(&workspace, options),
        Task::Mutate(options) => fuzz::mutate(&workspace, options),
        Task::Mcp => mcp::run(&workspace),
        Task::Redaction(options) => test::redaction(&workspace, options),
        Task::Guests(options) => guests::run(&workspace, options),
        Task::Runtimes(options) => runtimes::run(&workspace, options),
        Task::Agents(options) => agents::run(&workspace, options),
        Task::Reference => reference::run(&workspace),
        Task::Book => book::run(&workspace),
        Task::Dist(options) => dist::run(&workspace, options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_definition_is_valid() {
        super::Cli::command().debug_assert();
    }
}
