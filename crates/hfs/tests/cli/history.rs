//! Checkpoints, branches, rewind, undo and redo. Every command runs in its own process, so all state is durable.

use serde_json::Value;
use testkit::cli::{Hfs, Key};
use testkit::model_server::{ModelServer, Script};

use crate::{fields, hfs_with, scrubbed, shown, text};

/// A session named "work": three messages with their replies, and a checkpoint after each reply.
fn work_session() -> (ModelServer, Hfs) {
    let server = ModelServer::start();
    server.otherwise(|request| {
        let asked = request.prompt();
        Script::text(format!("answer to {}", asked.lines().last().unwrap_or_default()))
    });
    let hfs = hfs_with(&server);
    let _ = hfs.run(&["chat", "one"]).ok();
    let _ = hfs.run(&["session", "rename", "@", "work"]).ok();
    for question in ["two", "three"] {
        let _ = hfs.run(&["chat", "-s", "work", question]).ok();
    }
    (server, hfs)
}

/// The output of a command, with ids and times replaced.
fn output_of(hfs: &Hfs, arguments: &[&str]) -> String {
    scrubbed(hfs, &hfs.run(arguments).ok())
}

fn json(hfs: &Hfs, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    hfs.run(&arguments).ok().json()
}

/// Everything about "work" except the time of its last change.
fn state_of_work(hfs: &Hfs) -> Value {
    let mut state = shown(hfs, "work");
    state["session"]["updated_at"] = Value::Null;
    state["checkpoints"] = json(hfs, &["checkpoint", "list", "work"]);
    state
}

