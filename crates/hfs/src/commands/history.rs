//! `hfs log`, `hfs undo`, `hfs redo`

use hfs_core::{Cursor, Operation, OperationKind, PageRequest};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::table::Table;
use crate::{moments, plain};

/// Which session's structure.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// The session [default: the newest]
    #[arg(default_value = "@")]
    session: String,
}

/// Which operations.
#[derive(Debug, clap::Args)]
pub struct Log {
    /// The session [default: the newest]
    #[arg(default_value = "@")]
    session: String,
    /// Those of all sessions
    #[arg(short, long, conflicts_with = "session")]
    all: bool,
    /// How many at most
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Go on where a page ended, with the cursor it printed
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

/// Lists structural changes, newest first.
pub fn log(log: &Log, context: &Context) -> Result<Outcome, Failure> {
    let session = if log.all { None } else { Some(context.session(&log.session)?) };
    let request = PageRequest { limit: log.limit, after: log.after.clone().map(Cursor) };
    let page = context.store()?.list_operations(session, &request)?;
    let console = &context.console;
    if console.manner.json {
        let operations: Vec<Value> = page.items.iter().map(row).collect();
        console.json(&json!({ "operations": operations, "next": page.next.map(|cursor| cursor.0) }))?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(&["ID", "WHEN", "WHAT", "DETAIL"], 3);
    for operation in &page.items {
        let when = if console.manner.verbose {
            moments::exact(operation.created_at)
        } else {
            moments::ago(operation.created_at, context.now())
        };
        table.row(vec![
            operation.id.short().shown().to_owned(),
            when,
            operation.kind.to_string(),
            plain::line(&operation.detail),
        ]);
    }
    console.print(&table.render(&console.palette, console.width()))?;
    if let Some(cursor) = page.next {
        console.note(&format!("more: hfs log {} --after {}", log.session, plain::line(&cursor.0)));
    }
    Ok(Outcome::Done)
}

/// Takes back the newest change of a session, or brings back what was taken back.
pub fn reverse(target: &Target, kind: OperationKind, context: &Context) -> Result<Outcome, Failure> {
    let session = match context.session(&target.session) {
        // What was deleted is in the trash, and undo is how it comes back.
        Err(Failure::Store(hfs_core::StoreError::NotFound { .. })) => {
            context.trashed_session(&target.session)?
        }
        other => other?,
    };
    let engine = context.engine()?;
    let (reversed, done) =
        if kind == OperationKind::Redo { engine.redo(session)? } else { engine.undo(session)? };
    if context.console.manner.json {
        context.console.json(&json!({ "operation": row(&done), "target": row(&reversed) }))?;
        return Ok(Outcome::Done);
    }
    let branch = context.store()?.get_branch(done.after.current_branch)?;
    let verb = if kind == OperationKind::Redo { "did again" } else { "took back" };
    context.console.note(&format!(
        "{verb}: {} {}; {} is current, at message {}",
        reversed.kind,
        plain::line(&reversed.detail),
        plain::line(&branch.name),
        branch.head
    ));
    Ok(Outcome::Done)
}

fn row(operation: &Operation) -> Value {
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
        "before": operation.before.as_ref().map(shape),
        "after": shape(&operation.after),
    })
}

fn shape(shape: &hfs_core::SessionAttributes) -> Value {
    json!({
        "name": shape.name,
        "current_branch": shape.current_branch.to_string(),
        "trashed": shape.trashed,
    })
}
