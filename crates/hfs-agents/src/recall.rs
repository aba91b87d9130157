//! The offline agent: answers from the user's own saved sessions, by full-text search.

mod answer;
mod passage;
mod question;
mod retrieve;

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use hfs_core::{
    Agent, AgentDescription, AgentError, AgentStatus, DeltaKind, EventPayload, MessageId, PageRequest, Part,
    PassthroughFields, ReplyDelta, Role, RunOutcome, RunRequest, RunSink, SessionFilter, SessionId, Store,
    StoreResult,
};
use serde_json::json;

pub(crate) use answer::{quoted, set_up};
pub(crate) use question::Question;
pub(crate) use retrieve::{Found, Passage, retrieve};

/// The id under which this agent appears in events and messages.
pub(crate) const ID: &str = "recall";
/// Agents whose replies may have come from here.
const OFFLINE_AGENTS: [&str; 2] = [ID, "triads"];
/// How many passages an answer quotes.
const QUOTED: usize = 5;

/// Answers by quoting saved sessions. The same question to the same store gives the same answer.
pub struct Recall {
    store: Arc<dyn Store>,
    why: Option<String>,
}

impl Recall {
    /// A recall over everything in this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, why: None }
    }

    /// Says why no model was chosen, for [`AgentDescription::summary`].
    #[must_use]
    pub fn chosen_because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    async fn found(&self, asked: Asked) -> Result<(Question, Found, bool), AgentError> {
        let store = Arc::clone(&self.store);
        let searching = tokio::task::spawn_blocking(move || -> StoreResult<_> {
            let question = Question::read(&asked.text);
            let found = retrieve(&*store, &question, asked.message, QUOTED)?;
            let empty = found.passages.is_empty() && holds_nothing_but(&*store, asked.session)?;
            Ok((question, found, empty))
        });
        match searching.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(AgentError::Internal { message: format!("cannot search: {error}") }),
            Err(_) => Err(AgentError::Internal { message: "the search broke off".into() }),
        }
    }
}

/// What is asked, by which message, in which session.
struct Asked {
    text: String,
    message: Option<MessageId>,
    session: SessionId,
}

impl Asked {
    fn in_request(request: &RunRequest) -> Self {
        let asking = request.history.iter().rev().find(|message| message.content.role == Role::User);
        Self {
            text: asking.map(|message| message.content.text()).unwrap_or_default(),
            message: asking.map(|message| message.content.id),
            session: request.session,
        }
    }
}

/// Whether this session is the only one.
fn holds_nothing_but(store: &dyn Store, session: SessionId) -> StoreResult<bool> {
    let newest = store.list_sessions(&SessionFilter::default(), &PageRequest::first(2))?;
    Ok(newest.items.iter().all(|summary| summary.session.id == session))
}

/// Where the passages stand, to be kept with a reply.
pub(crate) fn references(found: &Found) -> PassthroughFields {
    let references: Vec<_> = found
        .passages
        .iter()
        .map(|passage| {
            let hit = &passage.hit;
            json!({"session": hit.session, "branch": hit.branch, "message": hit.message, "seq": hit.seq})
        })
        .collect();
    let mut extra = PassthroughFields::new();
    if !references.is_empty() {
        extra.insert("references".into(), references.into());
    }
    extra
}

#[async_trait]
impl Agent for Recall {
    fn describe(&self) -> AgentDescription {
        let summary = self
            .why
            .clone()
            .unwrap_or_else(|| "a search over your saved sessions, used while no model is set up".to_owned());
        AgentDescription::new(ID, summary)
    }

    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        let began = Instant::now();
        sink.event(EventPayload::AgentStarted {
            agent: ID.to_owned(),
            role: ID.to_owned(),
            triad: None,
            preset: None,
            model: None,
        });
        let found = tokio::select! {
            biased;
            () = request.cancel.cancelled() => Err(AgentError::Cancelled),
            found = self.found(Asked::in_request(&request)) => found,
        };
        let outcome = found.map(|(question, found, empty)| {
            let mut text = String::new();
            for piece in answer::pieces(&question, &found, empty) {
                text.push_str(&piece);
                sink.reply(ReplyDelta::text(piece));
            }
            RunOutcome::new(vec![Part::text(text)]).with_extra(references(&found))
        });
        let status = match &outcome {
            Ok(_) => AgentStatus::Complete,
            Err(AgentError::Cancelled) => AgentStatus::Idle,
            Err(error) => {
                let message = error.to_string();
                sink.event(EventPayload::ErrorOccurred { agent: Some(ID.to_owned()), phase: None, message });
                AgentStatus::Blocked
            }
        };
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        sink.event(EventPayload::AgentEnded { agent: ID.to_owned(), status, duration_ms });
        outcome
    }
}
