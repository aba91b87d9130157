//! `hfs checkpoint`

mod compare;
mod show;
mod timeline;

use hfs_core::{Checkpoint, SessionId};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::plain;
use crate::references::find_checkpoint;
use crate::wire::CheckpointRow;

const EXAMPLES: &str = "\
Examples:
  hfs checkpoint list @               the timeline of the newest session, drawn
  hfs checkpoint create @ \"works\"     mark this place; a labelled mark is never pruned
  hfs checkpoint show @ 3 --state     everything that a rewind to number 3 would bring back
  hfs checkpoint diff @ 3 5           what changed between the two
  hfs rewind @ 3                      go back there, on a new branch

A checkpoint is named by its number in the list (1 = oldest), its short id or the beginning of one, its label,
or seq:N for the newest one at message N.";

/// What to do with checkpoints.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckpointArgs {
    #[command(subcommand)]
    command: CheckpointCommand,
}

#[derive(Debug, clap::Subcommand)]
enum CheckpointCommand {
    /// Draw a session's checkpoints and branches as a timeline
    #[command(alias = "ls")]
    List {
        /// The session
        session: String,
    },
    /// Mark the present place of the current branch
    Create {
        /// The session
        session: String,
        /// What to call it
        label: Option<String>,
    },
    /// Show a checkpoint
    Show {
        /// The session
        session: String,
        /// The checkpoint
        checkpoint: String,
        /// With its whole state: the run, every agent's memory, the plugins'
        #[arg(long)]
        state: bool,
    },
    /// Keep a checkpoint whatever the retention says
    Pin {
        /// The session
        session: String,
        /// The checkpoint
        checkpoint: String,
    },
    /// Let the retention have a checkpoint again
    Unpin {
        /// The session
        session: String,
        /// The checkpoint
        checkpoint: String,
    },
    /// Remove a checkpoint; the messages stay. This cannot be undone
    #[command(alias = "rm")]
    Delete {
        /// The session
        session: String,
        /// The checkpoint
        checkpoint: String,
    },
    /// Show what changed from one checkpoint to another
    Diff {
        /// The session
        session: String,
        /// The earlier one
        a: String,
        /// The later one
        b: String,
    },
}

/// Lists, makes, shows or changes checkpoints.
pub fn run(checkpoint: &CheckpointArgs, context: &Context) -> Result<Outcome, Failure> {
    match &checkpoint.command {
        CheckpointCommand::List { session } => timeline::run(context.session(session)?, context)?,
        CheckpointCommand::Create { session, label } => create(session, label.as_deref(), context)?,
        CheckpointCommand::Show { session, checkpoint, state } => {
            let (number, found) = find(context.session(session)?, checkpoint, context)?;
            show::run(number, &found, *state, context)?;
        }
        CheckpointCommand::Pin { session, checkpoint } => pin(session, checkpoint, true, context)?,
        CheckpointCommand::Unpin { session, checkpoint } => pin(session, checkpoint, false, context)?,
        CheckpointCommand::Delete { session, checkpoint } => delete(session, checkpoint, context)?,
        CheckpointCommand::Diff { session, a, b } => {
            let session = context.session(session)?;
            let (a, b) = (find(session, a, context)?, find(session, b, context)?);
            compare::run(&a, &b, context)?;
        }
    }
    Ok(Outcome::Done)
}

/// The checkpoint that a person means, with its number in the list.
pub fn find(session: SessionId, reference: &str, context: &Context) -> Result<(usize, Checkpoint), Failure> {
    let store = context.store()?;
    let all = store.list_checkpoints(session)?;
    let branches = store.list_branches(session)?;
    let current = store.get_session(session)?.session.current_branch;
    Ok(find_checkpoint(&all, &branches, current, reference)?)
}

fn create(reference: &str, label: Option<&str>, context: &Context) -> Result<(), Failure> {
    let session = context.session(reference)?;
    let engine = context.engine()?;
    let place = engine.resume(session, None)?;
    let label = label.map(plain::line).filter(|label| !label.is_empty());
    let made = engine.checkpoint(&place, label.as_deref())?;
    let number = context.store()?.list_checkpoints(session)?.len();
    let name = label.map_or_else(String::new, |label| format!(" {label:?}"));
    let text = format!("checkpoint {number}{name} marks message {}", made.seq);
    report(number, &made, &text, context)
}

fn pin(session: &str, reference: &str, pinned: bool, context: &Context) -> Result<(), Failure> {
    let session = context.session(session)?;
    let (number, found) = find(session, reference, context)?;
    let store = context.store()?;
    store.pin_checkpoint(found.id, pinned)?;
    let text = if pinned { "is kept for good" } else { "may be pruned when it is old" };
    report(number, &store.get_checkpoint(found.id)?, &format!("checkpoint {number} {text}"), context)
}

fn delete(session: &str, reference: &str, context: &Context) -> Result<(), Failure> {
    let session = context.session(session)?;
    let (number, found) = find(session, reference, context)?;
    let name = found.label.as_deref().map_or_else(String::new, |label| format!(" {:?}", plain::line(label)));
    context.console.before_what_cannot_be_undone(&format!(
        "nobody can go back to checkpoint {number}{name} any more; its messages stay"
    ))?;
    context.store()?.delete_checkpoint(found.id, context.now())?;
    report(number, &found, &format!("checkpoint {number} is gone; its messages are all there"), context)
}

fn report(number: usize, checkpoint: &Checkpoint, text: &str, context: &Context) -> Result<(), Failure> {
    if context.console.manner.json {
        let branch = context.store()?.get_branch(checkpoint.branch)?;
        let row = CheckpointRow::new(number, checkpoint, &branch.name);
        return context.console.json(&serde_json::json!({ "checkpoint": row }));
    }
    context.console.note(text);
    Ok(())
}
