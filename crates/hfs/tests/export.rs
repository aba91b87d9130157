//! `hfs export`: targets, formats, and round trips without loss.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::cli::Hfs;
use testkit::transcripts::records;

fn hfs() -> Hfs {
    Hfs::new(env!("CARGO_BIN_EXE_hfs")).env("HFS_AGENT", "recall")
}

fn chat(hfs: &Hfs, arguments: &[&str]) -> String {
    let out = hfs.run(&[&["chat", "--json"], arguments].concat()).ok().json();
    out["session"].as_str().unwrap().to_owned()
}

fn run_json(hfs: &Hfs, arguments: &[&str]) -> Value {
    hfs.run(&[arguments, &["--json"]].concat()).ok().json()
}

/// A session with a fork, a rewind, an undone fork, and checkpoints with and without labels and pins.
fn branched_session(hfs: &Hfs) -> String {
    let session = chat(hfs, &["Where are the logs?\n# heading <script>alert(1)</script>"]);
    let s = session.as_str();
    chat(hfs, &["-s", s, "And on Windows? ```sh\nls\n```"]);
    run_json(hfs, &["checkpoint", "create", s, "both \"asked\""]);
    run_json(hfs, &["branch", "create", s, "--at", "2", "idea"]);
    chat(hfs, &["-s", s, "Another way on"]);
    run_json(hfs, &["checkpoint", "pin", s, "1"]);
    run_json(hfs, &["rewind", s, "both \"asked\""]);
    chat(hfs, &["-s", s, "After the rewind: café \u{1f600} \u{1b}[31m"]);
    run_json(hfs, &["branch", "create", s, "undone"]);
    chat(hfs, &["-s", s, "Said on the undone branch"]);
    // Undo the fork, then the rewind, and redo the rewind.
    run_json(hfs, &["undo", s]);
    run_json(hfs, &["undo", s]);
    run_json(hfs, &["redo", s]);
    run_json(hfs, &["branch", "create", s, "empty"]);
    run_json(hfs, &["branch", "rename", s, "main", "first"]);
    run_json(hfs, &["session", "rename", s, "A/B: \"test\""]);
    session
}

fn exported(hfs: &Hfs, session: &str) -> String {
    hfs.run(&["export", "-q", session, "-o", "-"]).ok().stdout
}

/// A document without its export time, the only line that differs between exports.
fn without_export_time(document: &str) -> String {
    let at = document.find("\n    \"exported_at\": ").unwrap();
    let end = at + 1 + document[at + 1..].find('\n').unwrap();
    format!("{}{}", &document[..at], &document[end..])
}

/// Fails with the first line that differs.
#[track_caller]
fn assert_same(what: &str, before: &str, after: &str) {
    if before == after {
        return;
    }
    let (mut old, mut new) = (before.lines(), after.lines());
    for number in 1.. {
        let (a, b) = (old.next(), new.next());
        assert!(a == b, "{what}: line {number} was\n  {a:?}\nand is\n  {b:?}");
    }
}

#[test]
fn a_session_with_branches_and_checkpoints_survives_a_round_trip_byte_for_byte() {
    let (one, other) = (hfs(), hfs());
    let session = branched_session(&one);
    let before = exported(&one, &session);
    let imported = other.command(&["import", "-", "--json"]).stdin(&before).run().ok().json();
    assert_eq!(imported["imported"][0]["session"], session.as_str());
    assert_eq!(imported["imported"][0]["report"]["dropped"], 0, "{imported}");
    let after = exported(&other, &session);
    assert_same("the second export", &without_export_time(&before), &without_export_time(&after));

    // The imported session continues like the original.
    let [here, there] = [&one, &other].map(|hfs| run_json(hfs, &["session", "show", &session]));
    assert_eq!(here["messages"], there["messages"]);
    assert_eq!(here["branches"], there["branches"]);
    for hfs in [&one, &other] {
        let rewound = run_json(hfs, &["rewind", &session, "1"]);
        assert_eq!(
            rewound["restored"]["messages"],
            run_json(&one, &["checkpoint", "show", &session, "1"])["checkpoint"]["seq"]
        );
        assert_eq!(run_json(hfs, &["store", "verify"])["ok"], true);
    }
}

