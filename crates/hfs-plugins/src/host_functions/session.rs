//! Reading sessions (`session`), from the current branch of each.

use std::sync::Arc;
use std::time::Duration;

use hfs_core::{
    MessageDraft, MessageRange, PageRequest, SessionFilter, SessionId, Store, StoreError, Timestamp,
};
use serde_json::json;

use super::{ErrorCode, HostResult, InstanceState, host_error};
use crate::contract::Import;
use crate::contract::bindings::hfs::plugin::session::Host;
use crate::contract::bindings::hfs::plugin::types::{Error, Message as ContractMessage, SessionInfo};

const MAX_MESSAGES: u32 = 500;
const MAX_SESSIONS: u32 = 200;
const MAX_RUNS: usize = 50;
/// Maximum size of the texts of all returned messages together.
const MAX_TEXT_BYTES: usize = 4 << 20;
/// Time limit of the store.
const MAX_TIME: Duration = Duration::from_secs(2);

impl InstanceState {
    fn read_store<T: Send + 'static>(
        &mut self,
        read: impl FnOnce(&dyn Store) -> HostResult<T> + Send + 'static,
    ) -> HostResult<T> {
        self.authorize(Import::Session)?;
        let store = self.context.store.clone();
        let store: Arc<dyn Store> =
            store.ok_or_else(|| host_error(ErrorCode::NotFound, "no store is open"))?;
        self.run_with_timeout(MAX_TIME, move |_| read(store.as_ref()))
    }
}

fn store_error(error: &StoreError) -> Error {
    match error {
        StoreError::NotFound { .. } => host_error(ErrorCode::NotFound, error.to_string()),
        // The details may contain paths.
        _ => host_error(ErrorCode::Failed, "the store cannot be read now"),
    }
}

fn parse_session(text: &str) -> HostResult<SessionId> {
    text.parse().map_err(|_| host_error(ErrorCode::Invalid, format!("{text:?} is not a session id")))
}

/// Milliseconds since 1970, the unit of times in the contract.
pub(crate) fn millis(time: Timestamp) -> u64 {
    u64::try_from(time.as_micros() / 1_000).unwrap_or(0)
}

fn contract_message(session: &str, message: &MessageDraft) -> ContractMessage {
    ContractMessage {
        id: message.id.to_string(),
        session: session.to_owned(),
        role: message.role.as_str().to_owned(),
        author: message.agent.clone(),
        text: message.text(),
        created_ms: millis(message.created_at),
    }
}

fn messages(store: &dyn Store, session: &str, skip: u32, limit: u32) -> HostResult<Vec<ContractMessage>> {
    let branch = store
        .get_session(parse_session(session)?)
        .map_err(|error| store_error(&error))?
        .session
        .current_branch;
    let head = store.get_branch(branch).map_err(|error| store_error(&error))?.head;
    let range = MessageRange::Before((head + 1).saturating_sub(u64::from(skip)), limit.min(MAX_MESSAGES));
    let mut messages = Vec::new();
    let mut bytes = 0;
    // Starts at the newest message, so that the oldest ones are omitted if the limit is reached.
    for message in store.read_messages(branch, range).map_err(|error| store_error(&error))?.iter().rev() {
        let message = contract_message(session, &message.content);
        bytes += message.text.len();
        if bytes > MAX_TEXT_BYTES && !messages.is_empty() {
            break;
        }
        messages.push(message);
    }
    messages.reverse();
    Ok(messages)
}

fn recent(store: &dyn Store, since_ms: u64, limit: u32) -> HostResult<Vec<SessionInfo>> {
    let page = PageRequest::first(limit.clamp(1, MAX_SESSIONS));
    let found = store.list_sessions(&SessionFilter::default(), &page).map_err(|error| store_error(&error))?;
    let mut sessions = Vec::new();
    for summary in found.items {
        let session = summary.session;
        if millis(session.updated_at) < since_ms {
            break;
        }
        let head = store.get_branch(session.current_branch).map_err(|error| store_error(&error))?.head;
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

fn runs(store: &dyn Store, session: &str, limit: u32) -> HostResult<String> {
    let session = parse_session(session)?;
    let limit = usize::try_from(limit).unwrap_or(MAX_RUNS).min(MAX_RUNS);
    let mut runs = Vec::new();
    for id in store.list_runs(session).map_err(|error| store_error(&error))?.into_iter().rev().take(limit) {
        let run = store.get_run(id).map_err(|error| store_error(&error))?;
        runs.push(json!({
            "id": run.id,
            "started_at": run.started_at,
            "ended_at": run.ended_at,
            "snapshot": run.snapshot,
        }));
    }
    Ok(json!({ "v": 1, "runs": runs }).to_string())
}

impl Host for InstanceState {
    fn current(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.authorize(Import::Session).ok().and(self.call.session).map(|session| session.to_string()))
    }

    fn recent(&mut self, since_ms: u64, limit: u32) -> wasmtime::Result<HostResult<Vec<SessionInfo>>> {
        Ok(self.read_store(move |store| recent(store, since_ms, limit)))
    }

    fn messages(
        &mut self,
        session: String,
        skip: u32,
        limit: u32,
    ) -> wasmtime::Result<HostResult<Vec<ContractMessage>>> {
        Ok(self.read_store(move |store| messages(store, &session, skip, limit)))
    }

    fn runs(&mut self, session: String, limit: u32) -> wasmtime::Result<HostResult<String>> {
        Ok(self.read_store(move |store| runs(store, &session, limit)))
    }
}
