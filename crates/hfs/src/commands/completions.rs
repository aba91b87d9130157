//! `hfs completions`: shell completions.
//!
//! The printed script asks the binary for the completions of each word, so they include sessions, branches, checkpoints
//! and settings.

use std::ffi::{OsStr, OsString};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use hfs_core::{PageRequest, SessionFilter, SessionId, SessionSummary, plural};

use crate::args::{Cli, GlobalArgs};
use crate::config::{BUILT_IN, Key, ValueType};
use crate::context::Context;
use crate::environment::Environment;
use crate::output::error::{CliError, Outcome};
use crate::output::sanitize;
use crate::wiring::programs::agent_names;

/// The variable with which the script asks for completions; its value is the shell.
const VARIABLE: &str = "HFS_COMPLETE";
/// Maximum number of sessions that are offered.
const SESSIONS: u32 = 50;

const EXAMPLES: &str = "\
Examples:
  bash    hfs completions bash > ~/.local/share/bash-completion/completions/hfs
  zsh     hfs completions zsh > ~/.zfunc/_hfs      (with ~/.zfunc in $fpath)
  fish    hfs completions fish > ~/.config/fish/completions/hfs.fish";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub fn run(args: &CompletionsArgs, context: &Context) -> Result<Outcome, CliError> {
    let mut script = Vec::new();
    let name = args.shell.to_string();
    if let Some(shell) = Shells::builtins().completer(&name) {
        shell
            .write_registration(VARIABLE, "hfs", "hfs", "hfs", &mut script)
            .map_err(|error| CliError::io("write the completions", error))?;
    }
    context.console.print(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}

/// Prints the completions that a shell asks for. Returns whether one did.
pub fn complete() -> bool {
    let Some(shell) = std::env::var_os(VARIABLE) else { return false };
    let quoting = if shell == "zsh" || shell == "fish" { Quoting::ByShell } else { Quoting::None };
    let complete = CompleteEnv::with_factory(|| with_completers(Cli::command(), "", quoting)).var(VARIABLE);
    // An error cannot be shown: it would appear in the line that the user is typing.
    complete.try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref()).unwrap_or(true)
}

/// What the shell does with a completion that it inserts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quoting {
    /// zsh and fish quote it.
    ByShell,
    /// Others insert it as it is: in bash, a name with spaces becomes several words.
    None,
}

impl Quoting {
    /// Whether the command receives the name as it is.
    fn preserves(self, name: &str) -> bool {
        let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        self == Self::ByShell || name.chars().all(is_plain)
    }
}

/// Adds completers to the arguments that name something, by their names.
fn with_completers(command: Command, parent: &str, quoting: Quoting) -> Command {
    let name = command.get_name().to_owned();
    let mut command = command.mut_args(|arg| match arg.get_id().as_str() {
        "session" if name == "restore" => {
            arg.add(ArgValueCompleter::new(move |word: &OsStr| sessions(word, true, quoting)))
        }
        "session" => arg.add(ArgValueCompleter::new(move |word: &OsStr| sessions(word, false, quoting))),
        "branch" => arg.add(ArgValueCompleter::new(move |word: &OsStr| branches(word, quoting))),
        // The arguments of `diff`.
        "a" | "b" if parent == "branch" => {
            arg.add(ArgValueCompleter::new(move |word: &OsStr| branches(word, quoting)))
        }
        "a" | "b" if parent == "checkpoint" => arg.add(ArgValueCompleter::new(checkpoints)),
        "checkpoint" | "target" => arg.add(ArgValueCompleter::new(checkpoints)),
        "agent" => arg.add(ArgValueCompleter::new(|word: &OsStr| agents(word, true))),
        "program" => arg.add(ArgValueCompleter::new(|word: &OsStr| agents(word, false))),
        "key" => arg.add(ArgValueCompleter::new(settings)),
        "value" => arg.add(ArgValueCompleter::new(values)),
        _ => arg,
    });
    let subcommands: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for subcommand in subcommands {
        command =
            command.mut_subcommand(subcommand, |subcommand| with_completers(subcommand, &name, quoting));
    }
    command
}

