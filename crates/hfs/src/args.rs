//! The command line: one clap definition for parsing, help and shell completions.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{RangedI64ValueParser, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind as ClapErrorKind};
use clap::{Args, ColorChoice, CommandFactory, Parser, Subcommand};
use hfs_core::Timestamp;
use jiff::Zoned;
use unicode_width::UnicodeWidthStr;

use crate::commands::{
    acp, agents, branch, chat, checkpoint, compact, completions, config, connect, export, handoff, history,
    import, mcp, permissions, plugin, recall, run, search, session, start, stats, store, trust, watch,
};
use crate::config::{AgentName, Key, Override};
use crate::output::error::CliError;
use crate::output::time_format;
use crate::permissions::AllowedKinds;

/// Maximum width of help texts, in columns.
const MAX_HELP_WIDTH: usize = 100;

const EXAMPLES: &str = "\
Examples:
  hfs chat \"Why does the login fail?\"   send a message; the reply streams, and both are saved
  hfs chat -c \"And on Windows?\"         continue this project's newest session
  hfs import ~/.claude                  import the sessions of another tool
  hfs search \"connection refused\"       search every saved message
  hfs session list                      this project's sessions, newest first

A session is given as its name, its short id or a prefix of it, or @ for the newest, @-1 for the one before.";

/// The version, in optimized builds with the commit and its date; see `build.rs`.
const VERSION: &str = match option_env!("HFS_BUILD_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// Save, search and continue conversations with LLM agents.
#[derive(Debug, Parser)]
#[command(name = "hfs", version = VERSION, about, after_help = EXAMPLES, arg_required_else_help = false)]
#[command(subcommand_value_name = "COMMAND", disable_help_subcommand = true, max_term_width = MAX_HELP_WIDTH)]
pub struct Cli {
    /// Continue this project's newest session
    #[arg(short = 'c', long = "continue")]
    pub continue_newest: bool,
    /// Agent of the terminal app.
    #[command(flatten)]
    pub agent_args: AgentArgs,
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// Command to run. Without a command, the terminal app opens.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Parses the command line. The error for an unknown command suggests commands and settings of that name.
///
/// # Errors
/// As clap, including for `--help` and `--version`.
pub fn parse<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<Cli, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    Cli::try_parse_from(&arguments).map_err(|mut error| {
        if error.kind() == ClapErrorKind::DisplayHelp {
            let command = with_aligned_examples(Cli::command(), help_width());
            return command.try_get_matches_from(&arguments).err().unwrap_or(error);
        }
        let unknown = match error.get(ContextKind::InvalidSubcommand) {
            Some(ContextValue::String(word)) => Some(word.clone()),
            _ => None,
        };
        if let Some(option) = unknown.as_deref().and_then(familiar_option)
            && let Some(at) = arguments.iter().position(|argument| argument.to_str() == unknown.as_deref())
        {
            let (before, after) = arguments.split_at(at);
            let meant = before.iter().chain(after.iter().skip(1)).cloned().chain([option.into()]);
            return parse(meant.collect::<Vec<_>>()).err().unwrap_or(error);
        }
        if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
            && error.get(ContextKind::SuggestedSubcommand).is_none()
        {
            let tips = commands_named(word).into_iter().map(StyledStr::from).collect::<Vec<_>>();
            if !tips.is_empty() {
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
            }
        }
        error
    })
}

/// The option for a word that is a command of other programs, as in `hfs help rewind`.
fn familiar_option(word: &str) -> Option<&'static str> {
    match word {
        "help" => Some("--help"),
        "version" => Some("--version"),
        _ => None,
    }
}

/// Columns of a help text, as clap has it.
fn help_width() -> usize {
    let columns = || std::env::var("COLUMNS").ok()?.parse().ok();
    let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    width.or_else(columns).unwrap_or(MAX_HELP_WIDTH).min(MAX_HELP_WIDTH)
}

/// Wraps the descriptions of examples in their column: clap would continue them at the left edge.
fn with_aligned_examples(command: clap::Command, width: usize) -> clap::Command {
    let aligned = command.get_after_help().map(|help| {
        let lines = help.to_string();
        lines.lines().map(|line| align_example(line, width)).collect::<Vec<_>>().join("\n")
    });
    let command = match aligned {
        Some(help) => command.after_help(help),
        None => command,
    };
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |subcommand| with_aligned_examples(subcommand, width))
    })
}

