//! Lays out one message as rows.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use hfs_core::{Message, MessageFlag, MessageStatus, Part, PermissionRecord, Role, Seq, readable_context};
use jiff::civil::Date;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use serde_json::Value;

use super::tool_call;
use crate::ports::OutputMode;
use crate::render::{MessageLayout, OwnedMessageLayout};
use crate::text::{
    Fragment, beginning, calendar_date, calendar_time, clock_time, display_width, format_bytes,
    format_duration, format_tokens, hard_wrap, markdown, plural, sanitize, sanitize_line, truncate, wrap,
    wrap_text,
};
use crate::theme::Theme;

/// Rows that are shared without copying.
pub type Lines = Arc<Vec<Line<'static>>>;

/// Maximum rows of a tool's output or an opaque part.
const OUTPUT_ROWS: usize = 200;
/// Indentation of the rows of a message.
pub const INDENT: &str = "  ";

/// Text with at most this many lines is highlighted at once, on the thread that handles keys.
const MAX_LINES_HIGHLIGHTED_AT_ONCE: usize = 60;
/// Text of at most this many bytes is laid out at once, without highlighting.
const MAX_BYTES_AT_ONCE: usize = 128 << 10;

/// How much of the layout is done on the thread that handles keys. A background task does the rest, so that a message of
/// any length delays no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LayoutCost {
    /// Everything is done at once.
    Low,
    /// Everything but the highlighting of code, which does not change the rows.
    Highlighting,
    /// Nothing. Until the layout arrives, the previous one is shown, or the number of bytes.
    High,
}

impl LayoutCost {
    fn of(message: &Message) -> Self {
        let bytes: usize = message.content.parts.iter().map(part_bytes).sum();
        let has_code = message.content.parts.iter().any(|part| match part {
            Part::Text { text } => text.contains("```") || text.contains("~~~") || text.contains("    "),
            Part::ToolCall { .. } => true,
            Part::Thinking { .. }
            | Part::ToolResult { .. }
            | Part::Attachment { .. }
            | Part::Opaque { .. } => false,
        });
        /// A line of code has about this many bytes.
        const LINE_BYTES: usize = 40;
        match bytes {
            MAX_BYTES_AT_ONCE.. => Self::High,
            bytes if has_code && bytes / LINE_BYTES > MAX_LINES_HIGHLIGHTED_AT_ONCE => Self::Highlighting,
            _ => Self::Low,
        }
    }
}

fn part_bytes(part: &Part) -> usize {
    match part {
        Part::Text { text } | Part::Thinking { text, .. } => text.len(),
        Part::ToolCall { input, .. } => value_bytes(input),
        Part::ToolResult { output, .. } => output.len(),
        Part::Attachment { .. } => 0,
        Part::Opaque { raw, .. } => value_bytes(raw),
    }
}

/// Returns the approximate length of a value as text.
fn value_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(value_bytes).sum::<usize>() + items.len(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + value_bytes(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 4,
    }
}

/// The values that a layout depends on, besides the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayoutKey {
    width: usize,
    revision: u64,
    /// Whether there is no blank row above the message.
    is_joined: bool,
    /// Whether the header shows the date: the message above is of another day, or the first message is not of today.
    shows_date: bool,
    /// Number of times that the user has toggled folds.
    toggles: u64,
}

/// What a background task has still to do for a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LayoutState {
    /// The rows are those of another width, or a placeholder.
    Stale,
    /// The rows are final, but the colours of code are missing. Highlighting takes longer than the rest.
    Plain,
    /// Nothing.
    Complete,
}

/// The layout of a message, as work for a background task.
#[derive(Debug, Clone)]
pub struct LayoutJob {
    message: Arc<Message>,
    key: LayoutKey,
    open_folds: Vec<bool>,
    layout: OwnedMessageLayout,
    /// The state of the layout after this work.
    state: LayoutState,
}

impl PartialEq for LayoutJob {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.message, &other.message) && self.key == other.key
    }
}

/// A layout that a background task has completed.
#[derive(Debug)]
pub struct FinishedLayout {
    message: Arc<Message>,
    layout: CachedLayout,
}

