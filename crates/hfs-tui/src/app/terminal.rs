//! Sets up the terminal, draws on it, and restores it, even after a panic.

use std::io::{BufWriter, IsTerminal, Stdout, Write, stderr, stdin, stdout};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::style::Print;
use crossterm::terminal::{
    self, BeginSynchronizedUpdate, Clear, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute, queue};
use hfs_core::lock_unpoisoned;
use ratatui::backend::{Backend, ClearType, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::{Frame, Terminal};
use rustix::termios::{Termios, tcgetattr};

use super::TuiError;

/// Enables reports of buttons, drags and the wheel. crossterm's `EnableMouseCapture` also reports every movement, which
/// would wake the app needlessly.
const MOUSE_ON: &str = "\x1b[?1000h\x1b[?1002h\x1b[?1006h";
const MOUSE_OFF: &str = "\x1b[?1006l\x1b[?1002l\x1b[?1000l";
/// Maximum size of text for the clipboard, before it is encoded as base64. Some terminals ignore OSC 52 sequences of more
/// than 100,000 bytes.
const CLIPBOARD_BYTES: usize = 74_000;

/// Enables reports of the focus, so that the app knows whether the user sees it.
const FOCUS_ON: &str = "\x1b[?1004h";
const FOCUS_OFF: &str = "\x1b[?1004l";
/// Enables unambiguous keys: xterm's modified keys (modifyOtherKeys 1), which tmux passes on, too, and then flags 1 and 4
/// of the kitty protocol, which has precedence. Flag 4 adds the key's place on a Latin layout.
const EXTENDED_KEYS_ON: &str = "\x1b[>4;1m\x1b[>5u\x1b[?u";
const EXTENDED_KEYS_OFF: &str = "\x1b[<1u\x1b[>4;0m";
/// Saves the window's title, and restores it.
const SAVE_TITLE: &str = "\x1b[22;2t";
const RESTORE_TITLE: &str = "\x1b[23;2t";
/// Asks for the background color, and then for the device attributes, which every terminal answers.
const QUERY_BACKGROUND: &str = "\x1b]11;?\x1b\\\x1b[c";

/// Whether the terminal is set up for the app.
static ACQUIRED: AtomicBool = AtomicBool::new(false);
/// Whether extended keys are enabled. The kitty protocol keeps a stack of flags, so they are disabled only once.
static EXTENDED_KEYS: AtomicBool = AtomicBool::new(false);

/// The modes of the terminal before the app has set it up.
static COOKED: Mutex<Option<Termios>> = Mutex::new(None);

/// Modes of the terminal that follow the user's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalModes {
    /// Whether mouse events are reported.
    pub mouse: bool,
    /// Whether unambiguous keys are enabled.
    pub extended_keys: bool,
}

/// What the user typed before a question that hfs asked before the app started.
static KEPT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Keeps what the user has typed so far, including an incomplete line, as input of the app, so that it does not answer a
/// question that hfs asks before the app starts. Returns whether anything was typed.
pub fn keep_typed_ahead() -> bool {
    use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcsetattr};
    let stdin = stdin();
    let Ok(cooked) = tcgetattr(&stdin) else { return false };
    // Outside of canonical mode, a read also returns an incomplete line; with a minimum of 0 bytes, it does not wait.
    let mut immediate = cooked.clone();
    immediate.local_modes.remove(LocalModes::ICANON);
    immediate.special_codes[SpecialCodeIndex::VMIN] = 0;
    immediate.special_codes[SpecialCodeIndex::VTIME] = 0;
    if tcsetattr(&stdin, OptionalActions::Now, &immediate).is_err() {
        return false;
    }
    let mut kept = lock_unpoisoned(&KEPT);
    let before = kept.len();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = rustix::io::read(&stdin, &mut buffer) {
        kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    let _ = tcsetattr(&stdin, OptionalActions::Now, &cooked);
    kept.len() > before
}

/// Returns what [`keep_typed_ahead`] has kept.
pub fn take_kept() -> Vec<u8> {
    std::mem::take(&mut *lock_unpoisoned(&KEPT))
}

