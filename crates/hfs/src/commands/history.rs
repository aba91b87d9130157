//! `hfs rewind`, `hfs undo`, `hfs redo` and `hfs log`: operations on a session and how to reverse them.

use hfs_core::{Cursor, Operation, PageRequest, Seq, SessionAttributes, SessionId, plural};
use hfs_engine::{Reversed, RewindPlan, RewindTarget, StateAtPlace};
use serde_json::{Value, json};

use super::{branch, checkpoint};
use crate::args::limit_parser;
use crate::context::Context;
use crate::output::error::{CliError, Outcome};
use crate::output::json::{BranchJson, MessageJson};
use crate::output::sanitize;
use crate::output::table::Table;
use crate::resolve::parse_seq;

#[derive(Debug, clap::Args)]
pub struct RewindArgs {
    /// The session
    session: String,
    /// The place: a checkpoint's number, short id or label, or seq:N for any message of the current branch
    #[arg(value_name = "CHECKPOINT|seq:N")]
    target: String,
    /// Show which messages would be in view, and change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub struct UndoArgs {
    /// The session [default: the newest]
    #[arg(default_value = "@", hide_default_value = true)]
    session: String,
}

#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// The session [default: the newest]
    #[arg(default_value = "@", hide_default_value = true)]
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

/// Creates a branch at a checkpoint or after a message, with the state that was kept there. The old branch is kept.
pub fn rewind(args: &RewindArgs, context: &Context) -> Result<Outcome, CliError> {
    let session = context.session(&args.session)?;
    let (target, place) = rewind_target(session, &args.target, context)?;
    let engine = context.engine()?;
    let console = &context.console;
    if args.dry_run {
        let plan = engine.plan_rewind(target)?;
        if console.options.json {
            console.print_json(&json!({
                "dry_run": true,
                "from": from_json(&plan),
                "state": state_json(&plan.state),
                "in_view": plan.in_view,
                "out_of_view": plan.out_of_view,
                "not_taken_back": side_effects_json(&plan),
                "prompt": plan.prompt.as_ref().map(MessageJson::from),
            }))?;
            return Ok(Outcome::Done);
        }
        let mut text = format!(
            "a rewind to {place} creates a branch with {} in view\n\
             out of view, but kept on {}: {}\n",
            message_range(1, plan.in_view),
            sanitize::line(&plan.current.name),
            message_range((plan.current.head + 1).saturating_sub(plan.out_of_view), plan.current.head),
        );
        if let Some(note) = state_note(&plan) {
            text += &format!("{note}\n");
        }
        if let Some(effects) = plan.side_effects.describe() {
            text += &format!("not taken back: {}\n", sanitize::line(&effects));
        }
        if let Some(prompt) = &plan.prompt {
            let preview = branch::preview(prompt);
            text += &format!("offered for editing and sending again: message {}\n", preview.trim_start());
        }
        console.print(&text)?;
        return Ok(Outcome::Done);
    }
    let rewound = engine.rewind(target)?;
    if let Some(note) = state_note(&rewound.plan) {
        console.warn(&note);
    }
    if console.options.json {
        let checkpoint = rewound.plan.checkpoint();
        console.print_json(&json!({
            "branch": BranchJson::new(&rewound.branch, rewound.branch.id),
            "from": from_json(&rewound.plan),
            "state": state_json(&rewound.plan.state),
            "restored": {
                "messages": rewound.plan.in_view,
                "state_hash": checkpoint.map(|checkpoint| checkpoint.state_hash.to_string()),
            },
            "not_taken_back": side_effects_json(&rewound.plan),
            "prompt": rewound.plan.prompt.as_ref().map(MessageJson::from),
        }))?;
        return Ok(Outcome::Done);
    }
    console.note(&format!(
        "rewound to {place} on the new branch {}, with {} in view; {} keeps all its messages\n\
         `hfs undo {}` undoes this",
        sanitize::line(&rewound.branch.name),
        plural(rewound.plan.in_view, "message"),
        sanitize::line(&rewound.plan.current.name),
        session.short().shown(),
    ));
    if let Some(effects) = rewound.plan.side_effects.describe() {
        console.note(&format!("not taken back: {}", sanitize::line(&effects)));
    }
    if let Some(prompt) = &rewound.plan.prompt {
        console.note(&format!("the message after {place}, to edit and send again:"));
        console.print(&format!("{}\n", sanitize::block(&prompt.content.text())))?;
    }
    Ok(Outcome::Done)
}

