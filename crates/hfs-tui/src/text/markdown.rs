//! Renders Markdown as lines: headings, lists, tables, code, quotes and links.

use pulldown_cmark::{Alignment, CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::syntax::CodeBlock;
use super::{Fragment, TextStyle, display_width, hard_wrap, sanitize, wrap};
use crate::theme::{CodeRole, Theme};

/// Renders a complete text.
#[must_use]
pub fn markdown(source: &str, width: usize, text_style: TextStyle<'_>) -> Vec<Line<'static>> {
    let mut code = CodeBlock::default();
    Writer::new(text_style, width, &mut code).write(&sanitize(source)).lines
}

/// Renders a text that is still growing. Complete blocks are rendered once, so the cost of an update depends on the
/// newest block only and not on the length of the text.
#[derive(Debug, Clone)]
pub struct StreamedMarkdown {
    /// Number of bytes of the source whose blocks are complete.
    complete_bytes: usize,
    /// Number of lines rendered from these blocks.
    complete_lines: usize,
    code: CodeBlock,
}

impl Default for StreamedMarkdown {
    fn default() -> Self {
        Self { complete_bytes: 0, complete_lines: 0, code: CodeBlock::growing() }
    }
}

impl StreamedMarkdown {
    /// Renders `source`, which must begin with the source of the previous call; `width` must not change between calls.
    /// Returns the number of lines of the previous result that remain valid, and the lines that follow them.
    pub fn advance(
        &mut self,
        source: &str,
        width: usize,
        text_style: TextStyle<'_>,
    ) -> (usize, Vec<Line<'static>>) {
        let kept = self.complete_lines;
        let mut lines = Vec::new();
        let rest = source.get(self.complete_bytes..).unwrap_or_default();
        let sanitized = sanitize(rest);
        let newest_start = newest_block_start(&sanitized);
        if newest_start > 0 {
            let (complete, _) = sanitized.split_at_checked(newest_start).unwrap_or((&sanitized, ""));
            let rendered = Writer::new(text_style, width, &mut self.code).write(complete).lines;
            separate(kept, &mut lines, &rendered);
            lines.extend(rendered);
            // Offsets in the sanitized text differ from those in the source, but both have the same line breaks.
            let breaks = complete.matches('\n').count();
            self.complete_bytes += rest.split_inclusive('\n').take(breaks).map(str::len).sum::<usize>();
            self.complete_lines += lines.len();
            self.code = CodeBlock::growing();
        }
        let tail = sanitized.get(newest_start..).unwrap_or_default();
        let newest = Writer::new(text_style, width, &mut self.code).write(tail).lines;
        separate(kept, &mut lines, &newest);
        lines.extend(newest);
        (kept, lines)
    }
}

/// Adds a blank line if there are lines before and after it.
fn separate(kept: usize, lines: &mut Vec<Line<'static>>, next: &[Line<'static>]) {
    if (kept > 0 || !lines.is_empty()) && !next.is_empty() {
        lines.push(Line::default());
    }
}

/// Returns the start of the line in which the last top-level block of `source` begins. An incomplete last line is
/// ignored, because its meaning can change when the rest of it arrives.
fn newest_block_start(source: &str) -> usize {
    let complete = source.rfind('\n').map_or(0, |line_break| line_break + 1);
    let source = source.get(..complete).unwrap_or_default();
    let (mut depth, mut start) = (0_usize, 0);
    for (event, range) in Parser::new_ext(source, options()).into_offset_iter() {
        match event {
            Event::Start(_) => {
                if depth == 0 {
                    start = range.start;
                }
                depth += 1;
            }
            Event::End(_) => depth = depth.saturating_sub(1),
            _ if depth == 0 => start = range.start,
            _ => {}
        }
    }
    source.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |line_break| line_break + 1)
}

fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS
}

/// Text before the lines of a quote or a list item.
struct Prefix {
    first: Fragment,
    rest: Fragment,
    used: bool,
}

