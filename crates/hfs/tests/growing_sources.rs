//! Imports of sources that grow, for every format: importing the states of a source one after another ends as importing the last
//! state once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hfs_core::{
    Flow, ImportEvent, ImportReceiver, MessageDraft, MessageRange, PageRequest, SessionFilter, Store,
    StoreError, SystemClock, Timestamp,
};
use hfs_engine::{Importer, OnDuplicate};
use hfs_exchange::{Format, discover, read_grown};
use hfs_store::MemoryStore;
use serde_json::{Value, json};

/// A change of a database.
type Step = Box<dyn Fn(&rusqlite::Connection)>;

/// How a source grows.
enum Growth {
    /// A file to which records are appended. It may be read at any byte.
    Bytes(&'static str, String),
    /// A document with a list, at this JSON pointer, that gets longer. It is always written as a whole.
    List(&'static str, Value, &'static str),
    /// A database, its schema, and the statements that add to it.
    Rows(&'static str, &'static str, Vec<Step>),
}

impl Growth {
    /// Number of states.
    fn states(&self) -> usize {
        match self {
            Self::Bytes(_, text) => text.len(),
            Self::List(_, document, list) => document.pointer(list).unwrap().as_array().unwrap().len(),
            Self::Rows(_, _, steps) => steps.len(),
        }
    }

    /// Writes the source as it is in this state, counted from 1.
    fn write(&self, folder: &Path, state: usize) -> PathBuf {
        let (Self::Bytes(name, _) | Self::List(name, ..) | Self::Rows(name, ..)) = self;
        fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        match self {
            Self::Bytes(name, text) => {
                fs::write(folder.join(name), &text.as_bytes()[..state]).unwrap();
                folder.join(name)
            }
            Self::List(name, document, list) => {
                let mut document = document.clone();
                document.pointer_mut(list).unwrap().as_array_mut().unwrap().truncate(state);
                fs::write(folder.join(name), document.to_string()).unwrap();
                folder.join(name)
            }
            Self::Rows(name, schema, steps) => {
                let path = folder.join(name);
                let _ = fs::remove_file(&path);
                let database = rusqlite::Connection::open(&path).unwrap();
                database.execute_batch(schema).unwrap();
                steps.iter().take(state).for_each(|step| step(&database));
                path
            }
        }
    }
}

fn lines(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

fn seed(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(path)).unwrap()
}

const QWEN: &str = "qwen-code/projects/-home-me-proj/chats/8dbfa316-4cb2-432e-9ee2-daedf2cbd76e.jsonl";
const PI: &str = "pi/1.6.0/2026-11-30T01-54-57-493Z_01a22a29-9354-70ce-b33f-916de77c3031.jsonl";
const COPILOT: &str = "copilot-cli/session-state/d9a2876a-2fc6-4ad8-9b80-5e1914ff8d8e/events.jsonl";
const CLINE: &str = "cline/sessions/1796003775719_zvslv/1796003775719_zvslv.messages.json";

/// A transcript that the tool itself wrote.
fn fixture(path: &str) -> String {
    fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../hfs-exchange/tests/fixtures").join(path),
    )
    .unwrap()
}

fn fixture_json(path: &str) -> Value {
    serde_json::from_str(&fixture(path)).unwrap()
}

fn openai_agents() -> Growth {
    let schema = "create table agent_sessions (session_id text primary key, created_at timestamp, updated_at timestamp);
        create table agent_messages (id integer primary key, session_id text, message_data text, created_at timestamp);
        insert into agent_sessions values ('s', '2026-01-01 00:00:00', '2026-01-01 00:00:00');";
    let step = |id: u32, data: Value| {
        Box::new(move |database: &rusqlite::Connection| {
            let sql = "insert into agent_messages values (?1, 's', ?2, '2026-01-01 00:00:01')";
            database.execute(sql, (id, data.to_string())).unwrap();
        }) as Step
    };
    let call = json!({"type": "function_call", "call_id": "c", "name": "ls", "arguments": "{}"});
    let output = json!({"type": "function_call_output", "call_id": "c", "output": "a"});
    let steps =
        [json!({"role": "user", "content": "hi"}), call, output, json!({"role": "user", "content": "more"})];
    let steps = (1..).zip(steps).map(|(id, data)| step(id, data)).collect();
    Growth::Rows("sessions.db", schema, steps)
}

fn seed_json(path: &str) -> Value {
    serde_json::from_str(&seed(path)).unwrap()
}

