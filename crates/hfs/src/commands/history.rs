//! `hfs rewind`, `hfs undo`, `hfs redo` and `hfs log`: operations on a session and how to reverse them.

use hfs_core::{Cursor, Operation, PageRequest, Seq, SessionAttributes, SessionId, StoreError};
use serde_json::{Value, json};

use super::{branch, checkpoint};
use crate::args::limit_parser;
use crate::context::Context;
use crate::output::error::{CliError, Outcome};
use crate::output::json::{BranchJson, MessageJson};
use crate::output::sanitize;
use crate::output::table::Table;

#[derive(Debug, clap::Args)]
pub struct RewindArgs {
    /// The session
    session: String,
    /// The checkpoint: its number, its short id, its label, or seq:N
    checkpoint: String,
    /// Show which messages would be in view, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub struct UndoArgs {
    /// The session [default: the newest]
    #[arg(default_value = "@")]
    session: String,
}

#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// The session [default: the newest]
    #[arg(default_value = "@")]
    session: String,
    /// List the operations on all sessions
    #[arg(short, long, conflicts_with = "session")]
    all: bool,
    /// Maximum number of operations
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 20, value_parser = limit_parser())]
    limit: u32,
    /// Continue after a page, with the cursor that it printed
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

/// Creates a branch at a checkpoint and restores the checkpoint's state. The old branch is kept.
pub fn rewind(args: &RewindArgs, context: &Context) -> Result<Outcome, CliError> {
    let session = context.session(&args.session)?;
    let (number, checkpoint) = checkpoint::find(session, &args.checkpoint, context)?;
    let engine = context.engine()?;
    let console = &context.console;
    if args.dry_run {
        let plan = engine.plan_rewind(checkpoint.id)?;
        if console.options.json {
            console.print_json(&json!({
                "dry_run": true,
                "from": { "branch": plan.from.name, "checkpoint": checkpoint.id.to_string() },
                "in_view": plan.in_view,
                "out_of_view": plan.out_of_view,
                "prompt": plan.prompt.as_ref().map(MessageJson::from),
            }))?;
            return Ok(Outcome::Done);
        }
        let mut text = format!(
            "a rewind to checkpoint {number} creates a branch with {} in view\n\
             out of view, but kept on {}: {}\n",
            message_range(1, plan.in_view),
            sanitize::line(&plan.from.name),
            message_range(plan.in_view + 1, plan.from.head),
        );
        if let Some(prompt) = &plan.prompt {
            let preview = branch::preview(prompt);
            text += &format!("offered for editing and sending again: message {}\n", preview.trim_start());
        }
        console.print(&text)?;
        return Ok(Outcome::Done);
    }
    let rewound = engine.rewind(checkpoint.id)?;
    if console.options.json {
        console.print_json(&json!({
            "branch": BranchJson::new(&rewound.branch, rewound.branch.id),
            "from": { "branch": rewound.plan.from.name, "checkpoint": checkpoint.id.to_string() },
            "restored": {
                "messages": rewound.plan.in_view,
                "state_hash": rewound.plan.checkpoint.state_hash.to_string(),
            },
            "prompt": rewound.plan.prompt.as_ref().map(MessageJson::from),
        }))?;
        return Ok(Outcome::Done);
    }
    console.note(&format!(
        "rewound to checkpoint {number} on the new branch {}, with {} messages in view; {} keeps all its messages\n\
         `hfs undo {}` undoes this",
        sanitize::line(&rewound.branch.name),
        rewound.plan.in_view,
        sanitize::line(&rewound.plan.from.name),
        session.short().shown(),
    ));
    if let Some(prompt) = &rewound.plan.prompt {
        console.note("the message after the checkpoint, to edit and send again:");
        console.print(&format!("{}\n", sanitize::block(&prompt.content.text())))?;
    }
    Ok(Outcome::Done)
}

