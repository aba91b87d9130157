//! `hfs export`

mod form;
mod target;

use std::cell::Cell;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hfs_core::{BranchId, ErrorKind, Session, SessionId};
use hfs_exchange::{
    BranchSelection, ExportError, ExportMetadata, PageOptions, RedactedSource, SecretReport, SecretScanner,
    install_path,
};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::commands::start::moved;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::references::find_branch;
use crate::transcript::size;
use crate::wiring::StoreDocument;
use crate::{interrupt, plain};
use form::Branches;
pub use form::Form;
use target::SafeText;
pub use target::Target;

const EXAMPLES: &str = "\
Examples:
  hfs export @                              the newest session whole, as JSON, into the folder of exports
  hfs export @ --format markdown -o -       its current branch as Markdown on standard output
  hfs export login -o login.html            the format follows the file's name
  hfs export @ -o - | hfs --home B import - a session moves to another home

  hfs export @ --format codex               a transcript that another tool goes on with

JSON has everything: every branch, run, checkpoint and attachment; `hfs import` brings all of it back. Markdown and
HTML show one branch, or all with --all-branches. A transcript for Claude Code has every branch, one for Codex or
opencode the history of one; records that came from Claude Code go back to it as they were.";

/// Which session, and how and where to.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Export {
    /// The session
    session: String,
    /// The format [default: as FILE ends, else json]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    format: Option<Form>,
    /// The file, which is replaced if it exists; a directory; or - for standard output [default: a new file in
    /// $HFS_HOME/exports]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Every branch (json and claude-code always have them)
    #[arg(long, conflicts_with = "branch")]
    all_branches: bool,
    /// Mask what seems to be a secret: keys, tokens, passwords in addresses
    #[arg(long)]
    redact: bool,
    /// Another branch than the current one (not for json and claude-code)
    #[arg(long, value_name = "BRANCH")]
    branch: Option<String>,
}

/// What was written.
#[derive(Serialize)]
struct View {
    path: String,
    format: &'static str,
    bytes: u64,
    session: String,
    name: String,
    messages: u64,
    branches: usize,
}

/// Writes a session to a file or to standard output.
pub fn run(export: &Export, context: &Context) -> Result<Outcome, Failure> {
    let form = export.format.or_else(|| Form::of_file(export.output.as_deref()?)).unwrap_or(Form::Json);
    check_branches(export, form)?;
    let session = context.session(&export.session)?;
    let branch = match &export.branch {
        Some(reference) => Some(find_branch(&context.store()?.list_branches(session)?, reference)?.id),
        None => None,
    };
    let job = Job { session, form, branch, all: export.all_branches, redact: export.redact };
    match &export.output {
        Some(path) if path == Path::new("-") => to_output(&job, context),
        Some(path) => to_file(&job, &context.environment.working_directory.join(path), false, context),
        None => to_file(&job, &context.home.exports(), true, context),
    }
}

/// Refuses a choice of branches that the form does not leave.
fn check_branches(export: &Export, form: Form) -> Result<(), Failure> {
    match form.branches() {
        Branches::All if export.branch.is_some() => Err(Failure::Usage {
            message: format!("{} holds every branch, not one", form.as_str()),
            hint: "leave --branch out, or choose --format markdown or html".into(),
        }),
        Branches::One if export.all_branches => Err(Failure::Usage {
            message: format!("{} holds the history of one branch", form.as_str()),
            hint: "leave --all-branches out; --branch chooses another branch than the current one".into(),
        }),
        _ => Ok(()),
    }
}

/// What is to be written.
struct Job {
    session: SessionId,
    form: Form,
    branch: Option<BranchId>,
    all: bool,
    redact: bool,
}

impl Job {
    fn document(&self, context: &Context) -> Result<StoreDocument, Failure> {
        let document = StoreDocument::new(Arc::clone(context.store()?), self.session)?;
        Ok(match self.branch {
            Some(branch) => document.on_branch(branch),
            None => document,
        })
    }

    fn write(
        &self,
        document: &StoreDocument,
        context: &Context,
        out: &mut dyn Write,
    ) -> Result<(), ExportError> {
        let stamp = ExportMetadata { exported_at: context.now(), hfs_version: env!("CARGO_PKG_VERSION") };
        let options = PageOptions {
            metadata: stamp,
            branches: if self.all { BranchSelection::All } else { BranchSelection::Current },
        };
        // Nobody would hear what the search found.
        if context.console.manner.quiet && !self.redact {
            return self.form.write(document, options, out);
        }
        let secrets = SecretScanner::new()?;
        let guarded = RedactedSource::new(document, &secrets, self.redact);
        self.form.write(&guarded, options, out)?;
        if let Some(told) = about_secrets(&guarded.report(), self.redact) {
            context.console.warn(&plain::line(&told));
        }
        Ok(())
    }
}