impl LayoutJob {
    /// Lays out the message.
    pub fn run(self) -> FinishedLayout {
        let is_open = |fold: usize| self.open_folds.get(fold).copied().unwrap_or_default();
        let (lines, fold_headers) = message_lines(&self.message, self.key, is_open, self.layout.as_layout());
        let layout = CachedLayout {
            key: self.key,
            state: self.state,
            lines: Arc::new(lines),
            fold_headers: fold_headers.into(),
        };
        FinishedLayout { message: self.message, layout }
    }
}

impl FinishedLayout {
    /// The sequence number of the message.
    pub fn seq(&self) -> Seq {
        self.message.seq
    }
}

/// A message with the state of its folds. The layout is cached until something that it depends on changes.
#[derive(Debug)]
pub struct MessageView {
    pub message: Arc<Message>,
    cost: LayoutCost,
    toggles: u64,
    /// State of all folds, if the user has toggled them together.
    all_open: Option<bool>,
    /// State of the folds that the user has toggled one by one since then.
    open: BTreeMap<usize, bool>,
    /// Computed once, because it is compared for each frame and the time zone does not change.
    date: OnceCell<Option<Date>>,
    cache: RefCell<Option<CachedLayout>>,
}

#[derive(Debug)]
struct CachedLayout {
    key: LayoutKey,
    state: LayoutState,
    lines: Lines,
    fold_headers: Arc<[usize]>,
}

impl MessageView {
    pub fn new(message: Arc<Message>) -> Self {
        let cost = LayoutCost::of(&message);
        Self {
            message,
            cost,
            toggles: 0,
            all_open: None,
            open: BTreeMap::new(),
            date: OnceCell::new(),
            cache: RefCell::new(None),
        }
    }

    /// Shows these rows, of the reply while it was received, until a background task has laid out the message.
    pub fn show_until_laid_out(&mut self, (lines, width, revision): (Lines, usize, u64)) {
        if self.cost != LayoutCost::Low {
            let key =
                LayoutKey { width, revision, is_joined: false, shows_date: false, toggles: self.toggles };
            let fold_headers = Arc::default();
            self.cache.replace(Some(CachedLayout { key, state: LayoutState::Plain, lines, fold_headers }));
        }
    }

    /// Returns the number of folds: thinking, tool calls, tool results, opaque parts and summaries.
    pub fn fold_count(&self) -> usize {
        self.message.content.parts.iter().filter(|part| is_fold(&self.message, part)).count()
    }

    /// Closes all folds if any is open, else opens all of them.
    pub fn toggle(&mut self, is_open_by_default: bool) {
        let any_open = (0..self.fold_count()).any(|fold| self.is_open(fold, is_open_by_default));
        self.all_open = Some(!any_open);
        self.open.clear();
        self.toggles += 1;
    }

    pub fn toggle_fold(&mut self, fold: usize, is_open_by_default: bool) {
        let is_open = self.is_open(fold, is_open_by_default);
        self.open.insert(fold, !is_open);
        self.toggles += 1;
    }

    fn is_open(&self, fold: usize, is_open_by_default: bool) -> bool {
        self.open.get(&fold).copied().or(self.all_open).unwrap_or(is_open_by_default)
    }

    /// Returns the rows that are headers of folds, as of the last layout.
    pub fn fold_headers(&self) -> Arc<[usize]> {
        self.cache.borrow().as_ref().map(|cached| Arc::clone(&cached.fold_headers)).unwrap_or_default()
    }

    fn key(&self, previous: Option<&Self>, layout: MessageLayout<'_>) -> LayoutKey {
        let is_joined = previous.is_none()
            || (self.message.content.role == Role::Tool && layout.output == OutputMode::Compact);
        let previous_date = previous.map_or(Some(layout.today), |previous| previous.date(layout));
        LayoutKey {
            width: layout.width,
            revision: layout.revision,
            is_joined,
            shows_date: self.date(layout) != previous_date,
            toggles: self.toggles,
        }
    }

    /// The date of the message, if its time is known.
    fn date(&self, layout: MessageLayout<'_>) -> Option<Date> {
        *self.date.get_or_init(|| {
            let at = Some(self.message.content.created_at).filter(|at| at.is_known());
            at.map(|at| calendar_date(at, layout.time_zone))
        })
    }

