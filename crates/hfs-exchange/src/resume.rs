//! Resume points: what a reader keeps so that it can continue when its file has grown.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Source;
use crate::source::READERS_VERSION;

/// Number of bytes at the beginning of the file, and of bytes before the resume point, that show that the file has not been
/// rewritten.
const COMPARED_BYTES: u64 = 4096;
/// The states of large transcripts are repetitive. Higher levels take longer than a small import.
const COMPRESSION_LEVEL: i32 = 1;

/// Where a file continues after a resume point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LineStart {
    /// Number of the next line, counted from 1.
    pub line: u64,
    /// Its offset in bytes.
    pub offset: u64,
}

impl LineStart {
    /// The beginning of a file.
    pub(crate) const BEGINNING: Self = Self { line: 1, offset: 0 };
}

/// The fields of a record in the state of a reader. They are stored as JSON text, because the encoding of states has no values
/// of unknown types.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct StoredFields(pub Map<String, Value>);

impl From<StoredFields> for String {
    fn from(StoredFields(fields): StoredFields) -> Self {
        Value::Object(fields).to_string()
    }
}

impl TryFrom<String> for StoredFields {
    type Error = serde_json::Error;

    fn try_from(json: String) -> Result<Self, Self::Error> {
        serde_json::from_str(&json).map(Self)
    }
}

/// A resume point as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredPoint {
    /// Version and name of the reader. Another one reads the file from its beginning.
    reader: String,
    file: FileState,
    /// State of the reader, compressed.
    state: Vec<u8>,
}

/// Identifies a file up to a resume point.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct FileState {
    /// Device and inode: a program that replaces a file writes another one.
    identity: (u64, u64),
    /// Number of bytes before the resume point.
    length: u64,
    /// Hash of the beginning of the file, and of the last bytes before the resume point.
    hash: [u8; 32],
}

impl FileState {
    /// The state of the first `length` bytes; `None` if the file is shorter, or is not a text in UTF-8.
    fn of(file: &mut File, length: u64) -> io::Result<Option<Self>> {
        let metadata = file.metadata()?;
        if metadata.len() < length {
            return Ok(None);
        }
        let mut compared = Vec::new();
        file.by_ref().take(COMPARED_BYTES.min(length)).read_to_end(&mut compared)?;
        // A compressed file begins with other bytes, and so does UTF-16, whose second byte is zero.
        if compared.first() != Some(&b'{') || compared.get(1) == Some(&0) {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(length.saturating_sub(COMPARED_BYTES)))?;
        file.take(COMPARED_BYTES.min(length)).read_to_end(&mut compared)?;
        let identity = {
            use std::os::unix::fs::MetadataExt as _;
            (metadata.dev(), metadata.ino())
        };
        Ok(Some(Self { identity, length, hash: *blake3::hash(&compared).as_bytes() }))
    }
}

fn reader(name: &str) -> String {
    format!("{} {READERS_VERSION} {name}", env!("CARGO_PKG_VERSION"))
}

/// Encodes the state of a reader at this offset. `None` if the source cannot be continued: a stream, a compressed file or UTF-16.
pub(crate) fn encode(source: &Source, offset: u64, name: &str, state: &impl Serialize) -> Option<Vec<u8>> {
    let file = FileState::of(&mut source.plain_file().ok()?, offset).ok()??;
    let mut encoder = zstd::Encoder::new(Vec::new(), COMPRESSION_LEVEL).ok()?;
    // A damaged state must not be taken for another one.
    encoder.include_checksum(true).ok()?;
    let encoder = postcard::to_io(state, encoder).ok()?;
    let state = encoder.finish().ok()?;
    postcard::to_stdvec(&StoredPoint { reader: reader(name), file, state }).ok()
}

/// The part of a resume point before the state of its reader.
#[derive(Deserialize)]
struct PointHeader {
    reader: String,
    file: FileState,
}

/// The name of the reader that continues at this point. `None` if the source has not only grown since, or if another version of the
/// readers made the point.
pub(crate) fn reader_of(source: &Source, point: &[u8]) -> Option<String> {
    let (header, _) = postcard::take_from_bytes::<PointHeader>(point).ok()?;
    let name = header.reader.strip_prefix(&reader(""))?.to_owned();
    let now = FileState::of(&mut source.plain_file().ok()?, header.file.length).ok()??;
    (now == header.file).then_some(name)
}

