//! Copies all sessions of a store to another one, with everything that belongs to them.
//!
//! Each session is copied as one unit, and then read from both stores and compared. A copy that was interrupted continues where it
//! was: a session that the other store has already is only compared.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{panic, thread};

use hfs_core::{
    Attachment, Branch, BranchId, BranchKey, Checkpoint, CheckpointDraft, ContentHash, ErrorExt as _,
    ErrorKind, Message, MessageDraft, MessageRange, MessageStatus, PageRequest, Part, SessionDraft,
    SessionFilter, SessionId, SessionImport, SessionRecord, SessionSummary, Store, StoreError, StoreResult,
    lock_unpoisoned,
};

/// Number of sessions in one page, and of messages in one read.
const PAGE: u32 = 500;
/// Number of sessions that are copied at the same time. A server answers slowly compared with a file, and answers several at once.
const WORKERS: usize = 8;

/// What a copy has done.
#[derive(Debug, Default)]
pub struct CopyReport {
    /// Number of sessions that were copied.
    pub copied: u64,
    /// Number of sessions that the other store had already, equal in everything.
    pub already_there: u64,
    /// Number of messages of both, which were compared.
    pub messages: u64,
    /// Sessions that the other store has with other contents. They stay as they are.
    pub differing: Vec<DifferingSession>,
    /// Sessions that were not copied because they, or their copies, are damaged or lack something that they refer to.
    pub damaged: Vec<(SessionId, StoreError)>,
    /// Number of sessions that could not even be listed because their rows are damaged.
    pub unreadable: u64,
}

impl CopyReport {
    /// Whether the other store has every session, equal in everything.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.differing.is_empty() && self.damaged.is_empty() && self.unreadable == 0
    }
}

/// A session that two stores have with different contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferingSession {
    /// The session.
    pub id: SessionId,
    /// Its name in the store that is copied.
    pub name: String,
    /// What differs first.
    pub difference: Difference,
}

/// What differs between a session and its copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Its attributes, such as its name or its time of the last change.
    Attributes,
    /// Its branches.
    Branches,
    /// A message.
    Messages,
    /// A run of an agent.
    Runs,
    /// A checkpoint, or the state that a branch continues from.
    Checkpoints,
    /// The log of its operations.
    Operations,
}

impl Difference {
    /// The part of a session, in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attributes => "its attributes",
            Self::Branches => "its branches",
            Self::Messages => "its messages",
            Self::Runs => "its runs",
            Self::Checkpoints => "its checkpoints",
            Self::Operations => "its operations",
        }
    }
}

/// Copies all sessions, also those in the trash, and what was purged, from one store to another. Calls `progress` before each
/// session with the number of sessions that are done, and their total.
///
/// `from` should be a [snapshot](hfs_core::Maintenance::snapshot). A reply that is being written is copied as an interrupted one.
///
/// # Errors
/// Any error of a store except for damage, which is part of the report. The sessions that are done by then stay.
pub fn copy_store(
    from: &dyn Store,
    to: &dyn Store,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> StoreResult<CopyReport> {
    let total = from.info()?.sessions;
    let state = Mutex::new(Progress { report: CopyReport::default(), done: 0, total, progress });
    // Before the sessions, because a session that is stored again is no longer a purged one.
    to.add_purged_sources(&from.list_purged_sources()?)?;
    for trashed in [false, true] {
        let filter = SessionFilter { trashed, ..SessionFilter::default() };
        let mut request = PageRequest::first(PAGE);
        loop {
            let page = from.list_sessions(&filter, &request)?;
            lock_unpoisoned(&state).report.unreadable += page.unreadable;
            copy_sessions(from, to, &page.items, &state)?;
            match page.next {
                Some(next) => request.after = Some(next),
                None => break,
            }
        }
    }
    // Sessions are relaxed, so this makes them durable.
    to.sync()?;
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    (state.progress)(state.done, total);
    let mut report = state.report;
    report.differing.sort_by_key(|session| session.id);
    report.damaged.sort_by_key(|(id, _)| *id);
    Ok(report)
}

/// What the threads of a copy share.
struct Progress<'a> {
    report: CopyReport,
    done: u64,
    total: u64,
    progress: &'a mut (dyn FnMut(u64, u64) + Send),
}