    /// Returns the rows. `previous` is the message above, if there is one. In compact output, a tool's result is shown
    /// directly below its call.
    pub fn lines(&self, previous: Option<&Self>, layout: MessageLayout<'_>) -> Lines {
        let key = self.key(previous, layout);
        if let Some(cached) = self.cache.borrow().as_ref()
            && cached.key == key
        {
            return Arc::clone(&cached.lines);
        }
        let mut slot = self.cache.borrow_mut();
        let (lines, fold_headers) = match (self.cost, slot.take()) {
            (LayoutCost::High, Some(previous)) => (previous.lines, previous.fold_headers),
            (LayoutCost::High, None) => (Arc::new(self.placeholder(key, layout)), Arc::default()),
            (cost @ (LayoutCost::Low | LayoutCost::Highlighting), _) => {
                let is_open = |fold| self.is_open(fold, layout.output == OutputMode::Verbose);
                let layout = if cost == LayoutCost::Low { layout } else { layout.without_syntax() };
                let (lines, fold_headers) = message_lines(&self.message, key, is_open, layout);
                (Arc::new(lines), fold_headers.into())
            }
        };
        let state = match self.cost {
            LayoutCost::Highlighting if layout.text_style.syntax.is_some() => LayoutState::Plain,
            LayoutCost::Low | LayoutCost::Highlighting => LayoutState::Complete,
            LayoutCost::High => LayoutState::Stale,
        };
        *slot = Some(CachedLayout { key, state, lines: Arc::clone(&lines), fold_headers });
        lines
    }

