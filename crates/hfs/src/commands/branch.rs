//! `hfs branch`

use hfs_core::{Branch, MAIN_BRANCH, Message, Seq, SessionId};
use hfs_engine::{GraphRow, Mark, MessageDiff, session_graph};
use serde_json::json;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::references::find_branch;
use crate::wire::{BranchRow, MessageRow};
use crate::{plain, table};

const EXAMPLES: &str = "\
Examples:
  hfs branch list @                   the branches of the newest session, drawn
  hfs branch create @ --at 4 idea     another way on from message number 4
  hfs branch switch @ main            go back to the first branch
  hfs branch diff @ main idea         what each has that the other has not";

/// How many characters of a message a comparison shows.
const GLIMPSE: usize = 90;

/// What to do with branches.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct BranchArgs {
    #[command(subcommand)]
    command: BranchCommand,
}

#[derive(Debug, clap::Subcommand)]
enum BranchCommand {
    /// Draw the branches of a session
    #[command(alias = "ls")]
    List {
        /// The session
        session: String,
    },
    /// Make a branch and go on from there; nothing is copied or lost
    Create {
        /// The session
        session: String,
        /// The branch's name [default: the parent's name and a number]
        name: Option<String>,
        /// Leave the current branch behind message number SEQ [default: its newest]
        #[arg(long, value_name = "SEQ")]
        at: Option<Seq>,
        /// Leave this branch instead of the current one
        #[arg(long, value_name = "BRANCH")]
        from: Option<String>,
    },
    /// Go on with another branch
    Switch {
        /// The session
        session: String,
        /// The branch
        branch: String,
    },
    /// Give a branch a name
    #[command(alias = "mv")]
    Rename {
        /// The session
        session: String,
        /// The branch
        branch: String,
        /// Its new name
        name: String,
    },
    /// Show what each of two branches has that the other has not
    Diff {
        /// The session
        session: String,
        /// One branch
        a: String,
        /// The other
        b: String,
    },
}

