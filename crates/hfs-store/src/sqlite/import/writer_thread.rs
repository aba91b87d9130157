//! Writes batches one after another, by a thread of its own.

use std::panic;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use hfs_core::StoreResult;

use super::wal_checkpointer::WalCheckpointer;
use super::{ACTION, Batch, RELAXED};
use crate::db::Database;
use crate::error::Error;
use crate::sqlite::SqliteStore;

/// How many batches wait at most, so that the writer has work while the next is gathered, and neither the other way
/// round when one of both is held up for a moment.
const WAITING: usize = 3;

/// The batches that were given over.
pub(super) struct BatchWriter {
    db: Arc<Database>,
    /// Begun with the first batch: small sessions have none.
    thread: Option<Thread>,
}

struct Thread {
    batches: SyncSender<Batch>,
    written: Receiver<StoreResult<()>>,
    /// Nothing once it is known to have ended.
    handle: Option<JoinHandle<()>>,
    /// How many were given over and are not known to be written. One that failed counts on.
    pending: usize,
}

impl BatchWriter {
    pub(super) fn new(store: &SqliteStore) -> Self {
        Self { db: Arc::clone(&store.db), thread: None }
    }

    /// Gives a batch over; waits while enough of them wait. What goes wrong with it is told with what comes next.
    pub(super) fn write(&mut self, batch: Batch) -> StoreResult<()> {
        if self.thread.is_none() {
            self.thread = Some(self.begin()?);
        }
        let Some(thread) = &mut self.thread else { return Ok(()) };
        while let Ok(written) = thread.written.try_recv() {
            written?;
            thread.pending = thread.pending.saturating_sub(1);
        }
        thread.pending += 1;
        if thread.batches.send(batch).is_err() {
            return self.end();
        }
        Ok(())
    }

    /// Waits until all that was given over is written.
    pub(super) fn settle(&mut self) -> StoreResult<()> {
        let Some(thread) = &mut self.thread else { return Ok(()) };
        while thread.pending > 0 {
            let Ok(written) = thread.written.recv() else { return self.end() };
            written?;
            thread.pending = thread.pending.saturating_sub(1);
        }
        Ok(())
    }

    /// Lets go of what is not written yet, and of the thread with its hold on the database.
    pub(super) fn abandon(&mut self) {
        let Some(Thread { batches, handle, .. }) = self.thread.take() else { return };
        drop(batches);
        // A panic of the other thread was told, if this one is not panicking itself.
        let _ = handle.map(JoinHandle::join);
    }

    fn begin(&self) -> StoreResult<Thread> {
        let (batches, waiting) = sync_channel::<Batch>(WAITING);
        let (tell, written) = channel();
        let db = Arc::clone(&self.db);
        let work = move || {
            let carrier = WalCheckpointer::begin(Arc::clone(&db.paths));
            for batch in waiting {
                let done = db.write_with(RELAXED, ACTION, move |conn| batch.insert(conn));
                carrier.wake();
                // BatchWriter a batch that is missing no other is worth anything.
                let failed = done.is_err();
                if tell.send(done).is_err() || failed {
                    break;
                }
            }
        };
        let handle = thread::Builder::new().name("import".into()).spawn(work);
        let handle =
            handle.map_err(|error| Error::from(error).into_store_error(ACTION, &self.db.paths.database))?;
        Ok(Thread { batches, written, handle: Some(handle), pending: 0 })
    }

    /// The thread has ended early: its last word, or its panic.
    fn end(&mut self) -> StoreResult<()> {
        let Some(thread) = &mut self.thread else { return Ok(()) };
        if let Some(Err(panicked)) = thread.handle.take().map(JoinHandle::join) {
            panic::resume_unwind(panicked);
        }
        thread.written.try_iter().find(Result::is_err).unwrap_or_else(|| {
            let error = Error::Internal("a batch before this one was not written".into());
            Err(error.into_store_error(ACTION, &self.db.paths.database))
        })
    }
}

impl Drop for BatchWriter {
    fn drop(&mut self) {
        // Otherwise it would keep the database open beyond the store, and leave the log beside it.
        self.abandon();
    }
}

#[cfg(test)]
mod tests {
    use hfs_core::{SessionStore as _, Timestamp};
    use testkit::builders::Drafts;

    use super::super::BATCH_BYTES;
    use super::*;
    use crate::db::options::SqliteOptions;

    #[test]
    fn an_import_of_many_batches_leaves_no_log_beside_a_closed_store() {
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
