//! Fault injection for stores: makes calls to another store fail or block.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use hfs_core::{
    Appended, Attachment, AttachmentStore, Branch, BranchDraft, BranchId, BranchStore, CandidateQuery,
    Candidates, Checkpoint, CheckpointDraft, CheckpointId, CheckpointState, CheckpointStore, CompleteImport,
    CompressedSize, ContentHash, Continuation, CopyStore, ImportStore, ImportedSessionUpdate, ImportedSource,
    Maintenance, Message, MessageDraft, MessageId, MessageRange, MessageStore, Operation, OperationId,
    OperationKind, OperationRecord, OperationStore, Page, PageRequest, PluginStates, Position, Problem,
    Project, Purged, PurgedSource, ReplyDelta, ReplyHandle, Run, RunId, RunStore, SearchIndex, SearchQuery,
    SearchResults, Session, SessionDraft, SessionFilter, SessionId, SessionImport, SessionRef, SessionStore,
    SessionSummary, Store, StoreError, StoreInfo, StoreResult, Timestamp, Verification, lock_unpoisoned,
};

/// A blocked call that creates a checkpoint fails after this time, so that a test cannot hang.
const MAX_HOLD: Duration = Duration::from_secs(30);

/// Passes all calls to another store, except those that a test makes fail or block.
pub struct FaultyStore<S> {
    inner: S,
    /// How many of the next saves fail.
    failing_saves: AtomicU32,
    hold_checkpoints: Mutex<bool>,
    released: Condvar,
}

impl<S> FaultyStore<S> {
    /// Wraps a store. No call fails until a test asks for it.
    pub const fn new(inner: S) -> Self {
        Self {
            inner,
            failing_saves: AtomicU32::new(0),
            hold_checkpoints: Mutex::new(false),
            released: Condvar::new(),
        }
    }

    /// The wrapped store.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// Makes the next `count` attempts to save a message or a part of a reply fail, as on a full disk.
    pub fn fail_saves(&self, count: u32) {
        self.failing_saves.store(count, Ordering::SeqCst);
    }

    /// Blocks every call of `create_checkpoint` (`true`), as a slow disk would, or lets these calls continue
    /// (`false`). A call that is blocked for 30 seconds fails.
    pub fn hold_checkpoints(&self, hold: bool) {
        *lock_unpoisoned(&self.hold_checkpoints) = hold;
        self.released.notify_all();
    }

    fn fail_if_requested(&self) -> StoreResult<()> {
        let failed =
            self.failing_saves.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match failed {
            Ok(_) => Err(StoreError::Unavailable {
                action: "save the message".into(),
                source: "no space left".into(),
            }),
            Err(_) => Ok(()),
        }
    }

    fn wait_until_released(&self) -> StoreResult<()> {
        let hold = lock_unpoisoned(&self.hold_checkpoints);
        let waited = self.released.wait_timeout_while(hold, MAX_HOLD, |hold| *hold);
        if waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
            let source = "the test holds checkpoints back".into();
            return Err(StoreError::Unavailable { action: "save a checkpoint".into(), source });
        }
        Ok(())
    }
}

impl<S: Store> MessageStore for FaultyStore<S> {
    fn append(&self, at: Position, messages: &[MessageDraft]) -> StoreResult<Appended> {
        self.fail_if_requested()?;
        self.inner.append(at, messages)
    }

    fn begin_reply(&self, at: Position, reply: &MessageDraft) -> StoreResult<ReplyHandle> {
        self.fail_if_requested()?;
        self.inner.begin_reply(at, reply)
    }

    fn append_and_begin_reply(
        &self,
        at: Position,
        messages: &[MessageDraft],
        reply: &MessageDraft,
    ) -> StoreResult<(Appended, ReplyHandle)> {
        self.fail_if_requested()?;
        self.inner.append_and_begin_reply(at, messages, reply)
    }

    fn extend_reply(&self, reply: ReplyHandle, deltas: &[ReplyDelta]) -> StoreResult<()> {
        self.fail_if_requested()?;
        self.inner.extend_reply(reply, deltas)
    }

    fn finish_reply(&self, reply: ReplyHandle, message: &MessageDraft) -> StoreResult<()> {
        self.fail_if_requested()?;
        self.inner.finish_reply(reply, message)
    }

    fn continue_reply(
        &self,
        reply: ReplyHandle,
        messages: &[MessageDraft],
        next: &MessageDraft,
    ) -> StoreResult<ReplyHandle> {
        self.fail_if_requested()?;
        self.inner.continue_reply(reply, messages, next)
    }

    fn read_messages(&self, branch: BranchId, range: MessageRange) -> StoreResult<Vec<Message>> {
        self.inner.read_messages(branch, range)
    }

    fn get_message(&self, id: MessageId) -> StoreResult<Message> {
        self.inner.get_message(id)
    }

