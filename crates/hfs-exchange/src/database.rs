//! Read-only access to the SQLite databases of other tools. No files are created next to them.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hfs_core::ImportError;
use hfs_files::TemporaryFolder;
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::{Map, Value};

use crate::Source;
use crate::source::{Links, open_file};

/// An open database, and the temporary folder with its copy, if it was copied.
pub(crate) struct Database {
    connection: Connection,
    name: String,
    /// Size of its files.
    bytes: u64,
    /// Whether another program may write it while it is read.
    is_live: bool,
    _copy: Option<TemporaryFolder>,
}

impl Database {
    /// Opens the database with `immutable=1`, so that SQLite creates no files next to it. In this mode SQLite
    /// ignores the write-ahead log. A database whose log is not empty is opened with the log if the index of the log is there, too,
    /// and else copied together with the log. A database that is compressed or comes from a stream is copied.
    pub(crate) fn open(source: &Source) -> Result<Self, ImportError> {
        let database = Self::open_unchecked(source)?;
        // rusqlite panics at the name of a column that is not valid UTF-8.
        database.check_names().map_err(|error| {
            source.damaged(match error {
                rusqlite::Error::FromSqlConversionFailure(..) => {
                    "the names of its tables and columns are not valid UTF-8".to_owned()
                }
                error => error.to_string(),
            })
        })?;
        Ok(database)
    }

    fn check_names(&self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare("select name, tbl_name, sql from sqlite_master")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for index in 0..3 {
                row.get_ref(index)?.as_str_or_null()?;
            }
        }
        Ok(())
    }

    /// Opens the database also if its names are damaged. Only queries that name their columns may then be made with
    /// [`rows`](Self::rows).
    fn open_unchecked(source: &Source) -> Result<Self, ImportError> {
        let io = |error| source.io(error);
        if let Some(salvaged) = source.salvaged_database() {
            let connection = Connection::open(salvaged.path());
            let connection = connection.map_err(|error| source.damaged(error.to_string()))?;
            let bytes = size_of(&salvaged.path()).map_err(io)?;
            return Ok(Self { connection, name: source.name(), bytes, is_live: false, _copy: None });
        }
        let compressed = source.is_compressed()?;
        if let Some(path) = source.path().filter(|path| !compressed && has_wal(path))
            && let Some(connection) = open_with_log(path)
        {
            let bytes = size_of(path).map_err(io)?;
            return Ok(Self { connection, name: source.name(), bytes, is_live: true, _copy: None });
        }
        let (path, copy) = match source.path() {
            Some(path) if !compressed && !has_wal(path) => (path.to_owned(), None),
            Some(path) if !compressed => {
                let folder = TemporaryFolder::create().map_err(io)?;
                let copy = folder.path().join("copy.db");
                copy_with_log(path, &copy).map_err(io)?;
                (copy, Some(folder))
            }
            _ => {
                let folder = TemporaryFolder::create().map_err(io)?;
                let copy = folder.path().join("copy.db");
                io::copy(&mut source.open()?, &mut fs::File::create(&copy).map_err(io)?).map_err(io)?;
                (copy, Some(folder))
            }
        };
        let bytes = size_of(&path).map_err(io)?;
        // A copy is opened for writing, because SQLite recovers its write-ahead log.
        let opened = if copy.is_some() {
            Connection::open(&path)
        } else {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
                | OpenFlags::SQLITE_OPEN_URI
                | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            Connection::open_with_flags(format!("file:{}?immutable=1", uri_path(&path)), flags)
        };
        let connection = opened.map_err(|error| source.damaged(error.to_string()))?;
        Ok(Self { connection, name: source.name(), bytes, is_live: false, _copy: copy })
    }

    /// Reads the newest state from now on. A state that is read for long keeps the other program's log from being reused.
    pub(crate) fn renew(&self) -> Result<(), ImportError> {
        if !self.is_live {
            return Ok(());
        }
        let renewed =
            self.connection.execute_batch("commit; begin").and_then(|()| read_schema(&self.connection));
        renewed.map_err(|error| ImportError::Io { path: self.name.clone(), source: io::Error::other(error) })
    }

    /// Names of the tables.
    pub(crate) fn tables(&self) -> Result<Vec<String>, ImportError> {
        let mut tables = Vec::new();
        self.rows("select name from sqlite_master where type = 'table'", &[], &mut |row| {
            tables.push(text_column(&row, "name"));
            Ok(())
        })?;
        Ok(tables)
    }

    /// Whether a table has all of these columns.
    pub(crate) fn has_columns(&self, table: &str, columns: &[&str]) -> Result<bool, ImportError> {
        let mut found = Vec::new();
        self.rows("select name from pragma_table_info(?1)", &[table], &mut |row| {
            found.push(text_column(&row, "name"));
            Ok(())
        })?;
        Ok(columns.iter().all(|column| found.iter().any(|name| name == column)))
    }

    /// A version for each value of the column `key`: it changes with the number, the newest, the size and the times of the rows that
    /// have this value. The rows are not read to their ends, where their content is.
    pub(crate) fn versions(
        &self,
        table: &str,
        key: &str,
        content: &str,
        times: &[&str],
    ) -> Result<HashMap<String, u64>, ImportError> {
        let mut columns =
            format!("{} as key, count(*), max(rowid), sum(octet_length({}))", quoted(key), quoted(content));
        for time in times {
            if self.has_columns(table, &[time])? {
                columns.push_str(&format!(", max({0}), total({0})", quoted(time)));
            }
        }
        let sql = format!("select {columns} from {} group by {}", quoted(table), quoted(key));
        let mut versions = HashMap::new();
        self.rows(&sql, &[], &mut |row| {
            let key = text_column(&row, "key");
            versions.insert(key, short_hash(&Value::Object(row.fields).to_string()));
            Ok(())
        })?;
        Ok(versions)
    }

    /// Calls `visit` for each row of a query.
    pub(crate) fn rows(
        &self,
        sql: &str,
        parameters: &[&str],
        visit: &mut dyn FnMut(DatabaseRow) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let damaged = |error: rusqlite::Error| ImportError::Damaged {
            path: self.name.clone(),
            reason: error.to_string(),
        };
        let mut statement = self.connection.prepare(sql).map_err(damaged)?;
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut rows = statement.query(rusqlite::params_from_iter(parameters)).map_err(damaged)?;
        // Damaged pages may refer to each other, so that there is no last row.
        let mut left = self.bytes;
        while let Some(row) = rows.next().map_err(damaged)? {
            left = left.checked_sub(1).ok_or_else(|| ImportError::Damaged {
                path: self.name.clone(),
                reason: "a query has more rows than the database has bytes".into(),
            })?;
            visit(columns(row, &names).map_err(damaged)?)?;
        }
        Ok(())
    }
}

