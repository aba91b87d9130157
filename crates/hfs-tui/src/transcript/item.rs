//! One message as rows of the screen.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use hfs_core::{Message, MessageStatus, Part, Role, Timestamp};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use serde_json::Value;

use super::Paper;
use crate::parts::OutputMode;
use crate::text::{Piece, cells, chop, clip, markdown, one_line, shown, wrap, wrap_plain};
use crate::theme::Theme;

/// Rows that several hold without copying.
pub type Lines = Arc<Vec<Line<'static>>>;

/// How many rows of a tool's output are shown at most.
const OUTPUT_ROWS: usize = 200;
/// What stands before the rows of every message.
const INDENT: &str = "  ";

/// A message in the window. What was laid out once is kept until anything about it changes.
#[derive(Debug)]
pub struct Item {
    /// The message.
    pub message: Arc<Message>,
    /// Whether a person folded or unfolded all of it, and since then some of its folds.
    unfolded: Option<bool>,
    folds: BTreeMap<usize, bool>,
    laid_out: RefCell<Option<LaidOut>>,
}

#[derive(Debug)]
struct LaidOut {
    width: usize,
    epoch: u64,
    joined: bool,
    lines: Lines,
    handles: Arc<[usize]>,
}

impl Item {
    pub fn new(message: Arc<Message>) -> Self {
        Self { message, unfolded: None, folds: BTreeMap::new(), laid_out: RefCell::new(None) }
    }

    /// How many folds it has: its thinking, its tools' calls and results.
    pub fn folds(&self) -> usize {
        self.message.content.parts.iter().filter(|part| is_fold(part)).count()
    }

    /// Folds all of it if it is unfolded, and the other way round. `usual` is how it is while nobody has.
    pub fn toggle(&mut self, usual: bool) {
        let is_open = |fold| self.is_unfolded(fold, usual);
        let any_open = (0..self.folds()).any(is_open);
        self.unfolded = Some(!any_open);
        self.folds.clear();
        self.laid_out.replace(None);
    }

    /// The same for one of its folds.
    pub fn toggle_fold(&mut self, fold: usize, usual: bool) {
        let open = self.is_unfolded(fold, usual);
        self.folds.insert(fold, !open);
        self.laid_out.replace(None);
    }

    fn is_unfolded(&self, fold: usize, usual: bool) -> bool {
        self.folds.get(&fold).copied().or(self.unfolded).unwrap_or(usual)
    }

    /// Which of its rows are the handles of its folds, as it was laid out last.
    pub fn handles(&self) -> Arc<[usize]> {
        self.laid_out.borrow().as_ref().map(|done| Arc::clone(&done.handles)).unwrap_or_default()
    }

    /// Its rows. `before` is the message above it: a tool's result stands directly under its call.
    pub fn lines(&self, before: Option<&Self>, paper: Paper<'_>) -> Lines {
        let joined = before.is_none()
            || (self.message.content.role == Role::Tool && paper.output == OutputMode::Compact);
        if let Some(done) = self.laid_out.borrow().as_ref()
            && (done.width, done.epoch, done.joined) == (paper.width, paper.epoch, joined)
        {
            return Arc::clone(&done.lines);
        }
        let is_unfolded = |fold| self.is_unfolded(fold, paper.output == OutputMode::Verbose);
        let (lines, handles) = message_lines(&self.message, joined, is_unfolded, paper);
        let lines = Arc::new(lines);
        let done = LaidOut {
            width: paper.width,
            epoch: paper.epoch,
            joined,
            lines: Arc::clone(&lines),
            handles: handles.into(),
        };
        self.laid_out.replace(Some(done));
        lines
    }
}

/// Whether a part is shown as a handle that opens.
const fn is_fold(part: &Part) -> bool {
    matches!(
        part,
        Part::Thinking { .. } | Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Opaque { .. }
    )
}

/// The rows of a message, and which of them are the handles of its folds.
fn message_lines(
    message: &Message,
    joined: bool,
    is_unfolded: impl Fn(usize) -> bool,
    paper: Paper<'_>,
) -> (Vec<Line<'static>>, Vec<usize>) {
    let theme = paper.ink.theme;
    let mut lines = Vec::new();
    if !joined {
        lines.push(Line::default());
    }
    let mark = match message.content.role {
        Role::User => Span::styled("▌ ", theme.user),
        _ => Span::raw(INDENT),
    };
    if message.content.role != Role::Tool {
        lines.push(header(message, paper));
    }
    let width = paper.width.saturating_sub(cells(INDENT));
    let marked = |line: Line<'static>| {
        let mut spans = vec![mark.clone()];
        spans.extend(line.spans);
        Line::from(spans)
    };
    let mut handles = Vec::new();
    for part in &message.content.parts {
        let content = match (part, message.content.role) {
            // What a person typed is shown as typed.
            (Part::Text { text }, Role::User) => wrap_plain(&shown(text), theme.text, width),
            (Part::Text { text }, Role::System) => wrap_plain(&shown(text), theme.dim, width),
            (Part::Text { text }, _) => markdown(text, width, paper.ink),
            (part, _) => part_lines(part, is_unfolded(handles.len()), width, paper),
        };
        if is_fold(part) {
            handles.push(lines.len());
        }
        lines.extend(content.into_iter().map(marked));
    }
    if message.content.status != MessageStatus::Complete {
        lines.extend(wrap_plain(&ending(message), theme.warn, width).into_iter().map(marked));
    }
    if paper.output == OutputMode::Verbose
        && let Some(usage) = message.content.usage
    {
        let text = format!("{} in · {} out", count(usage.prompt_tokens), count(usage.completion_tokens));
        lines.extend(wrap_plain(&text, theme.dim, width).into_iter().map(marked));
    }
    (lines, handles)
}

