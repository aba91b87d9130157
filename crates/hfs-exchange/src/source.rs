//! The input of an import: a file, a folder or a stream.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use hfs_core::{ImportError, Timestamp};

use serde_json::{Map, Value};

use crate::Format;
use crate::database::SalvagedDatabase;
use crate::decompress::{decompressed, is_compressed, uncompressed_name, uncompressed_path};
use crate::json::lines::MAX_LINE;

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
    links: Links,
    /// Number of bytes after which the content ends for readers, although the file is longer.
    end: Option<u64>,
    /// Number of bytes of content that readers have read.
    bytes_read: AtomicU64,
    fingerprint: OnceLock<Option<[u8; 32]>>,
    /// The format, once it has been detected.
    pub(crate) format: OnceLock<Option<Format>>,
    /// What could be read of a database, once it is known to be damaged.
    salvaged: OnceLock<SalvagedDatabase>,
}

/// Whether a path may be a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// The user named the path.
    Follow,
    /// The path was found in a folder. A link in it may lead to any file of the user.
    Reject,
}

#[derive(Debug)]
enum Data {
    Path(PathBuf),
    Memory(Vec<u8>),
    /// A file without a name, which the operating system removes however the process ends.
    Spooled(File),
}

impl Source {
    const fn new(data: Data) -> Self {
        Self {
            data,
            companions: Vec::new(),
            damage: OnceLock::new(),
            links: Links::Follow,
            end: None,
            bytes_read: AtomicU64::new(0),
            fingerprint: OnceLock::new(),
            format: OnceLock::new(),
            salvaged: OnceLock::new(),
        }
    }