/// The sources of a format. A new format has to be added here.
fn sources(format: Format) -> Vec<Growth> {
    match format {
        Format::ClaudeCode => vec![
            Growth::Bytes("s.jsonl", claude_code()),
            Growth::Bytes("conversation.jsonl", seed("claude_code/conversation.jsonl")),
            Growth::Bytes("fork.jsonl", seed("claude_code/fork.jsonl")),
        ],
        Format::Codex => vec![Growth::Bytes(
            "rollout-2026-01-01T10-00-00-019c1a00-0001-7000-8000-000000000001.jsonl",
            seed("codex/rollout.jsonl"),
        )],
        Format::Gemini => vec![
            Growth::Bytes("session.jsonl", gemini()),
            Growth::List("session.json", seed_json("gemini/session.json"), "/messages"),
        ],
        Format::OpenCode => vec![
            Growth::List("export.json", seed_json("opencode/export.json"), "/messages"),
            opencode_database(),
        ],
        Format::Goose => vec![
            Growth::List("export.json", seed_json("goose/export.json"), "/conversation"),
            goose_database(),
        ],
        Format::ChatGpt => vec![Growth::List("conversations.json", chatgpt(), "")],
        Format::Aider => vec![Growth::Bytes(".aider.chat.history.md", seed("aider/history.md"))],
        Format::ShareGpt => vec![
            Growth::List("dataset.json", seed_json("sharegpt/dataset.json"), ""),
            Growth::List("dataset.json", seed_json("sharegpt/dataset.json"), "/0/conversations"),
        ],
        Format::OpenAiMessages => vec![
            Growth::List("chat.json", openai_messages(), ""),
            Growth::List("chat.json", json!({ "messages": openai_messages() }), "/messages"),
        ],
        Format::Hfs => vec![Growth::List("session.json", hfs_document(), "/branches/0/messages")],
        Format::Llm => vec![llm()],
        Format::LangGraph => vec![langgraph()],
        Format::Python => vec![python()],
        Format::Qwen => vec![Growth::Bytes("chat.jsonl", fixture(QWEN))],
        Format::Pi => vec![Growth::Bytes("session.jsonl", fixture(PI))],
        Format::Copilot => vec![Growth::Bytes("id/events.jsonl", fixture(COPILOT))],
        Format::Cline => vec![Growth::List("id/id.messages.json", fixture_json(CLINE), "/messages")],
        Format::ClaudeAi => {
            vec![Growth::List(
                "conversations.json",
                fixture_json("claude-ai/conversations.json"),
                "/0/chat_messages",
            )]
        }
        Format::OpenAiAgents => vec![openai_agents()],
    }
}

/// Statements, each of which is a step.
fn steps(statements: Vec<String>) -> Vec<Step> {
    let step = |sql: String| {
        Box::new(move |database: &rusqlite::Connection| database.execute_batch(&sql).unwrap()) as Step
    };
    statements.into_iter().map(step).collect()
}

fn opencode_database() -> Growth {
    let schema = "create table session (id text, project_id text, parent_id text, directory text, title text, revert text,
            time_created integer, time_updated integer);
        create table message (id text, session_id text, time_created integer, data text);
        create table part (id text, message_id text, session_id text, time_created integer, data text);
        insert into session values ('ses_1', 'p', null, '/w', 'New session', null, 1767225600000, 1767225600000);";
    let message = |id: u32, session: &str, role: &str| {
        let data =
            json!({"role": role, "time": {"created": 1_767_225_600_000_u64 + u64::from(id)}, "modelID": "m"});
        format!("insert into message values ('msg_{id}', '{session}', {id}, '{data}')")
    };
    let part = |id: u32, message: u32, session: &str, data: Value| {
        format!("insert into part values ('prt_{id}', 'msg_{message}', '{session}', {id}, '{data}')")
    };
    let changed = |id: u32, data: Value| format!("update part set data = '{data}' where id = 'prt_{id}'");
    let text = |text: &str| json!({"type": "text", "text": text});
    let tool = |state: Value| json!({"type": "tool", "callID": "c", "tool": "bash", "state": state});
    Growth::Rows(
        "opencode.db",
        schema,
        steps(vec![
            message(1, "ses_1", "user") + ";" + &part(1, 1, "ses_1", text("ask")),
            message(2, "ses_1", "assistant"),
            part(2, 2, "ses_1", text("ha")),
            changed(2, text("half")),
            part(3, 2, "ses_1", tool(json!({"status": "running", "input": {"command": "ls"}}))),
            changed(3, tool(json!({"status": "completed", "input": {"command": "ls"}, "output": "a"}))),
            message(3, "ses_1", "assistant") + ";" + &part(4, 3, "ses_1", text("done")),
            "update session set title = 'Listing'".into(),
            "insert into session values ('ses_2', 'p', 'ses_1', '/w', 'Helper', null, 1767225600003, 1767225600003)".into(),
            message(4, "ses_2", "user") + ";" + &part(5, 4, "ses_2", text("task")),
            message(5, "ses_2", "assistant") + ";" + &part(6, 5, "ses_2", text("result")),
            message(6, "ses_1", "user") + ";" + &part(7, 6, "ses_1", text("more")),
        ]),
    )
}

