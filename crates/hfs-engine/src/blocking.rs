use std::future::Future;
use std::sync::Arc;

use hfs_core::{Agent, Branch, BranchId, Checkpoint, CheckpointId, Message, Seq, SessionId, Store};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

use crate::{
    CheckpointDiff, Conversation, Engine, EngineError, Exchange, MessageDiff, Observer, OutgoingMessage,
    ReversalPlan, Reversed, RewindPlan, RewindTarget, Rewound, SendError,
};

/// An [`Engine`] for synchronous callers, such as a command line.
///
/// Every method blocks until the [`Engine`] method of the same name is done, and returns its result. Calls inside of an
/// asynchronous task panic, since they would block its runtime; use [`as_async`](Self::as_async) there.
pub struct BlockingEngine {
    engine: Engine,
    runtime: RuntimeSource,
}

enum RuntimeSource {
    Own(Runtime),
    Given(Handle),
}

impl BlockingEngine {
    /// Wraps an engine and creates a single-threaded runtime for it.
    ///
    /// # Errors
    /// `Runtime` if the operating system denies the resources for a runtime.
    pub fn new(engine: Engine) -> Result<Self, EngineError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| EngineError::Runtime { source })?;
        Ok(Self { engine, runtime: RuntimeSource::Own(runtime) })
    }

    /// Wraps an engine to run on an existing runtime. Its methods may be called from threads outside of the runtime and
    /// from its blocking threads.
    #[must_use]
    pub const fn with_handle(engine: Engine, runtime: Handle) -> Self {
        Self { engine, runtime: RuntimeSource::Given(runtime) }
    }

    /// The wrapped engine.
    #[must_use]
    pub const fn as_async(&self) -> &Engine {
        &self.engine
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        match &self.runtime {
            RuntimeSource::Own(runtime) => runtime.block_on(future),
            RuntimeSource::Given(handle) => handle.block_on(future),
        }
    }

    /// See [`Engine::store`].
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        self.engine.store()
    }

    /// See [`Engine::agent`].
    #[must_use]
    pub fn agent(&self) -> &Arc<dyn Agent> {
        self.engine.agent()
    }

    /// See [`Engine::resume`].
    ///
    /// # Errors
    /// Those of the engine's method.
    pub fn resume(&self, session: SessionId, branch: Option<BranchId>) -> Result<Conversation, EngineError> {
        self.block_on(self.engine.resume(session, branch))
    }

    /// See [`Engine::open_session`].
    pub fn open_session(&self, conversation: &Conversation) {
        self.block_on(self.engine.open_session(conversation));
    }

    /// See [`Engine::close_session`].
    pub fn close_session(&self, conversation: &Conversation) {
        self.block_on(self.engine.close_session(conversation));
    }

    /// See [`Engine::persist_plugin_states`].
    ///
    /// # Errors
    /// Those of the engine's method.
    pub fn persist_plugin_states(&self, conversation: &Conversation) -> Result<(), EngineError> {
        self.block_on(self.engine.persist_plugin_states(conversation))
    }

    /// See [`Engine::send`].
    ///
    /// # Errors
    /// Those of the engine's method.
    pub fn send(
        &self,
        conversation: &mut Conversation,
        message: impl Into<OutgoingMessage>,
        observer: Arc<dyn Observer>,
        cancel: CancellationToken,
    ) -> Result<Exchange, SendError> {
        self.block_on(self.engine.send(conversation, message, observer, cancel))
    }

    /// See [`Engine::append_user_message`].
    ///
    /// # Errors
    /// Those of the engine's method.
    pub fn append_user_message(
        &self,
        conversation: &mut Conversation,
        message: impl Into<OutgoingMessage>,
        observer: &dyn Observer,
    ) -> Result<Message, SendError> {
        self.block_on(self.engine.append_user_message(conversation, message, observer))
    }

    /// See [`Engine::generate_reply`].
    ///
    /// # Errors
    /// Those of the engine's method.
    pub fn generate_reply(
        &self,
        conversation: &mut Conversation,
        user: Message,
        observer: Arc<dyn Observer>,
        cancel: CancellationToken,
    ) -> Result<Exchange, SendError> {
        self.block_on(self.engine.generate_reply(conversation, user, observer, cancel))
    }

    /// See [`Engine::plan_rewind`].
    ///
    /// # Errors
    /// Those of the engine's method.
    pub fn plan_rewind(&self, to: impl Into<RewindTarget>) -> Result<RewindPlan, EngineError> {
        self.block_on(self.engine.plan_rewind(to))
    }

    /// See [`Engine::rewind`].
    ///
    /// # Errors
    /// Those of the engine's method.
    pub fn rewind(&self, to: impl Into<RewindTarget>) -> Result<Rewound, EngineError> {
        self.block_on(self.engine.rewind(to))
    }

    /// See [`Engine::fork`].
    ///
    /// # Errors
    /// Those of the engine's method.
    pub fn fork(&self, branch: BranchId, at: Seq, name: Option<&str>) -> Result<Branch, EngineError> {
        self.block_on(self.engine.fork(branch, at, name))
    }

    /// See [`Engine::switch`].
    ///
    /// # Errors
    /// Those of the engine's method.
    pub fn switch(&self, session: SessionId, branch: BranchId) -> Result<Branch, EngineError> {
        self.block_on(self.engine.switch(session, branch))
    }

    /// See [`Engine::checkpoint`].
    ///
    /// # Errors
    /// Those of the engine's method.
    pub fn checkpoint(
        &self,
        conversation: &Conversation,
        label: Option<&str>,
    ) -> Result<Checkpoint, EngineError> {
        self.block_on(self.engine.checkpoint(conversation, label))
    }

    /// See [`Engine::plan_undo`].
    ///
    /// # Errors
    /// Those of the engine's method.
    pub fn plan_undo(&self, session: SessionId) -> Result<ReversalPlan, EngineError> {
        self.block_on(self.engine.plan_undo(session))
    }

    /// See [`Engine::plan_redo`].
    ///
    /// # Errors
    /// Those of the engine's method.
    pub fn plan_redo(&self, session: SessionId) -> Result<ReversalPlan, EngineError> {
        self.block_on(self.engine.plan_redo(session))
    }

    /// See [`Engine::undo`].
    ///
    /// # Errors
    /// Those of the engine's method.
    pub fn undo(&self, session: SessionId) -> Result<Reversed, EngineError> {
        self.block_on(self.engine.undo(session))
    }

    /// See [`Engine::redo`].
    ///
    /// # Errors
    /// Those of the engine's method.
    pub fn redo(&self, session: SessionId) -> Result<Reversed, EngineError> {
        self.block_on(self.engine.redo(session))
    }

    /// See [`Engine::diff_branches`].
    ///
    /// # Errors
    /// Those of the engine's method.
    pub fn diff_branches(&self, a: BranchId, b: BranchId) -> Result<MessageDiff, EngineError> {
        self.block_on(self.engine.diff_branches(a, b))
    }

    /// See [`Engine::diff_checkpoints`].
    ///
    /// # Errors
    /// Those of the engine's method.
    pub fn diff_checkpoints(&self, a: CheckpointId, b: CheckpointId) -> Result<CheckpointDiff, EngineError> {
        self.block_on(self.engine.diff_checkpoints(a, b))
    }
}
