//! Parses the bytes of a terminal's input.
//!
//! Keys, mouse events, pasted text and the terminal's answers to queries arrive in one stream. An answer can arrive late,
//! or without a query, so every control sequence and control string is recognised by its syntax (ECMA-48), and one that
//! the app does not use is dropped. None of its bytes becomes text or a key.

use std::time::{Duration, Instant};

use crossterm::event::{
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use crate::theme::Background;

/// After this time without another byte, a single ESC is the key Esc. A link that splits escape sequences rarely delays
/// the rest for longer; vim waits for 100 ms.
const ESCAPE_TIMEOUT: Duration = Duration::from_millis(150);
/// A terminal that sends Esc as a sequence never sends a single ESC, so the rest of the sequence is only late.
const LATE_ESCAPE_TIMEOUT: Duration = Duration::from_secs(1);
/// After this time without another byte, an incomplete sequence, control string or paste ends.
const SEQUENCE_TIMEOUT: Duration = Duration::from_secs(1);
/// A terminal writes ESC and the character of an Alt combination at once. After this time the character is another key.
const ALT_GAP: Duration = Duration::from_millis(30);
/// Time without another byte after which a burst of text is complete. Text that is pasted without brackets arrives in
/// pieces, because the kernel's buffer of a terminal holds 4 KiB.
const BURST_GAP: Duration = Duration::from_millis(20);
/// Text of at least this many bytes that arrives at once was pasted, not typed.
const BURST_BYTES: usize = 64;
/// A longer text is passed on before it is complete, to limit the memory.
const MAX_TEXT_BYTES: usize = 16 << 20;
/// The end of longer control sequences is ignored. No sequence of a terminal is nearly as long.
const MAX_SEQUENCE_BYTES: usize = 256;

const ESC: u8 = 0x1b;
const PASTE_END: &[u8] = b"\x1b[201~";

/// An event of the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputEvent {
    /// A key press.
    Key(KeyEvent),
    /// Pasted text.
    Paste(String),
    /// A mouse event.
    Mouse(MouseEvent),
    /// The terminal's window has got the focus.
    FocusGained,
    /// The terminal's window has lost the focus.
    FocusLost,
    /// The answer to a query of the background color.
    Background(Background),
    /// The answer to a query of the device attributes. Terminals answer queries in order, so an earlier query that has no
    /// answer yet will not be answered.
    DeviceAttributes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between sequences. `pending` holds an incomplete UTF-8 character.
    Text,
    /// After ESC.
    Escape,
    /// After ESC O.
    Ss3,
    /// After ESC [. `pending` holds the parameters.
    Csi,
    /// After ESC [ [, which begins the function keys of the Linux console.
    LinuxFunctionKey,
    /// In the three bytes of a mouse event without parameters.
    PlainMouse,
    /// In a control string. `pending` holds its content.
    ControlString {
        /// The byte after ESC, such as `]` for OSC.
        introducer: u8,
        /// Whether the last byte was ESC, which ends the string.
        after_escape: bool,
    },
    /// In a bracketed paste. `pending` holds its content.
    Paste,
}

/// Parses input. The caller passes bytes as they arrive, and calls [`time_out`](Self::time_out) at the deadline.
#[derive(Debug)]
pub struct Parser {
    state: State,
    pending: Vec<u8>,
    /// Typed or pasted text without brackets, until its burst is complete.
    text: String,
    /// Whether the open character follows an ESC of the same key.
    with_alt: bool,
    /// Whether ESC and the byte after it arrived at different times.
    is_escape_apart: bool,
    last_byte_at: Instant,
    /// Whether the terminal sends the key Esc as a sequence.
    sends_escape_as_sequence: bool,
    /// Number of bytes that were typed before the terminal was in raw mode, where Enter is a line feed.
    typed_ahead: usize,
    events: Vec<InputEvent>,
}

