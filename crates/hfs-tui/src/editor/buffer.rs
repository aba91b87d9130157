//! Text with a cursor, undo and a kill buffer.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use super::Layout;

/// Maximum number of undo steps.
const UNDO_STEPS: usize = 200;

/// Text with a cursor. The cursor is always on a grapheme boundary.
#[derive(Debug, Clone, Default)]
pub struct Buffer {
    text: String,
    /// Byte offset of the cursor.
    cursor: usize,
    /// The column to return to while moving up and down over shorter rows.
    column: Option<usize>,
    kill_buffer: String,
    /// Text and cursor before each change that can be undone, oldest first.
    undo_steps: Vec<(String, usize)>,
    /// Text and cursor before each undo that can be redone, oldest first.
    redo_steps: Vec<(String, usize)>,
    /// Whether the last change was a typed letter. Consecutive letters are one undo step.
    is_typing: bool,
}

impl Buffer {
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn into_text(self) -> String {
        self.text
    }

    pub const fn cursor(&self) -> usize {
        self.cursor
    }

    fn before(&self) -> &str {
        self.text.get(..self.cursor).unwrap_or_default()
    }

    fn after(&self) -> &str {
        self.text.get(self.cursor..).unwrap_or_default()
    }

    fn push_undo_step(&mut self) {
        self.undo_steps.push((self.text.clone(), self.cursor));
        if self.undo_steps.len() > UNDO_STEPS {
            self.undo_steps.remove(0);
        }
        self.redo_steps.clear();
        self.is_typing = false;
    }

    pub fn insert(&mut self, text: &str) {
        let is_typing = text.chars().count() == 1 && !text.contains(char::is_whitespace);
        if !(is_typing && self.is_typing) {
            self.push_undo_step();
        }
        self.is_typing = is_typing;
        self.text.insert_str(self.cursor, text);
        self.cursor += text.len();
        self.column = None;
    }

    pub fn replace_all(&mut self, text: &str) {
        self.push_undo_step();
        self.text = text.to_owned();
        self.cursor = text.len();
        self.column = None;
    }

    /// Removes the text between the cursor and `to`, and returns it.
    pub fn cut(&mut self, to: usize) -> String {
        let (start, end) = (self.cursor.min(to), self.cursor.max(to));
        if start == end || end > self.text.len() {
            return String::new();
        }
        self.push_undo_step();
        self.cursor = start;
        self.column = None;
        self.text.drain(start..end).collect()
    }

    fn kill(&mut self, to: usize) {
        let cut = self.cut(to);
        if !cut.is_empty() {
            self.kill_buffer = cut;
        }
    }

    pub fn set_kill_buffer(&mut self, text: String) {
        self.kill_buffer = text;
    }

    pub fn kill_buffer(&self) -> &str {
        &self.kill_buffer
    }

    pub fn yank(&mut self) {
        let text = self.kill_buffer.clone();
        self.insert(&text);
    }

    pub fn undo(&mut self) -> bool {
        let Some(state) = self.undo_steps.pop() else { return false };
        let current = (std::mem::take(&mut self.text), self.cursor);
        self.redo_steps.push(current);
        (self.text, self.cursor) = state;
        self.is_typing = false;
        true
    }

    pub fn redo(&mut self) -> bool {
        let Some(state) = self.redo_steps.pop() else { return false };
        let current = (std::mem::take(&mut self.text), self.cursor);
        self.undo_steps.push(current);
        (self.text, self.cursor) = state;
        true
    }

    pub fn move_to(&mut self, offset: usize) {
        self.cursor = offset.min(self.text.len());
        self.column = None;
        self.is_typing = false;
    }

    fn previous_boundary(&self) -> usize {
        let mut grapheme = GraphemeCursor::new(self.cursor, self.text.len(), true);
        grapheme.prev_boundary(&self.text, 0).ok().flatten().unwrap_or(0)
    }

    fn next_boundary(&self) -> usize {
        let mut grapheme = GraphemeCursor::new(self.cursor, self.text.len(), true);
        grapheme.next_boundary(&self.text, 0).ok().flatten().unwrap_or(self.text.len())
    }