/// Decodes the state of a reader. `None` if the source has not only grown since, or if another version of the reader encoded it.
pub(crate) fn decode<S: DeserializeOwned>(source: &Source, name: &str, point: &[u8]) -> Option<S> {
    let StoredPoint { reader: found, file, state } = postcard::from_bytes(point).ok()?;
    if found != reader(name) {
        return None;
    }
    let now = FileState::of(&mut source.plain_file().ok()?, file.length).ok()??;
    let state = zstd::decode_all(state.as_slice()).ok()?;
    (now == file).then(|| postcard::from_bytes(&state).ok()).flatten()
}

/// The versions of the sessions in a source with many, by their ids. A session with the same version has not changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionVersions(pub BTreeMap<String, u64>);

impl SessionVersions {
    /// Encodes the versions that the reader of this name has found.
    pub(crate) fn encode(&self, name: &str) -> Option<Vec<u8>> {
        let mut encoder = zstd::Encoder::new(Vec::new(), COMPRESSION_LEVEL).ok()?;
        encoder.include_checksum(true).ok()?;
        postcard::to_io(&(reader(name), self), encoder).ok()?.finish().ok()
    }

    /// `None` if another version of the reader encoded them.
    pub(crate) fn decode(name: &str, bytes: &[u8]) -> Option<Self> {
        let bytes = zstd::decode_all(bytes).ok()?;
        let (found, versions): (String, Self) = postcard::from_bytes(&bytes).ok()?;
        (found == reader(name)).then_some(versions)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn is_continued(path: &Path, point: &[u8]) -> bool {
        decode::<String>(&Source::file(path), "test", point) == Some("state".into())
    }

    #[test]
    fn only_a_file_that_has_grown_is_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let line = |text: &str| format!("{{\"text\": \"{text}\"}}\n");
        let early = line(&"first ".repeat(2000)) + &line(&"second ".repeat(2000));
        std::fs::write(&path, &early).unwrap();
        let point = encode(&Source::file(&path), early.len() as u64, "test", &"state").unwrap();
        assert!(is_continued(&path, &point));
        std::fs::write(&path, early.clone() + &line("third")).unwrap();
        assert!(is_continued(&path, &point));
        assert_eq!(decode::<String>(&Source::file(&path), "other", &point), None, "another reader");
        assert_eq!(reader_of(&Source::file(&path), &point).as_deref(), Some("test"));

        for (what, text) in [
            ("truncated", early.get(..early.len() - 1).unwrap().to_owned()),
            ("rewritten at its beginning", early.replacen("first", "other", 1) + &line("third")),
            ("rewritten at the resume point", early.replace("second", "2-cond") + &line("third")),
            ("empty", String::new()),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(!is_continued(&path, &point), "{what}");
            assert_eq!(reader_of(&Source::file(&path), &point), None, "{what}");
        }
        {
            let other = folder.path().join("b.jsonl");
            std::fs::write(&other, &early).unwrap();
            std::fs::write(&path, &early).unwrap();
            assert!(is_continued(&path, &point));
            std::fs::rename(&other, &path).unwrap();
            assert!(!is_continued(&path, &point), "replaced");
        }
    }

    #[test]
    fn a_damaged_resume_point_is_not_used() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{}\n").unwrap();
        let source = Source::file(file.path());
        let state: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let point = encode(&source, 3, "test", &state).unwrap();
        assert_eq!(decode::<Vec<String>>(&source, "test", &point), Some(state.clone()));
        for byte in 0..point.len() {
            let mut damaged = point.clone();
            *damaged.get_mut(byte).unwrap() ^= 0x11;
            let read = decode::<Vec<String>>(&source, "test", &damaged);
            assert!(read.is_none() || read.as_ref() == Some(&state), "byte {byte}");
        }
    }

    #[test]
    fn a_compressed_file_a_stream_and_utf_16_have_no_resume_point() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let utf16: Vec<u8> = "{}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [zstd::encode_all(&b"{}\n"[..], 3).unwrap(), utf16, b"text\n".to_vec()] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(encode(&Source::file(&path), 3, "test", &"state"), None);
        }
        let stream = Source::stream(&b"{}\n"[..]).unwrap();
        assert_eq!(encode(&stream, 3, "test", &"state"), None);
    }
}
