//! Output of all commands: exit codes, errors, help, closed pipes, and foreign text that is sanitized.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use serde_json::json;
use testkit::model_server::{ModelServer, Script};

use crate::{fields, hfs, hfs_with, scrubbed, shown};

#[test]
fn every_kind_of_error_has_its_exit_code() {
    let hfs = hfs();
    let _ = hfs.run(&["--version"]).ok();
    let _ = hfs.run(&["session", "show", "nowhere"]).fails_with(3);
    let _ = hfs.run(&["sesion"]).fails_with(2);
    let _ = hfs.run(&["session", "list", "-n", "0"]).fails_with(2);
    let _ = hfs.run(&["search", "x", "--since", "whenever"]).fails_with(2);
    let _ = hfs.run(&["chat", "  "]).fails_with(6);
    let _ = hfs.run(&["config", "set", "output_mode", "loud"]).fails_with(6);
    let _ = hfs.run(&["config", "set", "model", "sk-0123456789abcdefgh"]).fails_with(5);
    let _ = hfs.run(&["--store", "postgres://me@127.0.0.1:1/x", "session", "list"]).fails_with(8);
    let _ = hfs.run(&["--store", "memory:", "store", "backup", "copy.db"]).fails_with(9);
    let _ = hfs.run(&["--store", "nonsense://x", "session", "list"]).fails_with(6);
    let broken = hfs.project().join("broken.db");
    std::fs::write(&broken, "this is not a database\n".repeat(200)).unwrap();
    let _ = hfs.command(&["session", "list", "--store"]).arg(&broken).run().fails_with(7);
}

