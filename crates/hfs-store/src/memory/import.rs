//! Imports a session: collects all its data outside of the store, and inserts it at the end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use hfs_core::{
    Attachment, Branch, BranchId, BranchKey, CheckpointDraft, CheckpointState, ContentHash, MAIN_BRANCH,
    MessageDraft, MessageId, OperationId, OperationKind, OperationRecord, Run, RunId, Seq, SessionDraft,
    SessionImport, SessionRecord, SessionSummary, StoreError, StoreResult, Timestamp,
};

use super::messages::check_hash;
use super::{
    BranchRename, BranchRow, Data, MemoryStore, MessageRow, NewOperation, OperationRow, attachments_of,
    conflict, invalid, missing_attachment,
};

/// A session that is being imported.
pub(super) struct MemoryImport<'a> {
    store: &'a MemoryStore,
    draft: SessionDraft,
    /// In the order in which they were added; the first one is the main branch.
    branches: Vec<StagedBranch>,
    keys: HashMap<BranchKey, usize>,
    messages: HashSet<MessageId>,
    attachments: BTreeMap<ContentHash, Arc<[u8]>>,
    runs: BTreeMap<RunId, Run>,
    checkpoints: Vec<CheckpointDraft>,
    states: Vec<(BranchId, CheckpointState)>,
}

struct StagedBranch {
    id: BranchId,
    name: String,
    parent: Option<BranchId>,
    forked_at: Seq,
    messages: Vec<MessageDraft>,
    undone: bool,
}

impl StagedBranch {
    fn head(&self) -> Seq {
        self.forked_at + self.messages.len() as u64
    }

    /// The branch without its messages, which are added later.
    fn to_branch(&self, session: &SessionDraft) -> Branch {
        Branch {
            id: self.id,
            session: session.id,
            name: self.name.clone(),
            parent: self.parent,
            forked_at: self.forked_at,
            head: self.forked_at,
            created_at: self.messages.first().map_or(session.created_at, |message| message.created_at),
            undone: self.undone,
        }
    }
}

impl<'a> MemoryImport<'a> {
    pub(super) fn new(store: &'a MemoryStore, draft: &SessionDraft) -> Self {
        let main = StagedBranch {
            id: draft.main_branch,
            name: MAIN_BRANCH.into(),
            parent: None,
            forked_at: 0,
            messages: Vec::new(),
            undone: false,
        };
        Self {
            store,
            draft: draft.clone(),
            branches: vec![main],
            keys: [(0, 0)].into(),
            messages: HashSet::new(),
            attachments: BTreeMap::new(),
            runs: BTreeMap::new(),
            checkpoints: Vec::new(),
            states: Vec::new(),
        }
    }

    fn staged(&self, key: BranchKey) -> StoreResult<&StagedBranch> {
        let index = self.keys.get(&key);
        index.and_then(|index| self.branches.get(*index)).ok_or_else(|| unknown_branch(key))
    }

    fn check_name_is_free(&self, name: &str) -> StoreResult<()> {
        if self.branches.iter().any(|branch| branch.name == name) {
            return Err(conflict(format!("the session already has a branch {name:?}")));
        }
        Ok(())
    }
}