/// The words of the line, as the shell passes them after `--`.
fn words() -> Vec<String> {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The context of the line. `None` without a store, because a completion creates nothing.
fn context() -> Option<Context> {
    let words = words();
    let value_of = |option: &str| {
        let with_value = words.iter().find_map(|word| word.strip_prefix(option)?.strip_prefix('='));
        let after = || words.iter().skip_while(|word| *word != option).nth(1).map(String::as_str);
        with_value.or_else(after).map(OsString::from)
    };
    let global = GlobalArgs {
        home: value_of("--home").map(Into::into),
        store: value_of("--store").and_then(|url| url.into_string().ok()),
        quiet: true,
        ..GlobalArgs::default()
    };
    let context = Context::new(global, Environment::capture(), false).ok()?;
    let has_store = context.settings.store_url.is_some() || context.home.default_store().exists();
    has_store.then_some(context)
}

fn candidate(value: &str, help: &str) -> CompletionCandidate {
    let help = sanitize::line(help);
    CompletionCandidate::new(value).help((!help.is_empty()).then(|| help.into()))
}

/// The newest sessions of the project, then those of other projects: by name if it contains the word, else by short id.
fn sessions(word: &OsStr, trashed: bool, quoting: Quoting) -> Vec<CompletionCandidate> {
    let (Some(context), Some(word)) = (context(), word.to_str()) else { return Vec::new() };
    let project = Some(context.project().key().to_owned());
    let mut found: Vec<SessionSummary> = Vec::new();
    for project in [project, None] {
        let filter = SessionFilter { project, trashed, ..SessionFilter::default() };
        let page = context
            .store()
            .and_then(|store| Ok(store.list_sessions(&filter, &PageRequest::first(SESSIONS))?));
        for summary in page.map(|page| page.items).unwrap_or_default() {
            if !found.iter().any(|known| known.session.id == summary.session.id) {
                found.push(summary);
            }
        }
    }
    let mut candidates = Vec::new();
    for summary in found {
        let (id, name) = (summary.session.id.short(), &summary.session.name);
        let is_named = !word.is_empty() && name.to_lowercase().contains(&word.to_lowercase());
        if is_named && quoting.preserves(name) {
            candidates.push(candidate(name, id.shown()));
        } else if is_named || id.as_str().starts_with(word) || word.is_empty() {
            candidates.push(candidate(id.shown(), name));
        }
    }
    if !trashed && "@".starts_with(word) {
        candidates.insert(0, candidate("@", "the newest session"));
    }
    candidates
}

/// The session that the line names before the word that is completed.
fn session_of_line(context: &Context, word: &str) -> Option<SessionId> {
    words().iter().rev().filter(|other| *other != word).find_map(|other| context.session(other).ok())
}

fn branches(word: &OsStr, quoting: Quoting) -> Vec<CompletionCandidate> {
    let (Some(context), Some(word)) = (context(), word.to_str()) else { return Vec::new() };
    let session = session_of_line(&context, word);
    let branches = session.and_then(|session| context.store().ok()?.list_branches(session).ok());
    let branches = branches.unwrap_or_default();
    let listed = branches.iter().filter(|branch| branch.is_listed());
    let described = listed.map(|branch| {
        let messages = plural(branch.head, "message");
        if quoting.preserves(&branch.name) {
            (branch.name.clone(), messages)
        } else {
            (branch.id.short().shown().to_owned(), format!("{}, {messages}", branch.name))
        }
    });
    let matching = described.filter(|(name, _)| name.starts_with(word));
    matching.map(|(name, about)| candidate(&name, &about)).collect()
}

fn checkpoints(word: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(context), Some(word)) = (context(), word.to_str()) else { return Vec::new() };
    let session = session_of_line(&context, word);
    let found = session.and_then(|session| context.store().ok()?.list_checkpoints(session).ok());
    let described = found.unwrap_or_default().into_iter().map(|checkpoint| {
        let label = checkpoint.label.unwrap_or_else(|| checkpoint.trigger.as_str().to_owned());
        (checkpoint.number.to_string(), format!("{label}, at message {}", checkpoint.seq))
    });
    let matching = described.filter(|(number, _)| number.starts_with(word));
    matching.map(|(number, about)| candidate(&number, &about)).collect()
}

/// The agents: those of hfs, if they are wanted, and programs.
fn agents(word: &OsStr, with_built_in: bool) -> Vec<CompletionCandidate> {
    let Some(word) = word.to_str() else { return Vec::new() };
    let context = Context::new(GlobalArgs::default(), Environment::capture(), false);
    let programs = context.map(|context| context.settings.programs).unwrap_or_default();
    let names = agent_names(&programs).into_iter();
    let names = names.filter(|name| with_built_in || !BUILT_IN.contains(&name.as_str()));
    names.filter(|name| name.starts_with(word)).map(|name| candidate(&name, "")).collect()
}

fn settings(word: &OsStr) -> Vec<CompletionCandidate> {
    let Some(word) = word.to_str() else { return Vec::new() };
    let matching = Key::all().filter(|key| key.name().starts_with(word));
    matching.map(|key| candidate(key.name(), key.spec().about)).collect()
}

/// The values of the setting before this word, if there are only few.
fn values(word: &OsStr) -> Vec<CompletionCandidate> {
    let Some(word) = word.to_str() else { return Vec::new() };
    match words().iter().rev().find_map(|word| Key::find(word)).map(|key| &key.spec().value_type) {
        Some(ValueType::Choice(choices)) => choices
            .iter()
            .filter(|choice| choice.starts_with(word))
            .map(|choice| candidate(choice, ""))
            .collect(),
        _ => Vec::new(),
    }
}