/// What the user said and is not durable yet.
pub fn sending_lines(text: &str, paper: Paper<'_>) -> Lines {
    let theme = paper.ink.theme;
    let width = paper.width.saturating_sub(cells(INDENT));
    let mut head = header_line("▌ ", "You", theme.user.add_modifier(Modifier::BOLD), None, None, paper);
    head.spans.push(Span::styled("  not saved yet", theme.dim));
    let mut lines = vec![Line::default(), head];
    for line in wrap_plain(&shown(text), theme.dim, width) {
        let mut spans = vec![Span::styled("▌ ", theme.dim)];
        spans.extend(line.spans);
        lines.push(Line::from(spans));
    }
    Arc::new(lines)
}

fn ending(message: &Message) -> String {
    let reason =
        message.content.extra.get("error").and_then(|error| error.get("message")).and_then(Value::as_str);
    match (message.content.status, reason) {
        (MessageStatus::Streaming, _) => "… still being written by another process".to_owned(),
        (_, Some(reason)) => format!("✗ interrupted: {}", one_line(reason)),
        (_, None) => "✗ interrupted".to_owned(),
    }
}

fn header(message: &Message, paper: Paper<'_>) -> Line<'static> {
    let theme = paper.ink.theme;
    let (mark, name, style) = match message.content.role {
        Role::User => ("▌ ", "You".to_owned(), theme.user.add_modifier(Modifier::BOLD)),
        Role::System => ("○ ", "System".to_owned(), theme.dim),
        _ => (
            "● ",
            message.content.agent.as_deref().map_or_else(|| "Assistant".to_owned(), one_line),
            theme.title(),
        ),
    };
    let at = Some(message.content.created_at).filter(|at| at.is_known());
    header_line(mark, &name, style, message.content.model.as_deref(), at, paper)
}

/// Who speaks, with what, when.
pub fn header_line(
    mark: &str,
    name: &str,
    style: Style,
    model: Option<&str>,
    at: Option<Timestamp>,
    paper: Paper<'_>,
) -> Line<'static> {
    let mut details = Vec::new();
    details.extend(model.map(one_line));
    details.extend(at.map(|at| clock_time(at, paper.time_zone)));
    let room = paper.width.saturating_sub(cells(name) + 5);
    let details = clip(&details.join(" · "), room);
    let mut spans = vec![Span::styled(mark.to_owned(), style), Span::styled(name.to_owned(), style)];
    if !details.is_empty() {
        spans.push(Span::styled(format!("  {details}"), paper.ink.theme.dim));
    }
    Line::from(spans)
}

/// The time of day, as a person reads it.
pub fn clock_time(at: Timestamp, zone: &jiff::tz::TimeZone) -> String {
    at.to_jiff().to_zoned(zone.clone()).strftime("%H:%M").to_string()
}

/// A number of tokens, short.
pub fn count(tokens: u64) -> String {
    match tokens {
        0..=9_999 => tokens.to_string(),
        10_000..=999_999 => format!("{}k", tokens / 1_000),
        _ => format!("{}.{}M", tokens / 1_000_000, tokens % 1_000_000 / 100_000),
    }
}

/// A fold: its handle, and what is in it when it is open.
fn fold(
    handle: Vec<Piece>,
    unfolded: bool,
    theme: &Theme,
    width: usize,
    body: impl FnOnce(usize) -> Vec<Line<'static>>,
) -> Vec<Line<'static>> {
    let mut spans = vec![Span::styled(if unfolded { "▾ " } else { "▸ " }, theme.frame)];
    let mut room = width.saturating_sub(2);
    for piece in handle {
        let text = clip(&piece.text, room);
        room = room.saturating_sub(cells(&text));
        spans.push(Span::styled(text, piece.style));
    }
    let mut lines = vec![Line::from(spans)];
    if unfolded {
        for line in body(width.saturating_sub(2)) {
            let mut spans = vec![Span::styled("│ ", theme.frame)];
            spans.extend(line.spans);
            lines.push(Line::from(spans));
        }
    }
    lines
}

