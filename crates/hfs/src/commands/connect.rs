//! `hfs connect` and `hfs disconnect`: wires `hfs mcp` into the configurations of agents.

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use hfs_core::{DiffLine, ErrorKind, diff_lines};
use hfs_store::StoreUrl;
use serde::Serialize;
use serde_json::json;

use crate::config::{Key, ValueOrigin};
use crate::connections::{CLIENTS, Client, ConfigEdit, Connection, Server, State};
use crate::context::Context;
use crate::output::console::Palette;
use crate::output::error::{CliError, ErrorDocument, Outcome};
use crate::output::sanitize;
use crate::output::table::Table;

const CONNECT_EXAMPLES: &str = "\
Examples:
  hfs connect                       the agents that were found, and whether they start hfs
  hfs connect claude codex          shows what changes in their configurations, and asks
  hfs connect opencode --dry-run    only shows it
  hfs connect claude --write --yes  also lets Claude Code save checkpoints and notes; asks nothing
  hfs disconnect                    restores the configurations of all agents

Once it is connected, an agent finds what was said in other sessions, with any agent. `hfs mcp --help` names the tools.";

const DISCONNECT_EXAMPLES: &str = "\
Examples:
  hfs disconnect claude    restores the configuration of Claude Code
  hfs disconnect --yes     of all agents, without a question

A configuration that has not changed since becomes what it was before, byte by byte. From one that has changed, only the \
entry of hfs is removed.";

#[derive(Debug, clap::Args)]
#[command(after_help = CONNECT_EXAMPLES)]
pub struct ConnectArgs {
    /// The agents to connect; without one, lists those that were found
    #[arg(value_name = "NAME", value_parser = client_names())]
    names: Vec<String>,
    /// Also offer the tools that save: checkpoint and note
    #[arg(long, requires = "names")]
    write: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = DISCONNECT_EXAMPLES)]
pub struct DisconnectArgs {
    /// The agents to disconnect [default: all]
    #[arg(value_name = "NAME", value_parser = client_names())]
    names: Vec<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

#[derive(Debug, clap::Args)]
struct ChangeArgs {
    /// Do not ask
    #[arg(short = 'y', long)]
    yes: bool,
    /// Only show what would change
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

fn client_names() -> PossibleValuesParser {
    PossibleValuesParser::new(CLIENTS.iter().map(|client| client.name))
}

/// An agent as `--json` prints it. Scripts depend on the fields.
#[derive(Debug, Serialize)]
struct AgentJson {
    name: &'static str,
    title: &'static str,
    /// Whether the agent seems to be installed.
    found: bool,
    file: String,
    /// `connected`, `not_connected`, `different` or `unreadable`.
    state: &'static str,
    /// What the configuration starts, if it has an entry for hfs.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Whether the file was changed, or would be by a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorDocument>,
}

impl AgentJson {
    fn new(connection: &Connection, state: &State, server: &Server) -> Self {
        let (command, reason) = match state {
            State::NotConnected => (None, None),
            State::Connected => (Some(server.command()), None),
            State::Different(entry) => (Some(entry.command()), None),
            State::Unreadable(reason) => (None, Some(reason.clone())),
        };
        Self {
            name: connection.client.name,
            title: connection.client.title,
            found: connection.is_found,
            file: connection.file.display().to_string(),
            state: state.as_str(),
            command,
            reason,
            changed: None,
            error: None,
        }
    }
}

pub fn connect(args: &ConnectArgs, context: &Context) -> Result<Outcome, CliError> {
    let server = server(args.write, context)?;
    if args.names.is_empty() {
        list(&server, context)?;
        return Ok(Outcome::Done);
    }
    let connections = find(&args.names, context)?;
    change_all(&connections, &server, &args.change, context, |connection| connection.plan_connect(&server))
}

pub fn disconnect(args: &DisconnectArgs, context: &Context) -> Result<Outcome, CliError> {
    let server = server(false, context)?;
    let mut connections = find(&args.names, context)?;
    if !args.change.dry_run {
        forget_removed(&connections, &server)?;
    }
    if args.names.is_empty() {
        connections.retain(|connection| match connection.state(&server) {
            State::Connected => true,
            State::Different(entry) => entry.is_of_hfs(),
            State::NotConnected | State::Unreadable(_) => false,
        });
        if connections.is_empty() && !context.console.options.json {
            context.console.note("no agent is connected");
        }
    }
    change_all(&connections, &server, &args.change, context, Connection::plan_disconnect)
}

/// Removes the copies of configurations from which the user or the agent has removed the entry of hfs.
fn forget_removed(connections: &[Connection], server: &Server) -> Result<(), CliError> {
    for connection in connections {
        let is_removed = match connection.state(server) {
            State::NotConnected => true,
            State::Different(entry) => !entry.is_of_hfs(),
            State::Connected | State::Unreadable(_) => false,
        };
        if is_removed {
            connection.forget()?;
        }
    }
    Ok(())
}

/// The agents with these names, or all of them if there are no names.
fn find(names: &[String], context: &Context) -> Result<Vec<Connection>, CliError> {
    let is_named = |client: &&Client| names.is_empty() || names.iter().any(|name| name == client.name);
    let clients = CLIENTS.iter().filter(is_named);
    clients.map(|client| Connection::find(client, &context.environment, &context.home)).collect()
}

fn list(server: &Server, context: &Context) -> Result<(), CliError> {
    let connections = find(&[], context)?;
    let listed: Vec<(&Connection, State)> =
        connections.iter().map(|connection| (connection, connection.state(server))).collect();
    let console = &context.console;
    if console.options.json {
        let rows = listed.iter().map(|(connection, state)| AgentJson::new(connection, state, server));
        let rows: Vec<AgentJson> = rows.collect();
        return console.print_json(&json!({ "agents": rows }));
    }
    let (found, others): (Vec<_>, Vec<_>) = listed.iter().partition(|(connection, _)| connection.is_found);
    if !found.is_empty() {
        let mut table = Table::new(&["NAME", "AGENT", "STATE", "CONFIGURATION"], 3);
        for (connection, state) in found {
            table.row(vec![
                connection.client.name.to_owned(),
                connection.client.title.to_owned(),
                describe(state).to_owned(),
                connection.shown_file(),
            ]);
        }
        console.print(&table.render(&console.palette, console.width()))?;
    }
    for (_, state) in &listed {
        if let State::Unreadable(reason) = state {
            console.warn(&sanitize::line(reason));
        }
    }
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|(connection, _)| connection.client.name).collect();
        console.note(&format!("not found, but can be connected: {}", names.join(", ")));
    }
    Ok(())
}

