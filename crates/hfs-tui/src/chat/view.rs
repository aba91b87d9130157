//! Draws the chat.

use hfs_core::{PlanStepStatus, Role};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Widget};
use unicode_segmentation::UnicodeSegmentation;

use super::{ChatLayout, Progress, SaveState, sidebar};
use crate::canvas;
use crate::editor::{KeyMode, VimMode, fold_label};
use crate::modal::draw_suggestion;
use crate::model::{Model, PendingConfirmation};
use crate::ports::Slot;
use crate::screens::ListSelection;
use crate::screens::sessions::draw_session_row;
use crate::text::{
    Fragment, beginning, display_width, format_bytes, format_duration, markdown, plural, sanitize,
    sanitize_line, truncate, wrap,
};
use crate::view::widget_lines;

const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// Maximum rows of the command completion.
const COMPLETION_ROWS: usize = 8;
/// Maximum rows of a plugin command's output.
const PLUGIN_OUTPUT_ROWS: usize = 16;
/// Maximum steps of a plan above the input.
const PLAN_ROWS: usize = 5;
/// Bytes of a plugin command's output that are laid out.
const PLUGIN_OUTPUT_BYTES: usize = 16 << 10;

/// Draws the chat and returns the position of the cursor.
pub fn draw(model: &Model, buffer: &mut Buffer) -> (u16, u16) {
    let areas = model.chat_layout();
    let chat = &model.chat;
    if chat.transcript.is_empty() && !chat.is_busy() {
        draw_start_screen(model, buffer, areas.transcript);
    } else {
        draw_transcript(model, buffer, areas.transcript);
    }
    canvas::lines(buffer, areas.banners, banner_lines(model, usize::from(areas.banners.width)));
    let cursor = draw_input(model, buffer, areas.input);
    draw_completion(model, buffer, &areas);
    if let Some(area) = areas.sidebar {
        sidebar::draw(model, buffer, area);
    }
    cursor
}

fn draw_transcript(model: &Model, buffer: &mut Buffer, area: Rect) {
    let width = usize::from(area.width);
    let theme = &model.render.theme;
    let tail = model.chat.tail(&model.render, width);
    let transcript = &model.chat.transcript;
    let rows = transcript.rows(model.render.message_layout(width), &tail, usize::from(area.height));
    for (row, y) in rows.iter().zip(area.top()..area.bottom()) {
        buffer.set_line(area.x, y, &row.line, area.width);
        if transcript.selected() == Some(row.seq) {
            if row.fold.is_some() && row.fold == transcript.selected_fold() {
                let width = canvas::as_u16(row.line.width()).min(area.width);
                buffer.set_style(Rect { x: area.x, y, width, height: 1 }, theme.selected);
            }
            buffer.set_string(area.x.saturating_sub(1), y, "┃", theme.accent);
        }
    }
}

