//! A plugin's files, read once: what is hashed, what is inspected and what runs are the same bytes.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::manifest::MANIFEST;

/// What a plugin's files may be in all.
pub(crate) const MOST_BYTES: u64 = 64 << 20;
/// How many files and folders a plugin may have.
pub(crate) const MOST_FILES: usize = 2_000;
/// How deep its folders may go.
pub(crate) const DEEPEST: usize = 16;

/// Folders that compilers and package managers leave in a plugin's: they are no part of it, and nothing in them is
/// read, hashed or run.
pub const LEFT_BY_TOOLS: [&str; 5] = [".git", "__pycache__", "build", "node_modules", "target"];

/// A plugin's files as they were at one moment.
#[derive(Debug)]
pub(crate) struct Content {
    /// Stands for all files, with their names.
    pub hash: String,
    /// The manifest's text.
    pub manifest: String,
    /// All files, by their path below the folder, in order.
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Content {
    /// Reads a plugin's folder.
    ///
    /// # Errors
    /// Why it cannot be a plugin's, on one line.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let mut reading = Reading { files: Vec::new(), bytes: 0, entries: 0 };
        reading.folder(folder, Path::new(""), 0)?;
        let mut files = reading.files;
        files.sort();
        let mut hasher = blake3::Hasher::new();
        for (path, bytes) in &files {
            // Lengths keep the end of one thing from passing for the beginning of the next.
            let name = path.as_os_str().as_encoded_bytes();
            hasher.update(&(name.len() as u64).to_le_bytes()).update(name);
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        }
        let manifest = files.iter().find(|(path, _)| path == Path::new(MANIFEST));
        let (_, manifest) = manifest.ok_or_else(|| format!("it has no {MANIFEST}"))?;
        let manifest = String::from_utf8(manifest.clone()).map_err(|_| format!("{MANIFEST} is not UTF-8"))?;
        Ok(Self { hash: hasher.finalize().to_hex().to_string(), manifest, files })
    }

    /// The bytes of one file.
    pub fn file(&self, path: &Path) -> Option<&[u8]> {
        let at = self.files.binary_search_by(|(known, _)| known.as_path().cmp(path)).ok()?;
        self.files.get(at).map(|(_, bytes)| bytes.as_slice())
    }

    /// All files, by their path below the folder.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.files.iter().map(|(path, bytes)| (path.as_path(), bytes.as_slice()))
    }
}

struct Reading {
    files: Vec<(PathBuf, Vec<u8>)>,
    bytes: u64,
    entries: usize,
}

impl Reading {
    fn folder(&mut self, folder: &Path, below: &Path, depth: usize) -> Result<(), String> {
        let told = |what: &Path, error: std::io::Error| format!("{} cannot be read: {error}", what.display());
        if depth > DEEPEST {
            return Err(format!("its folders are more than {DEEPEST} deep"));
        }
        for entry in fs::read_dir(folder).map_err(|error| told(below, error))? {
            let entry = entry.map_err(|error| told(below, error))?;
            let path = below.join(entry.file_name());
            self.entries += 1;
            if self.entries > MOST_FILES {
                return Err(format!("it has more than {MOST_FILES} files"));
            }
            let kind = entry.file_type().map_err(|error| told(&path, error))?;
            if kind.is_dir() && LEFT_BY_TOOLS.iter().any(|left| entry.file_name() == *left) {
                continue;
            }
            if kind.is_dir() {
                self.folder(&entry.path(), &path, depth + 1)?;
            } else if kind.is_file() {
                let bytes = self.file(&entry.path()).map_err(|error| told(&path, error))?;
                self.files.push((path, bytes));
            } else {
                let what = if kind.is_symlink() { "a symbolic link" } else { "no regular file" };
                return Err(format!("{} is {what}: a plugin is made of plain files", path.display()));
            }
            if self.bytes > MOST_BYTES {
                return Err(format!("it is larger than {} MiB", MOST_BYTES >> 20));
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // One byte beyond the limit is enough to know that it was passed.
        let left = MOST_BYTES + 1 - self.bytes.min(MOST_BYTES);
        File::open(path)?.take(left).read_to_end(&mut bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn hash(files: &[(&str, &str)]) -> String {
        Content::read(folder(files).path()).unwrap().hash
    }

    #[test]
    fn any_change_to_any_file_or_name_changes_the_hash() {
        let base = hash(&[("manifest.yaml", "m"), ("a/b", "xy"), ("c", "")]);
        assert_eq!(base, hash(&[("c", ""), ("a/b", "xy"), ("manifest.yaml", "m")]));
        for other in [
            hash(&[("manifest.yaml", "m"), ("a/b", "xz"), ("c", "")]),
            hash(&[("manifest.yaml", "n"), ("a/b", "xy"), ("c", "")]),
            hash(&[("manifest.yaml", "m"), ("a/d", "xy"), ("c", "")]),
            hash(&[("manifest.yaml", "m"), ("a/b", "xy")]),
            hash(&[("manifest.yaml", "m"), ("a/b", "x"), ("c", "y")]),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn what_tools_leave_behind_is_no_part_of_a_plugin() {
        let folder = folder(&[("manifest.yaml", "m"), ("target/a.py", "x"), ("lib/node_modules/b.js", "y")]);
        // More than a plugin may be: a compiler's folder is.
        let large = File::create(folder.path().join("target/large")).unwrap();
        large.set_len(MOST_BYTES + 1).unwrap();
        let content = Content::read(folder.path()).unwrap();
        assert_eq!(content.files().map(|(path, _)| path).collect::<Vec<_>>(), [Path::new("manifest.yaml")]);
        assert_eq!(content.hash, hash(&[("manifest.yaml", "m")]));
    }

    #[test]
    fn a_file_is_found_by_its_path() {
        let content = Content::read(folder(&[("manifest.yaml", "m"), ("a/b", "xy")]).path()).unwrap();
        assert_eq!(content.file(Path::new("a/b")), Some(b"xy".as_slice()));
        assert_eq!(content.file(Path::new("a")), None);
        assert_eq!(content.files().count(), 2);
    }

    #[test]
    fn what_is_no_plain_file_is_refused_and_never_followed() {
        let secret = folder(&[("manifest.yaml", "m"), ("s", "secret")]);
        let linked = folder(&[("manifest.yaml", "m")]);
        #[cfg(unix)]
        std::os::unix::fs::symlink(secret.path().join("s"), linked.path().join("plugin.wasm")).unwrap();
        let error = Content::read(linked.path()).unwrap_err();
        assert!(error.contains("symbolic link"), "{error}");
    }

    #[test]
    fn a_folder_without_a_manifest_is_none() {
        assert!(Content::read(folder(&[("x", "")]).path()).unwrap_err().contains("manifest.yaml"));
    }
}
