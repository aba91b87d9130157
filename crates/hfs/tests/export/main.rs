//! Exports: where they go, and that nothing is lost on the way out and back in.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod transcripts;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use testkit::cli::Hfs;

fn hfs() -> Hfs {
    Hfs::new(env!("CARGO_BIN_EXE_hfs")).env("HFS_AGENT", "recall")
}

fn chat(hfs: &Hfs, arguments: &[&str]) -> String {
    let out = hfs.run(&[&["chat", "--json"], arguments].concat()).ok().json();
    out["session"].as_str().unwrap().to_owned()
}

fn done(hfs: &Hfs, arguments: &[&str]) -> Value {
    hfs.run(&[arguments, &["--json"]].concat()).ok().json()
}

/// A session with a fork, a rewind, an undone fork, and checkpoints with and without labels and pins.
fn travelled(hfs: &Hfs) -> String {
    let session = chat(hfs, &["Where are the logs?\n# heading <script>alert(1)</script>"]);
    let s = session.as_str();
    chat(hfs, &["-s", s, "And on Windows? ```sh\nls\n```"]);
    done(hfs, &["checkpoint", "create", s, "both \"asked\""]);
    done(hfs, &["branch", "create", s, "--at", "2", "idea"]);
    chat(hfs, &["-s", s, "Another way on"]);
    done(hfs, &["checkpoint", "pin", s, "1"]);
    done(hfs, &["rewind", s, "both \"asked\""]);
    chat(hfs, &["-s", s, "After the rewind: café \u{1f600} \u{1b}[31m"]);
    done(hfs, &["branch", "create", s, "undone"]);
    chat(hfs, &["-s", s, "Said on what is taken back"]);
    done(hfs, &["undo", s]);
    done(hfs, &["undo", s]);
    done(hfs, &["redo", s]);
    done(hfs, &["branch", "create", s, "empty"]);
    done(hfs, &["branch", "rename", s, "main", "first"]);
    done(hfs, &["session", "rename", s, "A/B: \"test\""]);
    session
}

fn exported(hfs: &Hfs, session: &str) -> String {
    hfs.run(&["export", "-q", session, "-o", "-"]).ok().stdout
}

/// A document without the one line that differs from export to export.
fn but_for_its_time(document: &str) -> String {
    let at = document.find("\n    \"exported_at\": ").unwrap();
    let end = at + 1 + document[at + 1..].find('\n').unwrap();
    format!("{}{}", &document[..at], &document[end..])
}

/// Where both first differ, with what stands around it.
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
fn a_session_with_branches_and_checkpoints_comes_back_to_the_byte() {
    let (one, other) = (hfs(), hfs());
    let session = travelled(&one);
    let before = exported(&one, &session);
    let imported = other.command(&["import", "-", "--json"]).stdin(&before).run().ok().json();
    assert_eq!(imported["imported"][0]["session"], session.as_str());
    assert_eq!(imported["imported"][0]["report"]["dropped"], 0, "{imported}");
    let after = exported(&other, &session);
    assert_same("the second export", &but_for_its_time(&before), &but_for_its_time(&after));

    // And it goes on there as it would have gone on here.
    let [here, there] = [&one, &other].map(|hfs| done(hfs, &["session", "show", &session]));
    assert_eq!(here["messages"], there["messages"]);
    assert_eq!(here["branches"], there["branches"]);
    for hfs in [&one, &other] {
        let rewound = done(hfs, &["rewind", &session, "1"]);
        assert_eq!(
            rewound["restored"]["messages"],
            done(&one, &["checkpoint", "show", &session, "1"])["checkpoint"]["seq"]
        );
        assert_eq!(done(hfs, &["store", "verify"])["ok"], true);
    }
}

#[test]
fn what_was_taken_back_is_left_out_with_everything_on_it() {
    let hfs = hfs();
    let session = chat(&hfs, &["one"]);
    done(&hfs, &["branch", "create", &session, "gone"]);
    chat(&hfs, &["-s", &session, "only there"]);
    done(&hfs, &["undo", &session]);
    let document: Value = serde_json::from_str(&exported(&hfs, &session)).unwrap();
    let branches: Vec<&str> = document["branches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|branch| branch["name"].as_str().unwrap())
        .collect();
    assert_eq!(branches, ["main"]);
    assert!(!document.to_string().contains("only there"));
    let main = &document["branches"][0]["id"];
    for list in ["runs", "checkpoints"] {
        let list = document[list].as_array().unwrap();
        assert!(!list.is_empty() && list.iter().all(|item| item["branch"] == *main), "{list:?}");
    }
}

#[test]
fn a_branch_that_goes_back_to_one_that_was_taken_back_keeps_its_beginning() {
    let (one, other) = (hfs(), hfs());
    let session = chat(&one, &["one"]);
    done(&one, &["branch", "create", &session, "gone"]);
    chat(&one, &["-s", &session, "said there"]);
    let marked = done(&one, &["checkpoint", "create", &session, "there"]);
    done(&one, &["undo", &session]);
    let id = marked["checkpoint"]["id"].as_str().unwrap();
    done(&one, &["rewind", &session, id]);
    let before = exported(&one, &session);
    assert!(before.contains("said there"));
    let _ = other.command(&["import", "-"]).stdin(&before).run().ok();
    assert_same(
        "the second export",
        &but_for_its_time(&before),
        &but_for_its_time(&exported(&other, &session)),
    );
    let [here, there] =
        [&one, &other].map(|hfs| done(hfs, &["session", "show", &session])["messages"].clone());
    assert_eq!(here, there);
}

#[test]
fn exporting_twice_gives_the_same_bytes() {
    let hfs = hfs();
    let session = travelled(&hfs);
    let (one, two) = (exported(&hfs, &session), exported(&hfs, &session));
    assert_same("the second export", &but_for_its_time(&one), &but_for_its_time(&two));
}

#[test]
fn exports_go_to_a_private_folder_and_never_replace_one_another() {
    let hfs = hfs();
    let session = travelled(&hfs);
    let first = done(&hfs, &["export", &session, "--format", "json"]);
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
    let page = done(&hfs, &["export", &session, "--format", "html"]);
    assert_eq!(page["path"], folder.join("A-B-test.html").to_str().unwrap());
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3, "no temporary file is left");
}

