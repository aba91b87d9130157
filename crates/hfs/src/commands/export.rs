//! `hfs export`: writes a session to a file or to standard output, or every session to a directory.
//!
//! To add a format, add a variant to `ExportFormat` and handle it in each of its methods.

mod all;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use hfs_core::{BranchId, ErrorKind, Session, SessionId, plural};
use hfs_exchange::{
    BranchSelection, DocumentSource, ExportError, ExportMetadata, Format, InstallPath, LocationOverrides,
    PageOptions, RedactedSource, Redaction, SecretReport, TranscriptOptions, TranscriptReport, install_path,
    write_html, write_json, write_markdown, write_transcript,
};
use hfs_files::TemporaryFile;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::handoff;
use super::start::location_overrides;
use crate::context::Context;
use crate::home::create_private_dir;
use crate::interrupt;
use crate::output::error::{CliError, Outcome};
use crate::output::message::format_size;
use crate::output::sanitize::{self, Sanitizer};
use crate::resolve::find_branch;
use crate::wiring::document::StoreDocument;

const EXAMPLES: &str = "\
Examples:
  hfs export @                              the whole newest session, as JSON, in the directory of exports
  hfs export @ --format markdown -o -       its current branch as Markdown on standard output
  hfs export login -o login.html            the extension selects the format
  hfs export @ -o - | hfs --home B import -  copy a session to another home directory
  hfs export @ --format codex               a transcript that another tool can continue
  hfs export --all -o backup                every session; run it again to export what is new or has changed

JSON contains everything: every branch, run, checkpoint and attachment, and `hfs import` restores all of it. Markdown \
and HTML show one branch, or all with --all-branches. A transcript for Claude Code contains every branch, one for Codex \
or opencode the history of one branch; records that were imported from the same tool are written back unchanged. \
`hfs handoff` writes a transcript to the place where its tool looks for it.

Escape sequences, with which text could control a terminal, are removed from Markdown and HTML, and escaped in the \
other formats. --raw keeps them in files and pipes.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ExportArgs {
    /// The session
    #[arg(required_unless_present = "all")]
    session: Option<String>,
    /// Export every session to the directory given by --output
    #[arg(long, conflicts_with_all = ["session", "branch"], requires = "output")]
    all: bool,
    /// The format [default: from the extension of FILE, else json]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    format: Option<ExportFormat>,
    /// A file, which is replaced if it exists; a directory; or - for standard output [default: a new file in
    /// $HFS_HOME/exports]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Export every branch (json and claude-code always do)
    #[arg(long, conflicts_with = "branch")]
    all_branches: bool,
    /// Keep escape sequences in files and pipes
    #[arg(long)]
    raw: bool,
    /// Mask text that looks like a secret: keys, tokens, passwords. With =strict, leave out what cannot be examined,
    /// such as pictures
    #[arg(long, value_enum, value_name = "MODE", num_args = 0..=1, require_equals = true, default_missing_value = "mask")]
    redact: Option<RedactMode>,
    /// Export this branch instead of the current one (not for json and claude-code)
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
}

/// What `--redact` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RedactMode {
    /// Mask secrets; report what could not be examined
    Mask,
    /// Also leave out what could not be examined
    Strict,
}

impl RedactMode {
    const fn redaction(mode: Option<Self>) -> Redaction {
        match mode {
            None => Redaction::Count,
            Some(Self::Mask) => Redaction::Mask,
            Some(Self::Strict) => Redaction::Strict,
        }
    }
}

/// The format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Everything, for import into hfs
    Json,
    /// For reading and pasting
    #[value(alias = "md")]
    Markdown,
    /// For reading in a browser; one file
    Html,
    /// To continue in Claude Code
    ClaudeCode,
    /// To continue in Codex
    Codex,
    /// To continue in opencode
    #[value(name = "opencode")]
    OpenCode,
}

