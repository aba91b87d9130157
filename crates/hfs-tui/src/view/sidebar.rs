//! The agents of the newest run, and what plugins show beside the conversation.

use hfs_core::{AgentNode, RunSnapshot, Section, SectionStatus};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::widgets;
use crate::canvas;
use crate::model::Model;
use crate::parts::Slot;
use crate::screens::inspect::{decision_word, duration, status_mark};
use crate::text::{cells, clip, one_line};
use crate::theme::Theme;
use crate::transcript::token_count;

pub fn view(model: &Model, buffer: &mut Buffer, area: Rect) {
    let theme = &model.look.theme;
    for y in area.top()..area.bottom() {
        buffer.set_string(area.x, y, "│", theme.frame);
    }
    let inner = Rect { x: area.x + 2, width: area.width.saturating_sub(3), ..area };
    let width = usize::from(inner.width);
    let mut lines = run_lines(model, width, true);
    // Where not everything fits, what the triads have come to says more than each of their agents.
    if lines.len() > usize::from(area.height) {
        lines = run_lines(model, width, false);
    }
    for widget in model.plugins.widgets.iter().filter(|widget| widget.slot == Slot::Sidebar) {
        lines.push(Line::default());
        lines.push(Line::styled(one_line(&widget.plugin), theme.title()));
        lines.extend(widgets::lines(widget, width, theme));
    }
    canvas::lines(buffer, inner, lines);
}

fn run_lines(model: &Model, width: usize, in_full: bool) -> Vec<Line<'static>> {
    let theme = &model.look.theme;
    let run = &model.chat.run;
    let mut lines = vec![Line::styled("Agents", theme.title())];
    if run.timeline.started_at.is_none() {
        lines.push(Line::styled(clip(&one_line(&model.agent.name), width), theme.text));
        lines.extend(crate::text::wrap_plain(&one_line(&model.agent.summary), theme.dim, width));
        return lines;
    }
    for triad in &run.agent_tree.triads {
        let name = one_line(&triad.triad_id);
        let mut title = vec![Span::styled(clip(&name, width.saturating_sub(8)), theme.text)];
        if in_full {
            let preset = clip(&one_line(&triad.preset), width.saturating_sub(cells(&name) + 2));
            title.push(Span::styled(format!("  {preset}"), theme.dim));
        } else {
            title.push(Span::raw("  "));
            let marks = triad.agents.iter().map(|agent| status_mark(agent.status, theme));
            title.extend(marks.map(|(mark, style)| Span::styled(mark.to_owned(), style)));
        }
        lines.push(Line::from(title));
        if !triad.lost.is_empty() {
            let lost = triad.lost.iter().map(|lost| of_triad(lost, &triad.triad_id));
            let text = format!("! degraded: goes on without {}", lost.collect::<Vec<_>>().join(", "));
            lines.extend(crate::text::wrap_plain(&text, theme.warn, width));
        }
        for (index, agent) in triad.agents.iter().enumerate().filter(|_| in_full) {
            let rail = if index + 1 == triad.agents.len() { "└ " } else { "├ " };
            lines.push(agent_line(agent, rail, width, theme));
        }
    }
    for agent in &run.agent_tree.agents {
        lines.push(agent_line(agent, "", width, theme));
    }
    if run.agent_tree.triads.is_empty() && run.agent_tree.agents.is_empty() {
        lines.push(Line::styled(clip(&one_line(&model.agent.name), width), theme.text));
    }
    lines.extend(phase_lines(model, run, width));
    lines.extend(negotiation_lines(run, width, theme));
    lines
}

fn agent_line(agent: &AgentNode, rail: &str, width: usize, theme: &Theme) -> Line<'static> {
    let (mark, style) = status_mark(agent.status, theme);
    // In a triad the role says more than the id, which repeats the triad's name.
    let name = if rail.is_empty() { one_line(&agent.agent_id) } else { one_line(&agent.role) };
    let room = width.saturating_sub(cells(rail) + 2);
    Line::from(vec![
        Span::styled(rail.to_owned(), theme.frame),
        Span::styled(format!("{mark} "), style),
        Span::styled(clip(&name, room), theme.text),
    ])
}

fn phase_lines(model: &Model, run: &RunSnapshot, width: usize) -> Vec<Line<'static>> {
    let theme = &model.look.theme;
    let mut lines = vec![Line::default(), Line::styled("Run", theme.title())];
    for phase in &run.timeline.phases {
        let time = phase.duration_ms.unwrap_or_else(|| model.look.now.millis_since(phase.start));
        let (mark, style) = if phase.end.is_some() { ("●", theme.good) } else { ("◐", theme.accent) };
        let time = duration(time);
        let room = width.saturating_sub(cells(&time) + 3);
        lines.push(Line::from(vec![
            Span::styled(format!("{mark} "), style),
            Span::styled(format!("{:<room$} ", clip(&one_line(&phase.name), room)), theme.text),
            Span::styled(time, theme.dim),
        ]));
    }
    let time = run.timeline.total_duration_ms.map_or_else(|| "running".to_owned(), duration);
    let tokens = token_count(run.usage.total_tokens);
    lines.push(Line::styled(format!("{time} · {tokens} tokens"), theme.dim));
    lines
}

fn negotiation_lines(run: &RunSnapshot, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    if run.negotiation.sections.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![Line::default(), Line::styled("Negotiation", theme.title())];
    if let Some(temperature) = run.negotiation.temperature {
        let bars = width.saturating_sub(16).max(4);
        lines.push(Line::from(vec![
            Span::styled(format!("{:<bars$}", canvas::bar(temperature, bars)), theme.accent),
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
        let name = format!("{} {}", one_line(&section.name), one_line(&section.owners.join("+")));
        lines.push(Line::from(vec![
            Span::styled(format!("{mark} "), style),
            Span::styled(clip(&name, width.saturating_sub(5)), theme.text),
            Span::styled(arbiter, theme.warn),
        ]));
        lines.extend(decision_lines(section, width, theme));
    }
    lines
}

/// What the claimants of a section that is contested at this moment have decided.
fn decision_lines(section: &Section, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let contest = section.contests.last().filter(|_| section.status == SectionStatus::Contested);
    let Some(contest) = contest else { return Vec::new() };
    let decided = contest.claimants.iter().map(|claimant| {
        let word = contest.decisions.get(claimant).map_or("considers", |decision| decision_word(*decision));
        format!("  {} {word}", one_line(claimant))
    });
    decided.map(|text| Line::styled(clip(&text, width), theme.dim)).collect()
}

/// An agent's name without that of its triad, which stands above it.
fn of_triad(agent: &str, triad: &str) -> String {
    let rest = agent.strip_prefix(triad).map(|rest| rest.trim_start_matches(['.', '/', ':', '-']));
    one_line(rest.filter(|rest| !rest.is_empty()).unwrap_or(agent))
}
