//! What lies over the screen and owns the focus until it is answered.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hfs_core::{BranchId, SessionId};
use hfs_engine::Conversation;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

use crate::canvas;
use crate::command::{Suggestion, suggestions};
use crate::editor::{Editor, KeyMode};
use crate::effect::{Change, Effect};
use crate::look::Look;
use crate::parts::{ApprovalRequest, PluginCommand, PluginDecision, PluginView};
use crate::screens::Act;
use crate::screens::list::Picked;
use crate::text::{Piece, cells, clip, end_of, fuzzy_score, one_line, shown, wrap};

/// Something that must be answered first.
#[derive(Debug)]
pub enum Modal {
    /// Yes or no.
    Confirm(Confirm),
    /// A line of text.
    Ask(Ask),
    /// Every command by a few of its letters.
    Palette { query: Editor, picked: Picked },
    /// What was said before, by some of its letters.
    History { query: Editor, picked: Picked, entries: Vec<String> },
    /// A plugin wants to run.
    Approval { request: ApprovalRequest, choice: usize },
    /// Somebody else wrote to the branch meanwhile.
    Conflict { conversation: Conversation, text: String, reason: String },
}

/// A question with two answers.
#[derive(Debug)]
pub struct Confirm {
    /// What is about to happen, in a word or two.
    pub title: String,
    /// What that means.
    pub text: Vec<String>,
    /// What the key does.
    pub yes: &'static str,
    /// What follows.
    pub then: Effect,
}

/// A question for a line of text.
#[derive(Debug)]
pub struct Ask {
    /// What is asked for.
    pub title: String,
    /// What it is good for.
    pub hint: String,
    /// What was typed so far.
    pub input: Editor,
    /// What it is for.
    pub about: AskedFor,
}

/// What a line of text is asked for.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum AskedFor {
    SessionName(SessionId),
    BranchName(BranchId),
    CheckpointLabel(Conversation),
    Setting(String),
    ExportPath,
    ImportPath,
}

impl Ask {
    /// A question whose field begins with `text`.
    #[must_use]
    pub fn new(title: impl Into<String>, hint: impl Into<String>, text: &str, about: AskedFor) -> Self {
        let mut input = Editor::default();
        input.set(text);
        Self { title: title.into(), hint: hint.into(), input, about }
    }
}

/// What a key did to a modal.
#[derive(Debug)]
pub enum Answered {
    /// It is still open.
    Open,
    /// It is closed, and this follows.
    Closed(Vec<Act>),
    /// It is closed, and this text was given.
    Text(AskedFor, String),
    /// It is closed, and this goes into the input.
    Insert(String),
    /// The plugin is to be asked about another time.
    Later(String),
}

/// The choices of an approval; the first is the safe one, so that a key pressed while it appeared does no harm.
const CHOICES: [(&str, Option<PluginDecision>); 3] =
    [("Not now", None), ("Deny", Some(PluginDecision::Deny)), ("Approve", Some(PluginDecision::Approve))];

