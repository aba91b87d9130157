//! Lays out one message as rows.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use hfs_core::{Message, MessageStatus, Part, Role, Timestamp};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use serde_json::Value;

use crate::ports::OutputMode;
use crate::render::MessageLayout;
use crate::text::{
    Fragment, clock_time, display_width, format_bytes, format_tokens, hard_wrap, markdown, sanitize,
    sanitize_line, truncate, wrap, wrap_text,
};
use crate::theme::Theme;

/// Rows that are shared without copying.
pub type Lines = Arc<Vec<Line<'static>>>;

/// Maximum rows of a tool's output or an opaque part.
const OUTPUT_ROWS: usize = 200;
/// Indentation of the rows of a message.
pub const INDENT: &str = "  ";

/// A message with the state of its folds. The layout is cached until something that it depends on changes.
#[derive(Debug)]
pub struct MessageView {
    pub message: Arc<Message>,
    /// State of all folds, if the user has toggled them together.
    all_open: Option<bool>,
    /// State of the folds that the user has toggled one by one since then.
    open: BTreeMap<usize, bool>,
    cache: RefCell<Option<CachedLayout>>,
}

#[derive(Debug)]
struct CachedLayout {
    width: usize,
    revision: u64,
    /// Whether there is no blank row above the message.
    is_joined: bool,
    lines: Lines,
    fold_headers: Arc<[usize]>,
}

impl MessageView {
    pub fn new(message: Arc<Message>) -> Self {
        Self { message, all_open: None, open: BTreeMap::new(), cache: RefCell::new(None) }
    }

    /// Returns the number of folds: thinking, tool calls, tool results and opaque parts.
    pub fn fold_count(&self) -> usize {
        self.message.content.parts.iter().filter(|part| is_fold(part)).count()
    }

    /// Closes all folds if any is open, else opens all of them.
    pub fn toggle(&mut self, is_open_by_default: bool) {
        let any_open = (0..self.fold_count()).any(|fold| self.is_open(fold, is_open_by_default));
        self.all_open = Some(!any_open);
        self.open.clear();
        self.cache.replace(None);
    }

    pub fn toggle_fold(&mut self, fold: usize, is_open_by_default: bool) {
        let is_open = self.is_open(fold, is_open_by_default);
        self.open.insert(fold, !is_open);
        self.cache.replace(None);
    }

    fn is_open(&self, fold: usize, is_open_by_default: bool) -> bool {
        self.open.get(&fold).copied().or(self.all_open).unwrap_or(is_open_by_default)
    }

    /// Returns the rows that are headers of folds, as of the last layout.
    pub fn fold_headers(&self) -> Arc<[usize]> {
        self.cache.borrow().as_ref().map(|cached| Arc::clone(&cached.fold_headers)).unwrap_or_default()
    }

    /// Returns the rows. `previous` is the message above, if there is one. In compact output, a tool's result is shown
    /// directly below its call.
    pub fn lines(&self, previous: Option<&Self>, layout: MessageLayout<'_>) -> Lines {
        let is_joined = previous.is_none()
            || (self.message.content.role == Role::Tool && layout.output == OutputMode::Compact);
        if let Some(cached) = self.cache.borrow().as_ref()
            && (cached.width, cached.revision, cached.is_joined) == (layout.width, layout.revision, is_joined)
        {
            return Arc::clone(&cached.lines);
        }
        let is_open = |fold| self.is_open(fold, layout.output == OutputMode::Verbose);
        let (lines, fold_headers) = message_lines(&self.message, is_joined, is_open, layout);
        let lines = Arc::new(lines);
        let cached = CachedLayout {
            width: layout.width,
            revision: layout.revision,
            is_joined,
            lines: Arc::clone(&lines),
            fold_headers: fold_headers.into(),
        };
        self.cache.replace(Some(cached));
        lines
    }
}

/// Whether a part is shown as a fold.
const fn is_fold(part: &Part) -> bool {
    matches!(
        part,
        Part::Thinking { .. } | Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Opaque { .. }
    )
}

