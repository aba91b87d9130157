//! Transcripts as other tools write them: made ones of any size, and the comparison of two.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot write its transcripts fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The records of a transcript in JSON lines with their numbers of occurrences, regardless of the order of fields and of lines
/// that are no records.
#[must_use]
pub fn records(text: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        if let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(line) {
            let mut record = Value::Object(fields);
            record.sort_all_objects();
            *counts.entry(record.to_string()).or_insert(0) += 1;
        }
    }
    counts
}

/// The same without the records by which Claude Code selects the branch to continue, which every export adds.
#[must_use]
pub fn records_of_messages(text: &str) -> BTreeMap<String, usize> {
    let mut counts = records(text);
    counts.retain(|record, _| !record.contains("\"type\":\"last-prompt\""));
    counts
}

/// A record of Claude Code, with the end of its line. Odd numbers are the user's.
#[must_use]
pub fn claude_code_record(session: &str, number: u32, text: &str) -> String {
    let uuid = |n: u32| format!("00000000-0000-4000-8000-{n:012x}");
    let is_user = number % 2 == 1;
    let role = if is_user { "user" } else { "assistant" };
    let content = if is_user { json!(text) } else { json!([{"type": "text", "text": text}]) };
    let parent = if number == 1 { Value::Null } else { json!(uuid(number - 1)) };
    let record = json!({
        "parentUuid": parent, "isSidechain": false, "type": role, "uuid": uuid(number), "sessionId": session,
        "cwd": "/home/me/project", "timestamp": format!("2026-01-01T00:{:02}:{:02}Z", number / 60 % 60, number % 60),
        "message": {"role": role, "content": content},
    });
    format!("{record}\n")
}

/// Random words.
#[must_use]
pub fn words(random: &mut fastrand::Rng, count: usize) -> String {
    const WORDS: [&str; 16] = [
        "cache", "login", "branch", "test", "fails", "because", "parser", "returns", "index", "token",
        "build", "panics", "retry", "store", "reads", "twice",
    ];
    let words = (0..count).filter_map(|_| random.choice(WORDS));
    words.collect::<Vec<_>>().join(" ")
}

/// A word that occurs in one of a thousand sessions of [`write_sessions`].
pub const RARE_WORD: &str = "zebrafinch";

/// Writes sessions of Claude Code with equal numbers of messages and words. Returns their files.
#[must_use]
pub fn write_sessions(home: &Path, count: usize, messages: u32, words_each: usize) -> Vec<PathBuf> {
    let mut random = fastrand::Rng::with_seed(7);
    let sessions = (0..count).map(|number| {
        let session = format!("{number:08x}-1111-4111-8111-111111111111");
        let folder = home.join(format!(".claude/projects/-home-me-project-{}", number / 200));
        fs::create_dir_all(&folder).unwrap();
        let mut content = String::new();
        for n in 1..=messages {
            let mut text = words(&mut random, words_each);
            if n == 2 && number.is_multiple_of(1_000) {
                text.push(' ');
                text.push_str(RARE_WORD);
            }
            content.push_str(&claude_code_record(&session, n, &text));
        }
        let path = folder.join(format!("{session}.jsonl"));
        fs::write(&path, content).unwrap();
        path
    });
    sessions.collect()
}
