//! The sidebar: the agents of the newest run, its phases and negotiation, and the plugins' sidebar widgets.

use hfs_core::{AgentNode, AgentStatus, RunSnapshot, Section, SectionStatus};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::view::plan_lines;
use crate::canvas;
use crate::model::Model;
use crate::ports::Slot;
use crate::screens::inspect::{decision_word, status_mark, without_triad_prefix};
use crate::text::{display_width, format_duration, format_tokens, sanitize_line, truncate, wrap_text};
use crate::theme::Theme;
use crate::view::widget_lines;

/// Maximum steps of a plan.
const PLAN_ROWS: usize = 12;

pub fn draw(model: &Model, buffer: &mut Buffer, area: Rect) {
    let theme = &model.render.theme;
    for y in area.top()..area.bottom() {
        buffer.set_string(area.x, y, "│", theme.border);
    }
    let inner = Rect { x: area.x + 2, width: area.width.saturating_sub(3), ..area };
    let width = usize::from(inner.width);
    let mut lines = run_lines(model, width, true);
    // If the lines do not fit, each triad is shown in one line, so that the negotiation stays visible.
    if lines.len() > usize::from(area.height) {
        lines = run_lines(model, width, false);
    }
    let plan = plan_lines(model, width, PLAN_ROWS);
    if !plan.is_empty() {
        lines.push(Line::default());
        lines.extend(plan);
    }
    for widget in model.plugins.widgets.iter().filter(|widget| widget.slot == Slot::Sidebar) {
        lines.push(Line::default());
        lines.push(Line::styled(sanitize_line(&widget.plugin), theme.title()));
        lines.extend(widget_lines(widget, width, theme));
    }
    canvas::lines(buffer, inner, lines);
}

/// Returns a line for each triad, and for each agent outside of the triads, that is working. Shows progress where the sidebar
/// is hidden: triads work for minutes before the reply begins.
pub fn working_agents(model: &Model, width: usize) -> Vec<Line<'static>> {
    let (theme, run) = (&model.render.theme, &model.chat.run);
    if !model.chat.is_busy() || run.ending.is_some() || run.agent_tree.triads.is_empty() {
        return Vec::new();
    }
    let is_working = |agent: &&AgentNode| agent.status == AgentStatus::Working;
    let mut lines = Vec::new();
    for triad in &run.agent_tree.triads {
        let working = triad.agents.iter().filter(is_working);
        let names: Vec<String> =
            working.map(|agent| without_triad_prefix(&agent.agent_id, &triad.triad_id)).collect();
        if names.is_empty() {
            continue;
        }
        let marks = triad.agents.iter().map(|agent| status_mark(agent.status, theme));
        let mut spans: Vec<Span<'static>> =
            marks.map(|(mark, style)| Span::styled(format!("{mark} "), style)).collect();
        let name = sanitize_line(&triad.triad_id);
        let room = width.saturating_sub(2 * spans.len() + display_width(&name) + 2);
        spans.push(Span::styled(name, theme.text));
        spans.push(Span::styled(format!("  {}", truncate(&names.join(", "), room)), theme.dim));
        lines.push(Line::from(spans));
    }
    for agent in run.agent_tree.agents.iter().filter(is_working) {
        lines.push(agent_line(agent, &sanitize_line(&agent.agent_id), "", width, theme));
    }
    lines
}

fn run_lines(model: &Model, width: usize, with_agents: bool) -> Vec<Line<'static>> {
    let theme = &model.render.theme;
    let run = &model.chat.run;
    let mut lines = vec![Line::styled("Agents", theme.title())];
    if run.timeline.started_at.is_none() {
        lines.push(Line::styled(truncate(&sanitize_line(&model.agent.name), width), theme.text));
        lines.extend(wrap_text(&sanitize_line(&model.agent.summary), theme.dim, width));
        return lines;
    }
    for triad in &run.agent_tree.triads {
        let name = sanitize_line(&triad.triad_id);
        let mut title = vec![Span::styled(truncate(&name, width.saturating_sub(8)), theme.text)];
        if with_agents {
            let preset =
                truncate(&sanitize_line(&triad.preset), width.saturating_sub(display_width(&name) + 2));
            title.push(Span::styled(format!("  {preset}"), theme.dim));
        } else {
            title.push(Span::raw("  "));
            let marks = triad.agents.iter().map(|agent| status_mark(agent.status, theme));
            title.extend(marks.map(|(mark, style)| Span::styled(mark.to_owned(), style)));
        }
        lines.push(Line::from(title));
        if !triad.lost.is_empty() {
            let lost = triad.lost.iter().map(|lost| without_triad_prefix(lost, &triad.triad_id));
            let text = format!("! degraded: continues without {}", lost.collect::<Vec<_>>().join(", "));
            lines.extend(wrap_text(&text, theme.warn, width));
        }
        if with_agents {
            for (index, agent) in triad.agents.iter().enumerate() {
                let tree_line = if index + 1 == triad.agents.len() { "└ " } else { "├ " };
                let name = without_triad_prefix(&agent.agent_id, &triad.triad_id);
                lines.push(agent_line(agent, &name, tree_line, width, theme));
            }
        }
    }
    for agent in &run.agent_tree.agents {
        lines.push(agent_line(agent, &sanitize_line(&agent.agent_id), "", width, theme));
    }
    if run.agent_tree.triads.is_empty() && run.agent_tree.agents.is_empty() {
        lines.push(Line::styled(truncate(&sanitize_line(&model.agent.name), width), theme.text));
    }
    lines.extend(phase_lines(model, run, width));
    lines.extend(negotiation_lines(run, width, theme));
    lines
}

