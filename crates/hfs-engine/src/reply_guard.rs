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
    AgentError, CompletedMessage, EventPayload, Message, MessageDraft, MessageStatus, ReplyHandle, Run,
    RunEnding, RunSink, Seq, SessionId, Store, StoreError, lock_unpoisoned,
};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::error::failure_note;
use crate::recorder::Recorder;
use crate::send::{may_retry, save_backoff};
use crate::turn::{Step, Turn};
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

/// Guards a turn whose first message was begun in the store. Dropping it before [`close`](Self::close) finalizes the turn
/// in the background.
pub struct ReplyGuard {
    reply: Arc<OpenReply>,
    runtime: Handle,
}

/// A turn in the store that is not finalized.
pub struct OpenReply {
    /// The first message as it was begun, without content.
    draft: MessageDraft,
    recorder: OnceLock<Arc<Recorder>>,
    /// Locked during each store call, so that the turn continues where the last call left it, also if the exchange was
    /// dropped during that call.
    written: Mutex<WrittenTurn>,
    /// Seq of the newest message that was begun in the store.
    head: watch::Sender<Seq>,
    stage: Mutex<Stage>,
    /// Whether the final record of the run was saved. The lock is held while a record is saved, so that the record of
    /// the started run cannot overwrite the final one.
    run_is_final: Mutex<bool>,
    token: Arc<WorkToken>,
}

/// A turn as far as the store has it.
struct WrittenTurn {
    /// The message that the store writes.
    handle: ReplyHandle,
    /// The messages before it, which have their final form, and after the end of the turn also the last one.
    ended: Vec<Message>,
}

impl WrittenTurn {
    /// Adds messages that have got their final form.
    fn end_messages(&mut self, messages: Vec<MessageDraft>) {
        let ReplyHandle { branch, seq, .. } = self.handle;
        let messages = (seq..).zip(messages).map(|(seq, content)| Message { branch, seq, content });
        self.ended.extend(messages);
    }
}

enum Stage {
    /// The agent is running.
    Streaming,
    /// The final form is known to the recorder, and may have been saved.
    Saving(RunEnding),
    /// Nothing is left to do.
    Closed,
}

impl ReplyGuard {
    /// Guards a reply that was just begun. `runtime` is the runtime of the exchange; it is stored because the future
    /// may be dropped on a thread outside of it.
    pub fn new(handle: ReplyHandle, draft: MessageDraft, token: Arc<WorkToken>, runtime: Handle) -> Self {
        let reply = OpenReply {
            draft,
            recorder: OnceLock::new(),
            head: watch::Sender::new(handle.seq),
            written: Mutex::new(WrittenTurn { handle, ended: Vec::new() }),
            stage: Mutex::new(Stage::Streaming),
            run_is_final: Mutex::new(false),
            token,
        };
        Self { reply: Arc::new(reply), runtime }
    }

    /// The message that the store writes.
    pub fn handle(&self) -> ReplyHandle {
        lock_unpoisoned(&self.reply.written).handle
    }

    /// Receives the seq of the newest message that was begun in the store.
    pub fn head(&self) -> watch::Receiver<Seq> {
        self.reply.head.subscribe()
    }

    /// The turn, to save it while the agent runs.
    pub fn open_reply(&self) -> Arc<OpenReply> {
        Arc::clone(&self.reply)
    }

    /// Sets the recorder that collects the messages of the turn. Called once.
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

    /// Records that the recorder has the final form of all messages. If the guard is dropped after this call, it saves them
    /// and interrupts nothing.
    pub fn turn_ended(&self, ending: RunEnding) {
        *lock_unpoisoned(&self.reply.stage) = Stage::Saving(ending);
    }

