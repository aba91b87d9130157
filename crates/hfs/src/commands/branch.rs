//! `hfs branch`: list, create, switch, rename and compare branches.

use hfs_core::{Branch, ErrorKind, MAIN_BRANCH, Message, Seq, SessionId};
use hfs_engine::{GraphMark, GraphRow, MessageDiff, session_graph};
use serde_json::json;

use crate::context::Context;
use crate::output::console::Palette;
use crate::output::error::{CliError, Outcome};
use crate::output::json::{BranchJson, MessageJson};
use crate::output::{sanitize, table};
use crate::resolve::find_branch;

const EXAMPLES: &str = "\
Examples:
  hfs branch list @                   the branches of the newest session as a graph
  hfs branch create @ --at 4 idea     a branch that starts after message 4
  hfs branch switch @ main            make the first branch current again
  hfs branch diff @ main idea         the messages that are on one of them only";

/// Width of a message's text in a comparison, in columns.
const PREVIEW_WIDTH: usize = 90;

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct BranchArgs {
    #[command(subcommand)]
    command: BranchCommand,
}

#[derive(Debug, clap::Subcommand)]
enum BranchCommand {
    /// Show the branches of a session as a graph
    #[command(alias = "ls")]
    List {
        /// The session
        session: String,
    },
    /// Create a branch and make it current; no message is copied
    Create {
        /// The session
        session: String,
        /// The branch's name [default: the parent's name and a number]
        name: Option<String>,
        /// Fork after message number SEQ [default: the last one]
        #[arg(long, value_name = "SEQ")]
        at: Option<Seq>,
        /// Fork this branch instead of the current one
        #[arg(long, value_name = "BRANCH")]
        from: Option<String>,
    },
    /// Make another branch current
    Switch {
        /// The session
        session: String,
        /// The branch
        branch: String,
    },
    /// Rename a branch
    #[command(alias = "mv")]
    Rename {
        /// The session
        session: String,
        /// The branch
        branch: String,
        /// The new name
        name: String,
    },
    /// Show the messages that only one of two branches has
    Diff {
        /// The session
        session: String,
        /// One branch
        a: String,
        /// The other branch
        b: String,
    },
}

pub fn run(args: &BranchArgs, context: &Context) -> Result<Outcome, CliError> {
    match &args.command {
        BranchCommand::List { session } => list(session, context)?,
        BranchCommand::Create { session, name, at, from } => {
            create(session, name.as_deref(), *at, from.as_deref(), context)?;
        }
        BranchCommand::Switch { session, branch } => switch(session, branch, context)?,
        BranchCommand::Rename { session, branch, name } => rename(session, branch, name, context)?,
        BranchCommand::Diff { session, a, b } => diff(session, a, b, context)?,
    }
    Ok(Outcome::Done)
}

fn list(reference: &str, context: &Context) -> Result<(), CliError> {
    let session = context.session(reference)?;
    let branches = context.store()?.list_branches(session)?;
    let current = context.store()?.get_session(session)?.session.current_branch;
    if context.console.options.json {
        let listed = branches.iter().filter(|branch| branch.is_listed());
        let rows: Vec<_> = listed.map(|branch| BranchJson::new(branch, current)).collect();
        return context.console.print_json(&json!({ "branches": rows }));
    }
    let mut text = String::new();
    for row in session_graph(&branches, current, &[]) {
        text += &graph_line(&row, &branches, context);
        text.push('\n');
    }
    context.console.print(&text)
}

/// A row of the session graph for a branch's head or fork, or for the start of the session.
pub fn graph_line(row: &GraphRow, branches: &[Branch], context: &Context) -> String {
    let Palette { role, strong, dim, .. } = context.console.palette;
    let branch = branches.iter().find(|branch| branch.id == row.branch);
    let name = branch.map_or_else(String::new, |branch| sanitize::line(&branch.name));
    let text = match row.mark {
        GraphMark::Head { current } => {
            let note = match branch {
                _ if current => format!(" {dim}(current){dim:#}"),
                Some(Branch { undone: true, .. }) => format!(" {dim}(undone){dim:#}"),
                Some(_) | None => String::new(),
            };
            format!("{:>4}  {strong}{name}{strong:#}{note}", row.seq)
        }
        GraphMark::Fork => format!("{dim}{:>4}{dim:#}", row.seq),
        GraphMark::Beginning => format!("{dim}      start{dim:#}"),
        // Not reached: `branch list` passes no checkpoints to the graph, and `checkpoint list` renders them itself.
        GraphMark::Checkpoint(_) => format!("{:>4}", row.seq),
    };
    format!("{role}{}{role:#} {text}", row.lanes)
}

