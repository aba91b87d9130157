//! A store in memory: ordinary maps behind one lock.
//!
//! It is meant for tests and for temporary sessions. As the simplest implementation of the port, it is also the
//! reference for [`SqliteStore`](crate::SqliteStore) in the property tests.

mod checkpoints;
mod copy;
mod import;
mod messages;
mod reimport;
mod search;
mod sessions;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use hfs_core::{
    Branch, BranchId, Checkpoint, CheckpointId, Clock, CompleteImport, ContentHash, Maintenance, Message,
    MessageDraft, MessageId, MessageStatus, Operation, OperationId, OperationKind, Part, Problem, Run, RunId,
    RunStore, Seq, Session, SessionAttributes, SessionId, SessionSummary, Store, StoreError, StoreInfo,
    StoreResult, Timestamp, Verification, lock_unpoisoned,
};

use crate::check::ProblemKind;

/// A store in memory.
///
/// Each instance behaves like a process with the store open: when it is dropped, its unfinished replies become
/// interrupted. [`reopen`](Self::reopen) creates another instance with the same data.
pub struct MemoryStore {
    data: Arc<Mutex<Data>>,
    clock: Arc<dyn Clock>,
    writer: Arc<Writer>,
}

/// Identifies a store instance. Replies in progress have a weak reference to it, to check whether the instance still
/// exists.
#[derive(Debug)]
struct Writer;

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { data: Arc::default(), clock, writer: Arc::new(Writer) }
    }

    /// Creates another instance with the same data, like another process that opens the store.
    #[must_use]
    pub fn reopen(&self) -> Self {
        Self { data: Arc::clone(&self.data), clock: Arc::clone(&self.clock), writer: Arc::new(Writer) }
    }

    fn lock(&self) -> MutexGuard<'_, Data> {
        // Ignores poisoning: each operation checks its arguments before its first change, so a panic leaves no
        // operation half done.
        lock_unpoisoned(&self.data)
    }
}

#[derive(Debug, Clone, Default)]
struct Data {
    sessions: BTreeMap<SessionId, SessionRow>,
    branches: HashMap<BranchId, BranchRow>,
    /// Branch and seq of each message.
    positions: HashMap<MessageId, (BranchId, Seq)>,
    runs: BTreeMap<RunId, Run>,
    /// In the order in which they were stored.
    checkpoints: Vec<Checkpoint>,
    /// Canonical JSON by its hash.
    states: BTreeMap<ContentHash, Arc<[u8]>>,
    attachments: BTreeMap<ContentHash, Arc<[u8]>>,
    /// In the order in which they were recorded.
    operations: Vec<OperationRow>,
    /// Number of the newest operation.
    last_operation: u64,
    /// Hashes of the origins of purged sessions, and of the ids of the sessions and their branches.
    purged: BTreeMap<ContentHash, Timestamp>,
    /// By path.
    imported_sources: HashMap<String, CompleteImport>,
}

#[derive(Debug, Clone)]
struct SessionRow {
    session: Session,
    /// In the order in which they were created.
    branches: Vec<BranchId>,
    /// The highest number of a checkpoint so far.
    last_checkpoint: u64,
}

#[derive(Debug, Clone)]
struct BranchRow {
    branch: Branch,
    /// The branch's own messages; the first one follows the fork.
    messages: Vec<MessageRow>,
    /// The state that the branch's next run starts from.
    state: Option<ContentHash>,
}

#[derive(Debug, Clone)]
struct MessageRow {
    content: MessageDraft,
    /// The instance that writes the message while it is streaming.
    writer: Weak<Writer>,
}

/// An operation, with data that only undo and redo need.
#[derive(Debug, Clone)]
struct OperationRow {
    number: u64,
    operation: Operation,
    /// Set for `rename-branch`.
    renamed: Option<BranchRename>,
}

#[derive(Debug, Clone)]
struct BranchRename {
    from: String,
    to: String,
}

/// An operation to record. [`Data::record`] adds the session's attributes after the operation.
#[derive(Debug)]
struct NewOperation {
    session: SessionId,
    kind: OperationKind,
    at: Timestamp,
    before: Option<SessionAttributes>,
    branch: Option<BranchId>,
    checkpoint: Option<CheckpointId>,
    target: Option<OperationId>,
    detail: String,
    renamed: Option<BranchRename>,
}

