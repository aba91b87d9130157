//! Where each character of the input stands on the screen.

use unicode_segmentation::UnicodeSegmentation;

use crate::text::{cells, shown};

/// A row of the input: a range of bytes, the line break left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Where it begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
}

/// The rows of a text at some width. There is always at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The rows, in order.
    pub rows: Vec<Row>,
}

/// How many cells a grapheme takes when it is shown.
fn shown_cells(grapheme: &str) -> usize {
    cells(&shown(grapheme))
}

impl Layout {
    /// Breaks `text` at line breaks, and behind white space where a row is full.
    #[must_use]
    pub fn of(text: &str, width: usize) -> Self {
        let width = width.max(2);
        let mut rows = Vec::new();
        let (mut start, mut used, mut breakable) = (0, 0, None::<(usize, usize)>);
        for (at, grapheme) in text.grapheme_indices(true) {
            if grapheme == "\n" || grapheme == "\r\n" {
                rows.push(Row { start, end: at });
                (start, used, breakable) = (at + grapheme.len(), 0, None);
                continue;
            }
            let wide = shown_cells(grapheme);
            while used + wide > width && start < at {
                let (next, carried) = breakable.take().unwrap_or((at, used));
                rows.push(Row { start, end: next });
                (start, used) = (next, used - carried);
            }
            used += wide;
            if grapheme == " " {
                breakable = Some((at + 1, used));
            }
        }
        rows.push(Row { start, end: text.len() });
        Self { rows }
    }

    /// The row and column of a byte offset.
    #[must_use]
    pub fn place(&self, text: &str, offset: usize) -> (usize, usize) {
        let row = self.rows.iter().rposition(|row| row.start <= offset).unwrap_or(0);
        let start = self.rows.get(row).map_or(0, |row| row.start);
        let before = text.get(start..offset).unwrap_or_default();
        (row, before.graphemes(true).map(shown_cells).sum())
    }

    /// The byte offset nearest to a column of a row.
    #[must_use]
    pub fn offset(&self, text: &str, row: usize, column: usize) -> usize {
        let Some(place) = self.rows.get(row) else { return text.len() };
        let mut used = 0;
        for (at, grapheme) in text.get(place.start..place.end).unwrap_or_default().grapheme_indices(true) {
            let next = used + shown_cells(grapheme);
            if next > column {
                return place.start + at;
            }
            used = next;
        }
        // The end of a row that goes on below is the beginning of the next; one before it is still on this row.
        let goes_on = self.rows.get(row + 1).is_some_and(|next| next.start == place.end);
        if goes_on {
            let content = text.get(place.start..place.end).unwrap_or_default();
            return place.start + content.grapheme_indices(true).next_back().map_or(0, |(at, _)| at);
        }
        place.end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, width: usize, expected: &[&str]) {
        let rows: Vec<&str> =
            Layout::of(text, width).rows.iter().map(|row| &text[row.start..row.end]).collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn rows_break_behind_words() {
        check("one two three", 8, &["one two ", "three"]);
        check("abcdefgh", 4, &["abcd", "efgh"]);
        check("a\n\nb", 4, &["a", "", "b"]);
        check("日本語", 4, &["日本", "語"]);
        check("", 4, &[""]);
    }

    proptest! {
        #[test]
        fn rows_hold_all_of_the_text_and_every_place_is_found_again(text in "[a-c 日\n]{0,40}", width in 2_usize..12) {
            let layout = Layout::of(&text, width);
            let mut end = 0;
            for row in &layout.rows {
                prop_assert!(text[end..row.start].chars().all(|c| c == '\n'));
                prop_assert!(cells(&text[row.start..row.end]) <= width);
                end = row.end;
            }
            prop_assert_eq!(end, text.len());
            for (offset, _) in text.grapheme_indices(true) {
                let (row, column) = layout.place(&text, offset);
                prop_assert_eq!(layout.offset(&text, row, column), offset);
            }
        }
    }
}