impl Modal {
    /// Handles a key. Every key ends here.
    pub fn key(&mut self, key: KeyEvent, plugins: &PluginView, mode: KeyMode) -> Answered {
        let cancel = key.code == KeyCode::Esc
            || (key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c'));
        if cancel && !matches!(self, Self::Approval { .. } | Self::Conflict { .. }) {
            return Answered::Closed(Vec::new());
        }
        match self {
            Self::Confirm(confirm) => match key.code {
                KeyCode::Enter | KeyCode::Char('y') => Answered::Closed(vec![Act::Do(confirm.then.clone())]),
                KeyCode::Char('n') => Answered::Closed(Vec::new()),
                _ => Answered::Open,
            },
            Self::Ask(ask) => match key.code {
                KeyCode::Enter => Answered::Text(ask.about.clone(), ask.input.take()),
                _ => {
                    ask.input.key(key, KeyMode::Standard, usize::MAX);
                    Answered::Open
                }
            },
            Self::Palette { query, picked } => palette_key(query, picked, key, &plugins.commands, mode),
            Self::History { query, picked, entries } => history_key(query, picked, entries, key),
            Self::Approval { request, choice } => approval_key(request, choice, key, cancel),
            Self::Conflict { conversation, text, .. } => {
                let (conversation, text) = (conversation.clone(), text.clone());
                match key.code {
                    KeyCode::Char('f') => {
                        Answered::Closed(vec![Act::Do(Effect::SendOnFork { conversation, text })])
                    }
                    KeyCode::Char('r') => {
                        let open = conversation.session().map(|session| {
                            Act::Do(Effect::Open { session, branch: conversation.branch(), at: None })
                        });
                        Answered::Closed(open.into_iter().collect())
                    }
                    _ if cancel => Answered::Closed(Vec::new()),
                    _ => Answered::Open,
                }
            }
        }
    }

    /// Takes pasted text.
    pub fn paste(&mut self, text: &str) {
        if let Self::Ask(Ask { input, .. })
        | Self::Palette { query: input, .. }
        | Self::History { query: input, .. } = self
        {
            input.insert(&text.replace(['\n', '\r'], " "));
        }
    }

    /// Draws it over the screen; returns where the cursor is.
    pub fn view(
        &self,
        buffer: &mut Buffer,
        screen: Rect,
        look: &Look,
        plugins: &PluginView,
    ) -> Option<(u16, u16)> {
        let theme = &look.theme;
        match self {
            Self::Confirm(confirm) => {
                let lines = paragraphs(&confirm.text, look, screen);
                let keys = [("Enter", confirm.yes), ("Esc", "leave it")];
                dialog(buffer, screen, look, &confirm.title, lines, &keys);
                None
            }
            Self::Ask(ask) => {
                let width = usize::from(screen.width).saturating_sub(8).min(70);
                let title = Line::styled(format!(" {} ", one_line(&ask.title)), theme.title());
                let hint = wrap(&[Piece::new(one_line(&ask.hint), theme.dim)], width);
                let inner = canvas::window(buffer, screen, title, theme, (width, hint.len() + 3));
                let cursor = field(buffer, canvas::row(inner, 0), look, "❯ ", &ask.input);
                canvas::lines(buffer, below(inner, 1), hint);
                let keys = [("Enter", "take it"), ("Esc", "cancel")];
                let foot = canvas::row(inner, usize::from(inner.height).saturating_sub(1));
                canvas::line(buffer, foot, &canvas::hints(&keys, theme, width));
                Some(cursor)
            }
            Self::Palette { query, picked } => {
                let rows = suggestions(query.text(), &plugins.commands, look.settings.keys);
                Some(palette_view(buffer, screen, look, query, *picked, &rows))
            }
            Self::History { query, picked, entries } => {
                Some(history_view(buffer, screen, look, query, *picked, entries))
            }
            Self::Approval { request, choice } => {
                approval_view(buffer, screen, look, request, *choice);
                None
            }
            Self::Conflict { reason, .. } => {
                let text = vec![
                    one_line(reason),
                    "Your message was not sent, and nothing was written. It is still in the input."
                        .to_owned(),
                ];
                let lines = paragraphs(&text, look, screen);
                let keys = [("f", "fork here and send it there"), ("r", "reload"), ("Esc", "go on editing")];
                dialog(buffer, screen, look, "Somebody else wrote here", lines, &keys);
                None
            }
        }
    }
}

fn below(area: Rect, rows: u16) -> Rect {
    Rect { y: area.y + rows.min(area.height), height: area.height.saturating_sub(rows), ..area }
}

fn palette_key(
    query: &mut Editor,
    picked: &mut Picked,
    key: KeyEvent,
    plugins: &[PluginCommand],
    mode: KeyMode,
) -> Answered {
    let rows = suggestions(query.text(), plugins, mode);
    if picked.key(key, rows.len()) {
        return Answered::Open;
    }
    match key.code {
        KeyCode::Enter | KeyCode::Tab => match rows.get(picked.row) {
            // One that needs an argument waits for it in the input.
            Some(row) if key.code == KeyCode::Tab => Answered::Insert(format!("/{} ", row.name)),
            Some(row) => Answered::Closed(vec![Act::Command(format!("/{}", row.name))]),
            None => Answered::Open,
        },
        _ => {
            if query.key(key, KeyMode::Standard, usize::MAX) {
                *picked = Picked::default();
            }
            Answered::Open
        }
    }
}

/// The entries that fit, in their order: newest first.
fn fitting<'a>(query: &str, entries: &'a [String]) -> Vec<&'a String> {
    let lower = query.to_lowercase();
    let exact: Vec<&String> = entries.iter().filter(|entry| entry.to_lowercase().contains(&lower)).collect();
    if exact.is_empty() {
        return entries.iter().filter(|entry| fuzzy_score(query, entry).is_some()).collect();
    }
    exact
}

fn history_key(query: &mut Editor, picked: &mut Picked, entries: &[String], key: KeyEvent) -> Answered {
    let rows = fitting(query.text(), entries);
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if control && key.code == KeyCode::Char('r') {
        picked.row = (picked.row + 1).min(rows.len().saturating_sub(1));
        return Answered::Open;
    }
    // The newest is at the bottom, next to the field, so that up leads to older ones.
    let turned = match key.code {
        KeyCode::Up => KeyEvent::new(KeyCode::Down, key.modifiers),
        KeyCode::Down => KeyEvent::new(KeyCode::Up, key.modifiers),
        _ => key,
    };
    if matches!(key.code, KeyCode::Up | KeyCode::Down) && picked.key(turned, rows.len()) {
        return Answered::Open;
    }
    if matches!(key.code, KeyCode::Enter | KeyCode::Tab) {
        return rows.get(picked.row).map_or(Answered::Open, |row| Answered::Insert((*row).clone()));
    }
    if query.key(key, KeyMode::Standard, usize::MAX) {
        *picked = Picked::default();
    }
    Answered::Open
}

