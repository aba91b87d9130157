//! What may listen to and change a conversation as it goes: the port behind which plugins live.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::Value;

use crate::{Event, RunSnapshot, SessionId};

/// What the hooks say of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as it is.
    Pass,
    /// It goes on as this text; the original is kept beside it.
    Replace(String),
    /// It stops here.
    Reject {
        /// Who rejected it.
        plugin: String,
        /// Why.
        reason: String,
    },
}

/// Lifecycle hooks. An implementation never fails towards its caller: what goes wrong in a plugin is that
/// plugin's affair, and the message goes on as if the plugin were not there.
#[async_trait]
pub trait Hooks: Send + Sync {
    /// A session was opened or begun.
    async fn on_start(&self, session: SessionId);

    /// A message is about to be saved.
    async fn on_message(&self, session: SessionId, text: &str, is_user: bool) -> Verdict;

    /// An event happened.
    async fn on_event(&self, session: SessionId, event: &Event);

    /// A run ended.
    async fn on_run_complete(&self, session: SessionId, snapshot: &RunSnapshot);

    /// The session is being left.
    async fn on_exit(&self, session: SessionId);

    /// What each plugin keeps for this session, by plugin name: its share of a checkpoint's state. `None` where
    /// nobody here keeps track of the session; then what is stored of it stays as it is. Cheap.
    fn session_state(&self, session: SessionId) -> Option<BTreeMap<String, Value>>;

    /// Puts back what [`session_state`](Self::session_state) gave at the moment that is being returned to.
    fn restore_state(&self, session: SessionId, state: &BTreeMap<String, Value>);
}

/// No hooks at all.
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

    fn session_state(&self, _session: SessionId) -> Option<BTreeMap<String, Value>> {
        None
    }

    fn restore_state(&self, _session: SessionId, _state: &BTreeMap<String, Value>) {}
}
