//! `verify`: reads everything in the database and reports what is damaged.
//!
//! All checks run in one read transaction, so they see one snapshot of the database while other connections write.

mod schema;
mod tables;

use std::fs;
use std::path::Path;

use hfs_core::{StoreResult, Verification};
use rusqlite::{Connection, Params, Row};

use crate::check::{Finding, ProblemKind, message_place};
use crate::db::connection::connect;
use crate::db::locks::LivenessProbe;
use crate::db::{Database, backup};
use crate::error::Result;

pub(crate) use tables::count_messages;

/// Problems beyond this number are counted but not listed.
const MAX_LISTED: usize = 1000;

pub(crate) fn verify(db: &Database) -> StoreResult<Verification> {
    let findings = find_problems(db)?;
    let problems = findings.problems.into_iter().map(Into::into).collect();
    Ok(Verification { checked: findings.checked, problems })
}

/// The result of [`find_problems`].
pub(crate) struct Findings {
    /// Number of checked items by kind.
    checked: Vec<(String, u64)>,
    pub(crate) problems: Vec<Finding>,
}

pub(crate) fn find_problems(db: &Database) -> StoreResult<Findings> {
    let probe = db.liveness_probe();
    let copy = db.temporary_path("verify");
    db.read("verify the store", |conn| Ok(run_checks(conn, &probe, &copy)))
}

/// Runs all checks. `copy` is the path for the temporary copy of the database that the full-text check makes.
fn run_checks(conn: &Connection, probe: &LivenessProbe, copy: &Path) -> Findings {
    let mut report = Report::default();
    report.run("the database's pages", conn, pages);
    report.run("schema", conn, schema::schema);
    report.run("references", conn, references);
    report.run("sessions", conn, tables::sessions);
    report.run("lists of sessions", conn, tables::list_positions);
    report.run("branches", conn, tables::branches);
    report.run("messages", conn, tables::messages);
    report.run("blocks", conn, tables::blocks);
    report.run("replies in progress", conn, |conn, report| tables::replies(conn, report, probe));
    report.run("text index", conn, indexed_messages);
    report.run("words in the text index", conn, |conn, report| indexed_words(conn, report, copy));
    report.run("attachments", conn, tables::attachments);
    report.run("runs", conn, tables::runs);
    report.run("checkpoints", conn, tables::checkpoints);
    report.run("states", conn, tables::states);
    report.run("operations", conn, tables::operations);
    report.finish()
}

/// Collects findings.
#[derive(Default)]
struct Report {
    checked: Vec<(String, u64)>,
    problems: Vec<Finding>,
    unlisted: usize,
}

impl Report {
    /// Runs a check. An error of the check is reported as a problem.
    fn run(
        &mut self,
        what: &str,
        conn: &Connection,
        check: impl FnOnce(&Connection, &mut Self) -> Result<()>,
    ) {
        if let Err(error) = check(conn, self) {
            self.problem(ProblemKind::Unreadable, what, error.to_string());
        }
    }

    fn count(&mut self, what: &str, count: u64) {
        self.checked.push((what.to_owned(), count));
    }

    fn problem(&mut self, kind: ProblemKind, place: impl Into<String>, detail: impl Into<String>) {
        if self.problems.len() < MAX_LISTED {
            self.problems.push(Finding { kind, place: place.into(), detail: detail.into() });
        } else {
            self.unlisted += 1;
        }
    }

    /// Reports each row that a query returns; an intact database has none. `describe` returns place and detail.
    fn expect_no_rows<P: Params>(
        &mut self,
        conn: &Connection,
        kind: ProblemKind,
        sql: &str,
        params: P,
        describe: impl Fn(&Row<'_>) -> rusqlite::Result<(String, String)>,
    ) -> Result<()> {
        let mut statement = conn.prepare(sql)?;
        let mut rows = statement.query(params)?;
        while let Some(row) = rows.next()? {
            let (place, detail) = describe(row)?;
            self.problem(kind, place, detail);
        }
        Ok(())
    }

    /// Checks and counts the rows of a query whose first column is the row number. Reports rows that cannot be decoded.
    fn check_rows(
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
                    self.problem(ProblemKind::Content, place, error.to_string());
                }
                checked => checked?,
            }
        }
        self.count(what, count);
        Ok(())
    }

    fn finish(mut self) -> Findings {
        if self.unlisted > 0 {
            let detail = format!("{} more problems", self.unlisted);
            self.problems.push(Finding { kind: ProblemKind::More, place: "everywhere".into(), detail });
        }
        Findings { checked: self.checked, problems: self.problems }
    }
}

