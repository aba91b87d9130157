//! The subset of vim's normal mode that is useful for messages: motions, `d`, `c` and `y` with motions, and single-key
//! commands.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::Buffer;

/// The mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VimMode {
    /// Keys insert text.
    #[default]
    Insert,
    /// Keys are commands.
    Normal,
}

/// The mode, and the first key of an incomplete command, such as `d`.
#[derive(Debug, Clone, Default)]
pub struct Vim {
    mode: VimMode,
    pending: Option<char>,
}

impl Vim {
    pub const fn mode(&self) -> VimMode {
        self.mode
    }

    /// Handles a key. Returns `false` if the key has no meaning here: the caller then applies the standard keys in insert
    /// mode, and passes the key to the chat in normal mode.
    pub fn handle_key(&mut self, buffer: &mut Buffer, key: KeyEvent, width: usize) -> bool {
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
        let is_handled = self.handle_normal_key(buffer, key, width);
        if self.mode == VimMode::Normal {
            buffer.stay_on_character();
        }
        is_handled
    }

    fn handle_normal_key(&mut self, buffer: &mut Buffer, key: KeyEvent, width: usize) -> bool {
        if key.modifiers == KeyModifiers::CONTROL && key.code == KeyCode::Char('r') {
            return buffer.redo();
        }
        let KeyCode::Char(c) = key.code else { return self.handle_special_key(buffer, key, width) };
        if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) {
            return false;
        }
        match self.pending.take() {
            // As in vim, nothing is replaced at the end of a line.
            Some('r') if buffer.cursor() == buffer.line_end() => {}
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

    fn handle_special_key(&mut self, buffer: &mut Buffer, key: KeyEvent, width: usize) -> bool {
        match key.code {
            KeyCode::Left | KeyCode::Backspace => buffer.left(),
            KeyCode::Right => buffer.right(),
            KeyCode::Up if key.modifiers.is_empty() => return buffer.up(width),
            KeyCode::Down if key.modifiers.is_empty() => return buffer.down(width),
            KeyCode::Home => buffer.go_line_start(),
            KeyCode::End => buffer.go_line_end(),
            KeyCode::Delete => cut_to_kill_buffer(buffer, right_in_line),
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
            'x' => cut_to_kill_buffer(buffer, right_in_line),
            'D' => cut_to_kill_buffer(buffer, Buffer::go_line_end),
            'C' => {
                cut_to_kill_buffer(buffer, Buffer::go_line_end);
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
            self.operate_on_line(buffer, operator);
            return;
        }
        // As in vim, `cw` keeps the white space after the word.
        let is_on_word =
            buffer.text().get(buffer.cursor()..).is_some_and(|after| !after.starts_with(char::is_whitespace));
        let Some(to) = motion(buffer, if operator == 'c' && c == 'w' && is_on_word { 'e' } else { c }, true)
        else {
            return;
        };
        if operator == 'y' {
            let (start, end) = (buffer.cursor().min(to), buffer.cursor().max(to));
            buffer.set_kill_buffer(buffer.text().get(start..end).unwrap_or_default().to_owned());
            buffer.move_to(start);
            return;
        }
        let cut = buffer.cut(to);
        buffer.set_kill_buffer(cut);
        if operator == 'c' {
            self.mode = VimMode::Insert;
        }
    }

    fn operate_on_line(&mut self, buffer: &mut Buffer, operator: char) {
        let (start, end) = (buffer.line_start(), buffer.line_end());
        let line = buffer.text().get(start..end).unwrap_or_default().to_owned();
        buffer.set_kill_buffer(format!("{line}\n"));
        match operator {
            'c' => {
                buffer.move_to(start);
                buffer.cut(end);
                self.mode = VimMode::Insert;
            }
            'd' => {
                // The last line has no line break after it, so the line break before it is deleted.
                let length = buffer.text().len();
                let (from, to) = if end < length { (start, end + 1) } else { (start.saturating_sub(1), end) };
                buffer.move_to(from);
                buffer.cut(to);
                buffer.go_line_start();
            }
            _ => {}
        }
    }
}

fn cut_to_kill_buffer(buffer: &mut Buffer, move_cursor: impl FnOnce(&mut Buffer)) {
    let from = buffer.cursor();
    move_cursor(buffer);
    let cut = buffer.cut(from);
    if !cut.is_empty() {
        buffer.set_kill_buffer(cut);
    }
}

/// Moves right, but not to the next line.
fn right_in_line(buffer: &mut Buffer) {
    if buffer.cursor() < buffer.line_end() {
        buffer.right();
    }
}

/// Inserts the kill buffer after or before the cursor. A kill buffer that ends with a line break contains a whole line,
/// which is inserted below or above the line of the cursor.
fn put(buffer: &mut Buffer, after: bool) {
    let text = buffer.kill_buffer().to_owned();
    match text.strip_suffix('\n') {
        Some(line) if after => {
            buffer.go_line_end();
            buffer.insert(&format!("\n{line}"));
            buffer.go_line_start();
        }
        Some(_) => {
            buffer.go_line_start();
            buffer.insert(&text);
        }
        None => {
            if after && buffer.cursor() < buffer.line_end() {
                buffer.right();
            }
            buffer.insert(&text);
        }
    }
}

/// Returns the offset that a motion moves the cursor to. `e` moves to the last character of a word; for an operator,
/// it returns the offset after that character, so that the operator includes it.
fn motion(buffer: &Buffer, c: char, for_operator: bool) -> Option<usize> {
    let mut probe = buffer.clone();
    match c {
        'h' if buffer.cursor() == buffer.line_start() => {}
        'h' => probe.left(),
        'l' => right_in_line(&mut probe),
        // As in vim, an operator with `w` ends at the end of the line if no other word follows on it.
        'w' if for_operator => {
            return Some(buffer.next_word_start().min(buffer.line_end().max(buffer.cursor())));
        }
        'w' => return Some(buffer.next_word_start()),
        'b' => return Some(buffer.word_start_before()),
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
