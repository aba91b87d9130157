//! Forms of transcripts that are told from small files of our own making.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed expectation is a test's own way of speaking"
)]

use std::fs;
use std::io::Write;

use hfs_core::{MessageDraft, Part, Role};
use hfs_exchange::{Collected, Collector, Format, Source, detect, read};
use serde_json::json;

fn collect(source: &Source, format: Format) -> Vec<Collected> {
    assert_eq!(detect(source).unwrap(), Some(format));
    let mut sink = Collector::default();
    read(source, None, &mut sink).unwrap();
    for session in &sink.sessions {
        let report = &session.report;
        assert_eq!(report.mapped + report.opaque + report.dropped, report.records, "{report:?}");
    }
    sink.sessions
}

fn said(messages: &[MessageDraft]) -> Vec<(Role, String)> {
    messages.iter().map(|message| (message.role, message.text())).collect()
}

fn item(role: &str, text: &str) -> String {
    let kind = if role == "assistant" { "output_text" } else { "input_text" };
    let payload = json!({"type": "message", "role": role, "content": [{"type": kind, "text": text}]});
    json!({"timestamp": "2026-01-01T00:00:00Z", "type": "response_item", "payload": payload}).to_string()
}

#[test]
fn a_turn_that_codex_rolled_back_stays_on_a_branch_of_its_own() {
    let rolled = json!({
        "timestamp": "2026-01-01T00:00:00Z", "type": "event_msg",
        "payload": {"type": "thread_rolled_back", "num_turns": 1},
    });
    let lines = [
        item("user", "one"),
        item("assistant", "first"),
        item("user", "two"),
        item("assistant", "second"),
        rolled.to_string(),
        item("user", "three"),
    ];
    let compressed = zstd::encode_all(lines.join("\n").as_bytes(), 3).unwrap();
    let session = collect(&Source::stream(&compressed[..]).unwrap(), Format::Codex).remove(0);
    assert_eq!(session.branches[0].messages.len(), 4);
    assert_eq!((session.branches[1].forked_at, session.current), (2, 1));
    assert_eq!(said(&session.branches[1].messages), [(Role::User, "three".into())]);
}

#[test]
fn bare_rollouts_are_read_and_a_call_without_words_is_a_message() {
    let lines = [
        json!({"id": "c1", "timestamp": "2025-05-01T00:00:00Z", "instructions": null}),
        json!({"record_type": "state"}),
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}),
        json!({"type": "function_call", "name": "shell", "arguments": "{\"cmd\":\"ls\"}", "call_id": "1"}),
        json!({"type": "function_call_output", "call_id": "1", "output": "a"}),
    ];
    let text = lines.map(|line| line.to_string()).join("\n");
    let session = collect(&Source::stream(text.as_bytes()).unwrap(), Format::Codex).remove(0);
    assert_eq!(session.session.origin.id, "c1");
    let roles: Vec<Role> = session.messages().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool]);
    let call = session
        .messages()
        .flat_map(|message| &message.parts)
        .find(|part| matches!(part, Part::ToolCall { .. }));
    let wanted = Part::ToolCall { id: "1".into(), name: "shell".into(), input: json!({"cmd": "ls"}) };
    assert_eq!(call, Some(&wanted));
}

#[test]
fn the_archive_that_chatgpt_sends_is_read_as_it_is() {
    let node = |id: &str, parent: Option<&str>, children: &[&str], role: &str, text: &str| {
        json!({"id": id, "parent": parent, "children": children, "message": {
            "id": id, "author": {"role": role}, "create_time": 1_700_000_000.5, "recipient": "all",
            "content": {"content_type": "text", "parts": [text]}, "metadata": {},
        }})
    };
    let conversation = json!([{
        "conversation_id": "c", "title": "T", "current_node": "3",
        "mapping": {
            "1": node("1", None, &["2", "3"], "user", "ask"),
            "2": node("2", Some("1"), &[], "assistant", "once"),
            "3": node("3", Some("1"), &[], "assistant", "again"),
        },
    }]);
    let file = tempfile::Builder::new().suffix(".zip").tempfile().unwrap();
    let mut archive = zip::ZipWriter::new(file.reopen().unwrap());
    for (name, text) in [("chat.html", String::new()), ("conversations-000.json", conversation.to_string())] {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(text.as_bytes()).unwrap();
    }
    archive.finish().unwrap();
    let session = collect(&Source::file(file.path()), Format::ChatGpt).remove(0);
    assert_eq!(session.session.title.as_deref(), Some("T"));
    assert_eq!(
        said(&session.branches[0].messages),
        [(Role::User, "ask".into()), (Role::Assistant, "once".into())]
    );
    assert_eq!(said(&session.branches[1].messages), [(Role::Assistant, "again".into())]);
    assert_eq!(session.current, 1);
}