/// Opens a database together with its write-ahead log and the index of the log, in one state. `None` if that is not possible.
///
/// Nothing is written: SQLite maps the index for reading only, and cannot move the log into the database when the connection is
/// closed. The locks are those that any reader shares with the writer, who does not wait for them. If the writer has ended without
/// closing the database, SQLite builds an index of its own in memory.
fn open_with_log(path: &Path) -> Option<Connection> {
    let is_file = |suffix: &str| {
        fs::symlink_metadata(with_suffix(path, suffix)).is_ok_and(|found| found.is_file() && found.len() > 0)
    };
    if !is_file("-wal") || !is_file("-shm") {
        return None;
    }
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let uri = format!("file:{}?mode=ro&readonly_shm=1", uri_path(path));
    let connection = Connection::open_with_flags(uri, flags).ok()?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).ok()?;
    connection.execute_batch("begin").ok()?;
    read_schema(&connection).ok()?;
    Some(connection)
}

/// Begins to read the current state of a database.
fn read_schema(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("select count(*) from sqlite_master", [], |row| row.get::<_, i64>(0)).map(drop)
}

/// A copy of a damaged database with the rows that can be read.
#[derive(Debug)]
pub(crate) struct SalvagedDatabase {
    folder: TemporaryFolder,
    /// Tables of which rows were lost.
    incomplete: Vec<String>,
}

impl SalvagedDatabase {
    /// Copies the rows of a database that can be read.
    pub(crate) fn new(source: &Source) -> Result<Self, ImportError> {
        let damaged = |error: rusqlite::Error| source.damaged(error.to_string());
        let database = Database::open_unchecked(source)?;
        // Otherwise, SQLite rejects a database that is shorter than its header says.
        database.connection.pragma_update(None, "writable_schema", true).map_err(damaged)?;
        let folder = TemporaryFolder::create().map_err(|error| source.io(error))?;
        let mut salvaged = Self { folder, incomplete: Vec::new() };
        let mut copy = Connection::open(salvaged.path()).map_err(damaged)?;
        let transaction = copy.transaction().map_err(damaged)?;
        for table in database.tables()? {
            if !table.starts_with("sqlite_") && !copy_table(&database, &transaction, &table) {
                salvaged.incomplete.push(table);
            }
        }
        transaction.commit().map_err(damaged)?;
        Ok(salvaged)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("salvaged.db")
    }

