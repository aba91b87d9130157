//! `hfs checkpoint diff`

use hfs_core::{Checkpoint, SectionStatus};
use serde_json::{Value, json};

use crate::commands::branch::message_diff;
use crate::context::Context;
use crate::failure::Failure;
use crate::plain;
use crate::wire::{CheckpointRow, MessageRow};

pub fn run(a: &(usize, Checkpoint), b: &(usize, Checkpoint), context: &Context) -> Result<(), Failure> {
    let diff = context.engine()?.diff_checkpoints(a.1.id, b.1.id)?;
    if context.console.manner.json {
        let store = context.store()?;
        let row = |(number, checkpoint): &(usize, Checkpoint)| -> Result<CheckpointRow, Failure> {
            Ok(CheckpointRow::new(*number, checkpoint, &store.get_branch(checkpoint.branch)?.name))
        };
        let section = |side: &Option<(SectionStatus, Vec<String>)>| {
            side.as_ref()
                .map_or(Value::Null, |(status, owners)| json!({ "status": status, "owners": owners }))
        };
        return context.console.json(&json!({
            "a": row(a)?,
            "b": row(b)?,
            "messages": {
                "shared": diff.messages.shared,
                "only_a": diff.messages.only_a.iter().map(MessageRow::from).collect::<Vec<_>>(),
                "only_b": diff.messages.only_b.iter().map(MessageRow::from).collect::<Vec<_>>(),
            },
            "agents": diff.agents.iter().map(|memory| json!({
                "agent": memory.agent, "entries_a": memory.entries_a, "entries_b": memory.entries_b,
                "same": memory.same,
            })).collect::<Vec<_>>(),
            "negotiation": diff.negotiation.iter().map(|item| json!({
                "section": item.section, "a": section(&item.a), "b": section(&item.b),
            })).collect::<Vec<_>>(),
            "usage": { "total_tokens_a": diff.total_tokens.0, "total_tokens_b": diff.total_tokens.1 },
            "plugins": diff.plugins,
        }));
    }
    let (name_a, name_b) = (format!("checkpoint {}", a.0), format!("checkpoint {}", b.0));
    let mut text = message_diff(&diff.messages, &name_a, &name_b, context);
    for memory in &diff.agents {
        text += &format!(
            "memory of {}: {} entries, then {} (the first {} are the same)\n",
            plain::line(&memory.agent),
            memory.entries_a,
            memory.entries_b,
            memory.same
        );
    }
    for item in &diff.negotiation {
        let side = |side: &Option<(SectionStatus, Vec<String>)>| match side {
            None => "not there".to_owned(),
            Some((status, owners)) => {
                let status = format!("{status:?}").to_lowercase();
                let owners: Vec<String> = owners.iter().map(|owner| plain::line(owner)).collect();
                if owners.is_empty() { status } else { format!("{status} ({})", owners.join(", ")) }
            }
        };
        text +=
            &format!("section {}: {}, then {}\n", plain::line(&item.section), side(&item.a), side(&item.b));
    }
    if diff.total_tokens.0 != diff.total_tokens.1 {
        text += &format!("tokens of the run: {}, then {}\n", diff.total_tokens.0, diff.total_tokens.1);
    }
    for plugin in &diff.plugins {
        text += &format!("state of plugin {}: changed\n", plain::line(plugin));
    }
    context.console.print(&text)
}
