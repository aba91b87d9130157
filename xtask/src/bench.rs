//! `cargo xtask bench` and `cargo xtask bench-smoke`.

mod page;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;

use crate::runtimes::Python;
use crate::shell;
use crate::workspace::Workspace;

#[derive(Debug, Args)]
pub struct Options {
    /// Only benchmarks with these names (default: all)
    names: Vec<String>,
    /// Fail if a target is missed
    #[arg(long)]
    strict: bool,
    /// Print the rows as JSON lines instead of a table
    #[arg(long)]
    json: bool,
    /// Also write docs/performance.md and its chart
    #[arg(long)]
    page: bool,
    /// Do not run anything, but read the rows that `--json` printed before
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// Install the libraries and programs that the benchmarks `libraries` and `programs` compare with, and ripgrep for `watch`
    #[arg(long)]
    peers: bool,
    /// A folder with the conversations of LoCoMo, for the benchmark `recall`
    #[arg(long, value_name = "DIR")]
    locomo: Option<PathBuf>,
}

/// A row reported by a benchmark (see `testkit::bench`).
#[derive(Debug, Deserialize)]
struct Row {
    bench: String,
    name: String,
    ours: String,
    peer: String,
    /// `None` if it is not a finite number.
    ratio: Option<f64>,
    target: String,
    verdict: String,
}

/// Runs the benchmarks and prints their rows.
pub fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let lines = match &options.rows {
        Some(file) => rows_in(file)?,
        None => {
            let mut names = selected_benchmarks(workspace, &options.names)?;
            let environment = if options.peers { Some(install_peers(workspace)?) } else { None };
            if environment.is_none() && options.names.is_empty() {
                names.retain(|name| !NEED_PEERS.contains(&name.as_str()));
                eprintln!("left out: {}, which need --peers", NEED_PEERS.join(", "));
            }
            let mut command = cargo_bench(workspace, &names);
            if let Some(environment) = environment {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let folders = std::iter::once(environment.join("bin")).chain(std::env::split_paths(&path));
                command.env("PATH", std::env::join_paths(folders)?).env("HFS_PEERS", environment);
            }
            if let Some(folder) = &options.locomo {
                let folder = folder.canonicalize().with_context(|| format!("find {}", folder.display()))?;
                command.env("HFS_LOCOMO", folder);
            }
            run_and_collect_rows(command.args(["--", "--json"]), &names)?
        }
    };
    if options.page {
        let rows: Vec<&Row> = lines.iter().map(|(_, row)| row).collect();
        page::write(workspace, &rows, &selected_benchmarks(workspace, &[])?, options.rows.as_deref())?;
    }
    if options.json {
        lines.iter().for_each(|(line, _)| println!("{line}"));
    } else {
        println!();
        let header = ["benchmark", "ours", "peer or limit", "ratio", "target", ""].map(str::to_owned);
        let cells = lines.iter().map(|(_, row)| row.cells());
        print!("{}", aligned_table(&std::iter::once(header).chain(cells).collect::<Vec<_>>()));
    }
    let missed = lines.iter().filter(|(_, row)| row.is_missed()).count();
    eprintln!("{} of {} targets missed", missed, lines.len());
    Ok(if options.strict && missed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The rows of an earlier run, with their lines. Other lines are ignored.
fn rows_in(file: &Path) -> Result<Vec<(String, Row)>> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let rows = text.lines().filter_map(|line| Some((line.to_owned(), serde_json::from_str(line).ok()?)));
    Ok(rows.collect())
}

/// Benchmarks that compare with what `--peers` installs.
const NEED_PEERS: [&str; 2] = ["libraries", "programs"];

/// Versions with which the comparisons are known to work.
const PEERS: [&str; 4] = [
    "claude-code-log==1.7.0",
    "langgraph-checkpoint-sqlite==3.1.2",
    "openai-agents==0.24.0",
    "ripgrep==15.1.0",
];

