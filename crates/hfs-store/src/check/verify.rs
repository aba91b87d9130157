//! Looking at everything, to find what is not as it should be.
//!
//! All of it reads from one unchanging state of the database, while others go on writing.

mod content;
mod structure;
mod words;

pub(crate) use structure::count_messages;

use std::path::Path;

use hfs_core::{Problem, StoreResult, Verification};
use rusqlite::{Connection, Params, Row};

use crate::db::Database;
use crate::db::locks::LivenessProbe;
use crate::error::Result;

/// How many problems are told; beyond that, only how many more.
const TOLD: usize = 1000;

pub(crate) fn verify(db: &Database) -> StoreResult<Verification> {
    let probe = db.liveness_probe();
    let place = db.paths.free_name("-verify");
    db.read("verify the store", |conn| Ok(everything(conn, &probe, &place)))
}

/// What is wrong with the database that `conn` sees. `place` is for a copy, on which is tried what needs the right
/// to write.
fn everything(conn: &Connection, probe: &LivenessProbe, place: &Path) -> Verification {
    let mut report = Report::default();
    report.step("the database's pages", conn, structure::pages);
    report.step("references", conn, structure::references);
    report.step("sessions", conn, structure::sessions);
    report.step("lists of sessions", conn, structure::places);
    report.step("branches", conn, structure::branches);
    report.step("messages", conn, content::messages);
    report.step("replies in progress", conn, |conn, report| content::replies(conn, report, probe));
    report.step("text index", conn, structure::text_index);
    report.step("words in the text index", conn, |conn, report| words::compare(conn, report, place));
    report.step("attachments", conn, content::attachments);
    report.step("runs", conn, content::runs);
    report.step("checkpoints", conn, structure::checkpoints);
    report.step("states", conn, content::states);
    report.step("operations", conn, content::operations);
    report.finish()
}

/// What has been found so far.
#[derive(Default)]
struct Report {
    checked: Vec<(String, u64)>,
    problems: Vec<Problem>,
    more: usize,
}

impl Report {
    /// Runs one check. That it cannot be finished is a problem, too.
    fn step(
        &mut self,
        what: &str,
        conn: &Connection,
        check: impl FnOnce(&Connection, &mut Self) -> Result<()>,
    ) {
        if let Err(error) = check(conn, self) {
            self.problem("unreadable", what, error.to_string());
        }
    }

    fn count(&mut self, what: &str, count: u64) {
        self.checked.push((what.to_owned(), count));
    }

    fn problem(&mut self, kind: &str, place: impl Into<String>, detail: impl Into<String>) {
        if self.problems.len() < TOLD {
            let kind = kind.to_owned();
            self.problems.push(Problem { kind, place: place.into(), detail: detail.into() });
        } else {
            self.more += 1;
        }
    }

    /// Each row of a query for what should not be there is a problem.
    fn none<P: Params>(
        &mut self,
        conn: &Connection,
        kind: &str,
        sql: &str,
        params: P,
        tell: impl Fn(&Row<'_>) -> rusqlite::Result<(String, String)>,
    ) -> Result<()> {
        let mut statement = conn.prepare(sql)?;
        let mut rows = statement.query(params)?;
        while let Some(row) = rows.next()? {
            let (place, detail) = tell(row)?;
            self.problem(kind, place, detail);
        }
        Ok(())
    }

    /// Looks at each row of a table; one that cannot be made sense of is a problem.
    fn each(
        &mut self,
        conn: &Connection,
        what: &str,
        sql: &str,
        mut check: impl FnMut(&Connection, &Row<'_>, &mut Self) -> Result<()>,
    ) -> Result<()> {
        let mut statement = conn.prepare(sql)?;
        let mut rows = statement.query([])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += 1;
            match check(conn, row, self) {
                Err(error) if error.is_corruption() => {
                    let place = format!("{what} number {}", row.get::<_, i64>(0)?);
                    self.problem("content", place, error.to_string());
                }
                done => done?,
            }
        }
        self.count(what, count);
        Ok(())
    }

    fn finish(mut self) -> Verification {
        if self.more > 0 {
            let detail = format!("{} more problems", self.more);
            self.problems.push(Problem { kind: "more".into(), place: "everywhere".into(), detail });
        }
        Verification { checked: self.checked, problems: self.problems }
    }
}
