//! Full-text search over all messages.

use crate::{BranchId, Message, MessageId, Role, Seq, SessionFilter, SessionId, Timestamp};

/// A search over messages.
///
/// ```
/// use hfs_core::SearchQuery;
///
/// let query = SearchQuery::new("\"connection refused\" retry*").with_limit(20);
/// assert_eq!(query.terms().len(), 2);
/// ```
///
/// Fields may be added; construct it with [`new`](Self::new) or with `..SearchQuery::default()`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SearchQuery {
    /// Words that must all occur, `"quoted phrases"`, and `word*` for a prefix. All other characters are literal, so
    /// every text is a valid query. See [`terms`](Self::terms).
    pub text: String,
    /// Search only the sessions that this filter selects: by default all that are not in the trash.
    pub sessions: SessionFilter,
    /// Search only this session.
    pub session: Option<SessionId>,
    /// Search only messages of this role.
    pub role: Option<Role>,
    /// Search only messages with this time or later.
    pub since: Option<Timestamp>,
    /// Maximum number of hits.
    pub limit: u32,
}

impl SearchQuery {
    /// Searches all sessions for `text`. The limit is 0 until it is set.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Sets the maximum number of hits.
    #[must_use]
    pub const fn with_limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }
}

/// A term of a query: a word or a phrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchTerm {
    /// The words as typed, without quotes. Contains at least one letter or digit.
    pub phrase: String,
    /// Whether the last word is a prefix.
    pub prefix: bool,
    /// Whether it was quoted, so that it matches its words as they are and not other forms of them.
    pub quoted: bool,
}

impl SearchQuery {
    /// Splits [`text`](Self::text) into terms. A quoted text is one term; a missing closing quote is assumed at the
    /// end. Outside of quotes, each word separated by white space is a term, and a prefix if it ends in `*`. Terms
    /// without a letter or digit are dropped; a query without terms finds nothing.
    ///
    /// A term with several words (`"red fox"`, `src/main.rs`) matches where the words follow each other. Quoted words
    /// match as they are. Outside of quotes, a word also matches other forms of an English word (`connect`,
    /// `connections`), and an identifier or version that contains it (`ServerError` in `HTTPServerError`). In scripts
    /// without spaces, a term matches anywhere inside the text.
    #[must_use]
    pub fn terms(&self) -> Vec<SearchTerm> {
        let mut terms = Vec::new();
        let mut add = |phrase: &str, prefix: bool, quoted: bool| {
            if phrase.chars().any(char::is_alphanumeric) {
                terms.push(SearchTerm { phrase: phrase.replace('\0', " "), prefix, quoted });
            }
        };
        for (index, run) in self.text.split('"').enumerate() {
            if index % 2 == 1 {
                add(run, false, true);
                continue;
            }
            for word in run.split_whitespace() {
                let stem = word.trim_end_matches('*');
                add(stem, stem.len() < word.len(), false);
            }
        }
        terms
    }
}

/// A message that matches a search.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchHit {
    /// Session of the message.
    pub session: SessionId,
    /// Name of the session.
    pub session_name: String,
    /// Branch of the message.
    pub branch: BranchId,
    /// Name of the branch.
    pub branch_name: String,
    /// Message id.
    pub message: MessageId,
    /// Position in the branch.
    pub seq: Seq,
    /// Author.
    pub role: Role,
    /// Time of the message.
    pub created_at: Timestamp,
    /// Excerpt around the matches, each between [`SearchHit::MARK_START`] and [`SearchHit::MARK_END`].
    pub snippet: String,
    /// Relevance; higher is better. Comparable within one result only.
    pub score: f64,
}

impl SearchHit {
    /// Marks the start of a match in a snippet. A private-use character, since ordinary text does not contain any;
    /// front ends replace it.
    pub const MARK_START: char = '\u{E000}';
    /// Marks the end of a match in a snippet.
    pub const MARK_END: char = '\u{E001}';
}

/// Result of a search.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SearchResults {
    /// The best hits, best first.
    pub hits: Vec<SearchHit>,
    /// Number of all matching messages, including those beyond the limit.
    pub total: u64,
    /// Number of damaged messages among the best, which are left out of `hits`.
    pub unreadable: u64,
}

/// A search for messages that may answer a question. Their ranking is left to the caller.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CandidateQuery {
    /// The terms of the question. A candidate has at least one of them. A store that finds more candidates than it
    /// returns chooses among them by the first 32 terms.
    pub terms: Vec<SearchTerm>,
    /// Search only the sessions that this filter selects: by default all that are not in the trash.
    pub sessions: SessionFilter,
    /// Exclude this message.
    pub except: Option<MessageId>,
}

/// Messages that may answer a question, with the statistics that a ranking needs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Candidates {
    /// Number of messages that were searched.
    pub messages: u64,
    /// Number of sessions that were searched.
    pub sessions: u64,
    /// Number of words in all messages.
    pub words: u64,
    /// How frequent each term of the query is, in the same order.
    pub frequencies: Vec<TermFrequency>,
    /// The sessions with the best candidates, in no particular order.
    pub found: Vec<CandidateSession>,
    /// Number of damaged messages, which are left out.
    pub unreadable: u64,
}

/// How frequent a term is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TermFrequency {
    /// Number of messages with the term, or the smallest possible number if there are too many to count.
    pub messages: u64,
    /// Number of sessions with the term; the same holds for it.
    pub sessions: u64,
}

/// A session with candidates.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateSession {
    /// Session id.
    pub session: SessionId,
    /// Name of the session.
    pub name: String,
    /// Time of the session's beginning.
    pub created_at: Timestamp,
    /// Number of words in its messages.
    pub words: u64,
    /// Its best candidates, by branch and seq.
    pub messages: Vec<CandidateMessage>,
}

/// A message that may answer a question.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateMessage {
    /// Branch that stores the message.
    pub branch: BranchId,
    /// Name of the branch.
    pub branch_name: String,
    /// The message.
    pub message: Message,
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
    fn words_phrases_and_prefixes_are_distinguished() {
        check("red  fox", &[("red", false), ("fox", false)]);
        check("a \"red fox\" b*", &[("a", false), ("red fox", false), ("b", true)]);
        check("src/main.rs foo-ba*", &[("src/main.rs", false), ("foo-ba", true)]);
        check("say\"hello there\"now", &[("say", false), ("hello there", false), ("now", false)]);
        check("été*", &[("été", true)]);
    }

    #[test]
    fn every_text_is_a_valid_query() {
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
