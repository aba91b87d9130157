//! Tests of the readers for transcripts that other tools wrote; see `fixtures/README.md`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use hfs_core::{ImportError, MessageDraft, Part, Role, Timestamp, Usage};
use hfs_exchange::{CollectedSession, Collector, Format, Source, detect, discover, read};
use serde_json::{Value, json};

#[path = "support/sessions.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod support;

use support::open_line;

fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder)
}

/// Reads a source, and checks that the ids of its messages are unique.
fn collect(source: &Source) -> Vec<CollectedSession> {
    let sessions = support::collect(source);
    for session in &sessions {
        let mut ids: Vec<&str> =
            session.messages().map(|message| message.source.as_ref().unwrap().id.as_str()).collect();
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count, "ids of messages are unique: {ids:?}");
    }
    sessions
}

/// The sessions of the transcripts in a folder of the fixtures, which all have this format.
fn sessions(folder: &str, format: Format) -> Vec<CollectedSession> {
    let sources = discover(&fixtures(folder)).unwrap().sources;
    assert!(!sources.is_empty());
    let of = |source: &Source| {
        assert_eq!(detect(source).unwrap(), Some(format), "{}", source.name());
        collect(source)
    };
    sources.iter().flat_map(of).collect()
}

fn stream(text: &str) -> Source {
    Source::stream(text.as_bytes()).unwrap()
}

fn has_flag(message: &MessageDraft, flag: &str) -> bool {
    message.extra.get("flags").and_then(Value::as_array).is_some_and(|flags| flags.contains(&json!(flag)))
}

/// What people see of a message: its role and its text. Context that a program added is left out.
fn shown<'a>(messages: impl IntoIterator<Item = &'a MessageDraft>) -> Vec<(Role, String)> {
    let seen = messages.into_iter().filter(|message| !has_flag(message, "injected"));
    seen.map(|message| (message.role, message.text())).filter(|(_, text)| !text.is_empty()).collect()
}

fn parts<'a>(messages: impl IntoIterator<Item = &'a MessageDraft>) -> Vec<&'a Part> {
    messages.into_iter().flat_map(|message| &message.parts).collect()
}

/// Every call has exactly one result.
fn assert_calls_are_answered(session: &CollectedSession) -> usize {
    let all = parts(session.messages());
    let calls: Vec<&String> = all
        .iter()
        .filter_map(|part| if let Part::ToolCall { id, .. } = part { Some(id) } else { None })
        .collect();
    let results: Vec<&String> = all
        .iter()
        .filter_map(|part| if let Part::ToolResult { id, .. } = part { Some(id) } else { None })
        .collect();
    assert_eq!(calls, results);
    calls.len()
}

fn result<'a>(session: &'a CollectedSession, call: &str) -> (&'a str, bool) {
    let find = |part: &'a Part| match part {
        Part::ToolResult { id, output, is_error } if id == call => Some((output.as_str(), *is_error)),
        _ => None,
    };
    session.messages().flat_map(|message| &message.parts).find_map(find).unwrap()
}

fn pictures(session: &CollectedSession) -> usize {
    let kept = |part: &&&Part| {
        matches!(part, Part::Attachment { media_type, hash: Some(hash), .. }
            if media_type.starts_with("image/") && session.attachments.iter().any(|found| found.hash == *hash))
    };
    parts(session.messages()).iter().filter(kept).count()
}

const USER: Role = Role::User;
const MODEL: Role = Role::Assistant;

