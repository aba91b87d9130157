//! Statistics of use: tokens, cost, tool calls, changed files and time, by day, project, agent, model or tool.

use std::cell::Cell;
use std::cmp::Reverse;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hfs_core::{Timestamp, Usage, grouped};
use hfs_engine::{
    GroupKey, GroupStats, GroupedStats, Stats, StatsGrouping, format_active_time, format_dollars,
};
use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::sessions::damage_note;
use super::{Action, Context, Handled, ListSelection, Screen, split_for_preview};
use crate::canvas;
use crate::ports::Tone;
use crate::protocol::{Request, ScreenMsg, StatsRequest};
use crate::text::{
    Fragment, display_width, fitting_suffix, format_tokens, plural, sanitize_line, truncate, wrap, wrap_text,
};
use crate::theme::Theme;

const TABS: [(StatsGrouping, &str); 5] = [
    (StatsGrouping::Day, "Days"),
    (StatsGrouping::Project, "Projects"),
    (StatsGrouping::Agent, "Agents"),
    (StatsGrouping::Model, "Models"),
    (StatsGrouping::Tool, "Tools"),
];

/// Name of the last row.
const TOTAL: &str = "total";

/// Which messages are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Period {
    All,
    Today,
    LastWeek,
    LastMonth,
}

impl Period {
    const fn next(self) -> Self {
        match self {
            Self::All => Self::Today,
            Self::Today => Self::LastWeek,
            Self::LastWeek => Self::LastMonth,
            Self::LastMonth => Self::All,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::All => "of all time",
            Self::Today => "of today",
            Self::LastWeek => "of the last 7 days",
            Self::LastMonth => "of the last 30 days",
        }
    }

    /// The beginning of its first day; `None` for all time.
    fn start(self, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let days_before = match self {
            Self::All => return None,
            Self::Today => 0,
            Self::LastWeek => 6,
            Self::LastMonth => 29,
        };
        let today = now.to_jiff().to_zoned(zone.clone()).date();
        let first = today.checked_sub(days_before.days()).ok()?.to_zoned(zone.clone()).ok()?;
        Timestamp::from_millis(first.timestamp().as_millisecond())
    }
}

/// The numbers, or why they are not there.
#[derive(Debug)]
enum Numbers {
    /// So many sessions of so many were read.
    Reading {
        read: u64,
        sessions: u64,
    },
    Read(Box<Stats>),
    Failed(String),
}

/// The statistics. Reading them takes seconds for a large store, so they are read in the background, once for all pages.
#[derive(Debug)]
pub struct StatsScreen {
    grouping: StatsGrouping,
    period: Period,
    /// Whether only the sessions of the project are counted.
    is_project_only: bool,
    selection: ListSelection,
    request_id: u64,
    numbers: Numbers,
    /// The first visible line of all figures of the selected row, while the user reads them.
    reading: Option<Cell<usize>>,
}

impl StatsScreen {
    /// Opens the screen on the page of a grouping: the first page if `name` is empty, or does not name one.
    pub fn open(name: &str, cx: &Context<'_>) -> (Self, Vec<Action>) {
        let known = StatsGrouping::ALL.into_iter().find(|grouping| grouping.name() == name);
        let mut screen = Self {
            grouping: known.unwrap_or(StatsGrouping::Day),
            period: Period::All,
            is_project_only: false,
            selection: ListSelection::default(),
            request_id: 0,
            numbers: Numbers::Failed(String::new()),
            reading: None,
        };
        let mut actions = screen.read(cx);
        if known.is_none() && !name.is_empty() {
            let names = StatsGrouping::ALL.map(StatsGrouping::name).join(", ");
            let text = format!("no page {:?}; the pages are {names}", sanitize_line(name));
            actions.push(Action::Notify(Tone::Warn, text));
        }
        (screen, actions)
    }

    /// Reads the numbers, instead of those that are being read.
    fn read(&mut self, cx: &Context<'_>) -> Vec<Action> {
        self.request_id = cx.ids.next();
        self.numbers = Numbers::Reading { read: 0, sessions: 0 };
        self.selection = ListSelection::default();
        let zone = cx.render.settings.time_zone.clone();
        let project = cx.project.filter(|_| self.is_project_only);
        let query = StatsRequest {
            since: self.period.start(cx.render.now, &zone),
            project: project.map(|project| project.key().to_owned()),
            zone,
        };
        vec![Action::run(Request::ReadStats { query, request_id: self.request_id })]
    }

    fn stats(&self) -> Option<&Stats> {
        match &self.numbers {
            Numbers::Read(stats) => Some(stats),
            Numbers::Reading { .. } | Numbers::Failed(_) => None,
        }
    }

