//! `hfs session`

use crate::{fields, hfs, scrubbed, shown, text};

#[test]
fn a_list_shows_this_projects_sessions_and_counts_others() {
    let hfs = hfs();
    insta::assert_snapshot!(scrubbed(&hfs, &hfs.run(&["session", "list"]).ok()), @r#"
    --- stderr
    no sessions yet: `hfs chat "..."` starts one, `hfs import PATH` imports those of other tools
    "#);
    let _ = hfs.run(&["chat", "Fix the login bug"]).ok();
    let _ = hfs.run(&["chat", "Write a parser"]).ok();
    insta::assert_snapshot!(scrubbed(&hfs, &hfs.run(&["session", "ls"]).ok()), @r"
    ID      NAME               MESSAGES  UPDATED
    [short-1]  Write a parser            2  [ago]
    [short-2]  Fix the login bug         2  [ago]
    --- stderr
    ");
    let elsewhere = hfs.command(&["sessions", "list"]).in_folder(hfs.home()).run().ok();
    assert!(
        elsewhere.stderr.contains("no sessions in this project, 2 elsewhere"),
        "{}",
        elsewhere.describe()
    );
    let all = hfs.command(&["session", "list", "--all"]).in_folder(hfs.home()).run().ok();
    assert!(all.stdout.contains("PROJECT") && all.stdout.lines().count() == 3, "{}", all.describe());
}

#[test]
fn the_same_repository_is_the_same_project_in_every_clone() {
    let hfs = hfs();
    for (folder, remote) in [("one", "git@example.com:a/b.git"), ("two", "https://me:secret@example.com/a/b")]
    {
        let git = hfs.home().join(folder).join(".git");
        std::fs::create_dir_all(&git).unwrap();
        std::fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        std::fs::write(git.join("config"), format!("[remote \"origin\"]\n\turl = {remote}\n")).unwrap();
        let _ = hfs.command(&["chat", folder]).in_folder(hfs.home().join(folder)).run().ok();
    }
    let list =
        hfs.command(&["session", "list", "--json"]).in_folder(hfs.home().join("one")).run().ok().json();
    assert_eq!(list["sessions"].as_array().unwrap().len(), 2);
    assert_eq!(list["sessions"][0]["project"]["repository"], "example.com/a/b");
}

#[test]
fn a_cursor_leads_to_the_next_page() {
    let hfs = hfs();
    for number in 0..5 {
        let _ = hfs.run(&["chat", &format!("number {number}")]).ok();
    }
    let mut names = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..3 {
        let mut arguments = vec!["session", "list", "--json", "-n", "2"];
        if let Some(cursor) = &cursor {
            arguments.extend(["--after", cursor]);
        }
        let page = hfs.run(&arguments).ok().json();
        for session in page["sessions"].as_array().unwrap() {
            names.push(session["name"].as_str().unwrap()[..8].to_owned());
        }
        cursor = page["next"].as_str().map(str::to_owned);
    }
    assert_eq!(names, ["number 4", "number 3", "number 2", "number 1", "number 0"]);
    assert_eq!(cursor, None);
    let _ = hfs.run(&["session", "list", "--after", "nonsense"]).fails_with(6);
}

#[test]
fn the_documents_have_the_fields_that_scripts_rely_on() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "hello"]).ok();
    let list = hfs.run(&["session", "list", "--json"]).ok().json();
    assert_eq!(fields(&list), ["sessions", "next"]);
    let session = [
        "id",
        "short_id",
        "name",
        "created_at",
        "updated_at",
        "messages",
        "branches",
        "checkpoints",
        "branch",
        "project",
    ];
    assert_eq!(fields(&list["sessions"][0]), session);
    let show = shown(&hfs, "@");
    assert_eq!(fields(&show), ["session", "branches", "messages"]);
    assert_eq!(fields(&show["session"]), session);
    assert_eq!(
        fields(&show["branches"][0]),
        ["id", "name", "parent", "forked_at", "head", "current", "undone"]
    );
    assert_eq!(show["branches"][0]["current"], true);
    assert_eq!(
        fields(&show["messages"][0]),
        ["id", "seq", "role", "status", "created_at", "agent", "model", "parts", "usage"]
    );
    assert_eq!(show["messages"][0]["parts"], serde_json::json!([{"type": "text", "text": "hello"}]));
    assert!(show["messages"][0]["created_at"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn a_session_is_found_by_id_short_id_name_and_recency() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "first"]).ok();
    let _ = hfs.run(&["chat", "second"]).ok();
    // The list shows automatic names without their times.
    let listed = hfs.run(&["session", "list"]).ok();
    assert!(listed.stdout.contains("  second  "), "{}", listed.describe());
    assert!(shown(&hfs, "second")["session"]["name"].as_str().unwrap().starts_with("second - "));
    let _ = hfs.run(&["session", "rename", "@-1", "The  first\none"]).ok();
    let first = shown(&hfs, "The first one");
    let id = first["session"]["id"].as_str().unwrap();
    let short = first["session"]["short_id"].as_str().unwrap();
    for reference in [id, short, &short[..6], "@"] {
        // A rename makes the session the newest.
        let found = shown(&hfs, reference);
        assert_eq!(found["session"]["name"], "The first one", "{reference}");
    }
    let _ = hfs.run(&["session", "rename", "@-1", "The first one"]).ok();
    let output = hfs.run(&["session", "show", "The first one", "--json"]).fails_with(4);
    assert_eq!(output.json_error()["kind"], "conflict");
}