fn goose_database() -> Growth {
    let schema = "create table sessions (id text primary key, name text, description text, user_set_name integer, session_type text,
            parent_session_id text, working_dir text, created_at text, updated_at text);
        create table messages (id integer primary key, message_id text, session_id text, role text, content_json text,
            created_timestamp integer, metadata_json text);
        insert into sessions values ('s', '', 'Described', 0, 'user', null, '/w', '2026-01-01 00:00:00', '2026-01-01 00:00:00');";
    let message = |id: u64, session: &str, role: &str, content: Value| {
        let at = 1_767_225_600 + id;
        format!(
            "insert into messages values ({id}, 'm{id}', '{session}', '{role}', '{content}', {at}, '{{}}')"
        )
    };
    let text = |text: &str| json!({"type": "text", "text": text});
    let call = json!({"type": "toolRequest", "id": "c", "toolCall": {"status": "success", "value": {"name": "ls", "arguments": {}}}});
    let answer =
        json!({"type": "toolResponse", "id": "c", "toolResult": {"status": "success", "value": [text("a")]}});
    Growth::Rows(
        "sessions.db",
        schema,
        steps(vec![
            message(1, "s", "user", json!([text("ask")])),
            message(2, "s", "assistant", json!([text("half")])),
            format!("update messages set content_json = '{}' where id = 2", json!([text("half and more"), call])),
            message(3, "s", "user", json!([answer])),
            "update sessions set name = 'Named', user_set_name = 1".into(),
            "insert into sessions values ('t', 'Helper', '', 0, 'sub_agent', 's', '/w', '2026-01-01 00:00:03', null)".into(),
            message(4, "t", "user", json!([text("task")])),
            message(5, "t", "assistant", json!([text("result")])),
            message(6, "s", "assistant", json!([text("done")])),
        ]),
    )
}

/// A document with one branch, and without what refers to later messages.
fn hfs_document() -> Value {
    let mut document = seed_json("documents/v2.json");
    document["branches"].as_array_mut().unwrap().truncate(1);
    document["session"]["current_branch"] = document["branches"][0]["id"].clone();
    for list in ["runs", "checkpoints"] {
        document[list] = json!([]);
    }
    document
}

fn claude_code() -> String {
    let record = |kind: &str, uuid: &str, parent: Option<&str>, fields: Value| {
        let mut record = json!({
            "type": kind, "uuid": uuid, "parentUuid": parent, "sessionId": "s", "cwd": "/w",
            "timestamp": "2026-01-01T00:00:00Z",
        });
        record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        record
    };
    let user = |uuid: &str, parent: Option<&str>, content: Value| {
        record("user", uuid, parent, json!({"message": {"role": "user", "content": content}}))
    };
    let model = |uuid: &str, parent: &str, id: &str, block: Value| {
        let message = json!({"role": "assistant", "id": id, "model": "m", "content": [block]});
        record("assistant", uuid, Some(parent), json!({ "message": message }))
    };
    let text = |text: &str| json!({"type": "text", "text": text});
    lines(&[
        json!({"type": "file-history-snapshot", "messageId": "x"}),
        user("u1", None, json!("first question \u{e9}")),
        model("a1", "u1", "m1", json!({"type": "thinking", "thinking": "hm", "signature": "s"})),
        model("a2", "a1", "m1", text("half")),
        model(
            "a3",
            "a2",
            "m1",
            json!({"type": "tool_use", "id": "t", "name": "Bash", "input": {"a": {"b": 1}}}),
        ),
        user("u2", Some("a3"), json!([{"type": "tool_result", "tool_use_id": "t", "content": "out"}])),
        model("a4", "u2", "m2", text("done")),
        json!({"type": "ai-title", "aiTitle": "A title", "sessionId": "s"}),
        user("u3", Some("a4"), json!("second question")),
        // An interrupted prompt, and an answer to it that arrives after the next prompt.
        user("u4", Some("u3"), json!("instead of it")),
        model("a5", "u3", "m3", text("late answer")),
        // The user goes back.
        user("u5", Some("a4"), json!("another way")),
        model("a6", "u5", "m4", text("that way")),
        json!({"type": "custom-title", "customTitle": "Mine", "sessionId": "s"}),
        json!({"type": "last-prompt", "leafUuid": "a5", "sessionId": "s"}),
        json!({"type": "summary", "summary": "About it", "leafUuid": "a6"}),
    ])
}

fn gemini() -> String {
    let message = |id: &str, kind: &str, fields: Value| {
        let mut message = json!({"id": id, "timestamp": "2026-01-01T10:00:01Z", "type": kind});
        message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        message
    };
    let call = |result: Value| json!([{"id": "c", "name": "ls", "args": {}, "result": result}]);
    let answer = json!([{"functionResponse": {"id": "c", "name": "ls", "response": {"output": "a"}}}]);
    lines(&[
        json!({"sessionId": "s1", "projectHash": "h", "startTime": "2026-01-01T10:00:00Z", "kind": "main"}),
        message("1", "user", json!({"content": [{"text": "hi"}]})),
        message("2", "gemini", json!({"content": "h", "model": "m"})),
        message("2", "gemini", json!({"content": "ho", "model": "m", "toolCalls": call(Value::Null)})),
        message("2", "gemini", json!({"content": "ho", "model": "m", "toolCalls": call(answer)})),
        json!({"$set": {"summary": "Greeting"}}),
        message("3", "user", json!({"content": "more"})),
        message("4", "gemini", json!({"content": "much more", "model": "m"})),
        json!({"$rewindTo": "3"}),
        message("5", "user", json!({"content": "less"})),
    ])
}

