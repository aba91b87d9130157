//! The question whether an agent may do something.

use std::cell::Cell;

use crossterm::event::{KeyCode, KeyEvent};
use hfs_core::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{ModalContext, ModalOutcome, is_text_key, last_row};
use crate::canvas;
use crate::ports::{FileChange, PermissionAnswer, PermissionRequest};
use crate::render::RenderContext;
use crate::text::{
    Fragment, display_width, fitting_suffix, plural, sanitize, sanitize_line, truncate, wrap, wrap_text,
};
use crate::theme::Theme;
use crate::transcript::tool_call;

/// A key pressed sooner after the question has appeared was meant for what was there before.
const SETTLING_MS: u64 = 300;
/// Lines per page key; less than the height of the dialog on most terminals.
const PAGE: isize = 5;
/// The dialog has the choices in two rows if fewer rows than this would remain for what is asked.
const MIN_BODY_ROWS: usize = 3;

/// The question whether an agent may do something. Without a choice, Enter answers nothing.
#[derive(Debug)]
pub struct PermissionDialog {
    /// Id of the question.
    pub id: u64,
    request: PermissionRequest,
    choice: Option<usize>,
    /// The first visible line of what is asked.
    scroll: Cell<usize>,
    appeared_at: Timestamp,
}

/// Returns a row for each file that would change, with the numbers of its lines, so that none is overlooked among the rows of the
/// changes themselves. Empty for a single file.
fn file_list(changes: &[FileChange], width: usize, theme: &Theme) -> Vec<Line<'static>> {
    if changes.len() < 2 {
        return Vec::new();
    }
    let heading = format!("{}:", plural(changes.len(), "file"));
    let mut lines = vec![Line::styled(heading, theme.text)];
    for change in changes {
        let (added, removed) =
            tool_call::change_counts(change.old.as_deref().unwrap_or_default(), &change.new);
        let new = if change.old.is_none() { " new" } else { "" };
        let counts = format!("  +{added} -{removed}{new}");
        let room = width.saturating_sub(display_width(&counts) + 2);
        lines.push(Line::from(vec![
            Span::styled(format!("  {}", shortened_path(&change.path, room)), theme.accent),
            Span::styled(counts, theme.dim),
        ]));
    }
    lines.push(Line::default());
    lines
}

/// A path of which the beginning is left out if it does not fit: the end says more.
fn shortened_path(path: &str, room: usize) -> String {
    let path = sanitize_line(path);
    if display_width(&path) <= room {
        return path;
    }
    format!("…{}", fitting_suffix(&path, room.saturating_sub(1)))
}

/// An answer with its key and its label.
struct Choice {
    key: char,
    short: &'static str,
    long: String,
    answer: PermissionAnswer,
}

impl PermissionDialog {
    /// Creates the dialog for a question that appears now.
    #[must_use]
    pub fn new(id: u64, request: PermissionRequest, now: Timestamp) -> Self {
        Self { id, request, choice: None, scroll: Cell::default(), appeared_at: now }
    }

    /// Lets the question appear now, because a modal over it was closed.
    pub const fn reveal(&mut self, now: Timestamp) {
        self.appeared_at = now;
    }

    /// Whether the question has been visible long enough that a key is meant for it.
    #[must_use]
    pub fn is_settled(&self, now: Timestamp) -> bool {
        now.millis_since(self.appeared_at) >= SETTLING_MS
    }

    /// What a lasting answer is about. A long command is not repeated: it is shown whole above the choices.
    fn covers(&self) -> Option<String> {
        /// Fits into a row of the narrowest dialog.
        const WIDTH: usize = 40;
        let covers = sanitize_line(self.request.always.as_deref()?);
        match self.request.command.as_deref().map(sanitize_line) {
            Some(command) if display_width(&covers) > WIDTH => {
                Some(covers.replacen(&command, "exactly this command", 1))
            }
            Some(_) | None => Some(covers),
        }
    }