#[test]
fn a_qwen_code_session_has_its_branches_its_subagent_and_its_title() {
    let sessions = sessions("qwen-code/projects", Format::Qwen);
    assert_eq!(sessions.len(), 1, "the subagent belongs to the session");
    let session = &sessions[0];
    assert_eq!(session.session.origin.id, "8dbfa316-4cb2-432e-9ee2-daedf2cbd76e");
    assert_eq!(session.session.title.as_deref(), Some("Named by the user"));
    assert!(!session.session.automatic_name);
    assert_eq!(session.session.project.as_ref().unwrap().directory, "/home/me/proj");
    assert_eq!(session.session.created_at.unwrap().to_string(), "2026-11-30T01:53:23.134Z");
    assert_eq!(assert_calls_are_answered(session), 3);
    assert_eq!(pictures(session), 1);
    let shown_line = shown(open_line(session));
    let typed: Vec<&str> =
        shown_line.iter().filter(|(role, _)| *role == USER).map(|(_, text)| text.as_str()).collect();
    assert_eq!(
        typed,
        [
            "zebrafinch first @dot.png CALL read_file {\"file_path\":\"/home/me/proj/notes.txt\"}",
            "second CALL run_shell_command {\"command\":\"ls /nonexistent\",\"is_background\":false}",
            "subagent please CALL agent {\"subagent_type\":\"general-purpose\",\"description\":\"look\",\"prompt\":\"look around\"}",
            "abandoned heronword question",
            "another plover question",
        ]
    );
    let rewound = session.branches.iter().find(|branch| {
        shown(&branch.messages).contains(&(USER, "abandoned heronword question".to_owned()))
            && branch.messages.len() <= 3
    });
    assert!(rewound.is_some() || session.branches.len() == 3, "what was rewound is kept");
    let agent = session.branches.iter().find(|branch| branch.name.is_some()).unwrap();
    assert_eq!(agent.name.as_deref(), Some("agent-general-purpose-call_44_0"));
    assert!(agent.messages.iter().all(|message| has_flag(message, "sidechain")));
    assert_eq!(shown(&agent.messages)[0], (USER, "look around".to_owned()));
    let start = session.branches[agent.parent.unwrap()].messages
        [usize::try_from(agent.forked_at).unwrap() - 1]
        .clone();
    assert!(matches!(start.parts.last(), Some(Part::ToolCall { id, .. }) if id == "call_44_0"));
    let (output, is_error) = result(session, "call_42_0");
    assert!(is_error && output.contains("Exit Code: 2"), "{output}");
    let answer = open_line(session).into_iter().find(|message| message.role == MODEL).unwrap();
    assert_eq!(answer.model.as_deref(), Some("fake-model"));
    assert_eq!(answer.usage, Some(Usage::new(100, 10).with_cache(Some(40), None)));
    assert!(matches!(&answer.parts[0], Part::Thinking { text, .. } if text == "I think about it."));
    assert_eq!(session.report.dropped, 0);
}

#[test]
fn a_chat_of_an_early_qwen_code_is_read() {
    let session = &sessions("qwen-code/tmp", Format::Qwen)[0];
    assert_eq!(
        shown(session.messages()),
        [
            (USER, "zebrafinch first CALL read_file {\"absolute_path\":\"/home/me/proj/notes.txt\"}".into()),
            (MODEL, "Let me look.".into()),
            (MODEL, "Answer to: the result of the tool (π≈3.14)".into()),
        ]
    );
    assert_eq!(session.report.records, 3);
}

#[test]
fn every_branch_of_a_pi_session_is_read_and_the_last_one_is_open() {
    let both = sessions("pi", Format::Pi);
    assert_eq!(both.len(), 2);
    for session in &both {
        assert_eq!(session.session.title.as_deref(), Some("Named by the user"));
        assert!(!session.session.automatic_name);
        assert_eq!(session.session.project.as_ref().unwrap().directory, "/home/me/proj");
        assert_eq!(assert_calls_are_answered(session), 2);
        assert_eq!(pictures(session), 1);
        let line = open_line(session);
        let typed: Vec<String> = line
            .iter()
            .filter(|message| {
                message.role == USER
                    && !has_flag(message, "injected")
                    && !has_flag(message, "compact-summary")
            })
            .map(|message| message.text())
            .collect();
        assert_eq!(
            typed,
            [
                "zebrafinch first CALL read {\"path\":\"notes.txt\"}",
                "another plover question",
                "last question",
                "after compaction"
            ]
        );
        let context: Vec<String> = line
            .iter()
            .filter(|message| has_flag(message, "injected"))
            .map(|message| message.text())
            .collect();
        assert!(context[0].starts_with("The user explored a different conversation branch"), "{context:?}");
        assert!(context[1].contains("echo bashword") && context[1].contains("bashword\n"), "{context:?}");
        assert_eq!(context[2], "injected context");
        assert_eq!(session.branches.len(), 2);
        let left = session.branches.iter().flat_map(|branch| &branch.messages).map(MessageDraft::text);
        assert!(left.into_iter().any(|text| text.starts_with("abandoned heronword")));
        let answer = line.iter().find(|message| message.role == MODEL).unwrap();
        assert_eq!(answer.usage, Some(Usage::new(100, 10).with_cache(Some(40), Some(0))));
        assert_eq!(answer.model.as_deref(), Some("fake-model"));
        assert_eq!(session.report.dropped, 0);
    }
    assert!(both[0].messages().any(|message| has_flag(message, "compact-summary")));
    assert_eq!(both[1].messages().filter(|message| message.role == Role::System).count(), 1);
}

