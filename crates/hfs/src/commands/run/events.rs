//! The events of a run, one on a line.

use hfs_core::{ClaimDecision, EventPayload, Run, SectionDecision};

use super::status_of;
use crate::console::Palette;
use crate::plain;
use crate::wire::ending as ending_of;

/// Every event with its number, its time since the run's beginning, its type, and what it says.
pub fn list(run: &Run, palette: &Palette) -> String {
    let Palette { strong, dim, .. } = palette;
    let mut text = format!("\n{strong}Events{strong:#}\n");
    for event in &run.events {
        let millis = event.at.millis_since(run.started_at);
        let since = format!("{}.{:03} s", millis / 1_000, millis % 1_000);
        let kind = plain::line(event.payload.kind());
        let told = plain::line(&told(&event.payload));
        let line = format!("  {:>4}  {dim}{since:>10}{dim:#}  {kind:<21}  {told}", event.number);
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn told(payload: &EventPayload) -> String {
    match payload {
        EventPayload::RunStarted { agent, .. } => format!("by {agent}"),
        EventPayload::RunEnded { duration_ms, ending } => {
            format!("{} after {duration_ms} ms", ending_of(*ending))
        }
        EventPayload::PhaseStarted { phase } => phase.clone(),
        EventPayload::PhaseEnded { phase, duration_ms } => format!("{phase} after {duration_ms} ms"),
        EventPayload::AgentStarted { agent, role, model, .. } => match model {
            Some(model) => format!("{agent}, {role}, on {model}"),
            None => format!("{agent}, {role}"),
        },
        EventPayload::AgentEnded { agent, status, duration_ms } => {
            format!("{agent} is {} after {duration_ms} ms", status_of(*status))
        }
        EventPayload::UsageRecorded { agent, usage, .. } => {
            format!("{agent}: {} tokens in, {} out", usage.prompt_tokens, usage.completion_tokens)
        }
        EventPayload::ErrorOccurred { agent, message, .. } => match agent {
            Some(agent) => format!("{agent}: {message}"),
            None => message.clone(),
        },
        EventPayload::Custom(event) => serde_json::to_string(&event.fields).unwrap_or_default(),
        other => negotiated(other),
    }
}

fn negotiated(payload: &EventPayload) -> String {
    match payload {
        EventPayload::NegotiationClaimed { section, claimant } => format!("{section} by {claimant}"),
        EventPayload::NegotiationContested { section, claimants, round, temperature } => {
            format!("{section} by {} in round {round} at {temperature:.2}", claimants.join(", "))
        }
        EventPayload::NegotiationDecided { section, claimant, decision, round } => {
            let verb = match decision {
                ClaimDecision::Concede => "concedes",
                ClaimDecision::Revise => "wants a part of",
                ClaimDecision::Hold => "holds",
            };
            format!("{claimant} {verb} {section} in round {round}")
        }
        EventPayload::NegotiationResolved { section, owners, .. } => {
            format!("{section} is written by {}", owners.join(", "))
        }
        EventPayload::ArbiterDecided { section, decision, owners, reason } => {
            let verb = match decision {
                SectionDecision::Assign => "assigned to",
                SectionDecision::Split => "split among",
                SectionDecision::Merge => "merged into one of",
            };
            format!("{section} {verb} {}: {reason}", owners.join(", "))
        }
        EventPayload::TriadDegraded { triad, lost } => {
            format!("{triad} goes on without {}", lost.join(", "))
        }
        _ => String::new(),
    }
}
