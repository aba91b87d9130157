//! Imports sessions from a reader: creates new sessions in the store, and adds new messages to existing ones.

mod merge;
mod recorded;
mod resume;
mod session_title;

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use hfs_core::{
    Attachment, BranchId, BranchKey, CheckpointDraft, CheckpointId, Clock, CompleteImport, Continuation,
    Flow, ForeignBranch, ForeignSession, ImportEvent, ImportReceiver, ImportReport, ImportedSource,
    MAIN_BRANCH, MessageDraft, MessageId, Origin, PageRequest, Run, RunId, SessionDraft, SessionFilter,
    SessionId, SessionImport, SessionSummary, Store, StoreError, StoreResult, Suggestion, Timestamp,
    automatic_name,
};

use merge::MergeImport;
use resume::{ResumePoint, ResumedBranch, SourceProgress};
use session_title::SessionTitle;

/// What an import does with a session that is in the store already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDuplicate {
    /// Update the session if the source is another tool's transcript; skip it if the source is an hfs document.
    #[default]
    Auto,
    /// Skip the session.
    Skip,
    /// Import the source again as a new session.
    Copy,
    /// Bring the session to the state of the source: add its new messages, update those that have changed in it, and follow its
    /// title and current branch unless the user changed them. Where the source and the stored session diverge, the messages
    /// of the source go to a new branch.
    Update,
}

/// A session that was imported.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedSession {
    /// Path of the file.
    pub file: String,
    /// Format of the file.
    pub format: String,
    /// Session id; `None` in a dry run that would create a session.
    pub session: Option<SessionId>,
    /// Session name.
    pub name: String,
    /// Number of messages added.
    pub messages: u64,
    /// Number of messages that were imported before and have changed in the source.
    pub updated_messages: u64,
    /// Number of branches of the session.
    pub branches: u64,
    /// Whether the session existed before.
    pub updated: bool,
    /// Counts of the imported records, and warnings.
    pub report: ImportReport,
}

/// A session or file that was not imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedSession {
    /// Path of the file.
    pub file: String,
    /// Why it was skipped.
    pub reason: SkipReason,
}

/// Why a session or file was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// The directory contains no transcripts.
    NoTranscripts,
    /// The file contains no session.
    NoSession,
    /// The session was imported before.
    AlreadyImported {
        /// Session name.
        name: String,
    },
    /// The session was imported before, and the file has no new messages.
    NothingNew {
        /// Session name.
        name: String,
    },
    /// The file has not changed since it was imported, so it was not read.
    Unchanged,
    /// The file is a transcript without messages.
    NoMessages,
    /// The file is not imported, for this reason.
    NotImported(String),
    /// The session was imported before and is in the trash.
    InTrash {
        /// Session name.
        name: String,
        /// Session id.
        session: SessionId,
    },
    /// The session was imported before and then deleted permanently.
    Purged,
    /// The configuration excludes it from being followed.
    Excluded {
        /// The pattern that excludes it.
        pattern: String,
    },
}

impl SkipReason {
    /// Whether the sessions of the file are in the store.
    #[must_use]
    pub const fn is_imported(&self) -> bool {
        match self {
            Self::AlreadyImported { .. } | Self::NothingNew { .. } | Self::Unchanged => true,
            Self::NoTranscripts
            | Self::NoSession
            | Self::NoMessages
            | Self::NotImported(_)
            | Self::InTrash { .. }
            | Self::Purged
            | Self::Excluded { .. } => false,
        }
    }

    /// Suggests how the user can make the import possible; `None` if there is no way.
    #[must_use]
    pub const fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::InTrash { session, .. } => Some(Suggestion::RestoreSession(*session)),
            Self::Purged => Some(Suggestion::ImportPurged),
            Self::NoTranscripts
            | Self::NoSession
            | Self::AlreadyImported { .. }
            | Self::NothingNew { .. }
            | Self::Unchanged
            | Self::NoMessages
            | Self::NotImported(_)
            | Self::Excluded { .. } => None,
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTranscripts => f.write_str("it contains no transcripts"),
            Self::NoSession => f.write_str("it contains no session"),
            Self::AlreadyImported { name } => write!(f, "already imported as {name:?}"),
            Self::NothingNew { name } => write!(f, "already imported as {name:?}, without new messages"),
            Self::NoMessages => f.write_str("it contains no messages"),
            Self::NotImported(reason) => f.write_str(reason),
            Self::Unchanged => f.write_str("already imported, and unchanged since"),
            Self::InTrash { name, .. } => write!(f, "{name:?} is in the trash"),
            Self::Purged => f.write_str("it was imported before and then deleted permanently"),
            Self::Excluded { pattern } => write!(f, "watch.exclude contains {pattern:?}"),
        }
    }
}

