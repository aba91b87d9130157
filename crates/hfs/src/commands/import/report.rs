//! What an import did, for people and for scripts.

use hfs_core::{ErrorKind, ImportReport};
use hfs_engine::{ImportedSession, SkippedSession};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{ErrorDocument, Failure, Outcome};
use crate::plain;
use crate::table::shorten;

/// Some tools keep whole paragraphs as a title.
const LONGEST_NAME: usize = 60;

/// What an import did.
#[derive(Debug)]
pub struct Report {
    /// Whether nothing was written.
    pub dry_run: bool,
    /// What was taken.
    pub imported: Vec<ImportedSession>,
    /// What was left as it was.
    pub skipped: Vec<SkippedSession>,
    /// What could not be taken, each with its file.
    pub failed: Vec<(String, ErrorDocument)>,
    /// Why it ended early.
    pub stopped: Option<Outcome>,
}

#[derive(Serialize)]
struct View<'a> {
    imported: Vec<ImportedRow<'a>>,
    skipped: Vec<SkippedRow<'a>>,
    failed: Vec<FailedRow<'a>>,
}

#[derive(Serialize)]
struct ImportedRow<'a> {
    file: &'a str,
    format: &'a str,
    session: Option<String>,
    name: &'a str,
    messages: u64,
    branches: u64,
    updated: bool,
    report: &'a ImportReport,
}

#[derive(Serialize)]
struct SkippedRow<'a> {
    file: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
struct FailedRow<'a> {
    file: &'a str,
    error: &'a ErrorDocument,
}

impl Report {
    /// What the process returns.
    pub fn outcome(&self) -> Outcome {
        match self.stopped {
            Some(outcome) => outcome,
            None if self.failed.is_empty() => Outcome::Done,
            None => Outcome::Partly(ErrorKind::Invalid),
        }
    }

    /// Prints it.
    ///
    /// # Errors
    /// When nobody reads it any more.
    pub fn print(&self, context: &Context) -> Result<(), Failure> {
        if context.console.manner.json {
            return context.console.json(&self.view());
        }
        context.console.print(&self.lines(context))?;
        for (file, error) in &self.failed {
            let file = plain::line(file);
            let mut error = error.clone();
            if !error.message.contains(&file) {
                error.message = format!("{file}: {}", error.message);
            }
            context.console.fail(&error);
        }
        if self.stopped == Some(Outcome::Interrupted) {
            context
                .console
                .note("interrupted; what was finished is kept, and the same import again does the rest");
        } else if self.stopped.is_some() {
            context.console.note("the rest was not tried, because it would fail in the same way");
        }
        Ok(())
    }

    fn view(&self) -> View<'_> {
        View {
            imported: self
                .imported
                .iter()
                .map(|done| ImportedRow {
                    file: &done.file,
                    format: &done.format,
                    session: done.session.map(|id| id.to_string()),
                    name: &done.name,
                    messages: done.messages,
                    branches: done.branches,
                    updated: done.updated,
                    report: &done.report,
                })
                .collect(),
            skipped: self
                .skipped
                .iter()
                .map(|skipped| SkippedRow { file: &skipped.file, reason: &skipped.reason })
                .collect(),
            failed: self.failed.iter().map(|(file, error)| FailedRow { file, error }).collect(),
        }
    }

    fn lines(&self, context: &Context) -> String {
        let mut text = String::new();
        for done in &self.imported {
            text += &self.line(done, context);
        }
        if context.console.manner.verbose {
            for skipped in &self.skipped {
                text +=
                    &format!("skipped {}: {}\n", plain::line(&skipped.file), plain::line(&skipped.reason));
            }
        }
        text + &self.summary()
    }

    fn line(&self, done: &ImportedSession, context: &Context) -> String {
        let id = done.session.map(|id| format!("{} ", id.short().shown())).unwrap_or_default();
        let verb = if done.updated { "updated" } else { "new" };
        let plural = if done.messages == 1 { "" } else { "s" };
        let mut text = format!(
            "{id}{} ({verb}, {}, {} message{plural})\n",
            shorten(&plain::line(&done.name), LONGEST_NAME),
            plain::line(&done.format),
            done.messages
        );
        let ImportReport { opaque, dropped, .. } = done.report;
        let verbose = context.console.manner.verbose;
        if dropped > 0 || (verbose && opaque > 0) {
            text += &format!(
                "  records: {} mapped, {opaque} kept as they came, {dropped} not kept\n",
                done.report.mapped
            );
        }
        if verbose {
            for warning in &done.report.warnings {
                let line = warning.line.map(|line| format!("line {line}: ")).unwrap_or_default();
                text += &format!("  {line}{}\n", plain::line(&warning.message));
            }
        }
        text
    }

    fn summary(&self) -> String {
        let new = self.imported.iter().filter(|done| !done.updated).count();
        let updated = self.imported.len() - new;
        let messages: u64 = self.imported.iter().map(|done| done.messages).sum();
        let mut facts = Vec::new();
        if new > 0 || self.imported.is_empty() {
            facts.push(format!("{new} session{} imported", if new == 1 { "" } else { "s" }));
        }
        if updated > 0 {
            facts.push(format!("{updated} updated"));
        }
        if !self.skipped.is_empty() {
            facts.push(format!("{} skipped", self.skipped.len()));
        }
        if !self.failed.is_empty() {
            facts.push(format!("{} failed", self.failed.len()));
        }
        let added = if messages > 0 { format!(" ({messages} messages)") } else { String::new() };
        let dry = if self.dry_run { "; nothing was written" } else { "" };
        format!("{}{added}{dry}\n", facts.join(", "))
    }
}
