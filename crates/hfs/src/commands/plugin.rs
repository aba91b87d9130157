//! `hfs plugin`: lists, approves, installs and runs plugins.
//!
//! The commands for plugin authors are in `authoring`, the interpreters of Python and JavaScript in `runtime`.

mod authoring;
mod runtime;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hfs_core::ErrorKind;
use hfs_files::{TemporaryFolder, create_private_folders, lock_for_replacing};
use hfs_plugins::{
    EntryPoint, IGNORED_FOLDERS, Language, MANIFEST_FILE, Manifest, Permission, Place, PluginState,
    PluginStatus, Plugins, check_folder, unpack,
};
use serde::Serialize;
use serde_json::json;

use crate::context::Context;
use crate::home::{copy_private, create_private_dir};
use crate::output::console::Palette;
use crate::output::error::{CliError, Outcome};
use crate::output::sanitize;
use crate::output::table::Table;
use crate::wiring::{self, plugins as plugin_wiring};
use authoring::{NewArgs, TryArgs};

const EXAMPLES: &str = "\
Examples:
  hfs plugin list
  hfs plugin show word-count        what a plugin is, and what it may do once it is approved
  hfs plugin approve word-count     let it run; hfs asks again after every change of its files
  hfs plugin run word-count count two words
  hfs plugin new my-plugin --lang python     create a plugin
  hfs plugin dev my-plugin          try it out, with a reload whenever a file is saved

Plugins are in the directory plugins/ of the home directory of hfs, and in ./.hfs/plugins of a project.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct PluginArgs {
    #[command(subcommand)]
    command: PluginCommand,
}

