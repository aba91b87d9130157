//! The content of the scenes: made up, with fixed ids and times.

use std::path::PathBuf;

use hfs_core::{
    AgentDescription, AgentStatus, Branch, BranchId, Checkpoint, CheckpointId, ClaimDecision, ContentHash,
    Event, EventPayload, ImportReport, Message, MessageDraft, MessageId, MessageStatus, Operation,
    OperationId, OperationKind, Origin, Part, PassthroughFields, PlanStep, PlanStepStatus, Position, Project,
    Role, Run, RunEnding, RunId, RunSnapshot, SearchHit, SearchResults, SectionDecision, Seq, Session,
    SessionAttributes, SessionId, SessionSummary, SideEffects, StateCost, Timestamp, ToolEnding, ToolEvent,
    Usage,
};
use hfs_engine::{
    Conversation, GroupKey, GroupStats, GroupedStats, ImportedSession, RewindPlan, Rewound, SkippedSession,
    StateAtPlace, Stats, StatsGrouping,
};
use serde_json::json;

use crate::ports::{
    AgentEntry, AgentState, AgentsView, ApprovalRequest, ConfigEntry, ErrorReport, ExportFormat, Exported,
    FileChange, FoundTranscripts, Imported, Node, PermissionRequest, PluginCommand, PluginRow,
    PluginRowState, PluginView, Slot, Tone, Widget,
};
use crate::protocol::{ExportChoice, Opened};

/// The current time in every scene.
pub fn now() -> Timestamp {
    after(0)
}

