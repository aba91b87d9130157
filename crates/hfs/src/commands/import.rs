//! `hfs import`

mod report;
mod sink;

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use hfs_core::{ErrorExt, ErrorKind, ImportError, SystemClock};
use hfs_engine::{Importer, OnDuplicate, SkippedSession};
use hfs_exchange::{Format, Source, discover};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::failure::{ErrorDocument, Failure, Outcome, describe};
use crate::{indexing, interrupt, plain};
use report::Report;
pub use sink::WithRepositories;

const EXAMPLES: &str = "\
Examples:
  hfs import ~/.claude                       every session in a tool's directory
  hfs import chat.json another.jsonl         files; their format is found by looking
  curl ... | hfs import - --format hfs       from standard input
  hfs import ~/.claude --dry-run             only say what would be taken

Importing again adds only what is new. One bad file costs one file (exit code 6), one bad record one record.";

/// What to take in, and how.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Import {
    /// Files or directories; - for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The format, where looking does not find it
    #[arg(long, value_parser = format, value_name = "FORMAT", help = format_help())]
    format: Option<Format>,
    /// Read and report everything, write nothing
    #[arg(long)]
    dry_run: bool,
    /// What to do with a session that is here already [default: add what is new to other tools' sessions, skip
    /// sessions exported by hfs]
    #[arg(long, value_name = "WHAT")]
    on_duplicate: Option<Duplicate>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Duplicate {
    /// Leave it as it is
    Skip,
    /// Take it again, as another session
    Copy,
    /// Add what is new; what has gone another way becomes a branch
    Update,
}

fn format(text: &str) -> Result<Format, String> {
    text.parse().map_err(|error: hfs_exchange::ParseFormatError| error.to_string())
}

fn format_help() -> String {
    let names: Vec<&str> = Format::ALL.iter().map(|format| format.as_str()).collect();
    format!("The format, where looking does not find it: {}", names.join(", "))
}

/// Takes in transcripts.
pub fn run(import: &Import, context: &Context) -> Result<Outcome, Failure> {
    let mut intake = Intake { dry_run: import.dry_run, ..Intake::default() };
    intake.on_duplicate = match import.on_duplicate {
        None => OnDuplicate::Auto,
        Some(Duplicate::Skip) => OnDuplicate::Skip,
        Some(Duplicate::Copy) => OnDuplicate::Copy,
        Some(Duplicate::Update) => OnDuplicate::Update,
    };
    intake.find(&import.paths, import.format, context)?;
    let report = intake.take(context, &interrupt::watch()?)?;
    report.print(context)?;
    Ok(report.outcome())
}

/// What is to be taken in.
#[derive(Debug, Default)]
pub struct Intake {
    dry_run: bool,
    on_duplicate: OnDuplicate,
    sources: Vec<(Source, Option<Format>)>,
    empty: Vec<PathBuf>,
    failed: Vec<(String, ErrorDocument)>,
}

impl Intake {
    /// Looks for transcripts at these paths.
    ///
    /// # Errors
    /// When standard input cannot be read. A path that cannot be read is a failure of its own, reported later.
    pub fn find(
        &mut self,
        paths: &[PathBuf],
        format: Option<Format>,
        context: &Context,
    ) -> Result<(), Failure> {
        for path in paths {
            if path == Path::new("-") {
                let source = Source::stream(std::io::stdin().lock())
                    .map_err(|error| Failure::io("read standard input", error))?;
                self.sources.push((source, format));
                continue;
            }
            let path = context.environment.working_directory.join(path);
            match discover(&path) {
                Ok(found) if found.is_empty() => self.empty.push(path),
                Ok(found) => self.sources.extend(found.into_iter().map(|source| (source, format))),
                Err(error) => self.failed.push((path.display().to_string(), describe(&error))),
            }
        }
        Ok(())
    }

    /// Takes everything in, one file after the other.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub fn take(self, context: &Context, cancel: &CancellationToken) -> Result<Report, Failure> {
        let store = context.store()?;
        let bar = context.console.progress(self.sources.iter().map(|(source, _)| source.bytes()).sum());
        let done = RefCell::new(0);
        let importer = Importer::new(store.as_ref(), &SystemClock, self.on_duplicate, self.dry_run)
            .with_progress(|bytes| {
                bar.set_position(*done.borrow() + bytes);
                !cancel.is_cancelled()
            });
        let mut sink = WithRepositories::new(importer);
        let mut failed = self.failed;
        let mut stopped = None;
        for (source, format) in &self.sources {
            // Readers of small files may be done before they would ask.
            if cancel.is_cancelled() {
                stopped = Some(Outcome::Interrupted);
                break;
            }
            let name = source.name();
            bar.set_message(plain::line(&name));
            let before = sink.count();
            sink.next_file(source);
            let result = hfs_exchange::read(source, *format, &mut sink);
            sink.abandon();
            *done.borrow_mut() += source.bytes();
            match result {
                Ok(()) if sink.count() == before => {
                    sink.skip(SkippedSession { file: name, reason: "there is no session in it".into() });
                }
                Ok(()) => {}
                Err(ImportError::Interrupted { .. }) => {
                    stopped = Some(Outcome::Interrupted);
                    break;
                }
                Err(error) => {
                    tracing::warn!(kind = error.kind().as_str(), "a file was not imported");
                    failed.push((name, describe(&error)));
                    if is_the_stores(&error) {
                        stopped = Some(Outcome::Partly(error.kind()));
                        break;
                    }
                }
            }
        }
        // All is saved. It is made searchable while somebody watches; otherwise by whoever searches next.
        let is_watched = !bar.is_hidden();
        bar.finish_and_clear();
        if is_watched && stopped.is_none() && !self.dry_run {
            let updated = indexing::update(store.as_ref(), &context.console, &|| !cancel.is_cancelled());
            if let Err(error) = updated {
                tracing::warn!(%error, "what was imported is not indexed yet");
            }
        }
        let (imported, mut skipped) = sink.finish();
        skipped.extend(self.empty.iter().map(|path| SkippedSession {
            file: path.display().to_string(),
            reason: "no transcripts were found in it".into(),
        }));
        Ok(Report { dry_run: self.dry_run, imported, skipped, failed, stopped })
    }
}

/// Whether every further file would fail in the same way.
fn is_the_stores(error: &ImportError) -> bool {
    let ImportError::Store(error) = error else { return false };
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Denied | ErrorKind::Corrupt)
}