#[test]
fn the_python_originals_database_is_read_with_what_is_still_in_its_log_and_left_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch(
            "pragma journal_mode = wal;
             create table sessions (id integer primary key, name text, created_at datetime, updated_at datetime);
             create table messages (id integer primary key, session_id integer, role text, content text, created_at datetime);
             create table checkpoints (id integer primary key, session_id integer, trigger_event text, state_json text, created_at datetime);
             insert into sessions values (1, 'Old days', '2026-02-01 10:00:00', null);
             insert into messages values (1, 1, 'user', 'hello', '2026-02-01 10:00:01.5');
             insert into checkpoints values (1, 1, 'run.ended', '{\"kept\":1}', '2026-02-01 10:00:02');
             insert into messages values (2, 1, 'assistant', 'hi', '2026-02-01 10:00:03');",
        )
        .unwrap();
    let before: Vec<(std::ffi::OsString, u64)> = listing(folder.path());
    let session = collect(&Source::file(&path), Format::Python).remove(0);
    assert_eq!(listing(folder.path()), before);
    assert_eq!(session.session.title.as_deref(), Some("Old days"));
    let told: Vec<(Role, String)> =
        session.messages().map(|message| (message.role, message.text())).collect();
    assert_eq!(told, [(Role::User, "hello".into()), (Role::Assistant, "hi".into())]);
    assert_eq!((session.checkpoints[0].seq, session.checkpoints[0].trigger.as_str()), (1, "run.ended"));
    assert_eq!(session.checkpoints[0].state.plugins.get("hfs-python").unwrap(), &json!({"kept": 1}));
}

fn listing(folder: &std::path::Path) -> Vec<(std::ffi::OsString, u64)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), entry.metadata().unwrap().len()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_document_of_version_1_0_0_brings_its_checkpoints_and_says_that_it_was_migrated() {
    let text = json!({
        "metadata": {"schema_version": "1.0.0", "exported_at": "2026-02-01T12:00:00", "hfs_version": "0.1.0", "session_name": "Plan"},
        "messages": [
            {"role": "user", "content": "a", "created_at": "2026-02-01T10:00:00"},
            {"role": "assistant", "content": "b", "created_at": "2026-02-01T10:00:05"},
        ],
        "checkpoints": [{"trigger": "run.ended", "created_at": "2026-02-01T10:00:02"}, {"trigger": "manual", "created_at": "2026-02-01T10:00:09", "message_index": 1}],
        "run_snapshot": null,
    })
    .to_string();
    let session = collect(&Source::stream(text.as_bytes()).unwrap(), Format::Hfs).remove(0);
    assert_eq!(session.session.title.as_deref(), Some("Plan"));
    let seqs: Vec<u64> = session.checkpoints.iter().map(|checkpoint| checkpoint.seq).collect();
    assert_eq!(seqs, [1, 2]);
    assert!(session.report.warnings.iter().any(|warning| warning.message.contains("1.0.0")));
    // The same document is the same session, whenever it is read.
    let again = collect(&Source::stream(text.as_bytes()).unwrap(), Format::Hfs).remove(0);
    assert_eq!(again.session.id, session.session.id);
    assert_eq!(again.session.origin, session.session.origin);
}

#[test]
fn a_document_without_a_version_is_read_in_both_of_its_shapes() {
    for text in [
        r#"{"messages":[{"role":"user","content":"a"}]}"#,
        r#"[{"role":"user","content":"a","created_at":"2026-01-01T00:00:00Z"}]"#,
    ] {
        let session = collect(&Source::stream(text.as_bytes()).unwrap(), Format::Hfs).remove(0);
        assert_eq!(said(&session.branches[0].messages), [(Role::User, "a".into())]);
    }
}