/// Returns the number of bytes that the user has typed so far. Only complete lines are counted.
pub fn typed_ahead() -> usize {
    rustix::io::ioctl_fionread(stdin()).ok().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0)
}

/// Checks that the app can run on the standard streams; `kind` is the kind of terminal, if it is known.
///
/// # Errors
/// Returns `NoTerminal` if one of the streams is not a terminal, and `DumbTerminal` if it cannot move its cursor.
pub fn require_terminal(kind: Option<&str>) -> Result<(), TuiError> {
    let streams = [
        ("standard input", stdin().is_terminal()),
        ("standard output", stdout().is_terminal()),
        // A message on standard error would be missed while the app draws on the terminal.
        ("standard error", stderr().is_terminal()),
    ];
    if let Some((stream, _)) = streams.into_iter().find(|(_, is_terminal)| !is_terminal) {
        return Err(TuiError::NoTerminal { stream });
    }
    match kind {
        Some(name @ "dumb") => Err(TuiError::DumbTerminal { name: name.to_owned() }),
        _ => Ok(()),
    }
}

/// Returns how many bytes of a text a terminal accepts for the clipboard.
pub fn copied_bytes(text: &str) -> usize {
    text.floor_char_boundary(CLIPBOARD_BYTES)
}

type Output = BufWriter<Stdout>;
type PanicHook = dyn Fn(&panic::PanicHookInfo<'_>) + Send + Sync;

/// The terminal while the app uses it. It is restored on drop, and before a panic message is printed.
pub struct AppTerminal {
    terminal: Terminal<CrosstermBackend<Output>>,
    modes: TerminalModes,
    /// The title that the window has.
    title: String,
    previous_hook: Arc<PanicHook>,
}

fn failed(action: &'static str) -> impl FnOnce(std::io::Error) -> TuiError {
    move |source| TuiError::Terminal { action, source }
}

impl AppTerminal {
    /// Sets up the terminal.
    ///
    /// # Errors
    /// Returns an error if the terminal cannot be set up; its previous state is restored.
    pub fn acquire(modes: TerminalModes) -> Result<Self, TuiError> {
        let previous_hook = install_panic_hook();
        let output = BufWriter::with_capacity(1 << 16, stdout());
        let terminal = set_up(modes).and_then(|()| Terminal::new(CrosstermBackend::new(output)));
        match terminal {
            Ok(terminal) => Ok(Self { terminal, modes, title: String::new(), previous_hook }),
            Err(error) => {
                restore();
                restore_panic_hook(&previous_hook);
                Err(failed("set up")(error))
            }
        }
    }

    /// Restores the terminal for another program.
    ///
    /// # Errors
    /// Returns an error if the terminal cannot be written to.
    pub fn leave(&mut self) -> Result<(), TuiError> {
        // `restore` writes to standard output directly, so the buffered output must be written before.
        Write::flush(self.terminal.backend_mut()).map_err(failed("write to"))?;
        restore();
        Ok(())
    }

    /// Sets up the terminal again after [`leave`](Self::leave).
    ///
    /// # Errors
    /// Returns an error if the terminal cannot be set up.
    pub fn reenter(&mut self) -> Result<(), TuiError> {
        self.title.clear();
        set_up(self.modes).map_err(failed("set up"))
    }

    /// Changes the modes.
    ///
    /// # Errors
    /// Returns an error if the terminal cannot be written to.
    pub fn set_modes(&mut self, modes: TerminalModes) -> Result<(), TuiError> {
        let previous = std::mem::replace(&mut self.modes, modes);
        if previous.mouse != modes.mouse {
            self.write(if modes.mouse { MOUSE_ON } else { MOUSE_OFF })?;
        }
        if previous.extended_keys != modes.extended_keys {
            EXTENDED_KEYS.store(modes.extended_keys, Ordering::SeqCst);
            restore_after_crash();
            self.write(if modes.extended_keys { EXTENDED_KEYS_ON } else { EXTENDED_KEYS_OFF })?;
        }
        Ok(())
    }

    /// Asks the terminal for its background color.
    ///
    /// # Errors
    /// Returns an error if the terminal cannot be written to.
    pub fn query_background(&mut self) -> Result<(), TuiError> {
        self.write(QUERY_BACKGROUND)
    }

    fn write(&mut self, sequence: &str) -> Result<(), TuiError> {
        execute!(self.terminal.backend_mut(), Print(sequence)).map_err(failed("write to"))
    }

    /// Returns the width and height.
    ///
    /// # Errors
    /// Returns an error if the size cannot be read.
    pub fn size(&self) -> Result<(u16, u16), TuiError> {
        let size = self.terminal.backend().size().map_err(failed("read the size of"))?;
        Ok((size.width, size.height))
    }

    /// Clears the terminal, so that the next frame is drawn completely.
    ///
    /// # Errors
    /// Returns an error if the terminal cannot be written to.
    pub fn clear(&mut self) -> Result<(), TuiError> {
        // Not `Terminal::clear`, which queries the position of the cursor: the event stream would consume the response.
        self.terminal.backend_mut().clear_region(ClearType::All).map_err(failed("clear"))?;
        // Resets the buffer that the next frame is compared with, so that every cell is written.
        self.terminal.swap_buffers();
        Ok(())
    }

    /// Draws a frame, and returns it if `keep` is set.
    ///
    /// # Errors
    /// Returns an error if the terminal cannot be written to.
    pub fn draw(
        &mut self,
        keep: bool,
        render: impl FnOnce(&mut Frame<'_>),
    ) -> Result<Option<Buffer>, TuiError> {
        let written = (|| {
            queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate)?;
            let drawn = self.terminal.draw(render)?;
            let kept = keep.then(|| drawn.buffer.clone());
            execute!(self.terminal.backend_mut(), EndSynchronizedUpdate)?;
            Ok(kept)
        })();
        written.map_err(failed("draw on"))
    }

    /// Sets the title of the window, if it has changed. The title must not contain control characters.
    ///
    /// # Errors
    /// Returns an error if the terminal cannot be written to.
    pub fn set_title(&mut self, title: &str) -> Result<(), TuiError> {
        if self.title != title {
            title.clone_into(&mut self.title);
            self.write(&format!("\x1b]2;{title}\x1b\\"))?;
        }
        Ok(())
    }

    /// Rings the bell, and shows a desktop notification (OSC 9), which terminals that have none ignore. The text must not
    /// contain control characters.
    ///
    /// # Errors
    /// Returns an error if the terminal cannot be written to.
    pub fn alert(&mut self, text: &str) -> Result<(), TuiError> {
        self.write(&format!("\x1b]9;{text}\x1b\\\x07"))
    }

    /// Copies the first [`copied_bytes`] of a text to the clipboard with OSC 52, which also works over SSH.
    ///
    /// # Errors
    /// Returns an error if the terminal cannot be written to.
    pub fn copy(&mut self, text: &str) -> Result<(), TuiError> {
        let bytes = text.get(..copied_bytes(text)).unwrap_or(text).as_bytes();
        let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
        let output = self.terminal.backend_mut();
        execute!(output, Print(format!("\x1b]52;c;{encoded}\x07"))).map_err(failed("write to"))
    }
}

impl Drop for AppTerminal {
    fn drop(&mut self) {
        let _ = Write::flush(self.terminal.backend_mut());
        restore();
        // `panic::set_hook` panics in a thread that is panicking.
        if !thread::panicking() {
            restore_panic_hook(&self.previous_hook);
        }
    }
}

fn set_up(modes: TerminalModes) -> std::io::Result<()> {
    let cooked = tcgetattr(stdin());
    enable_raw_mode()?;
    let was_acquired = ACQUIRED.swap(true, Ordering::SeqCst);
    // If the terminal is set up already, as after SIGCONT, the flags must not be pushed twice.
    let push_keys = modes.extended_keys && !EXTENDED_KEYS.swap(modes.extended_keys, Ordering::SeqCst);
    if !was_acquired {
        *lock_unpoisoned(&COOKED) = cooked.ok();
    }
    restore_after_crash();
    enter(&mut stdout(), modes, !was_acquired, push_keys)
}

/// Lets a crash restore the terminal. Must be called again when the modes have changed.
fn restore_after_crash() {
    let Some(modes) = lock_unpoisoned(&COOKED).clone() else { return };
    // The process may crash within a sequence and within a frame.
    let mut sequence = b"\x1b\\".to_vec();
    let _ = queue!(sequence, EndSynchronizedUpdate);
    sequence.extend(leave_sequence(EXTENDED_KEYS.load(Ordering::SeqCst)));
    hfs_crash::set_terminal_state(Some(hfs_crash::TerminalState { sequence, modes }));
}

fn enter(
    output: &mut impl Write,
    modes: TerminalModes,
    save_title: bool,
    push_keys: bool,
) -> std::io::Result<()> {
    execute!(
        output,
        Print(if save_title { SAVE_TITLE } else { "" }),
        EnterAlternateScreen,
        // A terminal may have no alternate screen, as the Linux console, and frames do not write blank cells.
        Clear(terminal::ClearType::All),
        EnableBracketedPaste,
        Print(FOCUS_ON),
        Print(if push_keys { EXTENDED_KEYS_ON } else { "" }),
        Print(if modes.mouse { MOUSE_ON } else { "" })
    )
}

/// Restores the terminal. An error does not prevent the remaining steps.
fn restore() {
    if !ACQUIRED.swap(false, Ordering::SeqCst) {
        return;
    }
    let sequence = leave_sequence(EXTENDED_KEYS.swap(false, Ordering::SeqCst));
    let mut output = stdout();
    let _ = output.write_all(&sequence).and_then(|()| output.flush());
    let _ = disable_raw_mode();
    hfs_crash::set_terminal_state(None);
}

/// Returns the inverse of what [`enter`] writes.
fn leave_sequence(pop_keys: bool) -> Vec<u8> {
    let mut sequence = Vec::new();
    // Writing to memory cannot fail.
    let _ = queue!(
        sequence,
        Print(MOUSE_OFF),
        Print(if pop_keys { EXTENDED_KEYS_OFF } else { "" }),
        Print(FOCUS_OFF),
        DisableBracketedPaste,
        LeaveAlternateScreen,
        Print(RESTORE_TITLE),
        cursor::Show
    );
    sequence
}

/// Installs a panic hook and returns the previous one. If this thread panics, the hook restores the terminal and then
/// prints the message. While the app runs, the hook ignores panics of other threads, because their messages would
/// overwrite the screen; the runner reports most of them as errors.
fn install_panic_hook() -> Arc<PanicHook> {
    let previous: Arc<PanicHook> = Arc::from(panic::take_hook());
    let (main_thread, print) = (thread::current().id(), Arc::clone(&previous));
    panic::set_hook(Box::new(move |info| {
        if thread::current().id() == main_thread {
            restore();
        } else if ACQUIRED.load(Ordering::SeqCst) {
            return;
        }
        print(info);
    }));
    previous
}

fn restore_panic_hook(previous: &Arc<PanicHook>) {
    let previous = Arc::clone(previous);
    panic::set_hook(Box::new(move |info| previous(info)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_frame_is_drawn_on_a_blank_screen_also_without_an_alternate_screen() {
        let mut bytes = Vec::new();
        enter(&mut bytes, TerminalModes { mouse: true, extended_keys: true }, true, true).unwrap();
        let sequences = String::from_utf8(bytes).unwrap();
        assert!(sequences.contains("\x1b[?1049h"), "{sequences:?}");
        let mut terminal = vt100::Parser::new(4.try_into().unwrap(), 40.try_into().unwrap(), 0);
        terminal.process(b"$ make\r\nwarning: unused\r\n$ hfs");
        terminal.process(sequences.replace("\x1b[?1049h", "").as_bytes());
        assert_eq!(terminal.screen().contents().trim(), "");
    }
}
