//! Detects the format of a source.

use std::io::Read;
use std::path::{Path, PathBuf};

use hfs_core::ImportError;
use serde_json::{Map, Value};

use crate::database::Database;
use crate::json::lines::{Line, Lines};
use crate::json::parse;
use crate::json::pull::{PullError, PullParser, PullResult};
use crate::json::value::{Fragment, salvage};
use crate::unread::UnreadFormat;
use crate::{Format, Source};

const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// The beginning of a file that is kept. It is read further if it contains no complete record.
const PROBE_BYTES: usize = 256 << 10;
/// Maximum number of records that are parsed.
const PROBE_RECORDS: usize = 40;
/// The scan of a document ends at the first element or field after this many bytes.
const SCANNED_BYTES: u64 = 64 << 20;
/// Maximum number of elements that are kept of an array in a document, and of an array inside such an element.
const LISTED_ELEMENTS: usize = 2000;
const NESTED_ELEMENTS: usize = 32;
/// Longer strings are not kept.
const STRING_BYTES: usize = 64 << 10;
/// Values that are nested deeper are not kept.
const SAMPLE_DEPTH: usize = 5;

/// The data from which readers recognize their format: the first records of a file, the structure of a
/// document, the tables of a database, or the names in an archive or a folder. It is read once for all readers, so that
/// detection is fast in a folder with thousands of transcripts.
#[derive(Debug, Default)]
pub(crate) struct FormatProbe {
    /// Path of the file or folder; `None` for a stream.
    path: Option<PathBuf>,
    is_folder: bool,
    bytes: Vec<u8>,
    records: Vec<Map<String, Value>>,
    /// Whether the first line is a complete record.
    begins_with_record: bool,
    /// Whether there is more than one line.
    has_more_lines: bool,
    /// The document, without long strings and deeply nested values, and as far as it can be read.
    document: Value,
    /// Files of an archive, or subfolders of a folder.
    entries: Vec<String>,
    /// Tables of a database, with their columns.
    tables: Vec<(String, Vec<String>)>,
    /// Why not even the tables of a database can be read.
    database_damage: Option<String>,
}

impl FormatProbe {
    /// Examines `source`.
    pub(crate) fn new(source: &Source) -> Result<Self, ImportError> {
        let mut probe = Self::of_content(source)?;
        probe.path = source.path().map(Path::to_owned);
        Ok(probe)
    }

    fn of_content(source: &Source) -> Result<Self, ImportError> {
        if let Some(folder) = source.path().filter(|path| path.is_dir()) {
            let entries = std::fs::read_dir(folder).map_err(|error| source.io(error))?.flatten();
            let folders = entries.filter(|entry| entry.file_type().is_ok_and(|found| found.is_dir()));
            let entries = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            return Ok(Self { entries, is_folder: true, ..Self::default() });
        }
        let io = |error| source.io(error);
        let mut bytes = Vec::new();
        source.open()?.take(PROBE_BYTES as u64).read_to_end(&mut bytes).map_err(io)?;
        if bytes.starts_with(SQLITE_MAGIC) {
            let tables = tables(source).or_else(|error| {
                // Of a truncated database, not even the schema is read.
                if source.salvage_database()? { tables(source) } else { Err(error) }
            });
            return Ok(match tables {
                Ok(tables) => Self { tables, bytes, ..Self::default() },
                Err(error) => Self { database_damage: Some(error.to_string()), bytes, ..Self::default() },
            });
        }
        if bytes.starts_with(ZIP_MAGIC) {
            return Ok(Self::of_archive(source, bytes));
        }
        let mut probe = Self { bytes, ..Self::default() };
        if probe.is_whole() {
            probe.scan(|probe| Ok(Box::new(std::io::Cursor::new(probe.bytes.clone())))).map_err(io)?;
        } else {
            probe.scan(|_| source.open().map_err(std::io::Error::other)).map_err(io)?;
        }
        Ok(probe)
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
            && file.take(PROBE_BYTES as u64).read_to_end(&mut content).is_ok()
        {
            // As for a document, the keys before the end of the probe are used.
            probe.document = read_document(content.as_slice()).unwrap_or_default();
        }
        probe
    }

    /// Whether the kept bytes are all bytes of the file.
    fn is_whole(&self) -> bool {
        self.bytes.len() < PROBE_BYTES
    }