fn create(
    reference: &str,
    name: Option<&str>,
    at: Option<Seq>,
    from: Option<&str>,
    context: &Context,
) -> Result<(), CliError> {
    let session = context.session(reference)?;
    let parent = match from {
        Some(reference) => branch_of(session, reference, context)?,
        None => {
            let store = context.store()?;
            store.get_branch(store.get_session(session)?.session.current_branch)?
        }
    };
    let name = name.map(sanitize::line).filter(|name| !name.is_empty());
    let branch = context.engine()?.fork(parent.id, at.unwrap_or(parent.head), name.as_deref())?;
    let parent_name = sanitize::line(&parent.name);
    let text = format!(
        "{} forks {parent_name} after message {} and is now current; `hfs branch switch {} {parent_name}` goes back",
        sanitize::line(&branch.name),
        branch.forked_at,
        session.short().shown(),
    );
    report(&branch, &text, context)
}

fn branch_of(session: SessionId, reference: &str, context: &Context) -> Result<Branch, CliError> {
    Ok(find_branch(&context.store()?.list_branches(session)?, reference)?)
}

fn switch(reference: &str, branch: &str, context: &Context) -> Result<(), CliError> {
    let session = context.session(reference)?;
    let branch = branch_of(session, branch, context)?;
    let branch = context.engine()?.switch(session, branch.id)?;
    let text = format!("{} is now current, at message {}", sanitize::line(&branch.name), branch.head);
    report(&branch, &text, context)
}

fn rename(reference: &str, branch: &str, name: &str, context: &Context) -> Result<(), CliError> {
    let session = context.session(reference)?;
    let branch = branch_of(session, branch, context)?;
    let name = sanitize::line(name);
    if name.is_empty() {
        let hint = format!("type a name such as {MAIN_BRANCH}");
        return Err(CliError::with_hint(ErrorKind::Invalid, "a branch's name cannot be empty", hint));
    }
    let store = context.store()?;
    store.rename_branch(branch.id, &name, context.now())?;
    let renamed = store.get_branch(branch.id)?;
    report(&renamed, &format!("renamed {} to {name}", sanitize::line(&branch.name)), context)
}

fn report(branch: &Branch, text: &str, context: &Context) -> Result<(), CliError> {
    if context.console.options.json {
        let current = context.store()?.get_session(branch.session)?.session.current_branch;
        return context.console.print_json(&json!({ "branch": BranchJson::new(branch, current) }));
    }
    context.console.note(text);
    Ok(())
}

fn diff(reference: &str, a: &str, b: &str, context: &Context) -> Result<(), CliError> {
    let session = context.session(reference)?;
    let (a, b) = (branch_of(session, a, context)?, branch_of(session, b, context)?);
    let diff = context.engine()?.diff_branches(a.id, b.id)?;
    if context.console.options.json {
        let current = context.store()?.get_session(session)?.session.current_branch;
        return context.console.print_json(&json!({
            "a": BranchJson::new(&a, current),
            "b": BranchJson::new(&b, current),
            "shared": diff.shared,
            "only_a": diff.only_a.iter().map(MessageJson::from).collect::<Vec<_>>(),
            "only_b": diff.only_b.iter().map(MessageJson::from).collect::<Vec<_>>(),
        }));
    }
    let (a, b) = (sanitize::line(&a.name), sanitize::line(&b.name));
    context.console.print(&message_diff(&diff, &a, &b, context))
}

/// The messages that only branch `a` has, then those that only branch `b` has, one per line.
pub fn message_diff(diff: &MessageDiff, a: &str, b: &str, context: &Context) -> String {
    let Palette { dim, good, error, .. } = context.console.palette;
    let mut text = match diff.shared {
        0 => format!("{dim}nothing in common{dim:#}\n"),
        shared => format!("{dim}the same up to message {shared}{dim:#}\n"),
    };
    for (name, messages, sign, style) in [(a, &diff.only_a, '-', error), (b, &diff.only_b, '+', good)] {
        if messages.is_empty() {
            text += &format!("{dim}nothing only in {name}{dim:#}\n");
            continue;
        }
        text += &format!("{style}{sign} only in {name}:{style:#}\n");
        for message in messages {
            text += &format!("{style}{sign}{style:#} {}\n", preview(message));
        }
    }
    text
}

/// A message on one line: seq, role and the start of its text.
pub fn preview(message: &Message) -> String {
    let text = sanitize::line(&message.content.searchable_text());
    let text = table::shorten(&text, PREVIEW_WIDTH);
    format!("{:>4} {:<9} {text}", message.seq, message.content.role.as_str())
}
