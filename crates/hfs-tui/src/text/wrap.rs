//! Measuring text in terminal cells and breaking it into lines.

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// How many terminal cells `text` takes.
#[must_use]
pub fn cells(text: &str) -> usize {
    text.width()
}

/// Text in one style. It must have passed [`shown`](super::shown).
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// How it looks.
    pub style: Style,
}

impl Piece {
    /// A piece of text.
    pub fn new(text: impl Into<String>, style: impl Into<Style>) -> Self {
        Self { text: text.into(), style: style.into() }
    }
}

/// `text` cut to at most `width` cells, with an ellipsis where something is missing.
#[must_use]
pub fn clip(text: &str, width: usize) -> String {
    if cells(text) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for grapheme in text.graphemes(true) {
        let next = cells(grapheme);
        if used + next + 1 > width {
            break;
        }
        used += next;
        kept.push_str(grapheme);
    }
    if width > 0 {
        kept.push('…');
    }
    kept
}

/// The end of `text`, as much of it as fits into `width` cells.
#[must_use]
pub fn end_of(text: &str, width: usize) -> &str {
    let mut used = 0;
    let mut start = text.len();
    for (at, grapheme) in text.grapheme_indices(true).rev() {
        used += cells(grapheme);
        if used > width {
            break;
        }
        start = at;
    }
    text.get(start..).unwrap_or_default()
}

struct Glyph<'a> {
    text: &'a str,
    style: Style,
    width: usize,
}

/// Breaks pieces into lines of at most `width` cells: at line breaks, after white space, between wide
/// characters, and inside a word only when it is longer than a line.
#[must_use]
pub fn wrap(pieces: &[Piece], width: usize) -> Vec<Line<'static>> {
    break_lines(pieces, width, true)
}

/// Breaks pieces into lines of exactly `width` cells wherever that falls, as suits code.
#[must_use]
pub fn chop(pieces: &[Piece], width: usize) -> Vec<Line<'static>> {
    break_lines(pieces, width, false)
}

struct Breaker<'a> {
    width: usize,
    at_words: bool,
    lines: Vec<Line<'static>>,
    current: Vec<Glyph<'a>>,
    used: usize,
    /// How many glyphs of the line come before the newest place where it may be broken.
    breakable: usize,
}

fn break_lines(pieces: &[Piece], width: usize, at_words: bool) -> Vec<Line<'static>> {
    let mut breaker = Breaker {
        width: width.max(1),
        at_words,
        lines: Vec::new(),
        current: Vec::new(),
        used: 0,
        breakable: 0,
    };
    for piece in pieces {
        for text in piece.text.graphemes(true) {
            breaker.push(Glyph { text, style: piece.style, width: cells(text) });
        }
    }
    if !breaker.current.is_empty() || breaker.lines.is_empty() {
        breaker.lines.push(line_of(&breaker.current));
    }
    breaker.lines
}

impl<'a> Breaker<'a> {
    fn push(&mut self, glyph: Glyph<'a>) {
        if glyph.text == "\n" {
            self.lines.push(line_of(&self.current));
            self.current.clear();
            (self.used, self.breakable) = (0, 0);
            return;
        }
        let (is_space, is_wide) = (glyph.text == " ", glyph.width > 1);
        if self.used + glyph.width > self.width {
            if is_space && self.at_words {
                // White space at the very end of a line hangs over and is not seen.
                self.breakable = self.current.len();
                return;
            }
            let may_break_before = is_wide || self.breakable == self.current.len();
            let split = if !self.at_words || may_break_before { self.current.len() } else { self.breakable };
            let rest = if split > 0 { self.current.split_off(split) } else { Vec::new() };
            self.lines.push(line_of(if self.at_words { trimmed(&self.current) } else { &self.current }));
            self.current = rest;
            self.used = self.current.iter().map(|glyph| glyph.width).sum();
            self.breakable = 0;
        }
        if is_wide {
            self.breakable = self.current.len();
        }
        self.used += glyph.width;
        self.current.push(glyph);
        if is_space || is_wide {
            self.breakable = self.current.len();
        }
    }
}

/// As [`wrap`], of plain text in one style.
#[must_use]
pub fn wrap_plain(text: &str, style: Style, width: usize) -> Vec<Line<'static>> {
    wrap(&[Piece::new(text, style)], width)
}

fn trimmed<'a, 'b>(glyphs: &'a [Glyph<'b>]) -> &'a [Glyph<'b>] {
    let end = glyphs.iter().rposition(|glyph| glyph.text != " ").map_or(0, |last| last + 1);
    glyphs.get(..end).unwrap_or(glyphs)
}

fn line_of(glyphs: &[Glyph<'_>]) -> Line<'static> {
    let mut spans: Vec<Span<'static>> = Vec::new();
    let mut text = String::new();
    let mut style = None;
    for glyph in glyphs {
        if style != Some(glyph.style) {
            if let Some(style) = style
                && !text.is_empty()
            {
                spans.push(Span::styled(std::mem::take(&mut text), style));
            }
            style = Some(glyph.style);
        }
        text.push_str(glyph.text);
    }
    if let Some(style) = style
        && !text.is_empty()
    {
        spans.push(Span::styled(text, style));
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, width: usize, expected: &[&str]) {
        let lines: Vec<String> =
            wrap_plain(text, Style::new(), width).iter().map(ToString::to_string).collect();
        assert_eq!(lines, expected, "{text:?} at {width}");
    }

    #[test]
    fn lines_break_between_words() {
        check("the quick brown fox", 10, &["the quick", "brown fox"]);
        check("the quick", 9, &["the quick"]);
        check("a\n\nb", 5, &["a", "", "b"]);
        check("abcdefgh", 3, &["abc", "def", "gh"]);
        check("ab abcdefgh", 5, &["ab", "abcde", "fgh"]);
        check("", 5, &[""]);
    }

    #[test]
    fn wide_characters_take_two_cells_and_may_be_separated() {
        check("日本語日本語", 5, &["日本", "語日", "本語"]);
        check("go 日本語", 6, &["go 日", "本語"]);
        check("👩‍👩‍👧👩‍👩‍👧", 3, &["👩‍👩‍👧", "👩‍👩‍👧"]);
        assert_eq!(clip("日本語", 5), "日本…");
        assert_eq!(clip("e\u{301}e\u{301}", 2), "e\u{301}e\u{301}");
    }

    proptest! {
        #[test]
        fn no_line_is_too_wide_and_no_word_is_lost(text in "[a-z日本語é 👍]{0,80}", width in 2_usize..30) {
            let lines = wrap_plain(&text, Style::new(), width);
            let mut joined = String::new();
            for line in &lines {
                prop_assert!(line.width() <= width, "{line:?} is wider than {width}");
                joined.push_str(&line.to_string());
            }
            let squeeze = |s: &str| s.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(squeeze(&joined), squeeze(&text));
        }
    }
}