impl SessionImport for MemoryImport<'_> {
    fn branch(
        &mut self,
        key: BranchKey,
        parent: BranchKey,
        forked_at: Seq,
        id: BranchId,
        name: &str,
    ) -> StoreResult<()> {
        let from = self.staged(parent)?;
        if forked_at > from.head() {
            return Err(invalid(format!(
                "branch {:?} ends at message {}, before message {forked_at}",
                from.name,
                from.head()
            )));
        }
        let parent = Some(from.id);
        if self.keys.contains_key(&key) {
            return Err(invalid(format!("the session already has a branch number {key}")));
        }
        if self.branches.iter().any(|branch| branch.id == id) {
            return Err(conflict(format!("branch {id} already exists")));
        }
        self.check_name_is_free(name)?;
        self.keys.insert(key, self.branches.len());
        let name = name.to_owned();
        let messages = Vec::new();
        self.branches.push(StagedBranch { id, name, parent, forked_at, messages, undone: false });
        Ok(())
    }

    fn mark_undone(&mut self, key: BranchKey) -> StoreResult<()> {
        let index = *self.keys.get(&key).ok_or_else(|| unknown_branch(key))?;
        self.branches.get_mut(index).ok_or_else(|| unknown_branch(key))?.undone = true;
        Ok(())
    }

    fn name_main(&mut self, name: &str) -> StoreResult<()> {
        if self.staged(0)?.name != name {
            self.check_name_is_free(name)?;
        }
        if let Some(main) = self.branches.first_mut() {
            name.clone_into(&mut main.name);
        }
        Ok(())
    }

    fn message(&mut self, branch: BranchKey, message: &MessageDraft) -> StoreResult<()> {
        let index = *self.keys.get(&branch).ok_or_else(|| unknown_branch(branch))?;
        for hash in attachments_of(message) {
            if self.attachments.contains_key(&hash) {
                continue;
            }
            // Keeps the bytes, because a purge during the import may delete the stored attachment.
            let stored = self.store.lock().attachments.get(&hash).cloned();
            let bytes = stored.ok_or_else(|| missing_attachment(message.id, hash))?;
            self.attachments.insert(hash, bytes);
        }
        if !self.messages.insert(message.id) {
            return Err(conflict(format!("message {} already exists", message.id)));
        }
        self.branches.get_mut(index).ok_or_else(|| unknown_branch(branch))?.messages.push(message.clone());
        Ok(())
    }

    fn attachment(&mut self, attachment: &Attachment) -> StoreResult<()> {
        check_hash(attachment)?;
        self.attachments.entry(attachment.hash).or_insert_with(|| Arc::from(attachment.bytes.as_slice()));
        Ok(())
    }

    fn run(&mut self, run: &Run) -> StoreResult<()> {
        if !self.branches.iter().any(|branch| branch.id == run.branch) {
            return Err(invalid(format!("branch {} of the run does not belong to this session", run.branch)));
        }
        self.runs.insert(run.id, run.clone());
        Ok(())
    }

    fn checkpoint(&mut self, checkpoint: &CheckpointDraft) -> StoreResult<()> {
        let branch = self.branches.iter().find(|branch| branch.id == checkpoint.branch).ok_or_else(|| {
            invalid(format!("branch {} of the checkpoint does not belong to this session", checkpoint.branch))
        })?;
        if checkpoint.seq > branch.head() {
            return Err(invalid(format!(
                "branch {:?} ends at message {}, before message {}",
                branch.name,
                branch.head(),
                checkpoint.seq
            )));
        }
        if self.checkpoints.iter().any(|other| other.id == checkpoint.id) {
            return Err(conflict(format!("checkpoint {} already exists", checkpoint.id)));
        }
        self.checkpoints.push(checkpoint.clone());
        Ok(())
    }

    fn branch_state(&mut self, branch: BranchId, state: &CheckpointState) -> StoreResult<()> {
        if !self.branches.iter().any(|staged| staged.id == branch) {
            return Err(invalid(format!("branch {branch} of the state does not belong to this session")));
        }
        self.states.push((branch, state.clone()));
        Ok(())
    }

    fn finish(
        mut self: Box<Self>,
        name: &str,
        current: BranchKey,
        created_at: Timestamp,
        updated_at: Timestamp,
    ) -> StoreResult<SessionSummary> {
        let current = self.staged(current)?.id;
        let id = self.draft.id;
        name.clone_into(&mut self.draft.name);
        self.draft.created_at = created_at;
        let store = self.store;
        let mut data = store.lock();
        self.check_ids_are_new(&data)?;
        self.insert(&mut data)?;
        data.session_mut(id)?.session.current_branch = current;
        data.branch_mut(current)?.branch.undone = false;
        data.record(NewOperation::new(id, OperationKind::Import, store.clock.now(), None))?;
        // Inserting the messages and recording the operation have changed `updated_at`.
        data.session_mut(id)?.session.updated_at = updated_at;
        let session = data.session(id)?;
        Ok(data.summary(session))
    }

    fn finish_copy(self: Box<Self>, record: &SessionRecord) -> StoreResult<SessionSummary> {
        let id = self.draft.id;
        let current = record.session.current_branch;
        if !self.branches.iter().any(|branch| branch.id == current) {
            return Err(invalid(format!("branch {current} does not belong to this session")));
        }
        let store = self.store;
        let mut data = store.lock();
        self.check_ids_are_new(&data)?;
        let stored: HashSet<OperationId> = data.operations.iter().map(|row| row.operation.id).collect();
        if let Some(record) = record.operations.iter().find(|record| stored.contains(&record.operation.id)) {
            return Err(conflict(format!("operation {} already exists", record.operation.id)));
        }
        self.insert(&mut data)?;
        for branch in &record.branches {
            let stored = &mut data.branch_mut(branch.id)?.branch;
            (stored.created_at, stored.undone) = (branch.created_at, branch.undone);
        }
        for (checkpoint, number) in &record.checkpoints {
            if let Some(stored) = data.checkpoints.iter_mut().find(|stored| stored.id == *checkpoint) {
                stored.number = *number;
            }
        }
        for OperationRecord { operation, renamed } in &record.operations {
            data.last_operation += 1;
            let renamed = renamed.clone().map(|(from, to)| BranchRename { from, to });
            let row = OperationRow { number: data.last_operation, operation: operation.clone(), renamed };
            data.operations.push(row);
        }
        let row = data.session_mut(id)?;
        row.session = record.session.clone();
        row.last_checkpoint = record.last_checkpoint;
        let session = data.session(id)?;
        Ok(data.summary(session))
    }
}

