//! The port's traits, each call handed to the module that does it.

use std::collections::BTreeMap;
use std::path::Path;

use hfs_core::{
    Appended, Attachment, AttachmentStore, Branch, BranchDraft, BranchId, BranchStore, Checkpoint,
    CheckpointDraft, CheckpointId, CheckpointState, CheckpointStore, ContentHash, Maintenance, Message,
    MessageDraft, MessageId, MessageRange, MessageStore, Operation, OperationId, OperationKind,
    OperationStore, Page, PageRequest, PluginStates, Position, Problem, Project, ReplyDelta, ReplyHandle,
    Run, RunId, RunStore, SearchIndex, SearchQuery, SearchResults, Session, SessionDraft, SessionFilter,
    SessionId, SessionImport, SessionRef, SessionStore, SessionSummary, StoreInfo, StoreResult, Timestamp,
    Verification,
};
use serde_json::Value;

use crate::store::SqliteStore;
use crate::{
    attachments, branches, checkpoints, import, index, listing, maintenance, messages, operations, purge,
    repair, replies, runs, search, sessions, verify,
};

impl SessionStore for SqliteStore {
    fn create_session(&self, draft: &SessionDraft) -> StoreResult<Session> {
        sessions::create(self, draft)
    }

    fn get_session(&self, id: SessionId) -> StoreResult<SessionSummary> {
        sessions::get(self, id)
    }

    fn resolve_session(
        &self,
        reference: &SessionRef,
        project: Option<&str>,
        trashed: bool,
    ) -> StoreResult<SessionId> {
        listing::resolve(self, reference, project, trashed)
    }

    fn list_sessions(&self, filter: &SessionFilter, page: &PageRequest) -> StoreResult<Page<SessionSummary>> {
        listing::list(self, filter, page)
    }

    fn rename_session(&self, id: SessionId, name: &str, automatic: bool, at: Timestamp) -> StoreResult<()> {
        sessions::rename(self, id, name, automatic, at)
    }

    fn trash_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()> {
        sessions::trash(self, id, at)
    }

    fn restore_session(&self, id: SessionId, at: Timestamp) -> StoreResult<()> {
        sessions::restore(self, id, at)
    }

    fn purge_session(&self, id: SessionId) -> StoreResult<()> {
        purge::session(self, id)
    }

    fn purge_trash(&self, before: Timestamp) -> StoreResult<u64> {
        purge::trash(self, before)
    }

    fn import_session(&self, draft: &SessionDraft) -> StoreResult<Box<dyn SessionImport + '_>> {
        Ok(Box::new(import::begin(self, draft)?))
    }

    fn set_project(&self, id: SessionId, project: &Project) -> StoreResult<()> {
        sessions::set_project(self, id, project)
    }
}

impl BranchStore for SqliteStore {
    fn list_branches(&self, session: SessionId) -> StoreResult<Vec<Branch>> {
        branches::list(self, session)
    }

    fn get_branch(&self, id: BranchId) -> StoreResult<Branch> {
        branches::get(self, id)
    }

    fn create_branch(
        &self,
        draft: &BranchDraft,
        kind: OperationKind,
        checkpoint: Option<CheckpointId>,
        at: Timestamp,
    ) -> StoreResult<Operation> {
        branches::create(self, draft, kind, checkpoint, at)
    }

    fn switch_branch(&self, branch: BranchId, at: Timestamp) -> StoreResult<Operation> {
        branches::switch(self, branch, at)
    }

    fn rename_branch(&self, branch: BranchId, name: &str, at: Timestamp) -> StoreResult<Operation> {
        branches::rename(self, branch, name, at)
    }
}

impl MessageStore for SqliteStore {
    fn append(&self, at: Position, messages: &[MessageDraft]) -> StoreResult<Appended> {
        let appended = messages::append(self, at, messages)?;
        index::after_append(self, messages.len());
        Ok(appended)
    }

    fn begin_reply(&self, at: Position, reply: &MessageDraft) -> StoreResult<ReplyHandle> {
        replies::begin(self, at, reply)
    }

    fn extend_reply(&self, reply: ReplyHandle, pieces: &[ReplyDelta]) -> StoreResult<()> {
        replies::extend(self, reply, pieces)
    }

