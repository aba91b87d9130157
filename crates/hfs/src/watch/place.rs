//! A folder or file where another tool writes, with what was seen in it.
//!
//! The store keeps what was seen, so that a later process only has to compare the metadata of files. It is not needed for
//! correctness: without it, each file is compared with the state that the store has of its last complete import.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use hfs_core::{CompleteImport, ErrorKind, ImportError, ImportedSource, SessionId, Store, StoreResult};
use hfs_exchange::{
    Discovery, Source, Subfolders, UnreadReason, discover_unless_known, metadata_hash, readers_version,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::output::error::{CliError, ErrorDocument};

/// Threads that look at files, and files that are worth another one.
const MAX_THREADS: usize = 8;
const SOURCES_PER_THREAD: usize = 500;
/// The store gets all sources again, instead of the changed ones alone, when more than one in this number have changed.
const SOURCES_PER_CHANGE: usize = 32;
/// The times of files are at least this precise.
const TIME_PRECISION: Duration = Duration::from_secs(3);

/// A folder or file where another tool writes.
#[derive(Debug)]
pub struct Place {
    root: PathBuf,
    seen: Seen,
    /// The source to which each file belongs that is not a source itself.
    owners: HashMap<PathBuf, PathBuf>,
    /// The sources that are not, or no longer, as the store keeps them among all. It keeps them again on their own, because all
    /// sources together may be megabytes, and usually one has changed.
    changed: BTreeSet<SourcePath>,
    unsaved: Unsaved,
    /// Number of files that the last search has left out.
    unsearched: usize,
}

/// What of a place differs from what the store keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unsaved {
    Nothing,
    ChangedSources,
    Everything,
}

/// A folder in a place that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableFolder {
    pub path: PathBuf,
    reason: String,
}

impl UnreadableFolder {
    /// The error in words.
    pub fn document(&self) -> ErrorDocument {
        let message = format!("cannot read the folder {}: {}", self.path.display(), self.reason);
        CliError::new(ErrorKind::Unavailable, message).document()
    }
}

/// What was seen in a place.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Seen {
    /// The version of the readers, and the exclusions.
    version: String,
    exclusions: [u8; 32],
    /// The folders that were searched, with the hash of their metadata.
    folders: BTreeMap<PathBuf, u64>,
    /// The transcripts and all other files, by path.
    sources: BTreeMap<SourcePath, SeenSource>,
    /// The folders that could not be read.
    unreadable: Vec<UnreadableFolder>,
}

/// The path of a source. Ordered by its bytes: a `Path` is compared component by component, which took a third of the time to compare
/// 20,000 sources with what was seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "PathBuf", into = "PathBuf")]
struct SourcePath(OsString);

impl SourcePath {
    fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl From<PathBuf> for SourcePath {
    fn from(path: PathBuf) -> Self {
        Self(path.into_os_string())
    }
}

impl From<SourcePath> for PathBuf {
    fn from(path: SourcePath) -> Self {
        path.0.into()
    }
}

impl Borrow<OsStr> for SourcePath {
    fn borrow(&self) -> &OsStr {
        &self.0
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SeenSource {
    companions: Vec<PathBuf>,
    /// Hash of the metadata of its files when it was imported.
    metadata: u64,
    state: SourceState,
}

/// What the last import made of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceState {
    /// It has to be imported.
    Changed,
    /// It has to be imported, which takes longer than a command waits for it.
    Slow,
    /// All of it is in the store.
    Imported,
    /// It contains nothing to import.
    Empty,
    /// The configuration excludes it.
    Excluded,
    /// Its session is in the trash.
    InTrash(SessionId),
    /// It cannot be read.
    Failed,
    /// It is not a transcript.
    NotATranscript,
}

impl SourceState {
    const fn is_changed(self) -> bool {
        matches!(self, Self::Changed | Self::Slow)
    }
}

/// What is wrong with a place.
#[derive(Debug)]
pub struct PlaceError(pub ImportError);

impl Place {
    /// The place with what was seen in it at the last time, if the readers are the same, and the exclusions, if any are given.
    ///
    /// # Errors
    /// Returns the store's error.
    pub fn load(root: PathBuf, store: &dyn Store, exclusions: Option<[u8; 32]>) -> StoreResult<Self> {
        let version = readers_version();
        let seen = find_stored(store, &stored_name(&root))?.filter(|seen: &Seen| {
            seen.version == version && exclusions.is_none_or(|hash| hash == seen.exclusions)
        });
        let mut place = Self {
            seen: Seen { version, exclusions: exclusions.unwrap_or_default(), ..Seen::default() },
            root,
            owners: HashMap::new(),
            changed: BTreeSet::new(),
            unsaved: Unsaved::Nothing,
            unsearched: 0,
        };
        let Some(seen) = seen else { return Ok(place) };
        place.seen = seen;
        let changes: BTreeMap<SourcePath, SeenSource> =
            find_stored(store, &name_of_changes(&place.root))?.unwrap_or_default();
        place.changed = changes.keys().cloned().collect();
        place.seen.sources.extend(changes);
        Ok(place)
    }

