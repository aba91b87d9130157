//! The terminal app: the built binary on a pseudo-terminal.

use std::fs;
use std::path::Path;

use testkit::cli::{Hfs, Key, Screen, Signal, Terminal};
use testkit::model_server::{ModelServer, Script};

use crate::{hfs, hfs_with, shown, text};

/// Starts the app and waits for its first frame.
#[track_caller]
fn app(hfs: &Hfs, arguments: &[&str]) -> Terminal {
    let terminal = hfs.command(arguments).in_terminal(36, 110);
    terminal.wait_until("the app", |screen| screen.alternate_screen() && has_status_bar(screen));
    terminal
}

/// Whether the last line is the status bar, which shows whether everything is saved.
fn has_status_bar(screen: &Screen) -> bool {
    let contents = screen.contents();
    let last = contents.lines().last().unwrap_or_default();
    ["saved", "saving", "nothing to save"].iter().any(|state| last.contains(state))
}

/// Types a line and sends it.
#[track_caller]
fn send(terminal: &Terminal, line: &str) {
    terminal.paste(line);
    // Waits for the first word only, because a long line is wrapped between words.
    let first = line.split_whitespace().next().unwrap_or_default();
    terminal.wait_for(&format!("❯ {first}"));
    terminal.press(Key::Enter);
}

/// Sends a message and waits until the reply is complete and saved.
#[track_caller]
fn exchange(terminal: &Terminal, line: &str) -> Screen {
    send(terminal, line);
    terminal.wait_until("a complete and saved reply", |screen| {
        let contents = screen.contents();
        contents.contains(line)
            && contents.contains("✓ saved")
            // "Esc stops it" is shown while a reply streams.
            && !contents.contains("stops it")
            && contents.contains("Type a message")
    })
}

/// Returns from another screen to the chat.
#[track_caller]
fn back(terminal: &Terminal) {
    terminal.press(Key::Escape);
    terminal.wait_for("❯ Type a message");
}

/// Quits the app and returns the text on the terminal after that.
#[track_caller]
fn leave(terminal: Terminal) -> String {
    terminal.press(Key::Ctrl('c'));
    terminal.wait_for("press Ctrl+C again to quit");
    terminal.press(Key::Ctrl('c'));
    let output = terminal.wait_for_end().contents();
    assert!(terminal.is_cooked());
    assert!(terminal.wait_for_exit().success());
    output
}

/// The branches of a session: name and head.
#[track_caller]
fn branches(hfs: &Hfs, session: &str) -> Vec<(String, u64)> {
    let listed = hfs.run(&["branch", "list", session, "--json"]).ok().json();
    let rows = listed["branches"].as_array().unwrap();
    rows.iter().map(|row| (row["name"].as_str().unwrap().to_owned(), row["head"].as_u64().unwrap())).collect()
}

/// The path of another tool's transcript with one message.
fn foreign_transcript(hfs: &Hfs) -> String {
    let line = serde_json::json!({
        "type": "user", "uuid": "11111111-1111-4111-8111-111111111111", "parentUuid": null,
        "sessionId": "22222222-2222-4222-8222-222222222222", "cwd": "/x", "version": "2.0.0",
        "timestamp": "2026-02-01T10:00:00.000Z", "message": {"role": "user", "content": "where are the whales"},
    });
    let path = hfs.project().join("22222222-2222-4222-8222-222222222222.jsonl");
    fs::write(&path, format!("{line}\n")).unwrap();
    path.display().to_string()
}

/// Sends a message, renames the session, creates a checkpoint, sends a second message and quits.
fn first_visit(hfs: &Hfs) {
    let terminal = app(hfs, &[]);
    exchange(&terminal, "remember the lighthouse");
    send(&terminal, "/rename The lighthouse");
    terminal.wait_for("renamed to The lighthouse");
    send(&terminal, "/checkpoint before the storm");
    terminal.wait_for("checkpoint \"before the storm\" created at message 2");
    exchange(&terminal, "the storm took the boat");
    let output = leave(terminal);
    assert!(output.contains("resume with: hfs resume") && output.contains("The lighthouse"), "{output}");
}

/// Rewinds to the checkpoint and sends another message.
fn rewind(terminal: &Terminal) {
    terminal.press(Key::Escape);
    terminal.wait_for("press Esc again for the checkpoints");
    terminal.press(Key::Escape);
    terminal.wait_for("before the storm");
    // The manual checkpoint is listed between the automatic ones of the two replies.
    while !selected(terminal).contains("before the storm") {
        let here = selected(terminal);
        terminal.press(Key::Down);
        terminal.wait_until("another row", |screen| selected_row(screen) != here);
    }
    terminal.press(Key::Enter);
    terminal.wait_for("Rewind to this checkpoint?");
    terminal.press(Key::Enter);
    terminal.wait_for("rewound to message 2");
    // The message that followed the checkpoint is offered for editing.
    terminal.wait_for("❯ the storm took the boat");
    terminal.press(Key::Ctrl('u'));
    terminal.wait_for("❯ Type a message");
    exchange(terminal, "the harbour is quiet");
}