/// The branches that a format can contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BranchSupport {
    /// Always all.
    All,
    /// One or all.
    OneOrAll,
    /// The history of one.
    One,
}

impl ExportFormat {
    /// The format that a file extension selects.
    fn from_extension(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_lowercase();
        Self::value_variants()
            .iter()
            .copied()
            .find(|format| format.selecting_extensions().contains(&extension.as_str()))
    }

    /// The extensions that select the format. Those of transcripts select none, because tools share them.
    pub const fn selecting_extensions(self) -> &'static [&'static str] {
        match self {
            Self::Json => &["json"],
            Self::Markdown => &["md", "markdown"],
            Self::Html => &["html", "htm"],
            Self::ClaudeCode | Self::Codex | Self::OpenCode => &[],
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::value_variants().iter().copied().find(|format| format.as_str() == name)
    }

    /// The value of `--format`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::OpenCode => "opencode",
        }
    }

    /// The purpose of the format, in a few words.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Json => "everything, for import into hfs",
            Self::Markdown => "for reading and pasting",
            Self::Html => "for reading in a browser; one file",
            Self::ClaudeCode => "to continue in Claude Code",
            Self::Codex => "to continue in Codex",
            Self::OpenCode => "to continue in opencode",
        }
    }

    pub const fn extension(self) -> &'static str {
        match self {
            Self::Json | Self::OpenCode => "json",
            Self::Markdown => "md",
            Self::Html => "html",
            Self::ClaudeCode | Self::Codex => "jsonl",
        }
    }

    /// The transcript format, if the export is for another tool.
    pub const fn tool(self) -> Option<Format> {
        match self {
            Self::Json | Self::Markdown | Self::Html => None,
            Self::ClaudeCode => Some(Format::ClaudeCode),
            Self::Codex => Some(Format::Codex),
            Self::OpenCode => Some(Format::OpenCode),
        }
    }

    const fn branch_support(self) -> BranchSupport {
        match self {
            Self::Json | Self::ClaudeCode => BranchSupport::All,
            Self::Markdown | Self::Html => BranchSupport::OneOrAll,
            Self::Codex | Self::OpenCode => BranchSupport::One,
        }
    }

    /// Whether another tool continues what is written.
    pub const fn is_transcript(self) -> bool {
        match self {
            Self::Json | Self::Markdown | Self::Html => false,
            Self::ClaudeCode | Self::Codex | Self::OpenCode => true,
        }
    }

    /// How many times the writer reads all messages, for the progress bar.
    const fn passes(self) -> u64 {
        match self {
            Self::Markdown | Self::Html => 2,
            Self::Json | Self::ClaudeCode | Self::Codex | Self::OpenCode => 1,
        }
    }

    /// Writes a session in this format.
    ///
    /// # Errors
    /// If the session cannot be read or the output cannot be written.
    pub fn write(
        self,
        session: &dyn DocumentSource,
        page: PageOptions<'_>,
        transcript: TranscriptOptions<'_>,
        control_text: ControlText,
        out: &mut dyn Write,
    ) -> Result<TranscriptReport, ExportError> {
        let mut out = BufWriter::new(SafeWriter::new(out, control_text));
        let mut report = TranscriptReport::default();
        match (self, self.tool()) {
            (_, Some(tool)) => report = write_transcript(session, tool, transcript, &mut out)?,
            (Self::Markdown, None) => write_markdown(session, page, &mut out)?,
            (Self::Html, None) => write_html(session, page, &mut out)?,
            (Self::Json | Self::ClaudeCode | Self::Codex | Self::OpenCode, None) => {
                write_json(session, page.metadata, &mut out)?;
            }
        }
        out.flush()?;
        Ok(report)
    }

    /// How text that could control a terminal is written to files and pipes.
    pub const fn control_text(self) -> ControlText {
        match self {
            Self::Markdown | Self::Html => ControlText::Remove,
            Self::Json | Self::ClaudeCode | Self::Codex | Self::OpenCode => ControlText::EscapeInJson,
        }
    }
}