    /// Saves what was seen, if it has changed.
    ///
    /// # Errors
    /// Returns the store's error.
    pub fn save(&mut self, store: &dyn Store) -> StoreResult<()> {
        if self.unsaved == Unsaved::Nothing {
            return Ok(());
        }
        if self.changed.len() > self.seen.sources.len() / SOURCES_PER_CHANGE {
            self.unsaved = Unsaved::Everything;
        }
        if self.unsaved == Unsaved::Everything {
            self.changed.clear();
        }
        let all = (self.unsaved == Unsaved::Everything).then(|| postcard::to_stdvec(&self.seen));
        let changes: BTreeMap<&SourcePath, &SeenSource> =
            self.changed.iter().filter_map(|path| Some((path, self.seen.sources.get(path)?))).collect();
        // A name that is not Unicode cannot be encoded. The next process then compares every file with the store.
        if let (Ok(all), Ok(changes)) = (all.transpose(), postcard::to_stdvec(&changes)) {
            let entry = |path: String, bytes: Vec<u8>| CompleteImport {
                path,
                source: ImportedSource { fingerprint: self.seen.exclusions, sessions: Vec::new() },
                resume_point: Some(bytes),
            };
            let all = all.map(|all| entry(stored_name(&self.root), all));
            let changes = entry(name_of_changes(&self.root), changes);
            store.save_imported_sources(&all.into_iter().chain([changes]).collect::<Vec<_>>())?;
        }
        self.unsaved = Unsaved::Nothing;
        Ok(())
    }

    /// Whether what was seen differs from what the store keeps.
    pub fn is_unsaved(&self) -> bool {
        self.unsaved != Unsaved::Nothing
    }

    /// A known source that is about to change.
    fn source_to_change(&mut self, path: &Path) -> Option<&mut SeenSource> {
        let seen = self.seen.sources.get_mut(path.as_os_str())?;
        self.changed.insert(path.to_owned().into());
        self.unsaved = self.unsaved.max(Unsaved::ChangedSources);
        Some(seen)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folders that were searched.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.seen.folders.keys().map(PathBuf::as_path)
    }

    /// Number of transcripts.
    pub fn transcripts(&self) -> usize {
        let states = self.seen.sources.values().map(|source| source.state);
        states.filter(|state| *state != SourceState::NotATranscript).count()
    }

    /// The source to which a file belongs. Only known after [`index`](Self::index).
    pub fn owner_of(&self, file: &Path) -> Option<&Path> {
        let source = self.seen.sources.get_key_value(file.as_os_str()).map(|(path, _)| path.as_path());
        source.or_else(|| self.owners.get(file).map(PathBuf::as_path))
    }

    /// Whether a folder was searched.
    pub fn has_folder(&self, path: &Path) -> bool {
        self.seen.folders.contains_key(path)
    }

    /// Lists to which source each file belongs.
    pub fn index(&mut self) {
        self.owners.clear();
        for (path, seen) in &self.seen.sources {
            let path = path.as_path();
            let files = source_at(&self.root, path, seen).files().into_iter();
            self.owners.extend(files.filter(|file| file != path).map(|file| (file, path.to_owned())));
        }
    }