#[test]
fn pi_files_of_version_1_are_a_single_line() {
    let text = [
        json!({"type": "session", "id": "s1", "timestamp": "2025-11-20T10:00:00Z", "cwd": "/p", "provider": "x"}),
        json!({"type": "message", "timestamp": "2025-11-20T10:00:01Z", "message": {"role": "user", "content": "one", "timestamp": 1}}),
        json!({"type": "message", "timestamp": "2025-11-20T10:00:02Z", "message": {"role": "assistant", "content": [{"type": "text", "text": "two"}], "usage": {}}}),
        json!({"type": "compaction", "timestamp": "2025-11-20T10:00:03Z", "summary": "so far", "firstKeptEntryIndex": 1}),
    ]
    .map(|line| line.to_string())
    .join("\n");
    let source = stream(&text);
    assert_eq!(detect(&source).unwrap(), Some(Format::Pi));
    let session = &collect(&source)[0];
    assert_eq!(
        shown(session.messages()),
        [(USER, "one".into()), (MODEL, "two".into()), (USER, "so far".into())]
    );
    assert_eq!(session.branches.len(), 1);
}

#[test]
fn a_copilot_session_has_its_calls_its_tokens_and_its_subagent() {
    let session = &sessions("copilot-cli/session-state", Format::Copilot)[0];
    assert_eq!(session.session.origin.id, "d9a2876a-2fc6-4ad8-9b80-5e1914ff8d8e");
    assert_eq!(session.session.project.as_ref().unwrap().directory, "/home/me/proj");
    assert_eq!(session.session.title, None, "the name in workspace.yaml is the first prompt");
    assert_eq!(assert_calls_are_answered(session), 3);
    assert_eq!(result(session, "call_5_0"), ("hello file\n", false));
    let line = open_line(session);
    let typed: Vec<String> =
        line.iter().filter(|message| message.role == USER).map(|message| message.text()).collect();
    assert_eq!(typed.len(), 3);
    assert_eq!(typed[0], "zebrafinch first CALL view {\"path\":\"/home/me/proj/notes.txt\"}");
    let answer = line.iter().find(|message| message.role == MODEL).unwrap();
    assert_eq!(answer.usage, Some(Usage::new(100, 10).with_cache(Some(40), Some(0))));
    assert!(matches!(&answer.parts[0], Part::Thinking { text, .. } if text == "I think about it."));
    let agent = &session.branches[1];
    assert_eq!(agent.name.as_deref(), Some("looker"));
    assert_eq!(agent.messages[0].text(), "look around quickly");
    assert!(agent.messages.iter().all(|message| has_flag(message, "sidechain")));
    let start = &session.branches[0].messages[usize::try_from(agent.forked_at).unwrap() - 1];
    assert!(matches!(start.parts.last(), Some(Part::ToolCall { id, .. }) if id == "call_9_0"));
    assert_eq!(session.current, 0);
    assert_eq!(session.report.dropped, 0);
}

#[test]
fn a_session_of_an_early_copilot_is_read() {
    let session = &sessions("copilot-cli/history-session-state", Format::Copilot)[0];
    assert_eq!(session.session.origin.id, "3f0c2a10-0a51-4c0e-9a3e-7a5f0f3d2b10");
    assert_eq!(
        shown(session.messages()),
        [(USER, "please add the falconword server".into()), (MODEL, "It is added.".into())]
    );
    assert_eq!(assert_calls_are_answered(session), 1);
}

