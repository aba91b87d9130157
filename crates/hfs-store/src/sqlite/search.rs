//! Full-text search.
//!
//! A first pass collects the matching messages, newest first, up to a limit. A second pass ranks them with FTS5's bm25.
//! If more messages match than the limit, the words are too common for a useful rank. The search then returns the
//! newest messages first, which takes a thousandth of the time (`cargo xtask bench search`).

use std::collections::HashSet;

use hfs_core::{
    BranchId, ErrorExt, ErrorKind, MessageId, SearchHit, SearchIndex, SearchQuery, SearchResults, SearchTerm,
    SessionFilter, SessionId, StoreResult,
};
use rusqlite::{Connection, OptionalExtension, Statement, params, params_from_iter};

use crate::codec::rows::{self, branch_of, message_no, seq_of};
use crate::error::{Error, Result};
use crate::sqlite::sessions::filter_condition;
use crate::sqlite::{SqliteStore, text_index};

/// Maximum number of matches that are counted and ranked.
const MAX_MATCHES: usize = 10_000;
/// Maximum number of index entries that are examined, in case most of them are outside the scope of the search.
const MAX_EXAMINED: usize = 200_000;
/// A search for any of several words leaves out words that at least this many messages contain, unless all of its words
/// are that common.
const COMMON_WORD: i64 = 5_000;
const SNIPPET_WORDS: i64 = 24;

fn find(conn: &Connection, query: &SearchQuery, terms: &[SearchTerm]) -> Result<SearchResults> {
    let scope = Scope::new(conn, query)?;
    let words = if query.any_word { any_of(conn, terms)? } else { all_of(terms) };
    let matches = find_matches(conn, &words, &scope)?;
    let total = matches.numbers.len() as u64;
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let best = if matches.is_complete {
        rank(conn, &words, &scope, &matches.numbers, limit)?
    } else {
        newest_first(&matches.numbers, limit)
    };
    let (mut hits, mut unreadable) = (Vec::with_capacity(best.len()), 0);
    for (no, score) in best {
        match hit(conn, &words, no, score) {
            Err(error) if error.is_corruption() => {
                tracing::warn!(%error, message = no, "a damaged message is not shown");
                unreadable += 1;
            }
            hit => hits.push(hit?),
        }
    }
    Ok(SearchResults { hits, total, unreadable })
}

/// A term in FTS5's query language. FTS5 finds no operators in quoted text.
fn quoted(term: &SearchTerm) -> String {
    let star = if term.prefix { "*" } else { "" };
    format!("\"{}\"{star}", term.phrase.replace('"', "\"\""))
}

/// A query that all terms must match. FTS5 ignores terms without a word, such as punctuation, unless they are joined by
/// an explicit AND.
fn all_of(terms: &[SearchTerm]) -> String {
    terms.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// A query that at least one of the terms must match. Leaves common terms out if there are others.
fn any_of(conn: &Connection, terms: &[SearchTerm]) -> Result<String> {
    let mut rare = Vec::new();
    let mut all = Vec::new();
    for term in terms.iter().map(quoted) {
        let found: i64 = conn
            .prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM message_text WHERE message_text MATCH ?1 LIMIT ?2)",
            )?
            .query_row(params![term, COMMON_WORD], |row| row.get(0))?;
        if (1..COMMON_WORD).contains(&found) {
            rare.push(term.clone());
        }
        all.push(term);
    }
    Ok(if rare.is_empty() { all } else { rare }.join(" OR "))
}

/// The messages that a search may return.
struct Scope {
    /// Ranges of message numbers.
    ranges: Vec<(i64, i64)>,
    /// Branches that are left out.
    excluded: HashSet<i64>,
    role: Option<i64>,
    since: Option<i64>,
}

impl Scope {
    fn new(conn: &Connection, query: &SearchQuery) -> Result<Self> {
        let all_sessions = query.session.is_none() && query.sessions == SessionFilter::default();
        let (ranges, mut excluded) = if all_sessions {
            (vec![(i64::MIN, i64::MAX)], unlisted_branches(conn)?)
        } else {
            (ranges_of(selected_branches(conn, query)?)?, HashSet::new())
        };
        if let Some(except) = query.except_session {
            excluded.extend(branches_of(conn, except)?);
        }
        Ok(Self {
            ranges,
            excluded,
            role: query.role.map(rows::role_code),
            since: query.since.map(hfs_core::Timestamp::as_micros),
        })
    }