/// Draws the start screen of a new conversation: the most important keys, what can be done, and the newest sessions.
fn draw_start_screen(model: &Model, buffer: &mut Buffer, area: Rect) {
    let theme = &model.render.theme;
    let key = |key: &str, meaning: &str| {
        let meaning = Span::styled(meaning.to_owned(), theme.text);
        Line::from(vec![Span::styled(format!("{key:<12}"), theme.accent), meaning])
    };
    let mut lines = vec![
        Line::styled("hfs", theme.title()),
        Line::styled("Every message is saved at once, and you can rewind to any turn.", theme.dim),
        Line::default(),
        key("Enter", "send your message"),
        key("/", "commands"),
        key("@", "attach a file or a picture, such as @src/main.rs"),
        key("Ctrl+P", "search all commands"),
        key("Ctrl+S", "your sessions"),
        key("F1", "keys and help"),
    ];
    let found = model.agents.agents.iter().filter(|agent| agent.is_found());
    let found: Vec<String> = found.map(|agent| sanitize_line(&agent.title)).collect();
    // The list of agents arrives a moment later.
    let needs_key =
        model.agent.model.is_none() && (model.agents.agents.is_empty() || model.is_unconfigured());
    let offers_agents = model.is_unconfigured() && !found.is_empty();
    if offers_agents || needs_key {
        lines.push(Line::default());
    }
    if offers_agents {
        let meaning = format!("{}: your first message asks who answers", found.join(", "));
        lines.push(key("Found here", &meaning));
    } else if needs_key {
        lines.push(key("No key", "import, search, rewind, export; replies quote your sessions"));
    }
    if needs_key {
        lines.push(key("With a key", "models reply: ANTHROPIC_, OPENAI_, GEMINI_API_KEY; or Ollama"));
    }
    // In emacs mode, Ctrl+P moves the cursor.
    if model.render.settings.keys == KeyMode::Emacs {
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
    draw_recent_sessions(model, buffer, inner, top);
}

/// Draws the newest sessions below row `top`, and how the newest one ends.
fn draw_recent_sessions(model: &Model, buffer: &mut Buffer, inner: Rect, top: usize) {
    let theme = &model.render.theme;
    let recent = &model.recent;
    let mut last_words: Vec<Line<'static>> = Vec::new();
    for (role, text) in &recent.last_words {
        let (name, style) = match role {
            Role::User => ("you", theme.text),
            Role::Assistant | Role::System | Role::Tool => ("reply", theme.dim),
        };
        let width = usize::from(inner.width.min(90)).saturating_sub(14);
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        last_words.push(Line::from(vec![
            Span::styled(format!("  {name:<7}"), theme.dim),
            Span::styled(truncate(&sanitize_line(line), width), style),
        ]));
    }
    let needed = top + 3 + last_words.len();
    if recent.sessions.is_empty() || usize::from(inner.height) < needed {
        return;
    }
    let title = if recent.of_project { "Last in this project" } else { "Recent sessions" };
    let mut title = Line::styled(title, theme.title());
    if recent.of_project {
        title.spans.push(Span::styled("   Ctrl+S, Enter continues it", theme.dim));
    }
    canvas::line(buffer, canvas::row(inner, top + 1), &title);
    let mut y = top + 2;
    for (index, row) in recent.sessions.iter().enumerate() {
        let area = Rect { width: inner.width.min(90), ..canvas::row(inner, y) };
        y += 1;
        if area.height > 0 {
            draw_session_row(buffer, area, &model.render, row, false, false);
        }
        if index == 0 {
            let below = Rect { y: area.y + 1, height: inner.bottom().saturating_sub(area.y + 1), ..inner };
            y += last_words.len();
            canvas::lines(buffer, below, std::mem::take(&mut last_words));
        }
    }
}

/// Returns the agent's plan, if a turn is in progress or has left steps, as a checklist of at most `rows` steps, always with the step in progress.
pub fn plan_lines(model: &Model, width: usize, rows: usize) -> Vec<Line<'static>> {
    let theme = &model.render.theme;
    let plan = &model.chat.plan;
    if plan.is_empty() || !(model.chat.is_busy() || model.chat.has_open_steps()) {
        return Vec::new();
    }
    let done = plan.iter().filter(|step| step.status == PlanStepStatus::Completed).count();
    // After the turn, nothing is in progress.
    let is_busy = model.chat.is_busy();
    let ended = if is_busy { "" } else { " · ended" };
    let mut lines = vec![Line::from(vec![
        Span::styled("Plan", theme.title()),
        Span::styled(
            truncate(&format!("  {done} of {} done{ended}", plan.len()), width.saturating_sub(4)),
            theme.dim,
        ),
    ])];
    let current = plan.iter().position(|step| step.status != PlanStepStatus::Completed).unwrap_or(plan.len());
    let range = ListSelection { row: current }.visible_range(plan.len(), rows);
    for step in plan.get(range).unwrap_or_default() {
        let (mark, style) = match step.status {
            PlanStepStatus::Completed => ("☑ ", theme.dim),
            PlanStepStatus::InProgress if is_busy => ("◐ ", theme.accent),
            PlanStepStatus::InProgress | PlanStepStatus::Pending | PlanStepStatus::Unknown => {
                ("☐ ", theme.text)
            }
        };
        let text = truncate(&sanitize_line(&step.content), width.saturating_sub(2));
        lines.push(Line::from(vec![Span::styled(mark, style), Span::styled(text, style)]));
    }
    lines
}

