//! Checkpoints, branches, rewind, undo: each command is a process of its own, so all of it lasts.

use serde_json::Value;
use testkit::cli::{Hfs, Key};
use testkit::model_server::{ModelServer, Script};

use crate::{fields, hfs_with, scrubbed, shown, text};

/// A session called "work": three questions with their answers, and a checkpoint behind each.
fn talk() -> (ModelServer, Hfs) {
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

/// What a command says, made comparable.
fn told(hfs: &Hfs, arguments: &[&str]) -> String {
    scrubbed(hfs, &hfs.run(arguments).ok())
}

fn json(hfs: &Hfs, arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    hfs.run(&arguments).ok().json()
}

/// Everything about the structure of "work", but the time of its last change.
fn shape(hfs: &Hfs) -> Value {
    let mut shape = shown(hfs, "work");
    shape["session"]["updated_at"] = Value::Null;
    shape["checkpoints"] = json(hfs, &["checkpoint", "list", "work"]);
    shape
}

#[test]
fn the_timeline_is_drawn_with_its_branches_and_marks() {
    let (_server, hfs) = talk();
    let _ = hfs.run(&["checkpoint", "create", "work", "works\nwell"]).ok();
    let _ = hfs.run(&["checkpoint", "pin", "work", "1"]).ok();
    let _ = hfs.run(&["rewind", "work", "2"]).ok();
    let _ = hfs.run(&["chat", "-s", "work", "another three"]).ok();
    let _ = hfs.run(&["branch", "create", "work", "idea", "--from", "main", "--at", "2"]).ok();
    insta::assert_snapshot!(told(&hfs, &["checkpoint", "list", "work"]), @r#"
      ○       6  main-2
      ●       6  #5 [short-1] run.ended [ago]
    ○ │       6  main
    ● │       6  #4 [short-2] manual "works well" [ago]
    ● │       6  #3 [short-3] run.ended [ago]
    ├─╯       4
    ●         4  #2 [short-4] run.ended [ago]
    │   @     2  idea (current)
    ├───╯     2
    ◆         2  #1 [short-5] run.ended (pinned) [ago]
    ┴            the beginning
    --- stderr
    "#);
    insta::assert_snapshot!(told(&hfs, &["branch", "list", "work"]), @r"
      ○       6  main-2
    ○ │       6  main
    ├─╯       4
    │   @     2  idea (current)
    ├───╯     2
    ┴            the beginning
    --- stderr
    ");
}

#[test]
fn a_checkpoint_is_made_shown_pinned_and_compared() {
    let (_server, hfs) = talk();
    insta::assert_snapshot!(told(&hfs, &["checkpoint", "create", "work", "works"]), @r#"
    --- stderr
    checkpoint 4 "works" marks message 6
    "#);
    insta::assert_snapshot!(told(&hfs, &["checkpoint", "pin", "work", "1"]), @r"
    --- stderr
    checkpoint 1 is kept for good
    ");
    insta::assert_snapshot!(told(&hfs, &["checkpoint", "unpin", "work", "1"]), @r"
    --- stderr
    checkpoint 1 may be pruned when it is old
    ");
    insta::with_settings!({ filters => [(r"\d+ bytes, stored in \d+", "[n] bytes, stored in [n]")] }, {
        insta::assert_snapshot!(told(&hfs, &["checkpoint", "show", "work", "works"]), @r"
        checkpoint  4 ([short-1])
        label       works
        trigger     manual
        made        [time]
        place       message 6 of main
        pinned      no
        state       [n] bytes, stored in [n]
        memories    none
        tokens      12
        phases      0
        --- stderr
        ");
    });
    insta::assert_snapshot!(told(&hfs, &["checkpoint", "diff", "work", "1", "3"]), @r"
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
    insta::assert_snapshot!(told(&hfs, &["checkpoint", "diff", "work", "3", "works"]), @r"
    the same up to message 6
    nothing only in checkpoint 3
    nothing only in checkpoint 4
    --- stderr
    ");
    let whole = hfs.run(&["checkpoint", "show", "work", "seq:4", "--state"]).ok().stdout;
    assert!(whole.contains("\"run_snapshot\": {\n"), "{whole}");
}

#[test]
fn the_documents_have_the_fields_that_scripts_rely_on() {
    let (_server, hfs) = talk();
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
    let whole = json(&hfs, &["checkpoint", "show", "work", "2", "--state"]);
    assert_eq!(fields(&whole), ["checkpoint", "state"]);
    assert_eq!(fields(&whole["state"]), ["run_snapshot", "agents", "plugins"]);
    assert_eq!(whole["checkpoint"], list["checkpoints"][1]);
    let diff = json(&hfs, &["checkpoint", "diff", "work", "1", "2"]);
    assert_eq!(fields(&diff), ["a", "b", "messages", "agents", "negotiation", "usage", "plugins"]);
    assert_eq!(fields(&diff["messages"]), ["shared", "only_a", "only_b"]);

    let branch = ["id", "name", "parent", "forked_at", "head", "current"];
    let dry = json(&hfs, &["rewind", "work", "1", "--dry-run"]);
    assert_eq!(fields(&dry), ["dry_run", "from", "in_view", "out_of_view", "prompt"]);
    let rewound = json(&hfs, &["rewind", "work", "1"]);
    assert_eq!(fields(&rewound), ["branch", "from", "restored", "prompt"]);
    assert_eq!(fields(&rewound["branch"]), branch);
    assert_eq!(fields(&rewound["from"]), ["branch", "checkpoint"]);
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
    assert_eq!(fields(&undone), ["operation", "target"]);
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
fn a_rewind_says_what_it_would_do_and_then_does_it() {
    let (server, hfs) = talk();
    let before = shape(&hfs);
    insta::assert_snapshot!(told(&hfs, &["rewind", "work", "1", "--dry-run"]), @r"
    a rewind to checkpoint 1 would make a new branch, with messages 1 to 2 in view
    not in view, but kept in main: messages 3 to 6
    offered to be edited and sent again: message 3 user      two
    --- stderr
    ");
    assert_eq!(shape(&hfs), before, "a dry run changes nothing");
    insta::assert_snapshot!(told(&hfs, &["rewind", "work", "1"]), @r"
    two
    --- stderr
    back at checkpoint 1 on the new branch main-2, with 2 messages in view; main keeps all of its own
    `hfs undo [short-1]` takes this back
    what you said next, to be edited and sent again:
    ");
    let _ = hfs.run(&["chat", "-s", "work", "another two"]).ok();
    let asked = server.requests().pop().unwrap().prompt();
    assert!(asked.contains("one") && asked.contains("another two") && !asked.contains("three"), "{asked}");
    insta::assert_snapshot!(told(&hfs, &["branch", "diff", "work", "main", "main-2"]), @r"
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
    assert_eq!(old["messages"], before["messages"], "the old branch is whole");
}

#[test]
fn undo_of_a_rewind_is_the_identity_and_redo_brings_it_back() {
    let (_server, hfs) = talk();
    let before = shape(&hfs);
    let _ = hfs.run(&["rewind", "work", "1"]).ok();
    let rewound = shape(&hfs);
    insta::assert_snapshot!(told(&hfs, &["undo", "work"]), @r"
    --- stderr
    took back: rewind main at 2 -> main-2; main is current, at message 6
    ");
    assert_eq!(shape(&hfs), before);
    insta::assert_snapshot!(told(&hfs, &["redo", "work"]), @r"
    --- stderr
    did again: rewind main at 2 -> main-2; main-2 is current, at message 2
    ");
    assert_eq!(shape(&hfs), rewound);
    insta::assert_snapshot!(told(&hfs, &["log", "work"]), @r#"
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
fn the_branch_last_used_is_the_one_that_goes_on() {
    let (_server, hfs) = talk();
    insta::assert_snapshot!(told(&hfs, &["branch", "create", "work", "--at", "4", "idea"]), @r"
    --- stderr
    idea leaves main behind message 4 and is current now; `hfs branch switch [short-1] main` goes back
    ");
    insta::assert_snapshot!(told(&hfs, &["branch", "rename", "work", "idea", "good idea"]), @r"
    --- stderr
    idea is called good idea now
    ");
    insta::assert_snapshot!(told(&hfs, &["branch", "switch", "work", "main"]), @r"
    --- stderr
    main is current now, at message 6
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
fn what_cannot_be_done_is_refused_with_the_code_of_its_kind() {
    let (_server, hfs) = talk();
    let _ = hfs.run(&["checkpoint", "create", "work", "same"]).ok();
    let _ = hfs.run(&["checkpoint", "create", "work", "same"]).ok();
    let before = shape(&hfs);
    for (arguments, code, says) in [
        (&["rewind", "work", "9"][..], 3, "no checkpoint"),
        (&["rewind", "nowhere", "1"], 3, "no session"),
        (&["checkpoint", "show", "work", "seq:1"], 3, "no checkpoint"),
        (&["branch", "switch", "work", "nowhere"], 3, "no branch"),
        (&["rewind", "work", "same"], 4, "fits 2 checkpoints"),
        (&["branch", "create", "work", "main"], 4, "main"),
        (&["redo", "work"], 4, "nothing to redo"),
        (&["branch", "create", "work", "--at", "7"], 6, "7"),
        (&["branch", "rename", "work", "main", " "], 6, "empty"),
    ] {
        let told = hfs.run(arguments).fails_with(code);
        assert!(told.stderr.contains(says), "{arguments:?}: {}", told.describe());
    }
    assert_eq!(shape(&hfs), before);
    // The rename was the last change that can be taken back.
    let _ = hfs.run(&["undo", "work"]).ok();
    let told = hfs.run(&["undo", "@"]).fails_with(4);
    assert!(
        told.stderr.contains("nothing more to undo: the session's create is its beginning"),
        "{}",
        told.describe()
    );
}

#[test]
fn what_cannot_be_undone_says_so_before_it_is_done() {
    let (_server, hfs) = talk();
    insta::assert_snapshot!(told(&hfs, &["checkpoint", "delete", "work", "2"]), @r"
    --- stderr
    warning: this cannot be undone: nobody can go back to checkpoint 2 any more; its messages stay
    checkpoint 2 is gone; its messages are all there
    ");
    assert_eq!(hfs.run(&["-q", "checkpoint", "delete", "work", "2"]).ok().stderr, "");

    for (answer, code, left) in [("n", 5, 1), ("", 5, 1), ("y", 0, 0)] {
        let terminal = hfs.command(&["checkpoint", "delete", "work", "1"]).in_terminal(24, 100);
        let _ = terminal.wait_for("go on? [y/N]");
        terminal.type_text(answer);
        terminal.press(Key::Enter);
        assert_eq!(terminal.wait_for_exit().code(), Some(code));
        let list = json(&hfs, &["checkpoint", "list", "work"]);
        assert_eq!(list["checkpoints"].as_array().unwrap().len(), left);
    }
    // Nor does it stand in the way of undoing what was done before.
    let told = hfs.run(&["undo", "work"]).ok();
    assert!(told.stderr.contains("took back: rename"), "{}", told.describe());
    let told = hfs.run(&["undo", "@"]).fails_with(4);
    assert!(
        told.stderr.contains("a checkpoint that was deleted cannot be brought back"),
        "{}",
        told.describe()
    );
}

#[test]
fn automatic_checkpoints_are_pruned_and_those_that_somebody_wants_are_not() {
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
    let places: Vec<_> = list["checkpoints"].as_array().unwrap().iter().map(|c| c["seq"].clone()).collect();
    assert_eq!(places, [2, 2, 10, 12]);
    assert_eq!(hfs.run(&["store", "verify", "--json"]).ok().json()["ok"], true);
}

#[test]
fn the_user_says_which_events_make_a_checkpoint_and_a_project_does_not() {
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
    let told = hfs.run(&["chat", "hi"]).fails_with(6);
    let expected =
        "config.yaml:2: checkpoint_on is a list with \"run.start\" in it; expected a list of events";
    assert!(told.stderr.contains(expected), "{}", told.describe());
    write(hfs.hfs_home(), "checkpoint_on: run.ended\n");
    assert!(
        hfs.run(&["chat", "hi"])
            .fails_with(6)
            .stderr
            .contains("config.yaml:1: checkpoint_on is \"run.ended\"")
    );

    write(hfs.hfs_home(), "checkpoint_on: [run.started]\n");
    write(hfs.project().join(".hfs"), "checkpoint_on: []\n");
    let told = hfs.run(&["chat", "hi"]).ok();
    assert!(told.stderr.contains("checkpoint_on is ignored"), "{}", told.describe());
    assert_eq!(triggers(), ["run.started"]);
    let _ = hfs.command(&["chat", "-c", "again"]).env("HFS_CHECKPOINT_ON", "run.*").run().ok();
    assert_eq!(triggers(), ["run.started", "run.started", "run.ended"]);
    let _ = hfs.run(&["config", "set", "checkpoint_on", "[]"]).ok();
    let _ = hfs.run(&["chat", "-c", "and again"]).ok();
    assert_eq!(triggers().len(), 3);
}
