//! Text for the screen: sanitized, measured, wrapped and styled.

mod format;
mod fuzzy;
mod markdown;
mod sanitize;
mod syntax;

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use crate::theme::Theme;

pub use format::{
    calendar_date, calendar_time, clock_time, format_bytes, format_duration, format_tokens, plural,
};
pub use fuzzy::fuzzy_score;
pub use markdown::{Advance, StreamedMarkdown, markdown};
pub use sanitize::{sanitize, sanitize_line};
pub use syntax::Syntax;

/// The theme and the grammars for styling text.
#[derive(Debug, Clone, Copy)]
pub struct TextStyle<'a> {
    /// The styles.
    pub theme: &'a Theme,
    /// The grammars for syntax highlighting, after they are loaded.
    pub syntax: Option<Syntax>,
}

/// Sanitized text in one style; see [`sanitize`].
#[derive(Debug, Clone, PartialEq)]
pub struct Fragment {
    /// The text.
    pub text: String,
    /// The style.
    pub style: Style,
}

impl Fragment {
    /// Creates a fragment. The text must be sanitized.
    pub fn new(text: impl Into<String>, style: impl Into<Style>) -> Self {
        Self { text: text.into(), style: style.into() }
    }
}

/// Returns how many terminal cells `text` occupies.
#[must_use]
pub fn display_width(text: &str) -> usize {
    text.width()
}

/// Returns at most the first `bytes` bytes of a text.
#[must_use]
pub fn beginning(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// Truncates `text` to at most `width` cells, with an ellipsis if something was cut.
#[must_use]
pub fn truncate(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for grapheme in text.graphemes(true) {
        let next = display_width(grapheme);
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

/// Sanitizes the name of a session. If it does not fit, an automatic name loses its time first.
#[must_use]
pub fn fitting_name(name: &str, width: usize) -> String {
    let whole = sanitize_line(name);
    if display_width(&whole) <= width {
        return whole;
    }
    truncate(&sanitize_line(hfs_core::name_without_time(name)), width)
}

/// Returns the longest suffix of `text` that fits into `width` cells.
#[must_use]
pub fn fitting_suffix(text: &str, width: usize) -> &str {
    let mut used = 0;
    let mut start = text.len();
    for (at, grapheme) in text.grapheme_indices(true).rev() {
        used += display_width(grapheme);
        if used > width {
            break;
        }
        start = at;
    }
    text.get(start..).unwrap_or_default()
}

/// Wraps fragments into lines of at most `width` cells. Lines end at line breaks, after spaces and next to wide
/// characters; a word is split only if it is longer than a line.
#[must_use]
pub fn wrap(fragments: &[Fragment], width: usize) -> Vec<Line<'static>> {
    wrap_with(fragments, width, true)
}

/// Wraps fragments as soon as a line is full, even within words. Used for code and tool output.
#[must_use]
pub fn hard_wrap(fragments: &[Fragment], width: usize) -> Vec<Line<'static>> {
    let is_plain = |fragment: &Fragment| fragment.text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if fragments.iter().all(is_plain) {
        return hard_wrap_ascii(fragments, width.max(1));
    }
    wrap_with(fragments, width, false)
}

/// Wraps printable ASCII, in which every byte is one cell. Long code is nearly always ASCII, and this is ten times as fast
/// as the segmentation into graphemes.
fn hard_wrap_ascii(fragments: &[Fragment], width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let (mut spans, mut used) = (Vec::new(), 0);
    for fragment in fragments {
        let mut rest = fragment.text.as_str();
        while !rest.is_empty() {
            if used == width {
                lines.push(Line::from(std::mem::take(&mut spans)));
                used = 0;
            }
            let (text, after) = rest.split_at_checked(width - used).unwrap_or((rest, ""));
            used += text.len();
            push_span(&mut spans, text, fragment.style);
            rest = after;
        }
    }
    if !spans.is_empty() || lines.is_empty() {
        lines.push(Line::from(spans));
    }
    lines
}

/// Adds text, to the last span if it has the same style.
fn push_span(spans: &mut Vec<Span<'static>>, text: &str, style: Style) {
    match spans.last_mut() {
        Some(last) if last.style == style => last.content.to_mut().push_str(text),
        _ => spans.push(Span::styled(text.to_owned(), style)),
    }
}

/// Like [`wrap`], for text in one style.
#[must_use]
pub fn wrap_text(text: &str, style: Style, width: usize) -> Vec<Line<'static>> {
    wrap(&[Fragment::new(text, style)], width)
}

