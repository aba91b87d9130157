//! A multi-line text field with undo, and with standard, vim or emacs keys. The cursor moves by graphemes.

mod buffer;
mod fold;
mod layout;
mod vim;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

pub use buffer::Buffer;
pub use fold::label as fold_label;
pub use layout::Layout;
pub use vim::VimMode;

use fold::Folds;

/// The key bindings of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyMode {
    /// Arrow keys and common control keys.
    #[default]
    Standard,
    /// Vim: normal and insert mode.
    Vim,
    /// Emacs: control and meta keys.
    Emacs,
}

/// A text field.
#[derive(Debug, Clone, Default)]
pub struct Editor {
    buffer: Buffer,
    vim: vim::Vim,
    /// Whether the whole text is selected, so that the next character replaces it.
    is_selected: bool,
    /// Long texts, each of which is one character of the buffer.
    folds: Folds,
}

impl Editor {
    /// Returns the text. Each folded text is one character; see [`full_text`](Self::full_text).
    #[must_use]
    pub fn text(&self) -> &str {
        self.buffer.text()
    }

    /// Returns the text, with folded texts in full.
    #[must_use]
    pub fn full_text(&self) -> String {
        self.folds.unfolded(self.text())
    }

    /// Returns the label and the text of each fold.
    pub fn folds(&self) -> impl Iterator<Item = (String, &str)> {
        self.folds.in_text(self.text())
    }