    fn contains(&self, properties: &mut Statement<'_>, no: i64) -> Result<bool> {
        if self.excluded.contains(&branch_of(no)) {
            return Ok(false);
        }
        if self.role.is_none() && self.since.is_none() {
            return Ok(true);
        }
        let found: Option<(i64, i64)> =
            properties.query_row([no], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        Ok(found.is_some_and(|(role, created_at)| {
            self.role.is_none_or(|wanted| wanted == role)
                && self.since.is_none_or(|since| created_at >= since)
        }))
    }
}

/// Branches of sessions that are in the trash or not complete yet.
fn unlisted_branches(conn: &Connection) -> Result<HashSet<i64>> {
    Ok(conn
        .prepare_cached(
            "SELECT branch.no FROM session CROSS JOIN branch ON branch.session = session.no
                WHERE session.state IN (1, 2)",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?)
}

fn branches_of(conn: &Connection, session: SessionId) -> Result<Vec<i64>> {
    Ok(conn
        .prepare_cached(
            "SELECT branch.no FROM session JOIN branch ON branch.session = session.no WHERE session.id = ?1",
        )?
        .query_map([session.as_uuid().as_bytes()], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?)
}

/// Branches of the sessions that a query selects, newest first.
fn selected_branches(conn: &Connection, query: &SearchQuery) -> Result<Vec<i64>> {
    let (mut condition, mut values) = filter_condition(&query.sessions);
    if let Some(only) = query.session {
        condition.push_str(" AND session.id = ?");
        values.push(only.as_uuid().as_bytes().to_vec().into());
    }
    let sql = format!(
        "SELECT branch.no FROM session CROSS JOIN branch ON branch.session = session.no
            WHERE {condition} ORDER BY branch.no DESC"
    );
    Ok(conn
        .prepare_cached(&sql)?
        .query_map(params_from_iter(values), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?)
}

/// The ranges of message numbers of these branches, newest first. Branches that follow each other share a range, since each
/// range is a query of the index; an import of many sessions of one project is one range.
fn ranges_of(branches: Vec<i64>) -> Result<Vec<(i64, i64)>> {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for branch in branches {
        match runs.last_mut() {
            Some((first, _)) if *first == branch + 1 => *first = branch,
            _ => runs.push((branch, branch)),
        }
    }
    let range = |(first, last)| Ok((message_no(first, 0)?, message_no(last, u64::from(u32::MAX))?));
    runs.into_iter().map(range).collect()
}

/// Message numbers, newest first.
struct Matches {
    numbers: Vec<i64>,
    /// Whether these are all matches.
    is_complete: bool,
}

fn find_matches(conn: &Connection, words: &str, scope: &Scope) -> Result<Matches> {
    let mut numbers = Vec::new();
    let mut examined = 0;
    let mut properties = conn.prepare_cached("SELECT role, created_at FROM message WHERE no = ?1")?;
    let mut matches = conn.prepare_cached(
        "SELECT rowid FROM message_text WHERE message_text MATCH ?1 AND rowid BETWEEN ?2 AND ?3
            ORDER BY rowid DESC",
    )?;
    for (first, last) in &scope.ranges {
        let mut rows = matches.query(params![words, first, last])?;
        while let Some(row) = rows.next()? {
            if numbers.len() >= MAX_MATCHES || examined >= MAX_EXAMINED {
                return Ok(Matches { numbers, is_complete: false });
            }
            examined += 1;
            let no = row.get(0)?;
            if scope.contains(&mut properties, no)? {
                numbers.push(no);
            }
        }
    }
    Ok(Matches { numbers, is_complete: true })
}

/// The best matches, best first, with their scores.
fn rank(
    conn: &Connection,
    words: &str,
    scope: &Scope,
    numbers: &[i64],
    limit: usize,
) -> Result<Vec<(i64, f64)>> {
    let mut ranked = Vec::with_capacity(numbers.len());
    let mut remaining = numbers.iter().peekable();
    let mut matches = conn.prepare_cached(
        "SELECT rowid, rank FROM message_text WHERE message_text MATCH ?1 AND rowid BETWEEN ?2 AND ?3
            ORDER BY rowid DESC",
    )?;
    for (first, last) in &scope.ranges {
        let mut rows = matches.query(params![words, first, last])?;
        while let Some(row) = rows.next()? {
            let no: i64 = row.get(0)?;
            // Both passes run in one read transaction, so they see the same rows in the same order.
            if remaining.next_if(|next| **next == no).is_some() {
                let rank: f64 = row.get(1)?;
                ranked.push((no, -rank));
            }
        }
    }
    ranked.sort_by(|(a_no, a), (b_no, b)| b.total_cmp(a).then_with(|| b_no.cmp(a_no)));
    ranked.truncate(limit);
    Ok(ranked)
}

/// Returns the newest matches, with scores that fall with the position.
fn newest_first(numbers: &[i64], limit: usize) -> Vec<(i64, f64)> {
    (1_u32..).zip(numbers).take(limit).map(|(position, no)| (*no, 1.0 / f64::from(position))).collect()
}

fn hit(conn: &Connection, words: &str, no: i64, score: f64) -> Result<SearchHit> {
    let snippet: String = conn
        .prepare_cached(
            "SELECT snippet(message_text, 0, ?3, ?4, '…', ?5) FROM message_text
                WHERE message_text MATCH ?1 AND rowid = ?2",
        )?
        .query_row(
            params![
                words,
                no,
                SearchHit::MARK_START.to_string(),
                SearchHit::MARK_END.to_string(),
                SNIPPET_WORDS
            ],
            |row| row.get(0),
        )?;
    let row = conn
        .prepare_cached(
            "SELECT session.id, session.name, branch.id, branch.name, message.id, message.role,
                message.created_at
                FROM message CROSS JOIN branch ON branch.no = message.no >> 32
                CROSS JOIN session ON session.no = branch.session WHERE message.no = ?1",
        )?
        .query_row([no], |row| {
            Ok(HitRow {
                session: row.get(0)?,
                session_name: row.get(1)?,
                branch: row.get(2)?,
                branch_name: row.get(3)?,
                message: row.get(4)?,
                role: row.get(5)?,
                created_at: row.get(6)?,
            })
        })
        .optional()?
        .ok_or_else(|| {
            Error::Corrupt(format!("message number {no} is in the text index but not in its table"))
        })?;
    Ok(SearchHit {
        session: SessionId::from_uuid(rows::uuid(row.session)),
        session_name: row.session_name,
        branch: BranchId::from_uuid(rows::uuid(row.branch)),
        branch_name: row.branch_name,
        message: MessageId::from_uuid(rows::uuid(row.message)),
        seq: seq_of(no),
        role: rows::role(row.role)?,
        created_at: rows::time(row.created_at)?,
        snippet,
        score,
    })
}

struct HitRow {
    session: [u8; 16],
    session_name: String,
    branch: [u8; 16],
    branch_name: String,
    message: [u8; 16],
    role: i64,
    created_at: i64,
}

impl SearchIndex for SqliteStore {
    fn search(&self, query: &SearchQuery) -> StoreResult<SearchResults> {
        let terms = query.terms();
        if terms.is_empty() {
            return Ok(SearchResults::default());
        }
        match text_index::catch_up(self) {
            // The store cannot be written, for example because the disk is full, or a message cannot be read. Messages
            // that are in the index can still be found.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Unavailable | ErrorKind::Denied | ErrorKind::Corrupt
                ) =>
            {
                tracing::warn!(%error, "the newest messages are not searched");
            }
            result => result?,
        }
        self.db.read("search", |conn| find(conn, query, &terms))
    }

    fn update_index(&self, progress: &mut dyn FnMut(u64) -> bool) -> StoreResult<()> {
        text_index::update(self, progress)
    }
}
