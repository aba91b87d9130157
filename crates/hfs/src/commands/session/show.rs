//! `hfs session show`

use hfs_core::{Branch, Message, MessageRange, Seq, SessionSummary, Store};

use crate::context::Context;
use crate::failure::Failure;
use crate::references::find_branch;
use crate::transcript::{self, Detail};
use crate::wire::{BranchRow, MessageRow, SessionRow, SessionView};
use crate::{moments, plain};

/// How many messages a page shows unless somebody says otherwise.
const PAGE: u32 = 50;
/// How many messages are read at once where all are wanted.
const BATCH: u32 = 500;

/// Which session, and how much of it.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The session
    session: String,
    /// Another branch than the current one
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
    /// End at message number SEQ, as the session was then
    #[arg(long, value_name = "SEQ")]
    at: Option<Seq>,
    /// How many messages [default: 50; all with --json]
    #[arg(short = 'n', long = "limit", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// All messages
    #[arg(short, long, conflicts_with = "limit")]
    all: bool,
}

pub fn run(show: &Show, context: &Context) -> Result<(), Failure> {
    let store = context.store()?;
    let id = context.session(&show.session)?;
    let summary = store.get_session(id)?;
    let branches = store.list_branches(id)?;
    let branch = match &show.branch {
        Some(reference) => find_branch(&branches, reference)?,
        None => branches
            .iter()
            .find(|branch| branch.id == summary.session.current_branch)
            .map_or_else(|| store.get_branch(summary.session.current_branch), |branch| Ok(branch.clone()))?,
    };
    let end = show.at.map_or(branch.head, |at| at.min(branch.head));
    if context.console.manner.json {
        let messages = match show.limit {
            Some(count) => page(store.as_ref(), &branch, end, count)?,
            None => all(store.as_ref(), &branch, end)?,
        };
        return context.console.json(&SessionView {
            session: SessionRow::from(&summary),
            branches: branches
                .iter()
                .filter(|branch| !branch.undone)
                .map(|branch| BranchRow::new(branch, summary.session.current_branch))
                .collect(),
            messages: messages.iter().map(MessageRow::from).collect(),
        });
    }
    context.console.print(&header(&summary, &branches, &branch, context))?;
    if show.all {
        return print_all(store.as_ref(), &branch, end, context);
    }
    let count = show.limit.unwrap_or(PAGE);
    let messages = page(store.as_ref(), &branch, end, count)?;
    let earlier = messages.first().map_or(0, |message| message.seq.saturating_sub(1));
    if earlier > 0 {
        let dim = context.console.palette.dim;
        context.console.print(&format!(
            "\n{dim}... {earlier} earlier: hfs session show {} --at {earlier}, or --all{dim:#}\n",
            summary.session.id.short().shown()
        ))?;
    }
    print_messages(&messages, context)
}

/// The last `count` messages up to number `end`.
fn page(store: &dyn Store, branch: &Branch, end: Seq, count: u32) -> Result<Vec<Message>, Failure> {
    Ok(store.read_messages(branch.id, MessageRange::Before(end.saturating_add(1), count))?)
}

/// All messages up to number `end`.
fn all(store: &dyn Store, branch: &Branch, end: Seq) -> Result<Vec<Message>, Failure> {
    let mut messages = Vec::new();
    let mut next = 1;
    while let Some(batch) = batch(store, branch, next, end)? {
        next = batch.last().map_or(end, |message| message.seq) + 1;
        messages.extend(batch);
    }
    Ok(messages)
}

fn print_all(store: &dyn Store, branch: &Branch, end: Seq, context: &Context) -> Result<(), Failure> {
    let mut next = 1;
    while let Some(batch) = batch(store, branch, next, end)? {
        next = batch.last().map_or(end, |message| message.seq) + 1;
        print_messages(&batch, context)?;
    }
    Ok(())
}

fn batch(store: &dyn Store, branch: &Branch, from: Seq, end: Seq) -> Result<Option<Vec<Message>>, Failure> {
    if from > end {
        return Ok(None);
    }
    let mut messages = store.read_messages(branch.id, MessageRange::From(from, BATCH))?;
    messages.retain(|message| message.seq <= end);
    Ok((!messages.is_empty()).then_some(messages))
}

fn print_messages(messages: &[Message], context: &Context) -> Result<(), Failure> {
    let detail = Detail { everything: context.console.manner.verbose, now: context.now() };
    let mut text = String::new();
    for message in messages {
        text.push('\n');
        text += &transcript::message(message, detail, &context.console.palette);
    }
    context.console.print(&text)
}

fn header(summary: &SessionSummary, branches: &[Branch], shown: &Branch, context: &Context) -> String {
    let strong = context.console.palette.strong;
    let dim = context.console.palette.dim;
    let session = &summary.session;
    let mut text =
        format!("{strong}{}{strong:#}  {dim}{}{dim:#}\n", plain::line(&session.name), session.id.short());
    let verbose = context.console.manner.verbose;
    let when = |time| if verbose { moments::exact(time) } else { moments::ago(time, context.now()) };
    let mut facts = vec![
        count(shown.head, "message"),
        format!("begun {}", when(session.created_at)),
        format!("last changed {}", when(session.updated_at)),
    ];
    if let Some(project) = &session.project {
        facts.push(plain::line(&project.directory));
    }
    if let Some(origin) = &session.origin {
        facts.push(format!("from {}", plain::line(&origin.format)));
    }
    if session.trashed_at.is_some() {
        facts.push("in the trash".into());
    }
    text += &format!("{dim}{}{dim:#}\n", facts.join(" · "));
    let visible: Vec<&Branch> = branches.iter().filter(|branch| !branch.undone).collect();
    if visible.len() > 1 || shown.id != session.current_branch {
        let names: Vec<String> = visible
            .iter()
            .map(|branch| {
                let name = plain::line(&branch.name);
                if branch.id == shown.id { format!("[{name}]") } else { name }
            })
            .collect();
        text += &format!("{dim}branches: {}{dim:#}\n", names.join(" "));
    }
    text
}

/// A number of things.
fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}
