//! `hfs watch`: imports what other tools write, as they write it.

use hfs_core::{ErrorKind, plural};
use serde::Serialize;

use super::import::{FailedJson, ImportedJson, lock_imports, render_session};
use crate::context::Context;
use crate::interrupt;
use crate::output::error::{CliError, ErrorDocument, Outcome};
use crate::output::progress::update_index;
use crate::output::sanitize;
use crate::watch::catch_up::exclusions;
use crate::watch::follower::{Follower, OpenLine};
use crate::watch::import_folder::ImportFolder;
use crate::watch::place::Place;
use crate::watch::service::{self, Service, UNIT};
use crate::watch::status::WatchReport;
use crate::watch::watcher::Watcher;

const EXAMPLES: &str = "\
Examples:
  hfs watch                                import what agents write, until Ctrl+C
  hfs watch --once                         import what is new, and end
  hfs watch --install                      let systemd run the watcher whenever you are logged in
  hfs watch --status                       whether it runs, and what it has imported
  hfs config set watch.exclude '[~/private, client-*]'    projects and paths that are left out

The watcher follows the usual places of all tools that hfs reads; it only reads them. Sessions that were deleted \
permanently stay deleted. With --json, each imported session is a line.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct WatchArgs {
    /// Import what is new, and end
    #[arg(long, group = "mode")]
    once: bool,
    /// Show whether a watcher runs, what it has imported and what has failed
    #[arg(long, group = "mode")]
    status: bool,
    /// Install the watcher as a service of your systemd, and start it
    #[arg(long, group = "mode")]
    install: bool,
    /// Stop the service and remove it
    #[arg(long, group = "mode")]
    uninstall: bool,
}

pub fn run(args: &WatchArgs, context: &Context) -> Result<Outcome, CliError> {
    if args.uninstall {
        return uninstall(context);
    }
    let folder = ImportFolder::of(context)?.ok_or_else(|| {
        CliError::with_hint(
            ErrorKind::Invalid,
            "`hfs watch` cannot use a store in memory, which ends with the process",
            "use a store in a file, such as --store sqlite:PATH",
        )
    })?;
    match args {
        WatchArgs { once: true, .. } => once(context),
        WatchArgs { status: true, .. } => status(&folder, context),
        WatchArgs { install: true, .. } => install(context),
        _ => watch(&folder, context),
    }
}

fn watch(folder: &ImportFolder, context: &Context) -> Result<Outcome, CliError> {
    let exclusions = exclusions(context)?;
    let store = context.small_store()?;
    let lock = folder.lock_watcher().map_err(|error| CliError::io("lock the store for a watcher", error))?;
    let Some(_lock) = lock else {
        let pid = folder.report().map(|report| format!(" (process {})", report.pid)).unwrap_or_default();
        return Err(CliError::with_hint(
            ErrorKind::Conflict,
            format!("another watcher of this store runs already{pid}"),
            "`hfs watch --status` shows what it does",
        ));
    };
    // Copies of databases that a killed watcher has left.
    hfs_files::remove_abandoned(&std::env::temp_dir());
    let stop = interrupt::install()?;
    let watcher = Watcher::new(context, store.as_ref(), folder, &exclusions, stop)?;
    // On standard error also if the output goes to a file, which is empty until a tool writes.
    context.console.note("watching what other tools write; Ctrl+C ends");
    match watcher.run() {
        Ok(()) | Err(CliError::ClosedPipe) => Ok(Outcome::Done),
        Err(error) => Err(error),
    }
}

/// Document of `watch --once`.
#[derive(Serialize)]
struct OnceJson<'a> {
    updated: Vec<ImportedJson<'a>>,
    failed: Vec<FailedJson<'a>>,
    bytes_read: u64,
}

fn once(context: &Context) -> Result<Outcome, CliError> {
    let exclusions = exclusions(context)?;
    let store = context.store()?.as_ref();
    let cancel = interrupt::install()?;
    let _lock = lock_imports(context)?;
    let console = &context.console;
    let mut follower = Follower::new(store, &exclusions, &context.environment, &context.home)?;
    let mut failed: Vec<(String, ErrorDocument)> = Vec::new();
    for error in follower.compare_all(None) {
        failed.push((String::new(), ErrorDocument::new(&error.0)));
    }
    for folder in follower.places.iter().flat_map(Place::unreadable) {
        failed.push((folder.path.display().to_string(), folder.document()));
    }
    let changed = follower.changed(false);
    let bar = console.progress(changed.len() as u64);
    let (mut imported, mut bytes_read, mut failure) = (Vec::new(), 0, None);
    for sources in changed.chunks(64) {
        let round = follower.import(sources, OpenLine::ImportRecord, &|| cancel.is_cancelled());
        bar.inc(sources.len() as u64);
        for import in round.sources {
            bytes_read += import.bytes_read;
            imported.extend(import.imported);
            failed.extend(import.error.map(|error| (import.source.path.display().to_string(), error)));
        }
        failure = round.failure;
        if failure.is_some() || round.is_stopped {
            break;
        }
    }
    bar.finish_and_clear();
    if let Err(error) = follower.save() {
        tracing::warn!(%error, "what was seen was not saved");
    }
    // Without this step, the next search would index the imported messages and take long.
    if let Err(error) = update_index(store, console, &|| !cancel.is_cancelled()) {
        tracing::warn!(%error, "the imported messages are not indexed yet");
    }
    if console.options.json {
        let updated = imported.iter().map(ImportedJson::new).collect();
        let failed = failed.iter().map(|(file, error)| FailedJson { file, error }).collect();
        console.print_json(&OnceJson { updated, failed, bytes_read })?;
    } else {
        let lines: String =
            imported.iter().map(|session| render_session(session, console.options.verbose)).collect();
        console.print(&lines)?;
        failed.iter().for_each(|(_, error)| console.print_error(error));
    }
    if let Some(error) = failure {
        console.print_error(&error);
        return Ok(Outcome::WithFailures(ErrorKind::Unavailable));
    }
    Ok(match (cancel.is_cancelled(), failed.is_empty()) {
        (true, _) => Outcome::Interrupted,
        (false, true) => Outcome::Done,
        (false, false) => Outcome::WithFailures(ErrorKind::Invalid),
    })
}

