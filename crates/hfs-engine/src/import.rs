//! Imports sessions from a reader: creates new sessions in the store, and adds new messages to existing ones.

mod session_title;

use std::collections::{HashMap, VecDeque};
use std::fmt;

use hfs_core::{
    Attachment, Branch, BranchDraft, BranchId, BranchKey, CheckpointDraft, CheckpointId, Clock, Continuation,
    Flow, ForeignBranch, ForeignSession, ImportEvent, ImportReceiver, ImportReport, MAIN_BRANCH, Message,
    MessageDraft, MessageId, MessageRange, OperationKind, PageRequest, Position, Run, RunId, Seq,
    SessionDraft, SessionFilter, SessionId, SessionImport, SessionSummary, Source, Store, StoreError,
    StoreResult, Suggestion, Timestamp, automatic_name,
};

use session_title::SessionTitle;

/// Number of messages of an existing session in one read or append.
const BATCH: u32 = 200;

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
    /// Append the messages that the store does not have. Where the source and the stored session diverge, the messages
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
    /// The session was imported before and is in the trash.
    InTrash {
        /// Session name.
        name: String,
        /// Session id.
        session: SessionId,
    },
}

impl SkipReason {
    /// Suggests how the user can make the import possible; `None` if there is no way.
    #[must_use]
    pub const fn suggestion(&self) -> Option<Suggestion> {
        match self {
            Self::InTrash { session, .. } => Some(Suggestion::RestoreSession(*session)),
            Self::NoTranscripts
            | Self::NoSession
            | Self::AlreadyImported { .. }
            | Self::NothingNew { .. } => None,
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
            Self::InTrash { name, .. } => write!(f, "{name:?} is in the trash"),
        }
    }
}

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
    on_progress: Box<dyn FnMut(u64) -> Flow + 'a>,
    file: String,
    file_time: Option<Timestamp>,
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
            on_progress: Box::new(|_| Flow::Continue),
            file: String::new(),
            file_time: None,
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

    /// Sets the file that is read next, and discards an unfinished session of the previous file.
    ///
    /// `modified` is the modification time of the file. It is used for sessions that contain no timestamp.
    pub fn next_file(&mut self, file: impl Into<String>, modified: Option<Timestamp>) {
        self.discard_unfinished();
        self.file = file.into();
        self.file_time = modified;
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
            Continuation::Branch(id) => {
                self.store.get_branch(id).and_then(|branch| self.store.get_session(branch.session))
            }
        };
        match found {
            Ok(found) => Ok(Some(found)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(other) => Err(other),
        }
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
            let filter = SessionFilter { project: None, trashed, origin: Some(origin.clone()) };
            let page = self.store.list_sessions(&filter, &PageRequest::first(1))?;
            if let Some(found) = page.items.into_iter().next() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn skip(&mut self, reason: SkipReason) {
        self.skipped.push(SkippedSession { file: self.file.clone(), reason });
    }
}