    fn choices(&self) -> Vec<Choice> {
        let choice = |key, short, long, answer| Choice { key, short, long, answer };
        let mut choices = vec![choice('y', "once", "Allow once".to_owned(), PermissionAnswer::AllowOnce)];
        if let Some(covers) = self.covers() {
            let long = format!("Always allow here: {covers}");
            choices.push(choice('a', "always", long, PermissionAnswer::AllowAlways));
        }
        choices.push(choice('n', "reject", "Reject".to_owned(), PermissionAnswer::RejectOnce));
        if let Some(covers) = self.covers() {
            let long = format!("Never allow here: {covers}");
            choices.push(choice('v', "never", long, PermissionAnswer::RejectAlways));
        }
        choices
    }

    /// Handles a key press. While the user is writing, letters belong to the text, and so does Enter before a choice.
    pub fn handle_key(&mut self, key: KeyEvent, cx: &ModalContext<'_>) -> ModalOutcome {
        let count = self.choices().len();
        let is_text = is_text_key(key) || key.code == KeyCode::Backspace;
        if is_text && cx.is_writing {
            return ModalOutcome::NotForModal;
        }
        let is_settled = self.is_settled(cx.now);
        match key.code {
            KeyCode::Up | KeyCode::BackTab => {
                self.choice = Some(self.choice.unwrap_or(0).checked_sub(1).unwrap_or(count - 1));
            }
            KeyCode::Down | KeyCode::Tab => {
                self.choice = Some(self.choice.map_or(0, |choice| (choice + 1) % count));
            }
            KeyCode::PageUp => self.scroll(-PAGE),
            KeyCode::PageDown => self.scroll(PAGE),
            KeyCode::Enter => match self.choice {
                Some(choice) if is_settled && key.modifiers.is_empty() => return self.answer(choice),
                _ if cx.is_writing => return ModalOutcome::NotForModal,
                _ => {}
            },
            KeyCode::Char(letter) if is_text => {
                let found =
                    self.choices().iter().position(|choice| choice.key == letter.to_ascii_lowercase());
                match found {
                    Some(choice) if is_settled => return self.answer(choice),
                    // Such as the repeated key of the last answer.
                    Some(_) => {}
                    // The beginning of a message.
                    None => return ModalOutcome::NotForModal,
                }
            }
            _ => {}
        }
        ModalOutcome::Open
    }

    fn answer(&self, choice: usize) -> ModalOutcome {
        match self.choices().get(choice) {
            Some(choice) => ModalOutcome::Permission(self.id, choice.answer),
            None => ModalOutcome::Open,
        }
    }

    /// Scrolls what is asked. Drawing limits the position to the last page.
    pub fn scroll(&mut self, lines: isize) {
        let scroll = self.scroll.get_mut();
        *scroll = scroll.saturating_add_signed(lines);
    }

