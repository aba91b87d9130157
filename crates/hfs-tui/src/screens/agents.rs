//! The agents: choose one for this session or for all sessions, and install the adapter that a tool needs. Before the first
//! message of a user who has configured nothing, the app offers the agents that it has found.

use crossterm::event::{KeyCode, KeyEvent};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::{Action, Context, Handled, ListSelection, Screen};
use crate::canvas;
use crate::ports::{AgentEntry, AgentState, ErrorReport, Tone};
use crate::protocol::{Request, ScreenMsg};
use crate::text::{Fragment, sanitize_line, truncate, wrap, wrap_text};

/// Lines of an installation's output that are kept.
const MAX_OUTPUT_LINES: usize = 500;
/// Width of the column with the names.
const NAME_WIDTH: usize = 14;

#[derive(Debug)]
enum Step {
    Choosing,
    /// Shows the command that would install the adapter of an agent.
    Confirming {
        name: String,
        command: String,
    },
    Installing {
        name: String,
        command: String,
        output: Vec<String>,
    },
    Failed {
        name: String,
        command: String,
        output: Vec<String>,
        report: ErrorReport,
    },
}

#[derive(Debug)]
pub struct Agents {
    /// Whether a message waits for the choice.
    is_offer: bool,
    /// `None` until the user moves it: until then the current agent is selected, also after the list is read again.
    selection: Option<ListSelection>,
    step: Step,
}

impl Agents {
    /// Opens the list of agents.
    pub fn open() -> (Self, Vec<Action>) {
        let screen = Self { is_offer: false, selection: None, step: Step::Choosing };
        (screen, vec![Action::run(Request::ListAgents)])
    }

    /// Opens the list of the agents that were found, because a message waits and nothing is configured.
    pub fn open_offer() -> Self {
        Self { is_offer: true, selection: None, step: Step::Choosing }
    }

