//! Unpacking plugins from `.zip`, `.tar.gz` and `.tar.zst` archives of unknown origin.
//!
//! Only regular files and folders below the target folder are accepted, within the limits of [`super::files`]. An
//! archive with anything else is refused as a whole.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use hfs_files::{create_private_folders, private_options};

use super::files::{MAX_BYTES, MAX_DEPTH, MAX_FILES};
use super::manifest::MANIFEST_FILE;

/// Allowance for headers and padding of a tar stream, on top of [`MAX_BYTES`] of file contents.
const MAX_TAR_OVERHEAD: u64 = 8 << 20;

/// Why an archive cannot be unpacked. The text is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The archive or the target folder cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The archive is larger than a plugin may be, or not a regular file.
    #[error("it is not a file of at most {} MiB", MAX_BYTES >> 20)]
    NotAFile,
    /// The file is not an archive of a known format.
    #[error("it is not a .zip, .tar.gz or .tar.zst archive")]
    UnknownFormat,
    /// The archive ends early or contains invalid data.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// The name of an entry is not UTF-8.
    #[error("it has a file whose name is not UTF-8")]
    NameNotUtf8,
    /// The name of an entry is absolute or contains `..`, `\` or `:`.
    #[error("{0:?} points outside the archive")]
    OutsidePath(String),
    /// An entry is a link, device or pipe.
    #[error("{0:?} is neither a regular file nor a folder")]
    SpecialFile(String),
    /// The contents are larger than a plugin may be.
    #[error("it unpacks to more than {} MiB", MAX_BYTES >> 20)]
    TooLarge,
    /// The archive has more entries than a plugin may have.
    #[error("it has more than {MAX_FILES} files")]
    TooManyFiles,
    /// Folders are nested deeper than in a plugin.
    #[error("its folders are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// An entry cannot be written, for example because its name occurs twice.
    #[error("{name:?} cannot be unpacked: {error}")]
    Write {
        /// Name of the entry.
        name: String,
        /// The error of the file system.
        error: io::Error,
    },
    /// There is no manifest at the top level or in a top-level folder.
    #[error("it has no {MANIFEST_FILE}, neither at the top nor in a folder there")]
    NoManifest,
    /// Several folders have a manifest.
    #[error("it has more than one folder with a {MANIFEST_FILE}")]
    SeveralManifests,
}

/// Unpacks an archive into an empty folder. Returns the folder that holds the manifest: the target folder itself, or
/// the only folder in it that has a manifest.
///
/// # Errors
/// [`ArchiveError`]; the target folder then contains what was unpacked before the error.
pub fn unpack(archive: &Path, target: &Path) -> Result<PathBuf, ArchiveError> {
    let mut file = File::open(archive).map_err(ArchiveError::Read)?;
    let metadata = file.metadata().map_err(ArchiveError::Read)?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(ArchiveError::NotAFile);
    }
    let mut magic = Vec::new();
    let read = Read::by_ref(&mut file).take(4).read_to_end(&mut magic).and_then(|_| file.rewind());
    read.map_err(ArchiveError::Read)?;
    let mut unpacker = Unpacker { target, bytes: 0, entries: 0 };
    let file = BufReader::new(file);
    match magic.as_slice() {
        [b'P', b'K', 3, 4] => unpacker.unpack_zip(file)?,
        [0x1f, 0x8b, ..] => unpacker.unpack_tar(flate2::bufread::MultiGzDecoder::new(file))?,
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let decoder = zstd::stream::Decoder::with_buffer(file);
            unpacker.unpack_tar(decoder.map_err(|error| damaged(&error))?)?;
        }
        _ => return Err(ArchiveError::UnknownFormat),
    }
    find_root(target)
}

fn damaged(error: &dyn std::error::Error) -> ArchiveError {
    let text = error.to_string();
    ArchiveError::Damaged(text.lines().next().unwrap_or_default().to_owned())
}

fn find_root(target: &Path) -> Result<PathBuf, ArchiveError> {
    if target.join(MANIFEST_FILE).is_file() {
        return Ok(target.to_path_buf());
    }
    let entries = fs::read_dir(target).map_err(ArchiveError::Read)?;
    let mut folders =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.join(MANIFEST_FILE).is_file());
    match (folders.next(), folders.next()) {
        (Some(folder), None) => Ok(folder),
        (None, _) => Err(ArchiveError::NoManifest),
        (Some(_), Some(_)) => Err(ArchiveError::SeveralManifests),
    }
}

struct Unpacker<'a> {
    target: &'a Path,
    bytes: u64,
    entries: usize,
}

