//! `repair`: rebuilds a damaged database.
//!
//! The repair holds the write lock and reads a copy, which is kept. It copies all readable rows into a new database
//! ([`salvage`]), repairs them there ([`repair_rows`]) until `verify` finds no problem, and then replaces the database.
//! There is one procedure for all kinds of damage, because it needs neither a readable schema nor a working index, and
//! because a failure leaves the store as it was.
//!
//! The replacement survives a crash: the new database first gets the name `<database>-repaired`. From then on, each open
//! finishes the replacement (see [`finish_replacement`]).

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hfs_core::{ErrorExt, ErrorKind, Problem, StoreError, StoreResult};
use hfs_files::create_private_folders;
use rusqlite::Connection;

use crate::check::repair::pages::{Pages, log_is_foreign};
use crate::check::repair::{RepairLog, repair_rows, salvage};
use crate::check::verify::find_problems;
use crate::check::{Finding, RepairKind};
use crate::db::connection::connect;
use crate::db::locks::WriteLock;
use crate::db::options::SqliteOptions;
use crate::db::paths::{Paths, create_private_file, with_suffix};
use crate::db::{Database, finish_replacement, identity, schema};
use crate::error::{Error, Result, invalid};
use crate::sqlite::{SqliteStore, blocks, text_index};

/// Maximum number of repairs of the rows. A correction can uncover another problem.
const MAX_ROUNDS: usize = 3;
const ACTION: &str = "repair the store";