    /// Compares the metadata of all files and folders. Sources that have changed are marked. Returns whether the place has to be
    /// searched.
    pub fn compare(&mut self, is_in_trash: &dyn Fn(SessionId) -> bool) -> bool {
        let mut has_lost = false;
        for path in self.newly_changed(is_in_trash) {
            let Some(seen) = self.source_to_change(&path) else { continue };
            // Whether it is a transcript now is found by a search.
            has_lost |= seen.state == SourceState::NotATranscript || !path.exists();
            seen.state = SourceState::Changed;
        }
        let is_known = self.seen.sources.contains_key(self.root.as_os_str());
        match std::fs::metadata(&self.root) {
            Err(_) => is_known || !self.seen.folders.is_empty(),
            Ok(_) if self.seen.folders.is_empty() => has_lost || !is_known,
            Ok(_) => {
                has_lost || self.seen.folders.iter().any(|(path, hash)| metadata_hash(path) != Some(*hash))
            }
        }
    }

    /// Whether the root is another folder, or has other entries, than when it was searched.
    pub fn has_other_root(&self) -> bool {
        self.seen.folders.get(&self.root).is_some_and(|hash| metadata_hash(&self.root) != Some(*hash))
    }

    /// The sources whose files have changed since they were imported, or whose session has left the trash.
    fn newly_changed(&self, is_in_trash: &dyn Fn(SessionId) -> bool) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        let mut settled = Vec::new();
        for (path, seen) in &self.seen.sources {
            let path = path.as_path();
            match seen.state {
                SourceState::Changed | SourceState::Slow => {}
                SourceState::InTrash(session) if !is_in_trash(session) => changed.push(path.to_owned()),
                SourceState::InTrash(_)
                | SourceState::Imported
                | SourceState::Empty
                | SourceState::Excluded
                | SourceState::Failed
                | SourceState::NotATranscript => settled.push((path, seen)),
            }
        }
        changed.extend(changed_since_import(&self.root, &settled));
        changed
    }

    /// Marks a source as changed.
    pub fn mark(&mut self, path: &Path) {
        if self.state_of(path).is_some_and(|state| !state.is_changed())
            && let Some(seen) = self.source_to_change(path)
        {
            seen.state = SourceState::Changed;
        }
    }

    /// Searches the place for transcripts. Known files that [`compare`](Self::compare) has just found unchanged are not opened. After
    /// the deadline, no file is opened, and the next comparison finds that the place has to be searched again.
    ///
    /// # Errors
    /// If the place exists and cannot be read.
    pub fn search(&mut self, deadline: Option<Instant>) -> Result<(), PlaceError> {
        self.unsaved = Unsaved::Everything;
        self.unsearched = 0;
        self.seen.unreadable.clear();
        if !self.root.exists() {
            self.seen.folders.clear();
            self.seen.sources.clear();
            self.owners.clear();
            return Ok(());
        }
        let start = SystemTime::now();
        let before = std::mem::take(&mut self.seen.sources);
        // Folders are looked at before their content, so that a change meanwhile is found by the next comparison.
        let hashes: BTreeMap<PathBuf, Option<u64>> =
            self.seen.folders.keys().map(|folder| (folder.clone(), metadata_hash(folder))).collect();
        let is_unchanged = |source: &Source| {
            let seen = source.path().and_then(|path| before.get(path.as_os_str()));
            seen.is_some_and(|seen| !seen.state.is_changed() && seen.companions == source.companions())
        };
        let left_out = RefCell::new(BTreeSet::new());
        let is_known = |source: &Source| {
            if is_unchanged(source) {
                return true;
            }
            let is_over = deadline.is_some_and(|deadline| Instant::now() > deadline);
            if is_over {
                left_out.borrow_mut().extend(source.path().map(Path::to_owned));
            }
            is_over
        };
        let found = discover_unless_known(&self.root, is_known);
        let left_out = left_out.into_inner();
        self.unsearched = left_out.len();
        let Discovery { sources, skipped, folders, .. } = match found {
            Ok(found) => found,
            // The folder has only files of a format that hfs does not read.
            Err(ImportError::UnreadFormat { .. }) => {
                Discovery { folders: vec![self.root.clone()], ..Discovery::default() }
            }
            Err(error) => {
                self.seen.sources = before;
                return Err(PlaceError(error));
            }
        };
        for source in sources {
            let Some(path) = source.path().map(Path::to_owned).filter(|path| !left_out.contains(path)) else {
                continue;
            };
            let seen = match before.get(path.as_os_str()) {
                Some(seen) if is_unchanged(&source) => seen.clone(),
                known => SeenSource {
                    companions: source.companions().to_vec(),
                    metadata: 0,
                    state: known.map_or(SourceState::Changed, |seen| match seen.state {
                        SourceState::Slow => SourceState::Slow,
                        _ => SourceState::Changed,
                    }),
                },
            };
            self.seen.sources.insert(path.into(), seen);
        }
        for file in skipped {
            match file.reason {
                UnreadReason::PartOf(_) | UnreadReason::Link | UnreadReason::Special => continue,
                UnreadReason::Unreadable(reason) => {
                    self.seen.unreadable.push(UnreadableFolder { path: file.path, reason });
                    continue;
                }
                _ => {}
            }
            let metadata = Source::found(&file.path).metadata_hash();
            let state = SourceState::NotATranscript;
            let seen = SeenSource { companions: Vec::new(), metadata, state };
            self.seen.sources.insert(file.path.into(), seen);
        }
        let with_hash = |folder: PathBuf| {
            // A folder that is new may have changed since it was searched. Unless its age shows that it has not, the next comparison
            // finds it changed.
            let known = hashes.get(&folder).copied().flatten();
            let hash = known.or_else(|| hash_if_unchanged_since(start, &folder));
            (folder, hash.filter(|_| left_out.is_empty()).unwrap_or_default())
        };
        self.seen.folders = folders.into_iter().map(with_hash).collect();
        Ok(())
    }

