//! Sessions that arrive in pieces.
//!
//! Their rows are made where they will stay, under a session that nobody sees; the last transaction makes it seen.
//! Until then batches are written without waiting for the disk: the wait at the end is for all of them. They are
//! written by a thread of its own, while the next are gathered: reading a transcript takes about as long as saving it.

mod wal_checkpointer;
mod writer_thread;

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

use hfs_core::{
    Attachment, BranchId, BranchKey, CheckpointDraft, MAIN_BRANCH, MessageDraft, OperationKind, Run, Seq,
    SessionDraft, SessionImport, SessionSummary, StoreResult, Timestamp,
};
use rusqlite::{Connection, params};

use crate::codec::checksum;
use crate::codec::rows::{MessageRow, message_no};
use crate::db::group_commit::WriteOptions;
use crate::db::lookup::LISTED;
use crate::error::{Error, Result, conflict, invalid};
use crate::sqlite::SqliteStore;
use crate::sqlite::attachments;
use crate::sqlite::checkpoints::{self, NewCheckpoint};
use crate::sqlite::messages;
use crate::sqlite::operations::{self, Change};
use crate::sqlite::purge;
use crate::sqlite::runs::RunRow;
use crate::sqlite::session_stats;
use crate::sqlite::sessions::{self, NewBranch, taken};
use crate::state_store;
use writer_thread::BatchWriter;

/// A batch is written when it has so many bytes or so many rows.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
const BATCH_ROWS: usize = 8000;

const ACTION: &str = "import a session";
const RELAXED: WriteOptions = WriteOptions { relaxed: true, exclusive: true };

pub(crate) struct Import<'a> {
    store: &'a SqliteStore,
    draft: SessionDraft,
    session: i64,
    /// In the order in which they came; the first is the main branch.
    branches: Vec<Staged>,
    keys: HashMap<BranchKey, usize>,
    batch: Vec<Item>,
    batch_bytes: usize,
    /// The batches before, which are being written.
    behind: BatchWriter,
    messages: i64,
    checkpoints: i64,
    finished: bool,
}

#[derive(Clone)]
struct Staged {
    no: i64,
    id: BranchId,
    name: String,
    head: Seq,
    created_at: Option<i64>,
}

/// A row to be.
enum Item {
    Message { no: i64, sum: i64, row: Box<MessageRow> },
    Attachment(Attachment),
    Run { branch: i64, row: Box<RunRow> },
}

impl Item {
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
        messages: &mut messages::Insert<'_>,
    ) -> Result<()> {
        match self {
            Self::Message { no, sum, row } => messages.insert(*no, row, *sum),
            Self::Attachment(attachment) => {
                attachments::insert(conn, attachment, now)?;
                attachments::hold(conn, session, attachment.hash)
            }
            Self::Run { branch, row } => {
                conn.prepare_cached("DELETE FROM run WHERE id = ?1 AND session = ?2")?
                    .execute(params![row.id.as_uuid().as_bytes(), session])?;
                row.insert(conn, session, *branch).map_err(|error| taken(error, "run", row.id))
            }
        }
    }
}

pub(crate) fn begin<'a>(store: &'a SqliteStore, draft: &SessionDraft) -> StoreResult<Import<'a>> {
    purge::remove_orphaned_rows(store)?;
    let importer = store.db.presence();
    let row = draft.clone();
    let (session, main) =
        store.db.write_with(RELAXED, ACTION, move |conn| sessions::insert(conn, &row, Some(&importer)))?;
    let main =
        Staged { no: main, id: draft.main_branch, name: MAIN_BRANCH.into(), head: 0, created_at: None };
    Ok(Import {
        store,
        draft: draft.clone(),
        session,
        branches: vec![main],
        keys: [(0, 0)].into(),
        batch: Vec::new(),
        batch_bytes: 0,
        behind: BatchWriter::new(store),
        messages: 0,
        checkpoints: 0,
        finished: false,
    })
}

