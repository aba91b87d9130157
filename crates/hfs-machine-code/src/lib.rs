//! Machine code of plugins and their interpreters, kept between starts so that nobody waits for a compiler twice.
//!
//! wasmtime's own cache writes behind the back of a program that may end before, and unpacks what it finds: a tenth of a
//! second for an interpreter of 25 MB. Here a file is written before anybody goes on, and mapped as it is. wasmtime
//! believes such a file, whatever it says, which is why to load one is `unsafe`, and why this crate, which does nothing
//! else, is the only one of the workspace that may write that word.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use wasmtime::Engine;
use wasmtime::component::Component;

/// What files of machine code end in.
const ENDING: &str = "code";
/// Machine code that was not needed for so long is removed.
const UNUSED: Duration = Duration::from_secs(60 * 24 * 3600);
/// Use is written down no more often than this.
const NOTED: Duration = Duration::from_secs(24 * 3600);

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
            Ok(component) => {
                note_use(&path);
                Some(component)
            }
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
        let lock_path = path.with_extension("lock");
        let lock = lock(&lock_path);
        if let Some(component) = self.find(engine, hash) {
            return Ok(component);
        }
        let kept = engine.precompile_component(component).map(|code| self.keep(&path, &code));
        if lock.is_some() {
            // Whoever waits for it finds what it stood for.
            let _ = fs::remove_file(&lock_path);
        }
        match kept?.ok().and_then(|()| self.find(engine, hash)) {
            Some(component) => Ok(component),
            None => Component::new(engine, component),
        }
    }

    fn keep(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        let mut staged = tempfile::NamedTempFile::new_in(&self.folder)?;
        staged.write_all(code)?;
        staged.as_file().sync_all()?;
        staged.persist(path).map_err(|error| error.error)?;
        self.tidy();
        File::open(&self.folder)?.sync_all()
    }

    /// Removes what nobody has needed for long. What cannot be removed stays.
    fn tidy(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let used = entry.metadata().and_then(|found| found.modified());
            let old = used.is_ok_and(|used| used.elapsed().is_ok_and(|since| since > UNUSED));
            if old && entry.path().extension().is_some_and(|ending| ending == ENDING) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, engine: &Engine, hash: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let settings = hasher.finish();
        // A hash that somebody else chose is no name of a file.
        let component = blake3::hash(hash.as_bytes()).to_hex();
        self.folder.join(format!("{}-{settings:016x}.{ENDING}", component.get(..32).unwrap_or_default()))
    }
}

/// Writes down, as the time of the file, that it was needed. Where that fails, it is removed too early.
fn note_use(path: &Path) {
    let noted = fs::metadata(path).and_then(|found| found.modified());
    if noted.is_ok_and(|noted| noted.elapsed().is_ok_and(|since| since > NOTED)) {
        let file = fs::OpenOptions::new().append(true).open(path);
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
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
        let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
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
    fn what_was_not_needed_for_long_goes_and_what_is_needed_stays() {
        let (folder, shelf) = shelf();
        let long_ago = SystemTime::now() - UNUSED - NOTED;
        for hash in ["old", "needed"] {
            shelf.compile(&engine(), hash, &component()).unwrap();
        }
        for file in fs::read_dir(folder.path()).unwrap() {
            let file = fs::OpenOptions::new().append(true).open(file.unwrap().path()).unwrap();
            file.set_modified(long_ago).unwrap();
        }
        assert!(shelf.find(&engine(), "needed").is_some());
        shelf.compile(&engine(), "new", &component()).unwrap();
        assert!(shelf.find(&engine(), "needed").is_some() && shelf.find(&engine(), "new").is_some());
        assert!(shelf.find(&engine(), "old").is_none());
    }

    #[test]
    fn what_does_not_compile_leaves_nothing_behind() {
        let (folder, shelf) = shelf();
        assert!(shelf.compile(&engine(), "a", b"no component").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn without_a_folder_it_still_compiles() {
        let shelf = Shelf::new("/nowhere/at/all".into());
        assert!(shelf.compile(&engine(), "a", &component()).is_ok());
    }
}