/// A conversation whose first message is the user's: before that message, a conversation has no identity.
fn openai_messages() -> Value {
    let mut messages = seed_json("openai_messages/chat.json");
    messages.as_array_mut().unwrap().remove(0);
    messages
}

fn chatgpt() -> Value {
    let conversation = seed_json("chatgpt/conversations.json")[0].clone();
    let numbered = |number: u32| {
        let mut conversation = conversation.clone();
        conversation["conversation_id"] = json!(format!("c{number}"));
        conversation
    };
    (1..4).map(numbered).collect()
}

fn llm() -> Growth {
    let step = |sql: &'static str| {
        Box::new(move |database: &rusqlite::Connection| database.execute_batch(sql).unwrap()) as Step
    };
    let schema = "create table conversations (id text, name text, model text);
        create table responses (id text, model text, prompt text, system text, prompt_json text, options_json text,
            response text, response_json text, conversation_id text, duration_ms integer, datetime_utc text,
            input_tokens integer, output_tokens integer, token_details text, schema_id text, resolved_model text);
        create table attachments (id text, type text, path text, url text, content blob);
        create table prompt_attachments (response_id text, attachment_id text, \"order\" integer);
        insert into conversations values ('c', 'Named', 'm');";
    Growth::Rows(
        "logs.db",
        schema,
        vec![
            step(
                "insert into responses (id, model, prompt, response, conversation_id, datetime_utc)
                values ('1', 'm', 'ask', 'answer', 'c', '2026-01-01T00:00:00+00:00')",
            ),
            step(
                "insert into responses (id, model, prompt, response, conversation_id, datetime_utc)
                values ('2', 'm', 'more', 'half', 'c', '2026-01-01T00:00:01+00:00')",
            ),
            step(
                "update responses set response = 'whole', output_tokens = 3, input_tokens = 2 where id = '2'",
            ),
            step("update conversations set name = 'Renamed'"),
        ],
    )
}

/// A checkpoint whose messages have these ids, types and texts.
fn langgraph_state(messages: &[(&str, &str, &str)]) -> Vec<u8> {
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

fn langgraph() -> Growth {
    let schema = "create table writes (thread_id text, checkpoint_ns text, checkpoint_id text, task_id text, idx integer,
            channel text, type text, value blob);
        create table checkpoints (thread_id text, checkpoint_ns text, checkpoint_id text, parent_checkpoint_id text,
            type text, checkpoint blob, metadata blob);";
    let step = |id: &'static str, parent: Option<&'static str>, state: Vec<u8>| {
        Box::new(move |database: &rusqlite::Connection| {
            let sql = "insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type,
                checkpoint) values ('t', '', ?1, ?2, 'msgpack', ?3)";
            database.execute(sql, (id, parent, &state)).unwrap();
        }) as Step
    };
    let (ask, answer, more) = (("a", "human", "ask"), ("b", "ai", "answer"), ("c", "human", "more"));
    Growth::Rows(
        "checkpoints.sqlite",
        schema,
        vec![
            step("1", None, langgraph_state(&[ask])),
            step("2", Some("1"), langgraph_state(&[ask, answer])),
            step("3", Some("2"), langgraph_state(&[ask, answer, more])),
            step("4", Some("1"), langgraph_state(&[ask, ("d", "ai", "another answer")])),
        ],
    )
}

fn python() -> Growth {
    let schema = "create table sessions (id integer, name text, created_at text, updated_at text);
        create table messages (id integer, session_id integer, role text, content text, created_at text);
        create table checkpoints (id integer, session_id integer, trigger_event text, state_json text, created_at text);
        insert into sessions values (1, 'Named', '2026-01-01T00:00:00', '2026-01-01T00:00:00');";
    let step = |sql: &'static str| {
        Box::new(move |database: &rusqlite::Connection| database.execute_batch(sql).unwrap()) as Step
    };
    Growth::Rows(
        "sessions.db",
        schema,
        vec![
            step("insert into messages values (1, 1, 'user', 'ask', '2026-01-01T00:00:01')"),
            step("insert into checkpoints values (1, 1, 'run.ended', '{}', '2026-01-01T00:00:02')"),
            step("insert into messages values (2, 1, 'assistant', 'half', '2026-01-01T00:00:03')"),
            step("update messages set content = 'whole' where id = 2; update sessions set name = 'Renamed'"),
            step("insert into checkpoints values (2, 1, 'run.ended', '{}', '2026-01-01T00:00:04')"),
        ],
    )
}

/// Imports the file, if it can be read, from the place where the last import ended, if the file has only grown since. Returns the
/// number of messages that were read.
fn import(store: &dyn Store, path: &Path) -> usize {
    import_from(store, path, true)
}