impl NewOperation {
    fn new(
        session: SessionId,
        kind: OperationKind,
        at: Timestamp,
        before: Option<SessionAttributes>,
    ) -> Self {
        Self {
            session,
            kind,
            at,
            before,
            branch: None,
            checkpoint: None,
            target: None,
            detail: String::new(),
            renamed: None,
        }
    }
}

impl SessionRow {
    fn attributes(&self) -> SessionAttributes {
        SessionAttributes {
            name: self.session.name.clone(),
            automatic_name: self.session.automatic_name,
            current_branch: self.session.current_branch,
            trashed: self.session.trashed_at.is_some(),
        }
    }

    /// Sets the time of the last change to `at`, unless the stored time is later.
    fn touch(&mut self, at: Timestamp) {
        self.session.updated_at = self.session.updated_at.max(at);
    }
}

impl MessageRow {
    /// A message without a writer.
    fn finished(mut content: MessageDraft) -> Self {
        if content.status == MessageStatus::Streaming {
            content.status = MessageStatus::Interrupted;
        }
        Self { content, writer: Weak::new() }
    }

    /// Whether the message is streaming and its writer still exists.
    fn is_live(&self) -> bool {
        self.content.status == MessageStatus::Streaming && self.writer.strong_count() > 0
    }

    /// Whether the message is streaming but its writer no longer exists.
    fn is_abandoned(&self) -> bool {
        self.content.status == MessageStatus::Streaming && self.writer.strong_count() == 0
    }

    /// The message as callers see it: an abandoned one is interrupted.
    fn to_message(&self, branch: BranchId, seq: Seq) -> Message {
        let mut content = self.content.clone();
        if self.is_abandoned() {
            content.status = MessageStatus::Interrupted;
        }
        Message { branch, seq, content }
    }
}

impl Data {
    fn session(&self, id: SessionId) -> StoreResult<&SessionRow> {
        self.sessions.get(&id).ok_or_else(|| not_found("session", &id))
    }

    fn session_mut(&mut self, id: SessionId) -> StoreResult<&mut SessionRow> {
        self.sessions.get_mut(&id).ok_or_else(|| not_found("session", &id))
    }

    fn branch(&self, id: BranchId) -> StoreResult<&BranchRow> {
        self.branches.get(&id).ok_or_else(|| not_found("branch", &id))
    }

    fn branch_mut(&mut self, id: BranchId) -> StoreResult<&mut BranchRow> {
        self.branches.get_mut(&id).ok_or_else(|| not_found("branch", &id))
    }

    fn branches_of<'a>(&'a self, session: &'a SessionRow) -> impl Iterator<Item = &'a BranchRow> {
        session.branches.iter().filter_map(|id| self.branches.get(id))
    }

    /// Returns the message at `seq` of the branch's history, and the branch that it belongs to.
    fn message_at(&self, branch: BranchId, seq: Seq) -> Option<(&BranchRow, &MessageRow)> {
        let mut row = self.branches.get(&branch)?;
        while seq <= row.branch.forked_at {
            row = self.branches.get(&row.branch.parent?)?;
        }
        let index = usize::try_from(seq.checked_sub(row.branch.forked_at + 1)?).ok()?;
        row.messages.get(index).map(|message| (row, message))
    }

    fn message_mut(&mut self, id: MessageId) -> Option<&mut MessageRow> {
        let (branch, seq) = *self.positions.get(&id)?;
        let row = self.branches.get_mut(&branch)?;
        let index = usize::try_from(seq.checked_sub(row.branch.forked_at + 1)?).ok()?;
        row.messages.get_mut(index)
    }

    fn messages(&self) -> impl Iterator<Item = &MessageDraft> {
        self.branches.values().flat_map(|branch| &branch.messages).map(|message| &message.content)
    }

    fn summary(&self, row: &SessionRow) -> SessionSummary {
        let id = row.session.id;
        let messages = self.branches_of(row).map(|branch| branch.messages.len()).sum::<usize>();
        let branches = self.branches_of(row).filter(|branch| !branch.branch.undone).count();
        let checkpoints = self.checkpoints.iter().filter(|checkpoint| checkpoint.session == id).count();
        let branch = self.branches.get(&row.session.current_branch);
        SessionSummary {
            session: row.session.clone(),
            messages: messages as u64,
            branches: branches as u64,
            checkpoints: checkpoints as u64,
            branch: branch.map(|branch| branch.branch.name.clone()).unwrap_or_default(),
        }
    }

