//! Imports sessions message by message. A session may have hundreds of thousands of messages.
//!
//! Rows are inserted into their final tables, under a hidden session, in batches of one transaction each, so a lost
//! connection costs one batch, which is sent again. The last transaction moves the session to the list, so an import is
//! atomic although it takes many. If the process ends before that, the rows are deleted when its presence has expired and
//! another store is opened or another import begins.
//!
//! Commits of batches do not wait for the disk. The last transaction is durable, which makes all earlier ones durable too,
//! because they come before it in the server's log.

use std::collections::HashMap;
use std::mem;

use hfs_core::{
    Attachment, BranchId, BranchKey, CheckpointDraft, CheckpointState, MAIN_BRANCH, MessageDraft,
    OperationKind, Run, Seq, SessionDraft, SessionImport, SessionRecord, SessionSummary, StoreError,
    StoreResult, Timestamp,
};
use hfs_store::codec::rows::MessageRow;
use uuid::Uuid;

use crate::PostgresStore;
use crate::db::value::values;
use crate::db::{Flush, Pace, Tx};
use crate::error::{Error, Result, conflict, invalid};
use crate::store::lookup::{HIDDEN, LISTED, Place, TRASHED};
use crate::store::operations::{self, Change};
use crate::store::runs::RunRow;
use crate::store::sessions::{self, MAIN_NO, NewBranch};
use crate::store::states::EncodedState;
use crate::store::{attachments, branches, checkpoints, messages, session_stats};

/// A batch is written when it has this many bytes or this many rows.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
const BATCH_ROWS: usize = 2000;

const ACTION: &str = "import a session";

pub(crate) struct Import<'a> {
    store: &'a PostgresStore,
    draft: SessionDraft,
    session: Uuid,
    /// In order of creation; the first is the main branch.
    branches: Vec<ImportedBranch>,
    /// Index in `branches` of each branch.
    keys: HashMap<BranchKey, usize>,
    batch: Vec<PendingRow>,
    batch_bytes: usize,
    messages: i64,
    /// Whether `finish` may return before the session is durable.
    relaxed: bool,
    finished: bool,
}

#[derive(Clone)]
struct ImportedBranch {
    no: i64,
    id: BranchId,
    name: String,
    head: Seq,
    /// Time of the first message.
    created_at: Option<i64>,
    undone: bool,
}

/// A row of the current batch.
enum PendingRow {
    Message { place: Place, row: Box<MessageRow> },
    Attachment(Attachment),
    Run { branch: i64, row: Box<RunRow> },
}

impl PendingRow {
    fn size(&self) -> usize {
        match self {
            Self::Message { row, .. } => row.body.len() + row.extra.as_ref().map_or(0, String::len),
            Self::Attachment(attachment) => attachment.bytes.len(),
            Self::Run { row, .. } => row.size(),
        }
    }
}

/// Inserts the rows of a batch. Messages that follow each other are inserted together.
fn insert_batch(tx: &Tx, session: Uuid, now: i64, batch: &[PendingRow]) -> Result<()> {
    let mut words = 0;
    let mut rest = batch;
    while let Some((first, others)) = rest.split_first() {
        match first {
            PendingRow::Message { place, row } => {
                let mut rows = vec![row.as_ref()];
                rest = others;
                while let Some((PendingRow::Message { place: next, row }, others)) = rest.split_first()
                    && next.branch == place.branch
                {
                    rows.push(row);
                    rest = others;
                }
                words += messages::insert_rows(tx, Place { seq: place.seq - 1, ..*place }, &rows)?;
            }
            PendingRow::Attachment(attachment) => {
                attachments::insert(tx, attachment, now)?;
                attachments::hold_for_import(tx, session, attachment.hash)?;
                rest = others;
            }
            PendingRow::Run { branch, row } => {
                let sql = "DELETE FROM run WHERE session = $1 AND id = $2";
                tx.execute(sql, &values![session, *row.id.as_uuid()])?;
                row.insert(tx, session, *branch)?;
                rest = others;
            }
        }
    }
    session_stats::add_words(tx, session, words)
}

