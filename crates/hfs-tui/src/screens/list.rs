//! A list that one moves in.

use std::ops::Range;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Which row of a list is selected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Picked {
    /// The row.
    pub row: usize,
}

impl Picked {
    /// Moves as the key says in a list of `length` rows; `false` when the key does not move.
    pub fn key(&mut self, key: KeyEvent, length: usize) -> bool {
        const JUMP: usize = 10;
        let last = length.saturating_sub(1);
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        self.row = match key.code {
            KeyCode::Up => self.row.saturating_sub(1),
            KeyCode::Down => self.row + 1,
            KeyCode::Char('p') if control => self.row.saturating_sub(1),
            KeyCode::Char('n') if control => self.row + 1,
            KeyCode::PageUp => self.row.saturating_sub(JUMP),
            KeyCode::PageDown => self.row + JUMP,
            KeyCode::Home if control => 0,
            KeyCode::End if control => last,
            _ => return false,
        }
        .min(last);
        true
    }

    /// As [`key`](Self::key), with letters too, for lists without a text field.
    pub fn letter_key(&mut self, key: KeyEvent, length: usize) -> bool {
        let last = length.saturating_sub(1);
        self.row = match key.code {
            KeyCode::Char('k') if key.modifiers.is_empty() => self.row.saturating_sub(1),
            KeyCode::Char('j') if key.modifiers.is_empty() => (self.row + 1).min(last),
            KeyCode::Char('g') | KeyCode::Home => 0,
            KeyCode::Char('G') | KeyCode::End => last,
            _ => return self.key(key, length),
        };
        true
    }

    /// Keeps the row inside a list that has changed.
    pub fn clamp(&mut self, length: usize) {
        self.row = self.row.min(length.saturating_sub(1));
    }

    /// Which rows are seen through a window of `height` rows.
    #[must_use]
    pub fn window(&self, length: usize, height: usize) -> Range<usize> {
        let start = self.row.saturating_sub(height / 2).min(length.saturating_sub(height));
        start..(start + height).min(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selected_row_is_always_seen() {
        for length in 0..30 {
            for row in 0..length {
                let window = Picked { row }.window(length, 7);
                assert!(window.contains(&row) && window.len() == length.min(7));
            }
        }
    }
}
