//! The pages of the inspector.

use hfs_core::{
    AgentNode, AgentStatus, ClaimDecision, EventPayload, Run, RunEnding, RunSnapshot, Section,
    SectionDecision, SectionStatus, Timestamp, TokenCount,
};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::Picked;
use crate::canvas;
use crate::look::Look;
use crate::text::{Piece, cells, clip, one_line, wrap};
use crate::theme::Theme;
use crate::transcript::token_count;

/// A mark and a style for what an agent is doing.
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

/// A duration as a person reads it.
pub fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1_000),
    }
}

fn agent_time(agent: &AgentNode, now: Timestamp) -> Option<u64> {
    let started = agent.started_at?;
    Some(agent.ended_at.unwrap_or(now).millis_since(started))
}

/// The list on the left, or above, and what belongs to the selected row.
fn split(page: Rect) -> (Rect, Rect) {
    if page.width >= 90 {
        let list = page.width / 2;
        return (
            Rect { width: list, ..page },
            Rect { x: page.x + list + 2, width: page.width - list - 2, ..page },
        );
    }
    let detail = (page.height / 3).max(6).min(page.height);
    let list = Rect { height: page.height - detail, ..page };
    (list, Rect { y: list.bottom(), height: detail, ..page })
}

pub fn agents(buffer: &mut Buffer, page: Rect, look: &Look, snapshot: &RunSnapshot, picked: Picked) {
    let theme = &look.theme;
    let (list, detail) = split(page);
    let mut rows: Vec<(Line<'static>, Option<usize>)> = Vec::new();
    let mut number = 0;
    for triad in &snapshot.agent_tree.triads {
        let title = Line::from(vec![
            Span::styled(one_line(&triad.triad_id), theme.title()),
            Span::styled(format!("  {}", one_line(&triad.preset)), theme.dim),
            Span::styled(lost(&triad.lost), theme.warn),
        ]);
        rows.push((title, None));
        for (index, agent) in triad.agents.iter().enumerate() {
            let rail = if index + 1 == triad.agents.len() { "└ " } else { "├ " };
            rows.push((agent_row(agent, rail, look), Some(number)));
            number += 1;
        }
    }
    for agent in &snapshot.agent_tree.agents {
        rows.push((agent_row(agent, "", look), Some(number)));
        number += 1;
    }
    let selected = rows.iter().position(|(_, number)| *number == Some(picked.row)).unwrap_or(0);
    let window = Picked { row: selected }.window(rows.len(), usize::from(list.height));
    for (at, index) in window.enumerate() {
        let Some((line, _)) = rows.get(index) else { break };
        let area = canvas::row(list, at);
        canvas::line(buffer, area, line);
        if index == selected {
            canvas::fill(buffer, area, theme.selected);
        }
    }
    if let Some((triad, agent)) = super::agents(snapshot).nth(picked.row) {
        agent_detail(buffer, detail, look, snapshot, triad, agent);
    } else {
        canvas::line(buffer, canvas::row(list, 0), &Line::styled("no agent has begun yet", theme.dim));
    }
}

/// Whom a triad goes on without.
fn lost(lost: &[String]) -> String {
    if lost.is_empty() { String::new() } else { format!("  without {}", one_line(&lost.join(", "))) }
}

fn agent_row(agent: &AgentNode, rail: &str, look: &Look) -> Line<'static> {
    let theme = &look.theme;
    let (mark, style) = status_mark(agent.status, theme);
    let time = agent_time(agent, look.now).map(duration).unwrap_or_default();
    Line::from(vec![
        Span::styled(rail.to_owned(), theme.frame),
        Span::styled(format!("{mark} "), style),
        Span::styled(one_line(&agent.agent_id), theme.text),
        Span::styled(format!("  {}  {time}", one_line(&agent.role)), theme.dim),
    ])
}

