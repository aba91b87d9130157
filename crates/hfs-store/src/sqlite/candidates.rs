//! Candidates for the ranking of [`hfs_retrieval::recall`].
//!
//! The entries of the terms are read from the text index, those of the rarest terms first. Only sessions and messages
//! with the largest share of the question are then read from their tables, so that the time depends on the frequency of
//! the terms and on the limits below, not on the size of the store.

use std::collections::{HashMap, HashSet};

use hfs_core::{
    CandidateMessage, CandidateQuery, CandidateSession, Candidates, SessionFilter, SessionId, TermFrequency,
};
use hfs_retrieval::patterns;
use rusqlite::{Connection, OptionalExtension, params};

use crate::codec::rows::{self, branch_of, message_no};
use crate::db::locks::LivenessProbe;
use crate::db::lookup::{self, BranchRecord};
use crate::error::{Error, Result};
use crate::sqlite::messages;
use crate::sqlite::search::{MAX_EXAMINED, expression, selected_branches, unlisted_branches};
use crate::sqlite::texts::TextReader;

/// Maximum number of index entries of a term that are kept, newest first. A term with more is too common to find
/// candidates by it.
const MAX_ENTRIES: usize = 20_000;
/// Maximum number of messages that are considered. Common terms only add to those that rarer terms have found.
const MAX_MESSAGES: usize = 60_000;
/// Maximum number of branches and sessions whose messages are read.
const MAX_BRANCHES: usize = 200;
const MAX_SESSIONS: usize = 60;
/// Maximum number of messages and bytes that are read, of each session and in all.
const MAX_MESSAGES_PER_SESSION: usize = 48;
const MAX_READ_MESSAGES: usize = 1_500;
const MAX_READ_BYTES: u64 = 4 * 1024 * 1024;
/// A longer message is left out: its length says more about it than the terms that it contains.
const MAX_MESSAGE_BYTES: u64 = 512 * 1024;
/// Number of messages up to which the words of a session are counted; a longer one counts as messages of average length.
const MAX_COUNTED_MESSAGES: u64 = 500;

pub(crate) fn find(conn: &Connection, probe: &LivenessProbe, query: &CandidateQuery) -> Result<Candidates> {
    let totals = Totals::read(conn)?;
    let mut candidates = Candidates {
        messages: totals.messages,
        sessions: totals.sessions,
        words: totals.words,
        ..Candidates::default()
    };
    let scope = Scope::new(conn, query)?;
    let mut entries = Vec::with_capacity(query.terms.len());
    for term in &query.terms {
        let patterns = patterns(term);
        let numbers = if patterns.is_empty() {
            Vec::new()
        } else {
            entries_of(conn, &expression(&patterns), &scope, MAX_ENTRIES)?
        };
        let sessions: HashSet<i64> = numbers.iter().map(|no| branch_of(*no)).collect();
        let (messages, sessions) = (numbers.len() as u64, sessions.len() as u64);
        candidates.frequencies.push(TermFrequency { messages, sessions: sessions.min(totals.sessions) });
        entries.push(numbers);
    }
    let branches = best_branches(&entries, totals.messages);
    let texts = TextReader::new(conn);
    let mut reader = Reader { conn, probe, texts, totals, budget: Budget::default(), unreadable: 0 };
    candidates.found = reader.read_sessions(branches, query)?;
    candidates.unreadable = reader.unreadable;
    Ok(candidates)
}

/// Sizes of the whole index.
#[derive(Debug, Clone, Copy)]
struct Totals {
    messages: u64,
    sessions: u64,
    words: u64,
}

impl Totals {
    fn read(conn: &Connection) -> Result<Self> {
        let sessions = conn
            .prepare_cached("SELECT count(*) FROM session WHERE state = ?1")?
            .query_row([lookup::LISTED], |row| row.get(0))?;
        // FTS5 keeps the number of rows and the number of tokens in each column in this row, as varints.
        let averages: Option<Vec<u8>> = conn
            .prepare_cached("SELECT block FROM message_text_data WHERE id = 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        let mut varints = Varints(averages.as_deref().unwrap_or_default());
        let (messages, words) = (varints.next().unwrap_or(0), varints.next().unwrap_or(0));
        Ok(Self { messages, sessions, words })
    }

    fn words_per_message(self) -> u64 {
        self.words / self.messages.max(1)
    }
}

/// SQLite's variable-length integers: seven bits in each byte but the ninth, the highest ones first.
struct Varints<'b>(&'b [u8]);

impl Iterator for Varints<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let mut value = 0;
        for index in 0..9 {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            if index == 8 {
                return Some(value << 8 | u64::from(*byte));
            }
            value = value << 7 | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                break;
            }
        }
        Some(value)
    }
}

/// The branches whose messages may be candidates.
enum Scope {
    /// All but these.
    Except(HashSet<i64>),
    /// Only these.
    Only(HashSet<i64>),
}