    fn placeholder(&self, key: LayoutKey, layout: MessageLayout<'_>) -> Vec<Line<'static>> {
        let bytes: usize = self.message.content.parts.iter().map(part_bytes).sum();
        let bytes = format_bytes(u64::try_from(bytes).unwrap_or(u64::MAX));
        let mut lines = Vec::new();
        if !key.is_joined {
            lines.push(Line::default());
        }
        lines.push(header(&self.message, key.shows_date, layout));
        let text = format!("{INDENT}{bytes} of text, one moment ...");
        lines.push(Line::styled(text, layout.text_style.theme.dim));
        lines
    }

    /// Whether the shown layout is not complete.
    pub fn needs_layout(&self) -> bool {
        self.cache.borrow().as_ref().is_some_and(|cached| cached.state != LayoutState::Complete)
    }

    /// Returns the next work on the layout: first the rows, then the colours of code.
    pub fn layout_job(&self, previous: Option<&Self>, layout: MessageLayout<'_>) -> LayoutJob {
        let is_open_by_default = layout.output == OutputMode::Verbose;
        let open_folds = (0..self.fold_count()).map(|fold| self.is_open(fold, is_open_by_default));
        let is_stale = self.cache.borrow().as_ref().is_none_or(|cached| cached.state == LayoutState::Stale);
        let (state, rows) = if is_stale && layout.text_style.syntax.is_some() {
            (LayoutState::Plain, layout.without_syntax())
        } else {
            (LayoutState::Complete, layout)
        };
        LayoutJob {
            message: Arc::clone(&self.message),
            key: self.key(previous, layout),
            open_folds: open_folds.collect(),
            layout: rows.to_owned(),
            state,
        }
    }

    /// Uses a layout that was completed in the background, unless something has changed since.
    pub fn set_layout(&mut self, finished: FinishedLayout) {
        let is_current = Arc::ptr_eq(&finished.message, &self.message)
            && self.cache.borrow().as_ref().is_none_or(|cached| cached.key == finished.layout.key);
        if is_current {
            self.cache.replace(Some(finished.layout));
        }
    }
}

/// Whether a part is shown as a fold.
fn is_fold(message: &Message, part: &Part) -> bool {
    match part {
        Part::Thinking { .. } | Part::ToolCall { .. } | Part::ToolResult { .. } => true,
        Part::Opaque { .. } => PermissionRecord::read(part).is_none(),
        Part::Text { .. } if is_summary(message) => true,
        Part::Text { text } => match message.content.role {
            Role::User => is_long(&readable_context(message.content.split_text(text).0)),
            Role::System => is_long(text),
            Role::Assistant | Role::Tool => false,
        },
        Part::Attachment { .. } => false,
    }
}

/// Whether context, which neither the user nor the agent wrote, has more than a few lines.
fn is_long(context: &str) -> bool {
    const LINES: usize = 4;
    const BYTES: usize = 400;
    context.len() > BYTES || context.lines().nth(LINES).is_some()
}

/// Whether the message contains nothing but empty text.
fn is_blank(message: &Message) -> bool {
    message.content.parts.iter().all(|part| matches!(part, Part::Text { text } if text.trim().is_empty()))
}

/// Whether the message is a summary of those before it.
fn is_summary(message: &Message) -> bool {
    message.content.has_flag(MessageFlag::CompactSummary)
}

/// Returns the rows of a message, and which of them are headers of folds.
fn message_lines(
    message: &Message,
    key: LayoutKey,
    is_open: impl Fn(usize) -> bool,
    layout: MessageLayout<'_>,
) -> (Vec<Line<'static>>, Vec<usize>) {
    let theme = layout.text_style.theme;
    let mut lines = Vec::new();
    if !key.is_joined {
        lines.push(Line::default());
    }
    let is_context = message.content.is_context();
    let mark = match message.content.role {
        Role::User if is_context => Span::styled("▌ ", theme.dim),
        Role::User => Span::styled("▌ ", theme.user),
        _ => Span::raw(INDENT),
    };
    if message.content.role != Role::Tool {
        lines.push(header(message, key.shows_date, layout));
    }
    let width = layout.width.saturating_sub(display_width(INDENT));
    let marked = |line: Line<'static>| {
        let mut spans = vec![mark.clone()];
        spans.extend(line.spans);
        Line::from(spans)
    };
    let mut fold_headers = Vec::new();
    let parts = if is_blank(message) { &[] } else { message.content.parts.as_slice() };
    if parts.is_empty()
        && message.content.status == MessageStatus::Complete
        && let Some(header) = lines.last_mut().filter(|_| message.content.role != Role::Tool)
    {
        header.push_span(Span::styled("  no text", theme.dim));
    }
    for part in parts {
        let content = match (part, message.content.role) {
            (Part::Text { text }, Role::User) if is_summary(message) => {
                summary_lines(text, is_open(fold_headers.len()), width, layout)
            }
            // The user's text is not rendered as Markdown.
            (Part::Text { text }, Role::User) => {
                let (context, own) = message.content.split_text(text);
                let context = readable_context(context);
                let mut rows = match context.as_ref() {
                    "" => Vec::new(),
                    context if is_long(context) => {
                        context_lines(context, is_open(fold_headers.len()), width, theme)
                    }
                    context => wrap_text(&sanitize(context), theme.dim, width),
                };
                if !own.is_empty() {
                    rows.extend(wrap_text(&sanitize(own), theme.text, width));
                }
                rows
            }
            (Part::Text { text }, Role::System) if is_long(text) => {
                context_lines(text, is_open(fold_headers.len()), width, theme)
            }
            (Part::Text { text }, Role::System) => wrap_text(&sanitize(text), theme.dim, width),
            (Part::Text { text }, _) => markdown(text, width, layout.text_style),
            // The number of folds so far is the index of the next fold.
            (part, _) => {
                let duration_ms = duration_ms(message, part);
                part_lines(part, is_open(fold_headers.len()), width, layout, duration_ms)
            }
        };
        if is_fold(message, part) {
            fold_headers.push(lines.len());
        }
        lines.extend(content.into_iter().map(marked));
    }
    if message.content.status != MessageStatus::Complete {
        lines.extend(wrap_text(&status_text(message), theme.warn, width).into_iter().map(marked));
    }
    let usage = match message.content.usage {
        Some(usage) => Some(format!(
            "{} in · {} out",
            format_tokens(usage.prompt_tokens),
            format_tokens(usage.completion_tokens)
        )),
        None => message.content.is_reply_of_model().then(|| "tokens unknown".to_owned()),
    };
    if let Some(text) = usage.filter(|_| layout.output == OutputMode::Verbose) {
        lines.extend(wrap_text(&text, theme.dim, width).into_iter().map(marked));
    }
    (lines, fold_headers)
}

