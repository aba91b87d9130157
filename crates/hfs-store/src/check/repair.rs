//! Mending what `verify` finds.
//!
//! Where pages are damaged, every row that can still be read is carried into a new database first, whose pages then
//! take the place of the old ones in one transaction; a copy of the damaged one is kept. Then the rows are made to
//! fit together again: what is lost beyond doubt is said to be, and what stood around it stays in its place.

mod fittings;
mod histories;
mod salvage;
mod wholes;

use hfs_core::{Problem, StoreResult};
use rusqlite::Connection;

use crate::check::verify;
use crate::db::Database;
use crate::error::{Error, Result};

/// How often the rows are gone through: mending one thing can bring another to light.
const ROUNDS: usize = 3;

/// `catch_up` indexes every message that waits for the text index.
pub(crate) fn repair(db: &Database, catch_up: &dyn Fn() -> StoreResult<()>) -> StoreResult<Vec<Problem>> {
    let found = verify::verify(db)?;
    if found.is_ok() {
        return Ok(Vec::new());
    }
    let mut told = Told::default();
    if found.problems.iter().any(|problem| problem.kind == "page" || problem.kind == "unreadable") {
        told.merge(salvage::salvage(db)?);
    }
    let mut problems = found.problems.clone();
    for _ in 0..ROUNDS {
        let index = problems.iter().any(|problem| matches!(&*problem.kind, "index" | "page" | "unreadable"));
        told.merge(db.with_writer("repair the store", |conn| mend(conn, index))?);
        catch_up()?;
        problems = verify::verify(db)?.problems;
        if problems.is_empty() {
            break;
        }
    }
    for left in problems {
        told.did("left", left.place, format!("{} (it could not be mended)", left.detail));
    }
    if told.0.is_empty() {
        // What was wrong has mended itself by being looked at: a reply that nobody had ended.
        told.0 = found.problems;
    }
    Ok(told.0)
}

/// Makes the rows fit together, in one transaction, and the text index anew where that is wrong or messages have
/// changed. References may be wrong until the end.
fn mend(conn: &Connection, index: bool) -> Result<Told> {
    conn.pragma_update(None, "foreign_keys", false)?;
    let mut told = Told::default();
    let done = conn.execute_batch("BEGIN IMMEDIATE").map_err(Error::from).and_then(|()| {
        wholes::remove_unreadable(conn, &mut told)?;
        let before = told.0.len();
        histories::mend(conn, &mut told)?;
        let index = index || told.0.len() > before;
        fittings::mend(conn, &mut told, index)?;
        Ok(conn.execute_batch("COMMIT")?)
    });
    if !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK")?;
    }
    conn.pragma_update(None, "foreign_keys", true)?;
    done.map(|()| told)
}

/// What was done, in the words of those whom it concerns.
#[derive(Debug, Default)]
struct Told(Vec<Problem>);

impl Told {
    fn did(&mut self, kind: &str, place: impl Into<String>, detail: impl Into<String>) {
        self.0.push(Problem { kind: kind.to_owned(), place: place.into(), detail: detail.into() });
    }

    fn merge(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// Runs a statement that removes or changes what does not fit, and tells how much that was.
    fn sweep(&mut self, conn: &Connection, sql: &str, place: &str, detail: &str) -> Result<()> {
        let rows = conn.execute(sql, [])?;
        if rows > 0 {
            self.did("mended", format!("{rows} of {place}"), detail);
        }
        Ok(())
    }
}

/// The numbers of rows that a query gives.
fn numbers(conn: &Connection, sql: &str) -> Result<Vec<i64>> {
    let found = conn.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(found)
}