fn agent_detail(
    buffer: &mut Buffer,
    area: Rect,
    look: &Look,
    snapshot: &RunSnapshot,
    triad: Option<&str>,
    agent: &AgentNode,
) {
    let theme = &look.theme;
    let title = Line::styled(format!(" {} ", one_line(&agent.agent_id)), theme.title());
    let inner = canvas::panel(buffer, area, title, theme, false);
    let count = snapshot.usage.by_agent.get(&agent.agent_id).copied().unwrap_or_default();
    let fields = [
        ("role", one_line(&agent.role)),
        ("triad", triad.map_or_else(|| "none".to_owned(), one_line)),
        ("status", status_word(agent.status).to_owned()),
        ("model", agent.model.as_deref().map_or_else(|| "none".to_owned(), one_line)),
        ("time", agent_time(agent, look.now).map_or_else(|| "not yet".to_owned(), duration)),
        ("tokens", format!("{} in · {} out", count.usage.prompt_tokens, count.usage.completion_tokens)),
        ("calls", count.calls.to_string()),
    ];
    let lines = fields.into_iter().map(|(name, value)| {
        Line::from(vec![Span::styled(format!("{name:<8}"), theme.dim), Span::styled(value, theme.text)])
    });
    canvas::lines(buffer, inner, lines);
}

pub fn negotiation(buffer: &mut Buffer, page: Rect, look: &Look, snapshot: &RunSnapshot, picked: Picked) {
    let theme = &look.theme;
    let negotiation = &snapshot.negotiation;
    let width = usize::from(page.width).min(40);
    let heat = match negotiation.temperature {
        Some(temperature) => Line::from(vec![
            Span::styled("temperature ", theme.dim),
            Span::styled(
                format!("{:<width$}", canvas::bar(temperature, width - 24), width = width - 24),
                theme.accent,
            ),
            Span::styled(format!(" {temperature:.2}  round {}", negotiation.round), theme.text),
        ]),
        None => Line::styled("nothing was contested", theme.dim),
    };
    canvas::line(buffer, canvas::row(page, 0), &heat);
    let page = Rect { y: page.y + 2, height: page.height.saturating_sub(2), ..page };
    let (list, detail) = split(page);
    let names =
        negotiation.sections.iter().map(|section| cells(&section.name)).max().unwrap_or(0).clamp(8, 24);
    for (at, index) in picked.window(negotiation.sections.len(), usize::from(list.height)).enumerate() {
        let Some(section) = negotiation.sections.get(index) else { break };
        let area = canvas::row(list, at);
        let (mark, style) = match section.status {
            SectionStatus::Claimed => ("○", theme.dim),
            SectionStatus::Contested => ("◐", theme.warn),
            SectionStatus::Resolved => ("●", theme.good),
        };
        let mut spans = vec![
            Span::styled(format!("{mark} "), style),
            Span::styled(format!("{:<names$} ", clip(&one_line(&section.name), names)), theme.text),
            Span::styled(owners(section), theme.dim),
        ];
        if section.arbiter.is_some() {
            spans.push(Span::styled("  ⚖ arbiter", theme.warn));
        }
        canvas::line(buffer, area, &Line::from(spans));
        if index == picked.row {
            canvas::fill(buffer, area, theme.selected);
        }
    }
    if let Some(section) = negotiation.sections.get(picked.row) {
        section_detail(buffer, detail, look, section);
    }
}

/// What a claimant does, in words.
pub const fn decision_word(decision: ClaimDecision) -> &'static str {
    match decision {
        ClaimDecision::Concede => "concedes",
        ClaimDecision::Revise => "wants a part",
        ClaimDecision::Hold => "holds on",
    }
}

fn owners(section: &Section) -> String {
    if section.owners.is_empty() { "nobody yet".to_owned() } else { one_line(&section.owners.join(" + ")) }
}

