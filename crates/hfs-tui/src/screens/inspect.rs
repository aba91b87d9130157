//! The inspector of a run: its agents and what they wrote, their negotiation, token usage, and a trace of its events.

use std::cell::Cell;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hfs_core::{
    AgentNode, AgentStatus, ClaimDecision, Event, EventPayload, RequestEvent, Run, RunEnding, RunId,
    RunSnapshot, Section, SectionDecision, SectionStatus, SessionId, Timestamp, TokenCount, TokenTotal,
    Usage,
};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::{Action, Context, Handled, ListSelection, Screen, StaleData};
use crate::canvas;
use crate::ports::Tone;
use crate::protocol::{Request, ScreenMsg, UiResult};
use crate::render::RenderContext;
use crate::text::{
    Fragment, TextStyle, beginning, display_width, format_duration, format_tokens, markdown, plural,
    sanitize_line, truncate, wrap,
};
use crate::theme::Theme;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tab {
    Agents,
    Negotiation,
    Tokens,
    Trace,
}

const TABS: [(Tab, &str); 4] = [
    (Tab::Agents, "Agents"),
    (Tab::Negotiation, "Negotiation"),
    (Tab::Tokens, "Tokens"),
    (Tab::Trace, "Trace"),
];

/// The inspector. During a reply it shows the run in progress.
#[derive(Debug)]
pub struct Inspect {
    session: Option<SessionId>,
    tab: Tab,
    selection: ListSelection,
    /// The runs of the session, oldest first.
    runs: Vec<RunId>,
    /// Index of the shown run in `runs`.
    run_index: usize,
    run: Option<Box<Run>>,
    is_loading: bool,
    /// The first visible line of what the selected agent wrote, or of what was written about the selected section, while
    /// the user reads it.
    reading: Option<Cell<usize>>,
}

/// What an agent wrote.
struct Answer<'a> {
    agent: &'a str,
    subject: &'a str,
    sections: &'a [String],
    text: &'a str,
    at: Timestamp,
}

impl<'a> Answer<'a> {
    fn of_event(event: &'a Event) -> Option<Self> {
        match &event.payload {
            EventPayload::AgentAnswered { agent, subject, sections, text } => {
                Some(Self { agent, subject, sections, text, at: event.at })
            }
            _ => None,
        }
    }

    /// Names the answer: `draft`, or `section risks`.
    fn title(&self) -> String {
        let sections = sanitize_line(&self.sections.join(", "));
        let gap = if sections.is_empty() { "" } else { "  " };
        format!("{}{gap}{sections}", sanitize_line(self.subject))
    }

    fn is_about(&self, section: &str) -> bool {
        self.sections.iter().any(|name| name == section)
    }
}

impl Inspect {
    /// Opens the screen for a session.
    pub fn open(session: Option<SessionId>) -> (Self, Vec<Action>) {
        let screen = Self {
            session,
            tab: Tab::Agents,
            selection: ListSelection::default(),
            runs: Vec::new(),
            run_index: 0,
            run: None,
            is_loading: session.is_some(),
            reading: None,
        };
        let actions = screen.list_runs();
        (screen, actions)
    }

    fn list_runs(&self) -> Vec<Action> {
        self.session.map(|session| Action::run(Request::ListRuns(session))).into_iter().collect()
    }

    /// Selects the newest run and reads it.
    fn set_runs(&mut self, result: UiResult<Vec<RunId>>) -> Vec<Action> {
        match result {
            Ok(runs) => {
                self.run_index = runs.len().saturating_sub(1);
                self.runs = runs;
                self.read_run()
            }
            Err(report) => {
                self.is_loading = false;
                vec![Action::error(report)]
            }
        }
    }

    fn set_run(&mut self, run: RunId, result: UiResult<Box<Run>>) -> Vec<Action> {
        if self.runs.get(self.run_index) != Some(&run) {
            return Vec::new();
        }
        self.is_loading = false;
        match result {
            Ok(run) => {
                self.run = Some(run);
                Vec::new()
            }
            Err(report) => vec![Action::error(report)],
        }
    }

    fn read_run(&mut self) -> Vec<Action> {
        self.selection = ListSelection::default();
        self.reading = None;
        self.run = None;
        let run = self.runs.get(self.run_index);
        self.is_loading = run.is_some();
        run.map(|run| Action::run(Request::ReadRun(*run))).into_iter().collect()
    }

    fn shows_run_in_progress(&self, cx: &Context<'_>) -> bool {
        // Until the run in progress is saved, it takes the place of the newest saved run.
        cx.is_busy && self.run_index + 1 >= self.runs.len()
    }

