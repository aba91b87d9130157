//! From the command line to an exit code.

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind as ClapError;
use hfs_core::OperationKind;

use crate::args::{Cli, Command, Global};
use crate::commands::{
    branch, chat, checkpoint, completions, config, doctor, export, history, import, plugin, resume, rewind,
    run as runs, search, session, start, store,
};
use crate::console::{Console, Manner};
use crate::context::Context;
use crate::environment::Environment;
use crate::failure::{EXIT_USAGE, ErrorDocument, Failure, Outcome};
use crate::logging;

/// Does what the command line says.
pub fn run(arguments: Vec<OsString>, environment: Environment) -> ExitCode {
    let wants_json = arguments.iter().any(|argument| argument == "--json");
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return explain_usage(&error, wants_json),
    };
    let early = Manner { json: cli.global.json, ..Manner::default() };
    let behind = cli.command.as_ref().and_then(Command::answering);
    let answering = behind.map_or_else(|| cli.answering.clone(), |answering| answering.or(&cli.answering));
    let context = match Context::new(Global { answering, ..cli.global }, environment) {
        Ok(context) => context,
        Err(failure) => return fail(&Console::new(early, "auto"), &failure),
    };
    let logs = context.home.logs();
    logging::start(&logs, context.global.verbose);
    logging::explain_panics(&logs);
    // The panic itself has been explained by then; a process that returns ends with its files closed.
    let result =
        std::panic::catch_unwind(AssertUnwindSafe(|| execute(cli.command, cli.continue_newest, &context)));
    match result {
        Ok(Ok(outcome)) => outcome.exit_code(),
        Ok(Err(failure)) => fail(&context.console, &failure),
        Err(_) => ExitCode::FAILURE,
    }
}

fn execute(command: Option<Command>, continue_newest: bool, context: &Context) -> Result<Outcome, Failure> {
    if let Some(error) = &context.config_error
        && !command.as_ref().is_some_and(Command::bears_bad_config)
    {
        // Read once more, because the error itself stays with the context.
        crate::config::Config::load(&context.sources, &context.environment, &context.global.settings())?;
        tracing::warn!("the configuration was mended meanwhile: {error}");
    }
    if !matches!(command, Some(Command::Completions(_) | Command::Doctor)) {
        context.show_config_warnings();
    }
    if continue_newest && command.is_some() {
        return Err(Failure::Usage {
            message: "-c before a command says nothing".into(),
            hint: "alone it opens the newest session: hfs -c; a message goes on with it: hfs chat -c \"...\""
                .into(),
        });
    }
    match command {
        None => start::run(continue_newest, context),
        Some(Command::Resume(resume)) => resume::run(&resume, context),
        Some(Command::Chat(chat)) => chat::run(&chat, context),
        Some(Command::Session(session)) => session::run(&session, context),
        Some(Command::Branch(branch)) => branch::run(&branch, context),
        Some(Command::Checkpoint(checkpoint)) => checkpoint::run(&checkpoint, context),
        Some(Command::Rewind(rewind)) => rewind::run(&rewind, context),
        Some(Command::Undo(target)) => history::reverse(&target, OperationKind::Undo, context),
        Some(Command::Redo(target)) => history::reverse(&target, OperationKind::Redo, context),
        Some(Command::Log(log)) => history::log(&log, context),
        Some(Command::Run(run)) => runs::run(&run, context),
        Some(Command::Search(search)) => search::run(&search, context),
        Some(Command::Export(export)) => export::run(&export, context),
        Some(Command::Import(import)) => import::run(&import, context),
        Some(Command::Plugin(plugin)) => plugin::run(&plugin, context),
        Some(Command::Config(config)) => config::run(&config, context),
        Some(Command::Store(store)) => store::run(&store, context),
        Some(Command::Doctor) => doctor::run(context),
        Some(Command::Completions(completions)) => completions::run(&completions, context),
    }
}

fn fail(console: &Console, failure: &Failure) -> ExitCode {
    if !matches!(failure, Failure::ClosedPipe) {
        console.fail(&failure.document());
    }
    ExitCode::from(failure.exit_code())
}

/// Help and version are asked for and go to standard output; everything else is a mistake in the command line.
fn explain_usage(error: &clap::Error, json: bool) -> ExitCode {
    if matches!(error.kind(), ClapError::DisplayHelp | ClapError::DisplayVersion) {
        // A closed pipe ends quietly.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if json {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let hint = Some("`hfs --help` shows what there is".to_owned());
        let document = ErrorDocument { kind: "usage", message, causes: Vec::new(), hint };
        Console::new(Manner { json, ..Manner::default() }, "never").fail(&document);
    } else {
        let _ = error.print();
    }
    ExitCode::from(EXIT_USAGE)
}
