//! Imports what has changed in the places where other tools write.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use hfs_core::{Flow, ImportError, SessionId, Store, StoreResult, SystemClock};
use hfs_engine::{ImportedSession, Importer, OnDuplicate, SkipReason, SkippedSession};
use hfs_exchange::{Source, default_locations};

use super::exclusions::Exclusions;
use super::place::{Place, PlaceError, SourceState};
use crate::commands::import::{ProjectResolver, affects_all_files};
use crate::commands::start::location_overrides;
use crate::environment::Environment;
use crate::home::Home;
use crate::output::error::ErrorDocument;

/// A file that cannot be read may be one that its writer is just replacing. Its error is reported when it is older than this.
const REPLACEMENT_TIME: Duration = Duration::from_secs(2);

/// The places where other tools write, and the store into which their transcripts are imported.
pub struct Follower<'a> {
    store: &'a dyn Store,
    exclusions: &'a Exclusions,
    home: &'a Home,
    pub places: Vec<Place>,
}

/// A source that has to be imported.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangedSource {
    /// Index of its place.
    pub place: usize,
    pub path: PathBuf,
}

/// What the import of a source has done.
#[derive(Debug)]
pub struct SourceImport {
    pub source: ChangedSource,
    pub state: SourceState,
    /// The sessions that are new or have changed.
    pub imported: Vec<ImportedSession>,
    /// Why it cannot be read. If its state is [`SourceState::Changed`], it was just being written.
    pub error: Option<ErrorDocument>,
    pub bytes_read: u64,
    /// Whether its last line has not ended, and is still to be imported.
    pub has_open_line: bool,
    pub duration: Duration,
}

/// What the imports of several sources have done.
#[derive(Debug, Default)]
pub struct ImportRound {
    pub sources: Vec<SourceImport>,
    /// Why the round has ended early, if every other import would fail for the same reason.
    pub failure: Option<ErrorDocument>,
    /// Whether it was stopped.
    pub is_stopped: bool,
    /// The source that was being read then, and for how long.
    pub interrupted: Option<(ChangedSource, Duration)>,
}

impl ImportRound {
    /// The source at which the round was stopped, if it took the time itself. One that had less time than those before it may be a
    /// quick one.
    pub fn slow(&self) -> Option<&ChangedSource> {
        let others: Duration = self.sources.iter().map(|import| import.duration).sum();
        let (source, duration) = self.interrupted.as_ref()?;
        (*duration >= others).then_some(source)
    }
}

/// What to do with a last line that its writer has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenLine {
    /// It is left for later.
    Leave,
    /// It is imported if it is a whole record.
    ImportRecord,
}

impl<'a> Follower<'a> {
    /// A follower of all places where tools write on this machine.
    ///
    /// # Errors
    /// Returns the store's error.
    pub fn new(
        store: &'a dyn Store,
        exclusions: &'a Exclusions,
        environment: &Environment,
        home: &'a Home,
    ) -> StoreResult<Self> {
        let hash = exclusions.hash();
        let roots = locations(environment).into_iter();
        let places = roots.map(|root| Place::load(root, store, Some(hash))).collect::<StoreResult<_>>()?;
        Ok(Self { store, exclusions, home, places })
    }

    /// Compares a place with what was seen in it, and searches it until the deadline if files were added or removed.
    ///
    /// # Errors
    /// If the place exists and cannot be read.
    pub fn compare(&mut self, place: usize, deadline: Option<Instant>) -> Result<(), PlaceError> {
        let store = self.store;
        let is_in_trash = |session: SessionId| {
            store.get_session(session).is_ok_and(|found| found.session.trashed_at.is_some())
        };
        let Some(place) = self.places.get_mut(place) else { return Ok(()) };
        if place.compare(&is_in_trash) { place.search(deadline) } else { Ok(()) }
    }

    /// Compares all places. Returns what is wrong with those that cannot be read.
    pub fn compare_all(&mut self, deadline: Option<Instant>) -> Vec<PlaceError> {
        (0..self.places.len()).filter_map(|place| self.compare(place, deadline).err()).collect()
    }