impl Import<'_> {
    fn store_error(&self, error: Error) -> hfs_core::StoreError {
        error.into_store_error(ACTION, &self.store.db.paths.database)
    }

    fn staged(&self, key: BranchKey) -> Result<&Staged> {
        let index = self.keys.get(&key);
        index.and_then(|index| self.branches.get(*index)).ok_or_else(|| unknown_branch(key))
    }

    fn staged_by_id(&self, id: BranchId, what: &str) -> Result<&Staged> {
        self.branches
            .iter()
            .find(|branch| branch.id == id)
            .ok_or_else(|| invalid(format!("branch {id} of the {what} is not of this session")))
    }

    fn check_name(&self, name: &str) -> Result<()> {
        if self.branches.iter().any(|branch| branch.name == name) {
            return Err(conflict(format!("the session has a branch {name:?} already")));
        }
        Ok(())
    }

    fn push(&mut self, item: Item) -> StoreResult<()> {
        self.batch_bytes += item.size();
        self.batch.push(item);
        if self.batch_bytes >= BATCH_BYTES || self.batch.len() >= BATCH_ROWS {
            let batch = self.take_batch();
            self.behind.write(batch)?;
        }
        Ok(())
    }

    /// Writes what is waiting, and with it what `then` does.
    fn flush<T: Send + 'static>(
        &mut self,
        mut then: impl FnMut(&Connection) -> Result<T> + Send + 'static,
    ) -> StoreResult<T> {
        self.behind.settle()?;
        let batch = self.take_batch();
        self.store.db.write_with(RELAXED, ACTION, move |conn| {
            batch.insert(conn)?;
            then(conn)
        })
    }

    fn take_batch(&mut self) -> Batch {
        self.batch_bytes = 0;
        let now = self.store.db.options.clock.now().as_micros();
        Batch { session: self.session, items: mem::take(&mut self.batch), now }
    }

    fn try_branch(
        &mut self,
        key: BranchKey,
        parent: BranchKey,
        forked_at: Seq,
        id: BranchId,
        name: &str,
    ) -> Result<impl FnMut(&Connection) -> Result<i64> + Send + use<>> {
        let from = self.staged(parent)?;
        checkpoints::check_seq(&from.name, from.head, forked_at)?;
        if self.keys.contains_key(&key) {
            return Err(invalid(format!("the session has a branch number {key} already")));
        }
        self.check_name(name)?;
        let (session, parent, at) = (self.session, Some(from.no), self.draft.created_at.as_micros());
        let name = name.to_owned();
        Ok(move |conn: &Connection| {
            NewBranch { session, id, name: &name, parent, forked_at, at }.insert(conn, None)
        })
    }
}

pub(crate) struct Batch {
    session: i64,
    items: Vec<Item>,
    now: i64,
}

impl Batch {
    fn insert(&self, conn: &Connection) -> Result<()> {
        let mut messages = messages::Insert::new(conn)?;
        self.items.iter().try_for_each(|item| item.insert(conn, self.session, self.now, &mut messages))
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
        let insert = self
            .try_branch(key, parent, forked_at, id, name)
            .map_err(|error| self.store_error(error))?;
        let no = self.flush(insert)?;
        self.keys.insert(key, self.branches.len());
        self.branches.push(Staged { no, id, name: name.to_owned(), head: forked_at, created_at: None });
        Ok(())
    }

    fn name_main(&mut self, name: &str) -> StoreResult<()> {
        let main = self.staged(0).map_err(|error| self.store_error(error))?;
        if main.name == name {
            return Ok(());
        }
        self.check_name(name).map_err(|error| self.store_error(error))?;
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
        let row = MessageRow::settled(message).map_err(|error| self.store_error(error))?;
        let index = self.keys.get(&branch).copied();
        let Some(staged) = index.and_then(|index| self.branches.get_mut(index)) else {
            return Err(self.store_error(unknown_branch(branch)));
        };
        let seq = staged.head + 1;
        let no = message_no(staged.no, seq);
        staged.head = seq;
        staged.created_at.get_or_insert(row.created_at);
        self.messages += 1;
        let no = no.map_err(|error| self.store_error(error))?;
        // Whoever refers to bytes takes hold of them at once, before somebody else's removal takes them away.
        let refers = !row.attachments.is_empty();
        let sum = row.sum(no);
        self.push(Item::Message { no, sum, row: Box::new(row) })?;
        if refers { self.flush(|_| Ok(())) } else { Ok(()) }
    }

