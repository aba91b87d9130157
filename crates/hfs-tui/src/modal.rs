//! Modals: dialogs over the screen that have the focus until they are closed.

mod permission;

use std::cell::Cell;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hfs_core::{BranchId, SessionId, Timestamp};
use hfs_engine::Conversation;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

use crate::canvas;
use crate::commands::{Suggestion, suggestions};
use crate::editor::{Editor, KeyMode};
use crate::ports::{ApprovalRequest, PermissionAnswer, PluginCommand, PluginDecision, PluginView};
use crate::protocol::{Change, Effect, Request, TerminalCommand};
use crate::render::RenderContext;
use crate::screens::{Action, ListSelection};
use crate::text::{
    Fragment, display_width, fitting_suffix, fuzzy_score, plural, sanitize, sanitize_line, truncate, wrap,
};
use crate::theme::Theme;

pub use permission::PermissionDialog;

/// The part of the model that modals can read.
#[derive(Debug, Clone, Copy)]
pub struct ModalContext<'a> {
    /// State of the plugins.
    pub plugins: &'a PluginView,
    /// Key bindings of the input.
    pub keys: KeyMode,
    /// The current time.
    pub now: Timestamp,
    /// Whether keys may belong to something below the modal: the input has text, or a screen is open.
    pub is_writing: bool,
    /// Number of questions of agents that wait for the open one.
    pub waiting_questions: usize,
}

/// A dialog over the screen.
#[derive(Debug)]
pub enum Modal {
    /// A question with the answers yes and no.
    Confirm(Confirm),
    /// A question that is answered with a line of text.
    Prompt(Prompt),
    /// Fuzzy search over all commands.
    Palette { query: Editor, selection: ListSelection },
    /// Search over the user's earlier messages.
    History { query: Editor, selection: ListSelection, entries: Vec<String> },
    /// The approval of a plugin; `choice` is an index into [`APPROVAL_CHOICES`], and `scroll` the first visible line.
    Approval { request: ApprovalRequest, choice: usize, scroll: Cell<usize> },
    /// The message was not sent because another process has changed the branch.
    Conflict { conversation: Conversation, text: String, reason: String },
    /// An agent asks whether it may do something.
    Permission(PermissionDialog),
}

/// A question with the answers yes and no.
#[derive(Debug)]
pub struct Confirm {
    /// The question.
    pub title: String,
    /// The consequences, one paragraph each.
    pub text: Vec<String>,
    /// The key hint of Enter.
    pub confirm_label: &'static str,
    /// The effect of Enter.
    pub on_confirm: Effect,
}

/// A question that is answered with a line of text.
#[derive(Debug)]
pub struct Prompt {
    /// The title.
    pub title: String,
    /// A description of the text to enter.
    pub hint: String,
    /// The text field.
    pub input: Editor,
    /// The use of the text.
    pub purpose: PromptPurpose,
}

impl Prompt {
    /// Creates a prompt with `text` in its field.
    #[must_use]
    pub fn new(
        title: impl Into<String>,
        hint: impl Into<String>,
        text: &str,
        purpose: PromptPurpose,
    ) -> Self {
        let mut input = Editor::default();
        input.set(text);
        Self { title: title.into(), hint: hint.into(), input, purpose }
    }
}

/// The use of a prompt's text.
#[derive(Debug, Clone, PartialEq)]
pub enum PromptPurpose {
    /// The new name of a session.
    SessionName(SessionId),
    /// The new name of a branch.
    BranchName(BranchId),
    /// The label of a new checkpoint; may be empty.
    CheckpointLabel(Conversation),
    /// The value of the setting with this key.
    Setting(String),
    /// Passed to the screen that opened the prompt.
    OpenScreen,
}

/// The result of a key press in a modal.
#[derive(Debug)]
pub enum ModalOutcome {
    /// The modal stays open.
    Open,
    /// The modal was closed; the model then performs these actions.
    Closed(Vec<Action>),
    /// The prompt was answered with this text.
    Text(PromptPurpose, String),
    /// The modal was closed; the text goes into the chat's input.
    Insert(String),
    /// The conflict was resolved by sending on a new branch.
    SendOnFork(Conversation, String),
    /// The approval of this plugin was postponed.
    Postponed(String),
    /// The question with this id was answered.
    Permission(u64, PermissionAnswer),
    /// The turn in which the question was asked should be stopped.
    StopTurn,
    /// The key has no meaning for a question that the user did not ask for, so it belongs to the text that the user is
    /// writing.
    NotForModal,
}

