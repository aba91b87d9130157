//! Draws the model. Drawing is pure: the same model always gives the same frame.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use crate::canvas;
use crate::chat::SaveState;
use crate::model::{Model, MouseSelection};
use crate::ports::{Node, PluginRowState, Slot, Widget};
use crate::text::{display_width, fitting_name, format_tokens, sanitize_line, truncate};
use crate::theme::Theme;

/// Minimum width and height of the terminal.
const MIN_SIZE: (u16, u16) = (30, 8);
/// Maximum rows of one plugin widget.
const WIDGET_ROWS: usize = 12;

/// Draws the model and returns the position of the cursor, if it is visible.
pub fn view(model: &Model, frame: &mut Frame<'_>) -> Option<(u16, u16)> {
    let area = frame.area();
    if area.width < MIN_SIZE.0 || area.height < MIN_SIZE.1 {
        let text = format!("{}x{} is too small", area.width, area.height);
        canvas::line(frame.buffer_mut(), area, &Line::from(text));
        return None;
    }
    let cursor = draw_layers(model, frame.buffer_mut(), area);
    post_process(model, frame.buffer_mut());
    let cursor =
        cursor.map(|(x, y)| (x.min(area.right().saturating_sub(1)), y.min(area.bottom().saturating_sub(1))));
    if let Some(cursor) = cursor {
        frame.set_cursor_position(cursor);
    }
    cursor
}

fn draw_layers(model: &Model, buffer: &mut Buffer, area: Rect) -> Option<(u16, u16)> {
    let above_status = Rect { height: area.height.saturating_sub(1), ..area };
    let mut cursor = match &model.screen {
        None => Some(crate::chat::view::draw(model, buffer)),
        Some(screen) => {
            let cx = model.context();
            let (title, subtitle, keys) = (screen.title(), screen.subtitle(&cx), screen.key_hints());
            let body = canvas::screen(buffer, above_status, &model.render, title, &subtitle, &keys);
            screen.draw(buffer, body, &cx)
        }
    };
    draw_status_bar(model, buffer, Rect { y: above_status.bottom(), height: 1, ..area });
    for modal in &model.modals {
        cursor = modal.draw(buffer, above_status, &model.render, &model.modal_context());
    }
    cursor
}

/// Highlights the mouse selection, reduces colours to those of the terminal, and replaces control characters. The last
/// step is a safeguard: all text should have been sanitized before.
fn post_process(model: &Model, buffer: &mut Buffer) {
    let theme = &model.render.theme;
    let (width, reduce) = (buffer.area.width, theme.is_reduced());
    for (index, cell) in buffer.content.iter_mut().enumerate() {
        let x = canvas::as_u16(index % usize::from(width));
        let y = canvas::as_u16(index / usize::from(width));
        if let Some(selection) = &model.mouse_selection
            && selection.from != selection.to
            && selection.columns(y, width).is_some_and(|columns| columns.contains(&x))
        {
            cell.modifier.toggle(Modifier::REVERSED);
        }
        if reduce {
            cell.fg = theme.reduce(cell.fg);
            cell.bg = theme.reduce(cell.bg);
        }
        if cell.symbol().chars().any(char::is_control) {
            cell.set_symbol("\u{FFFD}");
        }
    }
}