    fn attachment(&mut self, attachment: &Attachment) -> StoreResult<()> {
        attachments::check(attachment).map_err(|error| self.store_error(error))?;
        self.push(Item::Attachment(attachment.clone()))
    }

    fn run(&mut self, run: &Run) -> StoreResult<()> {
        let branch = self.staged_by_id(run.branch, "run").map_err(|error| self.store_error(error))?.no;
        let row = RunRow::new(run).map_err(|error| self.store_error(error))?;
        self.push(Item::Run { branch, row: Box::new(row) })
    }

    fn checkpoint(&mut self, checkpoint: &CheckpointDraft) -> StoreResult<()> {
        let branch = self.staged_by_id(checkpoint.branch, "checkpoint").cloned();
        let branch = branch.map_err(|error| self.store_error(error))?;
        checkpoints::check_seq(&branch.name, branch.head, checkpoint.seq)
            .map_err(|error| self.store_error(error))?;
        // Each state may be a difference to the one before, so that has to be there.
        self.behind.settle()?;
        let session = self.session;
        let state =
            state_store::encode(&self.store.db, &self.store.keyframes, &checkpoint.state, |_| Ok(session));
        let new = NewCheckpoint::new(checkpoint, state.map_err(|error| self.store_error(error))?);
        self.checkpoints += 1;
        let keyframes = Arc::clone(&self.store.keyframes);
        self.flush(move |conn| {
            new.insert(conn, session, branch.no, &keyframes)?;
            checkpoints::count(conn, session, 1)
        })
    }

    fn finish(
        mut self: Box<Self>,
        name: &str,
        current: BranchKey,
        created_at: Timestamp,
        updated_at: Timestamp,
    ) -> StoreResult<SessionSummary> {
        let current = self.staged(current).map_err(|error| self.store_error(error))?.no;
        self.behind.settle()?;
        let end = End {
            name: name.to_owned(),
            current,
            created_at: created_at.as_micros(),
            updated_at: updated_at.as_micros(),
            now: self.store.db.options.clock.now(),
            branches: self.branches.clone(),
            messages: self.messages,
        };
        let batch = self.take_batch();
        let done = self.store.db.write(ACTION, move |conn| {
            batch.insert(conn)?;
            end.apply(conn, batch.session)?;
            sessions::summary(conn, batch.session)
        })?;
        self.finished = true;
        Ok(done)
    }
}

/// What makes an imported session whole.
struct End {
    name: String,
    current: i64,
    created_at: i64,
    updated_at: i64,
    now: Timestamp,
    branches: Vec<Staged>,
    messages: i64,
}

impl End {
    fn apply(&self, conn: &Connection, session: i64) -> Result<()> {
        let count = i64::try_from(self.branches.len()).unwrap_or(i64::MAX);
        for (index, branch) in self.branches.iter().enumerate() {
            let first = branch.created_at.filter(|_| index > 0);
            let at = first.unwrap_or(self.created_at);
            conn.prepare_cached("UPDATE branch SET created_at = ?2 WHERE no = ?1")?
                .execute(params![branch.no, at])?;
        }
        conn.prepare_cached(
            "UPDATE session SET name = ?2, current_branch = ?3, created_at = ?4, importer = NULL
                WHERE no = ?1",
        )?
        .execute(params![session, self.name, self.current, self.created_at])?;
        checksum::session(conn, session)?;
        attachments::let_go(conn, session)?;
        operations::record(conn, Change::new(session, OperationKind::Import, self.now))?;
        // What was said and recorded on the way counts as old as it is.
        conn.prepare_cached(
            "UPDATE activity SET updated_at = ?2, messages = ?3, branches = ?4, waiting = ?5
                WHERE session = ?1",
        )?
        .execute(params![session, self.updated_at, self.messages, count, self.messages > 0])?;
        session_stats::move_to(conn, session, LISTED)
    }
}

impl Drop for Import<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        self.behind.abandon();
        let session = self.session;
        let hidden = self.store.db.write_with(RELAXED, ACTION, move |conn| purge::hide(conn, session));
        if let Err(error) = hidden.and_then(|()| purge::clear(self.store, session)) {
            tracing::warn!(%error, "an unfinished import will be cleared away later");
        }
    }
}