/// Bytes at the end of a message that are shown while it is saved, which takes milliseconds.
const UNSAVED_BYTES: usize = 16 << 10;

/// Returns the rows of a message that is not durable yet.
pub fn unsaved_message_lines(text: &str, layout: MessageLayout<'_>) -> Lines {
    let theme = layout.text_style.theme;
    let width = layout.width.saturating_sub(display_width(INDENT));
    let mut head = header_line("▌ ", "You", theme.user.add_modifier(Modifier::BOLD), None, None, layout);
    head.spans.push(Span::styled("  not saved yet", theme.dim));
    let mut lines = vec![Line::default(), head];
    let start = text.ceil_char_boundary(text.len().saturating_sub(UNSAVED_BYTES));
    let text = text.get(start..).unwrap_or_default();
    if start > 0 {
        let hidden = format_bytes(u64::try_from(start).unwrap_or(u64::MAX));
        lines.push(Line::styled(format!("{INDENT}{hidden} before this ..."), theme.dim));
    }
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
        (MessageStatus::Streaming, _) => "… still being written".to_owned(),
        (_, Some(reason)) => format!("✗ interrupted: {}", sanitize_line(reason)),
        (_, None) => "✗ interrupted".to_owned(),
    }
}

fn header(message: &Message, shows_date: bool, layout: MessageLayout<'_>) -> Line<'static> {
    let theme = layout.text_style.theme;
    let (mark, name, style) = match message.content.role {
        Role::User if is_summary(message) => ("▌ ", "Summary".to_owned(), theme.dim),
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
    let format = if shows_date { calendar_time } else { clock_time };
    let time = at.map(|at| format(at, layout.time_zone));
    header_line(mark, &name, style, message.content.model.as_deref(), time, layout)
}

/// Returns the header of a message: author, model and time.
pub fn header_line(
    mark: &str,
    name: &str,
    style: Style,
    model: Option<&str>,
    time: Option<String>,
    layout: MessageLayout<'_>,
) -> Line<'static> {
    let mut details = Vec::new();
    details.extend(model.map(sanitize_line));
    details.extend(time);
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
    let mut lines = vec![fold_header(header, is_open, theme, width)];
    if is_open {
        lines.extend(fold_body(body(width.saturating_sub(FOLD_BAR_WIDTH)), theme));
    }
    lines
}

/// Width of the bar beside the body of a fold.
const FOLD_BAR_WIDTH: usize = 2;

fn fold_header(header: Vec<Fragment>, is_open: bool, theme: &Theme, width: usize) -> Line<'static> {
    let mut spans = vec![Span::styled(if is_open { "▾ " } else { "▸ " }, theme.border)];
    let mut room = width.saturating_sub(2);
    for fragment in header {
        let text = truncate(&fragment.text, room);
        room = room.saturating_sub(display_width(&text));
        spans.push(Span::styled(text, fragment.style));
    }
    Line::from(spans)
}

fn fold_body(body: Vec<Line<'static>>, theme: &Theme) -> impl Iterator<Item = Line<'static>> {
    let border = theme.border;
    body.into_iter().map(move |line| {
        let mut spans = vec![Span::styled("│ ", border)];
        spans.extend(line.spans);
        Line::from(spans)
    })
}

/// Returns the header of a thinking part. While it is received (`is_streaming`), the header shows its last line.
pub fn thinking_header(
    text: &str,
    is_open: bool,
    is_streaming: bool,
    width: usize,
    theme: &Theme,
) -> Line<'static> {
    let title = if is_streaming {
        format!("Thinking: {}", one_line(last_line(text)))
    } else {
        match text.lines().count() {
            0 => "Thought (hidden by the provider)".to_owned(),
            1 if is_open => "Thought".to_owned(),
            1 => format!("Thought: {}", without_emphasis(text)),
            count if is_open => format!("Thought · {count} lines"),
            count => format!("Thought · {count} lines: {}", without_emphasis(first_line(text))),
        }
    };
    fold_header(vec![Fragment::new(title, thinking_style(theme))], is_open, theme, width)
}

