//! `hfs watch`, and the import before an answer.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::cli::{Hfs, RunningProcess};

use crate::{fields, hfs};

/// A transcript of Claude Code that a test writes.
struct Transcript {
    path: PathBuf,
    session: String,
    project: String,
    records: u32,
}

impl Transcript {
    /// A transcript of the session with this number, in the place where Claude Code writes.
    fn new(hfs: &Hfs, number: u32) -> Self {
        let session = format!("{number:08x}-1111-4111-8111-111111111111");
        let folder = hfs.home().join(".claude/projects/-home-me-project");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{session}.jsonl"));
        Self { path, session, project: "/home/me/project".into(), records: 0 }
    }

    fn uuid(number: u32) -> String {
        format!("00000000-0000-4000-8000-{number:012x}")
    }

    fn next(&mut self, text: &str) -> String {
        self.records += 1;
        let n = self.records;
        let role = if n % 2 == 1 { "user" } else { "assistant" };
        let content = if n % 2 == 1 { json!(text) } else { json!([{"type": "text", "text": text}]) };
        let parent = if n == 1 { Value::Null } else { json!(Self::uuid(n - 1)) };
        let record = json!({
            "parentUuid": parent, "isSidechain": false, "type": role, "uuid": Self::uuid(n),
            "sessionId": self.session, "cwd": self.project, "timestamp": format!("2026-01-01T00:00:{:02}Z", n % 60),
            "message": {"role": role, "content": content},
        });
        format!("{record}\n")
    }

    fn append(&mut self, text: &str) {
        let line = self.next(text);
        self.append_raw(&line);
    }

    fn append_raw(&self, text: &str) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&self.path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}

fn sessions(hfs: &Hfs) -> Vec<Value> {
    let listed = hfs.run(&["session", "list", "--all", "--json"]).ok().json();
    listed["sessions"].as_array().unwrap().clone()
}

/// The texts of the messages of the only session.
fn texts(hfs: &Hfs) -> Vec<String> {
    let found = sessions(hfs);
    assert!(found.len() <= 1, "{found:?}");
    let Some(session) = found.first() else { return Vec::new() };
    let shown = hfs.run(&["session", "show", session["id"].as_str().unwrap(), "--json"]).ok().json();
    let messages = shown["messages"].as_array().unwrap();
    messages.iter().map(|message| crate::text(message).to_owned()).collect()
}

