//! The watcher: imports what other tools write, as they write it, until it is stopped.
//!
//! A change makes its source due a moment later, so that the writes of one turn are imported together; a source that is written
//! without a pause is due after a bounded time. How often a source is imported depends on how long its last import took, so that a
//! large file that has to be read as a whole does not keep a core busy. The watcher sleeps until the next source is due or
//! something changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hfs_core::{Clock as _, Store, StoreResult, SystemClock};
use tokio_util::sync::CancellationToken;

use super::changes::{ChangedPaths, Changes, WatchError, WatchedFolders};
use super::exclusions::Exclusions;
use super::follower::{ChangedSource, Follower, ImportRound, OpenLine, SourceImport, modified_at};
use super::import_folder::{ImportFolder, Lock};
use super::place::SourceState;
use super::status::{Lags, PlaceStatus, WatchMode, WatchReport};
use crate::commands::import::{ImportedJson, render_session};
use crate::context::Context;
use crate::output::error::{CliError, ErrorDocument};
use crate::wiring;

/// A source is due when it was not written for this time.
const QUIET_TIME: Duration = Duration::from_millis(100);
/// A source that is written without a pause is due this time after the first write.
const MAX_DELAY: Duration = Duration::from_millis(600);
/// A source is not imported again before this many times the duration of its last import.
const PAUSE_FACTOR: u32 = 3;
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// A last line that has not ended is imported after this time, if it is a whole record.
const OPEN_LINE_TIME: Duration = Duration::from_secs(2);
/// A source that could not be read while it was written is tried again after this time. The error is reported if it cannot be read
/// for the longer time.
const RETRY_TIME: Duration = Duration::from_millis(500);
const UNREADABLE_TIME: Duration = Duration::from_secs(5);
/// A place is searched at most this often, and not again before this many times the duration of its last search.
const SEARCH_TIME: Duration = Duration::from_millis(300);
const SEARCH_PAUSE_FACTOR: u32 = 10;
/// Without reports of the operating system, all files are compared this often, and not again before this many times the duration.
const POLL_TIME: Duration = Duration::from_secs(1);
const POLL_PAUSE_FACTOR: u32 = 30;
/// With such reports, all files are compared this often nevertheless, because a file system may not report everything.
const COMPARE_TIME: Duration = Duration::from_secs(600);
/// Folders are looked for that were mounted where others are watched this often.
const MOUNT_TIME: Duration = Duration::from_secs(15);
/// What was seen is saved this time after a change.
const SAVE_TIME: Duration = Duration::from_secs(20);
/// The report is saved at most this often.
const REPORT_TIME: Duration = Duration::from_secs(1);
/// The store is tried again after this time, and then after twice that time, if it fails.
const STORE_RETRY_TIME: Duration = Duration::from_secs(1);
const MAX_STORE_RETRY_TIME: Duration = Duration::from_secs(60);
/// At most so many sources, and so many bytes of files, are imported in one round.
const ROUND_SOURCES: usize = 64;
const ROUND_BYTES: u64 = 16 << 20;

/// Runs until it is stopped.
pub struct Watcher<'a> {
    context: &'a Context,
    store: &'a dyn Store,
    folder: &'a ImportFolder,
    stop: CancellationToken,
    follower: Follower<'a>,
    changes: Changes,
    is_polling: bool,
    /// Sources that have changed.
    due: HashMap<ChangedSource, Due>,
    /// When the next import of a source may begin.
    pauses: HashMap<ChangedSource, Instant>,
    /// Sources whose last line has not ended, with the time at which it is imported if it is a whole record.
    open_lines: HashMap<ChangedSource, Instant>,
    /// Sources that could not be read while they were written, with the time of the first attempt.
    unreadable: HashMap<ChangedSource, Instant>,
    /// When a place is searched, by its index.
    searches: BTreeMap<usize, SearchDue>,
    search_pauses: BTreeMap<usize, Instant>,
    next_comparison: Instant,
    next_mount_check: Instant,
    /// Whether messages are not in the search index yet.
    has_unindexed: bool,
    save_at: Option<Instant>,
    store_failure: Option<StoreFailure>,
    /// Files that cannot be read, with the error that was reported.
    failed: BTreeMap<PathBuf, String>,
    /// Errors of places that were reported.
    place_errors: BTreeSet<String>,
    lags: Lags,
    report: WatchReport,
    report_saved_at: Option<Instant>,
    has_new_report: bool,
}

