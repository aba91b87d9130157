//! Tests of every reader, with small generated files and with real transcripts.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::Write;
use std::path::Path;

use hfs_core::{Flow, ImportEvent, ImportReceiver, MessageDraft, Part, Role, StoreError, Timestamp, Usage};
use hfs_exchange::{
    CollectedSession, Collector, Format, ReadSummary, Source, TranscriptOptions, UnreadReason, detect,
    discover, read, write_transcript,
};
use serde_json::{Value, json};

#[path = "support/sessions.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod sessions;
#[path = "support/samples.rs"]
mod support;

use sessions::collect_as;

fn texts_of(messages: &[MessageDraft]) -> Vec<(Role, String)> {
    messages.iter().map(|message| (message.role, message.text())).collect()
}

fn item(role: &str, text: &str) -> String {
    let kind = if role == "assistant" { "output_text" } else { "input_text" };
    let payload = json!({"type": "message", "role": role, "content": [{"type": kind, "text": text}]});
    json!({"timestamp": "2026-01-01T00:00:00Z", "type": "response_item", "payload": payload}).to_string()
}

#[test]
fn a_turn_that_codex_rolled_back_stays_on_its_branch() {
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
    let session = collect_as(&Source::stream(&compressed[..]).unwrap(), Format::Codex).remove(0);
    assert_eq!(session.branches[0].messages.len(), 4);
    assert_eq!((session.branches[1].forked_at, session.current), (2, 1));
    assert_eq!(texts_of(&session.branches[1].messages), [(Role::User, "three".into())]);
}

#[test]
fn tokens_that_codex_counts_after_the_results_of_calls_belong_to_the_reply() {
    let record = |kind: &str, payload: Value| {
        json!({"timestamp": "2026-01-01T00:00:00Z", "type": kind, "payload": payload}).to_string()
    };
    let tokens = |input: u64| {
        let usage = json!({"input_tokens": input, "cached_input_tokens": 60, "output_tokens": 10});
        record("event_msg", json!({"type": "token_count", "info": {"last_token_usage": usage}}))
    };
    let call = json!({"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "1"});
    let output = json!({"type": "function_call_output", "call_id": "1", "output": "a"});
    let lines = [
        record("turn_context", json!({"model": "gpt-5.2-codex"})),
        item("user", "look"),
        record("response_item", call),
        record("response_item", output),
        tokens(100),
        record("event_msg", json!({"type": "token_count", "info": null})),
        item("assistant", "done"),
        tokens(200),
    ];
    let session = collect_as(&Source::stream(lines.join("\n").as_bytes()).unwrap(), Format::Codex).remove(0);
    let counted: Vec<_> =
        session.messages().map(|message| (message.role, message.model.as_deref(), message.usage)).collect();
    let usage = |input| Some(Usage::new(input, 10).with_cache(Some(60), None));
    let model = Some("gpt-5.2-codex");
    assert_eq!(
        counted,
        [
            (Role::User, None, None),
            (Role::Assistant, model, usage(100)),
            (Role::Tool, None, None),
            (Role::Assistant, model, usage(200)),
        ]
    );
}

#[test]
fn bare_rollouts_are_read_and_a_call_without_text_becomes_a_message() {
    // In early 2025, Codex wrote items without an envelope.
    let lines = [
        json!({"id": "c1", "timestamp": "2025-05-01T00:00:00Z", "instructions": null}),
        json!({"record_type": "state"}),
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}),
        json!({"type": "function_call", "name": "shell", "arguments": "{\"cmd\":\"ls\"}", "call_id": "1"}),
        json!({"type": "function_call_output", "call_id": "1", "output": "a"}),
    ];
    let text = lines.map(|line| line.to_string()).join("\n");
    let session = collect_as(&Source::stream(text.as_bytes()).unwrap(), Format::Codex).remove(0);
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
fn the_archive_of_a_chatgpt_export_is_read() {
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
    let session = collect_as(&Source::file(file.path()), Format::ChatGpt).remove(0);
    assert_eq!(session.session.title.as_deref(), Some("T"));
    assert_eq!(
        texts_of(&session.branches[0].messages),
        [(Role::User, "ask".into()), (Role::Assistant, "once".into())]
    );
    assert_eq!(texts_of(&session.branches[1].messages), [(Role::Assistant, "again".into())]);
    assert_eq!(session.current, 1);
}

#[test]
fn the_python_database_is_read_with_its_write_ahead_log_and_left_untouched() {
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
    // `database` stays open, because closing it would move the log into the database file.
    let before: Vec<(std::ffi::OsString, u64)> = listing(folder.path());
    let session = collect_as(&Source::file(&path), Format::Python).remove(0);
    assert_eq!(listing(folder.path()), before);
    assert_eq!(session.session.title.as_deref(), Some("Old days"));
    let messages: Vec<(Role, String)> =
        session.messages().map(|message| (message.role, message.text())).collect();
    assert_eq!(messages, [(Role::User, "hello".into()), (Role::Assistant, "hi".into())]);
    assert_eq!((session.checkpoints[0].seq, session.checkpoints[0].trigger.as_str()), (1, "run.ended"));
    assert_eq!(session.checkpoints[0].state.plugins.get("hfs-python").unwrap(), &json!({"kept": 1}));
}

fn listing(folder: &Path) -> Vec<(std::ffi::OsString, u64)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), entry.metadata().unwrap().len()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_document_of_version_1_0_0_has_its_checkpoints_and_a_migration_warning() {
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
    let session = collect_as(&Source::stream(text.as_bytes()).unwrap(), Format::Hfs).remove(0);
    assert_eq!(session.session.title.as_deref(), Some("Plan"));
    let seqs: Vec<u64> = session.checkpoints.iter().map(|checkpoint| checkpoint.seq).collect();
    assert_eq!(seqs, [1, 2]);
    assert!(session.report.warnings.iter().any(|warning| warning.message.contains("1.0.0")));
    // The same document always becomes the same session.
    let again = collect_as(&Source::stream(text.as_bytes()).unwrap(), Format::Hfs).remove(0);
    assert_eq!(again.session.id, session.session.id);
    assert_eq!(again.session.origin, session.session.origin);
}