impl Parser {
    /// Creates a parser. The first `typed_ahead` bytes were typed before the terminal was in raw mode.
    pub fn new(now: Instant, typed_ahead: usize) -> Self {
        Self {
            state: State::Text,
            pending: Vec::new(),
            text: String::new(),
            with_alt: false,
            is_escape_apart: false,
            last_byte_at: now,
            sends_escape_as_sequence: false,
            typed_ahead,
            events: Vec::new(),
        }
    }

    /// Parses bytes that arrived together, and returns the complete events.
    pub fn push(&mut self, bytes: &[u8], now: Instant) -> Vec<InputEvent> {
        let gap = now.saturating_duration_since(self.last_byte_at);
        let mut rest = bytes;
        if self.state == State::Escape && gap > ALT_GAP {
            self.is_escape_apart = true;
        }
        while let Some((byte, after)) = rest.split_first() {
            if self.state == State::Paste {
                rest = self.paste(rest);
                continue;
            }
            let byte = self.without_cooked_line_feed(*byte);
            self.byte(byte);
            rest = after;
        }
        self.last_byte_at = now;
        if !self.is_burst() || self.text.len() > MAX_TEXT_BYTES {
            self.flush_text();
        }
        std::mem::take(&mut self.events)
    }

    /// Returns the time at which the open sequence or burst ends if no other byte arrives.
    pub fn deadline(&self) -> Option<Instant> {
        let timeout = match self.state {
            State::Text if self.text.is_empty() => return None,
            State::Text => BURST_GAP,
            State::Escape if !self.sends_escape_as_sequence => ESCAPE_TIMEOUT,
            State::Escape => LATE_ESCAPE_TIMEOUT,
            State::Ss3
            | State::Csi
            | State::LinuxFunctionKey
            | State::PlainMouse
            | State::ControlString { .. }
            | State::Paste => SEQUENCE_TIMEOUT,
        };
        Some(self.last_byte_at + timeout)
    }

    /// Ends the open sequence and burst, and returns their events.
    pub fn time_out(&mut self) -> Vec<InputEvent> {
        let pending = std::mem::take(&mut self.pending);
        match std::mem::replace(&mut self.state, State::Text) {
            // An incomplete character is dropped.
            State::Text | State::LinuxFunctionKey | State::PlainMouse => {}
            State::Escape => self.key(KeyCode::Esc, KeyModifiers::NONE),
            // An introducer without a sequence is a key with Alt, such as Alt+[. Other incomplete sequences are dropped.
            State::Ss3 => self.late_alt(b'O'),
            State::Csi if pending.is_empty() => self.late_alt(b'['),
            State::ControlString { introducer, after_escape: false } if pending.is_empty() => {
                self.late_alt(introducer);
            }
            State::Csi | State::ControlString { .. } => {}
            // The end of the paste was lost.
            State::Paste => self.end_paste(&pending),
        }
        self.flush_text();
        std::mem::take(&mut self.events)
    }

    /// In the terminal's line mode, Enter is a line feed. In raw mode that byte is Ctrl+J.
    fn without_cooked_line_feed(&mut self, byte: u8) -> u8 {
        if self.typed_ahead == 0 {
            return byte;
        }
        self.typed_ahead -= 1;
        if byte == b'\n' { b'\r' } else { byte }
    }

    fn byte(&mut self, byte: u8) {
        match self.state {
            State::Text => self.text_byte(byte),
            State::Escape => self.escape_byte(byte),
            State::Ss3 => {
                self.state = State::Text;
                self.ss3(byte);
            }
            State::Csi => self.csi_byte(byte),
            State::LinuxFunctionKey => {
                self.state = State::Text;
                if let Some(number @ 1..=5) = byte.checked_sub(b'A' - 1) {
                    self.key(KeyCode::F(number), KeyModifiers::NONE);
                }
            }
            State::PlainMouse => {
                self.pending.push(byte);
                if let [button, column, row] = *self.pending {
                    self.state = State::Text;
                    self.pending.clear();
                    let position = |byte: u8| u16::from(byte.saturating_sub(33));
                    self.mouse(button.saturating_sub(32), position(column), position(row), false);
                }
            }
            State::ControlString { introducer, after_escape } => {
                self.control_string_byte(introducer, after_escape, byte);
            }
            // `push` handles pasted bytes.
            State::Paste => {}
        }
    }