/// A source that has changed.
#[derive(Debug, Clone, Copy)]
struct Due {
    since: Instant,
    last: Instant,
    /// Whether the time of the change is known. That of a file that was there before is not.
    is_new: bool,
}

/// A place in which something has changed that belongs to no known source.
#[derive(Debug, Clone, Copy)]
struct SearchDue {
    at: Instant,
    since: Instant,
}

/// The store cannot be used.
struct StoreFailure {
    message: String,
    retry_at: Instant,
    retry_time: Duration,
}

impl<'a> Watcher<'a> {
    /// # Errors
    /// Returns the store's error.
    pub fn new(
        context: &'a Context,
        store: &'a dyn Store,
        folder: &'a ImportFolder,
        exclusions: &'a Exclusions,
        stop: CancellationToken,
    ) -> StoreResult<Self> {
        let follower = Follower::new(store, exclusions, &context.environment, &context.home)?;
        let (changes, error) = Changes::new();
        let mut watcher = Self {
            context,
            store,
            folder,
            stop,
            follower,
            changes,
            is_polling: false,
            due: HashMap::new(),
            pauses: HashMap::new(),
            open_lines: HashMap::new(),
            unreadable: HashMap::new(),
            searches: BTreeMap::new(),
            search_pauses: BTreeMap::new(),
            next_comparison: Instant::now(),
            next_mount_check: Instant::now() + MOUNT_TIME,
            has_unindexed: true,
            save_at: None,
            store_failure: None,
            failed: BTreeMap::new(),
            place_errors: BTreeSet::new(),
            lags: Lags::default(),
            report: WatchReport::new(SystemClock.now()),
            report_saved_at: None,
            has_new_report: true,
        };
        if let Some(error) = error {
            watcher.begin_polling(&error);
        }
        Ok(watcher)
    }

    /// Imports what is new, then what changes, until it is stopped.
    ///
    /// # Errors
    /// If the results cannot be printed.
    pub fn run(mut self) -> Result<(), CliError> {
        let (stop, wake, runtime) = (self.stop.clone(), self.changes.waker(), wiring::runtime()?);
        std::thread::spawn(move || {
            runtime.block_on(stop.cancelled());
            wake();
        });
        self.compare_all();
        let result = self.follow();
        // What was imported is durable. Without this, the next process has to compare more.
        if let Err(error) = self.follower.save() {
            tracing::warn!(%error, "what was seen was not saved");
        }
        self.has_new_report = true;
        self.save_report(true);
        result
    }

