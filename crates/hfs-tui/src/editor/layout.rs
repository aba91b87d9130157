//! Wraps the text of an input field and maps byte offsets to rows and columns.

use unicode_segmentation::UnicodeSegmentation;

use crate::text::{display_width, sanitize};

/// A row: a range of bytes without the line break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Start of the range.
    pub start: usize,
    /// End of the range.
    pub end: usize,
}

/// The rows of a wrapped text. There is always at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The rows, in order.
    pub rows: Vec<Row>,
}

/// Returns the width of a grapheme after it is sanitized, or of the label of a fold.
fn grapheme_width(grapheme: &str) -> usize {
    super::fold_label(grapheme)
        .map_or_else(|| display_width(&sanitize(grapheme)), |label| display_width(&label))
}

impl Layout {
    /// Wraps `text` at line breaks and, where a row is full, after a space.
    #[must_use]
    pub fn new(text: &str, width: usize) -> Self {
        let width = width.max(2);
        let mut rows = Vec::new();
        let (mut start, mut used) = (0, 0);
        // Offset after the last space of the row, and the width up to there.
        let mut break_at = None::<(usize, usize)>;
        for (at, grapheme) in text.grapheme_indices(true) {
            if grapheme == "\n" || grapheme == "\r\n" {
                rows.push(Row { start, end: at });
                (start, used, break_at) = (at + grapheme.len(), 0, None);
                continue;
            }
            let cells = grapheme_width(grapheme);
            // Ends the row after its last space, and at this grapheme if the rest is still too wide.
            while used + cells > width && start < at {
                let (next, width_before) = break_at.take().unwrap_or((at, used));
                rows.push(Row { start, end: next });
                (start, used) = (next, used - width_before);
            }
            used += cells;
            if grapheme == " " {
                break_at = Some((at + 1, used));
            }
        }
        rows.push(Row { start, end: text.len() });
        Self { rows }
    }

    /// Returns the row and column of a byte offset.
    #[must_use]
    pub fn position(&self, text: &str, offset: usize) -> (usize, usize) {
        let row = self.rows.iter().rposition(|row| row.start <= offset).unwrap_or(0);
        let start = self.rows.get(row).map_or(0, |row| row.start);
        let before = text.get(start..offset).unwrap_or_default();
        (row, before.graphemes(true).map(grapheme_width).sum())
    }

    /// Returns the byte offset nearest to a column of a row.
    #[must_use]
    pub fn offset(&self, text: &str, row: usize, column: usize) -> usize {
        let Some(range) = self.rows.get(row) else { return text.len() };
        let mut used = 0;
        for (at, grapheme) in text.get(range.start..range.end).unwrap_or_default().grapheme_indices(true) {
            let next = used + grapheme_width(grapheme);
            if next > column {
                return range.start + at;
            }
            used = next;
        }
        // The end of a wrapped row is the same offset as the start of the next one, so the last position that is still
        // in this row is before its last grapheme.
        let is_wrapped = self.rows.get(row + 1).is_some_and(|next| next.start == range.end);
        if is_wrapped {
            let content = text.get(range.start..range.end).unwrap_or_default();
            return range.start + content.grapheme_indices(true).next_back().map_or(0, |(at, _)| at);
        }
        range.end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, width: usize, expected: &[&str]) {
        let rows: Vec<&str> =
            Layout::new(text, width).rows.iter().map(|row| &text[row.start..row.end]).collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn rows_break_after_words() {
        check("one two three", 8, &["one two ", "three"]);
        check("abcdefgh", 4, &["abcd", "efgh"]);
        check("a\n\nb", 4, &["a", "", "b"]);
        check("日本語", 4, &["日本", "語"]);
        check("", 4, &[""]);
    }

    proptest! {
        #[test]
        fn rows_cover_the_text_and_positions_map_back_to_offsets(text in "[a-c 日\n]{0,40}", width in 2_usize..12) {
            let layout = Layout::new(&text, width);
            let mut end = 0;
            for row in &layout.rows {
                prop_assert!(text[end..row.start].chars().all(|c| c == '\n'));
                prop_assert!(display_width(&text[row.start..row.end]) <= width);
                end = row.end;
            }
            prop_assert_eq!(end, text.len());
            for (offset, _) in text.grapheme_indices(true) {
                let (row, column) = layout.position(&text, offset);
                prop_assert_eq!(layout.offset(&text, row, column), offset);
            }
        }
    }
}
