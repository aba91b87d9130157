//! Reading sessions.

use std::sync::Arc;
use std::time::Duration;

use hfs_core::{Message, MessageRange, PageRequest, SessionFilter, SessionId, Store, StoreError, Timestamp};
use serde_json::json;

use super::{Answer, GuestState, refusal};
use crate::capability::Import;
use crate::contract::hfs::plugin::session::Host;
use crate::contract::hfs::plugin::types::{Message as GuestMessage, SessionInfo};

const MOST_MESSAGES: u32 = 500;
const MOST_SESSIONS: u32 = 200;
const MOST_RUNS: usize = 50;
/// What one answer may hold, in bytes of text.
const MOST_TEXT: usize = 4 << 20;
/// How long the store may take.
const LONGEST: Duration = Duration::from_secs(2);

impl GuestState {
    fn ask_store<T: Send + 'static>(
        &mut self,
        ask: impl FnOnce(&dyn Store) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        self.enter(Import::Session)?;
        let store = self.services.store.clone();
        let store: Arc<dyn Store> = store.ok_or_else(|| refusal("not-found", "no store is open"))?;
        self.bounded(LONGEST, move |_| ask(store.as_ref()))
    }
}

fn told(error: &StoreError) -> super::Error {
    match error {
        StoreError::NotFound { .. } => refusal("not-found", error.to_string()),
        _ => refusal("failed", "the store cannot be read now"),
    }
}

fn session_id(text: &str) -> Answer<SessionId> {
    text.parse().map_err(|_| refusal("invalid", format!("{text:?} is not a session's id")))
}

/// Milliseconds since 1970, for the guest.
pub(crate) fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_micros() / 1_000).unwrap_or(0)
}

fn guest_message(session: &str, message: &Message) -> GuestMessage {
    GuestMessage {
        id: message.content.id.to_string(),
        session: session.to_owned(),
        role: message.content.role.as_str().to_owned(),
        author: message.content.agent.clone(),
        text: message.content.text(),
        created_ms: millis(message.content.created_at),
    }
}

fn messages(store: &dyn Store, session: &str, skip: u32, limit: u32) -> Answer<Vec<GuestMessage>> {
    let branch =
        store.get_session(session_id(session)?).map_err(|error| told(&error))?.session.current_branch;
    let head = store.get_branch(branch).map_err(|error| told(&error))?.head;
    let range = MessageRange::Before((head + 1).saturating_sub(u64::from(skip)), limit.min(MOST_MESSAGES));
    let mut messages = Vec::new();
    let mut bytes = 0;
    for message in store.read_messages(branch, range).map_err(|error| told(&error))?.iter().rev() {
        let message = guest_message(session, message);
        bytes += message.text.len();
        if bytes > MOST_TEXT && !messages.is_empty() {
            break;
        }
        messages.push(message);
    }
    messages.reverse();
    Ok(messages)
}

fn recent(store: &dyn Store, since_ms: u64, limit: u32) -> Answer<Vec<SessionInfo>> {
    let page = PageRequest::first(limit.clamp(1, MOST_SESSIONS));
    let found = store.list_sessions(&SessionFilter::default(), &page).map_err(|error| told(&error))?;
    let mut sessions = Vec::new();
    for summary in found.items {
        let session = summary.session;
        if millis(session.updated_at) < since_ms {
            break;
        }
        let head = store.get_branch(session.current_branch).map_err(|error| told(&error))?.head;
        sessions.push(SessionInfo {
            id: session.id.to_string(),
            name: session.name,
            messages: head,
            created_ms: millis(session.created_at),
            updated_ms: millis(session.updated_at),
        });
    }
    Ok(sessions)
}

fn runs(store: &dyn Store, session: &str, limit: u32) -> Answer<String> {
    let session = session_id(session)?;
    let limit = usize::try_from(limit).unwrap_or(MOST_RUNS).min(MOST_RUNS);
    let mut runs = Vec::new();
    for id in store.list_runs(session).map_err(|error| told(&error))?.into_iter().rev().take(limit) {
        let run = store.get_run(id).map_err(|error| told(&error))?;
        runs.push(json!({
            "id": run.id,
            "started_at": run.started_at,
            "ended_at": run.ended_at,
            "snapshot": run.snapshot,
        }));
    }
    Ok(json!({ "v": 1, "runs": runs }).to_string())
}

impl Host for GuestState {
    fn current(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.enter(Import::Session).ok().and(self.call.session).map(|session| session.to_string()))
    }

    fn recent(&mut self, since_ms: u64, limit: u32) -> wasmtime::Result<Answer<Vec<SessionInfo>>> {
        Ok(self.ask_store(move |store| recent(store, since_ms, limit)))
    }

    fn messages(
        &mut self,
        session: String,
        skip: u32,
        limit: u32,
    ) -> wasmtime::Result<Answer<Vec<GuestMessage>>> {
        Ok(self.ask_store(move |store| messages(store, &session, skip, limit)))
    }

    fn runs(&mut self, session: String, limit: u32) -> wasmtime::Result<Answer<String>> {
        Ok(self.ask_store(move |store| runs(store, &session, limit)))
    }
}