    /// All sources that have to be imported, those that were written last first. Those whose import is slow are left out if
    /// only quick ones are wanted.
    pub fn changed(&self, only_quick: bool) -> Vec<ChangedSource> {
        let places = self.places.iter().enumerate();
        let sources = places.flat_map(|(place, found)| {
            let changed = found.changed().filter(move |path| !only_quick || !found.is_slow(path));
            changed.map(move |path| ChangedSource { place, path: path.to_owned() })
        });
        let mut changed: Vec<(Option<SystemTime>, ChangedSource)> =
            sources.map(|source| (modified_at(&source.path), source)).collect();
        changed.sort_by(|first, second| second.cmp(first));
        changed.into_iter().map(|(_, source)| source).collect()
    }

    /// Imports sources in order, until `stop` returns true.
    pub fn import(
        &mut self,
        sources: &[ChangedSource],
        open_line: OpenLine,
        stop: &dyn Fn() -> bool,
    ) -> ImportRound {
        let mut round = ImportRound::default();
        if sources.is_empty() {
            return round;
        }
        let importer = Importer::new(self.store, &SystemClock, OnDuplicate::Auto, false)
            .with_progress(|_| if stop() { Flow::Stop } else { Flow::Continue });
        let mut receiver = ProjectResolver::new(importer, self.home).with_exclusions(self.exclusions);
        // What is settled when the imports are durable.
        let mut settled = Vec::new();
        for changed in sources {
            if stop() {
                round.is_stopped = true;
                break;
            }
            let Some(place) = self.places.get_mut(changed.place) else { continue };
            let Some(source) = place.source(&changed.path) else { continue };
            let start = Instant::now();
            let metadata = source.metadata_hash();
            if !changed.path.exists() {
                // The next search forgets it. Its sessions stay.
                continue;
            }
            if let Some(pattern) = self.exclusions.pattern_for_path(&changed.path) {
                tracing::debug!(pattern, "a transcript is excluded");
                settled.push((changed.clone(), metadata, SourceState::Excluded));
                continue;
            }
            let (result, bytes_read, has_open_line) = import_source(source, &mut receiver, open_line);
            let imported = std::mem::take(&mut receiver.importer.imported);
            let skipped = std::mem::take(&mut receiver.importer.skipped);
            let (state, error) = match result {
                Ok(()) => (state_after(&imported, &skipped), None),
                Err(ImportError::Interrupted { .. }) => {
                    round.is_stopped = true;
                    round.interrupted = Some((changed.clone(), start.elapsed()));
                    break;
                }
                Err(error) if affects_all_files(&error) => {
                    round.failure = Some(ErrorDocument::new(&error));
                    break;
                }
                // The next search forgets it.
                Err(ImportError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    continue;
                }
                Err(error) => {
                    // Another program may be replacing it.
                    let is_written = is_just_written(&changed.path);
                    let state = if is_written { SourceState::Changed } else { SourceState::Failed };
                    (state, Some(ErrorDocument::new(&error)))
                }
            };
            let state =
                if has_open_line && state == SourceState::Imported { SourceState::Changed } else { state };
            settled.push((changed.clone(), metadata, state));
            let duration = start.elapsed();
            let source = changed.clone();
            round.sources.push(SourceImport {
                source,
                state,
                imported,
                error,
                bytes_read,
                has_open_line,
                duration,
            });
        }
        match receiver.finish() {
            Ok(_) => {
                for (changed, metadata, state) in settled {
                    if let Some(place) = self.places.get_mut(changed.place) {
                        place.settle(&changed.path, metadata, state);
                    }
                }
            }
            Err(error) => {
                // Nothing was settled, so all of them have to be imported again.
                for import in &mut round.sources {
                    import.state = SourceState::Changed;
                }
                round.failure = Some(ErrorDocument::new(&error));
            }
        }
        round
    }

    /// Number of sources that have to be imported, and of files that a search has left out because its time was over.
    pub fn remaining(&self) -> usize {
        self.places.iter().map(|place| place.changed().count() + place.unsearched()).sum()
    }

    /// Marks a source whose import took too long.
    pub fn mark_slow(&mut self, source: &ChangedSource) {
        if let Some(place) = self.places.get_mut(source.place) {
            place.settle(&source.path, 0, SourceState::Slow);
        }
    }

