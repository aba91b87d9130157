//! Full-text search with hits that open at the message.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};
use hfs_core::{Role, SearchHit, SearchQuery, SearchResults, SessionId};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::list::Picked;
use super::{Act, Context};
use crate::canvas;
use crate::editor::{Editor, KeyMode};
use crate::effect::Effect;
use crate::look::Look;
use crate::message::{Answer, Timer};
use crate::modal::field;
use crate::parts::Tone;
use crate::text::{Piece, cells, clip, end_of, one_line};

/// Hits asked for.
const LIMIT: u32 = 100;
/// How long typing must pause before the search begins.
const PAUSE: Duration = Duration::from_millis(120);
/// Rows per hit: where, and what.
const ROWS: usize = 3;

/// The search screen.
#[derive(Debug)]
pub struct Search {
    query: Editor,
    only: Option<SessionId>,
    role: Option<Role>,
    picked: Picked,
    results: SearchResults,
    generation: u64,
    searching: bool,
    failure: Option<String>,
}

impl Search {
    /// The screen, and what it needs first.
    pub fn open(words: &str, context: &Context<'_>) -> (Self, Vec<Act>) {
        let mut query = Editor::default();
        query.set(words);
        let mut search = Self {
            query,
            only: None,
            role: None,
            picked: Picked::default(),
            results: SearchResults::default(),
            generation: context.fresh,
            searching: false,
            failure: None,
        };
        let acts = if words.is_empty() { Vec::new() } else { search.begin() };
        (search, acts)
    }

    fn changed(&mut self, fresh: u64) -> Vec<Act> {
        self.generation = fresh;
        self.picked = Picked::default();
        vec![Act::Do(Effect::After(PAUSE, Timer::Typed(fresh)))]
    }

    /// Typing has paused.
    pub fn paused(&mut self, generation: u64) -> Vec<Act> {
        if generation == self.generation { self.begin() } else { Vec::new() }
    }

    fn begin(&mut self) -> Vec<Act> {
        let text = self.query.text().to_owned();
        let query =
            SearchQuery { text, session: self.only, role: self.role, limit: LIMIT, ..SearchQuery::default() };
        if query.terms().is_empty() {
            self.results = SearchResults::default();
            self.searching = false;
            return Vec::new();
        }
        self.searching = true;
        // The last word is still being typed: its beginning counts.
        let text = query.text.trim_end();
        let open_word = !query.text.ends_with([' ', '"', '*']);
        let text = if open_word { format!("{text}*") } else { query.text.clone() };
        vec![Act::Do(Effect::Search { query: SearchQuery { text, ..query }, generation: self.generation })]
    }

    /// Takes what was found.
    pub fn take(&mut self, generation: u64, result: Answer<SearchResults>) {
        if generation != self.generation {
            return;
        }
        self.searching = false;
        match result {
            Ok(results) => {
                self.results = results;
                self.failure = None;
                self.picked.clamp(self.results.hits.len());
            }
            Err(failure) => self.failure = Some(failure.message),
        }
    }

    /// Handles a key.
    pub fn key(&mut self, key: KeyEvent, context: &Context<'_>) -> Vec<Act> {
        if self.picked.key(key, self.results.hits.len()) {
            return Vec::new();
        }
        match key.code {
            KeyCode::Esc => vec![Act::Back],
            KeyCode::Enter if context.busy => {
                vec![Act::Say(Tone::Warn, "a reply is in progress; Esc in the chat stops it".to_owned())]
            }
            KeyCode::Enter => match self.results.hits.get(self.picked.row) {
                Some(hit) => vec![Act::Do(Effect::Open {
                    session: hit.session,
                    branch: Some(hit.branch),
                    at: Some(hit.seq),
                })],
                None => self.begin(),
            },
            KeyCode::Tab => {
                self.only = if self.only.is_some() { None } else { context.session() };
                self.changed(context.fresh)
            }
            KeyCode::BackTab => {
                self.role = match self.role {
                    None => Some(Role::User),
                    Some(Role::User) => Some(Role::Assistant),
                    Some(Role::Assistant) => Some(Role::Tool),
                    Some(_) => None,
                };
                self.changed(context.fresh)
            }
            _ => {
                let before = self.query.text().to_owned();
                self.query.key(key, KeyMode::Standard, usize::MAX);
                if self.query.text() == before { Vec::new() } else { self.changed(context.fresh) }
            }
        }
    }

    /// Takes pasted text.
    pub fn paste(&mut self, text: &str, fresh: u64) -> Vec<Act> {
        self.query.insert(&one_line(text));
        self.changed(fresh)
    }