/// Number of files whose states are saved together.
const SAVED_FILES: usize = 256;

/// Saves the sessions that readers pass to it. One importer can receive any number of files.
///
/// Its calls block. A reader makes one call for each record of a transcript, and an asynchronous call would cost more
/// than handling the record; the store that receives the batches blocks in any case. An asynchronous caller runs the
/// whole import of a file, reader and importer together, in `tokio::task::spawn_blocking`, and stops it through
/// [`with_progress`](Self::with_progress).
pub struct Importer<'a> {
    store: &'a dyn Store,
    clock: &'a dyn Clock,
    time_zone: jiff::tz::TimeZone,
    on_duplicate: OnDuplicate,
    dry_run: bool,
    includes_purged: bool,
    on_progress: Box<dyn FnMut(u64) -> Flow + 'a>,
    file: String,
    file_time: Option<Timestamp>,
    /// State of the current file, if it can be recognized when it is imported again.
    fingerprint: Option<[u8; 32]>,
    /// The sessions that were found in the current file and are in the store.
    file_sessions: Vec<SessionId>,
    /// Where the import of the current file continues.
    resume_point: Option<ResumePoint>,
    /// The sessions that an earlier import has found in the current file, if its reader knows which have changed.
    earlier_sessions: Vec<SessionId>,
    /// Sessions of the current file that are in the trash.
    trashed_sessions: Vec<SessionId>,
    /// What the reader of the current session needs to continue, or after the last session, to know which sessions change.
    reader_state: Option<Vec<u8>>,
    /// Where the next import of the current file continues.
    next_resume_point: Option<ResumePoint>,
    /// Files whose state is not saved yet.
    complete_files: Vec<CompleteImport>,
    /// Whether sessions were finished that may not be durable.
    has_relaxed: bool,
    receiver: Receiver<'a>,
    /// Sessions imported so far.
    pub imported: Vec<ImportedSession>,
    /// Sessions skipped so far.
    pub skipped: Vec<SkippedSession>,
}

