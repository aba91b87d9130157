//! A pseudo-terminal: a test types into it and reads the screen, which vt100 emulates.

use std::io::{PipeWriter, Read, Write};
use std::num::NonZeroU16;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pty_process::Size;
use pty_process::blocking::Pty;
use rustix::event::{PollFd, PollFlags, poll};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use rustix::termios::{LocalModes, tcgetattr};
pub use vt100::Screen;

use super::process::command_line;

/// A process on its own terminal. Dropping it kills the process.
pub struct Terminal {
    command: String,
    child: Child,
    /// `None` after it was closed.
    pty: Option<Arc<Pty>>,
    reader: Option<Reader>,
    shared: Arc<Shared>,
    timeout: Duration,
}

/// The thread that reads what the program writes. It ends when `stop` is dropped.
struct Reader {
    thread: JoinHandle<()>,
    stop: PipeWriter,
}

/// Shared between the reading thread and the test.
struct Shared {
    display: Mutex<Display>,
    changed: Condvar,
}

struct Display {
    parser: vt100::Parser<QueryResponder>,
    has_ended: bool,
}

/// How a terminal answers a query of its background colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportedBackground {
    /// As a dark colour.
    Dark,
    /// As a light colour.
    Light,
    /// Not at all, and it answers no other query either, as in old versions of tmux.
    None,
}

/// Answers queries of programs about the cursor position, the kind of terminal and its background colour.
struct QueryResponder {
    pending: Vec<u8>,
    background: ReportedBackground,
}

impl vt100::Callbacks for QueryResponder {
    fn unhandled_csi(
        &mut self,
        screen: &mut Screen,
        intermediate: Option<u8>,
        _: Option<u8>,
        params: &[&[u16]],
        letter: char,
    ) {
        if self.background == ReportedBackground::None {
            return;
        }
        match (intermediate, params, letter) {
            (None, [[6]], 'n') => {
                let (row, column) = screen.cursor_position();
                self.pending.extend(format!("\x1b[{};{}R", row + 1, column + 1).into_bytes());
            }
            // Identifies as a VT220 with colours.
            (None, _, 'c') => self.pending.extend(b"\x1b[?62;22c"),
            _ => {}
        }
    }

    fn unhandled_osc(&mut self, _screen: &mut Screen, params: &[&[u8]]) {
        if params == [b"11".as_slice(), b"?"] {
            self.pending.extend(match self.background {
                ReportedBackground::Dark => b"\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\".as_slice(),
                ReportedBackground::Light => b"\x1b]11;rgb:ffff/fafa/f0f0\x1b\\",
                ReportedBackground::None => b"",
            });
        }
    }
}

impl Terminal {
    pub(super) fn start(
        command: Command,
        (rows, columns): (u16, u16),
        background: ReportedBackground,
        timeout: Duration,
    ) -> Self {
        let command_line = command_line(&command);
        let fail =
            |action: &str, error: pty_process::Error| -> ! { panic!("{action} for {command_line}: {error}") };
        let (pty, pts) = pty_process::blocking::open().unwrap_or_else(|error| fail("open a terminal", error));
        pty.resize(Size::new(rows, columns)).unwrap_or_else(|error| fail("size the terminal", error));
        let child = pty_process::blocking::Command::from(command)
            .spawn(pts)
            .unwrap_or_else(|error| fail("start a process", error));
        let (rows, columns) = nonzero_size(rows, columns);
        let parser = vt100::Parser::new_with_callbacks(
            rows,
            columns,
            0,
            QueryResponder { pending: Vec::new(), background },
        );
        let display = Mutex::new(Display { parser, has_ended: false });
        let pty = Arc::new(pty);
        let shared = Arc::new(Shared { display, changed: Condvar::new() });
        let reader = Self::start_reader(Arc::clone(&pty), Arc::clone(&shared));
        Self { command: command_line, child, pty: Some(pty), reader: Some(reader), shared, timeout }
    }

