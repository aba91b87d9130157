//! Detects the format of a source from its beginning.

use std::io::Read;
use std::path::{Path, PathBuf};

use hfs_core::ImportError;
use serde_json::{Map, Value};

use crate::database::Database;
use crate::json::parse;
use crate::json::pull::{PullParser, PullResult};
use crate::json::value::{Fragment, salvage};
use crate::unread::UnreadFormat;
use crate::{Format, Source};

const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
const PROBE_BYTES: u64 = 256 << 10;
/// Maximum number of records that are parsed.
const PROBE_RECORDS: usize = 40;

/// The data from which readers recognize their format: the first records of a file, the tables of a database,
/// or the names in an archive or a folder. It is read once for all readers, so that detection is fast in a
/// folder with thousands of transcripts.
#[derive(Debug, Default)]
pub(crate) struct FormatProbe {
    /// Path of the file or folder; `None` for a stream.
    path: Option<PathBuf>,
    is_folder: bool,
    bytes: Vec<u8>,
    records: Vec<Map<String, Value>>,
    keys: Vec<String>,
    array: bool,
    /// The top-level value, or the first element of a top-level array. An object that is longer than the
    /// probe has only the fields that were read.
    first: Option<Value>,
    /// Files of an archive, or subfolders of a folder.
    entries: Vec<String>,
    /// Tables of a database, with their columns.
    tables: Vec<(String, Vec<String>)>,
}

impl FormatProbe {
    /// Examines the beginning of `source`.
    pub(crate) fn new(source: &Source) -> Result<Self, ImportError> {
        let mut probe = Self::of_content(source)?;
        probe.path = source.path().map(Path::to_owned);
        Ok(probe)
    }

    fn of_content(source: &Source) -> Result<Self, ImportError> {
        if let Some(folder) = source.path().filter(|path| path.is_dir()) {
            let entries = std::fs::read_dir(folder).map_err(|error| source.io(error))?.flatten();
            let folders = entries.filter(|entry| entry.path().is_dir());
            let entries = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            return Ok(Self { entries, is_folder: true, ..Self::default() });
        }
        let mut bytes = Vec::new();
        source.open()?.take(PROBE_BYTES).read_to_end(&mut bytes).map_err(|error| source.io(error))?;
        if bytes.starts_with(SQLITE_MAGIC) {
            return Ok(Self { tables: tables(source).unwrap_or_default(), bytes, ..Self::default() });
        }
        if bytes.starts_with(ZIP_MAGIC) {
            return Ok(Self::of_archive(source, bytes));
        }
        Ok(Self::from_bytes(bytes))
    }