    /// Reads the first records and the structure of the document. `open` opens the content from its beginning.
    fn scan<'s>(
        &mut self,
        open: impl Fn(&Self) -> std::io::Result<Box<dyn Read + Send + 's>>,
    ) -> std::io::Result<()> {
        // A text that is no JSON is not read further: it is neither a document nor has it records.
        let text = self.bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&self.bytes);
        let first = text.iter().copied().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0));
        match first {
            Some(b'{') => {
                let input = open(self)?;
                self.read_records(input)?;
                self.document = read_document(open(self)?)?;
            }
            Some(b'[') => self.document = read_document(open(self)?)?,
            _ => {}
        }
        if self.records.is_empty() && !self.is_array() {
            let text = String::from_utf8_lossy(&self.bytes);
            let fragments = text.lines().flat_map(salvage).filter_map(|fragment| match fragment {
                Fragment::Record(text) => parse(text).map(|parsed| parsed.value),
                Fragment::Damaged(_) => None,
            });
            self.records = fragments.filter_map(into_object).take(PROBE_RECORDS).collect();
        }
        Ok(())
    }

    /// Reads the objects on the first lines.
    fn read_records(&mut self, input: impl Read) -> std::io::Result<()> {
        let mut lines = Lines::new(input);
        let mut count = 0;
        while self.records.len() < PROBE_RECORDS {
            let is_enough = !self.records.is_empty() && lines.consumed() > PROBE_BYTES as u64;
            let Some((_, line)) = lines.next()? else { break };
            let Line::Text(text) = line else { continue };
            let text = text.trim_matches(['\0', ' ', '\t']);
            if text.is_empty() {
                continue;
            }
            count += 1;
            self.has_more_lines = count > 1;
            if is_enough {
                break;
            }
            // Most records are small.
            let value = if text.len() <= STRING_BYTES {
                parse(text).map(|parsed| parsed.value).unwrap_or_default()
            } else {
                sample_line(text)
            };
            self.begins_with_record |= count == 1 && value.is_object();
            self.records.extend(into_object(value));
        }
        Ok(())
    }

    /// The bytes that were read.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the first line is a complete record and another line follows.
    pub(crate) const fn begins_with_record_and_more_lines(&self) -> bool {
        self.begins_with_record && self.has_more_lines
    }

    /// The complete objects on the first lines. Long strings in long objects are left out.
    pub(crate) fn records(&self) -> &[Map<String, Value>] {
        &self.records
    }

    /// Whether the file is not empty and no part of it can be parsed.
    pub(crate) fn is_unparsable(&self) -> bool {
        self.records.is_empty()
            && !self.is_array()
            && self.first_object().is_none_or(Map::is_empty)
            && !self.bytes.is_empty()
    }

    /// Whether a JSON text contains comments, which only configuration files have.
    pub(crate) fn has_comments(&self) -> bool {
        let text = String::from_utf8_lossy(&self.bytes);
        text.lines().any(|line| {
            let line = line.trim_start();
            line.starts_with("//") || line.starts_with("/*")
        })
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

    /// Why not even the tables of a database can be read.
    pub(crate) fn database_damage(&self) -> Option<&str> {
        self.database_damage.as_deref()
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
        matches!(self.document, Value::Array(_))
    }

    /// The elements of a document that is an array.
    pub(crate) fn elements(&self) -> &[Value] {
        self.document.as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether the top-level object, or the first object in a top-level array, has this key.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.first_object().is_some_and(|first| first.contains_key(key))
    }

    /// The top-level object, or the first object in a top-level array, as far as it was read.
    pub(crate) fn first_object(&self) -> Option<&Map<String, Value>> {
        match &self.document {
            Value::Array(elements) => elements.first()?.as_object(),
            document => document.as_object(),
        }
    }

    /// Whether the source contains records of a conversation, in any format.
    pub(crate) fn has_conversation(&self) -> bool {
        let lists =
            self.first_object().into_iter().flat_map(Map::values).filter_map(Value::as_array).flatten();
        let objects = lists.chain(self.elements()).filter_map(Value::as_object);
        objects.chain(&self.records).any(is_conversation_record)
    }

    /// What the source looks like, for errors.
    pub(crate) fn describe(&self) -> String {
        if self.database_damage.is_some() {
            return "it is a database so damaged that its tables are not known".to_owned();
        }
        if self.bytes.is_empty() {
            return if self.entries.is_empty() { "it is empty" } else { "it is a folder" }.to_owned();
        }
        let keys: Vec<&str> = match self.first_object() {
            Some(first) => first.keys().take(6).map(String::as_str).collect(),
            None => self.records.iter().flat_map(Map::keys).take(6).map(String::as_str).collect(),
        };
        if keys.is_empty() {
            return "it contains neither JSON records nor a known database".to_owned();
        }
        format!("its records have the fields {}", keys.join(", "))
    }
}

