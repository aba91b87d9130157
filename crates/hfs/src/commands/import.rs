//! `hfs import`: imports transcripts of other tools and exported sessions.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use hfs_core::{
    BranchId, Continuation, ErrorExt as _, ErrorKind, Flow, ImportError, ImportEvent, ImportReceiver,
    ImportReport, Store, StoreError, SystemClock, plural,
};
use hfs_engine::{ImportedSession, Importer, OnDuplicate, SkipReason, SkippedSession};
use hfs_exchange::{Discovery, Format, Source, discover_unless_known};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::home::Home;
use crate::output::error::{CliError, ErrorDocument, Outcome};
use crate::output::progress::update_index_up_to;
use crate::output::sanitize;
use crate::output::suggestions;
use crate::output::table::shorten;
use crate::watch::exclusions::Exclusions;
use crate::watch::import_folder::{ImportFolder, Lock};
use crate::wiring::agent_sessions::AgentSessionList;
use crate::{interrupt, project};

/// An import without a progress display indexes at most this many messages, which takes a second or two. The next search, the app or a
/// watcher indexes the others.
const UNSEEN_INDEX_LIMIT: u64 = 20_000;

const EXAMPLES: &str = "\
Examples:
  hfs import ~/.claude                       every session in a tool's directory
  hfs import chat.json another.jsonl         files; the format is detected
  curl ... | hfs import - --format hfs       standard input
  hfs import ~/.claude --dry-run             show what would be imported

