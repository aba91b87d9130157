//! `hfs session`: list, show, rename, delete and restore sessions.

use std::cell::RefCell;

use hfs_core::{
    Branch, Cursor, ErrorKind, Message, MessageRange, PageRequest, Purged, Seq, SessionFilter, SessionId,
    SessionSummary, ShortId, Store, StoreResult, Timestamp,
};
use hfs_store::StoreUrl;
use serde::ser::{Error as _, Serialize, SerializeSeq as _, Serializer};
use serde_json::json;

use super::handoff::shell_quote;
use crate::args::limit_parser;
use crate::context::Context;
use crate::drafts::KeptDrafts;
use crate::output::error::{CliError, Outcome};
use crate::output::json::{BranchJson, MessageJson, SessionJson, SessionListJson, SessionShowJson};
use crate::output::message::{self, Detail};
use crate::output::sanitize;
use crate::output::table::Table;
use crate::project;
use crate::resolve::find_branch;
use crate::wiring;
use crate::wiring::agent_sessions::{AgentSessionList, WrittenTranscripts};

const EXAMPLES: &str = "\
Examples:
  hfs session list --all              the sessions of all projects
  hfs session list --tool codex       those that were imported from a tool
  hfs session show @                  the last messages of the newest session
  hfs session show login -n 200 -v    more of them, with tool calls and thinking
  hfs session rename @ \"Login fix\"
  hfs session delete zkxw             move to the trash; `hfs session restore zkxw` restores it

A session is given as its name, its short id or a prefix of it, or @ for the newest, @-1 for the one before.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct SessionArgs {
    #[command(subcommand)]
    command: SessionCommand,
}

#[derive(Debug, clap::Subcommand)]
enum SessionCommand {
    /// List this project's sessions, newest first
    #[command(alias = "ls")]
    List(ListArgs),
    /// Show the messages of a session, by default the last ones
    #[command(alias = "cat")]
    Show(ShowArgs),
    /// Rename a session
    #[command(alias = "mv")]
    Rename {
        /// The session
        session: String,
        /// The new name
        name: String,
    },
    /// Move a session to the trash
    #[command(alias = "rm")]
    Delete {
        /// The session
        session: String,
        /// Delete the session permanently instead; this cannot be undone
        #[arg(long)]
        purge: bool,
    },
    /// Restore a session from the trash
    Restore {
        /// The session
        session: String,
    },
}

pub fn run(args: &SessionArgs, context: &Context) -> Result<Outcome, CliError> {
    match &args.command {
        SessionCommand::List(args) => list(args, context)?,
        SessionCommand::Show(args) => show(args, context)?,
        SessionCommand::Rename { session, name } => rename(session, name, context)?,
        SessionCommand::Delete { session, purge: true } => purge(session, context)?,
        SessionCommand::Delete { session, purge: false } => move_to_trash(session, context)?,
        SessionCommand::Restore { session } => restore(session, context)?,
    }
    Ok(Outcome::Done)
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// List the sessions of all projects
    #[arg(short, long)]
    all: bool,
    /// List the sessions in the trash
    #[arg(long)]
    trash: bool,
    /// List the sessions of all projects whose directory or repository contains this text; a directory, such as ., stands
    /// for its project
    #[arg(long, value_name = "PROJECT", conflicts_with = "all")]
    project: Option<String>,
    /// List sessions of this tool, such as claude-code or codex; hfs for those that were not imported
    #[arg(long, value_name = "TOOL")]
    tool: Option<String>,
    /// Maximum number of sessions
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 20, value_parser = limit_parser())]
    limit: u32,
    /// Continue after a page, with the cursor that it printed
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