/// SQLite's own check of pages and indexes, including the internal structure of the text index.
fn pages(conn: &Connection, report: &mut Report) -> Result<()> {
    let pages: u64 = conn.pragma_query_value(None, "page_count", |row| row.get(0))?;
    report.count("pages", pages);
    // A connection that has searched keeps FTS5's list of segments. Only a query looks whether other connections have replaced them;
    // the check takes those that are gone for damage. A query that fails is found by the check, too.
    let _ = conn.query_row("SELECT rowid FROM message_text LIMIT 1", [], |_| Ok(()));
    let mut messages = Vec::new();
    conn.pragma_query(None, "integrity_check", |row| {
        messages.push(row.get::<_, String>(0)?);
        Ok(())
    })?;
    for message in messages.into_iter().filter(|message| message != "ok") {
        // Damage in the tables of the text index needs no salvage: the index can be rebuilt from the messages.
        let kind = if message.contains("message_text") { ProblemKind::Index } else { ProblemKind::Page };
        report.problem(kind, "database", message);
    }
    Ok(())
}

fn references(conn: &Connection, report: &mut Report) -> Result<()> {
    report.expect_no_rows(conn, ProblemKind::Reference, "PRAGMA foreign_key_check", [], |row| {
        let (table, row_no, target): (String, Option<i64>, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let no = row_no.map_or_else(String::new, |no| format!(" number {no}"));
        Ok((format!("{table}{no}"), format!("it refers to a missing row of {target}")))
    })?;
    report.expect_no_rows(
        conn,
        ProblemKind::Reference,
        "SELECT no FROM message WHERE NOT EXISTS (SELECT 1 FROM branch WHERE branch.no = message.no >> 32)",
        [],
        |row| Ok((message_place(row.get(0)?), "its branch is missing".into())),
    )?;
    // While a session is being imported, its attachments are held by rows with the session's negated number in the
    // column `message`.
    report.expect_no_rows(
        conn,
        ProblemKind::Reference,
        "SELECT message, attachment FROM attachment_use
            WHERE NOT EXISTS (SELECT 1 FROM message WHERE no = attachment_use.message)
            AND NOT EXISTS (SELECT 1 FROM session WHERE no = -attachment_use.message AND state = 2)",
        [],
        |row| Ok((message_place(row.get(0)?), "it uses an attachment but is missing".into())),
    )?;
    report.expect_no_rows(
        conn,
        ProblemKind::Reference,
        "SELECT session.no, session.name FROM session
            WHERE NOT EXISTS (SELECT 1 FROM activity WHERE activity.session = session.no)",
        [],
        |row| Ok((tables::session_place(row)?, "its row in the activity table is missing".into())),
    )
}

/// Checks that the text index has an entry for each message up to `branch.indexed`, and no others.
fn indexed_messages(conn: &Connection, report: &mut Report) -> Result<()> {
    let expected = "SELECT message.no FROM message JOIN branch ON branch.no = message.no >> 32
        WHERE message.no & 0xffffffff <= branch.indexed_seq";
    let found = "SELECT id FROM message_text_docsize";
    let missing = format!("{expected} EXCEPT {found}");
    report.expect_no_rows(conn, ProblemKind::Index, &missing, [], |row| {
        Ok((message_place(row.get(0)?), "it is missing in the text index".into()))
    })?;
    let surplus = format!("{found} EXCEPT {expected}");
    report.expect_no_rows(conn, ProblemKind::Index, &surplus, [], |row| {
        Ok((message_place(row.get(0)?), "it should not be in the text index".into()))
    })
}

/// Checks that the text index has the words of the messages, with FTS5's 'integrity-check' command.
///
/// That command needs a write transaction, and takes so long that other writers should not wait for it. It therefore
/// runs on a copy of the database.
fn indexed_words(conn: &Connection, report: &mut Report, copy: &Path) -> Result<()> {
    let compared = TemporaryCopy::create(conn, copy).and_then(|copy| {
        let copy_conn = connect(copy.0)?;
        copy_conn
            .execute("INSERT INTO message_text (message_text, rank) VALUES ('integrity-check', 1)", [])?;
        Ok(())
    });
    match compared {
        Err(error) if error.is_corruption() => {
            let detail = format!("its words differ from those of the messages ({error})");
            report.problem(ProblemKind::Index, "text index", detail);
        }
        // Most likely there is no space for the copy. That does not mean that the store is damaged.
        Err(error) => {
            tracing::warn!(%error, "the words in the text index were not checked: the store could not be copied");
        }
        Ok(()) => {
            let count = conn.query_row("SELECT count(*) FROM message_text_docsize", [], |row| row.get(0))?;
            report.count("indexed messages", count);
        }
    }
    Ok(())
}

/// A copy of the database that is deleted when this is dropped.
struct TemporaryCopy<'a>(&'a Path);

impl<'a> TemporaryCopy<'a> {
    fn create(conn: &Connection, path: &'a Path) -> Result<Self> {
        backup::copy(conn, path)?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryCopy<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(self.0) {
            tracing::warn!(%error, copy = %self.0.display(), "a temporary copy could not be deleted");
        }
    }
}