    fn page(&self) -> Option<&GroupedStats> {
        self.stats()?.grouped_by(self.grouping)
    }

    /// The rows of the page, the last one being the total: the newest day first, else the group with most tokens.
    fn rows(&self) -> Vec<(Option<&GroupKey>, &GroupStats)> {
        let Some(page) = self.page().filter(|page| !page.groups.is_empty()) else { return Vec::new() };
        let mut rows: Vec<(&GroupKey, &GroupStats)> = page.groups.iter().collect();
        match self.grouping {
            StatsGrouping::Day => {
                rows.sort_by_key(|(key, _)| (**key == GroupKey::Unknown, Reverse(*key)));
            }
            StatsGrouping::Project | StatsGrouping::Agent | StatsGrouping::Model | StatsGrouping::Tool => {
                rows.sort_by_key(|(_, group)| (Reverse(group.usage.total()), Reverse(group.messages)));
            }
        }
        let total = (None, &page.total);
        rows.into_iter().map(|(key, group)| (Some(key), group)).chain([total]).collect()
    }

    /// The title and all figures of the selected row.
    fn figures(&self, theme: &Theme, width: usize) -> (String, Vec<Line<'static>>) {
        let rows = self.rows();
        let (Some((key, group)), Some(stats)) = (rows.get(self.selection.row), self.stats()) else {
            return Default::default();
        };
        let mut lines = figure_lines(group, theme, width);
        let mut notes = group.omissions();
        if key.is_none() {
            notes.extend(stats.omissions());
        }
        if group.priced > 0 {
            notes.push(format!(
                "the cost is an estimate from prices as published by {}",
                stats.prices_checked
            ));
        }
        lines.extend(notes.iter().flat_map(|note| wrap_text(note, theme.dim, width)));
        (key.map_or_else(|| TOTAL.to_owned(), |key| sanitize_line(key.as_str())), lines)
    }

    /// Shown instead of the table.
    fn message(&self, theme: &Theme) -> Fragment {
        let text = match &self.numbers {
            Numbers::Failed(error) => return Fragment::new(sanitize_line(error), theme.bad),
            Numbers::Reading { sessions: 0, .. } => "loading ...".to_owned(),
            Numbers::Reading { read: 0, sessions } => format!("loading ... {} found", count(*sessions)),
            Numbers::Reading { read, sessions } => {
                format!("loading ... {} of {} read", grouped(*read), count(*sessions))
            }
            Numbers::Read(_) => match self.period {
                Period::All => "no messages yet".to_owned(),
                Period::Today | Period::LastWeek | Period::LastMonth => {
                    format!("no messages {}; t selects another time", self.period.title())
                }
            },
        };
        Fragment::new(text, theme.dim)
    }

    fn draw_table(&self, buffer: &mut Buffer, area: Rect, theme: &Theme) {
        let rows = self.rows();
        let Some((total, groups)) = rows.split_last() else { return };
        let columns = fitting_columns(usize::from(area.width));
        let key_width = usize::from(area.width).saturating_sub(width_of(&columns)).min(MAX_KEY_WIDTH);
        let mut heading = vec![Span::styled(" ".repeat(key_width), theme.dim)];
        heading.extend(columns.iter().map(|column| {
            Span::styled(format!("{:>width$}", column.heading(), width = column.width()), theme.dim)
        }));
        canvas::line(buffer, canvas::row(area, 0), &Line::from(heading));
        let list = Rect { height: area.height.saturating_sub(2), ..canvas::below(area, 1) };
        let row_of = |key: &str, group: &GroupStats, style: Style| {
            let mut row = vec![Span::styled(self.fitting_key(key, key_width), style)];
            row.extend(columns.iter().map(|column| {
                let value = column.value(group);
                let style = if value == GroupKey::UNKNOWN { theme.dim } else { style };
                Span::styled(format!("{value:>width$}", width = column.width()), style)
            }));
            Line::from(row)
        };
        let selected_group = ListSelection { row: self.selection.row.min(groups.len().saturating_sub(1)) };
        let visible = selected_group.visible_range(groups.len(), usize::from(list.height));
        let shown = visible.len();
        for (at, index) in visible.enumerate() {
            let Some((key, group)) = groups.get(index) else { break };
            let row = canvas::row(list, at);
            canvas::line(buffer, row, &row_of(key.map_or("", GroupKey::as_str), group, theme.text));
            if index == self.selection.row {
                canvas::fill(buffer, row, theme.selected);
            }
        }
        let row = canvas::row(area, 1 + shown);
        canvas::line(buffer, row, &row_of(TOTAL, total.1, theme.title()));
        if self.selection.row == groups.len() {
            canvas::fill(buffer, row, theme.selected);
        }
    }

