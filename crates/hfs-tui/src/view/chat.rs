//! The chat: messages above the input.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Widget};

use super::{sidebar, widgets};
use crate::canvas;
use crate::editor::{KeyMode, VimMode};
use crate::modal::suggestion_row;
use crate::model::{Areas, Armed, Model};
use crate::parts::{Slot, Tone};
use crate::screens::inspect::duration;
use crate::screens::sessions::session_row;
use crate::text::{Piece, cells, clip, markdown, one_line, shown, wrap};
use crate::theme::Theme;

const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// Rows of completion at most.
const COMPLETIONS: usize = 8;
/// Rows of what a plugin's command said at most.
const PLUGIN_ROWS: usize = 16;

/// Draws the chat; returns where the cursor is.
pub fn view(model: &Model, buffer: &mut Buffer) -> (u16, u16) {
    let areas = model.areas();
    let chat = &model.chat;
    if chat.transcript.is_empty() && !chat.is_busy() {
        greeting(model, buffer, areas.transcript);
    } else {
        transcript(model, buffer, areas.transcript);
    }
    canvas::lines(buffer, areas.strip, strip_lines(model, usize::from(areas.strip.width)));
    let cursor = input(model, buffer, areas.input);
    completion(model, buffer, &areas);
    if let Some(area) = areas.sidebar {
        sidebar::view(model, buffer, area);
    }
    cursor
}

fn transcript(model: &Model, buffer: &mut Buffer, area: Rect) {
    let width = usize::from(area.width);
    let theme = &model.look.theme;
    let tail = model.chat.tail(&model.look, width);
    let transcript = &model.chat.transcript;
    let rows = transcript.rows(model.look.paper(width), &tail, usize::from(area.height));
    for (row, y) in rows.iter().zip(area.top()..area.bottom()) {
        buffer.set_line(area.x, y, &row.line, area.width);
        if transcript.selected() == Some(row.seq) {
            if row.handle.is_some() && row.handle == transcript.fold() {
                let width = canvas::as_u16(row.line.width()).min(area.width);
                buffer.set_style(Rect { x: area.x, y, width, height: 1 }, theme.selected);
            }
            buffer.set_string(area.x.saturating_sub(1), y, "┃", theme.accent);
        }
    }
}

fn greeting(model: &Model, buffer: &mut Buffer, area: Rect) {
    let theme = &model.look.theme;
    let key = |key: &'static str, meaning: &'static str| {
        Line::from(vec![Span::styled(format!("{key:<12}"), theme.accent), Span::styled(meaning, theme.text)])
    };
    let mut lines = vec![
        Line::styled("hfs", theme.title()),
        Line::styled("Every word is saved as it is said, and every turn can be gone back to.", theme.dim),
        Line::default(),
        key("Enter", "send what you write below"),
        key("/", "commands"),
        key("Ctrl+P", "all commands by a few letters"),
        key("Ctrl+S", "your sessions"),
        key("F1", "keys and help"),
    ];
    if model.look.settings.keys == KeyMode::Emacs {
        lines.retain(|line| !line.to_string().starts_with("Ctrl+P"));
    }
    let indent = 2;
    let room = usize::from(area.height);
    if room >= lines.len() + 4 {
        lines.insert(0, Line::default());
    }
    let top = lines.len();
    let inner = Rect { x: area.x + indent, width: area.width.saturating_sub(2 * indent), ..area };
    canvas::lines(buffer, inner, lines.into_iter().map(|line| Line::from(line.spans).style(line.style)));
    if model.recent.is_empty() || room < top + 3 {
        return;
    }
    canvas::line(buffer, canvas::row(inner, top + 1), &Line::styled("Lately", theme.title()));
    for (index, row) in model.recent.iter().enumerate() {
        let area = Rect { width: inner.width.min(90), ..canvas::row(inner, top + 2 + index) };
        if area.height > 0 {
            session_row(buffer, area, &model.look, row, false);
        }
    }
}

