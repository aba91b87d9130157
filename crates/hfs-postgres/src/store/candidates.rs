//! Candidates for the ranking of [`hfs_retrieval::recall`].
//!
//! The places of the terms are read from the text index, the newest of each term. Only sessions and messages with the
//! largest share of the question are then read from their tables, so that the time depends on the frequency of the terms
//! and on the limits below, not on the size of the store.

use std::collections::{BTreeMap, HashMap, HashSet};

use hfs_core::{CandidateMessage, CandidateQuery, CandidateSession, Candidates, SessionId, TermFrequency};
use hfs_retrieval::{AnalyzedText, Pattern, patterns};
use uuid::Uuid;

use crate::db::Tx;
use crate::db::value::{Columns as _, Value, values};
use crate::error::Result;
use crate::store::lookup::{self, BranchRecord, LISTED, Place};
use crate::store::sessions::Condition;
use crate::store::{messages, text_index};

/// Maximum number of places of a term that are kept, newest first. A term with more is too common to find candidates by
/// it.
const MAX_ENTRIES: usize = 20_000;
/// Maximum number of messages that are considered. Common terms only add to those that rarer terms have found.
const MAX_MESSAGES: usize = 60_000;
/// Maximum number of sessions whose messages are read.
const MAX_SESSIONS: usize = 60;
/// Maximum number of messages and bytes that are read, of each session and in all.
const MAX_MESSAGES_PER_SESSION: usize = 48;
const MAX_READ_MESSAGES: usize = 1_500;
const MAX_READ_BYTES: u64 = 4 * 1024 * 1024;
/// A longer message is left out: its length says more about it than the terms that it contains.
const MAX_MESSAGE_BYTES: u64 = 512 * 1024;

pub(crate) fn find(tx: &Tx, query: &CandidateQuery) -> Result<Candidates> {
    let sql = format!(
        "SELECT coalesce(sum(messages), 0)::bigint, count(*) FILTER (WHERE state = $1), coalesce(sum(words), 0)::bigint
            FROM activity WHERE {}",
        tx.owner_condition()
    );
    let totals = tx.one(&sql, &values![LISTED])?;
    let mut candidates = Candidates {
        messages: totals.count(0)?,
        sessions: totals.count(1)?,
        words: totals.count(2)?,
        ..Candidates::default()
    };
    let terms: Vec<Vec<Pattern>> = query.terms.iter().map(patterns).collect();
    let mut entries = Vec::with_capacity(terms.len());
    for patterns in &terms {
        let places = if patterns.is_empty() { Vec::new() } else { places_of(tx, query, patterns)? };
        let sessions: HashSet<Uuid> = places.iter().map(|place| place.session).collect();
        candidates
            .frequencies
            .push(TermFrequency { messages: places.len() as u64, sessions: sessions.len() as u64 });
        entries.push(places);
    }
    let all: Vec<Pattern> = terms.into_iter().flatten().collect();
    let mut budget = Budget { messages: MAX_READ_MESSAGES, bytes: MAX_READ_BYTES };
    for session in best_sessions(&entries, candidates.messages) {
        let found = read_session(tx, &session, query, &all, &mut budget, &mut candidates.unreadable)?;
        candidates.found.extend(found);
    }
    Ok(candidates)
}

/// The newest messages in scope in which a term may match.
fn places_of(tx: &Tx, query: &CandidateQuery, patterns: &[Pattern]) -> Result<Vec<Place>> {
    let mut condition = Condition::of(tx, &query.sessions);
    let words = condition.add(Value::Text(Some(text_index::expression(patterns).into())));
    let entries = text_index::entries_with(tx, &words, false);
    let limit = condition.add(MAX_ENTRIES.into());
    let sql = format!(
        "SELECT message_text.session, message_text.branch, message_text.seq FROM {entries} AS message_text
            JOIN activity ON activity.session = message_text.session
            JOIN session ON session.id = message_text.session
            WHERE {}
            ORDER BY message_text.session DESC, message_text.branch DESC, message_text.seq DESC LIMIT {limit}",
        condition.sql
    );
    tx.rows(&sql, &condition.values)?.iter().map(Place::from_row).collect()
}

/// The weight of a term. The ranking computes a better one; this one orders candidates.
fn weight(messages: u64, with: usize) -> f64 {
    let float = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    (1.0 + float(messages) / (float(with as u64) + 1.0)).ln()
}

/// The bit that stands for a term. Terms after the 32nd have none.
fn bit_of(term: usize) -> u32 {
    u32::try_from(term).ok().and_then(|term| 1_u32.checked_shl(term)).unwrap_or(0)
}