/// Returns the selected text of a frame. In the area of the messages, margins and bars are left out, and rows that were
/// wrapped are joined. Elsewhere each row is a line.
#[must_use]
pub fn selected_text(buffer: &Buffer, selection: MouseSelection, text_area: Option<Rect>) -> String {
    let starts_in = |area: &Rect| area.contains(selection.from.into());
    match text_area.filter(starts_in) {
        Some(area) => selected_message_text(buffer, selection, area),
        None => {
            let columns = |y| selection.columns(y, buffer.area.width);
            let rows = (0..buffer.area.height).filter_map(|y| Some(row_text(buffer, y, columns(y)?)));
            rows.map(|row| row.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
        }
    }
}

/// Columns of a row of the messages before the text: the mark of the author, or the same width of spaces.
const MESSAGE_MARGIN: u16 = 2;

fn selected_message_text(buffer: &Buffer, selection: MouseSelection, area: Rect) -> String {
    let mut text = String::new();
    // The cells after the text of the last row, and the spaces at the end of that text.
    let mut last_row = None::<(usize, usize)>;
    for y in area.top()..area.bottom() {
        let Some(columns) = selection.columns(y, buffer.area.width) else { continue };
        let start = columns.start.max(area.x + MESSAGE_MARGIN);
        let row = row_text(buffer, y, start..columns.end.min(area.right()));
        let whole = row_text(buffer, y, area.x + MESSAGE_MARGIN..area.right());
        let content = without_bars(&whole);
        let bars = display_width(&whole) - display_width(content);
        // A selection that begins in the middle of a row has no bar to remove.
        let row = if start == area.x + MESSAGE_MARGIN { without_bars(&row) } else { row.as_str() };
        let row = row.trim_end();
        if !text.is_empty() {
            let first_word = display_width(content.split(' ').next().unwrap_or_default());
            match last_row {
                // Code is wrapped within words, and only when the row is full.
                Some((0, spaces)) if bars > 0 => text.extend(std::iter::repeat_n(' ', spaces)),
                Some((room, _)) if bars == 0 && !row.is_empty() && first_word + 1 > room => text.push(' '),
                _ => text.push('\n'),
            }
        }
        text.push_str(row);
        let trimmed = display_width(content.trim_end());
        // Spaces of the text have its style; cells after it have none.
        let is_written = |x: &u16| buffer.cell((*x, y)).is_some_and(|cell| cell.fg != Color::Reset);
        let end = (area.x + MESSAGE_MARGIN..area.right()).rev().find(is_written).map_or(0, |x| x + 1);
        let written =
            usize::from(end.saturating_sub(area.x + MESSAGE_MARGIN)).saturating_sub(bars).max(trimmed);
        let width = usize::from(area.width.saturating_sub(MESSAGE_MARGIN)).saturating_sub(bars);
        last_row = (trimmed > 0).then_some((width.saturating_sub(written), written - trimmed));
    }
    text
}

/// Removes the bars of folds, code and quotes from the beginning of a row.
fn without_bars(row: &str) -> &str {
    let mut rest = row;
    while let Some(after) = ["│ ", "▎ ", "┃ "].iter().find_map(|bar| rest.strip_prefix(bar)) {
        rest = after;
    }
    rest
}

fn row_text(buffer: &Buffer, y: u16, columns: std::ops::Range<u16>) -> String {
    let mut row = String::new();
    // A wide character is followed by cells that hold a placeholder.
    let mut placeholders = 0;
    for x in columns {
        if placeholders > 0 {
            placeholders -= 1;
            continue;
        }
        let Some(cell) = buffer.cell((x, y)) else { continue };
        placeholders = display_width(cell.symbol()).saturating_sub(1);
        row.push_str(cell.symbol());
    }
    row
}

/// Draws the bottom row: session and branch on the left; details such as the agent, and the save state on the right.
fn draw_status_bar(model: &Model, buffer: &mut Buffer, area: Rect) {
    /// Minimum width of the left side.
    const LEFT_MIN: usize = 24;
    let theme = &model.render.theme;
    buffer.set_style(area, theme.status_bar);
    let room = usize::from(area.width);
    // The save state is always visible; other details are left out if they do not fit.
    let (save, save_style) = save_text(model, room / 2);
    let save_style = theme.status_bar.patch(save_style);
    let mut right = vec![Span::styled(format!(" {save} "), save_style)];
    let mut used = display_width(&save) + 2;
    // A screen has no other place for a notice; the chat shows it above its input.
    let notice = model.notice.as_ref().filter(|_| model.screen.is_some());
    let notice = notice.map(|notice| (sanitize_line(&notice.text), theme.tone(notice.tone)));
    let left_min = notice.as_ref().map_or(LEFT_MIN, |(text, _)| display_width(text) + 2);
    for (text, style) in status_details(model).into_iter().rev() {
        let needed = display_width(&text) + 3;
        if used + needed + left_min > room {
            break;
        }
        used += needed;
        right.insert(0, Span::styled(" │", theme.status_bar));
        right.insert(0, Span::styled(format!(" {text}"), theme.status_bar.patch(style)));
    }
    canvas::right_aligned(buffer, area, &Line::from(right));
    let left = room.saturating_sub(used + 2);
    let line = match notice {
        Some((text, style)) => {
            let text = truncate(&text, left);
            Line::from(Span::styled(format!(" {text}"), theme.status_bar.patch(style)))
        }
        None => session_and_branch(model, left),
    };
    canvas::line(buffer, Rect { width: canvas::as_u16(left + 1), ..area }, &line);
}

fn session_and_branch(model: &Model, room: usize) -> Line<'static> {
    let theme = &model.render.theme;
    let Some(name) = &model.chat.name else {
        return Line::from(Span::styled(" new conversation", theme.status_bar));
    };
    let branch = truncate(&sanitize_line(&model.chat.branch), 20);
    let name = fitting_name(name, room.saturating_sub(display_width(&branch) + 4));
    let bold = theme.status_bar.patch(theme.accent).add_modifier(Modifier::BOLD);
    Line::from(vec![
        Span::styled(format!(" {name}"), bold),
        Span::styled(format!(" · {branch}"), theme.status_bar),
    ])
}