#[test]
fn a_deleted_session_can_be_restored_and_a_purged_one_cannot() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "precious"]).ok();
    let output = hfs.run(&["session", "rm", "@"]).ok();
    assert!(output.stderr.contains("hfs session restore"), "{}", output.describe());
    let _ = hfs.run(&["session", "show", "@"]).fails_with(3);
    let trash = hfs.run(&["session", "list", "--trash", "--json"]).ok().json();
    let id = trash["sessions"][0]["id"].as_str().unwrap().to_owned();
    let back = hfs.run(&["session", "restore", &id, "--json"]).ok().json();
    assert_eq!(back["session"]["id"], id.as_str());
    assert_eq!(shown(&hfs, "@")["messages"].as_array().unwrap().len(), 2);

    let _ = hfs.run(&["session", "delete", &id]).ok();
    let _ = hfs.run(&["session", "delete", "--purge", &id]).ok();
    let _ = hfs.run(&["session", "restore", &id]).fails_with(3);
    assert_eq!(hfs.run(&["store", "info", "--json"]).ok().json()["messages"], 0);
}

#[test]
fn the_trash_keeps_sessions_for_the_retention_time() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "one"]).ok();
    let _ = hfs.run(&["chat", "two"]).ok();
    let _ = hfs.run(&["session", "delete", "@"]).ok();
    let _ = hfs.run(&["session", "delete", "@"]).ok();
    let trash = hfs.run(&["session", "list", "--trash", "--json"]).ok().json();
    assert_eq!(trash["sessions"].as_array().unwrap().len(), 2, "thirty days have not passed");
}