#[derive(Debug, clap::Subcommand)]
enum PluginCommand {
    /// List plugins and their states
    #[command(alias = "ls")]
    List,
    /// Show a plugin and its permissions
    Show {
        /// The plugin
        plugin: String,
    },
    /// Approve a plugin with its current files and permissions
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
    /// Withdraw an approval or a denial, so that hfs asks again
    Revoke {
        /// The plugin
        plugin: String,
    },
    /// Enable a plugin that is disabled or quarantined
    Enable {
        /// The plugin
        plugin: String,
    },
    /// Disable a plugin
    Disable {
        /// The plugin
        plugin: String,
    },
    /// Show a plugin's log, newest lines last
    #[command(alias = "log")]
    Logs {
        /// The plugin
        plugin: String,
        /// Maximum number of lines
        #[arg(short = 'n', default_value_t = 200)]
        lines: usize,
    },
    /// Create a plugin in a new directory
    New(NewArgs),
    /// Try out a plugin while you write it; it is reloaded whenever a file is saved
    Dev(TryArgs),
    /// Check a plugin: its manifest, and what each part does with sample data
    Check(TryArgs),
    /// Manage the interpreters for plugins in Python and JavaScript
    Runtime(runtime::RuntimeArgs),
    /// Compile a plugin
    Build {
        /// The plugin's directory
        #[arg(default_value = ".", value_name = "FOLDER")]
        directory: PathBuf,
    },
    /// Copy a plugin to the directory of plugins; it must be approved before it runs
    Install {
        /// The plugin's directory, or an archive: .zip, .tar.gz or .tar.zst
        #[arg(value_name = "FOLDER|ARCHIVE")]
        source: PathBuf,
    },
    /// Remove a plugin
    #[command(alias = "rm")]
    Uninstall {
        /// The plugin
        plugin: String,
    },
    /// Run a command of a plugin
    Run {
        /// The session that the command works on
        #[arg(short, long)]
        session: Option<String>,
        /// The plugin
        plugin: String,
        /// The command
        command: String,
        /// Arguments of the command
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

pub fn run(args: &PluginArgs, context: &Context) -> Result<Outcome, CliError> {
    let user_config = &context.config_paths.user;
    match &args.command {
        PluginCommand::List => list(context)?,
        PluginCommand::Show { plugin } => show(plugin, context)?,
        PluginCommand::Approve { plugin, yes } => approve(plugin, *yes, context)?,
        PluginCommand::Deny { plugin } => change(plugin, context, |plugins| Ok(plugins.deny(plugin)?))?,
        PluginCommand::Revoke { plugin } => change(plugin, context, |plugins| Ok(plugins.revoke(plugin)?))?,
        PluginCommand::Enable { plugin } => {
            change(plugin, context, |plugins| plugin_wiring::enable(plugins, user_config, plugin))?;
        }
        PluginCommand::Disable { plugin } => {
            change(plugin, context, |plugins| plugin_wiring::disable(plugins, user_config, plugin))?;
        }
        PluginCommand::Logs { plugin, lines } => logs(plugin, *lines, context)?,
        PluginCommand::New(args) => authoring::new(args, context)?,
        PluginCommand::Dev(args) => return authoring::dev(args, context),
        PluginCommand::Check(args) => return authoring::check(args, context),
        PluginCommand::Runtime(args) => runtime::run(args, context)?,
        PluginCommand::Build { directory } => authoring::build(directory, context)?,
        PluginCommand::Install { source } => {
            let manifest = install(&context.environment.working_directory.join(source), context)?;
            report(&installed_plugins(context).get(&manifest.name)?, context)?;
        }
        PluginCommand::Uninstall { plugin } => uninstall(plugin, context)?,
        PluginCommand::Run { session, plugin, command, arguments } => {
            let command = format!("{plugin}:{command}");
            run_command(&command, &arguments.join(" "), session.as_deref(), context)?;
        }
    }
    Ok(Outcome::Done)
}

/// The plugins with their states. No plugin is started.
fn installed_plugins(context: &Context) -> Plugins {
    Plugins::discover(plugin_wiring::host_config(context, None))
}

fn list(context: &Context) -> Result<(), CliError> {
    let console = &context.console;
    let plugins = installed_plugins(context).list();
    if console.options.json {
        let rows: Vec<PluginJson> = plugins.iter().map(PluginJson::from).collect();
        return console.print_json(&json!({ "plugins": rows }));
    }
    if plugins.is_empty() {
        console.note("no plugins are installed");
        return Ok(());
    }
    let mut table = Table::new(&["PLUGIN", "VERSION", "STATE", "CAPABILITIES", "REASON"], 4);
    for plugin in &plugins {
        let capabilities: Vec<_> = plugin.capabilities.iter().map(|capability| capability.as_str()).collect();
        table.row(vec![
            sanitize::line(&plugin.name),
            plugin.version.clone(),
            plugin.state.to_string(),
            capabilities.join(", "),
            sanitize::line(&plugin.reason),
        ]);
    }
    console.print(&table.render(&console.palette, console.width()))
}

fn show(name: &str, context: &Context) -> Result<(), CliError> {
    let plugin = installed_plugins(context).get(name)?;
    if context.console.options.json {
        return context.console.print_json(&json!({ "plugin": PluginJson::from(&plugin) }));
    }
    context.console.print(&describe(&plugin, &context.console.palette))
}

/// Approves a plugin after the user has seen its permissions and agreed, or with `--yes`.
fn approve(name: &str, yes: bool, context: &Context) -> Result<(), CliError> {
    let plugins = installed_plugins(context);
    let plugin = plugins.get(name)?;
    let console = &context.console;
    if !yes {
        if !console.is_interactive() {
            return Err(CliError::with_hint(
                ErrorKind::Denied,
                format!("{name} was not approved: there is no terminal to ask on"),
                format!("read `hfs plugin show {name}`, then approve with --yes"),
            ));
        }
        console.print(&describe(&plugin, &console.palette))?;
        if !console.ask("Let it run?")? {
            return Err(CliError::new(ErrorKind::Denied, format!("{name} was not approved")));
        }
    }
    offer_interpreter(&plugin.folder, context)?;
    plugins.approve(name)?;
    wait_until_started(&plugins)?;
    report(&plugins.get(name)?, context)
}

/// Offers to build the interpreter that a plugin needs, if it is missing.
fn offer_interpreter(folder: &Path, context: &Context) -> Result<(), CliError> {
    // The plugin host reports an invalid manifest.
    match read_manifest(folder).map(|manifest| entry_of(&manifest, folder)) {
        Ok(EntryPoint::Script(language, _)) => wiring::interpreters::offer_to_build(language, context),
        Ok(EntryPoint::Component(_)) | Err(_) => Ok(()),
    }
}

/// Changes the state of a plugin and reports the new state.
fn change(
    name: &str,
    context: &Context,
    action: impl FnOnce(&Plugins) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let plugins = installed_plugins(context);
    action(&plugins)?;
    wait_until_started(&plugins)?;
    report(&plugins.get(name)?, context)
}

/// Waits for plugins that an action has started, so that their state is final.
fn wait_until_started(plugins: &Plugins) -> Result<(), CliError> {
    wiring::runtime()?.block_on(plugins.started());
    Ok(())
}

fn report(plugin: &PluginStatus, context: &Context) -> Result<(), CliError> {
    let console = &context.console;
    if console.options.json {
        return console.print_json(&json!({ "plugin": PluginJson::from(plugin) }));
    }
    let name = sanitize::line(&plugin.name);
    let text = format!("{name} is now {}{}", plugin.state, reason_suffix(plugin));
    if plugin.state == PluginState::Invalid {
        console.warn(&text);
    } else {
        console.note(&text);
    }
    Ok(())
}

fn reason_suffix(plugin: &PluginStatus) -> String {
    if plugin.reason.is_empty() { String::new() } else { format!(": {}", sanitize::line(&plugin.reason)) }
}

/// Prints a note, or with `--json` the path that was written or removed.
fn report_path(text: &str, path: &Path, context: &Context) -> Result<(), CliError> {
    if context.console.options.json {
        return context.console.print_json(&json!({ "path": path }));
    }
    context.console.note(&sanitize::line(text));
    Ok(())
}

fn logs(name: &str, lines: usize, context: &Context) -> Result<(), CliError> {
    let log = installed_plugins(context).log(name, lines)?;
    if context.console.options.json {
        return context.console.print_json(&json!({ "lines": log }));
    }
    context.console.print(&log.iter().map(|line| sanitize::line(line) + "\n").collect::<String>())
}

fn run_command(
    command: &str,
    arguments: &str,
    session: Option<&str>,
    context: &Context,
) -> Result<(), CliError> {
    let session = session.map(|session| context.session(session)).transpose()?;
    let plugins = context.plugins()?.ok_or_else(|| CliError::Usage {
        message: "a plugin's command cannot run without plugins".into(),
        hint: "omit --no-plugins".into(),
    })?;
    let engine = context.engine_with(context.hooks()?)?;
    // Resuming restores the state of plugins for this session. After the command, the state is saved, even if the
    // command failed.
    let conversation = session.map(|session| engine.resume(session, None)).transpose()?;
    let result = wiring::runtime()?.block_on(plugins.run(command, arguments, session));
    conversation.map(|conversation| engine.persist_plugin_states(&conversation)).transpose()?;
    plugins.take_notices().iter().for_each(|notice| context.console.warn(&sanitize::line(notice)));
    let output = result?;
    if context.console.options.json {
        return context.console.print_json(&json!({ "output": output }));
    }
    match output {
        Some(text) => context.console.print(&(sanitize::block(text.trim_end()) + "\n")),
        None => Ok(()),
    }
}

/// A plugin in JSON documents.
#[derive(Serialize)]
struct PluginJson {
    name: String,
    version: String,
    description: String,
    capabilities: Vec<&'static str>,
    permissions: Vec<String>,
    new_permissions: Vec<String>,
    state: &'static str,
    reason: String,
    place: &'static str,
    folder: PathBuf,
    warnings: Vec<String>,
    content: String,
}

impl From<&PluginStatus> for PluginJson {
    fn from(plugin: &PluginStatus) -> Self {
        let names = |permissions: &[Permission]| permissions.iter().map(ToString::to_string).collect();
        Self {
            name: plugin.name.clone(),
            version: plugin.version.clone(),
            description: plugin.description.clone(),
            capabilities: plugin.capabilities.iter().map(|capability| capability.as_str()).collect(),
            permissions: names(&plugin.permissions),
            new_permissions: names(&plugin.new_permissions),
            state: plugin.state.as_str(),
            reason: plugin.reason.clone(),
            place: match plugin.place {
                Place::Home => "home",
                Place::Project => "project",
            },
            folder: plugin.folder.clone(),
            warnings: plugin.warnings.clone(),
            content: plugin.content_hash.clone(),
        }
    }
}

/// Describes a plugin and its permissions, so that the user can decide whether to approve it.
fn describe(plugin: &PluginStatus, palette: &Palette) -> String {
    let Palette { strong, dim, .. } = palette;
    let name = sanitize::line(&plugin.name);
    let mut text = format!("{strong}{name}{strong:#} {}\n", plugin.version);
    if !plugin.description.is_empty() {
        text += &format!("{}\n", sanitize::line(&plugin.description));
    }
    text += &format!("{dim}{}{dim:#}\n", sanitize::line(&plugin.folder.display().to_string()));
    text += &format!("State: {}{}\n", plugin.state, reason_suffix(plugin));
    for warning in &plugin.warnings {
        text += &format!("{dim}{}{dim:#}\n", sanitize::line(warning));
    }
    if !plugin.permissions.is_empty() {
        text += "\nOnce it is approved it may\n";
    }
    text + &permission_list(plugin, palette)
}

fn permission_list(plugin: &PluginStatus, palette: &Palette) -> String {
    let strong = palette.strong;
    let mut text = String::new();
    for permission in &plugin.permissions {
        let new =
            if plugin.new_permissions.contains(permission) { "  (new since it was approved)" } else { "" };
        text += &format!("  - {}{strong}{new}{strong:#}\n", sanitize::line(&permission.description()));
    }
    text
}

/// An error about the content of a plugin's directory or archive.
fn invalid(path: &Path, reason: impl std::fmt::Display) -> CliError {
    CliError::new(ErrorKind::Invalid, format!("{}: {reason}", path.display()))
}

/// Reads the manifest in a plugin's directory.
fn read_manifest(directory: &Path) -> Result<Manifest, CliError> {
    let path = directory.join(MANIFEST_FILE);
    let text =
        fs::read_to_string(&path).map_err(|error| CliError::io(format!("read {}", path.display()), error))?;
    Manifest::from_yaml(&text).map_err(|error| invalid(directory, error))
}

/// Files without code that are installed with a plugin if they exist.
const DOCUMENT_FILES: [&str; 4] = ["README.md", "LICENSE", "LICENSE-MIT", "LICENSE-APACHE"];

/// Copies a plugin from its directory or archive to the user's plugins. A plugin with the same name is replaced and must
/// be approved again. A plugin that cannot run is not installed and replaces nothing.
fn install(source: &Path, context: &Context) -> Result<Manifest, CliError> {
    let metadata =
        fs::metadata(source).map_err(|error| CliError::io(format!("read {}", source.display()), error))?;
    context.home.create()?;
    let plugins = context.home.root().join("plugins");
    create_private_dir(&plugins).map_err(|error| write_error(&plugins, error))?;
    // One installation at a time.
    let _lock = lock_for_replacing(&plugins).map_err(|error| write_error(&plugins, error))?;
    if metadata.is_dir() {
        return install_directory(source, source, &plugins);
    }
    let temporary = staging_directory(&plugins)?;
    let unpacked = unpack(source, temporary.path()).map_err(|reason| invalid(source, reason))?;
    install_directory(&unpacked, source, &plugins)
}

/// Installs a plugin's directory. Errors name `source`, which is the directory itself or the archive it came from.
fn install_directory(directory: &Path, source: &Path, plugins: &Path) -> Result<Manifest, CliError> {
    let manifest = read_manifest(directory).map_err(|error| match error {
        CliError::Custom { kind, message, hint } => {
            let message = message.replace(&directory.display().to_string(), &source.display().to_string());
            CliError::Custom { kind, message, hint }
        }
        error => error,
    })?;
    let staging = staging_directory(plugins)?;
    for (file, is_required) in files_to_install(directory, &manifest)? {
        let from = directory.join(&file);
        let to = staging.path().join(&file);
        // A symbolic link may point outside of the plugin, so it is not followed.
        let is_regular = fs::symlink_metadata(&from).is_ok_and(|metadata| metadata.is_file());
        if is_regular {
            let parent = to.parent().unwrap_or(staging.path());
            let copied = create_private_folders(parent).and_then(|()| copy_private(&from, &to));
            copied.map_err(|error| CliError::io(format!("copy {}", from.display()), error))?;
        } else if is_required {
            return Err(invalid(source, format!("{} is missing or not a regular file", file.display())));
        }
    }
    check_folder(staging.path()).map_err(|reason| invalid(source, reason))?;
    replace_directory(staging, &plugins.join(&manifest.name), plugins)?;
    Ok(manifest)
}

/// The files of a plugin, relative to its directory, and whether each of them is required.
fn files_to_install(directory: &Path, manifest: &Manifest) -> Result<Vec<(PathBuf, bool)>, CliError> {
    let mut files = vec![(PathBuf::from(MANIFEST_FILE), true)];
    match entry_of(manifest, directory) {
        EntryPoint::Component(entry) => files.push((entry, true)),
        EntryPoint::Script(language, entry) => {
            let sources = source_files(directory, language)
                .map_err(|error| CliError::io(format!("read {}", directory.display()), error))?;
            // The entry point is one of the sources, and each file is copied once.
            files.extend(sources.into_iter().filter(|file| *file != entry).map(|file| (file, false)));
            files.push((entry, true));
        }
    }
    files.extend(DOCUMENT_FILES.map(|file| (file.into(), false)));
    Ok(files)
}

/// Exchanges two directories, so that a process that is killed leaves either the old or the new one in its place.
#[cfg(target_os = "linux")]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

#[cfg(not(target_os = "linux"))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Renames `staging` to `target`. If that fails, the previous directory is restored.
fn replace_directory(staging: TemporaryFolder, target: &Path, plugins: &Path) -> Result<(), CliError> {
    if target.exists() && exchange(staging.path(), target).is_ok() {
        // `staging` is now the previous directory, and is deleted when it is dropped.
        return Ok(());
    }
    let mut backup = None;
    if target.exists() {
        let directory = staging_directory(plugins)?;
        fs::rename(target, directory.path().join("plugin")).map_err(|error| write_error(target, error))?;
        backup = Some(directory);
    }
    if let Err(error) = fs::rename(staging.path(), target) {
        if let Some(backup) = &backup {
            fs::rename(backup.path().join("plugin"), target).map_err(|error| write_error(target, error))?;
        }
        return Err(write_error(target, error));
    }
    // The directory has been renamed, so there is nothing left to delete on drop.
    staging.keep();
    Ok(())
}

/// A temporary directory in the directory of plugins, because a directory can only be renamed within its file system. It is
/// hidden, so hfs does not list it.
fn staging_directory(plugins: &Path) -> Result<TemporaryFolder, CliError> {
    TemporaryFolder::create_in(plugins).map_err(|error| write_error(plugins, error))
}

fn write_error(path: &Path, error: io::Error) -> CliError {
    CliError::io(format!("write {}", path.display()), error)
}

/// The entry point in the manifest, else the first default whose file exists, else the first default.
fn entry_of(manifest: &Manifest, directory: &Path) -> EntryPoint {
    let exists = |entry: &EntryPoint| directory.join(entry.file()).is_file();
    let [first, ..] = EntryPoint::defaults();
    manifest
        .entry_point
        .clone()
        .unwrap_or_else(|| EntryPoint::defaults().into_iter().find(exists).unwrap_or(first))
}

/// All source files of a language below a directory, without hidden directories and those that tools create.
fn source_files(directory: &Path, language: Language) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        for entry in fs::read_dir(directory.join(&relative))? {
            let entry = entry?;
            let name = entry.file_name();
            let path = relative.join(&name);
            let file_type = entry.file_type()?;
            let is_ignored = name.as_encoded_bytes().starts_with(b".")
                || IGNORED_FOLDERS.iter().any(|ignored| name == *ignored);
            if file_type.is_dir() && !is_ignored {
                pending.push(path);
            } else if file_type.is_file() && Language::of(&path) == Some(language) {
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// Removes one of the user's plugins and the decision about it. Data that the plugin has stored is kept.
fn uninstall(name: &str, context: &Context) -> Result<(), CliError> {
    let plugins = installed_plugins(context);
    let plugin = plugins.get(name)?;
    if plugin.place == Place::Project {
        return Err(CliError::with_hint(
            ErrorKind::Denied,
            format!("{name} belongs to the project, in {}", plugin.folder.display()),
            format!("`hfs plugin deny {name}` keeps it from running"),
        ));
    }
    plugins.revoke(name)?;
    let removed = match fs::symlink_metadata(&plugin.folder) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&plugin.folder),
        // A symbolic link to a directory elsewhere: only the link is removed.
        _ => fs::remove_file(&plugin.folder),
    };
    removed.map_err(|error| CliError::io(format!("remove {}", plugin.folder.display()), error))?;
    report_path(&format!("removed {name}"), &plugin.folder, context)
}
