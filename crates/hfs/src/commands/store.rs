//! `hfs store`: inspects and maintains the store.

use std::path::{Path, PathBuf};

use hfs_core::{CompressedSize, ErrorKind, Problem, Store, StoreInfo, plural};
use hfs_engine::{CopyReport, copy_store};
use hfs_files::TemporaryFolder;
use hfs_store::{SqliteOptions, SqliteStore, StoreUrl};
use serde::Serialize;
use serde_json::json;

use super::session::purge_expired_trash;
use crate::context::Context;
use crate::output::error::{CliError, Outcome};
use crate::output::message::format_size;
use crate::output::progress::update_index;
use crate::output::sanitize;
use crate::wiring;

const EXAMPLES: &str = "\
Examples:
  hfs store info
  hfs store backup ~/hfs-2026-02-01.db      a consistent copy, while other processes use the store
  hfs store copy ~/.hfs/hfs.db postgres://me@db.example/hfs
  hfs store verify                          check everything; exit code 7 if something is damaged";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, clap::Subcommand)]
enum StoreCommand {
    /// Show the store's address, its size and what it contains
    Info,
    /// Check everything in the store for damage
    Verify,
    /// Rebuild a damaged store from everything that is readable; keeps the damaged one and reports what is lost
    Repair,
    /// Write a copy of the store to a new file
    Backup {
        /// The file, which must not exist
        file: PathBuf,
    },
    /// Copy all sessions to another store, and compare them; run it again to continue
    Copy {
        /// The store to copy: a path, sqlite:PATH or postgres://...
        from: String,
        /// The store to copy to, which is created if it does not exist
        to: String,
    },
    /// Purge expired sessions in the trash, compress messages, and return unused space to the file system
    Vacuum,
}

/// Document of `store info`.
#[derive(Serialize)]
struct InfoJson {
    url: String,
    backend: &'static str,
    schema_version: u32,
    sessions: u64,
    messages: u64,
    checkpoints: u64,
    bytes: u64,
    checkpoint_bytes: u64,
    compressed_bytes: u64,
    uncompressed_bytes: u64,
}

impl InfoJson {
    fn new(info: &StoreInfo, size: CompressedSize) -> Self {
        Self {
            url: hfs_secrets::mask_addresses(&info.url).into_owned(),
            backend: info.backend,
            schema_version: info.schema_version,
            sessions: info.sessions,
            messages: info.messages,
            checkpoints: info.checkpoints,
            bytes: info.bytes,
            checkpoint_bytes: info.checkpoint_bytes,
            compressed_bytes: size.compressed_bytes,
            uncompressed_bytes: size.uncompressed_bytes,
        }
    }
}

/// A problem in the documents of `store verify` and `store repair`.
#[derive(Serialize)]
struct ProblemJson {
    kind: String,
    #[serde(rename = "where")]
    place: String,
    detail: String,
}

impl From<Problem> for ProblemJson {
    fn from(problem: Problem) -> Self {
        Self { kind: problem.kind, place: problem.place, detail: problem.detail }
    }
}

pub fn run(args: &StoreArgs, context: &Context) -> Result<Outcome, CliError> {
    match &args.command {
        StoreCommand::Info => info(context),
        StoreCommand::Verify => verify(context),
        StoreCommand::Repair => repair(context),
        StoreCommand::Backup { file } => backup(file, context),
        StoreCommand::Copy { from, to } => copy(from, to, context),
        StoreCommand::Vacuum => vacuum(context),
    }
}

/// Runs a long operation of the store while a spinner is shown.
fn with_spinner<T, E>(
    message: &'static str,
    context: &Context,
    operation: impl FnOnce() -> Result<T, E>,
) -> Result<T, CliError>
where
    CliError: From<E>,
{
    let spinner = context.console.progress(0);
    spinner.set_message(message);
    let result = operation();
    spinner.finish_and_clear();
    Ok(result?)
}

fn info(context: &Context) -> Result<Outcome, CliError> {
    let store = context.store()?;
    let (info, size) = (store.info()?, store.compressed_size()?);
    let console = &context.console;
    if console.options.json {
        console.print_json(&InfoJson::new(&info, size))?;
        return Ok(Outcome::Done);
    }
    let rows = [
        ("store", sanitize::line(&hfs_secrets::mask_addresses(&info.url))),
        ("schema version", info.schema_version.to_string()),
        ("sessions", info.sessions.to_string()),
        ("messages", info.messages.to_string()),
        ("checkpoints", format!("{} ({})", info.checkpoints, format_size(info.checkpoint_bytes))),
        (
            "compressed",
            format!(
                "{} of messages in {}",
                format_size(size.uncompressed_bytes),
                format_size(size.compressed_bytes)
            ),
        ),
        ("size", format_size(info.bytes)),
    ];
    let text: String = rows.iter().map(|(name, value)| format!("{name:16}{value}\n")).collect();
    console.print(&text)?;
    Ok(Outcome::Done)
}

