//! Finalizes the reply of an exchange whose future is dropped.
//!
//! A caller may drop the future of `Engine::send` at any await point: in `select!`, after a timeout, or by aborting its
//! task. If the reply had begun in the store, it must still be finalized, because a reply in progress locks its branch
//! until this process ends. Three types take care of that:
//!
//! - [`ReplyGuard`] is created on the blocking thread that calls `begin_reply`, right after the call. If the future is
//!   dropped during the call, tokio drops the result of the call when it returns, and with it the guard. So there is no
//!   moment at which the reply is in the store without a guard.
//! - A guard that is dropped finalizes its [`OpenReply`] on a blocking thread, with the text that had streamed. While the
//!   runtime shuts down, tokio discards such work; `OpenReply` is then finalized by its own `Drop`, which delays the
//!   shutdown by one write.
//! - [`BackgroundWork`] lists the sessions with such work, so that the next message waits for it. Without the list, the
//!   message would fail with `Locked` or `HeadMismatch`.
//!
//! The alternative was to run every exchange in its own task, which a dropped future would cancel. It needs the same guard
//! for the shutdown of the runtime, and the agent would continue for some time after its caller is gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use hfs_core::{
    AgentError, EventPayload, MessageDraft, MessageStatus, ReplyHandle, Run, RunEnding, RunSink, SessionId,
    StoreError, lock_unpoisoned,
};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::error::failure_note;
use crate::recorder::Recorder;
use crate::send::{may_retry, save_backoff};
use crate::{Engine, EngineError};

/// Key of an interrupted reply's fields that holds why it ended.
const FAILURE: &str = "error";

/// Sessions for which a dropped future left work that is still running. A session is listed once for each of them.
#[derive(Default)]
pub struct BackgroundWork {
    sessions: watch::Sender<Vec<SessionId>>,
}

impl BackgroundWork {
    /// Waits until no such work is left for the session.
    pub async fn wait(&self, session: SessionId) {
        let mut sessions = self.sessions.subscribe();
        // Fails only when the sender is dropped, and `self` is the sender.
        let _ = sessions.wait_for(|sessions| !sessions.contains(&session)).await;
    }
}

/// Marks work for a session. The work holds the mark until it is done.
pub struct WorkMark {
    engine: Engine,
    session: SessionId,
    /// Whether the future that started the work was dropped, so that the session is listed in [`BackgroundWork`].
    is_listed: AtomicBool,
}

impl Drop for WorkMark {
    fn drop(&mut self) {
        if self.is_listed.load(Ordering::Acquire) {
            self.engine.background().sessions.send_modify(|sessions| {
                if let Some(index) = sessions.iter().position(|session| *session == self.session) {
                    sessions.swap_remove(index);
                }
            });
        }
    }
}

/// The part of [`WorkMark`] that the future itself holds.
pub struct ExchangeScope {
    mark: Arc<WorkMark>,
}

impl ExchangeScope {
    pub fn new(engine: &Engine, session: SessionId) -> Self {
        let is_listed = AtomicBool::new(false);
        Self { mark: Arc::new(WorkMark { engine: engine.clone(), session, is_listed }) }
    }

    pub fn mark(&self) -> Arc<WorkMark> {
        Arc::clone(&self.mark)
    }

    /// Runs blocking work that holds the mark.
    pub async fn run_blocking<T, F>(&self, work: F) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: FnOnce(&Engine) -> Result<T, EngineError> + Send + 'static,
    {
        let mark = self.mark();
        let work = move |engine: &Engine| {
            let result = work(engine);
            drop(mark);
            result
        };
        self.mark.engine.run_blocking(work).await
    }
}

impl Drop for ExchangeScope {
    fn drop(&mut self) {
        // Other holders of the mark are blocking calls and guards that outlive the future. When it ended in the usual
        // way, there are none.
        if Arc::strong_count(&self.mark) > 1 {
            self.mark.is_listed.store(true, Ordering::Release);
            self.mark.engine.background().sessions.send_modify(|sessions| sessions.push(self.mark.session));
        }
    }
}

/// A reply that was begun in the store. Dropping it before [`close`](Self::close) finalizes the reply in the background.
pub struct ReplyGuard {
    reply: Arc<OpenReply>,
    runtime: Handle,
}

/// A reply in the store that is not finalized.
struct OpenReply {
    handle: ReplyHandle,
    /// The reply without its content.
    draft: MessageDraft,
    recorder: OnceLock<Arc<Recorder>>,
    stage: Mutex<Stage>,
    /// Whether the final record of the run was saved, which must not be overwritten by an earlier one. Held while a
    /// record is saved.
    run_is_final: Mutex<bool>,
    mark: Arc<WorkMark>,
}

enum Stage {
    /// The agent has not ended.
    Streaming,
    /// The final form is known, and an attempt to save it may have been made.
    Saving(Box<MessageDraft>, RunEnding),
    /// Nothing is left to do.
    Closed,
}

impl ReplyGuard {
    /// Guards a reply that was just begun. `runtime` is the runtime of the exchange, since a future may be dropped on a
    /// thread outside of it.
    pub fn new(handle: ReplyHandle, draft: MessageDraft, mark: Arc<WorkMark>, runtime: Handle) -> Self {
        let reply = OpenReply {
            handle,
            draft,
            recorder: OnceLock::new(),
            stage: Mutex::new(Stage::Streaming),
            run_is_final: Mutex::new(false),
            mark,
        };
        Self { reply: Arc::new(reply), runtime }
    }