/// Returns the beginning of a thought on one line. Models write its heading in bold.
fn without_emphasis(text: &str) -> String {
    one_line(text).replace("**", "")
}

fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default()
}

/// Returns rows of the body of a thinking part.
pub fn thinking_body(text: &str, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let rows = wrap_text(&sanitize(text), thinking_style(theme), width.saturating_sub(FOLD_BAR_WIDTH));
    fold_body(rows, theme).collect()
}

fn thinking_style(theme: &Theme) -> Style {
    theme.dim.add_modifier(Modifier::ITALIC)
}

/// Returns the beginning of a text on one line, more than fits into a row.
fn one_line(text: &str) -> String {
    const BYTES: usize = 2_000;
    sanitize_line(beginning(text, BYTES))
}

/// Returns the rows of a summary, which the model sees instead of the messages above it.
fn summary_lines(text: &str, is_open: bool, width: usize, layout: MessageLayout<'_>) -> Vec<Line<'static>> {
    let theme = layout.text_style.theme;
    let count = text.lines().count();
    let title =
        format!("The model sees this summary instead of the messages above · {}", plural(count, "line"));
    fold(vec![Fragment::new(title, theme.dim)], is_open, theme, width, |width| {
        markdown(text, width, layout.text_style)
    })
}

/// Returns the rows of context: instructions, or what a tool inserted in the user's name.
fn context_lines(text: &str, is_open: bool, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let count = plural(text.lines().count(), "line");
    let title = format!("{count} of context: {}", one_line(first_line(text)));
    fold(vec![Fragment::new(title, theme.dim)], is_open, theme, width, |width| {
        wrap_text(&sanitize(text), theme.dim, width)
    })
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().next_back().unwrap_or_default()
}

/// The mark of a call that has no result yet, and of its output.
const RUNNING: &str = "◌ ";

/// Returns the rows of a call that has no complete result, or of its output so far; `None` for other parts.
pub fn running_lines(
    part: &Part,
    is_open: bool,
    width: usize,
    layout: MessageLayout<'_>,
) -> Option<Vec<Line<'static>>> {
    let theme = layout.text_style.theme;
    let mark = Fragment::new(RUNNING, theme.accent);
    match part {
        Part::ToolCall { name, input, .. } => {
            let header = std::iter::once(mark)
                .chain(call_header(name, input, theme, width.saturating_sub(4)))
                .collect();
            Some(fold(header, is_open, theme, width, |width| tool_call::lines(input, width, layout)))
        }
        Part::ToolResult { output, .. } => {
            let header = vec![mark, Fragment::new(one_line(last_line(output)), theme.dim)];
            Some(fold(header, is_open, theme, width, |width| output_lines(output, theme.dim, width)))
        }
        Part::Text { .. } | Part::Thinking { .. } | Part::Attachment { .. } | Part::Opaque { .. } => None,
    }
}

fn call_header(name: &str, input: &Value, theme: &Theme, width: usize) -> [Fragment; 2] {
    let name = sanitize_line(name);
    let summary = tool_call::summary(input, width.saturating_sub(display_width(&name) + 2));
    [Fragment::new(name, theme.accent), Fragment::new(format!("  {summary}"), theme.dim)]
}

/// How long the call of a result took, if its agent is a program of its own.
fn duration_ms(message: &Message, part: &Part) -> Option<u64> {
    let Part::ToolResult { id, .. } = part else { return None };
    message.content.extra.get("acp")?.get("durations")?.get(id)?.as_u64()
}