/// Document of `export`.
#[derive(Serialize)]
struct ExportJson {
    path: String,
    format: &'static str,
    bytes: u64,
    session: String,
    name: String,
    messages: u64,
    branches: usize,
    /// Absent if the export was not searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    secrets: Option<SecretsJson>,
}

/// The secrets in an export.
#[derive(Serialize)]
struct SecretsJson {
    found: u64,
    masked: bool,
    by_kind: BTreeMap<&'static str, u64>,
    /// Number of contents that could not be examined; absent unless secrets were masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    unexamined: Option<u64>,
    /// Number of files that were left out because of a secret that cannot be masked.
    left_out: u64,
}

pub fn run(args: &ExportArgs, context: &Context) -> Result<Outcome, CliError> {
    let format = match args.format {
        Some(format) => format,
        None => format_of_output(args, context)?,
    };
    check_branch_options(args, format)?;
    if let (true, Some(directory)) = (args.all, &args.output) {
        return all::run(args, format, &context.environment.working_directory.join(directory), context);
    }
    let session = context.session(args.session.as_deref().unwrap_or("@"))?;
    let branch = match &args.branch {
        Some(reference) => Some(find_branch(&context.store()?.list_branches(session)?, reference)?.id),
        None => None,
    };
    let export = Export {
        session,
        format,
        branch,
        all_branches: args.all_branches,
        redaction: RedactMode::redaction(args.redact),
        raw: args.raw,
        opencode_model: handoff::opencode_model(&context.environment, None),
        is_one_of_many: false,
    };
    match &args.output {
        Some(path) if path == Path::new("-") => export.to_stdout(context),
        Some(path) => export.to_file(&context.environment.working_directory.join(path), false, context),
        None => export.to_file(&context.home.exports(), true, context),
    }
}

/// The format that the output's extension selects, or JSON for an output without one.
///
/// # Errors
/// `Usage` for an extension that stands for no format: the file would not contain what its name says.
fn format_of_output(args: &ExportArgs, context: &Context) -> Result<ExportFormat, CliError> {
    let Some(output) = &args.output else { return Ok(ExportFormat::Json) };
    if let Some(format) = ExportFormat::from_extension(output) {
        return Ok(format);
    }
    let is_folder = || args.all || context.environment.working_directory.join(output).is_dir();
    match output.extension() {
        Some(extension) if !is_folder() => Err(CliError::Usage {
            message: format!("no format has the extension .{}", sanitize::line(&extension.to_string_lossy())),
            hint: "use .json, .md or .html, or choose a format with --format".into(),
        }),
        _ => Ok(ExportFormat::Json),
    }
}

fn check_branch_options(args: &ExportArgs, format: ExportFormat) -> Result<(), CliError> {
    match format.branch_support() {
        BranchSupport::All if args.branch.is_some() => Err(CliError::Usage {
            message: format!("{} always contains every branch", format.as_str()),
            hint: "omit --branch, or use --format markdown or html".into(),
        }),
        BranchSupport::One if args.all_branches => Err(CliError::Usage {
            message: format!("{} contains the history of one branch", format.as_str()),
            hint: "omit --all-branches; --branch selects another branch than the current one".into(),
        }),
        BranchSupport::All | BranchSupport::OneOrAll | BranchSupport::One => Ok(()),
    }
}

/// A validated export request.
struct Export {
    session: SessionId,
    format: ExportFormat,
    branch: Option<BranchId>,
    all_branches: bool,
    redaction: Redaction,
    raw: bool,
    opencode_model: Option<String>,
    /// Whether warnings must name the session.
    is_one_of_many: bool,
}

impl Export {
    fn document(&self, context: &Context) -> Result<StoreDocument, CliError> {
        let document = StoreDocument::new(context.store()?.as_ref(), self.session)?;
        let document = match self.branch {
            Some(branch) => document.on_branch(branch),
            None => document,
        };
        let with_undone = self.all_branches || !self.format.is_transcript();
        Ok(if with_undone { document } else { document.without_undone() })
    }

