//! Sessions as other tools' transcripts, through the binary.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use testkit::cli::Hfs;

use super::{chat, done, hfs, samples, travelled};

/// How often each record stands on a line of its own, whatever the order of its fields.
fn records(text: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for line in text.lines() {
        if let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(line) {
            let mut record = Value::Object(fields);
            record.sort_all_objects();
            *counts.entry(record.to_string()).or_insert(0) += 1;
        }
    }
    counts
}

fn transcript(hfs: &Hfs, session: &str, format: &str) -> String {
    let export = ["export", "-q", session, "--format", format, "-o", "-"];
    hfs.command(&export).timeout(Duration::from_secs(120)).run().ok().stdout
}

#[test]
fn every_claude_code_sample_goes_back_with_every_record_it_came_with() {
    let Some(samples) = samples() else {
        println!("skipped: the folder of samples is not there");
        return;
    };
    let table = std::fs::read_to_string(samples.join("expected.json")).unwrap();
    let table: Value = serde_json::from_str(&table).unwrap();
    let mut compared = 0;
    for (name, expected) in table["files"].as_object().unwrap() {
        if expected["format"] != "claude-code" || expected["bytes"] == 0 {
            continue;
        }
        let hfs = hfs();
        let out = hfs.command(&["import", "--json"]).arg(samples.join(name)).run().ok().json();
        let session = out["imported"][0]["session"].as_str().unwrap();
        let original = std::fs::read(samples.join(name)).unwrap();
        let original = records(&String::from_utf8_lossy(&original).replace('\u{feff}', ""));
        let written = records(&transcript(&hfs, session, "claude-code"));
        for record in original.keys() {
            assert!(written.contains_key(record), "{name} lost {record}");
        }
        // Where branches are written one after another, it is said which of them to go on with; of damaged files,
        // more comes back than stands on whole lines.
        let added = written.keys().filter(|record| !original.contains_key(*record));
        let added: Vec<_> = added.filter(|record| !record.contains("\"last-prompt\"")).collect();
        assert!(added.is_empty() || name.contains("quirk-"), "{name} came to say {added:?}");
        compared += original.len();
    }
    assert!(compared > 1000, "only {compared} records were compared");
}

#[test]
fn a_session_leaves_as_the_transcript_of_each_tool_and_is_read_as_such() {
    let (one, other) = (hfs(), hfs());
    let session = travelled(&one);
    let texts = |shown: &Value| -> Vec<String> {
        let messages = shown["messages"].as_array().unwrap();
        messages.iter().map(|message| message["parts"][0]["text"].as_str().unwrap().to_owned()).collect()
    };
    let here = texts(&done(&one, &["session", "show", &session]));
    for format in ["claude-code", "codex", "opencode"] {
        let written = transcript(&one, &session, format);
        let import = other.command(&["import", "-", "--json"]).stdin(&written).run().ok().json();
        let taken = &import["imported"][0];
        assert_eq!(taken["format"], format);
        let there = done(&other, &["session", "show", taken["session"].as_str().unwrap()]);
        assert_eq!(texts(&there), here, "{format}");
        let branches = there["branches"].as_array().unwrap().len();
        // The branch that was open here is open there, too, wherever it stands in the file.
        assert_eq!(branches > 1, format == "claude-code", "{format} has {branches} branches");
    }
}

#[test]
fn a_transcript_of_one_branch_is_that_of_the_branch_asked_for() {
    let hfs = hfs();
    let session = travelled(&hfs);
    let of = |arguments: &[&str]| hfs.run(&[&["export", "-q", &session, "-o", "-"], arguments].concat());
    let idea = of(&["--format", "codex", "--branch", "idea"]).ok().stdout;
    assert!(idea.contains("Another way on") && !idea.contains("After the rewind"), "{idea}");
    assert_eq!(of(&["--format", "codex", "--all-branches"]).code, Some(2));
    assert_eq!(of(&["--format", "claude-code", "--branch", "idea"]).code, Some(2));
}

#[test]
fn a_transcript_has_the_name_that_its_tool_looks_for_and_says_what_to_type() {
    let hfs = hfs();
    let session = chat(&hfs, &["hello"]);
    for (format, ending, command) in [
        ("claude-code", ".jsonl", "claude --resume"),
        ("codex", ".jsonl", "codex resume"),
        ("opencode", ".json", "opencode import"),
    ] {
        let out = hfs.run(&["export", &session, "--format", format]).ok();
        let path = Path::new(out.stdout.trim_end());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(path.is_file() && name.ends_with(ending), "{name}");
        assert_eq!(name.contains(&session), format != "opencode", "{name}");
        assert!(out.stderr.contains(command), "{}", out.describe());
    }
}