/// Installs the peers into an environment below the target directory. Returns its folder.
fn install_peers(workspace: &Workspace) -> Result<PathBuf> {
    let environment = workspace.target.join("peers");
    let python = Python::find(workspace)?.context("the peers need a Python with venv and pip")?;
    ensure!(python.install(&environment, &PEERS)?, "pip cannot install the peers");
    Ok(environment)
}

/// Runs every benchmark on tiny data, in the profile of the tests so that nothing is built twice.
pub fn smoke(workspace: &Workspace) -> Result<ExitCode> {
    let mut names = selected_benchmarks(workspace, &[])?;
    names.retain(|name| !NEED_PEERS.contains(&name.as_str()));
    let mut command = cargo_bench(workspace, &names);
    command.env("HFS_BENCH_SMOKE", "1").args(["--profile", "dev", "--", "--json"]);
    let lines = run_and_collect_rows(&mut command, &names)?;
    println!("bench-smoke: ok ({} benchmarks, {} rows)", names.len(), lines.len());
    Ok(ExitCode::SUCCESS)
}

/// The benchmarks with these names, or all if there are none.
fn selected_benchmarks(workspace: &Workspace, names: &[String]) -> Result<BTreeSet<String>> {
    let known: BTreeSet<String> = workspace.benchmarks().map(|(_, name)| name.to_owned()).collect();
    ensure!(!known.is_empty(), "no crate of the workspace has a benchmark");
    let listed = || known.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    for name in names {
        ensure!(known.contains(name), "there is no benchmark {name}; the benchmarks are {}", listed());
    }
    Ok(if names.is_empty() { known } else { names.iter().cloned().collect() })
}

fn cargo_bench(workspace: &Workspace, names: &BTreeSet<String>) -> Command {
    let mut command = shell::cargo(&workspace.root);
    command.args(["bench", "--workspace", "--no-fail-fast"]);
    for name in names {
        command.args(["--bench", name]);
    }
    command
}

/// Runs a command and returns the rows that it prints, with their lines. Other output is passed on.
fn run_and_collect_rows(command: &mut Command, names: &BTreeSet<String>) -> Result<Vec<(String, Row)>> {
    let command_line = shell::command_line(command);
    eprintln!("$ {command_line}");
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("run {command_line}"))?;
    let stdout = child.stdout.take().with_context(|| format!("read the output of {command_line}"))?;
    let (mut rows, mut skipped) = (Vec::new(), BTreeSet::new());
    for line in BufReader::new(stdout).lines() {
        let line = line.with_context(|| format!("read the output of {command_line}"))?;
        match serde_json::from_str::<Row>(&line) {
            Ok(row) => {
                eprintln!("{}", row.cells().join(" | "));
                rows.push((line, row));
            }
            Err(_) => {
                eprintln!("{line}");
                let name = line.strip_prefix("skipped: ").and_then(|rest| rest.split_once(": "));
                skipped.extend(name.map(|(name, _)| name.to_owned()));
            }
        }
    }
    let status = child.wait().with_context(|| format!("wait for {command_line}"))?;
    ensure!(status.success(), "{command_line} failed: {status}");
    let reported: BTreeSet<&str> = rows.iter().map(|(_, row)| row.bench.as_str()).collect();
    for name in names {
        let is_reported = reported.contains(name.as_str()) || skipped.contains(name);
        ensure!(is_reported, "the benchmark {name} reported no rows");
    }
    Ok(rows)
}

impl Row {
    fn is_missed(&self) -> bool {
        self.verdict.starts_with("MISSED")
    }

    fn cells(&self) -> [String; 6] {
        let name = format!("{}: {}", self.bench, self.name);
        let ratio = self.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        [name, self.ours.clone(), self.peer.clone(), ratio, self.target.clone(), self.verdict.clone()]
    }
}

/// Formats rows as lines with aligned columns.
fn aligned_table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join(" | ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters_not_bytes() {
        let rows = [["a", "µs", "x"], ["long", "b", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(aligned_table(&rows), "a    | µs | x\nlong | b  |\n");
    }
}
