//! Sending a message: saves it, runs the agent, and saves the reply while it streams.

use std::sync::Arc;
use std::time::Duration;

use hfs_core::{
    AgentError, Attachment, Backoff, BranchId, CheckpointState, ContextUpdate, ErrorExt, ErrorKind, Event,
    EventPayload, Hooks, Message, MessageDraft, MessageStatus, ModelContext, Part, PassthroughFields,
    PluginStates, Position, ReplyHandle, Role, Run, RunEnding, RunId, RunOutcome, RunRequest, RunSink,
    RunSnapshot, SessionDraft, SessionId, StoreError, StoreResult, Verdict, automatic_name, error_chain,
};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::compaction::ContextResult;
use crate::context::AgentContext;
use crate::recorder::{CheckpointChange, Recorder, RecorderParts};
use crate::reply_guard::{ExchangeScope, ReplyGuard, interrupted_reply};
use crate::{Conversation, Engine, EngineError, Observer, SendError, Update};

/// Time that a cancelled agent has to end before its future is dropped.
const CANCEL_GRACE: Duration = Duration::from_millis(200);

/// Key in the fields of a message for its text before a plugin rewrote it.
pub const ORIGINAL_TEXT: &str = "original_text";

/// A message of the user that is to be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// The text; may be empty if files are attached.
    pub text: String,
    /// Files that are attached to it.
    pub attachments: Vec<OutgoingAttachment>,
}

/// A file that is attached to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingAttachment {
    /// Media type, such as `image/png`.
    pub media_type: String,
    /// File name.
    pub name: String,
    /// The content.
    pub content: Attachment,
}

impl From<&str> for OutgoingMessage {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<String> for OutgoingMessage {
    fn from(text: String) -> Self {
        Self { text, attachments: Vec::new() }
    }
}

impl OutgoingMessage {
    /// The parts of the message: its text, and a reference to each attachment.
    fn parts(&self) -> Vec<Part> {
        let text = Some(&self.text).filter(|text| !text.trim().is_empty()).map(Part::text);
        let attachments = self.attachments.iter().map(|attachment| Part::Attachment {
            media_type: attachment.media_type.clone(),
            name: Some(attachment.name.clone()),
            hash: Some(attachment.content.hash),
            bytes: u64::try_from(attachment.content.bytes.len()).unwrap_or(u64::MAX),
        });
        text.into_iter().chain(attachments).collect()
    }