Importing again adds what is new and updates what has changed. Files that have not changed are not read. A damaged \
file does not stop the import of others (exit code 6; 9 if all such files are of a newer version), and a damaged \
record does not stop the import of its file.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ImportArgs {
    /// Files or directories; - for standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The format, if it is not detected
    #[arg(long, value_name = "FORMAT", help = format_help())]
    format: Option<Format>,
    /// Read all files, also those that have not changed since they were imported, and files named here also if their
    /// sessions were deleted permanently
    #[arg(long)]
    full: bool,
    /// Read and report everything, write nothing
    #[arg(long)]
    dry_run: bool,
    /// What to do with a session that was imported before [default: add new messages to sessions of other tools, skip
    /// sessions exported by hfs]
    #[arg(long, value_name = "WHAT")]
    on_duplicate: Option<DuplicateAction>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DuplicateAction {
    /// Keep the session as it is
    Skip,
    /// Import the session again, as another session
    Copy,
    /// Add new messages and update changed ones; a history that differs becomes a branch
    Update,
}

fn format_help() -> String {
    let names: Vec<&str> = Format::ALL.iter().map(|format| format.as_str()).collect();
    format!("The format, if it is not detected: {}", names.join(", "))
}

pub fn run(args: &ImportArgs, context: &Context) -> Result<Outcome, CliError> {
    let on_duplicate = match args.on_duplicate {
        None => OnDuplicate::Auto,
        Some(DuplicateAction::Skip) => OnDuplicate::Skip,
        Some(DuplicateAction::Copy) => OnDuplicate::Copy,
        Some(DuplicateAction::Update) => OnDuplicate::Update,
    };
    // Copies of databases that killed imports have left, which this one may not need itself.
    hfs_files::remove_abandoned(&std::env::temp_dir());
    let store = context.store()?;
    let _lock = if args.dry_run { None } else { lock_imports(context)? };
    let inputs = find_inputs(args, store.as_ref(), context)?;
    let options = ImportOptions { on_duplicate, dry_run: args.dry_run, full: args.full };
    let report = import(inputs, options, store.as_ref(), context, &interrupt::install()?)?;
    report.print(context)?;
    Ok(report.outcome())
}

/// Waits until no other import into the store runs.
pub fn lock_imports(context: &Context) -> Result<Option<Lock>, CliError> {
    let Some(folder) = ImportFolder::of(context)? else { return Ok(None) };
    let lock = folder.lock_import(|| context.console.note("waiting for another import to end"));
    lock.map(Some).map_err(|error| CliError::io("lock the store for an import", error))
}

/// The transcripts at the paths on the command line.
#[derive(Default)]
struct Inputs {
    sources: Vec<Source>,
    format: Option<Format>,
    /// Names of the sources that the command line names itself, not their directory.
    named: HashSet<String>,
    skipped: Vec<SkippedSession>,
    /// Paths that cannot be read, each with its error.
    failed: Vec<(String, ErrorDocument)>,
}

#[derive(Debug, Clone, Copy)]
struct ImportOptions {
    on_duplicate: OnDuplicate,
    dry_run: bool,
    full: bool,
}

fn find_inputs(args: &ImportArgs, store: &dyn Store, context: &Context) -> Result<Inputs, CliError> {
    let mut inputs = Inputs { format: args.format, ..Inputs::default() };
    for path in &args.paths {
        if path == Path::new("-") {
            let source = Source::stream(std::io::stdin().lock());
            let source = source.map_err(|error| CliError::io("read standard input", error))?;
            inputs.named.insert(source.name());
            inputs.sources.push(source);
            continue;
        }
        let path = context.environment.working_directory.join(path);
        match discover_unless_known(&path, |source| !args.full && is_unchanged(store, source)) {
            Ok(found) => {
                if !path.is_dir() {
                    inputs.named.extend(found.sources.iter().map(Source::name));
                }
                inputs.skipped.extend(skipped_files(&path, &found));
                inputs.sources.extend(found.sources);
            }
            Err(error) => inputs.failed.push((path.display().to_string(), ErrorDocument::new(&error))),
        }
    }
    Ok(inputs)
}

/// Whether a source was imported completely in its current state.
fn is_unchanged(store: &dyn Store, source: &Source) -> bool {
    let known = store.find_imported_source(&source.name()).ok().flatten();
    known.is_some_and(|known| source.fingerprint() == Some(known.fingerprint))
}

/// The files of a folder that are not imported, or the folder itself if it contains none.
pub fn skipped_files(path: &Path, found: &Discovery) -> Vec<SkippedSession> {
    if found.sources.is_empty() && found.skipped.is_empty() {
        return vec![SkippedSession { file: path.display().to_string(), reason: SkipReason::NoTranscripts }];
    }
    let skipped = found.skipped.iter().map(|skipped| SkippedSession {
        file: skipped.path.display().to_string(),
        reason: SkipReason::NotImported(skipped.reason.to_string()),
    });
    skipped.collect()
}

/// Imports the files in order. A failed file stops the import only if all others would fail in the same way.
fn import(
    inputs: Inputs,
    options: ImportOptions,
    store: &dyn Store,
    context: &Context,
    cancel: &CancellationToken,
) -> Result<Report, CliError> {
    let ImportOptions { on_duplicate, dry_run, full } = options;
    let Inputs { sources, format, named, skipped: not_imported, mut failed } = inputs;
    let mut all_failed_are_newer = failed.is_empty();
    let bar = context.console.progress(sources.iter().map(Source::bytes).sum());
    let finished_bytes = Cell::new(0);
    let importer = Importer::new(store, &SystemClock, on_duplicate, dry_run).with_progress(|bytes| {
        bar.set_position(finished_bytes.get() + bytes);
        if cancel.is_cancelled() { Flow::Stop } else { Flow::Continue }
    });
    let mut receiver = ProjectResolver::new(importer, &context.home);
    let mut stopped = None;
    for source in &sources {
        // A reader may finish a small file without reporting progress, so it may not see the cancellation.
        if cancel.is_cancelled() {
            stopped = Some(Outcome::Interrupted);
            break;
        }
        let name = source.name();
        bar.set_message(sanitize::line(&name));
        receiver.importer.include_purged(full && named.contains(&name));
        let result = receiver.import(source, format, full);
        finished_bytes.set(finished_bytes.get() + source.bytes());
        match result {
            Ok(()) => {}
            Err(ImportError::Interrupted { .. }) => {
                stopped = Some(Outcome::Interrupted);
                break;
            }
            Err(error) => {
                tracing::warn!(kind = error.kind().as_str(), "a file was not imported");
                all_failed_are_newer &= error.kind() == ErrorKind::Unsupported;
                failed.push((name, ErrorDocument::new(&error)));
                if affects_all_files(&error) {
                    stopped = Some(Outcome::WithFailures(error.kind()));
                    break;
                }
            }
        }
    }
    let shows_progress = !bar.is_hidden();
    bar.finish_and_clear();
    let finished = receiver.importer.flush();
    let (imported, mut skipped) = (receiver.importer.imported, receiver.importer.skipped);
    if let Err(error) = finished {
        // The sessions are saved; only which files they came from is not.
        all_failed_are_newer = false;
        stopped.get_or_insert(Outcome::WithFailures(error.kind()));
        failed.push(("the store".to_owned(), ErrorDocument::new(&error)));
    }
    // All messages are saved. Without this step, the next search would index them and take long.
    if stopped.is_none() && !dry_run {
        let limit = if shows_progress { u64::MAX } else { UNSEEN_INDEX_LIMIT };
        let result = update_index_up_to(limit, store, &context.console, &|| !cancel.is_cancelled());
        if let Err(error) = result {
            let error = ErrorDocument::new(&error).one_line();
            context.console.warn(&format!("search does not find the imported messages yet: {error}"));
        }
    }
    skipped.extend(not_imported);
    Ok(Report { dry_run, imported, skipped, failed, all_failed_are_newer, stopped })
}

/// The reason, followed by the suggested command if there is one.
pub fn skip_reason(reason: &SkipReason) -> String {
    match reason.suggestion() {
        Some(suggestion) => format!("{reason}; {}", suggestions::describe(&suggestion)),
        None => reason.to_string(),
    }
}

/// Whether every other file would fail with the same error.
pub fn affects_all_files(error: &ImportError) -> bool {
    let ImportError::Store(error) = error else { return false };
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Denied | ErrorKind::Corrupt)
}