    /// Returns the lines that say what is asked.
    fn lines(&self, width: usize, render: &RenderContext) -> Vec<Line<'static>> {
        let PermissionRequest { agent, action, title, command, changes, paths, input, text, always: _ } =
            &self.request;
        let theme = &render.theme;
        let layout = render.message_layout(width);
        let mut lines = wrap(
            &[
                Fragment::new(sanitize_line(agent), theme.title()),
                Fragment::new(format!(" asks to {action}"), theme.text),
            ],
            width,
        );
        let title = sanitize_line(title);
        let is_repeated = command.as_deref().map(sanitize_line).as_deref() == Some(title.as_str());
        if !title.is_empty() && !is_repeated {
            lines.extend(wrap(&[Fragment::new(title, theme.dim)], width));
        }
        if let Some(command) = command {
            lines.extend(tool_call::command_lines(command, width, layout));
        }
        lines.extend(file_list(changes, width, theme));
        for change in changes {
            let verb = if change.old.is_some() { "change" } else { "create" };
            let path = format!("{verb} {}", sanitize_line(&change.path));
            lines.extend(wrap(&[Fragment::new(path, theme.accent)], width));
            let old = change.old.as_deref().unwrap_or_default();
            lines.extend(tool_call::change_lines(old, &change.new, width, layout));
        }
        if changes.is_empty() {
            for path in paths {
                lines.extend(wrap(&[Fragment::new(sanitize_line(path), theme.accent)], width));
            }
        }
        if let Some(input) = input {
            lines.extend(tool_call::lines(input, width, layout));
        }
        for words in text {
            lines.extend(wrap_text(&sanitize(words), theme.text, width));
        }
        lines
    }

    /// Draws the dialog.
    pub fn draw(&self, buffer: &mut Buffer, screen: Rect, render: &RenderContext, cx: &ModalContext<'_>) {
        let theme = &render.theme;
        // The whole width, because what is asked must be readable.
        let width = usize::from(screen.width).saturating_sub(6).min(100);
        let lines = self.lines(width, render);
        let choices = self.choices();
        let max_height = usize::from(screen.height).saturating_sub(2);
        let is_compact = max_height < MIN_BODY_ROWS + choices.len() + 1;
        let choice_rows = if is_compact { choices.len().div_ceil(2) } else { choices.len() };
        // A blank row between what is asked and the choices, if there is room, and the keys.
        let gap = usize::from(lines.len() + choice_rows + 1 < max_height);
        let fixed = gap + choice_rows + 1;
        let waiting = match cx.waiting_questions {
            0 => String::new(),
            more => format!(
                "· {} ",
                if more == 1 { "1 more waits".to_owned() } else { format!("{more} more wait") }
            ),
        };
        let title =
            Line::from(vec![Span::styled(" Permission ", theme.title()), Span::styled(waiting, theme.warn)]);
        let inner = canvas::window(buffer, screen, title, theme, (width, lines.len() + fixed));
        let height = usize::from(inner.height);
        let room = height.saturating_sub(fixed);
        let is_scrollable = lines.len() > room;
        // One row says how much is hidden.
        let shown = if is_scrollable { room.saturating_sub(1) } else { room };
        let hidden = lines.len().saturating_sub(shown);
        self.scroll.set(self.scroll.get().min(hidden));
        let body = Rect { height: canvas::as_u16(shown).min(inner.height), ..inner };
        canvas::lines(buffer, body, lines.into_iter().skip(self.scroll.get()));
        if is_scrollable && room > 0 {
            let below = hidden - self.scroll.get();
            let text = match below {
                0 => "the end; PgUp shows the beginning".to_owned(),
                below => format!("{} more; PgDn shows them", plural(below, "line")),
            };
            let line = Line::styled(truncate(&text, width), theme.warn);
            canvas::line(buffer, canvas::row(inner, shown), &line);
        }
        let top = height.saturating_sub(choice_rows + 1);
        if is_compact {
            for (row, pair) in choices.chunks(2).enumerate() {
                let spans = pair
                    .iter()
                    .enumerate()
                    .flat_map(|(at, choice)| self.label(choice, row * 2 + at, cx.is_writing, true, render));
                canvas::line(buffer, canvas::row(inner, top + row), &Line::from(spans.collect::<Vec<_>>()));
            }
        } else {
            for (row, choice) in choices.iter().enumerate() {
                let line = Line::from(self.label(choice, row, cx.is_writing, false, render));
                canvas::line(buffer, canvas::row(inner, top + row), &line);
            }
        }
        let keys = [("↑ ↓", "select"), ("Enter", "answer"), ("Esc", "stop the turn")];
        canvas::line(buffer, last_row(inner), &canvas::hints(&keys, theme, width));
    }

    /// A choice with its mark and its key. Letters have no effect while the user is writing.
    fn label(
        &self,
        choice: &Choice,
        index: usize,
        is_writing: bool,
        is_short: bool,
        render: &RenderContext,
    ) -> Vec<Span<'static>> {
        let theme = &render.theme;
        let is_selected = self.choice == Some(index);
        let style = |normal| if is_selected { theme.selected } else { normal };
        let mark = if is_selected { "❯ " } else { "  " };
        let key = if is_writing { String::new() } else { format!("{}  ", choice.key) };
        let text = if is_short { format!("{:<8}", choice.short) } else { choice.long.clone() };
        vec![
            Span::styled(mark, style(theme.accent)),
            Span::styled(key, style(theme.accent)),
            Span::styled(text, style(theme.text)),
        ]
    }
}