impl MemoryImport<'_> {
    /// Checks that no id of the session has been stored since the import began.
    fn check_ids_are_new(&self, data: &Data) -> StoreResult<()> {
        data.check_new(&self.draft)?;
        if let Some(branch) = self.branches.iter().find(|branch| data.branches.contains_key(&branch.id)) {
            return Err(conflict(format!("branch {} already exists", branch.id)));
        }
        if let Some(id) = self.messages.iter().find(|id| data.positions.contains_key(id)) {
            return Err(conflict(format!("message {id} already exists")));
        }
        if let Some(id) = self.runs.keys().find(|id| data.runs.contains_key(id)) {
            return Err(conflict(format!("run {id} already exists")));
        }
        if let Some(checkpoint) =
            self.checkpoints.iter().find(|checkpoint| data.checkpoint(checkpoint.id).is_ok())
        {
            return Err(conflict(format!("checkpoint {} already exists", checkpoint.id)));
        }
        Ok(())
    }

    fn insert(self, data: &mut Data) -> StoreResult<()> {
        let session = self.draft.id;
        data.insert_session(&self.draft);
        data.attachments.extend(self.attachments);
        for staged in self.branches {
            if staged.parent.is_some() {
                let branch = staged.to_branch(&self.draft);
                data.session_mut(session)?.branches.push(branch.id);
                data.branches.insert(branch.id, BranchRow { branch, messages: Vec::new(), state: None });
            } else {
                let main = &mut data.branch_mut(staged.id)?.branch;
                (main.name, main.undone) = (staged.name, staged.undone);
            }
            for message in staged.messages {
                data.push(staged.id, MessageRow::finished(message))?;
            }
        }
        data.runs.extend(self.runs);
        for checkpoint in &self.checkpoints {
            let stored = data.insert_checkpoint(session, checkpoint)?;
            data.session_mut(session)?.last_checkpoint = stored.number;
        }
        for (branch, state) in &self.states {
            let (hash, _) = data.put_state(state)?;
            data.branch_mut(*branch)?.state = Some(hash);
        }
        Ok(())
    }
}

fn unknown_branch(key: BranchKey) -> StoreError {
    invalid(format!("the session has no branch number {key}"))
}
