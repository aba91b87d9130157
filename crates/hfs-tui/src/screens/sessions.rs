//! The list of sessions: search by name, preview, open, rename, delete and restore.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hfs_core::{Cursor, Page, PageRequest, SessionFilter, SessionId, SessionSummary};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::query::QueryWords;
use super::{Action, Context, Handled, ListSelection, Preview, Screen, StaleData, split_for_preview};
use crate::canvas;
use crate::commands::Command;
use crate::editor::{Editor, KeyMode};
use crate::modal::{Modal, Prompt, PromptPurpose, confirm_trash, draw_field};
use crate::ports::{SessionScope, Tone};
use crate::protocol::{Change, PreviewSource, Request, ScreenMsg, UiResult};
use crate::render::RenderContext;
use crate::text::{display_width, fuzzy_score, plural, sanitize_line, truncate};

/// Sessions read per request.
const PAGE: u32 = 200;
/// Maximum number of loaded sessions; the list and the search by name contain no others. Full-text search finds all.
const MAX_LOADED: usize = 5_000;
/// With fewer rows than this after the selected one, the next page is read.
const PREFETCH_ROWS: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Project,
    AllProjects,
    Trash,
}

#[derive(Debug)]
pub struct Sessions {
    scope: Scope,
    project: Option<String>,
    query: Editor,
    /// The words of the query whose sessions are listed.
    words: QueryWords,
    selection: ListSelection,
    rows: Vec<SessionSummary>,
    next_page: Option<Cursor>,
    request_id: u64,
    is_loading: bool,
    preview: Preview,
    previewed: Option<SessionId>,
    error: Option<String>,
    /// Number of damaged sessions that the list leaves out.
    unreadable: u64,
    /// Whether the first page of this project's sessions is being read.
    is_opening: bool,
    /// Whether the list shows all projects because this one has no sessions.
    is_project_empty: bool,
    /// The session that was deleted last on this screen, for Ctrl+U.
    last_trashed: Option<SessionId>,
}

impl Sessions {
    /// Opens the list with `query` in its search field.
    pub fn open(scope: SessionScope, query: &str, cx: &Context<'_>) -> (Self, Vec<Action>) {
        let project = cx.project.map(|project| project.key().to_owned());
        let scope = match (scope, &project) {
            (SessionScope::Project, Some(_)) => Scope::Project,
            (SessionScope::Project, None) | (SessionScope::AllProjects, _) => Scope::AllProjects,
        };
        let mut editor = Editor::default();
        editor.set(query);
        let mut list = Self {
            scope,
            project,
            query: editor,
            words: QueryWords::default(),
            selection: ListSelection::default(),
            rows: Vec::new(),
            next_page: None,
            request_id: 0,
            is_loading: false,
            preview: Preview::default(),
            previewed: None,
            error: None,
            unreadable: 0,
            is_opening: scope == Scope::Project,
            is_project_empty: false,
            last_trashed: None,
        };
        let actions = list.reload(cx);
        (list, actions)
    }

    fn reload(&mut self, cx: &Context<'_>) -> Vec<Action> {
        self.words = QueryWords::of(self.query.text());
        self.rows.clear();
        self.next_page = None;
        self.request_id = cx.ids.next();
        self.previewed = None;
        self.error = None;
        self.unreadable = 0;
        vec![self.request_page()]
    }

    fn request_page(&mut self) -> Action {
        self.is_loading = true;
        let words = &self.words;
        // A project that the user names is one of all projects.
        let in_project = self.scope == Scope::Project && words.project.is_none();
        let filter = SessionFilter {
            project: self.project.clone().filter(|_| in_project),
            trashed: self.scope == Scope::Trash,
            ..words.filter()
        };
        let page = PageRequest { limit: PAGE, after: self.next_page.take() };
        Action::run(Request::ListSessions { filter, page, request_id: self.request_id })
    }

