//! Finds out what a file is by looking into it.

use std::io::Read;

use hfs_core::ImportError;
use serde_json::{Map, Value};

use crate::database::Database;
use crate::json::parse;
use crate::json::salvage::{Fragment, salvage};
use crate::json::walk::{Walk, WalkResult};
use crate::{Format, Source};

const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
const HEAD_BYTES: u64 = 256 << 10;
/// How many records are looked at.
const HEAD_RECORDS: usize = 40;

/// The beginning of a file.
#[derive(Debug, Default)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    objects: Vec<Map<String, Value>>,
    keys: Vec<String>,
    array: bool,
    first: Option<Value>,
    /// The files of an archive, or the folders of a folder.
    entries: Vec<String>,
    /// The tables of a database, with their columns.
    tables: Vec<(String, Vec<String>)>,
}

impl Head {
    /// Reads the beginning of `source`. A folder has an empty one.
    pub(crate) fn of(source: &Source) -> Result<Self, ImportError> {
        if let Some(folder) = source.path().filter(|path| path.is_dir()) {
            let entries = std::fs::read_dir(folder).map_err(|error| source.io(error))?.flatten();
            let folders = entries.filter(|entry| entry.path().is_dir());
            let entries = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            return Ok(Self { entries, ..Self::default() });
        }
        let mut bytes = Vec::new();
        source.open()?.take(HEAD_BYTES).read_to_end(&mut bytes).map_err(|error| source.io(error))?;
        if bytes.starts_with(SQLITE_MAGIC) {
            return Ok(Self { tables: tables(source).unwrap_or_default(), bytes, ..Self::default() });
        }
        if bytes.starts_with(ZIP_MAGIC) {
            let names = source
                .archive()
                .map(|archive| archive.file_names().flatten().map(std::borrow::Cow::into_owned).collect());
            return Ok(Self { entries: names.unwrap_or_default(), bytes, ..Self::default() });
        }
        Ok(Self::new(bytes))
    }

    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let mut head = Self::default();
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        'lines: for line in text.split('\n') {
            for fragment in salvage(line) {
                if head.objects.len() >= HEAD_RECORDS {
                    break 'lines;
                }
                if let Fragment::Record(text) = fragment
                    && let Some(Value::Object(fields)) = parse(text).map(|parsed| parsed.value)
                {
                    head.objects.push(fields);
                }
            }
        }
        // A document that goes on beyond the head ends in an error; what was seen before counts.
        let _ = head.walk(&bytes);
        head.bytes = bytes;
        head
    }

    /// Collects the keys of the object that the document is, or of the first object in its array.
    fn walk(&mut self, bytes: &[u8]) -> WalkResult<()> {
        let mut walk = Walk::new(bytes)?;
        if walk.peek()? == Some(b'[') {
            self.array = true;
            walk.enter()?;
            if !walk.next_element()? {
                return Ok(());
            }
        }
        if walk.peek()? != Some(b'{') {
            self.first = parse(&walk.value()?).map(|parsed| parsed.value);
            return Ok(());
        }
        walk.enter()?;
        let mut first = Map::new();
        while let Some(key) = walk.next_key()? {
            self.keys.push(key.clone());
            let text = walk.value()?;
            first.insert(key, parse(&text).map_or(Value::Null, |parsed| parsed.value));
            self.first = Some(Value::Object(first.clone()));
        }
        Ok(())
    }

    /// The bytes themselves.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether its first line is a whole record and another follows.
    pub(crate) fn begins_with_several_records(&self) -> bool {
        let mut lines = self.bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        let first = lines.next().and_then(|line| str::from_utf8(line).ok());
        let is_whole = first.and_then(parse).is_some_and(|parsed| parsed.value.is_object());
        is_whole && lines.next().is_some()
    }

    /// The first whole records that stand on lines of their own.
    pub(crate) fn objects(&self) -> &[Map<String, Value>] {
        &self.objects
    }

    /// Whether there is something in it, but nothing of it can be read.
    pub(crate) fn is_garbage(&self) -> bool {
        self.objects.is_empty()
            && self.keys.is_empty()
            && self.first.is_none()
            && !self.array
            && !self.bytes.is_empty()
    }

    /// The files of an archive.
    pub(crate) fn entries(&self) -> &[String] {
        &self.entries
    }

    /// Whether it is a folder that holds this one.
    pub(crate) fn holds_folder(&self, name: &str) -> bool {
        self.bytes.is_empty() && self.entries.iter().any(|found| found == name)
    }

    /// Whether it is a database.
    pub(crate) fn is_database(&self) -> bool {
        self.bytes.starts_with(SQLITE_MAGIC)
    }

    /// Whether it is a database with all of these tables.
    pub(crate) fn has_tables(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.tables.iter().any(|(table, _)| table == name))
    }

    /// Whether it is a database with a column of this name.
    pub(crate) fn has_column(&self, name: &str) -> bool {
        self.tables.iter().any(|(_, columns)| columns.iter().any(|column| column == name))
    }

    /// Whether the document is an array.
    pub(crate) const fn is_array(&self) -> bool {
        self.array
    }

    /// Whether the object that the document is (or the first one in its array) has this key.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.keys.iter().any(|found| found == key)
    }

    /// That object, as far as it lies in the head.
    pub(crate) fn first(&self) -> Option<&Map<String, Value>> {
        self.first.as_ref().and_then(Value::as_object)
    }
}

/// The tables of a database, with their columns.
fn tables(source: &Source) -> Result<Vec<(String, Vec<String>)>, ImportError> {
    let database = Database::open(source)?;
    let mut tables = Vec::new();
    for table in database.tables()? {
        let mut columns = Vec::new();
        database.rows("select name from pragma_table_info(?1)", &[&table], &mut |row| {
            columns.push(crate::database::text(&row, "name"));
            Ok(())
        })?;
        tables.push((table, columns));
    }
    Ok(tables)
}

/// The format of a source; `None` when no reader knows it.
///
/// # Errors
/// When it cannot be read.
pub fn detect(source: &Source) -> Result<Option<Format>, ImportError> {
    let head = Head::of(source)?;
    let mut readers = Format::ALL.into_iter().map(Format::reader);
    Ok(readers.find(|reader| reader.recognizes(&head)).map(crate::readers::Reader::format))
}

/// The error for a source that no reader knows.
pub(crate) fn unknown(source: &Source) -> Result<ImportError, ImportError> {
    let head = Head::of(source)?;
    let reason = if source.path().is_some_and(std::path::Path::is_dir) {
        "it is a folder".to_owned()
    } else if head.bytes().is_empty() {
        "it is empty".to_owned()
    } else if head.keys.is_empty() && head.objects.is_empty() {
        "it holds no JSON records and no database that is known".to_owned()
    } else {
        let keys: Vec<&str> = if head.keys.is_empty() {
            head.objects.iter().flat_map(Map::keys).take(6).map(String::as_str).collect()
        } else {
            head.keys.iter().take(6).map(String::as_str).collect()
        };
        format!("its records have the fields {}", keys.join(", "))
    };
    Ok(ImportError::UnknownFormat { path: source.name(), reason })
}