#[test]
fn a_document_without_a_version_is_read_in_both_of_its_shapes() {
    for text in [
        r#"{"messages":[{"role":"user","content":"a"}]}"#,
        r#"[{"role":"user","content":"a","created_at":"2026-01-01T00:00:00Z"}]"#,
    ] {
        let session = collect_as(&Source::stream(text.as_bytes()).unwrap(), Format::Hfs).remove(0);
        assert_eq!(texts_of(&session.branches[0].messages), [(Role::User, "a".into())]);
    }
}

#[test]
fn a_document_with_each_message_on_a_line_is_still_one_document() {
    let text = "{\"messages\": [\n  {\"role\": \"user\", \"content\": \"a\"},\n  \
        {\"role\": \"assistant\", \"content\": \"b\", \"reasoning\": \"c\"}\n]}\n";
    let session = collect_as(&Source::stream(text.as_bytes()).unwrap(), Format::OpenAiMessages).remove(0);
    assert_eq!(
        texts_of(&session.branches[0].messages),
        [(Role::User, "a".into()), (Role::Assistant, "b".into())]
    );
    assert_eq!(session.report.dropped, 0);
}

#[test]
fn the_beginning_of_a_truncated_export_is_imported() {
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
        let mut collector = Collector::default();
        read(&Source::stream(beginning.as_bytes()).unwrap(), Some(format), &mut collector).unwrap();
        let session = collector.sessions.remove(0);
        assert_eq!(texts_of(&session.branches[0].messages), [(Role::User, "one".into())], "{format}");
        assert_eq!(session.report.dropped, 1, "{format}: {:?}", session.report);
    }
}

/// Encodes a checkpoint whose messages have these ids, types and texts.
fn langgraph_checkpoint(messages: &[(&str, &str, &str)]) -> Vec<u8> {
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
fn every_history_of_a_langgraph_thread_is_a_branch() {
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
    let (ask, answer) = (("a", "human", "ask"), ("b", "ai", "answer"));
    let checkpoints = [
        ("1", None, langgraph_checkpoint(&[ask])),
        // This history continues the newest one, which ends at checkpoint 4, with one more message.
        ("2", Some("1"), langgraph_checkpoint(&[ask, answer, ("c", "human", "more")])),
        ("3", Some("1"), langgraph_checkpoint(&[ask, ("d", "ai", "another answer")])),
        ("4", Some("1"), langgraph_checkpoint(&[ask, answer])),
    ];
    for (id, parent, state) in checkpoints {
        database
            .execute("insert into checkpoints values ('t', '', ?1, ?2, ?3)", (id, parent, state))
            .unwrap();
    }
    drop(database);
    let session = collect_as(&Source::file(&path), Format::LangGraph).remove(0);
    let branches: Vec<_> =
        session.branches.iter().map(|b| (b.parent, b.forked_at, texts_of(&b.messages))).collect();
    let (user, model) = (Role::User, Role::Assistant);
    assert_eq!(
        branches,
        [
            (None, 0, vec![(user, "ask".to_owned()), (model, "answer".to_owned())]),
            (Some(0), 2, vec![(user, "more".to_owned())]),
            (Some(0), 1, vec![(model, "another answer".to_owned())]),
        ]
    );
    assert_eq!(session.current, 0);
}

#[test]
fn the_messages_of_a_langgraph_subgraph_are_a_branch_of_their_thread() {
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
    let (ask, answer) = (("a", "human", "ask"), ("b", "ai", "answer"));
    let (note, found) = (("n", "ai", "looking dotterel"), ("f", "ai", "found it"));
    for (namespace, id, parent, state) in [
        ("", "1", None, langgraph_checkpoint(&[ask])),
        ("research:11-22", "2", None, langgraph_checkpoint(&[ask, note])),
        ("research:11-22", "3", Some("2"), langgraph_checkpoint(&[ask, note, found])),
        ("research:11-22|deep:33", "4", None, langgraph_checkpoint(&[("x", "human", "deeper")])),
        ("", "5", Some("1"), langgraph_checkpoint(&[ask, answer])),
        ("other:44", "6", None, langgraph_checkpoint(&[ask, answer])),
    ] {
        let sql = "insert into checkpoints values ('t', ?1, ?2, ?3, ?4)";
        database.execute(sql, (namespace, id, parent, state)).unwrap();
    }
    drop(database);
    let session = collect_as(&Source::file(&path), Format::LangGraph).remove(0);
    let branches: Vec<_> =
        session.branches.iter().map(|b| (b.name.as_deref(), b.forked_at, texts_of(&b.messages))).collect();
    let (user, model) = (Role::User, Role::Assistant);
    assert_eq!(branches[0], (None, 0, vec![(user, "ask".to_owned()), (model, "answer".to_owned())]));
    let found = vec![(model, "looking dotterel".to_owned()), (model, "found it".to_owned())];
    assert_eq!(branches[1], (Some("research"), 1, found));
    assert_eq!(branches[2].0, Some("research/deep"));
    assert_eq!(branches[2].2, [(user, "deeper".to_owned())]);
    assert_eq!(branches.len(), 3, "a subgraph that shares its messages adds none");
    assert_eq!(session.current, 0);
}

#[test]
fn a_damaged_database_costs_the_rows_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch(
            "pragma page_size = 1024;
             create table sessions (id integer primary key, name text, created_at text, updated_at text);
             create table messages (id integer primary key, session_id integer, role text, content text, created_at text);
             create table checkpoints (id integer primary key, session_id integer, trigger_event text, state_json text, created_at text);
             insert into sessions values (1, 'First', '2026-01-01T00:00:00', null), (2, 'Second', '2026-01-02T00:00:00', null);",
        )
        .unwrap();
    for id in 1..=400 {
        let sql = "insert into messages values (?1, ?2, 'user', ?3, '2026-01-01T00:00:01')";
        database.execute(sql, (id, 1 + id % 2, format!("text {id} {}", "x".repeat(100)))).unwrap();
    }
    drop(database);
    let whole = collect_as(&Source::file(&path), Format::Python);
    assert_eq!(whole.iter().map(|session| session.messages().count()).collect::<Vec<_>>(), [200, 200]);

    let bytes = fs::read(&path).unwrap();
    // A page with rows in the middle of the table.
    let text = b"text 200 ";
    let at = bytes.windows(text.len()).position(|found| found == text).unwrap();
    let page = at / 1024 * 1024;
    let mut damaged = bytes.clone();
    damaged[page..page + 1024].fill(0xa5);
    fs::write(&path, &damaged).unwrap();
    let session = collect_as(&Source::file(&path), Format::Python);
    let counts: Vec<usize> = session.iter().map(|session| session.messages().count()).collect();
    assert!(counts.iter().all(|count| (185..200).contains(count)), "{counts:?}");
    for session in &session {
        assert_eq!(session.report.dropped, 1);
        let warning = &session.report.warnings.last().unwrap().message;
        assert!(warning.contains("rows of messages cannot be read"), "{warning}");
    }

    // The file ends early.
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let sessions = collect_as(&Source::file(&path), Format::Python);
    let count: usize = sessions.iter().map(|session| session.messages().count()).sum();
    assert!((100..350).contains(&count), "{count}");

    // Not even its tables can be read.
    damaged[100..1024].fill(0xa5);
    fs::write(&path, &damaged).unwrap();
    let found = discover(folder.path()).unwrap();
    assert_eq!((found.sources.len(), found.skipped.len()), (1, 0), "it is not skipped silently");
    let error = read(&found.sources[0], None, &mut Collector::default()).unwrap_err();
    assert!(error.to_string().contains("a database so damaged"), "{error}");
}