#[test]
fn a_long_session_shows_its_last_page_or_any_other() {
    let hfs = hfs();
    let messages: Vec<_> =
        (1..=120).map(|n| serde_json::json!({"role": "user", "content": format!("word{n}")})).collect();
    let document = serde_json::json!({ "messages": messages }).to_string();
    let _ = hfs.command(&["import", "-"]).stdin(&document).run().ok();
    let page = hfs.run(&["session", "show", "@"]).ok().stdout;
    assert!(page.contains("word120") && page.contains("word71") && !page.contains("word70\n"), "{page}");
    assert!(page.contains("70 earlier") && page.contains("--at 70"), "{page}");
    let page = hfs.run(&["session", "show", "@", "--at", "3", "-n", "2"]).ok().stdout;
    assert!(page.contains("word3") && page.contains("word2") && !page.contains("word1\n"), "{page}");
    let all = hfs.run(&["session", "show", "@", "--all"]).ok().stdout;
    assert!(all.contains("word1\n") && all.contains("word120"));
    assert_eq!(shown(&hfs, "@")["messages"].as_array().unwrap().len(), 120);
    let some = hfs.run(&["session", "show", "@", "--json", "-n", "3"]).ok().json();
    let seqs: Vec<_> =
        some["messages"].as_array().unwrap().iter().map(|m| m["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [118, 119, 120]);
}

#[test]
fn the_list_shows_projects_and_tools_and_is_filtered_by_both() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "Fix the login bug"]).ok();
    let line = serde_json::json!({
        "type": "user", "uuid": "11111111-1111-4111-8111-111111111111", "parentUuid": null,
        "sessionId": "22222222-2222-4222-8222-222222222222", "cwd": "/srv/Gateway", "version": "2.0.0",
        "timestamp": "2026-02-01T10:00:00.000Z", "message": {"role": "user", "content": "where are the whales"},
    });
    let transcript = hfs.project().join("22222222-2222-4222-8222-222222222222.jsonl");
    std::fs::write(&transcript, format!("{line}\n")).unwrap();
    let _ = hfs.run(&["import", &transcript.display().to_string()]).ok();
    let names = |arguments: &[&str]| -> Vec<String> {
        let arguments: Vec<&str> = ["session", "list", "--json"].iter().chain(arguments).copied().collect();
        let listed = hfs.run(&arguments).ok().json();
        let sessions = listed["sessions"].as_array().unwrap();
        sessions.iter().map(|row| row["name"].as_str().unwrap().chars().take(5).collect()).collect()
    };
    assert_eq!(names(&["--all"]).len(), 2);
    assert_eq!(names(&["--tool", "claude-code"]), ["where"]);
    assert_eq!(names(&["--tool", "hfs"]), ["Fix t"]);
    assert_eq!(names(&["--project", "gateway"]), ["where"]);
    assert_eq!(names(&["--project", "."]), ["Fix t"]);
    assert_eq!(names(&["--project", "gateway", "--tool", "hfs"]), [""; 0]);
    let table = hfs.run(&["session", "list", "--all"]).ok().stdout;
    assert!(table.contains("claude-code") && table.contains("/srv/Gateway"), "{table}");
}

#[test]
fn a_recent_session_that_does_not_exist_is_an_error_that_says_how_many_there_are() {
    let hfs = hfs();
    let empty = hfs.run(&["session", "show", "@"]).fails_with(3);
    assert!(empty.stderr.contains("the store has no sessions"), "{}", empty.describe());
    assert!(empty.stderr.contains("hfs chat"), "{}", empty.describe());
    for words in ["one", "two", "three"] {
        let _ = hfs.run(&["chat", words]).ok();
    }
    let first = shown(&hfs, "@-2");
    assert_eq!(text(&first["messages"][0]), "one");
    let output = hfs.run(&["session", "show", "@-3"]).fails_with(3);
    assert!(output.stderr.contains("this project has only 3 sessions, @ to @-2"), "{}", output.describe());
    assert!(output.stderr.contains("hfs session list --all"), "{}", output.describe());
    let trash = hfs.run(&["session", "restore", "@"]).fails_with(3);
    assert!(trash.stderr.contains("the trash has no sessions"), "{}", trash.describe());
    // The app resumes the same sessions, and says the same.
    let resumed = hfs.command(&["resume", "@-2"]).in_terminal(36, 110);
    resumed.wait_for("❯ Type a message");
    resumed.wait_for("one");
    resumed.terminate();
    let _ = resumed.wait_for_end();
    let none = hfs.command(&["resume", "@-3"]).in_terminal(36, 110);
    let said = none.wait_for_end().contents();
    assert!(said.contains("this project has only 3 sessions, @ to @-2"), "{said}");
}
