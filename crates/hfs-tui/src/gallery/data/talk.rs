use hfs_core::{
    Branch, Message, MessageDraft, MessageStatus, Part, PassthroughFields, Position, Role, Seq, Session,
    SessionSummary, Usage,
};
use hfs_engine::Conversation;
use serde_json::json;

use super::{branch_id, message_id, minutes_ago, project, session_id};
use crate::message::Opened;

const NAME: &str = "Why do retries double the load?";

pub const LONG_INPUT: &str = "Please rewrite the loop so that\n\n- the first retry comes after 50 ms,\n- later ones wait twice as long each time, with some chance in it,\n- and it gives up after five.\n\nKeep the public function as it is, because three other crates call it and I do not want to touch them today.";

pub const STREAMED: &[&str] = &[
    "Yes: after **five** attempts. The bound ",
    "is in `retry.rs`:\n\n```rust\npub const ATTEMPTS: u32 = 5;\n\n// Waits twice as long each time.\nfn pause(attempt: u32) -> Duration {\n",
    "    Duration::from_millis(50 << attempt)\n}\n```\n\nWhat is *not* bounded is ",
    "the time of a single",
];

fn message(seq: Seq, role: Role, parts: Vec<Part>, minutes: i64) -> Message {
    let content =
        MessageDraft { id: message_id(seq), ..MessageDraft::new(role, parts, minutes_ago(minutes)) };
    Message { branch: branch_id(1), seq, content }
}

/// Something the user said, so many minutes ago.
pub fn user(seq: Seq, text: &str, minutes: i64) -> Message {
    message(seq, Role::User, vec![Part::text(text)], minutes)
}

fn assistant(seq: Seq, parts: Vec<Part>, minutes: i64) -> Message {
    let mut message = message(seq, Role::Assistant, parts, minutes);
    message.content.agent = Some("triads".into());
    message.content.model = Some("sonnet".into());
    message.content.usage = Some(Usage { prompt_tokens: 2_310, completion_tokens: 418 });
    message
}

pub fn conversation() -> Vec<Message> {
    let call = Part::ToolCall {
        id: "1".into(),
        name: "grep".into(),
        input: json!({ "pattern": "fn retry", "path": "crates/gateway/src" }),
    };
    let result = Part::ToolResult {
        id: "1".into(),
        output: "src/client.rs:88:fn retry(&self)\nsrc/retry.rs:14:pub fn retry<T>(\nsrc/retry.rs:61:fn retry_after(".into(),
        is_error: false,
    };
    let thought = Part::Thinking {
        text: "Both the client and the proxy retry.\nThree times three is nine requests for one.".into(),
        signature: None,
    };
    vec![
        user(1, "Why do retries double the load on the backend?", 42),
        assistant(2, vec![thought, call], 42),
        message(3, Role::Tool, vec![result], 41),
        assistant(
            4,
            vec![Part::text(
                "They **multiply** it: the client retries, and so does the proxy behind it.\n\n\
                 | where | attempts | waits |\n|:--|--:|:--|\n| client | 3 | none |\n| proxy | 3 | 100 ms |\n| together | 9 | |\n\n\
                 Retry in *one* place only, and let it back off:\n\n\
                 ```rust\nfor attempt in 0..ATTEMPTS {\n    match call().await {\n        Ok(reply) => return Ok(reply),\n        Err(error) if error.is_final() => return Err(error),\n        Err(_) => sleep(pause(attempt)).await, // doubles\n    }\n}\n```\n\n\
                 1. Remove the loop in `client.rs`.\n2. Keep the one in `retry.rs`.\n   - it honours `Retry-After`\n\n\
                 See [the paper on retry storms](https://example.com/storms).",
            )],
            41,
        ),
        user(5, "Good. Make that change, and add some chance to the pause.", 12),
        assistant(
            6,
            vec![Part::text(
                "Done: the loop in `client.rs` is gone, and `pause` now adds up to a quarter by chance.",
            )],
            11,
        ),
        user(7, "Run the tests, please.", 3),
    ]
}

pub fn unusual_conversation() -> Vec<Message> {
    let mut broken = assistant(4, vec![Part::text("The answer was on its")], 2);
    broken.content.status = MessageStatus::Interrupted;
    broken.content.extra =
        [("error".to_owned(), json!({ "kind": "unavailable", "message": "the connection was lost" }))]
            .into_iter()
            .collect::<PassthroughFields>();
    vec![
        user(
            1,
            "CJK: 端末は東アジアの文字を二桁で表示します。全角ＡＢＣ。 Emoji: 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ✅. Combining: e\u{301}a\u{308}o\u{302}. RTL: שלום עולם, مرحبا بالعالم.",
            9,
        ),
        assistant(
            2,
            vec![Part::text(
                "| 名前 | 値 |\n|:--|--:|\n| 日本語 | 1 |\n| emoji 👍 | 22 |\n\n> 引用された文章です。",
            )],
            8,
        ),
        user(
            3,
            "Not obeyed: \u{1b}[2J\u{1b}]0;owned\u{7} and \u{9b}31m, user\u{202e}drowssap, a\u{8}b\u{7f}c",
            5,
        ),
        broken,
    ]
}

pub fn session(number: u64, name: &str, minutes: i64) -> Session {
    Session {
        id: session_id(number),
        name: name.into(),
        automatic_name: false,
        project: Some(project()),
        created_at: minutes_ago(minutes + 30),
        updated_at: minutes_ago(minutes),
        current_branch: branch_id(number),
        origin: None,
        trashed_at: None,
        extra: PassthroughFields::new(),
    }
}

pub fn branch(number: u64, name: &str, parent: Option<(u64, Seq)>, head: Seq, minutes: i64) -> Branch {
    Branch {
        id: branch_id(number),
        session: session_id(1),
        name: name.into(),
        parent: parent.map(|(parent, _)| branch_id(parent)),
        forked_at: parent.map_or(0, |(_, at)| at),
        head,
        created_at: minutes_ago(minutes),
        undone: false,
    }
}

pub fn opened(messages: Vec<Message>) -> Opened {
    let head = messages.last().map_or(0, |message| message.seq);
    let branch = branch(1, "main", None, head, 42);
    Opened {
        conversation: Conversation::at(session_id(1), Position { branch: branch.id, head }),
        summary: SessionSummary {
            session: session(1, NAME, 3),
            messages: head,
            branches: 3,
            checkpoints: 5,
            branch: "main".into(),
        },
        branch,
        messages,
        at: None,
    }
}

pub fn history() -> Vec<String> {
    [
        "Run the tests, please.",
        "Good. Make that change, and add some chance to the pause.",
        "Why do retries double the load on the backend?",
        "Summarise what changed in the gateway since Monday",
        "Write a migration for the sessions table",
    ]
    .map(String::from)
    .to_vec()
}

/// The branch that a rewind made.
pub fn opened_after_rewind() -> Opened {
    let mut messages = conversation();
    messages.truncate(4);
    let mut opened = opened(messages);
    opened.branch = branch(5, "main-4", Some((1, 4)), 4, 0);
    opened.conversation = Conversation::at(session_id(1), Position { branch: opened.branch.id, head: 4 });
    opened
}