fn list(args: &ListArgs, context: &Context) -> Result<(), CliError> {
    let store = context.store()?;
    let filter = filter(args, context);
    let request = PageRequest { limit: args.limit, after: args.after.clone().map(Cursor) };
    let page = store.list_sessions(&filter, &request)?;
    let console = &context.console;
    console.warn_of_damage(page.unreadable, "session");
    if console.options.json {
        let sessions = page.items.iter().map(SessionJson::from).collect();
        return console.print_json(&SessionListJson {
            sessions,
            next: page.next.map(|cursor| cursor.0),
            unreadable: page.unreadable,
        });
    }
    if page.items.is_empty() && args.after.is_none() {
        return explain_empty_list(args, context);
    }
    console.print(&session_table(&page.items, filter.project.is_none(), context))?;
    if let Some(cursor) = page.next {
        let all = if args.all { " --all" } else { "" };
        let trash = if args.trash { " --trash" } else { "" };
        let option = |name: &str, value: &Option<String>| {
            let value = value.as_deref().and_then(|value| shell_quote(&sanitize::line(value)));
            value.map(|value| format!(" --{name} {value}")).unwrap_or_default()
        };
        let (project, tool) = (option("project", &args.project), option("tool", &args.tool));
        let cursor = sanitize::line(&cursor.0);
        console.note(&format!(
            "more: hfs session list{all}{trash}{project}{tool} -n {} --after {cursor}",
            args.limit
        ));
    }
    Ok(())
}

fn filter(args: &ListArgs, context: &Context) -> SessionFilter {
    let in_project = match &args.project {
        Some(text) => project::filter(text, &context.environment),
        None if args.all || args.trash || args.tool.is_some() => SessionFilter::default(),
        None => {
            SessionFilter { project: Some(context.project().key().to_owned()), ..SessionFilter::default() }
        }
    };
    SessionFilter { trashed: args.trash, tool: args.tool.clone(), ..in_project }
}

fn explain_empty_list(args: &ListArgs, context: &Context) -> Result<(), CliError> {
    let console = &context.console;
    if args.project.is_some() || args.tool.is_some() {
        console.note("no session matches: `hfs session list --all` lists all of them");
        return Ok(());
    }
    if args.trash {
        console.note("the trash is empty");
        return Ok(());
    }
    // Count the listed sessions, because the count in `Store::info` includes the trash.
    let elsewhere = context.store()?.list_sessions(&SessionFilter::default(), &PageRequest::first(1000))?;
    let (count, more) = (elsewhere.items.len(), if elsewhere.next.is_some() { "more than " } else { "" });
    console.note(&match count {
        0 => "no sessions yet: `hfs chat \"...\"` starts one, `hfs import PATH` imports those of other tools"
            .into(),
        1 => "no sessions in this project, 1 elsewhere: hfs session list --all".to_owned(),
        _ => format!("no sessions in this project, {more}{count} elsewhere: hfs session list --all"),
    });
    Ok(())
}

/// Sessions as a table. A branch column is added if a session has several branches.
pub fn session_table(sessions: &[SessionSummary], with_projects: bool, context: &Context) -> String {
    let id_length = unique_prefix_length(sessions);
    let mut headings = vec!["ID", "NAME", ">MESSAGES", "UPDATED"];
    let with_tools = sessions.iter().any(|summary| summary.session.origin.is_some());
    if with_tools {
        headings.push("TOOL");
    }
    if with_projects {
        headings.push("PROJECT");
    }
    let with_branches = sessions.iter().any(|summary| summary.branches > 1);
    if with_branches {
        headings.insert(3, "BRANCH");
    }
    let mut table = Table::new(&headings, 1);
    for summary in sessions {
        let session = &summary.session;
        let mut cells = vec![
            session.id.short().as_str().chars().take(id_length).collect(),
            sanitize::line(session.title()),
            summary.messages.to_string(),
            context.format_time(session.updated_at),
        ];
        if with_branches {
            let others = summary.branches.saturating_sub(1);
            let more = if others == 0 { String::new() } else { format!(" (+{others})") };
            cells.insert(3, sanitize::line(&summary.branch) + &more);
        }
        if with_tools {
            cells.push(sanitize::line(session.tool()));
        }
        if with_projects {
            let key = session.project.as_ref().map_or("-", |project| project.key());
            cells.push(abbreviate_home(&sanitize::line(key), context));
        }
        table.row(cells);
    }
    table.render(&context.console.palette, context.console.width())
}