fn section_detail(buffer: &mut Buffer, area: Rect, look: &Look, section: &Section) {
    let theme = &look.theme;
    let title = Line::styled(format!(" {} ", one_line(&section.name)), theme.title());
    let inner = canvas::panel(buffer, area, title, theme, false);
    let width = usize::from(inner.width);
    let mut lines = Vec::new();
    let field = |name: &str, value: String| {
        vec![Piece::new(format!("{name:<9}"), theme.dim), Piece::new(value, theme.text)]
    };
    lines.extend(wrap(&field("owners", owners(section)), width));
    lines.extend(wrap(&field("claimed", one_line(&section.claimants.join(", "))), width));
    for contest in &section.contests {
        let claims = contest.claimants.iter().map(|claimant| match contest.decisions.get(claimant) {
            Some(decision) => format!("{claimant} {}", decision_word(*decision)),
            None => claimant.clone(),
        });
        let claims = one_line(&claims.collect::<Vec<_>>().join(" / "));
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
                Piece::new(format!("⚖ The arbiter {decision}: "), theme.warn),
                Piece::new(one_line(&arbiter.reason), theme.text),
            ],
            width,
        ));
    }
    canvas::lines(buffer, inner, lines);
}

pub fn tokens(buffer: &mut Buffer, page: Rect, look: &Look, snapshot: &RunSnapshot, picked: Picked) {
    let theme = &look.theme;
    let usage = &snapshot.usage;
    let mut lines = vec![Line::from(vec![
        Span::styled(format!("{} tokens", usage.total_tokens), theme.title()),
        Span::styled(ending(snapshot), theme.dim),
    ])];
    for (title, tally) in [("By phase", &usage.by_phase), ("By agent", &usage.by_agent)] {
        lines.push(Line::default());
        lines.push(Line::styled(title, theme.title()));
        let most = tally.values().map(|count| count.usage.total()).max().unwrap_or(0);
        lines.extend(
            tally.iter().map(|(name, count)| token_row(name, *count, most, usize::from(page.width), theme)),
        );
    }
    let skip = picked.row.min(lines.len().saturating_sub(usize::from(page.height)));
    canvas::lines(buffer, page, lines.into_iter().skip(skip));
}

fn ending(snapshot: &RunSnapshot) -> String {
    let how = match snapshot.ending {
        None => "  still running",
        Some(RunEnding::Completed) => "  completed",
        Some(RunEnding::Cancelled) => "  cancelled",
        Some(RunEnding::Failed) => "  failed",
    };
    let time = snapshot.timeline.total_duration_ms.map(duration);
    time.map_or_else(|| how.to_owned(), |time| format!("{how} in {time}"))
}

#[allow(clippy::cast_precision_loss, reason = "a bar is no more exact than its cells")]
fn token_row(name: &str, count: TokenCount, most: u64, width: usize, theme: &Theme) -> Line<'static> {
    let name = if name.is_empty() { "(outside any phase)".to_owned() } else { one_line(name) };
    let names = 24.min(width / 3);
    let bars = width.saturating_sub(names + 44).clamp(6, 40);
    let total = count.usage.total();
    let bar = canvas::bar(if most == 0 { 0.0 } else { total as f64 / most as f64 }, bars);
    let calls = if count.calls == 1 { "1 call".to_owned() } else { format!("{} calls", count.calls) };
    Line::from(vec![
        Span::styled(format!("  {:<names$} ", clip(&name, names)), theme.text),
        Span::styled(format!("{bar:<bars$} "), theme.accent),
        Span::styled(format!("{:>7}", token_count(total)), theme.text),
        Span::styled(
            format!(
                "  {} in · {} out · {calls}",
                token_count(count.usage.prompt_tokens),
                token_count(count.usage.completion_tokens)
            ),
            theme.dim,
        ),
    ])
}

/// How many rows the trace has.
pub fn trace_rows(snapshot: &RunSnapshot, run: Option<&Run>) -> usize {
    snapshot.timeline.phases.len()
        + super::agents(snapshot).count()
        + run.map_or(0, |run| run.events.len())
        + 5
}