    /// Returns the run to show: the run in progress, unless the user chose an older one. If the session has no saved
    /// runs, returns the newest run of the chat.
    fn snapshot<'a>(&'a self, cx: &Context<'a>) -> Option<&'a RunSnapshot> {
        if self.shows_run_in_progress(cx) {
            return Some(cx.run);
        }
        self.run.as_ref().map(|run| &run.snapshot).or(self.runs.is_empty().then_some(cx.run))
    }

    /// Returns the events of the run that is shown.
    fn events<'a>(&'a self, cx: &Context<'a>) -> Vec<&'a Event> {
        match &self.run {
            Some(run) if !self.shows_run_in_progress(cx) => run.events.iter().collect(),
            None if !self.shows_run_in_progress(cx) && !self.runs.is_empty() => Vec::new(),
            Some(_) | None => cx.events.iter().map(AsRef::as_ref).collect(),
        }
    }

    /// Returns a title, and what the selected agent wrote, or what was written about the selected section.
    fn answers<'a>(&'a self, cx: &Context<'a>) -> (String, Vec<Answer<'a>>) {
        let Some(snapshot) = self.snapshot(cx) else { return Default::default() };
        let all = self.events(cx).into_iter().filter_map(Answer::of_event);
        match self.tab {
            Tab::Agents => match agents(snapshot).nth(self.selection.row) {
                Some((_, agent)) => {
                    let own = all.filter(|answer| answer.agent == agent.agent_id);
                    (sanitize_line(&agent.agent_id), own.collect())
                }
                None => Default::default(),
            },
            Tab::Negotiation => match snapshot.negotiation.sections.get(self.selection.row) {
                Some(section) => {
                    let about = all.filter(|answer| answer.is_about(&section.name));
                    (format!("section {}", sanitize_line(&section.name)), about.collect())
                }
                None => Default::default(),
            },
            Tab::Tokens | Tab::Trace => Default::default(),
        }
    }

    fn row_count(&self, snapshot: &RunSnapshot, events: usize) -> usize {
        // On these pages the selection is the first visible line. The counts of titles and blank lines need not be
        // exact, because drawing limits the scroll position.
        const TOKENS_FIXED_ROWS: usize = 4;
        const TRACE_FIXED_ROWS: usize = 5;
        match self.tab {
            Tab::Agents => agents(snapshot).count(),
            Tab::Negotiation => snapshot.negotiation.sections.len(),
            Tab::Tokens => snapshot.usage.by_agent.len() + snapshot.usage.by_phase.len() + TOKENS_FIXED_ROWS,
            Tab::Trace => {
                snapshot.timeline.phases.len() + agents(snapshot).count() + events + TRACE_FIXED_ROWS
            }
        }
    }
}