    fn follow(&mut self) -> Result<(), CliError> {
        while !self.stop.is_cancelled() {
            let changed = self.changes.take();
            self.note(changed);
            let now = Instant::now();
            if now >= self.next_comparison {
                self.compare_all();
            }
            if now >= self.next_mount_check {
                self.look_for_mounts(now);
            }
            let places: Vec<usize> =
                self.searches.iter().filter(|(_, due)| due.at <= now).map(|(place, _)| *place).collect();
            if !places.is_empty() {
                self.search(&places);
            }
            if let Some((sources, open_line)) = self.next_round(now) {
                self.import(&sources, open_line)?;
                continue;
            }
            self.index();
            if self.save_at.is_some_and(|at| at <= now) {
                self.save_at = None;
                if let Err(error) = self.follower.save() {
                    tracing::warn!(%error, "what was seen was not saved");
                }
            }
            self.save_report(false);
            let next = self.next_deadline();
            self.changes.wait(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }

    /// When there is something to do, if nothing changes.
    fn next_deadline(&self) -> Instant {
        let due = self.due.iter().map(|(source, due)| self.due_at(source, due));
        let due = due.chain(self.open_lines.values().copied());
        let retry_at = self.store_failure.as_ref().map(|failure| failure.retry_at);
        // Nothing is due before the store can be used.
        let due = due.min().map(|at| retry_at.map_or(at, |retry| at.max(retry)));
        let report = self.report_saved_at.filter(|_| self.has_new_report).map(|at| at + REPORT_TIME);
        let searches = self.searches.values().map(|due| due.at).min();
        let others = [due, self.save_at, report, searches, Some(self.next_mount_check)];
        others.into_iter().flatten().fold(self.next_comparison, Instant::min)
    }

    fn due_at(&self, source: &ChangedSource, due: &Due) -> Instant {
        let at = (due.last + QUIET_TIME).min(due.since + MAX_DELAY);
        self.pauses.get(source).map_or(at, |pause| at.max(*pause))
    }

    /// What to import now; `None` if nothing is due, or the store has failed just now.
    fn next_round(&self, now: Instant) -> Option<(Vec<ChangedSource>, OpenLine)> {
        if self.store_failure.as_ref().is_some_and(|failure| failure.retry_at > now) {
            return None;
        }
        let due = self.due_sources(now);
        if !due.is_empty() {
            return Some((due, OpenLine::Leave));
        }
        let ended = self.open_lines.iter().filter(|(_, at)| **at <= now);
        let ended: Vec<ChangedSource> = ended.map(|(source, _)| source.clone()).collect();
        (!ended.is_empty()).then_some((ended, OpenLine::ImportRecord))
    }

    /// The sources that are due: those that wait longest, of those that were written just now, and then the others.
    fn due_sources(&self, now: Instant) -> Vec<ChangedSource> {
        let mut due: Vec<(&ChangedSource, &Due)> =
            self.due.iter().filter(|(source, due)| self.due_at(source, due) <= now).collect();
        due.sort_by(|(first, one), (second, other)| {
            (!one.is_new, one.since, *first).cmp(&(!other.is_new, other.since, *second))
        });
        let mut bytes = 0;
        let mut sources = Vec::new();
        for (source, due) in due.into_iter().take(ROUND_SOURCES) {
            if bytes > ROUND_BYTES {
                break;
            }
            // Of a file that was imported before, only the end is read.
            if !due.is_new {
                bytes += std::fs::metadata(&source.path).map_or(0, |metadata| metadata.len());
            }
            sources.push(source.clone());
        }
        sources
    }

    /// Notes which sources have changed, and which places have to be searched.
    fn note(&mut self, changed: ChangedPaths) {
        if changed.has_lost {
            self.next_comparison = Instant::now();
        }
        let now = Instant::now();
        for (path, at) in changed.paths {
            for index in 0..self.follower.places.len() {
                let Some(place) = self.follower.places.get_mut(index) else { continue };
                if let Some(owner) = place.owner_of(&path).map(Path::to_owned) {
                    place.mark(&owner);
                    if !owner.exists() {
                        self.searches.entry(index).or_insert(SearchDue { at: now, since: at });
                        continue;
                    }
                    let source = ChangedSource { place: index, path: owner };
                    self.open_lines.remove(&source);
                    let due = self.due.entry(source).or_insert(Due { since: at, last: at, is_new: true });
                    due.last = now;
                    continue;
                }
                let is_place = path.starts_with(place.root()) || place.root().starts_with(&path);
                // A file that an editor or a tool wrote for a moment is gone already.
                if is_place && (path.exists() || place.has_folder(&path)) || place.root() == path {
                    let pause = self.search_pauses.get(&index).copied().unwrap_or(now);
                    let due = SearchDue { at: pause.max(now + QUIET_TIME), since: at };
                    self.searches.entry(index).or_insert(due);
                }
            }
        }
    }

    /// Compares all places with what was seen in them.
    fn compare_all(&mut self) {
        let start = Instant::now();
        let places: Vec<usize> = (0..self.follower.places.len()).collect();
        self.search(&places);
        let duration = start.elapsed();
        let time = if self.is_polling { POLL_TIME.max(duration * POLL_PAUSE_FACTOR) } else { COMPARE_TIME };
        self.next_comparison = Instant::now() + time;
    }

    /// Compares places with what was seen in them, searches them if necessary, and watches their folders.
    fn search(&mut self, places: &[usize]) {
        let start = Instant::now();
        let mut durations = vec![Duration::ZERO; places.len()];
        // What changes in a folder before it is watched is found by comparing once more.
        for _ in 0..3 {
            for (index, duration) in places.iter().zip(&mut durations) {
                if self.stop.is_cancelled() {
                    return;
                }
                let begin = Instant::now();
                self.compare(*index);
                *duration += begin.elapsed();
            }
            match self.changes.watch(self.watched_folders()) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.begin_polling(&error);
                    break;
                }
            }
        }
        for (index, duration) in places.iter().zip(durations) {
            self.after_search(*index, start, duration);
        }
    }