/// Returns the details on the right of the status bar, the least important first.
fn status_details(model: &Model) -> Vec<(String, Style)> {
    let mut details = Vec::new();
    for widget in model.plugins.widgets.iter().filter(|widget| widget.slot == Slot::StatusBar) {
        details.push(truncate(&widget_text(widget), 24));
    }
    if let Some(phase) = model.chat.current_phase() {
        details.push(truncate(&sanitize_line(phase), 16));
    }
    match (model.chat.tokens, model.chat.has_unknown_tokens) {
        (0, false) => {}
        (0, true) => details.push("tokens unknown".to_owned()),
        (tokens, false) => details.push(format!("{} tok", format_tokens(tokens))),
        (tokens, true) => details.push(format!("at least {} tok", format_tokens(tokens))),
    }
    let mut agent = sanitize_line(&model.agent.name);
    if let Some(model) = &model.agent.model {
        agent = format!("{agent} {}", sanitize_line(model));
    }
    details.push(truncate(&agent, 28));
    let mut details: Vec<_> = details.into_iter().map(|detail| (detail, Style::new())).collect();
    details.extend(context_gauge(model));
    details.extend(failed_plugins(model).map(|text| (text, model.render.theme.warn)));
    details
}

/// Returns how full the context of the model is: `context 84k of 200k (42%)`, or `context 84k tokens` if its limit is not
/// known. An estimate begins with `~`.
fn context_gauge(model: &Model) -> Option<(String, Style)> {
    let gauge = model.chat.context?;
    let mark = if gauge.is_estimate { "~" } else { "" };
    let tokens = format_tokens(gauge.tokens);
    let Some(limit) = gauge.limit.filter(|limit| *limit > 0) else {
        let unit = if gauge.tokens == 1 { "token" } else { "tokens" };
        return Some((format!("context {mark}{tokens} {unit}"), Style::new()));
    };
    let percent = gauge.tokens.saturating_mul(100) / limit;
    let theme = &model.render.theme;
    let style = match percent {
        0..70 => Style::new(),
        70..90 => theme.warn,
        _ => theme.bad,
    };
    Some((format!("context {mark}{tokens} of {} ({percent}%)", format_tokens(limit)), style))
}

/// Returns a warning about approved plugins that do not run.
fn failed_plugins(model: &Model) -> Option<String> {
    let has_failed = |state| matches!(state, PluginRowState::Quarantined | PluginRowState::Invalid);
    let mut failed = model.plugins.plugins.iter().filter(|plugin| has_failed(plugin.state));
    let first = failed.next()?;
    Some(match failed.count() {
        0 => format!("! {} is {}", truncate(&sanitize_line(&first.name), 20), first.state),
        others => format!("! {} plugins do not run", others + 1),
    })
}