    /// The names in an archive, and the keys of the first file with conversations.
    fn of_archive(source: &Source, bytes: Vec<u8>) -> Self {
        let mut probe = Self { bytes, ..Self::default() };
        let Ok(mut archive) = source.archive() else { return probe };
        probe.entries = archive.file_names().flatten().map(std::borrow::Cow::into_owned).collect();
        let mut names = probe.conversation_entries();
        names.sort();
        let mut content = Vec::new();
        if let Some(first) = names.first()
            && let Ok(file) = archive.by_name(first)
            && file.take(PROBE_BYTES).read_to_end(&mut content).is_ok()
        {
            // As for a document, the keys before the end of the probe are used.
            let _ = probe.scan_keys(&content);
        }
        probe
    }

    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        let mut probe = Self::default();
        let text = String::from_utf8_lossy(&bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        'lines: for line in text.split('\n') {
            for fragment in salvage(line) {
                if probe.records.len() >= PROBE_RECORDS {
                    break 'lines;
                }
                if let Fragment::Record(text) = fragment
                    && let Some(Value::Object(fields)) = parse(text).map(|parsed| parsed.value)
                {
                    probe.records.push(fields);
                }
            }
        }
        // A document that is longer than the probe ends with a parse error. The error is ignored, and the fields before
        // it are used.
        let _ = probe.scan_keys(&bytes);
        probe.bytes = bytes;
        probe
    }

    /// Collects the keys of the top-level object, or of the first object in a top-level array.
    fn scan_keys(&mut self, bytes: &[u8]) -> PullResult<()> {
        let mut parser = PullParser::new(bytes)?;
        if parser.peek()? == Some(b'[') {
            self.array = true;
            parser.enter()?;
            if !parser.next_element()? {
                return Ok(());
            }
        }
        if parser.peek()? != Some(b'{') {
            self.first = parse(&parser.value()?).map(|parsed| parsed.value);
            return Ok(());
        }
        parser.enter()?;
        let mut first = Map::new();
        while let Some(key) = parser.next_key()? {
            self.keys.push(key.clone());
            let text = parser.value()?;
            first.insert(key, parse(&text).map_or(Value::Null, |parsed| parsed.value));
            // Set after each field, so that an error in a later field keeps this one.
            self.first = Some(Value::Object(first.clone()));
        }
        Ok(())
    }

    /// The bytes that were read.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the first line is a complete record and another line follows.
    pub(crate) fn begins_with_record_and_more_lines(&self) -> bool {
        let mut lines = self.bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        let first = lines.next().and_then(|line| str::from_utf8(line).ok());
        let is_record = first.and_then(parse).is_some_and(|parsed| parsed.value.is_object());
        is_record && lines.next().is_some()
    }

    /// The complete objects on the first lines.
    pub(crate) fn records(&self) -> &[Map<String, Value>] {
        &self.records
    }

    /// Whether the file is not empty and no part of it can be parsed.
    pub(crate) fn is_unparsable(&self) -> bool {
        self.records.is_empty()
            && self.keys.is_empty()
            && self.first.is_none()
            && !self.array
            && !self.bytes.is_empty()
    }

    /// Path of the file or folder; `None` for a stream.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The name of the file or folder; `None` for a stream, and for a name that is not Unicode.
    pub(crate) fn file_name(&self) -> Option<&str> {
        self.path()?.file_name()?.to_str()
    }

    /// Whether the name of the file has this extension.
    pub(crate) fn has_extension(&self, extension: &str) -> bool {
        self.path().and_then(Path::extension).is_some_and(|found| found == extension)
    }

    /// Whether this is a folder.
    pub(crate) const fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// Files of an archive, or subfolders of a folder.
    pub(crate) fn entries(&self) -> &[String] {
        &self.entries
    }

    /// The files of a data export in which ChatGPT and claude.ai store conversations.
    pub(crate) fn conversation_entries(&self) -> Vec<String> {
        let is_conversations = |name: &&String| {
            let name = name.rsplit('/').next().unwrap_or(name);
            name.starts_with("conversations") && name.ends_with(".json")
        };
        self.entries.iter().filter(is_conversations).cloned().collect()
    }

    /// Whether this is a folder with this subfolder.
    pub(crate) fn has_subfolder(&self, name: &str) -> bool {
        // Archives also have entries, but the probe of a folder has no bytes.
        self.bytes.is_empty() && self.entries.iter().any(|found| found == name)
    }

    /// Whether this is an SQLite database.
    pub(crate) fn is_database(&self) -> bool {
        self.bytes.starts_with(SQLITE_MAGIC)
    }

    /// Whether this is a database with all of these tables.
    pub(crate) fn has_tables(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.tables.iter().any(|(table, _)| table == name))
    }

    /// The tables of a database that have all of these columns.
    pub(crate) fn tables_with_columns(&self, names: &[&str]) -> Vec<String> {
        let has_all =
            |columns: &[String]| names.iter().all(|name| columns.iter().any(|column| column == name));
        self.tables.iter().filter(|(_, columns)| has_all(columns)).map(|(table, _)| table.clone()).collect()
    }

    /// Whether this is a database with a column of this name.
    pub(crate) fn has_column(&self, name: &str) -> bool {
        self.tables.iter().any(|(_, columns)| columns.iter().any(|column| column == name))
    }

    /// Whether the document is an array.
    pub(crate) const fn is_array(&self) -> bool {
        self.array
    }

    /// Whether the top-level object, or the first object in a top-level array, has this key.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.keys.iter().any(|found| found == key)
    }

    /// The top-level object, or the first object in a top-level array, as far as it was read.
    pub(crate) fn first_object(&self) -> Option<&Map<String, Value>> {
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
            columns.push(crate::database::text_column(&row, "name"));
            Ok(())
        })?;
        tables.push((table, columns));
    }
    Ok(tables)
}

