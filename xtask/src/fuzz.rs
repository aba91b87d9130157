//! `cargo xtask fuzz`.

use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use clap::Args;

use crate::shell;
use crate::workspace::Workspace;

/// What to fuzz, and for how long.
#[derive(Debug, Args)]
pub struct Options {
    /// The target; without one they are listed
    target: Option<String>,
    /// How long to search
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u64,
    /// Search without coverage guidance even where cargo-fuzz is installed
    #[arg(long)]
    stable: bool,
}

/// Searches for input that breaks a promise: guided by coverage where the tools for that are installed,
/// otherwise by mutating the seeds blindly, which any toolchain can do.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let Some(target) = &options.target else {
        ensure!(shell::succeeds(&mut blind(workspace))?, "the targets could not be listed");
        return Ok(ExitCode::SUCCESS);
    };
    let seconds = options.seconds.to_string();
    let missing = if options.stable { None } else { what_is_missing(workspace) };
    let mut command = match (&missing, options.stable) {
        (None, false) => {
            let mut command = Command::new("rustup");
            command.args([
                "run",
                "nightly",
                "cargo",
                "fuzz",
                "run",
                target,
                &format!("fuzz/corpus/{target}"),
            ]);
            command.args([&format!("fuzz/seeds/{target}"), "--", &format!("-max_total_time={seconds}")]);
            command.current_dir(&workspace.root);
            command
        }
        _ => {
            let mut command = blind(workspace);
            command.args([target, &seconds]);
            command
        }
    };
    if let Some(missing) = missing {
        eprintln!("searching without coverage guidance, which needs {missing}");
    }
    Ok(if shell::succeeds(&mut command)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What coverage guidance needs and this machine does not have, with the command that brings it.
fn what_is_missing(workspace: &Workspace) -> Option<&'static str> {
    let has_nightly =
        shell::is_available(Command::new("rustup").args(["run", "nightly", "rustc", "--version"]));
    if !has_nightly {
        return Some("a nightly compiler (rustup toolchain install nightly)");
    }
    let has_cargo_fuzz = shell::is_available(shell::cargo(&workspace.root).args(["fuzz", "--version"]));
    (!has_cargo_fuzz).then_some("cargo-fuzz (cargo install cargo-fuzz)")
}

/// The search that any toolchain can do, with the checks for overflow that a release build leaves out.
fn blind(workspace: &Workspace) -> Command {
    let mut command = shell::cargo(&workspace.root);
    command.args(["run", "--quiet", "--package", "fuzz-promises", "--"]);
    command
}
