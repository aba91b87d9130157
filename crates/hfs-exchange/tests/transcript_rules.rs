//! Transcripts for other tools obey the rules of the APIs that they are sent to, whatever the session comes from.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use hfs_core::{Attachment, ContentHash, Message, MessageDraft, Part, Role, SessionDocument, Timestamp};
use hfs_exchange::{
    Collector, Format, OpenCalls, Source, TranscriptOptions, TranscriptReport, read, write_transcript,
};
use serde_json::{Value, json};

#[path = "support/samples.rs"]
mod support;

fn collect(path: &Path, format: Option<Format>) -> Vec<SessionDocument> {
    let mut sink = Collector::default();
    read(&Source::file(path), format, &mut sink).unwrap();
    sink.sessions.into_iter().map(|session| session.into_document(Timestamp::UNIX_EPOCH)).collect()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/exports").join(name)
}

/// Every session of the samples and fixtures, with its name.
fn sessions() -> Vec<(String, SessionDocument)> {
    let mut sessions = Vec::new();
    for name in ["codex-calls.jsonl", "codex-picture-in-tool-result.jsonl", "claude-mcp-resources.jsonl"] {
        sessions.extend(collect(&fixture(name), None).into_iter().map(|session| (name.to_owned(), session)));
    }
    sessions.push(("hostile".into(), hostile_session()));
    if let Some(folder) = support::samples() {
        let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
        let table: Value = serde_json::from_str(&text).unwrap();
        for (name, expected) in table["files"].as_object().unwrap() {
            let Ok(format) = expected["format"].as_str().unwrap().parse::<Format>() else { continue };
            let found = collect(&folder.join(name), Some(format)).into_iter().take(20);
            sessions.extend(found.map(|session| (name.clone(), session)));
        }
    }
    sessions
}

fn call(id: &str, name: &str, input: Value) -> Part {
    Part::ToolCall { id: id.into(), name: name.into(), input }
}

fn result(id: &str, output: &str) -> Part {
    Part::ToolResult { id: id.into(), output: output.into(), is_error: false }
}

/// A session with everything that the APIs reject.
fn hostile_session() -> SessionDocument {
    let (mut document, branch) = empty_document();
    let lost = Part::Attachment {
        media_type: "image/png".into(),
        name: Some("lost.png".into()),
        hash: Some(ContentHash::from_bytes([9; 32])),
        bytes: 3,
    };
    let messages = [
        (Role::Assistant, vec![Part::text("The session starts with the assistant.")]),
        (Role::User, vec![Part::text(" \n"), Part::text("go"), lost.clone()]),
        (
            Role::Assistant,
            vec![
                call("toolu.1:a b", "mcp.server/tool name", json!("text")),
                call("", "", json!([1])),
                call(&"x".repeat(300), &"n".repeat(300), Value::Null),
                lost.clone(),
            ],
        ),
        (Role::User, vec![Part::text("typed while the tools run")]),
        (Role::Tool, vec![result(&"x".repeat(300), "long"), lost, result("toolu.1:a b", "")]),
        (Role::Assistant, vec![call("call_1", "ls", json!({})), Part::text("")]),
        (Role::Tool, vec![result("call_1", "one")]),
        (Role::System, vec![Part::text("Be brief.")]),
        (Role::Assistant, vec![call("call_1", "ls", json!({})), call("call_1", "ls", json!({}))]),
        (Role::Tool, vec![result("call_1", "two"), result("call_1", "three"), result("call_1", "four")]),
        (Role::User, vec![call("user", "ls", json!({})), result("nowhere", "stray")]),
        (Role::Assistant, Vec::new()),
        (Role::Assistant, vec![Part::Thinking { text: "hm".into(), signature: Some("s".into()) }]),
        (Role::Assistant, vec![call("open", "ls", json!({}))]),
    ];
    for ((role, parts), seq) in messages.into_iter().zip(1..) {
        let content = MessageDraft::new(role, parts, Timestamp::UNIX_EPOCH);
        document.branches[0].messages.push(Message { branch, seq, content });
        document.branches[0].branch.head = seq;
    }
    document
}

fn empty_document() -> (SessionDocument, hfs_core::BranchId) {
    let text = r#"[{"role": "user", "content": "x"}]"#;
    let mut sink = Collector::default();
    read(&Source::stream(text.as_bytes()).unwrap(), Some(Format::OpenAiMessages), &mut sink).unwrap();
    let mut document = sink.sessions.remove(0).into_document(Timestamp::UNIX_EPOCH);
    document.branches[0].messages.clear();
    let branch = document.branches[0].branch.id;
    (document, branch)
}