impl ImportReceiver for Importer<'_> {
    fn receive(&mut self, event: ImportEvent) -> StoreResult<Flow> {
        match (event, &mut self.receiver) {
            (ImportEvent::Session(session), _) => return self.begin(*session),
            (ImportEvent::End(report), _) => self.end(report)?,
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
        let is_document = session.id.is_some();
        let continued = match session.continues {
            Some(continues) if self.on_duplicate != OnDuplicate::Copy => self.continued(continues)?,
            Some(_) | None => None,
        };
        let continues = session.continues.filter(|_| continued.is_some());
        let found = if continued.is_some() { continued } else { self.existing(&session)? };
        self.receiver = match (found, self.on_duplicate) {
            (None, _) => Receiver::New(Box::new(NewSession::new(self.store, self.dry_run, session, false))),
            (Some(_), OnDuplicate::Copy) => {
                Receiver::New(Box::new(NewSession::new(self.store, self.dry_run, session, true)))
            }
            (Some(found), _) if found.session.trashed_at.is_some() => {
                self.skip(SkipReason::InTrash { name: found.session.name, session: found.session.id });
                return Ok(Flow::SkipSession);
            }
            (Some(found), mode)
                if mode == OnDuplicate::Skip || (mode == OnDuplicate::Auto && is_document) =>
            {
                self.skip(SkipReason::AlreadyImported { name: found.session.name });
                return Ok(Flow::SkipSession);
            }
            (Some(found), _) => {
                let by_id = is_document;
                let merge = MergeImport::new(
                    self.store,
                    self.dry_run,
                    found,
                    &session,
                    continues,
                    by_id,
                    self.clock.now(),
                )?;
                Receiver::Merge(Box::new(merge))
            }
        };
        Ok(Flow::Continue)
    }

    fn end(&mut self, report: ImportReport) -> StoreResult<()> {
        let (format, received) = match std::mem::replace(&mut self.receiver, Receiver::None) {
            Receiver::New(session) => {
                let format = session.format().to_owned();
                let file_time = self.file_time.unwrap_or_else(|| self.clock.now());
                (format, session.finish(file_time, &self.time_zone)?)
            }
            Receiver::Merge(merge) => {
                let format = merge.format.clone();
                let received = merge.finish()?;
                if received.messages == 0 {
                    self.skip(SkipReason::NothingNew { name: received.name });
                    return Ok(());
                }
                (format, received)
            }
            Receiver::None => return Ok(()),
        };
        self.imported.push(ImportedSession {
            file: self.file.clone(),
            format,
            session: received.session,
            name: received.name,
            messages: received.messages,
            branches: received.branches,
            updated: received.updated,
            report,
        });
        Ok(())
    }
}

/// Result of receiving a session.
struct ReceivedSession {
    session: Option<SessionId>,
    name: String,
    messages: u64,
    branches: u64,
    updated: bool,
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
            ImportEvent::Session(_) | ImportEvent::End(_) => Ok(()),
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
                    automatic_name: self.foreign.title.is_none() || self.foreign.automatic_name,
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
        let ForeignBranch { key, parent, forked_at, id, name } = branch;
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
            Some(staged) => staged.branch(key, parent, forked_at, id, &name),
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
    fn finish(mut self, file_time: Timestamp, zone: &jiff::tz::TimeZone) -> StoreResult<ReceivedSession> {
        self.staged()?;
        let created_at = self.foreign.created_at.or(self.first_at).unwrap_or(file_time);
        let updated_at = self.foreign.updated_at.or(self.last_at).unwrap_or(created_at).max(created_at);
        let name = self.foreign.title.clone().filter(|title| !title.trim().is_empty()).unwrap_or_else(|| {
            let local = created_at.to_jiff().to_zoned(zone.clone());
            automatic_name(self.derived_title.as_str(), &local)
        });
        let session = match self.staged {
            Some(staged) => Some(staged.finish(&name, self.current, created_at, updated_at)?.session.id),
            None => None,
        };
        let branches = self.branches.iter().flatten().count();
        Ok(ReceivedSession {
            session,
            name,
            messages: self.messages,
            branches: u64::try_from(branches).unwrap_or(u64::MAX),
            updated: false,
        })
    }
}

/// Receives a session that is in the store already, and appends the messages that the store does not have.
///
/// Each branch of the source has a cursor, which advances along a stored branch while the messages of the source equal
/// the stored ones. These messages have the same seq in both. At the first message that differs, the cursor moves to a
/// stored branch that forks there and starts with this message, or to a new branch if there is no such branch. When the
/// cursor reaches the end of its stored branch, the remaining messages are appended to that branch.
///
/// A transcript that hfs wrote may show a stored message as several, or leave one out. Its messages are therefore not
/// counted: one that hfs wrote moves the cursor to the stored message that it names.
struct MergeImport<'a> {
    store: &'a dyn Store,
    dry_run: bool,
    existing: SessionSummary,
    /// Format of the source.
    format: String,
    /// What the source continues, if hfs wrote its beginning.
    continues: Option<Continuation>,
    /// Prefix of the source ids of new messages. Such ids are unique in one transcript, but hfs writes one for each
    /// branch of a session.
    id_prefix: Option<String>,
    /// Whether messages are the same if their ids are equal (hfs documents) or if their sources are (transcripts).
    by_id: bool,
    now: Timestamp,
    branches: Vec<Branch>,
    /// Cursor of each branch of the source, by key.
    cursors: Vec<Option<BranchCursor>>,
    added: u64,
    branches_added: u64,
}

