//! Carrying what can still be read into a new database.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hfs_core::StoreResult;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::Told;
use crate::db::Database;
use crate::db::backup;
use crate::db::connection::connect;
use crate::db::paths::{beside, create_private_file};
use crate::db::schema;
use crate::error::Result;

/// The tables in an order in which each refers to those before it only (where it refers to itself: to rows with
/// smaller numbers).
const TABLES: [&str; 10] = [
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
/// Tables whose rows have no number.
const PLAIN_TABLES: [&str; 2] = ["reply_piece", "attachment_use"];

/// Rows carried over in one transaction.
const BATCH: usize = 2000;

/// Rebuilds the database from its readable rows.
pub(super) fn salvage(db: &Database) -> StoreResult<Told> {
    let (damaged, fresh) = (db.paths.free_name(".damaged"), db.paths.free_name("-repair"));
    let migrate = |conn: &Connection| schema::migrate(conn, &db.paths, schema::MIGRATIONS);
    let done = db.replace_pages("rebuild the store", |source| {
        backup::copy(source, &damaged)?;
        create_private_file(&fresh)?;
        let target = connect(&fresh)?;
        migrate(&target)?;
        let mut told = Told::default();
        let place = damaged.display().to_string();
        told.did("rebuilt", "database", format!("the damaged one is kept as {place}"));
        carry(source, &target, &mut told)?;
        Ok((target, told))
    });
    for leftover in with_logs(&fresh) {
        let _ = fs::remove_file(leftover);
    }
    done
}

fn with_logs(path: &Path) -> [PathBuf; 3] {
    [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")]
}

fn carry(source: &Connection, target: &Connection, told: &mut Told) -> Result<()> {
    target.pragma_update(None, "foreign_keys", false)?;
    for table in TABLES {
        let mut carrier = Carrier::new(source, target, table, true)?;
        carrier.walk("ASC")?;
        if carrier.stumbled {
            carrier.walk("DESC")?;
            carrier.visit_known()?;
        }
        carrier.end(told)?;
    }
    for table in PLAIN_TABLES {
        let mut carrier = Carrier::new(source, target, table, false)?;
        carrier.walk("ASC")?;
        carrier.end(told)?;
    }
    // None of this is in the new text index yet.
    target.execute_batch(
        "UPDATE branch SET indexed = forked_at; UPDATE activity SET waiting = 1; PRAGMA foreign_keys = ON;",
    )?;
    Ok(())
}

/// Carries the rows of one table.
struct Carrier<'a> {
    source: &'a Connection,
    target: &'a Connection,
    table: &'static str,
    numbered: bool,
    columns: String,
    insert: String,
    carried: u64,
    /// The first and the last number that a walk came to without stumbling.
    reached: (Option<i64>, Option<i64>),
    stumbled: bool,
    lost: u64,
}

impl<'a> Carrier<'a> {
    fn new(
        source: &'a Connection,
        target: &'a Connection,
        table: &'static str,
        numbered: bool,
    ) -> Result<Self> {
        let mut columns = Vec::new();
        target.pragma(None, "table_info", table, |row| {
            columns.push(row.get::<_, String>(1)?);
            Ok(())
        })?;
        let marks = vec!["?"; columns.len()].join(", ");
        let columns = columns.join(", ");
        let insert = format!("INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})");
        let reached = (None, None);
        Ok(Self {
            source,
            target,
            table,
            numbered,
            columns,
            insert,
            carried: 0,
            reached,
            stumbled: false,
            lost: 0,
        })
    }

    /// Carries rows from one end of the table on, until the other or something unreadable is reached.
    fn walk(&mut self, direction: &str) -> Result<()> {
        let order = if self.numbered { format!("ORDER BY rowid {direction}") } else { String::new() };
        let until = if direction == "DESC" { self.reached.0 } else { None };
        let key = if self.numbered { "rowid" } else { "0" };
        let sql = format!("SELECT {key}, {} FROM {} NOT INDEXED {order}", self.columns, self.table);
        let Ok(mut statement) = self.source.prepare(&sql) else {
            self.stumbled = true;
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
                    self.stumbled = true;
                    break;
                }
            };
            let no: i64 = row.get(0)?;
            if until.is_some_and(|until| no <= until) {
                break;
            }
            if direction == "ASC" {
                self.reached.0 = Some(no);
            } else {
                self.reached.1 = Some(no);
            }
            let values = (1..=self.columns.split(", ").count()).map(|column| row.get(column));
            match values.collect::<rusqlite::Result<Vec<Value>>>() {
                Ok(values) => self.put(values)?,
                Err(_) => self.lost += 1,
            }
            count += 1;
            if count % BATCH == 0 {
                self.target.execute_batch("COMMIT; BEGIN")?;
            }
        }
        Ok(self.target.execute_batch("COMMIT")?)
    }

    /// Carries the rows between the walks' ends one by one, as far as their numbers are known from an index.
    fn visit_known(&mut self) -> Result<()> {
        let (after, before) = (self.reached.0.unwrap_or(i64::MIN), self.reached.1.unwrap_or(i64::MAX));
        let known: BTreeSet<i64> =
            self.known_numbers().into_iter().filter(|no| *no >= after && *no <= before).collect();
        let sql = format!("SELECT {} FROM {} NOT INDEXED WHERE rowid = ?1", self.columns, self.table);
        let there = format!("SELECT 1 FROM {} WHERE rowid = ?1", self.table);
        self.target.execute_batch("BEGIN")?;
        for no in known {
            if self.target.prepare_cached(&there)?.exists([no])? {
                continue;
            }
            let width = self.columns.split(", ").count();
            let row = self.source.prepare_cached(&sql).and_then(|mut statement| {
                statement.query_row([no], |row| (0..width).map(|column| row.get(column)).collect())
            });
            match row {
                Ok(values) => self.put(values)?,
                Err(_) => self.lost += 1,
            }
        }
        Ok(self.target.execute_batch("COMMIT")?)
    }

    /// The numbers of rows that an index of ids knows.
    fn known_numbers(&self) -> BTreeSet<i64> {
        let mut known = BTreeSet::new();
        for direction in ["ASC", "DESC"] {
            let index = match self.table {
                "message" => "message_id".to_owned(),
                table => format!("sqlite_autoindex_{table}_1"),
            };
            let key = if matches!(self.table, "state" | "attachment") { "hash" } else { "id" };
            let sql = format!(
                "SELECT rowid FROM {} INDEXED BY {index} WHERE {key} >= x'' ORDER BY {key} {direction}",
                self.table
            );
            let Ok(mut statement) = self.source.prepare(&sql) else { continue };
            let Ok(mut rows) = statement.query([]) else { continue };
            while let Ok(Some(row)) = rows.next() {
                known.extend(row.get::<_, i64>(0));
            }
        }
        known
    }

    /// Puts a row into the new table. One that does not fit there is damaged.
    fn put(&mut self, values: Vec<Value>) -> Result<()> {
        match self.target.prepare_cached(&self.insert)?.execute(params_from_iter(values)) {
            Ok(1) => self.carried += 1,
            _ => self.lost += 1,
        }
        Ok(())
    }

    fn end(self, told: &mut Told) -> Result<()> {
        if self.stumbled || self.lost > 0 {
            let lost =
                if self.lost > 0 { format!("at least {} were lost", self.lost) } else { String::new() };
            let detail = format!("{} rows were saved; {lost}", self.carried);
            told.did("damaged", format!("table {}", self.table), detail.trim_end_matches("; "));
        }
        Ok(())
    }
}