    /// Starts the thread that updates the screen and answers queries of the program.
    fn start_reader(pty: Arc<Pty>, shared: Arc<Shared>) -> Reader {
        let (stopped, stop) = std::io::pipe().expect("open a pipe");
        let thread = thread::spawn(move || {
            let mut buffer = [0; 8192];
            loop {
                let mut ready = [PollFd::new(&*pty, PollFlags::IN), PollFd::new(&stopped, PollFlags::IN)];
                if poll(&mut ready, None).is_ok() && !ready[1].revents().is_empty() {
                    return;
                }
                // Reading fails when no process has the other side of the terminal open any more.
                let read = (&*pty).read(&mut buffer).unwrap_or(0);
                let mut display = shared.lock();
                match buffer.get(..read) {
                    Some(bytes) if read > 0 => display.parser.process(bytes),
                    _ => display.has_ended = true,
                }
                let has_ended = display.has_ended;
                let answers = std::mem::take(&mut display.parser.callbacks_mut().pending);
                drop(display);
                shared.changed.notify_all();
                if has_ended {
                    return;
                }
                // Ignore errors: the program may have ended.
                (&*pty).write_all(&answers).ok();
            }
        });
        Reader { thread, stop }
    }

    fn pty(&self) -> &Pty {
        self.pty.as_deref().expect("the terminal is open")
    }

    /// Closes the terminal, as a window that is closed does, and waits for the end of the program.
    ///
    /// # Panics
    /// Panics on timeout.
    #[track_caller]
    pub fn hang_up(mut self) -> ExitStatus {
        if let Some(Reader { thread, stop }) = self.reader.take() {
            drop(stop);
            thread.join().expect("the reader does not panic");
        }
        self.pty = None;
        let deadline = Instant::now() + self.timeout;
        loop {
            let ended = self.child.try_wait();
            match ended.unwrap_or_else(|error| panic!("wait for {}: {error}", self.command)) {
                Some(status) => return status,
                None if Instant::now() > deadline => panic!("{} is still running", self.command),
                None => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Types text.
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

    /// Pastes text, as a bracketed paste if the program has enabled that.
    #[track_caller]
    pub fn paste(&self, text: &str) {
        let is_bracketed = self.shared.lock().parser.screen().bracketed_paste();
        self.send(&if is_bracketed { format!("\x1b[200~{text}\x1b[201~") } else { text.to_owned() });
    }

    #[track_caller]
    fn send(&self, text: &str) {
        let sent = self.pty().write_all(text.as_bytes());
        sent.unwrap_or_else(|error| {
            panic!("type {text:?} into {}: {error}\n{}", self.command, self.contents())
        });
    }

    /// Resizes the terminal, which sends SIGWINCH to the program.
    #[track_caller]
    pub fn resize(&self, rows: u16, columns: u16) {
        let (parser_rows, parser_columns) = nonzero_size(rows, columns);
        self.shared.lock().parser.set_size(parser_rows, parser_columns);
        let resized = self.pty().resize(Size::new(rows, columns));
        resized.unwrap_or_else(|error| panic!("resize the terminal of {}: {error}", self.command));
    }

    /// The current screen.
    #[must_use]
    pub fn screen(&self) -> Screen {
        self.shared.lock().parser.screen().clone()
    }

    /// Waits until the screen contains `text`, and returns the screen.
    ///
    /// # Panics
    /// Panics if the program ends without it, or on timeout.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> Screen {
        self.wait_until(&format!("{text:?} on the screen"), |screen| screen.contents().contains(text))
    }

    /// Waits for a condition on the screen, and returns the screen. `what` describes the condition in the error message.
    ///
    /// # Panics
    /// Panics if the program ends before the condition holds, or on timeout.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut condition: impl FnMut(&Screen) -> bool) -> Screen {
        // The screen may change again as soon as the display is released.
        let mut found = None;
        self.wait(|display| {
            let screen = display.parser.screen();
            found = condition(screen).then(|| screen.clone());
            found.is_some() || display.has_ended
        });
        found.unwrap_or_else(|| {
            panic!("waited for {what}, but the screen of {} was\n{}", self.command, self.contents())
        })
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM, as the system does when it shuts down.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a pid");
        // Ignore errors: the process may just have ended.
        kill_process(pid, signal).ok();
    }

    /// Whether the terminal is in cooked mode: it buffers and echoes lines, as shells expect.
    #[must_use]
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(self.pty()).expect("a terminal has modes").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits for the program to end, and returns the final screen.
    ///
    /// # Panics
    /// Panics on timeout.
    #[track_caller]
    pub fn wait_for_end(&self) -> Screen {
        let has_ended = self.wait(|display| display.has_ended);
        assert!(has_ended, "{} is still running, its screen is\n{}", self.command, self.contents());
        self.screen()
    }

    /// Waits for the program to end, and returns its exit status.
    ///
    /// # Panics
    /// Panics on timeout.
    #[track_caller]
    pub fn wait_for_exit(mut self) -> ExitStatus {
        self.wait_for_end();
        self.child.wait().unwrap_or_else(|error| panic!("wait for {}: {error}", self.command))
    }

    /// Sends SIGKILL.
    pub fn kill(mut self) {
        // Ignore errors: the process may just have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    fn wait(&self, mut condition: impl FnMut(&Display) -> bool) -> bool {
        let deadline = Instant::now() + self.timeout;
        let mut display = self.shared.lock();
        while !condition(&display) {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return false;
            }
            (display, _) =
                self.shared.changed.wait_timeout(display, remaining).expect("the reader does not panic");
        }
        true
    }