/// Position of a branch of the source in the stored session.
struct BranchCursor {
    /// Stored branches that the cursor follows, each with the first seq at which the cursor follows it.
    segments: Vec<(Seq, BranchId)>,
    /// Seq of the stored message that the newest message of the source corresponds to.
    head: Seq,
    /// Seq of the newest message in the source.
    source_head: Seq,
    /// Seqs in the source and in the store, of each message where their difference changes.
    seqs: Vec<(Seq, Seq)>,
    /// Stored messages after `head`, read in advance.
    lookahead: VecDeque<Message>,
    /// Whether the store may have messages after those in `lookahead`.
    has_more: bool,
    /// New messages up to `head` that are not appended yet.
    unsaved: Vec<MessageDraft>,
    /// Whether the stored branch for this branch of the source is not known yet. The first message decides it.
    is_pending: bool,
}

impl<'a> MergeImport<'a> {
    fn new(
        store: &'a dyn Store,
        dry_run: bool,
        existing: SessionSummary,
        foreign: &ForeignSession,
        continues: Option<Continuation>,
        by_id: bool,
        now: Timestamp,
    ) -> StoreResult<Self> {
        let branches = store.list_branches(existing.session.id)?;
        let id_prefix = match continues {
            Some(Continuation::Branch(branch)) => Some(format!("{branch}/")),
            Some(Continuation::Session(_)) | None => None,
        };
        let mut merge = Self {
            store,
            dry_run,
            existing,
            format: foreign.origin.format.clone(),
            continues,
            id_prefix,
            by_id,
            now,
            branches,
            cursors: Vec::new(),
            added: 0,
            branches_added: 0,
        };
        let root = merge.branches.iter().find(|branch| branch.parent.is_none()).map(|branch| branch.id);
        let root = root.ok_or_else(|| StoreError::Corrupt {
            message: format!("session {} has no first branch", merge.existing.session.id),
        })?;
        let first = match continues {
            Some(Continuation::Branch(branch)) => branch,
            Some(Continuation::Session(_)) | None => root,
        };
        merge.cursors.push(Some(BranchCursor::after(0, first)));
        Ok(merge)
    }

    /// Receives an event of the session, except its beginning and its end.
    fn receive(&mut self, event: ImportEvent) -> StoreResult<()> {
        match event {
            ImportEvent::Branch(branch) => self.branch(&branch),
            ImportEvent::Message { branch, message } => self.message(branch, message),
            ImportEvent::Attachment(attachment) => self.attachment(&attachment),
            ImportEvent::Run(run) => self.run(&run),
            ImportEvent::Checkpoint(checkpoint) => self.checkpoint(&checkpoint),
            ImportEvent::CurrentBranch(_) | ImportEvent::Session(_) | ImportEvent::End(_) => Ok(()),
        }
    }

    fn branch(&mut self, branch: &ForeignBranch) -> StoreResult<()> {
        let &ForeignBranch { key, parent, forked_at, id, .. } = branch;
        self.save(parent)?;
        let parent = self.cursor(parent)?;
        let source_head = forked_at;
        let forked_at = parent.stored_seq(source_head);
        let parent = parent.branch_at(forked_at);
        let mut cursor = match id.filter(|id| self.branches.iter().any(|branch| branch.id == *id)) {
            Some(stored) => BranchCursor::after(forked_at, stored),
            None => {
                // `has_more` is false because the stored messages after the fork are the parent's, not this branch's.
                BranchCursor { has_more: false, is_pending: true, ..BranchCursor::after(forked_at, parent) }
            }
        };
        cursor.source_head = source_head;
        cursor.seqs = vec![(source_head, forked_at)];
        if self.cursors.len() <= key {
            self.cursors.resize_with(key + 1, || None);
        }
        if let Some(slot) = self.cursors.get_mut(key) {
            *slot = Some(cursor);
        }
        Ok(())
    }