/// Destination of the session that is being read.
enum Receiver<'a> {
    None,
    New(Box<NewSession<'a>>),
    Merge(Box<MergeImport<'a>>),
}

impl<'a> Importer<'a> {
    /// Creates an importer into `store`. A dry run produces the same report but writes nothing.
    #[must_use]
    pub fn new(store: &'a dyn Store, clock: &'a dyn Clock, on_duplicate: OnDuplicate, dry_run: bool) -> Self {
        Self {
            store,
            clock,
            time_zone: jiff::tz::TimeZone::system(),
            on_duplicate,
            dry_run,
            includes_purged: false,
            on_progress: Box::new(|_| Flow::Continue),
            file: String::new(),
            file_time: None,
            fingerprint: None,
            file_sessions: Vec::new(),
            resume_point: None,
            earlier_sessions: Vec::new(),
            trashed_sessions: Vec::new(),
            reader_state: None,
            next_resume_point: None,
            complete_files: Vec::new(),
            has_relaxed: false,
            receiver: Receiver::None,
            imported: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Calls `on_progress` with the number of bytes read of the current file. If it returns [`Flow::Stop`], the reader stops.
    #[must_use]
    pub fn with_progress(mut self, on_progress: impl FnMut(u64) -> Flow + 'a) -> Self {
        self.on_progress = Box::new(on_progress);
        self
    }

    /// Sets the time zone of the times in automatic session names.
    #[must_use]
    pub fn with_time_zone(mut self, time_zone: jiff::tz::TimeZone) -> Self {
        self.time_zone = time_zone;
        self
    }

    /// Sets whether the next files may bring back sessions that were deleted permanently. By default they may not, so that
    /// the import of a directory does not undo a purge.
    pub const fn include_purged(&mut self, includes_purged: bool) {
        self.includes_purged = includes_purged;
    }

    /// Sets the file that is read next, and discards an unfinished session of the previous file.
    ///
    /// `modified` is the modification time of the file. It is used for sessions that contain no timestamp.
    pub fn next_file(&mut self, file: impl Into<String>, modified: Option<Timestamp>) {
        self.discard_unfinished();
        self.file = file.into();
        self.file_time = modified;
        self.file_sessions.clear();
        self.earlier_sessions.clear();
        self.trashed_sessions.clear();
        self.reader_state = None;
        self.fingerprint = None;
        self.resume_point = None;
        self.next_resume_point = None;
    }

    /// Gives the importer the fingerprint of the current file. Returns whether the file was imported completely in this state, and
    /// its sessions are still in the store; it is then recorded as skipped and need not be read.
    ///
    /// With a fingerprint, new sessions share the wait for the disk; [`flush`](Self::flush) makes them durable.
    ///
    /// # Errors
    /// Returns the store's error.
    pub fn skip_unchanged(&mut self, fingerprint: [u8; 32], force: bool) -> StoreResult<bool> {
        self.fingerprint = Some(fingerprint);
        if force || self.on_duplicate == OnDuplicate::Copy {
            return Ok(false);
        }
        let known = self.store.find_imported_source(&self.file)?;
        let is_unchanged = known.is_some_and(|source| source.fingerprint == fingerprint);
        if is_unchanged {
            self.skip(SkipReason::Unchanged);
        }
        Ok(is_unchanged)
    }

    /// What the reader needs to continue after the last complete import of the current file, if the file has only grown since. `None`
    /// if the file has to be read from its beginning.
    ///
    /// # Errors
    /// Returns the store's error.
    pub fn resume(&mut self) -> StoreResult<Option<Vec<u8>>> {
        if matches!(self.on_duplicate, OnDuplicate::Copy | OnDuplicate::Skip) {
            return Ok(None);
        }
        let saved = self.store.find_resume_point(&self.file)?;
        match saved.as_deref().and_then(SourceProgress::decode) {
            None => Ok(None),
            Some(SourceProgress::Session(point)) => {
                self.resume_point = if point.is_stored(self.store)? { Some(point) } else { None };
                Ok(self.resume_point.as_ref().map(|point| point.reader_state.clone()))
            }
            Some(SourceProgress::Sessions { reader_state }) => {
                let known = self.store.find_imported_source(&self.file)?;
                self.earlier_sessions = known.map(|source| source.sessions).unwrap_or_default();
                Ok(Some(reader_state))
            }
        }
    }

    /// Records that the current file was read completely.
    ///
    /// # Errors
    /// Returns the store's error.
    pub fn end_file(&mut self) -> StoreResult<()> {
        let mut sessions = std::mem::take(&mut self.file_sessions);
        let reader_state = self.reader_state.take();
        if reader_state.is_some() {
            // The reader sends a session that is in the trash again, so that the others are remembered without it.
            let mut all: BTreeSet<SessionId> = sessions.iter().copied().collect();
            all.extend(std::mem::take(&mut self.earlier_sessions));
            sessions = all.into_iter().filter(|session| !self.trashed_sessions.contains(session)).collect();
        }
        let has_trashed = !self.trashed_sessions.is_empty();
        // A file without a session is read again, so that the reason is reported again. So is every file if the user decides
        // what happens to its sessions.
        let is_special = matches!(self.on_duplicate, OnDuplicate::Skip | OnDuplicate::Copy);
        if let Some(fingerprint) = self.fingerprint.take()
            && !(self.dry_run || sessions.is_empty() || is_special)
            && (!has_trashed || reader_state.is_some())
        {
            // What was not imported because its session is in the trash is imported when the session has been restored.
            let fingerprint = if has_trashed { [0; 32] } else { fingerprint };
            let resume_point = self.next_resume_point.take().filter(|_| sessions.len() == 1);
            let progress = match (resume_point, reader_state) {
                (Some(point), _) => Some(SourceProgress::Session(point)),
                (None, Some(reader_state)) => Some(SourceProgress::Sessions { reader_state }),
                (None, None) => None,
            };
            self.complete_files.push(CompleteImport {
                path: self.file.clone(),
                source: ImportedSource { fingerprint, sessions },
                resume_point: progress.and_then(|progress| progress.encode()),
            });
        }
        if self.complete_files.len() >= SAVED_FILES { self.flush() } else { Ok(()) }
    }

    /// Makes all imported sessions durable, and saves which files they came from.
    ///
    /// # Errors
    /// Returns the store's error.
    pub fn flush(&mut self) -> StoreResult<()> {
        let files = std::mem::take(&mut self.complete_files);
        if !files.is_empty() {
            self.store.save_imported_sources(&files)?;
        } else if self.has_relaxed {
            self.store.sync()?;
        }
        self.has_relaxed = false;
        Ok(())
    }

    /// Discards an unfinished session, for example after an error of the reader. A new session is removed from the
    /// store; an existing session keeps the batches that were appended to it.
    pub fn discard_unfinished(&mut self) {
        self.receiver = Receiver::None;
    }

    /// The session that an export of hfs continues, if the store has it.
    fn continued(&self, continues: Continuation) -> StoreResult<Option<SessionSummary>> {
        let found = match continues {
            Continuation::Session(id) => self.store.get_session(id),
            Continuation::Branch(id) | Continuation::Recorded(id) => {
                self.store.get_branch(id).and_then(|branch| self.store.get_session(branch.session))
            }
        };
        match found {
            Ok(found) => Ok(Some(found)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    fn was_purged(&self, origin: &Origin, continues: Option<Continuation>) -> StoreResult<bool> {
        Ok(self.store.was_purged(&origin.format, &origin.id)?
            || continues.map_or(Ok(false), |continues| self.store.was_continued_purged(continues))?)
    }

    /// The stored session with the same id or, without one, with the same origin.
    fn existing(&self, session: &ForeignSession) -> StoreResult<Option<SessionSummary>> {
        if let Some(id) = session.id {
            match self.store.get_session(id) {
                Ok(found) => return Ok(Some(found)),
                Err(StoreError::NotFound { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        let origin = (session.origin.format.clone(), session.origin.id.clone());
        for trashed in [false, true] {
            let filter = SessionFilter { trashed, origin: Some(origin.clone()), ..SessionFilter::default() };
            let page = self.store.list_sessions(&filter, &PageRequest::first(1))?;
            if let Some(found) = page.items.into_iter().next() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Records that the current file, or a session in it, is not imported.
    pub fn skip(&mut self, reason: SkipReason) {
        self.skipped.push(SkippedSession { file: self.file.clone(), reason });
    }
}

impl ImportReceiver for Importer<'_> {
    fn receive(&mut self, event: ImportEvent) -> StoreResult<Flow> {
        match (event, &mut self.receiver) {
            (ImportEvent::Session(session), _) => return self.begin(*session),
            (ImportEvent::End(report), _) => self.end(report)?,
            (ImportEvent::ResumePoint(state), _) => self.reader_state = Some(state),
            (event, Receiver::New(session)) => session.receive(event)?,
            (event, Receiver::Merge(merge)) => merge.receive(event)?,
            (_, Receiver::None) => {}
        }
        Ok(Flow::Continue)
    }

    fn progress(&mut self, bytes_read: u64) -> Flow {
        (self.on_progress)(bytes_read)
    }
}

impl Importer<'_> {
    fn begin(&mut self, session: ForeignSession) -> StoreResult<Flow> {
        self.discard_unfinished();
        self.reader_state = None;
        let is_document = session.id.is_some();
        let continued = match session.continues {
            Some(continues) if self.on_duplicate != OnDuplicate::Copy => self.continued(continues)?,
            Some(_) | None => None,
        };
        let named = session.continues;
        let session = ForeignSession { continues: named.filter(|_| continued.is_some()), ..session };
        if session.resumed_after.is_none() {
            // The reader has read the file from its beginning.
            self.resume_point = None;
        }
        let resumed = self.resume_point.as_ref();
        let found = match (resumed, continued) {
            (Some(point), _) => Some(self.store.get_session(point.session)?),
            (None, Some(continued)) => Some(continued),
            (None, None) => self.existing(&session)?,
        };
        if found.is_none() && !self.includes_purged && self.was_purged(&session.origin, named)? {
            self.skip(SkipReason::Purged);
            return Ok(Flow::SkipSession);
        }
        self.receiver = match (found, self.on_duplicate) {
            (None, _) => Receiver::New(Box::new(NewSession::new(self.store, self.dry_run, session, false))),
            (Some(_), OnDuplicate::Copy) => {
                Receiver::New(Box::new(NewSession::new(self.store, self.dry_run, session, true)))
            }
            (Some(found), _) if found.session.trashed_at.is_some() => {
                self.file_sessions.push(found.session.id);
                self.trashed_sessions.push(found.session.id);
                self.skip(SkipReason::InTrash { name: found.session.name, session: found.session.id });
                return Ok(Flow::SkipSession);
            }
            (Some(found), mode)
                if mode == OnDuplicate::Skip || (mode == OnDuplicate::Auto && is_document) =>
            {
                self.file_sessions.push(found.session.id);
                self.skip(SkipReason::AlreadyImported { name: found.session.name });
                return Ok(Flow::SkipSession);
            }
            (Some(found), _) => {
                let now = self.clock.now();
                let resumed = self.resume_point.as_ref();
                let merge = MergeImport::new(self.store, self.dry_run, found, session, resumed, now)?;
                Receiver::Merge(Box::new(merge))
            }
        };
        Ok(Flow::Continue)
    }

    fn end(&mut self, report: ImportReport) -> StoreResult<()> {
        let was_damaged = self.resume_point.as_ref().is_some_and(|point| point.is_damaged);
        let is_damaged = report.dropped > 0 || was_damaged;
        let (format, received) = match std::mem::replace(&mut self.receiver, Receiver::None) {
            Receiver::New(session) => {
                let format = session.format().to_owned();
                let file_time = self.file_time.unwrap_or_else(|| self.clock.now());
                let is_relaxed = self.fingerprint.is_some();
                self.has_relaxed |= is_relaxed && !self.dry_run;
                let received = session.finish(file_time, &self.time_zone, is_relaxed)?;
                self.file_sessions.extend(received.session);
                (format, received)
            }
            Receiver::Merge(merge) => {
                let format = merge.format();
                let received = merge.finish(is_damaged, &self.time_zone)?;
                self.file_sessions.extend(received.session);
                if !received.has_changed {
                    self.set_next_resume_point(&received, is_damaged);
                    self.skip(SkipReason::NothingNew { name: received.name });
                    return Ok(());
                }
                (format, received)
            }
            Receiver::None => return Ok(()),
        };
        self.set_next_resume_point(&received, is_damaged);
        self.imported.push(ImportedSession {
            file: self.file.clone(),
            format,
            session: received.session,
            name: received.name,
            messages: received.messages,
            updated_messages: received.updated_messages,
            branches: received.branches,
            updated: received.updated,
            report,
        });
        Ok(())
    }
}

impl Importer<'_> {
    /// Remembers where the next import continues, if the reader can continue. The name of a session that the user has not typed in may
    /// depend on all of its messages, so that its file is read from the beginning.
    fn set_next_resume_point(&mut self, received: &ReceivedSession, is_damaged: bool) {
        let reader_state = self.reader_state.take().filter(|_| received.can_be_resumed);
        self.next_resume_point = reader_state.zip(received.session).map(|(reader_state, session)| {
            ResumePoint { session, is_damaged, branches: received.source_branches.clone(), reader_state }
        });
    }
}

fn has_title(foreign: &ForeignSession) -> bool {
    foreign.title.as_ref().is_some_and(|title| !title.trim().is_empty())
}

/// Whether further messages of a session cannot change its name.
fn has_final_title(foreign: &ForeignSession, derived: &SessionTitle) -> bool {
    has_title(foreign) || derived.is_final()
}

/// The name of an imported session, and whether it was generated.
fn session_name(
    foreign: &ForeignSession,
    derived: &SessionTitle,
    created_at: Timestamp,
    zone: &jiff::tz::TimeZone,
) -> (String, bool) {
    match foreign.title.as_ref().filter(|title| !title.trim().is_empty()) {
        Some(title) => (title.clone(), foreign.automatic_name),
        None => (automatic_name(derived.as_str(), &created_at.to_jiff().to_zoned(zone.clone())), true),
    }
}

/// Result of receiving a session.
struct ReceivedSession {
    session: Option<SessionId>,
    name: String,
    messages: u64,
    updated_messages: u64,
    branches: u64,
    updated: bool,
    /// Whether the import changed anything that the user sees.
    has_changed: bool,
    /// Whether the next import may continue where this one ends: further messages cannot change the title, and those before
    /// them need not be read again.
    can_be_resumed: bool,
    /// The stored branch of each branch of the source, by key.
    source_branches: Vec<Option<ResumedBranch>>,
}

/// Receives a session that is not in the store. The store stages it and makes it visible at the end.
struct NewSession<'a> {
    store: &'a dyn Store,
    dry_run: bool,
    /// Whether the session and everything in it get new ids.
    as_copy: bool,
    foreign: ForeignSession,
    id: SessionId,
    staged: Option<Box<dyn SessionImport + 'a>>,
    /// Store id of each branch, by key. The main branch has the key 0.
    branches: Vec<Option<BranchId>>,
    /// Store ids by source ids. Used only for a copy.
    branch_ids: HashMap<BranchId, BranchId>,
    message_ids: HashMap<MessageId, MessageId>,
    names: Vec<String>,
    current: BranchKey,
    messages: u64,
    derived_title: SessionTitle,
    first_at: Option<Timestamp>,
    last_at: Option<Timestamp>,
}

impl<'a> NewSession<'a> {
    fn new(store: &'a dyn Store, dry_run: bool, foreign: ForeignSession, as_copy: bool) -> Self {
        let id = foreign.id.filter(|_| !as_copy).unwrap_or_else(SessionId::generate);
        Self {
            store,
            dry_run,
            as_copy,
            foreign,
            id,
            staged: None,
            branches: Vec::new(),
            branch_ids: HashMap::new(),
            message_ids: HashMap::new(),
            names: Vec::new(),
            current: 0,
            messages: 0,
            derived_title: SessionTitle::default(),
            first_at: None,
            last_at: None,
        }
    }

    fn format(&self) -> &str {
        &self.foreign.origin.format
    }

    /// Receives an event of the session, except its beginning and its end.
    fn receive(&mut self, event: ImportEvent) -> StoreResult<()> {
        match event {
            ImportEvent::Branch(branch) => self.branch(branch),
            ImportEvent::Message { branch, message } => self.message(branch, message),
            ImportEvent::Attachment(attachment) => self.attachment(&attachment),
            ImportEvent::Run(run) => self.run(*run),
            ImportEvent::Checkpoint(checkpoint) => self.checkpoint(*checkpoint),
            ImportEvent::CurrentBranch(branch) => {
                self.current = branch;
                Ok(())
            }
            ImportEvent::Session(_) | ImportEvent::ResumePoint(_) | ImportEvent::End(_) => Ok(()),
        }
    }

    /// The staged session; `None` in a dry run. The first call creates it and adds the main branch.
    fn staged(&mut self) -> StoreResult<Option<&mut (dyn SessionImport + 'a)>> {
        if self.branches.is_empty() {
            let (id, name) = match self.foreign.main_branch.clone() {
                Some((id, name)) => (Some(id), name),
                None => (None, MAIN_BRANCH.to_owned()),
            };
            let main = self.stored_branch(id);
            self.branches.push(Some(main));
            self.names.push(name.clone());
            if !self.dry_run {
                let mut staged = self.store.import_session(&SessionDraft {
                    id: self.id,
                    // `finish` sets the name and the creation time, which may depend on the messages.
                    name: String::new(),
                    automatic_name: self.foreign.title.as_ref().is_none_or(|title| title.trim().is_empty())
                        || self.foreign.automatic_name,
                    project: self.foreign.project.clone(),
                    created_at: self.foreign.created_at.unwrap_or(Timestamp::UNIX_EPOCH),
                    origin: Some(self.foreign.origin.clone()),
                    extra: self.foreign.extra.clone(),
                    main_branch: main,
                })?;
                if name != MAIN_BRANCH {
                    staged.name_main(&name)?;
                }
                self.staged = Some(staged);
            }
        }
        Ok(self.staged.as_deref_mut())
    }

    /// The store id of the branch with this source id.
    fn stored_branch(&mut self, source: Option<BranchId>) -> BranchId {
        match source {
            Some(id) if !self.as_copy => id,
            Some(id) => *self.branch_ids.entry(id).or_insert_with(BranchId::generate),
            None => BranchId::generate(),
        }
    }

    fn branch(&mut self, branch: ForeignBranch) -> StoreResult<()> {
        let ForeignBranch { key, parent, forked_at, id, name, undone } = branch;
        // The first call adds the main branch, whose name must be in `names` before another name is chosen.
        self.staged()?;
        let id = self.stored_branch(id);
        let name = name.unwrap_or_else(|| {
            let free = (2..).map(|n| format!("{MAIN_BRANCH}-{n}")).find(|name| !self.names.contains(name));
            free.unwrap_or_else(|| id.to_string())
        });
        if self.branches.len() <= key {
            self.branches.resize(key + 1, None);
        }
        if let Some(slot) = self.branches.get_mut(key) {
            *slot = Some(id);
        }
        self.names.push(name.clone());
        match self.staged()? {
            Some(staged) => {
                staged.branch(key, parent, forked_at, id, &name)?;
                if undone { staged.mark_undone(key) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }

    fn message(&mut self, branch: BranchKey, mut message: MessageDraft) -> StoreResult<()> {
        if self.as_copy {
            let id = MessageId::generate();
            self.message_ids.insert(message.id, id);
            message.id = id;
        }
        self.derived_title.add(&message);
        if message.created_at.is_known() {
            self.first_at = Some(self.first_at.map_or(message.created_at, |at| at.min(message.created_at)));
            self.last_at = Some(self.last_at.map_or(message.created_at, |at| at.max(message.created_at)));
        }
        self.messages += 1;
        match self.staged()? {
            Some(staged) => staged.message(branch, &message),
            None => Ok(()),
        }
    }

    fn attachment(&mut self, attachment: &Attachment) -> StoreResult<()> {
        match self.staged()? {
            Some(staged) => staged.attachment(attachment),
            None => Ok(()),
        }
    }

    fn run(&mut self, mut run: Run) -> StoreResult<()> {
        if self.as_copy {
            run.id = RunId::generate();
            for event in &mut run.events {
                event.run = run.id;
            }
            run.snapshot.run_id = run.snapshot.run_id.map(|_| run.id);
            run.branch = self.stored_branch(Some(run.branch));
            run.answers = run.answers.and_then(|id| self.message_ids.get(&id).copied());
        }
        match self.staged()? {
            Some(staged) => staged.run(&run),
            None => Ok(()),
        }
    }

    fn checkpoint(&mut self, mut checkpoint: CheckpointDraft) -> StoreResult<()> {
        if self.as_copy {
            checkpoint.id = CheckpointId::generate();
            checkpoint.branch = self.stored_branch(Some(checkpoint.branch));
        }
        match self.staged()? {
            Some(staged) => staged.checkpoint(&checkpoint),
            None => Ok(()),
        }
    }

    /// Makes the session visible. If neither the session nor its messages have a time, it gets `file_time`.
    fn finish(
        mut self,
        file_time: Timestamp,
        zone: &jiff::tz::TimeZone,
        is_relaxed: bool,
    ) -> StoreResult<ReceivedSession> {
        if let Some(staged) = self.staged()?
            && is_relaxed
        {
            staged.relax();
        }
        let created_at = self.foreign.created_at.or(self.first_at).unwrap_or(file_time);
        let updated_at = self.foreign.updated_at.or(self.last_at).unwrap_or(created_at).max(created_at);
        let (name, _) = session_name(&self.foreign, &self.derived_title, created_at, zone);
        let session = match self.staged {
            Some(staged) => Some(staged.finish(&name, self.current, created_at, updated_at)?.session.id),
            None => None,
        };
        let branches = self.branches.iter().flatten().count();
        let source_branch = |branch: Option<BranchId>| branch.map(ResumedBranch::new);
        Ok(ReceivedSession {
            session,
            name,
            messages: self.messages,
            updated_messages: 0,
            branches: u64::try_from(branches).unwrap_or(u64::MAX),
            updated: false,
            has_changed: true,
            can_be_resumed: has_final_title(&self.foreign, &self.derived_title),
            source_branches: self.branches.into_iter().map(source_branch).collect(),
        })
    }
}
