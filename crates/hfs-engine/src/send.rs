//! One exchange: the user's message is saved, the agent runs, its reply is saved as it streams.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hfs_core::{
    AgentError, BranchId, CheckpointState, Message, MessageDraft, MessageStatus, PassthroughFields,
    PluginStates, Position, ReplyHandle, Role, Run, RunEnding, RunId, RunOutcome, RunRequest, RunSink,
    SessionDraft, SessionId, StoreError, Verdict, automatic_name,
};
use hfs_core::{EventPayload, Part};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::checkpointer::store_captures;
use crate::error::failure_note;
use crate::recorder::{Recorder, RecorderParts};
use crate::reply_writer::{may_pass, pause, save_while_streaming};
use crate::{Conversation, Engine, EngineError, Observer, SendError, Update, context};

/// How long an agent that was asked to stop may take before it is dropped.
const CANCEL_GRACE: Duration = Duration::from_millis(200);

/// Under this key a message's extra keeps what it said before a plugin rewrote it.
const ORIGINAL_TEXT: &str = "original_text";
/// Under this key an interrupted reply's extra keeps why it ended.
const FAILURE: &str = "error";

/// An exchange as it was saved.
#[derive(Debug)]
pub struct Exchange {
    /// What the user said.
    pub user: Message,
    /// What the agent replied; interrupted when it failed or was cancelled.
    pub reply: Message,
    /// What it did for that.
    pub run: Run,
    /// Why the reply is not complete.
    pub failure: Option<AgentError>,
}

/// What an answer starts from.
struct Opening {
    handle: ReplyHandle,
    history: Vec<Message>,
    state: CheckpointState,
}

impl Engine {
    /// Sends a message and sees its reply through. When this returns, both are durable.
    ///
    /// To stop it, use `cancel`. A future that is dropped leaves what was saved by then, and a reply that counts as
    /// being written, which nobody can write behind, until this process ends and its store with it.
    ///
    /// # Errors
    /// See [`SendError`]. `NotSaved` with a `HeadMismatch` or `Locked` inside means that somebody else wrote to the
    /// branch: nothing was written, and the front end offers to load it again or to fork.
    pub async fn send(
        &self,
        conversation: &mut Conversation,
        text: &str,
        observer: Arc<dyn Observer>,
        cancel: CancellationToken,
    ) -> Result<Exchange, SendError> {
        let user = self.say(conversation, text, observer.as_ref()).await?;
        self.answer(conversation, user, observer, cancel).await
    }

