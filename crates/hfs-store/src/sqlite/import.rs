//! Imports sessions message by message. A session may have hundreds of thousands of messages.
//!
//! Rows are inserted into their final tables, under a hidden session. The last transaction moves the session to the
//! list, so an import is atomic although it takes many transactions. If the process ends before that, the rows are
//! orphaned, and [`purge::remove_orphaned_rows`] deletes them.
//!
//! # Threads
//!
//! Three threads share the work of a large import (`cargo xtask bench import` measures it):
//!
//! - The caller parses the transcript and builds rows.
//! - The writer thread ([`BatchWriter`]) inserts them in batches. Parsing takes about as long as inserting, so the two
//!   overlap.
//! - The [`WalCheckpointer`] copies the write-ahead log into the database. Otherwise the commits would copy it
//!   whenever it is long, and wait for the disk.
//!
//! Commits of batches do not wait for the disk. The last transaction is durable, which makes all earlier transactions
//! in the write-ahead log durable too.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::{mem, panic};

use hfs_core::{
    Attachment, BranchId, BranchKey, CheckpointDraft, CheckpointState, MAIN_BRANCH, MessageDraft,
    OperationKind, Run, Seq, SessionDraft, SessionImport, SessionRecord, SessionSummary, StoreError,
    StoreResult, Timestamp,
};
use rusqlite::{Connection, params};

use crate::codec::block::{BlockBuilder, EncodedBlock, Texts};
use crate::codec::checksum;
use crate::codec::rows::{MessageRow, branch_of, message_no};
use crate::db::Database;
use crate::db::connection::DbConnection;
use crate::db::group_commit::WriteOptions;
use crate::db::lookup::{LISTED, TRASHED};
use crate::db::options::SqliteOptions;
use crate::db::paths::Paths;
use crate::db::writer::RELAXED_AUTOCHECKPOINT_PAGES;
use crate::error::{Error, Result, conflict, invalid};
use crate::sqlite::checkpoints::{self, NewCheckpoint};
use crate::sqlite::messages::InsertMessage;
use crate::sqlite::operations::{self, Change};
use crate::sqlite::runs::RunRow;
use crate::sqlite::sessions::{self, NewBranch, unique_violation_as_conflict};
use crate::sqlite::{SqliteStore, attachments, blocks, purge, session_stats};
use crate::state_store;

/// A batch is written when it has this many bytes or this many rows.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
const BATCH_ROWS: usize = 8000;
/// Maximum number of batches that wait for the writer thread. With fewer, each short delay of one thread would also
/// delay the other.
const QUEUED_BATCHES: usize = 3;

const ACTION: &str = "import a session";
const RELAXED: WriteOptions = WriteOptions { relaxed: true, exclusive: true };

pub(crate) struct Import<'a> {
    store: &'a SqliteStore,
    draft: SessionDraft,
    session: i64,
    /// In order of creation; the first is the main branch.
    branches: Vec<ImportedBranch>,
    /// Index in `branches` of each branch.
    keys: HashMap<BranchKey, usize>,
    batch: Vec<PendingRow>,
    batch_bytes: usize,
    /// Writes full batches.
    writer: BatchWriter,
    messages: i64,
    /// Whether messages were written in batches that are too small for blocks.
    has_small_batches: bool,
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
    Message { no: i64, checksum: i64, row: Box<MessageRow>, block_index: Option<usize> },
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

    fn insert(
        &self,
        conn: &Connection,
        session: i64,
        now: i64,
        insert_message: &mut InsertMessage<'_>,
    ) -> Result<()> {
        match self {
            Self::Message { no, checksum, row, block_index } => {
                insert_message.execute(*no, row, *checksum, *block_index)
            }
            Self::Attachment(attachment) => {
                attachments::insert(conn, attachment, now)?;
                attachments::hold_for_import(conn, session, attachment.hash)
            }
            Self::Run { branch, row } => {
                conn.prepare_cached("DELETE FROM run WHERE id = ?1 AND session = ?2")?
                    .execute(params![row.id.as_uuid().as_bytes(), session])?;
                row.insert(conn, session, *branch)
                    .map_err(|error| unique_violation_as_conflict(error, "run", row.id))
            }
        }
    }
}

/// Rows that are inserted in one transaction.
struct Batch {
    session: i64,
    rows: Vec<PendingRow>,
    /// The texts of messages that are not in their rows, with the numbers of the first ones.
    blocks: Vec<(i64, EncodedBlock)>,
    now: i64,
}