    /// A file, or a folder that a reader imports as a whole.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::new(Data::Path(path.into()))
    }

    /// A file or folder that was found in a folder. It is not read if it is a symbolic link.
    pub fn found(path: impl Into<PathBuf>) -> Self {
        Self { links: Links::Reject, ..Self::file(path) }
    }

    /// Adds files that belong to the same session, such as the transcripts of subagents.
    #[must_use]
    pub fn with_companions(mut self, companions: Vec<PathBuf>) -> Self {
        self.companions = companions;
        self
    }

    /// Leaves out the last line if its writer has not ended it. Only for a text of lines in JSON that is not compressed; another
    /// source stays as it is.
    ///
    /// # Errors
    /// Returns any error of the file.
    pub fn without_open_line(mut self) -> io::Result<Self> {
        let Some(path) = self.path().filter(|path| path.extension().is_some_and(|found| found == "jsonl"))
        else {
            return Ok(self);
        };
        let mut file = open_file(path, self.links)?;
        let mut first = Vec::new();
        Read::by_ref(&mut file).take(2).read_to_end(&mut first)?;
        // A compressed file begins with other bytes, and so does UTF-16, whose second byte is zero.
        if first.first() != Some(&b'{') || first.get(1) == Some(&0) {
            return Ok(self);
        }
        let length = file.metadata()?.len();
        let end = end_of_last_line(&mut file, length)?;
        self.end = (end < length).then_some(end);
        Ok(self)
    }

    /// Takes back the effect of [`without_open_line`](Self::without_open_line).
    #[must_use]
    pub fn with_open_line(mut self) -> Self {
        self.end = None;
        self
    }

    /// Number of bytes of the last line, if [`without_open_line`](Self::without_open_line) has left it out.
    #[must_use]
    pub fn open_line(&self) -> Option<u64> {
        self.end.map(|end| self.file_length().saturating_sub(end))
    }

    /// Whether the line that was left out is a whole record, so that only the end of the line is missing.
    #[must_use]
    pub fn ends_with_record(&self) -> bool {
        let Some(end) = self.end else { return false };
        let mut line = Vec::new();
        let read = self.plain_file().and_then(|mut file| {
            file.seek(SeekFrom::Start(end))?;
            file.take(MAX_LINE as u64).read_to_end(&mut line)
        });
        // The beginning of an object is never an object.
        read.is_ok() && serde_json::from_slice::<Map<String, Value>>(&line).is_ok()
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
        let mut file = tempfile::tempfile()?;
        file.write_all(&memory)?;
        io::copy(&mut input, &mut file)?;
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

    /// Number of bytes of content that were read up to now, including what was read more than once. The content of databases,
    /// archives and companions is not counted.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// The files and folders whose states show whether the source has changed. They may not exist.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let Some(path) = self.path() else { return Vec::new() };
        let mut files = vec![path.to_owned()];
        files.extend(self.other_files(path, path.is_dir()));
        files
    }

    /// The [files](Self::files) apart from `path`, which is the source's own.
    fn other_files(&self, path: &Path, is_folder: bool) -> Vec<PathBuf> {
        let mut files = Vec::new();
        if is_folder {
            list_folder(path, 0, &mut files);
            files.extend(OPENCODE_BESIDE_STORAGE.map(|name| path.with_file_name(name)));
            return files;
        }
        for companion in &self.companions {
            files.extend([companion.clone(), file_about(companion)]);
        }
        let storage = path.with_file_name("storage");
        if is_opencode_database(path) && is_real_folder(&storage) {
            list_folder(&storage, 0, &mut files);
            files.push(storage);
        }
        files.extend(files_next_to(path));
        files
    }

    /// Hash of the size, times and identity of its [files](Self::files). Unlike the [fingerprint](Self::fingerprint), it opens no
    /// file, and does not depend on the version of the readers.
    #[must_use]
    pub fn metadata_hash(&self) -> u64 {
        self.metadata_hash_with(&mut Subfolders::default())
    }

    /// Like [`metadata_hash`](Self::metadata_hash), for many sources of the same folders.
    #[must_use]
    pub fn metadata_hash_with(&self, subfolders: &mut Subfolders) -> u64 {
        let mut hasher = blake3::Hasher::new();
        let Some(path) = self.path() else { return short_hash(&hasher) };
        // A link that the user named is read, so the file that it leads to counts.
        let metadata = match self.links {
            Links::Follow => std::fs::metadata(path),
            Links::Reject => std::fs::symlink_metadata(path),
        };
        if let Ok(metadata) = &metadata {
            hash_metadata(&mut hasher, path, metadata);
        }
        let is_folder = metadata.is_ok_and(|metadata| metadata.is_dir());
        for file in self.other_files(path, is_folder) {
            if subfolders.may_contain(&file)
                && let Ok(metadata) = std::fs::symlink_metadata(&file)
            {
                hash_metadata(&mut hasher, &file, &metadata);
            }
        }
        short_hash(&hasher)
    }

    /// Size in bytes, before decompression; 0 for a folder.
    pub fn bytes(&self) -> u64 {
        self.end.unwrap_or_else(|| self.file_length())
    }

    fn file_length(&self) -> u64 {
        let metadata = match &self.data {
            Data::Memory(memory) => return memory.len() as u64,
            Data::Path(path) => std::fs::metadata(path),
            Data::Spooled(file) => file.metadata(),
        };
        metadata.map_or(0, |metadata| if metadata.is_file() { metadata.len() } else { 0 })
    }

    /// Time of the last modification; `None` for a stream or a folder.
    #[must_use]
    pub fn modified_at(&self) -> Option<Timestamp> {
        let metadata = std::fs::metadata(self.path()?).ok().filter(Metadata::is_file)?;
        let since = metadata.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Timestamp::from_millis(i64::try_from(since.as_millis()).ok()?)
    }

    /// Identifies the state of the source: the size, times and identity of its files, and the last bytes of the first one. Also the
    /// readers, which may find more in the same file in another version. `None` for a stream, and if a file cannot be read.
    ///
    /// The first call computes it. A call before the source is read therefore identifies a state that is not newer than what is
    /// read.
    #[must_use]
    pub fn fingerprint(&self) -> Option<[u8; 32]> {
        *self.fingerprint.get_or_init(|| self.compute_fingerprint().ok().flatten())
    }

    fn compute_fingerprint(&self) -> io::Result<Option<[u8; 32]>> {
        let Data::Path(path) = &self.data else { return Ok(None) };
        let mut hasher = blake3::Hasher::new();
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes()).update(&READERS_VERSION.to_le_bytes());
        if path.is_dir() {
            hash_folder(&mut hasher, path, 0)?;
            // The reader of opencode's storage folder also reads the database beside it.
            for beside in OPENCODE_BESIDE_STORAGE.map(|name| path.with_file_name(name)) {
                if let Ok(metadata) = std::fs::symlink_metadata(&beside) {
                    hash_metadata(&mut hasher, &beside, &metadata);
                }
            }
            return Ok(Some(*hasher.finalize().as_bytes()));
        }
        let mut file = open_file(path, self.links)?;
        let metadata = file.metadata()?;
        hash_metadata(&mut hasher, path, &metadata);
        if let Some(end) = self.end {
            hasher.update(&end.to_le_bytes());
        }
        file.seek(SeekFrom::Start(metadata.len().saturating_sub(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut tail)?;
        hasher.update(&tail);
        for companion in &self.companions {
            hasher.update(&companion_state(companion)?);
        }
        // The reader of opencode's database also reads the older storage folder beside it.
        let storage = path.with_file_name("storage");
        if is_opencode_database(path) && is_real_folder(&storage) {
            hash_folder(&mut hasher, &storage, 0)?;
        }
        for other in files_next_to(path) {
            if let Ok(metadata) = std::fs::symlink_metadata(&other) {
                hash_metadata(&mut hasher, &other, &metadata);
            }
        }
        Ok(Some(*hasher.finalize().as_bytes()))
    }

    /// Opens the content from its beginning, decompressing zstd and gzip, and converting UTF-16 to UTF-8. Content that is damaged
    /// ends there; see [`damage`](Self::damage).
    pub(crate) fn open(&self) -> Result<Box<dyn Read + Send + '_>, ImportError> {
        self.try_open().map_err(|source| self.io(source))
    }

    fn try_open(&self) -> io::Result<Box<dyn Read + Send + '_>> {
        let input = match &self.data {
            Data::Memory(memory) => decompressed(Cursor::new(memory), &self.damage),
            Data::Path(path) => decompressed(open_file(path, self.links)?, &self.damage),
            Data::Spooled(file) => decompressed(SpooledReader::new(file), &self.damage),
        };
        Ok(self.counted(input?, 0))
    }

    /// Counts what is read of the content from this offset on, up to its end.
    fn counted<'s>(&'s self, input: impl Read + Send + 's, offset: u64) -> Box<dyn Read + Send + 's> {
        let left = self.end.map_or(u64::MAX, |end| end.saturating_sub(offset));
        Box::new(CountedReader { input: input.take(left), bytes_read: &self.bytes_read })
    }

    /// Opens the content at this offset. It must be a file that is neither compressed nor UTF-16.
    pub(crate) fn open_from(&self, offset: u64) -> Result<Box<dyn Read + Send + '_>, ImportError> {
        let mut file = self.plain_file().map_err(|error| self.io(error))?;
        file.seek(SeekFrom::Start(offset)).map_err(|error| self.io(error))?;
        Ok(self.counted(file, offset))
    }

    /// The file as it is on the disk.
    pub(crate) fn plain_file(&self) -> io::Result<File> {
        match &self.data {
            Data::Path(path) => open_file(path, self.links),
            Data::Memory(_) | Data::Spooled(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Why compressed content ended early, if a reading of it has found that.
    pub(crate) fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    /// Copies what can be read of a damaged database, which is used from now on. Returns false if it was done before.
    pub(crate) fn salvage_database(&self) -> Result<bool, ImportError> {
        if self.salvaged.get().is_some() {
            return Ok(false);
        }
        let salvaged = SalvagedDatabase::new(self)?;
        // Sources are not shared among threads, and the damage of a compressed database is already known.
        let _ = self.damage.set(salvaged.damage());
        Ok(self.salvaged.set(salvaged).is_ok())
    }

    /// What could be read of a damaged database.
    pub(crate) fn salvaged_database(&self) -> Option<&SalvagedDatabase> {
        self.salvaged.get()
    }

    /// Whether the content is compressed.
    pub(crate) fn is_compressed(&self) -> Result<bool, ImportError> {
        let compressed = match &self.data {
            Data::Memory(memory) => is_compressed(&mut Cursor::new(memory)),
            Data::Path(path) => open_file(path, self.links).and_then(|mut file| is_compressed(&mut file)),
            Data::Spooled(file) => is_compressed(&mut SpooledReader::new(file)),
        };
        compressed.map_err(|error| self.io(error))
    }

    /// Opens the source as a zip archive.
    pub(crate) fn archive(&self) -> Result<zip::ZipArchive<Box<dyn ReadSeek + '_>>, ImportError> {
        let input: Box<dyn ReadSeek + '_> = match &self.data {
            Data::Memory(memory) => Box::new(Cursor::new(memory)),
            Data::Path(path) => {
                let file = open_file(path, self.links).map_err(|error| self.io(error))?;
                Box::new(BufReader::new(file))
            }
            Data::Spooled(file) => Box::new(BufReader::new(SpooledReader::new(file))),
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

/// Increased when a reader finds something else in the same file.
pub(crate) const READERS_VERSION: u32 = 6;
/// Number of bytes at the end of a file that identify its state. The times of a file may be too coarse to show a change.
const TAIL_BYTES: u64 = 4096;
/// Maximum depth of a folder that is imported as a whole.
const MAX_DEPTH: usize = 16;

fn hash_metadata(hasher: &mut blake3::Hasher, path: &Path, metadata: &Metadata) {
    use std::os::unix::fs::MetadataExt as _;

    let name = path.as_os_str().as_encoded_bytes();
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name).update(&metadata.len().to_le_bytes());
    let modified = metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    hasher.update(&modified.map_or(0, |since| since.as_nanos()).to_le_bytes());
    let identity =
        [metadata.dev().cast_signed(), metadata.ino().cast_signed(), metadata.ctime(), metadata.ctime_nsec()];
    for number in identity {
        hasher.update(&number.to_le_bytes());
    }
}

/// The files beside opencode's storage folder that its reader reads.
const OPENCODE_BESIDE_STORAGE: [&str; 2] = ["opencode.db", "opencode.db-wal"];

fn is_opencode_database(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "opencode.db")
}

fn is_real_folder(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// The file about a companion.
fn file_about(companion: &Path) -> PathBuf {
    uncompressed_path(companion).with_extension("meta.json")
}

/// What readers look for next to a file: the log of a database, the folder with long tool results, and files about the session.
fn files_next_to(path: &Path) -> Vec<PathBuf> {
    let transcript = uncompressed_path(path);
    let mut files = if transcript.extension().is_some_and(|found| found == "jsonl" || found == "json") {
        vec![transcript.with_extension("").join("tool-results")]
    } else {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        vec![PathBuf::from(log)]
    };
    files.extend(crate::readers::files_beside(path));
    files
}

/// Which folders are in the folders of transcripts.
///
/// Most transcripts have no folder beside them, where their tool may have put files. For many transcripts, listing their common folder
/// once takes less time than to ask for a file in each of these folders.
#[derive(Debug, Default)]
pub struct Subfolders {
    /// By the folder that contains them.
    known: HashMap<PathBuf, KnownFolder>,
}

#[derive(Debug)]
enum KnownFolder {
    /// Number of files that were looked for in its folders.
    Counted(usize),
    /// Its folders, and what may be one; `None` if it cannot be listed.
    Listed(Option<HashSet<OsString>>),
}

impl Subfolders {
    /// Number of files that are looked for without a listing, which takes about four requests to the system.
    const UNLISTED: usize = 4;

    /// Whether the folder of this file may exist. It is listed with the other folders beside it when several files are looked for.
    fn may_contain(&mut self, file: &Path) -> bool {
        let Some(folder) = file.parent() else { return true };
        let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else { return true };
        let known = match self.known.get_mut(parent) {
            Some(known) => known,
            None => self.known.entry(parent.to_owned()).or_insert(KnownFolder::Counted(0)),
        };
        match known {
            KnownFolder::Counted(files) if *files < Self::UNLISTED => {
                *files += 1;
                true
            }
            KnownFolder::Counted(_) => {
                let folders = folders_in(parent).ok();
                let may_exist = folders.as_ref().is_none_or(|folders| folders.contains(name));
                *known = KnownFolder::Listed(folders);
                may_exist
            }
            KnownFolder::Listed(folders) => folders.as_ref().is_none_or(|folders| folders.contains(name)),
        }
    }
}

/// The names in a folder that are not those of files.
fn folders_in(folder: &Path) -> io::Result<HashSet<OsString>> {
    let mut folders = HashSet::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type().is_ok_and(|found| found.is_file()) {
            folders.insert(entry.file_name());
        }
    }
    Ok(folders)
}

/// Adds everything in a folder.
fn list_folder(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if depth < MAX_DEPTH && entry.file_type().is_ok_and(|found| found.is_dir()) {
            list_folder(&path, depth + 1, files);
        }
        files.push(path);
    }
}

