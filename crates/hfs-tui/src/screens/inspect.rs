//! A run looked at closely: its agents, their negotiation, what it cost, and when what happened.

mod pages;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hfs_core::{AgentNode, Run, RunId, RunSnapshot, SessionId};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::list::Picked;
use super::{Act, Context};
use crate::canvas;
use crate::effect::Effect;
use crate::look::Look;
use crate::message::Answer;
use crate::parts::Tone;

pub use pages::{decision_word, duration, status_mark};

/// What of a run is shown.
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

/// The screen. While the newest run goes on, it shows that one as it is.
#[derive(Debug)]
pub struct Inspect {
    session: Option<SessionId>,
    tab: Tab,
    picked: Picked,
    /// The runs of the session, oldest first.
    runs: Vec<RunId>,
    /// Which of them is shown.
    at: usize,
    run: Option<Box<Run>>,
    loading: bool,
}

impl Inspect {
    /// The screen, and what it needs first.
    pub fn open(session: Option<SessionId>) -> (Self, Vec<Act>) {
        let screen = Self {
            session,
            tab: Tab::Agents,
            picked: Picked::default(),
            runs: Vec::new(),
            at: 0,
            run: None,
            loading: session.is_some(),
        };
        (screen, session.map(|session| Act::Do(Effect::ListRuns(session))).into_iter().collect())
    }

    /// Lists anew: a run has ended.
    pub fn reload(&self) -> Vec<Act> {
        self.session.map(|session| Act::Do(Effect::ListRuns(session))).into_iter().collect()
    }

    /// Takes the list of runs and asks for the newest.
    pub fn take_runs(&mut self, result: Answer<Vec<RunId>>) -> Vec<Act> {
        match result {
            Ok(runs) => {
                self.at = runs.len().saturating_sub(1);
                self.runs = runs;
                self.request()
            }
            Err(failure) => vec![Act::Say(Tone::Bad, failure.message)],
        }
    }

    /// Takes a run.
    pub fn take_run(&mut self, result: Answer<Box<Run>>) -> Vec<Act> {
        self.loading = false;
        match result {
            Ok(run) => {
                if self.runs.get(self.at) == Some(&run.id) {
                    self.run = Some(run);
                }
                Vec::new()
            }
            Err(failure) => vec![Act::Say(Tone::Bad, failure.message)],
        }
    }

    fn request(&mut self) -> Vec<Act> {
        self.picked = Picked::default();
        self.run = None;
        self.loading = self.runs.get(self.at).is_some();
        self.runs.get(self.at).map(|run| Act::Do(Effect::LoadRun(*run))).into_iter().collect()
    }

    /// Handles a key. `live` is the run that goes on.
    pub fn key(&mut self, key: KeyEvent, context: &Context<'_>, live: &RunSnapshot) -> Vec<Act> {
        let rows = self.snapshot(context.busy, live).map_or(0, |snapshot| self.row_count(snapshot));
        if self.picked.letter_key(key, rows) {
            return Vec::new();
        }
        let position = TABS.iter().position(|(tab, _)| *tab == self.tab).unwrap_or(0);
        let turn = |by: usize| TABS.get((position + by) % TABS.len()).map_or(Tab::Agents, |(tab, _)| *tab);
        match key.code {
            KeyCode::Esc | KeyCode::Char('q') => return vec![Act::Back],
            KeyCode::Tab | KeyCode::Right if key.modifiers == KeyModifiers::NONE => self.tab = turn(1),
            KeyCode::BackTab | KeyCode::Left => self.tab = turn(TABS.len() - 1),
            KeyCode::Char(digit @ '1'..='4') => {
                let index = usize::try_from(u32::from(digit) - u32::from('1')).unwrap_or(0);
                self.tab = TABS.get(index).map_or(self.tab, |(tab, _)| *tab);
            }
            KeyCode::Char('[') if self.at > 0 => {
                self.at -= 1;
                return self.request();
            }
            KeyCode::Char(']') if self.at + 1 < self.runs.len() => {
                self.at += 1;
                return self.request();
            }
            _ => return Vec::new(),
        }
        self.picked = Picked::default();
        Vec::new()
    }

    /// What is shown: the run that goes on, unless an older one was chosen.
    fn snapshot<'a>(&'a self, busy: bool, live: &'a RunSnapshot) -> Option<&'a RunSnapshot> {
        let newest = self.at + 1 >= self.runs.len();
        if busy && newest {
            return Some(live);
        }
        self.run.as_ref().map(|run| &run.snapshot).or(self.runs.is_empty().then_some(live))
    }

    fn row_count(&self, snapshot: &RunSnapshot) -> usize {
        match self.tab {
            Tab::Agents => agents(snapshot).count(),
            Tab::Negotiation => snapshot.negotiation.sections.len(),
            Tab::Tokens => snapshot.usage.by_agent.len() + snapshot.usage.by_phase.len() + 4,
            Tab::Trace => pages::trace_rows(snapshot, self.run.as_deref()),
        }
    }

    /// Draws the screen.
    pub fn view(&self, buffer: &mut Buffer, area: Rect, look: &Look, busy: bool, live: &RunSnapshot) {
        let theme = &look.theme;
        let keys = [("Tab", "next page"), ("↑ ↓", "move"), ("[ ]", "older, newer run"), ("Esc", "back")];
        let subtitle = match (self.runs.len(), busy && self.at + 1 >= self.runs.len()) {
            (_, true) => "the run that goes on".to_owned(),
            (0, false) => String::new(),
            (count, false) => format!("run {} of {count}", self.at + 1),
        };
        let body = canvas::screen(buffer, area, look, "Inspect", &subtitle, &keys);
        let mut tabs = Vec::new();
        for (index, (tab, name)) in TABS.iter().enumerate() {
            let style = if *tab == self.tab { theme.selected } else { theme.dim };
            tabs.push(Span::styled(format!(" {} {name} ", index + 1), style));
            tabs.push(Span::raw(" "));
        }
        canvas::line(buffer, canvas::row(body, 0), &Line::from(tabs));
        let page = Rect { y: body.y + 2, height: body.height.saturating_sub(2), ..body };
        let snapshot = self.snapshot(busy, live).filter(|snapshot| snapshot.timeline.started_at.is_some());
        let Some(snapshot) = snapshot else {
            let text = if self.loading { "loading ..." } else { "no run yet: every reply is one" };
            canvas::line(buffer, canvas::row(page, 0), &Line::styled(text, theme.dim));
            return;
        };
        match self.tab {
            Tab::Agents => pages::agents(buffer, page, look, snapshot, self.picked),
            Tab::Negotiation => pages::negotiation(buffer, page, look, snapshot, self.picked),
            Tab::Tokens => pages::tokens(buffer, page, look, snapshot, self.picked),
            Tab::Trace => {
                let run = self.run.as_deref().filter(|run| run.snapshot.run_id == snapshot.run_id);
                pages::trace(buffer, page, look, snapshot, run, self.picked);
            }
        }
    }
}

/// All agents of a run with their triads' names, triads first.
pub fn agents(snapshot: &RunSnapshot) -> impl Iterator<Item = (Option<&str>, &AgentNode)> {
    let tree = &snapshot.agent_tree;
    let in_triads = tree
        .triads
        .iter()
        .flat_map(|triad| triad.agents.iter().map(|agent| (Some(triad.triad_id.as_str()), agent)));
    in_triads.chain(tree.agents.iter().map(|agent| (None, agent)))
}