    fn text_byte(&mut self, byte: u8) {
        if !self.pending.is_empty() || byte >= 0x80 {
            self.pending.push(byte);
            match std::str::from_utf8(&self.pending) {
                Ok(complete) => {
                    let c = complete.chars().next();
                    self.pending.clear();
                    // C1 control characters are no keys.
                    if let Some(c) = c.filter(|c| !c.is_control()) {
                        self.char(c);
                    }
                }
                // Not valid UTF-8. An ASCII byte that interrupts a character is a key of its own.
                Err(error) if error.error_len().is_some() => {
                    self.pending.clear();
                    self.with_alt = false;
                    if byte < 0x80 {
                        self.text_byte(byte);
                    }
                }
                Err(_) => {}
            }
            return;
        }
        match byte {
            ESC => self.state = State::Escape,
            b'\r' | b'\n' | b'\t' if !self.with_alt => self.text.push(char::from(byte)),
            b'\r' => self.control_key(KeyCode::Enter, KeyModifiers::NONE),
            b'\t' => self.control_key(KeyCode::Tab, KeyModifiers::NONE),
            0x7f => self.control_key(KeyCode::Backspace, KeyModifiers::NONE),
            0 => self.control_key(KeyCode::Char(' '), KeyModifiers::CONTROL),
            1..=26 => self.control_key(KeyCode::Char(char::from(byte - 1 + b'a')), KeyModifiers::CONTROL),
            // As xterm: Ctrl+4 to Ctrl+7.
            28..=31 => self.control_key(KeyCode::Char(char::from(byte - 28 + b'4')), KeyModifiers::CONTROL),
            _ => self.char(char::from(byte)),
        }
    }

    fn char(&mut self, c: char) {
        if !std::mem::take(&mut self.with_alt) {
            self.text.push(c);
            return;
        }
        let shift = if c.is_uppercase() { KeyModifiers::SHIFT } else { KeyModifiers::NONE };
        self.key(KeyCode::Char(c), KeyModifiers::ALT | shift);
    }

    fn control_key(&mut self, code: KeyCode, modifiers: KeyModifiers) {
        let alt = if std::mem::take(&mut self.with_alt) { KeyModifiers::ALT } else { KeyModifiers::NONE };
        self.key(code, modifiers | alt);
    }

    fn escape_byte(&mut self, byte: u8) {
        match byte {
            b'[' => self.state = State::Csi,
            b'O' => self.state = State::Ss3,
            b']' | b'P' | b'_' | b'^' | b'X' => {
                self.state = State::ControlString { introducer: byte, after_escape: false };
            }
            ESC => {
                self.is_escape_apart = false;
                self.key(KeyCode::Esc, KeyModifiers::NONE);
            }
            _ => {
                self.state = State::Text;
                if std::mem::take(&mut self.is_escape_apart) {
                    self.key(KeyCode::Esc, KeyModifiers::NONE);
                } else {
                    self.with_alt = true;
                }
                self.text_byte(byte);
            }
        }
    }

    /// Adds the key of an introducer that no sequence followed.
    fn late_alt(&mut self, introducer: u8) {
        let c = char::from(introducer);
        if std::mem::take(&mut self.is_escape_apart) {
            self.key(KeyCode::Esc, KeyModifiers::NONE);
            self.text.push(c);
        } else {
            self.with_alt = true;
            self.char(c);
        }
    }

    fn ss3(&mut self, byte: u8) {
        self.is_escape_apart = false;
        let code = match byte {
            b'P'..=b'S' => KeyCode::F(byte - b'P' + 1),
            // Keys of the numeric keypad in application mode.
            b'M' => KeyCode::Enter,
            b'j'..=b'y' => KeyCode::Char(char::from(byte - 0x40)),
            _ => match cursor_key(byte) {
                Some(code) => code,
                None => return,
            },
        };
        self.key(code, KeyModifiers::NONE);
    }