/// Returns the rows of a part of a message of an agent or a tool. `duration_ms` is how long the call of a result took.
pub fn part_lines(
    part: &Part,
    is_open: bool,
    width: usize,
    layout: MessageLayout<'_>,
    duration_ms: Option<u64>,
) -> Vec<Line<'static>> {
    let theme = layout.text_style.theme;
    match part {
        Part::Text { text } => markdown(text, width, layout.text_style),
        Part::Thinking { text, .. } => {
            let mut lines = vec![thinking_header(text, is_open, false, width, theme)];
            if is_open {
                lines.extend(thinking_body(text, width, theme));
            }
            lines
        }
        Part::ToolCall { name, input, .. } => {
            let header = call_header(name, input, theme, width.saturating_sub(2)).into();
            fold(header, is_open, theme, width, |width| tool_call::lines(input, width, layout))
        }
        Part::ToolResult { output, is_error, .. } => {
            let (mark, style) = if *is_error { ("✗ ", theme.bad) } else { ("✓ ", theme.good) };
            let rows = output.lines().count();
            let json = json_output(output);
            let summary = match rows {
                0 => "no output".to_owned(),
                1 => json.as_ref().map_or_else(
                    || one_line(output),
                    |json| tool_call::summary(json, width.saturating_sub(4)),
                ),
                rows if *is_error => format!("{} · {rows} lines", one_line(last_line(output))),
                rows => format!("{rows} lines"),
            };
            // The duration is shown whole after what fits of the summary.
            let duration = duration_ms.map(|ms| format!(" · {}", format_duration(ms))).unwrap_or_default();
            let room = width.saturating_sub(4 + display_width(&duration));
            let summary = format!("{}{duration}", truncate(&summary, room));
            let header = vec![Fragment::new(mark, style), Fragment::new(summary, theme.dim)];
            fold(header, is_open, theme, width, |width| match &json {
                Some(json) => limited_output(tool_call::lines(json, width, layout), theme.dim),
                None => output_lines(output, theme.dim, width),
            })
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
            if let Some(record) = PermissionRecord::read(part) {
                return permission_lines(&record, width, layout);
            }
            let kind = raw.get("type").and_then(Value::as_str).unwrap_or("part");
            let title = format!("{} · {} (kept verbatim)", sanitize_line(source), sanitize_line(kind));
            fold(vec![Fragment::new(title, theme.dim)], is_open, theme, width, |width| {
                let pretty = serde_json::to_string_pretty(raw).unwrap_or_default();
                output_lines(&pretty, theme.dim, width)
            })
        }
    }
}

/// Returns the rows of a decision about a call. That a call was allowed is what the user expects.
fn permission_lines(
    record: &PermissionRecord,
    width: usize,
    layout: MessageLayout<'_>,
) -> Vec<Line<'static>> {
    let theme = layout.text_style.theme;
    match (record.allowed, layout.output) {
        (true, OutputMode::Compact) => Vec::new(),
        (true, OutputMode::Verbose) => wrap_text(&sanitize_line(&record.describe()), theme.dim, width),
        (false, OutputMode::Compact | OutputMode::Verbose) => {
            wrap_text(&sanitize_line(&record.describe()), theme.warn, width)
        }
    }
}

/// Reads the output of a tool as JSON, if it is an object or a list on one line, which is hard to read. `None` also if a number
/// or a character would be shown in another form than the tool has given it.
fn json_output(output: &str) -> Option<Value> {
    /// Reading it delays no key.
    const MAX_BYTES: usize = 64 << 10;
    let output = output.trim();
    let is_container = output.starts_with(['{', '[']);
    if !is_container || output.len() > MAX_BYTES || output.contains('\n') {
        return None;
    }
    let value: Value = serde_json::from_str(output).ok()?;
    let without_spaces = |text: &str| text.replace(' ', "");
    (without_spaces(&value.to_string()) == without_spaces(output)).then_some(value)
}

fn limited_output(mut rows: Vec<Line<'static>>, style: Style) -> Vec<Line<'static>> {
    if rows.len() > OUTPUT_ROWS {
        let more = rows.len() - OUTPUT_ROWS;
        rows.truncate(OUTPUT_ROWS);
        rows.push(Line::styled(format!("… {}", plural(more, "more line")), style));
    }
    rows
}

fn output_lines(output: &str, style: Style, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let total = output.lines().count();
    for (index, line) in output.lines().enumerate() {
        if lines.len() >= OUTPUT_ROWS {
            lines.push(Line::styled(format!("… {}", plural(total - index, "more line")), style));
            break;
        }
        lines.extend(hard_wrap(&[Fragment::new(sanitize(line), style)], width).into_iter().take(OUTPUT_ROWS));
    }
    lines
}