#[test]
fn a_session_survives_a_round_trip_through_postgresql_byte_for_byte() {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Some(server) = testkit::postgres::PostgresServer::shared(cache) else { return };
    let on_server = server.new_database();
    let (file, database, again) = (hfs(), hfs().env("HFS_STORE", on_server.url()), hfs());
    let session = branched_session(&file);
    let before = exported(&file, &session);
    let stdin = |hfs: &Hfs, document: &str| {
        let _ = hfs.command(&["import", "-"]).stdin(document).run().ok();
    };
    stdin(&database, &before);
    let between = exported(&database, &session);
    assert_same("the export of PostgreSQL", &without_export_time(&before), &without_export_time(&between));
    stdin(&again, &between);
    let after = exported(&again, &session);
    assert_same("the last export", &without_export_time(&before), &without_export_time(&after));
    assert_eq!(run_json(&database, &["store", "verify"])["ok"], true);
}

#[test]
fn an_undone_branch_is_exported_if_it_has_messages() {
    let hfs = hfs();
    let session = chat(&hfs, &["one"]);
    run_json(&hfs, &["branch", "create", &session, "gone"]);
    chat(&hfs, &["-s", &session, "only there"]);
    run_json(&hfs, &["undo", &session]);
    run_json(&hfs, &["branch", "create", &session, "empty"]);
    run_json(&hfs, &["undo", &session]);
    let document: Value = serde_json::from_str(&exported(&hfs, &session)).unwrap();
    let branches: Vec<(&str, bool)> = document["branches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|branch| (branch["name"].as_str().unwrap(), branch["undone"] == true))
        .collect();
    assert_eq!(branches, [("main", false), ("gone", true)]);
    let gone = &document["branches"][1];
    assert!(gone.to_string().contains("only there"));
    for list in ["runs", "checkpoints"] {
        let list = document[list].as_array().unwrap();
        assert_eq!(list.iter().filter(|item| item["branch"] == gone["id"]).count(), 1, "{list:?}");
    }
}

#[test]
fn a_branch_that_descends_from_an_undone_branch_keeps_its_history() {
    let (one, other) = (hfs(), hfs());
    let session = chat(&one, &["one"]);
    run_json(&one, &["branch", "create", &session, "gone"]);
    chat(&one, &["-s", &session, "said there"]);
    let marked = run_json(&one, &["checkpoint", "create", &session, "there"]);
    run_json(&one, &["undo", &session]);
    let id = marked["checkpoint"]["id"].as_str().unwrap();
    run_json(&one, &["rewind", &session, id]);
    let before = exported(&one, &session);
    assert!(before.contains("said there"));
    let _ = other.command(&["import", "-"]).stdin(&before).run().ok();
    assert_same(
        "the second export",
        &without_export_time(&before),
        &without_export_time(&exported(&other, &session)),
    );
    let [here, there] =
        [&one, &other].map(|hfs| run_json(hfs, &["session", "show", &session])["messages"].clone());
    assert_eq!(here, there);
}

#[test]
fn two_exports_of_a_session_are_identical() {
    let hfs = hfs();
    let session = branched_session(&hfs);
    let (one, two) = (exported(&hfs, &session), exported(&hfs, &session));
    assert_same("the second export", &without_export_time(&one), &without_export_time(&two));
}

#[test]
fn default_exports_go_to_a_private_directory_and_never_replace_each_other() {
    let hfs = hfs();
    let session = branched_session(&hfs);
    let first = run_json(&hfs, &["export", &session, "--format", "json"]);
    let folder = hfs.hfs_home().join("exports");
    let path = folder.join("A-B-test.json");
    assert_eq!(first["path"], path.to_str().unwrap());
    assert_eq!(first["format"], "json");
    assert_eq!(first["bytes"], std::fs::metadata(&path).unwrap().len());
    assert_eq!(first["session"], session.as_str());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&folder)), (0o600, 0o700));
    let before = std::fs::read(&path).unwrap();
    let second = hfs.run(&["export", &session]).ok();
    assert_eq!(second.stdout.trim_end(), folder.join("A-B-test-2.json").to_str().unwrap());
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let page = run_json(&hfs, &["export", &session, "--format", "html"]);
    assert_eq!(page["path"], folder.join("A-B-test.html").to_str().unwrap());
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3, "no temporary file is left");
}

