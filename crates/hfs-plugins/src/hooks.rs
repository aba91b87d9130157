//! [`Hooks`] for plugins. Each hook calls the plugins that export it, one after another in the order of their names. A
//! plugin that fails or is too slow is skipped and reported to the user.

use std::sync::Arc;

use async_trait::async_trait;
use hfs_core::{Event, Hooks, PluginStates, RunSnapshot, SessionId, Verdict};

use crate::Plugins;
use crate::contract::Export;
use crate::worker::CallKind;

#[async_trait]
impl Hooks for Plugins {
    async fn on_start(&self, session: SessionId) {
        self.started().await;
        let limit = self.inner().limits().hook;
        for (name, worker) in self.inner().running_with(Export::OnStart) {
            let result =
                worker.call(CallKind::OnStart, Some(session), limit, move |guest| guest.on_start(session));
            if let Err(error) = result.await {
                self.inner().notify_failure(&name, CallKind::OnStart, &error);
            }
        }
    }

    /// Each plugin gets the text that the previous plugin returned. The first rejection ends the chain.
    async fn on_message(&self, session: SessionId, text: &str, is_user: bool) -> Verdict {
        self.started().await;
        let limit = self.inner().limits().hook;
        let now = self.inner().clock().now();
        let original: Arc<str> = Arc::from(text);
        let mut current = Arc::clone(&original);
        self.inner().notify_unstarted_message_hooks();
        for (name, worker) in self.inner().running_with(Export::OnMessage) {
            let input = Arc::clone(&current);
            let result = worker.call_urgent(CallKind::OnMessage, Some(session), limit, move |guest| {
                guest.on_message(session, &input, is_user, now)
            });
            match result.await {
                Ok(Some(Verdict::Replace(changed))) => current = Arc::from(changed),
                Ok(Some(Verdict::Pass) | None) => {}
                Ok(Some(verdict @ Verdict::Reject { .. })) => return verdict,
                Err(error) => self.inner().notify_missed_message(&name, &error),
            }
        }
        if current == original { Verdict::Pass } else { Verdict::Replace(current.as_ref().to_owned()) }
    }

    /// Events are queued without waiting, so that a slow plugin does not delay the run. If the plugin's queue is
    /// full, the event is dropped.
    async fn on_event(&self, session: SessionId, event: &Event) {
        let kind = event.payload.kind();
        // Serialized once, and only if a plugin wants the event.
        let mut json: Option<Arc<str>> = None;
        for (name, worker) in self.inner().running_with(Export::OnEvent) {
            if !worker.shared().event_patterns.iter().any(|pattern| pattern.matches(kind)) {
                continue;
            }
            let json = Arc::clone(
                json.get_or_insert_with(|| Arc::from(serde_json::to_string(event).unwrap_or_default())),
            );
            let limit = self.inner().limits().hook;
            let is_queued = worker
                .enqueue(CallKind::OnEvent, session, limit, move |guest| guest.on_event(session, &json));
            if !is_queued {
                tracing::warn!("plugin {name} is too slow for its events; {kind} was dropped");
            }
        }
    }

    async fn on_run_complete(&self, session: SessionId, snapshot: &RunSnapshot) {
        let running = self.inner().running_with(Export::OnRunComplete);
        if running.is_empty() {
            return;
        }
        let limit = self.inner().limits().hook;
        let json: Arc<str> = Arc::from(serde_json::to_string(snapshot).unwrap_or_default());
        for (name, worker) in running {
            let json = Arc::clone(&json);
            let result = worker.call(CallKind::OnRunComplete, Some(session), limit, move |guest| {
                guest.on_run_complete(session, &json)
            });
            if let Err(error) = result.await {
                self.inner().notify_failure(&name, CallKind::OnRunComplete, &error);
            }
        }
    }

    async fn on_exit(&self, session: SessionId) {
        let limit = self.inner().limits().hook;
        for (name, worker) in self.inner().running_with(Export::OnExit) {
            let result =
                worker.call(CallKind::OnExit, Some(session), limit, move |guest| guest.on_exit(session));
            if let Err(error) = result.await {
                self.inner().notify_failure(&name, CallKind::OnExit, &error);
            }
        }
    }

    fn session_state(&self, session: SessionId) -> Option<PluginStates> {
        self.inner().session_states().get(session)
    }

    fn restore_state(&self, session: SessionId, states: &PluginStates) {
        self.inner().session_states().restore(session, states);
    }

    fn release_state(&self, session: SessionId) {
        self.inner().session_states().release(session);
    }
}
