//! Full-text search.
//!
//! The index finds the messages that may match, the newest first, up to a limit. Their texts decide which do, and how well.
//! If more are found than the limit, the words are too common for a useful rank, and reading all of them would take long.
//! The search then returns the newest matches first.

use std::cmp::Ordering;
use std::ops::Range;

use hfs_core::{
    BranchId, CandidateQuery, Candidates, ErrorExt as _, ErrorKind, MessageId, SearchHit, SearchIndex,
    SearchQuery, SearchResults, SessionId, StoreResult,
};
use hfs_retrieval::{AnalyzedText, Pattern};
use hfs_store::codec::rows;
use tokio_postgres::Row;

use crate::PostgresStore;
use crate::db::Tx;
use crate::db::value::{Columns as _, Value};
use crate::error::Result;
use crate::store::lookup::Place;
use crate::store::sessions::Condition;
use crate::store::{candidates, messages, text_index};

/// Maximum number of messages, and of bytes of their bodies, that are read to rank them.
const MAX_MATCHES: usize = 2_000;
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Number of messages that are read at a time.
const BATCH: usize = 100;

/// A message that the index has found.
struct Found {
    place: Place,
    bytes: u64,
}

fn find(tx: &Tx, query: &SearchQuery, terms: &[Vec<Pattern>]) -> Result<SearchResults> {
    let found = find_in_index(tx, query, terms)?;
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let bytes: u64 = found.iter().map(|found| found.bytes).sum();
    if found.len() > MAX_MATCHES || bytes > MAX_BYTES {
        return newest_first(tx, terms, &found, limit);
    }
    let mut ranked = Vec::new();
    for batch in found.chunks(BATCH) {
        for row in read(tx, batch)? {
            let text = text_index::text_of_body(row.bytes(3)?);
            if let Some(score) = score(&AnalyzedText::new(&text), terms) {
                ranked.push((score, row.int(4)?, MessageId::from_uuid(row.id(5)?), Place::from_row(&row)?));
            }
        }
    }
    ranked.sort_by(|a, b| {
        let by_score = b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal);
        by_score.then_with(|| (b.1, b.2).cmp(&(a.1, a.2)))
    });
    let total = ranked.len() as u64;
    ranked.truncate(limit);
    let best: Vec<Found> = ranked.iter().map(|(_, _, _, place)| Found { place: *place, bytes: 0 }).collect();
    let mut results = SearchResults { hits: Vec::with_capacity(best.len()), total, unreadable: 0 };
    let rows = read(tx, &best)?;
    for (score, _, _, place) in ranked {
        for row in &rows {
            if Place::from_row(row)? == place {
                add(&mut results, row, terms, score)?;
            }
        }
    }
    Ok(results)
}

/// The newest matches, with scores that fall with the position.
fn newest_first(tx: &Tx, terms: &[Vec<Pattern>], found: &[Found], limit: usize) -> Result<SearchResults> {
    let total = found.len().min(MAX_MATCHES) as u64;
    let mut results = SearchResults { hits: Vec::new(), total, unreadable: 0 };
    for batch in found.chunks(limit.clamp(1, BATCH)) {
        let rows = read(tx, batch)?;
        for found in batch {
            for row in &rows {
                if results.hits.len() < limit && Place::from_row(row)? == found.place {
                    let text = text_index::text_of_body(row.bytes(3)?);
                    if score(&AnalyzedText::new(&text), terms).is_some() {
                        let position = u32::try_from(results.hits.len() + 1).unwrap_or(u32::MAX);
                        add(&mut results, row, terms, 1.0 / f64::from(position))?;
                    }
                }
            }
        }
        if results.hits.len() >= limit {
            break;
        }
    }
    Ok(results)
}

fn add(results: &mut SearchResults, row: &Row, terms: &[Vec<Pattern>], score: f64) -> Result<()> {
    match hit(row, terms, score) {
        Err(error) if error.is_corruption() => {
            tracing::warn!(%error, "a damaged message is not shown");
            results.unreadable += 1;
        }
        hit => results.hits.push(hit?),
    }
    Ok(())
}

