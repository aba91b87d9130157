//! `hfs plugin runtime`: the interpreters for plugins in Python and JavaScript.

use std::path::PathBuf;

use hfs_core::ErrorKind;
use hfs_plugins::{InstalledInterpreter, Language};
use serde_json::{Value, json};

use crate::context::Context;
use crate::output::error::CliError;
use crate::output::sanitize;
use crate::output::table::Table;
use crate::wiring::interpreters;

const HELP: &str = "\
An interpreter is a file: hfs-python.wasm or hfs-javascript.wasm. A release of hfs contains both, next to the \
executable. An hfs that was compiled from source builds them when a plugin first needs one, or by `hfs plugin runtime \
install`.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct RuntimeArgs {
    #[command(subcommand)]
    command: Option<RuntimeCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum RuntimeCommand {
    /// List the installed interpreters
    #[command(alias = "ls")]
    List,
    /// Install the interpreters, and compile them once for this machine
    Install {
        /// An interpreter's file, or a directory with several; without it, build them from the source of this hfs
        path: Option<PathBuf>,
        /// Only this language
        #[arg(long, value_enum, conflicts_with = "path")]
        only: Option<LanguageArg>,
    },
    /// Remove an interpreter
    #[command(alias = "rm")]
    Uninstall {
        /// The interpreter's language
        #[arg(value_enum)]
        language: LanguageArg,
    },
}

/// `hfs_plugins::Language` as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LanguageArg {
    Python,
    Javascript,
}

impl From<LanguageArg> for Language {
    fn from(language: LanguageArg) -> Self {
        match language {
            LanguageArg::Python => Self::Python,
            LanguageArg::Javascript => Self::JavaScript,
        }
    }
}

pub fn run(args: &RuntimeArgs, context: &Context) -> Result<(), CliError> {
    match &args.command {
        None | Some(RuntimeCommand::List) => list(context),
        Some(RuntimeCommand::Install { path: Some(path), .. }) => {
            install(&context.environment.working_directory.join(path), context)
        }
        Some(RuntimeCommand::Install { path: None, only }) => build(*only, context),
        Some(RuntimeCommand::Uninstall { language }) => uninstall((*language).into(), context),
    }
}

fn interpreter_json(language: Language, installed: Option<&InstalledInterpreter>) -> Value {
    json!({
        "language": language.as_str(),
        "path": installed.map(|installed| &installed.path),
        "hash": installed.map(|installed| &installed.hash),
        "bytes": installed.map(|installed| installed.bytes),
    })
}

fn list(context: &Context) -> Result<(), CliError> {
    let interpreters = interpreters::locations(context);
    let by_language: Vec<_> =
        Language::ALL.into_iter().map(|language| (language, interpreters.find(language))).collect();
    let console = &context.console;
    if console.options.json {
        let rows: Vec<Value> = by_language
            .iter()
            .map(|(language, installed)| interpreter_json(*language, installed.as_ref()))
            .collect();
        return console.print_json(&json!({ "runtimes": rows }));
    }
    let mut table = Table::new(&["LANGUAGE", "INTERPRETER"], 1);
    for (language, installed) in &by_language {
        let path = installed
            .as_ref()
            .map_or_else(|| "not installed".into(), |installed| installed.path.display().to_string());
        table.row(vec![language.to_string(), sanitize::line(&path)]);
    }
    console.print(&table.render(&console.palette, console.width()))?;
    if by_language.iter().any(|(_, installed)| installed.is_none()) {
        console.note(HELP);
    }
    Ok(())
}

fn install(path: &std::path::Path, context: &Context) -> Result<(), CliError> {
    let file_name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let is_provided = |language: &Language| {
        if path.is_dir() {
            path.join(language.file_name()).is_file()
        } else {
            file_name.contains(&language.as_str().to_lowercase())
        }
    };
    let languages: Vec<Language> = Language::ALL.into_iter().filter(is_provided).collect();
    if languages.is_empty() {
        let (kind, reason) = if path.is_dir() {
            let names = Language::ALL.map(Language::file_name).join(" or ");
            (ErrorKind::Invalid, format!("the directory does not contain {names}"))
        } else if path.exists() {
            (ErrorKind::Invalid, "the file name contains neither python nor javascript".into())
        } else {
            (ErrorKind::NotFound, "there is no such file".into())
        };
        let message = format!("{}: {reason}", path.display());
        return Err(CliError::with_hint(kind, message, HELP.replace('\n', " ")));
    }
    let installed = languages.into_iter().map(|language| interpreters::install(language, path, context));
    report(installed, context)
}

/// Builds and installs the interpreter of a language, or of all languages.
fn build(only: Option<LanguageArg>, context: &Context) -> Result<(), CliError> {
    let languages = only.map_or_else(|| Language::ALL.to_vec(), |language| vec![language.into()]);
    report(languages.into_iter().map(|language| interpreters::build_and_install(language, context)), context)
}

fn report(
    installed: impl Iterator<Item = Result<InstalledInterpreter, CliError>>,
    context: &Context,
) -> Result<(), CliError> {
    let row = |installed: InstalledInterpreter| interpreter_json(installed.language, Some(&installed));
    let rows = installed.map(|installed| installed.map(row)).collect::<Result<Vec<_>, _>>()?;
    if context.console.options.json {
        return context.console.print_json(&json!({ "runtimes": rows }));
    }
    Ok(())
}

fn uninstall(language: Language, context: &Context) -> Result<(), CliError> {
    if !interpreters::locations(context).uninstall(language)? {
        let directory = context.home.runtimes();
        let message = format!("no {language} interpreter is installed in {}", directory.display());
        return Err(CliError::new(ErrorKind::NotFound, message));
    }
    list(context)
}
