//! Renders Markdown as lines: headings, lists, tables, code, quotes and links.

use pulldown_cmark::{Alignment, CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::syntax::{CodeBlock, LineBudget, LineHighlighter};
use super::{Fragment, TextStyle, beginning, display_width, hard_wrap, sanitize, wrap};
use crate::theme::Theme;

/// Renders a complete text.
#[must_use]
pub fn markdown(source: &str, width: usize, text_style: TextStyle<'_>) -> Vec<Line<'static>> {
    Writer::new(text_style, width, &mut CodeCache::complete()).write(&sanitize(source)).lines
}

/// Bytes of a growing text that one call lays out at most.
const MAX_PIECE: usize = 64 << 10;
/// An open block that is longer than this is laid out in pieces.
const MAX_OPEN_BLOCK: usize = 16 << 10;
/// Bytes at the end of a long open block that are laid out again when it grows.
const OPEN_END: usize = 2 << 10;

/// Renders a text that is still growing. Everything but the end of the newest block is laid out once, so the cost of an
/// update depends neither on the length of the text nor on that of the newest block.
///
/// A long block other than code is laid out in pieces. Emphasis that begins in one piece and ends in another is not shown;
/// the layout of the complete text shows it.
#[derive(Debug, Clone)]
pub struct StreamedMarkdown {
    /// Number of bytes of the source that are laid out for good.
    complete_bytes: usize,
    /// Number of lines of these bytes.
    complete_lines: usize,
    open: OpenBlock,
    code: CodeCache,
}

/// How the source continues after the bytes that are laid out.
#[derive(Debug, Clone)]
enum OpenBlock {
    /// With a new block.
    New,
    /// With the rest of a long block.
    Rest,
    /// With more rows of a long table.
    Table { head: String, columns: Columns },
    /// With more lines of a fenced code block.
    Fence(Box<Fence>),
}

/// The layout of a text that has grown.
#[derive(Debug, Default)]
pub struct Advance {
    /// Number of lines of the previous result that remain valid.
    pub kept: usize,
    /// The lines that follow them.
    pub lines: Vec<Line<'static>>,
    /// Whether a part of the source is not laid out yet.
    pub is_behind: bool,
}

impl Default for StreamedMarkdown {
    fn default() -> Self {
        Self { complete_bytes: 0, complete_lines: 0, open: OpenBlock::New, code: CodeCache::growing() }
    }
}

impl StreamedMarkdown {
    /// Renders `source`, which must begin with the source of the previous call; `width` must not change between calls.
    pub fn advance(&mut self, source: &str, width: usize, text_style: TextStyle<'_>) -> Advance {
        let kept = self.complete_lines;
        let rest = source.get(self.complete_bytes..).unwrap_or_default();
        let piece = beginning(rest, MAX_PIECE);
        self.code.budget = Some(LineBudget::default());
        let mut lines = Vec::new();
        let mut done = 0;
        loop {
            let open = piece.get(done..).unwrap_or_default();
            let (bytes, rows) = self.complete(open, width, text_style);
            if bytes == 0 {
                break;
            }
            done += bytes;
            self.complete_lines += rows.len();
            lines.extend(rows);
        }
        self.complete_bytes += done;
        lines.extend(self.open_end(piece.get(done..).unwrap_or_default(), width, text_style));
        Advance { kept, lines, is_behind: piece.len() < rest.len() }
    }

    /// Lays out complete blocks at the beginning of `source`, or else the beginning of a long block. Returns the number of
    /// bytes, and their rows.
    fn complete(
        &mut self,
        source: &str,
        width: usize,
        text_style: TextStyle<'_>,
    ) -> (usize, Vec<Line<'static>>) {
        if let OpenBlock::Fence(fence) = &mut self.open {
            let budget = self.code.budget.get_or_insert_default();
            let (bytes, rows, is_closed) = fence.complete(source, width, text_style, budget);
            if is_closed {
                self.open = OpenBlock::New;
            }
            return (bytes, rows);
        }
        let sanitized = sanitize(source);
        let newest = self.newest_block_start(&sanitized);
        if newest > 0 {
            let complete = sanitized.get(..newest).unwrap_or_default();
            let rows = self.rows(complete, width, text_style);
            self.open = OpenBlock::New;
            self.code.blocks.clear();
            return (same_lines(source, complete).len(), rows);
        }
        if matches!(self.open, OpenBlock::New)
            && let Some(fence) = Fence::open(&sanitized)
        {
            let line = source.split_inclusive('\n').next().unwrap_or_default();
            let mut rows: Vec<Line<'static>> = self.gap();
            rows.extend(fence.label(text_style));
            self.open = OpenBlock::Fence(Box::new(fence));
            return (line.len(), rows);
        }
        if source.len() <= MAX_OPEN_BLOCK {
            return (0, Vec::new());
        }
        let (bytes, next) = self.split(source, &sanitized, width, text_style);
        let beginning = source.get(..bytes).unwrap_or_default();
        let rows = self.rows(&sanitize(beginning), width, text_style);
        self.open = next;
        self.code.blocks.clear();
        (bytes, rows)
    }

    /// Finds where a long block can be divided, and what its rest is.
    fn split(
        &self,
        source: &str,
        sanitized: &str,
        width: usize,
        text_style: TextStyle<'_>,
    ) -> (usize, OpenBlock) {
        let before = source.get(..source.floor_char_boundary(source.len() - OPEN_END)).unwrap_or_default();
        let line_end = before.rfind('\n').map(|line_break| line_break + 1);
        let block = Parser::new_ext(sanitized, options()).next();
        match (&self.open, block, line_end) {
            (OpenBlock::Table { head, columns }, _, Some(end)) => {
                (end, OpenBlock::Table { head: head.clone(), columns: columns.clone() })
            }
            (OpenBlock::New, Some(Event::Start(Tag::Table(_))), Some(end)) => {
                let head: String = sanitized.split_inclusive('\n').take(2).collect();
                let end = end.max(same_lines(source, &head).len());
                let beginning = sanitize(source.get(..end).unwrap_or_default());
                let columns = table_columns(&beginning, width, text_style);
                (end, OpenBlock::Table { head, columns })
            }
            (_, block, _) => {
                let is_list = matches!(block, Some(Event::Start(Tag::List(_))));
                let items = if is_list { last_item_start(sanitized) } else { 0 };
                let space = || before.rfind(' ').map(|space| space + 1);
                let bytes = if items > 0 {
                    same_lines(source, sanitized.get(..items).unwrap_or_default()).len()
                } else {
                    line_end.or_else(space).unwrap_or(before.len())
                };
                (bytes, OpenBlock::Rest)
            }
        }
    }

    /// Returns the start of the newest block in the open part of the source.
    fn newest_block_start(&self, sanitized: &str) -> usize {
        match &self.open {
            OpenBlock::Table { head, .. } => {
                newest_block_start(&format!("{head}{sanitized}")).saturating_sub(head.len())
            }
            OpenBlock::New | OpenBlock::Rest | OpenBlock::Fence(_) => newest_block_start(sanitized),
        }
    }

    /// Lays out the end of the source, which may change when more arrives.
    fn open_end(&mut self, source: &str, width: usize, text_style: TextStyle<'_>) -> Vec<Line<'static>> {
        match &mut self.open {
            OpenBlock::Fence(fence) => fence.open_line(source, width, text_style),
            OpenBlock::New | OpenBlock::Rest | OpenBlock::Table { .. } => {
                self.rows(&sanitize(without_begun_row(source)), width, text_style)
            }
        }
    }

    /// Lays out a part of the source that continues with the open block.
    fn rows(&mut self, sanitized: &str, width: usize, text_style: TextStyle<'_>) -> Vec<Line<'static>> {
        self.code.next = 0;
        let mut writer = Writer::new(text_style, width, &mut self.code);
        match &self.open {
            OpenBlock::Table { head, columns } => {
                writer.columns = Some(columns.clone());
                let mut rows = writer.write(&format!("{head}{sanitized}")).lines;
                let mut writer = Writer::new(text_style, width, &mut self.code);
                writer.columns = Some(columns.clone());
                let head_rows = writer.write(head).lines.len();
                rows.drain(..head_rows.min(rows.len()));
                rows
            }
            OpenBlock::Rest => writer.write(sanitized).lines,
            OpenBlock::New | OpenBlock::Fence(_) => {
                let rows = writer.write(sanitized).lines;
                let mut lines = if rows.is_empty() { Vec::new() } else { self.gap() };
                lines.extend(rows);
                lines
            }
        }
    }

    /// The blank line before a block that is not the first.
    fn gap(&self) -> Vec<Line<'static>> {
        if self.complete_lines > 0 { vec![Line::default()] } else { Vec::new() }
    }
}

/// Leaves out the first character of a row of a table, which alone would end the table and be shown as text.
fn without_begun_row(source: &str) -> &str {
    match source.rsplit_once('\n') {
        Some((before, last)) if last.trim() == "|" => before,
        Some(_) | None => source,
    }
}

/// Returns the beginning of `source` that has as many lines as a sanitized text. Both have the same line breaks, at
/// different offsets.
fn same_lines<'a>(source: &'a str, sanitized: &str) -> &'a str {
    let breaks = sanitized.matches('\n').count();
    let bytes = source.split_inclusive('\n').take(breaks).map(str::len).sum();
    source.get(..bytes).unwrap_or(source)
}

/// Returns the start of the last item of the list with which `source` begins.
fn last_item_start(source: &str) -> usize {
    let (mut depth, mut start) = (0_usize, 0);
    for (event, range) in Parser::new_ext(source, options()).into_offset_iter() {
        match event {
            Event::Start(tag) => {
                if depth == 1 && tag == Tag::Item {
                    start = range.start;
                }
                depth += 1;
            }
            Event::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    source.get(..start).and_then(|before| before.rfind('\n')).map_or(0, |line_break| line_break + 1)
}

/// Returns the columns of the table with which `source` begins.
fn table_columns(source: &str, width: usize, text_style: TextStyle<'_>) -> Columns {
    let mut cache = CodeCache::complete();
    Writer::new(text_style, width, &mut cache).write(source).newest_columns.unwrap_or(Columns::Fields)
}

/// A fenced code block whose end has not arrived.
#[derive(Debug, Clone)]
struct Fence {
    marker: char,
    length: usize,
    /// Spaces before the fence, which are removed from each line.
    indent: usize,
    language: String,
    highlighter: LineHighlighter,
    has_code: bool,
    /// Whether the beginning of the next line is laid out already, because the line is long.
    is_within_line: bool,
}

impl Fence {
    /// Returns the fence that the first line of `source` opens, if that line is complete.
    fn open(source: &str) -> Option<Self> {
        let (line, _) = source.split_once('\n')?;
        let fence = line.trim_start_matches(' ');
        let indent = line.len() - fence.len();
        let marker = fence.chars().next().filter(|c| matches!(c, '`' | '~'))?;
        let info = fence.trim_start_matches(marker);
        let length = fence.len() - info.len();
        if indent > 3 || length < 3 || (marker == '`' && info.contains('`')) {
            return None;
        }
        Some(Self {
            marker,
            length,
            indent,
            language: info.trim().to_owned(),
            highlighter: LineHighlighter::default(),
            has_code: false,
            is_within_line: false,
        })
    }

    fn is_closed_by(&self, line: &str) -> bool {
        let fence = line.trim_start_matches(' ');
        let rest = fence.trim_start_matches(self.marker);
        !self.is_within_line
            && line.len() - fence.len() <= 3
            && fence.len() - rest.len() >= self.length
            && rest.trim().is_empty()
    }

    fn label(&self, text_style: TextStyle<'_>) -> Option<Line<'static>> {
        code_label(&self.language, text_style.theme).map(|label| code_row(vec![label], text_style.theme))
    }

    /// Lays out the complete lines of `source`. Returns their bytes, their rows, and whether the block ends after them.
    fn complete(
        &mut self,
        source: &str,
        width: usize,
        text_style: TextStyle<'_>,
        budget: &mut LineBudget,
    ) -> (usize, Vec<Line<'static>>, bool) {
        let complete = source.get(..source.rfind('\n').map_or(0, |at| at + 1)).unwrap_or_default();
        self.highlighter.expect_lines(complete.matches('\n').count(), budget);
        let (mut bytes, mut rows) = (0, Vec::new());
        for line in complete.split_inclusive('\n') {
            bytes += line.len();
            if self.is_closed_by(line) {
                rows.extend(self.empty_row(text_style));
                return (bytes, rows, true);
            }
            rows.extend(self.line_rows(line, width, text_style));
            self.is_within_line = false;
        }
        let open_line = source.get(bytes..).unwrap_or_default();
        if open_line.len() > MAX_OPEN_BLOCK {
            // Whole rows, if each character is one cell.
            let whole = MAX_OPEN_BLOCK - MAX_OPEN_BLOCK % code_width(width);
            let end = open_line.floor_char_boundary(whole);
            self.highlighter.stop();
            rows.extend(self.line_rows(open_line.get(..end).unwrap_or_default(), width, text_style));
            self.is_within_line = true;
            bytes += end;
        }
        (bytes, rows, false)
    }

    /// Lays out a line that is not complete.
    fn open_line(&mut self, line: &str, width: usize, text_style: TextStyle<'_>) -> Vec<Line<'static>> {
        // Spaces may be the beginning of a fence.
        if line.trim_matches(' ').is_empty() || self.is_closed_by(line) {
            return self.empty_row(text_style).into_iter().collect();
        }
        let mut next = self.clone();
        next.line_rows(line, width, text_style)
    }

    fn line_rows(&mut self, line: &str, width: usize, text_style: TextStyle<'_>) -> Vec<Line<'static>> {
        self.has_code = true;
        let line = sanitize(self.without_indent(line));
        let fragments = self.highlighter.line(text_style, &self.language, &line);
        code_rows(&fragments, code_width(width), text_style.theme)
    }

    fn without_indent<'a>(&self, line: &'a str) -> &'a str {
        let indent = if self.is_within_line { 0 } else { self.indent };
        let spaces = line.len() - line.trim_start_matches(' ').len();
        line.get(spaces.min(indent)..).unwrap_or_default()
    }

    /// The row of a block without code.
    fn empty_row(&self, text_style: TextStyle<'_>) -> Option<Line<'static>> {
        (!self.has_code).then(|| code_row(vec![Span::raw("")], text_style.theme))
    }
}

/// Returns the width of the code in a block that is not inside of another one.
fn code_width(width: usize) -> usize {
    width.max(MIN_WIDTH).saturating_sub(display_width(CODE_BAR))
}

/// The bar at the left of code.
const CODE_BAR: &str = "▎ ";

fn code_row(content: Vec<Span<'static>>, theme: &Theme) -> Line<'static> {
    let mut spans = vec![Span::styled(CODE_BAR, theme.border)];
    spans.extend(content);
    Line::from(spans)
}

/// Wraps a line of code.
fn code_rows(fragments: &[Fragment], width: usize, theme: &Theme) -> Vec<Line<'static>> {
    hard_wrap(fragments, width).into_iter().map(|line| code_row(line.spans, theme)).collect()
}

/// Returns the name of a code block's language, as its first row shows it.
fn code_label(language: &str, theme: &Theme) -> Option<Span<'static>> {
    let label = language.split_whitespace().next()?;
    Some(Span::styled(sanitize(label).into_owned(), theme.dim))
}

/// The highlighted code blocks of a text, in their order.
#[derive(Debug, Clone)]
struct CodeCache {
    blocks: Vec<CodeBlock>,
    next: usize,
    /// `None` for a complete text, whose blocks are not kept.
    budget: Option<LineBudget>,
}

impl CodeCache {
    const fn complete() -> Self {
        Self { blocks: Vec::new(), next: 0, budget: None }
    }

    fn growing() -> Self {
        Self { blocks: Vec::new(), next: 0, budget: Some(LineBudget::default()) }
    }

    /// Returns the highlighted lines of the next block.
    fn lines(&mut self, text_style: TextStyle<'_>, language: &str, code: &str) -> Vec<Vec<Fragment>> {
        if self.budget.is_none() {
            return CodeBlock::default().lines(text_style, language, code, None);
        }
        if self.blocks.len() <= self.next {
            self.blocks.resize_with(self.next + 1, CodeBlock::default);
        }
        let block = self.blocks.get_mut(self.next);
        self.next += 1;
        block.map(|block| block.lines(text_style, language, code, self.budget.as_mut())).unwrap_or_default()
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
    /// The columns of the next table, if they must not follow from its cells.
    columns: Option<Columns>,
    /// The columns of the newest table.
    newest_columns: Option<Columns>,
    /// Language and text of the open code block.
    code: Option<(String, String)>,
    code_cache: &'a mut CodeCache,
    /// Whether a list item or quote has just begun, whose first block needs no blank line before it.
    at_container_start: bool,
}

impl<'a> Writer<'a> {
    fn new(text_style: TextStyle<'a>, width: usize, code_cache: &'a mut CodeCache) -> Self {
        Self {
            text_style,
            width: width.max(MIN_WIDTH),
            lines: Vec::new(),
            prefixes: Vec::new(),
            inline: Vec::new(),
            styles: vec![text_style.theme.text],
            lists: Vec::new(),
            link: None,
            table: None,
            columns: None,
            newest_columns: None,
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
                    let width = self.available();
                    let columns = self.columns.take().unwrap_or_else(|| table.columns(width));
                    let lines = table.lines(&columns, width, self.text_style.theme);
                    self.newest_columns = Some(columns);
                    for line in lines {
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
        let text_style = self.text_style;
        let theme = text_style.theme;
        if let Some(label) = code_label(&language, theme) {
            self.emit(code_row(vec![label], theme).spans);
        }
        let width = self.available().saturating_sub(display_width(CODE_BAR));
        for fragments in self.code_cache.lines(text_style, &language, &code) {
            for line in code_rows(&fragments, width, theme) {
                self.emit(line.spans);
            }
        }
        if code.is_empty() {
            self.emit(code_row(vec![Span::raw("")], theme).spans);
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

/// Minimum width of a text.
const MIN_WIDTH: usize = 8;
const SEPARATOR: &str = " │ ";
/// Minimum width of a column. If the columns do not fit, each row is shown as a list of `name: value` lines.
const MIN_COLUMN_WIDTH: usize = 4;

type CellText = Vec<Fragment>;

/// How a table is shown.
#[derive(Debug, Clone)]
enum Columns {
    /// As columns of these widths.
    Grid(Vec<usize>),
    /// As `name: value` lines.
    Fields,
}

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

    fn lines(mut self, columns: &Columns, width: usize, theme: &Theme) -> Vec<Line<'static>> {
        if let Some(head) = self.rows.first_mut() {
            for fragment in head.iter_mut().flatten() {
                fragment.style = fragment.style.patch(theme.title());
            }
        }
        match columns {
            Columns::Grid(widths) => self.grid(widths, theme),
            Columns::Fields => self.field_list(width, theme),
        }
    }

    fn columns(&self, width: usize) -> Columns {
        self.column_widths(width).map_or(Columns::Fields, Columns::Grid)
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

    /// Passes growing beginnings of `source` to a [`StreamedMarkdown`]. Calls `check` with each beginning, its lines, and
    /// the number of lines that were laid out for it.
    fn stream(
        source: &str,
        step: usize,
        text_style: TextStyle<'_>,
        mut check: impl FnMut(&str, &[Line<'static>], usize),
    ) {
        let mut streamed = StreamedMarkdown::default();
        let mut lines: Vec<Line<'static>> = Vec::new();
        let ends = (0..source.len()).step_by(step).chain([source.len()]);
        for end in ends.filter(|end| source.is_char_boundary(*end)) {
            loop {
                let advance = streamed.advance(&source[..end], 40, text_style);
                lines.truncate(advance.kept);
                let count = advance.lines.len();
                lines.extend(advance.lines);
                if !advance.is_behind {
                    check(&source[..end], &lines, count);
                    break;
                }
            }
        }
    }

    #[test]
    fn a_streamed_text_is_rendered_like_a_complete_text() {
        let source = "# T\n\npara one\nstill\n\n- a\n\n- b\n  - c\n\n```rust\nfn x() {}\n\n// y\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n\
            ~~~\n```\n~~~\n  ````md\n    x\n ```\n   `````  \n```\n```\n* one\n  ```rust\n  fn y() {}\n  ```\n* two\n\n> ```\n> quoted\n\nend\r\nof it";
        let theme = Theme::dark();
        let text_style = TextStyle { theme: &theme, syntax: Some(Syntax::load()) };
        stream(source, 1, text_style, |source, lines, _| {
            // A row of spaces shows nothing, whether it is there or not, and the first character of a row of a table is not
            // shown yet.
            let is_blank = source.rsplit('\n').next().is_some_and(|line| ["", "|"].contains(&line.trim()));
            if !is_blank || source.ends_with('\n') {
                assert_eq!(lines, markdown(source, 40, text_style), "{source:?}");
            }
        });
    }

    #[test]
    fn the_first_character_of_a_row_is_not_shown_below_the_table() {
        let theme = Theme::dark();
        let text_style = TextStyle { theme: &theme, syntax: None };
        let table = "| a | b |\n|---|---|\n| 1 | 2 |\n";
        let rows = |source: &str| StreamedMarkdown::default().advance(source, 40, text_style).lines;
        assert_eq!(rows(&format!("{table}|")), rows(table));
        assert!(rows(&format!("{table}| 3")).len() > rows(table).len());
    }

    /// Texts whose newest block has `bytes` bytes: code, a table, a list, a paragraph, and lines without spaces.
    fn long_blocks(bytes: usize) -> [String; 7] {
        let repeated = |text: &str| text.repeat(bytes / text.len());
        [
            format!("```rust\n{}", repeated("let answer = 42; // the answer\n")),
            format!("~~~\n{}", repeated("x")),
            format!("| a | b |\n|---|--:|\n{}", repeated("| some `words` | 1234567 |\n")),
            repeated("- one item of a *list*\n"),
            repeated("some words, and no line break, "),
            repeated("日本語"),
            format!("- item\n\n  ```\n{}", repeated("  nested code\n")),
        ]
    }

    #[test]
    fn the_cost_of_a_growing_block_does_not_depend_on_its_length() {
        let theme = Theme::dark();
        let text_style = TextStyle { theme: &theme, syntax: None };
        for source in long_blocks(300_000) {
            let mut most = 0;
            stream(&source, 1_000, text_style, |_, _, laid_out| most = most.max(laid_out));
            // At most the rows of an open block and of the new bytes: each row has at least eight bytes.
            assert!(most < (MAX_OPEN_BLOCK + 2_000) / 8, "{most} rows at once of {:?}", &source[..30]);
        }
    }

    #[test]
    fn a_long_block_that_is_laid_out_in_pieces_has_all_of_its_text() {
        let theme = Theme::dark();
        let text_style = TextStyle { theme: &theme, syntax: None };
        let text = |lines: &[Line<'static>]| {
            let all: String = lines.iter().map(ToString::to_string).collect();
            all.replace([' ', '▎', '│', '─', '┼', '•'], "")
        };
        for block in long_blocks(100_000) {
            let source = format!("first\n\n{block}");
            let mut streamed = String::new();
            stream(&source, 7_001, text_style, |_, lines, _| streamed = text(lines));
            assert!(streamed == text(&markdown(&source, 40, text_style)), "{:?}", &block[..30]);
        }
        // Rows of code are the same, because each line of code is laid out on its own.
        for code in long_blocks(100_000).into_iter().take(2) {
            let source = format!("{code}\n");
            stream(&source, 50_000, text_style, |source, lines, _| {
                assert!(lines == markdown(source, 40, text_style), "{:?}", &source[..30]);
            });
        }
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