/// Document of `watch --status`: what the last watcher reported, also if it has ended.
#[derive(Serialize)]
struct StatusJson {
    running: bool,
    installed: bool,
    #[serde(flatten)]
    report: Option<WatchReport>,
}

fn status(folder: &ImportFolder, context: &Context) -> Result<Outcome, CliError> {
    let running = folder.is_watched();
    let installed = Service::find(&context.environment).is_ok_and(|service| service.is_installed());
    let report = folder.report();
    let console = &context.console;
    if console.options.json {
        console.print_json(&StatusJson { running, installed, report })?;
        return Ok(Outcome::Done);
    }
    console.print(&render_status(running, installed, report.as_ref(), context))?;
    Ok(Outcome::Done)
}

fn render_status(running: bool, installed: bool, report: Option<&WatchReport>, context: &Context) -> String {
    let mut text = match (running, report) {
        (true, Some(status)) => {
            format!("running since {} (process {})\n", context.format_time(status.started_at), status.pid)
        }
        (true, None) => "running\n".to_owned(),
        (false, _) if installed => {
            format!("not running; `systemctl --user start {UNIT}` starts the service that is installed\n")
        }
        (false, _) => {
            "not running; `hfs watch` runs it here, `hfs watch --install` as a service\n".to_owned()
        }
    };
    let Some(status) = report else { return text };
    if !running {
        text += &format!("the last watcher started {}:\n", context.format_time(status.started_at));
    }
    if let Some(reason) = &status.mode_reason {
        text += &format!("polls for changes: {}\n", sanitize::line(reason));
    }
    for place in &status.places {
        let plural = if place.transcripts == 1 { "" } else { "s" };
        let path = sanitize::line(&place.path.display().to_string());
        text += &format!("  {path}  ({} transcript{plural})\n", place.transcripts);
    }
    let imported = &status.imported;
    text += &format!(
        "imported: {}, {}, {}",
        plural(imported.new_sessions, "new session"),
        plural(imported.updates, "update"),
        plural(imported.messages, "message")
    );
    match status.last_import_at {
        Some(at) => text += &format!("; the last {}\n", context.format_time(at)),
        None => text += "\n",
    }
    if let Some(lag) = &status.lag_ms {
        text += &format!("lag: 95 % within {} ms, at most {} ms\n", lag.p95, lag.max);
    }
    if status.waiting > 0 {
        text += &format!("waiting: {}\n", plural(status.waiting, "transcript"));
    }
    for failed in &status.failed {
        let (file, error) = (sanitize::line(&failed.file), sanitize::line(&failed.error));
        let file = if error.contains(&file) { String::new() } else { format!("{file}: ") };
        text += &format!("failed: {file}{error}\n");
    }
    let others = status.failed_count.saturating_sub(status.failed.len() as u64);
    if others > 0 {
        text += &format!("failed: {others} more\n");
    }
    text
}

/// Document of `watch --install` and `watch --uninstall`.
#[derive(Serialize)]
struct ServiceJson<'a> {
    installed: bool,
    path: &'a std::path::Path,
    changed: bool,
}

fn install(context: &Context) -> Result<Outcome, CliError> {
    let service = Service::find(&context.environment)?;
    service::check_systemd()?;
    // A configuration with which the service would fail is reported now.
    exclusions(context)?;
    let console = &context.console;
    let path = sanitize::line(&service.path.display().to_string());
    let changed = service.write(context)?;
    let report = |text: &str| if console.options.json { Ok(()) } else { console.print(&format!("{text}\n")) };
    report(&if changed { format!("wrote {path}") } else { format!("{path} is as it should be") })?;
    for arguments in [&["daemon-reload"][..], &["enable", UNIT], &["restart", UNIT]] {
        service::run(arguments)?;
        report(&format!("ran systemctl --user {}", arguments.join(" ")))?;
    }
    if console.options.json {
        console.print_json(&ServiceJson { installed: true, path: &service.path, changed })?;
    }
    console.note(
        "the watcher runs while you are logged in; `loginctl enable-linger` lets it run always, \
         `hfs watch --status` shows what it does, `hfs watch --uninstall` removes it",
    );
    Ok(Outcome::Done)
}

fn uninstall(context: &Context) -> Result<Outcome, CliError> {
    let service = Service::find(&context.environment)?;
    let console = &context.console;
    let changed = service.is_installed();
    let report = |text: &str| if console.options.json { Ok(()) } else { console.print(&format!("{text}\n")) };
    let path = sanitize::line(&service.path.display().to_string());
    if changed {
        // Without a running systemd, there is no service to stop.
        match service::run(&["disable", "--now", UNIT]) {
            Ok(_) => report(&format!("ran systemctl --user disable --now {UNIT}"))?,
            Err(error) => console.warn(&sanitize::line(&error.document().one_line())),
        }
        service.remove()?;
        report(&format!("removed {path}"))?;
        if service::run(&["daemon-reload"]).is_ok() {
            report("ran systemctl --user daemon-reload")?;
        }
    } else {
        report(&format!("{path} does not exist, so nothing was removed"))?;
    }
    if console.options.json {
        console.print_json(&ServiceJson { installed: false, path: &service.path, changed })?;
    }
    Ok(Outcome::Done)
}