    fn csi_byte(&mut self, byte: u8) {
        match byte {
            b'[' if self.pending.is_empty() => self.state = State::LinuxFunctionKey,
            0x20..=0x3f => {
                if self.pending.len() < MAX_SEQUENCE_BYTES {
                    self.pending.push(byte);
                }
            }
            0x40..=0x7e => {
                self.state = State::Text;
                self.is_escape_apart = false;
                let parameters = std::mem::take(&mut self.pending);
                self.csi(&parameters, byte);
            }
            // A control character interrupts the sequence.
            _ => {
                self.pending.clear();
                self.state = State::Text;
                if byte < 0x20 {
                    self.text_byte(byte);
                }
            }
        }
    }

    fn control_string_byte(&mut self, introducer: u8, after_escape: bool, byte: u8) {
        const BEL: u8 = 0x07;
        const CAN: u8 = 0x18;
        const SUB: u8 = 0x1a;
        match byte {
            b'\\' if after_escape => self.end_control_string(introducer),
            // Any other byte after ESC begins another sequence, which ends the string.
            _ if after_escape => {
                self.end_control_string(introducer);
                self.state = State::Escape;
                self.escape_byte(byte);
            }
            ESC => self.state = State::ControlString { introducer, after_escape: true },
            BEL => self.end_control_string(introducer),
            CAN | SUB => {
                self.pending.clear();
                self.state = State::Text;
            }
            _ if self.pending.len() < MAX_SEQUENCE_BYTES => self.pending.push(byte),
            _ => {}
        }
    }

    fn end_control_string(&mut self, introducer: u8) {
        self.state = State::Text;
        self.is_escape_apart = false;
        let content = std::mem::take(&mut self.pending);
        if introducer == b']'
            && let Some(background) = parse_background(&content)
        {
            self.event(InputEvent::Background(background));
        }
    }

    fn csi(&mut self, parameters: &[u8], last: u8) {
        if let Some(rest) = parameters.strip_prefix(b"<") {
            if let (b'M' | b'm', Some([button, column, row])) = (last, numbers(rest).get(..3)) {
                let position = |number: u32| u16::try_from(number.saturating_sub(1)).unwrap_or(u16::MAX);
                let button = u8::try_from(*button).unwrap_or(u8::MAX);
                self.mouse(button, position(*column), position(*row), last == b'm');
            }
            return;
        }
        if let Some(rest) = parameters.strip_prefix(b"?") {
            match last {
                b'u' => {
                    self.sends_escape_as_sequence = numbers(rest).first().is_some_and(|flags| flags & 1 != 0);
                }
                b'c' => self.event(InputEvent::DeviceAttributes),
                _ => {}
            }
            return;
        }
        // Other sequences with a private parameter or an intermediate byte are answers to queries.
        if parameters.iter().any(|byte| !matches!(byte, b'0'..=b'9' | b';' | b':')) {
            return;
        }
        let fields: Vec<&[u8]> = parameters.split(|byte| *byte == b';').collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or_default();
        let number =
            |index: usize| number(field(index).split(|byte| *byte == b':').next().unwrap_or_default());
        match (last, parameters.is_empty()) {
            (b'I', true) => self.event(InputEvent::FocusGained),
            (b'O', true) => self.event(InputEvent::FocusLost),
            (b'M', true) => self.state = State::PlainMouse,
            (b'M', false) => {
                let position =
                    |index| u16::try_from(number(index).unwrap_or(1).saturating_sub(1)).unwrap_or(0);
                let button = u8::try_from(number(0).unwrap_or(0).saturating_sub(32)).unwrap_or(u8::MAX);
                self.mouse(button, position(1), position(2), false);
            }
            (b'Z', _) => self.key(KeyCode::BackTab, KeyModifiers::SHIFT),
            (b'u', false) => self.key_with_code(field(0), field(1)),
            // xterm's format of modified keys.
            (b'~', _) if number(0) == Some(27) && fields.len() == 3 => self.key_with_code(field(2), field(1)),
            (b'~', _) if number(0) == Some(200) => self.state = State::Paste,
            (b'~', _) => {
                let code = number(0).and_then(numbered_key);
                self.key_with_modifiers(code, field(1));
            }
            (b'P', _) => self.key_with_modifiers(Some(KeyCode::F(1)), field(1)),
            (b'Q', _) => self.key_with_modifiers(Some(KeyCode::F(2)), field(1)),
            (b'S', _) => self.key_with_modifiers(Some(KeyCode::F(4)), field(1)),
            // rxvt's cursor keys with Shift.
            (b'a'..=b'd', true) => {
                let code = cursor_key(last.to_ascii_uppercase());
                self.key_with_modifiers(code, b"2");
            }
            _ => self.key_with_modifiers(cursor_key(last), field(1)),
        }
    }

