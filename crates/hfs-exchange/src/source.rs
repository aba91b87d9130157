//! The input of an import: a file, a folder or a stream.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use hfs_core::{ImportError, Timestamp};
use tempfile::NamedTempFile;

use crate::decompress::{decompressed, is_compressed, uncompressed_name};

/// A stream is buffered in memory up to this size. A longer one is written to a temporary file.
const SPOOL_IN_MEMORY: u64 = 8 << 20;

/// An input that contains one or more sessions: a file, a folder that a reader imports as a whole, or a
/// stream.
#[derive(Debug)]
pub struct Source {
    data: Data,
    companions: Vec<PathBuf>,
    /// Where compressed content could not be read, once that has been found.
    damage: OnceLock<String>,
}

#[derive(Debug)]
enum Data {
    Path(PathBuf),
    Memory(Vec<u8>),
    Spooled(NamedTempFile),
}

impl Source {
    fn new(data: Data) -> Self {
        Self { data, companions: Vec::new(), damage: OnceLock::new() }
    }

    /// A file, or a folder that a reader imports as a whole.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::new(Data::Path(path.into()))
    }

    /// Adds files that belong to the same session, such as the transcripts of subagents.
    #[must_use]
    pub fn with_companions(mut self, companions: Vec<PathBuf>) -> Self {
        self.companions = companions;
        self
    }

    /// Reads a stream, such as standard input, to its end and buffers it, because some readers read a source
    /// twice.
    ///
    /// # Errors
    /// Returns any error of the stream, or of creating a temporary file.
    pub fn stream(mut input: impl Read) -> io::Result<Self> {
        let mut memory = Vec::new();
        input.by_ref().take(SPOOL_IN_MEMORY).read_to_end(&mut memory)?;
        if (memory.len() as u64) < SPOOL_IN_MEMORY {
            return Ok(Self::new(Data::Memory(memory)));
        }
        let mut file = NamedTempFile::new()?;
        file.write_all(&memory)?;
        io::copy(&mut input, &mut file)?;
        file.flush()?;
        Ok(Self::new(Data::Spooled(file)))
    }

    /// Path of the file or folder; `None` for a stream.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.data {
            Data::Path(path) => Some(path),
            Data::Memory(_) | Data::Spooled(_) => None,
        }
    }

    /// Other files that belong to the same session.
    #[must_use]
    pub fn companions(&self) -> &[PathBuf] {
        &self.companions
    }

    /// The name in error messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.path().map_or_else(|| "standard input".to_owned(), |path| path.display().to_string())
    }

    /// The file name without its extension and without that of a compression; `None` for a stream.
    pub(crate) fn stem(&self) -> Option<String> {
        let name = self.path()?.file_name()?.to_string_lossy();
        let name = uncompressed_name(&name);
        Some(name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_owned())
    }

    /// Size in bytes, before decompression; 0 for a folder.
    pub fn bytes(&self) -> u64 {
        let metadata = match &self.data {
            Data::Memory(memory) => return memory.len() as u64,
            Data::Path(path) => std::fs::metadata(path),
            Data::Spooled(file) => file.as_file().metadata(),
        };
        metadata.map_or(0, |metadata| if metadata.is_file() { metadata.len() } else { 0 })
    }

    /// Time of the last modification; `None` for a stream or a folder.
    #[must_use]
    pub fn modified_at(&self) -> Option<Timestamp> {
        let metadata = std::fs::metadata(self.path()?).ok().filter(std::fs::Metadata::is_file)?;
        let since = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Timestamp::from_millis(i64::try_from(since.as_millis()).ok()?)
    }

    /// Opens the content from its beginning, decompressing zstd and gzip. Content that is damaged ends there; see
    /// [`damage`](Self::damage).
    pub(crate) fn open(&self) -> Result<Box<dyn Read + Send + '_>, ImportError> {
        self.try_open().map_err(|source| self.io(source))
    }

    fn try_open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        match &self.data {
            Data::Memory(memory) => decompressed(Cursor::new(memory), &self.damage),
            Data::Path(path) => decompressed(File::open(path)?, &self.damage),
            Data::Spooled(file) => decompressed(file.reopen()?, &self.damage),
        }
    }

    /// Why compressed content ended early, if a reading of it has found that.
    pub(crate) fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    /// Whether the content is compressed.
    pub(crate) fn is_compressed(&self) -> Result<bool, ImportError> {
        let compressed = match &self.data {
            Data::Memory(memory) => is_compressed(&mut Cursor::new(memory)),
            Data::Path(path) => File::open(path).and_then(|mut file| is_compressed(&mut file)),
            Data::Spooled(file) => file.reopen().and_then(|mut file| is_compressed(&mut file)),
        };
        compressed.map_err(|error| self.io(error))
    }

    /// Opens the source as a zip archive.
    pub(crate) fn archive(&self) -> Result<zip::ZipArchive<Box<dyn ReadSeek + '_>>, ImportError> {
        let input: Box<dyn ReadSeek + '_> = match &self.data {
            Data::Memory(memory) => Box::new(Cursor::new(memory)),
            Data::Path(path) => Box::new(BufReader::new(File::open(path).map_err(|error| self.io(error))?)),
            Data::Spooled(file) => Box::new(BufReader::new(file.reopen().map_err(|error| self.io(error))?)),
        };
        zip::ZipArchive::new(input).map_err(|error| self.damaged(error.to_string()))
    }

    /// The error for a failed read of this source.
    pub(crate) fn io(&self, source: io::Error) -> ImportError {
        ImportError::Io { path: self.name(), source }
    }

    /// The error for content that cannot be imported.
    pub(crate) fn damaged(&self, reason: impl Into<String>) -> ImportError {
        ImportError::Damaged { path: self.name(), reason: reason.into() }
    }
}

/// A seekable reader.
pub(crate) trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &Source) -> Vec<u8> {
        let mut bytes = Vec::new();
        source.open().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_stream_can_be_read_twice_whatever_its_length() {
        for length in [0, 10, usize::try_from(SPOOL_IN_MEMORY).unwrap() + 5] {
            let bytes = vec![b'x'; length];
            let source = Source::stream(&bytes[..]).unwrap();
            assert_eq!(source.bytes(), length as u64);
            assert!(read(&source) == bytes);
            assert!(read(&source) == bytes);
        }
    }

    #[test]
    fn compressed_input_is_read_like_any_other() {
        let source = Source::stream(&zstd::encode_all(&b"{}\n"[..], 3).unwrap()[..]).unwrap();
        assert_eq!(read(&source), b"{}\n");
        assert!(source.is_compressed().unwrap());
    }

    #[test]
    fn a_stem_has_no_extension() {
        assert_eq!(Source::file("/a/rollout-1.jsonl.zst").stem().as_deref(), Some("rollout-1"));
        assert_eq!(Source::file("/a/x.jsonl.gz").stem().as_deref(), Some("x"));
        assert_eq!(Source::file("/a/x.chat.md").stem().as_deref(), Some("x.chat"));
    }
}