/// The text of the highlighted row.
fn selected(terminal: &Terminal) -> String {
    selected_row(&terminal.screen())
}

fn selected_row(screen: &Screen) -> String {
    const AMBER: vt100::Color = vt100::Color::Idx(214);
    let (rows, columns) = screen.size();
    let (rows, columns) = (rows.get(), columns.get());
    let is_highlighted = |row: u16| {
        let amber = (0..columns).filter(|column| {
            screen.cell(row, *column).is_some_and(|cell| cell.bgcolor() == AMBER && cell.has_contents())
        });
        amber.count() > 5
    };
    let row = (0..rows).find(|row| is_highlighted(*row));
    row.and_then(|row| screen.rows(0, columns).nth(usize::from(row))).unwrap_or_default()
}

#[test]
fn a_session_is_resumed_rewound_searched_exported_imported_deleted_and_restored() {
    let hfs = hfs();
    first_visit(&hfs);
    assert_eq!(shown(&hfs, "The lighthouse")["messages"].as_array().unwrap().len(), 4);

    let terminal = app(&hfs, &["resume", "The lighthouse"]);
    terminal.wait_for("the storm took the boat");
    rewind(&terminal);
    assert_eq!(branches(&hfs, "The lighthouse").len(), 2);

    send(&terminal, "/branches");
    terminal.wait_until("both branches", |screen| {
        screen.contents().contains("main") && screen.contents().contains("Branches")
    });
    back(&terminal);

    send(&terminal, "/search boat");
    terminal.wait_for("The lighthouse");
    terminal.wait_for("the storm took the ");
    terminal.press(Key::Enter);
    terminal.wait_until("the message on its branch", |screen| {
        let contents = screen.contents();
        contents.contains("message 3  ") && contents.lines().last().unwrap().contains("· main ")
    });

    send(&terminal, "/export markdown");
    terminal.wait_for("Export");
    terminal.press(Key::Enter);
    terminal.wait_for("Enter back");
    let exports: Vec<_> = fs::read_dir(hfs.hfs_home().join("exports")).unwrap().collect();
    assert_eq!(exports.len(), 1);
    back(&terminal);

    let transcript = foreign_transcript(&hfs);
    send(&terminal, &format!("/import {transcript}"));
    terminal.wait_for("1 session");
    back(&terminal);
    let found = hfs.run(&["search", "whales", "--json"]).ok().json();
    assert_eq!(found["total"], 1);

    send(&terminal, "/delete");
    terminal.wait_for("Delete this session?");
    terminal.press(Key::Enter);
    terminal.wait_for("/undo restores it");
    send(&terminal, "/undo");
    terminal.wait_for("the harbour is quiet");
    leave(terminal);
    assert_eq!(branches(&hfs, "The lighthouse").len(), 2);
}

/// Copies one of the repository's example plugins to the user's plugins.
fn install_example(hfs: &Hfs, name: &str) {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins").join(name);
    let folder = hfs.hfs_home().join("plugins").join(name);
    fs::create_dir_all(&folder).unwrap();
    for file in ["manifest.yaml", "plugin.wasm"] {
        fs::copy(example.join(file), folder.join(file)).unwrap();
    }
}

fn asks_about(plugin: &str) -> impl FnMut(&Screen) -> bool {
    move |screen| {
        let contents = screen.contents();
        contents.contains("Approve a plugin") && contents.contains(&format!("{plugin} 0.1.0 wants to run"))
    }
}