/// Creates a database of the Python implementation, with three sessions. The first has one message, the second none, and the
/// third 400 messages. Executes `change`, and then damages a page in the middle of the third session.
fn damaged_database(path: &Path, change: &str) {
    let database = rusqlite::Connection::open(path).unwrap();
    database
        .execute_batch(
            "pragma page_size = 1024;
             create table sessions (id integer primary key, name text, created_at text, updated_at text);
             create table messages (id integer primary key, session_id integer, role text, content text, created_at text);
             create index messages_of_session on messages (session_id);
             create table checkpoints (id integer primary key, session_id integer, trigger_event text, state_json text, created_at text);
             insert into sessions values (1, 'First', '2026-01-01T00:00:00', null), (2, 'Empty', '2026-01-02T00:00:00', null),
                (3, 'Third', '2026-01-03T00:00:00', null);",
        )
        .unwrap();
    for id in 1..=401 {
        let sql = "insert into messages values (?1, ?2, 'user', ?3, '2026-01-01T00:00:01')";
        let session = if id == 1 { 1 } else { 3 };
        database.execute(sql, (id, session, format!("text {id} {}", "x".repeat(100)))).unwrap();
    }
    database.execute_batch(change).unwrap();
    drop(database);
    let mut bytes = fs::read(path).unwrap();
    let text = b"text 200 ";
    let page = bytes.windows(text.len()).position(|found| found == text).unwrap() / 1024 * 1024;
    bytes[page..page + 1024].fill(0xa5);
    fs::write(path, &bytes).unwrap();
}

#[test]
fn a_row_with_text_that_is_not_utf8_is_read_from_a_damaged_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    damaged_database(&path, "update messages set content = cast(x'61ff62' as text) where id = 1");
    let sessions = collect_as(&Source::file(&path), Format::Python);
    let counts: Vec<usize> = sessions.iter().map(|session| session.messages().count()).collect();
    assert_eq!(sessions[0].messages().map(MessageDraft::text).collect::<Vec<_>>(), ["a\u{fffd}b"]);
    assert!(counts.len() == 2 && (385..400).contains(&counts[1]), "{counts:?}");
}

/// Wants none of the sessions with this title.
struct Skipping<'a> {
    title: &'a str,
    ends: u64,
}

impl ImportReceiver for Skipping<'_> {
    fn receive(&mut self, event: ImportEvent) -> Result<Flow, StoreError> {
        self.ends += u64::from(matches!(event, ImportEvent::End(_)));
        Ok(match event {
            ImportEvent::Session(session) if session.title.as_deref() == Some(self.title) => {
                Flow::SkipSession
            }
            _ => Flow::Continue,
        })
    }

    fn progress(&mut self, _: u64) -> Flow {
        Flow::Continue
    }
}

#[test]
fn skipped_and_empty_sessions_are_counted_once_when_a_damaged_database_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    damaged_database(&path, "");
    let mut receiver = Skipping { title: "First", ends: 0 };
    let summary = read(&Source::file(&path), Some(Format::Python), &mut receiver).unwrap();
    assert_eq!(summary, ReadSummary { sessions: 2, empty_sessions: 1, ..ReadSummary::default() });
    assert_eq!(receiver.ends, 1, "the third session is complete once");
}

#[test]
fn an_element_that_is_not_balanced_costs_itself_only() {
    let conversation = |id: usize| {
        let text = |id: &str, sender: &str, text: &str| json!({"uuid": id, "text": text, "sender": sender, "created_at": "2026-01-01T00:00:00Z"});
        let messages = [text("m1", "human", "ask"), text("m2", "assistant", "answer")];
        json!({"uuid": format!("c{id}"), "name": format!("Name {id}"), "chat_messages": messages}).to_string()
    };
    let damaged = conversation(2).replacen("]}", "", 1);
    let text = format!("[{}, {damaged}, {}, {}]", conversation(1), conversation(3), conversation(4));
    let sessions = collect_as(&Source::stream(text.as_bytes()).unwrap(), Format::ClaudeAi);
    let ids: Vec<&str> = sessions.iter().map(|session| session.session.origin.id.as_str()).collect();
    assert_eq!(ids, ["c1", "c3", "c4"]);
    assert_eq!(sessions[0].report.dropped, 1, "{:?}", sessions[0].report);

    let message = |role: &str, text: &str| json!({"role": role, "content": text}).to_string();
    let damaged = "{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"lost\"}";
    let text = format!("[{}, {damaged}, {}]", message("user", "first"), message("assistant", "last"));
    let session = collect_as(&Source::stream(text.as_bytes()).unwrap(), Format::OpenAiMessages).remove(0);
    assert_eq!(session.messages().map(MessageDraft::text).collect::<Vec<_>>(), ["first", "last"]);
    assert_eq!(session.report.dropped, 1);
}