    /// A key in a column of this width. Of a directory, the end is shown.
    fn fitting_key(&self, key: &str, width: usize) -> String {
        let key = sanitize_line(key);
        let room = width.saturating_sub(1);
        let shown = match self.grouping {
            StatsGrouping::Project if display_width(&key) > room => {
                format!("…{}", fitting_suffix(&key, room.saturating_sub(1)))
            }
            StatsGrouping::Project
            | StatsGrouping::Day
            | StatsGrouping::Agent
            | StatsGrouping::Model
            | StatsGrouping::Tool => truncate(&key, room),
        };
        let gap = width.saturating_sub(display_width(&shown));
        format!("{shown}{}", " ".repeat(gap))
    }
}

fn count(sessions: u64) -> String {
    if sessions == 1 { plural(sessions, "session") } else { format!("{} sessions", grouped(sessions)) }
}

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Sessions,
    Messages,
    Input,
    CacheRead,
    Output,
    Cost,
    Calls,
    Files,
    Time,
}

/// In the order in which they are shown.
const COLUMNS: [Column; 9] = [
    Column::Sessions,
    Column::Messages,
    Column::Input,
    Column::CacheRead,
    Column::Output,
    Column::Cost,
    Column::Calls,
    Column::Files,
    Column::Time,
];
/// The most important first. Those that do not fit are left out; the figures of the selected row have them all.
const BY_IMPORTANCE: [Column; 9] = [
    Column::Cost,
    Column::Input,
    Column::Output,
    Column::CacheRead,
    Column::Time,
    Column::Calls,
    Column::Files,
    Column::Sessions,
    Column::Messages,
];
/// Width of the first column that the others leave free, and the largest that is useful.
const MIN_KEY_WIDTH: usize = 18;
const MAX_KEY_WIDTH: usize = 60;

impl Column {
    const fn heading(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Messages => "messages",
            Self::Input => "input",
            Self::CacheRead => "cached",
            Self::Output => "output",
            Self::Cost => "cost",
            Self::Calls => "calls",
            Self::Files => "files",
            Self::Time => "time",
        }
    }

    /// With a blank before it.
    const fn width(self) -> usize {
        match self {
            Self::Sessions | Self::Messages => 9,
            Self::Cost => 11,
            Self::Input | Self::CacheRead | Self::Output => 8,
            Self::Calls | Self::Files => 7,
            Self::Time => 9,
        }
    }

    fn value(self, group: &GroupStats) -> String {
        let tokens = |tokens: Option<u64>| tokens.map_or_else(unknown, format_tokens);
        let usage = group.known_usage();
        match self {
            Self::Sessions => grouped(group.sessions),
            Self::Messages => format_tokens(group.messages),
            Self::Input => tokens(usage.map(Usage::uncached_tokens)),
            Self::CacheRead => tokens(usage.and_then(|usage| usage.cache_read_tokens)),
            Self::Output => tokens(usage.map(|usage| usage.completion_tokens)),
            Self::Cost => group.known_cost().map_or_else(unknown, format_dollars),
            Self::Calls => format_tokens(group.tool_calls),
            Self::Files => format_tokens(group.changed_files),
            Self::Time => format_active_time(group.active_ms),
        }
    }
}

fn unknown() -> String {
    GroupKey::UNKNOWN.to_owned()
}

fn width_of(columns: &[Column]) -> usize {
    columns.iter().map(|column| column.width()).sum()
}

/// The columns that fit beside the first one, in the order in which they are shown.
fn fitting_columns(width: usize) -> Vec<Column> {
    let mut chosen = Vec::new();
    let mut room = width.saturating_sub(MIN_KEY_WIDTH);
    for column in BY_IMPORTANCE {
        let Some(rest) = room.checked_sub(column.width()) else { break };
        room = rest;
        chosen.push(column);
    }
    COLUMNS.into_iter().filter(|column| chosen.contains(column)).collect()
}

/// Splits a page into the table and the figures of the selected row: side by side on a wide page, else one above the other, if there
/// is room for both.
fn split(page: Rect) -> (Rect, Rect) {
    const MIN_HEIGHT: u16 = 14;
    if page.width >= 100 {
        return split_for_preview(page);
    }
    let below = if page.height >= MIN_HEIGHT { page.height / 2 } else { 0 };
    let table = Rect { height: page.height - below, ..page };
    (table, Rect { y: table.bottom(), height: below, ..page })
}

