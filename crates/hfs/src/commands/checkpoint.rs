//! `hfs checkpoint`: list, create, show, pin, delete and compare checkpoints.

use hfs_core::{Branch, Checkpoint, SectionStatus, SessionId, plural};
use hfs_engine::{GraphMark, GraphRow, memory_entries, session_graph, words_at};
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::branch::{graph_line, message_diff};
use crate::context::Context;
use crate::output::console::Palette;
use crate::output::error::{CliError, Outcome};
use crate::output::json::{CheckpointJson, MessageJson};
use crate::output::table::shorten;
use crate::output::{sanitize, time_format};
use crate::resolve::find_checkpoint;

const EXAMPLES: &str = "\
Examples:
  hfs checkpoint list @               the checkpoints and branches of the newest session as a graph
  hfs checkpoint create @ \"works\"     a checkpoint with a label, which is never pruned
  hfs checkpoint show @ 3 --state     everything that a rewind to checkpoint 3 restores
  hfs checkpoint diff @ 3 5           what changed between the two
  hfs rewind @ 3                      go back to checkpoint 3, on a new branch

A checkpoint is given as its number, which it keeps when others are pruned, its short id or a prefix of it, its label, or \
seq:N for the newest one at message N.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckpointArgs {
    #[command(subcommand)]
    command: CheckpointCommand,
}

#[derive(Debug, clap::Subcommand)]
enum CheckpointCommand {
    /// Show the checkpoints and branches of a session as a graph
    #[command(alias = "ls")]
    List {
        /// The session
        session: String,
    },
    /// Create a checkpoint at the end of the current branch
    Create {
        /// The session
        session: String,
        /// A name for the checkpoint
        label: Option<String>,
    },
    /// Show a checkpoint
    Show {
        /// The session
        session: String,
        /// The checkpoint
        checkpoint: String,
        /// Show the whole state: the run, the memory of every agent, the state of plugins
        #[arg(long)]
        state: bool,
    },
    /// Protect a checkpoint from pruning
    Pin {
        /// The session
        session: String,
        /// The checkpoint
        checkpoint: String,
    },
    /// Allow pruning of a checkpoint again
    Unpin {
        /// The session
        session: String,
        /// The checkpoint
        checkpoint: String,
    },
    /// Delete a checkpoint, but not its messages; this cannot be undone
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
        /// The earlier checkpoint
        a: String,
        /// The later checkpoint
        b: String,
    },
}

pub fn run(args: &CheckpointArgs, context: &Context) -> Result<Outcome, CliError> {
    match &args.command {
        CheckpointCommand::List { session } => list(context.session(session)?, context)?,
        CheckpointCommand::Create { session, label } => create(session, label.as_deref(), context)?,
        CheckpointCommand::Show { session, checkpoint, state } => {
            show(&find(context.session(session)?, checkpoint, context)?, *state, context)?;
        }
        CheckpointCommand::Pin { session, checkpoint } => pin(session, checkpoint, true, context)?,
        CheckpointCommand::Unpin { session, checkpoint } => pin(session, checkpoint, false, context)?,
        CheckpointCommand::Delete { session, checkpoint } => delete(session, checkpoint, context)?,
        CheckpointCommand::Diff { session, a, b } => {
            let session = context.session(session)?;
            let (a, b) = (find(session, a, context)?, find(session, b, context)?);
            diff(&a, &b, context)?;
        }
    }
    Ok(Outcome::Done)
}

/// Resolves a checkpoint reference.
pub fn find(session: SessionId, reference: &str, context: &Context) -> Result<Checkpoint, CliError> {
    let store = context.store()?;
    let all = store.list_checkpoints(session)?;
    let branches = store.list_branches(session)?;
    let current = store.get_session(session)?.session.current_branch;
    Ok(find_checkpoint(&all, &branches, current, reference)?)
}

fn list(session: SessionId, context: &Context) -> Result<(), CliError> {
    let store = context.store()?;
    let branches = store.list_branches(session)?;
    let current = store.get_session(session)?.session.current_branch;
    let checkpoints = store.list_checkpoints(session)?;
    if context.console.options.json {
        let rows: Vec<CheckpointJson> = checkpoints
            .iter()
            .map(|checkpoint| CheckpointJson::new(checkpoint, branch_name(&branches, checkpoint)))
            .collect();
        return context.console.print_json(&json!({ "checkpoints": rows }));
    }
    let mut text = String::new();
    for row in session_graph(&branches, current, &checkpoints) {
        text += &match &row.mark {
            GraphMark::Checkpoint(checkpoint) => checkpoint_line(&row, checkpoint, context)?,
            GraphMark::Head { .. } | GraphMark::Fork | GraphMark::Beginning => {
                graph_line(&row, &branches, context)
            }
        };
        text.push('\n');
    }
    context.console.print(&text)?;
    if checkpoints.is_empty() {
        context
            .console
            .note("no checkpoints yet: each reply creates one, and so does `hfs checkpoint create`");
    }
    Ok(())
}

