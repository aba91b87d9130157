//! The list of sessions: found by a few letters, looked into, opened, renamed, deleted and brought back.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hfs_core::{Cursor, Page, PageRequest, SessionFilter, SessionId, SessionSummary};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::list::Picked;
use super::preview::Preview;
use super::{Act, Context};
use crate::canvas;
use crate::editor::{Editor, KeyMode};
use crate::effect::{Change, Effect};
use crate::look::Look;
use crate::message::Answer;
use crate::modal::{Ask, AskedFor, Modal, confirm_delete, field};
use crate::parts::{PickFrom, Tone};
use crate::text::{clip, fuzzy_score, one_line};

/// Rows asked for at once.
const PAGE: u32 = 200;
/// So many are looked through for a name; more are found with full-text search.
const MOST: usize = 5_000;

/// Whose sessions are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Project,
    Everywhere,
    Trash,
}

/// The list of sessions.
#[derive(Debug)]
pub struct Sessions {
    scope: Scope,
    project: Option<String>,
    query: Editor,
    picked: Picked,
    rows: Vec<SessionSummary>,
    next: Option<Cursor>,
    generation: u64,
    loading: bool,
    preview: Preview,
    previewed: Option<SessionId>,
    failure: Option<String>,
    /// The one that went to the trash last, from here.
    deleted: Option<SessionId>,
}

impl Sessions {
    /// The list, and what it needs first.
    pub fn open(from: PickFrom, query: &str, context: &Context<'_>) -> (Self, Vec<Act>) {
        let project = context.project.map(|project| project.key().to_owned());
        let scope = match (from, &project) {
            (PickFrom::Project, Some(_)) => Scope::Project,
            _ => Scope::Everywhere,
        };
        let mut editor = Editor::default();
        editor.set(query);
        let mut list = Self {
            scope,
            project,
            query: editor,
            picked: Picked::default(),
            rows: Vec::new(),
            next: None,
            generation: context.fresh,
            loading: false,
            preview: Preview::default(),
            previewed: None,
            failure: None,
            deleted: None,
        };
        let acts = list.reload(context.fresh);
        (list, acts)
    }

    /// Lists anew.
    pub fn reload(&mut self, fresh: u64) -> Vec<Act> {
        self.rows.clear();
        self.next = None;
        self.generation = fresh;
        self.previewed = None;
        self.failure = None;
        vec![self.request()]
    }

    fn request(&mut self) -> Act {
        self.loading = true;
        let filter = SessionFilter {
            project: self.project.clone().filter(|_| self.scope == Scope::Project),
            trashed: self.scope == Scope::Trash,
            origin: None,
        };
        let page = PageRequest { limit: PAGE, after: self.next.take() };
        Act::Do(Effect::ListSessions { filter, page, generation: self.generation })
    }

    /// Takes a page of the list.
    pub fn take(&mut self, generation: u64, result: Answer<Page<SessionSummary>>, fresh: u64) -> Vec<Act> {
        if generation != self.generation {
            return Vec::new();
        }
        self.loading = false;
        match result {
            Ok(page) => {
                self.rows.extend(page.items);
                self.next = page.next;
            }
            Err(failure) => self.failure = Some(failure.message),
        }
        let mut acts = self.look_into(fresh);
        acts.extend(self.more());
        acts
    }

    /// The rest is asked for when somebody looks for a name or comes near the end.
    fn more(&mut self) -> Option<Act> {
        let shown = self.shown().len();
        let wanted = !self.query.is_empty() || self.picked.row + 20 > shown;
        (wanted && !self.loading && self.next.is_some() && self.rows.len() < MOST).then(|| self.request())
    }