#[test]
fn a_subagent_of_codex_belongs_to_the_session_that_started_it() {
    let id = |number: u32| format!("019c1a00-0001-7000-8000-00000000000{number}");
    let item = |second: u32, payload: Value| json!({"timestamp": format!("2026-01-01T00:00:{second:02}Z"), "type": "response_item", "payload": payload});
    let said = |second: u32, role: &str, text: &str| {
        item(
            second,
            json!({"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}),
        )
    };
    let meta = |second: u32, number: u32, source: Value| {
        json!({"timestamp": format!("2026-01-01T00:00:{second:02}Z"), "type": "session_meta", "payload":
            {"id": id(number), "timestamp": format!("2026-01-01T00:00:{second:02}Z"), "cwd": "/p", "source": source}})
    };
    let spawned = |parent: u32, name: &str| json!({"subagent": {"thread_spawn": {"parent_thread_id": id(parent), "depth": 1, "agent_nickname": name}}});
    let call = |second: u32, call: &str| {
        item(
            second,
            json!({"type": "function_call", "name": "spawn_agent", "arguments": "{}", "call_id": call}),
        )
    };
    let output = |second: u32, call: &str, output: Value| {
        let output = output.to_string();
        item(second, json!({"type": "function_call_output", "call_id": call, "output": output}))
    };
    let main = [
        meta(0, 1, json!("cli")),
        said(1, "user", "delegate it"),
        call(2, "c1"),
        output(3, "c1", json!({"agent_id": id(2)})),
        call(10, "c2"),
        output(11, "c2", json!({"nickname": "Kepler"})),
        said(20, "assistant", "all done"),
    ];
    let named = [
        meta(4, 2, spawned(1, "Gauss")),
        said(5, "user", "task oriole"),
        call(6, "c3"),
        output(7, "c3", json!({"agent_id": id(4)})),
    ];
    let unnamed = [meta(12, 3, spawned(1, "Kepler")), said(13, "user", "task plover")];
    let nested = [meta(8, 4, spawned(2, "Noether")), said(9, "user", "task avocet")];
    let other = [meta(14, 5, json!("cli")), said(15, "user", "another session")];
    let folder = tempfile::tempdir().unwrap();
    let (today, tomorrow) = (folder.path().join("01"), folder.path().join("02"));
    fs::create_dir_all(&today).unwrap();
    fs::create_dir_all(&tomorrow).unwrap();
    for (number, records, folder) in [
        (1, &main[..], &today),
        (2, &named, &today),
        (3, &unnamed, &tomorrow),
        (4, &nested, &today),
        (5, &other, &today),
    ] {
        let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
        fs::write(folder.join(format!("rollout-2026-01-01T00-00-0{number}-{}.jsonl", id(number))), lines)
            .unwrap();
    }
    let sources = discover(folder.path()).unwrap().sources;
    assert_eq!(sources.len(), 2, "{sources:?}");
    let session = collect_as(&sources[0], Format::Codex).remove(0);
    let branches: Vec<_> = session
        .branches
        .iter()
        .map(|b| (b.name.as_deref(), b.parent, b.forked_at, b.messages.first().unwrap().text()))
        .collect();
    assert_eq!(branches[0], (None, None, 0, "delegate it".to_owned()));
    assert_eq!(branches[1], (Some("Gauss"), Some(0), 2, "task oriole".to_owned()));
    assert_eq!(branches[2], (Some("Noether"), Some(1), 4, "task avocet".to_owned()));
    assert_eq!(branches[3], (Some("Kepler"), Some(0), 4, "task plover".to_owned()));
    assert_eq!(session.current, 0);
    assert!(
        session.branches[1].messages.iter().all(|message| message.has_flag(hfs_core::MessageFlag::Sidechain))
    );
    let alone = &discover(sources[0].path().unwrap()).unwrap().sources[0];
    assert_eq!(alone.companions().len(), 2, "those in the same folder");
}

fn record(kind: &str, uuid: &str, parent: Option<&str>, side: bool, content: &Value) -> String {
    let message = json!({"role": kind, "content": content});
    json!({
        "type": kind, "uuid": uuid, "parentUuid": parent, "isSidechain": side, "sessionId": "s",
        "timestamp": "2026-01-01T00:00:00Z", "message": message,
    })
    .to_string()
}

#[test]
fn a_subagent_is_a_branch_that_forks_where_it_was_started() {
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

    let sources = discover(folder.path()).unwrap().sources;
    assert_eq!(sources.len(), 1);
    let alone = discover(&folder.path().join("s.jsonl")).unwrap().sources;
    assert_eq!(alone[0].companions(), sources[0].companions(), "a file named alone has the same companions");
    let mut collector = Collector::default();
    read(&sources[0], None, &mut collector).unwrap();
    let session = &collector.sessions[0];
    assert_eq!(session.current, 0);
    assert_eq!(session.branches[0].messages.len(), 4);
    let branch = &session.branches[1];
    assert_eq!((branch.parent, branch.forked_at, branch.name.as_deref()), (Some(0), 2, Some("agent-7")));
    let texts: Vec<String> = branch.messages.iter().map(MessageDraft::text).collect();
    assert_eq!(texts, ["explore", "found"]);
    assert_eq!(session.report.records, 6);
}

#[test]
fn a_long_tool_result_is_read_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("s/tool-results");
    fs::create_dir_all(&saved).unwrap();
    fs::write(saved.join("b1.txt"), "all of it").unwrap();
    fs::write(saved.join("call-2.txt"), "of the second").unwrap();
    fs::write(folder.path().join("s/secret.txt"), "not to be read").unwrap();
    let result =
        |call: &str, text: &str| json!([{"type": "tool_result", "tool_use_id": call, "content": text}]);
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
    let mut collector = Collector::default();
    read(&discover(folder.path()).unwrap().sources[0], None, &mut collector).unwrap();
    let document = collector.sessions.remove(0).into_document(Timestamp::UNIX_EPOCH);
    let texts: Vec<String> = document
        .attachments
        .iter()
        .map(|attachment| String::from_utf8(attachment.bytes.clone()).unwrap())
        .collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts.contains(&"all of it".into()) && texts.contains(&"of the second".into()), "{texts:?}");

    // An export restores the transcript.
    let mut written = Vec::new();
    write_transcript(&document, Format::ClaudeCode, TranscriptOptions::default(), &mut written).unwrap();
    let values =
        |text: &str| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    assert_eq!(values(&String::from_utf8(written).unwrap()), values(&lines.join("\n")));
}