    /// What a session that begins with this message is named after, if `text` is its saved text.
    fn title(&self, text: String) -> String {
        if !text.trim().is_empty() {
            return text;
        }
        self.attachments.iter().map(|attachment| attachment.name.as_str()).collect::<Vec<_>>().join(" ")
    }
}

/// A message and its reply, as they were saved.
#[derive(Debug)]
pub struct Exchange {
    /// The user's message.
    pub user: Message,
    /// The agent's reply; interrupted if the agent failed or was cancelled.
    pub reply: Message,
    /// The run.
    pub run: Run,
    /// The agent's error, if the reply is not complete.
    pub failure: Option<AgentError>,
}

/// Result of [`Engine::save_user_message`].
struct SavedMessage {
    scope: ExchangeScope,
    session: SessionId,
    message: Message,
    reply: Option<BegunReply>,
}

/// A reply that has begun in the store, with what its agent needs.
struct BegunReply {
    /// The reply as it was begun, without content.
    draft: MessageDraft,
    guard: ReplyGuard,
    // The error of the read is kept next to the guard, whose drop finalizes the reply.
    state: StoreResult<Option<CheckpointState>>,
}

impl BegunReply {
    /// Reads the state of the reply's branch. Blocks.
    fn load(engine: &Engine, draft: MessageDraft, guard: ReplyGuard) -> Self {
        let state = engine.store().load_branch_state(guard.handle().branch);
        Self { draft, guard, state }
    }
}

impl Engine {
    /// Sends a message and waits for the reply. Both are durable when it returns.
    ///
    /// A conversation that fills the model's context is compacted before; see [`compact`](Self::compact).
    ///
    /// To stop the agent, cancel `cancel`. The exchange then ends within about 200 ms with an interrupted reply, and
    /// its run is recorded.
    ///
    /// # Dropping the future
    ///
    /// The future may be dropped at any await point, for example by `tokio::select!`, a timeout or an aborted task. The
    /// agent then stops at once. If the save of the message had begun, it completes, and with it the start of the
    /// reply. The reply is finalized on a blocking thread: as interrupted, with the text that had streamed, or as
    /// complete, if the agent had ended. The next `send` or [`resume`](Self::resume) of this engine waits for that, so `conversation` stays
    /// valid; other processes get `Locked` until then.
    ///
    /// The shutdown of the runtime waits for the write. Only after `Runtime::shutdown_background` may the process exit
    /// earlier; the next resume then marks the reply as interrupted.
    ///
    /// # Errors
    /// See [`SendError`]. `NotSaved` with the source `HeadMismatch` or `Locked` means that another process has written
    /// to the branch. The message was not written, and a front end can offer to reload or to fork.
    pub async fn send(
        &self,
        conversation: &mut Conversation,
        message: impl Into<OutgoingMessage>,
        observer: Arc<dyn Observer>,
        cancel: CancellationToken,
    ) -> Result<Exchange, SendError> {
        let (message, begin_reply) = (message.into(), true);
        let draft = MessageDraft::new(Role::User, message.parts(), self.clock().now());
        if draft.parts.is_empty() {
            return Err(SendError::Empty);
        }
        let context = self.prepare_context(conversation, &draft, observer.as_ref(), &cancel).await;
        let saved = self.save_user_message(conversation, message, observer.as_ref(), begin_reply).await?;
        let SavedMessage { scope, session, message, reply } = saved;
        let Some(begun) = reply else {
            return Err(EngineError::Background { message: "the reply was not begun".into() }.into());
        };
        // The append would have failed if another process had written to the branch since the history was read.
        let context = context.map(|mut context| {
            context.messages.push(message.clone());
            context
        });
        self.run_reply(session, &scope, message, begun, context, observer, cancel).await
    }

    /// Passes a message of the user to the hooks and saves it. The first message creates the session.
    ///
    /// If the future is dropped, the message may or may not be saved; [`resume`](Self::resume) shows which.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn append_user_message(
        &self,
        conversation: &mut Conversation,
        message: impl Into<OutgoingMessage>,
        observer: &dyn Observer,
    ) -> Result<Message, SendError> {
        let (message, begin_reply) = (message.into(), false);
        Ok(self.save_user_message(conversation, message, observer, begin_reply).await?.message)
    }