/// Returns the rows of a message, and which of them are headers of folds.
fn message_lines(
    message: &Message,
    is_joined: bool,
    is_open: impl Fn(usize) -> bool,
    layout: MessageLayout<'_>,
) -> (Vec<Line<'static>>, Vec<usize>) {
    let theme = layout.text_style.theme;
    let mut lines = Vec::new();
    if !is_joined {
        lines.push(Line::default());
    }
    let is_context = message.content.is_context();
    let mark = match message.content.role {
        Role::User if is_context => Span::styled("▌ ", theme.dim),
        Role::User => Span::styled("▌ ", theme.user),
        _ => Span::raw(INDENT),
    };
    if message.content.role != Role::Tool {
        lines.push(header(message, layout));
    }
    let width = layout.width.saturating_sub(display_width(INDENT));
    let marked = |line: Line<'static>| {
        let mut spans = vec![mark.clone()];
        spans.extend(line.spans);
        Line::from(spans)
    };
    let mut fold_headers = Vec::new();
    for part in &message.content.parts {
        let content = match (part, message.content.role) {
            // The user's text is not rendered as Markdown.
            (Part::Text { text }, Role::User) if is_context => wrap_text(&sanitize(text), theme.dim, width),
            (Part::Text { text }, Role::User) => wrap_text(&sanitize(text), theme.text, width),
            (Part::Text { text }, Role::System) => wrap_text(&sanitize(text), theme.dim, width),
            (Part::Text { text }, _) => markdown(text, width, layout.text_style),
            // The number of folds so far is the index of the next fold.
            (part, _) => part_lines(part, is_open(fold_headers.len()), width, layout),
        };
        if is_fold(part) {
            fold_headers.push(lines.len());
        }
        lines.extend(content.into_iter().map(marked));
    }
    if message.content.status != MessageStatus::Complete {
        lines.extend(wrap_text(&status_text(message), theme.warn, width).into_iter().map(marked));
    }
    if layout.output == OutputMode::Verbose
        && let Some(usage) = message.content.usage
    {
        let text = format!(
            "{} in · {} out",
            format_tokens(usage.prompt_tokens),
            format_tokens(usage.completion_tokens)
        );
        lines.extend(wrap_text(&text, theme.dim, width).into_iter().map(marked));
    }
    (lines, fold_headers)
}

/// Returns the rows of a message that is not durable yet.
pub fn unsaved_message_lines(text: &str, layout: MessageLayout<'_>) -> Lines {
    let theme = layout.text_style.theme;
    let width = layout.width.saturating_sub(display_width(INDENT));
    let mut head = header_line("▌ ", "You", theme.user.add_modifier(Modifier::BOLD), None, None, layout);
    head.spans.push(Span::styled("  not saved yet", theme.dim));
    let mut lines = vec![Line::default(), head];
    for line in wrap_text(&sanitize(text), theme.dim, width) {
        let mut spans = vec![Span::styled("▌ ", theme.dim)];
        spans.extend(line.spans);
        lines.push(Line::from(spans));
    }
    Arc::new(lines)
}

fn status_text(message: &Message) -> String {
    let reason =
        message.content.extra.get("error").and_then(|error| error.get("message")).and_then(Value::as_str);
    match (message.content.status, reason) {
        (MessageStatus::Streaming, _) => "… being written by another process".to_owned(),
        (_, Some(reason)) => format!("✗ interrupted: {}", sanitize_line(reason)),
        (_, None) => "✗ interrupted".to_owned(),
    }
}

fn header(message: &Message, layout: MessageLayout<'_>) -> Line<'static> {
    let theme = layout.text_style.theme;
    let (mark, name, style) = match message.content.role {
        Role::User if message.content.is_context() => ("▌ ", "Context".to_owned(), theme.dim),
        Role::User => ("▌ ", "You".to_owned(), theme.user.add_modifier(Modifier::BOLD)),
        Role::System => ("○ ", "System".to_owned(), theme.dim),
        _ => (
            "● ",
            message.content.agent.as_deref().map_or_else(|| "Assistant".to_owned(), sanitize_line),
            theme.title(),
        ),
    };
    let at = Some(message.content.created_at).filter(|at| at.is_known());
    header_line(mark, &name, style, message.content.model.as_deref(), at, layout)
}

/// Returns the header of a message: author, model and time.
pub fn header_line(
    mark: &str,
    name: &str,
    style: Style,
    model: Option<&str>,
    at: Option<Timestamp>,
    layout: MessageLayout<'_>,
) -> Line<'static> {
    let mut details = Vec::new();
    details.extend(model.map(sanitize_line));
    details.extend(at.map(|at| clock_time(at, layout.time_zone)));
    let room = layout.width.saturating_sub(display_width(name) + 5);
    let details = truncate(&details.join(" · "), room);
    let mut spans = vec![Span::styled(mark.to_owned(), style), Span::styled(name.to_owned(), style)];
    if !details.is_empty() {
        spans.push(Span::styled(format!("  {details}"), layout.text_style.theme.dim));
    }
    Line::from(spans)
}