#[track_caller]
fn wait_until(what: &str, mut is_done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A watcher that has looked at everything.
fn watch(hfs: &Hfs) -> RunningProcess {
    watch_with(hfs, &["watch", "--json"])
}

fn watch_with(hfs: &Hfs, arguments: &[&str]) -> RunningProcess {
    let before = status(hfs);
    let running = hfs.command(arguments).spawn();
    wait_until("the watcher", || {
        let now = status(hfs);
        now["running"] == true && now["started_at"] != before["started_at"]
    });
    running
}

fn status(hfs: &Hfs) -> Value {
    hfs.run(&["watch", "--status", "--json"]).ok().json()
}

/// Ends a watcher, and checks that it ended by itself.
#[track_caller]
fn stop(running: RunningProcess) -> String {
    running.interrupt();
    running.wait().ok().stdout
}

#[test]
fn what_a_tool_appends_is_imported_while_it_writes() {
    let hfs = hfs();
    let mut transcript = Transcript::new(&hfs, 1);
    transcript.append("before the watcher");
    let running = watch(&hfs);
    wait_until("the first message", || texts(&hfs) == ["before the watcher"]);
    transcript.append("while it runs");
    wait_until("the second message", || texts(&hfs).len() == 2);
    let mut second = Transcript::new(&hfs, 2);
    second.append("a new session");
    wait_until("the second session", || sessions(&hfs).len() == 2);
    let output = stop(running);
    let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{output}");
    assert_eq!((&lines[0]["updated"], &lines[0]["messages"]), (&json!(false), &json!(1)));
    assert_eq!((&lines[1]["updated"], &lines[1]["messages"]), (&json!(true), &json!(1)));
    assert_eq!(lines[0]["session"], lines[1]["session"]);
    let status = status(&hfs);
    assert_eq!(status["running"], false);
    assert_eq!(status["imported"], json!({"new_sessions": 2, "updates": 1, "messages": 3}));
}

#[test]
fn a_place_that_appears_later_is_watched() {
    let hfs = hfs();
    let running = watch(&hfs);
    std::thread::sleep(Duration::from_millis(300));
    let mut transcript = Transcript::new(&hfs, 1);
    transcript.append("in a new folder");
    wait_until("the session", || texts(&hfs).len() == 1);
    fs::remove_dir_all(hfs.home().join(".claude")).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let mut second = Transcript::new(&hfs, 2);
    second.append("after the folder was removed");
    wait_until("the second session", || sessions(&hfs).len() == 2);
    stop(running);
}

#[test]
fn a_line_waits_for_its_end() {
    let hfs = hfs();
    let mut transcript = Transcript::new(&hfs, 1);
    transcript.append("first");
    let line = transcript.next("second");
    let (begin, end) = line.split_at(60);
    transcript.append_raw(begin);
    let running = watch(&hfs);
    wait_until("the first message", || texts(&hfs) == ["first"]);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(status(&hfs)["failed"], json!([]));
    transcript.append_raw(end);
    wait_until("the second message", || texts(&hfs) == ["first", "second"]);
    let line = transcript.next("third, without a line feed");
    transcript.append_raw(line.trim_end());
    wait_until("the third message", || texts(&hfs).len() == 3);
    let output = stop(running);
    for line in output.lines() {
        let document: Value = serde_json::from_str(line).unwrap();
        assert_eq!(document["report"]["dropped"], 0, "{line}");
    }
}

#[test]
fn only_what_was_appended_is_read() {
    let hfs = hfs();
    let mut transcript = Transcript::new(&hfs, 1);
    for n in 0..2_000 {
        transcript.append(&format!("message {n} {}", "with some more words ".repeat(10)));
    }
    let running = watch(&hfs);
    wait_until("the first import", || status(&hfs)["imported"]["messages"] == 2_000);
    let before = status(&hfs)["bytes_read"].as_u64().unwrap();
    assert!(before >= fs::metadata(&transcript.path).unwrap().len());
    for n in 0..5 {
        transcript.append(&format!("more {n}"));
        wait_until("more", || status(&hfs)["imported"]["messages"] == 2_001 + n);
    }
    let read = status(&hfs)["bytes_read"].as_u64().unwrap() - before;
    assert!(read < 5 * 5_000, "{read} bytes for five messages");
    stop(running);
}

#[test]
fn a_file_that_was_truncated_replaced_or_moved_is_imported_once() {
    let hfs = hfs();
    let mut transcript = Transcript::new(&hfs, 1);
    (0..4).for_each(|n| transcript.append(&format!("message {n}")));
    let running = watch(&hfs);
    wait_until("four messages", || texts(&hfs).len() == 4);
    // Truncated: nothing is lost.
    let text = fs::read_to_string(&transcript.path).unwrap();
    let two: String = text.split_inclusive('\n').take(2).collect();
    fs::write(&transcript.path, &two).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(sessions(&hfs)[0]["messages"], 4);
    // Replaced by a new file with more.
    let replacement = transcript.path.with_extension("tmp");
    let more = text.clone() + &transcript.next("message 4");
    fs::write(&replacement, &more).unwrap();
    fs::rename(&replacement, &transcript.path).unwrap();
    wait_until("five messages", || sessions(&hfs)[0]["messages"] == 5);
    // Moved, and continued in its new place.
    let folder = hfs.home().join(".claude/projects/-home-me-moved");
    fs::create_dir(&folder).unwrap();
    let moved = folder.join(transcript.path.file_name().unwrap());
    fs::rename(&transcript.path, &moved).unwrap();
    transcript.path = moved;
    transcript.append("message 5");
    wait_until("six messages", || texts(&hfs).len() == 6);
    // Removed: the session stays.
    fs::remove_file(&transcript.path).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(texts(&hfs).len(), 6);
    let status = status(&hfs);
    assert_eq!((&status["failed"], &status["waiting"]), (&json!([]), &json!(0)));
    stop(running);
}

#[test]
fn a_broken_file_is_reported_once_and_costs_only_itself() {
    let hfs = hfs();
    let mut good = Transcript::new(&hfs, 1);
    let broken = good.path.with_file_name("broken.jsonl");
    fs::write(&broken, "this is no transcript\n".repeat(100)).unwrap();
    let running = watch(&hfs);
    good.append("good");
    wait_until("the good one", || texts(&hfs) == ["good"]);
    wait_until("the report", || status(&hfs)["failed_count"] == 1);
    for n in 0..3 {
        fs::OpenOptions::new().append(true).open(&broken).unwrap().write_all(b"more\n").unwrap();
        good.append("another");
        wait_until("another", || texts(&hfs).len() == 2 + n);
    }
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(status(&hfs)["failed"][0]["file"], broken.to_str().unwrap());
    running.interrupt();
    let output = running.wait().ok();
    assert_eq!(output.stderr.matches("broken.jsonl").count(), 1, "{}", output.describe());
    // What failed and has not changed is not tried again.
    let again = hfs.run(&["watch", "--once"]).ok();
    assert_eq!((again.stdout.as_str(), again.stderr.as_str()), ("", ""));
}

#[test]
fn a_second_watcher_of_a_store_says_so() {
    let hfs = hfs();
    let running = watch(&hfs);
    let second = hfs.run(&["watch"]).fails_with(4);
    assert!(second.stderr.contains(&format!("(process {})", running.pid())), "{}", second.describe());
    // Commands that import wait for each other, not for the watcher.
    let _ = hfs.run(&["watch", "--once"]).ok();
    stop(running);
    stop(watch(&hfs));
}

#[test]
fn a_session_that_was_purged_stays_purged() {
    let hfs = hfs();
    let mut transcript = Transcript::new(&hfs, 1);
    transcript.append("to be forgotten");
    let running = watch(&hfs);
    wait_until("the session", || texts(&hfs).len() == 1);
    let _ = hfs.run(&["session", "delete", "--purge", "@"]).ok();
    transcript.append("more of it");
    std::thread::sleep(Duration::from_secs(1));
    stop(running);
    let _ = hfs.run(&["watch", "--once"]).ok();
    let _ = hfs.command(&["search", "forgotten"]).env("HFS_WATCH_CATCH_UP_MS", "20000").run().ok();
    assert_eq!(sessions(&hfs), Vec::<Value>::new());
}

#[test]
fn a_session_in_the_trash_is_continued_when_it_is_restored() {
    let hfs = hfs();
    let mut transcript = Transcript::new(&hfs, 1);
    transcript.append("first");
    let once = || hfs.run(&["watch", "--once", "--json"]).ok().json();
    assert_eq!(once()["updated"][0]["messages"], 1);
    let id = sessions(&hfs)[0]["id"].as_str().unwrap().to_owned();
    let _ = hfs.run(&["session", "delete", &id]).ok();
    transcript.append("second");
    assert_eq!(once()["updated"], json!([]));
    let _ = hfs.run(&["session", "restore", &id]).ok();
    assert_eq!(once()["updated"][0]["messages"], 1);
    assert_eq!(texts(&hfs), ["first", "second"]);
}

#[test]
fn a_restored_session_of_a_database_is_continued_although_another_one_was_imported() {
    let hfs = hfs();
    let database = opencode(&hfs);
    let write = |number| {
        for session in ["ses_1", "ses_2"] {
            add_message(&database, session, number, "a message");
        }
    };
    add_session(&database, "ses_1");
    add_session(&database, "ses_2");
    write(1);
    let once = || hfs.run(&["watch", "--once", "--json"]).ok().json()["updated"].as_array().unwrap().clone();
    assert_eq!(once().len(), 2);
    let found = sessions(&hfs);
    let is_second = |session: &&Value| session["origin"]["id"].as_str().unwrap().ends_with("ses_2");
    let id = found.iter().find(is_second).unwrap()["id"].as_str().unwrap();
    let _ = hfs.run(&["session", "delete", id]).ok();
    write(2);
    assert_eq!(once().len(), 1);
    let _ = hfs.run(&["session", "restore", id]).ok();
    let updated = once();
    assert_eq!(updated.len(), 1, "{updated:?}");
    assert_eq!((&updated[0]["updated"], &updated[0]["messages"]), (&json!(true), &json!(1)));
}

/// A transcript with the message `first`, which a running watcher has imported.
fn watched_transcript(hfs: &Hfs) -> (Transcript, RunningProcess) {
    let mut transcript = Transcript::new(hfs, 1);
    transcript.append("first");
    let running = watch(hfs);
    wait_until("the first message", || texts(hfs) == ["first"]);
    (transcript, running)
}

/// Lets the store fail when it remembers what was imported, until the trigger `refuse` is dropped.
fn refuse_sources(hfs: &Hfs) -> rusqlite::Connection {
    let store = rusqlite::Connection::open(hfs.hfs_home().join("hfs.db")).unwrap();
    store.busy_timeout(Duration::from_secs(30)).unwrap();
    let trigger =
        "create trigger refuse before insert on import_source begin select raise(abort, 'refused'); end";
    store.execute_batch(trigger).unwrap();
    store
}

#[test]
fn what_the_store_did_not_remember_is_imported_again() {
    let hfs = hfs();
    let (mut transcript, running) = watched_transcript(&hfs);
    let store = refuse_sources(&hfs);
    transcript.append("second");
    wait_until("the failure", || status(&hfs)["waiting"] == 1);
    store.execute_batch("drop trigger refuse").unwrap();
    wait_until("the next attempt", || status(&hfs)["waiting"] == 0);
    stop(running);
    assert_eq!(texts(&hfs), ["first", "second"]);
    assert_eq!(hfs.run(&["watch", "--once", "--json"]).ok().json()["bytes_read"], 0, "it is remembered");
}

#[test]
fn a_line_without_its_end_is_not_read_all_the_time_while_the_store_fails() {
    let hfs = hfs();
    let (mut transcript, running) = watched_transcript(&hfs);
    let store = refuse_sources(&hfs);
    let line = transcript.next("second, without a line feed");
    transcript.append_raw(line.trim_end());
    // The line is imported two seconds after it was written.
    std::thread::sleep(Duration::from_secs(6));
    let read = status(&hfs)["bytes_read"].as_u64().unwrap();
    let length = fs::metadata(&transcript.path).unwrap().len();
    assert!(read < 40 * length, "{read} bytes of a file of {length}");
    store.execute_batch("drop trigger refuse").unwrap();
    stop(running);
    let _ = hfs.run(&["watch", "--once"]).ok();
    assert_eq!(texts(&hfs), ["first", "second, without a line feed"]);
}

#[test]
fn excluded_projects_and_paths_are_imported_only_if_they_are_named() {
    let hfs = hfs();
    let _ = hfs.run(&["config", "set", "watch.exclude", "[~/secret, '*private*']"]).ok();
    let mut secret = Transcript::new(&hfs, 1);
    secret.project = hfs.home().join("secret/api").display().to_string();
    secret.append("in an excluded project");
    let mut private = Transcript::new(&hfs, 2);
    private.path = private.path.with_file_name("my-private-notes.jsonl");
    private.append("in an excluded file");
    let mut open = Transcript::new(&hfs, 3);
    open.append("in the open");
    let running = watch(&hfs);
    wait_until("the session", || sessions(&hfs).len() == 1);
    for transcript in [&mut secret, &mut private, &mut open] {
        transcript.append("more");
    }
    wait_until("more", || sessions(&hfs)[0]["messages"] == 2);
    std::thread::sleep(Duration::from_millis(700));
    stop(running);
    let _ = hfs.command(&["search", "excluded"]).env("HFS_WATCH_CATCH_UP_MS", "20000").run().ok();
    assert_eq!(texts(&hfs), ["in the open", "more"]);
    // The exclusion does not apply to what the user names, nor when it is taken back.
    let _ = hfs.command(&["import"]).arg(&secret.path).run().ok();
    assert_eq!(sessions(&hfs).len(), 2);
    let _ = hfs.run(&["config", "unset", "watch.exclude"]).ok();
    let _ = hfs.run(&["watch", "--once"]).ok();
    assert_eq!(sessions(&hfs).len(), 3);
    let invalid = hfs.run(&["config", "set", "watch.exclude", "[a{b]"]).fails_with(6);
    assert!(invalid.stderr.contains("patterns"), "{}", invalid.describe());
}

#[test]
fn once_imports_what_is_new_and_reports_it() {
    let hfs = hfs();
    let mut transcript = Transcript::new(&hfs, 1);
    transcript.append("first");
    let once = hfs.run(&["watch", "--once", "--json"]).ok().json();
    assert_eq!(fields(&once), ["updated", "failed", "bytes_read"]);
    assert_eq!(once["updated"][0]["messages"], 1);
    assert!(once["bytes_read"].as_u64().unwrap() >= fs::metadata(&transcript.path).unwrap().len());
    let again = hfs.run(&["watch", "--once", "--json"]).ok().json();
    assert_eq!(again, json!({"updated": [], "failed": [], "bytes_read": 0}));
    transcript.append("second");
    let shown = hfs.run(&["watch", "--once"]).ok();
    assert!(shown.stdout.contains("(updated, claude-code, 1 message)"), "{}", shown.describe());
}

#[test]
fn a_search_finds_what_was_written_just_now_if_no_watcher_runs() {
    // On a busy machine, the usual time may not be enough for anything.
    let hfs = hfs().env("HFS_WATCH_CATCH_UP_MS", "20000");
    let mut transcript = Transcript::new(&hfs, 1);
    transcript.append("zebrafinch");
    let hits = |hfs: &Hfs, command: &str| {
        let output = hfs.run(&[command, "zebrafinch", "--json"]).ok();
        assert_eq!(output.stderr, "", "{}", output.describe());
        let found = output.json();
        let list = if command == "search" { &found["hits"] } else { &found["passages"] };
        list.as_array().unwrap().len()
    };
    assert_eq!(hits(&hfs, "search"), 1);
    transcript.append("zebrafinch again");
    assert_eq!(hits(&hfs, "search"), 2);
    let mut second = Transcript::new(&hfs, 2);
    second.append("a zebrafinch in another session");
    assert!(hits(&hfs, "recall") > 0);
    assert_eq!(hits(&hfs, "search"), 3);
    transcript.append("zebrafinch unseen");
    // A store that is named for one command is not written.
    let backup = hfs.project().join("backup.db").display().to_string();
    let _ = hfs.run(&["store", "backup", &backup]).ok();
    let found = hfs.run(&["--store", &format!("sqlite:{backup}"), "search", "zebrafinch", "--json"]).ok();
    assert_eq!(found.json()["total"], 3);
    let off = hfs.command(&["search", "zebrafinch", "--json"]).env("HFS_WATCH_CATCH_UP_MS", "0").run().ok();
    assert_eq!(off.json()["total"], 3);
}

#[test]
fn a_search_in_the_newest_session_finds_what_was_written_just_now() {
    let hfs = hfs().env("HFS_WATCH_CATCH_UP_MS", "20000");
    let mut transcript = Transcript::new(&hfs, 1);
    transcript.append("zebrafinch");
    let found = hfs.run(&["search", "zebrafinch", "--session", "@", "--json"]).ok().json();
    assert_eq!(found["total"], 1, "{found}");
}

#[test]
fn a_search_says_what_it_did_not_import_in_its_time() {
    let hfs = hfs();
    let mut transcript = Transcript::new(&hfs, 1);
    let text = "some words that take their time ".repeat(10);
    let lines: String = (0..10_000).map(|_| transcript.next(&text)).collect();
    transcript.append_raw(&lines);
    let search =
        || hfs.command(&["search", "words", "-n", "1"]).env("HFS_WATCH_CATCH_UP_MS", "20").run().ok();
    for _ in 0..2 {
        let found = search();
        assert!(
            found.stderr.contains("1 transcript of other tools is not imported yet"),
            "{}",
            found.describe()
        );
        assert_eq!(sessions(&hfs), Vec::<Value>::new());
    }
    let _ = hfs.run(&["watch", "--once"]).ok();
    assert_eq!(sessions(&hfs)[0]["messages"], 10_000);
    let found = search();
    assert!(!found.stderr.contains("not imported"), "{}", found.describe());
}

/// opencode's database, as far as its reader needs it, with a session.
fn opencode(hfs: &Hfs) -> rusqlite::Connection {
    let folder = hfs.home().join(".local/share/opencode");
    fs::create_dir_all(&folder).unwrap();
    let database = rusqlite::Connection::open(folder.join("opencode.db")).unwrap();
    // A writer without patience fails at the first lock.
    database.busy_timeout(Duration::ZERO).unwrap();
    database
        .execute_batch(
            "pragma journal_mode = wal;
            create table session (id text primary key, parent_id text, title text, directory text, time_updated integer);
            create table message (id text primary key, session_id text, time_created integer, time_updated integer, data text);
            create table part (id text primary key, message_id text, session_id text, time_created integer, time_updated integer, data text);",
        )
        .unwrap();
    database
}

fn add_session(database: &rusqlite::Connection, session: &str) {
    let sql = "insert into session values (?1, null, ?1, '/home/me/project', 1)";
    database.execute(sql, [session]).unwrap();
}

fn add_message(database: &rusqlite::Connection, session: &str, number: u32, text: &str) {
    let (message, part) = (format!("msg_{session}_{number:04}"), format!("prt_{session}_{number:04}"));
    let data =
        json!({"role": if number % 2 == 1 { "user" } else { "assistant" }, "time": {"created": number}});
    let sql = "insert into message values (?1, ?2, ?3, ?3, ?4)";
    database.execute(sql, (&message, session, number, data.to_string())).unwrap();
    let data = json!({"type": "text", "text": text});
    let sql = "insert into part values (?1, ?2, ?3, ?4, ?4, ?5)";
    database.execute(sql, (&part, &message, session, number, data.to_string())).unwrap();
}

#[test]
fn a_database_is_followed_without_a_trace_in_it() {
    let hfs = hfs();
    let database = opencode(&hfs);
    add_session(&database, "ses_1");
    add_message(&database, "ses_1", 1, "first");
    let folder = hfs.home().join(".local/share/opencode");
    let files = || {
        let mut files: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = files();
    assert!(before.iter().any(|(path, bytes)| path.ends_with("opencode.db-wal") && !bytes.is_empty()));
    let once = hfs.run(&["watch", "--once", "--json"]).ok().json();
    assert_eq!(once["updated"][0]["messages"], 1, "{once}");
    assert!(files() == before, "reading changes no file of the tool");

    let running = watch(&hfs);
    for number in 2..40 {
        // The writer fails if the watcher has a lock that it has to wait for.
        add_message(&database, "ses_1", number, "another");
        std::thread::sleep(Duration::from_millis(20));
    }
    wait_until("the messages", || sessions(&hfs)[0]["messages"] == 39);
    add_session(&database, "ses_2");
    add_message(&database, "ses_2", 1, "in another session");
    wait_until("the second session", || sessions(&hfs).len() == 2);
    // A part that is written while it streams.
    let data = json!({"type": "text", "text": "first, and more"}).to_string();
    database
        .execute("update part set data = ?1, time_updated = 50 where id = 'prt_ses_1_0001'", [data])
        .unwrap();
    let second = sessions(&hfs);
    let id = second.iter().find(|session| session["messages"] == 39).unwrap()["id"].as_str().unwrap();
    wait_until("the changed message", || {
        let found = crate::shown(&hfs, id);
        crate::text(&found["messages"][0]) == "first, and more"
    });
    let output = stop(running);
    let of_second = |line: &&str| line.contains("ses_2");
    assert_eq!(
        output.lines().filter(of_second).count(),
        1,
        "an unchanged session is not read again: {output}"
    );
    database.execute_batch("pragma wal_checkpoint(truncate)").unwrap();
    assert_eq!(hfs.run(&["watch", "--once", "--json"]).ok().json()["updated"], json!([]));
}

#[test]
fn the_watcher_looks_for_changes_where_the_system_reports_none() {
    let hfs = hfs();
    let mut transcript = Transcript::new(&hfs, 1);
    transcript.append("first");
    let command = hfs.command(&["watch", "--json"]).to_command();
    let program = command.get_program().to_str().unwrap().to_owned();
    // A user namespace has limits of its own.
    let script = format!("echo 2 > /proc/sys/user/max_inotify_watches && exec {program} watch --json");
    let mut limited = std::process::Command::new("unshare");
    limited.args(["--user", "--map-root-user", "sh", "-c", &script]).env_clear();
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.current_dir(hfs.project());
    let check = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", "echo 2 > /proc/sys/user/max_inotify_watches"])
        .output();
    if !check.is_ok_and(|output| output.status.success()) {
        println!("skipped: limits of a user namespace cannot be set here");
        return;
    }
    limited.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = limited.spawn().unwrap();
    wait_until("the first message", || texts(&hfs).len() == 1);
    let reported = status(&hfs);
    assert_eq!(reported["mode"], "polling", "{reported}");
    transcript.append("second");
    wait_until("the second message", || texts(&hfs).len() == 2);
    let mut second = Transcript::new(&hfs, 2);
    second.append("another session");
    wait_until("the second session", || sessions(&hfs).len() == 2);
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(stderr.matches("max_user_watches").count(), 1, "{stderr}");
}

/// `hfs` as a process that may not read what its owner has closed, also for root.
fn without_capabilities(hfs: &Hfs, arguments: &[&str]) -> Option<std::process::Output> {
    let command = hfs.command(arguments).to_command();
    let mut limited = std::process::Command::new("unshare");
    limited.arg("--user").arg(command.get_program()).args(command.get_args()).env_clear();
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.current_dir(hfs.project());
    let output = limited.output().ok()?;
    // The program of `unshare` itself failed.
    (!String::from_utf8_lossy(&output.stderr).starts_with("unshare:")).then_some(output)
}

#[test]
fn a_folder_that_cannot_be_read_is_reported_until_it_can() {
    let hfs = hfs();
    Transcript::new(&hfs, 1).append("open");
    let mut closed = Transcript::new(&hfs, 2);
    let folder = hfs.home().join(".claude/projects/closed");
    fs::create_dir_all(&folder).unwrap();
    closed.path = folder.join(closed.path.file_name().unwrap());
    closed.append("closed");
    let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o000);
    // Also the second time, when nothing has changed.
    for _ in 0..2 {
        let Some(output) = without_capabilities(&hfs, &["watch", "--once", "--json"]) else {
            mode(0o755);
            println!("skipped: user namespaces cannot be created here");
            return;
        };
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let failed = report["failed"].as_array().unwrap();
        assert_eq!((failed.len(), &failed[0]["file"]), (1, &json!(folder)), "{report}");
        assert!(
            failed[0]["error"]["message"].as_str().unwrap().contains("cannot read the folder"),
            "{report}"
        );
        assert_eq!(output.status.code(), Some(6));
    }
    assert_eq!(sessions(&hfs).len(), 1);
    mode(0o755);
    let report = hfs.run(&["watch", "--once", "--json"]).ok().json();
    assert_eq!((report["updated"].as_array().unwrap().len(), &report["failed"]), (1, &json!([])), "{report}");
}

#[test]
fn the_doctor_warns_of_sessions_that_will_be_deleted_and_are_not_saved() {
    let hfs = hfs().env("HFS_WATCH_CATCH_UP_MS", "0");
    let deletion = || {
        let doctor = hfs.run(&["doctor", "--json"]);
        let checks = doctor.json()["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["name"] == "deletion")
    };
    assert_eq!(deletion(), None, "Claude Code is not used here");
    let (mut old, mut new) = (Transcript::new(&hfs, 1), Transcript::new(&hfs, 2));
    old.append("old");
    new.append("new");
    let age = |transcript: &Transcript, days: u64| {
        let at = std::time::SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60 + 60);
        fs::File::options().append(true).open(&transcript.path).unwrap().set_modified(at).unwrap();
    };
    age(&old, 28);
    let check = deletion().unwrap();
    assert_eq!(check["status"], "warning");
    assert_eq!(
        check["detail"],
        "Claude Code deletes sessions after 30 days; it will soon delete 1 session that is not saved, the first one in a day"
    );
    fs::write(hfs.home().join(".claude/settings.json"), "{\"cleanupPeriodDays\": 99}").unwrap();
    assert_eq!(deletion().unwrap()["detail"], "Claude Code deletes sessions after 99 days");
    fs::remove_file(hfs.home().join(".claude/settings.json")).unwrap();
    let _ = hfs.run(&["watch", "--once"]).ok();
    assert_eq!(deletion().unwrap()["status"], "ok");
    fs::remove_file(&old.path).unwrap();
    let check = deletion().unwrap();
    assert_eq!(check["detail"], "Claude Code deletes sessions after 30 days; 1 that it has deleted is saved");
}

#[test]
fn the_app_lists_what_was_written_just_now() {
    let hfs = hfs().env("HFS_WATCH_CATCH_UP_MS", "20000");
    let mut transcript = Transcript::new(&hfs, 1);
    transcript.append("a zebrafinch in Claude Code");
    let app = hfs.command(&["resume", "--all"]).in_terminal(30, 100);
    app.wait_for("zebrafinch");
    app.kill();
}

/// A folder with a `systemctl` that notes its arguments.
fn systemctl(hfs: &Hfs, script: &str) -> (PathBuf, PathBuf) {
    let (folder, log) = (hfs.project().join("bin"), hfs.project().join("systemctl.log"));
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join("systemctl");
    fs::write(&program, format!("#!/bin/sh\necho \"$@\" >> {}\n{script}\n", log.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (folder, log)
}

#[test]
fn the_watcher_is_installed_as_a_service_and_removed_again() {
    let hfs = hfs();
    let (bin, log) = systemctl(&hfs, "exit 0");
    let run = |arguments: &[&str]| {
        let command = hfs.command(arguments).env("PATH", &bin).env("CODEX_HOME", "/data/my codex");
        command.env("HFS_WATCH_EXCLUDE", "[client-*]").run().ok()
    };
    let unit = hfs.home().join(".config/systemd/user/hfs-watch.service");
    let installed = run(&["watch", "--install"]);
    insta::assert_snapshot!(hfs.scrub(&installed.stdout), @r"
    wrote [home]/.config/systemd/user/hfs-watch.service
    ran systemctl --user daemon-reload
    ran systemctl --user enable hfs-watch.service
    ran systemctl --user restart hfs-watch.service
    ");
    let text = fs::read_to_string(&unit).unwrap();
    assert!(text.contains("hfs\" \"watch\" \"--quiet\"\n"), "{text}");
    for variable in ["CODEX_HOME=/data/my codex", "HFS_WATCH_EXCLUDE=[client-*]"] {
        assert!(text.contains(&format!("Environment=\"{variable}\"\n")), "{text}");
    }
    assert_eq!(run(&["watch", "--status", "--json"]).json()["installed"], true);
    let again = run(&["watch", "--install", "--json"]).json();
    assert_eq!((&again["installed"], &again["changed"]), (&json!(true), &json!(false)));
    let removed = run(&["watch", "--uninstall"]);
    insta::assert_snapshot!(hfs.scrub(&removed.stdout), @r"
    ran systemctl --user disable --now hfs-watch.service
    removed [home]/.config/systemd/user/hfs-watch.service
    ran systemctl --user daemon-reload
    ");
    assert!(!unit.exists());
    assert!(run(&["watch", "--uninstall"]).stdout.contains("nothing was removed"));
    let calls = fs::read_to_string(log).unwrap();
    assert!(calls.starts_with("--user show-environment\n--user daemon-reload\n"), "{calls}");
}

#[test]
fn without_systemd_nothing_is_installed_and_the_hint_says_what_to_do() {
    let hfs = hfs();
    let (bin, _) = systemctl(&hfs, "echo 'Failed to connect to bus' >&2; exit 1");
    for path in [bin.as_path(), Path::new("/nonexistent")] {
        let refused = hfs.command(&["watch", "--install"]).env("PATH", path).run().fails_with(8);
        assert!(refused.stderr.contains("hfs watch --quiet &"), "{}", refused.describe());
        assert!(!hfs.home().join(".config/systemd/user/hfs-watch.service").exists());
    }
}
