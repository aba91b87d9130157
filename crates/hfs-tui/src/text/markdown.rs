//! Markdown as lines for a terminal: headings, lists, tables, fenced code, quotes, links.

mod table;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use self::table::Table;
use super::syntax::CodeBlock;
use super::{Piece, Syntax, cells, chop, shown, wrap};
use crate::theme::{CodeRole, Theme};

/// What text is drawn with.
#[derive(Debug, Clone, Copy)]
pub struct Ink<'a> {
    /// The styles.
    pub theme: &'a Theme,
    /// The grammars for code, once they are loaded.
    pub syntax: Option<Syntax>,
}

/// The lines of a text that is whole.
#[must_use]
pub fn markdown(source: &str, width: usize, ink: Ink<'_>) -> Vec<Line<'static>> {
    let mut code = CodeBlock::default();
    Writer::new(ink, width, &mut code).write(&shown(source)).lines
}

/// The lines of a text that is still arriving: blocks that are whole are laid out once, so that a long reply
/// costs what its newest block costs.
#[derive(Debug, Clone, Default)]
pub struct StreamedMarkdown {
    /// How many bytes of the source, and how many lines of the picture, are settled.
    settled: usize,
    lines: usize,
    code: CodeBlock,
}

impl StreamedMarkdown {
    /// What the picture of `source` is, which is what it was at the last call with more behind it, at the same
    /// width: so many of the lines given before, and these behind them.
    pub fn advance(&mut self, source: &str, width: usize, ink: Ink<'_>) -> (usize, Vec<Line<'static>>) {
        let kept = self.lines;
        let mut lines = Vec::new();
        let rest = source.get(self.settled..).unwrap_or_default();
        let safe = shown(rest);
        let before_last = newest_block(&safe);
        if before_last > 0 {
            let (done, _) = safe.split_at_checked(before_last).unwrap_or((&safe, ""));
            let whole = Writer::new(ink, width, &mut self.code).write(done).lines;
            separate(kept, &mut lines, &whole);
            lines.extend(whole);
            // Making text visible keeps its line breaks, so that they tell where the raw text is cut.
            let breaks = done.matches('\n').count();
            self.settled += rest.split_inclusive('\n').take(breaks).map(str::len).sum::<usize>();
            self.lines += lines.len();
            self.code = CodeBlock::default();
        }
        let tail = safe.get(before_last..).unwrap_or_default();
        let newest = Writer::new(ink, width, &mut self.code).write(tail).lines;
        separate(kept, &mut lines, &newest);
        lines.extend(newest);
        (kept, lines)
    }
}

/// A blank line between what is there and what comes.
fn separate(kept: usize, lines: &mut Vec<Line<'static>>, next: &[Line<'static>]) {
    if (kept > 0 || !lines.is_empty()) && !next.is_empty() {
        lines.push(Line::default());
    }
}

/// Where the line begins that the last top-level block of `source` begins in. Only whole lines count: the
/// beginning of one may look like something else than what it becomes.
fn newest_block(source: &str) -> usize {
    let whole = source.rfind('\n').map_or(0, |line_break| line_break + 1);
    let source = source.get(..whole).unwrap_or_default();
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

/// What stands before the lines of a quote or a list item.
struct Prefix {
    first: Piece,
    rest: Piece,
    used: bool,
}

struct Writer<'a> {
    ink: Ink<'a>,
    width: usize,
    lines: Vec<Line<'static>>,
    prefixes: Vec<Prefix>,
    inline: Vec<Piece>,
    styles: Vec<Style>,
    /// The numbers of the ordered lists that are open; `None` for one with bullets.
    lists: Vec<Option<u64>>,
    link: Option<(String, usize)>,
    table: Option<Table>,
    code: Option<(String, String)>,
    code_cache: &'a mut CodeBlock,
    /// A list item or quote has just begun: its first block stands on its line.
    fresh: bool,
}