/// Adds the repository to the project of imported sessions, and passes everything else to the importer.
///
/// Other tools record only the working directory of a session. Once the repository of this directory is known, the
/// session belongs to the same project as the sessions that hfs started in the directory.
pub struct ProjectResolver<'a> {
    pub importer: Importer<'a>,
    /// The repository of each directory that was looked up.
    repositories: HashMap<String, Option<String>>,
    /// Projects that are not imported.
    exclusions: Option<&'a Exclusions>,
    /// The branches of sessions that agents had in hfs, by the agents' ids of the sessions.
    agent_sessions: HashMap<String, Option<BranchId>>,
}

impl<'a> ProjectResolver<'a> {
    /// Creates a receiver that knows the sessions which agents had in hfs, in this home directory.
    pub fn new(importer: Importer<'a>, home: &Home) -> Self {
        let agent_sessions = AgentSessionList::new(home).branches().unwrap_or_else(|error| {
            tracing::warn!(%error, "the sessions of agents are not known");
            HashMap::new()
        });
        Self { importer, repositories: HashMap::new(), exclusions: None, agent_sessions }
    }

    /// Skips the sessions of excluded projects.
    #[must_use]
    pub fn with_exclusions(self, exclusions: &'a Exclusions) -> Self {
        Self { exclusions: Some(exclusions), ..self }
    }

    /// Imports a source, unless it has not changed since it was imported. With `full`, it is read in any case.
    ///
    /// # Errors
    /// Returns an error if the source cannot be read or the store fails. Sessions before the error are kept.
    pub fn import(&mut self, source: &Source, format: Option<Format>, full: bool) -> Result<(), ImportError> {
        self.importer.next_file(source.name(), source.modified_at());
        // The user may name another format for the same file.
        if let Some(fingerprint) = source.fingerprint().filter(|_| format.is_none())
            && self.importer.skip_unchanged(fingerprint, full)?
        {
            return Ok(());
        }
        let resume_point = if format.is_none() && !full { self.importer.resume()? } else { None };
        let sessions_before = self.session_count();
        let result = hfs_exchange::read_grown(source, format, resume_point.as_deref(), self);
        self.importer.discard_unfinished();
        let found = result?;
        if self.session_count() == sessions_before {
            let reason = if found.unchanged_sessions > 0 {
                SkipReason::Unchanged
            } else if found.empty_sessions > 0 {
                SkipReason::NoMessages
            } else {
                SkipReason::NoSession
            };
            self.importer.skipped.push(SkippedSession { file: source.name(), reason });
        }
        self.importer.end_file()?;
        Ok(())
    }

    /// The number of sessions up to now, imported and skipped.
    fn session_count(&self) -> usize {
        self.importer.imported.len() + self.importer.skipped.len()
    }

