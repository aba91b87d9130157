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
fn questions_in_scripts_without_spaces_are_answered() {
    let hfs = hfs();
    for text in [
        "缓存换成了 Redis，原来的内存缓存在重启后会丢失。过期时间设为十分钟。",
        "検索が遅いのでインデックスを追加しました。応答は三百ミリ秒から二十ミリ秒になりました。",
        "배포는 금요일 오후에 실패했습니다. 인증서가 만료되어 서버가 시작되지 않았습니다.",
    ] {
        let _ = hfs.run(&["chat", text]).ok();
    }
    for (question, answer) in [
        ("我们现在用的是什么缓存？", "Redis"),
        ("缓存的过期时间是多少？", "十分钟"),
        ("検索はどうして遅かったのですか？", "インデックス"),
        ("배포가 왜 실패했나요?", "인증서"),
        ("인증서는 언제 만료되었나요?", "금요일"),
    ] {
        let found = hfs.run(&["recall", question, "--json"]).ok().json();
        assert_eq!(found["abstained"], false, "{question}");
        assert!(found["passages"][0]["text"].as_str().unwrap().contains(answer), "{question}: {found}");
    }
    for question in ["我们什么时候去北京旅行？", "午餐は何を食べましたか？", "고양이는 무엇을 좋아하나요?"]
    {
        assert_eq!(hfs.run(&["recall", question, "--json"]).ok().json()["abstained"], true, "{question}");
    }
}

#[test]
fn a_question_that_nothing_answers_gets_no_passages() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "We chose SQLite for the ledger because it is one file."]).ok();
    // Of a name that was never mentioned, nothing is known, whatever the other words are.
    for question in
        ["Which violin concerto did the orchestra rehearse?", "Why did we choose MongoDB?", "?", "\u{1f980}"]
    {
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
