//! A watcher that is killed at random moments while tools write: every record is in the store once, and an export has the records
//! of the source.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::cli::Hfs;
use testkit::transcripts::records_of_messages;

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// What a tool writes: a source that grows until the writer is stopped.
trait Writer: Send {
    /// Writes the next piece, which may end within a record.
    fn write(&mut self, random: &mut fastrand::Rng);
    /// Ends the record that was begun.
    fn finish(&mut self);
}

/// A tool that appends lines to a file.
struct Lines<F> {
    path: PathBuf,
    next: F,
    number: u32,
    /// What is left to write of the current record.
    rest: Vec<u8>,
}

impl<F: FnMut(u32, &mut fastrand::Rng) -> Value + Send> Lines<F> {
    fn boxed(path: PathBuf, next: F) -> Box<dyn Writer>
    where
        F: 'static,
    {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        Box::new(Self { path, next, number: 0, rest: Vec::new() })
    }

    fn append(&mut self, length: usize) {
        let piece: Vec<u8> = self.rest.drain(..length).collect();
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&self.path).unwrap();
        file.write_all(&piece).unwrap();
    }
}

impl<F: FnMut(u32, &mut fastrand::Rng) -> Value + Send> Writer for Lines<F> {
    fn write(&mut self, random: &mut fastrand::Rng) {
        while self.rest.is_empty() || random.u8(0..3) == 0 {
            self.number += 1;
            let record = (self.next)(self.number, random);
            self.rest.extend(format!("{record}\n").into_bytes());
        }
        let length = if random.bool() { self.rest.len() } else { random.usize(1..=self.rest.len()) };
        self.append(length);
    }

    fn finish(&mut self) {
        self.append(self.rest.len());
    }
}

fn words(random: &mut fastrand::Rng) -> String {
    "some words of a message ".repeat(random.usize(1..60))
}

/// A session of Claude Code with tool calls, records that are not messages, and rewinds.
fn claude_code(home: &Path, number: u32) -> (PathBuf, Box<dyn Writer>) {
    let session = format!("{number:08x}-1111-4111-8111-111111111111");
    let path = home.join(".claude/projects/-home-me-project").join(format!("{session}.jsonl"));
    let uuid = |n: u32| format!("00000000-0000-4000-8000-{n:012x}");
    let mut messages: Vec<u32> = Vec::new();
    let next = move |n: u32, random: &mut fastrand::Rng| {
        let at = format!("2026-01-01T{:02}:{:02}:{:02}Z", n / 3600 % 24, n / 60 % 60, n % 60);
        if n.is_multiple_of(13) {
            return json!({"type": "system", "subtype": "local_command", "content": format!("note {n}"),
                "uuid": uuid(n), "parentUuid": messages.last().map(|n| uuid(*n)), "sessionId": session, "timestamp": at});
        }
        // Now and then the user goes back a few messages.
        if messages.len() > 12 && random.u8(0..40) == 0 {
            let left = messages.len() - random.usize(1..6) * 4;
            messages.truncate(left);
        }
        let parent = messages.last().map(|n| uuid(*n));
        let call = format!("toolu_{:020}", messages.len() / 4);
        let step = messages.len() % 4;
        let content = match step {
            0 => json!(format!("question {n} {}", words(random))),
            1 => {
                json!([{"type": "tool_use", "id": call, "name": "Bash", "input": {"command": words(random)}}])
            }
            2 => json!([{"type": "tool_result", "tool_use_id": call, "content": words(random)}]),
            _ => json!([{"type": "text", "text": format!("answer {n} {}", words(random))}]),
        };
        messages.push(n);
        let role = if step.is_multiple_of(2) { "user" } else { "assistant" };
        let mut message = json!({"role": role, "content": content});
        if role == "assistant" {
            message["id"] = json!(format!("msg_{n:020}"));
            message["model"] = json!("a-model");
        }
        json!({"parentUuid": parent, "isSidechain": false, "type": role, "uuid": uuid(n), "sessionId": session,
            "cwd": "/home/me/project", "timestamp": at, "message": message})
    };
    (path.clone(), Lines::boxed(path, next))
}