impl Scope {
    fn new(conn: &Connection, query: &CandidateQuery) -> Result<Self> {
        if query.sessions == SessionFilter::default() {
            return unlisted_branches(conn).map(Self::Except);
        }
        let selected = selected_branches(conn, &query.sessions, None)?;
        Ok(Self::Only(selected.into_iter().collect()))
    }

    fn contains(&self, no: i64) -> bool {
        match self {
            Self::Except(branches) => !branches.contains(&branch_of(no)),
            Self::Only(branches) => branches.contains(&branch_of(no)),
        }
    }
}

/// The newest messages in scope with a term, at most `limit`.
fn entries_of(conn: &Connection, expression: &str, scope: &Scope, limit: usize) -> Result<Vec<i64>> {
    let mut statement = conn
        .prepare_cached("SELECT rowid FROM message_text WHERE message_text MATCH ?1 ORDER BY rowid DESC")?;
    let mut rows = statement.query([expression])?;
    let mut numbers = Vec::new();
    let mut examined = 0;
    while let Some(row) = rows.next()? {
        if numbers.len() >= limit || examined >= MAX_EXAMINED {
            break;
        }
        examined += 1;
        let no = row.get(0)?;
        if scope.contains(no) {
            numbers.push(no);
        }
    }
    Ok(numbers)
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

/// A branch with its best messages.
struct BranchCandidates {
    no: i64,
    /// Weight of the terms that occur anywhere in it, and of those in its best message.
    score: f64,
    /// Numbers and weights.
    messages: Vec<(i64, f64)>,
}

/// A branch whose messages are to be read.
struct FoundBranch {
    record: BranchRecord,
    messages: Vec<(i64, f64)>,
}

/// The branches with the largest share of the terms.
fn best_branches(entries: &[Vec<i64>], total: u64) -> Vec<BranchCandidates> {
    let mut rarest_first: Vec<usize> = (0..entries.len()).collect();
    rarest_first.sort_by_key(|term| entries.get(*term).map_or(0, Vec::len));
    let mut messages: HashMap<i64, u32> = HashMap::new();
    let mut weights = vec![0.0; entries.len()];
    for term in rarest_first {
        let numbers = entries.get(term).map(Vec::as_slice).unwrap_or_default();
        if let Some(term_weight) = weights.get_mut(term) {
            *term_weight = weight(total, numbers.len());
        }
        let bit = bit_of(term);
        let is_full = messages.len() + numbers.len() > MAX_MESSAGES;
        for no in numbers {
            if !is_full {
                *messages.entry(*no).or_default() |= bit;
            } else if let Some(found) = messages.get_mut(no) {
                *found |= bit;
            }
        }
    }
    let weight_of = |terms: u32| -> f64 {
        weights
            .iter()
            .enumerate()
            .filter(|(term, _)| terms & bit_of(*term) != 0)
            .map(|(_, weight)| weight)
            .sum()
    };
    let mut branches: HashMap<i64, (u32, Vec<(i64, f64)>)> = HashMap::new();
    for (no, terms) in messages {
        let branch = branches.entry(branch_of(no)).or_default();
        branch.0 |= terms;
        branch.1.push((no, weight_of(terms)));
    }
    let mut best: Vec<BranchCandidates> = branches
        .into_iter()
        .map(|(no, (terms, messages))| {
            let best = messages.iter().map(|(_, weight)| *weight).fold(0.0, f64::max);
            BranchCandidates { no, score: weight_of(terms) + best, messages }
        })
        .collect();
    best.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| b.no.cmp(&a.no)));
    best.truncate(MAX_BRANCHES);
    best
}

/// What may still be read.
struct Budget {
    messages: usize,
    bytes: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { messages: MAX_READ_MESSAGES, bytes: MAX_READ_BYTES }
    }
}

struct Reader<'c> {
    conn: &'c Connection,
    probe: &'c LivenessProbe,
    texts: TextReader<'c>,
    totals: Totals,
    budget: Budget,
    unreadable: u64,
}