    fn finish_reply(&self, reply: ReplyHandle, message: &MessageDraft) -> StoreResult<()> {
        replies::finish(self, reply, message)?;
        index::after_append(self, 1);
        Ok(())
    }

    fn read_messages(&self, branch: BranchId, range: MessageRange) -> StoreResult<Vec<Message>> {
        messages::read(self, branch, range)
    }

    fn get_message(&self, id: MessageId) -> StoreResult<Message> {
        messages::get(self, id)
    }

    fn recover_abandoned_replies(&self, session: Option<SessionId>, at: Timestamp) -> StoreResult<u64> {
        replies::recover_abandoned_replies(self, session, at)
    }
}

impl SearchIndex for SqliteStore {
    fn search(&self, query: &SearchQuery) -> StoreResult<SearchResults> {
        search::search(self, query)
    }

    fn update_index(&self, progress: &mut dyn FnMut(u64) -> bool) -> StoreResult<()> {
        index::update(self, progress)
    }
}

impl RunStore for SqliteStore {
    fn save_run(&self, run: &Run) -> StoreResult<()> {
        runs::save(self, run)
    }

    fn get_run(&self, id: RunId) -> StoreResult<Run> {
        runs::get(self, id)
    }

    fn list_runs(&self, session: SessionId) -> StoreResult<Vec<RunId>> {
        runs::list(self, session)
    }
}

impl CheckpointStore for SqliteStore {
    fn create_checkpoint(&self, draft: &CheckpointDraft, retention: u32) -> StoreResult<Checkpoint> {
        checkpoints::create(self, draft, retention)
    }

    fn list_checkpoints(&self, session: SessionId) -> StoreResult<Vec<Checkpoint>> {
        checkpoints::list(self, session)
    }

    fn get_checkpoint(&self, id: CheckpointId) -> StoreResult<Checkpoint> {
        checkpoints::get(self, id)
    }

    fn load_state(&self, id: CheckpointId) -> StoreResult<CheckpointState> {
        checkpoints::load_state(self, id)
    }

    fn load_state_json(&self, id: CheckpointId) -> StoreResult<String> {
        checkpoints::load_state_json(self, id)
    }

    fn save_branch_state(&self, branch: BranchId, state: &CheckpointState) -> StoreResult<()> {
        checkpoints::save_branch_state(self, branch, state)
    }

    fn save_branch_plugins(&self, branch: BranchId, plugins: &PluginStates) -> StoreResult<()> {
        checkpoints::save_branch_plugins(self, branch, plugins)
    }

    fn load_branch_state(&self, branch: BranchId) -> StoreResult<Option<CheckpointState>> {
        checkpoints::load_branch_state(self, branch)
    }

    fn pin_checkpoint(&self, id: CheckpointId, pinned: bool) -> StoreResult<()> {
        checkpoints::pin(self, id, pinned)
    }

    fn delete_checkpoint(&self, id: CheckpointId, at: Timestamp) -> StoreResult<()> {
        checkpoints::delete(self, id, at)
    }
}

impl OperationStore for SqliteStore {
    fn list_operations(
        &self,
        session: Option<SessionId>,
        page: &PageRequest,
    ) -> StoreResult<Page<Operation>> {
        operations::list(self, session, page)
    }

    fn reverse(&self, target: OperationId, kind: OperationKind, at: Timestamp) -> StoreResult<Operation> {
        operations::reverse(self, target, kind, at)
    }
}

impl Maintenance for SqliteStore {
    fn info(&self) -> StoreResult<StoreInfo> {
        maintenance::info(self)
    }

    fn verify(&self) -> StoreResult<Verification> {
        verify::verify(self)
    }

    fn repair(&self) -> StoreResult<Vec<Problem>> {
        repair::repair(self)
    }

    fn backup(&self, to: &Path) -> StoreResult<()> {
        maintenance::backup(self, to)
    }

    fn vacuum(&self) -> StoreResult<()> {
        maintenance::vacuum(self)
    }
}

impl AttachmentStore for SqliteStore {
    fn get_attachment(&self, hash: ContentHash) -> StoreResult<Vec<u8>> {
        attachments::get(self, hash)
    }

    fn put_attachment(&self, attachment: &Attachment) -> StoreResult<()> {
        attachments::put(self, attachment)
    }
}