#[test]
fn plugins_are_approved_one_by_one_in_the_app_and_then_run_in_it() {
    // Long time limits, because many tests run at once.
    let hfs = hfs().env("HFS_PLUGINS_HOOK_MS", "20000").env("HFS_PLUGINS_COMMAND_MS", "20000");
    install_example(&hfs, "standup");
    install_example(&hfs, "token-meter");

    let terminal = hfs.command(&[]).in_terminal(36, 110);
    let asked = terminal.wait_until("the first question", asks_about("standup")).contents();
    // The question lists the permissions that the plugin requests.
    assert!(asked.contains("read"), "{asked}");
    // "Not now" is selected at first, because it approves nothing. Pressing Tab twice selects "Approve".
    terminal.press(Key::Tab);
    terminal.press(Key::Tab);
    terminal.press(Key::Enter);
    terminal.wait_until("the second question", asks_about("token-meter"));
    terminal.press(Key::Enter);
    terminal.wait_until("the chat", |screen| !screen.contents().contains("Approve a plugin"));
    exchange(&terminal, "where is the lighthouse");
    terminal.type_text("/standup");
    terminal.press(Key::Enter);
    let screen = terminal.wait_for("Today: 1 session").contents();
    assert!(screen.contains("where is the lighthouse"), "{screen}");
    leave(terminal);

    let states = hfs.run(&["plugin", "list", "--json"]).ok().json();
    let state = |index: usize| states["plugins"][index]["state"].as_str();
    assert_eq!((state(0), state(1)), (Some("active"), Some("pending")));

    // The app asks again about the plugin that was not decided.
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

fn app_that_asks(hfs: &Hfs) -> Terminal {
    let terminal = hfs.command(&["-c"]).in_terminal(36, 110);
    terminal.wait_until("the question", asks_about("token-meter"));
    terminal
}

#[track_caller]
fn assert_restored(screen: &Screen) {
    assert!(!screen.alternate_screen(), "the alternate screen is still active");
    assert!(!screen.bracketed_paste(), "bracketed paste is still active");
    assert!(!screen.hide_cursor(), "the cursor is still hidden");
    assert_eq!(
        screen.mouse_protocol_mode(),
        vt100::MouseProtocolMode::None,
        "mouse reporting is still active"
    );
}

#[test]
fn sigterm_restores_the_terminal_and_keeps_the_partial_reply() {
    let server = ModelServer::start();
    server.then(Script::chunks(["the first half"]).then_hang());
    let hfs = hfs_with(&server);
    let terminal = app(&hfs, &[]);
    send(&terminal, "tell me");
    terminal.wait_for("the first half");
    terminal.terminate();
    let screen = terminal.wait_for_end();
    assert_restored(&screen);
    assert!(terminal.is_cooked());
    assert!(screen.contents().contains("resume with: hfs resume"), "{}", screen.contents());
    let reply = &shown(&hfs, "@")["messages"][1];
    assert_eq!((text(reply), reply["status"].as_str()), ("the first half", Some("interrupted")));
}

#[test]
fn ctrl_z_restores_the_terminal_and_fg_continues_with_the_same_screen() {
    let shell = Hfs::new("/bin/bash").env("PS1", "shell> ").env("HFS_AGENT", "recall");
    let terminal = shell.command(&["--norc", "--noprofile", "--noediting", "-i"]).in_terminal(30, 100);
    terminal.wait_for("shell>");
    terminal.type_text(&format!("'{}'\n", env!("CARGO_BIN_EXE_hfs")));
    terminal.wait_for("Type a message");
    exchange(&terminal, "hold this thought");
    terminal.press(Key::Ctrl('z'));
    let stopped = terminal.wait_for("Stopped");
    assert_restored(&stopped);
    assert!(terminal.is_cooked());
    // The shell computes the sum, so the text below appears only in its output, not in the typed line.
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
    assert_restored(&terminal.wait_for("resume with"));
}

#[test]
fn a_message_is_not_appended_after_messages_that_the_user_has_not_seen() {
    let hfs = hfs();
    let (one, resume) = (app(&hfs, &[]), hfs.command(&["resume", "@"]));
    exchange(&one, "who is there");
    let other = resume.in_terminal(36, 110);
    other.wait_for("who is there");
    exchange(&one, "only me");
    send(&other, "and me");
    other.wait_for("This branch has changed");
    assert_eq!(shown(&hfs, "@")["messages"].as_array().unwrap().len(), 4);

    // Reload: the other process's message is shown, and the text is still in the input.
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

    // Fork: the message goes to a new branch, after the last message that was seen.
    send(&one, "am I alone");
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
fn the_next_message_can_be_written_while_a_reply_streams() {
    let server = ModelServer::start();
    server.then(Script::chunks(["a long story"]).then_hang());
    server.otherwise(|_| Script::text("short and good"));
    let hfs = hfs_with(&server);
    let terminal = app(&hfs, &[]);
    send(&terminal, "tell me a story");
    terminal.wait_for("a long story");
    send(&terminal, "make it short");
    terminal.wait_for("sent after this reply");
    terminal.press(Key::Escape);
    terminal.wait_until("the text in the input again", |screen| {
        let contents = screen.contents();
        contents.contains("interrupted") && contents.contains("❯ make it short")
    });
    terminal.press(Key::Enter);
    terminal.wait_for("short and good");
    leave(terminal);
}

#[test]
fn the_first_start_offers_to_import_the_sessions_of_other_tools() {
    let hfs = hfs();
    crate::start::write_foreign_transcript(&hfs);
    let terminal = app(&hfs, &[]);
    terminal.wait_for(".claude");
    terminal.press(Key::Enter);
    terminal.wait_for("1 session");
    back(&terminal);
    leave(terminal);
    assert_eq!(hfs.run(&["search", "old question", "--json"]).ok().json()["total"], 1);
    // The import is offered once.
    let again = app(&hfs, &[]);
    again.wait_for("Type a message");
    leave(again);
}

#[test]
fn long_input_is_edited_in_the_users_editor() {
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
fn the_screen_is_redrawn_on_request_and_after_a_resize() {
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
    terminal.wait_until("a smaller screen", |screen| {
        let contents = screen.contents();
        contents.contains("❯ still here") && contents.lines().nth(23).is_some_and(|bar| bar.contains("saved"))
    });
    leave(terminal);
}

/// The background of the status bar, one of the greys of the 256-color palette: 232 is nearly black.
fn status_bar_grey(screen: &Screen) -> u8 {
    let (rows, _) = screen.size();
    match screen.cell(rows.get() - 1, 1).map(vt100::Cell::bgcolor) {
        Some(vt100::Color::Idx(grey @ 232..)) => grey,
        other => panic!("the bar is on {other:?}"),
    }
}

#[test]
fn the_theme_follows_the_terminal_unless_it_is_set() {
    let hfs = hfs();
    let bar = |terminal: Terminal| {
        let grey = status_bar_grey(&terminal.wait_for("Type a message"));
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
    terminal.wait_until("mouse reporting", |screen| {
        screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None
    });
    terminal.type_text("/config keybinding_mode standard");
    terminal.press(Key::Enter);
    terminal.wait_until("no vim mode", |screen| !screen.contents().contains("INSERT"));
    terminal.type_text("/config theme purple");
    terminal.press(Key::Enter);
    terminal.wait_for("auto, dark or light");
    leave(terminal);
    assert_eq!(hfs.run(&["config", "get", "mouse"]).ok().stdout, "on\n");
}

#[test]
fn an_address_from_a_variable_is_not_saved_as_it_is_shown() {
    let hfs = hfs().env("HFS_BASE_URL", "https://me:Kestrel-7781@127.0.0.1:1/v1");
    let terminal = app(&hfs, &[]);
    terminal.type_text("/config base_url");
    terminal.press(Key::Enter);
    let screen = terminal.wait_for("https://me:[redacted: password]@127.0.0.1:1/v1");
    assert!(selected_row(&screen).contains("base_url"), "{}", screen.contents());
    terminal.press(Key::Enter);
    let screen = terminal.wait_for("Set base_url");
    let contents = screen.contents();
    let field =
        contents.lines().skip_while(|line| !line.contains("Set base_url")).find(|line| line.contains('❯'));
    assert!(field.is_some_and(|field| !field.contains("redacted")), "{contents}");
    terminal.type_text("https://me:[redacted: password]@127.0.0.1:1/v1");
    terminal.press(Key::Enter);
    terminal.wait_for("base_url is refused");
    drop(terminal);
    let saved = fs::read_to_string(hfs.hfs_home().join("config.yaml")).unwrap_or_default();
    assert!(!saved.contains("base_url"), "{saved}");
}

#[test]
fn answers_of_the_terminal_are_not_typed() {
    let hfs = hfs().env("EDITOR", "false");
    let terminal = app(&hfs, &[]);
    for report in [
        "\x1b]11;rgb:1e1e/1e1e/2e2e\x07",
        "\x1b]10;rgb:ffff/ffff/ffff\x1b\\",
        "\x1b[?2026;2$y",
        "\x1b[?997;1n",
        "\x1b[?62;22c",
        "\x1b[24;80R",
        "\x1b_Gi=1;OK\x1b\\",
        "\x1bP>|XTerm(390)\x1b\\",
        "\x1b[8;36;110t",
    ] {
        terminal.type_text(report);
        terminal.type_text("x");
    }
    let screen = terminal.wait_for("❯ xxxxxxxxx").contents();
    for text in ["rgb", "2026", "OK", "XTerm", "editor"] {
        assert!(!screen.contains(text), "{text} in {screen}");
    }
    leave(terminal);
}

#[test]
fn a_late_answer_of_the_terminal_changes_the_theme() {
    let hfs = hfs();
    let terminal = hfs.command(&[]).in_silent_terminal(24, 80);
    terminal.wait_for("Type a message");
    terminal.type_text("\x1b]11;rgb:ffff/fafa/f0f0\x07hello");
    let screen = terminal.wait_until("the light theme", |screen| {
        screen.contents().contains("❯ hello")
            && matches!(screen.cell(23, 1).map(vt100::Cell::bgcolor), Some(vt100::Color::Idx(250..)))
    });
    assert!(!screen.contents().contains("rgb"));
    leave(terminal);
}

#[test]
fn a_drag_that_arrives_at_once_is_copied() {
    let hfs = hfs();
    let terminal = app(&hfs, &[]);
    exchange(&terminal, "hello there");
    terminal.type_text("\x1b[<0;3;2M\x1b[<32;8;2M\x1b[<0;14;2m");
    terminal.wait_for("copied the selected text");
    leave(terminal);
}

#[test]
fn a_list_of_models_that_cannot_be_read_is_not_taken_for_a_message() {
    let hfs = hfs_with(&ModelServer::start()).env("HFS_BASE_URL", "http://127.0.0.1:1/v1");
    let terminal = app(&hfs, &[]);
    send(&terminal, "/model");
    let screen = terminal.wait_for("Enter uses a model's name as you type it").contents();
    assert!(screen.contains("127.0.0.1:1") && !screen.contains("your message"), "{screen}");
    back(&terminal);
    leave(terminal);
}

#[test]
fn sequences_split_by_a_slow_link_are_keys_and_no_escape() {
    let hfs = hfs();
    let terminal = app(&hfs, &[]);
    terminal.type_text("ab");
    for byte in ["\x1b", "[", "D"] {
        terminal.type_text(byte);
        std::thread::sleep(std::time::Duration::from_millis(40));
    }
    terminal.type_text("x");
    let screen = terminal.wait_for("❯ axb");
    assert!(!screen.contents().contains("press Esc again"));
    leave(terminal);
}

#[test]
fn pasted_text_is_complete_without_brackets_and_without_an_end() {
    let hfs = hfs();
    let terminal = app(&hfs, &[]);
    let lines: Vec<String> = (0..400).map(|number| format!("pasted line {number}")).collect();
    terminal.type_text(&lines.join("\r"));
    // A long text is folded.
    terminal.wait_for("400 lines");
    assert!(!terminal.screen().contents().contains("You"), "nothing was sent");
    terminal.press(Key::Enter);
    terminal.wait_for("pasted line 399");
    let sent = text(&shown(&hfs, "@")["messages"][0]).to_owned();
    assert_eq!(sent, lines.join("\n"));
    terminal.wait_for("Type a message");
    terminal.type_text("a draft");
    terminal.press(Key::Escape);
    terminal.wait_for("press Esc again to clear");
    terminal.press(Key::Escape);
    terminal.wait_for("Type a message");
    terminal.type_text("\x1b[200~the end is lost");
    terminal.wait_for("❯ the end is lost");
    terminal.type_text(" and typing goes on");
    terminal.wait_for("❯ the end is lost and typing goes on");
    leave(terminal);
}

#[test]
fn a_burst_of_the_wheel_leaves_no_text() {
    let hfs = hfs();
    let terminal = app(&hfs, &[]);
    terminal.type_text(&"\x1b[<64;10;5M\x1b[<65;10;5M".repeat(2_000));
    terminal.type_text("after");
    let screen = terminal.wait_for("❯ after");
    assert!(!screen.contents().contains(";10;5"));
    leave(terminal);
}

#[test]
fn what_is_typed_during_the_start_is_kept() {
    let hfs = hfs();
    let terminal = hfs.command(&[]).in_terminal(36, 110);
    terminal.type_text("typed early");
    terminal.wait_for("❯ typed early");
    leave(terminal);
}

#[test]
fn a_backslash_or_shift_makes_enter_a_new_line() {
    let hfs = hfs();
    let terminal = app(&hfs, &[]);
    terminal.type_text("one\\");
    terminal.wait_for("❯ one\\");
    terminal.press(Key::Enter);
    terminal.type_text("two");
    // The formats of the kitty protocol and of xterm, which tmux passes on.
    terminal.type_text("\x1b[13;2u");
    terminal.type_text("three");
    terminal.type_text("\x1b[27;2;13~");
    terminal.type_text("four");
    let screen = terminal.wait_for("four").contents();
    let lines: Vec<&str> = screen.lines().map(|line| line.trim_matches(['│', ' '])).collect();
    let first = lines.iter().position(|line| *line == "❯ one").unwrap();
    assert_eq!(lines[first..first + 4], ["❯ one", "two", "three", "four"]);
    leave(terminal);
}

#[test]
fn the_exit_status_shows_the_signal_and_the_terminal_is_restored() {
    use std::os::unix::process::ExitStatusExt;
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
        let hfs = hfs();
        let terminal = app(&hfs, &[]);
        terminal.signal(signal);
        assert_restored(&terminal.wait_for_end());
        assert!(terminal.is_cooked(), "{signal:?}");
        assert_eq!(terminal.wait_for_exit().signal(), Some(signal.as_raw()));
    }
}

/// Checks that a crash has restored the terminal, was explained, and ended the app by this signal.
#[track_caller]
fn assert_crashed(terminal: Terminal, signal: Signal, explanation: &str) {
    use std::os::unix::process::ExitStatusExt;
    let screen = terminal.wait_for_end();
    assert_restored(&screen);
    assert!(terminal.is_cooked(), "{signal:?}");
    let text = screen.contents().replace('\n', " ");
    for words in ["hfs has crashed: ", explanation, "What was saved is in the store"] {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert_eq!(terminal.wait_for_exit().signal(), Some(signal.as_raw()));
}

#[test]
fn a_crash_restores_the_terminal_and_says_what_happened() {
    for (signal, name) in [
        (Signal::BUS, "SIGBUS"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::ILL, "SIGILL"),
        (Signal::FPE, "SIGFPE"),
        (Signal::ABORT, "SIGABRT"),
    ] {
        let hfs = hfs();
        let terminal = app(&hfs, &[]);
        terminal.signal(signal);
        assert_crashed(terminal, signal, name);
    }
}

#[test]
fn a_page_of_the_store_that_the_disk_does_not_provide_restores_the_terminal() {
    let hfs = hfs();
    let terminal = app(&hfs, &[]);
    exchange(&terminal, "remember the lighthouse");
    terminal.paste("and the storm");
    terminal.wait_for("❯ and the storm");
    // The kernel treats a mapped page after the end of its file as one that a full or read-only disk cannot provide.
    let index = fs::read_dir(hfs.hfs_home()).unwrap().map(|entry| entry.unwrap().path());
    let index = index.into_iter().find(|path| path.to_string_lossy().ends_with("-shm")).unwrap();
    fs::OpenOptions::new().write(true).open(index).unwrap().set_len(0).unwrap();
    terminal.press(Key::Enter);
    assert_crashed(terminal, Signal::BUS, "is the disk full, read-only or damaged?");
    assert_eq!(text(&shown(&hfs, "@")["messages"][0]), "remember the lighthouse");
}

#[test]
fn a_terminal_that_is_closed_ends_the_app_by_sighup_also_if_only_the_shell_gets_the_signal() {
    let bash = Hfs::new("/bin/bash").env("HFS_AGENT", "recall");
    let status = bash.project().join("status");
    let hfs = env!("CARGO_BIN_EXE_hfs");
    let script = format!("trap '' HUP; '{hfs}'; echo $? > '{}'", status.display());
    let terminal = bash.command(&["-c", &script]).in_terminal(30, 100);
    terminal.wait_for("Type a message");
    terminal.hang_up();
    let expected = 128 + Signal::HUP.as_raw();
    assert_eq!(fs::read_to_string(status).unwrap().trim(), expected.to_string());
}

#[test]
fn a_closed_terminal_is_seen_in_the_exit_status() {
    use std::os::unix::process::ExitStatusExt;
    for _ in 0..5 {
        let hfs = hfs();
        let terminal = app(&hfs, &[]);
        assert_eq!(terminal.hang_up().signal(), Some(Signal::HUP.as_raw()));
    }
}

#[test]
fn an_export_goes_where_its_path_says_and_replaces_a_file_only_after_a_question() {
    let hfs = hfs();
    let terminal = app(&hfs, &[]);
    exchange(&terminal, "remember the lighthouse");
    send(&terminal, "/export ~/my notes.md");
    terminal.wait_for("✓ exported");
    let path = hfs.home().join("my notes.md");
    assert!(fs::read_to_string(&path).unwrap().contains("remember the lighthouse"));
    back(&terminal);
    fs::write(&path, "mine").unwrap();
    send(&terminal, "/export ~/my notes.md");
    terminal.wait_for("Replace this file?");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    terminal.press(Key::Enter);
    terminal.wait_for("✓ exported");
    assert!(fs::read_to_string(&path).unwrap().contains("remember the lighthouse"));
    back(&terminal);
    leave(terminal);
}

#[test]
fn ctrl_z_without_a_shell_does_not_stop_the_app() {
    let hfs = hfs();
    let terminal = app(&hfs, &[]);
    terminal.press(Key::Ctrl('z'));
    terminal.wait_for("not started by a shell");
    terminal.signal(Signal::TSTP);
    terminal.type_text("still here");
    terminal.wait_for("❯ still here");
    leave(terminal);
}

/// Starts an interactive shell with job control.
fn shell(shell: &Hfs) -> Terminal {
    let terminal = shell.command(&["--norc", "--noprofile", "--noediting", "-i"]).in_terminal(30, 100);
    terminal.wait_for("shell>");
    terminal
}

#[test]
fn the_shell_sees_sigtstp_and_a_job_started_in_the_background_waits() {
    let bash = Hfs::new("/bin/bash").env("PS1", "shell> ").env("HFS_AGENT", "recall");
    let terminal = shell(&bash);
    let hfs = env!("CARGO_BIN_EXE_hfs");
    terminal.type_text(&format!("'{hfs}' &\n"));
    terminal.wait_for("[1]");
    // The shell reports a stopped job before its next prompt.
    for _ in 0..200 {
        terminal.type_text("\n");
        std::thread::sleep(std::time::Duration::from_millis(100));
        if terminal.screen().contents().contains("Stopped") {
            break;
        }
    }
    terminal.wait_for("Stopped");
    assert!(terminal.is_cooked() && !terminal.screen().alternate_screen());
    terminal.type_text("fg\n");
    terminal.wait_for("Type a message");
    // Ctrl+Z, and the signal from elsewhere, stop it in the same way.
    terminal.press(Key::Ctrl('z'));
    terminal.wait_until("the shell", |screen| !screen.alternate_screen());
    // 128 + SIGTSTP. The shell computes the text, so that the typed line does not contain it.
    terminal.type_text("echo status=$?\n");
    terminal.wait_for(&format!("status={}", 128 + Signal::TSTP.as_raw()));
    terminal.type_text("fg\n");
    terminal.wait_for("Type a message");
    terminal.press(Key::Ctrl('c'));
    terminal.wait_for("press Ctrl+C again to quit");
    terminal.press(Key::Ctrl('c'));
    terminal.wait_until("the shell", |screen| !screen.alternate_screen());
}

#[test]
fn without_a_usable_terminal_the_app_says_so_and_fails() {
    let bash = Hfs::new("/bin/bash").env("PS1", "shell> ").env("HFS_AGENT", "recall");
    let terminal = shell(&bash);
    let hfs = env!("CARGO_BIN_EXE_hfs");
    for (command, reason) in [
        (format!("TERM=dumb '{hfs}'"), "TERM is"),
        (format!("'{hfs}' 2> err; cat err; (exit 6)"), "standard error is not one"),
        (format!("echo hi | '{hfs}'"), "standard input is not one"),
        (format!("'{hfs}' > out"), "standard output is not one"),
        (format!("nohup '{hfs}' 2> /dev/null; cat nohup.out; (exit 6)"), "standard input is not one"),
        (format!("TERM=dumb '{hfs}' resume"), "TERM is"),
    ] {
        terminal.type_text("clear\n");
        terminal.wait_until("an empty screen", |screen| screen.contents().trim() == "shell>");
        terminal.type_text(&format!("{command}; echo end$((40+$?))\n"));
        let screen = terminal.wait_for("end46").contents();
        let text = screen.replace('\n', "");
        assert!(text.contains(reason) || command.contains("nohup"), "{command}: {screen}");
        assert!(!terminal.screen().alternate_screen());
    }
}

#[test]
fn retries_the_context_and_a_compaction_are_shown() {
    let server = ModelServer::start();
    server.then(Script::status(429, "slow down").header("retry-after", "2"));
    server.then(Script::text("first reply").usage(900, 100));
    server.otherwise(|request| {
        if request.last_turn().contains("Summarize this conversation") {
            Script::text("They greeted each other.")
        } else {
            Script::text("ok")
        }
    });
    let hfs = hfs_with(&server).env("HFS_CONTEXT_TOKENS", "4000");
    // As wide as the smallest usual terminal, where the end of a longer line would be cut.
    let terminal = hfs.command(&[]).in_terminal(24, 80);
    terminal.wait_for("Type a message");
    send(&terminal, "hello");
    let waiting = terminal.wait_for("429 too many requests: slow down; again in").contents();
    assert!(waiting.contains("Esc stops it"), "{waiting}");
    terminal.wait_for("first reply");
    terminal.wait_for("context 1000 of 4000 (25%)");
    send(&terminal, "/compact");
    terminal.wait_for("The model sees this summary instead of the messages above");
    assert_eq!(shown(&hfs, "@")["messages"].as_array().unwrap().len(), 3);
    let _ = exchange(&terminal, "goodbye");
    let sent = server.requests().pop().unwrap().prompt();
    assert!(sent.contains("They greeted each other.") && !sent.contains("first reply"), "{sent}");
    let _ = leave(terminal);
}

#[test]
fn a_full_context_is_compacted_before_the_message_is_sent() {
    let server = ModelServer::start();
    server.otherwise(|request| {
        if request.last_turn().contains("Summarize this conversation") {
            // Long enough for the test to see that the app waits for it.
            return Script::text("They said goodbye.").after(std::time::Duration::from_millis(500));
        }
        let tokens = u64::try_from(request.prompt().len() / 3).unwrap();
        Script::text("so long").usage(tokens, 2)
    });
    let hfs = hfs_with(&server).env("HFS_CONTEXT_TOKENS", "2000");
    let terminal = app(&hfs, &[]);
    let message = "goodbye ".repeat(150);
    for _ in 0..3 {
        send(&terminal, &message);
        terminal.wait_for("❯ Type a message");
    }
    send(&terminal, &message);
    terminal.wait_for("summarizing 6 messages");
    terminal.wait_for("The model sees this summary instead of the messages above");
    terminal.wait_for("❯ Type a message");
    assert_eq!(shown(&hfs, "@")["messages"].as_array().unwrap().len(), 9);
    let _ = leave(terminal);
}

#[test]
fn an_error_of_the_model_is_shown_once() {
    let server = ModelServer::start();
    server.otherwise(|_| Script::status(404, "the model does not exist"));
    let hfs = hfs_with(&server);
    let terminal = app(&hfs, &[]);
    send(&terminal, "hello");
    let screen = terminal.wait_for("F5 retry").contents();
    assert_eq!(screen.matches("the model does not exist").count(), 1, "{screen}");
    let _ = leave(terminal);
}

/// The files of drafts.
fn drafts(hfs: &Hfs) -> Vec<String> {
    let Ok(entries) = fs::read_dir(hfs.hfs_home().join("drafts")) else { return Vec::new() };
    entries.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn what_was_not_sent_is_in_the_input_when_the_session_is_opened_again() {
    for signal in [Signal::TERM, Signal::HUP] {
        let server = ModelServer::start();
        server.then(Script::chunks(["the first half"]).then_hang());
        server.otherwise(|_| Script::text("well"));
        let hfs = hfs_with(&server);
        let terminal = app(&hfs, &[]);
        send(&terminal, "tell me");
        terminal.wait_for("the first half");
        send(&terminal, "a queued message");
        terminal.wait_for("↳ a queued message");
        terminal.paste("a draft");
        terminal.wait_for("❯ a draft");
        terminal.signal(signal);
        terminal.wait_for_end();
        drop(terminal);
        assert_eq!(drafts(&hfs), ["a queued message\n\na draft"], "{signal:?}");

        let terminal = app(&hfs, &["-c"]);
        terminal.wait_for("what you had not sent is back in the input");
        terminal.wait_until("both texts", |screen| {
            screen.contents().contains("❯ a queued message") && screen.contents().contains("a draft")
        });
        // It is kept until it is sent.
        terminal.signal(Signal::KILL);
        terminal.wait_for_exit();
        assert_eq!(drafts(&hfs), ["a queued message\n\na draft"], "{signal:?}");
        let terminal = app(&hfs, &["-c"]);
        terminal.wait_for("❯ a queued message");
        terminal.press(Key::Enter);
        terminal.wait_for("   well");
        let _ = leave(terminal);
        assert_eq!(drafts(&hfs), [""; 0], "{signal:?}");
        let messages = shown(&hfs, "@")["messages"].as_array().unwrap().clone();
        assert_eq!(text(&messages[2]), "a queued message\n\na draft", "{signal:?}");
    }
}

#[test]
fn the_draft_of_a_new_conversation_returns_in_its_project_and_a_purge_removes_that_of_a_session() {
    let hfs = hfs();
    let terminal = app(&hfs, &[]);
    terminal.paste("half a thought");
    terminal.wait_for("❯ half a thought");
    terminal.signal(Signal::HUP);
    terminal.wait_for_end();
    drop(terminal);
    let elsewhere = hfs.home().join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    let other = hfs.command(&[]).in_folder(&elsewhere).in_terminal(36, 110);
    other.wait_for("❯ Type a message");
    let _ = leave(other);
    let terminal = app(&hfs, &[]);
    terminal.wait_for("❯ half a thought");
    terminal.press(Key::Enter);
    terminal.wait_until("a saved message", |screen| screen.contents().contains("✓ saved"));
    terminal.paste("never to be seen");
    terminal.wait_for("❯ never to be seen");
    terminal.terminate();
    terminal.wait_for_end();
    drop(terminal);
    assert_eq!(drafts(&hfs), ["never to be seen"]);
    let _ = hfs.run(&["session", "delete", "@", "--purge"]).ok();
    assert_eq!(drafts(&hfs), [""; 0]);
}