/// Returns the rows of a fold: its header, and its body if it is open.
fn fold(
    header: Vec<Fragment>,
    is_open: bool,
    theme: &Theme,
    width: usize,
    body: impl FnOnce(usize) -> Vec<Line<'static>>,
) -> Vec<Line<'static>> {
    let mut spans = vec![Span::styled(if is_open { "▾ " } else { "▸ " }, theme.border)];
    let mut room = width.saturating_sub(2);
    for fragment in header {
        let text = truncate(&fragment.text, room);
        room = room.saturating_sub(display_width(&text));
        spans.push(Span::styled(text, fragment.style));
    }
    let mut lines = vec![Line::from(spans)];
    if is_open {
        for line in body(width.saturating_sub(2)) {
            let mut spans = vec![Span::styled("│ ", theme.border)];
            spans.extend(line.spans);
            lines.push(Line::from(spans));
        }
    }
    lines
}

/// Returns the rows of a thinking part. While it is received (`is_streaming`), its header shows its last line.
pub fn thinking_lines(
    text: &str,
    is_open: bool,
    is_streaming: bool,
    width: usize,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let style = theme.dim.add_modifier(Modifier::ITALIC);
    let title = match (is_streaming, text.lines().count()) {
        (true, _) => format!("Thinking: {}", sanitize_line(last_line(text))),
        (false, 0) => "Thought (hidden by the provider)".to_owned(),
        (false, 1) => format!("Thought: {}", sanitize_line(text)),
        (false, count) => format!("Thought · {count} lines"),
    };
    let header = vec![Fragment::new(title, style)];
    fold(header, is_open, theme, width, |width| wrap_text(&sanitize(text), style, width))
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().next_back().unwrap_or_default()
}

fn part_lines(part: &Part, is_open: bool, width: usize, layout: MessageLayout<'_>) -> Vec<Line<'static>> {
    let theme = layout.text_style.theme;
    match part {
        Part::Text { text } => markdown(text, width, layout.text_style),
        Part::Thinking { text, .. } => thinking_lines(text, is_open, false, width, theme),
        Part::ToolCall { name, input, .. } => {
            let header = vec![
                Fragment::new(sanitize_line(name), theme.accent),
                Fragment::new(format!("  {}", summarize_input(input)), theme.dim),
            ];
            fold(header, is_open, theme, width, |width| {
                let pretty = serde_json::to_string_pretty(input).unwrap_or_default();
                // No line of formatted JSON begins with a tilde, so the content cannot end the code block.
                markdown(&format!("~~~~~~json\n{pretty}\n~~~~~~"), width, layout.text_style)
            })
        }
        Part::ToolResult { output, is_error, .. } => {
            let (mark, style) = if *is_error { ("✗ ", theme.bad) } else { ("✓ ", theme.good) };
            let rows = output.lines().count();
            let summary = match rows {
                0 => "no output".to_owned(),
                1 => sanitize_line(output),
                rows if *is_error => format!("{} · {rows} lines", sanitize_line(last_line(output))),
                rows => format!("{rows} lines"),
            };
            let header = vec![Fragment::new(mark, style), Fragment::new(summary, theme.dim)];
            fold(header, is_open, theme, width, |width| output_lines(output, theme.dim, width))
        }
        Part::Attachment { media_type, name, bytes, .. } => {
            let name = name.as_deref().map_or_else(|| "attachment".to_owned(), sanitize_line);
            let details = format!("  {} · {}", sanitize_line(media_type), format_bytes(*bytes));
            wrap(
                &[Fragment::new(format!("⎘ {name}"), theme.accent), Fragment::new(details, theme.dim)],
                width,
            )
        }
        Part::Opaque { source, raw } => {
            let kind = raw.get("type").and_then(Value::as_str).unwrap_or("part");
            let title = format!("{} · {} (kept verbatim)", sanitize_line(source), sanitize_line(kind));
            fold(vec![Fragment::new(title, theme.dim)], is_open, theme, width, |width| {
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
        lines.extend(hard_wrap(&[Fragment::new(sanitize(line), style)], width).into_iter().take(OUTPUT_ROWS));
    }
    lines
}

/// Summarizes a tool's arguments in one line. If there is only one argument, its name is left out.
fn summarize_input(input: &Value) -> String {
    const MAX_BYTES: usize = 400;
    match input {
        Value::Object(fields) if fields.len() == 1 => {
            fields.values().next().map(summarize_input).unwrap_or_default()
        }
        Value::Object(fields) => {
            let mut text = String::new();
            for (name, value) in fields {
                if text.len() > MAX_BYTES {
                    break;
                }
                if !text.is_empty() {
                    text.push_str(", ");
                }
                text.push_str(&format!("{}: {}", sanitize_line(name), truncate(&summarize_input(value), 60)));
            }
            text
        }
        Value::String(text) => sanitize_line(text.get(..text.floor_char_boundary(MAX_BYTES)).unwrap_or(text)),
        other => {
            let text = other.to_string();
            sanitize_line(text.get(..text.floor_char_boundary(MAX_BYTES)).unwrap_or(&text))
        }
    }
}