    fn write(
        &self,
        document: &StoreDocument,
        context: &Context,
        control_text: ControlText,
        out: &mut dyn Write,
    ) -> Result<Option<SecretReport>, ExportError> {
        let metadata = ExportMetadata { exported_at: context.now(), hfs_version: env!("CARGO_PKG_VERSION") };
        let branches = if self.all_branches { BranchSelection::All } else { BranchSelection::Current };
        let page = PageOptions { metadata, branches };
        let transcript = TranscriptOptions {
            opencode_model: self.opencode_model.as_deref(),
            ..TranscriptOptions::default()
        };
        // With --quiet there is no warning about secrets, so the scan would be wasted.
        if context.console.options.quiet && self.redaction == Redaction::Count {
            self.format.write(document, page, transcript, control_text, out)?;
            return Ok(None);
        }
        let source = RedactedSource::new(document, self.redaction);
        let left_out = self.format.write(&source, page, transcript, control_text, out)?;
        let report = source.report();
        for warning in secret_warnings(&report, self.redaction) {
            let of = if self.is_one_of_many {
                format!("{}: ", self.session.short().shown())
            } else {
                String::new()
            };
            context.console.warn(&format!("{of}{}", sanitize::line(&warning)));
        }
        if let Some(note) = transcript_note(&left_out) {
            context.console.note(&note);
        }
        Ok(Some(report))
    }

    fn control_text(&self) -> ControlText {
        if self.raw { ControlText::Keep } else { self.format.control_text() }
    }

    fn to_stdout(&self, context: &Context) -> Result<Outcome, CliError> {
        let document = self.document(context)?;
        let is_terminal = context.console.output_is_terminal();
        let control_text = if is_terminal { ControlText::Remove } else { self.control_text() };
        self.write(&document, context, control_text, &mut io::stdout().lock())
            .map_err(|error| cli_error(error, "write to standard output".into()))?;
        Ok(Outcome::Done)
    }

    fn to_file(&self, path: &Path, is_default: bool, context: &Context) -> Result<Outcome, CliError> {
        let console = &context.console;
        let bar = console.progress(0);
        let cancel = interrupt::install()?;
        let document = self.document(context)?;
        bar.set_length(document.message_count().max(1) * self.format.passes());
        let progress = bar.clone();
        let document = document.with_progress(move |messages| progress.inc(messages));
        let session = &named_session(document.session_record(), self.redaction);
        bar.set_message(sanitize::line(&session.name));
        let target = ExportTarget::new(path, is_default, session, self.format)?;
        let action = format!("write the export {}", target.display());
        let mut file = CancellableWriter {
            inner: BufWriter::new(target.create()?),
            cancel: &cancel,
            written: Cell::new(0),
        };
        let result = self.write(&document, context, self.control_text(), &mut file);
        bar.finish_and_clear();
        if cancel.is_cancelled() {
            console.note("interrupted; nothing was written");
            return Ok(Outcome::Interrupted);
        }
        let report = result.map_err(|error| cli_error(error, action.clone()))?;
        let bytes = file.written.get();
        let file = file.inner.into_inner().map_err(|error| CliError::io(action, error.into_error()))?;
        let path = target.commit(file)?.display().to_string();
        if console.options.json {
            console.print_json(&ExportJson {
                path,
                format: self.format.as_str(),
                bytes,
                session: session.id.to_string(),
                name: session.name.clone(),
                messages: document.message_count(),
                branches: document.branch_count(),
                secrets: report.map(|report| secrets_json(&report, self.redaction)),
            })?;
            return Ok(Outcome::Done);
        }
        console.note(&format!("{} written; only you can read the file", format_size(bytes)));
        if let Some(instruction) = resume_instruction(self.format, session, &path, context) {
            console.note(&sanitize::line(&instruction));
        }
        console.print(&format!("{}\n", sanitize::line(&path)))?;
        Ok(Outcome::Done)
    }
}