/// A bar per phase and agent along the run's time, and then every event.
pub fn trace(
    buffer: &mut Buffer,
    page: Rect,
    look: &Look,
    snapshot: &RunSnapshot,
    run: Option<&Run>,
    picked: Picked,
) {
    let theme = &look.theme;
    let Some(start) = snapshot.timeline.started_at else { return };
    let end = snapshot.timeline.ended_at.unwrap_or(look.now);
    let whole = end.millis_since(start).max(1);
    let names = 26.min(usize::from(page.width) / 3);
    let width = usize::from(page.width).saturating_sub(names + 12);
    let mut lines = vec![Line::from(vec![
        Span::styled(format!("{:<names$} 0", ""), theme.dim),
        Span::styled(format!("{:>1$}", duration(whole), width.saturating_sub(1)), theme.dim),
    ])];
    let mut bar = |name: String, from: Timestamp, to: Option<Timestamp>, style: Style| {
        let to = to.unwrap_or(end);
        let span = (from.millis_since(start), to.millis_since(start));
        lines.push(Line::from(vec![
            Span::styled(format!("{:<names$} ", clip(&name, names)), theme.text),
            Span::styled(gantt(span, whole, width), style),
            Span::styled(format!(" {:>9}", duration(to.millis_since(from))), theme.dim),
        ]));
    };
    for phase in &snapshot.timeline.phases {
        bar(one_line(&phase.name), phase.start, phase.end, theme.accent);
    }
    for (triad, agent) in super::agents(snapshot) {
        if let Some(from) = agent.started_at {
            let name = triad
                .map_or_else(|| one_line(&agent.agent_id), |_| format!("  {}", one_line(&agent.agent_id)));
            bar(name, from, agent.ended_at, theme.good);
        }
    }
    if let Some(run) = run {
        lines.push(Line::default());
        lines.push(Line::styled(format!("{} events", run.events.len()), theme.title()));
        for event in &run.events {
            lines.push(Line::from(vec![
                Span::styled(format!("{:>9} ", duration(event.at.millis_since(start))), theme.dim),
                Span::styled(
                    format!("{:<22} ", one_line(event.payload.kind())),
                    event_style(&event.payload, theme),
                ),
                Span::styled(event_text(&event.payload), theme.text),
            ]));
        }
    }
    let skip = picked.row.min(lines.len().saturating_sub(usize::from(page.height)));
    canvas::lines(buffer, page, lines.into_iter().skip(skip));
}

fn gantt((from, to): (u64, u64), whole: u64, width: usize) -> String {
    let cells = u64::try_from(width).unwrap_or(0);
    let at = |time: u64| usize::try_from(time.min(whole) * cells / whole).unwrap_or(0);
    let (before, end) = (at(from).min(width.saturating_sub(1)), at(to));
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
        _ => theme.dim,
    }
}

fn event_text(payload: &EventPayload) -> String {
    let text = match payload {
        EventPayload::RunStarted { agent, .. } => agent.clone(),
        EventPayload::RunEnded { duration_ms, .. } => duration(*duration_ms),
        EventPayload::PhaseStarted { phase } => phase.clone(),
        EventPayload::PhaseEnded { phase, duration_ms } => format!("{phase} in {}", duration(*duration_ms)),
        EventPayload::AgentStarted { agent, role, .. } => format!("{agent} as {role}"),
        EventPayload::AgentEnded { agent, status, duration_ms } => {
            format!("{agent} {} after {}", status_word(*status), duration(*duration_ms))
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
        EventPayload::TriadDegraded { triad, lost } => format!("{triad} goes on without {}", lost.join(", ")),
        EventPayload::UsageRecorded { agent, usage, .. } => format!("{agent} {} tokens", usage.total()),
        EventPayload::ErrorOccurred { message, .. } => message.clone(),
        EventPayload::Custom(event) => serde_json::to_string(&event.fields).unwrap_or_default(),
        _ => String::new(),
    };
    one_line(&text)
}
