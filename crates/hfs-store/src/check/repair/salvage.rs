//! Copies every readable row of a damaged database into a new one.
//!
//! SQLite reads a table from its root and stops at the first damaged page. Here each page is decoded by itself
//! ([`btree`]). The pages of a table are found from its root first. Then the remaining leaves are assigned to a table:
//! by their ancestors in the pointer map or, where that is damaged, by the types of their columns. So a damaged page
//! costs only the rows on it, also if it is the root of a table or the page of the schema.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, params_from_iter};

use crate::check::RepairKind;
use crate::check::repair::RepairLog;
use crate::check::repair::btree::{self, PageKind, Record};
use crate::check::repair::pages::{PageUse, Pages};
use crate::codec::rows::{branch_of, seq_of};
use crate::error::{Error, Result};

/// Rows per transaction.
const BATCH: u64 = 2000;
/// Largest depth of a B-tree. SQLite's own limit is 20.
const MAX_DEPTH: usize = 20;
/// Damaged pages that the report lists for each table.
const LISTED_PAGES: usize = 10;
/// The columns of sqlite_schema: type, name, tbl_name, rootpage, sql.
const SCHEMA_COLUMNS: usize = 5;

/// The result of [`copy_rows`].
pub(crate) struct Salvaged {
    pub(crate) rows: u64,
    /// Whether the schema is readable, and has tables but none of hfs.
    pub(crate) schema_is_foreign: bool,
}

/// Copies all rows.
pub(crate) fn copy_rows(pages: &Pages, target: &Connection, log: &mut RepairLog) -> Result<Salvaged> {
    target.pragma_update(None, "foreign_keys", false)?;
    target.pragma_update(None, "synchronous", "OFF")?;
    let mut salvage = Salvage {
        pages,
        target,
        tables: read_tables(target)?,
        known: read_names(target)?,
        roots: HashMap::new(),
        visited: HashSet::new(),
        copied: 0,
    };
    salvage.read_schema()?;
    target.execute_batch("BEGIN")?;
    salvage.copy_from_roots()?;
    salvage.copy_remaining_pages(log)?;
    target.execute_batch("COMMIT")?;
    for table in &salvage.tables {
        table.report(log);
    }
    Ok(Salvaged { rows: salvage.copied, schema_is_foreign: salvage.schema_is_foreign() })
}

struct Salvage<'a> {
    pages: &'a Pages,
    target: &'a Connection,
    tables: Vec<Table>,
    /// Names of all tables and indexes of the new database.
    known: HashSet<String>,
    /// The table or index of each root page, as far as the schema is readable.
    roots: HashMap<u32, String>,
    visited: HashSet<u32>,
    copied: u64,
}

