//! Search that scans every message, with the same patterns as the index of the SQLite store.

use std::cmp::Ordering;
use std::ops::Range;

use hfs_core::{
    CandidateMessage, CandidateQuery, CandidateSession, Candidates, Message, SearchHit, SearchIndex,
    SearchQuery, SearchResults, Session, StoreResult, TermFrequency,
};
use hfs_retrieval::{AnalyzedText, Pattern, patterns, patterns_of, snippet};

use super::sessions::matches;
use super::{BranchRow, MemoryStore};

impl SearchIndex for MemoryStore {
    fn search(&self, query: &SearchQuery) -> StoreResult<SearchResults> {
        let terms = patterns_of(&query.terms());
        if terms.is_empty() {
            return Ok(SearchResults::default());
        }
        let data = self.lock();
        let mut hits = Vec::new();
        for row in data.sessions.values().filter(|row| in_scope(query, &row.session)) {
            for branch in data.branches_of(row) {
                for (seq, message) in (branch.branch.forked_at + 1..).zip(&branch.messages) {
                    let message = message.to_message(branch.branch.id, seq);
                    hits.extend(find(query, &terms, &row.session, branch, &message));
                }
            }
        }
        hits.sort_by(|a, b| {
            let by_score = b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal);
            by_score.then_with(|| (b.created_at, b.message).cmp(&(a.created_at, a.message)))
        });
        let total = hits.len() as u64;
        hits.truncate(usize::try_from(query.limit).unwrap_or(usize::MAX));
        Ok(SearchResults { hits, total, unreadable: 0 })
    }

    fn find_candidates(&self, query: &CandidateQuery) -> StoreResult<Candidates> {
        let terms: Vec<Vec<Pattern>> = query.terms.iter().map(patterns).collect();
        let data = self.lock();
        let mut candidates =
            Candidates { frequencies: vec![TermFrequency::default(); terms.len()], ..Candidates::default() };
        for row in data.sessions.values() {
            candidates.sessions += u64::from(row.session.trashed_at.is_none());
            let in_scope = matches(&query.sessions, &row.session);
            let mut words = 0;
            let mut session_terms = vec![false; terms.len()];
            let mut messages = Vec::new();
            for branch in data.branches_of(row) {
                for (seq, message) in (branch.branch.forked_at + 1..).zip(&branch.messages) {
                    let message = message.to_message(branch.branch.id, seq);
                    let text = message.content.searchable_text();
                    let text = AnalyzedText::new(&text);
                    candidates.messages += 1;
                    words += text.words().len() as u64;
                    let has_term: Vec<bool> =
                        terms.iter().map(|patterns| in_scope && !text.find(patterns).is_empty()).collect();
                    let frequencies = candidates.frequencies.iter_mut().zip(&mut session_terms);
                    for ((frequency, in_session), _) in frequencies.zip(&has_term).filter(|(_, has)| **has) {
                        frequency.messages += 1;
                        *in_session = true;
                    }
                    if has_term.contains(&true) && Some(message.content.id) != query.except {
                        let branch_name = branch.branch.name.clone();
                        messages.push(CandidateMessage { branch: message.branch, branch_name, message });
                    }
                }
            }
            for (frequency, _) in candidates.frequencies.iter_mut().zip(session_terms).filter(|(_, has)| *has)
            {
                frequency.sessions += 1;
            }
            candidates.words += words;
            if !messages.is_empty() {
                candidates.found.push(CandidateSession {
                    session: row.session.id,
                    name: row.session.name.clone(),
                    created_at: row.session.created_at,
                    words,
                    messages,
                });
            }
        }
        Ok(candidates)
    }

    /// Does nothing: there is no index.
    fn update_index(&self, progress: &mut dyn FnMut(u64) -> bool) -> StoreResult<()> {
        progress(0);
        Ok(())
    }
}

fn in_scope(query: &SearchQuery, session: &Session) -> bool {
    matches(&query.sessions, session) && query.session.is_none_or(|only| only == session.id)
}

fn find(
    query: &SearchQuery,
    terms: &[Vec<Pattern>],
    session: &Session,
    branch: &BranchRow,
    message: &Message,
) -> Option<SearchHit> {
    if query.role.is_some_and(|role| role != message.content.role)
        || query.since.is_some_and(|since| message.content.created_at < since)
    {
        return None;
    }
    let text = message.content.searchable_text();
    let text = AnalyzedText::new(&text);
    let matches: Vec<Vec<Range<usize>>> = terms.iter().map(|term| text.find(term)).collect();
    if matches.iter().any(Vec::is_empty) {
        return None;
    }
    Some(SearchHit {
        session: session.id,
        session_name: session.name.clone(),
        branch: message.branch,
        branch_name: branch.branch.name.clone(),
        message: message.content.id,
        seq: message.seq,
        role: message.content.role,
        created_at: message.content.created_at,
        snippet: snippet(&text, terms),
        score: score(&matches, text.words().len()),
    })
}

/// Grows with the number of matches of each term, and falls with the length of the text.
#[allow(clippy::cast_precision_loss, reason = "the numbers are far below 2^52")]
fn score(matches: &[Vec<Range<usize>>], length: usize) -> f64 {
    let dampening = 1.0 + length as f64 / 100.0;
    matches.iter().map(|matches| matches.len() as f64 / (matches.len() as f64 + dampening)).sum()
}