/// Like [`import`]; reads the whole file if it does not `resume`.
fn import_from(store: &dyn Store, path: &Path, resume: bool) -> usize {
    let importer = Importer::new(store, &SystemClock, OnDuplicate::Update, false)
        .with_time_zone(jiff::tz::TimeZone::UTC);
    let mut receiver = Receiver { importer, messages: 0 };
    for source in discover(path).unwrap().sources {
        receiver.importer.next_file(source.name(), Some(Timestamp::UNIX_EPOCH));
        receiver.importer.skip_unchanged(source.fingerprint().unwrap(), true).unwrap();
        let resume_point = if resume { receiver.importer.resume().unwrap() } else { None };
        // The beginning of a source may not contain a session.
        let is_read = read_grown(&source, None, resume_point.as_deref(), &mut receiver).is_ok();
        receiver.importer.discard_unfinished();
        if is_read {
            receiver.importer.end_file().unwrap();
        }
    }
    receiver.importer.flush().unwrap();
    receiver.messages
}

/// Counts messages, and panics if the store rejects what a reader sends: a prefix may be unreadable, but never inconsistent.
struct Receiver<'s> {
    importer: Importer<'s>,
    messages: usize,
}

impl ImportReceiver for Receiver<'_> {
    fn receive(&mut self, event: ImportEvent) -> Result<Flow, StoreError> {
        self.messages += usize::from(matches!(event, ImportEvent::Message { .. }));
        Ok(self.importer.receive(event).unwrap())
    }

    fn progress(&mut self, bytes_read: u64) -> Flow {
        self.importer.progress(bytes_read)
    }
}

/// A message without its id in hfs: its id in the source, and everything else.
type Line = Vec<(String, String)>;

/// A session without ids of hfs.
#[derive(Debug, PartialEq)]
struct Contents {
    attributes: String,
    /// The history of the current branch.
    current: Line,
    /// The histories of all branches.
    histories: Vec<Line>,
}

/// The sessions of a store by their origin.
fn contents(store: &dyn Store) -> BTreeMap<String, Contents> {
    let message = |content: &MessageDraft| {
        let MessageDraft { id: _, role, status, parts, agent, model, usage, created_at, source, extra } =
            content;
        let extra = extra.as_map();
        let text =
            format!("{role} {status:?} {parts:?} {agent:?} {model:?} {usage:?} {created_at:?} {extra:?}");
        (source.as_ref().map(|source| source.id.clone()).unwrap_or_default(), text)
    };
    let page = store.list_sessions(&SessionFilter::default(), &PageRequest::first(100)).unwrap();
    let sessions = page.items.into_iter().map(|summary| {
        let session = summary.session;
        let attributes = format!(
            "{} {} {:?} {:?} {:?} {} checkpoints",
            session.name,
            session.automatic_name,
            session.project,
            session.created_at,
            session.extra.as_map(),
            summary.checkpoints,
        );
        let history = |branch| -> Line {
            let messages = store.read_messages(branch, MessageRange::From(1, 1000)).unwrap();
            messages.iter().map(|found| message(&found.content)).collect()
        };
        let branches = store.list_branches(session.id).unwrap();
        let histories = branches.iter().map(|branch| history(branch.id)).collect();
        let contents = Contents { attributes, current: history(session.current_branch), histories };
        (session.origin.unwrap().id, contents)
    });
    sessions.collect()
}

/// Asserts that a session that was imported several times is what a first import makes of the source, and otherwise has only
/// branches with messages that the source has removed.
fn assert_same(case: &str, grown: &Contents, fresh: &Contents) {
    assert_eq!(grown.attributes, fresh.attributes, "{case}");
    assert_eq!(grown.current, fresh.current, "{case}: the current branch");
    let ids = |history: &Line| history.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    for history in &fresh.histories {
        let all: Vec<_> = grown.histories.iter().map(ids).collect();
        assert!(grown.histories.contains(history), "{case}: {:?} is missing in {all:?}", ids(history));
    }
    let in_source: BTreeSet<&String> = fresh.histories.iter().flatten().map(|(id, _)| id).collect();
    for history in &grown.histories {
        // A branch without messages of its own marks where the source was when it had gone back.
        let is_beginning = fresh.histories.iter().any(|other| other.starts_with(history));
        let is_removed = history.iter().any(|(id, _)| !in_source.contains(id));
        let all: Vec<_> = fresh.histories.iter().map(ids).collect();
        assert!(is_beginning || is_removed, "{case}: {:?} is not in {all:?}", ids(history));
    }
}

fn new_store() -> MemoryStore {
    MemoryStore::new(Arc::new(SystemClock))
}

/// Imports the states one after another, then asserts that the store holds what a first import of the last state does.
fn check(format: Format, growth: &Growth, states: &[usize]) {
    let folder = tempfile::tempdir().unwrap();
    let (grown, fresh) = (new_store(), new_store());
    for state in states {
        import(&grown, &growth.write(folder.path(), *state));
    }
    import(&fresh, &growth.write(folder.path(), *states.last().unwrap()));
    let (grown, fresh) = (contents(&grown), contents(&fresh));
    assert!(!fresh.is_empty(), "{format}: the source is imported");
    let case = format!("{format}, states {states:?}");
    assert!(grown.keys().eq(fresh.keys()), "{case}: {:?} are not {:?}", grown.keys(), fresh.keys());
    for (grown, fresh) in grown.values().zip(fresh.values()) {
        assert_same(&case, grown, fresh);
    }
}

/// A xorshift generator.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}