impl Salvage<'_> {
    /// Whether the schema is readable, and has tables but none of hfs.
    fn schema_is_foreign(&self) -> bool {
        let mut objects = self.roots.values();
        !self.roots.is_empty() && !objects.any(|name| self.tables.iter().any(|table| table.name == *name))
    }

    /// Reads the root pages from sqlite_schema, whose own root is page 1.
    fn read_schema(&mut self) -> Result<()> {
        let mut pending = vec![1];
        // A damaged number of a root page may be that of another object. Then it says nothing about either of them.
        let mut ambiguous = Vec::new();
        while let Some(page) = pending.pop() {
            if !self.visited.insert(page) {
                continue;
            }
            let bytes = self.pages.read(page)?;
            match btree::kind(&bytes, page) {
                Some(kind @ PageKind::TableInterior) => pending.extend(btree::children(&bytes, page, kind)),
                Some(kind @ PageKind::TableLeaf) => {
                    let (records, _) = btree::records(self.pages, page, &bytes, kind)?;
                    let known = records.iter().filter(|record| record.values.len() == SCHEMA_COLUMNS);
                    for record in known {
                        let mut values = record.values.iter().skip(1);
                        if let (Some(Value::Text(name)), _, Some(Value::Integer(root))) =
                            (values.next(), values.next(), values.next())
                            && let Ok(root @ 1..) = u32::try_from(*root)
                        {
                            ambiguous.extend(self.roots.insert(root, name.clone()).map(|_| root));
                        }
                    }
                }
                // A damaged page may name a page of another table as its child.
                _ => {
                    self.visited.remove(&page);
                }
            }
        }
        for root in ambiguous {
            self.roots.remove(&root);
        }
        Ok(())
    }

    /// Copies the pages that can be reached from the root of each table.
    fn copy_from_roots(&mut self) -> Result<()> {
        for table in 0..self.tables.len() {
            let Some(name) = self.tables.get(table).map(|table| table.name.clone()) else { continue };
            let root = self.roots.iter().find(|(_, object)| **object == name).map(|(root, _)| *root);
            let Some(root) = root else {
                if let Some(table) = self.tables.get_mut(table) {
                    table.root_is_lost = true;
                }
                continue;
            };
            let mut pending = vec![(root, 0)];
            while let Some((page, depth)) = pending.pop() {
                if depth > MAX_DEPTH || page > self.pages.count() || self.visited.contains(&page) {
                    continue;
                }
                let bytes = self.pages.read(page)?;
                let kind = btree::kind(&bytes, page);
                let has_rowid = self.tables.get(table).is_some_and(|table| table.has_rowid);
                match kind {
                    Some(kind @ (PageKind::TableInterior | PageKind::IndexInterior)) => {
                        if has_rowid != (kind == PageKind::TableInterior) {
                            self.note_damaged_page(table, page);
                            continue;
                        }
                        self.visited.insert(page);
                        let children = btree::children(&bytes, page, kind);
                        if children.len() <= btree::declared_cells(&bytes, page) {
                            self.note_damaged_page(table, page);
                        }
                        pending.extend(children.into_iter().map(|child| (child, depth + 1)));
                        if kind == PageKind::IndexInterior {
                            self.copy_page(table, page, &bytes, kind)?;
                        }
                    }
                    Some(kind @ (PageKind::TableLeaf | PageKind::IndexLeaf))
                        if has_rowid == (kind == PageKind::TableLeaf) =>
                    {
                        if self.copy_page(table, page, &bytes, kind)? {
                            self.visited.insert(page);
                        }
                    }
                    _ => self.note_damaged_page(table, page),
                }
            }
        }
        Ok(())
    }

    /// Copies the pages that no root leads to, because a page above them is damaged.
    fn copy_remaining_pages(&mut self, log: &mut RepairLog) -> Result<()> {
        let mut unassigned = 0_u64;
        for page in self.pages.numbers() {
            if page == 1 || self.visited.contains(&page) {
                continue;
            }
            let bytes = self.pages.read(page)?;
            let kind = match btree::kind(&bytes, page) {
                Some(PageKind::TableInterior) | None => continue,
                Some(kind) => kind,
            };
            let owner = self.owner(page)?;
            if owner == Owner::None {
                continue;
            }
            let (records, _) = btree::records(self.pages, page, &bytes, kind)?;
            let mut candidates = (0..self.tables.len()).filter(|index| {
                self.tables.get(*index).is_some_and(|table| {
                    let can_own = match &owner {
                        Owner::Object(name) => *name == table.name,
                        Owner::Unknown => !table.resembles_an_index(),
                        Owner::Unnamed => table.root_is_lost,
                        Owner::None => false,
                    };
                    can_own && table.holds(kind, &records)
                })
            });
            match (candidates.next(), candidates.next()) {
                (Some(table), None) => {
                    self.visited.insert(page);
                    if let Some(table) = self.tables.get_mut(table) {
                        table.pages_without_parent += 1;
                    }
                    self.copy_page(table, page, &bytes, kind)?;
                }
                (Some(_), Some(_)) => unassigned += 1,
                (None, _) => {}
            }
        }
        if unassigned > 0 {
            let detail = "they fit several tables, so their rows were not copied";
            log.add(RepairKind::Lost, format!("{unassigned} pages"), detail);
        }
        Ok(())
    }

    /// The table or index to which a page belongs according to the pointer map.
    fn owner(&self, page: u32) -> Result<Owner> {
        let mut next = page;
        for _ in 0..MAX_DEPTH {
            if let Some(name) = self.roots.get(&next) {
                return Ok(if self.known.contains(name) || self.schema_is_foreign() {
                    Owner::Object(name.clone())
                } else {
                    Owner::Unnamed
                });
            }
            match self.pages.page_use(next)? {
                PageUse::Child(parent) => next = parent,
                PageUse::Free | PageUse::Overflow if next == page => return Ok(Owner::None),
                PageUse::Free | PageUse::Overflow | PageUse::Root | PageUse::Unknown => break,
            }
        }
        Ok(Owner::Unknown)
    }

    fn note_damaged_page(&mut self, table: usize, page: u32) {
        if let Some(table) = self.tables.get_mut(table) {
            table.damaged_pages.insert(page);
        }
    }

    /// Copies the rows of a page. Returns false if none of them fits the table.
    fn copy_page(&mut self, table: usize, page: u32, bytes: &[u8], kind: PageKind) -> Result<bool> {
        let (records, damaged) = btree::records(self.pages, page, bytes, kind)?;
        let Some(table) = self.tables.get_mut(table) else { return Ok(false) };
        let fitting = records.iter().filter(|record| table.fits(record)).count();
        if fitting == 0 && btree::declared_cells(bytes, page) > 0 {
            table.damaged_pages.insert(page);
            table.lost += 1;
            return Ok(false);
        }
        let unfit = (records.len() - fitting + damaged) as u64;
        table.lost += unfit;
        let mut is_damaged = unfit > 0;
        for record in records.into_iter().filter(|record| table.fits(record)).collect::<Vec<_>>() {
            is_damaged |= record.is_truncated;
            if table.insert(self.target, record)? {
                self.copied += 1;
                if self.copied.is_multiple_of(BATCH) {
                    self.target.execute_batch("COMMIT; BEGIN")?;
                }
            }
        }
        if is_damaged {
            table.damaged_pages.insert(page);
        }
        Ok(true)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Owner {
    /// The table or index of this name.
    Object(String),
    /// An object whose name is damaged, or one of another program.
    Unnamed,
    Unknown,
    /// The page is not in use as a page of a B-tree.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ColumnType {
    Integer,
    Text,
    Blob,
    Other,
}

struct Column {
    name: String,
    column_type: ColumnType,
    not_null: bool,
    /// Whether the column is another name for the rowid, which the record does not contain.
    is_rowid: bool,
    /// Whether it was added by a migration, so that rows of earlier versions lack it.
    is_added: bool,
}

impl Column {
    fn fits(&self, value: &Value, is_truncated: bool) -> bool {
        match (self.column_type, value) {
            (_, Value::Null) => self.is_rowid || !self.not_null || is_truncated,
            _ if self.is_rowid => false,
            (ColumnType::Integer, Value::Integer(_))
            | (ColumnType::Text, Value::Text(_))
            | (ColumnType::Blob, Value::Blob(_))
            | (ColumnType::Other, _) => true,
            (ColumnType::Integer | ColumnType::Text | ColumnType::Blob, _) => false,
        }
    }
}

/// A table of the new database, and what was copied to it.
struct Table {
    name: String,
    has_rowid: bool,
    /// In the order of the record.
    columns: Vec<Column>,
    copied: u64,
    lost: u64,
    damaged_pages: BTreeSet<u32>,
    pages_without_parent: u64,
    root_is_lost: bool,
}

fn read_names(target: &Connection) -> Result<HashSet<String>> {
    let mut statement = target.prepare("SELECT name FROM sqlite_schema")?;
    Ok(statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
}

/// The tables of the new database. Those of the text index are not STRICT; their rows are made again.
fn read_tables(target: &Connection) -> Result<Vec<Table>> {
    let names = target
        .prepare(
            "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(String, bool)>>>()?;
    names
        .into_iter()
        .map(|(name, is_without_rowid)| {
            let mut columns = BTreeMap::new();
            target.pragma(None, "table_info", &name, |row| {
                let (number, key): (i64, i64) = (row.get(0)?, row.get(5)?);
                let column_type = match row.get::<_, String>(2)?.as_str() {
                    "INTEGER" | "INT" => ColumnType::Integer,
                    "TEXT" => ColumnType::Text,
                    "BLOB" => ColumnType::Blob,
                    _ => ColumnType::Other,
                };
                let is_rowid = !is_without_rowid && key > 0 && column_type == ColumnType::Integer;
                let is_added = row.get::<_, Option<String>>(4)?.is_some();
                let column =
                    Column { name: row.get(1)?, column_type, not_null: row.get(3)?, is_rowid, is_added };
                // A table without rowid stores the columns of its primary key first.
                let place = if is_without_rowid && key > 0 { (0, key) } else { (1, number) };
                columns.insert(place, column);
                Ok(())
            })?;
            Ok(Table {
                name,
                has_rowid: !is_without_rowid,
                columns: columns.into_values().collect(),
                copied: 0,
                lost: 0,
                damaged_pages: BTreeSet::new(),
                pages_without_parent: 0,
                root_is_lost: false,
            })
        })
        .collect()
}

impl Table {
    /// Whether a record has the types of the table's columns. An old row lacks columns that were added later.
    fn fits(&self, record: &Record) -> bool {
        record.values.len() <= self.columns.len()
            && record.values.len() > 1
            && self
                .columns
                .iter()
                .zip(&record.values)
                .all(|(column, value)| column.fits(value, record.is_truncated))
    }

    /// Whether a page can be a page of this table: all its records have all columns of some version.
    fn holds(&self, kind: PageKind, records: &[Record]) -> bool {
        let original = self.columns.iter().filter(|column| !column.is_added).count();
        self.has_rowid == (kind == PageKind::TableLeaf)
            && !records.is_empty()
            && records.iter().all(|record| self.fits(record) && record.values.len() >= original)
    }

    /// Whether the records of an index may look like those of this table. The last column of an index is a row number.
    fn resembles_an_index(&self) -> bool {
        !self.has_rowid && self.columns.last().is_some_and(|column| column.column_type == ColumnType::Integer)
    }

    /// Inserts a row. Returns false if it is already there, or is not valid and therefore lost.
    fn insert(&mut self, target: &Connection, mut record: Record) -> Result<bool> {
        for (column, value) in self.columns.iter().zip(&mut record.values) {
            if column.is_rowid {
                *value = Value::Integer(record.rowid);
            } else if *value == Value::Null && column.not_null {
                *value = match column.column_type {
                    ColumnType::Text => Value::Text(String::new()),
                    ColumnType::Blob => Value::Blob(Vec::new()),
                    ColumnType::Integer | ColumnType::Other => Value::Integer(0),
                };
            }
        }
        if !is_possible(&self.name, record.rowid) {
            self.lost += 1;
            return Ok(false);
        }
        let names: Vec<&str> =
            self.columns.iter().take(record.values.len()).map(|column| column.name.as_str()).collect();
        let parameters = vec!["?"; names.len()].join(", ");
        let sql = format!("INSERT OR IGNORE INTO {} ({}) VALUES ({parameters})", self.name, names.join(", "));
        match target.prepare_cached(&sql)?.execute(params_from_iter(record.values)) {
            Ok(1..) => {
                self.copied += 1;
                Ok(true)
            }
            Ok(0) => {
                let is_known = self.has_rowid
                    && target
                        .prepare_cached(&format!("SELECT 1 FROM {} WHERE rowid = ?1", self.name))?
                        .exists([record.rowid])?;
                // Otherwise another row has the same unique key.
                self.lost += u64::from(self.has_rowid && !is_known);
                Ok(false)
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                self.lost += 1;
                Ok(false)
            }
            Err(error) => Err(Error::from(error)),
        }
    }

    fn report(&self, log: &mut RepairLog) {
        let place = || format!("table {}", self.name);
        if self.lost > 0 || !self.damaged_pages.is_empty() {
            let pages: Vec<String> =
                self.damaged_pages.iter().take(LISTED_PAGES).map(u32::to_string).collect();
            let more = self.damaged_pages.len().saturating_sub(LISTED_PAGES);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let at =
                if pages.is_empty() { String::new() } else { format!(" on page {}{more}", pages.join(", ")) };
            let detail = match self.lost {
                0 => format!("{} rows were copied; there is damage{at}", self.copied),
                lost => format!("{} rows were copied; at least {lost} cannot be read{at}", self.copied),
            };
            log.add(RepairKind::Damaged, place(), detail);
        }
        if self.root_is_lost || self.pages_without_parent > 0 {
            let detail =
                format!("{} pages were found without the pages above them", self.pages_without_parent);
            log.add(RepairKind::Recovered, place(), detail);
        }
    }
}

/// Whether a row can have this number. Other numbers are damaged, and would collide with those of other rows.
fn is_possible(table: &str, rowid: i64) -> bool {
    match table {
        "session" => rowid > 0,
        "branch" => (1..=i64::from(i32::MAX)).contains(&rowid),
        "message" | "block" => (1..=i64::from(i32::MAX)).contains(&branch_of(rowid)) && seq_of(rowid) > 0,
        _ => true,
    }
}