/// Resolves the place to which a rewind returns. Also returns its description.
fn rewind_target(
    session: SessionId,
    reference: &str,
    context: &Context,
) -> Result<(RewindTarget, String), CliError> {
    if let Some(seq) = parse_seq(reference)? {
        let branch = context.store()?.get_session(session)?.session.current_branch;
        let place = if seq == 0 { "the start".to_owned() } else { format!("message {seq}") };
        return Ok((RewindTarget::Message { branch, seq }, place));
    }
    let checkpoint = checkpoint::find(session, reference, context)?;
    Ok((checkpoint.id.into(), format!("checkpoint {}", checkpoint.number)))
}

fn from_json(plan: &RewindPlan) -> Value {
    json!({
        "branch": plan.from.name,
        "checkpoint": plan.checkpoint().map(|checkpoint| checkpoint.id.to_string()),
        "seq": plan.in_view,
    })
}

fn side_effects_json(plan: &RewindPlan) -> Value {
    let effects = &plan.side_effects;
    json!({
        "files": effects.files,
        "commands": effects.commands,
        "uncertain": { "files": effects.uncertain_files, "commands": effects.uncertain_commands },
    })
}

fn state_json(state: &StateAtPlace) -> &'static str {
    match state {
        StateAtPlace::Kept(_) => "kept",
        StateAtPlace::Initial => "initial",
        StateAtPlace::NotKept => "not-kept",
    }
}

/// What a rewind does not restore.
pub fn state_note(plan: &RewindPlan) -> Option<String> {
    match plan.state {
        StateAtPlace::Kept(_) | StateAtPlace::Initial => None,
        StateAtPlace::NotKept => Some(format!(
            "no state of agents and plugins is kept for message {}: the messages return, the agents' state does not",
            plan.in_view
        )),
    }
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
    let session = context.session_or_trashed(&args.session)?;
    let store = context.store()?;
    let newest = store.list_operations(None, &PageRequest::first(1))?.items.pop();
    let reversed = context.engine()?.undo(session)?;
    // A session that was just deleted, for example, is not the newest one any more.
    if let Some(other) = newest.filter(|newest| args.session == "@" && newest.session != session) {
        let name = sanitize::line(&store.get_session(other.session)?.session.name);
        context.console.warn(&format!(
            "the newest operation of all sessions is another one, {} in {name:?}: hfs undo {} undoes that",
            other.kind,
            other.session.short().shown(),
        ));
    }
    report_reversal("undone", &reversed, context)
}

/// Redoes the operation that was undone last.
pub fn redo(args: &UndoArgs, context: &Context) -> Result<Outcome, CliError> {
    let reversed = context.engine()?.redo(context.session_or_trashed(&args.session)?)?;
    report_reversal("redone", &reversed, context)
}

/// Reports an undo or redo. Messages that it takes out of view stay on their branch.
fn report_reversal(verb: &str, reversed: &Reversed, context: &Context) -> Result<Outcome, CliError> {
    let Reversed { plan, operation } = reversed;
    let console = &context.console;
    if plan.out_of_view > 0 {
        let from = sanitize::line(&plan.from.name);
        let messages = if plan.out_of_view == 1 {
            "1 message is".to_owned()
        } else {
            format!("{} messages are", plan.out_of_view)
        };
        console.warn(&format!(
            "{messages} no longer in view, but kept on {from}: hfs branch switch {} {}",
            operation.session.short().shown(),
            plan.from.id.short().shown(),
        ));
    }
    if console.options.json {
        let document = json!({
            "operation": operation_json(operation),
            "target": operation_json(&plan.target),
            "out_of_view": plan.out_of_view,
        });
        console.print_json(&document)?;
        return Ok(Outcome::Done);
    }
    let branch = context.store()?.get_branch(operation.after.current_branch)?;
    let detail = sanitize::line(&plan.target.detail);
    let separator = if detail.is_empty() { "" } else { " " };
    console.note(&format!(
        "{verb}: {}{separator}{detail}; {} is current, at message {}",
        plan.target.kind,
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