    fn add_page(&mut self, result: UiResult<Page<SessionSummary>>, cx: &Context<'_>) -> Vec<Action> {
        self.is_loading = false;
        match result {
            // A project without sessions: show what there is instead of nothing.
            Ok(page)
                if page.items.is_empty()
                    && self.rows.is_empty()
                    && self.is_opening
                    && self.words.project.is_none()
                    && self.words.tool.is_none() =>
            {
                self.is_opening = false;
                self.is_project_empty = true;
                self.scope = Scope::AllProjects;
                return self.reload(cx);
            }
            Ok(page) => {
                self.is_opening = false;
                self.rows.extend(page.items);
                self.next_page = page.next;
                self.unreadable += page.unreadable;
            }
            Err(report) => self.error = Some(report.message),
        }
        self.selection_changed(cx)
    }

    fn selection_changed(&mut self, cx: &Context<'_>) -> Vec<Action> {
        let mut actions = self.load_preview(cx);
        actions.extend(self.request_more());
        actions
    }

    /// Reads the next page while the user searches by name, or when the selection comes near the end of the list.
    fn request_more(&mut self) -> Option<Action> {
        let count = self.matching_rows().len();
        let is_wanted = !self.words.text.is_empty() || self.selection.row + PREFETCH_ROWS > count;
        (is_wanted && !self.is_loading && self.next_page.is_some() && self.rows.len() < MAX_LOADED)
            .then(|| self.request_page())
    }

    /// Returns the rows that match the query, best match first.
    fn matching_rows(&self) -> Vec<&SessionSummary> {
        /// Score of a matching id, higher than that of any name.
        const ID_SCORE: u32 = 10_000;
        let query = self.words.text.as_str();
        if query.is_empty() {
            return self.rows.iter().collect();
        }
        let mut rows: Vec<(u32, usize, &SessionSummary)> = Vec::new();
        for (index, row) in self.rows.iter().enumerate() {
            let by_id = row.session.id.short().as_str().starts_with(query).then_some(ID_SCORE);
            if let Some(score) = by_id.or_else(|| fuzzy_score(query, &row.session.name)) {
                rows.push((score, index, row));
            }
        }
        rows.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        rows.into_iter().map(|(_, _, row)| row).collect()
    }

    fn selected(&self) -> Option<&SessionSummary> {
        self.matching_rows().get(self.selection.row).copied()
    }

    fn load_preview(&mut self, cx: &Context<'_>) -> Vec<Action> {
        let selected = self.selected().map(|row| row.session.id);
        if selected.is_some() && selected == self.previewed {
            return Vec::new();
        }
        self.previewed = selected;
        let Some(session) = selected else {
            self.preview.clear();
            return Vec::new();
        };
        let request_id = cx.ids.next();
        self.preview.start_loading(request_id);
        vec![Action::run(Request::ReadPreview { source: PreviewSource::Session(session), request_id })]
    }

    /// Shows the rows that match the query, and reads them if its filters have changed.
    fn query_changed(&mut self, cx: &Context<'_>) -> Vec<Action> {
        self.selection = ListSelection::default();
        let words = QueryWords::of(self.query.text());
        if (&words.project, &words.tool) != (&self.words.project, &self.words.tool) {
            return self.reload(cx);
        }
        self.words = words;
        self.selection_changed(cx)
    }

    fn empty_message(&self, render: &RenderContext) -> Line<'static> {
        let theme = &render.theme;
        let text = match (&self.error, self.is_loading, self.scope) {
            (Some(error), _, _) => return Line::styled(sanitize_line(error), theme.bad),
            (None, true, _) => "loading ...",
            (None, false, _) if !self.words.text.is_empty() => "no name matches; / searches the messages",
            (None, false, _) if !self.query.is_empty() => "no session of this project or tool",
            (None, false, Scope::Project) => {
                "no sessions in this project yet; Tab shows those of all projects"
            }
            (None, false, Scope::AllProjects) => "no sessions yet",
            (None, false, Scope::Trash) => "the trash is empty",
        };
        Line::styled(text, theme.dim)
    }
}