    /// Draws the screen; returns where the cursor is.
    pub fn view(&self, buffer: &mut Buffer, area: Rect, look: &Look) -> (u16, u16) {
        let theme = &look.theme;
        let whose = if self.only.is_some() { "in this session" } else { "in all sessions" };
        let who = self.role.map_or_else(String::new, |role| format!(" · said by {role}"));
        let keys = [
            ("Enter", "open at the message"),
            ("Tab", "this session / all"),
            ("Shift+Tab", "who said it"),
            ("Esc", "back"),
        ];
        let body = canvas::screen(buffer, area, look, "Search", &format!("{whose}{who}"), &keys);
        let cursor = field(buffer, canvas::row(body, 0), look, "❯ ", &self.query);
        let (text, style) = match (&self.failure, self.results.total) {
            (Some(failure), _) => (one_line(failure), theme.bad),
            (None, _) if self.query.is_empty() => {
                ("words that must all occur · \"a phrase\" · begin*".to_owned(), theme.dim)
            }
            (None, _) if self.searching => ("searching ...".to_owned(), theme.dim),
            (None, 0) => ("nothing was found".to_owned(), theme.dim),
            (None, 1) => ("1 message".to_owned(), theme.dim),
            (None, total) if total > u64::from(LIMIT) => {
                (format!("{total} messages, the best {LIMIT} here"), theme.dim)
            }
            (None, total) => (format!("{total} messages"), theme.dim),
        };
        canvas::line(buffer, canvas::row(body, 1), &Line::styled(text, style));
        let list = Rect { y: body.y + 3, height: body.height.saturating_sub(3), ..body };
        let fit = usize::from(list.height) / ROWS;
        for (at, index) in self.picked.window(self.results.hits.len(), fit).enumerate() {
            if let Some(hit) = self.results.hits.get(index) {
                let y = list.y + canvas::as_u16(at * ROWS);
                let area = Rect { y, height: 2, ..list };
                hit_view(buffer, area, look, hit, index == self.picked.row);
            }
        }
        cursor
    }
}

fn hit_view(buffer: &mut Buffer, area: Rect, look: &Look, hit: &SearchHit, selected: bool) {
    let theme = &look.theme;
    let style = |normal| if selected { theme.selected } else { normal };
    let head = canvas::row(area, 0);
    if selected {
        canvas::fill(buffer, head, theme.selected);
    }
    let details =
        format!("{} · {} · #{}  {}", hit.role, one_line(&hit.branch_name), hit.seq, look.age(hit.created_at));
    let taken = canvas::right(buffer, head, &Line::styled(details, style(theme.dim)));
    let room = usize::from(area.width.saturating_sub(taken + 2));
    let name = clip(&one_line(&hit.session_name), room);
    canvas::line(
        buffer,
        Rect { width: area.width.saturating_sub(taken + 1), ..head },
        &Line::styled(name, style(theme.title())),
    );
    let snippet = Rect { x: area.x + 2, y: area.y + 1, width: area.width.saturating_sub(2), height: 1 };
    let mut pieces = snippet_pieces(hit, look);
    show_found(&mut pieces, usize::from(snippet.width), look);
    let spans = pieces.into_iter().map(|piece| Span::styled(piece.text, piece.style));
    canvas::line(buffer, snippet, &Line::from(spans.collect::<Vec<_>>()));
}

/// Leaves out so much of the beginning that what was found is on the row.
fn show_found(pieces: &mut [Piece], width: usize, look: &Look) {
    let is_found = |piece: &Piece| piece.style == look.theme.found;
    let Some(first) = pieces.iter().position(is_found) else { return };
    let Some((before, [found, ..])) = pieces.split_at_mut_checked(first) else { return };
    let [lead] = before else { return };
    let room = width.saturating_sub(cells(&found.text));
    if cells(&lead.text) > room {
        // A third of the row is enough to see what it is about.
        let keep = room.min(width / 3).saturating_sub(1);
        lead.text = format!("…{}", end_of(&lead.text, keep));
    }
}

/// The snippet with what was found marked.
fn snippet_pieces(hit: &SearchHit, look: &Look) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut found = false;
    for stretch in hit.snippet.split_inclusive([SearchHit::MARK_START, SearchHit::MARK_END]) {
        let text = stretch.trim_end_matches([SearchHit::MARK_START, SearchHit::MARK_END]);
        let spaced = |text: &str| {
            let before = if text.starts_with(char::is_whitespace) { " " } else { "" };
            let after = if text.len() > 1 && text.ends_with(char::is_whitespace) { " " } else { "" };
            format!("{before}{}{after}", one_line(text))
        };
        pieces.push(Piece::new(spaced(text), if found { look.theme.found } else { look.theme.text }));
        found = stretch.ends_with(SearchHit::MARK_START);
    }
    pieces
}