#[test]
fn files_of_other_programs_are_skipped_and_damaged_transcripts_are_not() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("settings.json"), r#"{"theme":"dark"}"#).unwrap();
    fs::write(folder.path().join("history.jsonl"), "{\"display\":\"x\"}\n").unwrap();
    fs::write(folder.path().join("empty.jsonl"), "").unwrap();
    fs::write(folder.path().join("garbage.jsonl"), "\u{1}\u{2} nothing of this is JSON").unwrap();
    fs::write(folder.path().join("tsconfig.json"), "// a comment\n{\"a\": 1, /* b */}").unwrap();
    fs::write(folder.path().join("notes.txt"), "words").unwrap();
    let discovery = discover(folder.path()).unwrap();
    let sources = discovery.sources;
    assert_eq!(sources.len(), 1);
    let skipped: Vec<(String, UnreadReason)> = discovery
        .skipped
        .into_iter()
        .map(|skipped| (skipped.path.file_name().unwrap().to_string_lossy().into_owned(), skipped.reason))
        .collect();
    let expected = [
        ("empty.jsonl", UnreadReason::Empty),
        ("history.jsonl", UnreadReason::NotATranscript),
        ("notes.txt", UnreadReason::NotATranscript),
        ("settings.json", UnreadReason::NotATranscript),
        ("tsconfig.json", UnreadReason::NotATranscript),
    ];
    assert_eq!(skipped, expected.map(|(name, reason)| (name.to_owned(), reason)));
    let error = read(&sources[0], None, &mut Collector::default()).unwrap_err();
    assert!(error.to_string().contains("garbage.jsonl"), "{error}");
}

/// Imports a Claude Code transcript with these records.
fn claude_code(records: &[Value]) -> CollectedSession {
    let text: String = records.iter().map(|record| format!("{record}\n")).collect();
    collect_as(&Source::stream(text.as_bytes()).unwrap(), Format::ClaudeCode).remove(0)
}

/// Asserts that an export restores the records, whatever their order. The records of a message are written together.
fn assert_restores(session: CollectedSession, records: &[Value]) {
    let document = session.into_document(Timestamp::UNIX_EPOCH);
    let mut written = Vec::new();
    write_transcript(&document, Format::ClaudeCode, TranscriptOptions::default(), &mut written).unwrap();
    let written = String::from_utf8(written).unwrap();
    let mut restored: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut records = records.to_vec();
    restored.sort_by_key(|record| record["uuid"].to_string());
    records.sort_by_key(|record| record["uuid"].to_string());
    assert_eq!(restored, records);
}

fn value(kind: &str, uuid: &str, parent: Option<&str>, content: &Value) -> Value {
    serde_json::from_str(&record(kind, uuid, parent, false, content)).unwrap()
}

/// An assistant's record with this message id.
fn answer(uuid: &str, parent: &str, id: &str, stop: Option<&str>, content: &Value) -> Value {
    let mut record = value("assistant", uuid, Some(parent), content);
    record["message"]["id"] = json!(id);
    record["message"]["stop_reason"] = json!(stop);
    record
}

fn text_block(text: &str) -> Value {
    json!([{"type": "text", "text": text}])
}

#[test]
fn a_prompt_that_waited_in_the_queue_is_a_message_of_the_user() {
    let png =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    let queued = |uuid: &str, parent: &str, prompt: Value| {
        json!({
            "parentUuid": parent, "type": "attachment", "uuid": uuid, "sessionId": "s",
            "timestamp": "2026-01-01T00:00:00Z",
            "attachment": {"type": "queued_command", "prompt": prompt, "commandMode": "prompt"},
        })
    };
    let picture = json!([
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png}},
        {"type": "text", "text": "what is this"},
    ]);
    let records = [
        value("user", "u1", None, &json!("start")),
        value("assistant", "a1", Some("u1"), &text_block("running")),
        queued("q1", "a1", json!("and check this")),
        value("assistant", "a2", Some("q1"), &text_block("checked")),
        queued("q2", "a2", picture),
        json!({"type": "attachment", "uuid": "x", "parentUuid": "q2", "attachment": {"type": "todo"}}),
        value("assistant", "a3", Some("x"), &text_block("seen")),
    ];
    let session = claude_code(&records);
    let texts = texts_of(&session.branches[0].messages);
    let (user, model) = (Role::User, Role::Assistant);
    let expected = [
        (user, "start"),
        (model, "running"),
        (user, "and check this"),
        (model, "checked"),
        (user, "what is this"),
        (model, "seen"),
    ];
    assert_eq!(texts, expected.map(|(role, text)| (role, text.to_owned())));
    assert_eq!((session.branches.len(), session.attachments.len()), (1, 1));
    assert_restores(session, &records);
}

