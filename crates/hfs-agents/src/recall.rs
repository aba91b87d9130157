//! The offline agent. It answers from the user's saved sessions, without a model.
//!
//! A question becomes a [`Query`]; [`retrieve`] finds the best [`Passage`]s and removes near-duplicates; this module
//! renders them as Markdown with citations. The same question to the same store always gets the same answer.

mod query;
mod retrieval;

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use hfs_core::{
    Agent, AgentDescription, AgentError, AgentStatus, CompletedMessage, EventPayload, MessageId, PageRequest,
    Part, PassthroughFields, ReplyDelta, Role, RunOutcome, RunRequest, RunSink, SearchHit, SessionFilter,
    SessionId, Store, StoreResult,
};
use serde_json::json;

pub(crate) use query::Query;
pub(crate) use retrieval::{Passage, Retrieved, retrieve};

/// Agent id in events and messages.
pub(crate) const ID: &str = hfs_retrieval::RECALL_AGENT;
const MAX_QUOTED_PASSAGES: usize = 5;

/// Instructions to set up a model, as Markdown. Every answer without a model contains them.
pub(crate) const MODEL_SETUP_HELP: &str = "For answers by a model, set `ANTHROPIC_API_KEY`, `OPENAI_API_KEY` or \
    `GEMINI_API_KEY` in the environment, or start Ollama on this machine; `hfs config set model PROVIDER/MODEL` \
    chooses another one.";

/// An agent that quotes saved sessions.
pub struct Recall {
    store: Arc<dyn Store>,
    /// Why this agent answers instead of a model.
    selection_reason: Option<String>,
}

impl Recall {
    /// Creates an agent that searches all sessions of the store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, selection_reason: None }
    }

    /// Sets why no model is used, which becomes the [`AgentDescription::summary`].
    #[must_use]
    pub fn with_selection_reason(mut self, reason: impl Into<String>) -> Self {
        self.selection_reason = Some(reason.into());
        self
    }

    async fn search(&self, question: AskedQuestion) -> Result<SearchOutcome, AgentError> {
        let store = Arc::clone(&self.store);
        let search = tokio::task::spawn_blocking(move || -> StoreResult<_> {
            let query = Query::parse(&question.text);
            let retrieved = retrieve(&*store, &query, question.message, MAX_QUOTED_PASSAGES)?;
            let nothing_to_search =
                retrieved.passages.is_empty() && is_only_session(&*store, question.session)?;
            Ok(SearchOutcome { query, retrieved, nothing_to_search })
        });
        match search.await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(error)) => Err(AgentError::Internal { message: format!("cannot search: {error}") }),
            Err(_) => Err(AgentError::Internal { message: "the search panicked".into() }),
        }
    }
}

/// The newest user message of a request.
struct AskedQuestion {
    text: String,
    message: Option<MessageId>,
    session: SessionId,
}

impl AskedQuestion {
    fn of_request(request: &RunRequest) -> Self {
        let newest = request.history.iter().rev().find(|message| message.content.role == Role::User);
        Self {
            text: newest.map(|message| message.content.text()).unwrap_or_default(),
            message: newest.map(|message| message.content.id),
            session: request.session,
        }
    }
}

struct SearchOutcome {
    query: Query,
    retrieved: Retrieved,
    /// Set if nothing was found and the store has no session except the one with the question.
    nothing_to_search: bool,
}

fn is_only_session(store: &dyn Store, session: SessionId) -> StoreResult<bool> {
    let newest = store.list_sessions(&SessionFilter::default(), &PageRequest::first(2))?;
    Ok(newest.items.iter().all(|summary| summary.session.id == session))
}

/// The sources of an answer, saved with the reply under `references`.
pub(crate) fn references(passages: &[Passage]) -> PassthroughFields {
    let references: Vec<_> = passages
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
            .selection_reason
            .clone()
            .unwrap_or_else(|| "a search over your saved sessions, used while no model is set up".to_owned());
        AgentDescription::new(ID, summary)
    }

    async fn run(&self, request: RunRequest, sink: &dyn RunSink) -> Result<RunOutcome, AgentError> {
        let started = Instant::now();
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
            found = self.search(AskedQuestion::of_request(&request)) => found,
        };
        let outcome = found.map(|found| {
            let mut text = String::new();
            for paragraph in answer_paragraphs(&found) {
                text.push_str(&paragraph);
                sink.reply(ReplyDelta::text(paragraph));
            }
            let message = CompletedMessage::new(vec![Part::text(text)]);
            RunOutcome::new(message.with_extra(references(&found.retrieved.passages)))
        });
        let status = match &outcome {
            Ok(_) => AgentStatus::Complete,
            Err(AgentError::Cancelled) => AgentStatus::Idle,
            // The engine records the error of the run.
            Err(_) => AgentStatus::Blocked,
        };
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        sink.event(EventPayload::AgentEnded { agent: ID.to_owned(), status, duration_ms });
        outcome
    }
}

