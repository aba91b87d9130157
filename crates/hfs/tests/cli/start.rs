//! Bare `hfs`, and what a person sees on a terminal.

use testkit::cli::{Hfs, Key};

use crate::hfs;

/// Leaves a transcript of another tool in its usual place.
pub fn transcript(hfs: &Hfs) {
    let folder = hfs.home().join(".claude/projects/-x");
    std::fs::create_dir_all(&folder).unwrap();
    let line = serde_json::json!({
        "type": "user", "uuid": "11111111-1111-4111-8111-111111111111", "parentUuid": null,
        "sessionId": "22222222-2222-4222-8222-222222222222", "cwd": "/x", "version": "2.0.0",
        "timestamp": "2026-02-01T10:00:00.000Z", "message": {"role": "user", "content": "an old question"},
    });
    std::fs::write(folder.join("22222222-2222-4222-8222-222222222222.jsonl"), format!("{line}\n")).unwrap();
}

#[test]
fn without_a_terminal_there_is_help_and_nobody_is_asked() {
    let hfs = hfs();
    transcript(&hfs);
    let told = hfs.run(&[]).ok();
    assert!(told.stdout.contains("Usage: hfs") && told.stdout.contains("hfs chat"), "{}", told.told());
    assert!(!told.stdout.contains("[y/N]"), "{}", told.told());
    let document = hfs.run(&["--json"]).ok().json();
    assert_eq!(document["sessions"], serde_json::json!([]));
}

#[test]
fn on_a_terminal_the_app_opens_keeps_what_is_said_and_says_how_to_come_back() {
    let hfs = hfs();
    let terminal = hfs.command(&[]).in_terminal(30, 100);
    terminal.wait_for("Type a message");
    terminal.type_text("remember the lighthouse");
    terminal.press(Key::Enter);
    terminal.wait_for("saved");
    terminal.wait_for("I am recall");
    terminal.press(Key::Ctrl('c'));
    terminal.press(Key::Ctrl('c'));
    terminal.wait_for("resume with: hfs resume");
    assert!(terminal.wait_for_exit().success());
    let found = hfs.run(&["search", "lighthouse", "--json"]).ok().json();
    assert!(found["total"].as_u64().unwrap() >= 1, "{found}");

    let again = hfs.command(&["resume", "@"]).in_terminal(30, 100);
    again.wait_for("I am recall");
    again.press(Key::Ctrl('c'));
    again.press(Key::Ctrl('c'));
    assert!(again.wait_for_exit().success());
}

#[test]
fn without_a_terminal_the_app_says_what_to_do_instead() {
    let hfs = hfs();
    let told = hfs.run(&["-c"]).fails_with(6);
    assert!(told.stderr.contains("hfs chat"), "{}", told.told());
    let told = hfs.run(&["resume"]).fails_with(6);
    assert!(told.stderr.contains("needs a terminal"), "{}", told.told());
}

#[test]
fn colours_are_for_terminals_and_for_whom_they_are_wanted() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "hello"]).ok();
    let has_colour = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = hfs.command(arguments);
        for (name, value) in variables {
            command = command.env(name, value);
        }
        command.run().ok().stdout.contains('\x1b')
    };
    let list = ["session", "list"];
    assert!(!has_colour(&list, &[]));
    assert!(has_colour(&["session", "list", "--color", "always"], &[]));
    assert!(has_colour(&list, &[("NO_COLOR", ""), ("CLICOLOR_FORCE", "1")]));
    assert!(!has_colour(
        &["session", "list", "--color", "never"],
        &[("NO_COLOR", ""), ("CLICOLOR_FORCE", "1")]
    ));
}
