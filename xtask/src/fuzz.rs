//! `cargo xtask fuzz`.

use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use clap::Args;

use crate::workspace::Workspace;
use crate::{shell, test};

#[derive(Debug, Args)]
pub struct Options {
    /// The target; without it, all targets are listed
    target: Option<String>,
    /// Duration in seconds
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u64,
    /// Do not use coverage guidance even if cargo-fuzz is installed
    #[arg(long)]
    stable: bool,
}

/// Searches for input that violates a property: with coverage guidance if a nightly compiler and cargo-fuzz are
/// installed, else by random mutation of the seeds, which needs a stable toolchain only.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let Some(target) = &options.target else {
        ensure!(shell::succeeds(&mut unguided(workspace))?, "cannot list the targets");
        return Ok(ExitCode::SUCCESS);
    };
    let seconds = options.seconds.to_string();
    let missing = if options.stable { None } else { missing_tool(workspace) };
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
            let mut command = unguided(workspace);
            command.args([target, &seconds]);
            command
        }
    };
    if let Some(missing) = missing {
        eprintln!("searching without coverage guidance, which requires {missing}");
    }
    Ok(if shell::succeeds(&mut command)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Debug, Args)]
pub struct MutateOptions {
    /// Number of files
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    files: u64,
    /// Seed of the mutations
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

/// Imports mutated transcripts with the binary. The originals are the seeds of the fuzz targets and, if it exists, the
/// folder of real transcripts.
pub fn mutate(workspace: &Workspace, options: &MutateOptions) -> Result<ExitCode> {
    ensure!(
        shell::succeeds(shell::cargo(&workspace.root).args(["build", "--quiet", "--package", "hfs"]))?,
        "cannot build hfs"
    );
    let mut command = shell::cargo(&workspace.root);
    command.args(["run", "--quiet", "--package", "fuzz-promises", "--bin", "mutated-imports", "--"]);
    command.arg(workspace.target.join("debug").join("hfs"));
    command.args([options.files.to_string(), options.seed.to_string()]);
    command.args(test::samples_folder(workspace));
    Ok(if shell::succeeds(&mut command)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The tool that coverage guidance requires and that is not installed, with the command that installs it.
fn missing_tool(workspace: &Workspace) -> Option<&'static str> {
    let has_nightly =
        shell::is_available(Command::new("rustup").args(["run", "nightly", "rustc", "--version"]));
    if !has_nightly {
        return Some("a nightly compiler (rustup toolchain install nightly)");
    }
    let has_cargo_fuzz = shell::is_available(shell::cargo(&workspace.root).args(["fuzz", "--version"]));
    (!has_cargo_fuzz).then_some("cargo-fuzz (cargo install cargo-fuzz)")
}

/// The search without coverage guidance. The dev profile checks for integer overflow, unlike a release build.
fn unguided(workspace: &Workspace) -> Command {
    let mut command = shell::cargo(&workspace.root);
    command.args(["run", "--quiet", "--package", "fuzz-promises", "--"]);
    command
}