pub(crate) fn begin<'a>(store: &'a PostgresStore, draft: &SessionDraft) -> StoreResult<Import<'a>> {
    store.remove_abandoned_imports()?;
    let session = store.db.write_with(Pace::Short, Flush::Relaxed, ACTION, |tx| {
        store.db.appear(tx)?;
        sessions::insert(tx, draft, Some(store.db.presence()))
    })?;
    let main = ImportedBranch {
        no: MAIN_NO,
        id: draft.main_branch,
        name: MAIN_BRANCH.into(),
        head: 0,
        created_at: None,
        undone: false,
    };
    Ok(Import {
        store,
        draft: draft.clone(),
        session,
        branches: vec![main],
        keys: [(0, 0)].into(),
        batch: Vec::new(),
        batch_bytes: 0,
        messages: 0,
        relaxed: false,
        finished: false,
    })
}

impl Import<'_> {
    fn store_error(&self, error: Error) -> StoreError {
        self.store.db.store_error(ACTION)(error)
    }

    fn branch_by_key(&self, key: BranchKey) -> Result<&ImportedBranch> {
        let index = self.keys.get(&key);
        index.and_then(|index| self.branches.get(*index)).ok_or_else(|| unknown_branch(key))
    }

    /// The branch of a run or checkpoint. `what` names it in the error.
    fn branch_by_id(&self, id: BranchId, what: &str) -> Result<&ImportedBranch> {
        self.branches
            .iter()
            .find(|branch| branch.id == id)
            .ok_or_else(|| invalid(format!("branch {id} of the {what} does not belong to this session")))
    }

    fn check_name_is_free(&self, name: &str) -> Result<()> {
        if self.branches.iter().any(|branch| branch.name == name) {
            return Err(conflict(format!("the session already has a branch {name:?}")));
        }
        Ok(())
    }

    /// Adds a row to the batch, and writes a full batch.
    fn push(&mut self, row: PendingRow) -> StoreResult<()> {
        self.batch_bytes += row.size();
        self.batch.push(row);
        if self.batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_ROWS {
            self.flush(|_| Ok(()))?;
        }
        Ok(())
    }

    /// Writes all pushed rows. Runs `then` in the same transaction.
    fn flush<T>(&mut self, then: impl FnMut(&Tx) -> Result<T>) -> StoreResult<T> {
        self.flush_with(Flush::Relaxed, then)
    }

    fn flush_with<T>(&mut self, flush: Flush, mut then: impl FnMut(&Tx) -> Result<T>) -> StoreResult<T> {
        self.batch_bytes = 0;
        let batch = mem::take(&mut self.batch);
        let (session, now) = (self.session, self.store.db.options().clock.now().as_micros());
        self.store.db.write_with(Pace::Short, flush, ACTION, |tx| {
            // The row of the session is the lock of all writes to it.
            let sql = "SELECT 1 FROM activity WHERE session = $1 AND state = $2 FOR NO KEY UPDATE";
            if tx.row(sql, &values![session, HIDDEN])?.is_none() {
                return Err(conflict(
                    "another process has removed the unfinished import, because this one could not reach the server for \
                     too long",
                ));
            }
            insert_batch(tx, session, now, &batch)?;
            then(tx)
        })
    }
}