    fn cursor(&mut self, key: BranchKey) -> StoreResult<&mut BranchCursor> {
        self.cursors
            .get_mut(key)
            .and_then(Option::as_mut)
            .ok_or_else(|| StoreError::Invalid { message: format!("no branch number {key} in this import") })
    }

    fn message(&mut self, key: BranchKey, mut message: MessageDraft) -> StoreResult<()> {
        if self.advance_to_exported(key, &message)? {
            return Ok(());
        }
        if let (Some(prefix), Some(source)) = (&self.id_prefix, &mut message.source) {
            source.id.insert_str(0, prefix);
        }
        if self.cursor(key)?.is_pending {
            self.resolve_fork(key, &message)?;
        }
        if self.advance_if_same(key, &message)? {
            return Ok(());
        }
        if self.peek(key)?.is_some() {
            // The source and the stored branch diverge here, so the source continues on another branch.
            let cursor = self.cursor(key)?;
            cursor.lookahead.clear();
            cursor.has_more = false;
            self.resolve_fork(key, &message)?;
            if self.advance_if_same(key, &message)? {
                return Ok(());
            }
        }
        self.leave_undone_branch(key)?;
        let cursor = self.cursor(key)?;
        cursor.advance(cursor.head + 1);
        cursor.unsaved.push(message);
        let is_full = cursor.unsaved.len() >= BATCH as usize;
        self.added += 1;
        if is_full { self.save(key) } else { Ok(()) }
    }

    /// Advances the cursor if the next stored message is the same as the message of the source.
    fn advance_if_same(&mut self, key: BranchKey, source: &MessageDraft) -> StoreResult<bool> {
        let by_id = self.by_id;
        let is_stored = self.peek(key)?.is_some_and(|stored| is_same(by_id, stored, source));
        if is_stored {
            let cursor = self.cursor(key)?;
            cursor.lookahead.pop_front();
            cursor.advance(cursor.head + 1);
        }
        Ok(is_stored)
    }

    /// Moves the cursor to the stored message from which hfs wrote this message of the source, if there is one.
    fn advance_to_exported(&mut self, key: BranchKey, message: &MessageDraft) -> StoreResult<bool> {
        let Some(id) = message.source.as_ref().and_then(Source::hfs_message) else { return Ok(false) };
        let stored = match self.store.get_message(id) {
            Ok(stored) => stored,
            Err(StoreError::NotFound { .. }) => return Ok(false),
            Err(other) => return Err(other),
        };
        if self.branches.iter().all(|branch| branch.id != stored.branch) {
            return Ok(false);
        }
        self.save(key)?;
        let branch = self.cursor(key)?.branch_at(stored.seq);
        let owner = self.owner(branch, stored.seq);
        let cursor = self.cursor(key)?;
        if owner != stored.branch {
            cursor.segments.push((stored.seq, stored.branch));
        }
        // An export may write a result before messages that precede it, because it has to follow its call.
        let head = if owner == stored.branch { cursor.head.max(stored.seq) } else { stored.seq };
        cursor.is_pending = false;
        cursor.has_more = true;
        cursor.lookahead.clear();
        cursor.advance(head);
        Ok(true)
    }

    /// The branch that stores the message with this seq in the history of `branch`.
    fn owner(&self, mut branch: BranchId, seq: Seq) -> BranchId {
        let find = |id| self.branches.iter().find(|branch| branch.id == id);
        // The number of steps is limited, because damaged branches may form a cycle.
        for _ in 0..self.branches.len() {
            match find(branch).filter(|found| seq <= found.forked_at).and_then(|found| found.parent) {
                Some(parent) => branch = parent,
                None => break,
            }
        }
        branch
    }