fn transcript(session: &SessionDocument, format: Format) -> (String, TranscriptReport) {
    let mut bytes = Vec::new();
    let report = write_transcript(session, format, TranscriptOptions::default(), &mut bytes).unwrap();
    (String::from_utf8(bytes).unwrap(), report)
}

fn records(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is missing in {value}"))
}

#[track_caller]
fn assert_id(id: &str, longest: usize) {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    assert!(!id.is_empty() && id.len() <= longest && id.chars().all(is_valid), "{id:?}");
}

/// The rules of Anthropic's Messages API, for each path through the tree of records. Records of Claude Code itself are
/// as they came and not checked.
fn check_claude_code(text_of_transcript: &str) {
    let records = records(text_of_transcript);
    let mut by_uuid: HashMap<&str, &Value> = HashMap::new();
    let mut parents: HashSet<&str> = HashSet::new();
    for record in &records {
        let kind = text(record, "type");
        assert!(["user", "assistant", "system", "last-prompt"].contains(&kind), "{record}");
        if kind == "last-prompt" {
            assert!(by_uuid.contains_key(text(record, "leafUuid")), "{record}");
            continue;
        }
        let uuid = text(record, "uuid");
        assert!(uuid::Uuid::try_parse(uuid).is_ok());
        if let Some(parent) = record["parentUuid"].as_str() {
            assert!(by_uuid.contains_key(parent), "the parent of {record} does not precede it");
            parents.insert(parent);
        }
        assert!(by_uuid.insert(uuid, record).is_none(), "{uuid} is used twice");
    }
    for leaf in by_uuid.keys().filter(|uuid| !parents.contains(*uuid)) {
        let mut path = Vec::new();
        let mut next = Some(*leaf);
        while let Some(uuid) = next {
            let record = by_uuid[uuid];
            path.push(record);
            next = record["parentUuid"].as_str();
        }
        path.reverse();
        check_messages_api(&path);
    }
}

fn check_messages_api(path: &[&Value]) {
    let mut messages: Vec<(&str, Vec<Value>)> = Vec::new();
    for record in path.iter().filter(|record| record["type"] != "system") {
        let message = &record["message"];
        let role = text(message, "role");
        let blocks = match &message["content"] {
            Value::String(text) => vec![json!({"type": "text", "text": text})],
            Value::Array(blocks) => blocks.clone(),
            other => panic!("content {other}"),
        };
        assert!(!blocks.is_empty(), "{record}");
        // The API combines consecutive messages of the same role.
        match messages.last_mut().filter(|(last, _)| *last == role) {
            Some((_, last)) => last.extend(blocks),
            None => messages.push((role, blocks)),
        }
    }
    assert_eq!(messages.first().map(|(role, _)| *role), Some("user"), "the first message is the user's");
    let mut used = HashSet::new();
    let mut open: Vec<String> = Vec::new();
    for (role, blocks) in messages {
        if role == "assistant" {
            assert!(open.is_empty(), "calls without results: {open:?}");
        }
        for block in &blocks {
            let kind = text(block, "type");
            if kind == "tool_result" {
                assert_eq!(role, "user");
                let id = text(block, "tool_use_id");
                let at = open.iter().position(|call| call == id);
                open.remove(at.unwrap_or_else(|| panic!("the result of {id} does not follow its call")));
                let content = &block["content"];
                assert!(
                    content.is_string() || content.as_array().is_some_and(|items| !items.is_empty()),
                    "{block}"
                );
                continue;
            }
            if role == "user" {
                assert!(open.is_empty(), "{block} precedes the results of {open:?}");
            }
            match kind {
                "text" => assert!(!text(block, "text").trim().is_empty()),
                "tool_use" => {
                    assert_eq!(role, "assistant");
                    let id = text(block, "id");
                    assert_id(id, 64);
                    assert_id(text(block, "name"), 64);
                    assert!(block["input"].is_object(), "{block}");
                    assert!(used.insert(id.to_owned()), "{id} is used twice");
                    open.push(id.to_owned());
                }
                "image" | "document" => {
                    assert_eq!(role, "user");
                    assert!(!text(&block["source"], "data").is_empty());
                }
                other => panic!("a block of type {other}"),
            }
        }
    }
    assert!(open.is_empty(), "calls without results: {open:?}");
}

