//! Tests of what readers make of the files of real tools: texts, pictures, branches, times and context.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use hfs_core::{ContentHash, MessageDraft, MessageFlag, Part, Role, Timestamp};
use hfs_exchange::{CollectedSession, Collector, Format, Source, discover, read};
use serde_json::{Value, json};

#[path = "support/sessions.rs"]
mod support;

use support::{collect_as, open_line};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn import_text(text: &str, format: Format) -> Vec<CollectedSession> {
    collect_as(&Source::stream(text.as_bytes()).unwrap(), format)
}

fn import_fixture(name: &str, format: Format) -> Vec<CollectedSession> {
    collect_as(&Source::file(fixture(name)), format)
}

fn lines(records: &[Value]) -> String {
    records.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

fn texts(messages: &[&MessageDraft]) -> Vec<(Role, String)> {
    messages.iter().map(|message| (message.role, message.text())).collect()
}

fn parts(session: &CollectedSession) -> Vec<&Part> {
    session.messages().flat_map(|message| &message.parts).collect()
}

fn all_text(session: &CollectedSession) -> String {
    session.messages().map(MessageDraft::searchable_text).collect::<Vec<_>>().join("\n")
}

fn calls(session: &CollectedSession) -> Vec<(&str, &str, &Value)> {
    fn call(part: &Part) -> Option<(&str, &str, &Value)> {
        match part {
            Part::ToolCall { id, name, input } => Some((id, name, input)),
            _ => None,
        }
    }
    parts(session).into_iter().filter_map(call).collect()
}

fn results(session: &CollectedSession) -> Vec<(&str, &str, bool)> {
    fn result(part: &Part) -> Option<(&str, &str, bool)> {
        match part {
            Part::ToolResult { id, output, is_error } => Some((id, output, *is_error)),
            _ => None,
        }
    }
    parts(session).into_iter().filter_map(result).collect()
}

/// The media types of stored attachments.
fn stored_files(session: &CollectedSession) -> Vec<&str> {
    fn stored(part: &Part) -> Option<(&str, ContentHash)> {
        match part {
            Part::Attachment { media_type, hash: Some(hash), .. } => Some((media_type, *hash)),
            _ => None,
        }
    }
    let files: Vec<_> = parts(session).into_iter().filter_map(stored).collect();
    for (media_type, hash) in &files {
        let is_stored = session.attachments.iter().any(|attachment| attachment.hash == *hash);
        assert!(is_stored, "the bytes of {media_type} are missing");
    }
    files.into_iter().map(|(media_type, _)| media_type).collect()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const PIXEL: &str = "iVBORw0KGgo=";

#[test]
fn a_picture_in_a_tool_result_of_codex_is_an_attachment() {
    let name = "codex/rollout-2026-09-02T10-00-00-4468ef3f-2a09-9b42-9438-3ff86b79d910.jsonl";
    let session = import_fixture(name, Format::Codex).remove(0);
    assert_eq!(stored_files(&session), ["image/png"]);
    let result = session.messages().find(|message| message.role == Role::Tool).unwrap();
    assert!(matches!(&result.parts[..], [Part::ToolResult { .. }, Part::Attachment { .. }]), "{result:?}");
    let record = result.extra.get("records").unwrap();
    let item = &record[0]["payload"]["output"][0];
    assert_eq!(item, &json!({"type": "input_image", "image_url": {"$part": [0, 1]}}), "{record}");
    assert!(!all_text(&session).contains("base64"));
}

#[test]
fn every_kind_of_call_of_codex_is_a_call_with_its_result() {
    let session = import_fixture("codex/calls.jsonl", Format::Codex).remove(0);
    let calls = calls(&session);
    let names: Vec<_> = calls.iter().map(|(id, name, _)| (*id, *name)).collect();
    assert_eq!(
        names,
        [("call_p1", "apply_patch"), ("call_s1", "local_shell_call"), ("ws_1", "web_search_call")]
    );
    assert!(calls[0].2.as_str().unwrap().starts_with("*** Begin Patch"));
    assert_eq!(calls[1].2["command"], json!(["ls"]));
    assert_eq!(results(&session), [("call_p1", "Success", false), ("call_s1", "a.txt", false)]);
}

#[test]
fn a_generated_picture_and_pictures_beside_an_event_of_codex_are_attachments() {
    let at = "2026-01-01T00:00:00Z";
    let picture = format!("data:image/gif;base64,{PIXEL}");
    let records = [
        json!({"timestamp": at, "type": "session_meta", "payload": {"id": "x", "cwd": "/"}}),
        json!({"timestamp": at, "type": "event_msg", "payload": {"type": "user_message", "message": "look", "images": [picture]}}),
        json!({"timestamp": at, "type": "response_item", "payload": {
            "type": "image_generation_call", "id": "ig_1", "status": "completed", "revised_prompt": "a duck", "result": PIXEL}}),
    ];
    let session = import_text(&lines(&records), Format::Codex).remove(0);
    assert_eq!(stored_files(&session), ["image/gif", "image/png"]);
    assert_eq!(calls(&session), [("ig_1", "image_generation_call", &json!("a duck"))]);
}

#[test]
fn a_failed_command_of_codex_is_a_failed_result() {
    let output = json!({"output": "no such file", "metadata": {"exit_code": 1}}).to_string();
    let item = |payload: Value| json!({"timestamp": "2026-01-01T00:00:00Z", "type": "response_item", "payload": payload});
    let records = [
        item(json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]})),
        item(json!({"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "1"})),
        item(json!({"type": "function_call_output", "call_id": "1", "output": output})),
        item(json!({"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "2"})),
        item(
            json!({"type": "function_call_output", "call_id": "2", "output": {"content": "denied", "success": false}}),
        ),
        item(json!({"type": "message", "role": "critic", "content": "odd"})),
    ];
    let session = import_text(&lines(&records), Format::Codex).remove(0);
    assert_eq!(results(&session), [("1", "no such file", true), ("2", "denied", true)]);
    assert_eq!(session.report.opaque, 1, "a message of an unknown role is kept as a record");
}

#[test]
fn records_after_the_last_message_of_codex_are_kept_also_after_a_rollback() {
    let item = |kind: &str, payload: Value| json!({"timestamp": "2026-01-01T00:00:00Z", "type": kind, "payload": payload});
    let message = |role: &str, text: &str| {
        item("response_item", json!({"type": "message", "role": role, "content": text}))
    };
    let rollback = item("event_msg", json!({"type": "thread_rolled_back", "num_turns": 1}));
    let records =
        [message("user", "kept"), message("assistant", "yes"), message("user", "undone"), rollback.clone()];
    let session = import_text(&lines(&records), Format::Codex).remove(0);
    assert_eq!(texts(&open_line(&session)), [(Role::User, "kept".into()), (Role::Assistant, "yes".into())]);
    let last = session.messages().last().unwrap();
    assert_eq!(last.extra.get("after"), Some(&json!([rollback])));
    let records = [&records[..], &[message("assistant", "again")]].concat();
    let session = import_text(&lines(&records), Format::Codex).remove(0);
    let line = texts(&open_line(&session));
    assert_eq!(line.last(), Some(&(Role::Assistant, "again".into())), "not joined with the undone turn");
}

#[test]
fn context_that_a_tool_injects_is_marked_in_every_format() {
    let context = "<environment_context>\n  <cwd>/</cwd>\n</environment_context>";
    let at = "2026-01-01T00:00:00Z";
    let claude = |number: u64, text: &str| {
        json!({"type": "user", "uuid": number.to_string(), "parentUuid": null, "sessionId": "s", "timestamp": at,
            "message": {"role": "user", "content": text}})
    };
    let codex = |text: &str| {
        json!({"timestamp": at, "type": "response_item", "payload": {
            "type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}})
    };
    let gemini = |number: u64, text: &str| json!({"id": number.to_string(), "timestamp": at, "type": "user", "content": text});
    let header = json!({"sessionId": "s", "projectHash": "h"});
    let opened = "<ide_opened_file>The user opened a.rs</ide_opened_file>";
    let stdout = "<local-command-stdout>done</local-command-stdout>";
    for (format, records) in [
        (Format::ClaudeCode, vec![claude(1, opened), claude(2, stdout), claude(3, "typed")]),
        (
            Format::Codex,
            vec![
                codex(context),
                codex("# AGENTS.md instructions for /p\n\n<INSTRUCTIONS>\nx\n</INSTRUCTIONS>"),
                codex("typed"),
            ],
        ),
        (
            Format::Gemini,
            vec![
                header,
                gemini(1, "<session_context>\nx\n</session_context>"),
                gemini(2, context),
                gemini(3, "typed"),
            ],
        ),
        (
            Format::OpenAiMessages,
            vec![json!({"messages": [
            {"role": "user", "content": [{"type": "text", "text": context}]},
            {"role": "user", "content": "<system-reminder>x</system-reminder>"},
            {"role": "user", "content": "typed"}]})],
        ),
    ] {
        let session = import_text(&lines(&records), format).remove(0);
        let users: Vec<_> = session.messages().filter(|message| message.role == Role::User).collect();
        let marked: Vec<bool> = users.iter().map(|message| message.is_context()).collect();
        assert_eq!(marked, [true, true, false], "{format}: {:?}", texts(&users));
    }
}

#[test]
fn what_gemini_rewound_is_another_branch_and_the_project_is_known() {
    let name = "gemini/proj/chats/session-2026-09-03T08-00-gem15.jsonl";
    let session = import_fixture(name, Format::Gemini).remove(0);
    let line = open_line(&session);
    assert_eq!(
        texts(&line),
        [
            (Role::User, "one avocet1".into()),
            (Role::Assistant, "ans 1".into()),
            (Role::User, "two again avocet3".into()),
            (Role::Assistant, "the full answer".into()),
        ]
    );
    assert!(!all_text(&session).contains("partial"));
    assert!(all_text(&session).contains("bitternword"));
    assert_eq!(session.branches.len(), 2);
    assert_eq!(session.session.project.as_ref().unwrap().directory, "/home/u/birds");
    assert_eq!(session.session.title.as_deref(), Some("talk about waders"));
}

#[test]
fn a_rewind_at_the_end_of_a_gemini_chat_leaves_the_open_line_before_it() {
    let message = |id: &str, text: &str| json!({"id": id, "timestamp": "2026-01-01T00:00:00Z", "type": "user", "content": text});
    let records = [
        json!({"sessionId": "s", "projectHash": "h"}),
        message("1", "kept"),
        message("2", "rewound"),
        json!({"$rewindTo": "2"}),
    ];
    let session = import_text(&lines(&records), Format::Gemini).remove(0);
    assert_eq!(texts(&open_line(&session)), [(Role::User, "kept".into())]);
    assert!(all_text(&session).contains("rewound"));

    // A list that ends earlier rewinds as well; a message with the same id is updated in place.
    let shorter = json!({"$set": {"messages": [message("1", "kept and changed")]}});
    let records =
        [records[0].clone(), message("1", "kept"), message("2", "left out"), shorter, message("3", "next")];
    let session = import_text(&lines(&records), Format::Gemini).remove(0);
    assert_eq!(
        texts(&open_line(&session)),
        [(Role::User, "kept and changed".into()), (Role::User, "next".into())]
    );
    assert!(all_text(&session).contains("left out"));
}

#[test]
fn files_and_fields_beside_gemini_tool_results_are_kept() {
    let response = json!({"functionResponse": {"id": "c1", "name": "see", "response": {"output": "done"}}});
    let picture = json!({"inlineData": {"mimeType": "image/png", "data": PIXEL}});
    let records = [
        json!({"sessionId": "s", "projectHash": "h", "startTime": "2026-01-01T00:00:00Z"}),
        json!({"id": "1", "type": "user", "content": {"text": "a single part"}}),
        json!({"id": "2", "type": "gemini", "content": "", "tokens": {"input": u64::MAX, "output": 3.0, "thoughts": u64::MAX},
            "toolCalls": [{"id": "c1", "name": "see", "args": {}, "status": "error", "result": [response, picture]}]}),
        json!({"id": "3", "type": "user", "note": "kept", "content": [
            {"functionResponse": {"id": "c2", "name": "see", "response": {"error": "broken"}}}]}),
    ];
    let session = import_text(&lines(&records), Format::Gemini).remove(0);
    assert_eq!(results(&session), [("c1", "done", true), ("c2", "broken", true)]);
    assert_eq!(stored_files(&session), ["image/png"]);
    let last = session.messages().last().unwrap();
    assert_eq!(last.extra.get("records").unwrap()[0]["note"], "kept");
    let usage = session.messages().find_map(|message| message.usage).unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens), (u64::MAX, u64::MAX));
    assert_eq!(session.session.created_at, Some(time("2026-01-01T00:00:00Z")), "from the header");
}

#[test]
fn the_chats_of_subagents_of_gemini_are_branches_of_their_session() {
    let folder = tempfile::tempdir().unwrap();
    let chats = folder.path().join("chats");
    fs::create_dir_all(chats.join("main-id-1")).unwrap();
    let message = |id: &str, kind: &str, at: u64, text: &str| {
        json!({
        "id": id, "timestamp": format!("2026-01-01T00:00:0{at}Z"), "type": kind, "content": text})
    };
    let mut call = message("2", "gemini", 2, "delegating");
    call["toolCalls"] = json!([{"id": "c", "name": "explore", "args": {}, "agentId": "sub-id", "status": "success", "result": "ok"}]);
    let main = [
        json!({"sessionId": "main-id-1", "projectHash": "h", "kind": "main"}),
        message("1", "user", 1, "go"),
        call,
        message("3", "gemini", 5, "done"),
    ];
    let sub = [
        json!({"sessionId": "sub-id", "projectHash": "h", "kind": "subagent"}),
        message("s1", "user", 3, "task"),
        message("s2", "gemini", 4, "foundword"),
    ];
    let path = chats.join("session-2026-01-01T00-00-main-id-.jsonl");
    fs::write(&path, lines(&main)).unwrap();
    fs::write(chats.join("main-id-1/sub-id.jsonl"), lines(&sub)).unwrap();
    let sources = discover(folder.path()).unwrap().sources;
    assert_eq!(sources.len(), 1, "the chat of a subagent is not a session");
    let alone = discover(&path).unwrap().sources;
    assert_eq!(alone[0].companions(), sources[0].companions());
    assert_eq!(alone[0].companions().len(), 1);
    let session = collect_as(&sources[0], Format::Gemini).remove(0);
    assert_eq!(texts(&open_line(&session)).len(), 4);
    let branch = &session.branches[1];
    assert_eq!((branch.parent, branch.forked_at, branch.name.as_deref()), (Some(0), 3, Some("sub-id")));
    assert_eq!(branch.messages.len(), 2);
    assert!(branch.messages.iter().all(|message| message.has_flag(MessageFlag::Sidechain)));
}

#[test]
fn speech_thoughts_and_code_of_chatgpt_are_text_and_results_belong_to_their_calls() {
    let session = import_fixture("chatgpt/voice.json", Format::ChatGpt).remove(0);
    let all = all_text(&session);
    for word in [
        "dotterel",
        "dunlinthought",
        "dunnock",
        "fieldfare",
        "gadwallcode",
        "gadwallout",
        "garganey",
        "7 seconds",
    ] {
        assert!(all.contains(word), "{word} is missing in {all}");
    }
    let line = open_line(&session);
    assert_eq!(line[0].text(), "spoken dotterel");
    assert!(
        line[0]
            .parts
            .iter()
            .any(|part| matches!(part, Part::Attachment { media_type, .. } if media_type == "audio/wav"))
    );
    assert_eq!(calls(&session)[0].0, results(&session)[0].0);
    assert!(
        line[4]
            .parts
            .iter()
            .any(|part| matches!(part, Part::Attachment { media_type, .. } if media_type == "image/*"))
    );
}

#[test]
fn a_result_of_chatgpt_belongs_to_the_newest_call_of_its_tool() {
    let node = |id: &str, parent: Option<&str>, message: Value| {
        (id.to_owned(), json!({"id": id, "parent": parent, "children": [], "message": message}))
    };
    let call = |tool: &str| json!({"author": {"role": "assistant"}, "recipient": tool, "content": {"content_type": "code", "text": "{\"a\":1}"}});
    let answer = |tool: &str, text: &str| json!({"author": {"role": "tool", "name": tool}, "content": {"content_type": "execution_output", "text": text}});
    let mapping: serde_json::Map<String, Value> = [
        node("1", None, call("python")),
        node("2", Some("1"), call("browser.search")),
        node("3", Some("2"), answer("browser", "found")),
        node("4", Some("3"), answer("python", "42")),
        node(
            "5",
            Some("4"),
            json!({"author": {"role": "stranger"}, "content": {"content_type": "text", "parts": ["odd"]}}),
        ),
    ]
    .into_iter()
    .collect();
    let session =
        import_text(&json!([{"id": "c", "mapping": mapping}]).to_string(), Format::ChatGpt).remove(0);
    assert_eq!(results(&session), [("2", "found", false), ("1", "42", false)]);
    assert_eq!(session.messages().count(), 4);
}

#[test]
fn messages_without_times_get_that_of_a_neighbour_or_of_the_conversation() {
    let sessions: Vec<_> = ["chatgpt/conversations-000.json", "chatgpt/conversations-001.json"]
        .iter()
        .flat_map(|name| import_fixture(name, Format::ChatGpt))
        .collect();
    assert_eq!(sessions.len(), 3);
    for session in &sessions {
        assert!(session.messages().all(|message| message.created_at.is_known()), "{:?}", session.session);
        assert_eq!(open_line(session).len(), 4);
    }
    // The first message of the second conversation has no time, nor has its conversation.
    assert_eq!(open_line(&sessions[1])[0].created_at, open_line(&sessions[1])[1].created_at);
    assert_eq!(sessions[0].session.title, None);
}

#[test]
fn a_time_that_nothing_tells_is_null() {
    let text = r#"[{"role": "user", "content": [{"type": "text", "text": "x"}]}]"#;
    let session = import_text(text, Format::OpenAiMessages).remove(0);
    let message = session.messages().next().unwrap();
    assert!(!message.created_at.is_known());
    assert_eq!(serde_json::to_value(message.created_at).unwrap(), Value::Null);
    assert_eq!(session.session.created_at, None);
}

#[test]
fn damage_after_the_last_conversation_is_reported() {
    let chatgpt = json!({"id": "c", "mapping": {"1": {"id": "1", "message": {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["a"]}}}}});
    let sharegpt =
        json!({"id": "c", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]});
    let openai = json!({"id": "c", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "refusal": null}]});
    for (format, conversation) in
        [(Format::ChatGpt, chatgpt), (Format::ShareGpt, sharegpt), (Format::OpenAiMessages, openai)]
    {
        let cut = format!("[{conversation}, 7, {{\"id\": \"cut");
        let session = import_text(&cut, format).remove(0);
        assert_eq!(session.report.dropped, 2, "{format}: {:?}", session.report);
    }
}

#[test]
fn a_session_of_aider_has_its_own_date_and_headings_stay_in_the_answer() {
    let session = import_fixture("aider/history.md", Format::Aider).remove(0);
    let local = jiff::civil::date(2026, 9, 5).at(9, 0, 0, 0).to_zoned(jiff::tz::TimeZone::system()).unwrap();
    assert_eq!(session.session.created_at, Some(local.timestamp().into()));
    let line = open_line(&session);
    let answer = "The answer is 42 guillemot.\n\n```python\n# a heading-like comment\n#### not a user line in code\n\
                  > not a tool line in code\n```";
    assert_eq!(
        texts(&line),
        [
            (Role::User, "/add src/main.py".into()),
            (Role::User, "/clear".into()),
            (Role::User, "here is the question goosander\nsecond line of it".into()),
            (Role::Assistant, answer.into()),
            (Role::User, "/undo".into()),
            (Role::User, "/etc/hosts is wrong hobbyword".into()),
            (Role::Assistant, "Fix it like this.".into()),
        ]
    );
    let context: Vec<bool> = line.iter().map(|message| message.is_context()).collect();
    assert_eq!(context, [true, true, false, false, true, false, false], "commands are not prompts");
}

#[test]
fn an_aider_history_without_blanks_at_the_ends_of_lines_is_read_too() {
    let text = "# aider chat started at 2026-09-05 09:00:00\n\n#### question\n\nanswer\n\n#### next\n";
    let session = import_text(text, Format::Aider).remove(0);
    let expected = [(Role::User, "question"), (Role::Assistant, "answer"), (Role::User, "next")];
    assert_eq!(texts(&open_line(&session)), expected.map(|(role, text)| (role, text.to_owned())));
}

#[test]
fn the_database_and_the_older_storage_of_opencode_are_one_store() {
    for name in ["opencode/opencode.db", "opencode/storage"] {
        let sessions = import_fixture(name, Format::OpenCode);
        let of = |id: &str| sessions.iter().find(|session| session.session.origin.id == id).unwrap();
        let ids: Vec<_> = sessions.iter().map(|session| session.session.origin.id.as_str()).collect();
        assert_eq!(
            ids,
            ["ses_dfc140f97ffevu11cEz4ECan2D", "ses_dfc1eb854ffeHug22wgmI7VES8", "ses_parent01", "ses_rev01"],
            "{name}"
        );

        let old = of("ses_dfc140f97ffevu11cEz4ECan2D");
        assert_eq!(old.messages().filter(|message| message.role != Role::Tool).count(), 6, "{name}");
        for word in ["Hello TOOL", "naïve café", "thinking 2 漢字", "Final answer number 6"] {
            assert!(all_text(old).contains(word), "{name}: {word}");
        }

        let parent = of("ses_parent01");
        assert!(all_text(parent).contains("treecreeper") && all_text(parent).contains("twiteword"));
        assert_eq!(texts(&open_line(parent))[0].1, "ask the subagent thrushword");
        assert!(parent.branches[1].messages.iter().all(|message| message.has_flag(MessageFlag::Sidechain)));
        assert_eq!(parent.branches[1].parent, Some(0));

        let reverted = of("ses_rev01");
        assert_eq!(
            texts(&open_line(reverted)),
            [(Role::User, "kept veeryone".into()), (Role::Assistant, "answer kept".into())]
        );
        assert!(all_text(reverted).contains("veerytwo"));
    }
}

#[test]
fn the_folder_of_opencode_is_one_source() {
    let found = discover(&fixture("opencode")).unwrap().sources;
    let paths: Vec<_> = found.iter().map(|source| source.path().unwrap().to_owned()).collect();
    assert_eq!(paths, [fixture("opencode/opencode.db")]);
}

#[test]
fn files_of_opencode_tools_are_attachments_and_odd_records_cost_themselves_only() {
    let picture = format!("data:image/png;base64,{PIXEL}");
    let export = json!({"info": {"id": "ses_1", "time": {"created": 1_788_000_000_000_u64}}, "messages": [
        {"info": {"id": "m1", "role": "user"}, "parts": [{"type": "text", "text": "look"}, 7]},
        {"info": {"id": "m2", "role": "assistant", "tokens": {"input": u64::MAX, "cache": {"read": u64::MAX}}}, "parts": [
            {"type": "tool", "callID": "c", "tool": "read", "state": {"status": "completed", "input": {"path": "a"}, "output": "Image read",
                "title": "kept", "attachments": [{"type": "file", "mime": "image/png", "url": picture}]}}]},
        {"info": {"id": "m3", "role": "stranger"}, "parts": []},
    ]});
    let session = import_text(&export.to_string(), Format::OpenCode).remove(0);
    assert_eq!(stored_files(&session), ["image/png"]);
    assert_eq!(results(&session), [("c", "Image read", false)]);
    assert_eq!((session.report.dropped, session.report.opaque), (1, 1));
    assert_eq!(session.session.created_at, Some(time("2026-08-29T10:40:00Z")));
    let call = session.messages().nth(1).unwrap();
    assert_eq!(call.extra.get("records").unwrap()[0]["parts"][0]["state"]["title"], "kept");
}

#[test]
fn embedded_resources_of_goose_are_text_and_subagents_belong_to_their_session() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch(
            "create table sessions (id text, name text, working_dir text, session_type text, parent_session_id text, created_at text);
             create table messages (id integer primary key, message_id text, session_id text, role text, content_json text,
                created_timestamp integer, metadata_json text);
             insert into sessions values ('1', 'Main', '/p', 'user', null, '2026-01-01 00:00:00');
             insert into sessions values ('2', 'Sub', '/p', 'sub_agent', '1', '2026-01-01 00:00:02');",
        )
        .unwrap();
    let content = json!([{"type": "toolResponse", "id": "c", "toolResult": {"status": "success", "value": {"content": [
        {"type": "resource", "resource": {"uri": "file:///a", "text": "resourceword"}},
        {"type": "image", "data": PIXEL, "mimeType": "image/png"}]}}}]);
    let text = |text: &str| json!([{"type": "text", "text": text}]);
    for (session, role, content, at) in [
        ("1", "user", text("go"), 1_788_000_000),
        (
            "1",
            "assistant",
            json!([{"type": "toolRequest", "id": "c", "toolCall": {"value": {"name": "read", "arguments": {}}}}]),
            1_788_000_001,
        ),
        ("1", "user", content, 1_788_000_009),
        ("2", "user", text("task"), 1_788_000_002),
        ("2", "critic", text("odd"), 1_788_000_003),
    ] {
        database
            .execute(
                "insert into messages (session_id, role, content_json, created_timestamp, metadata_json) values (?1, ?2, ?3, ?4, '{}')",
                (session, role, content.to_string(), at),
            )
            .unwrap();
    }
    database
        .execute("insert into messages (session_id, role, content_json) values ('1', 'user', '{cut')", ())
        .unwrap();
    drop(database);
    let session = collect_as(&Source::file(&path), Format::Goose).remove(0);
    assert_eq!(results(&session), [("c", "resourceword", false)]);
    assert_eq!(stored_files(&session), ["image/png"]);
    assert_eq!((session.branches[1].forked_at, session.branches[1].name.as_deref()), (2, Some("Sub")));
    assert_eq!((session.report.dropped, session.report.opaque), (1, 1));
}

#[test]
fn messages_of_a_langgraph_thread_that_exist_only_as_writes_are_read_in_order() {
    let session = import_fixture("langgraph/delta.sqlite", Format::LangGraph).remove(0);
    let expected: Vec<String> = (1..=5)
        .flat_map(|number| {
            [
                format!("delta question {number} tealword{number}"),
                format!("delta answer {number} smewword{number}"),
            ]
        })
        .collect();
    let line: Vec<String> = open_line(&session).iter().map(|message| message.text()).collect();
    assert_eq!(line, expected);
    assert!(session.messages().all(|message| message.created_at.is_known()));
}

#[test]
fn prompts_of_llm_contain_their_fragments() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch(
            "create table conversations (id text, name text, model text);
             create table attachments (id text, type text, path text, url text, content blob);
             create table responses (id text, model text, prompt text, system text, response text, conversation_id text,
                datetime_utc text, input_tokens integer, output_tokens integer);
             create table fragments (id integer, hash text, content text);
             create table prompt_fragments (response_id text, fragment_id integer, \"order\" integer);
             create table system_fragments (response_id text, fragment_id integer, \"order\" integer);
             create table tool_results (id integer, response_id text, output text, tool_call_id text, exception text);
             create table tool_results_attachments (tool_result_id integer, attachment_id text, \"order\" integer);
             insert into conversations values ('c', 'Name', 'm');
             insert into responses values ('r', 'm', 'explain this', null, 'answer', 'c', '2026-01-01T00:00:00', 1, null);
             insert into fragments values (1, 'h', 'fragmentword'), (2, 'i', 'systemword');
             insert into prompt_fragments values ('r', 1, 0);
             insert into system_fragments values ('r', 2, 0);
             insert into tool_results values (7, 'r', 'drawn', 't', null);
             insert into attachments values ('a', 'image/png', null, null, x'89504e47');
             insert into tool_results_attachments values (7, 'a', 0);",
        )
        .unwrap();
    drop(database);
    let session = collect_as(&Source::file(&path), Format::Llm).remove(0);
    assert_eq!(
        texts(&open_line(&session)),
        [
            (Role::System, "systemword".into()),
            (Role::Tool, String::new()),
            (Role::User, "fragmentword\nexplain this".into()),
            (Role::Assistant, "answer".into()),
        ]
    );
    assert_eq!(stored_files(&session), ["image/png"]);
}

#[test]
fn arrays_documents_and_requests_of_both_apis_are_read_as_what_they_are() {
    let anthropic = import_fixture("openai-messages/ant-array.json", Format::OpenAiMessages).remove(0);
    let roles: Vec<Role> = anthropic.messages().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool, Role::Assistant]);
    assert_eq!(calls(&anthropic), [("t1", "bash", &json!({"c": "ls"}))]);
    assert_eq!(results(&anthropic), [("t1", "a b", false)]);
    let thinking = Part::Thinking { text: "t".into(), signature: Some("s".into()) };
    assert!(parts(&anthropic).contains(&&thinking));

    let request = import_fixture("openai-messages/img-req.json", Format::OpenAiMessages).remove(0);
    assert_eq!(stored_files(&request), ["image/png"]);
    assert_eq!(request.session.extra.get("openai-messages").unwrap()["model"], "gpt-4o");

    let document = import_fixture("openai-messages/parts-doc.json", Format::OpenAiMessages).remove(0);
    assert_eq!(
        texts(&open_line(&document)),
        [(Role::User, "x parts".into()), (Role::Assistant, "y parts".into())]
    );

    let tools = import_fixture("openai-messages/tools-array.json", Format::OpenAiMessages).remove(0);
    assert_eq!(calls(&tools), [("c1", "f", &json!({"a": 1}))]);
    assert_eq!(results(&tools), [("c1", "r", false)]);
}

#[test]
fn instructions_pictures_and_items_beside_chat_messages_are_read() {
    let request = json!({"model": "claude", "max_tokens": 9, "system": [{"type": "text", "text": "be brief"}], "messages": [
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t", "is_error": true, "content": [
                {"type": "text", "text": "seen"}, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}]},
            {"type": "text", "text": "and now"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "ok"}], "tool_calls": "odd"},
    ]});
    let pretty = serde_json::to_string_pretty(&request).unwrap();
    for text in [request.to_string(), pretty] {
        let session = import_text(&text, Format::OpenAiMessages).remove(0);
        assert_eq!(
            texts(&open_line(&session)),
            [
                (Role::System, "be brief".into()),
                (Role::Tool, String::new()),
                (Role::User, "and now".into()),
                (Role::Assistant, "ok".into())
            ]
        );
        assert_eq!(results(&session), [("t", "seen", true)]);
        assert_eq!(stored_files(&session), ["image/png"]);
        let last = session.messages().last().unwrap();
        assert_eq!(last.extra.get("records").unwrap()[0]["tool_calls"], "odd");
    }

    let responses = json!({"model": "gpt", "instructions": "be brief", "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "go"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "f", "name": "ls", "arguments": "{\"a\":1}"},
        {"type": "function_call_output", "call_id": "f", "output": "x"},
    ]});
    let session = import_text(&responses.to_string(), Format::OpenAiMessages).remove(0);
    let roles: Vec<Role> = session.messages().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::Assistant, Role::Tool]);
    assert_eq!((calls(&session)[0].0, results(&session)[0]), ("f", ("f", "x", false)));
}

