//! Copies a whole database with SQLite's online backup API.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::db::paths::{create_private_file, sync_directory_of};
use crate::error::{Error, Result, conflict};

/// Pages copied at a time. Other connections can write between two steps.
const STEP_PAGES: i32 = 2048;
const RETRY_DELAY: Duration = Duration::from_millis(5);

/// Copies the snapshot that `conn` reads to a new file. Deletes the file if copying fails.
pub(crate) fn copy(conn: &Connection, to: &Path) -> Result<()> {
    let file = match create_private_file(to) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(conflict(format!("{} already exists", to.display())));
        }
        created => created?,
    };
    let written =
        write_copy(conn, to).and_then(|()| Ok(file.sync_all().and_then(|()| sync_directory_of(to))?));
    if written.is_err() {
        std::fs::remove_file(to)?;
    }
    written
}

fn write_copy(conn: &Connection, to: &Path) -> Result<()> {
    let mut copy = Connection::open(to)?;
    copy_pages(conn, &mut copy)?;
    // Leaves WAL mode, so that the copy is a single file.
    copy.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
    copy.close().map_err(|(_, error)| Error::from(error))
}

fn copy_pages(from: &Connection, to: &mut Connection) -> Result<()> {
    let backup = Backup::new(from, to)?;
    loop {
        match backup.step(STEP_PAGES)? {
            StepResult::Done => return Ok(()),
            StepResult::Busy | StepResult::Locked => std::thread::sleep(RETRY_DELAY),
            _ => {}
        }
    }
}
