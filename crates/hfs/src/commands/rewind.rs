//! `hfs rewind`

use hfs_core::Seq;
use serde_json::json;

use crate::commands::branch::glimpse;
use crate::commands::checkpoint;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::plain;
use crate::wire::{BranchRow, MessageRow};

/// Where to go back to.
#[derive(Debug, clap::Args)]
pub struct Rewind {
    /// The session
    session: String,
    /// The checkpoint: its number, its short id, its label, or seq:N
    checkpoint: String,
    /// Only say what would be in view and what not
    #[arg(long)]
    dry_run: bool,
}

/// The messages from one to another, in words.
fn messages(first: Seq, last: Seq) -> String {
    match last.saturating_sub(first.saturating_sub(1)) {
        0 => "no messages".to_owned(),
        1 => format!("message {first}"),
        _ => format!("messages {first} to {last}"),
    }
}

/// Goes back to a checkpoint on a new branch. The old one stays, and nothing is lost.
pub fn run(rewind: &Rewind, context: &Context) -> Result<Outcome, Failure> {
    let session = context.session(&rewind.session)?;
    let (number, found) = checkpoint::find(session, &rewind.checkpoint, context)?;
    let engine = context.engine()?;
    let json = context.console.manner.json;
    if rewind.dry_run {
        let plan = engine.plan_rewind(found.id)?;
        if json {
            context.console.json(&json!({
                "dry_run": true,
                "from": { "branch": plan.from.name, "checkpoint": found.id.to_string() },
                "in_view": plan.in_view,
                "out_of_view": plan.out_of_view,
                "prompt": plan.prompt.as_ref().map(MessageRow::from),
            }))?;
            return Ok(Outcome::Done);
        }
        let mut text = format!(
            "a rewind to checkpoint {number} would make a new branch, with {} in view\n\
             not in view, but kept in {}: {}\n",
            messages(1, plan.in_view),
            plain::line(&plan.from.name),
            messages(plan.in_view + 1, plan.from.head),
        );
        if let Some(prompt) = &plan.prompt {
            text +=
                &format!("offered to be edited and sent again: message {}\n", glimpse(prompt).trim_start());
        }
        context.console.print(&text)?;
        return Ok(Outcome::Done);
    }
    let rewound = engine.rewind(found.id)?;
    if json {
        let current = rewound.branch.id;
        context.console.json(&json!({
            "branch": BranchRow::new(&rewound.branch, current),
            "from": { "branch": rewound.plan.from.name, "checkpoint": found.id.to_string() },
            "restored": {
                "messages": rewound.plan.in_view,
                "state_hash": rewound.plan.checkpoint.state_hash.to_string(),
            },
            "prompt": rewound.plan.prompt.as_ref().map(MessageRow::from),
        }))?;
        return Ok(Outcome::Done);
    }
    let short = session.short();
    context.console.note(&format!(
        "back at checkpoint {number} on the new branch {}, with {} messages in view; {} keeps all of its own\n\
         `hfs undo {}` takes this back",
        plain::line(&rewound.branch.name),
        rewound.plan.in_view,
        plain::line(&rewound.plan.from.name),
        short.shown(),
    ));
    if let Some(prompt) = &rewound.plan.prompt {
        context.console.note("what you said next, to be edited and sent again:");
        context.console.print(&format!("{}\n", plain::block(&prompt.content.text())))?;
    }
    Ok(Outcome::Done)
}