/// How to continue an exported transcript in the tool it was written for.
fn resume_instruction(
    format: ExportFormat,
    session: &Session,
    path: &str,
    context: &Context,
) -> Option<String> {
    let home = context.environment.user_home.as_deref()?;
    let install = install_path(format.tool()?, session, home, &location_overrides(&context.environment))?;
    let path = Path::new(path);
    let command = handoff::shell_command(&install, path)?;
    Some(match &install.folder {
        Some(directory) if path.parent() != Some(directory) => {
            let directory = handoff::shell_quote(directory.to_str()?)?;
            format!("to continue, move the file to {directory} and run: {command}")
        }
        Some(_) | None => format!("continue with: {command}"),
    })
}

/// What a transcript does not contain, as a sentence; `None` if it contains everything.
pub fn transcript_note(report: &TranscriptReport) -> Option<String> {
    let counted = |count: u64, one: &str, many: &str| {
        (count > 0).then(|| if count == 1 { format!("1 {one}") } else { format!("{count} {many}") })
    };
    let left_out: Vec<String> = [
        counted(report.thinking, "part of reasoning", "parts of reasoning"),
        counted(report.instructions, "system message", "system messages"),
        counted(report.opaque, "part of another format", "parts of other formats"),
        counted(report.attachments_by_name, "attachment", "attachments"),
        counted(
            report.missing_attachments,
            "attachment that the store has lost",
            "attachments that the store has lost",
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    let changed: Vec<String> = [
        counted(report.calls_without_result, "tool call without a result", "tool calls without results"),
        counted(report.results_without_call, "tool result without a call", "tool results without calls"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let left_out =
        (!left_out.is_empty()).then(|| format!("not for the other tool's model: {}", left_out.join(", ")));
    let changed =
        (!changed.is_empty()).then(|| format!("completed or written as text: {}", changed.join(", ")));
    let sentences: Vec<String> = left_out.into_iter().chain(changed).collect();
    (!sentences.is_empty()).then(|| sentences.join("; "))
}

/// Counts the bytes that are written, and fails when the user interrupts the command.
struct CancellableWriter<'a, W> {
    inner: W,
    cancel: &'a CancellationToken,
    written: Cell<u64>,
}

impl<W: Write> Write for CancellableWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("interrupted"));
        }
        let count = self.inner.write(bytes)?;
        self.written.set(self.written.get() + u64::try_from(count).unwrap_or(0));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The warnings about the secrets in an export and about what was not examined. They contain no text of the session.
pub fn secret_warnings(report: &SecretReport, redaction: Redaction) -> Vec<String> {
    /// A warning names at most this many places.
    const MAX_PLACES: usize = 5;
    let mut warnings = Vec::new();
    let masked = redaction != Redaction::Count;
    if report.total > 0 {
        let noun = if report.total == 1 { "secret" } else { "secrets" };
        let mut places: Vec<String> = report.locations.iter().take(MAX_PLACES).cloned().collect();
        if report.locations.len() > MAX_PLACES {
            places.push(format!("and {}", plural(report.locations.len() - MAX_PLACES, "more place")));
        }
        let places = places.join(", ");
        warnings.push(if masked {
            format!("{} {noun} masked in {places}", report.total)
        } else {
            format!("the export seems to contain {} {noun}, in {places}; --redact masks them", report.total)
        });
    }
    if masked && report.left_out > 0 {
        let noun = if report.left_out == 1 { "file" } else { "files" };
        warnings.push(format!("{} {noun} with secrets that cannot be masked left out", report.left_out));
    }
    if masked && !report.unexamined.is_empty() {
        let kinds: Vec<String> =
            report.unexamined.iter().map(|(kind, count)| kind.describe(*count)).collect();
        let kinds = kinds.join(", ");
        warnings.push(match redaction {
            Redaction::Strict => format!("left out because it cannot be examined: {kinds}"),
            Redaction::Count | Redaction::Mask => {
                format!("not examined: {kinds}; --redact=strict leaves them out")
            }
        });
    }
    warnings
}

fn secrets_json(report: &SecretReport, redaction: Redaction) -> SecretsJson {
    let masked = redaction != Redaction::Count;
    SecretsJson {
        found: report.total,
        masked,
        by_kind: report.by_label.clone(),
        unexamined: masked.then(|| report.unexamined.values().sum()),
        left_out: if masked { report.left_out } else { 0 },
    }
}

/// The session as an export names it: in a redacted export, without secrets in its name.
pub fn named_session(session: &Session, redaction: Redaction) -> Session {
    let mut session = session.clone();
    if redaction != Redaction::Count {
        session.name = hfs_secrets::mask(&session.name).into_owned();
    }
    session
}

/// Converts an export error. `action` completes the sentence "cannot ...".
pub fn cli_error(error: ExportError, action: String) -> CliError {
    match error {
        ExportError::Store(error) => error.into(),
        ExportError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => CliError::ClosedPipe,
        ExportError::Io(error) => CliError::io(action, error),
        other => CliError::new(ErrorKind::Unsupported, other.to_string()),
    }
}

/// Where an export is written.
#[derive(Debug)]
pub enum ExportTarget {
    /// A new file in a directory. A number is appended to the name if a file with this name exists.
    New { directory: PathBuf, name: String, format: ExportFormat },
    /// This file, which is replaced if it exists.
    File(PathBuf),
    /// A device or a pipe, which cannot be replaced.
    Stream(PathBuf),
}

/// An open export, which becomes visible at its target when it is committed.
#[derive(Debug)]
pub enum PendingExport {
    /// A temporary file in the directory of the target. Deleted unless it is committed.
    Temporary(TemporaryFile),
    Stream(fs::File),
}

impl ExportTarget {
    /// The target that `path` selects. If `is_default` is set, `path` is the default directory of exports. The directory
    /// is created if it does not exist, and only the user can access it.
    ///
    /// # Errors
    /// If the directory cannot be created.
    pub fn new(
        path: &Path,
        is_default: bool,
        session: &Session,
        format: ExportFormat,
    ) -> Result<Self, CliError> {
        if is_default {
            create_private_dir(path)
                .map_err(|error| CliError::io(format!("create the directory {}", path.display()), error))?;
        }
        Ok(match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                Self::New { directory: path.to_owned(), name: file_stem(session, format), format }
            }
            Ok(metadata) if !metadata.is_file() => Self::Stream(path.to_owned()),
            // Replace the file that a symbolic link points to, not the link.
            Ok(_) => Self::File(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())),
            Err(_) => Self::File(path.to_owned()),
        })
    }

    /// The file that would be replaced.
    pub fn existing_file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => path.exists().then_some(path.as_path()),
            Self::New { .. } | Self::Stream(_) => None,
        }
    }

    /// The path for messages.
    pub fn display(&self) -> String {
        let path = match self {
            Self::New { directory, .. } => directory,
            Self::File(path) | Self::Stream(path) => path,
        };
        path.display().to_string()
    }

    /// Opens the target for writing.
    ///
    /// # Errors
    /// If the temporary file or the stream cannot be opened.
    pub fn create(&self) -> Result<PendingExport, CliError> {
        let directory = match self {
            Self::Stream(path) => {
                let file = fs::OpenOptions::new().write(true).open(path);
                return file.map(PendingExport::Stream).map_err(|error| self.io_error(error));
            }
            Self::New { directory, .. } => directory,
            Self::File(path) => path.parent().unwrap_or(path),
        };
        if !directory.as_os_str().is_empty() && !directory.is_dir() {
            return Err(CliError::with_hint(
                ErrorKind::NotFound,
                format!(
                    "cannot write the export {}: there is no directory {}",
                    self.display(),
                    directory.display()
                ),
                "create the directory first, or name another file with -o",
            ));
        }
        TemporaryFile::create_in(directory)
            .map(PendingExport::Temporary)
            .map_err(|error| self.io_error(error))
    }

    /// Renames the finished export to its final name, so that no reader ever sees a partial file. Returns its path.
    ///
    /// # Errors
    /// If the file cannot be renamed. The temporary file is then deleted.
    pub fn commit(&self, export: PendingExport) -> Result<PathBuf, CliError> {
        let mut file = match export {
            PendingExport::Temporary(file) => file,
            PendingExport::Stream(_) => return Ok(PathBuf::from(self.display())),
        };
        file.sync().map_err(|error| self.io_error(error))?;
        let (directory, name, format) = match self {
            Self::New { directory, name, format } => (directory, name, format),
            // `create` opens no temporary file for a `Stream`, so this is always a `File`.
            Self::File(path) | Self::Stream(path) => {
                file.persist(path).map_err(|error| self.io_error(error))?;
                return Ok(path.clone());
            }
        };
        let mut number = 1_u64;
        loop {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            let path = directory.join(format!("{name}{suffix}.{}", format.extension()));
            match file.persist_new(&path) {
                Ok(()) => return Ok(path),
                Err((same, error)) if error.kind() == io::ErrorKind::AlreadyExists => file = same,
                Err((_, error)) => return Err(self.io_error(error)),
            }
            number += 1;
        }
    }

    fn io_error(&self, error: io::Error) -> CliError {
        CliError::io(format!("write the export {}", self.display()), error)
    }
}