/// A session of Codex with tool calls.
fn codex(home: &Path, number: u32) -> (PathBuf, Box<dyn Writer>) {
    let session = format!("019c1a00-{number:04x}-7000-8000-000000000001");
    let name = format!("rollout-2026-01-01T10-00-00-{session}.jsonl");
    let path = home.join(".codex/sessions/2026/01/01").join(name);
    let next = move |n: u32, random: &mut fastrand::Rng| {
        let at = format!("2026-01-01T{:02}:{:02}:{:02}Z", n / 3600 % 24, n / 60 % 60, n % 60);
        let call = format!("call_{}", (n.saturating_sub(3)) / 5);
        let (kind, payload) = match n {
            1 => (
                "session_meta",
                json!({"id": session, "timestamp": at, "cwd": "/home/me", "cli_version": "0.1"}),
            ),
            2 => ("turn_context", json!({"cwd": "/home/me", "model": "a-model"})),
            n => match (n - 3) % 5 {
                0 => (
                    "response_item",
                    json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": format!("question {n} {}", words(random))}]}),
                ),
                1 => (
                    "response_item",
                    json!({"type": "function_call", "name": "shell", "arguments": format!("{{\"n\":{n}}}"), "call_id": call}),
                ),
                2 => (
                    "response_item",
                    json!({"type": "function_call_output", "call_id": call, "output": words(random)}),
                ),
                3 => (
                    "response_item",
                    json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": format!("answer {n} {}", words(random))}]}),
                ),
                _ => ("event_msg", json!({"type": "agent_message", "message": format!("note {n}")})),
            },
        };
        json!({"timestamp": at, "type": kind, "payload": payload})
    };
    (path.clone(), Lines::boxed(path, next))
}

/// The messages of all branches of a session, without what differs between two imports.
fn messages(hfs: &Hfs, session: &str) -> Vec<Vec<Value>> {
    let shown = hfs.run(&["session", "show", session, "--json"]).ok().json();
    let mut branches: Vec<Vec<Value>> = Vec::new();
    for branch in shown["branches"].as_array().unwrap() {
        let id = branch["id"].as_str().unwrap();
        let shown = hfs.run(&["session", "show", session, "--branch", id, "--json"]).ok().json();
        let messages = shown["messages"].as_array().unwrap().iter();
        let messages =
            messages.map(|message| json!([message["role"], message["parts"], message["created_at"]]));
        branches.push(messages.collect());
    }
    branches.sort_by_key(|messages| Value::from(messages.clone()).to_string());
    branches
}

/// The sessions by their ids in the source.
fn sessions(hfs: &Hfs) -> BTreeMap<String, String> {
    let listed = hfs.run(&["session", "list", "--all", "-n", "1000", "--json"]).ok().json();
    let sessions = listed["sessions"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    sessions.map(|session| (text(&session["origin"]["id"]), text(&session["id"]))).collect()
}

#[test]
fn a_killed_watcher_imports_every_record_once() {
    let (kills, seed) = (from_env("HFS_CRASH_KILLS", 12), from_env("HFS_CRASH_SEED", 20_260_201));
    let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"));
    let mut random = fastrand::Rng::with_seed(seed);
    let stop = Arc::new(AtomicBool::new(false));
    let mut sources = Vec::new();
    let mut writers = Vec::new();
    for number in 1..=3 {
        for (format, (path, mut writer)) in
            [("claude-code", claude_code(&hfs.home(), number)), ("codex", codex(&hfs.home(), number))]
        {
            sources.push((format, path));
            let (stop, mut random) = (Arc::clone(&stop), random.fork());
            writers.push(thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    writer.write(&mut random);
                    thread::sleep(Duration::from_millis(random.u64(1..60)));
                }
                writer.finish();
            }));
        }
    }
    for _ in 0..kills {
        let running = hfs.command(&["watch"]).spawn();
        thread::sleep(Duration::from_millis(random.u64(5..500)));
        let output = running.kill();
        let complaints = output.stderr.replace("watching what other tools write; Ctrl+C ends\n", "");
        assert_eq!((output.signal, complaints.as_str()), (Some(9), ""), "{}", output.describe());
    }
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let _ = hfs.run(&["watch", "--once"]).ok();
    assert_eq!(hfs.run(&["store", "verify", "--json"]).ok().json()["ok"], true);

    // As one import of the whole sources.
    let whole = Hfs::new(env!("CARGO_BIN_EXE_hfs"));
    for (_, path) in &sources {
        let _ = whole.command(&["import"]).arg(path).run().ok();
    }
    let (found, expected) = (sessions(&hfs), sessions(&whole));
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    let mut count = 0;
    for (origin, session) in &found {
        let (found, expected) = (messages(&hfs, session), messages(&whole, &expected[origin]));
        assert_eq!(found.len(), expected.len(), "branches of {origin}");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "messages of {origin}");
        }
        count += found.iter().map(Vec::len).sum::<usize>();
        let (format, path) =
            sources.iter().find(|(_, path)| path.to_str().unwrap().contains(origin)).unwrap();
        let original = records_of_messages(&fs::read_to_string(path).unwrap());
        let export = hfs.run(&["export", "-q", session, "--format", format, "-o", "-"]).ok().stdout;
        if *format == "claude-code" {
            assert_eq!(records_of_messages(&export), original, "records of {origin}");
        }
    }
    println!("{kills} watchers killed, seed {seed}: {} sessions, {count} messages", found.len());
}