    /// Whether the field is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text().is_empty()
    }

    /// Replaces the text and moves the cursor to its end. This can be undone.
    pub fn set(&mut self, text: &str) {
        self.is_selected = false;
        self.buffer.replace_all(text);
    }

    /// Replaces the text by one that the user may want to keep, and selects it: typing replaces it, and any other key
    /// deselects it.
    pub fn offer(&mut self, text: &str) {
        self.set_folded(text);
        self.is_selected = !text.is_empty();
    }

    /// Like [`set`](Self::set), for any text: it is folded if the field cannot hold it as it is.
    pub fn set_folded(&mut self, text: &str) {
        if fold::must_be_folded(text) {
            self.set("");
            self.insert_fold(text.to_owned());
        } else {
            self.set(text);
        }
    }

    /// Inserts pasted text at the cursor; a long one is folded.
    pub fn paste(&mut self, text: &str) {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        self.end_selection(true);
        if fold::is_long_paste(&text) {
            self.insert_fold(text);
        } else {
            self.buffer.insert(&text);
        }
    }

    fn insert_fold(&mut self, text: String) {
        if let Some(c) = self.folds.add(text) {
            self.buffer.insert(c.encode_utf8(&mut [0; 4]));
        }
    }

    /// Replaces the fold before the cursor by its text. Returns `false` if there is none, or if its text must be folded.
    pub fn unfold(&mut self) -> bool {
        let Some(text) = self.unfoldable().map(str::to_owned) else { return false };
        self.replace_before(&text);
        true
    }

    /// Whether [`unfold`](Self::unfold) would have an effect.
    #[must_use]
    pub fn can_unfold(&self) -> bool {
        self.unfoldable().is_some()
    }

    fn unfoldable(&self) -> Option<&str> {
        let before = self.text().get(..self.cursor())?.chars().next_back()?;
        self.folds.get(before).filter(|text| !fold::must_be_folded(text))
    }

    /// Whether the whole text is selected.
    #[must_use]
    pub const fn is_selected(&self) -> bool {
        self.is_selected
    }

    /// Deselects the text. Removes it if `replace` is set; undo restores it.
    fn end_selection(&mut self, replace: bool) {
        if std::mem::take(&mut self.is_selected) && replace {
            self.buffer.replace_all("");
        }
    }

    /// Takes the text out, with folded texts in full, and resets the field.
    pub fn take(&mut self) -> String {
        self.is_selected = false;
        self.vim = vim::Vim::default();
        let text = std::mem::take(&mut self.buffer).into_text();
        std::mem::take(&mut self.folds).unfolded(&text)
    }

    /// Inserts text at the cursor, with line breaks normalised.
    pub fn insert(&mut self, text: &str) {
        self.end_selection(true);
        self.buffer.insert(&text.replace("\r\n", "\n").replace('\r', "\n"));
    }

    /// Whether the character before the cursor is a backslash.
    #[must_use]
    pub fn is_after_backslash(&self) -> bool {
        self.text().get(..self.cursor()).is_some_and(|before| before.ends_with('\\'))
    }

    /// Replaces the character before the cursor.
    pub fn replace_before(&mut self, text: &str) {
        self.buffer.delete_before();
        self.buffer.insert(text);
    }

    /// Replaces the text from the byte offset `start` to the cursor.
    pub fn replace_from(&mut self, start: usize, text: &str) {
        self.buffer.cut(start);
        self.buffer.insert(text);
    }

    /// Returns the byte offset of the cursor.
    #[must_use]
    pub const fn cursor(&self) -> usize {
        self.buffer.cursor()
    }

    /// Wraps the text into rows of `width` cells.
    #[must_use]
    pub fn layout(&self, width: usize) -> Layout {
        Layout::new(self.text(), width)
    }

    /// Returns the vim mode.
    #[must_use]
    pub const fn vim_mode(&self) -> VimMode {
        self.vim.mode()
    }

    /// Handles a key. Returns `false` if the key does nothing in the field. Up and Down need the `width` of the rows.
    pub fn handle_key(&mut self, key: KeyEvent, mode: KeyMode, width: usize) -> bool {
        if self.is_selected {
            let is_text = matches!(key.code, KeyCode::Char(_))
                && !key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT);
            let is_deletion = matches!(key.code, KeyCode::Backspace | KeyCode::Delete);
            let inserts = self.vim.mode() == VimMode::Insert;
            self.end_selection(inserts && (is_text || is_deletion));
            if is_deletion && inserts {
                return true;
            }
        }
        match mode {
            KeyMode::Vim if self.vim.handle_key(&mut self.buffer, key, width) => return true,
            KeyMode::Vim if self.vim.mode() == VimMode::Normal => return false,
            KeyMode::Emacs if handle_emacs_key(&mut self.buffer, key, width) => return true,
            _ => {}
        }
        self.handle_standard_key(key, width)
    }

    fn handle_standard_key(&mut self, key: KeyEvent, width: usize) -> bool {
        let buffer = &mut self.buffer;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        match key.code {
            KeyCode::Char(c) if !control && !alt => buffer.insert(c.encode_utf8(&mut [0; 4])),
            KeyCode::Char('a') if control => buffer.go_line_start(),
            KeyCode::Char('e') if control => buffer.go_line_end(),
            KeyCode::Char('k') if control => buffer.kill_to_line_end(),
            KeyCode::Char('u') if control => buffer.kill_to_line_start(),
            // Many terminals send Ctrl+H for Ctrl+Backspace.
            KeyCode::Char('w' | 'h') if control => buffer.kill_word_before(),
            KeyCode::Char('y') if control => buffer.yank(),
            // Many terminals send the same byte for these three keys, and crossterm reports it as Ctrl+7.
            KeyCode::Char('_' | '/' | '7') if control => return buffer.undo(),
            KeyCode::Backspace if control || alt => buffer.kill_word_before(),
            KeyCode::Delete if control || alt => buffer.kill_word_after(),
            KeyCode::Backspace => buffer.delete_before(),
            KeyCode::Delete => buffer.delete_after(),
            KeyCode::Left if control || alt => buffer.word_left(),
            KeyCode::Right if control || alt => buffer.word_right(),
            KeyCode::Left => buffer.left(),
            KeyCode::Right => buffer.right(),
            KeyCode::Home => buffer.go_line_start(),
            KeyCode::End => buffer.go_line_end(),
            KeyCode::Up if key.modifiers.is_empty() => return buffer.up(width),
            KeyCode::Down if key.modifiers.is_empty() => return buffer.down(width),
            _ => return false,
        }
        true
    }
}