struct Writer<'a> {
    text_style: TextStyle<'a>,
    width: usize,
    lines: Vec<Line<'static>>,
    prefixes: Vec<Prefix>,
    inline: Vec<Fragment>,
    styles: Vec<Style>,
    /// The next number of each open list; `None` for a list with bullets.
    lists: Vec<Option<u64>>,
    /// Address of the open link, and the index of its first fragment in `inline`.
    link: Option<(String, usize)>,
    table: Option<Table>,
    /// Language and text of the open code block.
    code: Option<(String, String)>,
    code_cache: &'a mut CodeBlock,
    /// Whether a list item or quote has just begun, whose first block needs no blank line before it.
    at_container_start: bool,
}

impl<'a> Writer<'a> {
    fn new(text_style: TextStyle<'a>, width: usize, code_cache: &'a mut CodeBlock) -> Self {
        Self {
            text_style,
            width: width.max(8),
            lines: Vec::new(),
            prefixes: Vec::new(),
            inline: Vec::new(),
            styles: vec![text_style.theme.text],
            lists: Vec::new(),
            link: None,
            table: None,
            code: None,
            code_cache,
            at_container_start: false,
        }
    }

    fn write(mut self, source: &str) -> Self {
        for event in Parser::new_ext(source, options()) {
            match event {
                Event::Start(tag) => self.start(tag),
                Event::End(tag) => self.end(tag),
                Event::Text(text) => match &mut self.code {
                    Some((_, code)) => code.push_str(&text),
                    None => self.push(&text, self.style()),
                },
                Event::Code(text) | Event::InlineMath(text) | Event::DisplayMath(text) => {
                    self.push(&text, self.style().patch(self.text_style.theme.inline_code));
                }
                Event::Html(text) | Event::InlineHtml(text) => self.push(&text, self.text_style.theme.dim),
                Event::FootnoteReference(name) => self.push(&format!("[{name}]"), self.text_style.theme.dim),
                Event::SoftBreak => self.push(" ", self.style()),
                Event::HardBreak => self.push("\n", self.style()),
                Event::Rule => {
                    self.gap();
                    let width = self.available();
                    self.emit(vec![Span::styled("─".repeat(width), self.text_style.theme.border)]);
                }
                Event::TaskListMarker(done) => {
                    let (mark, style) = if done {
                        ("☑ ", self.text_style.theme.good)
                    } else {
                        ("☐ ", self.text_style.theme.dim)
                    };
                    self.push(mark, style);
                }
            }
        }
        self.flush();
        self
    }

    fn style(&self) -> Style {
        self.styles.last().copied().unwrap_or_default()
    }

    /// Adds text to the open block. Sanitizes it again, because the parser turns entities such as `&#27;` into control
    /// characters.
    fn push(&mut self, text: &str, style: Style) {
        self.inline.push(Fragment::new(sanitize(text), style));
    }