/// The choices of an approval. The first one has no effect, so that a key pressed while the dialog appears does no
/// harm.
const APPROVAL_CHOICES: [(&str, Option<PluginDecision>); 3] =
    [("Not now", None), ("Deny", Some(PluginDecision::Deny)), ("Approve", Some(PluginDecision::Approve))];

impl Modal {
    /// Handles a key press. A modal receives every key, also those that it ignores.
    pub fn handle_key(&mut self, key: KeyEvent, cx: &ModalContext<'_>) -> ModalOutcome {
        let is_cancel = key.code == KeyCode::Esc
            || (key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c'));
        match self {
            Self::Approval { request, .. } if is_cancel => ModalOutcome::Postponed(request.plugin.clone()),
            // In vim's insert mode, Esc belongs to the input.
            Self::Permission(_) if is_cancel && cx.keys == KeyMode::Vim && cx.is_writing => {
                ModalOutcome::NotForModal
            }
            Self::Permission(dialog) if is_cancel && !dialog.is_settled(cx.now) => ModalOutcome::NotForModal,
            Self::Permission(_) if is_cancel => ModalOutcome::StopTurn,
            _ if is_cancel => ModalOutcome::Closed(Vec::new()),
            Self::Confirm(confirm) => match key.code {
                KeyCode::Enter | KeyCode::Char('y') => {
                    ModalOutcome::Closed(vec![Action::Run(confirm.on_confirm.clone())])
                }
                KeyCode::Char('n') => ModalOutcome::Closed(Vec::new()),
                _ => ModalOutcome::Open,
            },
            Self::Prompt(prompt) => match key.code {
                KeyCode::Enter => ModalOutcome::Text(prompt.purpose.clone(), prompt.input.take()),
                _ => {
                    prompt.input.handle_key(key, KeyMode::Standard, usize::MAX);
                    ModalOutcome::Open
                }
            },
            Self::Palette { query, selection } => {
                handle_palette_key(query, selection, key, &cx.plugins.commands, cx.keys)
            }
            Self::History { query, selection, entries } => handle_history_key(query, selection, entries, key),
            Self::Approval { request, choice, scroll } => handle_approval_key(request, choice, scroll, key),
            Self::Conflict { conversation, text, .. } => match key.code {
                KeyCode::Char('f') => ModalOutcome::SendOnFork(conversation.clone(), text.clone()),
                KeyCode::Char('r') => {
                    let open = conversation.session().map(|session| {
                        Action::run(Request::Open { session, branch: conversation.branch(), at: None })
                    });
                    ModalOutcome::Closed(open.into_iter().collect())
                }
                _ => unused_key(key),
            },
            Self::Permission(dialog) => dialog.handle_key(key, cx),
        }
    }

    /// Handles pasted text. Returns `false` if it belongs to the text that the user is writing.
    pub fn handle_paste(&mut self, text: &str) -> bool {
        match self {
            Self::Prompt(Prompt { input, .. })
            | Self::Palette { query: input, .. }
            | Self::History { query: input, .. } => {
                input.insert(&text.replace(['\n', '\r'], " "));
                true
            }
            Self::Confirm(_) => true,
            Self::Approval { .. } | Self::Conflict { .. } | Self::Permission(_) => false,
        }
    }

    /// Whether this question appears by itself, and not after a key of the user.
    #[must_use]
    pub const fn appears_by_itself(&self) -> bool {
        match self {
            Self::Approval { .. } | Self::Conflict { .. } | Self::Permission(_) => true,
            Self::Confirm(_) | Self::Prompt(_) | Self::Palette { .. } | Self::History { .. } => false,
        }
    }

    /// Draws the modal over the screen and returns the position of the cursor, if there is one.
    pub fn draw(
        &self,
        buffer: &mut Buffer,
        screen: Rect,
        render: &RenderContext,
        cx: &ModalContext<'_>,
    ) -> Option<(u16, u16)> {
        match self {
            Self::Confirm(confirm) => {
                let lines = paragraphs(&confirm.text, render, screen);
                let keys = [("Enter", confirm.confirm_label), ("Esc", "cancel")];
                draw_dialog(buffer, screen, render, &confirm.title, lines, &keys);
                None
            }
            Self::Prompt(prompt) => Some(draw_prompt(buffer, screen, render, prompt)),
            Self::Palette { query, selection } => {
                let rows = suggestions(query.text(), &cx.plugins.commands, cx.keys);
                Some(draw_palette(buffer, screen, render, query, *selection, &rows))
            }
            Self::History { query, selection, entries } => {
                Some(draw_history(buffer, screen, render, query, *selection, entries))
            }
            Self::Approval { request, choice, scroll } => {
                draw_approval(buffer, screen, render, request, *choice, scroll);
                None
            }
            Self::Conflict { reason, .. } => {
                let text = vec![
                    sanitize_line(reason),
                    "Your message was not sent. It is still in the input.".to_owned(),
                ];
                let lines = paragraphs(&text, render, screen);
                let keys = [("f", "fork and send it there"), ("r", "reload"), ("Esc", "continue editing")];
                draw_dialog(buffer, screen, render, "This branch has changed", lines, &keys);
                None
            }
            Self::Permission(dialog) => {
                dialog.draw(buffer, screen, render, cx);
                None
            }
        }
    }
}

fn last_row(area: Rect) -> Rect {
    canvas::row(area, usize::from(area.height).saturating_sub(1))
}

fn handle_palette_key(
    query: &mut Editor,
    selection: &mut ListSelection,
    key: KeyEvent,
    plugins: &[PluginCommand],
    mode: KeyMode,
) -> ModalOutcome {
    let rows = suggestions(query.text(), plugins, mode);
    if selection.handle_key(key, rows.len()) {
        return ModalOutcome::Open;
    }
    match key.code {
        // Tab puts the command into the input, where the user can add arguments.
        KeyCode::Tab => rows
            .get(selection.row)
            .map_or(ModalOutcome::Open, |row| ModalOutcome::Insert(format!("/{} ", row.name))),
        KeyCode::Enter => rows.get(selection.row).map_or(ModalOutcome::Open, |row| {
            ModalOutcome::Closed(vec![Action::RunCommandLine(format!("/{}", row.name))])
        }),
        _ => {
            if query.handle_key(key, KeyMode::Standard, usize::MAX) {
                *selection = ListSelection::default();
            }
            ModalOutcome::Open
        }
    }
}

/// Returns the entries that contain the query, or else those that match it fuzzily; newest first.
fn matching_entries<'a>(query: &str, entries: &'a [String]) -> Vec<&'a String> {
    let lower = query.to_lowercase();
    let exact: Vec<&String> = entries.iter().filter(|entry| entry.to_lowercase().contains(&lower)).collect();
    if exact.is_empty() {
        return entries.iter().filter(|entry| fuzzy_score(query, entry).is_some()).collect();
    }
    exact
}

