//! `hfs import`

use serde_json::{Value, json};
use testkit::cli::Hfs;

use crate::{fields, hfs, scrubbed};

fn write(hfs: &Hfs, name: &str, document: &Value) {
    std::fs::write(hfs.project().join(name), document.to_string()).unwrap();
}

fn conversation(count: usize) -> Value {
    let messages: Vec<Value> =
        (0..count).map(|n| json!({"role": if n % 2 == 0 { "user" } else { "assistant" }, "content": format!("text {n}")})).collect();
    json!({ "messages": messages })
}

#[test]
fn a_damaged_file_does_not_stop_the_import_of_others() {
    let hfs = hfs();
    write(&hfs, "good.json", &conversation(4));
    std::fs::write(hfs.project().join("bad.json"), "this is not a transcript\n").unwrap();
    let output = hfs.run(&["import", "bad.json", "good.json", "missing.json"]).fails_with(6);
    insta::assert_snapshot!(scrubbed(&hfs, &output), @r"
    [short-1] text 0 - [time] (new, hfs, 4 messages)
    1 session imported, 2 failed (4 messages)
    --- stderr
    error: cannot read [project]/missing.json
      because: no such file or directory
    error: [project]/bad.json is not a transcript that hfs can read: it contains neither JSON records nor a known database
    hint: set the format with --format if you know it; `hfs import --help` lists the formats
    ");
    let list = hfs.run(&["session", "list", "--all", "--json"]).ok().json();
    assert_eq!(list["sessions"][0]["messages"], 4);
}

#[test]
fn the_summary_separates_known_sessions_from_files_that_were_skipped() {
    let hfs = hfs();
    std::fs::create_dir(hfs.project().join("folder")).unwrap();
    write(&hfs, "folder/good.json", &conversation(2));
    std::fs::write(hfs.project().join("folder/notes.md"), "# mine\n").unwrap();
    let first = hfs.run(&["import", "folder"]).ok();
    assert!(
        first.stdout.ends_with("1 session imported, 1 skipped (-v says why) (2 messages)\n"),
        "{}",
        first.describe()
    );
    let again = hfs.run(&["import", "folder"]).ok();
    assert_eq!(again.stdout, "0 sessions imported, 1 imported before, 1 skipped (-v says why)\n");
    let verbose = hfs.run(&["import", "folder", "-v"]).ok();
    assert!(
        verbose.stdout.ends_with("0 sessions imported, 1 imported before, 1 skipped\n"),
        "{}",
        verbose.describe()
    );
}

#[test]
fn the_report_has_the_fields_that_scripts_rely_on() {
    let hfs = hfs();
    write(&hfs, "good.json", &conversation(4));
    std::fs::write(hfs.project().join("bad.json"), "this is not a transcript\n").unwrap();
    let report = hfs.run(&["import", "--json", "good.json", "bad.json"]).fails_with(6).json();
    assert_eq!(fields(&report), ["imported", "skipped", "failed"]);
    let done = &report["imported"][0];
    for field in ["file", "format", "session", "name", "messages", "branches", "report"] {
        assert!(!done[field].is_null(), "{field}");
    }
    assert_eq!(fields(&done["report"]), ["records", "mapped", "opaque", "dropped", "warnings"]);
    assert_eq!(fields(&report["failed"][0]), ["file", "error"]);
    assert_eq!(report["failed"][0]["error"]["kind"], "invalid");
    let again = hfs.run(&["import", "--json", "good.json"]).ok().json();
    assert_eq!(
        (again["imported"].as_array().unwrap().len(), fields(&again["skipped"][0])),
        (0, vec!["file", "reason"])
    );
}

#[test]
fn a_purged_session_comes_back_only_if_its_file_is_named_with_full() {
    let hfs = hfs();
    std::fs::create_dir(hfs.project().join("transcripts")).unwrap();
    write(&hfs, "transcripts/a.json", &conversation(4));
    let import = |arguments: &[&str]| hfs.run(&[&["import", "--json"], arguments].concat()).ok().json();
    assert_eq!(import(&["transcripts"])["imported"].as_array().unwrap().len(), 1);
    let _ = hfs.run(&["session", "delete", "--purge", "@"]).ok();
    for arguments in [&["transcripts"][..], &["transcripts/a.json"], &["--full", "transcripts"]] {
        let report = import(arguments);
        assert_eq!(report["imported"], json!([]), "{arguments:?}");
        assert!(report["skipped"][0]["reason"].as_str().unwrap().contains("deleted permanently"), "{report}");
    }
    assert_eq!(import(&["--full", "transcripts/a.json"])["imported"].as_array().unwrap().len(), 1);
    assert_eq!(import(&["transcripts"])["imported"], json!([]));
    assert_eq!(hfs.run(&["session", "list", "--all", "--json"]).ok().json()["sessions"][0]["messages"], 4);
}

#[test]
fn a_dry_run_writes_nothing() {
    let hfs = hfs();
    write(&hfs, "good.json", &conversation(4));
    let output = hfs.run(&["import", "--dry-run", "good.json"]).ok();
    assert!(output.stdout.contains("nothing was written"), "{}", output.describe());
    assert_eq!(hfs.run(&["store", "info", "--json"]).ok().json()["messages"], 0);
}

#[test]
fn a_directory_standard_input_and_a_named_format_are_imported() {
    let hfs = hfs();
    std::fs::create_dir(hfs.project().join("deep")).unwrap();
    write(&hfs, "deep/one.json", &conversation(2));
    write(&hfs, "two.json", &conversation(6));
    std::fs::write(hfs.project().join("notes.txt"), "not a transcript").unwrap();
    let report = hfs.run(&["import", "--json", "."]).ok().json();
    assert_eq!(report["imported"].as_array().unwrap().len(), 2);
    let document = conversation(8).to_string();
    let report =
        hfs.command(&["import", "--json", "-", "--format", "hfs"]).stdin(&document).run().ok().json();
    assert_eq!(report["imported"][0]["messages"], 8);
    let _ = hfs.run(&["import", "--format", "word", "two.json"]).fails_with(2);
    std::fs::create_dir(hfs.project().join("empty")).unwrap();
    let report = hfs.run(&["import", "--json", "empty"]).ok().json();
    assert_eq!(report["skipped"].as_array().unwrap().len(), 1);
}

#[test]
fn an_imported_session_belongs_to_the_project_of_its_directory() {
    let hfs = hfs();
    let git = hfs.project().join(".git");
    std::fs::create_dir(&git).unwrap();
    std::fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    std::fs::write(git.join("config"), "[remote \"origin\"]\n\turl = https://example.com/a/b\n").unwrap();
    let line = json!({
        "type": "user", "uuid": "11111111-1111-4111-8111-111111111111", "parentUuid": null,
        "sessionId": "22222222-2222-4222-8222-222222222222", "cwd": hfs.project(), "version": "2.0.0",
        "timestamp": "2026-02-01T10:00:00.000Z", "message": {"role": "user", "content": "an old question"},
    });
    let _ = hfs.command(&["import", "-"]).stdin(format!("{line}\n")).run().ok();
    let list = hfs.run(&["session", "list", "--json"]).ok().json();
    assert_eq!(list["sessions"][0]["project"]["repository"], "example.com/a/b");
}

#[test]
fn an_interrupted_import_keeps_complete_sessions_and_can_be_repeated() {
    let hfs = hfs();
    for number in 0..40 {
        write(&hfs, &format!("{number:02}.json"), &conversation(1_000));
    }
    let running = hfs.command(&["import", "."]).spawn();
    let sessions = || hfs.run(&["store", "info", "--json"]).ok().json()["sessions"].as_u64().unwrap();
    while sessions() == 0 {}
    running.interrupt();
    let output = running.wait().fails_with(130);
    assert!(output.stderr.contains("run the same import again to import the rest"), "{}", output.describe());
    let info = hfs.run(&["store", "info", "--json"]).ok().json();
    assert_eq!(info["messages"].as_u64().unwrap(), info["sessions"].as_u64().unwrap() * 1_000);
    let _ = hfs.run(&["import", "."]).ok();
    assert_eq!(sessions(), 40);
}

#[test]
fn a_killed_import_leaves_no_partial_session_and_can_be_repeated() {
    let hfs = hfs();
    write(&hfs, "long.json", &conversation(30_000));
    let running = hfs.command(&["import", "long.json"]).spawn();
    // Wait until about a quarter of the session is written.
    let written = || -> u64 {
        let files = ["hfs.db", "hfs.db-wal"].map(|name| std::fs::metadata(hfs.hfs_home().join(name)));
        files.into_iter().flatten().map(|file| file.len()).sum()
    };
    while written() < 1_500_000 {}
    let _ = running.kill();
    let info = || hfs.run(&["store", "info", "--json"]).ok().json();
    assert_eq!((info()["sessions"].as_u64(), info()["messages"].as_u64()), (Some(0), Some(0)));
    let _ = hfs.run(&["import", "long.json"]).ok();
    assert_eq!((info()["sessions"].as_u64(), info()["messages"].as_u64()), (Some(1), Some(30_000)));
    assert_eq!(hfs.run(&["store", "verify", "--json"]).ok().json()["ok"], true);
}

/// A record of a Claude Code transcript.
fn record(kind: &str, uuid: &str, parent: Option<&str>, text: &str) -> String {
    let record = json!({
        "type": kind, "uuid": uuid, "parentUuid": parent, "sessionId": "s", "timestamp": "2026-01-01T00:00:00Z",
        "message": {"id": format!("m-{uuid}"), "role": kind, "content": [{"type": "text", "text": text}]},
    });
    format!("{record}\n")
}

#[test]
fn a_transcript_that_grew_is_updated_and_an_unchanged_one_is_not_read() {
    let hfs = hfs();
    let path = hfs.project().join("s.jsonl");
    let early =
        record("user", "u1", None, "ask alpha") + &record("assistant", "a1", Some("u1"), "answer beta");
    std::fs::write(&path, &early).unwrap();
    let _ = hfs.run(&["import", "s.jsonl"]).ok();
    let reason = |arguments: &[&str]| {
        let report = hfs.run(arguments).ok().json();
        assert_eq!(report["imported"], json!([]));
        report["skipped"][0]["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(reason(&["import", "--json", "s.jsonl"]), "already imported, and unchanged since");
    assert!(reason(&["import", "--json", "--full", "s.jsonl"]).contains("without new messages"));

    let late = early.replace("beta", "gamma") + &record("user", "u2", Some("u1"), "another way");
    std::fs::write(&path, late).unwrap();
    let report = hfs.run(&["import", "--json", "s.jsonl"]).ok().json();
    let updated = &report["imported"][0];
    assert_eq!((&updated["messages"], &updated["updated_messages"]), (&json!(1), &json!(1)));
    let found = |word: &str| hfs.run(&["search", "--json", word]).ok().json()["total"].clone();
    assert_eq!((found("beta"), found("gamma")), (json!(0), json!(1)));
    let shown = hfs.run(&["session", "show", "@", "--json"]).ok().json();
    let texts: Vec<&Value> =
        shown["messages"].as_array().unwrap().iter().map(|it| &it["parts"][0]["text"]).collect();
    assert_eq!(texts, ["ask alpha", "another way"], "the branch that the user continued in the other tool");
}

#[test]
fn a_quiet_import_prints_nothing() {
    let hfs = hfs();
    write(&hfs, "good.json", &conversation(4));
    let output = hfs.run(&["import", "-q", "good.json"]).ok();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
}

#[test]
fn special_files_are_refused_without_waiting() {
    let hfs = hfs();
    let fifo = hfs.project().join("pipe.jsonl");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in ["pipe.jsonl", "/dev/zero", "/proc/self/environ"] {
        let output = hfs.run(&["import", path]).fails_with(6);
        assert!(output.stderr.contains("cannot read"), "{}", output.describe());
    }
    let report = hfs.run(&["import", "--json", "."]).ok().json();
    assert_eq!(report["skipped"][0]["reason"], "it is not a regular file");
}

#[test]
fn a_newer_document_alone_has_the_exit_code_of_newer_versions() {
    let hfs = hfs();
    let write = |name: &str, text: &str| {
        let path = hfs.project().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let newer = write("newer.json", r#"{"metadata":{"schema_version":"3.0.0"},"messages":[]}"#);
    let damaged = write("damaged.json", r#"{"metadata":{"schema_version":"0.7.0"},"messages":[]}"#);
    let failed = hfs.run(&["import", &newer, "--json"]).fails_with(9).json();
    assert_eq!(failed["failed"][0]["error"]["kind"], "unsupported");
    let _ = hfs.run(&["import", &newer, &damaged]).fails_with(6);
    let _ = hfs.run(&["import", &damaged]).fails_with(6);
}

#[test]
fn messages_without_times_are_those_of_a_models_api() {
    let messages = r#"[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]"#;
    for text in [messages.to_owned(), format!(r#"{{"model":"m","messages":{messages}}}"#)] {
        let hfs = hfs();
        let path = hfs.project().join("messages.json");
        std::fs::write(&path, text).unwrap();
        let imported = hfs.run(&["import", path.to_str().unwrap(), "--json"]).ok().json();
        assert_eq!(imported["imported"][0]["messages"], 2, "{imported}");
        let found = hfs.run(&["session", "list", "--tool", "openai-messages", "--json"]).ok().json();
        assert_eq!(found["sessions"].as_array().unwrap().len(), 1, "{found}");
    }
}

#[test]
fn what_follows_a_document_is_imported_or_reported() {
    let hfs = hfs();
    let import = |text: String| {
        hfs.command(&["import", "-", "--json", "--on-duplicate", "copy"]).stdin(text).run().ok().json()
    };
    let conversation = |title: &str| {
        format!(
            r#"{{"title":"{title}","create_time":1.0,"current_node":"b","conversation_id":"{title}","mapping":{{
            "a":{{"id":"a","message":null,"parent":null,"children":["b"]}},
            "b":{{"id":"b","parent":"a","children":[],"message":{{"id":"b","author":{{"role":"user"}},"create_time":1.0,
            "content":{{"content_type":"text","parts":["hello"]}}}}}}}}}}"#
        )
    };
    let both = import(conversation("one") + &conversation("two"));
    let names: Vec<&str> =
        both["imported"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 2, "{both}");

    let _ = hfs.run(&["chat", "hi"]).ok();
    let document = hfs.run(&["export", "@", "-f", "json", "-o", "-"]).ok().stdout;
    let request =
        r#"{"model":"m","messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"ho"}]}"#;
    assert_eq!(import(format!("{request}\n{request}"))["imported"].as_array().unwrap().len(), 2);
    assert_eq!(import(document.clone())["imported"][0]["report"]["dropped"], 0);
    for (document, between) in [(document.as_str(), "\n"), (request, "")] {
        let joined = import(format!("{document}{between}{document}"));
        let report = &joined["imported"][0]["report"];
        assert_eq!(report["dropped"], 1, "{joined}");
        assert!(report["warnings"].to_string().contains("more follows the end of the document"), "{joined}");
    }
}
