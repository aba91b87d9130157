//! The terminal is shared with a shell, the system and other processes.

use testkit::cli::{Hfs, Key, Screen};
use testkit::model_server::{ModelServer, Script};

use super::{app, back, exchange, leave, say};
use crate::{hfs, hfs_with, shown};

#[track_caller]
fn assert_given_back(screen: &Screen) {
    assert!(!screen.alternate_screen(), "the other screen is still on");
    assert!(!screen.bracketed_paste(), "pasted text is still marked");
    assert!(!screen.hide_cursor(), "the cursor is still hidden");
    assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None, "the mouse is still taken");
}

#[test]
fn a_system_that_shuts_down_gets_the_terminal_back_and_the_reply_so_far_is_kept() {
    let server = ModelServer::start();
    server.then(Script::pieces(["the first half"]).then_hang());
    let hfs = hfs_with(&server);
    let terminal = app(&hfs, &[]);
    say(&terminal, "tell me");
    terminal.wait_for("the first half");
    terminal.terminate();
    let screen = terminal.wait_for_end();
    assert_given_back(&screen);
    assert!(terminal.is_cooked());
    assert!(screen.contents().contains("resume with: hfs resume"), "{}", screen.contents());
    let reply = &shown(&hfs, "@")["messages"][1];
    assert_eq!((crate::text(reply), reply["status"].as_str()), ("the first half", Some("interrupted")));
}

#[test]
fn ctrl_z_gives_the_shell_its_terminal_and_fg_comes_back_to_the_same_picture() {
    let shell = Hfs::new("/bin/bash").env("PS1", "shell> ").env("HFS_AGENT", "recall");
    let terminal = shell.command(&["--norc", "--noprofile", "--noediting", "-i"]).in_terminal(30, 100);
    terminal.wait_for("shell>");
    terminal.type_text(&format!("'{}'\n", env!("CARGO_BIN_EXE_hfs")));
    terminal.wait_for("Type a message");
    exchange(&terminal, "hold this thought");
    terminal.press(Key::Ctrl('z'));
    let stopped = terminal.wait_for("Stopped");
    assert_given_back(&stopped);
    assert!(terminal.is_cooked());
    terminal.type_text("echo still$((40+2))here\n");
    terminal.wait_for("still42here");
    terminal.type_text("fg\n");
    let back = terminal.wait_until("the app", |screen| {
        screen.alternate_screen() && screen.contents().contains("hold this thought")
    });
    assert!(back.bracketed_paste() && !terminal.is_cooked());
    exchange(&terminal, "and this one");
    terminal.press(Key::Ctrl('c'));
    terminal.wait_for("press Ctrl+C again to quit");
    terminal.press(Key::Ctrl('c'));
    assert_given_back(&terminal.wait_for("resume with"));
}

#[test]
fn what_another_process_said_meanwhile_is_not_talked_over() {
    let hfs = hfs();
    let (one, other) = (app(&hfs, &[]), hfs.command(&["resume", "@"]));
    exchange(&one, "who is there");
    let other = other.in_terminal(36, 110);
    other.wait_for("who is there");
    exchange(&one, "only me");
    say(&other, "and me");
    other.wait_for("This branch has changed");
    assert_eq!(shown(&hfs, "@")["messages"].as_array().unwrap().len(), 4);

    // Reload: what the first one said is there, and the words are still in the input.
    other.press(Key::Char('r'));
    other.wait_until("both", |screen| {
        let contents = screen.contents();
        contents.contains("only me")
            && contents.contains("and me")
            && !contents.contains("This branch has changed")
    });
    other.press(Key::Enter);
    other.wait_until("the reply", |screen| screen.contents().contains("Type a message"));
    assert_eq!(shown(&hfs, "@")["messages"].as_array().unwrap().len(), 6);

    // Fork: the words go to a branch of their own, behind what had been seen.
    say(&one, "am I alone");
    one.wait_for("This branch has changed");
    one.press(Key::Char('f'));
    one.wait_for("on the new branch");
    one.wait_until("the reply", |screen| screen.contents().contains("Type a message"));
    let listed = hfs.run(&["branch", "list", "@", "--json"]).ok().json();
    let heads: Vec<_> =
        listed["branches"].as_array().unwrap().iter().map(|row| row["head"].as_u64().unwrap()).collect();
    assert_eq!(heads, [6, 6]);
    leave(one);
    leave(other);
}