fn agent_line(agent: &AgentNode, name: &str, tree_line: &str, width: usize, theme: &Theme) -> Line<'static> {
    let (mark, style) = status_mark(agent.status, theme);
    let room = width.saturating_sub(display_width(tree_line) + 2);
    Line::from(vec![
        Span::styled(tree_line.to_owned(), theme.border),
        Span::styled(format!("{mark} "), style),
        Span::styled(truncate(name, room), theme.text),
    ])
}

fn phase_lines(model: &Model, run: &RunSnapshot, width: usize) -> Vec<Line<'static>> {
    let theme = &model.render.theme;
    let mut lines = vec![Line::default(), Line::styled("Run", theme.title())];
    for phase in &run.timeline.phases {
        let running = || model.render.settings.animations.then(|| model.render.now.millis_since(phase.start));
        let (mark, style) = if phase.end.is_some() { ("●", theme.good) } else { ("◐", theme.accent) };
        let time = phase.duration_ms.or_else(running).map(format_duration).unwrap_or_default();
        let room = width.saturating_sub(display_width(&time) + 3);
        lines.push(Line::from(vec![
            Span::styled(format!("{mark} "), style),
            Span::styled(format!("{:<room$} ", truncate(&sanitize_line(&phase.name), room)), theme.text),
            Span::styled(time, theme.dim),
        ]));
    }
    let time = run.timeline.total_duration_ms.map_or_else(|| "in progress".to_owned(), format_duration);
    // Until a server has answered, nothing is known about the tokens.
    let tokens = (run.usage.calls() > 0).then(|| run.usage.total().describe_with_unit(format_tokens));
    let text = tokens.map_or_else(|| time.clone(), |tokens| format!("{time} · {tokens}"));
    lines.push(Line::styled(text, theme.dim));
    lines
}

fn negotiation_lines(run: &RunSnapshot, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    if run.negotiation.sections.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![Line::default(), Line::styled("Negotiation", theme.title())];
    if let Some(temperature) = run.negotiation.temperature {
        let bar_width = width.saturating_sub(16).max(4);
        lines.push(Line::from(vec![
            Span::styled(format!("{:<bar_width$}", canvas::bar(temperature, bar_width)), theme.accent),
            Span::styled(format!(" {temperature:.2} round {}", run.negotiation.round), theme.dim),
        ]));
    }
    for section in &run.negotiation.sections {
        let (mark, style) = match section.status {
            SectionStatus::Claimed => ("○", theme.dim),
            SectionStatus::Contested => ("◐", theme.warn),
            SectionStatus::Resolved => ("●", theme.good),
        };
        let arbiter = if section.arbiter.is_some() { " ⚖" } else { "" };
        let (name, owners) = (sanitize_line(&section.name), sanitize_line(&section.owners.join("+")));
        let room = width.saturating_sub(2 + display_width(arbiter));
        let has_room = display_width(&name) + 1 + display_width(&owners) <= room;
        let first = if has_room && !owners.is_empty() { format!("{name} {owners}") } else { name };
        lines.push(Line::from(vec![
            Span::styled(format!("{mark} "), style),
            Span::styled(truncate(&first, room), theme.text),
            Span::styled(arbiter, theme.warn),
        ]));
        if !has_room {
            lines.extend(indented(&section.owners.join(", "), theme.text, width));
        }
        lines.extend(decision_lines(section, width, theme));
    }
    lines
}

/// Lists the decisions of the claimants of a contested section.
fn decision_lines(section: &Section, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let contest = section.contests.last().filter(|_| section.status == SectionStatus::Contested);
    let Some(contest) = contest else { return Vec::new() };
    let decided = contest.claimants.iter().map(|claimant| {
        let word =
            contest.decisions.get(claimant).map_or("has not decided", |decision| decision_word(*decision));
        format!("{claimant} {word}")
    });
    decided.flat_map(|text| indented(&text, theme.dim, width)).collect()
}

/// Wraps a text that belongs to the line above it.
fn indented(text: &str, style: Style, width: usize) -> Vec<Line<'static>> {
    const INDENT: &str = "  ";
    let mut lines = wrap_text(&sanitize_line(text), style, width.saturating_sub(INDENT.len()));
    lines.iter_mut().for_each(|line| line.spans.insert(0, Span::raw(INDENT)));
    lines
}
