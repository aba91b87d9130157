//! Full-text search.
//!
//! A first pass counts what fits, newest first, up to a limit; a second ranks it. What fits more messages than the
//! limit cannot be told apart by its words: then the newest come first, which costs a thousandth of ranking.

use std::collections::HashSet;

use hfs_core::{SearchIndex, 
    BranchId, ErrorExt, ErrorKind, MessageId, SearchHit, SearchQuery, SearchResults, SearchTerm, SessionId,
    StoreResult,
};
use rusqlite::{Connection, OptionalExtension, Statement, params};

use crate::codec::rows::{self, branch_of, message_no, seq_of};
use crate::error::{Error, Result};
use crate::sqlite::SqliteStore;
use crate::sqlite::text_index;

/// How many matches are counted and ranked.
const RANKED: usize = 10_000;
/// How many are looked at when most of them are in the wrong place.
const EXAMINED: usize = 200_000;
/// Among several words of which any will do, one that more messages have than this is left out, unless all are
/// like that.
const COMMON: i64 = 5_000;
/// How many words a snippet has.
const SNIPPET_WORDS: i64 = 24;

pub(crate) fn search(store: &SqliteStore, query: &SearchQuery) -> StoreResult<SearchResults> {
    let terms = query.terms();
    if terms.is_empty() {
        return Ok(SearchResults::default());
    }
    match text_index::catch_up(store) {
        // Nothing can be written now: what is indexed can be searched all the same.
        Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Denied) => {
            tracing::warn!(%error, "the newest messages are not searched");
        }
        done => done?,
    }
    store.db.read("search", |conn| find(conn, query, &terms))
}

fn find(conn: &Connection, query: &SearchQuery, terms: &[SearchTerm]) -> Result<SearchResults> {
    let Some(scope) = Scope::of(conn, query)? else { return Ok(SearchResults::default()) };
    let words = if query.any_word { any_of(conn, terms)? } else { all_of(terms) };
    let counted = count(conn, &words, &scope)?;
    let total = counted.numbers.len() as u64;
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let best = if counted.whole {
        rank(conn, &words, &scope, &counted.numbers, limit)?
    } else {
        by_age(&counted.numbers, limit)
    };
    let hits = best.into_iter().map(|(no, score)| hit(conn, &words, no, score)).collect::<Result<_>>()?;
    Ok(SearchResults { hits, total })
}

/// A term in the index's own query language, in which a quoted text is never anything but text.
fn quoted(term: &SearchTerm) -> String {
    let star = if term.prefix { "*" } else { "" };
    format!("\"{}\"{star}", term.phrase.replace('"', "\"\""))
}

/// All terms must occur. (Without an operator, terms in which the index sees no word do not count.)
fn all_of(terms: &[SearchTerm]) -> String {
    terms.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Any of the terms will do: of those that are not too common, if there are such.
fn any_of(conn: &Connection, terms: &[SearchTerm]) -> Result<String> {
    let mut rare = Vec::new();
    let mut all = Vec::new();
    for term in terms.iter().map(quoted) {
        let found: i64 = conn
            .prepare_cached(
                "SELECT count(*) FROM (SELECT 1 FROM message_text WHERE message_text MATCH ?1 LIMIT ?2)",
            )?
            .query_row(params![term, COMMON], |row| row.get(0))?;
        if (1..COMMON).contains(&found) {
            rare.push(term.clone());
        }
        all.push(term);
    }
    Ok(if rare.is_empty() { all } else { rare }.join(" OR "))
}

/// Where to look.
struct Scope {
    /// The numbers of the messages to look among, range by range.
    ranges: Vec<(i64, i64)>,
    /// Branches of which nothing is shown.
    hidden: HashSet<i64>,
    role: Option<i64>,
    since: Option<i64>,
}

impl Scope {
    /// `None` when there is nowhere to look.
    fn of(conn: &Connection, query: &SearchQuery) -> Result<Option<Self>> {
        let mut ranges = vec![(i64::MIN, i64::MAX)];
        if let Some(only) = query.session {
            if query.except_session == Some(only) {
                return Ok(None);
            }
            ranges.clear();
            for branch in branches_of(conn, only)? {
                ranges.push((message_no(branch, 0)?, message_no(branch, u64::from(u32::MAX))?));
            }
            ranges.sort_unstable_by(|a, b| b.cmp(a));
        }
        let mut hidden = conn
            .prepare_cached(
                "SELECT branch.no FROM session CROSS JOIN branch ON branch.session = session.no
                    WHERE session.state IN (1, 2)",
            )?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<HashSet<i64>>>()?;
        if let Some(except) = query.except_session {
            hidden.extend(branches_of(conn, except)?);
        }
        Ok(Some(Self {
            ranges,
            hidden,
            role: query.role.map(rows::role_code),
            since: query.since.map(hfs_core::Timestamp::as_micros),
        }))
    }

    fn admits(&self, properties: &mut Statement<'_>, no: i64) -> Result<bool> {
        if self.hidden.contains(&branch_of(no)) {
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

fn branches_of(conn: &Connection, session: SessionId) -> Result<Vec<i64>> {
    Ok(conn
        .prepare_cached(
            "SELECT branch.no FROM session JOIN branch ON branch.session = session.no WHERE session.id = ?1",
        )?
        .query_map([session.as_uuid().as_bytes()], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?)
}

/// What fits, newest first.
struct Counted {
    numbers: Vec<i64>,
    /// Whether that is all.
    whole: bool,
}

fn count(conn: &Connection, words: &str, scope: &Scope) -> Result<Counted> {
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
            if numbers.len() >= RANKED || examined >= EXAMINED {
                return Ok(Counted { numbers, whole: false });
            }
            examined += 1;
            let no = row.get(0)?;
            if scope.admits(&mut properties, no)? {
                numbers.push(no);
            }
        }
    }
    Ok(Counted { numbers, whole: true })
}

/// The best of what fits, best first, each with how good it is.
fn rank(
    conn: &Connection,
    words: &str,
    scope: &Scope,
    numbers: &[i64],
    limit: usize,
) -> Result<Vec<(i64, f64)>> {
    let mut ranked = Vec::with_capacity(numbers.len());
    let mut admitted = numbers.iter().peekable();
    let mut matches = conn.prepare_cached(
        "SELECT rowid, rank FROM message_text WHERE message_text MATCH ?1 AND rowid BETWEEN ?2 AND ?3
            ORDER BY rowid DESC",
    )?;
    for (first, last) in &scope.ranges {
        let mut rows = matches.query(params![words, first, last])?;
        while let Some(row) = rows.next()? {
            let no: i64 = row.get(0)?;
            // Both passes see the same rows in the same order.
            if admitted.next_if(|next| **next == no).is_some() {
                let rank: f64 = row.get(1)?;
                ranked.push((no, -rank));
            }
        }
    }
    ranked.sort_by(|(a_no, a), (b_no, b)| b.total_cmp(a).then_with(|| b_no.cmp(a_no)));
    ranked.truncate(limit);
    Ok(ranked)
}

fn by_age(numbers: &[i64], limit: usize) -> Vec<(i64, f64)> {
    (1_u32..).zip(numbers).take(limit).map(|(place, no)| (*no, 1.0 / f64::from(place))).collect()
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
        .ok_or_else(|| Error::Corrupt(format!("message number {no} is in the text index only")))?;
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
        super::search::search(self, query)
    }

    fn update_index(&self, progress: &mut dyn FnMut(u64) -> bool) -> StoreResult<()> {
        super::text_index::update(self, progress)
    }
}
