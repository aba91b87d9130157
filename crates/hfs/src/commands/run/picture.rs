//! A run as people read it.

use std::collections::BTreeMap;

use hfs_core::{AgentNode, ClaimDecision, Contest, RunSnapshot, Section, SectionDecision, TokenCount};
use unicode_width::UnicodeWidthStr;

use super::{Placed, status_of, took};
use crate::console::Palette;
use crate::table::{Table, shorten};
use crate::{moments, plain};

/// The most columns of what was asked, where the screen says nothing else.
const GLIMPSE: usize = 70;
/// How many columns a run's whole time takes.
const BAR: u64 = 40;

/// Everything but the single events.
pub fn whole(placed: &Placed, palette: &Palette, width: Option<usize>) -> String {
    let snapshot = &placed.run.snapshot;
    let parts = [
        heading(placed, palette, width),
        agents(snapshot, palette, width),
        negotiation(snapshot, palette),
        phases(snapshot, palette, width),
        timeline(snapshot, palette),
        errors(snapshot, palette),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn heading(placed: &Placed, palette: &Palette, width: Option<usize>) -> Option<String> {
    let summary = placed.summary();
    let room = width.map_or(GLIMPSE, |width| width.saturating_sub(12));
    let mut facts = vec![
        ("run", format!("{} ({}) of {}", placed.number, placed.run.id.short(), plain::line(&summary.agent))),
        ("began", format!("{} on {}", moments::exact(placed.run.started_at), plain::line(&placed.branch))),
        (
            "ended",
            match summary.duration_ms {
                Some(millis) => format!("{} after {}", summary.ending, took(millis)),
                None => "not, or the process that ran it died".into(),
            },
        ),
        ("cost", format!("{} tokens in {} calls", summary.total_tokens, summary.calls)),
    ];
    if let Some((seq, text)) = &placed.question {
        facts.insert(1, ("answers", shorten(&format!("message {seq}: {}", plain::line(text)), room)));
    }
    let dim = palette.dim;
    Some(facts.iter().map(|(name, value)| format!("{dim}{name:<11}{dim:#} {value}\n")).collect())
}

fn title(text: &str, about: &str, palette: &Palette) -> String {
    let strong = palette.strong;
    let gap = if about.is_empty() { "" } else { "  " };
    format!("{strong}{text}{strong:#}{gap}{about}\n")
}

fn agents(snapshot: &RunSnapshot, palette: &Palette, width: Option<usize>) -> Option<String> {
    let tree = &snapshot.agent_tree;
    if tree.triads.is_empty() && tree.agents.is_empty() {
        return None;
    }
    let mut table = Table::new(&["AGENT", "ROLE", "STATUS", ">CALLS", ">IN", ">OUT", ">TOKENS", "MODEL"], 7);
    let usage = &snapshot.usage.by_agent;
    for triad in &tree.triads {
        let mut name = format!("{} ({})", plain::line(&triad.triad_id), plain::line(&triad.preset));
        if !triad.lost.is_empty() {
            name += &format!(", {} of {} left", triad.agents.len() - triad.lost.len(), triad.agents.len());
        }
        table.row(vec![name]);
        let prefix = format!("{}/", triad.triad_id);
        for agent in &triad.agents {
            let short = agent.agent_id.strip_prefix(&prefix).unwrap_or(&agent.agent_id);
            table.row(agent_row(&format!("  {}", plain::line(short)), agent, usage));
        }
    }
    for agent in &tree.agents {
        table.row(agent_row(&plain::line(&agent.agent_id), agent, usage));
    }
    Some(title("Agents", "", palette) + &table.render(palette, width))
}

fn agent_row(name: &str, agent: &AgentNode, usage: &BTreeMap<String, TokenCount>) -> Vec<String> {
    let count = usage.get(&agent.agent_id).copied().unwrap_or_default();
    let mut cells = vec![name.to_owned(), plain::line(&agent.role), status_of(agent.status).to_owned()];
    cells.extend(counts(&count));
    cells.push(agent.model.as_deref().map_or_else(|| "-".into(), plain::line));
    cells
}

fn counts(count: &TokenCount) -> [String; 4] {
    let usage = count.usage;
    [count.calls, usage.prompt_tokens, usage.completion_tokens, usage.total()]
        .map(|number| number.to_string())
}

fn negotiation(snapshot: &RunSnapshot, palette: &Palette) -> Option<String> {
    let negotiation = &snapshot.negotiation;
    if negotiation.sections.is_empty() {
        return None;
    }
    let about = match (negotiation.round, negotiation.temperature) {
        (0, _) | (_, None) => "nothing was contested".to_owned(),
        (1, Some(temperature)) => format!("1 round at a temperature of {temperature:.2}"),
        (rounds, Some(temperature)) => {
            format!("{rounds} rounds, down to a temperature of {temperature:.2}")
        }
    };
    let names: Vec<String> = negotiation.sections.iter().map(|section| plain::line(&section.name)).collect();
    let widest = names.iter().map(|name| name.width()).max().unwrap_or(0);
    let mut text = title("Negotiation", &about, palette);
    for (name, section) in names.iter().zip(&negotiation.sections) {
        let padding = " ".repeat(widest - name.width());
        text += &format!("  {name}{padding}  {}\n", ownership(section));
        for contest in &section.contests {
            text += &format!("    {}\n", round(contest));
        }
        if let Some(arbiter) = &section.arbiter {
            let verb = match arbiter.decision {
                SectionDecision::Assign => "assigned it",
                SectionDecision::Split => "split it",
                SectionDecision::Merge => "merged it into another",
            };
            text += &format!("    the arbiter {verb}: {}\n", plain::line(&arbiter.reason));
        }
    }
    Some(text)
}

fn ownership(section: &Section) -> String {
    let names = |list: &[String]| list.iter().map(|name| plain::line(name)).collect::<Vec<_>>().join(", ");
    let claimed = if section.claimants.is_empty() {
        "claimed by nobody".to_owned()
    } else if section.claimants == section.owners {
        "nobody else claimed it".to_owned()
    } else {
        format!("claimed by {}", names(&section.claimants))
    };
    match section.owners.as_slice() {
        [] => format!("no owner yet; {claimed}"),
        [only] => format!("{}; {claimed}", plain::line(only)),
        [lead, others @ ..] => format!("{}, parts by {}; {claimed}", plain::line(lead), names(others)),
    }
}

fn round(contest: &Contest) -> String {
    let decided = contest.claimants.iter().map(|claimant| {
        let verb = match contest.decisions.get(claimant) {
            Some(ClaimDecision::Concede) => "concedes",
            Some(ClaimDecision::Revise) => "wants a part",
            Some(ClaimDecision::Hold) => "holds",
            None => "has not decided",
        };
        format!("{} {verb}", plain::line(claimant))
    });
    let decided: Vec<String> = decided.collect();
    format!("round {} at {:.2}: {}", contest.round, contest.temperature, decided.join(", "))
}

fn phases(snapshot: &RunSnapshot, palette: &Palette, width: Option<usize>) -> Option<String> {
    let usage = &snapshot.usage;
    if usage.by_phase.is_empty() {
        return None;
    }
    let mut table = Table::new(&["PHASE", ">CALLS", ">IN", ">OUT", ">TOKENS"], 0);
    // In the order in which they happened; what happened in none comes last.
    let known = snapshot.timeline.phases.iter().map(|phase| phase.name.as_str());
    let mut names: Vec<&str> = known.filter(|name| usage.by_phase.contains_key(*name)).collect();
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    names.extend(usage.by_phase.keys().map(String::as_str).filter(|name| !seen.contains(name)));
    for name in names {
        let count = usage.by_phase.get(name).copied().unwrap_or_default();
        let shown = if name.is_empty() { "outside of phases".to_owned() } else { plain::line(name) };
        table.row(std::iter::once(shown).chain(counts(&count)).collect());
    }
    Some(title("Tokens", "", palette) + &table.render(palette, width))
}

fn timeline(snapshot: &RunSnapshot, palette: &Palette) -> Option<String> {
    let timeline = &snapshot.timeline;
    let begin = timeline.started_at?;
    let last = timeline.phases.iter().map(|phase| phase.end.unwrap_or(phase.start)).chain(timeline.ended_at);
    let whole = last.max().map_or(0, |end| end.millis_since(begin));
    if timeline.phases.is_empty() {
        return None;
    }
    let names: Vec<String> = timeline.phases.iter().map(|phase| plain::line(&phase.name)).collect();
    let widest = names.iter().map(|name| name.width()).max().unwrap_or(0);
    let mut text = title("Time", &took(timeline.total_duration_ms.unwrap_or(whole)), palette);
    for (name, phase) in names.iter().zip(&timeline.phases) {
        let padding = " ".repeat(widest - name.width());
        let from = phase.start.millis_since(begin);
        let to = phase.end.map_or(whole, |end| end.millis_since(begin));
        let duration = phase.duration_ms.map_or_else(|| "not ended".into(), took);
        let good = palette.good;
        text += &format!("  {name}{padding}  {good}{}{good:#}  {duration}\n", bar(from, to, whole));
    }
    Some(text)
}

/// The part from `from` to `to` of a line that stands for `whole`; the shortest is a thin mark.
fn bar(from: u64, to: u64, whole: u64) -> String {
    let column = |millis: u64| millis.min(whole).saturating_mul(BAR).checked_div(whole).unwrap_or(0);
    let begin = column(from).min(BAR - 1);
    let length = column(to).saturating_sub(column(from));
    let count = |columns: u64| usize::try_from(columns).unwrap_or(0);
    let mark = if length == 0 { "▏".to_owned() } else { "█".repeat(count(length)) };
    let after = BAR - begin - length.max(1);
    format!("{}{mark}{}", "·".repeat(count(begin)), "·".repeat(count(after)))
}

fn errors(snapshot: &RunSnapshot, palette: &Palette) -> Option<String> {
    if snapshot.errors.is_empty() {
        return None;
    }
    let mut text = title("What went wrong", "", palette);
    for error in &snapshot.errors {
        text += &format!("  {}\n", plain::line(error));
    }
    Some(text)
}