#[test]
fn the_next_message_can_be_written_while_a_reply_arrives() {
    let server = ModelServer::start();
    server.then(Script::pieces(["a long story"]).then_hang());
    server.otherwise(|_| Script::text("short and good"));
    let hfs = hfs_with(&server);
    let terminal = app(&hfs, &[]);
    say(&terminal, "tell me a story");
    terminal.wait_for("a long story");
    say(&terminal, "make it short");
    terminal.wait_for("sent after this reply");
    terminal.press(Key::Escape);
    terminal.wait_until("the words back in the input", |screen| {
        let contents = screen.contents();
        contents.contains("interrupted") && contents.contains("❯ make it short")
    });
    terminal.press(Key::Enter);
    terminal.wait_for("short and good");
    leave(terminal);
}

#[test]
fn a_first_start_offers_what_other_tools_have_left_on_this_machine() {
    let hfs = hfs();
    crate::start::transcript(&hfs);
    let terminal = app(&hfs, &[]);
    terminal.wait_for(".claude");
    terminal.press(Key::Enter);
    terminal.wait_for("1 session");
    back(&terminal);
    leave(terminal);
    assert_eq!(hfs.run(&["search", "old question", "--json"]).ok().json()["total"], 1);
    // It is offered once: the next start begins with an empty page.
    let again = app(&hfs, &[]);
    again.wait_for("Type a message");
    leave(again);
}

#[test]
fn long_input_is_written_in_the_users_own_editor() {
    let hfs = hfs().env("EDITOR", "sed -i s/short/long/");
    let terminal = app(&hfs, &[]);
    terminal.type_text("something short");
    terminal.wait_for("something short");
    terminal.press(Key::Ctrl('g'));
    terminal.wait_for("❯ something long");
    assert!(terminal.screen().alternate_screen() && !terminal.is_cooked());
    leave(terminal);
}

#[test]
fn the_picture_is_drawn_anew_on_request_and_in_another_size() {
    let hfs = hfs();
    let terminal = app(&hfs, &[]);
    exchange(&terminal, "look around");
    terminal.press(Key::Ctrl('l'));
    terminal.type_text("still here");
    terminal.wait_until("everything", |screen| {
        let contents = screen.contents();
        ["❯ still here", "look around", "✓ saved"].iter().all(|text| contents.contains(text))
    });
    terminal.resize(24, 80);
    terminal.wait_until("a smaller picture", |screen| {
        let contents = screen.contents();
        contents.contains("❯ still here") && contents.lines().nth(23).is_some_and(|bar| bar.contains("saved"))
    });
    leave(terminal);
}

/// The ground of the last line, where it is one of the greys behind xterm's colour cube: 232 is nearly black.
fn grey_of_the_bar(screen: &Screen) -> u8 {
    let (rows, _) = screen.size();
    match screen.cell(rows.get() - 1, 1).map(vt100::Cell::bgcolor) {
        Some(vt100::Color::Idx(grey @ 232..)) => grey,
        other => panic!("the bar is on {other:?}"),
    }
}

#[test]
fn the_theme_is_that_of_the_terminal_unless_it_is_set() {
    let hfs = hfs();
    let bar = |terminal: testkit::cli::Terminal| {
        let grey = grey_of_the_bar(&terminal.wait_for("Type a message"));
        leave(terminal);
        grey
    };
    assert!(bar(hfs.command(&[]).in_terminal(24, 80)) < 240);
    assert!(bar(hfs.command(&[]).in_light_terminal(24, 80)) > 250);
    assert!(bar(hfs.command(&[]).env("COLORFGBG", "0;15").in_terminal(24, 80)) > 250);
    let _ = hfs.run(&["config", "set", "theme", "dark"]).ok();
    assert!(bar(hfs.command(&[]).in_light_terminal(24, 80)) < 240);
}

#[test]
fn the_app_follows_its_settings_and_can_change_them() {
    let hfs = hfs();
    for (key, value) in [("theme", "light"), ("mouse", "off"), ("keybinding_mode", "vim")] {
        let _ = hfs.run(&["config", "set", key, value]).ok();
    }
    let terminal = app(&hfs, &[]);
    let screen = terminal.wait_for("INSERT");
    assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
    terminal.type_text("/config mouse on");
    terminal.press(Key::Enter);
    terminal.wait_until("the mouse to be taken", |screen| {
        screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None
    });
    terminal.type_text("/config keybinding_mode standard");
    terminal.press(Key::Enter);
    terminal.wait_until("no mode of vim", |screen| !screen.contents().contains("INSERT"));
    terminal.type_text("/config theme purple");
    terminal.press(Key::Enter);
    terminal.wait_for("auto, dark or light");
    leave(terminal);
    assert_eq!(hfs.run(&["config", "get", "mouse"]).ok().stdout, "on\n");
}