impl Unpacker<'_> {
    fn unpack_zip(&mut self, file: impl Read + Seek) -> Result<(), ArchiveError> {
        let mut archive = zip::ZipArchive::new(file).map_err(|error| damaged(&error))?;
        for index in 0..archive.len() {
            let entry = archive.by_index(index).map_err(|error| damaged(&error))?;
            let name = str::from_utf8(entry.name_raw()).map_err(|_| ArchiveError::NameNotUtf8)?.to_owned();
            if entry.is_dir() {
                self.write_folder(&name)?;
            } else if entry.is_symlink() || !entry.unix_mode().is_none_or(is_regular_file_mode) {
                return Err(ArchiveError::SpecialFile(name));
            } else {
                self.write_file(&name, entry)?;
            }
        }
        Ok(())
    }

    fn unpack_tar(&mut self, stream: impl Read) -> Result<(), ArchiveError> {
        // Limits the decompressed bytes, because the sizes in the headers cannot be trusted.
        let mut archive = tar::Archive::new(stream.take(MAX_BYTES + MAX_TAR_OVERHEAD));
        for entry in archive.entries().map_err(|error| damaged(&error))? {
            let entry = entry.map_err(|error| damaged(&error))?;
            let kind = entry.header().entry_type();
            if kind.is_pax_global_extensions() {
                continue;
            }
            let name = str::from_utf8(&entry.path_bytes()).map_err(|_| ArchiveError::NameNotUtf8)?.to_owned();
            if kind.is_dir() {
                self.write_folder(&name)?;
            } else if kind.is_file() {
                self.write_file(&name, entry)?;
            } else {
                return Err(ArchiveError::SpecialFile(name));
            }
        }
        Ok(())
    }

    fn write_folder(&mut self, name: &str) -> Result<(), ArchiveError> {
        let path = self.target_path(name)?;
        create_private_folders(&path).map_err(|error| ArchiveError::Write { name: name.to_owned(), error })
    }

    fn write_file(&mut self, name: &str, bytes: impl Read) -> Result<(), ArchiveError> {
        let path = self.target_path(name)?;
        let failed = |error| ArchiveError::Write { name: name.to_owned(), error };
        create_private_folders(path.parent().unwrap_or(self.target)).map_err(failed)?;
        // `create_new` refuses a name that occurs twice. Archive tools disagree on which of the two files to extract,
        // so a reviewer could see one file and hfs run the other.
        let mut file = private_options().write(true).create_new(true).open(&path).map_err(failed)?;
        let remaining = MAX_BYTES - self.bytes.min(MAX_BYTES);
        let copied = io::copy(&mut bytes.take(remaining + 1), &mut file);
        self.bytes += copied.map_err(|error| damaged(&error))?;
        if self.bytes > MAX_BYTES { Err(ArchiveError::TooLarge) } else { Ok(()) }
    }

    /// Counts an entry and returns its path below the target folder.
    fn target_path(&mut self, name: &str) -> Result<PathBuf, ArchiveError> {
        self.entries += 1;
        if self.entries > MAX_FILES {
            return Err(ArchiveError::TooManyFiles);
        }
        let mut path = self.target.to_path_buf();
        let is_unsafe = |part: &str| part == ".." || part.contains(['\\', ':', '\0']);
        if name.starts_with('/') || name.split('/').any(is_unsafe) {
            return Err(ArchiveError::OutsidePath(name.to_owned()));
        }
        let parts = name.split('/').filter(|part| !matches!(*part, "" | "."));
        for (depth, part) in parts.enumerate() {
            if depth > MAX_DEPTH {
                return Err(ArchiveError::TooDeep);
            }
            path.push(part);
        }
        Ok(path)
    }
}

