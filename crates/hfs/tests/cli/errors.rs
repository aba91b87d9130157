//! Exit codes, usage, the form of errors, closed pipes.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use crate::{fields, hfs, scrubbed};

#[test]
fn every_kind_of_failure_has_its_exit_code() {
    let hfs = hfs();
    let _ = hfs.run(&["--version"]).ok();
    let _ = hfs.run(&["session", "show", "nowhere"]).fails_with(3);
    let _ = hfs.run(&["sesion"]).fails_with(2);
    let _ = hfs.run(&["session", "list", "-n", "0"]).fails_with(2);
    let _ = hfs.run(&["search", "x", "--since", "whenever"]).fails_with(2);
    let _ = hfs.run(&["chat", "  "]).fails_with(6);
    let _ = hfs.run(&["config", "set", "output_mode", "loud"]).fails_with(6);
    let _ = hfs.run(&["config", "set", "model", "sk-0123456789abcdefgh"]).fails_with(5);
    let _ = hfs.run(&["--store", "postgres://localhost/x", "session", "list"]).fails_with(9);
    let _ = hfs.run(&["--store", "nonsense://x", "session", "list"]).fails_with(6);
    let broken = hfs.project().join("broken.db");
    std::fs::write(&broken, "this is no database, whatever its name says\n".repeat(200)).unwrap();
    let _ = hfs.command(&["session", "list", "--store"]).arg(&broken).run().fails_with(7);
}

#[test]
fn an_error_says_what_was_tried_and_what_to_do_as_text_and_as_json() {
    let hfs = hfs();
    let told = hfs.run(&["session", "show", "nowhere"]).fails_with(3);
    insta::assert_snapshot!(scrubbed(&hfs, &told), @r#"
    --- stderr
    error: no session "nowhere"
    hint: `hfs session list --all` shows every session
    "#);
    let told = hfs.run(&["session", "show", "nowhere", "--json"]).fails_with(3);
    assert_eq!(told.stdout, "");
    let error = told.json_error();
    assert_eq!(fields(&error), ["kind", "message", "hint"]);
    assert_eq!(error["kind"], "not_found");
    let usage = hfs.run(&["--json", "session", "show"]).fails_with(2);
    assert_eq!(usage.json_error()["kind"], "usage");
}

#[test]
fn help_is_help_and_no_error() {
    let hfs = hfs();
    for arguments in [&["--help"][..], &["session", "--help"], &["import", "--help"], &["chat", "-h"]] {
        let told = hfs.run(arguments).ok();
        assert!(told.stdout.contains("Usage: hfs") && told.stderr.is_empty(), "{}", told.describe());
    }
    assert!(!hfs.hfs_home().exists(), "help makes no files");
}

#[test]
fn completions_name_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = hfs().run(&["completions", shell]).ok().stdout;
        for word in ["session", "import", "doctor", "on-duplicate"] {
            assert!(script.contains(word), "{word} in {shell}");
        }
    }
    let _ = hfs().run(&["completions", "tcl"]).fails_with(2);
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
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{arguments:?}");
    }
    // A reader that is satisfied with the first line.
    let mut child =
        hfs.command(&["session", "show", "@"]).to_command().stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(!line.is_empty() && child.wait().unwrap().success());
}

#[test]
fn a_store_of_a_newer_version_is_left_alone() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "hello"]).ok();
    let path = hfs.hfs_home().join("hfs.db");
    // The schema's version is the user version in the database's header, big-endian at byte 60.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[60..64].copy_from_slice(&9_999_u32.to_be_bytes());
    let _ = std::fs::remove_file(hfs.hfs_home().join("hfs.db-wal"));
    std::fs::write(&path, &bytes).unwrap();
    let told = hfs.run(&["session", "list"]).fails_with(9);
    assert!(told.stderr.contains("9999"), "{}", told.describe());
    assert!(std::fs::read(&path).unwrap() == bytes, "the file was touched");
}