impl Reader<'_> {
    /// Reads the sessions of the branches, best first, as far as the budget allows.
    fn read_sessions(
        &mut self,
        branches: Vec<BranchCandidates>,
        query: &CandidateQuery,
    ) -> Result<Vec<CandidateSession>> {
        // In the order of their best branches.
        let mut sessions: Vec<(i64, Vec<FoundBranch>)> = Vec::new();
        for BranchCandidates { no, messages, .. } in branches {
            let record = lookup::branch_by_no(self.conn, no)?;
            let session = record.session;
            let branch = FoundBranch { record, messages };
            let is_full = sessions.len() >= MAX_SESSIONS;
            match sessions.iter_mut().find(|(known, _)| *known == session) {
                Some((_, branches)) => branches.push(branch),
                None if is_full => {}
                None => sessions.push((session, vec![branch])),
            }
        }
        let mut found = Vec::with_capacity(sessions.len());
        for (session, branches) in sessions {
            let session = self.read_session(session, &branches, query)?;
            if !session.messages.is_empty() {
                found.push(session);
            }
        }
        Ok(found)
    }

    fn read_session(
        &mut self,
        no: i64,
        branches: &[FoundBranch],
        query: &CandidateQuery,
    ) -> Result<CandidateSession> {
        let (id, name, created_at, messages): ([u8; 16], String, i64, u64) = self
            .conn
            .prepare_cached(
                "SELECT session.id, session.name, session.created_at, activity.messages
                    FROM session JOIN activity ON activity.session = session.no WHERE session.no = ?1",
            )?
            .query_row([no], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .optional()?
            .ok_or_else(|| Error::Corrupt(format!("session number {no} is missing")))?;
        let words = if messages <= MAX_COUNTED_MESSAGES {
            self.count_words(no)?
        } else {
            messages.saturating_mul(self.totals.words_per_message())
        };
        let records: HashMap<i64, &BranchRecord> =
            branches.iter().map(|branch| (branch.record.no, &branch.record)).collect();
        let mut best: Vec<(i64, f64)> =
            branches.iter().flat_map(|branch| &branch.messages).copied().collect();
        best.sort_by(|(a_no, a), (b_no, b)| b.total_cmp(a).then_with(|| b_no.cmp(a_no)));
        best.truncate(MAX_MESSAGES_PER_SESSION);
        let mut found = Vec::with_capacity(best.len());
        for (message_no, _) in best {
            let Some(branch) = records.get(&branch_of(message_no)) else { continue };
            if let Some(message) = self.read_message(branch, message_no)?
                && Some(message.content.id) != query.except
            {
                let branch_name = branch.name.clone();
                found.push((message_no, CandidateMessage { branch: branch.id, branch_name, message }));
            }
        }
        found.sort_by_key(|(no, _)| *no);
        Ok(CandidateSession {
            session: SessionId::from_uuid(rows::uuid(id)),
            name,
            created_at: rows::time(created_at)?,
            words,
            messages: found.into_iter().map(|(_, message)| message).collect(),
        })
    }

    /// Reads a message if the budget allows it.
    fn read_message(&mut self, branch: &BranchRecord, no: i64) -> Result<Option<hfs_core::Message>> {
        let read = self.body_bytes(no).and_then(|bytes| {
            let Some(bytes) = bytes.filter(|bytes| *bytes <= MAX_MESSAGE_BYTES) else { return Ok(None) };
            if self.budget.messages == 0 || self.budget.bytes < bytes {
                return Ok(None);
            }
            self.budget.messages -= 1;
            self.budget.bytes -= bytes;
            messages::message_by_no(self.conn, self.probe, &mut self.texts, branch.id, no).map(Some)
        });
        match read {
            Err(error) if error.is_corruption() => {
                tracing::warn!(%error, message = no, "a damaged message is not shown");
                self.unreadable += 1;
                Ok(None)
            }
            read => read,
        }
    }

    /// Size of a message's body; `None` if the message is missing.
    fn body_bytes(&mut self, no: i64) -> Result<Option<u64>> {
        let found: Option<(u64, Option<i64>)> = self
            .conn
            .prepare_cached("SELECT octet_length(body), block_index FROM message WHERE no = ?1")?
            .query_row([no], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match found {
            Some((_, Some(index))) => Ok(Some(self.texts.in_block(no, index)?.body.len() as u64)),
            Some((bytes, None)) => Ok(Some(bytes)),
            None => Ok(None),
        }
    }

    /// The number of words in the messages of a session.
    fn count_words(&self, session: i64) -> Result<u64> {
        let branches = self
            .conn
            .prepare_cached("SELECT no FROM branch WHERE session = ?1")?
            .query_map([session], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()?;
        let mut words = 0;
        // FTS5 keeps the number of tokens in each column of a row here, as varints.
        let mut sizes =
            self.conn.prepare_cached("SELECT sz FROM message_text_docsize WHERE id BETWEEN ?1 AND ?2")?;
        for branch in branches {
            let mut rows =
                sizes.query(params![message_no(branch, 0)?, message_no(branch, u64::from(u32::MAX))?])?;
            while let Some(row) = rows.next()? {
                let size = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
                words += Varints(size).next().unwrap_or(0);
            }
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_entries_applies_to_those_in_scope() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE VIRTUAL TABLE message_text USING fts5(words)").unwrap();
        let old = message_no(1, 1).unwrap();
        let newer: Vec<i64> = (1..=5).map(|seq| message_no(2, seq).unwrap()).collect();
        for no in newer.iter().chain([&old]) {
            conn.execute("INSERT INTO message_text (rowid, words) VALUES (?1, 'common')", [no]).unwrap();
        }
        let entries = |scope: &Scope, limit| entries_of(&conn, "common", scope, limit).unwrap();
        assert_eq!(entries(&Scope::Only(HashSet::from([1])), 2), [old]);
        assert_eq!(entries(&Scope::Except(HashSet::from([2])), 2), [old]);
        assert_eq!(entries(&Scope::Except(HashSet::new()), 2), [newer[4], newer[3]]);
    }
}