const fn describe(state: &State) -> &'static str {
    match state {
        State::NotConnected => "not connected",
        State::Connected => "connected",
        State::Different(_) => "connected otherwise",
        State::Unreadable(_) => "unreadable",
    }
}

/// Changes the configurations one after another. A failure of one does not stop the others.
fn change_all(
    connections: &[Connection],
    server: &Server,
    args: &ChangeArgs,
    context: &Context,
    plan: impl Fn(&Connection) -> Result<Option<ConfigEdit>, CliError>,
) -> Result<Outcome, CliError> {
    let console = &context.console;
    let mut rows = Vec::new();
    let mut failure = None;
    for connection in connections {
        let result = plan(connection).and_then(|edit| match edit {
            Some(edit) => change(connection, &edit, args, context),
            None => {
                report_unchanged(connection, server, context);
                Ok(false)
            }
        });
        let mut row = AgentJson::new(connection, &connection.state(server), server);
        match result {
            Ok(changed) => row.changed = Some(changed),
            // A single error is the error of the command.
            Err(error) if connections.len() == 1 => return Err(error),
            Err(error) => {
                failure.get_or_insert(error.kind());
                if console.options.json {
                    row.error = Some(error.document());
                } else {
                    console.print_error(&error.document());
                }
            }
        }
        rows.push(row);
    }
    if console.options.json {
        console.print_json(&json!({ "agents": rows }))?;
    }
    Ok(failure.map_or(Outcome::Done, Outcome::WithFailures))
}

fn report_unchanged(connection: &Connection, server: &Server, context: &Context) {
    if context.console.options.json {
        return;
    }
    let title = connection.client.title;
    let state = match connection.state(server) {
        State::Connected => "is connected already",
        State::Different(_) => "has a server of this name that hfs has not added; it was left as it is",
        State::NotConnected | State::Unreadable(_) => "is not connected",
    };
    context.console.note(&format!("{title} {state}"));
}

/// Shows a change, asks, and carries it out. Returns whether the file has changed, or would change.
fn change(
    connection: &Connection,
    edit: &ConfigEdit,
    args: &ChangeArgs,
    context: &Context,
) -> Result<bool, CliError> {
    let console = &context.console;
    let title = connection.client.title;
    if !console.options.json {
        console.print(&render(connection, edit, &console.palette))?;
    }
    if args.dry_run {
        return Ok(true);
    }
    if !args.yes {
        if !console.is_interactive() {
            return Err(CliError::with_hint(
                ErrorKind::Denied,
                format!("the configuration of {title} was not changed: there is no terminal to ask on"),
                "--dry-run shows the change, --yes makes it",
            ));
        }
        let question = match (&edit.before, &edit.after) {
            (None, _) => "Create this file?",
            (_, None) => "Remove this file, which did not exist before?",
            (Some(_), Some(_)) => "Change this file?",
        };
        if !console.ask(question)? {
            return Err(CliError::new(
                ErrorKind::Denied,
                format!("the configuration of {title} was not changed"),
            ));
        }
    }
    connection.apply(edit, &context.home)?;
    if !console.options.json {
        let note = if edit.is_connecting() {
            format!(
                "{title} is connected the next time it starts; `hfs disconnect {}` undoes this",
                connection.client.name
            )
        } else {
            format!("{title} is disconnected")
        };
        console.note(&note);
    }
    Ok(true)
}