    fn shown(&self) -> Vec<&SessionSummary> {
        let query = self.query.text();
        if query.is_empty() {
            return self.rows.iter().collect();
        }
        let mut rows: Vec<(u32, usize, &SessionSummary)> = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            let by_id = row.session.id.short().as_str().starts_with(query).then_some(10_000);
            if let Some(score) = by_id.or_else(|| fuzzy_score(query, &row.session.name)) {
                rows.push((score, index, row));
            }
        }
        rows.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1)));
        rows.into_iter().map(|(_, _, row)| row).collect()
    }

    fn selected(&self) -> Option<&SessionSummary> {
        self.shown().get(self.picked.row).copied()
    }

    fn look_into(&mut self, fresh: u64) -> Vec<Act> {
        let selected = self.selected().map(|row| row.session.id);
        if selected == self.previewed {
            return Vec::new();
        }
        self.previewed = selected;
        let Some(session) = selected else { return Vec::new() };
        self.preview.expect(fresh);
        vec![Act::Do(Effect::Preview { session, generation: fresh })]
    }

    /// Remembers what went to the trash, so that one key brings it back.
    pub fn deleted(&mut self, session: SessionId) {
        self.deleted = Some(session);
    }

    /// The messages of the session that is looked into.
    pub fn preview_mut(&mut self) -> &mut Preview {
        &mut self.preview
    }

    /// Handles a key.
    pub fn key(&mut self, key: KeyEvent, context: &Context<'_>) -> Vec<Act> {
        let shown = self.shown().len();
        if self.picked.key(key, shown) {
            let mut acts = self.look_into(context.fresh);
            acts.extend(self.more());
            return acts;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let selected = self.selected().map(|row| (row.session.id, row.session.name.clone()));
        match (key.code, selected) {
            (KeyCode::Esc, _) => vec![Act::Back],
            (KeyCode::Enter, Some((session, _))) if self.scope == Scope::Trash => {
                vec![Act::Do(Effect::Change(Change::Restore(session)))]
            }
            (KeyCode::Enter, Some(_)) if context.busy => {
                vec![Act::Say(Tone::Warn, "a reply is in progress; Esc in the chat stops it".to_owned())]
            }
            (KeyCode::Enter, Some((session, _))) => {
                vec![Act::Do(Effect::Open { session, branch: None, at: None })]
            }
            (KeyCode::Tab, _) => {
                self.scope = match self.scope {
                    Scope::Project => Scope::Everywhere,
                    Scope::Everywhere => Scope::Trash,
                    Scope::Trash if self.project.is_some() => Scope::Project,
                    Scope::Trash => Scope::Everywhere,
                };
                self.picked = Picked::default();
                self.reload(context.fresh)
            }
            (KeyCode::Char('/'), _) if self.query.is_empty() => vec![Act::Command("/search".to_owned())],
            (KeyCode::Char('n'), _) if control => vec![Act::Back, Act::Command("/new".to_owned())],
            (KeyCode::Char('u'), _) if control && self.deleted.is_some() => {
                let session = self.deleted.take();
                session.map(|session| Act::Do(Effect::Change(Change::Restore(session)))).into_iter().collect()
            }
            (KeyCode::Char('r'), Some((session, name))) if control => {
                let about = AskedFor::SessionName(session);
                vec![Act::Ask(Box::new(Modal::Ask(Ask::new("Rename session", "Its new name", &name, about))))]
            }
            (KeyCode::Char('d') | KeyCode::Delete, Some((session, _)))
                if (control || key.code == KeyCode::Delete)
                    && context.busy
                    && Some(session) == context.session() =>
            {
                vec![Act::Say(
                    Tone::Warn,
                    "a reply is in progress there; Esc in the chat stops it".to_owned(),
                )]
            }
            (KeyCode::Char('d'), Some((session, name))) if control && self.scope != Scope::Trash => {
                vec![Act::Ask(Box::new(confirm_delete(session, &name)))]
            }
            (KeyCode::Delete, Some((session, name)))
                if self.query.is_empty() && self.scope != Scope::Trash =>
            {
                vec![Act::Ask(Box::new(confirm_delete(session, &name)))]
            }
            _ => {
                if self.query.key(key, KeyMode::Standard, usize::MAX) {
                    self.picked = Picked::default();
                }
                let mut acts = self.look_into(context.fresh);
                acts.extend(self.more());
                acts
            }
        }
    }

    /// Takes pasted text.
    pub fn paste(&mut self, text: &str) {
        self.query.insert(&one_line(text));
    }

    /// Draws the list; returns where the cursor is.
    pub fn view(&self, buffer: &mut Buffer, area: Rect, look: &Look) -> (u16, u16) {
        let theme = &look.theme;
        let (whose, enter) = match self.scope {
            Scope::Project => ("of this project", "open"),
            Scope::Everywhere => ("of all projects", "open"),
            Scope::Trash => ("in the trash", "bring back"),
        };
        let keys = [
            ("Enter", enter),
            ("Tab", "whose"),
            ("/", "full text"),
            ("Ctrl+R", "rename"),
            ("Ctrl+D", "delete"),
            ("Esc", "back"),
        ];
        let body = canvas::screen(buffer, area, look, "Sessions", whose, &keys);
        let (list, preview) = split(body);
        let cursor = field(buffer, canvas::row(list, 0), look, "❯ ", &self.query);
        let rows = self.shown();
        let list = Rect { y: list.y + 2, height: list.height.saturating_sub(2), ..list };
        let empty = match (&self.failure, self.loading, rows.is_empty()) {
            (Some(failure), _, _) => Some((one_line(failure), theme.bad)),
            (None, true, true) => Some(("loading ...".to_owned(), theme.dim)),
            (None, false, true) if self.query.is_empty() => {
                let text = match self.scope {
                    Scope::Project => "no sessions of this project yet; Tab shows those of all projects",
                    Scope::Everywhere => "no sessions yet",
                    Scope::Trash => "the trash is empty",
                };
                Some((text.to_owned(), theme.dim))
            }
            (None, false, true) => Some(("no name fits; / looks into what was said".to_owned(), theme.dim)),
            _ => None,
        };
        if let Some((text, style)) = empty {
            canvas::line(buffer, canvas::row(list, 0), &Line::styled(text, style));
        }
        for (at, index) in self.picked.window(rows.len(), usize::from(list.height)).enumerate() {
            if let Some(row) = rows.get(index) {
                session_row(buffer, canvas::row(list, at), look, row, index == self.picked.row);
            }
        }
        self.preview.view(buffer, preview, look, "newest messages");
        cursor
    }
}