fn unknown_branch(key: BranchKey) -> Error {
    invalid(format!("the session has no branch number {key}"))
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
        let check = || {
            let parent = self.branch_by_key(parent)?;
            checkpoints::check_seq(&parent.name, parent.head, forked_at)?;
            if self.keys.contains_key(&key) {
                return Err(invalid(format!("the session already has a branch number {key}")));
            }
            self.check_name_is_free(name)?;
            Ok(parent.no)
        };
        let parent = Some(check().map_err(|error| self.store_error(error))?);
        let (session, at) = (self.session, self.draft.created_at.as_micros());
        let no = self.flush(|tx| {
            let no = branches::next_no(tx, session)?;
            NewBranch { session, id, name, parent, forked_at, at }.insert(tx, no, None)?;
            Ok(no)
        })?;
        self.keys.insert(key, self.branches.len());
        let name = name.to_owned();
        self.branches.push(ImportedBranch { no, id, name, head: forked_at, created_at: None, undone: false });
        Ok(())
    }

    fn mark_undone(&mut self, key: BranchKey) -> StoreResult<()> {
        let index = self.keys.get(&key).copied();
        let Some(branch) = index.and_then(|index| self.branches.get_mut(index)) else {
            return Err(self.store_error(unknown_branch(key)));
        };
        branch.undone = true;
        Ok(())
    }

    fn name_main(&mut self, name: &str) -> StoreResult<()> {
        let main = self.branch_by_key(0).map_err(|error| self.store_error(error))?;
        if main.name == name {
            return Ok(());
        }
        self.check_name_is_free(name).map_err(|error| self.store_error(error))?;
        let id = main.id;
        self.flush(|tx| branches::set_name(tx, id, name))?;
        if let Some(main) = self.branches.first_mut() {
            name.clone_into(&mut main.name);
        }
        Ok(())
    }

    fn message(&mut self, branch: BranchKey, message: &MessageDraft) -> StoreResult<()> {
        let row = MessageRow::finalized(message).map_err(|error| self.store_error(error.into()))?;
        let session = self.session;
        let index = self.keys.get(&branch).copied();
        let Some(branch) = index.and_then(|index| self.branches.get_mut(index)) else {
            return Err(self.store_error(unknown_branch(branch)));
        };
        branch.head += 1;
        branch.created_at.get_or_insert(row.created_at);
        let place = Place { session, branch: branch.no, seq: branch.head };
        self.messages += 1;
        // Writes a message with attachments at once. Otherwise a purge or vacuum by another process could delete an
        // attachment that was stored before this import, because the import holds only the attachments that it adds.
        let refers = !row.attachments.is_empty();
        self.push(PendingRow::Message { place, row: Box::new(row) })?;
        if refers { self.flush(|_| Ok(())) } else { Ok(()) }
    }

    fn attachment(&mut self, attachment: &Attachment) -> StoreResult<()> {
        attachments::check(attachment).map_err(|error| self.store_error(error))?;
        self.push(PendingRow::Attachment(attachment.clone()))
    }

    fn run(&mut self, run: &Run) -> StoreResult<()> {
        let branch = self.branch_by_id(run.branch, "run").map_err(|error| self.store_error(error))?.no;
        let row = RunRow::new(run).map_err(|error| self.store_error(error))?;
        self.push(PendingRow::Run { branch, row: Box::new(row) })
    }

    fn checkpoint(&mut self, checkpoint: &CheckpointDraft) -> StoreResult<()> {
        let prepare = || {
            let branch = self.branch_by_id(checkpoint.branch, "checkpoint")?;
            checkpoints::check_seq(&branch.name, branch.head, checkpoint.seq)?;
            Ok((branch.no, EncodedState::new(&checkpoint.state)?))
        };
        let (branch, state) = prepare().map_err(|error| self.store_error(error))?;
        let session = self.session;
        self.flush(|tx| {
            let number = checkpoints::insert(tx, session, branch, checkpoint, &state)?;
            checkpoints::keep_number(tx, session, number)?;
            session_stats::add_checkpoints(tx, session, 1)
        })
    }

    fn branch_state(&mut self, branch: BranchId, state: &CheckpointState) -> StoreResult<()> {
        let branch = self.branch_by_id(branch, "state").map_err(|error| self.store_error(error))?.no;
        let state = EncodedState::new(state).map_err(|error| self.store_error(error))?;
        let session = self.session;
        self.flush(|tx| {
            state.insert(tx)?;
            let sql = "UPDATE branch SET state = $3 WHERE session = $1 AND no = $2";
            tx.execute(sql, &values![session, branch, &state.hash]).map(drop)
        })
    }

    fn relax(&mut self) {
        self.relaxed = true;
    }

    fn finish(
        mut self: Box<Self>,
        name: &str,
        current: BranchKey,
        created_at: Timestamp,
        updated_at: Timestamp,
    ) -> StoreResult<SessionSummary> {
        let current = self.branch_by_key(current).map_err(|error| self.store_error(error))?.no;
        let completion = Completion {
            name: name.to_owned(),
            current,
            created_at: created_at.as_micros(),
            updated_at: updated_at.as_micros(),
            now: self.store.db.options().clock.now(),
            branches: self.branches.clone(),
            messages: self.messages,
        };
        let flush = if self.relaxed { Flush::Relaxed } else { Flush::Durable };
        let session = self.session;
        let summary = self.flush_with(flush, |tx| {
            completion.apply(tx, session)?;
            sessions::summary(tx, session)
        })?;
        self.finished = true;
        Ok(summary)
    }

    fn finish_copy(mut self: Box<Self>, record: &SessionRecord) -> StoreResult<SessionSummary> {
        let current = self.branch_by_id(record.session.current_branch, "session");
        let current = current.map_err(|error| self.store_error(error))?.no;
        let (session, messages) = (self.session, self.messages);
        let flush = if self.relaxed { Flush::Relaxed } else { Flush::Durable };
        let summary = self.flush_with(flush, |tx| {
            complete_copy(tx, session, record, current, messages)?;
            sessions::summary(tx, session)
        })?;
        self.finished = true;
        Ok(summary)
    }
}

