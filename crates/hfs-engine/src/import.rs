//! Takes sessions from a reader into the store: new ones whole, known ones with what is new in them.

mod fresh;
mod known;
mod naming;

use hfs_core::{
    Attachment, BranchId, BranchKey, CheckpointDraft, Clock, Disposition, ForeignSession, ImportReport,
    MessageDraft, PageRequest, Run, Seq, SessionFilter, SessionId, SessionSink, SessionSummary, Store,
    StoreError, StoreResult, Timestamp,
};

use fresh::Fresh;
use known::Known;

/// What to do with a session that is in the store already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDuplicate {
    /// Transcripts of other tools are updated, documents of ours are skipped: what most people mean.
    #[default]
    Auto,
    /// Leave it as it is.
    Skip,
    /// Take it again as another session.
    Copy,
    /// Add what is new in it; where it has gone another way, on a branch of its own.
    Update,
}

/// A session that was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedSession {
    /// The file it came from.
    pub file: String,
    /// Its format.
    pub format: String,
    /// The session, unless this was a dry run.
    pub session: Option<SessionId>,
    /// Its name.
    pub name: String,
    /// How many messages were added.
    pub messages: u64,
    /// How many branches it has.
    pub branches: u64,
    /// Whether it was there before.
    pub updated: bool,
    /// What became of its records.
    pub report: ImportReport,
}

/// A session that was left as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedSession {
    /// The file.
    pub file: String,
    /// Why.
    pub reason: String,
}

/// Receives what readers hand over. One importer serves any number of files.
pub struct Importer<'a> {
    store: &'a dyn Store,
    clock: &'a dyn Clock,
    time_zone: jiff::tz::TimeZone,
    on_duplicate: OnDuplicate,
    dry_run: bool,
    on_progress: Box<dyn FnMut(u64) -> bool + 'a>,
    file: String,
    file_time: Option<Timestamp>,
    receiving: Receiving<'a>,
    /// What was taken so far.
    pub imported: Vec<ImportedSession>,
    /// What was left as it was.
    pub skipped: Vec<SkippedSession>,
}

