//! Looking for words in everything that was ever said.

use crate::{BranchId, MessageId, Role, Seq, SessionId, Timestamp};

/// What to look for, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SearchQuery {
    /// Words that must all occur, `"quoted phrases"`, and `word*` for a beginning. Everything else in it is
    /// taken as words: no text is a syntax error.
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
