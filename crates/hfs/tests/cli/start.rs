//! `hfs` without a command, with and without a terminal.

use testkit::cli::{Hfs, Key};

use crate::hfs;

/// Writes a transcript to the default location of another tool.
pub fn write_foreign_transcript(hfs: &Hfs) {
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
fn without_a_terminal_help_is_printed_and_no_question_asked() {
    let hfs = hfs();
    write_foreign_transcript(&hfs);
    let output = hfs.run(&[]).ok();
    assert!(
        output.stdout.contains("Usage: hfs") && output.stdout.contains("hfs chat"),
        "{}",
        output.describe()
    );
    assert!(!output.stdout.contains("[y/N]"), "{}", output.describe());
    let document = hfs.run(&["--json"]).ok().json();
    assert_eq!(document["sessions"], serde_json::json!([]));
}

#[test]
fn on_a_terminal_the_app_opens_saves_messages_and_prints_how_to_resume() {
    let hfs = hfs();
    let terminal = hfs.command(&[]).in_terminal(30, 100);
    terminal.wait_for("Type a message");
    terminal.type_text("remember the lighthouse");
    terminal.press(Key::Enter);
    terminal.wait_for("saved");
    terminal.wait_for("recall is a search");
    terminal.press(Key::Ctrl('c'));
    terminal.press(Key::Ctrl('c'));
    terminal.wait_for("resume with: hfs resume");
    assert!(terminal.wait_for_exit().success());
    let found = hfs.run(&["search", "lighthouse", "--json"]).ok().json();
    assert!(found["total"].as_u64().unwrap() >= 1, "{found}");

    let again = hfs.command(&["resume", "@"]).in_terminal(30, 100);
    again.wait_for("recall is a search");
    again.press(Key::Ctrl('c'));
    again.press(Key::Ctrl('c'));
    assert!(again.wait_for_exit().success());
}

#[test]
fn without_a_terminal_the_app_suggests_another_command() {
    let hfs = hfs();
    let output = hfs.run(&["-c"]).fails_with(6);
    assert!(output.stderr.contains("hfs chat"), "{}", output.describe());
    let output = hfs.run(&["resume"]).fails_with(6);
    assert!(output.stderr.contains("needs a terminal"), "{}", output.describe());
}

#[test]
fn output_is_colored_on_terminals_and_on_request() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "hello"]).ok();
    let has_color = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = hfs.command(arguments);
        for (name, value) in variables {
            command = command.env(name, value);
        }
        command.run().ok().stdout.contains('\x1b')
    };
    let list = ["session", "list"];
    assert!(!has_color(&list, &[]));
    assert!(has_color(&["session", "list", "--color", "always"], &[]));
    // The harness sets NO_COLOR to 1. An empty value has the same effect as no value.
    assert!(has_color(&list, &[("NO_COLOR", ""), ("CLICOLOR_FORCE", "1")]));
    assert!(!has_color(
        &["session", "list", "--color", "never"],
        &[("NO_COLOR", ""), ("CLICOLOR_FORCE", "1")]
    ));
}

#[test]
fn the_words_help_and_version_are_understood() {
    let hfs = hfs();
    let help = |arguments: &[&str]| hfs.run(arguments).ok().stdout;
    assert_eq!(help(&["help"]), help(&["--help"]));
    assert_eq!(help(&["help", "rewind"]), help(&["rewind", "--help"]));
    assert_eq!(help(&["-q", "help", "rewind"]), help(&["rewind", "--help"]));
    assert_eq!(help(&["version"]), help(&["--version"]));
}
