//! Builders of test data for stores, with deterministic ids and times.

use std::collections::BTreeMap;
use std::sync::Arc;

use hfs_core::{
    AgentMemory, Attachment, BranchDraft, BranchId, CheckpointDraft, CheckpointState, Clock, ContentHash,
    CustomEvent, Event, EventPayload, MessageDraft, MessageStatus, OperationKind, Origin, Part,
    PassthroughFields, PluginStates, Position, Project, Role, Run, RunEnding, RunSnapshot, Seq, SessionDraft,
    SessionId, Source, Store, Timestamp, Trigger, Usage,
};
use serde_json::{Value, json};

use crate::clock::{TestClock, TestIds};

/// Builds drafts with consecutive ids and times; each is one second later than the previous one.
#[derive(Debug)]
pub struct Drafts {
    /// Source of ids.
    pub ids: TestIds,
    /// Source of times.
    pub clock: Arc<TestClock>,
}

impl Drafts {
    /// Creates a builder whose ids depend on the seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { ids: TestIds::new(seed), clock: Arc::new(TestClock::ticking()) }
    }

    /// The time of the clock, which then advances by one second.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A session with a name given by the user.
    pub fn session(&self, name: &str) -> SessionDraft {
        SessionDraft {
            id: self.ids.session(),
            name: name.into(),
            automatic_name: false,
            project: None,
            created_at: self.now(),
            origin: None,
            extra: PassthroughFields::new(),
            main_branch: self.ids.branch(),
        }
    }

    /// A branch forked at this position.
    pub fn branch(&self, name: &str, at: Position) -> BranchDraft {
        BranchDraft { id: self.ids.branch(), name: name.into(), parent: at.branch, forked_at: at.head }
    }

    /// A complete message.
    pub fn message(&self, role: Role, parts: Vec<Part>) -> MessageDraft {
        MessageDraft { id: self.ids.message(), ..MessageDraft::new(role, parts, self.now()) }
    }

    /// A user message.
    pub fn user(&self, text: &str) -> MessageDraft {
        self.message(Role::User, vec![Part::text(text)])
    }

    /// An assistant message.
    pub fn assistant(&self, text: &str) -> MessageDraft {
        self.message(Role::Assistant, vec![Part::text(text)])
    }

    /// A message with a value in every field and with every kind of part. Refers to `attachment`.
    pub fn full_message(&self, attachment: &Attachment) -> MessageDraft {
        let extra = json!({"z": 1, "a": {"deep": [null, true, 1.5, "ü"]}, "": "empty key"});
        MessageDraft {
            status: MessageStatus::Interrupted,
            agent: Some("coder".into()),
            model: Some("some-model-1".into()),
            usage: Some(Usage::new(u64::from(u32::MAX) + 1, 0)),
            source: Some(Source { format: "claude-code".into(), id: "msg_01\u{0}x".into() }),
            extra: extra.as_object().cloned().unwrap_or_default().into(),
            ..self.message(
                Role::Assistant,
                vec![
                    Part::Thinking { text: "hm".into(), signature: Some("sig==".into()) },
                    Part::Thinking { text: String::new(), signature: None },
                    Part::text("Grüße 👋🏽, 世界 \u{0} \u{feff}end\r\n"),
                    Part::text(""),
                    Part::ToolCall {
                        id: "call 1".into(),
                        name: "grep".into(),
                        input: json!({"pattern": "needle\\d+", "limit": 18_446_744_073_709_551_615_u64, "f": 0.1}),
                    },
                    Part::ToolResult { id: "call 1".into(), output: "haystack.rs:7".into(), is_error: true },
                    Part::Attachment {
                        media_type: "image/png".into(),
                        name: Some("screen shot.png".into()),
                        hash: Some(attachment.hash),
                        bytes: attachment.bytes.len() as u64,
                    },
                    Part::Attachment { media_type: "text/plain".into(), name: None, hash: None, bytes: 0 },
                    Part::Opaque { source: "claude-code".into(), raw: json!({"type": "odd", "list": [1, [2]]}) },
                ],
            )
        }
    }

    /// An automatic checkpoint at a position.
    pub fn checkpoint(&self, at: Position, state: CheckpointState) -> CheckpointDraft {
        CheckpointDraft {
            id: self.ids.checkpoint(),
            branch: at.branch,
            seq: at.head,
            trigger: "run.ended".into(),
            label: None,
            pinned: false,
            created_at: self.now(),
            state,
        }
    }

    /// A finished run with known and unknown events and the resulting snapshot.
    pub fn run(&self, branch: BranchId) -> Run {
        let id = self.ids.run();
        let fields = json!({"tool": "grep", "nested": {"b": [1, null], "a": 2}});
        let payloads = [
            EventPayload::RunStarted { agent: "coder".into(), answers: None },
            EventPayload::PhaseStarted { phase: "plan".into() },
            EventPayload::UsageRecorded {
                agent: "coder".into(),
                phase: Some("plan".into()),
                model: None,
                usage: Usage::new(10, 5),
            },
            EventPayload::Custom(CustomEvent {
                kind: "tool.used".into(),
                fields: fields.as_object().cloned().unwrap_or_default(),
            }),
            EventPayload::PhaseEnded { phase: "plan".into(), duration_ms: 1000 },
            EventPayload::RunEnded { duration_ms: 4000, ending: RunEnding::Completed },
        ];
        let events: Vec<Event> = (1..)
            .zip(payloads)
            .map(|(number, payload)| Event { run: id, number, at: self.now(), payload })
            .collect();
        Run {
            id,
            branch,
            answers: Some(self.ids.message()),
            started_at: events.first().map_or(Timestamp::UNIX_EPOCH, |event| event.at),
            ended_at: events.last().map(|event| event.at),
            snapshot: RunSnapshot::fold(&events),
            events,
        }
    }
}