/// A session with its best messages, best first.
struct SessionCandidates {
    session: Uuid,
    /// Weight of the terms that occur anywhere in it, and of those in its best message.
    score: f64,
    messages: Vec<(Place, f64)>,
}

/// The sessions with the largest share of the terms, best first.
fn best_sessions(entries: &[Vec<Place>], total: u64) -> Vec<SessionCandidates> {
    let mut rarest_first: Vec<usize> = (0..entries.len()).collect();
    rarest_first.sort_by_key(|term| entries.get(*term).map_or(0, Vec::len));
    let mut messages: HashMap<Place, u32> = HashMap::new();
    let mut weights = vec![0.0; entries.len()];
    for term in rarest_first {
        let places = entries.get(term).map(Vec::as_slice).unwrap_or_default();
        if let Some(term_weight) = weights.get_mut(term) {
            *term_weight = weight(total, places.len());
        }
        let bit = bit_of(term);
        let is_full = messages.len() + places.len() > MAX_MESSAGES;
        for place in places {
            if !is_full {
                *messages.entry(*place).or_default() |= bit;
            } else if let Some(found) = messages.get_mut(place) {
                *found |= bit;
            }
        }
    }
    let weight_of = |terms: u32| -> f64 {
        let weights = weights.iter().enumerate().filter(|(term, _)| terms & bit_of(*term) != 0);
        weights.map(|(_, weight)| weight).sum()
    };
    let mut sessions: HashMap<Uuid, (u32, Vec<(Place, f64)>)> = HashMap::new();
    for (place, terms) in messages {
        let session = sessions.entry(place.session).or_default();
        session.0 |= terms;
        session.1.push((place, weight_of(terms)));
    }
    let mut best: Vec<SessionCandidates> = sessions
        .into_iter()
        .map(|(session, (terms, mut messages))| {
            messages.sort_by(|(a_place, a), (b_place, b)| b.total_cmp(a).then_with(|| b_place.cmp(a_place)));
            let score = weight_of(terms) + messages.first().map_or(0.0, |(_, weight)| *weight);
            messages.truncate(MAX_MESSAGES_PER_SESSION);
            SessionCandidates { session, score, messages }
        })
        .collect();
    best.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| b.session.cmp(&a.session)));
    best.truncate(MAX_SESSIONS);
    best
}

/// What may still be read.
struct Budget {
    messages: usize,
    bytes: u64,
}

/// Reads the best messages of a session, as far as the budget allows. `None` if none of them has any of the terms.
fn read_session(
    tx: &Tx,
    candidates: &SessionCandidates,
    query: &CandidateQuery,
    terms: &[Pattern],
    budget: &mut Budget,
    unreadable: &mut u64,
) -> Result<Option<CandidateSession>> {
    let session = candidates.session;
    let row = tx.one(
        "SELECT session.name, session.created_at, activity.words FROM session
            JOIN activity ON activity.session = session.id WHERE session.id = $1",
        &values![session],
    )?;
    let mut branches: BTreeMap<i64, BranchRecord> = BTreeMap::new();
    let mut found = Vec::new();
    for (place, _) in &candidates.messages {
        let sql = "SELECT octet_length(body) FROM message WHERE session = $1 AND branch = $2 AND seq = $3";
        let Some(bytes) = tx.row(sql, &place.values())?.map(|row| row.count(0)).transpose()? else {
            continue;
        };
        if bytes > MAX_MESSAGE_BYTES || budget.messages == 0 || budget.bytes < bytes {
            continue;
        }
        budget.messages -= 1;
        budget.bytes -= bytes;
        let branch = match branches.get(&place.branch) {
            Some(branch) => branch.clone(),
            None => lookup::branch_by_no(tx, session, place.branch)?,
        };
        branches.insert(place.branch, branch.clone());
        match messages::message_at(tx, branch.id, *place) {
            Err(error) if error.is_corruption() => {
                tracing::warn!(%error, "a damaged message is not shown");
                *unreadable += 1;
            }
            message => {
                let Some(message) = message? else { continue };
                let text = message.content.searchable_text();
                // The index has no phrases.
                let matches = !AnalyzedText::new(&text).find(terms).is_empty();
                if matches && Some(message.content.id) != query.except {
                    found.push((
                        *place,
                        CandidateMessage { branch: branch.id, branch_name: branch.name, message },
                    ));
                }
            }
        }
    }
    found.sort_by_key(|(place, _)| *place);
    if found.is_empty() {
        return Ok(None);
    }
    Ok(Some(CandidateSession {
        session: SessionId::from_uuid(session),
        name: row.text(0)?,
        created_at: row.time(1)?,
        words: row.count(2)?,
        messages: found.into_iter().map(|(_, message)| message).collect(),
    }))
}
