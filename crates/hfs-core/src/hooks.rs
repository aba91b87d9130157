//! The hooks port: plugins that observe and change a conversation.

use async_trait::async_trait;

use crate::{Event, PluginStates, RunSnapshot, SessionId};

/// Decision of the hooks about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The message continues unchanged.
    Pass,
    /// The message continues with this text; the original is kept with it.
    Replace(String),
    /// The message is not saved. Has no effect on a reply, which the user has seen while it streamed.
    Reject {
        /// Name of the plugin that rejected it.
        plugin: String,
        /// Human-readable reason.
        reason: String,
    },
}

/// Lifecycle hooks.
///
/// No method fails: an implementation handles a failing plugin itself, and the message continues as if that plugin
/// did not exist.
#[async_trait]
pub trait Hooks: Send + Sync {
    /// Called after a session was opened or created.
    async fn on_start(&self, session: SessionId);

    /// Called before a message is saved.
    async fn on_message(&self, session: SessionId, text: &str, is_user: bool) -> Verdict;

    /// Called after an event was recorded.
    async fn on_event(&self, session: SessionId, event: &Event);

    /// Called after a run ended.
    async fn on_run_complete(&self, session: SessionId, snapshot: &RunSnapshot);

    /// Called when a session is closed.
    async fn on_exit(&self, session: SessionId);

    /// State of each plugin for this session, for checkpoints. `None` if the session is not open in this process; its
    /// stored state is then kept. Called at every checkpoint, so it must be cheap.
    fn session_state(&self, session: SessionId) -> Option<PluginStates>;

    /// Replaces the state of every plugin for this session, for example after a rewind.
    fn restore_state(&self, session: SessionId, states: &PluginStates);

    /// Frees the state of every plugin for this session, which was closed and whose state is stored. Late calls of plugins for
    /// the session change nothing until the state is restored.
    fn release_state(&self, session: SessionId);
}

/// Hooks that do nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

#[async_trait]
impl Hooks for NoHooks {
    async fn on_start(&self, _session: SessionId) {}

    async fn on_message(&self, _session: SessionId, _text: &str, _is_user: bool) -> Verdict {
        Verdict::Pass
    }

    async fn on_event(&self, _session: SessionId, _event: &Event) {}

    async fn on_run_complete(&self, _session: SessionId, _snapshot: &RunSnapshot) {}

    async fn on_exit(&self, _session: SessionId) {}

    fn session_state(&self, _session: SessionId) -> Option<PluginStates> {
        None
    }

    fn restore_state(&self, _session: SessionId, _states: &PluginStates) {}

    fn release_state(&self, _session: SessionId) {}
}
