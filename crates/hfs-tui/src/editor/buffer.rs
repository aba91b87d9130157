//! Text with a cursor in it, and what it was before.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use super::Layout;

/// How many steps can be taken back.
const UNDO_STEPS: usize = 200;

/// Text being edited. The cursor always stands between two graphemes.
#[derive(Debug, Clone, Default)]
pub struct Buffer {
    text: String,
    cursor: usize,
    /// The column that moving up and down tries to keep.
    column: Option<usize>,
    killed: String,
    past: Vec<(String, usize)>,
    future: Vec<(String, usize)>,
    /// The newest change was typing, so that the next letter belongs to the same step.
    typing: bool,
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

    fn remember(&mut self) {
        self.past.push((self.text.clone(), self.cursor));
        if self.past.len() > UNDO_STEPS {
            self.past.remove(0);
        }
        self.future.clear();
        self.typing = false;
    }

    pub fn insert(&mut self, text: &str) {
        let typing = text.chars().count() == 1 && !text.contains(char::is_whitespace);
        if !(typing && self.typing) {
            self.remember();
        }
        self.typing = typing;
        self.text.insert_str(self.cursor, text);
        self.cursor += text.len();
        self.column = None;
    }

    pub fn replace_all(&mut self, text: &str) {
        self.remember();
        self.text = text.to_owned();
        self.cursor = text.len();
        self.column = None;
    }

    /// Removes what lies between the cursor and `to`, and returns it.
    pub fn cut(&mut self, to: usize) -> String {
        let (start, end) = (self.cursor.min(to), self.cursor.max(to));
        if start == end || end > self.text.len() {
            return String::new();
        }
        self.remember();
        self.cursor = start;
        self.column = None;
        self.text.drain(start..end).collect()
    }

    fn kill(&mut self, to: usize) {
        let cut = self.cut(to);
        if !cut.is_empty() {
            self.killed = cut;
        }
    }

    pub fn keep(&mut self, text: String) {
        self.killed = text;
    }

    pub fn killed(&self) -> &str {
        &self.killed
    }

    pub fn yank(&mut self) {
        let text = self.killed.clone();
        self.insert(&text);
    }

    pub fn undo(&mut self) -> bool {
        let Some(state) = self.past.pop() else { return false };
        let now = (std::mem::take(&mut self.text), self.cursor);
        self.future.push(now);
        (self.text, self.cursor) = state;
        self.typing = false;
        true
    }

    pub fn redo(&mut self) -> bool {
        let Some(state) = self.future.pop() else { return false };
        let now = (std::mem::take(&mut self.text), self.cursor);
        self.past.push(now);
        (self.text, self.cursor) = state;
        true
    }

    pub fn move_to(&mut self, offset: usize) {
        self.cursor = offset.min(self.text.len());
        self.column = None;
        self.typing = false;
    }

    fn previous(&self) -> usize {
        let mut at = GraphemeCursor::new(self.cursor, self.text.len(), true);
        at.prev_boundary(&self.text, 0).ok().flatten().unwrap_or(0)
    }

    fn next(&self) -> usize {
        let mut at = GraphemeCursor::new(self.cursor, self.text.len(), true);
        at.next_boundary(&self.text, 0).ok().flatten().unwrap_or(self.text.len())
    }

    pub fn left(&mut self) {
        self.move_to(self.previous());
    }

    pub fn right(&mut self) {
        self.move_to(self.next());
    }

    pub fn delete_before(&mut self) {
        let to = self.previous();
        self.cut(to);
    }

    pub fn delete_after(&mut self) {
        let to = self.next();
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

    /// Where the word before the cursor begins.
    pub fn word_before(&self) -> usize {
        let is_word = |word: &str| word.chars().any(char::is_alphanumeric);
        let words: Vec<(usize, &str)> = self.before().split_word_bound_indices().collect();
        words.iter().rev().find(|(_, word)| is_word(word)).map_or(0, |(at, _)| *at)
    }

    /// Where the word after the cursor ends.
    pub fn word_end_after(&self) -> usize {
        let is_word = |word: &str| word.chars().any(char::is_alphanumeric);
        let found = self.after().split_word_bound_indices().find(|(_, word)| is_word(word));
        found.map_or(self.text.len(), |(at, word)| self.cursor + at + word.len())
    }

    /// Where the next word begins, as vim counts words: white space separates, and so does punctuation.
    pub fn next_word_start(&self) -> usize {
        let mut seen_end = false;
        let mut class = None;
        for (at, c) in self.after().char_indices() {
            let now = (c.is_whitespace(), c.is_alphanumeric() || c == '_');
            seen_end |= class.is_some_and(|class| class != now);
            class = Some(now);
            if seen_end && !c.is_whitespace() {
                return self.cursor + at;
            }
        }
        self.text.len()
    }

    pub fn word_left(&mut self) {
        self.move_to(self.word_before());
    }

    pub fn word_right(&mut self) {
        self.move_to(self.word_end_after());
    }

    pub fn kill_word_before(&mut self) {
        let to = self.word_before();
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

    /// At the end of a line, joins it with the next.
    pub fn kill_to_line_end(&mut self) {
        let end = self.line_end();
        self.kill(if end == self.cursor { (end + 1).min(self.text.len()) } else { end });
    }

    /// Moves up one row; `false` on the first.
    pub fn up(&mut self, width: usize) -> bool {
        self.vertical(width, |row| row.checked_sub(1))
    }

    /// Moves down one row; `false` on the last.
    pub fn down(&mut self, width: usize) -> bool {
        self.vertical(width, |row| row.checked_add(1))
    }

    fn vertical(&mut self, width: usize, to: impl FnOnce(usize) -> Option<usize>) -> bool {
        let layout = Layout::of(&self.text, width);
        let (row, column) = layout.place(&self.text, self.cursor);
        let column = self.column.unwrap_or(column);
        let Some(target) = to(row).filter(|target| *target < layout.rows.len()) else { return false };
        let offset = layout.offset(&self.text, target, column);
        self.move_to(offset);
        self.column = Some(column);
        true
    }
}
