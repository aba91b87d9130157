//! `hfs plugin runtime`: the interpreters that run plugins in Python and JavaScript.

use std::path::PathBuf;

use hfs_core::ErrorKind;
use hfs_plugins::{InstalledInterpreter, Language};
use serde_json::{Value, json};

use crate::context::Context;
use crate::failure::Failure;
use crate::plain;
use crate::table::Table;
use crate::wiring::plugins::interpreters;

const HOW: &str = "\
An interpreter is a file: hfs-python.wasm or hfs-javascript.wasm. A release of hfs has both beside the program; in the
sources of hfs, `cargo xtask runtimes` builds them, and `hfs plugin runtime install target/runtimes` takes them.";

/// What to do with interpreters.
#[derive(Debug, clap::Args)]
#[command(after_help = HOW)]
pub struct RuntimeArgs {
    #[command(subcommand)]
    command: Option<RuntimeCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum RuntimeCommand {
    /// List the interpreters that are here
    #[command(alias = "ls")]
    List,
    /// Take an interpreter, and compile it once for this machine
    Install {
        /// Its file, or a folder with several
        path: PathBuf,
    },
    /// Remove an interpreter
    #[command(alias = "rm")]
    Uninstall {
        /// Its language
        #[arg(value_enum)]
        language: Interpreted,
    },
}

/// A language that has an interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Interpreted {
    /// Python
    Python,
    /// JavaScript
    Javascript,
}

/// Lists, takes and removes interpreters.
pub fn run(arguments: &RuntimeArgs, context: &Context) -> Result<(), Failure> {
    match &arguments.command {
        None | Some(RuntimeCommand::List) => list(context),
        Some(RuntimeCommand::Install { path }) => install(path.clone(), context),
        Some(RuntimeCommand::Uninstall { language }) => {
            let language = match language {
                Interpreted::Python => Language::Python,
                Interpreted::Javascript => Language::JavaScript,
            };
            if !interpreters(context).uninstall(language)? {
                return Err(Failure::Refused {
                    kind: ErrorKind::NotFound,
                    message: format!(
                        "no {language} interpreter is installed in {}",
                        context.home.runtimes().display()
                    ),
                    hint: None,
                });
            }
            list(context)
        }
    }
}

fn row(language: Language, found: Option<&InstalledInterpreter>) -> Value {
    json!({
        "language": language.as_str(),
        "path": found.map(|found| &found.path),
        "hash": found.map(|found| &found.hash),
        "bytes": found.map(|found| found.bytes),
    })
}

fn list(context: &Context) -> Result<(), Failure> {
    let places = interpreters(context);
    let found: Vec<_> = Language::ALL.into_iter().map(|language| (language, places.find(language))).collect();
    let console = &context.console;
    if console.manner.json {
        let rows: Vec<Value> = found.iter().map(|(language, found)| row(*language, found.as_ref())).collect();
        return console.json(&json!({ "runtimes": rows }));
    }
    let mut table = Table::new(&["LANGUAGE", "INTERPRETER"], 1);
    for (language, found) in &found {
        let place =
            found.as_ref().map_or_else(|| "not here".into(), |found| found.path.display().to_string());
        table.row(vec![language.to_string(), plain::line(&place)]);
    }
    console.print(&table.render(&console.palette, console.width()))?;
    if found.iter().any(|(_, found)| found.is_none()) {
        console.note(HOW);
    }
    Ok(())
}

fn install(path: PathBuf, context: &Context) -> Result<(), Failure> {
    let path = context.environment.working_directory.join(path);
    let named = |language: &Language| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_dir() {
            path.join(language.file_name()).is_file()
        } else {
            name.contains(&language.as_str().to_lowercase())
        }
    };
    let wanted: Vec<Language> = Language::ALL.into_iter().filter(named).collect();
    if wanted.is_empty() {
        let names = Language::ALL.map(Language::file_name).join(" and no ");
        let what = if path.is_dir() {
            format!("there is no {names} in it")
        } else {
            "its name says no language".into()
        };
        return Err(Failure::Refused {
            kind: if path.exists() { ErrorKind::Invalid } else { ErrorKind::NotFound },
            message: format!(
                "{}: {}",
                path.display(),
                if path.exists() { what } else { "it is not there".into() }
            ),
            hint: Some(HOW.replace('\n', " ")),
        });
    }
    context.home.create()?;
    let places = interpreters(context);
    let mut rows = Vec::new();
    for language in wanted {
        let installed = places.install(language, &path)?;
        let console = &context.console;
        console.note(&format!("compiling the {language} interpreter for this machine, once ..."));
        places.prepare(language, &context.home.machine_code())?;
        console.note(&plain::line(&format!("{language} plugins run with {}", installed.path.display())));
        rows.push(row(language, Some(&installed)));
    }
    if context.console.manner.json {
        return context.console.json(&json!({ "runtimes": rows }));
    }
    Ok(())
}
