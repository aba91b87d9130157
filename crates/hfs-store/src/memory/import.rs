use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use hfs_core::{
    Attachment, Branch, BranchId, BranchKey, CheckpointDraft, ContentHash, MAIN_BRANCH, MessageDraft,
    MessageId, OperationKind, Run, RunId, Seq, SessionDraft, SessionImport, SessionSummary, StoreError,
    StoreResult, Timestamp,
};

use super::data::{BranchRow, Change, Data, MessageRow, attachments_of, missing_attachment};
use super::operations::check_hash;
use super::{MemoryStore, conflict, invalid};

/// A session that is arriving, beside the store until it is whole.
pub(super) struct Import<'a> {
    store: &'a MemoryStore,
    draft: SessionDraft,
    /// In the order in which they came; the first is the main branch.
    branches: Vec<StagedBranch>,
    keys: HashMap<BranchKey, usize>,
    messages: HashSet<MessageId>,
    attachments: BTreeMap<ContentHash, Arc<[u8]>>,
    runs: BTreeMap<RunId, Run>,
    checkpoints: Vec<CheckpointDraft>,
}

struct StagedBranch {
    id: BranchId,
    name: String,
    parent: Option<BranchId>,
    forked_at: Seq,
    messages: Vec<MessageDraft>,
}

impl StagedBranch {
    fn head(&self) -> Seq {
        self.forked_at + self.messages.len() as u64
    }

    /// The branch before its messages are added.
    fn to_branch(&self, session: &SessionDraft) -> Branch {
        Branch {
            id: self.id,
            session: session.id,
            name: self.name.clone(),
            parent: self.parent,
            forked_at: self.forked_at,
            head: self.forked_at,
            created_at: self.messages.first().map_or(session.created_at, |message| message.created_at),
            undone: false,
        }
    }
}

impl<'a> Import<'a> {
    pub(super) fn new(store: &'a MemoryStore, draft: &SessionDraft) -> Self {
        let main = StagedBranch {
            id: draft.main_branch,
            name: MAIN_BRANCH.into(),
            parent: None,
            forked_at: 0,
            messages: Vec::new(),
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
        }
    }

    fn staged(&self, key: BranchKey) -> StoreResult<&StagedBranch> {
        let index = self.keys.get(&key);
        index.and_then(|index| self.branches.get(*index)).ok_or_else(|| unknown_branch(key))
    }

    fn check_name(&self, name: &str) -> StoreResult<()> {
        if self.branches.iter().any(|branch| branch.name == name) {
            return Err(conflict(format!("the session has a branch {name:?} already")));
        }
        Ok(())
    }
}

impl SessionImport for Import<'_> {
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
                "branch {:?} ends at message number {}, before {forked_at}",
                from.name,
                from.head()
            )));
        }
        let parent = Some(from.id);
        if self.keys.contains_key(&key) {
            return Err(invalid(format!("the session has a branch number {key} already")));
        }
        if self.branches.iter().any(|branch| branch.id == id) {
            return Err(conflict(format!("branch {id} exists already")));
        }
        self.check_name(name)?;
        self.keys.insert(key, self.branches.len());
        let name = name.to_owned();
        self.branches.push(StagedBranch { id, name, parent, forked_at, messages: Vec::new() });
        Ok(())
    }

    fn name_main(&mut self, name: &str) -> StoreResult<()> {
        if self.staged(0)?.name != name {
            self.check_name(name)?;
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
            // A copy, so that a purge before the end takes nothing away from what is arriving.
            let stored = self.store.lock().attachments.get(&hash).cloned();
            let bytes = stored.ok_or_else(|| missing_attachment(message.id, hash))?;
            self.attachments.insert(hash, bytes);
        }
        if !self.messages.insert(message.id) {
            return Err(conflict(format!("message {} exists already", message.id)));
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
            return Err(invalid(format!("branch {} of the run is not of this session", run.branch)));
        }
        self.runs.insert(run.id, run.clone());
        Ok(())
    }

    fn checkpoint(&mut self, checkpoint: &CheckpointDraft) -> StoreResult<()> {
        let branch = self.branches.iter().find(|branch| branch.id == checkpoint.branch).ok_or_else(|| {
            invalid(format!("branch {} of the checkpoint is not of this session", checkpoint.branch))
        })?;
        if checkpoint.seq > branch.head() {
            return Err(invalid(format!(
                "branch {:?} ends at message number {}, before {}",
                branch.name,
                branch.head(),
                checkpoint.seq
            )));
        }
        if self.checkpoints.iter().any(|other| other.id == checkpoint.id) {
            return Err(conflict(format!("checkpoint {} exists already", checkpoint.id)));
        }
        self.checkpoints.push(checkpoint.clone());
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
        self.check_unknown(&data)?;
        self.insert(&mut data)?;
        data.session_mut(id)?.session.current_branch = current;
        data.record(Change::new(id, OperationKind::Import, store.clock.now(), None))?;
        // What was said and recorded on the way counts as old as it is.
        data.session_mut(id)?.session.updated_at = updated_at;
        let session = data.session(id)?;
        Ok(data.summary(session))
    }
}

impl Import<'_> {
    /// Checks that nothing of the session has come into the store meanwhile.
    fn check_unknown(&self, data: &Data) -> StoreResult<()> {
        data.check_new(&self.draft)?;
        if let Some(branch) = self.branches.iter().find(|branch| data.branches.contains_key(&branch.id)) {
            return Err(conflict(format!("branch {} exists already", branch.id)));
        }
        if let Some(id) = self.messages.iter().find(|id| data.places.contains_key(id)) {
            return Err(conflict(format!("message {id} exists already")));
        }
        if let Some(id) = self.runs.keys().find(|id| data.runs.contains_key(id)) {
            return Err(conflict(format!("run {id} exists already")));
        }
        if let Some(one) = self.checkpoints.iter().find(|one| data.checkpoint(one.id).is_ok()) {
            return Err(conflict(format!("checkpoint {} exists already", one.id)));
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
                data.branch_mut(staged.id)?.branch.name = staged.name;
            }
            for message in staged.messages {
                data.push(staged.id, MessageRow::settled(message))?;
            }
        }
        data.runs.extend(self.runs);
        for checkpoint in &self.checkpoints {
            data.insert_checkpoint(session, checkpoint)?;
        }
        Ok(())
    }
}

fn unknown_branch(key: BranchKey) -> StoreError {
    invalid(format!("the session has no branch number {key}"))
}