#[test]
fn messages_with_one_id_are_divided_by_what_the_user_said() {
    let result = json!([{"type": "tool_result", "tool_use_id": "t", "content": "done"}]);
    let call = |id: &str| json!([{"type": "tool_use", "id": id, "name": "Bash", "input": {}}]);
    let texts = |records: &[Value]| {
        let session = claude_code(records);
        let roles: String =
            session.messages().map(|message| message.role.as_str().chars().next().unwrap()).collect();
        assert_restores(session, records);
        roles
    };
    // A proxy gives every message the same id.
    let records = [
        value("user", "u1", None, &json!("one")),
        answer("a1", "u1", "m", Some("tool_use"), &call("t")),
        value("user", "u2", Some("a1"), &result),
        answer("a2", "u2", "m", Some("end_turn"), &text_block("first")),
        value("user", "u3", Some("a2"), &json!("two")),
        answer("a3", "u3", "m", Some("end_turn"), &text_block("second")),
    ];
    assert_eq!(texts(&records), "uataua");
    // Tools run while a message is written.
    let records = [
        value("user", "u1", None, &json!("one")),
        answer("a1", "u1", "m", None, &json!([{"type": "thinking", "thinking": "hm", "signature": "s"}])),
        answer("a2", "a1", "m", None, &call("t")),
        value("user", "u2", Some("a2"), &result),
        answer("a3", "u2", "m", Some("tool_use"), &call("t2")),
    ];
    assert_eq!(texts(&records), "uat");
}

#[test]
fn resources_and_structured_content_of_a_result_are_text() {
    let content = json!([
        {"type": "text", "text": "downloaded"},
        {"type": "resource", "resource": {"uri": "repo://a", "mimeType": "text/plain", "text": "the body"}},
        {"type": "resource", "resource": {"uri": "repo://b", "blob": "AAAA"}},
        {"type": "resource_link", "uri": "probe://link", "name": "linked"},
    ]);
    let block = json!([{"type": "tool_result", "tool_use_id": "t", "content": content}]);
    let mut structured = value("user", "u2", Some("u1"), &block);
    structured["mcpMeta"] = json!({"structuredContent": {"projects": [{"name": "listed"}]}});
    let plain = json!([{"type": "tool_result", "tool_use_id": "t", "content": "short"}]);
    let mut plain = value("user", "u3", Some("u2"), &plain);
    plain["mcpMeta"] = json!({"structuredContent": [1, 2]});
    let records = [value("user", "u1", None, &json!("go")), structured, plain];
    let session = claude_code(&records);
    let outputs: Vec<&str> = session
        .messages()
        .flat_map(|message| &message.parts)
        .filter_map(|part| match part {
            Part::ToolResult { output, .. } => Some(output.as_str()),
            _ => None,
        })
        .collect();
    let first = "downloaded\nthe body\nlinked: probe://link\n{\"projects\":[{\"name\":\"listed\"}]}";
    assert_eq!(outputs, [first, "short\n[1,2]"]);
    assert_restores(session, &records);
}

#[test]
fn every_agent_below_the_folder_of_a_session_belongs_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("s/subagents/workflows/wf_1");
    fs::create_dir_all(&deep).unwrap();
    fs::write(folder.path().join("s.jsonl"), record("user", "u1", None, false, &json!("run"))).unwrap();
    fs::write(deep.join("agent-b.jsonl"), record("user", "x1", None, true, &json!("deep"))).unwrap();
    fs::write(deep.join("journal.jsonl"), "{\"type\":\"started\"}\n").unwrap();
    let found = discover(folder.path()).unwrap();
    assert_eq!(found.sources.len(), 1);
    let owner = folder.path().join("s.jsonl");
    assert_eq!(found.skipped.len(), 1);
    assert_eq!(found.skipped[0].reason, UnreadReason::PartOf(owner.clone()));
    let alone = discover(&owner).unwrap().sources;
    assert_eq!(alone[0].companions(), found.sources[0].companions());
    let session = collect_as(&found.sources[0], Format::ClaudeCode).remove(0);
    assert_eq!(session.messages().map(MessageDraft::text).collect::<Vec<_>>(), ["run", "deep"]);

    // The same files, compressed.
    for path in [&owner, &deep.join("agent-b.jsonl")] {
        let compressed = zstd::encode_all(fs::read(path).unwrap().as_slice(), 3).unwrap();
        fs::write(path.with_extension("jsonl.zst"), compressed).unwrap();
        fs::remove_file(path).unwrap();
    }
    let found = discover(folder.path()).unwrap();
    assert_eq!(found.sources.len(), 1);
    let alone = discover(&folder.path().join("s.jsonl.zst")).unwrap().sources;
    assert_eq!(alone[0].companions(), found.sources[0].companions());
    let session = collect_as(&found.sources[0], Format::ClaudeCode).remove(0);
    assert_eq!(session.messages().map(MessageDraft::text).collect::<Vec<_>>(), ["run", "deep"]);
    assert_eq!(session.branches[1].name.as_deref(), Some("agent-b"));
}