impl<'a> Writer<'a> {
    fn new(ink: Ink<'a>, width: usize, code_cache: &'a mut CodeBlock) -> Self {
        Self {
            ink,
            width: width.max(8),
            lines: Vec::new(),
            prefixes: Vec::new(),
            inline: Vec::new(),
            styles: vec![ink.theme.text],
            lists: Vec::new(),
            link: None,
            table: None,
            code: None,
            code_cache,
            fresh: false,
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
                    self.push(&text, self.style().patch(self.ink.theme.inline_code));
                }
                Event::Html(text) | Event::InlineHtml(text) => self.push(&text, self.ink.theme.dim),
                Event::FootnoteReference(name) => self.push(&format!("[{name}]"), self.ink.theme.dim),
                Event::SoftBreak => self.push(" ", self.style()),
                Event::HardBreak => self.push("\n", self.style()),
                Event::Rule => {
                    self.gap();
                    let width = self.available();
                    self.emit(vec![Span::styled("─".repeat(width), self.ink.theme.frame)]);
                }
                Event::TaskListMarker(done) => {
                    let (mark, style) =
                        if done { ("☑ ", self.ink.theme.good) } else { ("☐ ", self.ink.theme.dim) };
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

    /// Entities such as `&#27;` become characters only here, so that they are made safe here, too.
    fn push(&mut self, text: &str, style: Style) {
        self.inline.push(Piece::new(shown(text), style));
    }

    fn start(&mut self, tag: Tag<'_>) {
        let theme = self.ink.theme;
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
                self.enter(Piece::new("┃ ", theme.frame), Piece::new("┃ ", theme.frame));
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
        let indent = " ".repeat(cells(&mark));
        self.enter(Piece::new(mark, self.ink.theme.accent), Piece::new(indent, Style::new()));
    }

    fn enter(&mut self, first: Piece, rest: Piece) {
        self.prefixes.push(Prefix { first, rest, used: false });
        self.fresh = true;
    }

    fn leave(&mut self) {
        self.flush();
        // An empty item still shows its mark.
        if self.prefixes.last().is_some_and(|prefix| !prefix.used) {
            self.emit(Vec::new());
        }
        self.prefixes.pop();
        self.fresh = false;
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
                    table.cell(cell);
                }
            }
            TagEnd::TableHead | TagEnd::TableRow => {
                if let Some(table) = &mut self.table {
                    table.end_row();
                }
            }
            TagEnd::Table => {
                if let Some(table) = self.table.take() {
                    for line in table.lines(self.available(), self.ink.theme) {
                        self.emit(line.spans);
                    }
                }
            }
            _ => {}
        }
    }

    /// The address stands behind the text unless it is the text.
    fn end_link(&mut self) {
        self.styles.pop();
        let Some((address, start)) = self.link.take() else { return };
        let text: String =
            self.inline.get(start..).unwrap_or_default().iter().map(|piece| piece.text.as_str()).collect();
        let bare = address.strip_prefix("mailto:").unwrap_or(&address);
        if !address.is_empty() && text != bare {
            self.push(&format!(" ({address})"), self.ink.theme.dim);
        }
    }

    fn code_block(&mut self) {
        let Some((language, code)) = self.code.take() else { return };
        let theme = self.ink.theme;
        let bar = || Span::styled("▎ ", theme.frame);
        let label = language.split_whitespace().next().unwrap_or_default();
        if !label.is_empty() {
            let label = Span::styled(shown(label).into_owned(), theme.dim);
            self.emit(vec![bar(), label]);
        }
        let width = self.available().saturating_sub(2);
        for pieces in self.code_cache.lines(self.ink.syntax, theme, &language, &code) {
            for line in chop(&pieces, width) {
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
        let used: usize = self.prefixes.iter().map(|prefix| cells(&prefix.rest.text)).sum();
        self.width.saturating_sub(used).max(4)
    }

    /// A blank line between this block and the one before, unless it is the first of its container.
    fn gap(&mut self) {
        self.flush();
        if std::mem::take(&mut self.fresh) || self.lines.is_empty() {
            return;
        }
        self.emit(Vec::new());
    }

    fn flush(&mut self) {
        if self.inline.is_empty() {
            return;
        }
        self.fresh = false;
        let pieces = std::mem::take(&mut self.inline);
        for line in wrap(&pieces, self.available()) {
            self.emit(line.spans);
        }
    }

    fn emit(&mut self, content: Vec<Span<'static>>) {
        self.fresh = false;
        let mut spans = Vec::with_capacity(self.prefixes.len() + content.len());
        for prefix in &mut self.prefixes {
            let piece = if prefix.used { &prefix.rest } else { &prefix.first };
            prefix.used = true;
            spans.push(Span::styled(piece.text.clone(), piece.style));
        }
        spans.extend(content);
        self.lines.push(Line::from(spans));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(source: &str, width: usize) -> String {
        let theme = Theme::dark();
        let lines = markdown(source, width, Ink { theme: &theme, syntax: None });
        lines.iter().map(|line| line.to_string().trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn blocks_look_like_what_they_are() {
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
    fn an_entity_cannot_smuggle_an_escape() {
        assert_eq!(plain("a&#27;[31mb&#x9b;c", 40), "a␛[31mb<U+009B>c");
    }

    #[test]
    fn a_streamed_text_ends_as_if_it_had_come_at_once() {
        let source = "# T\n\npara one\nstill\n\n- a\n\n- b\n  - c\n\n```rust\nfn x() {}\n\n// y\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nend\r\nof it";
        let theme = Theme::dark();
        let ink = Ink { theme: &theme, syntax: Some(Syntax::load()) };
        let mut streamed = StreamedMarkdown::default();
        let mut picture = Vec::new();
        for end in 0..=source.len() {
            let (kept, lines) = streamed.advance(&source[..end], 40, ink);
            picture.truncate(kept);
            picture.extend(lines);
        }
        assert_eq!(picture, markdown(source, 40, ink));
        assert!(streamed.settled > source.len() / 2);
    }

    proptest! {
        #[test]
        fn any_text_gives_lines_that_fit_and_are_safe(source in "[a-c#*`|>\\-0-9 \n\\[\\]()\x1b\u{9b}日]{0,120}", width in 12_usize..60) {
            let theme = Theme::dark();
            for line in markdown(&source, width, Ink { theme: &theme, syntax: None }) {
                prop_assert!(!line.to_string().chars().any(char::is_control));
            }
        }
    }
}
