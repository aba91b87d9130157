//! `hfs export --all`: writes every session to a directory. Run again, it writes what is new or has changed.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use hfs_core::{PageRequest, Session, SessionFilter, SessionId, SessionSummary, Store, StoreError};
use hfs_exchange::Redaction;
use hfs_files::TemporaryFile;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    CancellableWriter, Export, ExportArgs, ExportFormat, RedactMode, cli_error, file_stem, named_session,
};
use crate::commands::handoff;
use crate::context::Context;
use crate::home::create_private_dir;
use crate::interrupt;
use crate::output::error::{CliError, ErrorDocument, Outcome};
use crate::output::message::format_size;
use crate::output::sanitize;

/// The file in which an export records what it has written, one line for each file.
const RECORD: &str = ".hfs-export.jsonl";
/// Number of sessions that are requested at once.
const PAGE: u32 = 200;

/// A line of the record. The last line of a session holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct WrittenFile {
    session: SessionId,
    /// A directory may hold the exports of several formats.
    format: String,
    file: String,
    /// What the file contains. If it is the same again, the file is up to date.
    version: String,
}

/// Document of `export --all`.
#[derive(Serialize)]
struct AllJson {
    directory: String,
    format: &'static str,
    exported: Vec<ExportedJson>,
    /// Number of sessions whose files were up to date.
    unchanged: u64,
    failed: Vec<FailedJson>,
}

#[derive(Serialize)]
struct ExportedJson {
    session: SessionId,
    name: String,
    path: String,
    bytes: u64,
}

#[derive(Serialize)]
struct FailedJson {
    session: SessionId,
    name: String,
    error: ErrorDocument,
}