impl Write for PendingExport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Temporary(file) => file.write(bytes),
            Self::Stream(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Temporary(file) => file.flush(),
            Self::Stream(file) => file.flush(),
        }
    }
}

/// The path in `directory` that an export gets if no file with this name exists.
pub fn default_path(directory: &Path, session: &Session, format: ExportFormat) -> PathBuf {
    directory.join(format!("{}.{}", file_stem(session, format), format.extension()))
}

/// The file name without extension: the name that the format's tool expects, else the name of the session.
fn file_stem(session: &Session, format: ExportFormat) -> String {
    // Only the file name is used, so any home directory will do.
    let install = format
        .tool()
        .and_then(|tool| install_path(tool, session, Path::new(""), &LocationOverrides::default()));
    // A file that has to be imported may have any name.
    if let Some(InstallPath { name, import: None, .. }) = install {
        let stem = name.strip_suffix(format.extension()).and_then(|stem| stem.strip_suffix('.'));
        return safe_file_name(stem.unwrap_or(&name)).unwrap_or_else(|| session.id.to_string());
    }
    safe_file_name(&session.name).unwrap_or_else(|| session.id.short().shown().to_owned())
}

/// Converts a name to a file name that is valid on every operating system: letters and digits of any script, `-`, `_`
/// and `.`, at most 100 bytes. Other characters become `-`, and only the first of successive `-` and `.` is kept.
/// `None` if no letter, digit or `_` is left.
fn safe_file_name(name: &str) -> Option<String> {
    let mut safe = String::new();
    for c in name.chars() {
        let c = if c.is_alphanumeric() || matches!(c, '_' | '.') { c } else { '-' };
        if safe.len() + c.len_utf8() > MAX_NAME_BYTES {
            break;
        }
        let is_repeated = matches!(c, '-' | '.') && safe.ends_with(['-', '.']);
        if !is_repeated {
            safe.push(c);
        }
    }
    let safe = safe.trim_matches(['-', '.']);
    match safe {
        "" => None,
        _ if is_windows_device(safe) => Some(format!("session-{safe}")),
        _ => Some(safe.to_owned()),
    }
}