/// The offset after the last line feed of a file; 0 without one.
fn end_of_last_line(file: &mut File, length: u64) -> io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let mut end = length;
    let mut block = Vec::new();
    // Usually, the last byte is a line feed.
    let mut size = 1;
    while end > 0 {
        let start = end.saturating_sub(size);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        Read::by_ref(file).take(end - start).read_to_end(&mut block)?;
        if let Some(at) = memchr::memrchr(b'\n', &block) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
        size = BLOCK;
    }
    Ok(0)
}

/// Counts the bytes that are read.
struct CountedReader<'s, R> {
    input: io::Take<R>,
    bytes_read: &'s AtomicU64,
}

impl<R: Read> Read for CountedReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Hash of the size, times and identity of a file or folder itself. `None` if it does not exist.
#[must_use]
pub fn metadata_hash(path: &Path) -> Option<u64> {
    let mut hasher = blake3::Hasher::new();
    hash_metadata(&mut hasher, path, &std::fs::metadata(path).ok()?);
    Some(short_hash(&hasher))
}

fn short_hash(hasher: &blake3::Hasher) -> u64 {
    hasher.finalize().as_bytes().first_chunk().copied().map_or(0, u64::from_le_bytes)
}

/// The version of the readers. What an older one has read may have to be read again.
#[must_use]
pub fn readers_version() -> String {
    format!("{} {READERS_VERSION}", env!("CARGO_PKG_VERSION"))
}