impl Batch {
    /// Moves the texts of the messages to blocks (see [`blocks`]), so that they are never written uncompressed.
    fn pack(mut self) -> Result<Self> {
        let mut open: HashMap<i64, OpenBlock> = HashMap::new();
        let mut complete = Vec::new();
        for (place, pending) in self.rows.iter().enumerate() {
            let PendingRow::Message { no, row, .. } = pending else { continue };
            let texts = Texts { body: &row.body, extra: row.extra.as_deref() };
            let block = open.entry(branch_of(*no)).or_default();
            if !block.is_followed_by(*no) || !block.builder.has_room_for(texts) || !texts.fit_in_block() {
                complete.push(mem::take(block));
            }
            if texts.fit_in_block() {
                block.builder.push(texts);
                block.rows.push((*no, place));
            }
        }
        complete.extend(open.into_values());
        for OpenBlock { builder, rows } in complete {
            let Some((first, _)) = rows.first().filter(|_| builder.is_worthwhile()) else { continue };
            self.blocks.push((*first, builder.finish()?));
            for (index, (_, place)) in rows.into_iter().enumerate() {
                if let Some(PendingRow::Message { row, block_index, .. }) = self.rows.get_mut(place) {
                    row.body = String::new();
                    row.extra = None;
                    *block_index = Some(index);
                }
            }
        }
        Ok(self)
    }

    fn insert(&self, conn: &Connection) -> Result<()> {
        let mut insert_message = InsertMessage::new(conn)?;
        for row in &self.rows {
            row.insert(conn, self.session, self.now, &mut insert_message)?;
        }
        self.blocks.iter().try_for_each(|(no, block)| blocks::insert_block(conn, *no, block))
    }
}

/// A block that gets the next messages of a branch.
#[derive(Default)]
struct OpenBlock {
    builder: BlockBuilder,
    /// Numbers of its messages, and their places in the batch.
    rows: Vec<(i64, usize)>,
}

impl OpenBlock {
    fn is_followed_by(&self, no: i64) -> bool {
        self.rows.last().is_none_or(|(last, _)| last + 1 == no)
    }
}

pub(crate) fn begin<'a>(store: &'a SqliteStore, draft: &SessionDraft) -> StoreResult<Import<'a>> {
    purge::remove_orphaned_rows(store)?;
    let importer = store.db.presence();
    let row = draft.clone();
    let (session, main) =
        store.db.write_with(RELAXED, ACTION, move |conn| sessions::insert(conn, &row, Some(&importer)))?;
    let main = ImportedBranch {
        no: main,
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
        writer: BatchWriter::new(Arc::clone(&store.db)),
        messages: 0,
        has_small_batches: false,
        relaxed: false,
        finished: false,
    })
}

