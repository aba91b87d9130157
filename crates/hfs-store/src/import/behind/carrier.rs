//! Carries the log over into the database, while what comes next is written into the log.
//!
//! Otherwise whoever finds the log long does that, and waits for the disk each time. It is no more than a help: what is
//! not carried over here stays in the log, where it is as safe, until it is long enough after all.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::connection::Link;
use crate::fault::Sql;
use crate::files::Paths;

/// A thread that carries over when it is woken.
pub(super) struct Carrier {
    /// Nothing once it is to end, or where it could not begin.
    wake: Option<SyncSender<()>>,
    handle: Option<JoinHandle<()>>,
}

impl Carrier {
    pub(super) fn begin(paths: Arc<Paths>) -> Self {
        let (wake, woken) = sync_channel(1);
        let work = move || {
            if let Err(fault) = carry(&paths, &woken) {
                tracing::warn!(?fault, "the log is not carried over beside an import");
            }
        };
        match thread::Builder::new().name("carry".into()).spawn(work) {
            Ok(handle) => Self { wake: Some(wake), handle: Some(handle) },
            Err(error) => {
                tracing::warn!(%error, "there is no thread to carry the log over");
                Self { wake: None, handle: None }
            }
        }
    }

    /// Something was written.
    pub(super) fn wake(&self) {
        // It may be at work still, or have ended.
        let _ = self.wake.as_ref().map(|wake| wake.try_send(()));
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.wake = None;
        // A panic of it was told, and has hurt nobody.
        let _ = self.handle.take().map(JoinHandle::join);
    }
}

fn carry(paths: &Paths, woken: &Receiver<()>) -> Sql<()> {
    let link = Link::open_writer(paths, None)?;
    for () in woken {
        // Without waiting for anybody. Where somebody else does it meanwhile, there is nothing to do.
        link.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    }
    Ok(())
}
