//! `cargo xtask check`: source rules, dependencies, pages, formatting, lints and docs.

mod source_rules;

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::workspace::{Package, Workspace};
use crate::{book, pages, shell};

pub use source_rules::rust_files;

/// How a step ended. It has printed the reasons of a failure.
#[derive(Debug)]
enum Outcome {
    Passed,
    Failed,
    /// A program that the step needs is not installed.
    LeftOut(String),
}

impl From<bool> for Outcome {
    fn from(has_passed: bool) -> Self {
        if has_passed { Self::Passed } else { Self::Failed }
    }
}

type Step = fn(&Workspace) -> Result<Outcome>;

const STEPS: &[(&str, Step)] = &[
    ("source rules", source_rules),
    ("dependencies", dependencies),
    ("licenses and sources", licenses),
    ("pages", check_pages),
    ("book", build_book),
    ("formatting", formatting),
    ("lints", lints),
    ("docs", docs),
];

/// Runs all steps, the fast ones first, and prints the names of those that failed.
pub fn run(workspace: &Workspace) -> Result<ExitCode> {
    ensure_components()?;
    let mut failed = Vec::new();
    let mut left_out = Vec::new();
    for (name, step) in STEPS {
        match step(workspace)? {
            Outcome::Passed => {}
            Outcome::Failed => failed.push(*name),
            Outcome::LeftOut(why) => left_out.push(format!("left out: {name}: {why}")),
        }
    }
    for line in left_out {
        println!("{line}");
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

/// Prints violations, and passes if there are none.
fn report(kind: &str, violations: &[String]) -> Outcome {
    for violation in violations {
        eprintln!("{kind}: {violation}");
    }
    violations.is_empty().into()
}

fn source_rules(workspace: &Workspace) -> Result<Outcome> {
    Ok(report("source rule", &source_rules::violations(workspace)?))
}

fn dependencies(workspace: &Workspace) -> Result<Outcome> {
    let mut violations = dependency_violations(&workspace.packages);
    let path = workspace.root.join("Cargo.lock");
    let lock = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    violations.extend(too_many_crates(&lock));
    Ok(report("dependency", &violations))
}

/// `cargo deny`, if it is installed. It needs no network for these checks.
fn licenses(workspace: &Workspace) -> Result<Outcome> {
    if !shell::is_available(Command::new("cargo-deny").arg("--version")) {
        return Ok(Outcome::LeftOut(
            "cargo-deny is not installed; `cargo install cargo-deny --locked` installs it".into(),
        ));
    }
    let arguments = ["deny", "--log-level", "error", "check", "licenses", "bans", "sources"];
    Ok(shell::succeeds(shell::cargo(&workspace.root).args(arguments))?.into())
}

fn check_pages(workspace: &Workspace) -> Result<Outcome> {
    Ok(report("page", &pages::violations(workspace)?))
}

fn build_book(workspace: &Workspace) -> Result<Outcome> {
    Ok(match book::build(workspace) {
        Ok(Ok(_)) => Outcome::Passed,
        Ok(Err(missing)) => Outcome::LeftOut(missing),
        Err(error) => report("book", &[format!("{error:#}")]),
    })
}

fn formatting(workspace: &Workspace) -> Result<Outcome> {
    Ok(shell::succeeds(shell::cargo(&workspace.root).args(["fmt", "--all", "--check"]))?.into())
}

fn lints(workspace: &Workspace) -> Result<Outcome> {
    let arguments =
        ["clippy", "--workspace", "--all-targets", "--quiet", "--keep-going", "--", "-D", "warnings"];
    Ok(shell::succeeds(shell::cargo(&workspace.root).args(arguments))?.into())
}

fn docs(workspace: &Workspace) -> Result<Outcome> {
    let arguments = ["doc", "--workspace", "--no-deps", "--quiet", "--keep-going"];
    let mut doc = shell::cargo(&workspace.root);
    Ok(shell::succeeds(doc.args(arguments).env("RUSTDOCFLAGS", "-D warnings"))?.into())
}

/// The number of crates in Cargo.lock may not grow beyond this without a decision. Each costs build time and trust, on every
/// platform and also in tests.
const MAX_CRATES: usize = 600;

fn too_many_crates(lock: &str) -> Option<String> {
    let count = lock.lines().filter(|line| *line == "[[package]]").count();
    (count > MAX_CRATES).then(|| {
        format!("Cargo.lock has {count} crates, more than {MAX_CRATES}: leave some out, or raise the number in {}", file!())
    })
}

/// The libraries under `crates/`, each with the crates of this workspace that it may depend on. The binary may depend on
/// all of them.
const ALLOWED_DEPENDENCIES: &[(&str, &[&str])] = &[
    ("hfs-secrets", &[]),
    ("hfs-files", &[]),
    ("hfs-crash", &[]),
    ("hfs-core", &["hfs-secrets"]),
    ("hfs-retrieval", &["hfs-core"]),
    ("hfs-store", &["hfs-core", "hfs-retrieval", "hfs-files"]),
    ("hfs-postgres", &["hfs-core", "hfs-retrieval", "hfs-store"]),
    ("hfs-exchange", &["hfs-core", "hfs-files", "hfs-secrets"]),
    ("hfs-machine-code", &["hfs-files"]),
    ("hfs-plugins", &["hfs-core", "hfs-files", "hfs-machine-code"]),
    ("hfs-agents", &["hfs-core", "hfs-retrieval"]),
    ("hfs-acp", &["hfs-core", "hfs-files", "hfs-secrets"]),
    ("hfs-engine", &["hfs-core"]),
    ("hfs-mcp", &["hfs-core", "hfs-engine", "hfs-retrieval", "hfs-secrets"]),
    ("hfs-tui", &["hfs-core", "hfs-crash", "hfs-engine", "hfs-files"]),
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
    fn the_number_of_crates_is_limited() {
        let lock = |count: usize| "[[package]]\nname = \"x\"\n".repeat(count);
        assert_eq!(too_many_crates(&lock(MAX_CRATES)), None);
        assert!(too_many_crates(&lock(MAX_CRATES + 1)).is_some());
    }

    #[test]
    fn a_new_crate_must_be_added_to_the_list() {
        assert_eq!(dependency_violations(&[package("hfs-cloud", &[])]).len(), 1);
    }
}
