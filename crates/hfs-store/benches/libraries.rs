//! Appends and checkpoints beside the libraries for Python that keep conversations in SQLite: the session of OpenAI's Agents SDK
//! and LangGraph's saver. Each measures its own calls, in its own process and with its own settings, on the same data.
//!
//! `cargo xtask bench --peers libraries` installs them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing benchmark panics")]

mod fixtures;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use hfs_core::{CheckpointStore as _, MessageStore as _, Part};
use serde::Deserialize;
use serde_json::json;
use testkit::bench::{Bench, Target, Unit};

use fixtures::{Shape, States, StoreFixture, checkpoint, messages};

/// The folder of a Python environment with the libraries.
const ENVIRONMENT: &str = "HFS_PEERS";
/// A retention larger than the number of checkpoints, because LangGraph keeps all.
const KEEP_ALL: u32 = 100_000;

/// Appends each line of a file as a message.
const AGENTS_SDK: &str = r#"
import asyncio, json, sys, time
from agents import SQLiteSession

async def main():
    session = SQLiteSession("session", sys.argv[1] + "/agents.db")
    seconds = []
    for line in open(sys.argv[1] + "/lines"):
        item = json.loads(line)
        begin = time.perf_counter()
        await session.add_items([item])
        seconds.append(time.perf_counter() - begin)
    print(json.dumps(seconds))

asyncio.run(main())
"#;

/// Saves each line of a file as the state of a thread.
const LANGGRAPH: &str = r#"
import json, sys, time
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.sqlite import SqliteSaver

with SqliteSaver.from_conn_string(sys.argv[1] + "/langgraph.db") as saver:
    config = {"configurable": {"thread_id": "thread", "checkpoint_ns": ""}}
    seconds = []
    for number, line in enumerate(open(sys.argv[1] + "/lines")):
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = json.loads(line)
        checkpoint["channel_versions"] = {name: number for name in checkpoint["channel_values"]}
        begin = time.perf_counter()
        config = saver.put(config, checkpoint, {"source": "loop", "step": number}, checkpoint["channel_versions"])
        seconds.append(time.perf_counter() - begin)
    print(json.dumps(seconds))
"#;

fn main() -> ExitCode {
    let mut bench = Bench::from_args("libraries");
    if let Some(environment) = bench.folder(ENVIRONMENT) {
        appends(&mut bench, &environment);
        checkpoints(&mut bench, &environment);
    }
    bench.finish()
}

/// Runs a library on the lines of a file in this folder. Returns the seconds of each of its calls.
fn run(environment: &Path, script: &str, folder: &Path, lines: &[String]) -> Vec<f64> {
    fs::write(folder.join("lines"), lines.iter().map(|line| format!("{line}\n")).collect::<String>())
        .unwrap();
    let output =
        Command::new(environment.join("bin/python")).args(["-c", script]).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Vec::deserialize(&mut serde_json::Deserializer::from_slice(&output.stdout)).unwrap()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn seconds<T>(work: impl FnOnce() -> T) -> f64 {
    let begin = Instant::now();
    std::hint::black_box(work());
    begin.elapsed().as_secs_f64()
}

/// The bytes of the files in a folder.
#[allow(clippy::cast_precision_loss, reason = "the values are megabytes")]
fn bytes(folder: &Path, prefix: &str) -> f64 {
    let files = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = files.filter(|file| file.file_name().to_string_lossy().starts_with(prefix));
    files.map(|file| file.metadata().unwrap().len()).sum::<u64>() as f64
}

fn appends(bench: &mut Bench, environment: &Path) {
    const ROW: &str = "durable append of a message, beside the Agents SDK's SQLiteSession";
    if !bench.wants(ROW) {
        return;
    }
    let messages = messages(1, bench.size(2_000, 20));
    let lines = messages.iter().map(|message| {
        let Some(Part::Text { text }) = message.parts.first() else { return String::new() };
        json!({"role": message.role, "content": text}).to_string()
    });
    let fixture = StoreFixture::new();
    let mut at = fixture.create_session();
    let ours = messages.iter().map(|message| {
        seconds(|| at = fixture.store.append(at, std::slice::from_ref(message)).unwrap().position)
    });
    let ours = median(ours.collect());
    let theirs = run(environment, AGENTS_SDK, fixture.directory.path(), &lines.collect::<Vec<_>>());
    bench.amounts(ROW, ours, median(theirs), Unit::Seconds, Target::AtMost(1.0));
}

fn checkpoints(bench: &mut Bench, environment: &Path) {
    const TIME: &str = "checkpoint of 200 KB, beside LangGraph's SqliteSaver";
    const BYTES: &str = "bytes of 100 checkpoints of 200 KB, beside LangGraph's SqliteSaver";
    if ![TIME, BYTES].iter().any(|row| bench.wants(row)) {
        return;
    }
    let mut states = States::new(Shape::Snapshot, 4, bench.size(200_000, 7_000));
    let states: Vec<_> = (0..bench.size(100, 5)).map(|_| states.next_state()).collect();
    let lines: Vec<String> = states.iter().map(|state| serde_json::to_string(state).unwrap()).collect();
    let fixture = StoreFixture::new();
    let at = fixture.create_session();
    let ours = states.into_iter().enumerate().map(|(number, state)| {
        let draft = checkpoint(at, number, state);
        seconds(|| fixture.store.create_checkpoint(&draft, KEEP_ALL).unwrap())
    });
    let ours = median(ours.collect());
    let theirs = run(environment, LANGGRAPH, fixture.directory.path(), &lines);
    bench.amounts(TIME, ours, median(theirs), Unit::Seconds, Target::AtMost(1.0));
    let folder = fixture.directory.path();
    bench.amounts(
        BYTES,
        bytes(folder, "hfs.db"),
        bytes(folder, "langgraph.db"),
        Unit::Bytes,
        Target::AtMost(0.2),
    );
}