/// The answer in Markdown, split into the deltas to stream.
fn answer_paragraphs(found: &SearchOutcome) -> Vec<String> {
    let SearchOutcome { query, retrieved, nothing_to_search } = found;
    if *nothing_to_search {
        return vec![
            "There are no other saved sessions to search yet.\n\n".to_owned(),
            "`recall` is a search over your saved sessions, not a model. Import conversations with \
             `hfs import ~/.claude` (or `~/.codex`, or any export), and ask again.\n\n"
                .to_owned(),
            format!("{MODEL_SETUP_HELP}\n"),
        ];
    }
    let searched = searched_terms(query);
    if retrieved.passages.is_empty() {
        return vec![
            format!("Nothing in your saved sessions matches {searched}.\n\n"),
            "`recall` is a search over your saved sessions, not a model. Try other words or fewer of \
             them. `hfs search` finds messages that contain all words, and `hfs import ~/.claude` imports \
             conversations of other tools.\n\n"
                .to_owned(),
            format!("{MODEL_SETUP_HELP}\n"),
        ];
    }
    let opening = if retrieved.abstained {
        format!("Nothing in your saved sessions has most of {searched}. The closest matches:\n\n")
    } else {
        format!("From your saved sessions, for {searched}:\n\n")
    };
    let mut paragraphs = vec![opening];
    paragraphs
        .extend((1..).zip(&retrieved.passages).map(|(number, passage)| numbered_entry(number, passage)));
    paragraphs.push(format!(
        "---\n\n`recall` is a search over all your saved sessions, not a model. The best matches are \
         quoted above. `hfs session show SESSION` shows a whole session. {MODEL_SETUP_HELP}\n"
    ));
    paragraphs
}

fn searched_terms(query: &Query) -> String {
    let phrases = query.phrases.iter().map(|phrase| format!("\"{}\"", escape_markdown(phrase)));
    let words = query.terms.iter().map(|term| format!("*{}*", escape_markdown(&term.word)));
    words.chain(phrases).collect::<Vec<_>>().join(", ")
}

fn numbered_entry(number: usize, passage: &Passage) -> String {
    let mut entry = format!("{number}. {}\n\n", citation(&passage.hit));
    entry.push_str(&block_quote(&passage.snippet.text));
    if let Some(reply) = &passage.reply {
        entry.push_str("\n   The reply began:\n\n");
        entry.push_str(&block_quote(reply));
    }
    if !passage.duplicates.is_empty() {
        let cited: Vec<String> = passage.duplicates.iter().take(3).map(short_citation).collect();
        let more = passage.duplicates.len().saturating_sub(cited.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        entry.push_str(&format!("\n   Nearly the same in {}{more}.\n", cited.join(", ")));
    }
    entry.push('\n');
    entry
}

/// A passage as a list item: citation and quotation.
pub(crate) fn quote(passage: &Passage) -> String {
    format!("- {}\n\n{}", citation(&passage.hit), block_quote(&passage.snippet.text))
}

/// Session name, short id, message number, role and date.
fn citation(hit: &SearchHit) -> String {
    let day = match hit.created_at.known() {
        Some(at) => at.to_jiff().strftime("%Y-%m-%d").to_string(),
        None => "time unknown".to_owned(),
    };
    format!("**{}** ({}, {}, {day})", escape_markdown(&hit.session_name), short_citation(hit), hit.role)
}

fn short_citation(hit: &SearchHit) -> String {
    format!("`{}` #{}", hit.session.short().shown(), hit.seq)
}

/// A block quotation inside a list item. Each line is prefixed, so quoted Markdown such as an unclosed code
/// fence cannot extend past the quotation.
fn block_quote(text: &str) -> String {
    text.lines().map(|line| format!("   > {}\n", line.trim_end())).collect()
}

fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            escaped.push(' ');
        } else {
            if "\\`*_[]<>#|~".contains(c) {
                escaped.push('\\');
            }
            escaped.push(c);
        }
    }
    escaped
}