    fn start(&mut self, tag: Tag<'_>) {
        let theme = self.text_style.theme;
        match tag {
            Tag::Paragraph => self.gap(),
            Tag::Heading { level, .. } => {
                self.gap();
                let style = match level {
                    HeadingLevel::H1 => theme.title().add_modifier(Modifier::UNDERLINED),
                    HeadingLevel::H2 => theme.title(),
                    _ => theme.text.add_modifier(Modifier::BOLD),
                };
                self.styles.push(style);
            }
            Tag::BlockQuote(_) => {
                self.gap();
                self.enter(Fragment::new("┃ ", theme.border), Fragment::new("┃ ", theme.border));
                self.styles.push(theme.dim.add_modifier(Modifier::ITALIC));
            }
            Tag::CodeBlock(kind) => {
                self.gap();
                let language = match kind {
                    CodeBlockKind::Fenced(language) => language.into_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                self.code = Some((language, String::new()));
            }
            Tag::List(first) => {
                if self.lists.is_empty() {
                    self.gap();
                }
                self.flush();
                self.lists.push(first);
            }
            Tag::Item => self.item(),
            Tag::Table(alignments) => {
                self.gap();
                self.table = Some(Table::new(alignments));
            }
            Tag::Emphasis => self.styles.push(self.style().add_modifier(Modifier::ITALIC)),
            Tag::Strong => self.styles.push(self.style().add_modifier(Modifier::BOLD)),
            Tag::Strikethrough => self.styles.push(self.style().add_modifier(Modifier::CROSSED_OUT)),
            Tag::Link { dest_url, .. } => {
                self.link = Some((dest_url.into_string(), self.inline.len()));
                self.styles.push(self.style().patch(theme.link));
            }
            Tag::Image { dest_url, .. } => {
                self.push("🖼 ", theme.dim);
                self.link = Some((dest_url.into_string(), self.inline.len()));
                self.styles.push(self.style().patch(theme.link));
            }
            Tag::HtmlBlock => self.gap(),
            _ => {}
        }
    }

    fn item(&mut self) {
        self.flush();
        let depth = self.lists.len();
        let mark = match self.lists.last_mut() {
            Some(Some(number)) => {
                let mark = format!("{number}. ");
                *number += 1;
                mark
            }
            _ if depth % 2 == 1 => "• ".to_owned(),
            _ => "◦ ".to_owned(),
        };
        let indent = " ".repeat(display_width(&mark));
        self.enter(Fragment::new(mark, self.text_style.theme.accent), Fragment::new(indent, Style::new()));
    }

    fn enter(&mut self, first: Fragment, rest: Fragment) {
        self.prefixes.push(Prefix { first, rest, used: false });
        self.at_container_start = true;
    }

    fn leave(&mut self) {
        self.flush();
        // An empty item still shows its bullet.
        if self.prefixes.last().is_some_and(|prefix| !prefix.used) {
            self.emit(Vec::new());
        }
        self.prefixes.pop();
        self.at_container_start = false;
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph | TagEnd::HtmlBlock => self.flush(),
            TagEnd::Heading(_) => {
                self.flush();
                self.styles.pop();
            }
            TagEnd::BlockQuote(_) => {
                self.leave();
                self.styles.pop();
            }
            TagEnd::CodeBlock => self.code_block(),
            TagEnd::List(_) => {
                self.flush();
                self.lists.pop();
            }
            TagEnd::Item => self.leave(),
            TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough => {
                self.styles.pop();
            }
            TagEnd::Link | TagEnd::Image => self.end_link(),
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.inline);
                if let Some(table) = &mut self.table {
                    table.push_cell(cell);
                }
            }
            TagEnd::TableHead | TagEnd::TableRow => {
                if let Some(table) = &mut self.table {
                    table.end_row();
                }
            }
            TagEnd::Table => {
                if let Some(table) = self.table.take() {
                    for line in table.lines(self.available(), self.text_style.theme) {
                        self.emit(line.spans);
                    }
                }
            }
            _ => {}
        }
    }

    /// Appends the address of a link, unless it equals the text.
    fn end_link(&mut self) {
        self.styles.pop();
        let Some((address, start)) = self.link.take() else { return };
        let text: String = self
            .inline
            .get(start..)
            .unwrap_or_default()
            .iter()
            .map(|fragment| fragment.text.as_str())
            .collect();
        let bare = address.strip_prefix("mailto:").unwrap_or(&address);
        if !address.is_empty() && text != bare {
            self.push(&format!(" ({address})"), self.text_style.theme.dim);
        }
    }

    fn code_block(&mut self) {
        let Some((language, code)) = self.code.take() else { return };
        let theme = self.text_style.theme;
        let bar = || Span::styled("▎ ", theme.border);
        let label = language.split_whitespace().next().unwrap_or_default();
        if !label.is_empty() {
            let label = Span::styled(sanitize(label).into_owned(), theme.dim);
            self.emit(vec![bar(), label]);
        }
        let width = self.available().saturating_sub(2);
        for fragments in self.code_cache.lines(self.text_style.syntax, theme, &language, &code) {
            for line in hard_wrap(&fragments, width) {
                let mut spans = vec![bar()];
                spans.extend(line.spans);
                self.emit(spans);
            }
        }
        if code.is_empty() {
            self.emit(vec![bar(), Span::styled(String::new(), theme.code(CodeRole::Plain))]);
        }
    }

    fn available(&self) -> usize {
        let used: usize = self.prefixes.iter().map(|prefix| display_width(&prefix.rest.text)).sum();
        self.width.saturating_sub(used).max(4)
    }

    /// Adds a blank line before a block, unless it is the first one in its container.
    fn gap(&mut self) {
        self.flush();
        if std::mem::take(&mut self.at_container_start) || self.lines.is_empty() {
            return;
        }
        self.emit(Vec::new());
    }

    fn flush(&mut self) {
        if self.inline.is_empty() {
            return;
        }
        self.at_container_start = false;
        let fragments = std::mem::take(&mut self.inline);
        for line in wrap(&fragments, self.available()) {
            self.emit(line.spans);
        }
    }

    fn emit(&mut self, content: Vec<Span<'static>>) {
        self.at_container_start = false;
        let mut spans = Vec::with_capacity(self.prefixes.len() + content.len());
        for prefix in &mut self.prefixes {
            let fragment = if prefix.used { &prefix.rest } else { &prefix.first };
            prefix.used = true;
            spans.push(Span::styled(fragment.text.clone(), fragment.style));
        }
        spans.extend(content);
        self.lines.push(Line::from(spans));
    }
}