    /// What was lost, for the report.
    pub(crate) fn damage(&self) -> String {
        match self.incomplete.as_slice() {
            [] => "the database is damaged, but all rows can be read".to_owned(),
            tables => format!("the database is damaged: rows of {} cannot be read", tables.join(", ")),
        }
    }
}

/// Hash of a text.
pub(crate) fn short_hash(text: &str) -> u64 {
    blake3::hash(text.as_bytes()).as_bytes().first_chunk().copied().map_or(0, u64::from_le_bytes)
}

/// The name as an identifier in SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The rows of a table may be larger than its file by this factor: text in UTF-16 is read as UTF-8, and the default of a column that
/// was added later is in no row of the file.
const MAX_GROWTH: u64 = 4;

/// Copies a table without its constraints. Returns whether all rows were copied.
fn copy_table(database: &Database, to: &Connection, table: &str) -> bool {
    let from = &database.connection;
    let name = quoted(table);
    let Ok(columns) = columns_of(from, table) else { return false };
    // Only types that determine how values are compared are kept: other text could be anything.
    let is_plain = |kind: &&String| kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b' ');
    let definitions: Vec<String> = columns
        .iter()
        .map(|(column, kind)| {
            let kind = Some(kind).filter(is_plain).map(String::as_str).unwrap_or_default();
            format!("{} {kind}", quoted(column))
        })
        .collect();
    if to.execute_batch(&format!("create table {name} ({})", definitions.join(", "))).is_err() {
        return false;
    }
    let values = vec!["?"; columns.len()].join(", ");
    let Ok(mut insert) = to.prepare(&format!("insert into {name} values ({values})")) else { return false };
    // Columns are selected by their place, because their names may be damaged.
    let mut copy = |row: &Row<'_>, first: usize| {
        // Text is copied as bytes, because it may not be valid UTF-8.
        let values = (0..columns.len()).map(|index| row.get_ref(first + index).map(ToSqlOutput::Borrowed));
        let values = values.collect::<rusqlite::Result<Vec<_>>>()?;
        insert.execute(rusqlite::params_from_iter(values)).map(|_| ())
    };
    let Ok(mut select) =
        from.prepare(&format!("select rowid, * from {name} where rowid >= ?1 order by rowid"))
    else {
        // A table without row ids. The rows before the damage are copied.
        let mut copy_all = || -> rusqlite::Result<()> {
            let mut select = from.prepare(&format!("select * from {name}"))?;
            let mut rows = select.query([])?;
            let mut left = database.bytes.saturating_mul(MAX_GROWTH);
            while let Some(row) = rows.next()? {
                // Pages that refer to each other would be read again and again.
                let bytes = (0..columns.len()).try_fold(1, |bytes, index| {
                    Ok::<u64, rusqlite::Error>(match row.get_ref(index)? {
                        ValueRef::Text(value) | ValueRef::Blob(value) => bytes + value.len() as u64,
                        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => bytes,
                    })
                })?;
                left = left.checked_sub(bytes).ok_or(rusqlite::Error::InvalidQuery)?;
                copy(row, 0)?;
            }
            Ok(())
        };
        return copy_all().is_ok();
    };
    let mut next = i64::MIN;
    let mut is_complete = true;
    loop {
        let mut copy_rows = || -> rusqlite::Result<()> {
            let mut rows = select.query([next])?;
            while let Some(row) = rows.next()? {
                let id: i64 = row.get(0)?;
                // Damaged pages may refer to pages that were read before, and so on without end.
                if id < next {
                    return Err(rusqlite::Error::InvalidQuery);
                }
                // If the copy fails, the search below begins at this row.
                next = id;
                copy(row, 1)?;
                next = next.saturating_add(1);
            }
            Ok(())
        };
        if copy_rows().is_ok() {
            return is_complete;
        }
        is_complete = false;
        // The rows of a damaged page are consecutive. The search doubles its step until it is behind them, and then goes
        // back to the first row after them.
        let mut is_readable = |at: i64| -> bool {
            let mut read = || -> rusqlite::Result<()> {
                let mut rows = select.query([at])?;
                let Some(row) = rows.next()? else { return Ok(()) };
                if row.get::<_, i64>(0)? < at {
                    return Err(rusqlite::Error::InvalidQuery);
                }
                (0..=columns.len()).try_for_each(|index| row.get_ref(index).map(|_| ()))
            };
            read().is_ok()
        };
        let (mut damaged, mut step) = (i128::from(next), 1_i128);
        let mut readable = loop {
            let Ok(at) = i64::try_from(damaged + step) else { return false };
            if is_readable(at) {
                break i128::from(at);
            }
            damaged = i128::from(at);
            step *= 2;
        };
        while readable - damaged > 1 {
            let middle = damaged + (readable - damaged) / 2;
            match i64::try_from(middle) {
                Ok(at) if is_readable(at) => readable = middle,
                _ => damaged = middle,
            }
        }
        let Ok(at) = i64::try_from(readable) else { return false };
        next = at;
    }
}