/// Handles the keys of emacs that differ from the standard ones. Returns `false` for all others.
fn handle_emacs_key(buffer: &mut Buffer, key: KeyEvent, width: usize) -> bool {
    let KeyCode::Char(c) = key.code else { return false };
    match (key.modifiers, c) {
        (KeyModifiers::CONTROL, 'b') => buffer.left(),
        (KeyModifiers::CONTROL, 'f') => buffer.right(),
        (KeyModifiers::CONTROL, 'p') => return buffer.up(width),
        (KeyModifiers::CONTROL, 'n') => return buffer.down(width),
        (KeyModifiers::CONTROL, 'd') if !buffer.text().is_empty() => buffer.delete_after(),
        (KeyModifiers::CONTROL, 'h') => buffer.delete_before(),
        (KeyModifiers::ALT, 'b') => buffer.word_left(),
        (KeyModifiers::ALT, 'f') => buffer.word_right(),
        (KeyModifiers::ALT, 'd') => buffer.kill_word_after(),
        (KeyModifiers::ALT, '<') => buffer.move_to(0),
        (KeyModifiers::ALT, '>') => buffer.move_to(usize::MAX),
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an editor after these keys. Names of keys are in angle brackets: `<c-w>` is Ctrl+W, `<m-b>` is Alt+B.
    fn typed(mode: KeyMode, keys: &str) -> Editor {
        let mut editor = Editor::default();
        let mut rest = keys;
        while let Some(c) = rest.chars().next() {
            let (key, length) = match c {
                '<' if rest.starts_with("<c-j>") => {
                    editor.insert("\n");
                    rest = &rest["<c-j>".len()..];
                    continue;
                }
                '<' => {
                    let end = rest.find('>').unwrap();
                    (named(&rest[1..end]), end + 1)
                }
                c => (KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE), c.len_utf8()),
            };
            editor.handle_key(key, mode, 40);
            rest = &rest[length..];
        }
        editor
    }

    fn named(name: &str) -> KeyEvent {
        let (modifiers, name) = match name.split_once('-') {
            Some(("c", rest)) => (KeyModifiers::CONTROL, rest),
            Some(("m", rest)) => (KeyModifiers::ALT, rest),
            _ => (KeyModifiers::NONE, name),
        };
        let code = match name {
            "esc" => KeyCode::Esc,
            "bs" => KeyCode::Backspace,
            "left" => KeyCode::Left,
            "right" => KeyCode::Right,
            "up" => KeyCode::Up,
            "down" => KeyCode::Down,
            "home" => KeyCode::Home,
            "del" => KeyCode::Delete,
            other => KeyCode::Char(other.chars().next().unwrap()),
        };
        KeyEvent::new(code, modifiers)
    }

    fn check(mode: KeyMode, keys: &str, expected: &str) {
        assert_eq!(typed(mode, keys).text(), expected, "{keys:?}");
    }

    #[test]
    fn backspace_removes_one_grapheme() {
        check(KeyMode::Standard, "a👩‍👩‍👧<bs>b", "ab");
        check(KeyMode::Standard, "e\u{301}x<left><left>y", "ye\u{301}x");
    }

    #[test]
    fn words_and_lines_can_be_killed_and_yanked() {
        check(KeyMode::Standard, "one two<c-w>three", "one three");
        check(KeyMode::Standard, "one two<c-u>x<c-y>", "xone two");
        check(KeyMode::Standard, "one two<home><c-k>x<c-y>", "xone two");
        check(KeyMode::Standard, "one<c-w><c-_>", "one");
    }

    #[test]
    fn emacs_keys_work_as_in_emacs() {
        check(KeyMode::Emacs, "one two<c-a>x<c-e>y", "xone twoy");
        check(KeyMode::Emacs, "one two<m-b>x<m-f>y", "one xtwoy");
        check(KeyMode::Emacs, "one two<c-b><c-b><c-d>", "one to");
        check(KeyMode::Emacs, "one two<m-b><m-d>x", "one x");
    }

    #[test]
    fn vim_keys_work_as_in_vim() {
        check(KeyMode::Vim, "one two<esc>bix<esc>", "one xtwo");
        check(KeyMode::Vim, "one two<esc>0dw", "two");
        check(KeyMode::Vim, "one two<esc>0cwsix<esc>", "six two");
        check(KeyMode::Vim, "one<esc>yyp", "one\none");
        check(KeyMode::Vim, "one two<esc>0x", "ne two");
        check(KeyMode::Vim, "one two<esc>ddu", "one two");
        check(KeyMode::Vim, "one<esc>otwo<esc>ggOzero<esc>", "zero\none\ntwo");
        check(KeyMode::Vim, "one two three<esc>bD", "one two ");
        check(KeyMode::Vim, "abc<esc>hrx", "axc");
        check(KeyMode::Vim, "abc<esc>xp", "abc");
        check(KeyMode::Vim, "one  two<esc>bhcwX<esc>", "one Xtwo");
    }

    #[test]
    fn vim_commands_on_characters_and_words_stay_on_their_line() {
        check(KeyMode::Vim, "ab<c-j>cd<esc>gg$x", "a\ncd");
        check(KeyMode::Vim, "ab<c-j>cd<esc>gg$xxx", "\ncd");
        check(KeyMode::Vim, "ab<c-j>cd<esc>gg$rx", "ax\ncd");
        check(KeyMode::Vim, "<c-j>cd<esc>ggrx", "\ncd");
        check(KeyMode::Vim, "ab<c-j>cd<esc>gg$dl", "a\ncd");
        check(KeyMode::Vim, "ab<c-j>cd<esc>0dh", "ab\ncd");
        check(KeyMode::Vim, "ab<c-j>cd<esc>ggxx<del><del>", "\ncd");
        check(KeyMode::Vim, "one two<c-j>three<esc>ggwdw", "one \nthree");
        check(KeyMode::Vim, "one<c-j>two<esc>ggywGp", "one\ntwoone");
    }

    #[test]
    fn typing_replaces_a_selected_text_and_other_keys_keep_it() {
        let offered = || {
            let mut editor = Editor::default();
            editor.offer("the old prompt");
            editor
        };
        let mut editor = offered();
        editor.handle_key(named("x"), KeyMode::Standard, 40);
        assert_eq!(editor.text(), "x");
        editor.handle_key(named("c-_"), KeyMode::Standard, 40);
        editor.handle_key(named("c-_"), KeyMode::Standard, 40);
        assert_eq!(editor.text(), "the old prompt", "undo restores it");
        let mut editor = offered();
        editor.insert("pasted");
        assert_eq!(editor.text(), "pasted");
        let mut editor = offered();
        editor.handle_key(named("bs"), KeyMode::Standard, 40);
        assert_eq!(editor.text(), "");
        let mut editor = offered();
        editor.handle_key(named("left"), KeyMode::Standard, 40);
        editor.handle_key(named("x"), KeyMode::Standard, 40);
        assert_eq!(editor.text(), "the old prompxt");
    }

    #[test]
    fn a_long_paste_is_one_character_and_is_taken_out_whole() {
        let lines: String = (0..400).map(|number| format!("line {number}\r\n")).collect();
        let whole = lines.replace("\r\n", "\n");
        let mut editor = typed(KeyMode::Standard, "see ");
        editor.paste(&lines);
        editor.handle_key(named("!"), KeyMode::Standard, 40);
        assert_eq!(editor.text().chars().count(), "see _!".len());
        assert_eq!(editor.layout(40).rows.len(), 1);
        assert_eq!(editor.full_text(), format!("see {whole}!"));
        let folds: Vec<(String, &str)> = editor.folds().collect();
        assert_eq!(folds, [("[long text 1]".to_owned(), whole.as_str())]);
        for _ in 0..2 {
            editor.handle_key(named("bs"), KeyMode::Standard, 40);
        }
        assert_eq!(editor.full_text(), "see ");
        editor.handle_key(named("c-_"), KeyMode::Standard, 40);
        editor.paste("short");
        editor.paste(&"wide ".repeat(1_000));
        assert_eq!(editor.take(), format!("see {whole}short{}", "wide ".repeat(1_000)));
        assert_eq!(editor.full_text(), "");
    }

    #[test]
    fn a_fold_before_the_cursor_can_be_unfolded() {
        let mut editor = Editor::default();
        let text = "one line\n".repeat(30);
        editor.paste(&text);
        assert!(editor.unfold());
        assert_eq!(editor.text(), text);
        assert!(!editor.unfold());
        editor.paste(&"x".repeat(1_000_000));
        assert!(!editor.unfold(), "the layout of such a text would delay every key");
        // A character that stands for a fold in the field's text cannot be confused with one.
        let mut editor = Editor::default();
        editor.paste("\u{100000}\u{100001}");
        assert!(!editor.unfold(), "unfolded, the first character would stand for the text itself");
        assert_eq!(editor.full_text(), "\u{100000}\u{100001}");
    }

    #[test]
    fn up_and_down_are_not_handled_in_the_first_and_last_row() {
        let mut editor = typed(KeyMode::Standard, "one");
        assert!(!editor.handle_key(named("up"), KeyMode::Standard, 40));
        editor.insert("\r\ntwo");
        assert_eq!(editor.text(), "one\ntwo");
        assert!(editor.handle_key(named("up"), KeyMode::Standard, 40));
        assert!(!editor.handle_key(named("up"), KeyMode::Standard, 40));
        assert_eq!(editor.cursor(), 3);
    }
}
