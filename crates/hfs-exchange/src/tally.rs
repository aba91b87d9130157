//! Counts what became of records.

use hfs_core::{ImportReport, ImportWarning};

/// More warnings than anybody reads are counted instead of kept.
const MAX_WARNINGS: usize = 1_000;

/// A report in the making.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    report: ImportReport,
    suppressed: u64,
}

impl Tally {
    /// A record became something of ours.
    pub(crate) fn mapped(&mut self) {
        self.report.records += 1;
        self.report.mapped += 1;
    }

    /// A record was kept as it came.
    pub(crate) fn opaque(&mut self) {
        self.report.records += 1;
        self.report.opaque += 1;
    }

    /// A record was lost.
    pub(crate) fn dropped(&mut self, line: Option<u64>, why: impl Into<String>) {
        self.report.records += 1;
        self.report.dropped += 1;
        self.warn(line, why);
    }

    /// Something a person should know.
    pub(crate) fn warn(&mut self, line: Option<u64>, message: impl Into<String>) {
        if self.report.warnings.len() < MAX_WARNINGS {
            self.report.warnings.push(ImportWarning { line, message: message.into() });
        } else {
            self.suppressed += 1;
        }
    }

    /// Takes what was lost on the way here.
    pub(crate) fn absorb(&mut self, other: Self) {
        let other_report = other.report;
        self.report.records += other_report.records;
        self.report.mapped += other_report.mapped;
        self.report.opaque += other_report.opaque;
        self.report.dropped += other_report.dropped;
        self.suppressed += other.suppressed;
        for warning in other_report.warnings {
            self.warn(warning.line, warning.message);
        }
    }

    /// The report.
    pub(crate) fn finish(mut self) -> ImportReport {
        if self.suppressed > 0 {
            let message = format!("and {} more warnings", self.suppressed);
            self.report.warnings.push(ImportWarning { line: None, message });
        }
        self.report
    }
}

/// The beginning of a damaged piece, for a warning.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}
