//! `hfs store`

use std::path::PathBuf;

use hfs_core::{ErrorKind, Problem, StoreInfo};
use serde::Serialize;

use super::session::empty_old_trash;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::plain;
use crate::transcript::size;

const EXAMPLES: &str = "\
Examples:
  hfs store info
  hfs store backup ~/hfs-2026-02-01.db      a consistent copy, while others go on working
  hfs store verify                          looks at everything; exit code 7 when something is damaged";

/// What to do with the store.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Store {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, clap::Subcommand)]
enum StoreCommand {
    /// Say where it is and how much is in it
    Info,
    /// Look at everything in it for damage
    Verify,
    /// Mend what can be mended and remove what cannot, saying what that was
    Repair,
    /// Write a copy to a file that does not exist yet
    Backup {
        /// The file
        file: PathBuf,
    },
    /// Give unused space back to the disk
    Vacuum,
}

#[derive(Serialize)]
struct InfoView {
    url: String,
    backend: &'static str,
    schema_version: u32,
    sessions: u64,
    messages: u64,
    checkpoints: u64,
    bytes: u64,
    checkpoint_bytes: u64,
}

impl From<StoreInfo> for InfoView {
    fn from(info: StoreInfo) -> Self {
        Self {
            url: info.url,
            backend: info.backend,
            schema_version: info.schema_version,
            sessions: info.sessions,
            messages: info.messages,
            checkpoints: info.checkpoints,
            bytes: info.bytes,
            checkpoint_bytes: info.checkpoint_bytes,
        }
    }
}

#[derive(Serialize)]
struct ProblemRow {
    kind: String,
    #[serde(rename = "where")]
    place: String,
    detail: String,
}

impl From<Problem> for ProblemRow {
    fn from(problem: Problem) -> Self {
        Self { kind: problem.kind, place: problem.place, detail: problem.detail }
    }
}

/// Looks after the store.
pub fn run(store: &Store, context: &Context) -> Result<Outcome, Failure> {
    match &store.command {
        StoreCommand::Info => info(context),
        StoreCommand::Verify => verify(context),
        StoreCommand::Repair => repair(context),
        StoreCommand::Backup { file } => backup(file, context),
        StoreCommand::Vacuum => vacuum(context),
    }
}

fn info(context: &Context) -> Result<Outcome, Failure> {
    let info = context.store()?.info()?;
    let console = &context.console;
    if console.manner.json {
        console.json(&InfoView::from(info))?;
        return Ok(Outcome::Done);
    }
    let rows = [
        ("store", plain::line(&info.url)),
        ("schema version", info.schema_version.to_string()),
        ("sessions", info.sessions.to_string()),
        ("messages", info.messages.to_string()),
        ("checkpoints", format!("{} ({})", info.checkpoints, size(info.checkpoint_bytes))),
        ("size", size(info.bytes)),
    ];
    let text: String = rows.iter().map(|(name, value)| format!("{name:16}{value}\n")).collect();
    console.print(&text)?;
    Ok(Outcome::Done)
}

fn verify(context: &Context) -> Result<Outcome, Failure> {
    let console = &context.console;
    let bar = console.progress(0);
    bar.set_message("looking at everything");
    let found = context.store()?.verify();
    bar.finish_and_clear();
    let found = found?;
    let ok = found.is_ok();
    let outcome = if ok { Outcome::Done } else { Outcome::Partly(ErrorKind::Corrupt) };
    if console.manner.json {
        let checked: serde_json::Map<String, serde_json::Value> =
            found.checked.into_iter().map(|(what, count)| (what, count.into())).collect();
        let problems: Vec<ProblemRow> = found.problems.into_iter().map(ProblemRow::from).collect();
        console.json(&serde_json::json!({ "ok": ok, "checked": checked, "problems": problems }))?;
        return Ok(outcome);
    }
    let checked: Vec<String> = found.checked.iter().map(|(what, count)| format!("{count} {what}")).collect();
    let mut text = format!("checked {}\n", plain::line(&checked.join(", ")));
    text += &problems(&found.problems);
    if ok {
        text += "everything is in order\n";
    }
    console.print(&text)?;
    if !ok {
        console
            .note("`hfs store repair` saves what is not damaged; make a copy first: hfs store backup FILE");
    }
    Ok(outcome)
}

fn problems(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| {
            format!(
                "{}: {}: {}\n",
                plain::line(&problem.kind),
                plain::line(&problem.place),
                plain::line(&problem.detail)
            )
        })
        .collect()
}

fn repair(context: &Context) -> Result<Outcome, Failure> {
    let console = &context.console;
    let bar = console.progress(0);
    bar.set_message("repairing");
    let done = context.store()?.repair();
    bar.finish_and_clear();
    let done = done?;
    if console.manner.json {
        let done: Vec<ProblemRow> = done.into_iter().map(ProblemRow::from).collect();
        console.json(&serde_json::json!({ "repaired": done }))?;
    } else if done.is_empty() {
        console.print("there was nothing to repair\n")?;
    } else {
        console.print(&problems(&done))?;
    }
    Ok(Outcome::Done)
}

fn backup(file: &std::path::Path, context: &Context) -> Result<Outcome, Failure> {
    let console = &context.console;
    let bar = console.progress(0);
    bar.set_message("copying");
    let target = context.environment.working_directory.join(file);
    let done = context.store()?.backup(&target);
    bar.finish_and_clear();
    done?;
    let bytes = std::fs::metadata(&target).map_or(0, |metadata| metadata.len());
    if console.manner.json {
        console.json(&serde_json::json!({ "file": target, "bytes": bytes }))?;
    } else {
        let place = plain::line(&target.display().to_string());
        console
            .note(&format!("{} copied to {place}; use it with: hfs --store sqlite:{place} ...", size(bytes)));
    }
    Ok(Outcome::Done)
}

fn vacuum(context: &Context) -> Result<Outcome, Failure> {
    let console = &context.console;
    let store = context.store()?;
    let before = store.info()?.bytes;
    let purged = empty_old_trash(context)?;
    let bar = console.progress(0);
    bar.set_message("giving space back");
    let done = store.vacuum();
    bar.finish_and_clear();
    done?;
    let after = store.info()?.bytes;
    if console.manner.json {
        console.json(
            &serde_json::json!({ "bytes_before": before, "bytes": after, "purged_sessions": purged }),
        )?;
    } else {
        console.note(&format!("{} before, {} now", size(before), size(after)));
    }
    Ok(Outcome::Done)
}