/// The list and the look into what is selected: side by side, or one above the other.
pub fn split(body: Rect) -> (Rect, Rect) {
    if body.width >= 100 {
        let list = body.width * 11 / 20;
        let preview = Rect { x: body.x + list + 1, width: body.width - list - 1, ..body };
        return (Rect { width: list, ..body }, preview);
    }
    let below = if body.height >= 14 { body.height * 2 / 5 } else { 0 };
    let list = Rect { height: body.height - below, ..body };
    (list, Rect { y: list.bottom(), height: below, ..body })
}

/// A session on one row.
pub fn session_row(buffer: &mut Buffer, area: Rect, look: &Look, row: &SessionSummary, selected: bool) {
    let theme = &look.theme;
    let style = |normal| if selected { theme.selected } else { normal };
    if selected {
        canvas::fill(buffer, area, theme.selected);
    }
    let mut details = format!("{} msg", row.messages);
    if row.branches > 1 {
        details.push_str(&format!(" · {} branches", row.branches));
    }
    let details = format!("{details}  {:>10}", look.age(row.session.updated_at));
    let details = Line::styled(details, style(theme.dim));
    let taken = canvas::right(buffer, area, &details);
    let room = usize::from(area.width).saturating_sub(usize::from(taken) + 10);
    let line = Line::from(vec![
        Span::styled(format!("{} ", row.session.id.short().shown()), style(theme.frame)),
        Span::styled(clip(&one_line(&row.session.name), room), style(theme.text)),
    ]);
    canvas::line(buffer, Rect { width: area.width.saturating_sub(taken + 1), ..area }, &line);
}