fn approval_key(request: &ApprovalRequest, choice: &mut usize, key: KeyEvent, cancel: bool) -> Answered {
    let plugin = request.plugin.clone();
    match key.code {
        _ if cancel => Answered::Later(plugin),
        KeyCode::Left | KeyCode::BackTab => {
            *choice = choice.checked_sub(1).unwrap_or(CHOICES.len() - 1);
            Answered::Open
        }
        KeyCode::Right | KeyCode::Tab => {
            *choice = (*choice + 1) % CHOICES.len();
            Answered::Open
        }
        KeyCode::Enter => match CHOICES.get(*choice).and_then(|(_, decision)| *decision) {
            Some(decision) => Answered::Closed(vec![Act::Do(Effect::DecidePlugin { plugin, decision })]),
            None => Answered::Later(plugin),
        },
        _ => Answered::Open,
    }
}

fn paragraphs(text: &[String], look: &Look, screen: Rect) -> Vec<Line<'static>> {
    let width = usize::from(screen.width).saturating_sub(10).min(64);
    let wrapped = text.iter().map(|text| wrap(&[Piece::new(shown(text), look.theme.text)], width));
    wrapped.collect::<Vec<_>>().join(&Line::default())
}

fn dialog(
    buffer: &mut Buffer,
    screen: Rect,
    look: &Look,
    title: &str,
    lines: Vec<Line<'static>>,
    keys: &[(&str, &str)],
) {
    let theme = &look.theme;
    let hints = canvas::hints(keys, theme, usize::from(screen.width).saturating_sub(8));
    let width = lines.iter().map(Line::width).chain([hints.width(), cells(title) + 4]).max().unwrap_or(0);
    let title = Line::styled(format!(" {} ", one_line(title)), theme.title());
    let inner = canvas::window(buffer, screen, title, theme, (width, lines.len() + 3));
    canvas::lines(buffer, below(inner, 1), lines);
    let foot = canvas::row(inner, usize::from(inner.height).saturating_sub(1));
    canvas::line(buffer, foot, &hints);
}

/// A field of one line; returns where the cursor is.
pub fn field(buffer: &mut Buffer, area: Rect, look: &Look, prompt: &str, input: &Editor) -> (u16, u16) {
    let before = shown(input.text().get(..input.cursor()).unwrap_or_default()).replace('\n', " ");
    let after = shown(input.text().get(input.cursor()..).unwrap_or_default()).replace('\n', " ");
    let room = usize::from(area.width).saturating_sub(cells(prompt) + 1);
    // The end of what stands before the cursor is always seen.
    let visible = end_of(&before, room);
    let column = cells(prompt) + cells(visible);
    let line = Line::from(vec![
        Span::styled(prompt.to_owned(), look.theme.accent),
        Span::styled(visible.to_owned(), look.theme.text),
        Span::styled(after, look.theme.text),
    ]);
    canvas::line(buffer, area, &line);
    (area.x + canvas::as_u16(column).min(area.width.saturating_sub(1)), area.y)
}

fn palette_view(
    buffer: &mut Buffer,
    screen: Rect,
    look: &Look,
    query: &Editor,
    picked: Picked,
    rows: &[Suggestion],
) -> (u16, u16) {
    let theme = &look.theme;
    let width = usize::from(screen.width).saturating_sub(8).min(76);
    let height = usize::from(screen.height).saturating_sub(8).min(14);
    let title = Line::styled(" Commands ", theme.title());
    let inner = canvas::window(buffer, screen, title, theme, (width, height + 2));
    let cursor = field(buffer, canvas::row(inner, 0), look, "❯ ", query);
    if rows.is_empty() {
        canvas::line(buffer, canvas::row(inner, 2), &Line::styled("no command fits", theme.dim));
    }
    for (index, at) in picked.window(rows.len(), height).zip(2..) {
        let Some(row) = rows.get(index) else { break };
        suggestion_row(buffer, canvas::row(inner, at), look, row, index == picked.row);
    }
    cursor
}

/// A command with what it does and its key.
pub fn suggestion_row(buffer: &mut Buffer, area: Rect, look: &Look, row: &Suggestion, selected: bool) {
    const NAMES: usize = 16;
    let theme = &look.theme;
    let (name, about, key) = if selected {
        (theme.selected, theme.selected, theme.selected)
    } else {
        (theme.accent, theme.text, theme.dim)
    };
    if selected {
        canvas::fill(buffer, area, theme.selected);
    }
    let room = usize::from(area.width).saturating_sub(NAMES + cells(row.key) + 2);
    let line = Line::from(vec![
        Span::styled(format!("{:<NAMES$}", clip(&format!("/{}", row.name), NAMES - 1)), name),
        Span::styled(clip(&row.about, room), about),
    ]);
    canvas::line(buffer, area, &line);
    canvas::right(buffer, area, &Line::styled(row.key, key));
}

