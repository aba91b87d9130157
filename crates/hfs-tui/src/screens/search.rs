//! Full-text search over all sessions.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};
use hfs_core::{Role, SearchHit, SearchQuery, SearchResults, SessionId};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::query::QueryWords;
use super::sessions::damage_note;
use super::{Action, Context, Handled, ListSelection, Screen};
use crate::canvas;
use crate::editor::{Editor, KeyMode};
use crate::modal::draw_field;
use crate::protocol::{Request, ScreenMsg, Timer, UiResult};
use crate::render::RenderContext;
use crate::text::{Fragment, display_width, fitting_name, fitting_suffix, plural, sanitize_line, truncate};

/// Maximum number of hits per query.
const LIMIT: u32 = 100;
/// How long the user must pause typing before the query runs.
const TYPING_PAUSE: Duration = Duration::from_millis(120);
/// Rows per hit: the session, the snippet, and a blank row.
const HIT_ROWS: usize = 3;

#[derive(Debug)]
pub struct Search {
    query: Editor,
    /// The only session to search; `None` for all sessions.
    session: Option<SessionId>,
    /// The only role to search; `None` for all roles.
    role: Option<Role>,
    selection: ListSelection,
    results: SearchResults,
    request_id: u64,
    /// Whether the query has a word to look for.
    has_terms: bool,
    is_searching: bool,
    error: Option<String>,
}

impl Search {
    /// Opens the screen and runs a query, unless it is empty.
    pub fn open(text: &str, cx: &Context<'_>) -> (Self, Vec<Action>) {
        let mut query = Editor::default();
        query.set(text);
        let mut search = Self {
            query,
            session: None,
            role: None,
            selection: ListSelection::default(),
            results: SearchResults::default(),
            request_id: cx.ids.next(),
            has_terms: false,
            is_searching: false,
            error: None,
        };
        let actions = if text.is_empty() { Vec::new() } else { search.run_query() };
        (search, actions)
    }

    /// Runs the changed query after a pause, and invalidates the results of earlier requests.
    fn query_changed(&mut self, cx: &Context<'_>) -> Vec<Action> {
        self.request_id = cx.ids.next();
        self.selection = ListSelection::default();
        vec![Action::run(Request::StartTimer(TYPING_PAUSE, Timer::TypingPaused(self.request_id)))]
    }

    fn run_query(&mut self) -> Vec<Action> {
        let words = QueryWords::of(self.query.text());
        // The user may still be typing the last word, so it is searched as a prefix.
        let star = if words.is_last_word_open { "*" } else { "" };
        let query = SearchQuery {
            text: format!("{}{star}", words.text),
            sessions: words.filter(),
            session: self.session,
            role: self.role,
            limit: LIMIT,
            ..SearchQuery::default()
        };
        self.has_terms = !query.terms().is_empty();
        if !self.has_terms {
            self.results = SearchResults::default();
            self.is_searching = false;
            return Vec::new();
        }
        self.is_searching = true;
        vec![Action::run(Request::Search { query, request_id: self.request_id })]
    }

    fn set_results(&mut self, result: UiResult<SearchResults>) {
        self.is_searching = false;
        match result {
            Ok(results) => {
                self.results = results;
                self.error = None;
                self.selection.clamp(self.results.hits.len());
            }
            Err(report) => self.error = Some(report.message),
        }
    }

    fn status_line(&self, render: &RenderContext) -> Line<'static> {
        let theme = &render.theme;
        let damage = damage_note(self.results.unreadable);
        let (text, style) = match (&self.error, self.results.total) {
            (Some(error), _) => (sanitize_line(error), theme.bad),
            (None, _) if !self.has_terms => {
                let text = "words that must all occur · \"a phrase\" · prefix* · project:TEXT · tool:NAME";
                (text.to_owned(), theme.dim)
            }
            (None, _) if self.is_searching => ("searching ...".to_owned(), theme.dim),
            (None, 0) => (format!("no messages found{damage}"), theme.dim),
            (None, total) if total > u64::from(LIMIT) => {
                (format!("{total} messages; the {LIMIT} best are shown{damage}"), theme.dim)
            }
            (None, total) => (format!("{}{damage}", plural(total, "message")), theme.dim),
        };
        Line::styled(text, style)
    }
}