    /// Makes the imported sessions durable and returns them, with what was skipped.
    ///
    /// # Errors
    /// Returns the store's error.
    pub fn finish(mut self) -> Result<(Vec<ImportedSession>, Vec<SkippedSession>), StoreError> {
        self.importer.flush()?;
        Ok((self.importer.imported, self.importer.skipped))
    }

    fn skip_session(&mut self, reason: SkipReason) -> Flow {
        self.importer.discard_unfinished();
        self.importer.skip(reason);
        Flow::SkipSession
    }

    fn repository_of(&mut self, directory: &str) -> Option<String> {
        if let Some(repository) = self.repositories.get(directory) {
            return repository.clone();
        }
        let path = Path::new(directory);
        let exists = path.is_absolute() && path.is_dir();
        let repository = exists.then(|| project::of_directory(path).repository).flatten();
        self.repositories.insert(directory.to_owned(), repository.clone());
        repository
    }
}

impl ImportReceiver for ProjectResolver<'_> {
    fn receive(&mut self, mut event: ImportEvent) -> Result<Flow, StoreError> {
        if let ImportEvent::Session(session) = &mut event {
            let id = session.origin.id.rsplit('/').next().unwrap_or_default();
            match self.agent_sessions.get(id) {
                Some(Some(branch)) => session.continues = Some(Continuation::Recorded(*branch)),
                Some(None) => {
                    let reason = "triads asked the agent in it; the run of the session has the answers";
                    return Ok(self.skip_session(SkipReason::NotImported(reason.to_owned())));
                }
                None => {}
            }
            if let Some(project) = &mut session.project {
                if project.repository.is_none() {
                    project.repository = self.repository_of(&project.directory);
                }
                let exclusions = self.exclusions;
                if let Some(pattern) = exclusions.and_then(|patterns| patterns.pattern_for_project(project)) {
                    return Ok(self.skip_session(SkipReason::Excluded { pattern: pattern.to_owned() }));
                }
            }
        }
        self.importer.receive(event)
    }

    fn progress(&mut self, bytes_read: u64) -> Flow {
        self.importer.progress(bytes_read)
    }
}

/// Width of a session's name in the report, in columns. Some tools use whole paragraphs as titles.
const NAME_WIDTH: usize = 60;

/// The result of an import.
struct Report {
    dry_run: bool,
    imported: Vec<ImportedSession>,
    skipped: Vec<SkippedSession>,
    /// Files that could not be imported, each with its error.
    failed: Vec<(String, ErrorDocument)>,
    /// Whether all of these files are of a newer version of hfs.
    all_failed_are_newer: bool,
    /// Why the import ended early.
    stopped: Option<Outcome>,
}

/// Document of `import`.
#[derive(Serialize)]
struct ReportJson<'a> {
    imported: Vec<ImportedJson<'a>>,
    skipped: Vec<SkippedJson<'a>>,
    failed: Vec<FailedJson<'a>>,
}

/// An imported session, in the documents of `import` and `watch`.
#[derive(Serialize)]
pub struct ImportedJson<'a> {
    file: &'a str,
    format: &'a str,
    session: Option<String>,
    name: &'a str,
    messages: u64,
    updated_messages: u64,
    branches: u64,
    updated: bool,
    report: &'a ImportReport,
}

impl<'a> ImportedJson<'a> {
    pub fn new(session: &'a ImportedSession) -> Self {
        Self {
            file: &session.file,
            format: &session.format,
            session: session.session.map(|id| id.to_string()),
            name: &session.name,
            messages: session.messages,
            updated_messages: session.updated_messages,
            branches: session.branches,
            updated: session.updated,
            report: &session.report,
        }
    }
}

#[derive(Serialize)]
struct SkippedJson<'a> {
    file: &'a str,
    reason: String,
}

/// A file that could not be imported, in the documents of `import` and `watch`.
#[derive(Serialize)]
pub struct FailedJson<'a> {
    pub file: &'a str,
    pub error: &'a ErrorDocument,
}

impl Report {
    fn outcome(&self) -> Outcome {
        match self.stopped {
            Some(outcome) => outcome,
            None if self.failed.is_empty() => Outcome::Done,
            None if self.all_failed_are_newer => Outcome::WithFailures(ErrorKind::Unsupported),
            None => Outcome::WithFailures(ErrorKind::Invalid),
        }
    }