    /// The agents; those that can be chosen come first.
    fn rows<'a>(&self, cx: &'a Context<'_>) -> Vec<&'a AgentEntry> {
        let rows = cx.agents.agents.iter();
        if self.is_offer {
            return rows.filter(|agent| agent.is_offered()).collect();
        }
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|agent| match agent.state {
            AgentState::Ready => 0,
            AgentState::NeedsAdapter { .. } => 1,
            AgentState::NotInstalled { .. } => 2,
        });
        rows
    }

    fn selection(&self, rows: &[&AgentEntry], cx: &Context<'_>) -> ListSelection {
        // An offer begins with the agents that were found, also if the one without a model is the current one.
        let is_current = |agent: &&AgentEntry| !self.is_offer && agent.name == cx.agent.name;
        let initial = || ListSelection { row: rows.iter().position(is_current).unwrap_or(0) };
        let mut selection = self.selection.unwrap_or_else(initial);
        selection.clamp(rows.len());
        selection
    }

    /// Chooses an agent: for all sessions if a message waits for the choice, because it would wait again otherwise.
    fn choose(&self, name: &str, for_all: bool) -> Vec<Action> {
        let request = if for_all || self.is_offer {
            Request::SetConfig { key: "agent".to_owned(), value: name.to_owned() }
        } else {
            Request::UseAgent { agent: Some(name.to_owned()) }
        };
        vec![Action::run(request), Action::Close]
    }

    fn handle_choosing_key(&mut self, key: KeyEvent, cx: &Context<'_>) -> Vec<Action> {
        let rows = self.rows(cx);
        let mut selection = self.selection(&rows, cx);
        let row = rows.get(selection.row).copied().cloned();
        if key.code != KeyCode::Tab && selection.handle_key_with_letters(key, rows.len()) {
            self.selection = Some(selection);
            return Vec::new();
        }
        match (key.code, row) {
            (KeyCode::Esc | KeyCode::Char('q'), _) => vec![Action::Close],
            (KeyCode::Enter | KeyCode::Tab, Some(agent)) => match agent.state {
                AgentState::Ready => self.choose(&agent.name, key.code == KeyCode::Tab),
                AgentState::NeedsAdapter { command } => {
                    self.step = Step::Confirming { name: agent.name, command };
                    Vec::new()
                }
                AgentState::NotInstalled { hint } => {
                    let hint = hint.map(|hint| format!(": {hint}")).unwrap_or_default();
                    let text = format!("{} is not installed{hint}", agent.title);
                    vec![Action::Notify(Tone::Warn, sanitize_line(&text))]
                }
            },
            _ => Vec::new(),
        }
    }

    fn installed(&mut self, installed: &str, result: Result<(), ErrorReport>) -> Vec<Action> {
        let Step::Installing { name, command, output } = &mut self.step else { return Vec::new() };
        if name != installed {
            return Vec::new();
        }
        match result {
            Ok(()) => {
                let name = name.clone();
                let mut actions = vec![Action::run(Request::ListAgents)];
                actions.extend(self.choose(&name, false));
                actions
            }
            Err(report) => {
                let (name, command) = (std::mem::take(name), std::mem::take(command));
                self.step = Step::Failed { name, command, output: std::mem::take(output), report };
                Vec::new()
            }
        }
    }

    fn draw_list(&self, buffer: &mut Buffer, area: Rect, cx: &Context<'_>) {
        let theme = &cx.render.theme;
        let width = usize::from(area.width);
        let intro = if self.is_offer {
            "Your message waits. Who should answer it, and those after it? /agent changes that at any time."
        } else {
            "An agent that is a program of its own asks here before it acts. The conversation so far goes with it."
        };
        let mut lines = wrap_text(intro, theme.text, width.min(90));
        lines.push(Line::default());
        let top = lines.len();
        canvas::lines(buffer, area, lines);
        let rows = self.rows(cx);
        let list = canvas::below(area, top);
        let selection = self.selection(&rows, cx);
        let visible = selection.visible_range(rows.len(), usize::from(list.height));
        canvas::scroll_mark(buffer, list, &visible, rows.len(), theme);
        for (at, index) in visible.enumerate() {
            let Some(agent) = rows.get(index) else { break };
            let row = canvas::row(list, at);
            let is_current = agent.name == cx.agent.name;
            let (mark, style) = match (&agent.state, is_current) {
                (AgentState::Ready, true) => ("● ", theme.good),
                (AgentState::Ready, false) => ("○ ", theme.text),
                (AgentState::NeedsAdapter { .. } | AgentState::NotInstalled { .. }, _) => ("  ", theme.dim),
            };
            let about = match &agent.state {
                AgentState::Ready => sanitize_line(&agent.about),
                AgentState::NeedsAdapter { command } => {
                    format!("is installed; needs its adapter: {}", sanitize_line(command))
                }
                AgentState::NotInstalled { .. } => "is not installed".to_owned(),
            };
            let title = truncate(&sanitize_line(&agent.title), NAME_WIDTH - 1);
            let room = width.saturating_sub(NAME_WIDTH + 2);
            let line = Line::from(vec![
                Span::styled(mark, style),
                Span::styled(format!("{title:<NAME_WIDTH$}"), style),
                Span::styled(truncate(&about, room), theme.dim),
            ]);
            canvas::line(buffer, row, &line);
            if index == selection.row {
                canvas::fill(buffer, row, theme.selected);
            }
        }
    }
}