/// A transcript of Claude Code in which the user often goes back, answers have several records, and records are repeated.
fn random_claude_code(seed: u64) -> String {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut text = String::new();
    let mut uuids: Vec<String> = Vec::new();
    let mut last_lines: Vec<String> = Vec::new();
    let mut message = 0;
    for number in 0..30 {
        let parent = match random.below(8) {
            0 if !uuids.is_empty() => Some(uuids[random.below(uuids.len())].clone()),
            _ => uuids.last().cloned(),
        };
        let uuid = format!("r{number}");
        let time = format!("2026-01-01T00:00:{number:02}Z");
        let record = |kind: &str, message: Value| {
            json!({"type": kind, "uuid": uuid, "parentUuid": parent, "sessionId": "s", "cwd": "/w", "timestamp": time,
                "message": message})
        };
        message += usize::from(random.below(3) > 0);
        let record = match random.below(12) {
            0 => json!({"type": "file-history-snapshot", "messageId": uuid}),
            1 => json!({"type": "ai-title", "aiTitle": format!("Title {number}"), "sessionId": "s"}),
            2 => json!({"type": "last-prompt", "leafUuid": parent, "sessionId": "s"}),
            3 if !last_lines.is_empty() => {
                text += &last_lines[random.below(last_lines.len())];
                continue;
            }
            4 => json!({"type": "progress", "uuid": uuid, "parentUuid": parent, "sessionId": "s"}),
            5 => {
                let result =
                    json!({"type": "tool_result", "tool_use_id": format!("c{number}"), "content": "out"});
                record("user", json!({"role": "user", "content": [result]}))
            }
            6 => {
                let mut record = record("user", json!({"role": "user", "content": format!("side {number}")}));
                record["isSidechain"] = json!(true);
                record
            }
            7..=8 => record("user", json!({"role": "user", "content": format!("question {number}")})),
            _ => {
                let content = match random.below(2) {
                    0 => json!([{"type": "text", "text": format!("answer {number}")}]),
                    _ => json!([{"type": "tool_use", "id": format!("c{number}"), "name": "ls", "input": {}}]),
                };
                let stop = (random.below(2) == 0).then_some("end_turn");
                let message = json!({"role": "assistant", "id": format!("m{message}"), "content": content, "stop_reason": stop});
                record("assistant", message)
            }
        };
        if record.get("uuid").is_some() {
            uuids.push(uuid);
        }
        let line = format!("{record}\n");
        text += &line;
        last_lines.push(line);
    }
    text
}

/// A file of pi with many branches, repeated entries, and entries that are not messages.
fn random_pi(seed: u64) -> String {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let header =
        json!({"type": "session", "version": 3, "id": "s", "timestamp": "2026-01-01T00:00:00Z", "cwd": "/w"});
    let mut all = vec![header];
    let mut ids: Vec<String> = Vec::new();
    for number in 0..30 {
        let id = format!("e{number}");
        let parent = match random.below(6) {
            0 if !ids.is_empty() => Some(ids[random.below(ids.len())].clone()),
            1 => Some("lost".to_owned()),
            _ => ids.last().cloned(),
        };
        let entry = |fields: Value| {
            let mut entry =
                json!({"id": id, "parentId": parent, "timestamp": format!("2026-01-01T00:00:{number:02}Z")});
            entry.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            entry
        };
        let message = |role: &str, text: &str| {
            let content = json!([{"type": "text", "text": format!("{text} {number}")}]);
            entry(
                json!({"type": "message", "message": {"role": role, "content": content, "timestamp": 1_767_225_600_000_u64}}),
            )
        };
        all.push(match random.below(9) {
            0 => entry(json!({"type": "model_change", "provider": "p", "modelId": "m"})),
            1 => entry(json!({"type": "session_info", "name": format!("Name {number}")})),
            2 => all[random.below(all.len())].clone(),
            3 => entry(json!({"type": "compaction", "summary": format!("summary {number}")})),
            4..=5 => message("user", "question"),
            _ => message("assistant", "answer"),
        });
        ids.push(id);
    }
    lines(&all)
}