impl Screen for Sessions {
    fn title(&self) -> &'static str {
        "Sessions"
    }

    fn subtitle(&self, _cx: &Context<'_>) -> String {
        let scope = match self.scope {
            Scope::Project => "of this project",
            Scope::AllProjects if self.is_project_empty => "of all projects; this one has none yet",
            Scope::AllProjects => "of all projects",
            Scope::Trash => "in the trash",
        };
        format!("{scope}{}", damage_note(self.unreadable))
    }

    fn key_hints(&self) -> Vec<(&'static str, &'static str)> {
        let next_scope = match self.next_scope() {
            Scope::Project => "this project",
            Scope::AllProjects => "all projects",
            Scope::Trash => "trash",
        };
        vec![
            ("Enter", if self.scope == Scope::Trash { "restore" } else { "open" }),
            ("Tab", next_scope),
            ("/", "full text"),
            ("Ctrl+R", "rename"),
            ("Ctrl+D", "delete"),
            ("Esc", "back"),
        ]
    }

    fn handle_key(&mut self, key: KeyEvent, cx: &Context<'_>) -> Vec<Action> {
        let count = self.matching_rows().len();
        if self.selection.handle_key(key, count) {
            return self.selection_changed(cx);
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let selected = self.selected().map(|row| (row.session.id, row.session.name.clone()));
        match (key.code, selected) {
            (KeyCode::Esc, _) => vec![Action::Close],
            (KeyCode::Enter, Some((session, _))) if self.scope == Scope::Trash => {
                vec![Action::run(Change::Restore(session))]
            }
            (KeyCode::Enter, Some(_)) if cx.is_busy => vec![Action::busy()],
            (KeyCode::Enter, Some((session, _))) => {
                vec![Action::run(Request::Open { session, branch: None, at: None })]
            }
            (KeyCode::Tab, _) => {
                self.is_opening = false;
                self.scope = self.next_scope();
                self.selection = ListSelection::default();
                self.reload(cx)
            }
            (KeyCode::Char('/'), _) if self.query.is_empty() => vec![Action::RunCommand(Command::Search)],
            (KeyCode::Char('n'), _) if control => vec![Action::Close, Action::RunCommand(Command::New)],
            (KeyCode::Char('u'), _) if control && self.last_trashed.is_some() => {
                let session = self.last_trashed.take();
                session.map(|session| Action::run(Change::Restore(session))).into_iter().collect()
            }
            (KeyCode::Char('r'), Some((session, name))) if control => {
                let purpose = PromptPurpose::SessionName(session);
                vec![Action::open(Modal::Prompt(Prompt::new("Rename session", "New name", &name, purpose)))]
            }
            (KeyCode::Char('d') | KeyCode::Delete, Some((session, _)))
                if (control || key.code == KeyCode::Delete)
                    && cx.is_busy
                    && Some(session) == cx.session() =>
            {
                vec![Action::busy()]
            }
            (KeyCode::Char('d'), Some((session, name))) if control && self.scope != Scope::Trash => {
                vec![Action::open(confirm_trash(session, &name))]
            }
            (KeyCode::Delete, Some((session, name)))
                if self.query.is_empty() && self.scope != Scope::Trash =>
            {
                vec![Action::open(confirm_trash(session, &name))]
            }
            _ => {
                if self.query.handle_key(key, KeyMode::Standard, usize::MAX) {
                    return self.query_changed(cx);
                }
                self.selection_changed(cx)
            }
        }
    }

    fn handle_paste(&mut self, text: &str, cx: &Context<'_>) -> Vec<Action> {
        self.query.insert(&sanitize_line(text));
        self.query_changed(cx)
    }

    fn handle_message(&mut self, message: ScreenMsg, cx: &Context<'_>) -> Handled {
        match message {
            ScreenMsg::Sessions { request_id, result } if request_id == self.request_id => {
                Handled::Yes(self.add_page(result, cx))
            }
            ScreenMsg::Preview { request_id, result } => {
                self.preview.set_messages(request_id, result);
                Handled::Yes(Vec::new())
            }
            ScreenMsg::Trashed(session) => {
                self.last_trashed = Some(session);
                let text = "deleted; Ctrl+U restores it, and so does the trash (Tab)";
                Handled::Yes(vec![Action::Notify(Tone::Good, text.to_owned())])
            }
            other => Handled::No(other),
        }
    }

    fn request_failed(&mut self) {
        self.is_loading = false;
    }

    fn refresh(&mut self, stale: StaleData, cx: &Context<'_>) -> Vec<Action> {
        if stale == StaleData::Sessions { self.reload(cx) } else { Vec::new() }
    }

    fn draw(&self, buffer: &mut Buffer, area: Rect, cx: &Context<'_>) -> Option<(u16, u16)> {
        let (list, preview) = split_for_preview(area);
        let field = canvas::row(list, 0);
        let hint = "a name, project:TEXT or tool:NAME";
        let cursor = draw_field(buffer, field, cx.render, "❯ ", &self.query, hint);
        let rows = self.matching_rows();
        let list = Rect { y: list.y + 2, height: list.height.saturating_sub(2), ..list };
        if rows.is_empty() || self.error.is_some() {
            canvas::line(buffer, canvas::row(list, 0), &self.empty_message(cx.render));
        }
        let visible = self.selection.visible_range(rows.len(), usize::from(list.height));
        canvas::scroll_mark(buffer, list, &visible, rows.len(), &cx.render.theme);
        for (at, index) in visible.enumerate() {
            if let Some(row) = rows.get(index) {
                let is_selected = index == self.selection.row;
                let with_project = self.scope != Scope::Project || self.words.project.is_some();
                let area = canvas::row(list, at);
                draw_session_row(buffer, area, cx.render, row, is_selected, with_project);
            }
        }
        self.preview.draw(buffer, preview, cx.render, "newest messages");
        Some(cursor)
    }
}

