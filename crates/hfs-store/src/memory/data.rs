//! What the store holds, and how it is looked up.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use hfs_core::{
    Branch, BranchId, Checkpoint, CheckpointId, CheckpointState, ContentHash, Message, MessageDraft,
    MessageId, MessageStatus, Operation, OperationId, OperationKind, Part, Run, RunId, Seq, Session,
    SessionAttributes, SessionId, SessionSummary, StoreError, StoreResult, Timestamp,
};

use super::{Writer, conflict, invalid, not_found};

/// Everything in the store.
#[derive(Debug, Default)]
pub(super) struct Data {
    pub sessions: BTreeMap<SessionId, SessionRow>,
    pub branches: HashMap<BranchId, BranchRow>,
    /// The branch that holds each message, and its seq.
    pub places: HashMap<MessageId, (BranchId, Seq)>,
    pub runs: BTreeMap<RunId, Run>,
    /// In the order in which they were stored.
    pub checkpoints: Vec<Checkpoint>,
    pub states: BTreeMap<ContentHash, Arc<[u8]>>,
    pub attachments: BTreeMap<ContentHash, Arc<[u8]>>,
    /// In the order in which they were recorded.
    pub operations: Vec<Record>,
    /// How many operations were ever recorded; the newest one's number.
    pub recorded: u64,
}

#[derive(Debug)]
pub(super) struct SessionRow {
    pub session: Session,
    /// In the order in which they were made.
    pub branches: Vec<BranchId>,
}

#[derive(Debug)]
pub(super) struct BranchRow {
    pub branch: Branch,
    /// Its own messages; the first has the seq behind the fork.
    pub messages: Vec<MessageRow>,
    /// The state that its next run starts from.
    pub state: Option<ContentHash>,
}

#[derive(Debug)]
pub(super) struct MessageRow {
    pub content: MessageDraft,
    /// Who is writing it, while it is marked as streaming.
    pub writer: Weak<Writer>,
}

impl MessageRow {
    /// A message that nobody is writing.
    pub fn settled(mut content: MessageDraft) -> Self {
        if content.status == MessageStatus::Streaming {
            content.status = MessageStatus::Interrupted;
        }
        Self { content, writer: Weak::new() }
    }

    /// Whether its writer is alive.
    pub fn is_live(&self) -> bool {
        self.content.status == MessageStatus::Streaming && self.writer.strong_count() > 0
    }

    /// Whether it is still marked as streaming though its writer is gone.
    pub fn is_orphaned(&self) -> bool {
        self.content.status == MessageStatus::Streaming && self.writer.strong_count() == 0
    }

    /// The message as readers see it.
    pub fn seen(&self, branch: BranchId, seq: Seq) -> Message {
        let mut content = self.content.clone();
        if self.is_orphaned() {
            content.status = MessageStatus::Interrupted;
        }
        Message { branch, seq, content }
    }
}

/// An operation with what only its reversal needs.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub number: u64,
    pub operation: Operation,
    /// What `rename-branch` changed.
    pub renamed: Option<Renamed>,
}

/// A branch's name before and after.
#[derive(Debug, Clone)]
pub(super) struct Renamed {
    pub from: String,
    pub to: String,
}

/// An operation to be recorded; the session's shape after it is what the session is by then.
#[derive(Debug)]
pub(super) struct Change {
    pub session: SessionId,
    pub kind: OperationKind,
    pub at: Timestamp,
    pub before: Option<SessionAttributes>,
    pub branch: Option<BranchId>,
    pub checkpoint: Option<CheckpointId>,
    pub target: Option<OperationId>,
    pub detail: String,
    pub renamed: Option<Renamed>,
}

impl Change {
    pub fn new(
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
    pub fn shape(&self) -> SessionAttributes {
        SessionAttributes {
            name: self.session.name.clone(),
            automatic_name: self.session.automatic_name,
            current_branch: self.session.current_branch,
            trashed: self.session.trashed_at.is_some(),
        }
    }

    /// Moves the time of its last change forward.
    pub fn touch(&mut self, at: Timestamp) {
        self.session.updated_at = self.session.updated_at.max(at);
    }
}

impl Data {
    pub fn session(&self, id: SessionId) -> StoreResult<&SessionRow> {
        self.sessions.get(&id).ok_or_else(|| not_found("session", &id))
    }

