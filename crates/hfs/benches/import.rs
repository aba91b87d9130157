//! A large transcript taken in and saved, beside what its reading costs at the least: splitting the same file
//! into lines and parsing each with `serde_json`.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

#[path = "import/transcript.rs"]
mod transcript;

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use testkit::bench::{Bench, Target, Unit};

/// The size of the transcript, unless `HFS_BENCH_IMPORT_BYTES` says otherwise.
const FULL: usize = 1_000_000_000;
const SMOKE: usize = 200_000;
/// How often each of both is done.
const ROUNDS: usize = 5;
/// What an import may take of memory, however large the file is.
const MEMORY: f64 = 300e6;
const RATE: &str = "bytes of a Claude Code transcript imported and saved";
const PEAK: &str = "peak memory of that import";

fn main() -> ExitCode {
    let mut bench = Bench::from_args("import");
    if bench.wants(RATE) || bench.wants(PEAK) {
        let asked = std::env::var("HFS_BENCH_IMPORT_BYTES").ok().and_then(|text| text.parse().ok());
        let bytes = bench.size(asked.unwrap_or(FULL), SMOKE);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("11111111-1111-4111-8111-111111111111.jsonl");
        let length = transcript::write(&path, bytes);
        // Both read what the system has at hand, and take turns, so that neither profits from a better moment.
        let (mut bare, mut ours, mut peak) = (Vec::new(), Vec::new(), 0.0_f64);
        for _ in 0..bench.size(ROUNDS, 1) {
            bare.push(split_and_parse(&path));
            let (imported, memory) = import(&path, folder.path());
            ours.push(imported);
            peak = peak.max(memory);
        }
        let rate = |times: Vec<Duration>| length / median(times).as_secs_f64();
        bench.amounts(RATE, rate(ours), rate(bare), Unit::PerSecond, Target::AtLeast(0.4));
        bench.amounts(PEAK, peak, MEMORY, Unit::Bytes, Target::AtMost(1.0));
    }
    bench.finish()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap()
}

fn split_and_parse(path: &Path) -> Duration {
    let begin = Instant::now();
    let mut input = BufReader::with_capacity(1 << 20, File::open(path).unwrap());
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).unwrap() > 0 {
        black_box(serde_json::from_slice::<serde_json::Value>(&line).unwrap());
        line.clear();
    }
    begin.elapsed()
}

/// Imports the file in a process of its own. How long that took from its start to its end, and the most memory
/// it had.
fn import(path: &Path, folder: &Path) -> (Duration, f64) {
    let home = tempfile::tempdir_in(folder).unwrap();
    let begin = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hfs"))
        .args(["import", "--quiet"])
        .arg(path)
        .env("HFS_HOME", home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0.0;
    let ended = loop {
        // A process that has ended has no memory any more, so it is asked while it runs.
        peak = fs::read_to_string(&status).ok().as_deref().and_then(high_water).unwrap_or(peak);
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(ended.success(), "the import ended with {ended}");
    (begin.elapsed(), peak)
}

/// The most memory that a process had so far, in bytes.
fn high_water(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kilobytes| kilobytes * 1024.0)
}