    fn contents(&self) -> String {
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
        // Ignore errors: the process may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn nonzero_size(rows: u16, columns: u16) -> (NonZeroU16, NonZeroU16) {
    let side = |length| NonZeroU16::new(length).expect("a terminal has at least one row and one column");
    (side(rows), side(columns))
}

/// A key, or a key with a modifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// A letter with Ctrl.
    Ctrl(char),
    /// A letter with Alt.
    Alt(char),
    /// Return.
    Enter,
    /// Return with Alt, which many programs take as a line break.
    AltEnter,
    /// Tab.
    Tab,
    /// Tab with Shift.
    BackTab,
    /// Escape.
    Escape,
    /// Backspace.
    Backspace,
    /// Delete.
    Delete,
    /// Up arrow.
    Up,
    /// Down arrow.
    Down,
    /// Left arrow.
    Left,
    /// Right arrow.
    Right,
    /// Home.
    Home,
    /// End.
    End,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Function key, 1 to 12.
    F(u8),
}

impl Key {
    /// The bytes that xterm sends. `application_cursor` is a mode that programs can set.
    fn bytes(self, application_cursor: bool) -> String {
        let arrow = |letter: char| {
            let introducer = if application_cursor { 'O' } else { '[' };
            format!("\x1b{introducer}{letter}")
        };
        match self {
            Self::Char(letter) => letter.to_string(),
            Self::Ctrl(letter) => {
                char::from(u8::try_from(letter.to_ascii_uppercase()).unwrap_or(b'@') & 0x1f).into()
            }
            Self::Alt(letter) => format!("\x1b{letter}"),
            Self::Enter => "\r".into(),
            Self::AltEnter => "\x1b\r".into(),
            Self::Tab => "\t".into(),
            Self::BackTab => "\x1b[Z".into(),
            Self::Escape => "\x1b".into(),
            Self::Backspace => "\x7f".into(),
            Self::Delete => "\x1b[3~".into(),
            Self::Up => arrow('A'),
            Self::Down => arrow('B'),
            Self::Right => arrow('C'),
            Self::Left => arrow('D'),
            Self::Home => arrow('H'),
            Self::End => arrow('F'),
            Self::PageUp => "\x1b[5~".into(),
            Self::PageDown => "\x1b[6~".into(),
            Self::F(number) => function_key(number),
        }
    }
}

