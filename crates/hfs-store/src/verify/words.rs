//! Whether the text index holds the words that are in the messages.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::Report;
use crate::connection::connect;
use crate::fault::Sql;
use crate::maintenance;

/// Lets the text index compare itself with the messages: on a copy, because that takes the right to write, and
/// longer than anybody should have to wait for it.
pub(super) fn compare(conn: &Connection, report: &mut Report, place: &Path) -> Sql<()> {
    let compared = Copy::of(conn, place).and_then(|copy| {
        let copy = connect(copy.0)?;
        copy.execute("INSERT INTO message_text (message_text, rank) VALUES ('integrity-check', 1)", [])?;
        Ok(())
    });
    match compared {
        Err(fault) if fault.is_damage() => {
            let detail = format!("it does not hold the words of the messages ({fault})");
            report.problem("index", "text index", detail);
            Ok(())
        }
        Err(fault) => {
            tracing::warn!(%fault, "there is no room for a copy, so the words of the text index were not compared");
            Ok(())
        }
        Ok(()) => {
            let count = conn.query_row("SELECT count(*) FROM message_text_docsize", [], |row| row.get(0))?;
            report.count("indexed messages", count);
            Ok(())
        }
    }
}

/// A copy that goes when it is dropped.
struct Copy<'a>(&'a Path);

impl<'a> Copy<'a> {
    fn of(conn: &Connection, place: &'a Path) -> Sql<Self> {
        maintenance::copy(conn, place)?;
        Ok(Self(place))
    }
}

impl Drop for Copy<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(self.0) {
            tracing::warn!(%error, copy = %self.0.display(), "a copy could not be removed");
        }
    }
}