    /// Passes a message of the user to the hooks, and saves it. With `begin_reply`, begins the reply in the same
    /// transaction, so that no other process can write in between and an error leaves neither of them.
    async fn save_user_message(
        &self,
        conversation: &mut Conversation,
        outgoing: OutgoingMessage,
        observer: &dyn Observer,
        begin_reply: bool,
    ) -> Result<SavedMessage, SendError> {
        let parts = outgoing.parts();
        if parts.is_empty() {
            return Err(SendError::Empty);
        }
        let before = conversation.place;
        let session = before.map_or_else(SessionId::generate, |(session, _)| session);
        self.background().wait(session).await;
        self.session_started(session).await;
        let mut message = MessageDraft::new(Role::User, parts, self.clock().now());
        match self.hooks().on_message(session, &outgoing.text, true).await {
            Verdict::Pass => {}
            Verdict::Replace(rewritten) => replace_text(&mut message, rewritten),
            Verdict::Reject { plugin, reason } => return Err(SendError::Rejected { plugin, reason }),
        }
        let (at, new_session) = match before {
            Some((_, at)) => (at, None),
            None => {
                // Named after the saved text, since a guard may have removed a secret from the typed text.
                let draft = self.session_draft(session, &outgoing.title(message.text()), conversation);
                (Position { branch: draft.main_branch, head: 0 }, Some(draft))
            }
        };
        let created_name = new_session.as_ref().map(|draft| draft.name.clone());

        // Advance the conversation before the message is saved. If the future is dropped during the store call, the
        // call still completes, and the conversation must match the store afterwards.
        let reply = begin_reply.then(|| self.reply_draft());
        let added = if begin_reply { 2 } else { 1 };
        conversation.place = Some((session, Position { head: at.head + added, ..at }));
        let (draft, attachments) = (message.clone(), outgoing.attachments);
        // One blocking call for session and message, so that a dropped future leaves no session without messages.
        let scope = ExchangeScope::new(self, session);
        let (token, runtime) = (scope.token(), Handle::current());
        let saved = scope.run_blocking(move |engine| {
            for attachment in &attachments {
                engine.store().put_attachment(&attachment.content)?;
            }
            if let Some(draft) = &new_session {
                engine.store().create_session(draft)?;
                engine.set_active_branch(session, at.branch);
            }
            let store = engine.store().as_ref();
            let Some(reply) = reply else {
                // The inner result, so that the caller can distinguish a failed append from a session that was not created.
                return Ok(store.append(at, &[draft]).map(|appended| (appended.first, None)));
            };
            let begun = store.append_and_begin_reply(at, &[draft], &reply);
            Ok(begun.map(|(appended, handle)| {
                let guard = ReplyGuard::new(handle, reply.clone(), token, runtime);
                (appended.first, Some(BegunReply::load(engine, reply, guard)))
            }))
        });
        let appended = match saved.await {
            Ok(appended) => appended,
            Err(error) => {
                conversation.place = before;
                return Err(match error {
                    EngineError::Store(source) => SendError::NotSaved { text: outgoing.text, source },
                    other => SendError::Engine(other),
                });
            }
        };
        if let Some(name) = created_name {
            observer.update(Update::SessionCreated { session, name });
        }
        let (seq, reply) = appended.map_err(|source| {
            conversation.place = Some((session, at));
            SendError::NotSaved { text: outgoing.text, source }
        })?;
        let message = Message { branch: at.branch, seq, content: message };
        observer.update(Update::Sent(Arc::new(message.clone())));
        Ok(SavedMessage { scope, session, message, reply })
    }

    /// A reply that has not begun yet.
    fn reply_draft(&self) -> MessageDraft {
        let description = self.agent().describe();
        MessageDraft {
            status: MessageStatus::Streaming,
            agent: Some(description.name),
            model: description.model,
            ..MessageDraft::new(Role::Assistant, Vec::new(), self.clock().now())
        }
    }