    fn print(&self, context: &Context) -> Result<(), CliError> {
        let console = &context.console;
        if console.options.json {
            return console.print_json(&self.json());
        }
        if !console.options.quiet {
            console.print(&self.render(console.options.verbose))?;
        }
        for (file, error) in &self.failed {
            let file = sanitize::line(file);
            let mut error = error.clone();
            if !error.message.contains(&file) {
                error.message = format!("{file}: {}", error.message);
            }
            console.print_error(&error);
        }
        match self.stopped {
            Some(Outcome::Interrupted) => {
                console.note(
                    "interrupted; finished sessions are kept; run the same import again to import the rest",
                );
            }
            Some(Outcome::Done | Outcome::WithFailures(_) | Outcome::Terminated(_)) => {
                console.note("the remaining files were skipped, because they would fail in the same way");
            }
            None => {}
        }
        Ok(())
    }

    fn json(&self) -> ReportJson<'_> {
        let imported = self.imported.iter().map(ImportedJson::new);
        let skipped = self
            .skipped
            .iter()
            .map(|skipped| SkippedJson { file: &skipped.file, reason: skip_reason(&skipped.reason) });
        let failed = self.failed.iter().map(|(file, error)| FailedJson { file, error });
        ReportJson { imported: imported.collect(), skipped: skipped.collect(), failed: failed.collect() }
    }

    fn render(&self, verbose: bool) -> String {
        let mut text: String = self.imported.iter().map(|session| render_session(session, verbose)).collect();
        if verbose {
            for skipped in &self.skipped {
                let (file, reason) =
                    (sanitize::line(&skipped.file), sanitize::line(&skip_reason(&skipped.reason)));
                text += &format!("skipped {file}: {reason}\n");
            }
        }
        text + &self.summary(verbose)
    }

    fn summary(&self, verbose: bool) -> String {
        let new = self.imported.iter().filter(|session| !session.updated).count();
        let updated = self.imported.len() - new;
        let messages: u64 = self.imported.iter().map(|session| session.messages).sum();
        let mut counts = Vec::new();
        if new > 0 || self.imported.is_empty() {
            counts.push(format!("{new} session{} imported", if new == 1 { "" } else { "s" }));
        }
        if updated > 0 {
            counts.push(format!("{updated} updated"));
        }
        let known = self.skipped.iter().filter(|skipped| skipped.reason.is_imported()).count();
        if known > 0 {
            counts.push(format!("{known} imported before"));
        }
        // A user may have expected something of these files, so the option that gives the reasons is named.
        match self.skipped.len() - known {
            0 => {}
            others => {
                let reasons = if verbose { "" } else { " (-v says why)" };
                counts.push(format!("{others} skipped{reasons}"));
            }
        }
        if !self.failed.is_empty() {
            counts.push(format!("{} failed", self.failed.len()));
        }
        let messages =
            if messages > 0 { format!(" ({})", plural(messages, "message")) } else { String::new() };
        let dry_run = if self.dry_run { "; nothing was written" } else { "" };
        format!("{}{messages}{dry_run}\n", counts.join(", "))
    }
}

/// One line about an imported session, and with `verbose` its warnings.
pub fn render_session(session: &ImportedSession, verbose: bool) -> String {
    let id = session.session.map(|id| format!("{} ", id.short().shown())).unwrap_or_default();
    let name = shorten(&sanitize::line(&session.name), NAME_WIDTH);
    let verb = if session.updated { "updated" } else { "new" };
    let format = sanitize::line(&session.format);
    let plural = if session.messages == 1 { "" } else { "s" };
    let changed = match session.updated_messages {
        0 => String::new(),
        count => format!(", {count} changed"),
    };
    let mut text = format!("{id}{name} ({verb}, {format}, {} message{plural}{changed})\n", session.messages);
    let ImportReport { mapped, opaque, dropped, .. } = session.report;
    if dropped > 0 || (verbose && opaque > 0) {
        text += &format!("  records: {mapped} mapped, {opaque} kept verbatim, {dropped} dropped\n");
    }
    if verbose {
        for warning in &session.report.warnings {
            let line = warning.line.map(|line| format!("line {line}: ")).unwrap_or_default();
            text += &format!("  {line}{}\n", sanitize::line(&warning.message));
        }
    }
    text
}