#[test]
fn what_a_copilot_rewind_removed_is_another_branch() {
    let event = |id: &str, kind: &str, data: Value| {
        json!({"type": kind, "data": data, "id": id, "timestamp": "2026-01-01T00:00:00Z", "parentId": null})
            .to_string()
    };
    let text = [
        event("1", "session.start", json!({"sessionId": "s", "context": {"cwd": "/p"}})),
        event("2", "user.message", json!({"content": "one"})),
        event("3", "assistant.message", json!({"content": "first", "toolRequests": []})),
        event("4", "user.message", json!({"content": "rewound bitternword"})),
        event("5", "session.snapshot_rewind", json!({"upToEventId": "4", "eventsRemoved": 1})),
        event(
            "6",
            "user.message",
            json!({"content": "two", "attachments": [
                {"type": "selection", "displayName": "a.rs", "filePath": "/p/a.rs", "text": "fn a() {}"},
                {"type": "blob", "mimeType": "image/png", "data": "aGVsbG8="},
            ]}),
        ),
    ]
    .join("\n");
    let session = &collect(&stream(&text))[0];
    assert_eq!(
        shown(open_line(session)),
        [(USER, "one".into()), (MODEL, "first".into()), (USER, "two".into())]
    );
    assert!(session.messages().any(|message| message.text() == "rewound bitternword"));
    assert_eq!(session.attachments.len(), 2);
    assert_eq!(pictures(session), 1);
}

#[test]
fn a_cline_session_has_its_subagent_and_its_project() {
    let sessions = sessions("cline/sessions", Format::Cline);
    assert_eq!(sessions.len(), 1, "the subagent and the file about the session belong to it");
    let session = &sessions[0];
    assert_eq!(session.session.origin.id, "1796003775719_zvslv");
    assert_eq!(session.session.project.as_ref().unwrap().directory, "/home/me/proj");
    assert_eq!(assert_calls_are_answered(session), 2);
    let (output, is_error) = result(session, "call_71_0");
    assert!(is_error && output.contains("No such file"), "{output}");
    let typed = shown(open_line(session))[0].1.clone();
    assert!(typed.starts_with("second CALL run_commands"), "{typed}");
    let agent = &session.branches[1];
    assert_eq!(agent.name.as_deref(), Some("agent_1796003777416_h500i9"));
    assert_eq!(shown(&agent.messages)[0], (USER, "look around".into()));
    assert_eq!(agent.forked_at, 2);
    let answer = open_line(session).into_iter().find(|message| message.role == MODEL).unwrap();
    assert_eq!(answer.usage, Some(Usage::new(100, 10).with_cache(Some(40), Some(0))));
    assert_eq!(answer.model.as_deref(), Some("fake-model"));
}

#[test]
fn a_cline_task_is_read_with_the_files_beside_it() {
    let sessions = sessions("cline/tasks", Format::Cline);
    assert_eq!(sessions.len(), 1, "the other files belong to the task");
    let session = &sessions[0];
    assert_eq!(session.session.origin.id, "1760000000000");
    assert_eq!(session.session.project.as_ref().unwrap().directory, "/home/me/proj");
    assert_eq!(
        shown(session.messages()),
        [
            (USER, "What is in the zebrafinch notes?".into()),
            (MODEL, "Let me look.".into()),
            (MODEL, "It says hello.".into()),
            (USER, "Thanks, now the other one".into()),
        ]
    );
    assert_eq!(assert_calls_are_answered(session), 1);
    assert_eq!(pictures(session), 1);
    let context = session.messages().filter(|message| has_flag(message, "injected")).count();
    assert_eq!(context, 2, "the state of the editor is context");
    let answers: Vec<&MessageDraft> = session.messages().filter(|message| message.role == MODEL).collect();
    assert_eq!(answers[0].usage, Some(Usage::new(100, 10).with_cache(Some(40), Some(0))));
    assert_eq!(answers[0].model.as_deref(), Some("claude-sonnet-4-5"));
    assert_eq!(answers[0].created_at, Timestamp::from_millis(1_760_000_002_000).unwrap());
    assert_eq!(session.session.created_at, Timestamp::from_millis(1_760_000_000_000));
}