#[test]
fn checkpoints_and_branches_are_drawn_as_a_graph() {
    let (_server, hfs) = work_session();
    let _ = hfs.run(&["checkpoint", "create", "work", "works\nwell"]).ok();
    let _ = hfs.run(&["checkpoint", "pin", "work", "1"]).ok();
    let _ = hfs.run(&["rewind", "work", "2"]).ok();
    let _ = hfs.run(&["chat", "-s", "work", "another three"]).ok();
    let _ = hfs.run(&["branch", "create", "work", "idea", "--from", "main", "--at", "2"]).ok();
    insta::assert_snapshot!(output_of(&hfs, &["checkpoint", "list", "work"]), @r#"
      ○       6  main-2
      ●       6  #5 [short-1] run.ended [ago]  another three
    ○ │       6  main
    ● │       6  #4 [short-2] manual "works well" [ago]  three
    ● │       6  #3 [short-3] run.ended [ago]  three
    ├─╯       4
    ●         4  #2 [short-4] run.ended [ago]  two
    │   @     2  idea (current)
    ├───╯     2
    ◆         2  #1 [short-5] run.ended (pinned) [ago]  one
    ┴            start
    --- stderr
    "#);
    insta::assert_snapshot!(output_of(&hfs, &["branch", "list", "work"]), @r"
      ○       6  main-2
    ○ │       6  main
    ├─╯       4
    │   @     2  idea (current)
    ├───╯     2
    ┴            start
    --- stderr
    ");
}

#[test]
fn a_checkpoint_is_created_shown_pinned_and_compared() {
    let (_server, hfs) = work_session();
    insta::assert_snapshot!(output_of(&hfs, &["checkpoint", "create", "work", "works"]), @r#"
    --- stderr
    created checkpoint 4 "works" at message 6
    "#);
    insta::assert_snapshot!(output_of(&hfs, &["checkpoint", "pin", "work", "1"]), @r"
    --- stderr
    checkpoint 1 is pinned and is never pruned
    ");
    insta::assert_snapshot!(output_of(&hfs, &["checkpoint", "unpin", "work", "1"]), @r"
    --- stderr
    checkpoint 1 is not pinned and may be pruned
    ");
    insta::with_settings!({ filters => [(r"\d+ bytes, stored in \d+", "[n] bytes, stored in [n]")] }, {
        insta::assert_snapshot!(output_of(&hfs, &["checkpoint", "show", "work", "works"]), @r"
        checkpoint  4 ([short-1])
        label       works
        trigger     manual
        created     [time]
        place       message 6 of main
        pinned      no
        state       [n] bytes, stored in [n]
        memories    none
        tokens      12
        phases      0
        --- stderr
        ");
    });
    insta::assert_snapshot!(output_of(&hfs, &["checkpoint", "diff", "work", "1", "3"]), @r"
    the same up to message 2
    nothing only in checkpoint 1
    + only in checkpoint 3:
    +    3 user      two
    +    4 assistant answer to two
    +    5 user      three
    +    6 assistant answer to three
    tokens of the run: 4, then 12
    --- stderr
    ");
    insta::assert_snapshot!(output_of(&hfs, &["checkpoint", "diff", "work", "3", "works"]), @r"
    the same up to message 6
    nothing only in checkpoint 3
    nothing only in checkpoint 4
    --- stderr
    ");
    let full = hfs.run(&["checkpoint", "show", "work", "seq:4", "--state"]).ok().stdout;
    assert!(full.contains("\"run_snapshot\": {\n"), "{full}");
}

#[test]
fn the_documents_have_the_fields_that_scripts_rely_on() {
    let (_server, hfs) = work_session();
    let list = json(&hfs, &["checkpoint", "list", "work"]);
    let checkpoint = [
        "id",
        "short_id",
        "number",
        "branch",
        "seq",
        "trigger",
        "label",
        "pinned",
        "created_at",
        "state_hash",
        "state_bytes",
        "stored_bytes",
    ];
    assert_eq!(fields(&list), ["checkpoints"]);
    assert_eq!(fields(&list["checkpoints"][0]), checkpoint);
    let numbers: Vec<_> =
        list["checkpoints"].as_array().unwrap().iter().map(|c| c["number"].clone()).collect();
    assert_eq!(numbers, [1, 2, 3]);
    for command in [vec!["create", "work", "x"], vec!["pin", "work", "1"], vec!["show", "work", "1"]] {
        let made = json(&hfs, &[&["checkpoint"][..], &command].concat());
        assert_eq!((fields(&made), fields(&made["checkpoint"])), (vec!["checkpoint"], checkpoint.to_vec()));
    }
    let full = json(&hfs, &["checkpoint", "show", "work", "2", "--state"]);
    assert_eq!(fields(&full), ["checkpoint", "state"]);
    assert_eq!(fields(&full["state"]), ["run_snapshot", "agents", "plugins"]);
    assert_eq!(full["checkpoint"], list["checkpoints"][1]);
    let diff = json(&hfs, &["checkpoint", "diff", "work", "1", "2"]);
    assert_eq!(fields(&diff), ["a", "b", "messages", "agents", "negotiation", "usage", "plugins"]);
    assert_eq!(fields(&diff["messages"]), ["shared", "only_a", "only_b"]);

    let branch = ["id", "name", "parent", "forked_at", "head", "current", "undone"];
    let dry = json(&hfs, &["rewind", "work", "1", "--dry-run"]);
    assert_eq!(
        fields(&dry),
        ["dry_run", "from", "state", "in_view", "out_of_view", "not_taken_back", "prompt"]
    );
    let rewound = json(&hfs, &["rewind", "work", "1"]);
    assert_eq!(fields(&rewound), ["branch", "from", "state", "restored", "not_taken_back", "prompt"]);
    assert_eq!(fields(&rewound["branch"]), branch);
    assert_eq!(fields(&rewound["from"]), ["branch", "checkpoint", "seq"]);
    assert_eq!(rewound["state"], "kept");
    assert_eq!(fields(&rewound["restored"]), ["messages", "state_hash"]);
    assert_eq!(rewound["from"]["checkpoint"], list["checkpoints"][0]["id"]);
    assert_eq!(rewound["restored"]["state_hash"], list["checkpoints"][0]["state_hash"]);
    assert_eq!(text(&rewound["prompt"]), "two");
    let branches = json(&hfs, &["branch", "list", "work"]);
    assert_eq!((fields(&branches), fields(&branches["branches"][1])), (vec!["branches"], branch.to_vec()));
    let diff = json(&hfs, &["branch", "diff", "work", "main", "main-2"]);
    assert_eq!(fields(&diff), ["a", "b", "shared", "only_a", "only_b"]);

    let operation = [
        "id",
        "short_id",
        "session",
        "kind",
        "created_at",
        "detail",
        "branch",
        "checkpoint",
        "target",
        "before",
        "after",
    ];
    let undone = json(&hfs, &["undo", "work"]);
    assert_eq!(fields(&undone), ["operation", "target", "out_of_view"]);
    assert_eq!(
        (fields(&undone["operation"]), fields(&undone["target"])),
        (operation.to_vec(), operation.to_vec())
    );
    let log = json(&hfs, &["log", "work", "-n", "2"]);
    assert_eq!(
        (fields(&log), fields(&log["operations"][0])),
        (vec!["operations", "next"], operation.to_vec())
    );
    assert_eq!((&log["operations"][0], &log["operations"][1]), (&undone["operation"], &undone["target"]));
    let next = log["next"].as_str().unwrap();
    assert_eq!(json(&hfs, &["log", "work", "--after", next])["operations"][0]["kind"], "rename");
}

#[test]
fn a_dry_run_describes_the_effect_of_a_rewind() {
    let (server, hfs) = work_session();
    let before = state_of_work(&hfs);
    insta::assert_snapshot!(output_of(&hfs, &["rewind", "work", "1", "--dry-run"]), @r"
    a rewind to checkpoint 1 creates a branch with messages 1 to 2 in view
    out of view, but kept on main: messages 3 to 6
    offered for editing and sending again: message 3 user      two
    --- stderr
    ");
    assert_eq!(state_of_work(&hfs), before, "a dry run changes nothing");
    insta::assert_snapshot!(output_of(&hfs, &["rewind", "work", "1"]), @r"
    two
    --- stderr
    rewound to checkpoint 1 on the new branch main-2, with 2 messages in view; main keeps all its messages
    `hfs undo [short-1]` undoes this
    the message after checkpoint 1, to edit and send again:
    ");
    let _ = hfs.run(&["chat", "-s", "work", "another two"]).ok();
    let asked = server.requests().pop().unwrap().prompt();
    assert!(asked.contains("one") && asked.contains("another two") && !asked.contains("three"), "{asked}");
    insta::assert_snapshot!(output_of(&hfs, &["branch", "diff", "work", "main", "main-2"]), @r"
    the same up to message 2
    - only in main:
    -    3 user      two
    -    4 assistant answer to two
    -    5 user      three
    -    6 assistant answer to three
    + only in main-2:
    +    3 user      another two
    +    4 assistant answer to another two
    --- stderr
    ");
    let old = json(&hfs, &["session", "show", "work", "--branch", "main"]);
    assert_eq!(old["messages"], before["messages"], "the old branch is complete");
}

#[test]
fn a_rewind_tells_what_goes_out_of_view_of_the_current_branch() {
    let (_server, hfs) = work_session();
    let _ = hfs.run(&["rewind", "work", "1"]).ok();
    let _ = hfs.run(&["chat", "-s", "work", "another two"]).ok();
    // Checkpoint 1 is on main, which is not the current branch any more.
    insta::assert_snapshot!(output_of(&hfs, &["rewind", "work", "1", "--dry-run"]), @r"
    a rewind to checkpoint 1 creates a branch with messages 1 to 2 in view
    out of view, but kept on main-2: messages 3 to 4
    offered for editing and sending again: message 3 user      another two
    --- stderr
    ");
    let planned = json(&hfs, &["rewind", "work", "1", "--dry-run"]);
    assert_eq!((&planned["in_view"], &planned["out_of_view"]), (&2.into(), &2.into()));
}

#[test]
fn a_switch_to_the_current_branch_is_no_operation() {
    let (_server, hfs) = work_session();
    let before = json(&hfs, &["log", "work"]);
    let _ = hfs.run(&["branch", "switch", "work", "main"]).ok();
    assert_eq!(json(&hfs, &["log", "work"]), before);
}

#[test]
fn an_undo_without_a_session_names_a_newer_operation_on_another_one() {
    let (_server, hfs) = work_session();
    let _ = hfs.run(&["rewind", "work", "1"]).ok();
    let _ = hfs.run(&["chat", "of another session"]).ok();
    let _ = hfs.run(&["session", "delete", "@"]).ok();
    let output = hfs.run(&["undo"]).ok();
    assert!(output.stderr.contains("undone: rewind"), "{}", output.describe());
    let warning = "warning: the newest operation of all sessions is another one, delete in";
    assert!(output.stderr.contains(warning), "{}", output.describe());
}

#[test]
fn undo_reverses_a_rewind_exactly_and_redo_repeats_it() {
    let (_server, hfs) = work_session();
    let before = state_of_work(&hfs);
    let _ = hfs.run(&["rewind", "work", "1"]).ok();
    let rewound = state_of_work(&hfs);
    insta::assert_snapshot!(output_of(&hfs, &["undo", "work"]), @r"
    --- stderr
    undone: rewind main at 2 -> main-2; main is current, at message 6
    ");
    assert_eq!(state_of_work(&hfs), before);
    insta::assert_snapshot!(output_of(&hfs, &["redo", "work"]), @r"
    --- stderr
    warning: 4 messages are no longer in view, but kept on main: hfs branch switch [short-1] [short-2]
    redone: rewind main at 2 -> main-2; main-2 is current, at message 2
    ");
    assert_eq!(state_of_work(&hfs), rewound);
    insta::assert_snapshot!(output_of(&hfs, &["log", "work"]), @r#"
    ID      WHEN      WHAT    DETAIL
    [short-1]  [ago]  redo    rewind main at 2 -> main-2
    [short-2]  [ago]  undo    rewind main at 2 -> main-2
    [short-3]  [ago]  rewind  main at 2 -> main-2
    [short-4]  [ago]  rename  "one - [time]" -> "work"
    [short-5]  [ago]  create
    --- stderr
    "#);
}

#[test]
fn an_undone_branch_with_messages_stays_within_reach() {
    let (_server, hfs) = work_session();
    let _ = hfs.run(&["branch", "create", "work", "--at", "2", "idea"]).ok();
    let _ = hfs.run(&["chat", "-s", "work", "a zebra"]).ok();
    insta::assert_snapshot!(output_of(&hfs, &["undo", "work"]), @r"
    --- stderr
    warning: 2 messages are no longer in view, but kept on idea: hfs branch switch [short-1] [short-2]
    undone: fork main at 2 -> idea; main is current, at message 6
    ");
    insta::assert_snapshot!(output_of(&hfs, &["branch", "list", "work"]), @r"
    @       6  main (current)
    │ ○     4  idea (undone)
    ├─╯     2
    ┴          start
    --- stderr
    ");
    for list in [json(&hfs, &["branch", "list", "work"]), shown(&hfs, "work")] {
        let undone = &list["branches"][1];
        assert_eq!((undone["name"].as_str(), &undone["undone"]), (Some("idea"), &Value::Bool(true)));
    }
    assert!(hfs.run(&["session", "show", "work"]).ok().stdout.contains("idea (undone)"));
    let old = json(&hfs, &["session", "show", "work", "--branch", "idea"]);
    assert_eq!(text(&old["messages"][2]), "a zebra");
    let found = json(&hfs, &["search", "zebra"]);
    assert_eq!((found["hits"][0]["branch"].as_str(), found["total"].as_u64()), (Some("idea"), Some(2)));
    for format in ["json", "markdown", "html", "claude-code"] {
        let exported =
            hfs.run(&["export", "work", "--format", format, "--all-branches", "-o", "-"]).ok().stdout;
        assert!(exported.contains("a zebra"), "{format}: {exported}");
    }
    for format in ["codex", "opencode"] {
        let arguments = ["export", "work", "--branch", "idea", "--format", format, "-o", "-"];
        assert!(hfs.run(&arguments).ok().stdout.contains("a zebra"), "{format}");
    }
    // In another store it is an undone branch as well.
    let document = hfs.run(&["export", "work", "-o", "-"]).ok().stdout;
    let other = crate::hfs();
    let _ = other.command(&["import", "-"]).stdin(&document).run().ok();
    assert_eq!(
        json(&other, &["branch", "list", "@"])["branches"],
        json(&hfs, &["branch", "list", "work"])["branches"]
    );

    let switched = json(&hfs, &["branch", "switch", "work", "idea"]);
    assert_eq!(
        (&switched["branch"]["undone"], &switched["branch"]["current"]),
        (&false.into(), &true.into())
    );
    let _ = hfs.run(&["chat", "-s", "work", "and on"]).ok();
    assert_eq!(shown(&hfs, "work")["messages"].as_array().unwrap().len(), 6);
    assert_eq!(json(&hfs, &["store", "verify"])["ok"], true);
}

#[test]
fn any_message_can_be_rewound_to_and_a_missing_state_is_reported() {
    let (_server, hfs) = work_session();
    let _ = hfs.run(&["checkpoint", "delete", "work", "2"]).ok();
    insta::assert_snapshot!(output_of(&hfs, &["rewind", "work", "seq:4", "--dry-run"]), @r"
    a rewind to message 4 creates a branch with messages 1 to 4 in view
    out of view, but kept on main: messages 5 to 6
    no state of agents and plugins is kept for message 4: the messages return, the agents' state does not
    offered for editing and sending again: message 5 user      three
    --- stderr
    ");
    insta::assert_snapshot!(output_of(&hfs, &["rewind", "work", "seq:4"]), @r"
    three
    --- stderr
    warning: no state of agents and plugins is kept for message 4: the messages return, the agents' state does not
    rewound to message 4 on the new branch main-2, with 4 messages in view; main keeps all its messages
    `hfs undo [short-1]` undoes this
    the message after message 4, to edit and send again:
    ");
    let kept = json(&hfs, &["rewind", "work", "seq:3"]);
    let first = &json(&hfs, &["checkpoint", "list", "work"])["checkpoints"][0];
    assert_eq!((&kept["state"], &kept["from"]["checkpoint"]), (&"kept".into(), &first["id"]));
    assert_eq!((kept["restored"]["messages"].as_u64(), &kept["from"]["seq"]), (Some(3), &3.into()));
    let start = json(&hfs, &["rewind", "work", "seq:0"]);
    assert_eq!((&start["state"], &start["restored"]["state_hash"]), (&"initial".into(), &Value::Null));
    assert_eq!(shown(&hfs, "work")["messages"], Value::Array(Vec::new()));
    let output = hfs.run(&["rewind", "work", "seq:1"]).fails_with(3);
    assert!(output.stderr.contains("no message"), "{}", output.describe());
    let _ = hfs.run(&["branch", "switch", "work", "main"]).ok();
    for reference in ["seq:7", "seq:x", "seq:"] {
        let _ = hfs.run(&["rewind", "work", reference]).fails_with(3);
    }

    // An imported session has no checkpoints at all.
    let transcript = r#"[{"role":"user","content":"one"},{"role":"assistant","content":"1"},
        {"role":"user","content":"two"},{"role":"assistant","content":"2"}]"#;
    let imported = hfs.command(&["import", "-", "--json"]).stdin(transcript).run().ok().json();
    let session = imported["imported"][0]["session"].as_str().unwrap();
    let rewound = json(&hfs, &["rewind", session, "seq:2"]);
    assert_eq!((&rewound["state"], text(&rewound["prompt"])), (&"not-kept".into(), "two"));
    let _ = hfs.run(&["chat", "-s", session, "again"]).ok();
    assert_eq!(shown(&hfs, session)["messages"].as_array().unwrap().len(), 4);
    assert_eq!(json(&hfs, &["store", "verify"])["ok"], true);
}

#[test]
fn a_failed_request_makes_no_checkpoint() {
    let (server, hfs) = work_session();
    let before = json(&hfs, &["checkpoint", "list", "work"]);
    server.then(Script::chunks(["a part\n"]).then_hang());
    let running = hfs.command(&["chat", "-s", "work", "four"]).spawn();
    let _ = running.wait_for_line("a part");
    running.interrupt();
    let _ = running.wait().fails_with(130);
    assert_eq!(json(&hfs, &["checkpoint", "list", "work"]), before);
    let created = json(&hfs, &["checkpoint", "create", "work"]);
    assert_eq!(created["checkpoint"]["number"], 4);
}

#[test]
fn a_session_continues_on_its_current_branch() {
    let (_server, hfs) = work_session();
    insta::assert_snapshot!(output_of(&hfs, &["branch", "create", "work", "--at", "4", "idea"]), @r"
    --- stderr
    idea forks main after message 4 and is now current; `hfs branch switch [short-1] main` goes back
    ");
    insta::assert_snapshot!(output_of(&hfs, &["branch", "rename", "work", "idea", "good idea"]), @r"
    --- stderr
    renamed idea to good idea
    ");
    insta::assert_snapshot!(output_of(&hfs, &["branch", "switch", "work", "main"]), @r"
    --- stderr
    main is now current, at message 6
    ");
    let _ = hfs.run(&["branch", "switch", "work", "good idea"]).ok();
    let _ = hfs.run(&["chat", "-c", "elsewhere"]).ok();
    let session = shown(&hfs, "@");
    let messages: Vec<&str> = session["messages"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(
        messages,
        ["one", "answer to one", "two", "answer to two", "elsewhere", "answer to elsewhere"]
    );
    assert_eq!(session["session"]["branch"], "good idea");
}

#[test]
fn impossible_operations_fail_with_the_exit_code_of_their_kind() {
    let (_server, hfs) = work_session();
    let _ = hfs.run(&["checkpoint", "create", "work", "same"]).ok();
    let _ = hfs.run(&["checkpoint", "create", "work", "same"]).ok();
    let before = state_of_work(&hfs);
    for (arguments, code, message) in [
        (&["rewind", "work", "9"][..], 3, "hfs checkpoint list"),
        (&["rewind", "work", "seq:99"], 3, "there is no message 99: the branch main ends at message"),
        (&["rewind", "nowhere", "1"], 3, "no session"),
        (&["checkpoint", "show", "work", "seq:1"], 3, "no checkpoint"),
        (&["branch", "switch", "work", "nowhere"], 3, "hfs branch list"),
        (&["rewind", "work", "same"], 4, "fits 2 checkpoints"),
        (&["branch", "create", "work", "main"], 4, "main"),
        (&["redo", "work"], 4, "nothing to redo"),
        (&["branch", "create", "work", "--at", "7"], 6, "7"),
        (&["branch", "rename", "work", "main", " "], 6, "empty"),
    ] {
        let output = hfs.run(arguments).fails_with(code);
        assert!(output.stderr.contains(message), "{arguments:?}: {}", output.describe());
    }
    assert_eq!(state_of_work(&hfs), before);
    // After `create`, the rename is the only operation. Undoing it restores the old name, so "work" is not found.
    let _ = hfs.run(&["undo", "work"]).ok();
    let output = hfs.run(&["undo", "@"]).fails_with(4);
    assert!(
        output.stderr.contains("nothing more to undo: create is the session's first operation"),
        "{}",
        output.describe()
    );
}

#[test]
fn irreversible_operations_warn_and_ask_first() {
    let (_server, hfs) = work_session();
    insta::assert_snapshot!(output_of(&hfs, &["checkpoint", "delete", "work", "2"]), @r"
    --- stderr
    warning: this cannot be undone: checkpoint 2 is deleted, and no rewind can go back to it; its messages are kept
    deleted checkpoint 2; its messages are kept
    ");
    assert_eq!(hfs.run(&["-q", "checkpoint", "delete", "work", "3"]).ok().stderr, "");

    for (answer, code, remaining) in [("n", 5, 1), ("", 5, 1), ("y", 0, 0)] {
        let terminal = hfs.command(&["checkpoint", "delete", "work", "1"]).in_terminal(24, 100);
        let _ = terminal.wait_for("continue? [y/N]");
        terminal.type_text(answer);
        terminal.press(Key::Enter);
        assert_eq!(terminal.wait_for_exit().code(), Some(code));
        let list = json(&hfs, &["checkpoint", "list", "work"]);
        assert_eq!(list["checkpoints"].as_array().unwrap().len(), remaining);
    }
    // Undo skips the deletions and reverses the operation before them.
    let output = hfs.run(&["undo", "work"]).ok();
    assert!(output.stderr.contains("undone: rename"), "{}", output.describe());
    let output = hfs.run(&["undo", "@"]).fails_with(4);
    assert!(output.stderr.contains("a deleted checkpoint cannot be restored"), "{}", output.describe());
}

#[test]
fn automatic_checkpoints_are_pruned_but_manual_and_pinned_ones_are_kept() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::text("ok"));
    let hfs = hfs_with(&server).env("HFS_CHECKPOINT_RETENTION", "2");
    let _ = hfs.run(&["chat", "0"]).ok();
    let _ = hfs.run(&["checkpoint", "pin", "@", "1"]).ok();
    let _ = hfs.run(&["checkpoint", "create", "@"]).ok();
    for n in 1..6 {
        let _ = hfs.run(&["chat", "-c", &n.to_string()]).ok();
    }
    let list = json(&hfs, &["checkpoint", "list", "@"]);
    let seqs: Vec<_> = list["checkpoints"].as_array().unwrap().iter().map(|c| c["seq"].clone()).collect();
    // The pinned and the manual checkpoint, then the two newest automatic ones.
    assert_eq!(seqs, [2, 2, 10, 12]);
    let numbers: Vec<_> =
        list["checkpoints"].as_array().unwrap().iter().map(|c| c["number"].clone()).collect();
    assert_eq!(numbers, [1, 2, 6, 7], "numbers do not change when others are pruned");
    let _ = hfs.run(&["checkpoint", "show", "@", "3"]).fails_with(3);
    assert_eq!(hfs.run(&["store", "verify", "--json"]).ok().json()["ok"], true);
}

#[test]
fn the_events_that_create_a_checkpoint_are_set_by_the_user_but_not_by_a_project() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::text("ok"));
    let hfs = hfs_with(&server);
    let write = |folder: std::path::PathBuf, text: &str| {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("config.yaml"), text).unwrap();
    };
    let triggers = || -> Vec<String> {
        let list = json(&hfs, &["checkpoint", "list", "@"]);
        let list = list["checkpoints"].as_array().unwrap().iter();
        list.map(|checkpoint| checkpoint["trigger"].as_str().unwrap().to_owned()).collect()
    };
    write(hfs.hfs_home(), "model: test-model\ncheckpoint_on: [run.ended, run.start]\n");
    let output = hfs.run(&["chat", "hi"]).fails_with(6);
    let expected =
        "config.yaml:2: checkpoint_on is a list with \"run.start\" in it; expected a list of events";
    assert!(output.stderr.contains(expected), "{}", output.describe());
    write(hfs.hfs_home(), "checkpoint_on: run.ended\n");
    assert!(
        hfs.run(&["chat", "hi"])
            .fails_with(6)
            .stderr
            .contains("config.yaml:1: checkpoint_on is \"run.ended\"")
    );

    write(hfs.hfs_home(), "checkpoint_on: [run.started]\n");
    write(hfs.project().join(".hfs"), "checkpoint_on: []\n");
    let output = hfs.run(&["--trust", "chat", "hi"]).ok();
    assert!(output.stderr.contains("checkpoint_on is ignored"), "{}", output.describe());
    assert_eq!(triggers(), ["run.started"]);
    let _ = hfs.command(&["chat", "-c", "again"]).env("HFS_CHECKPOINT_ON", "run.*").run().ok();
    assert_eq!(triggers(), ["run.started", "run.started", "run.ended"]);
    let _ = hfs.run(&["config", "set", "checkpoint_on", "[]"]).ok();
    let _ = hfs.run(&["chat", "-c", "and again"]).ok();
    assert_eq!(triggers().len(), 3);
}
