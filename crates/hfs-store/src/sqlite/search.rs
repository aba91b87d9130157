//! Full-text search.
//!
//! A first pass collects the matching messages, newest first, up to a limit. A second pass ranks them with FTS5's bm25.
//! If more messages match than the limit, the words are too common for a useful rank. The search then returns the
//! newest messages first, which takes a thousandth of the time (`cargo xtask bench search`).

use std::collections::HashSet;

use hfs_core::{
    BranchId, CandidateQuery, Candidates, ErrorExt, ErrorKind, MessageId, SearchHit, SearchIndex,
    SearchQuery, SearchResults, SessionFilter, SessionId, StoreResult,
};
use hfs_retrieval::{AnalyzedText, Pattern};
use rusqlite::{Connection, OptionalExtension, Statement, params, params_from_iter};

use crate::codec::rows::{self, branch_of, message_no, seq_of};
use crate::error::{Error, Result};
use crate::sqlite::sessions::filter_condition;
use crate::sqlite::texts::TextReader;
use crate::sqlite::{SqliteStore, candidates, text_index};

/// Maximum number of matches that are counted and ranked.
const MAX_MATCHES: usize = 10_000;
/// Maximum number of index entries that are examined, in case most of them are outside the scope of the search.
pub(crate) const MAX_EXAMINED: usize = 200_000;
/// FTS5's bm25 with weights for the columns `words`, `stems` and `parts`: a word as it was typed counts most.
const RANK: &str = "bm25(message_text, 1.0, 0.7, 0.5)";

fn find(conn: &Connection, query: &SearchQuery, terms: &[Vec<Pattern>]) -> Result<SearchResults> {
    let scope = Scope::new(conn, query)?;
    let words = all_of(terms);
    let matches = find_matches(conn, &words, &scope)?;
    let total = matches.numbers.len() as u64;
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let best = if matches.is_complete {
        rank(conn, &words, &scope, &matches.numbers, limit)?
    } else {
        newest_first(&matches.numbers, limit)
    };
    let (mut hits, mut unreadable) = (Vec::with_capacity(best.len()), 0);
    let mut texts = TextReader::new(conn);
    for (no, score) in best {
        match hit(conn, &mut texts, terms, no, score) {
            Err(error) if error.is_corruption() => {
                tracing::warn!(%error, message = no, "a damaged message is not shown");
                unreadable += 1;
            }
            hit => hits.push(hit?),
        }
    }
    Ok(SearchResults { hits, total, unreadable })
}

/// A term in FTS5's query language. The words of patterns have only letters and digits.
pub(crate) fn expression(patterns: &[Pattern]) -> String {
    let sequence = |column: &str, tokens: &[String], prefix: bool| {
        let star = if prefix { " *" } else { "" };
        format!("{column} : \"{}\"{star}", tokens.join(" "))
    };
    let alternatives: Vec<String> = patterns
        .iter()
        .map(|pattern| match pattern {
            Pattern::Words { words, prefix } => sequence("words", words, *prefix),
            Pattern::Parts { parts, prefix } => sequence("parts", parts, *prefix),
            // In any column.
            Pattern::Stem(stem) => format!("\"{stem}\""),
        })
        .collect();
    format!("({})", alternatives.join(" OR "))
}

/// A query that all terms must match.
fn all_of(terms: &[Vec<Pattern>]) -> String {
    terms.iter().map(|term| expression(term)).collect::<Vec<_>>().join(" AND ")
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
        let (ranges, excluded) = if all_sessions {
            (vec![(i64::MIN, i64::MAX)], unlisted_branches(conn)?)
        } else {
            (ranges_of(selected_branches(conn, &query.sessions, query.session)?)?, HashSet::new())
        };
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
pub(crate) fn unlisted_branches(conn: &Connection) -> Result<HashSet<i64>> {
    Ok(conn
        .prepare_cached(
            "SELECT branch.no FROM session CROSS JOIN branch ON branch.session = session.no
                WHERE session.state IN (1, 2)",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?)
}

/// Branches of the sessions that the filter selects, or of one of them, newest first.
pub(crate) fn selected_branches(
    conn: &Connection,
    filter: &SessionFilter,
    only: Option<SessionId>,
) -> Result<Vec<i64>> {
    let (mut condition, mut values) = filter_condition(filter);
    if let Some(only) = only {
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
    let mut matches = conn.prepare_cached(&format!(
        "SELECT rowid, {RANK} FROM message_text WHERE message_text MATCH ?1 AND rowid BETWEEN ?2 AND ?3
            ORDER BY rowid DESC",
    ))?;
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

fn hit(
    conn: &Connection,
    texts: &mut TextReader<'_>,
    terms: &[Vec<Pattern>],
    no: i64,
    score: f64,
) -> Result<SearchHit> {
    let mut select = conn.prepare_cached(
        "SELECT session.id, session.name, branch.id, branch.name, message.id, message.role,
            message.created_at, message.body, message.block_index
            FROM message CROSS JOIN branch ON branch.no = message.no >> 32
            CROSS JOIN session ON session.no = branch.session WHERE message.no = ?1",
    )?;
    let mut rows = select.query([no])?;
    let Some(row) = rows.next()? else {
        return Err(Error::Corrupt(format!("message number {no} is in the text index but not in its table")));
    };
    let row = HitRow {
        session: row.get(0)?,
        session_name: row.get(1)?,
        branch: row.get(2)?,
        branch_name: row.get(3)?,
        message: row.get(4)?,
        role: row.get(5)?,
        created_at: row.get(6)?,
        text: texts.searchable_text(no, row, 7)?,
    };
    Ok(SearchHit {
        session: SessionId::from_uuid(rows::uuid(row.session)),
        session_name: row.session_name,
        branch: BranchId::from_uuid(rows::uuid(row.branch)),
        branch_name: row.branch_name,
        message: MessageId::from_uuid(rows::uuid(row.message)),
        seq: seq_of(no),
        role: rows::role(row.role)?,
        created_at: rows::time(row.created_at)?,
        snippet: hfs_retrieval::snippet(&AnalyzedText::new(&row.text), terms),
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
    text: String,
}

/// Indexes the missing messages, so that a search finds every acknowledged one. If the store cannot be written, for
/// example because the disk is full, or a message cannot be read, those that are in the index can still be found.
fn index_before_search(store: &SqliteStore) -> StoreResult<()> {
    match text_index::catch_up(store) {
        Err(error)
            if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Denied | ErrorKind::Corrupt) =>
        {
            tracing::warn!(%error, "the newest messages are not searched");
            Ok(())
        }
        result => result,
    }
}

impl SearchIndex for SqliteStore {
    fn search(&self, query: &SearchQuery) -> StoreResult<SearchResults> {
        let terms = hfs_retrieval::patterns_of(&query.terms());
        if terms.is_empty() {
            return Ok(SearchResults::default());
        }
        index_before_search(self)?;
        self.db.read("search", |conn| find(conn, query, &terms))
    }

    fn find_candidates(&self, query: &CandidateQuery) -> StoreResult<Candidates> {
        index_before_search(self)?;
        let probe = self.db.liveness_probe();
        self.db.read("search", |conn| candidates::find(conn, &probe, query))
    }

    fn update_index(&self, progress: &mut dyn FnMut(u64) -> bool) -> StoreResult<()> {
        text_index::update(self, progress)
    }
}