/// Identifies the state of a companion and of the file about it.
fn companion_state(path: &Path) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    hash_metadata(&mut hasher, path, &std::fs::symlink_metadata(path)?);
    let about = file_about(path);
    if let Ok(metadata) = std::fs::symlink_metadata(&about) {
        hash_metadata(&mut hasher, &about, &metadata);
    }
    Ok(*hasher.finalize().as_bytes())
}

/// The states of those companions that can be read, by their paths.
pub(crate) fn companion_states(paths: &[PathBuf]) -> HashMap<String, [u8; 32]> {
    let states =
        paths.iter().filter_map(|path| Some((path.display().to_string(), companion_state(path).ok()?)));
    states.collect()
}

fn hash_folder(hasher: &mut blake3::Hasher, folder: &Path, depth: usize) -> io::Result<()> {
    let mut entries = std::fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        hash_metadata(hasher, &entry.path(), &entry.metadata()?);
        if entry.file_type()?.is_dir() && depth < MAX_DEPTH {
            hash_folder(hasher, &entry.path(), depth + 1)?;
        }
    }
    Ok(())
}

/// File systems whose files are not data: reading one may block, have an effect, or reveal secrets of a process.
const PSEUDO_FILE_SYSTEMS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Opens a regular file. Never opens anything else: opening a FIFO or a device can block or have effects.
pub(crate) fn open_file(path: &Path, links: Links) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;

    use rustix::fs::OFlags;

    let rejected = |reason: &str| io::Error::new(io::ErrorKind::InvalidInput, reason);
    let check = |metadata: &Metadata| {
        if metadata.is_symlink() {
            Err(rejected("it is a symbolic link"))
        } else if metadata.is_dir() {
            Err(rejected("it is a folder"))
        } else if !metadata.is_file() {
            Err(rejected("it is not a regular file"))
        } else {
            Ok(())
        }
    };
    check(&match links {
        Links::Follow => std::fs::metadata(path)?,
        Links::Reject => std::fs::symlink_metadata(path)?,
    })?;
    let real = path.canonicalize()?;
    if PSEUDO_FILE_SYSTEMS.iter().any(|root| real.starts_with(root)) {
        return Err(rejected("it is not a file on a disk"));
    }
    // The path may have been replaced since the check: the flags keep the call from blocking, and the file that was opened is
    // checked again.
    let flags = match links {
        Links::Follow => OFlags::NONBLOCK,
        Links::Reject => OFlags::NONBLOCK | OFlags::NOFOLLOW,
    };
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