/// Messages in scope that may match, newest first; at most one more than [`MAX_MATCHES`].
fn find_in_index(tx: &Tx, query: &SearchQuery, terms: &[Vec<Pattern>]) -> Result<Vec<Found>> {
    let mut condition = Condition::of(tx, &query.sessions);
    let mut and = String::new();
    if let Some(session) = query.session {
        let session = condition.add((*session.as_uuid()).into());
        and.push_str(&format!(" AND message_text.session = {session}"));
    }
    if let Some(role) = query.role {
        let role = condition.add(rows::role_code(role).into());
        and.push_str(&format!(" AND message.role = {role}"));
    }
    if let Some(since) = query.since {
        let since = condition.add(since.into());
        and.push_str(&format!(" AND message.created_at >= {since}"));
    }
    let expressions: Vec<String> = terms.iter().map(|term| text_index::expression(term)).collect();
    let words = condition.add(Value::Text(Some(expressions.join(" & ").into())));
    let entries = text_index::entries_with(tx, &words, query.session.is_some());
    let limit = condition.add((MAX_MATCHES + 1).into());
    // `OFFSET 0` keeps each subquery apart, so that the server reads its row by key. Otherwise it may read whole tables for a few
    // matches, because it cannot know how rare a word is.
    let sql = format!(
        "SELECT message.session, message.branch, message.seq, message.bytes FROM {entries} AS message_text
            CROSS JOIN LATERAL (SELECT * FROM activity AS own WHERE own.session = message_text.session OFFSET 0)
                AS activity
            CROSS JOIN LATERAL (SELECT * FROM session AS own WHERE own.id = message_text.session OFFSET 0) AS session
            CROSS JOIN LATERAL (SELECT session, branch, seq, id, role, created_at, octet_length(body) AS bytes
                FROM message AS own WHERE own.session = message_text.session AND own.branch = message_text.branch
                    AND own.seq = message_text.seq OFFSET 0) AS message
            WHERE {}{and}
            ORDER BY message.created_at DESC, message.id DESC LIMIT {limit}",
        condition.sql
    );
    let rows = tx.rows(&sql, &condition.values)?;
    rows.iter().map(|row| Ok(Found { place: Place::from_row(row)?, bytes: row.count(3)? })).collect()
}

/// The rows that [`hit`] reads, in any order.
fn read(tx: &Tx, found: &[Found]) -> Result<Vec<Row>> {
    let seq = |found: &Found| i64::try_from(found.place.seq).ok();
    tx.rows(
        "SELECT message.session, message.branch, message.seq, message.body, message.created_at, message.id,
            message.role, session.name, branch.id, branch.name
            FROM unnest($1, $2, $3) AS found (session, branch, seq)
            CROSS JOIN LATERAL (SELECT * FROM message AS own WHERE own.session = found.session
                AND own.branch = found.branch AND own.seq = found.seq OFFSET 0) AS message
            CROSS JOIN LATERAL (SELECT id, name FROM branch AS own WHERE own.session = found.session
                AND own.no = found.branch OFFSET 0) AS branch
            CROSS JOIN LATERAL (SELECT name FROM session AS own WHERE own.id = found.session OFFSET 0) AS session",
        &[
            Value::Ids(found.iter().map(|found| found.place.session).collect()),
            Value::Ints(found.iter().map(|found| Some(found.place.branch)).collect()),
            Value::Ints(found.iter().map(seq).collect()),
        ],
    )
}

fn hit(row: &Row, terms: &[Vec<Pattern>], score: f64) -> Result<SearchHit> {
    messages::decode_body(row.bytes(3)?)?;
    let text = text_index::text_of_body(row.bytes(3)?);
    Ok(SearchHit {
        session: SessionId::from_uuid(row.id(0)?),
        session_name: row.text(7)?,
        branch: BranchId::from_uuid(row.id(8)?),
        branch_name: row.text(9)?,
        message: MessageId::from_uuid(row.id(5)?),
        seq: row.count(2)?,
        role: rows::role(row.int(6)?)?,
        created_at: row.time(4)?,
        snippet: hfs_retrieval::snippet(&AnalyzedText::new(&text), terms),
        score,
    })
}

/// Grows with the number of matches of each term, and falls with the length of the text. `None` if a term does not match.
#[allow(clippy::cast_precision_loss, reason = "the numbers are far below 2^52")]
fn score(text: &AnalyzedText<'_>, terms: &[Vec<Pattern>]) -> Option<f64> {
    let dampening = 1.0 + text.words().len() as f64 / 100.0;
    let mut sum = 0.0;
    for term in terms {
        let matches: Vec<Range<usize>> = text.find(term);
        if matches.is_empty() {
            return None;
        }
        sum += matches.len() as f64 / (matches.len() as f64 + dampening);
    }
    Some(sum)
}

/// Finalizes abandoned replies, so that a search finds them. If the store cannot be written, the others are still found.
fn finalize_before_search(store: &PostgresStore) -> StoreResult<()> {
    if store.db.is_snapshot() {
        return Ok(());
    }
    match messages::finalize_abandoned(&store.db, None, None) {
        Err(error)
            if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Denied | ErrorKind::Corrupt) =>
        {
            tracing::warn!(%error, "interrupted replies are not searched");
            Ok(())
        }
        result => result.map(drop),
    }
}

impl SearchIndex for PostgresStore {
    fn search(&self, query: &SearchQuery) -> StoreResult<SearchResults> {
        let terms = hfs_retrieval::patterns_of(&query.terms());
        if terms.is_empty() {
            return Ok(SearchResults::default());
        }
        finalize_before_search(self)?;
        self.db.read("search", |tx| find(tx, query, &terms))
    }

    fn find_candidates(&self, query: &CandidateQuery) -> StoreResult<Candidates> {
        finalize_before_search(self)?;
        self.db.read("search", |tx| candidates::find(tx, query))
    }

    /// Finalizes abandoned replies. All other messages are indexed when they are written.
    fn update_index(&self, progress: &mut dyn FnMut(u64) -> bool) -> StoreResult<()> {
        messages::finalize_abandoned(&self.db, None, None)?;
        progress(0);
        Ok(())
    }
}