/// A chat of Gemini CLI with updated messages and rewinds. Like the tool, it updates only messages of the open line. In every third
/// one, the session is resumed, which writes the list of messages again, at first without most of them.
fn random_gemini(seed: u64) -> String {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut all = vec![
        json!({"sessionId": "s1", "projectHash": "h", "startTime": "2026-01-01T10:00:00Z", "kind": "main"}),
    ];
    let mut line: Vec<Value> = Vec::new();
    for number in 0_u32..30 {
        let time = format!("2026-01-01T10:00:{number:02}Z");
        let message = |id: String, kind: &str, text: &str| {
            let call = json!([{"id": format!("c{id}"), "name": "ls", "args": {}, "result": [
                {"functionResponse": {"id": format!("c{id}"), "name": "ls", "response": {"output": text}}}]}]);
            let mut message =
                json!({"id": id, "timestamp": time, "type": kind, "content": format!("{text} {number}")});
            if kind == "gemini" && number.is_multiple_of(3) {
                message["toolCalls"] = call;
            }
            message
        };
        let newest = line.len().checked_sub(1 + random.below(3)).filter(|_| random.below(2) == 0);
        let record = match (random.below(10), newest) {
            (0, Some(newest)) => {
                let id = line[newest]["id"].clone();
                line.truncate(newest);
                json!({ "$rewindTo": id })
            }
            (1, _) => json!({"$set": {"summary": format!("Summary {number}")}}),
            (2, _) => json!({"unknown": number}),
            (3, _) if seed.is_multiple_of(3) => {
                all.push(json!({"$set": {"messages": line.iter().take(1).collect::<Vec<_>>()}}));
                json!({"$set": {"messages": line}})
            }
            (4..=5, Some(newest)) if line[newest]["type"] == "gemini" => {
                let id = line[newest]["id"].as_str().unwrap().to_owned();
                line[newest] = message(id, "gemini", "updated");
                line[newest].clone()
            }
            (kind, _) => {
                let next = match kind {
                    6 => message(format!("i{number}"), "info", "info"),
                    7 | 8 => message(format!("u{number}"), "user", "question"),
                    _ => message(format!("g{number}"), "gemini", "answer"),
                };
                line.push(next.clone());
                next
            }
        };
        all.push(record);
    }
    lines(&all)
}

/// Events of Copilot CLI with rewinds, subagents, titles and tokens.
fn random_copilot(seed: u64) -> String {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let event = |number: usize, kind: &str, data: Value| {
        json!({"type": kind, "id": format!("e{number}"), "parentId": null, "data": data,
            "timestamp": format!("2026-01-01T00:00:{number:02}Z")})
    };
    let start = json!({"sessionId": "s", "startTime": "2026-01-01T00:00:00Z", "context": {"cwd": "/w"}});
    let mut all = vec![event(0, "session.start", start)];
    for number in 1..30 {
        let before = random.below(number);
        let mut next = match random.below(10) {
            0 => event(number, "session.snapshot_rewind", json!({"upToEventId": format!("e{before}")})),
            1 => event(number, "session.title_changed", json!({"title": format!("Title {number}")})),
            2 => event(
                number,
                "assistant.usage",
                json!({"apiCallId": format!("a{before}"), "inputTokens": number, "outputTokens": 1}),
            ),
            3 => event(
                number,
                "subagent.started",
                json!({"agentName": "helper", "toolCallId": format!("c{before}")}),
            ),
            4..=5 => event(number, "user.message", json!({"content": format!("question {number}")})),
            6 => event(
                number,
                "tool.execution_complete",
                json!({"toolCallId": format!("c{before}"), "success": true, "result": {"content": "out"}}),
            ),
            _ => {
                let call = json!([{"toolCallId": format!("c{number}"), "name": "ls", "arguments": {}}]);
                let id = format!("a{}", before.max(number.saturating_sub(3)));
                let content = format!("answer {number}");
                event(
                    number,
                    "assistant.message",
                    json!({"content": content, "toolRequests": call, "apiCallId": id}),
                )
            }
        };
        if random.below(4) == 0 || next["type"] == "subagent.started" {
            next["agentId"] = json!("agent");
        }
        all.push(next);
    }
    lines(&all)
}

/// Imports the states of files with many branches at the ends of lines, from resume points and as a whole. Both must have the same
/// result.
fn check_at_any_line(name: &'static str, generator: fn(u64) -> String) {
    for seed in 0..40 {
        let growth = Growth::Bytes(name, generator(seed));
        let Growth::Bytes(_, text) = &growth else { unreachable!() };
        let ends: Vec<usize> = text.match_indices('\n').map(|(end, _)| end + 1).collect();
        let folder = tempfile::tempdir().unwrap();
        let (resumed, whole) = (new_store(), new_store());
        // Sometimes several records are new.
        let states =
            ends.iter().filter(|end| seed.is_multiple_of(2) || end.is_multiple_of(3) || **end == text.len());
        for state in states {
            let path = growth.write(folder.path(), *state);
            import(&resumed, &path);
            import_from(&whole, &path, false);
            assert_eq!(contents(&resumed), contents(&whole), "{name}, seed {seed}, state {state}");
        }
        let fresh = new_store();
        import(&fresh, &folder.path().join(name));
        for (resumed, fresh) in contents(&resumed).values().zip(contents(&fresh).values()) {
            assert_eq!(resumed.attributes, fresh.attributes, "{name}, seed {seed}");
            // A source that has gone back to its beginning is followed with its next message.
            assert!(resumed.current == fresh.current || fresh.current.is_empty(), "{name}, seed {seed}");
        }
    }
}

mod a_file_with_many_branches_can_be_imported_at_any_line {
    use super::*;

    #[test]
    fn claude_code() {
        check_at_any_line("s.jsonl", random_claude_code);
    }

    #[test]
    fn pi() {
        check_at_any_line("s.jsonl", random_pi);
    }

    #[test]
    fn gemini() {
        check_at_any_line("s.jsonl", random_gemini);
    }

    #[test]
    fn copilot() {
        check_at_any_line("s/events.jsonl", random_copilot);
    }
}

