//! A terminal that a test types into and reads.

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use pty_process::Size;
use pty_process::blocking::Pty;
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, tcgetattr};
pub use vt100::Screen;

use super::keys::Key;
use super::running::shown;

/// The binary on a terminal of its own. Dropping it kills it.
pub struct Terminal {
    command: String,
    child: Child,
    pty: Arc<Pty>,
    shared: Arc<Shared>,
    patience: Duration,
}

/// What the reading thread and the test both see.
struct Shared {
    display: Mutex<Display>,
    news: Condvar,
}

struct Display {
    parser: vt100::Parser<Answers>,
    has_ended: bool,
}

/// What the terminal has to answer: programs ask where the cursor is, and what kind of terminal this is.
#[derive(Default)]
struct Answers {
    given: Vec<u8>,
    is_light: bool,
}

impl vt100::Callbacks for Answers {
    fn unhandled_csi(
        &mut self,
        screen: &mut Screen,
        intermediate: Option<u8>,
        _: Option<u8>,
        params: &[&[u16]],
        letter: char,
    ) {
        match (intermediate, params, letter) {
            (None, [[6]], 'n') => {
                let (row, column) = screen.cursor_position();
                self.given.extend(format!("\x1b[{};{}R", row + 1, column + 1).into_bytes());
            }
            // A VT220 with colours, and nothing newer.
            (None, _, 'c') => self.given.extend(b"\x1b[?62;22c"),
            _ => {}
        }
    }

    fn unhandled_osc(&mut self, _screen: &mut Screen, params: &[&[u8]]) {
        // Many terminals keep the colour of their ground to themselves.
        if self.is_light && params == [b"11".as_slice(), b"?"] {
            self.given.extend(b"\x1b]11;rgb:ffff/fafa/f0f0\x1b\\");
        }
    }
}

impl Terminal {
    pub(super) fn start(
        command: Command,
        (rows, columns): (u16, u16),
        is_light: bool,
        patience: Duration,
    ) -> Self {
        let shown = shown(&command);
        let fail = |what: &str, error: pty_process::Error| -> ! { panic!("{what} for {shown}: {error}") };
        let (pty, pts) = pty_process::blocking::open().unwrap_or_else(|error| fail("open a terminal", error));
        pty.resize(Size::new(rows, columns)).unwrap_or_else(|error| fail("size the terminal", error));
        let child = pty_process::blocking::Command::from(command)
            .spawn(pts)
            .unwrap_or_else(|error| fail("start a process", error));
        let (rows, columns) = sides(rows, columns);
        let parser =
            vt100::Parser::new_with_callbacks(rows, columns, 0, Answers { given: Vec::new(), is_light });
        let display = Mutex::new(Display { parser, has_ended: false });
        let terminal = Self {
            command: shown,
            child,
            pty: Arc::new(pty),
            shared: Arc::new(Shared { display, news: Condvar::new() }),
            patience,
        };
        terminal.read_on();
        terminal
    }

