//! Sending a message: saves it, runs the agent, and saves the reply while it streams.

use std::sync::Arc;
use std::time::Duration;

use hfs_core::{
    AgentError, Attachment, Backoff, BranchId, CheckpointState, ContextUpdate, ErrorExt, ErrorKind, Event,
    EventPayload, Hooks, Message, MessageDraft, MessageStatus, ModelContext, Part, PassthroughFields,
    PluginStates, Position, Role, Run, RunEnding, RunId, RunOutcome, RunRequest, RunSink, RunSnapshot, Seq,
    SessionDraft, SessionId, StoreError, StoreResult, Verdict, automatic_name, error_chain,
};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::compaction::ContextResult;
use crate::context::AgentContext;
use crate::recorder::{CheckpointChange, Recorder, RecorderParts};
use crate::reply_guard::{ExchangeScope, OpenReply, ReplyGuard, interrupt_turn};
use crate::turn::Turn;
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
    /// What a session that begins with this message is named after, if it is not the text.
    pub title: Option<String>,
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
        Self { text, attachments: Vec::new(), title: None }
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
        // A guard may have removed a secret from the text. It may be in the title, too.
        if let Some(title) = self.title.as_ref().filter(|_| text == self.text) {
            return title.clone();
        }
        if !text.trim().is_empty() {
            return text;
        }
        let names = self.attachments.iter().map(|file| match file.media_type.split_once('/') {
            Some(("image", _)) => format!("picture {}", file.name),
            _ => file.name.clone(),
        });
        names.collect::<Vec<_>>().join(", ")
    }
}

/// A message and its reply, as they were saved.
#[derive(Debug)]
pub struct Exchange {
    /// The user's message.
    pub user: Message,
    /// The messages of the agent's turn before the reply: what it said, the tools it called, and their results. Empty for an
    /// agent that uses no tools.
    pub earlier: Vec<Message>,
    /// The last message of the turn; interrupted if the agent failed or was cancelled.
    pub reply: Message,
    /// The run.
    pub run: Run,
    /// The agent's error, if the reply is not complete.
    pub failure: Option<AgentError>,
}

impl Exchange {
    /// All messages after the user's.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &Message> {
        self.earlier.iter().chain(std::iter::once(&self.reply))
    }
}

/// Moves the conversation to the end of a turn, also if the future of the exchange is dropped: the guard then saves all
/// messages that the recorder has.
struct TurnPlace<'c> {
    conversation: &'c mut Conversation,
    /// `None` after the end of the turn.
    recorder: Option<Arc<Recorder>>,
}

impl TurnPlace<'_> {
    /// Moves the conversation to the newest message that the store has.
    fn end(&mut self, head: Seq) {
        self.recorder = None;
        self.move_to(head);
    }

    fn move_to(&mut self, head: Seq) {
        if let Some((_, at)) = &mut self.conversation.place {
            at.head = head;
        }
    }
}