/// Copies sessions, several at a time. Stops at the first error that is not about a session alone.
fn copy_sessions(
    from: &dyn Store,
    to: &dyn Store,
    sessions: &[SessionSummary],
    state: &Mutex<Progress<'_>>,
) -> StoreResult<()> {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(summary) = sessions.get(next.fetch_add(1, Ordering::Relaxed)) {
            {
                let mut state = lock_unpoisoned(state);
                let (done, total) = (state.done, state.total);
                (state.progress)(done, total);
                state.done += 1;
            }
            let result = copy_session(from, to, summary);
            if let Err(error) = lock_unpoisoned(state).report.add(summary, result) {
                // The other threads find no more sessions.
                next.store(sessions.len(), Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS.min(sessions.len())).map(|_| scope.spawn(work)).collect();
        let mut results = workers.into_iter().map(thread::ScopedJoinHandle::join);
        results.try_for_each(|result| result.unwrap_or_else(|payload| panic::resume_unwind(payload)))
    })
}

/// What happened to a session.
enum Copied {
    New,
    WasThere,
    Differs(Difference),
}

impl CopyReport {
    /// Adds the result of a session. Returns an error that is not about the session alone.
    fn add(&mut self, summary: &SessionSummary, result: StoreResult<Copied>) -> StoreResult<()> {
        let id = summary.session.id;
        match result {
            Ok(Copied::New) => self.copied += 1,
            Ok(Copied::WasThere) => self.already_there += 1,
            Ok(Copied::Differs(difference)) => {
                let name = summary.session.name.clone();
                self.differing.push(DifferingSession { id, name, difference });
                return Ok(());
            }
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                self.damaged.push((id, error));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.messages += summary.messages;
        Ok(())
    }
}

fn copy_session(from: &dyn Store, to: &dyn Store, summary: &SessionSummary) -> StoreResult<Copied> {
    let id = summary.session.id;
    let record = read_record(from, id)?;
    let is_there = match to.get_session(id) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    if !is_there {
        write_copy(from, to, &record)?;
    }
    Ok(match find_difference(from, to, &record)? {
        Some(difference) => Copied::Differs(difference),
        None if is_there => Copied::WasThere,
        None => Copied::New,
    })
}

fn read_record(store: &dyn Store, id: SessionId) -> StoreResult<SessionRecord> {
    let checkpoints = store.list_checkpoints(id)?;
    Ok(SessionRecord {
        session: store.get_session(id)?.session,
        branches: store.list_branches(id)?,
        checkpoints: checkpoints.iter().map(|checkpoint| (checkpoint.id, checkpoint.number)).collect(),
        last_checkpoint: store.last_checkpoint_number(id)?,
        operations: store.list_operation_records(id)?,
    })
}

fn write_copy(from: &dyn Store, to: &dyn Store, record: &SessionRecord) -> StoreResult<()> {
    let session = &record.session;
    let main = record.branches.iter().find(|branch| branch.parent.is_none()).ok_or_else(|| {
        StoreError::Corrupt { message: format!("session {} has no first branch", session.id) }
    })?;
    let draft = SessionDraft {
        id: session.id,
        name: session.name.clone(),
        automatic_name: session.automatic_name,
        project: session.project.clone(),
        created_at: session.created_at,
        origin: session.origin.clone(),
        extra: session.extra.clone(),
        main_branch: main.id,
    };
    let mut import = to.import_session(&draft)?;
    import.relax();
    copy_branches(from, import.as_mut(), &record.branches)?;
    for run in from.list_runs(session.id)? {
        import.run(&from.get_run(run)?)?;
    }
    for checkpoint in from.list_checkpoints(session.id)? {
        let state = from.load_state(checkpoint.id)?;
        import.checkpoint(&CheckpointDraft {
            id: checkpoint.id,
            branch: checkpoint.branch,
            seq: checkpoint.seq,
            trigger: checkpoint.trigger,
            label: checkpoint.label,
            pinned: checkpoint.pinned,
            created_at: checkpoint.created_at,
            state,
        })?;
    }
    for branch in &record.branches {
        if let Some(state) = from.load_branch_state(branch.id)? {
            import.branch_state(branch.id, &state)?;
        }
    }
    import.finish_copy(record)?;
    Ok(())
}

/// Copies the branches with their messages, parents before children.
fn copy_branches(from: &dyn Store, import: &mut dyn SessionImport, branches: &[Branch]) -> StoreResult<()> {
    let mut keys: HashMap<BranchId, BranchKey> = HashMap::new();
    let mut attachments = HashSet::new();
    let mut next: BranchKey = 1;
    for branch in branches {
        let key = match branch.parent {
            None => {
                import.name_main(&branch.name)?;
                0
            }
            Some(parent) => {
                let key = next;
                next += 1;
                let parent = keys.get(&parent).copied().ok_or_else(|| StoreError::Corrupt {
                    message: format!("the branch that {:?} was forked from is missing", branch.name),
                })?;
                import.branch(key, parent, branch.forked_at, branch.id, &branch.name)?;
                key
            }
        };
        keys.insert(branch.id, key);
        for_each_own_message(from, branch, &mut |message| {
            for hash in attachments_of(&message.content).filter(|hash| attachments.insert(*hash)) {
                import.attachment(&Attachment { hash, bytes: from.get_attachment(hash)? })?;
            }
            import.message(key, &message.content)
        })?;
    }
    Ok(())
}

fn attachments_of(message: &MessageDraft) -> impl Iterator<Item = ContentHash> + '_ {
    message.parts.iter().filter_map(|part| match part {
        Part::Attachment { hash, .. } => *hash,
        Part::Text { .. }
        | Part::Thinking { .. }
        | Part::ToolCall { .. }
        | Part::ToolResult { .. }
        | Part::Opaque { .. } => None,
    })
}