    /// Makes the search of places due where another folder is now than the one that is watched.
    fn look_for_mounts(&mut self, now: Instant) {
        self.next_mount_check = now + MOUNT_TIME;
        if self.is_polling {
            return;
        }
        for (index, place) in self.follower.places.iter().enumerate() {
            let is_replaced = |folder: &Path| self.changes.is_replaced(folder);
            if place.has_other_root() || place.root().ancestors().any(is_replaced) {
                self.changes.forget(place.root());
                self.searches.entry(index).or_insert(SearchDue { at: now, since: now });
            }
        }
    }

    /// Compares a place with what was seen in it, and searches it if necessary.
    fn compare(&mut self, index: usize) {
        if let Err(error) = self.follower.compare(index, None) {
            let document = ErrorDocument::new(&error.0);
            if self.place_errors.insert(document.one_line()) {
                self.context.console.print_error(&document);
            }
        }
        if let Some(place) = self.follower.places.get(index) {
            self.failed.retain(|path, _| !path.starts_with(place.root()) || !path.is_dir());
            for folder in place.unreadable() {
                let document = folder.document();
                let message = document.one_line();
                if self.place_errors.insert(message.clone()) {
                    self.context.console.print_error(&document);
                }
                self.failed.insert(folder.path.clone(), message);
            }
        }
        // The index finds the sources of reported paths, and no path is reported to a watcher that polls.
        if !self.is_polling
            && let Some(place) = self.follower.places.get_mut(index)
        {
            place.index();
        }
    }

    /// Makes the changed sources of a place due. `duration` is how long it took to compare and search it, from `start` on.
    fn after_search(&mut self, index: usize, start: Instant, duration: Duration) {
        let now = Instant::now();
        let since = self.searches.remove(&index).map(|due| due.since);
        let Some(place) = self.follower.places.get(index) else { return };
        for path in place.changed() {
            let source = ChangedSource { place: index, path: path.to_owned() };
            if self.open_lines.contains_key(&source) {
                continue;
            }
            // What was there at the start of the watcher has waited for another reason.
            let written = self.report_saved_at.and_then(|_| since.or_else(|| written_just_now(path)));
            let is_new = written.is_some();
            self.due.entry(source).or_insert(Due { since: written.unwrap_or(start), last: start, is_new });
        }
        let known: BTreeSet<&Path> = place.changed().collect();
        self.due.retain(|source, _| source.place != index || known.contains(source.path.as_path()));
        self.open_lines.retain(|source, _| source.place != index || known.contains(source.path.as_path()));
        self.failed.retain(|path, _| !path.starts_with(place.root()) || path.exists());
        self.search_pauses.insert(index, now + SEARCH_TIME.max(duration * SEARCH_PAUSE_FACTOR));
        // A watcher that polls would otherwise write its report every second.
        if place.is_unsaved() {
            self.save_at.get_or_insert(now + SAVE_TIME);
            self.has_new_report = true;
        }
    }