/// Wraps a line such as `  hfs undo   reverse the newest operation` in the column of its description.
fn align_example(line: &str, width: usize) -> String {
    /// A narrower column would consist of single words.
    const MIN_COLUMN: usize = 16;
    let example = line.strip_prefix("  ").filter(|_| line.width() > width);
    let Some((command, about)) = example.and_then(|example| example.split_once("  ")) else {
        return line.to_owned();
    };
    let about = about.trim_start();
    let column = line.width() - about.width();
    if command.is_empty() || column + MIN_COLUMN > width {
        return line.to_owned();
    }
    let mut text = line.get(..line.len() - about.len()).unwrap_or_default().to_owned();
    let mut used = column;
    for word in about.split(' ') {
        if used > column && used + 1 + word.width() > width {
            text.push('\n');
            text.push_str(&" ".repeat(column));
            used = column;
        } else if used > column {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += word.width();
    }
    text
}

/// What a user may have meant by the name of a command that does not exist: a command of another, such as `session list` by
/// `list`, or a setting.
fn commands_named(word: &str) -> Vec<String> {
    let cli = Cli::command();
    let mut groups = Vec::new();
    for group in cli.get_subcommands() {
        let mut inner = group.get_subcommands();
        if let Some(command) = inner.find(|command| {
            command.get_name() == word || command.get_all_aliases().any(|alias| alias == word)
        }) {
            groups.push(format!("hfs {} {}", group.get_name(), command.get_name()));
        }
    }
    let setting =
        [word, word.strip_suffix('s').unwrap_or(word)].into_iter().find_map(|name| Key::parse(name).ok());
    let setting = setting.map(|key| format!("hfs config set {} VALUE", key.name()));
    groups.into_iter().chain(setting).map(|command| format!("did you mean `{command}`?")).collect()
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Keep all data in DIR [default: $HFS_HOME, else ~/.hfs]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Use this store, for example sqlite:/data/hfs.db [env: HFS_STORE]
    #[arg(long, global = true, value_name = "URL")]
    pub store: Option<String>,
    /// Show the sessions of all owners, as an administrator of a store on PostgreSQL
    #[arg(long, global = true)]
    pub all_owners: bool,
    /// Start without plugins
    #[arg(long, global = true)]
    pub no_plugins: bool,
    /// Trust the .hfs folder of this project as it is now
    #[arg(long, global = true)]
    pub trust: bool,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results and errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print more detail, and write a detailed log to the home directory
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// When to use colors
    #[arg(long, global = true, value_name = "WHEN")]
    pub color: Option<ColorChoice>,
    /// The agent options in effect: those after the command, else those before it.
    #[arg(skip)]
    pub agent_args: AgentArgs,
}

/// The largest page of a list.
pub const MAX_LIMIT: u32 = 10_000;

/// Parses the number of rows of a list.
pub fn limit_parser() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(MAX_LIMIT))
}

/// Parses a time of `--since`.
pub fn parse_since(text: &str) -> Result<Timestamp, CliError> {
    time_format::parse(text, &Zoned::now()).map_err(|error| CliError::Usage {
        message: format!("{text:?} is not a valid time"),
        hint: error.to_string(),
    })
}

