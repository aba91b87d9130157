//! What a run's agents did, as tables that both kinds of pages show.

use std::collections::BTreeMap;

use hfs_core::{AgentNode, Run, RunSnapshot, TokenCount};

use super::outline::{duration, moment, word};
use crate::export::{DocumentSource, ExportError};

/// A table of plain words.
pub(crate) struct Table {
    pub columns: [&'static str; 4],
    pub rows: Vec<[String; 4]>,
}

/// Visits the runs that have something to tell, numbered from 1.
pub(crate) fn each_run(
    source: &dyn DocumentSource,
    visit: &mut dyn FnMut(usize, &Run) -> std::io::Result<()>,
) -> Result<(), ExportError> {
    let mut number = 0;
    for id in source.runs()? {
        let run = source.run(id)?;
        if is_telling(&run) {
            number += 1;
            visit(number, &run)?;
        }
    }
    Ok(())
}

fn is_telling(run: &Run) -> bool {
    tables(run).next().is_some() || run.snapshot.usage.total_tokens > 0
}

/// The tables about a run, without empty ones.
pub(crate) fn tables(run: &Run) -> impl Iterator<Item = Table> {
    let snapshot = &run.snapshot;
    let all = [
        agents(snapshot),
        negotiation(snapshot),
        usage("Usage by agent", &snapshot.usage.by_agent),
        usage("Usage by phase", &snapshot.usage.by_phase),
        timeline(snapshot),
    ];
    all.into_iter().filter(|table| !table.rows.is_empty())
}

fn agents(snapshot: &RunSnapshot) -> Table {
    let row =
        |of: String, agent: &AgentNode| [of, agent.agent_id.clone(), agent.role.clone(), word(agent.status)];
    let mut rows = Vec::new();
    for triad in &snapshot.agent_tree.triads {
        let of = format!("{} ({})", triad.triad_id, triad.preset);
        rows.extend(triad.agents.iter().map(|agent| row(of.clone(), agent)));
        // A triad that lost agents went on without them.
        let lost = triad.lost.iter().filter(|lost| triad.agents.iter().all(|agent| agent.agent_id != **lost));
        rows.extend(lost.map(|lost| [of.clone(), lost.clone(), String::new(), "lost".to_owned()]));
        if triad.agents.is_empty() && triad.lost.is_empty() {
            rows.push([of, String::new(), String::new(), String::new()]);
        }
    }
    rows.extend(snapshot.agent_tree.agents.iter().map(|agent| row(String::new(), agent)));
    Table { columns: ["Triad", "Agent", "Role", "Status"], rows }
}

fn negotiation(snapshot: &RunSnapshot) -> Table {
    let sections = snapshot.negotiation.sections.iter();
    let rows = sections.map(|section| {
        let contests = section.contests.len().to_string();
        [section.name.clone(), word(section.status), section.owners.join(", "), contests]
    });
    Table { columns: ["Section", "Outcome", "Owners", "Contests"], rows: rows.collect() }
}

fn usage(of: &'static str, counts: &BTreeMap<String, TokenCount>) -> Table {
    let rows = counts.iter().map(|(name, count)| {
        let usage = count.usage;
        let (prompt, completion) = (usage.prompt_tokens.to_string(), usage.completion_tokens.to_string());
        [name.clone(), prompt, completion, count.calls.to_string()]
    });
    Table { columns: [of, "Prompt tokens", "Completion tokens", "Calls"], rows: rows.collect() }
}

fn timeline(snapshot: &RunSnapshot) -> Table {
    let rows = snapshot.timeline.phases.iter().map(|phase| {
        let end = phase.end.map(moment).unwrap_or_default();
        let took = phase.duration_ms.map(duration).unwrap_or_default();
        [phase.name.clone(), moment(phase.start), end, took]
    });
    Table { columns: ["Phase", "Start", "End", "Duration"], rows: rows.collect() }
}