    fn check_name_is_free(&self, session: SessionId, name: &str) -> StoreResult<()> {
        let row = self.session(session)?;
        if self.branches_of(row).any(|branch| branch.branch.name == name) {
            return Err(conflict(format!("the session already has a branch {name:?}")));
        }
        Ok(())
    }

    fn check_attachments(&self, message: &MessageDraft) -> StoreResult<()> {
        match attachments_of(message).find(|hash| !self.attachments.contains_key(hash)) {
            Some(hash) => Err(missing_attachment(message.id, hash)),
            None => Ok(()),
        }
    }

    fn record(&mut self, new: NewOperation) -> StoreResult<Operation> {
        self.session_mut(new.session)?.touch(new.at);
        self.record_quietly(new)
    }

    /// Records an operation that does not count as a change of the session.
    fn record_quietly(&mut self, new: NewOperation) -> StoreResult<Operation> {
        let row = self.session(new.session)?;
        let operation = Operation {
            id: OperationId::generate(),
            session: new.session,
            kind: new.kind,
            created_at: new.at,
            before: new.before,
            after: row.attributes(),
            branch: new.branch,
            checkpoint: new.checkpoint,
            target: new.target,
            detail: new.detail,
        };
        self.last_operation += 1;
        let row =
            OperationRow { number: self.last_operation, operation: operation.clone(), renamed: new.renamed };
        self.operations.push(row);
        Ok(operation)
    }

    fn verify(&self, problems: &mut Vec<Problem>) {
        let mut check = |is_ok: bool, kind: ProblemKind, place: String, detail: &str| {
            if !is_ok {
                problems.push(Problem { kind: kind.as_str().to_owned(), place, detail: detail.to_owned() });
            }
        };
        for row in self.sessions.values() {
            let current = self.branches.get(&row.session.current_branch);
            let is_ok = current.is_some_and(|branch| !branch.branch.undone);
            let place = format!("session {}", row.session.id);
            check(is_ok, ProblemKind::Reference, place, "its current branch is missing or undone");
        }
        for branch in self.branches.values() {
            let place = || format!("branch {}", branch.branch.id);
            let head = branch.branch.forked_at + branch.messages.len() as u64;
            check(
                branch.branch.head == head,
                ProblemKind::Count,
                place(),
                "its head is not its last message",
            );
            let parent = branch.branch.parent.map(|parent| self.branches.get(&parent));
            let is_fork_ok = match parent {
                None => branch.branch.forked_at == 0,
                Some(parent) => parent.is_some_and(|parent| branch.branch.forked_at <= parent.branch.head),
            };
            check(is_fork_ok, ProblemKind::Reference, place(), "it forks at a message that does not exist");
            let are_found = (branch.branch.forked_at + 1..).zip(&branch.messages).all(|(seq, message)| {
                self.positions.get(&message.content.id) == Some(&(branch.branch.id, seq))
            });
            check(are_found, ProblemKind::Reference, place(), "one of its messages is not found by its id");
            let is_state_ok = branch.state.is_none_or(|hash| self.states.contains_key(&hash));
            check(is_state_ok, ProblemKind::Reference, place(), "its state is missing");
        }
        let messages = self.messages().count();
        check(
            self.positions.len() == messages,
            ProblemKind::Count,
            "messages".into(),
            "there are more ids than messages",
        );
        for message in self.messages() {
            let is_ok = attachments_of(message).all(|hash| self.attachments.contains_key(&hash));
            let place = format!("message {}", message.id);
            check(is_ok, ProblemKind::Reference, place, "one of its attachments is missing");
        }
        for checkpoint in &self.checkpoints {
            let branch = self.branches.get(&checkpoint.branch);
            let is_ok = branch.is_some_and(|branch| checkpoint.seq <= branch.branch.head)
                && self.states.contains_key(&checkpoint.state_hash);
            let place = format!("checkpoint {}", checkpoint.id);
            check(is_ok, ProblemKind::Reference, place, "its message or its state is missing");
        }
        for (hash, bytes) in self.states.iter().chain(&self.attachments) {
            let is_ok = hash_of(bytes) == *hash;
            check(is_ok, ProblemKind::Hash, hash.to_string(), "the bytes do not match their hash");
        }
    }
}