fn history_view(
    buffer: &mut Buffer,
    screen: Rect,
    look: &Look,
    query: &Editor,
    picked: Picked,
    entries: &[String],
) -> (u16, u16) {
    let theme = &look.theme;
    let width = usize::from(screen.width).saturating_sub(8).min(90);
    let height = usize::from(screen.height).saturating_sub(8).min(12);
    let title = Line::styled(" What you said before ", theme.title());
    let inner = canvas::window(buffer, screen, title, theme, (width, height + 2));
    let rows = fitting(query.text(), entries);
    if rows.is_empty() {
        canvas::line(
            buffer,
            canvas::row(inner, height.saturating_sub(1)),
            &Line::styled("nothing fits", theme.dim),
        );
    }
    for (index, below) in picked.window(rows.len(), height).zip(1..) {
        let Some(text) = rows.get(index) else { break };
        let area = canvas::row(inner, height.saturating_sub(below));
        let style = if index == picked.row { theme.selected } else { theme.text };
        if index == picked.row {
            canvas::fill(buffer, area, theme.selected);
        }
        canvas::line(buffer, area, &Line::styled(clip(&one_line(text), usize::from(inner.width)), style));
    }
    field(buffer, canvas::row(inner, height + 1), look, "search ❯ ", query)
}

fn approval_view(buffer: &mut Buffer, screen: Rect, look: &Look, request: &ApprovalRequest, choice: usize) {
    let theme = &look.theme;
    let width = usize::from(screen.width).saturating_sub(10).min(66);
    let mut pieces = vec![
        Piece::new(one_line(&request.plugin), theme.title()),
        Piece::new(format!(" {} wants to run.", one_line(&request.version)), theme.text),
    ];
    if !request.about.is_empty() {
        pieces.push(Piece::new(format!(" It says: {}", one_line(&request.about)), theme.dim));
    }
    let mut lines = wrap(&pieces, width);
    lines.push(Line::default());
    if request.permissions.is_empty() {
        lines.push(Line::styled("It asks for no permission beyond its own work.", theme.text));
    } else {
        lines.push(Line::styled("If you approve, it may:", theme.text.add_modifier(Modifier::BOLD)));
    }
    for permission in &request.permissions {
        let is_new = request.new_permissions.contains(permission);
        let mut text = vec![Piece::new("• ", theme.accent), Piece::new(one_line(permission), theme.text)];
        if is_new {
            text.push(Piece::new("  (new)", theme.warn));
        }
        lines.extend(wrap(&text, width));
    }
    let title = Line::styled(" A plugin asks ", theme.title());
    let inner = canvas::window(buffer, screen, title, theme, (width, lines.len() + 4));
    canvas::lines(buffer, below(inner, 1), lines);
    let mut buttons = Vec::new();
    for (index, (name, _)) in CHOICES.iter().enumerate() {
        let style = if index == choice { theme.selected } else { theme.dim };
        buttons.push(Span::styled(format!("  {name}  "), style));
        buttons.push(Span::raw("  "));
    }
    let foot = canvas::row(inner, usize::from(inner.height).saturating_sub(1));
    canvas::line(buffer, foot, &Line::from(buttons));
    canvas::right(buffer, foot, &canvas::hints(&[("← →", "choose"), ("Enter", "take it")], theme, 40));
}

/// Asks before so many messages are left behind unsent.
#[must_use]
pub fn confirm_exit(waiting: usize) -> Modal {
    let waits = if waiting == 1 { "1 message waits".to_owned() } else { format!("{waiting} messages wait") };
    Modal::Confirm(Confirm {
        title: "Leave now?".to_owned(),
        text: vec![
            format!("{waits} for the end of the reply. They were not sent and are not saved."),
            "What has arrived of the reply is kept.".to_owned(),
        ],
        yes: "leave without them",
        then: Effect::Quit,
    })
}

/// Asks before a session goes to the trash.
#[must_use]
pub fn confirm_delete(session: SessionId, name: &str) -> Modal {
    Modal::Confirm(Confirm {
        title: "Delete this session?".to_owned(),
        text: vec![
            format!("\"{}\" goes to the trash.", one_line(name)),
            "Nothing is lost: the list of sessions shows the trash with Tab, and Enter there brings it back."
                .to_owned(),
        ],
        yes: "delete",
        then: Effect::Change(Change::Trash(session)),
    })
}
