//! Machine code of large components, kept between starts so that nobody waits for a compiler twice.
//!
//! wasmtime's own cache needs the whole component to look anything up, and unpacks what it finds: a tenth of a second
//! for an interpreter of 25 MB. Here a file is mapped as it is. wasmtime believes such a file, whatever it says,
//! which is why to load one is `unsafe`, and why this crate, which does nothing else, is the only one of the
//! workspace that may write that word.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::Component;

/// A folder of machine code that belongs to this user alone.
#[derive(Debug, Clone)]
pub struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    /// A folder, which has to be there when something is kept in it.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The machine code of the component with this hash for this engine. `None` when there is none, or none that
    /// can be believed.
    #[must_use]
    pub fn find(&self, engine: &Engine, hash: &str) -> Option<Component> {
        let path = self.path(engine, hash);
        if !is_ours_alone(&self.folder) || !is_ours_alone(&path) {
            return None;
        }
        // SAFETY: what is loaded has to be what `Engine::precompile_component` made, unchanged. Nobody but this user
        // can write into the folder or to the file, as was just seen; files come there by `keep` alone, whole, under
        // a name that says of which component, compiler and settings they are. A user who writes machine code there
        // by hand can as well put it in place of this program.
        #[allow(
            unsafe_code,
            reason = "see above; what else the runtime checks, such as its version, it checks"
        )]
        let loaded = unsafe { Component::deserialize_file(engine, &path) };
        match loaded {
            Ok(component) => Some(component),
            Err(_) => {
                // Of another version, or cut short by a disk that was full: it is made anew.
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// Compiles a component, keeps its machine code and loads it. Whoever else compiles the same meanwhile, in any
    /// process, is waited for, and their work is taken.
    ///
    /// # Errors
    /// When it does not compile. That its machine code cannot be kept only costs the next start some time.
    pub fn compile(&self, engine: &Engine, hash: &str, component: &[u8]) -> wasmtime::Result<Component> {
        let path = self.path(engine, hash);
        // Without a lock it is compiled twice, and as well.
        let _lock = lock(&path.with_extension("lock"));
        if let Some(component) = self.find(engine, hash) {
            return Ok(component);
        }
        let code = engine.precompile_component(component)?;
        let kept = self.keep(&path, &code);
        match kept.ok().and_then(|()| self.find(engine, hash)) {
            Some(component) => Ok(component),
            None => Component::new(engine, component),
        }
    }

    fn keep(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        let mut staged = tempfile::NamedTempFile::new_in(&self.folder)?;
        staged.write_all(code)?;
        staged.as_file().sync_all()?;
        staged.persist(path).map_err(|error| error.error)?;
        File::open(&self.folder)?.sync_all()
    }

    fn path(&self, engine: &Engine, hash: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let settings = hasher.finish();
        // A hash that somebody else chose is no name of a file.
        let component = blake3::hash(hash.as_bytes()).to_hex();
        self.folder.join(format!("{}-{settings:016x}.code", component.get(..32).unwrap_or_default()))
    }
}

/// A lock that lasts for as long as the result.
fn lock(path: &Path) -> Option<File> {
    let mut options = fs::OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(path).ok()?;
    file.lock().ok()?;
    Some(file)
}

/// Whether a file or folder, itself and no link to it, is this user's and nobody else can change it.
fn is_ours_alone(path: &Path) -> bool {
    let Ok(found) = rustix::fs::lstat(path) else { return false };
    let kind = rustix::fs::FileType::from_raw_mode(found.st_mode);
    let plain = matches!(kind, rustix::fs::FileType::RegularFile | rustix::fs::FileType::Directory);
    plain && found.st_uid == rustix::process::geteuid().as_raw() && found.st_mode & 0o022 == 0
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn engine() -> Engine {
        Engine::default()
    }

    fn shelf() -> (tempfile::TempDir, Shelf) {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let shelf = Shelf::new(folder.path().to_path_buf());
        (folder, shelf)
    }

    fn component() -> Vec<u8> {
        wat::parse_str(r#"(component (core module (func (export "f"))))"#).unwrap()
    }

    fn only_file(folder: &Path) -> PathBuf {
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|ending| ending == "code"));
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    #[test]
    fn what_was_compiled_once_is_found_again() {
        let (folder, shelf) = shelf();
        assert!(shelf.find(&engine(), "a").is_none());
        shelf.compile(&engine(), "a", &component()).unwrap();
        assert!(shelf.find(&engine(), "a").is_some());
        assert!(shelf.find(&engine(), "b").is_none());
        assert_eq!(fs::metadata(only_file(folder.path())).unwrap().permissions().mode() & 0o077, 0);
    }

    #[test]
    fn what_others_could_have_changed_is_not_believed() {
        let (folder, shelf) = shelf();
        shelf.compile(&engine(), "a", &component()).unwrap();
        let file = only_file(folder.path());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o620)).unwrap();
        assert!(shelf.find(&engine(), "a").is_none());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(shelf.find(&engine(), "a").is_some());
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(shelf.find(&engine(), "a").is_none());
    }

    #[test]
    fn a_link_is_not_followed() {
        let (folder, shelf) = shelf();
        shelf.compile(&engine(), "a", &component()).unwrap();
        let (file, aside) = (only_file(folder.path()), folder.path().join("aside"));
        fs::rename(&file, &aside).unwrap();
        std::os::unix::fs::symlink(&aside, &file).unwrap();
        assert!(shelf.find(&engine(), "a").is_none());
    }

    #[test]
    fn what_is_no_machine_code_is_made_anew() {
        let (folder, shelf) = shelf();
        shelf.compile(&engine(), "a", &component()).unwrap();
        let file = only_file(folder.path());
        fs::write(&file, b"no machine code").unwrap();
        assert!(shelf.find(&engine(), "a").is_none());
        shelf.compile(&engine(), "a", &component()).unwrap();
        assert!(shelf.find(&engine(), "a").is_some());
    }

    #[test]
    fn without_a_folder_it_still_compiles() {
        let shelf = Shelf::new("/nowhere/at/all".into());
        assert!(shelf.compile(&engine(), "a", &component()).is_ok());
    }
}
