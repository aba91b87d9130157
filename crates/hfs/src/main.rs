//! The `hfs` binary: command line, configuration, wiring and output.
//!
//! This is the only crate that names concrete adapters, reads the environment and prints. It parses the command line
//! (`args`), reads the configuration (`config`), and runs one of the `commands` on a `Context`, which opens the store
//! and starts the plugins when they are first needed. Errors of every crate become a `CliError`, which has an exit code.

mod args;
mod attachments;
mod commands;
mod config;
mod connections;
mod context;
mod disk_space;
mod drafts;
mod environment;
mod home;
mod interrupt;
mod logging;
mod output;
mod permissions;
mod prices;
mod project;
#[cfg(test)]
mod reference;
mod resolve;
mod terminal;
mod trust;
mod watch;
mod wiring;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use clap::error::ErrorKind as ClapErrorKind;
use mimalloc::MiMalloc;

use crate::args::{Command, GlobalArgs};
use crate::commands::{
    acp, agents, branch, chat, checkpoint, compact, completions, config as config_command, connect, doctor,
    export, handoff, history, import, mcp, permissions as permissions_command, plugin, recall,
    run as run_command, search, session, start, stats, store, trust as trust_command, watch as watch_command,
};
use crate::config::ColorMode;
use crate::context::Context;
use crate::environment::Environment;
use crate::output::console::{Console, OutputOptions};
use crate::output::error::{CliError, EXIT_USAGE, ErrorDocument, Outcome};
use crate::output::sanitize;
use crate::wiring::programs::SUPERVISE;

// Use mimalloc: parts of transcripts, events and rendered screens are allocated on one thread and freed on another, and
// glibc malloc contends on that. Imports take 20 % less time for twice the memory (benches/import.rs).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == SUPERVISE) {
        return hfs_acp::supervise(std::env::args_os().skip(2));
    }
    hfs_crash::install();
    if completions::complete() {
        return ExitCode::SUCCESS;
    }
    match run(&std::env::args_os().collect::<Vec<_>>(), Environment::capture()) {
        Ok(Outcome::Terminated(signal)) => {
            // By now the store is closed and the terminal restored. The shell sees the signal, not an ordinary end.
            hfs_tui::die_by_signal(signal);
            Outcome::Terminated(signal).exit_code()
        }
        Ok(outcome) => outcome.exit_code(),
        Err(code) => code,
    }
}

/// Runs the command. An error has been reported already, and is returned as the exit code.
fn run(arguments: &[OsString], environment: Environment) -> Result<Outcome, ExitCode> {
    let cli = match args::parse(arguments) {
        Ok(cli) => cli,
        Err(error) => return Err(report_usage(&error, arguments)),
    };
    let early_options = OutputOptions { json: cli.global.json, ..OutputOptions::default() };
    let command_agent = cli.command.as_ref().and_then(Command::agent_args);
    let agent_args = command_agent.map_or_else(|| cli.agent_args.clone(), |args| args.or(&cli.agent_args));
    let may_ask = cli.command.as_ref().is_none_or(Command::asks_for_trust);
    let mut context = match Context::new(GlobalArgs { agent_args, ..cli.global }, environment, may_ask) {
        Ok(context) => context,
        Err(error) => return Err(report(&Console::new(early_options, ColorMode::Auto), &error)),
    };
    context.needs_sessions = cli.command.as_ref().is_some_and(Command::needs_sessions);
    let logs = context.home.logs();
    logging::start(&logs, context.global.verbose);
    logging::install_panic_hook(&logs);
    if let Some(error) = context.config_error.take()
        && !cli.command.as_ref().is_some_and(Command::works_without_config)
    {
        return Err(report(&context.console, &error.into()));
    }
    // Catch a panic, so that destructors close the store before the process exits. The panic hook has already reported
    // the panic.
    let result =
        std::panic::catch_unwind(AssertUnwindSafe(|| execute(cli.command, cli.continue_newest, &context)));
    match result {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(error)) => Err(report(&context.console, &error)),
        Err(_) => Err(ExitCode::FAILURE),
    }
}