    /// Saves what the user says, after the plugins have seen it, and begins the session if this is its first
    /// message.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn say(
        &self,
        conversation: &mut Conversation,
        text: &str,
        observer: &dyn Observer,
    ) -> Result<Message, SendError> {
        if text.trim().is_empty() {
            return Err(SendError::Empty);
        }
        let begun = conversation.session();
        let session = begun.unwrap_or_else(SessionId::generate);
        self.greet(session).await;
        let now = self.parts.clock.now();
        let mut draft = MessageDraft::user(text, now);
        match self.parts.hooks.on_message(session, text, true).await {
            Verdict::Pass => {}
            Verdict::Replace(rewritten) => replace_text(&mut draft, rewritten),
            Verdict::Reject { plugin, reason } => return Err(SendError::Rejected { plugin, reason }),
        }
        let not_saved = |error| match error {
            EngineError::Store(source) => SendError::NotSaved { text: text.to_owned(), source },
            other => SendError::Engine(other),
        };
        if begun.is_none() {
            // The name comes of what is saved: a guard may have taken something out of what was typed.
            let draft = self.session_draft(session, &draft.text(), conversation);
            let place = Position { branch: draft.main_branch, head: 0 };
            let name = draft.name.clone();
            self.blocking(move |store| store.create_session(&draft)).await.map_err(not_saved)?;
            conversation.place = Some((session, place));
            self.begin_plugins(session, place.branch);
            observer.update(Update::SessionCreated { session, name });
        }
        let Some((_, at)) = conversation.place else {
            return Err(SendError::Engine(EngineError::NotPossible {
                message: "the conversation has no place".into(),
            }));
        };
        let message = draft.clone();
        let appended = self.blocking(move |store| store.append(at, &[message])).await.map_err(not_saved)?;
        conversation.advance(appended.position.head);
        let message = Message { branch: at.branch, seq: appended.first, content: draft };
        observer.update(Update::Sent(Arc::new(message.clone())));
        Ok(message)
    }

    fn session_draft(&self, id: SessionId, text: &str, conversation: &Conversation) -> SessionDraft {
        let now = self.parts.clock.now();
        let local = now.to_jiff().to_zoned(self.parts.settings.time_zone.clone());
        SessionDraft {
            id,
            name: automatic_name(text, &local),
            automatic_name: true,
            project: conversation.project.clone(),
            created_at: now,
            origin: None,
            extra: PassthroughFields::new(),
            main_branch: BranchId::generate(),
        }
    }

    /// Answers `user`, the newest message of the conversation.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn answer(
        &self,
        conversation: &mut Conversation,
        user: Message,
        observer: Arc<dyn Observer>,
        cancel: CancellationToken,
    ) -> Result<Exchange, SendError> {
        let Some((session, at)) = conversation.place else {
            return Err(SendError::Empty);
        };
        let description = self.parts.agent.describe();
        let draft = MessageDraft {
            status: MessageStatus::Streaming,
            agent: Some(description.name.clone()),
            model: description.model.clone(),
            ..MessageDraft::new(Role::Assistant, Vec::new(), self.parts.clock.now())
        };
        let opening = self.open_reply(at, draft.clone()).await?;
        conversation.advance(opening.handle.seq);
        observer.update(Update::Answering(description.clone()));

        let run = RunId::generate();
        let (captures, captured) = mpsc::unbounded_channel();
        let (hook_events, for_hooks) = mpsc::unbounded_channel();
        let recorder = Arc::new(Recorder::new(
            RecorderParts {
                session,
                branch: at.branch,
                answers: Some(user.content.id),
                seq: user.seq,
                memories: opening.state.agents.clone(),
                plugins: opening.state.plugins,
                clock: Arc::clone(&self.parts.clock),
                hooks: Arc::clone(&self.parts.hooks),
                observer: Arc::clone(&observer),
                bus: self.bus().clone(),
                checkpoint_on: self.settings().checkpoint_on.clone(),
                captures,
                hook_events,
            },
            run,
        ));
        let checkpointer = tokio::spawn(store_captures(self.clone(), captured, Arc::clone(&observer)));
        let hook_feed = tokio::spawn(feed_hooks(Arc::clone(&self.parts.hooks), session, for_hooks));

        recorder.event(EventPayload::RunStarted { agent: description.name, answers: Some(user.content.id) });
        self.keep_run(recorder.run(), None, observer.as_ref()).await;
        let request = RunRequest::new(run, session, at.branch, opening.history)
            .with_memories(opening.state.agents)
            .with_cancel(cancel.clone());
        let result = self.stream(request, &recorder, opening.handle, &observer).await;
        let (reply, failure) = self.conclude(session, draft, result, &recorder).await;
        self.keep_reply(opening.handle, &reply, observer.as_ref()).await?;

        recorder.move_to(opening.handle.seq);
        let duration_ms = self.parts.clock.now().millis_since(recorder.started_at());
        recorder.event(EventPayload::RunEnded { duration_ms, ending: ending(failure.as_ref()) });
        let (run, state) = (recorder.run(), recorder.state());
        let kept = state.plugins.clone();
        self.keep_run(run.clone(), Some(state), observer.as_ref()).await;
        // The last sender of captures and events goes with the recorder; then both tasks finish what they have.
        drop(recorder);
        let _ = checkpointer.await;
        let _ = hook_feed.await;
        self.parts.hooks.on_run_complete(session, &run.snapshot).await;
        self.keep_late_changes(session, at.branch, kept, observer.as_ref()).await;
        let reply = Message { branch: at.branch, seq: opening.handle.seq, content: reply };
        Ok(Exchange { user, reply, run, failure })
    }

    /// Reserves the reply's place, so that nobody else's words can come between, and loads what the agent needs.
    async fn open_reply(&self, at: Position, draft: MessageDraft) -> Result<Opening, SendError> {
        let budget = self.settings().context_chars;
        let opened = self.blocking(move |store| {
            let handle = store.begin_reply(at, &draft)?;
            let history = context::load(store, at.branch, at.head, budget)?;
            let state = store.load_branch_state(at.branch)?.unwrap_or_default();
            Ok(Opening { handle, history, state })
        });
        Ok(opened.await?)
    }

    /// Runs the agent while its reply is saved piece by piece.
    async fn stream(
        &self,
        request: RunRequest,
        recorder: &Arc<Recorder>,
        handle: ReplyHandle,
        observer: &Arc<dyn Observer>,
    ) -> Result<RunOutcome, AgentError> {
        let done = CancellationToken::new();
        let writer = tokio::spawn(save_while_streaming(
            self.clone(),
            Arc::clone(recorder),
            handle,
            Arc::clone(observer),
            done.clone(),
        ));
        // A future that is dropped here takes its writer along.
        let _guard = done.clone().drop_guard();
        let cancel = request.cancel.clone();
        let overdue = async {
            cancel.cancelled().await;
            tokio::time::sleep(CANCEL_GRACE).await;
        };
        let result = tokio::select! {
            result = self.parts.agent.run(request, recorder.as_ref()) => result,
            () = overdue => Err(AgentError::Cancelled),
        };
        done.cancel();
        let _ = writer.await;
        result
    }

    /// The reply in its final form, after the plugins have seen it.
    async fn conclude(
        &self,
        session: SessionId,
        draft: MessageDraft,
        result: Result<RunOutcome, AgentError>,
        recorder: &Recorder,
    ) -> (MessageDraft, Option<AgentError>) {
        let mut reply = draft;
        match result {
            Ok(outcome) => {
                reply.status = MessageStatus::Complete;
                reply.parts = outcome.parts;
                reply.model = outcome.model.or(reply.model);
                reply.usage = outcome.usage;
                reply.extra = outcome.extra;
                match self.parts.hooks.on_message(session, &reply.text(), false).await {
                    Verdict::Replace(rewritten) => replace_text(&mut reply, rewritten),
                    // There is nothing left to stop: the reply was shown while it streamed.
                    Verdict::Pass | Verdict::Reject { .. } => {}
                }
                (reply, None)
            }
            Err(error) => {
                recorder.event(EventPayload::ErrorOccurred {
                    agent: None,
                    phase: None,
                    message: error.to_string(),
                });
                reply.status = MessageStatus::Interrupted;
                reply.parts = recorder.streamed();
                reply.extra.insert(FAILURE.to_owned(), failure_note(&error));
                (reply, Some(error))
            }
        }
    }

    /// Saves the final reply, trying again for as long as patience lasts.
    async fn keep_reply(
        &self,
        handle: ReplyHandle,
        reply: &MessageDraft,
        observer: &dyn Observer,
    ) -> Result<(), SendError> {
        let deadline = Instant::now() + self.settings().save_patience;
        let mut attempt = 0;
        loop {
            let message = reply.clone();
            let source = match self.blocking(move |store| store.finish_reply(handle, &message)).await {
                Ok(()) => {
                    observer.update(Update::Saved);
                    return Ok(());
                }
                Err(EngineError::Store(source)) => source,
                Err(other) => return Err(other.into()),
            };
            observer.update(Update::NotSaved { reason: describe(&source) });
            if !may_pass(&source) || Instant::now() >= deadline {
                return Err(SendError::ReplyNotSaved { reply: Box::new(reply.clone()), source });
            }
            attempt += 1;
            tokio::time::sleep(pause(attempt)).await;
        }
    }

    /// Saves the run's record and, at its end, what the next run starts from. The conversation itself is safe by
    /// then, so a failure is told and costs no more than this record.
    async fn keep_run(&self, run: Run, state: Option<CheckpointState>, observer: &dyn Observer) {
        let branch = run.branch;
        let kept = self.blocking(move |store| {
            store.save_run(&run)?;
            state.map_or(Ok(()), |state| store.save_branch_state(branch, &state))
        });
        if let Err(error) = kept.await {
            observer.update(Update::CheckpointFailed { reason: error.to_string() });
        }
    }

    /// Saves what plugins changed once the run's own state was saved.
    async fn keep_late_changes(
        &self,
        session: SessionId,
        branch: BranchId,
        kept: PluginStates,
        observer: &dyn Observer,
    ) {
        let Some(live) = self.parts.hooks.session_state(session).filter(|live| *live != kept) else { return };
        if let Err(error) = self.blocking(move |store| store.save_branch_plugins(branch, &live)).await {
            observer.update(Update::CheckpointFailed { reason: error.to_string() });
        }
    }
}