/// The rules of OpenAI's Responses API.
fn check_codex(text_of_transcript: &str, is_original: bool) {
    let records = records(text_of_transcript);
    assert_eq!(records[0]["type"], "session_meta");
    assert!(uuid::Uuid::try_parse(text(&records[0]["payload"], "id")).is_ok());
    let mut used = HashSet::new();
    let mut open: HashMap<String, &str> = HashMap::new();
    for record in &records {
        let kind = text(record, "type");
        assert!(is_original || ["session_meta", "response_item", "event_msg"].contains(&kind), "{record}");
        assert!(record["timestamp"].is_string());
        if kind != "response_item" {
            continue;
        }
        let item = &record["payload"];
        match text(item, "type") {
            "message" => {
                assert!(["user", "assistant", "developer"].contains(&text(item, "role")), "{item}");
                for part in item["content"].as_array().unwrap() {
                    match (text(part, "type"), text(item, "role")) {
                        ("input_text", "user" | "developer") | ("output_text", "assistant") => {
                            assert!(is_original || !text(part, "text").trim().is_empty(), "{part}");
                        }
                        ("input_image", "user" | "developer") => {
                            assert!(text(part, "image_url").starts_with("data:image/"), "{part}");
                        }
                        other => panic!("{other:?} in {item}"),
                    }
                }
            }
            "function_call" => {
                let arguments: Value = serde_json::from_str(text(item, "arguments")).unwrap();
                assert!(arguments.is_object(), "{item}");
                assert_id(text(item, "name"), 64);
                open.insert(text(item, "call_id").to_owned(), "function_call_output");
            }
            "custom_tool_call" => {
                assert!(item["input"].is_string());
                open.insert(text(item, "call_id").to_owned(), "custom_tool_call_output");
            }
            "local_shell_call" => {
                assert!(item["action"]["command"].is_array());
                open.insert(text(item, "call_id").to_owned(), "function_call_output");
            }
            kind @ ("function_call_output" | "custom_tool_call_output") => {
                let id = text(item, "call_id");
                assert_id(id, 64);
                assert!(used.insert(id.to_owned()), "{id} is used twice");
                assert_eq!(open.remove(id), Some(kind), "{item} has no call");
                assert!(item["output"].is_string() || item["output"].is_array(), "{item}");
            }
            "reasoning" | "web_search_call" => assert!(is_original),
            other => assert!(is_original, "an item of type {other}"),
        }
    }
    assert!(open.is_empty(), "calls without outputs: {open:?}");
}

/// The rules of opencode's schema, and the order of times and ids that it relies on.
fn check_opencode(text_of_transcript: &str) {
    let export: Value = serde_json::from_str(text_of_transcript).unwrap();
    let session = text(&export["info"], "id");
    assert!(session.starts_with("ses_"));
    let (mut last_id, mut last_time) = (String::new(), 0);
    let mut prompts = HashSet::new();
    let mut parts = HashSet::new();
    let mut calls = HashSet::new();
    for message in export["messages"].as_array().unwrap() {
        let info = &message["info"];
        let id = text(info, "id");
        assert!(id.starts_with("msg_") && id > last_id.as_str(), "{id} does not follow {last_id}");
        // Ids that opencode generates have the time in these digits.
        assert!(id < "msg_000100000000");
        last_id = id.to_owned();
        let time = info["time"]["created"].as_i64().unwrap();
        assert!(time >= last_time);
        last_time = time;
        assert_eq!(info["sessionID"], session);
        let model = match text(info, "role") {
            "user" => {
                prompts.insert(id);
                &info["model"]
            }
            "assistant" => {
                let parent = text(info, "parentID");
                assert!(prompts.contains(parent) || prompts.is_empty(), "{info}");
                assert!(
                    info["tokens"]["cache"]["read"].is_number() && info["path"]["cwd"].is_string(),
                    "{info}"
                );
                info
            }
            other => panic!("role {other}"),
        };
        assert!(!text(model, "providerID").is_empty() && !text(model, "modelID").is_empty());
        assert!(text(model, "providerID") != "hfs" && text(model, "modelID") != "unknown", "{model}");
        for part in message["parts"].as_array().unwrap() {
            assert!(parts.insert(text(part, "id").to_owned()), "{part}");
            assert!(part["time"].is_null() || part["time"]["start"].is_number(), "{part}");
            assert_eq!((&part["sessionID"], text(part, "messageID")), (&info["sessionID"], id));
            if text(part, "type") == "tool" {
                assert_id(text(part, "callID"), 64);
                assert!(calls.insert(text(part, "callID").to_owned()), "{part} is used twice");
                assert_id(text(part, "tool"), 64);
                let state = &part["state"];
                assert!(state["input"].is_object() && state["time"]["start"].is_number(), "{state}");
                match text(state, "status") {
                    "completed" => {
                        let has_texts = state["output"].is_string() && state["title"].is_string();
                        assert!(
                            has_texts && state["metadata"].is_object() && state["error"].is_null(),
                            "{state}"
                        );
                    }
                    "error" => assert!(state["error"].is_string(), "{state}"),
                    other => panic!("status {other}"),
                }
            }
        }
    }
}

