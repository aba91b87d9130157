//! A day in the app.

use testkit::cli::{Hfs, Key, Terminal};

use super::{app, back, exchange, leave, say};
use crate::{hfs, shown};

/// The names of a session's branches, and how many messages each of them has.
#[track_caller]
fn branches(hfs: &Hfs, session: &str) -> Vec<(String, u64)> {
    let listed = hfs.run(&["branch", "list", session, "--json"]).ok().json();
    let rows = listed["branches"].as_array().unwrap();
    rows.iter().map(|row| (row["name"].as_str().unwrap().to_owned(), row["head"].as_u64().unwrap())).collect()
}

/// A transcript of another tool, with one question in it.
fn foreign_transcript(hfs: &Hfs) -> String {
    let line = serde_json::json!({
        "type": "user", "uuid": "11111111-1111-4111-8111-111111111111", "parentUuid": null,
        "sessionId": "22222222-2222-4222-8222-222222222222", "cwd": "/x", "version": "2.0.0",
        "timestamp": "2026-02-01T10:00:00.000Z", "message": {"role": "user", "content": "where are the whales"},
    });
    let path = hfs.project().join("22222222-2222-4222-8222-222222222222.jsonl");
    std::fs::write(&path, format!("{line}\n")).unwrap();
    path.display().to_string()
}

/// Says two things, names the session, marks a place in it and leaves.
fn first_sitting(hfs: &Hfs) {
    let terminal = app(hfs, &[]);
    exchange(&terminal, "remember the lighthouse");
    say(&terminal, "/rename The lighthouse");
    terminal.wait_for("renamed to The lighthouse");
    say(&terminal, "/checkpoint before the storm");
    terminal.wait_for("checkpoint \"before the storm\" created at message 2");
    exchange(&terminal, "the storm took the boat");
    let told = leave(terminal);
    assert!(told.contains("resume with: hfs resume") && told.contains("The lighthouse"), "{told}");
}

/// Goes back to the mark, sees both branches, and says something else.
fn go_back(terminal: &Terminal) {
    terminal.press(Key::Escape);
    terminal.wait_for("press Esc again for the checkpoints");
    terminal.press(Key::Escape);
    terminal.wait_for("before the storm");
    // The newest is on top: what the two replies left, then the mark.
    while !selected(terminal).contains("before the storm") {
        let here = selected(terminal);
        terminal.press(Key::Down);
        terminal.wait_until("another row", |screen| selected_of(screen) != here);
    }
    terminal.press(Key::Enter);
    terminal.wait_for("Rewind to this checkpoint?");
    terminal.press(Key::Enter);
    terminal.wait_for("rewound to message 2");
    // What was said there comes back, to be said better.
    terminal.wait_for("❯ the storm took the boat");
    terminal.press(Key::Ctrl('u'));
    terminal.wait_for("❯ Type a message");
    exchange(terminal, "the harbour is quiet");
}

/// The row that the cursor's colours are on.
fn selected(terminal: &Terminal) -> String {
    selected_of(&terminal.screen())
}

fn selected_of(screen: &testkit::cli::Screen) -> String {
    const AMBER: vt100::Color = vt100::Color::Idx(214);
    let (rows, columns) = screen.size();
    let (rows, columns) = (rows.get(), columns.get());
    let is_on = |row: u16| {
        let amber = (0..columns).filter(|column| {
            screen.cell(row, *column).is_some_and(|cell| cell.bgcolor() == AMBER && cell.has_contents())
        });
        amber.count() > 5
    };
    let row = (0..rows).find(|row| is_on(*row));
    row.and_then(|row| screen.rows(0, columns).nth(usize::from(row))).unwrap_or_default()
}

#[test]
fn a_conversation_is_left_resumed_marked_rewound_searched_exported_and_imported() {
    let hfs = hfs();
    first_sitting(&hfs);
    assert_eq!(shown(&hfs, "The lighthouse")["messages"].as_array().unwrap().len(), 4);

    let terminal = app(&hfs, &["resume", "The lighthouse"]);
    terminal.wait_for("the storm took the boat");
    go_back(&terminal);
    assert_eq!(branches(&hfs, "The lighthouse").len(), 2);

    say(&terminal, "/branches");
    terminal.wait_until("both branches", |screen| {
        screen.contents().contains("main") && screen.contents().contains("Branches")
    });
    back(&terminal);

    say(&terminal, "/search boat");
    terminal.wait_for("The lighthouse");
    terminal.wait_for("the storm took the ");
    terminal.press(Key::Enter);
    terminal.wait_until("the message on its branch", |screen| {
        let contents = screen.contents();
        contents.contains("message 3  ") && contents.lines().last().unwrap().contains("· main ")
    });

    say(&terminal, "/export markdown");
    terminal.wait_for("Export");
    terminal.press(Key::Enter);
    terminal.wait_for("Enter back");
    let exports: Vec<_> = std::fs::read_dir(hfs.hfs_home().join("exports")).unwrap().collect();
    assert_eq!(exports.len(), 1);
    back(&terminal);

    let transcript = foreign_transcript(&hfs);
    say(&terminal, &format!("/import {transcript}"));
    terminal.wait_for("1 session");
    back(&terminal);
    let found = hfs.run(&["search", "whales", "--json"]).ok().json();
    assert_eq!(found["total"], 1);

    say(&terminal, "/delete");
    terminal.wait_for("Delete this session?");
    terminal.press(Key::Enter);
    terminal.wait_for("/undo restores it");
    say(&terminal, "/undo");
    terminal.wait_for("the harbour is quiet");
    leave(terminal);
    assert_eq!(branches(&hfs, "The lighthouse").len(), 2);
}