impl RunStore for MemoryStore {
    fn save_run(&self, run: &Run) -> StoreResult<()> {
        let mut data = self.lock();
        data.branch(run.branch)?;
        data.runs.insert(run.id, run.clone());
        Ok(())
    }

    fn get_run(&self, id: RunId) -> StoreResult<Run> {
        self.lock().runs.get(&id).cloned().ok_or_else(|| not_found("run", &id))
    }

    fn list_runs(&self, session: SessionId) -> StoreResult<Vec<RunId>> {
        let data = self.lock();
        let branches = &data.session(session)?.branches;
        let mut runs: Vec<&Run> = data.runs.values().filter(|run| branches.contains(&run.branch)).collect();
        runs.sort_by_key(|run| (run.started_at, run.id));
        Ok(runs.iter().map(|run| run.id).collect())
    }
}

impl Maintenance for MemoryStore {
    fn info(&self) -> StoreResult<StoreInfo> {
        let data = self.lock();
        let texts: u64 = data.messages().map(|message| message.searchable_text().len() as u64).sum();
        let states: u64 = data.states.values().map(|state| state.len() as u64).sum();
        let attachments: u64 = data.attachments.values().map(|bytes| bytes.len() as u64).sum();
        Ok(StoreInfo {
            url: "memory:".into(),
            backend: "memory",
            schema_version: 1,
            sessions: data.sessions.len() as u64,
            messages: data.messages().count() as u64,
            checkpoints: data.checkpoints.len() as u64,
            bytes: texts + states + attachments,
            checkpoint_bytes: states,
        })
    }

    fn verify(&self) -> StoreResult<Verification> {
        let data = self.lock();
        let mut verification = Verification {
            checked: [
                ("sessions", data.sessions.len()),
                ("branches", data.branches.len()),
                ("messages", data.messages().count()),
                ("runs", data.runs.len()),
                ("checkpoints", data.checkpoints.len()),
                ("states", data.states.len()),
                ("attachments", data.attachments.len()),
                ("operations", data.operations.len()),
            ]
            .map(|(what, count)| (what.to_owned(), count as u64))
            .into(),
            problems: Vec::new(),
        };
        data.verify(&mut verification.problems);
        Ok(verification)
    }

    /// Does nothing: the data does not outlive the process, so nothing can be damaged.
    fn repair(&self) -> StoreResult<Vec<Problem>> {
        Ok(Vec::new())
    }

    fn backup(&self, to: &Path) -> StoreResult<()> {
        let message = format!("a store in memory cannot be copied to {}", to.display());
        Err(StoreError::Unsupported { message })
    }

    fn vacuum(&self) -> StoreResult<()> {
        Ok(())
    }

    /// Copies the data. Writing to the copy changes only the copy.
    fn snapshot(&self) -> StoreResult<Arc<dyn Store>> {
        let data = Arc::new(Mutex::new(self.lock().clone()));
        Ok(Arc::new(Self { data, clock: Arc::clone(&self.clock), writer: Arc::clone(&self.writer) }))
    }
}

fn attachments_of(message: &MessageDraft) -> impl Iterator<Item = ContentHash> + '_ {
    message.parts.iter().filter_map(|part| match part {
        Part::Attachment { hash, .. } => *hash,
        _ => None,
    })
}

fn missing_attachment(message: MessageId, hash: ContentHash) -> StoreError {
    invalid(format!("message {message} refers to the attachment {hash}, which is not stored"))
}

fn hash_of_source(format: &str, id: &str) -> ContentHash {
    hash_of(format!("{format}\0{id}").as_bytes())
}

fn hash_of(bytes: &[u8]) -> ContentHash {
    ContentHash::from_bytes(*blake3::hash(bytes).as_bytes())
}

fn not_found(what: &'static str, reference: &impl ToString) -> StoreError {
    StoreError::NotFound { what, reference: reference.to_string() }
}

fn conflict(message: impl Into<String>) -> StoreError {
    StoreError::Conflict { message: message.into() }
}

fn invalid(message: impl Into<String>) -> StoreError {
    StoreError::Invalid { message: message.into() }
}