fn branch_name<'a>(branches: &'a [Branch], checkpoint: &Checkpoint) -> &'a str {
    let branch = branches.iter().find(|branch| branch.id == checkpoint.branch);
    branch.map_or("", |branch| &branch.name)
}

/// A line of the graph, up to the end of the terminal with the words that the checkpoint belongs to.
fn checkpoint_line(row: &GraphRow, checkpoint: &Checkpoint, context: &Context) -> Result<String, CliError> {
    /// Width of the words if standard output is not a terminal, in columns.
    const WORDS_WIDTH: usize = 60;
    let Palette { role, strong, dim, good, .. } = context.console.palette;
    let time = context.format_time(checkpoint.created_at);
    let label = checkpoint
        .label
        .as_deref()
        .map_or_else(String::new, |label| format!(" {good}{:?}{good:#}", sanitize::line(label)));
    let pinned = if checkpoint.pinned { " (pinned)" } else { "" };
    let line = format!(
        "{role}{}{role:#} {:>4}  {strong}#{}{strong:#} {dim}{}{dim:#} {}{label}{pinned} {dim}{time}{dim:#}",
        row.lanes,
        row.seq,
        checkpoint.number,
        checkpoint.id.short().shown(),
        sanitize::line(checkpoint.trigger.as_str()),
    );
    let used = anstream::adapter::strip_str(&line).to_string().width() + 2;
    let room = context.console.width().map_or(WORDS_WIDTH, |width| width.saturating_sub(used));
    // The beginning of a word says nothing.
    if room < 12 {
        return Ok(line);
    }
    let words = words_at(context.store()?.as_ref(), checkpoint.branch, checkpoint.seq)?;
    let words = sanitize::line(&words);
    Ok(if words.is_empty() { line } else { format!("{line}  {}", shorten(&words, room)) })
}

fn create(reference: &str, label: Option<&str>, context: &Context) -> Result<(), CliError> {
    let session = context.session(reference)?;
    let engine = context.engine()?;
    let conversation = engine.resume(session, None)?;
    let label = label.map(sanitize::line).filter(|label| !label.is_empty());
    let checkpoint = engine.checkpoint(&conversation, label.as_deref())?;
    let label = label.map_or_else(String::new, |label| format!(" {label:?}"));
    let text = format!("created checkpoint {}{label} at message {}", checkpoint.number, checkpoint.seq);
    report(&checkpoint, &text, context)
}

fn show(checkpoint: &Checkpoint, with_state: bool, context: &Context) -> Result<(), CliError> {
    let store = context.store()?;
    let branch = store.get_branch(checkpoint.branch)?;
    // Stored state is always valid JSON, because the store verifies its hash. The default is never used.
    let state_json = || -> Result<Value, CliError> {
        Ok(serde_json::from_str(&store.load_state_json(checkpoint.id)?).unwrap_or_default())
    };
    if context.console.options.json {
        let mut document = json!({ "checkpoint": CheckpointJson::new(checkpoint, &branch.name) });
        if let (true, Some(fields)) = (with_state, document.as_object_mut()) {
            fields.insert("state".into(), state_json()?);
        }
        return context.console.print_json(&document);
    }
    let state = store.load_state(checkpoint.id)?;
    let snapshot = &state.run_snapshot;
    let memories: Vec<String> = state
        .agents
        .iter()
        .map(|(agent, memory)| {
            format!("{} ({})", sanitize::line(agent), plural(memory_entries(Some(memory)).len(), "entry"))
        })
        .collect();
    let cost = &checkpoint.cost;
    let rows = [
        ("checkpoint", format!("{} ({})", checkpoint.number, checkpoint.id.short())),
        ("label", checkpoint.label.as_deref().map_or("-".into(), sanitize::line)),
        ("trigger", sanitize::line(checkpoint.trigger.as_str())),
        ("created", time_format::local(checkpoint.created_at)),
        ("place", format!("message {} of {}", checkpoint.seq, sanitize::line(&branch.name))),
        ("pinned", if checkpoint.pinned { "yes" } else { "no" }.into()),
        ("state", format!("{} bytes, stored in {}", cost.state_bytes, cost.stored_bytes)),
        ("memories", if memories.is_empty() { "none".into() } else { memories.join(", ") }),
        ("tokens", snapshot.usage.total().describe(|tokens| tokens.to_string())),
        ("phases", snapshot.timeline.phases.len().to_string()),
    ];
    let dim = context.console.palette.dim;
    let mut text: String =
        rows.iter().map(|(name, value)| format!("{dim}{name:<11}{dim:#} {value}\n")).collect();
    if with_state {
        let pretty = serde_json::to_string_pretty(&state_json()?).unwrap_or_default();
        text += &format!("\n{}\n", sanitize::block(&pretty));
    }
    context.console.print(&text)
}