    fn recover_abandoned_replies(&self, session: Option<SessionId>, at: Timestamp) -> StoreResult<u64> {
        self.inner.recover_abandoned_replies(session, at)
    }
}

impl<S: Store> CheckpointStore for FaultyStore<S> {
    fn create_checkpoint(&self, draft: &CheckpointDraft, retention: u32) -> StoreResult<Checkpoint> {
        self.wait_until_released()?;
        self.inner.create_checkpoint(draft, retention)
    }

    fn list_checkpoints(&self, session: SessionId) -> StoreResult<Vec<Checkpoint>> {
        self.inner.list_checkpoints(session)
    }

    fn get_checkpoint(&self, id: CheckpointId) -> StoreResult<Checkpoint> {
        self.inner.get_checkpoint(id)
    }

    fn load_state(&self, id: CheckpointId) -> StoreResult<CheckpointState> {
        self.inner.load_state(id)
    }

    fn load_state_json(&self, id: CheckpointId) -> StoreResult<String> {
        self.inner.load_state_json(id)
    }

    fn save_branch_state(&self, branch: BranchId, state: &CheckpointState) -> StoreResult<()> {
        self.inner.save_branch_state(branch, state)
    }

    fn save_branch_plugins(&self, branch: BranchId, plugins: &PluginStates) -> StoreResult<()> {
        self.inner.save_branch_plugins(branch, plugins)
    }

    fn load_branch_state(&self, branch: BranchId) -> StoreResult<Option<CheckpointState>> {
        self.inner.load_branch_state(branch)
    }

    fn pin_checkpoint(&self, id: CheckpointId, pinned: bool) -> StoreResult<()> {
        self.inner.pin_checkpoint(id, pinned)
    }

    fn withdraw_checkpoints(&self, ids: &[CheckpointId]) -> StoreResult<()> {
        self.inner.withdraw_checkpoints(ids)
    }

    fn delete_checkpoint(&self, id: CheckpointId, at: Timestamp) -> StoreResult<()> {
        self.inner.delete_checkpoint(id, at)
    }
}

impl<S: Store> SessionStore for FaultyStore<S> {
    fn create_session(&self, draft: &SessionDraft) -> StoreResult<Session> {
        self.inner.create_session(draft)
    }

    fn get_session(&self, id: SessionId) -> StoreResult<SessionSummary> {
        self.inner.get_session(id)
    }

    fn resolve_session(
        &self,
        reference: &SessionRef,
        project: Option<&str>,
        trashed: bool,
    ) -> StoreResult<SessionId> {
        self.inner.resolve_session(reference, project, trashed)
    }

    fn list_sessions(&self, filter: &SessionFilter, page: &PageRequest) -> StoreResult<Page<SessionSummary>> {
        self.inner.list_sessions(filter, page)
    }

    fn rename_session(&self, id: SessionId, name: &str, automatic: bool, at: Timestamp) -> StoreResult<()> {
        self.inner.rename_session(id, name, automatic, at)
    }

    fn trash_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()> {
        self.inner.trash_session(id, at)
    }

    fn restore_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()> {
        self.inner.restore_session(id, at)
    }

    fn purge_session(&self, id: SessionId) -> StoreResult<Purged> {
        self.inner.purge_session(id)
    }

    fn was_purged(&self, origin_format: &str, origin_id: &str) -> StoreResult<bool> {
        self.inner.was_purged(origin_format, origin_id)
    }

    fn was_continued_purged(&self, continues: Continuation) -> StoreResult<bool> {
        self.inner.was_continued_purged(continues)
    }

    fn purge_trash(&self, before: Timestamp) -> StoreResult<Purged> {
        self.inner.purge_trash(before)
    }

    fn import_session(&self, draft: &SessionDraft) -> StoreResult<Box<dyn SessionImport + '_>> {
        self.inner.import_session(draft)
    }

    fn set_project(&self, id: SessionId, project: &Project) -> StoreResult<()> {
        self.inner.set_project(id, project)
    }
}

impl<S: Store> BranchStore for FaultyStore<S> {
    fn list_branches(&self, session: SessionId) -> StoreResult<Vec<Branch>> {
        self.inner.list_branches(session)
    }

    fn get_branch(&self, id: BranchId) -> StoreResult<Branch> {
        self.inner.get_branch(id)
    }

    fn create_branch(
        &self,
        draft: &BranchDraft,
        kind: OperationKind,
        checkpoint: Option<CheckpointId>,
        at: Timestamp,
    ) -> StoreResult<Operation> {
        self.inner.create_branch(draft, kind, checkpoint, at)
    }

    fn switch_branch(&self, branch: BranchId, at: Timestamp) -> StoreResult<Operation> {
        self.inner.switch_branch(branch, at)
    }