/// Repairs the database at `path`, also if it cannot be opened.
pub(crate) fn repair_file(path: &Path, options: &SqliteOptions) -> StoreResult<Vec<Problem>> {
    let store_error = |error: Error| error.into_store_error(ACTION, path);
    let paths = Paths::new(path).map_err(|error| store_error(error.into()))?;
    paths.check_kind().map_err(store_error)?;
    // Of a file that cannot be read, only the given name is known.
    let paths = match identity::check_file(paths.clone()) {
        Err(Error::Rejected(newer @ StoreError::Newer { may_be_damage: false, .. })) => return Err(newer),
        checked => checked.unwrap_or(paths),
    };
    paths.check_links().map_err(store_error)?;
    let was_used = paths.locks.exists();
    // SQLite drops the part of the log after a damaged frame when it opens the database, so look at the log first.
    let log_is_damaged = with_lock(&paths, || {
        finish_replacement(&paths)?;
        match Pages::open(&paths.database, &paths.log()) {
            Ok(pages) => Ok(pages.log_is_damaged() || log_is_foreign(&pages)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    });
    if !log_is_damaged.map_err(store_error)? {
        match SqliteStore::open(path, options.clone()) {
            Ok(store) => return repair_open(&store),
            Err(error) if !can_be_damage(&error) => return Err(error),
            Err(error) => tracing::info!(%error, "the damaged store cannot be opened"),
        }
    }
    let result = with_lock(&paths, || rebuild(&paths, options, was_used)).map_err(store_error);
    if result.is_err() && !was_used {
        // The file is not a store, so leave no trace beside it.
        let _ = fs::remove_dir_all(&paths.locks);
    }
    result
}

/// Repairs the database of an open store if `verify` finds a problem.
pub(crate) fn repair_open(store: &SqliteStore) -> StoreResult<Vec<Problem>> {
    match find_problems(&store.db) {
        Ok(found) if found.problems.is_empty() => return Ok(Vec::new()),
        Err(error) if !can_be_damage(&error) => return Err(error),
        _ => {}
    }
    store.db.offline(ACTION, |paths| rebuild(paths, &store.db.options, true))
}

/// Whether damage of the database can cause an error.
fn can_be_damage(error: &StoreError) -> bool {
    match error.kind() {
        ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::Internal => true,
        ErrorKind::Unsupported => matches!(error, StoreError::Newer { may_be_damage: true, .. }),
        // A truncated file causes an I/O error.
        ErrorKind::Unavailable => {
            let source =
                std::error::Error::source(error).and_then(|source| source.downcast_ref::<rusqlite::Error>());
            source.and_then(rusqlite::Error::sqlite_error_code) == Some(rusqlite::ErrorCode::SystemIoFailure)
        }
        _ => false,
    }
}

fn with_lock<T>(paths: &Paths, body: impl FnOnce() -> Result<T>) -> Result<T> {
    paths.create_directories()?;
    let lock = WriteLock::open(paths)?;
    let guard = lock.acquire()?;
    let result = body();
    drop(guard);
    result
}

/// Replaces the database with a new one that holds all readable rows. The caller holds the write lock, and this process
/// has no open connection. `was_used` is whether this file was a store before, whatever is in it now.
fn rebuild(paths: &Paths, options: &SqliteOptions, was_used: bool) -> Result<Vec<Problem>> {
    let mut log = RepairLog::default();
    let workspace = Workspace::create(paths)?;
    copy_damaged(&paths.database, &workspace.damaged, &mut log)?;
    match copy_damaged(&paths.log(), &workspace.damaged_log, &mut log) {
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
        copied => copied?,
    }
    let rows = workspace.fill(options, was_used, &mut log)?;
    let kept = workspace.replace(paths)?;
    let detail =
        format!("{rows} rows were copied into a new database; the damaged one is kept as {}", kept.display());
    log.add(RepairKind::Rebuilt, "database", detail);
    log.0.rotate_right(1);
    Ok(log.0)
}

/// Copies a file byte by byte. Blocks that the disk cannot read become zeros. Zeros are not written, so that a file with a
/// large hole takes no more space and time than the rest of it.
fn copy_damaged(from: &Path, to: &Path, log: &mut RepairLog) -> Result<()> {
    const BLOCK: usize = 4096;
    let mut source = File::open(from)?;
    let length = source.metadata()?.len();
    let mut copy = create_private_file(to)?;
    let mut buffer = vec![0; 256 * BLOCK];
    let (mut at, mut unreadable) = (0, 0_u64);
    while at < length {
        source.seek(SeekFrom::Start(at))?;
        let read = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => {
                let mut block = vec![0; BLOCK];
                source.seek(SeekFrom::Start(at))?;
                if source.read_exact(&mut block).is_err() {
                    block.fill(0);
                    unreadable += 1;
                }
                copy.seek(SeekFrom::Start(at))?;
                copy.write_all(&block)?;
                at += BLOCK as u64;
                continue;
            }
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        if bytes.iter().any(|byte| *byte != 0) {
            copy.seek(SeekFrom::Start(at))?;
            copy.write_all(bytes)?;
        }
        at += read as u64;
    }
    copy.set_len(at)?;
    copy.sync_all()?;
    if unreadable > 0 {
        let detail = format!("the disk cannot read {unreadable} blocks of {BLOCK} bytes");
        log.add(RepairKind::Lost, from.display().to_string(), detail);
    }
    Ok(())
}

/// A directory for the copy of the damaged files and for the new database. It is deleted when this is dropped; if the
/// process is killed, when the store is next opened.
struct Workspace {
    directory: PathBuf,
    damaged: PathBuf,
    damaged_log: PathBuf,
    new: Paths,
}

impl Workspace {
    fn create(paths: &Paths) -> Result<Self> {
        let directory = paths.repair_directory();
        paths.remove_repair_directory()?;
        create_private_folders(&directory)?;
        let new = Paths::new(&directory.join("new.db"))?;
        new.create_directories()?;
        new.create_database()?;
        let damaged = directory.join("damaged.db");
        Ok(Self { damaged_log: with_suffix(&damaged, "-wal"), directory, damaged, new })
    }

    /// Fills the new database from the damaged one. Returns the number of copied rows.
    fn fill(&self, options: &SqliteOptions, was_used: bool, log: &mut RepairLog) -> Result<u64> {
        let mut pages = Pages::open(&self.damaged, &self.damaged_log)?;
        if log_is_foreign(&pages)? {
            let detail =
                "it belongs to another database, so it was left out; it is kept beside the damaged database";
            log.add(RepairKind::Lost, "write-ahead log", detail);
            pages.ignore_log();
        }
        if let Some((count, damaged @ 1..)) = pages.log_summary() {
            let detail = format!("{damaged} frames of its {count} pages are damaged; the others were used");
            log.add(RepairKind::Damaged, "write-ahead log", detail);
        }
        let conn = connect(&self.new.database)?;
        // Rows of older versions lack the columns that were added later, and get their defaults. No migration has changed
        // the meaning of a column so far; `repair_rows` numbers checkpoints that have no number.
        schema::migrate(&conn, &self.new, schema::MIGRATIONS)?;
        let found = salvage::copy_rows(&pages, &conn, log)?;
        drop(conn);
        if found.rows == 0 && (!was_used || found.schema_is_foreign) {
            return Err(invalid(
                "the file holds no data of hfs, so there is nothing to recover; it was not changed",
            ));
        }
        self.repair_rows(options, log)?;
        Ok(found.rows)
    }

    fn repair_rows(&self, options: &SqliteOptions, log: &mut RepairLog) -> Result<()> {
        let now = options.clock.now();
        let options = SqliteOptions { max_bytes: None, ..options.clone() };
        let store = SqliteStore::on(Database::open(&self.new.database, options)?);
        let mut left = Vec::new();
        for round in 0..MAX_ROUNDS {
            store.db.try_with_writer(|conn| {
                if round > 0 {
                    conn.execute_batch(schema::NEW_TEXT_INDEX)?;
                }
                repair_rows(conn, now, log)
            })?;
            text_index::index_all(&store)?;
            blocks::pack_all(&store, &mut |_, _| ())?;
            left = find_problems(&store.db)?.problems;
            if left.is_empty() {
                break;
            }
        }
        for Finding { place, detail, .. } in left {
            log.add(RepairKind::Left, place, format!("{detail} (it could not be repaired)"));
        }
        store.db.try_with_writer(empty_log)
    }

    /// Moves the copy of the damaged files to its place, and replaces the database with the new one. Returns the path of
    /// the copy.
    fn replace(&self, paths: &Paths) -> Result<PathBuf> {
        let kept = paths.unused_path(".damaged");
        fs::rename(&self.damaged, &kept)?;
        if self.damaged_log.exists() {
            fs::rename(&self.damaged_log, with_suffix(&kept, "-wal"))?;
        }
        File::open(&self.new.database)?.sync_all()?;
        fs::rename(&self.new.database, paths.repaired())?;
        paths.sync_directory()?;
        finish_replacement(paths)?;
        Ok(kept)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!(%error, directory = %self.directory.display(), "a temporary directory could not be deleted");
        }
    }
}

fn empty_log(conn: &Connection) -> Result<()> {
    Ok(conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
}

impl SqliteStore {
    /// A store on a database. Does not remove the rows of interrupted imports.
    fn on(db: Database) -> Self {
        Self { db: Arc::new(db), backlog: text_index::Backlog::new(), keyframes: Arc::default() }
    }
}