#[test]
fn an_error_has_a_message_and_a_hint_as_text_and_as_json() {
    let hfs = hfs();
    let output = hfs.run(&["session", "show", "nowhere"]).fails_with(3);
    insta::assert_snapshot!(scrubbed(&hfs, &output), @r#"
    --- stderr
    error: no session "nowhere"
    hint: `hfs session list --all` shows every session
    "#);
    let output = hfs.run(&["session", "show", "nowhere", "--json"]).fails_with(3);
    assert_eq!(output.stdout, "");
    let error = output.json_error();
    assert_eq!(fields(&error), ["kind", "message", "hint"]);
    assert_eq!(error["kind"], "not_found");
    let usage = hfs.run(&["--json", "session", "show"]).fails_with(2);
    assert_eq!(usage.json_error()["kind"], "usage");
}

#[test]
fn a_home_that_cannot_be_created_says_how_to_name_another() {
    let hfs = hfs();
    std::fs::write(hfs.home().join("file"), "").unwrap();
    let home = hfs.home().join("file/hfs").display().to_string();
    let refused = hfs.run(&["--home", &home, "chat", "hello"]);
    assert_ne!(refused.code, Some(0));
    assert!(
        refused.stderr.contains(&home) && refused.stderr.contains("HFS_HOME or --home"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_part_of_a_name_lists_the_sessions_that_have_it() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "where is the lighthouse"]).ok();
    let _ = hfs.run(&["session", "rename", "@", "The Lighthouse"]).ok();
    let refused = hfs.run(&["chat", "-s", "light", "and now"]).fails_with(3).stderr;
    assert!(
        refused.contains("no session \"light\"") && refused.contains("is \"The Lighthouse\""),
        "{refused}"
    );
    let id = refused
        .split_whitespace()
        .nth(refused.split_whitespace().position(|word| word == "hint:").unwrap() + 1);
    let _ = hfs.run(&["chat", "-s", id.unwrap(), "and now"]).ok();
}

#[test]
fn help_goes_to_standard_output_and_creates_no_files() {
    let hfs = hfs();
    for arguments in [&["--help"][..], &["session", "--help"], &["import", "--help"], &["chat", "-h"]] {
        let output = hfs.run(arguments).ok();
        assert!(output.stdout.contains("Usage: hfs") && output.stderr.is_empty(), "{}", output.describe());
    }
    assert!(!hfs.hfs_home().exists(), "help creates no files");
}

/// The completions of the last word, as fish asks for them.
fn completions(hfs: &testkit::cli::Hfs, words: &[&str]) -> String {
    let words: Vec<&str> = ["--", "hfs"].iter().chain(words).copied().collect();
    let output = hfs.command(&words).env("HFS_COMPLETE", "fish").run().ok();
    assert_eq!(output.stderr, "", "a shell would show it in the line");
    output.stdout
}

#[test]
fn completions_know_commands_sessions_branches_checkpoints_and_settings() {
    let hfs = hfs();
    for shell in ["bash", "zsh", "fish"] {
        let script = hfs.run(&["completions", shell]).ok().stdout;
        assert!(script.contains("HFS_COMPLETE"), "{script}");
    }
    let _ = hfs.run(&["completions", "tcl"]).fails_with(2);
    let all = completions(&hfs, &[""]);
    for word in ["session", "import", "doctor"] {
        assert!(all.contains(word), "{word} in {all}");
    }
    assert!(!completions(&hfs, &["session", "show", ""]).contains('@'));
    assert!(!hfs.hfs_home().join("hfs.db").exists(), "a completion creates nothing");

    let _ = hfs.run(&["chat", "where is it"]).ok();
    let _ = hfs.run(&["session", "rename", "@", "lighthouse"]).ok();
    let _ = hfs.run(&["branch", "create", "@", "stormy"]).ok();
    let sessions = completions(&hfs, &["session", "show", ""]);
    assert!(sessions.contains("lighthouse") && sessions.contains('@'), "{sessions}");
    assert!(completions(&hfs, &["export", "light"]).contains("lighthouse"));
    assert!(completions(&hfs, &["chat", "-s", "light"]).contains("lighthouse"));
    assert!(completions(&hfs, &["chat", "-s", "House"]).contains("lighthouse"));
    let branches = completions(&hfs, &["branch", "switch", "lighthouse", ""]);
    assert!(branches.contains("main") && branches.contains("stormy"), "{branches}");
    assert!(completions(&hfs, &["rewind", "@", ""]).contains("run.ended, at message 2"));
    let _ = hfs.run(&["branch", "create", "@", "two words"]).ok();
    let _ = hfs.run(&["session", "rename", "@", "light house"]).ok();
    assert!(completions(&hfs, &["branch", "switch", "@", "two"]).contains("two words"));
    assert!(completions(&hfs, &["export", "light"]).contains("light house"));
    // bash would insert the name as two words, so it is offered by its id.
    let words = ["--", "hfs", "branch", "switch", "@", ""];
    let in_bash = hfs.command(&words).env("HFS_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "4").run().ok();
    assert!(in_bash.stdout.contains("stormy") && !in_bash.stdout.contains("two words"), "{}", in_bash.stdout);
    let _ = hfs.run(&["session", "rename", "@", "lighthouse"]).ok();
    let settings = completions(&hfs, &["config", "set", "st"]);
    assert!(settings.contains("store.url") && settings.contains("store.durability"), "{settings}");
    let values = completions(&hfs, &["config", "set", "theme", ""]);
    assert!(values.contains("dark") && values.contains("light"), "{values}");
    let id = completions(&hfs, &["session", "show", ""]);
    let id = id.lines().find(|line| line.contains("lighthouse")).unwrap().split_whitespace().next().unwrap();
    assert!(!completions(&hfs, &["session", "restore", ""]).contains(id));
    let _ = hfs.run(&["session", "delete", "lighthouse"]).ok();
    assert!(completions(&hfs, &["session", "restore", ""]).contains(id));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let hfs = hfs();
    for name in ["one", "two", "three"] {
        let _ = hfs.run(&["chat", name]).ok();
    }
    for arguments in
        [&["session", "list"][..], &["session", "show", "@"], &["--help"], &["config", "list", "--json"]]
    {
        let mut command = hfs.command(arguments).to_command();
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
    // A reader that stops after the first line.
    let mut child =
        hfs.command(&["session", "show", "@"]).to_command().stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(!line.is_empty() && child.wait().unwrap().success());
}

#[test]
fn a_store_of_a_newer_version_is_not_changed() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "hello"]).ok();
    let path = hfs.hfs_home().join("hfs.db");
    // The schema's version is the user version in the database's header, big-endian at byte 60.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[60..64].copy_from_slice(&9_999_u32.to_be_bytes());
    // A page in the write-ahead log would take precedence over the changed header.
    let _ = std::fs::remove_file(hfs.hfs_home().join("hfs.db-wal"));
    std::fs::write(&path, &bytes).unwrap();
    let output = hfs.run(&["session", "list"]).fails_with(9);
    assert!(output.stderr.contains("9999"), "{}", output.describe());
    assert!(std::fs::read(&path).unwrap() == bytes, "the file was touched");
}

const EVIL: &str = "evil\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\u{8}\u{202e}name";

/// Asserts that the text has no terminal control characters.
#[track_caller]
fn assert_harmless(text: &str) {
    let bad = |c: char| (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}');
    assert!(!text.contains(bad), "{text:?}");
}

