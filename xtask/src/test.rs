//! `cargo xtask test`.

mod plain;
mod tally;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::workspace::Workspace;
use crate::{pages, runtimes, shell};
use tally::Tally;

/// Names the folder of real transcripts for the tests that read some.
const SAMPLES: &str = "HFS_SAMPLES";

/// Names the folder of interpreters for the tests of plugins that are source.
const RUNTIMES: &str = "HFS_RUNTIMES";

/// What to test.
#[derive(Debug, Args)]
pub struct Options {
    /// Only tests whose names contain one of these
    filters: Vec<String>,
    /// Only the tests of this crate (may be repeated)
    #[arg(short, long, value_name = "CRATE")]
    package: Vec<String>,
    /// Use plain `cargo test` even where cargo-nextest is installed
    #[arg(long)]
    no_nextest: bool,
}

/// Runs the suite, then the doc tests, and closes with what was left out and the sum of it all.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let started = Instant::now();
    let mut left_out = BTreeSet::new();
    let suite = Suite { workspace, options, samples: samples_folder(workspace) };
    if suite.samples.is_none() {
        left_out.insert(format!(
            "real transcripts: no folder ../shared/samples beside the repository; {SAMPLES} names another"
        ));
    }

    if options.filters.is_empty() && options.package.is_empty() {
        left_out.extend(runtimes::build_all(workspace)?);
    }

    let has_nextest = shell::is_available(shell::cargo(&workspace.root).args(["nextest", "--version"]));
    let mut tally = if has_nextest && !options.no_nextest {
        suite.with_nextest()?
    } else {
        left_out.insert("the time limit of each test: only cargo-nextest keeps it".to_owned());
        suite.with_cargo()?
    };
    tally.add(suite.doc_tests()?);
    if options.filters.is_empty() && options.package.is_empty() {
        match pages::run_with_tests(workspace)? {
            Ok(true) => tally.passed += 1,
            Ok(false) => tally.failed += 1,
            Err(why) => {
                left_out.insert(why);
            }
        }
    }

    left_out.append(&mut tally.skipped);
    println!();
    for reason in &left_out {
        println!("left out: {reason}");
    }
    if left_out.is_empty() {
        println!("left out: nothing");
    }
    println!("{}", tally.closing_line(started.elapsed()));
    Ok(if tally.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The folder of real transcripts, where there is one.
fn samples_folder(workspace: &Workspace) -> Option<PathBuf> {
    let beside = || workspace.root.parent().map(|parent| parent.join("shared/samples"));
    let folder = std::env::var_os(SAMPLES).map(PathBuf::from).or_else(beside)?;
    folder.is_dir().then_some(folder)
}

struct Suite<'a> {
    workspace: &'a Workspace,
    options: &'a Options,
    samples: Option<PathBuf>,
}

impl Suite<'_> {
    /// A cargo command for the chosen crates that hands nothing of the developer's own hfs to the tests.
    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = shell::cargo(&self.workspace.root);
        command.args(arguments);
        if self.options.package.is_empty() {
            command.arg("--workspace");
        }
        for package in &self.options.package {
            command.args(["--package", package]);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HFS_") {
                command.env_remove(name);
            }
        }
        command.env(RUNTIMES, runtimes::folder(self.workspace));
        if let Some(samples) = &self.samples {
            command.env(SAMPLES, samples);
        }
        command
    }

    fn with_nextest(&self) -> Result<Tally> {
        // Nextest keeps its reports here even where cargo builds elsewhere.
        let report = self.workspace.root.join("target/nextest/default/junit.xml");
        // A report of an earlier run must not be taken for this one's.
        if report.exists() {
            fs::remove_file(&report).with_context(|| format!("remove {}", report.display()))?;
        }
        let mut command = self.cargo(&["nextest", "run", "--no-fail-fast"]);
        if !self.options.filters.is_empty() {
            command.arg("--no-tests=pass").args(&self.options.filters);
        }
        let succeeded = shell::succeeds(&mut command)?;
        let mut tally = match fs::read_to_string(&report) {
            Ok(xml) => Tally::of_junit(&xml)?,
            Err(_) => Tally::default(),
        };
        tally.is_broken |= !succeeded && tally.failed == 0;
        if succeeded {
            self.count_ignored(&mut tally)?;
        }
        Ok(tally)
    }

    /// The report does not list ignored tests, so they are asked for.
    fn count_ignored(&self, tally: &mut Tally) -> Result<()> {
        let mut list =
            self.cargo(&["nextest", "list", "--run-ignored", "only", "--message-format", "oneline"]);
        let names = shell::output_of(list.args(["--cargo-quiet"]).args(&self.options.filters))?;
        for name in names.lines() {
            tally.ignored += 1;
            tally.skipped.insert(format!("{name}: marked #[ignore]"));
        }
        Ok(())
    }

    fn with_cargo(&self) -> Result<Tally> {
        let mut command = self.cargo(&["test", "--tests", "--no-fail-fast"]);
        plain::run(command.args(["--", "--show-output"]).args(&self.options.filters))
    }

    fn doc_tests(&self) -> Result<Tally> {
        let is_documented = |name: &String| {
            let targets = self.workspace.package(name).map(|package| package.targets.iter());
            targets
                .is_some_and(|mut targets| targets.any(|target| target.kind.iter().any(|kind| kind == "lib")))
        };
        // Cargo refuses to look for doc tests in a crate without a library.
        if !self.options.package.is_empty() && !self.options.package.iter().all(is_documented) {
            return Ok(Tally::default());
        }
        let mut command = self.cargo(&["test", "--doc", "--quiet", "--no-fail-fast"]);
        plain::run(command.arg("--").args(&self.options.filters))
    }
}