#[test]
fn a_document_with_each_message_on_a_line_is_still_one_document() {
    let text = "{\"messages\": [\n  {\"role\": \"user\", \"content\": \"a\"},\n  \
        {\"role\": \"assistant\", \"content\": \"b\", \"reasoning\": \"c\"}\n]}\n";
    let session = collect(&Source::stream(text.as_bytes()).unwrap(), Format::OpenAiMessages).remove(0);
    assert_eq!(
        said(&session.branches[0].messages),
        [(Role::User, "a".into()), (Role::Assistant, "b".into())]
    );
    assert_eq!(session.report.dropped, 0);
}

#[test]
fn of_an_export_that_breaks_off_the_messages_before_are_saved() {
    let opencode = json!({"info": {"id": "ses_1", "title": "T"}, "messages": [
        {"info": {"id": "msg_1", "role": "user"}, "parts": [{"type": "text", "text": "one"}]},
        {"info": {"id": "msg_2", "role": "user"}, "parts": [{"type": "text", "text": "two"}]},
    ]});
    let goose = json!({"id": "1", "working_dir": "/", "extension_data": {}, "conversation": [
        {"id": "m1", "role": "user", "created": 1, "content": [{"type": "text", "text": "one"}]},
        {"id": "m2", "role": "user", "created": 2, "content": [{"type": "text", "text": "two"}]},
    ]});
    let gemini = json!({"sessionId": "s", "projectHash": "h", "messages": [
        {"id": "1", "type": "user", "content": "one"}, {"id": "2", "type": "user", "content": "two"},
    ]});
    for (format, document) in [(Format::OpenCode, opencode), (Format::Goose, goose), (Format::Gemini, gemini)]
    {
        let text = document.to_string();
        let (beginning, _) = text.split_at(text.find("two").unwrap());
        let mut sink = Collector::default();
        read(&Source::stream(beginning.as_bytes()).unwrap(), Some(format), &mut sink).unwrap();
        let session = sink.sessions.remove(0);
        assert_eq!(said(&session.branches[0].messages), [(Role::User, "one".into())], "{format}");
        assert_eq!(session.report.dropped, 1, "{format}: {:?}", session.report);
    }
}

fn checkpoint(messages: &[(&str, &str, &str)]) -> Vec<u8> {
    let text = |text: &str| rmpv::Value::from(text);
    let map = |fields: Vec<(&str, rmpv::Value)>| {
        rmpv::Value::Map(fields.into_iter().map(|(key, value)| (text(key), value)).collect())
    };
    let message = |(id, kind, words): &(&str, &str, &str)| {
        map(vec![("id", text(id)), ("type", text(kind)), ("content", text(words))])
    };
    let messages = rmpv::Value::Array(messages.iter().map(message).collect());
    let state = map(vec![
        ("ts", text("2026-01-01T00:00:00Z")),
        ("channel_values", map(vec![("messages", messages)])),
    ]);
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &state).unwrap();
    bytes
}

#[test]
fn every_line_of_a_langgraph_thread_is_a_branch_with_its_messages() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoints.sqlite");
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch(
            "create table writes (thread_id text);
             create table checkpoints (thread_id text, checkpoint_ns text, checkpoint_id text,
                parent_checkpoint_id text, checkpoint blob);",
        )
        .unwrap();
    let (ask, go_on) = (("a", "human", "ask"), ("b", "ai", "answer"));
    let lines = [
        ("1", None, checkpoint(&[ask])),
        // Longer than the newest line, which lacks its end.
        ("2", Some("1"), checkpoint(&[ask, go_on, ("c", "human", "more")])),
        ("3", Some("1"), checkpoint(&[ask, ("d", "ai", "another answer")])),
        ("4", Some("1"), checkpoint(&[ask, go_on])),
    ];
    for (id, parent, state) in lines {
        database
            .execute("insert into checkpoints values ('t', '', ?1, ?2, ?3)", (id, parent, state))
            .unwrap();
    }
    drop(database);
    let session = collect(&Source::file(&path), Format::LangGraph).remove(0);
    let told: Vec<_> = session.branches.iter().map(|b| (b.parent, b.forked_at, said(&b.messages))).collect();
    let (user, model) = (Role::User, Role::Assistant);
    assert_eq!(
        told,
        [
            (None, 0, vec![(user, "ask".to_owned()), (model, "answer".to_owned())]),
            (Some(0), 2, vec![(user, "more".to_owned())]),
            (Some(0), 1, vec![(model, "another answer".to_owned())]),
        ]
    );
    assert_eq!(session.current, 0);
}
