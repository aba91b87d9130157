//! The store on SQLite. Each trait of the port has a file, which also contains its SQL. The files `blocks`,
//! `purge`, `repair`, `session_stats`, `text_index` and `texts` contain what several traits share.

mod attachments;
pub(crate) mod blocks;
mod branches;
mod candidates;
mod checkpoints;
mod copy;
mod import;
mod maintenance;
pub(crate) mod messages;
mod operations;
mod purge;
mod reimport;
pub(crate) mod repair;
mod runs;
mod search;
mod session_stats;
mod sessions;
mod text_index;
pub(crate) mod texts;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use hfs_core::StoreResult;

use crate::db::Database;
use crate::db::options::SqliteOptions;
use crate::sqlite::text_index::Backlog;
use crate::state_store::KeyframeCache;

/// A store in one SQLite file.
///
/// Threads can share one store, and processes can share one file. When the store is dropped, its unfinished replies
/// become interrupted.
pub struct SqliteStore {
    pub(crate) db: Arc<Database>,
    pub(crate) backlog: Mutex<Backlog>,
    pub(crate) keyframes: Arc<KeyframeCache>,
}

impl SqliteStore {
    /// Opens the database at `path`. Creates the file and its directory if they do not exist; migrates an old
    /// database after copying it.
    ///
    /// # Errors
    /// `Newer` for a database of a newer version, which is not touched; `Corrupt` for a file that is not a database;
    /// `Invalid` for the database of another program; `Denied` and `Unavailable` for errors of the operating system.
    pub fn open(path: impl AsRef<Path>, options: SqliteOptions) -> StoreResult<Self> {
        let path = path.as_ref();
        let db =
            Database::open(path, options).map_err(|error| error.into_store_error("open the store", path))?;
        let store = Self { db: Arc::new(db), backlog: Backlog::new(), keyframes: Arc::default() };
        if let Err(error) = purge::remove_orphaned_rows(&store) {
            tracing::warn!(%error, "rows of an interrupted import could not be removed");
        }
        Ok(store)
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        if self.db.is_snapshot() {
            purge::end_snapshot(self);
            return;
        }
        text_index::finish_before_close(self);
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.db.paths.database).finish_non_exhaustive()
    }
}