    /// Disarms the guard, and returns the messages of the turn. Called after the exchange has saved the turn itself or has
    /// given up saving it.
    pub fn close(self) -> Vec<Message> {
        *lock_unpoisoned(&self.reply.stage) = Stage::Closed;
        std::mem::take(&mut lock_unpoisoned(&self.reply.written).ended)
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

    /// Gives the store everything of the turn that it does not have and can be given. Blocks. Returns the messages that
    /// have got their final form, also if a later step fails.
    pub fn save_turn(&self, store: &dyn Store) -> (Vec<Message>, Result<(), StoreError>) {
        let Some(recorder) = self.recorder.get() else { return (Vec::new(), Ok(())) };
        let mut written = lock_unpoisoned(&self.written);
        let before = written.ended.len();
        let changes = recorder.with_turn(|turn| turn.changes());
        let result = self.take_steps(store, recorder, &mut written);
        match &result {
            // A message that has just been completed waits for the hooks, and those after it for its final form.
            Ok(()) if recorder.with_turn(|turn| turn.has_one_message()) => recorder.turn_saved(changes),
            Ok(()) => recorder.changed.notify_one(),
            Err(error) => recorder.turn_not_saved(error),
        }
        (written.ended.get(before..).unwrap_or_default().to_vec(), result)
    }

    fn take_steps(
        &self,
        store: &dyn Store,
        recorder: &Recorder,
        written: &mut WrittenTurn,
    ) -> Result<(), StoreError> {
        while let Some(step) = recorder.with_turn(Turn::next_step) {
            match step {
                Step::Extend(deltas) => {
                    // Not repeated for deltas that arrive in the meantime, which the next call saves.
                    let extended = store.extend_reply(written.handle, &deltas);
                    return extended.inspect_err(|_| recorder.with_turn(|turn| turn.not_extended(deltas)));
                }
                Step::Continue { messages, next } => {
                    let handle = store.continue_reply(written.handle, &messages, &next)?;
                    recorder.with_turn(|turn| turn.continued(messages.len()));
                    written.end_messages(messages);
                    written.handle = handle;
                    self.head.send_replace(handle.seq);
                }
                Step::Finish(last) => {
                    store.finish_reply(written.handle, &last)?;
                    recorder.with_turn(Turn::finished);
                    written.end_messages(vec![*last]);
                }
            }
        }
        Ok(())
    }

    /// Saves the turn, records the end of the run and returns its recorder. Blocks, and retries for about `timeout`
    /// while the store is unavailable. A second call does nothing.
    fn finalize(&self, timeout: Duration) -> Option<&Arc<Recorder>> {
        let stage = std::mem::replace(&mut *lock_unpoisoned(&self.stage), Stage::Closed);
        let recorder = self.recorder.get();
        let ending = match stage {
            Stage::Streaming => {
                if let Some(recorder) = recorder {
                    interrupt_turn(recorder, None, &AgentError::Cancelled);
                }
                RunEnding::Cancelled
            }
            Stage::Saving(ending) => ending,
            Stage::Closed => return None,
        };
        let saved = self.retry(timeout, |store| match recorder {
            Some(recorder) => {
                // The exchange that would wait for the hooks was dropped.
                recorder.with_turn(Turn::check_all);
                self.save_turn(store).1
            }
            // The agent has not started.
            None => {
                let reply = MessageDraft { status: MessageStatus::Interrupted, ..self.draft.clone() };
                store.finish_reply(lock_unpoisoned(&self.written).handle, &reply)
            }
        });
        let ReplyHandle { branch, message, .. } = lock_unpoisoned(&self.written).handle;
        if let Err(error) = saved {
            tracing::warn!(reply = %message, %error, "a reply was dropped and could not be finalized");
        }
        let recorder = recorder?;
        recorder.run_ended(ending);
        let store = self.token.engine.store();
        let mut is_final = lock_unpoisoned(&self.run_is_final);
        *is_final = true;
        let saved = store.save_run(&recorder.run());
        let saved = saved.and_then(|()| store.save_branch_state(branch, &recorder.checkpoint_state()));
        if let Err(error) = saved {
            tracing::warn!(reply = %message, %error, "the run of a dropped reply was not saved");
        }
        Some(recorder)
    }

    fn retry(
        &self,
        timeout: Duration,
        save: impl Fn(&dyn Store) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let deadline = Instant::now() + timeout;
        let mut backoff = save_backoff();
        loop {
            match save(self.token.engine.store().as_ref()) {
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

/// Ends a turn with an interrupted message; `last` is `None` if an error cut it off. Records the error in the run.
pub fn interrupt_turn(recorder: &Recorder, last: Option<CompletedMessage>, error: &AgentError) {
    recorder.event(EventPayload::ErrorOccurred { agent: None, phase: None, message: error.to_string() });
    recorder.with_turn(|turn| turn.interrupt(last, failure_note(error)));
}