#[test]
fn the_format_follows_the_name_of_the_file_and_a_folder_gets_a_file() {
    let hfs = hfs();
    let session = chat(&hfs, &["hello"]);
    for (name, begins) in
        [("a.md", "# "), ("a.markdown", "# "), ("a.html", "<!"), ("a.json", "{"), ("a", "{")]
    {
        let made = done(&hfs, &["export", &session, "-o", name]);
        let path = hfs.project().join(name);
        assert_eq!(made["path"], path.to_str().unwrap());
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.to_lowercase().starts_with(begins), "{name}: {text}");
    }
    let _ = hfs.run(&["export", &session, "-o", "a.json", "--format", "markdown"]).ok();
    assert!(
        std::fs::read_to_string(hfs.project().join("a.json")).unwrap().starts_with("# "),
        "it is replaced"
    );
    let made = done(&hfs, &["export", &session, "-o", ".", "--format", "markdown"]);
    assert!(Path::new(made["path"].as_str().unwrap()).extension().is_some_and(|end| end == "md"), "{made}");
    let _ = hfs.run(&["export", &session, "-o", "/dev/null"]).ok();
}

#[test]
fn pages_show_the_current_branch_unless_others_are_asked_for() {
    let hfs = hfs();
    let session = travelled(&hfs);
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
fn what_cannot_be_exported_is_refused_and_leaves_nothing() {
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

/// The folder of samples: real transcripts that are no part of this repository.
fn samples() -> Option<PathBuf> {
    let named = std::env::var_os("HFS_SAMPLES").map(PathBuf::from);
    let folder =
        named.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples"));
    folder.is_dir().then_some(folder)
}

/// The sessions of a home by id, of each file at most so many that a test can look at all of them.
fn sessions(hfs: &Hfs) -> BTreeMap<String, String> {
    const OF_ONE_FILE: usize = 12;
    let listed = done(hfs, &["session", "list", "--all", "-n", "10000"]);
    let mut of_files: BTreeMap<&str, usize> = BTreeMap::new();
    let mut sessions = BTreeMap::new();
    for row in listed["sessions"].as_array().unwrap() {
        let file = row["origin"]["path"].as_str().unwrap();
        let seen = of_files.entry(file).or_default();
        *seen += 1;
        if *seen <= OF_ONE_FILE {
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            sessions.insert(text("id"), format!("{file}: {}", text("name")));
        }
    }
    println!("{} sessions of {} files", sessions.len(), of_files.len());
    sessions
}

#[test]
fn every_imported_sample_comes_back_to_the_byte() {
    let Some(samples) = samples() else {
        println!("skipped: the folder of samples is not there");
        return;
    };
    let (one, other) = (hfs(), hfs());
    let patience = Duration::from_secs(300);
    let out = one.command(&["import", "--json"]).arg(&samples).timeout(patience).run();
    // Samples that hold nothing to import are reported as such; all others are there.
    assert!(matches!(out.code, Some(0 | 6)), "{}", out.describe());
    let imported = out.json()["imported"].as_array().unwrap().len();
    assert!(imported > 20, "only {imported} sessions were imported: {}", out.describe());
    let folder = one.project().join("documents");
    std::fs::create_dir(&folder).unwrap();
    let sessions = sessions(&one);
    for id in sessions.keys() {
        let file = folder.join(format!("{id}.json"));
        let _ = one.command(&["export", "-q", id, "-o"]).arg(&file).timeout(patience).run().ok();
    }
    let back = other.command(&["import", "--json"]).arg(&folder).timeout(patience).run().ok().json();
    assert_eq!(back["imported"].as_array().unwrap().len(), sessions.len(), "{}", back["failed"]);
    for (id, name) in &sessions {
        let before = std::fs::read_to_string(folder.join(format!("{id}.json"))).unwrap();
        let after = other.command(&["export", "-q", id, "-o", "-"]).timeout(patience).run().ok().stdout;
        assert_same(name, &but_for_its_time(&before), &but_for_its_time(&after));
    }
    assert_eq!(done(&other, &["store", "verify"])["ok"], true);
}

#[test]
fn a_secret_in_an_export_is_told_of_and_masked_where_that_is_asked_for() {
    let hfs = hfs();
    let key = ["ghp_", "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"].concat();
    let said = format!("the key is {key}, keep it");
    let session = hfs.run(&["chat", &said, "--json"]).ok().json()["session"].as_str().unwrap().to_owned();
    let plain = hfs.run(&["export", &session, "-o", "-"]).ok();
    assert!(plain.stdout.contains(&key), "{}", plain.describe());
    assert!(plain.stderr.contains("--redact"), "{}", plain.describe());
    let masked = hfs.run(&["export", &session, "--redact", "-o", "-"]).ok();
    assert!(!masked.stdout.contains(&key), "{}", masked.describe());
    assert!(masked.stderr.contains("masked"), "{}", masked.describe());
}