#[test]
fn names_messages_and_results_cannot_control_the_terminal() {
    let hfs = hfs();
    let document = json!({ "messages": [
        {"role": "user", "content": EVIL},
        {"role": "assistant", "content": EVIL, "tool_calls": [{"id": EVIL, "type": "function",
            "function": {"name": EVIL, "arguments": json!({ EVIL: EVIL }).to_string()}}]},
        {"role": "tool", "tool_call_id": EVIL, "content": EVIL},
    ]});
    let _ = hfs.command(&["import", "-"]).stdin(document.to_string()).run().ok();
    let _ = hfs.command(&["session", "rename", "@"]).arg(EVIL).run().ok();
    for arguments in [
        &["session", "list", "--all"][..],
        &["session", "show", "@"],
        &["-v", "session", "show", "@"],
        &["search", "evil"],
        &["chat", "-c", "what about evil name"],
        &["session", "show", "@", "--json"],
        &["session", "list", "--all", "--json"],
        &[],
    ] {
        let output = hfs.run(arguments).ok();
        assert_harmless(&output.stdout);
        assert_harmless(&output.stderr);
    }
    let first = &shown(&hfs, "@")["messages"][0];
    assert_eq!(crate::text(first), EVIL, "stored text is not changed");
    let _ = hfs.command(&["session", "delete", "@"]).run().ok();
}

#[test]
fn errors_and_file_names_cannot_control_the_terminal() {
    let hfs = hfs();
    let file = hfs.project().join("a\u{1b}[2Jb.json");
    std::fs::write(&file, "garbage \u{1b}[2J").unwrap();
    for (arguments, code) in [(vec!["import"], 6), (vec!["session", "show"], 3), (vec!["config", "get"], 3)] {
        let output = hfs.command(&arguments).arg(&file).run().fails_with(code);
        assert_harmless(&output.stdout);
        assert_harmless(&output.stderr);
    }
}

#[test]
fn a_model_cannot_send_escape_sequences_that_span_chunks() {
    let server = ModelServer::start();
    server.then(Script::chunks(["safe \u{1b}", "[31mred\u{1b}]0;ti", "tle\u{7} \u{9b}", "2Jend\r"]));
    let hfs = hfs_with(&server);
    let output = hfs.run(&["chat", "hello"]).ok();
    assert_eq!(output.stdout, "safe red end\n");
}

#[test]
fn usage_errors_are_complete_in_json_and_never_control_the_terminal() {
    let hfs = hfs();
    let error = hfs.run(&["session", "rename", "--json"]).fails_with(2).json_error();
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("<SESSION>") && message.contains("<NAME>"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("usage: hfs session rename"), "{error}");
    let error = hfs.run(&["sesion", "--json"]).fails_with(2).json_error();
    assert!(error["hint"].as_str().unwrap().contains("session"), "{error}");
    for arguments in
        [["\x1b[31mred\x07"].as_slice(), &["search", "--since\x1b]0;title\x07"], &["log", "-n", "\x1b[2J"]]
    {
        let output = hfs.run(arguments).fails_with(2);
        assert!(!output.stderr.chars().any(|c| c.is_control() && c != '\n'), "{}", output.describe());
    }
}

/// All commands and their subcommands, as their help texts list them.
fn every_command(hfs: &testkit::cli::Hfs, parent: &[String]) -> Vec<Vec<String>> {
    let arguments: Vec<&str> = parent.iter().map(String::as_str).chain(["--help"]).collect();
    let help = hfs.run(&arguments).ok().stdout;
    let mut commands = vec![parent.to_vec()];
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in listed.take_while(|line| !line.is_empty()) {
        // The continuation of a description is indented further.
        if let Some(name) = line.strip_prefix("  ").filter(|line| !line.starts_with(' ')) {
            let name = name.split_whitespace().next().unwrap_or_default().to_owned();
            commands.extend(every_command(hfs, &[parent, &[name]].concat()));
        }
    }
    commands
}

#[test]
fn help_texts_have_no_backslashes_and_are_wrapped_once() {
    let hfs = hfs();
    for command in every_command(&hfs, &[]) {
        let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = hfs.run(&arguments).ok().stdout;
        let command = command.join(" ");
        assert!(!help.contains('\\'), "{help}");
        // A short line within a paragraph was wrapped twice.
        let lines: Vec<&str> = help.lines().collect();
        for pair in lines.windows(2) {
            let is_prose = |line: &&str| !line.is_empty() && !line.starts_with(' ') && line.contains(' ');
            let is_short = pair[0].len() < 40 && !pair[0].ends_with([':', '.']);
            assert!(!(pair.iter().all(is_prose) && is_short), "{command}: {pair:?}");
        }
    }
}
