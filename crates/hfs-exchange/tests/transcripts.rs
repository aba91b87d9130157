//! Round trips of transcripts: import followed by export, and export followed by import.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use hfs_core::{Part, Role, Timestamp};
use hfs_exchange::{CollectedSession, Collector, Format, Source, TranscriptOptions, read, write_transcript};
use serde_json::Value;
use testkit::transcripts::records;

#[path = "support/samples.rs"]
mod support;

fn collect(source: &Source, format: Format) -> Vec<CollectedSession> {
    let mut collector = Collector::default();
    read(source, Some(format), &mut collector).unwrap();
    collector.sessions
}

fn transcript(session: CollectedSession, format: Format) -> String {
    let mut bytes = Vec::new();
    let document = session.into_document(Timestamp::UNIX_EPOCH);
    write_transcript(&document, format, TranscriptOptions::default(), &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_claude_code_transcript_keeps_every_record() {
    let Some(folder) = support::samples() else { return };
    let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let table: Value = serde_json::from_str(&text).unwrap();
    for (name, expected) in table["files"].as_object().unwrap() {
        // A transcript without messages is skipped.
        if expected["format"] != "claude-code" || expected["total"]["messages"] == 0 {
            continue;
        }
        let path = folder.join(name);
        let original = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).replace('\u{feff}', "");
        let session = collect(&Source::file(&path), Format::ClaudeCode).pop().unwrap();
        let written = records(&transcript(session, Format::ClaudeCode));
        for (record, _) in records(&original) {
            assert!(written.contains_key(&record), "{name} lost {record}");
        }
    }
}

type Summary = (Vec<(Role, String)>, Vec<(String, Value)>, Vec<String>);

/// The contents of a conversation that every format preserves: the texts with their roles, the tool calls,
/// and the sorted tool results.
fn summary(session: &CollectedSession) -> Summary {
    let mut texts = Vec::new();
    let mut calls = Vec::new();
    let mut results = Vec::new();
    for message in session.messages() {
        if matches!(message.role, Role::User | Role::Assistant) && !message.text().is_empty() {
            texts.push((message.role, message.text()));
        }
        for part in &message.parts {
            match part {
                Part::ToolCall { name, input, .. } => calls.push((name.clone(), input.clone())),
                Part::ToolResult { output, .. } => results.push(output.clone()),
                _ => {}
            }
        }
    }
    // opencode stores each result with its call, so results are in the order of the calls.
    results.sort();
    (texts, calls, results)
}

#[test]
fn an_exported_transcript_is_imported_with_the_same_contents() {
    let Some(folder) = support::samples() else { return };
    for (name, from) in [
        ("codex/rollout-0.169.0.jsonl", Format::Codex),
        ("opencode/opencode-export-1.18.33.json", Format::OpenCode),
        ("goose/export-goose-1.52.0.json", Format::Goose),
        ("claude-code/happy-task_non_sdk.jsonl", Format::ClaudeCode),
    ] {
        let path = folder.join(name);
        for to in [Format::ClaudeCode, Format::Codex, Format::OpenCode] {
            let session = || collect(&Source::file(&path), from).remove(0);
            let text = transcript(session(), to);
            let back = collect(&Source::stream(text.as_bytes()).unwrap(), to).remove(0);
            let (texts, calls, results) = summary(&session());
            let (texts_back, calls_back, results_back) = summary(&back);
            assert_eq!(texts_back, texts, "{name} as {to}");
            assert_eq!(calls_back, calls, "{name} as {to}");
            assert_eq!(results_back, results, "{name} as {to}");
        }
    }
}