/// Lists, makes or changes branches.
pub fn run(branch: &BranchArgs, context: &Context) -> Result<Outcome, Failure> {
    match &branch.command {
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

fn list(reference: &str, context: &Context) -> Result<(), Failure> {
    let session = context.session(reference)?;
    let branches = context.store()?.list_branches(session)?;
    let current = context.store()?.get_session(session)?.session.current_branch;
    if context.console.manner.json {
        let rows: Vec<BranchRow> = branches
            .iter()
            .filter(|branch| !branch.undone)
            .map(|branch| BranchRow::new(branch, current))
            .collect();
        return context.console.json(&json!({ "branches": rows }));
    }
    let mut text = String::new();
    for row in session_graph(&branches, current, &[]) {
        text += &graph_line(&row, &branches, context);
        text.push('\n');
    }
    context.console.print(&text)
}

/// A row of the graph that stands for a branch's own place; checkpoints are drawn by their own command.
pub fn graph_line(row: &GraphRow, branches: &[Branch], context: &Context) -> String {
    let crate::console::Palette { role, strong, dim, .. } = context.console.palette;
    let name = branches.iter().find(|branch| branch.id == row.branch);
    let name = name.map_or_else(String::new, |branch| plain::line(&branch.name));
    let text = match row.mark {
        Mark::Head { current } => {
            let note = if current { format!(" {dim}(current){dim:#}") } else { String::new() };
            format!("{:>4}  {strong}{name}{strong:#}{note}", row.seq)
        }
        Mark::Fork => format!("{dim}{:>4}{dim:#}", row.seq),
        Mark::Beginning => format!("{dim}      the beginning{dim:#}"),
        Mark::Checkpoint { .. } => format!("{:>4}", row.seq),
    };
    format!("{role}{}{role:#} {text}", row.lanes)
}

fn create(
    reference: &str,
    name: Option<&str>,
    at: Option<Seq>,
    from: Option<&str>,
    context: &Context,
) -> Result<(), Failure> {
    let session = context.session(reference)?;
    let parent = chosen_branch(session, from, context)?;
    let name = name.map(plain::line).filter(|name| !name.is_empty());
    let branch = context.engine()?.fork(parent.id, at.unwrap_or(parent.head), name.as_deref())?;
    let text = format!(
        "{} leaves {} behind message {} and is current now; `hfs branch switch {} {}` goes back",
        plain::line(&branch.name),
        plain::line(&parent.name),
        branch.forked_at,
        session.short().shown(),
        plain::line(&parent.name),
    );
    report(&branch, &text, context)
}

fn chosen_branch(session: SessionId, reference: Option<&str>, context: &Context) -> Result<Branch, Failure> {
    let store = context.store()?;
    match reference {
        Some(reference) => Ok(find_branch(&store.list_branches(session)?, reference)?),
        None => Ok(store.get_branch(store.get_session(session)?.session.current_branch)?),
    }
}

fn switch(reference: &str, branch: &str, context: &Context) -> Result<(), Failure> {
    let session = context.session(reference)?;
    let branch = chosen_branch(session, Some(branch), context)?;
    let branch = context.engine()?.switch(session, branch.id)?;
    let text = format!("{} is current now, at message {}", plain::line(&branch.name), branch.head);
    report(&branch, &text, context)
}

fn rename(reference: &str, branch: &str, name: &str, context: &Context) -> Result<(), Failure> {
    let session = context.session(reference)?;
    let branch = chosen_branch(session, Some(branch), context)?;
    let name = plain::line(name);
    if name.is_empty() {
        return Err(Failure::Refused {
            kind: hfs_core::ErrorKind::Invalid,
            message: "a branch's name cannot be empty".into(),
            hint: Some(format!("such as {MAIN_BRANCH}")),
        });
    }
    let store = context.store()?;
    store.rename_branch(branch.id, &name, context.now())?;
    let renamed = store.get_branch(branch.id)?;
    report(&renamed, &format!("{} is called {name} now", plain::line(&branch.name)), context)
}

fn report(branch: &Branch, text: &str, context: &Context) -> Result<(), Failure> {
    if context.console.manner.json {
        let current = context.store()?.get_session(branch.session)?.session.current_branch;
        return context.console.json(&json!({ "branch": BranchRow::new(branch, current) }));
    }
    context.console.note(text);
    Ok(())
}

fn diff(reference: &str, a: &str, b: &str, context: &Context) -> Result<(), Failure> {
    let session = context.session(reference)?;
    let a = chosen_branch(session, Some(a), context)?;
    let b = chosen_branch(session, Some(b), context)?;
    let diff = context.engine()?.diff_branches(a.id, b.id)?;
    if context.console.manner.json {
        let current = context.store()?.get_session(session)?.session.current_branch;
        return context.console.json(&json!({
            "a": BranchRow::new(&a, current),
            "b": BranchRow::new(&b, current),
            "shared": diff.shared,
            "only_a": diff.only_a.iter().map(MessageRow::from).collect::<Vec<_>>(),
            "only_b": diff.only_b.iter().map(MessageRow::from).collect::<Vec<_>>(),
        }));
    }
    context.console.print(&message_diff(&diff, &plain::line(&a.name), &plain::line(&b.name), context))
}

/// What only one and only the other has, a line each.
pub fn message_diff(diff: &MessageDiff, a: &str, b: &str, context: &Context) -> String {
    let crate::console::Palette { dim, good, error, .. } = context.console.palette;
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
            text += &format!("{style}{sign}{style:#} {}\n", glimpse(message));
        }
    }
    text
}

/// A message on one line.
pub fn glimpse(message: &Message) -> String {
    let said = plain::line(&message.content.searchable_text());
    format!("{:>4} {:<9} {}", message.seq, message.content.role.as_str(), table::shorten(&said, GLIMPSE))
}