/// The difference, with a few unchanged lines around it.
fn render(connection: &Connection, edit: &ConfigEdit, palette: &Palette) -> String {
    const CONTEXT: usize = 3;
    let Palette { heading, good, error, dim, .. } = *palette;
    let lines =
        diff_lines(edit.before.as_deref().unwrap_or_default(), edit.after.as_deref().unwrap_or_default());
    let is_change = |line: &DiffLine<'_>| !matches!(line, DiffLine::Same(_));
    let first = lines.iter().position(is_change).unwrap_or_default().saturating_sub(CONTEXT);
    let end = lines.iter().rposition(is_change).map_or(0, |last| last + 1 + CONTEXT);
    // The lines around the change may contain keys.
    let shown = |line: &str| sanitize::block(&hfs_secrets::mask(line)).trim_end().to_owned();
    let mut text = format!("{heading}{}: {}{heading:#}\n", connection.client.title, connection.shown_file());
    for line in lines.iter().take(end).skip(first) {
        text.push_str(&match line {
            DiffLine::Same(line) => format!("{dim}  {}{dim:#}\n", shown(line)),
            DiffLine::Added(line) => format!("{good}+ {}{good:#}\n", shown(line)),
            DiffLine::Removed(line) => format!("{error}- {}{error:#}\n", shown(line)),
        });
    }
    text
}

/// The server that agents are to start: this program, with the options that select this home and this store.
fn server(write: bool, context: &Context) -> Result<Server, CliError> {
    let environment = &context.environment;
    let program = environment
        .program
        .clone()
        .ok_or_else(|| CliError::new(ErrorKind::Internal, "the path of the running program is not known"))?;
    let mut arguments = vec!["mcp".to_owned()];
    if write {
        arguments.push("--write".to_owned());
    }
    let home = absolute(context.home.root().to_owned());
    if environment.user_home.as_ref().map(|user| absolute(user.join(".hfs"))).as_ref() != Some(&home) {
        arguments.extend(["--home".to_owned(), home.display().to_string()]);
    }
    // A store from the configuration is found there by the server, too.
    if let Some(setting) = context.config.get(Key::StoreUrl)
        && matches!(setting.origin, ValueOrigin::CommandLine(_) | ValueOrigin::Variable(_))
    {
        let url = setting.value.to_string();
        if hfs_secrets::mask_addresses(&url) != url {
            return Err(CliError::with_hint(
                ErrorKind::Invalid,
                "the address of the store contains a password, which is not written into other programs' configurations",
                "set it with `hfs config set store.url`, where `hfs mcp` finds it",
            ));
        }
        arguments.extend(["--store".to_owned(), with_absolute_path(&url, &environment.working_directory)?]);
    }
    Ok(Server { program: installed_path(program, context), arguments })
}

/// The path of the program in a folder of `PATH`, where a later version will be too, if there is one.
fn installed_path(program: PathBuf, context: &Context) -> PathBuf {
    let folders = context.environment.get("PATH").unwrap_or_default();
    let candidates =
        std::env::split_paths(folders).filter(|folder| folder.is_absolute()).map(|folder| folder.join("hfs"));
    let is_this = |candidate: &PathBuf| candidate.canonicalize().is_ok_and(|found| found == program);
    candidates.into_iter().find(is_this).unwrap_or(program)
}

fn absolute(path: PathBuf) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(&path)).unwrap_or(path)
}

/// The address of a store, with the path of a file that does not depend on the working directory.
fn with_absolute_path(url: &str, working_directory: &Path) -> Result<String, CliError> {
    Ok(match url.parse::<StoreUrl>()? {
        StoreUrl::Sqlite(path) => format!("sqlite:{}", working_directory.join(path).display()),
        StoreUrl::Memory => {
            return Err(CliError::with_hint(
                ErrorKind::Invalid,
                "an agent cannot use a store in memory, which ends with the process",
                "use a store in a file, such as --store sqlite:PATH",
            ));
        }
        _ => url.to_owned(),
    })
}