#[test]
fn the_extension_selects_the_format_and_a_directory_gets_a_new_file() {
    let hfs = hfs();
    let session = chat(&hfs, &["hello"]);
    for (name, begins) in
        [("a.md", "# "), ("a.markdown", "# "), ("a.html", "<!"), ("a.json", "{"), ("a", "{")]
    {
        let made = run_json(&hfs, &["export", &session, "-o", name]);
        let path = hfs.project().join(name);
        assert_eq!(made["path"], path.to_str().unwrap());
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.to_lowercase().starts_with(begins), "{name}: {text}");
    }
    let _ = hfs.run(&["export", &session, "-o", "a.json", "--format", "markdown"]).ok();
    assert!(
        std::fs::read_to_string(hfs.project().join("a.json")).unwrap().starts_with("# "),
        "the file is replaced"
    );
    let made = run_json(&hfs, &["export", &session, "-o", ".", "--format", "markdown"]);
    assert!(Path::new(made["path"].as_str().unwrap()).extension().is_some_and(|end| end == "md"), "{made}");
    let _ = hfs.run(&["export", &session, "-o", "/dev/null"]).ok();
}

#[test]
fn pages_show_the_current_branch_unless_others_are_selected() {
    let hfs = hfs();
    let session = branched_session(&hfs);
    let page = |arguments: &[&str]| {
        let all = [&["export", &session, "--format", "markdown", "-o", "-"], arguments].concat();
        hfs.run(&all).ok().stdout
    };
    let (current, all, idea) = (page(&[]), page(&["--all-branches"]), page(&["--branch", "idea"]));
    assert!(current.contains("After the rewind") && !current.contains("Another way on"), "{current}");
    assert!(all.contains("After the rewind") && all.contains("Another way on"), "{all}");
    assert!(!idea.contains("After the rewind") && idea.contains("Another way on"), "{idea}");
    let html = hfs.run(&["export", &session, "--format", "html", "-o", "-"]).ok().stdout;
    assert!(html.contains("After the rewind") && !html.contains("<script>alert"));
}

#[test]
fn a_refused_export_creates_no_files() {
    let hfs = hfs();
    let session = chat(&hfs, &["hello"]);
    let fails = |arguments: &[&str], code: i32| {
        hfs.run(&[&["export", "--json"], arguments].concat()).fails_with(code).json_error()["kind"].clone()
    };
    assert_eq!(fails(&["nothing-like-it"], 3), "not_found");
    assert_eq!(fails(&[&session, "--format", "html", "--branch", "nope"], 3), "not_found");
    assert_eq!(fails(&[&session, "--branch", "main"], 2), "usage");
    assert_eq!(fails(&[&session, "--branch", "main", "--all-branches"], 2), "usage");
    assert_eq!(fails(&[&session, "--format", "word"], 2), "usage");
    assert_eq!(fails(&[&session, "-o", "no/such/folder/a.json"], 3), "not_found");
    assert!(!hfs.hfs_home().join("exports").exists());
    assert_eq!(std::fs::read_dir(hfs.project()).unwrap().count(), 0);
}

#[test]
fn a_closed_pipe_ends_an_export_quietly() {
    let hfs = hfs();
    let text = "a long line to fill the pipe with ".repeat(200);
    let session = chat(&hfs, &[&text]);
    for _ in 0..8 {
        chat(&hfs, &["-s", &session, &text]);
    }
    for format in ["json", "markdown", "html"] {
        let mut command = hfs.command(&["export", &session, "-o", "-", "--format", format]).to_command();
        let mut child = command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let out = child.wait_with_output().unwrap();
        assert_eq!((out.status.code(), String::from_utf8_lossy(&out.stderr).as_ref()), (Some(0), ""));
    }
}

#[test]
fn an_export_shows_one_moment_while_other_processes_write() {
    use std::io::Read;
    let hfs = hfs();
    let text = "a long line to fill the pipe with ".repeat(2000);
    let session = chat(&hfs, &[&text]);
    for _ in 0..8 {
        chat(&hfs, &["-s", &session, &text]);
    }
    run_json(&hfs, &["checkpoint", "create", &session, "marked"]);
    let before = exported(&hfs, &session);
    let mut command = hfs.command(&["export", "-q", &session, "-o", "-"]).to_command();
    let mut child = command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut during = vec![0; 1024];
    out.read_exact(&mut during).unwrap();
    // The export waits for the pipe to be read. Meanwhile the session changes in every way, and is gone in the end.
    run_json(&hfs, &["checkpoint", "delete", &session, "marked"]);
    run_json(&hfs, &["session", "rename", &session, "renamed"]);
    run_json(&hfs, &["branch", "create", &session, "--at", "2", "aside"]);
    chat(&hfs, &["-s", &session, "said meanwhile"]);
    run_json(&hfs, &["session", "delete", &session, "--purge"]);
    out.read_to_end(&mut during).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
    let during = String::from_utf8(during).unwrap();
    assert_same("the export", &without_export_time(&before), &without_export_time(&during));
}

