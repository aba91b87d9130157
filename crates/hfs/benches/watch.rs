//! Following transcripts: the lag of a watcher, what it needs while nothing happens, and a corpus of sessions beside reading, ripgrep
//! and a bare full-text index of the same files.
//!
//! `cargo xtask bench watch`, or `cargo bench -p hfs --bench watch`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]
#![allow(clippy::cast_precision_loss, reason = "far below 2^53")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::bench::{Bench, Target, Unit};
use testkit::cli::{Hfs, RunningProcess};
use testkit::transcripts::{RARE_WORD, claude_code_record, words, write_sessions};

const LAG: &str = "write until it is in the store, p95 (limit)";
const IDLE: &str = "share of a core of a watcher of 5,000 files while nothing is written (limit)";
const MEMORY: &str = "memory of a watcher of 5,000 files (limit)";
const FIRST: &str = "first import of a corpus, beside reading its files";
const FIRST_MEMORY: &str = "peak memory of that import (limit)";
const SIZE: &str = "bytes of its store with the text index, beside the files";
const UNCHANGED: &str = "run with nothing new, beside reading all files";
const APPENDED: &str = "run after one append, beside reading all files";
const SEARCH: &str = "search with its import, beside the same search without it";
const RIPGREP: &str = "search, beside ripgrep over the files";
const INDEX: &str = "search, beside a bare FTS5 query in a process";
/// The watcher and the corpus.
const FILES: usize = 5_000;
const CORPUS: usize = 20_000;
/// How often a run over the corpus is measured.
const RUNS: usize = 7;

fn main() -> ExitCode {
    let mut bench = Bench::from_args("watch");
    if [LAG, IDLE, MEMORY].iter().any(|row| bench.wants(row)) {
        watcher(&mut bench);
    }
    let rows = [FIRST, FIRST_MEMORY, SIZE, UNCHANGED, APPENDED, SEARCH, RIPGREP, INDEX];
    if rows.iter().any(|row| bench.wants(row)) {
        corpus(&mut bench);
    }
    bench.finish()
}

fn hfs() -> Hfs {
    Hfs::new(env!("CARGO_BIN_EXE_hfs")).env("HFS_AGENT", "recall")
}

fn append(path: &Path, number: u32, text: &str) {
    let session = path.file_stem().unwrap().to_str().unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(claude_code_record(session, number, text).as_bytes()).unwrap();
}

/// A field of `/proc/PID/status`, in bytes.
fn memory(pid: u32, field: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim_start_matches(':')
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<f64>()
        .ok()
        .map(|kilobytes| kilobytes * 1024.0)
}

/// Processor time of a process, in seconds.
fn processor_time(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}

fn status(hfs: &Hfs) -> Value {
    hfs.run(&["watch", "--status", "--json"]).ok().json()
}

fn wait_until(mut is_done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < Duration::from_secs(600));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A watcher that has imported and indexed everything.
fn start(hfs: &Hfs) -> RunningProcess {
    let running = hfs.command(&["watch", "--json"]).timeout(Duration::from_secs(600)).spawn();
    wait_until(|| {
        let status = status(hfs);
        status["running"] == true && status["waiting"] == 0 && !status["last_import_at"].is_null()
    });
    let mut used = -1.0;
    wait_until(|| {
        std::thread::sleep(Duration::from_millis(1_500));
        let before = std::mem::replace(&mut used, processor_time(running.pid()));
        before == used
    });
    running
}

fn watcher(bench: &mut Bench) {
    let hfs = hfs();
    let files = write_sessions(&hfs.home(), bench.size(FILES, 20), 4, 40);
    drop(start(&hfs));
    // The memory of one that has to import nothing at its start.
    append(&files[0], 5, "more");
    let running = start(&hfs);
    let (before, began) = (processor_time(running.pid()), Instant::now());
    std::thread::sleep(Duration::from_secs(bench.size(30, 1) as u64));
    let share = (processor_time(running.pid()) - before) / began.elapsed().as_secs_f64();
    bench.amounts(IDLE, share, 0.001, Unit::Share, Target::AtMost(1.0));
    let mut random = fastrand::Rng::with_seed(3);
    let mut next = vec![5; files.len()];
    next[0] = 6;
    for _ in 0..bench.size(400, 5) {
        // Twenty sessions are active.
        let file = random.usize(0..20.min(files.len()));
        append(&files[file], next[file], &words(&mut random, 100));
        next[file] += 1;
        std::thread::sleep(Duration::from_millis(random.u64(1..100)));
    }
    let expected = next.iter().map(|number| u64::from(number - 5)).sum::<u64>();
    wait_until(|| status(&hfs)["imported"]["messages"].as_u64().unwrap() + 1 >= expected.saturating_sub(1));
    std::thread::sleep(Duration::from_secs(2));
    let lag = status(&hfs)["lag_ms"]["p95"].as_u64().unwrap();
    bench.amounts(LAG, lag as f64 / 1_000.0, 2.0, Unit::Seconds, Target::AtMost(1.0));
    bench.amounts(MEMORY, memory(running.pid(), "VmRSS").unwrap(), 60e6, Unit::Bytes, Target::AtMost(1.0));
    running.interrupt();
    let _ = running.wait().ok();
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn seconds<T>(work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    std::hint::black_box(work());
    start.elapsed().as_secs_f64()
}

/// Reads all files, as `cat` does.
fn read_all(files: &[PathBuf]) -> u64 {
    let mut buffer = vec![0; 1 << 17];
    let mut bytes = 0;
    for path in files {
        let mut file = fs::File::open(path).unwrap();
        loop {
            match file.read(&mut buffer).unwrap() {
                0 => break,
                read => bytes += read as u64,
            }
        }
    }
    bytes
}

/// A database with nothing but a full-text index of the same texts.
fn bare_index(files: &[PathBuf], path: &Path) {
    let mut database = rusqlite::Connection::open(path).unwrap();
    database.execute_batch("pragma synchronous = off; create virtual table t using fts5(text)").unwrap();
    let transaction = database.transaction().unwrap();
    for file in files {
        for line in fs::read_to_string(file).unwrap().lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let content = &record["message"]["content"];
            let text = content.as_str().or_else(|| content[0]["text"].as_str()).unwrap();
            transaction.execute("insert into t values (?1)", [text]).unwrap();
        }
    }
    transaction.commit().unwrap();
}

