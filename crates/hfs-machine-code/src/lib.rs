//! A cache of compiled WebAssembly components.
//!
//! Compiling an interpreter takes seconds, so its machine code is stored in a file, which later processes map into
//! memory. wasmtime's own cache is not used for two reasons: it writes in the background, so a short-lived process may
//! end before the write, and it compresses entries, so loading an interpreter of 25 MB takes 0.1 s.
//!
//! Loading machine code is `unsafe`, because wasmtime runs the content of the file without checking it. This is a crate
//! of its own so that all other crates can forbid `unsafe` code.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hfs_files::TemporaryFile;
use wasmtime::Engine;
use wasmtime::component::Component;

/// Extension of files with machine code.
const EXTENSION: &str = "code";
/// Entries that were not used for this long are removed.
const MAX_UNUSED: Duration = Duration::from_secs(60 * 24 * 3600);
/// Age at which a lock belongs to a process that was killed.
const MAX_COMPILATION: Duration = Duration::from_secs(3600);
/// The time of the last use is updated at most this often, so that most loads do not write to the disk.
const USE_RESOLUTION: Duration = Duration::from_secs(24 * 3600);

/// A folder with machine code, which only the current user can write to.
///
/// The file name of an entry consists of the component's hash and a hash of the compiler's version and settings. An
/// entry of another version of wasmtime is therefore never found. Entries are removed after 60 days without use.
#[derive(Debug, Clone)]
pub struct ArtifactCache {
    folder: PathBuf,
}

