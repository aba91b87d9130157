//! Copies every readable row of a database with damaged pages into a new one.
//!
//! A table is a B-tree, and a scan of it ends at the first damaged page. A table with a damaged page is therefore
//! scanned twice, forward from its start and backward from its end. The rows between the two scans are looked up one by
//! one; their row numbers come from the unique index of the table. Tables without a rowid are only scanned forward.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hfs_core::StoreResult;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::check::RepairKind;
use crate::check::repair::RepairLog;
use crate::db::connection::connect;
use crate::db::paths::{create_private_file, with_suffix};
use crate::db::{Database, backup, schema};
use crate::error::Result;

/// Tables with a rowid, in an order in which each table refers only to earlier tables, or to its own earlier rows.
const ROWID_TABLES: [&str; 10] = [
    "session",
    "activity",
    "state",
    "branch",
    "message",
    "reply",
    "attachment",
    "run",
    "checkpoint",
    "operation",
];
/// Tables created WITHOUT ROWID.
const WITHOUT_ROWID_TABLES: [&str; 2] = ["reply_piece", "attachment_use"];

/// Rows per transaction.
const BATCH: usize = 2000;

/// Replaces the database with a new one that contains all readable rows. Keeps a copy of the damaged database.
pub(super) fn salvage(db: &Database) -> StoreResult<RepairLog> {
    let (damaged, rebuilt) = (db.paths.unused_path(".damaged"), db.paths.unused_path("-repair"));
    let result = db.replace_pages("rebuild the store", |source| {
        backup::copy(source, &damaged)?;
        create_private_file(&rebuilt)?;
        let target = connect(&rebuilt)?;
        schema::migrate(&target, &db.paths, schema::MIGRATIONS)?;
        let mut log = RepairLog::default();
        let detail = format!("the damaged database is kept as {}", damaged.display());
        log.add(RepairKind::Rebuilt, "database", detail);
        copy_tables(source, &target, &mut log)?;
        Ok((target, log))
    });
    for file in with_wal_files(&rebuilt) {
        // The WAL files may not exist.
        let _ = fs::remove_file(file);
    }
    result
}

fn with_wal_files(path: &Path) -> [PathBuf; 3] {
    [path.to_owned(), with_suffix(path, "-wal"), with_suffix(path, "-shm")]
}

fn copy_tables(source: &Connection, target: &Connection, log: &mut RepairLog) -> Result<()> {
    target.pragma_update(None, "foreign_keys", false)?;
    for table in ROWID_TABLES {
        let mut copy = TableCopy::new(source, target, table, true)?;
        copy.scan(Direction::Forward)?;
        if copy.hit_damage {
            copy.scan(Direction::Backward)?;
            copy.copy_between_scans()?;
        }
        copy.finish(log);
    }
    for table in WITHOUT_ROWID_TABLES {
        let mut copy = TableCopy::new(source, target, table, false)?;
        copy.scan(Direction::Forward)?;
        copy.finish(log);
    }
    // The text index of the new database is empty. A branch's own messages start after `forked_at`, so this value of
    // `indexed` means that none of them is indexed.
    target.execute_batch(
        "UPDATE branch SET indexed = forked_at; UPDATE activity SET waiting = 1; PRAGMA foreign_keys = ON;",
    )?;
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

impl Direction {
    const fn sql(self) -> &'static str {
        match self {
            Self::Forward => "ASC",
            Self::Backward => "DESC",
        }
    }
}

/// Copies the rows of one table.
struct TableCopy<'a> {
    source: &'a Connection,
    target: &'a Connection,
    table: &'static str,
    has_rowid: bool,
    columns: Vec<String>,
    insert: String,
    copied: u64,
    /// Largest row number that the forward scan has read.
    forward_end: Option<i64>,
    /// Smallest row number that the backward scan has read.
    backward_end: Option<i64>,
    hit_damage: bool,
    lost: u64,
}

impl<'a> TableCopy<'a> {
    fn new(
        source: &'a Connection,
        target: &'a Connection,
        table: &'static str,
        has_rowid: bool,
    ) -> Result<Self> {
        let mut columns = Vec::new();
        target.pragma(None, "table_info", table, |row| {
            columns.push(row.get::<_, String>(1)?);
            Ok(())
        })?;
        let parameters = vec!["?"; columns.len()].join(", ");
        let insert = format!("INSERT OR IGNORE INTO {table} ({}) VALUES ({parameters})", columns.join(", "));
        Ok(Self {
            source,
            target,
            table,
            has_rowid,
            columns,
            insert,
            copied: 0,
            forward_end: None,
            backward_end: None,
            hit_damage: false,
            lost: 0,
        })
    }

