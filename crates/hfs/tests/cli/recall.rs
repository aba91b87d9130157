//! `hfs recall`

use crate::{fields, hfs};

#[test]
fn a_question_finds_the_session_and_the_passage_that_answer_it() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "We chose SQLite for the ledger because it is one file."]).ok();
    let _ = hfs.run(&["chat", "The tomatoes were planted after the last frost."]).ok();
    let found = hfs.run(&["recall", "Why was SQLite chosen for the ledger?", "--json"]).ok().json();
    assert_eq!(fields(&found), ["sessions", "passages", "abstained"]);
    assert_eq!(found["abstained"], false);
    assert_eq!(fields(&found["sessions"][0]), ["session", "name", "score"]);
    let passage = &found["passages"][0];
    assert_eq!(
        fields(passage),
        ["session", "branch", "message", "seq", "role", "created_at", "score", "text"]
    );
    assert_eq!(passage["session"], found["sessions"][0]["session"]);
    assert_eq!((passage["branch"].as_str(), passage["role"].as_str()), (Some("main"), Some("user")));
    assert!(passage["text"].as_str().unwrap().contains("it is one file"), "{found}");

    let shown = hfs.run(&["recall", "Why", "was", "SQLite", "chosen", "for the ledger?"]).ok().stdout;
    assert!(
        shown.contains("We chose SQLite for the ledger") && shown.contains("Sessions, best first:"),
        "{shown}"
    );
    assert!(!shown.contains("tomatoes"), "{shown}");
    let one = hfs.run(&["recall", "planting tomatoes", "-n", "1", "--json"]).ok().json();
    assert_eq!(one["passages"].as_array().unwrap().len(), 1);
    assert!(one["passages"][0]["text"].as_str().unwrap().contains("frost"), "{one}");
}

#[test]
fn a_question_that_nothing_answers_gets_no_passages() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "We chose SQLite for the ledger because it is one file."]).ok();
    for question in ["Which violin concerto did the orchestra rehearse?", "?", "\u{1f980}"] {
        let found = hfs.run(&["recall", question, "--json"]).ok().json();
        assert_eq!(found["abstained"], true, "{question}");
        assert_eq!(
            (found["passages"][0].is_null(), found["sessions"][0].is_null()),
            (true, true),
            "{question}"
        );
    }
    let output = hfs.run(&["recall", "Which violin concerto did the orchestra rehearse?"]).ok();
    assert_eq!(output.stdout, "");
    assert!(output.stderr.contains("no saved session answers this"), "{}", output.stderr);
}

#[test]
fn recall_can_be_limited_to_a_project() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "We chose SQLite for the ledger."]).ok();
    let found = |project: &str| {
        hfs.run(&["recall", "Which ledger uses SQLite?", "--project", project, "--json"]).ok().json()["abstained"]
            .clone()
    };
    assert_eq!(found("."), false);
    assert_eq!(found("no/such/project"), true);
}