/// All numbers of a group, with their names.
fn figure_lines(group: &GroupStats, theme: &Theme, width: usize) -> Vec<Line<'static>> {
    const GAP: &str = " · ";
    let usage = group.known_usage();
    let tokens = |tokens: Option<u64>| tokens.map_or_else(unknown, grouped);
    let cached = |of: fn(Usage) -> Option<u64>| tokens(usage.and_then(of));
    let rows = [
        vec![
            ("sessions", grouped(group.sessions)),
            ("messages", grouped(group.messages)),
            ("replies", grouped(group.replies)),
        ],
        vec![
            ("input", tokens(usage.map(Usage::uncached_tokens))),
            ("read from cache", cached(|usage| usage.cache_read_tokens)),
            ("written to cache", cached(|usage| usage.cache_write_tokens)),
            ("output", tokens(usage.map(|usage| usage.completion_tokens))),
            ("cost", group.known_cost().map_or_else(unknown, format_dollars)),
        ],
        vec![
            ("tool calls", grouped(group.tool_calls)),
            ("files changed", grouped(group.changed_files)),
            ("time at work", format_active_time(group.active_ms)),
        ],
    ];
    // A label stays on the line of its value, and no line begins or ends with a dot.
    let row = |figures: Vec<(&str, String)>| {
        let mut lines: Vec<Line<'static>> = Vec::new();
        for (label, value) in figures {
            let figure = [Fragment::new(format!("{label} "), theme.dim), Fragment::new(value, theme.text)];
            let figure_width: usize = figure.iter().map(|part| display_width(&part.text)).sum();
            match lines.last_mut() {
                Some(line) if line.width() + display_width(GAP) + figure_width <= width => {
                    line.push_span(Span::styled(GAP, theme.dim));
                    line.extend(figure.map(|part| Span::styled(part.text, part.style)));
                }
                Some(_) | None => lines.extend(wrap(&figure, width)),
            }
        }
        lines
    };
    rows.into_iter().flat_map(row).collect()
}

