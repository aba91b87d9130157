//! Whether the text index holds the words that are in the messages.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::Report;
use crate::db::connection::connect;
use crate::error::Result;
use crate::sqlite::maintenance;

/// Lets the text index compare itself with the messages: on a copy, because that takes the right to write, and
/// longer than anybody should have to wait for it.
pub(super) fn compare(conn: &Connection, report: &mut Report, place: &Path) -> Result<()> {
    let compared = Copy::of(conn, place).and_then(|copy| {
        let copy = connect(copy.0)?;
        copy.execute("INSERT INTO message_text (message_text, rank) VALUES ('integrity-check', 1)", [])?;
        Ok(())
    });
    match compared {
        Err(error) if error.is_corruption() => {
            let detail = format!("it does not hold the words of the messages ({error})");
            report.problem("index", "text index", detail);
            Ok(())
        }
        Err(error) => {
            tracing::warn!(%error, "there is no room for a copy, so the words of the text index were not compared");
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
    fn of(conn: &Connection, place: &'a Path) -> Result<Self> {
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