/// Opens a regular file below a folder. No component of the relative path may be a symbolic link.
pub(crate) fn open_below(folder: &Path, relative: &Path) -> io::Result<File> {
    let mut path = folder.to_owned();
    let mut names = relative.iter().peekable();
    while let Some(name) = names.next() {
        path.push(name);
        if names.peek().is_some() && !std::fs::symlink_metadata(&path)?.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a component of its path is not a folder",
            ));
        }
    }
    open_file(&path, Links::Reject)
}

/// Reads a file by positions of its own, so that several readers can share the file.
struct SpooledReader<'a> {
    file: &'a File,
    position: u64,
}

impl<'a> SpooledReader<'a> {
    const fn new(file: &'a File) -> Self {
        Self { file, position: 0 }
    }
}

impl Read for SpooledReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = std::os::unix::fs::FileExt::read_at(self.file, buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for SpooledReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, offset) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(offset) => (self.position, offset),
            SeekFrom::End(offset) => (self.file.metadata()?.len(), offset),
        };
        let position = base.checked_add_signed(offset);
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
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
    fn a_long_stream_leaves_no_file_with_a_name() {
        let bytes = vec![b'x'; usize::try_from(SPOOL_IN_MEMORY).unwrap() + 5];
        let source = Source::stream(&bytes[..]).unwrap();
        let Data::Spooled(file) = &source.data else { panic!("it is in memory") };
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&file.metadata().unwrap()), 0);
        let (mut one, mut other) = (SpooledReader::new(file), SpooledReader::new(file));
        one.seek(SeekFrom::End(-3)).unwrap();
        let (mut end, mut all) = (Vec::new(), Vec::new());
        one.read_to_end(&mut end).unwrap();
        other.read_to_end(&mut all).unwrap();
        assert_eq!((end.len(), all.len()), (3, bytes.len()));
        assert!(one.seek(SeekFrom::Current(-i64::MAX)).is_err());
    }

    #[test]
    fn a_line_that_has_not_ended_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let state = |text: &[u8]| {
            std::fs::write(&path, text).unwrap();
            let source = Source::file(&path).without_open_line().unwrap();
            let content = read(&source);
            assert_eq!((source.bytes(), source.bytes_read()), (content.len() as u64, content.len() as u64));
            (String::from_utf8(content).unwrap(), source.open_line(), source.ends_with_record())
        };
        assert_eq!(state(b"{}\n{}\n"), ("{}\n{}\n".into(), None, false));
        assert_eq!(state(b"{}\n{\"a\": "), ("{}\n".into(), Some(6), false));
        assert_eq!(state(b"{}\n{\"a\": 1}"), ("{}\n".into(), Some(8), true));
        assert_eq!(state(b"{\"a\""), (String::new(), Some(4), false));
        let long = format!("{{}}\n{{\"a\": \"{}", "x".repeat(200_000));
        assert_eq!(state(long.as_bytes()), ("{}\n".into(), Some(200_007), false));
        assert_eq!(state(b"text"), ("text".into(), None, false));
        let whole = Source::file(&path).fingerprint();
        std::fs::write(&path, "{}\n{").unwrap();
        let cut = Source::file(&path).without_open_line().unwrap().fingerprint();
        assert!(cut != Source::file(&path).fingerprint() && cut != whole, "the line is still to be imported");
    }

    #[test]
    fn every_file_that_changes_the_fingerprint_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(path("s/tool-results")).unwrap();
        for name in ["s.jsonl", "agent-1.jsonl", "agent-1.meta.json", "sessions.db", "sessions.db-wal"] {
            std::fs::write(path(name), "one").unwrap();
        }
        let transcript = || Source::file(path("s.jsonl")).with_companions(vec![path("agent-1.jsonl")]);
        let database = || Source::file(path("sessions.db"));
        for name in [
            "s.jsonl",
            "agent-1.jsonl",
            "agent-1.meta.json",
            "s/tool-results/x.txt",
            "sessions.db",
            "sessions.db-wal",
        ] {
            let source = || if name.starts_with("sessions") { database() } else { transcript() };
            let before = (source().fingerprint(), source().metadata_hash());
            std::fs::write(path(name), "longer").unwrap();
            assert_ne!(source().fingerprint(), before.0, "{name}");
            assert_ne!(source().metadata_hash(), before.1, "{name}");
            let listed = |path: &Path| source().files().iter().any(|file| file == path);
            assert!(listed(&path(name)) || listed(path(name).parent().unwrap()), "{name}");
        }
    }

    #[test]
    fn a_link_changes_with_the_file_that_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file.db"), folder.path().join("link.db"));
        std::fs::write(&file, "one").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let hashes = || [Source::file(&link), Source::found(&link)].map(|source| source.metadata_hash());
        let [named, found] = hashes();
        std::fs::write(&file, "longer").unwrap();
        let [named_now, found_now] = hashes();
        assert!(named_now != named && found_now == found);
    }

    #[test]
    fn compressed_input_is_read_like_any_other() {
        let source = Source::stream(&zstd::encode_all(&b"{}\n"[..], 3).unwrap()[..]).unwrap();
        assert_eq!(read(&source), b"{}\n");
        assert!(source.is_compressed().unwrap());
    }

    #[test]
    fn a_fingerprint_changes_with_every_file_of_the_source() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.jsonl");
        let agent = folder.path().join("agent-1.jsonl");
        std::fs::write(&path, "one").unwrap();
        std::fs::write(&agent, "one").unwrap();
        let fingerprint = || Source::file(&path).with_companions(vec![agent.clone()]).fingerprint().unwrap();
        let first = fingerprint();
        assert_eq!(fingerprint(), first);
        std::fs::write(&path, "two").unwrap();
        let second = fingerprint();
        std::fs::write(&agent, "longer").unwrap();
        let third = fingerprint();
        std::fs::create_dir_all(folder.path().join("s/tool-results")).unwrap();
        let fourth = fingerprint();
        let all = std::collections::BTreeSet::from([first, second, third, fourth]);
        assert_eq!(all.len(), 4);
        assert_eq!(Source::stream(&b"one"[..]).unwrap().fingerprint(), None);
        let tree = || Source::file(folder.path()).fingerprint().unwrap();
        let before = tree();
        std::fs::write(folder.path().join("s/tool-results/x.txt"), "text").unwrap();
        assert_ne!(tree(), before);
    }

    #[test]
    fn only_regular_files_are_opened() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};

        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("file"), "text").unwrap();
        std::fs::create_dir(path("folder")).unwrap();
        std::fs::write(path("folder/inside"), "text").unwrap();
        mknodat(CWD, path("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        for (target, link) in
            [("file", "link"), ("fifo", "to-fifo"), ("folder", "to-folder"), ("loop", "loop")]
        {
            std::os::unix::fs::symlink(path(target), path(link)).unwrap();
        }
        let is_opened = |name: &str, links| open_file(&path(name), links).is_ok();
        assert!(is_opened("file", Links::Reject) && is_opened("link", Links::Follow));
        assert!(!is_opened("link", Links::Reject));
        for name in ["fifo", "to-fifo", "folder", "to-folder", "loop"] {
            assert!(!is_opened(name, Links::Follow) && !is_opened(name, Links::Reject), "{name}");
        }
        assert!(open_file(Path::new("/dev/null"), Links::Follow).is_err());
        assert!(open_file(Path::new("/proc/self/environ"), Links::Follow).is_err());
        let below = |relative: &str| open_below(folder.path(), Path::new(relative)).is_ok();
        assert!(below("folder/inside") && !below("to-folder/inside") && !below("fifo/inside"));
    }

    #[test]
    fn a_stem_has_no_extension() {
        assert_eq!(Source::file("/a/rollout-1.jsonl.zst").stem().as_deref(), Some("rollout-1"));
        assert_eq!(Source::file("/a/x.jsonl.gz").stem().as_deref(), Some("x"));
        assert_eq!(Source::file("/a/x.chat.md").stem().as_deref(), Some("x.chat"));
    }
}
