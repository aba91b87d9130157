//! Finalizes the reply of an exchange whose future is dropped.
//!
//! A caller may drop the future of `Engine::send` at any await point: in `select!`, after a timeout, or by aborting its
//! task. If the reply had begun in the store, it must still be finalized, because a reply in progress locks its branch
//! until this process ends. Three types do this:
//!
//! - [`ReplyGuard`] is created by the blocking closure that calls `begin_reply`, right after the call, and is part of
//!   the closure's result. If the future is dropped in the meantime, the closure still runs to its end, and tokio then
//!   drops its result, including the guard. Every reply that was begun in the store therefore has a guard.
//! - A guard that is dropped finalizes its [`OpenReply`] on a blocking thread, with the text that had streamed. While
//!   the runtime shuts down, tokio drops such work without running it; the `Drop` of `OpenReply` then finalizes the
//!   reply, which delays the shutdown by one write.
//! - [`BackgroundWork`] lists the sessions with such work, so that the next message waits for it. Without the list, the
//!   message would fail with `Locked` or `HeadMismatch`.
//!
//! The alternative is to run every exchange in a task of its own and to cancel that task when the future is dropped.
//! The shutdown of the runtime would need the same guard, and the agent would still run for a while after the drop.

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

/// Key in the fields of an interrupted reply for the agent's error.
pub const FAILURE: &str = "error";

/// Sessions with unfinished work of dropped futures. A session is listed once for each such future.
#[derive(Default)]
pub struct BackgroundWork {
    sessions: watch::Sender<Vec<SessionId>>,
}

impl BackgroundWork {
    /// Waits until the session has no unfinished work.
    pub async fn wait(&self, session: SessionId) {
        let mut sessions = self.sessions.subscribe();
        // Fails only when the sender is dropped, and `self` is the sender.
        let _ = sessions.wait_for(|sessions| !sessions.contains(&session)).await;
    }
}

/// Shared by the future of an exchange and by the blocking calls and guards that it creates. Each of them holds a
/// reference until it is done. Dropping the last reference removes the session from [`BackgroundWork`] if it is listed.
pub struct WorkToken {
    engine: Engine,
    session: SessionId,
    /// Whether the future that started the work was dropped, so that the session is listed in [`BackgroundWork`].
    is_listed: AtomicBool,
}

impl Drop for WorkToken {
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

/// The reference to a [`WorkToken`] that the future holds. Dropping it while other references exist lists the session
/// in [`BackgroundWork`].
pub struct ExchangeScope {
    token: Arc<WorkToken>,
}

impl ExchangeScope {
    pub fn new(engine: &Engine, session: SessionId) -> Self {
        let is_listed = AtomicBool::new(false);
        Self { token: Arc::new(WorkToken { engine: engine.clone(), session, is_listed }) }
    }

    pub fn token(&self) -> Arc<WorkToken> {
        Arc::clone(&self.token)
    }

