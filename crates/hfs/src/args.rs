//! The command line: one definition that parsing, help and completions share.

use std::path::PathBuf;

use clap::{Args, ColorChoice, Parser, Subcommand};

use crate::commands::{
    branch, chat, checkpoint, completions, config, export, history, import, plugin, resume, rewind, run,
    search, session, store,
};

const EXAMPLES: &str = "\
Examples:
  hfs chat \"Why does the login fail?\"   ask; the reply streams, both are saved
  hfs chat -c \"And on Windows?\"         go on with this project's newest session
  hfs import ~/.claude                  take in what another tool wrote
  hfs search \"connection refused\"       find it again, in everything ever said
  hfs session list                      this project's sessions, newest first

A session is named by its name, its short id or the beginning of one, or @ for the newest, @-1 for the one before.";

/// Keeps conversations with LLM agents: durable, searchable, yours.
#[derive(Debug, Parser)]
#[command(name = "hfs", version, about, after_help = EXAMPLES, arg_required_else_help = false)]
#[command(subcommand_value_name = "COMMAND", disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// Go on with this project's newest session
    #[arg(short = 'c', long = "continue")]
    pub continue_newest: bool,
    /// Who answers in the terminal app.
    #[command(flatten)]
    pub answering: Answering,
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Keep everything in DIR [default: $HFS_HOME, else ~/.hfs]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Use this store, such as sqlite:/data/hfs.db [env: HFS_STORE]
    #[arg(long, global = true, value_name = "URL")]
    pub store: Option<String>,
    /// Start without any plugin
    #[arg(long, global = true)]
    pub no_plugins: bool,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Say nothing but what was asked for, and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Show everything, and log to the home directory
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN")]
    pub color: Option<ColorChoice>,
    /// Who answers, taken from the command that has these options.
    #[arg(skip)]
    pub answering: Answering,
}

/// Options of the commands that ask an agent.
#[derive(Debug, Clone, Default, Args)]
pub struct Answering {
    /// Who answers: assistant, triads or recall
    #[arg(long, value_name = "AGENT", value_parser = ["assistant", "triads", "recall"])]
    pub agent: Option<String>,
    /// Have triads answer: small, standard, or a file of your own
    #[arg(long, value_name = "NAME|FILE")]
    pub triads: Option<String>,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open a session in the terminal app
    Resume(resume::Resume),
    /// Send one message and see the reply
    Chat(chat::Chat),
    /// List, show, rename, delete and restore sessions
    #[command(alias = "sessions", subcommand_required = true)]
    Session(session::Session),
    /// List, make, switch, rename and compare branches
    #[command(alias = "branches", subcommand_required = true)]
    Branch(branch::BranchArgs),
    /// List, make, show, pin, delete and compare checkpoints
    #[command(alias = "checkpoints", subcommand_required = true)]
    Checkpoint(checkpoint::CheckpointArgs),
    /// Go back to a checkpoint, on a new branch; nothing is lost
    Rewind(rewind::Rewind),
    /// Take back the newest change of a session's structure
    Undo(history::Target),
    /// Do again what was taken back
    Redo(history::Target),
    /// List the changes of a session's structure
    Log(history::Log),
    /// List runs and show what agents did in them
    #[command(alias = "runs", subcommand_required = true)]
    Run(run::RunArgs),
    /// Find words in everything that was ever said
    Search(search::Search),
    /// Write a session to a file: JSON, Markdown or HTML
    Export(export::Export),
    /// Take in transcripts of other tools, and exported sessions
    Import(import::Import),
    /// List plugins, decide about them, run their commands
    #[command(alias = "plugins", subcommand_required = true)]
    Plugin(plugin::PluginArgs),
    /// Read and change settings
    #[command(subcommand_required = true)]
    Config(config::Config),
    /// Look after the store in which everything is kept
    #[command(subcommand_required = true)]
    Store(store::Store),
    /// Check that everything is in order, and say what is not
    Doctor,
    /// Print the completions of a shell
    Completions(completions::Completions),
}

impl Command {
    /// The options that say who answers, where it has them.
    pub fn answering(&self) -> Option<&Answering> {
        match self {
            Self::Resume(resume) => Some(&resume.answering),
            Self::Chat(chat) => Some(&chat.answering),
            _ => None,
        }
    }

    /// Whether it can do its work without a configuration that makes sense.
    pub const fn bears_bad_config(&self) -> bool {
        matches!(self, Self::Doctor | Self::Completions(_))
            || matches!(self, Self::Config(config) if config.bears_bad_config())
    }
}

impl Global {
    /// The settings that options set: the key, the option, the value.
    pub fn settings(&self) -> Vec<(&'static str, &'static str, String)> {
        let store = self.store.clone().map(|url| ("store.url", "--store", url));
        let color = self.color.map(|choice| ("color", "--color", choice.to_string()));
        store.into_iter().chain(color).chain(self.answering.settings()).collect()
    }
}

impl Answering {
    /// These options, and where they say nothing, those of `before`, which stood before the command.
    pub fn or(&self, before: &Self) -> Self {
        let either = |own: &Option<String>, other: &Option<String>| own.as_ref().or(other.as_ref()).cloned();
        Self { agent: either(&self.agent, &before.agent), triads: either(&self.triads, &before.triads) }
    }

    /// The settings that these options set. Whoever names triads wants them to answer.
    fn settings(&self) -> impl Iterator<Item = (&'static str, &'static str, String)> {
        let agent = self.agent.clone().map(|agent| ("agent", "--agent", agent));
        let implied = self.triads.as_ref().map(|_| ("agent", "--triads", "triads".to_owned()));
        let triads = self.triads.clone().map(|text| ("triads", "--triads", text));
        agent.or(implied).into_iter().chain(triads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