#[test]
fn transcripts_of_every_source_obey_the_rules_of_the_apis() {
    for (name, session) in sessions() {
        let origin = session.session.origin.as_ref().map_or("", |origin| origin.format.as_str());
        eprintln!("{name} ({origin})");
        if origin != "claude-code" {
            check_claude_code(&transcript(&session, Format::ClaudeCode).0);
        }
        check_codex(&transcript(&session, Format::Codex).0, origin == "codex");
        check_opencode(&transcript(&session, Format::OpenCode).0);
    }
}

#[test]
fn what_a_transcript_leaves_out_is_counted() {
    let session = hostile_session();
    let (claude, report) = transcript(&session, Format::ClaudeCode);
    assert_eq!((report.thinking, report.instructions), (1, 1));
    assert_eq!((report.missing_attachments, report.attachments_by_name), (2, 1));
    assert_eq!((report.calls_without_result, report.results_without_call), (2, 2));
    for kept in ["stray", "four", "lost.png", "typed while the tools run", "Be brief."] {
        assert!(claude.contains(kept), "{kept}");
    }
    // Only the attachment is lost, not the transcript.
    // opencode has pictures in answers, too.
    for (format, missing) in [(Format::Codex, 2), (Format::OpenCode, 3)] {
        let (written, report) = transcript(&session, format);
        assert_eq!((report.missing_attachments, report.thinking), (missing, 1), "{format}");
        assert!(written.contains("lost.png"));
    }
}

#[test]
fn calls_of_codex_go_back_as_the_kinds_they_were() {
    let original = records(&std::fs::read_to_string(fixture("codex-calls.jsonl")).unwrap());
    let session = collect(&fixture("codex-calls.jsonl"), None).remove(0);
    let written = records(&transcript(&session, Format::Codex).0);
    let items = |records: &[Value]| -> Vec<Value> {
        let items = records.iter().filter(|record| record["type"] == "response_item");
        items.map(|record| record["payload"].clone()).collect()
    };
    assert_eq!(items(&written), items(&original));
    // For Claude Code they have objects as input.
    let claude = records(&transcript(&session, Format::ClaudeCode).0);
    let blocks: Vec<&Value> =
        claude.iter().filter_map(|record| record["message"]["content"].as_array()).flatten().collect();
    let inputs: Vec<&Value> =
        blocks.iter().filter(|block| block["type"] == "tool_use").map(|block| &block["input"]).collect();
    assert_eq!(inputs.len(), 3);
    assert!(inputs[0]["input"].as_str().unwrap().starts_with("*** Begin Patch"), "{inputs:?}");
    assert_eq!(inputs[1]["command"], json!(["ls"]));
}

#[test]
fn a_rollout_does_not_name_the_provider_of_the_original() {
    let line = |kind: &str, payload: Value| {
        json!({"timestamp": "2026-01-01T00:00:00Z", "type": kind, "payload": payload}).to_string()
    };
    let text = [
        line(
            "session_meta",
            json!({"id": "01a22000-0000-7000-8000-0000000000aa", "model_provider": "elsewhere"}),
        ),
        line(
            "event_msg",
            json!({"type": "thread_settings_applied", "thread_settings": {"model_provider_id": "elsewhere"}}),
        ),
        line("turn_context", json!({"model": "kept"})),
        line(
            "response_item",
            json!({
                "type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}],
            }),
        ),
    ];
    let mut sink = Collector::default();
    read(&Source::stream(text.join("\n").as_bytes()).unwrap(), Some(Format::Codex), &mut sink).unwrap();
    let session = sink.sessions.remove(0).into_document(Timestamp::UNIX_EPOCH);
    let written = transcript(&session, Format::Codex).0;
    assert!(!written.contains("elsewhere") && written.contains("kept"), "{written}");
}