fn handle_history_key(
    query: &mut Editor,
    selection: &mut ListSelection,
    entries: &[String],
    key: KeyEvent,
) -> ModalOutcome {
    let rows = matching_entries(query.text(), entries);
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && key.code == KeyCode::Char('r') {
        selection.row = (selection.row + 1).min(rows.len().saturating_sub(1));
        return ModalOutcome::Open;
    }
    // The newest entry (row 0) is drawn at the bottom, so Up and Down are swapped.
    let swapped = match key.code {
        KeyCode::Up => Some(KeyCode::Down),
        KeyCode::Down => Some(KeyCode::Up),
        _ => None,
    };
    if let Some(code) = swapped
        && selection.handle_key(KeyEvent::new(code, key.modifiers), rows.len())
    {
        return ModalOutcome::Open;
    }
    if matches!(key.code, KeyCode::Enter | KeyCode::Tab) {
        let row = rows.get(selection.row);
        return row.map_or(ModalOutcome::Open, |row| ModalOutcome::Insert((*row).clone()));
    }
    if query.handle_key(key, KeyMode::Standard, usize::MAX) {
        *selection = ListSelection::default();
    }
    ModalOutcome::Open
}

fn handle_approval_key(
    request: &ApprovalRequest,
    choice: &mut usize,
    scroll: &mut Cell<usize>,
    key: KeyEvent,
) -> ModalOutcome {
    /// Lines per page key; less than the height of the dialog on most terminals.
    const PAGE: usize = 8;
    // Drawing limits the position to the last page.
    let scroll = scroll.get_mut();
    match key.code {
        KeyCode::Up => *scroll = scroll.saturating_sub(1),
        KeyCode::Down => *scroll = scroll.saturating_add(1),
        KeyCode::PageUp => *scroll = scroll.saturating_sub(PAGE),
        KeyCode::PageDown => *scroll = scroll.saturating_add(PAGE),
        _ => return handle_approval_choice(request, choice, key),
    }
    ModalOutcome::Open
}

