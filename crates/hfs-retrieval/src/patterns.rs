//! What the terms of a query match in a text.

use std::ops::Range;

use hfs_core::SearchTerm;

use crate::words::{self, Part, Word, WordKind};

/// Terms with more parts than this are not looked for inside identifiers.
const MAX_PARTS: usize = 12;

/// One way in which a term can match. A term matches where any of its patterns does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// These words follow each other. If `prefix` is set, the last one only needs to begin like that.
    Words {
        /// At least one word.
        words: Vec<String>,
        /// Whether the last word is a prefix.
        prefix: bool,
    },
    /// A word or part of an identifier that has this stem or equals it.
    Stem(String),
    /// These parts of one identifier, or of identifiers that are joined, follow each other.
    Parts {
        /// At least one part.
        parts: Vec<String>,
        /// Whether the last part is a prefix.
        prefix: bool,
    },
}

/// The patterns of a term; empty if it has no word.
///
/// A quoted term matches its words as they are. A word outside quotes also matches other forms of the same English
/// word, and identifiers that contain it; the beginning of a hash matches the whole hash.
#[must_use]
pub fn patterns(term: &SearchTerm) -> Vec<Pattern> {
    let text = term.phrase.as_str();
    let mut found = words::words(text);
    let parts = words::parts_of_term(text, &found);
    let mut prefix = term.prefix;
    let mut is_pair = false;
    if let Some(last) = found.last().filter(|last| last.kind == WordKind::Pair) {
        is_pair = true;
        // The query may end inside a run of the text, so the last character of its run is no word of its own, except as
        // the beginning of a pair.
        let end = last.range.end;
        let is_whole_run = found.iter().rev().nth(1).is_none_or(|before| before.range.end != end);
        prefix = is_whole_run;
        if !is_whole_run {
            found.pop();
        }
    }
    let single = match found.as_slice() {
        [] => return Vec::new(),
        [only] => Some(only.clone()),
        _ => None,
    };
    let is_hash = single.as_ref().is_some_and(|word| words::is_hash(&word.folded));
    let words: Vec<String> = found.into_iter().map(|word| word.folded).collect();
    let mut patterns = vec![Pattern::Words { words, prefix: prefix || (is_hash && !term.quoted) }];
    if term.quoted || is_pair {
        return patterns;
    }
    let original = single.as_ref().and_then(|word| text.get(word.range.clone()));
    let folded = single.as_ref().map(|word| word.folded.as_str());
    let stem = original.zip(folded).and_then(|(original, folded)| words::stem(original, folded));
    match stem {
        Some(stem) if !prefix => {
            if folded == Some(&*stem) {
                // The pattern of the stem includes the word itself.
                patterns.clear();
            }
            patterns.push(Pattern::Stem(stem.into_owned()));
        }
        _ if parts.len() <= MAX_PARTS => patterns.push(Pattern::Parts { parts, prefix }),
        _ => {}
    }
    patterns
}

/// The patterns of each different term of a query. Terms without a word are left out.
#[must_use]
pub fn patterns_of(terms: &[SearchTerm]) -> Vec<Vec<Pattern>> {
    let mut all: Vec<Vec<Pattern>> = Vec::new();
    for term in terms.iter().map(patterns).filter(|term| !term.is_empty()) {
        if !all.contains(&term) {
            all.push(term);
        }
    }
    all
}

/// A text with its words and the parts of its identifiers.
#[derive(Debug)]
pub struct AnalyzedText<'t> {
    text: &'t str,
    words: Vec<Word>,
    runs: Vec<Vec<Part>>,
}

impl<'t> AnalyzedText<'t> {
    /// Analyzes a text.
    #[must_use]
    pub fn new(text: &'t str) -> Self {
        let words = words::words(text);
        let runs = words::identifier_runs(text, &words);
        Self { text, words, runs }
    }

