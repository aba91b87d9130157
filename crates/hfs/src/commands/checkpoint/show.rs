//! `hfs checkpoint show`

use hfs_core::Checkpoint;
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::wire::CheckpointRow;
use crate::{moments, plain};

pub fn run(
    number: usize,
    checkpoint: &Checkpoint,
    with_state: bool,
    context: &Context,
) -> Result<(), Failure> {
    let store = context.store()?;
    let branch = store.get_branch(checkpoint.branch)?;
    // A store gives back the JSON that it was given.
    let json_of_state = || -> Result<Value, Failure> {
        Ok(serde_json::from_str(&store.load_state_json(checkpoint.id)?).unwrap_or_default())
    };
    if context.console.manner.json {
        let row = CheckpointRow::new(number, checkpoint, &branch.name);
        let mut document = json!({ "checkpoint": row });
        if let (true, Some(fields)) = (with_state, document.as_object_mut()) {
            fields.insert("state".into(), json_of_state()?);
        }
        return context.console.json(&document);
    }
    let state = store.load_state(checkpoint.id)?;
    let label = checkpoint.label.as_deref().map_or("-".into(), plain::line);
    let snapshot = &state.run_snapshot;
    let agents: Vec<String> = state
        .agents
        .iter()
        .map(|(agent, memory)| {
            format!("{} ({} entries)", plain::line(agent), hfs_engine::memory_entries(Some(memory)).len())
        })
        .collect();
    let facts = [
        ("checkpoint", format!("{number} ({})", checkpoint.id.short())),
        ("label", label),
        ("trigger", plain::line(checkpoint.trigger.as_str())),
        ("made", moments::exact(checkpoint.created_at)),
        ("place", format!("message {} of {}", checkpoint.seq, plain::line(&branch.name))),
        ("pinned", if checkpoint.pinned { "yes" } else { "no" }.into()),
        (
            "state",
            format!("{} bytes, stored in {}", checkpoint.cost.state_bytes, checkpoint.cost.stored_bytes),
        ),
        ("memories", if agents.is_empty() { "none".into() } else { agents.join(", ") }),
        ("tokens", snapshot.usage.total_tokens.to_string()),
        ("phases", snapshot.timeline.phases.len().to_string()),
    ];
    let dim = context.console.palette.dim;
    let mut text: String =
        facts.iter().map(|(name, value)| format!("{dim}{name:<11}{dim:#} {value}\n")).collect();
    if with_state {
        let pretty = serde_json::to_string_pretty(&json_of_state()?).unwrap_or_default();
        text += &format!("\n{}\n", plain::block(&pretty));
    }
    context.console.print(&text)
}