/// What stands between the messages and the input: a plugin's answer, panels, and what went wrong.
pub fn strip_lines(model: &Model, width: usize) -> Vec<Line<'static>> {
    let theme = &model.look.theme;
    let mut lines = Vec::new();
    if let Some((command, text)) = &model.chat.plugin_output {
        lines.push(Line::from(vec![
            Span::styled(format!("/{}", one_line(command)), theme.title()),
            Span::styled("  Esc puts it away", theme.dim),
        ]));
        let body = markdown(text, width, model.look.ink());
        let rest = body.len().saturating_sub(PLUGIN_ROWS);
        lines.extend(body.into_iter().take(PLUGIN_ROWS));
        if rest > 0 {
            lines.push(Line::styled(format!("… {rest} more lines"), theme.dim));
        }
    }
    for widget in model.plugins.widgets.iter().filter(|widget| widget.slot == Slot::Panel) {
        lines.extend(widgets::lines(widget, width, theme));
    }
    if let Some(trouble) = &model.chat.trouble {
        let mut pieces = vec![Piece::new(format!("✗ {}", one_line(&trouble.message)), theme.bad)];
        if let Some(hint) = &trouble.hint {
            pieces.push(Piece::new(format!("\n  {}", one_line(hint)), theme.dim));
        }
        lines.extend(wrap(&pieces, width));
        let retry = if trouble.user.is_some() { ("F5", "try again") } else { ("Enter", "send it again") };
        let mut keys = canvas::hints(&[retry, ("Esc", "leave it")], theme, width.saturating_sub(2));
        keys.spans.insert(0, Span::raw("  "));
        lines.push(keys);
    }
    lines.extend(queue_lines(model, width));
    if !lines.is_empty() {
        lines.insert(0, Line::default());
    }
    lines
}

/// What is to be said next.
fn queue_lines(model: &Model, width: usize) -> Vec<Line<'static>> {
    const ROWS: usize = 3;
    let theme = &model.look.theme;
    let queue = &model.chat.queue;
    let row = |text: &String| {
        Line::from(vec![
            Span::styled("↳ ", theme.accent),
            Span::styled(clip(&one_line(text), width.saturating_sub(2)), theme.dim),
        ])
    };
    let mut lines: Vec<Line<'static>> = queue.iter().take(ROWS).map(row).collect();
    let says = match queue.len() {
        0 => return lines,
        1..=ROWS => "not saved yet; sent after this reply".to_owned(),
        more => format!("and {} more, not saved yet; sent after this reply one by one", more - ROWS),
    };
    let mut foot = Line::styled(format!("  {says}  "), theme.dim);
    foot.spans.extend(canvas::hints(&[("Up", "takes the last one back")], theme, width).spans);
    lines.push(foot);
    lines
}

fn input(model: &Model, buffer: &mut Buffer, area: Rect) -> (u16, u16) {
    let theme = &model.look.theme;
    let width = usize::from(area.width).saturating_sub(6);
    let title = input_title(model, usize::from(area.width).saturating_sub(4));
    let inner = canvas::panel(buffer, area, title, theme, !model.chat.is_busy());
    let foot = canvas::row(area, usize::from(area.height).saturating_sub(1));
    let foot = Rect { x: foot.x + 2, width: foot.width.saturating_sub(4), ..foot };
    let mut hints = input_hints(model, usize::from(foot.width).saturating_sub(12));
    if hints.width() > 0 {
        hints.spans.insert(0, Span::raw(" "));
        hints.spans.push(Span::raw(" "));
        canvas::right(buffer, foot, &hints);
    }
    if model.look.settings.keys == KeyMode::Vim {
        let (mode, style) = match model.chat.input.vim_mode() {
            VimMode::Normal => (" NORMAL ", theme.title()),
            VimMode::Insert => (" INSERT ", theme.dim),
        };
        canvas::line(buffer, foot, &Line::styled(mode, style));
    }
    let text = model.chat.input.text();
    let field = Rect { x: inner.x + 3, width: inner.width.saturating_sub(4), ..inner };
    buffer.set_string(inner.x + 1, inner.y, "❯", theme.accent);
    if text.is_empty() {
        let ask = if model.chat.is_busy() { "" } else { "Say something, or / for commands" };
        canvas::line(buffer, canvas::row(field, 0), &Line::styled(ask, theme.dim));
        return (field.x, field.y);
    }
    let layout = model.chat.input.layout(width);
    let (row, column) = layout.place(text, model.chat.input.cursor());
    let height = usize::from(inner.height);
    let top = row.saturating_sub(height.saturating_sub(1)).min(layout.rows.len().saturating_sub(height));
    for (at, place) in layout.rows.iter().skip(top).take(height).enumerate() {
        let content = shown(text.get(place.start..place.end).unwrap_or_default()).into_owned();
        let style =
            if text.starts_with('/') && crate::command::is_command(text) { theme.accent } else { theme.text };
        canvas::line(buffer, canvas::row(field, at), &Line::styled(content, style));
    }
    (field.x + canvas::as_u16(column), field.y + canvas::as_u16(row - top))
}