enum Receiving<'a> {
    Nothing,
    Fresh(Box<Fresh<'a>>),
    Known(Box<Known<'a>>),
}

impl<'a> Importer<'a> {
    /// An importer into `store`. With `dry_run` everything is read and reported, and nothing written.
    #[must_use]
    pub fn new(store: &'a dyn Store, clock: &'a dyn Clock, on_duplicate: OnDuplicate, dry_run: bool) -> Self {
        Self {
            store,
            clock,
            time_zone: jiff::tz::TimeZone::system(),
            on_duplicate,
            dry_run,
            on_progress: Box::new(|_| true),
            file: String::new(),
            file_time: None,
            receiving: Receiving::Nothing,
            imported: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Has `on_progress` called with the bytes read of the present file; when it returns `false`, the reader
    /// stops.
    #[must_use]
    pub fn with_progress(mut self, on_progress: impl FnMut(u64) -> bool + 'a) -> Self {
        self.on_progress = Box::new(on_progress);
        self
    }

    /// Names times in automatic names by this zone.
    #[must_use]
    pub fn with_time_zone(mut self, time_zone: jiff::tz::TimeZone) -> Self {
        self.time_zone = time_zone;
        self
    }

    /// Says which file comes next, and when it was last written, if that is known: sessions without any time of
    /// their own count as that old. Whatever was unfinished of the file before is dropped, and nothing of it
    /// remains.
    pub fn next_file(&mut self, file: impl Into<String>, written: Option<Timestamp>) {
        self.receiving = Receiving::Nothing;
        self.file = file.into();
        self.file_time = written;
    }

    /// Drops what is unfinished, after an error.
    pub fn abandon(&mut self) {
        self.receiving = Receiving::Nothing;
    }

    fn existing(&self, session: &ForeignSession) -> StoreResult<Option<SessionSummary>> {
        if let Some(id) = session.id {
            match self.store.get_session(id) {
                Ok(found) => return Ok(Some(found)),
                Err(StoreError::NotFound { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        let key = (session.origin.format.clone(), session.origin.id.clone());
        for trashed in [false, true] {
            let filter = SessionFilter { project: None, trashed, origin: Some(key.clone()) };
            let page = self.store.list_sessions(&filter, &PageRequest::first(1))?;
            if let Some(found) = page.items.into_iter().next() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn skip(&mut self, reason: impl Into<String>) {
        self.skipped.push(SkippedSession { file: self.file.clone(), reason: reason.into() });
    }
}

impl SessionSink for Importer<'_> {
    fn begin(&mut self, session: ForeignSession) -> StoreResult<Disposition> {
        self.receiving = Receiving::Nothing;
        let is_document = session.id.is_some();
        let found = self.existing(&session)?;
        self.receiving = match (found, self.on_duplicate) {
            (None, _) => Receiving::Fresh(Box::new(Fresh::new(self.store, self.dry_run, session, false))),
            (Some(_), OnDuplicate::Copy) => {
                Receiving::Fresh(Box::new(Fresh::new(self.store, self.dry_run, session, true)))
            }
            (Some(found), _) if found.session.trashed_at.is_some() => {
                self.skip(format!(
                    "{:?} is in the trash; bring it back with: hfs session restore {}",
                    found.session.name,
                    found.session.id.short().shown()
                ));
                return Ok(Disposition::Skip);
            }
            (Some(found), mode)
                if mode == OnDuplicate::Skip || (mode == OnDuplicate::Auto && is_document) =>
            {
                self.skip(format!("already imported as {:?}", found.session.name));
                return Ok(Disposition::Skip);
            }
            (Some(found), _) => Receiving::Known(Box::new(Known::new(
                self.store,
                self.dry_run,
                found,
                is_document,
                self.clock.now(),
            )?)),
        };
        Ok(Disposition::Take)
    }

    fn branch(
        &mut self,
        key: BranchKey,
        parent: BranchKey,
        forked_at: Seq,
        id: Option<BranchId>,
        name: Option<String>,
    ) -> StoreResult<()> {
        match &mut self.receiving {
            Receiving::Fresh(fresh) => fresh.branch(key, parent, forked_at, id, name),
            Receiving::Known(known) => known.branch(key, parent, forked_at, id, name),
            Receiving::Nothing => Ok(()),
        }
    }

    fn message(&mut self, branch: BranchKey, message: MessageDraft) -> StoreResult<()> {
        match &mut self.receiving {
            Receiving::Fresh(fresh) => fresh.message(branch, message),
            Receiving::Known(known) => known.message(branch, message),
            Receiving::Nothing => Ok(()),
        }
    }

    fn attachment(&mut self, attachment: Attachment) -> StoreResult<()> {
        match &mut self.receiving {
            Receiving::Fresh(fresh) => fresh.attachment(&attachment),
            Receiving::Known(known) => known.attachment(&attachment),
            Receiving::Nothing => Ok(()),
        }
    }

    fn run(&mut self, run: Run) -> StoreResult<()> {
        match &mut self.receiving {
            Receiving::Fresh(fresh) => fresh.run(run),
            Receiving::Known(known) => known.run(&run),
            Receiving::Nothing => Ok(()),
        }
    }

    fn checkpoint(&mut self, checkpoint: CheckpointDraft) -> StoreResult<()> {
        match &mut self.receiving {
            Receiving::Fresh(fresh) => fresh.checkpoint(checkpoint),
            Receiving::Known(known) => known.checkpoint(&checkpoint),
            Receiving::Nothing => Ok(()),
        }
    }

    fn current_branch(&mut self, branch: BranchKey) -> StoreResult<()> {
        if let Receiving::Fresh(fresh) = &mut self.receiving {
            fresh.current_branch(branch);
        }
        Ok(())
    }

    fn end(&mut self, report: ImportReport) -> StoreResult<()> {
        let (format, done) = match std::mem::replace(&mut self.receiving, Receiving::Nothing) {
            Receiving::Fresh(fresh) => {
                let format = fresh.format().to_owned();
                let file_time = self.file_time.unwrap_or_else(|| self.clock.now());
                (format, fresh.finish(file_time, &self.time_zone)?)
            }
            Receiving::Known(known) => {
                let format = known.format();
                let done = known.finish()?;
                if done.messages == 0 {
                    self.skip(format!("already imported as {:?}, nothing new in it", done.name));
                    return Ok(());
                }
                (format, done)
            }
            Receiving::Nothing => return Ok(()),
        };
        self.imported.push(ImportedSession {
            file: self.file.clone(),
            format,
            session: done.session,
            name: done.name,
            messages: done.messages,
            branches: done.branches,
            updated: done.updated,
            report,
        });
        Ok(())
    }

    fn progress(&mut self, bytes_read: u64) -> bool {
        (self.on_progress)(bytes_read)
    }
}

/// How a session came out.
struct Done {
    session: Option<SessionId>,
    name: String,
    messages: u64,
    branches: u64,
    updated: bool,
}
