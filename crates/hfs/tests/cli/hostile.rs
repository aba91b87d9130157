//! What comes from messages, names and files is shown, never obeyed.

use serde_json::json;

use crate::{hfs, hfs_with, shown};
use testkit::model_server::{ModelServer, Script};

const EVIL: &str = "evil\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\u{8}\u{202e}name";

/// No byte that a terminal would obey.
#[track_caller]
fn assert_harmless(text: &str) {
    let bad = |c: char| (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}');
    assert!(!text.contains(bad), "{text:?}");
}

#[test]
fn names_messages_and_results_cannot_reach_the_terminal() {
    let hfs = hfs();
    let document = json!({ "messages": [
        {"role": "user", "content": EVIL},
        {"role": "assistant", "content": EVIL, "tool_calls": [{"id": EVIL, "type": "function",
            "function": {"name": EVIL, "arguments": json!({ EVIL: EVIL }).to_string()}}]},
        {"role": "tool", "tool_call_id": EVIL, "content": EVIL},
    ]});
    let _ = hfs.command(&["import", "-"]).stdin(document.to_string()).run().ok();
    let _ = hfs.command(&["session", "rename", "@"]).arg(EVIL).run().ok();
    for arguments in [
        &["session", "list", "--all"][..],
        &["session", "show", "@"],
        &["-v", "session", "show", "@"],
        &["search", "evil"],
        &["chat", "-c", "what about evil name"],
        &["session", "show", "@", "--json"],
        &["session", "list", "--all", "--json"],
        &[],
    ] {
        let told = hfs.run(arguments).ok();
        assert_harmless(&told.stdout);
        assert_harmless(&told.stderr);
    }
    let first = &shown(&hfs, "@")["messages"][0];
    assert_eq!(crate::text(first), EVIL, "what is stored stays as it came");
    let _ = hfs.command(&["session", "delete", "@"]).run().ok();
}

#[test]
fn errors_and_file_names_are_harmless_too() {
    let hfs = hfs();
    let file = hfs.project().join("a\u{1b}[2Jb.json");
    std::fs::write(&file, "garbage \u{1b}[2J").unwrap();
    for (arguments, code) in [(vec!["import"], 6), (vec!["session", "show"], 3), (vec!["config", "get"], 3)] {
        let told = hfs.command(&arguments).arg(&file).run().fails_with(code);
        assert_harmless(&told.stdout);
        assert_harmless(&told.stderr);
    }
}

#[test]
fn a_model_cannot_send_escape_sequences_however_it_cuts_them() {
    let server = ModelServer::start();
    server.then(Script::chunks(["safe \u{1b}", "[31mred\u{1b}]0;ti", "tle\u{7} \u{9b}", "2Jend\r"]));
    let hfs = hfs_with(&server);
    let told = hfs.run(&["chat", "hello"]).ok();
    assert_eq!(told.stdout, "safe red end\n");
}