/// The shortest length at which the short ids of all these sessions differ, but at least the usual length.
fn unique_prefix_length(sessions: &[SessionSummary]) -> usize {
    let mut ids: Vec<ShortId> = sessions.iter().map(|summary| summary.session.id.short()).collect();
    ids.sort_unstable();
    let shared_prefix = |a: &ShortId, b: &ShortId| {
        a.as_str().bytes().zip(b.as_str().bytes()).take_while(|(a, b)| a == b).count()
    };
    let longest = ids.iter().zip(ids.iter().skip(1)).map(|(a, b)| shared_prefix(a, b)).max();
    longest.map_or(ShortId::SHOWN, |longest| ShortId::SHOWN.max(longest + 1))
}

/// Replaces the user's home directory at the start of a path with `~`.
fn abbreviate_home(path: &str, context: &Context) -> String {
    let home = context.environment.user_home.as_ref().map(|home| home.display().to_string());
    match home.as_deref().and_then(|home| path.strip_prefix(home)) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("~{rest}"),
        _ => path.to_owned(),
    }
}

/// Number of messages that `session show` prints by default.
const PAGE: u32 = 50;
/// Number of messages that are read from the store at once.
const BATCH: u32 = 100;

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The session
    session: String,
    /// Show this branch instead of the current one
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
    /// Show messages up to number SEQ
    #[arg(long, value_name = "SEQ")]
    at: Option<Seq>,
    /// Number of messages [default: 50; all with --json]
    #[arg(short = 'n', long = "limit", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Show all messages
    #[arg(short, long, conflicts_with = "limit")]
    all: bool,
}

fn show(args: &ShowArgs, context: &Context) -> Result<(), CliError> {
    let store = context.store()?.as_ref();
    let id = context.session(&args.session)?;
    let summary = store.get_session(id)?;
    let branches = store.list_branches(id)?;
    let branch = match &args.branch {
        Some(reference) => find_branch(&branches, reference)?,
        None => store.get_branch(summary.session.current_branch)?,
    };
    let end = args.at.map_or(branch.head, |at| at.min(branch.head));
    let console = &context.console;
    if console.options.json {
        let first = args.limit.map_or(1, |count| end.saturating_sub(u64::from(count) - 1).max(1));
        let messages = StreamedMessages { store, branch: &branch, first, end, error: RefCell::default() };
        let document = SessionShowJson {
            session: SessionJson::from(&summary),
            branches: branches
                .iter()
                .filter(|branch| branch.is_listed())
                .map(|branch| BranchJson::new(branch, summary.session.current_branch))
                .collect(),
            messages: &messages,
        };
        let printed = console.print_json(&document);
        return messages.error.into_inner().map_or(printed, Err);
    }
    console.print(&header(&summary, &branches, &branch, context))?;
    if args.all {
        return for_each_batch(store, &branch, 1, end, |batch| {
            print_messages(&batch, context).map(|()| true)
        });
    }
    let messages = last_messages(store, &branch, end, args.limit.unwrap_or(PAGE))?;
    let earlier = messages.first().map_or(0, |message| message.seq.saturating_sub(1));
    if earlier > 0 {
        let dim = console.palette.dim;
        console.print(&format!(
            "\n{dim}... {earlier} earlier: hfs session show {} --at {earlier}, or --all{dim:#}\n",
            summary.session.id.short().shown()
        ))?;
    }
    print_messages(&messages, context)
}

/// The messages of a branch from `first` to `end`, which are read while they are serialized.
struct StreamedMessages<'a> {
    store: &'a dyn Store,
    branch: &'a Branch,
    first: Seq,
    end: Seq,
    /// Why the messages could not be read to the end.
    error: RefCell<Option<CliError>>,
}

impl Serialize for StreamedMessages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let mut failed = None;
        let read = for_each_batch(self.store, self.branch, self.first, self.end, |batch| {
            for message in &batch {
                if let Err(error) = list.serialize_element(&MessageJson::from(message)) {
                    failed = Some(error);
                    break;
                }
            }
            Ok(failed.is_none())
        });
        if let Some(error) = failed {
            return Err(error);
        }
        if let Err(error) = read {
            self.error.replace(Some(error));
            return Err(S::Error::custom("the messages cannot be read"));
        }
        list.end()
    }
}