    /// Moves from the end of a line to its last character, where vim's normal mode keeps the cursor.
    pub fn stay_on_character(&mut self) {
        if self.cursor == self.line_end() && self.cursor > self.line_start() {
            // Keeps `column`, so that moving through a short line does not lose it.
            self.cursor = self.previous_boundary();
        }
    }

    pub fn left(&mut self) {
        self.move_to(self.previous_boundary());
    }

    pub fn right(&mut self) {
        self.move_to(self.next_boundary());
    }

    pub fn delete_before(&mut self) {
        let to = self.previous_boundary();
        self.cut(to);
    }

    pub fn delete_after(&mut self) {
        let to = self.next_boundary();
        self.cut(to);
    }

    pub fn line_start(&self) -> usize {
        self.before().rfind('\n').map_or(0, |at| at + 1)
    }

    pub fn line_end(&self) -> usize {
        self.after().find('\n').map_or(self.text.len(), |at| self.cursor + at)
    }

    pub fn go_line_start(&mut self) {
        self.move_to(self.line_start());
    }

    pub fn go_line_end(&mut self) {
        self.move_to(self.line_end());
    }

    /// Returns the start of the word before the cursor.
    pub fn word_start_before(&self) -> usize {
        let is_word = |word: &str| word.chars().any(char::is_alphanumeric);
        let words: Vec<(usize, &str)> = self.before().split_word_bound_indices().collect();
        words.iter().rev().find(|(_, word)| is_word(word)).map_or(0, |(at, _)| *at)
    }

    /// Returns the end of the word after the cursor.
    pub fn word_end_after(&self) -> usize {
        let is_word = |word: &str| word.chars().any(char::is_alphanumeric);
        let found = self.after().split_word_bound_indices().find(|(_, word)| is_word(word));
        found.map_or(self.text.len(), |(at, word)| self.cursor + at + word.len())
    }

    /// Returns the start of the next word as vim defines it: white space and punctuation separate words.
    pub fn next_word_start(&self) -> usize {
        let mut left_word = false;
        let mut class = None;
        for (at, c) in self.after().char_indices() {
            let next_class = (c.is_whitespace(), c.is_alphanumeric() || c == '_');
            left_word |= class.is_some_and(|class| class != next_class);
            class = Some(next_class);
            if left_word && !c.is_whitespace() {
                return self.cursor + at;
            }
        }
        self.text.len()
    }

    pub fn word_left(&mut self) {
        self.move_to(self.word_start_before());
    }

    pub fn word_right(&mut self) {
        self.move_to(self.word_end_after());
    }

    pub fn kill_word_before(&mut self) {
        let to = self.word_start_before();
        self.kill(to);
    }

    pub fn kill_word_after(&mut self) {
        let to = self.word_end_after();
        self.kill(to);
    }

    pub fn kill_to_line_start(&mut self) {
        let to = self.line_start();
        self.kill(to);
    }

    /// Kills the rest of the line. At its end, joins it with the next line.
    pub fn kill_to_line_end(&mut self) {
        let end = self.line_end();
        self.kill(if end == self.cursor { (end + 1).min(self.text.len()) } else { end });
    }

    /// Moves up one row; returns `false` in the first row.
    pub fn up(&mut self, width: usize) -> bool {
        self.move_vertically(width, |row| row.checked_sub(1))
    }

    /// Moves down one row; returns `false` in the last row.
    pub fn down(&mut self, width: usize) -> bool {
        self.move_vertically(width, |row| row.checked_add(1))
    }

    fn move_vertically(&mut self, width: usize, to: impl FnOnce(usize) -> Option<usize>) -> bool {
        let layout = Layout::new(&self.text, width);
        let (row, column) = layout.position(&self.text, self.cursor);
        let column = self.column.unwrap_or(column);
        let Some(target) = to(row).filter(|target| *target < layout.rows.len()) else { return false };
        let offset = layout.offset(&self.text, target, column);
        self.move_to(offset);
        self.column = Some(column);
        true
    }
}