/// The messages that a branch does not share with its parent, in pages.
fn for_each_own_message(
    store: &dyn Store,
    branch: &Branch,
    each: &mut dyn FnMut(Message) -> StoreResult<()>,
) -> StoreResult<()> {
    let mut seq = branch.forked_at + 1;
    while seq <= branch.head {
        let page = own_messages(store, branch, seq)?;
        seq += page.len() as u64;
        page.into_iter().try_for_each(&mut *each)?;
    }
    Ok(())
}

/// A page of messages, as a copy has them.
fn own_messages(store: &dyn Store, branch: &Branch, seq: u64) -> StoreResult<Vec<Message>> {
    let left = u32::try_from(branch.head.saturating_sub(seq - 1)).unwrap_or(u32::MAX);
    let mut page = store.read_messages(branch.id, MessageRange::From(seq, left.min(PAGE)))?;
    if page.is_empty() {
        let message = format!("branch {:?} has no message {seq}, but ends at {}", branch.name, branch.head);
        return Err(StoreError::Corrupt { message });
    }
    for message in &mut page {
        if message.content.status == MessageStatus::Streaming {
            message.content.status = MessageStatus::Interrupted;
        }
    }
    Ok(page)
}

/// Compares a session with its copy. `record` is that of `from`.
fn find_difference(
    from: &dyn Store,
    to: &dyn Store,
    record: &SessionRecord,
) -> StoreResult<Option<Difference>> {
    let id = record.session.id;
    let copy = read_record(to, id)?;
    if copy.session != record.session {
        return Ok(Some(Difference::Attributes));
    }
    if copy.branches != record.branches {
        return Ok(Some(Difference::Branches));
    }
    if copy.operations != record.operations {
        return Ok(Some(Difference::Operations));
    }
    if copy.last_checkpoint != record.last_checkpoint || !has_equal_checkpoints(from, to, record)? {
        return Ok(Some(Difference::Checkpoints));
    }
    let runs = from.list_runs(id)?;
    if to.list_runs(id)? != runs {
        return Ok(Some(Difference::Runs));
    }
    for run in runs {
        if to.get_run(run)? != from.get_run(run)? {
            return Ok(Some(Difference::Runs));
        }
    }
    for branch in &record.branches {
        let mut seq = branch.forked_at + 1;
        while seq <= branch.head {
            let page = own_messages(from, branch, seq)?;
            if own_messages(to, branch, seq)? != page {
                return Ok(Some(Difference::Messages));
            }
            for hash in page.iter().flat_map(|message| attachments_of(&message.content)) {
                // The store compares the bytes with the hash.
                to.get_attachment(hash)?;
            }
            seq += page.len() as u64;
        }
    }
    Ok(None)
}

fn has_equal_checkpoints(from: &dyn Store, to: &dyn Store, record: &SessionRecord) -> StoreResult<bool> {
    /// Without the number of bytes that the store needs for the state.
    fn comparable(checkpoints: Vec<Checkpoint>) -> Vec<Checkpoint> {
        let without_cost = |mut checkpoint: Checkpoint| {
            checkpoint.cost.stored_bytes = 0;
            checkpoint
        };
        checkpoints.into_iter().map(without_cost).collect()
    }
    let id = record.session.id;
    let checkpoints = comparable(from.list_checkpoints(id)?);
    if comparable(to.list_checkpoints(id)?) != checkpoints {
        return Ok(false);
    }
    for checkpoint in &checkpoints {
        // The hashes of the states are equal; the store compares the state with its hash.
        to.load_state_json(checkpoint.id)?;
    }
    for branch in &record.branches {
        if to.load_branch_state(branch.id)? != from.load_branch_state(branch.id)? {
            return Ok(false);
        }
    }
    Ok(true)
}