    pub fn session_mut(&mut self, id: SessionId) -> StoreResult<&mut SessionRow> {
        self.sessions.get_mut(&id).ok_or_else(|| not_found("session", &id))
    }

    pub fn branch(&self, id: BranchId) -> StoreResult<&BranchRow> {
        self.branches.get(&id).ok_or_else(|| not_found("branch", &id))
    }

    pub fn branch_mut(&mut self, id: BranchId) -> StoreResult<&mut BranchRow> {
        self.branches.get_mut(&id).ok_or_else(|| not_found("branch", &id))
    }

    pub fn branches_of<'a>(&'a self, session: &'a SessionRow) -> impl Iterator<Item = &'a BranchRow> {
        session.branches.iter().filter_map(|id| self.branches.get(id))
    }

    /// The message at `seq` of the branch's history, and the branch that holds it.
    pub fn message_at(&self, branch: BranchId, seq: Seq) -> Option<(&BranchRow, &MessageRow)> {
        let mut row = self.branches.get(&branch)?;
        while seq <= row.branch.forked_at {
            row = self.branches.get(&row.branch.parent?)?;
        }
        let index = usize::try_from(seq.checked_sub(row.branch.forked_at + 1)?).ok()?;
        row.messages.get(index).map(|message| (row, message))
    }

    pub fn message_mut(&mut self, id: MessageId) -> Option<&mut MessageRow> {
        let (branch, seq) = *self.places.get(&id)?;
        let row = self.branches.get_mut(&branch)?;
        let index = usize::try_from(seq.checked_sub(row.branch.forked_at + 1)?).ok()?;
        row.messages.get_mut(index)
    }

    pub fn summary(&self, row: &SessionRow) -> SessionSummary {
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

    pub fn check_name_is_free(&self, session: SessionId, name: &str) -> StoreResult<()> {
        let row = self.session(session)?;
        if self.branches_of(row).any(|branch| branch.branch.name == name) {
            return Err(conflict(format!("the session has a branch {name:?} already")));
        }
        Ok(())
    }

    pub fn check_attachments(&self, message: &MessageDraft) -> StoreResult<()> {
        match attachments_of(message).find(|hash| !self.attachments.contains_key(hash)) {
            Some(hash) => Err(missing_attachment(message.id, hash)),
            None => Ok(()),
        }
    }

    /// Records an operation on a session that exists.
    pub fn record(&mut self, change: Change) -> StoreResult<Operation> {
        let row = self.session_mut(change.session)?;
        row.touch(change.at);
        let operation = Operation {
            id: OperationId::generate(),
            session: change.session,
            kind: change.kind,
            created_at: change.at,
            before: change.before,
            after: row.shape(),
            branch: change.branch,
            checkpoint: change.checkpoint,
            target: change.target,
            detail: change.detail,
        };
        self.recorded += 1;
        let record = Record { number: self.recorded, operation: operation.clone(), renamed: change.renamed };
        self.operations.push(record);
        Ok(operation)
    }

    /// Stores a state under its hash. Returns the hash and how many bytes it has.
    pub fn keep_state(&mut self, state: &CheckpointState) -> StoreResult<(ContentHash, u64)> {
        let bytes = state.canonical_json().map_err(|source| StoreError::Internal {
            action: "write a checkpoint's state".into(),
            source: source.into(),
        })?;
        let length = bytes.len() as u64;
        let hash = hash_of(&bytes);
        self.states.entry(hash).or_insert_with(|| bytes.into());
        Ok((hash, length))
    }

    /// Removes the states that nothing refers to any more.
    pub fn drop_unused_states(&mut self) {
        let mut used: Vec<ContentHash> =
            self.checkpoints.iter().map(|checkpoint| checkpoint.state_hash).collect();
        used.extend(self.branches.values().filter_map(|branch| branch.state));
        self.states.retain(|hash, _| used.contains(hash));
    }
}

/// The attachments that a message refers to.
pub(super) fn attachments_of(message: &MessageDraft) -> impl Iterator<Item = ContentHash> + '_ {
    message.parts.iter().filter_map(|part| match part {
        Part::Attachment { hash, .. } => *hash,
        _ => None,
    })
}

pub(super) fn missing_attachment(message: MessageId, hash: ContentHash) -> StoreError {
    invalid(format!("message {message} refers to the attachment {hash}, which is not stored"))
}

pub(super) fn hash_of(bytes: &[u8]) -> ContentHash {
    ContentHash::from_bytes(*blake3::hash(bytes).as_bytes())
}