fn to_output(job: &Job, context: &Context) -> Result<Outcome, Failure> {
    let document = job.document(context)?;
    let output = io::stdout().lock();
    let done = if context.console.output_is_terminal() {
        job.write(&document, context, &mut BufWriter::new(SafeText::new(output)))
    } else {
        job.write(&document, context, &mut BufWriter::new(output))
    };
    done.map(|()| Outcome::Done).map_err(|error| failed(error, "write to standard output".into()))
}

/// Writes beside the target and moves it there when it is whole, so that no half-written export is ever seen.
fn to_file(job: &Job, path: &Path, is_default: bool, context: &Context) -> Result<Outcome, Failure> {
    let bar = context.console.progress(0);
    let cancel = interrupt::watch()?;
    let seen = bar.clone();
    let document = job.document(context)?;
    let reads = document.messages_in_all().max(1) * job.form.reads();
    bar.set_length(reads);
    let document = document.with_progress(move |messages| seen.inc(messages));
    let (session, branches) = document.outline();
    bar.set_message(plain::line(&session.name));
    let target = Target::choose(path, is_default, session, job.form)?;
    let action = format!("write the export {}", target.shown());
    let mut file = Watched { inner: BufWriter::new(target.begin()?), cancel: &cancel, written: Cell::new(0) };
    let written = job.write(&document, context, &mut file);
    bar.finish_and_clear();
    if cancel.is_cancelled() {
        context.console.note("interrupted; nothing was written");
        return Ok(Outcome::Interrupted);
    }
    written.map_err(|error| failed(error, action.clone()))?;
    let bytes = file.written.get();
    let file = file.inner.into_inner().map_err(|error| Failure::io(action.clone(), error.into_error()))?;
    let path = target.finish(file)?;
    let path = path.display().to_string();
    if context.console.manner.json {
        context.console.json(&View {
            path,
            format: job.form.as_str(),
            bytes,
            session: session.id.to_string(),
            name: session.name.clone(),
            messages: document.messages_in_all(),
            branches: branches.len(),
        })?;
    } else {
        context.console.note(&format!("{} written, readable by you alone", size(bytes)));
        if let Some(told) = way_on(job.form, session, &path, context) {
            context.console.note(&plain::line(&told));
        }
        context.console.print(&format!("{}\n", plain::line(&path)))?;
    }
    Ok(Outcome::Done)
}

/// How the tool that a transcript was written for goes on with it.
fn way_on(form: Form, session: &Session, path: &str, context: &Context) -> Option<String> {
    let home = context.environment.user_home.as_deref()?;
    let landing = install_path(form.tool()?, session, home, &moved(&context.environment))?;
    Some(match &landing.folder {
        Some(folder) if Path::new(path).parent() == Some(folder) => {
            format!("go on with: {}", landing.command)
        }
        Some(folder) => {
            format!("to go on: put it into {}, then {}", folder.display(), landing.command)
        }
        None => format!("to go on: {} {path}", landing.command),
    })
}

/// Counts what passes, and ends when somebody asks it to.
struct Watched<'a, W> {
    inner: W,
    cancel: &'a CancellationToken,
    written: Cell<u64>,
}

impl<W: Write> Write for Watched<'_, W> {
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

/// How many places a warning names.
const PLACES: usize = 5;

/// What a person is told about the secrets that an export seems to hold, or held.
pub fn about_secrets(report: &SecretReport, masked: bool) -> Option<String> {
    if report.total == 0 {
        return None;
    }
    let things = if report.total == 1 { "secret" } else { "secrets" };
    let mut places: Vec<&str> = report.places.iter().map(String::as_str).take(PLACES).collect();
    if report.places.len() > PLACES {
        places.push("and more");
    }
    let places = places.join(", ");
    Some(if masked {
        format!("{} {things} masked in {places}", report.total)
    } else {
        format!("the export seems to hold {} {things}, in {places}; --redact masks them", report.total)
    })
}

/// The failure to write an export.
pub fn failed(error: ExportError, action: String) -> Failure {
    match error {
        ExportError::Store(error) => error.into(),
        ExportError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => Failure::ClosedPipe,
        ExportError::Io(error) => Failure::io(action, error),
        other => Failure::Refused { kind: ErrorKind::Unsupported, message: other.to_string(), hint: None },
    }
}