    /// Copies rows from one end of the table up to the first damaged page. A backward scan also ends at the rows that
    /// the forward scan has read.
    fn scan(&mut self, direction: Direction) -> Result<()> {
        let order =
            if self.has_rowid { format!("ORDER BY rowid {}", direction.sql()) } else { String::new() };
        let key = if self.has_rowid { "rowid" } else { "0" };
        // NOT INDEXED, because an index of an intact table may be damaged.
        let sql =
            format!("SELECT {key}, {} FROM {} NOT INDEXED {order}", self.columns.join(", "), self.table);
        // Fails if the schema of the old database is damaged, or lacks the table or one of its columns.
        let Ok(mut statement) = self.source.prepare(&sql) else {
            self.hit_damage = true;
            return Ok(());
        };
        self.target.execute_batch("BEGIN")?;
        let mut rows = statement.query([])?;
        let mut count = 0;
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(_) => {
                    self.hit_damage = true;
                    break;
                }
            };
            let no: i64 = row.get(0)?;
            match direction {
                Direction::Forward => self.forward_end = Some(no),
                Direction::Backward if self.forward_end.is_some_and(|end| no <= end) => break,
                Direction::Backward => self.backward_end = Some(no),
            }
            let values = (1..=self.columns.len()).map(|column| row.get(column));
            match values.collect::<rusqlite::Result<Vec<Value>>>() {
                Ok(values) => self.insert(values)?,
                Err(_) => self.lost += 1,
            }
            count += 1;
            if count % BATCH == 0 {
                self.target.execute_batch("COMMIT; BEGIN")?;
            }
        }
        Ok(self.target.execute_batch("COMMIT")?)
    }

    /// Looks up the rows between the ends of the two scans one by one. Their row numbers come from an index.
    fn copy_between_scans(&mut self) -> Result<()> {
        let (after, before) = (self.forward_end.unwrap_or(i64::MIN), self.backward_end.unwrap_or(i64::MAX));
        let numbers: BTreeSet<i64> =
            self.row_numbers_in_index().into_iter().filter(|no| *no >= after && *no <= before).collect();
        let select =
            format!("SELECT {} FROM {} NOT INDEXED WHERE rowid = ?1", self.columns.join(", "), self.table);
        let is_copied = format!("SELECT 1 FROM {} WHERE rowid = ?1", self.table);
        let width = self.columns.len();
        self.target.execute_batch("BEGIN")?;
        for no in numbers {
            if self.target.prepare_cached(&is_copied)?.exists([no])? {
                continue;
            }
            let row = self.source.prepare_cached(&select).and_then(|mut statement| {
                statement.query_row([no], |row| (0..width).map(|column| row.get(column)).collect())
            });
            match row {
                Ok(values) => self.insert(values)?,
                Err(_) => self.lost += 1,
            }
        }
        Ok(self.target.execute_batch("COMMIT")?)
    }

    /// Reads row numbers from the table's unique index, in both directions, because the index may be damaged too.
    fn row_numbers_in_index(&self) -> BTreeSet<i64> {
        // SQLite names the index of a UNIQUE column `sqlite_autoindex_TABLE_1`.
        let index = match self.table {
            "message" => "message_id".to_owned(),
            table => format!("sqlite_autoindex_{table}_1"),
        };
        let key = if matches!(self.table, "state" | "attachment") { "hash" } else { "id" };
        let mut numbers = BTreeSet::new();
        for direction in [Direction::Forward, Direction::Backward] {
            let sql = format!(
                "SELECT rowid FROM {} INDEXED BY {index} WHERE {key} >= x'' ORDER BY {key} {}",
                self.table,
                direction.sql()
            );
            // Fails for the tables without such an index.
            let Ok(mut statement) = self.source.prepare(&sql) else { continue };
            let Ok(mut rows) = statement.query([]) else { continue };
            while let Ok(Some(row)) = rows.next() {
                numbers.extend(row.get::<_, i64>(0));
            }
        }
        numbers
    }

    /// Inserts a row into the new table. A row that violates a constraint there is damaged and counts as lost.
    fn insert(&mut self, values: Vec<Value>) -> Result<()> {
        match self.target.prepare_cached(&self.insert)?.execute(params_from_iter(values)) {
            Ok(1) => self.copied += 1,
            _ => self.lost += 1,
        }
        Ok(())
    }

    fn finish(self, log: &mut RepairLog) {
        if !self.hit_damage && self.lost == 0 {
            return;
        }
        let mut detail = format!("{} rows were copied", self.copied);
        if self.lost > 0 {
            detail.push_str(&format!("; at least {} were lost", self.lost));
        }
        log.add(RepairKind::Damaged, format!("table {}", self.table), detail);
    }
}