impl Screen for Agents {
    fn title(&self) -> &'static str {
        if self.is_offer { "Who should answer?" } else { "Agents" }
    }

    fn subtitle(&self, cx: &Context<'_>) -> String {
        if self.is_offer { String::new() } else { format!("now {}", sanitize_line(&cx.agent.name)) }
    }

    fn key_hints(&self) -> Vec<(&'static str, &'static str)> {
        match &self.step {
            Step::Choosing if self.is_offer => {
                vec![("Enter", "let it answer"), ("Esc", "back to the message")]
            }
            Step::Choosing => {
                vec![("Enter", "use in this session"), ("Tab", "use in all sessions"), ("Esc", "back")]
            }
            Step::Confirming { .. } => vec![("Enter", "run this command"), ("Esc", "not now")],
            Step::Installing { .. } => vec![("Esc", "stop")],
            Step::Failed { .. } => vec![("Enter", "try again"), ("Esc", "back")],
        }
    }

    fn handle_key(&mut self, key: KeyEvent, cx: &Context<'_>) -> Vec<Action> {
        match (&mut self.step, key.code) {
            (Step::Choosing, _) => self.handle_choosing_key(key, cx),
            (Step::Confirming { name, command } | Step::Failed { name, command, .. }, KeyCode::Enter) => {
                let (name, command) = (std::mem::take(name), std::mem::take(command));
                self.step = Step::Installing { name: name.clone(), command, output: Vec::new() };
                vec![Action::run(Request::InstallAgent { agent: name })]
            }
            (Step::Installing { .. }, KeyCode::Esc) => vec![Action::run(Request::StopTransfer)],
            (Step::Confirming { .. } | Step::Failed { .. }, KeyCode::Esc) => {
                self.step = Step::Choosing;
                Vec::new()
            }
            (Step::Confirming { .. } | Step::Installing { .. } | Step::Failed { .. }, _) => Vec::new(),
        }
    }

    fn handle_message(&mut self, message: ScreenMsg, _cx: &Context<'_>) -> Handled {
        match message {
            // Drawing reads the list.
            ScreenMsg::AgentsListed => Handled::Yes(Vec::new()),
            ScreenMsg::InstallOutput(line) => {
                if let Step::Installing { output, .. } = &mut self.step {
                    output.push(line);
                    let excess = output.len().saturating_sub(MAX_OUTPUT_LINES);
                    output.drain(..excess);
                }
                Handled::Yes(Vec::new())
            }
            ScreenMsg::AgentInstalled { agent, result } => Handled::Yes(self.installed(&agent, result)),
            other => Handled::No(other),
        }
    }

    fn draw(&self, buffer: &mut Buffer, area: Rect, cx: &Context<'_>) -> Option<(u16, u16)> {
        let theme = &cx.render.theme;
        let width = usize::from(area.width);
        let command_lines = |command: &str| {
            wrap(
                &[Fragment::new("$ ", theme.accent), Fragment::new(sanitize_line(command), theme.text)],
                width,
            )
        };
        let (mut lines, output, end) = match &self.step {
            Step::Choosing => {
                self.draw_list(buffer, area, cx);
                return None;
            }
            Step::Confirming { command, .. } => {
                let text = "This command installs the adapter. It changes what npm has installed for all your \
                            programs, and nothing of hfs:";
                let mut lines = wrap_text(text, theme.text, width.min(90));
                lines.push(Line::default());
                lines.extend(command_lines(command));
                (lines, None, Vec::new())
            }
            Step::Installing { command, output, .. } => {
                let end = vec![Line::styled("running; this may take some minutes ...", theme.text)];
                (command_lines(command), Some(output), end)
            }
            Step::Failed { command, output, report, .. } => {
                let mut end = wrap_text(&sanitize_line(&report.message), theme.bad, width);
                let suggestion = report.suggestion.as_deref().map(sanitize_line);
                end.extend(suggestion.into_iter().flat_map(|text| wrap_text(&text, theme.text, width)));
                (command_lines(command), Some(output), end)
            }
        };
        if let Some(output) = output {
            let room = usize::from(area.height).saturating_sub(lines.len() + end.len());
            let hidden = output.len().saturating_sub(room);
            let shown = output.iter().skip(hidden);
            lines.extend(shown.map(|line| Line::styled(truncate(&sanitize_line(line), width), theme.dim)));
        }
        lines.extend(end);
        canvas::lines(buffer, area, lines);
        None
    }
}