    /// Adds a key that the terminal reports by its Unicode code point, as `code:shifted code:code on the base layout`.
    fn key_with_code(&mut self, codes: &[u8], modifiers: &[u8]) {
        let mut codes = codes.split(|byte| *byte == b':').map(number);
        let Some(code) = codes.next().flatten() else { return };
        let [shifted, base] =
            [codes.next().flatten(), codes.next().flatten()].map(|code| code.and_then(char::from_u32));
        let Some((mut modifiers, kind)) = parse_modifiers(modifiers) else { return };
        let is_shifted = modifiers.contains(KeyModifiers::SHIFT);
        let is_command = modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
        let code = match code {
            27 => KeyCode::Esc,
            13 | 57_414 => KeyCode::Enter,
            9 if is_shifted => KeyCode::BackTab,
            9 => KeyCode::Tab,
            8 | 127 => KeyCode::Backspace,
            57_344..=63_743 => match functional_key(code) {
                Some(code) => code,
                None => return,
            },
            _ => {
                let Some(mut c) = char::from_u32(code).filter(|c| !c.is_control()) else { return };
                match shifted {
                    // Letters keep the modifier, as they do without the protocol.
                    Some(shifted) if is_shifted && !is_command => c = shifted,
                    Some(shifted) if is_shifted && !shifted.is_alphabetic() => {
                        c = shifted;
                        modifiers.remove(KeyModifiers::SHIFT);
                    }
                    // On a layout without Latin letters, a shortcut is the key in the place of the letter.
                    _ if is_command && !c.is_ascii() => c = base.unwrap_or(c),
                    _ => {}
                }
                KeyCode::Char(c)
            }
        };
        if kind != KeyEventKind::Release {
            self.event(InputEvent::Key(KeyEvent::new_with_kind(code, modifiers, kind)));
        }
    }

    fn key_with_modifiers(&mut self, code: Option<KeyCode>, modifiers: &[u8]) {
        if let (Some(code), Some((modifiers, kind))) = (code, parse_modifiers(modifiers))
            && kind != KeyEventKind::Release
        {
            self.event(InputEvent::Key(KeyEvent::new_with_kind(code, modifiers, kind)));
        }
    }

    fn mouse(&mut self, button: u8, column: u16, row: u16, is_release: bool) {
        const MOTION: u8 = 32;
        let which = match button & 0b11 {
            0 => MouseButton::Left,
            1 => MouseButton::Middle,
            _ => MouseButton::Right,
        };
        let kind = match (button & !0b1_1100 & !MOTION, button & MOTION != 0) {
            (64, _) => MouseEventKind::ScrollUp,
            (65, _) => MouseEventKind::ScrollDown,
            (66, _) => MouseEventKind::ScrollLeft,
            (67, _) => MouseEventKind::ScrollRight,
            (0..=2, _) if is_release => MouseEventKind::Up(which),
            (0..=2, true) => MouseEventKind::Drag(which),
            (0..=2, false) => MouseEventKind::Down(which),
            (3, true) => MouseEventKind::Moved,
            // Without parameters, the terminal does not say which button was released.
            (3, false) => MouseEventKind::Up(MouseButton::Left),
            _ => return,
        };
        let modifiers = [(4, KeyModifiers::SHIFT), (8, KeyModifiers::ALT), (16, KeyModifiers::CONTROL)]
            .into_iter()
            .filter(|(bit, _)| button & bit != 0)
            .fold(KeyModifiers::NONE, |all, (_, modifier)| all | modifier);
        self.event(InputEvent::Mouse(MouseEvent { kind, column, row, modifiers }));
    }

