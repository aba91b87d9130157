//! The lifecycle hooks: each plugin in its turn, and none of them in anybody's way.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use hfs_core::{Event, Hooks, PluginStates, RunSnapshot, SessionId, Verdict};
use serde_json::Value;

use crate::Plugins;
use crate::capability::Export;
use crate::guest::convert;

/// The hook that others rely on: what a guard does not see goes on unguarded.
pub(crate) const ON_MESSAGE: &str = "on_message";

#[async_trait]
impl Hooks for Plugins {
    async fn on_start(&self, session: SessionId) {
        self.started().await;
        let limit = self.inner().limits().hook;
        for (name, handle) in self.inner().running_with(Export::OnStart) {
            let answer =
                handle.ask("on_start", Some(session), limit, move |calling| convert::start(calling, session));
            if let Err(error) = answer.await {
                self.inner().tell_failure(&name, "on_start", &error);
            }
        }
    }

    /// Each plugin sees what the one before it made of the text.
    async fn on_message(&self, session: SessionId, text: &str, is_user: bool) -> Verdict {
        self.started().await;
        let limit = self.inner().limits().hook;
        let now = self.inner().clock().now();
        let original: Arc<str> = Arc::from(text);
        let mut current = Arc::clone(&original);
        self.inner().tell_unstarted();
        for (name, handle) in self.inner().running_with(Export::OnMessage) {
            let seen = Arc::clone(&current);
            let answer = handle.ask_first(ON_MESSAGE, Some(session), limit, move |calling| {
                convert::message(calling, session, &seen, is_user, now)
            });
            match answer.await {
                Ok(Some(Verdict::Replace(changed))) => current = Arc::from(changed),
                Ok(Some(Verdict::Pass) | None) => {}
                Ok(Some(verdict @ Verdict::Reject { .. })) => return verdict,
                Err(error) => self.inner().tell_unseen(&name, &error),
            }
        }
        if current == original { Verdict::Pass } else { Verdict::Replace(current.as_ref().to_owned()) }
    }

    /// Nobody waits: what a plugin does not take in time it does not see.
    async fn on_event(&self, session: SessionId, event: &Event) {
        let kind = event.payload.kind();
        let mut text: Option<Arc<str>> = None;
        for (name, handle) in self.inner().running_with(Export::OnEvent) {
            if !handle.shared().patterns.iter().any(|pattern| pattern.matches(kind)) {
                continue;
            }
            let text = Arc::clone(
                text.get_or_insert_with(|| Arc::from(serde_json::to_string(event).unwrap_or_default())),
            );
            let limit = self.inner().limits().hook;
            let told = handle
                .tell("on_event", session, limit, move |calling| convert::event(calling, session, &text));
            if !told {
                tracing::warn!("plugin {name} is behind with its events; {kind} was left out");
            }
        }
    }

    async fn on_run_complete(&self, session: SessionId, snapshot: &RunSnapshot) {
        let running = self.inner().running_with(Export::OnRunComplete);
        if running.is_empty() {
            return;
        }
        let limit = self.inner().limits().hook;
        let text: Arc<str> = Arc::from(serde_json::to_string(snapshot).unwrap_or_default());
        for (name, handle) in running {
            let text = Arc::clone(&text);
            let answer = handle.ask("on_run_complete", Some(session), limit, move |calling| {
                convert::run_complete(calling, session, &text)
            });
            if let Err(error) = answer.await {
                self.inner().tell_failure(&name, "on_run_complete", &error);
            }
        }
    }

    async fn on_exit(&self, session: SessionId) {
        let limit = self.inner().limits().hook;
        for (name, handle) in self.inner().running_with(Export::OnExit) {
            let answer =
                handle.ask("on_exit", Some(session), limit, move |calling| convert::exit(calling, session));
            if let Err(error) = answer.await {
                self.inner().tell_failure(&name, "on_exit", &error);
            }
        }
    }

    fn session_state(&self, session: SessionId) -> Option<PluginStates> {
        self.inner().states().of(session)
    }

    fn restore_state(&self, session: SessionId, state: &PluginStates) {
        self.inner().states().restore(session, state);
    }
}