/// Whether a record names a speaker and has content.
fn is_conversation_record(record: &Map<String, Value>) -> bool {
    const SPEAKER: [&str; 5] = ["role", "type", "from", "sender", "author"];
    const SPEAKERS: [&str; 8] = ["user", "assistant", "human", "ai", "model", "gpt", "gemini", "tool"];
    const CONTENT: [&str; 6] = ["content", "text", "parts", "message", "value", "body"];
    let speaker = SPEAKER.iter().filter_map(|key| record.get(*key)?.as_str());
    speaker.into_iter().any(|speaker| SPEAKERS.contains(&speaker))
        && CONTENT.iter().any(|key| record.contains_key(*key))
}

fn into_object(value: Value) -> Option<Map<String, Value>> {
    if let Value::Object(fields) = value { Some(fields) } else { None }
}

/// A long record without its long strings; null if the line is not one object.
fn sample_line(line: &str) -> Value {
    let mut value = Value::Null;
    let mut sample = || -> PullResult<bool> {
        let mut parser = PullParser::new(line.as_bytes())?;
        Sampler { budget: u64::MAX }.sample(&mut parser, 0, &mut value)?;
        Ok(parser.peek()?.is_none())
    };
    if sample().unwrap_or(false) { value } else { Value::Null }
}

/// Reads the structure of a document, up to the first damage.
fn read_document(input: impl Read) -> std::io::Result<Value> {
    let mut document = Value::Null;
    let sample = || -> PullResult<()> {
        let mut parser = PullParser::new(input)?;
        Sampler { budget: SCANNED_BYTES }.sample(&mut parser, 0, &mut document)
    };
    match sample() {
        Err(PullError::Io(error)) => Err(error),
        Ok(()) | Err(PullError::Damaged { .. }) => Ok(document),
    }
}

/// Reads a document into a value of limited size.
struct Sampler {
    /// The scan ends at the first element or field after this many bytes.
    budget: u64,
}