impl Sessions {
    /// The scope that Tab switches to.
    fn next_scope(&self) -> Scope {
        match self.scope {
            Scope::Project => Scope::AllProjects,
            Scope::AllProjects => Scope::Trash,
            Scope::Trash if self.project.is_some() => Scope::Project,
            Scope::Trash => Scope::AllProjects,
        }
    }
}

/// The addition to a list's title if damaged rows are left out.
pub fn damage_note(unreadable: u64) -> String {
    match unreadable {
        0 => String::new(),
        count => format!(" · {count} damaged left out; hfs store repair recovers what is readable"),
    }
}

/// Draws a session in one row, with the tool that it comes from and, if wanted and if there is room, its project.
pub fn draw_session_row(
    buffer: &mut Buffer,
    area: Rect,
    render: &RenderContext,
    row: &SessionSummary,
    is_selected: bool,
    with_project: bool,
) {
    /// Width of the name that the tool and the project leave free.
    const MIN_NAME_WIDTH: usize = 24;
    /// Width of the id and the space after it.
    const ID_WIDTH: usize = 10;
    let theme = &render.theme;
    let style = |normal| if is_selected { theme.selected } else { normal };
    if is_selected {
        canvas::fill(buffer, area, theme.selected);
    }
    let name_width =
        |details: &str| usize::from(area.width).saturating_sub(display_width(details) + ID_WIDTH);
    let age = render.relative_time(row.session.updated_at);
    let messages = format!("{} msg", row.messages);
    let branches =
        if row.branches > 1 { format!(" · {}", plural(row.branches, "branch")) } else { String::new() };
    let mut details = canvas::longest_fitting(
        [format!("{messages}{branches}  {age:>14}"), format!("{messages}  {age:>14}"), age],
        name_width("").saturating_sub(MIN_NAME_WIDTH),
    );
    let session = &row.session;
    let project =
        session.project.as_ref().filter(|_| with_project).map(|project| project_name(&project.directory));
    let tool = session.origin.as_ref().map(|_| session.tool());
    for place in [tool, project].into_iter().flatten().filter(|place| !place.is_empty()) {
        let place = truncate(&sanitize_line(place), 20);
        if name_width(&details) >= MIN_NAME_WIDTH + display_width(&place) + 3 {
            details = format!("{place} · {details}");
        }
    }
    let used = canvas::right_aligned(buffer, area, &Line::styled(details, style(theme.dim)));
    let room = usize::from(area.width).saturating_sub(usize::from(used) + ID_WIDTH);
    let line = Line::from(vec![
        Span::styled(format!("{} ", row.session.id.short().shown()), style(theme.border)),
        Span::styled(truncate(&sanitize_line(row.session.title()), room), style(theme.text)),
    ]);
    canvas::line(buffer, Rect { width: area.width.saturating_sub(used + 1), ..area }, &line);
}

/// The last part of a project's directory.
fn project_name(directory: &str) -> &str {
    directory.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_shown_by_the_last_part_of_its_directory() {
        assert_eq!(project_name("/home/you/gateway/"), "gateway");
    }
}