/// Size of a database with its write-ahead log, in bytes.
fn size_of(path: &Path) -> io::Result<u64> {
    let log = fs::metadata(wal_path(path)).map_or(0, |metadata| metadata.len());
    Ok(fs::metadata(path)?.len() + log)
}

/// Names and types of a table's columns.
fn columns_of(connection: &Connection, table: &str) -> rusqlite::Result<Vec<(String, String)>> {
    let mut statement = connection.prepare("select name, type from pragma_table_info(?1)")?;
    // Damaged names are read as far as they are valid.
    let text = |row: &Row<'_>, index| -> rusqlite::Result<String> {
        let bytes = row.get_ref(index)?.as_bytes_or_null().map_err(rusqlite::Error::from)?;
        Ok(String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned())
    };
    let columns = statement.query_map([table], |row| Ok((text(row, 0)?, text(row, 1)?)))?;
    columns.collect()
}

/// A row of a query.
#[derive(Debug, Default)]
pub(crate) struct DatabaseRow {
    /// Columns by name, except BLOBs.
    pub fields: Map<String, Value>,
    /// BLOB columns by name.
    pub blobs: Vec<(String, Vec<u8>)>,
}

impl DatabaseRow {
    pub(crate) fn blob(&self, name: &str) -> Option<&[u8]> {
        self.blobs.iter().find(|(found, _)| found == name).map(|(_, bytes)| bytes.as_slice())
    }
}

/// A text column; empty if it is missing or has another type.
pub(crate) fn text_column(row: &DatabaseRow, name: &str) -> String {
    row.fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn columns(row: &Row<'_>, names: &[String]) -> rusqlite::Result<DatabaseRow> {
    let mut columns = DatabaseRow::default();
    for (index, name) in names.iter().enumerate() {
        let value = match row.get_ref(index)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => number.into(),
            ValueRef::Real(number) => number.into(),
            ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned().into(),
            ValueRef::Blob(bytes) => {
                columns.blobs.push((name.clone(), bytes.to_vec()));
                continue;
            }
        };
        columns.fields.insert(name.clone(), value);
    }
    Ok(columns)
}

/// Number of attempts to copy a database that is being written.
const COPY_ATTEMPTS: u32 = 10;

/// Copies a database and its write-ahead log in one state. A checkpoint between the two copies would lose transactions, so the copy
/// is repeated if one of the files has changed. SQLite's backup would lock the database of the other tool.
fn copy_with_log(path: &Path, copy: &Path) -> io::Result<()> {
    let state = || {
        let state = |path: &Path| fs::metadata(path).and_then(|found| Ok((found.len(), found.modified()?)));
        Ok::<_, io::Error>((state(path)?, state(&wal_path(path)).ok()))
    };
    for _ in 0..COPY_ATTEMPTS {
        let before = state()?;
        for (from, to) in [(path.to_owned(), copy.to_owned()), (wal_path(path), wal_path(copy))] {
            // The log may have been removed meanwhile.
            if let Ok(mut from) = open_file(&from, Links::Follow) {
                io::copy(&mut from, &mut fs::File::create(&to)?)?;
            }
        }
        if state()? == before {
            return Ok(());
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "another program is writing the database"))
}