    /// Runs blocking work that holds a reference to the token.
    pub async fn run_blocking<T, F>(&self, work: F) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: FnOnce(&Engine) -> Result<T, EngineError> + Send + 'static,
    {
        let token = self.token();
        let work = move |engine: &Engine| {
            let result = work(engine);
            drop(token);
            result
        };
        self.token.engine.run_blocking(work).await
    }
}

impl Drop for ExchangeScope {
    fn drop(&mut self) {
        // Other references belong to blocking calls and guards that outlive a dropped future. If the future completed,
        // there are no other references.
        if Arc::strong_count(&self.token) > 1 {
            self.token.is_listed.store(true, Ordering::Release);
            self.token.engine.background().sessions.send_modify(|sessions| sessions.push(self.token.session));
        }
    }
}

/// Guards a reply that was begun in the store. Dropping it before [`close`](Self::close) finalizes the reply in the
/// background.
pub struct ReplyGuard {
    reply: Arc<OpenReply>,
    runtime: Handle,
}

/// A reply in the store that is not finalized.
struct OpenReply {
    handle: ReplyHandle,
    /// The reply as it was begun, without content.
    draft: MessageDraft,
    recorder: OnceLock<Arc<Recorder>>,
    stage: Mutex<Stage>,
    /// Whether the final record of the run was saved. The lock is held while a record is saved, so that the record of
    /// the started run cannot overwrite the final one.
    run_is_final: Mutex<bool>,
    token: Arc<WorkToken>,
}

enum Stage {
    /// The agent is running.
    Streaming,
    /// The final form is known, and may have been saved.
    Saving(Box<MessageDraft>, RunEnding),
    /// Nothing is left to do.
    Closed,
}

impl ReplyGuard {
    /// Guards a reply that was just begun. `runtime` is the runtime of the exchange; it is stored because the future
    /// may be dropped on a thread outside of it.
    pub fn new(handle: ReplyHandle, draft: MessageDraft, token: Arc<WorkToken>, runtime: Handle) -> Self {
        let reply = OpenReply {
            handle,
            draft,
            recorder: OnceLock::new(),
            stage: Mutex::new(Stage::Streaming),
            run_is_final: Mutex::new(false),
            token,
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

    /// Returns blocking work that saves the record of the started run. If the exchange is dropped while the work waits
    /// for a thread, the guard may save the final record first; the work then does nothing.
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

    /// Sets the final form of the reply. If the guard is dropped after this call, it saves `reply` instead of the
    /// streamed text.
    pub fn set_final(&self, reply: MessageDraft, ending: RunEnding) {
        *lock_unpoisoned(&self.reply.stage) = Stage::Saving(Box::new(reply), ending);
    }

    /// Disarms the guard. Called after the exchange has saved the reply itself or has given up saving it.
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
        // If the runtime shuts down, tokio drops this closure without running it. Dropping the last of the two
        // references to the reply then finalizes it in `OpenReply::drop`.
        self.runtime.spawn_blocking(move || {
            let timeout = reply.token.engine.settings().save_timeout;
            let Some(recorder) = reply.finalize(timeout) else { return };
            let (run, state) = (recorder.run(), recorder.checkpoint_state());
            let token = Arc::clone(&reply.token);
            runtime.spawn(async move {
                let (engine, session, branch) = (&token.engine, token.session, run.branch);
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

    /// Saves the reply, records the end of the run and returns its recorder. Blocks, and retries for about `timeout`
    /// while the store is unavailable. A second call does nothing.
    fn finalize(&self, timeout: Duration) -> Option<&Arc<Recorder>> {
        let stage = std::mem::replace(&mut *lock_unpoisoned(&self.stage), Stage::Closed);
        let recorder = self.recorder.get();
        let (reply, ending) = match stage {
            Stage::Streaming => {
                let reply = match recorder {
                    Some(recorder) => interrupted_reply(self.draft.clone(), &AgentError::Cancelled, recorder),
                    // The agent has not started.
                    None => MessageDraft { status: MessageStatus::Interrupted, ..self.draft.clone() },
                };
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
        let store = self.token.engine.store();
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
            match self.token.engine.store().finish_reply(self.handle, reply) {
                // On a conflict, the exchange had finalized the reply before it was dropped, with the same content.
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
        // Does nothing if the reply is closed or finalized. Otherwise the runtime is shutting down; the timeout is zero
        // because this call delays the shutdown.
        self.finalize(Duration::ZERO);
    }
}

/// Builds an interrupted reply from the streamed text and the error. Records the error in the run.
pub fn interrupted_reply(mut reply: MessageDraft, error: &AgentError, recorder: &Recorder) -> MessageDraft {
    reply.status = MessageStatus::Interrupted;
    reply.extra.insert(FAILURE.to_owned(), failure_note(error));
    recorder.event(EventPayload::ErrorOccurred { agent: None, phase: None, message: error.to_string() });
    reply.parts = recorder.streamed();
    reply
}
