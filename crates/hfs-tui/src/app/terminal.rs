//! The terminal: taken, given back whatever happens, drawn on.

use std::io::{BufWriter, IsTerminal, Stdout, Write, stdin, stdout};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use base64::Engine as _;
use crossterm::event::{
    DisableBracketedPaste, EnableBracketedPaste, KeyboardEnhancementFlags, PopKeyboardEnhancementFlags,
    PushKeyboardEnhancementFlags,
};
use crossterm::style::Print;
use crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute, queue};
use ratatui::backend::{Backend, ClearType, CrosstermBackend};
use ratatui::buffer::Buffer;
use ratatui::{Frame, Terminal};

use crate::error::TuiError;

/// Buttons, drags and the wheel; not every movement of the mouse, which would keep the app awake.
const MOUSE_ON: &str = "\x1b[?1000h\x1b[?1002h\x1b[?1006h";
const MOUSE_OFF: &str = "\x1b[?1006l\x1b[?1002l\x1b[?1000l";
/// Terminals refuse larger pieces for the clipboard.
const CLIPBOARD_BYTES: usize = 74_000;

/// Whether the terminal is ours at the moment.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Makes sure that there is a terminal to run on.
///
/// # Errors
/// `NoTerminal`.
pub fn require() -> Result<(), TuiError> {
    if !stdin().is_terminal() {
        return Err(TuiError::NoTerminal { what: "standard input" });
    }
    if !stdout().is_terminal() {
        return Err(TuiError::NoTerminal { what: "standard output" });
    }
    Ok(())
}

type Output = BufWriter<Stdout>;
type PanicHook = dyn Fn(&panic::PanicHookInfo<'_>) + Send + Sync;

/// The terminal while it is ours. It is given back when this is dropped, and before a panic speaks.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Output>>,
    mouse: bool,
    before: Arc<PanicHook>,
}

fn failed(action: &'static str) -> impl FnOnce(std::io::Error) -> TuiError {
    move |source| TuiError::Terminal { action, source }
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When it does not go along; then it is as it was.
    pub fn enter(mouse: bool) -> Result<Self, TuiError> {
        let before = watch_for_panics();
        let output = BufWriter::with_capacity(1 << 16, stdout());
        let made = take(mouse).and_then(|()| Terminal::new(CrosstermBackend::new(output)));
        match made {
            Ok(terminal) => Ok(Self { terminal, mouse, before }),
            Err(error) => {
                give_back();
                unwatch(&before);
                Err(failed("take over")(error))
            }
        }
    }

    /// Gives the terminal back for a while.
    ///
    /// # Errors
    /// When it does not go along.
    pub fn leave(&mut self) -> Result<(), TuiError> {
        Write::flush(self.terminal.backend_mut()).map_err(failed("write to"))?;
        give_back();
        Ok(())
    }

    /// Takes it again.
    ///
    /// # Errors
    /// When it does not go along.
    pub fn enter_again(&mut self) -> Result<(), TuiError> {
        take(self.mouse).map_err(failed("take over"))
    }

    /// Sees the mouse from now on, or leaves it to the terminal.
    ///
    /// # Errors
    /// When it does not go along.
    pub fn set_mouse(&mut self, mouse: bool) -> Result<(), TuiError> {
        if std::mem::replace(&mut self.mouse, mouse) == mouse {
            return Ok(());
        }
        let sequence = if mouse { MOUSE_ON } else { MOUSE_OFF };
        execute!(self.terminal.backend_mut(), Print(sequence)).map_err(failed("write to"))
    }

    /// Its size.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn size(&self) -> Result<(u16, u16), TuiError> {
        let size = self.terminal.backend().size().map_err(failed("ask for the size of"))?;
        Ok((size.width, size.height))
    }

    /// Forgets what is on it, so that everything is drawn anew.
    ///
    /// # Errors
    /// When it does not go along.
    pub fn clear(&mut self) -> Result<(), TuiError> {
        // Not what the library offers: that first asks where the cursor is, and the answer goes to whoever reads keys.
        self.terminal.backend_mut().clear_region(ClearType::All).map_err(failed("clear"))?;
        self.terminal.swap_buffers();
        Ok(())
    }

    /// Draws a picture, and returns it when it is to be kept.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn draw(
        &mut self,
        keep: bool,
        picture: impl FnOnce(&mut Frame<'_>),
    ) -> Result<Option<Buffer>, TuiError> {
        let written = (|| {
            queue!(self.terminal.backend_mut(), BeginSynchronizedUpdate)?;
            let drawn = self.terminal.draw(picture)?;
            let kept = keep.then(|| drawn.buffer.clone());
            execute!(self.terminal.backend_mut(), EndSynchronizedUpdate)?;
            Ok(kept)
        })();
        written.map_err(failed("draw on"))
    }

    /// Puts text on the clipboard of the terminal, wherever that runs.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn copy(&mut self, text: &str) -> Result<(), TuiError> {
        let end = text.floor_char_boundary(CLIPBOARD_BYTES);
        let bytes = text.get(..end).unwrap_or(text).as_bytes();
        let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
        let output = self.terminal.backend_mut();
        execute!(output, Print(format!("\x1b]52;c;{encoded}\x07"))).map_err(failed("write to"))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = Write::flush(self.terminal.backend_mut());
        give_back();
        if !thread::panicking() {
            unwatch(&self.before);
        }
    }
}

fn take(mouse: bool) -> std::io::Result<()> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    execute!(
        stdout(),
        EnterAlternateScreen,
        EnableBracketedPaste,
        PushKeyboardEnhancementFlags(KeyboardEnhancementFlags::DISAMBIGUATE_ESCAPE_CODES),
        Print(if mouse { MOUSE_ON } else { "" })
    )
}

/// Puts the terminal back as it was. Whatever of it fails, the rest is still tried.
fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let _ = execute!(
        stdout(),
        Print(MOUSE_OFF),
        PopKeyboardEnhancementFlags,
        DisableBracketedPaste,
        LeaveAlternateScreen,
        cursor::Show
    );
    let _ = disable_raw_mode();
}

/// A panic of the screen's own thread gives the terminal back before it speaks. Those of background threads come
/// back as errors of what they worked on, and must not write over the picture.
fn watch_for_panics() -> Arc<PanicHook> {
    let before: Arc<PanicHook> = Arc::from(panic::take_hook());
    let (own, speak) = (thread::current().id(), Arc::clone(&before));
    panic::set_hook(Box::new(move |info| {
        if thread::current().id() == own {
            give_back();
        } else if TAKEN.load(Ordering::SeqCst) {
            return;
        }
        speak(info);
    }));
    before
}

fn unwatch(before: &Arc<PanicHook>) {
    let before = Arc::clone(before);
    panic::set_hook(Box::new(move |info| before(info)));
}