/// Detects the format of a source; `None` if no reader recognizes it.
///
/// # Errors
/// Returns an error if the source cannot be read.
pub fn detect(source: &Source) -> Result<Option<Format>, ImportError> {
    let probe = FormatProbe::new(source)?;
    let mut readers = Format::ALL.into_iter().map(Format::reader);
    Ok(readers.find(|reader| reader.probe(&probe)).map(crate::readers::Reader::format))
}

/// Creates the error for a source that no reader recognizes. Fails if the source cannot be read.
pub(crate) fn unknown_format(source: &Source) -> Result<ImportError, ImportError> {
    let probe = FormatProbe::new(source)?;
    if let Some(format) = UnreadFormat::of(&probe) {
        return Ok(format.error(source));
    }
    let reason = if source.path().is_some_and(Path::is_dir) {
        "it is a folder".to_owned()
    } else if probe.bytes().is_empty() {
        "it is empty".to_owned()
    } else if probe.keys.is_empty() && probe.records.is_empty() {
        "it contains neither JSON records nor a known database".to_owned()
    } else {
        let keys: Vec<&str> = if probe.keys.is_empty() {
            probe.records.iter().flat_map(Map::keys).take(6).map(String::as_str).collect()
        } else {
            probe.keys.iter().take(6).map(String::as_str).collect()
        };
        format!("its records have the fields {}", keys.join(", "))
    };
    Ok(ImportError::UnknownFormat { path: source.name(), reason })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The formats whose readers take a source.
    fn takers(source: &Source) -> Vec<Format> {
        let probe = FormatProbe::new(source).unwrap();
        Format::ALL.into_iter().filter(|format| format.reader().probe(&probe)).collect()
    }

    fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { files_below(&path, files) } else { files.push(path) }
        }
    }

    /// Files of a format, and the format's name.
    fn examples() -> Vec<(PathBuf, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut examples = Vec::new();
        for folder in [root.join("tests/fixtures"), root.join("../../fuzz/seeds")] {
            let mut files = Vec::new();
            files_below(&folder, &mut files);
            for file in files {
                let relative = file.strip_prefix(&folder).unwrap();
                let format = relative.iter().next().unwrap().to_string_lossy().replace('_', "-");
                examples.push((file.clone(), format));
            }
        }
        examples
    }

    #[test]
    fn exactly_one_reader_takes_each_transcript() {
        let mut wrong = Vec::new();
        let mut found = std::collections::BTreeSet::new();
        for (file, format) in examples() {
            let format = match format.as_str() {
                "documents" => "hfs",
                "qwen" => "qwen-code",
                "copilot" => "copilot-cli",
                format => format,
            };
            let Ok(format) = format.parse::<Format>() else { continue };
            match takers(&Source::file(&file)).as_slice() {
                // A file about a session, or a seed that is damaged at its beginning.
                [] => {}
                // A document without a version has the form of OpenAI's messages.
                [only] if *only == format || [*only, format] == [Format::Hfs, Format::OpenAiMessages] => {
                    found.insert(format);
                }
                several => wrong.push(format!("{}: {several:?}", file.display())),
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        let without_example = [Format::Llm, Format::LangGraph, Format::Python];
        let expected = Format::ALL.into_iter().filter(|format| !without_example.contains(format)).collect();
        assert_eq!(found, expected, "every other format has an example");
    }
}