#[test]
fn a_cline_task_is_recognized_without_its_file_name_and_by_what_it_has_shown() {
    let history =
        fs::read_to_string(fixtures("cline/tasks/1760000000000/api_conversation_history.json")).unwrap();
    let source = stream(&history);
    assert_eq!(detect(&source).unwrap(), Some(Format::Cline));
    let session = &collect(&source)[0];
    assert_eq!(session.session.project.as_ref().unwrap().directory, "/home/me/proj");

    let only_shown = fs::read_to_string(fixtures("cline/tasks/1760000000000/ui_messages.json")).unwrap();
    let session = &collect(&stream(&only_shown))[0];
    assert_eq!(
        shown(session.messages()),
        [
            (USER, "What is in the zebrafinch notes?".into()),
            (MODEL, "Let me look.".into()),
            (MODEL, "It says hello.".into()),
            (USER, "Thanks, now the other one".into()),
        ]
    );
}

#[test]
fn sessions_of_the_openai_agents_sdk_are_read_with_their_branches() {
    let source = Source::file(fixtures("openai-agents/sqlite-session.db"));
    let plain = collect(&source);
    let ids: Vec<&str> = plain.iter().map(|session| session.session.origin.id.as_str()).collect();
    assert_eq!(
        ids,
        ["conversation-1/2026-11-30 01:52:00", "conversation-2/2026-11-30 01:52:01"],
        "programs choose the ids, so they are not unique among databases"
    );
    let session = &plain[0];
    assert_eq!(
        shown(session.messages()),
        [
            (USER, "zebrafinch first CALL weather {\"city\":\"Paris\"}".into()),
            (MODEL, "Let me look.".into()),
            (MODEL, "Answer to: the result of the tool (π≈3.14)".into()),
            (USER, "what is this".into()),
            (MODEL, "Answer to: what is this  (π≈3.14)".into()),
        ]
    );
    assert_eq!(assert_calls_are_answered(session), 1);
    assert_eq!(pictures(session), 1);
    let answer = session.messages().find(|message| message.role == MODEL).unwrap();
    let kinds: Vec<&str> = answer
        .parts
        .iter()
        .map(|part| match part {
            Part::Thinking { .. } => "thinking",
            Part::Text { .. } => "text",
            Part::ToolCall { .. } => "call",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["thinking", "text", "call"], "one answer is one message");
    assert_eq!(session.session.created_at.unwrap().to_string(), "2026-11-30T01:52:00Z");

    let session = &collect(&Source::file(fixtures("openai-agents/advanced-sqlite-session.db")))[0];
    assert_eq!(session.branches.len(), 2);
    let branch = &session.branches[1];
    assert_ne!(session.session.origin.id, ids[0], "a session of another database is another session");
    assert!(branch.name.as_deref().unwrap().starts_with("branch_from_turn_2"));
    assert_eq!(session.current, 1);
    let usage = session.branches[0].messages.iter().find_map(|message| message.usage);
    assert_eq!(usage, Some(Usage::new(200, 20).with_cache(Some(80), None)), "of the first turn");
    let line = shown(open_line(session));
    assert_eq!(line[3], (USER, "other plover question CALL broken {\"x\":\"1\"}".into()));
    assert!(session.branches[0].messages.iter().any(|message| message.text() == "what is this"));
    assert_eq!(session.report.dropped, 0);
}

#[test]
fn a_damaged_row_of_the_openai_agents_sdk_costs_that_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("renamed.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch(
            "create table my_items (id integer primary key, session_id text, message_data text, created_at timestamp);
             insert into my_items values (1, 's', '{\"role\":\"user\",\"content\":\"one\"}', '2026-01-01 00:00:00');
             insert into my_items values (2, 's', 'not json', null);
             insert into my_items values (3, 's', '[1]', null);
             insert into my_items values (4, 's', '{\"type\":\"item_reference\",\"id\":\"x\"}', null);
             insert into my_items values (5, 's', '{\"role\":\"assistant\",\"content\":\"two\"}', null);",
        )
        .unwrap();
    drop(database);
    let session = &collect(&Source::file(&path))[0];
    assert_eq!(shown(session.messages()), [(USER, "one".into()), (MODEL, "two".into())]);
    let report = &session.report;
    assert_eq!((report.mapped, report.opaque, report.dropped), (2, 1, 2));

    // A compressed database is read, too.
    let compressed = folder.path().join("renamed.db.gz");
    fs::write(&compressed, gzip(&fs::read(&path).unwrap())).unwrap();
    assert_eq!(collect(&Source::file(&compressed))[0].messages().count(), 2);
}

