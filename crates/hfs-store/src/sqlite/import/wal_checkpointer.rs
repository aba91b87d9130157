//! Carries the log over into the database, while what comes next is written into the log.
//!
//! Otherwise whoever finds the log long does that, and waits for the disk each time. It is no more than a help: what is
//! not carried over here stays in the log, where it is as safe, until it is long enough after all.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::db::connection::DbConnection;
use crate::db::paths::Paths;
use crate::db::writer::RELAXED_AUTOCHECKPOINT_PAGES;
use crate::error::Result;

/// Dropped when what was in the log has been carried over, for whoever waits for that.
type Done = Option<SyncSender<()>>;

/// A thread that carries over when it is woken.
pub(super) struct WalCheckpointer {
    /// Nothing once it is to end, or where it could not begin.
    wake: Option<SyncSender<Done>>,
    /// How many pages the log has, unless it begins anew.
    log: Arc<AtomicI64>,
    handle: Option<JoinHandle<()>>,
}

impl WalCheckpointer {
    pub(super) fn begin(paths: Arc<Paths>) -> Self {
        let (wake, woken) = sync_channel(1);
        let log = Arc::new(AtomicI64::new(0));
        let length = Arc::clone(&log);
        let work = move || {
            if let Err(error) = carry(&paths, &woken, &length) {
                tracing::warn!(?error, "the log is not carried over beside an import");
            }
        };
        match thread::Builder::new().name("carry".into()).spawn(work) {
            Ok(handle) => Self { wake: Some(wake), log, handle: Some(handle) },
            Err(error) => {
                tracing::warn!(%error, "there is no thread to carry the log over");
                Self { wake: None, log, handle: None }
            }
        }
    }

    /// Something was written. The log begins anew only when all of it has been carried over and nothing comes
    /// meanwhile: when it is long, because the disk is slower than whoever writes, this waits for that.
    pub(super) fn wake(&self) {
        let Some(wake) = &self.wake else { return };
        // It may be at work still, or have ended: then there is nothing to do or to wait for.
        if self.log.load(Ordering::Relaxed) <= RELAXED_AUTOCHECKPOINT_PAGES {
            let _ = wake.try_send(None);
            return;
        }
        let (done, waiting) = sync_channel(1);
        if wake.send(Some(done)).is_ok() {
            let _ = waiting.recv();
        }
    }
}

impl Drop for WalCheckpointer {
    fn drop(&mut self) {
        self.wake = None;
        // A panic of it was told, and has hurt nobody.
        let _ = self.handle.take().map(JoinHandle::join);
    }
}

fn carry(paths: &Paths, woken: &Receiver<Done>, log: &AtomicI64) -> Result<()> {
    let link = DbConnection::open_writer(paths, None)?;
    for done in woken {
        // Without waiting for anybody. Where somebody else does it meanwhile, there is nothing to do.
        let pages: (i64, i64) = link
            .conn
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| Ok((row.get(1)?, row.get(2)?)))?;
        let (length, carried) = pages;
        log.store(if length == carried { 0 } else { length }, Ordering::Relaxed);
        drop(done);
    }
    Ok(())
}