#[test]
fn a_picture_in_a_result_of_codex_goes_back_and_is_a_picture_for_other_tools() {
    let name = "codex-picture-in-tool-result.jsonl";
    let original = records(&std::fs::read_to_string(fixture(name)).unwrap());
    let url = text(&original[3]["payload"]["output"][0], "image_url").to_owned();
    let session = collect(&fixture(name), None).remove(0);
    let codex = records(&transcript(&session, Format::Codex).0);
    let payloads: Vec<&Value> = codex.iter().map(|record| &record["payload"]).collect();
    assert!(payloads.contains(&&original[3]["payload"]));
    let data = url.split_once(',').unwrap().1;
    let claude = transcript(&session, Format::ClaudeCode).0;
    let opencode = transcript(&session, Format::OpenCode).0;
    assert!(claude.contains(&format!("\"data\":\"{data}\"")), "{claude}");
    assert!(opencode.contains(&format!("\"url\":\"{url}\"")), "{opencode}");
}

#[test]
fn a_record_of_claude_code_with_resources_goes_back_unchanged() {
    let path = fixture("claude-mcp-resources.jsonl");
    let original = records(&std::fs::read_to_string(&path).unwrap());
    let session = collect(&path, None).remove(0);
    assert_eq!(records(&transcript(&session, Format::ClaudeCode).0), original);
}

#[test]
fn no_records_of_another_tool_are_in_a_transcript() {
    let session = collect(&fixture("codex-calls.jsonl"), None).remove(0);
    let claude = transcript(&session, Format::ClaudeCode).0;
    assert!(!claude.contains("session_meta") && !claude.contains("response_item"), "{claude}");
    let session = collect(&fixture("claude-mcp-resources.jsonl"), None).remove(0);
    let codex = transcript(&session, Format::Codex).0;
    assert!(!codex.contains("parentUuid"), "{codex}");
}

#[test]
fn a_picture_of_the_user_is_a_picture_in_every_transcript() {
    let (mut document, branch) = empty_document();
    let bytes = b"not really a png".to_vec();
    let hash = ContentHash::from_bytes(*blake3::hash(&bytes).as_bytes());
    let length = u64::try_from(bytes.len()).unwrap();
    let picture = |media_type: &str| Part::Attachment {
        media_type: media_type.into(),
        name: Some("shot".into()),
        hash: Some(hash),
        bytes: length,
    };
    let parts = vec![Part::text("look"), picture("image/jpg"), picture("application/zip")];
    let content = MessageDraft::new(Role::User, parts, Timestamp::UNIX_EPOCH);
    document.branches[0].messages.push(Message { branch, seq: 1, content });
    document.attachments.push(Attachment { hash, bytes });
    for (format, kind) in [
        (Format::ClaudeCode, "\"media_type\":\"image/jpeg\""),
        (Format::Codex, "\"image_url\":\"data:image/jpeg;base64,"),
        (Format::OpenCode, "\"mime\":\"image/jpeg\""),
    ] {
        let (written, report) = transcript(&document, format);
        assert!(written.contains(kind) && written.contains("[attachment: shot]"), "{written}");
        assert_eq!((report.attachments_by_name, report.missing_attachments), (1, 0));
    }
}

#[test]
fn a_pdf_is_a_file_where_the_tool_sends_files_and_a_name_elsewhere() {
    let (mut document, branch) = empty_document();
    let bytes = b"%PDF-1.4 not really".to_vec();
    let hash = ContentHash::from_bytes(*blake3::hash(&bytes).as_bytes());
    let pdf = |bytes: u64| Part::Attachment {
        media_type: "application/pdf".into(),
        name: Some("plan.pdf".into()),
        hash: Some(hash),
        bytes,
    };
    let length = u64::try_from(bytes.len()).unwrap();
    let messages = [
        (Role::User, vec![Part::text("look"), pdf(length), pdf(1 << 30)]),
        (Role::Assistant, vec![call("call_1", "read", json!({}))]),
        (Role::Tool, vec![result("call_1", "the file"), pdf(length)]),
    ];
    for ((role, parts), seq) in messages.into_iter().zip(1..) {
        let content = MessageDraft::new(role, parts, Timestamp::UNIX_EPOCH);
        document.branches[0].messages.push(Message { branch, seq, content });
        document.branches[0].branch.head = seq;
    }
    document.attachments.push(Attachment { hash, bytes });
    for (format, kind, files) in [
        (Format::ClaudeCode, "\"type\":\"document\"", 2),
        (Format::Codex, "\"input_file\"", 0),
        (Format::OpenCode, "\"url\":\"data:application/pdf;base64,", 2),
    ] {
        let (written, report) = transcript(&document, format);
        assert_eq!(written.matches(kind).count(), files, "{written}");
        let names = 3 - files;
        assert_eq!(written.matches("[attachment: plan.pdf]").count(), names, "{written}");
        assert_eq!(report.attachments_by_name, names as u64, "{format}");
    }
    check_claude_code(&transcript(&document, Format::ClaudeCode).0);
    check_opencode(&transcript(&document, Format::OpenCode).0);
}

