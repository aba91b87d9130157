//! `hfs checkpoint list`

use hfs_core::{Branch, Checkpoint, SessionId};
use hfs_engine::{GraphRow, Mark, session_graph};

use crate::commands::branch::graph_line;
use crate::console::Palette;
use crate::context::Context;
use crate::failure::Failure;
use crate::wire::CheckpointRow;
use crate::{moments, plain};

pub fn run(session: SessionId, context: &Context) -> Result<(), Failure> {
    let store = context.store()?;
    let branches = store.list_branches(session)?;
    let current = store.get_session(session)?.session.current_branch;
    let checkpoints = store.list_checkpoints(session)?;
    if context.console.manner.json {
        let name = |checkpoint: &Checkpoint| branch_name(&branches, checkpoint);
        let rows: Vec<CheckpointRow> = checkpoints
            .iter()
            .enumerate()
            .map(|(index, checkpoint)| CheckpointRow::new(index + 1, checkpoint, &name(checkpoint)))
            .collect();
        return context.console.json(&serde_json::json!({ "checkpoints": rows }));
    }
    let mut text = String::new();
    for row in session_graph(&branches, current, &checkpoints) {
        text += &match &row.mark {
            Mark::Checkpoint { number, checkpoint } => line(&row, *number, checkpoint, context),
            _ => graph_line(&row, &branches, context),
        };
        text.push('\n');
    }
    context.console.print(&text)?;
    if checkpoints.is_empty() {
        context
            .console
            .note("no checkpoints yet: each answered message makes one, and so does `hfs checkpoint create`");
    }
    Ok(())
}

/// The name of the branch that a checkpoint is on.
pub fn branch_name(branches: &[Branch], checkpoint: &Checkpoint) -> String {
    let branch = branches.iter().find(|branch| branch.id == checkpoint.branch);
    branch.map_or_else(String::new, |branch| branch.name.clone())
}

fn line(row: &GraphRow, number: usize, checkpoint: &Checkpoint, context: &Context) -> String {
    let Palette { role, strong, dim, good, .. } = context.console.palette;
    let when = if context.console.manner.verbose {
        moments::exact(checkpoint.created_at)
    } else {
        moments::ago(checkpoint.created_at, context.now())
    };
    let label = checkpoint
        .label
        .as_deref()
        .map_or_else(String::new, |label| format!(" {good}{:?}{good:#}", plain::line(label)));
    let pinned = if checkpoint.pinned { " (pinned)" } else { "" };
    format!(
        "{role}{}{role:#} {:>4}  {strong}#{number}{strong:#} {dim}{}{dim:#} {}{label}{pinned} {dim}{when}{dim:#}",
        row.lanes,
        row.seq,
        checkpoint.id.short().shown(),
        plain::line(checkpoint.trigger.as_str()),
    )
}
