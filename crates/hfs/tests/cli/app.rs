//! The terminal app as a person lives in it: the built binary on a real terminal.

mod plugins;
mod story;
mod terminal;

use testkit::cli::{Hfs, Key, Screen, Terminal};

/// Begins the app with these arguments and waits for its first picture.
#[track_caller]
fn app(hfs: &Hfs, arguments: &[&str]) -> Terminal {
    let terminal = hfs.command(arguments).in_terminal(36, 110);
    terminal.wait_until("the app", |screen| screen.alternate_screen() && has_bar(screen));
    terminal
}

/// The last line of the app says whether everything is saved.
fn has_bar(screen: &Screen) -> bool {
    let contents = screen.contents();
    let last = contents.lines().last().unwrap_or_default();
    ["saved", "saving", "nothing to save"].iter().any(|state| last.contains(state))
}

/// Writes a line and sends it.
#[track_caller]
fn say(terminal: &Terminal, line: &str) {
    terminal.paste(line);
    // A long line is broken between words.
    let first = line.split_whitespace().next().unwrap_or_default();
    terminal.wait_for(&format!("❯ {first}"));
    terminal.press(Key::Enter);
}

/// Says something and waits until the reply is whole and saved.
#[track_caller]
fn exchange(terminal: &Terminal, line: &str) -> Screen {
    say(terminal, line);
    terminal.wait_until("a whole and saved reply", |screen| {
        let contents = screen.contents();
        contents.contains(line)
            && contents.contains("✓ saved")
            && !contents.contains("stops it")
            && contents.contains("Type a message")
    })
}

/// Goes from a screen back to the chat.
#[track_caller]
fn back(terminal: &Terminal) {
    terminal.press(Key::Escape);
    terminal.wait_for("❯ Type a message");
}

/// Leaves the app, and gives what stands on the terminal then.
#[track_caller]
fn leave(terminal: Terminal) -> String {
    terminal.press(Key::Ctrl('c'));
    terminal.wait_for("press Ctrl+C again to quit");
    terminal.press(Key::Ctrl('c'));
    let told = terminal.wait_for_end().contents();
    assert!(terminal.is_cooked());
    assert!(terminal.wait_for_exit().success());
    told
}