    pub fn handle(&self) -> ReplyHandle {
        self.reply.handle
    }

    /// Sets the recorder that collects the streamed text. Called once.
    pub fn set_recorder(&self, recorder: &Arc<Recorder>) {
        let _ = self.reply.recorder.set(Arc::clone(recorder));
    }

    /// Returns blocking work that saves the record of the started run. If the exchange is dropped while the work waits for
    /// a thread, the guard may save the final record first; the work then does nothing.
    pub fn save_started_run(
        &self,
        run: Run,
    ) -> impl FnOnce(&Engine) -> Result<(), EngineError> + Send + 'static {
        let reply = Arc::clone(&self.reply);
        move |engine| {
            let is_final = lock_unpoisoned(&reply.run_is_final);
            if *is_final { Ok(()) } else { Ok(engine.store().save_run(&run)?) }
        }
    }

    /// Sets the final form of the reply, which is saved from now on instead of the streamed text.
    pub fn set_final(&self, reply: MessageDraft, ending: RunEnding) {
        *lock_unpoisoned(&self.reply.stage) = Stage::Saving(Box::new(reply), ending);
    }

    /// Ends the guard, because the exchange has done or given up everything that the guard would do.
    pub fn close(self) {
        *lock_unpoisoned(&self.reply.stage) = Stage::Closed;
    }
}

impl Drop for ReplyGuard {
    fn drop(&mut self) {
        if self.reply.is_closed() {
            return;
        }
        let (reply, runtime) = (Arc::clone(&self.reply), self.runtime.clone());
        // If the runtime shuts down, tokio drops this closure unused. The last of the two references to the reply then
        // finalizes it in `OpenReply::drop`.
        self.runtime.spawn_blocking(move || {
            let timeout = reply.mark.engine.settings().save_timeout;
            let Some(recorder) = reply.finalize(timeout) else { return };
            let (run, state) = (recorder.run(), recorder.checkpoint_state());
            let mark = Arc::clone(&reply.mark);
            runtime.spawn(async move {
                let (engine, session, branch) = (&mark.engine, mark.session, run.branch);
                if let Err(error) = engine.run_completed(session, branch, &run.snapshot, &state.plugins).await
                {
                    tracing::warn!(%session, %error, "the plugin states of the session were not saved");
                }
            });
        });
    }
}

impl OpenReply {
    fn is_closed(&self) -> bool {
        matches!(*lock_unpoisoned(&self.stage), Stage::Closed)
    }

    /// Saves the reply, records the end of the run and returns its recorder. Blocks, for at most about `timeout` while
    /// the store is unavailable. Does nothing the second time.
    fn finalize(&self, timeout: Duration) -> Option<&Arc<Recorder>> {
        let stage = std::mem::replace(&mut *lock_unpoisoned(&self.stage), Stage::Closed);
        let recorder = self.recorder.get();
        let (reply, ending) = match stage {
            Stage::Streaming => {
                let reply =
                    interrupted(self.draft.clone(), &AgentError::Cancelled, recorder.map(AsRef::as_ref));
                (reply, RunEnding::Cancelled)
            }
            Stage::Saving(reply, ending) => (*reply, ending),
            Stage::Closed => return None,
        };
        if let Err(error) = self.save(&reply, timeout) {
            tracing::warn!(reply = %self.handle.message, %error, "a reply was dropped and could not be finalized");
        }
        let recorder = recorder?;
        recorder.run_ended(ending, self.handle.seq);
        let store = self.mark.engine.store();
        let mut is_final = lock_unpoisoned(&self.run_is_final);
        *is_final = true;
        let saved = store.save_run(&recorder.run());
        let saved =
            saved.and_then(|()| store.save_branch_state(self.handle.branch, &recorder.checkpoint_state()));
        if let Err(error) = saved {
            tracing::warn!(reply = %self.handle.message, %error, "the run of a dropped reply was not saved");
        }
        Some(recorder)
    }

    fn save(&self, reply: &MessageDraft, timeout: Duration) -> Result<(), StoreError> {
        let deadline = Instant::now() + timeout;
        let mut backoff = save_backoff();
        loop {
            match self.mark.engine.store().finish_reply(self.handle, reply) {
                // A call that the exchange made before it was dropped has finalized the reply with the same content.
                Ok(()) | Err(StoreError::Conflict { .. }) => return Ok(()),
                Err(error) if may_retry(&error) && Instant::now() < deadline => {
                    std::thread::sleep(backoff.next_delay());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for OpenReply {
    fn drop(&mut self) {
        // Without retries: this runs only while the runtime shuts down, which it blocks.
        self.finalize(Duration::ZERO);
    }
}

/// A reply that ended early: the streamed text, marked as interrupted, with the reason. Records the error in the run.
pub fn interrupted(mut reply: MessageDraft, error: &AgentError, recorder: Option<&Recorder>) -> MessageDraft {
    reply.status = MessageStatus::Interrupted;
    reply.extra.insert(FAILURE.to_owned(), failure_note(error));
    if let Some(recorder) = recorder {
        recorder.event(EventPayload::ErrorOccurred { agent: None, phase: None, message: error.to_string() });
        reply.parts = recorder.streamed();
    }
    reply
}