/// Thinking as a fold.
pub fn thinking_lines(
    text: &str,
    unfolded: bool,
    live: bool,
    width: usize,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let style = theme.dim.add_modifier(Modifier::ITALIC);
    let title = match (live, text.lines().count()) {
        (true, _) => format!("Thinking: {}", one_line(last_line(text))),
        (false, 0) => "Thought (hidden by the provider)".to_owned(),
        (false, 1) => format!("Thought: {}", one_line(text)),
        (false, count) => format!("Thought · {count} lines"),
    };
    let handle = vec![Piece::new(title, style)];
    fold(handle, unfolded, theme, width, |width| wrap_plain(&shown(text), style, width))
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().next_back().unwrap_or_default()
}

fn part_lines(part: &Part, unfolded: bool, width: usize, paper: Paper<'_>) -> Vec<Line<'static>> {
    let theme = paper.ink.theme;
    match part {
        Part::Text { text } => markdown(text, width, paper.ink),
        Part::Thinking { text, .. } => thinking_lines(text, unfolded, false, width, theme),
        Part::ToolCall { name, input, .. } => {
            let handle = vec![
                Piece::new(one_line(name), theme.accent),
                Piece::new(format!("  {}", brief(input)), theme.dim),
            ];
            fold(handle, unfolded, theme, width, |width| {
                let pretty = serde_json::to_string_pretty(input).unwrap_or_default();
                markdown(&format!("~~~~~~json\n{pretty}\n~~~~~~"), width, paper.ink)
            })
        }
        Part::ToolResult { output, is_error, .. } => {
            let (mark, style) = if *is_error { ("✗ ", theme.bad) } else { ("✓ ", theme.good) };
            let rows = output.lines().count();
            let says = match rows {
                0 => "no output".to_owned(),
                1 => one_line(output),
                rows if *is_error => format!("{} · {rows} lines", one_line(last_line(output))),
                rows => format!("{rows} lines"),
            };
            let handle = vec![Piece::new(mark, style), Piece::new(says, theme.dim)];
            fold(handle, unfolded, theme, width, |width| output_lines(output, theme.dim, width))
        }
        Part::Attachment { media_type, name, bytes, .. } => {
            let name = name.as_deref().map_or_else(|| "attachment".to_owned(), one_line);
            let details = format!("  {} · {}", one_line(media_type), bytes_text(*bytes));
            wrap(&[Piece::new(format!("⎘ {name}"), theme.accent), Piece::new(details, theme.dim)], width)
        }
        Part::Opaque { source, raw } => {
            let kind = raw.get("type").and_then(Value::as_str).unwrap_or("part");
            let title = format!("{} · {} (kept as it came)", one_line(source), one_line(kind));
            fold(vec![Piece::new(title, theme.dim)], unfolded, theme, width, |width| {
                let pretty = serde_json::to_string_pretty(raw).unwrap_or_default();
                output_lines(&pretty, theme.dim, width)
            })
        }
    }
}

fn output_lines(output: &str, style: Style, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let total = output.lines().count();
    for (index, line) in output.lines().enumerate() {
        if lines.len() >= OUTPUT_ROWS {
            lines.push(Line::styled(format!("… {} more lines", total - index), style));
            break;
        }
        lines.extend(chop(&[Piece::new(shown(line), style)], width).into_iter().take(OUTPUT_ROWS));
    }
    lines
}

/// A tool's arguments on one line: the values say most.
fn brief(input: &Value) -> String {
    const LONGEST: usize = 400;
    match input {
        Value::Object(fields) if fields.len() == 1 => fields.values().next().map(brief).unwrap_or_default(),
        Value::Object(fields) => {
            let mut text = String::new();
            for (name, value) in fields {
                if text.len() > LONGEST {
                    break;
                }
                if !text.is_empty() {
                    text.push_str(", ");
                }
                text.push_str(&format!("{}: {}", one_line(name), clip(&brief(value), 60)));
            }
            text
        }
        Value::String(text) => one_line(text.get(..text.floor_char_boundary(LONGEST)).unwrap_or(text)),
        other => {
            let text = other.to_string();
            one_line(text.get(..text.floor_char_boundary(LONGEST)).unwrap_or(&text))
        }
    }
}

/// A number of bytes as a person reads it.
pub fn bytes_text(bytes: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = 1024 * KIB;
    const GIB: u64 = 1024 * MIB;
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..KIB => format!("{bytes} B"),
        KIB..MIB => format!("{} KiB", tenths(KIB)),
        MIB..GIB => format!("{} MiB", tenths(MIB)),
        _ => format!("{} GiB", tenths(GIB)),
    }
}