fn verify(context: &Context) -> Result<Outcome, CliError> {
    let console = &context.console;
    let store = context.store()?;
    let report = with_spinner("checking the store", context, || store.verify())?;
    let is_ok = report.is_ok();
    let outcome = if is_ok { Outcome::Done } else { Outcome::WithFailures(ErrorKind::Corrupt) };
    if console.options.json {
        let checked: serde_json::Map<String, serde_json::Value> =
            report.checked.into_iter().map(|(what, count)| (what, count.into())).collect();
        let problems: Vec<ProblemJson> = report.problems.into_iter().map(ProblemJson::from).collect();
        console.print_json(&json!({ "ok": is_ok, "checked": checked, "problems": problems }))?;
        return Ok(outcome);
    }
    let checked: Vec<String> = report.checked.iter().map(|(what, count)| format!("{count} {what}")).collect();
    let mut text = format!("checked {}\n", sanitize::line(&checked.join(", ")));
    text += &render_problems(&report.problems);
    if is_ok {
        text += "no problems found\n";
    }
    console.print(&text)?;
    if !is_ok {
        console.note("`hfs store repair` recovers everything that is readable, and keeps the damaged store");
    }
    Ok(outcome)
}

fn render_problems(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| {
            let [kind, place, detail] =
                [&problem.kind, &problem.place, &problem.detail].map(|text| sanitize::line(text));
            format!("{kind}: {place}: {detail}\n")
        })
        .collect()
}

fn repair(context: &Context) -> Result<Outcome, CliError> {
    let console = &context.console;
    // Without `Context::store`, because a damaged store may not open.
    let repaired = with_spinner("repairing", context, || {
        wiring::repair_store(&context.home, &context.settings, &context.environment)
    })?;
    if console.options.json {
        let repaired: Vec<ProblemJson> = repaired.into_iter().map(ProblemJson::from).collect();
        console.print_json(&json!({ "repaired": repaired }))?;
    } else if repaired.is_empty() {
        console.print("there was nothing to repair\n")?;
    } else {
        console.print(&render_problems(&repaired))?;
    }
    Ok(Outcome::Done)
}

fn backup(file: &Path, context: &Context) -> Result<Outcome, CliError> {
    let console = &context.console;
    let target = context.environment.working_directory.join(file);
    let store = context.store()?;
    let url = wiring::store_url(&context.home, &context.settings)?;
    let outcome = if matches!(url, StoreUrl::Postgres(_)) {
        backup_to_sqlite(store.as_ref(), &target, context)?
    } else {
        with_spinner("copying", context, || store.backup(&target))?;
        Outcome::Done
    };
    let bytes = std::fs::metadata(&target).map_or(0, |metadata| metadata.len());
    if console.options.json {
        console.print_json(&json!({ "file": target, "bytes": bytes }))?;
    } else {
        let path = sanitize::line(&target.display().to_string());
        let size = format_size(bytes);
        console.note(&format!("copied {size} to {path}; use it with: hfs --store sqlite:{path} ..."));
    }
    Ok(outcome)
}

/// Copies a store on a server to a new file.
fn backup_to_sqlite(store: &dyn Store, target: &Path, context: &Context) -> Result<Outcome, CliError> {
    if target.symlink_metadata().is_ok() {
        let message = format!("{} already exists", sanitize::line(&target.display().to_string()));
        return Err(CliError::new(ErrorKind::Conflict, message));
    }
    // Beside the file, so that there is space for one and the same file system.
    let directory = target.parent().unwrap_or(target);
    let folder = TemporaryFolder::create_in(directory).map_err(|error| {
        let message =
            format!("cannot write to {}: {error}", sanitize::line(&directory.display().to_string()));
        CliError::new(ErrorKind::Unavailable, message)
    })?;
    let copy = SqliteStore::open(folder.path().join("copy.db"), SqliteOptions::default())?;
    let report = copy_with_progress(store, &copy, context)?;
    // The file has its name as soon as it is complete.
    with_spinner("writing the file", context, || hfs_core::Maintenance::backup(&copy, target))?;
    for line in problems_of(&report) {
        context.console.warn(&line);
    }
    Ok(outcome_of(&report))
}

