use std::path::PathBuf;

use hfs_core::{
    Branch, Checkpoint, ContentHash, ImportReport, Operation, OperationKind, Role, SearchHit, SearchResults,
    SessionAttributes, SessionSummary, StateCost,
};
use hfs_engine::{ImportedSession, RewindPlan, Rewound, SkippedSession};

use super::{
    branch, branch_id, checkpoint_id, message_id, minutes_ago, now, operation_id, session, session_id, user,
};
use crate::parts::{
    ApprovalRequest, ConfigEntry, ExportFormat, Exported, Failure, FoundTranscripts, Imported, Node,
    PluginCommand, PluginRow, PluginView, Slot, Tone, Widget,
};
use crate::screens::export::Choice;

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
        session: session(number, name, minutes),
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

pub fn rewind_plan() -> RewindPlan {
    let checkpoint = checkpoints().swap_remove(1);
    RewindPlan {
        checkpoint,
        from: branch(1, "main", None, 7, 42),
        in_view: 4,
        out_of_view: 3,
        prompt: Some(user(5, "Good. Make that change, and add some chance to the pause.", 12)),
    }
}

pub fn rewound() -> Rewound {
    let shape = SessionAttributes {
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
            before: Some(shape.clone()),
            after: shape,
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
    let taken = |name: &str, messages, opaque, dropped| ImportedSession {
        file: "/home/you/old/a.jsonl".into(),
        format: "claude-code".into(),
        session: Some(session_id(9)),
        name: name.into(),
        messages,
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
        imported: vec![taken("Fix the flaky test", 140, 12, 0), taken("Explain lifetimes", 18, 0, 1)],
        skipped: vec![SkippedSession {
            file: "/home/you/old/b.jsonl".into(),
            reason: "already imported".into(),
        }],
        failed: vec![(
            "/home/you/old/c.bin".into(),
            Failure::new(hfs_core::ErrorKind::Invalid, "not a transcript that hfs can read: it is an image"),
        )],
    }
}

pub fn export_choices() -> Vec<Choice> {
    [
        ("json", "everything, for hfs and for programs; comes back without loss"),
        ("markdown", "to be read and kept with notes"),
        ("html", "one page for any browser"),
    ]
    .into_iter()
    .map(|(name, about)| {
        let extension = if name == "markdown" { "md" } else { name };
        let path =
            PathBuf::from(format!("/home/you/.hfs/exports/why-do-retries-double-the-load.{extension}"));
        (ExportFormat { name: name.into(), about: about.into() }, path)
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
        origin: origin.into(),
        about: about.into(),
        choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
    };
    vec![
        entry(
            "output_mode",
            "compact",
            "default",
            "how much of a reply's inner workings is shown",
            &["compact", "verbose"],
        ),
        entry(
            "keybinding_mode",
            "vim",
            "~/.hfs/config.yaml:3",
            "which keys edit text",
            &["standard", "vim", "emacs"],
        ),
        entry("agent", "triads", ".hfs/config.yaml:1", "who answers", &["assistant", "triads", "recall"]),
        entry("model", "", "default", "which model answers", &[]),
        entry("checkpoint_retention", "10", "default", "automatic checkpoints kept in each session", &[]),
    ]
}

pub fn plugins() -> PluginView {
    let row = |name: &str, state: &str, reason: &str| PluginRow {
        name: name.into(),
        version: "1.2.0".into(),
        state: state.into(),
        reason: reason.into(),
        capabilities: vec!["commands".into(), "widgets".into()],
    };
    let text = |text: &str, tone| Node::Text(vec![(text.to_owned(), tone)]);
    PluginView {
        plugins: vec![
            row("secret-guard", "active", ""),
            row("standup", "active", ""),
            row("token-meter", "quarantined", "it failed three times: out of memory; e lets it run again"),
            row("word-count", "pending", "waits for your approval"),
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