/// Returns the time `milliseconds` after [`now`].
pub fn after(milliseconds: i64) -> Timestamp {
    Timestamp::from_millis(1_769_956_200_000 + milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Returns the time `minutes` before [`now`].
pub fn minutes_ago(minutes: i64) -> Timestamp {
    after(-60_000 * minutes)
}

fn uuid(kind: u32, number: u64) -> String {
    // A short id shows only the end of an id. The multiplication gives neighbouring numbers different ends.
    format!("0192f0c1-{kind:04x}-7cc0-9b1e-{:012x}", number.wrapping_mul(0x5bd1_e995_2a4f) & 0xffff_ffff_ffff)
}

macro_rules! ids {
    ($($name:ident: $id:ident = $kind:literal,)*) => {$(
        /// Returns the id with this number.
        pub fn $name(number: u64) -> $id {
            uuid($kind, number).parse().unwrap_or_else(|_| $id::generate())
        }
    )*};
}

ids! {
    session_id: SessionId = 1,
    branch_id: BranchId = 2,
    message_id: MessageId = 3,
    run_id: RunId = 4,
    checkpoint_id: CheckpointId = 5,
    operation_id: OperationId = 6,
}

pub fn project() -> Project {
    Project {
        directory: "/home/you/gateway".into(),
        repository: Some("https://example.com/gateway.git".into()),
    }
}

pub fn agent() -> AgentDescription {
    AgentDescription::new("triads", "two triads deliberate, negotiate and write one reply")
        .with_model(Some("sonnet".into()))
}

const NAME: &str = "Why do retries double the load?";

pub const LONG_INPUT: &str = "Please rewrite the loop so that\n\n- the first retry comes after 50 ms,\n- later ones wait twice as long each time, with some jitter in it,\n- and it gives up after five.\n\nKeep the public function as it is, because three other crates call it and I do not want to touch them today.";

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

/// Returns a message of the user, `minutes` old.
pub fn user(seq: Seq, text: &str, minutes: i64) -> Message {
    message(seq, Role::User, vec![Part::text(text)], minutes)
}

fn assistant(seq: Seq, parts: Vec<Part>, minutes: i64) -> Message {
    let mut message = message(seq, Role::Assistant, parts, minutes);
    message.content.agent = Some("triads".into());
    message.content.model = Some("sonnet".into());
    message.content.usage = Some(Usage::new(2_310, 418));
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
        user(5, "Good. Make that change, and add some jitter to the pause.", 12),
        assistant(
            6,
            vec![Part::text(
                "Done: the loop in `client.rs` is gone, and `pause` now adds up to a quarter at random.",
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
        agent: None,
    }
}

pub fn history() -> Vec<String> {
    [
        "Run the tests, please.",
        "Good. Make that change, and add some jitter to the pause.",
        "Why do retries double the load on the backend?",
        "Summarise what changed in the gateway since Monday",
        "Write a migration for the sessions table",
    ]
    .map(String::from)
    .to_vec()
}

/// The branch that the rewind created.
pub fn opened_after_rewind() -> Opened {
    let mut messages = conversation();
    messages.truncate(4);
    let mut opened = opened(messages);
    opened.branch = branch(5, "main-4", Some((1, 4)), 4, 0);
    opened.conversation = Conversation::at(session_id(1), Position { branch: opened.branch.id, head: 4 });
    opened
}

/// Returns the events of a run of two triads.
fn events() -> Vec<Event> {
    let mut log = EventLog { events: Vec::new(), at: 0 };
    log.push(0, EventPayload::RunStarted { agent: "triads".into(), answers: Some(message_id(7)) });
    log.phase("deliberation", |log| {
        for (triad, preset, roles) in [
            ("backend", "hierarchical", ["orchestrator", "worker 1", "worker 2"]),
            ("reliability", "dialectic", ["proposer", "critic", "synthesizer"]),
        ] {
            for role in roles {
                let agent = format!("{triad}.{}", role.replace(' ', "-"));
                log.agent(triad, preset, role, &agent);
            }
        }
    });
    let lost = vec!["reliability.critic".to_owned()];
    log.push(10, EventPayload::TriadDegraded { triad: "reliability".into(), lost });
    log.phase("negotiation", |log| {
        for (section, claimants) in
            [("cause", &["backend"][..]), ("fix", &["backend", "reliability"]), ("tests", &["reliability"])]
        {
            for claimant in claimants {
                log.push(
                    40,
                    EventPayload::NegotiationClaimed {
                        section: section.into(),
                        claimant: (*claimant).into(),
                    },
                );
            }
        }
        let claimants = vec!["backend".to_owned(), "reliability".to_owned()];
        for (round, temperature) in [(1, 1.0), (2, 0.85)] {
            let section = "fix".to_owned();
            let contest = EventPayload::NegotiationContested {
                section: section.clone(),
                claimants: claimants.clone(),
                round,
                temperature,
            };
            log.push(600, contest);
            for claimant in &claimants {
                let (section, claimant) = (section.clone(), claimant.clone());
                let decision = if round == 1 { ClaimDecision::Hold } else { ClaimDecision::Revise };
                let (agent, text) = match (claimant.as_str(), round) {
                    ("backend", 1) => ("backend.orchestrator", "- fix: holds it: the loop is in our code"),
                    ("backend", _) => (
                        "backend.orchestrator",
                        "- fix: wants only a part of it, the loop: the bound is not ours",
                    ),
                    (_, 1) => {
                        ("reliability.synthesizer", "- fix: holds it: a bound that is not tested is no bound")
                    }
                    _ => ("reliability.synthesizer", "- fix: wants only a part of it, the bound"),
                };
                log.answer(agent, "decision", &["fix"], text);
                log.push(20, EventPayload::NegotiationDecided { section, claimant, decision, round });
            }
        }
        log.push(
            500,
            EventPayload::ArbiterDecided {
                section: "fix".into(),
                decision: SectionDecision::Split,
                owners: claimants.clone(),
                reason: "the loop belongs to the backend, its bound to reliability".into(),
            },
        );
        for (section, owners) in [
            ("cause", vec!["backend".to_owned()]),
            ("fix", claimants.clone()),
            ("tests", vec!["reliability".to_owned()]),
        ] {
            log.push(30, EventPayload::NegotiationResolved { section: section.into(), owners, round: 2 });
        }
    });
    log.phase("execution", |log| {
        log.usage("backend.orchestrator", "execution", 1_900, 420);
        let text = "`client.rs` had a loop of its own. It is gone; the one in `retry.rs` is bounded.";
        log.answer("backend.orchestrator", "section", &["fix"], text);
        log.push(
            900,
            EventPayload::ErrorOccurred {
                agent: Some("reliability.critic".into()),
                phase: Some("execution".into()),
                message: "the answer was malformed and was requested again".into(),
            },
        );
        log.usage("reliability.synthesizer", "execution", 1_200, 380);
    });
    let duration_ms = u64::try_from(log.at).unwrap_or(0);
    log.push(120, EventPayload::RunEnded { duration_ms, ending: RunEnding::Completed });
    log.events
}

struct EventLog {
    events: Vec<Event>,
    /// Time of the newest event, in milliseconds after [`now`].
    at: i64,
}

impl EventLog {
    fn push(&mut self, pause: i64, payload: EventPayload) {
        self.at += pause;
        let number = u64::try_from(self.events.len()).unwrap_or(0) + 1;
        self.events.push(Event { run: run_id(2), number, at: after(self.at), payload });
    }

    fn phase(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        let started = self.at;
        self.push(10, EventPayload::PhaseStarted { phase: name.into() });
        inside(self);
        let duration_ms = u64::try_from(self.at - started).unwrap_or(0);
        self.push(200, EventPayload::PhaseEnded { phase: name.into(), duration_ms });
    }

    fn agent(&mut self, triad: &str, preset: &str, role: &str, agent: &str) {
        let started = EventPayload::AgentStarted {
            agent: agent.into(),
            role: role.into(),
            triad: Some(triad.into()),
            preset: Some(preset.into()),
            model: Some("sonnet".into()),
        };
        self.push(80, started);
        self.usage(agent, "deliberation", 700, 150);
        let (subject, sections, text) = match role {
            "orchestrator" => (
                "position",
                &["cause", "fix"][..],
                "The client's own loop is the cause: it repeats what the proxy repeats already.\n\n- remove the loop in `client.rs`\n- keep the bound in one place",
            ),
            "worker 1" => ("report", &[][..], "`client.rs` retries three times without a pause."),
            "worker 2" => ("report", &[][..], "The proxy retries three times, 100 ms apart."),
            "proposer" => ("draft", &[][..], "Retries need a bound and a pause that doubles."),
            "critic" => ("critique", &[][..], "The draft does not say who honours `Retry-After`."),
            _ => (
                "position",
                &["fix", "tests"][..],
                "A bound of **five** attempts, with a pause that doubles and honours `Retry-After`.",
            ),
        };
        self.answer(agent, subject, sections, text);
        // The scenes show the mark of each status, so one agent does not end and the others end differently.
        let status = match role {
            "critic" => AgentStatus::Blocked,
            "synthesizer" => AgentStatus::Idle,
            _ => AgentStatus::Complete,
        };
        if role != "worker 2" {
            self.push(700, EventPayload::AgentEnded { agent: agent.into(), status, duration_ms: 900 });
        }
    }

    fn answer(&mut self, agent: &str, subject: &str, sections: &[&str], text: &str) {
        let sections = sections.iter().map(|section| (*section).to_owned()).collect();
        let (agent, subject, text) = (agent.to_owned(), subject.to_owned(), text.to_owned());
        self.push(0, EventPayload::AgentAnswered { agent, subject, sections, text });
    }

    fn usage(&mut self, agent: &str, phase: &str, prompt_tokens: u64, completion_tokens: u64) {
        let usage = Usage::new(prompt_tokens, completion_tokens);
        let (agent, phase, model) = (agent.to_owned(), Some(phase.to_owned()), None);
        self.push(400, EventPayload::UsageRecorded { agent, phase, model, usage });
    }
}

/// Returns the events up to and including the first decision of a claimant.
pub fn events_of_first_round() -> Vec<Event> {
    let mut events = events();
    let decides = |event: &Event| matches!(event.payload, EventPayload::NegotiationDecided { .. });
    let end = events.iter().position(decides).map_or(events.len(), |at| at + 1);
    events.truncate(end);
    events
}

/// Returns the events up to and including the start of a phase.
pub fn events_until(phase: &str) -> Vec<Event> {
    let mut events = events();
    let begins =
        |event: &Event| matches!(&event.payload, EventPayload::PhaseStarted { phase: name } if name == phase);
    let end = events.iter().position(begins).map_or(events.len(), |at| at + 1);
    events.truncate(end);
    events
}

/// Returns the event at the end of a tool call.
pub fn call_ended(call: &str) -> Event {
    let ended = ToolEvent::ToolEnded {
        agent: "assistant".into(),
        call: call.into(),
        name: "Bash".into(),
        title: String::new(),
        ending: ToolEnding::Completed,
        duration_ms: 900,
    };
    Event { run: run_id(2), number: 1, at: after(5_000), payload: payload_of(&ended) }
}

/// Returns an event's payload. Every event of a tool has one, so the other value is never used.
fn payload_of(event: &ToolEvent) -> EventPayload {
    event.payload().unwrap_or_else(|| EventPayload::PhaseStarted { phase: "none".into() })
}

/// Returns the complete run.
pub fn run() -> Run {
    let events = events();
    Run {
        id: run_id(2),
        branch: branch_id(1),
        answers: Some(message_id(7)),
        started_at: after(0),
        ended_at: events.last().map(|event| event.at),
        snapshot: RunSnapshot::fold(&events),
        events,
    }
}

pub fn sessions() -> Vec<SessionSummary> {
    [
        ("Why do retries double the load?", 3, 7, 3),
        ("Fix login bug - 2026-02-01_11-05", 205, 48, 1),
        ("日本語のセッション名", 400, 12, 2),
        ("Write a migration for the sessions table and test it on a copy of production", 2_900, 131, 4),
        ("Plan the release", 9_000, 23, 1),
        ("New session - 2026-01-12_09-14", 28_000, 2, 1),
    ]
    .into_iter()
    .zip(1..)
    .map(|((name, minutes, messages, branches), number)| SessionSummary {
        session: Session {
            // Two of the sessions are imported.
            origin: [(2, "claude-code"), (5, "codex")]
                .into_iter()
                .find(|(imported, _)| *imported == number)
                .map(|(_, format)| Origin { format: format.into(), id: number.to_string(), path: None }),
            ..session(number, name, minutes)
        },
        messages,
        branches,
        checkpoints: 4,
        branch: "main".into(),
    })
    .collect()
}

pub fn branches() -> Vec<Branch> {
    vec![
        branch(1, "main", None, 7, 42),
        branch(2, "main-2", Some((1, 4)), 11, 30),
        branch(3, "with-jitter", Some((2, 8)), 9, 20),
        branch(4, "main-3", Some((1, 6)), 6, 5),
    ]
}

pub fn checkpoints() -> Vec<Checkpoint> {
    let rows = [
        (1, 2, "negotiation.resolved", None, false, 42),
        (2, 4, "run.ended", None, false, 41),
        (3, 4, "manual", Some("before the rewrite"), false, 30),
        (4, 6, "run.ended", None, true, 11),
        (5, 6, "phase.ended", None, false, 11),
    ];
    rows.into_iter()
        .map(|(number, seq, trigger, label, pinned, minutes)| Checkpoint {
            id: checkpoint_id(number),
            session: session_id(1),
            number,
            branch: branch_id(1),
            seq,
            trigger: trigger.into(),
            label: label.map(String::from),
            pinned,
            created_at: minutes_ago(minutes),
            state_hash: ContentHash::from_bytes([7; 32]),
            cost: StateCost { state_bytes: 21_400, stored_bytes: 430 },
        })
        .collect()
}

/// The words of the user before each checkpoint.
pub fn words() -> Vec<(BranchId, Seq, String)> {
    [
        (2, "Why do retries double the load on the backend?"),
        (4, "Why do retries double the load on the backend?"),
        (6, "Good. Make that change, and add some jitter to the pause."),
    ]
    .map(|(seq, words)| (branch_id(1), seq, words.to_owned()))
    .into()
}

pub fn rewind_plan() -> RewindPlan {
    let checkpoint = checkpoints().swap_remove(1);
    RewindPlan {
        target: checkpoint.id.into(),
        state: StateAtPlace::Kept(Box::new(checkpoint)),
        from: branch(1, "main", None, 7, 42),
        current: branch(1, "main", None, 7, 42),
        in_view: 4,
        out_of_view: 3,
        prompt: Some(user(5, "Good. Make that change, and add some jitter to the pause.", 12)),
        side_effects: SideEffects {
            files: vec!["src/client.rs".into(), "src/retry.rs".into()],
            commands: vec!["cargo test retry".into()],
            ..SideEffects::default()
        },
    }
}

pub fn rewound() -> Rewound {
    let attributes = SessionAttributes {
        name: "s".into(),
        automatic_name: false,
        current_branch: branch_id(5),
        trashed: false,
    };
    Rewound {
        plan: rewind_plan(),
        branch: branch(5, "main-4", Some((1, 4)), 4, 0),
        state: hfs_core::CheckpointState::default(),
        operation: Operation {
            id: operation_id(1),
            session: session_id(1),
            kind: OperationKind::Rewind,
            created_at: now(),
            before: Some(attributes.clone()),
            after: attributes,
            branch: Some(branch_id(5)),
            checkpoint: Some(checkpoint_id(2)),
            target: None,
            detail: "main -> main-4".into(),
        },
    }
}

pub fn search_results() -> SearchResults {
    let hit = |number: u64, name: &str, role, seq, minutes, snippet: &str| SearchHit {
        session: session_id(number),
        session_name: name.into(),
        branch: branch_id(number),
        branch_name: "main".into(),
        message: message_id(seq),
        seq,
        role,
        created_at: minutes_ago(minutes),
        // In the data below, brackets stand for the marks of a match.
        snippet: snippet.replace('[', "\u{E000}").replace(']', "\u{E001}"),
        score: 1.0,
    };
    SearchResults {
        hits: vec![
            hit(
                1,
                "Why do retries double the load?",
                Role::Assistant,
                4,
                41,
                "… Keep the one in retry.rs: the [retry] [loop] honours Retry-After and backs off …",
            ),
            hit(
                4,
                "Write a migration for the sessions table and test it",
                Role::Tool,
                77,
                2_950,
                "… thread panicked in [retry] [loop] at src/db.rs:210 …",
            ),
            hit(
                5,
                "Plan the release",
                Role::User,
                3,
                9_010,
                "does the [retry] [loop] go into this release or the next?",
            ),
        ],
        total: 3,
        unreadable: 0,
    }
}

/// Statistics of eleven days. One model has no known price, and another tool says nothing about its tokens.
pub fn stats() -> Stats {
    let group = |replies: u64, counted: u64, priced: u64| GroupStats {
        sessions: replies / 40 + 1,
        messages: replies * 2 + 9,
        replies,
        counted,
        usage: Usage::new(counted * 41_300, counted * 620)
            .with_cache((counted > 0).then_some(counted * 38_900), (counted > 0).then_some(counted * 1_900)),
        priced,
        #[allow(clippy::cast_precision_loss, reason = "a small number")]
        cost: priced as f64 * 0.0412,
        tool_calls: replies * 3 / 2,
        changed_files: replies / 9,
        active_ms: replies * 49_000,
    };
    let page = |grouping, rows: Vec<(GroupKey, GroupStats)>| GroupedStats {
        grouping,
        groups: rows.into_iter().collect(),
        total: group(1_906, 1_704, 1_640),
    };
    let named = |name: &str, group: GroupStats| (GroupKey::Named(name.to_owned()), group);
    let days = (0..11).map(|day: u64| {
        let replies = 31 + day * 67 % 211;
        named(&format!("2026-01-{:02}", 21 + day), group(replies, replies, replies))
    });
    let mut days: Vec<_> = days.collect();
    days.push((GroupKey::Unknown, group(88, 0, 0)));
    Stats {
        groupings: vec![
            page(StatsGrouping::Day, days),
            page(
                StatsGrouping::Project,
                vec![
                    named("/home/you/gateway", group(912, 904, 904)),
                    named("/home/you/work/clients/a-client-with-a-long-name/billing", group(640, 596, 532)),
                    (GroupKey::Unknown, group(88, 0, 0)),
                ],
            ),
            page(
                StatsGrouping::Agent,
                vec![named("claude-code", group(1_204, 1_204, 1_204)), named("triads", group(36, 36, 36))],
            ),
            page(
                StatsGrouping::Model,
                vec![
                    named("claude-sonnet-4-5", group(1_640, 1_640, 1_640)),
                    named("qwen3-coder:30b", group(64, 64, 0)),
                    (GroupKey::Unknown, group(202, 0, 0)),
                ],
            ),
            page(StatsGrouping::Tool, vec![named("claude-code", group(1_204, 1_204, 1_204))]),
        ],
        repeated: 41,
        without_time: 0,
        damaged: 0,
        prices_checked: "2026-01-31",
    }
}

pub fn transcripts() -> Vec<FoundTranscripts> {
    [
        ("Claude Code", ".claude/projects", 212, 96_400_000),
        ("Codex CLI", ".codex/sessions", 31, 18_100_000),
        ("Gemini CLI", ".gemini/tmp", 4, 410_000),
    ]
    .into_iter()
    .map(|(tool, path, files, bytes)| FoundTranscripts {
        tool: tool.into(),
        path: PathBuf::from("/home/you").join(path),
        files,
        bytes,
    })
    .collect()
}

pub fn imported() -> Imported {
    let session = |name: &str, messages, opaque, dropped| ImportedSession {
        file: "/home/you/old/a.jsonl".into(),
        format: "claude-code".into(),
        session: Some(session_id(9)),
        name: name.into(),
        messages,
        updated_messages: 0,
        branches: 1,
        updated: false,
        report: ImportReport {
            records: messages + opaque + dropped,
            mapped: messages,
            opaque,
            dropped,
            warnings: Vec::new(),
        },
    };
    Imported {
        imported: vec![session("Fix the flaky test", 140, 12, 0), session("Explain lifetimes", 18, 0, 1)],
        skipped: vec![SkippedSession {
            file: "/home/you/old/b.jsonl".into(),
            reason: hfs_engine::SkipReason::AlreadyImported { name: "Explain lifetimes".into() },
        }],
        failed: vec![(
            "/home/you/old/c.bin".into(),
            ErrorReport::new(
                hfs_core::ErrorKind::Invalid,
                "not a transcript that hfs can read: it is an image",
            ),
        )],
    }
}

pub fn export_choices() -> Vec<ExportChoice> {
    [
        ("json", "lossless, for hfs and other programs"),
        ("markdown", "for reading and for notes"),
        ("html", "one page for any browser"),
    ]
    .into_iter()
    .map(|(name, about)| {
        let extension = if name == "markdown" { "md" } else { name };
        let path =
            PathBuf::from(format!("/home/you/.hfs/exports/why-do-retries-double-the-load.{extension}"));
        let extensions = vec![extension.to_owned()];
        (ExportFormat { name: name.into(), about: about.into(), extensions }, path)
    })
    .collect()
}

pub fn exported() -> Exported {
    Exported {
        path: PathBuf::from("/home/you/.hfs/exports/why-do-retries-double-the-load.json"),
        bytes: 48_213,
        warnings: vec!["2 secrets were masked: an API key in message 3, a password in message 5".into()],
    }
}

pub fn config() -> Vec<ConfigEntry> {
    let entry = |key: &str, value: &str, origin: &str, about: &str, choices: &[&str]| ConfigEntry {
        key: key.into(),
        value: value.into(),
        is_masked: false,
        origin: origin.into(),
        about: about.into(),
        choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
    };
    vec![
        entry(
            "output_mode",
            "compact",
            "default",
            "how much detail of a reply is shown",
            &["compact", "verbose"],
        ),
        entry(
            "keybinding_mode",
            "vim",
            "~/.hfs/config.yaml:3",
            "key bindings of the input",
            &["standard", "vim", "emacs"],
        ),
        entry(
            "agent",
            "triads",
            ".hfs/config.yaml:1",
            "the agent that answers",
            &["assistant", "triads", "recall"],
        ),
        entry("model", "", "default", "the model that answers", &[]),
        entry("checkpoint_retention", "10", "default", "automatic checkpoints kept per session", &[]),
    ]
}

pub fn plugins() -> PluginView {
    let row = |name: &str, state: PluginRowState, reason: &str| PluginRow {
        name: name.into(),
        version: "1.2.0".into(),
        state,
        reason: reason.into(),
        capabilities: vec!["commands".into(), "widgets".into()],
    };
    let text = |text: &str, tone| Node::Text(vec![(text.to_owned(), tone)]);
    PluginView {
        plugins: vec![
            row("secret-guard", PluginRowState::Active, ""),
            row("standup", PluginRowState::Active, ""),
            row(
                "token-meter",
                PluginRowState::Quarantined,
                "failed three times: out of memory; press e to enable it again",
            ),
            row("word-count", PluginRowState::Pending, "waits for your approval"),
        ],
        commands: vec![PluginCommand { name: "standup".into(), about: "what was done today".into() }],
        widgets: vec![
            Widget {
                plugin: "token-meter".into(),
                slot: Slot::Sidebar,
                nodes: vec![
                    Node::Text(vec![("today ".into(), Tone::Dim), ("12,480 tokens".into(), Tone::Accent)]),
                    Node::Gauge { label: "budget".into(), ratio: 0.62 },
                    Node::Sparkline { values: vec![1, 3, 2, 5, 8, 4, 6, 9, 12, 7] },
                ],
            },
            Widget {
                plugin: "secret-guard".into(),
                slot: Slot::StatusBar,
                nodes: vec![text("guard on", Tone::Good)],
            },
            Widget {
                plugin: "standup".into(),
                slot: Slot::Panel,
                nodes: vec![text("▲ 3 sessions today", Tone::Dim)],
            },
        ],
        pending: vec![ApprovalRequest {
            plugin: "word-count".into(),
            version: "1.3.0".into(),
            about: "Counts words in what you send.".into(),
            permissions: vec![
                "read this session's messages".into(),
                "reach api.example.com over the network".into(),
            ],
            new_permissions: vec!["reach api.example.com over the network".into()],
        }],
        notices: Vec::new(),
    }
}

/// An agent asks to run a command.
pub fn command_permission() -> PermissionRequest {
    PermissionRequest {
        agent: "claude".into(),
        action: "run a command",
        title: "Run the tests of the gateway".into(),
        command: Some("cargo test --package gateway retry && rm -rf target/tmp".into()),
        changes: Vec::new(),
        paths: Vec::new(),
        input: None,
        text: Vec::new(),
        always: Some("execute cargo test --package gateway retry && rm -rf target/tmp".into()),
    }
}

/// An agent asks to change a file.
pub fn edit_permission() -> PermissionRequest {
    let old = "//! Retries.\n\nuse std::time::Duration;\n\npub const ATTEMPTS: u32 = 5;\n\nfn pause(attempt: u32) -> Duration {\n    Duration::from_millis(50)\n}\n";
    let new =
        old.replace("from_millis(50)", "from_millis(50 << attempt)\n        .min(Duration::from_secs(5))");
    PermissionRequest {
        agent: "claude".into(),
        action: "change files",
        title: "Edit src/retry.rs".into(),
        command: None,
        changes: vec![FileChange {
            path: "/home/you/gateway/src/retry.rs".into(),
            old: Some(old.into()),
            new,
        }],
        paths: vec!["/home/you/gateway/src/retry.rs".into()],
        input: None,
        text: vec!["Double the pause with each attempt, up to five seconds.".into()],
        always: Some("edit".into()),
    }
}

/// The agents on a machine with Codex, Claude Code without its adapter, and no Gemini CLI.
pub fn agents(is_unconfigured: bool) -> AgentsView {
    let agent = |name: &str, title: &str, about: &str, is_program, state| AgentEntry {
        name: name.into(),
        title: title.into(),
        about: about.into(),
        is_program,
        state,
    };
    let asks = "answers here, and asks before it acts";
    let command = "npm install -g @agentclientprotocol/claude-agent-acp".into();
    let hint = Some("npm install -g @google/gemini-cli".into());
    let agents = vec![
        agent("codex", "Codex", asks, true, AgentState::Ready),
        agent("claude", "Claude Code", asks, true, AgentState::NeedsAdapter { command }),
        agent("gemini", "Gemini CLI", asks, true, AgentState::NotInstalled { hint }),
        agent("assistant", "assistant", "a model answers, without tools", false, AgentState::Ready),
        agent("triads", "triads", "groups of models discuss the reply", false, AgentState::Ready),
        agent(
            "recall",
            "recall",
            "searches your saved sessions and quotes them, without a model",
            false,
            AgentState::Ready,
        ),
    ];
    AgentsView { agents, is_unconfigured }
}

/// An agent has planned its work.
pub fn plan_updated() -> Event {
    let step =
        |content: &str, status| PlanStep { content: content.into(), status, priority: "medium".into() };
    let steps = vec![
        step("Find where the requests are repeated", PlanStepStatus::Completed),
        step("Run the tests of the retry loop", PlanStepStatus::InProgress),
        step("Double the pause with each attempt", PlanStepStatus::Pending),
        step("Run all tests", PlanStepStatus::Pending),
    ];
    let plan = ToolEvent::PlanUpdated { agent: "claude".into(), steps };
    Event { run: run_id(3), number: 1, at: now(), payload: payload_of(&plan) }
}