    /// Adds pasted bytes up to the end of the paste, and returns the rest.
    fn paste<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        // The end may have begun in earlier bytes.
        let searched = self.pending.len().saturating_sub(PASTE_END.len() - 1);
        let before = self.pending.len();
        self.pending.extend_from_slice(bytes);
        let tail = self.pending.get(searched..).unwrap_or_default();
        let Some(end) = tail.windows(PASTE_END.len()).position(|window| window == PASTE_END) else {
            return &[];
        };
        let mut content = std::mem::take(&mut self.pending);
        content.truncate(searched + end);
        self.state = State::Text;
        self.end_paste(&content);
        bytes.get((searched + end + PASTE_END.len()).saturating_sub(before)..).unwrap_or_default()
    }

    fn end_paste(&mut self, content: &[u8]) {
        self.event(InputEvent::Paste(String::from_utf8_lossy(content).into_owned()));
    }

    fn key(&mut self, code: KeyCode, modifiers: KeyModifiers) {
        self.event(InputEvent::Key(KeyEvent::new(code, modifiers)));
    }

    fn event(&mut self, event: InputEvent) {
        self.flush_text();
        self.events.push(event);
    }

    /// Whether the text arrived too fast to be typed: more of it may follow.
    fn is_burst(&self) -> bool {
        self.text.len() >= BURST_BYTES || is_multi_line(&self.text)
    }

    /// Passes on the text: as a paste if it was a burst, else as keys.
    fn flush_text(&mut self) {
        if self.is_burst() {
            self.events.push(InputEvent::Paste(std::mem::take(&mut self.text)));
            return;
        }
        for c in std::mem::take(&mut self.text).chars() {
            let (code, modifiers) = match c {
                '\r' => (KeyCode::Enter, KeyModifiers::NONE),
                '\n' => (KeyCode::Char('j'), KeyModifiers::CONTROL),
                '\t' => (KeyCode::Tab, KeyModifiers::NONE),
                c if c.is_uppercase() => (KeyCode::Char(c), KeyModifiers::SHIFT),
                c => (KeyCode::Char(c), KeyModifiers::NONE),
            };
            self.events.push(InputEvent::Key(KeyEvent::new(code, modifiers)));
        }
    }
}

