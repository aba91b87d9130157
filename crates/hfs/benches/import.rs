//! The import of a large transcript, compared with the minimum for reading it: splitting the file into lines and parsing
//! each with `serde_json`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::bench::{Bench, Target, Unit};

/// The size of the transcript, unless `HFS_BENCH_IMPORT_BYTES` is set.
const FULL: usize = 1_000_000_000;
const SMOKE: usize = 200_000;
/// How many times the import and the comparison are measured.
const ROUNDS: usize = 5;
/// The limit for the memory of an import, independent of the size of the file.
const MEMORY: f64 = 300e6;
const RATE: &str = "bytes of a Claude Code transcript imported and saved";
const PEAK: &str = "peak memory of that import";
const SIZE: &str = "bytes of the store with its text index, beside the transcript";

fn main() -> ExitCode {
    let mut bench = Bench::from_args("import");
    if [RATE, PEAK, SIZE].iter().any(|row| bench.wants(row)) {
        let asked = std::env::var("HFS_BENCH_IMPORT_BYTES").ok().and_then(|text| text.parse().ok());
        let bytes = bench.size(asked.unwrap_or(FULL), SMOKE);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("11111111-1111-4111-8111-111111111111.jsonl");
        let length = write_transcript(&path, bytes);
        // The import and the comparison read the file from the page cache. They alternate, so that a change of the
        // machine's load affects both.
        let (mut bare, mut ours, mut peak, mut size) = (Vec::new(), Vec::new(), 0.0_f64, 0.0);
        for _ in 0..bench.size(ROUNDS, 1) {
            bare.push(split_and_parse(&path));
            let imported = import(&path, folder.path());
            ours.push(imported.time);
            peak = peak.max(imported.memory);
            size = imported.size;
        }
        let rate = |times: Vec<Duration>| length / median(times).as_secs_f64();
        bench.amounts(RATE, rate(ours), rate(bare), Unit::PerSecond, Target::AtLeast(0.4));
        bench.amounts(PEAK, peak, MEMORY, Unit::Bytes, Target::AtMost(1.0));
        bench.amounts(SIZE, size, length, Unit::Bytes, Target::AtMost(0.6));
    }
    bench.finish()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap()
}

fn split_and_parse(path: &Path) -> Duration {
    let start = Instant::now();
    let mut input = BufReader::with_capacity(1 << 20, File::open(path).unwrap());
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).unwrap() > 0 {
        black_box(serde_json::from_slice::<Value>(&line).unwrap());
        line.clear();
    }
    start.elapsed()
}

struct Imported {
    time: Duration,
    /// Peak memory of the process in bytes.
    memory: f64,
    /// Bytes of the store.
    size: f64,
}

/// Imports the file in a new process.
fn import(path: &Path, folder: &Path) -> Imported {
    let home = tempfile::tempdir_in(folder).unwrap();
    let start = Instant::now();
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
    let exit_status = loop {
        // The peak is not available after the process has ended, so it is sampled while it runs.
        peak = fs::read_to_string(&status).ok().as_deref().and_then(peak_memory).unwrap_or(peak);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(exit_status.success(), "the import ended with {exit_status}");
    let time = start.elapsed();
    Imported { time, memory: peak, size: store_size(home.path()) }
}

/// Bytes of the store in this home directory.
#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
fn store_size(home: &Path) -> f64 {
    let files =
        ["hfs.db", "hfs.db-wal"].map(|name| fs::metadata(home.join(name)).map_or(0, |file| file.len()));
    files.iter().sum::<u64>() as f64
}

/// Peak memory in a `/proc/PID/status` file, in bytes.
fn peak_memory(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kilobytes| kilobytes * 1024.0)
}

const WORDS: [&str; 24] = [
    "the", "file", "reads", "where", "a", "branch", "keeps", "its", "messages", "and", "every", "test",
    "fails", "because", "`seq`", "was", "counted", "twice;", "look:\n", "fn", "parse()", "returns", "früh",
    "None.",
];

/// A xorshift generator: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// A text of some hundred bytes; one in a hundred has some ten thousand.
    fn text(&mut self) -> String {
        let words = match self.below(100) {
            0 => 4_000,
            1..=9 => 600,
            10..=39 => 200,
            _ => 60,
        };
        let mut text = String::new();
        for _ in 0..words {
            text.push_str(WORDS[usize::try_from(self.below(24)).unwrap()]);
            text.push(' ');
        }
        text
    }
}

/// Writes a transcript of Claude Code with at least `bytes` bytes. Returns its size.
#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
fn write_transcript(path: &Path, bytes: usize) -> f64 {
    let mut turns = Turns { random: Random(0x9e37_79b9_7f4a_7c15), number: 0, parent: Value::Null };
    let mut out = BufWriter::new(File::create(path).unwrap());
    let mut length = 0;
    while length < bytes {
        for record in turns.next() {
            let line = record.to_string();
            length += line.len() + 1;
            writeln!(out, "{line}").unwrap();
        }
    }
    out.flush().unwrap();
    // Otherwise the system would write the file during the measurement.
    out.get_ref().sync_all().unwrap();
    length as f64
}

struct Turns {
    random: Random,
    number: u64,
    parent: Value,
}

impl Turns {
    /// A question, thinking with a tool call, the tool's result, and the reply.
    fn next(&mut self) -> [Value; 4] {
        let call = format!("toolu_{:024}", self.number);
        let asked = json!({"role": "user", "content": self.random.text()});
        let asked = self.record("user", &asked);
        let thought = json!([
            {"type": "thinking", "thinking": self.random.text(), "signature": "x".repeat(300)},
            {"type": "tool_use", "id": call, "name": "Bash", "input": {"command": self.random.text()}},
        ]);
        let thought = self.answer(&thought);
        let result = json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": call, "content": self.random.text()},
        ]});
        let mut result = self.record("user", &result);
        result["toolUseResult"] = json!({"stdout": self.random.text(), "stderr": "", "interrupted": false});
        let answer = json!([{"type": "text", "text": self.random.text()}]);
        let answer = self.answer(&answer);
        [asked, thought, result, answer]
    }

    fn answer(&mut self, content: &Value) -> Value {
        let id = format!("msg_{:024}", self.number);
        let message = json!({
            "id": id, "type": "message", "role": "assistant", "model": "claude-opus-4-5", "content": content,
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 9, "cache_read_input_tokens": 20_000, "output_tokens": 300},
        });
        self.record("assistant", &message)
    }

    fn record(&mut self, kind: &str, message: &Value) -> Value {
        self.number += 1;
        let n = self.number;
        let uuid = format!("{n:08x}-0000-4000-8000-{n:012x}");
        let (minute, second) = (n / 60 % 60, n % 60);
        json!({
            "parentUuid": std::mem::replace(&mut self.parent, json!(uuid)), "isSidechain": false,
            "userType": "external", "cwd": "/home/me/project", "version": "2.1.0", "gitBranch": "main",
            "sessionId": "11111111-1111-4111-8111-111111111111", "type": kind, "uuid": uuid,
            "timestamp": format!("2026-01-01T{:02}:{minute:02}:{second:02}.000Z", n / 3600 % 24),
            "message": message,
        })
    }
}