    /// Keeps the screen up to date, and answers what the program asks the terminal.
    fn read_on(&self) {
        let (pty, shared) = (Arc::clone(&self.pty), Arc::clone(&self.shared));
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            loop {
                // An error is how a terminal says that nobody holds its other side any more.
                let read = (&*pty).read(&mut buffer).unwrap_or(0);
                let mut display = shared.lock();
                match buffer.get(..read) {
                    Some(bytes) if read > 0 => display.parser.process(bytes),
                    _ => display.has_ended = true,
                }
                let has_ended = display.has_ended;
                let answers = std::mem::take(&mut display.parser.callbacks_mut().given);
                drop(display);
                shared.news.notify_all();
                if has_ended {
                    return;
                }
                // A program that has gone since needs no answer.
                (&*pty).write_all(&answers).ok();
            }
        });
    }

    /// Types text, letter by letter.
    #[track_caller]
    pub fn type_text(&self, text: &str) {
        self.send(text);
    }

    /// Presses a key.
    #[track_caller]
    pub fn press(&self, key: Key) {
        let application_cursor = self.shared.lock().parser.screen().application_cursor();
        self.send(&key.bytes(application_cursor));
    }

    /// Pastes text, marked as pasted where the program asked for that.
    #[track_caller]
    pub fn paste(&self, text: &str) {
        let is_marked = self.shared.lock().parser.screen().bracketed_paste();
        self.send(&if is_marked { format!("\x1b[200~{text}\x1b[201~") } else { text.to_owned() });
    }

    #[track_caller]
    fn send(&self, text: &str) {
        let sent = (&*self.pty).write_all(text.as_bytes());
        sent.unwrap_or_else(|error| {
            panic!("type {text:?} into {}: {error}\n{}", self.command, self.picture())
        });
    }

    /// Gives the terminal another size, of which the program is told.
    #[track_caller]
    pub fn resize(&self, rows: u16, columns: u16) {
        let (parser_rows, parser_columns) = sides(rows, columns);
        self.shared.lock().parser.set_size(parser_rows, parser_columns);
        let resized = self.pty.resize(Size::new(rows, columns));
        resized.unwrap_or_else(|error| panic!("resize the terminal of {}: {error}", self.command));
    }

    /// What the screen shows now.
    #[must_use]
    pub fn screen(&self) -> Screen {
        self.shared.lock().parser.screen().clone()
    }

    /// Waits until the screen shows `text`, and gives it.
    ///
    /// # Panics
    /// When the program ends without, or takes too long.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> Screen {
        self.wait_until(&format!("{text:?} on the screen"), |screen| screen.contents().contains(text))
    }

    /// Waits until the screen is as `is_so` wants it, and gives it; `what` says that in words.
    ///
    /// # Panics
    /// When the program ends without, or takes too long.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Screen) -> bool) -> Screen {
        let found = self.wait(|display| is_so(display.parser.screen()) || display.has_ended);
        let screen = self.screen();
        assert!(
            found && is_so(&screen),
            "waited for {what}, but the screen of {} was\n{}",
            self.command,
            self.picture()
        );
        screen
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the program to end, as the system does when it shuts down.
    pub fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        // One that has just ended needs no signal.
        kill_process(pid, Signal::TERM).ok();
    }

    /// Whether the terminal is as a shell wants it: it collects lines and echoes them.
    #[must_use]
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&*self.pty).expect("a terminal has modes").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits for the program to end, and gives what is on the screen then.
    ///
    /// # Panics
    /// When it takes too long.
    #[track_caller]
    pub fn wait_for_end(&self) -> Screen {
        let has_ended = self.wait(|display| display.has_ended);
        assert!(has_ended, "{} goes on, its screen is\n{}", self.command, self.picture());
        self.screen()
    }

    /// Waits for the program to end.
    ///
    /// # Panics
    /// When it takes too long.
    #[track_caller]
    pub fn wait_for_exit(mut self) -> ExitStatus {
        self.wait_for_end();
        self.child.wait().unwrap_or_else(|error| panic!("wait for {}: {error}", self.command))
    }

    /// Ends the program at once, as `kill -9` does.
    pub fn kill(mut self) {
        // One that has just ended is as good as killed.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    fn wait(&self, mut is_so: impl FnMut(&Display) -> bool) -> bool {
        let deadline = Instant::now() + self.patience;
        let mut display = self.shared.lock();
        while !is_so(&display) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (display, _) = self.shared.news.wait_timeout(display, left).expect("the reader does not panic");
        }
        true
    }

    fn picture(&self) -> String {
        self.screen().contents()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Display> {
        self.display.lock().expect("the reader does not panic")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing may outlive the test, which has ended already where this fails.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn sides(rows: u16, columns: u16) -> (NonZeroU16, NonZeroU16) {
    let side = |length| NonZeroU16::new(length).expect("a terminal has at least one row and one column");
    (side(rows), side(columns))
}

#[cfg(test)]
mod tests {
    use super::super::Hfs;
    use super::*;

    fn sh(hfs: &Hfs, script: &str) -> Terminal {
        hfs.command(&["-c", script]).in_terminal(6, 30)
    }

    #[test]
    fn the_program_sees_a_terminal_of_the_size_that_was_asked_for() {
        let hfs = Hfs::new("/bin/sh");
        let terminal = sh(&hfs, "test -t 0 && test -t 1 && test -t 2 && stty size; echo $TERM; read line");
        assert_eq!(terminal.wait_for("xterm").contents().trim_end(), "6 30\nxterm-256color");
    }

    #[test]
    fn what_is_typed_reaches_the_program_and_the_screen() {
        let hfs = Hfs::new("/bin/sh");
        let terminal = sh(&hfs, "read line; echo got $line; exit 4");
        terminal.type_text("two words");
        terminal.press(Key::Enter);
        terminal.wait_for("got two words");
        assert_eq!(terminal.wait_for_exit().code(), Some(4));
    }

    #[test]
    fn ctrl_c_interrupts() {
        let hfs = Hfs::new("/bin/sh");
        let terminal = sh(&hfs, "trap 'echo stopped; exit 3' INT; echo ready; while :; do sleep 0.05; done");
        terminal.wait_for("ready");
        terminal.press(Key::Ctrl('c'));
        assert_eq!(terminal.wait_for_exit().code(), Some(3));
    }

    #[test]
    fn the_program_is_told_of_a_new_size() {
        let hfs = Hfs::new("/bin/sh");
        let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
        let terminal = sh(&hfs, script);
        terminal.wait_for("ready");
        terminal.resize(10, 44);
        terminal.wait_for("10 44");
    }

    #[test]
    fn a_program_that_leaves_the_terminal_raw_is_found_out() {
        let hfs = Hfs::new("/bin/sh");
        let tidy = sh(&hfs, "stty raw -echo; stty sane; echo over");
        assert!(tidy.wait_for_end().contents().contains("over") && tidy.is_cooked());
        let untidy = sh(&hfs, "stty raw -echo; echo over");
        untidy.wait_for_end();
        assert!(!untidy.is_cooked());
    }

    #[test]
    fn a_program_that_is_asked_to_end_may_say_its_last_words() {
        let hfs = Hfs::new("/bin/sh");
        let terminal =
            sh(&hfs, "trap 'echo last words; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
        terminal.wait_for("ready");
        terminal.terminate();
        terminal.wait_for("last words");
        assert_eq!(terminal.wait_for_exit().code(), Some(3));
    }

    #[test]
    fn the_terminal_answers_where_its_cursor_is() {
        let hfs = Hfs::new("/bin/sh");
        let script =
            "stty raw -echo; printf 'ab\\033[6n'; dd bs=1 count=6 2>/dev/null | tr '\\033' '^'; stty cooked";
        assert_eq!(sh(&hfs, script).wait_for("R").contents(), "ab^[1;3R");
    }

    #[test]
    #[should_panic(expected = "waited for")]
    fn waiting_for_what_never_shows_fails_when_the_program_ends() {
        let hfs = Hfs::new("/bin/sh");
        sh(&hfs, "echo other").wait_for("ready");
    }
}
