//! The project's chores: `cargo xtask <task>`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool speaks through both")]

mod bench;
mod check;
mod dist;
mod fuzz;
mod guests;
mod pages;
mod runtimes;
mod shell;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// The project's chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Everything that can be said about the code without running it: house rules, formatting, lints, docs.
    Check,
    /// The whole test suite, doc tests included; says at the end what was left out and why.
    Test(test::Options),
    /// The benchmarks: every ratio beside its target, in one table.
    Bench(bench::Options),
    /// Exported pages in a real browser: nothing is asked for, nothing runs, everything fits and can be read.
    PageCheck(pages::Options),
    /// Each benchmark on tiny data in the test profile, so that all of them go on compiling and running.
    BenchSmoke,
    /// One fuzz target for a while: with cargo-fuzz where it is installed, otherwise without coverage guidance.
    Fuzz(fuzz::Options),
    /// The example plugins' components, compiled from their sources; with --check, whether they are of these.
    Guests(guests::Options),
    /// The interpreters of plugins in Python and JavaScript, built from the package registries.
    Runtimes(runtimes::Options),
    /// A release build with completions and licences, in dist/.
    Dist,
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
        Task::PageCheck(options) => pages::run(&workspace, options),
        Task::BenchSmoke => bench::smoke(&workspace),
        Task::Fuzz(options) => fuzz::run(&workspace, options),
        Task::Guests(options) => guests::run(&workspace, options),
        Task::Runtimes(options) => runtimes::run(&workspace, options),
        Task::Dist => dist::run(&workspace),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