impl Screen for Inspect {
    fn title(&self) -> &'static str {
        "Inspect"
    }

    fn subtitle(&self, cx: &Context<'_>) -> String {
        match self.runs.len() {
            _ if self.shows_run_in_progress(cx) => "the run in progress".to_owned(),
            0 => String::new(),
            count => format!("run {} of {count}", self.run_index + 1),
        }
    }

    fn key_hints(&self) -> Vec<(&'static str, &'static str)> {
        if self.reading.is_some() {
            return vec![("↑ ↓", "scroll"), ("Esc", "back")];
        }
        let mut keys =
            vec![("Tab", "next page"), ("↑ ↓", "move"), ("[ ]", "older, newer run"), ("Esc", "back")];
        if matches!(self.tab, Tab::Agents | Tab::Negotiation) {
            keys.insert(0, ("Enter", "read"));
        }
        keys
    }

    fn handle_key(&mut self, key: KeyEvent, cx: &Context<'_>) -> Vec<Action> {
        if let Some(scroll) = &mut self.reading {
            // Drawing limits the position to the last page.
            let mut selection = ListSelection { row: scroll.get() };
            if !selection.handle_key_with_letters(key, usize::MAX)
                && matches!(key.code, KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q'))
            {
                self.reading = None;
            } else {
                scroll.set(selection.row);
            }
            return Vec::new();
        }
        let events = self.events(cx).len();
        let rows = self.snapshot(cx).map_or(0, |snapshot| self.row_count(snapshot, events));
        if self.selection.handle_key_with_letters(key, rows) {
            return Vec::new();
        }
        let index = TABS.iter().position(|(tab, _)| *tab == self.tab).unwrap_or(0);
        let tab_after =
            |count: usize| TABS.get((index + count) % TABS.len()).map_or(Tab::Agents, |(tab, _)| *tab);
        match key.code {
            KeyCode::Esc | KeyCode::Char('q') => return vec![Action::Close],
            KeyCode::Enter if matches!(self.tab, Tab::Agents | Tab::Negotiation) => {
                if self.answers(cx).1.is_empty() {
                    let text = "nothing was recorded; runs of earlier versions have no texts of agents";
                    return vec![Action::Notify(Tone::Dim, text.to_owned())];
                }
                self.reading = Some(Cell::default());
                return Vec::new();
            }
            KeyCode::Tab | KeyCode::Right if key.modifiers == KeyModifiers::NONE => self.tab = tab_after(1),
            KeyCode::BackTab | KeyCode::Left => self.tab = tab_after(TABS.len() - 1),
            KeyCode::Char(digit @ '1'..='4') => {
                let index = usize::try_from(u32::from(digit) - u32::from('1')).unwrap_or(0);
                self.tab = TABS.get(index).map_or(self.tab, |(tab, _)| *tab);
            }
            KeyCode::Char('[') if self.run_index > 0 => {
                self.run_index -= 1;
                return self.read_run();
            }
            KeyCode::Char(']') if self.run_index + 1 < self.runs.len() => {
                self.run_index += 1;
                return self.read_run();
            }
            _ => return Vec::new(),
        }
        self.selection = ListSelection::default();
        Vec::new()
    }

    fn handle_message(&mut self, message: ScreenMsg, _cx: &Context<'_>) -> Handled {
        match message {
            ScreenMsg::Runs { session, result } if Some(session) == self.session => {
                Handled::Yes(self.set_runs(result))
            }
            ScreenMsg::Run { run, result } => Handled::Yes(self.set_run(run, result)),
            other => Handled::No(other),
        }
    }

    fn request_failed(&mut self) {
        self.is_loading = false;
    }

    fn refresh(&mut self, stale: StaleData, cx: &Context<'_>) -> Vec<Action> {
        if stale != StaleData::Runs {
            return Vec::new();
        }
        // A new conversation has a session since its first message.
        self.session = cx.session();
        self.list_runs()
    }

    fn draw(&self, buffer: &mut Buffer, area: Rect, cx: &Context<'_>) -> Option<(u16, u16)> {
        let theme = &cx.render.theme;
        let mut tabs = Vec::new();
        for (index, (tab, name)) in TABS.iter().enumerate() {
            let style = if *tab == self.tab { theme.selected } else { theme.dim };
            tabs.push(Span::styled(format!(" {} {name} ", index + 1), style));
            tabs.push(Span::raw(" "));
        }
        canvas::line(buffer, canvas::row(area, 0), &Line::from(tabs));
        let page = Rect { y: area.y + 2, height: area.height.saturating_sub(2), ..area };
        let snapshot = self.snapshot(cx).filter(|snapshot| snapshot.timeline.started_at.is_some());
        let Some(snapshot) = snapshot else {
            let text = if self.is_loading { "loading ..." } else { "no runs yet: each reply is a run" };
            canvas::line(buffer, canvas::row(page, 0), &Line::styled(text, theme.dim));
            return None;
        };
        let (title, answers) = self.answers(cx);
        if let Some(scroll) = &self.reading {
            draw_answers(buffer, page, cx.render, snapshot, &title, &answers, scroll);
            return None;
        }
        match self.tab {
            Tab::Agents => draw_agents(buffer, page, cx.render, snapshot, self.selection, &answers),
            Tab::Negotiation => {
                draw_negotiation(buffer, page, cx.render, snapshot, self.selection, &answers);
            }
            Tab::Tokens => draw_tokens(buffer, page, cx.render, snapshot, self.selection),
            Tab::Trace => {
                draw_trace(buffer, page, cx.render, snapshot, &self.events(cx), self.selection);
            }
        }
        None
    }
}

/// Returns all agents of a run with the ids of their triads, triads first.
fn agents(snapshot: &RunSnapshot) -> impl Iterator<Item = (Option<&str>, &AgentNode)> {
    let tree = &snapshot.agent_tree;
    let in_triads = tree
        .triads
        .iter()
        .flat_map(|triad| triad.agents.iter().map(|agent| (Some(triad.triad_id.as_str()), agent)));
    in_triads.chain(tree.agents.iter().map(|agent| (None, agent)))
}

/// Returns the symbol and the style of an agent's status.
pub fn status_mark(status: AgentStatus, theme: &Theme) -> (&'static str, Style) {
    match status {
        AgentStatus::Idle => ("○", theme.dim),
        AgentStatus::Working => ("◐", theme.accent),
        AgentStatus::Blocked => ("✗", theme.bad),
        AgentStatus::Complete => ("●", theme.good),
    }
}

const fn status_word(status: AgentStatus) -> &'static str {
    match status {
        AgentStatus::Idle => "idle",
        AgentStatus::Working => "working",
        AgentStatus::Blocked => "blocked",
        AgentStatus::Complete => "done",
    }
}

fn agent_time(agent: &AgentNode, now: Timestamp) -> Option<u64> {
    let started = agent.started_at?;
    Some(agent.ended_at.unwrap_or(now).millis_since(started))
}