    /// Saves what was seen in the places.
    ///
    /// # Errors
    /// Returns the store's error.
    pub fn save(&mut self) -> StoreResult<()> {
        self.places.iter_mut().try_for_each(|place| place.save(self.store))
    }
}

/// The places where tools write on this machine. They may not exist.
pub fn locations(environment: &Environment) -> Vec<PathBuf> {
    let Some(home) = &environment.user_home else { return Vec::new() };
    let locations = default_locations(home, &location_overrides(environment));
    let paths = locations.into_iter().map(|(_, path)| environment.working_directory.join(path));
    // The older storage folder of opencode is read with the database beside it.
    paths
        .filter(|path| !(path.ends_with("opencode/storage") && path.with_file_name("opencode.db").exists()))
        .collect()
}

pub fn modified_at(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn is_just_written(path: &Path) -> bool {
    modified_at(path).is_some_and(|at| at.elapsed().is_ok_and(|age| age < REPLACEMENT_TIME))
}

/// Imports a source. Returns how many bytes were read, and whether its last line was left out.
fn import_source(
    source: Source,
    receiver: &mut ProjectResolver<'_>,
    open_line: OpenLine,
) -> (Result<(), ImportError>, u64, bool) {
    let name = source.name();
    let source = match source.without_open_line() {
        Ok(source) if open_line == OpenLine::ImportRecord && source.ends_with_record() => {
            source.with_open_line()
        }
        Ok(source) => source,
        Err(error) => return (Err(ImportError::Io { path: name, source: error }), 0, false),
    };
    let has_open_line = source.open_line().is_some();
    // Not even the first line has ended.
    if has_open_line && source.bytes() == 0 {
        return (Ok(()), 0, true);
    }
    let result = receiver.import(&source, None, false);
    (result, source.bytes_read(), has_open_line)
}

/// What an import has made of a source, by the sessions that it has imported and skipped.
fn state_after(imported: &[ImportedSession], skipped: &[SkippedSession]) -> SourceState {
    // Of several sessions, one may be in the trash. The source is imported again when that one is back.
    let in_trash = skipped.iter().find_map(|skipped| match skipped.reason {
        SkipReason::InTrash { session, .. } => Some(session),
        _ => None,
    });
    if let Some(session) = in_trash {
        return SourceState::InTrash(session);
    }
    match skipped.first().filter(|_| imported.is_empty()).map(|skipped| &skipped.reason) {
        None
        | Some(SkipReason::AlreadyImported { .. } | SkipReason::NothingNew { .. } | SkipReason::Unchanged) => {
            SourceState::Imported
        }
        Some(SkipReason::Excluded { .. }) => SourceState::Excluded,
        Some(_) => SourceState::Empty,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_source_that_took_the_time_itself_is_slow() {
        let source = |path: &str| ChangedSource { place: 0, path: path.into() };
        let import = |milliseconds: &u64| SourceImport {
            source: source("before"),
            state: SourceState::Imported,
            imported: Vec::new(),
            error: None,
            bytes_read: 0,
            has_open_line: false,
            duration: Duration::from_millis(*milliseconds),
        };
        let round = |others: &[u64]| ImportRound {
            sources: others.iter().map(import).collect(),
            interrupted: Some((source("last"), Duration::from_millis(100))),
            ..ImportRound::default()
        };
        assert_eq!(round(&[]).slow(), Some(&source("last")));
        assert_eq!(round(&[20, 30]).slow(), Some(&source("last")));
        assert_eq!(round(&[60, 70]).slow(), None);
        assert_eq!(ImportRound::default().slow(), None);
    }

    #[test]
    fn a_source_with_a_session_in_the_trash_waits_for_it() {
        let session = SessionId::generate();
        let skipped = |reason: SkipReason| SkippedSession { file: "sessions.db".into(), reason };
        let in_trash = skipped(SkipReason::InTrash { name: "one".into(), session });
        let known = skipped(SkipReason::NothingNew { name: "other".into() });
        let both = [known.clone(), in_trash];
        assert_eq!(state_after(&[], &both), SourceState::InTrash(session));
        assert_eq!(state_after(&[], &[known]), SourceState::Imported);
        assert_eq!(state_after(&[], &[skipped(SkipReason::NoMessages)]), SourceState::Empty);
        assert_eq!(state_after(&[], &[]), SourceState::Imported);
    }
}