/// Returns the lines between the messages and the input: plugin output, plugin panels, the error banner, queued messages and,
/// without a sidebar, the agent's plan and the agents that are working.
pub fn banner_lines(model: &Model, width: usize) -> Vec<Line<'static>> {
    let theme = &model.render.theme;
    let mut lines = Vec::new();
    if let Some((command, text)) = &model.chat.plugin_output {
        // Only the first rows are shown.
        let shown = beginning(text, PLUGIN_OUTPUT_BYTES);
        lines.push(Line::from(vec![
            Span::styled(format!("/{}", sanitize_line(command)), theme.title()),
            Span::styled("  Esc closes it", theme.dim),
        ]));
        let body = markdown(shown, width, model.render.text_style());
        let below = text.get(shown.len()..).unwrap_or_default().lines().count();
        let rest = body.len().saturating_sub(PLUGIN_OUTPUT_ROWS) + below;
        lines.extend(body.into_iter().take(PLUGIN_OUTPUT_ROWS));
        if rest > 0 {
            lines.push(Line::styled(format!("… {}", plural(rest, "more line")), theme.dim));
        }
    }
    for widget in model.plugins.widgets.iter().filter(|widget| widget.slot == Slot::Panel) {
        lines.extend(widget_lines(widget, width, theme));
    }
    if let Some(banner) = &model.chat.error_banner {
        // Each error is shown once: here only if the end of the reply is not in view.
        if !banner.is_in_reply || !model.chat.transcript.is_following() {
            let text = format!("✗ {}", sanitize_line(&banner.message));
            lines.extend(wrap(&[Fragment::new(text, theme.bad)], width));
        }
        if let Some(suggestion) = &banner.suggestion {
            let text = format!("  {}", sanitize_line(suggestion));
            lines.extend(wrap(&[Fragment::new(text, theme.dim)], width));
        }
        let retry = if banner.user.is_some() { ("F5", "retry") } else { ("Enter", "send it again") };
        let mut keys = canvas::hints(&[retry, ("Esc", "close")], theme, width.saturating_sub(2));
        keys.spans.insert(0, Span::raw("  "));
        lines.push(keys);
    }
    // The status bar has room for the beginning of the reason only. At the end of the exchange, the error banner has it.
    if let (SaveState::NotSaved(reason), true) = (&model.chat.save, model.chat.is_busy()) {
        let text = format!("✗ not saved: {}", sanitize_line(reason));
        lines.extend(wrap(&[Fragment::new(text, theme.bad)], width));
        let text = "  The text stays here, and hfs tries again with each piece of the reply.";
        lines.extend(wrap(&[Fragment::new(text, theme.dim)], width));
    }
    if !model.has_sidebar() {
        lines.extend(plan_lines(model, width, PLAN_ROWS));
        lines.extend(sidebar::working_agents(model, width));
    }
    lines.extend(queue_lines(model, width));
    if !lines.is_empty() {
        lines.insert(0, Line::default());
    }
    lines
}

