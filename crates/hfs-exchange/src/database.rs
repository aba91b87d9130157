//! Other tools' SQLite databases, read without leaving a trace beside them.

use std::fs;
use std::path::{Path, PathBuf};

use hfs_core::ImportError;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::Source;

/// An open database, and the folder it was copied to, if it was.
pub(crate) struct Database {
    connection: Connection,
    name: String,
    _copy: Option<TempDir>,
}

impl Database {
    /// Opens the database. One whose newest changes are still in its write-ahead log is copied first: only so
    /// can they be read without writing beside it.
    pub(crate) fn open(source: &Source) -> Result<Self, ImportError> {
        let io = |error| source.io(error);
        let (path, copy) = match source.path() {
            Some(path) if !has_log(path) => (path.to_owned(), None),
            Some(path) => {
                let folder = TempDir::new().map_err(io)?;
                let copy = folder.path().join("copy.db");
                fs::copy(path, &copy).map_err(io)?;
                fs::copy(log_of(path), log_of(&copy)).map_err(io)?;
                (copy, Some(folder))
            }
            None => {
                let folder = TempDir::new().map_err(io)?;
                let copy = folder.path().join("copy.db");
                std::io::copy(&mut source.open()?, &mut fs::File::create(&copy).map_err(io)?).map_err(io)?;
                (copy, Some(folder))
            }
        };
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

    /// The names of its tables.
    pub(crate) fn tables(&self) -> Result<Vec<String>, ImportError> {
        let mut tables = Vec::new();
        self.rows("select name from sqlite_master where type = 'table'", &[], &mut |row| {
            tables.push(text(&row, "name"));
            Ok(())
        })?;
        Ok(tables)
    }

    /// Visits the rows of a query, each as its columns by name. BLOBs come as their bytes.
    pub(crate) fn rows(
        &self,
        sql: &str,
        parameters: &[&str],
        visit: &mut dyn FnMut(Columns) -> Result<(), ImportError>,
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

/// A row.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    /// Its columns, but for BLOBs.
    pub fields: Map<String, Value>,
    /// Its BLOBs.
    pub blobs: Vec<(String, Vec<u8>)>,
}

impl Columns {
    pub(crate) fn blob(&self, name: &str) -> Option<&[u8]> {
        self.blobs.iter().find(|(found, _)| found == name).map(|(_, bytes)| bytes.as_slice())
    }
}

/// A text column, empty when it is none.
pub(crate) fn text(row: &Columns, name: &str) -> String {
    row.fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn columns(row: &Row<'_>, names: &[String]) -> rusqlite::Result<Columns> {
    let mut columns = Columns::default();
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

fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    PathBuf::from(log)
}

fn has_log(path: &Path) -> bool {
    fs::metadata(log_of(path)).is_ok_and(|metadata| metadata.len() > 0)
}

/// A path inside a `file:` URI.
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
