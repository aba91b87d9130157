//! `hfs stats`

use serde_json::{Value, json};
use testkit::cli::{Hfs, Key};

use crate::{fields, hfs};

/// Imports a session of Claude Code with two models.
fn imported() -> Hfs {
    let hfs = hfs();
    let reply = |id: &str, parent: &str, at: &str, model: &str, content: Value, usage: Value| {
        json!({"uuid": id, "parentUuid": parent, "sessionId": "s", "type": "assistant", "timestamp": at, "cwd": "/home/me/app",
            "message": {"role": "assistant", "id": id, "model": model, "content": content, "usage": usage}})
    };
    let text = json!([{"type": "text", "text": "done"}]);
    let edit = json!([{"type": "tool_use", "id": "t", "name": "Edit",
        "input": {"file_path": "/home/me/app/a.rs", "old_string": "x", "new_string": "y"}}]);
    let usage = json!({"input_tokens": 100, "cache_read_input_tokens": 1_000_000, "cache_creation_input_tokens": 0, "output_tokens": 50});
    let lines = [
        json!({"uuid": "1", "parentUuid": null, "sessionId": "s", "type": "user", "timestamp": "2026-01-02T12:00:00Z",
            "cwd": "/home/me/app", "message": {"role": "user", "content": "fix it"}}),
        reply("2", "1", "2026-01-02T12:01:00Z", "claude-sonnet-4-5", edit, usage),
        reply(
            "3",
            "2",
            "2026-01-05T12:00:00Z",
            "my-own-model",
            text,
            json!({"input_tokens": 7, "output_tokens": 3}),
        ),
    ];
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    let file = hfs.project().join("s.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let _ = hfs.run(&["import", file.to_str().unwrap()]).ok();
    hfs
}

#[test]
fn tokens_are_counted_by_model_and_what_is_unknown_is_null() {
    let hfs = imported();
    let stats = hfs.run(&["stats", "--by", "model", "--json"]).ok().json();
    let rows = stats["rows"].as_array().unwrap();
    let row = |key: &str| rows.iter().find(|row| row["key"] == key).unwrap();
    for name in [
        "key",
        "sessions",
        "messages",
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cost",
        "tool_calls",
    ] {
        assert!(fields(row("claude-sonnet-4-5")).contains(&name), "{name}");
    }
    let sonnet = row("claude-sonnet-4-5");
    assert_eq!(
        (sonnet["input_tokens"].as_u64(), sonnet["cache_read_tokens"].as_u64()),
        (Some(100), Some(1_000_000))
    );
    assert_eq!((sonnet["tool_calls"].as_u64(), sonnet["changed_files"].as_u64()), (Some(1), Some(1)));
    // 100 of input at 3 dollars a million, 50 of output at 15, a million from the cache at 0.30.
    assert!((sonnet["cost"].as_f64().unwrap() - 0.301_05).abs() < 1e-9, "{sonnet}");
    let own = row("my-own-model");
    assert_eq!(
        (own["input_tokens"].as_u64(), &own["cache_read_tokens"], &own["cost"]),
        (Some(7), &Value::Null, &Value::Null)
    );
    let total = &stats["total"];
    assert_eq!((total["replies"].as_u64(), total["replies_without_price"].as_u64()), (Some(2), Some(1)));
}

#[test]
fn groups_are_days_projects_agents_and_tools_and_may_be_limited_in_time() {
    let hfs = imported();
    let _ = hfs.run(&["chat", "hello"]).ok();
    let keys = |arguments: &[&str]| -> Vec<String> {
        let arguments: Vec<&str> = ["stats", "--json"].iter().chain(arguments).copied().collect();
        let stats = hfs.run(&arguments).ok().json();
        stats["rows"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(&["--by", "tool"]), ["claude-code", "hfs"]);
    assert_eq!(keys(&["--by", "day", "--tool", "claude-code"]), ["2026-01-02", "2026-01-05"]);
    assert_eq!(keys(&["--by", "day", "--tool", "claude-code", "--since", "2026-01-04"]), ["2026-01-05"]);
    assert_eq!(keys(&["--by", "agent"]), ["claude-code", "recall"]);
    assert!(keys(&["--by", "project", "--project", "me/app"]).contains(&"/home/me/app".to_owned()));
    let text = hfs.run(&["stats", "--by", "model"]).ok();
    assert!(
        text.stdout.contains("unknown") && text.stderr.contains("prices as published by"),
        "{}",
        text.describe()
    );
    let _ = hfs.run(&["stats", "--since", "yesteryear"]).fails_with(2);
    let nothing = hfs.run(&["stats", "--since", "2999-01-01"]).ok();
    assert!(nothing.stderr.contains("no message to count"), "{}", nothing.describe());
}

#[test]
fn the_app_shows_the_statistics_on_small_and_large_terminals() {
    let hfs = imported();
    for (rows, columns) in [(24, 80), (50, 160)] {
        let terminal = hfs.command(&[]).in_terminal(rows, columns);
        terminal.wait_for("Type a message");
        terminal.paste("/stats");
        terminal.wait_for("❯ /stats");
        terminal.press(Key::Enter);
        // A million tokens from the cache are not part of the input.
        let days = terminal.wait_for("2026-01-05");
        let day = |date: &str| {
            days.contents().lines().find(|line| line.trim_start().starts_with(date)).unwrap().to_owned()
        };
        let first = day("2026-01-02");
        assert!(first.contains("100") && first.contains("1.0M") && first.contains("$0.30"), "{first}");
        let second = day("2026-01-05");
        assert!(second.contains("unknown") && !second.contains("$0.00"), "{second}");
        terminal.type_text("4");
        let models = terminal.wait_for("my-own-model");
        assert!(models.contents().contains("claude-sonnet-4-5"), "{}", models.contents());
        terminal.type_text("G");
        terminal.wait_for("1 reply is of a model without a known price");
        terminal.press(Key::Enter);
        terminal.wait_for("↑ ↓ scroll");
        terminal.press(Key::Escape);
        terminal.wait_for("Tab next page");
        terminal.type_text("t");
        terminal.wait_for("no messages of today");
        terminal.press(Key::Escape);
        terminal.wait_for("Type a message");
    }
}