#[test]
fn a_dataset_may_contain_conversations_in_both_notations() {
    let sharegpt = json!({"id": "a", "system": "sys", "conversations": [
        {"from": "human", "value": "h"}, {"from": "function_call", "value": "{\"name\":\"f\",\"arguments\":{}}"},
        {"from": "observation", "value": "o"}, {"from": "stranger", "value": "odd"}, {"from": "gpt", "value": "g"}]});
    let openai = json!({"id": "b", "messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]});
    let texts_of = |sessions: &[CollectedSession]| -> Vec<usize> {
        sessions.iter().map(|session| session.messages().count()).collect()
    };
    let first = import_text(&json!([sharegpt, openai]).to_string(), Format::ShareGpt);
    assert_eq!(texts_of(&first), [5, 2]);
    assert_eq!((calls(&first[0])[0].0, results(&first[0])[0].0), ("call-1", "call-1"));
    assert_eq!(first[0].report.opaque, 1, "a turn of an unknown author is kept as a record");
    let second = import_text(&lines(&[openai.clone(), sharegpt.clone()]), Format::OpenAiMessages);
    assert_eq!(texts_of(&second), [2, 5]);
    let behind =
        import_text(&json!([{"note": "not a conversation"}, sharegpt, openai]).to_string(), Format::ShareGpt);
    assert_eq!((texts_of(&behind), behind[0].report.dropped), (vec![5, 2], 1));
    let long = json!([{"id": "i", "conversations": [{"from": "human", "value": "x".repeat(300_000)}, {"from": "gpt", "value": "yes"}]}]);
    let mut collector = Collector::default();
    read(&Source::stream(long.to_string().as_bytes()).unwrap(), Some(Format::ShareGpt), &mut collector)
        .unwrap();
    assert_eq!(texts_of(&collector.sessions), [2]);
}

#[test]
fn utf_16_is_read_like_utf_8() {
    let claude =
        import_fixture("utf16/f62dbc9d-17e5-5c1f-69ca-a9d9e59c9482.jsonl", Format::ClaudeCode).remove(0);
    assert_eq!(
        texts(&open_line(&claude)),
        [(Role::User, "utf sixteen rook".into()), (Role::Assistant, "ok é 漢字".into())]
    );
    let array = import_fixture("utf16/export.json", Format::OpenAiMessages).remove(0);
    assert_eq!(open_line(&array)[0].text(), "ps redirect ruff");
}