/// The directory of samples: real transcripts that are not part of this repository.
fn samples() -> Option<PathBuf> {
    let named = std::env::var_os("HFS_SAMPLES").map(PathBuf::from);
    let folder =
        named.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples"));
    folder.is_dir().then_some(folder)
}

/// The sessions of a home by id, at most twelve per file to limit the time of the test.
fn sessions(hfs: &Hfs) -> BTreeMap<String, String> {
    const PER_FILE: usize = 12;
    let listed = run_json(hfs, &["session", "list", "--all", "-n", "10000"]);
    let mut seen_per_file: BTreeMap<&str, usize> = BTreeMap::new();
    let mut sessions = BTreeMap::new();
    for row in listed["sessions"].as_array().unwrap() {
        let file = row["origin"]["path"].as_str().unwrap();
        let seen = seen_per_file.entry(file).or_default();
        *seen += 1;
        if *seen <= PER_FILE {
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            sessions.insert(text("id"), format!("{file}: {}", text("name")));
        }
    }
    println!("{} sessions of {} files", sessions.len(), seen_per_file.len());
    sessions
}

#[test]
fn every_imported_sample_survives_a_round_trip_byte_for_byte() {
    let Some(samples) = samples() else {
        println!("skipped: there is no directory of samples");
        return;
    };
    let (one, other) = (hfs(), hfs());
    let timeout = Duration::from_secs(300);
    let out = one.command(&["import", "--json"]).arg(&samples).timeout(timeout).run();
    // Some samples are damaged on purpose and cannot be imported. The exit code is 6 if there are any.
    assert!(matches!(out.code, Some(0 | 6)), "{}", out.describe());
    let imported = out.json()["imported"].as_array().unwrap().len();
    assert!(imported > 20, "only {imported} sessions were imported: {}", out.describe());
    let folder = one.project().join("documents");
    std::fs::create_dir(&folder).unwrap();
    let sessions = sessions(&one);
    for id in sessions.keys() {
        let file = folder.join(format!("{id}.json"));
        let _ = one.command(&["export", "-q", id, "-o"]).arg(&file).timeout(timeout).run().ok();
    }
    let back = other.command(&["import", "--json"]).arg(&folder).timeout(timeout).run().ok().json();
    assert_eq!(back["imported"].as_array().unwrap().len(), sessions.len(), "{}", back["failed"]);
    for (id, name) in &sessions {
        let before = std::fs::read_to_string(folder.join(format!("{id}.json"))).unwrap();
        let after = other.command(&["export", "-q", id, "-o", "-"]).timeout(timeout).run().ok().stdout;
        assert_same(name, &without_export_time(&before), &without_export_time(&after));
    }
    assert_eq!(run_json(&other, &["store", "verify"])["ok"], true);
}

/// The documents of all sessions by file name, without the time of the export.
fn documents(hfs: &Hfs, timeout: Duration) -> BTreeMap<String, String> {
    let folder = hfs.project().join("documents");
    let _ = hfs.command(&["export", "-q", "--all", "-o"]).arg(&folder).timeout(timeout).run().ok();
    let files = std::fs::read_dir(&folder).unwrap().map(Result::unwrap);
    let documents = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "json"));
    documents
        .map(|file| {
            let document = std::fs::read_to_string(file.path()).unwrap();
            (file.file_name().into_string().unwrap(), without_export_time(&document))
        })
        .collect()
}