#[test]
fn only_the_new_records_of_a_grown_file_are_read() {
    let claude = |number: usize| {
        let role = if number % 2 == 1 { "user" } else { "assistant" };
        let parent = (number > 1).then(|| format!("r{}", number - 1));
        json!({"type": role, "uuid": format!("r{number}"), "parentUuid": parent, "sessionId": "s", "cwd": "/w",
            "timestamp": "2026-01-01T00:00:00Z",
            "message": {"role": role, "id": format!("m{number}"), "content": [{"type": "text", "text": format!("text {number}")}]}})
    };
    let codex = |number: usize| {
        let role = if number % 2 == 1 { "user" } else { "assistant" };
        json!({"timestamp": "2026-01-01T00:00:00Z", "type": "response_item",
            "payload": {"type": "message", "role": role, "content": [{"type": "input_text", "text": format!("text {number}")}]}})
    };
    let role = |number: usize, model: &'static str| if number % 2 == 1 { "user" } else { model };
    let gemini = |number: usize| {
        let id = format!("m{number}");
        json!({"sessionId": "s", "projectHash": "h", "id": id, "type": role(number, "gemini"), "content": format!("text {number}"),
            "timestamp": "2026-01-01T00:00:00Z"})
    };
    let qwen = |number: usize| {
        let parent = (number > 1).then(|| format!("r{}", number - 1));
        json!({"type": role(number, "assistant"), "uuid": format!("r{number}"), "parentUuid": parent, "sessionId": "s",
            "timestamp": "2026-01-01T00:00:00Z", "message": {"parts": [{"text": format!("text {number}")}]}})
    };
    let pi = |number: usize| {
        let parent = (number > 1).then(|| format!("r{}", number - 1));
        let message = json!({"role": role(number, "assistant"), "content": format!("text {number}"), "timestamp": 1_767_225_600_000_u64});
        json!({"type": "message", "id": format!("r{number}"), "parentId": parent, "timestamp": "2026-01-01T00:00:00Z",
            "message": message})
    };
    let copilot = |number: usize| {
        let kind = format!("{}.message", role(number, "assistant"));
        json!({"type": kind, "id": format!("r{number}"), "data": {"content": format!("text {number}")},
            "timestamp": "2026-01-01T00:00:00Z"})
    };
    let formats: [(&str, &dyn Fn(usize) -> Value); 6] = [
        ("s.jsonl", &claude),
        ("rollout-1.jsonl", &codex),
        ("session-1.jsonl", &gemini),
        ("q.jsonl", &qwen),
        ("p.jsonl", &pi),
        ("events.jsonl", &copilot),
    ];
    for (name, record) in formats {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let text = |count: usize| lines(&(1..=count).map(record).collect::<Vec<_>>());
        let store = new_store();
        fs::write(&path, text(400)).unwrap();
        assert_eq!(import(&store, &path), 400);
        fs::write(&path, text(404)).unwrap();
        assert_eq!(import(&store, &path), 5, "{name}: the four new ones, and the one before them");
        fs::write(&path, text(408)).unwrap();
        assert_eq!(import(&store, &path), 5, "{name}");
        let replaced = folder.path().join("replaced");
        fs::write(&replaced, text(408)).unwrap();
        fs::rename(&replaced, &path).unwrap();
        assert_eq!(import(&store, &path), 408, "{name}: another file");
        fs::write(&path, text(300)).unwrap();
        assert_eq!(import(&store, &path), 300, "{name}: a shorter file");
    }
}

fn importing_it_again_and_again_ends_as_importing_it_once(format: Format) {
    for growth in sources(format) {
        let last = growth.states();
        for state in (1..last).step_by((last / 400).max(1)) {
            check(format, &growth, &[state, last]);
        }
        let step = (last / 40).max(1);
        let mut all: Vec<usize> = (1..last).step_by(step).collect();
        all.push(last);
        check(format, &growth, &all);
        // Importing the same state again changes nothing.
        check(format, &growth, &[last, last]);
    }
}

macro_rules! a_growing_source_can_be_imported_at_any_time {
    ($($name:ident: $format:ident;)*) => {
        mod a_growing_source_can_be_imported_at_any_time {
            use super::*;

            $(#[test] fn $name() { importing_it_again_and_again_ends_as_importing_it_once(Format::$format); })*

            #[test]
            fn in_every_format() {
                let tested = [$(Format::$format),*];
                assert!(Format::ALL.iter().all(|format| tested.contains(format)));
            }
        }
    };
}

a_growing_source_can_be_imported_at_any_time! {
    hfs: Hfs;
    claude_code: ClaudeCode;
    codex: Codex;
    opencode: OpenCode;
    gemini: Gemini;
    qwen: Qwen;
    pi: Pi;
    copilot: Copilot;
    cline: Cline;
    goose: Goose;
    chatgpt: ChatGpt;
    claude_ai: ClaudeAi;
    llm: Llm;
    aider: Aider;
    sharegpt: ShareGpt;
    langgraph: LangGraph;
    openai_agents: OpenAiAgents;
    python: Python;
    openai_messages: OpenAiMessages;
}