/// A session of Claude Code in which an agent works, or the agent's own transcript.
fn session_with_agent(is_own: bool) -> SessionDocument {
    let record = |number: u32, parent: Option<u32>, is_agent: bool, kind: &str, content: Value| {
        let uuid = |number: u32| format!("00000000-0000-4000-8000-{number:012}");
        json!({
            "parentUuid": parent.map(uuid), "isSidechain": is_agent, "type": kind, "uuid": uuid(number), "cwd": "/",
            "sessionId": "11111111-1111-4111-8111-111111111111", "timestamp": "2026-01-01T00:00:00.000Z",
            "version": "1.0.35", "message": {"role": kind, "content": content, "id": format!("msg_{number}")},
        })
        .to_string()
    };
    let main = [
        record(1, None, false, "user", json!("begin")),
        record(2, Some(1), false, "assistant", json!([{"type": "text", "text": "I ask an agent."}])),
    ];
    let agent = [
        record(3, None, true, "user", json!("the task")),
        record(4, Some(3), true, "assistant", json!([{"type": "text", "text": "the agent's report"}])),
    ];
    let lines = if is_own { agent.join("\n") } else { [main, agent].concat().join("\n") };
    let mut sink = Collector::default();
    read(&Source::stream(lines.as_bytes()).unwrap(), Some(Format::ClaudeCode), &mut sink).unwrap();
    sink.sessions.remove(0).into_document(Timestamp::UNIX_EPOCH)
}

#[test]
fn a_conversation_continues_before_the_messages_of_an_agent() {
    let mut document = session_with_agent(false);
    let written = records(&transcript(&document, Format::ClaudeCode).0);
    assert!(written.iter().all(|record| record["type"] != "last-prompt"), "{written:?}");
    let branch = &mut document.branches[0];
    let content = MessageDraft::new(Role::User, vec![Part::text("more")], Timestamp::UNIX_EPOCH);
    branch.branch.head += 1;
    branch.messages.push(Message { branch: branch.branch.id, seq: branch.branch.head, content });
    let written = records(&transcript(&document, Format::ClaudeCode).0);
    let added = written.iter().find(|record| record["message"]["content"][0]["text"] == "more").unwrap();
    assert_eq!(added["parentUuid"], "00000000-0000-4000-8000-000000000002");
}

#[test]
fn an_agents_own_transcript_can_be_resumed() {
    let options = TranscriptOptions { is_resumed: true, ..TranscriptOptions::default() };
    let mut bytes = Vec::new();
    write_transcript(&session_with_agent(true), Format::ClaudeCode, options, &mut bytes).unwrap();
    let written = String::from_utf8(bytes).unwrap();
    assert!(written.contains("the task") && written.contains("the agent's report"), "{written}");
    assert!(!written.contains("\"isSidechain\":true"), "{written}");
    check_claude_code(&written);
}

/// The records of a resumed transcript of Claude Code with these messages.
fn resumed(messages: Vec<(Role, Vec<Part>)>, open_calls: OpenCalls) -> Vec<Value> {
    let (mut document, branch) = empty_document();
    let messages = messages.into_iter().zip(1..).map(|((role, parts), seq)| {
        let content = MessageDraft::new(role, parts, Timestamp::UNIX_EPOCH);
        Message { branch, seq, content }
    });
    let messages: Vec<Message> = messages.collect();
    document.branches[0].branch.head = messages.len() as u64;
    document.branches[0].messages = messages;
    let options = TranscriptOptions { is_resumed: true, open_calls, ..TranscriptOptions::default() };
    let mut bytes = Vec::new();
    write_transcript(&document, Format::ClaudeCode, options, &mut bytes).unwrap();
    records(&String::from_utf8(bytes).unwrap())
}