/// Options of the commands that ask an agent.
#[derive(Debug, Clone, Default, Args)]
pub struct AgentArgs {
    /// The agent that replies: assistant, triads, recall, or a program such as claude or codex
    #[arg(long, value_name = "AGENT")]
    pub agent: Option<String>,
    /// Reply with triads: small, standard, mixed (of the installed agents), or a configuration file
    #[arg(long, value_name = "NAME|FILE")]
    pub triads: Option<String>,
    /// The model that replies, such as claude-sonnet-4-6 or ollama/llama3
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// What a program that replies may do without asking: read, edit, delete, move, search, execute, think, fetch, or all
    #[arg(long, value_name = "KINDS", value_parser = AllowedKinds::parse)]
    pub allow: Option<AllowedKinds>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open a session in the terminal app
    Resume(start::ResumeArgs),
    /// Send one message and print the reply
    Chat(chat::ChatArgs),
    /// Let the model continue from a summary of a session; all messages stay saved
    Compact(compact::CompactArgs),
    /// List, show, rename, delete and restore sessions
    #[command(alias = "sessions", subcommand_required = true)]
    Session(session::SessionArgs),
    /// List, create, switch, rename and compare branches
    #[command(alias = "branches", subcommand_required = true)]
    Branch(branch::BranchArgs),
    /// List, create, show, pin, delete and compare checkpoints
    #[command(alias = "checkpoints", subcommand_required = true)]
    Checkpoint(checkpoint::CheckpointArgs),
    /// Go back to a checkpoint on a new branch; the old branch is kept
    Rewind(history::RewindArgs),
    /// Undo the newest operation on a session, such as a rewind, a rename or a deletion
    Undo(history::UndoArgs),
    /// Redo the operation that was undone last
    Redo(history::UndoArgs),
    /// List the operations on a session
    Log(history::LogArgs),
    /// List runs and show what the agents did in them
    #[command(alias = "runs", subcommand_required = true)]
    Run(run::RunArgs),
    /// Search every saved message
    Search(search::SearchArgs),
    /// Find the passages of saved sessions that answer a question
    Recall(recall::RecallArgs),
    /// Show tokens, cost and work by day, project, agent, model or tool
    Stats(stats::StatsArgs),
    /// Write a session to a file: JSON, Markdown, HTML, or another tool's transcript
    Export(export::ExportArgs),
    /// Place a session where another tool continues it, and print the command
    Handoff(handoff::HandoffArgs),
    /// Import transcripts of other tools, and exported sessions
    Import(import::ImportArgs),
    /// Import what other tools write, as they write it
    Watch(watch::WatchArgs),
    /// List agents that are programs of their own, such as Claude Code, and check one
    Agents(agents::AgentsArgs),
    /// Let agents search and read saved sessions: a Model Context Protocol server on standard input and output
    Mcp(mcp::McpArgs),
    /// Let agents such as Claude Code search saved sessions: adds `hfs mcp` to their configurations
    Connect(connect::ConnectArgs),
    /// Remove hfs from the configurations of agents
    Disconnect(connect::DisconnectArgs),
    /// List and revoke what agents may always do
    #[command(subcommand_required = true)]
    Permissions(permissions::PermissionsArgs),
    /// Be the agent of an editor, over the Agent Client Protocol on standard input and output
    Acp(acp::AcpArgs),
    /// List, approve, run, install and write plugins
    #[command(alias = "plugins", subcommand_required = true)]
    Plugin(plugin::PluginArgs),
    /// Show and change settings
    #[command(subcommand_required = true)]
    Config(config::ConfigArgs),
    /// Inspect, verify, repair and back up the store
    #[command(subcommand_required = true)]
    Store(store::StoreArgs),
    /// Show what this project's .hfs folder would change; list and revoke decisions about such folders
    Trust(trust::TrustArgs),
    /// Check the installation and report problems
    Doctor,
    /// Print shell completions
    Completions(completions::CompletionsArgs),
}

impl Command {
    /// The agent options of the commands that have them.
    pub const fn agent_args(&self) -> Option<&AgentArgs> {
        match self {
            Self::Resume(args) => Some(&args.agent_args),
            Self::Chat(args) => Some(&args.agent_args),
            Self::Acp(args) => Some(&args.agent_args),
            Self::Compact(_)
            | Self::Session(_)
            | Self::Branch(_)
            | Self::Checkpoint(_)
            | Self::Rewind(_)
            | Self::Undo(_)
            | Self::Redo(_)
            | Self::Log(_)
            | Self::Run(_)
            | Self::Search(_)
            | Self::Recall(_)
            | Self::Stats(_)
            | Self::Export(_)
            | Self::Handoff(_)
            | Self::Import(_)
            | Self::Watch(_)
            | Self::Agents(_)
            | Self::Mcp(_)
            | Self::Connect(_)
            | Self::Disconnect(_)
            | Self::Permissions(_)
            | Self::Plugin(_)
            | Self::Config(_)
            | Self::Store(_)
            | Self::Trust(_)
            | Self::Doctor
            | Self::Completions(_) => None,
        }
    }