/// Whether text follows a line break. A line break at the end alone is the key Enter after fast typing.
fn is_multi_line(text: &str) -> bool {
    let is_break = |c| matches!(c, '\r' | '\n');
    text.trim_end_matches(is_break).trim_start_matches(is_break).contains(is_break)
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// Returns the parameters of a sequence; a missing one is 0.
fn numbers(parameters: &[u8]) -> Vec<u32> {
    parameters.split(|byte| *byte == b';').map(|field| number(field).unwrap_or(0)).collect()
}

const fn cursor_key(last: u8) -> Option<KeyCode> {
    Some(match last {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'F' => KeyCode::End,
        b'H' => KeyCode::Home,
        _ => return None,
    })
}

/// Returns the key of `CSI number ~`.
fn numbered_key(number: u32) -> Option<KeyCode> {
    // The numbers of function keys have gaps.
    let function = |first_key: u8, first_number: u32| {
        u8::try_from(number - first_number).ok().map(|offset| KeyCode::F(first_key + offset))
    };
    match number {
        1 | 7 => Some(KeyCode::Home),
        2 => Some(KeyCode::Insert),
        3 => Some(KeyCode::Delete),
        4 | 8 => Some(KeyCode::End),
        5 => Some(KeyCode::PageUp),
        6 => Some(KeyCode::PageDown),
        11..=15 => function(1, 11),
        17..=21 => function(6, 17),
        23..=26 => function(11, 23),
        28..=29 => function(15, 28),
        31..=34 => function(17, 31),
        _ => None,
    }
}

/// Returns the key of a code point in the private use area of the kitty protocol. Media and modifier keys have none.
fn functional_key(code: u32) -> Option<KeyCode> {
    const KEYPAD: [char; 17] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '.', '/', '*', '-', '+', '\r', '='];
    Some(match code {
        57_376..=57_398 => KeyCode::F(u8::try_from(code - 57_376 + 13).ok()?),
        57_399..=57_415 => KeyCode::Char(KEYPAD.get(usize::try_from(code - 57_399).ok()?).copied()?),
        57_416 => KeyCode::Char(','),
        57_417 => KeyCode::Left,
        57_418 => KeyCode::Right,
        57_419 => KeyCode::Up,
        57_420 => KeyCode::Down,
        57_421 => KeyCode::PageUp,
        57_422 => KeyCode::PageDown,
        57_423 => KeyCode::Home,
        57_424 => KeyCode::End,
        57_425 => KeyCode::Insert,
        57_426 => KeyCode::Delete,
        _ => return None,
    })
}

/// Parses `modifiers:kind`, where 1 is no modifier. A missing parameter is the default.
fn parse_modifiers(field: &[u8]) -> Option<(KeyModifiers, KeyEventKind)> {
    let mut parts = field.split(|byte| *byte == b':');
    let bits = match parts.next().filter(|part| !part.is_empty()) {
        Some(part) => number(part)?.checked_sub(1)?,
        None => 0,
    };
    let all = [
        KeyModifiers::SHIFT,
        KeyModifiers::ALT,
        KeyModifiers::CONTROL,
        KeyModifiers::SUPER,
        KeyModifiers::HYPER,
        KeyModifiers::META,
    ];
    let modifiers = all.into_iter().enumerate().filter(|(bit, _)| bits >> bit & 1 != 0);
    let modifiers = modifiers.fold(KeyModifiers::NONE, |all, (_, modifier)| all | modifier);
    let kind = match parts.next().and_then(number) {
        Some(2) => KeyEventKind::Repeat,
        Some(3) => KeyEventKind::Release,
        _ => KeyEventKind::Press,
    };
    Some((modifiers, kind))
}

/// Parses the content of `OSC 11 ; color ST`.
fn parse_background(content: &[u8]) -> Option<Background> {
    let color = std::str::from_utf8(content).ok()?.strip_prefix("11;")?;
    let channels: Vec<f64> = match color.strip_prefix('#') {
        Some(digits) if !digits.is_empty() && digits.len() % 3 == 0 && digits.is_ascii() => {
            let length = digits.len() / 3;
            (0..3).filter_map(|index| channel(digits.get(index * length..(index + 1) * length)?)).collect()
        }
        Some(_) => return None,
        None => {
            let list = color.strip_prefix("rgb:").or_else(|| color.strip_prefix("rgba:"))?;
            list.split('/').take(3).filter_map(channel).collect()
        }
    };
    let [red, green, blue] = *channels else { return None };
    // The relative luminance of WCAG. A color of 0.18 looks halfway between black and white.
    let linear =
        |value: f64| if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) };
    let luminance = 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
    Some(if luminance > 0.18 { Background::Light } else { Background::Dark })
}

/// Parses one to four hexadecimal digits as a fraction of their maximum.
fn channel(digits: &str) -> Option<f64> {
    let value = u32::from_str_radix(digits, 16).ok().filter(|_| (1..=4).contains(&digits.len()))?;
    let maximum = (1_u32 << (4 * digits.len())) - 1;
    Some(f64::from(value) / f64::from(maximum))
}

#[cfg(test)]
mod tests;
