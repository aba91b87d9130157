//! Changes of files and folders, as the operating system reports them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hfs_core::lock_unpoisoned;
use notify::{Config, ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// The folders to watch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct WatchedFolders {
    /// Folders of which every entry matters.
    pub whole: BTreeSet<PathBuf>,
    /// Folders of which only entries with these names matter.
    pub named: BTreeMap<PathBuf, BTreeSet<OsString>>,
}

/// What has changed since the last call.
#[derive(Debug, Default)]
pub struct ChangedPaths {
    /// The paths, each with the time of the first change.
    pub paths: HashMap<PathBuf, Instant>,
    /// Whether changes were lost, because there were too many.
    pub has_lost: bool,
}

/// Reports changes in folders. Without the means of the operating system, it reports nothing, and its owner has to look.
pub struct Changes {
    shared: Arc<Mutex<Shared>>,
    wake: SyncSender<()>,
    woken: Receiver<()>,
    watcher: Option<RecommendedWatcher>,
    /// The folders that are watched, with their identities: a folder that replaces another has its name.
    watched: HashMap<PathBuf, FolderId>,
}

/// What the thread of the watcher shares with its owner. The number of paths is bounded by that of the files in the folders,
/// however often they are written.
#[derive(Debug, Default)]
struct Shared {
    folders: WatchedFolders,
    changed: ChangedPaths,
}

type FolderId = (u64, u64);

/// Why the operating system does not report changes.
#[derive(Debug)]
pub enum WatchError {
    /// The limit of the user's watches is reached.
    Limit,
    Other(String),
}

impl Changes {
    /// Starts to watch nothing.
    pub fn new() -> (Self, Option<WatchError>) {
        let (wake, woken) = sync_channel(1);
        let shared = Arc::new(Mutex::new(Shared::default()));
        let handler = {
            let (shared, wake) = (Arc::clone(&shared), wake.clone());
            move |event: notify::Result<Event>| {
                if lock_unpoisoned(&shared).note(event) {
                    // Fails if the owner is to be woken already.
                    let _ = wake.try_send(());
                }
            }
        };
        let (watcher, error) =
            match RecommendedWatcher::new(handler, Config::default().with_follow_symlinks(false)) {
                Ok(watcher) => (Some(watcher), None),
                Err(error) => (None, Some(WatchError::from(&error))),
            };
        (Self { shared, wake, woken, watcher, watched: HashMap::new() }, error)
    }

    /// Wakes the owner from another thread.
    pub fn waker(&self) -> impl Fn() + Send + 'static {
        let wake = self.wake.clone();
        move || {
            let _ = wake.try_send(());
        }
    }

    /// Watches exactly these folders. Returns whether folders were added, whose changes up to now were not reported.
    ///
    /// # Errors
    /// If a folder cannot be watched. Nothing is watched from then on.
    pub fn watch(&mut self, folders: WatchedFolders) -> Result<bool, WatchError> {
        let Some(watcher) = &mut self.watcher else { return Ok(false) };
        let mut has_added = lock_unpoisoned(&self.shared).folders != folders;
        let wanted: BTreeSet<PathBuf> = folders.whole.iter().chain(folders.named.keys()).cloned().collect();
        lock_unpoisoned(&self.shared).folders = folders;
        let unwanted: Vec<PathBuf> = self
            .watched
            .iter()
            .filter(|(path, id)| !wanted.contains(*path) || folder_id(path) != Some(**id))
            .map(|(path, _)| path.clone())
            .collect();
        for path in unwanted {
            // The system forgets a folder that was removed by itself.
            let _ = watcher.unwatch(&path);
            self.watched.remove(&path);
        }
        for path in wanted {
            if self.watched.contains_key(&path) {
                continue;
            }
            let Some(id) = folder_id(&path) else { continue };
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path, id);
                    has_added = true;
                }
                // It was removed meanwhile, or may not be read.
                Err(error) if is_about_folder(&error) => {}
                Err(error) => {
                    self.watcher = None;
                    self.watched.clear();
                    return Err(WatchError::from(&error));
                }
            }
        }
        Ok(has_added)
    }

    /// Whether another folder has the name of a folder that is watched. The system does not report that a file system was mounted.
    pub fn is_replaced(&self, folder: &Path) -> bool {
        self.watched.get(folder).is_some_and(|watched| folder_id(folder).is_some_and(|id| id != *watched))
    }

    /// Watches the folders at and below `root` again the next time: a file system that was mounted again has the same identity, and the
    /// watches of the former one are gone.
    pub fn forget(&mut self, root: &Path) {
        let Some(watcher) = &mut self.watcher else { return };
        self.watched.retain(|path, _| {
            let stays = !path.starts_with(root);
            if !stays {
                let _ = watcher.unwatch(path);
            }
            stays
        });
    }

    /// Waits until something changes, the owner is woken or the time is over.
    pub fn wait(&self, timeout: Duration) {
        match self.woken.recv_timeout(timeout) {
            // The sender of this value keeps the channel open.
            Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
    }

    /// What has changed since the last call.
    pub fn take(&self) -> ChangedPaths {
        std::mem::take(&mut lock_unpoisoned(&self.shared).changed)
    }
}

