//! `cargo xtask bench` and `cargo xtask bench-smoke`.

mod table;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;

use crate::shell;
use crate::workspace::Workspace;

/// Which benchmarks, and how strictly.
#[derive(Debug, Args)]
pub struct Options {
    /// Only the benchmarks of these names (all without any)
    names: Vec<String>,
    /// Fail when a target is missed
    #[arg(long)]
    strict: bool,
    /// Print the rows as JSON, one a line, instead of the table
    #[arg(long)]
    json: bool,
}

/// One row that a benchmark reports.
#[derive(Debug, Deserialize)]
struct Row {
    bench: String,
    name: String,
    ours: String,
    peer: String,
    /// Absent where one side measured nothing.
    ratio: Option<f64>,
    target: String,
    verdict: String,
}

/// Measures, and prints the table.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let wanted = wanted(workspace, &options.names)?;
    let mut command = cargo_bench(workspace, &wanted);
    let lines = rows_of(command.args(["--", "--json"]), &wanted)?;
    if options.json {
        lines.iter().for_each(|(line, _)| println!("{line}"));
    } else {
        println!();
        let heads = ["benchmark", "ours", "limit or peer", "ratio", "target", ""].map(str::to_owned);
        let cells = lines.iter().map(|(_, row)| row.cells());
        print!("{}", table::aligned(&std::iter::once(heads).chain(cells).collect::<Vec<_>>()));
    }
    let missed = lines.iter().filter(|(_, row)| row.verdict.starts_with("MISSED")).count();
    eprintln!("{} of {} targets missed", missed, lines.len());
    Ok(if options.strict && missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs every benchmark on tiny data. The profile is the tests', so that nothing is built twice.
pub fn smoke(workspace: &Workspace) -> Result<ExitCode> {
    let wanted = wanted(workspace, &[])?;
    let mut command = cargo_bench(workspace, &wanted);
    command.env("HFS_BENCH_SMOKE", "1").args(["--profile", "dev", "--", "--json"]);
    let lines = rows_of(&mut command, &wanted)?;
    println!("bench-smoke: ok ({} benchmarks, {} rows)", wanted.len(), lines.len());
    Ok(ExitCode::SUCCESS)
}

/// The benchmarks of these names, or all; an unknown name is an error that lists the known ones.
fn wanted(workspace: &Workspace, names: &[String]) -> Result<BTreeSet<String>> {
    let known: BTreeSet<String> = workspace.benchmarks().map(|(_, name)| name.to_owned()).collect();
    ensure!(!known.is_empty(), "no crate of the workspace has a benchmark");
    let listed = || known.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    for name in names {
        ensure!(known.contains(name), "there is no benchmark {name}; there are {}", listed());
    }
    Ok(if names.is_empty() { known } else { names.iter().cloned().collect() })
}

fn cargo_bench(workspace: &Workspace, wanted: &BTreeSet<String>) -> Command {
    let mut command = shell::cargo(&workspace.root);
    command.args(["bench", "--workspace", "--no-fail-fast"]);
    for name in wanted {
        command.args(["--bench", name]);
    }
    command
}

/// Runs `command` and collects the rows it prints, each with its line; everything else is passed on.
fn rows_of(command: &mut Command, wanted: &BTreeSet<String>) -> Result<Vec<(String, Row)>> {
    let shown = shell::shown(command);
    eprintln!("$ {shown}");
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("run {shown}"))?;
    let stdout = child.stdout.take().with_context(|| format!("read what {shown} writes"))?;
    let mut rows = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line.with_context(|| format!("read what {shown} writes"))?;
        match serde_json::from_str::<Row>(&line) {
            Ok(row) => {
                eprintln!("{}", row.cells().join(" | "));
                rows.push((line, row));
            }
            Err(_) => eprintln!("{line}"),
        }
    }
    let status = child.wait().with_context(|| format!("wait for {shown}"))?;
    ensure!(status.success(), "{shown} failed: {status}");
    let reported: BTreeSet<&str> = rows.iter().map(|(_, row)| row.bench.as_str()).collect();
    for name in wanted {
        ensure!(reported.contains(name.as_str()), "the benchmark {name} reported nothing");
    }
    Ok(rows)
}

impl Row {
    fn cells(&self) -> [String; 6] {
        let name = format!("{}: {}", self.bench, self.name);
        let ratio = self.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        [name, self.ours.clone(), self.peer.clone(), ratio, self.target.clone(), self.verdict.clone()]
    }
}