/// The last `count` messages up to number `end`.
fn last_messages(store: &dyn Store, branch: &Branch, end: Seq, count: u32) -> Result<Vec<Message>, CliError> {
    Ok(store.read_messages(branch.id, MessageRange::Before(end.saturating_add(1), count))?)
}

/// Reads the messages from `first` to `end` in batches, so that a long session does not fill the memory. Stops when
/// `handle` returns false.
fn for_each_batch(
    store: &dyn Store,
    branch: &Branch,
    first: Seq,
    end: Seq,
    mut handle: impl FnMut(Vec<Message>) -> Result<bool, CliError>,
) -> Result<(), CliError> {
    let mut next = first;
    while next <= end {
        let mut batch = store.read_messages(branch.id, MessageRange::From(next, BATCH))?;
        batch.retain(|message| message.seq <= end);
        let Some(last) = batch.last() else { break };
        next = last.seq + 1;
        if !handle(batch)? {
            break;
        }
    }
    Ok(())
}

fn print_messages(messages: &[Message], context: &Context) -> Result<(), CliError> {
    let detail = Detail { full: context.console.options.verbose, now: context.now() };
    let mut text = String::new();
    for message in messages {
        text.push('\n');
        text += &message::render(message, detail, &context.console.palette);
    }
    context.console.print(&text)
}

fn header(summary: &SessionSummary, branches: &[Branch], shown: &Branch, context: &Context) -> String {
    let strong = context.console.palette.strong;
    let dim = context.console.palette.dim;
    let session = &summary.session;
    let name = sanitize::line(&session.name);
    let mut text = format!("{strong}{name}{strong:#}  {dim}{}{dim:#}\n", session.id.short());
    let mut facts = vec![
        format!("{} message{}", shown.head, if shown.head == 1 { "" } else { "s" }),
        format!("created {}", context.format_time(session.created_at)),
        format!("last changed {}", context.format_time(session.updated_at)),
    ];
    if let Some(project) = &session.project {
        facts.push(sanitize::line(&project.directory));
    }
    if let Some(origin) = &session.origin {
        facts.push(format!("from {}", sanitize::line(&origin.format)));
    }
    if session.trashed_at.is_some() {
        facts.push("in the trash".into());
    }
    text += &format!("{dim}{}{dim:#}\n", facts.join(" · "));
    let listed: Vec<&Branch> = branches.iter().filter(|branch| branch.is_listed()).collect();
    if listed.len() > 1 || shown.id != session.current_branch {
        let names: Vec<String> = listed
            .iter()
            .map(|branch| {
                let name = sanitize::line(&branch.name);
                let name = if branch.undone { format!("{name} (undone)") } else { name };
                if branch.id == shown.id { format!("[{name}]") } else { name }
            })
            .collect();
        text += &format!("{dim}branches: {}{dim:#}\n", names.join(" "));
    }
    text
}

fn rename(reference: &str, name: &str, context: &Context) -> Result<(), CliError> {
    let name = sanitize::line(name).split_whitespace().collect::<Vec<_>>().join(" ");
    if name.is_empty() {
        return Err(CliError::new(ErrorKind::Invalid, "a session's name cannot be empty"));
    }
    let id = context.session(reference)?;
    context.store()?.rename_session(id, &name, false, context.now())?;
    report(id, &format!("renamed {} to {name:?}", id.short().shown()), context)
}