/// Makes a copied session visible.
fn complete_copy(tx: &Tx, session: Uuid, record: &SessionRecord, current: i64, messages: i64) -> Result<()> {
    let SessionRecord { session: copied, branches, checkpoints, last_checkpoint, operations } = record;
    for branch in branches {
        tx.execute(
            "UPDATE branch SET created_at = $3, undone = $4 WHERE session = $1 AND id = $2",
            &values![session, *branch.id.as_uuid(), branch.created_at, branch.undone],
        )?;
    }
    tx.execute(
        "UPDATE session SET name = $2, automatic_name = $3, current_branch = $4, created_at = $5, trashed_at = $6,
            importer = NULL WHERE id = $1",
        &values![
            session,
            &copied.name,
            copied.automatic_name,
            current,
            copied.created_at,
            copied.trashed_at.map(Timestamp::as_micros)
        ],
    )?;
    for (checkpoint, number) in checkpoints {
        let sql = "UPDATE checkpoint SET number = $3 WHERE session = $1 AND id = $2";
        tx.execute(sql, &values![session, *checkpoint.as_uuid(), *number])?;
    }
    for record in operations {
        operations::insert(tx, &record.operation, record.renamed.as_ref())?;
    }
    attachments::release_import_holds(tx, session)?;
    let listed = branches.iter().filter(|branch| !branch.undone).count();
    tx.execute(
        "UPDATE activity SET updated_at = $2, messages = $3, branches = $4, last_checkpoint = $5 WHERE session = $1",
        &values![session, copied.updated_at, messages, listed, *last_checkpoint],
    )?;
    session_stats::move_to_list(tx, session, if copied.trashed_at.is_some() { TRASHED } else { LISTED })
}

/// The changes that make an imported session visible.
struct Completion {
    name: String,
    current: i64,
    created_at: i64,
    updated_at: i64,
    now: Timestamp,
    branches: Vec<ImportedBranch>,
    messages: i64,
}

impl Completion {
    fn apply(&self, tx: &Tx, session: Uuid) -> Result<()> {
        let is_undone = |branch: &ImportedBranch| branch.undone && branch.no != self.current;
        let count = self.branches.iter().filter(|branch| !is_undone(branch)).count();
        for (index, branch) in self.branches.iter().enumerate() {
            // The main branch is as old as the session, every other branch as old as its first message.
            let is_main = index == 0;
            let at = branch.created_at.filter(|_| !is_main).unwrap_or(self.created_at);
            tx.execute(
                "UPDATE branch SET created_at = $3, undone = $4 WHERE session = $1 AND no = $2",
                &values![session, branch.no, at, is_undone(branch)],
            )?;
        }
        tx.execute(
            "UPDATE session SET name = $2, current_branch = $3, created_at = $4, importer = NULL WHERE id = $1",
            &values![session, &self.name, self.current, self.created_at],
        )?;
        attachments::release_import_holds(tx, session)?;
        operations::record(tx, Change::new(session, OperationKind::Import, self.now))?;
        // After `record`, which has set the time of the last change to now. An imported session keeps its own time.
        tx.execute(
            "UPDATE activity SET updated_at = $2, messages = $3, branches = $4 WHERE session = $1",
            &values![session, self.updated_at, self.messages, count],
        )?;
        session_stats::move_to_list(tx, session, LISTED)
    }
}

impl Drop for Import<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if let Err(error) = self.store.delete_import(self.session) {
            tracing::warn!(%error, "the rows of an unfinished import could not be deleted");
        }
    }
}