impl Sampler {
    /// Reads the next value into `into`, which keeps what was read before an error.
    fn sample<R: Read>(&self, parser: &mut PullParser<R>, depth: usize, into: &mut Value) -> PullResult<()> {
        match parser.peek()? {
            Some(b'{' | b'[') if depth > SAMPLE_DEPTH => parser.skip(),
            Some(b'{') => {
                parser.enter()?;
                *into = Value::Object(Map::new());
                while let Some(key) = parser.next_key()? {
                    let Value::Object(fields) = &mut *into else { return Ok(()) };
                    self.sample(parser, depth + 1, fields.entry(key).or_insert(Value::Null))?;
                    if depth == 0 && parser.consumed() > self.budget {
                        return Ok(());
                    }
                }
                Ok(())
            }
            Some(b'[') => {
                parser.enter()?;
                *into = Value::Array(Vec::new());
                let kept = if depth <= 1 { LISTED_ELEMENTS } else { NESTED_ELEMENTS };
                while parser.next_element()? {
                    let Value::Array(elements) = &mut *into else { return Ok(()) };
                    if elements.len() < kept {
                        elements.push(Value::Null);
                        let Some(element) = elements.last_mut() else { return Ok(()) };
                        self.sample(parser, depth + 1, element)?;
                    } else {
                        parser.skip()?;
                    }
                    if depth == 0 && parser.consumed() > self.budget {
                        return Ok(());
                    }
                }
                Ok(())
            }
            _ => {
                // A failed attempt leaves the parser before the value.
                match parser.value_up_to(STRING_BYTES) {
                    Ok(text) => *into = parse(&text).map(|parsed| parsed.value).unwrap_or_default(),
                    Err(PullError::Damaged { .. }) => {
                        parser.skip()?;
                        *into = Value::String(String::new());
                    }
                    Err(error) => return Err(error),
                }
                Ok(())
            }
        }
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
    if let Some(format) = source.format.get() {
        return Ok(*format);
    }
    let probe = FormatProbe::new(source)?;
    let mut readers = Format::ALL.into_iter().map(Format::reader);
    let format = readers.find(|reader| reader.probe(&probe)).map(crate::readers::Reader::format);
    Ok(*source.format.get_or_init(|| format))
}

/// Creates the error for a source that no reader recognizes. Fails if the source cannot be read.
pub(crate) fn unknown_format(source: &Source) -> Result<ImportError, ImportError> {
    let probe = FormatProbe::new(source)?;
    if let Some(format) = UnreadFormat::of(&probe) {
        return Ok(format.error(source));
    }
    let reason = probe.describe();
    Ok(ImportError::UnknownFormat { path: source.name(), reason })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn probe(text: &str) -> FormatProbe {
        FormatProbe::new(&Source::stream(text.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn a_long_first_record_is_read_to_its_end() {
        let picture = "A".repeat(2 * PROBE_BYTES);
        let line = json!({"type": "user", "picture": picture, "uuid": "u"}).to_string();
        for text in [line.clone(), format!("{line}\n{line}\n")] {
            let probe = probe(&text);
            assert_eq!(probe.records()[0]["uuid"], "u");
            assert!(probe.has_key("uuid"));
        }
        let document = json!([{"role": "user", "content": picture}, {"role": "assistant", "tool_calls": []}]);
        let probe = probe(&document.to_string());
        assert_eq!(probe.elements().len(), 2);
        assert_eq!(probe.elements()[1], json!({"role": "assistant", "tool_calls": []}));
    }

    #[test]
    fn fields_before_damage_are_known() {
        let probe = probe(r#"{"info": {"id": 1}, "messages": [{"role": "user"}, {"role": "#);
        assert_eq!(probe.first_object().unwrap()["messages"], json!([{"role": "user"}, {"role": null}]));
    }

    #[test]
    fn long_hostile_texts_take_linear_time() {
        for text in ["{\"a\":", "[", "{\"", "\"", "\0"] {
            let long = text.repeat((4 << 20) / text.len());
            assert!(!probe(&long).has_conversation());
        }
        let fields: String = (0..20_000).map(|number| format!("\"{number}\":0,")).collect();
        assert!(probe(&format!("{{{fields}\"end\":1}}")).has_key("end"));
    }

    #[test]
    fn a_conversation_is_seen_in_any_layout() {
        for text in [
            r#"{"type":"user","message":{"parts":[]}}"#,
            r#"[{"role":"assistant","content":"x"}]"#,
            r#"{"log":[{"sender":"human","text":"x"}]}"#,
        ] {
            assert!(probe(text).has_conversation(), "{text}");
        }
        for text in [r#"{"type":"summary","summary":"x"}"#, r#"{"theme":"dark"}"#, "", "words"] {
            assert!(!probe(text).has_conversation(), "{text}");
        }
    }

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
        examples.extend(samples());
        examples
    }

    /// The real transcripts, if there are any.
    fn samples() -> Vec<(PathBuf, String)> {
        let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples");
        let folder = std::env::var_os("HFS_SAMPLES").map_or_else(default, PathBuf::from);
        let Ok(table) = fs::read(folder.join("expected.json")) else {
            eprintln!("skipped: no samples in {}", folder.display());
            return Vec::new();
        };
        let table: Value = serde_json::from_slice(&table).unwrap();
        let files = table["files"].as_object().unwrap();
        files
            .iter()
            .map(|(name, expected)| (folder.join(name), expected["format"].as_str().unwrap().to_owned()))
            .collect()
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
        // Their examples are among the samples, which may be absent.
        let without_own_example = [Format::Llm, Format::Python];
        let missing: Vec<Format> = Format::ALL
            .into_iter()
            .filter(|format| !found.contains(format) && !without_own_example.contains(format))
            .collect();
        assert_eq!(missing, [], "every other format has an example");
    }
}
