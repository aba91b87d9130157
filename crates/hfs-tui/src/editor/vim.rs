//! Vim's normal mode, as much of it as a message needs: motions, d c y with motions, and the everyday keys.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::Buffer;

/// Vim's modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VimMode {
    /// Keys are text.
    #[default]
    Insert,
    /// Keys are commands.
    Normal,
}

/// Which mode, and which command waits for its other half.
#[derive(Debug, Clone, Default)]
pub struct Vim {
    mode: VimMode,
    pending: Option<char>,
}

impl Vim {
    pub const fn mode(&self) -> VimMode {
        self.mode
    }

    /// Handles a key; `false` leaves it to the plain keys (in insert mode) or to the screen (in normal mode).
    pub fn key(&mut self, buffer: &mut Buffer, key: KeyEvent, width: usize) -> bool {
        if self.mode == VimMode::Insert {
            if key.code == KeyCode::Esc {
                self.mode = VimMode::Normal;
                self.pending = None;
                if buffer.cursor() > buffer.line_start() {
                    buffer.left();
                }
                return true;
            }
            return false;
        }
        if key.modifiers == KeyModifiers::CONTROL && key.code == KeyCode::Char('r') {
            return buffer.redo();
        }
        let KeyCode::Char(c) = key.code else { return self.arrow(buffer, key, width) };
        if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) {
            return false;
        }
        match self.pending.take() {
            Some('r') => {
                buffer.delete_after();
                buffer.insert(c.encode_utf8(&mut [0; 4]));
                buffer.left();
            }
            Some('g') => {
                if c == 'g' {
                    buffer.move_to(0);
                }
            }
            Some(operator) => self.operate(buffer, operator, c),
            None => return self.command(buffer, c, width),
        }
        true
    }

    fn arrow(&mut self, buffer: &mut Buffer, key: KeyEvent, width: usize) -> bool {
        match key.code {
            KeyCode::Left | KeyCode::Backspace => buffer.left(),
            KeyCode::Right => buffer.right(),
            KeyCode::Up if key.modifiers.is_empty() => return buffer.up(width),
            KeyCode::Down if key.modifiers.is_empty() => return buffer.down(width),
            KeyCode::Home => buffer.go_line_start(),
            KeyCode::End => buffer.go_line_end(),
            KeyCode::Delete => buffer.delete_after(),
            KeyCode::Esc if self.pending.take().is_some() => {}
            _ => return false,
        }
        true
    }

    fn command(&mut self, buffer: &mut Buffer, c: char, width: usize) -> bool {
        match c {
            'i' => self.mode = VimMode::Insert,
            'a' => {
                if buffer.cursor() < buffer.line_end() {
                    buffer.right();
                }
                self.mode = VimMode::Insert;
            }
            'I' => {
                buffer.go_line_start();
                self.mode = VimMode::Insert;
            }
            'A' => {
                buffer.go_line_end();
                self.mode = VimMode::Insert;
            }
            'o' => {
                buffer.go_line_end();
                buffer.insert("\n");
                self.mode = VimMode::Insert;
            }
            'O' => {
                buffer.go_line_start();
                buffer.insert("\n");
                buffer.left();
                self.mode = VimMode::Insert;
            }
            'j' => return buffer.down(width),
            'k' => return buffer.up(width),
            'G' => buffer.move_to(usize::MAX),
            'x' => cut_and_keep(buffer, Buffer::right),
            'D' => cut_and_keep(buffer, Buffer::go_line_end),
            'C' => {
                cut_and_keep(buffer, Buffer::go_line_end);
                self.mode = VimMode::Insert;
            }
            'p' => put(buffer, true),
            'P' => put(buffer, false),
            'u' => return buffer.undo(),
            'd' | 'c' | 'y' | 'g' | 'r' => self.pending = Some(c),
            'h' | 'l' | 'w' | 'b' | 'e' | '0' | '^' | '$' => {
                if let Some(to) = motion(buffer, c, false) {
                    buffer.move_to(to);
                }
            }
            _ => return false,
        }
        true
    }

    fn operate(&mut self, buffer: &mut Buffer, operator: char, c: char) {
        if c == operator {
            self.whole_line(buffer, operator);
            return;
        }
        // `cw` leaves the white space behind the word, as vim's users know it.
        let Some(to) = motion(buffer, if operator == 'c' && c == 'w' { 'e' } else { c }, true) else {
            return;
        };
        if operator == 'y' {
            let (start, end) = (buffer.cursor().min(to), buffer.cursor().max(to));
            buffer.keep(buffer.text().get(start..end).unwrap_or_default().to_owned());
            buffer.move_to(start);
            return;
        }
        let cut = buffer.cut(to);
        buffer.keep(cut);
        if operator == 'c' {
            self.mode = VimMode::Insert;
        }
    }

    fn whole_line(&mut self, buffer: &mut Buffer, operator: char) {
        let (start, end) = (buffer.line_start(), buffer.line_end());
        let line = buffer.text().get(start..end).unwrap_or_default().to_owned();
        buffer.keep(format!("{line}\n"));
        match operator {
            'c' => {
                buffer.move_to(start);
                buffer.cut(end);
                self.mode = VimMode::Insert;
            }
            'd' => {
                let whole = buffer.text().len();
                let (from, to) = if end < whole { (start, end + 1) } else { (start.saturating_sub(1), end) };
                buffer.move_to(from);
                buffer.cut(to);
                buffer.go_line_start();
            }
            _ => {}
        }
    }
}

fn cut_and_keep(buffer: &mut Buffer, to: impl FnOnce(&mut Buffer)) {
    let from = buffer.cursor();
    to(buffer);
    let cut = buffer.cut(from);
    buffer.keep(cut);
}

/// What was cut as a whole line is put on a line of its own.
fn put(buffer: &mut Buffer, behind: bool) {
    let text = buffer.killed().to_owned();
    match text.strip_suffix('\n') {
        Some(line) if behind => {
            buffer.go_line_end();
            buffer.insert(&format!("\n{line}"));
            buffer.go_line_start();
        }
        Some(_) => {
            buffer.go_line_start();
            buffer.insert(&text);
        }
        None => {
            if behind && buffer.cursor() < buffer.line_end() {
                buffer.right();
            }
            buffer.insert(&text);
        }
    }
}

/// Where a motion leads. `for_operator` takes the character that `e` stands on along.
fn motion(buffer: &Buffer, c: char, for_operator: bool) -> Option<usize> {
    let mut probe = buffer.clone();
    match c {
        'h' => probe.left(),
        'l' => probe.right(),
        'w' => return Some(buffer.next_word_start()),
        'b' => return Some(buffer.word_before()),
        'e' if for_operator => return Some(buffer.word_end_after()),
        'e' => {
            probe.right();
            probe.word_right();
            probe.left();
        }
        '0' => return Some(buffer.line_start()),
        '^' => {
            let line = buffer.text().get(buffer.line_start()..buffer.line_end()).unwrap_or_default();
            return Some(buffer.line_start() + line.len() - line.trim_start().len());
        }
        '$' => return Some(buffer.line_end()),
        _ => return None,
    }
    Some(probe.cursor())
}