impl ArtifactCache {
    /// Uses an existing folder. If it does not exist, nothing is found or stored.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Loads the machine code of the component with this hash. `None` if there is none for this engine, or if another
    /// user could have written to it.
    #[must_use]
    pub fn get(&self, engine: &Engine, hash: &str) -> Option<Component> {
        let path = self.path(engine, hash);
        if !is_private(&self.folder) || !is_private(&path) {
            return None;
        }
        // SAFETY: `deserialize_file` requires a file that `Engine::precompile_component` produced, and that does not
        // change while it is mapped.
        // - Only the current user can write to the folder and the file (checked above; links are refused, because their
        //   targets are not checked). Another process of the same user could change the file, but gains nothing by
        //   it: it can already run any code as this user.
        // - Files are created only by `put`, which renames a complete file into place. Neither `put` nor `remove_file`
        //   changes a file that is already mapped: the mapping keeps the old content.
        // - A file that was damaged later, for example by the disk, is detected only in part: wasmtime verifies the
        //   header with its version and the compiler's settings, but not the code itself.
        #[allow(unsafe_code, reason = "loading machine code is the purpose of this crate")]
        let loaded = unsafe { Component::deserialize_file(engine, &path) };
        match loaded {
            Ok(component) => {
                record_use(&path);
                Some(component)
            }
            Err(_) => {
                // The file is damaged, or another version of wasmtime wrote it and the hashes in the file name collide.
                // The caller compiles the component again.
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// Compiles a component, stores its machine code, and loads it. If another thread or process compiles the same
    /// component, waits for it and loads its result.
    ///
    /// # Errors
    /// If the component does not compile. A failure to store the machine code is ignored; the component is then
    /// compiled in memory.
    pub fn compile(&self, engine: &Engine, hash: &str, component: &[u8]) -> wasmtime::Result<Component> {
        let path = self.path(engine, hash);
        // The lock only avoids compiling the same component twice. If it cannot be taken, for example because the
        // folder does not exist, the result is the same.
        let lock_path = path.with_extension("lock");
        let lock = lock(&lock_path);
        if let Some(component) = self.get(engine, hash) {
            return Ok(component);
        }
        let put_result = engine.precompile_component(component).map(|code| self.put(&path, &code));
        if lock.is_some() {
            // A process that waits for this lock still gets it, although the file is removed. It then finds the entry.
            let _ = fs::remove_file(&lock_path);
        }
        match put_result?.ok().and_then(|()| self.get(engine, hash)) {
            Some(component) => Ok(component),
            None => Component::new(engine, component),
        }
    }

    /// Writes a file under a temporary name, syncs it and renames it, so that a reader never sees an incomplete file.
    fn put(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        let mut file = TemporaryFile::create_in(&self.folder)?;
        file.write_all(code)?;
        file.sync()?;
        file.persist(path)?;
        self.remove_unused();
        File::open(&self.folder)?.sync_all()
    }

    /// Removes entries that were not used for long, and the locks that killed processes have left.
    fn remove_unused(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            let is_entry = path.extension().is_some_and(|extension| extension == EXTENSION);
            let is_lock = path.extension().is_some_and(|extension| extension == "lock");
            let max_age = match (is_entry, is_lock) {
                (true, _) => MAX_UNUSED,
                (false, true) => MAX_COMPILATION,
                (false, false) => continue,
            };
            let last_used = entry.metadata().and_then(|metadata| metadata.modified());
            if last_used.is_ok_and(|used| used.elapsed().is_ok_and(|elapsed| elapsed > max_age)) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn path(&self, engine: &Engine, hash: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let settings = hasher.finish();
        // `hash` may come from the hash file of an interpreter and contain any characters. Hashing it again gives a
        // safe file name.
        let component = blake3::hash(hash.as_bytes()).to_hex();
        self.folder.join(format!("{}-{settings:016x}.{EXTENSION}", component.get(..32).unwrap_or_default()))
    }
}

/// Sets the file's modification time to the current time, unless it is recent. If that fails, the entry may be removed
/// too early.
fn record_use(path: &Path) {
    let recorded = fs::metadata(path).and_then(|metadata| metadata.modified());
    if recorded.is_ok_and(|recorded| recorded.elapsed().is_ok_and(|elapsed| elapsed > USE_RESOLUTION)) {
        let file = fs::OpenOptions::new().append(true).open(path);
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }
}

/// Waits for an exclusive lock, which is held until the returned file is dropped.
fn lock(path: &Path) -> Option<File> {
    let mut options = fs::OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(path).ok()?;
    file.lock().ok()?;
    Some(file)
}

/// Whether a path is a regular file or folder (not a link) that belongs to the current user, and that no other user can
/// write to.
fn is_private(path: &Path) -> bool {
    let Ok(metadata) = rustix::fs::lstat(path) else { return false };
    let kind = rustix::fs::FileType::from_raw_mode(metadata.st_mode);
    let is_file_or_folder =
        matches!(kind, rustix::fs::FileType::RegularFile | rustix::fs::FileType::Directory);
    is_file_or_folder
        && metadata.st_uid == rustix::process::geteuid().as_raw()
        && metadata.st_mode & 0o022 == 0
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn engine() -> Engine {
        Engine::default()
    }

    fn cache() -> (tempfile::TempDir, ArtifactCache) {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let cache = ArtifactCache::new(folder.path().to_path_buf());
        (folder, cache)
    }

    fn component() -> Vec<u8> {
        wat::parse_str(r#"(component (core module (func (export "f"))))"#).unwrap()
    }

    fn only_file(folder: &Path) -> PathBuf {
        let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    #[test]
    fn compiled_code_is_found_again() {
        let (folder, cache) = cache();
        assert!(cache.get(&engine(), "a").is_none());
        cache.compile(&engine(), "a", &component()).unwrap();
        assert!(cache.get(&engine(), "a").is_some());
        assert!(cache.get(&engine(), "b").is_none());
        assert_eq!(fs::metadata(only_file(folder.path())).unwrap().permissions().mode() & 0o077, 0);
    }

    #[test]
    fn code_that_other_users_can_change_is_not_loaded() {
        let (folder, cache) = cache();
        cache.compile(&engine(), "a", &component()).unwrap();
        let file = only_file(folder.path());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o620)).unwrap();
        assert!(cache.get(&engine(), "a").is_none());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(cache.get(&engine(), "a").is_some());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(cache.get(&engine(), "a").is_none());
    }

    #[test]
    fn a_link_is_not_followed() {
        let (folder, cache) = cache();
        cache.compile(&engine(), "a", &component()).unwrap();
        let (file, aside) = (only_file(folder.path()), folder.path().join("aside"));
        fs::rename(&file, &aside).unwrap();
        std::os::unix::fs::symlink(&aside, &file).unwrap();
        assert!(cache.get(&engine(), "a").is_none());
    }

    #[test]
    fn a_damaged_entry_is_compiled_again() {
        let (folder, cache) = cache();
        cache.compile(&engine(), "a", &component()).unwrap();
        let file = only_file(folder.path());
        fs::write(&file, b"not machine code").unwrap();
        assert!(cache.get(&engine(), "a").is_none());
        cache.compile(&engine(), "a", &component()).unwrap();
        assert!(cache.get(&engine(), "a").is_some());
    }

    #[test]
    fn entries_that_were_not_used_for_60_days_are_removed() {
        let (folder, cache) = cache();
        let long_ago = SystemTime::now() - MAX_UNUSED - USE_RESOLUTION;
        for hash in ["old", "used"] {
            cache.compile(&engine(), hash, &component()).unwrap();
        }
        for file in fs::read_dir(folder.path()).unwrap() {
            let file = fs::OpenOptions::new().append(true).open(file.unwrap().path()).unwrap();
            file.set_modified(long_ago).unwrap();
        }
        assert!(cache.get(&engine(), "used").is_some());
        cache.compile(&engine(), "new", &component()).unwrap();
        assert!(cache.get(&engine(), "used").is_some() && cache.get(&engine(), "new").is_some());
        assert!(cache.get(&engine(), "old").is_none());
    }

    #[test]
    fn a_component_that_does_not_compile_leaves_no_files() {
        let (folder, cache) = cache();
        assert!(cache.compile(&engine(), "a", b"not a component").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_folder_does_not_prevent_compiling() {
        let cache = ArtifactCache::new("/nowhere/at/all".into());
        assert!(cache.compile(&engine(), "a", &component()).is_ok());
    }
}
