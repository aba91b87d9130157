//! Bare `hfs`, and what a person sees on a terminal.

use testkit::cli::{Hfs, Key};

use crate::hfs;

fn transcript(hfs: &Hfs) {
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
fn on_a_terminal_the_import_of_what_is_found_is_offered_once() {
    let hfs = hfs();
    transcript(&hfs);
    let terminal = hfs.command(&[]).in_terminal(40, 100);
    terminal.wait_for("1 transcript found");
    terminal.type_text("n");
    terminal.press(Key::Enter);
    terminal.wait_for("hfs import");
    assert!(terminal.wait_for_exit().success());
    let terminal = hfs.command(&[]).in_terminal(40, 100);
    let screen = terminal.wait_for("hfs chat").contents();
    assert!(!screen.contains("found in"), "{screen}");
    assert!(terminal.wait_for_exit().success());
}

#[test]
fn a_yes_imports_and_lists() {
    let hfs = hfs();
    transcript(&hfs);
    let terminal = hfs.command(&[]).in_terminal(40, 100);
    terminal.wait_for("[y/N]");
    terminal.type_text("y");
    terminal.press(Key::Enter);
    terminal.wait_for("1 session imported");
    terminal.wait_for("Sessions elsewhere");
    assert!(terminal.wait_for_exit().success());
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