fn execute(command: Option<Command>, continue_newest: bool, context: &Context) -> Result<Outcome, CliError> {
    if !matches!(command, Some(Command::Completions(_) | Command::Doctor | Command::Trust(_))) {
        context.show_config_warnings();
    }
    if continue_newest && command.is_some() {
        return Err(CliError::Usage {
            message: "-c cannot be combined with a command".into(),
            hint: "`hfs -c` opens the newest session; `hfs chat -c \"...\"` sends a message to it".into(),
        });
    }
    match command {
        None => start::run(continue_newest, context),
        Some(Command::Resume(args)) => start::resume(&args, context),
        Some(Command::Chat(args)) => chat::run(&args, context),
        Some(Command::Compact(args)) => compact::run(&args, context),
        Some(Command::Session(args)) => session::run(&args, context),
        Some(Command::Branch(args)) => branch::run(&args, context),
        Some(Command::Checkpoint(args)) => checkpoint::run(&args, context),
        Some(Command::Rewind(args)) => history::rewind(&args, context),
        Some(Command::Undo(args)) => history::undo(&args, context),
        Some(Command::Redo(args)) => history::redo(&args, context),
        Some(Command::Log(args)) => history::log(&args, context),
        Some(Command::Run(args)) => run_command::run(&args, context),
        Some(Command::Search(args)) => search::run(&args, context),
        Some(Command::Recall(args)) => recall::run(&args, context),
        Some(Command::Stats(args)) => stats::run(&args, context),
        Some(Command::Export(args)) => export::run(&args, context),
        Some(Command::Handoff(args)) => handoff::run(&args, context),
        Some(Command::Import(args)) => import::run(&args, context),
        Some(Command::Watch(args)) => watch_command::run(&args, context),
        Some(Command::Agents(args)) => agents::run(&args, context),
        Some(Command::Mcp(args)) => mcp::run(&args, context),
        Some(Command::Connect(args)) => connect::connect(&args, context),
        Some(Command::Disconnect(args)) => connect::disconnect(&args, context),
        Some(Command::Acp(_)) => acp::run(context),
        Some(Command::Permissions(args)) => permissions_command::run(&args, context),
        Some(Command::Plugin(args)) => plugin::run(&args, context),
        Some(Command::Config(args)) => config_command::run(&args, context),
        Some(Command::Store(args)) => store::run(&args, context),
        Some(Command::Doctor) => doctor::run(context),
        Some(Command::Trust(args)) => trust_command::run(&args, context),
        Some(Command::Completions(args)) => completions::run(&args, context),
    }
}

fn report(console: &Console, error: &CliError) -> ExitCode {
    if !matches!(error, CliError::ClosedPipe) {
        console.print_error(&error.document());
    }
    ExitCode::from(error.exit_code())
}

/// Prints help and version, which clap returns as errors, on standard output, and real usage errors on standard error.
fn report_usage(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if matches!(error.kind(), ClapErrorKind::DisplayHelp | ClapErrorKind::DisplayVersion) {
        // A closed pipe is not an error.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--json") {
        let json = OutputOptions { json: true, ..OutputOptions::default() };
        Console::new(json, ColorMode::Never).print_error(&usage_document(error));
        return ExitCode::from(EXIT_USAGE);
    }
    // The message quotes arguments. clap styles it, so the arguments are made harmless, and not the message.
    let harmless = arguments.iter().map(|argument| sanitize::line(&argument.to_string_lossy()));
    match args::parse(harmless) {
        Err(error) => drop(error.print()),
        // Only the removed characters were wrong.
        Ok(_) => eprint(&sanitize::block(&error.render().to_string())),
    }
    ExitCode::from(EXIT_USAGE)
}

fn eprint(text: &str) {
    Console::new(OutputOptions::default(), ColorMode::Never).print_stderr(text);
}

/// Splits clap's text into the message, and the hint with its tip and usage.
fn usage_document(error: &clap::Error) -> ErrorDocument {
    let text = sanitize::block(&error.render().to_string());
    let (mut message, mut hints) = (String::new(), Vec::new());
    for paragraph in text.split("\n\n") {
        let paragraph = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(first) = paragraph.strip_prefix("error: ") {
            message = first.to_owned();
        } else if let Some(tip) = paragraph.strip_prefix("tip: ") {
            hints.push(tip.to_owned());
        } else if let Some(usage) = paragraph.strip_prefix("Usage: ") {
            hints.push(format!("usage: {usage}"));
        }
    }
    hints.push("`hfs --help` lists all commands".to_owned());
    ErrorDocument { kind: "usage", message, causes: Vec::new(), hint: Some(hints.join("; ")) }
}