impl Drop for TurnPlace<'_> {
    fn drop(&mut self) {
        if let Some(recorder) = self.recorder.take() {
            self.move_to(recorder.with_turn(|turn| turn.last_seq()));
        }
    }
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
        self.run_reply(conversation, session, &scope, message, begun, context, observer, cancel).await
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
        let session = before.map(|(session, _)| session).or(conversation.new_id);
        let session = session.unwrap_or_else(SessionId::generate);
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
        self.run_reply(conversation, session, &scope, user, begun, context, observer, cancel).await
    }

    /// Runs the agent on a reply that has begun.
    #[allow(clippy::too_many_arguments, reason = "the steps before the reply, each with a result of its own")]
    async fn run_reply(
        &self,
        conversation: &mut Conversation,
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
        let branch = guard.handle().branch;
        observer.update(Update::ReplyStarted(description.clone()));

        let run = RunId::generate();
        let (checkpoint_sender, checkpoints) = mpsc::unbounded_channel();
        let (hook_sender, hook_events) = mpsc::unbounded_channel();
        let recorder = Arc::new(Recorder::new(
            RecorderParts {
                session,
                branch,
                answers: Some(user.content.id),
                agent: description.clone(),
                save_timeout: self.settings().save_timeout,
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
            Turn::new(draft, guard.handle().seq),
            run,
        ));
        guard.set_recorder(&recorder);
        let mut place = TurnPlace { conversation, recorder: Some(Arc::clone(&recorder)) };
        let checkpoint_task =
            tokio::spawn(store_checkpoints(self.clone(), checkpoints, guard.head(), Arc::clone(&observer)));
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
        let mut result = self.stream(request_with(history), &recorder, &guard, &observer).await;
        if result.as_ref().is_err_and(AgentError::is_context_refusal)
            && recorder.with_turn(|turn| turn.is_untouched())
            && let Some(shorter) = self.shorter_context(&user, &update).await
        {
            self.record_context(&recorder, &shorter.update);
            result = self.stream(request_with(shorter.messages), &recorder, &guard, &observer).await;
        }
        let failure = end_turn(result, &recorder);
        self.check_messages(session, &recorder).await;
        let ending = run_ending(failure.as_ref());
        guard.turn_ended(ending);
        let saved = self.persist_turn(&guard, &recorder, observer.as_ref()).await;
        place.end(guard.handle().seq);
        // The future cannot be dropped before the next await point, and the blocking call there completes even if it is
        // dropped, so the guard is no longer needed.
        let mut messages = guard.close();
        saved?;

        recorder.run_ended(ending);
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
        let reply = messages
            .pop()
            .ok_or_else(|| EngineError::Background { message: "the turn ended without a message".into() })?;
        Ok(Exchange { user, earlier: messages, reply, run, failure })
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

    /// Runs the agent while another task saves what it writes.
    async fn stream(
        &self,
        request: RunRequest,
        recorder: &Arc<Recorder>,
        guard: &ReplyGuard,
        observer: &Arc<dyn Observer>,
    ) -> Result<RunOutcome, AgentError> {
        let done = CancellationToken::new();
        let writer = tokio::spawn(save_while_streaming(
            self.clone(),
            request.session,
            Arc::clone(recorder),
            guard.open_reply(),
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

    /// Passes the messages that the agent has completed to the hooks.
    async fn check_messages(&self, session: SessionId, recorder: &Recorder) {
        while let Some(mut message) = recorder.with_turn(|turn| turn.next_unchecked().cloned()) {
            let text = message.text();
            // A message of calls says nothing.
            if !text.is_empty() {
                match self.hooks().on_message(session, &text, false).await {
                    Verdict::Replace(rewritten) => replace_text(&mut message, rewritten),
                    // A rejection has no effect, since the user has seen the message while it streamed.
                    Verdict::Pass | Verdict::Reject { .. } => {}
                }
            }
            recorder.with_turn(|turn| turn.set_checked(message));
        }
    }

    /// Saves the end of the turn, with retries until [`Settings::save_timeout`](crate::Settings::save_timeout) has passed.
    async fn persist_turn(
        &self,
        guard: &ReplyGuard,
        recorder: &Recorder,
        observer: &dyn Observer,
    ) -> Result<(), SendError> {
        let deadline = Instant::now() + self.settings().save_timeout;
        let mut backoff = save_backoff();
        loop {
            let source = match self.save_turn(guard.open_reply(), observer).await? {
                Ok(()) => {
                    observer.update(Update::Saved);
                    return Ok(());
                }
                Err(source) => source,
            };
            observer.update(Update::NotSaved { reason: error_chain(&source) });
            if !may_retry(&source) || Instant::now() >= deadline {
                let messages = recorder.with_turn(|turn| turn.unsaved_messages());
                return Err(SendError::ReplyNotSaved { messages, source });
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Saves what the store does not have of a turn, and announces the messages that have ended.
    async fn save_turn(
        &self,
        turn: Arc<OpenReply>,
        observer: &dyn Observer,
    ) -> Result<StoreResult<()>, EngineError> {
        let saving = self.run_blocking(move |engine| Ok(turn.save_turn(engine.store().as_ref())));
        let (ended, saved) = saving.await?;
        for message in ended {
            observer.update(Update::MessageEnded(Arc::new(message)));
        }
        Ok(saved)
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

/// Ends a turn with the agent's result. Returns why its last message is not complete, if it is not.
fn end_turn(result: Result<RunOutcome, AgentError>, recorder: &Recorder) -> Option<AgentError> {
    let RunOutcome { message, incomplete, .. } = match result {
        Ok(outcome) => outcome,
        Err(error) => {
            interrupt_turn(recorder, None, &error);
            return Some(error);
        }
    };
    let failure = incomplete.map(AgentError::Incomplete);
    match &failure {
        None => recorder.with_turn(|turn| turn.end(message)),
        Some(error) => interrupt_turn(recorder, Some(message), error),
    }
    failure
}

/// Saves the turn until `done` is cancelled, so that each delta is durable after about one flush interval, and at once if the
/// agent waits for it.
///
/// What cannot be saved is retried. What is unsaved at the end is saved with the end of the turn.
async fn save_while_streaming(
    engine: Engine,
    session: SessionId,
    recorder: Arc<Recorder>,
    turn: Arc<OpenReply>,
    observer: Arc<dyn Observer>,
    done: CancellationToken,
) {
    let interval = engine.settings().flush_interval;
    let mut is_failing = false;
    loop {
        let is_urgent = tokio::select! {
            () = recorder.save_requested.notified() => true,
            () = recorder.changed.notified() => false,
            () = done.cancelled() => break,
        };
        // Collect the deltas of one interval, so that a fast stream needs few transactions.
        if !is_urgent || is_failing {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = recorder.save_requested.notified(), if !is_failing => {}
                () = done.cancelled() => break,
            }
        }
        engine.check_messages(session, &recorder).await;
        let reason = match engine.save_turn(Arc::clone(&turn), observer.as_ref()).await {
            Ok(Ok(())) => {
                is_failing = false;
                observer.update(Update::Saved);
                continue;
            }
            // The turn may have been finalized during the call.
            _ if done.is_cancelled() => break,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        if !is_failing {
            observer.update(Update::NotSaved { reason });
        }
        is_failing = true;
        recorder.changed.notify_one();
    }
}

/// Stores the checkpoints of a run in order, or removes them, without delaying the run. `head` receives the newest message
/// that was begun in the store. After an error, continues with the next one.
async fn store_checkpoints(
    engine: Engine,
    mut checkpoints: mpsc::UnboundedReceiver<CheckpointChange>,
    mut head: watch::Receiver<Seq>,
    observer: Arc<dyn Observer>,
) {
    let retention = engine.settings().checkpoint_retention;
    while let Some(change) = checkpoints.recv().await {
        if let CheckpointChange::Store(draft) = &change {
            // After messages that could not be saved, the turn ends, and the store refuses the checkpoint.
            let _ = head.wait_for(|head| *head >= draft.seq).await;
        }
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
