//! The cost of looking for secrets: an export that looks for them, or masks them, beside the same export without.
//!
//! `cargo xtask bench redaction`, or `cargo bench -p hfs --bench redaction`. The session is one of a coding agent: prompts,
//! replies, and tool calls whose results are the source files of this workspace, shells and configuration files.
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::bench::{Bench, Target, Unit};
use testkit::secret_table;

const COUNT: &str = "export that counts secrets";
const MASK: &str = "export that masks secrets";
const MEMORY: &str = "peak memory of that export";

fn main() -> ExitCode {
    let mut bench = Bench::from_args("redaction");
    if ![COUNT, MASK, MEMORY].iter().any(|row| bench.wants(row)) {
        return bench.finish();
    }
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let transcript = folder.path().join("messages.json");
    fs::write(&transcript, session(bench.size(40_000, 40))).unwrap();
    hfs(&home, &["import", "--quiet", transcript.to_str().unwrap()]);
    let plain = ["export", "@", "-o", "/dev/null", "--quiet"];
    let count = ["export", "@", "-o", "/dev/null"];
    let mask = ["export", "@", "-o", "/dev/null", "--quiet", "--redact"];
    let (mut plain_peak, mut mask_peak) = (0_f64, 0_f64);
    for (row, arguments) in [(COUNT, &count[..]), (MASK, &mask[..])] {
        bench.pair(row).rounds(7).median(Target::AtMost(2.0)).run_timed(
            || {
                let (time, peak) = hfs(&home, arguments);
                mask_peak = mask_peak.max(peak);
                time
            },
            || {
                let (time, peak) = hfs(&home, &plain);
                plain_peak = plain_peak.max(peak);
                time
            },
        );
    }
    bench.amounts(MEMORY, mask_peak, plain_peak, Unit::Bytes, Target::AtMost(1.25));
    bench.finish()
}

/// A session of `count` messages as an OpenAI message array.
fn session(count: usize) -> String {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let secrets = secret_table::secrets(1, 200);
    let lookalikes = secret_table::lookalikes(1, 200);
    let messages: Vec<_> = (0..count)
        .map(|index| {
            let table = if index % 97 == 0 { &secrets } else { &lookalikes };
            let text = &table.get(index % 200).unwrap().text;
            match index % 4 {
                0 => json!({"role": "user", "content": format!("Step {index}: why does this fail?\n{text}")}),
                1 => json!({"role": "assistant", "content": "I will look at the file.", "tool_calls": [
                    {"id": format!("call_{index}"), "type": "function",
                     "function": {"name": "read", "arguments": json!({"path": text, "limit": 200}).to_string()}}]}),
                2 => {
                    let source = sources.get(index % sources.len()).unwrap();
                    let end = source.char_indices().nth(4000).map_or(source.len(), |(end, _)| end);
                    json!({"role": "tool", "tool_call_id": format!("call_{}", index - 1), "content": source.get(..end)})
                }
                _ => json!({"role": "assistant", "content": format!("The cause is in step {index}.\n\n{text}\n")}),
            }
        })
        .collect();
    json!(messages).to_string()
}

fn sources(folder: &Path) -> Vec<String> {
    let mut pending: Vec<PathBuf> = vec![folder.to_owned()];
    let mut texts = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { pending.push(path) } else { texts.extend(fs::read_to_string(path)) }
        }
    }
    texts.sort();
    texts
}

/// Runs the binary. Returns its running time and its peak memory in bytes.
fn hfs(home: &Path, arguments: &[&str]) -> (Duration, f64) {
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hfs"))
        .args(arguments)
        .env("HFS_HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak = 0.0;
    let status = loop {
        let status = fs::read_to_string(&status_file).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        peak = kilobytes.map_or(peak, |kilobytes| kilobytes * 1024.0);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(status.success(), "{arguments:?} ended with {status}");
    (start.elapsed(), peak)
}