/// Whether a Unix mode is that of a regular file, or has no file type.
const fn is_regular_file_mode(mode: u32) -> bool {
    matches!(mode & 0o170_000, 0 | 0o100_000)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{EntryType, Header};

    use super::*;

    const MANIFEST_TEXT: &[u8] = b"name: p\nversion: 1.0.0\n";

    /// A tar archive, written without the name checks of the `tar` crate.
    fn tar_of(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, bytes) in entries {
            let mut header = Header::new_ustar();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            if kind.is_symlink() || kind.is_hard_link() {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_mode(0o4777);
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn files(entries: &[(&str, &[u8])]) -> Vec<u8> {
        tar_of(&entries.iter().map(|(name, bytes)| (*name, EntryType::Regular, *bytes)).collect::<Vec<_>>())
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, bytes) in entries {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    /// Unpacks an archive two folders deep, checks that nothing was written outside, and returns the plugin's path
    /// below the target.
    fn unpacked(archive: &[u8]) -> (Result<PathBuf, ArchiveError>, tempfile::TempDir) {
        let outer = tempfile::tempdir().unwrap();
        let target = outer.path().join("deep/target");
        fs::create_dir_all(&target).unwrap();
        let path = outer.path().join("archive");
        fs::write(&path, archive).unwrap();
        let found = unpack(&path, &target).map(|root| root.strip_prefix(&target).unwrap().to_path_buf());
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 2, "a file was written outside");
        assert_eq!(fs::read_dir(outer.path().join("deep")).unwrap().count(), 1, "a file was written outside");
        (found, outer)
    }

    fn assert_refused(archive: &[u8], word: &str) {
        let error = unpacked(archive).0.unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains('\n'), "{word}: {error}");
    }

    #[test]
    fn each_format_is_unpacked_with_files_at_the_top_or_in_a_folder() {
        let top: [(&str, &[u8]); 2] = [("manifest.yaml", MANIFEST_TEXT), ("./a/b.txt", b"words")];
        let below: [(&str, &[u8]); 2] = [("p-1.0/manifest.yaml", MANIFEST_TEXT), ("p-1.0/a/b.txt", b"words")];
        for (entries, root) in [(top, ""), (below, "p-1.0")] {
            let tar = files(&entries);
            for archive in [gz(&tar), zstd::encode_all(tar.as_slice(), 1).unwrap(), zip_of(&entries)] {
                let (found, outer) = unpacked(&archive);
                assert_eq!(found.unwrap(), Path::new(root));
                let file = outer.path().join("deep/target").join(root).join("a/b.txt");
                assert_eq!(fs::read(file).unwrap(), b"words");
            }
        }
    }

    #[test]
    fn an_archive_made_by_git_is_unpacked() {
        let comment: &[u8] = b"11 comment=\n";
        let tar = tar_of(&[
            ("pax_global_header", EntryType::XGlobalHeader, comment),
            ("p/", EntryType::Directory, b""),
            ("p/manifest.yaml", EntryType::Regular, MANIFEST_TEXT),
        ]);
        assert_eq!(unpacked(&gz(&tar)).0.unwrap(), Path::new("p"));
    }

    #[test]
    fn names_that_point_outside_are_refused() {
        for name in ["../x", "a/../../x", "/tmp/x", "a/..", "a\\..\\x", "C:x", ".."] {
            assert_refused(&gz(&files(&[("manifest.yaml", MANIFEST_TEXT), (name, b"x")])), "points outside");
            assert_refused(&zip_of(&[("manifest.yaml", MANIFEST_TEXT), (name, b"x")]), "points outside");
        }
    }

    #[test]
    fn links_and_devices_are_refused() {
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Char, EntryType::Block, EntryType::Fifo]
        {
            let tar =
                tar_of(&[("manifest.yaml", EntryType::Regular, MANIFEST_TEXT), ("plugin.wasm", kind, b"")]);
            assert_refused(&gz(&tar), "neither a regular file");
        }
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        zip.add_symlink("plugin.wasm", "/etc/passwd", zip::write::SimpleFileOptions::default()).unwrap();
        assert_refused(&zip.finish().unwrap().into_inner(), "neither a regular file");
    }

    #[test]
    fn a_duplicate_name_is_refused() {
        assert_refused(
            &gz(&files(&[("manifest.yaml", MANIFEST_TEXT), ("./manifest.yaml", b"x")])),
            "cannot be unpacked",
        );
    }

    #[test]
    fn decompression_bombs_are_refused() {
        let zeros = vec![0; 70 << 20];
        let big: [(&str, &[u8]); 2] = [("manifest.yaml", MANIFEST_TEXT), ("big", &zeros)];
        let tar = files(&big);
        assert_refused(&gz(&tar), "more than 64 MiB");
        assert_refused(&zstd::encode_all(tar.as_slice(), 1).unwrap(), "more than 64 MiB");
        assert_refused(&zip_of(&big), "more than 64 MiB");
        let names: Vec<String> = (0..2_100).map(|number| format!("f{number}")).collect();
        let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
        assert_refused(&gz(&files(&many)), "more than 2000 files");
        assert_refused(&zip_of(&many), "more than 2000 files");
        assert_refused(&gz(&files(&[(&"a/".repeat(40), b"x")])), "deep");
        // A name of 100 MiB.
        let mut name = vec![b'n'; 100 << 20];
        name.push(0);
        assert_refused(&gz(&tar_of(&[("././@LongLink", EntryType::GNULongName, &name)])), "damaged");
    }

    #[test]
    fn truncated_archives_and_other_files_are_refused() {
        let tar = gz(&files(&[("manifest.yaml", MANIFEST_TEXT), ("a", &[7; 5_000])]));
        assert_refused(&tar[..tar.len() / 2], "damaged");
        assert_refused(&zip_of(&[("manifest.yaml", MANIFEST_TEXT)])[..40], "damaged");
        assert_refused(b"words", "not a .zip");
        assert_refused(b"", "not a .zip");
        assert_refused(&gz(&files(&[("a", b"x")])), "no manifest.yaml");
        let two = [("a/manifest.yaml", MANIFEST_TEXT), ("b/manifest.yaml", MANIFEST_TEXT)];
        assert_refused(&gz(&files(&two)), "more than one");
    }
}