/// What is going on, in the frame above the input.
fn input_title(model: &Model, width: usize) -> Line<'static> {
    let theme = &model.look.theme;
    let (text, style) = if let Some((armed, _)) = model.armed {
        let text = match armed {
            Armed::Leave => "Ctrl+C again leaves",
            Armed::Rewind if model.chat.input.is_empty() => "Esc again shows the checkpoints",
            Armed::Rewind => "Esc again puts this away (Up brings it back)",
        };
        (text.to_owned(), theme.warn)
    } else if let Some(notice) = &model.notice {
        (one_line(&notice.text), tone_style(notice.tone, theme))
    } else if let Some(exchange) = &model.chat.exchange {
        let spin = SPINNER.get(model.spin % SPINNER.len()).copied().unwrap_or_default();
        let doing = running(model);
        let time = duration(model.look.now.millis_since(exchange.reply.started_at));
        let stop = if exchange.stopping { "stopping ..." } else { "Esc stops it" };
        (format!("{spin} {doing} · {time} · {stop}"), theme.accent)
    } else {
        return Line::default();
    };
    Line::from(Span::styled(format!(" {} ", clip(&text, width.saturating_sub(2))), style))
}

/// What the run does at this moment.
fn running(model: &Model) -> String {
    let Some(exchange) = &model.chat.exchange else { return String::new() };
    if exchange.user.is_none() {
        return "saving".to_owned();
    }
    let name =
        exchange.reply.agent.as_ref().map_or_else(|| "waiting".to_owned(), |agent| one_line(&agent.name));
    let phase = model.chat.run.timeline.phases.iter().rev().find(|phase| phase.end.is_none());
    match phase {
        Some(phase) => format!("{name}: {}", one_line(&phase.name)),
        None if exchange.reply.is_empty() => format!("{name} is at work"),
        None => format!("{name} replies"),
    }
}

fn input_hints(model: &Model, width: usize) -> Line<'static> {
    let theme = &model.look.theme;
    let text = model.chat.input.text();
    let transcript = &model.chat.transcript;
    if let Some(seq) = transcript.selected() {
        let mut keys = vec![("c", "copy"), ("f", "fork"), ("Esc", "done")];
        match transcript.folds() {
            0 => {}
            1 => keys.insert(0, ("Enter", "fold")),
            _ => keys.splice(0..0, [("Enter", "fold"), ("Tab", "next")]).for_each(drop),
        }
        let mut line = canvas::hints(&keys, theme, width.saturating_sub(8));
        line.spans.insert(0, Span::styled(format!("message {seq}  "), theme.title()));
        return line;
    }
    if text.contains('\n') || cells(text) > width {
        return canvas::hints(
            &[("Enter", "send"), ("Ctrl+J", "new line"), ("Ctrl+G", "editor")],
            theme,
            width,
        );
    }
    if !transcript.is_following() {
        return canvas::hints(&[("Ctrl+End", "newest")], theme, width);
    }
    if text.is_empty() && !transcript.is_empty() {
        return canvas::hints(&[("/", "commands"), ("Esc Esc", "rewind"), ("F1", "help")], theme, width);
    }
    Line::default()
}

/// How a notice of this tone looks.
pub fn tone_style(tone: Tone, theme: &Theme) -> Style {
    match tone {
        Tone::Plain => theme.text,
        Tone::Dim => theme.dim,
        Tone::Accent => theme.accent,
        Tone::Good => theme.good,
        Tone::Warn => theme.warn,
        Tone::Bad => theme.bad.add_modifier(Modifier::BOLD),
    }
}

fn completion(model: &Model, buffer: &mut Buffer, areas: &Areas) {
    let rows = model.completions();
    let Some(at) = model.chat.completion.filter(|_| !rows.is_empty()) else { return };
    let theme = &model.look.theme;
    let room = usize::from(areas.input.y).saturating_sub(2);
    let height = rows.len().min(COMPLETIONS).min(room);
    let area = Rect {
        x: areas.input.x + 1,
        y: areas.input.y.saturating_sub(canvas::as_u16(height + 2)),
        width: areas.input.width.saturating_sub(2).min(80),
        height: canvas::as_u16(height + 2),
    };
    Clear.render(area, buffer);
    let hint = Line::from(Span::styled(" Tab completes · Enter runs ", theme.dim));
    let inner = canvas::panel(buffer, area, hint, theme, false);
    let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    let window = crate::screens::list::Picked { row: at }.window(rows.len(), height);
    for (line, index) in window.enumerate() {
        if let Some(row) = rows.get(index) {
            suggestion_row(buffer, canvas::row(inner, line), &model.look, row, index == at);
        }
    }
}