    /// Whether the command is about sessions that exist already, so that it has no use for a new store.
    pub const fn needs_sessions(&self) -> bool {
        matches!(
            self,
            Self::Compact(_)
                | Self::Session(_)
                | Self::Branch(_)
                | Self::Checkpoint(_)
                | Self::Rewind(_)
                | Self::Undo(_)
                | Self::Redo(_)
                | Self::Log(_)
                | Self::Run(_)
                | Self::Search(_)
                | Self::Recall(_)
                | Self::Stats(_)
                | Self::Export(_)
                | Self::Handoff(_)
        )
    }

    /// Whether the command asks about a project's folder that is new.
    pub const fn asks_for_trust(&self) -> bool {
        !matches!(
            self,
            Self::Trust(_)
                | Self::Doctor
                | Self::Completions(_)
                | Self::Mcp(_)
                | Self::Acp(_)
                | Self::Connect(_)
                | Self::Disconnect(_)
        )
    }

    /// Whether the command runs even if the configuration is invalid.
    pub const fn works_without_config(&self) -> bool {
        matches!(self, Self::Doctor | Self::Trust(_) | Self::Completions(_))
            || matches!(self, Self::Config(args) if args.works_without_config())
    }
}

impl GlobalArgs {
    /// The settings that these options override.
    pub fn overrides(&self) -> Vec<Override> {
        let store =
            self.store.clone().map(|url| Override { key: Key::StoreUrl, option: "--store", text: url });
        let color = self.color.map(|choice| Override {
            key: Key::Color,
            option: "--color",
            text: choice.to_string(),
        });
        store.into_iter().chain(color).chain(self.agent_args.overrides()).collect()
    }
}

impl AgentArgs {
    /// Returns these options, with missing ones taken from `fallback`.
    pub fn or(&self, fallback: &Self) -> Self {
        Self {
            agent: self.agent.clone().or_else(|| fallback.agent.clone()),
            triads: self.triads.clone().or_else(|| fallback.triads.clone()),
            model: self.model.clone().or_else(|| fallback.model.clone()),
            allow: self.allow.clone().or_else(|| fallback.allow.clone()),
        }
    }

    /// `--triads` without `--agent` selects the triads agent.
    fn overrides(&self) -> impl Iterator<Item = Override> {
        let agent = self.agent.clone().map(|agent| (agent, "--agent"));
        let implied = || Some((AgentName::Triads.as_str().to_owned(), "--triads"));
        let agent = agent.or_else(|| self.triads.as_ref().and_then(|_| implied()));
        let agent = agent.map(|(text, option)| Override { key: Key::Agent, option, text });
        let triads = self.triads.clone().map(|text| Override { key: Key::Triads, option: "--triads", text });
        let model = self.model.clone().map(|text| Override { key: Key::Model, option: "--model", text });
        agent.into_iter().chain(triads).chain(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_command_suggests_the_commands_and_settings_of_its_name() {
        let text = |word: &str| parse(["hfs", word]).unwrap_err().to_string();
        assert!(text("list").contains("did you mean `hfs session list`?"), "{}", text("list"));
        assert!(text("list").contains("did you mean `hfs plugin list`?"), "{}", text("list"));
        assert!(text("models").contains("did you mean `hfs config set model VALUE`?"), "{}", text("models"));
        assert!(text("serch").contains("search"), "{}", text("serch"));
        assert!(!text("xyzzy").contains("did you mean"), "{}", text("xyzzy"));
    }

    #[test]
    fn the_clap_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn descriptions_of_examples_are_wrapped_in_their_column() {
        let line = "  hfs undo @   reverse the newest operation of a session";
        assert_eq!(align_example(line, 100), line);
        assert_eq!(
            align_example(line, 40),
            "  hfs undo @   reverse the newest\n               operation of a session"
        );
        assert_eq!(align_example(line, 20), line);
        assert_eq!(align_example("A session is given as its name.", 10), "A session is given as its name.");
        let command = with_aligned_examples(Cli::command(), 80);
        let mut commands = vec![&command];
        while let Some(command) = commands.pop() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = help.lines().filter(|line| line.starts_with("  hfs"));
            let too_wide: Vec<&str> = examples.filter(|line| line.width() > 80).collect();
            assert_eq!(too_wide, [] as [&str; 0], "hfs {}", command.get_name());
            commands.extend(command.get_subcommands());
        }
    }
}