    fn session_draft(&self, id: SessionId, text: &str, conversation: &Conversation) -> SessionDraft {
        let now = self.clock().now();
        let local = now.to_jiff().to_zoned(self.settings().time_zone.clone());
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

    /// Generates the reply to `user`, the newest message of the conversation.
    ///
    /// If the future is dropped, the reply is finalized in the background, as [`send`](Self::send) describes.
    ///
    /// # Errors
    /// See [`send`](Self::send).
    pub async fn generate_reply(
        &self,
        conversation: &mut Conversation,
        user: Message,
        observer: Arc<dyn Observer>,
        cancel: CancellationToken,
    ) -> Result<Exchange, SendError> {
        let Some((session, _)) = conversation.place else {
            return Err(EngineError::EmptyConversation.into());
        };
        self.background().wait(session).await;
        let scope = ExchangeScope::new(self, session);
        let context = self.context_within_limit(conversation, None).await;
        let begun = self.begin_reply(conversation, &scope, self.reply_draft()).await?;
        self.run_reply(session, &scope, user, begun, context, observer, cancel).await
    }

    /// Runs the agent on a reply that has begun.
    #[allow(clippy::too_many_arguments, reason = "the steps before the reply, each with a result of its own")]
    async fn run_reply(
        &self,
        session: SessionId,
        scope: &ExchangeScope,
        user: Message,
        begun: BegunReply,
        context: ContextResult,
        observer: Arc<dyn Observer>,
        cancel: CancellationToken,
    ) -> Result<Exchange, SendError> {
        let BegunReply { draft, guard, state } = begun;
        let AgentContext { messages: history, update } =
            context.map_err(|source| SendError::NoReply { source })?;
        let state = state.map_err(|source| SendError::NoReply { source: EngineError::Store(source) })?;
        let state = state.unwrap_or_default();
        let description = self.agent().describe();
        let handle = guard.handle();
        let branch = handle.branch;
        observer.update(Update::ReplyStarted(description.clone()));

        let run = RunId::generate();
        let (checkpoint_sender, checkpoints) = mpsc::unbounded_channel();
        let (hook_sender, hook_events) = mpsc::unbounded_channel();
        let recorder = Arc::new(Recorder::new(
            RecorderParts {
                session,
                branch,
                answers: Some(user.content.id),
                seq: user.seq,
                memories: state.agents.clone(),
                plugins: state.plugins,
                clock: Arc::clone(self.clock()),
                hooks: Arc::clone(self.hooks()),
                observer: Arc::clone(&observer),
                bus: self.bus().clone(),
                checkpoint_on: self.settings().checkpoint_on.clone(),
                checkpoints: checkpoint_sender,
                hook_events: hook_sender,
            },
            run,
        ));
        guard.set_recorder(&recorder);
        let checkpoint_task =
            tokio::spawn(store_checkpoints(self.clone(), checkpoints, Arc::clone(&observer)));
        let hook_task = tokio::spawn(forward_events(Arc::clone(self.hooks()), session, hook_events));

        recorder.event(EventPayload::RunStarted { agent: description.name, answers: Some(user.content.id) });
        let started = scope.run_blocking(guard.save_started_run(recorder.run()));
        report_unsaved_run(started.await, observer.as_ref());
        self.record_context(&recorder, &update);
        let memories = state.agents;
        let request_with = |history: Vec<Message>| {
            RunRequest::new(run, session, branch, history)
                .with_memories(memories.clone())
                .with_cancel(cancel.clone())
        };
        let mut result = self.stream(request_with(history), &recorder, handle, &observer).await;
        if result.as_ref().is_err_and(AgentError::is_context_refusal)
            && recorder.streamed().is_empty()
            && let Some(shorter) = self.shorter_context(&user, &update).await
        {
            self.record_context(&recorder, &shorter.update);
            result = self.stream(request_with(shorter.messages), &recorder, handle, &observer).await;
        }
        let (reply, failure) = self.build_final_reply(session, draft, result, &recorder).await;
        let ending = run_ending(failure.as_ref());
        guard.set_final(reply.clone(), ending);
        let saved = self.persist_reply(handle, &reply, observer.as_ref()).await;
        // The future cannot be dropped before the next await point, and the blocking call there completes even if it is
        // dropped, so the guard is no longer needed.
        guard.close();
        saved?;

        recorder.run_ended(ending, handle.seq);
        let (run, state) = (recorder.run(), recorder.checkpoint_state());
        let saved_plugins = state.plugins.clone();
        let record = run.clone();
        let saved = scope.run_blocking(move |engine| {
            engine.store().save_run(&record)?;
            Ok(engine.store().save_branch_state(record.branch, &state)?)
        });
        report_unsaved_run(saved.await, observer.as_ref());
        // Both tasks end after the recorder, which holds their senders, is dropped and the channels are empty.
        drop(recorder);
        let _ = checkpoint_task.await;
        let _ = hook_task.await;
        if let Err(error) = self.run_completed(session, branch, &run.snapshot, &saved_plugins).await {
            observer.update(Update::CheckpointFailed { reason: error.to_string() });
        }
        let reply = Message { branch, seq: handle.seq, content: reply };
        Ok(Exchange { user, reply, run, failure })
    }

    /// Begins the reply in the store, which locks the branch, and loads the history and state for the agent.
    async fn begin_reply(
        &self,
        conversation: &mut Conversation,
        scope: &ExchangeScope,
        draft: MessageDraft,
    ) -> Result<BegunReply, SendError> {
        let Some((session, at)) = conversation.place else {
            return Err(EngineError::EmptyConversation.into());
        };
        // Advanced before the store call, as in `append_user_message`.
        conversation.place = Some((session, Position { head: at.head + 1, ..at }));
        let (token, runtime) = (scope.token(), Handle::current());
        let begun = scope.run_blocking(move |engine| {
            let handle = engine.store().begin_reply(at, &draft)?;
            let guard = ReplyGuard::new(handle, draft.clone(), token, runtime);
            Ok(BegunReply::load(engine, draft, guard))
        });
        begun.await.map_err(|error| {
            conversation.place = Some((session, at));
            error.into()
        })
    }

    /// Records how full the context of the model is, and what was left out of it.
    fn record_context(&self, recorder: &Recorder, update: &ContextUpdate) {
        let is_unused = self.agent().describe().context == ModelContext::Unused;
        if let Some(payload) = update.payload().filter(|_| !is_unused) {
            recorder.event(payload);
        }
    }

    /// The history up to the message to answer, if a refusal has shown that the model's context is smaller than was
    /// assumed.
    async fn shorter_context(&self, user: &Message, update: &ContextUpdate) -> Option<AgentContext> {
        // The refusal may have named the limit. The server is not asked: it was just asked for a reply.
        let limit = self.agent().describe().context.limit()?;
        if update.limit.is_some_and(|assumed| assumed.tokens <= limit.tokens) {
            return None;
        }
        let at = Position { branch: user.branch, head: user.seq };
        let shorter = self.context_at(Some(at), Some(limit), None).await.ok()?;
        (shorter.update.tokens < update.tokens).then_some(shorter)
    }

    /// Runs the agent while another task saves the streamed text.
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
        // Ends the task also if this future is dropped.
        let done = done.drop_guard();
        let cancel = request.cancel.clone();
        let overdue = async {
            cancel.cancelled().await;
            tokio::time::sleep(CANCEL_GRACE).await;
        };
        let result = tokio::select! {
            result = self.agent().run(request, recorder.as_ref()) => result,
            () = overdue => Err(AgentError::Cancelled),
        };
        drop(done);
        let _ = writer.await;
        result
    }

