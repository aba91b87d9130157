//! Every real transcript comes to the numbers that an independent reader counted in it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a failed expectation is a test's own way of speaking"
)]

use std::path::Path;

use hfs_core::{MessageDraft, Part, Role, Timestamp};
use hfs_exchange::{Collected, Collector, Format, Source, detect, read};
use serde_json::{Value, json};

#[path = "support/samples.rs"]
mod support;

fn count(session: &Collected, role: Role) -> usize {
    session.messages().filter(|message| message.role == role).count()
}

fn parts(session: &Collected, wanted: fn(&Part) -> bool) -> usize {
    session.messages().flat_map(|message| &message.parts).filter(|part| wanted(part)).count()
}

fn text_chars(message: &MessageDraft) -> usize {
    if !matches!(message.role, Role::User | Role::Assistant) {
        return 0;
    }
    let chars = |part: &Part| match part {
        Part::Text { text } => text.chars().count(),
        _ => 0,
    };
    message.parts.iter().map(chars).sum()
}

/// A time in milliseconds: cut off where it was text, rounded where it was a number.
fn time(time: Option<Timestamp>, format: Format) -> Value {
    let round = if format == Format::ChatGpt { 500 } else { 0 };
    time.map_or(Value::Null, |time| {
        let millis = Timestamp::from_millis((time.as_micros() + round).div_euclid(1000)).unwrap();
        json!(millis.to_jiff().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
    })
}

fn flagged(session: &Collected, flag: &str) -> usize {
    let has = |message: &&MessageDraft| {
        message.extra.get("flags").and_then(Value::as_array).is_some_and(|flags| flags.contains(&json!(flag)))
    };
    session.messages().filter(has).count()
}

/// A session in the words of the expectations.
fn told(session: &Collected, format: Format) -> Value {
    let branches = session.branches.len();
    // Of a LangGraph thread only its newest line is counted, which is the first branch.
    let newest = (format == Format::LangGraph).then(|| {
        let mut newest = session.clone();
        newest.branches.truncate(1);
        newest
    });
    let session = newest.as_ref().unwrap_or(session);
    let messages = session.messages().count();
    let mut told = json!({
        "messages": messages,
        "by_role": {
            "user": count(session, Role::User),
            "assistant": count(session, Role::Assistant),
            "system": count(session, Role::System),
            "tool": count(session, Role::Tool),
        },
        "tool_calls": parts(session, |part| matches!(part, Part::ToolCall { .. })),
        "thinking_parts": parts(session, |part| matches!(part, Part::Thinking { .. })),
        "image_parts": parts(session, |part| {
            matches!(part, Part::Attachment { media_type, .. } if media_type.starts_with("image"))
        }),
        "text_chars": session.messages().map(text_chars).sum::<usize>(),
        "branches": if messages == 0 { 0 } else { branches },
        "title": session.session.title,
        "first_ts": time(session.session.created_at, format),
        "last_ts": time(session.session.updated_at, format),
    });
    if format == Format::ClaudeCode {
        told["sidechain_messages"] = json!(flagged(session, "sidechain"));
        told["compact_summaries"] = json!(flagged(session, "compact-summary"));
    }
    told
}

fn differences(at: &str, expected: &Value, found: &Value, all: &mut Vec<String>) {
    let Some(found) = found.as_object() else { return };
    for (key, value) in found {
        if let Some(wanted) = expected.get(key)
            && wanted != value
        {
            all.push(format!("{at}: {key} is {value}, expected {wanted}"));
        }
    }
}

fn check_report(at: &str, session: &Collected, expected: &Value, all: &mut Vec<String>) {
    let report = &session.report;
    if report.mapped + report.opaque + report.dropped != report.records {
        all.push(format!("{at}: the report does not add up: {report:?}"));
    }
    if let (Some(records), Some(bad)) = (expected["records"].as_u64(), expected["bad_fragments"].as_u64())
        && report.records != records + bad
    {
        all.push(format!("{at}: {} records, expected {records} and {bad} damaged", report.records));
    }
}

fn check_file(path: &Path, name: &str, expected: &Value, all: &mut Vec<String>) {
    let source = Source::file(path);
    let mut found = Collector::default();
    let wanted = expected["format"].as_str().unwrap();
    match detect(&source) {
        Ok(Some(format)) if format.as_str() == wanted => {}
        Ok(None) if expected["bytes"] == json!(0) => {}
        other => all.push(format!("{name}: detected {other:?}, expected {wanted}")),
    }
    let format: Format = wanted.parse().unwrap();
    if let Err(error) = read(&source, Some(format), &mut found) {
        all.push(format!("{name}: {error}"));
        return;
    }
    let sessions = expected["sessions"].as_array().unwrap();
    let total = expected["total"]["sessions"].as_u64().unwrap();
    if expected["bytes"] != json!(0) && found.sessions.len() as u64 != total {
        all.push(format!("{name}: {} sessions, expected {total}", found.sessions.len()));
    }
    for (number, (session, expected)) in found.sessions.iter().zip(sessions).enumerate() {
        let at = format!("{name}[{number}]");
        differences(&at, expected, &told(session, format), all);
        check_report(&at, session, expected, all);
    }
    let sum = |key: &str| found.sessions.iter().map(|s| told(s, format)[key].as_u64().unwrap()).sum::<u64>();
    for key in ["messages", "tool_calls", "thinking_parts", "image_parts", "text_chars", "branches"] {
        if json!(sum(key)) != expected["total"][key] {
            all.push(format!("{name}: {key} is {} in all, expected {}", sum(key), expected["total"][key]));
        }
    }
}

#[test]
fn every_sample_comes_to_the_numbers_of_the_independent_reader() {
    let Some(folder) = support::samples() else { return };
    let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let table: Value = serde_json::from_str(&text).unwrap();
    let mut all = Vec::new();
    for (name, expected) in table["files"].as_object().unwrap() {
        if expected["format"].as_str().unwrap().parse::<Format>().is_err() {
            eprintln!("skipped: {name}: no reader for this format");
            continue;
        }
        check_file(&folder.join(name), name, expected, &mut all);
    }
    for difference in &all {
        eprintln!("{difference}");
    }
    assert_eq!(all.len(), 0, "differences");
}