#[test]
fn sample_sessions_survive_a_copy_to_postgresql_and_back_byte_for_byte() {
    /// They have hundreds of short sessions each. With them, the test takes minutes on a busy machine.
    const LEFT_OUT: [&str; 2] = ["aider-tests-chat-history.md", "fastchat-dummy_conversation.json"];
    let Some(samples) = samples() else {
        println!("skipped: there is no directory of samples");
        return;
    };
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let Some(server) = testkit::postgres::PostgresServer::shared(cache) else { return };
    let on_server = server.new_database();
    let (file, database, again) = (hfs(), hfs().env("HFS_STORE", on_server.url()), hfs());
    let timeout = Duration::from_secs(300);
    let entries = |folder: &Path| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_left_out = |path: &PathBuf| LEFT_OUT.iter().any(|name| path.ends_with(name));
    let mut import = file.command(&["import", "--json"]).timeout(timeout);
    for folder in entries(&samples).filter(|path| path.is_dir()) {
        if entries(&folder).any(|path| is_left_out(&path)) {
            import = entries(&folder)
                .filter(|path| !is_left_out(path))
                .fold(import, testkit::cli::Invocation::arg);
        } else {
            import = import.arg(folder);
        }
    }
    let out = import.run();
    assert!(matches!(out.code, Some(0 | 6)), "{}", out.describe());
    let session = branched_session(&file);
    let copy = |from: &str, to: &str| {
        let copied = file.command(&["store", "copy", "--json", from, to]).timeout(timeout).run().ok().json();
        assert_eq!(copied["differing"], json!([]));
        copied
    };
    let [first, last] = [&file, &again].map(|hfs| hfs.hfs_home().join("hfs.db").display().to_string());
    std::fs::create_dir_all(again.hfs_home()).unwrap();
    let there = copy(&first, &on_server.url());
    let back = copy(&on_server.url(), &last);
    assert_eq!((&there["copied"], &there["messages"]), (&back["copied"], &back["messages"]));
    assert!(there["copied"].as_u64().unwrap() > 20, "{there}");
    let [expected, found] = [&file, &again].map(|hfs| documents(hfs, timeout));
    assert_eq!(found.len(), expected.len());
    for (name, document) in &expected {
        assert_same(name, document, &found[name]);
    }
    let [before, between] = [&file, &database].map(|hfs| without_export_time(&exported(hfs, &session)));
    assert_same("the export of PostgreSQL", &before, &between);
    for hfs in [&database, &again] {
        assert_eq!(run_json(hfs, &["store", "verify"])["ok"], true);
    }
}

#[test]
fn a_secret_in_an_export_is_reported_and_masked_on_request() {
    let hfs = hfs();
    let key = ["ghp_", "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"].concat();
    let text = format!("the key is {key}, keep it");
    let session = hfs.run(&["chat", &text, "--json"]).ok().json()["session"].as_str().unwrap().to_owned();
    let plain = hfs.run(&["export", &session, "-o", "-"]).ok();
    assert!(plain.stdout.contains(&key), "{}", plain.describe());
    assert!(plain.stderr.contains("--redact"), "{}", plain.describe());
    let masked = hfs.run(&["export", &session, "--redact", "-o", "-"]).ok();
    assert!(!masked.stdout.contains(&key), "{}", masked.describe());
    assert!(masked.stderr.contains("masked"), "{}", masked.describe());
}

#[test]
fn the_secrets_in_an_export_are_counted_and_its_file_is_named_without_them() {
    let hfs = hfs();
    let key = ["ghp_", "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"].concat();
    let session = hfs.run(&["chat", "hello", "--json"]).ok().json()["session"].as_str().unwrap().to_owned();
    let _ = hfs.run(&["session", "rename", &session, &format!("deploy {key}")]).ok();
    for (redact, masked) in [(None, false), (Some("--redact"), true), (Some("--redact=strict"), true)] {
        let arguments = ["export", &session, "--json"].into_iter().chain(redact).collect::<Vec<_>>();
        let export = hfs.run(&arguments).ok();
        let json = export.json();
        assert_eq!((&json["secrets"]["found"], &json["secrets"]["masked"]), (&json!(1), &json!(masked)));
        assert_eq!(json["path"].as_str().unwrap().contains(&key), !masked, "{}", export.describe());
        assert!(!export.stderr.contains(&key), "{}", export.describe());
    }
}