fn handle_approval_choice(request: &ApprovalRequest, choice: &mut usize, key: KeyEvent) -> ModalOutcome {
    match key.code {
        KeyCode::Left | KeyCode::BackTab => {
            *choice = choice.checked_sub(1).unwrap_or(APPROVAL_CHOICES.len() - 1);
            ModalOutcome::Open
        }
        KeyCode::Right | KeyCode::Tab => {
            *choice = (*choice + 1) % APPROVAL_CHOICES.len();
            ModalOutcome::Open
        }
        KeyCode::Enter => {
            let plugin = request.plugin.clone();
            match APPROVAL_CHOICES.get(*choice).and_then(|(_, decision)| *decision) {
                Some(decision) => {
                    ModalOutcome::Closed(vec![Action::run(Request::DecidePlugin { plugin, decision })])
                }
                None => ModalOutcome::Postponed(plugin),
            }
        }
        _ => unused_key(key),
    }
}

/// The outcome of a key that has no meaning for a question that appeared by itself.
fn unused_key(key: KeyEvent) -> ModalOutcome {
    if is_text_key(key) || key.code == KeyCode::Backspace {
        ModalOutcome::NotForModal
    } else {
        ModalOutcome::Open
    }
}

/// Whether a key inserts a character.
#[must_use]
pub fn is_text_key(key: KeyEvent) -> bool {
    matches!(key.code, KeyCode::Char(_))
        && !key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT)
}

fn paragraphs(text: &[String], render: &RenderContext, screen: Rect) -> Vec<Line<'static>> {
    let width = usize::from(screen.width).saturating_sub(6).min(64);
    let wrapped = text.iter().map(|text| wrap(&[Fragment::new(sanitize(text), render.theme.text)], width));
    // A blank line between two paragraphs.
    wrapped.collect::<Vec<_>>().join(&Line::default())
}

fn draw_dialog(
    buffer: &mut Buffer,
    screen: Rect,
    render: &RenderContext,
    title: &str,
    lines: Vec<Line<'static>>,
    keys: &[(&str, &str)],
) {
    let theme = &render.theme;
    let hints = canvas::hints(keys, theme, usize::from(screen.width).saturating_sub(6));
    let widths = lines.iter().map(Line::width).chain([hints.width(), display_width(title) + 4]);
    let width = widths.max().unwrap_or(0);
    let title = Line::styled(format!(" {} ", sanitize_line(title)), theme.title());
    // The border and the keys.
    let room = usize::from(screen.height).saturating_sub(3);
    let (mut lines, mut gap) = (lines, 1);
    if lines.len() + 2 > room {
        gap = 0;
        lines.retain(|line| line.width() > 0);
    }
    if lines.len() > room {
        lines.truncate(room.saturating_sub(1));
        lines.push(Line::styled("…", theme.dim));
    }
    let inner = canvas::window(buffer, screen, title, theme, (width, lines.len() + 2 * gap + 1));
    canvas::lines(buffer, canvas::below(inner, gap), lines);
    canvas::line(buffer, last_row(inner), &hints);
}

fn draw_prompt(buffer: &mut Buffer, screen: Rect, render: &RenderContext, prompt: &Prompt) -> (u16, u16) {
    let theme = &render.theme;
    let width = usize::from(screen.width).saturating_sub(8).min(70);
    let title = Line::styled(format!(" {} ", sanitize_line(&prompt.title)), theme.title());
    let hint = wrap(&[Fragment::new(sanitize_line(&prompt.hint), theme.dim)], width);
    let inner = canvas::window(buffer, screen, title, theme, (width, hint.len() + 3));
    let cursor = draw_field(buffer, canvas::row(inner, 0), render, "❯ ", &prompt.input, "");
    canvas::lines(buffer, canvas::below(inner, 1), hint);
    let keys = canvas::hints(&[("Enter", "accept"), ("Esc", "cancel")], theme, width);
    canvas::line(buffer, last_row(inner), &keys);
    cursor
}

/// Draws a text field in one row and returns the position of the cursor.
pub fn draw_field(
    buffer: &mut Buffer,
    area: Rect,
    render: &RenderContext,
    prompt: &str,
    input: &Editor,
    hint: &str,
) -> (u16, u16) {
    let before = sanitize(input.text().get(..input.cursor()).unwrap_or_default()).replace('\n', " ");
    let after = sanitize(input.text().get(input.cursor()..).unwrap_or_default()).replace('\n', " ");
    let room = usize::from(area.width).saturating_sub(display_width(prompt) + 1);
    // Scrolls so that the text directly before the cursor is visible.
    let visible = fitting_suffix(&before, room);
    let column = display_width(prompt) + display_width(visible);
    let line = Line::from(vec![
        Span::styled(prompt.to_owned(), render.theme.accent),
        Span::styled(visible.to_owned(), render.theme.text),
        Span::styled(after, render.theme.text),
        Span::styled(if input.is_empty() { hint.to_owned() } else { String::new() }, render.theme.dim),
    ]);
    canvas::line(buffer, area, &line);
    (area.x + canvas::as_u16(column).min(area.width.saturating_sub(1)), area.y)
}