fn queue_lines(model: &Model, width: usize) -> Vec<Line<'static>> {
    const ROWS: usize = 3;
    /// More than fits into a row.
    const BYTES: usize = 2_000;
    let theme = &model.render.theme;
    let queue = &model.chat.queue;
    let row = |text: &String| {
        Line::from(vec![
            Span::styled("↳ ", theme.accent),
            Span::styled(
                truncate(&sanitize_line(beginning(text, BYTES)), width.saturating_sub(2)),
                theme.dim,
            ),
        ])
    };
    let mut lines: Vec<Line<'static>> = queue.iter().take(ROWS).map(row).collect();
    // Without a reply in progress, they wait for a session that is being opened, or for an agent.
    let when = if model.chat.is_busy() { "after this reply" } else { "in a moment" };
    let status = match queue.len() {
        0 => return lines,
        1..=ROWS => format!("not saved yet; sent {when}"),
        more => format!("and {} more, not saved yet; sent one by one {when}", more - ROWS),
    };
    let mut foot = Line::styled(format!("  {status}  "), theme.dim);
    foot.spans.extend(canvas::hints(&[("Up", "edits the last one")], theme, width).spans);
    lines.push(foot);
    lines
}

fn draw_input(model: &Model, buffer: &mut Buffer, area: Rect) -> (u16, u16) {
    let theme = &model.render.theme;
    let width = usize::from(area.width).saturating_sub(6);
    let title = input_title(model, usize::from(area.width).saturating_sub(4));
    let inner = canvas::panel(buffer, area, title, theme, !model.chat.is_busy());
    let foot = canvas::row(area, usize::from(area.height).saturating_sub(1));
    let foot = Rect { x: foot.x + 2, width: foot.width.saturating_sub(4), ..foot };
    // Leaves room for the vim mode at the left.
    let mut hints = input_hints(model, usize::from(foot.width).saturating_sub(12));
    if hints.width() > 0 {
        hints.spans.insert(0, Span::raw(" "));
        hints.spans.push(Span::raw(" "));
        canvas::right_aligned(buffer, foot, &hints);
    }
    if model.render.settings.keys == KeyMode::Vim {
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
        let placeholder = if model.chat.is_busy() { "" } else { "Type a message, or / for commands" };
        canvas::line(buffer, canvas::row(field, 0), &Line::styled(placeholder, theme.dim));
        return (field.x, field.y);
    }
    let layout = model.chat.input.layout(width);
    let (row, column) = layout.position(text, model.chat.input.cursor());
    let height = usize::from(inner.height);
    // Scrolls so that the row of the cursor is visible, but not beyond the last row.
    let top = row.saturating_sub(height.saturating_sub(1)).min(layout.rows.len().saturating_sub(height));
    for (at, line) in layout.rows.iter().skip(top).take(height).enumerate() {
        let content = shown_text(text.get(line.start..line.end).unwrap_or_default());
        let style = if model.chat.input.is_selected() {
            theme.selected
        } else if text.starts_with('/') && crate::commands::is_command(text) {
            theme.accent
        } else {
            theme.text
        };
        canvas::line(buffer, canvas::row(field, at), &Line::styled(content, style));
    }
    (field.x + canvas::as_u16(column), field.y + canvas::as_u16(row - top))
}

/// Returns the text of a row of the input, with the labels of folds.
fn shown_text(row: &str) -> String {
    let row = sanitize(row);
    row.graphemes(true).map(|grapheme| fold_label(grapheme).unwrap_or_else(|| grapheme.to_owned())).collect()
}

/// Returns the text in the upper border of the input: a pending confirmation or a notice, and the exchange in progress. If there
/// is not enough room for both, how long the exchange takes and how it is stopped remains, or else the first text alone.
fn input_title(model: &Model, width: usize) -> Line<'static> {
    let theme = &model.render.theme;
    let (text, style) = if let Some((pending, _)) = model.pending_confirmation {
        let text = match pending {
            PendingConfirmation::Quit => "press Ctrl+C again to quit",
            PendingConfirmation::Esc if model.chat.input.is_empty() => "press Esc again for the checkpoints",
            PendingConfirmation::Esc => "press Esc again to clear the input (Up restores it)",
        };
        (text.to_owned(), theme.warn)
    } else if let Some(notice) = &model.notice {
        (sanitize_line(&notice.text), theme.tone(notice.tone))
    } else {
        let progress = exchange_progress(model, width.saturating_sub(2), true);
        let spans = progress.map(|progress| Span::styled(format!(" {progress} "), theme.accent));
        return spans.map(Line::from).unwrap_or_default();
    };
    let mut spans = vec![Span::styled(format!(" {} ", truncate(&text, width.saturating_sub(2))), style)];
    let room = width.saturating_sub(display_width(&text) + 5);
    if let Some(progress) = exchange_progress(model, room, false) {
        spans.push(Span::styled("─", theme.border));
        spans.push(Span::styled(format!(" {progress} "), theme.accent));
    }
    Line::from(spans)
}