/// File systems allow 255 bytes. This leaves room for a number, an extension and the prefixes of backup tools.
const MAX_NAME_BYTES: usize = 100;

/// Whether Windows reserves the name for a device, such as `NUL` or `com1.txt`.
fn is_windows_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    let is_numbered =
        |device: &str| stem.strip_prefix(device).is_some_and(|rest| matches!(rest.as_bytes(), [b'0'..=b'9']));
    matches!(stem.as_str(), "con" | "prn" | "aux" | "nul") || is_numbered("com") || is_numbered("lpt")
}

/// What happens to text that could control a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlText {
    /// Write it as it is.
    Keep,
    /// Remove it.
    Remove,
    /// Write it as escape sequences of JSON, which every parser turns back into the same text.
    EscapeInJson,
}

/// Makes UTF-8 text safe for terminals. A character may span writes.
struct SafeWriter<W> {
    inner: W,
    control_text: ControlText,
    sanitizer: Sanitizer,
    /// The start of an incomplete character.
    incomplete: Vec<u8>,
}

impl<W: Write> SafeWriter<W> {
    fn new(inner: W, control_text: ControlText) -> Self {
        Self { inner, control_text, sanitizer: Sanitizer::default(), incomplete: Vec::new() }
    }
}

impl<W: Write> Write for SafeWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.control_text == ControlText::Keep {
            return self.inner.write(bytes);
        }
        self.incomplete.extend_from_slice(bytes);
        let complete = match std::str::from_utf8(&self.incomplete) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let rest = self.incomplete.split_off(complete);
        let text = String::from_utf8(std::mem::replace(&mut self.incomplete, rest)).unwrap_or_default();
        let safe = match self.control_text {
            ControlText::Keep => text,
            ControlText::Remove => self.sanitizer.push(&text),
            ControlText::EscapeInJson => escape_in_json(text),
        };
        self.inner.write_all(safe.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Escapes the control characters that JSON allows in strings: DEL, those of C1, and those that change the direction of
/// text. In a JSON document they can only occur in strings.
fn escape_in_json(text: String) -> String {
    let is_control =
        |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(is_control) {
        return text;
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_control(c) {
            safe.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_name_becomes_a_valid_file_name() {
        for (name, file) in [
            ("Fix login bug - 2026-02-01_14-30", Some("Fix-login-bug-2026-02-01_14-30")),
            ("../../etc/passwd", Some("etc-passwd")),
            ("a\\b:c*?\"<>|\0\n\u{1b}[2J", Some("a-b-c-2J")),
            ("日本語 ä", Some("日本語-ä")),
            ("NUL", Some("session-NUL")),
            ("com1.txt", Some("session-com1.txt")),
            ("common", Some("common")),
            (" .. ", None),
            ("", None),
        ] {
            assert_eq!(safe_file_name(name).as_deref(), file, "{name:?}");
        }
        let long = safe_file_name(&"ä".repeat(500)).unwrap();
        assert_eq!(long.len(), MAX_NAME_BYTES);
    }

    #[test]
    fn text_is_sanitized_wherever_it_is_split() {
        let text = "é\x1b[31mred\x1b[0m 日\n";
        for split in 1..text.len() {
            let mut out = SafeWriter::new(Vec::new(), ControlText::Remove);
            let (a, b) = text.as_bytes().split_at(split);
            out.write_all(a).unwrap();
            out.write_all(b).unwrap();
            assert_eq!(String::from_utf8(out.inner).unwrap(), "éred 日\n");
        }
    }

    #[test]
    fn json_with_escaped_controls_has_the_same_value() {
        let text = "\u{9b}31m \u{202e}é\u{7f}\u{1b}[2J\u{2028}";
        let json = serde_json::to_string(text).unwrap();
        let safe = escape_in_json(json);
        assert_eq!(safe, "\"\\u009b31m \\u202eé\\u007f\\u001b[2J\u{2028}\"");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
    }
}
