//! `hfs plugin`

mod author;
mod build;
mod check;
mod compile;
mod dev;
mod place;
mod runtime;
mod tryout;
mod view;

use std::io::BufRead;
use std::path::{Path, PathBuf};

use hfs_core::ErrorKind;
use hfs_plugins::{PluginState, PluginStatus, Plugins};
use serde_json::json;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::plain;
use crate::table::Table;
use crate::wiring::plugins::{keep_disabled, parts};
use author::Language;
use view::PluginRow;

const EXAMPLES: &str = "\
Examples:
  hfs plugin list
  hfs plugin show word-count        what it is, and what it may do once it is approved
  hfs plugin approve word-count     let it run, as it is now; any change of it asks again
  hfs plugin run word-count count two words
  hfs plugin new my-plugin --lang python     a new one
  hfs plugin dev my-plugin          try it out; it is loaded anew whenever it is saved

Plugins lie in the folder plugins/ of the home directory of hfs, and in ./.hfs/plugins of a project.";

/// How many lines of a log are shown.
const LOG_LINES: usize = 200;

/// What to do with plugins.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Debug, clap::Subcommand)]
enum PluginCommand {
    /// List plugins and what became of them
    #[command(alias = "ls")]
    List,
    /// Show what a plugin is and may do
    Show {
        /// The plugin
        plugin: String,
    },
    /// Let a plugin run, as it is now
    Approve {
        /// The plugin
        plugin: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Keep a plugin from running
    Deny {
        /// The plugin
        plugin: String,
    },
    /// Forget what was decided about a plugin
    Revoke {
        /// The plugin
        plugin: String,
    },
    /// Switch a plugin on again, and let it out of quarantine
    Enable {
        /// The plugin
        plugin: String,
    },
    /// Switch a plugin off
    Disable {
        /// The plugin
        plugin: String,
    },
    /// Show what a plugin wrote, newest last
    #[command(alias = "log")]
    Logs {
        /// The plugin
        plugin: String,
        /// How many lines
        #[arg(short = 'n', default_value_t = LOG_LINES)]
        lines: usize,
    },
    /// Make a new plugin, in a folder of its name
    New {
        /// Its name, or where its folder is to be
        folder: PathBuf,
        /// What it is written in
        #[arg(long, value_enum, default_value = "rust")]
        lang: Language,
        /// A component of its own instead of source that hfs interprets; in Rust there is no other way
        #[arg(long)]
        compiled: bool,
    },
    /// Try a plugin out while it is written: it is loaded anew whenever a file of it is saved
    Dev(TryArgs),
    /// Check a plugin: its manifest, and what each of its parts makes of a sample
    Check(TryArgs),
    /// The interpreters of plugins in Python and JavaScript
    Runtime(runtime::RuntimeArgs),
    /// Compile a plugin
    Build {
        /// Its folder
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Copy a plugin to where plugins are; it still has to be approved
    Install {
        /// Its folder, or its archive: .zip, .tar.gz or .tar.zst
        #[arg(value_name = "FOLDER|ARCHIVE")]
        source: PathBuf,
    },
    /// Remove a plugin
    #[command(alias = "rm")]
    Uninstall {
        /// The plugin
        plugin: String,
    },
    /// Run a plugin's command
    Run {
        /// The session that the command is about
        #[arg(short, long)]
        session: Option<String>,
        /// The plugin
        plugin: String,
        /// Its command
        command: String,
        /// What goes behind the command
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// Which plugin to try out, and on what.
#[derive(Debug, clap::Args)]
struct TryArgs {
    /// Its folder
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Among your own sessions, on this one, instead of on one that is made up
    #[arg(short, long)]
    session: Option<String>,
    /// Do not ask whether it may run
    #[arg(short, long)]
    yes: bool,
}

/// Lists, shows, decides about and runs plugins.
pub fn run(plugin: &PluginArgs, context: &Context) -> Result<Outcome, Failure> {
    match &plugin.command {
        PluginCommand::List => list(context)?,
        PluginCommand::Show { plugin } => show(plugin, context)?,
        PluginCommand::Approve { plugin, yes } => approve(plugin, *yes, context)?,
        PluginCommand::Deny { plugin } => decide(plugin, context, |plugins| Ok(plugins.deny(plugin)?))?,
        PluginCommand::Revoke { plugin } => decide(plugin, context, |plugins| Ok(plugins.revoke(plugin)?))?,
        PluginCommand::Enable { plugin } => decide(plugin, context, |plugins| {
            plugins.get(plugin)?;
            keep_disabled(&context.sources.user, plugin, false)?;
            Ok(plugins.enable(plugin)?)
        })?,
        PluginCommand::Disable { plugin } => decide(plugin, context, |plugins| {
            plugins.get(plugin)?;
            keep_disabled(&context.sources.user, plugin, true)?;
            Ok(plugins.disable(plugin)?)
        })?,
        PluginCommand::Logs { plugin, lines } => logs(plugin, *lines, context)?,
        PluginCommand::New { folder, lang, compiled } => {
            let folder = context.environment.working_directory.join(folder);
            let name = author::create(&folder, *lang, *compiled)?;
            let next = if *compiled || *lang == Language::Rust { "build" } else { "dev" };
            let place = folder.display();
            told(&format!("{name} is in {place}; next: `hfs plugin {next} {place}`"), &folder, context)?;
        }
        PluginCommand::Dev(wanted) => return dev::run(wanted, context),
        PluginCommand::Check(wanted) => return check::run(wanted, context),
        PluginCommand::Runtime(arguments) => runtime::run(arguments, context)?,
        PluginCommand::Build { folder } => {
            let component = build::build(&context.environment.working_directory.join(folder))?;
            told(&format!("built {}", component.display()), &component, context)?;
        }
        PluginCommand::Install { source } => {
            let installed = place::install(&context.environment.working_directory.join(source), context)?;
            conclude(&look(context).get(&installed.name)?, context)?;
        }
        PluginCommand::Uninstall { plugin } => {
            let plugins = look(context);
            let folder = plugins.get(plugin)?.folder;
            place::uninstall(plugin, &plugins)?;
            told(&format!("{plugin} is removed"), &folder, context)?;
        }
        PluginCommand::Run { session, plugin, command, arguments } => {
            let called = format!("{plugin}:{command}");
            run_command(&called, &arguments.join(" "), session.as_deref(), context)?;
        }
    }
    Ok(Outcome::Done)
}

/// What there is, with nothing of it running.
fn look(context: &Context) -> Plugins {
    Plugins::discover(parts(context, None))
}

fn list(context: &Context) -> Result<(), Failure> {
    let console = &context.console;
    let plugins = look(context).list();
    if console.manner.json {
        let rows: Vec<PluginRow> = plugins.iter().map(PluginRow::from).collect();
        return console.json(&json!({ "plugins": rows }));
    }
    if plugins.is_empty() {
        console.note("no plugins are installed");
        return Ok(());
    }
    let mut table = Table::new(&["PLUGIN", "VERSION", "STATE", "ADDS", "WHY"], 4);
    for plugin in &plugins {
        let adds = plugin.capabilities.iter().map(|capability| capability.as_str()).collect::<Vec<_>>();
        table.row(vec![
            plain::line(&plugin.name),
            plugin.version.clone(),
            plugin.state.to_string(),
            adds.join(", "),
            plain::line(&plugin.reason),
        ]);
    }
    console.print(&table.render(&console.palette, console.width()))
}

fn show(name: &str, context: &Context) -> Result<(), Failure> {
    let plugin = look(context).get(name)?;
    if context.console.manner.json {
        return context.console.json(&json!({ "plugin": PluginRow::from(&plugin) }));
    }
    context.console.print(&view::described(&plugin, &context.console.palette))
}

/// Approves after a person has read what that means. Without one, or without `--yes`, nothing is approved.
fn approve(name: &str, yes: bool, context: &Context) -> Result<(), Failure> {
    let plugins = look(context);
    let plugin = plugins.get(name)?;
    let console = &context.console;
    if !yes {
        if !console.can_ask() {
            return Err(Failure::Refused {
                kind: ErrorKind::Denied,
                message: format!("{name} was not approved: there is nobody to ask"),
                hint: Some(format!("read `hfs plugin show {name}`, then say it with --yes")),
            });
        }
        console.print(&view::described(&plugin, &console.palette))?;
        console.aside("Let it run? [y/N] ");
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.map_err(|error| Failure::io("read standard input", error))?;
        if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            return Err(Failure::Refused {
                kind: ErrorKind::Denied,
                message: format!("{name} was not approved"),
                hint: None,
            });
        }
    }
    plugins.approve(name)?;
    settle(&plugins)?;
    conclude(&plugins.get(name)?, context)
}

/// Waits for what a decision has set going, so that what is told is how it ended.
fn settle(plugins: &Plugins) -> Result<(), Failure> {
    runtime()?.block_on(plugins.started());
    Ok(())
}

fn decide(
    name: &str,
    context: &Context,
    decision: impl FnOnce(&Plugins) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let plugins = look(context);
    decision(&plugins)?;
    settle(&plugins)?;
    conclude(&plugins.get(name)?, context)
}

fn conclude(plugin: &PluginStatus, context: &Context) -> Result<(), Failure> {
    let console = &context.console;
    if console.manner.json {
        return console.json(&json!({ "plugin": PluginRow::from(plugin) }));
    }
    let why =
        if plugin.reason.is_empty() { String::new() } else { format!(": {}", plain::line(&plugin.reason)) };
    let text = format!("{} is {} now{why}", plain::line(&plugin.name), plugin.state);
    if plugin.state == PluginState::Invalid {
        console.warn(&text);
    } else {
        console.note(&text);
    }
    Ok(())
}

/// Says what was done, to people, and where, to scripts.
fn told(text: &str, path: &Path, context: &Context) -> Result<(), Failure> {
    if context.console.manner.json {
        return context.console.json(&json!({ "path": path }));
    }
    context.console.note(&plain::line(text));
    Ok(())
}

fn logs(name: &str, lines: usize, context: &Context) -> Result<(), Failure> {
    let log = look(context).log(name, lines)?;
    if context.console.manner.json {
        return context.console.json(&json!({ "lines": log }));
    }
    context.console.print(&log.iter().map(|line| plain::line(line) + "\n").collect::<String>())
}

fn run_command(
    called: &str,
    arguments: &str,
    session: Option<&str>,
    context: &Context,
) -> Result<(), Failure> {
    let session = session.map(|session| context.session(session)).transpose()?;
    let plugins = context.plugins()?.ok_or_else(|| Failure::Usage {
        message: "a plugin's command cannot run without plugins".into(),
        hint: "leave out --no-plugins".into(),
    })?;
    let engine = context.engine_with(context.hooks()?)?;
    // What plugins keep for the session is put back for the command, and what it changes of it is kept.
    let conversation = session.map(|session| engine.resume(session, None)).transpose()?;
    let said = runtime()?.block_on(plugins.run(called, arguments, session));
    conversation.map(|conversation| engine.persist_plugin_states(&conversation)).transpose()?;
    plugins.take_notices().iter().for_each(|notice| context.console.warn(&plain::line(notice)));
    let said = said?;
    if context.console.manner.json {
        return context.console.json(&json!({ "output": said }));
    }
    match said {
        Some(text) => context.console.print(&(plain::block(text.trim_end()) + "\n")),
        None => Ok(()),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| Failure::io("start the asynchronous runtime", error))
}
