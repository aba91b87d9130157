//! `cargo xtask check`: source rules, the directions of dependencies between crates, formatting, lints and docs.

mod source_rules;

use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};

use crate::shell;
use crate::workspace::{Package, Workspace};

/// Returns whether the workspace passes. Prints the reasons if it does not.
type Step = fn(&Workspace) -> Result<bool>;

const STEPS: &[(&str, Step)] = &[
    ("source rules", source_rules),
    ("dependencies", dependencies),
    ("formatting", formatting),
    ("lints", lints),
    ("docs", docs),
];

/// Runs all steps, the fast ones first, and prints the names of those that failed.
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

/// Installs rustfmt and clippy if they are missing, as in a minimal toolchain.
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

fn source_rules(workspace: &Workspace) -> Result<bool> {
    let violations = source_rules::violations(workspace)?;
    for violation in &violations {
        eprintln!("source rule: {violation}");
    }
    Ok(violations.is_empty())
}

fn dependencies(workspace: &Workspace) -> Result<bool> {
    let violations = dependency_violations(&workspace.packages);
    for violation in &violations {
        eprintln!("dependency: {violation}");
    }
    Ok(violations.is_empty())
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

/// The libraries under `crates/`, each with the crates of this workspace that it may depend on. The binary may depend on
/// all of them.
const ALLOWED_DEPENDENCIES: &[(&str, &[&str])] = &[
    ("hfs-secrets", &[]),
    ("hfs-files", &[]),
    ("hfs-core", &["hfs-secrets"]),
    ("hfs-retrieval", &["hfs-core"]),
    ("hfs-store", &["hfs-core", "hfs-retrieval", "hfs-files"]),
    ("hfs-exchange", &["hfs-core", "hfs-files", "hfs-secrets"]),
    ("hfs-machine-code", &["hfs-files"]),
    ("hfs-plugins", &["hfs-core", "hfs-files", "hfs-machine-code"]),
    ("hfs-agents", &["hfs-core", "hfs-retrieval"]),
    ("hfs-acp", &["hfs-core", "hfs-files", "hfs-secrets"]),
    ("hfs-engine", &["hfs-core"]),
    ("hfs-mcp", &["hfs-core", "hfs-engine", "hfs-retrieval", "hfs-secrets"]),
    ("hfs-tui", &["hfs-core", "hfs-engine", "hfs-files"]),
];

/// The crate that connects the others.
const BINARY: &str = "hfs";
/// Crates for tests and development. No shipped crate may depend on them.
const TEST_ONLY: &[&str] = &["testkit", "fuzz-promises", "xtask"];

/// The dependencies between crates of the workspace that are not allowed. Every dev-dependency is allowed.
fn dependency_violations(packages: &[Package]) -> Vec<String> {
    let mut violations = Vec::new();
    for package in packages {
        let name = package.name.as_str();
        if TEST_ONLY.contains(&name) {
            continue;
        }
        let allowed =
            ALLOWED_DEPENDENCIES.iter().find(|(library, _)| *library == name).map(|(_, allowed)| *allowed);
        if allowed.is_none() && name != BINARY {
            violations
                .push(format!("{name} is not in the list of allowed dependencies: add it in {}", file!()));
        }
        let workspace_crates = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
        for dependency in workspace_crates.filter(|dependency| dependency.kind.as_deref() != Some("dev")) {
            let dependency = dependency.name.as_str();
            if TEST_ONLY.contains(&dependency) {
                violations.push(format!("{name} depends on {dependency}, which is for tests only"));
            } else if allowed.is_some_and(|allowed| !allowed.contains(&dependency)) {
                violations.push(format!("{name} depends on {dependency}, which is not allowed"));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        Package {
            name: name.into(),
            version: "0.1.0".into(),
            manifest_path: "Cargo.toml".into(),
            dependencies: dependencies
                .iter()
                .map(|(name, kind)| Dependency {
                    name: (*name).into(),
                    kind: kind.map(Into::into),
                    path: (!name.starts_with("serde")).then(|| "x".into()),
                })
                .collect(),
            targets: Vec::new(),
        }
    }

    #[test]
    fn an_adapter_may_depend_on_the_core_and_on_external_crates() {
        let store = package("hfs-store", &[("hfs-core", None), ("serde", None), ("testkit", Some("dev"))]);
        assert_eq!(dependency_violations(&[store]), Vec::<String>::new());
    }

    #[test]
    fn an_adapter_may_not_depend_on_another_adapter() {
        let store = package("hfs-store", &[("hfs-exchange", None)]);
        assert_eq!(
            dependency_violations(&[store]),
            ["hfs-store depends on hfs-exchange, which is not allowed"]
        );
    }

    #[test]
    fn the_engine_may_depend_on_an_adapter_only_in_tests() {
        let tested = package("hfs-engine", &[("hfs-core", None), ("hfs-store", Some("dev"))]);
        let shipped = package("hfs-engine", &[("hfs-core", None), ("hfs-store", None)]);
        let built = package("hfs-engine", &[("hfs-store", Some("build"))]);
        assert_eq!(dependency_violations(&[tested]).len(), 0);
        assert_eq!(dependency_violations(&[shipped]).len(), 1);
        assert_eq!(dependency_violations(&[built]).len(), 1);
    }

    #[test]
    fn no_shipped_crate_depends_on_the_testkit() {
        let binary = package("hfs", &[("hfs-store", None), ("testkit", None)]);
        assert_eq!(dependency_violations(&[binary]), ["hfs depends on testkit, which is for tests only"]);
    }

    #[test]
    fn a_new_crate_must_be_added_to_the_list() {
        assert_eq!(dependency_violations(&[package("hfs-cloud", &[])]).len(), 1);
    }
}