fn draw_palette(
    buffer: &mut Buffer,
    screen: Rect,
    render: &RenderContext,
    query: &Editor,
    selection: ListSelection,
    rows: &[Suggestion],
) -> (u16, u16) {
    let theme = &render.theme;
    let width = usize::from(screen.width).saturating_sub(8).min(76);
    let height = usize::from(screen.height).saturating_sub(8).min(14);
    let title = Line::styled(" Commands ", theme.title());
    let inner = canvas::window(buffer, screen, title, theme, (width, height + 2));
    let cursor = draw_field(
        buffer,
        canvas::row(inner, 0),
        render,
        "❯ ",
        query,
        "a command, or a word of its description",
    );
    if rows.is_empty() {
        canvas::line(buffer, canvas::row(inner, 2), &Line::styled("no command matches", theme.dim));
    }
    let visible = selection.visible_range(rows.len(), height);
    let list = canvas::to_border(canvas::below(inner, 2));
    canvas::scroll_mark(buffer, list, &visible, rows.len(), theme);
    for (index, at) in visible.zip(2..) {
        let Some(row) = rows.get(index) else { break };
        draw_suggestion(buffer, canvas::row(inner, at), render, row, index == selection.row);
    }
    cursor
}

/// Draws a command with its description and its key.
pub fn draw_suggestion(
    buffer: &mut Buffer,
    area: Rect,
    render: &RenderContext,
    row: &Suggestion,
    is_selected: bool,
) {
    const NAME_WIDTH: usize = 16;
    let theme = &render.theme;
    let style = |normal| if is_selected { theme.selected } else { normal };
    if is_selected {
        canvas::fill(buffer, area, theme.selected);
    }
    let name = truncate(&format!("/{}", sanitize_line(&row.name)), NAME_WIDTH - 1);
    let room = usize::from(area.width).saturating_sub(NAME_WIDTH + display_width(row.key) + 2);
    let line = Line::from(vec![
        Span::styled(format!("{name:<NAME_WIDTH$}"), style(theme.accent)),
        Span::styled(truncate(&row.about, room), style(theme.text)),
    ]);
    canvas::line(buffer, area, &line);
    canvas::right_aligned(buffer, area, &Line::styled(row.key, style(theme.dim)));
}

fn draw_history(
    buffer: &mut Buffer,
    screen: Rect,
    render: &RenderContext,
    query: &Editor,
    selection: ListSelection,
    entries: &[String],
) -> (u16, u16) {
    let theme = &render.theme;
    let width = usize::from(screen.width).saturating_sub(8).min(90);
    let height = usize::from(screen.height).saturating_sub(8).min(12);
    let title = Line::styled(" Your earlier messages ", theme.title());
    let inner = canvas::window(buffer, screen, title, theme, (width, height + 2));
    let rows = matching_entries(query.text(), entries);
    if rows.is_empty() {
        let bottom = canvas::row(inner, height.saturating_sub(1));
        canvas::line(buffer, bottom, &Line::styled("no message matches", theme.dim));
    }
    let visible = selection.visible_range(rows.len(), height);
    // The newest message is at the bottom.
    let from_top = rows.len() - visible.end..rows.len() - visible.start;
    let list = canvas::to_border(Rect { height: canvas::as_u16(height).min(inner.height), ..inner });
    canvas::scroll_mark(buffer, list, &from_top, rows.len(), theme);
    for (index, from_bottom) in visible.zip(1..) {
        let Some(text) = rows.get(index) else { break };
        let area = canvas::row(inner, height.saturating_sub(from_bottom));
        let style = if index == selection.row { theme.selected } else { theme.text };
        if index == selection.row {
            canvas::fill(buffer, area, theme.selected);
        }
        let text = truncate(&sanitize_line(text), usize::from(inner.width));
        canvas::line(buffer, area, &Line::styled(text, style));
    }
    draw_field(buffer, canvas::row(inner, height + 1), render, "search ❯ ", query, "")
}