    /// Forks if the cursor is on a branch that the user has undone: its messages are hidden.
    fn leave_undone_branch(&mut self, key: BranchKey) -> StoreResult<()> {
        let cursor = self.cursor(key)?;
        let (branch, head) = (cursor.branch_at(cursor.head + 1), cursor.head);
        if self.branches.iter().any(|stored| stored.id == branch && stored.undone) {
            self.save(key)?;
            self.fork(key, self.owner(branch, head), head)?;
        }
        Ok(())
    }

    /// The stored message after the cursor; `None` at the end of the stored branch.
    fn peek(&mut self, key: BranchKey) -> StoreResult<Option<&Message>> {
        let store = self.store;
        let cursor = self.cursor(key)?;
        if cursor.lookahead.is_empty() && cursor.has_more && cursor.unsaved.is_empty() {
            let branch = cursor.branch_at(cursor.head + 1);
            let page = store.read_messages(branch, MessageRange::From(cursor.head + 1, BATCH))?;
            cursor.has_more = !page.is_empty();
            cursor.lookahead = page.into();
        }
        Ok(cursor.lookahead.front())
    }

    /// Moves the cursor to a stored branch that forks at the cursor's seq and starts with the message `first`. If the
    /// session has no such branch, creates one.
    fn resolve_fork(&mut self, key: BranchKey, first: &MessageDraft) -> StoreResult<()> {
        let cursor = self.cursor(key)?;
        cursor.is_pending = false;
        let (branch, forked_at) = (cursor.branch_at(cursor.head), cursor.head);
        let parent = self.owner(branch, forked_at);
        // The parents are not compared: a message that several branches share is stored in only one of them, so a branch
        // that forks here may name another parent. The first message identifies the branch.
        let candidates: Vec<BranchId> = self
            .branches
            .iter()
            .filter(|branch| branch.forked_at == forked_at && branch.parent.is_some())
            .map(|branch| branch.id)
            .collect();
        for candidate in candidates {
            let start = self.store.read_messages(candidate, MessageRange::From(forked_at + 1, 1))?;
            if start.first().is_some_and(|stored| is_same(self.by_id, stored, first)) {
                let cursor = self.cursor(key)?;
                cursor.segments.push((forked_at + 1, candidate));
                cursor.has_more = true;
                return Ok(());
            }
        }
        // The user forked here in hfs and continued in the other tool.
        let current = self.existing.session.current_branch;
        let is_empty = |branch: &&Branch| {
            branch.id == current && branch.forked_at == forked_at && branch.head == forked_at
        };
        if self.continues.is_some() && self.branches.iter().any(|branch| is_empty(&branch)) {
            self.cursor(key)?.segments.push((forked_at + 1, current));
            return Ok(());
        }
        self.fork(key, parent, forked_at)
    }

    fn fork(&mut self, key: BranchKey, parent: BranchId, forked_at: Seq) -> StoreResult<()> {
        self.branches_added += 1;
        let id = BranchId::generate();
        if !self.dry_run {
            let taken: Vec<&str> = self.branches.iter().map(|branch| branch.name.as_str()).collect();
            let free = (2..).map(|n| format!("imported-{n}")).find(|name| !taken.contains(&name.as_str()));
            let name = free.unwrap_or_else(|| id.to_string());
            let draft = BranchDraft { id, name, parent, forked_at };
            self.store.create_branch(&draft, OperationKind::Fork, None, self.now)?;
            // `create_branch` made the new branch current. An import must not change the branch that a resume opens.
            self.store.switch_branch(self.existing.session.current_branch, self.now)?;
            self.branches.push(self.store.get_branch(id)?);
        }
        let cursor = self.cursor(key)?;
        cursor.segments.push((forked_at + 1, id));
        Ok(())
    }