impl Import<'_> {
    fn store_error(&self, error: impl Into<Error>) -> StoreError {
        error.into().into_store_error(ACTION, &self.store.db.paths.database)
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

    /// Adds a row to the batch. Hands a full batch to the writer thread.
    fn push(&mut self, row: PendingRow) -> StoreResult<()> {
        self.batch_bytes += row.size();
        self.batch.push(row);
        if self.batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_ROWS {
            let batch = self.take_batch();
            self.writer.write(batch)?;
        }
        Ok(())
    }

    /// Writes all pushed rows. Runs `then` in the same transaction as the last batch.
    fn flush<T: Send + 'static>(
        &mut self,
        mut then: impl FnMut(&Connection) -> Result<T> + Send + 'static,
    ) -> StoreResult<T> {
        self.writer.wait()?;
        let batch = self.take_batch();
        self.has_small_batches |= batch.rows.iter().any(|row| matches!(row, PendingRow::Message { .. }));
        self.store.db.write_with(RELAXED, ACTION, move |conn| {
            batch.insert(conn)?;
            then(conn)
        })
    }

    fn take_batch(&mut self) -> Batch {
        self.batch_bytes = 0;
        let now = self.store.db.options.clock.now().as_micros();
        Batch { session: self.session, rows: mem::take(&mut self.batch), blocks: Vec::new(), now }
    }

    /// Checks a new branch. Returns the function that inserts its row.
    fn prepare_branch(
        &self,
        key: BranchKey,
        parent: BranchKey,
        forked_at: Seq,
        id: BranchId,
        name: &str,
    ) -> Result<impl FnMut(&Connection) -> Result<i64> + Send + use<>> {
        let parent = self.branch_by_key(parent)?;
        checkpoints::check_seq(&parent.name, parent.head, forked_at)?;
        if self.keys.contains_key(&key) {
            return Err(invalid(format!("the session already has a branch number {key}")));
        }
        self.check_name_is_free(name)?;
        let (session, parent, at) = (self.session, Some(parent.no), self.draft.created_at.as_micros());
        let name = name.to_owned();
        Ok(move |conn: &Connection| {
            NewBranch { session, id, name: &name, parent, forked_at, at }.insert(conn, None)
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
        let insert =
            self.prepare_branch(key, parent, forked_at, id, name).map_err(|error| self.store_error(error))?;
        let no = self.flush(insert)?;
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
        let (no, new) = (main.no, name.to_owned());
        self.flush(move |conn| {
            conn.prepare_cached("UPDATE branch SET name = ?2 WHERE no = ?1")?.execute(params![no, new])?;
            Ok(())
        })?;
        if let Some(main) = self.branches.first_mut() {
            name.clone_into(&mut main.name);
        }
        Ok(())
    }

    fn message(&mut self, branch: BranchKey, message: &MessageDraft) -> StoreResult<()> {
        let row = MessageRow::finalized(message).map_err(|error| self.store_error(error))?;
        let index = self.keys.get(&branch).copied();
        let Some(branch) = index.and_then(|index| self.branches.get_mut(index)) else {
            return Err(self.store_error(unknown_branch(branch)));
        };
        let seq = branch.head + 1;
        let no = message_no(branch.no, seq);
        branch.head = seq;
        branch.created_at.get_or_insert(row.created_at);
        self.messages += 1;
        let no = no.map_err(|error| self.store_error(error))?;
        // Writes a message with attachments at once. Otherwise a purge or vacuum by another process could delete an
        // attachment that was stored before this import, because the import holds only the attachments that it adds.
        let refers = !row.attachments.is_empty();
        let checksum = row.checksum(no);
        self.push(PendingRow::Message { no, checksum, row: Box::new(row), block_index: None })?;
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
        let branch = self.branch_by_id(checkpoint.branch, "checkpoint").cloned();
        let branch = branch.map_err(|error| self.store_error(error))?;
        checkpoints::check_seq(&branch.name, branch.head, checkpoint.seq)
            .map_err(|error| self.store_error(error))?;
        // The state may be encoded as a delta to an earlier state, which must be in the database for that.
        self.writer.wait()?;
        let session = self.session;
        let state =
            state_store::encode(&self.store.db, &self.store.keyframes, &checkpoint.state, |_| Ok(session));
        let new = NewCheckpoint::new(checkpoint, state.map_err(|error| self.store_error(error))?);
        let keyframes = Arc::clone(&self.store.keyframes);
        self.flush(move |conn| {
            new.insert(conn, session, branch.no, &keyframes)?;
            session_stats::add_checkpoints(conn, session, 1)
        })
    }

    fn branch_state(&mut self, branch: BranchId, state: &CheckpointState) -> StoreResult<()> {
        let branch = self.branch_by_id(branch, "state").map_err(|error| self.store_error(error))?.no;
        self.writer.wait()?;
        let session = self.session;
        let state = state_store::encode(&self.store.db, &self.store.keyframes, state, |_| Ok(session));
        let state = state.map_err(|error| self.store_error(error))?;
        let keyframes = Arc::clone(&self.store.keyframes);
        self.flush(move |conn| {
            let state = state_store::insert(conn, session, &state, &keyframes)?.no;
            conn.prepare_cached("UPDATE branch SET state = ?2 WHERE no = ?1")?
                .execute(params![branch, state])?;
            Ok(())
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
        self.writer.wait()?;
        if self.has_small_batches {
            // Together with the messages of those batches, which are in their rows, the last ones get larger blocks.
            self.flush(|_| Ok(()))?;
            for branch in &self.branches {
                blocks::pack_branch(self.store, branch.no)?;
            }
        }
        let batch = self.take_batch().pack().map_err(|error| self.store_error(error))?;
        let completion = Completion {
            name: name.to_owned(),
            current,
            created_at: created_at.as_micros(),
            updated_at: updated_at.as_micros(),
            now: self.store.db.options.clock.now(),
            branches: self.branches.clone(),
            messages: self.messages,
        };
        let options = if self.relaxed { RELAXED } else { WriteOptions::default() };
        let summary = self.store.db.write_with(options, ACTION, move |conn| {
            batch.insert(conn)?;
            completion.apply(conn, batch.session)?;
            sessions::summary(conn, batch.session)
        })?;
        self.finished = true;
        Ok(summary)
    }

    fn finish_copy(mut self: Box<Self>, record: &SessionRecord) -> StoreResult<SessionSummary> {
        let current = self.branch_by_id(record.session.current_branch, "session");
        let current = current.map_err(|error| self.store_error(error))?.no;
        self.writer.wait()?;
        let completion = CopyCompletion { record: record.clone(), current, messages: self.messages };
        let batch = self.take_batch();
        let options = if self.relaxed { RELAXED } else { WriteOptions::default() };
        let summary = self.store.db.write_with(options, ACTION, move |conn| {
            batch.insert(conn)?;
            completion.apply(conn, batch.session)?;
            sessions::summary(conn, batch.session)
        })?;
        self.finished = true;
        Ok(summary)
    }
}

/// The changes that make a copied session visible.
struct CopyCompletion {
    record: SessionRecord,
    current: i64,
    messages: i64,
}

impl CopyCompletion {
    fn apply(&self, conn: &Connection, session: i64) -> Result<()> {
        let SessionRecord { session: copied, branches, checkpoints, last_checkpoint, operations } =
            &self.record;
        for branch in branches {
            conn.prepare_cached(
                "UPDATE branch SET created_at = ?3, retired = ?4 WHERE session = ?1 AND id = ?2",
            )?
            .execute(params![
                session,
                branch.id.as_uuid().as_bytes(),
                branch.created_at.as_micros(),
                branch.undone
            ])?;
        }
        conn.prepare_cached(
            "UPDATE session SET name = ?2, automatic_name = ?3, current_branch = ?4, created_at = ?5,
                trashed_at = ?6, importer = NULL WHERE no = ?1",
        )?
        .execute(params![
            session,
            copied.name,
            copied.automatic_name,
            self.current,
            copied.created_at.as_micros(),
            copied.trashed_at.map(Timestamp::as_micros),
        ])?;
        checksum::update_session(conn, session)?;
        for (checkpoint, number) in checkpoints {
            conn.prepare_cached("UPDATE checkpoint SET number = ?3 WHERE session = ?1 AND id = ?2")?
                .execute(params![session, checkpoint.as_uuid().as_bytes(), number])?;
        }
        for record in operations {
            operations::insert(conn, session, &record.operation, record.renamed.as_ref())?;
        }
        attachments::release_import_holds(conn, session)?;
        let listed = branches.iter().filter(|branch| !branch.undone).count();
        conn.prepare_cached(
            "UPDATE activity SET updated_at = ?2, messages = ?3, branches = ?4, waiting = ?5,
                last_checkpoint = ?6 WHERE session = ?1",
        )?
        .execute(params![
            session,
            copied.updated_at.as_micros(),
            self.messages,
            listed,
            self.messages > 0,
            last_checkpoint
        ])?;
        session_stats::move_to_list(conn, session, if copied.trashed_at.is_some() { TRASHED } else { LISTED })
    }
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
    fn apply(&self, conn: &Connection, session: i64) -> Result<()> {
        let is_undone = |branch: &ImportedBranch| branch.undone && branch.no != self.current;
        let count = self.branches.iter().filter(|branch| !is_undone(branch)).count();
        for (index, branch) in self.branches.iter().enumerate() {
            // The main branch is as old as the session, every other branch as old as its first message.
            let is_main = index == 0;
            let at = branch.created_at.filter(|_| !is_main).unwrap_or(self.created_at);
            conn.prepare_cached("UPDATE branch SET created_at = ?2, retired = ?3 WHERE no = ?1")?
                .execute(params![branch.no, at, is_undone(branch)])?;
        }
        conn.prepare_cached(
            "UPDATE session SET name = ?2, current_branch = ?3, created_at = ?4, importer = NULL
                WHERE no = ?1",
        )?
        .execute(params![session, self.name, self.current, self.created_at])?;
        checksum::update_session(conn, session)?;
        attachments::release_import_holds(conn, session)?;
        operations::record(conn, Change::new(session, OperationKind::Import, self.now))?;
        // After `record`, which has set the time of the last change to now. An imported session keeps its own time.
        conn.prepare_cached(
            "UPDATE activity SET updated_at = ?2, messages = ?3, branches = ?4, waiting = ?5
                WHERE session = ?1",
        )?
        .execute(params![session, self.updated_at, self.messages, count, self.messages > 0])?;
        session_stats::move_to_list(conn, session, LISTED)
    }
}

impl Drop for Import<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.writer.stop();
        let session = self.session;
        // Marks the rows as orphaned, so that they are deleted later if they cannot be deleted now.
        let hidden = self.store.db.write_with(RELAXED, ACTION, move |conn| purge::hide(conn, session));
        if let Err(error) =
            hidden.and_then(|hidden| purge::delete_rows(self.store, hidden, purge::DeletedBy::Import))
        {
            tracing::warn!(%error, "the rows of an unfinished import could not be deleted");
        }
    }
}

/// Writes batches in order, on a separate thread.
struct BatchWriter {
    db: Arc<Database>,
    /// Started by the first full batch, so small imports start no thread.
    thread: Option<WriterThread>,
}

struct WriterThread {
    batches: SyncSender<Batch>,
    results: Receiver<StoreResult<()>>,
    /// `None` once the thread has been joined.
    handle: Option<JoinHandle<()>>,
    /// Number of batches without a successful result. A failed batch stays counted, so that later calls fail too.
    pending: usize,
}

impl BatchWriter {
    const fn new(db: Arc<Database>) -> Self {
        Self { db, thread: None }
    }

    /// Sends a batch to the thread. Blocks while the queue is full. Returns the error of an earlier batch, if one has
    /// failed.
    fn write(&mut self, batch: Batch) -> StoreResult<()> {
        if self.thread.is_none() {
            self.thread = Some(self.start()?);
        }
        let Some(thread) = &mut self.thread else { return Ok(()) };
        while let Ok(result) = thread.results.try_recv() {
            result?;
            thread.pending = thread.pending.saturating_sub(1);
        }
        thread.pending += 1;
        if thread.batches.send(batch).is_err() {
            return self.join_failed();
        }
        Ok(())
    }

    /// Waits until all batches are written.
    fn wait(&mut self) -> StoreResult<()> {
        let Some(thread) = &mut self.thread else { return Ok(()) };
        while thread.pending > 0 {
            let Ok(result) = thread.results.recv() else { return self.join_failed() };
            result?;
            thread.pending = thread.pending.saturating_sub(1);
        }
        Ok(())
    }

    /// Waits until the thread has written all batches, and ends it.
    fn stop(&mut self) {
        let Some(WriterThread { batches, handle, .. }) = self.thread.take() else { return };
        drop(batches);
        // If the thread has panicked, the panic hook has reported it.
        let _ = handle.map(JoinHandle::join);
    }

    fn start(&self) -> StoreResult<WriterThread> {
        let (batches, queued) = sync_channel::<Batch>(QUEUED_BATCHES);
        let (send_result, results) = channel();
        let db = Arc::clone(&self.db);
        let work = move || {
            let checkpointer = WalCheckpointer::start(Arc::clone(&db.paths));
            for batch in queued {
                let result = batch
                    .pack()
                    .map_err(db.store_error(ACTION))
                    .and_then(|batch| db.write_with(RELAXED, ACTION, move |conn| batch.insert(conn)));
                checkpointer.log_has_grown();
                // After a failed batch the import cannot be completed.
                let failed = result.is_err();
                if send_result.send(result).is_err() || failed {
                    break;
                }
            }
        };
        let handle = thread::Builder::new().name("import".into()).spawn(work);
        let handle = handle.map_err(Error::from).map_err(self.db.store_error(ACTION))?;
        Ok(WriterThread { batches, results, handle: Some(handle), pending: 0 })
    }

    /// Joins a thread that has ended early. Returns its error, or resumes its panic.
    fn join_failed(&mut self) -> StoreResult<()> {
        let Some(thread) = &mut self.thread else { return Ok(()) };
        if let Some(Err(payload)) = thread.handle.take().map(JoinHandle::join) {
            panic::resume_unwind(payload);
        }
        thread.results.try_iter().find(Result::is_err).unwrap_or_else(|| {
            let error = Error::Internal("an earlier batch was not written".into());
            Err(error.into_store_error(ACTION, &self.db.paths.database))
        })
    }
}

impl Drop for BatchWriter {
    fn drop(&mut self) {
        // Waits for the thread, so that its connections are closed before the store's. SQLite deletes the write-ahead
        // log when the last connection is closed.
        self.stop();
    }
}

/// Runs `wal_checkpoint(PASSIVE)` on a separate thread, while batches are written to the log.
///
/// This is only an optimization. Pages that are not checkpointed here are equally durable in the log, until a commit
/// checkpoints them because the log is longer than [`RELAXED_AUTOCHECKPOINT_PAGES`].
struct WalCheckpointer {
    /// Requests for a checkpoint. `None` if the thread could not be started.
    requests: Option<SyncSender<CheckpointRequest>>,
    /// Number of pages in the log after the last checkpoint; 0 if all of them were copied, because SQLite then reuses
    /// the log from its start.
    log_pages: Arc<AtomicI64>,
    handle: Option<JoinHandle<()>>,
}

/// With a sender, the requester waits for the checkpoint: the thread drops the sender when it is done.
type CheckpointRequest = Option<SyncSender<()>>;

impl WalCheckpointer {
    fn start(paths: Arc<Paths>) -> Self {
        let (requests, received) = sync_channel(1);
        let log_pages = Arc::new(AtomicI64::new(0));
        let shared_log_pages = Arc::clone(&log_pages);
        let work = move || {
            if let Err(error) = run_checkpoints(&paths, &received, &shared_log_pages) {
                tracing::warn!(?error, "the write-ahead log is not checkpointed during an import");
            }
        };
        match thread::Builder::new().name("checkpoint".into()).spawn(work) {
            Ok(handle) => Self { requests: Some(requests), log_pages, handle: Some(handle) },
            Err(error) => {
                tracing::warn!(%error, "the thread that checkpoints the write-ahead log could not be started");
                Self { requests: None, log_pages, handle: None }
            }
        }
    }

    /// Requests a checkpoint after a write. Waits for it if the log is long.
    fn log_has_grown(&self) {
        let Some(requests) = &self.requests else { return };
        if self.log_pages.load(Ordering::Relaxed) <= RELAXED_AUTOCHECKPOINT_PAGES {
            // Fails if a request is already queued. One is enough.
            let _ = requests.try_send(None);
            return;
        }
        // SQLite reuses the log from its start only after a checkpoint has copied all of it. If the disk is slower than
        // the writer, that never happens while batches are written, and the log would grow without limit. So the
        // writer thread waits.
        let (done, waiting) = sync_channel(1);
        if requests.send(Some(done)).is_ok() {
            let _ = waiting.recv();
        }
    }
}

impl Drop for WalCheckpointer {
    fn drop(&mut self) {
        self.requests = None;
        // If the thread has panicked, the panic hook has reported it.
        let _ = self.handle.take().map(JoinHandle::join);
    }
}

fn run_checkpoints(
    paths: &Arc<Paths>,
    requests: &Receiver<CheckpointRequest>,
    log_pages: &AtomicI64,
) -> Result<()> {
    let connection = DbConnection::open_writer(paths, &SqliteOptions::default())?;
    for done in requests {
        // PASSIVE does not wait for readers or writers. It does nothing if another process is checkpointing.
        let (total, copied): (i64, i64) =
            connection
                .conn
                .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(1)?, row.get(2)?)))?;
        log_pages.store(if total == copied { 0 } else { total }, Ordering::Relaxed);
        drop(done);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use hfs_core::{SessionStore as _, Timestamp};
    use testkit::builders::Drafts;

    use super::*;

    #[test]
    fn an_import_of_many_batches_leaves_no_log_after_the_store_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hfs.db");
        let (store, make) = (SqliteStore::open(&path, SqliteOptions::default()).unwrap(), Drafts::new(1));
        let draft = make.session("large");
        let mut import = store.import_session(&draft).unwrap();
        let text = "words ".repeat(BATCH_BYTES / 12);
        for _ in 0..6 {
            import.message(0, &make.user(&text)).unwrap();
        }
        import.finish("large", 0, Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(store.get_session(draft.id).unwrap().messages, 6);
        drop(store);
        let left = ["hfs.db-wal", "hfs.db-shm"].map(|name| directory.path().join(name).exists());
        assert_eq!(left, [false, false]);
    }
}
