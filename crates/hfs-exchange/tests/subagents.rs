//! What subagents said belongs to the session that started them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed expectation is a test's own way of speaking"
)]

use std::fs;

use hfs_exchange::{Collector, discover, read};
use serde_json::{Value, json};

fn record(kind: &str, uuid: &str, parent: Option<&str>, side: bool, content: &Value) -> String {
    let message = json!({"role": kind, "content": content});
    json!({
        "type": kind, "uuid": uuid, "parentUuid": parent, "isSidechain": side, "sessionId": "s",
        "timestamp": "2026-01-01T00:00:00Z", "message": message,
    })
    .to_string()
}

#[test]
fn a_subagent_is_a_branch_that_leaves_where_it_was_started() {
    let folder = tempfile::tempdir().unwrap();
    let task = json!([{"type": "tool_use", "id": "call-1", "name": "Task", "input": {}}]);
    let main = [
        record("user", "u1", None, false, &json!("look into it")),
        record("assistant", "a1", Some("u1"), false, &task),
        record(
            "user",
            "u2",
            Some("a1"),
            false,
            &json!([{"type": "tool_result", "tool_use_id": "call-1", "content": "ok"}]),
        ),
        record("assistant", "a2", Some("u2"), false, &json!([{"type": "text", "text": "done"}])),
    ];
    let agent = [
        record("user", "x1", None, true, &json!("explore")),
        record("assistant", "x2", Some("x1"), true, &json!([{"type": "text", "text": "found"}])),
    ];
    fs::write(folder.path().join("s.jsonl"), main.join("\n")).unwrap();
    let agents = folder.path().join("s/subagents");
    fs::create_dir_all(&agents).unwrap();
    fs::write(agents.join("agent-7.jsonl"), agent.join("\n")).unwrap();
    fs::write(agents.join("agent-7.meta.json"), r#"{"agentType":"Explore","toolUseId":"call-1"}"#).unwrap();

    let sources = discover(folder.path()).unwrap();
    assert_eq!(sources.len(), 1);
    let alone = discover(&folder.path().join("s.jsonl")).unwrap();
    assert_eq!(alone[0].companions(), sources[0].companions(), "a file that is named brings its own along");
    let mut sink = Collector::default();
    read(&sources[0], None, &mut sink).unwrap();
    let session = &sink.sessions[0];
    assert_eq!(session.current, 0);
    assert_eq!(session.branches[0].messages.len(), 4);
    let branch = &session.branches[1];
    assert_eq!((branch.parent, branch.forked_at, branch.name.as_deref()), (Some(0), 2, Some("agent-7")));
    let said: Vec<String> = branch.messages.iter().map(hfs_core::MessageDraft::text).collect();
    assert_eq!(said, ["explore", "found"]);
    assert_eq!(session.report.records, 6);
}

#[test]
fn what_a_tool_answered_at_length_comes_from_the_file_beside_the_transcript() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("s/tool-results");
    fs::create_dir_all(&saved).unwrap();
    fs::write(saved.join("b1.txt"), "all of it").unwrap();
    fs::write(saved.join("call-2.txt"), "of the second").unwrap();
    fs::write(folder.path().join("s/secret.txt"), "not to be read").unwrap();
    let result =
        |call: &str, said: &str| json!([{"type": "tool_result", "tool_use_id": call, "content": said}]);
    let path = "/home/me/.claude/projects/x/s/tool-results";
    let lines = [
        record("user", "u1", None, false, &json!("go")),
        record(
            "user",
            "u2",
            Some("u1"),
            false,
            &result("call-1", &format!("Saved to: {path}/b1.txt\n\nall")),
        ),
        record("user", "u3", Some("u2"), false, &result("call-2", "the beginning")),
        record("user", "u4", Some("u3"), false, &result("call-3", &format!("{path}/../secret.txt"))),
        record("user", "u5", Some("u4"), false, &result("../secret", "x")),
    ];
    fs::write(folder.path().join("s.jsonl"), lines.join("\n")).unwrap();
    let mut sink = Collector::default();
    read(&discover(folder.path()).unwrap()[0], None, &mut sink).unwrap();
    let document = sink.sessions.remove(0).into_document(hfs_core::Timestamp::UNIX_EPOCH);
    let told: Vec<String> = document
        .attachments
        .iter()
        .map(|attachment| String::from_utf8(attachment.bytes.clone()).unwrap())
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.contains(&"all of it".into()) && told.contains(&"of the second".into()), "{told:?}");

    // The transcript itself leaves as it came.
    let mut written = Vec::new();
    hfs_exchange::write_transcript(&document, hfs_exchange::Format::ClaudeCode, &mut written).unwrap();
    let values =
        |text: &str| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    assert_eq!(values(&String::from_utf8(written).unwrap()), values(&lines.join("\n")));
}

#[test]
fn files_of_other_programs_are_left_out_and_damaged_transcripts_are_not() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("settings.json"), r#"{"theme":"dark"}"#).unwrap();
    fs::write(folder.path().join("history.jsonl"), "{\"display\":\"x\"}\n").unwrap();
    fs::write(folder.path().join("empty.jsonl"), "").unwrap();
    fs::write(folder.path().join("garbage.jsonl"), "\u{1}\u{2} nothing of this is JSON").unwrap();
    let sources = discover(folder.path()).unwrap();
    assert_eq!(sources.len(), 1);
    let error = read(&sources[0], None, &mut Collector::default()).unwrap_err();
    assert!(error.to_string().contains("garbage.jsonl"), "{error}");
}