impl Shared {
    /// Notes an event. Returns whether it matters.
    fn note(&mut self, event: notify::Result<Event>) -> bool {
        let event = match event {
            // The owner's own reading is reported, too.
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => return false,
            Ok(event) => event,
            Err(_) => {
                self.changed.has_lost = true;
                return true;
            }
        };
        self.changed.has_lost |= event.need_rescan();
        let mut matters = event.need_rescan();
        for path in event.paths {
            if self.folders.includes(&path) {
                matters = true;
                self.changed.paths.entry(path).or_insert_with(Instant::now);
            }
        }
        matters
    }
}

impl WatchedFolders {
    fn includes(&self, path: &Path) -> bool {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return false };
        self.whole.contains(path)
            || self.whole.contains(folder)
            || self.named.get(folder).is_some_and(|names| names.contains(name))
    }
}

impl From<&notify::Error> for WatchError {
    fn from(error: &notify::Error) -> Self {
        match &error.kind {
            ErrorKind::MaxFilesWatch => Self::Limit,
            ErrorKind::Io(error) if is_limit(error) => Self::Limit,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Whether the system refuses more watchers ("too many open files") or more watched folders ("no space").
fn is_limit(error: &io::Error) -> bool {
    let limits = [rustix::io::Errno::NOSPC, rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    limits.iter().any(|limit| error.raw_os_error() == Some(limit.raw_os_error()))
}

fn is_about_folder(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound | ErrorKind::WatchNotFound => true,
        ErrorKind::Io(error) => {
            matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory
            )
        }
        _ => false,
    }
}

fn folder_id(path: &Path) -> Option<FolderId> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_dir)?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn whole(folder: &Path) -> WatchedFolders {
        WatchedFolders { whole: BTreeSet::from([folder.to_owned()]), ..WatchedFolders::default() }
    }

    fn wait_for(changes: &Changes, path: &Path) {
        let start = Instant::now();
        while !changes.take().paths.contains_key(path) {
            assert!(start.elapsed() < Duration::from_secs(20), "{} was not reported", path.display());
            changes.wait(Duration::from_millis(100));
        }
    }

    #[test]
    fn changes_in_watched_folders_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let (mut changes, error) = Changes::new();
        assert!(error.is_none());
        assert!(changes.watch(whole(folder.path())).unwrap());
        assert!(!changes.watch(whole(folder.path())).unwrap(), "it is watched already");
        let file = folder.path().join("one");
        fs::write(&file, "x").unwrap();
        wait_for(&changes, &file);
    }

    #[test]
    fn a_folder_that_replaces_another_is_watched() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, other) = (folder.path().join("inner"), folder.path().join("other"));
        fs::create_dir(&inner).unwrap();
        let (mut changes, _) = Changes::new();
        changes.watch(whole(&inner)).unwrap();
        fs::create_dir(&other).unwrap();
        assert!(!changes.is_replaced(&inner) && !changes.is_replaced(&other));
        fs::remove_dir(&inner).unwrap();
        fs::rename(&other, &inner).unwrap();
        assert!(changes.is_replaced(&inner));
        assert!(changes.watch(whole(&inner)).unwrap());
        fs::write(inner.join("one"), "x").unwrap();
        wait_for(&changes, &inner.join("one"));
        changes.forget(folder.path());
        assert!(changes.watch(whole(&inner)).unwrap(), "it is watched again");
    }

    #[test]
    fn only_entries_that_matter_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let (mut changes, _) = Changes::new();
        let named = BTreeMap::from([(folder.path().to_owned(), BTreeSet::from([OsString::from("b")]))]);
        changes.watch(WatchedFolders { named, ..WatchedFolders::default() }).unwrap();
        fs::write(folder.path().join("a"), "x").unwrap();
        fs::write(folder.path().join("b"), "x").unwrap();
        let start = Instant::now();
        let mut seen = BTreeSet::new();
        while !seen.contains(&folder.path().join("b")) {
            assert!(start.elapsed() < Duration::from_secs(20));
            changes.wait(Duration::from_millis(100));
            seen.extend(changes.take().paths.into_keys());
        }
        assert_eq!(seen.len(), 1, "{seen:?}");
    }
}