impl Screen for Search {
    fn title(&self) -> &'static str {
        "Search"
    }

    fn subtitle(&self, _cx: &Context<'_>) -> String {
        let scope = if self.session.is_some() { "in this session" } else { "in all sessions" };
        match self.role {
            Some(role) => format!("{scope} · role {role}"),
            None => scope.to_owned(),
        }
    }

    fn key_hints(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("Enter", "open at the message"),
            ("Tab", "this session / all"),
            ("Shift+Tab", "role"),
            ("Esc", "back"),
        ]
    }

    fn handle_key(&mut self, key: KeyEvent, cx: &Context<'_>) -> Vec<Action> {
        if self.selection.handle_key(key, self.results.hits.len()) {
            return Vec::new();
        }
        match key.code {
            KeyCode::Esc => vec![Action::Close],
            KeyCode::Enter if cx.is_busy => vec![Action::busy()],
            KeyCode::Enter => match self.results.hits.get(self.selection.row) {
                Some(hit) => vec![Action::run(Request::Open {
                    session: hit.session,
                    branch: Some(hit.branch),
                    at: Some(hit.seq),
                })],
                None => self.run_query(),
            },
            KeyCode::Tab => {
                self.session = if self.session.is_some() { None } else { cx.session() };
                self.query_changed(cx)
            }
            KeyCode::BackTab => {
                self.role = match self.role {
                    None => Some(Role::User),
                    Some(Role::User) => Some(Role::Assistant),
                    Some(Role::Assistant) => Some(Role::Tool),
                    Some(_) => None,
                };
                self.query_changed(cx)
            }
            _ => {
                let before = self.query.text().to_owned();
                self.query.handle_key(key, KeyMode::Standard, usize::MAX);
                if self.query.text() == before { Vec::new() } else { self.query_changed(cx) }
            }
        }
    }

    fn handle_paste(&mut self, text: &str, cx: &Context<'_>) -> Vec<Action> {
        self.query.insert(&sanitize_line(text));
        self.query_changed(cx)
    }

    fn handle_message(&mut self, message: ScreenMsg, _cx: &Context<'_>) -> Handled {
        match message {
            ScreenMsg::TypingPaused(request_id) if request_id == self.request_id => {
                Handled::Yes(self.run_query())
            }
            ScreenMsg::SearchResults { request_id, result } if request_id == self.request_id => {
                self.set_results(result);
                Handled::Yes(Vec::new())
            }
            other => Handled::No(other),
        }
    }

    fn draw(&self, buffer: &mut Buffer, area: Rect, cx: &Context<'_>) -> Option<(u16, u16)> {
        let cursor = draw_field(buffer, canvas::row(area, 0), cx.render, "❯ ", &self.query, "");
        canvas::line(buffer, canvas::row(area, 1), &self.status_line(cx.render));
        let list = Rect { y: area.y + 3, height: area.height.saturating_sub(3), ..area };
        let count = usize::from(list.height) / HIT_ROWS;
        let visible = self.selection.visible_range(self.results.hits.len(), count);
        canvas::scroll_mark(buffer, list, &visible, self.results.hits.len(), &cx.render.theme);
        for (at, index) in visible.enumerate() {
            if let Some(hit) = self.results.hits.get(index) {
                let y = list.y + canvas::as_u16(at * HIT_ROWS);
                let area = Rect { y, height: 2, ..list };
                draw_hit(buffer, area, cx.render, hit, index == self.selection.row);
            }
        }
        Some(cursor)
    }
}

fn draw_hit(buffer: &mut Buffer, area: Rect, render: &RenderContext, hit: &SearchHit, is_selected: bool) {
    let theme = &render.theme;
    let style = |normal| if is_selected { theme.selected } else { normal };
    let head = canvas::row(area, 0);
    if is_selected {
        canvas::fill(buffer, head, theme.selected);
    }
    let (age, role, seq) = (render.relative_time(hit.created_at), hit.role, hit.seq);
    let branch = sanitize_line(&hit.branch_name);
    let details = [format!("{role} · {branch} · #{seq}  {age}"), format!("{role} · #{seq}  {age}"), age];
    // At least half of the row is for the name.
    let details = canvas::longest_fitting(details, usize::from(head.width / 2));
    let used = canvas::right_aligned(buffer, head, &Line::styled(details, style(theme.dim)));
    let name = fitting_name(&hit.session_name, usize::from(area.width.saturating_sub(used + 2)));
    let name_area = Rect { width: area.width.saturating_sub(used + 1), ..head };
    canvas::line(buffer, name_area, &Line::styled(name, style(theme.title())));
    let snippet_area = Rect { x: area.x + 2, y: area.y + 1, width: area.width.saturating_sub(2), height: 1 };
    let mut snippet = snippet_fragments(hit, render);
    shorten_before_match(&mut snippet, usize::from(snippet_area.width), render);
    let mut room = usize::from(snippet_area.width);
    let spans = snippet.into_iter().map(|fragment| {
        let text = truncate(&fragment.text, room);
        room = room.saturating_sub(display_width(&text));
        Span::styled(text, fragment.style)
    });
    canvas::line(buffer, snippet_area, &Line::from(spans.collect::<Vec<_>>()));
}

/// Cuts the beginning of a snippet so that its first match fits on the row.
fn shorten_before_match(fragments: &mut [Fragment], width: usize, render: &RenderContext) {
    let is_match = |fragment: &Fragment| fragment.style == render.theme.search_match;
    let Some(first) = fragments.iter().position(is_match) else { return };
    let Some((before, [matched, ..])) = fragments.split_at_mut_checked(first) else { return };
    // At most one fragment comes before the first match.
    let [lead] = before else { return };
    let room = width.saturating_sub(display_width(&matched.text));
    if display_width(&lead.text) > room {
        // A third of the row is enough context before the match.
        let kept = room.min(width / 3).saturating_sub(1);
        lead.text = format!("…{}", fitting_suffix(&lead.text, kept));
    }
}

/// Splits a snippet into fragments, with its matches highlighted.
fn snippet_fragments(hit: &SearchHit, render: &RenderContext) -> Vec<Fragment> {
    let mut fragments = Vec::new();
    let mut is_match = false;
    for marked in hit.snippet.split_inclusive([SearchHit::MARK_START, SearchHit::MARK_END]) {
        let text = marked.trim_end_matches([SearchHit::MARK_START, SearchHit::MARK_END]);
        let style = if is_match { render.theme.search_match } else { render.theme.text };
        fragments.push(Fragment::new(sanitize_keeping_outer_spaces(text), style));
        is_match = marked.ends_with(SearchHit::MARK_START);
    }
    fragments
}

/// Sanitizes a fragment. `sanitize_line` trims it, but a space between two fragments must be kept.
fn sanitize_keeping_outer_spaces(text: &str) -> String {
    let before = if text.starts_with(char::is_whitespace) { " " } else { "" };
    let after = if text.len() > 1 && text.ends_with(char::is_whitespace) { " " } else { "" };
    format!("{before}{}{after}", sanitize_line(text))
}