#[test]
fn a_claude_ai_export_has_its_attachments_its_calls_and_its_branches() {
    let sessions = sessions("claude-ai", Format::ClaudeAi);
    assert_eq!(sessions.len(), 2);
    let session = &sessions[0];
    assert_eq!(session.session.title.as_deref(), Some("Calendar tips"));
    assert_eq!(session.session.created_at.unwrap().to_string(), "2026-03-29T07:06:34.084721Z");
    let first = session.messages().next().unwrap();
    let text = first.text();
    assert!(text.contains("kestrelword") && text.contains("merlinword"), "{text}");
    let names: Vec<Option<&str>> = first
        .parts
        .iter()
        .filter_map(
            |part| if let Part::Attachment { name, .. } = part { Some(name.as_deref()) } else { None },
        )
        .collect();
    assert_eq!(names, [Some("plan.txt"), Some("photo.png")]);
    assert_eq!(assert_calls_are_answered(session), 2);
    assert_eq!(result(session, "toolu_01"), ("ospreyword events", false));
    assert_eq!(session.branches.len(), 2);
    let line = shown(open_line(session));
    assert_eq!(line.last().unwrap(), &(USER, "the question that stayed".to_owned()));
    assert!(session.messages().any(|message| message.text() == "a question that was edited away"));
    assert_eq!(
        shown(sessions[1].messages()),
        [(USER, "an old question".into()), (MODEL, "an old answer".into())]
    );
}