impl Screen for StatsScreen {
    fn title(&self) -> &'static str {
        "Statistics"
    }

    fn subtitle(&self, cx: &Context<'_>) -> String {
        let scope = match cx.project {
            Some(_) if self.is_project_only => ", this project",
            _ => "",
        };
        let damaged = self.stats().map_or(0, |stats| stats.damaged);
        format!("{}{scope}{}", self.period.title(), damage_note(damaged))
    }

    fn key_hints(&self) -> Vec<(&'static str, &'static str)> {
        if self.reading.is_some() {
            return vec![("↑ ↓", "scroll"), ("Esc", "back")];
        }
        vec![
            ("Tab", "next page"),
            ("↑ ↓", "move"),
            ("t", "time"),
            ("p", if self.is_project_only { "all projects" } else { "this project" }),
            ("Enter", "all figures"),
            ("r", "read again"),
            ("Esc", "back"),
        ]
    }

    fn handle_key(&mut self, key: KeyEvent, cx: &Context<'_>) -> Vec<Action> {
        if let Some(scroll) = &mut self.reading {
            // Drawing limits the position to the last page.
            let mut selection = ListSelection { row: scroll.get() };
            if selection.handle_key_with_letters(key, usize::MAX) {
                scroll.set(selection.row);
            } else if matches!(key.code, KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q')) {
                self.reading = None;
            }
            return Vec::new();
        }
        let count = self.rows().len();
        if self.selection.handle_key_with_letters(key, count) {
            return Vec::new();
        }
        let index = TABS.iter().position(|(grouping, _)| *grouping == self.grouping).unwrap_or(0);
        let page_at = |index: usize| TABS.get(index % TABS.len()).map_or(self.grouping, |(page, _)| *page);
        match key.code {
            KeyCode::Esc | KeyCode::Char('q') => {
                return vec![Action::run(Request::StopStats { request_id: self.request_id }), Action::Close];
            }
            KeyCode::Tab | KeyCode::Right if key.modifiers == KeyModifiers::NONE => {
                self.grouping = page_at(index + 1);
            }
            KeyCode::BackTab | KeyCode::Left => self.grouping = page_at(index + TABS.len() - 1),
            KeyCode::Char(digit @ '1'..='5') => {
                self.grouping = page_at(usize::try_from(u32::from(digit) - u32::from('1')).unwrap_or(0));
            }
            KeyCode::Char('t') => {
                self.period = self.period.next();
                return self.read(cx);
            }
            KeyCode::Char('p') => {
                if cx.project.is_none() {
                    let text = "hfs was not started in a project".to_owned();
                    return vec![Action::Notify(Tone::Dim, text)];
                }
                self.is_project_only = !self.is_project_only;
                return self.read(cx);
            }
            KeyCode::Char('r') => return self.read(cx),
            KeyCode::Enter if count > 0 => {
                self.reading = Some(Cell::default());
                return Vec::new();
            }
            _ => return Vec::new(),
        }
        self.selection = ListSelection::default();
        Vec::new()
    }

    fn handle_message(&mut self, message: ScreenMsg, _cx: &Context<'_>) -> Handled {
        match message {
            ScreenMsg::StatsProgress { request_id, read, sessions } if request_id == self.request_id => {
                if let Numbers::Reading { .. } = self.numbers {
                    self.numbers = Numbers::Reading { read, sessions };
                }
                Handled::Yes(Vec::new())
            }
            ScreenMsg::Stats { request_id, result } if request_id == self.request_id => {
                self.numbers = match result {
                    Ok(stats) => Numbers::Read(stats),
                    Err(report) => Numbers::Failed(report.message),
                };
                Handled::Yes(Vec::new())
            }
            other => Handled::No(other),
        }
    }

    fn request_failed(&mut self) {
        if let Numbers::Reading { .. } = self.numbers {
            self.numbers = Numbers::Failed("the statistics could not be read; r tries again".to_owned());
        }
    }

    fn draw(&self, buffer: &mut Buffer, area: Rect, cx: &Context<'_>) -> Option<(u16, u16)> {
        let theme = &cx.render.theme;
        if let Some(scroll) = &self.reading {
            let (title, lines) = self.figures(theme, usize::from(area.width.saturating_sub(4)));
            let inner =
                canvas::panel(buffer, area, Line::styled(format!(" {title} "), theme.title()), theme, true);
            let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
            scroll.set(scroll.get().min(lines.len().saturating_sub(usize::from(inner.height))));
            canvas::lines(buffer, inner, lines.into_iter().skip(scroll.get()));
            return None;
        }
        let mut tabs = Vec::new();
        for (index, (grouping, name)) in TABS.iter().enumerate() {
            let style = if *grouping == self.grouping { theme.selected } else { theme.dim };
            tabs.push(Span::styled(format!(" {} {name} ", index + 1), style));
            tabs.push(Span::raw(" "));
        }
        canvas::line(buffer, canvas::row(area, 0), &Line::from(tabs));
        let page = canvas::below(area, 2);
        if self.rows().is_empty() {
            let lines = wrap(&[self.message(theme)], usize::from(page.width));
            canvas::lines(buffer, page, lines);
            return None;
        }
        let (table, panel) = split(page);
        self.draw_table(buffer, table, theme);
        if panel.height >= 3 {
            let (title, lines) = self.figures(theme, usize::from(panel.width.saturating_sub(4)));
            let title = truncate(&title, usize::from(panel.width.saturating_sub(6)));
            let inner =
                canvas::panel(buffer, panel, Line::styled(format!(" {title} "), theme.title()), theme, false);
            let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
            let hidden = lines.len().saturating_sub(usize::from(inner.height));
            let shown = if hidden > 0 { usize::from(inner.height).saturating_sub(1) } else { lines.len() };
            let more = (hidden > 0).then(|| Line::styled("… Enter shows all", theme.dim));
            canvas::lines(buffer, inner, lines.into_iter().take(shown).chain(more));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_important_columns_are_shown_in_their_order() {
        let headings =
            |width| fitting_columns(width).iter().map(|column| column.heading()).collect::<Vec<_>>();
        assert_eq!(headings(36), ["cost"]);
        assert_eq!(headings(78), ["input", "cached", "output", "cost", "calls", "files", "time"]);
        assert_eq!(headings(110).len(), COLUMNS.len());
        for width in 0..200 {
            let columns = fitting_columns(width);
            assert!(columns.is_empty() || width_of(&columns) + MIN_KEY_WIDTH <= width);
        }
    }

    #[test]
    fn a_period_begins_with_a_day_of_the_users_time_zone() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now = Timestamp::from_millis(1_790_000_000_000).unwrap();
        let start = |period: Period| {
            period
                .start(now, &zone)
                .map(|start| start.to_jiff().to_zoned(zone.clone()).datetime().to_string())
        };
        assert_eq!(now.to_jiff().to_zoned(zone.clone()).datetime().to_string(), "2026-09-21T16:13:20");
        assert_eq!(start(Period::All), None);
        assert_eq!(start(Period::Today).as_deref(), Some("2026-09-21T00:00:00"));
        assert_eq!(start(Period::LastWeek).as_deref(), Some("2026-09-15T00:00:00"));
        assert_eq!(start(Period::LastMonth).as_deref(), Some("2026-08-23T00:00:00"));
    }
}