/// Splits a page into a list of `rows` rows and the details of the selected one: side by side on a wide page, else one above
/// the other.
fn split(page: Rect, rows: usize) -> (Rect, Rect) {
    if page.width >= 90 {
        let list = page.width / 2;
        return (
            Rect { width: list, ..page },
            Rect { x: page.x + list + 2, width: page.width - list - 2, ..page },
        );
    }
    // Between a third and two thirds of the page, so that the border does not move with each row.
    let list = canvas::as_u16(rows).clamp(page.height / 3, page.height * 2 / 3);
    let list = Rect { height: list, ..page };
    (list, Rect { y: list.bottom(), height: page.height - list.height, ..page })
}

/// Draws the border of the details and returns the area inside, with a blank column on each side.
fn detail_panel(buffer: &mut Buffer, area: Rect, title: &str, theme: &Theme, highlighted: bool) -> Rect {
    let title = Line::styled(format!(" {} ", sanitize_line(title)), theme.title());
    let inner = canvas::panel(buffer, area, title, theme, highlighted);
    Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
}

/// Draws all of what was written by an agent, or about a section.
fn draw_answers(
    buffer: &mut Buffer,
    page: Rect,
    render: &RenderContext,
    snapshot: &RunSnapshot,
    title: &str,
    answers: &[Answer<'_>],
    scroll: &Cell<usize>,
) {
    let inner = detail_panel(buffer, page, title, &render.theme, true);
    let lines = answer_lines(answers, snapshot, render, usize::from(inner.width), usize::MAX);
    scroll.set(scroll.get().min(lines.len().saturating_sub(usize::from(inner.height))));
    let visible = scroll.get()..lines.len().min(scroll.get() + usize::from(inner.height));
    canvas::scroll_mark(buffer, canvas::to_border(inner), &visible, lines.len(), &render.theme);
    canvas::lines(buffer, inner, lines.into_iter().skip(scroll.get()));
}

/// Lays out answers, each below its title, in at most `rows` rows.
fn answer_lines(
    answers: &[Answer<'_>],
    snapshot: &RunSnapshot,
    render: &RenderContext,
    width: usize,
    rows: usize,
) -> Vec<Line<'static>> {
    /// Bytes of an answer that are laid out; more than any agent writes.
    const MAX_BYTES: usize = 64 << 10;
    let theme = &render.theme;
    let start = snapshot.timeline.started_at;
    // Laid out again for each frame, so code is not highlighted.
    let text_style = TextStyle { syntax: None, ..render.text_style() };
    let mut lines = Vec::new();
    for answer in answers {
        if lines.len() >= rows {
            break;
        }
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        let after = start.map(|start| format_duration(answer.at.millis_since(start))).unwrap_or_default();
        let title = [
            Fragment::new(answer.title(), theme.accent),
            Fragment::new(format!("  {} after {after}", sanitize_line(answer.agent)), theme.dim),
        ];
        lines.extend(wrap(&title, width));
        let text = beginning(answer.text, MAX_BYTES);
        lines.extend(markdown(text, width, text_style));
        if text.len() < answer.text.len() {
            lines.push(Line::styled("… the rest is in `hfs run show --json`", theme.dim));
        }
    }
    lines.truncate(rows);
    lines
}

fn draw_agents(
    buffer: &mut Buffer,
    page: Rect,
    render: &RenderContext,
    snapshot: &RunSnapshot,
    selection: ListSelection,
    answers: &[Answer<'_>],
) {
    let theme = &render.theme;
    // Each row with the index of its agent. Titles of triads have no index and cannot be selected.
    let mut rows: Vec<(Line<'static>, Option<usize>)> = Vec::new();
    let mut number = 0;
    for triad in &snapshot.agent_tree.triads {
        let title = Line::from(vec![
            Span::styled(sanitize_line(&triad.triad_id), theme.title()),
            Span::styled(format!("  {}", sanitize_line(&triad.preset)), theme.dim),
            Span::styled(lost_agents(&triad.lost), theme.warn),
        ]);
        rows.push((title, None));
        for (index, agent) in triad.agents.iter().enumerate() {
            let tree_line = if index + 1 == triad.agents.len() { "└ " } else { "├ " };
            rows.push((agent_row(agent, Some((&triad.triad_id, tree_line)), render), Some(number)));
            number += 1;
        }
    }
    for agent in &snapshot.agent_tree.agents {
        rows.push((agent_row(agent, None, render), Some(number)));
        number += 1;
    }
    let (list, detail) = split(page, rows.len());
    let selected = rows.iter().position(|(_, number)| *number == Some(selection.row)).unwrap_or(0);
    let visible = ListSelection { row: selected }.visible_range(rows.len(), usize::from(list.height));
    canvas::scroll_mark(buffer, list, &visible, rows.len(), theme);
    for (at, index) in visible.enumerate() {
        let Some((line, _)) = rows.get(index) else { break };
        let area = canvas::row(list, at);
        canvas::line(buffer, area, line);
        if index == selected {
            canvas::fill(buffer, area, theme.selected);
        }
    }
    if let Some((triad, agent)) = agents(snapshot).nth(selection.row) {
        draw_agent_detail(buffer, detail, render, snapshot, triad, agent, answers);
    } else {
        canvas::line(buffer, canvas::row(list, 0), &Line::styled("no agent has started yet", theme.dim));
    }
}

fn lost_agents(lost: &[String]) -> String {
    if lost.is_empty() { String::new() } else { format!("  without {}", sanitize_line(&lost.join(", "))) }
}

/// `place` is the agent's triad, which its row does not repeat, and the line of the tree before it.
fn agent_row(agent: &AgentNode, place: Option<(&str, &str)>, render: &RenderContext) -> Line<'static> {
    let theme = &render.theme;
    let (mark, style) = status_mark(agent.status, theme);
    let time = agent_time(agent, render.now).map(format_duration).unwrap_or_default();
    let name = match place {
        Some((triad, _)) => without_triad_prefix(&agent.agent_id, triad),
        None => sanitize_line(&agent.agent_id),
    };
    let role = sanitize_line(&agent.role);
    let repeats_role = name.starts_with(&role.replace(' ', "-"));
    let details = if repeats_role { time } else { format!("{role}  {time}") };
    Line::from(vec![
        Span::styled(place.map_or("", |(_, tree_line)| tree_line).to_owned(), theme.border),
        Span::styled(format!("{mark} "), style),
        Span::styled(name, theme.text),
        Span::styled(format!("  {details}"), theme.dim),
    ])
}

/// Returns the name of an agent within its triad, whose id its own id repeats.
pub fn without_triad_prefix(agent: &str, triad: &str) -> String {
    let rest = agent.strip_prefix(triad).map(|rest| rest.trim_start_matches(['.', '/', ':', '-']));
    sanitize_line(rest.filter(|rest| !rest.is_empty()).unwrap_or(agent))
}

fn draw_agent_detail(
    buffer: &mut Buffer,
    area: Rect,
    render: &RenderContext,
    snapshot: &RunSnapshot,
    triad: Option<&str>,
    agent: &AgentNode,
    answers: &[Answer<'_>],
) {
    let theme = &render.theme;
    let inner = detail_panel(buffer, area, &agent.agent_id, theme, false);
    let width = usize::from(inner.width);
    let count = snapshot.usage.by_agent.get(&agent.agent_id).copied().unwrap_or_default();
    let mut role = sanitize_line(&agent.role);
    if let Some(triad) = triad {
        role = format!("{role} of {}", sanitize_line(triad));
    }
    let time = agent_time(agent, render.now).map_or_else(
        || "not started".to_owned(),
        |time| {
            let preposition = if agent.ended_at.is_some() { "after" } else { "for" };
            format!("{} {preposition} {}", status_word(agent.status), format_duration(time))
        },
    );
    let model = agent.model.as_deref().map_or_else(|| "no model".to_owned(), sanitize_line);
    let tokens = match count.calls {
        0 => "no call has ended".to_owned(),
        calls => format!("{} · {}", plural(calls, "call"), tokens_in_and_out(&count, format_tokens)),
    };
    let mut lines: Vec<Line<'static>> = [format!("{role} · {time}"), format!("{model} · {tokens}")]
        .map(|text| Line::styled(truncate(&text, width), theme.dim))
        .into();
    lines.extend(answer_preview(answers, snapshot, render, inner, lines.len()));
    canvas::lines(buffer, inner, lines);
}

/// Returns the beginning of answers for the rest of an area, of which `used` rows are used.
fn answer_preview(
    answers: &[Answer<'_>],
    snapshot: &RunSnapshot,
    render: &RenderContext,
    area: Rect,
    used: usize,
) -> Vec<Line<'static>> {
    let free = usize::from(area.height).saturating_sub(used);
    if answers.is_empty() || free == 0 {
        return Vec::new();
    }
    // A blank line, if there is room for it.
    let gap = usize::from(free > 4);
    let rows = free - gap;
    let mut lines = answer_lines(answers, snapshot, render, usize::from(area.width), rows + 1);
    if lines.len() > rows {
        lines.truncate(rows - 1);
        lines.push(canvas::hints(&[("Enter", "shows all")], &render.theme, usize::from(area.width)));
    }
    lines.splice(0..0, vec![Line::default(); gap]);
    lines
}

fn draw_negotiation(
    buffer: &mut Buffer,
    page: Rect,
    render: &RenderContext,
    snapshot: &RunSnapshot,
    selection: ListSelection,
    answers: &[Answer<'_>],
) {
    let theme = &render.theme;
    let negotiation = &snapshot.negotiation;
    // The text beside the bar needs about 24 columns. The view refuses terminals in which the subtraction
    // would overflow.
    let width = usize::from(page.width).min(40);
    let summary = match negotiation.temperature {
        Some(temperature) => Line::from(vec![
            Span::styled("temperature ", theme.dim),
            Span::styled(
                format!("{:<width$}", canvas::bar(temperature, width - 24), width = width - 24),
                theme.accent,
            ),
            Span::styled(format!(" {temperature:.2}  round {}", negotiation.round), theme.text),
        ]),
        None if snapshot.ending.is_none() => Line::styled("no section is contested so far", theme.dim),
        None => Line::styled("no section was contested", theme.dim),
    };
    canvas::line(buffer, canvas::row(page, 0), &summary);
    let page = Rect { y: page.y + 2, height: page.height.saturating_sub(2), ..page };
    let (list, detail) = split(page, negotiation.sections.len() + 1);
    let name_width = negotiation
        .sections
        .iter()
        .map(|section| display_width(&section.name))
        .max()
        .unwrap_or(0)
        .clamp(8, 24);
    let visible = selection.visible_range(negotiation.sections.len(), usize::from(list.height));
    canvas::scroll_mark(buffer, list, &visible, negotiation.sections.len(), theme);
    for (at, index) in visible.enumerate() {
        let Some(section) = negotiation.sections.get(index) else { break };
        let area = canvas::row(list, at);
        let (mark, style) = match section.status {
            SectionStatus::Claimed => ("○", theme.dim),
            SectionStatus::Contested => ("◐", theme.warn),
            SectionStatus::Resolved => ("●", theme.good),
        };
        let mut spans = vec![
            Span::styled(format!("{mark} "), style),
            Span::styled(
                format!("{:<name_width$} ", truncate(&sanitize_line(&section.name), name_width)),
                theme.text,
            ),
            Span::styled(owners(section), theme.dim),
        ];
        if section.arbiter.is_some() {
            spans.push(Span::styled("  ⚖ arbiter", theme.warn));
        }
        canvas::line(buffer, area, &Line::from(spans));
        if index == selection.row {
            canvas::fill(buffer, area, theme.selected);
        }
    }
    if let Some(section) = negotiation.sections.get(selection.row) {
        draw_section_detail(buffer, detail, render, snapshot, section, answers);
    }
}

/// Describes a claimant's decision.
pub const fn decision_word(decision: ClaimDecision) -> &'static str {
    match decision {
        ClaimDecision::Concede => "concedes",
        ClaimDecision::Revise => "asks for a part",
        ClaimDecision::Hold => "holds",
    }
}

fn owners(section: &Section) -> String {
    if section.owners.is_empty() {
        "no owner yet".to_owned()
    } else {
        sanitize_line(&section.owners.join(" + "))
    }
}

fn draw_section_detail(
    buffer: &mut Buffer,
    area: Rect,
    render: &RenderContext,
    snapshot: &RunSnapshot,
    section: &Section,
    answers: &[Answer<'_>],
) {
    let theme = &render.theme;
    let inner = detail_panel(buffer, area, &section.name, theme, false);
    let width = usize::from(inner.width);
    let mut lines = Vec::new();
    let field = |name: &str, value: String| {
        vec![Fragment::new(format!("{name:<9}"), theme.dim), Fragment::new(value, theme.text)]
    };
    lines.extend(wrap(&field("owners", owners(section)), width));
    lines.extend(wrap(&field("claimed", sanitize_line(&section.claimants.join(", "))), width));
    for contest in &section.contests {
        let claims = contest.claimants.iter().map(|claimant| match contest.decisions.get(claimant) {
            Some(decision) => format!("{claimant} {}", decision_word(*decision)),
            None => claimant.clone(),
        });
        let claims = sanitize_line(&claims.collect::<Vec<_>>().join(" / "));
        let text = format!("{claims} at {:.2}", contest.temperature);
        lines.extend(wrap(&field(&format!("round {}", contest.round), text), width));
    }
    if let Some(arbiter) = &section.arbiter {
        let decision = match arbiter.decision {
            SectionDecision::Assign => "assigned it",
            SectionDecision::Split => "split it",
            SectionDecision::Merge => "merged it",
        };
        lines.push(Line::default());
        lines.extend(wrap(
            &[
                Fragment::new(format!("⚖ The arbiter {decision}: "), theme.warn),
                Fragment::new(sanitize_line(&arbiter.reason), theme.text),
            ],
            width,
        ));
    }
    lines.extend(answer_preview(answers, snapshot, render, inner, lines.len()));
    canvas::lines(buffer, inner, lines);
}

fn draw_tokens(
    buffer: &mut Buffer,
    page: Rect,
    render: &RenderContext,
    snapshot: &RunSnapshot,
    selection: ListSelection,
) {
    let theme = &render.theme;
    let usage = &snapshot.usage;
    let total = match usage.calls() {
        0 if snapshot.ending.is_none() => "no request has been answered yet".to_owned(),
        0 => "no tokens were counted".to_owned(),
        _ => usage.total().describe_with_unit(|tokens| tokens.to_string()),
    };
    let mut lines =
        vec![Line::from(vec![Span::styled(total, theme.title()), Span::styled(ending(snapshot), theme.dim)])];
    for (title, counts) in [("By phase", &usage.by_phase), ("By agent", &usage.by_agent)] {
        // A run without phases has all its tokens under an empty name.
        if counts.keys().all(String::is_empty) {
            continue;
        }
        lines.push(Line::default());
        lines.push(Line::styled(title, theme.title()));
        let max = counts.values().map(|count| count.usage.total()).max().unwrap_or(0);
        // In the order of the phases; agents by name.
        let position = |name: &str| snapshot.timeline.phases.iter().position(|phase| phase.name == name);
        let mut counts: Vec<_> = counts.iter().collect();
        counts.sort_by_key(|(name, _)| position(name));
        lines.extend(
            counts
                .into_iter()
                .map(|(name, count)| token_row(name, *count, max, usize::from(page.width), theme)),
        );
    }
    let skip = selection.row.min(lines.len().saturating_sub(usize::from(page.height)));
    canvas::scrolled_lines(buffer, page, lines, skip, theme);
}

fn ending(snapshot: &RunSnapshot) -> String {
    let how = match snapshot.ending {
        None => "  in progress",
        Some(RunEnding::Completed) => "  completed",
        Some(RunEnding::Cancelled) => "  cancelled",
        Some(RunEnding::Failed) => "  failed",
    };
    let time = snapshot.timeline.total_duration_ms.map(format_duration);
    time.map_or_else(|| how.to_owned(), |time| format!("{how} in {time}"))
}

#[allow(clippy::cast_precision_loss, reason = "the bar shows eighths of a cell at best")]
fn token_row(name: &str, count: TokenCount, max: u64, width: usize, theme: &Theme) -> Line<'static> {
    let name = if name.is_empty() { "(no phase)".to_owned() } else { sanitize_line(name) };
    let name_width = 24.min(width / 3);
    let bar_width = width.saturating_sub(name_width + 44).clamp(6, 40);
    let total = count.usage.total();
    let bar = canvas::bar(if max == 0 { 0.0 } else { total as f64 / max as f64 }, bar_width);
    let calls = plural(count.calls, "call");
    let details = match count.total(Usage::total) {
        TokenTotal::Unknown => calls,
        TokenTotal::Exact(_) | TokenTotal::AtLeast(_) => {
            format!("{} · {calls}", tokens_in_and_out(&count, format_tokens))
        }
    };
    Line::from(vec![
        Span::styled(format!("  {:<name_width$} ", truncate(&name, name_width)), theme.text),
        Span::styled(format!("{bar:<bar_width$} "), theme.accent),
        Span::styled(format!("{:>7}", count.total(Usage::total).describe(format_tokens)), theme.text),
        Span::styled(format!("  {details}"), theme.dim),
    ])
}

fn tokens_in_and_out(count: &TokenCount, format: impl Fn(u64) -> String) -> String {
    match count.total(Usage::total) {
        TokenTotal::Unknown => "tokens unknown".to_owned(),
        TokenTotal::Exact(_) | TokenTotal::AtLeast(_) => {
            let part = |part: fn(Usage) -> u64| count.total(part).describe(&format);
            format!(
                "{} in · {} out",
                part(|usage| usage.prompt_tokens),
                part(|usage| usage.completion_tokens)
            )
        }
    }
}

/// Draws a bar for each phase and agent on the run's time axis, followed by the list of its events.
fn draw_trace(
    buffer: &mut Buffer,
    page: Rect,
    render: &RenderContext,
    snapshot: &RunSnapshot,
    events: &[&Event],
    selection: ListSelection,
) {
    let theme = &render.theme;
    let Some(start) = snapshot.timeline.started_at else { return };
    let end = snapshot.timeline.ended_at.unwrap_or(render.now);
    let total = end.millis_since(start).max(1);
    let name_width = 26.min(usize::from(page.width) / 3);
    let width = usize::from(page.width).saturating_sub(name_width + 12);
    let mut lines = vec![Line::from(vec![
        Span::styled(format!("{:<name_width$} 0", ""), theme.dim),
        Span::styled(format!("{:>1$}", format_duration(total), width.saturating_sub(1)), theme.dim),
    ])];
    let mut bar = |name: String, from: Timestamp, to: Option<Timestamp>, style: Style| {
        let to = to.unwrap_or(end);
        let span = (from.millis_since(start), to.millis_since(start));
        lines.push(Line::from(vec![
            Span::styled(format!("{:<name_width$} ", truncate(&name, name_width)), theme.text),
            Span::styled(timeline_bar(span, total, width), style),
            Span::styled(format!(" {:>9}", format_duration(to.millis_since(from))), theme.dim),
        ]));
    };
    for phase in &snapshot.timeline.phases {
        bar(sanitize_line(&phase.name), phase.start, phase.end, theme.accent);
    }
    for (triad, agent) in agents(snapshot) {
        if let Some(from) = agent.started_at {
            let name = triad.map_or_else(
                || sanitize_line(&agent.agent_id),
                |_| format!("  {}", sanitize_line(&agent.agent_id)),
            );
            bar(name, from, agent.ended_at, theme.good);
        }
    }
    if !events.is_empty() {
        lines.push(Line::default());
        lines.push(Line::styled(format!("{} events", events.len()), theme.title()));
        for event in events {
            lines.push(Line::from(vec![
                Span::styled(format!("{:>9} ", format_duration(event.at.millis_since(start))), theme.dim),
                Span::styled(
                    format!("{:<22} ", sanitize_line(event.payload.kind())),
                    event_style(&event.payload, theme),
                ),
                Span::styled(event_text(&event.payload), theme.text),
            ]));
        }
    }
    let skip = selection.row.min(lines.len().saturating_sub(usize::from(page.height)));
    canvas::scrolled_lines(buffer, page, lines, skip, theme);
}

fn timeline_bar((from, to): (u64, u64), total: u64, width: usize) -> String {
    let cells = u64::try_from(width).unwrap_or(0);
    let cell_at = |time: u64| usize::try_from(time.min(total) * cells / total).unwrap_or(0);
    let (before, end) = (cell_at(from).min(width.saturating_sub(1)), cell_at(to));
    let length = end.saturating_sub(before).max(1);
    format!(
        "{}{}{}",
        "·".repeat(before),
        "█".repeat(length),
        "·".repeat(width.saturating_sub(before + length))
    )
}

fn event_style(payload: &EventPayload, theme: &Theme) -> Style {
    match payload {
        EventPayload::ErrorOccurred { .. } => theme.bad,
        EventPayload::ArbiterDecided { .. }
        | EventPayload::NegotiationContested { .. }
        | EventPayload::TriadDegraded { .. } => theme.warn,
        EventPayload::RunStarted { .. } | EventPayload::RunEnded { .. } => theme.accent,
        EventPayload::AgentAnswered { .. } => theme.text,
        _ => theme.dim,
    }
}

fn event_text(payload: &EventPayload) -> String {
    let text = match payload {
        EventPayload::RunStarted { agent, .. } => agent.clone(),
        EventPayload::RunEnded { duration_ms, .. } => format_duration(*duration_ms),
        EventPayload::PhaseStarted { phase } => phase.clone(),
        EventPayload::PhaseEnded { phase, duration_ms } => {
            format!("{phase} in {}", format_duration(*duration_ms))
        }
        EventPayload::AgentStarted { agent, role, .. } if agent == role => agent.clone(),
        EventPayload::AgentStarted { agent, role, .. } => format!("{agent} as {role}"),
        EventPayload::AgentEnded { agent, status, duration_ms } => {
            format!("{agent} {} after {}", status_word(*status), format_duration(*duration_ms))
        }
        EventPayload::AgentAnswered { agent, subject, text, .. } => {
            /// More than fits into a row.
            const BYTES: usize = 500;
            format!("{agent} {subject}: {}", beginning(text, BYTES))
        }
        EventPayload::NegotiationClaimed { section, claimant } => format!("{claimant} claims {section}"),
        EventPayload::NegotiationContested { section, claimants, round, temperature } => {
            format!("{section}: {} in round {round} at {temperature:.2}", claimants.join(" / "))
        }
        EventPayload::NegotiationResolved { section, owners, .. } => {
            format!("{section} to {}", owners.join(" + "))
        }
        EventPayload::ArbiterDecided { section, owners, reason, .. } => {
            format!("{section} to {}: {reason}", owners.join(" + "))
        }
        EventPayload::NegotiationDecided { section, claimant, decision, .. } => {
            format!("{section}: {claimant} {}", decision_word(*decision))
        }
        EventPayload::TriadDegraded { triad, lost } => {
            format!("{triad} continues without {}", lost.join(", "))
        }
        EventPayload::UsageRecorded { agent, usage, .. } => {
            format!("{agent} {}", plural(usage.total(), "token"))
        }
        EventPayload::UsageUnknown { agent, .. } => format!("{agent} tokens unknown"),
        EventPayload::ErrorOccurred { message, .. } => message.clone(),
        EventPayload::Custom(event) => match RequestEvent::read(payload) {
            Some(request) => format!("{}: {}", request.agent(), request.describe()),
            None => event.describe(),
        },
        _ => String::new(),
    };
    sanitize_line(&text)
}