#[test]
fn the_archives_of_claude_ai_and_chatgpt_are_told_apart() {
    let conversations = fs::read(fixtures("claude-ai/conversations.json")).unwrap();
    let message =
        json!({"id": "a", "author": {"role": "user"}, "content": {"content_type": "text", "parts": ["hi"]}});
    let mapping = json!({"a": {"id": "a", "parent": null, "children": [], "message": message}});
    let chatgpt = json!([{"conversation_id": "c", "mapping": mapping}]).to_string();
    for (content, format, sessions) in
        [(&conversations[..], Format::ClaudeAi, 2), (chatgpt.as_bytes(), Format::ChatGpt, 1)]
    {
        let file = tempfile::Builder::new().suffix(".zip").tempfile().unwrap();
        let mut archive = zip::ZipWriter::new(file.reopen().unwrap());
        for (name, bytes) in [("users.json", &b"[]"[..]), ("conversations.json", content)] {
            archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap();
        let source = Source::file(file.path());
        assert_eq!(detect(&source).unwrap(), Some(format));
        assert_eq!(collect(&source).len(), sessions);
    }
}

#[test]
fn a_truncated_claude_ai_export_yields_what_is_before_the_damage() {
    let text = fs::read_to_string(fixtures("claude-ai/conversations.json")).unwrap();
    let (beginning, _) = text.split_at(text.find("an old question").unwrap());
    let sessions = collect(&stream(beginning));
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].report.dropped, 1, "{:?}", sessions[0].report);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_compressed_transcript_is_imported_up_to_its_damage_and_the_report_names_the_place() {
    let line = |number: usize| {
        json!({"type": "message", "id": number.to_string(), "parentId": (number > 0).then(|| (number - 1).to_string()),
            "timestamp": "2026-01-01T00:00:00Z", "message": {"role": "user", "timestamp": 1,
            "content": blake3::hash(&number.to_le_bytes()).to_string().repeat(20)}})
        .to_string()
    };
    let header =
        json!({"type": "session", "version": 3, "id": "s", "timestamp": "2026-01-01T00:00:00Z", "cwd": "/p"});
    let text: String =
        std::iter::once(header.to_string()).chain((0..500).map(line)).map(|line| line + "\n").collect();
    let folder = tempfile::tempdir().unwrap();
    for (name, compressed) in [
        ("s.jsonl.gz", gzip(text.as_bytes())),
        ("s.jsonl.zst", zstd::encode_all(text.as_bytes(), 3).unwrap()),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, &compressed).unwrap();
        let whole = collect(&Source::file(&path)).remove(0);
        assert_eq!((whole.messages().count(), whole.report.dropped), (500, 0));

        fs::write(&path, &compressed[..compressed.len() / 2]).unwrap();
        let half = collect(&discover(folder.path()).unwrap().sources[0]).remove(0);
        let count = half.messages().count();
        assert!(count > 50 && count < 500, "{name}: {count}");
        let texts = |session: &CollectedSession| {
            session.messages().take(count).map(MessageDraft::text).collect::<Vec<_>>()
        };
        assert_eq!(texts(&half), texts(&whole));
        assert!(half.report.dropped >= 1);
        let warnings: Vec<&str> =
            half.report.warnings.iter().map(|warning| warning.message.as_str()).collect();
        assert!(warnings.iter().any(|warning| warning.contains("truncated")), "{name}: {warnings:?}");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_lost_record_does_not_split_a_session() {
    for (folder, format) in [
        ("qwen-code/projects", Format::Qwen),
        ("pi", Format::Pi),
        ("copilot-cli/session-state", Format::Copilot),
    ] {
        let source = &discover(&fixtures(folder)).unwrap().sources[0];
        let text = fs::read_to_string(source.path().unwrap()).unwrap();
        let whole = collect(&stream(&text)).remove(0);
        let lines: Vec<&str> = text.lines().collect();
        for lost in 0..lines.len() {
            let mut lines = lines.clone();
            lines[lost] = "{\"damaged";
            let session = collect(&stream(&lines.join("\n"))).remove(0);
            assert_eq!(session.report.dropped, 1, "{format}, line {lost}: {:?}", session.report);
            assert!(session.branches.len() <= whole.branches.len() + 1, "{format}, line {lost}");
            // A record of Qwen Code may become three messages.
            assert!(session.messages().count() + 3 >= whole.messages().count(), "{format}, line {lost}");
        }
    }
}

#[test]
fn a_repeated_file_adds_nothing() {
    for folder in ["qwen-code/projects", "pi", "copilot-cli/session-state"] {
        let source = &discover(&fixtures(folder)).unwrap().sources[0];
        let text = fs::read_to_string(source.path().unwrap()).unwrap();
        let once = collect(&stream(&text)).remove(0);
        let twice = collect(&stream(&format!("{text}{text}"))).remove(0);
        assert_eq!(twice.messages().count(), once.messages().count(), "{folder}");
        assert_eq!(
            twice.report.dropped + once.report.dropped,
            twice.report.records - once.report.records,
            "{folder}"
        );
    }
}

#[test]
fn the_transcript_in_which_qwen_code_resembles_claude_code_is_read_as_what_it_is() {
    let record = |uuid: &str, parent: Option<&str>, kind: &str, rest: Value| {
        let mut record = json!({
            "uuid": uuid, "parentUuid": parent, "sessionId": "s", "type": kind, "cwd": "/home/me/proj",
            "timestamp": "2026-11-29T19:44:50.904Z", "version": "0.15.10",
        });
        record.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        record.to_string()
    };
    let text = [
        record("1", None, "user", json!({"message": {"role": "user", "parts": [{"text": "Please USE-TOOL once"}]}})),
        record("2", Some("1"), "system", json!({"subtype": "attribution_snapshot", "systemPayload": {}})),
        record("3", Some("2"), "assistant", json!({"message": {"role": "model", "parts": [
            {"text": "Let me run that."}, {"functionCall": {"id": "c", "name": "list_directory", "args": {}}}]}})),
        record("4", Some("3"), "tool_result", json!({"message": {"role": "user", "parts": [
            {"functionResponse": {"id": "c", "name": "list_directory", "response": {"error": "no path"}}}]}})),
    ]
    .join("\n");
    let source = stream(&text);
    assert_eq!(detect(&source).unwrap(), Some(Format::Qwen));
    let session = &collect(&source)[0];
    assert_eq!(
        shown(session.messages()),
        [(USER, "Please USE-TOOL once".into()), (MODEL, "Let me run that.".into())]
    );
    assert_eq!(result(session, "c"), ("no path", true));
}

#[test]
fn a_file_without_any_message_is_not_read_as_a_session_of_its_neighbours() {
    let error = read(&stream("{\"type\":\"session\"}\n"), None, &mut Collector::default()).unwrap_err();
    assert!(matches!(error, ImportError::UnknownFormat { .. }), "{error}");
}

#[test]
fn what_was_read_of_a_growing_file_stays_as_it_was() {
    for folder in ["qwen-code/projects", "pi", "copilot-cli/session-state"] {
        let source = &discover(&fixtures(folder)).unwrap().sources[0];
        let text = fs::read_to_string(source.path().unwrap()).unwrap();
        let whole = collect(&stream(&text)).remove(0);
        let of_whole = |id: &str| {
            whole.messages().find(|message| message.source.as_ref().unwrap().id == id).unwrap_or_else(|| {
                panic!("{folder}: {id} is not in the whole file");
            })
        };
        let ends: Vec<usize> = text.match_indices('\n').map(|(end, _)| end + 1).collect();
        for end in ends.into_iter().skip(1) {
            // The first records are not messages.
            let Some(session) = collect(&stream(text.split_at(end).0)).pop() else { continue };
            for message in session.messages() {
                let same = of_whole(&message.source.as_ref().unwrap().id);
                assert_eq!((message.role, &message.parts), (same.role, &same.parts), "{folder}");
                assert_eq!((message.usage, message.created_at), (same.usage, same.created_at), "{folder}");
            }
            for (branch, longer) in session.branches.iter().zip(&whole.branches) {
                if branch.name.is_none() && longer.name.is_none() {
                    assert_eq!(
                        (branch.parent, branch.forked_at),
                        (longer.parent, longer.forked_at),
                        "{folder}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_change_of_a_file_about_a_session_makes_the_session_another_one_to_read() {
    for (folder, main, about) in [
        ("cline/tasks/1760000000000", "api_conversation_history.json", "ui_messages.json"),
        ("copilot-cli/session-state/d9a2876a-2fc6-4ad8-9b80-5e1914ff8d8e", "events.jsonl", "workspace.yaml"),
    ] {
        let copy = tempfile::tempdir().unwrap();
        for name in [main, about] {
            fs::copy(fixtures(folder).join(name), copy.path().join(name)).unwrap();
        }
        let fingerprint = || Source::file(copy.path().join(main)).fingerprint().unwrap();
        let before = fingerprint();
        assert_eq!(fingerprint(), before, "{folder}");
        fs::write(copy.path().join(about), "name: Mine\nuser_named: true\n").unwrap();
        assert_ne!(fingerprint(), before, "{folder}");
    }
}

#[test]
fn the_name_that_a_user_gave_to_a_copilot_session_is_its_title() {
    let folder = tempfile::tempdir().unwrap();
    let id = "d9a2876a-2fc6-4ad8-9b80-5e1914ff8d8e";
    let events = fixtures("copilot-cli/session-state").join(id).join("events.jsonl");
    fs::copy(events, folder.path().join("events.jsonl")).unwrap();
    for (yaml, title) in [
        ("name: Plain name\nuser_named: true\n", Some("Plain name")),
        ("user_named: true\nname: \"Quoted: name\"\n", Some("Quoted: name")),
        ("name: 'It''s mine'\nuser_named: true\n", Some("It's mine")),
        ("name: the first prompt\nuser_named: false\n", None),
        ("not a name", None),
    ] {
        fs::write(folder.path().join("workspace.yaml"), yaml).unwrap();
        let session = collect(&Source::file(folder.path().join("events.jsonl"))).remove(0);
        assert_eq!(session.session.title.as_deref(), title, "{yaml}");
        assert_eq!(session.session.automatic_name, title.is_none(), "{yaml}");
    }
}
