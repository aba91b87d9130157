//! Copies a whole database with SQLite's online backup API.

use std::path::Path;
use std::time::Duration;

use hfs_files::TemporaryFolder;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::db::paths::{create_private_file, directory_of, sync_directory_of};
use crate::error::{Error, Result, conflict};

/// Pages copied at a time. Other connections can write between two steps.
const STEP_PAGES: i32 = 2048;
const RETRY_DELAY: Duration = Duration::from_millis(5);

/// Copies the snapshot that `conn` reads to a new file, which is complete as soon as it has its name.
pub(crate) fn copy(conn: &Connection, to: &Path) -> Result<()> {
    const NAME: &str = "copy.db";
    let exists = || conflict(format!("{} already exists", to.display()));
    if to.symlink_metadata().is_ok() {
        return Err(exists());
    }
    // In a folder, because SQLite creates a journal beside the copy.
    let folder = TemporaryFolder::create_in(directory_of(to))?;
    let copy = folder.path().join(NAME);
    let file = create_private_file(&copy)?;
    write_copy(conn, &copy)?;
    file.sync_all()?;
    match folder.persist_new(NAME, to) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(exists()),
        persisted => Ok(persisted.and_then(|()| sync_directory_of(to))?),
    }
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