fn copy(from: &str, to: &str, context: &Context) -> Result<Outcome, CliError> {
    let console = &context.console;
    let directory = &context.environment.working_directory;
    if let StoreUrl::Sqlite(path) = from.parse()?
        && !directory.join(&path).exists()
    {
        let path = sanitize::line(&path.display().to_string());
        return Err(CliError::new(ErrorKind::NotFound, format!("there is no store {path}")));
    }
    let [from, to] = [from, to].map(|url| wiring::open_store_at(url, context));
    let (from, to) = (from?, to?);
    let [from_url, to_url] = [&from, &to].map(|store| store.info().map(|info| info.url));
    let (from_url, to_url) = (from_url?, to_url?);
    if from_url == to_url {
        return Err(CliError::new(ErrorKind::Invalid, "both addresses are the same store"));
    }
    let report = copy_with_progress(from.as_ref(), to.as_ref(), context)?;
    update_index(to.as_ref(), console, &|| true)?;
    if console.options.json {
        let differing: Vec<_> = report
            .differing
            .iter()
            .map(|session| {
                let difference = session.difference.as_str();
                json!({ "session": session.id.to_string(), "name": session.name, "differs_in": difference })
            })
            .collect();
        let damaged: Vec<_> = report
            .damaged
            .iter()
            .map(|(id, error)| json!({ "session": id.to_string(), "error": error.to_string() }))
            .collect();
        console.print_json(&json!({
            "copied": report.copied,
            "already_there": report.already_there,
            "messages": report.messages,
            "differing": differing,
            "damaged": damaged,
            "unreadable": report.unreadable,
        }))?;
        return Ok(outcome_of(&report));
    }
    for line in problems_of(&report) {
        console.warn(&line);
    }
    let CopyReport { copied, already_there, messages, .. } = report;
    console.note(&format!(
        "copied {} to {}; there already: {already_there}; compared {}",
        plural(copied, "session"),
        sanitize::line(&hfs_secrets::mask_addresses(&to_url)),
        plural(messages, "message")
    ));
    Ok(outcome_of(&report))
}

/// Copies what the store contains now.
fn copy_with_progress(from: &dyn Store, to: &dyn Store, context: &Context) -> Result<CopyReport, CliError> {
    let snapshot = from.snapshot()?;
    let bar = context.console.progress(from.info()?.sessions);
    bar.set_message("copying sessions");
    let report = copy_store(snapshot.as_ref(), to, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    Ok(report?)
}

fn problems_of(report: &CopyReport) -> Vec<String> {
    let mut lines = Vec::new();
    for session in &report.differing {
        let name = sanitize::line(&session.name);
        lines.push(format!(
            "{name:?} ({}) was not copied: the other store has it, and {} differ there",
            session.id.short().shown(),
            session.difference.as_str()
        ));
    }
    for (id, error) in &report.damaged {
        let error = sanitize::line(&error.to_string());
        lines.push(format!("session {} was not copied completely: {error}", id.short().shown()));
    }
    if report.unreadable > 0 {
        lines.push(format!(
            "{} sessions are damaged and were not copied; `hfs store verify` names them",
            report.unreadable
        ));
    }
    lines
}

const fn outcome_of(report: &CopyReport) -> Outcome {
    if !report.damaged.is_empty() || report.unreadable > 0 {
        Outcome::WithFailures(ErrorKind::Corrupt)
    } else if !report.differing.is_empty() {
        Outcome::WithFailures(ErrorKind::Conflict)
    } else {
        Outcome::Done
    }
}

fn vacuum(context: &Context) -> Result<Outcome, CliError> {
    let console = &context.console;
    let store = context.store()?;
    let before = store.info()?.bytes;
    let purged = purge_expired_trash(context)?;
    compress(store.as_ref(), context)?;
    with_spinner("vacuuming", context, || store.vacuum())?;
    let after = store.info()?.bytes;
    if console.options.json {
        console.print_json(&json!({ "bytes_before": before, "bytes": after, "purged_sessions": purged }))?;
    } else {
        console.note(&format!("{} before, {} now", format_size(before), format_size(after)));
    }
    Ok(Outcome::Done)
}

fn compress(store: &dyn Store, context: &Context) -> Result<(), CliError> {
    let bar = context.console.progress(1);
    bar.set_message("compressing messages");
    let result = store.compress(&mut |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    Ok(result?)
}
