//! Read-only access to the SQLite databases of other tools. No files are created next to them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hfs_core::ImportError;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::{Map, Value};

use crate::Source;
use crate::source::{Links, open_file};
use crate::temporary::TemporaryFolder;

/// An open database, and the temporary folder with its copy, if it was copied.
pub(crate) struct Database {
    connection: Connection,
    name: String,
    _copy: Option<TemporaryFolder>,
}

impl Database {
    /// Opens the database with `immutable=1`, so that SQLite creates no files next to it. In this mode SQLite
    /// ignores the write-ahead log. A database whose log is not empty is therefore copied, together with the
    /// log, and the copy is opened. So is a database that is compressed or comes from a stream.
    pub(crate) fn open(source: &Source) -> Result<Self, ImportError> {
        let io = |error| source.io(error);
        let compressed = source.is_compressed()?;
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
        Ok(Self { connection, name: source.name(), _copy: copy })
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
        while let Some(row) = rows.next().map_err(damaged)? {
            visit(columns(row, &names).map_err(damaged)?)?;
        }
        Ok(())
    }
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
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    PathBuf::from(log)
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
