//! Reading a plugin's folder into memory.
//!
//! A folder is read exactly once for each decision or start. The content hash, the inspection and the code that runs
//! use the same bytes in memory, so that code cannot run unapproved if a file changes in between.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::manifest::MANIFEST_FILE;
use crate::error::InvalidPlugin;

/// Maximum size of all files of a plugin together.
pub(crate) const MAX_BYTES: u64 = 64 << 20;
/// Maximum number of files and folders.
pub(crate) const MAX_FILES: usize = 2_000;
/// Maximum nesting of folders.
pub(crate) const MAX_DEPTH: usize = 16;

/// Folders that compilers, package managers and git create inside a plugin's folder. They are not part of the plugin:
/// nothing in them is read, hashed or run.
pub const IGNORED_FOLDERS: [&str; 5] = [".git", "__pycache__", "build", "node_modules", "target"];

/// The files of a plugin, with the hash that approvals refer to.
#[derive(Debug)]
pub(crate) struct PluginFiles {
    /// BLAKE3 hash of the names and contents of all files.
    pub hash: String,
    /// Text of the manifest.
    pub manifest: String,
    /// All files by their path below the plugin's folder, sorted.
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl PluginFiles {
    /// Reads all files below a folder.
    ///
    /// # Errors
    /// If a file cannot be read, a limit is exceeded, a symbolic link or special file is found, or the manifest is
    /// missing.
    pub fn read(folder: &Path) -> Result<Self, InvalidPlugin> {
        let mut reader = FolderReader { files: Vec::new(), bytes: 0, entries: 0 };
        reader.read_folder(folder, Path::new(""), 0)?;
        let mut files = reader.files;
        files.sort();
        let mut hasher = blake3::Hasher::new();
        for (path, bytes) in &files {
            // Each field is hashed after its length. Without lengths, moving bytes from the end of one field to the
            // start of the next would leave the hash unchanged.
            let name = path.as_os_str().as_encoded_bytes();
            hasher.update(&(name.len() as u64).to_le_bytes()).update(name);
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        }
        let manifest = files.iter().find(|(path, _)| path == Path::new(MANIFEST_FILE));
        let (_, manifest) = manifest.ok_or(InvalidPlugin::NoManifest)?;
        let manifest = String::from_utf8(manifest.clone()).map_err(|_| InvalidPlugin::ManifestNotUtf8)?;
        Ok(Self { hash: hasher.finalize().to_hex().to_string(), manifest, files })
    }

    /// The bytes of one file.
    pub fn get(&self, path: &Path) -> Option<&[u8]> {
        let index = self.files.binary_search_by(|(known, _)| known.as_path().cmp(path)).ok()?;
        self.files.get(index).map(|(_, bytes)| bytes.as_slice())
    }

    /// All files by their path below the plugin's folder.
    pub fn iter(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        self.files.iter().map(|(path, bytes)| (path.as_path(), bytes.as_slice()))
    }
}

struct FolderReader {
    files: Vec<(PathBuf, Vec<u8>)>,
    bytes: u64,
    entries: usize,
}

impl FolderReader {
    fn read_folder(&mut self, folder: &Path, relative: &Path, depth: usize) -> Result<(), InvalidPlugin> {
        if depth > MAX_DEPTH {
            return Err(InvalidPlugin::TooDeep);
        }
        for entry in fs::read_dir(folder).map_err(|error| InvalidPlugin::unreadable(relative, &error))? {
            let entry = entry.map_err(|error| InvalidPlugin::unreadable(relative, &error))?;
            let path = relative.join(entry.file_name());
            self.entries += 1;
            if self.entries > MAX_FILES {
                return Err(InvalidPlugin::TooManyFiles);
            }
            let kind = entry.file_type().map_err(|error| InvalidPlugin::unreadable(&path, &error))?;
            if kind.is_dir() && IGNORED_FOLDERS.iter().any(|ignored| entry.file_name() == *ignored) {
                continue;
            }
            if kind.is_dir() {
                self.read_folder(&entry.path(), &path, depth + 1)?;
            } else if kind.is_file() {
                let bytes = self
                    .read_file(&entry.path())
                    .map_err(|error| InvalidPlugin::unreadable(&path, &error))?;
                self.files.push((path, bytes));
            } else if kind.is_symlink() {
                return Err(InvalidPlugin::SymbolicLink(path));
            } else {
                return Err(InvalidPlugin::SpecialFile(path));
            }
            if self.bytes > MAX_BYTES {
                return Err(InvalidPlugin::TooLarge);
            }
        }
        Ok(())
    }

    fn read_file(&mut self, path: &Path) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // One byte beyond the limit is enough to detect that the limit is exceeded.
        let remaining = MAX_BYTES + 1 - self.bytes.min(MAX_BYTES);
        File::open(path)?.take(remaining).read_to_end(&mut bytes)?;
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
        PluginFiles::read(folder(files).path()).unwrap().hash
    }

    #[test]
    fn any_change_to_any_file_or_name_changes_the_hash() {
        let base = hash(&[("manifest.yaml", "m"), ("a/b", "xy"), ("c", "")]);
        assert_eq!(base, hash(&[("c", ""), ("a/b", "xy"), ("manifest.yaml", "m")]));
        for changed in [
            hash(&[("manifest.yaml", "m"), ("a/b", "xz"), ("c", "")]),
            hash(&[("manifest.yaml", "n"), ("a/b", "xy"), ("c", "")]),
            hash(&[("manifest.yaml", "m"), ("a/d", "xy"), ("c", "")]),
            hash(&[("manifest.yaml", "m"), ("a/b", "xy")]),
            hash(&[("manifest.yaml", "m"), ("a/b", "x"), ("c", "y")]),
        ] {
            assert_ne!(base, changed);
        }
    }

    #[test]
    fn folders_of_build_tools_are_not_part_of_a_plugin() {
        let folder = folder(&[("manifest.yaml", "m"), ("target/a.py", "x"), ("lib/node_modules/b.js", "y")]);
        // A compiler's folder may be larger than a plugin is allowed to be.
        let large = File::create(folder.path().join("target/large")).unwrap();
        large.set_len(MAX_BYTES + 1).unwrap();
        let files = PluginFiles::read(folder.path()).unwrap();
        assert_eq!(files.iter().map(|(path, _)| path).collect::<Vec<_>>(), [Path::new("manifest.yaml")]);
        assert_eq!(files.hash, hash(&[("manifest.yaml", "m")]));
    }

    #[test]
    fn a_file_is_found_by_its_path() {
        let files = PluginFiles::read(folder(&[("manifest.yaml", "m"), ("a/b", "xy")]).path()).unwrap();
        assert_eq!(files.get(Path::new("a/b")), Some(b"xy".as_slice()));
        assert_eq!(files.get(Path::new("a")), None);
        assert_eq!(files.iter().count(), 2);
    }

    #[test]
    fn symbolic_links_are_refused_and_never_followed() {
        let secret = folder(&[("manifest.yaml", "m"), ("s", "secret")]);
        let linked = folder(&[("manifest.yaml", "m")]);
        std::os::unix::fs::symlink(secret.path().join("s"), linked.path().join("plugin.wasm")).unwrap();
        let error = PluginFiles::read(linked.path()).unwrap_err();
        assert_eq!(error, InvalidPlugin::SymbolicLink("plugin.wasm".into()));
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }

    #[test]
    fn a_folder_without_a_manifest_is_not_a_plugin() {
        let error = PluginFiles::read(folder(&[("x", "")]).path()).unwrap_err();
        assert!(error.to_string().contains("manifest.yaml"), "{error}");
    }
}