struct Glyph<'a> {
    text: &'a str,
    style: Style,
    width: usize,
}

struct Wrapper<'a> {
    width: usize,
    at_words: bool,
    lines: Vec<Line<'static>>,
    current: Vec<Glyph<'a>>,
    used: usize,
    /// Number of glyphs of `current` before the last position where the line may break.
    break_at: usize,
}

fn wrap_with(fragments: &[Fragment], width: usize, at_words: bool) -> Vec<Line<'static>> {
    let mut wrapper = Wrapper {
        width: width.max(1),
        at_words,
        lines: Vec::new(),
        current: Vec::new(),
        used: 0,
        break_at: 0,
    };
    for fragment in fragments {
        for text in fragment.text.graphemes(true) {
            wrapper.push(Glyph { text, style: fragment.style, width: display_width(text) });
        }
    }
    if !wrapper.current.is_empty() || wrapper.lines.is_empty() {
        wrapper.lines.push(line_from(&wrapper.current));
    }
    wrapper.lines
}

impl<'a> Wrapper<'a> {
    fn push(&mut self, glyph: Glyph<'a>) {
        if glyph.text == "\n" {
            self.lines.push(line_from(&self.current));
            self.current.clear();
            (self.used, self.break_at) = (0, 0);
            return;
        }
        let (is_space, is_wide) = (glyph.text == " ", glyph.width > 1);
        if self.used + glyph.width > self.width {
            if is_space && self.at_words {
                // A space at the end of a full line is dropped.
                self.break_at = self.current.len();
                return;
            }
            let may_break_before = is_wide || self.break_at == self.current.len();
            let split = if !self.at_words || may_break_before { self.current.len() } else { self.break_at };
            // `split` is 0 if one word fills the whole line. The word is then split before this glyph.
            let rest = if split > 0 { self.current.split_off(split) } else { Vec::new() };
            self.lines.push(line_from(if self.at_words {
                without_trailing_spaces(&self.current)
            } else {
                &self.current
            }));
            self.current = rest;
            self.used = self.current.iter().map(|glyph| glyph.width).sum();
            self.break_at = 0;
        }
        if is_wide {
            self.break_at = self.current.len();
        }
        self.used += glyph.width;
        self.current.push(glyph);
        if is_space || is_wide {
            self.break_at = self.current.len();
        }
    }
}

fn without_trailing_spaces<'a, 'b>(glyphs: &'a [Glyph<'b>]) -> &'a [Glyph<'b>] {
    let end = glyphs.iter().rposition(|glyph| glyph.text != " ").map_or(0, |last| last + 1);
    glyphs.get(..end).unwrap_or(glyphs)
}

fn line_from(glyphs: &[Glyph<'_>]) -> Line<'static> {
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
            wrap_text(text, Style::new(), width).iter().map(ToString::to_string).collect();
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
        assert_eq!(truncate("日本語", 5), "日本…");
        assert_eq!(truncate("e\u{301}e\u{301}", 2), "e\u{301}e\u{301}");
    }

    proptest! {
        #[test]
        fn the_fast_path_for_ascii_breaks_lines_as_the_general_one(
            texts in prop::collection::vec("[ -~]{0,12}", 0..5),
            width in 1_usize..9,
        ) {
            let styles = [Style::new(), Style::new().bold()];
            let fragments: Vec<Fragment> =
                texts.iter().enumerate().map(|(index, text)| Fragment::new(text, styles[index % 2])).collect();
            prop_assert_eq!(hard_wrap(&fragments, width), wrap_with(&fragments, width, false));
        }

        #[test]
        fn no_line_is_too_wide_and_no_word_is_lost(text in "[a-z日本語é 👍]{0,80}", width in 2_usize..30) {
            let lines = wrap_text(&text, Style::new(), width);
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