/// Claude Code answers a last record of the user itself, and the model would read that as its own words.
#[test]
fn a_resumed_transcript_never_ends_with_a_record_that_claude_code_would_answer() {
    let prompt = || (Role::User, vec![Part::text("go")]);
    let called = || (Role::Assistant, vec![Part::text("I look"), call("1", "ls", json!({}))]);
    let results = || (Role::Tool, vec![result("1", "out")]);
    let answer = || (Role::Assistant, vec![Part::text("done")]);
    for (messages, ends_with_error) in [
        (vec![prompt()], true),
        (vec![prompt(), called(), results()], true),
        (vec![prompt(), called(), results(), answer()], false),
        // The call without a result is left out.
        (vec![prompt(), called()], false),
        (vec![prompt(), (Role::Assistant, vec![call("1", "ls", json!({}))])], true),
    ] {
        let written = resumed(messages, OpenCalls::LeftOut);
        let conversation: Vec<&Value> =
            written.iter().filter(|record| ["user", "assistant"].contains(&text(record, "type"))).collect();
        let last = conversation.last().unwrap();
        let is_error = last["isApiErrorMessage"] == true;
        assert_eq!((text(last, "type"), is_error), ("assistant", ends_with_error), "{written:#?}");
        let all = json!(conversation).to_string();
        assert_eq!(all.contains("\"type\":\"tool_use\""), all.contains("\"tool_result\""), "{all}");
        // Each record continues the one before it.
        let follows = |pair: &[&Value]| pair[1]["parentUuid"] == pair[0]["uuid"];
        assert!(conversation.windows(2).all(follows), "{written:#?}");
    }
    let written = resumed(vec![prompt(), called()], OpenCalls::Answered);
    assert!(json!(written).to_string().contains("[no result of this call is known]"), "{written:#?}");
}

/// The number of each record of a rollout with this history mode, of which one message was written by hfs.
fn ordinals(mode: &str) -> Vec<Option<u64>> {
    let at = "2026-01-01T00:00:00Z";
    let item = |ordinal: u64, role: &str, text: &str| {
        json!({"timestamp": at, "ordinal": ordinal, "type": "response_item", "payload": {
            "type": "message", "role": role, "content": [{"type": "output_text", "text": text}]}})
    };
    let event = |ordinal: u64, kind: &str| json!({"timestamp": at, "ordinal": ordinal, "type": "event_msg", "payload": {"type": kind}});
    let records = [
        json!({"timestamp": at, "ordinal": 0, "type": "session_meta", "payload": {"id": "s", "history_mode": mode}}),
        item(1, "user", "one"),
        event(2, "token_count"),
        item(3, "assistant", "two"),
        event(4, "task_complete"),
    ];
    let text: String = records.iter().map(|record| format!("{record}\n")).collect();
    let mut sink = Collector::default();
    read(&Source::stream(text.as_bytes()).unwrap(), Some(Format::Codex), &mut sink).unwrap();
    let mut document = sink.sessions.remove(0).into_document(Timestamp::UNIX_EPOCH);
    let current = document.session.current_branch;
    let branch = document.branches.iter_mut().find(|branch| branch.branch.id == current).unwrap();
    // Between the imported messages, as after a rewind.
    let content = MessageDraft::new(Role::User, vec![Part::text("in hfs")], Timestamp::UNIX_EPOCH);
    let last = branch.messages.len();
    branch.messages.insert(last - 1, Message { branch: current, seq: 0, content });
    for (message, seq) in branch.messages.iter_mut().zip(branch.branch.forked_at + 1..) {
        message.seq = seq;
        branch.branch.head = seq;
    }
    let (text, _) = transcript(&document, Format::Codex);
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["ordinal"].as_u64()).collect()
}

#[test]
fn the_records_of_a_paginated_rollout_have_growing_numbers_and_others_have_none() {
    let paginated: Vec<u64> =
        ordinals("paginated").into_iter().map(|ordinal| ordinal.expect("a number")).collect();
    assert!(paginated.len() > 4, "{paginated:?}");
    assert!(paginated.is_sorted_by(|a, b| a < b), "{paginated:?}");
    assert!(ordinals("legacy").iter().all(Option::is_none));
}
