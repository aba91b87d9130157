use std::cmp::Ordering;

use hfs_core::{
    Message, SearchHit, SearchIndex, SearchQuery, SearchResults, SearchTerm, Session, StoreResult,
};

use super::MemoryStore;
use super::data::BranchRow;
use super::words::{Word, words};

/// How many words a snippet shows before its first match, and how many from there on.
const SNIPPET_WORDS: (usize, usize) = (6, 18);

impl SearchIndex for MemoryStore {
    fn search(&self, query: &SearchQuery) -> StoreResult<SearchResults> {
        let terms: Vec<Term> =
            query.terms().iter().map(Term::new).filter(|term| !term.words.is_empty()).collect();
        if terms.is_empty() {
            return Ok(SearchResults::default());
        }
        let data = self.lock();
        let mut hits = Vec::new();
        for row in data.sessions.values().filter(|row| in_scope(query, &row.session)) {
            for branch in data.branches_of(row) {
                for (seq, message) in (branch.branch.forked_at + 1..).zip(&branch.messages) {
                    let message = message.seen(branch.branch.id, seq);
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
        Ok(SearchResults { hits, total })
    }

    /// There is no index: a search looks at everything.
    fn update_index(&self, progress: &mut dyn FnMut(u64) -> bool) -> StoreResult<()> {
        progress(0);
        Ok(())
    }
}

/// What is looked for: words in a row.
struct Term {
    words: Vec<String>,
    prefix: bool,
}

impl Term {
    fn new(term: &SearchTerm) -> Self {
        Self { words: words(&term.phrase).into_iter().map(|word| word.folded).collect(), prefix: term.prefix }
    }

    /// Where it begins among the words of a text, each time.
    fn places(&self, text: &[Word]) -> Vec<usize> {
        let fits = |(index, (word, wanted)): (usize, (&Word, &String))| {
            if self.prefix && index + 1 == self.words.len() {
                word.folded.starts_with(wanted.as_str())
            } else {
                word.folded == *wanted
            }
        };
        text.windows(self.words.len())
            .enumerate()
            .filter(|(_, window)| window.iter().zip(&self.words).enumerate().all(fits))
            .map(|(place, _)| place)
            .collect()
    }
}

fn in_scope(query: &SearchQuery, session: &Session) -> bool {
    session.trashed_at.is_none()
        && query.session.is_none_or(|only| only == session.id)
        && query.except_session != Some(session.id)
}

fn find(
    query: &SearchQuery,
    terms: &[Term],
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
    let text_words = words(&text);
    let places: Vec<Vec<usize>> = terms.iter().map(|term| term.places(&text_words)).collect();
    let found = places.iter().filter(|places| !places.is_empty()).count();
    if found == 0 || (found < terms.len() && !query.any_word) {
        return None;
    }
    let marked = terms
        .iter()
        .zip(&places)
        .flat_map(|(term, places)| places.iter().map(|place| *place..*place + term.words.len()));
    Some(SearchHit {
        session: session.id,
        session_name: session.name.clone(),
        branch: message.branch,
        branch_name: branch.branch.name.clone(),
        message: message.content.id,
        seq: message.seq,
        role: message.content.role,
        created_at: message.content.created_at,
        snippet: snippet(&text, &text_words, marked),
        score: score(&places, text_words.len()),
    })
}

/// Grows with how often each term occurs, and falls with the length of the text.
#[allow(clippy::cast_precision_loss, reason = "no text has so many words")]
fn score(places: &[Vec<usize>], length: usize) -> f64 {
    let dampening = 1.0 + length as f64 / 100.0;
    places.iter().map(|places| places.len() as f64 / (places.len() as f64 + dampening)).sum()
}

/// The surroundings of the first match, every match in them between marks.
fn snippet(text: &str, words: &[Word], marked: impl Iterator<Item = std::ops::Range<usize>>) -> String {
    let mut is_marked = vec![false; words.len()];
    for range in marked {
        is_marked.iter_mut().take(range.end).skip(range.start).for_each(|marked| *marked = true);
    }
    let first = is_marked.iter().position(|marked| *marked).unwrap_or(0);
    let from = first.saturating_sub(SNIPPET_WORDS.0);
    let to = (first + SNIPPET_WORDS.1).min(words.len());

    let mut snippet = String::new();
    if from > 0 {
        snippet.push('…');
    }
    let mut written = None;
    for (word, marked) in words.iter().zip(&is_marked).take(to).skip(from) {
        let between = text.get(written.unwrap_or(word.start)..word.start).unwrap_or_default();
        let said = text.get(word.start..word.end).unwrap_or_default();
        snippet.push_str(between);
        if *marked {
            snippet.extend([SearchHit::MARK_START]);
            snippet.push_str(said);
            snippet.extend([SearchHit::MARK_END]);
        } else {
            snippet.push_str(said);
        }
        written = Some(word.end);
    }
    if to < words.len() {
        snippet.push('…');
    }
    snippet
}
