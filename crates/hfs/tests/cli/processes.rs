//! Concurrent processes, and processes that are killed.

use std::time::Duration;

use testkit::model_server::{ModelServer, Script};

use crate::{hfs, hfs_with, shown, text};

#[test]
fn a_killed_chat_keeps_the_partial_reply_marked_as_interrupted() {
    let server = ModelServer::start();
    server.then(Script::chunks(["first line\n", "second "]).then_hang());
    let hfs = hfs_with(&server);
    let running = hfs.command(&["chat", "hi"]).spawn();
    let _ = running.wait_for_line("first line");
    // Streamed text is saved within a quarter of a second.
    let mut saved = String::new();
    for _ in 0..200 {
        let session = hfs.run(&["session", "show", "@", "--json"]).ok().json();
        saved = text(&session["messages"][1]).to_owned();
        if saved.contains("first line") {
            assert_eq!(session["messages"][1]["status"], "streaming", "its writer is alive");
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(saved.contains("first line"), "{saved:?}");
    let _ = running.kill();
    let session = shown(&hfs, "@");
    assert_eq!(text(&session["messages"][0]), "hi");
    assert_eq!(session["messages"][1]["status"], "interrupted");
    assert!(text(&session["messages"][1]).starts_with("first line"));
    let output = hfs.run(&["session", "show", "@"]).ok().stdout;
    assert!(output.contains("interrupted"), "{output}");
    assert_eq!(hfs.run(&["store", "verify", "--json"]).ok().json()["ok"], true);
    // The conversation can continue.
    server.then(Script::text("better now"));
    assert_eq!(hfs.run(&["chat", "-c", "again"]).ok().stdout, "better now\n");
}

#[test]
fn a_message_whose_reply_was_not_saved_is_not_stored_twice() {
    let server = ModelServer::start();
    server.then(Script::chunks(["first line\n", "second "]).then_hang());
    let hfs = hfs_with(&server);
    let running = hfs.command(&["chat", "hi there"]).spawn();
    let _ = running.wait_for_line("first line");
    let _ = running.kill();
    server.then(Script::text("the whole reply"));
    let again = hfs.run(&["chat", "-c", "hi there"]).ok();
    assert_eq!(again.stdout, "the whole reply\n");
    assert!(again.stderr.contains("saved already"), "{}", again.describe());
    let session = shown(&hfs, "@");
    let texts: Vec<&str> = session["messages"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(texts, ["hi there", "the whole reply"]);
    let found = hfs.run(&["search", "there", "--json"]).ok().json();
    assert_eq!(found["total"], 1, "{found}");
    // What had arrived of the first reply stays on its branch.
    let first = hfs.run(&["session", "show", "@", "--branch", "main", "--json"]).ok().json();
    assert_eq!(first["messages"].as_array().unwrap().len(), 2);
    // A message that has a reply is sent again.
    server.then(Script::text("once more"));
    let _ = hfs.run(&["chat", "-c", "hi there"]).ok();
    assert_eq!(shown(&hfs, "@")["messages"].as_array().unwrap().len(), 4);
}

#[test]
fn eight_processes_on_one_session_do_not_interleave_or_lose_messages() {
    let server = ModelServer::start();
    server.otherwise(|request| {
        let asked = request.prompt();
        let last = asked.lines().last().unwrap_or_default().to_owned();
        Script::chunks(["answer ".to_owned(), format!("to {last}")])
    });
    let hfs = hfs_with(&server);
    let _ = hfs.run(&["chat", "begin"]).ok();
    let _ = hfs.run(&["session", "rename", "@", "shared"]).ok();
    let running: Vec<_> = (0..8)
        .map(|n| {
            let prompt = format!("question-{n}");
            (prompt.clone(), hfs.command(&["chat", "-s", "shared", &prompt]).spawn())
        })
        .collect();
    let mut answered = Vec::new();
    for (prompt, process) in running {
        let output = process.wait();
        match output.code {
            Some(0) => answered.push(prompt),
            // Another process was writing, so this message has no reply.
            Some(4) => assert!(output.stderr.contains("hint:"), "{}", output.describe()),
            _ => panic!("{}", output.describe()),
        }
    }
    assert!(!answered.is_empty());
    let session = shown(&hfs, "shared");
    let messages = session["messages"].as_array().unwrap();
    // The first exchange has the indexes 0 and 1.
    let (mut asked, mut index) = (Vec::new(), 2);
    while let Some(user) = messages.get(index) {
        assert_eq!(user["role"], "user");
        let question = text(user).to_owned();
        index += 1;
        if let Some(reply) = messages.get(index).filter(|next| next["role"] == "assistant") {
            assert_eq!(text(reply), format!("answer to {question}"));
            asked.push(question);
            index += 1;
        }
    }
    asked.sort();
    answered.sort();
    assert_eq!(asked, answered, "every answered message is saved, followed by its own reply");
    assert_eq!(hfs.run(&["store", "verify", "--json"]).ok().json()["ok"], true);
}

#[test]
fn eight_processes_on_one_store_all_succeed() {
    let hfs = hfs();
    let running: Vec<_> = (0..8).map(|n| hfs.command(&["chat", &format!("number {n}")]).spawn()).collect();
    for process in running {
        let _ = process.wait().ok();
    }
    let info = hfs.run(&["store", "info", "--json"]).ok().json();
    assert_eq!((info["sessions"].as_u64(), info["messages"].as_u64()), (Some(8), Some(16)));
}