fn wal_path(path: &Path) -> PathBuf {
    with_suffix(path, "-wal")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

fn has_wal(path: &Path) -> bool {
    fs::metadata(wal_path(path)).is_ok_and(|metadata| metadata.len() > 0)
}

/// Percent-encodes a path for a `file:` URI.
fn uri_path(path: &Path) -> String {
    let mut out = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(*byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database with a table without row ids whose pages at three levels have one child each, several times. There are more rows
    /// to read than could ever be copied.
    fn database_with_nested_repeated_pages(path: &Path) {
        let database = Connection::open(path).unwrap();
        database
            .execute_batch(
                "pragma page_size = 512; create table t (x text, primary key (x)) without rowid; begin",
            )
            .unwrap();
        let mut insert = database.prepare("insert into t values (?1)").unwrap();
        for id in 0..8_000 {
            insert.execute([format!("a somewhat longer text {id:05}")]).unwrap();
        }
        drop(insert);
        database.execute_batch("commit").unwrap();
        let root: usize =
            database.query_row("select rootpage from sqlite_master", [], |row| row.get(0)).unwrap();
        drop(database);
        let mut bytes = fs::read(path).unwrap();
        let number = |bytes: &[u8], at: usize| {
            usize::from(u16::from_be_bytes(*bytes.get(at..).unwrap().first_chunk().unwrap()))
        };
        // Pages with children, without the root. The last of them have the pages with rows below them.
        let pages: Vec<usize> = (0..bytes.len() / 512)
            .filter(|page| bytes.get(page * 512) == Some(&2) && page + 1 != root)
            .take(5)
            .collect();
        let chain: Vec<usize> = std::iter::once(root - 1).chain(pages).collect();
        for pair in chain.windows(2) {
            let [page, child] = pair else { unreachable!() };
            let cells: Vec<usize> = (0..number(&bytes, page * 512 + 3))
                .map(|cell| page * 512 + number(&bytes, page * 512 + 12 + 2 * cell))
                .collect();
            let child = u32::try_from(child + 1).unwrap().to_be_bytes();
            for at in cells {
                bytes.get_mut(at..at + 4).unwrap().copy_from_slice(&child);
            }
        }
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_copy_of_repeated_pages_is_not_larger_than_a_few_times_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        database_with_nested_repeated_pages(&path);
        let size = fs::metadata(&path).unwrap().len();
        let salvaged = SalvagedDatabase::new(&Source::file(&path)).unwrap();
        assert_eq!(salvaged.incomplete, ["t"]);
        let copied = fs::metadata(salvaged.path()).unwrap().len();
        assert!((size..2 * MAX_GROWTH * size).contains(&copied), "{copied} bytes of {size}");
    }

    #[test]
    fn all_rows_of_a_table_without_row_ids_are_salvaged_in_any_encoding() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let database = Connection::open(&path).unwrap();
        database
            .execute_batch("pragma encoding = 'UTF-16'; create table t (x text primary key) without rowid")
            .unwrap();
        for id in 0..2_000 {
            database.execute("insert into t values (?1)", [format!("{id}{}", "日本語".repeat(40))]).unwrap();
        }
        database.execute_batch("alter table t add column y text default 'a text that is in no row'").unwrap();
        drop(database);
        let salvaged = SalvagedDatabase::new(&Source::file(&path)).unwrap();
        assert!(salvaged.incomplete.is_empty());
        let copy = Connection::open(salvaged.path()).unwrap();
        let count = copy.query_row("select count(*) from t", [], |row| row.get::<_, u64>(0));
        assert_eq!(count, Ok(2_000));
    }

    fn count(database: &Database) -> usize {
        let mut rows = 0;
        let counted = database.rows("select x from t", &[], &mut |_| {
            rows += 1;
            Ok(())
        });
        counted.unwrap();
        rows
    }

    #[test]
    fn a_database_that_is_being_written_is_read_without_a_copy_or_a_lock_that_its_writer_notices() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let writer = Connection::open(&path).unwrap();
        writer.busy_timeout(std::time::Duration::ZERO).unwrap();
        writer
            .execute_batch("pragma journal_mode = wal; create table t (x text); insert into t values ('one')")
            .unwrap();
        let database = Database::open(&Source::file(&path)).unwrap();
        assert!(database.is_live && database._copy.is_none());
        assert_eq!(count(&database), 1);
        // The writer does not wait: its patience is zero.
        for text in ["two", "three"] {
            writer.execute("insert into t values (?1)", [text]).unwrap();
        }
        assert_eq!(count(&database), 1, "one state is read");
        database.renew().unwrap();
        assert_eq!(count(&database), 3);
        writer.execute_batch("pragma wal_checkpoint(passive)").unwrap();
        writer.execute("insert into t values ('four')", []).unwrap();
        drop(database);
        let left: (i64, i64, i64) = writer
            .query_row("pragma wal_checkpoint(truncate)", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        assert_eq!(left, (0, 0, 0), "nothing holds the log");
        assert_eq!(count(&Database::open(&Source::file(&path)).unwrap()), 4);
    }

    #[test]
    fn the_log_of_a_writer_that_was_killed_is_read_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("t.db"), folder.path().join("killed.db"));
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch("pragma journal_mode = wal; create table t (x text); insert into t values ('one')")
            .unwrap();
        for suffix in ["", "-wal", "-shm"] {
            fs::copy(with_suffix(&path, suffix), with_suffix(&copy, suffix)).unwrap();
        }
        let files = || ["", "-wal", "-shm"].map(|suffix| fs::read(with_suffix(&copy, suffix)).unwrap());
        let before = files();
        let database = Database::open(&Source::file(&copy)).unwrap();
        assert_eq!((count(&database), database.is_live), (1, true));
        drop(database);
        assert!(files() == before, "reading changes no file");
        // Without the index of the log, a copy is read.
        fs::remove_file(with_suffix(&copy, "-shm")).unwrap();
        let database = Database::open(&Source::file(&copy)).unwrap();
        assert_eq!((count(&database), database.is_live), (1, false));
        assert!(!with_suffix(&copy, "-shm").exists());
    }

    /// A database in which all children of the page at the root of the table are the first one.
    fn database_with_repeated_pages(path: &Path) {
        let database = Connection::open(path).unwrap();
        database
            .execute_batch("pragma page_size = 512; create table t (id integer primary key, x text)")
            .unwrap();
        let mut insert = database.prepare("insert into t values (?1, ?2)").unwrap();
        for id in 1..=400 {
            insert.execute((id, format!("text {id}"))).unwrap();
        }
        let root: usize =
            database.query_row("select rootpage from sqlite_master", [], |row| row.get(0)).unwrap();
        drop(insert);
        drop(database);
        let mut bytes = fs::read(path).unwrap();
        let page = bytes.get_mut((root - 1) * 512..root * 512).unwrap();
        assert_eq!(page.first(), Some(&5), "a page with children");
        let number = |page: &[u8], at: usize| {
            usize::from(u16::from_be_bytes(*page.get(at..).unwrap().first_chunk().unwrap()))
        };
        let cells: Vec<usize> = (0..number(page, 3)).map(|cell| number(page, 12 + 2 * cell)).collect();
        let child: [u8; 4] = *page.get(*cells.first().unwrap()..).unwrap().first_chunk().unwrap();
        for cell in cells {
            page.get_mut(cell..cell + 4).unwrap().copy_from_slice(&child);
        }
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn pages_that_occur_several_times_are_salvaged_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        database_with_repeated_pages(&path);
        let salvaged = SalvagedDatabase::new(&Source::file(&path)).unwrap();
        let copy = Connection::open(salvaged.path()).unwrap();
        let count = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, u64>(0)).unwrap();
        let (rows, ids) = (count("select count(*) from t"), count("select count(distinct id) from t"));
        assert_eq!(rows, ids);
        assert!(rows > 10, "{rows}");
        assert_eq!(salvaged.incomplete, ["t"]);
    }

    #[test]
    fn a_damaged_name_of_a_column_is_damage_and_its_rows_are_salvaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.db");
        let database = Connection::open(&path).unwrap();
        database
            .execute_batch("create table t (zebra text, x text); insert into t values ('a', 'b')")
            .unwrap();
        drop(database);
        let mut bytes = fs::read(&path).unwrap();
        let name = bytes.windows(5).position(|window| window == b"zebra").unwrap();
        *bytes.get_mut(name + 2).unwrap() = 0xff;
        fs::write(&path, bytes).unwrap();
        let error = Database::open(&Source::file(&path)).map(drop).unwrap_err();
        assert!(matches!(error, ImportError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("not valid UTF-8"), "{error}");
        let salvaged = SalvagedDatabase::new(&Source::file(&path)).unwrap();
        let copy = Connection::open(salvaged.path()).unwrap();
        let row = copy.query_row("select * from t", [], |row| Ok((row.get(0)?, row.get(1)?)));
        assert_eq!(row, Ok(("a".to_owned(), "b".to_owned())));
    }
}