#[test]
fn links_and_special_files_in_a_folder_are_listed_and_never_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("key.txt"), "PRIVATE KEY").unwrap();
    fs::write(outside.path().join("other.jsonl"), record("user", "o1", None, false, &json!("outside")))
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let link = |target: &Path, name: &str| std::os::unix::fs::symlink(target, path(name)).unwrap();
    fs::create_dir_all(path("s/tool-results")).unwrap();
    let result = |call: &str| json!([{"type": "tool_result", "tool_use_id": call, "content": "short"}]);
    let lines = [
        record("user", "u1", None, false, &result("key")),
        record("user", "u2", Some("u1"), false, &result("fifo")),
    ];
    for name in ["s.jsonl", "t.jsonl"] {
        fs::write(path(name), lines.join("\n")).unwrap();
    }
    link(&outside.path().join("key.txt"), "s/tool-results/key.txt");
    // The whole folder of the second session is a link.
    fs::create_dir(outside.path().join("tool-results")).unwrap();
    fs::write(outside.path().join("tool-results/key.txt"), "PRIVATE KEY").unwrap();
    link(outside.path(), "t");
    link(&outside.path().join("other.jsonl"), "linked.jsonl");
    link(folder.path(), "s/loop");
    for name in ["pipe.jsonl", "s/tool-results/fifo.txt"] {
        let status = std::process::Command::new("mkfifo").arg(path(name)).status().unwrap();
        assert!(status.success());
    }
    let found = discover(folder.path()).unwrap();
    let mut reasons: Vec<(String, UnreadReason)> = found
        .skipped
        .into_iter()
        .map(|skipped| {
            (skipped.path.strip_prefix(folder.path()).unwrap().display().to_string(), skipped.reason)
        })
        .collect();
    reasons.sort_by(|first, second| first.0.cmp(&second.0));
    let expected = [
        ("linked.jsonl", UnreadReason::Link),
        ("pipe.jsonl", UnreadReason::Special),
        ("s/loop", UnreadReason::Link),
        ("s/tool-results/fifo.txt", UnreadReason::Special),
        ("s/tool-results/key.txt", UnreadReason::Link),
        ("t", UnreadReason::Link),
    ];
    assert_eq!(reasons, expected.map(|(name, reason)| (name.to_owned(), reason)));
    assert_eq!(found.sources.len(), 2);
    for source in &found.sources {
        let session = collect_as(source, Format::ClaudeCode).remove(0);
        assert!(session.attachments.is_empty());
        assert!(!format!("{session:?}").contains("PRIVATE"));
    }
}