fn corpus(bench: &mut Bench) {
    let hfs = hfs();
    let count = bench.size(CORPUS, 20);
    let files = write_sessions(&hfs.home(), count, 40, 90);
    let read = seconds(|| read_all(&files));
    let mut peak = 0.0_f64;
    let first = seconds(|| {
        let running =
            hfs.command(&["watch", "--once", "--quiet"]).timeout(Duration::from_secs(1_200)).spawn();
        while let Some(found) = memory(running.pid(), "VmHWM") {
            peak = peak.max(found);
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = running.wait().ok();
    });
    bench.amounts(FIRST, first, read, Unit::Seconds, Target::AtMost(400.0));
    bench.amounts(FIRST_MEMORY, peak, 300e6, Unit::Bytes, Target::AtMost(1.0));
    let info = hfs.run(&["store", "info", "--json"]).ok().json();
    let size = info["bytes"].as_u64().unwrap() as f64;
    bench.amounts(SIZE, size, read_all(&files) as f64, Unit::Bytes, Target::AtMost(0.6));

    let once = || hfs.run(&["watch", "--once", "--json"]).ok().json();
    // The first run after an import finds folders that were new.
    once();
    let search = |milliseconds: &str| {
        let output =
            hfs.command(&["search", RARE_WORD, "--json"]).env("HFS_WATCH_CATCH_UP_MS", milliseconds).run();
        assert_eq!(
            output.ok().json()["total"].as_u64().unwrap(),
            count.div_ceil(1_000) as u64,
            "no stale hit"
        );
    };
    let index = hfs.project().join("index.db");
    bare_index(&files, &index);
    let bare = || {
        let database = rusqlite::Connection::open(&index).unwrap();
        // FTS5's own functions do not run below an aggregate, so the rows are counted here.
        let mut statement =
            database.prepare("select snippet(t, 0, '', '', '', 16) from t where text match ?1").unwrap();
        let excerpts = statement.query_map([RARE_WORD], |row| row.get::<_, String>(0)).unwrap();
        assert_eq!(excerpts.map(Result::unwrap).count(), count.div_ceil(1_000));
    };
    let ripgrep = || {
        let mut command = Command::new("rg");
        command.args(["--count", RARE_WORD]).arg(hfs.home().join(".claude"));
        command.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let has_ripgrep = ripgrep();
    let mut times: [Vec<f64>; 7] = Default::default();
    for run in 0..bench.size(RUNS, 1) {
        times[0].push(seconds(|| read_all(&files)));
        times[1].push(seconds(|| assert_eq!(once()["updated"], json!([]))));
        append(&files[run], 41, "more");
        times[2].push(seconds(|| assert_eq!(once()["updated"].as_array().unwrap().len(), 1)));
        times[3].push(seconds(|| search("300")));
        times[4].push(seconds(|| search("0")));
        times[5].push(seconds(bare));
        times[6].push(seconds(ripgrep));
    }
    let [read, unchanged, appended, search, without, bare, ripgrep] = times.map(median);
    bench.amounts(UNCHANGED, unchanged, read, Unit::Seconds, Target::AtMost(1.0));
    bench.amounts(APPENDED, appended, read, Unit::Seconds, Target::AtMost(1.0));
    bench.amounts(SEARCH, search, without, Unit::Seconds, Target::AtMostLonger(Duration::from_millis(60)));
    bench.amounts(INDEX, search, bare, Unit::Seconds, Target::AtMostLonger(Duration::from_millis(100)));
    if has_ripgrep {
        bench.amounts(RIPGREP, search, ripgrep, Unit::Seconds, Target::AtMost(1.0));
    }
}
