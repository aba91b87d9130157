//! Looking for words in everything that was ever said.

use crate::{BranchId, MessageId, Role, Seq, SessionId, Timestamp};

/// What to look for, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SearchQuery {
    /// Words that must all occur, `"quoted phrases"`, and `word*` for a beginning. Everything else in it is
    /// taken as words: no text is a syntax error. See [`terms`](Self::terms).
    pub text: String,
    /// Any of the words is enough (better matches still come first).
    pub any_word: bool,
    /// Only in this session.
    pub session: Option<SessionId>,
    /// Not in this session.
    pub except_session: Option<SessionId>,
    /// Only what this role said.
    pub role: Option<Role>,
    /// Only what was said at or after this time.
    pub since: Option<Timestamp>,
    /// At most this many hits.
    pub limit: u32,
}

/// One thing to look for: a word, or several in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchTerm {
    /// The words as they were typed, with whatever stands between them but quotes; at least one letter or digit.
    pub phrase: String,
    /// Whether the last word is the beginning of one.
    pub prefix: bool,
}

impl SearchQuery {
    /// The terms of [`text`](Self::text), in order: what stands between two quotes (a missing one stands at the
    /// end), and elsewhere each stretch without white space, whose last word is a beginning where a `*` ends it.
    /// Stretches without a letter or a digit are left out; without terms, nothing is found.
    ///
    /// A term whose phrase has several words (`"red fox"`, `src/main.rs`) is found where they follow each other.
    #[must_use]
    pub fn terms(&self) -> Vec<SearchTerm> {
        let mut terms = Vec::new();
        let mut add = |phrase: &str, prefix: bool| {
            if phrase.chars().any(char::is_alphanumeric) {
                terms.push(SearchTerm { phrase: phrase.replace('\0', " "), prefix });
            }
        };
        for (index, stretch) in self.text.split('"').enumerate() {
            if index % 2 == 1 {
                add(stretch, false);
                continue;
            }
            for word in stretch.split_whitespace() {
                let stem = word.trim_end_matches('*');
                add(stem, stem.len() < word.len());
            }
        }
        terms
    }
}

/// A message in which the words occur.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchHit {
    /// Its session.
    pub session: SessionId,
    /// What that session is called.
    pub session_name: String,
    /// Its branch.
    pub branch: BranchId,
    /// What that branch is called.
    pub branch_name: String,
    /// The message.
    pub message: MessageId,
    /// Its place.
    pub seq: Seq,
    /// Who said it.
    pub role: Role,
    /// When.
    pub created_at: Timestamp,
    /// The words in their surroundings, each match between [`SearchHit::MARK_START`] and [`SearchHit::MARK_END`].
    pub snippet: String,
    /// How well it matches; higher is better, comparable within one result only.
    pub score: f64,
}

impl SearchHit {
    /// What stands before a match in a snippet (a private-use character, so that no text can fake it
    /// meaningfully; front ends replace it).
    pub const MARK_START: char = '\u{E000}';
    /// What stands behind a match in a snippet.
    pub const MARK_END: char = '\u{E001}';
}

/// The best hits, best first, and how many there are in all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SearchResults {
    /// The best hits.
    pub hits: Vec<SearchHit>,
    /// How many messages match, beyond those listed too.
    pub total: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, bool)]) {
        let terms = SearchQuery { text: text.into(), ..SearchQuery::default() }.terms();
        let terms: Vec<(&str, bool)> = terms.iter().map(|t| (t.phrase.as_str(), t.prefix)).collect();
        assert_eq!(terms, expected, "{text:?}");
    }

    #[test]
    fn words_phrases_and_beginnings_are_told_apart() {
        check("red  fox", &[("red", false), ("fox", false)]);
        check("a \"red fox\" b*", &[("a", false), ("red fox", false), ("b", true)]);
        check("src/main.rs foo-ba*", &[("src/main.rs", false), ("foo-ba", true)]);
        check("say\"hello there\"now", &[("say", false), ("hello there", false), ("now", false)]);
        check("été*", &[("été", true)]);
    }

    #[test]
    fn every_text_has_some_meaning() {
        check("", &[]);
        check("* \" ** \"\" - 🦀", &[]);
        check("\"red fox", &[("red fox", false)]);
        check(
            "a AND NEAR(b*) OR *c",
            &[("a", false), ("AND", false), ("NEAR(b*)", false), ("OR", false), ("*c", false)],
        );
        check("nul\0byte", &[("nul byte", false)]);
    }
}
