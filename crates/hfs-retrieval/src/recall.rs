//! Finds the passages of saved sessions that answer a question.

use hfs_core::{
    BranchId, CandidateQuery, Message, MessageId, SearchIndex, Seq, SessionFilter, SessionId, StoreResult,
};

use crate::question::Question;
use crate::ranking::{Ranking, rank};

/// Below this confidence, nothing is taken to answer the question. `cargo xtask bench recall` reports how many questions
/// with and without an answer are below it.
const MIN_CONFIDENCE: f64 = 0.42;
/// Id of the agent that answers from the saved sessions, and the name of its model in replies of other agents.
pub const RECALL_AGENT: &str = "recall";
/// Id of the agent of triads, which answers like [`RECALL_AGENT`] if no model is set up.
pub const TRIADS_AGENT: &str = "triads";

/// A question to the saved sessions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RecallQuery {
    /// The question, in natural language.
    pub question: String,
    /// Search only the sessions that this filter selects: by default all that are not in the trash.
    pub sessions: SessionFilter,
    /// Leave out this message, which asks the question.
    pub except: Option<MessageId>,
    /// Maximum number of sessions and of passages.
    pub limit: usize,
}

/// What answers a question best.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recalled {
    /// Best first.
    pub sessions: Vec<RecalledSession>,
    /// Best first.
    pub passages: Vec<RecalledPassage>,
    /// Whether nothing answers the question: the best passages contain little of it.
    pub abstained: bool,
    /// How much of the question the best place contains, from 0 to 1; see [`Ranking::confidence`].
    pub confidence: f64,
    /// Number of damaged messages, which are left out.
    pub unreadable: u64,
}

/// A session that may answer a question.
#[derive(Debug, Clone, PartialEq)]
pub struct RecalledSession {
    /// Session id.
    pub session: SessionId,
    /// Its name.
    pub name: String,
    /// Relevance; higher is better. Comparable within one result only.
    pub score: f64,
}

/// A passage that may answer a question.
#[derive(Debug, Clone, PartialEq)]
pub struct RecalledPassage {
    /// Session of the message.
    pub session: SessionId,
    /// Its name.
    pub session_name: String,
    /// Branch of the message.
    pub branch: BranchId,
    /// Name of the branch.
    pub branch_name: String,
    /// The message.
    pub message: Message,
    /// Its place in the branch.
    pub seq: Seq,
    /// Relevance; higher is better. Comparable within one result only.
    pub score: f64,
    /// The part of the message with the most terms of the question.
    pub text: String,
}

/// Finds what answers a question. The same question to the same store has the same answer.
///
/// # Errors
/// Returns any error of the store.
pub fn recall(store: &(impl SearchIndex + ?Sized), query: &RecallQuery) -> StoreResult<Recalled> {
    let question = Question::parse(&query.question);
    let mut candidates = store.find_candidates(&CandidateQuery {
        terms: question.terms.iter().map(|term| term.term.clone()).collect(),
        sessions: query.sessions.clone(),
        except: query.except,
    })?;
    for session in &mut candidates.found {
        session.messages.retain(|candidate| !is_quoting_answer(&candidate.message));
    }
    candidates.found.retain(|session| !session.messages.is_empty());
    let Ranking { sessions, messages, confidence } = rank(&question, &candidates, query.limit);
    let sessions = sessions.into_iter().take(query.limit).map(|ranked| RecalledSession {
        session: ranked.session.session,
        name: ranked.session.name.clone(),
        score: ranked.score,
    });
    let passages = messages.into_iter().map(|ranked| RecalledPassage {
        session: ranked.session.session,
        session_name: ranked.session.name.clone(),
        branch: ranked.candidate.branch,
        branch_name: ranked.candidate.branch_name.clone(),
        message: ranked.candidate.message.clone(),
        seq: ranked.candidate.message.seq,
        score: ranked.score,
        text: ranked.text,
    });
    Ok(Recalled {
        sessions: sessions.collect(),
        passages: passages.collect(),
        abstained: confidence < MIN_CONFIDENCE,
        confidence,
        unreadable: candidates.unreadable,
    })
}

/// Whether the message is an answer that quotes saved sessions. Such an answer only repeats other messages.
///
/// Replies of the recall agent name no model. Replies of triads quote only if no model was set up, and then name the
/// recall agent as their model.
fn is_quoting_answer(message: &Message) -> bool {
    message.content.agent.as_deref().is_some_and(|agent| [RECALL_AGENT, TRIADS_AGENT].contains(&agent))
        && message.content.model.as_deref().is_none_or(|model| model == RECALL_AGENT)
}