    fn rename_branch(&self, branch: BranchId, name: &str, at: Timestamp) -> StoreResult<Operation> {
        self.inner.rename_branch(branch, name, at)
    }
}

impl<S: Store> ImportStore for FaultyStore<S> {
    fn update_imported_messages(&self, messages: &[MessageDraft]) -> StoreResult<()> {
        self.fail_if_requested()?;
        self.inner.update_imported_messages(messages)
    }

    fn supplement_messages(&self, messages: &[MessageDraft]) -> StoreResult<()> {
        self.fail_if_requested()?;
        self.inner.supplement_messages(messages)
    }

    fn update_imported_session(
        &self,
        id: SessionId,
        update: &ImportedSessionUpdate,
        at: Timestamp,
    ) -> StoreResult<()> {
        self.inner.update_imported_session(id, update, at)
    }

    fn find_imported_source(&self, path: &str) -> StoreResult<Option<ImportedSource>> {
        self.inner.find_imported_source(path)
    }

    fn find_resume_point(&self, path: &str) -> StoreResult<Option<Vec<u8>>> {
        self.inner.find_resume_point(path)
    }

    fn save_imported_sources(&self, imports: &[CompleteImport]) -> StoreResult<()> {
        self.inner.save_imported_sources(imports)
    }

    fn sync(&self) -> StoreResult<()> {
        self.inner.sync()
    }
}

impl<S: Store> CopyStore for FaultyStore<S> {
    fn list_operation_records(&self, session: SessionId) -> StoreResult<Vec<OperationRecord>> {
        self.inner.list_operation_records(session)
    }

    fn last_checkpoint_number(&self, session: SessionId) -> StoreResult<u64> {
        self.inner.last_checkpoint_number(session)
    }

    fn list_purged_sources(&self) -> StoreResult<Vec<PurgedSource>> {
        self.inner.list_purged_sources()
    }

    fn add_purged_sources(&self, sources: &[PurgedSource]) -> StoreResult<()> {
        self.inner.add_purged_sources(sources)
    }
}

impl<S: Store> OperationStore for FaultyStore<S> {
    fn list_operations(
        &self,
        session: Option<SessionId>,
        page: &PageRequest,
    ) -> StoreResult<Page<Operation>> {
        self.inner.list_operations(session, page)
    }

    fn reverse(&self, target: OperationId, kind: OperationKind, at: Timestamp) -> StoreResult<Operation> {
        self.inner.reverse(target, kind, at)
    }
}

impl<S: Store> AttachmentStore for FaultyStore<S> {
    fn get_attachment(&self, hash: ContentHash) -> StoreResult<Vec<u8>> {
        self.inner.get_attachment(hash)
    }

    fn put_attachment(&self, attachment: &Attachment) -> StoreResult<()> {
        self.inner.put_attachment(attachment)
    }
}

impl<S: Store> RunStore for FaultyStore<S> {
    fn save_run(&self, run: &Run) -> StoreResult<()> {
        self.inner.save_run(run)
    }

    fn get_run(&self, id: RunId) -> StoreResult<Run> {
        self.inner.get_run(id)
    }

    fn list_runs(&self, session: SessionId) -> StoreResult<Vec<RunId>> {
        self.inner.list_runs(session)
    }
}

impl<S: Store> SearchIndex for FaultyStore<S> {
    fn search(&self, query: &SearchQuery) -> StoreResult<SearchResults> {
        self.inner.search(query)
    }

    fn find_candidates(&self, query: &CandidateQuery) -> StoreResult<Candidates> {
        self.inner.find_candidates(query)
    }

    fn update_index(&self, progress: &mut dyn FnMut(u64) -> bool) -> StoreResult<()> {
        self.inner.update_index(progress)
    }
}

impl<S: Store> Maintenance for FaultyStore<S> {
    fn info(&self) -> StoreResult<StoreInfo> {
        self.inner.info()
    }

    fn verify(&self) -> StoreResult<Verification> {
        self.inner.verify()
    }

    fn repair(&self) -> StoreResult<Vec<Problem>> {
        self.inner.repair()
    }

    fn backup(&self, to: &Path) -> StoreResult<()> {
        self.inner.backup(to)
    }

    fn compress(&self, progress: &mut dyn FnMut(u64, u64)) -> StoreResult<()> {
        self.inner.compress(progress)
    }

    fn compressed_size(&self) -> StoreResult<CompressedSize> {
        self.inner.compressed_size()
    }

    fn vacuum(&self) -> StoreResult<()> {
        self.inner.vacuum()
    }

    fn snapshot(&self) -> StoreResult<Arc<dyn Store>> {
        self.inner.snapshot()
    }

    fn is_reconnecting(&self) -> Option<bool> {
        self.inner.is_reconnecting()
    }
}