/// Returns the lines of an approval above its choices.
fn approval_lines(request: &ApprovalRequest, theme: &Theme, width: usize) -> Vec<Line<'static>> {
    let mut intro = vec![
        Fragment::new(sanitize_line(&request.plugin), theme.title()),
        Fragment::new(format!(" {} wants to run.", sanitize_line(&request.version)), theme.text),
    ];
    if !request.about.is_empty() {
        let about = format!(" Its description: {}", sanitize_line(&request.about));
        intro.push(Fragment::new(about, theme.dim));
    }
    let mut lines = wrap(&intro, width);
    lines.push(Line::default());
    if request.permissions.is_empty() {
        lines.push(Line::styled("It requests no permissions.", theme.text));
    } else {
        lines.push(Line::styled("If you approve, it may:", theme.text.add_modifier(Modifier::BOLD)));
    }
    for permission in &request.permissions {
        let mut text =
            vec![Fragment::new("• ", theme.accent), Fragment::new(sanitize_line(permission), theme.text)];
        if request.new_permissions.contains(permission) {
            text.push(Fragment::new("  (new)", theme.warn));
        }
        lines.extend(wrap(&text, width));
    }
    lines
}

fn draw_approval(
    buffer: &mut Buffer,
    screen: Rect,
    render: &RenderContext,
    request: &ApprovalRequest,
    choice: usize,
    scroll: &Cell<usize>,
) {
    /// Rows of the window besides the lines: blank rows, the choices and the keys.
    const FIXED_ROWS: usize = 4;
    let theme = &render.theme;
    let width = usize::from(screen.width).saturating_sub(10).min(66);
    let lines = approval_lines(request, theme, width);
    let title = Line::styled(" Approve a plugin ", theme.title());
    let inner = canvas::window(buffer, screen, title, theme, (width, lines.len() + FIXED_ROWS));
    let room = usize::from(inner.height).saturating_sub(FIXED_ROWS);
    let hidden = lines.len().saturating_sub(room);
    // The number of lines depends on the width, so the position is limited here.
    scroll.set(scroll.get().min(hidden));
    let body = canvas::below(inner, 1);
    let body = Rect { height: canvas::as_u16(room).min(body.height), ..body };
    canvas::lines(buffer, body, lines.into_iter().skip(scroll.get()));
    if hidden > 0 {
        let below = hidden - scroll.get();
        let text = if below > 0 {
            format!("{} more", plural(below, "line"))
        } else {
            "all lines were shown".to_owned()
        };
        let row = canvas::row(inner, usize::from(inner.height).saturating_sub(2));
        let mut line = Line::styled(format!("{text}  "), theme.warn);
        line.spans.extend(canvas::hints(&[("↑ ↓", "scroll")], theme, 20).spans);
        canvas::line(buffer, row, &line);
    }
    let mut buttons = Vec::new();
    for (index, (name, _)) in APPROVAL_CHOICES.iter().enumerate() {
        let style = if index == choice { theme.selected } else { theme.dim };
        buttons.push(Span::styled(format!("  {name}  "), style));
        buttons.push(Span::raw("  "));
    }
    canvas::line(buffer, last_row(inner), &Line::from(buttons));
    let keys = canvas::hints(&[("← →", "select"), ("Enter", "confirm")], theme, 40);
    canvas::right_aligned(buffer, last_row(inner), &keys);
}

/// Asks for confirmation before the user leaves while messages are queued.
#[must_use]
pub fn confirm_quit(queued: usize) -> Modal {
    let verb = if queued == 1 { "waits" } else { "wait" };
    Modal::Confirm(Confirm {
        title: "Quit now?".to_owned(),
        text: vec![
            format!(
                "{} {verb} for the end of the reply. What is not sent is back in the input when you open the session again.",
                plural(queued, "message")
            ),
            "The part of the reply that has arrived is saved.".to_owned(),
        ],
        confirm_label: "quit",
        on_confirm: TerminalCommand::Quit.into(),
    })
}

/// Asks for confirmation before a session is moved to the trash.
#[must_use]
pub fn confirm_trash(session: SessionId, name: &str) -> Modal {
    Modal::Confirm(Confirm {
        title: "Delete this session?".to_owned(),
        text: vec![
            format!("\"{}\" is moved to the trash.", sanitize_line(name)),
            "To restore it, open the list of sessions, press Tab until it shows the trash, and press Enter."
                .to_owned(),
        ],
        confirm_label: "delete",
        on_confirm: Change::Trash(session).into(),
    })
}
