//! Plugins in the app: the examples of this repository, approved and at work.

use std::fs;
use std::path::Path;

use testkit::cli::{Hfs, Key, Screen};

use super::{app, exchange, leave};
use crate::hfs;

/// Puts one of the repository's examples where plugins are looked for.
fn install(hfs: &Hfs, name: &str) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins").join(name);
    let folder = hfs.hfs_home().join("plugins").join(name);
    fs::create_dir_all(&folder).unwrap();
    for file in ["manifest.yaml", "plugin.wasm"] {
        fs::copy(example.join(file), folder.join(file)).unwrap();
    }
}

fn asks_for(plugin: &str) -> impl FnMut(&Screen) -> bool {
    move |screen| {
        let contents = screen.contents();
        contents.contains("Approve a plugin") && contents.contains(&format!("{plugin} 0.1.0 wants to run"))
    }
}

#[test]
fn plugins_are_approved_one_by_one_in_the_app_and_then_do_their_work_in_it() {
    // A machine that runs many tests at once is slow.
    let hfs = hfs().env("HFS_PLUGINS_HOOK_MS", "20000").env("HFS_PLUGINS_COMMAND_MS", "20000");
    install(&hfs, "standup");
    install(&hfs, "token-meter");

    let terminal = hfs.command(&[]).in_terminal(36, 110);
    let asked = terminal.wait_until("the first question", asks_for("standup")).contents();
    assert!(asked.contains("read"), "{asked}");
    // The choice that Enter takes is the safe one: later.
    terminal.press(Key::Tab);
    terminal.press(Key::Tab);
    terminal.press(Key::Enter);
    terminal.wait_until("the second question", asks_for("token-meter"));
    terminal.press(Key::Enter);
    terminal.wait_until("the chat", |screen| !screen.contents().contains("Approve a plugin"));
    exchange(&terminal, "where is the lighthouse");
    terminal.type_text("/standup");
    terminal.press(Key::Enter);
    let told = terminal.wait_for("Today: 1 session").contents();
    assert!(told.contains("where is the lighthouse"), "{told}");
    leave(terminal);

    let states = hfs.run(&["plugin", "list", "--json"]).ok().json();
    let state = |index: usize| states["plugins"][index]["state"].as_str();
    assert_eq!((state(0), state(1)), (Some("active"), Some("pending")));

    // What was put off is asked again; what was approved is not.
    let terminal = app_that_asks(&hfs);
    terminal.press(Key::Tab);
    terminal.press(Key::Tab);
    terminal.press(Key::Enter);
    terminal.wait_until("the chat", |screen| !screen.contents().contains("Approve a plugin"));
    exchange(&terminal, "and the harbour");
    terminal.wait_for("Tokens");
    leave(terminal);

    let terminal = app(&hfs, &["--no-plugins", "-c"]);
    terminal.wait_for("and the harbour");
    assert!(!terminal.screen().contents().contains("Tokens"));
    leave(terminal);
}

fn app_that_asks(hfs: &Hfs) -> testkit::cli::Terminal {
    let terminal = hfs.command(&["-c"]).in_terminal(36, 110);
    terminal.wait_until("the question", asks_for("token-meter"));
    terminal
}