fn purge(reference: &str, context: &Context) -> Result<(), CliError> {
    let store = context.store()?;
    // The session may be in the trash already.
    let id = context.session_or_trashed(reference)?;
    let name = sanitize::line(&store.get_session(id)?.session.name);
    context.console.confirm_irreversible(&format!("{name:?} is deleted permanently"))?;
    let agents = agents_of(id, context)?;
    let purged = purge_with_copies(context, |store| store.purge_session(id))?;
    if context.console.options.json {
        let document = json!({ "purged": id.to_string(), "text_remains": purged.text_remains });
        return context.console.print_json(&document);
    }
    context.console.note(&format!(
        "deleted {name:?} permanently; exports, backups and handed-over transcripts of it are files of yours, and stay"
    ));
    if !agents.is_empty() {
        context.console.note(&format!(
            "{} took part in it, and may keep transcripts of their own, which hfs does not remove",
            agents.iter().map(|agent| sanitize::line(agent)).collect::<Vec<_>>().join(", ")
        ));
    }
    Ok(())
}

/// The agents that are programs and have sessions of their own for this session, in the order of their first one.
fn agents_of(session: SessionId, context: &Context) -> Result<Vec<String>, CliError> {
    let branches = context.store()?.list_branches(session)?;
    let mut agents: Vec<String> = Vec::new();
    for own in AgentSessionList::new(&context.home).read()? {
        let is_of_session = branches.iter().any(|branch| branch.id.to_string() == own.branch);
        if is_of_session && !agents.contains(&own.agent) {
            agents.push(own.agent);
        }
    }
    Ok(agents)
}

/// Purges sessions, and removes what hfs has written of them outside of the store: transcripts for agents, and drafts.
fn purge_with_copies(
    context: &Context,
    purge: impl FnOnce(&dyn Store) -> StoreResult<Purged>,
) -> Result<Purged, CliError> {
    let store = context.store()?.as_ref();
    let transcripts = WrittenTranscripts::of_store(&context.home, store)?;
    let drafts = KeptDrafts::of_store(&context.home, store)?;
    let purged = purge(store)?;
    transcripts.remove_of_purged(store)?;
    drafts.remove_of_purged(store)?;
    if purged.text_remains {
        warn_of_remaining_text(context);
    }
    Ok(purged)
}

fn warn_of_remaining_text(context: &Context) {
    if matches!(wiring::store_url(&context.home, &context.settings), Ok(StoreUrl::Postgres(_))) {
        context.console.note(
            "no command shows the deleted text any more, but the files of the server contain it until it has vacuumed them \
             and written over them, and its backups longer",
        );
    } else {
        context.console.warn(
            "another hfs, such as an export, is still reading the store as it was before: no command shows the deleted \
             text any more, but the store's files contain it until that hfs has finished or, if it is killed, until the \
             next command",
        );
    }
}

fn move_to_trash(reference: &str, context: &Context) -> Result<(), CliError> {
    let store = context.store()?;
    let id = context.session(reference)?;
    store.trash_session(id, context.now())?;
    // No background task purges the trash, so each deletion purges the expired sessions.
    purge_expired_trash(context)?;
    let name = sanitize::line(&store.get_session(id)?.session.name);
    let short = id.short();
    let text = format!("moved {name:?} to the trash; restore it with: hfs session restore {}", short.shown());
    report(id, &text, context)
}

fn restore(reference: &str, context: &Context) -> Result<(), CliError> {
    let id = context.trashed_session(reference)?;
    let store = context.store()?;
    store.restore_session(id, context.now())?;
    let name = sanitize::line(&store.get_session(id)?.session.name);
    report(id, &format!("restored {name:?}"), context)
}

/// Purges sessions that have been in the trash for longer than the retention time. Returns their number.
pub fn purge_expired_trash(context: &Context) -> Result<u64, CliError> {
    const MICROS_PER_DAY: i64 = 86_400_000_000;
    let Some(days) = context.settings.trash_retention_days else { return Ok(0) };
    let retention = i64::from(days).saturating_mul(MICROS_PER_DAY);
    let before = Timestamp::from_micros(context.now().as_micros().saturating_sub(retention));
    let before = before.unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(purge_with_copies(context, |store| store.purge_trash(before))?.sessions)
}

fn report(id: SessionId, text: &str, context: &Context) -> Result<(), CliError> {
    if context.console.options.json {
        let summary = context.store()?.get_session(id)?;
        return context.console.print_json(&json!({ "session": SessionJson::from(&summary) }));
    }
    context.console.note(text);
    Ok(())
}