async fn feed_hooks(
    hooks: Arc<dyn hfs_core::Hooks>,
    session: SessionId,
    mut events: mpsc::UnboundedReceiver<Arc<hfs_core::Event>>,
) {
    while let Some(event) = events.recv().await {
        hooks.on_event(session, &event).await;
    }
}

/// Puts `rewritten` in the place of the message's text parts and keeps the original beside it.
fn replace_text(message: &mut MessageDraft, rewritten: String) {
    let original = message.text();
    if original == rewritten {
        return;
    }
    message.extra.insert(ORIGINAL_TEXT.to_owned(), Value::String(original));
    let place = message.parts.iter().position(|part| matches!(part, Part::Text { .. })).unwrap_or(0);
    message.parts.retain(|part| !matches!(part, Part::Text { .. }));
    let place = place.min(message.parts.len());
    message.parts.insert(place, Part::text(rewritten));
}

fn ending(failure: Option<&AgentError>) -> RunEnding {
    match failure {
        None => RunEnding::Completed,
        Some(AgentError::Cancelled) => RunEnding::Cancelled,
        Some(_) => RunEnding::Failed,
    }
}

/// An error with its causes, on one line.
fn describe(error: &StoreError) -> String {
    let mut line = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        line.push_str(": ");
        line.push_str(&next.to_string());
        cause = next.source();
    }
    line
}