const SEPARATOR: &str = " │ ";
/// Minimum width of a column. If the columns do not fit, each row is shown as a list of `name: value` lines.
const MIN_COLUMN_WIDTH: usize = 4;

type CellText = Vec<Fragment>;

struct Table {
    alignments: Vec<Alignment>,
    rows: Vec<Vec<CellText>>,
    current: Vec<CellText>,
}

impl Table {
    const fn new(alignments: Vec<Alignment>) -> Self {
        Self { alignments, rows: Vec::new(), current: Vec::new() }
    }

    fn push_cell(&mut self, cell: CellText) {
        self.current.push(cell);
    }

    fn end_row(&mut self) {
        self.rows.push(std::mem::take(&mut self.current));
    }

    fn lines(mut self, width: usize, theme: &Theme) -> Vec<Line<'static>> {
        if let Some(head) = self.rows.first_mut() {
            for fragment in head.iter_mut().flatten() {
                fragment.style = fragment.style.patch(theme.title());
            }
        }
        match self.column_widths(width) {
            Some(widths) => self.grid(&widths, theme),
            None => self.field_list(width, theme),
        }
    }

    /// Returns the width of each column, or `None` if the columns do not fit.
    fn column_widths(&self, width: usize) -> Option<Vec<usize>> {
        let columns = self.alignments.len().max(1);
        let available = width.saturating_sub(display_width(SEPARATOR) * (columns - 1));
        if available < MIN_COLUMN_WIDTH * columns {
            return None;
        }
        let mut widths = vec![1; columns];
        for row in &self.rows {
            for (column, cell) in widths.iter_mut().zip(row) {
                *column = (*column).max(natural_width(cell).min(available));
            }
        }
        // Shrinks the widest column until the row fits.
        let mut excess = widths.iter().sum::<usize>().saturating_sub(available);
        while excess > 0 {
            let Some(widest) = widths.iter_mut().max() else { break };
            *widest = widest.saturating_sub(1).max(1);
            excess -= 1;
        }
        Some(widths)
    }

    fn grid(&self, widths: &[usize], theme: &Theme) -> Vec<Line<'static>> {
        let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
        let rule = || Line::from(Span::styled(rule.join("─┼─"), theme.border));
        let mut lines = Vec::new();
        let rows: Vec<(Vec<Line<'static>>, usize)> =
            self.rows.iter().map(|row| self.grid_row(row, widths, theme)).collect();
        // If a cell is wrapped, rules between the rows show where each row ends.
        let any_tall = rows.iter().skip(1).any(|(_, height)| *height > 1);
        let last = rows.len().saturating_sub(1);
        for (index, (row, _)) in rows.into_iter().enumerate() {
            lines.extend(row);
            if index == 0 || (any_tall && index < last) {
                lines.push(rule());
            }
        }
        lines
    }

    fn grid_row(&self, row: &[CellText], widths: &[usize], theme: &Theme) -> (Vec<Line<'static>>, usize) {
        let empty = CellText::new();
        let columns: Vec<Vec<Line<'static>>> = widths
            .iter()
            .enumerate()
            .map(|(column, width)| wrap(row.get(column).unwrap_or(&empty), *width))
            .collect();
        let height = columns.iter().map(Vec::len).max().unwrap_or(1);
        let lines = (0..height).map(|line| {
            let mut spans = Vec::new();
            for (index, (column, width)) in columns.iter().zip(widths).enumerate() {
                if index > 0 {
                    spans.push(Span::styled(SEPARATOR, theme.border));
                }
                let text = column.get(line).cloned().unwrap_or_default();
                let alignment = self.alignments.get(index).copied().unwrap_or(Alignment::None);
                spans.extend(padded(text, *width, alignment));
            }
            Line::from(spans)
        });
        (lines.collect(), height)
    }

    fn field_list(&self, width: usize, theme: &Theme) -> Vec<Line<'static>> {
        let mut rows = self.rows.iter();
        let empty = Vec::new();
        let head = rows.next().unwrap_or(&empty);
        let mut lines = Vec::new();
        for row in rows {
            if !lines.is_empty() {
                lines.push(Line::from(Span::styled("─".repeat(width.min(12)), theme.border)));
            }
            for (name, cell) in head.iter().zip(row) {
                let mut field = name.clone();
                field.push(Fragment::new(": ", theme.text.add_modifier(Modifier::BOLD)));
                field.extend(cell.iter().cloned());
                lines.extend(wrap(&field, width));
            }
        }
        lines
    }
}