fn message_range(first: Seq, last: Seq) -> String {
    // Both ends are included.
    let count = last.saturating_sub(first.saturating_sub(1));
    match count {
        0 => "no messages".to_owned(),
        1 => format!("message {first}"),
        _ => format!("messages {first} to {last}"),
    }
}

/// Undoes the newest operation on a session.
pub fn undo(args: &UndoArgs, context: &Context) -> Result<Outcome, CliError> {
    let (target, recorded) = context.engine()?.undo(session_or_trashed(&args.session, context)?)?;
    report_reversal("undone", &target, &recorded, context)
}

/// Redoes the operation that was undone last.
pub fn redo(args: &UndoArgs, context: &Context) -> Result<Outcome, CliError> {
    let (target, recorded) = context.engine()?.redo(session_or_trashed(&args.session, context)?)?;
    report_reversal("redone", &target, &recorded, context)
}

/// Also finds sessions in the trash, because a deletion can be undone.
fn session_or_trashed(reference: &str, context: &Context) -> Result<SessionId, CliError> {
    match context.session(reference) {
        Err(CliError::Store(StoreError::NotFound { .. })) => context.trashed_session(reference),
        result => result,
    }
}

/// Reports that `target` was undone or redone by the operation `recorded`.
fn report_reversal(
    verb: &str,
    target: &Operation,
    recorded: &Operation,
    context: &Context,
) -> Result<Outcome, CliError> {
    if context.console.options.json {
        let document = json!({ "operation": operation_json(recorded), "target": operation_json(target) });
        context.console.print_json(&document)?;
        return Ok(Outcome::Done);
    }
    let branch = context.store()?.get_branch(recorded.after.current_branch)?;
    context.console.note(&format!(
        "{verb}: {} {}; {} is current, at message {}",
        target.kind,
        sanitize::line(&target.detail),
        sanitize::line(&branch.name),
        branch.head
    ));
    Ok(Outcome::Done)
}

/// Lists operations, newest first.
pub fn log(args: &LogArgs, context: &Context) -> Result<Outcome, CliError> {
    let session = if args.all { None } else { Some(context.session(&args.session)?) };
    let request = PageRequest { limit: args.limit, after: args.after.clone().map(Cursor) };
    let page = context.store()?.list_operations(session, &request)?;
    let console = &context.console;
    if console.options.json {
        let operations: Vec<Value> = page.items.iter().map(operation_json).collect();
        console.print_json(&json!({ "operations": operations, "next": page.next.map(|cursor| cursor.0) }))?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(&["ID", "WHEN", "WHAT", "DETAIL"], 3);
    for operation in &page.items {
        table.row(vec![
            operation.id.short().shown().to_owned(),
            context.format_time(operation.created_at),
            operation.kind.to_string(),
            sanitize::line(&operation.detail),
        ]);
    }
    console.print(&table.render(&console.palette, console.width()))?;
    if let Some(cursor) = page.next {
        let sessions = session.map_or_else(|| "--all".to_owned(), |id| id.short().shown().to_owned());
        let cursor = sanitize::line(&cursor.0);
        console.note(&format!("more: hfs log {sessions} -n {} --after {cursor}", args.limit));
    }
    Ok(Outcome::Done)
}

fn operation_json(operation: &Operation) -> Value {
    json!({
        "id": operation.id.to_string(),
        "short_id": operation.id.short().to_string(),
        "session": operation.session.to_string(),
        "kind": operation.kind.as_str(),
        "created_at": operation.created_at,
        "detail": operation.detail,
        "branch": operation.branch.map(|id| id.to_string()),
        "checkpoint": operation.checkpoint.map(|id| id.to_string()),
        "target": operation.target.map(|id| id.to_string()),
        "before": operation.before.as_ref().map(attributes_json),
        "after": attributes_json(&operation.after),
    })
}

fn attributes_json(attributes: &SessionAttributes) -> Value {
    json!({
        "name": attributes.name,
        "current_branch": attributes.current_branch.to_string(),
        "trashed": attributes.trashed,
    })
}