/// Fills an empty store with sessions that together have everything a session can have. Returns their ids.
///
/// # Panics
/// If the store fails.
#[must_use]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
pub fn fill(store: &dyn Store, make: &Drafts) -> Vec<SessionId> {
    let bytes = attachment(b"picture");
    store.put_attachment(&bytes).unwrap();
    let draft = SessionDraft {
        project: Some(Project { directory: "/home/me/p".into(), repository: Some("git@host:me/p".into()) }),
        origin: Some(Origin { format: "claude-code".into(), id: "one".into(), path: Some("/tmp/a".into()) }),
        automatic_name: true,
        extra: json!({"cwd": "/home/me/p", "n": [1, 2.5]}).as_object().cloned().unwrap_or_default().into(),
        ..make.session("Everything \u{0} 世界")
    };
    let full = store.create_session(&draft).unwrap();
    let main = at(full.current_branch, 0);
    let main = store.append(main, &[make.user("first"), make.full_message(&bytes)]).unwrap().position;
    store.save_run(&make.run(main.branch)).unwrap();
    let automatic = (0..5)
        .map(|number| store.create_checkpoint(&make.checkpoint(main, growing_state(number)), 3).unwrap());
    let automatic: Vec<_> = automatic.collect();
    let manual = CheckpointDraft {
        trigger: Trigger::Manual,
        label: Some("before".into()),
        pinned: true,
        ..make.checkpoint(at(main.branch, 1), state_of(&["memory"]))
    };
    let manual = store.create_checkpoint(&manual, 3).unwrap();
    store.delete_checkpoint(automatic.last().unwrap().id, make.now()).unwrap();
    store.save_branch_state(main.branch, &growing_state(9)).unwrap();
    let rewound = make.branch("rewound", at(main.branch, 1));
    store.create_branch(&rewound, OperationKind::Rewind, Some(manual.id), make.now()).unwrap();
    store.append(at(rewound.id, 1), &[make.user("other")]).unwrap();
    store.rename_branch(main.branch, "trunk", make.now()).unwrap();
    let fork = make.branch("fork", at(rewound.id, 2));
    let fork = store.create_branch(&fork, OperationKind::Fork, None, make.now()).unwrap();
    store.reverse(fork.id, OperationKind::Undo, make.now()).unwrap();

    let unfinished = store.create_session(&make.session("unfinished")).unwrap();
    store.append(at(unfinished.current_branch, 0), &[make.user("needle")]).unwrap();
    store.append(at(unfinished.current_branch, 1), &[make.assistant("half")]).unwrap();
    let empty = store.create_session(&make.session("empty")).unwrap();
    let trashed = store.create_session(&make.session("trashed")).unwrap();
    store.append(at(trashed.current_branch, 0), &[make.user("gone")]).unwrap();
    store.trash_session(trashed.id, make.now()).unwrap();
    let purged = SessionDraft {
        origin: Some(Origin { format: "codex".into(), id: "purged".into(), path: None }),
        ..make.session("purged")
    };
    let purged = store.create_session(&purged).unwrap();
    store.purge_session(purged.id).unwrap();
    vec![full.id, unfinished.id, empty.id, trashed.id]
}

/// A checkpoint state in which the agent `coder` has these memory entries, and the state of the plugin `counter`
/// contains their number.
#[must_use]
#[allow(clippy::unwrap_used, reason = "a JSON value can always be serialized")]
pub fn state_of(entries: &[&str]) -> CheckpointState {
    let memory: Vec<Value> = entries.iter().map(|text| json!({"role": "user", "text": text})).collect();
    CheckpointState {
        run_snapshot: Arc::new(RunSnapshot::default()),
        plugins: PluginStates::from([("counter".into(), json!({"z": memory.len(), "a": [1.5, null]}))]),
        agents: BTreeMap::from([("coder".into(), AgentMemory::new(&memory).unwrap())]),
    }
}

/// A checkpoint state of some kilobytes. States of consecutive numbers differ in about one percent.
#[must_use]
pub fn growing_state(number: usize) -> CheckpointState {
    let entries: Vec<String> = (0..60 + number)
        .map(|index| {
            let changed = if index % 100 == number % 100 { number } else { 0 };
            format!("entry {index}.{changed}: {}", "the quick brown fox ".repeat(4))
        })
        .collect();
    state_of(&entries.iter().map(String::as_str).collect::<Vec<_>>())
}

/// An attachment with these bytes and their hash.
#[must_use]
pub fn attachment(bytes: &[u8]) -> Attachment {
    Attachment { hash: ContentHash::from_bytes(*blake3::hash(bytes).as_bytes()), bytes: bytes.to_vec() }
}

/// The position after the first `head` messages of a branch.
#[must_use]
pub const fn at(branch: BranchId, head: Seq) -> Position {
    Position { branch, head }
}