fn save_text(model: &Model, room: usize) -> (String, Style) {
    let theme = &model.render.theme;
    if model.is_reconnecting {
        return ("◌ reconnecting to the store".to_owned(), theme.warn);
    }
    match &model.chat.save {
        // While a reply streams, each piece is saved a fraction of a second after it arrives. Showing both states in turn
        // would flicker.
        SaveState::Saved if model.is_receiving() => ("◌ saving".to_owned(), theme.accent),
        SaveState::Nothing => ("nothing to save".to_owned(), Style::new()),
        SaveState::Saving => ("◌ saving".to_owned(), theme.accent),
        SaveState::Saved => ("✓ saved".to_owned(), theme.good),
        SaveState::NotSaved(reason) => {
            (truncate(&format!("✗ NOT SAVED: {}", sanitize_line(reason)), room), theme.bad)
        }
    }
}

/// Renders a plugin's widget, at most [`WIDGET_ROWS`] lines of it.
pub fn widget_lines(widget: &Widget, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'static>> =
        widget.nodes.iter().flat_map(|node| node_lines(node, width, theme)).collect();
    lines.truncate(WIDGET_ROWS);
    lines
}

/// Renders a plugin's widget in one row, for the status bar.
fn widget_text(widget: &Widget) -> String {
    let texts = widget.nodes.iter().filter_map(|node| match node {
        Node::Text(spans) => Some(spans.iter().map(|(text, _)| text.as_str()).collect::<String>()),
        Node::Gauge { label, ratio } => Some(format!("{label} {:.0} %", ratio.clamp(0.0, 1.0) * 100.0)),
        Node::Table { .. } | Node::Sparkline { .. } => None,
    });
    sanitize_line(&texts.collect::<Vec<_>>().join(" "))
}

fn node_lines(node: &Node, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    match node {
        Node::Text(spans) => {
            let mut room = width;
            let spans = spans.iter().map(|(text, tone)| {
                // `sanitize_line` trims the text, but a space between two spans must be kept.
                let before = if text.starts_with(' ') { " " } else { "" };
                let after = if text.len() > 1 && text.ends_with(' ') { " " } else { "" };
                let text = truncate(&format!("{before}{}{after}", sanitize_line(text)), room);
                room = room.saturating_sub(display_width(&text));
                Span::styled(text, theme.tone(*tone))
            });
            vec![Line::from(spans.collect::<Vec<_>>())]
        }
        Node::Gauge { label, ratio } => {
            let label = truncate(&sanitize_line(label), width / 2);
            let bar_width = width.saturating_sub(display_width(&label) + 7).max(3);
            vec![Line::from(vec![
                Span::styled(format!("{label} "), theme.text),
                Span::styled(format!("{:<bar_width$}", canvas::bar(*ratio, bar_width)), theme.accent),
                Span::styled(format!(" {:>3.0} %", ratio.clamp(0.0, 1.0) * 100.0), theme.dim),
            ])]
        }
        Node::Table { header, rows } => table_lines(header, rows, width, theme),
        Node::Sparkline { values } => vec![Line::styled(sparkline(values, width), theme.accent)],
    }
}

fn table_lines(header: &[String], rows: &[Vec<String>], width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let columns = rows.iter().map(Vec::len).chain([header.len()]).max().unwrap_or(0).max(1);
    let column_width = (width.saturating_sub(columns - 1) / columns).max(1);
    let line = |row: &[String], style| {
        let texts =
            row.iter().map(|text| format!("{:<column_width$}", truncate(&sanitize_line(text), column_width)));
        Line::styled(texts.collect::<Vec<_>>().join(" "), style)
    };
    let head = (!header.is_empty()).then(|| line(header, theme.dim));
    head.into_iter().chain(rows.iter().take(WIDGET_ROWS).map(|row| line(row, theme.text))).collect()
}

fn sparkline(values: &[u64], width: usize) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let newest = values.get(values.len().saturating_sub(width)..).unwrap_or_default();
    let max = newest.iter().copied().max().unwrap_or(0).max(1);
    let level = |value: u64| {
        let index = u128::from(value) * 7 / u128::from(max);
        LEVELS.get(usize::try_from(index).unwrap_or(7)).copied().unwrap_or('█')
    };
    newest.iter().map(|value| level(*value)).collect()
}

#[cfg(test)]
mod tests;
