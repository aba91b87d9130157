//! Plugins that come packed: .zip, .tar.gz and .tar.zst, from whoever made them.
//!
//! Only plain files and folders are taken, only below the folder that they are unpacked to, and no more of them than
//! a plugin may have. What has anything else in it is refused as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use crate::content::{DEEPEST, MOST_BYTES, MOST_FILES};
use crate::grants::private;
use crate::manifest::MANIFEST;

/// What an archive may have beside its files' bytes: names, and the room between them.
const MOST_PACKING: u64 = 8 << 20;

/// Unpacks an archive into a folder that is empty, and returns where in it the plugin is: there, or in the only
/// folder with a manifest. When it fails, what it has unpacked by then is still in the folder.
///
/// # Errors
/// Why it cannot be a plugin's, on one line.
pub fn unpack(archive: &Path, into: &Path) -> Result<PathBuf, String> {
    let mut file = File::open(archive).map_err(|error| format!("it cannot be opened: {error}"))?;
    let bytes = file.metadata().map_err(|error| format!("it cannot be read: {error}"))?;
    if !bytes.is_file() || bytes.len() > MOST_BYTES {
        return Err(format!("it is no file of at most {} MiB", MOST_BYTES >> 20));
    }
    let mut head = Vec::new();
    let read = Read::by_ref(&mut file).take(4).read_to_end(&mut head).and_then(|_| file.rewind());
    read.map_err(|error| format!("it cannot be read: {error}"))?;
    let mut unpacking = Unpacking { into, bytes: 0, entries: 0 };
    let file = BufReader::new(file);
    match head.as_slice() {
        [b'P', b'K', 3, 4] => unpacking.zip(file)?,
        [0x1f, 0x8b, ..] => unpacking.tar(flate2::bufread::MultiGzDecoder::new(file))?,
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let decoder = zstd::stream::Decoder::with_buffer(file);
            unpacking.tar(decoder.map_err(|error| damaged(&error))?)?;
        }
        _ => return Err("it is no .zip, .tar.gz or .tar.zst".into()),
    }
    root(into)
}

fn damaged(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    format!("the archive is damaged: {}", text.lines().next().unwrap_or_default())
}

/// Archives have their files at the top, or in one folder there.
fn root(into: &Path) -> Result<PathBuf, String> {
    if into.join(MANIFEST).is_file() {
        return Ok(into.to_path_buf());
    }
    let entries = fs::read_dir(into).map_err(|error| format!("it cannot be read: {error}"))?;
    let mut folders =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.join(MANIFEST).is_file());
    match (folders.next(), folders.next()) {
        (Some(folder), None) => Ok(folder),
        (None, _) => Err(format!("it has no {MANIFEST}, neither at the top nor in a folder there")),
        (Some(_), Some(_)) => Err(format!("it has more than one folder with a {MANIFEST}")),
    }
}

struct Unpacking<'a> {
    into: &'a Path,
    bytes: u64,
    entries: usize,
}

impl Unpacking<'_> {
    fn zip(&mut self, file: impl Read + Seek) -> Result<(), String> {
        let mut archive = zip::ZipArchive::new(file).map_err(|error| damaged(&error))?;
        for index in 0..archive.len() {
            let entry = archive.by_index(index).map_err(|error| damaged(&error))?;
            let name = str::from_utf8(entry.name_raw()).map_err(|_| NO_TEXT.to_owned())?.to_owned();
            if entry.is_dir() {
                self.folder(&name)?;
            } else if entry.is_symlink() || !entry.unix_mode().is_none_or(is_plain) {
                return Err(strange(&name));
            } else {
                self.file(&name, entry)?;
            }
        }
        Ok(())
    }

    fn tar(&mut self, packed: impl Read) -> Result<(), String> {
        // Whatever the stream says of itself, no more of it than this is ever unpacked.
        let mut archive = tar::Archive::new(packed.take(MOST_BYTES + MOST_PACKING));
        for entry in archive.entries().map_err(|error| damaged(&error))? {
            let entry = entry.map_err(|error| damaged(&error))?;
            let kind = entry.header().entry_type();
            if kind.is_pax_global_extensions() {
                continue;
            }
            let name = str::from_utf8(&entry.path_bytes()).map_err(|_| NO_TEXT.to_owned())?.to_owned();
            if kind.is_dir() {
                self.folder(&name)?;
            } else if kind.is_file() {
                self.file(&name, entry)?;
            } else {
                return Err(strange(&name));
            }
        }
        Ok(())
    }

    fn folder(&mut self, name: &str) -> Result<(), String> {
        let path = self.place(name)?;
        fs::create_dir_all(path).map_err(|error| format!("{name:?} cannot be unpacked: {error}"))
    }

    fn file(&mut self, name: &str, bytes: impl Read) -> Result<(), String> {
        let path = self.place(name)?;
        let told = |error: io::Error| format!("{name:?} cannot be unpacked: {error}");
        fs::create_dir_all(path.parent().unwrap_or(self.into)).map_err(told)?;
        // A name that comes twice is refused: which of the two is meant depends on who looks.
        let mut options = OpenOptions::new();
        let mut file = private(options.write(true).create_new(true)).open(&path).map_err(told)?;
        let left = MOST_BYTES - self.bytes.min(MOST_BYTES);
        let copied = io::copy(&mut bytes.take(left + 1), &mut file);
        self.bytes += copied.map_err(|error| damaged(&error))?;
        if self.bytes > MOST_BYTES {
            return Err(format!("it unpacks to more than {} MiB", MOST_BYTES >> 20));
        }
        Ok(())
    }

    /// Where an entry goes: below the folder, whatever its name says.
    fn place(&mut self, name: &str) -> Result<PathBuf, String> {
        self.entries += 1;
        if self.entries > MOST_FILES {
            return Err(format!("it has more than {MOST_FILES} files"));
        }
        let mut path = self.into.to_path_buf();
        let is_strange = |part: &str| part == ".." || part.contains(['\\', ':', '\0']);
        if name.starts_with('/') || name.split('/').any(is_strange) {
            return Err(format!("{name:?} leads out of the archive"));
        }
        let parts = name.split('/').filter(|part| !matches!(*part, "" | "."));
        for (depth, part) in parts.enumerate() {
            if depth > DEEPEST {
                return Err(format!("its folders are more than {DEEPEST} deep"));
            }
            path.push(part);
        }
        Ok(path)
    }
}

const NO_TEXT: &str = "it has a file whose name is no text";

fn strange(name: &str) -> String {
    format!("{name:?} is neither a plain file nor a folder")
}

/// Whether a Unix mode is a plain file's, or says nothing about that.
const fn is_plain(mode: u32) -> bool {
    matches!(mode & 0o170_000, 0 | 0o100_000)
}

#[cfg(test)]
mod tests;