pub fn run(
    args: &ExportArgs,
    format: ExportFormat,
    directory: &Path,
    context: &Context,
) -> Result<Outcome, CliError> {
    let console = &context.console;
    let io_error = |error| CliError::io(format!("write to the directory {}", directory.display()), error);
    create_private_dir(directory).map_err(io_error)?;
    let cancel = interrupt::install()?;
    let mut record = Record::open(directory).map_err(io_error)?;
    let sessions = all_sessions(context.store()?.as_ref())?;
    let bar = console.progress(u64::try_from(sessions.len()).unwrap_or(0).max(1));
    let mut result = AllJson {
        directory: directory.display().to_string(),
        format: format.as_str(),
        exported: Vec::new(),
        unchanged: 0,
        failed: Vec::new(),
    };
    let model = handoff::opencode_model(&context.environment, None);
    let mut first_failure = None;
    for session in &sessions {
        if cancel.is_cancelled() {
            break;
        }
        let summary = match context.store()?.get_session(*session) {
            Ok(summary) if summary.session.trashed_at.is_none() => summary,
            // It was deleted after the list was read.
            Ok(_) | Err(StoreError::NotFound { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        bar.set_message(sanitize::line(&summary.session.name));
        let export = Export {
            session: summary.session.id,
            format,
            branch: None,
            all_branches: args.all_branches,
            redaction: RedactMode::redaction(args.redact),
            raw: args.raw,
            opencode_model: model.clone(),
            is_one_of_many: true,
        };
        match export_one(&export, &summary, directory, &mut record, context, &cancel) {
            Ok(Some(exported)) => result.exported.push(exported),
            Ok(None) => result.unchanged += 1,
            Err(_) if cancel.is_cancelled() => break,
            Err(error) => {
                let name = summary.session.name.clone();
                console.warn(&format!("{}: {}", sanitize::line(&name), sanitize::line(&error.to_string())));
                first_failure.get_or_insert(error.kind());
                let error = error.document();
                result.failed.push(FailedJson { session: summary.session.id, name, error });
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    print_result(&result, sessions.len(), context)?;
    if cancel.is_cancelled() {
        console.note("interrupted; run the same command again to export the rest");
        return Ok(Outcome::Interrupted);
    }
    Ok(first_failure.map_or(Outcome::Done, Outcome::WithFailures))
}

fn print_result(result: &AllJson, sessions: usize, context: &Context) -> Result<(), CliError> {
    let console = &context.console;
    if console.options.json {
        return console.print_json(result);
    }
    let bytes = result.exported.iter().map(|exported| exported.bytes).sum();
    let (exported, failed) = (result.exported.len(), result.failed.len());
    console.print(&format!(
        "{exported} of {sessions} sessions exported ({}), {} unchanged, {failed} failed: {}\n",
        format_size(bytes),
        result.unchanged,
        sanitize::line(&result.directory),
    ))
}

/// Every session that is not in the trash.
fn all_sessions(store: &dyn Store) -> Result<Vec<SessionId>, CliError> {
    // The list is sorted by the time of the last change, so a session that is changed meanwhile could be skipped.
    let store = store.snapshot()?;
    let mut sessions = Vec::new();
    let mut request = PageRequest::first(PAGE);
    loop {
        let page = store.list_sessions(&SessionFilter::default(), &request)?;
        sessions.extend(page.items.iter().map(|summary| summary.session.id));
        match page.next {
            Some(next) => request.after = Some(next),
            None => return Ok(sessions),
        }
    }
}

/// Exports a session; `None` if its file is up to date.
fn export_one(
    export: &Export,
    summary: &SessionSummary,
    directory: &Path,
    record: &mut Record,
    context: &Context,
    cancel: &CancellationToken,
) -> Result<Option<ExportedJson>, CliError> {
    let session = &named_session(&summary.session, export.redaction);
    let file = file_name(export.format, session);
    let version = version(export, summary, context)?;
    let format = export.format.as_str();
    let previous = record.files.get(&(session.id, format.to_owned()));
    let path = directory.join(&file);
    if previous.is_some_and(|written| written.version == version && written.file == file) && path.is_file() {
        return Ok(None);
    }
    let action = || format!("write the export {}", path.display());
    let document = export.document(context)?;
    let temporary = TemporaryFile::create_in(directory).map_err(|error| CliError::io(action(), error))?;
    let mut out = CancellableWriter { inner: BufWriter::new(temporary), cancel, written: 0.into() };
    export
        .write(&document, context, export.control_text(), &mut out)
        .map_err(|error| cli_error(error, action()))?;
    let bytes = out.written.get();
    let temporary = out.inner.into_inner().map_err(|error| CliError::io(action(), error.into_error()))?;
    temporary
        .sync()
        .and_then(|()| temporary.persist(&path))
        .map_err(|error| CliError::io(action(), error))?;
    // The session was renamed since it was exported.
    let renamed =
        previous.filter(|written| written.file != file).map(|written| directory.join(&written.file));
    record
        .add(WrittenFile { session: session.id, format: format.to_owned(), file, version })
        .map_err(|error| CliError::io(action(), error))?;
    if let Some(old) = renamed {
        remove(&old)
            .map_err(|error| CliError::io(format!("remove the old export {}", old.display()), error))?;
    }
    Ok(Some(ExportedJson {
        session: session.id,
        name: session.name.clone(),
        path: path.display().to_string(),
        bytes,
    }))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The file of a session. Names of sessions need not be unique, so it contains the short id.
fn file_name(format: ExportFormat, session: &Session) -> String {
    let stem = file_stem(session, format);
    format!("{stem}-{}.{}", session.id.short().as_str(), format.extension())
}

/// Identifies what an export of the session contains: its options, the session's counters and its newest operation.
fn version(export: &Export, summary: &SessionSummary, context: &Context) -> Result<String, CliError> {
    let session = &summary.session;
    let newest = context.store()?.list_operations(Some(session.id), &PageRequest::first(1))?;
    let newest = newest.items.first().map(|operation| operation.id.to_string()).unwrap_or_default();
    let redaction = match export.redaction {
        Redaction::Count => "count",
        Redaction::Mask => "mask",
        Redaction::Strict => "strict",
    };
    Ok(format!(
        "{} {} {} {} {} {} {} {} {}",
        env!("CARGO_PKG_VERSION"),
        u8::from(export.all_branches),
        redaction,
        u8::from(export.raw),
        session.updated_at,
        summary.messages,
        summary.branches,
        summary.checkpoints,
        newest,
    ))
}

/// The record of a directory.
struct Record {
    files: HashMap<(SessionId, String), WrittenFile>,
    file: File,
}

impl Record {
    /// Reads the record. Lines that are not valid, such as one that a crash cut off, are ignored: the session is
    /// exported again.
    fn open(directory: &Path) -> io::Result<Self> {
        let path: PathBuf = directory.join(RECORD);
        let mut files = HashMap::new();
        match File::open(&path) {
            Ok(file) => {
                for line in BufReader::new(file).split(b'\n') {
                    if let Ok(written) = serde_json::from_slice::<WrittenFile>(&line?)
                        && is_file_name(&written.file)
                    {
                        files.insert((written.session, written.format.clone()), written);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut file = hfs_files::private_options().append(true).create(true).open(&path)?;
        // Ends a line that was cut off.
        if file.metadata()?.len() > 0 {
            file.write_all(b"\n")?;
        }
        Ok(Self { files, file })
    }

    fn add(&mut self, written: WrittenFile) -> io::Result<()> {
        let mut line = serde_json::to_vec(&written)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.files.insert((written.session, written.format.clone()), written);
        Ok(())
    }
}

/// Whether this is a plain file name, which cannot lead to another directory.
fn is_file_name(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|plain| plain == name)
}