#[test]
fn the_name_of_a_session_contains_no_secret_of_its_first_message() {
    let hfs = hfs();
    let key = ["ghp_", "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"].concat();
    let _ = hfs.run(&["chat", &format!("use {key} please")]).ok();
    let list = hfs.run(&["session", "list", "--json"]).ok();
    let name = list.json()["sessions"][0]["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("use … please - "), "{name}");
}

fn transcript(hfs: &Hfs, session: &str, format: &str) -> String {
    let export = ["export", "-q", session, "--format", format, "-o", "-"];
    hfs.command(&export).timeout(Duration::from_secs(120)).run().ok().stdout
}

#[test]
fn every_claude_code_sample_is_exported_with_every_record_it_had() {
    let Some(samples) = samples() else {
        println!("skipped: there is no directory of samples");
        return;
    };
    let table = std::fs::read_to_string(samples.join("expected.json")).unwrap();
    let table: Value = serde_json::from_str(&table).unwrap();
    let mut compared = 0;
    for (name, expected) in table["files"].as_object().unwrap() {
        if expected["format"] != "claude-code" || expected["bytes"] == 0 {
            continue;
        }
        let hfs = hfs();
        let out = hfs.command(&["import", "--json"]).arg(samples.join(name)).run().ok().json();
        let Some(session) = out["imported"][0]["session"].as_str() else {
            assert_eq!(expected["total"]["messages"], 0, "{name}");
            assert_eq!(out["skipped"][0]["reason"], "it contains no messages", "{name}");
            continue;
        };
        let original = std::fs::read(samples.join(name)).unwrap();
        let original = records(&String::from_utf8_lossy(&original).replace('\u{feff}', ""));
        let written = records(&transcript(&hfs, session, "claude-code"));
        for record in original.keys() {
            assert!(written.contains_key(record), "{name} lost {record}");
        }
        // Only `last-prompt` records, which select the branch to continue, may be added. In damaged files,
        // which are named `quirk-...`, the import recovers records that are not on lines of their own.
        let added = written.keys().filter(|record| !original.contains_key(*record));
        let added: Vec<_> = added.filter(|record| !record.contains("\"last-prompt\"")).collect();
        assert!(added.is_empty() || name.contains("quirk-"), "{name} has new records {added:?}");
        compared += original.len();
    }
    assert!(compared > 1000, "only {compared} records were compared");
}

#[test]
fn a_session_can_be_exported_for_each_tool_and_is_detected_as_its_transcript() {
    let (one, other) = (hfs(), hfs());
    let session = branched_session(&one);
    let texts = |shown: &Value| -> Vec<String> {
        let messages = shown["messages"].as_array().unwrap();
        messages.iter().map(|message| message["parts"][0]["text"].as_str().unwrap().to_owned()).collect()
    };
    let here = texts(&run_json(&one, &["session", "show", &session]));
    for format in ["claude-code", "codex", "opencode"] {
        let written = transcript(&one, &session, format);
        let import = other.command(&["import", "-", "--json"]).stdin(&written).run().ok().json();
        let imported_session = &import["imported"][0];
        assert_eq!(imported_session["format"], format);
        let there = run_json(&other, &["session", "show", imported_session["session"].as_str().unwrap()]);
        // The import restores the current branch, regardless of its position in the file.
        assert_eq!(texts(&there), here, "{format}");
        let branches = there["branches"].as_array().unwrap().len();
        // Only Claude Code's transcripts contain all branches. Those of the other tools contain the current branch.
        assert_eq!(branches > 1, format == "claude-code", "{format} has {branches} branches");
    }
}

#[test]
fn a_transcript_of_one_branch_contains_the_selected_branch() {
    let hfs = hfs();
    let session = branched_session(&hfs);
    let of = |arguments: &[&str]| hfs.run(&[&["export", "-q", &session, "-o", "-"], arguments].concat());
    let idea = of(&["--format", "codex", "--branch", "idea"]).ok().stdout;
    assert!(idea.contains("Another way on") && !idea.contains("After the rewind"), "{idea}");
    assert_eq!(of(&["--format", "codex", "--all-branches"]).code, Some(2));
    assert_eq!(of(&["--format", "claude-code", "--branch", "idea"]).code, Some(2));
}

#[test]
fn a_transcript_has_the_file_name_that_its_tool_expects_and_the_command_is_printed() {
    let hfs = hfs();
    let session = chat(&hfs, &["hello"]);
    for (format, ending, command) in [
        ("claude-code", ".jsonl", "claude --resume"),
        ("codex", ".jsonl", "codex resume"),
        ("opencode", ".json", "opencode import"),
    ] {
        let out = hfs.run(&["export", &session, "--format", format]).ok();
        let path = Path::new(out.stdout.trim_end());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(path.is_file() && name.ends_with(ending), "{name}");
        let shown = run_json(&hfs, &["session", "show", &session]);
        let branch = shown["branches"][0]["id"].as_str().unwrap();
        // A rollout contains one branch, so its id is the branch's.
        let id = match format {
            "claude-code" => session.as_str(),
            "codex" => branch,
            _ => "hello",
        };
        assert!(name.contains(id), "{name}");
        assert!(out.stderr.contains(command), "{}", out.describe());
    }
}