fn natural_width(cell: &CellText) -> usize {
    cell.iter().map(|fragment| display_width(&fragment.text)).sum()
}

fn padded(text: Line<'static>, width: usize, alignment: Alignment) -> Vec<Span<'static>> {
    let space = width.saturating_sub(text.width());
    let before = match alignment {
        Alignment::Right => space,
        Alignment::Center => space / 2,
        Alignment::None | Alignment::Left => 0,
    };
    let mut spans = Vec::with_capacity(text.spans.len() + 2);
    spans.push(Span::raw(" ".repeat(before)));
    spans.extend(text.spans);
    spans.push(Span::raw(" ".repeat(space - before)));
    spans
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::Syntax;

    fn plain(source: &str, width: usize) -> String {
        let theme = Theme::dark();
        let lines = markdown(source, width, TextStyle { theme: &theme, syntax: None });
        lines.iter().map(|line| line.to_string().trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn blocks_are_rendered() {
        insta::assert_snapshot!(plain(
            "# Title\nSome *text* with `code` and [a link](https://x.org).\n\n\
             1. one\n2. two\n   - deep\n   - deeper and long enough to be wrapped at this width\n\n\
             > quoted\n> more\n\n```rust\nfn main() {}\n```\n\n---\n- [x] done\n- [ ] open\n\n<https://y.org>",
            44
        ));
    }

    #[test]
    fn tables_fit_the_width() {
        let table = "| name | what it does | n |\n|:--|---|--:|\n| alpha | the first of all letters | 1 |\n| b | x | 22 |";
        insta::assert_snapshot!("table_wide", plain(table, 60));
        insta::assert_snapshot!("table_narrow", plain(table, 28));
        insta::assert_snapshot!("table_tiny", plain(table, 12));
    }

    #[test]
    fn an_entity_cannot_insert_an_escape_character() {
        assert_eq!(plain("a&#27;[31mb&#x9b;c", 40), "a␛[31mb<U+009B>c");
    }

    #[test]
    fn a_streamed_text_is_rendered_like_a_complete_text() {
        let source = "# T\n\npara one\nstill\n\n- a\n\n- b\n  - c\n\n```rust\nfn x() {}\n\n// y\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nend\r\nof it";
        let theme = Theme::dark();
        let text_style = TextStyle { theme: &theme, syntax: Some(Syntax::load()) };
        let mut streamed = StreamedMarkdown::default();
        let mut rendered = Vec::new();
        for end in 0..=source.len() {
            let (kept, lines) = streamed.advance(&source[..end], 40, text_style);
            rendered.truncate(kept);
            rendered.extend(lines);
        }
        assert_eq!(rendered, markdown(source, 40, text_style));
        assert!(streamed.complete_bytes > source.len() / 2);
    }

    proptest! {
        #[test]
        fn no_text_renders_control_characters(source in "[a-c#*`|>\\-0-9 \n\\[\\]()\x1b\u{9b}日]{0,120}", width in 12_usize..60) {
            let theme = Theme::dark();
            for line in markdown(&source, width, TextStyle { theme: &theme, syntax: None }) {
                prop_assert!(!line.to_string().chars().any(char::is_control));
            }
        }
    }
}