#[test]
fn a_storage_folder_leads_to_no_file_outside_of_it() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("m.json"), r#"{"id":"m","role":"user","secret":"PRIVATE"}"#).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["session/p", "message/ses_1", "part/msg_1"] {
        fs::create_dir_all(path(name)).unwrap();
    }
    let absolute = json!({"id": outside.path().to_str().unwrap(), "title": "T"});
    fs::write(path("session/p/ses_0.json"), absolute.to_string()).unwrap();
    fs::write(path("session/p/ses_1.json"), r#"{"id":"ses_1","title":"T"}"#).unwrap();
    fs::write(path("session/p/ses_2.json"), r#"{"id":"../../x","title":"T"}"#).unwrap();
    fs::write(path("message/ses_1/msg_1.json"), r#"{"id":"msg_1","role":"user"}"#).unwrap();
    fs::write(path("part/msg_1/prt_1.json"), r#"{"id":"prt_1","type":"text","text":"inside"}"#).unwrap();
    std::os::unix::fs::symlink(outside.path().join("m.json"), path("message/ses_1/msg_2.json")).unwrap();
    std::os::unix::fs::symlink(outside.path(), path("message/linked")).unwrap();
    let found = discover(folder.path()).unwrap().sources;
    let mut collector = Collector::default();
    read(&found[0], None, &mut collector).unwrap();
    assert_eq!(collector.sessions.len(), 1);
    assert_eq!(collector.sessions[0].messages().map(MessageDraft::text).collect::<Vec<_>>(), ["inside"]);
    assert!(!format!("{:?}", collector.sessions).contains("PRIVATE"));
}

#[test]
fn a_transcript_without_messages_is_left_out_and_a_misread_one_is_an_error() {
    let mut collector = Collector::default();
    let summary = "{\"type\":\"summary\",\"summary\":\"words\",\"leafUuid\":\"x\"}\n";
    let found = read(&Source::stream(summary.as_bytes()).unwrap(), None, &mut collector).unwrap();
    assert_eq!(
        (found, collector.sessions.len()),
        (ReadSummary { empty_sessions: 1, ..ReadSummary::default() }, 0)
    );
    let misread = "{\"type\":\"user\",\"uuid\":\"u\",\"parts\":[{\"text\":\"hi\"}]}\n";
    let source = Source::stream(misread.as_bytes()).unwrap();
    let error = read(&source, Some(Format::ClaudeCode), &mut collector).unwrap_err().to_string();
    assert!(error.contains("claude-code") && error.contains("parts"), "{error}");
}

/// A transcript of each format of files, as its tool leaves it before the first message.
const WITHOUT_MESSAGES: [(&str, &str); 14] = [
    ("summary.jsonl", r#"{"type":"summary","summary":"words","leafUuid":"x"}"#),
    ("snapshot.jsonl", r#"{"type":"file-history-snapshot","messageId":"x","snapshot":{}}"#),
    ("pi.jsonl", r#"{"type":"session","version":3,"id":"s","timestamp":"2026-01-01T00:00:00Z","cwd":"/w"}"#),
    (
        "rollout-2026-01-01T10-00-00-019c1a00-0001-7000-8000-000000000001.jsonl",
        r#"{"timestamp":"2026-01-01T00:00:00Z","type":"session_meta","payload":{"id":"019c1a00-0001-7000-8000-000000000001"}}"#,
    ),
    (
        "gemini.jsonl",
        r#"{"sessionId":"s","projectHash":"h","startTime":"2026-01-01T10:00:00Z","kind":"main"}"#,
    ),
    ("gemini.json", r#"{"sessionId":"s","projectHash":"h","messages":[]}"#),
    ("events.jsonl", r#"{"type":"session.start","id":"e","data":{},"timestamp":"2026-01-01T00:00:00Z"}"#),
    ("qwen.jsonl", r#"{"uuid":"u","sessionId":"s","type":"system","subtype":"x","systemPayload":{}}"#),
    ("opencode.json", r#"{"info":{"id":"ses_1","title":"t","time":{"created":1}},"messages":[]}"#),
    ("openai.json", r#"{"messages":[]}"#),
    ("request.json", r#"{"model":"m","messages":[]}"#),
    ("chatgpt.json", r#"[{"title":"x","create_time":1.0,"mapping":{}}]"#),
    ("claude-ai.json", r#"[{"uuid":"u","name":"n","chat_messages":[]}]"#),
    ("aider.md", "# aider chat started at 2026-01-01 10:00:00\n"),
];

#[test]
fn a_transcript_of_any_format_without_messages_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in WITHOUT_MESSAGES {
        let path = folder.path().join(name);
        fs::write(&path, format!("{text}\n")).unwrap();
        let mut collector = Collector::default();
        let found = read(&Source::file(&path), None, &mut collector);
        let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((found.sessions, found.empty_sessions), (0, 1), "{name}");
        assert!(collector.sessions.is_empty(), "{name}");
    }
}

fn count_role(session: &CollectedSession, role: Role) -> usize {
    session.messages().filter(|message| message.role == role).count()
}

fn count_parts(session: &CollectedSession, wanted: fn(&Part) -> bool) -> usize {
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

/// Formats a time with milliseconds, as in `expected.json`: rounded for ChatGPT, which exports times as
/// floating-point numbers, and truncated for all other formats.
fn time(time: Option<Timestamp>, format: Format) -> Value {
    let round = if format == Format::ChatGpt { 500 } else { 0 };
    time.map_or(Value::Null, |time| {
        let millis = Timestamp::from_millis((time.as_micros() + round).div_euclid(1000)).unwrap();
        json!(millis.to_jiff().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
    })
}

fn flagged(session: &CollectedSession, flag: &str) -> usize {
    let has = |message: &&MessageDraft| {
        message.extra.get("flags").and_then(Value::as_array).is_some_and(|flags| flags.contains(&json!(flag)))
    };
    session.messages().filter(has).count()
}

/// Summarizes a session in the format of `expected.json`.
fn summarize(session: &CollectedSession, format: Format) -> Value {
    let branches = session.branches.len();
    // The expected results of a LangGraph thread include only its newest history, which is the first branch.
    let newest = (format == Format::LangGraph).then(|| {
        let mut newest = session.clone();
        newest.branches.truncate(1);
        newest
    });
    // The expected results count prompts that waited in the queue as records that are not messages.
    let mut session = newest.as_ref().unwrap_or(session).clone();
    for branch in &mut session.branches {
        branch.messages.retain(|message| {
            let records = message.extra.get("records").and_then(Value::as_array);
            !records.is_some_and(|records| records.iter().any(|record| record["type"] == "attachment"))
        });
    }
    let session = &session;
    let messages = session.messages().count();
    let mut summary = json!({
        "messages": messages,
        "by_role": {
            "user": count_role(session, Role::User),
            "assistant": count_role(session, Role::Assistant),
            "system": count_role(session, Role::System),
            "tool": count_role(session, Role::Tool),
        },
        "tool_calls": count_parts(session, |part| matches!(part, Part::ToolCall { .. })),
        "thinking_parts": count_parts(session, |part| matches!(part, Part::Thinking { .. })),
        "image_parts": count_parts(session, |part| {
            matches!(part, Part::Attachment { media_type, .. } if media_type.starts_with("image"))
        }),
        "text_chars": session.messages().map(text_chars).sum::<usize>(),
        "branches": if messages == 0 { 0 } else { branches },
        "title": session.session.title,
        "first_ts": time(session.session.created_at, format),
        "last_ts": time(session.session.updated_at, format),
    });
    if format == Format::Aider {
        // The expected times are local, as in the file.
        let local = |at: Timestamp| {
            let local = at.to_jiff().to_zoned(jiff::tz::TimeZone::system());
            json!(local.strftime("%Y-%m-%dT%H:%M:%S").to_string())
        };
        summary["started_local"] = session.session.created_at.map_or(Value::Null, local);
        for key in ["first_ts", "last_ts"] {
            summary.as_object_mut().unwrap().remove(key);
        }
    }
    if format == Format::ClaudeCode {
        summary["sidechain_messages"] = json!(flagged(session, "sidechain"));
        summary["compact_summaries"] = json!(flagged(session, "compact-summary"));
    }
    summary
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

fn check_report(at: &str, session: &CollectedSession, expected: &Value, all: &mut Vec<String>) {
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
    let empty_sessions = match read(&source, Some(format), &mut found) {
        Ok(read) => read.empty_sessions,
        Err(error) => {
            all.push(format!("{name}: {error}"));
            return;
        }
    };
    // A transcript without messages is skipped.
    let has_messages = |session: &&Value| session["messages"] != json!(0);
    let all_sessions = expected["sessions"].as_array().unwrap();
    let sessions: Vec<&Value> = all_sessions.iter().filter(has_messages).collect();
    let total = match format {
        // The table lists only the first sessions. Those with messages have one branch each.
        Format::Aider => expected["total"]["branches"].as_u64().unwrap(),
        _ => expected["total"]["sessions"].as_u64().unwrap() - empty_sessions,
    };
    if expected["bytes"] != json!(0) && found.sessions.len() as u64 != total {
        all.push(format!("{name}: {} sessions, expected {total}", found.sessions.len()));
    }
    for (number, (session, expected)) in found.sessions.iter().zip(sessions).enumerate() {
        let at = format!("{name}[{number}]");
        differences(&at, expected, &summarize(session, format), all);
        check_report(&at, session, expected, all);
    }
    let sum =
        |key: &str| found.sessions.iter().map(|s| summarize(s, format)[key].as_u64().unwrap()).sum::<u64>();
    let mut total = expected["total"].clone();
    if format == Format::Aider {
        // The table counts headings and quotations in nine answers as lines of the user and of aider.
        total["messages"] = json!(2966);
        total["text_chars"] = json!(2_754_232);
    }
    for key in ["messages", "tool_calls", "thinking_parts", "image_parts", "text_chars", "branches"] {
        if json!(sum(key)) != total[key] {
            all.push(format!("{name}: {key} is {} in all, expected {}", sum(key), total[key]));
        }
    }
}

#[test]
fn every_sample_is_imported_with_the_expected_counts() {
    let Some(folder) = support::samples() else { return };
    let text = fs::read_to_string(folder.join("expected.json")).unwrap();
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