fn function_key(number: u8) -> String {
    match number {
        1 => "\x1bOP".into(),
        2 => "\x1bOQ".into(),
        3 => "\x1bOR".into(),
        4 => "\x1bOS".into(),
        5 => "\x1b[15~".into(),
        // The numbering has gaps because the VT220 keyboard had gaps between its groups of keys.
        6..=10 => format!("\x1b[{}~", number + 11),
        11 | 12 => format!("\x1b[{}~", number + 12),
        _ => panic!("there is no key F{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Hfs;
    use super::*;

    fn sh(hfs: &Hfs, script: &str) -> Terminal {
        hfs.command(&["-c", script]).in_terminal(6, 30)
    }

    #[test]
    fn the_program_sees_a_terminal_of_the_given_size() {
        let hfs = Hfs::new("/bin/sh");
        let terminal = sh(&hfs, "test -t 0 && test -t 1 && test -t 2 && stty size; echo $TERM; read line");
        assert_eq!(terminal.wait_for("xterm").contents().trim_end(), "6 30\nxterm-256color");
    }

    #[test]
    fn typed_text_reaches_the_program_and_the_screen() {
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
    fn the_program_is_notified_of_a_new_size() {
        let hfs = Hfs::new("/bin/sh");
        let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done";
        let terminal = sh(&hfs, script);
        terminal.wait_for("ready");
        terminal.resize(10, 44);
        terminal.wait_for("10 44");
    }

    #[test]
    fn a_terminal_left_in_raw_mode_is_detected() {
        let hfs = Hfs::new("/bin/sh");
        let restored = sh(&hfs, "stty raw -echo; stty sane; echo over");
        assert!(restored.wait_for_end().contents().contains("over") && restored.is_cooked());
        let raw = sh(&hfs, "stty raw -echo; echo over");
        raw.wait_for_end();
        assert!(!raw.is_cooked());
    }

    #[test]
    fn a_terminated_program_can_handle_the_signal() {
        let hfs = Hfs::new("/bin/sh");
        let terminal =
            sh(&hfs, "trap 'echo terminated; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
        terminal.wait_for("ready");
        terminal.terminate();
        terminal.wait_for("terminated");
        assert_eq!(terminal.wait_for_exit().code(), Some(3));
    }

    #[test]
    fn the_terminal_reports_the_cursor_position() {
        let hfs = Hfs::new("/bin/sh");
        let script =
            "stty raw -echo; printf 'ab\\033[6n'; dd bs=1 count=6 2>/dev/null | tr '\\033' '^'; stty cooked";
        assert_eq!(sh(&hfs, script).wait_for("R").contents(), "ab^[1;3R");
    }

    #[test]
    #[should_panic(expected = "waited for")]
    fn waiting_for_a_text_fails_when_the_program_ends() {
        let hfs = Hfs::new("/bin/sh");
        sh(&hfs, "echo other").wait_for("ready");
    }

    #[test]
    fn control_keys_are_control_characters() {
        assert_eq!(Key::Ctrl('c').bytes(false), "\x03");
        assert_eq!(Key::Ctrl('[').bytes(false), "\x1b");
    }

    #[test]
    fn arrow_keys_depend_on_the_cursor_mode() {
        assert_eq!(Key::Up.bytes(false), "\x1b[A");
        assert_eq!(Key::Up.bytes(true), "\x1bOA");
    }

    #[test]
    fn function_keys_skip_the_gaps_of_the_numbering() {
        let numbers: Vec<String> = [5, 6, 10, 11, 12].map(|n| Key::F(n).bytes(false)).into();
        assert_eq!(numbers, ["\x1b[15~", "\x1b[17~", "\x1b[21~", "\x1b[23~", "\x1b[24~"]);
    }
}
