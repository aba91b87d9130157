//! `hfs search`

use crate::{fields, hfs};

#[test]
fn messages_are_found_with_their_session_branch_and_seq() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "the zebra crossed the road"]).ok();
    let _ = hfs.run(&["chat", "an ostrich did not"]).ok();
    let found = hfs.run(&["search", "zebra", "--role", "user", "--json"]).ok().json();
    assert_eq!(fields(&found), ["hits", "total"]);
    assert_eq!(found["total"], 1);
    let hit = &found["hits"][0];
    assert_eq!(
        fields(hit),
        ["session", "session_name", "branch", "message", "seq", "role", "created_at", "snippet"]
    );
    assert_eq!((hit["seq"].as_u64(), hit["branch"].as_str()), (Some(1), Some("main")));
    assert!(hit["snippet"].as_str().unwrap().contains("the zebra crossed"));

    let count = |arguments: &[&str]| {
        let arguments: Vec<&str> =
            ["search", "--json", "--role", "user"].iter().chain(arguments).copied().collect();
        hfs.run(&arguments).ok().json()["total"].as_u64().unwrap()
    };
    assert_eq!(count(&["\"crossed the\""]), 1);
    assert_eq!(count(&["\"the crossed\""]), 0);
    assert_eq!(count(&["ostri*"]), 1);
    assert_eq!(count(&["zebra", "ostrich"]), 0);
    assert_eq!(count(&["zebra", "--since", "1h"]), 1);
    assert_eq!(count(&["zebra", "--since", "2999-01-01"]), 0);
    assert_eq!(count(&["zebra", "--session", "@"]), 0);
    assert_eq!(count(&["zebra", "--session", "@-1"]), 1);
}

#[test]
fn a_passage_with_many_spaces_takes_no_more_room_than_its_words() {
    let hfs = hfs();
    let message = format!("{{{0}\"zebra\":{0}[1],{0}\"ostrich\": 2 }}", " ".repeat(30));
    let _ = hfs.run(&["chat", &message]).ok();
    let found = hfs.run(&["search", "zebra", "--role", "user"]).ok().stdout;
    assert!(found.contains(r#"{ "zebra": [1], "ostrich": 2 }"#), "{found}");
}

#[test]
fn a_search_can_be_limited_to_a_project_and_a_tool() {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "the zebra crossed the road"]).ok();
    crate::start::write_foreign_transcript(&hfs);
    let _ = hfs.run(&["import", &hfs.home().join(".claude").display().to_string()]).ok();
    let _ = hfs.run(&["chat", "an old zebra"]).ok();
    let count = |arguments: &[&str]| {
        let arguments: Vec<&str> =
            ["search", "--json", "--role", "user"].iter().chain(arguments).copied().collect();
        hfs.run(&arguments).ok().json()["total"].as_u64().unwrap()
    };
    assert_eq!(count(&["old"]), 2);
    assert_eq!(count(&["old", "--tool", "claude-code"]), 1);
    assert_eq!(count(&["old", "--tool", "hfs"]), 1);
    assert_eq!(count(&["old", "--tool", "codex"]), 0);
    assert_eq!(count(&["zebra", "--project", "."]), 2);
    assert_eq!(count(&["old", "--project", "."]), 1);
    let folder = hfs.project().file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(count(&["old", "--project", &folder]), 1);
    assert_eq!(count(&["zebra", "--project", ".", "--tool", "claude-code"]), 0);
}

#[test]
fn special_characters_in_a_query_do_not_cause_a_syntax_error() {
    let hfs = hfs();
    for text in
        ["\"", "*", "AND OR NOT", "a:b(c", "--", "' OR 1=1", "\u{0}x"].map(|text| text.replace('\0', ""))
    {
        let _ = hfs.command(&["search", "--"]).arg(&text).run().ok();
    }
}