    /// The folders of all places, and the folders in which those appear that do not exist.
    fn watched_folders(&self) -> WatchedFolders {
        let mut folders = WatchedFolders::default();
        for place in &self.follower.places {
            folders.whole.extend(place.folders().map(Path::to_owned));
            // The place itself may be removed, replaced or created.
            let mut path = place.root();
            while let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
                let names = folders.named.entry(parent.to_owned()).or_default();
                names.insert(name.to_owned());
                if place.root() == path && !path.is_dir() {
                    let mut log: OsString = name.to_owned();
                    log.push("-wal");
                    names.insert(log);
                }
                if parent.is_dir() {
                    break;
                }
                path = parent;
            }
        }
        folders
    }

    /// Polls from now on, because the operating system does not report changes.
    fn begin_polling(&mut self, error: &WatchError) {
        if self.is_polling {
            return;
        }
        self.is_polling = true;
        self.next_comparison = Instant::now();
        let reason = match error {
            WatchError::Limit => {
                "the system's limit of watched folders is reached (fs.inotify.max_user_watches and \
                                  max_user_instances raise it)"
                    .to_owned()
            }
            WatchError::Other(reason) => format!("the system does not report changes ({reason})"),
        };
        self.context.console.warn(&format!("{reason}; hfs looks for changes about every second instead"));
        self.report.mode = WatchMode::Polling;
        self.report.mode_reason = Some(reason);
        self.has_new_report = true;
    }

    /// Waits for the lock of imports; `None` if the watcher is stopped.
    fn lock_imports(&self) -> Option<std::io::Result<Lock>> {
        while !self.stop.is_cancelled() {
            match self.folder.try_lock_import() {
                Ok(Some(lock)) => return Some(Ok(lock)),
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }

    fn import(&mut self, sources: &[ChangedSource], open_line: OpenLine) -> Result<(), CliError> {
        let round = match self.lock_imports() {
            None => return Ok(()),
            Some(Err(error)) => {
                let error = CliError::io("lock the store for an import", error).document();
                ImportRound { failure: Some(error), ..ImportRound::default() }
            }
            Some(Ok(_lock)) => {
                let stop = || self.stop.is_cancelled();
                self.follower.import(sources, open_line, &stop)
            }
        };
        let now = Instant::now();
        let ImportRound { sources: imports, failure, interrupted: _, is_stopped } = round;
        if failure.is_none() && !is_stopped {
            self.store_failure = None;
            let imported: BTreeSet<&ChangedSource> = imports.iter().map(|import| &import.source).collect();
            for source in sources {
                self.open_lines.remove(source);
                // It is excluded, or does not exist any more.
                if !imported.contains(source) {
                    self.due.remove(source);
                    if !source.path.exists() {
                        let due = SearchDue { at: now + QUIET_TIME, since: now };
                        self.searches.entry(source.place).or_insert(due);
                    }
                }
            }
        }
        for import in imports {
            self.after_import(import, open_line, now)?;
        }
        if let Some(error) = failure {
            self.store_failed(&error);
        }
        self.save_at.get_or_insert(now + SAVE_TIME);
        self.has_new_report = true;
        self.save_report(false);
        Ok(())
    }

    fn after_import(
        &mut self,
        import: SourceImport,
        open_line: OpenLine,
        now: Instant,
    ) -> Result<(), CliError> {
        let SourceImport { source, state, imported, error, bytes_read, has_open_line, duration } = import;
        let due = self.due.remove(&source);
        self.report.bytes_read += bytes_read;
        self.pauses.retain(|_, pause| *pause > now);
        let mut pause = (duration * PAUSE_FACTOR).min(MAX_PAUSE);
        let is_replaced = state == SourceState::Changed && error.is_some() && {
            let first = *self.unreadable.entry(source.clone()).or_insert(now);
            now.saturating_duration_since(first) < UNREADABLE_TIME
        };
        if error.is_none() {
            self.unreadable.remove(&source);
        }
        if let Some(error) = error.filter(|_| !is_replaced) {
            let message = error.one_line();
            let is_new = self.failed.get(&source.path) != Some(&message);
            if is_new {
                self.context.console.print_error(&error);
            }
            self.failed.insert(source.path.clone(), message);
            // Until it is mended, each attempt may read the whole file.
            pause = pause.max(Duration::from_secs(1));
        } else if !is_replaced {
            self.failed.remove(&source.path);
        }
        if !pause.is_zero() {
            self.pauses.insert(source.clone(), now + pause);
        }
        if has_open_line && open_line == OpenLine::Leave {
            self.open_lines.insert(source.clone(), now + OPEN_LINE_TIME);
        } else if state == SourceState::Changed && !has_open_line {
            // It was just being written.
            let at = now + RETRY_TIME;
            self.due.insert(source, Due { since: at, last: at, is_new: false });
        }
        if imported.is_empty() {
            return Ok(());
        }
        if let Some(due) = due.filter(|due| due.is_new) {
            self.lags.add(now.saturating_duration_since(due.since));
            self.report.lag_ms = self.lags.summary();
        }
        self.has_unindexed = true;
        self.report.last_import_at = Some(SystemClock.now());
        let console = &self.context.console;
        for session in &imported {
            let counts = &mut self.report.imported;
            if session.updated {
                counts.updates += 1;
            } else {
                counts.new_sessions += 1;
            }
            counts.messages += session.messages;
            if console.options.json {
                let line = serde_json::to_string(&ImportedJson::new(session));
                let line = line.map_err(|error| CliError::io("encode the result", error.into()))?;
                console.print(&(line + "\n"))?;
            } else if console.output_is_terminal() && !console.options.quiet {
                console.print(&render_session(session, console.options.verbose))?;
            }
        }
        Ok(())
    }

    /// Reports that the store cannot be used, once for each reason, and tries again later.
    fn store_failed(&mut self, error: &ErrorDocument) {
        let message = error.one_line();
        let before = self.store_failure.take();
        if before.as_ref().is_none_or(|failure| failure.message != message) {
            self.context.console.print_error(error);
        }
        let retry_time =
            before.map_or(STORE_RETRY_TIME, |failure| (failure.retry_time * 2).min(MAX_STORE_RETRY_TIME));
        self.store_failure =
            Some(StoreFailure { message, retry_at: Instant::now() + retry_time, retry_time });
    }

    /// Adds the imported messages to the search index, so that the next search need not.
    fn index(&mut self) {
        if !std::mem::take(&mut self.has_unindexed) {
            return;
        }
        let stop = self.stop.clone();
        if let Err(error) = self.store.update_index(&mut |_| !stop.is_cancelled()) {
            tracing::warn!(%error, "the imported messages are not indexed yet");
        }
    }

    /// Saves the report, if it has changed and was not saved just now.
    fn save_report(&mut self, at_once: bool) {
        let is_time = self.report_saved_at.is_none_or(|at| at.elapsed() >= REPORT_TIME);
        if !self.has_new_report || !(is_time || at_once) {
            return;
        }
        self.has_new_report = false;
        self.report_saved_at = Some(Instant::now());
        let places = self.follower.places.iter().filter(|place| place.root().exists());
        let places = places.map(|place| PlaceStatus {
            path: place.root().to_owned(),
            transcripts: place.transcripts() as u64,
        });
        self.report.places = places.collect();
        self.report.waiting = self.due.len() as u64;
        self.report.set_failed(self.failed.iter());
        if let Err(error) = self.folder.save_report(&self.report) {
            tracing::warn!(%error, "the report of the watcher was not saved");
        }
    }
}

/// When a file was written, if that was within the last seconds.
fn written_just_now(path: &Path) -> Option<Instant> {
    let age = modified_at(path)?.elapsed().ok().filter(|age| *age < Duration::from_secs(5))?;
    Instant::now().checked_sub(age)
}