/// Describes the exchange in progress in at most `width` cells, with what it does if `with_activity`. `None` if there is none, or
/// no room for how it is stopped.
fn exchange_progress(model: &Model, width: usize, with_activity: bool) -> Option<String> {
    let exchange = model.chat.exchange.as_ref()?;
    let spin = SPINNER.get(model.spinner_frame % SPINNER.len()).copied().unwrap_or_default();
    let time = format_duration(model.render.now.millis_since(exchange.reply.started_at));
    let stop = if exchange.is_stopping { "stopping ..." } else { "Esc stops it" };
    let animations = model.render.settings.animations;
    if !with_activity {
        let long = animations.then(|| format!("{spin} {time} · {stop}"));
        let short = if animations { format!("{spin} {stop}") } else { stop.to_owned() };
        return long.into_iter().chain([short]).find(|text| display_width(text) <= width);
    }
    let (activity, end) = current_activity(model);
    let (before, after) = if animations {
        (format!("{spin} "), format!("{end} · {time} · {stop}"))
    } else {
        (String::new(), format!("{end} · {stop}"))
    };
    let room = width.saturating_sub(display_width(&before) + display_width(&after));
    Some(format!("{before}{}{after}", truncate(&activity, room)))
}

/// What the exchange does, and an end of it that is never cut.
fn current_activity(model: &Model) -> (String, String) {
    let Some(exchange) = &model.chat.exchange else { return Default::default() };
    if let Some(Progress { text, end }) = &exchange.progress {
        return (sanitize_line(text), end.clone());
    }
    let whole = |text: &str| (text.to_owned(), String::new());
    if exchange.is_compaction {
        return whole("reading the conversation");
    }
    if exchange.user.is_none() {
        return whole("saving");
    }
    let name = exchange
        .reply
        .agent
        .as_ref()
        .map_or_else(|| "waiting".to_owned(), |agent| sanitize_line(&agent.name));
    whole(&match (model.chat.current_phase(), exchange.running.as_slice()) {
        (Some(phase), _) => format!("{name}: {}", sanitize_line(phase)),
        (None, [(_, tool)]) => format!("{name} runs {}", sanitize_line(tool)),
        (None, [_, _, ..]) => format!("{name} runs {} tools", exchange.running.len()),
        (None, []) if exchange.reply.is_empty() => format!("{name} is working"),
        (None, []) => format!("{name} is replying"),
    })
}