    /// The text.
    #[must_use]
    pub const fn text(&self) -> &'t str {
        self.text
    }

    /// Its words.
    #[must_use]
    pub fn words(&self) -> &[Word] {
        &self.words
    }

    /// The parts of its identifiers.
    #[must_use]
    pub fn runs(&self) -> &[Vec<Part>] {
        &self.runs
    }

    /// The part of the text that a word covers, as it was written.
    #[must_use]
    pub fn original(&self, word: &Word) -> &'t str {
        self.text.get(word.range.clone()).unwrap_or_default()
    }

    /// Where any of the patterns matches: ranges of indices of words, in ascending order.
    #[must_use]
    pub fn find(&self, patterns: &[Pattern]) -> Vec<Range<usize>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        for pattern in patterns {
            match pattern {
                Pattern::Words { words, prefix } => {
                    found.extend(
                        starts(&self.words, |word| word.folded.as_str(), words, *prefix)
                            .map(|start| start..start + words.len()),
                    );
                }
                Pattern::Parts { parts, prefix } => {
                    for run in &self.runs {
                        found.extend(starts(run, |part| part.folded.as_str(), parts, *prefix).filter_map(
                            |start| Some(run.get(start)?.word..run.get(start + parts.len() - 1)?.word + 1),
                        ));
                    }
                }
                Pattern::Stem(wanted) => {
                    found.extend(
                        self.words
                            .iter()
                            .enumerate()
                            .filter(|(_, word)| self.has_stem(word, wanted))
                            .map(|(index, _)| index..index + 1),
                    );
                    found.extend(
                        self.runs
                            .iter()
                            .flatten()
                            .filter(|part| part.folded == *wanted || part.stem.as_ref() == Some(wanted))
                            .map(|part| part.word..part.word + 1),
                    );
                }
            }
        }
        found.sort_unstable_by_key(|range| (range.start, range.end));
        found.dedup();
        found
    }

    fn has_stem(&self, word: &Word, wanted: &str) -> bool {
        // Only the end of a word changes, so most words need not be stemmed.
        word.folded == wanted
            || (word.folded.as_bytes().first() == wanted.as_bytes().first()
                && words::stem(self.original(word), &word.folded).is_some_and(|stem| stem == wanted))
    }
}

/// Where the wanted texts follow each other.
fn starts<'a, T>(
    items: &'a [T],
    text: impl Fn(&'a T) -> &'a str + 'a,
    wanted: &'a [String],
    prefix: bool,
) -> impl Iterator<Item = usize> + 'a {
    items.windows(wanted.len().max(1)).enumerate().filter_map(move |(start, window)| {
        let is_match = window.iter().zip(wanted).enumerate().all(|(index, (item, wanted))| {
            if prefix && index + 1 == window.len() {
                text(item).starts_with(wanted.as_str())
            } else {
                text(item) == wanted
            }
        });
        is_match.then_some(start)
    })
}

#[cfg(test)]
mod tests {
    use hfs_core::SearchQuery;

    use super::*;

    fn matches(query: &str, text: &str) -> bool {
        let analyzed = AnalyzedText::new(text);
        let terms = SearchQuery::new(query).terms();
        !terms.is_empty() && terms.iter().all(|term| !analyzed.find(&patterns(term)).is_empty())
    }

    #[test]
    fn words_outside_quotes_match_other_forms() {
        assert!(matches("connecting", "the Connections"));
        assert!(matches("connections", "connect"));
        assert!(!matches("\"connecting\"", "the Connections"));
        assert!(!matches("connectin*", "the Connections"));
        assert!(!matches("check", "checkpoint"));
    }

    #[test]
    fn parts_of_identifiers_are_found() {
        assert!(matches("ServerError", "an HTTPServerError occurred"));
        assert!(matches("servererrors", "the ServerErrors"));
        assert!(matches("errors", "an HTTPServerError occurred"));
        assert!(matches("servers", "call getServers") && matches("server", "call getServers"));
        assert!(matches("Server*", "an HTTPServerError occurred"));
        assert!(matches("1.2.3", "released as v1.2.3"));
        assert!(matches("v1.2", "released as v1.2.3"));
        assert!(!matches("2.4", "released as v1.2.3"));
        assert!(!matches("\"ServerError\"", "an HTTPServerError occurred"));
        assert!(!matches("ServerError", "HTTPServer ErrorPage"));
    }

    #[test]
    fn the_beginning_of_a_hash_matches_the_hash() {
        let text = "commit 3fa98ad2b1c07f5e0d9a6b4c8e1f2a3b4c5d6e7f";
        assert!(matches("3fa98ad", text));
        assert!(!matches("3fa98", text));
        assert!(!matches("\"3fa98ad\"", text));
    }

    #[test]
    fn any_part_of_a_text_without_spaces_is_found() {
        for query in ["日本語", "本語", "語", "語で", "日本語で書", "\"本語で\""] {
            assert!(matches(query, "これは日本語で書かれた"), "{query}");
        }
        assert!(!matches("日語", "これは日本語で書かれた"));
        assert!(matches("ประเทศ", "ประเทศไทย") && matches("ไทย", "ประเทศไทย"));
        assert!(matches("한국", "한국어를") && matches("국어", "한국어를"));
        assert!(matches("iPhone手机", "新iPhone手机壳"));
    }
}