    /// Appends the messages of a cursor that are not saved yet.
    fn save(&mut self, key: BranchKey) -> StoreResult<()> {
        let (store, dry_run) = (self.store, self.dry_run);
        let cursor = self.cursor(key)?;
        let messages = std::mem::take(&mut cursor.unsaved);
        if messages.is_empty() {
            return Ok(());
        }
        cursor.has_more = false;
        if dry_run {
            return Ok(());
        }
        let before = cursor.head.saturating_sub(u64::try_from(messages.len()).unwrap_or(u64::MAX));
        let at = Position { branch: cursor.branch_at(cursor.head), head: before };
        store.append(at, &messages).map(|_| ())
    }

    fn save_all(&mut self) -> StoreResult<()> {
        for key in 0..self.cursors.len() {
            if self.cursors.get(key).is_some_and(Option::is_some) {
                self.save(key)?;
            }
        }
        Ok(())
    }

    fn attachment(&mut self, attachment: &Attachment) -> StoreResult<()> {
        if self.dry_run { Ok(()) } else { self.store.put_attachment(attachment) }
    }

    fn run(&mut self, run: &Run) -> StoreResult<()> {
        let is_stored = self.branches.iter().any(|branch| branch.id == run.branch);
        if self.dry_run || !is_stored {
            return Ok(());
        }
        match self.store.get_run(run.id) {
            Err(StoreError::NotFound { .. }) => self.store.save_run(run),
            other => other.map(|_| ()),
        }
    }

    fn checkpoint(&mut self, checkpoint: &CheckpointDraft) -> StoreResult<()> {
        let is_stored = self.branches.iter().any(|branch| branch.id == checkpoint.branch);
        if self.dry_run || !is_stored {
            return Ok(());
        }
        self.save_all()?;
        match self.store.get_checkpoint(checkpoint.id) {
            Err(StoreError::NotFound { .. }) => {
                // With this retention, the store prunes no checkpoints.
                self.store.create_checkpoint(checkpoint, u32::MAX).map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }

    fn finish(mut self) -> StoreResult<ReceivedSession> {
        self.save_all()?;
        Ok(ReceivedSession {
            session: Some(self.existing.session.id),
            name: self.existing.session.name,
            messages: self.added,
            branches: self.existing.branches + self.branches_added,
            updated: true,
        })
    }
}

impl BranchCursor {
    /// A cursor after the message with seq `head`, which continues on the stored branch `branch`.
    fn after(head: Seq, branch: BranchId) -> Self {
        Self {
            segments: vec![(head + 1, branch)],
            head,
            source_head: head,
            seqs: Vec::new(),
            lookahead: VecDeque::new(),
            has_more: true,
            unsaved: Vec::new(),
            is_pending: false,
        }
    }

    /// Counts a message of the source that corresponds to the stored message with this seq.
    fn advance(&mut self, head: Seq) {
        self.source_head += 1;
        let is_in_step = self.stored_seq(self.source_head) == head;
        if !is_in_step {
            self.seqs.push((self.source_head, head));
        }
        self.head = head;
    }

    /// The seq in the store of the message with this seq in the source.
    fn stored_seq(&self, seq: Seq) -> Seq {
        let known = self.seqs.iter().rev().find(|(source, _)| *source <= seq);
        known.map_or(seq, |(source, stored)| stored + (seq - source))
    }

    /// The stored branch to which the message with this seq belongs. The message itself may not be appended yet.
    fn branch_at(&self, seq: Seq) -> BranchId {
        let segment = self.segments.iter().rev().find(|(from, _)| *from <= seq).or(self.segments.first());
        segment.map_or_else(BranchId::generate, |(_, branch)| *branch)
    }
}

fn is_same(by_id: bool, stored: &Message, source: &MessageDraft) -> bool {
    let stored = &stored.content;
    if by_id { stored.id == source.id } else { stored.source.is_some() && stored.source == source.source }
}
