//! `cargo xtask check`.

mod directions;
mod house_rules;

use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};

use crate::shell;
use crate::workspace::Workspace;

/// Tells whether the workspace passes, having said why not.
type Step = fn(&Workspace) -> Result<bool>;

const STEPS: &[(&str, Step)] =
    &[("house rules", house_rules), ("formatting", formatting), ("lints", lints), ("docs", docs)];

/// Runs every check, the quick ones first, and names those that failed at the end.
pub fn run(workspace: &Workspace) -> Result<ExitCode> {
    ensure_components()?;
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        if !step(workspace)? {
            failed.push(*name);
        }
    }
    if failed.is_empty() {
        println!("check: ok");
        return Ok(ExitCode::SUCCESS);
    }
    println!("check: FAILED ({})", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// A minimal toolchain comes without these two.
fn ensure_components() -> Result<()> {
    for (component, program) in [("rustfmt", "cargo-fmt"), ("clippy", "cargo-clippy")] {
        if shell::is_available(Command::new(program).arg("--version")) {
            continue;
        }
        let installed = shell::succeeds(Command::new("rustup").args(["component", "add", component]))?;
        ensure!(installed, "{component} is missing and rustup could not add it");
    }
    Ok(())
}

fn house_rules(workspace: &Workspace) -> Result<bool> {
    let mut broken = house_rules::violations(workspace)?;
    broken.extend(directions::violations(&workspace.packages));
    for violation in &broken {
        eprintln!("house rule: {violation}");
    }
    Ok(broken.is_empty())
}

fn formatting(workspace: &Workspace) -> Result<bool> {
    shell::succeeds(shell::cargo(&workspace.root).args(["fmt", "--all", "--check"]))
}

fn lints(workspace: &Workspace) -> Result<bool> {
    let arguments =
        ["clippy", "--workspace", "--all-targets", "--quiet", "--keep-going", "--", "-D", "warnings"];
    shell::succeeds(shell::cargo(&workspace.root).args(arguments))
}

fn docs(workspace: &Workspace) -> Result<bool> {
    let arguments = ["doc", "--workspace", "--no-deps", "--quiet", "--keep-going"];
    shell::succeeds(shell::cargo(&workspace.root).args(arguments).env("RUSTDOCFLAGS", "-D warnings"))
}