fn input_hints(model: &Model, width: usize) -> Line<'static> {
    let theme = &model.render.theme;
    let text = model.chat.input.text();
    let transcript = &model.chat.transcript;
    if let Some(seq) = transcript.selected() {
        let mut keys = vec![("c", "copy"), ("f", "fork"), ("r", "rewind"), ("Esc", "deselect")];
        match transcript.selected_fold_count() {
            0 => {}
            1 => keys.insert(0, ("Enter", "fold")),
            // Inserts both pairs at the front.
            _ => keys.splice(0..0, [("Enter", "fold"), ("Tab", "next")]).for_each(drop),
        }
        let mut line = canvas::hints(&keys, theme, width.saturating_sub(8));
        line.spans.insert(0, Span::styled(format!("message {seq}  "), theme.title()));
        return line;
    }
    let folds: Vec<String> =
        model.chat.input.folds().map(|(label, text)| describe_fold(&label, text)).collect();
    if !folds.is_empty() {
        let keys: &[_] = if model.chat.input.can_unfold() {
            &[("Tab", "unfold"), ("Ctrl+G", "editor")]
        } else {
            &[("Ctrl+G", "editor")]
        };
        let mut line = canvas::hints(keys, theme, width / 2);
        let room = width.saturating_sub(line.width() + 2);
        line.spans.insert(0, Span::styled(format!("{}  ", truncate(&folds.join(", "), room)), theme.dim));
        return line;
    }
    if text.contains('\n') || display_width(text) > width {
        return canvas::hints(
            &[("Enter", "send"), ("Ctrl+J", "new line"), ("Ctrl+G", "editor")],
            theme,
            width,
        );
    }
    if !transcript.is_following() {
        return canvas::hints(&[("Ctrl+End", "newest")], theme, width);
    }
    // During a reply, Esc stops it and Enter sends a message after it.
    if model.chat.is_busy() {
        let keys: &[_] = match (text.is_empty(), model.chat.current_phase()) {
            (false, _) => &[("Enter", "send after this reply")],
            // The reply begins late, and what the agents write is there to read before.
            (true, Some(_)) => &[("F3", "what the agents write"), ("/", "commands"), ("F1", "help")],
            (true, None) => &[("/", "commands"), ("F1", "help")],
        };
        return canvas::hints(keys, theme, width);
    }
    if text.is_empty() && !transcript.is_empty() {
        return canvas::hints(&[("/", "commands"), ("Esc Esc", "rewind"), ("F1", "help")], theme, width);
    }
    Line::default()
}

/// Names a fold with the length of its text: `[long text 1] 400 lines, 12.3 KiB`.
fn describe_fold(label: &str, text: &str) -> String {
    let bytes = format_bytes(u64::try_from(text.len()).unwrap_or(u64::MAX));
    format!("{label} {}, {bytes}", plural(text.lines().count(), "line"))
}

fn draw_completion(model: &Model, buffer: &mut Buffer, areas: &ChatLayout) {
    let (rows, paths) = (model.completions(), model.mention_completions());
    let count = rows.len().max(paths.len());
    let Some(selected) = model.chat.completion.filter(|_| count > 0) else { return };
    let theme = &model.render.theme;
    let room = usize::from(areas.input.y).saturating_sub(2);
    let height = count.min(COMPLETION_ROWS).min(room);
    let area = Rect {
        x: areas.input.x + 1,
        y: areas.input.y.saturating_sub(canvas::as_u16(height + 2)),
        width: areas.input.width.saturating_sub(2).min(80),
        height: canvas::as_u16(height + 2),
    };
    Clear.render(area, buffer);
    let hint = if paths.is_empty() { "Tab completes · Enter runs" } else { "Tab or Enter completes" };
    let place = if height < count { format!(" · {} of {count}", selected + 1) } else { String::new() };
    let place = match model.left_out_mentions() {
        0 => place,
        more => format!("{place} · {more} more: type on"),
    };
    let hint = Line::from(Span::styled(format!(" {hint}{place} "), theme.dim));
    let inner = canvas::panel(buffer, area, hint, theme, false);
    let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    let visible = ListSelection { row: selected }.visible_range(count, height);
    canvas::scroll_mark(buffer, canvas::to_border(inner), &visible, count, theme);
    for (line, index) in visible.enumerate() {
        let (area, is_selected) = (canvas::row(inner, line), index == selected);
        if let Some(row) = rows.get(index) {
            draw_suggestion(buffer, area, &model.render, row, is_selected);
        }
        if let Some(path) = paths.get(index) {
            let style = if is_selected { theme.selected } else { theme.text };
            let text = truncate(&sanitize_line(path), usize::from(area.width));
            canvas::line(buffer, area, &Line::styled(text, style));
            if is_selected {
                canvas::fill(buffer, area, theme.selected);
            }
        }
    }
}