    /// Builds the final reply and passes it to the hooks.
    async fn build_final_reply(
        &self,
        session: SessionId,
        mut reply: MessageDraft,
        result: Result<RunOutcome, AgentError>,
        recorder: &Recorder,
    ) -> (MessageDraft, Option<AgentError>) {
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => return (interrupted_reply(reply, &error, recorder), Some(error)),
        };
        let failure = outcome.incomplete.map(AgentError::Incomplete);
        match &failure {
            None => reply.status = MessageStatus::Complete,
            Some(error) => reply = interrupted_reply(reply, error, recorder),
        }
        reply.parts = outcome.parts;
        reply.model = outcome.model.or(reply.model);
        reply.usage = outcome.usage;
        reply.extra.as_map_mut().extend(outcome.extra.into_map());
        match self.hooks().on_message(session, &reply.text(), false).await {
            Verdict::Replace(rewritten) => replace_text(&mut reply, rewritten),
            // A rejection has no effect, since the user has seen the reply while it streamed.
            Verdict::Pass | Verdict::Reject { .. } => {}
        }
        (reply, failure)
    }

    /// Saves the final reply, with retries until [`Settings::save_timeout`](crate::Settings::save_timeout) has passed.
    async fn persist_reply(
        &self,
        handle: ReplyHandle,
        reply: &MessageDraft,
        observer: &dyn Observer,
    ) -> Result<(), SendError> {
        let deadline = Instant::now() + self.settings().save_timeout;
        let mut backoff = save_backoff();
        loop {
            let draft = reply.clone();
            let saved = self.run_blocking(move |engine| Ok(engine.store().finish_reply(handle, &draft)?));
            let source = match saved.await {
                Ok(()) => {
                    observer.update(Update::Saved);
                    return Ok(());
                }
                Err(EngineError::Store(source)) => source,
                Err(other) => return Err(other.into()),
            };
            observer.update(Update::NotSaved { reason: error_chain(&source) });
            if !may_retry(&source) || Instant::now() >= deadline {
                return Err(SendError::ReplyNotSaved { reply: Box::new(reply.clone()), source });
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Calls the hook for the end of a run, and saves the plugin states if the hook changed them.
    pub(crate) async fn run_completed(
        &self,
        session: SessionId,
        branch: BranchId,
        snapshot: &RunSnapshot,
        saved: &PluginStates,
    ) -> Result<(), EngineError> {
        self.hooks().on_run_complete(session, snapshot).await;
        match self.hooks().session_state(session) {
            Some(states) if states != *saved => {
                self.run_blocking(move |engine| Ok(engine.store().save_branch_plugins(branch, &states)?))
                    .await
            }
            _ => Ok(()),
        }
    }
}

/// Reports that the record of a run was not saved. The messages of the exchange are saved independently of it.
fn report_unsaved_run(saved: Result<(), EngineError>, observer: &dyn Observer) {
    if let Err(error) = saved {
        observer.update(Update::CheckpointFailed { reason: error.to_string() });
    }
}

/// Saves the streamed text until `done` is cancelled, so that each delta is durable after about one flush interval.
///
/// Text that cannot be saved is retried. Text that is unsaved at the end is saved with the whole reply.
async fn save_while_streaming(
    engine: Engine,
    recorder: Arc<Recorder>,
    handle: ReplyHandle,
    observer: Arc<dyn Observer>,
    done: CancellationToken,
) {
    let interval = engine.settings().flush_interval;
    let mut is_failing = false;
    loop {
        tokio::select! {
            () = recorder.delta_arrived.notified() => {}
            () = done.cancelled() => break,
        }
        // Collect the deltas of one interval, so that a fast stream needs few transactions.
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = done.cancelled() => break,
        }
        let deltas = recorder.take_unsaved();
        if deltas.is_empty() {
            continue;
        }
        let attempt = deltas.clone();
        match engine.run_blocking(move |engine| Ok(engine.store().extend_reply(handle, &attempt)?)).await {
            Ok(()) => {
                is_failing = false;
                observer.update(Update::Saved);
            }
            // The reply may have been finalized during the call.
            Err(_) if done.is_cancelled() => break,
            Err(error) => {
                if !is_failing {
                    observer.update(Update::NotSaved { reason: error.to_string() });
                }
                is_failing = true;
                recorder.return_unsaved(deltas);
                recorder.delta_arrived.notify_one();
            }
        }
    }
}

/// Stores the checkpoints of a run in order, or removes them, without delaying the run. After an error, continues with the next one.
async fn store_checkpoints(
    engine: Engine,
    mut checkpoints: mpsc::UnboundedReceiver<CheckpointChange>,
    observer: Arc<dyn Observer>,
) {
    let retention = engine.settings().checkpoint_retention;
    while let Some(change) = checkpoints.recv().await {
        let stored = engine.run_blocking(move |engine| {
            match change {
                CheckpointChange::Store(draft) => {
                    engine.store().create_checkpoint(&draft, retention)?;
                }
                CheckpointChange::Withdraw(ids) if ids.is_empty() => {}
                CheckpointChange::Withdraw(ids) => engine.store().withdraw_checkpoints(&ids)?,
            }
            Ok(())
        });
        if let Err(error) = stored.await {
            observer.update(Update::CheckpointFailed { reason: error.to_string() });
        }
    }
}

/// Passes the events of a run to the hooks, without delaying the run.
async fn forward_events(
    hooks: Arc<dyn Hooks>,
    session: SessionId,
    mut events: mpsc::UnboundedReceiver<Arc<Event>>,
) {
    while let Some(event) = events.recv().await {
        hooks.on_event(session, &event).await;
    }
}

/// Whether a later attempt may succeed: the store may become available, or the user may correct its permissions.
pub fn may_retry(error: &StoreError) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Denied)
}

/// Delays between the attempts to save a final reply.
pub fn save_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(200), Duration::from_millis(3_200))
}

/// Replaces the text parts of a message with one part and stores the original text in the message's fields.
fn replace_text(message: &mut MessageDraft, rewritten: String) {
    let original = message.text();
    if original == rewritten {
        return;
    }
    message.extra.insert(ORIGINAL_TEXT.to_owned(), Value::String(original));
    let is_text = |part: &Part| matches!(part, Part::Text { .. });
    let index = message.parts.iter().position(is_text).unwrap_or(0);
    message.parts.retain(|part| !is_text(part));
    message.parts.insert(index, Part::text(rewritten));
}

fn run_ending(failure: Option<&AgentError>) -> RunEnding {
    match failure {
        None => RunEnding::Completed,
        Some(AgentError::Cancelled) => RunEnding::Cancelled,
        Some(_) => RunEnding::Failed,
    }
}