fn pin(session: &str, reference: &str, pinned: bool, context: &Context) -> Result<(), CliError> {
    let session = context.session(session)?;
    let checkpoint = find(session, reference, context)?;
    let store = context.store()?;
    store.pin_checkpoint(checkpoint.id, pinned)?;
    let effect = if pinned { "is pinned and is never pruned" } else { "is not pinned and may be pruned" };
    let checkpoint = store.get_checkpoint(checkpoint.id)?;
    report(&checkpoint, &format!("checkpoint {} {effect}", checkpoint.number), context)
}

fn delete(session: &str, reference: &str, context: &Context) -> Result<(), CliError> {
    let session = context.session(session)?;
    let checkpoint = find(session, reference, context)?;
    let number = checkpoint.number;
    let label = checkpoint.label.as_deref();
    let label = label.map_or_else(String::new, |label| format!(" {:?}", sanitize::line(label)));
    context.console.confirm_irreversible(&format!(
        "checkpoint {number}{label} is deleted, and no rewind can go back to it; its messages are kept"
    ))?;
    context.store()?.delete_checkpoint(checkpoint.id, context.now())?;
    let text = format!("deleted checkpoint {number}; its messages are kept");
    report(&checkpoint, &text, context)
}

fn report(checkpoint: &Checkpoint, text: &str, context: &Context) -> Result<(), CliError> {
    if context.console.options.json {
        let branch = context.store()?.get_branch(checkpoint.branch)?;
        let row = CheckpointJson::new(checkpoint, &branch.name);
        return context.console.print_json(&json!({ "checkpoint": row }));
    }
    context.console.note(text);
    Ok(())
}

/// Status and owners of a negotiated section at one of the compared checkpoints. `None` if the section does not exist
/// there.
type SectionSide = Option<(SectionStatus, Vec<String>)>;

fn diff(a: &Checkpoint, b: &Checkpoint, context: &Context) -> Result<(), CliError> {
    let diff = context.engine()?.diff_checkpoints(a.id, b.id)?;
    if context.console.options.json {
        let store = context.store()?;
        let row = |checkpoint: &Checkpoint| -> Result<CheckpointJson, CliError> {
            Ok(CheckpointJson::new(checkpoint, &store.get_branch(checkpoint.branch)?.name))
        };
        let section = |side: &SectionSide| {
            side.as_ref()
                .map_or(Value::Null, |(status, owners)| json!({ "status": status, "owners": owners }))
        };
        return context.console.print_json(&json!({
            "a": row(a)?,
            "b": row(b)?,
            "messages": {
                "shared": diff.messages.shared,
                "only_a": diff.messages.only_a.iter().map(MessageJson::from).collect::<Vec<_>>(),
                "only_b": diff.messages.only_b.iter().map(MessageJson::from).collect::<Vec<_>>(),
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
    let (name_a, name_b) = (format!("checkpoint {}", a.number), format!("checkpoint {}", b.number));
    let mut text = message_diff(&diff.messages, &name_a, &name_b, context);
    for memory in &diff.agents {
        text += &format!(
            "memory of {}: {}, then {} (the same at the beginning: {})\n",
            sanitize::line(&memory.agent),
            plural(memory.entries_a, "entry"),
            memory.entries_b,
            memory.same
        );
    }
    for item in &diff.negotiation {
        let (a, b) = (describe_section(&item.a), describe_section(&item.b));
        text += &format!("section {}: {a}, then {b}\n", sanitize::line(&item.section));
    }
    if diff.total_tokens.0 != diff.total_tokens.1 {
        text += &format!("tokens of the run: {}, then {}\n", diff.total_tokens.0, diff.total_tokens.1);
    }
    for plugin in &diff.plugins {
        text += &format!("state of plugin {}: changed\n", sanitize::line(plugin));
    }
    context.console.print(&text)
}

fn describe_section(side: &SectionSide) -> String {
    let Some((status, owners)) = side else { return "missing".to_owned() };
    let status = format!("{status:?}").to_lowercase();
    let owners: Vec<String> = owners.iter().map(|owner| sanitize::line(owner)).collect();
    if owners.is_empty() { status } else { format!("{status} ({})", owners.join(", ")) }
}
