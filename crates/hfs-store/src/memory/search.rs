//! Search that scans every message. It splits texts into words like FTS5's tokenizer in the SQLite store: runs of
//! letters and digits, in lower case, without diacritics.

use std::cmp::Ordering;
use std::ops::Range;

use hfs_core::{
    Message, SearchHit, SearchIndex, SearchQuery, SearchResults, SearchTerm, Session, StoreResult,
};
use unicode_normalization::char::{decompose_canonical, is_combining_mark};

use super::sessions::matches;
use super::{BranchRow, MemoryStore};

/// Maximum number of words in a snippet before its first match.
const SNIPPET_WORDS_BEFORE: usize = 6;
/// Maximum number of words in a snippet from the start of its first match to its end.
const SNIPPET_WORDS_FROM: usize = 18;

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

    /// Does nothing: there is no index.
    fn update_index(&self, progress: &mut dyn FnMut(u64) -> bool) -> StoreResult<()> {
        progress(0);
        Ok(())
    }
}

/// Consecutive words to look for.
struct Term {
    words: Vec<String>,
    /// Whether the last word is a prefix.
    prefix: bool,
}

impl Term {
    fn new(term: &SearchTerm) -> Self {
        Self { words: words(&term.phrase).into_iter().map(|word| word.folded).collect(), prefix: term.prefix }
    }

    /// Returns the index of the first word of each match.
    fn matches(&self, text: &[Word]) -> Vec<usize> {
        let is_match = |(index, (word, wanted)): (usize, (&Word, &String))| {
            if self.prefix && index + 1 == self.words.len() {
                word.folded.starts_with(wanted.as_str())
            } else {
                word.folded == *wanted
            }
        };
        text.windows(self.words.len())
            .enumerate()
            .filter(|(_, window)| window.iter().zip(&self.words).enumerate().all(is_match))
            .map(|(index, _)| index)
            .collect()
    }
}

fn in_scope(query: &SearchQuery, session: &Session) -> bool {
    matches(&query.sessions, session)
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
    let matches: Vec<Vec<usize>> = terms.iter().map(|term| term.matches(&text_words)).collect();
    let found = matches.iter().filter(|matches| !matches.is_empty()).count();
    if found == 0 || (found < terms.len() && !query.any_word) {
        return None;
    }
    let marked = terms
        .iter()
        .zip(&matches)
        .flat_map(|(term, matches)| matches.iter().map(|first| *first..*first + term.words.len()));
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
        score: score(&matches, text_words.len()),
    })
}

/// Grows with the number of matches of each term, and falls with the length of the text.
#[allow(clippy::cast_precision_loss, reason = "the numbers are far below 2^52")]
fn score(matches: &[Vec<usize>], length: usize) -> f64 {
    let dampening = 1.0 + length as f64 / 100.0;
    matches.iter().map(|matches| matches.len() as f64 / (matches.len() as f64 + dampening)).sum()
}

/// Returns the words around the first match. Each match is enclosed in marks.
fn snippet(text: &str, words: &[Word], marked: impl Iterator<Item = Range<usize>>) -> String {
    let mut is_marked = vec![false; words.len()];
    for range in marked {
        is_marked.iter_mut().take(range.end).skip(range.start).for_each(|marked| *marked = true);
    }
    let first = is_marked.iter().position(|marked| *marked).unwrap_or(0);
    let from = first.saturating_sub(SNIPPET_WORDS_BEFORE);
    let to = (first + SNIPPET_WORDS_FROM).min(words.len());

    let mut snippet = String::new();
    if from > 0 {
        snippet.push('…');
    }
    let mut written = None;
    for (word, marked) in words.iter().zip(&is_marked).take(to).skip(from) {
        let between = text.get(written.unwrap_or(word.start)..word.start).unwrap_or_default();
        let original = text.get(word.start..word.end).unwrap_or_default();
        snippet.push_str(between);
        if *marked {
            snippet.extend([SearchHit::MARK_START]);
            snippet.push_str(original);
            snippet.extend([SearchHit::MARK_END]);
        } else {
            snippet.push_str(original);
        }
        written = Some(word.end);
    }
    if to < words.len() {
        snippet.push('…');
    }
    snippet
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    /// In lower case and without diacritics.
    folded: String,
    /// Start and end in the text, in bytes.
    start: usize,
    end: usize,
}

fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut inside = false;
    for (start, c) in text.char_indices() {
        let continues = inside && is_combining_mark(c);
        if !c.is_alphanumeric() && !continues {
            inside = false;
            continue;
        }
        if !inside {
            words.push(Word { folded: String::new(), start, end: start });
            inside = true;
        }
        if let Some(word) = words.last_mut() {
            word.end = start + c.len_utf8();
            fold(c, &mut word.folded);
        }
    }
    words
}

/// Appends `c` in lower case and without diacritics.
fn fold(c: char, folded: &mut String) {
    for lower in c.to_lowercase() {
        let mut base = None;
        let mut only_diacritics = true;
        decompose_canonical(lower, |part| {
            if base.is_none() {
                base = Some(part);
            } else {
                only_diacritics &= is_diacritic(part);
            }
        });
        // A character whose parts are not all diacritics, such as a Hangul syllable, is kept whole.
        let c = base.filter(|_| only_diacritics).unwrap_or(lower);
        if !is_diacritic(c) {
            folded.push(c);
        }
    }
}

const fn is_diacritic(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found = words(text);
        let folded: Vec<&str> = found.iter().map(|word| word.folded.as_str()).collect();
        assert_eq!(folded, expected);
        assert!(found.iter().all(|word| text.get(word.start..word.end).is_some_and(|word| !word.is_empty())));
    }

    #[test]
    fn words_are_folded_runs_of_letters_and_digits() {
        check("Hello, wide-open World2!", &["hello", "wide", "open", "world2"]);
        check("Été ETE e\u{301}te\u{301}", &["ete", "ete", "ete"]);
        check("Việt Straße İ", &["viet", "straße", "i"]);
        check("한국어 日本語 🦀", &["한국어", "日本語"]);
        check("\u{301} a", &["a"]);
        check("", &[]);
    }
}
