//! `cargo xtask test`: all tests, with a list of skipped tests.

mod postgres;
mod summary;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::workspace::Workspace;
use crate::{page_check, runtimes, shell};
use postgres::Repetition;
use summary::Summary;

/// Variable with the folder of real transcripts, for the tests that read them.
const SAMPLES_VARIABLE: &str = "HFS_SAMPLES";

/// Variable with the folder of the interpreters, for the tests of plugins in Python and JavaScript.
const RUNTIMES_VARIABLE: &str = "HFS_RUNTIMES";

#[derive(Debug, Args)]
pub struct Options {
    /// Only tests whose names contain one of these texts
    filters: Vec<String>,
    /// Only the tests of this crate (may be repeated)
    #[arg(short, long, value_name = "CRATE")]
    package: Vec<String>,
    /// Use plain `cargo test` even if cargo-nextest is installed
    #[arg(long)]
    no_nextest: bool,
}

#[derive(Debug, Args)]
pub struct RedactionOptions {
    /// Seed of the table
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

/// Runs the test that measures redaction, with a table of another seed, and shows the figures.
pub fn redaction(workspace: &Workspace, options: &RedactionOptions) -> Result<ExitCode> {
    let mut command = shell::cargo(&workspace.root);
    command.args([
        "test",
        "--quiet",
        "--package",
        "hfs-exchange",
        "--test",
        "redaction",
        "lookalikes",
        "--",
        "--nocapture",
    ]);
    command.env("HFS_TABLE_SEED", options.seed.to_string());
    Ok(if shell::succeeds(&mut command)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the tests, doc tests and the page check, and prints skipped tests and a summary.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let started = Instant::now();
    let mut skipped = BTreeSet::new();
    let suite = Suite { workspace, options, samples: samples_folder(workspace) };
    if suite.samples.is_none() {
        skipped.insert(format!(
            "real transcripts: there is no folder of samples; set {SAMPLES_VARIABLE} to it, or create shared/samples next to the repository"
        ));
    }

    if options.filters.is_empty() && options.package.is_empty() {
        skipped.extend(runtimes::build_all(workspace)?);
        skipped.extend(postgres::prepare(workspace)?);
        skipped.extend(postgres::prepare_litestream(workspace)?);
    }

    let is_whole = options.filters.is_empty() && options.package.is_empty();
    let has_nextest = shell::is_available(shell::cargo(&workspace.root).args(["nextest", "--version"]));
    let mut summary = if has_nextest && !options.no_nextest {
        let mut summary = suite.with_nextest(&["nextest", "run", "--no-fail-fast"], &[])?;
        if let Some(repetition) = postgres::repetition(workspace).filter(|_| is_whole) {
            summary.add(suite.repeat(&repetition)?);
        }
        summary
    } else {
        skipped.insert("time limits of tests: only cargo-nextest has them".to_owned());
        suite.with_cargo()?
    };
    summary.add(suite.doc_tests()?);
    if options.filters.is_empty() && options.package.is_empty() {
        match page_check::run_with_tests(workspace)? {
            Ok(true) => summary.passed += 1,
            Ok(false) => summary.failed += 1,
            Err(why) => {
                skipped.insert(why);
            }
        }
    }

    skipped.append(&mut summary.skipped);
    println!();
    for reason in &skipped {
        println!("skipped: {reason}");
    }
    if skipped.is_empty() {
        println!("skipped: none");
    }
    println!("{}", summary.closing_line(started.elapsed()));
    Ok(if summary.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The folder of real transcripts, if it exists.
pub fn samples_folder(workspace: &Workspace) -> Option<PathBuf> {
    let next_to_repository = || workspace.root.parent().map(|parent| parent.join("shared/samples"));
    let folder = std::env::var_os(SAMPLES_VARIABLE).map(PathBuf::from).or_else(next_to_repository)?;
    folder.is_dir().then_some(folder)
}

struct Suite<'a> {
    workspace: &'a Workspace,
    options: &'a Options,
    samples: Option<PathBuf>,
}

impl Suite<'_> {
    /// A cargo command for the selected crates, without the `HFS_` variables of the developer's own environment.
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
        command.env(RUNTIMES_VARIABLE, runtimes::folder(self.workspace));
        command.env(postgres::VARIABLE, postgres::folder(self.workspace));
        if let Some(samples) = &self.samples {
            command.env(SAMPLES_VARIABLE, samples);
        }
        command
    }

    /// Runs a part of the tests once more, with another value of a variable.
    fn repeat(&self, repetition: &Repetition) -> Result<Summary> {
        let Repetition { package, target, variable: (name, value) } = repetition;
        eprintln!("once more with {name}={value}: {package}, {target}");
        let options = Options {
            filters: Vec::new(),
            package: vec![(*package).to_owned()],
            no_nextest: self.options.no_nextest,
        };
        let part = Suite { workspace: self.workspace, options: &options, samples: self.samples.clone() };
        let arguments = ["nextest", "run", "--no-fail-fast", "--test", target];
        part.with_nextest(&arguments, &[(name, value)])
    }

    fn with_nextest(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Summary> {
        // nextest writes its report here even if cargo has another target directory.
        let report = self.workspace.root.join("target/nextest/default/junit.xml");
        // Remove the report of an earlier run, so that it is not read if this run fails early.
        if report.exists() {
            fs::remove_file(&report).with_context(|| format!("remove {}", report.display()))?;
        }
        let mut command = self.cargo(arguments);
        command.envs(variables.iter().copied());
        if !self.options.filters.is_empty() {
            command.arg("--no-tests=pass").args(&self.options.filters);
        }
        let succeeded = shell::succeeds(&mut command)?;
        let mut summary = match fs::read_to_string(&report) {
            Ok(xml) => Summary::from_junit(&xml)?,
            Err(_) => Summary::default(),
        };
        summary.is_broken |= !succeeded && summary.failed == 0;
        if succeeded && variables.is_empty() {
            self.add_ignored(&mut summary)?;
        }
        Ok(summary)
    }

    /// Adds the ignored tests, which the report does not contain.
    fn add_ignored(&self, summary: &mut Summary) -> Result<()> {
        let mut list =
            self.cargo(&["nextest", "list", "--run-ignored", "only", "--message-format", "oneline"]);
        let names = shell::output_of(list.args(["--cargo-quiet"]).args(&self.options.filters))?;
        for name in names.lines() {
            summary.ignored += 1;
            summary.skipped.insert(format!("{name}: marked #[ignore]"));
        }
        Ok(())
    }

    fn with_cargo(&self) -> Result<Summary> {
        let mut command = self.cargo(&["test", "--tests", "--no-fail-fast"]);
        run_and_summarize(command.args(["--", "--show-output"]).args(&self.options.filters))
    }

    fn doc_tests(&self) -> Result<Summary> {
        let is_library = |name: &String| {
            let targets = self.workspace.package(name).map(|package| package.targets.iter());
            targets
                .is_some_and(|mut targets| targets.any(|target| target.kind.iter().any(|kind| kind == "lib")))
        };
        // cargo rejects `--doc` for a crate without a library.
        if !self.options.package.is_empty() && !self.options.package.iter().all(is_library) {
            return Ok(Summary::default());
        }
        let mut command = self.cargo(&["test", "--doc", "--quiet", "--no-fail-fast"]);
        run_and_summarize(command.arg("--").args(&self.options.filters))
    }
}

/// Runs a `cargo test` command. Searches the output of passing tests for skips, but does not print it.
fn run_and_summarize(command: &mut Command) -> Result<Summary> {
    let command_line = shell::command_line(command);
    eprintln!("$ {command_line}");
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("run {command_line}"))?;
    let stdout = child.stdout.take().with_context(|| format!("read the output of {command_line}"))?;
    let mut summary = Summary::default();
    let mut filter = OutputFilter::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.with_context(|| format!("read the output of {command_line}"))?;
        let line = String::from_utf8_lossy(&line);
        summary.add_line(&line);
        if filter.is_visible(&line) {
            println!("{line}");
        }
    }
    let status = child.wait().with_context(|| format!("wait for {command_line}"))?;
    summary.is_broken = !status.success() && summary.failed == 0;
    Ok(summary)
}

/// Hides the section in which the test harness repeats the output of passing tests.
#[derive(Debug, Default)]
struct OutputFilter {
    is_hiding: bool,
}

impl OutputFilter {
    fn is_visible(&mut self, line: &str) -> bool {
        if line == "successes:" {
            self.is_hiding = true;
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.is_hiding = false;
        }
        !self.is_hiding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_passing_tests_is_hidden_and_failures_are_not() {
        let lines = [
            "test a ... ok",
            "successes:",
            "---- a stdout ----",
            "noise",
            "successes:",
            "    a",
            "failures:",
            "---- b stdout ----",
            "test result: FAILED. 1 passed; 1 failed",
        ];
        let mut filter = OutputFilter::default();
        let visible: Vec<_> = lines.into_iter().filter(|line| filter.is_visible(line)).collect();
        assert_eq!(visible, [lines[0], lines[6], lines[7], lines[8]]);
    }
}