    /// The sources that have to be imported.
    pub fn changed(&self) -> impl Iterator<Item = &Path> {
        let changed = self.seen.sources.iter().filter(|(_, seen)| seen.state.is_changed());
        changed.map(|(path, _)| path.as_path())
    }

    /// What the last import made of a file; `None` if it was not seen.
    pub fn state_of(&self, path: &Path) -> Option<SourceState> {
        self.seen.sources.get(path.as_os_str()).map(|seen| seen.state)
    }

    /// Whether the import of a source takes long.
    pub fn is_slow(&self, path: &Path) -> bool {
        self.state_of(path) == Some(SourceState::Slow)
    }

    /// Number of files that the last search has left out because its time was over.
    pub const fn unsearched(&self) -> usize {
        self.unsearched
    }

    /// The folders that the last search could not read.
    pub fn unreadable(&self) -> &[UnreadableFolder] {
        &self.seen.unreadable
    }

    /// A known source, to be read; `None` if it is not known.
    pub fn source(&self, path: &Path) -> Option<Source> {
        Some(source_at(&self.root, path, self.seen.sources.get(path.as_os_str())?))
    }

    /// Records what an import made of a source. `metadata` is the hash of the metadata of its files before they were read.
    pub fn settle(&mut self, path: &Path, metadata: u64, state: SourceState) {
        if let Some(seen) = self.source_to_change(path) {
            (seen.metadata, seen.state) = (metadata, state);
        }
    }
}

/// The sources whose files have other metadata than when they were imported. A command that answers waits for this, so that several
/// threads ask the system for the metadata of many files.
fn changed_since_import(root: &Path, settled: &[(&Path, &SeenSource)]) -> Vec<PathBuf> {
    let changed_in = |part: &[(&Path, &SeenSource)]| -> Vec<PathBuf> {
        let mut subfolders = Subfolders::default();
        let is_changed = |(path, seen): &&(&Path, &SeenSource)| {
            source_at(root, path, seen).metadata_hash_with(&mut subfolders) != seen.metadata
        };
        part.iter().filter(is_changed).map(|(path, _)| path.to_path_buf()).collect()
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    let part = settled.len().div_ceil(threads).max(SOURCES_PER_THREAD);
    let (own, others) = settled.split_at_checked(part).unwrap_or((settled, &[]));
    thread::scope(|scope| {
        let others: Vec<_> = others.chunks(part).map(|part| scope.spawn(move || changed_in(part))).collect();
        let mut changed = changed_in(own);
        for other in others {
            changed.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        changed
    })
}

fn source_at(root: &Path, path: &Path, seen: &SeenSource) -> Source {
    // The user may have replaced the place itself by a link.
    let source = if path == root { Source::file(path) } else { Source::found(path) };
    source.with_companions(seen.companions.clone())
}

/// Hash of the metadata of a folder that has not changed since this time.
fn hash_if_unchanged_since(time: SystemTime, folder: &Path) -> Option<u64> {
    let hash = metadata_hash(folder)?;
    // Looked at after the hash, which is then as old.
    let modified = std::fs::metadata(folder).and_then(|metadata| metadata.modified()).ok()?;
    time.duration_since(modified).is_ok_and(|age| age > TIME_PRECISION).then_some(hash)
}

/// The name under which the store keeps what was seen in a place, as for a source.
fn stored_name(root: &Path) -> String {
    format!("place:{}", root.display())
}

/// The name under which the store keeps the sources that have changed since it got all of them.
fn name_of_changes(root: &Path) -> String {
    format!("place-changes:{}", root.display())
}

fn find_stored<T: DeserializeOwned>(store: &dyn Store, name: &str) -> StoreResult<Option<T>> {
    let bytes = store.find_resume_point(name)?;
    Ok(bytes.and_then(|bytes| postcard::from_bytes(&bytes).ok()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use hfs_core::{ImportStore as _, SystemClock};
    use hfs_store::MemoryStore;

    use super::*;

    const RECORD: &str = "{\"type\":\"user\",\"uuid\":\"00000001-0000-4000-8000-000000000001\",\"sessionId\":\"11111111-1111-4111-8111-111111111111\",\"cwd\":\"/p\",\"timestamp\":\"2026-01-01T00:00:00Z\",\"message\":{\"role\":\"user\",\"content\":\"hi\"}}\n";

    fn store() -> MemoryStore {
        MemoryStore::new(Arc::new(SystemClock))
    }

    fn place(root: &Path) -> Place {
        Place::load(root.to_owned(), &store(), None).unwrap()
    }

    fn import_all(place: &mut Place) -> Vec<PathBuf> {
        if place.compare(&|_| true) {
            place.search(None).unwrap();
        }
        let changed: Vec<PathBuf> = place.changed().map(Path::to_owned).collect();
        for path in &changed {
            let metadata = place.source(path).unwrap().metadata_hash();
            place.settle(path, metadata, SourceState::Imported);
        }
        changed
    }

    #[test]
    fn only_what_has_changed_has_to_be_imported() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut place = place(folder.path());
        assert_eq!(import_all(&mut place), Vec::<PathBuf>::new());
        fs::create_dir_all(path("a/b")).unwrap();
        fs::write(path("a/b/one.jsonl"), RECORD).unwrap();
        fs::write(path("a/notes.txt"), "x").unwrap();
        assert_eq!(import_all(&mut place), [path("a/b/one.jsonl")]);
        assert_eq!(import_all(&mut place), Vec::<PathBuf>::new());
        fs::write(path("a/b/one.jsonl"), RECORD.repeat(2)).unwrap();
        assert_eq!(import_all(&mut place), [path("a/b/one.jsonl")]);
        fs::rename(path("a/b/one.jsonl"), path("a/two.jsonl")).unwrap();
        assert_eq!(import_all(&mut place), [path("a/two.jsonl")]);
        fs::write(path("a/notes.txt"), "longer").unwrap();
        assert_eq!(import_all(&mut place), Vec::<PathBuf>::new());
        fs::remove_dir_all(path("a")).unwrap();
        assert_eq!(import_all(&mut place), Vec::<PathBuf>::new());
        assert_eq!(place.transcripts(), 0);
    }

    #[test]
    fn what_was_seen_is_kept_by_the_store_until_the_exclusions_change() {
        let folder = tempfile::tempdir().unwrap();
        let store = store();
        let file = folder.path().join("one.jsonl");
        fs::write(&file, RECORD).unwrap();
        let load = |exclusions| Place::load(folder.path().to_owned(), &store, Some(exclusions)).unwrap();
        let mut first = load([0; 32]);
        assert_eq!(import_all(&mut first).len(), 1);
        // A folder that was created just now is searched twice.
        assert_eq!(import_all(&mut first).len(), 0);
        first.save(&store).unwrap();
        let mut second = load([0; 32]);
        assert!(!second.compare(&|_| true), "it need not be searched");
        assert_eq!(second.changed().count(), 0);
        assert_eq!(import_all(&mut load([1; 32])).len(), 1);
    }

    #[test]
    fn a_change_of_one_source_among_many_is_saved_without_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let store = store();
        let path = |number: usize| folder.path().join(format!("{number:04}.jsonl"));
        let bytes = |name: String| store.find_resume_point(&name).unwrap().unwrap_or_default().len();
        let stored = || (bytes(stored_name(folder.path())), bytes(name_of_changes(folder.path())));
        (0..200).for_each(|number| fs::write(path(number), RECORD).unwrap());
        let load = || Place::load(folder.path().to_owned(), &store, None).unwrap();
        let mut first = load();
        import_all(&mut first);
        import_all(&mut first);
        first.save(&store).unwrap();
        let (all, none) = stored();
        for number in [7, 7, 9] {
            let mut content = fs::read_to_string(path(number)).unwrap();
            content.push_str(RECORD);
            fs::write(path(number), content).unwrap();
            let mut next = load();
            assert_eq!(import_all(&mut next), [path(number)]);
            next.save(&store).unwrap();
            let mut after = load();
            assert!(!after.compare(&|_| true) && after.changed().next().is_none());
        }
        let (same, changes) = stored();
        assert!(same == all && none < 10 && changes > none && changes * 20 < all, "{all} {none} {changes}");
        (20..60).for_each(|number| fs::write(path(number), "").unwrap());
        let mut many = load();
        assert_eq!(import_all(&mut many).len(), 40);
        many.save(&store).unwrap();
        assert_eq!(stored().1, none, "all sources were saved again");
        assert_eq!(import_all(&mut load()), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_new_folder_that_is_not_written_is_searched_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("one.jsonl"), RECORD).unwrap();
        let an_hour_ago = SystemTime::now() - Duration::from_secs(3_600);
        fs::File::open(folder.path()).unwrap().set_modified(an_hour_ago).unwrap();
        let mut place = place(folder.path());
        assert_eq!(import_all(&mut place).len(), 1);
        assert!(!place.compare(&|_| true), "it need not be searched");
        fs::write(folder.path().join("two.jsonl"), RECORD).unwrap();
        assert_eq!(import_all(&mut place).len(), 1);
    }

    #[test]
    fn a_search_without_time_finds_the_rest_later() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["one.jsonl", "two.jsonl"] {
            fs::write(folder.path().join(name), RECORD).unwrap();
        }
        let mut place = place(folder.path());
        assert!(place.compare(&|_| true));
        place.search(Some(Instant::now())).unwrap();
        assert_eq!((place.changed().count(), place.unsearched()), (0, 2));
        assert_eq!(import_all(&mut place).len(), 2);
        assert_eq!(place.unsearched(), 0);
    }

    #[test]
    fn a_session_that_is_back_from_the_trash_is_imported() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("one.jsonl");
        fs::write(&file, RECORD).unwrap();
        let mut place = place(folder.path());
        import_all(&mut place);
        let metadata = place.source(&file).unwrap().metadata_hash();
        place.settle(&file, metadata, SourceState::InTrash(SessionId::generate()));
        place.compare(&|_| true);
        assert_eq!(place.changed().count(), 0);
        place.compare(&|_| false);
        assert_eq!(place.changed().count(), 1);
    }

    #[test]
    fn each_change_among_many_files_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = |number: usize| folder.path().join(format!("{number:04}.jsonl"));
        let count = 2 * SOURCES_PER_THREAD + 7;
        (0..count).for_each(|number| fs::write(path(number), RECORD).unwrap());
        let mut place = place(folder.path());
        assert_eq!(import_all(&mut place).len(), count);
        assert_eq!(import_all(&mut place).len(), 0);
        let changed = [0, SOURCES_PER_THREAD - 1, SOURCES_PER_THREAD, count - 1].map(path);
        for file in &changed {
            fs::write(file, RECORD.repeat(2)).unwrap();
        }
        assert_eq!(import_all(&mut place), changed);
    }

    #[test]
    fn a_file_finds_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("one/subagents")).unwrap();
        fs::write(path("one.jsonl"), RECORD).unwrap();
        fs::write(path("one/subagents/agent-1.jsonl"), RECORD).unwrap();
        let mut place = place(folder.path());
        import_all(&mut place);
        place.index();
        assert_eq!(place.owner_of(&path("one/subagents/agent-1.jsonl")), Some(&*path("one.jsonl")));
        assert_eq!(place.owner_of(&path("other.jsonl")), None);
    }
}
