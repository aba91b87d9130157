//! The app's door to files: what comes in from other tools, and what goes out.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use hfs_core::{Clock, ErrorExt, ErrorKind, ImportError, Session, Store, SystemClock};
use hfs_engine::{Importer, SkippedSession};
use hfs_exchange::{Guarded, PageOptions, Secrets, Shown, Source, Stamp, discover};
use hfs_tui::{
    ErrorReport, ExportFormat, ExportRequest, Exported, FoundTranscripts, ImportRequest, Imported, Progress,
    Transfer,
};

use crate::commands::export::{self, Form, Target};
use crate::commands::import::WithRepositories;
use crate::commands::start;
use crate::context::Context;
use crate::environment::Environment;
use crate::failure::Failure;
use crate::home::{Home, create_private};
use crate::suggestion::hint;
use crate::wiring::StoreDocument;

use super::configuration::told;

/// Sessions in and out of files.
pub struct Files {
    home: Home,
    environment: Environment,
    store: Arc<dyn Store>,
}

impl Files {
    pub fn new(context: &Context, store: Arc<dyn Store>) -> Self {
        Self { home: context.home.clone(), environment: context.environment.clone(), store }
    }

    /// A path as a person types it: `~` is the home directory, and what is relative begins here.
    fn resolve(&self, path: &Path) -> PathBuf {
        let home = self.environment.user_home.as_ref();
        match (path.strip_prefix("~"), home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => self.environment.working_directory.join(path),
        }
    }

    fn write(&self, request: &ExportRequest, progress: &dyn Progress) -> Result<Exported, Failure> {
        let form = Form::named(&request.format).unwrap_or(Form::Json);
        let path = self.resolve(&request.path);
        if path.parent() == Some(self.home.exports().as_path()) {
            create_private(&self.home.exports())
                .map_err(|error| Failure::io("make the directory of exports", error))?;
        }
        let document = StoreDocument::new(Arc::clone(&self.store), request.session)?;
        let target = Target::choose(&path, false, document.outline().0, form)?;
        let name = target.shown();
        let stamp = Stamp { exported_at: SystemClock.now(), hfs_version: env!("CARGO_PKG_VERSION") };
        let shown = if request.all_branches { Shown::All } else { Shown::Current };
        let mut out = Reporting { inner: BufWriter::new(target.begin()?), progress, name: &name, bytes: 0 };
        let secrets = Secrets::new()?;
        let guarded = Guarded::new(&document, &secrets, request.redact);
        form.write(&guarded, PageOptions { stamp, shown }, &mut out)
            .map_err(|error| export::failed(error, format!("write the export {name}")))?;
        let bytes = out.bytes;
        let file = out
            .inner
            .into_inner()
            .map_err(|error| Failure::io(format!("write the export {name}"), error.into_error()))?;
        Ok(Exported {
            path: target.finish(file)?,
            bytes,
            warnings: export::about_secrets(&guarded.report(), request.redact).into_iter().collect(),
        })
    }
}

impl Transfer for Files {
    fn export_formats(&self) -> Vec<ExportFormat> {
        let format = |form: &Form| ExportFormat { name: form.as_str().into(), about: form.about().into() };
        Form::value_variants().iter().map(format).collect()
    }

    fn default_export_path(&self, session: &Session, format: &str) -> PathBuf {
        Target::usual(&self.home.exports(), session, Form::named(format).unwrap_or(Form::Json))
    }

    fn export(&self, request: &ExportRequest, progress: &dyn Progress) -> Result<Exported, ErrorReport> {
        self.write(request, progress).map_err(|error| told(&error))
    }

    fn find_transcripts(&self) -> Vec<FoundTranscripts> {
        start::places(&self.environment)
            .into_iter()
            .filter_map(|(format, path)| {
                let sources = discover(&path).ok()?;
                (!sources.is_empty()).then(|| FoundTranscripts {
                    tool: format.to_string(),
                    path,
                    files: u64::try_from(sources.len()).unwrap_or(u64::MAX),
                    bytes: sources.iter().map(Source::bytes).sum(),
                })
            })
            .collect()
    }

    fn import(&self, request: &ImportRequest, progress: &dyn Progress) -> Result<Imported, ErrorReport> {
        let mut result = Imported::default();
        let mut sources = Vec::new();
        for path in &request.paths {
            let path = self.resolve(path);
            match discover(&path) {
                Ok(found) if found.is_empty() => result.skipped.push(SkippedSession {
                    file: path.display().to_string(),
                    reason: "no transcripts were found in it".into(),
                }),
                Ok(found) => sources.extend(found),
                Err(error) => {
                    result.failed.push((path.display().to_string(), ErrorReport::from_error(&error, hint)))
                }
            }
        }
        let total: u64 = sources.iter().map(Source::bytes).sum();
        let mut done = 0;
        for source in &sources {
            let name = source.name();
            let report = |bytes: u64| progress.report(done + bytes, Some(total), &name);
            let importer =
                Importer::new(self.store.as_ref(), &SystemClock, request.on_duplicate, request.dry_run)
                    .with_progress(report);
            let mut sink = WithRepositories::new(importer);
            sink.next_file(source);
            let outcome = hfs_exchange::read(source, None, &mut sink);
            let (imported, skipped) = sink.finish();
            result.imported.extend(imported);
            result.skipped.extend(skipped);
            done += source.bytes();
            match outcome {
                Ok(()) => {}
                Err(ImportError::Interrupted { .. }) => break,
                Err(error) => {
                    let is_stores =
                        matches!(&error, ImportError::Store(cause) if cause.kind() != ErrorKind::Invalid);
                    result.failed.push((name, ErrorReport::from_error(&error, hint)));
                    if is_stores {
                        break;
                    }
                }
            }
        }
        Ok(result)
    }
}

/// Reports what passes, and ends when somebody asks it to.
struct Reporting<'a, W> {
    inner: W,
    progress: &'a dyn Progress,
    name: &'a str,
    bytes: u64,
}

impl<W: Write> Write for Reporting<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.progress.report(self.bytes, None, self.name) {
            return Err(io::Error::other("interrupted"));
        }
        let count = self.inner.write(bytes)?;
        self.bytes += u64::try_from(count).unwrap_or(0);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
